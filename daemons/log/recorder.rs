//! The main thread of ipc-log: takes entries from the spool, hands them to the disk thread, answers conv's proposals.
//! It never waits for the disk.
#![forbid(unsafe_code)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use ipc_pipeline::carrier::Listening;
use ipc_pipeline::config::Config;
use ipc_pipeline::daemon::{
    self, Context, EXIT_BUG, EXIT_OBJECT, EXIT_SECOND, Failure, Looks, Remade, SILENT_NS, Said, SlowDisk,
    Told, Waiting,
};
use ipc_pipeline::disk::{DirDisk, DirError, DirLock};
use ipc_pipeline::entry::LEN;
use ipc_pipeline::header::table_id;
use ipc_pipeline::intake::Intake;
use ipc_pipeline::mark::Grant;
use ipc_pipeline::messages::Message;
use ipc_pipeline::names::Role;
use ipc_pipeline::notify::Status;
use ipc_pipeline::page::{self, OwnPage, Page, State};
use ipc_pipeline::publisher::LOOK_NS;
use ipc_pipeline::record::{Record, RecordError, Recovered, Settings};
use ipc_pipeline::reload::Reloads;
use ipc_pipeline::ring::{self, Patience};
use ipc_pipeline::segment::Shm;
use ipc_pipeline::sys::{self, Map};
use ipc_pipeline::text::counted;

use crate::keeper::{self, Bell};
use crate::text;
use crate::writer::{Done, Job, Shared, Writer, message_of, show_grant, state_of};

/// Entries handed to the disk at once.
const CHUNK: usize = 8192;
/// Chunks between the threads: what the disk thread may lag behind.
const CHUNKS: usize = 8;
/// A disk call longer than this is shown as DISK_SLOW.
const SLOW_NS: u64 = 30_000_000;
/// A disk call longer than this is no longer excused with the watchdog.
const STUCK_NS: u64 = 30_000_000_000;
/// A drain without progress for so long is given up.
const DRAIN_NS: u64 = 5_000_000_000;

struct Recorder {
    intake: Intake<Shm>,
    /// Where entries come by a carrier; `None`: they are read in the spool.
    listening: Option<Listening>,
    /// conv does not send any more, or we are to end: what is in the spool is read there, whatever the carrier (rule E9).
    straight: bool,
    /// What came next at the last look, if it was accepted by then and had not come: whoever holds the carrier, it is taken in
    /// the spool when that is still so at the next one.
    awaited: Option<u64>,
    /// Entries that came by the carrier.
    carried: u64,
    shared: Arc<Shared>,
    keeper: Bell,
    jobs: Sender<Job>,
    done: Receiver<Done>,
    /// Each of [`CHUNK`] entries, always: to empty and fill them would cost more than a small take.
    buffers: Vec<Box<[u8]>>,
    rewinds: u64,
    /// A grant is on its way to the disk.
    granting: bool,
    /// Generation of the spool that the page shows as mapped.
    mapped: u64,
    /// What was told of entries that were damaged in the spool.
    damage: Told,
    waiting: Waiting,
    slow: SlowDisk,
    patience: Patience,
    remade: Remade,
    woken: u64,
}

/// The whole work of ipc-log.
pub fn run(context: &mut Context) -> Result<(), Failure> {
    let page =
        OwnPage::open(context.shm.clone(), &context.names.page(Role::Log), 1).map_err(Failure::system)?;
    let address = context.config.edge.log;
    let listening = Listening::open(&context.names, Role::Log, address).map_err(daemon::unheard)?;
    page.set_address(&address.to_string());
    context.ready();
    let shared = Arc::new(Shared::new(page));
    let (mut remade, mut slow) = (Remade::default(), SlowDisk::default());
    let Some((record, _lock)) = open_record(context, &shared, &mut remade, &mut slow)? else {
        return Ok(());
    };

    let (to_writer, jobs) = channel();
    let (to_us, done) = channel();
    let intake = begin(context, &shared, &record);
    let keeper = keeper::start(&record, &context.config)?;
    let sync = context.config.log.sync;
    let writer = Writer::new(record, shared.clone(), sync, jobs, to_us, keeper.clone());
    let spawned = std::thread::Builder::new().name("disk".into()).spawn(move || writer.run());
    spawned.map_err(|e| Failure::system(format!("cannot start the disk thread: {e}")))?;

    let text = text::start(context.config.log.text.as_deref(), context.names.record_dir(), &shared)
        .map_err(|e| Failure::system(format!("cannot start the thread that writes log.text: {e}")))?;

    let buffers = (0..CHUNKS).map(|_| vec![0; CHUNK * LEN].into()).collect();
    let mut recorder = Recorder {
        intake,
        listening,
        straight: false,
        awaited: None,
        carried: 0,
        shared,
        keeper,
        jobs: to_writer,
        done,
        buffers,
        rewinds: 0,
        granting: false,
        mapped: 0,
        damage: Told::default(),
        waiting: Waiting::default(),
        slow,
        patience: Patience::new(std::thread::available_parallelism().map_or(1, |n| n.get())),
        remade,
        woken: 0,
    };
    let result = recorder.work(context);
    recorder.end(context, text);
    result
}

/// Opens and recovers the record. A disk that is full, read-only or stalled is waited for; `None`: told to stop meanwhile.
fn open_record(
    context: &mut Context,
    shared: &Shared,
    remade: &mut Remade,
    slow: &mut SlowDisk,
) -> Result<Option<(Record<DirDisk>, DirLock)>, Failure> {
    let dir = context.names.record_dir();
    let settings = daemon::record_settings(&context.config);
    let mut said = Said::default();
    loop {
        let trouble = match open_aside(context, shared, remade, slow, &dir, &settings)? {
            None => return Ok(None),
            Some(Ok((record, recovered, lock))) => {
                shared.set_trouble(None);
                tell(&recovered, &dir.display().to_string());
                return Ok(Some((record, lock)));
            }
            Some(Err(OpenError::Fatal(failure))) => return Err(failure),
            Some(Err(OpenError::Disk(state, text))) => {
                if said.is_new(state.name()) {
                    log::error!(id = message_of(state); "{text}. Trying again every 100 ms");
                }
                state
            }
        };
        shared.set_trouble(Some(trouble));
        show_opening(context, shared, remade, slow, trouble)?;
        std::thread::sleep(Duration::from_nanos(LOOK_NS));
        if context.stopping() {
            return Ok(None);
        }
    }
}

/// One try in a thread of its own, because the disk may stall; meanwhile all can see that we live. `None`: told to
/// stop, and there is no end to it.
fn open_aside(
    context: &mut Context,
    shared: &Shared,
    remade: &mut Remade,
    slow: &mut SlowDisk,
    dir: &Path,
    settings: &Settings,
) -> Result<Option<Opened>, Failure> {
    let (to_us, opened) = channel();
    let (dir, settings) = (dir.to_owned(), settings.clone());
    let spawned = std::thread::Builder::new().name("open".into()).spawn(move || {
        let _ = to_us.send(try_open(&dir, &settings)); // nobody waits any more when we were told to stop
    });
    spawned.map_err(|e| Failure::system(format!("cannot start the thread that opens the record: {e}")))?;
    let (begun, mut told) = (sys::monotonic_ns(), None);
    loop {
        match opened.recv_timeout(Duration::from_nanos(LOOK_NS)) {
            Ok(result) => return Ok(Some(result)),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::new(EXIT_BUG, "opening the record ended"));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        let now = sys::monotonic_ns();
        // Told to stop, we still owe the record what the spool holds (rule E9).
        if context.stopping() && now - *told.get_or_insert(now) > DRAIN_NS {
            return Ok(None);
        }
        // Later it is no longer excused with the watchdog.
        if now - begun < STUCK_NS {
            let state = shared.trouble().unwrap_or(State::DiskSlow);
            show_opening(context, shared, remade, slow, state)?;
        }
    }
}

/// While the record cannot be opened: alive, and why it takes so long.
fn show_opening(
    context: &mut Context,
    shared: &Shared,
    remade: &mut Remade,
    slow: &mut SlowDisk,
    state: State,
) -> Result<(), Failure> {
    let now = sys::monotonic_ns();
    slow.tell(state == State::DiskSlow, "the record is not open yet, and nothing is taken", now);
    context.notifier.turn(now);
    context.check_lock()?;
    let mut page = shared.page();
    remade.note(page.look());
    page.set_state(state);
    page.set_beat(now);
    Ok(())
}

/// An open record with its lock, or why there is none.
type Opened = Result<(Record<DirDisk>, Recovered, DirLock), OpenError>;

enum OpenError {
    Fatal(Failure),
    Disk(State, String),
}

fn try_open(dir: &Path, settings: &Settings) -> Opened {
    let refused = |e: DirError| match e {
        DirError::Busy { .. } => OpenError::Fatal(Failure::new(EXIT_SECOND, e)),
        _ => OpenError::Disk(state_of(e.trouble()), e.to_string()),
    };
    let disk = DirDisk::open(dir).map_err(refused)?;
    let lock = lock_record(&disk).map_err(refused)?;
    match Record::open(disk, settings.clone(), daemon::nonce().max(1), sys::wall_ns) {
        Ok((record, recovered)) => Ok((record, recovered, lock)),
        Err(RecordError::Disk(e)) => Err(OpenError::Disk(state_of(e.trouble()), e.to_string())),
        // A restart would not help: somebody must look at it first.
        Err(e) => Err(OpenError::Fatal(Failure::config(e))),
    }
}

/// Another log that is ending, because its lock file is gone, may still be waiting for the disk.
fn lock_record(disk: &DirDisk) -> Result<DirLock, DirError> {
    let begun = sys::monotonic_ns();
    loop {
        match disk.lock() {
            Err(DirError::Busy { .. }) if sys::monotonic_ns() - begun < DRAIN_NS => {
                std::thread::sleep(Duration::from_millis(10));
            }
            result => return result,
        }
    }
}

fn tell(recovered: &Recovered, place: &str) {
    let Recovered { log_id, durable, truncated, rotten, rewritten, created, .. } = recovered;
    if *created {
        return log::info!(id = Message::RecordOpened, entries = 0; "new record {log_id:016x} in {place}");
    }
    let held = counted(*durable, "entry", "entries");
    log::info!(id = Message::RecordOpened, entries = durable; "record {log_id:016x} in {place} holds {held}");
    if *truncated > 0 || *rewritten > 0 {
        log::warn!(
            id = Message::Recovered, kept = rewritten, cut_off = truncated;
            "recovered: {rewritten} entries above the mark were whole and are durable now, {truncated} that were never durable were cut off"
        );
    }
    if *rotten > 0 {
        log::error!(
            id = Message::Damaged, entries = rotten;
            "{rotten} durable entries are damaged on disk; they were left as they are: run `ipc-pipeline verify`"
        );
    }
}

/// Shows the record in the page, and looks for the spool.
fn begin(context: &Context, shared: &Shared, record: &Record<DirDisk>) -> Intake<Shm> {
    let (durable, grant) = (record.durable(), record.current_grant());
    let epoch = record.epoch().max(grant.map_or(0, |g| g.epoch));
    let page = shared.page();
    page.begin(durable, page::new_session(), std::process::id().into(), sys::wall_ns());
    // Before the record is named: who reads which one it is, reads its channels.
    page.set_table(table_id(&daemon::record_settings(&context.config).channels));
    match grant {
        Some(grant) if grant.epoch == epoch => show_grant(&page, record, grant),
        _ => {
            // The page may be one that another record's life left.
            page.set_grant(page::Grant::default());
            page.set_identity(record.log_id(), epoch);
        }
    }
    // After the epoch: who sees what is durable must not take it from the spool of an epoch that was given up.
    shared.durable.store(durable, Ordering::Release);
    page.set_durable(durable);
    sys::wake(page.durable_word());
    Intake::new(context.shm.clone(), context.segments(), record.log_id(), epoch, durable + 1)
}

impl Recorder {
    fn work(&mut self, context: &mut Context) -> Result<(), Failure> {
        let (mut looks, mut said) = (Looks::default(), Said::default());
        let mut drain = None;
        loop {
            let now = sys::monotonic_ns();
            if self.shared.busy_ns(now) < STUCK_NS {
                context.notifier.turn(now);
            }
            if looks.is_due(now) {
                context.check_lock()?;
                self.check_record()?;
                self.look_at_edge(drain.is_some(), now)?;
                self.look(context, now, drain.is_some(), &mut said);
                context.reload(self);
            }
            self.collect();
            let took = self.take();
            if !took {
                self.answer_proposal();
            }
            if context.stopping() {
                self.straight = true;
                let drain = drain.get_or_insert_with(|| self.begin_drain(now));
                if self.drained(drain, now) {
                    return Ok(());
                }
            }
            if !took {
                self.sleep(looks.rest(now), drain.is_some());
            }
        }
    }

    /// Are the files that are written still those of the record?
    fn check_record(&self) -> Result<(), Failure> {
        if !self.shared.removed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let text = "the record was removed or replaced while it was being written: ending, to look at what is there now";
        Err(Failure::new(EXIT_OBJECT, text))
    }

    /// Rules E4 and E9: is what we listen at still there, and is there somebody who sends?
    fn look_at_edge(&mut self, draining: bool, now: u64) -> Result<(), Failure> {
        let Some(listening) = &mut self.listening else { return Ok(()) };
        self.remade.note_listening(listening.look().map_err(daemon::unheard)?);
        let conv = self.intake.conv().get();
        let sends = conv.is_some_and(|page| {
            page.state() != Some(State::Ended) && now.saturating_sub(page.beat()) < SILENT_NS
        });
        let next = self.intake.next();
        let awaited = (self.intake.head() >= next).then_some(next);
        let is_held_up = awaited.is_some() && awaited == self.awaited;
        self.awaited = awaited;
        self.straight = draining || !sends || is_held_up;
        Ok(())
    }

    /// What has come by the carrier; from the spool what is not sent any more.
    fn receive(&mut self, buffer: &mut [u8]) -> usize {
        let Some(listening) = &mut self.listening else { return self.intake.take(buffer) };
        match self.intake.receive(listening.inlet(), buffer) {
            0 if self.straight || self.intake.is_asked() || self.intake.next_is_damaged() => {
                self.intake.take(buffer)
            }
            n => {
                self.carried += n as u64;
                n
            }
        }
    }

    /// What the disk thread has done.
    fn collect(&mut self) {
        while let Ok(done) = self.done.try_recv() {
            self.note(done);
        }
    }

    fn note(&mut self, done: Done) {
        match done {
            Done::Buffer(buffer) => self.buffers.push(buffer),
            Done::Granted(Grant { epoch, .. }) => {
                self.intake.granted(epoch);
                self.granting = false;
            }
            Done::Rewind { next, rewinds } => {
                self.rewinds = rewinds;
                self.granting = false;
                self.intake.rewind(next);
                let page = self.shared.page();
                self.mapped = 0; // as begin() does
                page.begin(next - 1, page::new_session(), std::process::id().into(), sys::wall_ns());
            }
        }
    }

    /// Takes what is new in the spool, if there is a buffer for it.
    fn take(&mut self) -> bool {
        let Some(mut buffer) = self.buffers.pop() else { return false };
        let n = self.receive(&mut buffer);
        if n == 0 {
            self.buffers.push(buffer);
            return false;
        }
        let received = self.intake.next() - 1;
        // While one half becomes durable conv fills the other.
        let enough = self.intake.capacity() / 2;
        let append = Job::Append { buffer, len: n * LEN, rewinds: self.rewinds, enough };
        let _ = self.jobs.send(append); // fails only after the thread ended
        self.shared.page().set_received(received);
        self.show_mapped();
        true
    }

    /// conv accepts entries only in the spool that we have mapped.
    fn show_mapped(&mut self) {
        let mapped = self.intake.mapped();
        if mapped != self.mapped {
            self.mapped = mapped;
            self.shared.page().set_mapped(mapped);
        }
    }

    /// conv asks for a new epoch, and the old one is taken to its end.
    fn answer_proposal(&mut self) {
        if self.granting {
            return;
        }
        if let Some(asked) = self.intake.proposal() {
            self.granting = true;
            let grant = Grant { nonce: asked.nonce, epoch: asked.epoch, base: self.intake.next() };
            let _ = self.jobs.send(Job::Grant { grant, rewinds: self.rewinds });
        }
    }

    /// Rests until there may be something to do, at most for `rest`.
    fn sleep(&mut self, rest: Duration, draining: bool) {
        self.woken += 1;
        let limit = if draining || self.granting || self.buffers.is_empty() {
            // The disk thread's answer is what we wait for.
            Duration::from_millis(10)
        } else if let Some(word) = self.intake.head_word().filter(|_| self.intake.state() != State::NoSpool) {
            let seen = self.intake.next() - 1;
            // What cannot be waited for is on its way as soon as the spool has more.
            let is_coming =
                |listening: &&mut Listening| listening.can_wait() || word.load(Ordering::Acquire) > seen;
            if let Some(listening) = self.listening.as_mut().filter(is_coming).filter(|_| !self.straight) {
                return listening.wait(rest);
            }
            if self.patience.spin(word, seen) {
                return;
            }
            let page = self.shared.page();
            // The page's flag is set and cleared under the lock, but slept on without it: publishing needs the lock.
            let sleeps = ring::may_sleep(page.waiting(), word, seen, sys::barrier);
            drop(page);
            if sleeps {
                let begun = sys::monotonic_ns();
                sys::wait(word, seen, rest);
                let came = word.load(Ordering::Relaxed).saturating_sub(seen);
                self.patience.slept(sys::monotonic_ns() - begun, came);
            }
            return ring::awake(self.shared.page().waiting());
        } else {
            // No spool: conv may put one there any moment, and accepts nothing before we have mapped it.
            self.intake.look();
            self.show_mapped();
            Duration::from_millis(5)
        };
        if let Ok(done) = self.done.recv_timeout(limit) {
            self.note(done);
        }
    }

    /// At every look: names, state, counters, and what users should know.
    fn look(&mut self, context: &mut Context, now: u64, draining: bool, said: &mut Said) {
        self.intake.look();
        self.show_mapped();
        let state = self.state(now, draining);
        let mut page = self.shared.page();
        self.remade.note(page.look());
        page.set_state(state);
        page.set_beat(now);
        let [commits, longest, bytes, full, errors] =
            std::array::from_fn(|i| self.shared.counts[i].load(Ordering::Relaxed));
        let (received, durable) = (self.intake.next() - 1, self.shared.durable.load(Ordering::Acquire));
        // Whatever was done to the word: conv may have nothing else to wait for.
        page.set_durable(durable);
        let (corrupt, refused, buffered) =
            (self.corrupt(), self.intake.refused(), received.saturating_sub(durable));
        page.set_counters(&[
            bytes / LEN as u64,
            bytes,
            commits,
            longest,
            refused.duplicate,
            refused.gap,
            refused.bad,
            refused.injected,
            corrupt,
            full,
            errors,
            self.remade.count(),
            self.woken,
            buffered,
            self.carried,
        ]);
        drop(page);
        self.tell(state, now, said);
        self.tell_of_damage(now);
        if context.notifier.status_due(now) {
            let status = Status {
                state: state.name(),
                seq: durable,
                done: "durable",
                lag: Some(self.intake.head().saturating_sub(durable)),
                behind: "accepted and not yet durable",
                lost: &[("entries damaged", corrupt)],
            };
            context.notifier.status(now, &status);
        }
    }

    fn state(&self, now: u64, draining: bool) -> State {
        if let Some(trouble) = self.shared.trouble() {
            return trouble;
        }
        if self.shared.busy_ns(now) > SLOW_NS || self.buffers.is_empty() {
            return State::DiskSlow;
        }
        if draining { State::Draining } else { self.intake.state() }
    }

    fn tell(&mut self, state: State, now: u64, said: &mut Said) {
        self.slow.tell(state == State::DiskSlow, "what is accepted waits in the spool", now);
        if self.waiting.is_news(state == State::WaitingForConv, now) {
            log::info!(id = Message::Waiting; "waiting for ipc-conv");
        }
        match state {
            State::ForeignLog => {
                if let Some(f) = self.intake.foreign().filter(|_| said.is_new("foreign")) {
                    log::error!(
                        id = Message::ForeignRecord;
                        "the spool does not fit this record (it belongs to record {:016x}, durable there up to {}): nothing is taken from it; see what ipc-conv says",
                        f.log_id,
                        f.tail
                    );
                }
            }
            State::NoSpool if said.is_new("no spool") => {
                log::error!(
                    id = Message::SpoolUnusable;
                    "the spool's words make no sense: nothing is taken until ipc-conv has put it right"
                );
            }
            State::Running => said.clear(),
            _ => {}
        }
    }

    /// Accepted entries whose slots were damaged: read there, or found so when they came by a carrier.
    fn corrupt(&self) -> u64 {
        self.intake.met().corrupt + self.intake.refused().corrupt
    }

    fn tell_of_damage(&mut self, now: u64) {
        if let Some(entries) = self.damage.news(self.corrupt(), now) {
            log::error!(
                id = Message::DamagedInSpool, entries;
                "accepted entries were damaged in the spool: {entries}; the record has a CORRUPT entry in the place of each"
            );
        }
    }

    /// Told to stop: all that is accepted by now has to become durable.
    fn begin_drain(&mut self, now: u64) -> Drain {
        // The spool may have got its name since the last look: a short source fills it and ends in no time.
        self.intake.look();
        let (target, durable) = (self.intake.head(), self.shared.durable.load(Ordering::Acquire));
        Drain { target, durable, since: now }
    }

    /// Is all that was accepted when we were told to stop durable, or is waiting for it in vain?
    fn drained(&mut self, drain: &mut Drain, now: u64) -> bool {
        let durable = self.shared.durable.load(Ordering::Acquire);
        if durable >= drain.target || self.intake.drained() && durable + 1 >= self.intake.next() {
            return true;
        }
        if durable != drain.durable {
            (drain.durable, drain.since) = (durable, now);
        }
        let in_vain = self.shared.trouble().is_some() || now - drain.since > DRAIN_NS;
        if in_vain {
            let left = drain.target - durable;
            log::warn!(id = Message::LeftInSpool, entries = left; "ending with {left} entries that are not durable; they stay in the spool");
        }
        in_vain
    }

    /// Lets the disk thread finish, as long as it makes progress, and then the one that writes `log.text`.
    fn end(&mut self, context: &mut Context, text: Option<JoinHandle<()>>) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let _ = self.jobs.send(Job::Stop);
        let begun = sys::monotonic_ns();
        self.tell_of_damage(begun);
        while !self.shared.ended.load(Ordering::Acquire) && sys::monotonic_ns() - begun < DRAIN_NS {
            context.notifier.turn(sys::monotonic_ns());
            std::thread::sleep(Duration::from_millis(1));
        }
        if let Some(text) = text {
            let bound = Duration::from_nanos(DRAIN_NS);
            text::finish(&text, bound, || context.notifier.turn(sys::monotonic_ns()));
        }
        self.shared.page().set_state(State::Ended);
    }
}

impl Reloads for Recorder {
    fn write(&self, to: &dyn Fn(&Page<Map>)) {
        to(&self.shared.page());
    }

    fn take(&mut self, config: &Config) -> Result<(), String> {
        let _ = self.jobs.send(Job::Group(config.log.sync)); // fails only after the thread ended
        self.keeper.change(&config.log);
        Ok(())
    }
}

/// The last work: everything accepted by the time we were told to stop. What a living conv accepts later waits in the
/// spool for the next ipc-log.
struct Drain {
    target: u64,
    durable: u64,
    since: u64,
}
