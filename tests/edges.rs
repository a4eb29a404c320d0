//! Suite T15, second half: the edge rules over a carrier that loses, repeats, reorders, cuts, corrupts, forges and
//! stalls, with both ends killed at any step. One seed makes one world; a failure names its seed.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::atomic::AtomicU64;

use fastrand::Rng;
use ipc_pipeline::edge::{Inlet, Outlet, PATIENCE_NS, Peer, Receiver, Sender, Sent, Truth};
use ipc_pipeline::entry::{Entry, LEN, WORDS};
use ipc_pipeline::page::State;
use ipc_pipeline::ring::{Producer, Ring};

const SLOTS: usize = 64;
const ADDRESS: &str = "mq:/test";
const MS: u64 = 1_000_000;

/// A carrier that does to messages whatever it likes.
struct Hostile {
    random: Rng,
    messages: bool,
    calm: bool,
    queue: VecDeque<Vec<u8>>,
}

impl Inlet for Hostile {
    fn keeps_messages(&self) -> bool {
        self.messages
    }
    fn is_stale(&self) -> bool {
        false
    }
    fn fds(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [None; 2]
    }
    fn recv(&mut self, out: &mut [u8]) -> usize {
        let message = self.queue.pop_front().unwrap_or_default();
        out[..message.len()].copy_from_slice(&message);
        message.len()
    }
}

impl Outlet for Hostile {
    fn message_max(&self) -> usize {
        8 * LEN
    }
    fn is_stale(&self) -> bool {
        false
    }
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
    fn send(&mut self, message: &[u8]) -> Sent {
        if self.queue.len() >= 6 {
            return Sent::Full;
        }
        let mut message = message.to_vec();
        let what = if self.calm { 99 } else { self.random.u32(..40) };
        let at = self.random.usize(..message.len());
        match what {
            0..2 => return Sent::Sent, // lost
            2 => self.queue.push_back(message.clone()),
            3 => message.truncate(at),
            4 => message[at] ^= 1 << self.random.u32(..8),
            5 => message.splice(at..at, [0; 5]).for_each(drop),
            _ => {}
        }
        self.queue.push_back(message);
        if what == 6 {
            self.queue.swap_remove_back(0);
        }
        Sent::Sent
    }
}

struct World {
    random: Rng,
    words: Vec<AtomicU64>,
    producer: Producer,
    carrier: Hostile,
    sender: Sender,
    receiver: Receiver,
    session: u64,
    durable: u64,
    lossy: bool,
    state: State,
    address: &'static str,
    now: u64,
    went_out: u64,
    taken: Vec<u8>,
}

fn entry(seq: u64) -> Entry {
    Entry::sample(seq, 1, seq, 0, seq as i32)
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Rng::with_seed(seed);
        let (messages, lossy) = (random.bool(), random.u32(..4) == 0);
        World {
            carrier: Hostile { random: random.fork(), messages, calm: false, queue: VecDeque::new() },
            words: (0..2 + SLOTS * WORDS).map(|_| AtomicU64::new(0)).collect(),
            producer: Producer::new(0, 0, SLOTS as u64),
            sender: Sender::new(ADDRESS, lossy),
            receiver: Receiver::new(1, 1),
            session: 1,
            durable: 0,
            lossy,
            state: State::Running,
            address: ADDRESS,
            now: 0,
            went_out: 0,
            taken: Vec::new(),
            random,
        }
    }

    fn ring(&self) -> Ring<'_> {
        Ring { head: &self.words[0], tail: &self.words[1], slots: &self.words[2..] }
    }

    fn publish(&mut self) {
        let mut producer = self.producer;
        // stat's spool is freed by log, whatever stat has got
        let durable = if self.lossy { producer.head() } else { self.durable };
        if self.random.bool() {
            producer.release(self.ring(), durable);
        }
        let n = self.random.u64(..12).min(producer.free());
        producer.begin();
        let head = producer.head() + n;
        (producer.head() + 1..=head).for_each(|seq| producer.write(self.ring(), &entry(seq)));
        producer.commit(self.ring(), head);
        self.producer = producer;
    }

    fn fault(&mut self) {
        match self.random.u32(..60) {
            0 => self.sender = Sender::new(ADDRESS, self.lossy),
            1 => {
                // a kill: what is not durable is taken again
                self.receiver = Receiver::new(1, self.durable + 1);
                self.taken.truncate(self.durable as usize * LEN);
                self.session += 1;
            }
            2 => self.carrier.queue.clear(),
            3 => {
                // whole, in turn, and never accepted
                let seq = self.receiver.next();
                self.carrier.queue.push_front(Entry::sample(seq, 1, 0, 0, -1).to_bytes().to_vec());
            }
            4 => {
                let beyond = self.producer.head() + 1;
                self.carrier.queue.push_front(entry(beyond).to_bytes().to_vec());
            }
            5 => self.now += 100 * MS,
            6 => self.state = State::DiskFull,
            7 => self.state = State::Running,
            8 => self.address = "mq:/elsewhere",
            9 => self.address = ADDRESS,
            _ => {}
        }
    }

    fn send(&mut self) {
        let peer = Peer {
            session: self.session,
            received: self.receiver.next() - 1,
            state: Some(self.state),
            address: self.address,
        };
        let ring = Ring { head: &self.words[0], tail: &self.words[1], slots: &self.words[2..] };
        let (before, window) = (self.sender.sent(), (self.producer.tail(), self.producer.head()));
        let n = self.sender.turn(&mut self.carrier, &peer, ring, window, self.now).unwrap();
        assert!(n == 0 || self.address == ADDRESS, "sent to a receiver that listens elsewhere");
        let same_life = self.state == State::DiskFull && before > peer.received;
        self.went_out += n;
        if same_life {
            assert!(self.sender.sent() >= peer.received, "sent again to a full disk");
        }
    }

    fn receive(&mut self) {
        let mut bytes = vec![0; 4096];
        let n = self.carrier.recv(&mut bytes);
        let ring = Ring { head: &self.words[0], tail: &self.words[1], slots: &self.words[2..] };
        let truth = Truth { ring, head: self.producer.head(), tail: self.producer.tail(), is_sure: true };
        if self.carrier.keeps_messages() {
            self.receiver.message(&bytes[..n], &truth, &mut self.taken);
        } else {
            self.receiver.stream(&bytes[..n], &truth, &mut self.taken);
        }
        // What fell out of the window stat reads from the record.
        if self.lossy && self.receiver.next() <= truth.tail {
            (self.receiver.next()..=truth.tail).for_each(|seq| self.taken.extend(entry(seq).to_bytes()));
            self.receiver = Receiver::new(1, truth.tail + 1);
        }
        assert_eq!(self.taken.len() as u64 / LEN as u64, self.receiver.next() - 1);
        if self.random.u32(..4) == 0 {
            self.durable = self.receiver.next() - 1;
        }
    }

    fn live(&mut self) {
        for turn in 0..400 {
            self.carrier.calm = turn >= 200;
            if !self.carrier.calm {
                self.fault();
            } else {
                (self.state, self.address) = (State::Running, ADDRESS);
            }
            if turn < 300 {
                self.publish();
            }
            self.send();
            self.receive();
            self.now += 5 * MS;
        }
        for (seq, bytes) in (1..).zip(self.taken.as_chunks::<LEN>().0) {
            assert_eq!(Entry::from_bytes(bytes), entry(seq), "not what was accepted");
        }
        assert_eq!(
            self.receiver.next() - 1,
            self.producer.head(),
            "the edge does not get everything through"
        );
        assert_eq!(self.receiver.refused().corrupt, 0);
        let most = 4 * self.producer.head() + 200 * SLOTS as u64;
        assert!(self.went_out < most, "{} entries sent for {}", self.went_out, self.producer.head());
    }
}

#[test]
fn every_accepted_entry_gets_through_once_and_in_order() {
    for seed in 0..20_000 {
        let ended = std::panic::catch_unwind(|| World::new(seed).live());
        assert!(ended.is_ok(), "seed {seed}");
    }
}

fn peer(session: u64, received: u64, state: State) -> Peer<'static> {
    Peer { session, received, state: Some(state), address: ADDRESS }
}

/// A world with entries 1..=20 accepted and a carrier that does nothing wrong.
fn plain() -> World {
    let mut world = World::new(1);
    (world.carrier.calm, world.carrier.messages) = (true, true);
    let mut producer = world.producer;
    (1..=20).for_each(|seq| producer.write(world.ring(), &entry(seq)));
    producer.commit(world.ring(), 20);
    world
}

#[test]
fn a_new_session_and_silence_start_again_at_received() {
    let mut w = plain();
    let ring = Ring { head: &w.words[0], tail: &w.words[1], slots: &w.words[2..] };
    let mut turn = |peer: Peer, now| {
        let n = w.sender.turn(&mut w.carrier, &peer, ring, (0, 20), now).unwrap();
        w.carrier.queue.clear();
        n
    };
    assert_eq!(turn(peer(7, 4, State::Running), 0), 16, "E1: from received");
    assert_eq!(turn(peer(7, 4, State::Running), PATIENCE_NS - 1), 0);
    assert_eq!(turn(peer(7, 4, State::Running), PATIENCE_NS), 16, "E2: go back");
    assert_eq!(turn(peer(7, 4, State::DiskFull), 9 * PATIENCE_NS), 0, "E2: not while the disk is full");
    assert_eq!(turn(peer(8, 4, State::DiskFull), 9 * PATIENCE_NS), 16, "E1: another life");
}

#[test]
fn a_full_carrier_is_tried_again_and_only_stat_jumps() {
    let mut w = plain();
    let ring = Ring { head: &w.words[0], tail: &w.words[1], slots: &w.words[2..] };
    w.carrier.queue = vec![vec![]; 5].into();
    let mut turn = |sender: &mut Sender, tail| {
        sender.turn(&mut w.carrier, &peer(1, 4, State::Running), ring, (tail, 20), 0).unwrap()
    };
    assert_eq!((turn(&mut w.sender, 0), w.sender.sent()), (8, 12), "E5: one message fits");
    let (mut log, mut stat) = (Sender::new(ADDRESS, false), Sender::new(ADDRESS, true));
    w.carrier.queue.clear();
    let mut turn = |sender: &mut Sender| {
        sender.turn(&mut w.carrier, &peer(1, 4, State::Running), ring, (10, 20), 0).unwrap()
    };
    assert_eq!((turn(&mut log), turn(&mut stat)), (0, 10), "E8: stat reads 5..=10 in the record");
}

#[test]
fn a_damaged_slot_becomes_corrupt_and_a_forged_entry_does_not() {
    let mut w = plain();
    w.words[2 + WORDS + 1].store(99, std::sync::atomic::Ordering::Relaxed); // slot of entry 1
    let ring = Ring { head: &w.words[0], tail: &w.words[1], slots: &w.words[2..] };
    let truth = Truth { ring, head: 20, tail: 0, is_sure: true };
    let mut out = Vec::new();
    w.receiver.message(&entry(1).to_bytes(), &truth, &mut out);
    w.receiver.message(&Entry::sample(2, 1, 0, 0, 9).to_bytes(), &truth, &mut out);
    w.receiver.message(&entry(2).to_bytes(), &truth, &mut out);
    assert_eq!(out, [Entry::corrupt(1, 1).to_bytes(), entry(2).to_bytes()].concat());
    assert_eq!((w.receiver.refused().corrupt, w.receiver.refused().injected), (1, 1));
}

/// Which seqs are accepted is said by `head` alone: where nothing speaks for it, a bad slot proves no accepted entry.
#[test]
fn a_garbled_head_makes_no_corrupt_entries() {
    let mut w = plain();
    let ring = Ring { head: &w.words[0], tail: &w.words[1], slots: &w.words[2..] };
    let truth = Truth { ring, head: 60, tail: 0, is_sure: false };
    let (mut out, mut receiver) = (Vec::new(), Receiver::new(1, 21));
    receiver.message(&entry(21).to_bytes(), &truth, &mut out);
    assert_eq!((out.len(), receiver.next(), receiver.refused().corrupt), (0, 21, 0));
    receiver.message(&entry(21).to_bytes(), &Truth { is_sure: true, ..truth }, &mut out);
    assert_eq!((receiver.next(), receiver.refused().corrupt), (22, 1));
    w.receiver.message(&entry(1).to_bytes(), &truth, &mut out);
    assert_eq!(w.receiver.next(), 2, "a slot that holds it is enough");
}

/// What the sender has skipped stat reads in the record; only a true entry makes it jump, and only while none waits.
#[test]
fn stat_jumps_to_a_true_entry_only() {
    let w = plain();
    let ring = Ring { head: &w.words[0], tail: &w.words[1], slots: &w.words[2..] };
    let truth = Truth { ring, head: 20, tail: 0, is_sure: false };
    let (mut out, mut stat) = (Vec::new(), Receiver::jumping(1, 1));
    stat.message(&Entry::sample(9, 1, 0, 0, -1).to_bytes(), &truth, &mut out);
    assert_eq!((out.len(), stat.next()), (0, 1), "forged");
    stat.message(&[entry(9).to_bytes(), entry(10).to_bytes()].concat(), &truth, &mut out);
    assert_eq!((out.len() / LEN, stat.next()), (2, 11));
    stat.message(&entry(15).to_bytes(), &truth, &mut out);
    assert_eq!(
        (out.len() / LEN, stat.next(), stat.refused().gap),
        (2, 11, 2),
        "9 and 10 wait: no hole behind them"
    );
}
