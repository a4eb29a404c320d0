//! What QEMU's `blklogwrites` recorded, in the format of the kernel's dm-log-writes, and the states in which a power cut may
//! leave a disk with a volatile cache.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;

/// A disk tears a write between two of these.
const SECTOR: usize = 512;

/// One request that the disk had said was done.
struct Request {
    /// Byte on the disk.
    at: usize,
    flags: u64,
    data: Vec<u8>,
}

/// All requests in the order in which they were done, on top of what the disk held before.
pub struct Writes {
    before: Vec<u8>,
    requests: Vec<Request>,
}

/// Which of the writes that no flush followed are on the disk.
#[derive(Clone, Copy)]
enum Fate {
    All,
    None,
    Some,
}

impl Writes {
    /// Reads them; `before` is the image as it was when the guest started.
    pub fn read(before: &Path, log: &Path) -> Writes {
        let log = fs::read(log).unwrap();
        let word = |at: usize| u64::from_le_bytes(log[at..at + 8].try_into().unwrap());
        assert_eq!(word(0), MAGIC, "the record of writes");
        let sector = word(24) as u32 as usize;
        let (mut requests, mut at) = (Vec::new(), sector);
        for _ in 0..word(16) {
            let (place, count, flags) = (word(at) as usize, word(at + 8) as usize, word(at + 16));
            at += sector;
            let len = if flags & DISCARD == 0 { count * sector } else { 0 };
            requests.push(Request { at: place * sector, flags, data: log[at..at + len].to_vec() });
            at += len;
        }
        Writes { before: fs::read(before).unwrap(), requests }
    }

    pub fn len(&self) -> u64 {
        self.requests.len() as u64
    }

    pub fn flushes(&self) -> usize {
        self.requests.iter().filter(|r| r.flags & FLUSH != 0).count()
    }

    /// Writes the state after a power cut behind the first `cut` requests into a file: what was flushed, and of the rest
    /// what the dice say.
    pub fn state(&self, cut: u64, rng: &mut fastrand::Rng, image: &Path) {
        let done = &self.requests[..cut as usize];
        let flushed = done.iter().rposition(|r| r.flags & FLUSH != 0).unwrap_or(0);
        let fate = [Fate::All, Fate::None, Fate::Some, Fate::Some][rng.usize(..4)];
        let mut disk = self.before.clone();
        for (i, request) in done.iter().enumerate() {
            let stays = i < flushed || request.flags & FUA != 0;
            let len = if stays { request.data.len() } else { fate.of(request, rng) };
            disk[request.at..request.at + len].copy_from_slice(&request.data[..len]);
        }
        write_sparse(&disk, image);
    }
}

impl Fate {
    /// So many bytes of a write that was not flushed are on the disk.
    fn of(self, request: &Request, rng: &mut fastrand::Rng) -> usize {
        let sectors = request.data.len() / SECTOR;
        match (self, rng.u8(..10)) {
            (Fate::All, _) | (Fate::Some, 0..4) => request.data.len(),
            (Fate::Some, 4..6) => rng.usize(..=sectors) * SECTOR,
            (Fate::None | Fate::Some, _) => 0,
        }
    }
}

/// A new file, so that no loop device has anything of another state in memory. Zeros take no time and no space.
fn write_sparse(disk: &[u8], image: &Path) {
    let _ = fs::remove_file(image);
    let file = File::create(image).unwrap();
    file.set_len(disk.len() as u64).unwrap();
    for (i, piece) in disk.chunks(1 << 14).enumerate() {
        if piece.iter().any(|byte| *byte != 0) {
            file.write_all_at(piece, (i << 14) as u64).unwrap();
        }
    }
}
