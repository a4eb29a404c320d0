//! Spool publish and mandatory read: two processes pinned apart, CRC made and checked, every payload copied.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use ipc_pipeline::entry::LEN;
use ipc_pipeline::page::{OwnPage, PeerPage};
use ipc_pipeline::ring;
use ipc_pipeline::segment::{Access, Memory, Segments, Shm};
use ipc_pipeline::spool::{Feed, Header, Position, SpoolReader, SpoolWriter};
use ipc_pipeline::sys;

use crate::{median, probe};

/// 4 MiB of entries: just above the second-level cache, where it is fastest.
const CAPACITY: u64 = 1 << 17;

struct Names {
    spool: String,
    page: String,
}

fn names(tag: &str) -> Names {
    Names {
        spool: format!("ipc-pipeline@bench-{tag}.spool"),
        page: format!("ipc-pipeline@bench-{tag}.page.log"),
    }
}

/// All figures of the ring.
pub fn run() {
    println!(
        "ring: {CAPACITY} entries of 32 bytes, two processes pinned to processors 0 and 1, CRC made and checked"
    );
    println!("  {:<34} {:>10} {:>9}  {:>9}", "", "M entries/s", "range", "distance");
    let cases = [
        ("batches of 1024, reader spins", 1024, false),
        ("batches of 1024, reader may sleep", 1024, true),
        ("batches of 32, reader spins", 32, false),
        ("batches of 32, reader may sleep", 32, true),
        ("single, reader spins", 1, false),
        ("single, reader may sleep", 1, true),
    ];
    for (text, batch, sleeps) in cases {
        let mut rates = Vec::new();
        let mut classes = Vec::new();
        while rates.len() < 5 && classes.len() < 15 {
            let before = probe::class(probe::round_trip_ns());
            // In a thread of its own, which it binds to a processor.
            let rate = std::thread::spawn(move || measure(batch, sleeps)).join().expect("a rate");
            let after = probe::class(probe::round_trip_ns());
            classes.push(before);
            if before == after {
                rates.push(rate); // a sample in which the distance changed says nothing
            }
        }
        let near = classes.iter().filter(|c| **c == "near").count();
        let (low, high) = rates.iter().fold((f64::MAX, 0f64), |(l, h), r| (l.min(*r), h.max(*r)));
        println!(
            "  {text:<34} {:>10.1} {low:>5.0}-{high:<5.0} {:>4} of {} near",
            median(rates),
            near,
            classes.len()
        );
    }
    round_trips();
}

/// A question of 64 bytes and its answer through two rings, both sides spinning, beside a bare cache line: the median of five
/// pairs, ns.
pub fn round_trips() {
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        bare.push(probe::round_trip_ns().unwrap_or(f64::NAN));
        ours.push(round_trip_ns());
    }
    let ratios = ours.iter().zip(&bare).map(|(ours, bare)| ours / bare).collect();
    println!(
        "  round trip of 64 bytes {:.0} ns, {:.2} of a bare cache line's {:.0} ns",
        median(ours),
        median(ratios),
        median(bare)
    );
}

struct Heap(Arc<Vec<AtomicU64>>);

impl Memory for Heap {
    fn words(&self) -> &[AtomicU64] {
        &self.0
    }
}

/// One end: what it writes, what it reads.
struct End {
    writer: SpoolWriter<Heap>,
    reader: SpoolReader<Heap>,
    next: u64,
    out: [u8; 64],
}

impl End {
    fn send(&mut self, turn: i32) {
        if self.writer.room() < 2 {
            // Whatever was asked is answered: all of it was read.
            self.writer.release(self.writer.head());
        }
        self.writer.push_samples(&[turn, turn], |i| i);
        self.writer.commit(Position::default());
    }

    fn receive(&mut self) {
        let ring = self.reader.ring();
        while ring::accepted(ring) < self.next + 1 {
            std::hint::spin_loop();
        }
        assert_eq!(ring::copy_valid(ring, self.next, 1, &mut self.out), 2);
        self.next += 2;
    }
}

fn round_trip_ns() -> f64 {
    const TURNS: i32 = 20_000;
    let header = Header { capacity: 256, log_id: 1, epoch: 1, base: 1, start_wall_ns: 0, start_mono_ns: 0 };
    let heap = || {
        let words: Vec<AtomicU64> = (0..header.words()).map(|_| AtomicU64::new(0)).collect();
        SpoolWriter::<Heap>::fill(&words, &header, &Feed::default(), 0);
        Arc::new(words)
    };
    let (there, back) = (heap(), heap());
    let end = |ours: &Arc<Vec<AtomicU64>>, theirs: &Arc<Vec<AtomicU64>>| {
        let writer = SpoolWriter::resume(Heap(ours.clone())).expect("a new spool");
        let reader = SpoolReader::new(Heap(theirs.clone())).expect("a new spool");
        let next = ring::accepted(reader.ring()) + 1;
        End { writer, reader, next, out: [0; 64] }
    };
    let (mut first, mut second) = (end(&there, &back), end(&back, &there));
    std::thread::scope(|scope| {
        scope.spawn(move || {
            probe::pin(1);
            for turn in 0..TURNS {
                second.receive();
                second.send(turn);
            }
        });
        scope
            .spawn(move || {
                probe::pin(0);
                let mut best = f64::MAX;
                for _ in 0..TURNS / 1000 {
                    let begun = Instant::now();
                    for turn in 0..1000 {
                        first.send(turn);
                        first.receive();
                    }
                    best = best.min(begun.elapsed().as_nanos() as f64 / 1000.0);
                }
                best
            })
            .join()
            .expect("it ends")
    })
}

/// M entries/s of one run of about a second.
fn measure(batch: usize, sleeps: bool) -> f64 {
    let tag = format!("{}-{:x}", std::process::id(), fastrand::u32(..));
    let names = names(&tag);
    let shm = Shm::of(&ipc_pipeline::names::Names::for_user(Some("test")).unwrap());
    let header =
        Header { capacity: CAPACITY, log_id: 1, epoch: 1, base: 1, start_wall_ns: 0, start_mono_ns: 0 };
    let feed = Feed::default();
    let map = shm
        .create(&names.spool, header.words(), &mut |w| SpoolWriter::<sys::Map>::fill(w, &header, &feed, 0))
        .expect("a spool in /dev/shm");
    let mut spool = SpoolWriter::resume(map).expect("a new spool");
    let entries: u64 = if batch > 1 { 60_000_000 } else { 20_000_000 };
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["ring-reader", &tag, &(entries + 3).to_string(), if sleeps { "sleep" } else { "spin" }])
        .stdout(Stdio::null())
        .spawn()
        .expect("the reader");
    let mut page = PeerPage::new(shm.clone(), &names.page, 1);
    while page.get().is_none() {
        std::thread::sleep(Duration::from_millis(1));
        page.look();
    }
    let page = page.get().expect("it is there");
    probe::pin(0);
    sys::register_for_barriers();
    let values: Vec<i32> = (0..batch as i32).collect();
    let begun = Instant::now();
    while spool.head() < entries + 3 {
        let mut room = spool.room();
        while room < batch as u64 {
            let received = page.received();
            if received > spool.tail() {
                spool.release(received);
            }
            room = spool.room();
            std::hint::spin_loop();
        }
        spool.push_samples(&values, |i| i);
        spool.commit(Position::default());
        if sleeps && ring::must_wake_unfenced([page.waiting()]) {
            sys::wake(spool.head_word());
        }
    }
    while page.received() < entries + 3 {
        std::hint::spin_loop();
    }
    let rate = entries as f64 / begun.elapsed().as_secs_f64() / 1e6;
    let _ = child.wait();
    for name in [names.spool, names.page] {
        let _ = std::fs::remove_file(ipc_pipeline::names::shm_path(&name));
    }
    rate
}

/// The child: reads everything, checks it, copies it.
pub fn reader(args: &[String]) {
    let [tag, last, mode] = args else { return };
    let (names, last) = (names(tag), last.parse::<u64>().unwrap_or(0));
    let shm = Shm::of(&ipc_pipeline::names::Names::for_user(Some("test")).unwrap());
    probe::pin(1);
    let map = shm.open(&names.spool, Access::Read).expect("the spool");
    let spool = SpoolReader::new(map).expect("a spool");
    let page = OwnPage::open(shm, &names.page, 1).expect("a page");
    let mut out = vec![0; 4096 * LEN];
    let mut next = 1;
    let mut patience = ring::Patience::new(2);
    while next <= last {
        let head = ring::accepted(spool.ring());
        if head < next {
            if mode == "spin" {
                std::hint::spin_loop();
                continue;
            }
            // As ipc-log does it.
            if patience.spin(spool.head_word(), head) {
                continue;
            }
            let begun = Instant::now();
            if ring::may_sleep(page.waiting(), spool.head_word(), head, sys::barrier) {
                sys::wait(spool.head_word(), head, Duration::from_millis(100));
            }
            ring::awake(page.waiting());
            let came = ring::accepted(spool.ring()) - head;
            patience.slept(begun.elapsed().as_nanos() as u64, came);
            continue;
        }
        let n = (head - next + 1).min(4096) as usize;
        let valid = ring::copy_valid(spool.ring(), next, 1, &mut out[..n * LEN]);
        assert_eq!(valid, n, "entry {}", next + valid as u64);
        next += n as u64;
        page.set_received(next - 1);
    }
}
