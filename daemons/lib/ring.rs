//! The ring in the spool: one producer, one commit word, no locks, no repair.
//!
//! Pure logic on atomic words, so that tests can run it on plain memory and loom can run every interleaving of it.
//! What does not happen here: no allocation, no system call, no waiting, no overwriting of what is not yet durable.
//!
//! Why a kill at any instruction is harmless: memory is always a prefix of the victim's program order; slot stores touch
//! only slots beyond `head`; `head` and `tail` change by one aligned 8-byte store. So each seq in (tail, head] has its
//! whole entry in its slot at every instant, and a new producer goes on at `head + 1` without looking at anything else.
#![forbid(unsafe_code)]

use crate::entry::{self, Entry, LEN, PART, WORDS};
use crate::sync::{AtomicU64, Ordering, fence};

/// The words of the spool that make up the ring.
#[derive(Clone, Copy)]
pub struct Ring<'m> {
    /// Highest accepted seq; written by conv only.
    pub head: &'m AtomicU64,
    /// Highest durable seq that conv has seen; written by conv only.
    pub tail: &'m AtomicU64,
    /// `WORDS` words for each slot; the number of slots is a power of two.
    pub slots: &'m [AtomicU64],
}

impl<'m> Ring<'m> {
    #[inline(always)]
    fn slot(&self, seq: u64) -> &'m [AtomicU64] {
        let slots = self.slots.len() / WORDS;
        let i = seq as usize & (slots - 1);
        &self.slots[i * WORDS..i * WORDS + WORDS]
    }

    /// The entry in the slot of `seq` as it is now; nothing is checked.
    #[inline(always)]
    pub fn load(&self, seq: u64) -> Entry {
        let slot = self.slot(seq);
        Entry::from_words(std::array::from_fn(|i| slot[i].load(Ordering::Relaxed)))
    }

    #[inline(always)]
    fn store(&self, entry: &Entry) {
        for (to, word) in self.slot(entry.seq).iter().zip(entry.to_words()) {
            to.store(word, Ordering::Relaxed);
        }
    }
}

/// The producer's own view. `head` and `tail` are its own words: it reads them back only when it starts.
#[derive(Clone, Copy, Debug)]
pub struct Producer {
    head: u64,
    tail: u64,
    capacity: u64,
}

impl Producer {
    /// Goes on where `head` and `tail` stand.
    pub fn new(head: u64, tail: u64, capacity: u64) -> Producer {
        Producer { head, tail, capacity }
    }

    /// Highest accepted seq.
    #[inline]
    pub fn head(&self) -> u64 {
        self.head
    }

    /// Highest seq known to be durable.
    #[inline]
    pub fn tail(&self) -> u64 {
        self.tail
    }

    /// Slots that may be written now.
    #[inline]
    pub fn free(&self) -> u64 {
        self.capacity.saturating_sub(self.head.saturating_sub(self.tail))
    }

    /// Takes note that everything up to `durable` (not beyond `head`) is on disk: its slots are free.
    pub fn release(&mut self, ring: Ring, durable: u64) {
        self.tail = durable;
        ring.tail.store(durable, Ordering::Release);
    }

    /// Before the first store into slots: whoever sees one of those stores also sees `tail` as it is now.
    ///
    /// SYNC POINT: pairs with the acquire fence of [`overwritten`]. Without it a reader on a weakly ordered machine
    /// could take an overwritten slot for good (found by loom).
    #[inline]
    pub fn begin(&self) {
        fence(Ordering::Release);
    }

    /// Writes an entry whose seq is in `head + 1 ..= head + free`. Not accepted before [`Producer::commit`].
    #[inline(always)]
    pub fn write(&self, ring: Ring, entry: &Entry) {
        debug_assert!(entry.seq > self.head && entry.seq <= self.tail + self.capacity);
        ring.store(entry);
    }

    /// Accepts all entries up to `head`: the one store that makes the promise.
    ///
    /// SYNC POINT: the release pairs with the acquire of [`accepted`].
    #[inline]
    pub fn commit(&mut self, ring: Ring, head: u64) {
        self.head = head;
        ring.head.store(head, Ordering::Release);
    }
}

/// Highest accepted seq: all slots of (tail, this] may be read after it.
///
/// SYNC POINT: pairs with the release of [`Producer::commit`].
#[inline]
pub fn accepted(ring: Ring) -> u64 {
    ring.head.load(Ordering::Acquire)
}

/// Copies entries `from ..` into `out` (whole entries) as they are now: for the producer, who wrote them.
pub fn copy(ring: Ring, from: u64, out: &mut [u8]) {
    for (seq, bytes) in (from..).zip(out.as_chunks_mut::<LEN>().0) {
        *bytes = ring.load(seq).to_bytes();
    }
}

/// Copies entries `from ..` into `out` (whole entries) as long as they are valid: right seq, right epoch, right CRC.
/// All of them must be accepted. Returns how many were copied.
///
/// For the mandatory reader (log) this is all there is: what it has not made durable is never overwritten. Any other
/// reader must ask [`overwritten`] afterwards.
pub fn copy_valid(ring: Ring, from: u64, epoch: u32, out: &mut [u8]) -> usize {
    let mut seq = from;
    for part in out.as_chunks_mut::<LEN>().0.chunks_mut(PART) {
        let begin = seq;
        let mut in_turn = true;
        for bytes in part.iter_mut() {
            let entry = ring.load(seq);
            in_turn &= entry.seq == seq && entry.epoch == epoch;
            *bytes = entry.to_bytes();
            seq += 1;
        }
        if in_turn && entry::all_whole(part) {
            continue;
        }
        let is_valid = |(seq, bytes): &(u64, &mut [u8; LEN])| {
            let entry = Entry::from_bytes(bytes);
            entry.seq == *seq && entry.epoch == epoch && entry.is_whole()
        };
        let valid = (begin..).zip(part).take_while(is_valid).count();
        return (begin - from) as usize + valid;
    }
    (seq - from) as usize
}

/// After slots were copied: the seq up to which they may have been overwritten meanwhile.
///
/// Only slots of seq <= tail are ever overwritten, and `tail` is stored before they are: no margin is needed.
/// SYNC POINT: pairs with [`Producer::begin`].
pub fn overwritten(ring: Ring) -> u64 {
    fence(Ordering::Acquire);
    ring.tail.load(Ordering::Relaxed)
}

/// A reader's patience before it sleeps: it spins only where entries come so fast that a sleep would hardly begin before
/// its end. A slow source costs no spinning at all, nor does a machine with one processor.
pub struct Patience {
    turns: u32,
    turns_max: u32,
}

/// Turns of a spin at most: some 20 us.
const SPIN_MAX: u32 = 2000;
/// Entries that come closer together than this, ns, are worth a spin.
const CLOSE_NS: u64 = 5_000;
/// A sleep longer than this, ns, was a rest of the source, however much came at its end.
const SHORT_SLEEP_NS: u64 = 200_000;

impl Patience {
    /// For a machine with so many processors.
    pub fn new(processors: usize) -> Patience {
        Patience { turns: 0, turns_max: if processors > 1 { SPIN_MAX } else { 0 } }
    }

    /// Spins while `word` is `seen`. True if it changed: there is no need to sleep.
    #[cfg(not(loom))]
    pub fn spin(&mut self, word: &AtomicU64, seen: u64) -> bool {
        for _ in 0..self.turns {
            if word.load(Ordering::Relaxed) != seen {
                return true;
            }
            std::hint::spin_loop();
        }
        self.turns /= 2;
        false
    }

    /// Learns from a sleep of so many ns, in which so many entries came. Its length alone says nothing: to be woken may take
    /// 25 us, in which hundreds come.
    pub fn slept(&mut self, ns: u64, came: u64) {
        let close = ns < SHORT_SLEEP_NS && ns / CLOSE_NS < came;
        self.turns = if close { self.turns_max } else { 0 };
    }
}

/// The sleeper's half of the bell: says that it is going to sleep; true if `word` is still what it saw.
///
/// SYNC POINT: flag before word here, word before flag in [`must_wake`]; with a full fence between the two on both sides
/// at least one of them sees the other, so no wake-up is missed. `barrier` puts the waker's fence into it from here
/// (membarrier), for wakers that use [`must_wake_unfenced`]: only the sleeper pays. The flag is cleared with [`awake`].
pub fn may_sleep(waiting: &AtomicU64, word: &AtomicU64, seen: u64, barrier: impl FnOnce()) -> bool {
    waiting.store(1, Ordering::Relaxed);
    fence(Ordering::SeqCst);
    barrier();
    word.load(Ordering::Relaxed) == seen
}

/// The sleeper is awake again.
pub fn awake(waiting: &AtomicU64) {
    waiting.store(0, Ordering::Relaxed);
}

/// The waker's half of the bell, after its store to the word: does the owner of one of these flags sleep? The checked
/// reference, which loom can see.
pub fn must_wake<'a>(waiting: impl IntoIterator<Item = &'a AtomicU64>) -> bool {
    fence(Ordering::SeqCst);
    waiting.into_iter().any(|w| w.load(Ordering::Relaxed) != 0)
}

/// The same for a waker whose process is registered for the sleepers' barriers (`sys::register_for_barriers`): whenever a
/// sleeper has set its flag, its barrier puts a full fence between this waker's two accesses or before or after both.
/// Only the compiler must be kept from exchanging them.
#[cfg(not(loom))]
pub fn must_wake_unfenced<'a>(waiting: impl IntoIterator<Item = &'a AtomicU64>) -> bool {
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
    waiting.into_iter().any(|w| w.load(Ordering::Relaxed) != 0)
}

#[cfg(all(test, loom))]
mod interleavings;
