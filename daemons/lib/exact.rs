//! Mean, variance and standard deviation as exact decimals, from the integers of [`Stats`].
//!
//! There is one rounding, at the last digit that is printed, and one rule: to the nearest, and a half goes away from
//! zero (0.125 becomes 0.13, -0.125 becomes -0.13). What rounds to zero has no sign. The last digit is right for the
//! standard deviation too. The rule is the same for every number of digits, so a longer print never contradicts.
#![forbid(unsafe_code)]

pub use crate::decimal::format_scaled as decimal;
use crate::fold::Stats;
use num_bigint::{BigInt, BigUint, Sign};

/// What is printed for a value that does not exist.
pub const ABSENT: &str = "-";

/// An exact number: a fraction, or the square root of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exact {
    numerator: BigInt,
    denominator: BigUint,
    root: bool,
}

impl Stats {
    /// sum / count, in units of 10^-decimals of the raw code; `None` without a sample.
    pub fn mean(&self, decimals: u8) -> Option<Exact> {
        let denominator = BigUint::from(self.count) * power_of_ten(decimals as u32);
        (self.count > 0).then(|| Exact { numerator: self.sum.into(), denominator, root: false })
    }

    /// Variance of the samples, (count * sum of squares - sum^2) / (count * (count - 1)), in squared units of
    /// 10^-decimals of the raw code; `None` with fewer than two samples.
    pub fn variance(&self, decimals: u8) -> Option<Exact> {
        let fewer = self.count.checked_sub(1).filter(|fewer| *fewer > 0)?;
        let numerator = BigInt::from(self.sum_squares) * self.count - BigInt::from(self.sum).pow(2);
        let denominator = BigUint::from(self.count) * fewer * power_of_ten(2 * decimals as u32);
        Some(Exact { numerator, denominator, root: false })
    }

    /// Standard deviation of the samples, the square root of [`Stats::variance`]; `None` with fewer than two samples.
    pub fn deviation(&self, decimals: u8) -> Option<Exact> {
        self.variance(decimals).map(|variance| Exact { root: true, ..variance })
    }
}

impl Exact {
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

fn power_of_ten(exponent: u32) -> BigUint {
    BigUint::from(10u8).pow(exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(values: &[i32]) -> Stats {
        let mut fold = crate::fold::Fold::new();
        for value in values {
            fold.fold(&crate::entry::Entry::sample(fold.n + 1, 1, 0, 0, *value)).unwrap();
        }
        fold.channel(0).copied().unwrap_or_default()
    }

    fn mean(values: &[i32], digits: u8, decimals: u8) -> String {
        text(stats(values).mean(decimals), digits)
    }

    fn deviation(values: &[i32], digits: u8, decimals: u8) -> String {
        text(stats(values).deviation(decimals), digits)
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
        assert_eq!(text(stats(&[0, 0, 0, 3]).variance(0), 2), "2.25");
        assert_eq!(text(stats(&[0, 0, 0, 3]).variance(1), 4), "0.0225");
        assert_eq!(deviation(&[i32::MIN, i32::MAX], 6, 0), "3037000499.268943");
    }

    #[test]
    fn too_few_samples_have_no_deviation() {
        assert_eq!(mean(&[], 3, 0), "-");
        assert_eq!(text(stats(&[7]).variance(0), 3), "-");
        assert_eq!(deviation(&[7], 3, 0), "-");
        assert_eq!(deviation(&[7, 7], 3, 0), "0.000");
    }
}
