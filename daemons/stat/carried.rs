//! Entries that came by a carrier and are not folded yet: they wait here until they are durable.
//!
//! What waits was right when it came. It is folded only if its slot in the spool still says the same: else log may have met a
//! damaged slot meanwhile, and only the record says what became of the entry (P2).
#![forbid(unsafe_code)]

use std::time::Duration;

use ipc_pipeline::carrier::Listening;
use ipc_pipeline::daemon::{self, Context, Failure, Remade};
use ipc_pipeline::edge::{Receiver, Refused, TURN_BYTES, Truth};
use ipc_pipeline::entry::LEN;
use ipc_pipeline::intake::read_window;
use ipc_pipeline::names::Role;
use ipc_pipeline::spool::SpoolReader;
use ipc_pipeline::sys::{self, Map};

/// So many entries wait at most, 2 MiB; what does not find room is read in the record.
const ROOM: usize = 65_536 * LEN;
/// As much at once, or in pieces with less than a slice between two, says that more is to come: the smallest full message.
const MUCH: usize = 4096;
/// For so long after that the carrier is waited for, though entries wait to become durable.
const SLICE: Duration = Duration::from_millis(5);

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
    count: u64,
    /// Bytes that came since they were last asked for.
    came: usize,
    /// Until then more is to come at once, CLOCK_MONOTONIC ns.
    fast_until: u64,
    /// Could what has come be compared with a spool the last time? If not, it stays in the carrier.
    is_read: bool,
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
            count: 0,
            came: 0,
            fast_until: 0,
            is_read: false,
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

    /// Takes what has come, as far as it is what the spool holds and there is room.
    pub fn receive(&mut self, spool: Option<&SpoolReader<Map>>) {
        let spool = spool.filter(|spool| spool.head() > 0);
        self.is_read = spool.is_some();
        let Some(spool) = spool.filter(|_| self.waiting() < ROOM) else { return };
        self.entries.drain(..self.from);
        self.from = 0;
        let before = self.entries.len();
        let truth = || Truth { head: spool.head(), tail: spool.tail(), ring: spool.ring(), is_sure: false };
        self.edge.turn(self.listening.inlet(), &mut self.message, truth, ROOM, &mut self.entries);
        self.came += self.entries.len() - before;
        self.count += ((self.entries.len() - before) / LEN) as u64;
    }

    /// Bytes that wait.
    fn waiting(&self) -> usize {
        self.entries.len() - self.from
    }

    /// Puts entries `next ..` into `out`, at most `wanted`, as far as `spool` still holds the same; how many.
    pub fn read(
        &mut self,
        next: u64,
        wanted: usize,
        spool: Option<&SpoolReader<Map>>,
        out: &mut Vec<u8>,
    ) -> usize {
        out.clear();
        let first = self.edge.next() - (self.waiting() / LEN) as u64;
        let Some(skipped) = next.checked_sub(first) else { return 0 };
        let from = self.from.saturating_add((skipped as usize).saturating_mul(LEN));
        let left = self.entries.get(from..).unwrap_or_default();
        let came = left.get(..left.len().min(wanted * LEN)).unwrap_or_default();
        out.resize(came.len(), 0);
        let held = spool.map_or(0, |spool| read_window(spool, next, self.of.1, out));
        let pairs = out.as_chunks::<LEN>().0.iter().zip(came.as_chunks::<LEN>().0);
        let taken = pairs.take(held).take_while(|(held, came)| held == came).count();
        out.truncate(taken * LEN);
        self.from = (from + taken * LEN).min(self.entries.len());
        taken
    }

    /// Highest seq that has come.
    pub fn received(&self) -> u64 {
        self.edge.next() - 1
    }

    /// How many entries came this way, and what was refused.
    pub fn counts(&self) -> (u64, Refused) {
        (self.count, self.edge.refused())
    }

    /// Sleeps until something comes, at most for `limit`. Or says how long to wait for what becomes durable instead. What comes
    /// fast is waited for here, for the carrier would be full in no time; for what comes slowly a look now and then will do.
    pub fn wait(&mut self, limit: Duration) -> Option<Duration> {
        let now = sys::monotonic_ns();
        if self.came >= MUCH {
            self.came = 0;
            self.fast_until = now + SLICE.as_nanos() as u64;
        }
        if !self.is_read || self.waiting() >= ROOM {
            return Some(limit);
        }
        if now < self.fast_until {
            self.listening.wait(limit.min(SLICE));
            return None;
        }
        if self.waiting() == 0 && self.listening.can_wait() {
            self.listening.wait(limit);
            return None;
        }
        let came = std::mem::take(&mut self.came);
        Some(if came > 0 { limit.min(SLICE) } else { limit })
    }
}
