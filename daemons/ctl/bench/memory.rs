//! Memory that both processes see: a mailbox under a lock, and our own ring.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ipc_pipeline::entry::LEN;
use ipc_pipeline::ring::{self, Patience};
use ipc_pipeline::spool::{Feed, Header, Position, SpoolReader, SpoolWriter};
use ipc_pipeline::sys::{self, LockedMap, Map};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use super::mechanism::{End, Ends, Load, Mechanism, Port, Side, take};
use super::probe;

/// Nobody holds the lock for so long, s.
const LOCK_BOUND: u64 = 5;
/// A sleeper looks again after this: a wake-up that was missed costs no more.
const NAP: Duration = Duration::from_millis(100);
/// 4 MiB of entries: just above the second-level cache, where it is fastest.
const CAPACITY: u64 = 1 << 17;

/// Memory without a name.
pub fn memory(len: usize) -> io::Result<OwnedFd> {
    let file = memfd_create("ipc-pipeline-bench", MemfdFlags::CLOEXEC)?;
    ftruncate(&file, len as u64)?;
    Ok(file)
}

/// What one process says about itself to the other: how far it has read, and that it sleeps. Each in lines of its own.
pub struct Words(Map);

impl Words {
    /// Bytes of the memory.
    pub const LEN: usize = 4096;
    const FAR: usize = 32;

    /// Of this memory.
    ///
    /// # Errors
    /// It is too short.
    pub fn of(fd: OwnedFd) -> io::Result<Words> {
        Map::writable(fd.into(), Words::LEN).map(Words)
    }

    fn word(&self, side: Side, i: usize) -> &AtomicU64 {
        let side = if side == Side::First { 0 } else { 4 };
        &self.0.words()[(side + i) * Words::FAR]
    }

    /// How far this side has read.
    pub fn received(&self, side: Side) -> &AtomicU64 {
        self.word(side, 0)
    }

    /// Does it sleep?
    fn sleeps(&self, side: Side) -> &AtomicU64 {
        self.word(side, 1)
    }

    /// What changes when there is something for it.
    fn bell(&self, side: Side) -> &AtomicU64 {
        self.word(side, 2)
    }
}

/// The side at the other end.
pub fn other(side: Side) -> Side {
    if side == Side::First { Side::Second } else { Side::First }
}

fn twice(first: &OwnedFd) -> io::Result<(OwnedFd, OwnedFd)> {
    Ok((first.try_clone()?, first.try_clone()?))
}

/// Shared memory under a process-shared, robust mutex; who finds nothing sleeps on a futex.
pub struct Locked;

/// Messages that a mailbox holds.
fn slots(size: usize) -> usize {
    if size > 4096 { 8 } else { 64 }
}

/// Bytes of a mailbox: the lock, two counters, the messages.
fn mailbox_len(size: usize) -> usize {
    4096 + slots(size) * size
}

impl Locked {
    fn mailbox(size: usize) -> io::Result<OwnedFd> {
        let file = memory(mailbox_len(size))?;
        LockedMap::make(File::from(file.try_clone()?), mailbox_len(size))?;
        Ok(file)
    }
}

impl Mechanism for Locked {
    fn name(&self) -> &'static str {
        "shm-lock"
    }

    fn open(&self, load: Load) -> io::Result<Ends> {
        let (there, back) = (Locked::mailbox(load.size)?, Locked::mailbox(load.size)?);
        let (words_1, words_2) = twice(&memory(Words::LEN)?)?;
        let first = vec![back.try_clone()?, there.try_clone()?, words_1];
        Ok(Ends { first, second: vec![there, back, words_2], ..Ends::default() })
    }

    fn join(&self, end: End) -> io::Result<Box<dyn Port>> {
        let (len, mut fds) = (mailbox_len(end.load.size), end.fds.into_iter());
        let input = LockedMap::open(take(&mut fds)?.into(), len)?;
        let output = LockedMap::open(take(&mut fds)?.into(), len)?;
        let (words, side) = (Words::of(take(&mut fds)?)?, end.side);
        let patience = Patience::new(1 + usize::from(probe::is_pinned()));
        Ok(Box::new(LockedPort { input, output, words, side, patience }))
    }
}

struct LockedPort {
    input: LockedMap,
    output: LockedMap,
    words: Words,
    side: Side,
    patience: Patience,
}

/// Messages put in and taken out so far, then the messages.
fn parts(words: &[AtomicU64]) -> Option<(&AtomicU64, &AtomicU64, &[AtomicU64])> {
    let (counters, messages) = words.split_at_checked(2)?;
    Some((counters.first()?, counters.last()?, messages))
}

/// Puts a message in, if there is room.
fn put(words: &[AtomicU64], message: &[u8]) -> Option<()> {
    let (put, taken, messages) = parts(words)?;
    let (n, len, slots) = (put.load(Ordering::Relaxed), message.len() / 8, slots(message.len()));
    if n - taken.load(Ordering::Relaxed) >= slots as u64 {
        return None;
    }
    let slot = messages.get(n as usize % slots * len..)?;
    for (to, bytes) in slot.iter().zip(message.as_chunks::<8>().0) {
        to.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
    }
    put.store(n + 1, Ordering::Relaxed);
    Some(())
}

/// Takes a message out, if there is one.
fn take_out(words: &[AtomicU64], out: &mut [u8]) -> Option<()> {
    let (put, taken, messages) = parts(words)?;
    let (n, len, slots) = (taken.load(Ordering::Relaxed), out.len() / 8, slots(out.len()));
    if put.load(Ordering::Relaxed) == n {
        return None;
    }
    let slot = messages.get(n as usize % slots * len..)?;
    for (from, bytes) in slot.iter().zip(out.as_chunks_mut::<8>().0) {
        *bytes = from.load(Ordering::Relaxed).to_le_bytes();
    }
    taken.store(n + 1, Ordering::Relaxed);
    Some(())
}

impl LockedPort {
    /// Does `work` under the lock as soon as it can be done, then rings for the other side.
    fn when_possible(
        words: &Words,
        patience: &mut Patience,
        side: Side,
        lock: &LockedMap,
        mut work: impl FnMut(&[AtomicU64]) -> Option<()>,
    ) -> io::Result<u32> {
        let (bell, mut calls) = (words.bell(side), 0);
        loop {
            let seen = bell.load(Ordering::Acquire);
            if lock.with(LOCK_BOUND, |_| (), &mut work)?.is_some() {
                break;
            }
            calls += sleep_while(bell, seen, words.sleeps(side), patience, || {});
        }
        let there = other(side);
        words.bell(there).fetch_add(1, Ordering::Release);
        if ring::must_wake([words.sleeps(there)]) {
            sys::wake(words.bell(there));
            calls += 1;
        }
        Ok(calls)
    }
}

/// Spins a little, then sleeps, while the word is what was seen; how many system calls that took.
fn sleep_while(
    word: &AtomicU64,
    seen: u64,
    sleeps: &AtomicU64,
    patience: &mut Patience,
    barrier: impl FnOnce(),
) -> u32 {
    if patience.spin(word, seen) {
        return 0;
    }
    let begun = sys::monotonic_ns();
    let mut calls = 0;
    if ring::may_sleep(sleeps, word, seen, barrier) {
        sys::wait(word, seen, NAP);
        calls = 1;
    }
    ring::awake(sleeps);
    patience.slept(sys::monotonic_ns() - begun, word.load(Ordering::Relaxed).saturating_sub(seen));
    calls
}

impl Port for LockedPort {
    fn send(&mut self, message: &[u8]) -> io::Result<u32> {
        let work = |words: &[AtomicU64]| put(words, message);
        LockedPort::when_possible(&self.words, &mut self.patience, self.side, &self.output, work)
    }

    fn receive(&mut self, out: &mut [u8]) -> io::Result<u32> {
        let work = |words: &[AtomicU64]| take_out(words, out);
        LockedPort::when_possible(&self.words, &mut self.patience, self.side, &self.input, work)
    }
}

/// The ring of the pipeline, as conv and log use it: entries with number and CRC, one publish for a message.
pub enum Spool {
    /// A reader that finds nothing spins a little, then sleeps, as the daemons do.
    Sleeping,
    /// It spins: the least latency, and a processor that is never free.
    Spinning,
}

/// A new spool.
pub fn spool() -> io::Result<OwnedFd> {
    let header = header();
    let file = memory(8 * header.words())?;
    let map = Map::writable(file.try_clone()?.into(), 8 * header.words())?;
    SpoolWriter::<Map>::fill(map.words(), &header, &Feed::default(), 0);
    Ok(file)
}

fn header() -> Header {
    Header { capacity: CAPACITY, log_id: 1, epoch: 1, base: 1, start_wall_ns: 0, start_mono_ns: 0 }
}

/// The spool that this side writes.
pub fn writer(fd: OwnedFd) -> io::Result<SpoolWriter<Map>> {
    let map = Map::writable(fd.into(), 8 * header().words())?;
    SpoolWriter::resume(map).ok_or_else(|| ErrorKind::InvalidData.into())
}

/// The spool that this side reads.
pub fn reader(fd: OwnedFd) -> io::Result<SpoolReader<Map>> {
    let map = Map::readable(fd.into(), 8 * header().words())?;
    SpoolReader::new(map).ok_or_else(|| ErrorKind::InvalidData.into())
}

/// Descriptors for two spools and the words beside them.
pub fn two_spools() -> io::Result<Ends> {
    let (there, back) = (spool()?, spool()?);
    let (words_1, words_2) = twice(&memory(Words::LEN)?)?;
    let first = vec![back.try_clone()?, there.try_clone()?, words_1];
    Ok(Ends { first, second: vec![there, back, words_2], ..Ends::default() })
}

/// Pushes a message as entries of one batch, each with the first word of its part of the message, and accepts them.
pub fn publish(spool: &mut SpoolWriter<Map>, values: &mut Vec<i32>, message: &[u8]) {
    let word = message.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    if values.len() != message.len() / LEN {
        values.clear();
        values.extend(0..(message.len() / LEN) as i32);
    }
    spool.push_samples(values, |i| word.wrapping_add(4 * i));
    spool.commit(Position::default());
}

/// Puts what [`publish`] has put into each entry where the message had it.
pub fn unpack(entries: &mut [u8]) {
    for entry in entries.as_chunks_mut::<LEN>().0 {
        entry.copy_within(8..16, 0);
    }
}

impl Mechanism for Spool {
    fn name(&self) -> &'static str {
        match self {
            Spool::Sleeping => "ring",
            Spool::Spinning => "ring-spin",
        }
    }

    fn open(&self, _: Load) -> io::Result<Ends> {
        two_spools()
    }

    fn join(&self, end: End) -> io::Result<Box<dyn Port>> {
        let mut fds = end.fds.into_iter();
        let reader = reader(take(&mut fds)?)?;
        let writer = writer(take(&mut fds)?)?;
        let words = Words::of(take(&mut fds)?)?;
        let next = ring::accepted(reader.ring()) + 1;
        words.received(end.side).store(next - 1, Ordering::Release);
        Ok(Box::new(SpoolPort {
            reader,
            writer,
            words,
            side: end.side,
            next,
            values: Vec::new(),
            patience: Patience::new(1 + usize::from(probe::is_pinned())),
            sleeps: matches!(self, Spool::Sleeping),
            unfenced: sys::register_for_barriers(),
        }))
    }
}

struct SpoolPort {
    reader: SpoolReader<Map>,
    writer: SpoolWriter<Map>,
    words: Words,
    side: Side,
    next: u64,
    values: Vec<i32>,
    patience: Patience,
    sleeps: bool,
    unfenced: bool,
}

impl Port for SpoolPort {
    fn send(&mut self, message: &[u8]) -> io::Result<u32> {
        let there = other(self.side);
        let mut calls = 0;
        while self.writer.room() < (message.len() / LEN) as u64 {
            let received = self.words.received(there).load(Ordering::Acquire);
            if received > self.writer.tail() {
                self.writer.release(received);
            } else if self.sleeps {
                calls += 1;
                std::thread::yield_now();
            }
            std::hint::spin_loop();
        }
        publish(&mut self.writer, &mut self.values, message);
        let flags = [self.words.sleeps(there)];
        let must = if self.unfenced { ring::must_wake_unfenced(flags) } else { ring::must_wake(flags) };
        if self.sleeps && must {
            sys::wake(self.writer.head_word());
            calls += 1;
        }
        Ok(calls)
    }

    fn receive(&mut self, out: &mut [u8]) -> io::Result<u32> {
        let last = self.next + (out.len() / LEN) as u64 - 1;
        let mut calls = 0;
        loop {
            let head = ring::accepted(self.reader.ring());
            if head >= last {
                break;
            }
            let flag = self.words.sleeps(self.side);
            if self.sleeps {
                let slept =
                    sleep_while(self.reader.head_word(), head, flag, &mut self.patience, sys::barrier);
                calls += 2 * slept; // and the barrier
            } else {
                std::hint::spin_loop();
            }
        }
        let valid = ring::copy_valid(self.reader.ring(), self.next, 1, out);
        if valid * LEN != out.len() {
            return Err(io::Error::new(ErrorKind::InvalidData, "an entry came garbled"));
        }
        unpack(out);
        self.next = last + 1;
        self.words.received(self.side).store(last, Ordering::Release);
        Ok(calls)
    }

    fn stride(&self) -> usize {
        LEN
    }
}
