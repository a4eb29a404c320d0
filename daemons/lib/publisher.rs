//! conv's side of the pipeline: the spool and its life, from the proposal of an epoch to the last entry.
//!
//! Pure in this sense: it sees names only through [`Segments`] and time only as an argument, so a simulation drives it.
#![forbid(unsafe_code)]

use std::sync::atomic::AtomicU64;

use crate::grid::to_whole_ns;
use crate::page::{Grant, OwnPage, PeerPage, Proposal, State};
use crate::ring;
use crate::segment::{Access, Memory, SegmentError, Segments};
use crate::spool::{Feed, Header, SpoolWriter, retire};

/// How often names are checked against what is mapped (rule E4) while there is something to do, ns.
pub const LOOK_NS: u64 = 100_000_000;
/// How long after a look a daemon that has nothing to do rests at most, ns: then it looks all the same. A bell ends the rest
/// at once, so this is what a lost bell costs. Looking every `LOOK_NS` at rest too would double the wake-ups.
pub const REST_NS: u64 = 200_000_000;

/// A record of log's that does not fit the spool is told of after so long, ns: a damaged page says the same, until its owner
/// makes it anew at the next look.
const FOREIGN_NS: u64 = 3 * LOOK_NS;

/// What the configuration says of the spool.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Entries, a power of two.
    pub capacity: u64,
    /// Identity of the configured source.
    pub source_id: u64,
    /// Period of its grid in ps; 0: none.
    pub period_ps: u64,
    /// Put ticks on whole multiples of the period since 1970, by the wall clock at the begin of the grid.
    pub align: bool,
}

impl Settings {
    /// The feed of these settings, beginning at `t_ns` of an epoch, when the wall clock shows `wall_ns`.
    pub fn feed(&self, t_ns: u64, wall_ns: u64) -> Feed {
        let wait_ns = if self.align { to_whole_ns(self.period_ps, wall_ns) } else { 0 };
        let origin_ns = t_ns.saturating_add(wait_ns);
        Feed { source_id: self.source_id, origin_ns, period_ps: self.period_ps, clock_ms: 0 }
    }
}

/// Names of the segments that conv needs.
#[derive(Clone, Debug)]
pub struct SegmentNames {
    /// The spool.
    pub spool: String,
    /// Pages by role number.
    pub pages: [String; 4],
}

/// Something that users should be told, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A new epoch has begun at this seq.
    Began {
        /// Its number.
        epoch: u32,
        /// seq of its first entry.
        base: u64,
    },
    /// An earlier life's spool is continued.
    Resumed {
        /// Its epoch.
        epoch: u32,
        /// Highest accepted seq.
        head: u64,
        /// How many of its entries are not known to be durable.
        at_risk: u64,
    },
    /// The spool has another size than the configuration says.
    OldCapacity {
        /// Its size.
        now: u64,
        /// The size configured.
        configured: u64,
    },
    /// The spool's name was gone; a copy has it now.
    Remade,
    /// There is an old spool that cannot be used; it was retired.
    Unusable,
    /// The spool belongs to another record than ipc-log's, or log's record has lost entries that were durable.
    Foreign {
        /// Record of the spool.
        spool: u64,
        /// Record of ipc-log.
        log: u64,
        /// Highest seq the spool knows to be durable.
        tail: u64,
        /// Highest durable seq of ipc-log.
        durable: u64,
    },
    /// ipc-log receives at another address than the one configured here (rule E7).
    WrongAddress {
        /// Where it receives.
        there: String,
        /// What is configured here.
        here: String,
    },
    /// A segment could not be made; it is tried again.
    Failed(String),
}

/// conv's end of the pipeline.
pub struct Publisher<S: Segments> {
    segments: S,
    names: SegmentNames,
    settings: Settings,
    page: OwnPage<S>,
    log: PeerPage<S>,
    spool: Option<SpoolWriter<S::Mem>>,
    /// There is an old spool that could not be opened yet.
    unread: bool,
    proposal: Option<Proposal>,
    epoch_seen: u32,
    nonce: u64,
    state: State,
    next_look: u64,
    /// A segment that could not be made is not tried again before this.
    retry_ns: u64,
    /// Where log must receive; `None`: not asked.
    log_address: Option<String>,
    /// It receives elsewhere.
    wrong_address: bool,
    /// log's record does not fit the spool since then (CLOCK_MONOTONIC, ns), and was it said?
    foreign: Option<(u64, bool)>,
    /// Does the bell fence by itself?
    fenced: bool,
    remade: u64,
    events: Vec<Event>,
}

impl<S: Segments + Clone> Publisher<S> {
    /// Takes its page and whatever usable spool an earlier life left. `nonce` must be another number in each life.
    pub fn start(
        segments: S,
        names: SegmentNames,
        settings: Settings,
        nonce: u64,
    ) -> Result<Publisher<S>, SegmentError> {
        let page = OwnPage::open(segments.clone(), &names.pages[0], 0)?;
        let log = PeerPage::new(segments.clone(), &names.pages[1], 1);
        let mut publisher = Publisher {
            segments,
            names,
            settings,
            page,
            log,
            spool: None,
            unread: false,
            proposal: None,
            epoch_seen: 0,
            nonce,
            state: State::Starting,
            next_look: 0,
            retry_ns: 0,
            log_address: None,
            wrong_address: false,
            foreign: None,
            fenced: true,
            remade: 0,
            events: Vec::new(),
        };
        publisher.resume();
        Ok(publisher)
    }

    /// A spool of an earlier life is continued if it can be trusted and log has not gone on to a later epoch.
    fn resume(&mut self) {
        let Some(memory) = self.segments.open(&self.names.spool, Access::Write) else {
            // It is there and cannot be opened now (no descriptors, no memory): to propose an epoch would give it up.
            self.unread = self.segments.exists(&self.names.spool);
            return;
        };
        self.unread = false;
        let old = Header::load(memory.words());
        self.epoch_seen = self.epoch_seen.max(old.map_or(0, |h| h.epoch));
        // Another record's epochs say nothing about this spool: `standing` finds it foreign, and nothing is thrown away.
        let log = self.log.get().filter(|p| old.is_some_and(|h| h.log_id == p.log_id()));
        let granted = log.map_or(0, |p| p.epoch());
        let usable = old.is_some_and(|h| h.epoch >= granted) && SpoolWriter::resume(&memory).is_some();
        if !usable {
            retire(memory.words()); // before anything is proposed: no later life may go on with it
            return self.events.push(Event::Unusable);
        }
        let Some(spool) = SpoolWriter::resume(memory) else { return };
        let (epoch, head) = (spool.header().epoch, spool.head());
        self.events.push(Event::Resumed { epoch, head, at_risk: head - spool.tail() });
        if spool.header().capacity != self.settings.capacity {
            let (now, configured) = (spool.header().capacity, self.settings.capacity);
            self.events.push(Event::OldCapacity { now, configured });
        }
        self.page.set_identity(spool.header().log_id, epoch);
        self.spool = Some(spool);
    }

    /// One turn: looks after names and peers, goes on with the handshake, and says how things stand. Entries may be
    /// pushed only while this says [`State::Running`] or [`State::Full`].
    pub fn turn(&mut self, now_ns: u64) -> State {
        if now_ns >= self.next_look {
            self.next_look = now_ns + LOOK_NS;
            self.look();
        }
        if self.unread {
            self.resume();
        }
        self.state = match &self.spool {
            Some(_) => self.standing(now_ns),
            None if self.unread => State::NoSpool,
            None => self.cold_start(now_ns),
        };
        self.page.set_state(self.state);
        self.page.set_beat(now_ns);
        self.state
    }

    /// May entries be pushed, by the last turn?
    pub fn accepts(&self) -> bool {
        matches!(self.state, State::Running | State::Full)
    }

    /// Looks after names and peers now: before the last entries of a life, as the next look may never come.
    pub fn look(&mut self) {
        match self.page.look() {
            Ok(remade) => self.remade += remade as u64,
            Err(e) => self.events.push(Event::Failed(e.to_string())),
        }
        self.log.look();
        self.check_address();
        self.remake_spool();
    }

    /// Rule E7: a receiver that listens elsewhere would never get what is sent here.
    fn check_address(&mut self) {
        let (Some(here), Some(log)) = (&self.log_address, self.log.get()) else { return };
        // What is no address at all is damage, which ipc-log mends at its next look.
        let Some(there) = log.address() else { return };
        let wrong = there != *here;
        if wrong && !self.wrong_address {
            self.events.push(Event::WrongAddress { there, here: here.clone() });
        }
        self.wrong_address = wrong;
    }

    /// From now on entries are accepted only while log receives at `address`.
    pub fn expect_address(&mut self, address: String) {
        self.log_address = Some(address);
        self.check_address();
    }

    /// The spool's name is gone while we live: a copy takes its place (same epoch, same head). What readers have mapped
    /// stays readable for them up to its final head.
    fn remake_spool(&mut self) {
        if self.spool.as_ref().is_some_and(|s| !self.segments.is_current(&self.names.spool, s.memory()))
            && self.move_spool()
        {
            self.events.push(Event::Remade);
        }
    }

    /// Another conv may still live, frozen in the middle of a store, and has the spool mapped: goes on in a copy, so that
    /// whatever that one does when it wakes is done to a retired spool.
    pub fn fence(&mut self) {
        self.move_spool();
    }

    /// A copy of the spool takes its name; what had it is retired. False: there is none, or it cannot be.
    fn move_spool(&mut self) -> bool {
        let Some(spool) = &mut self.spool else { return false };
        let words = spool.header().words();
        match self.segments.create(&self.names.spool, words, &mut |w| spool.copy_to(w)) {
            Ok(memory) => {
                spool.retire();
                spool.move_to(memory);
                self.remade += 1;
                true
            }
            Err(e) => {
                self.events.push(Event::Failed(e.to_string()));
                false
            }
        }
    }

    fn standing(&mut self, now_ns: u64) -> State {
        let (Some(spool), Some(log)) = (&self.spool, self.log.get()) else { return State::WaitingForLog };
        // 0: log is just starting. A moment between log's two stores of durable shows no value.
        let (header, log_id, Some(durable)) = (spool.header(), log.log_id(), log.durable()) else {
            return self.state;
        };
        if log_id != 0 && (log_id != header.log_id || durable < spool.tail()) {
            let event = Event::Foreign { spool: header.log_id, log: log_id, tail: spool.tail(), durable };
            let (since, told) = self.foreign.get_or_insert((now_ns, false));
            if !*told && now_ns.saturating_sub(*since) >= FOREIGN_NS {
                *told = true;
                self.events.push(event);
            }
            return State::ForeignLog;
        }
        self.foreign = None;
        if self.is_superseded() {
            return State::ForeignLog;
        }
        if self.wrong_address {
            return State::WrongAddress;
        }
        // An entry is accepted only in a spool that log has mapped: then the loss of its name together with conv loses
        // nothing. A log that died still shows what it had mapped, and conv goes on.
        if log.mapped() != spool.generation() {
            return State::WaitingForLog;
        }
        if self.room() > 0 { State::Running } else { State::Full }
    }

    /// Has log granted a later epoch than that of our spool, so that it takes nothing from it any more? So it is after
    /// `objects remove --abandon` was killed before it could remove the spool.
    pub fn is_superseded(&self) -> bool {
        let (Some(spool), Some(log)) = (&self.spool, self.log.get()) else { return false };
        let Header { log_id, epoch, .. } = *spool.header();
        // The checked grant, not the bare word: a spool is not given up for a damaged one.
        log.epoch() > epoch && log.log_id() == log_id && log.grant().is_some_and(|g| g.epoch == log.epoch())
    }

    /// No usable spool: log hands out the base of a new epoch (docs/architecture.md, "Cold start").
    fn cold_start(&mut self, now_ns: u64) -> State {
        let Some(log) = self.log.get().filter(|p| p.log_id() != 0) else { return State::WaitingForLog };
        let (log_id, granted, grant) = (log.log_id(), log.epoch(), log.grant());
        if let (Some(mine), Some(grant)) = (self.proposal, grant)
            && (grant.nonce, grant.epoch) == (mine.nonce, mine.epoch)
        {
            if now_ns >= self.retry_ns {
                self.begin_epoch(log_id, grant, now_ns);
            }
            return if self.spool.is_some() { self.standing(now_ns) } else { State::Starting };
        }
        if self.proposal.is_none_or(|mine| mine.epoch <= granted) {
            let epoch = granted.max(self.epoch_seen).saturating_add(1);
            self.epoch_seen = epoch;
            self.nonce = self.nonce.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1); // another one each time
            let proposal = Proposal { epoch, nonce: self.nonce };
            self.proposal = Some(proposal);
            self.page.set_proposal(proposal);
        }
        State::WaitingForLog
    }

    /// Everything that opens the epoch is in the private file: the rename publishes it all at once.
    fn begin_epoch(&mut self, log_id: u64, grant: Grant, now_ns: u64) {
        let header = Header {
            capacity: self.settings.capacity,
            log_id,
            epoch: grant.epoch,
            base: grant.base,
            start_wall_ns: crate::sys::wall_ns(),
            start_mono_ns: now_ns,
        };
        let feed = self.settings.feed(0, header.start_wall_ns);
        let index = if grant.source_id == feed.source_id { grant.index } else { 0 };
        let made = self.segments.create(&self.names.spool, header.words(), &mut |words| {
            SpoolWriter::<S::Mem>::fill(words, &header, &feed, index);
        });
        match made {
            Ok(memory) => {
                self.page.set_identity(log_id, grant.epoch);
                self.spool = SpoolWriter::resume(memory);
                self.events.push(Event::Began { epoch: grant.epoch, base: grant.base });
            }
            Err(e) => {
                self.retry_ns = now_ns + LOOK_NS;
                self.events.push(Event::Failed(e.to_string()));
            }
        }
    }

    /// Entries that fit now. Asks log for what has become durable only when less than half of the spool is free, so that
    /// the word does not travel between cores for every batch, and old entries stay readable for stat.
    pub fn room(&mut self) -> u64 {
        let Some(spool) = &mut self.spool else { return 0 };
        if spool.room() <= spool.header().capacity / 2 {
            let log = self.log.get().filter(|p| p.log_id() == spool.header().log_id);
            let durable = log.filter(|p| p.epoch() == spool.header().epoch).and_then(|p| p.durable());
            if let Some(durable) = durable
                && durable > spool.tail()
                && durable <= spool.head()
            {
                spool.release(durable);
            }
        }
        spool.room()
    }

    /// The spool, while there is one.
    pub fn spool(&mut self) -> Option<&mut SpoolWriter<S::Mem>> {
        self.spool.as_mut()
    }

    /// conv's page.
    pub fn page(&self) -> &OwnPage<S> {
        &self.page
    }

    /// log's page.
    pub fn log(&self) -> &PeerPage<S> {
        &self.log
    }

    /// Highest durable seq that log shows for the record of our spool; `None` while that is not known.
    pub fn durable(&self) -> Option<u64> {
        let spool = self.spool.as_ref()?;
        self.log
            .get()
            .filter(|p| p.log_id() == spool.header().log_id)?
            .durable()
            .filter(|d| *d <= spool.head())
    }

    /// After a commit: the word to ring if log sleeps.
    #[inline]
    pub fn bell(&self) -> Option<&AtomicU64> {
        let head = self.spool.as_ref()?.head_word();
        let must = if self.fenced { ring::must_wake } else { ring::must_wake_unfenced };
        must(self.log.waiting()).then_some(head)
    }

    /// This process is registered for barriers: the bell needs no fence of its own.
    pub fn spare_fences(&mut self) {
        self.fenced = false;
    }

    /// How often a page or the spool had to be made again.
    pub fn remade(&self) -> u64 {
        self.remade
    }

    /// What users should be told since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }
}
