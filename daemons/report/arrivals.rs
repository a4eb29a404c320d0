//! The newest snapshot, as it comes: read in the register, or carried and then compared with it.
#![forbid(unsafe_code)]

use std::time::Duration;

use ipc_pipeline::carrier::Listening;
use ipc_pipeline::daemon::{self, Context, Failure, Remade};
use ipc_pipeline::edge::TURN_BYTES;
use ipc_pipeline::names::Role;
use ipc_pipeline::publisher::LOOK_NS;
use ipc_pipeline::register::RegisterReader;
use ipc_pipeline::ring;
use ipc_pipeline::segment::Shm;
use ipc_pipeline::snapshot::{self, ROW_LEN, Snapshot};
use ipc_pipeline::sys;

/// Where snapshots come from.
pub struct Arrivals {
    register: RegisterReader<Shm>,
    carried: Option<Carried>,
}

/// The edge from stat, if it is not the register itself.
struct Carried {
    listening: Listening,
    message: Vec<u8>,
    /// What has come and is not yet put together.
    rest: Vec<u8>,
    /// Rows of one version, from its first one on.
    rows: Vec<u8>,
    newest: Option<Snapshot>,
    refused: u64,
    /// What the register said at the last look, and how often in a row it had not come by the next one.
    awaited: u64,
    late: u32,
}

/// After so many looks in vain a snapshot is read in the register: whoever holds the carrier does not hold report up.
const LATE_MAX: u32 = 5;

impl Arrivals {
    /// As the configuration says.
    pub fn open(context: &Context) -> Result<Arrivals, Failure> {
        let listening = Listening::open(&context.names, Role::Report, context.config.edge.report);
        let carried = listening.map_err(daemon::unheard)?.map(|listening| Carried {
            listening,
            message: vec![0; TURN_BYTES],
            rest: Vec::new(),
            rows: Vec::new(),
            newest: None,
            refused: 0,
            awaited: 0,
            late: 0,
        });
        let register = RegisterReader::new(context.shm.clone(), &context.names.snapshot());
        Ok(Arrivals { register, carried })
    }

    /// Rule E4.
    pub fn look(&mut self, remade: &mut Remade) -> Result<(), Failure> {
        self.register.look();
        if let Some(carried) = &mut self.carried {
            remade.note_listening(carried.listening.look().map_err(daemon::unheard)?);
            carried.look_at_register(&self.register);
        }
        Ok(())
    }

    /// Is there a register? Without it nothing that comes can be believed.
    pub fn is_there(&self) -> bool {
        self.register.is_there()
    }

    /// Takes what has come by the carrier.
    pub fn receive(&mut self) {
        if let Some(carried) = self.carried.as_mut().filter(|_| self.register.is_there()) {
            carried.receive(&self.register);
        }
    }

    /// At the end nothing more comes: whatever the carrier, stat's last word is in the register.
    pub fn last_word(&mut self) {
        let last = self.register.read();
        if let Some(carried) = self.carried.as_mut().filter(|_| last.is_some()) {
            carried.newest = last;
        }
    }

    /// Number of the newest snapshot; 0: none.
    pub fn version(&self) -> u64 {
        match &self.carried {
            Some(carried) => carried.has_come(),
            None => self.register.version(),
        }
    }

    /// The newest snapshot.
    pub fn read(&self) -> Option<Snapshot> {
        match &self.carried {
            Some(carried) => carried.newest.clone(),
            None => self.register.read(),
        }
    }

    /// Snapshots and bytes that came and were not what stat has said.
    pub fn refused(&self) -> u64 {
        self.carried.as_ref().map_or(0, |carried| carried.refused)
    }

    /// Sleeps until there is another snapshot than `seen`, at most until `until`; `waiting` is our flag for who publishes.
    pub fn wait(&mut self, seen: u64, waiting: &std::sync::atomic::AtomicU64, now: u64, until: u64) {
        let limit = Duration::from_nanos(until.saturating_sub(now));
        // What comes before there is a register stays where it is: it would wake us again and again.
        let (is_there, version) = (self.is_there(), self.register.version());
        if let Some(carried) = self.carried.as_mut().filter(|_| is_there) {
            // A carrier that cannot be waited for brings what has been published.
            if carried.listening.can_wait() || carried.has_come() < version {
                return carried.listening.wait(limit);
            }
        }
        let known = if self.carried.is_some() { version } else { seen };
        match self.register.version_word() {
            Some(word) if ring::may_sleep(waiting, word, known, || ()) => sys::wait(word, known, limit),
            Some(_) => {}
            None => sys::sleep_until(until.min(now + LOOK_NS / 2)),
        }
        ring::awake(waiting);
    }
}

impl Carried {
    /// Number of the newest snapshot that has come; 0: none.
    fn has_come(&self) -> u64 {
        self.newest.as_ref().map_or(0, |newest| newest.version)
    }

    /// What has been said a while ago and does not come is read where it was said.
    fn look_at_register(&mut self, register: &RegisterReader<Shm>) {
        self.late = if self.has_come() < self.awaited { self.late + 1 } else { 0 };
        if self.late > LATE_MAX {
            self.newest = register.read().or(self.newest.take());
            self.late = 0;
        }
        self.awaited = register.version();
    }

    /// Drains the carrier: the newest wins.
    fn receive(&mut self, register: &RegisterReader<Shm>) {
        // Garbage is endless, a turn is not: the largest snapshot and a little more.
        let mut seen = 0;
        while seen < 2 * TURN_BYTES {
            let n = self.listening.inlet().recv(&mut self.message);
            if n == 0 {
                return;
            }
            seen += n;
            self.rest.extend_from_slice(&self.message[..n]);
            self.put_together(register);
            if self.listening.inlet().keeps_messages() {
                self.refused += u64::from(!self.rest.is_empty());
                self.rest.clear();
            }
        }
    }

    /// Takes the whole rows of what has come. What is none is passed over byte by byte.
    fn put_together(&mut self, register: &RegisterReader<Shm>) {
        let (mut at, mut strange) = (0, false);
        while let Some(row) = self.rest.get(at..at + ROW_LEN) {
            match snapshot::version_of(row) {
                Some(version) => {
                    let row: [u8; ROW_LEN] = std::array::from_fn(|i| row[i]);
                    self.add(version, &row, register);
                    at += ROW_LEN;
                }
                None => {
                    strange = true;
                    at += 1;
                }
            }
        }
        self.refused += u64::from(strange);
        self.rest.drain(..at);
    }

    /// One more row: if its snapshot is whole now, it is compared with what stat itself has said.
    fn add(&mut self, version: u64, row: &[u8], register: &RegisterReader<Shm>) {
        if snapshot::version_of(&self.rows) != Some(version) {
            self.rows.clear();
        }
        self.rows.extend_from_slice(row);
        if self.rows.len() < snapshot::rows_in(&self.rows).clamp(1, snapshot::ROWS_MAX) * ROW_LEN {
            return;
        }
        let whole = Snapshot::decode(&self.rows).ok();
        self.rows.clear();
        match whole {
            Some(snapshot) if register.holds(&snapshot) => {
                // One that came late, or once more, does not take the place of a newer one that still stands.
                let newer = self.newest.as_ref().filter(|newest| newest.version > snapshot.version);
                if newer.is_none_or(|newer| !register.holds(newer)) {
                    self.newest = Some(snapshot);
                }
            }
            // Too late to be compared: a newer one is on its way.
            Some(snapshot) if register.version() > snapshot.version => {}
            _ => self.refused += 1,
        }
    }
}
