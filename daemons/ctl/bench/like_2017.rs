//! `--like-2017`: an experiment with Python of that year, repeated: 8 MiB in messages of 1 KiB from one process to another.
#![forbid(unsafe_code)]

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::json;

use super::job::{Job, Task};
use super::mechanism::Mechanism;
use super::pair;
use super::statistics::Spread;

/// Bytes of a message.
const SIZE: usize = 1024;
/// Bytes in all.
const BYTES: usize = 8 << 20;
/// What is repeated, and what was reported, MB/s; then ours.
const WAYS: [(&str, Option<&str>); 6] = [
    ("pipe", Some("99-270")),
    ("file", Some("110")),
    ("unix-stream", Some("262")),
    ("ring", None),
    ("carrier-fifo", None),
    ("carrier-unix", None),
];

/// One line: which way, what was reported, and what it is here or why it is not.
pub struct Line {
    mechanism: &'static str,
    reported: Option<&'static str>,
    found: Result<Spread, String>,
}

/// Runs it: `rounds` samples each.
pub fn run(all: &[&'static dyn Mechanism], rounds: usize) -> Vec<Line> {
    let lines = WAYS.iter().filter_map(|(name, reported)| {
        let mechanism = all.iter().find(|m| m.name() == *name)?;
        Some(Line { mechanism: name, reported: *reported, found: measure(*mechanism, rounds) })
    });
    lines.collect()
}

fn measure(mechanism: &dyn Mechanism, rounds: usize) -> Result<Spread, String> {
    let job = Job {
        task: Task::Stream,
        size: SIZE,
        time: Duration::from_secs(10),
        count: (BYTES / SIZE) as u64,
        warm_percent: 0,
    };
    let rate = |_| {
        let reports = pair::sample(mechanism, &job)?;
        let ns = reports.second.ended.saturating_sub(reports.first.begun).max(1);
        Ok(BYTES as f64 * 1e3 / ns as f64)
    };
    let rates: Result<Vec<f64>, String> = (0..rounds).map(rate).collect();
    Spread::of(&rates?).ok_or_else(|| "nothing came of it".into())
}

/// Is there an error in one of them?
pub fn is_complete(lines: &[Line]) -> bool {
    lines.iter().all(|line| line.found.is_ok())
}

/// For people.
pub fn table(lines: &[Line]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["8 MiB in 1-KiB messages", "reported in 2017, MB/s", "here, MB/s", "range"]);
    for line in lines {
        let (here, range) = match &line.found {
            Ok(s) => (format!("{:.0}", s.median), format!("{:.0}-{:.0}", s.min, s.max)),
            Err(why) => (why.clone(), String::new()),
        };
        table.add_row([line.mechanism, line.reported.unwrap_or("-"), &here, &range]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{}\n", table.trim_fmt())
}

/// For machines; MB/s.
pub fn json(lines: &[Line]) -> String {
    let of = |line: &Line| {
        let mut value = json!({"mechanism": line.mechanism, "reported_mb_per_s": line.reported});
        match &line.found {
            Ok(s) => value["mb_per_s"] = json!({"median": s.median, "min": s.min, "max": s.max}),
            Err(why) => value["why_not"] = why.as_str().into(),
        }
        value
    };
    format!("{}\n", json!({"like_2017": lines.iter().map(of).collect::<Vec<_>>()}))
}
