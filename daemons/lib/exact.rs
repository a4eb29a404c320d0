//! Physical values, their mean, variance and standard deviation as exact decimals, from codes and the integers of
//! [`Stats`].
//!
//! There is one rounding, at the last digit that is printed, and one rule: to the nearest, and a half goes away from
//! zero (0.125 becomes 0.13, -0.125 becomes -0.13). What rounds to zero has no sign. The last digit is right for the
//! standard deviation too. The rule is the same for every number of digits, so a longer print never contradicts.
#![forbid(unsafe_code)]

use crate::decimal::{DECIMALS_MAX, Decimal};
use crate::fold::{Rate, Stats};
use crate::header::ChannelRow;
use crate::limits::{Limit, Slope};
use num_bigint::{BigInt, BigUint, Sign};
use std::cmp::Ordering;

/// What is printed for a value that does not exist.
pub const ABSENT: &str = "-";

/// An exact number: a fraction, or the square root of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exact {
    numerator: BigInt,
    denominator: BigUint,
    root: bool,
}

/// From the codes of a channel to physical values: `(code / 10^decimals + offset) * scale`, exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conversion {
    decimals: u8,
    scale: Decimal,
    offset: Decimal,
}

impl Conversion {
    /// With these; `decimals` is at most 9.
    pub const fn new(decimals: u8, scale: Decimal, offset: Decimal) -> Conversion {
        Conversion { decimals, scale, offset }
    }

    /// Without scale and offset.
    pub const fn plain(decimals: u8) -> Conversion {
        Conversion { decimals, scale: Decimal::ONE, offset: Decimal::ZERO }
    }

    /// That of a channel, as the record keeps it. A text that is no number counts as 1 or 0.
    pub fn of(row: &ChannelRow) -> Conversion {
        Conversion {
            decimals: row.decimals.min(DECIMALS_MAX),
            scale: Decimal::read(&row.scale).unwrap_or(Decimal::ONE),
            offset: Decimal::read(&row.offset).unwrap_or(Decimal::ZERO),
        }
    }

    /// Digits after the point that the physical value of a code has at most.
    pub fn places(&self) -> u8 {
        self.decimals.max(self.offset.places) + self.scale.places
    }

    /// The physical value of one code.
    pub fn value(&self, code: i32) -> Exact {
        self.linear(code.into(), 1, 1)
    }

    /// The sum of the physical values.
    pub fn sum(&self, stats: &Stats) -> Exact {
        self.linear(stats.sum, stats.count, 1)
    }

    /// Their mean; `None` without a sample.
    pub fn mean(&self, stats: &Stats) -> Option<Exact> {
        (stats.count > 0).then(|| self.linear(stats.sum, stats.count, stats.count))
    }

    /// The smallest physical value: with a negative scale that of the largest code.
    pub fn min(&self, stats: &Stats) -> Exact {
        self.value(if self.is_rising() { stats.min } else { stats.max })
    }

    /// The largest physical value.
    pub fn max(&self, stats: &Stats) -> Exact {
        self.value(if self.is_rising() { stats.max } else { stats.min })
    }

    /// Their variance, (count * sum of squares - sum^2) / (count * (count - 1)), in squared units; `None` with fewer than
    /// two samples.
    pub fn variance(&self, stats: &Stats) -> Option<Exact> {
        let fewer = stats.count.checked_sub(1).filter(|fewer| *fewer > 0)?;
        let spread = BigInt::from(stats.sum_squares) * stats.count - BigInt::from(stats.sum).pow(2);
        let denominator = BigUint::from(stats.count) * fewer;
        let unit = power_of_ten(2 * (self.decimals as u32 + self.scale.places as u32));
        Some(Exact {
            numerator: spread * BigInt::from(self.scale.digits).pow(2),
            denominator: denominator * unit,
            root: false,
        })
    }

    /// Their standard deviation, the square root of [`Conversion::variance`]; `None` with fewer than two samples.
    pub fn deviation(&self, stats: &Stats) -> Option<Exact> {
        self.variance(stats).map(|variance| Exact { root: true, ..variance })
    }

    /// A difference of codes over `below` (not 0), without the offset.
    pub fn difference(&self, difference: i128, below: u64) -> Exact {
        Conversion { offset: Decimal::ZERO, ..*self }.linear(difference, 0, below)
    }

    /// A fading average, which is in units of 2^-32 codes.
    pub fn ewma(&self, units: i64) -> Exact {
        self.linear(units.into(), 1 << 32, 1 << 32)
    }

    /// A rate of change, in units of the channel a second.
    pub fn rate(&self, rate: &Rate) -> Exact {
        self.difference(rate.change as i128 * 1_000_000_000, rate.time_ns)
    }

    /// The text of a value, a sum, a minimum or maximum: with all its digits, but if scale or offset give it more than
    /// `digits` behind the point, rounded to these.
    pub fn text(&self, value: &Exact, digits: u8) -> String {
        value.text(self.places().min(digits.max(self.decimals)))
    }

    /// Do larger codes have larger physical values? With a negative scale it is the other way round.
    pub fn is_rising(&self) -> bool {
        self.scale.digits >= 0
    }

    /// The factor and the addend with which `(code * factor + addend) / 10^places` is the physical value; `None` if
    /// they do not fit 64 bits.
    pub fn factor_and_addend(&self) -> Option<(i64, i64)> {
        let common = self.decimals.max(self.offset.places);
        let ten = |places: u8| 10i128.checked_pow(places.into());
        let factor = ten(common - self.decimals)?.checked_mul(self.scale.digits)?;
        let offset = self.offset.digits.checked_mul(ten(common - self.offset.places)?)?;
        Some((factor.try_into().ok()?, offset.checked_mul(self.scale.digits)?.try_into().ok()?))
    }

    /// The limit beyond which physical values lie that are above `value`; well within are those up to `value - back`.
    /// `None` if no code lies beyond, or none within.
    pub fn above(&self, value: &Decimal, back: &Decimal) -> Option<Limit> {
        self.limit(value, &Decimal { digits: -back.digits, ..*back }, true)
    }

    /// As [`Conversion::above`] for physical values below `value`; well within are those from `value + back` on.
    pub fn below(&self, value: &Decimal, back: &Decimal) -> Option<Limit> {
        self.limit(value, back, false)
    }

    fn limit(&self, value: &Decimal, back: &Decimal, is_high: bool) -> Option<Limit> {
        if self.scale.digits == 0 {
            return None; // all codes have one value
        }
        let [begin, end] = [&Decimal::ZERO, back].map(|back| self.codes_around(value, back));
        if is_high == self.is_rising() {
            Limit::above(begin.0.try_into().ok()?, end.0.try_into().ok()?)
        } else {
            Limit::below(begin.1.try_into().ok()?, end.1.try_into().ok()?)
        }
    }

    /// The slope of the codes when physical values change by this much a second, in whichever direction; `None` if it
    /// cannot be told in 64 bits.
    pub fn slope(&self, per_second: &Decimal) -> Option<Slope> {
        let ten = |places: u8| 10u128.checked_pow(places.into());
        let codes = per_second.digits.unsigned_abs().checked_mul(ten(self.scale.places + self.decimals)?)?;
        Slope::reduced(codes, self.scale.digits.unsigned_abs().checked_mul(ten(per_second.places)?)?)
    }

    /// The largest code not above `value + more` and the smallest not below it, if codes were without end and the scale
    /// positive; with a negative scale larger codes have smaller values.
    fn codes_around(&self, value: &Decimal, more: &Decimal) -> (BigInt, BigInt) {
        let Conversion { decimals, scale, offset } = self;
        let ten = |places: u8| signed_power_of_ten(places);
        let Exact { numerator, denominator, .. } = Exact::sum(value, more);
        let below = BigInt::from(denominator) * scale.digits;
        // (numerator / denominator / scale - offset) * 10^decimals
        let top =
            (numerator * ten(scale.places) * ten(offset.places) - offset.digits * &below) * ten(*decimals);
        let bottom = below * ten(offset.places);
        let (whole, rest) = (&top / &bottom, &top % &bottom);
        match rest.sign() {
            Sign::NoSign => (whole.clone(), whole),
            // It was rounded towards zero.
            sign if sign == bottom.sign() => (whole.clone(), whole + 1),
            _ => (&whole - 1, whole),
        }
    }

    /// (sum / 10^decimals + count * offset) * scale / below.
    fn linear(&self, sum: i128, count: u64, below: u64) -> Exact {
        let Conversion { decimals, scale, offset } = self;
        let sum = BigInt::from(sum) * signed_power_of_ten(offset.places);
        let offsets = BigInt::from(offset.digits) * count * signed_power_of_ten(*decimals);
        let places = *decimals as u32 + offset.places as u32 + scale.places as u32;
        Exact {
            numerator: (sum + offsets) * scale.digits,
            denominator: power_of_ten(places) * below,
            root: false,
        }
    }
}

impl Exact {
    /// The sum of two decimal numbers.
    pub fn sum(a: &Decimal, b: &Decimal) -> Exact {
        Exact {
            numerator: a.digits * signed_power_of_ten(b.places) + b.digits * signed_power_of_ten(a.places),
            denominator: power_of_ten(a.places as u32 + b.places as u32),
            root: false,
        }
    }

    /// The number with `digits` digits after the point, rounded once, half away from zero.
    pub fn text(&self, digits: u8) -> String {
        let magnitude = self.numerator.magnitude();
        let scaled = if self.root {
            // floor(sqrt(x) + 1/2) = floor((floor(sqrt(4 x)) + 1) / 2), and the inner floor of x does no harm.
            let four_x = magnitude * power_of_ten(2 * digits as u32) * 4u8 / &self.denominator;
            (four_x.sqrt() + 1u8) / 2u8
        } else {
            let twice = magnitude * power_of_ten(digits as u32) * 2u8;
            (twice + &self.denominator) / (&self.denominator * 2u8)
        };
        with_point(&scaled, self.numerator.sign() == Sign::Minus, digits)
    }
}

impl PartialEq<Decimal> for Exact {
    fn eq(&self, other: &Decimal) -> bool {
        self.partial_cmp(other) == Some(Ordering::Equal)
    }
}

/// Against a decimal number, exactly; a square root is not compared.
impl PartialOrd<Decimal> for Exact {
    fn partial_cmp(&self, other: &Decimal) -> Option<Ordering> {
        let ours = &self.numerator * signed_power_of_ten(other.places);
        let theirs = BigInt::from(self.denominator.clone()) * other.digits;
        (!self.root).then(|| ours.cmp(&theirs))
    }
}

/// The text of a value that may be absent.
pub fn text(value: Option<Exact>, digits: u8) -> String {
    value.map_or_else(|| ABSENT.to_owned(), |value| value.text(digits))
}

/// magnitude / 10^digits as text.
fn with_point(magnitude: &BigUint, negative: bool, digits: u8) -> String {
    let digits = digits as usize;
    let plain = format!("{magnitude:0>width$}", width = digits + 1, magnitude = magnitude.to_string());
    let (whole, rest) = plain.split_at(plain.len() - digits);
    let sign = if negative && magnitude.bits() > 0 { "-" } else { "" };
    let point = if digits > 0 { "." } else { "" };
    format!("{sign}{whole}{point}{rest}")
}

fn signed_power_of_ten(exponent: u8) -> BigInt {
    power_of_ten(exponent as u32).into()
}

fn power_of_ten(exponent: u32) -> BigUint {
    BigUint::from(10u8).pow(exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_become_codes_exactly() {
        let d = |text| Decimal::read(text).unwrap();
        let c = |decimals, scale, offset| Conversion::new(decimals, d(scale), d(offset));
        let thermometer = c(1, "1", "0");
        assert_eq!(thermometer.above(&d("80.55"), &d("2")), Limit::above(805, 785));
        assert_eq!(thermometer.above(&d("80.5"), &d("0")), Limit::above(805, 805));
        assert_eq!(thermometer.below(&d("-0.55"), &d("0.05")), Limit::below(-5, -5));
        assert_eq!(thermometer.below(&d("-0.5"), &d("0.01")), Limit::below(-5, -4));
        assert_eq!(thermometer.above(&d("-0.55"), &d("0.2")), Limit::above(-6, -8));
        assert_eq!(thermometer.below(&d("80.55"), &d("0.2")), Limit::below(806, 808));
        // Physical value = (code - 100) * -0.5: 10 and less are codes from 80 on.
        let falling = c(0, "-0.5", "-100");
        assert_eq!(falling.above(&d("10"), &d("0")), Limit::below(80, 80));
        assert_eq!(falling.above(&d("10.2"), &d("0.3")), Limit::below(80, 81));
        assert_eq!(falling.below(&d("10.2"), &d("0.3")), Limit::above(79, 79));
        assert_eq!(falling.below(&d("10"), &d("1")), Limit::above(80, 78));
        for (value, back) in [("300000000", "0"), ("-300000000", "0"), ("0", "300000000")] {
            assert_eq!(thermometer.above(&d(value), &d(back)), None, "{value} {back}");
        }
        assert_eq!(c(0, "1", "0").above(&d("2147483647"), &d("0")), None);
        assert_eq!(c(0, "1", "0").below(&d("-2147483648"), &d("0")), None);
        // 0.5 a second in steps of 0.02 are 25 codes a second.
        assert_eq!(c(0, "-0.02", "7").slope(&d("0.5")), Slope::new(25, 1));
        assert_eq!(c(3, "0.3", "0").slope(&d("1")), Slope::new(10_000, 3));
        assert_eq!(c(9, "0.123456789012345678901", "0").slope(&d("0.123456789012345678902")), None);
    }

    fn stats(values: &[i32]) -> Stats {
        let mut fold = crate::fold::Fold::new();
        for value in values {
            fold.fold(&crate::entry::Entry::sample(fold.n + 1, 1, 0, 0, *value)).unwrap();
        }
        fold.channel(0).copied().unwrap_or_default()
    }

    fn mean(values: &[i32], digits: u8, decimals: u8) -> String {
        text(Conversion::plain(decimals).mean(&stats(values)), digits)
    }

    fn deviation(values: &[i32], digits: u8, decimals: u8) -> String {
        text(Conversion::plain(decimals).deviation(&stats(values)), digits)
    }

    #[test]
    fn a_half_goes_away_from_zero() {
        assert_eq!(mean(&[1, 0], 0, 0), "1");
        assert_eq!(mean(&[-1, 0], 0, 0), "-1");
        assert_eq!(mean(&[125], 2, 3), "0.13");
        assert_eq!(mean(&[-125], 2, 3), "-0.13");
        assert_eq!(mean(&[124], 2, 3), "0.12");
        assert_eq!(mean(&[-1, 0, 0], 0, 0), "0");
        assert_eq!(mean(&[1, 1, 0], 5, 0), "0.66667");
        assert_eq!(mean(&[1, 1, 0], 0, 0), "1");
        assert_eq!(mean(&[i32::MIN, i32::MIN], 3, 0), "-2147483648.000");
    }

    #[test]
    fn deviation_is_right_to_its_last_digit() {
        assert_eq!(deviation(&[0, 1], 30, 0), "0.707106781186547524400844362105");
        assert_eq!(deviation(&[0, 1], 2, 0), "0.71");
        assert_eq!(deviation(&[0, 3, 6], 4, 0), "3.0000");
        assert_eq!(deviation(&[0, 3, 6], 4, 1), "0.3000");
        // The variance is 2.25: its root, 1.5, is a half.
        assert_eq!(deviation(&[0, 0, 0, 3], 0, 0), "2");
        assert_eq!(text(Conversion::plain(0).variance(&stats(&[0, 0, 0, 3])), 2), "2.25");
        assert_eq!(text(Conversion::plain(1).variance(&stats(&[0, 0, 0, 3])), 4), "0.0225");
        assert_eq!(deviation(&[i32::MIN, i32::MAX], 6, 0), "3037000499.268943");
    }

    #[test]
    fn too_few_samples_have_no_deviation() {
        assert_eq!(mean(&[], 3, 0), "-");
        assert_eq!(text(Conversion::plain(0).variance(&stats(&[7])), 3), "-");
        assert_eq!(deviation(&[7], 3, 0), "-");
        assert_eq!(deviation(&[7, 7], 3, 0), "0.000");
    }

    #[test]
    fn scale_and_offset_are_exact() {
        let row = |scale: &str, offset: &str| ChannelRow {
            scale: scale.into(),
            offset: offset.into(),
            decimals: 1,
            ..ChannelRow::default()
        };
        let stats = stats(&[10, 20, 60]); // 1.0, 2.0, 6.0
        let all = |c: Conversion| {
            let values = [c.sum(&stats), c.min(&stats), c.max(&stats), c.value(stats.last)];
            let [mean, deviation] = [c.mean(&stats), c.deviation(&stats)].map(|x| text(x, 3));
            (values.map(|x| c.text(&x, 6)).join(" "), mean, deviation)
        };
        assert_eq!(
            all(Conversion::of(&row("1", "0"))),
            ("9.0 1.0 6.0 6.0".into(), "3.000".into(), "2.646".into())
        );
        let iio = Conversion::of(&row("0.125", "-40"));
        assert_eq!(all(iio), ("-13.8750 -4.8750 -4.2500 -4.2500".into(), "-4.625".into(), "0.331".into()));
        // A negative scale turns smallest and largest around.
        let turned = Conversion::of(&row("-2", "0.25"));
        assert_eq!(all(turned), ("-19.50 -12.50 -2.50 -12.50".into(), "-6.500".into(), "5.292".into()));
        let fine = Conversion::of(&row("0.3333333333333", "0"));
        assert_eq!(fine.text(&fine.value(10), 6), "0.333333");
        assert_eq!(Conversion::plain(4).text(&Conversion::plain(4).value(20018), 0), "2.0018");
        assert_eq!(fine.difference(30, 2).text(4), "0.5000");
        // The offset counts for an average, and not for a rate.
        assert_eq!(iio.ewma((10 << 32) + (1 << 31)).text(8), iio.linear(21, 2, 2).text(8));
        assert_eq!(iio.rate(&Rate { change: -16, time_ns: 500_000_000 }).text(3), "-0.400");
        // What a damaged table holds does no harm.
        assert_eq!(Conversion::of(&row("x", "")), Conversion::plain(1));
    }

    #[test]
    fn comparisons_and_short_forms_are_exact() {
        let row = |decimals, scale: &str, offset: &str| {
            let (scale, offset) = (scale.into(), offset.into());
            Conversion::of(&ChannelRow { scale, offset, decimals, ..ChannelRow::default() })
        };
        let millivolts = row(0, "0.005", "-1024");
        let limit = |text| Decimal::read(text).unwrap();
        assert!(millivolts.value(1026) == limit("0.01") && millivolts.value(1026) > limit("0.009999999999"));
        assert!(
            millivolts.value(0) < limit("-5.1199999999999999999") && !(millivolts.value(0) < limit("-5.12"))
        );
        assert_eq!(millivolts.factor_and_addend(), Some((5, -5120)));
        assert_eq!(row(2, "-1", "0.5").factor_and_addend(), Some((-1, -50)));
        assert_eq!(row(0, "1", "0.25").factor_and_addend(), Some((100, 25)));
        assert_eq!(row(9, "0.123456789012345678901", "123456789012345678901").factor_and_addend(), None);
        assert!(millivolts.is_rising() && !row(0, "-2", "0").is_rising());
    }
}
