//! What ipc-report prints for machines: the same exact values as the record has, in every form.
#![forbid(unsafe_code)]

mod checker;
mod harness;

use harness::{Foreground, Pipeline, Role, signal_pid, value};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::time::Duration;

const BOUND: Duration = Duration::from_secs(60);
const LINES: u64 = 5_000;

/// A file with [`LINES`] lines through a whole pipeline, printed in this form; tenths of a negative half.
fn printed(format: &str) -> (Pipeline, Foreground) {
    let p = Pipeline::of_lines(
        LINES,
        &format!(
            "[conv]\nrate = \"max\"\n[spool]\ncapacity = 1024\n[log]\nsync = \"10ms\"\n\
             [stat]\npercentiles = [0, 99.9]\n[report]\nformat = \"{format}\"\n\
             [[channel]]\nname = \"a, b\"\nunit = \"V\"\nscale = -0.5\n[[window]]\nsize = 1000\n"
        ),
    );
    let mut run = p.run(&[]);
    run.ends_with(0, BOUND);
    p.judge();
    (p, run)
}

fn values() -> Vec<i64> {
    (0..LINES).map(|i| value(i).into()).collect()
}

/// Half of it, negative, exactly.
fn half(code: i64) -> String {
    let tenths = -5 * code;
    format!("{}{}.{}", if tenths < 0 { "-" } else { "" }, tenths.abs() / 10, tenths.abs() % 10)
}

/// A percentile of codes beyond 16 bits is at most 1/1024 off.
fn is_near(found: &str, wanted: &str) -> bool {
    let [found, wanted] = [found, wanted].map(|text| text.parse::<f64>().unwrap());
    (found - wanted).abs() <= wanted.abs() / 1024.0
}

#[test]
fn json_says_everything_exactly() {
    let (mut p, run) = printed("json");
    let all: Vec<Value> = run.out().lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let seqs: Vec<u64> = all.iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    assert!(seqs.is_sorted_by(|a, b| a < b), "{seqs:?}");
    let last = all.last().unwrap();
    assert_eq!((&last["at_risk"], &last["lost"]["missed"]), (&json!(0), &json!(0)));
    assert!(last["coalesced"].is_u64());
    let channel = &last["channels"][0];
    assert_eq!(
        (&channel["name"], &channel["unit"], &channel["count"]),
        (&json!("a, b"), &json!("V"), &json!(LINES))
    );
    let values = values();
    let (min, max) = (values.iter().min().unwrap(), values.iter().max().unwrap());
    assert_eq!((&channel["min"], &channel["max"]), (&json!(half(*max)), &json!(half(*min))));
    assert_eq!(channel["sum"], half(values.iter().sum()));
    assert_eq!((&channel["first"], &channel["last"]), (&json!(half(values[0])), &json!(half(values[4999]))));
    // The smallest code stands for the largest value.
    assert!(is_near(channel["percentiles"]["100"].as_str().unwrap(), &half(*min)), "{channel}");
    assert!(channel["percentiles"]["0.1"].is_string(), "{channel}");
    let window = &channel["windows"][0];
    assert_eq!((&window["window"], &window["count"]), (&json!("1000 samples"), &json!(1000)));
    assert_eq!(window["sum"], half(values[4000..].iter().sum()));
    p.assert_nothing_left();
}

#[test]
fn csv_has_a_header_and_the_same_values() {
    let (mut p, run) = printed("csv");
    let out = run.out();
    let mut lines = out.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let rows: Vec<BTreeMap<&str, String>> = lines
        .map(|line| {
            assert!(line.contains("\"a, b\""), "{line}");
            let line = line.replace("\"a, b\"", "ab");
            let cells: Vec<String> = line.split(',').map(str::to_owned).collect();
            assert_eq!(cells.len(), names.len());
            names.iter().copied().zip(cells).collect()
        })
        .collect();
    assert!(rows.iter().all(|row| row["seq"].parse::<u64>().is_ok()), "one header only");
    let values = values();
    let [.., total, window] = rows.as_slice() else { panic!("{out}") };
    assert_eq!(
        (total["window"].as_str(), total["count"].as_str(), total["at_risk"].as_str()),
        ("", "5000", "0")
    );
    assert_eq!(total["sum"], half(values.iter().sum()));
    assert!(is_near(&total["p100"], &half(*values.iter().min().unwrap())), "{total:?}");
    assert_eq!((window["window"].as_str(), window["to"].as_str()), ("1000 samples", "5000"));
    assert_eq!(window["sum"], half(values[4000..].iter().sum()));
    p.assert_nothing_left();
}

/// Whoever reads pauses until no more fits on the way, far longer than a daemon may hang: no line is cut, and report is
/// never taken for one that hangs.
#[test]
fn a_reader_that_pauses_gets_whole_lines() {
    // A line fills about three of the sixteen pages of a pipe, so one does not fit as a whole.
    let channels: String = (0..16).map(|i| format!("[[channel]]\nname = \"c{i}\"\n")).collect();
    let mut p = Pipeline::new(&format!(
        "[source]\nkind = \"random\"\n[conv]\nrate = \"1 kHz\"\n[log]\nsync = \"10ms\"\n\
         [stat]\npercentiles = [1, 2, 3, 4, 5, 6, 7, 8]\n[report]\nformat = \"json\"\nmax_lines_per_second = 1000\n\
         [[window]]\nsize = 10\n[[window]]\nsize = 20\n{channels}"
    ));
    let (reader, writer) = std::io::pipe().unwrap();
    let errors = p.dir().join("errors");
    let mut command = p.command(env!("CARGO_BIN_EXE_ipc-pipeline"));
    command.arg("run").arg("--config").arg(p.config());
    command.stdout(OwnedFd::from(writer)).stderr(File::create(&errors).unwrap());
    let mut run = command.spawn().unwrap();
    drop(command); // our copy of the writing end

    let snapshots = |p: &Pipeline| p.counter(Role::Stat, "snapshots");
    p.wait_for("it runs", BOUND, |p| p.folded() > 10);
    let (mut printed, mut since) = (0, 0);
    p.wait_for("500 snapshots in a row that nobody takes", 2 * BOUND, |p| {
        let (now, number) = (p.counter(Role::Report, "printed"), snapshots(p));
        if now != printed {
            (printed, since) = (now, number);
        }
        number >= since + 500
    });
    let text = std::thread::spawn(move || std::io::read_to_string(reader).unwrap());
    p.wait_for("it prints again", BOUND, |p| p.counter(Role::Report, "printed") > printed + 2);
    signal_pid(run.id() as i32, Signal::INT);
    assert_eq!(run.wait().unwrap().code(), Some(0));
    let (text, errors) = (text.join().unwrap(), std::fs::read_to_string(errors).unwrap());
    assert!(!errors.contains("ipc-report"), "{errors}");
    let all: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert!(all.len() as u64 > printed + 2 && text.ends_with('\n'));
    let passed_over: u64 = all.iter().map(|line| line["coalesced"].as_u64().unwrap()).sum();
    assert!(passed_over >= 490, "only {passed_over} are said to be passed over");
    let report = p.judge();
    assert_eq!(all.last().unwrap()["channels"][0]["count"], json!(report.samples / 16));
    p.assert_nothing_left();
}

/// All that the daemons say goes into a pipe that nobody reads: each works on, and says later how much of it is missing.
#[test]
fn nobody_reads_standard_error() {
    // Half of the samples begin or end an alarm.
    let mut p = Pipeline::new(
        "[source]\nkind = \"random\"\n[conv]\nrate = \"1 kHz\"\n[log]\nsync = \"10ms\"\n\
         [report]\nmax_lines_per_second = 1000\n[[channel]]\nhigh = 50\n",
    );
    let (mut reader, writer) = std::io::pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
    let mut command = p.command(env!("CARGO_BIN_EXE_ipc-pipeline"));
    command.arg("run").arg("--config").arg(p.config());
    command.stdout(File::create(p.dir().join("lines")).unwrap()).stderr(OwnedFd::from(writer));
    let mut run = command.spawn().unwrap();
    drop(command); // our copy of the writing end

    p.wait_for("it runs", BOUND, |p| p.folded() > 10);
    let pids = Role::ALL.map(|role| p.status()["daemons"][role.name()]["pid"].as_u64());
    p.wait_for("many more alarms than the pipe has room for", BOUND, |p| {
        let alarms = p.counter(Role::Report, "alarms");
        alarms != u64::MAX && alarms > 500
    });
    let printed = p.counter(Role::Report, "printed");
    p.wait_for("it prints on", BOUND, |p| p.counter(Role::Report, "printed") > printed + 100);
    let mut text = String::new();
    p.wait_for("it says what is missing", BOUND, |_| {
        let mut piece = [0; 4096];
        let taken = reader.read(&mut piece).unwrap();
        text += str::from_utf8(&piece[..taken]).unwrap();
        text.contains("messages of this process are not here")
    });
    assert_eq!(pids, Role::ALL.map(|role| p.status()["daemons"][role.name()]["pid"].as_u64()), "{text}");
    signal_pid(run.id() as i32, Signal::INT);
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(0));
    assert!(text.lines().all(|line| line.starts_with("ipc-")) && text.ends_with('\n'), "{text}");
    p.judge();
    p.assert_nothing_left();
}
