//! The two processors that the bench runs on, and how far apart they are just now: the host of a virtual machine moves
//! them, and figures of shared memory differ with the distance.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// A round trip of a cache line below this, ns, is near: the two classes seen on virtual machines are 62-130 and 325-570.
const NEAR_NS: f64 = 200.0;

/// The processors for the two sides; `None` on a machine (or in a container) with one.
fn processors() -> Option<(usize, usize)> {
    let allowed = sched_getaffinity(None).ok()?;
    let mut all = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    Some((all.next()?, all.next()?))
}

/// Are the two processes on processors of their own?
pub fn is_pinned() -> bool {
    processors().is_some()
}

/// Binds this thread to the processor of a side, 0 or 1, if there are two.
pub fn pin(side: usize) {
    let Some((first, second)) = processors() else { return };
    let mut set = CpuSet::new();
    set.set(if side == 0 { first } else { second });
    let _ = sched_setaffinity(None, &set); // a figure of an unbound thread is still one
}

/// Round trip of a cache line between the two processors, ns; `None` on a machine with one.
pub fn round_trip_ns() -> Option<f64> {
    const TURNS: u64 = 5_000;
    processors()?;
    let word = AtomicU64::new(0);
    let ask = || {
        pin(0);
        let mut begun = Instant::now();
        for turn in 0..TURNS {
            if turn == TURNS / 10 {
                begun = Instant::now();
            }
            word.store(2 * turn + 1, Ordering::Release);
            spin_until(&word, 2 * turn + 2);
        }
        begun.elapsed().as_nanos() as f64 / (TURNS - TURNS / 10) as f64
    };
    let answer = || {
        pin(1);
        for turn in 0..TURNS {
            spin_until(&word, 2 * turn + 1);
            word.store(2 * turn + 2, Ordering::Release);
        }
    };
    // In threads of their own: the bench itself stays free to run anywhere.
    std::thread::scope(|scope| {
        scope.spawn(answer);
        scope.spawn(ask).join().ok()
    })
}

fn spin_until(word: &AtomicU64, value: u64) {
    while word.load(Ordering::Acquire) != value {
        std::hint::spin_loop();
    }
}

/// near, far, or one: there is one processor.
pub fn class(round_trip_ns: Option<f64>) -> &'static str {
    match round_trip_ns {
        None => "one",
        Some(ns) if ns < NEAR_NS => "near",
        Some(_) => "far",
    }
}
