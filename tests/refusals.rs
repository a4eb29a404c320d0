//! What does not fit together is refused loudly, once, and nothing is lost; what is broken is made anew.
#![forbid(unsafe_code)]

mod checker;
mod harness;

use checker::{ABANDONED, CORRUPT, EPOCH, GRID, LOSS, MISSED, SAMPLE, SOURCE, check_source};
use harness::{Foreground, Pipeline, Role, Spool, entries, samples, signal_pid, value, wait_until};
use rustix::process::Signal;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const BOUND: Duration = Duration::from_secs(30);
/// For two seconds: a pipeline must not reach its end before a busy machine has let the test do what it wants to it.
const LINES: u64 = 40_000;
const FAST: &str = "[conv]\nrate = \"20 kHz\"\nmax_late = \"1h\"\n[spool]\ncapacity = 512\n[log]\nsync = \"5ms\"\nsegment = \"64KiB\"\n";
const STEADY: &str =
    "[conv]\nrate = \"20 kHz\"\nmax_late = \"1h\"\n[spool]\ncapacity = 512\n[log]\nsync = \"5ms\"\n";

/// A pipeline that was ended at once while its spool was full of entries that are not durable: their number.
fn with_a_live_spool(p: &Pipeline) -> u64 {
    let mut run = p.run(&[]);
    run.wait_for_durable(3000, BOUND);
    fill_and_end(p, &mut run)
}

fn fill_and_end(p: &Pipeline, run: &mut Foreground) -> u64 {
    let spool = Spool::open(&p.paths.spool()).unwrap();
    let pid = run.daemon(Role::Log).unwrap();
    let held = |from: u64| spool.head().unwrap().saturating_sub(from);
    wait_until("the spool is full of what log has not seen", BOUND, || {
        wait_until("log keeps up", BOUND, || held(p.durable()) < 200);
        signal_pid(pid, Signal::STOP);
        wait_until("log is frozen", BOUND, || harness::process(pid).is_some_and(|p| p.state == "T"));
        let frozen_at = spool.head().unwrap();
        wait_until("the spool is full", BOUND, || held(spool.tail().unwrap()) >= 512);
        let unseen = held(frozen_at);
        if unseen < 100 {
            signal_pid(pid, Signal::CONT);
        }
        unseen >= 100
    });
    run.signal(Signal::INT);
    wait_until("conv has gone", BOUND, || run.daemon(Role::Conv).is_none());
    run.signal_again(Signal::INT);
    run.ends_with(71, BOUND);
    held(p.durable())
}

#[track_caller]
fn ends_exactly(p: &mut Pipeline, run: &mut Foreground, lines: u64) -> checker::Report {
    run.ends_with(0, BOUND);
    let report = p.judge_lines(lines);
    let last = run.last_line();
    assert!(last.contains(&format!("n={} ", report.samples)), "{last}\n{}", run.err());
    p.assert_nothing_left();
    report
}

#[track_caller]
fn says_once(text: &str, what: &str) {
    assert_eq!(text.matches(what).count(), 1, "{what:?} is to be said once:\n{text}");
}

fn count(p: &Pipeline, kind: u8, flags: u8) -> u64 {
    entries(&p.record()).iter().filter(|e| (e.kind, e.flags) == (kind, flags)).count() as u64
}

// ---- changed settings

#[test]
fn another_capacity_waits_for_a_clean_stop() {
    let mut p = Pipeline::of_lines(LINES, STEADY);
    with_a_live_spool(&p);
    let mut run = p.run(&["--set", "spool.capacity=1024"]);
    run.wait_for_durable(6000, BOUND);
    wait_until("conv says so", BOUND, || run.err().contains("the spool has 512"));
    says_once(&run.err(), "the spool has 512 entries, not the 1024 of spool.capacity");
    assert!(run.err().contains("takes effect after the next clean stop"), "{}", run.err());
    assert_eq!(Spool::open(&p.paths.spool()).unwrap().capacity, 512);
    run.signal(Signal::INT);
    run.ends_with(0, BOUND);
    let mut run = p.run(&["--set", "spool.capacity=1024"]);
    wait_until("a new spool", BOUND, || Spool::open(&p.paths.spool()).is_some_and(|s| s.capacity == 1024));
    ends_exactly(&mut p, &mut run, LINES);
}

#[test]
fn another_grid_under_a_live_spool() {
    let mut p = Pipeline::of_lines(
        LINES,
        "[conv]\nrate = \"20 kHz\"\n[spool]\ncapacity = 512\n[log]\nsync = \"5ms\"\n",
    );
    with_a_live_spool(&p);
    let mut run = p.run(&["--set", "conv.rate=25 kHz"]);
    run.wait_for_durable(6000, BOUND);
    run.kill(Role::Conv);
    let report = ends_exactly(&mut p, &mut run, LINES);
    assert_eq!((report.epochs, report.samples), (1, LINES));
    let all = entries(&p.record());
    let grids: Vec<usize> = (0..all.len()).filter(|i| all[*i].kind == GRID).collect();
    assert_eq!(grids.len(), 2);
    assert_eq!(all[grids[1]].wide(), 40_000_000);
    assert_eq!(all[grids[1] - 1].kind, SOURCE, "the same source goes on where it stood");
    assert_eq!(all[grids[1] - 1].wide(), all[1].wide());
    // The ticks of the time between the lives were missed on the old grid.
    assert!(all[..grids[1]].iter().any(|e| (e.kind, e.flags) == (LOSS, MISSED)), "missed ticks come first");
}

#[test]
fn another_source_under_a_live_spool() {
    let mut p = Pipeline::of_lines(LINES, FAST);
    with_a_live_spool(&p);
    let other = |i: u64| value(i + 77);
    let text: String = (0..5000).map(|i| format!("{}\n", other(i))).collect();
    fs::write(p.dir().join("other.txt"), text).unwrap();
    let mut run = p.run(&["--set", "source.path=other.txt"]);
    run.ends_with(0, BOUND);
    let report = p.judge();
    let all = entries(&p.record());
    let second = all.iter().rposition(|e| e.kind == SOURCE).unwrap();
    assert!(second > 2 && all[second].t_ns == 0 && all[second].wide() != all[1].wide());
    let taken = |part: &[checker::Entry]| -> Vec<i32> {
        part.iter().filter(|e| e.kind == SAMPLE).map(|e| e.value).collect()
    };
    let (before, after) = (taken(&all[..second]), taken(&all[second..]));
    assert!(
        before.iter().copied().eq((0..before.len() as u64).map(value)),
        "the old source as far as it came"
    );
    assert!(before.len() > 3400, "all that was accepted of it: {}", before.len());
    assert!(after.iter().copied().eq((0..5000).map(other)), "then all of the new one");
    assert_eq!(report.samples as usize, before.len() + after.len());
    p.assert_nothing_left();
}

#[test]
fn another_channel_table() {
    let p = Pipeline::of_lines(100, FAST);
    p.run(&[]).ends_with(0, BOUND);
    let before = entries(&p.record());
    p.configure(&format!(
        "[source]\nkind = \"lines\"\npath = \"in.txt\"\n{FAST}[[channel]]\nname = \"other\"\n"
    ));
    let mut run = p.run(&[]);
    run.ends_with(78, BOUND);
    says_once(&run.err(), "are not those of the configuration");
    let mut run = p.run(&["--set", "channel.decimals=2"]);
    run.ends_with(78, BOUND);
    assert_eq!(entries(&p.record()), before, "the record is as it was");
    p.configure(&format!("[source]\nkind = \"lines\"\npath = \"in.txt\"\n{FAST}"));
    p.write_lines("in.txt", 0..200);
    p.run(&[]).ends_with(0, BOUND);
    p.judge_lines(200);
}

/// conv alone gets other channels, in front of its spool and without one: it refuses, and what it had goes on as it was.
#[test]
fn another_channel_table_for_conv_alone() {
    let source = "[source]\nkind = \"lines\"\npath = \"in.txt\"\n";
    let slow = "[conv]\nrate = \"1 kHz\"\nmax_late = \"1h\"\n[log]\nsync = \"5ms\"\n";
    let mut p = Pipeline::of_lines(3000, slow);
    p.start_all();
    for without_spool in [false, true] {
        let before = p.durable();
        p.wait_for("it runs", BOUND, |p| p.durable() > before + 100);
        p.kill(Role::Conv);
        if without_spool {
            p.wait_for("all is durable", BOUND, |p| Some(p.durable()) == p.head());
            fs::remove_file(p.paths.spool()).unwrap();
        }
        let head = p.head();
        p.configure(&format!("{source}{slow}[[channel]]\ndecimals = 2\n"));
        let out = p.command(env!("CARGO_BIN_EXE_ipc-conv")).arg("--config").arg(p.config()).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(78), "{said}");
        says_once(&said, "are not those of the record");
        assert_eq!(p.head(), head, "nothing was accepted");
        p.configure(&format!("{source}{slow}"));
        p.start(Role::Conv);
    }
    p.wait_for("all is accepted", BOUND, |p| !p.is_running(Role::Conv));
    [Role::Log, Role::Stat, Role::Report].into_iter().for_each(|r| p.stop(r, BOUND));
    p.judge_lines(3000);
    p.remove_objects();
    p.assert_nothing_left();
}

// ---- the record is not what the spool knows

/// The four by hand in front of a record that does not fit their spool: said once by conv and by log, nothing accepted.
#[track_caller]
fn nothing_is_accepted(p: &mut Pipeline, head: u64, conv_says: &str) {
    p.start_all();
    for role in [Role::Log, Role::Conv] {
        p.wait_for("it is seen", BOUND, |p| p.state_of(role) == "foreign log");
    }
    let durable = p.durable();
    p.wait_for("log says so", BOUND, |p| p.said_by(Role::Log).contains("does not fit this record"));
    std::thread::sleep(Duration::from_millis(500)); // nothing happens: for how long?
    assert_eq!((p.head(), p.durable()), (Some(head), durable), "nothing is accepted, nothing is taken");
    says_once(&p.said_by(Role::Conv), conv_says);
    says_once(&p.said_by(Role::Log), "does not fit this record");
    let text = p.said_by(Role::Conv);
    assert!(text.contains("objects remove --abandon"), "the remedy: {text}");
    Role::ALL.into_iter().for_each(|r| p.stop(r, BOUND));
    assert_eq!(p.head(), Some(head));
}

/// `--abandon`, disturbed in all ways, counts the loss of a spool up to `head` exactly once: all behind `last`, which may
/// depend on where the LOSS stands. Gives the count.
#[track_caller]
fn abandon(p: &Pipeline, head: u64, last: impl Fn(&checker::Entry) -> u64) -> u64 {
    p.expect(&["objects", "remove"], 71);
    // Killed anywhere.
    for delay in 0..12 {
        let mut c = p.command(env!("CARGO_BIN_EXE_ipc-pipeline"));
        c.args(["objects", "remove", "--abandon", "--config"]).arg(p.config());
        let mut child = c.stdout(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(400 * delay));
        let _ = child.kill();
        child.wait().unwrap();
    }
    p.expect(&["objects", "remove", "--abandon"], 0);
    p.expect(&["objects", "remove", "--abandon"], 0);
    let all = entries(&p.record());
    let losses: Vec<_> = all.iter().filter(|e| (e.kind, e.flags) == (LOSS, ABANDONED)).collect();
    assert_eq!(losses.len(), 1, "{losses:?}");
    assert_eq!(losses[0].count(), head - last(losses[0]), "all after the last that the record has");
    assert!(losses[0].count() >= 100 && p.objects().is_empty(), "{:?}", p.objects());
    losses[0].count()
}

/// The loss is in the record, the spool could not be removed: again, and it is not counted again; or the pipeline is
/// started instead, and nothing that was counted as lost comes after all.
#[test]
#[ignore = "makes a file immutable, so it needs root"]
fn abandoning_that_fails_half_way() {
    for again in [true, false] {
        let mut p = Pipeline::of_lines(LINES, FAST);
        with_a_live_spool(&p);
        let (head, spool) = (p.head().unwrap(), p.paths.spool());
        let immutable = |how: &str| {
            let done = Command::new("chattr").arg(how).arg(&spool).status().expect("chattr (e2fsprogs) runs");
            assert!(done.success(), "chattr {how} needs root");
        };
        immutable("+i");
        for _ in 0..2 {
            let text = p.expect(&["objects", "remove", "--abandon"], 71);
            assert!(text.contains("cannot remove"), "{text}");
            assert_eq!(count(&p, LOSS, ABANDONED), 1, "{text}{}", p.state());
        }
        immutable("-i");
        if again {
            abandon(&p, head, |loss| loss.seq - 1);
        }
        let mut run = p.run(&[]);
        let report = ends_exactly(&mut p, &mut run, LINES);
        let loss = entries(&p.record()).into_iter().find(|e| (e.kind, e.flags) == (LOSS, ABANDONED)).unwrap();
        assert_eq!(loss.count(), head - (loss.seq - 1));
        assert_eq!((report.lost[ABANDONED as usize], report.epochs), (loss.count(), 2));
        assert!(run.last_print_says(&format!("abandoned={}", loss.count())), "{}", run.out());
    }
}

#[test]
fn a_wiped_record_under_a_live_spool() {
    let mut p = Pipeline::of_lines(LINES, FAST);
    with_a_live_spool(&p);
    let spool = Spool::open(&p.paths.spool()).unwrap();
    let (head, tail) = (spool.head().unwrap(), spool.tail().unwrap());
    fs::remove_dir_all(p.record()).unwrap();
    nothing_is_accepted(&mut p, head, "the spool belongs to record");
    abandon(&p, head, |_| tail);
    let mut run = p.run(&[]);
    run.ends_with(0, BOUND);
    // A new record reads the file from its beginning.
    let report = p.judge_lines(LINES);
    assert_eq!(report.lost[ABANDONED as usize], head - tail);
    p.assert_nothing_left();
}

#[test]
fn a_record_wiped_while_it_is_written() {
    let mut p = Pipeline::of_lines(400_000, STEADY);
    let mut run = p.run(&[]);
    run.wait_for_durable(3000, BOUND);
    let old = run.daemon(Role::Log);
    fs::remove_dir_all(p.record()).unwrap();
    wait_until("log has ended and sees a foreign spool", BOUND, || p.state_of(Role::Log) == "foreign log");
    assert_ne!(run.daemon(Role::Log), old);
    assert!(run.err().contains("the record was removed or replaced"), "{}", run.err());
    wait_until("conv accepts nothing", BOUND, || p.state_of(Role::Conv) == "foreign log");
    run.signal(Signal::INT);
    run.ends_with(71, BOUND);
    assert!(p.head().is_some(), "the spool stays");
    p.expect(&["objects", "remove", "--abandon"], 0);
    let mut run = p.run(&["--for", "1s"]);
    run.ends_with(0, BOUND);
    let report = p.judge();
    assert!(report.lost[ABANDONED as usize] > 0 && report.samples > 1000);
    p.assert_nothing_left();
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).unwrap();
    for file in fs::read_dir(from).unwrap().flatten() {
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

#[test]
fn an_older_copy_of_the_record_under_a_live_spool() {
    let mut p = Pipeline::of_lines(LINES, FAST);
    let mut run = p.run(&["--count", "2000"]);
    run.ends_with(0, BOUND);
    let (copy, whole) = (p.dir().join("copy"), p.dir().join("whole"));
    copy_dir(&p.record(), &copy);
    let old = p.judge().last;
    let mut run = p.run(&[]);
    run.wait_for_durable(6000, BOUND);
    fill_and_end(&p, &mut run);
    let head = p.head().unwrap();
    fs::rename(p.record(), &whole).unwrap();
    copy_dir(&copy, &p.record());
    nothing_is_accepted(&mut p, head, &format!("the record ends at {old}, but"));
    // The whole record back: it goes on as if nothing had been.
    fs::remove_dir_all(p.record()).unwrap();
    fs::rename(&whole, p.record()).unwrap();
    copy_dir(&p.record(), &whole);
    let mut run = p.run(&[]);
    ends_exactly(&mut p, &mut run, LINES);
}

#[test]
fn an_older_copy_for_good() {
    let mut p = Pipeline::of_lines(LINES, FAST);
    p.run(&["--count", "2000"]).ends_with(0, BOUND);
    let copy = p.dir().join("copy");
    copy_dir(&p.record(), &copy);
    let old = p.judge().last;
    let mut run = p.run(&[]);
    run.wait_for_durable(6000, BOUND);
    fill_and_end(&p, &mut run);
    let head = p.head().unwrap();
    fs::remove_dir_all(p.record()).unwrap();
    fs::rename(&copy, p.record()).unwrap();
    nothing_is_accepted(&mut p, head, &format!("the record ends at {old}, but"));
    abandon(&p, head, |_| old);
    let mut run = p.run(&[]);
    // The file is read again from where the copy ends.
    let report = ends_exactly(&mut p, &mut run, LINES);
    assert_eq!((report.lost[ABANDONED as usize], report.samples), (head - old, LINES));
}

#[test]
fn a_damaged_header_of_the_record() {
    let p = Pipeline::of_lines(1000, FAST);
    p.run(&[]).ends_with(0, BOUND);
    let segment = p.record().join(format!("{:020}.seg", 1));
    let file = File::options().write(true).read(true).open(&segment).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 70).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 70).unwrap();
    let mut run = p.run(&[]);
    run.ends_with(78, BOUND);
    says_once(&run.err(), &format!("the header of {} is damaged", segment.display()));
    assert_ne!(p.ctl(&["verify"]).status.code(), Some(0));
    file.write_all_at(&byte, 70).unwrap();
    p.write_lines("in.txt", 0..2000);
    p.run(&[]).ends_with(0, BOUND);
    p.judge_lines(2000);
}

// ---- damaged spools and pages

fn garble(path: &Path, from: u64, to: u64) {
    let file = File::options().write(true).open(path).unwrap();
    let bytes: Vec<u8> = (from..to).map(|_| fastrand::u8(..)).collect();
    file.write_all_at(&bytes, from).unwrap();
}

/// A spool at rest that cannot be trusted is retired; what stood only in it is read again from the file.
#[test]
fn a_garbled_spool_at_rest() {
    for (from, to) in [(0, 64), (8, 12), (128, 136), (512, 768), (0, 4096), (0, 4096 + 512 * 32)] {
        let mut p = Pipeline::of_lines(LINES, FAST);
        with_a_live_spool(&p);
        garble(&p.paths.spool(), from, to);
        let mut run = p.run(&[]);
        run.ends_with(0, BOUND);
        assert!(run.err().contains("the old spool cannot be used"), "{from}..{to}: {}", run.err());
        p.judge_lines(LINES);
        p.assert_nothing_left();
    }
}

#[test]
fn a_truncated_spool_at_rest() {
    for len in [0, 100, 4096, 4096 + 100 * 32] {
        let mut p = Pipeline::of_lines(LINES, FAST);
        with_a_live_spool(&p);
        File::options().write(true).open(p.paths.spool()).unwrap().set_len(len).unwrap();
        let mut run = p.run(&[]);
        ends_exactly(&mut p, &mut run, LINES);
    }
}

/// One accepted entry is damaged before it is durable: its place is marked, all others are there.
#[test]
fn a_garbled_entry() {
    let mut p = Pipeline::of_lines(LINES, FAST);
    with_a_live_spool(&p);
    let victim = p.head().unwrap() - 10;
    let at = 4096 + 32 * (victim % 512);
    garble(&p.paths.spool(), at, at + 32);
    let mut run = p.run(&[]);
    run.ends_with(0, BOUND);
    assert!(run.err().contains("entries were damaged in the spool: 1;"), "{}", run.err());
    let report = p.judge_lines(LINES);
    assert_eq!((report.samples, report.lost[0]), (LINES - 1, 1));
    assert_eq!(entries(&p.record())[victim as usize - 1].kind, CORRUPT);
    p.assert_nothing_left();
}

/// While conv is down all words of the spool that log has mapped are overwritten with one pattern, so that they even agree with each
/// other: the next conv begins a new epoch, and log grants it.
#[test]
fn a_spool_overwritten_under_a_living_log() {
    let mut p = Pipeline::of_lines(1_000_000, STEADY);
    p.start_all();
    p.wait_for("it runs", BOUND, |p| p.durable() > 1000);
    p.stop(Role::Conv, BOUND);
    let head = p.head().unwrap();
    p.wait_for("log has drained the spool", BOUND, |p| p.durable() == head);
    let spool = File::options().write(true).open(p.paths.spool()).unwrap();
    spool.write_all_at(&[0x5A; 4096], 0).unwrap();
    p.start(Role::Conv);
    p.wait_for("a new epoch goes on", BOUND, |p| p.durable() > head + 1000);
    p.stop(Role::Conv, BOUND);
    let head = p.head().unwrap();
    p.wait_for("log has drained the spool", BOUND, |p| p.durable() == head);
    assert_eq!(p.judge().epochs, 2);
}

/// A retired spool is never continued, but what it holds still becomes durable.
#[test]
fn a_retired_spool() {
    let mut p = Pipeline::of_lines(LINES, FAST);
    with_a_live_spool(&p);
    let head = p.head().unwrap();
    File::options().write(true).open(p.paths.spool()).unwrap().write_all_at(&[1], 384).unwrap();
    let mut run = p.run(&[]);
    let report = ends_exactly(&mut p, &mut run, LINES);
    assert_eq!((report.epochs, report.samples), (2, LINES));
    let second = entries(&p.record()).into_iter().filter(|e| e.kind == EPOCH).nth(1).unwrap();
    assert_eq!(second.seq, head + 1, "the new epoch begins after all that the old one accepted");
}

/// All kinds of nonsense under the names of the segments, while all run: made anew, and the result is exact.
#[test]
fn pages_replaced_while_running() {
    let mut p = Pipeline::of_lines(120_000, STEADY);
    let mut run = p.run(&[]);
    run.wait_for_durable(1000, BOUND);
    let names: Vec<_> =
        Role::ALL.iter().map(|r| p.paths.page(*r)).chain([p.paths.snapshot(), p.paths.spool()]).collect();
    for nonsense in 0..5 {
        for name in &names {
            let _ = fs::remove_file(name);
            match nonsense {
                0 => fs::create_dir(name).unwrap(),
                1 => std::os::unix::fs::symlink("/etc/passwd", name).unwrap(),
                2 => assert!(Command::new("mkfifo").arg(name).status().unwrap().success()),
                3 => fs::write(name, "").unwrap(),
                _ => fs::write(name, vec![0x5A; 8192]).unwrap(),
            }
        }
        wait_until(&format!("nonsense {nonsense} is gone"), BOUND, || {
            names.iter().all(|n| fs::symlink_metadata(n).is_ok_and(|m| m.is_file() && m.len() >= 4096))
                && Spool::open(&p.paths.spool()).is_some()
        });
        let durable = run.durable();
        run.wait_for_durable(durable + 2000, BOUND);
    }
    run.ends_with(0, BOUND);
    assert_eq!(p.judge_lines(120_000).samples, 120_000);
    assert!(run.last_line().contains("n=120000 "), "{}", run.last_line());
    p.objects().iter().filter(|o| o.is_dir()).for_each(|o| fs::remove_dir(o).unwrap());
    p.assert_nothing_left();
}

/// Truncation takes memory away from under those who have it mapped: they die of it and come back.
#[test]
fn segments_truncated_or_garbled_while_running() {
    let mut p = Pipeline::of_lines(120_000, STEADY);
    let mut run = p.run(&[]);
    run.wait_for_durable(1000, BOUND);
    for role in Role::ALL {
        let page = p.paths.page(role);
        garble(&page, 0, 64);
        wait_until("its owner makes it anew", BOUND, || harness::Page::open(&page).is_some());
        let durable = run.durable();
        run.wait_for_durable(durable + 1000, BOUND);
        File::options().write(true).open(&page).unwrap().set_len(0).unwrap();
        wait_until("its owner makes it anew", BOUND, || harness::Page::open(&page).is_some());
        wait_until("all are back", BOUND, || Role::ALL.iter().all(|r| run.daemon(*r).is_some()));
        let durable = run.durable();
        run.wait_for_durable(durable + 1000, BOUND);
    }
    // The word that conv waits for.
    garble(&p.paths.page(Role::Log), 384, 400);
    let durable = run.durable();
    run.wait_for_durable(durable.min(1 << 40) + 1000, BOUND);
    run.ends_with(0, BOUND);
    assert_eq!(p.judge_lines(120_000).samples, 120_000);
    p.assert_nothing_left();
}

/// Nothing of a page is believed that its owner has not written: it makes a garbled one anew, and nobody is frightened.
#[test]
fn garbled_pages_of_living_daemons() {
    let mut p = Pipeline::of_lines(60_000, STEADY);
    let mut run = p.run(&[]);
    run.wait_for_durable(1000, BOUND);
    for role in Role::ALL {
        for (from, to) in [(64, 4096), (0, 4096), (64, 104), (768, 832), (1536, 1792)] {
            garble(&p.paths.page(role), from, to);
            let (conv, log) = (p.head(), || p.state_of(Role::Log));
            wait_until("all go on", BOUND, || p.state_of(Role::Conv) == "running" && log() == "running");
            wait_until("entries are accepted", BOUND, || p.head() > conv);
        }
    }
    run.ends_with(0, BOUND);
    let text = run.err();
    assert!(!text.contains("belongs to record") && !text.contains("receives at"), "{text}");
    assert!(text.bytes().all(|b| b == b'\n' || (b' '..=b'~').contains(&b)), "{text:?}");
    assert_eq!(p.judge_lines(60_000).samples, 60_000);
    p.assert_nothing_left();
}

#[test]
fn squatted_names() {
    for nonsense in 0..4 {
        let mut p = Pipeline::of_lines(5000, FAST);
        let names: Vec<_> =
            Role::ALL.iter().map(|r| p.paths.page(*r)).chain([p.paths.snapshot(), p.paths.spool()]).collect();
        for name in &names {
            match nonsense {
                0 => fs::create_dir(name).unwrap(),
                1 => std::os::unix::fs::symlink("/nowhere", name).unwrap(),
                2 => assert!(Command::new("mkfifo").arg(name).status().unwrap().success()),
                _ => {
                    fs::write(name, vec![1; 10_000]).unwrap();
                    fs::set_permissions(name, fs::Permissions::from_mode(0o666)).unwrap();
                }
            }
        }
        let mut run = p.run(&[]);
        run.ends_with(0, BOUND);
        let report = p.judge_lines(5000);
        assert_eq!(samples(&report.record).len(), 5000);
        let (_, _, faults) = check_source(&report.record, value);
        assert!(faults.is_empty(), "{faults}");
        p.objects().iter().filter(|o| o.is_dir()).for_each(|o| fs::remove_dir(o).unwrap());
        p.assert_nothing_left();
    }
}

/// Rule E7: an ipc-log that was started with another edge.log (here its page is made to say so).
#[test]
fn another_address_of_log() {
    const ADDRESS: u64 = 1536;
    let mut p = Pipeline::of_lines(LINES, FAST);
    let mut run = p.run(&[]);
    run.wait_for_durable(2000, BOUND);
    // Frozen, so that it does not mend its page.
    signal_pid(run.daemon(Role::Log).unwrap(), Signal::STOP);
    let page = File::options().write(true).open(p.paths.page(Role::Log)).unwrap();
    page.write_all_at(b"mq:/elsewhere", ADDRESS).unwrap();
    wait_until("conv refuses", BOUND, || p.state_of(Role::Conv) == "wrong address");
    assert!(run.kill(Role::Log), "it is started again, with the address of its configuration");
    let report = ends_exactly(&mut p, &mut run, LINES);
    assert_eq!(report.samples, LINES);
    says_once(&run.err(), "ipc-log receives at mq:/elsewhere, but edge.log here says mq:");
}
