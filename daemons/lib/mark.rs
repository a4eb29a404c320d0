//! `durable.mark`: up to where the record is known to be on stable storage (docs/formats.md, Record).
#![forbid(unsafe_code)]

use crate::disk::{Disk, DiskError, read_full, write_all};
use crate::entry::{Entry, Kind, LEN};
use crate::header::{SEQ_LIMIT, put, u32_at, u64_at};
use std::io;

/// Name of the file.
pub const MARK: &str = "durable.mark";

const MAGIC: &[u8; 8] = b"IPCPMRK1";
const MARK_LEN: usize = 128;
const CRC: usize = 124;
/// Where the two records stand: in different sectors and different pages.
const SLOTS: [u64; 2] = [0, 4096];
/// So many records are written to one slot before the file is fdatasynced and the slots change roles.
const SYNC_EVERY: u32 = 64;

/// Where the source stands after some entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourcePosition {
    /// Seq of the last SOURCE entry.
    pub seq: u64,
    /// Identity of that source.
    pub id: u64,
    /// Position in the source of the next sample.
    pub index: u64,
}

/// The epoch that the log has allowed to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The proposal's own number, so that conv knows its grant.
    pub nonce: u64,
    /// The epoch, from 1.
    pub epoch: u32,
    /// Seq of the first entry of that epoch.
    pub base: u64,
}

/// What is known after entry `seq`: folded from the entries, kept in the mark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The entry; 0: before the first.
    pub seq: u64,
    /// Its epoch; 0: none yet.
    pub epoch: u32,
    /// Where the source stands; `None` before the first SOURCE.
    pub source: Option<SourcePosition>,
}

impl Position {
    /// Goes on over entries that follow, whole and contiguous. On the path of every entry.
    pub fn advance(&mut self, entries: &[[u8; LEN]]) {
        let Some(last) = entries.last() else { return };
        // Nearly all batches are samples only: one count, without a branch for each entry.
        let samples = entries.iter().filter(|b| Entry::from_bytes(b).is_sample()).count();
        if samples == entries.len() {
            self.advance_index(samples as u64);
        } else {
            entries.iter().for_each(|b| self.fold(&Entry::from_bytes(b)));
        }
        self.seq += entries.len() as u64;
        self.epoch = Entry::from_bytes(last).epoch;
    }

    /// Goes on over an entry that was damaged after it became durable: most likely it was a sample.
    pub fn advance_rotten(&mut self) {
        self.seq += 1;
        self.advance_index(1);
    }

    fn fold(&mut self, e: &Entry) {
        match e.kind() {
            Some(Kind::Source) => {
                self.source = Some(SourcePosition { seq: e.seq, id: e.wide_value(), index: e.t_ns });
            }
            _ => self.advance_index(e.positions()),
        }
    }

    fn advance_index(&mut self, by: u64) {
        if let Some(source) = &mut self.source {
            source.index = source.index.wrapping_add(by);
        }
    }
}

/// One record of the mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The larger one of two valid records counts.
    pub counter: u64,
    /// Number of the record it belongs to.
    pub log_id: u64,
    /// The last entry that is on stable storage, and what is known after it.
    pub durable: Position,
    /// The newest grant.
    pub grant: Option<Grant>,
}

impl Mark {
    /// Its 128 bytes.
    pub fn encode(&self) -> [u8; MARK_LEN] {
        let mut b = [0; MARK_LEN];
        put(&mut b, 0, MAGIC);
        put(&mut b, 8, &self.counter.to_le_bytes());
        put(&mut b, 16, &self.log_id.to_le_bytes());
        put(&mut b, 24, &self.durable.seq.to_le_bytes());
        put(&mut b, 32, &self.durable.epoch.to_le_bytes());
        if let Some(source) = self.durable.source {
            put(&mut b, 40, &source.seq.to_le_bytes());
            put(&mut b, 48, &source.id.to_le_bytes());
            put(&mut b, 56, &source.index.to_le_bytes());
        }
        if let Some(grant) = self.grant {
            put(&mut b, 64, &grant.nonce.to_le_bytes());
            put(&mut b, 72, &grant.epoch.to_le_bytes());
            put(&mut b, 80, &grant.base.to_le_bytes());
        }
        let crc = crc32c::crc32c(&b[..CRC]);
        put(&mut b, CRC, &crc.to_le_bytes());
        b
    }

    /// A record from bytes; `None` unless it is whole.
    pub fn decode(b: &[u8]) -> Option<Mark> {
        if b.get(..8)? != MAGIC || u32_at(b, CRC)? != crc32c::crc32c(b.get(..CRC)?) {
            return None;
        }
        let source = SourcePosition { seq: u64_at(b, 40)?, id: u64_at(b, 48)?, index: u64_at(b, 56)? };
        let grant = Grant { nonce: u64_at(b, 64)?, epoch: u32_at(b, 72)?, base: u64_at(b, 80)? };
        let seq = u64_at(b, 24).filter(|&seq| seq < SEQ_LIMIT)?;
        Some(Mark {
            counter: u64_at(b, 8)?,
            log_id: u64_at(b, 16)?,
            durable: Position { seq, epoch: u32_at(b, 32)?, source: (source.seq != 0).then_some(source) },
            grant: (grant.epoch != 0).then_some(grant),
        })
    }
}

/// The newest valid record of the file, whatever record it belongs to, and the number of its slot.
pub fn read_newest<D: Disk>(disk: &D, file: &D::File) -> io::Result<Option<(usize, Mark)>> {
    let mut newest: Option<(usize, Mark)> = None;
    for (slot, &offset) in SLOTS.iter().enumerate() {
        let mut b = [0; MARK_LEN];
        read_full(disk, file, &mut b, offset)?;
        if let Some(mark) = Mark::decode(&b)
            && newest.is_none_or(|(_, other)| mark.counter > other.counter)
        {
            newest = Some((slot, mark));
        }
    }
    Ok(newest)
}

/// The mark of a record that is being written.
///
/// A mark may lag behind what is durable, never lead: recovery finds the rest by scanning. So a record of it need
/// not be fdatasynced each time. But of two records that are both on their way to the disk a power cut may damage
/// both. Therefore one slot always holds a record that was fdatasynced, and only the other is written; they change
/// roles when the file has been fdatasynced again.
#[derive(Debug)]
pub struct MarkFile<F> {
    file: F,
    slot: usize,
    counter: u64,
    unsynced: u32,
}

impl<F> MarkFile<F> {
    /// Opens the mark of record `log_id`, or makes an empty one. What it said comes back with it; a mark of another
    /// record counts as none.
    pub fn open<D: Disk<File = F>>(disk: &D, log_id: u64) -> Result<(MarkFile<F>, Option<Mark>), DiskError> {
        let fail = |doing| move |e| DiskError::new(disk, doing, MARK, e);
        let file = match disk.open(MARK) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => disk.create(MARK).map_err(fail("make"))?,
            other => other.map_err(fail("open"))?,
        };
        // What we read may still be on its way to the disk: bring it there before its neighbour is written.
        disk.sync_data(&file).map_err(fail("sync"))?;
        disk.sync_dir().map_err(fail("sync the directory of"))?;
        let newest = read_newest(disk, &file).map_err(fail("read"))?;
        let (slot, counter) = newest.map_or((0, 0), |(slot, mark)| (1 - slot, mark.counter));
        let known = newest.map(|(_, mark)| mark).filter(|mark| mark.log_id == log_id);
        Ok((MarkFile { file, slot, counter, unsynced: 0 }, known))
    }

    /// Writes a record. What it names must have been fdatasynced before. Now and then this syncs the file too.
    pub fn write<D: Disk<File = F>>(
        &mut self,
        disk: &D,
        log_id: u64,
        durable: Position,
        grant: Option<Grant>,
    ) -> Result<(), DiskError> {
        self.counter += 1;
        let mark = Mark { counter: self.counter, log_id, durable, grant };
        write_all(disk, &self.file, &mark.encode(), SLOTS[self.slot])
            .map_err(|(_, e)| DiskError::new(disk, "write", MARK, e))?;
        self.unsynced += 1;
        if self.unsynced >= SYNC_EVERY { self.sync(disk) } else { Ok(()) }
    }

    /// Returns when the last record is on stable storage.
    pub fn sync<D: Disk<File = F>>(&mut self, disk: &D) -> Result<(), DiskError> {
        if self.unsynced > 0 {
            disk.sync_data(&self.file).map_err(|e| DiskError::new(disk, "sync", MARK, e))?;
            self.unsynced = 0;
            self.slot = 1 - self.slot;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Reason;

    fn mark() -> Mark {
        Mark {
            counter: 2,
            log_id: 3,
            durable: Position { seq: 4, epoch: 5, source: Some(SourcePosition { seq: 6, id: 7, index: 8 }) },
            grant: Some(Grant { nonce: 9, epoch: 10, base: 11 }),
        }
    }

    #[test]
    fn bytes_are_as_documented() {
        let b = mark().encode();
        assert_eq!(&b[..8], b"IPCPMRK1");
        for (at, value) in
            [(8, 2), (16, 3), (24, 4), (32, 5), (40, 6), (48, 7), (56, 8), (64, 9), (72, 10), (80, 11)]
        {
            assert_eq!(b[at..at + 8], u64::to_le_bytes(value), "offset {at}");
        }
        assert_eq!(b[124..], crc32c::crc32c(&b[..124]).to_le_bytes());
        assert_eq!(Mark::decode(&b), Some(mark()));
        let empty = Mark { durable: Position::default(), grant: None, ..mark() };
        assert_eq!(Mark::decode(&empty.encode()), Some(empty));
    }

    #[test]
    fn damage_is_seen() {
        let b = mark().encode();
        for bit in 0..MARK_LEN * 8 {
            let mut damaged = b;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Mark::decode(&damaged), None, "bit {bit}");
        }
        assert_eq!(Mark::decode(&b[..127]), None);
    }

    #[test]
    fn a_batch_of_samples_and_its_entries_one_by_one_give_the_same_position() {
        let entries: Vec<_> = (1..200u64)
            .map(|seq| match seq % 50 {
                7 => Entry::source(seq, 1, seq * 1000, 5),
                11 => Entry::loss(seq, 1, 0, Reason::Full, u32::MAX),
                12 => Entry::loss(seq, 1, 0, Reason::Bad, 3),
                13 => Entry::loss(seq, 1, 0, Reason::Missed, 9),
                14 => Entry::corrupt(seq, 1),
                15 => Entry::clock(seq, 1, 0, -4),
                _ => Entry::sample(seq, 1, 0, 0, 0),
            })
            .map(|e| e.to_bytes())
            .collect();
        let (mut whole, mut single) = (Position::default(), Position::default());
        entries.chunks(8).for_each(|batch| whole.advance(batch));
        entries.iter().for_each(|b| single.advance(&[*b]));
        assert_eq!(whole, single);
        // The last SOURCE is entry 157; behind it 37 samples, a CORRUPT, and what LOSS full and bad input say.
        let index = 157_000 + 37 + 1 + u64::from(u32::MAX) + 3;
        assert_eq!(whole.source, Some(SourcePosition { seq: 157, id: 5, index }));
        assert_eq!((whole.seq, whole.epoch), (199, 1));
    }
}
