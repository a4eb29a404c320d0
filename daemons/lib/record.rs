//! The record: every entry exactly once and in order, in segments on disk (docs/formats.md, Record).
//!
//! One writer, one thread. What is appended is durable when [`Record::sync`] has returned its seq, not before.
//! Every failure leaves the record as it was or with a whole number of entries more; [`Record::end`] tells, and the
//! caller goes on from there, as often as it likes: an entry is written at its own offset, so twice is harmless.
//!
//! Invariants that recovery (recovery.rs) leans on:
//! - a segment gets its name only after everything before it was fdatasynced, and is synced itself by then;
//! - the mark is written only after the fdatasync of what it names;
//! - `durable()` is published only after both.
#![forbid(unsafe_code)]

use crate::disk::{DirDisk, Disk, DiskError, Trouble, write_all};
use crate::entry::{Entry, LEN};
use crate::header::{ChannelRow, Form, Header, Segment, TableError, offset_of};
use crate::mark::{Grant, MarkFile, Position, SourcePosition};
use std::io;

/// So many entries at once are handed to the device without waiting for the next commit.
const WRITE_BACK_MIN: usize = 2048;

/// How a record is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Entries in a full segment; 0 counts as 1.
    pub segment_entries: u64,
    /// The channel table, at most 32 rows. It cannot change over the life of a record.
    pub channels: Vec<ChannelRow>,
}

/// Why a record cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The channel table does not fit into a segment's header.
    #[error("the channel table cannot be stored: {0}")]
    Table(#[from] TableError),
    /// The record has other channels than the configuration.
    #[error(
        "the channels in {place} are not those of the configuration, and one record cannot hold both; \
         restore the channels, choose another --name, or move that directory aside to begin a new record"
    )]
    Channels {
        /// The segment that says so.
        place: String,
    },
    /// No segment tells which record this is.
    #[error(
        "the header of {place} is damaged and no other segment can stand in for it; move the directory aside, or restore it from a copy"
    )]
    Header {
        /// The segment.
        place: String,
    },
    /// The first entries were removed on purpose, and the summary that should stand in for them is damaged.
    #[error(
        "{place} is damaged, and what was removed before entry {first} is known only by it; restore it from a copy, or \
         move the directory aside to begin a new record"
    )]
    Summary {
        /// The file.
        place: String,
        /// The first entry that is there.
        first: u64,
    },
    /// Entries that were durable are not there: deleted files, or a drive that lies about flush.
    #[error(
        "entry {seq} was durable, but {place} does not hold it: a file was removed or cut, or the drive does not \
         keep what it flushed; restore the directory from a copy, or move it aside to begin a new record"
    )]
    Missing {
        /// The first one that is not there.
        seq: u64,
        /// Where it should be.
        place: String,
    },
}

/// Why entries could not be appended or made durable. The record stays usable.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The entries do not follow the last one. Nothing was taken.
    #[error(
        "the record ends with entry {end}, so entry {found} cannot be appended to it; this is a bug, report it"
    )]
    Order {
        /// Last entry of the record.
        end: u64,
        /// First entry of what was to be appended.
        found: u64,
    },
    /// A grant that does not follow the last entry, or whose epoch is not higher. Nothing was written.
    #[error(
        "epoch {epoch} cannot begin at entry {base}: the record ends with entry {end} of epoch {before}; \
         this is a bug, report it"
    )]
    Grant {
        /// The epoch that was to be granted.
        epoch: u32,
        /// Its first entry.
        base: u64,
        /// Last entry of the record.
        end: u64,
        /// Its epoch.
        before: u32,
    },
    /// An earlier write of the last segment failed; [`Record::set_aside`] comes first.
    #[error(
        "an earlier write to {place} failed, and what it holds behind entry {durable} must be written again; this is a bug, report it"
    )]
    Suspect {
        /// The segment.
        place: String,
        /// Last entry that is safe.
        durable: u64,
    },
}

impl AppendError {
    /// The kind of trouble.
    pub fn trouble(&self) -> Trouble {
        match self {
            AppendError::Disk(e) => e.trouble(),
            _ => Trouble::Other,
        }
    }
}

/// What opening found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Number of the record.
    pub log_id: u64,
    /// Last entry; all up to it are durable now. 0: none.
    pub durable: u64,
    /// Its epoch; 0: none yet.
    pub epoch: u32,
    /// Where the source stands after it.
    pub source: Option<SourcePosition>,
    /// The newest grant.
    pub grant: Option<Grant>,
    /// The record is new.
    pub created: bool,
    /// Entries, whole or not, that were cut from the end: never durable, or torn by a power cut.
    pub truncated: u64,
    /// Damaged entries among those that were durable and that recovery had to read, which are those between the
    /// mark and the last segment. They are left as they are; `ipc-pipeline verify` looks at all.
    pub rotten: u64,
    /// Entries above the mark that were found whole and written again.
    pub rewritten: u64,
}

/// The segment that is being written.
#[derive(Debug)]
pub(crate) struct Last<F> {
    pub(crate) file: F,
    pub(crate) segment: Segment,
    /// So many entries fit into it.
    pub(crate) limit: u64,
}

/// A record that is being written.
#[derive(Debug)]
pub struct Record<D: Disk> {
    pub(crate) disk: D,
    pub(crate) settings: Settings,
    pub(crate) log_id: u64,
    pub(crate) wall_ns: fn() -> u64,
    pub(crate) last: Last<D::File>,
    pub(crate) mark: MarkFile<D::File>,
    pub(crate) grant: Option<Grant>,
    pub(crate) end: Position,
    pub(crate) durable: Position,
    /// The last segment holds bytes that were not fdatasynced.
    pub(crate) dirty: bool,
    /// The last segment cannot be trusted behind `durable`.
    pub(crate) suspect: Option<Trouble>,
}

impl Record<DirDisk> {
    /// The directory it is in.
    pub fn disk(&self) -> &DirDisk {
        &self.disk
    }

    /// Does the segment that is written still have its name in the directory, or has somebody removed it?
    pub fn is_in_place(&self) -> bool {
        // Who is not told now asks again behind the next commit.
        self.disk.is_still(&self.last.segment.name(), &self.last.file).unwrap_or(true)
    }
}

impl<D: Disk> Record<D> {
    /// Opens the record in this directory, which the caller has locked, and recovers it; makes a new one, with
    /// number `new_log_id` (not 0), if there is none. `wall_ns` gives the wall clock for the headers of segments.
    pub fn open(
        disk: D,
        settings: Settings,
        new_log_id: u64,
        wall_ns: fn() -> u64,
    ) -> Result<(Record<D>, Recovered), RecordError> {
        crate::recovery::recover(disk, settings, new_log_id, wall_ns)
    }

    /// Seq of the first entry of the segment that is being written: all segments before it are sealed.
    pub fn sealed_before(&self) -> u64 {
        self.last.segment.first
    }

    /// Number of the record.
    pub fn log_id(&self) -> u64 {
        self.log_id
    }

    /// Seq of the last entry that was appended; 0: none.
    pub fn end(&self) -> u64 {
        self.end.seq
    }

    /// Epoch of the last entry; 0: none.
    pub fn epoch(&self) -> u32 {
        self.end.epoch
    }

    /// Seq of the last entry that is on stable storage; 0: none.
    pub fn durable(&self) -> u64 {
        self.durable.seq
    }

    /// Where the source stands after the last entry that was appended.
    pub fn position(&self) -> Option<SourcePosition> {
        self.end.source
    }

    /// Where the source stands after the last entry that is durable.
    pub fn durable_position(&self) -> Option<SourcePosition> {
        self.durable.source
    }

    /// The newest grant.
    pub fn current_grant(&self) -> Option<Grant> {
        self.grant
    }

    /// Must [`Record::set_aside`] come before anything else?
    pub fn is_suspect(&self) -> bool {
        self.suspect.is_some()
    }

    /// Appends whole entries that follow the last one. The caller has checked each: CRC, seq, epoch.
    /// After an error [`Record::end`] tells how many were taken; call again with the rest.
    pub fn append(&mut self, entries: &[u8]) -> Result<(), AppendError> {
        let (mut rest, odd) = entries.as_chunks::<LEN>();
        debug_assert!(odd.is_empty(), "only whole entries");
        self.check(rest)?;
        while !rest.is_empty() {
            if self.room() == 0 {
                self.rotate()?;
            }
            let fits = usize::try_from(self.room()).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at(fits);
            self.write(now)?;
            rest = later;
        }
        Ok(())
    }

    /// Makes all that was appended durable; returns the seq of the last entry.
    /// If [`Record::is_suspect`] after an error, [`Record::set_aside`] comes next; else call again.
    pub fn sync(&mut self) -> Result<u64, AppendError> {
        self.check_suspect()?;
        if self.dirty {
            let synced = self.disk.sync_data(&self.last.file);
            synced.map_err(|e| self.suspected(e, "sync"))?;
            self.dirty = false;
        }
        if self.durable.seq != self.end.seq {
            self.mark.write(&self.disk, self.log_id, self.end, self.grant)?;
            self.durable = self.end;
        }
        Ok(self.durable.seq)
    }

    /// Lets an epoch begin with the next entry. When this returns, everything before it and the grant itself are
    /// on stable storage, so that the same grant is found after any crash. Call again after an error.
    pub fn grant(&mut self, grant: Grant) -> Result<(), AppendError> {
        let Position { seq: end, epoch: before, .. } = self.end;
        if grant.base != end.saturating_add(1) || grant.epoch <= before {
            return Err(AppendError::Grant { epoch: grant.epoch, base: grant.base, end, before });
        }
        self.sync()?;
        self.mark.write(&self.disk, self.log_id, self.durable, Some(grant))?;
        self.mark.sync(&self.disk)?;
        self.grant = Some(grant);
        Ok(())
    }

    /// After a failed write: takes back everything that is not durable. [`Record::end`] falls to
    /// [`Record::durable`], and the caller appends again from the spool, which still has it all.
    ///
    /// After EIO the kernel may hold pages that it calls clean and that never reached the disk, and the device has
    /// a bad place: the segment is renamed `.bad` and a new one begins. After any other failure the same place will
    /// do, because all is written again. Does nothing if there is nothing to take back; call again after an error.
    pub fn set_aside(&mut self) -> Result<(), AppendError> {
        let Some(trouble) = self.suspect else { return Ok(()) };
        if trouble == Trouble::Damaged {
            let segment = Segment::plain(self.durable.seq + 1);
            let file = self.build(segment.first, self.durable.epoch)?;
            rename_bad(&self.disk, &mut self.last.segment)?;
            publish(&self.disk, segment)?;
            self.last = Last { file, segment, limit: self.settings.segment_entries };
            self.dirty = false;
        } else {
            // What is taken back must not be found by recovery, should a new epoch take over its numbers.
            let end = offset_of(self.last.segment.first, self.durable.seq + 1);
            let cut = self.disk.set_len(&self.last.file, end);
            cut.map_err(|e| DiskError::new(&self.disk, "cut", &self.last.segment.name(), e))?;
        }
        self.end = self.durable;
        self.suspect = None;
        Ok(())
    }

    fn check(&self, entries: &[[u8; LEN]]) -> Result<(), AppendError> {
        self.check_suspect()?;
        let Some(first) = entries.first() else { return Ok(()) };
        let (end, found) = (self.end.seq, Entry::from_bytes(first).seq);
        if end.checked_add(1) == Some(found) { Ok(()) } else { Err(AppendError::Order { end, found }) }
    }

    fn check_suspect(&self) -> Result<(), AppendError> {
        match self.suspect {
            None => Ok(()),
            Some(_) => Err(AppendError::Suspect {
                place: self.disk.place(&self.last.segment.name()),
                durable: self.durable.seq,
            }),
        }
    }

    /// How many entries the last segment can still take.
    fn room(&self) -> u64 {
        let used = self.end.seq + 1 - self.last.segment.first;
        self.last.limit.saturating_sub(used)
    }

    /// Writes entries that fit into the last segment; takes as many as were written whole.
    fn write(&mut self, entries: &[[u8; LEN]]) -> Result<(), AppendError> {
        let offset = offset_of(self.last.segment.first, self.end.seq + 1);
        self.dirty = true;
        match write_all(&self.disk, &self.last.file, entries.as_flattened(), offset) {
            Ok(()) => {
                self.end.advance(entries);
                // At full speed writing overlaps with the device, and fdatasync takes 1 ms. A trickle gains nothing.
                if entries.len() >= WRITE_BACK_MIN {
                    self.disk.write_back(&self.last.file, offset, (entries.len() * LEN) as u64);
                }
            }
            Err((written, error)) => {
                let taken = entries.get(..written / LEN).unwrap_or(entries);
                self.end.advance(taken);
                // Only for tidiness: a part of an entry does not count, and is overwritten when there is space.
                let whole = offset_of(self.last.segment.first, self.end.seq + 1);
                let _ = self.disk.set_len(&self.last.file, whole);
                return Err(self.failed(error, "write"));
            }
        }
        Ok(())
    }

    /// Begins the next segment. Recovery trusts everything before the last segment, so that is made durable first.
    fn rotate(&mut self) -> Result<(), AppendError> {
        self.sync()?;
        let segment = Segment::plain(self.end.seq + 1);
        let file = self.build(segment.first, self.end.epoch)?;
        publish(&self.disk, segment)?;
        self.last = Last { file, segment, limit: self.settings.segment_entries };
        Ok(())
    }

    fn build(&self, first: u64, epoch: u32) -> Result<D::File, DiskError> {
        let header = Header {
            log_id: self.log_id,
            first_seq: first,
            epoch,
            created_ns: (self.wall_ns)(),
            channels: self.settings.channels.clone(),
        };
        let file = build(&self.disk, &header)?;
        self.disk
            .sync_data(&file)
            .map_err(|e| DiskError::new(&self.disk, "sync", &Segment::plain(first).new_name(), e))?;
        Ok(file)
    }

    fn failed(&mut self, error: io::Error, doing: &'static str) -> AppendError {
        if Trouble::of(&error) == Trouble::Damaged {
            self.suspect = Some(Trouble::Damaged);
        }
        DiskError::new(&self.disk, doing, &self.last.segment.name(), error).into()
    }

    // Whatever made fdatasync fail: pages may be lost now that a second fdatasync would call clean.
    fn suspected(&mut self, error: io::Error, doing: &'static str) -> AppendError {
        self.suspect = Some(Trouble::of(&error));
        self.failed(error, doing)
    }
}

/// Makes a segment with its header under the name `.seg.new`, not yet synced. What was left there is removed.
pub(crate) fn build<D: Disk>(disk: &D, header: &Header) -> Result<D::File, DiskError> {
    let name = Segment::plain(header.first_seq).new_name();
    match disk.remove(&name) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(DiskError::new(disk, "remove", &name, e));
        }
        _ => {}
    }
    let file = disk.create(&name).map_err(|e| DiskError::new(disk, "make", &name, e))?;
    write_all(disk, &file, &header.encode(), 0).map_err(|(_, e)| DiskError::new(disk, "write", &name, e))?;
    Ok(file)
}

/// Gives a finished segment its name.
pub(crate) fn publish<D: Disk>(disk: &D, segment: Segment) -> Result<(), DiskError> {
    let fail = |doing| move |e| DiskError::new(disk, doing, &segment.name(), e);
    disk.rename(&segment.new_name(), &segment.name()).map_err(fail("make"))?;
    disk.sync_dir().map_err(fail("sync the directory of"))
}

/// Renames a segment `.bad`, unless it is already.
pub(crate) fn rename_bad<D: Disk>(disk: &D, segment: &mut Segment) -> Result<(), DiskError> {
    if !segment.is_bad() {
        let bad = Segment { form: Form::Bad, ..*segment };
        let renamed = disk.rename(&segment.name(), &bad.name());
        renamed.map_err(|e| DiskError::new(disk, "set aside", &segment.name(), e))?;
        *segment = bad;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
