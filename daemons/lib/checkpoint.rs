//! Checkpoints of stat: a [`Fold`] on disk, so that a restart need not replay the whole record.
//!
//! A checkpoint is only ever a short cut. It counts if it is whole and the record's entry `n` is the one it was made
//! after ([`Checkpoint::fits`]); otherwise the next older one, otherwise everything is folded again. Deleting
//! checkpoints is always safe.
#![forbid(unsafe_code)]

use crate::entry::Entry;
use crate::fields::{get_u32, get_u64, put};
use crate::fold::Fold;
use rustix::fs::OFlags;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

const MAGIC: &[u8; 8] = b"IPCPCKP1";
const LAYOUT: u32 = 2;
const HEAD_LEN: usize = 24;
const CRC_LEN: usize = 4;
/// Always the same name, so that what a crash left behind is overwritten.
const TEMP: &str = "checkpoint.new";
/// Largest file that is read, in bytes.
const LEN_MAX: u64 = 1 << 30;

/// The statistics after entry `fold.n` of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The record that was folded.
    pub log_id: u64,
    /// CRC field of its entry n, by which the entry is known again.
    pub crc: u32,
    /// The statistics.
    pub fold: Fold,
}

/// Why a checkpoint could not be written or read.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// The file system refused.
    #[error("cannot {action} {}: {source}; statistics go on, only the next start takes longer; check the directory's owner, mode and free space", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The bytes are no checkpoint.
    #[error("{} is not a whole checkpoint of layout 2 and is not used; it may be deleted", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

impl Checkpoint {
    /// A checkpoint of `fold`, whose last entry is `entry`.
    pub fn new(log_id: u64, entry: &Entry, fold: Fold) -> Checkpoint {
        Checkpoint { log_id, crc: entry.crc, fold }
    }

    /// Was it made after this entry of this record?
    pub fn fits(&self, log_id: u64, entry: &Entry) -> bool {
        self.log_id == log_id
            && self.fold.n == entry.seq
            && self.fold.epoch == entry.epoch
            && self.crc == entry.crc
            && entry.is_whole()
    }

    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let mut b = vec![0; HEAD_LEN];
        put(&mut b, 0, *MAGIC);
        put(&mut b, 8, LAYOUT.to_le_bytes());
        put(&mut b, 12, self.crc.to_le_bytes());
        put(&mut b, 16, self.log_id.to_le_bytes());
        b.extend(self.fold.to_bytes());
        b.extend(crc32c::crc32c(&b).to_le_bytes());
        b
    }

    /// The checkpoint in these bytes; `None` if they are not exactly what [`Checkpoint::encode`] makes of some fold.
    pub fn decode(bytes: &[u8]) -> Option<Checkpoint> {
        let (body, crc) = bytes.split_last_chunk::<CRC_LEN>()?;
        let (head, fold) = body.split_at_checked(HEAD_LEN)?;
        let known = head.starts_with(MAGIC) && get_u32(head, 8) == LAYOUT;
        if !known || crc32c::crc32c(body).to_le_bytes() != *crc {
            return None;
        }
        let fold = Fold::from_bytes(fold)?;
        Some(Checkpoint { log_id: get_u64(head, 16), crc: get_u32(head, 12), fold })
    }

    /// Writes it to `dir` as `<n, 20 digits>.ckpt`, durable when this returns, and keeps of the others only the newest
    /// one before it. (Those with a larger n belong to a record that is gone.)
    ///
    /// # Errors
    /// What the file system refused, as a sentence; the checkpoints that were there before are then still there.
    pub fn save(&self, dir: &Path) -> Result<(), CheckpointError> {
        let path = dir.join(format!("{:020}.ckpt", self.fold.n));
        let temp = dir.join(TEMP);
        write_durably(&temp, &self.encode()).map_err(refused("write the checkpoint", &temp))?;
        fs::rename(&temp, &path).map_err(refused("put in place the checkpoint", &path))?;
        File::open(dir).and_then(|d| d.sync_all()).map_err(refused("make durable the directory", dir))?;
        prune(dir, self.fold.n)
    }

    /// Reads one checkpoint.
    ///
    /// # Errors
    /// The file cannot be read, or is not a whole checkpoint.
    pub fn load(path: &Path) -> Result<Checkpoint, CheckpointError> {
        let bytes = read_bounded(path).map_err(refused("read the checkpoint", path))?;
        Checkpoint::decode(&bytes).ok_or_else(|| CheckpointError::Damaged { path: path.to_path_buf() })
    }
}

/// The checkpoints in `dir` as (n, path), newest first. A directory that does not exist has none.
///
/// # Errors
/// The directory cannot be read.
pub fn list(dir: &Path) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
    let names = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        found => found.and_then(|found| found.collect::<Result<Vec<_>, _>>()),
    };
    let names = names.map_err(refused("list the checkpoints in", dir))?;
    let mut found: Vec<(u64, PathBuf)> = names
        .iter()
        .map(|name| name.path())
        .filter_map(|path| Some((number(&path, ".ckpt")?, path)))
        .collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    Ok(found)
}

/// n of a file `<n, 20 digits><suffix>`; `None` for every other name.
fn number(path: &Path, suffix: &str) -> Option<u64> {
    let digits = path.file_name()?.to_str()?.strip_suffix(suffix)?;
    let all_digits = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| all_digits)
}

/// Removes all checkpoints but number `n` and the newest before it.
fn prune(dir: &Path, n: u64) -> Result<(), CheckpointError> {
    let others = list(dir)?.into_iter().filter(|(number, _)| *number != n);
    let (newer, older): (Vec<_>, Vec<_>) = others.partition(|(number, _)| *number > n);
    for (_, path) in newer.iter().chain(older.iter().skip(1)) {
        fs::remove_file(path).map_err(refused("remove the old checkpoint", path))?;
    }
    Ok(())
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let no_link = OFlags::NOFOLLOW.bits() as i32;
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o640)
        .custom_flags(no_link)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// At most one byte more than the largest checkpoint, whatever the file's size is.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let no_link = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(no_link).open(path)?;
    let mut bytes = Vec::new();
    file.take(LEN_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn refused<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> CheckpointError + 'a {
    move |source| CheckpointError::File { action, path: path.to_path_buf(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Reason;
    use crate::fields::{get, get_u16};

    fn checkpoint(samples: u64) -> Checkpoint {
        let mut fold = Fold::new();
        let mut last = Entry::epoch(1, 3, 5);
        fold.fold(&last).unwrap();
        fold.fold(&Entry::loss(2, 3, 7, Reason::Abandoned, 4)).unwrap();
        for i in 0..samples {
            last = Entry::sample(fold.n + 1, 3, 70, i as u16 % 32, i32::MAX - i as i32);
            fold.fold(&last).unwrap();
        }
        Checkpoint::new(0xfeed, &last, fold)
    }

    fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.truncate(bytes.len() - CRC_LEN);
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    #[test]
    fn what_goes_in_comes_out() {
        for samples in [0, 1, 2, 33] {
            let checkpoint = checkpoint(samples);
            assert_eq!(Checkpoint::decode(&checkpoint.encode()), Some(checkpoint));
        }
    }

    #[test]
    fn offsets_are_as_documented() {
        let b = checkpoint(1).encode();
        assert_eq!(b.len(), 24 + 248 + 96 + 4);
        assert_eq!((get_u32(&b, 8), get_u64(&b, 16)), (2, 0xfeed));
        assert_eq!(get_u32(&b, 12), Entry::sample(3, 3, 70, 0, i32::MAX).crc);
        let fold = &b[24..];
        assert_eq!((get_u64(fold, 0), get_u32(fold, 8), get_u32(fold, 12)), (3, 3, 1));
        assert_eq!([16, 24, 32, 40, 48, 56, 64].map(|at| get_u64(fold, at)), [0, 0, 0, 4, 0, 0, 70]);
        assert_eq!((get_u16(fold, 248), get_u64(fold, 256)), (0, 1));
        assert_eq!(i128::from_le_bytes(get(fold, 264)), i32::MAX as i128);
        assert_eq!(u128::from_le_bytes(get(fold, 280)), (i32::MAX as u128).pow(2));
        assert_eq!([296, 300, 304, 308].map(|at| get_u32(fold, at)), [i32::MAX as u32; 4]);
        assert_eq!(get_u64(fold, 312), 70);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let good = checkpoint(2).encode();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Checkpoint::decode(&bad), None, "bit {bit}");
        }
        for len in 0..good.len() {
            assert_eq!(Checkpoint::decode(&good[..len]), None, "length {len}");
            assert_eq!(Checkpoint::decode(&sealed(good[..len.max(4)].to_vec())), None, "length {len}");
        }
    }

    #[test]
    fn right_crcs_do_not_make_nonsense_true() {
        for (at, value) in [
            (0, 0),
            (8, 9),
            (24, 1),
            (36, 1),
            (36, 3),
            (96, 1),
            (128, 1),
            (272, 9),
            (280, 0),
            (288, 0),
            (360, 1),
        ] {
            let mut bytes = checkpoint(2).encode();
            put(&mut bytes, at, [value]);
            assert_eq!(Checkpoint::decode(&sealed(bytes)), None, "offset {at}");
        }
    }

    #[test]
    fn it_fits_only_its_own_entry() {
        let entry = Entry::sample(3, 3, 70, 0, i32::MAX);
        let checkpoint = checkpoint(1);
        assert!(checkpoint.fits(0xfeed, &entry));
        assert!(!checkpoint.fits(0xfeee, &entry));
        assert!(!checkpoint.fits(0xfeed, &Entry::sample(3, 3, 70, 0, 5)));
        assert!(!checkpoint.fits(0xfeed, &Entry { value: 5, ..entry }));
    }

    fn numbers(dir: &Path) -> Vec<u64> {
        list(dir).unwrap().into_iter().map(|(n, _)| n).collect()
    }

    #[test]
    fn the_newest_two_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(numbers(dir.path()), [0; 0]);
        for samples in [1, 5, 9] {
            checkpoint(samples).save(dir.path()).unwrap();
        }
        assert_eq!(numbers(dir.path()), [11, 7]);
        let (_, newest) = &list(dir.path()).unwrap()[0];
        assert_eq!(Checkpoint::load(newest).unwrap(), checkpoint(9));
        checkpoint(9).save(dir.path()).unwrap();
        assert_eq!(numbers(dir.path()), [11, 7]);
        // A new record begins at 1 again: its checkpoints must not lose against those of the old one.
        checkpoint(1).save(dir.path()).unwrap();
        assert_eq!(numbers(dir.path()), [3]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn other_names_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["7.ckpt", "00000000000000000007.ckpt.new", "+0000000000000000007.ckpt", "note"] {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        assert_eq!(numbers(dir.path()), [0; 0]);
        checkpoint(1).save(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 5);
    }

    #[test]
    fn errors_are_sentences() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("00000000000000000007.ckpt");
        assert!(Checkpoint::load(&path).unwrap_err().to_string().contains("cannot read the checkpoint"));
        fs::write(&path, "x").unwrap();
        assert!(Checkpoint::load(&path).unwrap_err().to_string().contains("is not a whole checkpoint"));
        assert!(list(Path::new("/nowhere")).unwrap().is_empty());
        assert!(list(&path).unwrap_err().to_string().contains("cannot list"));
        assert!(checkpoint(1).save(&path).unwrap_err().to_string().contains("cannot write"));
    }
}
