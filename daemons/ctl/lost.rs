//! What was lost, as far as anybody knows it: one account for `status` and `top`.
//!
//! ipc-conv's counts are the newest, but only of its epoch, and its empty ticks are missed or unread. ipc-stat's are those of
//! the whole record, but only up to the entry that it has folded: on a full disk that stands still while conv goes on.
#![forbid(unsafe_code)]

use ipc_pipeline::fold::Losses;
use ipc_pipeline::names::Role;
use ipc_pipeline::snapshot::Snapshot;
use serde_json::{Map, Value, json};

use crate::standing::Standings;

/// Counts with their names.
type Counts = Vec<(&'static str, u64)>;

/// Both accounts.
pub struct Lost {
    /// By conv: the epoch.
    epoch: Option<(u32, Counts)>,
    /// By stat: the last entry that it has folded.
    record: Option<(u64, Counts)>,
}

impl Lost {
    /// What the page of ipc-conv and the last word of ipc-stat say.
    pub fn of(standings: &Standings, word: Option<&Snapshot>) -> Lost {
        let conv = standings.role(Role::Conv);
        let counter = |name| conv.counters().find(|(other, _)| *other == name).map_or(0, |(_, n)| n);
        let epoch = conv.page.as_ref().map(|page| {
            let counts = [("empty", "empty"), ("dropped", "full"), ("bad", "bad_input")];
            (page.epoch(), counts.map(|(name, of)| (name, counter(of))).to_vec())
        });
        Lost {
            epoch: epoch.filter(|(epoch, _)| *epoch > 0),
            record: word.map(|word| (word.n, in_record(&word.losses))),
        }
    }

    /// Is nothing known to be lost?
    pub fn is_nothing(&self) -> bool {
        let counts = |of: Option<&Counts>| of.is_some_and(|counts| counts.iter().any(|(_, n)| *n > 0));
        !counts(self.epoch.as_ref().map(|(_, counts)| counts))
            && !counts(self.record.as_ref().map(|(_, counts)| counts))
    }

    /// Has anybody said what is lost?
    pub fn is_known(&self) -> bool {
        self.epoch.is_some() || self.record.is_some()
    }

    /// A line for each of the two; none if nothing is known to be lost.
    pub fn lines(&self) -> Vec<String> {
        if self.is_nothing() {
            return Vec::new();
        }
        let epoch = self.epoch.iter();
        let epoch = epoch.map(|(epoch, counts)| format!("lost since epoch {epoch} began: {}", text(counts)));
        let record = self.record.iter();
        let record =
            record.map(|(n, counts)| format!("lost in the record up to entry {n}: {}", text(counts)));
        epoch.chain(record).collect()
    }

    /// For machines.
    pub fn json(&self) -> Value {
        let of = |name: &str, n: u64, counts: &Counts| {
            let counts = counts.iter().map(|(name, n)| ((*name).to_owned(), Value::from(*n)));
            let all: Map<String, Value> =
                [(name.to_owned(), Value::from(n))].into_iter().chain(counts).collect();
            Value::from(all)
        };
        json!({
            "since_epoch": self.epoch.as_ref().map(|(epoch, counts)| of("epoch", (*epoch).into(), counts)),
            "in_record": self.record.as_ref().map(|(n, counts)| of("n", *n, counts)),
        })
    }
}

fn in_record(losses: &Losses) -> Counts {
    vec![
        ("missed", losses.missed),
        ("unread", losses.unread),
        ("dropped", losses.full),
        ("bad", losses.bad),
        ("abandoned", losses.abandoned),
        ("corrupt", losses.corrupt),
    ]
}

fn text(counts: &Counts) -> String {
    let parts: Vec<String> =
        counts.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{n} {name}")).collect();
    if parts.is_empty() { "nothing".into() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_accounts_that_may_differ() {
        let lost = |empty, missed| Lost {
            epoch: Some((2, vec![("empty", empty), ("dropped", 0)])),
            record: Some((7, in_record(&Losses { missed, corrupt: 1, ..Losses::default() }))),
        };
        assert_eq!(
            lost(3, 12).lines(),
            ["lost since epoch 2 began: 3 empty", "lost in the record up to entry 7: 12 missed, 1 corrupt"]
        );
        assert_eq!(lost(0, 0).lines()[0], "lost since epoch 2 began: nothing");
        assert!(Lost { epoch: None, record: None }.lines().is_empty());
        assert_eq!(lost(3, 12).json()["since_epoch"], json!({ "epoch": 2, "empty": 3, "dropped": 0 }));
    }
}
