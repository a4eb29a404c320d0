//! `ipc-pipeline run` and the other commands, as people use them: real processes, killed, frozen and fed with nonsense.
//! Whatever happens, the result is exact, and nothing is left behind.
#![forbid(unsafe_code)]

mod checker;
mod harness;

use checker::BAD;
use harness::{Foreground, Pipeline, Role, Spool, process, samples, signal_pid, value, wait_until};
use rustix::process::Signal;
use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Everything that should happen does so within this time, on a busy machine too.
const BOUND: Duration = Duration::from_secs(30);
/// A file as fast as the disk takes it, through a ring that wraps often.
const FAST: &str =
    "[conv]\nrate = \"max\"\n[spool]\ncapacity = 1024\n[log]\nsync = \"10ms\"\nsegment = \"64KiB\"\n";
/// A file over some seconds.
const STEADY: &str =
    "[conv]\nrate = \"20 kHz\"\nmax_late = \"1h\"\n[spool]\ncapacity = 2048\n[log]\nsync = \"10ms\"\n";

/// Ended by itself, everything exact, nothing left.
#[track_caller]
fn ended_well(p: &mut Pipeline, run: &mut Foreground, lines: u64) {
    run.ends_with(0, BOUND);
    let report = p.judge_lines(lines);
    assert_eq!(report.samples, lines);
    assert!(run.last_line().contains(&format!("n={lines} ")), "{:?}", run.last_line());
    p.assert_nothing_left();
    assert!(!p.run_dir().exists(), "the run directory is left: {:?}", p.run_dir());
}

// ---- the reference job and ways to end it

#[test]
fn the_reference_job_for_some_seconds() {
    let mut p = Pipeline::new("");
    let mut run = p.run(&["--for", "2500ms"]);
    run.wait_for_durable(4, BOUND);
    let daemons = run.daemons();
    let mut names: Vec<&str> = daemons.iter().map(|d| d.name.as_str()).collect();
    names.sort();
    assert_eq!(names, ["ipc-conv", "ipc-log", "ipc-report", "ipc-stat"], "as ps, pstree and top show them");
    assert!(daemons.iter().all(|d| d.group == d.pid), "each has a process group of its own");
    assert_eq!(process(run.pid()).unwrap().name, "ipc-pipeline");
    run.ends_with(0, BOUND);
    let report = p.judge();
    assert!((3..=5).contains(&report.samples), "{} samples of 800 ms in 2.5 s", report.samples);
    assert!(samples(&report.record).iter().all(|e| (0..=100).contains(&e.value)));
    let last = run.last_line();
    assert!(last.starts_with(&format!("value: n={} mean=", report.samples)), "{last}");
    p.assert_nothing_left();
}

#[test]
fn count_is_exact() {
    let mut p = Pipeline::new("[source]\nseed = 1\n[conv]\nrate = \"max\"\n[spool]\ncapacity = 256\n");
    let mut run = p.run(&["--count", "5000"]);
    run.ends_with(0, BOUND);
    let report = p.judge();
    assert_eq!(report.samples, 5000);
    assert!(run.last_line().contains("n=5000 "), "{}", run.last_line());
    p.assert_nothing_left();
}

#[test]
fn a_file_to_its_end_and_its_export() {
    let mut p = Pipeline::of_lines(20_000, FAST);
    let mut run = p.run(&[]);
    ended_well(&mut p, &mut run, 20_000);
    let sum: i64 = (0..20_000).map(|i| i64::from(value(i))).sum();
    let mean = sum.unsigned_abs() * 50; // in millionths, as 20,000 * 50 is a million
    let mean = format!("{}{}.{:06}", if sum < 0 { "-" } else { "" }, mean / 1_000_000, mean % 1_000_000);
    assert!(run.last_line().contains(&format!(" mean={mean} ")), "{}", run.last_line());
    let csv = p.expect(&["export", "--format", "csv"], 0);
    let values: Vec<i32> =
        csv.lines().skip(1).map(|l| l.rsplit(',').next().unwrap().parse().unwrap()).collect();
    assert!(csv.starts_with("seq,time,channel,value\n"));
    assert!(values.iter().copied().eq((0..20_000).map(value)), "the export is not the source");
    // The next run of the same file has nothing to add.
    let mut run = p.run(&[]);
    ended_well(&mut p, &mut run, 20_000);
}

#[test]
fn signals_drain_and_leave_nothing() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut p = Pipeline::of_lines(1_000_000, "[conv]\nrate = \"1 kHz\"\n[log]\nsync = \"500ms\"\n");
        let mut run = p.run(&[]);
        run.wait_for_durable(300, BOUND);
        run.signal(signal);
        run.ends_with(0, BOUND);
        let report = p.judge();
        assert!(report.samples >= 297);
        let last = run.last_line();
        assert!(last.contains(&format!("n={} ", report.samples)), "the last word: {last}");
        p.assert_nothing_left();
        assert!(!p.run_dir().exists());
    }
}

#[test]
fn a_second_signal_ends_at_once_and_the_next_run_resumes() {
    let mut p = Pipeline::of_lines(30_000, FAST);
    let mut run = p.run(&[]);
    run.wait_for_durable(3_000, BOUND);
    signal_pid(run.daemon(Role::Log).unwrap(), Signal::STOP);
    run.signal(Signal::INT);
    wait_until("conv has gone", BOUND, || run.daemon(Role::Conv).is_none());
    run.signal_again(Signal::INT);
    run.ends_with(71, BOUND);
    assert!(run.err().contains("ended at once"), "{}", run.err());
    assert!(Spool::open(&p.paths.spool()).is_some(), "the spool stays");
    let mut run = p.run(&[]);
    ended_well(&mut p, &mut run, 30_000);
}

/// Two are two. log is frozen, so to drain would take seconds.
#[test]
fn two_signals_in_a_row_end_at_once() {
    let mut p = Pipeline::of_lines(30_000, FAST);
    let mut run = p.run(&[]);
    run.wait_for_durable(3_000, BOUND);
    let daemons: Vec<i32> = run.daemons().iter().map(|d| d.pid).collect();
    signal_pid(run.daemon(Role::Log).unwrap(), Signal::STOP);
    run.signal(Signal::INT);
    run.signal_again(Signal::INT);
    let begun = Instant::now();
    run.ends_with(71, BOUND);
    // The watchdog would replace the frozen log after 3 s; only then could it drain.
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}\n{}", begun.elapsed(), run.err());
    assert!(run.err().contains("ended at once"), "{}", run.err());
    assert!(daemons.into_iter().all(|pid| process(pid).is_none()), "daemons are left");
    let mut run = p.run(&[]);
    ended_well(&mut p, &mut run, 30_000);
}

/// `timeout` signals its child and then the group of it, so that the child gets two.
#[test]
fn two_signals_at_the_same_time_are_one() {
    let mut p = Pipeline::of_lines(1_000_000, "[conv]\nrate = \"1 kHz\"\n[log]\nsync = \"500ms\"\n");
    for pause in [2, 30] {
        let mut run = p.run(&[]);
        run.wait_for_durable(p.durable() + 300, BOUND);
        run.signal(Signal::INT);
        std::thread::sleep(Duration::from_millis(pause)); // the kernel makes one of two that have not been delivered
        run.signal(Signal::INT);
        run.ends_with(0, BOUND);
        p.judge();
        p.assert_nothing_left();
    }
}

// ---- kill -9 and freezes

#[test]
fn any_daemon_killed_at_any_time() {
    let mut p = Pipeline::of_lines(60_000, STEADY);
    let mut run = p.run(&[]);
    let several: [&[Role]; 8] = [
        &[Role::Conv],
        &[Role::Log],
        &[Role::Stat],
        &[Role::Report],
        &[Role::Conv, Role::Log],
        &[Role::Log, Role::Stat],
        &Role::ALL,
        &[Role::Stat, Role::Conv],
    ];
    for (i, victims) in several.into_iter().enumerate() {
        run.wait_for_durable(5_000 * (i as u64 + 1), BOUND);
        assert!(victims.iter().all(|role| run.kill(*role)), "{victims:?}");
    }
    ended_well(&mut p, &mut run, 60_000);
    assert!(run.err().matches("was killed by signal 9: starting it again").count() >= 8, "{}", run.err());
}

#[test]
fn daemons_killed_during_the_drain() {
    let config =
        "[conv]\nrate = \"max\"\n[spool]\ncapacity = 65536\n[log]\nsync = \"1s\"\nsegment = \"64KiB\"\n";
    for victims in [&[Role::Log][..], &[Role::Stat, Role::Report], &[Role::Log, Role::Stat, Role::Report]] {
        let mut p = Pipeline::of_lines(15_000, config);
        let mut run = p.run(&[]);
        let spool = p.paths.spool();
        wait_until("all is accepted", BOUND, || {
            Spool::open(&spool).and_then(|s| s.head()).is_some_and(|h| h >= 15_003)
        });
        wait_until("conv has gone", BOUND, || run.daemon(Role::Conv).is_none());
        victims.iter().for_each(|role| _ = run.kill(*role));
        ended_well(&mut p, &mut run, 15_000);
    }
}

/// Rule E9: told to stop, log takes what was accepted by then, however much; and no more, or a conv that lives on would keep
/// it for ever.
#[test]
fn told_to_stop_log_takes_what_was_accepted_by_then() {
    let config =
        "[source]\nseed = 1\n[conv]\nrate = \"100 kHz\"\nmax_late = \"1h\"\n[log]\nsync = \"10ms\"\n";
    let held = |p: &Pipeline| p.head().unwrap_or(0).saturating_sub(p.durable());
    let mut p = Pipeline::new(config);
    p.start_all();
    p.wait_for("it runs", BOUND, |p| p.durable() > 10_000);
    p.stop(Role::Log, BOUND);
    p.start(Role::Log);
    let durable = p.durable();
    p.wait_for("log keeps up again", BOUND, |p| p.durable() > durable && held(p) < 5_000);
    // Far more than it takes in one turn.
    p.signal(Role::Log, Signal::STOP);
    p.wait_for("much is accepted", BOUND, |p| held(p) > 60_000);
    p.stop(Role::Conv, BOUND);
    p.signal(Role::Log, Signal::TERM);
    p.signal(Role::Log, Signal::CONT);
    p.stop(Role::Log, BOUND);
    assert_eq!(Some(p.durable()), p.head(), "{}", p.state());
    [Role::Stat, Role::Report].into_iter().for_each(|r| p.stop(r, BOUND));
    p.judge();
    p.remove_objects();
    p.assert_nothing_left();
}

#[test]
fn daemons_that_hang_are_replaced() {
    let mut p = Pipeline::of_lines(120_000, STEADY);
    let mut run = p.run(&[]);
    run.wait_for_durable(2_000, BOUND);
    let old = Role::ALL.map(|role| run.daemon(role).unwrap());
    old.iter().for_each(|pid| signal_pid(*pid, Signal::STOP));
    wait_until("all four are replaced", BOUND, || {
        Role::ALL.iter().zip(old).all(|(role, old)| run.daemon(*role).is_some_and(|new| new != old))
    });
    assert_eq!(run.err().matches("has not turned for").count(), 4, "{}", run.err());
    ended_well(&mut p, &mut run, 120_000);
}

#[test]
fn daemons_die_with_a_killed_run() {
    let mut p = Pipeline::of_lines(30_000, FAST);
    let mut run = p.run(&[]);
    run.wait_for_durable(2_000, BOUND);
    let daemons = run.daemons();
    assert_eq!(daemons.len(), 4);
    run.signal(Signal::KILL);
    wait_until("the daemons are gone", BOUND, || daemons.iter().all(|d| process(d.pid).is_none()));
    run.wait(BOUND);
    let mut run = p.run(&[]);
    ended_well(&mut p, &mut run, 30_000);
}

#[test]
fn a_run_waits_for_the_daemons_of_a_killed_one() {
    let mut p = Pipeline::of_lines(30_000, FAST);
    let mut killed = p.run(&[]);
    killed.wait_for_durable(2_000, BOUND);
    killed.signal(Signal::KILL);
    let mut run = p.run(&[]);
    killed.wait(BOUND);
    ended_well(&mut p, &mut run, 30_000);
}

// ---- sources

#[test]
fn a_bad_line_stops() {
    let p = Pipeline::of_lines(0, FAST);
    fs::write(p.dir().join("in.txt"), format!("{}\n{}\ntwelve\n{}\n", value(0), value(1), value(2))).unwrap();
    let mut run = p.run(&[]);
    run.ends_with(65, BOUND);
    assert!(run.err().contains("in.txt:3: \"twelve\" is no sample"), "{}", run.err());
    assert_eq!(run.err().matches("in.txt:3").count(), 1, "said once: {}", run.err());
    p.judge_lines(2);
    // Mended, it goes on at that line.
    p.write_lines("in.txt", 0..5);
    let mut run = p.run(&[]);
    run.ends_with(0, BOUND);
    assert_eq!(p.judge_lines(5).samples, 5);
}

#[test]
fn bad_lines_are_skipped_and_counted() {
    let p = Pipeline::of_lines(0, &format!("on_bad = \"skip\"\n{FAST}"));
    let line = |i: u64| if i % 5 == 3 { format!("bad {i}\n") } else { format!("{}\n", value(i)) };
    fs::write(p.dir().join("in.txt"), (0..5000).map(line).collect::<String>()).unwrap();
    let mut run = p.run(&[]);
    run.wait_for_durable(1000, BOUND);
    run.kill(Role::Conv);
    run.ends_with(0, BOUND);
    let report = p.judge_lines(5000);
    assert_eq!((report.samples, report.lost[BAD as usize]), (4000, 1000));
    assert!(run.last_print_says("bad=1000"), "{}", run.out());
    assert!(run.err().contains("further ones are only counted"), "{}", run.err());
}

#[test]
fn standard_input_through_a_pipe() {
    let mut p = Pipeline::new(&format!("[source]\nkind = \"lines\"\npath = \"-\"\n{FAST}"));
    let mut run = p.run_with(&[], Stdio::piped());
    let mut stdin = run.stdin().unwrap();
    (0..3000).for_each(|i| writeln!(stdin, "{}", value(i)).unwrap());
    run.wait_for_durable(3000, BOUND);
    write!(stdin, "{}", value(3000)).unwrap(); // the last line may lack its end
    drop(stdin);
    ended_well(&mut p, &mut run, 3001);
}

#[test]
fn a_fifo_whose_writers_come_and_go() {
    let p = Pipeline::new(&format!("[source]\nkind = \"lines\"\npath = \"in.fifo\"\n{FAST}"));
    let fifo = p.dir().join("in.fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let mut run = p.run(&[]);
    for part in 0..3 {
        let mut writer = harness::fifo_for_writing(&fifo, BOUND);
        (1000 * part..1000 * (part + 1)).for_each(|i| writeln!(writer, "{}", value(i)).unwrap());
        drop(writer);
        run.wait_for_durable(1000 * (part + 1) + 3, BOUND);
    }
    run.signal(Signal::TERM);
    run.ends_with(0, BOUND);
    assert_eq!(p.judge_lines(3000).samples, 3000);
}

// ---- refusals of the command line

#[test]
fn faults_have_their_exit_codes() {
    let p = Pipeline::new("");
    let mut run = p.run(&["--set", "conv.rate=fast", "--set", "spool.capacity=7"]);
    run.ends_with(78, BOUND);
    assert!(run.err().contains("conv.rate=fast") && run.err().contains("spool.capacity=7"), "{}", run.err());
    for wrong in [&["--count", "0"][..], &["--for", "soon"], &["--frobnicate"]] {
        p.run(wrong).ends_with(64, BOUND);
    }
    let carrier = p.run(&["--set", "edge.log=mq:/queue"]).tap(|run| run.ends_with(78, BOUND)).err();
    assert!(carrier.contains("edge.log") && carrier.contains("shm:"), "{carrier}");
    let missing = p
        .run(&["--set", "source.kind=lines", "--set", "source.path=none.txt"])
        .tap(|r| r.ends_with(78, BOUND))
        .err();
    assert!(missing.contains("none.txt"), "{missing}");
    assert!(p.objects().is_empty(), "{:?}", p.objects());
}

trait Tap: Sized {
    fn tap(self, look: impl FnOnce(&mut Self)) -> Self;
}

impl Tap for Foreground {
    fn tap(mut self, look: impl FnOnce(&mut Self)) -> Self {
        look(&mut self);
        self
    }
}

#[test]
fn a_second_run_of_the_same_instance_is_refused() {
    let mut p = Pipeline::of_lines(1_000_000, "[conv]\nrate = \"1 kHz\"\n");
    let mut first = p.run(&[]);
    first.wait_for_durable(100, BOUND);
    let mut second = p.run(&[]);
    second.ends_with(75, BOUND);
    let err = second.err();
    assert_eq!(err.lines().count(), 1, "one clear line: {err}");
    assert!(err.contains("is running") && err.contains(&p.name), "{err}");
    let seq = first.durable();
    first.wait_for_durable(seq + 100, BOUND);
    first.signal(Signal::INT);
    first.ends_with(0, BOUND);
    p.judge();
    p.assert_nothing_left();
}

// ---- by hand

/// All orders of four.
fn orders() -> Vec<[Role; 4]> {
    let mut all = Vec::new();
    for code in 0..256usize {
        let order = [code & 3, code >> 2 & 3, code >> 4 & 3, code >> 6].map(|i| Role::ALL[i]);
        if Role::ALL.iter().all(|r| order.contains(r)) {
            all.push(order);
        }
    }
    all
}

#[test]
fn by_hand_in_all_orders() {
    let orders = orders();
    assert_eq!(orders.len(), 24);
    let threads: Vec<_> = orders
        .chunks(8)
        .map(|part| {
            let part = part.to_vec();
            std::thread::spawn(move || part.into_iter().for_each(by_hand))
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
}

fn by_hand(order: [Role; 4]) {
    let mut p = Pipeline::of_lines(500, FAST);
    for (i, role) in order.into_iter().enumerate() {
        p.start(role);
        let started = &order[..i];
        let awaited = match role {
            Role::Conv | Role::Stat => Role::Log,
            Role::Log => Role::Conv,
            Role::Report => Role::Stat,
        };
        if !started.contains(&awaited) {
            let text = format!("waiting for ipc-{}", awaited.name());
            p.wait_for(&format!("{role:?} says {text}"), BOUND, |p| p.said_by(role).contains(&text));
        }
    }
    p.wait_for("all is folded", BOUND, |p| p.folded() >= 503);
    p.wait_for("conv has ended", BOUND, |p| !p.is_running(Role::Conv));
    for role in Role::ALL {
        let said = p.said_by(role).matches("waiting for").count();
        assert!(said <= 1, "{order:?}: {role:?} says {said} times what it waits for\n{}", p.said_by(role));
    }
    [Role::Log, Role::Stat, Role::Report].into_iter().for_each(|r| p.stop(r, BOUND));
    assert_eq!(p.judge_lines(500).samples, 500, "{order:?}");
    p.remove_objects();
    p.assert_nothing_left();
}

#[test]
fn status_running_and_stopped() {
    let mut p = Pipeline::of_lines(1_000_000, "[conv]\nrate = \"1 kHz\"\n");
    p.expect(&["status"], 3);
    let mut run = p.run(&[]);
    run.wait_for_durable(100, BOUND);
    wait_until("all four run", BOUND, || Role::ALL.iter().all(|r| p.state_of(*r) == "running"));
    let text = p.expect(&["status"], 0);
    for word in ["ipc-conv", "ipc-log", "ipc-stat", "ipc-report", "running", "durable", &p.name] {
        assert!(text.contains(word), "{word} is missing:\n{text}");
    }
    let status = p.status();
    for role in Role::ALL {
        let daemon = &status["daemons"][role.name()];
        assert_eq!((&daemon["running"], &daemon["state"]), (&true.into(), &"running".into()), "{role:?}");
        assert_eq!(daemon["pid"].as_i64(), run.daemon(role).map(i64::from), "{role:?}");
    }
    assert!(status["spool"]["head"].as_u64().unwrap() >= status["durable"].as_u64().unwrap());
    signal_pid(run.daemon(Role::Stat).unwrap(), Signal::STOP);
    wait_until("a frozen stat is seen", BOUND, || p.state_of(Role::Stat).contains("no sign of life"));
    p.expect(&["status"], 3);
    signal_pid(run.daemon(Role::Stat).unwrap(), Signal::CONT);
    run.signal(Signal::INT);
    run.ends_with(0, BOUND);
    let text = p.expect(&["status"], 3);
    assert!(text.contains("not running; its record is in"), "{text}");
    let last = format!("the record goes up to entry {}, all of it durable", p.status()["durable"]);
    assert!(text.contains(&last) && !last.contains(" 0,"), "{text}");
    p.assert_nothing_left();
}

/// What is asked of stat is verified too; asked for other things it begins anew from the record, for the same it goes on.
#[test]
fn statistics_that_are_asked_for_can_change() {
    let p = Pipeline::new("");
    let asked = |more: &str| {
        p.configure(&format!("[source]\nkind = \"random\"\nseed = 1\n[conv]\nrate = \"2 kHz\"\n{more}"));
        let mut run = p.run(&["--for", "700ms"]);
        run.wait_for_durable(100, BOUND);
        run.ends_with(0, BOUND);
        let text = p.expect(&["verify"], 0);
        assert!(text.contains("equals a recomputation"), "{text}");
        p.judge();
    };
    asked("");
    let windows =
        "[stat]\npercentiles = [0, 50, 99.9]\newma = 0.01\n[[window]]\nsize = \"200ms\"\nstep = \"50ms\"\n";
    asked(windows);
    asked(windows);
    asked("[stat]\npercentiles = [1]\n[[window]]\nsize = 64\nstep = 1\n[[window]]\nsize = \"1s\"\n");
}

#[test]
fn verify_and_export_of_a_living_record() {
    let p = Pipeline::of_lines(
        400_000,
        "[conv]\nrate = \"50 kHz\"\nmax_late = \"1h\"\n[spool]\ncapacity = 4096\n[log]\nsync = \"5ms\"\nsegment = \"64KiB\"\n",
    );
    let mut run = p.run(&[]);
    run.wait_for_durable(100, BOUND);
    let mut ends = Vec::new();
    for _ in 0..12 {
        let before = run.durable();
        let text = p.expect(&["verify"], 0);
        assert!(text.contains("everything is true"), "{text}");
        let csv = p.expect(&["export", "--format", "csv"], 0);
        let n = csv.lines().count() as u64 - 1;
        assert!(n + 3 >= before, "{n} samples exported, {before} entries were durable before");
        assert!(
            csv.lines().skip(1).zip(0..).all(|(l, i)| l.ends_with(&format!(",{}", value(i)))),
            "the export is not the source"
        );
        ends.push(n);
    }
    assert!(ends.is_sorted() && ends[0] < ends[11], "it was alive: {ends:?}");
    run.signal(Signal::INT);
    run.ends_with(0, BOUND);
    p.judge();
}

#[test]
fn objects_made_listed_mended_and_removed() {
    let mut p = Pipeline::of_lines(1_000_000, "[conv]\nrate = \"1 kHz\"\n");
    let text = p.expect(&["objects", "create"], 0);
    assert_eq!(text.matches("placeholder").count(), 6, "{text}");
    assert_eq!(p.objects().len(), 8, "spool, snapshot, four pages, queue, FIFO: {:?}", p.objects());
    let kinds =
        ["queue ", "fifo "].map(|kind| text.lines().filter(|line| line.trim().starts_with(kind)).count());
    assert_eq!(kinds, [1, 1], "{text}");
    p.expect(&["objects", "create"], 0);
    fs::remove_file(p.paths.page(Role::Log)).unwrap();
    fs::create_dir(p.paths.page(Role::Log)).unwrap();
    fs::write(format!("{}.0123456789abcdef", p.paths.spool().display()), "half").unwrap();
    let text = p.expect(&["objects", "repair"], 0);
    assert!(text.contains("renamed") && text.contains("0123456789abcdef"), "{text}");
    assert!(p.paths.page(Role::Log).is_file());
    p.expect(&["objects", "remove"], 0);
    let left = p.objects();
    assert!(left.iter().all(|o| o.is_dir()), "only what was set aside may stay: {left:?}");
    left.iter().for_each(|dir| fs::remove_dir(dir).unwrap());

    let mut run = p.run(&[]);
    run.wait_for_durable(100, BOUND);
    for refused in [&["objects", "remove"][..], &["objects", "remove", "--abandon"]] {
        let text = p.expect(refused, 75);
        assert!(text.contains("is running"), "{text}");
    }
    let text = p.expect(&["objects", "repair"], 0);
    assert_eq!(text.matches("is running: its objects were left alone").count(), 4, "{text}");
    let text = p.expect(&["objects", "list", "--json"], 0);
    assert!(serde_json::from_str::<serde_json::Value>(&text).unwrap().as_array().unwrap().len() >= 10);
    let seq = run.durable();
    run.wait_for_durable(seq + 100, BOUND);
    run.signal(Signal::INT);
    run.ends_with(0, BOUND);
    p.judge();
    p.expect(&["objects", "remove"], 0);
    p.assert_nothing_left();
}

/// conv goes on without log, and says so.
#[test]
fn conv_says_once_that_log_is_gone_and_back() {
    let mut p = Pipeline::of_lines(1_000_000, "[conv]\nrate = \"1 kHz\"\n");
    p.start_all();
    let said = |p: &Pipeline, text| p.said_by(Role::Conv).matches(text).count();
    for n in 1..=2 {
        let durable = p.durable();
        p.wait_for("it runs", BOUND, |p| p.durable() >= durable + 200);
        p.signal(Role::Log, Signal::STOP);
        p.wait_for("it is gone", BOUND, |p| said(p, "no longer answers") == n);
        std::thread::sleep(Duration::from_millis(300)); // does it say so again?
        p.signal(Role::Log, Signal::CONT);
        p.wait_for("it is back", BOUND, |p| said(p, "ipc-log is back") == n);
    }
    p.stop(Role::Log, BOUND);
    p.wait_for("it has ended", BOUND, |p| said(p, "no longer answers") == 3);
    p.start(Role::Log);
    p.wait_for("it is back", BOUND, |p| said(p, "ipc-log is back") == 3);
    Role::ALL.into_iter().for_each(|r| p.stop(r, BOUND));
    assert_eq!(
        (said(&p, "no longer answers"), said(&p, "ipc-log is back")),
        (3, 3),
        "{}",
        p.said_by(Role::Conv)
    );
    p.judge();
    p.remove_objects();
}

/// `ipc-pipeline run | head -3`: whoever read has had enough, and the pipeline ends by itself, well.
#[test]
fn a_reader_that_goes_away_ends_it() {
    let mut p = Pipeline::of_lines(1_000_000, "[conv]\nrate = \"1 kHz\"\n[log]\nsync = \"10ms\"\n");
    let script =
        format!("{} run --config {} | head -n 3", env!("CARGO_BIN_EXE_ipc-pipeline"), p.config().display());
    let out = p.command("sh").args(["-c", &script]).output().unwrap();
    let err = String::from_utf8_lossy(&out.stderr);
    assert_eq!(String::from_utf8_lossy(&out.stdout).lines().count(), 3, "{err}");
    assert_eq!(err.matches("nobody reads standard output").count(), 1, "{err}");
    p.judge();
    p.assert_nothing_left();
}

/// `ipc-pipeline run | less`: whoever reads pauses. Nobody waits for that, ipc-report does not spin over it, and goes on.
#[test]
fn a_reader_that_pauses_costs_nothing() {
    let mut p = Pipeline::of_lines(1_000_000, "[conv]\nrate = \"1 kHz\"\n[log]\nsync = \"10ms\"\n");
    let (reader, mut full) = UnixStream::pair().unwrap();
    full.set_nonblocking(true).unwrap();
    while full.write(&[b'x'; 4096]).is_ok() {}
    full.set_nonblocking(false).unwrap();
    let mut command = p.command(env!("CARGO_BIN_EXE_ipc-pipeline"));
    command.arg("run").arg("--config").arg(p.config()).stdout(OwnedFd::from(full)).stderr(Stdio::null());
    let mut run = command.spawn().unwrap();
    drop(command); // our copy of the writing end

    let (woken, snapshots) =
        (|p: &Pipeline| p.counter(Role::Report, "woken"), |p: &Pipeline| p.counter(Role::Stat, "snapshots"));
    p.wait_for("it runs", BOUND, |p| p.folded() > 300);
    let (woken_before, snapshots_before) = (woken(&p), snapshots(&p));
    p.wait_for("snapshots nobody reads", BOUND, |p| snapshots(p) >= snapshots_before + 50);
    let (woken, snapshots) = (woken(&p) - woken_before, snapshots(&p) - snapshots_before);
    assert!(woken < 10 * snapshots, "ipc-report woke up {woken} times over {snapshots} snapshots");
    assert_eq!(p.counter(Role::Report, "printed"), 0);

    let lines = std::thread::spawn(move || std::io::read_to_string(reader).unwrap().lines().count());
    p.wait_for("it prints again", BOUND, |p| p.counter(Role::Report, "printed") > 2);
    signal_pid(run.id() as i32, Signal::INT);
    assert_eq!(run.wait().unwrap().code(), Some(0));
    assert!(lines.join().unwrap() > 2);
    p.judge();
    p.assert_nothing_left();
}
