//! Decimal text to integer codes and back, exactly: no float takes part.
#![forbid(unsafe_code)]

/// Most digits after the point that a code can stand for.
pub const DECIMALS_MAX: u8 = 9;

/// Why a text is no code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// Nothing there.
    #[error("there is no number")]
    Empty,
    /// Not a decimal number.
    #[error("this is no decimal number")]
    Garbage,
    /// Digits other than zero behind the last place that counts.
    #[error("the number has more than {0} digits after the point (`decimals = {0}`)")]
    TooFine(u8),
    /// The code would not fit.
    #[error("the number is out of range: with `decimals = {0}` the code does not fit 32 bits")]
    OutOfRange(u8),
}

/// The number in `text` times 10^`decimals`, as code: `2.0018` with 4 is 20018.
///
/// Accepted: an optional sign, digits with an optional point before, between or after them, an optional
/// exponent (`2.5E-1`), all ASCII and without blanks. The result is exact or an error; zeros behind the last
/// place that counts do no harm.
///
/// ```
/// use ipc_pipeline::decimal::{DecimalError, parse};
/// assert_eq!(parse("2.0018", 4), Ok(20018));
/// assert_eq!(parse("1e3", 0), Ok(1000));
/// assert_eq!(parse("0.5", 0), Err(DecimalError::TooFine(0)));
/// ```
pub fn parse(text: &str, decimals: u8) -> Result<i32, DecimalError> {
    if text.is_empty() {
        return Err(DecimalError::Empty);
    }
    let number = Number::split(text).ok_or(DecimalError::Garbage)?;
    let (magnitude, rest) = number.scaled(decimals.into());
    if rest != Rest::None {
        return Err(DecimalError::TooFine(decimals));
    }
    number.code(magnitude).ok_or(DecimalError::OutOfRange(decimals))
}

/// The number in `text` times 10^(`decimals` + `power`), as code, rounded to the nearest; halves go away from zero.
///
/// For readings, whose further digits are noise: what [`parse`] accepts is accepted.
///
/// ```
/// use ipc_pipeline::decimal::parse_rounded;
/// assert_eq!(parse_rounded("-0.125", 2, 0), Ok(-13));
/// assert_eq!(parse_rounded("45499", 1, -3), Ok(455)); // thousandths of a degree
/// ```
pub fn parse_rounded(text: &str, decimals: u8, power: i8) -> Result<i32, DecimalError> {
    if text.is_empty() {
        return Err(DecimalError::Empty);
    }
    let number = Number::split(text).ok_or(DecimalError::Garbage)?;
    let (magnitude, rest) = number.scaled(i64::from(decimals) + i64::from(power));
    let magnitude = magnitude.saturating_add((rest == Rest::HalfOrMore).into());
    number.code(magnitude).ok_or(DecimalError::OutOfRange(decimals))
}

/// What stands behind the last place that counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    None,
    LessThanHalf,
    HalfOrMore,
}

/// Most digits of a [`Decimal`], and most of them after the point: it is an exact i128 and fits 24 bytes of text.
const DIGITS_MAX: usize = 21;

/// A decimal number, exactly: `digits` / 10^`places`. The digits never end in a zero that stands behind the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal {
    /// All its digits as one number.
    pub digits: i128,
    /// So many of them stand behind the point, 0..=21.
    pub places: u8,
}

impl Decimal {
    /// 0.
    pub const ZERO: Decimal = Decimal { digits: 0, places: 0 };
    /// 1.
    pub const ONE: Decimal = Decimal { digits: 1, places: 0 };

    /// The number in `text`, written as [`parse`] accepts it; `None` if it is none, or has more than 21 digits.
    ///
    /// ```
    /// use ipc_pipeline::decimal::Decimal;
    /// assert_eq!(Decimal::read("-0.00250"), Some(Decimal { digits: -25, places: 4 }));
    /// assert_eq!(Decimal::read("2e3").unwrap().to_string(), "2000");
    /// ```
    pub fn read(text: &str) -> Option<Decimal> {
        let number = Number::split(text)?;
        let all = format!("{}{}", number.whole, number.fraction);
        let mut places = i64::try_from(number.fraction.len()).ok()?.checked_sub(number.exponent)?;
        let mut digits = all.trim_start_matches('0').to_owned();
        while places > 0 && digits.ends_with('0') {
            digits.pop();
            places -= 1;
        }
        if digits.is_empty() {
            return Some(Decimal::ZERO);
        }
        let zeros = usize::try_from(-places).unwrap_or(0);
        let places = u8::try_from(places.max(0)).ok().filter(|places| *places as usize <= DIGITS_MAX)?;
        if digits.len().saturating_add(zeros) > DIGITS_MAX {
            return None;
        }
        digits.extend(std::iter::repeat_n('0', zeros));
        let magnitude: i128 = digits.parse().ok()?;
        Some(Decimal { digits: if number.negative { -magnitude } else { magnitude }, places })
    }
}

impl std::fmt::Display for Decimal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&format_scaled(self.digits, self.places))
    }
}

/// A decimal number in its parts: `negative`, `whole.fraction` times 10^`exponent`.
struct Number<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    exponent: i64,
}

impl<'a> Number<'a> {
    fn split(text: &'a str) -> Option<Number<'a>> {
        let (negative, text) = split_sign(text);
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let some_digit = !(whole.is_empty() && fraction.is_empty());
        (some_digit && all_digits(whole) && all_digits(fraction)).then_some(Number {
            negative,
            whole,
            fraction,
            exponent,
        })
    }

    /// The magnitude times 10^power, and what is left behind; above 32 bits it only stays above 32 bits.
    fn scaled(&self, power: i64) -> (i64, Rest) {
        let len = |digits: &str| i64::try_from(digits.len()).unwrap_or(i64::MAX);
        let digits = self.whole.bytes().chain(self.fraction.bytes()).map(|b| i64::from(b - b'0'));
        // The first `kept` digits form the code; where there are fewer, zeros follow.
        let kept = len(self.whole).saturating_add(self.exponent).saturating_add(power);
        let (mut code, mut rest) = (0i64, Rest::None);
        for (digit, place) in digits.zip(0i64..) {
            if place < kept {
                code = code.saturating_mul(10).saturating_add(digit);
            } else if place == kept && digit >= 5 {
                rest = Rest::HalfOrMore;
            } else if digit != 0 && rest == Rest::None {
                rest = Rest::LessThanHalf;
            }
        }
        let zeros = kept.saturating_sub(len(self.whole).saturating_add(len(self.fraction)));
        // 20 zeros take every code but 0 out of range, so more need not be appended.
        for _ in 0..zeros.clamp(0, 20) {
            code = code.saturating_mul(10);
        }
        (code, rest)
    }

    /// This magnitude with the number's sign, if it fits.
    fn code(&self, magnitude: i64) -> Option<i32> {
        i32::try_from(if self.negative { -magnitude } else { magnitude }).ok()
    }
}

fn split_sign(text: &str) -> (bool, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

/// The exponent; one beyond 18 digits is as good as endless, so it saturates.
fn parse_exponent(text: &str) -> Option<i64> {
    let (negative, digits) = split_sign(text);
    if digits.is_empty() || !all_digits(digits) {
        return None;
    }
    let magnitude = digits.parse().unwrap_or(i64::MAX);
    Some(if negative { -magnitude } else { magnitude })
}

fn all_digits(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

/// `value` / 10^`decimals` as text with exactly that many digits after the point: -18 with 4 is `-0.0018`.
pub fn format_scaled(value: i128, decimals: u8) -> String {
    let places = usize::from(decimals);
    let mut text = format!("{:0width$}", value.unsigned_abs(), width = places + 1);
    if places > 0 {
        text.insert(text.len() - places, '.');
    }
    if value < 0 {
        text.insert(0, '-');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_bigint::BigInt;
    use proptest::prelude::*;

    #[test]
    fn exact_numbers() {
        let cases = [
            ("0", 0, 0),
            ("-0", 0, 0),
            ("-0.000", 2, 0),
            ("2.0018", 4, 20018),
            ("+2.0018", 4, 20018),
            ("-2.0018", 4, -20018),
            ("2.00180000", 4, 20018),
            ("002.0018", 4, 20018),
            ("7", 4, 70000),
            ("7.", 1, 70),
            (".5", 1, 5),
            ("1e3", 0, 1000),
            ("2.5E-1", 2, 25),
            ("2.5e+1", 0, 25),
            ("1500e-2", 0, 15),
            ("0e999999999999999999999", 0, 0),
            ("0.0e-999999999999999999999", 9, 0),
            ("2147483647", 0, i32::MAX),
            ("-2147483648", 0, i32::MIN),
            ("-2.147483648", 9, i32::MIN),
        ];
        for (text, decimals, code) in cases {
            assert_eq!(parse(text, decimals), Ok(code), "{text} with {decimals}");
        }
    }

    #[test]
    fn what_is_not_exact_is_refused() {
        use DecimalError::*;
        let cases = [
            ("", 0, Empty),
            ("2.00185", 4, TooFine(4)),
            ("1e-1", 0, TooFine(0)),
            ("1e-99999999999999999999", 9, TooFine(9)),
            ("2147483648", 0, OutOfRange(0)),
            ("-2147483649", 0, OutOfRange(0)),
            ("2.147483648", 9, OutOfRange(9)),
            ("1e10", 0, OutOfRange(0)),
            ("1e99999999999999999999", 0, OutOfRange(0)),
            ("99999999999999999999999999", 0, OutOfRange(0)),
        ];
        for (text, decimals, error) in cases {
            assert_eq!(parse(text, decimals), Err(error), "{text} with {decimals}");
        }
        for text in [
            " ", " 1", "1 ", ".", "-", "+", "--1", "+-1", "1.2.3", "1e", "e5", "1e+", "1e1.5", "1e2e3",
            "0x10", "1_000", "1,5", "nan", "inf", "٣", "1\0", "1\r",
        ] {
            assert_eq!(parse(text, 3), Err(Garbage), "{text:?}");
        }
    }

    #[test]
    fn readings_are_rounded_half_away_from_zero() {
        let cases = [
            ("0.125", 2, 0, 13),
            ("-0.125", 2, 0, -13),
            ("0.1249999999999999999999999", 2, 0, 12),
            ("45499", 1, -3, 455),
            ("45449.9", 1, -3, 454),
            ("4", 0, -1, 0),
            ("5", 0, -1, 1),
            ("5", 0, -2, 0),
            ("99.5", 0, 0, 100),
            ("1e-300", 9, 0, 0),
            ("2147483647.4", 0, 0, i32::MAX),
            ("-2147483648.4", 0, 0, i32::MIN),
        ];
        for (text, decimals, power, code) in cases {
            assert_eq!(parse_rounded(text, decimals, power), Ok(code), "{text} with {decimals} {power}");
        }
        assert_eq!(parse_rounded("2147483647.5", 0, 0), Err(DecimalError::OutOfRange(0)));
        assert_eq!(parse_rounded("", 0, 0), Err(DecimalError::Empty));
        assert_eq!(parse_rounded("N/A", 0, 0), Err(DecimalError::Garbage));
    }

    #[test]
    fn scaled_text() {
        let cases = [
            (0, 0, "0"),
            (0, 2, "0.00"),
            (20018, 4, "2.0018"),
            (-18, 4, "-0.0018"),
            (-5, 0, "-5"),
            (i128::MIN, 0, "-170141183460469231731687303715884105728"),
            (i128::MAX, 38, "1.70141183460469231731687303715884105727"),
        ];
        for (value, decimals, text) in cases {
            assert_eq!(format_scaled(value, decimals), text);
        }
    }

    /// The same by big integers: digits without point, times 10^exponent, compared by multiplication only.
    fn reference(negative: bool, whole: &str, fraction: &str, exponent: i32, decimals: u8) -> Option<i32> {
        let mut top: BigInt = format!("0{whole}{fraction}").parse().unwrap();
        let mut bottom = BigInt::from(10u8).pow(fraction.len() as u32);
        let shift = exponent + i32::from(decimals);
        let factor = BigInt::from(10u8).pow(shift.unsigned_abs());
        if shift < 0 {
            bottom *= factor
        } else {
            top *= factor
        }
        if negative {
            top = -top;
        }
        let code = &top / &bottom;
        if &code * &bottom != top { None } else { i32::try_from(code).ok() }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn agrees_with_big_integers(
            negative: bool, whole in "[0-9]{1,12}", fraction in "[0-9]{0,6}0{0,6}",
            exponent in -14i32..14, decimals in 0u8..=9,
        ) {
            let sign = if negative { "-" } else { "" };
            let text = format!("{sign}{whole}.{fraction}e{exponent}");
            let wanted = reference(negative, &whole, &fraction, exponent, decimals);
            prop_assert_eq!(parse(&text, decimals).ok(), wanted, "{}", text);
        }

        #[test]
        fn rounding_agrees_with_big_integers(
            digits in 0i64..1_000_000_000_000, places in 0u8..12, decimals in 0u8..=4, negative: bool,
        ) {
            let text = format!("{}{}", if negative { "-" } else { "" }, format_scaled(digits.into(), places));
            // floor(x + 1/2) of the magnitude, over the common denominator 2 * 10^places
            let bottom = 2 * 10i128.pow(places.into());
            let top = 2 * i128::from(digits) * 10i128.pow(decimals.into()) + bottom / 2;
            let magnitude = top / bottom;
            let wanted = i32::try_from(if negative { -magnitude } else { magnitude }).ok();
            prop_assert_eq!(parse_rounded(&text, decimals, 0).ok(), wanted, "{}", text);
        }

        #[test]
        fn every_code_comes_back(code: i32, decimals in 0u8..=9) {
            prop_assert_eq!(parse(&format_scaled(code.into(), decimals), decimals), Ok(code));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,12}|[-+0-9.eE]{0,24}", decimals in 0u8..=9) {
            let _ = parse(&text, decimals);
        }
    }
}
