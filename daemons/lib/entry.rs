//! The entry: 32 bytes, one format in the spool, on every wire and in the record (docs/formats.md).
#![forbid(unsafe_code)]

// What works on many entries at once has no place in the model of the ring.
#[cfg(not(loom))]
use crate::sys;

/// Size of an entry in bytes.
pub const LEN: usize = 32;
/// Size of an entry in 64-bit words, as it lies in the spool.
pub const WORDS: usize = 4;
/// Channels are numbered 0..MAX_CHANNELS.
pub const MAX_CHANNELS: usize = 32;
/// So many entries are well checked at once by [`checked`]: they fit the first-level cache.
pub const PART: usize = 256;
/// Largest value of a 48-bit `wide` field.
pub const WIDE_MAX: u64 = (1 << 48) - 1;

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One conversion: raw integer code of one channel.
    Sample,
    /// A new epoch begins; `t_ns` is the wall clock of its t = 0.
    Epoch,
    /// `count` samples or ticks did not become samples, for a reason.
    Loss(Reason),
    /// The wall clock stepped.
    Clock,
    /// The entry of this seq was damaged before it became durable.
    Corrupt,
    /// From here on samples come from this source; `t_ns` is the index of the next one.
    Source,
    /// From here on ticks lie on this grid.
    Grid,
}

/// Why something is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The tick passed before conv could take it.
    Missed,
    /// The spool was full and the policy is `drop-newest`.
    Full,
    /// The source gave something that is no sample.
    Bad,
    /// A spool with undurable entries was given up by `objects remove --abandon`.
    Abandoned,
    /// Ticks at which the source had no reading.
    Unread,
}

impl Reason {
    /// The reason's number in `flags`.
    pub const fn code(self) -> u8 {
        match self {
            Reason::Missed => 1,
            Reason::Full => 2,
            Reason::Bad => 3,
            Reason::Abandoned => 4,
            Reason::Unread => 5,
        }
    }

    /// The reason with this number.
    pub const fn from_code(code: u8) -> Option<Reason> {
        match code {
            1 => Some(Reason::Missed),
            2 => Some(Reason::Full),
            3 => Some(Reason::Bad),
            4 => Some(Reason::Abandoned),
            5 => Some(Reason::Unread),
            _ => None,
        }
    }

    /// Does its instant say how far samples have come? That of bad input and of what was given up does not.
    pub const fn takes_time(self) -> bool {
        matches!(self, Reason::Missed | Reason::Unread | Reason::Full)
    }

    /// The word users read.
    pub const fn name(self) -> &'static str {
        match self {
            Reason::Missed => "missed",
            Reason::Full => "full",
            Reason::Bad => "bad input",
            Reason::Abandoned => "abandoned",
            Reason::Unread => "unread",
        }
    }
}

/// One entry. `crc` is made by [`Entry::seal`], once, by conv; everybody else only checks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Number in the record: 1, 2, 3 ...
    pub seq: u64,
    /// Nanoseconds since the epoch began, or what the kind says.
    pub t_ns: u64,
    /// Raw code, count, or the low half of a wide number.
    pub value: i32,
    /// Channel, or the high part of a wide number.
    pub channel: u16,
    /// Number of the kind.
    pub kind: u8,
    /// Meaning by kind.
    pub flags: u8,
    /// Life of the spool that this entry belongs to.
    pub epoch: u32,
    /// CRC-32C of the 28 bytes before it.
    pub crc: u32,
}

const SAMPLE: u8 = 1;
const EPOCH: u8 = 2;
const LOSS: u8 = 3;
const CLOCK: u8 = 4;
const CORRUPT: u8 = 5;
const SOURCE: u8 = 6;
const GRID: u8 = 7;

impl Entry {
    fn unsealed(seq: u64, epoch: u32, t_ns: u64, kind: u8) -> Entry {
        Entry { seq, t_ns, value: 0, channel: 0, kind, flags: 0, epoch, crc: 0 }
    }

    fn wide(mut self, wide: u64) -> Entry {
        self.value = wide as u32 as i32;
        self.channel = (wide >> 32) as u16;
        self
    }

    /// A sample.
    pub fn sample(seq: u64, epoch: u32, t_ns: u64, channel: u16, value: i32) -> Entry {
        Entry::unsealed_sample(seq, epoch, t_ns, channel, value).seal()
    }

    /// A sample whose CRC is 0: [`seal_all`] makes those of many at once.
    #[inline(always)]
    pub(crate) fn unsealed_sample(seq: u64, epoch: u32, t_ns: u64, channel: u16, value: i32) -> Entry {
        Entry { value, channel, ..Entry::unsealed(seq, epoch, t_ns, SAMPLE) }
    }

    /// The first entry of an epoch.
    pub fn epoch(seq: u64, epoch: u32, wall_ns: u64) -> Entry {
        Entry::unsealed(seq, epoch, wall_ns, EPOCH).seal()
    }

    /// `count` (1..=u32::MAX) lost.
    pub fn loss(seq: u64, epoch: u32, t_ns: u64, reason: Reason, count: u32) -> Entry {
        let flags = reason.code();
        Entry { value: count as i32, flags, ..Entry::unsealed(seq, epoch, t_ns, LOSS) }.seal()
    }

    /// A loss of rows of `columns` samples (1..=32): each row takes as many positions of its source.
    pub fn loss_of_rows(seq: u64, epoch: u32, t_ns: u64, reason: Reason, count: u32, columns: u16) -> Entry {
        let channel = columns.saturating_sub(1);
        Entry { channel, ..Entry::loss(seq, epoch, t_ns, reason, count) }.seal()
    }

    /// The wall clock stepped by `ms` (48 bits, two's complement).
    pub fn clock(seq: u64, epoch: u32, t_ns: u64, ms: i64) -> Entry {
        Entry::unsealed(seq, epoch, t_ns, CLOCK).wide(ms as u64 & WIDE_MAX).seal()
    }

    /// The entry of this seq was damaged.
    pub fn corrupt(seq: u64, epoch: u32) -> Entry {
        Entry::unsealed(seq, epoch, 0, CORRUPT).seal()
    }

    /// Samples from here on come from source `id` (48 bits), the next one from position `index`.
    pub fn source(seq: u64, epoch: u32, index: u64, id: u64) -> Entry {
        Entry::unsealed(seq, epoch, index, SOURCE).wide(id).seal()
    }

    /// Ticks from here on lie at `origin_ns + k * period_ps / 1000`.
    pub fn grid(seq: u64, epoch: u32, origin_ns: u64, period_ps: u64) -> Entry {
        Entry::unsealed(seq, epoch, origin_ns, GRID).wide(period_ps).seal()
    }

    /// The entry with its CRC made.
    #[inline(always)]
    pub fn seal(mut self) -> Entry {
        self.crc = crc(&self.to_bytes());
        self
    }

    /// Is the CRC right?
    #[inline(always)]
    pub fn is_whole(&self) -> bool {
        self.crc == crc(&self.to_bytes())
    }

    /// What the entry says; `None` for a kind or reason that this version does not know.
    #[inline(always)]
    pub fn kind(&self) -> Option<Kind> {
        if self.kind == SAMPLE {
            return ((self.channel as usize) < MAX_CHANNELS).then_some(Kind::Sample);
        }
        self.kind_of_marker()
    }

    #[cold]
    fn kind_of_marker(&self) -> Option<Kind> {
        Some(match self.kind {
            EPOCH => Kind::Epoch,
            LOSS => Kind::Loss(Reason::from_code(self.flags)?),
            CLOCK => Kind::Clock,
            CORRUPT => Kind::Corrupt,
            SOURCE => Kind::Source,
            GRID => Kind::Grid,
            _ => return None,
        })
    }

    /// Is it a sample? The one question on the path of every entry.
    #[inline(always)]
    pub fn is_sample(&self) -> bool {
        self.kind == SAMPLE
    }

    /// The count of a LOSS.
    pub fn count(&self) -> u64 {
        self.value as u32 as u64
    }

    /// So many positions of its source this entry goes on: a SAMPLE or CORRUPT one, a lost row one for each of its
    /// samples.
    pub fn positions(&self) -> u64 {
        match self.kind() {
            Some(Kind::Sample | Kind::Corrupt) => 1,
            Some(Kind::Loss(Reason::Full | Reason::Bad)) => {
                self.count().saturating_mul(self.channel as u64 + 1)
            }
            _ => 0,
        }
    }

    /// The 48-bit number of CLOCK, SOURCE and GRID.
    pub fn wide_value(&self) -> u64 {
        self.value as u32 as u64 | (self.channel as u64) << 32
    }

    /// The four words as they lie in the spool.
    #[inline(always)]
    pub fn to_words(&self) -> [u64; WORDS] {
        [
            self.seq,
            self.t_ns,
            self.value as u32 as u64
                | (self.channel as u64) << 32
                | (self.kind as u64) << 48
                | (self.flags as u64) << 56,
            self.epoch as u64 | (self.crc as u64) << 32,
        ]
    }

    /// An entry from the four words of a slot; nothing is checked.
    #[inline(always)]
    pub fn from_words(w: [u64; WORDS]) -> Entry {
        Entry {
            seq: w[0],
            t_ns: w[1],
            value: w[2] as u32 as i32,
            channel: (w[2] >> 32) as u16,
            kind: (w[2] >> 48) as u8,
            flags: (w[2] >> 56) as u8,
            epoch: w[3] as u32,
            crc: (w[3] >> 32) as u32,
        }
    }

    /// The 32 bytes as they lie in the record.
    #[inline(always)]
    pub fn to_bytes(&self) -> [u8; LEN] {
        let mut b = [0; LEN];
        for (bytes, word) in b.as_chunks_mut().0.iter_mut().zip(self.to_words()) {
            *bytes = word.to_le_bytes();
        }
        b
    }

    /// An entry from 32 bytes; nothing is checked.
    #[inline(always)]
    pub fn from_bytes(b: &[u8; LEN]) -> Entry {
        let (words, _) = b.as_chunks();
        let word = |i: usize| u64::from_le_bytes(words[i]);
        Entry::from_words([word(0), word(1), word(2), word(3)])
    }
}

/// The entries in these bytes, each with whether its CRC is right. It first checks all of them: no more than [`PART`] are best.
#[cfg(not(loom))]
#[inline(always)]
pub fn checked(entries: &[[u8; LEN]]) -> impl Iterator<Item = (Entry, bool)> {
    let all_whole = sys::all_whole(entries);
    entries.iter().map(Entry::from_bytes).map(move |entry| (entry, all_whole || entry.is_whole()))
}

/// Is the CRC of each of these right? No more than [`PART`] are best.
#[cfg(not(loom))]
pub(crate) use sys::all_whole;

#[cfg(loom)]
pub(crate) fn all_whole(entries: &[[u8; LEN]]) -> bool {
    entries.iter().all(|bytes| Entry::from_bytes(bytes).is_whole())
}

/// Makes the CRC of each of these.
#[cfg(not(loom))]
pub(crate) fn seal_all(entries: &mut [[u8; LEN]]) {
    sys::seal_all(entries);
}

#[cfg(not(loom))]
use sys::entry_crc as crc;

#[cfg(loom)]
fn crc(bytes: &[u8; LEN]) -> u32 {
    crc32c::crc32c(&bytes[..LEN - 4])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_as_documented() {
        let e = Entry::sample(0x0102030405060708, 0x0a0b0c0d, 9, 7, -2);
        let b = e.to_bytes();
        assert_eq!(b[..8], [8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(b[8..16], [9, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(b[16..24], [0xfe, 0xff, 0xff, 0xff, 7, 0, 1, 0]);
        assert_eq!(b[24..28], [0x0d, 0x0c, 0x0b, 0x0a]);
        assert_eq!(u32::from_le_bytes([b[28], b[29], b[30], b[31]]), e.crc);
        assert_eq!(Entry::from_bytes(&b), e);
        assert_eq!(Entry::from_words(e.to_words()), e);
    }

    #[test]
    fn crc_is_castagnoli() {
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert!(Entry::epoch(1, 1, 5).is_whole());
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let b = Entry::loss(77, 3, 123_456_789, Reason::Full, u32::MAX).to_bytes();
        for bit in 0..LEN * 8 {
            let mut damaged = b;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(!Entry::from_bytes(&damaged).is_whole(), "bit {bit}");
        }
    }

    #[test]
    fn wide_numbers_keep_48_bits() {
        assert_eq!(Entry::grid(1, 1, 0, WIDE_MAX).wide_value(), WIDE_MAX);
        assert_eq!(Entry::clock(1, 1, 0, -1).wide_value(), WIDE_MAX);
        assert_eq!(Entry::source(1, 1, 9, 0xabcd_1234_5678).wide_value(), 0xabcd_1234_5678);
    }

    #[test]
    fn unknown_kinds_have_no_meaning() {
        let mut e = Entry::sample(1, 1, 1, 32, 1);
        assert_eq!(e.kind(), None);
        e.kind = 0;
        assert_eq!(e.kind(), None);
        e.kind = 3;
        e.flags = 9;
        assert_eq!(e.kind(), None);
    }
}
