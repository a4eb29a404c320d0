//! `ipc-pipeline bench`: all mechanisms are measured, the figures make sense beside one another, one that fails does not hold
//! up the others, and nothing is left behind, even by a kill. No absolute speed is asserted: the machine has other work.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Nothing here takes longer; what does hangs.
const BOUND: Duration = Duration::from_secs(60);

/// Directories of its own, in which nothing may be left.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        let dir = tempfile::Builder::new().prefix("ipc-pipeline-bench-test-").tempdir().unwrap();
        for sub in ["tmp", "run", "state"] {
            fs::create_dir(dir.path().join(sub)).unwrap();
        }
        Place(dir)
    }

    /// `program` with what it is given before the arguments of `ipc-pipeline`.
    fn through(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments);
        command.current_dir(self.0.path());
        command.env("TMPDIR", self.0.path().join("tmp"));
        command.env("XDG_RUNTIME_DIR", self.0.path().join("run"));
        command.env("XDG_STATE_HOME", self.0.path().join("state"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn bench(&self, arguments: &[&str]) -> Command {
        let mut command = self.through(env!("CARGO_BIN_EXE_ipc-pipeline"), &["bench"]);
        command.args(arguments);
        command
    }

    /// What is in the directories.
    fn left(&self) -> Vec<String> {
        let run = self.0.path().join("run/ipc-pipeline");
        let dirs = [self.0.path().join("tmp"), self.0.path().join("state"), run];
        let entries = dirs.iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten();
        entries.map(|entry| entry.unwrap().path().display().to_string()).collect()
    }
}

/// The queues that one of these processes has used last, by number.
fn sysv_of(pids: &BTreeSet<u32>) -> Vec<String> {
    let table = fs::read_to_string("/proc/sysvipc/msg").unwrap();
    let lines = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let used = lines.filter(|w| [5, 6].iter().any(|i| w[*i].parse().is_ok_and(|pid| pids.contains(&pid))));
    used.map(|words| words[1].to_owned()).collect()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| {
        panic!("{e}: {} {}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    })
}

fn figures(whole: &Value) -> Vec<Value> {
    whole["figures"].as_array().unwrap().clone()
}

fn number(value: &Value, field: &str) -> f64 {
    value[field].as_f64().unwrap_or_else(|| panic!("no number {field} in {value}"))
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < BOUND, "{what} never came");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The two processes of a sample, as soon as there are two.
fn children(of: &Child) -> BTreeSet<u32> {
    let path = format!("/proc/{0}/task/{0}/children", of.id());
    until("a sample", || {
        let pids: BTreeSet<u32> =
            fs::read_to_string(&path).ok()?.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
        (pids.len() == 2).then_some(pids)
    })
}

/// Is it there, and no corpse?
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

#[test]
fn figures_have_all_fields_and_make_sense_beside_one_another() {
    let place = Place::new();
    let output = place.bench(&["--quick", "--only", "pipe,mq,ring", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let whole = json(&output);
    for limit in ["memcpy_cached_bytes_per_s", "memcpy_large_bytes_per_s", "system_call_ns", "futex_ns"] {
        assert!(number(&whole["limits"], limit) > 0.0, "{limit}");
    }
    assert_eq!(whole["missing"], serde_json::json!([]));
    let all = figures(&whole);
    // pipe and ring with three sizes, mq with two; two latencies each.
    assert_eq!(all.len(), 3 + 2 + 3 + 3 * 2);
    for f in &all {
        let spread = if f["task"] == "stream" { &f["messages_per_s"] } else { &f["p50_ns"] };
        let [min, median, max] = ["min", "median", "max"].map(|field| number(spread, field));
        assert!(0.0 < min && min <= median && median <= max, "{f}");
        let ratio = number(f, "ratio");
        assert!(ratio > 0.0 && ratio <= 1.0, "{f}");
        assert!(number(f, "cpu_ns_per_message") > 0.0 && number(f, "samples") >= 1.0, "{f}");
        assert!(
            ["near", "far", "one", "mixed", "changing"].contains(&f["distance"].as_str().unwrap()),
            "{f}"
        );
        if f["task"] == "stream" {
            let bytes = number(f, "bytes_per_s");
            assert!((bytes / (median * number(f, "bytes")) - 1.0).abs() < 1e-9, "{f}");
        } else {
            assert!(median <= number(f, "p99_ns") && number(f, "p99_ns") <= number(f, "p999_ns"), "{f}");
            let curve: Vec<(f64, f64)> = serde_json::from_value(f["percentiles_ns"].clone()).unwrap();
            assert!(curve.len() >= 10 && curve.contains(&(50.0, median)), "{f}");
            assert!(curve.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{f}");
            // Of some 48 messages none stands for the slowest hundredth.
            assert!(curve.iter().all(|(percent, _)| *percent < 99.0), "{f}");
        }
    }
    // Every class has a best one, which is the most of the rates and the least of the latencies.
    for (task, size) in
        [("stream", 64), ("stream", 1024), ("stream", 65536), ("round_trip", 64), ("wake_up", 64)]
    {
        let class: Vec<&Value> = all.iter().filter(|f| f["task"] == task && f["bytes"] == size).collect();
        let value = |f: &Value| match task {
            "stream" => number(&f["messages_per_s"], "median"),
            _ => -number(&f["p50_ns"], "median"),
        };
        let best = class.iter().max_by(|a, b| value(a).total_cmp(&value(b))).unwrap();
        assert_eq!(number(best, "ratio"), 1.0, "{best}");
    }
    // A queue costs a system call at each end of each message; the ring costs none as long as nobody sleeps.
    let calls = |name: &str| {
        let f = all.iter().find(|f| f["mechanism"] == name && f["task"] == "stream" && f["bytes"] == 64);
        number(f.unwrap(), "calls_per_message")
    };
    assert_eq!((calls("pipe"), calls("mq")), (2.0, 2.0));
    assert!(calls("ring") < 2.0);
    assert_eq!(place.left(), Vec::<String>::new());
}

#[test]
fn every_mechanism_is_measured_and_leaves_nothing() {
    let place = Place::new();
    let picture = place.0.path().join("bench.svg");
    let plot = ["--plot", picture.to_str().unwrap()];
    let output = place.bench(&["--quick", "--csv"]).args(plot).output().unwrap();
    let (csv, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!((output.status.code(), said.as_str()), (Some(0), ""), "{csv}");
    let columns = csv.lines().next().unwrap().split(',').count();
    assert!(csv.lines().all(|line| line.split(',').count() == columns), "{csv}");
    let measured: BTreeSet<&str> = csv.lines().skip(1).map(|line| line.split(',').next().unwrap()).collect();
    let svg = fs::read_to_string(picture).unwrap();
    for name in &measured {
        assert!(svg.contains(&format!("\n{name}\n")), "{name} is not in the picture");
    }
    assert!(svg.contains("our carriers, with entries: wake-up"), "its curves are not in the picture");
    for (bad, said) in [("pigeon", "\"pigeon\""), ("", "\"\""), ("pipe,", "\"\"")] {
        let output = place.bench(&["--only", bad]).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{bad}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(&format!("--only: there is no mechanism {said}; allowed: pipe, ")), "{text}");
    }
    let unknown = place.bench(&["--only", "pigeon"]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(64));
    let said = String::from_utf8(unknown.stderr).unwrap();
    let (_, allowed) = said.trim().split_once("allowed: ").unwrap();
    assert_eq!(measured, allowed.split(", ").collect());
    assert!(measured.len() >= 22, "{measured:?}");
    assert_eq!(place.left(), Vec::<String>::new());
}

#[test]
fn a_mechanism_that_is_missing_is_said_and_the_others_go_on() {
    let place = Place::new();
    let program = env!("CARGO_BIN_EXE_ipc-pipeline");
    let arguments = ["--msgqueue=0", program, "bench", "--quick", "--json", "--only", "mq,pipe"];
    let output = place.through("prlimit", &arguments).output().unwrap();
    let whole = json(&output);
    assert_eq!(output.status.code(), Some(71), "{whole}");
    assert_eq!(whole["missing"][0]["mechanism"], "mq");
    assert!(whole["missing"][0]["why"].as_str().unwrap().contains("ulimit -q"), "{whole}");
    assert!(figures(&whole).iter().any(|f| f["mechanism"] == "pipe"), "{whole}");
}

/// What comes on a terminal of its own, made by script (util-linux); `redirected`: what the shell does with its streams.
fn on_a_terminal(place: &Place, redirected: &str) -> String {
    let program = env!("CARGO_BIN_EXE_ipc-pipeline");
    let line = format!("stty cols 80; exec {program} bench --quick --json --only pipe,ring {redirected}");
    let output = place.through("script", &["-qefc", &line, "/dev/null"]).output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{shown}");
    shown
}

#[test]
fn progress_is_shown_on_a_terminal_only() {
    let place = Place::new();
    let shown = on_a_terminal(&place, ">result");
    for part in ["measuring pipe", "measuring ring", "0 of 2", "1 of 2", "to go"] {
        assert!(shown.contains(part), "{part}: {shown:?}");
    }
    let shown = shown.trim_end();
    assert!(shown.ends_with("\x1b[2K") || shown.ends_with('\r'), "it goes away at the end: {shown:?}");
    let shown = on_a_terminal(&place, "2>result");
    assert!(shown.starts_with('{') && !shown.contains("measuring"), "standard error is a file: {shown:?}");
    let said = fs::read_to_string(place.0.path().join("result")).unwrap();
    assert_eq!(said, "", "and nothing is in it");
}

/// Time of the processor that it has had, in ticks of 10 ms.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let numbers = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    numbers.skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum()
}

#[test]
fn a_process_that_dies_is_noticed_at_once() {
    let place = Place::new();
    // Who waits for datagrams is told by nobody that the sender has died.
    let bench = place.bench(&["--json", "--only", "udp"]).spawn().unwrap();
    let sender =
        until("a sample at work", || children(&bench).first().copied().filter(|pid| ticks(*pid) >= 2));
    kill(sender);
    let begun = Instant::now();
    let output = bench.wait_with_output().unwrap();
    assert!(begun.elapsed() < BOUND / 6, "{:?}", begun.elapsed());
    let whole = json(&output);
    assert_eq!(output.status.code(), Some(71));
    assert_eq!(whole["missing"][0]["mechanism"], "udp", "{whole}");
    assert!(whole["missing"][0]["why"].as_str().unwrap().contains("was killed by signal 9"), "{whole}");
}

#[test]
fn a_bench_that_is_killed_leaves_neither_process_nor_object() {
    for mechanism in ["sysv", "carrier-fifo", "carrier-sysv"] {
        let place = Place::new();
        let mut bench = place.bench(&["--only", mechanism]).spawn().unwrap();
        let pids = children(&bench);
        let queues = until("a sample at work", || match mechanism {
            "carrier-fifo" => (!place.left().is_empty()).then(Vec::new),
            _ => Some(sysv_of(&pids)).filter(|queues| !queues.is_empty()),
        });
        // Samples come and go: those that run now are those that must clean up.
        let pids = children(&bench);
        bench.kill().unwrap();
        bench.wait().unwrap();
        until("the end of its processes", || pids.iter().all(|pid| !is_alive(*pid)).then_some(()));
        until("clean directories", || place.left().is_empty().then_some(()));
        let table = fs::read_to_string("/proc/sysvipc/msg").unwrap();
        for queue in queues.into_iter().chain(sysv_of(&pids)) {
            assert!(
                !table.lines().any(|l| l.split_whitespace().nth(1) == Some(&queue)),
                "{mechanism}: {queue}"
            );
        }
    }
}

#[test]
fn the_experiment_of_2017_is_repeated() {
    let place = Place::new();
    let output = place.bench(&["--like-2017", "--quick", "--json"]).output().unwrap();
    let whole = json(&output);
    assert_eq!(output.status.code(), Some(0), "{whole}");
    let lines = whole["like_2017"].as_array().unwrap();
    let reported: Vec<&str> = lines.iter().filter_map(|l| l["reported_mb_per_s"].as_str()).collect();
    assert_eq!(reported, ["99-270", "110", "262"]);
    assert!(lines.len() > 3 && lines.iter().all(|l| number(&l["mb_per_s"], "median") > 0.0), "{whole}");
    assert_eq!(place.left(), Vec::<String>::new());
}

#[test]
fn sizes_are_those_that_were_asked_for() {
    let place = Place::new();
    let asked = ["--quick", "--only", "pipe,mq,signals", "--sizes", "128,16384", "--json"];
    let output = place.bench(&asked).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let all = figures(&json(&output));
    let streams = all.iter().filter(|f| f["task"] == "stream");
    let found: Vec<(&str, u64)> =
        streams.map(|f| (f["mechanism"].as_str().unwrap(), f["bytes"].as_u64().unwrap())).collect();
    assert_eq!(found, [("pipe", 128), ("pipe", 16384), ("mq", 128), ("signals", 8)]);
    // Full datagrams of a whole window find room.
    let datagrams = ["--quick", "--only", "udp,multicast", "--sizes", "8192", "--json"];
    let output = place.bench(&datagrams).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", json(&output)["missing"]);
    let singly = ["--quick", "--only", "ring,carrier-mq,shm-lock", "--sizes", "32"];
    assert_eq!(place.bench(&singly).output().unwrap().status.code(), Some(0), "entries, one at a time");
    let output = place.bench(&["--quick", "--only", "mq", "--sizes", "65536"]).output().unwrap();
    assert_eq!(output.status.code(), Some(71));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("it carries 8192 bytes at once at most"), "{said}");
    let output = place.bench(&["--plot", "/nowhere/at/all.svg"]).output().unwrap();
    assert_eq!(output.status.code(), Some(71), "before anything is measured");
    for bad in ["0", "31", "48", "65600", "many"] {
        let output = place.bench(&["--sizes", bad]).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{bad}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("a multiple of 32, from 32 to 65536, is allowed"), "{said}");
    }
}
