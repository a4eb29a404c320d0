//! What the machine itself can do: no mechanism is faster than this.
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ipc_pipeline::sys;

use super::probe;

/// Fits the second-level cache of every processor.
const CACHED: usize = 64 << 10;
/// Fits no cache of most.
const LARGE: usize = 64 << 20;

/// Physical limits; 0 where there is none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Copying 64 KiB over and over, bytes a second.
    pub memcpy_cached: f64,
    /// Copying 64 MiB, bytes a second.
    pub memcpy_large: f64,
    /// A cache line to the other processor and back, ns.
    pub cache_line_round_trip: f64,
    /// A system call that does nothing, ns.
    pub system_call: f64,
    /// Waking a thread on the other processor by a futex, one way, ns.
    pub futex: f64,
}

impl Limits {
    /// Measures them; about `time` each.
    pub fn measure(time: Duration) -> Limits {
        Limits {
            memcpy_cached: memcpy(CACHED, time),
            memcpy_large: memcpy(LARGE, time),
            cache_line_round_trip: probe::round_trip_ns().unwrap_or(0.0),
            system_call: ns_each(time, || {
                black_box(rustix::process::getppid());
            }),
            futex: futex(time),
        }
    }
}

fn memcpy(len: usize, time: Duration) -> f64 {
    let (from, mut to) = (vec![1u8; len], vec![0u8; len]);
    let ns = ns_each(time, || {
        to.copy_from_slice(black_box(&from));
        black_box(&mut to);
    });
    len as f64 / ns * 1e9
}

/// Mean time of one call, ns; the first tenth does not count.
fn ns_each(time: Duration, mut call: impl FnMut()) -> f64 {
    let warm = Instant::now();
    while warm.elapsed() < time / 10 {
        call();
    }
    let (begun, mut count) = (Instant::now(), 0u32);
    while count == 0 || begun.elapsed() < time {
        (0..8).for_each(|_| call());
        count += 8;
    }
    begun.elapsed().as_nanos() as f64 / f64::from(count)
}

/// Half of a round trip in which both sides sleep.
fn futex(time: Duration) -> f64 {
    const STOP: u64 = 1 << 31;
    let (there, back) = (AtomicU64::new(0), AtomicU64::new(0));
    let sleep_while = |word: &AtomicU64, seen: u64| {
        while word.load(Ordering::Acquire) == seen {
            sys::wait(word, seen, Duration::from_millis(100));
        }
    };
    let tell = |word: &AtomicU64, value: u64| {
        word.store(value, Ordering::Release);
        sys::wake(word);
    };
    let ask = || {
        probe::pin(0);
        let mut turn = 0;
        let ns = ns_each(time, || {
            tell(&there, turn + 1);
            sleep_while(&back, turn);
            turn += 1;
        });
        tell(&there, STOP);
        ns / 2.0
    };
    let answer = || {
        probe::pin(1);
        let mut seen = 0;
        loop {
            sleep_while(&there, seen);
            seen = there.load(Ordering::Acquire);
            if seen == STOP {
                return;
            }
            tell(&back, seen);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(answer);
        scope.spawn(ask).join().unwrap_or(0.0)
    })
}
