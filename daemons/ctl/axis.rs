//! Axes that people can read: ticks at round values and round times.
#![forbid(unsafe_code)]

use jiff::Timestamp;

/// An axis of a picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Axis {
    /// What is shown along it, with the unit.
    pub label: String,
    /// Where it begins.
    pub from: f64,
    /// Where it ends.
    pub to: f64,
    /// Ticks with their texts.
    pub ticks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis of values from `low` to `high`, or a little beyond, with at most `most` steps.
    pub fn of_values(label: String, low: f64, high: f64, most: usize) -> Axis {
        let (low, high) = if low < high { (low, high) } else { around(low) };
        let (step, decimals) = round_step((high - low) / most.max(1) as f64, |step| {
            (high / step).ceil() - (low / step).floor() <= most.max(1) as f64
        });
        let (first, last) = ((low / step).floor() as i64, (high / step).ceil() as i64);
        let ticks: Vec<(f64, String)> =
            (first..=last).map(|i| i as f64 * step).map(|v| (v, value_text(v, step, decimals))).collect();
        Axis { label, from: first as f64 * step, to: last as f64 * step, ticks }
    }

    /// An axis of whole numbers from 0 to `high`, or a little beyond, with at most `most` steps.
    pub fn of_counts(label: String, high: u64, most: usize) -> Axis {
        // With no more steps than there are numbers no step is a fraction.
        let most = usize::try_from(high.max(1)).map_or(most, |high| most.min(high));
        Axis::of_values(label, 0.0, high.max(1) as f64, most)
    }

    /// An axis of time from one moment to another, in ns since 1970, with about `most` ticks. Places on it are seconds
    /// behind its begin.
    pub fn of_time(from_ns: i128, to_ns: i128, most: usize) -> Axis {
        let span = (to_ns - from_ns).max(1);
        let step = TIME_STEPS.iter().copied().find(|step| span / step <= most as i128);
        let step = step.unwrap_or(YEAR * (span / (YEAR * most.max(1) as i128) + 1));
        let days = (from_ns.div_euclid(DAY), to_ns.div_euclid(DAY));
        let form = match step {
            _ if step < SECOND / 1_000_000 => "%H:%M:%S%.9f",
            _ if step < SECOND / 1000 => "%H:%M:%S%.6f",
            _ if step < SECOND => "%H:%M:%S%.3f",
            _ if step < MINUTE => "%H:%M:%S",
            _ if step < DAY && days.0 == days.1 => "%H:%M",
            _ if step < DAY => "%m-%d %H:%M",
            _ => "%Y-%m-%d",
        };
        let first = (from_ns + step - 1).div_euclid(step);
        let ticks = (first..=to_ns.div_euclid(step)).map(|i| i * step);
        let ticks = ticks.map(|ns| ((ns - from_ns) as f64 / 1e9, time_text(ns, form))).collect();
        let day = |ns| time_text(ns, "%Y-%m-%d");
        let label = match (step < DAY, days.0 == days.1) {
            (true, true) => format!("time of day on {} (UTC)", day(from_ns)),
            (true, false) => format!("time, {} to {} (UTC)", day(from_ns), day(to_ns)),
            (false, _) => "day (UTC)".to_owned(),
        };
        Axis { label, from: 0.0, to: span as f64 / 1e9, ticks }
    }
}

const SECOND: i128 = 1_000_000_000;
const MINUTE: i128 = 60 * SECOND;
const HOUR: i128 = 60 * MINUTE;
const DAY: i128 = 24 * HOUR;
const YEAR: i128 = 365 * DAY;

/// Distances between ticks of time, ns.
const TIME_STEPS: [i128; 46] = [
    1,
    2,
    5,
    10,
    20,
    50,
    100,
    200,
    500,
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    SECOND,
    2 * SECOND,
    5 * SECOND,
    10 * SECOND,
    15 * SECOND,
    30 * SECOND,
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    7 * DAY,
    30 * DAY,
];

/// The next length of time, in ns, that is a round one.
pub fn round_time(ns: i128) -> i128 {
    TIME_STEPS.iter().copied().find(|step| *step >= ns).unwrap_or((ns / YEAR + 1) * YEAR)
}

/// A moment as text; empty if its year is none of 0 to 9999.
pub fn time_text(ns: i128, form: &str) -> String {
    Timestamp::from_nanosecond(ns).map_or_else(|_| String::new(), |time| time.strftime(form).to_string())
}

/// A range around a single value.
fn around(value: f64) -> (f64, f64) {
    let room = if value == 0.0 { 1.0 } else { value.abs() / 10.0 };
    (value - room, value + room)
}

/// The smallest step of 1, 2 or 5 times a power of ten that is wide enough, and the digits after the point that it
/// needs.
fn round_step(wanted: f64, is_enough: impl Fn(f64) -> bool) -> (f64, usize) {
    let power = wanted.log10().floor() as i32;
    let steps = (power..=power + 1).flat_map(|p| [(1.0, p), (2.0, p), (5.0, p)]);
    let (factor, power) =
        steps.clone().find(|(f, p)| is_enough(f * 10f64.powi(*p))).unwrap_or((1.0, power + 2));
    (factor * 10f64.powi(power), usize::try_from(-power).unwrap_or(0))
}

/// Short also for very large and very small values.
fn value_text(value: f64, step: f64, decimals: usize) -> String {
    let value = if value.abs() < step / 2.0 { 0.0 } else { value };
    if decimals > 9 || value.abs() >= 1e10 { format!("{value:.3e}") } else { format!("{value:.decimals$}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: &Axis) -> String {
        axis.ticks.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn values_are_round() {
        let of = |low, high, most| texts(&Axis::of_values(String::new(), low, high, most));
        assert_eq!(of(327.0, 1754.0, 5), "0 500 1000 1500 2000");
        assert_eq!(of(-0.245, 0.31, 8), "-0.3 -0.2 -0.1 0.0 0.1 0.2 0.3 0.4");
        assert_eq!(of(0.0, 1.0, 4), "0.0 0.5 1.0");
        assert_eq!(of(5.0, 5.0, 4), "4.5 5.0 5.5");
        assert_eq!(of(0.0, 0.0, 2), "-1 0 1");
        assert!(!of(-2e30, 1e31, 4).contains("0000"));
        for (low, high) in [(1e-30, 2e-30), (-1e300, 1e300), (0.1, 0.1 + 1e-12)] {
            assert!((1..=12).contains(&Axis::of_values(String::new(), low, high, 4).ticks.len()), "{low}");
        }
    }

    #[test]
    fn counts_are_whole() {
        let of = |high, most| texts(&Axis::of_counts(String::new(), high, most));
        assert_eq!([of(0, 10), of(1, 10), of(3, 10)], ["0 1", "0 1", "0 1 2 3"]);
        assert_eq!([of(13, 10), of(13, 1)], ["0 2 4 6 8 10 12 14", "0 20"]);
        for (high, most) in (1..2000).flat_map(|high| [(high, 1), (high, 4), (high, 10)]) {
            assert!(!of(high, most).contains('.'), "{high} in {most}");
        }
    }

    #[test]
    fn times_are_round() {
        let at = |text: &str| crate::moment::parse(text).unwrap();
        let of = |from, to, most| {
            let axis = Axis::of_time(at(from), at(to), most);
            (texts(&axis), axis.label)
        };
        let (ticks, label) = of("2023-11-14T22:13:20.5Z", "2023-11-14T22:13:24Z", 4);
        assert_eq!(
            (&*ticks, &*label),
            ("22:13:21 22:13:22 22:13:23 22:13:24", "time of day on 2023-11-14 (UTC)")
        );
        assert_eq!(
            of("2023-11-14T22:00:00Z", "2023-11-14T22:00:00.007Z", 4).0,
            "22:00:00.000 22:00:00.002 22:00:00.004 22:00:00.006"
        );
        let (ticks, label) = of("2023-11-14T20:00:00Z", "2023-11-15T14:00:00Z", 4);
        assert_eq!(
            (&*ticks, &*label),
            ("11-15 00:00 11-15 06:00 11-15 12:00", "time, 2023-11-14 to 2023-11-15 (UTC)")
        );
        assert_eq!(
            [108_087_000, 100_000_000, 0, 31 * DAY].map(round_time),
            [200_000_000, 100_000_000, 1, YEAR]
        );
        assert_eq!(of("2020-01-01", "2023-01-01", 2).1, "day (UTC)");
        assert!(!Axis::of_time(0, 0, 4).ticks.is_empty());
    }
}
