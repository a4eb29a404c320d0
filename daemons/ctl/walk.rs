//! Walking over a record from its first entry to its end, for all commands that read one.
//!
//! Up to the durable mark every entry counts, good or rotten. Above it, what a crash or a live ipc-log leaves is taken
//! as long as it is whole and in order, as ipc-log itself would on its next start; the rest is no part of the record.
#![forbid(unsafe_code)]

use ipc_pipeline::entry::{Entry, LEN};
use ipc_pipeline::reader::{ReadError, RecordReader};
use ipc_pipeline::summary::Summary;

/// So many entries are read at a time: 256 KiB, which fit the second-level cache while they are looked at.
const CHUNK: usize = 8192;
/// No spool is larger, so no more entries than this can stand above the mark. It also ends a walk over a live record.
const ABOVE_MARK_MAX: u64 = 1 << 26;

/// A step of the walk.
pub enum Step<'a> {
    /// The entries that stand next.
    Entries(&'a [u8]),
    /// The entries before this seq are missing.
    Gap(u64),
    /// The entries up to the summary's were removed on purpose; this is known of them.
    Summary(Box<Summary>),
    /// There are no more.
    End,
}

/// A walk over a record.
pub struct Walk {
    /// The record.
    pub reader: RecordReader,
    /// Highest durable entry by `durable.mark`; `None`: the mark is missing or damaged, and every entry counts.
    pub mark: Option<u64>,
    /// Seq of the entry that stands next.
    pub next: u64,
    /// What is known of the entries to come that are no part of the record any more, though their files may still be there.
    removed: Option<Box<Summary>>,
    /// How many entries above the mark may count.
    above_mark: u64,
    chunk: Vec<u8>,
}

impl Walk {
    /// A walk from entry 1 on.
    ///
    /// # Errors
    /// The mark cannot be read; its damage is no error.
    pub fn new(reader: RecordReader) -> Result<Walk, ReadError> {
        Walk::from(reader, 1)
    }

    /// A walk from entry `next` on.
    ///
    /// # Errors
    /// As [`Walk::new`].
    pub fn from(reader: RecordReader, next: u64) -> Result<Walk, ReadError> {
        let mark = reader.mark()?.map(|mark| mark.durable.seq);
        let removed = reader.summary()?.filter(|summary| summary.n() >= next).map(Box::new);
        Ok(Walk { reader, mark, next, removed, above_mark: ABOVE_MARK_MAX, chunk: Vec::new() })
    }

    /// A walk that keeps to what is durable, to go on when more is: what stands above the mark may be taken back.
    pub fn live(self) -> Walk {
        Walk { mark: Some(self.mark.unwrap_or(0)), above_mark: 0, ..self }
    }

    /// Looks at the mark again. True: there is more.
    ///
    /// # Errors
    /// The mark cannot be read.
    pub fn look(&mut self) -> Result<bool, ReadError> {
        self.mark = self.reader.mark()?.map(|mark| mark.durable.seq).or(self.mark);
        Ok(self.mark.is_some_and(|mark| mark >= self.next))
    }

    /// The next step; `pause` is a seq after which a chunk ends.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn step(&mut self, pause: Option<u64>) -> Result<Step<'_>, ReadError> {
        if let Some(summary) = self.removed.take() {
            self.next = summary.n() + 1;
            return Ok(Step::Summary(summary));
        }
        let pause = pause.filter(|pause| *pause >= self.next);
        let most = pause
            .map_or(CHUNK, |p| usize::try_from(p - self.next).unwrap_or(CHUNK).saturating_add(1).min(CHUNK));
        match self.reader.read(self.next, most, &mut self.chunk) {
            Err(ReadError::Missing { .. }) => return self.gap(),
            read => read?,
        };
        let count = self.sound();
        if count == 0 {
            return Ok(Step::End);
        }
        self.next += count as u64;
        Ok(Step::Entries(self.chunk.get(..count * LEN).unwrap_or_default()))
    }

    /// On to where the summary ends if entries were removed meanwhile, or to the next segment that has something.
    fn gap(&mut self) -> Result<Step<'_>, ReadError> {
        if let Some(summary) = self.reader.summary()?.filter(|summary| summary.n() >= self.next) {
            self.next = summary.n() + 1;
            return Ok(Step::Summary(Box::new(summary)));
        }
        let after =
            self.reader.segments().iter().map(|segment| segment.first).find(|first| *first > self.next);
        let Some(first) = after else { return Ok(Step::End) };
        self.next = first;
        Ok(Step::Gap(first))
    }

    /// How many entries of the chunk are part of the record.
    fn sound(&self) -> usize {
        let (entries, _) = self.chunk.as_chunks::<LEN>();
        let mark = self.mark.unwrap_or(u64::MAX);
        let below = usize::try_from(mark.saturating_add(1).saturating_sub(self.next)).unwrap_or(usize::MAX);
        let (below, above) = entries.split_at(below.min(entries.len()));
        let seqs = self.next + below.len() as u64..=mark.saturating_add(self.above_mark);
        let counts = |seq: u64, e: Entry| e.seq == seq && e.is_whole();
        let above = above.iter().zip(seqs).take_while(|(b, seq)| counts(*seq, Entry::from_bytes(b)));
        below.len() + above.count()
    }
}

#[cfg(test)]
pub mod testing {
    //! Records on disk for the tests of `verify` and `export`, written by the formats alone.

    use super::*;
    use ipc_pipeline::header::{ChannelRow, Header};
    use ipc_pipeline::mark::{Mark, Position};
    use std::fs;
    use std::path::Path;

    pub const LOG_ID: u64 = 0xabc;

    /// A segment with these entries and the next one's first seq.
    pub fn segment(dir: &Path, first_seq: u64, entries: &[Entry]) {
        let row = |decimals| ChannelRow { decimals, ..ChannelRow::default() };
        let header =
            Header { log_id: LOG_ID, first_seq, epoch: 1, created_ns: 0, channels: vec![row(0), row(4)] };
        let bytes = [header.encode(), entries.iter().flat_map(|e| e.to_bytes()).collect()].concat();
        fs::write(dir.join(format!("{first_seq:020}.seg")), bytes).unwrap();
    }

    pub fn mark(dir: &Path, durable: u64) {
        let position = Position { seq: durable, epoch: 1, source: None };
        let mark = Mark { counter: 1, log_id: LOG_ID, durable: position, grant: None };
        let mut bytes = vec![0; 4096 + 128];
        bytes[..128].copy_from_slice(&mark.encode());
        fs::write(dir.join("durable.mark"), bytes).unwrap();
    }

    /// 20 entries: an epoch on a grid of 1 ms, with two channels, losses and a step of the clock.
    pub fn entries() -> Vec<Entry> {
        let mut entries = vec![
            Entry::epoch(1, 1, 1_700_000_000_999_000_000),
            Entry::source(2, 1, 0, 7),
            Entry::grid(3, 1, 0, 1_000_000_000),
            Entry::sample(4, 1, 0, 0, i32::MIN),
            Entry::sample(5, 1, 0, 1, -18),
            Entry::loss(6, 1, 4_000_000, ipc_pipeline::entry::Reason::Missed, 4),
            Entry::clock(7, 1, 4_500_000, -1000),
        ];
        entries.extend((8..=20).map(|seq| Entry::sample(seq, 1, (seq - 3) * 1_000_000, 0, seq as i32)));
        entries
    }

    /// Two segments, all durable.
    pub fn record(dir: &Path) {
        segment(dir, 1, &entries()[..9]);
        segment(dir, 10, &entries()[9..]);
        mark(dir, 20);
    }

    /// Damages entry `seq` of the file that begins with `first`.
    pub fn rot(dir: &Path, first: u64, seq: u64) {
        let path = dir.join(format!("{first:020}.seg"));
        let mut bytes = fs::read(&path).unwrap();
        bytes[4096 + 32 * (seq - first) as usize + 17] ^= 1;
        fs::write(path, bytes).unwrap();
    }
}
