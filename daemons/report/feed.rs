//! Lines for the journal: each is a message with its numbers as fields, so that `journalctl -u ipc-report -o json` is a feed
//! of data.
#![forbid(unsafe_code)]

use std::io;

use ipc_pipeline::journal::{Fields, Journal};
use ipc_pipeline::messages::Message;
use ipc_pipeline::names::Role;
use ipc_pipeline::snapshot::Row;

use crate::line::{News, Numbers, Style};

/// Lines a second on average: journald drops what is more than 10,000 messages of a service in 30 s, and alarms and all
/// else need room beside them.
const LINES_MAX: u64 = 300;
/// Messages about alarms a second on average.
const ALARMS_MAX: u64 = 20;
/// Priority of a line: normal life.
const INFO: u8 = 6;

/// How many lines, and messages about alarms, a second there may be if `configured` lines are wished for.
pub fn rates(configured: u64, into_journal: bool) -> [u64; 2] {
    if into_journal { [configured.min(LINES_MAX), configured.min(ALARMS_MAX)] } else { [configured; 2] }
}

/// The way of lines into the journal.
pub struct Feed(Journal);

impl Feed {
    /// If standard output leads into the journal.
    pub fn start() -> Option<Feed> {
        Journal::behind(io::stdout(), Role::Report.program()).map(Feed)
    }

    /// Sends what a print says; how many messages that took.
    pub fn send(&self, news: &News, style: &Style) -> usize {
        let parts = style.parts(news);
        for (row, text) in &parts {
            let mut message = self.0.message(INFO, Some(Message::Line), text);
            add_news(&mut message, news);
            if let Some(row) = row {
                add_row(&mut message, row, style);
            }
            self.0.send(&message);
        }
        parts.len()
    }
}

/// What is said of the whole record.
fn add_news(message: &mut Fields, news: &News) {
    let lost: u128 = news.losses().iter().map(|(_, n, _)| u128::from(*n)).sum();
    message.own("SEQ", &news.snapshot.n.to_string());
    message.own("EPOCH", &news.snapshot.epoch.to_string());
    message.own("LOST", &lost.to_string());
    message.own("COALESCED", &news.coalesced.to_string());
    if let Some(at_risk) = news.at_risk {
        message.own("AT_RISK", &at_risk.to_string());
    }
}

/// The numbers of a channel, or of one of its windows, with all their digits. What has no value has no field.
fn add_row(message: &mut Fields, row: &Row, style: &Style) {
    let channel = style.channel(row);
    let Numbers { sum, mean, deviation, min, max, first, last, .. } =
        Numbers::exact(row, channel, style.digits);
    let window = row.window.map(|of| of.window.to_string());
    let (from, to) = row.window.and_then(|of| of.span).unzip();
    for (name, value) in [
        ("CHANNEL", Some(channel.name.clone())),
        ("UNIT", Some(channel.unit.clone())),
        ("WINDOW", window),
        ("FROM", from.map(|ns| ns.to_string())),
        ("TO", to.map(|ns| ns.to_string())),
        ("COUNT", Some(row.stats.count.to_string())),
        ("SUM", sum),
        ("MEAN", mean),
        ("STDDEV", deviation),
        ("MIN", min),
        ("MAX", max),
        ("FIRST", first),
        ("LAST", last),
        ("ALARM", row.window.is_none().then(|| row.alarms())),
    ] {
        if let Some(value) = value {
            message.own(name, &value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;
    use crate::line::tests::{channel, news, settings, style};
    use ipc_pipeline::config::Format;
    use ipc_pipeline::settings::Settings;
    use serde_json::{Map, Value};
    use std::collections::BTreeMap;
    use std::os::unix::net::UnixDatagram;

    /// What a journal gets for this print: the fields of each message, the names of ours without their beginning.
    fn sent(news: &News, style: &Style) -> Vec<BTreeMap<String, String>> {
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("s")).unwrap();
        let feed = Feed(Journal::at(&dir.path().join("s"), "ipc-report").unwrap());
        let n = feed.send(news, style);
        socket.set_nonblocking(true).unwrap();
        let mut bytes = [0; 1 << 16];
        let mut all = Vec::new();
        while let Ok(length) = socket.recv(&mut bytes) {
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            let fields = text.lines().filter_map(|line| line.split_once('='));
            all.push(
                fields.map(|(name, value)| (name.replace("IPC_PIPELINE_", ""), value.to_owned())).collect(),
            );
        }
        assert_eq!(all.len(), n);
        all
    }

    fn as_text(value: &Value) -> Option<String> {
        match value {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }

    #[test]
    fn the_fields_are_the_values_of_the_json_line() {
        let channels = vec![channel("t", "°C", 9, "0.000000000001"), channel("raw", "", 0, "1")];
        let rows: Vec<[i32; 2]> = (0..61).map(|i| [i32::MIN + i, 5 - i]).collect();
        let rows: Vec<&[i32]> = rows.iter().map(|row| row.as_slice()).collect();
        let news = News { coalesced: 3, ..news(&settings(), &rows, 2) };
        let style = style(Format::Csv, channels, &settings());
        let json: Value = serde_json::from_str(&json::line(&news, &style)).unwrap();
        let messages = sent(&news, &style);
        assert_eq!(messages.len(), 4, "two channels, a window of each");
        for message in &messages {
            let found = json["channels"].as_array().unwrap().iter();
            let of_channel: &Map<String, Value> =
                found.map(|c| c.as_object().unwrap()).find(|c| c["name"] == message["CHANNEL"]).unwrap();
            let values = match message.get("WINDOW") {
                Some(_) => of_channel["windows"][0].as_object().unwrap(),
                None => of_channel,
            };
            for name in
                ["count", "sum", "mean", "stddev", "min", "max", "first", "last", "from", "to", "alarm"]
            {
                let expected = values.get(name).and_then(as_text);
                assert_eq!(message.get(&name.to_uppercase()), expected.as_ref(), "{name} of {message:?}");
            }
            assert_eq!(message["UNIT"], of_channel["unit"]);
            let whole = ["SEQ", "EPOCH", "LOST", "COALESCED", "AT_RISK"].map(|name| message[name].as_str());
            assert_eq!(whole, ["124", "1", "2", "3", "0"]);
            assert_eq!(message["MESSAGE_ID"], Message::Line.id());
            assert_eq!(message["PRIORITY"], "6");
            assert!(message["MESSAGE"].starts_with("124,1,"));
        }
    }

    #[test]
    fn a_line_that_says_all_has_the_numbers_of_a_single_row_only() {
        let nothing = Settings::default();
        let one = style(Format::Json, vec![channel("v", "V", 0, "1")], &nothing);
        let messages = sent(&news(&nothing, &[&[1], &[4]], 0), &one);
        assert_eq!((messages.len(), messages[0]["SUM"].as_str()), (1, "5"));
        let two = style(Format::Json, vec![channel("v", "V", 0, "1"), channel("w", "", 0, "1")], &nothing);
        let messages = sent(&news(&nothing, &[&[1, 2]], 0), &two);
        assert_eq!((messages.len(), messages[0].get("SUM")), (1, None));
        assert_eq!(messages[0]["SEQ"], "3");
    }

    #[test]
    fn journald_never_has_a_reason_to_drop_messages() {
        for configured in [1, 20, 300, 1000, u64::MAX] {
            let [lines, alarms] = rates(configured, true);
            assert!(30 * (lines + alarms) < 9_700, "{lines} lines and {alarms} alarms a second");
            assert!(lines > 0 && lines <= configured && alarms > 0 && alarms <= configured);
            assert_eq!(rates(configured, false), [configured; 2]);
        }
    }

    #[test]
    fn without_a_sample_there_are_no_values() {
        let nothing = Settings::default();
        let style = style(Format::Text, vec![channel("v", "V", 0, "1")], &nothing);
        let messages = sent(&news(&nothing, &[], 0), &style);
        let message = &messages[0];
        assert_eq!((message["COUNT"].as_str(), message["CHANNEL"].as_str()), ("0", "v"));
        assert!(!message.contains_key("MEAN") && !message.contains_key("MIN"));
    }

    /// What is printed elsewhere is what the messages say, cut row by row.
    #[test]
    fn every_printed_line_is_in_a_message() {
        for format in [Format::Text, Format::Csv, Format::Json] {
            let channels = vec![channel("temperature", "°C", 3, "1"), channel("p", "", 0, "1")];
            let style = style(format, channels, &settings());
            let rows: Vec<[i32; 2]> = (0..61).map(|i| [i, 5 - i]).collect();
            let rows: Vec<&[i32]> = rows.iter().map(|row| row.as_slice()).collect();
            let news = news(&settings(), &rows, 2);
            let parts = style.parts(&news);
            for (row, text) in parts.iter().filter(|_| format == Format::Text) {
                let name = &style.channel(row.as_ref().unwrap()).name;
                assert!(text.starts_with(name), "{text} is not of {name}");
            }
            let texts: Vec<&str> = parts.iter().flat_map(|(_, text)| text.lines()).collect();
            let mut lines = style.lines(&news);
            let has_notes = format == Format::Text;
            lines.rotate_left(usize::from(has_notes));
            assert_eq!(texts, lines);
            assert!(!has_notes || texts.last().unwrap().contains("missed=2"), "{texts:?}");
        }
    }
}
