//! Entries that came by a carrier and are not folded yet: they wait here until they are durable.
#![forbid(unsafe_code)]

use std::time::Duration;

use ipc_pipeline::carrier::Listening;
use ipc_pipeline::daemon::{self, Context, Failure, Remade};
use ipc_pipeline::edge::{Receiver, Refused, TURN_BYTES, Truth};
use ipc_pipeline::entry::LEN;
use ipc_pipeline::names::Role;
use ipc_pipeline::spool::SpoolReader;
use ipc_pipeline::sys::Map;

/// So many entries wait at most, 2 MiB; what does not find room is read in the record.
const ROOM: usize = 65_536 * LEN;

/// The edge from conv, if it is not the spool itself.
pub struct Carried {
    listening: Listening,
    edge: Receiver,
    /// Record and epoch that the entries belong to.
    of: (u64, u32),
    /// In order and without gap; the last one is `edge.next() - 1`. Those before `from` bytes are folded.
    entries: Vec<u8>,
    from: usize,
    message: Vec<u8>,
    /// There is a spool to compare with, so what comes is taken out.
    can_judge: bool,
    count: u64,
}

impl Carried {
    /// Listens where the configuration says; `None` for `shm:`.
    pub fn open(context: &Context) -> Result<Option<Carried>, Failure> {
        let listening = Listening::open(&context.names, Role::Stat, context.config.edge.stat);
        Ok(listening.map_err(daemon::unheard)?.map(|listening| Carried {
            listening,
            edge: Receiver::jumping(0, 1),
            of: (0, 0),
            entries: Vec::new(),
            from: 0,
            message: vec![0; TURN_BYTES],
            can_judge: false,
            count: 0,
        }))
    }

    /// Rule E4.
    pub fn look(&mut self, remade: &mut Remade) -> Result<(), Failure> {
        remade.note_listening(self.listening.look().map_err(daemon::unheard)?);
        Ok(())
    }

    /// Nothing of another record or epoch counts any more: waits for the entry behind `folded`. True: it was so.
    pub fn begin(&mut self, of: (u64, u32), folded: u64) -> bool {
        let anew = self.of != of;
        if anew {
            self.of = of;
            self.forget(folded);
        }
        anew
    }

    /// What was folded another way need not wait.
    pub fn skip_to(&mut self, folded: u64) {
        if folded >= self.edge.next() {
            self.forget(folded);
        }
    }

    fn forget(&mut self, folded: u64) {
        self.edge.go_to(self.of.1, folded + 1);
        self.entries.clear();
        self.from = 0;
    }

    /// Takes what has come, as far as it is what the spool holds and there is room. Without a spool it stays in the carrier.
    pub fn receive(&mut self, spool: Option<&SpoolReader<Map>>) {
        let Some(spool) = spool.filter(|spool| spool.head() > 0) else {
            self.can_judge = false;
            return;
        };
        self.can_judge = true;
        if self.waiting() >= ROOM {
            return;
        }
        self.entries.drain(..self.from);
        self.from = 0;
        let before = self.entries.len();
        let truth = || Truth { head: spool.head(), tail: spool.tail(), ring: spool.ring(), is_sure: false };
        self.edge.turn(self.listening.inlet(), &mut self.message, truth, ROOM, &mut self.entries);
        self.count += ((self.entries.len() - before) / LEN) as u64;
    }

    /// Bytes that wait.
    fn waiting(&self) -> usize {
        self.entries.len() - self.from
    }

    /// Does nothing wait to become durable?
    pub fn is_empty(&self) -> bool {
        self.waiting() == 0
    }

    /// Puts entries `next ..` into `out`, at most `wanted`; how many.
    pub fn read(&mut self, next: u64, wanted: usize, out: &mut Vec<u8>) -> usize {
        out.clear();
        let first = self.edge.next() - (self.waiting() / LEN) as u64;
        let Some(skipped) = next.checked_sub(first) else { return 0 };
        let from = self.from.saturating_add((skipped as usize).saturating_mul(LEN));
        let left = self.entries.get(from..).unwrap_or_default();
        let taken = left.len().min(wanted * LEN);
        out.extend_from_slice(&left[..taken]);
        self.from = (from + taken).min(self.entries.len());
        taken / LEN
    }

    /// Highest seq that has come.
    pub fn received(&self) -> u64 {
        self.edge.next() - 1
    }

    /// How many entries came this way, and what was refused.
    pub fn counts(&self) -> (u64, Refused) {
        (self.count, self.edge.refused())
    }

    /// Sleeps until something comes, at most for `limit`. False: that cannot be waited for, or it would not be taken.
    pub fn wait(&self, limit: Duration) -> bool {
        let can_wait = self.can_judge && self.listening.can_wait();
        if can_wait {
            self.listening.wait(limit);
        }
        can_wait
    }
}
