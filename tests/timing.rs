//! The grid of ticks as a user sees it: no drift, no double ticks, every tick taken or counted with its cause.
#![forbid(unsafe_code)]

mod checker;
mod harness;

use checker::{CLOCK, GRID, MISSED, SAMPLE};
use harness::{Pipeline, Role, entries, processes};
use rustix::process::Signal;
use std::fs;
use std::time::{Duration, Instant};

/// Everything that should happen does so within this time, on a busy machine too.
const BOUND: Duration = Duration::from_secs(30);

/// Ticks of the grid that the spool shows to have passed by now.
fn elapsed_ticks(p: &Pipeline, rate: u64) -> u64 {
    let bytes = fs::read(p.paths.spool()).unwrap();
    let start = u64::from_le_bytes(bytes[72..80].try_into().unwrap());
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let ns = now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64 - start;
    ns * rate / 1_000_000_000
}

#[test]
fn the_grid_does_not_drift() {
    for (rate, hz) in [("1 kHz", 1000), ("360 Hz", 360)] {
        let mut p = Pipeline::of_lines(1_000_000, &format!("[conv]\nrate = \"{rate}\"\n"));
        p.start_all();
        for second in 1..=3 {
            p.wait_for("another second", BOUND, |p| p.durable() >= second * hz);
            let before = elapsed_ticks(&p, hz);
            // Counted every 100 ms.
            let planned = p.counter(Role::Conv, "planned");
            let after = elapsed_ticks(&p, hz);
            assert!(planned <= after + 1, "{planned} ticks planned, only {after} have passed");
            assert!(planned + hz / 2 >= before, "{planned} ticks planned, {before} have passed");
        }
        Role::ALL.into_iter().for_each(|r| p.stop(r, BOUND));
        let report = p.judge();
        let planned = report.samples + report.lost[MISSED as usize];
        assert_eq!(planned, p.counter(Role::Conv, "planned"), "planned = taken + empty");
        p.remove_objects();
    }
}

#[test]
fn a_frozen_conv_misses_ticks_and_shifts_none() {
    let mut p = Pipeline::of_lines(1_000_000, "[conv]\nrate = \"1 kHz\"\n");
    p.start_all();
    p.wait_for("it runs", BOUND, |p| p.durable() >= 200);
    let missed = p.counter(Role::Conv, "empty");
    p.signal(Role::Conv, Signal::STOP);
    let begun = Instant::now();
    std::thread::sleep(Duration::from_millis(300)); // the length of the freeze is what is tested
    p.signal(Role::Conv, Signal::CONT);
    let frozen = begun.elapsed().as_millis() as u64;
    let durable = p.durable();
    p.wait_for("it goes on", BOUND, |p| p.durable() > durable + 300);
    Role::ALL.into_iter().for_each(|r| p.stop(r, BOUND));
    let report = p.judge();
    let more = report.lost[MISSED as usize] - missed;
    assert!(more >= 280, "only {more} ticks were missed in {frozen} ms");
    assert_eq!(report.lost[MISSED as usize], p.counter(Role::Conv, "empty"));
    // The lines of the file do not care: a missed tick takes none.
    p.judge_lines(report.samples);
    p.remove_objects();
    p.assert_nothing_left();
}

#[test]
fn fast_grids_have_no_double_ticks() {
    for (rate, period_ps) in [("100 kHz", 10_000_000), ("1 MHz", 1_000_000)] {
        let mut p = Pipeline::new(&format!("[source]\nseed = 1\n[conv]\nrate = \"{rate}\"\n"));
        let mut run = p.run(&["--for", "1s"]);
        run.ends_with(0, BOUND);
        let report = p.judge(); // holds every instant against the grid
        let all = entries(&p.record());
        let grid = all.iter().find(|e| e.kind == GRID).unwrap();
        assert_eq!(grid.wide(), period_ps);
        let times = all.iter().filter(|e| e.kind == SAMPLE).map(|e| e.t_ns);
        assert!(times.clone().zip(times.skip(1)).all(|(a, b)| a < b), "every tick once");
        assert!(report.samples > 1000, "{} samples at {rate}", report.samples);
        p.assert_nothing_left();
    }
}

#[test]
fn a_hundredth_of_a_hertz_is_a_rate() {
    let mut p = Pipeline::new("[conv]\nrate = \"0.01 Hz\"\n");
    let mut run = p.run(&[]);
    run.wait_for_durable(4, BOUND);
    run.signal(Signal::INT);
    run.ends_with(0, BOUND);
    let report = p.judge();
    assert_eq!((report.samples, report.lost[MISSED as usize]), (1, 0), "tick 0 is at once");
    p.assert_nothing_left();
    assert!(processes().iter().all(|d| d.parent != run.pid()));
}

/// With `align`, ticks are on whole multiples of the period by the wall clock.
#[test]
fn aligned_ticks_are_on_the_whole_period() {
    let mut p = Pipeline::new("[conv]\nrate = \"5 Hz\"\nalign = true\n");
    let mut run = p.run(&[]);
    run.wait_for_durable(5, BOUND);
    run.signal(Signal::INT);
    run.ends_with(0, BOUND);
    let all = entries(&p.record());
    let wall_ns = all[0].t_ns; // EPOCH
    let ticks = all.iter().filter(|e| e.kind == SAMPLE).map(|e| (wall_ns + e.t_ns) % 200_000_000);
    assert!(ticks.clone().count() >= 2 && ticks.clone().all(|t| t == 0), "{:?}", ticks.collect::<Vec<_>>());
    p.judge();
    p.assert_nothing_left();
}

/// Each missed tick has a cause, and the lateness of those that were taken is shown.
#[test]
fn lateness_and_causes_are_shown() {
    let mut p = Pipeline::new("[conv]\nrate = \"1 kHz\"\n");
    p.start_all();
    p.wait_for("it runs", BOUND, |p| p.durable() >= 200);
    p.signal(Role::Conv, Signal::STOP);
    std::thread::sleep(Duration::from_millis(300)); // the length of the freeze is what is tested
    p.signal(Role::Conv, Signal::CONT);
    let counter = |p: &Pipeline, name| p.counter(Role::Conv, name);
    p.wait_for("late ticks", BOUND, |p| counter(p, "missed_late") >= 250);
    p.kill(Role::Conv);
    std::thread::sleep(Duration::from_millis(100));
    p.start(Role::Conv);
    p.wait_for("ticks without a conv", BOUND, |p| counter(p, "missed_down") >= 50);
    Role::ALL.into_iter().for_each(|r| p.stop(r, BOUND));
    let [p50, p99, max] = ["late_ns_p50", "late_ns_p99", "late_ns_max"].map(|name| counter(&p, name));
    assert!(0 < p50 && p50 <= p99 && p99 <= max + max / 64, "{p50} {p99} {max}");
    let causes: u64 =
        ["missed_down", "missed_late", "missed_blocked"].map(|name| counter(&p, name)).iter().sum();
    let report = p.judge();
    assert!(causes <= report.lost[MISSED as usize], "{causes} of {:?}", report.lost);
    p.remove_objects();
}

/// The wall clock steps between two lives of conv: seen from within its time namespace the ticks' clock is 3 s ahead, so the wall
/// clock is 3 s behind it.
#[test]
#[ignore = "needs root: it makes a time namespace"]
fn a_step_of_the_wall_clock_is_in_the_record() {
    const AHEAD_S: u64 = 3;
    let mut p = Pipeline::new("[source]\nseed = 1\n[conv]\nrate = \"100 Hz\"\n");
    p.start_all();
    p.wait_for("it runs", BOUND, |p| p.durable() >= 50);
    p.kill(Role::Conv);
    let offset = AHEAD_S.to_string();
    let mut unshare = p.command("unshare");
    unshare.args(["--time", "--monotonic", &offset, "--boottime", &offset, "--kill-child", "--"]);
    unshare.arg(env!("CARGO_BIN_EXE_ipc-conv")).arg("--config").arg(p.config());
    let mut conv = unshare.spawn().expect("unshare (util-linux)");
    p.wait_for("conv has seen the step", BOUND, |p| p.counter(Role::Conv, "clock_steps") == 1);
    let durable = p.durable();
    p.wait_for("it goes on", BOUND, |p| p.durable() > durable + 100);

    let latest =
        std::process::Command::new("date").args(["-u", "-d", "+1 second", "+%FT%T"]).output().unwrap();
    let latest = String::from_utf8(latest.stdout).unwrap();
    let last = p.expect(&["tail", "--once", "-n", "1", "--json"], 0);
    let last: serde_json::Value = serde_json::from_str(&last).unwrap();
    assert!(last["time"].as_str().unwrap() < latest.trim(), "{last}, at most {latest}");

    conv.kill().unwrap();
    conv.wait().unwrap();
    [Role::Log, Role::Stat, Role::Report].into_iter().for_each(|r| p.stop(r, BOUND));
    let report = p.judge();
    let steps: Vec<i64> = entries(&p.record())
        .iter()
        .filter(|e| e.kind == CLOCK)
        .map(|e| (e.wide() << 16) as i64 >> 16)
        .collect();
    assert!(steps.len() == 1 && (steps[0] + 1000 * AHEAD_S as i64).abs() < 50, "{steps:?} ms");
    assert!(report.lost[MISSED as usize] >= 100 * AHEAD_S - 10, "its ticks are missed");
    p.remove_objects();
}
