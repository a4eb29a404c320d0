//! Samples as text: one line each, the same bytes for the same sample wherever it is written.
//!
//! Values are physical ones, exactly, with all their digits; or the raw codes. The time is that of day in UTC, as RFC 3339
//! with nanoseconds.
#![forbid(unsafe_code)]

use crate::entry::Entry;
use crate::exact::Conversion;
use crate::header::ChannelRow;
use jiff::Timestamp;
use jiff::tz::TimeZone;

const NS: i128 = 1_000_000_000;
/// Length of `2026-01-31T23:59:59`.
const SECOND_LEN: usize = 19;
/// With more places than this a value may not fit 64 bits.
const PLACES_MAX: u8 = 18;
/// What stands before the seq at the end of a line for people.
const SEQ_MARK: &str = "#";
/// Values in lines for people are right-aligned in so many columns.
const VALUE_WIDTH: usize = 10;

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `seq,time,channel,value`; the time is empty where it is not known.
    Csv,
    /// A JSON object with these and the channel's name and unit; the time is null where it is not known.
    Jsonl,
    /// For people: `time channel value unit #seq`, aligned; the time is `-` where it is not known.
    People,
}

/// Writes samples as lines.
pub struct Lines {
    form: Form,
    raw: bool,
    columns: Vec<Column>,
    second: Second,
}

/// What is the same in all lines of a channel.
struct Column {
    /// What stands before and behind the value.
    before: String,
    after: String,
    value: Value,
}

/// How the codes of a channel become text.
struct Value {
    conversion: Conversion,
    places: u8,
    /// The short way: see [`Conversion::factor_and_addend`].
    factor_and_addend: Option<(i64, i64)>,
}

/// The text of a whole second, made once and used for all samples in it.
struct Second {
    begin_ns: i128,
    text: Option<[u8; SECOND_LEN]>,
}

impl Lines {
    /// Lines of this form; `raw`: with codes in the place of physical values.
    pub fn new(form: Form, raw: bool, channels: &[ChannelRow]) -> Lines {
        let width = channels.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
        // A damaged table may have fewer rows than the entries have channels.
        let rows = (0..crate::entry::MAX_CHANNELS).map(|i| channels.get(i).cloned().unwrap_or_default());
        let columns = rows.enumerate().map(|(i, row)| Column::new(form, raw, i, &row, width)).collect();
        Lines { form, raw, columns, second: Second { begin_ns: i128::MIN, text: None } }
    }

    /// The line before the first one; empty if the form has none.
    pub fn heading(&self) -> &'static str {
        match (self.form, self.raw) {
            (Form::Csv, false) => "seq,time,channel,value\n",
            (Form::Csv, true) => "seq,time,channel,code\n",
            _ => "",
        }
    }

    /// Appends the line of a sample taken at `wall_ns`, ns since 1970.
    #[inline]
    pub fn put(&mut self, text: &mut Vec<u8>, sample: &Entry, wall_ns: Option<i128>) {
        let Some(column) = self.columns.get(sample.channel as usize) else { return };
        let time =
            wall_ns.and_then(|wall_ns| Some((self.second.of(wall_ns)?, wall_ns - self.second.begin_ns)));
        match self.form {
            Form::Csv => {
                put_number(text, sample.seq, 1);
                text.push(b',');
                put_time(text, time, "", "");
            }
            Form::Jsonl => {
                text.extend_from_slice(b"{\"seq\":");
                put_number(text, sample.seq, 1);
                text.extend_from_slice(b",\"time\":");
                put_time(text, time, "\"", "null");
            }
            Form::People => put_time(text, time, "", "-"),
        }
        text.extend_from_slice(column.before.as_bytes());
        let begin = text.len();
        column.value.put(text, sample.value);
        if self.form == Form::People {
            let blanks = VALUE_WIDTH.saturating_sub(text.len() - begin);
            text.splice(begin..begin, std::iter::repeat_n(b' ', blanks));
        }
        text.extend_from_slice(column.after.as_bytes());
        if self.form == Form::People {
            put_number(text, sample.seq, 1);
            text.push(b'\n');
        }
    }
}

/// So many of something: `1 epoch`, `2 epochs`.
pub fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// The seq of a line of the form [`Form::People`], without its end of line.
pub fn seq_of(line: &str) -> Option<u64> {
    line.rsplit_once(SEQ_MARK)?.1.parse().ok()
}

impl Column {
    fn new(form: Form, raw: bool, channel: usize, row: &ChannelRow, width: usize) -> Column {
        let conversion = if raw { Conversion::plain(0) } else { Conversion::of(row) };
        let value = Value::new(conversion);
        let (name, unit) = (&row.name, if raw { "" } else { &row.unit });
        let (before, after) = match form {
            Form::Csv => (format!(",{channel},"), "\n".into()),
            Form::Jsonl => {
                let [name, unit] = [name, unit].map(|text| serde_json::Value::from(text).to_string());
                let (key, unit) =
                    if raw { ("code", String::new()) } else { ("value", format!(",\"unit\":{unit}")) };
                (format!(",\"channel\":{channel},\"name\":{name},\"{key}\":"), format!("{unit}}}\n"))
            }
            Form::People => {
                let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
                (format!("  {name:<width$}  "), format!("{unit}  {SEQ_MARK}"))
            }
        };
        Column { before, after, value }
    }
}

impl Value {
    fn new(conversion: Conversion) -> Value {
        let places = conversion.places();
        let short = conversion.factor_and_addend().filter(|_| places <= PLACES_MAX);
        Value { conversion, places, factor_and_addend: short }
    }

    #[inline]
    fn put(&self, text: &mut Vec<u8>, code: i32) {
        let short = self.factor_and_addend;
        match short.and_then(|(factor, addend)| i64::from(code).checked_mul(factor)?.checked_add(addend)) {
            Some(number) => put_scaled(text, number, self.places),
            None => text.extend_from_slice(self.conversion.value(code).text(self.places).as_bytes()),
        }
    }
}

impl Second {
    /// The text of the second that this instant lies in; `None` if its year is not one of 0 to 9999.
    #[inline]
    fn of(&mut self, wall_ns: i128) -> Option<[u8; SECOND_LEN]> {
        if !(0..NS).contains(&wall_ns.wrapping_sub(self.begin_ns)) {
            let second = wall_ns.div_euclid(NS);
            *self = Second {
                begin_ns: wall_ns.saturating_sub(wall_ns.rem_euclid(NS)),
                text: second_text(second),
            };
        }
        self.text
    }
}

/// The time of day in UTC at `wall_ns`, ns since 1970, as in the lines of samples; `None` if its year is not one of 0 to 9999.
pub fn time_text(wall_ns: i128) -> Option<String> {
    let second = second_text(wall_ns.div_euclid(NS))?;
    let mut text = Vec::new();
    put_time(&mut text, Some((second, wall_ns.rem_euclid(NS))), "", "");
    String::from_utf8(text).ok()
}

fn second_text(second: i128) -> Option<[u8; SECOND_LEN]> {
    let second = i64::try_from(second).ok()?;
    let time = Timestamp::from_second(second).ok()?.to_zoned(TimeZone::UTC).datetime();
    time.to_string().as_bytes().try_into().ok()
}

#[inline]
fn put_time(text: &mut Vec<u8>, time: Option<([u8; SECOND_LEN], i128)>, quote: &str, unknown: &str) {
    let Some((second, ns)) = time else { return text.extend_from_slice(unknown.as_bytes()) };
    text.extend_from_slice(quote.as_bytes());
    text.extend_from_slice(&second);
    text.push(b'.');
    put_number(text, ns as u64, 9);
    text.push(b'Z');
    text.extend_from_slice(quote.as_bytes());
}

/// `number` with at least `width` digits, 20 at most.
#[inline]
fn put_number(text: &mut Vec<u8>, mut number: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut begin = digits.len();
    for (i, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        begin = i;
        if number == 0 {
            break;
        }
    }
    begin = begin.min(digits.len().saturating_sub(width));
    text.extend_from_slice(digits.get(begin..).unwrap_or_default());
}

/// number / 10^places with exactly that many digits after the point; at most 18.
#[inline]
fn put_scaled(text: &mut Vec<u8>, number: i64, places: u8) {
    if number < 0 {
        text.push(b'-');
    }
    put_number(text, number.unsigned_abs(), places as usize + 1);
    if places > 0 {
        text.insert(text.len() - places as usize, b'.');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(decimals: u8, scale: &str, offset: &str) -> ChannelRow {
        let [name, unit, scale, offset] = ["a \"b\"", "mV", scale, offset].map(str::to_owned);
        ChannelRow { name, unit, scale, offset, decimals }
    }

    fn line(form: Form, raw: bool, channels: &[ChannelRow], sample: Entry, wall_ns: Option<i128>) -> String {
        let mut text = Vec::new();
        Lines::new(form, raw, channels).put(&mut text, &sample, wall_ns);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn the_forms() {
        let (rows, sample) = ([row(0, "0.005", "-1024")], Entry::sample(7, 1, 0, 0, 975));
        let shown = |form, raw, wall| line(form, raw, &rows, sample, wall);
        let wall = Some(1_700_000_000_999_000_001);
        assert_eq!(shown(Form::Csv, false, wall), "7,2023-11-14T22:13:20.999000001Z,0,-0.245\n");
        assert_eq!(shown(Form::Csv, true, None), "7,,0,975\n");
        assert_eq!(
            shown(Form::Jsonl, false, wall),
            "{\"seq\":7,\"time\":\"2023-11-14T22:13:20.999000001Z\",\"channel\":0,\"name\":\"a \\\"b\\\"\",\
             \"value\":-0.245,\"unit\":\"mV\"}\n"
        );
        assert_eq!(
            shown(Form::Jsonl, true, None),
            "{\"seq\":7,\"time\":null,\"channel\":0,\"name\":\"a \\\"b\\\"\",\"code\":975}\n"
        );
        let people = shown(Form::People, false, wall);
        assert_eq!(people, "2023-11-14T22:13:20.999000001Z  a \"b\"      -0.245 mV  #7\n");
        assert_eq!(seq_of(people.trim_end()), Some(7));
        assert_eq!(shown(Form::People, true, None), "-  a \"b\"         975  #7\n");
        assert_eq!([seq_of(""), seq_of("# x"), seq_of("#7 ")], [None; 3]);
    }

    #[test]
    fn values_are_exact_the_short_and_the_long_way() {
        for (decimals, scale, offset) in [
            (0, "1", "0"),
            (9, "1", "0"),
            (4, "-2.5", "0.125"),
            (9, "0.000000001", "0"),
            (9, "0.0000000001", "0"),
            (0, "123456789012345678901", "0"),
            (0, "9000000000", "0"),
            (0, "1", "9223372036854775807"),
            (3, "0.3333333333333", "-12345678901234567890"),
        ] {
            let conversion = Conversion::of(&row(decimals, scale, offset));
            for code in [0, 1, -1, 7, i32::MAX, i32::MIN] {
                let mut text = Vec::new();
                Value::new(conversion).put(&mut text, code);
                let long = conversion.value(code).text(conversion.places());
                assert_eq!(String::from_utf8(text).unwrap(), long, "{decimals} {scale} {offset} {code}");
            }
        }
    }

    #[test]
    fn times_of_any_size() {
        let sample = |wall| line(Form::Csv, false, &[], Entry::sample(u64::MAX, 1, 1, 31, 5), Some(wall));
        assert_eq!(sample(-1), "18446744073709551615,1969-12-31T23:59:59.999999999Z,31,5\n");
        assert_eq!(sample(0), "18446744073709551615,1970-01-01T00:00:00.000000000Z,31,5\n");
        // A year that RFC 3339 cannot say.
        for wall in [i128::MAX, i128::MIN, -100_000_000_000 * NS, 400_000_000_000 * NS] {
            assert_eq!(sample(wall), "18446744073709551615,,31,5\n");
            assert_eq!(time_text(wall), None);
        }
        assert_eq!(time_text(-1).as_deref(), Some("1969-12-31T23:59:59.999999999Z"));
        let mut second = Second { begin_ns: i128::MIN, text: None };
        for wall in [5, NS - 1, NS, NS + 7, 3, -1] {
            let fresh = second_text(wall.div_euclid(NS));
            assert_eq!((second.of(wall), second.begin_ns), (fresh, wall.div_euclid(NS) * NS), "{wall}");
        }
    }
}
