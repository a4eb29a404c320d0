//! The statistics: a pure, exact fold over the entries of the record.
//!
//! [`Fold`] is what is known after entry `n`: per channel count, sum, sum of squares, minimum, maximum, first and last
//! value as integers, and what was lost, by reason. There are no floats, so the same entries always give the same bits,
//! however they were cut into batches and however often the daemon was restarted in between. Mean, variance and standard
//! deviation are made from these integers by [`crate::exact`].
#![forbid(unsafe_code)]

use crate::entry::{Entry, Kind, LEN, MAX_CHANNELS, Reason};
use crate::fields::{get, get_u64, put};
use num_bigint::BigUint;
use thiserror::Error;

/// Size of [`Stats`] in bytes, in snapshots and checkpoints alike.
pub const STATS_LEN: usize = 64;
/// Size of [`Losses`] in bytes, in snapshots and checkpoints alike.
pub const LOSSES_LEN: usize = 48;
/// What is known of one channel. All values are raw codes; with `count == 0` all fields are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Number of samples.
    pub count: u64,
    /// Sum of all values.
    pub sum: i128,
    /// Sum of the squares of all values.
    pub sum_squares: u128,
    /// Smallest value.
    pub min: i32,
    /// Largest value.
    pub max: i32,
    /// Value of the first sample.
    pub first: i32,
    /// Value of the last sample.
    pub last: i32,
    /// `t_ns` of the last sample: nanoseconds since its epoch began.
    pub t_ns: u64,
}

/// What did not become a sample, by reason: totals of the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Ticks that passed before conv could take them.
    pub missed: u64,
    /// Ticks at which the source had no reading.
    pub unread: u64,
    /// Samples dropped because the spool was full.
    pub full: u64,
    /// Input that was no sample.
    pub bad: u64,
    /// Entries given up with their spool.
    pub abandoned: u64,
    /// Entries damaged before they became durable.
    pub corrupt: u64,
}

/// Everything that is known after entry `n` of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fold {
    /// Seq of the last entry that was folded; 0: none yet.
    pub n: u64,
    /// Epoch of that entry; 0: none yet.
    pub epoch: u32,
    /// What was lost up to n.
    pub losses: Losses,
    channels: [Stats; MAX_CHANNELS],
}

/// Why an entry cannot be folded. Everything before it is in the fold, itself and all after it are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FoldError {
    /// The CRC does not fit the bytes.
    #[error("entry {seq} is damaged: its CRC does not fit; run `ipc-pipeline verify`")]
    Damaged {
        /// Seq that the entry should have.
        seq: u64,
    },
    /// The CRC fits, but the kind, reason or channel is not known.
    #[error(
        "entry {seq} has the unknown kind {kind} (flags {flags}, channel {channel}); a newer version may know it"
    )]
    Unknown {
        /// Seq of the entry.
        seq: u64,
        /// Number of its kind.
        kind: u8,
        /// Its flags.
        flags: u8,
        /// Its channel.
        channel: u16,
    },
    /// Not the next entry.
    #[error("entry {found} stands where entry {expected} was expected; run `ipc-pipeline verify`")]
    Order {
        /// Seq that comes next.
        expected: u64,
        /// Seq that was found.
        found: u64,
    },
}

impl Fold {
    /// A fold over nothing.
    pub fn new() -> Fold {
        Fold::default()
    }

    /// A fold as it was after entry `n`, for snapshots and checkpoints. `None` if these numbers cannot belong together.
    pub fn from_parts(n: u64, epoch: u32, losses: Losses, rows: &[(u16, Stats)]) -> Option<Fold> {
        let mut fold = Fold { n, epoch, losses, ..Fold::default() };
        let mut entries = losses.corrupt as u128;
        let mut lowest = 0;
        for (channel, stats) in rows {
            if *channel < lowest || !stats.is_plausible() {
                return None;
            }
            *fold.channels.get_mut(*channel as usize)? = *stats;
            entries += stats.count as u128;
            lowest = channel + 1;
        }
        (entries <= n as u128).then_some(fold)
    }

    /// The channels that have samples, in rising order.
    pub fn channels(&self) -> impl Iterator<Item = (u16, &Stats)> {
        (0..).zip(&self.channels).filter(|(_, stats)| stats.count > 0)
    }

    /// What is known of one channel; `None` if it has no sample.
    pub fn channel(&self, channel: u16) -> Option<&Stats> {
        self.channels.get(channel as usize).filter(|stats| stats.count > 0)
    }

    /// Folds one entry.
    ///
    /// # Errors
    /// It must be whole, of a known kind and have seq `n + 1`; otherwise nothing changes.
    #[inline(always)]
    pub fn fold(&mut self, entry: &Entry) -> Result<(), FoldError> {
        let expected = self.n.wrapping_add(1);
        if !entry.is_whole() {
            return Err(FoldError::Damaged { seq: expected });
        }
        if entry.seq != expected {
            return Err(FoldError::Order { expected, found: entry.seq });
        }
        let &Entry { seq, kind, flags, channel, .. } = entry;
        let known = entry.kind().ok_or(FoldError::Unknown { seq, kind, flags, channel })?;
        self.take(entry, known);
        Ok(())
    }

    /// Folds the whole entries that `bytes` begins with and returns how many; up to 31 bytes may remain.
    ///
    /// # Errors
    /// As [`Fold::fold`]; it stops at the first bad entry, and `n` says how far it came.
    pub fn fold_bytes(&mut self, bytes: &[u8]) -> Result<usize, FoldError> {
        let (entries, _) = bytes.as_chunks::<LEN>();
        for bytes in entries {
            self.fold(&Entry::from_bytes(bytes))?;
        }
        Ok(entries.len())
    }

    /// Takes an entry whose checks are done.
    #[inline(always)]
    pub(crate) fn take(&mut self, entry: &Entry, kind: Kind) {
        self.n = entry.seq;
        self.epoch = entry.epoch;
        match kind {
            Kind::Sample => {
                if let Some(stats) = self.channels.get_mut(entry.channel as usize) {
                    stats.take(entry);
                }
            }
            Kind::Loss(reason) => self.losses.add(reason, entry.count()),
            Kind::Corrupt => self.losses.corrupt = self.losses.corrupt.saturating_add(1),
            Kind::Epoch | Kind::Clock | Kind::Source | Kind::Grid => {}
        }
    }
}

impl Stats {
    /// Takes one sample. Sums cannot overflow: 2^64 values of 32 bits need 96 bits, their squares 126.
    #[inline(always)]
    fn take(&mut self, sample: &Entry) {
        let value = sample.value;
        if self.count == 0 {
            *self = Stats { min: value, max: value, first: value, ..Stats::default() };
        }
        let wide = value as i64;
        self.count += 1;
        self.sum += wide as i128;
        self.sum_squares += (wide * wide) as u128;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.last = value;
        self.t_ns = sample.t_ns;
    }

    /// Can these numbers come from samples? Guards what is read from outside.
    fn is_plausible(&self) -> bool {
        let count = self.count as i128;
        let range = self.min..=self.max;
        let squares_max = (self.count as u128) << 62;
        self.count > 0
            && range.contains(&self.first)
            && range.contains(&self.last)
            && (count * self.min as i128..=count * self.max as i128).contains(&self.sum)
            && self.sum_squares <= squares_max
            && BigUint::from(self.sum_squares) * self.count >= BigUint::from(self.sum.unsigned_abs()).pow(2)
    }

    /// The bytes of count .. t_ns as docs/formats.md orders them.
    pub fn to_bytes(&self) -> [u8; STATS_LEN] {
        let mut b = [0; STATS_LEN];
        put(&mut b, 0, self.count.to_le_bytes());
        put(&mut b, 8, self.sum.to_le_bytes());
        put(&mut b, 24, self.sum_squares.to_le_bytes());
        put(&mut b, 40, self.min.to_le_bytes());
        put(&mut b, 44, self.max.to_le_bytes());
        put(&mut b, 48, self.first.to_le_bytes());
        put(&mut b, 52, self.last.to_le_bytes());
        put(&mut b, 56, self.t_ns.to_le_bytes());
        b
    }

    /// The numbers from their bytes; [`Fold::from_parts`] judges them.
    pub fn from_bytes(b: &[u8; STATS_LEN]) -> Stats {
        Stats {
            count: get_u64(b, 0),
            sum: i128::from_le_bytes(get(b, 8)),
            sum_squares: u128::from_le_bytes(get(b, 24)),
            min: i32::from_le_bytes(get(b, 40)),
            max: i32::from_le_bytes(get(b, 44)),
            first: i32::from_le_bytes(get(b, 48)),
            last: i32::from_le_bytes(get(b, 52)),
            t_ns: get_u64(b, 56),
        }
    }
}

impl Losses {
    /// Adds `count`; a total that does not fit 64 bits stays at its maximum.
    fn add(&mut self, reason: Reason, count: u64) {
        let total = match reason {
            Reason::Missed => &mut self.missed,
            Reason::Full => &mut self.full,
            Reason::Bad => &mut self.bad,
            Reason::Abandoned => &mut self.abandoned,
            Reason::Unread => &mut self.unread,
        };
        *total = total.saturating_add(count);
    }

    /// The six totals as docs/formats.md orders them.
    pub fn to_bytes(&self) -> [u8; LOSSES_LEN] {
        let mut b = [0; LOSSES_LEN];
        put(&mut b, 0, self.missed.to_le_bytes());
        put(&mut b, 8, self.full.to_le_bytes());
        put(&mut b, 16, self.bad.to_le_bytes());
        put(&mut b, 24, self.abandoned.to_le_bytes());
        put(&mut b, 32, self.corrupt.to_le_bytes());
        put(&mut b, 40, self.unread.to_le_bytes());
        b
    }

    /// The totals from their bytes.
    pub fn from_bytes(b: &[u8; LOSSES_LEN]) -> Losses {
        Losses {
            missed: get_u64(b, 0),
            full: get_u64(b, 8),
            bad: get_u64(b, 16),
            abandoned: get_u64(b, 24),
            corrupt: get_u64(b, 32),
            unread: get_u64(b, 40),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(entries: &[Entry]) -> Vec<u8> {
        entries.iter().flat_map(|e| e.to_bytes()).collect()
    }

    fn history() -> Vec<Entry> {
        vec![
            Entry::epoch(1, 1, 1_700_000_000_000_000_000),
            Entry::source(2, 1, 0, 7),
            Entry::grid(3, 1, 0, 1_000_000),
            Entry::sample(4, 1, 0, 0, i32::MIN),
            Entry::sample(5, 1, 0, 31, -3),
            Entry::sample(6, 1, 1000, 0, i32::MAX),
            Entry::loss(7, 1, 2000, Reason::Missed, 1),
            Entry::loss(8, 1, 2000, Reason::Full, u32::MAX),
            Entry::corrupt(9, 1),
            Entry::clock(10, 1, 2500, -7),
            Entry::sample(11, 1, 3000, 0, 5),
        ]
    }

    #[test]
    fn integers_are_exact() {
        let mut fold = Fold::new();
        assert_eq!(fold.fold_bytes(&bytes(&history())), Ok(11));
        let low = i32::MIN as i128;
        let high = i32::MAX as i128;
        let expected = Stats {
            count: 3,
            sum: low + high + 5,
            sum_squares: (low * low + high * high + 25) as u128,
            min: i32::MIN,
            max: i32::MAX,
            first: i32::MIN,
            last: 5,
            t_ns: 3000,
        };
        assert_eq!(fold.channel(0), Some(&expected));
        assert_eq!(fold.channels().map(|(c, s)| (c, s.count)).collect::<Vec<_>>(), [(0, 3), (31, 1)]);
        assert_eq!(fold.channel(1), None);
        assert_eq!(
            fold.losses,
            Losses { missed: 1, full: u32::MAX as u64, bad: 0, abandoned: 0, corrupt: 1, unread: 0 }
        );
        assert_eq!((fold.n, fold.epoch), (11, 1));
    }

    #[test]
    fn one_by_one_is_the_same_as_in_batches() {
        let mut one_by_one = Fold::new();
        history().iter().for_each(|e| one_by_one.fold(e).unwrap());
        let all = bytes(&history());
        for cut in 0..=11 {
            let mut fold = Fold::new();
            let (a, b) = all.split_at(cut * LEN);
            assert_eq!(fold.fold_bytes(a), Ok(cut));
            assert_eq!(fold.fold_bytes(b), Ok(11 - cut));
            assert_eq!(fold, one_by_one);
        }
    }

    #[test]
    fn it_stops_before_the_first_bad_entry() {
        let all = bytes(&history());
        for bad in 0..11 {
            let mut damaged = all.clone();
            damaged[bad * LEN + 17] ^= 4;
            let mut fold = Fold::new();
            let seq = bad as u64 + 1;
            assert_eq!(fold.fold_bytes(&damaged), Err(FoldError::Damaged { seq }));
            let mut before = Fold::new();
            before.fold_bytes(&all[..bad * LEN]).unwrap();
            assert_eq!(fold, before);
        }
    }

    #[test]
    fn gaps_repeats_and_unknown_kinds_are_refused() {
        let mut fold = Fold::new();
        let second = Entry::sample(2, 1, 0, 0, 1);
        assert_eq!(fold.fold(&second), Err(FoldError::Order { expected: 1, found: 2 }));
        fold.fold_bytes(&bytes(&history())).unwrap();
        let again = bytes(&history()[10..]);
        assert_eq!(fold.fold_bytes(&again), Err(FoldError::Order { expected: 12, found: 11 }));
        let mut strange = Entry::sample(12, 1, 0, 32, 1);
        let unknown = FoldError::Unknown { seq: 12, kind: 1, flags: 0, channel: 32 };
        assert_eq!(fold.fold(&strange), Err(unknown));
        strange = Entry { kind: 99, channel: 0, ..strange }.seal();
        let unknown = FoldError::Unknown { seq: 12, kind: 99, flags: 0, channel: 0 };
        assert_eq!(fold.fold_bytes(&strange.to_bytes()), Err(unknown));
        assert_eq!(fold.n, 11);
    }

    #[test]
    fn part_of_an_entry_waits() {
        let mut fold = Fold::new();
        assert_eq!(fold.fold_bytes(&bytes(&history())[..2 * LEN + 31]), Ok(2));
    }

    #[test]
    fn numbers_that_cannot_belong_together_are_refused() {
        let good = Stats { count: 2, sum: 1, sum_squares: 5, min: -1, max: 2, first: -1, last: 2, t_ns: 9 };
        let accepts = |n, rows: &[(u16, Stats)]| Fold::from_parts(n, 1, Losses::default(), rows).is_some();
        assert!(accepts(2, &[(0, good)]));
        assert!(!accepts(1, &[(0, good)]));
        assert!(!accepts(9, &[(1, good), (0, good)]));
        assert!(!accepts(9, &[(1, good), (1, good)]));
        assert!(!accepts(9, &[(32, good)]));
        assert!(!accepts(9, &[(u16::MAX, good)]));
        assert!(!accepts(9, &[(0, Stats { count: 0, ..good })]));
        assert!(!accepts(9, &[(0, Stats { sum: 5, ..good })]));
        assert!(!accepts(9, &[(0, Stats { sum: i128::MIN, ..good })]));
        assert!(!accepts(9, &[(0, Stats { sum_squares: u128::MAX, ..good })]));
        assert!(!accepts(9, &[(0, Stats { sum_squares: 0, ..good })]));
        assert!(!accepts(9, &[(0, Stats { first: 3, ..good })]));
        assert!(!accepts(9, &[(0, Stats { last: -2, ..good })]));
    }
}
