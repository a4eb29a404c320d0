//! Words that others may write: the spool, the pages, and what comes over the carriers.

use super::formats::seal_end;
use super::{assert_covered, digest};
use ipc_pipeline::edge::{Receiver, Truth};
use ipc_pipeline::entry::{Entry, LEN, Reason};
use ipc_pipeline::intake::read_window;
use ipc_pipeline::page::Page;
use ipc_pipeline::segment::Memory;
use ipc_pipeline::spool::{self, Drops, Feed, Header, Overview, Position, SpoolReader, SpoolWriter};
use std::sync::atomic::{AtomicU64, Ordering};

/// Plain memory in the place of a segment.
struct Words(Vec<AtomicU64>);

impl Words {
    fn zeroed(words: usize) -> Words {
        Words((0..words).map(|_| AtomicU64::new(0)).collect())
    }

    fn of(bytes: &[u8]) -> Words {
        Words(bytes.as_chunks().0.iter().map(|b| AtomicU64::new(u64::from_le_bytes(*b))).collect())
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes()).collect()
    }
}

impl Memory for Words {
    fn words(&self) -> &[AtomicU64] {
        &self.0
    }
}

// ---- the spool

/// A spool of 256 entries that holds `samples` and an entry of each other kind.
fn spool_with(samples: u64) -> SpoolWriter<Words> {
    let header =
        Header { capacity: 256, log_id: 42, epoch: 1, base: 1, start_wall_ns: 1 << 60, start_mono_ns: 5 };
    let memory = Words::zeroed(header.words());
    SpoolWriter::<Words>::fill(memory.words(), &header, &Feed { source_id: 77, ..Feed::default() }, 0);
    let mut spool = SpoolWriter::resume(memory).expect("it is right");
    spool.push_losses(3, Reason::Missed, 1, 9);
    spool.push_clock(-7, 10);
    let values: Vec<i32> = (0..samples as i32).collect();
    spool.push_samples(&values, |i| 100 + i);
    spool.commit(Position { index: samples, samples, ..Position::default() });
    spool.note_drops(Drops { n: 2, index: samples + 2 });
    spool
}

pub fn spool_seeds() -> Vec<Vec<u8>> {
    vec![spool_with(200).memory().bytes(), spool_with(1).memory().bytes()]
}

/// The CRC of the header and the check words of the slots.
pub fn seal_spool(bytes: &mut [u8]) {
    if let Some(header) = bytes.get_mut(..64) {
        seal_end(header);
    }
    for (at, words) in [(512, 7), (640, 7), (768, 3), (896, 3), (1024, 7), (1152, 7)] {
        let Some(slot) = bytes.get_mut(at..at + 8 * (words + 1)) else { continue };
        let (words, check) = slot.split_at_mut(8 * words);
        let words = words.as_chunks().0.iter().map(|b| u64::from_le_bytes(*b));
        check.copy_from_slice(&words.fold(0x9E37_79B9_7F4A_7C15, |x, word| x ^ word).to_le_bytes());
    }
}

pub fn spool(bytes: &[u8]) {
    assert_covered(bytes.get(..64).unwrap_or(bytes), |head| {
        let rest = bytes.get(64..).unwrap_or_default();
        let header = Header::load(&Words::of(&[head, rest].concat()).0)?;
        // The instants and the generation stand behind the CRC: no promise rests on them.
        Some(format!("{:?}", Header { start_wall_ns: 0, start_mono_ns: 0, ..header }).into_bytes())
    });
    let _ = Overview::of(&Words::of(bytes).0).map(|overview| overview.at_risk(5));
    if let Some(spool) = SpoolReader::new(Words::of(bytes)) {
        read(&spool, digest(bytes));
    }
    if let Some(spool) = SpoolWriter::resume(Words::of(bytes)) {
        go_on(spool);
    }
}

fn read(spool: &SpoolReader<Words>, number: u64) {
    let _ = (spool.generation(), spool.retired(), spool.position(), spool.drops(), spool.feed());
    let (tail, head, epoch) = (spool.tail(), spool.head(), spool.header().epoch);
    let mut out = vec![0; 300 * LEN];
    for from in [tail.wrapping_add(1), head, head.wrapping_sub(number % 256), number] {
        let n = read_window(spool, from, epoch, &mut out);
        for (b, seq) in out.as_chunks::<LEN>().0[..n].iter().zip(from..) {
            let e = Entry::from_bytes(b);
            assert!(e.is_whole() && (e.seq, e.epoch) == (seq, epoch), "{e:?} in the place of {seq}");
        }
    }
}

/// The next life of conv.
fn go_on(mut spool: SpoolWriter<Words>) {
    let copy = Words::zeroed(spool.header().words());
    spool.copy_to(copy.words());
    for round in 0..3u64 {
        let room = spool.room();
        assert!(room <= spool.header().capacity);
        if room >= 3 {
            spool.push_losses(1, Reason::Bad, 1, round);
            spool.push_samples(&vec![7; (room as usize - 1).min(100)], |i| i);
            spool.commit(spool.position());
        }
        let (tail, head) = (spool.tail(), spool.head());
        assert!(tail <= head);
        spool.note_drops(Drops { n: 1, index: round });
        spool.release(tail + (head - tail) / 2);
    }
    let words = Words::of(&spool.memory().bytes());
    assert!(SpoolWriter::resume(words).is_some(), "what conv has written it goes on with");
    spool::retire(spool.memory().words());
}

// ---- pages

pub fn page_seeds() -> Vec<Vec<u8>> {
    let page = |role: u32| {
        let mut page = vec![0; 4096];
        page[..8].copy_from_slice(b"IPCPPAG1");
        page[8..16].copy_from_slice(&(1 | u64::from(role) << 32).to_le_bytes());
        page[64..72].copy_from_slice(&42u64.to_le_bytes());
        page[384..400].copy_from_slice(&(9 | (!9u128 & !u128::from(u64::MAX))).to_le_bytes());
        page[1536..1541].copy_from_slice(b"fifo:");
        page[1824..1833].copy_from_slice(b"log.sync\n");
        seal_page(&mut page);
        page
    };
    (0..4).map(page).collect()
}

/// The CRC of the header and the check word of the record.
pub fn seal_page(bytes: &mut [u8]) {
    if let Some(header) = bytes.get_mut(..64) {
        seal_end(header);
    }
    let Some(record) = bytes.get_mut(768..832) else { return };
    let (words, check) = record.split_at_mut(56);
    let words = words.as_chunks().0.iter().map(|b| u64::from_le_bytes(*b));
    check.copy_from_slice(&words.fold(0x9E37_79B9_7F4A_7C15, |x, word| x ^ word).to_le_bytes());
}

pub fn page(bytes: &[u8]) {
    for role in 0..4 {
        let Some(page) = Page::new(Words::of(bytes), role) else { continue };
        let _ = (page.log_id(), page.epoch(), page.pid(), page.started_wall_ns(), page.session());
        let _ = (page.mapped(), page.received(), page.beat(), page.alarmed(), page.proposal(), page.grant());
        let _ =
            (page.state().map(|state| state.name()), page.counter(0), page.counter(63), page.counter(900));
        let durable = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        assert_eq!(page.durable(), Some(durable(384)).filter(|n| *n == !durable(392)));
        let address = page.address().unwrap_or_default();
        assert!(address.len() <= 256 && address.bytes().all(|b| b.is_ascii_graphic()), "{address:?}");
        let answer = page.reloads().text;
        assert!(!answer.contains(|c: char| c.is_control() && c != '\n'), "{answer:?}");
    }
}

// ---- carriers

pub fn edge_seeds() -> Vec<Vec<u8>> {
    let bytes = spool_with(120).memory().bytes();
    let entries = &bytes[4096 + LEN..4096 + 100 * LEN];
    let mut torn = entries[..LEN * 40].to_vec();
    torn.drain(700..713);
    let doubled = [&entries[..LEN * 20], &entries[..LEN * 30]].concat();
    vec![entries.to_vec(), torn, doubled, entries[LEN * 4..LEN * 9].to_vec()]
}

/// Whatever comes, in messages or as a stream: what is taken is what the spool says, in turn and without a hole.
pub fn edge(bytes: &[u8]) {
    let spool = spool_with(120);
    let ring = spool.ring();
    let head = spool.head() - digest(bytes) % 20;
    for (may_jump, is_stream) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut dice = fastrand::Rng::with_seed(digest(bytes));
        let from = dice.u64(1..40);
        let truth = Truth { ring, head, tail: dice.u64(..from), is_sure: dice.bool() };
        let mut receiver = if may_jump { Receiver::jumping(1, from) } else { Receiver::new(1, from) };
        let (mut rest, mut taken) = (bytes, Vec::new());
        while !rest.is_empty() {
            let (now, later) = rest.split_at(dice.usize(1..=rest.len()));
            match is_stream {
                true => receiver.stream(now, &truth, &mut taken),
                false => receiver.message(now, &truth, &mut taken),
            }
            rest = later;
        }
        let entries: Vec<Entry> = taken.as_chunks::<LEN>().0.iter().map(Entry::from_bytes).collect();
        let first = entries.first().map_or(from, |e| e.seq);
        assert!(first == from || may_jump && first > from);
        for (seq, entry) in (first..).zip(&entries) {
            assert!(seq <= head && *entry == ring.load(seq), "{entry:?} was taken for entry {seq}");
        }
        assert_eq!(receiver.next(), first + entries.len() as u64);
        assert_eq!(receiver.refused().corrupt, 0, "no slot is damaged");
    }
}
