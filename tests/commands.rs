//! The commands that look at a record or a pipeline: `export`, `tail`, `top`, `plot`, and `log.text`. Their outputs are
//! compared with what the source and plain integers give.
#![forbid(unsafe_code)]

mod checker;
mod harness;

use harness::{Foreground, Pipeline, Role, process, processes, signal_pid, value, wait_until};
use rustix::process::Signal;
use std::fs;
use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

/// Everything that should happen does so within this time, on a busy machine too.
const BOUND: Duration = Duration::from_secs(30);
/// Physical value = (code - 1024) * 0.005.
const CHANNEL: &str = "[[channel]]\nname = \"ecg\"\nunit = \"mV\"\nscale = 0.005\noffset = -1024\n";
/// Through a ring that wraps often, with small segments.
const FAST: &str =
    "[conv]\nrate = \"max\"\n[spool]\ncapacity = 1024\n[log]\nsync = \"10ms\"\nsegment = \"64KiB\"\n";
const STEADY: &str = "[conv]\nrate = \"5 kHz\"\nmax_late = \"1h\"\n[spool]\ncapacity = 2048\n[log]\nsync = \"10ms\"\nsegment = \"64KiB\"\n";

/// A pipeline that has read so many lines and ended.
fn ended(lines: u64) -> Pipeline {
    let p = Pipeline::of_lines(lines, &format!("{FAST}{CHANNEL}"));
    p.run(&[]).ends_with(0, BOUND);
    p
}

/// The physical value of line `index`, as text, by integers alone.
fn physical(index: u64) -> String {
    let thousandths = 5 * (i64::from(value(index)) - 1024);
    let (sign, size) = (if thousandths < 0 { "-" } else { "" }, thousandths.unsigned_abs());
    format!("{sign}{}.{:03}", size / 1000, size % 1000)
}

/// Column `n` of CSV, without the heading.
fn column(csv: &str, n: usize) -> Vec<String> {
    csv.lines().skip(1).map(|line| line.split(',').nth(n).unwrap().to_owned()).collect()
}

#[test]
fn export_gives_the_physical_values_exactly() {
    let p = ended(5000);
    let csv = p.expect(&["export"], 0);
    assert!(csv.starts_with("seq,time,channel,value\n4,2"), "{}", &csv[..80]);
    assert!(column(&csv, 3).into_iter().eq((0..5000).map(physical)));
    assert!(column(&csv, 0).into_iter().eq((4..5004).map(|seq: u64| seq.to_string())));
    let raw = p.expect(&["export", "--raw"], 0);
    assert!(raw.starts_with("seq,time,channel,code\n"));
    assert!(column(&raw, 3).into_iter().eq((0..5000).map(|i| value(i).to_string())));
    let jsonl = p.expect(&["export", "--format", "jsonl"], 0);
    assert_eq!(jsonl.lines().count(), 5000);
    for ((index, line), time) in (0..).zip(jsonl.lines()).zip(column(&csv, 1)) {
        let text = format!(
            "{{\"seq\":{},\"time\":\"{time}\",\"channel\":0,\"name\":\"ecg\",\"value\":{},\"unit\":\"mV\"}}",
            index + 4,
            physical(index)
        );
        assert_eq!(line, text);
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
}

#[test]
fn export_selects_and_goes_on_exactly() {
    let p = ended(5000);
    let whole = p.expect(&["export"], 0);
    for cut in [4, 5, 2052, 5003] {
        let head = p.expect(&["export", "--seq", &format!("..{}", cut - 1)], 0);
        let rest = p.expect(&["export", "--seq", &format!("{cut}.."), "--no-heading"], 0);
        assert!(format!("{head}{rest}") == whole, "cut at {cut}");
    }
    // Every comparison is made with the last digit: thousandths against thousandths.
    let chosen =
        p.expect(&["export", "--where", "value > -1000.005 and not (value >= 0.245 or value = 0.1)"], 0);
    let wanted = (0..5000).filter(|i| {
        let thousandths = 5 * (i64::from(value(*i)) - 1024);
        thousandths > -1_000_005 && thousandths < 245 && thousandths != 100
    });
    let wanted: Vec<String> = wanted.map(physical).collect();
    assert!(
        wanted.len() > 100 && column(&chosen, 3) == wanted,
        "{} of {}",
        chosen.lines().count(),
        wanted.len()
    );
    // By time: the ends are those of two samples, one included, one not.
    let times = column(&whole, 1);
    let part = p.expect(&["export", "--from", &times[1000], "--to", &times[3000], "--channel", "ecg"], 0);
    let same = times.iter().filter(|t| (&times[1000]..&times[3000]).contains(t)).count();
    assert_eq!(part.lines().count(), 1 + same);
    assert!(same > 0 && p.expect(&["export", "--from", "1h", "--where", "seq <= 6"], 0).lines().count() == 4);
    for (args, said) in [
        (["--where", "value >> 3"], "at character 7: found \">>\""),
        (["--channel", "eeg"], "there is no channel \"eeg\"; the record has: 0 ecg"),
        (["--seq", "7..3"], "allowed: A..B with 1 <= A <= B"),
        (["--from", "yesterday"], "a time such as 2026-11-21T12:00:00Z"),
    ] {
        let text = p.expect(&[&["export"][..], &args].concat(), 64);
        assert!(text.contains(said), "{args:?}: {text}");
    }
    assert_eq!(p.expect(&["tail", "--once", "-n", "2"], 0).lines().count(), 2);
    let last = p.expect(&["tail", "--once", "-n", "1"], 0);
    let end = format!("Z  ecg  {:>10} mV  #5003\n", physical(4999));
    assert!(last.ends_with(&end) && last.starts_with(&times[4999]), "{last:?} {end:?}");
    assert_eq!(
        p.expect(&["tail", "--once", "--json", "-n", "70000"], 0),
        p.expect(&["export", "--format", "jsonl"], 0)
    );
}

#[test]
fn followers_get_every_sample_once_whatever_dies() {
    let p = Pipeline::of_lines(15_000, &format!("{STEADY}{CHANNEL}"));
    let mut run = p.run(&[]);
    run.wait_for_durable(100, BOUND);
    let mut export = p.begin("export", &["--follow"], Stdio::null());
    let mut tail = p.begin("tail", &["-n", "0", "--json"], Stdio::null());
    let mut stopped = p.begin("tail", &["-n", "5"], Stdio::null());
    for durable in [2000, 5000, 8000] {
        run.wait_for_durable(durable, BOUND);
        assert!(run.kill(Role::Log));
    }
    wait_until("followers have much", BOUND, || export.out().len() > 100_000 && stopped.out().len() > 10_000);
    stopped.signal(Signal::INT);
    stopped.ends_with(0, BOUND);
    assert!(stopped.out().ends_with('\n'), "whole lines");
    run.ends_with(0, BOUND);
    // They end with the pipeline.
    export.ends_with(0, BOUND);
    tail.ends_with(0, BOUND);
    assert!(export.out() == p.expect(&["export"], 0), "what was followed is not the record");
    let jsonl = p.expect(&["export", "--format", "jsonl"], 0);
    assert!(
        tail.out().len() > 100_000 && jsonl.ends_with(&tail.out()),
        "the tail is not the end of the record"
    );
}

/// Entries become durable faster than they can be printed.
#[test]
fn what_does_not_wait_for_more_ends() {
    let mut p = Pipeline::new("[source]\nkind = \"random\"\n[conv]\nrate = \"max\"\n[log]\nsync = \"5ms\"\n");
    p.start_all();
    p.wait_for("much is durable", BOUND, |p| p.durable() > 100_000);
    for _ in 0..3 {
        assert_eq!(p.expect(&["tail", "--once", "-n", "2"], 0).lines().count(), 2);
    }
    Role::ALL.into_iter().for_each(|role| p.stop(role, BOUND));
    p.remove_objects();
    p.assert_nothing_left();
}

#[test]
fn a_follower_ends_when_nobody_reads() {
    let p = Pipeline::of_lines(100_000, &format!("{STEADY}{CHANNEL}"));
    let mut run = p.run(&[]);
    run.wait_for_durable(100, BOUND);
    for command in [&["tail"][..], &["export", "--follow", "--no-heading"]] {
        // Nothing is ever printed, so no write can fail.
        let mut follower = p.command(env!("CARGO_BIN_EXE_ipc-pipeline"));
        follower.args(command).args(["--where", "seq < 1", "--config"]).arg(p.config());
        let mut follower = follower.stdout(Stdio::piped()).spawn().unwrap();
        run.wait_for_durable(run.durable() + 2000, BOUND);
        assert_eq!(follower.try_wait().unwrap(), None, "{command:?} waits");
        drop(follower.stdout.take());
        wait_until("it has ended", BOUND, || follower.try_wait().unwrap().is_some());
        assert!(run.is_running(), "{command:?} ended only with the pipeline");
    }
    run.signal(Signal::INT);
    run.ends_with(0, BOUND);
}

#[test]
fn the_text_file_goes_on_exactly_whatever_dies() {
    let path = "text = \"samples.txt\"\n";
    let mut p = Pipeline::of_lines(15_000, &format!("{STEADY}{path}{CHANNEL}"));
    let file = p.dir().join("samples.txt");
    let mut run = p.run(&[]);
    for durable in [1500, 4000, 6000] {
        run.wait_for_durable(durable, BOUND);
        assert!(run.kill(Role::Log));
    }
    run.wait_for_durable(8000, BOUND);
    // Moved away while it is written: another one is begun, going on there.
    let moved = p.dir().join("moved.txt");
    fs::rename(&file, &moved).unwrap();
    wait_until("it is made again", BOUND, || file.exists());
    run.ends_with(0, BOUND);
    let text = |paths: &[&std::path::Path]| -> String {
        let all: String = paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
        all.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect()
    };
    let csv = p.expect(&["export"], 0);
    let whole: String = (0..15_000)
        .zip(column(&csv, 0).iter().zip(column(&csv, 1)))
        .map(|(i, (seq, time))| format!("{time}  ecg  {:>10} mV  #{seq}\n", physical(i)))
        .collect();
    assert!(text(&[&moved, &file]) == whole, "lines are missing, twice or wrong");
    // A line that was torn by a kill is written again, and nothing else is.
    let len = fs::metadata(&file).unwrap().len();
    for torn in [1, 30, 64] {
        fs::File::options().write(true).open(&file).unwrap().set_len(len - torn).unwrap();
        p.run(&[]).ends_with(0, BOUND);
        assert!(text(&[&moved, &file]) == whole, "torn by {torn}");
    }
    // What is not ours is left alone, and said; the record does not mind.
    p.write_lines("in.txt", 0..15_100);
    fs::write(&file, "my own notes\n").unwrap();
    let mut run = p.run(&[]);
    run.ends_with(0, BOUND);
    assert!(run.err().contains("samples.txt is no file of log.text: move it away"), "{}", run.err());
    assert_eq!(fs::read_to_string(&file).unwrap(), "my own notes\n");
    p.judge_lines(15_100);
    p.assert_nothing_left();
}

#[test]
fn top_shows_one_screen() {
    let p = Pipeline::of_lines(1_000_000, &format!("{STEADY}{CHANNEL}"));
    let mut run = p.run(&[]);
    run.wait_for_durable(3000, BOUND);
    let screen = p.expect(&["top", "--once"], 0);
    let lines: Vec<&str> = screen.lines().collect();
    assert_eq!(lines.len(), 24, "{screen}");
    assert!(lines.iter().all(|line| line.chars().count() <= 80) && !screen.contains('\x1b'), "{screen}");
    assert!(lines[0].contains(&format!("instance {}   epoch 1", p.name)), "{screen}");
    assert!(
        lines[1].contains("accepted") && lines[1].contains("at risk") && lines[1].contains("nothing is lost"),
        "{screen}"
    );
    for (line, role) in lines[4..8].iter().zip(["conv", "log", "stat", "report"]) {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[..2], [role, "running"], "{screen}");
        let rate: u64 = words[3].strip_suffix("/s").unwrap().parse().unwrap();
        assert!((500..50_000).contains(&rate), "{screen}");
    }
    assert!(lines[10].starts_with(">ecg [mV]") && lines[10].contains(['▁', '█']), "{screen}");
    assert!(lines[11].starts_with(" the last 600 samples of ecg [mV]"), "{screen}");
    assert!(!screen.contains("quit"), "nobody can press a key: {screen}");
    let refused = p.expect(&["top"], 64);
    assert!(refused.contains("`top --once`"), "{refused}");
    run.signal(Signal::INT);
    run.ends_with(0, BOUND);
    // What is left of a pipeline that has ended.
    let screen = p.expect(&["top", "--once", "--every", "1ms"], 0);
    assert!(
        screen.contains("no spool") && screen.contains("not there") && screen.contains("ecg"),
        "{screen}"
    );
    let durable = p.status()["durable"].as_u64().unwrap();
    assert!(durable > 3000 && screen.contains(&format!("the record goes up to entry {durable}")), "{screen}");
    assert!(!screen.contains("lost"), "nobody has said so: {screen}");
}

/// While log stands still stat does too, and conv goes on: what it drops is seen at once, and in `top` as in `status`.
#[test]
fn top_and_status_say_the_same_losses() {
    let p = Pipeline::of_lines(
        1_000_000,
        "[conv]\nrate = \"20 kHz\"\npolicy = \"drop-newest\"\n[spool]\ncapacity = 512\n",
    );
    let mut run = p.run(&[]);
    run.wait_for_durable(1000, BOUND);
    signal_pid(run.daemon(Role::Log).unwrap(), Signal::STOP);
    wait_until("it drops", BOUND, || p.counter(Role::Conv, "full") > 1000);
    let screen = p.expect(&["top", "--once", "--every", "1ms"], 0);
    let text = p.ctl(&["status"]).stdout;
    let text = String::from_utf8(text).unwrap();
    for said in [&screen, &text] {
        let dropped = said.split_once("lost since epoch 1 began: ").and_then(|(_, after)| {
            after.lines().next()?.split(", ").find_map(|part| part.strip_suffix(" dropped"))
        });
        assert!(dropped.is_some_and(|n| n.parse::<u64>().unwrap() > 1000), "{said}");
        assert!(said.contains("lost in the record up to entry "), "{said}");
    }
    let lost = p.status()["lost"].clone();
    assert!(lost["since_epoch"]["dropped"].as_u64() > lost["in_record"]["dropped"].as_u64(), "{lost}");
    signal_pid(run.daemon(Role::Log).unwrap(), Signal::CONT);
    run.signal(Signal::INT);
    run.ends_with(0, BOUND);
}

/// The process of `top` on the terminal of script.
fn pid_of_top(script: &Foreground) -> i32 {
    let top = |parent: i32| {
        processes().into_iter().find(|c| c.parent == parent && c.name == "ipc-pipeline").map(|c| c.pid)
    };
    let shell = processes().into_iter().find(|c| c.parent == script.pid()).unwrap();
    top(script.pid()).or_else(|| top(shell.pid)).unwrap()
}

#[test]
fn top_ends_when_its_terminal_is_gone() {
    let p = ended(1000);
    let script = top_on_a_terminal(&p);
    wait_until("it has drawn", BOUND, || script.out().contains("q quit"));
    let top = pid_of_top(&script);
    script.signal(Signal::KILL);
    wait_until("top has ended", BOUND, || process(top).is_none());
}

/// `top` on a terminal of its own, made by script (util-linux).
fn top_on_a_terminal(p: &Pipeline) -> Foreground {
    let config = p.config();
    let command = format!(
        "stty rows 24 cols 80; exec {} top --config {}",
        env!("CARGO_BIN_EXE_ipc-pipeline"),
        config.display()
    );
    p.spawn("script", &["-qfec", &command, "/dev/null"], Stdio::piped())
}

#[test]
fn top_gives_the_terminal_back() {
    const ENTER: &str = "\x1b[?1049h";
    const LEAVE: &str = "\x1b[?1049l";
    let p = ended(1000);
    for end in ["q", "TERM", "HUP"] {
        let mut script = top_on_a_terminal(&p);
        wait_until("it has drawn", BOUND, || script.out().contains(ENTER) && script.out().contains("q quit"));
        let mut keys = script.stdin().unwrap();
        match end {
            "q" => keys.write_all(b"q").unwrap(),
            signal => {
                let signal = if signal == "TERM" { Signal::TERM } else { Signal::HUP };
                signal_pid(pid_of_top(&script), signal);
            }
        }
        script.ends_with(0, BOUND);
        let out = script.out();
        assert!(out.rfind(LEAVE) > out.rfind(ENTER), "{end}: the terminal was kept");
        assert!(out.rfind("\x1b[?25h") > out.rfind(ENTER), "{end}: the cursor is hidden");
    }
}

#[test]
fn plot_draws_every_kind_and_no_spike_is_lost() {
    // One spike among 20,000 samples: the picture has to reach it.
    let p = Pipeline::new(&format!("[source]\nkind = \"lines\"\npath = \"in.txt\"\n{FAST}{CHANNEL}"));
    let lines: String = (0..20_000).map(|i| if i == 12_345 { "1000000\n" } else { "1024\n" }).collect();
    fs::write(p.dir().join("in.txt"), lines).unwrap();
    p.run(&[]).ends_with(0, BOUND);
    for kind in ["series", "histogram", "windows"] {
        p.expect(&["plot", "--kind", kind, "--out", "plot.svg"], 0);
        let svg = fs::read_to_string(p.dir().join("plot.svg")).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
        for text in ["ecg [mV]: ", "20000 samples", "5000"] {
            assert!(svg.contains(text), "{kind}: {text:?} is missing");
        }
    }
    p.expect(&["plot", "--out", "plot.svg"], 0);
    let svg = fs::read_to_string(p.dir().join("plot.svg")).unwrap();
    // The line is broken where ipc-conv had to wait.
    let lines = svg.lines().filter(|line| line.contains("<polyline") && line.contains("#1450A0"));
    let points = lines.filter_map(|line| line.split("points=\"").nth(1)?.split('"').next());
    let points = points.flat_map(str::split_whitespace);
    let heights = points.map(|point| point.split_once(',').unwrap().1.parse::<i32>().unwrap());
    assert!(heights.clone().min().unwrap() + 300 < heights.max().unwrap(), "the spike is not in the picture");
    let text = p.expect(&["plot"], 0);
    assert_eq!(text.lines().count(), 30);
    assert_eq!(text.lines().next(), Some(" ecg [mV]: value over time, 20000 samples"));
    assert!(text.contains("(UTC)") && text.contains("5000 ┤") && text.lines().nth(1).is_some());
    assert!(p.expect(&["plot", "--where", "value > 99999"], 64).contains("no samples are selected"));
}

/// Channels of one unit share a picture with a legend, others stand below it; over time all have the same axis.
#[test]
fn plot_draws_several_channels() {
    let channel = |name: &str, unit: &str| format!("[[channel]]\nname = \"{name}\"\nunit = \"{unit}\"\n");
    let channels =
        [("in", "C"), ("out", "C"), ("air", "hPa")].map(|(name, unit)| channel(name, unit)).concat();
    let p = Pipeline::new(&format!("[source]\nkind = \"lines\"\npath = \"in.txt\"\n{FAST}{channels}"));
    fs::write(p.dir().join("in.txt"), "3 100 1000\n5 150 1010\n4 120 1005\n").unwrap();
    p.run(&[]).ends_with(0, BOUND);
    let svg = |args: &[&str]| {
        p.expect(&[&["plot", "--out", "plot.svg"], args].concat(), 0);
        fs::read_to_string(p.dir().join("plot.svg")).unwrap()
    };
    let lines = |svg: &str, colour| svg.matches(&format!("stroke=\"{colour}\" stroke-width=\"1\"")).count();
    let all = svg(&[]);
    for text in ["in, 3 samples", "out, 3 samples", "air [hPa]: value over time, 3 samples"] {
        assert!(all.contains(text), "{text:?} is missing: {all}");
    }
    // The course of each, and the line in the legend.
    assert_eq!((lines(&all, "#1450A0"), lines(&all, "#CD5F0A"), lines(&all, "#1E7D46")), (3, 2, 0), "{all}");
    let two = svg(&["--channel", "out", "--channel", "2"]);
    assert!(!two.contains("in, ") && two.contains("out [C]: ") && two.contains("air [hPa]: "), "{two}");
    let counts = svg(&["--kind", "histogram"]);
    assert!(["in [C]", "out [C]", "air [hPa]"].iter().all(|title| counts.contains(title)));
    assert!(!counts.contains("0.5\n</text>"), "a count is whole: {counts}");
    let text = p.expect(&["plot", "--kind", "windows", "--window", "1ms"], 0);
    assert!(
        ["\n out [C]: ", "\n air [hPa]: "].iter().all(|title| text.contains(title))
            && text.starts_with(" in [C]: "),
        "{text}"
    );
}

#[test]
fn check_tells_machines_every_fault() {
    let p = Pipeline::new("");
    let good: serde_json::Value = serde_json::from_str(&p.expect(&["check", "--json"], 0)).unwrap();
    assert_eq!((&good["instance"], &good["faults"]), (&p.name.as_str().into(), &serde_json::json!([])));
    std::fs::write(p.config(), "[conv]\nrate = \"fast\"\n").unwrap();
    let bad = p.expect(&["check", "--json", "--set", "spool.capacity=7"], 78);
    let bad: serde_json::Value = serde_json::from_str(&bad).unwrap();
    let faults = bad["faults"].as_array().unwrap();
    assert_eq!((&faults[0]["line"], &faults[0]["key"]), (&2.into(), &"conv.rate".into()));
    assert_eq!((faults.len(), &faults[1]["set"]), (2, &"spool.capacity=7".into()));
    assert!(faults[0]["text"].as_str().unwrap().contains("found \"fast\""));
}

#[test]
fn the_doctor_says_what_is_wrong_and_what_to_do() {
    let p = Pipeline::new("");
    let findings = |args: &[&str], code| -> serde_json::Value {
        serde_json::from_str(&p.expect(&[&["doctor", "--json"], args].concat(), code)).unwrap()
    };
    let verdict = |findings: &serde_json::Value, what: &str| {
        let all = findings.as_array().unwrap();
        let found = all.iter().find(|finding| finding["what"] == what).unwrap_or_else(|| panic!("{what}"));
        (found["verdict"].as_str().unwrap().to_owned(), found["remedy"].as_str().unwrap().to_owned())
    };
    let well = findings(&[], 0);
    assert_eq!(verdict(&well, "/dev/shm"), ("good".to_owned(), String::new()));
    assert!(!p.record().exists(), "it makes nothing");
    // More than any machine of this kind has.
    let narrow = findings(&["--set", "spool.capacity=67108864"], i32::from(free_shm() < 2 << 30));
    assert_eq!(verdict(&narrow, "/dev/shm").0 == "wrong", free_shm() < 2 << 30);
    let (said, remedy) = verdict(&findings(&["--set", "spool.capacity=7"], 1), "configuration");
    assert!(said == "wrong" && !remedy.is_empty());
    // A directory that others may write to.
    let run_dir = p.run_dir();
    std::fs::create_dir_all(&run_dir).unwrap();
    std::fs::create_dir_all(p.record()).unwrap();
    std::fs::set_permissions(&run_dir, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    assert_eq!(verdict(&findings(&[], 1), "directories").0, "wrong");
    let text = p.expect(&["doctor"], 1);
    assert!(text.contains("WRONG  directories") && text.contains("-> "), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

fn free_shm() -> u64 {
    let stat = rustix::fs::statvfs("/dev/shm").unwrap();
    stat.f_bavail * stat.f_frsize
}

#[test]
fn help_has_examples() {
    let p = Pipeline::new("");
    for command in ["export", "tail", "top", "plot", "verify", "pi"] {
        let out = p.command(env!("CARGO_BIN_EXE_ipc-pipeline")).args([command, "--help"]).output().unwrap();
        let help = String::from_utf8(out.stdout).unwrap();
        assert!(help.contains("Examples:") && help.contains(&format!("ipc-pipeline {command}")), "{help}");
    }
}
