//! Alarms from the sensor to people: told once, to the log and to a command, whatever is killed on the way.
#![forbid(unsafe_code)]

mod checker;
mod harness;

use harness::{Foreground, Pipeline, Role};
use std::fs::File;
use std::io::Write;
use std::time::Duration;

const BOUND: Duration = Duration::from_secs(60);

/// A pipeline that gets its values from a FIFO, and the end to write them into.
struct Bench {
    p: Pipeline,
    run: Foreground,
    sensor: File,
}

impl Bench {
    fn new(config: &str) -> Bench {
        let p = Pipeline::new(&format!(
            "[source]\nkind = \"lines\"\npath = \"in.fifo\"\n[conv]\nrate = \"max\"\n[log]\nsync = \"10ms\"\n\
             [report]\ncommand = [\"sh\", \"-c\", \"(echo $IPC_PIPELINE_ALARM $IPC_PIPELINE_VALUE; cat) >> told\"]\n\
             max_lines_per_second = 1000\n{config}"
        ));
        let fifo = p.dir().join("in.fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let run = p.run(&[]);
        // It can be opened as soon as ipc-conv reads.
        let sensor = File::options().write(true).open(&fifo).unwrap();
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
