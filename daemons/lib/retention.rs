//! Retention: the oldest segments are removed, and what they held is summed up first (summary.rs).
//!
//! Order: the summary with all that goes is durable, then files are removed, oldest first. Killed or cut off from power
//! anywhere, the record begins at or before the entry behind the summary; what is left in front of it goes the next time.
#![forbid(unsafe_code)]

use crate::disk::{Disk, DiskError, read_full};
use crate::header::{HEADER_LEN, Header, Segment, segments};
use crate::segment_file::SegmentFile;
use crate::settings::Settings;
use crate::summary::{SUMMARY, Summary};
use std::io;
use std::time::Duration;

/// Entries that are summed up at a time: 1 MiB.
const CHUNK: usize = 32_768;

/// What of the record is kept. The segment that is written always is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// The size of all segments together, bytes.
    pub size: Option<u64>,
    /// How long a segment is kept after its last entry.
    pub time: Option<Duration>,
}

/// What of which record is to be removed, and when.
pub struct Retention<'a, D> {
    /// Where the record is.
    pub disk: &'a D,
    /// Which one it is.
    pub log_id: u64,
    /// What is kept of it.
    pub keep: Keep,
    /// The summary holds what these settings of the statistics ask for.
    pub settings: &'a Settings,
    /// Wall clock, ns since 1970.
    pub now_ns: u64,
}

impl<D: Disk> Retention<'_, D> {
    /// Removes the oldest segments that are not to be kept. Others must not do so at the same time. The summary is made
    /// durable after each segment, so that a stop loses no more than the work on one. Returns the summary if there was
    /// anything to remove.
    ///
    /// # Errors
    /// What the disk refused. The record is as it was, or begins later; call again.
    pub fn remove_oldest(&self) -> Result<Option<Summary>, DiskError> {
        let mut last = None;
        while let Some(summary) = self.remove_next()? {
            last = Some(summary);
        }
        Ok(last)
    }

    /// Sums up and removes one segment, and what is left of those that were summed up before.
    fn remove_next(&self) -> Result<Option<Summary>, DiskError> {
        let Retention { disk, log_id, settings, .. } = *self;
        let names = disk.list().map_err(|e| DiskError::new(disk, "list", "", e))?;
        let segments = segments(&names);
        let summary = Summary::read(disk)?.filter(|summary| summary.log_id == log_id);
        let mut summary =
            summary.map_or_else(|| Summary::new(log_id, settings), |summary| summary.go_on_with(settings));
        // What a crash has left of those that were removed before goes too.
        let left =
            segments.windows(2).take_while(|pair| pair.iter().all(|s| s.first <= summary.n() + 1)).count();
        let kept = self.first_kept(&segments)?.clamp(left, left + 1);
        let Some(going) = segments.get(..kept).filter(|going| !going.is_empty()) else {
            return Ok(None);
        };
        let first = segments.get(kept).map_or(1, |segment| segment.first);
        if summary.n() + 1 < first {
            sum_up(disk, &segments, first, &mut summary)?;
            summary.write(disk)?;
        } else {
            // It may have been put in place without reaching the disk.
            disk.sync_dir().map_err(|e| DiskError::new(disk, "sync the directory of", SUMMARY, e))?;
        }
        // Also what does not count: a `.bad` one, or one that was compressed and not yet removed.
        let mut gone: Vec<Segment> = names.iter().filter_map(|name| Segment::from_name(name)).collect();
        gone.retain(|segment| segment.first < first);
        gone.sort_unstable();
        debug_assert!(gone.len() >= going.len());
        for segment in gone {
            match disk.remove(&segment.name()) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(DiskError::new(disk, "remove", &segment.name(), e));
                }
                _ => {}
            }
        }
        Ok(Some(summary))
    }

    /// The index of the first segment that stays.
    fn first_kept(&self, segments: &[Segment]) -> Result<usize, DiskError> {
        let Retention { disk, keep, .. } = *self;
        let mut sizes = Vec::new();
        for segment in segments {
            let len = disk.open(&segment.name()).and_then(|file| disk.len(&file));
            sizes.push(len.map_err(|e| DiskError::new(disk, "measure", &segment.name(), e))?);
        }
        let mut total: u64 = sizes.iter().sum();
        let mut kept = 0;
        for (pair, size) in segments.windows(2).zip(sizes) {
            let [_, next] = pair else { break };
            let too_many = keep.size.is_some_and(|most| total > most);
            if !too_many && !self.is_too_old(*next)? {
                break;
            }
            total -= size;
            kept += 1;
        }
        Ok(kept)
    }

    /// Is everything before this segment too old? It was made when the last entry before it had been written.
    fn is_too_old(&self, next: Segment) -> Result<bool, DiskError> {
        let Retention { disk, now_ns, .. } = *self;
        let Some(time) = self.keep.time else { return Ok(false) };
        let fail = |e| DiskError::new(disk, "read", &next.name(), e);
        let file = disk.open(&next.name()).map_err(fail)?;
        let mut b = vec![0; HEADER_LEN];
        read_full(disk, &file, &mut b, 0).map_err(fail)?;
        let created_ns = Header::decode(&b).map_or(now_ns, |header| header.created_ns);
        Ok(now_ns.saturating_sub(created_ns) as u128 > time.as_nanos())
    }
}

/// Goes on with the summary up to the entry before `first`.
fn sum_up<D: Disk>(
    disk: &D,
    segments: &[Segment],
    first: u64,
    summary: &mut Summary,
) -> Result<(), DiskError> {
    let mut entries = Vec::new();
    while summary.n() + 1 < first {
        let next = summary.n() + 1;
        let after = segments.partition_point(|segment| segment.first <= next);
        let segment =
            after.checked_sub(1).and_then(|i| segments.get(i)).copied().unwrap_or(Segment::plain(next));
        let end = segments.get(after).map(|segment| segment.first);
        let fail = |doing| move |e| DiskError::new(disk, doing, &segment.name(), e);
        let file = SegmentFile::open(disk, segment).map_err(fail("sum up"))?;
        let mut read = 0;
        while end.is_some_and(|end| summary.n() + 1 < end) {
            let n = file.read(disk, summary.n() + 1, end, CHUNK, &mut entries)?;
            if n == 0 {
                break;
            }
            summary.take_bytes(&entries);
            read += n;
        }
        if read == 0 {
            let missing = io::Error::other(format!("it does not hold entry {next}"));
            return Err(fail("sum up")(missing));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Audit;
    use crate::compress::compress_sealed;
    use crate::disk::DirDisk;
    use crate::entry::{Entry, LEN, Reason};
    use crate::fold::Fold;
    use crate::reader::RecordReader;
    use crate::record::{self, Record, RecordError};
    use std::fs;
    use std::path::Path;

    const SIZE: u64 = 50;
    const COUNT: u64 = 330;

    fn open(dir: &Path) -> Result<Record<DirDisk>, RecordError> {
        let settings = record::Settings { segment_entries: SIZE, channels: Vec::new() };
        Ok(Record::open(DirDisk::open(dir).unwrap(), settings, 42, || 1000)?.0)
    }

    /// Two epochs on grids, with losses on the way: entry 50 is one.
    fn entry(seq: u64) -> Entry {
        let epoch = if seq < 200 { 1 } else { 2 };
        let since = if seq < 200 { seq - 1 } else { seq - 200 };
        let t_ns = (since - since.min(3)) * 1000;
        match since {
            0 => Entry::epoch(seq, epoch, 1_000_000_007),
            1 => Entry::source(seq, epoch, 100, 77),
            2 => Entry::grid(seq, epoch, 0, 1_000_000),
            n if n % 7 == 0 => Entry::loss(seq, epoch, t_ns, Reason::Missed, 1),
            _ => Entry::sample(seq, epoch, t_ns, 0, (seq % 100) as i32),
        }
    }

    fn record() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let mut record = open(dir.path()).unwrap();
        let entries: Vec<u8> = (1..=COUNT).flat_map(|seq| entry(seq).to_bytes()).collect();
        record.append(&entries).unwrap();
        record.sync().unwrap();
        dir
    }

    fn remove_at(dir: &Path, keep: Keep, now_ns: u64) -> Option<Summary> {
        let disk = &DirDisk::open(dir).unwrap();
        Retention { disk, log_id: 42, keep, settings: &Settings::default(), now_ns }.remove_oldest().unwrap()
    }

    fn remove(dir: &Path, size: u64) -> Option<Summary> {
        remove_at(dir, Keep { size: Some(size), time: None }, 0)
    }

    fn folded(n: u64) -> (Fold, Audit) {
        let (mut fold, mut audit) = (Fold::new(), Audit::new());
        for seq in 1..=n {
            fold.fold(&entry(seq)).unwrap();
            audit.take(&entry(seq));
        }
        (fold, audit)
    }

    const SEGMENT: u64 = 4096 + SIZE * LEN as u64;

    #[test]
    fn what_was_removed_stays_in_the_summary() {
        let dir = record();
        compress_sealed(&DirDisk::open(dir.path()).unwrap(), &|_| false).unwrap();
        assert!(remove(dir.path(), 7 * SEGMENT).is_none());
        for (size, n) in [(6 * SEGMENT, 50), (4 * SEGMENT, 150), (3 * SEGMENT, 200), (0, 300)] {
            compress_sealed(&DirDisk::open(dir.path()).unwrap(), &|_| size == 0).unwrap();
            let summary = remove(dir.path(), size).unwrap();
            let (fold, audit) = folded(n);
            assert_eq!((summary.n(), &summary.fold), (n, &fold));
            let mut reader = RecordReader::open(dir.path()).unwrap();
            let read = reader.summary().unwrap().unwrap();
            assert_eq!((read.encode(), read.fold), (summary.encode(), fold));
            assert_eq!((read.audit.state(), read.audit.ticks), (audit.state(), audit.ticks));
            assert_eq!((read.entry, read.wall.zero_ns), (entry(n).to_bytes(), Some(1_000_000_007)));
            let mut one = Vec::new();
            assert!(reader.read(n, 1, &mut one).is_err());
            assert_eq!(reader.read(n + 1, 1, &mut one).unwrap(), 1);
            assert_eq!((reader.first(), &one[..]), (n + 1, &entry(n + 1).to_bytes()[..]));
        }
    }

    #[test]
    fn the_record_goes_on_behind_it_and_not_without_it() {
        let dir = record();
        let summary = remove(dir.path(), 3 * SEGMENT).unwrap();
        for mark in [true, false] {
            if !mark {
                fs::remove_file(dir.path().join("durable.mark")).unwrap();
            }
            let record = open(dir.path()).unwrap();
            assert_eq!((record.end(), record.epoch()), (COUNT, 2));
            let samples = (203..=COUNT).filter(|seq| entry(*seq).is_sample()).count() as u64;
            assert_eq!(record.position().unwrap().index, 100 + samples);
        }
        let path = dir.path().join(SUMMARY);
        let whole = fs::read(&path).unwrap();
        for damage in [0, 40, 140, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[damage] ^= 1;
            fs::write(&path, bytes).unwrap();
            assert!(matches!(open(dir.path()), Err(RecordError::Summary { .. })));
        }
        fs::write(&path, whole).unwrap();
        fs::remove_file(dir.path().join(Segment::plain(summary.n() + 1).name())).unwrap();
        assert!(matches!(open(dir.path()), Err(RecordError::Missing { seq, .. }) if seq == summary.n() + 1));
    }

    #[test]
    fn old_segments_go_when_their_last_entry_is_too_old() {
        let dir = record();
        let keep = Keep { size: None, time: Some(Duration::from_nanos(500)) };
        assert!(remove_at(dir.path(), keep, 1500).is_none());
        assert_eq!(remove_at(dir.path(), keep, 1501).unwrap().n(), 300);
        assert!(remove_at(dir.path(), keep, 1501).is_none());
    }

    #[test]
    fn what_a_kill_left_goes_the_next_time() {
        let dir = record();
        let kept = Segment::plain(1).name();
        fs::copy(dir.path().join(&kept), dir.path().join("copy")).unwrap();
        remove(dir.path(), 3 * SEGMENT).unwrap();
        fs::rename(dir.path().join("copy"), dir.path().join(&kept)).unwrap();
        fs::write(dir.path().join(kept.clone() + ".bad"), []).unwrap();
        assert!(open(dir.path()).is_ok());
        assert_eq!(remove(dir.path(), 3 * SEGMENT).map(|summary| summary.n()), Some(200));
        assert!(!dir.path().join(kept.clone() + ".bad").exists() && !dir.path().join(&kept).exists());
        assert_eq!(RecordReader::open(dir.path()).unwrap().first(), 201);
    }

    #[test]
    fn a_damaged_entry_counts_as_corrupt() {
        let dir = record();
        let path = dir.path().join(Segment::plain(51).name());
        let mut bytes = fs::read(&path).unwrap();
        bytes[4096 + 21 * LEN + 17] ^= 1;
        fs::write(&path, bytes).unwrap();
        let summary = remove(dir.path(), 3 * SEGMENT).unwrap();
        assert_eq!((summary.fold.n, summary.fold.losses.corrupt, summary.audit.faults), (200, 1, 1));
        assert!(summary.audit.is_partial());
        let read = RecordReader::open(dir.path()).unwrap().summary().unwrap().unwrap();
        assert!(read.audit.is_partial() && read.audit.faults == 1);
        assert_eq!(
            read.position.source,
            Some(crate::mark::SourcePosition { seq: 2, id: 77, index: 100 + 196 - 28 })
        );
    }
}
