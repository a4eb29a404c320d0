//! Tests of the record on a real directory.
#![forbid(unsafe_code)]

use super::*;
use crate::disk::DirDisk;
use crate::reader::RecordReader;
use std::cell::Cell;
use std::fs::File;
use std::ops::RangeInclusive;
use std::path::Path;

fn settings(segment_entries: u64) -> Settings {
    let row =
        ChannelRow { name: "ecg".into(), unit: "mV".into(), scale: "0.005".into(), ..Default::default() };
    Settings { segment_entries, channels: vec![row] }
}

fn entries(range: RangeInclusive<u64>) -> Vec<u8> {
    let entry = |seq| match seq {
        1 => Entry::epoch(1, 1, 5),
        2 => Entry::source(2, 1, 100, 77),
        3 => Entry::grid(3, 1, 0, 0),
        _ => Entry::sample(seq, 1, seq * 10, 0, seq as i32),
    };
    range.flat_map(|seq| entry(seq).to_bytes()).collect()
}

const GRANT: Grant = Grant { nonce: 5, epoch: 1, base: 1 };

fn open(dir: &Path, size: u64) -> (Record<DirDisk>, Recovered) {
    let disk = DirDisk::open(dir).unwrap();
    Record::open(disk, settings(size), 42, || 9).unwrap()
}

fn read_all(reader: &mut RecordReader) -> Vec<u8> {
    let (mut all, mut some) = (Vec::new(), Vec::new());
    while let 1.. = reader.read(1 + (all.len() / LEN) as u64, 1000, &mut some).unwrap() {
        all.extend_from_slice(&some);
    }
    all
}

#[test]
fn what_is_appended_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut record, recovered) = open(dir.path(), 10);
    assert!(recovered.created);
    record.grant(GRANT).unwrap();
    record.append(&entries(1..=25)).unwrap();
    assert_eq!(record.sync().unwrap(), 25);
    record.append(&entries(26..=33)).unwrap();
    drop(record);

    let (record, recovered) = open(dir.path(), 10);
    assert_eq!((recovered.log_id, recovered.durable, recovered.epoch), (42, 33, 1));
    assert_eq!(recovered.source, Some(SourcePosition { seq: 2, id: 77, index: 130 }));
    assert_eq!((recovered.grant, recovered.created), (Some(GRANT), false));
    assert_eq!((record.end(), record.durable(), recovered.rewritten), (33, 33, 3));

    let mut reader = RecordReader::open(dir.path()).unwrap();
    assert_eq!(read_all(&mut reader), entries(1..=33));
    assert_eq!(reader.mark().unwrap().unwrap().durable.seq, 33);
    assert_eq!((reader.log_id(), reader.channels()), (42, &settings(1).channels[..]));
}

#[test]
fn a_reader_follows_a_record_that_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (mut record, _) = open(dir.path(), 10);
    let mut reader = RecordReader::open(dir.path()).unwrap();
    for n in 1..=40 {
        record.append(&entries(n..=n)).unwrap();
        assert_eq!(read_all(&mut reader), entries(1..=n));
    }
    // A segment that is set aside: what the reader has open is no longer the one that counts.
    record.sync().unwrap();
    let mut wrong = Vec::new();
    for seq in 41..=45 {
        wrong.extend_from_slice(&Entry::sample(seq, 1, 0, 0, -1).to_bytes());
    }
    record.append(&wrong).unwrap();
    assert_eq!(read_all(&mut reader).len(), 45 * LEN);
    record.suspect = Some(Trouble::Damaged);
    assert!(matches!(record.append(&entries(46..=46)), Err(AppendError::Suspect { durable: 40, .. })));
    record.set_aside().unwrap();
    record.append(&entries(41..=44)).unwrap();
    record.sync().unwrap();
    assert_eq!(read_all(&mut reader), entries(1..=44));
    drop(record);
    assert_eq!(open(dir.path(), 10).1.durable, 44);
}

#[test]
fn wrong_calls_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (mut record, _) = open(dir.path(), 10);
    assert!(matches!(record.append(&entries(2..=3)), Err(AppendError::Order { end: 0, found: 2 })));
    record.append(&entries(1..=5)).unwrap();
    assert!(record.grant(Grant { base: 5, epoch: 2, nonce: 1 }).is_err());
    assert!(record.grant(Grant { base: 6, epoch: 1, nonce: 1 }).is_err());
    assert_eq!((record.end(), record.current_grant()), (5, None));
}

#[test]
fn the_smallest_segment_holds_one_entry() {
    let dir = tempfile::tempdir().unwrap();
    let (mut record, _) = open(dir.path(), 0);
    record.append(&entries(1..=3)).unwrap();
    assert_eq!(RecordReader::open(dir.path()).unwrap().segments().len(), 3);
}

#[test]
fn other_channels_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), 10));
    let disk = DirDisk::open(dir.path()).unwrap();
    let other = Settings { segment_entries: 10, channels: Vec::new() };
    let error = Record::open(disk, other, 1, || 0).unwrap_err();
    assert!(matches!(&error, RecordError::Channels { .. }), "{error}");
}

/// A real directory whose calls fail as planned. It syncs nothing, which these tests do not need.
struct FaultDisk {
    inner: DirDisk,
    errno: i32,
    /// Calls that go through, then calls that fail; after them all is well.
    good: Cell<u64>,
    failing: Cell<u64>,
    write_at_most: usize,
}

impl FaultDisk {
    fn call<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if self.good.get() > 0 {
            self.good.set(self.good.get() - 1);
            work()
        } else if self.failing.get() > 0 {
            self.failing.set(self.failing.get() - 1);
            Err(io::Error::from_raw_os_error(self.errno))
        } else {
            work()
        }
    }
}

impl Disk for FaultDisk {
    type File = File;

    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }
    fn open(&self, name: &str) -> io::Result<File> {
        self.inner.open(name)
    }
    fn create(&self, name: &str) -> io::Result<File> {
        self.call(|| self.inner.create(name))
    }
    fn len(&self, file: &File) -> io::Result<u64> {
        self.inner.len(file)
    }
    fn read_at(&self, file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(file, buf, offset)
    }
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let n = bytes.len().min(self.write_at_most);
        self.call(|| self.inner.write_at(file, &bytes[..n], offset))
    }
    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        self.call(|| self.inner.set_len(file, len))
    }
    fn sync_data(&self, _: &File) -> io::Result<()> {
        self.call(|| Ok(()))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.call(|| self.inner.rename(from, to))
    }
    fn sync_dir(&self) -> io::Result<()> {
        self.call(|| Ok(()))
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.call(|| self.inner.remove(name))
    }
}

/// Does again what failed until it succeeds, as ipc-log does; returns the number of failures.
fn insist(
    record: &mut Record<FaultDisk>,
    mut step: impl FnMut(&mut Record<FaultDisk>) -> Result<(), AppendError>,
) -> u64 {
    let mut failures = 0;
    loop {
        let durable = record.durable();
        let stepped = !record.is_suspect();
        let done = if stepped { step(record) } else { record.set_aside() };
        assert!(record.durable() >= durable && record.end() >= record.durable());
        match done {
            Ok(()) if stepped => return failures,
            Ok(()) => {}
            Err(e) => {
                failures += 1;
                assert!(matches!(e, AppendError::Disk(_)), "{e}");
            }
        }
        assert!(failures < 1000, "it goes on for ever");
    }
}

/// Writes 40 entries, 7 at a time, in segments of 10, while call `good + 1` and those after it fail.
fn survive(errno: i32, good: u64, failing: u64, write_at_most: usize) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let inner = DirDisk::open(dir.path()).unwrap();
        let good = u64::MAX.into();
        let disk = FaultDisk { inner, errno, good, failing: failing.into(), write_at_most };
        Record::open(disk, settings(10), 42, || 9).unwrap()
    };
    let (mut record, _) = open();
    record.append(&entries(1..=3)).unwrap();
    record.sync().unwrap();
    record.disk.good.set(good);

    let mut failures = 0;
    for upto in (3..=40).step_by(7).chain([40]) {
        failures += insist(&mut record, |record| {
            record.append(&entries(record.end() + 1..=upto))?;
            record.sync().map(|_| ())
        });
    }
    assert_eq!((record.end(), record.durable()), (40, 40));
    assert_eq!(record.position(), Some(SourcePosition { seq: 2, id: 77, index: 137 }));
    drop(record);
    assert_eq!(read_all(&mut RecordReader::open(dir.path()).unwrap()), entries(1..=40));
    assert_eq!(open().1.durable, 40);
    failures
}

#[test]
fn nothing_is_lost_or_doubled_whatever_call_fails() {
    let (eio, nospc, rofs, again) = (5, 28, 30, 11);
    for errno in [eio, nospc, rofs, again] {
        for failing in [1, 2, 7] {
            let mut good = 0;
            while survive(errno, good, failing, usize::MAX) > 0 {
                good += 1;
            }
            assert!(good > 40, "only {good} calls were made to fail");
        }
    }
}

#[test]
fn nothing_is_lost_or_doubled_by_short_writes() {
    for write_at_most in [7, 37, 64, 1000] {
        assert_eq!(survive(28, u64::MAX, 0, write_at_most), 0);
        for good in (0..400).step_by(3) {
            survive(28, good, 2, write_at_most);
        }
    }
}
