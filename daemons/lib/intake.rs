//! log's side of the spool: which spool to read, up to where, and when a new epoch may begin.
//!
//! Like [`crate::publisher`] it sees names only through [`Segments`], so a simulation drives it.
#![forbid(unsafe_code)]

use std::sync::atomic::AtomicU64;

use crate::edge::{Inlet, Receiver, Refused, TURN_BYTES, Truth};
use crate::entry::{Entry, LEN};
use crate::page::{PeerPage, Proposal, State};
use crate::publisher::SegmentNames;
use crate::ring;
use crate::segment::{Access, Memory, Segments};
use crate::spool::{CAPACITY_MIN, SpoolReader};

/// What the intake has met, for the counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Met {
    /// Slots that held no valid entry although accepted: a CORRUPT entry stands in their place.
    pub corrupt: u64,
    /// Times that another spool took the place of the one being read.
    pub moved: u64,
}

/// Reads entries `next ..` of one record from whatever spool conv keeps.
pub struct Intake<S: Segments> {
    segments: S,
    names: SegmentNames,
    log_id: u64,
    /// The epoch granted; nothing of a lower one is taken.
    epoch: u32,
    next: u64,
    conv: PeerPage<S>,
    spool: Option<SpoolReader<S::Mem>>,
    /// The spool that has the name now. Once it is seen, the head of the one before it is final.
    successor: Option<SpoolReader<S::Mem>>,
    foreign: Option<Foreign>,
    met: Met,
    /// What comes by a carrier, if one is used.
    edge: Receiver,
    message: Vec<u8>,
    taken: Vec<u8>,
}

/// A spool under our name that is not of our record, or knows of durable entries that our record does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// Record of the spool.
    pub log_id: u64,
    /// Highest seq it knows to be durable.
    pub tail: u64,
    /// Its highest accepted seq.
    pub head: u64,
}

impl<S: Segments + Clone> Intake<S> {
    /// `next` is the first seq that the record `log_id` does not have; `epoch` is the last one granted (0: none).
    pub fn new(segments: S, names: SegmentNames, log_id: u64, epoch: u32, next: u64) -> Intake<S> {
        let conv = PeerPage::new(segments.clone(), &names.pages[0], 0);
        let (spool, successor, foreign, met) = (None, None, None, Met::default());
        let (edge, message, taken) = (Receiver::new(epoch, next), Vec::new(), Vec::new());
        let mut intake = Intake {
            segments,
            names,
            log_id,
            epoch,
            next,
            conv,
            spool,
            successor,
            foreign,
            met,
            edge,
            message,
            taken,
        };
        intake.look();
        intake
    }

    /// Rule E4: what do the names lead to now? To be called at every look.
    pub fn look(&mut self) {
        self.conv.look();
        self.follow();
    }

    /// Maps what the spool's name leads to. False: there is something that cannot be opened now (no descriptors, no
    /// memory), so nobody knows what it holds.
    fn follow(&mut self) -> bool {
        let known = [&self.successor, &self.spool].into_iter().flatten();
        if known.into_iter().any(|s| self.segments.is_current(&self.names.spool, s.memory())) {
            return true;
        }
        let memory = self.segments.open(&self.names.spool, Access::Read);
        let Some(memory) = memory else {
            self.foreign = None;
            return !self.segments.exists(&self.names.spool);
        };
        match SpoolReader::new(memory) {
            Some(found) if self.spool.is_none() => self.attach(found),
            Some(found) => self.succeed(found),
            None => {} // no spool at all: neither conv nor log can make anything of it
        }
        true
    }

    fn attach(&mut self, found: SpoolReader<S::Mem>) {
        self.foreign = None;
        let (header, tail) = (*found.header(), found.tail());
        // With the grant's mark lost, a spool that begins exactly where the record ends can only be the granted one.
        let granted = header.epoch == self.epoch || header.epoch > self.epoch && header.base == self.next;
        // Any other later epoch, or a tail beyond our end: our record has lost what it once had. Not so in a spool of an
        // earlier epoch: it is over, and what the record does not have of it was given up and counted.
        let lost = header.epoch >= self.epoch && (tail >= self.next || !granted);
        if header.log_id != self.log_id || lost {
            self.foreign = Some(Foreign { log_id: header.log_id, tail, head: found.head() });
        } else if granted {
            self.epoch = header.epoch;
            self.spool = Some(found);
        }
    }

    fn succeed(&mut self, found: SpoolReader<S::Mem>) {
        let header = found.header();
        if header.log_id == self.log_id && header.epoch == self.epoch {
            self.successor = Some(found);
        }
    }

    /// Copies the next entries into `out` (a multiple of 32 bytes); returns how many. 0: nothing new.
    pub fn take(&mut self, out: &mut [u8]) -> usize {
        let n = self.read(out);
        if n == 0 && self.successor.is_some() {
            // The old spool is read to its final head: go on in the one that has its name.
            self.spool = self.successor.take();
            self.met.moved += 1;
            return self.read(out);
        }
        n
    }

    fn read(&mut self, out: &mut [u8]) -> usize {
        let Some(spool) = &self.spool else { return 0 };
        let head = spool.head();
        if head < self.next {
            return 0;
        }
        let room = (out.len() / LEN).min((head - self.next + 1) as usize);
        let mut n = ring::copy_valid(spool.ring(), self.next, self.epoch, &mut out[..room * LEN]);
        // An accepted slot that holds nothing valid was damaged. A garbled head would say the same of slots that were
        // never accepted, but no position then speaks for them.
        if n == 0 && room > 0 && spool.position().is_some() {
            out[..LEN].copy_from_slice(&Entry::corrupt(self.next, self.epoch).to_bytes());
            self.met.corrupt += 1;
            n = 1;
        }
        self.next += n as u64;
        n
    }

    /// The same for what has come by a carrier: as far as it is what the spool holds. Entries of a spool that is not there
    /// stay in the carrier.
    pub fn receive(&mut self, inlet: &mut dyn Inlet, out: &mut [u8]) -> usize {
        if self.drained_here() && self.successor.is_some() {
            self.spool = self.successor.take();
            self.met.moved += 1;
        }
        let Some(spool) = self.spool.as_ref().filter(|spool| spool.head() > 0) else { return 0 };
        let enough = out.len().saturating_sub(TURN_BYTES + LEN);
        let truth = || Truth {
            // Loaded after the bytes came: whoever sent them had accepted them.
            head: spool.head(),
            tail: spool.tail(),
            ring: spool.ring(),
            is_sure: spool.position().is_some(),
        };
        self.message.resize(TURN_BYTES, 0);
        self.taken.clear();
        self.edge.go_to(self.epoch, self.next);
        self.edge.turn(inlet, &mut self.message, truth, enough, &mut self.taken);
        let n = self.taken.len() / LEN;
        if let Some(to) = out.get_mut(..self.taken.len()) {
            to.copy_from_slice(&self.taken);
            self.next += n as u64;
        }
        n
    }

    /// What was refused of what came by the carrier.
    pub fn refused(&self) -> Refused {
        self.edge.refused()
    }

    /// Is the entry that comes next accepted, and its slot damaged? Then what is sent of it is damaged too, and no carrier brings
    /// it ever.
    pub fn next_is_damaged(&self) -> bool {
        let accepted = self.spool.as_ref().filter(|spool| spool.head() >= self.next);
        accepted
            .is_some_and(|spool| ring::copy_valid(spool.ring(), self.next, self.epoch, &mut [0; LEN]) == 0)
    }

    /// Does conv ask for a new epoch? Then nobody sends what the old one holds.
    pub fn is_asked(&self) -> bool {
        self.conv.get().and_then(|page| page.proposal()).is_some_and(|asked| asked.epoch > self.epoch)
    }

    /// conv asks for a new epoch, and all that the old one holds has been taken. The caller makes the record durable,
    /// then the grant, and then calls [`Intake::granted`].
    pub fn proposal(&mut self) -> Option<Proposal> {
        let asked = self.conv.get()?.proposal().filter(|p| p.epoch > self.epoch)?;
        // Whoever proposes has retired the old spool before: what it holds now is final. The last look may have been
        // before it got its name.
        let known = self.follow();
        (known && self.drained() && self.foreign.is_none()).then_some(asked)
    }

    /// The grant of this epoch is on disk: from now on nothing of a lower one is taken.
    pub fn granted(&mut self, epoch: u32) {
        self.epoch = epoch;
        (self.spool, self.successor) = (None, None);
    }

    /// Goes back to `next`: what was taken beyond it did not reach the disk.
    pub fn rewind(&mut self, next: u64) {
        self.next = next;
    }

    /// The next seq to be taken.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The epoch in force (0: none).
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Highest accepted seq, as far as can be seen.
    pub fn head(&self) -> u64 {
        let of = |spool: &Option<SpoolReader<S::Mem>>| spool.as_ref().map_or(0, SpoolReader::head);
        of(&self.spool).max(of(&self.successor)).max(self.next - 1)
    }

    /// Everything accepted has been taken, as far as can be seen.
    pub fn drained(&self) -> bool {
        self.drained_here() && self.successor.is_none()
    }

    /// A head that was garbled speaks of entries that there never were: no position then fits it, and no slot holds the next one.
    fn drained_here(&self) -> bool {
        self.spool.as_ref().is_none_or(|spool| {
            spool.head() < self.next || spool.position().is_none() && !self.holds_next(spool)
        })
    }

    fn holds_next(&self, spool: &SpoolReader<S::Mem>) -> bool {
        ring::copy_valid(spool.ring(), self.next, self.epoch, &mut [0; LEN]) > 0
    }

    /// Slots of the spool; without one the smallest there can be.
    pub fn capacity(&self) -> u64 {
        self.spool.as_ref().map_or(CAPACITY_MIN, |s| s.header().capacity)
    }

    /// How things stand.
    pub fn state(&self) -> State {
        match (&self.spool, &self.foreign) {
            (Some(spool), _) if spool.head() == 0 => State::NoSpool,
            (Some(_), _) => State::Running,
            (None, Some(_)) => State::ForeignLog,
            (None, None) => State::WaitingForConv,
        }
    }

    /// The spool that is not ours, if that is what stands under the name.
    pub fn foreign(&self) -> Option<Foreign> {
        self.foreign
    }

    /// conv's page.
    pub fn conv(&self) -> &PeerPage<S> {
        &self.conv
    }

    /// Generation of the spool being read; 0: none. To be shown in log's page: conv accepts nothing in a spool before
    /// log has it mapped, so that losing its name and conv together loses nothing.
    pub fn mapped(&self) -> u64 {
        self.spool.as_ref().map_or(0, SpoolReader::generation)
    }

    /// The commit word to sleep on.
    pub fn head_word(&self) -> Option<&AtomicU64> {
        self.spool.as_ref().map(SpoolReader::head_word)
    }

    /// What has been met so far.
    pub fn met(&self) -> Met {
        self.met
    }
}

/// The spool as stat reads it: whatever is overwritten there is in the record.
pub fn read_window<M: Memory>(spool: &SpoolReader<M>, from: u64, epoch: u32, out: &mut [u8]) -> usize {
    let head = spool.head();
    if head < from || spool.tail() >= from {
        return 0;
    }
    let room = (out.len() / LEN).min((head - from + 1) as usize);
    let n = ring::copy_valid(spool.ring(), from, epoch, &mut out[..room * LEN]);
    // Only slots of seq <= tail may have been overwritten while we copied: if that reaches into the copy, forget it all.
    if ring::overwritten(spool.ring()) >= from { 0 } else { n }
}
