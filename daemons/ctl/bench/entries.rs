//! Our own carriers with entries, as the daemons use them: the spool beside, the edge rules at both ends.
#![forbid(unsafe_code)]

use std::fs::DirBuilder;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::DirBuilderExt;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ipc_pipeline::address::Address;
use ipc_pipeline::carrier::{self, Blind, Lane, Listening};
use ipc_pipeline::edge::{Inlet, Outlet, Peer, Receiver, Sender, Sent, TURN_BYTES, Truth};
use ipc_pipeline::entry::LEN;
use ipc_pipeline::names::{Names, Role};
use ipc_pipeline::ring;
use ipc_pipeline::spool::{SpoolReader, SpoolWriter};
use ipc_pipeline::sys::{self, Map};

use super::mechanism::{End, Ends, Load, Mechanism, Port, Side, gone, take};
use super::memory::{Words, other, publish, reader, two_spools, unpack, writer};

/// Both ends find each other within this.
const MEET: Duration = Duration::from_secs(5);
/// Who waits for the other end looks again after this.
const NAP: Duration = Duration::from_millis(20);

/// One of our carriers.
pub enum Carried {
    /// `mq:`
    Mq,
    /// `fifo:`
    Fifo,
    /// `unix:`
    Unix,
    /// `sysv:`
    Sysv,
    /// `tcp:`
    Tcp,
    /// `udp:`
    Udp,
}

/// The instance under whose names the objects of a sample are; they go away with this value.
struct Instance(Names);

impl Instance {
    fn new() -> io::Result<Instance> {
        let name = format!("bench-{}-{:x}", std::process::id(), fastrand::u32(..));
        let names = Names::for_user(Some(&name)).map_err(io::Error::other)?;
        DirBuilder::new().recursive(true).mode(0o700).create(names.run_dir())?;
        Ok(Instance(names))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        for role in [Role::Log, Role::Stat] {
            for object in carrier::list(&self.0, role) {
                let _ = carrier::remove(&self.0, role, object.kind); // most were never made
            }
        }
        let _ = std::fs::remove_dir_all(self.0.run_dir());
    }
}

/// A port that nobody has just now.
fn port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

impl Carried {
    fn address(&self, port: u16) -> Address {
        match self {
            Carried::Mq => Address::Mq,
            Carried::Fifo => Address::Fifo,
            Carried::Unix => Address::Unix,
            Carried::Sysv => Address::Sysv,
            Carried::Tcp => Address::Tcp(port),
            Carried::Udp => Address::Udp(port),
        }
    }
}

/// The word of a sample: the instance, and a port for each way.
fn read(word: &str) -> Option<(Names, u16, u16)> {
    let mut words = word.split(' ');
    let names = Names::for_user(Some(words.next()?)).ok()?;
    Some((names, words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

impl Mechanism for Carried {
    fn name(&self) -> &'static str {
        match self {
            Carried::Mq => "carrier-mq",
            Carried::Fifo => "carrier-fifo",
            Carried::Unix => "carrier-unix",
            Carried::Sysv => "carrier-sysv",
            Carried::Tcp => "carrier-tcp",
            Carried::Udp => "carrier-udp",
        }
    }

    fn open(&self, _: Load) -> io::Result<Ends> {
        let instance = Instance::new()?;
        let word = format!("{} {} {}", instance.0.instance(), port()?, port()?);
        Ok(Ends { word, guard: Some(Box::new(instance)), ..two_spools()? })
    }

    fn join(&self, end: End) -> io::Result<Box<dyn Port>> {
        let (names, there, back) = read(&end.word).ok_or(ErrorKind::InvalidInput)?;
        let mut fds = end.fds.into_iter();
        let (reader, writer) = (reader(take(&mut fds)?)?, writer(take(&mut fds)?)?);
        let words = Words::of(take(&mut fds)?)?;
        // conv sends to both log and stat: one is the way there, the other one the way back.
        let (ours, theirs) = ((Role::Stat, self.address(back)), (Role::Log, self.address(there)));
        let (ours, theirs) = if end.side == Side::First { (ours, theirs) } else { (theirs, ours) };
        let listening = Listening::open(&names, ours.0, ours.1).map_err(io::Error::other)?;
        let (Some(listening), Some(mut lane)) = (listening, Lane::to(&names, theirs.0, theirs.1)) else {
            return Err(ErrorKind::InvalidInput.into());
        };
        meet(&mut lane)?;
        let next = ring::accepted(reader.ring()) + 1;
        words.received(end.side).store(next - 1, Ordering::Release);
        Ok(Box::new(EntryPort {
            sending: Sending {
                lane,
                sender: Sender::new(SENT_TO, false),
                blind: Blind::default(),
                writer,
                values: Vec::new(),
            },
            receiving: Receiving {
                listening,
                receiver: Receiver::new(1, next),
                reader,
                buffer: vec![0; TURN_BYTES],
                taken: Vec::new(),
            },
            words,
            side: end.side,
            is_stream: end.load.is_stream,
        }))
    }

    fn abandon(&self, word: &str) {
        if let Some((names, _, _)) = read(word) {
            drop(Instance(names));
        }
    }
}

/// Both ends say the same, so that rule E7 holds.
const SENT_TO: &str = "bench";

/// The other end listens in a moment.
fn meet(lane: &mut Lane) -> io::Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < MEET {
        lane.look();
        if lane.outlet().is_some() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let why = lane.trouble().unwrap_or("the other end does not listen").to_owned();
    Err(io::Error::new(ErrorKind::TimedOut, why))
}

struct EntryPort {
    sending: Sending,
    receiving: Receiving,
    words: Words,
    side: Side,
    is_stream: bool,
}

struct Sending {
    lane: Lane,
    sender: Sender,
    blind: Blind,
    writer: SpoolWriter<Map>,
    values: Vec<i32>,
}

impl Sending {
    /// Gives to the carrier what fits; how many system calls that took.
    fn turn(&mut self, received: u64) -> io::Result<u32> {
        let Some(outlet) = self.lane.outlet() else { return Err(gone()) };
        let peer = Peer { session: 1, received, state: None, address: SENT_TO };
        let mut counted = CountedOutlet { outlet, calls: 0 };
        let range = (self.writer.tail(), self.writer.head());
        let sent = self.sender.turn(&mut counted, &peer, self.writer.ring(), range, sys::monotonic_ns());
        if sent.is_ok_and(|sent| sent > 0) {
            self.blind.moved();
        }
        if counted.flush() == Sent::Gone {
            return Err(gone());
        }
        sent.map(|_| counted.calls).map_err(|_| gone())
    }

    fn wait(&mut self) -> u32 {
        let room = self.lane.room();
        let limit = if room.is_some() { NAP } else { self.blind.next_wait() };
        carrier::wait(room, true, limit);
        1
    }
}

struct Receiving {
    listening: Listening,
    receiver: Receiver,
    reader: SpoolReader<Map>,
    buffer: Vec<u8>,
    /// Taken, and not yet given on.
    taken: Vec<u8>,
}

impl Receiving {
    /// Takes what has come, until there is enough; how many system calls that took.
    fn turn(&mut self, enough: usize) -> u32 {
        let reader = &self.reader;
        let truth = || Truth {
            head: ring::accepted(reader.ring()),
            ring: reader.ring(),
            tail: reader.tail(),
            is_sure: true,
        };
        let mut counted = CountedInlet { inlet: self.listening.inlet(), calls: 0 };
        self.receiver.turn(&mut counted, &mut self.buffer, truth, enough, &mut self.taken);
        counted.calls
    }
}

impl EntryPort {
    fn peer_received(&self) -> u64 {
        self.words.received(other(self.side)).load(Ordering::Acquire)
    }

    fn push_on(&mut self) -> io::Result<u32> {
        let received = self.peer_received();
        self.sending.turn(received)
    }

    /// Waits until `is_done`, and sends on meanwhile.
    fn send_until(&mut self, is_done: impl Fn(&EntryPort) -> bool) -> io::Result<u32> {
        let mut calls = 0;
        while !is_done(self) {
            let before = self.sending.sender.sent();
            calls += self.push_on()?;
            if self.sending.sender.sent() != before || is_done(self) {
                continue;
            }
            if before < self.sending.writer.head() {
                calls += self.sending.wait();
            } else {
                std::thread::yield_now(); // all is on its way
                calls += 1;
            }
        }
        Ok(calls)
    }
}

impl Port for EntryPort {
    fn send(&mut self, message: &[u8]) -> io::Result<u32> {
        let (count, mut calls) = ((message.len() / LEN) as u64, 0);
        if self.sending.writer.room() < count {
            let needed = self.sending.writer.tail() + count;
            calls += self.send_until(|port| port.peer_received() >= needed)?;
            let received = self.peer_received();
            self.sending.writer.release(received);
        }
        publish(&mut self.sending.writer, &mut self.sending.values, message);
        calls += self.push_on()?;
        if !self.is_stream {
            calls += self.send_until(|port| port.sending.sender.sent() >= port.sending.writer.head())?;
        }
        Ok(calls)
    }

    fn receive(&mut self, out: &mut [u8]) -> io::Result<u32> {
        let mut calls = 0;
        while self.receiving.taken.len() < out.len() {
            let before = self.receiving.receiver.next();
            calls += self.receiving.turn(out.len());
            let next = self.receiving.receiver.next();
            self.words.received(self.side).store(next - 1, Ordering::Release);
            if next == before {
                self.receiving.listening.wait(NAP);
                calls += 1 + self.push_on()?; // what was lost goes out again
            }
        }
        let taken = &mut self.receiving.taken;
        out.copy_from_slice(taken.get(..out.len()).unwrap_or_default());
        taken.drain(..out.len());
        unpack(out);
        Ok(calls)
    }

    fn stride(&self) -> usize {
        LEN
    }

    fn flush(&mut self) -> io::Result<u32> {
        self.send_until(|port| port.peer_received() >= port.sending.writer.head())
    }
}

/// An outlet whose system calls are counted.
struct CountedOutlet<'a> {
    outlet: &'a mut dyn Outlet,
    calls: u32,
}

impl Outlet for CountedOutlet<'_> {
    fn message_max(&self) -> usize {
        self.outlet.message_max()
    }

    fn window(&self) -> Option<u64> {
        self.outlet.window()
    }

    fn send(&mut self, message: &[u8]) -> Sent {
        self.calls += 1;
        self.outlet.send(message)
    }

    /// Only what a full stream has kept back: too rare to count.
    fn flush(&mut self) -> Sent {
        self.outlet.flush()
    }

    fn is_stale(&self) -> bool {
        self.outlet.is_stale()
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.outlet.fd()
    }
}

/// An inlet whose system calls are counted.
struct CountedInlet<'a> {
    inlet: &'a mut dyn Inlet,
    calls: u32,
}

impl Inlet for CountedInlet<'_> {
    fn keeps_messages(&self) -> bool {
        self.inlet.keeps_messages()
    }

    fn recv(&mut self, out: &mut [u8]) -> usize {
        self.calls += 1;
        self.inlet.recv(out)
    }

    fn is_stale(&self) -> bool {
        self.inlet.is_stale()
    }

    fn fds(&self) -> [Option<BorrowedFd<'_>>; 2] {
        self.inlet.fds()
    }
}
