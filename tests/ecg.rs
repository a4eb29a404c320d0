//! Real input: five minutes of an electrocardiogram (tests/data/README.md), whose statistics are known to the last
//! digit; also when every daemon is killed on the way.
#![forbid(unsafe_code)]

mod checker;
mod harness;

use checker::{Report, check_accepted, check_record, check_source, check_statistics};
use harness::{Pipeline, Role, Witness, edges};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

const BOUND: Duration = Duration::from_secs(20);

fn data() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/ecg-360hz.txt")
}

fn codes() -> Vec<i32> {
    fs::read_to_string(data()).unwrap().lines().map(|l| l.parse().unwrap()).collect()
}

fn pipeline(rate: &str, capacity: u32) -> Pipeline {
    pipeline_over(["shm"; 3], rate, capacity)
}

/// The edges of log, stat and report over these carriers.
fn pipeline_over(carriers: [&str; 3], rate: &str, capacity: u32) -> Pipeline {
    Pipeline::new(&format!(
        "[source]\nkind = \"lines\"\npath = \"{}\"\non_bad = \"stop\"\n\
         [conv]\nrate = \"{rate}\"\npolicy = \"block\"\n[spool]\ncapacity = {capacity}\n\
         [log]\nsync = \"10ms\"\nsegment = \"1MiB\"\n[report]\nformat = \"json\"\ndigits = 12\n{}",
        data().display(),
        edges(carriers),
    ))
}

/// Wait for the end of the source, stop the rest, and judge the record against the data.
fn end(mut p: Pipeline, witness: Witness) -> (Pipeline, Report) {
    p.wait_for("conv reaches the end of the file", BOUND, |p| !p.is_running(Role::Conv));
    drain(&mut p);
    witness.look_once();
    let seen = witness.finish();
    [Role::Log, Role::Stat, Role::Report].into_iter().for_each(|r| p.stop(r, BOUND));
    let report = check_record(&p.record());
    let codes = codes();
    let (_, _, wrong) = check_source(&report.record, |i| codes[i as usize]);
    let mut faults = report.faults.clone();
    faults.join(wrong);
    faults.join(seen.faults);
    faults.join(check_accepted(&report.record, &seen.accepted));
    faults.join(check_statistics(&report.record, &seen.published));
    assert!(faults.is_empty(), "{faults}{}", p.state());
    (p, report)
}

/// Wait until everything is durable, folded and printed.
fn drain(p: &mut Pipeline) {
    p.wait_for("log has drained the spool", BOUND, |p| p.head().is_none_or(|h| p.durable() == h));
    let last = p.durable();
    p.wait_for("stat has folded everything", BOUND, |p| p.folded() == last);
}

/// All 108,000 samples, and the totals of the README in report's last line. Twelve digits, because the standard
/// deviation there went through floating point: it is 119.85003468610200723, not ...199.
fn assert_totals(p: &mut Pipeline, report: &Report) {
    assert_eq!(report.samples, 108_000);
    let row = checker::totals(&report.record, 0);
    assert_eq!((row.count, row.sum, row.min, row.max), (108_000, 107_025_651, 327, 1754));
    let output = p.output(Role::Report);
    let last = output.lines().last().unwrap_or_default();
    for part in ["108000", "990.97825", "119.850034686102", "327", "1754"] {
        assert!(last.contains(part), "report's last line has no {part}: {last:?}");
    }
    p.remove_objects();
    p.assert_nothing_left();
}

#[test]
fn totals_at_full_speed() {
    let mut p = pipeline("max", 65536);
    let witness = Witness::start(&p.paths, &p.lives);
    p.start_all();
    let (mut p, report) = end(p, witness);
    assert_totals(&mut p, &report);
}

const CARRIERS: [&str; 6] = ["mq", "fifo", "unix", "sysv", "tcp", "udp"];

fn totals_over(all: impl IntoIterator<Item = [&'static str; 3]>) {
    for carriers in all {
        let begun = std::time::Instant::now();
        killed_on_the_way(pipeline_over(carriers, "max", 4096), 4);
        eprintln!("{carriers:?}: {:.1?}", begun.elapsed());
    }
}

/// All edges over one carrier; every daemon killed on the way, here and below.
#[test]
fn totals_over_each_carrier() {
    totals_over(CARRIERS.map(|carrier| [carrier; 3]));
}

#[test]
fn totals_with_the_edge_to_log_over_each_carrier() {
    totals_over(CARRIERS.map(|carrier| [carrier, "shm", "shm"]));
}

#[test]
fn totals_with_the_edge_to_stat_over_each_carrier() {
    totals_over(CARRIERS.map(|carrier| ["shm", carrier, "shm"]));
}

#[test]
fn totals_with_the_edge_to_report_over_each_carrier() {
    totals_over(CARRIERS.map(|carrier| ["shm", "shm", carrier]));
}

/// As it is by default, and such that each carrier meets others on each edge.
#[test]
fn totals_over_mixed_carriers() {
    totals_over([
        ["mq", "shm", "fifo"],
        ["sysv", "tcp", "unix"],
        ["udp", "sysv", "mq"],
        ["fifo", "unix", "tcp"],
        ["tcp", "mq", "sysv"],
        ["unix", "fifo", "udp"],
    ]);
}

#[test]
fn totals_though_every_daemon_is_killed() {
    killed_on_the_way(pipeline("max", 256), 12);
}

fn killed_on_the_way(mut p: Pipeline, kills: u64) {
    let witness = Witness::start(&p.paths, &p.lives);
    p.start_all();
    for step in 1..=kills {
        let due = step * 96_000 / kills;
        p.wait_for("the next part is durable", BOUND, |p| p.durable() >= due || !p.is_running(Role::Conv));
        let role = Role::ALL[step as usize % 4];
        if p.is_running(role) {
            p.kill(role);
            p.start(role);
        }
    }
    let (mut p, report) = end(p, witness);
    assert_totals(&mut p, &report);
}

#[test]
fn some_seconds_at_the_real_rate() {
    let mut p = pipeline("360 Hz", 512);
    let witness = Witness::start(&p.paths, &p.lives);
    p.start_all();
    p.wait_for("four seconds of samples are durable", BOUND, |p| p.durable() >= 4 * 360);
    p.stop(Role::Conv, BOUND);
    let (mut p, report) = end(p, witness);
    // The checker has held every instant against the grid; here only: nothing else than samples and missed ticks.
    assert!(report.samples + report.lost[1] >= 4 * 360 - 3);
    assert_eq!(report.lost[2..], [0, 0, 0, 0]);
    p.remove_objects();
    p.assert_nothing_left();
}
