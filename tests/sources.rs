//! Sources in a real pipeline: rows of several channels, programs and files that come and go, recordings. Whatever
//! happens to source and conv, the record is true, and what was not read is counted.
#![forbid(unsafe_code)]

mod checker;
mod harness;

use checker::{BAD, MISSED, Report, UNREAD};
use harness::{Pipeline, Role, process, samples, signal_pid, value, wait_until, write_to};
use rustix::process::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

const BOUND: Duration = Duration::from_secs(60);
const QUICK: &str = "[log]\nsync = \"10ms\"\nsegment = \"1MiB\"\n";

/// `n` tables of channels with these digits after the point.
fn channels(decimals: &[u8]) -> String {
    let table = |(i, d): (usize, &u8)| format!("[[channel]]\nname = \"c{i}\"\ndecimals = {d}\n");
    decimals.iter().enumerate().map(table).collect()
}

fn start(config: &str) -> Pipeline {
    let mut p = Pipeline::new(config);
    p.start_all();
    p
}

/// conv is ended, or has reached the end of its source; then the others, and the record is judged.
fn end(p: &mut Pipeline) -> Report {
    if p.is_running(Role::Conv) {
        p.stop(Role::Conv, BOUND);
    }
    p.wait_for("log has drained the spool", BOUND, |p| p.head().is_none_or(|h| p.durable() == h));
    let last = p.durable();
    p.wait_for("stat has folded everything", BOUND, |p| p.folded() == last);
    [Role::Log, Role::Stat, Role::Report].into_iter().for_each(|r| p.stop(r, BOUND));
    p.judge()
}

fn leave(mut p: Pipeline) {
    p.remove_objects();
    p.assert_nothing_left();
}

fn kill_and_start(p: &mut Pipeline, role: Role) {
    p.kill(role);
    p.start(role);
}

/// How often conv has said something with this part.
fn said(p: &Pipeline, part: &str) -> usize {
    p.story().matches(part).count()
}

/// A file that never holds half of its text.
fn put(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

/// Row r of the table holds positions 3r, 3r+1, 3r+2 of the source in its columns 4, 1 and 3; some rows are bad.
fn table(rows: u64) -> String {
    let is_bad = |row: u64| row % 97 == 5;
    let scaled = |code: i32, decimals| ipc_pipeline::decimal::format_scaled(code.into(), decimals);
    let mut text = String::from("b;-;c;a\n");
    for row in 0..rows {
        if row % 31 == 0 {
            text += "# a comment\n\n";
        }
        let [a, b, c] = [0, 1, 2].map(|i| value(3 * row + i));
        let a = if is_bad(row) { "n/a".to_owned() } else { a.to_string() };
        text += &format!("{};-;{};{a}\n", scaled(b, 2), scaled(c, 5));
    }
    text
}

#[test]
fn three_columns_are_exact_though_conv_is_killed() {
    const ROWS: u64 = 60_000;
    let mut p = Pipeline::new(&format!(
        "[source]\nkind = \"lines\"\npath = \"in.csv\"\ncolumns = [4, 1, 3]\nseparator = \";\"\ncomment = \"#\"\n\
         header = true\non_bad = \"skip\"\n[conv]\nrate = \"max\"\n[spool]\ncapacity = 256\n{QUICK}{}",
        channels(&[0, 2, 5])
    ));
    fs::write(p.dir().join("in.csv"), table(ROWS)).unwrap();
    p.start_all();
    for step in 1..=12 {
        let due = step * 3 * ROWS / 14;
        p.wait_for("the next part is durable", BOUND, |p| p.durable() >= due || !p.is_running(Role::Conv));
        if p.is_running(Role::Conv) {
            kill_and_start(&mut p, Role::Conv);
        }
    }
    p.wait_for("conv reaches the end of the file", BOUND, |p| !p.is_running(Role::Conv));
    end(&mut p);
    let report = p.judge_lines(3 * ROWS);
    assert_eq!(report.lost[BAD as usize], (0..ROWS).filter(|row| row % 97 == 5).count() as u64);
    leave(p);
}

/// Counts up from where it was, 500 times a second, and tells its process.
const COUNTER: &str = "echo $$ > pid.new; mv pid.new pid; n=$(cat n 2>/dev/null || echo 0); echo ready >&2\n\
    while :; do n=$((n + 1)); echo $n > n.new; mv n.new n; echo $n; sleep 0.002; done\n";

fn pid_of_counter(p: &Pipeline) -> i32 {
    fs::read_to_string(p.dir().join("pid")).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

#[test]
fn a_command_dies_and_comes_back() {
    let mut p = Pipeline::new(&format!(
        "[source]\nkind = \"command\"\ncommand = [\"sh\", \"counter.sh\"]\n[conv]\nrate = \"100 Hz\"\n{QUICK}"
    ));
    fs::write(p.dir().join("counter.sh"), COUNTER).unwrap();
    p.start_all();
    for round in 1..=3 {
        let before = p.durable();
        p.wait_for("the counter counts", BOUND, |p| p.durable() > before + 20 && pid_of_counter(p) != 0);
        let pid = pid_of_counter(&p);
        match round {
            // conv takes it along; the next life starts another one
            2 => kill_and_start(&mut p, Role::Conv),
            _ => {
                signal_pid(pid, Signal::KILL);
                p.wait_for("its end is said", BOUND, |p| {
                    said(p, "sh was killed by signal 9; ") == round / 2 + 1
                });
            }
        }
        wait_until("the counter is gone", BOUND, || process(pid).is_none());
        p.wait_for("there is another one", BOUND, |p| ![0, pid].contains(&pid_of_counter(p)));
    }
    p.wait_for("readings are back", BOUND, |p| said(p, "the source gives readings again") == 2);
    let pid = pid_of_counter(&p);
    let report = end(&mut p);
    wait_until("the counter ends with conv", BOUND, || process(pid).is_none());
    assert!(report.lost[UNREAD as usize] >= 6, "{:?}", report.lost);
    assert!(said(&p, "ipc-conv: warning: sh: ready") >= 4, "{}", p.story());
    let values: Vec<i32> = samples(&report.record).iter().map(|e| e.value).collect();
    assert!(values.is_sorted_by(|a, b| a < b), "{values:?}");
    leave(p);
}

#[test]
fn a_polled_file_vanishes_and_comes_back() {
    let config =
        "[source]\nkind = \"poll\"\nfiles = [\"a\", \"b\"]\ncolumns = [2, 1]\n[conv]\nrate = \"20 Hz\"\n";
    let mut p = Pipeline::new(&format!("{config}{QUICK}{}", channels(&[1, 0])));
    let [a, b] = ["a", "b"].map(|name| p.dir().join(name));
    put(&a, "load 0.25\n");
    put(&b, "7\n");
    p.start_all();
    for round in 1..=3 {
        let before = p.durable();
        p.wait_for("it is read", BOUND, |p| {
            p.durable() > before + 20 && said(p, "gives readings again") == round - 1
        });
        let words = match round {
            2 => "column 1 of b is no sample: this is no decimal number",
            _ => "cannot read a: No such file",
        };
        let times = said(&p, words) + 1;
        if round == 2 {
            put(&b, "nonsense\n")
        } else {
            fs::remove_file(&a).unwrap()
        }
        p.wait_for("that is said", BOUND, |p| said(p, words) >= times);
        let empty = p.counter(Role::Conv, "empty");
        p.wait_for("its ticks are counted", BOUND, |p| p.counter(Role::Conv, "empty") >= empty + 8);
        if round == 1 {
            kill_and_start(&mut p, Role::Conv); // while there is no reading
            p.wait_for("the new life says so too", BOUND, |p| said(p, words) > times);
        }
        put(&a, "load 0.35\n");
        put(&b, "7\n");
    }
    let before = p.durable();
    p.wait_for("it is read again", BOUND, |p| p.durable() > before + 20);
    let report = end(&mut p);
    let [missed, unread] = [MISSED, UNREAD].map(|reason| report.lost[reason as usize]);
    // What conv had not yet told the spool when it was killed is missed in its next life.
    assert!(unread >= 16 && missed + unread >= 24, "{:?}", report.lost);
    let proved: serde_json::Value = serde_json::from_str(&p.expect(&["verify", "--json"], 0)).unwrap();
    let count = |of: &str, name: &str| proved[of][name].as_u64().unwrap();
    assert_eq!((count("lost", "missed"), count("lost", "unread")), (missed, unread));
    assert_eq!(count("ticks", "empty"), missed + unread, "each tick has one word");
    for row in samples(&report.record).chunks(2) {
        assert!([3, 4].contains(&row[0].value) && row[1].value == 7, "{row:?}"); // rounded away from zero
    }
    // Once in each outage and life; a machine that is too busy to answer in time may cut an outage in two.
    assert!((3..10).contains(&said(&p, "cannot read a: ")), "{}", p.story());
    leave(p);
}

#[test]
fn a_pipe_that_says_nothing_misses_ticks() {
    let mut p = Pipeline::new(&format!(
        "[source]\nkind = \"lines\"\npath = \"fifo\"\nheader = true\n[conv]\nrate = \"50 Hz\"\n{QUICK}"
    ));
    let fifo = p.dir().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    p.start_all();
    for round in 0..2 {
        p.wait_for("conv accepts", BOUND, |p| p.head().is_some());
        write_to(&fifo, if round == 0 { "value\n1\n2\n3\n" } else { "4\n5\n6\n" });
        p.wait_for("that is durable", BOUND, |p| samples_of(p) == 3 * (round + 1));
        p.wait_for("silence is counted", BOUND, |p| p.counter(Role::Conv, "missed_silent") >= 10);
        kill_and_start(&mut p, Role::Conv); // a header is only at the start of it all
        let lives = round as usize + 1;
        p.wait_for("conv is back", BOUND, |p| {
            said(p, "going on in epoch") == lives && p.counter(Role::Conv, "missed_down") > 0
        });
    }
    let report = end(&mut p);
    let values: Vec<i32> = samples(&report.record).iter().map(|e| e.value).collect();
    assert_eq!(values, [1, 2, 3, 4, 5, 6]);
    assert!(report.lost[MISSED as usize] >= 20, "{:?}", report.lost);
    leave(p);
}

/// Rows that conv has taken in this epoch.
fn samples_of(p: &Pipeline) -> u64 {
    p.counter(Role::Conv, "taken")
}

#[test]
fn a_sensor_moves_to_another_number() {
    let mut p = Pipeline::new(&format!(
        "[source]\nkind = \"hwmon\"\nsensors = [\"coretemp/Package id 0\"]\nroot = \"sys\"\n\
         [conv]\nrate = \"20 Hz\"\n{QUICK}{}",
        channels(&[1])
    ));
    let at = |n: u32| p.dir().join(format!("sys/class/hwmon/hwmon{n}"));
    let chip = |n: u32, name: &str, input: &str| {
        fs::create_dir_all(at(n)).unwrap();
        for (file, text) in [("name", name), ("temp1_input", input), ("temp1_label", "Package id 0")] {
            fs::write(at(n).join(file), text).unwrap();
        }
    };
    chip(0, "acpitz", "1000");
    let places = [at(0), at(1), at(2), p.dir().join("away")];
    chip(1, "coretemp", "45499");
    p.start_all();
    p.wait_for("it is read", BOUND, |p| p.durable() > 20);
    fs::rename(&places[1], &places[3]).unwrap();
    p.wait_for("it is missed", BOUND, |p| said(p, "there is no sensor coretemp/Package id 0") >= 1);
    fs::rename(&places[0], &places[1]).unwrap(); // another chip gets its number
    let times = said(&p, "there is no sensor coretemp/Package id 0");
    kill_and_start(&mut p, Role::Conv);
    p.wait_for("it is missed still", BOUND, |p| said(p, "there is no sensor coretemp/Package id 0") > times);
    fs::rename(&places[3], &places[2]).unwrap();
    p.wait_for("it is back", BOUND, |p| said(p, "the source gives readings again") >= 1);
    let before = p.durable();
    p.wait_for("it is read again", BOUND, |p| p.durable() > before + 20);
    let report = end(&mut p);
    assert!(report.lost[UNREAD as usize] > 0);
    assert!(samples(&report.record).iter().all(|e| e.value == 455));
    leave(p);
}

/// A record of a square wave on two channels, made by a pipeline whose conv is killed on the way.
fn recorded() -> (Pipeline, Vec<i32>) {
    let wave =
        "[source]\nkind = \"wave\"\nshape = \"square\"\namplitude = 9\nfrequency = \"50 Hz\"\nphase = 90\n";
    let mut p = start(&format!("{wave}[conv]\nrate = \"1 kHz\"\ncount = 600\n{QUICK}{}", channels(&[0, 1])));
    p.wait_for("half of it is durable", BOUND, |p| p.durable() > 600);
    kill_and_start(&mut p, Role::Conv);
    p.wait_for("conv has its count", BOUND, |p| !p.is_running(Role::Conv));
    let report = end(&mut p);
    let values: Vec<i32> = samples(&report.record).iter().map(|e| e.value).collect();
    let high = |quarter: usize, i: usize| if (i / 2 + quarter) % 20 < 10 { 9 } else { -9 };
    let wanted: Vec<i32> = (0..1200).map(|i| high(5 * (i % 2), i)).collect();
    assert_eq!(values, wanted); // missed ticks take no row of the wave
    (p, values)
}

#[test]
fn recordings_are_replayed_exactly() {
    let (p, values) = recorded();
    let csv = p.dir().join("all.csv");
    p.expect(&["export", "--output", csv.to_str().unwrap()], 0);
    let replayed = |path: PathBuf, conv: &str, speed: &str| {
        let path = path.display();
        let mut q = start(&format!(
            "[source]\nkind = \"replay\"\npath = \"{path}\"\n{speed}[conv]\n{conv}\n{QUICK}{}",
            channels(&[0, 1])
        ));
        q.wait_for("a part is durable", BOUND, |q| q.durable() > 200);
        kill_and_start(&mut q, Role::Conv);
        q.wait_for("conv comes to the end", BOUND, |q| !q.is_running(Role::Conv));
        let report = end(&mut q);
        let all = samples(&report.record);
        assert_eq!(all.iter().map(|e| e.value).collect::<Vec<_>>(), values);
        leave(q);
        all.last().unwrap().t_ns - all[0].t_ns
    };
    replayed(csv.clone(), "rate = \"2 kHz\"", "");
    // 600 rows were 1 ms apart, or more where ticks were missed; half of that is the least at twice the speed.
    let took = replayed(p.record(), "rate = \"max\"", "speed = 2\n");
    assert!(took >= 250_000_000, "{took} ns");
    leave(p);
}

#[test]
fn every_example_runs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut ran = Vec::new();
    for entry in fs::read_dir(root.join("config/examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue; // a program that reads along: tests/foreign
        }
        let text = fs::read_to_string(&path).unwrap();
        let mut p = Pipeline::new("");
        p.configure(&text[text.find("[source]").unwrap()..]);
        std::os::unix::fs::symlink(root.join("tests"), p.dir().join("tests")).unwrap();
        let chip = p.dir().join("sys/class/hwmon/hwmon3");
        fs::create_dir_all(&chip).unwrap();
        for (file, text) in [("name", "coretemp"), ("temp1_input", "45499"), ("temp1_label", "Package id 0")]
        {
            fs::write(chip.join(file), text).unwrap();
        }
        let mut args = vec!["--set", "conv.count=3"];
        if text.contains("\"hwmon\"") {
            args.extend(["--set", "source.root=sys"]);
        }
        let stdin = if text.contains("\"-\"") { Stdio::piped() } else { Stdio::null() };
        let mut run = p.run_with(&args, stdin);
        if let Some(mut stdin) = run.stdin() {
            use std::io::Write;
            stdin.write_all(b"1\nx\n2.5\n3\n").unwrap();
        }
        run.ends_with(0, BOUND);
        let report = p.judge();
        assert!(report.taken == 3, "{}: {} rows\n{}", path.display(), report.taken, run.err());
        let proof = p.expect(&["verify"], 0); // of percentiles and windows too
        assert!(proof.contains("equals a recomputation"), "{}: {proof}", path.display());
        ran.push(path.file_stem().unwrap().to_str().unwrap().to_owned());
        drop(run);
        p.assert_nothing_left();
    }
    ran.sort();
    assert_eq!(ran, ["alarm", "command", "ecg", "hwmon", "loadavg", "stdin", "wave", "windows"]);
}
