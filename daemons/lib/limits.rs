//! Limits of a channel, as integers: what makes its alarms begin and end.
//!
//! Physical limits become codes once, exactly ([`crate::exact::Conversion::above`]), so that the same entries always
//! give the same alarms.
#![forbid(unsafe_code)]

use crate::fields::{get, get_u32, get_u64, put};

/// Size of [`Limits`] in bytes.
pub const LIMITS_LEN: usize = 40;
/// Most samples in a row that a change of an alarm can need.
pub const HITS_MAX: u32 = 1_000_000;

/// What a channel is watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Physical values above this are an alarm.
    pub high: Option<Limit>,
    /// Physical values below this are one.
    pub low: Option<Limit>,
    /// Changes faster than this are one, in whichever direction.
    pub rate: Option<Slope>,
    /// So many samples in a row it takes for an alarm to begin, and for it to end: 1 to [`HITS_MAX`].
    pub hits: u32,
}

/// A limit in codes. With a negative scale a high physical limit has its alarm below a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Codes above `begin` are beyond it; those up to `end`, at most `begin`, are well within it.
    Above {
        /// The last code that is not beyond.
        begin: i32,
        /// The last code that is well within.
        end: i32,
    },
    /// Codes below `begin` are beyond it; those from `end` on, at least `begin`, are well within it.
    Below {
        /// The first code that is not beyond.
        begin: i32,
        /// The first code that is well within.
        end: i32,
    },
}

/// A change of codes in a time: the fraction `codes / seconds`, neither 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slope {
    codes: u64,
    seconds: u64,
}

impl Limits {
    /// Is nothing watched?
    pub fn is_empty(&self) -> bool {
        (self.high, self.low, self.rate) == (None, None, None)
    }

    /// The bytes as docs/formats.md orders them.
    pub fn to_bytes(&self) -> [u8; LIMITS_LEN] {
        let mut b = [0; LIMITS_LEN];
        for (i, limit) in [self.high, self.low].into_iter().enumerate() {
            let Some(limit) = limit else { continue };
            let (side, begin, end) = match limit {
                Limit::Above { begin, end } => (1, begin, end),
                Limit::Below { begin, end } => (2, begin, end),
            };
            put(&mut b, i, [side]);
            put(&mut b, 8 + 8 * i, begin.to_le_bytes());
            put(&mut b, 12 + 8 * i, end.to_le_bytes());
        }
        put(&mut b, 4, self.hits.to_le_bytes());
        put(&mut b, 24, self.rate.map_or(0, |rate| rate.codes).to_le_bytes());
        put(&mut b, 32, self.rate.map_or(0, |rate| rate.seconds).to_le_bytes());
        b
    }

    /// The limits in these bytes; `None` if [`Limits::to_bytes`] makes them of none but empty ones.
    pub fn from_bytes(b: &[u8; LIMITS_LEN]) -> Option<Limits> {
        let limit = |i: usize| {
            let [begin, end] = [8, 12].map(|at| i32::from_le_bytes(get(b, at + 8 * i)));
            match get(b, i) {
                [1] => Limit::above(begin, end),
                [2] => Limit::below(begin, end),
                _ => None,
            }
        };
        let rate = Slope::new(get_u64(b, 24), get_u64(b, 32));
        let limits = Limits { high: limit(0), low: limit(1), rate, hits: get_u32(b, 4) };
        let good = !limits.is_empty() && (1..=HITS_MAX).contains(&limits.hits);
        (good && limits.to_bytes() == *b).then_some(limits)
    }
}

impl Limit {
    /// A limit for codes above `begin`; `None` if no code is, or `end` lies beyond `begin`.
    pub fn above(begin: i32, end: i32) -> Option<Limit> {
        (begin < i32::MAX && end <= begin).then_some(Limit::Above { begin, end })
    }

    /// A limit for codes below `begin`; `None` if no code is, or `end` lies beyond `begin`.
    pub fn below(begin: i32, end: i32) -> Option<Limit> {
        (begin > i32::MIN && end >= begin).then_some(Limit::Below { begin, end })
    }

    /// Is this code beyond it (true), or well within (false)? Between the two it speaks for no change.
    #[inline(always)]
    pub fn verdict(&self, code: i32) -> Option<bool> {
        let (beyond, within) = match *self {
            Limit::Above { begin, end } => (code > begin, code <= end),
            Limit::Below { begin, end } => (code < begin, code >= end),
        };
        if beyond { Some(true) } else { within.then_some(false) }
    }
}

impl Slope {
    /// So many codes in so many seconds; `None` if one of them is 0, or the fraction can be reduced.
    pub fn new(codes: u64, seconds: u64) -> Option<Slope> {
        (codes > 0 && seconds > 0 && greatest_divisor(codes.into(), seconds.into()) == 1)
            .then_some(Slope { codes, seconds })
    }

    /// The fraction of these two, reduced; `None` if its parts do not fit 64 bits, or one is 0.
    pub fn reduced(codes: u128, seconds: u128) -> Option<Slope> {
        let divisor = greatest_divisor(codes, seconds);
        let part = |n: u128| n.checked_div(divisor).and_then(|n| u64::try_from(n).ok());
        Slope::new(part(codes)?, part(seconds)?)
    }

    /// Codes and seconds.
    pub fn parts(&self) -> (u64, u64) {
        (self.codes, self.seconds)
    }

    /// Is this change in this time, ns, steeper?
    #[inline(always)]
    pub fn is_exceeded(&self, change: i64, time_ns: u64) -> bool {
        // A difference of two codes has 33 bits, 10^9 has 30: the products fit 128 bits.
        let change = change.unsigned_abs() as u128 * 1_000_000_000;
        change * self.seconds as u128 > self.codes as u128 * time_ns as u128
    }
}

/// Euclid's; that of 0 and n is n.
fn greatest_divisor(mut a: u128, mut b: u128) -> u128 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_beyond_and_within_nothing_changes() {
        let high = Limit::above(10, 7).unwrap();
        assert_eq!(
            [11, 10, 8, 7, i32::MIN].map(|c| high.verdict(c)),
            [Some(true), None, None, Some(false), Some(false)]
        );
        let low = Limit::below(-10, -10).unwrap();
        assert_eq!([-11, -10, i32::MAX].map(|c| low.verdict(c)), [Some(true), Some(false), Some(false)]);
        assert_eq!((Limit::above(i32::MAX, 0), Limit::above(3, 4)), (None, None));
        assert_eq!((Limit::below(i32::MIN, 0), Limit::below(4, 3)), (None, None));
    }

    #[test]
    fn slopes_are_exact() {
        let slope = Slope::reduced(20, 6).unwrap();
        assert_eq!(Some(slope), Slope::new(10, 3));
        // 10/3 codes a second: 10 codes in 3 s are not steeper, in 1 ns less they are.
        assert!(!slope.is_exceeded(-10, 3_000_000_000));
        assert!(slope.is_exceeded(-10, 2_999_999_999));
        assert!(slope.is_exceeded(10, 2_999_999_999));
        let largest = Slope::new(u64::MAX, u64::MAX - 1).unwrap();
        assert!(largest.is_exceeded(-(1 << 33), 1) && !largest.is_exceeded(1 << 33, u64::MAX));
        for (codes, seconds) in [(0, 1), (1, 0), (0, 0), (2, 4)] {
            assert_eq!(Slope::new(codes, seconds), None);
        }
        assert_eq!(Slope::reduced(1 << 64, 1), None);
        assert_eq!(Slope::reduced(1 << 64, 1 << 64), Slope::new(1, 1));
    }

    #[test]
    fn bytes_come_back_and_nonsense_does_not() {
        let all = Limits {
            high: Limit::above(10, 7),
            low: Limit::below(-10, -7),
            rate: Slope::new(10, 3),
            hits: HITS_MAX,
        };
        for limits in [all, Limits { high: None, ..all }, Limits { low: None, rate: None, hits: 1, ..all }] {
            assert_eq!(Limits::from_bytes(&limits.to_bytes()), Some(limits));
        }
        assert_eq!(
            Limits::from_bytes(&Limits { high: None, low: None, rate: None, hits: 1 }.to_bytes()),
            None
        );
        for (at, value) in [(0, 0), (0, 2), (1, 3), (2, 1), (4, 0), (7, 1), (12, 11), (24, 9), (32, 0)] {
            let mut b = all.to_bytes();
            let whole = if at == 4 { 3 } else { 1 };
            b[at..at + whole].fill(value);
            assert_eq!(Limits::from_bytes(&b), None, "{at}");
        }
    }
}
