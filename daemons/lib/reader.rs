//! Reading the record while it is written, or when nobody writes it: for stat, `verify` and `export`.
//!
//! Raw bytes only: the caller checks CRC, seq and epoch, and stops at `durable`, because what stands behind it may
//! still change. Nothing is ever written, no lock is taken.
#![forbid(unsafe_code)]

use crate::disk::{DirDisk, DirError, Disk, DiskError, read_full};
use crate::header::{ChannelRow, HEADER_LEN, Header, Segment, segments};
use crate::mark::{MARK, Mark, read_newest};
use crate::segment_file::SegmentFile;
use crate::summary::{SUMMARY, Summary};
use std::fs::File;
use std::io;
use std::path::Path;

/// Most entries that one call of [`RecordReader::read`] gives: 1 MiB.
pub const MAX_READ: usize = 32_768;

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The directory cannot be opened.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// A file cannot be read.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// There is no segment.
    #[error("{place} holds no record: start ipc-log first, or name another directory")]
    Empty {
        /// The directory.
        place: String,
    },
    /// No segment has a whole header.
    #[error(
        "no segment in {place} has a whole header, so nothing tells what its entries mean; restore it from a copy"
    )]
    Header {
        /// The directory.
        place: String,
    },
    /// The entry is not in the record, though later ones are.
    #[error(
        "entry {seq} is not in {place}, which has later ones: its file was removed or cut; restore it from a copy"
    )]
    Missing {
        /// The entry.
        seq: u64,
        /// The directory.
        place: String,
    },
}

/// A record that is being read.
#[derive(Debug)]
pub struct RecordReader {
    disk: DirDisk,
    header: Header,
    segments: Vec<Segment>,
    open: Option<SegmentFile<File>>,
}

impl RecordReader {
    /// Opens the record in this directory.
    pub fn open(dir: &Path) -> Result<RecordReader, ReadError> {
        let disk = DirDisk::read_only(dir)?;
        let segments = list(&disk)?;
        if segments.is_empty() {
            return Err(ReadError::Empty { place: disk.place("") });
        }
        for &segment in segments.iter().rev() {
            match header_of(&disk, segment) {
                Ok(Some(header)) => return Ok(RecordReader { disk, header, segments, open: None }),
                Ok(None) => {}
                Err(e) => return Err(DiskError::new(&disk, "read", &segment.name(), e).into()),
            }
        }
        Err(ReadError::Header { place: disk.place("") })
    }

    /// Number of the record.
    pub fn log_id(&self) -> u64 {
        self.header.log_id
    }

    /// The channel table.
    pub fn channels(&self) -> &[ChannelRow] {
        &self.header.channels
    }

    /// Seq of the first entry that is kept.
    pub fn first(&self) -> u64 {
        self.segments.first().map_or(1, |segment| segment.first)
    }

    /// The segments that count, in order, as they were when last looked at. Each ends where the next one begins.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The segments that count now, each with its header; `None`: that is damaged.
    pub fn headers(&self) -> Result<Vec<(Segment, Option<Header>)>, ReadError> {
        let mut headers = Vec::new();
        for segment in list(&self.disk)? {
            match header_of(&self.disk, segment) {
                Ok(header) => headers.push((segment, header)),
                // The log has compressed or removed it since it was listed.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(DiskError::new(&self.disk, "read", &segment.name(), e).into()),
            }
        }
        Ok(headers)
    }

    /// What `durable.mark` says; it may lag behind what log shows. `None`: there is none, or it is damaged or that
    /// of another record.
    pub fn mark(&self) -> Result<Option<Mark>, ReadError> {
        let newest = match self.disk.open(MARK) {
            Ok(file) => read_newest(&self.disk, &file),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        };
        let newest = newest.map_err(|e| DiskError::new(&self.disk, "read", MARK, e))?;
        Ok(newest.map(|(_, mark)| mark).filter(|mark| mark.log_id == self.log_id()))
    }

    /// What is known of entries that were removed. `None`: there is no summary, or it is damaged or that of another record.
    pub fn summary(&self) -> Result<Option<Summary>, ReadError> {
        Ok(Summary::read(&self.disk)?.filter(|summary| summary.log_id == self.log_id()))
    }

    /// Is there a summary that says nothing, as it is damaged or that of another record?
    pub fn summary_is_damaged(&self) -> Result<bool, ReadError> {
        Ok(self.disk.open(SUMMARY).is_ok() && self.summary()?.is_none())
    }

    /// Puts entries `from_seq ..` into `out`, in place of what it held: at most `max_entries` and [`MAX_READ`], and
    /// no further than the end of a segment. Returns how many; 0 only if the record has no such entry yet.
    pub fn read(&mut self, from_seq: u64, max_entries: usize, out: &mut Vec<u8>) -> Result<usize, ReadError> {
        out.clear();
        let max = max_entries.min(MAX_READ);
        if max == 0 {
            return Ok(0);
        }
        if self.segments.last().is_some_and(|last| last.is_bad()) {
            self.segments = list(&self.disk)?; // the log is about to put another in its place
        }
        let known = self.read_known(from_seq, max, out)?;
        if known > 0 {
            return Ok(known);
        }
        // The log may have begun another segment.
        self.segments = list(&self.disk)?;
        let new = self.read_known(from_seq, max, out)?;
        if new == 0 && self.segments.last().is_some_and(|last| from_seq < last.first) {
            return Err(ReadError::Missing { seq: from_seq, place: self.disk.place("") });
        }
        Ok(new)
    }

    /// Reads from the segment that holds the entry as far as we know.
    fn read_known(&mut self, from_seq: u64, max: usize, out: &mut Vec<u8>) -> Result<usize, ReadError> {
        let next = self.segments.partition_point(|segment| segment.first <= from_seq);
        let Some(&segment) = next.checked_sub(1).and_then(|i| self.segments.get(i)) else { return Ok(0) };
        let end = self.segments.get(next).map(|after| after.first);
        let Some(file) = open_segment(&self.disk, &mut self.open, segment)? else { return Ok(0) };
        Ok(file.read(&self.disk, from_seq, end, max, out)?)
    }
}

/// The open file of this segment; `None` if the log has renamed or removed it since it was listed.
fn open_segment<'a>(
    disk: &DirDisk,
    open: &'a mut Option<SegmentFile<File>>,
    segment: Segment,
) -> Result<Option<&'a SegmentFile<File>>, DiskError> {
    let name = segment.name();
    let keep = open
        .as_ref()
        .is_some_and(|kept| kept.segment() == segment && disk.is_still(&name, kept.file()).unwrap_or(false));
    if !keep {
        *open = match SegmentFile::open(disk, segment) {
            Ok(file) => Some(file),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(DiskError::new(disk, "open", &name, e)),
        };
    }
    Ok(open.as_ref())
}

fn list(disk: &DirDisk) -> Result<Vec<Segment>, DiskError> {
    let names = disk.list().map_err(|e| DiskError::new(disk, "list", "", e))?;
    Ok(segments(&names))
}

fn header_of(disk: &DirDisk, segment: Segment) -> io::Result<Option<Header>> {
    let file = disk.open(&segment.name())?;
    let mut b = vec![0; HEADER_LEN];
    read_full(disk, &file, &mut b, 0)?;
    Ok(Header::decode(&b).filter(|header| header.first_seq == segment.first))
}
