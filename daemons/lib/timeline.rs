//! The wall clock along a record: what the `t` of an entry means in time of day.
//!
//! It is the EPOCH's wall clock + t + the CLOCK steps before it in the epoch. Where the EPOCH itself is damaged or was
//! removed, the time of day is not known until the next one.
#![forbid(unsafe_code)]

use crate::entry::{Entry, Kind, LEN};
use crate::reader::{MAX_READ, ReadError, RecordReader};

/// The wall clock after some entry of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    epoch: u32,
    /// Wall clock of t = 0 with all steps so far, in ns since 1970.
    zero_ns: Option<i128>,
}

impl Timeline {
    /// Takes the next entry; it must be whole and of this kind.
    #[inline(always)]
    pub fn take(&mut self, entry: &Entry, kind: Kind) {
        if entry.epoch != self.epoch {
            *self = Timeline { epoch: entry.epoch, zero_ns: None };
        }
        match kind {
            Kind::Epoch => self.zero_ns = Some(entry.t_ns.into()),
            Kind::Clock => {
                let step_ns = i128::from(clock_step_ms(entry)) * 1_000_000;
                self.zero_ns = self.zero_ns.map(|zero| zero + step_ns);
            }
            _ => {}
        }
    }

    /// Wall clock in ns since 1970 of the instant t of this epoch; `None` if it is not known.
    #[inline(always)]
    pub fn wall_ns(&self, t_ns: u64) -> Option<i128> {
        self.zero_ns.map(|zero| zero + i128::from(t_ns))
    }

    /// The wall clock just before entry `seq`, by what stands before it in its epoch.
    ///
    /// # Errors
    /// A file cannot be read; damage and missing entries are no errors.
    pub fn before(reader: &mut RecordReader, seq: u64) -> Result<Timeline, ReadError> {
        let mut timeline = Timeline::default();
        let mut next = begin_of_epoch(reader, seq)?;
        let mut chunk = Vec::new();
        while next < seq {
            let most = usize::try_from(seq - next).unwrap_or(MAX_READ);
            match reader.read(next, most, &mut chunk) {
                Err(ReadError::Missing { .. }) | Ok(0) => {
                    let after = reader.segments().iter().map(|s| s.first).find(|first| *first > next);
                    next = after.unwrap_or(seq);
                }
                Err(e) => return Err(e),
                Ok(count) => {
                    timeline.take_markers(&chunk);
                    next += count as u64;
                }
            }
        }
        Ok(timeline)
    }

    /// The samples among these entries say nothing about the clock: they are not even checked.
    fn take_markers(&mut self, bytes: &[u8]) {
        let (entries, _) = bytes.as_chunks::<LEN>();
        for entry in entries.iter().map(Entry::from_bytes).filter(|entry| !entry.is_sample()) {
            if let Some(kind) = entry.kind().filter(|_| entry.is_whole()) {
                self.take(&entry, kind);
            }
        }
    }
}

/// The first entry of a segment in which, or before which, no epoch but that of entry `seq - 1` has its EPOCH.
fn begin_of_epoch(reader: &RecordReader, seq: u64) -> Result<u64, ReadError> {
    let segments = reader.segments();
    let mut at = segments.partition_point(|segment| segment.first < seq).saturating_sub(1);
    let mut epoch = None;
    while let Some(segment) = segments.get(at).filter(|_| at > 0) {
        // A header tells the epoch of the entry before its segment; a damaged one tells nothing.
        let before = reader.header(*segment)?.map(|header| header.epoch);
        if before.is_some() && epoch.is_some() && before != epoch {
            break;
        }
        epoch = epoch.or(before);
        at -= 1;
    }
    Ok(segments.get(at).map_or(seq, |segment| segment.first))
}

/// The step of a CLOCK in ms: 48 bits, two's complement.
fn clock_step_ms(entry: &Entry) -> i64 {
    (entry.wide_value() << 16) as i64 >> 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::Header;
    use std::path::Path;

    /// Segments of four entries each: two epochs, with a step in each of them.
    fn record(dir: &Path) -> Vec<Entry> {
        let mut entries = Vec::new();
        for (epoch, len) in [(1, 6u64), (2, 14)] {
            let first = entries.len() as u64 + 1;
            entries.push(Entry::epoch(first, epoch, u64::from(epoch) * 1_000_000_000));
            for seq in first + 1..first + len {
                entries.push(Entry::sample(seq, epoch, seq, 0, 5));
            }
            let clock = first as usize + 2;
            entries[clock] = Entry::clock(clock as u64 + 1, epoch, 0, -7);
        }
        let mut epoch = 0;
        for part in entries.chunks(4) {
            let (first_seq, channels) = (part[0].seq, Vec::new());
            let header = Header { log_id: 1, first_seq, epoch, created_ns: 0, channels };
            let bytes: Vec<u8> =
                header.encode().into_iter().chain(part.iter().flat_map(|e| e.to_bytes())).collect();
            std::fs::write(dir.join(format!("{first_seq:020}.seg")), bytes).unwrap();
            epoch = part[part.len() - 1].epoch;
        }
        entries
    }

    #[test]
    fn it_begins_anywhere_as_if_all_had_been_read() {
        let dir = tempfile::tempdir().unwrap();
        let entries = record(dir.path());
        let mut reader = RecordReader::open(dir.path()).unwrap();
        let mut timeline = Timeline::default();
        for entry in &entries {
            let before = Timeline::before(&mut reader, entry.seq).unwrap();
            // Which epoch it is tells the next entry.
            assert_eq!(before.zero_ns, timeline.zero_ns, "before {}", entry.seq);
            timeline.take(entry, entry.kind().unwrap());
        }
        assert_eq!(timeline.wall_ns(5), Some(2_000_000_000 - 7_000_000 + 5));
        // Not all of it is read for that: the first segments may be gone.
        for first in [1, 5] {
            std::fs::remove_file(dir.path().join(format!("{first:020}.seg"))).unwrap();
        }
        let mut reader = RecordReader::open(dir.path()).unwrap();
        assert_eq!(Timeline::before(&mut reader, 12).unwrap().zero_ns, None);
    }

    #[test]
    fn steps_go_both_ways() {
        assert_eq!(clock_step_ms(&Entry::clock(1, 1, 0, -3)), -3);
        assert_eq!(clock_step_ms(&Entry::clock(1, 1, 0, (1 << 47) - 1)), (1 << 47) - 1);
    }
}
