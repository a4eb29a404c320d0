//! Programs that are not ours meet the pipeline by its names: C with the published header, Python, socat, and the tools that every
//! Debian has. Whatever they do there, nothing is lost, nothing wrong is taken, and nobody is held up.
#![forbid(unsafe_code)]

#[path = "../checker/mod.rs"]
mod checker;
mod follow;
#[path = "../harness/mod.rs"]
mod harness;
mod header;
mod readers;
mod receivers;
mod strangers;
mod tools;

use checker::Entry;
use harness::{Foreground, Pipeline, Role, free_port, samples};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const BOUND: Duration = Duration::from_secs(20);
/// Who receives something over a carrier.
const RECEIVERS: [Role; 3] = [Role::Log, Role::Stat, Role::Report];

fn in_the_sources(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A pipeline that works already, with its edges to log, stat and report over these carriers: 1,000 samples a second, in a ring
/// that is full after a quarter of it. (All tests at once must not need more than the 800 KiB of POSIX queues that a user may have.)
fn working(carriers: [&str; 3]) -> (Pipeline, [u16; 3]) {
    let ports = [(); 3].map(|()| free_port());
    let address = |i: usize| match carriers[i] {
        carrier @ ("tcp" | "udp") => format!("{carrier}:{}", ports[i]),
        carrier => format!("{carrier}:"),
    };
    let mut p = Pipeline::of_lines(
        100_000,
        &format!(
            "[conv]\nrate = \"1 kHz\"\n[spool]\ncapacity = 256\n[log]\nsync = \"10ms\"\n\
             [edge]\nlog = \"{}\"\nstat = \"{}\"\nreport = \"{}\"\n",
            address(0),
            address(1),
            address(2)
        ),
    );
    p.start_all();
    p.wait_for("it works", BOUND, |p| p.folded() > 100);
    (p, ports)
}

/// Where a role listens, as a program from outside finds it.
fn place(p: &Pipeline, carrier: &str, role: Role) -> String {
    let (name, dir) = (role.name(), p.run_dir());
    match carrier {
        "mq" => format!("/ipc-pipeline@{}.{name}", p.name),
        "unix" => dir.join(name).join("socket").to_str().unwrap().into(),
        _ => dir.join(format!("{name}.{carrier}")).to_str().unwrap().into(),
    }
}

/// Runs a program to its end, which must be a good one; what it has printed.
#[track_caller]
fn output_of(mut command: Command) -> String {
    let out = command.output().expect("the program is there");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{command:?}: {}: {said}", out.status);
    String::from_utf8(out.stdout).unwrap()
}

fn script() -> String {
    in_the_sources("tests/foreign/stranger.py").to_str().unwrap().into()
}

/// Runs tests/foreign/stranger.py to its end. It needs python3-posix-ipc and python3-sysv-ipc.
#[track_caller]
fn stranger(p: &Pipeline, words: &[&str]) -> String {
    let mut command = p.command("python3");
    command.arg(script()).args(words);
    output_of(command)
}

/// The same in the background.
fn begin_stranger(p: &Pipeline, words: &[&str]) -> Foreground {
    let script = script();
    p.spawn("python3", &[&[script.as_str()], words].concat(), Stdio::null())
}

/// These lines, `seq t channel code`, are samples of the record; their seqs.
#[track_caller]
fn check_lines(text: &str, record: &[Entry]) -> Vec<i64> {
    let number = |word: &str| word.parse::<i64>().unwrap();
    let lines: Vec<Vec<i64>> = text.lines().map(|line| line.split(' ').map(number).collect()).collect();
    for line in &lines {
        let found = record.iter().find(|e| e.seq as i64 == line[0]).expect("it is in the record");
        let is = [found.seq as i64, found.t_ns as i64, found.channel as i64, found.value as i64];
        assert_eq!(*line, is);
    }
    lines.iter().map(|line| line[0]).collect()
}

/// The end of each test: all that was accepted is durable and in the statistics, and it is the source, line by line.
#[track_caller]
fn conclude(p: &mut Pipeline) -> Vec<Entry> {
    p.stop(Role::Conv, BOUND);
    let head = p.head().unwrap();
    p.wait_for("all is durable and folded", BOUND, |p| p.durable() == head && p.folded() == head);
    let record = samples(&checker::check_record(&p.record()).record);
    p.judge_lines(record.len() as u64);
    record
}
