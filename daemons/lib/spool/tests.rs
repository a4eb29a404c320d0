//! Tests of the spool, through its public face.
#![forbid(unsafe_code)]

use super::*;

struct Heap(Vec<AtomicU64>);
impl Memory for std::rc::Rc<Heap> {
    fn words(&self) -> &[AtomicU64] {
        &self.0
    }
}
type Shared = std::rc::Rc<Heap>;

fn zeroed(words: usize) -> Shared {
    std::rc::Rc::new(Heap((0..words).map(|_| AtomicU64::new(0)).collect()))
}

fn header() -> Header {
    Header { capacity: 256, log_id: 77, epoch: 3, base: 1001, start_wall_ns: 5, start_mono_ns: 6 }
}

fn fresh() -> (Shared, SpoolWriter<Shared>) {
    let memory = zeroed(header().words());
    let feed = Feed { source_id: 42, origin_ns: 0, period_ps: 1000, clock_ms: 0 };
    SpoolWriter::<Shared>::fill(memory.words(), &header(), &feed, 10);
    (memory.clone(), SpoolWriter::resume(memory).unwrap())
}

fn advance(w: &mut SpoolWriter<Shared>, values: &[i32]) {
    let mut p = w.position();
    w.push_samples(values, |i| i);
    p.index += values.len() as u64;
    p.samples += values.len() as u64;
    w.commit(p);
}

#[test]
fn the_epoch_opens_with_three_entries() {
    let (memory, w) = fresh();
    assert_eq!((w.head(), w.tail(), w.position().index), (1003, 1000, 10));
    let r = SpoolReader::new(memory).unwrap();
    let mut out = [0; 3 * LEN];
    assert_eq!(ring::copy_valid(r.ring(), 1001, 3, &mut out), 3);
    assert_eq!(Entry::from_bytes(out[..LEN].try_into().unwrap()).t_ns, 5);
    assert_eq!(r.header(), &header());
}

#[test]
fn a_new_life_goes_on_where_the_old_one_stood() {
    let (memory, mut w) = fresh();
    for n in 1..200 {
        advance(&mut w, &vec![n; n as usize % 7 + 1]);
        if w.room() < 16 {
            w.release(w.head() - 3);
        }
        w.push(&Entry::sample(w.next_seq(), 3, 0, 0, 0)); // written, never accepted
        let again = SpoolWriter::resume(memory.clone()).unwrap();
        assert_eq!((again.head(), again.tail(), again.position()), (w.head(), w.tail(), w.position()));
        w = again;
    }
}

#[test]
fn drops_count_for_their_head_only() {
    let (memory, mut w) = fresh();
    for n in 1..=3 {
        w.note_drops(Drops { n, index: 10 + n });
    }
    assert_eq!(SpoolWriter::resume(memory.clone()).unwrap().drops(), Drops { n: 3, index: 13 });
    w.push_losses(3, Reason::Full, 1, 9);
    w.commit(w.position());
    assert_eq!(SpoolWriter::resume(memory).unwrap().drops(), Drops::default());
}

#[test]
fn the_newest_accepted_feed_counts() {
    let (memory, mut w) = fresh();
    for id in 1..5 {
        let feed = Feed { source_id: id, origin_ns: id, period_ps: id, clock_ms: -3 };
        let before = w.feed();
        w.push_feed(feed, 0);
        assert_eq!(SpoolReader::new(memory.clone()).unwrap().feed(), Some(before), "not accepted yet");
        w.commit(w.position());
        assert_eq!(SpoolWriter::resume(memory.clone()).unwrap().feed(), feed);
    }
}

#[test]
fn a_feed_never_accepted_never_comes_into_force() {
    let (memory, mut w) = fresh();
    let before = w.feed();
    w.push_feed(Feed { source_id: 9, origin_ns: 9, period_ps: 9, clock_ms: 9 }, 0); // killed here
    let mut next = SpoolWriter::resume(memory.clone()).unwrap();
    advance(&mut next, &[1, 2, 3]);
    assert_eq!(SpoolWriter::resume(memory).unwrap().feed(), before);
}

#[test]
fn the_copy_is_the_same_spool() {
    let (_, mut w) = fresh();
    advance(&mut w, &[1, 2, 3]);
    w.release(1002);
    w.note_drops(Drops { n: 9, index: 99 });
    let copy = zeroed(header().words());
    w.copy_to(copy.words());
    let c = SpoolWriter::resume(copy.clone()).unwrap();
    assert_eq!(
        (c.head(), c.tail(), c.position(), c.drops(), c.feed()),
        (w.head(), 1002, w.position(), w.drops(), w.feed())
    );
    let mut out = [0; 4 * LEN];
    assert_eq!(ring::copy_valid(SpoolReader::new(copy).unwrap().ring(), 1003, 3, &mut out), 4);
    w.retire();
    assert!(SpoolWriter::resume(w.memory().clone()).is_none());
}

/// Samples are sealed in groups: whatever their number, each is what it would be alone.
#[test]
fn rows_of_any_length_are_as_if_pushed_one_by_one() {
    for columns in 1..4u16 {
        for count in 0..3 * GROUP as i32 + 2 {
            let (memory, mut w) = fresh();
            let (first, from) = (count as u16 % columns, w.next_seq());
            let values: Vec<i32> = (0..count).map(|i| i * 7 - 50).collect();
            w.push_rows(&values, first, columns, |row| 1000 + row);
            let reader = SpoolReader::new(memory).unwrap();
            for (i, value) in values.iter().enumerate() {
                let (seq, at) = (from + i as u64, i as u64 + first as u64);
                let (row, channel) = (at / columns as u64, at % columns as u64);
                let alone = Entry::sample(seq, 3, 1000 + row, channel as u16, *value);
                assert_eq!(reader.ring().load(seq), alone, "{columns} columns, {i} of {count}");
            }
        }
    }
}

/// Entries are checked in groups: whatever is wrong with one, those before it are taken and it is not.
#[test]
fn a_copy_ends_at_the_first_entry_that_is_not_valid() {
    let memory = zeroed(Header { capacity: 1024, ..header() }.words());
    SpoolWriter::<Shared>::fill(memory.words(), &Header { capacity: 1024, ..header() }, &Feed::default(), 0);
    let mut w = SpoolWriter::resume(memory.clone()).unwrap();
    advance(&mut w, &vec![5; 700]);
    let reader = SpoolReader::new(memory).unwrap();
    let (ring, mut out) = (reader.ring(), vec![0; 600 * LEN]);
    assert_eq!(ring::copy_valid(ring, 1004, 3, &mut out), 600);
    for at in [0, 1, 17, 255, 256, 257, 511, 512, 599] {
        let seq = 1004 + at as u64;
        let good = ring.load(seq);
        let broken = Entry { value: 6, ..good };
        let of_another_turn = Entry { seq: seq + 1024, ..good }.seal();
        let of_another_life = Entry { epoch: 2, ..good }.seal();
        for bad in [broken, of_another_turn, of_another_life] {
            put(ring, seq, &bad);
            assert_eq!(ring::copy_valid(ring, 1004, 3, &mut out), at, "{bad:?}");
        }
        put(ring, seq, &good);
    }
}

fn put(ring: Ring, seq: u64, entry: &Entry) {
    let at = seq as usize % (ring.slots.len() / WORDS) * WORDS;
    for (to, word) in ring.slots[at..].iter().zip(entry.to_words()) {
        to.store(word, Ordering::Relaxed);
    }
}

#[test]
fn a_garbled_header_or_cursor_is_refused() {
    for word in (0..8).chain([HEAD, TAIL]) {
        for bit in 0..64 {
            let (memory, _) = fresh();
            memory.0[word].fetch_xor(1 << bit, Ordering::Relaxed);
            let resumed = SpoolWriter::resume(memory.clone());
            // a tail that is a little lower or higher cannot be told from a right one
            let harmless =
                word == TAIL && resumed.as_ref().is_some_and(|w| w.head() == 1003 && w.tail() >= 1000);
            assert!(resumed.is_none() || harmless, "word {word} bit {bit}");
        }
    }
    assert!(SpoolReader::new(zeroed(HEADER_WORDS)).is_none());
    assert!(SpoolReader::new(zeroed(3)).is_none());
}
