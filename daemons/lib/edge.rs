//! The rules of an edge that is not the spool itself: what to send, what to believe (docs/architecture.md, "Edges and their carriers").
//!
//! Carriers are dumb: they may lose, repeat, reorder, tear or forge. The truth is in the spool, which both ends see; an
//! edge only saves the receiver from looking there for what has not changed. So every rule here needs no answer, no
//! acknowledgement and no memory that outlives its process. `shm:` is the spool itself and needs none of this: other
//! carriers are built on it.
#![forbid(unsafe_code)]

use std::os::fd::BorrowedFd;

use crate::entry::{Entry, LEN};
use crate::page::State;
use crate::ring::{self, Ring};

/// No progress of the receiver for this long, ns: go back and send again (E2).
pub const PATIENCE_NS: u64 = 60_000_000;
/// Bytes that a receiver takes from its carrier in one turn at most, so that garbage cannot hold it up (E3).
pub const TURN_BYTES: usize = 64 * 1024;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The carrier has all of it.
    Sent,
    /// No room now; nothing of it was taken. Try again in the next turn (E5).
    Full,
    /// The other end, or the object itself, is gone.
    Gone,
}

/// The sending end of a carrier: messages of whole entries (or rows) go in. No call ever blocks.
pub trait Outlet {
    /// Bytes in one message at most.
    fn message_max(&self) -> usize;
    /// Bytes that may be on the way at once, where the carrier would rather drop a message than say that it is full.
    fn window(&self) -> Option<u64> {
        None
    }
    /// Gives one message to the carrier: all of it or nothing.
    fn send(&mut self, message: &[u8]) -> Sent;
    /// Where a message may be kept back in part (a stream): gives on what is left of the last one. Full: not all of it yet.
    fn flush(&mut self) -> Sent {
        Sent::Sent
    }
    /// Is the object that we hold no longer the one under the name (E4)?
    fn is_stale(&self) -> bool;
    /// What becomes writable when there is room again; `None`: that can only be tried.
    fn fd(&self) -> Option<BorrowedFd<'_>>;
}

/// The receiving end of a carrier. No call ever blocks.
pub trait Inlet {
    /// Is a message kept together (queue, datagram), or is this a stream of bytes?
    fn keeps_messages(&self) -> bool;
    /// Takes one message, or what has come of the stream, into `out` of at least [`TURN_BYTES`]; its length, 0 for nothing.
    fn recv(&mut self, out: &mut [u8]) -> usize;
    /// Is the object that we hold no longer the one under the name (E4)?
    fn is_stale(&self) -> bool;
    /// It is stale, and will not be used again: what does not vanish by itself without its name is removed.
    fn abandon(&self) {}
    /// What becomes readable when something comes; none of them: that can only be tried.
    fn fds(&self) -> [Option<BorrowedFd<'_>>; 2];
}

/// What the sender reads in the receiver's page.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'a> {
    /// Number of its life.
    pub session: u64,
    /// Highest seq it has.
    pub received: u64,
    /// What it is doing.
    pub state: Option<State>,
    /// Where it listens.
    pub address: &'a str,
}

/// conv's end: which entries go out next. `sent` is a guess that lives in this process only.
#[derive(Debug)]
pub struct Sender {
    address: String,
    /// stat may be overtaken by the spool and reads the rest from the record; log may not.
    may_jump: bool,
    session: Option<u64>,
    sent: u64,
    received: u64,
    moved_ns: u64,
    message: Vec<u8>,
}

impl Sender {
    /// Sends to whoever receives at `address`. `may_jump`: entries that left the spool are skipped (E8, stat only).
    pub fn new(address: &str, may_jump: bool) -> Sender {
        let address = address.into();
        Sender { address, may_jump, session: None, sent: 0, received: 0, moved_ns: 0, message: Vec::new() }
    }

    /// Does the receiver listen where we send (E7)? If not, nothing is sent, and one of the two must be restarted.
    pub fn is_right(&self, peer: &Peer) -> bool {
        peer.address == self.address
    }

    /// Highest seq sent, as far as we know.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Sends what fits and returns how many entries went out. `tail` and `head` are the spool's.
    pub fn turn(
        &mut self,
        outlet: &mut dyn Outlet,
        peer: &Peer,
        ring: Ring,
        (tail, head): (u64, u64),
        now_ns: u64,
    ) -> Result<u64, Gone> {
        if !self.is_right(peer) {
            return Ok(0);
        }
        self.follow(peer, tail, now_ns);
        let before = self.sent;
        let batch = (outlet.message_max() / LEN).max(1) as u64;
        let window = outlet.window().map_or(u64::MAX, |bytes| (bytes / LEN as u64).max(batch));
        // Below tail there is nothing to send; beyond head the peer's word makes no sense.
        while self.sent >= tail && self.sent < head && self.sent - peer.received.min(self.sent) < window {
            let count = batch.min(head - self.sent);
            self.message.resize(count as usize * LEN, 0);
            ring::copy(ring, self.sent + 1, &mut self.message);
            match outlet.send(&self.message) {
                Sent::Sent => self.sent += count,
                Sent::Full => break,
                Sent::Gone => return Err(Gone),
            }
        }
        Ok(self.sent - before)
    }

    fn follow(&mut self, peer: &Peer, tail: u64, now_ns: u64) {
        let another_life = self.session != Some(peer.session); // E1
        let moved = peer.received != self.received;
        if another_life || moved || self.sent <= peer.received {
            self.moved_ns = now_ns;
        }
        let busy = matches!(peer.state, Some(State::DiskFull | State::DiskSlow));
        let stuck = now_ns.saturating_sub(self.moved_ns) >= PATIENCE_NS && !busy; // E2
        if another_life || stuck || self.sent < peer.received {
            self.sent = peer.received;
            self.moved_ns = now_ns;
        }
        (self.session, self.received) = (Some(peer.session), peer.received);
        if self.may_jump {
            self.sent = self.sent.max(tail); // E8
        }
    }
}

/// The carrier's other end or its object is gone: reopen it (E4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the receiving end is gone; it is opened again as soon as its owner has remade it")]
pub struct Gone;

/// What a receiver has refused, for the counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// Came again.
    pub duplicate: u64,
    /// Came too early.
    pub gap: u64,
    /// Runs of bytes that are no entry of this epoch.
    pub bad: u64,
    /// Whole and in turn, but not what conv has accepted.
    pub injected: u64,
    /// Accepted, but the slot is damaged: CORRUPT was taken in its place.
    pub corrupt: u64,
}

/// The spool as the receiver sees it: it decides what is true (E6).
#[derive(Clone, Copy)]
pub struct Truth<'m> {
    /// Its slots.
    pub ring: Ring<'m>,
    /// Highest accepted seq, loaded after the bytes came.
    pub head: u64,
    /// Highest seq whose slot may hold something newer.
    pub tail: u64,
    /// Does a source position speak for `head`? If not, `head` may be garbled, and a bad slot proves no accepted entry.
    pub is_sure: bool,
}

/// log's or stat's end: takes an entry if it is whole, in turn, and what the spool says.
#[derive(Debug)]
pub struct Receiver {
    epoch: u32,
    next: u64,
    /// What a stream has brought of an entry so far.
    rest: Vec<u8>,
    /// The stream is out of step: only an entry with `seq == next` brings it back.
    lost: bool,
    may_jump: bool,
    refused: Refused,
}

impl Receiver {
    /// Waits for entry `next` of `epoch`.
    pub fn new(epoch: u32, next: u64) -> Receiver {
        Receiver { epoch, next, rest: Vec::new(), lost: false, may_jump: false, refused: Refused::default() }
    }

    /// Stat's end: what the sender has skipped (E8) is read in the record, so that the first entry taken into an empty `out` may
    /// be any one that the spool holds.
    pub fn jumping(epoch: u32, next: u64) -> Receiver {
        Receiver { may_jump: true, ..Receiver::new(epoch, next) }
    }

    /// What came another way need not come along the edge any more; what was taken and lost again must.
    pub fn go_to(&mut self, epoch: u32, next: u64) {
        (self.epoch, self.next) = (epoch, next);
    }

    /// What stands in the carrier, message or stream, is judged and appended to `out` as far as it is taken, until `out`
    /// holds `enough` bytes or nothing more has come. `buffer` has at least [`TURN_BYTES`]; `truth` is asked after each of them.
    pub fn turn<'m>(
        &mut self,
        inlet: &mut dyn Inlet,
        buffer: &mut [u8],
        truth: impl Fn() -> Truth<'m>,
        enough: usize,
        out: &mut Vec<u8>,
    ) {
        // Garbage is endless: what is refused ends the turn as well as what is taken.
        let mut seen = 0;
        while out.len() < enough && seen < enough {
            let n = inlet.recv(buffer);
            let Some(came) = buffer.get(..n).filter(|came| !came.is_empty()) else { return };
            seen += n;
            match inlet.keeps_messages() {
                true => self.message(came, &truth(), out),
                false => self.stream(came, &truth(), out),
            }
        }
    }

    /// The next seq to be taken; `received` is one less.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// What was refused so far.
    pub fn refused(&self) -> Refused {
        self.refused
    }

    /// Judges one message and appends what is taken to `out`.
    pub fn message(&mut self, message: &[u8], truth: &Truth, out: &mut Vec<u8>) {
        let mut left = message.get(self.take_true(message, truth, out)..).unwrap_or_default();
        while let Some((bytes, behind)) = left.split_first_chunk::<LEN>() {
            let (entry, next) = (Entry::from_bytes(bytes), self.next);
            if self.is_ours(&entry) {
                self.judge(&entry, truth, out)
            } else {
                self.refused.bad += 1
            }
            // In step again.
            let taken = if self.next == next { 0 } else { self.take_true(behind, truth, out) };
            left = behind.get(taken..).unwrap_or_default();
        }
        self.refused.bad += !left.is_empty() as u64;
    }

    /// Judges what has come of a stream, at most [`TURN_BYTES`] at a time, and appends what is taken to `out`.
    pub fn stream(&mut self, bytes: &[u8], truth: &Truth, out: &mut Vec<u8>) {
        let mut all = std::mem::take(&mut self.rest);
        all.extend_from_slice(bytes);
        let mut at = if self.lost { 0 } else { self.take_true(&all, truth, out) };
        while let Some(bytes) = all.get(at..).and_then(|b| b.first_chunk::<LEN>()) {
            let entry = Entry::from_bytes(bytes);
            if self.is_ours(&entry) && (!self.lost || entry.seq == self.next || self.may_jump) {
                self.lost = false;
                self.judge(&entry, truth, out);
                at += LEN;
            } else {
                self.refused.bad += !self.lost as u64;
                self.lost = true;
                at += 1;
            }
        }
        self.rest = all.split_off(at);
    }

    /// The way of nearly all: the bytes begin with what the spool has next. Takes that at once, and returns its length.
    fn take_true(&mut self, bytes: &[u8], truth: &Truth, out: &mut Vec<u8>) -> usize {
        if self.next <= truth.tail || self.next > truth.head {
            return 0;
        }
        let count = (truth.head - self.next + 1).min((bytes.len() / LEN) as u64);
        let before = out.len();
        out.resize(before + count as usize * LEN, 0);
        let valid = ring::copy_valid(truth.ring, self.next, self.epoch, &mut out[before..]);
        let pairs = out[before..].as_chunks::<LEN>().0.iter().zip(bytes.as_chunks::<LEN>().0);
        let same = pairs.take(valid).take_while(|(ours, theirs)| ours == theirs).count();
        out.truncate(before + same * LEN);
        self.next += same as u64;
        same * LEN
    }

    fn is_ours(&self, entry: &Entry) -> bool {
        entry.epoch == self.epoch && entry.is_whole()
    }

    fn judge(&mut self, entry: &Entry, truth: &Truth, out: &mut Vec<u8>) {
        if self.may_jump && out.is_empty() && entry.seq > self.next && entry.seq > truth.tail {
            let is_true = entry.seq <= truth.head && truth.ring.load(entry.seq) == *entry;
            self.next = if is_true { entry.seq } else { self.next };
        }
        match entry.seq {
            s if s < self.next => self.refused.duplicate += 1,
            s if s > self.next => self.refused.gap += 1,
            s if s > truth.head => self.refused.injected += 1,
            s if s <= truth.tail => {} // its slot may be another's by now: the record has it
            s => {
                let slot = truth.ring.load(s);
                if slot == *entry {
                    self.take(entry, out);
                } else if slot.seq == s && self.is_ours(&slot) {
                    self.refused.injected += 1;
                } else if truth.is_sure {
                    self.refused.corrupt += 1;
                    self.take(&Entry::corrupt(s, self.epoch), out);
                }
            }
        }
    }

    fn take(&mut self, entry: &Entry, out: &mut Vec<u8>) {
        out.extend_from_slice(&entry.to_bytes());
        self.next += 1;
    }
}
