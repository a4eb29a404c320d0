//! Compressing segments that are no longer written: `<first>.seg` becomes `<first>.segz` (docs/formats.md, Record).
//!
//! Killed or cut off from power anywhere, the record is as it was: the new file gets its name only when it is whole and on
//! stable storage, and the old one goes only when that name is. Until then the plain one counts, and the next try begins
//! anew. What was compressed is decompressed again and compared before it is written.
#![forbid(unsafe_code)]

use crate::block::{self, BLOCK};
use crate::disk::{Disk, DiskError, read_full, write_all};
use crate::entry::LEN;
use crate::header::{Form, HEADER_LEN, Segment, offset_of, segments};
use std::io;

/// So much is written between two hints to begin writing it to the device.
const WRITE_BACK: u64 = 1 << 20;

/// Compresses all segments that are plain and whole, but not the last one, which is being written. Others must not do so at
/// the same time. `go_on` is asked before each block, with the seq of its first entry; when it says no, what was begun is left undone. Returns how many
/// segments were compressed.
///
/// # Errors
/// What the disk refused. The record is as it was; call again.
pub fn compress_sealed<D: Disk>(disk: &D, go_on: &dyn Fn(u64) -> bool) -> Result<u64, DiskError> {
    let names = disk.list().map_err(|e| DiskError::new(disk, "list", "", e))?;
    let segments = segments(&names);
    let mut done = 0;
    for pair in segments.windows(2) {
        if let [segment, next] = pair
            && segment.form == Form::Plain
            && go_on(segment.first)
        {
            done += u64::from(compress(disk, *segment, next.first, go_on)?);
        }
    }
    Ok(done)
}

/// Compresses the last segment too: for a record that nobody writes. Returns the size of all segments before and after, in
/// bytes.
///
/// # Errors
/// As [`compress_sealed`].
pub fn compress_all<D: Disk>(disk: &D, go_on: &dyn Fn(u64) -> bool) -> Result<(u64, u64), DiskError> {
    let (before, last) = size(disk)?;
    compress_sealed(disk, go_on)?;
    if let Some((last, len)) = last.filter(|(last, _)| last.form == Form::Plain) {
        let entries = len.saturating_sub(HEADER_LEN as u64) / LEN as u64;
        if entries > 0 {
            compress(disk, last, last.first.saturating_add(entries), go_on)?;
        }
    }
    Ok((before, size(disk)?.0))
}

/// Bytes of all segments that count, and the last one with its own.
fn size<D: Disk>(disk: &D) -> Result<(u64, Option<(Segment, u64)>), DiskError> {
    let names = disk.list().map_err(|e| DiskError::new(disk, "list", "", e))?;
    let (mut sum, mut last) = (0, None);
    for segment in segments(&names) {
        let len = disk.open(&segment.name()).and_then(|file| disk.len(&file));
        let len = len.map_err(|e| DiskError::new(disk, "measure", &segment.name(), e))?;
        sum += len;
        last = Some((segment, len));
    }
    Ok((sum, last))
}

/// Compresses one plain segment, whose last entry is `end - 1`. False: it does not end exactly there and is left alone, or
/// `go_on` said no.
///
/// # Errors
/// As [`compress_sealed`].
pub fn compress<D: Disk>(
    disk: &D,
    segment: Segment,
    end: u64,
    go_on: &dyn Fn(u64) -> bool,
) -> Result<bool, DiskError> {
    let fail = |doing| move |e| DiskError::new(disk, doing, &segment.name(), e);
    let from = disk.open(&segment.name()).map_err(fail("open"))?;
    if disk.len(&from).map_err(fail("measure"))? != offset_of(segment.first, end) {
        return Ok(false);
    }
    let compressed = Segment { form: Form::Compressed, ..segment };
    let new = compressed.new_name();
    remove(disk, &new)?;
    let to = disk.create(&new).map_err(|e| DiskError::new(disk, "make", &new, e))?;
    match write(disk, &from, segment.first..end, &to, go_on) {
        Ok(true) => {}
        Ok(false) => return remove(disk, &new).map(|()| false),
        Err((doing, e)) => {
            let _ = remove(disk, &new); // the disk may be full: give back what was taken
            return Err(fail(doing)(e));
        }
    }
    let fail = |doing| move |e| DiskError::new(disk, doing, &compressed.name(), e);
    disk.sync_data(&to).map_err(fail("sync"))?;
    disk.rename(&new, &compressed.name()).map_err(fail("make"))?;
    disk.sync_dir().map_err(fail("sync the directory of"))?;
    remove(disk, &segment.name())?;
    Ok(true)
}

/// Writes header and blocks; false: told not to go on. An error comes with the verb of its sentence.
fn write<D: Disk>(
    disk: &D,
    from: &D::File,
    seqs: std::ops::Range<u64>,
    to: &D::File,
    go_on: &dyn Fn(u64) -> bool,
) -> Result<bool, (&'static str, io::Error)> {
    let mut header = vec![0; HEADER_LEN];
    read_exact(disk, from, &mut header, 0).map_err(|e| ("read", e))?;
    let write = |bytes: &[u8], at| write_all(disk, to, bytes, at).map_err(|(_, e)| ("compress", e));
    write(&header, 0)?;
    let (mut at, mut written_back) = (HEADER_LEN as u64, 0);
    let (mut entries, mut check) = (Vec::new(), Vec::new());
    let mut next = seqs.start;
    while next < seqs.end {
        if !go_on(next) {
            return Ok(false);
        }
        entries.resize((seqs.end - next).min(BLOCK as u64) as usize * LEN, 0);
        read_exact(disk, from, &mut entries, offset_of(seqs.start, next)).map_err(|e| ("read", e))?;
        let block = block::encode(next, entries.as_chunks().0);
        check.clear();
        if block::decode(&block, &mut check).is_none() || check != entries {
            return Err((
                "compress",
                io::Error::other("its entries would not come back; this is a bug, report it"),
            ));
        }
        write(&block, at)?;
        at += block.len() as u64;
        next += (entries.len() / LEN) as u64;
        if at - written_back >= WRITE_BACK {
            disk.write_back(to, written_back, at - written_back);
            written_back = at;
        }
    }
    Ok(true)
}

fn read_exact<D: Disk>(disk: &D, file: &D::File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    let n = read_full(disk, file, bytes, offset)?;
    if n == bytes.len() { Ok(()) } else { Err(io::Error::other("it became shorter while it was read")) }
}

fn remove<D: Disk>(disk: &D, name: &str) -> Result<(), DiskError> {
    match disk.remove(name) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(DiskError::new(disk, "remove", name, e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::DirDisk;
    use crate::entry::Entry;
    use crate::header::offset_of;
    use crate::reader::RecordReader;
    use crate::record::{Record, Recovered, Settings};
    use std::fs;
    use std::path::Path;

    const SIZE: u64 = 10_000;
    const COUNT: u64 = 25_000;

    fn open(dir: &Path) -> (Record<DirDisk>, Recovered) {
        let settings = Settings { segment_entries: SIZE, channels: Vec::new() };
        Record::open(DirDisk::open(dir).unwrap(), settings, 42, || 9).unwrap()
    }

    fn entry(seq: u64) -> Entry {
        match seq {
            1 => Entry::epoch(1, 1, 5),
            2 => Entry::source(2, 1, 100, 77),
            3 => Entry::grid(3, 1, 0, 1_000_000),
            _ => Entry::sample(seq, 1, (seq - 4) * 1000, 0, (seq % 100) as i32),
        }
    }

    fn entries() -> Vec<u8> {
        (1..=COUNT).flat_map(|seq| entry(seq).to_bytes()).collect()
    }

    /// Three segments, the first two of them sealed.
    fn record() -> (tempfile::TempDir, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let (mut record, _) = open(dir.path());
        record.append(&entries()).unwrap();
        record.sync().unwrap();
        (dir, entries())
    }

    fn compressed(dir: &Path) -> u64 {
        compress_sealed(&DirDisk::open(dir).unwrap(), &|_| true).unwrap()
    }

    fn read_all(dir: &Path, at_once: usize) -> Vec<u8> {
        let mut reader = RecordReader::open(dir).unwrap();
        let (mut all, mut some) = (Vec::new(), Vec::new());
        while let 1.. = reader.read(1 + (all.len() / LEN) as u64, at_once, &mut some).unwrap() {
            all.extend_from_slice(&some);
        }
        all
    }

    fn name(first: u64, form: Form) -> String {
        Segment { first, form }.name()
    }

    fn names(dir: &Path) -> Vec<String> {
        let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = files.filter(|name| name.contains(".seg")).collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_compressed_reads_the_same() {
        let (dir, wanted) = record();
        assert_eq!((compressed(dir.path()), compressed(dir.path())), (2, 0));
        let last = 2 * SIZE + 1;
        let now = [(1, Form::Compressed), (SIZE + 1, Form::Compressed), (last, Form::Plain)];
        assert_eq!(names(dir.path()), now.map(|(first, form)| name(first, form)));
        for at_once in [usize::MAX, 8192, 5000, 4096, 777] {
            assert!(read_all(dir.path(), at_once) == wanted, "{at_once} at once");
        }
        let mut reader = RecordReader::open(dir.path()).unwrap();
        let mut one = Vec::new();
        for seq in [1, 2, 4096, 4097, SIZE, SIZE + 1, last - 1, last, COUNT] {
            assert_eq!((reader.read(seq, 1, &mut one).unwrap(), &one[..]), (1, &entry(seq).to_bytes()[..]));
        }
        assert_eq!(reader.headers().unwrap().iter().filter(|(_, header)| header.is_some()).count(), 3);
        let size = fs::metadata(dir.path().join(name(SIZE + 1, Form::Compressed))).unwrap().len();
        assert!(size < 4096 + 2 * SIZE, "{size} bytes");
    }

    #[test]
    fn recovery_takes_compressed_segments() {
        let (dir, wanted) = record();
        compressed(dir.path());
        // Without the mark it has to read them all.
        for mark in [true, false] {
            if !mark {
                fs::remove_file(dir.path().join("durable.mark")).unwrap();
            }
            let (record, recovered) = open(dir.path());
            assert_eq!((recovered.durable, recovered.rotten, record.epoch()), (COUNT, 0, 1));
            assert_eq!(record.position().unwrap().index, 100 + COUNT - 3);
        }
        assert!(read_all(dir.path(), usize::MAX) == wanted);
    }

    #[test]
    fn a_record_whose_last_segment_is_compressed_goes_on_behind_it() {
        let (dir, wanted) = record();
        let disk = DirDisk::open(dir.path()).unwrap();
        let (before, after) = compress_all(&disk, &|_| true).unwrap();
        assert_eq!(before, 3 * 4096 + COUNT * LEN as u64);
        assert!(after < before / 10 && names(dir.path()).iter().all(|name| name.ends_with(".segz")));
        for _ in 0..2 {
            let (record, recovered) = open(dir.path());
            assert_eq!((recovered.durable, recovered.epoch, record.end()), (COUNT, 1, COUNT));
        }
        let (mut record, _) = open(dir.path());
        record.append(&entry(COUNT + 1).to_bytes()).unwrap();
        record.sync().unwrap();
        assert!(read_all(dir.path(), usize::MAX) == [wanted, entry(COUNT + 1).to_bytes().to_vec()].concat());
    }

    #[test]
    fn what_is_not_whole_is_left_alone() {
        let (dir, _) = record();
        let first = dir.path().join(name(1, Form::Plain));
        fs::OpenOptions::new().write(true).open(&first).unwrap().set_len(offset_of(1, SIZE)).unwrap();
        assert_eq!(compressed(dir.path()), 1);
        assert!(first.exists());
        let disk = DirDisk::open(dir.path()).unwrap();
        fs::OpenOptions::new().write(true).open(&first).unwrap().set_len(offset_of(1, SIZE + 1)).unwrap();
        assert_eq!(compress_sealed(&disk, &|_| false).unwrap(), 0);
        let calls = std::cell::Cell::new(0);
        let twice = |_| calls.replace(calls.get() + 1) < 2;
        assert_eq!(compress_sealed(&disk, &twice).unwrap(), 0);
        assert_eq!(names(dir.path()).len(), 3, "{:?}", names(dir.path()));
    }

    #[test]
    fn a_reader_does_not_notice() {
        let (dir, wanted) = record();
        let mut reader = RecordReader::open(dir.path()).unwrap();
        let mut some = Vec::new();
        assert_eq!(reader.read(1, 100, &mut some).unwrap(), 100);
        compressed(dir.path());
        let n = reader.read(101, 200, &mut some).unwrap();
        assert_eq!((n, &some[..]), (200, &wanted[100 * LEN..300 * LEN]));
    }

    /// Damage anywhere: what is given is right or no whole entry, and of one damaged byte no more than a block is lost.
    #[test]
    fn damage_stays_in_its_block() {
        let (dir, wanted) = record();
        compressed(dir.path());
        let path = dir.path().join(name(1, Form::Compressed));
        let whole = fs::read(&path).unwrap();
        let mut rng = fastrand::Rng::with_seed(1);
        for round in 0..400 {
            let mut bytes = whole.clone();
            let hits = if round < 200 { 1 } else { rng.usize(2..200) };
            for _ in 0..hits {
                let at = rng.usize(HEADER_LEN..bytes.len());
                bytes[at] ^= rng.u8(1..);
            }
            if round % 10 == 9 {
                bytes.truncate(rng.usize(HEADER_LEN..bytes.len()));
            }
            fs::write(&path, bytes).unwrap();
            let read = read_all(dir.path(), usize::MAX);
            assert_eq!(read.len(), wanted.len());
            let (read, wanted) = (read.as_chunks::<LEN>().0, wanted.as_chunks::<LEN>().0);
            let lost = read.iter().zip(wanted).filter(|(read, wanted)| read != wanted).count();
            assert!(hits > 1 || (1..=BLOCK).contains(&lost) || round % 10 == 9, "{lost} lost by one byte");
            let is_zero = |b: &[u8; LEN]| b.iter().all(|byte| *byte == 0);
            assert!(read.iter().zip(wanted).all(|(read, wanted)| read == wanted || is_zero(read)));
            assert!(!Entry::from_bytes(&[0; LEN]).is_whole());
        }
    }
}
