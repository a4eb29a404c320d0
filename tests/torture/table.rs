//! What came of it, for the eye while it runs, and as the table of docs/reliability.md.
#![forbid(unsafe_code)]

use crate::run::Outcome;
use crate::suites::{SUITES, Suite};
use std::fmt::Write;
use std::fs;
use std::process::Command;
use std::time::Duration;

const PAGE: &str = "docs/reliability.md";
const BEGIN: &str = "<!-- written by make torture -->\n";
const END: &str = "<!-- end of what make torture wrote -->";

#[derive(Default, Clone)]
struct Row {
    runs: u64,
    faults: u64,
    errors: u64,
    worst: Option<Duration>,
    took: Duration,
}

pub struct Table {
    seed: u64,
    rows: Vec<Row>,
}

impl Table {
    pub fn new(seed: u64) -> Table {
        Table { seed, rows: vec![Row::default(); SUITES.len()] }
    }

    pub fn add(&mut self, suite: &Suite, outcome: &Outcome) {
        let Some(at) = SUITES.iter().position(|s| s.name == suite.name) else { return };
        let row = &mut self.rows[at];
        row.runs += 1;
        row.faults += outcome.faults;
        row.errors += u64::from(outcome.kept.is_some());
        row.worst = row.worst.max(outcome.worst);
        row.took += outcome.took;
    }

    pub fn errors(&self) -> u64 {
        self.rows.iter().map(|row| row.errors).sum()
    }

    /// One line: where it is, and what was seen so far, with the `faults` of the suite that runs.
    pub fn live(&self, elapsed: Duration, time: Duration, suite: &str, faults: u64) -> String {
        let faults = faults + self.rows.iter().map(|row| row.faults).sum::<u64>();
        format!(
            "{} of {}: {} faults, {} errors; now {suite}",
            hours(elapsed),
            hours(time),
            grouped(faults),
            self.errors()
        )
    }

    /// The section of the page.
    pub fn finish(&self, elapsed: Duration) -> String {
        let mut text = format!(
            "`make torture`, {}, seed {}, commit {}, {}:\n\n| suite | runs | faults | errors | worst recovery | took |\n\
             |---|---|---|---|---|---|\n",
            hours(elapsed),
            self.seed,
            said_by("git", &["describe", "--always", "--dirty"]),
            machine()
        );
        for (suite, row) in SUITES.iter().zip(&self.rows).filter(|(_, row)| row.runs > 0) {
            let worst = row.worst.map_or("-".into(), |worst| format!("{:.2} s", worst.as_secs_f64()));
            let _ = writeln!(
                text,
                "| {} | {} | {} {} | {} | {worst} | {} |",
                suite.name,
                row.runs,
                grouped(row.faults),
                suite.faults,
                row.errors,
                hours(row.took)
            );
        }
        text
    }
}

/// Puts it into the page, in the place of what stood there.
pub fn publish(text: &str) -> Result<(), String> {
    let page = fs::read_to_string(PAGE).map_err(|e| format!("cannot read {PAGE}: {e}"))?;
    let place = page.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = place.ok_or(format!("{PAGE} has no place for the table: {BEGIN}"))?;
    fs::write(PAGE, format!("{before}{BEGIN}\n{text}\n{END}{after}"))
        .map_err(|e| format!("cannot write {PAGE}: {e}"))
}

/// `2:03:04`
pub fn hours(time: Duration) -> String {
    let s = time.as_secs();
    format!("{}:{:02}:{:02} h", s / 3600, s / 60 % 60, s % 60)
}

/// `1,234,567`
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let parts: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|part| std::str::from_utf8(part).ok()).collect();
    parts.join(",")
}

fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unknown processor", |(_, name)| name);
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{processors} processors ({model}), Linux {}", said_by("uname", &["-r"]))
}

fn said_by(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output();
    out.map_or("unknown".into(), |out| String::from_utf8_lossy(&out.stdout).trim().to_owned())
}
