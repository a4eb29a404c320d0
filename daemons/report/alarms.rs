//! Which alarms have begun or ended since the snapshot that was looked at before.
#![forbid(unsafe_code)]

use ipc_pipeline::config::show_duration;
use ipc_pipeline::decimal::Decimal;
use ipc_pipeline::fold::Alarm;
use ipc_pipeline::limits::Limits;
use ipc_pipeline::snapshot::{Row, Snapshot};

use crate::line::{Channel, Style};

/// What was known of a channel.
#[derive(Clone, Copy)]
struct Known {
    alarm: Alarm,
    stale: bool,
    /// Of this record and with these limits changes are counted: those of others are no news.
    log_id: u64,
    limits: Option<Limits>,
}

/// What the last snapshot said.
#[derive(Default)]
pub struct Watcher {
    /// By number of the channel.
    known: Vec<Option<Known>>,
    /// The channels whose last message says that an alarm is on, a bit for each.
    alarmed: u64,
}

/// The alarms of a channel have changed.
#[derive(Debug, PartialEq, Eq)]
pub struct Event {
    /// Name of the channel.
    pub channel: String,
    /// Its unit.
    pub unit: String,
    /// What is on now, like `high+rate`; `ok`: nothing.
    pub alarm: String,
    /// The last value.
    pub value: String,
    /// Seq of the sample that changed it; 0 if time alone did.
    pub seq: u64,
    /// All of it in words.
    pub text: String,
}

impl Watcher {
    /// One that goes on from an earlier life, which has told of alarms of these channels.
    pub fn after(alarmed: u64) -> Watcher {
        Watcher { alarmed, ..Watcher::default() }
    }

    /// The channels (a bit for each) whose last message says that an alarm is on.
    pub fn alarmed(&self) -> u64 {
        self.alarmed
    }

    /// What has changed; at first, what is on, and what is over since the earlier life.
    pub fn look(&mut self, snapshot: &Snapshot, style: &Style) -> Vec<Event> {
        let rows = snapshot.totals_or_none();
        rows.iter().filter_map(|row| self.look_at(row, snapshot.log_id, style)).collect()
    }

    fn look_at(&mut self, row: &Row, log_id: u64, style: &Style) -> Option<Event> {
        let number = row.channel as usize;
        if self.known.len() <= number {
            self.known.resize(number + 1, None);
        }
        let now = Known { alarm: row.alarm, stale: row.stale, log_id, limits: row.limits };
        let before = match self.known.get_mut(number)?.replace(now) {
            Some(before) if (before.log_id, before.limits) == (log_id, row.limits) => before,
            // What was counted before we looked, or under other limits, is no news; what is on now and was not then is.
            other => {
                let on = other.map(|other| other.alarm.on).unwrap_or_default();
                let is_over = self.alarmed >> row.channel & 1 == 1 && row.alarms().is_empty();
                let stale = other.map_or(is_over, |other| other.stale);
                Known { alarm: Alarm { on, ..row.alarm }, stale, ..now }
            }
        };
        let changed = before.alarm != now.alarm || before.stale != now.stale;
        let on = u64::from(!row.alarms().is_empty());
        self.alarmed = self.alarmed & !(1 << row.channel) | on << row.channel;
        changed.then(|| event(row, &before, style.channel(row), style.digits))
    }
}

fn event(row: &Row, before: &Known, channel: &Channel, digits: u8) -> Event {
    let value = match row.stats.count {
        0 => String::new(),
        _ => channel.conversion.text(&channel.conversion.value(row.stats.last), digits),
    };
    let on = row.alarms();
    Event {
        channel: channel.name.clone(),
        unit: channel.unit.clone(),
        alarm: if on.is_empty() { "ok".to_owned() } else { on },
        text: text(row, before, channel, &with_unit(&value, channel)),
        value,
        seq: if before.alarm == row.alarm { 0 } else { row.alarm.seq },
    }
}

/// A sentence: what is beyond which limit since when, or what is over.
fn text(row: &Row, before: &Known, channel: &Channel, value: &str) -> String {
    let name = &channel.name;
    let value = match (row.stats.count, row.stale) {
        (0, _) => String::new(),
        (_, true) => format!(", the last was {value}"),
        (_, false) => format!(", now {value}"),
    };
    let more = match row.alarm.changes.saturating_sub(before.alarm.changes) {
        0 | 1 => String::new(),
        changes => format!(" ({changes} changes since the last message)"),
    };
    let since = format!(" since entry {}", row.alarm.seq);
    match reasons(row, channel, &since).as_slice() {
        // Time alone has changed it, or other limits.
        [] if before.alarm == row.alarm || row.alarm.seq == 0 => {
            format!("alarm over: {name}{value}")
        }
        [] => format!("alarm over: {name}{since}{value}{more}"),
        reasons => format!("alarm: {name} {}{value}{more}", reasons.join(", ")),
    }
}

/// What is on: by its samples since some entry, and by the clock.
fn reasons(row: &Row, channel: &Channel, since: &str) -> Vec<String> {
    let watch = &channel.watch;
    let limit = |limit: Option<Decimal>, per: &str| match limit {
        Some(limit) => format!(" {}{per}", with_unit(&limit.to_string(), channel)),
        None => " its limit".to_owned(), // ipc-stat was started with another configuration
    };
    let by_samples = row.alarm.on.names().map(|name| match name {
        "high" => format!("above{}", limit(watch.high, "")),
        "low" => format!("below{}", limit(watch.low, "")),
        _ => format!("changes faster than{}", limit(watch.max_rate, "/s")),
    });
    let by_samples = by_samples.collect::<Vec<_>>().join(" and ");
    let silent = row.stale.then(|| match watch.stale {
        Some(limit) => format!("without a sample for {}", show_duration(limit)),
        None => "without a sample".to_owned(),
    });
    (!by_samples.is_empty()).then(|| by_samples + since).into_iter().chain(silent).collect()
}

fn with_unit(value: &str, channel: &Channel) -> String {
    if channel.unit.is_empty() { value.to_owned() } else { format!("{value} {}", channel.unit) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::News;
    use crate::line::tests::style;
    use ipc_pipeline::config::{ChannelConfig, Config, Format};
    use ipc_pipeline::entry::Entry;
    use ipc_pipeline::fold::Fold;
    use ipc_pipeline::limits::Limit;
    use ipc_pipeline::settings::Settings;

    /// Channel 0 has limits, channel 1 has none.
    fn config() -> Config {
        let text = "
            [[channel]]
            name = \"t\"
            unit = \"C\"
            decimals = 1
            high = 80
            low = -10.5
            max_rate = 100
            hysteresis = 2
            stale = \"10s\"
            [[channel]]
            name = \"p\"
        ";
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, text).unwrap();
        Config::load(Some(file.path()), &[]).unwrap()
    }

    fn of(channels: &[ChannelConfig], format: Format) -> Style {
        style(format, channels.iter().map(Channel::of).collect(), &Default::default())
    }

    /// What is told when these values, in tenths, come in channel 0, all those of one batch between two snapshots.
    fn told(batches: &[&[i32]], stale: &[bool]) -> Vec<Option<Event>> {
        let config = config();
        let style = of(&config.channels, Format::Text);
        let (mut fold, mut watcher) = (Fold::with(&config.stat.settings), Watcher::default());
        fold.fold(&Entry::epoch(1, 1, 0)).unwrap();
        let mut each = |(batch, stale): (&&[i32], &bool)| {
            for value in *batch {
                let t_ns = 1_000_000_000 * fold.n;
                fold.fold(&Entry::sample(fold.n + 1, 1, t_ns, 0, *value)).unwrap();
            }
            let mut snapshot = Snapshot::of(&fold, 1, 7);
            snapshot.rows[0].stale = *stale;
            watcher.look(&snapshot, &style).pop()
        };
        batches.iter().zip(stale).map(&mut each).collect()
    }

    fn texts(batches: &[&[i32]], stale: &[bool]) -> Vec<String> {
        told(batches, stale)
            .into_iter()
            .map(|event| event.map(|event| event.text).unwrap_or_default())
            .collect()
    }

    #[test]
    fn what_begins_and_ends_is_told_once() {
        let batches: [&[i32]; 6] = [&[800], &[801], &[785], &[780], &[-106], &[1100]];
        let said = texts(&batches, &[false; 6]);
        assert_eq!(
            said,
            [
                "",
                "alarm: t above 80 C since entry 3, now 80.1 C",
                "",
                "alarm over: t since entry 5, now 78.0 C",
                "alarm: t below -10.5 C since entry 6, now -10.6 C",
                "alarm: t above 80 C and changes faster than 100 C/s since entry 7, now 110.0 C",
            ]
        );
    }

    #[test]
    fn what_nobody_saw_is_counted() {
        let batches: [&[i32]; 3] = [&[0], &[801, 0, 801, 0], &[801, 0, 801]];
        let said = texts(&batches, &[false; 3]);
        assert_eq!(said[1], "alarm over: t since entry 6, now 0.0 C (4 changes since the last message)");
        assert_eq!(
            said[2],
            "alarm: t above 80 C since entry 9, now 80.1 C (3 changes since the last message)"
        );
    }

    #[test]
    fn what_is_on_at_the_start_is_told() {
        let first = |value, stale| told(&[&[value]], &[stale]).remove(0);
        assert_eq!(first(800, false), None);
        let event = first(801, false).unwrap();
        assert_eq!((event.alarm.as_str(), event.value.as_str(), event.seq), ("high", "80.1", 2));
        assert_eq!((event.channel.as_str(), event.unit.as_str()), ("t", "C"));
        assert_eq!(event.text, "alarm: t above 80 C since entry 2, now 80.1 C");
        // Its only change is older than what we have seen, and says nothing when it comes back.
        assert_eq!(texts(&[&[801, 0]], &[false]), [""]);
    }

    #[test]
    fn silence_is_told_and_that_it_is_over() {
        let said = texts(&[&[0], &[], &[], &[1], &[801]], &[false, true, true, false, true]);
        assert_eq!(
            said,
            [
                "",
                "alarm: t without a sample for 10s, the last was 0.0 C",
                "",
                "alarm over: t, now 0.1 C",
                "alarm: t above 80 C since entry 4, without a sample for 10s, the last was 80.1 C",
            ]
        );
        let events = told(&[&[0], &[], &[1]], &[false, true, false]);
        let alarms: Vec<_> = events.iter().flatten().map(|event| (event.alarm.as_str(), event.seq)).collect();
        assert_eq!(alarms, [("stale", 0), ("ok", 0)]);
    }

    #[test]
    fn what_is_over_since_an_earlier_life_is_told() {
        let config = config();
        let style = of(&config.channels, Format::Text);
        let mut fold = Fold::with(&config.stat.settings);
        let mut said = |alarmed, value| {
            fold.fold(&Entry::sample(fold.n + 1, 1, 1_000_000_000 * fold.n, 0, value)).unwrap();
            fold.fold(&Entry::sample(fold.n + 1, 1, 1_000_000_000 * fold.n, 1, value)).unwrap();
            let mut watcher = Watcher::after(alarmed);
            let mut texts = || {
                let events = watcher.look(&Snapshot::of(&fold, 1, 7), &style).into_iter();
                events.map(|event| event.text).collect::<Vec<_>>().join(", ")
            };
            let first = texts();
            assert_eq!(texts(), "");
            (first, watcher.alarmed())
        };
        assert_eq!(said(0, 800), ("".into(), 0));
        assert_eq!(said(1, 800), ("alarm over: t, now 80.0 C".into(), 0));
        assert_eq!(said(1, 801), ("alarm: t above 80 C since entry 5, now 80.1 C".into(), 1));
        assert_eq!(
            said(2, 801),
            ("alarm: t above 80 C since entry 5, now 80.1 C, alarm over: p, now 801".into(), 1)
        );
    }

    #[test]
    fn counts_of_other_limits_or_of_another_record_are_no_news() {
        let config = config();
        let style = of(&config.channels, Format::Text);
        let mut watcher = Watcher::default();
        let mut told = |changes: u64, high: i32, log_id: u64, on: bool| {
            let limits = Limits { high: Limit::above(high, high), low: None, rate: None, hits: 1 };
            let mut fold = Fold::with(&Settings { limits: vec![(0, limits)], ..Settings::default() });
            for i in 0..changes {
                let value = if i % 2 == 0 { high + 1 } else { 0 };
                fold.fold(&Entry::sample(fold.n + 1, 1, 1_000_000_000 * fold.n, 0, value)).unwrap();
            }
            fold.fold(&Entry::sample(
                fold.n + 1,
                1,
                1_000_000_000 * fold.n,
                0,
                if on { high + 1 } else { 0 },
            ))
            .unwrap();
            let event = watcher.look(&Snapshot::of(&fold, 1, log_id), &style).pop();
            event.map(|event| event.text).unwrap_or_default()
        };
        assert_eq!(told(4, 800, 7, false), "");
        assert_eq!(told(2, 900, 7, false), "");
        assert_eq!(told(0, 900, 8, false), "");
        assert_eq!(told(0, 900, 8, true), "alarm: t above 80 C since entry 1, now 90.1 C");
        // Under the new limit it has never been on.
        assert_eq!(told(0, 950, 8, false), "alarm over: t, now 0.0 C");
    }

    #[test]
    fn every_format_shows_what_is_on() {
        let config = config();
        let mut fold = Fold::with(&config.stat.settings);
        fold.fold(&Entry::sample(1, 1, 5, 0, 801)).unwrap();
        fold.fold(&Entry::sample(2, 1, 5, 1, 7)).unwrap();
        let mut snapshot = Snapshot::of(&fold, 1, 7);
        snapshot.rows[0].stale = true;
        let news = News { snapshot, coalesced: 0, at_risk: None };
        let lines = |format| of(&config.channels, format).lines(&news);
        assert_eq!(lines(Format::Text)[0], "t=high+stale");
        let json: serde_json::Value = serde_json::from_str(&lines(Format::Json)[0]).unwrap();
        assert_eq!(
            (&json["channels"][0]["alarm"], &json["channels"][0]["alarm_changes"]),
            (&"high+stale".into(), &1.into())
        );
        assert_eq!(
            (&json["channels"][1]["alarm"], &json["channels"][1]["alarm_changes"]),
            (&"".into(), &0.into())
        );
        assert!(lines(Format::Csv)[0].contains(",high+stale,1,"));
        let coloured = Style { coloured: true, ..of(&config.channels, Format::Text) };
        assert_eq!(coloured.lines(&news)[0], "\u{1b}[31mt=high+stale\u{1b}[0m");
    }
}
