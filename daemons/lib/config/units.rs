//! Texts with units: durations, rates and sizes, read exactly and without floats.
#![forbid(unsafe_code)]

use std::time::Duration;

/// Picoseconds in a second.
const PS_PER_S: u128 = 1_000_000_000_000;
const PS_PER_NS: u128 = 1000;

/// Units of time in picoseconds.
const TIME: [(&str, u128); 7] = [
    ("ns", PS_PER_NS),
    ("us", 1_000_000),
    ("ms", 1_000_000_000),
    ("s", PS_PER_S),
    ("min", 60 * PS_PER_S),
    ("h", 3600 * PS_PER_S),
    ("d", 86_400 * PS_PER_S),
];
/// Units of rate in thousandths of a hertz.
const FREQUENCY: [(&str, u128); 5] =
    [("mHz", 1), ("Hz", 1000), ("kHz", 1_000_000), ("MHz", 1_000_000_000), ("/s", 1000)];
/// Units of size in bytes.
const SIZE: [(&str, u128); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// Most digits of a number: times the largest unit it still fits u128 with room.
const DIGITS_MAX: usize = 18;

/// An exact quotient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ratio {
    top: u128,
    bottom: u128,
}

impl Ratio {
    /// The quotient as whole number, if it is one.
    fn whole(self) -> Option<u128> {
        self.top.is_multiple_of(self.bottom).then_some(self.top / self.bottom)
    }
}

/// `text` is digits with at most one point between them, an optional blank and a unit.
fn read(text: &str, units: &[(&str, u128)]) -> Option<Ratio> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at_checked(unit_at)?;
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    let (whole, fraction) = match number.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (number, ""),
    };
    if whole.is_empty() || whole.len() + fraction.len() > DIGITS_MAX {
        return None;
    }
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let bottom = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    Some(Ratio { top: digits * factor, bottom })
}

/// A duration like `2.5ms` in picoseconds; `None` also where it is no whole number of them.
pub(super) fn period_ps(text: &str) -> Option<u128> {
    read(text, &TIME)?.whole()
}

/// A duration like `2.5ms`; `None` also where it is no whole number of nanoseconds.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let ps = period_ps(text)?;
    let ns = ps.is_multiple_of(PS_PER_NS).then_some(ps / PS_PER_NS)?;
    u64::try_from(ns).ok().map(Duration::from_nanos)
}

/// The period in picoseconds, rounded to the nearest, of a rate from 0.01 Hz to 1 MHz like `360 Hz` or `50/s`.
pub(super) fn rate_period_ps(text: &str) -> Option<u128> {
    let Ratio { top, bottom } = read(text, &FREQUENCY)?;
    // The rate itself is compared, not its rounded period: 1.0000001 MHz is too fast.
    let allowed = 10 * bottom <= top && top <= 1_000_000_000 * bottom;
    let thousand_seconds_ps = 1000 * PS_PER_S;
    allowed.then(|| (bottom * thousand_seconds_ps + top / 2) / top)
}

/// A frequency like `50 Hz` in thousandths of a hertz; `None` also where it is no whole number of them.
pub(super) fn frequency_mhz(text: &str) -> Option<u64> {
    u64::try_from(read(text, &FREQUENCY)?.whole()?).ok()
}

/// A size like `64MiB` in bytes.
pub(super) fn size(text: &str) -> Option<u64> {
    u64::try_from(read(text, &SIZE)?.whole()?).ok()
}

/// A duration as it may be written.
pub(super) fn show_duration(duration: Duration) -> String {
    format!("{duration:?}").replace('µ', "u")
}

/// A size in the largest unit of which it is a whole number.
pub(super) fn show_size(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let whole = units.into_iter().find(|(_, shift)| bytes > 0 && bytes.is_multiple_of(1 << shift));
    let (unit, shift) = whole.unwrap_or(("B", 0));
    format!("{}{unit}", bytes >> shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_exact() {
        let cases = [
            ("800ms", 800_000_000_000),
            ("2.5ms", 2_500_000_000),
            ("2.5 ms", 2_500_000_000),
            ("1us", 1_000_000),
            ("0.001ns", 1),
            ("1.5min", 90_000_000_000_000),
            ("1h", 3_600_000_000_000_000),
            ("0s", 0),
            ("999999999999999999h", 999_999_999_999_999_999 * 3_600_000_000_000_000),
        ];
        for (text, ps) in cases {
            assert_eq!(period_ps(text), Some(ps), "{text}");
        }
        for text in [
            "",
            "ms",
            "1",
            "1.ms",
            ".5ms",
            "1..5ms",
            "1.2.3s",
            "-1s",
            "+1s",
            "1e3s",
            "1  s",
            "1 s ",
            " 1s",
            "1S",
            "1 hour",
            "1µs",
            "0.0001ns",
            "1000000000000000000s",
            "inf",
            "٣s",
        ] {
            assert_eq!(period_ps(text), None, "{text:?}");
        }
    }

    #[test]
    fn durations_of_the_clock_are_whole_nanoseconds() {
        assert_eq!(duration("50ms"), Some(Duration::from_millis(50)));
        assert_eq!(duration("1ns"), Some(Duration::from_nanos(1)));
        assert_eq!(duration("0.5ns"), None);
        for text in ["1ns", "999us", "2.5ms", "86400s"] {
            assert_eq!(duration(text).map(show_duration).as_deref(), Some(text));
        }
        assert_eq!(duration("999999999999999999h"), None);
    }

    #[test]
    fn rates_become_the_nearest_period() {
        let cases = [
            ("360 Hz", 2_777_777_778),
            ("360Hz", 2_777_777_778),
            ("50/s", 20_000_000_000),
            ("1.25 Hz", 800_000_000_000),
            ("10 mHz", 100_000_000_000_000),
            ("0.01 Hz", 100_000_000_000_000),
            ("44.1 kHz", 22_675_737),
            ("3 Hz", 333_333_333_333),
            ("1 MHz", 1_000_000),
            ("0.999999 MHz", 1_000_001),
        ];
        for (text, ps) in cases {
            assert_eq!(rate_period_ps(text), Some(ps), "{text}");
        }
        for text in [
            "0 Hz",
            "9.99 mHz",
            "0.009999 Hz",
            "1.0000001 MHz",
            "1000000000.5 mHz",
            "1000001/s",
            "2 MHz",
            "max",
            "360",
            "360 hz",
        ] {
            assert_eq!(rate_period_ps(text), None, "{text}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(size("64MiB"), Some(64 << 20));
        assert_eq!(size("0.5 GiB"), Some(512 << 20));
        assert_eq!(size("100000B"), Some(100_000));
        for text in ["64", "64MB", "0.3B", "64 mib", "999999999999999999GiB"] {
            assert_eq!(size(text), None, "{text}");
        }
        for text in ["64KiB", "1MiB", "3GiB", "1025B", "1536MiB", "0B"] {
            assert_eq!(size(text).map(show_size).as_deref(), Some(text));
        }
    }
}
