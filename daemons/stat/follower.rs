//! The loop of ipc-stat: folds entries as they become durable, from the spool while they are there and else from the
//! record, and publishes a snapshot.
#![forbid(unsafe_code)]

use crate::carried::Carried;
use crate::newest::Newest;
use crate::saver::Saver;
use crate::stale::Staleness;

use std::time::Duration;

use ipc_pipeline::checkpoint::{self, Checkpoint};
use ipc_pipeline::config::Config;
use ipc_pipeline::daemon::{Context, Failure, Looks, Remade, Said, SlowDisk, Waiting};
use ipc_pipeline::entry::{Entry, LEN};
use ipc_pipeline::fold::Fold;
use ipc_pipeline::intake::read_window;
use ipc_pipeline::messages::Message;
use ipc_pipeline::names::{Names, Role};
use ipc_pipeline::notify::{Notifier, Status};
use ipc_pipeline::page::{self, OwnPage, Page, PeerPage, State};
use ipc_pipeline::publisher::LOOK_NS;
use ipc_pipeline::reader::{ReadError, RecordReader};
use ipc_pipeline::register::{Register, RegisterReader};
use ipc_pipeline::reload::Reloads;
use ipc_pipeline::ring;
use ipc_pipeline::segment::{Access, Segments, Shm};
use ipc_pipeline::settings::Settings;
use ipc_pipeline::snapshot::Snapshot;
use ipc_pipeline::spool::SpoolReader;
use ipc_pipeline::sys::{self, Map};

/// Entries folded between two looks at the clock.
const CHUNK: usize = 8192;
/// While it catches up, a snapshot is published this often, ns.
const SNAPSHOT_NS: u64 = 20_000_000;

/// A checkpoint that takes longer than this is shown as DISK_SLOW, ns.
const SLOW_NS: u64 = 500_000_000;
/// The last checkpoint is waited for no longer than this, ns.
const LAST_NS: u64 = 3_000_000_000;

struct Follower {
    shm: Shm,
    names: Names,
    page: OwnPage<Shm>,
    log: PeerPage<Shm>,
    register: Register<Shm>,
    report: PeerPage<Shm>,
    /// Where entries come by a carrier; `None`: they are read in the spool.
    carried: Option<Carried>,
    /// How snapshots go out by a carrier, besides the register.
    newest: Option<Newest>,
    spool: Option<SpoolReader<Map>>,
    record: Option<RecordReader>,
    log_id: u64,
    /// What is asked for.
    settings: Settings,
    fold: Fold,
    buffer: Vec<u8>,
    /// The record's end when we began: nothing is published before it is reached, so that n never falls.
    catch_up: u64,
    published: u64,
    staleness: Staleness,
    /// A channel has become stale, or is no longer, since the last snapshot.
    news: bool,
    next_snapshot: u64,
    /// What folding the entries since the last checkpoint took, ns.
    replay_ns: u64,
    checkpoint_ns: u64,
    saver: Saver,
    counts: Counts,
    page_remade: Remade,
    register_remade: Remade,
    said: Said,
    waiting: Waiting,
    slow: SlowDisk,
}

/// What the page's counters say, as far as nobody else counts it.
#[derive(Clone, Copy, Default)]
struct Counts {
    folded: u64,
    replayed: u64,
    snapshots: u64,
    woken: u64,
    refolded: u64,
}

/// The whole work of ipc-stat.
pub fn run(context: &mut Context) -> Result<(), Failure> {
    let mut follower = Follower::start(context)?;
    context.ready();
    let mut looks = Looks::default();
    loop {
        let now = sys::monotonic_ns();
        context.notifier.turn(now);
        let stopping = context.stopping();
        // Also at the end: what log shows may have got its name since the last look.
        if looks.is_due(now) || stopping {
            context.check_lock()?;
            follower.look(now)?;
            context.reload(&mut follower);
            if context.notifier.status_due(now) {
                follower.report_status(&mut context.notifier, now);
            }
        }
        // The last word when told to stop: everything that is durable by then.
        let more = follower.turn(now);
        if stopping && !more {
            follower.end(context);
            return Ok(());
        }
        if !more {
            follower.sleep(looks.rest(now));
        }
    }
}

impl Reloads for Follower {
    fn write(&self, to: &dyn Fn(&Page<Map>)) {
        to(&self.page);
    }

    fn take(&mut self, config: &Config) -> Result<(), String> {
        self.checkpoint_ns = checkpoint_ns(config);
        Ok(())
    }
}

/// The spool, if it is of this record and epoch.
fn current(spool: &Option<SpoolReader<Map>>, of: (u64, u32)) -> Option<&SpoolReader<Map>> {
    spool.as_ref().filter(|spool| (spool.header().log_id, spool.header().epoch) == of)
}

fn checkpoint_ns(config: &Config) -> u64 {
    config.stat.checkpoint.as_nanos() as u64
}

impl Follower {
    fn start(context: &Context) -> Result<Follower, Failure> {
        let (shm, names) = (context.shm.clone(), context.names.clone());
        let page = OwnPage::open(shm.clone(), &names.page(Role::Stat), 2).map_err(Failure::system)?;
        page.begin(0, page::new_session(), std::process::id().into(), sys::wall_ns());
        page.set_address(&context.config.edge.stat.to_string());
        std::fs::DirBuilder::new().recursive(true).create(names.stat_dir()).map_err(|e| {
            Failure::system(format!("cannot make the directory {}: {e}", names.stat_dir().display()))
        })?;
        let register = Register::open(shm.clone(), &names.snapshot()).map_err(Failure::system)?;
        Ok(Follower {
            carried: Carried::open(context)?,
            newest: Newest::to_report(context),
            log: PeerPage::new(shm.clone(), &names.page(Role::Log), 1),
            report: PeerPage::new(shm.clone(), &names.page(Role::Report), 3),
            spool: None,
            record: None,
            log_id: 0,
            settings: context.config.stat.settings.clone(),
            fold: Fold::new(),
            buffer: Vec::with_capacity(CHUNK * LEN),
            catch_up: 0,
            published: 0,
            staleness: Staleness::new(&context.config.channels),
            news: false,
            next_snapshot: 0,
            replay_ns: 0,
            checkpoint_ns: checkpoint_ns(&context.config),
            saver: Saver::start(names.stat_dir())?,
            counts: Counts::default(),
            page_remade: Remade::default(),
            register_remade: Remade::default(),
            said: Said::default(),
            waiting: Waiting::default(),
            slow: SlowDisk::default(),
            shm,
            names,
            page,
            register,
        })
    }

    /// At every look: names, counters, state.
    fn look(&mut self, now: u64) -> Result<(), Failure> {
        if let Some(carried) = &mut self.carried {
            carried.look(&mut self.page_remade)?;
        }
        self.page_remade.note(self.page.look());
        self.register_remade.note(self.register.look());
        self.log.look();
        self.report.look();
        self.look_for_spool();
        if let Some(newest) = &mut self.newest {
            newest.look(self.report.get().and_then(|page| page.address()), now);
        }
        let c = self.counts;
        let (came, refused) = self.carried.as_ref().map(Carried::counts).unwrap_or_default();
        self.page.set_counters(&[
            c.folded,
            c.replayed,
            c.snapshots,
            self.saver.saved(),
            self.page_remade.count() + self.register_remade.count(),
            c.woken,
            c.refolded,
            came,
            refused.duplicate,
            refused.gap,
            refused.bad,
            refused.injected,
        ]);
        self.page.set_durable(self.fold.n);
        let state = self.state(now);
        self.page.set_state(state);
        self.page.set_beat(now);
        self.slow.tell(state == State::DiskSlow, "checkpoints wait, and the statistics go on", now);
        if self.waiting.is_news(self.log_id == 0, now) {
            log::info!(id = Message::Waiting; "waiting for ipc-log");
        }
        Ok(())
    }

    fn look_for_spool(&mut self) {
        let name = self.names.spool();
        if self.spool.as_ref().is_none_or(|s| !self.shm.is_current(&name, s.memory())) {
            self.spool = self.shm.open(&name, Access::Read).and_then(SpoolReader::new);
        }
    }

    fn state(&self, now: u64) -> State {
        if self.log_id == 0 {
            return State::WaitingForLog;
        }
        // The statistics go on; only the next start would take longer.
        if self.saver.busy_ns(now) > SLOW_NS { State::DiskSlow } else { State::Running }
    }

    fn report_status(&self, notifier: &mut Notifier, now: u64) {
        let durable = self.log.get().and_then(|log| log.durable());
        let status = Status {
            state: self.state(now).name(),
            seq: self.fold.n,
            done: "counted",
            lag: durable.map(|durable| durable.saturating_sub(self.fold.n)),
            behind: "durable and not yet counted",
            lost: &self.fold.losses.in_words(),
        };
        notifier.status(now, &status);
    }

    /// Folds a chunk of what is durable, and publishes. False: nothing more to do now.
    fn turn(&mut self, now: u64) -> bool {
        let more = self.follow();
        self.news |= self.has_caught_up() && self.staleness.look(&self.fold, now);
        let news = self.news || self.fold.n != self.published;
        if news && self.has_caught_up() && (!more || now >= self.next_snapshot) {
            self.publish(now);
        }
        if self.replay_ns >= self.checkpoint_ns {
            self.checkpoint();
        }
        more
    }

    /// Folds a chunk of what is durable. False: there is no more now.
    fn follow(&mut self) -> bool {
        let Some((log_id, durable)) = self.log.get().and_then(|p| Some((p.log_id(), p.durable()?))) else {
            return false;
        };
        if log_id == 0 {
            return false;
        }
        if log_id != self.log_id || durable < self.fold.n {
            self.begin(log_id, durable);
        }
        self.receive();
        durable > self.fold.n && self.fold_some(durable)
    }

    /// Takes what has come by the carrier. Only log says which epoch is in force: what came of one that was given up is void.
    fn receive(&mut self) {
        let (Some(carried), Some(epoch)) = (&mut self.carried, self.log.get().map(|log| log.epoch())) else {
            return;
        };
        let of = (self.log_id, epoch);
        if carried.begin(of, self.fold.n) {
            self.page.begin(self.fold.n, page::new_session(), std::process::id().into(), sys::wall_ns());
        }
        carried.skip_to(self.fold.n);
        carried.receive(current(&self.spool, of));
        self.page.set_received(carried.received());
    }

    /// Have we folded what was there when we began? Before that nothing is new, and nothing is missing.
    fn has_caught_up(&self) -> bool {
        self.log_id != 0 && self.fold.n >= self.catch_up
    }

    /// A record that we have not folded yet: from the newest checkpoint that fits it, else from its first entry.
    fn begin(&mut self, log_id: u64, durable: u64) {
        if self.log_id != 0 {
            self.counts.refolded += 1;
            log::warn!(
                id = Message::StatisticsAnew, entries = durable;
                "the record is now {log_id:016x} with {durable} entries: the statistics begin anew from it"
            );
        }
        (self.log_id, self.catch_up) = (log_id, durable);
        self.record = None;
        self.fold = Fold::with(&self.settings);
        let known = self.newest_checkpoint(log_id, durable).or_else(|| self.summed_up(durable));
        self.fold = known.unwrap_or_else(|| Fold::with(&self.settings));
        self.replay_ns = 0;
        self.page.begin(self.fold.n, page::new_session(), std::process::id().into(), sys::wall_ns());
        self.page.set_durable(self.fold.n);
        self.page.set_identity(log_id, self.fold.epoch);
        self.recall_staleness();
    }

    /// What our last life said of this record in the register.
    fn recall_staleness(&mut self) {
        let last = RegisterReader::new(self.shm.clone(), &self.names.snapshot()).read();
        if let Some(last) = last.filter(|last| last.log_id == self.log_id) {
            self.staleness.go_on_from(&last, sys::monotonic_ns());
        }
    }

    fn newest_checkpoint(&mut self, log_id: u64, durable: u64) -> Option<Fold> {
        let found = checkpoint::list(&self.names.stat_dir()).unwrap_or_default();
        found.into_iter().find_map(|(n, path)| {
            let checkpoint = Checkpoint::load(&path).ok().filter(|_| n <= durable)?;
            // What was never asked for cannot be made of it, only of the record.
            let suits = *checkpoint.fold.settings() == self.settings;
            let entry = self.entry(n)?;
            (suits && checkpoint.fits(log_id, &entry)).then_some(checkpoint.fold)
        })
    }

    /// What the record's summary says, if it is ahead of us: the entries up to it may have been removed.
    fn summed_up(&mut self, durable: u64) -> Option<Fold> {
        let summary = self.record()?.summary().ok()??;
        let newer = self.fold.n < summary.n() && summary.n() <= durable;
        newer.then(|| summary.fold.go_on_with(&self.settings))
    }

    fn entry(&mut self, seq: u64) -> Option<Entry> {
        let mut bytes = Vec::new();
        let n = self.record()?.read(seq, 1, &mut bytes).ok()?;
        let first = bytes.first_chunk::<LEN>().filter(|_| n > 0)?;
        Some(Entry::from_bytes(first))
    }

    fn record(&mut self) -> Option<&mut RecordReader> {
        if self.record.is_none() {
            match RecordReader::open(&self.names.record_dir()) {
                Ok(opened) => self.record = Some(opened).filter(|r| r.log_id() == self.log_id),
                Err(ReadError::Empty { .. }) => {} // log is about to begin it
                Err(e) => self.unreadable(&e),
            }
        }
        self.record.as_mut()
    }

    /// Folds the next chunk, not beyond `durable`. False: it cannot be read now.
    fn fold_some(&mut self, durable: u64) -> bool {
        let begun = sys::monotonic_ns();
        let before = self.fold.n;
        let wanted = (durable - before).min(CHUNK as u64) as usize;
        let read = match self.carried {
            Some(_) => self.read_carried(wanted),
            None => self.read_spool(wanted),
        };
        if !read && !self.read_record(wanted, durable) {
            return false;
        }
        if let Err(e) = self.fold.fold_bytes(&self.buffer) {
            self.step_over(&e.to_string());
        }
        let folded = self.fold.n - before;
        self.counts.folded += folded;
        self.replay_ns += sys::monotonic_ns() - begun;
        if self.carried.is_none() {
            self.page.set_received(self.fold.n);
        }
        self.page.set_durable(self.fold.n);
        self.page.set_identity(self.log_id, self.fold.epoch);
        folded > 0
    }

    /// Of what has come by the carrier, if it has.
    fn read_carried(&mut self, wanted: usize) -> bool {
        let (Some(carried), Some(epoch)) = (&mut self.carried, self.log.get().map(|log| log.epoch())) else {
            return false;
        };
        let spool = current(&self.spool, (self.log_id, epoch));
        carried.read(self.fold.n + 1, wanted, spool, &mut self.buffer) > 0
    }

    /// From the spool, if the entries are still there. Only log says which epoch is in force: in a spool that was given up,
    /// other entries stand under numbers that the record has used since.
    fn read_spool(&mut self, wanted: usize) -> bool {
        let Some(epoch) = self.log.get().map(|log| log.epoch()) else { return false };
        let Some(spool) = current(&self.spool, (self.log_id, epoch)) else { return false };
        self.buffer.resize(wanted * LEN, 0);
        let n = read_window(spool, self.fold.n + 1, spool.header().epoch, &mut self.buffer);
        self.buffer.truncate(n * LEN);
        n > 0
    }

    /// From the record: it has everything that is durable, or what was removed of it is summed up.
    fn read_record(&mut self, wanted: usize, durable: u64) -> bool {
        let from = self.fold.n + 1;
        let mut bytes = std::mem::take(&mut self.buffer);
        let read = self.record().map(|r| r.read(from, wanted, &mut bytes));
        self.buffer = bytes;
        match read {
            Some(Ok(n)) => {
                self.counts.replayed += n as u64;
                n > 0
            }
            Some(Err(ReadError::Missing { .. })) if self.skip_removed(durable) => true,
            Some(Err(e)) => {
                self.unreadable(&e);
                self.record = None;
                false
            }
            None => false,
        }
    }

    fn unreadable(&mut self, e: &ReadError) {
        if self.said.is_new("record") {
            log::error!(id = Message::RecordUnreadable; "{e}. Trying again every 100 ms");
        }
    }

    /// The next entries were removed before we came to them: the fold goes on as if it had taken them.
    fn skip_removed(&mut self, durable: u64) -> bool {
        let Some(fold) = self.summed_up(durable) else { return false };
        let seq = fold.n;
        log::info!(id = Message::RecordShortened, seq; "entries up to {seq} were removed from the record: going on from their summary");
        self.fold = fold;
        self.buffer.clear();
        true
    }

    /// A durable entry is damaged: it counts as CORRUPT, as `verify` counts it, and the fold goes on behind it.
    fn step_over(&mut self, why: &str) {
        let seq = self.fold.n + 1;
        log::error!(id = Message::Damaged, seq; "{why}: counted as corrupt");
        let stand_in = Entry::corrupt(seq, self.fold.epoch);
        if let Err(e) = self.fold.fold(&stand_in) {
            log::error!("{e}"); // cannot be: it has the right seq, kind and CRC
        }
    }

    fn publish(&mut self, now: u64) {
        self.next_snapshot = now + SNAPSHOT_NS;
        self.published = self.fold.n;
        self.news = false;
        self.counts.snapshots += 1;
        let version = self.register.version().wrapping_add(1).max(1);
        let mut snapshot = Snapshot::of(&self.fold, version, self.log_id);
        self.staleness.mark(&mut snapshot);
        self.register.publish(&snapshot);
        if let Some(newest) = &mut self.newest {
            newest.publish(&snapshot, now);
        }
        if ring::must_wake(self.report.waiting()) {
            sys::wake(self.register.version_word());
        }
    }

    fn checkpoint(&mut self) {
        self.replay_ns = 0;
        let Some(entry) = self.entry(self.fold.n) else { return };
        self.saver.save(Checkpoint::new(self.log_id, &entry, self.fold.clone()));
    }

    /// Waits for the last checkpoint, but not for a disk that stalls.
    fn finish_saving(&self, context: &mut Context) {
        let begun = sys::monotonic_ns();
        while !self.saver.is_idle() {
            let now = sys::monotonic_ns();
            if now - begun > LAST_NS {
                return log::warn!(
                    id = Message::CheckpointTrouble;
                    "the disk does not take the last checkpoint: ending without it; only the next start takes longer"
                );
            }
            context.notifier.turn(now);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Sleeps until more is durable, at most for `rest`.
    fn sleep(&mut self, mut rest: Duration) {
        self.counts.woken += 1;
        let soon = Duration::from_nanos(LOOK_NS / 10);
        let Some(log) = self.log.get().filter(|_| self.log_id != 0) else {
            return std::thread::sleep(soon);
        };
        if log.durable().is_none_or(|durable| durable > self.fold.n) {
            return std::thread::sleep(soon); // it is durable, but cannot be read now
        }
        if let Some(carried) = &mut self.carried {
            match carried.wait(rest) {
                Some(limit) => rest = limit,
                None => return,
            }
        }
        // ipc-log rings after every commit without asking who sleeps.
        sys::wait(log.durable_word(), self.fold.n, rest);
    }

    fn end(mut self, context: &mut Context) {
        let now = sys::monotonic_ns();
        if self.fold.n != self.published {
            self.publish(now);
        }
        let newest = checkpoint::list(&self.names.stat_dir()).ok().and_then(|l| l.first().map(|(n, _)| *n));
        if self.fold.n > 0 && newest != Some(self.fold.n) {
            self.checkpoint();
        }
        self.finish_saving(context);
        let _ = self.look(now); // what we listened at is not needed any more
        self.page.set_state(State::Ended);
    }
}
