//! What conv does when log cannot follow, and when its input is bad: nothing is lost uncounted.
#![forbid(unsafe_code)]

mod checker;
mod harness;

use checker::{BAD, FULL, MISSED};
use harness::{Pipeline, Role};
use rustix::process::Signal;
use std::fs;
use std::time::Duration;

/// Everything that should happen does so within this time, on a busy machine too.
const BOUND: Duration = Duration::from_secs(30);

#[test]
fn drop_newest_counts_what_it_drops() {
    let mut p = Pipeline::of_lines(
        10_000_000 / 20,
        "[conv]\nrate = \"10 kHz\"\npolicy = \"drop-newest\"\n[spool]\ncapacity = 256\n[log]\nsync = \"10ms\"\n",
    );
    p.start_all();
    p.wait_for("it runs", BOUND, |p| p.durable() > 500);
    p.signal(Role::Log, Signal::STOP);
    p.wait_for("samples are dropped", BOUND, |p| p.counter(Role::Conv, "full") > 2000);
    let status = p.status();
    let count = |name: &str| status["daemons"]["conv"]["counters"][name].as_u64().unwrap();
    assert_eq!(count("planned"), count("taken") + count("empty"));
    assert_eq!(status["daemons"]["conv"]["state"], "spool full");
    // What is dropped survives conv, too.
    p.kill(Role::Conv);
    p.start(Role::Conv);
    let dropped = count("full");
    p.wait_for("still counted", BOUND, |p| {
        let full = p.counter(Role::Conv, "full");
        full >= dropped && full != u64::MAX
    });
    p.signal(Role::Log, Signal::CONT);
    let durable = p.durable();
    p.wait_for("it goes on", BOUND, |p| p.durable() > durable + 2000);
    p.stop(Role::Conv, BOUND);
    let full = p.counter(Role::Conv, "full");
    let (planned, taken, empty) =
        (p.counter(Role::Conv, "planned"), p.counter(Role::Conv, "taken"), p.counter(Role::Conv, "empty"));
    [Role::Log, Role::Stat, Role::Report].into_iter().for_each(|r| p.stop(r, BOUND));
    let report = p.judge();
    assert!(full >= dropped);
    assert_eq!(report.lost[FULL as usize], full, "LOSS in the record = dropped");
    assert_eq!(report.lost[MISSED as usize], empty);
    assert_eq!(report.samples + full, taken);
    assert_eq!(planned, taken + empty);
    p.judge_lines(report.samples + full);
    assert!(p.output(Role::Report).lines().rev().take(2).any(|l| l.contains(&format!("dropped={full}"))));
    p.remove_objects();
    p.assert_nothing_left();
}

/// What was dropped last is in the record too, though the spool was full when conv was told to stop.
#[test]
fn drops_before_the_end_are_counted() {
    let mut p = Pipeline::of_lines(
        500_000,
        "[conv]\nrate = \"10 kHz\"\npolicy = \"drop-newest\"\n[spool]\ncapacity = 256\n[log]\nsync = \"10ms\"\n",
    );
    p.start_all();
    p.wait_for("it runs", BOUND, |p| p.durable() > 500);
    p.signal(Role::Log, Signal::STOP);
    p.wait_for("samples are dropped", BOUND, |p| p.counter(Role::Conv, "full") > 200);
    p.signal(Role::Conv, Signal::TERM);
    std::thread::sleep(Duration::from_millis(300)); // conv has met the full spool by now
    p.signal(Role::Log, Signal::CONT);
    p.wait_for("conv has ended", BOUND, |p| !p.is_running(Role::Conv));
    let full = p.counter(Role::Conv, "full");
    [Role::Log, Role::Stat, Role::Report].into_iter().for_each(|r| p.stop(r, BOUND));
    let report = p.judge();
    assert_eq!(report.lost[FULL as usize], full, "LOSS in the record = dropped");
    p.judge_lines(report.samples + full);
    p.remove_objects();
    p.assert_nothing_left();
}

#[test]
fn lock_step_has_one_sample_in_flight() {
    let mut p = Pipeline::of_lines(300, "[conv]\nrate = \"max\"\nlock_step = true\n[log]\nsync = \"2ms\"\n");
    p.start_all();
    let mut seen = 0;
    p.wait_for("the file ends", BOUND, |p| {
        let durable = p.durable();
        let head = p.head().unwrap_or(0);
        // `durable` was read first: at most one more can have become durable since.
        if durable > 4 {
            let after = p.durable();
            assert!(head <= after + 1, "head {head}, durable {after}");
            seen += 1;
        }
        !p.is_running(Role::Conv)
    });
    assert!(seen > 20);
    p.wait_for("stat has folded it", BOUND, |p| p.folded() >= 303);
    [Role::Log, Role::Stat, Role::Report].into_iter().for_each(|r| p.stop(r, BOUND));
    assert_eq!(p.judge_lines(300).samples, 300);
    p.remove_objects();
    p.assert_nothing_left();
}

/// Bad lines that were passed while the spool was full are counted once, whoever dies when.
#[test]
fn bad_lines_between_drops_are_counted() {
    const LINES: u64 = 3000;
    let mut p = Pipeline::new(
        "[source]\nkind = \"lines\"\npath = \"mixed.txt\"\non_bad = \"skip\"\n[conv]\nrate = \"1 kHz\"\npolicy = \"drop-newest\"\n[spool]\ncapacity = 256\n[log]\nsync = \"10ms\"\n",
    );
    let text: String =
        (0..LINES).map(|i| if i % 3 == 0 { "bad\n".to_owned() } else { format!("{i}\n") }).collect();
    fs::write(p.dir().join("mixed.txt"), text).unwrap();
    p.start_all();
    p.wait_for("it runs", BOUND, |p| p.durable() > 100);
    p.signal(Role::Log, Signal::STOP);
    p.wait_for("samples are dropped", BOUND, |p| p.counter(Role::Conv, "full") > 200);
    p.kill(Role::Conv);
    p.start(Role::Conv);
    let full = p.counter(Role::Conv, "full");
    p.wait_for("more are dropped", BOUND, |p| p.counter(Role::Conv, "full") > full + 50);
    p.signal(Role::Log, Signal::CONT);
    p.wait_for("the source has ended", BOUND, |p| p.source_ended);
    [Role::Log, Role::Stat, Role::Report].into_iter().for_each(|r| p.stop(r, BOUND));
    let report = p.judge();
    assert_eq!(report.lost[BAD as usize], LINES / 3, "every bad line once");
    assert_eq!(report.samples + report.lost[FULL as usize] + report.lost[BAD as usize], LINES);
    p.remove_objects();
    p.assert_nothing_left();
}
