//! The wall clock along a record: what the `t` of an entry means in time of day.
//!
//! A record may be read from anywhere; here is what the clock shows there (wall.rs says how it goes on).
#![forbid(unsafe_code)]

use crate::entry::{Entry, LEN};
use crate::reader::{MAX_READ, ReadError, RecordReader};
use crate::wall::WallClock;

/// The wall clock just before entry `seq`, by what stands before it in its epoch; where that was removed, by the summary.
///
/// # Errors
/// A file cannot be read; damage and missing entries are no errors.
pub fn wall_before(reader: &mut RecordReader, seq: u64) -> Result<WallClock, ReadError> {
    let (mut wall, mut next) = (WallClock::default(), begin_of_epoch(reader, seq)?);
    if let Some(summary) = reader.summary()?.filter(|summary| (next..=seq).contains(&(summary.n() + 1))) {
        (wall, next) = (summary.wall, summary.n() + 1);
    }
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
                take_markers(&mut wall, &chunk);
                next += count as u64;
            }
        }
    }
    Ok(wall)
}

/// The samples among these entries say nothing about the clock: they are not even checked.
fn take_markers(wall: &mut WallClock, bytes: &[u8]) {
    let (entries, _) = bytes.as_chunks::<LEN>();
    for entry in entries.iter().map(Entry::from_bytes).filter(|entry| !entry.is_sample()) {
        if let Some(kind) = entry.kind().filter(|_| entry.is_whole()) {
            wall.take(&entry, kind);
        }
    }
}

/// The first entry of a segment in which, or before which, no epoch but that of entry `seq - 1` has its EPOCH.
fn begin_of_epoch(reader: &RecordReader, seq: u64) -> Result<u64, ReadError> {
    let headers = reader.headers()?;
    let mut at = headers.partition_point(|(segment, _)| segment.first < seq).saturating_sub(1);
    let mut epoch = None;
    while let Some((_, header)) = headers.get(at).filter(|_| at > 0) {
        // A header tells the epoch of the entry before its segment; a damaged one tells nothing.
        let before = header.as_ref().map(|header| header.epoch);
        if before.is_some() && epoch.is_some() && before != epoch {
            break;
        }
        epoch = epoch.or(before);
        at -= 1;
    }
    Ok(headers.get(at).map_or(seq, |(segment, _)| segment.first))
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
        let mut timeline = WallClock::default();
        for entry in &entries {
            let before = wall_before(&mut reader, entry.seq).unwrap();
            // Which epoch it is tells the next entry.
            assert_eq!(before.zero_ns, timeline.zero_ns, "before {}", entry.seq);
            timeline.take(entry, entry.kind().unwrap());
        }
        assert_eq!(timeline.at(5), Some(2_000_000_000 - 7_000_000 + 5));
        // Not all of it is read for that: the first segments may be gone.
        for first in [1, 5] {
            std::fs::remove_file(dir.path().join(format!("{first:020}.seg"))).unwrap();
        }
        let mut reader = RecordReader::open(dir.path()).unwrap();
        assert_eq!(wall_before(&mut reader, 12).unwrap().zero_ns, None);
    }
}
