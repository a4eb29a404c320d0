//! One contract for all carriers (daemons/lib/carrier.rs), tried with the real objects of this machine: whole messages, order,
//! never blocking, full without a trace, either end first, either end again, objects that are gone, strange or full of
//! somebody else's bytes. Then the edge rules over each of them.
#![forbid(unsafe_code)]

#[path = "carriers/system_v.rs"]
mod system_v;

use std::collections::VecDeque;
use std::fs;
use std::io::Write;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use ipc_pipeline::address::Address;
use ipc_pipeline::carrier::{self, Blind, Lane, Listening};
use ipc_pipeline::edge::{Outlet, Peer, Receiver, Sender, Sent, TURN_BYTES, Truth};
use ipc_pipeline::entry::{Entry, LEN, WORDS};
use ipc_pipeline::names::{Names, Role};
use ipc_pipeline::page::State;
use ipc_pipeline::ring::{Producer, Ring};
use ipc_pipeline::sys::MessageQueue;
use rustix::net::{AddressFamily, SocketType};
use rustix::thread::set_thread_res_uid;

/// Nothing here takes longer; what does hangs.
const BOUND: Duration = Duration::from_secs(20);

fn all() -> Vec<Address> {
    let port = || loop {
        let port = fastrand::u16(20_000..32_000);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    };
    vec![Address::Mq, Address::Fifo, Address::Unix, Address::Sysv, Address::Tcp(port()), Address::Udp(port())]
}

/// An instance with nothing but a run directory.
struct Place {
    names: Names,
    address: Address,
}

impl Place {
    fn new(address: Address) -> Place {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("t{}-c{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let names = Names::for_user(Some(&name)).unwrap();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(names.run_dir()).unwrap();
        Place { names, address }
    }

    fn listen(&self) -> Listening {
        Listening::open(&self.names, Role::Log, self.address).unwrap().unwrap()
    }

    fn outlet(&self) -> Box<dyn Outlet> {
        carrier::outlet(&self.names, Role::Log, self.address).unwrap().unwrap()
    }

    fn remove(&self) {
        for object in carrier::list(&self.names, Role::Log) {
            carrier::remove(&self.names, Role::Log, object.kind).unwrap();
        }
    }

    fn why_not(&self) -> String {
        carrier::inlet(&self.names, Role::Log, self.address).err().expect("it is refused").to_string()
    }

    fn has_object(&self) -> bool {
        !matches!(self.address, Address::Tcp(_) | Address::Udp(_))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.remove();
        let _ = fs::remove_dir_all(self.names.run_dir());
    }
}

fn for_each(test: impl Fn(&Place)) {
    for address in all() {
        eprintln!("{address}");
        test(&Place::new(address));
    }
}

/// What comes until nothing more comes for some looks.
fn drain(listening: &mut Listening) -> Vec<Vec<u8>> {
    let (mut all, mut buffer, mut empty, begun) = (Vec::new(), vec![0; TURN_BYTES], 0, Instant::now());
    while empty < 4 {
        match listening.inlet().recv(&mut buffer) {
            0 => {
                empty += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            n => {
                empty = 0;
                all.push(buffer[..n].to_vec());
            }
        }
        assert!(begun.elapsed() < BOUND, "it never ends");
    }
    all
}

fn message(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect()
}

#[test]
fn messages_come_out_whole_and_in_order() {
    for_each(|place| {
        let mut listening = place.listen();
        let mut outlet = place.outlet();
        assert!(outlet.message_max() >= 512 && outlet.message_max() % 512 == 0, "whole rows and entries");
        for round in 0..50u8 {
            let most = outlet.message_max();
            let sent = [LEN, most, LEN * 3].map(|len| message(round, len));
            for m in &sent {
                assert_eq!(outlet.send(m), Sent::Sent);
                // Such a queue holds two of the largest.
                if place.address == Address::Sysv {
                    assert_eq!(drain(&mut listening).concat(), *m);
                }
            }
            if place.address != Address::Sysv {
                let came = drain(&mut listening);
                assert_eq!(came.concat(), sent.concat());
                assert!(!listening.inlet().keeps_messages() || came == sent, "kept together");
            }
        }
    });
}

#[test]
fn full_leaves_no_trace_and_does_not_block() {
    for_each(|place| {
        let mut listening = place.listen();
        let mut outlet = place.outlet();
        if outlet.window().is_some() {
            return; // it drops instead, and whoever sends keeps to the window
        }
        let (mut sent, begun) = (Vec::new(), Instant::now());
        for round in 0..3 {
            let len = outlet.message_max();
            let mut refused = 0;
            for i in 0.. {
                let m = message(i as u8 ^ round, len);
                match outlet.send(&m) {
                    Sent::Sent => sent.extend(m),
                    Sent::Full => refused += 1,
                    Sent::Gone => panic!("nobody has gone"),
                }
                if refused > 3 {
                    break;
                }
            }
            assert!(!sent.is_empty());
            // The rest of a stream's last message goes with the next one.
            let mut came = drain(&mut listening).concat();
            let extra = message(99, LEN);
            while outlet.send(&extra) != Sent::Sent {
                came.extend(drain(&mut listening).concat());
                assert!(begun.elapsed() < BOUND);
            }
            sent.extend(extra);
            came.extend(drain(&mut listening).concat());
            assert!(came == sent, "{} bytes came, {} were sent", came.len(), sent.len());
            sent.clear();
        }
    });
}

#[test]
fn either_end_may_come_first_and_come_back() {
    for_each(|place| {
        // UDP cannot tell that nobody listens; what is sent then is lost.
        let early = carrier::outlet(&place.names, Role::Log, place.address);
        let is_udp = matches!(place.address, Address::Udp(_));
        let is_missing = match early {
            // TCP may still be asking.
            Ok(early) => early.is_some_and(|mut early| early.send(&message(1, LEN)) != Sent::Sent),
            Err(e) => e.is_missing(),
        };
        assert!(is_udp || is_missing, "the sender came first");
        let mut listening = place.listen();
        for i in 0..5 {
            let mut outlet = place.outlet();
            let m = message(i, LEN);
            assert_eq!(outlet.send(&m), Sent::Sent);
            assert_eq!(drain(&mut listening).concat(), m, "sender number {i}");
            drop(outlet);
            drain(&mut listening); // notices that it has gone
        }
        let mut lane = Lane::to(&place.names, Role::Log, place.address).unwrap();
        lane.look();
        for i in 0..5 {
            drop(listening);
            // Whoever sends notices at once or when it tries, or what it sends waits for the next receiver.
            if let Some(outlet) = lane.outlet()
                && outlet.send(&message(100 + i, LEN)) == Sent::Gone
            {
                lane.close();
            }
            listening = place.listen();
            let begun = Instant::now();
            let m = message(i, 2 * LEN);
            // As the edge rules do: again until it is there.
            loop {
                lane.look();
                let sent = lane.outlet().map(|outlet| outlet.send(&m));
                if sent == Some(Sent::Gone) {
                    lane.close();
                }
                if drain(&mut listening).concat().ends_with(&m) {
                    break;
                }
                assert!(begun.elapsed() < BOUND, "receiver number {i}: {:?}", lane.trouble());
            }
        }
    });
}

/// A sender that has gone is no news that comes again and again: that would burn a processor.
#[test]
fn an_idle_carrier_lets_its_receiver_sleep() {
    for_each(|place| {
        let mut listening = place.listen();
        let mut outlet = place.outlet();
        assert_eq!(outlet.send(&message(1, LEN)), Sent::Sent);
        assert_eq!(drain(&mut listening).concat(), message(1, LEN));
        drop(outlet);
        drain(&mut listening);
        if listening.can_wait() {
            let begun = Instant::now();
            listening.wait(Duration::from_millis(100));
            assert!(begun.elapsed() >= Duration::from_millis(90), "slept {:?}", begun.elapsed());
        }
    });
}

/// Nor is a receiver that takes nothing: its sender is not woken again and again.
#[test]
fn a_full_carrier_lets_its_sender_sleep() {
    for_each(|place| {
        let _listening = place.listen();
        let mut lane = Lane::to(&place.names, Role::Log, place.address).unwrap();
        lane.look();
        let outlet = lane.outlet().unwrap();
        let m = message(1, outlet.message_max());
        let most = outlet.window().map_or(usize::MAX, |bytes| bytes as usize / m.len());
        let sent = (0..most).take_while(|_| outlet.send(&m) == Sent::Sent).count();
        assert!(sent > 0);
        let begun = Instant::now();
        for _ in 0..50 {
            carrier::wait(lane.room(), true, Duration::from_millis(1));
        }
        assert!(begun.elapsed() >= Duration::from_millis(40), "slept {:?}", begun.elapsed());
    });
}

#[test]
fn an_object_that_is_gone_is_noticed_and_made_again() {
    for_each(|place| {
        if !place.has_object() {
            return;
        }
        let mut listening = place.listen();
        let mut lane = Lane::to(&place.names, Role::Log, place.address).unwrap();
        lane.look();
        assert!(lane.outlet().is_some() && !listening.look().unwrap());
        place.remove();
        assert!(listening.look().unwrap(), "it is made again");
        assert!(!listening.look().unwrap(), "once");
        let begun = Instant::now();
        let m = message(3, LEN);
        loop {
            lane.look();
            let sent = lane.outlet().map(|outlet| outlet.send(&m));
            if sent == Some(Sent::Gone) {
                lane.close();
            }
            if drain(&mut listening).concat() == m {
                break;
            }
            assert!(begun.elapsed() < BOUND, "the sender holds on to what is gone");
        }
    });
}

/// A receiver that is stopped between making and opening may find that the object has gone meanwhile: no reason to end.
#[test]
fn a_receiver_comes_up_while_somebody_removes_its_object_all_the_time() {
    for_each(|place| {
        if !place.has_object() {
            return;
        }
        let done = AtomicBool::new(false);
        let mut keys = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    keys.extend(system_v::key_of(place));
                    place.remove();
                    // On a busy machine: the other one must have a turn.
                    std::thread::sleep(Duration::from_micros(100));
                }
            });
            let opened: Vec<_> = (0..1_000)
                .map(|_| Listening::open(&place.names, Role::Log, place.address).map(|_| ()))
                .collect();
            done.store(true, Ordering::Relaxed);
            for result in opened {
                result.unwrap();
            }
        });
        place.remove();
        assert!(keys.into_iter().all(|key| MessageQueue::find(key).is_err()), "a queue is left");
    });
}

#[test]
fn strange_objects_are_refused_with_a_reason() {
    for_each(|place| {
        let names = &place.names;
        match place.address {
            Address::Mq => {
                let name = names.queue(Role::Log);
                let queue = |len, mode| {
                    let _ = posixmq::remove_queue(&name);
                    let mut options = posixmq::OpenOptions::readwrite();
                    options.max_msg_len(len).capacity(10).mode(mode).create_new().open(&name).unwrap()
                };
                let _small = queue(64, 0o600);
                assert!(place.why_not().contains("its limits are not those of ours"), "{}", place.why_not());
                let open = queue(8192, 0o600);
                rustix::fs::fchmod(
                    ipc_pipeline::sys::borrowed(&open),
                    rustix::fs::Mode::from_raw_mode(0o622),
                )
                .unwrap();
                assert!(place.why_not().contains("with mode 0622; remove it"), "{}", place.why_not());
            }
            Address::Fifo => {
                let path = names.fifo(Role::Log);
                fs::write(&path, "").unwrap();
                assert!(place.why_not().contains("it is no FIFO"), "{}", place.why_not());
                fs::remove_file(&path).unwrap();
                std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
                assert!(place.why_not().contains("it is no FIFO"), "{}", place.why_not());
                fs::remove_file(&path).unwrap();
                let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
                assert!(place.why_not().contains("it is no FIFO"), "{}", place.why_not());
                assert!(carrier::is_strange(names, Role::Log, place.address));
                fs::remove_file(&path).unwrap();
                carrier::make(names, Role::Log, place.address, None).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o602)).unwrap();
                assert!(place.why_not().contains("with mode 0602; remove it"), "{}", place.why_not());
            }
            Address::Unix => {
                carrier::make(names, Role::Log, place.address, None).unwrap();
                fs::set_permissions(names.socket_dir(Role::Log), fs::Permissions::from_mode(0o755)).unwrap();
                assert!(place.why_not().contains("is open to others"), "{}", place.why_not());
                fs::write(names.socket(Role::Log), "").unwrap();
                let why = carrier::outlet(names, Role::Log, place.address).err().unwrap().to_string();
                assert!(why.contains("it is no socket; remove it"), "{why}");
            }
            Address::Sysv => {
                let path = names.sysv(Role::Log);
                fs::write(&path, "x\n").unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
                assert!(place.why_not().contains("there is no key in it"), "{}", place.why_not());
                fs::write(&path, "0x7fffffff\n").unwrap();
                let gone = carrier::inlet(names, Role::Log, place.address).err().unwrap();
                assert!(gone.is_missing(), "{gone}");
                carrier::make(names, Role::Log, place.address, None).unwrap();
                MessageQueue::find(system_v::key_of(place).unwrap())
                    .unwrap()
                    .give(None, None, 0o602)
                    .unwrap();
                assert!(place.why_not().contains("with mode 0602; remove it"), "{}", place.why_not());
            }
            Address::Tcp(port) => {
                let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
                assert!(place.why_not().contains("another program has that port"), "{}", place.why_not());
            }
            Address::Udp(port) => {
                let _taken = std::net::UdpSocket::bind(("127.0.0.1", port)).unwrap();
                assert!(place.why_not().contains("another program has that port"), "{}", place.why_not());
            }
            Address::Shm => unreachable!(),
        }
    });
}

#[test]
fn a_second_sender_over_tcp_is_told_so() {
    for address in all() {
        let Address::Tcp(port) = address else { continue };
        let place = Place::new(address);
        let mut listening = place.listen();
        let mut outlet = place.outlet();
        assert_eq!(outlet.send(&message(1, LEN)), Sent::Sent);
        assert_eq!(drain(&mut listening).concat(), message(1, LEN));
        let mut second = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        second.set_read_timeout(Some(BOUND)).unwrap();
        drain(&mut listening);
        let mut said = String::new();
        std::io::Read::read_to_string(&mut second, &mut said).unwrap();
        assert_eq!(said, "ipc-log has its sender already\n");
        let _ = second.write(b"junk");
        assert_eq!(outlet.send(&message(2, LEN)), Sent::Sent, "the first one goes on");
        assert_eq!(drain(&mut listening).concat(), message(2, LEN));
    }
}

/// Runs this as another user than the rest of the process, which must be the superuser's.
fn as_nobody<T: Send>(what: impl FnOnce() -> T + Send) -> T {
    let nobody = rustix::process::Uid::from_raw(65_534);
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            set_thread_res_uid(nobody, nobody, nobody).unwrap();
            what()
        });
        thread.join().unwrap()
    })
}

#[test]
#[ignore = "needs root, to be another user"]
fn another_users_connection_over_tcp_is_refused() {
    for address in all() {
        let Address::Tcp(port) = address else { continue };
        let place = Place::new(address);
        let mut listening = place.listen();
        let mut stranger = as_nobody(|| std::net::TcpStream::connect(("127.0.0.1", port)).unwrap());
        stranger.set_read_timeout(Some(BOUND)).unwrap();
        let _ = stranger.write(&message(1, LEN));
        assert_eq!(drain(&mut listening), Vec::<Vec<u8>>::new());
        let mut said = String::new();
        let _ = std::io::Read::read_to_string(&mut stranger, &mut said);
        assert_eq!(said, "ipc-log takes nothing from this user\n");
        let mut outlet = place.outlet();
        assert_eq!(outlet.send(&message(2, LEN)), Sent::Sent);
        assert_eq!(drain(&mut listening).concat(), message(2, LEN));
    }
}

/// Its directory keeps others out; where that is open, the kernel's word on who connects does.
#[test]
#[ignore = "needs root, to be another user"]
fn another_users_connection_to_a_socket_is_refused() {
    let place = Place::new(Address::Unix);
    let mut listening = place.listen();
    let dir = place.names.socket_dir(Role::Log);
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o711)).unwrap();
    let line = "head -c 64 /dev/zero | socat -u STDIN UNIX-CONNECT:socket,socktype=5";
    let mut stranger = std::process::Command::new("setpriv");
    stranger.args(["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", line]).current_dir(&dir);
    assert!(stranger.status().unwrap().success(), "it was connected");
    assert_eq!(drain(&mut listening), Vec::<Vec<u8>>::new());
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(place.outlet().send(&message(2, LEN)), Sent::Sent);
    assert_eq!(drain(&mut listening).concat(), message(2, LEN));
}

/// A listener that takes no more callers answers none: nobody waits for it, and nothing is said to be sent.
#[test]
fn a_listener_that_does_not_answer_holds_nobody_up() {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &std::net::SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    rustix::net::listen(&socket, 0).unwrap();
    let listener = std::net::TcpListener::from(socket);
    let place = Place::new(Address::Tcp(listener.local_addr().unwrap().port()));
    let m = message(1, LEN);
    let mut callers: Vec<_> = (0..4).map(|_| place.outlet()).collect();
    let times: Vec<Duration> = (0..5)
        .map(|_| {
            let begun = Instant::now();
            callers.push(place.outlet());
            begun.elapsed()
        })
        .collect();
    assert!(times.iter().min() < Some(&Duration::from_millis(10)), "each look took {times:?}");
    let mut last = callers.pop().unwrap();
    assert!(last.send(&m) == Sent::Full && !last.is_stale(), "it is on its way");
    carrier::wait(last.fd(), true, Duration::from_millis(400));
    assert!(last.is_stale(), "and begun anew after a while");
    drop(callers);
    let begun = Instant::now();
    let mut lane = Lane::to(&place.names, Role::Log, place.address).unwrap();
    listener.set_nonblocking(true).unwrap();
    while !lane.outlet().is_some_and(|outlet| outlet.send(&m) == Sent::Sent) {
        let _ = listener.accept();
        lane.look();
        assert!(begun.elapsed() < BOUND);
    }
}

/// Where nobody listens, the kernel may choose just that port for our own end: a connection to ourselves is none.
#[test]
fn nobody_is_connected_to_itself() {
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    // The kernel gives ports of one kind, even or odd, as long as there are any.
    for port in [port & !1, port | 1] {
        let place = Place::new(Address::Tcp(port));
        for _ in 0..20_000 {
            let outlet = carrier::outlet(&place.names, Role::Log, place.address).ok().flatten();
            let sent = outlet.map(|mut outlet| outlet.send(&message(1, LEN)));
            assert!(sent != Some(Sent::Sent), "connected, and nobody listens");
        }
    }
}

/// With no more than a page, as the kernel gives to who has many pipes (fs.pipe-user-pages-soft).
#[test]
fn a_pipe_of_one_page_carries_as_well() {
    let place = Place::new(Address::Fifo);
    let mut listening = place.listen();
    let mut outlet = place.outlet();
    let pipe = fs::File::options().read(true).write(true).open(place.names.fifo(Role::Log)).unwrap();
    rustix::pipe::fcntl_setpipe_size(&pipe, 4096).unwrap();
    assert_eq!(outlet.message_max(), rustix::pipe::PIPE_BUF, "what is never torn");
    for round in 0..20 {
        let m = message(round, outlet.message_max());
        assert_eq!((outlet.send(&m), outlet.send(&m)), (Sent::Sent, Sent::Full));
        assert_eq!(drain(&mut listening).concat(), m);
    }
}

/// Each limit of the machine that stands in the way is named, with what to do.
#[test]
#[ignore = "needs root, for a kernel namespace with limits of its own"]
fn limits_of_the_kernel_are_named() {
    let cases = [
        ("mq:", "true", "prlimit --msgqueue=1000", "raise LimitMSGQUEUE= (ulimit -q)"),
        ("mq:", "sysctl -q -w fs.mqueue.msg_max=4", "", "fs.mqueue.msg_max must be 10"),
        ("mq:", "sysctl -q -w fs.mqueue.msgsize_max=128", "", "fs.mqueue.msgsize_max 8192 at least"),
        ("mq:", "sysctl -q -w fs.mqueue.queues_max=0", "", "as fs.mqueue.queues_max allows"),
        ("sysv:", "sysctl -q -w kernel.msgmni=0", "", "as kernel.msgmni allows"),
    ];
    for (edge, limit, under, remedy) in cases {
        let dir = tempfile::tempdir().unwrap();
        // Without this capability the limits hold for the superuser, too.
        let script = format!(
            "{limit} && exec setpriv --bounding-set=-sys_resource --inh-caps=-sys_resource -- {under} \
             {} objects create --name limits --set edge.log={edge} --set edge.report=shm:",
            env!("CARGO_BIN_EXE_ipc-pipeline")
        );
        let mut c = std::process::Command::new("unshare");
        c.args(["--ipc", "--mount", "sh", "-c", &format!("mount -t tmpfs tmpfs /dev/shm && {script}")]);
        let output =
            c.envs([("XDG_RUNTIME_DIR", dir.path()), ("XDG_STATE_HOME", dir.path())]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(remedy), "{limit} {under}: {said}");
    }
}

/// A carrier that also loses, repeats and exchanges messages: `percent` of them, each.
struct Shim {
    outlet: Box<dyn Outlet>,
    random: Rng,
    percent: u32,
    late: VecDeque<Vec<u8>>,
}

impl Outlet for Shim {
    fn message_max(&self) -> usize {
        self.outlet.message_max()
    }
    fn window(&self) -> Option<u64> {
        self.outlet.window()
    }
    fn send(&mut self, message: &[u8]) -> Sent {
        let chance = |random: &mut Rng, percent| random.u32(..100) < percent;
        if chance(&mut self.random, self.percent) {
            return Sent::Sent; // lost
        }
        if chance(&mut self.random, self.percent) {
            self.late.push_back(message.to_vec());
            return Sent::Sent;
        }
        let sent = self.outlet.send(message);
        if sent == Sent::Sent {
            if chance(&mut self.random, self.percent) {
                let _ = self.outlet.send(message);
            }
            if let Some(late) = self.late.pop_front() {
                let _ = self.outlet.send(&late);
            }
        }
        sent
    }
    fn is_stale(&self) -> bool {
        self.outlet.is_stale()
    }
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.outlet.fd()
    }
}

const SLOTS: usize = 4096;

/// A spool that is always refilled, conv's end and log's end over the real carrier, and whoever else has the right to send
/// writing `junk`. Everything accepted must come out, once and in order.
fn everything_gets_through(place: &Place, percent: u32, junk: bool, entries: u64) {
    let words: Vec<AtomicU64> = (0..2 + SLOTS * WORDS).map(|_| AtomicU64::new(0)).collect();
    let ring = Ring { head: &words[0], tail: &words[1], slots: &words[2..] };
    let entry = |seq: u64| Entry::sample(seq, 1, seq, 0, seq as i32);
    let mut producer = Producer::new(0, 0, SLOTS as u64);
    let mut listening = place.listen();
    let mut random = Rng::with_seed(7);
    let mut shim = Shim { outlet: place.outlet(), random: random.fork(), percent, late: VecDeque::new() };
    let address = place.address.to_string();
    let (mut sender, mut receiver) = (Sender::new(&address, false), Receiver::new(1, 1));
    let (mut taken, mut buffer) = (0u64, vec![0; TURN_BYTES]);
    let (begun, mut moved) = (Instant::now(), Instant::now());
    // TCP has one sender: whoever else writes does so by the same connection.
    let mut other = (!matches!(place.address, Address::Tcp(_) | Address::Unix)).then(|| place.outlet());
    while taken < entries {
        producer.release(ring, taken);
        let free = producer.free().min(entries - producer.head());
        if free > 0 {
            producer.begin();
            let head = producer.head() + free;
            (producer.head() + 1..=head).for_each(|seq| producer.write(ring, &entry(seq)));
            producer.commit(ring, head);
        }
        if junk {
            let outlet = other.as_mut().unwrap_or(&mut shim.outlet);
            let forged = Entry::sample(taken + 1, 1, 0, 0, -1).to_bytes();
            let noise: Vec<u8> = (0..random.usize(1..300)).map(|_| random.u8(..)).collect();
            let _ = outlet.send(if random.bool() { &forged } else { &noise });
        }
        let now = begun.elapsed().as_nanos() as u64;
        let peer = Peer { session: 1, received: taken, state: Some(State::Running), address: &address };
        sender.turn(&mut shim, &peer, ring, (producer.tail(), producer.head()), now).expect("nobody goes");
        let mut out = Vec::new();
        let truth = || Truth { ring, head: producer.head(), tail: producer.tail(), is_sure: true };
        receiver.turn(listening.inlet(), &mut buffer, truth, 1 << 20, &mut out);
        for bytes in out.as_chunks::<LEN>().0 {
            taken += 1;
            assert_eq!(Entry::from_bytes(bytes), entry(taken), "not what was accepted");
            moved = Instant::now();
        }
        assert!(
            moved.elapsed() < BOUND,
            "{taken} of {entries} got through, refused {:?}",
            receiver.refused()
        );
    }
    assert_eq!(receiver.refused().corrupt, 0);
    assert!(!junk || receiver.refused().injected > 0, "the forger was not heard: {:?}", receiver.refused());
}

#[test]
fn every_entry_gets_through_each_carrier() {
    for_each(|place| everything_gets_through(place, 0, false, 200_000));
}

#[test]
fn nothing_that_others_send_is_believed() {
    for_each(|place| everything_gets_through(place, 0, true, 20_000));
}

#[test]
fn udp_heals_what_is_lost_repeated_and_exchanged() {
    for percent in [0, 1, 5, 15, 30] {
        for address in all().into_iter().filter(|address| matches!(address, Address::Udp(_))) {
            everything_gets_through(&Place::new(address), percent, false, 20_000);
        }
    }
}
