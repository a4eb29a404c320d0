//! `ipc-pipeline pi`: the right digits over each mechanism, and whoever is killed and whatever is full: a clear error within
//! 5 s, and nothing left.
#![forbid(unsafe_code)]

mod checker;
mod harness;
mod scale;

use harness::{signal_pid, wait_until};
use ipc_pipeline::sys::MessageQueue;
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

const PROGRAM: &str = env!("CARGO_BIN_EXE_ipc-pipeline");
const ALL: [&str; 9] = ["file", "pipe", "tcp", "unix", "socketpair", "fifo", "mq", "sysv", "shm"];
/// Within this time a fault is told.
const BOUND: Duration = Duration::from_secs(5);
const LONG: Duration = Duration::from_secs(60);
/// More terms than anybody waits for.
const ENDLESS: &str = "1000000000000000";

/// Where one test has its files.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::Builder::new().prefix("ipc-pipeline-test-").tempdir().unwrap())
    }

    /// `pi` with these arguments, behind `before`.
    fn command(&self, before: &[&str], args: &[&str]) -> Command {
        let words = [before, &[PROGRAM, "pi"], args].concat();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env("TMPDIR", self.0.path());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(&[], args).output().unwrap()
    }

    fn is_empty(&self) -> bool {
        fs::read_dir(self.0.path()).unwrap().next().is_none()
    }
}

fn out(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn results(output: &Output) -> Vec<Value> {
    let json: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", out(output)));
    json["results"].as_array().unwrap().clone()
}

/// A `pi` that runs, and its workers. It is killed with them when the value is dropped.
struct Running {
    process: Child,
    workers: Vec<i32>,
    /// Where they find the mechanism.
    at: String,
}

/// The words of a process' command line; none once it has gone.
fn words_of(pid: i32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    bytes.split(|b| *b == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

fn children_of(pid: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// A dead process that nobody has waited for counts as gone.
fn is_gone(pid: i32) -> bool {
    harness::process(pid).is_none_or(|process| process.state == "Z")
}

impl Running {
    fn start(place: &Place, workers: usize, args: &[&str]) -> Running {
        let workers_text = workers.to_string();
        let args = [args, &["--workers", &workers_text]].concat();
        let mut command = place.command(&[], &args);
        let process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut running = Running { process, workers: Vec::new(), at: String::new() };
        let after = |words: &[String], name: &str| {
            words.iter().position(|word| word == name).map(|at| words[at + 1].clone())
        };
        wait_until("its workers compute", LONG, || {
            running.workers = children_of(running.pid());
            let words: Vec<_> = running.workers.iter().map(|pid| words_of(*pid)).collect();
            running.at = words.first().and_then(|words| after(words, "--at")).unwrap_or_default();
            words.len() == workers && words.iter().all(|words| after(words, "--worker").is_some())
        });
        running
    }

    fn pid(&self) -> i32 {
        self.process.id() as i32
    }

    /// How it ended, and what it printed.
    #[track_caller]
    fn ends(&mut self, bound: Duration) -> Output {
        wait_until("it ends", bound, || self.process.try_wait().unwrap().is_some());
        let mut output =
            Output { status: self.process.wait().unwrap(), stdout: Vec::new(), stderr: Vec::new() };
        std::io::Read::read_to_end(self.process.stdout.as_mut().unwrap(), &mut output.stdout).unwrap();
        std::io::Read::read_to_end(self.process.stderr.as_mut().unwrap(), &mut output.stderr).unwrap();
        output
    }

    fn objects_are_gone(&self, via: &str) -> bool {
        match via {
            "mq" => {
                let opened = posixmq::OpenOptions::readonly().open(&self.at);
                opened.is_err_and(|e| e.kind() == ErrorKind::NotFound)
            }
            "sysv" => MessageQueue::of(self.at.parse().unwrap()).state().is_err(),
            "file" | "fifo" | "unix" | "shm" => !Path::new(&self.at).exists(),
            "tcp" => std::net::TcpStream::connect(&self.at).is_err(),
            _ => self.at.is_empty(),
        }
    }

    #[track_caller]
    fn nothing_is_left(&self, via: &str, place: &Place) {
        assert!(self.objects_are_gone(via), "{via}: {} is left", self.at);
        assert!(self.workers.iter().all(|pid| is_gone(*pid)), "{via}: workers are left");
        assert!(place.is_empty(), "{via}: files are left");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn each_mechanism_gives_the_known_digits() {
    let place = Place::new();
    let output = place.run(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", out(&output));
    let text = out(&output);
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines.iter().map(|words| words[0]).collect::<Vec<_>>(), ALL);
    assert!(lines.iter().all(|words| words.last() == Some(&"3.14159262176")), "{text}");
    let column = |line: &str| line.find("3.14");
    assert!(text.lines().all(|line| column(line) == column(text.lines().next().unwrap())), "{text}");
    assert!(place.is_empty());
}

#[test]
fn machines_get_each_result() {
    let place = Place::new();
    let output = place.run(&["--via", "all", "--json", "--workers", "3", "--terms", "1"]);
    assert_eq!(output.status.code(), Some(0), "{}", out(&output));
    let results = results(&output);
    assert_eq!(results.iter().map(|result| result["via"].as_str().unwrap()).collect::<Vec<_>>(), ALL);
    for result in &results {
        assert_eq!((&result["pi"], &result["said"]), (&"2.82842712475".into(), &"".into()), "{result}");
        assert!(result["time_ns"].as_u64().unwrap() > 0);
    }
}

/// More than fit into any queue at once, and than wait for a connection.
#[test]
fn many_workers_pass_through_a_small_queue() {
    let place = Place::new();
    for via in ["mq", "sysv", "socketpair", "unix", "tcp"] {
        let output = place.run(&["--workers", "300", "--terms", "100000", "--json", "--via", via]);
        assert_eq!(results(&output)[0]["pi"], "3.14158947049", "{}", out(&output));
    }
}

#[test]
fn wrong_numbers_are_refused() {
    let place = Place::new();
    for args in [["--workers", "0"], ["--workers", "1001"], ["--terms", "0"], ["--via", "telepathy"]] {
        assert_eq!(place.run(&args).status.code(), Some(64), "{args:?}");
    }
    let alone = place.run(&["--worker", "0", "--via", "pipe"]);
    assert_eq!(alone.status.code(), Some(71));
    assert!(out(&alone).contains("a worker is started by"), "{}", out(&alone));
}

#[test]
fn a_killed_worker_is_told_and_nothing_is_left() {
    for via in ALL {
        let place = Place::new();
        let mut running = Running::start(&place, 3, &["--terms", ENDLESS, "--via", via]);
        signal_pid(running.workers[1], Signal::KILL);
        let output = running.ends(BOUND);
        assert_eq!(output.status.code(), Some(71), "{via}: {}", out(&output));
        assert!(out(&output).contains("worker 1 was killed by signal 9"), "{via}: {}", out(&output));
        running.nothing_is_left(via, &place);
    }
}

/// Whenever it comes: the right digits, as the worker had ended, or an error; never a wrong number, never a wait.
#[test]
fn workers_killed_at_any_instant() {
    let seed = scale::seed_or("STORM_SEED", 5);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut told = 0;
    for via in ALL.repeat(10) {
        let place = Place::new();
        let mut command = place.command(&[], &["--terms", "30000000", "--workers", "4", "--via", via]);
        let process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut running = Running { process, workers: Vec::new(), at: String::new() };
        let wanted = 1 + random.usize(..4);
        wait_until("one is there to be killed", LONG, || {
            running.workers = children_of(running.pid());
            running.workers.len() >= wanted || running.process.try_wait().unwrap().is_some()
        });
        std::thread::sleep(Duration::from_micros(random.u64(..30_000)));
        if let Some(victim) = running.workers.last() {
            signal_pid(*victim, Signal::KILL);
        }
        let output = running.ends(BOUND);
        let right = output.status.success() && out(&output).contains("3.14159264298");
        let error = output.status.code() == Some(71) && out(&output).contains("was killed by signal 9");
        assert!(right || error, "{via}, seed {seed}: {}", out(&output));
        assert!(place.is_empty(), "{via}, seed {seed}");
        told += usize::from(error);
    }
    assert!(told >= 20, "only {told} kills hit");
}

#[test]
fn ctrl_c_leaves_nothing() {
    for (via, signal) in [("mq", Signal::INT), ("shm", Signal::TERM), ("sysv", Signal::INT)] {
        let place = Place::new();
        let mut running = Running::start(&place, 2, &["--terms", ENDLESS, "--via", via]);
        signal_pid(running.pid(), signal);
        assert_eq!(running.ends(BOUND).status.signal(), Some(signal.as_raw()), "{via}");
        running.nothing_is_left(via, &place);
    }
}

#[test]
fn what_a_killed_run_leaves_the_next_one_removes() {
    for via in ["mq", "sysv", "shm", "fifo"] {
        let place = Place::new();
        let mut running = Running::start(&place, 2, &["--terms", ENDLESS, "--via", via]);
        let lives = Running::start(&place, 1, &["--terms", ENDLESS, "--via", via]);
        running.process.kill().unwrap();
        wait_until("its workers die with it", BOUND, || running.workers.iter().all(|pid| is_gone(*pid)));
        assert!(!running.objects_are_gone(via), "{via}");
        assert!(place.run(&["--via", "pipe", "--terms", "10"]).status.success());
        assert!(running.objects_are_gone(via), "{via}: {} is left", running.at);
        assert!(!lives.objects_are_gone(via), "{via}: that of a run that lives was removed");
        drop(lives);
        assert!(place.run(&["--via", "pipe", "--terms", "10"]).status.success());
        assert!(place.is_empty());
        drop(running);
    }
}

#[test]
fn a_queue_that_stays_full_is_told() {
    let place = Place::new();
    let mut running = Running::start(&place, 2, &["--terms", "2000000000", "--via", "mq", "--json"]);
    signal_pid(running.pid(), Signal::STOP);
    let queue = posixmq::OpenOptions::writeonly().nonblocking().open(&running.at).unwrap();
    while queue.send(0, b"junk").is_ok() {}
    wait_until("the workers have given up", LONG, || running.workers.iter().all(|pid| is_gone(*pid)));
    signal_pid(running.pid(), Signal::CONT);
    let output = running.ends(BOUND);
    assert_eq!(output.status.code(), Some(71), "{}", out(&output));
    assert!(out(&output).contains("it has been full for 4 s"), "{}", out(&output));
    running.nothing_is_left("mq", &place);
}

/// Whatever is written there, it is not taken for a sum.
#[test]
fn junk_is_not_believed() {
    let place = Place::new();
    for via in ["mq", "tcp"] {
        let mut running = Running::start(&place, 2, &["--terms", "300000000", "--via", via]);
        // Behind the true sum of the first worker, before that of the second.
        signal_pid(running.workers[1], Signal::STOP);
        wait_until("the first has ended", LONG, || is_gone(running.workers[0]));
        let forged = [99, 0, 1.5f64.to_bits()].map(u64::to_le_bytes).concat();
        if via == "mq" {
            posixmq::OpenOptions::writeonly().open(&running.at).unwrap().send(0, &forged).unwrap();
        } else {
            let mut stream = std::net::TcpStream::connect(&running.at).unwrap();
            std::io::Write::write_all(&mut stream, &forged).unwrap();
        }
        signal_pid(running.workers[1], Signal::CONT);
        let output = running.ends(LONG);
        assert!(output.status.success(), "{via}: {}", out(&output));
        running.nothing_is_left(via, &place);
    }
}

#[test]
fn what_the_machine_does_not_give_is_told_and_the_others_go_on() {
    let place = Place::new();
    let output =
        place.command(&["prlimit", "--msgqueue=0:0"], &["--json", "--terms", "1000"]).output().unwrap();
    assert_eq!(output.status.code(), Some(71), "{}", out(&output));
    for result in results(&output) {
        if result["via"] == "mq" {
            assert!(result["pi"].is_null() && result["said"].as_str().unwrap().contains("cannot make"));
            assert!(result["remedy"].as_str().unwrap().contains("ulimit -q"), "{result}");
        } else {
            assert_eq!(result["pi"], "3.14127432760", "{result}");
        }
    }
    let long = place.0.path().join("d".repeat(100));
    fs::create_dir(&long).unwrap();
    let output =
        place.command(&[], &["--via", "unix", "--terms", "9"]).env("TMPDIR", &long).output().unwrap();
    assert!(output.status.code() == Some(71) && out(&output).contains("shorter path"), "{}", out(&output));
    fs::remove_dir(&long).unwrap();
    let output = place.command(&[], &["--via", "mq"]).env("TMPDIR", &long).output().unwrap();
    assert!(output.status.code() == Some(71) && out(&output).contains("set TMPDIR"), "{}", out(&output));
    // No room for a byte in any file.
    let output =
        place.command(&["prlimit", "--fsize=0:0"], &["--via", "file", "--terms", "9"]).output().unwrap();
    assert_eq!(output.status.code(), Some(71), "{}", out(&output));
    assert!(place.is_empty());
}

#[test]
fn the_doctor_tries_each_and_looks_at_the_limits() {
    let place = Place::new();
    let findings = |before: &[&str], set: &str| -> Vec<Value> {
        let words = [before, &[PROGRAM, "doctor", "--json", "--name", "pi-doctor", "--set", set]].concat();
        let output = Command::new(words[0]).args(&words[1..]).env("TMPDIR", place.0.path()).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", out(&output)))
    };
    let verdict = |findings: &[Value], what: &str| {
        let found = findings.iter().find(|finding| finding["what"] == what);
        found.unwrap_or_else(|| panic!("{what}"))["verdict"].as_str().unwrap().to_owned()
    };
    let well = findings(&[], "edge.log=mq:");
    for what in [&ALL[..], &["fs.mqueue", "queue memory", "System V queues", "locked memory"]].concat() {
        assert_eq!(verdict(&well, what), "good", "{what}");
    }
    // A port is open to all users.
    let what = "open to others";
    assert!(!well.iter().any(|finding| finding["what"] == what));
    assert_eq!(verdict(&findings(&[], "edge.stat=udp:20001"), what), "look");
    // What no edge needs is no more than worth a look.
    let narrow = ["prlimit", "--msgqueue=0:0"];
    let (needed, unneeded) = (findings(&narrow, "edge.log=mq:"), findings(&narrow, "edge.log=shm:"));
    for what in ["mq", "queue memory"] {
        assert_eq!((verdict(&needed, what), verdict(&unneeded, what)), ("wrong".into(), "look".into()));
    }
    assert!(place.is_empty());
}

/// In a world with kernel limits of its own.
#[test]
#[ignore = "needs root"]
fn limits_of_the_kernel_are_told() {
    let place = Place::new();
    let cases = [
        ("mount -t tmpfs -o size=4k tmpfs /dev/shm; echo > /dev/shm/all", "shm", "enlarge it"),
        ("sysctl -q -w kernel.msgmni=0", "sysv", "kernel.msgmni"),
    ];
    for (make, via, remedy) in cases {
        let script = format!("{make} && exec {PROGRAM} pi --terms 10 --via {via}");
        let before = ["unshare", "--mount", "--ipc", "sh", "-c", &script];
        let output =
            Command::new(before[0]).args(&before[1..]).env("TMPDIR", place.0.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(71), "{via}: {}", out(&output));
        assert!(out(&output).contains(remedy), "{via}: {}", out(&output));
    }
    assert!(place.is_empty());
}
