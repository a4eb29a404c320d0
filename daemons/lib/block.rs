//! A block: up to 4,096 entries of a compressed segment, readable by itself (docs/formats.md, Compressed segment).
//!
//! A sample is nearly known before it is read: its seq and epoch are, channels take turns, time goes on by the same step,
//! and a value is near the last one of its channel. What remains are four columns of small numbers, bit-packed 128 at a
//! time; the CRC is made anew. Every entry that is no whole sample stands in full beside them, so that all entries come
//! back bit for bit, damaged ones too. Nothing is taken from another block: damage never spreads.
#![forbid(unsafe_code)]

use crate::entry::{self, Entry, LEN, MAX_CHANNELS};
use crate::fields::{get_u16, get_u32, get_u64, put};
use bitpacking::{BitPacker, BitPacker4x};

/// Entries in a block; only the last one of a segment may have fewer.
pub const BLOCK: usize = 4096;
/// Size of a block's head in bytes.
pub const HEAD_LEN: usize = 64;
/// No block is longer, in bytes: each entry in full, and all columns as wide as they can be.
pub const BLOCK_LEN_MAX: usize =
    HEAD_LEN + BLOCK * (INDEX_LEN + LEN) + BLOCK / GROUP * (COLUMNS + COLUMNS * GROUP * 4);
/// What a block begins with.
pub const MAGIC: [u8; 8] = *b"IPCPBLK1";

/// Samples that are packed together.
const GROUP: usize = BitPacker4x::BLOCK_LEN;
/// Value, channel, low and high half of the time.
const COLUMNS: usize = 4;
const INDEX_LEN: usize = 2;

/// The head of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Seq of its first entry.
    pub first_seq: u64,
    /// Number of its entries, 1..=[`BLOCK`].
    pub count: usize,
    /// Size of the block in bytes, head included, at most [`BLOCK_LEN_MAX`].
    pub len: usize,
    /// So many entries stand in full.
    full: usize,
    course: Course,
    body_crc: u32,
}

/// What the next sample is expected to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Course {
    epoch: u32,
    /// Channels take turns: 0, 1 .. channels - 1, 0 ...
    channels: u16,
    channel: u16,
    /// Time of the last sample, and the last step of channel 0.
    t_ns: u64,
    step_ns: u64,
}

/// The course with the last value of each channel.
struct Expected {
    course: Course,
    values: [i32; MAX_CHANNELS],
}

/// How a sample differs from what is expected; all 0: not at all.
type Difference = [u32; COLUMNS];

impl Head {
    /// The head that stands at the beginning of `b`; `None` unless it is whole.
    pub fn decode(b: &[u8]) -> Option<Head> {
        let b: &[u8; HEAD_LEN] = b.first_chunk()?;
        if b.first_chunk() != Some(&MAGIC) || get_u32(b, 60) != crc32c::crc32c(b.get(..60)?) {
            return None;
        }
        let head = Head {
            first_seq: get_u64(b, 8),
            len: get_u32(b, 16) as usize,
            count: get_u16(b, 20).into(),
            full: get_u16(b, 22).into(),
            course: Course {
                epoch: get_u32(b, 24),
                channels: get_u16(b, 28),
                channel: get_u16(b, 30),
                t_ns: get_u64(b, 32),
                step_ns: get_u64(b, 40),
            },
            body_crc: get_u32(b, 48),
        };
        let fits = (1..=BLOCK).contains(&head.count) && (HEAD_LEN..=BLOCK_LEN_MAX).contains(&head.len);
        (fits && head.full <= head.count).then_some(head)
    }

    fn encode(&self) -> [u8; HEAD_LEN] {
        let mut b = [0; HEAD_LEN];
        put(&mut b, 0, MAGIC);
        put(&mut b, 8, self.first_seq.to_le_bytes());
        put(&mut b, 16, (self.len as u32).to_le_bytes());
        put(&mut b, 20, (self.count as u16).to_le_bytes());
        put(&mut b, 22, (self.full as u16).to_le_bytes());
        put(&mut b, 24, self.course.epoch.to_le_bytes());
        put(&mut b, 28, self.course.channels.to_le_bytes());
        put(&mut b, 30, self.course.channel.to_le_bytes());
        put(&mut b, 32, self.course.t_ns.to_le_bytes());
        put(&mut b, 40, self.course.step_ns.to_le_bytes());
        put(&mut b, 48, self.body_crc.to_le_bytes());
        let crc = crc32c::crc32c(b.split_at(60).0);
        put(&mut b, 60, crc.to_le_bytes());
        b
    }
}

/// The block of these entries, of which the first stands at `first_seq`; those beyond [`BLOCK`] are left out.
pub fn encode(first_seq: u64, entries: &[[u8; LEN]]) -> Vec<u8> {
    let entries = entries.split_at(entries.len().min(BLOCK)).0;
    let course = Course::of(entries);
    let mut expected = Expected::new(course);
    let (mut indexes, mut full, mut differences) =
        (Vec::new(), Vec::new(), Vec::with_capacity(entries.len()));
    for (i, b) in entries.iter().enumerate() {
        let (seq, e) = (first_seq.wrapping_add(i as u64), Entry::from_bytes(b));
        if expected.is_sample(seq, &e) {
            differences.push(expected.difference(&e));
        } else {
            indexes.extend_from_slice(&(i as u16).to_le_bytes());
            full.extend_from_slice(b);
            expected.pass(&e);
        }
    }
    let mut block = vec![0; HEAD_LEN];
    block.extend_from_slice(&indexes);
    block.extend_from_slice(&full);
    differences.chunks(GROUP).for_each(|group| pack(group, &mut block));
    let head = Head {
        first_seq,
        count: entries.len(),
        len: block.len(),
        full: full.len() / LEN,
        course,
        body_crc: crc32c::crc32c(block.split_at(HEAD_LEN).1),
    };
    put(&mut block, 0, head.encode());
    block
}

/// Adds the entries of this block to `out`. `None`: it is damaged, and `out` is as it was.
pub fn decode(block: &[u8], out: &mut Vec<u8>) -> Option<Head> {
    let head = Head::decode(block)?;
    let body = block.get(HEAD_LEN..head.len)?;
    if head.body_crc != crc32c::crc32c(body) {
        return None;
    }
    let before = out.len();
    out.resize(before + head.count * LEN, 0);
    let (places, _) = out.split_at_mut(before).1.as_chunks_mut::<LEN>();
    let decoded = fill(&head, body, places);
    if decoded.is_none() {
        out.truncate(before);
    }
    decoded.map(|()| head)
}

/// Puts all entries into their places.
fn fill(head: &Head, body: &[u8], mut places: &mut [[u8; LEN]]) -> Option<()> {
    let (indexes, rest) = body.split_at_checked(head.full * INDEX_LEN)?;
    let (full, packed) = rest.split_at_checked(head.full * LEN)?;
    let mut samples = Samples {
        seq: head.first_seq,
        expected: Expected::new(head.course),
        packed,
        columns: [[0; GROUP]; COLUMNS],
        at: GROUP,
    };
    let mut done = 0;
    for (index, entry) in indexes.as_chunks().0.iter().zip(full.as_chunks::<LEN>().0) {
        let index = u16::from_le_bytes(*index) as usize;
        let (before, rest) = places.split_at_mut_checked(index.checked_sub(done)?)?;
        samples.fill(before)?;
        let (place, behind) = rest.split_first_mut()?;
        *place = *entry;
        samples.expected.pass(&Entry::from_bytes(entry));
        samples.seq = samples.seq.wrapping_add(1);
        (places, done) = (behind, index + 1);
    }
    samples.fill(places)?;
    samples.packed.is_empty().then_some(())
}

/// The samples of a block, one after the other.
struct Samples<'a> {
    seq: u64,
    expected: Expected,
    /// The groups that are still to come.
    packed: &'a [u8],
    columns: [[u32; GROUP]; COLUMNS],
    /// How many of this group are taken.
    at: usize,
}

impl Samples<'_> {
    /// Fills all these places with the samples that come next.
    fn fill(&mut self, mut places: &mut [[u8; LEN]]) -> Option<()> {
        while !places.is_empty() {
            if self.at == GROUP {
                self.packed = unpack(self.packed, &mut self.columns)?;
                self.at = 0;
            }
            let n = places.len().min(GROUP - self.at);
            let (now, later) = places.split_at_mut_checked(n)?;
            let [value, channel, low, high] =
                self.columns.each_ref().map(|c| c.get(self.at..).unwrap_or_default());
            let differences = value.iter().zip(channel).zip(low.iter().zip(high));
            for (place, ((value, channel), (low, high))) in now.iter_mut().zip(differences) {
                *place = self.expected.sample(self.seq, [*value, *channel, *low, *high])?.to_bytes();
                self.seq = self.seq.wrapping_add(1);
            }
            entry::seal_all(now);
            self.at += n;
            places = later;
        }
        Some(())
    }
}

/// Adds up to 128 differences as columns: the four widths in bits, then the packed numbers of each column.
fn pack(group: &[Difference], out: &mut Vec<u8>) {
    let packer = BitPacker4x::new();
    let mut columns = [[0; GROUP]; COLUMNS];
    for (i, difference) in group.iter().enumerate() {
        for (column, number) in columns.iter_mut().zip(difference) {
            if let Some(place) = column.get_mut(i) {
                *place = *number;
            }
        }
    }
    let widths = columns.each_ref().map(|column| packer.num_bits(column));
    out.extend_from_slice(&widths);
    for (column, width) in columns.iter().zip(widths) {
        let mut packed = [0; GROUP * 4];
        let n = packer.compress(column, &mut packed, width);
        out.extend_from_slice(packed.split_at(n.min(packed.len())).0);
    }
}

/// The columns that stand next; returns what comes behind them.
fn unpack<'a>(packed: &'a [u8], columns: &mut [[u32; GROUP]; COLUMNS]) -> Option<&'a [u8]> {
    let (widths, mut rest) = packed.split_first_chunk::<COLUMNS>()?;
    for (column, &width) in columns.iter_mut().zip(widths) {
        if width > 32 {
            return None;
        }
        let (numbers, behind) = rest.split_at_checked(width as usize * GROUP / 8)?;
        if width == 0 {
            column.fill(0);
        } else {
            BitPacker4x::new().decompress(numbers, column, width);
        }
        rest = behind;
    }
    Some(rest)
}

impl Course {
    /// The course that fits the first samples among these entries best.
    fn of(entries: &[[u8; LEN]]) -> Course {
        let entry = |b| Entry::from_bytes(b);
        let is_sample = |e: &Entry| e.is_sample() && (e.channel as usize) < MAX_CHANNELS && e.is_whole();
        let mut samples = entries.iter().map(entry).filter(is_sample);
        let Some(first) = samples.next() else { return Course::default() };
        let next_row = samples.clone().find(|e| e.channel == 0 && e.t_ns != first.t_ns);
        let step_ns = next_row.map_or(0, |next| next.t_ns.wrapping_sub(first.t_ns));
        let highest = samples.map(|e| e.channel).max().unwrap_or(0).max(first.channel);
        // On channel 0 one step is added to it first.
        let t_ns = if first.channel == 0 { first.t_ns.wrapping_sub(step_ns) } else { first.t_ns };
        Course { epoch: first.epoch, channels: highest + 1, channel: first.channel, t_ns, step_ns }
    }
}

impl Expected {
    fn new(course: Course) -> Expected {
        Expected { course, values: [0; MAX_CHANNELS] }
    }

    /// Can this entry be told by a difference?
    fn is_sample(&self, seq: u64, e: &Entry) -> bool {
        let known = e.seq == seq && e.epoch == self.course.epoch && e.flags == 0;
        known && e.is_sample() && (e.channel as usize) < MAX_CHANNELS && e.is_whole()
    }

    /// An entry that stands in full: a new epoch may begin with it.
    fn pass(&mut self, e: &Entry) {
        if e.is_whole() {
            self.course.epoch = e.epoch;
        }
    }

    /// Time of the next sample, if it is on this channel.
    fn time(&self, channel: u16) -> u64 {
        let step = if channel == 0 { self.course.step_ns } else { 0 };
        self.course.t_ns.wrapping_add(step)
    }

    fn difference(&mut self, e: &Entry) -> Difference {
        let last = self.values.get(e.channel as usize).copied().unwrap_or(0);
        let value = e.value.wrapping_sub(last);
        let time = e.t_ns.wrapping_sub(self.time(e.channel)) as i64;
        let channel = e.channel ^ self.course.channel;
        self.go_on(e.channel, e.t_ns, e.value);
        let time = ((time << 1) ^ (time >> 63)) as u64; // small numbers of either sign become small numbers
        [((value << 1) ^ (value >> 31)) as u32, channel.into(), time as u32, (time >> 32) as u32]
    }

    /// The sample that differs so, without its CRC; `None` if there is no such channel.
    #[inline(always)]
    fn sample(&mut self, seq: u64, [value, channel, low, high]: Difference) -> Option<Entry> {
        let channel = u16::try_from(channel).ok()? ^ self.course.channel;
        let last = *self.values.get(channel as usize)?;
        let value = last.wrapping_add((value >> 1) as i32 ^ -((value & 1) as i32));
        let time = low as u64 | (high as u64) << 32;
        let time = (time >> 1) as i64 ^ -((time & 1) as i64);
        let t_ns = self.time(channel).wrapping_add(time as u64);
        self.go_on(channel, t_ns, value);
        Some(Entry::unsealed_sample(seq, self.course.epoch, t_ns, channel, value))
    }

    #[inline(always)]
    fn go_on(&mut self, channel: u16, t_ns: u64, value: i32) {
        if let Some(last) = self.values.get_mut(channel as usize) {
            *last = value;
        }
        if channel == 0 {
            self.course.step_ns = t_ns.wrapping_sub(self.course.t_ns);
        }
        self.course.t_ns = t_ns;
        let next = channel + 1;
        self.course.channel = if next < self.course.channels { next } else { 0 };
    }
}

#[cfg(test)]
mod tests;
