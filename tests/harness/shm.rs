//! Reading the segments from outside, by pread: no map, so a truncated file cannot hurt us.

use super::Role;
use crate::checker::{Alarms, More, Published, crc};
use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits() as i32;

/// Where an instance has its segments.
#[derive(Clone)]
pub struct Paths {
    prefix: String,
}

impl Paths {
    pub fn new(instance: &str) -> Paths {
        Paths { prefix: format!("/dev/shm/ipc-pipeline@{instance}") }
    }

    pub fn spool(&self) -> PathBuf {
        format!("{}.spool", self.prefix).into()
    }

    pub fn page(&self, role: Role) -> PathBuf {
        format!("{}.page.{}", self.prefix, role.name()).into()
    }

    pub fn snapshot(&self) -> PathBuf {
        format!("{}.snapshot", self.prefix).into()
    }

    /// Delete a name; it may be gone already.
    pub fn delete(path: &Path) {
        let _ = fs::remove_file(path);
    }
}

fn word(file: &File, at: u64) -> Option<u64> {
    let mut b = [0; 8];
    file.read_exact_at(&mut b, at).ok()?;
    Some(u64::from_le_bytes(b))
}

/// Open a segment whose first 64 bytes are whole.
fn open(path: &Path, magic: &[u8; 8]) -> Option<(File, [u8; 64])> {
    // Where a FIFO stands under the name, opening it must not wait for its other end.
    let file = File::options().read(true).custom_flags(NONBLOCK).open(path).ok()?;
    let mut h = [0; 64];
    file.read_exact_at(&mut h, 0).ok()?;
    let sealed = u32::from_le_bytes(h[60..].try_into().unwrap()) == crc(&h[..60]);
    (&h[..8] == magic && sealed).then_some((file, h))
}

/// Has the file still its name? A new one is renamed over it, so then it has not.
fn is_named(file: &File) -> bool {
    file.metadata().is_ok_and(|m| m.nlink() > 0)
}

/// The spool that stood under the name when it was opened.
pub struct Spool {
    file: File,
    pub capacity: u64,
    pub log_id: u64,
    pub epoch: u32,
    pub base: u64,
}

impl Spool {
    pub fn open(path: &Path) -> Option<Spool> {
        let (file, h) = open(path, b"IPCPSPL1")?;
        let at = |i: usize| u64::from_le_bytes(h[i..i + 8].try_into().unwrap());
        Some(Spool { file, capacity: at(24), log_id: at(32), epoch: at(40) as u32, base: at(48) })
    }

    pub fn head(&self) -> Option<u64> {
        word(&self.file, 128)
    }

    pub fn tail(&self) -> Option<u64> {
        word(&self.file, 256)
    }

    /// In use: under its name and not retired.
    pub fn is_current(&self) -> bool {
        is_named(&self.file) && word(&self.file, 384) == Some(0)
    }

    pub fn slot(&self, seq: u64) -> Option<[u8; 32]> {
        let mut raw = [0; 32];
        self.file.read_exact_at(&mut raw, 4096 + 32 * (seq % self.capacity)).ok()?;
        Some(raw)
    }
}

impl fmt::Display for Spool {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let retired = word(&self.file, 384);
        write!(f, "epoch {} base {} capacity {} ", self.epoch, self.base, self.capacity)?;
        write!(f, "tail {:?} head {:?} retired {retired:?}", self.tail(), self.head())
    }
}

/// The page that stood under the name when it was opened.
pub struct Page {
    file: File,
}

impl Page {
    pub fn open(path: &Path) -> Option<Page> {
        open(path, b"IPCPPAG1").map(|(file, _)| Page { file })
    }

    pub fn is_named(&self) -> bool {
        is_named(&self.file)
    }

    pub fn log_id(&self) -> Option<u64> {
        word(&self.file, 64)
    }

    pub fn epoch(&self) -> Option<u64> {
        word(&self.file, 72)
    }

    pub fn session(&self) -> Option<u64> {
        word(&self.file, 128)
    }

    pub fn received(&self) -> Option<u64> {
        word(&self.file, 256)
    }

    /// `durable`, if its complement agrees.
    pub fn durable(&self) -> Option<u64> {
        (0..100).find_map(|_| {
            let (durable, complement) = (word(&self.file, 384)?, word(&self.file, 392)?);
            (durable == !complement).then_some(durable)
        })
    }

    pub fn state(&self) -> Option<u64> {
        word(&self.file, 640)
    }

    pub fn counter(&self, i: u64) -> Option<u64> {
        word(&self.file, 1024 + 8 * i)
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (state, epoch, session) = (self.state(), self.epoch(), self.session());
        let [state, epoch, session] = [state, epoch, session].map(Option::unwrap_or_default);
        write!(f, "state {state} epoch {epoch} session {session:x} ")?;
        write!(f, "received {:?} durable {:?}", self.received().unwrap_or_default(), self.durable())
    }
}

/// One row of the snapshot register, with what tells where it comes from.
#[derive(Clone, Copy)]
pub struct SnapshotRow {
    pub row: Published,
    pub log_id: u64,
}

/// The rows of the present snapshot; empty if there is none or it changed while it was read.
pub fn snapshot_rows(path: &Path) -> Vec<SnapshotRow> {
    read_rows(path).unwrap_or_default()
}

fn read_rows(path: &Path) -> Option<Vec<SnapshotRow>> {
    let (file, _) = open(path, b"IPCPSNP1")?;
    let version = word(&file, 128).filter(|v| *v > 0)?;
    let mut b = vec![0; 81_920];
    file.read_exact_at(&mut b, 4096 + 81_920 * (version & 1)).ok()?;
    let rows = u16::from_le_bytes([b[22], b[23]]) as usize;
    (1..=160).contains(&rows).then_some(())?;
    b.as_chunks::<512>().0[..rows].iter().map(|r| row(r, version)).collect()
}

/// A row that is whole and of this version.
fn row(b: &[u8; 512], version: u64) -> Option<SnapshotRow> {
    let u64_at = |at: usize| u64::from_le_bytes(b[at..at + 8].try_into().unwrap());
    let u128_at = |at: usize| u128::from_le_bytes(b[at..at + 16].try_into().unwrap());
    let u32_at = |at: usize| u32::from_le_bytes(b[at..at + 4].try_into().unwrap());
    let whole = crc(&b[..508]) == u32_at(508) && u64_at(8) == version;
    whole.then(|| SnapshotRow {
        row: Published {
            n: u64_at(0),
            epoch: u32_at(16),
            channel: u16::from_le_bytes([b[20], b[21]]),
            count: u64_at(24),
            sum: u128_at(32) as i128,
            sum_squares: u128_at(48),
            min: u32_at(64) as i32,
            max: u32_at(68) as i32,
            first: u32_at(72) as i32,
            last: u32_at(76) as i32,
            t_ns: u64_at(80),
            missed: u64_at(88),
            full: u64_at(96),
            bad: u64_at(104),
            abandoned: u64_at(112),
            corrupt: u64_at(120),
            unread: u64_at(128),
            more: more(b),
        },
        log_id: u64_at(136),
    })
}

/// What a row says behind the totals.
fn more(b: &[u8; 512]) -> More {
    let u64_at = |at: usize| u64::from_le_bytes(b[at..at + 8].try_into().unwrap());
    let u32_at = |at: usize| u32::from_le_bytes(b[at..at + 4].try_into().unwrap());
    More {
        window: b[144],
        unit: b[145],
        percentiles: b[146],
        closed: b[147],
        known: b[148],
        has_ewma: b[149],
        size: u64_at(152),
        step: u64_at(160),
        from: u64_at(168),
        to: u64_at(176),
        asked: std::array::from_fn(|i| u32_at(184 + 4 * i)),
        codes: std::array::from_fn(|i| u32_at(216 + 4 * i) as i32),
        weight: u64_at(248),
        ewma: u64_at(256) as i64,
        change: u64_at(264) as i64,
        time_ns: u64_at(272),
        alarms: Alarms {
            on: b[280],
            changes: u64_at(288),
            seq: u64_at(296),
            limits: b[304..344].try_into().unwrap(),
        },
    }
}
