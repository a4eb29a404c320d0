//! Moments on the command line: a time of day, or so long ago.
#![forbid(unsafe_code)]

use ipc_pipeline::config;
use ipc_pipeline::sys;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// What is allowed, in words.
pub const FORMS: &str =
    "a time such as 2026-11-21T12:00:00Z, a day such as 2026-11-21 (UTC), or 10min for so long ago";

/// The moment in ns since 1970: RFC 3339, a civil time in UTC, or a duration before now.
///
/// # Errors
/// A sentence that says what is allowed.
pub fn parse(text: &str) -> Result<i128, String> {
    if let Some(ago) = config::duration(text) {
        return Ok(i128::from(sys::wall_ns()) - ago.as_nanos() as i128);
    }
    let utc = |time: DateTime| time.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    let moment = text.parse::<Timestamp>().ok().or_else(|| utc(text.parse().ok()?));
    moment.map(Timestamp::as_nanosecond).ok_or_else(|| format!("allowed: {FORMS}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        for same in [
            "2023-11-14T22:13:20Z",
            "2023-11-14T23:13:20+01:00",
            "2023-11-14T22:13:20",
            "2023-11-14 22:13:20",
        ] {
            assert_eq!(parse(same), Ok(1_700_000_000_000_000_000), "{same}");
        }
        assert_eq!(parse("1970-01-02"), Ok(86_400_000_000_000));
        assert_eq!(parse("1969-12-31T23:59:59.999999999Z"), Ok(-1));
        let now = i128::from(sys::wall_ns());
        assert!((now - parse("10min").unwrap() - 600_000_000_000).abs() < 60_000_000_000);
        for wrong in ["", "yesterday", "2023-13-01", "10", "-5s"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
