//! Suite T1: every interleaving and every weak-memory outcome of the ring and of the bell, up to three preemptions.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --lib interleavings`
//!
//! The CRC would hide a missing fence: a torn entry is refused whatever let it through. So the readers here look at the
//! bare words, and every entry that the protocol lets them believe must be the one that was written.
#![forbid(unsafe_code)]

use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use super::{Producer, Ring, accepted, awake, copy_valid, may_sleep, must_wake, overwritten};
use crate::entry::{Entry, LEN, WORDS};
use crate::sync::{AtomicU64, Ordering};

const EPOCH: u32 = 1;

/// A spool of loom's atomics, and the word in which log says what is durable.
struct Shared {
    head: AtomicU64,
    tail: AtomicU64,
    slots: Vec<AtomicU64>,
    durable: AtomicU64,
}

impl Shared {
    fn new(capacity: usize) -> Arc<Shared> {
        let word = || AtomicU64::new(0);
        let slots = (0..capacity * WORDS).map(|_| word()).collect();
        Arc::new(Shared { head: word(), tail: word(), slots, durable: word() })
    }

    fn ring(&self) -> Ring<'_> {
        Ring { head: &self.head, tail: &self.tail, slots: &self.slots }
    }
}

fn entry(seq: u64) -> Entry {
    Entry::sample(seq, EPOCH, seq, 0, -(seq as i32))
}

fn every_interleaving(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.max_branches = 10_000;
    builder.check(model);
}

/// Publishes `batches`, each as soon as the slots for it are free by the word of `durable`; gives up after some looks.
fn produce(shared: &Shared, capacity: u64, batches: &[u64], mut looks: u32) {
    let (ring, mut producer) = (shared.ring(), Producer::new(0, 0, capacity));
    for &batch in batches {
        while producer.free() < batch {
            if looks == 0 {
                return;
            }
            looks -= 1;
            let durable = shared.durable.load(Ordering::Acquire);
            if durable > producer.tail() {
                producer.release(ring, durable);
            } else {
                thread::yield_now();
            }
        }
        let head = producer.head();
        producer.begin();
        for seq in head + 1..=head + batch {
            producer.write(ring, &entry(seq));
        }
        producer.commit(ring, head + batch);
    }
}

/// log: what is accepted and not durable is whole, and stays so until log says that it is durable.
fn mandatory_reader(shared: &Shared, mut looks: u32) {
    let (ring, mut next) = (shared.ring(), 1);
    while looks > 0 {
        looks -= 1;
        let head = accepted(ring);
        if head < next {
            thread::yield_now();
            continue;
        }
        let mut out = vec![0; (head - next + 1) as usize * LEN];
        assert_eq!(
            copy_valid(ring, next, EPOCH, &mut out),
            (head - next + 1) as usize,
            "accepted, not whole"
        );
        for (seq, bytes) in (next..).zip(out.chunks_exact(LEN)) {
            assert_eq!(bytes, entry(seq).to_bytes());
        }
        next = head + 1;
        shared.durable.store(head, Ordering::Release);
    }
}

/// stat: whatever it may believe after [`overwritten`] is what was written.
fn lossy_reader(shared: &Shared) {
    let ring = shared.ring();
    let head = accepted(ring);
    let from = shared.tail.load(Ordering::Acquire) + 1;
    let seen: Vec<Entry> = (from..=head).map(|seq| ring.load(seq)).collect();
    if overwritten(ring) < from {
        for (seq, seen) in (from..).zip(seen) {
            assert_eq!(seen, entry(seq), "believed an overwritten slot");
        }
    }
}

#[test]
fn the_mandatory_reader_gets_everything() {
    every_interleaving(|| {
        let shared = Shared::new(2);
        let producer = thread::spawn({
            let shared = shared.clone();
            move || produce(&shared, 2, &[1, 2, 1], 2)
        });
        mandatory_reader(&shared, 3);
        producer.join().unwrap();
    });
}

#[test]
fn the_lossy_reader_believes_nothing_overwritten() {
    every_interleaving(|| {
        let shared = Shared::new(1);
        // Everything is durable at once: the producer overwrites as fast as it can.
        shared.durable.store(1, Ordering::Relaxed);
        let producer = thread::spawn({
            let shared = shared.clone();
            move || produce(&shared, 1, &[1, 1], 1)
        });
        lossy_reader(&shared);
        producer.join().unwrap();
    });
}

#[test]
fn three_parties_on_two_slots() {
    every_interleaving(|| {
        let shared = Shared::new(2);
        let producer = thread::spawn({
            let shared = shared.clone();
            move || produce(&shared, 2, &[2, 1], 1)
        });
        let reader = thread::spawn({
            let shared = shared.clone();
            move || lossy_reader(&shared)
        });
        mandatory_reader(&shared, 1);
        producer.join().unwrap();
        reader.join().unwrap();
    });
}

/// A futex, as the kernel does it: comparing and going to sleep are one step against waking.
struct Futex {
    lock: Mutex<()>,
    sleepers: Condvar,
}

impl Futex {
    fn wait(&self, word: &AtomicU64, seen: u64) {
        let guard = self.lock.lock().unwrap();
        if word.load(Ordering::Relaxed) == seen {
            drop(self.sleepers.wait(guard).unwrap());
        }
    }

    fn wake(&self) {
        drop(self.lock.lock().unwrap());
        self.sleepers.notify_all();
    }
}

/// There is no time-out here: a missed wake-up is a deadlock, which loom reports.
#[test]
fn no_wake_up_is_lost() {
    every_interleaving(|| {
        let word = Arc::new(AtomicU64::new(0));
        let waiting = Arc::new(AtomicU64::new(0));
        let futex = Arc::new(Futex { lock: Mutex::new(()), sleepers: Condvar::new() });
        let waker = thread::spawn({
            let (word, waiting, futex) = (word.clone(), waiting.clone(), futex.clone());
            move || {
                for head in 1..=2 {
                    word.store(head, Ordering::Release);
                    if must_wake([&*waiting]) {
                        futex.wake();
                    }
                }
            }
        });
        let mut seen = 0;
        while seen < 2 {
            if may_sleep(&waiting, &word, seen, || ()) {
                futex.wait(&word, seen);
            }
            awake(&waiting);
            seen = word.load(Ordering::Acquire);
        }
        waker.join().unwrap();
    });
}
