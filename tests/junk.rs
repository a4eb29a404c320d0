//! A process with the sender's rights writes junk into all edges at full speed: bytes of all kinds, and forgeries with right
//! CRCs. Nothing of it may reach the record, a statistic or a printed line, and nothing true may be lost for it.
#![forbid(unsafe_code)]

mod checker;
mod harness;

use checker::{Entry, check_record, check_statistics};
use harness::{Page, Pipeline, Role, Witness, free_port, samples};
use ipc_pipeline::entry::{Entry as Real, Reason};
use ipc_pipeline::sys::MessageQueue;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with,
};
use serde_json::Value;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const BOUND: Duration = Duration::from_secs(20);
const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits() as i32;
/// The three edges by their receivers, with the place of `refused`, or of `injected`, in their pages.
const EDGES: [(Role, u64); 3] = [(Role::Log, 7), (Role::Stat, 11), (Role::Report, 7)];

/// The way into a carrier that its object's mode, or its port, allows to every process of the same user.
enum Hole {
    Queue(posixmq::PosixMq),
    Fifo(File),
    Socket(OwnedFd),
    Sysv(MessageQueue),
    Tcp(TcpStream),
    Udp(UdpSocket),
}

/// Where the carrier of an edge is found.
#[derive(Clone)]
struct Edge {
    carrier: String,
    role: Role,
    instance: String,
    dir: PathBuf,
    port: u16,
}

impl Edge {
    fn of(p: &Pipeline, carrier: &str, role: Role, port: u16) -> Edge {
        Edge { carrier: carrier.into(), role, instance: p.name.clone(), dir: p.run_dir(), port }
    }

    fn open(&self) -> Option<Hole> {
        let name = self.role.name();
        Some(match self.carrier.as_str() {
            "mq" => {
                let queue = format!("/ipc-pipeline@{}.{name}", self.instance);
                Hole::Queue(posixmq::OpenOptions::writeonly().nonblocking().open(&queue).ok()?)
            }
            "fifo" => {
                let path = self.dir.join(format!("{name}.fifo"));
                Hole::Fifo(File::options().write(true).custom_flags(NONBLOCK).open(path).ok()?)
            }
            "unix" => {
                let socket =
                    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::NONBLOCK, None);
                let (socket, path) = (socket.ok()?, self.dir.join(name).join("socket"));
                connect(&socket, &SocketAddrUnix::new(path).ok()?).ok()?;
                Hole::Socket(socket)
            }
            "sysv" => {
                let text = fs::read_to_string(self.dir.join(format!("{name}.sysv"))).ok()?;
                let key = i32::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()?;
                Hole::Sysv(MessageQueue::find(key).ok()?)
            }
            "tcp" => {
                let stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
                stream.set_nonblocking(true).ok()?;
                Hole::Tcp(stream)
            }
            _ => {
                let socket = UdpSocket::bind("127.0.0.1:0").ok()?;
                socket.connect(("127.0.0.1", self.port)).ok()?;
                Hole::Udp(socket)
            }
        })
    }
}

impl Hole {
    /// None: thrown out.
    fn write(&mut self, bytes: &[u8]) -> Option<bool> {
        let done = match self {
            Hole::Queue(queue) => return Some(queue.send(0, bytes).is_ok()),
            Hole::Fifo(file) => return Some(file.write(bytes).is_ok()),
            Hole::Sysv(queue) => return Some(queue.send(bytes).is_ok()),
            Hole::Udp(socket) => return Some(socket.send(bytes).is_ok()),
            Hole::Socket(socket) => {
                send(socket, bytes, SendFlags::NOSIGNAL).map_err(io::Error::from).map(drop)
            }
            Hole::Tcp(stream) => stream.write(bytes).map(drop),
        };
        match done {
            Ok(()) => Some(true),
            Err(e) if e.kind() == ErrorKind::WouldBlock => Some(false),
            Err(_) => None,
        }
    }
}

/// Writes until it is stopped, and comes again whenever it is thrown out.
struct Forger {
    written: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Forger {
    fn begin(edge: Edge, page: PathBuf, register: PathBuf) -> Forger {
        let (written, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (count, stopped) = (written.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut hole = None;
            while !stopped.load(Ordering::Relaxed) {
                let Some(open) = &mut hole else {
                    hole = edge.open();
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                };
                let page = Page::open(&page);
                let received = page.as_ref().and_then(Page::received).unwrap_or(0);
                let epoch = page.as_ref().and_then(Page::epoch).unwrap_or(1);
                match open.write(&forgery(received, epoch as u32, &register)) {
                    Some(true) => _ = count.fetch_add(1, Ordering::Relaxed),
                    Some(false) => std::thread::yield_now(),
                    None => hole = None,
                }
            }
        });
        Forger { written, stop, thread }
    }

    /// How many pieces it has written.
    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.written.load(Ordering::Relaxed)
    }
}

/// Has this receiver met forgeries?
fn has_met(p: &Pipeline, role: Role) -> bool {
    let (_, at) = EDGES.into_iter().find(|edge| edge.0 == role).unwrap();
    Page::open(&p.paths.page(role)).and_then(|page| page.counter(at)).is_some_and(|n| n > 0)
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
    let address = |i: usize| {
        if ["tcp", "udp"].contains(&carrier) {
            format!("{carrier}:{}", ports[i])
        } else {
            format!("{carrier}:")
        }
    };
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
    let forge = |p: &Pipeline, role| {
        let i = EDGES.iter().position(|edge| edge.0 == role).unwrap();
        Forger::begin(Edge::of(p, carrier, role, ports[i]), p.paths.page(role), p.paths.snapshot())
    };
    let forgers: Vec<Forger> = if carrier == "tcp" {
        // A port takes one sender, and no other as long as that one stays: the forgers must be there first.
        [Role::Conv, Role::Stat].into_iter().for_each(|role| p.kill(role));
        let [log, report] = [Role::Log, Role::Report].map(|role| forge(&p, role));
        p.wait_for("they are heard", BOUND, |p| has_met(p, Role::Log) && has_met(p, Role::Report));
        p.start(Role::Stat);
        let stat = forge(&p, Role::Stat);
        p.wait_for("so is the third", BOUND, |p| has_met(p, Role::Stat));
        p.start(Role::Conv);
        vec![log, stat, report]
    } else {
        EDGES.into_iter().map(|(role, _)| forge(&p, role)).collect()
    };
    let due = p.durable() + 6_000;
    p.wait_for("three seconds of samples are durable", BOUND, |p| p.durable() >= due && p.folded() >= due);
    p.wait_for("each receiver has met forgeries", BOUND, |p| {
        EDGES.into_iter().all(|(role, _)| has_met(p, role))
    });
    let written: Vec<u64> = forgers.into_iter().map(Forger::end).collect();
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
            let hole = Edge::of(p, "fifo", role, 0).open();
            hole.is_some_and(|mut hole| hole.write(b"junk") == Some(true))
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
fn sockets() {
    run("unix");
}

#[test]
fn tcp() {
    run("tcp");
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
        p.wait_for("it listens", BOUND, |p| Edge::of(p, carrier, role, 0).open().is_some());
        let mut hole = Edge::of(&p, carrier, role, 0).open().expect("the object is there");
        assert_eq!(hole.write(&[7; 64]), Some(true));
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
