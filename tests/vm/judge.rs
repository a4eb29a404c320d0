//! The verdict over a disk after a power cut: the pipeline comes back on it without help, and has all that was shown.

use crate::checker::{BAD, CORRUPT, Entry, FULL, Faults, LOSS, MISSED, Record, SAMPLE, check_record};
use crate::guest::{Mounted, Printed, must};
use crate::harness::Pipeline;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// In this time it has come back.
const BOUND: Duration = Duration::from_secs(30);

/// Lets a pipeline with this configuration, whose source ends, go on upon a disk, and gives what is wrong then: with the record, with what had been
/// printed, or with what is printed now.
pub fn judge(image: &Path, config: &str, shown: &[Printed]) -> Faults {
    let p = Pipeline::new(config);
    let state = p.record().parent().unwrap().to_owned();
    let mounted = Mounted::at(image, &state);
    // The daemons' users are those of the guest.
    must("chown", &["-R", "0:0", state.to_str().unwrap()]);
    must("chmod", &["0700", state.to_str().unwrap()]);
    let faults = judge_mounted(&p, shown);
    drop(mounted);
    faults
}

fn judge_mounted(p: &Pipeline, shown: &[Printed]) -> Faults {
    let mut run = p.run(&[]);
    let code = run.wait(BOUND);
    let report = check_record(&p.record());
    let mut faults = report.faults;
    if code != 0 {
        faults.add(format!("the pipeline does not come back: it ends with {code}\n{}", run.err()));
    }
    let before = shown.iter().map(|printed| printed.line.clone());
    let out = run.out();
    let now = out.lines().map(|line| serde_json::from_str(line).expect("a line of JSON"));
    let mut lines: Vec<Value> = before.chain(now).collect();
    lines.sort_by_key(|line| line["seq"].as_u64());
    let last = shown.iter().filter_map(|printed| printed.line["seq"].as_u64()).max().unwrap_or(0);
    if report.last <= last {
        faults.add(format!("entry {last} had been shown, the record ends at {}", report.last));
    }
    faults.join(check_printed(&report.record, &lines));
    let verified = p.ctl(&["verify"]);
    if !verified.status.success() {
        faults.add(format!("verify: {}", String::from_utf8_lossy(&verified.stdout)));
    }
    faults
}

/// Each line must be what the entries up to its number give, to the last digit. The lines are in the order of their numbers.
fn check_printed(record: &Record, lines: &[Value]) -> Faults {
    let mut faults = Faults::default();
    let mut lines = lines.iter().peekable();
    let mut totals = Totals::default();
    record.walk(&mut |raw, _| {
        let e = Entry::read(raw);
        totals.add(&e);
        while let Some(line) = lines.next_if(|line| line["seq"].as_u64() <= Some(e.seq)) {
            totals.compare(line, &mut faults);
        }
        true
    });
    lines.for_each(|line| faults.add(format!("printed, and not in the record: {line}")));
    faults
}

/// The values of a line, recomputed.
#[derive(Default)]
struct Totals {
    count: u64,
    sum: i64,
    values: Option<[i32; 4]>,
    missed: u64,
    full: u64,
    bad: u64,
    corrupt: u64,
}

impl Totals {
    fn add(&mut self, e: &Entry) {
        match (e.kind, e.flags) {
            (SAMPLE, _) => {
                let [min, max, first, _] = self.values.unwrap_or([e.value; 4]);
                self.values = Some([min.min(e.value), max.max(e.value), first, e.value]);
                self.count += 1;
                self.sum += e.value as i64;
            }
            (LOSS, MISSED) => self.missed += e.count(),
            (LOSS, FULL) => self.full += e.count(),
            (LOSS, BAD) => self.bad += e.count(),
            (CORRUPT, _) => self.corrupt += 1,
            _ => (),
        }
    }

    fn compare(&self, line: &Value, faults: &mut Faults) {
        let lost =
            [("missed", self.missed), ("dropped", self.full), ("bad", self.bad), ("corrupt", self.corrupt)];
        for (name, wanted) in lost {
            if line["lost"][name] != json!(wanted) {
                faults.add(format!("printed: {line}; the record gives {wanted} {name}"));
            }
        }
        let Some([min, max, first, last]) = self.values else { return };
        let channel = &line["channels"][0];
        let names = ["count", "sum", "min", "max", "first", "last"];
        let wanted = [json!(self.count), json!(self.sum), json!(min), json!(max), json!(first), json!(last)];
        for (name, wanted) in names.iter().zip(wanted) {
            if channel[*name] != wanted {
                faults.add(format!("printed: {line}; the record gives {name} {wanted}"));
            }
        }
    }
}
