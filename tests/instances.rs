//! T11: one process of a role in an instance, whatever is done to the locks; and instances keep apart.
#![forbid(unsafe_code)]

mod checker;
mod harness;

use harness::{Pipeline, Role, Spool, wait_until};
use rustix::fs::FlockOperation;
use rustix::process::Signal;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const BOUND: Duration = Duration::from_secs(30);
const SLOW: &str =
    "[conv]\nrate = \"5 kHz\"\nmax_late = \"1h\"\n[spool]\ncapacity = 512\n[log]\nsync = \"5ms\"\n";
/// conv is nearly always in the middle of a store.
const FAST: &str = "[conv]\nrate = \"max\"\n[spool]\ncapacity = 65536\n[log]\nsync = \"2ms\"\n";

fn program(role: Role) -> &'static str {
    [
        env!("CARGO_BIN_EXE_ipc-conv"),
        env!("CARGO_BIN_EXE_ipc-log"),
        env!("CARGO_BIN_EXE_ipc-stat"),
        env!("CARGO_BIN_EXE_ipc-report"),
    ][role as usize]
}

/// A daemon that the harness does not know of.
fn second(p: &Pipeline, role: Role) -> Command {
    let mut c = p.command(program(role));
    c.arg("--config").arg(p.config()).stdout(Stdio::null()).stderr(Stdio::piped());
    c
}

/// It must leave with 75 and one clear line, within about five seconds.
#[track_caller]
fn refused(child: Child, role: Role, begun: Instant) {
    let out = child.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(75), "{role:?}: {err}");
    assert_eq!(err.lines().count(), 2, "one clear line when it begins to wait, one at the end: {err}");
    assert!(err.contains(&format!("{}.lock is held by another process", role.name())), "{err}");
    let took = begun.elapsed();
    assert!((Duration::from_secs(4)..Duration::from_secs(12)).contains(&took), "{took:?}");
}

/// Ends all, conv first.
#[track_caller]
fn end(p: &mut Pipeline) -> checker::Report {
    Role::ALL.into_iter().for_each(|r| p.stop(r, BOUND));
    let report = p.judge();
    p.judge_lines(report.samples);
    p.remove_objects();
    p.assert_nothing_left();
    report
}

#[test]
fn a_hundred_seconds_of_each_role_are_refused() {
    let mut p = Pipeline::of_lines(10_000_000 / 50, SLOW);
    p.start_all();
    p.wait_for("it runs", BOUND, |p| p.durable() > 500);
    // While they wait for the lock, the holders are frozen now and then: a frozen holder is a holder.
    let begun = Instant::now();
    let tries: Vec<(Role, Child)> = (0..100)
        .map(|i| {
            let role = Role::ALL[i % 4];
            (role, second(&p, role).spawn().unwrap())
        })
        .collect();
    Role::ALL.into_iter().for_each(|r| p.signal(r, Signal::STOP));
    wait_until("some have tried in vain", BOUND, || begun.elapsed() > Duration::from_secs(2));
    Role::ALL.into_iter().for_each(|r| p.signal(r, Signal::CONT));
    tries.into_iter().for_each(|(role, child)| refused(child, role, begun));
    let durable = p.durable();
    p.wait_for("the first ones go on", BOUND, |p| p.durable() > durable + 500);
    end(&mut p);
}

#[test]
fn one_that_waits_takes_over_from_one_that_goes() {
    let mut p = Pipeline::of_lines(200_000, SLOW);
    p.start_all();
    p.wait_for("it runs", BOUND, |p| p.durable() > 500);
    for role in Role::ALL {
        let mut next = second(&p, role).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(50)); // it shall really wait for the lock
        p.kill(role);
        let durable = p.durable();
        p.wait_for("the waiting one does the work", BOUND, |p| p.durable() > durable + 500);
        assert!(next.try_wait().unwrap().is_none(), "{role:?}");
        let pid = rustix::process::Pid::from_raw(next.id() as i32).unwrap();
        rustix::process::kill_process(pid, Signal::TERM).unwrap();
        assert_eq!(next.wait().unwrap().code(), Some(0), "{role:?}");
        p.start(role);
    }
    end(&mut p);
}

/// A daemon outside the harness, for tests in which it ends by itself.
struct Loose(Child);

impl Loose {
    fn start(p: &Pipeline, role: Role) -> Loose {
        Loose(second(p, role).spawn().unwrap())
    }

    #[track_caller]
    fn ends_with(&mut self, code: i32) {
        wait_until("it ends", BOUND, || self.0.try_wait().unwrap().is_some());
        assert_eq!(self.0.wait().unwrap().code(), Some(code));
    }
}

impl Drop for Loose {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn lock_file(p: &Pipeline, role: Role) -> std::path::PathBuf {
    p.run_dir().join(format!("{}.lock", role.name()))
}

/// The lock file is deleted under its holder, and made again by a newcomer or by somebody else: the old one leaves with
/// 69, the new one works on, and the record stays true.
#[test]
fn a_lock_file_deleted_under_its_holder() {
    for (role, made_by_others) in
        [(Role::Conv, false), (Role::Log, false), (Role::Conv, true), (Role::Log, true), (Role::Stat, true)]
    {
        let mut p = Pipeline::of_lines(200_000, SLOW);
        Role::ALL.into_iter().filter(|r| *r != role).for_each(|r| p.start(r));
        let mut old = Loose::start(&p, role);
        p.wait_for("it runs", BOUND, |p| p.folded() > 300);
        for _ in 0..3 {
            fs::remove_file(lock_file(&p, role)).unwrap();
            if made_by_others {
                p.expect(&["objects", "create"], 0);
            }
            let new = Loose::start(&p, role);
            old.ends_with(69);
            old = new;
            // What is folded next may have waited in the spool, and a process that has not begun yet dies of SIGTERM.
            let pid = i64::from(old.0.id());
            p.wait_for("the new one runs", BOUND, |p| {
                p.status()["daemons"][role.name()]["pid"].as_i64() == Some(pid)
            });
            let folded = p.folded();
            p.wait_for("the new one works", BOUND, |p| p.folded() > folded + 300);
        }
        let pid = rustix::process::Pid::from_raw(old.0.id() as i32).unwrap();
        rustix::process::kill_process(pid, Signal::TERM).unwrap();
        old.ends_with(0);
        if role != Role::Conv {
            p.stop(Role::Conv, BOUND);
        }
        // A log of the harness takes what is left in the spool.
        if role == Role::Log {
            p.start(Role::Log);
            p.wait_for("all is durable", BOUND, |p| p.head().is_some_and(|h| p.durable() == h));
        }
        Role::ALL
            .into_iter()
            .filter(|r| p.is_running(*r))
            .collect::<Vec<_>>()
            .into_iter()
            .for_each(|r| p.stop(r, BOUND));
        let report = p.judge();
        p.judge_lines(report.samples);
        p.remove_objects();
        p.assert_nothing_left();
    }
}

/// A log whose lock file is gone ends, but its disk may take long over that: the next one waits for the record.
#[test]
fn a_record_that_is_not_let_go_at_once() {
    let mut p = Pipeline::of_lines(200_000, SLOW);
    p.start_all();
    p.wait_for("it runs", BOUND, |p| p.durable() > 500);
    p.stop(Role::Log, BOUND);
    let record = fs::File::open(p.record().join(".lock")).unwrap();
    rustix::fs::flock(&record, FlockOperation::NonBlockingLockExclusive).unwrap();
    p.start(Role::Log);
    p.wait_for("it waits", BOUND, |p| p.state_of(Role::Log) == "disk slow");
    drop(record);
    let durable = p.durable();
    p.wait_for("it goes on", BOUND, |p| p.durable() > durable + 500);
    end(&mut p);
}

/// The lock file of a role that was frozen for longer than anybody waits: when it wakes, it must leave before it writes.
#[test]
fn a_frozen_holder_that_lost_its_lock_file() {
    for role in [Role::Log, Role::Stat] {
        for _ in 0..2 {
            let mut p = Pipeline::of_lines(200_000, SLOW);
            Role::ALL.into_iter().filter(|r| *r != role).for_each(|r| p.start(r));
            let mut old = Loose::start(&p, role);
            p.wait_for("it runs", BOUND, |p| p.folded() > 300);
            let pid = rustix::process::Pid::from_raw(old.0.id() as i32).unwrap();
            rustix::process::kill_process(pid, Signal::STOP).unwrap();
            fs::remove_file(lock_file(&p, role)).unwrap();
            if role == Role::Log {
                // The record has a lock of its own: a frozen log keeps the record, and the newcomer is told so.
                let mut new = Loose::start(&p, role);
                new.ends_with(75);
            } else {
                p.start(role);
                let folded = p.folded();
                p.wait_for("the new one works", BOUND, |p| p.folded() > folded + 300);
            }
            rustix::process::kill_process(pid, Signal::CONT).unwrap();
            old.ends_with(69);
            if role == Role::Log {
                p.start(role);
            }
            let folded = p.folded();
            p.wait_for("the new one works on", BOUND, |p| p.folded() > folded + 300);
            end(&mut p);
        }
    }
}

/// The same with conv, which is frozen in the middle of a store: what it still does when it wakes must reach nobody. It wakes
/// while every slot of the ring holds an accepted entry that is nowhere else, so that whatever reaches one is seen.
#[test]
fn a_frozen_conv_whose_successor_has_gone_on() {
    const LINES: u64 = 2_000_000;
    const CAPACITY: u64 = 65_536; // of FAST
    let source = Pipeline::of_lines(LINES, "");
    for _ in 0..4 {
        let mut p = Pipeline::of_lines(0, FAST);
        fs::hard_link(source.dir().join("in.txt"), p.dir().join("again.txt")).unwrap();
        fs::rename(p.dir().join("again.txt"), p.dir().join("in.txt")).unwrap();
        [Role::Log, Role::Stat, Role::Report].into_iter().for_each(|r| p.start(r));
        let mut old = Loose::start(&p, Role::Conv);
        p.wait_for("it runs", BOUND, |p| p.durable() > 1000);
        let pid = rustix::process::Pid::from_raw(old.0.id() as i32).unwrap();
        wait_until("it is frozen with entries that it has stored and not yet accepted", BOUND, || {
            rustix::process::kill_process(pid, Signal::STOP).unwrap();
            let state = || harness::process(old.0.id() as i32).unwrap().state;
            wait_until("it is frozen", BOUND, || state() == "T");
            let spool = Spool::open(&p.paths.spool()).unwrap();
            let next = spool.head().unwrap() + 1;
            let stores = spool.slot(next).is_some_and(|slot| slot[..8] == next.to_le_bytes());
            if !stores {
                rustix::process::kill_process(pid, Signal::CONT).unwrap();
            }
            stores
        });
        let durable = p.durable();
        fs::remove_file(lock_file(&p, Role::Conv)).unwrap();
        p.start(Role::Conv);
        p.wait_for("the new one works", BOUND, |p| p.durable() > durable + 200_000);
        p.signal(Role::Log, Signal::STOP);
        p.wait_for("the ring is full", BOUND, |p| {
            p.head().is_some_and(|head| head == p.durable() + CAPACITY)
        });
        rustix::process::kill_process(pid, Signal::CONT).unwrap();
        old.ends_with(69);
        p.signal(Role::Log, Signal::CONT);
        p.wait_for("the new one ends", BOUND, |p| !p.is_running(Role::Conv));
        [Role::Log, Role::Stat, Role::Report].into_iter().for_each(|r| p.stop(r, BOUND));
        assert_eq!(p.judge_lines(LINES).samples, LINES);
        p.remove_objects();
        p.assert_nothing_left();
    }
}

#[test]
fn two_instances_side_by_side() {
    let [mut a, mut b] = [0, 1].map(|_| Pipeline::of_lines(200_000, SLOW));
    a.start_all();
    b.start_all();
    for p in [&mut a, &mut b] {
        p.wait_for("both run", BOUND, |p| p.folded() > 500);
    }
    let of = |p: &Pipeline| {
        let mut names = p.objects();
        names.sort();
        names
    };
    let before = of(&b);
    assert_eq!(before.len(), 8, "six segments, a queue and a FIFO: {before:?}");
    assert!(of(&a).iter().all(|name| !before.contains(name)));
    // One is killed, robbed, mended and removed; the other does not notice.
    let pids = Role::ALL.map(|r| b.status()["daemons"][r.name()]["pid"].as_u64());
    Role::ALL.into_iter().for_each(|r| a.kill(r));
    Role::ALL.into_iter().for_each(|role| a.delete_inlet(role));
    a.objects().into_iter().for_each(|path| fs::remove_file(path).unwrap());
    a.expect(&["objects", "repair"], 0);
    a.expect(&["objects", "remove", "--abandon"], 0);
    assert!(a.objects().is_empty());
    assert_eq!(of(&b), before);
    let folded = b.folded();
    b.wait_for("the other goes on", BOUND, |p| p.folded() > folded + 500);
    assert_eq!(Role::ALL.map(|r| b.status()["daemons"][r.name()]["pid"].as_u64()), pids);
    assert!(Role::ALL.iter().all(|r| b.counter(*r, "remade") == 0));
    end(&mut b);
    assert!(a.record().exists() && Path::new("/dev/shm").exists());
}

/// The run directory, and so the locks, come from the environment; the names in /dev/shm do not.
#[test]
fn a_twin_from_another_environment_is_refused() {
    let mut p = Pipeline::of_lines(10_000_000 / 50, SLOW);
    p.start_all();
    p.wait_for("it runs", BOUND, |p| p.durable() > 500);
    for role in Role::ALL {
        let elsewhere = p.dir().join("elsewhere");
        let child = second(&p, role).env("XDG_RUNTIME_DIR", &elsewhere).spawn().unwrap();
        let out = child.wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(75), "{role:?}: {err}");
        assert!(err.contains("runs already, as process"), "{err}");
    }
    let durable = p.durable();
    p.wait_for("the first ones go on", BOUND, |p| p.durable() > durable + 500);
    end(&mut p);
}
