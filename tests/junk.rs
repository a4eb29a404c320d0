//! A process with the sender's rights writes junk into all edges at full speed: bytes of all kinds, and forgeries with right
//! CRCs. Nothing of it may reach the record, a statistic or a printed line, and nothing true may be lost for it.
#![forbid(unsafe_code)]

mod checker;
mod harness;

use checker::{Entry, check_record, check_statistics};
use harness::{Page, Pipeline, Role, Witness, free_port, samples};
use ipc_pipeline::entry::{Entry as Real, Reason};
use ipc_pipeline::sys::MessageQueue;
use serde_json::Value;
use std::fs::{self, File};
use std::io::Write;
use std::net::{TcpStream, UdpSocket};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const BOUND: Duration = Duration::from_secs(20);
const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits() as i32;
/// The three edges by their receivers, with the place of `refused`, or of `injected`, in their pages.
const EDGES: [(Role, u64); 3] = [(Role::Log, 7), (Role::Stat, 11), (Role::Report, 7)];

/// The way into a carrier that its object's mode allows to every process of the same user.
enum Hole {
    Queue(posixmq::PosixMq),
    Fifo(File),
    Sysv(MessageQueue),
    Udp(UdpSocket),
}

impl Hole {
    fn open(p: &Pipeline, carrier: &str, role: Role, port: u16) -> Option<Hole> {
        let name = role.name();
        Some(match carrier {
            "mq" => {
                let queue = format!("/ipc-pipeline@{}.{name}", p.name);
                Hole::Queue(posixmq::OpenOptions::writeonly().nonblocking().open(&queue).ok()?)
            }
            "fifo" => {
                let path = p.run_dir().join(format!("{name}.fifo"));
                Hole::Fifo(File::options().write(true).custom_flags(NONBLOCK).open(path).ok()?)
            }
            "sysv" => Hole::Sysv(p.system_v_queue(role)?),
            _ => {
                let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                socket.connect(("127.0.0.1", port)).unwrap();
                Hole::Udp(socket)
            }
        })
    }

    fn write(&mut self, bytes: &[u8]) -> bool {
        match self {
            Hole::Queue(queue) => queue.send(0, bytes).is_ok(),
            Hole::Fifo(file) => file.write(bytes).is_ok(),
            Hole::Sysv(queue) => queue.send(bytes).is_ok(),
            Hole::Udp(socket) => socket.send(bytes).is_ok(),
        }
    }
}

/// What a forger can know: all that is in shared memory.
fn forgery(received: u64, epoch: u32, register: &Path) -> Vec<u8> {
    let seq = received + fastrand::u64(1..4);
    match fastrand::u8(..6) {
        0 => (0..fastrand::usize(1..600)).map(|_| fastrand::u8(..)).collect(),
        1 => Real::sample(seq, epoch, 0, 0, -7).to_bytes().to_vec(),
        2 => (0..8).flat_map(|i| Real::sample(seq + i, epoch, 0, 0, 1 << 20).to_bytes()).collect(),
        3 => Real::loss(seq, epoch, 0, Reason::Full, 9).to_bytes().to_vec(),
        4 => Real::epoch(seq, epoch + 1, 7).to_bytes().to_vec(),
        _ => forged_row(register).unwrap_or_default(),
    }
}

/// The newest row, or the one before, with another sum and a CRC that fits.
fn forged_row(register: &Path) -> Option<Vec<u8>> {
    let bytes = fs::read(register).ok()?;
    let at = 4096 + 81_920 * fastrand::usize(..2);
    let mut row = bytes.get(at..at + 512)?.to_vec();
    row[32] ^= 1;
    row[8] = row[8].wrapping_add(fastrand::u8(..3));
    let crc = crc32c::crc32c(&row[..508]);
    row[508..].copy_from_slice(&crc.to_le_bytes());
    Some(row)
}

fn run(carrier: &str) {
    let ports: [u16; 3] = std::array::from_fn(|_| free_port());
    let address =
        |i: usize| if carrier == "udp" { format!("udp:{}", ports[i]) } else { format!("{carrier}:") };
    let mut p = Pipeline::new(&format!(
        "[source]\nkind = \"random\"\nseed = 5\n[conv]\nrate = \"2 kHz\"\n[report]\nformat = \"json\"\n\
         max_lines_per_second = 50\n[edge]\nlog = \"{}\"\nstat = \"{}\"\nreport = \"{}\"\n",
        address(0),
        address(1),
        address(2)
    ));
    let witness = Witness::start(&p.paths, &p.lives);
    p.start_all();
    p.wait_for("all of them work", BOUND, |p| p.folded() > 100);
    // Forgeries are of the epoch that the receiver's page shows.
    let epoch_of = |role| Page::open(&p.paths.page(role)).and_then(|page| page.epoch());
    assert_eq!((epoch_of(Role::Stat), epoch_of(Role::Stat).is_some()), (epoch_of(Role::Log), true));
    let stop = Arc::new(AtomicBool::new(false));
    let written: Arc<[AtomicU64; 3]> = Arc::default();
    let writers: Vec<_> = EDGES
        .iter()
        .enumerate()
        .map(|(i, (role, _))| {
            let mut hole = Hole::open(&p, carrier, *role, ports[i]).expect("the object is there");
            let (page, register, stop, written) =
                (p.paths.page(*role), p.paths.snapshot(), stop.clone(), written.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let page = Page::open(&page).unwrap();
                    let (received, epoch) = (page.received().unwrap_or(0), page.epoch().unwrap_or(1));
                    let junk = forgery(received, epoch as u32, &register);
                    let done = hole.write(&junk);
                    written[i].fetch_add(done as u64, Ordering::Relaxed);
                    if !done {
                        std::thread::yield_now();
                    }
                }
            })
        })
        .collect();
    let due = p.durable() + 6_000;
    p.wait_for("three seconds of samples are durable", BOUND, |p| p.durable() >= due && p.folded() >= due);
    p.wait_for("each receiver has met forgeries", BOUND, |p| {
        EDGES.iter().all(|(role, at)| {
            Page::open(&p.paths.page(*role)).and_then(|page| page.counter(*at)).is_some_and(|n| n > 0)
        })
    });
    stop.store(true, Ordering::Relaxed);
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    let written = std::array::from_fn::<_, 3, _>(|i| written[i].load(Ordering::Relaxed));
    assert!(written.iter().all(|n| *n > 50), "{carrier}: junk written {written:?}");
    p.stop(Role::Conv, BOUND);
    let head = p.head().unwrap();
    p.wait_for("log has drained the spool", BOUND, |p| p.durable() >= head);
    p.wait_for("stat has folded everything", BOUND, |p| p.folded() >= head);
    witness.look_once();
    let seen = witness.finish();
    [Role::Log, Role::Stat, Role::Report].into_iter().for_each(|r| p.stop(r, BOUND));
    let report = check_record(&p.record());
    let mut faults = report.faults.clone();
    faults.join(seen.faults);
    faults.join(check_statistics(&report.record, &seen.published));
    assert!(faults.is_empty(), "{carrier}: {faults}{}", p.state());
    assert_eq!(
        (report.last, report.lost[0], report.lost[2..].iter().sum::<u64>()),
        (head, 0, 0),
        "{carrier}"
    );
    check_lines(&p.output(Role::Report), &samples(&report.record));
    eprintln!("{carrier}: {written:?} pieces of junk, nothing taken");
    p.remove_objects();
    p.assert_nothing_left();
}

/// Every line that was printed is what the samples up to its seq give.
fn check_lines(output: &str, samples: &[Entry]) {
    // Junk may keep most snapshots out, but not all.
    assert!(output.lines().count() > 2, "too few lines to say anything");
    for line in output.lines() {
        let said: Value = serde_json::from_str(line).unwrap();
        let seq = said["seq"].as_u64().unwrap();
        let known: Vec<i64> = samples.iter().filter(|e| e.seq <= seq).map(|e| e.value as i64).collect();
        let Some(channel) = said["channels"].get(0) else { continue };
        assert_eq!(channel["count"].as_u64(), Some(known.len() as u64), "{line}");
        assert_eq!(channel["sum"].as_i64(), Some(known.iter().sum()), "{line}");
        assert_eq!(channel["last"].as_i64(), known.last().copied(), "{line}");
    }
}

/// What is on the way in a carrier that somebody else holds comes never; what is accepted is durable all the same.
#[test]
fn who_holds_the_only_connection_holds_nothing_up() {
    let port = free_port();
    let config = format!(
        "[source]\nkind = \"random\"\nseed = 5\n[conv]\nrate = \"2 kHz\"\n[edge]\nlog = \"tcp:{port}\"\nstat = \"shm:\"\n"
    );
    let mut p = Pipeline::new(&config);
    p.start(Role::Log);
    let mut held = None;
    p.wait_for("somebody else is there first", BOUND, |_| {
        held = held.take().or_else(|| TcpStream::connect(("127.0.0.1", port)).ok());
        held.is_some()
    });
    p.start(Role::Conv);
    p.wait_for("two seconds of samples are durable", BOUND, |p| p.durable() >= 4_000);
    assert_eq!(p.counter(Role::Log, "carried"), 0);
    p.stop(Role::Conv, BOUND);
    let head = p.head().unwrap();
    p.wait_for("log has drained the spool", BOUND, |p| p.durable() >= head);
    p.stop(Role::Log, BOUND);
    assert_eq!(check_record(&p.record()).last, head);
    p.remove_objects();
    p.assert_nothing_left();
}

/// Junk that nobody can judge yet stays where it is, and wakes nobody.
#[test]
fn junk_that_came_before_the_first_entry_lets_all_sleep() {
    let mut p = Pipeline::new("[edge]\nstat = \"fifo:\"\nreport = \"fifo:\"\n");
    [Role::Report, Role::Log, Role::Stat].into_iter().for_each(|role| p.start(role));
    for role in [Role::Stat, Role::Report] {
        p.wait_for("it listens", BOUND, |p| {
            Hole::open(p, "fifo", role, 0).is_some_and(|mut hole| hole.write(b"junk"))
        });
        let looks = |p: &Pipeline| p.counter(role, "woken");
        let (before, begun) = (looks(&p), std::time::Instant::now());
        p.wait_for("it looks", BOUND, |p| looks(p) > before + 20);
        let per_second = (looks(&p) - before) as f64 / begun.elapsed().as_secs_f64();
        assert!(per_second < 2_000.0, "{role:?} woke up {per_second} times a second");
    }
    [Role::Log, Role::Stat, Role::Report].into_iter().for_each(|r| p.stop(r, BOUND));
    p.remove_objects();
    p.assert_nothing_left();
}

#[test]
fn queues() {
    run("mq");
}

#[test]
fn fifos() {
    run("fifo");
}

#[test]
fn system_v_queues() {
    run("sysv");
}

#[test]
fn udp() {
    run("udp");
}

/// What has come and cannot be judged yet, or has no room to go to, wakes nobody again and again.
#[test]
fn nobody_spins_on_what_cannot_go_on() {
    let mut p = Pipeline::new(
        "[source]\nkind = \"random\"\n[conv]\nrate = \"20 Hz\"\n[edge]\nlog = \"mq:\"\nstat = \"mq:\"\nreport = \"fifo:\"\n",
    );
    let woken = |p: &Pipeline, role: Role| p.counter(role, "woken");
    let calm = |p: &Pipeline, roles: &[Role], when: &str| {
        let before: Vec<u64> = roles.iter().map(|role| woken(p, *role)).collect();
        std::thread::sleep(Duration::from_secs(1));
        for (role, before) in roles.iter().zip(before) {
            let times = woken(p, *role) - before;
            assert!(times < 150, "{when}: {} woke {times} times in a second", role.name());
        }
    };
    for (carrier, role) in [("fifo", Role::Report), ("mq", Role::Stat)] {
        p.start(role);
        p.wait_for("it listens", BOUND, |p| Hole::open(p, carrier, role, 0).is_some());
        let mut hole = Hole::open(&p, carrier, role, 0).expect("the object is there");
        assert!(hole.write(&[7; 64]));
        calm(&p, &[role], "with nothing to compare with");
    }
    p.start(Role::Log);
    p.wait_for("log has its record", BOUND, |p| {
        Page::open(&p.paths.page(Role::Log)).and_then(|page| page.log_id()).is_some_and(|id| id != 0)
    });
    calm(&p, &[Role::Stat], "without a spool");
    p.start(Role::Conv);
    p.wait_for("it runs", BOUND, |p| p.folded() > 20);
    p.signal(Role::Log, rustix::process::Signal::STOP);
    std::thread::sleep(Duration::from_secs(1)); // the queue fills
    calm(&p, &[Role::Conv, Role::Stat, Role::Report], "with a frozen log");
    p.signal(Role::Log, rustix::process::Signal::CONT);
    let durable = p.durable();
    p.wait_for("it goes on", BOUND, |p| p.durable() > durable);
}
