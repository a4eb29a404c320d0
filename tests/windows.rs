//! `export --windows`: every closed window, against sums over the lines of `export` by plain integers, against what stat
//! published last, and behind removed segments.
#![forbid(unsafe_code)]

mod checker;
mod harness;

use checker::{EPOCH, Published};
use harness::{Pipeline, Role, entries, snapshot_rows, value};
use jiff::Timestamp;
use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

const BOUND: Duration = Duration::from_secs(60);
const CTL: &str = env!("CARGO_BIN_EXE_ipc-pipeline");
const ROWS: u64 = 25_000;
const HEADING: &str = "window,channel,from,to,n,mean,stddev,min,max,first,last,p50,p99.9";
const SIZE: [u64; 2] = [20_000_000, 1000];
const STEP: [u64; 2] = [5_000_000, 250];
const WINDOW: [&str; 2] = ["20ms by 5ms", "1000 by 250 samples"];

/// Two channels, the first one with physical value = (code - 1024) * 0.005; `record` is what else `[log]` says.
fn config(record: &str) -> String {
    format!(
        "[source]\nkind = \"lines\"\npath = \"in.txt\"\ncolumns = [1, 2]\n\
         [conv]\nrate = \"20 kHz\"\nmax_late = \"1h\"\n[spool]\ncapacity = 2048\n\
         [log]\nsync = \"10ms\"\nsegment = \"64KiB\"\n{record}\n[stat]\npercentiles = [50, 99.9]\n\
         [[channel]]\nname = \"ecg\"\nunit = \"mV\"\nscale = 0.005\noffset = -1024\n[[channel]]\nname = \"b\"\n\
         [[window]]\nsize = \"20ms\"\nstep = \"5ms\"\n[[window]]\nsize = 1000\nstep = 250\n"
    )
}

/// A number in the source: 13 bits, so that percentiles are exact.
fn code(i: u64) -> i32 {
    value(i) >> 8
}

fn physical(channel: u64, code: i32) -> String {
    match channel {
        0 => decimal(5 * (i128::from(code) - 1024), 3),
        _ => code.to_string(),
    }
}

/// units / 10^places.
fn decimal(units: i128, places: usize) -> String {
    let (sign, digits) = (if units < 0 { "-" } else { "" }, format!("{:0>5}", units.unsigned_abs()));
    let (whole, rest) = digits.split_at(digits.len() - places);
    let whole = whole.trim_start_matches('0');
    format!("{sign}{}.{rest}", if whole.is_empty() { "0" } else { whole })
}

/// A line of `export`.
struct Sample {
    t_ns: u64,
    time: String,
    channel: u64,
    value: String,
    thousandths: i128,
}

fn samples(csv: &str, zero_ns: i128) -> Vec<Sample> {
    let lines = csv.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>());
    let samples = lines.map(|fields| {
        let time = fields[1].parse::<Timestamp>().unwrap().as_nanosecond();
        let digits: i128 = fields[3].replace('.', "").parse().unwrap();
        Sample {
            t_ns: u64::try_from(time - zero_ns).unwrap(),
            time: fields[1].into(),
            channel: fields[2].parse().unwrap(),
            value: fields[3].into(),
            thousandths: if fields[3].contains('.') { digits } else { digits * 1000 },
        }
    });
    samples.collect()
}

/// All lines that must be there, in no order.
fn windows(all: &[Sample], zero_ns: i128) -> Vec<String> {
    let time = |t_ns: u64| format!("{:.9}", Timestamp::from_nanosecond(zero_ns + i128::from(t_ns)).unwrap());
    let last = all.last().unwrap().t_ns;
    let mut lines = Vec::new();
    for channel in 0..2 {
        let mine: Vec<&Sample> = all.iter().filter(|s| s.channel == channel).collect();
        for end in (SIZE[0]..=last).step_by(STEP[0] as usize) {
            let from = end - SIZE[0];
            let inside: Vec<&Sample> =
                mine.iter().copied().filter(|s| (from..end).contains(&s.t_ns)).collect();
            if !inside.is_empty() {
                lines.push(line(0, [time(from), time(end)], &inside));
            }
        }
        for end in (SIZE[1] as usize..=mine.len()).step_by(STEP[1] as usize) {
            let inside = &mine[end - SIZE[1] as usize..end];
            let times = [&inside[0], &inside[inside.len() - 1]].map(|s| s.time.clone());
            lines.push(line(1, times, inside));
        }
    }
    lines.sort();
    lines
}

fn line(window: usize, [from, to]: [String; 2], inside: &[&Sample]) -> String {
    let n = inside.len() as i128;
    let sum: i128 = inside.iter().map(|s| s.thousandths).sum();
    let squares: i128 = inside.iter().map(|s| s.thousandths.pow(2)).sum();
    let tenfold = 10 * sum.abs();
    let mean = (tenfold + n / 2 + n % 2 - (n % 2 == 1) as i128) / n * sum.signum();
    let mut sorted = inside.to_vec();
    sorted.sort_by_key(|s| s.thousandths);
    let stddev =
        if n > 1 { decimal(root(100 * (n * squares - sum * sum), n * (n - 1)), 4) } else { "".into() };
    let rank = |thousandths: usize| (thousandths * inside.len()).div_ceil(1000).max(1);
    let values = [
        sorted[0],
        sorted[sorted.len() - 1],
        inside[0],
        inside[inside.len() - 1],
        sorted[rank(500) - 1],
        sorted[rank(999) - 1],
    ];
    let values: String = values.iter().map(|s| format!(",{}", s.value)).collect();
    let (window, channel) = (WINDOW[window], inside[0].channel);
    format!("{window},{channel},{from},{to},{n},{},{stddev}{values}", decimal(mean, 4))
}

/// The integer nearest to the root of num / den.
fn root(num: i128, den: i128) -> i128 {
    let r = (num / den).isqrt();
    if (2 * r + 1).pow(2) * den <= 4 * num { r + 1 } else { r }
}

/// The whole record, all four daemons at rest, objects still there.
fn recorded() -> Pipeline {
    let mut p = Pipeline::new(&config(""));
    let line = |row: u64| format!("{},{}\n", code(2 * row), code(2 * row + 1));
    fs::write(p.dir().join("in.txt"), (0..ROWS).map(line).collect::<String>()).unwrap();
    p.start_all();
    p.wait_for("the source has ended", BOUND, |p| p.source_ended);
    let head = p.head().unwrap();
    p.wait_for("all is folded", BOUND, |p| p.folded() == head);
    [Role::Log, Role::Stat, Role::Report].into_iter().for_each(|role| p.stop(role, BOUND));
    p
}

/// Of a directory, without any configuration.
fn alone(p: &Pipeline, dir: &Path) -> Output {
    let mut command = p.command(CTL);
    command.args(["export", "--windows", "--digits", "4"]).arg(dir).output().unwrap()
}

fn text(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn windows_are_those_of_the_samples() {
    let mut p = recorded();
    let whole = p.expect(&["export", "--windows", "--digits", "4"], 0);
    assert_eq!(whole.lines().next(), Some(HEADING));
    let zero_ns = i128::from(entries(&p.record()).iter().find(|e| e.kind == EPOCH).unwrap().t_ns);
    let all = samples(&p.expect(&["export"], 0), zero_ns);
    assert_eq!(all.len() as u64, 2 * ROWS);
    let mut found: Vec<&str> = whole.lines().skip(1).collect();
    let wanted = windows(&all, zero_ns);
    found.sort();
    let differ = found.iter().zip(&wanted).find(|(found, wanted)| found != wanted);
    assert_eq!(differ, None);
    assert_eq!(found.len(), wanted.len());
    assert!(wanted.len() > 400, "{} windows", wanted.len());
    // The last one of each is what stat has published.
    let rows: Vec<Published> = snapshot_rows(&p.paths.snapshot()).into_iter().map(|r| r.row).collect();
    let of_windows: Vec<&Published> = rows.iter().filter(|row| row.more.window > 0).collect();
    assert_eq!(of_windows.len(), 4);
    for row in of_windows {
        let channel = u64::from(row.channel);
        let begin = format!("{},{channel},", WINDOW[row.more.window as usize - 1]);
        let last = whole.lines().rfind(|line| line.starts_with(&begin)).unwrap();
        let fields: Vec<&str> = last.split(',').collect();
        assert_eq!((row.more.closed, fields[4]), (1, &*row.count.to_string()));
        let codes = [row.min, row.max, row.first, row.last, row.more.codes[0], row.more.codes[1]];
        assert_eq!(fields[7..], codes.map(|code| physical(channel, code)), "{last}");
    }
    selections_and_forms(&p, &whole);
    p.remove_objects();
    p.assert_nothing_left();
}

fn selections_and_forms(p: &Pipeline, whole: &str) {
    let jsonl = p.expect(&["export", "--windows", "--digits", "4", "--format", "jsonl"], 0);
    assert_eq!(jsonl.lines().count(), whole.lines().count() - 1);
    for (object, line) in jsonl.lines().zip(whole.lines().skip(1)) {
        let object: serde_json::Value = serde_json::from_str(object).unwrap();
        let fields = HEADING.split(',').map(|key| match &object[key] {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        let ours: Vec<String> = fields.collect();
        // A float that was read may be written with fewer digits.
        for (ours, theirs) in ours.iter().zip(line.split(',')) {
            let same = ours == theirs || ours.parse::<f64>().ok() == theirs.parse::<f64>().ok();
            assert!(same, "{line}: {ours}");
        }
    }
    let one = p.expect(&["export", "--windows", "--digits", "4", "--channel", "b", "--no-heading"], 0);
    let wanted: String =
        whole.lines().filter(|l| l.split(',').nth(1) == Some("1")).map(|l| format!("{l}\n")).collect();
    assert!(one == wanted);
    let third: Vec<&str> = whole.lines().nth(3).unwrap().split(',').collect();
    let some = p.expect(&["export", "--windows", "--digits", "4", "--from", third[2], "--to", third[3]], 0);
    assert!(some.lines().any(|line| line == third.join(",")));
    let inside = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        fields[2] >= third[2] && fields[3] <= third[3]
    };
    assert!(some.lines().skip(1).all(inside) && some.lines().count() < 10, "{some}");
    p.expect(&["export", "--windows", "--seq", "1..5"], 64);
    p.expect(&["export", "--digits", "4"], 64);
    let none =
        p.command(CTL).args(["export", "--windows", "--set", "stat.ewma=0.5"]).arg(p.record()).output();
    let none = String::from_utf8(none.unwrap().stderr).unwrap();
    assert!(none.contains("no windows are asked for"), "{none}");
}

#[test]
fn windows_of_a_directory_alone_and_behind_removed_segments() {
    let mut p = recorded();
    let dir = p.record();
    let whole = p.expect(&["export", "--windows", "--digits", "4"], 0);
    assert!(text(alone(&p, &dir)) == whole, "not the windows of the checkpoint");
    fs::remove_dir_all(dir.with_file_name("stat")).unwrap();
    let nobody_knows = alone(&p, &dir);
    let said = String::from_utf8_lossy(&nobody_knows.stderr);
    assert!(nobody_knows.status.code() == Some(64) && said.contains("name its configuration"), "{said}");
    // Another life of log, which removes.
    p.configure(&config("keep_size = \"1MiB\""));
    p.start(Role::Log);
    p.wait_for("segments are removed", BOUND, |_| dir.join("summary").exists());
    p.stop(Role::Log, BOUND);
    let kept = p.expect(&["export", "--windows", "--digits", "4"], 0);
    assert!(text(alone(&p, &dir)) == kept, "not the windows of the summary");
    let (kept, whole): (Vec<&str>, Vec<&str>) = (kept.lines().collect(), whole.lines().collect());
    assert!(10 < kept.len() && kept.len() < whole.len(), "{} of {}", kept.len(), whole.len());
    // Only when the first windows of samples began is no longer known.
    let mut unknown = 0;
    for (kept, whole) in kept.iter().skip(1).zip(&whole[whole.len() - kept.len() + 1..]) {
        let fields: Vec<&str> = whole.split(',').collect();
        let blank = [&fields[..2], &[""], &fields[3..]].concat().join(",");
        unknown += usize::from(*kept == blank);
        assert!(kept == whole || *kept == blank && unknown <= 8, "{kept} is not {whole}");
    }
    p.remove_objects();
    p.assert_nothing_left();
}
