//! Alarms from the sensor to people: told once, to the log and to a command, whatever is killed on the way.
#![forbid(unsafe_code)]

mod checker;
mod harness;

use harness::{Foreground, Pipeline, Role};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

const BOUND: Duration = Duration::from_secs(60);

/// A pipeline that gets its values from a FIFO, and the end to write them into.
struct Bench {
    p: Pipeline,
    run: Foreground,
    sensor: File,
}

impl Bench {
    fn new(config: &str) -> Bench {
        Bench::with_messages(1000, config)
    }

    /// At most so many messages a second.
    fn with_messages(per_second: u32, config: &str) -> Bench {
        let p = Pipeline::new(&format!(
            "[source]\nkind = \"lines\"\npath = \"in.fifo\"\n[conv]\nrate = \"max\"\n[log]\nsync = \"10ms\"\n\
             [report]\ncommand = [\"sh\", \"-c\", \"(echo $IPC_PIPELINE_ALARM $IPC_PIPELINE_VALUE; cat) >> told\"]\n\
             max_lines_per_second = {per_second}\n{config}"
        ));
        let fifo = p.dir().join("in.fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let run = p.run(&[]);
        let sensor = harness::fifo_for_writing(&fifo, BOUND);
        Bench { p, run, sensor }
    }

    fn gives(&mut self, values: &str) {
        self.sensor.write_all(values.as_bytes()).unwrap();
    }

    /// What the command was given so far.
    fn told(&self) -> String {
        std::fs::read_to_string(self.p.dir().join("told")).unwrap_or_default()
    }

    /// Waits until the log says this for the `times`-th time, and the command was told as well.
    fn says(&mut self, text: &str, times: usize) {
        let run = &self.run;
        let told = self.p.dir().join("told");
        harness::wait_until(&format!("{text:?}, {times} times"), BOUND, || {
            let told = std::fs::read_to_string(&told).unwrap_or_default();
            [run.err(), told].iter().all(|all| all.matches(text).count() >= times)
        });
        assert_eq!(self.run.err().matches(text).count(), times, "{}", self.run.err());
    }

    fn is_true(&self) {
        self.p.expect(&["verify"], 0);
    }

    fn ends(mut self) {
        self.run.signal(rustix::process::Signal::INT);
        self.run.ends_with(0, BOUND);
        self.p.judge();
        self.p.assert_nothing_left();
    }
}

#[test]
fn beyond_a_limit_and_back() {
    let mut b = Bench::new(
        "[[channel]]\nname = \"level\"\nunit = \"cm\"\ndecimals = 1\nhigh = 80\nhysteresis = 10\nhits = 2\n",
    );
    b.gives("10\n90.5\n10\n90.5\n90.4\n");
    b.says("alarm: level above 80 cm since entry", 1);
    // Its name is known without a configuration.
    let text =
        b.p.command(env!("CARGO_BIN_EXE_ipc-pipeline"))
            .args(["status", "--name", &b.p.name])
            .output()
            .unwrap()
            .stdout;
    assert!(String::from_utf8(text).unwrap().contains("alarm: level high since entry"));
    // In the middle nothing changes, and once is not enough.
    b.gives("75\n60\n75\n");
    b.p.wait_for("all of it is printed", BOUND, |p| p.folded() >= 10);
    b.is_true();
    b.run.kill(Role::Stat);
    b.run.kill(Role::Log);
    b.gives("60\n60.5\n");
    b.says("alarm over: level since entry", 1);
    assert_eq!(
        b.told().lines().filter(|line| *line == "high 90.4" || *line == "ok 60.5").count(),
        2,
        "{}",
        b.told()
    );
    b.is_true();
    // What is over while ipc-report cannot tell is told by its next life.
    b.gives("90\n90\n");
    b.says("alarm: level above 80 cm since entry", 2);
    harness::signal_pid(b.run.daemon(Role::Report).unwrap(), rustix::process::Signal::STOP);
    let n = b.p.folded();
    b.gives("60\n60\n");
    b.p.wait_for("it is folded", BOUND, |p| p.folded() >= n + 2);
    assert!(b.run.kill(Role::Report));
    b.says("alarm over: level", 2);
    b.ends();
}

#[test]
fn a_sensor_that_is_dead_from_the_start() {
    let mut b = Bench::new("[[channel]]\nname = \"level\"\nunit = \"cm\"\nhigh = 80\nstale = \"200ms\"\n");
    b.says("alarm: level without a sample for 200ms\n", 1);
    b.is_true();
    assert!(b.p.expect(&["status"], 0).contains("alarm: level stale"), "status shows it");
    b.gives("10\n");
    b.says("alarm over: level, now 10 cm", 1);
    b.ends();
}

#[test]
fn silence_outlives_the_daemons_that_tell_of_it() {
    let mut b = Bench::new("[[channel]]\nname = \"level\"\nunit = \"cm\"\nstale = \"200ms\"\n");
    b.gives("10\n11\n");
    b.says("alarm: level without a sample for 200ms, the last was 11 cm", 1);
    b.is_true();
    let before = b.run.daemon(Role::Stat);
    assert!(b.run.kill(Role::Stat));
    let run = &b.run;
    let is_new =
        |p: &Pipeline| p.status()["daemons"]["stat"]["pid"].as_i64() == run.daemon(Role::Stat).map(i64::from);
    b.p.wait_for("the next life of stat has published", BOUND, |p| {
        run.daemon(Role::Stat) != before && is_new(p) && p.counter(Role::Stat, "snapshots") > 0
    });
    b.is_true();
    b.gives("12\n");
    b.says("alarm over: level, now 12 cm", 1);
    b.says("alarm: level without a sample for 200ms, the last was 12 cm", 1);
    assert!(!b.told().contains("alarm over: level, now 11 cm"), "{}", b.told());
    // Who comes new is told what is on.
    assert!(b.run.kill(Role::Report));
    b.says("alarm: level without a sample for 200ms, the last was 12 cm", 2);
    b.ends();
}

/// Many channels at once are many messages: they wait, and at the end they are told all the same.
#[test]
fn messages_are_few_and_none_is_left_out_at_the_end() {
    const CHANNELS: u64 = 20;
    let channel = |i| format!("[[channel]]\nname = \"c{i}\"\nhigh = 80\n");
    let mut b = Bench::with_messages(2, &(0..CHANNELS).map(channel).collect::<String>());
    let row = |value: &str| [value; CHANNELS as usize].join(",") + "\n";
    b.gives(&row("90"));
    b.p.wait_for("all are told", BOUND, |p| p.counter(Role::Report, "alarms") == CHANNELS);
    // There is no other message for ten seconds; nobody needs to wait for that long.
    let (begun, mut rows) = (Instant::now(), 1);
    while begun.elapsed() < Duration::from_secs(2) {
        b.gives(&row("10"));
        b.gives(&row("90"));
        rows += 2;
        b.p.wait_for("it is folded", BOUND, |p| p.folded() >= rows * CHANNELS);
    }
    assert_eq!(b.p.counter(Role::Report, "alarms"), CHANNELS);
    b.gives(&row("10"));
    b.p.wait_for("it is folded", BOUND, |p| p.folded() >= (rows + 1) * CHANNELS);
    b.run.signal(rustix::process::Signal::INT);
    b.run.ends_with(0, BOUND);
    assert_eq!(b.run.err().matches("alarm over: c").count() as u64, CHANNELS, "{}", b.run.err());
    b.p.judge();
}

/// What stands in the register when nobody can have written it: it is looked at now and then, and not all the time.
#[test]
fn a_register_that_cannot_be_read_keeps_nobody_busy() {
    let config = "[source]\nkind = \"random\"\n[conv]\nrate = \"10 Hz\"\n[[channel]]\nhigh = 1000\n";
    let mut p = Pipeline::new(config);
    p.start_all();
    p.wait_for("it prints", BOUND, |p| (3..u64::MAX).contains(&p.counter(Role::Report, "printed")));
    p.kill(Role::Stat);
    let register = format!("/dev/shm/ipc-pipeline@{}.snapshot", p.name);
    File::options().write(true).open(register).unwrap().write_all_at(&[0x11; 8], 128).unwrap();
    let woken = |p: &Pipeline| p.counter(Role::Report, "woken");
    let (before, begun) = (woken(&p), Instant::now());
    p.wait_for("it has looked ten times", BOUND, |p| p.counter(Role::Report, "woken") > before + 10);
    std::thread::sleep(Duration::from_secs(1));
    let per_second = (woken(&p) - before) as f64 / begun.elapsed().as_secs_f64();
    assert!(per_second < 100.0, "woken {per_second} times a second");
    p.start(Role::Stat);
    let printed = p.counter(Role::Report, "printed");
    p.wait_for("it prints again", BOUND, |p| p.counter(Role::Report, "printed") > printed + 2);
}
