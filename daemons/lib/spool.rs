//! The spool: layout of the segment (docs/formats.md), its writer (conv) and its readers (log, stat).
//!
//! Everything here works on words in memory; where the memory comes from is the business of [`crate::segment`].
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::entry::{self, Entry, LEN, Reason, WORDS};
use crate::header::SEQ_LIMIT;
use crate::ring::{self, Producer, Ring};
use crate::segment::Memory;

/// Words before the first slot.
pub const HEADER_WORDS: usize = 512;
/// Smallest capacity in entries.
pub const CAPACITY_MIN: u64 = 1 << 8;
/// Largest capacity in entries.
pub const CAPACITY_MAX: u64 = 1 << 26;
/// Samples whose CRCs are made together.
const GROUP: usize = 16;

const MAGIC: u64 = u64::from_le_bytes(*b"IPCPSPL1");
const GENERATION: usize = 88 / 8;
const HEAD: usize = 128 / 8;
const TAIL: usize = 256 / 8;
const RETIRED: usize = 384 / 8;
const POSITION: [usize; 2] = [512 / 8, 640 / 8];
const DROPS: [usize; 2] = [768 / 8, 896 / 8];
const SOURCE: [usize; 2] = [1024 / 8, 1152 / 8];
const CHECK: u64 = 0x9E37_79B9_7F4A_7C15;

/// The exclusive or that tells a whole slot from a half-written one.
pub(crate) fn check_of(words: &[u64]) -> u64 {
    words.iter().fold(CHECK, |x, w| x ^ w)
}

/// Writes `content` and its check word at word `at`. The first word is 0 until all the others are right: the check alone
/// does not do, because two counters that rise together leave the exclusive or of a half-written slot as it was.
pub(crate) fn store_checked<const N: usize>(words: &[AtomicU64], at: usize, content: [u64; N]) {
    words[at].store(0, Ordering::Relaxed);
    fence(Ordering::Release); // no store below may come before the one above
    for (to, word) in words[at..].iter().zip(content).skip(1) {
        to.store(word, Ordering::Relaxed);
    }
    words[at + N].store(check_of(&content), Ordering::Relaxed);
    words[at].store(content[0], Ordering::Release);
}

/// The content at word `at`, if its check word is right and the first word stayed the same meanwhile.
pub(crate) fn load_checked<const N: usize>(words: &[AtomicU64], at: usize) -> Option<[u64; N]> {
    let first = words[at].load(Ordering::Acquire);
    let content: [u64; N] =
        std::array::from_fn(|i| if i == 0 { first } else { words[at + i].load(Ordering::Relaxed) });
    let check = words[at + N].load(Ordering::Relaxed);
    fence(Ordering::Acquire);
    (check == check_of(&content) && words[at].load(Ordering::Relaxed) == first).then_some(content)
}

/// What never changes in the life of a spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Number of slots, a power of two.
    pub capacity: u64,
    /// The record that this spool feeds.
    pub log_id: u64,
    /// This life of the spool.
    pub epoch: u32,
    /// seq of the epoch's first entry.
    pub base: u64,
    /// Wall clock at t = 0, ns since 1970.
    pub start_wall_ns: u64,
    /// CLOCK_MONOTONIC at t = 0, ns.
    pub start_mono_ns: u64,
}

impl Header {
    /// Words of the whole segment.
    pub fn words(&self) -> usize {
        HEADER_WORDS + self.capacity as usize * WORDS
    }

    fn frozen(&self) -> [u64; 7] {
        [
            MAGIC,
            1 | 4096 << 32,
            LEN as u64 | 1 << 32,
            self.capacity,
            self.log_id,
            self.epoch as u64,
            self.base,
        ]
    }

    /// The first 64 bytes, the last four being the CRC of the others.
    fn crc(frozen: &[u64; 7]) -> u64 {
        let mut bytes = [0; 60];
        for (to, word) in bytes.chunks_mut(8).zip(frozen) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        (crc32c::crc32c(&bytes) as u64) << 32
    }

    fn store(&self, words: &[AtomicU64]) {
        words[8].store(self.start_wall_ns, Ordering::Relaxed);
        words[9].store(self.start_mono_ns, Ordering::Relaxed);
        words[10].store(std::process::id() as u64, Ordering::Relaxed);
        words[GENERATION].store(fastrand::u64(1..), Ordering::Relaxed);
        let frozen = self.frozen();
        words[7].store(Header::crc(&frozen), Ordering::Relaxed);
        for (to, word) in words.iter().zip(frozen).rev() {
            to.store(word, Ordering::Release); // the magic last
        }
    }

    /// The header, if this is a whole spool of the layout that we know.
    pub fn load(words: &[AtomicU64]) -> Option<Header> {
        Header::read(words).filter(|header| words.len() >= header.words())
    }

    /// The same for words that need not go beyond the header of the segment.
    fn read(words: &[AtomicU64]) -> Option<Header> {
        if words.len() < HEADER_WORDS {
            return None;
        }
        let w = |i: usize| words[i].load(Ordering::Acquire);
        let header = Header {
            capacity: w(3),
            log_id: w(4),
            epoch: w(5) as u32,
            base: w(6),
            start_wall_ns: w(8),
            start_mono_ns: w(9),
        };
        let frozen = header.frozen();
        let same = (0..7).all(|i| w(i) == frozen[i]) && w(7) == Header::crc(&frozen);
        let sane = header.capacity.is_power_of_two()
            && (CAPACITY_MIN..=CAPACITY_MAX).contains(&header.capacity)
            && header.epoch > 0
            && (1..SEQ_LIMIT).contains(&header.base);
        (same && sane).then_some(header)
    }
}

/// Where conv stands in its source, its grid and its counts, after the entry at `head`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Position in the source of the next sample.
    pub index: u64,
    /// Number of the next tick of the grid.
    pub tick: u64,
    /// Samples of this epoch.
    pub samples: u64,
    /// Samples of this epoch dropped because the spool was full.
    pub full: u64,
    /// Bad inputs of this epoch.
    pub bad: u64,
    /// Ticks of this epoch that are empty: missed, or unread.
    pub empty: u64,
}

/// Samples dropped since `head`, not yet in a LOSS entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    /// How many.
    pub n: u64,
    /// Position in the source after them.
    pub index: u64,
}

/// The source and grid that the samples now come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Feed {
    /// 48-bit identity of the source.
    pub source_id: u64,
    /// Instant of tick 0, ns since the epoch began.
    pub origin_ns: u64,
    /// Period in picoseconds; 0: no grid.
    pub period_ps: u64,
    /// Sum of all steps of the wall clock since the epoch began that have CLOCK entries, ms.
    pub clock_ms: i64,
}

impl Feed {
    /// What stands in its slot, behind the seq of the entry that brought it into force.
    fn to_words(self, seq: u64) -> [u64; 7] {
        [seq, self.source_id, self.origin_ns, self.period_ps, self.clock_ms as u64, 0, 0]
    }
}

fn ring<'m>(words: &'m [AtomicU64], capacity: u64) -> Ring<'m> {
    Ring {
        head: &words[HEAD],
        tail: &words[TAIL],
        slots: &words[HEADER_WORDS..HEADER_WORDS + capacity as usize * WORDS],
    }
}

fn load_position(words: &[AtomicU64], head: u64) -> Option<Position> {
    POSITION.iter().find_map(|&at| {
        let [seq, index, tick, samples, full, bad, empty] = load_checked::<7>(words, at)?;
        (seq == head).then_some(Position { index, tick, samples, full, bad, empty })
    })
}

fn load_drops(words: &[AtomicU64], head: u64) -> Drops {
    let slots = DROPS.iter().filter_map(|&at| load_checked::<3>(words, at));
    let of_head = slots.filter(|&[seq, ..]| seq == head).max_by_key(|&[_, n, _]| n);
    of_head.map_or(Drops::default(), |[_, n, index]| Drops { n, index })
}

fn load_feed(words: &[AtomicU64], head: u64) -> Option<(u64, Feed)> {
    let slots = SOURCE.iter().filter_map(|&at| load_checked::<7>(words, at));
    let newest = slots.filter(|&[seq, ..]| seq <= head).max_by_key(|&[seq, ..]| seq);
    newest.map(|[seq, source_id, origin_ns, period_ps, clock, ..]| {
        (seq, Feed { source_id, origin_ns, period_ps, clock_ms: clock as i64 })
    })
}

/// A life that was killed before it accepted its SOURCE has left a slot of a seq beyond head. It must not come into force
/// when head passes that seq with something else.
fn forget_unaccepted_feed(words: &[AtomicU64], head: u64) {
    for at in SOURCE.into_iter().filter(|&at| words[at].load(Ordering::Relaxed) > head) {
        words[at].store(0, Ordering::Release);
    }
}

/// conv's side of the spool.
pub struct SpoolWriter<M> {
    memory: M,
    header: Header,
    producer: Producer,
    /// seq up to which entries were written but not accepted yet.
    pushed: u64,
    position: Position,
    drops: Drops,
    feed: Feed,
    feed_seq: u64,
}

impl<M: Memory> SpoolWriter<M> {
    /// Fills the private memory of a new spool with the three entries that open an epoch: EPOCH, SOURCE, GRID.
    pub fn fill(words: &[AtomicU64], header: &Header, feed: &Feed, index: u64) {
        let (base, epoch) = (header.base, header.epoch);
        let opening = [
            Entry::epoch(base, epoch, header.start_wall_ns),
            Entry::source(base + 1, epoch, index, feed.source_id),
            Entry::grid(base + 2, epoch, feed.origin_ns, feed.period_ps),
        ];
        let ring = ring(words, header.capacity);
        let mut producer = Producer::new(base - 1, base - 1, header.capacity);
        producer.release(ring, base - 1);
        for entry in &opening {
            producer.write(ring, entry);
        }
        let head = base + 2;
        store_checked(words, POSITION[0], [head, index, 0, 0, 0, 0, 0]);
        store_checked(words, SOURCE[0], feed.to_words(base + 1));
        producer.commit(ring, head);
        header.store(words);
    }

    /// Goes on with a spool that an earlier life of conv left; `None` if it cannot be trusted or has been retired.
    pub fn resume(memory: M) -> Option<SpoolWriter<M>> {
        let words = memory.words();
        let header = Header::load(words)?;
        let ring = ring(words, header.capacity);
        let (head, tail) = (ring.head.load(Ordering::Acquire), ring.tail.load(Ordering::Acquire));
        let coherent = tail <= head && head - tail <= header.capacity;
        let coherent = coherent && (header.base + 2..SEQ_LIMIT).contains(&head);
        if !coherent || tail.saturating_add(1) < header.base || words[RETIRED].load(Ordering::Acquire) != 0 {
            return None;
        }
        let position = load_position(words, head)?;
        let (feed_seq, feed) = load_feed(words, head)?;
        let drops = load_drops(words, head);
        forget_unaccepted_feed(words, head);
        let producer = Producer::new(head, tail, header.capacity);
        Some(SpoolWriter { header, producer, pushed: head, position, drops, feed, feed_seq, memory })
    }

    /// The slots, to be read: who sends entries by a carrier reads them here.
    pub fn ring(&self) -> Ring<'_> {
        ring(self.memory.words(), self.header.capacity)
    }

    /// The memory below.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// What never changes.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The number of this file: a spool put back under its name has another one.
    pub fn generation(&self) -> u64 {
        self.memory.words()[GENERATION].load(Ordering::Relaxed)
    }

    /// Highest accepted seq.
    #[inline]
    pub fn head(&self) -> u64 {
        self.producer.head()
    }

    /// Highest seq known to be durable.
    pub fn tail(&self) -> u64 {
        self.producer.tail()
    }

    /// Entries that still fit behind those already pushed.
    #[inline]
    pub fn room(&self) -> u64 {
        self.producer.free().saturating_sub(self.pushed - self.producer.head())
    }

    /// Position after the last accepted entry.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Dropped since the last accepted entry.
    pub fn drops(&self) -> Drops {
        self.drops
    }

    /// Source and grid in force.
    pub fn feed(&self) -> Feed {
        self.feed
    }

    /// The commit word, to be rung.
    pub fn head_word(&self) -> &AtomicU64 {
        &self.memory.words()[HEAD]
    }

    /// Frees the slots of all entries up to `durable`, which must not be beyond head.
    pub fn release(&mut self, durable: u64) {
        debug_assert!(durable <= self.head());
        let ring = ring(self.memory.words(), self.header.capacity);
        self.producer.release(ring, durable);
    }

    /// The seq that the next pushed entry gets.
    #[inline(always)]
    pub fn next_seq(&self) -> u64 {
        self.pushed + 1
    }

    /// Writes an entry with `seq == next_seq()` while there is room. It is not accepted before [`SpoolWriter::commit`].
    #[inline(always)]
    pub fn push(&mut self, entry: &Entry) {
        debug_assert!(entry.seq == self.next_seq() && self.room() > 0);
        if self.pushed == self.producer.head() {
            self.producer.begin();
        }
        self.producer.write(self.ring(), entry);
        self.pushed = entry.seq;
    }

    /// Pushes samples of one channel, of the instant that `t_ns` gives for each place in the batch.
    pub fn push_samples(&mut self, values: &[i32], t_ns: impl Fn(u64) -> u64) {
        self.push_rows(values, 0, 1, t_ns);
    }

    /// Pushes samples in rows of `columns` channels; `values` begins with channel `first` of row 0, and `t_ns` gives the
    /// instant of a row.
    #[inline]
    pub fn push_rows(&mut self, values: &[i32], first: u16, columns: u16, t_ns: impl Fn(u64) -> u64) {
        debug_assert!(values.len() as u64 <= self.room());
        if self.pushed == self.producer.head() {
            self.producer.begin();
        }
        let (ring, epoch) = (ring(self.memory.words(), self.header.capacity), self.header.epoch);
        let (mut seq, mut row, mut channel) = (self.pushed, 0, first);
        let mut next = |&value: &i32| {
            seq += 1;
            let entry = Entry::unsealed_sample(seq, epoch, t_ns(row), channel, value);
            channel += 1;
            if channel >= columns {
                (row, channel) = (row + 1, 0);
            }
            entry
        };
        let (groups, rest) = values.as_chunks::<GROUP>();
        for group in groups {
            let mut entries = [[0; LEN]; GROUP];
            for (bytes, value) in entries.iter_mut().zip(group) {
                *bytes = next(value).to_bytes();
            }
            entry::seal_all(&mut entries);
            for bytes in &entries {
                self.producer.write(ring, &Entry::from_bytes(bytes));
            }
        }
        for value in rest {
            self.producer.write(ring, &next(value).seal());
        }
        self.pushed += values.len() as u64;
    }

    /// Pushes as many LOSS entries as `count` rows of `columns` samples need. There must be room for [`losses_needed`] of
    /// them.
    pub fn push_losses(&mut self, mut count: u64, reason: Reason, columns: u16, t_ns: u64) {
        while count > 0 {
            let part = count.min(u32::MAX as u64);
            let (seq, epoch) = (self.next_seq(), self.header.epoch);
            let entry = Entry::loss_of_rows(seq, epoch, t_ns, reason, part as u32, columns);
            self.push(&entry);
            count -= part;
        }
    }

    /// Pushes SOURCE and GRID: from here on samples come from `feed`, the next one from position `index`.
    pub fn push_feed(&mut self, feed: Feed, index: u64) {
        let seq = self.next_seq();
        self.store_feed(feed);
        self.push(&Entry::source(seq, self.header.epoch, index, feed.source_id));
        self.push(&Entry::grid(seq + 1, self.header.epoch, feed.origin_ns, feed.period_ps));
    }

    /// Pushes a CLOCK: the wall clock has stepped by `ms`. A commit may hold one of CLOCK and feed, not both: there is one
    /// slot for what comes into force next.
    pub fn push_clock(&mut self, ms: i64, t_ns: u64) {
        self.store_feed(Feed { clock_ms: self.feed.clock_ms.saturating_add(ms), ..self.feed });
        self.push(&Entry::clock(self.next_seq(), self.header.epoch, t_ns, ms));
    }

    /// Writes the feed that comes into force with the next entry.
    fn store_feed(&mut self, feed: Feed) {
        debug_assert!(self.feed_seq <= self.head());
        let (seq, words) = (self.next_seq(), self.memory.words());
        // The slot that is not in force: after a kill it counts only if head has reached it.
        let at =
            SOURCE.into_iter().find(|&at| load_checked::<7>(words, at).is_none_or(|s| s[0] != self.feed_seq));
        store_checked(words, at.unwrap_or(SOURCE[0]), feed.to_words(seq));
        (self.feed, self.feed_seq) = (feed, seq);
    }

    /// Accepts everything pushed, together with the position after it.
    #[inline]
    pub fn commit(&mut self, position: Position) {
        let head = self.producer.head();
        if self.pushed == head {
            return;
        }
        let words = self.memory.words();
        // Overwrite the slot that does not belong to the present head: a kill on the way leaves the other one.
        let other =
            if words[POSITION[0]].load(Ordering::Relaxed) == head { POSITION[1] } else { POSITION[0] };
        let Position { index, tick, samples, full, bad, empty } = position;
        store_checked(words, other, [self.pushed, index, tick, samples, full, bad, empty]);
        (self.position, self.drops) = (position, Drops::default());
        let ring = ring(words, self.header.capacity);
        self.producer.commit(ring, self.pushed);
    }

    /// Remembers samples dropped since head, for this life of conv or the next.
    pub fn note_drops(&mut self, drops: Drops) {
        let (words, head) = (self.memory.words(), self.head());
        // Never the slot that counts now: a kill on the way leaves it.
        let now = [head, self.drops.n, self.drops.index];
        let at = DROPS.into_iter().find(|&at| load_checked::<3>(words, at) != Some(now));
        store_checked(words, at.unwrap_or(DROPS[0]), [head, drops.n, drops.index]);
        self.drops = drops;
    }

    /// Fills the private memory of a spool that takes the place of this one, whose name is gone: same header, same epoch,
    /// same head. Nothing may be pushed and not accepted.
    pub fn copy_to(&self, words: &[AtomicU64]) {
        let old = self.ring();
        let new = ring(words, self.header.capacity);
        let (head, tail) = (self.producer.head(), self.producer.tail());
        let mut producer = Producer::new(tail, tail, self.header.capacity);
        producer.release(new, tail);
        for seq in tail + 1..=head {
            let entry = old.load(seq);
            if entry.seq == seq {
                producer.write(new, &entry);
            }
        }
        let Position { index, tick, samples, full, bad, empty } = self.position;
        store_checked(words, POSITION[0], [head, index, tick, samples, full, bad, empty]);
        store_checked(words, DROPS[0], [head, self.drops.n, self.drops.index]);
        store_checked(words, SOURCE[0], self.feed.to_words(self.feed_seq));
        producer.commit(new, head);
        self.header.store(words);
    }

    /// Says that this file is no longer written.
    pub fn retire(&self) {
        retire(self.memory.words());
    }

    /// Replaces the memory by that of the copy.
    pub fn move_to(&mut self, memory: M) {
        self.memory = memory;
    }
}

/// LOSS entries that `count` takes.
pub fn losses_needed(count: u64) -> u64 {
    count.div_ceil(u32::MAX as u64)
}

/// Says that the spool in these words is no longer written, whatever else is in them.
pub fn retire(words: &[AtomicU64]) {
    if let Some(word) = words.get(RETIRED) {
        word.store(1, Ordering::Release);
    }
}

/// How a spool stands, from its header alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overview {
    /// What never changes.
    pub header: Header,
    /// Highest accepted seq.
    pub head: u64,
    /// Highest durable seq that conv has seen.
    pub tail: u64,
}

impl Overview {
    /// From a copy of the first [`HEADER_WORDS`] words; `None` if this is no spool.
    pub fn of(words: &[AtomicU64]) -> Option<Overview> {
        let header = Header::read(words)?;
        let (head, tail) = (words[HEAD].load(Ordering::Acquire), words[TAIL].load(Ordering::Acquire));
        Some(Overview { header, head, tail })
    }

    /// Entries that are accepted and not yet durable, when log says that all up to `durable` are.
    pub fn at_risk(&self, durable: u64) -> u64 {
        self.head.saturating_sub(durable.max(self.tail))
    }
}

/// A reader's side of the spool.
pub struct SpoolReader<M> {
    memory: M,
    header: Header,
}

impl<M: Memory> SpoolReader<M> {
    /// A whole spool in this memory, or `None`.
    pub fn new(memory: M) -> Option<SpoolReader<M>> {
        let header = Header::load(memory.words())?;
        Some(SpoolReader { memory, header })
    }

    /// The ring.
    pub fn ring(&self) -> Ring<'_> {
        ring(self.memory.words(), self.header.capacity)
    }

    /// The memory below.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// What never changes.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Highest accepted seq, or 0 if the words make no sense (somebody has garbled them).
    #[inline]
    pub fn head(&self) -> u64 {
        let head = ring::accepted(self.ring());
        let tail = self.tail();
        // conv stores tail before it fills what tail frees, so tail may be newer than head here, never the other way
        if head >= self.header.base.saturating_sub(1) && head.saturating_sub(tail) <= self.header.capacity {
            head
        } else {
            0
        }
    }

    /// Highest durable seq that conv has seen.
    pub fn tail(&self) -> u64 {
        self.memory.words()[TAIL].load(Ordering::Acquire)
    }

    /// The number of this file.
    pub fn generation(&self) -> u64 {
        self.memory.words()[GENERATION].load(Ordering::Relaxed)
    }

    /// Has a new spool taken the place of this one?
    pub fn retired(&self) -> bool {
        self.memory.words()[RETIRED].load(Ordering::Acquire) != 0
    }

    /// Position after the entry at head, if conv is not just changing it.
    pub fn position(&self) -> Option<Position> {
        load_position(self.memory.words(), self.head())
    }

    /// Samples dropped since head.
    pub fn drops(&self) -> Drops {
        load_drops(self.memory.words(), self.head())
    }

    /// Source and grid in force.
    pub fn feed(&self) -> Option<Feed> {
        load_feed(self.memory.words(), self.head()).map(|(_, feed)| feed)
    }

    /// The commit word, to wait on.
    pub fn head_word(&self) -> &AtomicU64 {
        &self.memory.words()[HEAD]
    }
}

#[cfg(test)]
mod tests;
