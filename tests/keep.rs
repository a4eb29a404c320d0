//! Keeping a record: compressed segments, removed ones, archives. Real processes; whatever is killed, every total stays
//! right, and what is still there is what was written.
//!
//! `KEEP_KILLS` changes the number of kills.
#![forbid(unsafe_code)]

mod checker;
mod harness;
mod scale;

use harness::{Pipeline, Role, value, wait_until};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

const BOUND: Duration = Duration::from_secs(60);
const FAST: &str =
    "[conv]\nrate = \"max\"\n[spool]\ncapacity = 1024\n[log]\nsync = \"10ms\"\nsegment = \"64KiB\"\n";

fn segments(dir: &Path, ending: &str) -> usize {
    let names = fs::read_dir(dir).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(ending)).count()
}

fn sum(lines: u64) -> i64 {
    (0..lines).map(|i| i64::from(value(i))).sum()
}

/// What `verify` says; all must be true, and the totals those of the first `lines` lines of the source.
#[track_caller]
fn verified(p: &Pipeline, lines: u64) -> Value {
    let said: Value = serde_json::from_str(&p.expect(&["verify", "--json"], 0)).unwrap();
    let channel = &said["channels"][0];
    assert_eq!(channel["count"].as_u64(), Some(lines));
    assert_eq!(channel["sum"].as_str(), Some(&*sum(lines).to_string()));
    assert_eq!(
        (channel["first"].as_i64(), said["lost"]["corrupt"].as_u64()),
        (Some(value(0).into()), Some(0))
    );
    said
}

/// The values of an export, with the number of the line of the first one.
fn exported(p: &Pipeline, lines: u64) -> (u64, Vec<i32>) {
    let csv = p.expect(&["export"], 0);
    let values: Vec<i32> =
        csv.lines().skip(1).map(|line| line.rsplit(',').next().unwrap().parse().unwrap()).collect();
    (lines - values.len() as u64, values)
}

#[test]
fn a_compressed_record_is_the_same_record() {
    let lines = 60_000;
    let mut p = Pipeline::of_lines(lines, &format!("{FAST}compress = true\n"));
    let mut run = p.run(&[]);
    run.ends_with(0, BOUND);
    p.judge_lines(lines);
    let before = p.expect(&["export"], 0);
    assert!(p.expect(&["compress"], 0).starts_with("compressed: "));
    assert_eq!(segments(&p.record(), ".seg"), 0);
    assert!(segments(&p.record(), ".segz") >= 30);
    assert!(before == p.expect(&["export"], 0));
    p.judge_lines(lines);
    // It goes on behind what is compressed.
    p.write_lines("in.txt", 0..lines + 10);
    let mut run = p.run(&[]);
    run.ends_with(0, BOUND);
    p.judge_lines(lines + 10);
    p.assert_nothing_left();
}

#[test]
fn ipc_log_compresses_what_is_full() {
    let config = "[conv]\nrate = \"20 kHz\"\nmax_late = \"1h\"\n[log]\nsync = \"10ms\"\nsegment = \"64KiB\"\ncompress = true\n";
    let p = Pipeline::of_lines(1_000_000, config);
    let mut run = p.run(&[]);
    let dir = p.record();
    wait_until("some segments are compressed", BOUND, || dir.exists() && segments(&dir, ".segz") >= 3);
    p.expect(&["verify"], 0); // while it goes on
    run.signal(rustix::process::Signal::INT);
    run.ends_with(0, BOUND);
    p.judge();
}

#[test]
fn what_is_removed_stays_in_all_totals() {
    let lines = 200_000;
    let mut p = Pipeline::of_lines(lines, &format!("{FAST}keep_size = \"1MiB\"\n"));
    let mut run = p.run(&[]);
    run.ends_with(0, BOUND);
    // The keeper may have been late, and gets little of a busy machine: its next lives go on.
    let mut removed = 0;
    wait_until("most of it is removed", BOUND, || {
        let mut run = p.run(&["--for", "300ms"]);
        run.wait(BOUND);
        removed = verified(&p, lines)["summed_up"].as_u64().unwrap_or(0);
        removed > lines / 2
    });
    assert!(!p.record().join(format!("{:020}.seg", 1)).exists(), "{removed} removed");
    let (from, values) = exported(&p, lines);
    assert!(from > 0 && (from..lines).zip(&values).all(|(line, v)| *v == value(line)));
    // stat begins with the summary when it has nothing else, and ends with the same numbers.
    fs::remove_dir_all(p.record().with_file_name("stat")).unwrap();
    p.write_lines("in.txt", 0..lines + 5);
    let mut run = p.run(&[]);
    run.ends_with(0, BOUND);
    let last = run.last_line();
    assert!(
        last.contains(&format!("n={} ", lines + 5)) && last.contains(&format!("sum={}", sum(lines + 5))),
        "{last}"
    );
    assert_eq!(verified(&p, lines + 5)["stat"]["result"], "equal");
    // Without the summary nobody knows what was there.
    fs::remove_file(p.record().join("summary")).unwrap();
    p.expect(&["verify"], 1);
    let mut run = p.run(&[]);
    assert_ne!(run.wait(BOUND), 0);
    assert!(run.err().contains("entry 1 was durable"), "{}", run.err());
    p.remove_objects();
    p.assert_nothing_left();
}

/// What was removed on purpose is no damage to anybody; what is missing otherwise is.
#[test]
fn all_commands_read_behind_removed_segments() {
    let lines = 100_000;
    let mut p = Pipeline::of_lines(lines, &format!("{FAST}keep_size = \"1MiB\"\n"));
    p.run(&[]).ends_with(0, BOUND);
    p.start(Role::Log);
    let dir = p.record();
    p.wait_for("the oldest segments are removed", BOUND, |_| segments(&dir, ".seg") < 25);
    p.stop(Role::Log, BOUND);
    let whole = p.expect(&["export"], 0);
    let seqs: Vec<u64> =
        whole.lines().skip(1).map(|line| line.split(',').next().unwrap().parse().unwrap()).collect();
    let first = seqs[0];
    assert!(first > 10_000 && seqs.iter().copied().eq(first..lines + 4), "from {first}");
    let timeless = |text: &str| text.contains(",,") || text.contains("null") || text.contains("\n-  ");
    assert!(!timeless(&whole), "the summary knows the time");
    for (from, to) in [(1, first + 10), (first - 1, first + 10), (first, first + 10), (first + 5, first + 10)]
    {
        let some = p.expect(&["export", "--no-heading", "--seq", &format!("{from}..{to}")], 0);
        let wanted: String = whole
            .lines()
            .skip(1 + (from.max(first) - first) as usize)
            .take((to + 1 - from.max(first)) as usize)
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(some, wanted, "{from}..{to}");
    }
    assert_eq!(p.expect(&["export", "--no-heading", "--seq", "1..100"], 0), "");
    for (count, wanted) in [("3", 3), ("1000000", seqs.len())] {
        let tail = p.expect(&["tail", "--once", "-n", count], 0);
        assert!(tail.lines().count() == wanted && !timeless(&tail), "{count}");
    }
    assert_eq!(p.expect(&["tail", "--once", "--seq", "..100"], 0), "");
    for kind in ["series", "histogram", "windows"] {
        let picture = p.expect(&["plot", "--kind", kind], 0);
        assert!(picture.contains(&format!("{} samples", seqs.len())), "{picture}");
    }
    let screen = p.expect(&["top", "--once", "--every", "1ms"], 0);
    assert!(screen.contains("the last 600 samples"), "{screen}");
    // The summary is damaged: it is named, and no export seems whole, wherever it begins.
    let sound = fs::read(dir.join("summary")).unwrap();
    fs::write(dir.join("summary"), [&sound[..200], &[sound[200] ^ 1], &sound[201..]].concat()).unwrap();
    for from in [1, first - 1, first, first + 5] {
        let said = p.expect(&["export", "--seq", &format!("{from}..{}", first + 10)], 1);
        assert!(said.contains("the summary of what was removed is damaged"), "{said}");
    }
    let said = p.expect(&["verify"], 1);
    assert!(
        said.contains(&format!("summary: it is damaged, and what was removed before entry {first}")),
        "{said}"
    );
    fs::write(dir.join("summary"), sound).unwrap();
    assert!(p.expect(&["verify"], 0).contains(", 1 epoch\n"));
    // The first segment that was kept is gone, without a word in the summary.
    fs::remove_file(dir.join(format!("{first:020}.seg"))).unwrap();
    let said = p.expect(&["export", "--seq", &format!("{}..", first - 1)], 1);
    assert!(said.contains("damaged entries were left out"), "{}", said.lines().last().unwrap());
    p.expect(&["verify"], 1);
    p.remove_objects();
    p.assert_nothing_left();
}

/// log and stat are killed over and over while segments are compressed and removed under them.
#[test]
fn kills_while_segments_are_compressed_and_removed() {
    let kills = scale::size("KEEP_KILLS", [30, 1_000, 10_000]);
    let lines = 10_000 + kills * 4_000;
    let config = "[conv]\nrate = \"20 kHz\"\nmax_late = \"1h\"\n[spool]\ncapacity = 16384\n\
                  [log]\nsync = \"5ms\"\nsegment = \"64KiB\"\ncompress = true\nkeep_size = \"1MiB\"\n";
    let mut p = Pipeline::of_lines(lines, config);
    let mut run = p.run(&[]);
    run.wait_for_durable(1, BOUND);
    let mut rng = fastrand::Rng::with_seed(scale::seed("KEEP_SEED"));
    for _ in 0..kills {
        sleep(Duration::from_millis(rng.u64(0..150)));
        run.kill(if rng.u8(0..3) > 0 { Role::Log } else { Role::Stat });
    }
    run.ends_with(0, BOUND * 4);
    let last = run.last_line();
    assert!(last.contains(&format!("n={lines} ")) && last.contains(&format!("sum={}", sum(lines))), "{last}");
    verified(&p, lines);
    let (from, values) = exported(&p, lines);
    assert!((from..lines).zip(&values).all(|(line, v)| *v == value(line)));
    p.assert_nothing_left();
    scale::tally(kills, None);
}

#[test]
fn an_archive_stays_readable_and_a_new_record_begins() {
    let lines = 20_000;
    let mut p = Pipeline::of_lines(lines, FAST);
    let mut run = p.run(&[]);
    run.ends_with(0, BOUND);
    let before = p.expect(&["export"], 0);
    p.expect(&["archive", "--to", "nowhere"], 71);
    let said = p.expect(&["archive", "--compress"], 0);
    assert!(said.contains("compressed: ") && said.contains("the next run begins a new record"), "{said}");
    assert!(!p.record().exists());
    let state = fs::read_dir(p.record().parent().unwrap()).unwrap();
    let old = state.map(|d| d.unwrap().path()).find(|d| d.to_str().unwrap().contains("/log-")).unwrap();
    assert!(before == p.expect(&["export", old.to_str().unwrap()], 0));
    p.expect(&["verify", old.to_str().unwrap()], 0);
    p.expect(&["archive"], 2);
    let mut run = p.run(&[]);
    run.ends_with(0, BOUND);
    p.judge_lines(lines);
    assert_eq!(segments(&old, ".seg"), 0);

    let done = |args: &[&str]| -> serde_json::Value { serde_json::from_str(&p.expect(args, 0)).unwrap() };
    let archived = done(&["archive", "--json", "--to", "."]);
    let path = archived["archive"].as_str().unwrap();
    assert_eq!(
        (&archived["entries"], &archived["bytes_after"]),
        (&(lines + 3).into(), &serde_json::Value::Null)
    );
    let compressed = done(&["compress", "--json", path]);
    assert_eq!(
        (&compressed["log_id"], &compressed["archive"]),
        (&archived["log_id"], &serde_json::Value::Null)
    );
    assert!(compressed["bytes_after"].as_u64() < compressed["bytes_before"].as_u64(), "{compressed}");
    p.expect(&["verify", path], 0);
    p.assert_nothing_left();
}

#[test]
fn a_running_pipeline_is_not_archived() {
    let mut p = Pipeline::new("");
    let mut run = p.run(&[]);
    run.wait_for_durable(4, BOUND);
    p.expect(&["archive"], 75);
    p.expect(&["compress"], 75);
    assert!(run.is_running() && p.record().exists());
    run.signal(rustix::process::Signal::INT);
    run.ends_with(0, BOUND);
    p.judge();
    p.assert_nothing_left();
}
