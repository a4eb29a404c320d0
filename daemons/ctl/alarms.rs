//! Which alarms are on: one account for `status` and `top`.
#![forbid(unsafe_code)]

use std::cell::LazyCell;

use ipc_pipeline::snapshot::{Row, Snapshot};
use serde_json::{Value, json};

/// By channel, all that have an alarm on.
pub struct Alarms {
    on: Vec<(String, Row)>,
}

impl Alarms {
    /// What the last word of ipc-stat says of channels with these names, which are asked for only if an alarm is on.
    pub fn of(word: Option<&Snapshot>, names: impl FnOnce() -> Vec<String>) -> Alarms {
        let rows = word.into_iter().flat_map(Snapshot::totals_or_none).filter(|row| !row.alarms().is_empty());
        let names = LazyCell::new(names);
        let name = |row: &Row| {
            let name = names.get(row.channel as usize).cloned();
            name.unwrap_or_else(|| format!("channel {}", row.channel))
        };
        Alarms { on: rows.map(|row| (name(&row), row)).collect() }
    }

    /// For people: one for each channel, like `level high since entry 12`; none if all is well.
    pub fn texts(&self) -> Vec<String> {
        let text = |(name, row): &(String, Row)| {
            let since = if row.alarm.on.is_empty() {
                String::new()
            } else {
                format!(" since entry {}", row.alarm.seq)
            };
            format!("{name} {}{since}", row.alarms())
        };
        self.on.iter().map(text).collect()
    }

    /// For machines.
    pub fn json(&self) -> Value {
        let one = |(name, row): &(String, Row)| {
            json!({
                "channel": row.channel,
                "name": name,
                "alarm": row.alarms(),
                "seq": row.alarm.seq,
                "changes": row.alarm.changes,
            })
        };
        self.on.iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_pipeline::entry::Entry;
    use ipc_pipeline::fold::Fold;
    use ipc_pipeline::limits::{Limit, Limits};
    use ipc_pipeline::settings::Settings;

    #[test]
    fn only_what_is_on_is_shown() {
        let limits = Limits { high: Limit::above(10, 10), low: None, rate: None, hits: 1 };
        let mut fold =
            Fold::with(&Settings { limits: vec![(0, limits), (2, limits)], ..Settings::default() });
        for (channel, value) in [(0, 11), (1, 11), (2, 10)] {
            fold.fold(&Entry::sample(fold.n + 1, 1, 0, channel, value)).unwrap();
        }
        let mut word = Snapshot::of(&fold, 1, 7);
        let names = || ["a", "b"].map(str::to_owned).to_vec();
        assert_eq!(Alarms::of(Some(&word), names).texts(), ["a high since entry 1"]);
        word.rows[2].stale = true;
        let alarms = Alarms::of(Some(&word), names);
        assert_eq!(alarms.texts(), ["a high since entry 1", "channel 2 stale"]);
        assert_eq!(
            alarms.json()[0],
            json!({"channel": 0, "name": "a", "alarm": "high", "seq": 1, "changes": 1})
        );
        assert!(Alarms::of(None, names).texts().is_empty());
    }
}
