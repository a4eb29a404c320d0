//! The integers of one channel or window, and what was lost.
#![forbid(unsafe_code)]

use crate::entry::{Entry, Reason};
use crate::fields::{get, get_u64, put};
use num_bigint::BigUint;

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

impl Losses {
    /// Each in words for people, with its number.
    pub const fn in_words(&self) -> [(&'static str, u64); 6] {
        [
            ("ticks missed", self.missed),
            ("ticks without a reading", self.unread),
            ("samples dropped", self.full),
            ("bad inputs", self.bad),
            ("entries given up", self.abandoned),
            ("entries damaged", self.corrupt),
        ]
    }
}

impl Stats {
    /// Takes one sample. Sums cannot overflow: 2^64 values of 32 bits need 96 bits, their squares 126.
    #[inline(always)]
    pub(super) fn take(&mut self, sample: &Entry) {
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

    /// These samples and then those of `later`.
    pub(super) fn and(self, later: &Stats) -> Stats {
        match (self.count, later.count) {
            (0, _) => *later,
            (_, 0) => self,
            _ => Stats {
                count: self.count + later.count,
                sum: self.sum + later.sum,
                sum_squares: self.sum_squares + later.sum_squares,
                min: self.min.min(later.min),
                max: self.max.max(later.max),
                first: self.first,
                last: later.last,
                t_ns: later.t_ns,
            },
        }
    }

    /// Can these numbers come from samples? Guards what is read from outside.
    pub(crate) fn is_plausible(&self) -> bool {
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
    pub(super) fn add(&mut self, reason: Reason, count: u64) {
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
