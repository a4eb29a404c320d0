//! The file of a segment, open for reading: plain or compressed, it gives the same entries (docs/formats.md, Record).
//!
//! Where a block of a compressed segment is damaged, it gives zeros in place of its entries: no CRC fits them, so that
//! whoever reads counts them as damaged, as it would in a plain segment.
#![forbid(unsafe_code)]

use crate::block::{self, BLOCK, BLOCK_LEN_MAX, HEAD_LEN, Head};
use crate::disk::{Disk, DiskError, read_full};
use crate::entry::LEN;
use crate::header::{Form, HEADER_LEN, Segment, offset_of};
use std::io;

/// Bytes that are looked through at a time for the next head behind a damaged one.
const SEARCH: usize = 1 << 16;

/// An open segment.
#[derive(Debug)]
pub struct SegmentFile<F> {
    segment: Segment,
    file: F,
    /// Of a compressed one: its blocks, by rising seq.
    blocks: Vec<Place>,
}

/// Where a block stands.
#[derive(Clone, Copy, Debug)]
struct Place {
    first_seq: u64,
    /// Number of its entries.
    count: u64,
    offset: u64,
    len: usize,
}

impl<F> SegmentFile<F> {
    /// Opens the segment. `Err` of kind `NotFound`: there is no such file.
    ///
    /// # Errors
    /// What the disk said.
    pub fn open<D: Disk<File = F>>(disk: &D, segment: Segment) -> io::Result<SegmentFile<F>> {
        let file = disk.open(&segment.name())?;
        let blocks = if segment.form == Form::Compressed { blocks(disk, &file)? } else { Vec::new() };
        Ok(SegmentFile { segment, file, blocks })
    }

    /// Which segment it is.
    pub fn segment(&self) -> Segment {
        self.segment
    }

    /// The file.
    pub fn file(&self) -> &F {
        &self.file
    }

    /// Of a compressed segment: seq of the entry behind its last one, as far as its blocks are whole.
    pub fn end(&self) -> u64 {
        self.blocks.last().map_or(self.segment.first, |place| place.first_seq.saturating_add(place.count))
    }

    /// Puts entries `from ..` into `out`, in place of what it held: at most `max`, and none at or behind `end`, where the
    /// next segment begins. Of a compressed segment perhaps fewer than there are. Returns how many; 0: no more.
    ///
    /// # Errors
    /// What the disk said.
    pub fn read<D: Disk<File = F>>(
        &self,
        disk: &D,
        from: u64,
        end: Option<u64>,
        max: usize,
        out: &mut Vec<u8>,
    ) -> Result<usize, DiskError> {
        let left = end.map_or(u64::MAX, |end| end.saturating_sub(from));
        let max = max.min(usize::try_from(left).unwrap_or(usize::MAX));
        out.clear();
        let read = match self.segment.form {
            Form::Plain | Form::Bad => self.read_plain(disk, from, max, out),
            Form::Compressed => self.read_blocks(disk, from, end.unwrap_or(self.end()), max, out),
        };
        read.map_err(|e| DiskError::new(disk, "read", &self.segment.name(), e))?;
        Ok(out.len() / LEN)
    }

    fn read_plain<D: Disk<File = F>>(
        &self,
        disk: &D,
        from: u64,
        max: usize,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        out.resize(max * LEN, 0);
        let n = read_full(disk, &self.file, out, offset_of(self.segment.first, from))?;
        out.truncate(n - n % LEN);
        Ok(())
    }

    /// The rest of the block that holds `from`, then whole blocks while they fit: so that who reads on begins with a block.
    fn read_blocks<D: Disk<File = F>>(
        &self,
        disk: &D,
        from: u64,
        end: u64,
        max: usize,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        let mut bytes = Vec::new();
        let mut next = from;
        while next < end && out.len() < max * LEN {
            let known = self.blocks.partition_point(|place| place.first_seq <= next);
            let place = known.checked_sub(1).and_then(|i| self.blocks.get(i));
            let before = out.len();
            match place.filter(|place| next - place.first_seq < place.count) {
                Some(place) => {
                    self.read_block(disk, place, &mut bytes, out)?;
                    out.drain(before..before + (next - place.first_seq) as usize * LEN);
                }
                None => {
                    let behind = self.blocks.get(known).map_or(end, |place| place.first_seq.min(end));
                    let zeros = usize::try_from(behind - next).unwrap_or(usize::MAX).min(BLOCK);
                    out.resize(before + zeros * LEN, 0);
                }
            }
            if before > 0 && out.len() > max * LEN {
                out.truncate(before); // whole, next time
                break;
            }
            out.truncate(max * LEN);
            next += ((out.len() - before) / LEN) as u64;
        }
        Ok(())
    }

    /// Adds the entries of one block; zeros if it is damaged.
    fn read_block<D: Disk<File = F>>(
        &self,
        disk: &D,
        place: &Place,
        bytes: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        let before = out.len();
        bytes.resize(place.len, 0);
        let n = read_full(disk, &self.file, bytes, place.offset)?;
        let head = block::decode(bytes.get(..n).unwrap_or_default(), out);
        // A head that says something else than when the file was opened: somebody has written to it.
        if head.is_none_or(|head| (head.first_seq, head.count as u64) != (place.first_seq, place.count)) {
            out.truncate(before);
            out.resize(before + place.count as usize * LEN, 0);
        }
        Ok(())
    }
}

/// Where the blocks of this file stand. Behind a damaged head the next one that is whole is looked for.
fn blocks<D: Disk>(disk: &D, file: &D::File) -> io::Result<Vec<Place>> {
    let mut blocks: Vec<Place> = Vec::new();
    let mut offset = HEADER_LEN as u64;
    while let Some((at, head)) = next_head(disk, file, offset)? {
        let place = Place { first_seq: head.first_seq, count: head.count as u64, offset: at, len: head.len };
        let rises =
            blocks.last().is_none_or(|last| place.first_seq >= last.first_seq.saturating_add(last.count));
        if rises && place.first_seq.checked_add(place.count).is_some() {
            blocks.push(place);
        }
        offset = at + head.len as u64;
    }
    Ok(blocks)
}

/// The first whole head at or behind `offset`, and where it stands.
fn next_head<D: Disk>(disk: &D, file: &D::File, mut offset: u64) -> io::Result<Option<(u64, Head)>> {
    let mut b = vec![0; HEAD_LEN];
    loop {
        let n = read_full(disk, file, &mut b, offset)?;
        let bytes = b.get(..n).unwrap_or_default();
        let found = bytes.windows(HEAD_LEN).enumerate().find_map(|(i, w)| Some((i, Head::decode(w)?)));
        if let Some((i, head)) = found {
            return Ok(Some((offset + i as u64, head)));
        }
        if n < HEAD_LEN {
            return Ok(None);
        }
        offset += (n - HEAD_LEN + 1) as u64;
        b.resize(SEARCH, 0);
    }
}

const _: () = assert!(BLOCK_LEN_MAX < 1 << 20, "a block is read in one piece");
