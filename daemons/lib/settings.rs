//! What the statistics are asked for beside the totals: percentiles, an average with fading weights, windows, alarms.
//!
//! All of it in integers, so that the same settings over the same entries always give the same bits.
#![forbid(unsafe_code)]

use crate::decimal::Decimal;
use crate::fields::{get_u32, get_u64, put};
use crate::limits::Limits;
use std::fmt;

/// Most percentiles.
pub const PERCENTILES_MAX: usize = 8;
/// Most windows.
pub const WINDOWS_MAX: usize = 4;
/// Most steps in a window.
pub const STEPS_MAX: u64 = 64;
/// Size of [`Settings`] without limits in bytes.
pub const SETTINGS_LEN: usize = 144;

/// Digits after the point that a percentile may have.
const PERCENTILE_PLACES: u8 = 6;
const HUNDRED: u32 = 100_000_000;
const WINDOWS_AT: usize = 48;
const WINDOW_LEN: usize = 24;

/// What is asked for; by default nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// At most [`PERCENTILES_MAX`].
    pub percentiles: Vec<Percentile>,
    /// Weight of the newest value in the fading average.
    pub ewma: Option<Weight>,
    /// At most [`WINDOWS_MAX`]; window w of a snapshot is number w - 1 here.
    pub windows: Vec<Window>,
    /// Limits by number of the channel, rising; none of them is empty.
    pub limits: Vec<(u16, Limits)>,
}

/// A percentile: 0 to 100 in steps of a millionth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Percentile(u32);

/// The weight of the newest value, in units of 2^-32: 1 to 2^32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight(u64);

/// What a window is measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds of the epoch.
    Time,
    /// Samples of the channel in the epoch.
    Samples,
}

/// The samples between two positions, which move on by steps: positions are multiples of `step` from the epoch's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    unit: Unit,
    size: u64,
    step: u64,
}

impl Settings {
    /// Is nothing asked for?
    pub fn is_empty(&self) -> bool {
        *self == Settings::default()
    }

    /// The limits of a channel; `None`: it has none.
    pub fn limits_of(&self, channel: u16) -> Option<&Limits> {
        self.limits.iter().find(|(number, _)| *number == channel).map(|(_, limits)| limits)
    }

    /// The bytes of all but the limits, as docs/formats.md orders them.
    pub fn to_bytes(&self) -> [u8; SETTINGS_LEN] {
        let mut b = [0; SETTINGS_LEN];
        put(&mut b, 0, (self.percentiles.len() as u32).to_le_bytes());
        put(&mut b, 4, (self.windows.len() as u32).to_le_bytes());
        put(&mut b, 8, self.ewma.map_or(0, Weight::units).to_le_bytes());
        for (i, percentile) in self.percentiles.iter().enumerate() {
            put(&mut b, 16 + 4 * i, percentile.millionths().to_le_bytes());
        }
        for (i, window) in self.windows.iter().enumerate() {
            let at = WINDOWS_AT + WINDOW_LEN * i;
            put(&mut b, at, window.unit.code().to_le_bytes());
            put(&mut b, at + 8, window.size.to_le_bytes());
            put(&mut b, at + 16, window.step.to_le_bytes());
        }
        b
    }

    /// The settings in these bytes, without limits; `None` if [`Settings::to_bytes`] makes no such bytes.
    pub fn from_bytes(b: &[u8; SETTINGS_LEN]) -> Option<Settings> {
        let [percentiles, windows] = [0, 4].map(|at| get_u32(b, at) as usize);
        if percentiles > PERCENTILES_MAX || windows > WINDOWS_MAX {
            return None;
        }
        let ewma = get_u64(b, 8);
        let window =
            |at| Window::new(Unit::from_code(get_u64(b, at))?, get_u64(b, at + 8), get_u64(b, at + 16));
        let settings = Settings {
            percentiles: (0..percentiles)
                .map(|i| Percentile::new(get_u32(b, 16 + 4 * i)))
                .collect::<Option<_>>()?,
            ewma: if ewma == 0 { None } else { Some(Weight::new(ewma)?) },
            windows: (0..windows).map(|i| window(WINDOWS_AT + WINDOW_LEN * i)).collect::<Option<_>>()?,
            limits: Vec::new(),
        };
        (settings.to_bytes() == *b).then_some(settings)
    }
}

impl Percentile {
    /// A percentile in millionths of a percent, at most 100,000,000.
    pub fn new(millionths: u32) -> Option<Percentile> {
        (millionths <= HUNDRED).then_some(Percentile(millionths))
    }

    /// A decimal number from 0 to 100 with at most six digits after the point.
    pub fn of(decimal: &Decimal) -> Option<Percentile> {
        let missing = PERCENTILE_PLACES.checked_sub(decimal.places)?;
        let millionths = decimal.digits.checked_mul(10i128.pow(missing.into()))?;
        Percentile::new(u32::try_from(millionths).ok()?)
    }

    /// The same, counted from the largest value downwards.
    pub fn from_above(self) -> Percentile {
        Percentile(HUNDRED - self.0)
    }

    /// In millionths of a percent.
    pub fn millionths(self) -> u32 {
        self.0
    }

    /// Which of `count` values in rising order it is, from 1: the nearest rank, ceil(p / 100 * count), at least 1.
    pub fn rank(self, count: u64) -> u64 {
        let rank = (self.0 as u128 * count as u128).div_ceil(HUNDRED as u128);
        (rank as u64).max(1)
    }
}

impl fmt::Display for Percentile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / 1_000_000, self.0 % 1_000_000);
        match fraction {
            0 => write!(f, "{whole}"),
            _ => write!(f, "{whole}.{}", format!("{fraction:06}").trim_end_matches('0')),
        }
    }
}

impl Weight {
    /// A weight in units of 2^-32, 1 to 2^32.
    pub fn new(units: u64) -> Option<Weight> {
        (1..=1 << 32).contains(&units).then_some(Weight(units))
    }

    /// A decimal number from 0.000001 to 1, rounded to the nearest multiple of 2^-32, a half upwards.
    pub fn of(decimal: &Decimal) -> Option<Weight> {
        let one = 10i128.pow(decimal.places.into());
        let in_range = decimal.digits <= one && decimal.digits * 1_000_000 >= one;
        let units = ((decimal.digits << 33) + one).div_euclid(2 * one);
        in_range.then(|| u64::try_from(units).ok().and_then(Weight::new)).flatten()
    }

    /// In units of 2^-32.
    pub fn units(self) -> u64 {
        self.0
    }
}

impl Unit {
    /// The unit's number in docs/formats.md.
    pub fn code(self) -> u64 {
        match self {
            Unit::Time => 1,
            Unit::Samples => 2,
        }
    }

    /// The unit with this number.
    pub fn from_code(code: u64) -> Option<Unit> {
        match code {
            1 => Some(Unit::Time),
            2 => Some(Unit::Samples),
            _ => None,
        }
    }
}

impl Window {
    /// A window of `size` that moves on by `step`, both in ns or in samples; `None` unless the size is 1 to 64 steps.
    pub fn new(unit: Unit, size: u64, step: u64) -> Option<Window> {
        let steps = size.checked_div(step)?;
        let whole = size.is_multiple_of(step) && (1..=STEPS_MAX).contains(&steps);
        whole.then_some(Window { unit, size, step })
    }

    /// What it is measured by.
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// Its length, in ns or samples.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// By how much it moves on, in ns or samples, not 0. A step of the whole size: windows follow each other.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Number of steps in it, 1 to 64.
    pub fn steps(&self) -> u64 {
        self.size / self.step
    }
}

/// `60s`, `1000 samples`; with a step of its own `60s by 10s`.
impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = |n: u64| match self.unit {
            Unit::Samples => n.to_string(),
            Unit::Time => time(n),
        };
        f.write_str(&length(self.size))?;
        if self.step != self.size {
            write!(f, " by {}", length(self.step))?;
        }
        if self.unit == Unit::Samples { f.write_str(" samples") } else { Ok(()) }
    }
}

/// A time in the largest unit that divides it.
fn time(ns: u64) -> String {
    const UNITS: [(&str, u64); 5] = [
        ("h", 3_600_000_000_000),
        ("min", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1000),
    ];
    let whole = UNITS.into_iter().find(|(_, unit)| ns.is_multiple_of(*unit));
    let (name, unit) = whole.unwrap_or(("ns", 1));
    format!("{}{name}", ns / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::read(text).unwrap()
    }

    #[test]
    fn percentiles_are_exact() {
        let read = |text| Percentile::of(&decimal(text)).map(|p| p.to_string());
        for text in ["0", "50", "99.9", "100", "0.000001", "99.999999"] {
            assert_eq!(read(text).as_deref(), Some(text));
        }
        assert_eq!(read("5e1").as_deref(), Some("50"));
        for text in ["-1", "100.000001", "0.0000001", "1e9", "1e20"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn ranks_are_nearest_ranks() {
        let rank = |text, count| Percentile::of(&decimal(text)).unwrap().rank(count);
        assert_eq!([0, 1, 2, 3, 4, 5].map(|n| rank("50", n)), [1, 1, 1, 2, 2, 3]);
        assert_eq!((rank("0", 9), rank("100", 9), rank("99.9", 1000), rank("99.9", 1001)), (1, 9, 999, 1000));
        assert_eq!(rank("100", u64::MAX), u64::MAX);
    }

    #[test]
    fn weights_are_rounded_once() {
        let units = |text| Weight::of(&decimal(text)).map(Weight::units);
        assert_eq!(
            (units("1"), units("0.5"), units("0.1")),
            (Some(1 << 32), Some(1 << 31), Some(429_496_730))
        );
        assert_eq!(units("0.000001"), Some(4295));
        for text in ["0", "-0.5", "1.1", "0.0000009", "1e20"] {
            assert_eq!(units(text), None, "{text}");
        }
    }

    #[test]
    fn windows_are_whole_steps() {
        let new = |size, step| Window::new(Unit::Time, size, step);
        assert_eq!(new(60_000_000_000, 10_000_000_000).unwrap().steps(), 6);
        for (size, step) in [(0, 1), (1, 0), (0, 0), (10, 3), (65, 1), (3, 6)] {
            assert_eq!(new(size, step), None, "{size} {step}");
        }
        let text = |unit, size, step| Window::new(unit, size, step).unwrap().to_string();
        assert_eq!(text(Unit::Time, 60_000_000_000, 60_000_000_000), "1min");
        assert_eq!(text(Unit::Time, 90_000_000_000, 1_500_000_000), "90s by 1500ms");
        assert_eq!(text(Unit::Time, 7, 7), "7ns");
        assert_eq!(text(Unit::Samples, 1000, 1000), "1000 samples");
        assert_eq!(text(Unit::Samples, 1000, 100), "1000 by 100 samples");
    }

    #[test]
    fn bytes_come_back_and_nonsense_does_not() {
        let all = Settings {
            percentiles: vec![Percentile::new(50_000_000).unwrap(); PERCENTILES_MAX],
            ewma: Weight::new(1 << 32),
            windows: vec![Window::new(Unit::Samples, 640, 10).unwrap(); WINDOWS_MAX],
            limits: Vec::new(),
        };
        for settings in [Settings::default(), all.clone()] {
            assert_eq!(Settings::from_bytes(&settings.to_bytes()), Some(settings));
        }
        assert!(Settings::default().is_empty() && !all.is_empty());
        for (at, value) in [(0, 9), (0, 7), (4, 5), (4, 3), (12, 2), (19, 6), (48, 3), (64, 0), (143, 1)] {
            let mut b = all.to_bytes();
            put(&mut b, at, [value]);
            assert_eq!(Settings::from_bytes(&b), None, "{at}");
        }
    }
}
