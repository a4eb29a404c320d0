//! Each daemon is killed at its n-th system call, over shared memory and over each kind of carrier that lives in the kernel. Then
//! it starts again, and must make progress.

use crate::harness::{Pipeline, Role, all_edges};
use crate::scale;
use fastrand::Rng;
use std::thread::sleep;
use std::time::{Duration, Instant};

const BOUND: Duration = Duration::from_secs(10);
/// A daemon that has not come to its n-th call by then is killed where it is.
const PATIENCE: Duration = Duration::from_millis(400);
/// From the first call of the program, long before its main, to some turns of its loop.
const CALLS: u32 = 500;
/// So many calls every daemon makes before it can rest.
const CALLS_SURE: u32 = 60;

fn kills_over(carrier: &str) {
    let seed = scale::seed("T3_SEED");
    eprintln!("{carrier}: T3_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let mut p = Pipeline::of_lines(
        4_000_000,
        &format!("[conv]\nrate = \"10 kHz\"\n[spool]\ncapacity = 512\n{}", all_edges(carrier)),
    );
    p.start_all();
    p.wait_for("it runs", BOUND, |p| p.folded() > 10);
    let (mut last, mut late) = (Role::ALL.map(|_| CALLS), 0);
    let kills = scale::size("T3_KILLS", [25, 400, 4_000]);
    for _ in 0..kills {
        for role in Role::ALL {
            let last = &mut last[role as usize];
            while !kill_at(&mut p, role, rng.u32(1..=*last)) {
                assert!(
                    *last > CALLS_SURE,
                    "{} never comes to its n-th call: is strace at work?",
                    role.name()
                );
                // It rests by then.
                (*last, late) = ((*last * 2 / 3).max(CALLS_SURE), late + 1);
            }
            let durable = p.durable();
            p.wait_for("it goes on", BOUND, |p| p.durable() > durable && p.folded() > durable);
        }
    }
    p.stop(Role::Conv, BOUND);
    let head = p.head().unwrap();
    p.wait_for("log has drained the spool", BOUND, |p| p.durable() == head);
    p.wait_for("stat has folded everything", BOUND, |p| p.folded() == head);
    let report = p.judge();
    assert_eq!((report.last, report.lost[0], report.lost[2..].iter().sum::<u64>()), (head, 0, 0));
    [Role::Log, Role::Stat, Role::Report].into_iter().for_each(|r| p.stop(r, BOUND));
    p.remove_objects();
    p.assert_nothing_left();
    scale::tally(4 * kills, None);
    eprintln!(
        "{carrier}: {late} more were killed where they rested, {} entries; calls up to {last:?}",
        report.last
    );
}

/// True: it died at that call.
fn kill_at(p: &mut Pipeline, role: Role, n: u32) -> bool {
    p.kill(role);
    let inject = format!("inject=all:signal=KILL:when={n}");
    p.start_under(&["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", &inject], role);
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE && !p.is_dead(role) {
        sleep(Duration::from_millis(1));
    }
    let dead = p.is_dead(role);
    p.kill(role);
    p.start(role);
    dead
}

#[test]
fn shared_memory() {
    kills_over("shm");
}

#[test]
fn queues() {
    kills_over("mq");
}

#[test]
fn fifos() {
    kills_over("fifo");
}

#[test]
fn sockets() {
    kills_over("unix");
}
