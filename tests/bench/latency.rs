//! From accepted to received at 1 kHz, beside a bare futex hand-over in the same run.

use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use ipc_pipeline::entry::LEN;
use ipc_pipeline::page::{OwnPage, PeerPage};
use ipc_pipeline::ring;
use ipc_pipeline::segment::{Access, Memory, Segments, Shm};
use ipc_pipeline::spool::{Feed, Header, Position, SpoolReader, SpoolWriter};
use ipc_pipeline::sys;

use crate::{median, percentile};

const TURNS: u64 = 2000;
const TURN_NS: u64 = 1_000_000;
/// Word of the times segment where the bare word stands; the instants follow.
const BARE: usize = 8;

fn segment(tag: &str, what: &str) -> String {
    format!("ipc-pipeline@bench-{tag}.{what}")
}

/// Both figures, interleaved, and their ratios.
pub fn run() {
    println!(
        "latency: accepted to received at 1 kHz, beside a bare futex hand-over in the same run ({TURNS} each, 5 pairs)"
    );
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let mut bare = measure("futex-waiter");
        let mut ours = measure("latency-waiter");
        let pick = |v: &mut Vec<u64>, p| percentile(v, p) as f64 / 1e3;
        let (b50, b99, o50, o99) =
            (pick(&mut bare, 0.5), pick(&mut bare, 0.99), pick(&mut ours, 0.5), pick(&mut ours, 0.99));
        println!("  futex p50 {b50:>6.1} us p99 {b99:>6.1} us   spool p50 {o50:>6.1} us p99 {o99:>6.1} us");
        p50.push(o50 / b50);
        p99.push(o99 / b99);
    }
    println!("  ratio of the medians of pairs: p50 {:.2}, p99 {:.2}", median(p50), median(p99));
}

fn measure(waiter: &str) -> Vec<u64> {
    let tag = format!("{}-{:x}", std::process::id(), fastrand::u32(..));
    let shm = Shm::of(&ipc_pipeline::names::Names::for_user(Some("test")).unwrap());
    let header = Header { capacity: 4096, log_id: 1, epoch: 1, base: 1, start_wall_ns: 0, start_mono_ns: 0 };
    let map = shm
        .create(&segment(&tag, "spool"), header.words(), &mut |w| {
            SpoolWriter::<sys::Map>::fill(w, &header, &Feed::default(), 0)
        })
        .expect("a spool");
    let mut spool = SpoolWriter::resume(map).expect("a new spool");
    let times =
        shm.create(&segment(&tag, "times"), 512 + TURNS as usize + 8, &mut |_| ()).expect("a segment");
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args([waiter, &tag])
        .stdout(Stdio::null())
        .spawn()
        .expect("the waiter");
    let mut page = PeerPage::new(shm.clone(), &segment(&tag, "page"), 1);
    while page.get().is_none_or(|p| p.received() == 0) {
        std::thread::sleep(Duration::from_millis(1));
        page.look();
    }
    let page = page.get().expect("it is there");
    let words = Memory::words(&times);
    sys::register_for_barriers();
    let mut given = Vec::with_capacity(TURNS as usize);
    let begin = sys::monotonic_ns() + 5 * TURN_NS;
    for turn in 0..TURNS {
        sys::sleep_until(begin + turn * TURN_NS);
        given.push(sys::monotonic_ns());
        if waiter == "futex-waiter" {
            words[BARE].store(turn + 1, Ordering::Release);
            sys::wake(&words[BARE]);
        } else {
            spool.release(page.received());
            spool.push_samples(&[turn as i32], |_| 0);
            spool.commit(Position::default());
            if ring::must_wake_unfenced([page.waiting()]) {
                sys::wake(spool.head_word());
            }
        }
    }
    let _ = child.wait();
    let taken = (0..TURNS as usize).map(|i| words[512 + i].load(Ordering::Acquire));
    let latencies = taken.zip(&given).map(|(taken, given)| taken.saturating_sub(*given)).collect();
    for what in ["spool", "times", "page"] {
        let _ = std::fs::remove_file(ipc_pipeline::names::shm_path(&segment(&tag, what)));
    }
    latencies
}

/// The child that waits on a bare word.
pub fn futex_waiter(args: &[String]) {
    let [tag] = args else { return };
    let shm = Shm::of(&ipc_pipeline::names::Names::for_user(Some("test")).unwrap());
    let times = shm.open(&segment(tag, "times"), Access::Write).expect("the times");
    let page = OwnPage::open(shm, &segment(tag, "page"), 1).expect("a page");
    page.set_received(1);
    let words = Memory::words(&times);
    let mut seen = 0;
    while seen < TURNS {
        let now = words[BARE].load(Ordering::Acquire);
        if now == seen {
            sys::wait(&words[BARE], seen, Duration::from_millis(100));
            continue;
        }
        let at = sys::monotonic_ns();
        (seen..now).for_each(|turn| words[512 + turn as usize].store(at, Ordering::Release));
        seen = now;
    }
}

/// The child that receives as ipc-log does.
pub fn waiter(args: &[String]) {
    let [tag] = args else { return };
    let shm = Shm::of(&ipc_pipeline::names::Names::for_user(Some("test")).unwrap());
    let times = shm.open(&segment(tag, "times"), Access::Write).expect("the times");
    let spool = SpoolReader::new(shm.open(&segment(tag, "spool"), Access::Read).expect("the spool"))
        .expect("a spool");
    let page = OwnPage::open(shm, &segment(tag, "page"), 1).expect("a page");
    let words = Memory::words(&times);
    let mut out = vec![0; 64 * LEN];
    let mut received = ring::accepted(spool.ring());
    page.set_received(received);
    let opening = received;
    while received < opening + TURNS {
        let head = ring::accepted(spool.ring());
        if head == received {
            if ring::may_sleep(page.waiting(), spool.head_word(), head, sys::barrier) {
                sys::wait(spool.head_word(), head, Duration::from_millis(100));
            }
            ring::awake(page.waiting());
            continue;
        }
        let n = ring::copy_valid(
            spool.ring(),
            received + 1,
            1,
            &mut out[..((head - received) as usize).min(64) * LEN],
        );
        let at = sys::monotonic_ns();
        (received..received + n as u64)
            .for_each(|seq| words[512 + (seq - opening) as usize].store(at, Ordering::Release));
        received += n as u64;
        page.set_received(received);
    }
}
