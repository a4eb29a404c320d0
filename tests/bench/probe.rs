//! How far apart the two cores are just now: the host moves them, and shared-memory figures differ with the distance.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rustix::thread::{CpuSet, sched_setaffinity};

/// Binds this thread to one processor, if it exists.
pub fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    let _ = sched_setaffinity(None, &set); // fails where there is no such processor
}

/// Lets this thread run anywhere again.
pub fn unpin() {
    let mut set = CpuSet::new();
    (0..CpuSet::MAX_CPU).for_each(|cpu| set.set(cpu)); // the kernel keeps those that exist
    let _ = sched_setaffinity(None, &set);
}

/// Round trip of a cache line between processors 0 and 1, ns.
pub fn round_trip_ns() -> f64 {
    const TURNS: u64 = 20_000;
    let word = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(1);
            for turn in 0..TURNS {
                while word.load(Ordering::Acquire) != 2 * turn + 1 {
                    std::hint::spin_loop();
                }
                word.store(2 * turn + 2, Ordering::Release);
            }
        });
        pin(0);
        let mut begun = Instant::now();
        for turn in 0..TURNS {
            if turn == TURNS / 10 {
                begun = Instant::now();
            }
            word.store(2 * turn + 1, Ordering::Release);
            while word.load(Ordering::Acquire) != 2 * turn + 2 {
                std::hint::spin_loop();
            }
        }
        begun.elapsed().as_nanos() as f64 / (TURNS - TURNS / 10) as f64
    })
}

/// near or far: the two classes seen on virtual machines.
pub fn class(round_trip_ns: f64) -> &'static str {
    if round_trip_ns < 200.0 { "near" } else { "far" }
}
