//! A line for machines: one JSON object a snapshot (README, "What is printed").
//!
//! Integers of at most 53 bits are numbers. All else is text, because many readers keep numbers as floats.
#![forbid(unsafe_code)]

use crate::line::{News, Numbers, Style};
use ipc_pipeline::snapshot::Row;
use serde_json::{Map, Value, json};

/// Largest integer up to which floats have all of them.
const EXACT_MAX: u64 = 1 << 53;

/// The snapshot in one line.
pub fn line(news: &News, style: &Style) -> String {
    let lost: Map<String, Value> =
        news.losses().into_iter().map(|(name, n, _)| (name.to_owned(), integer(n))).collect();
    let totals = news.snapshot.totals().map(|row| channel(news, row, style));
    json!({
        "seq": integer(news.snapshot.n),
        "epoch": news.snapshot.epoch,
        "coalesced": integer(news.coalesced),
        "at_risk": news.at_risk.map(integer),
        "lost": lost,
        "channels": totals.collect::<Vec<_>>(),
    })
    .to_string()
}

fn channel(news: &News, row: &Row, style: &Style) -> Value {
    let channel = style.channel(row);
    let windows = news.snapshot.windows(row.channel).map(|(row, of)| {
        let mut values = values(row, style);
        values.insert("window".to_owned(), of.window.to_string().into());
        values.insert("from".to_owned(), of.span.map(|(from, _)| integer(from)).into());
        values.insert("to".to_owned(), of.span.map(|(_, to)| integer(to)).into());
        Value::Object(values)
    });
    let windows: Vec<Value> = windows.collect();
    let mut values = values(row, style);
    let numbers = Numbers::exact(row, channel, style.digits);
    for (name, value) in [
        ("channel", row.channel.into()),
        ("name", channel.name.as_str().into()),
        ("unit", channel.unit.as_str().into()),
        ("ewma", decimal(&numbers.ewma)),
        ("rate", decimal(&numbers.rate)),
        ("alarm", row.alarms().into()),
        ("alarm_changes", integer(row.alarm.changes)),
        ("windows", windows.into()),
    ] {
        values.insert(name.to_owned(), value);
    }
    Value::Object(values)
}

/// What channels and windows have alike.
fn values(row: &Row, style: &Style) -> Map<String, Value> {
    let numbers = Numbers::exact(row, style.channel(row), style.digits);
    let percentiles: Map<String, Value> =
        numbers.percentiles.iter().map(|(p, value)| (p.to_string(), decimal(value))).collect();
    let pairs = [
        ("count", integer(row.stats.count)),
        ("sum", decimal(&numbers.sum)),
        ("mean", decimal(&numbers.mean)),
        ("stddev", decimal(&numbers.deviation)),
        ("min", decimal(&numbers.min)),
        ("max", decimal(&numbers.max)),
        ("first", decimal(&numbers.first)),
        ("last", decimal(&numbers.last)),
        ("percentiles", percentiles.into()),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn integer(n: u64) -> Value {
    if n <= EXACT_MAX { n.into() } else { n.to_string().into() }
}

/// A decimal number, or null.
fn decimal(text: &Option<String>) -> Value {
    let Some(text) = text else { return Value::Null };
    match text.parse::<i64>() {
        Ok(n) if n.unsigned_abs() <= EXACT_MAX => n.into(),
        _ => text.as_str().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::tests::{channel, news, settings, style};
    use ipc_pipeline::config::Format;
    use ipc_pipeline::settings::Settings;

    fn parsed(news: &News, style: &Style) -> Value {
        let line = line(news, style);
        assert!(!line.contains('\n'));
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value.to_string(), line, "it comes back as it went");
        value
    }

    #[test]
    fn all_values_come_back_exactly() {
        let channels =
            vec![channel("a \"b\"\\", "°C", 9, "0.000000000000000000001"), channel("raw", "", 0, "1")];
        let style = style(Format::Json, channels, &settings());
        let rows: Vec<[i32; 2]> = (0..61).map(|i| [i32::MIN + i, 5 - i]).collect();
        let rows: Vec<&[i32]> = rows.iter().map(|row| row.as_slice()).collect();
        let news = News { coalesced: 3, at_risk: None, ..news(&settings(), &rows, 2) };
        let all = parsed(&news, &style);
        assert_eq!(
            (&all["coalesced"], &all["at_risk"], &all["lost"]["missed"]),
            (&json!(3), &Value::Null, &json!(2))
        );
        assert_eq!((&all["seq"], &all["epoch"], &all["lost"]["bad"]), (&json!(124), &json!(1), &json!(0)));
        let [first, second] = all["channels"].as_array().unwrap().as_slice() else { panic!("{all}") };
        assert_eq!((&first["name"], &first["unit"]), (&json!("a \"b\"\\"), &json!("°C")));
        assert_eq!(first["min"], "-0.000000000000000000002147483648");
        assert_eq!(
            (&second["last"], &second["sum"], &second["rate"]),
            (&json!(-55), &json!(-1525), &json!("-1.000000"))
        );
        assert_eq!((&second["percentiles"]["50"], &second["percentiles"]["99.9"]), (&json!(-25), &json!(5)));
        let window = &second["windows"][0];
        assert_eq!(
            (&window["window"], &window["to"], &window["count"]),
            (&json!("1min"), &json!(60_000_000_000u64), &json!(60))
        );
        assert_eq!(window["mean"], "-24.500000");
    }

    #[test]
    fn more_than_53_bits_are_text() {
        assert_eq!(decimal(&Some("9007199254740992".into())), json!(9_007_199_254_740_992u64));
        assert_eq!(decimal(&Some("-9007199254740993".into())), json!("-9007199254740993"));
        assert_eq!(
            decimal(&Some("170141183460469231731687303715884105727".into())),
            json!("170141183460469231731687303715884105727")
        );
        assert_eq!(
            (integer(1 << 53), integer((1 << 53) + 1)),
            (json!(1u64 << 53), json!("9007199254740993"))
        );
        assert_eq!((decimal(&Some("2.0".into())), decimal(&None)), (json!("2.0"), Value::Null));
    }

    #[test]
    fn without_a_sample_there_is_no_channel() {
        let nothing = Settings::default();
        let value =
            parsed(&news(&nothing, &[], 0), &style(Format::Json, vec![channel("v", "", 0, "1")], &nothing));
        assert_eq!((&value["channels"], &value["at_risk"]), (&json!([]), &json!(0)));
    }
}
