//! The disk thread of ipc-log: once the record is open, the only one that waits for the disk. Appends, commits in groups, and says what is
//! durable; in trouble it keeps trying, and nothing is lost meanwhile because the spool holds it all.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipc_pipeline::config::Sync;
use ipc_pipeline::daemon::Said;
use ipc_pipeline::disk::{DirDisk, Trouble};
use ipc_pipeline::entry::LEN;
use ipc_pipeline::mark::Grant;
use ipc_pipeline::messages::Message;
use ipc_pipeline::page::{self, OwnPage, State};
use ipc_pipeline::record::{AppendError, Record};
use ipc_pipeline::segment::Shm;
use ipc_pipeline::sys;

use crate::keeper::Bell;

/// How long to wait before what the disk refused is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// What the main thread asks for.
pub enum Job {
    /// Append these whole entries.
    Append {
        /// The buffer that begins with them.
        buffer: Box<[u8]>,
        /// So many bytes of it.
        len: usize,
        /// Taken after so many rewinds; older ones are void.
        rewinds: u64,
        /// So many entries that are not durable are enough for a commit: conv waits for space.
        enough: u64,
    },
    /// Make everything and this grant durable.
    Grant {
        /// The grant.
        grant: Grant,
        /// As above.
        rewinds: u64,
    },
    /// Make entries durable together after another time.
    Group(Sync),
    /// Make everything durable and end.
    Stop,
}

/// What has been done.
pub enum Done {
    /// A buffer to be filled again.
    Buffer(Box<[u8]>),
    /// The grant is on disk.
    Granted(Grant),
    /// What was appended after `next - 1` did not reach the disk: take it from the spool again.
    Rewind {
        /// The first seq to be taken again.
        next: u64,
        /// Counts rewinds.
        rewinds: u64,
    },
}

/// What both threads see.
pub struct Shared {
    page: Mutex<OwnPage<Shm>>,
    /// What is wrong with the disk, as the number of a [`State`]; 0: nothing.
    trouble: AtomicU64,
    /// Since when the disk has been busy with one call, CLOCK_MONOTONIC ns; 0: idle.
    busy_since: AtomicU64,
    /// Told to stop: trouble is no longer waited out.
    pub stop: AtomicBool,
    /// The thread has ended.
    pub ended: AtomicBool,
    /// The segment that is written has lost its name: what is in it is no part of any record.
    pub removed: AtomicBool,
    /// Highest durable seq.
    pub durable: AtomicU64,
    /// Commits so far, the longest of them in ns, bytes, refusals for want of space, other errors.
    pub counts: [AtomicU64; 5],
}

impl Shared {
    /// Around the page of ipc-log.
    pub fn new(page: OwnPage<Shm>) -> Shared {
        Shared {
            page: Mutex::new(page),
            trouble: AtomicU64::new(0),
            busy_since: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            removed: AtomicBool::new(false),
            durable: AtomicU64::new(0),
            counts: Default::default(),
        }
    }

    /// The page, for a moment.
    pub fn page(&self) -> MutexGuard<'_, OwnPage<Shm>> {
        self.page.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is wrong with the disk, if anything.
    pub fn trouble(&self) -> Option<State> {
        State::from_word(self.trouble.load(Ordering::Relaxed)).filter(|s| *s != State::Starting)
    }

    /// Says what is wrong with the disk.
    pub fn set_trouble(&self, state: Option<State>) {
        self.trouble.store(state.map_or(0, |s| s as u64), Ordering::Relaxed);
    }

    /// For how long the disk has been busy with one call, ns.
    pub fn busy_ns(&self, now_ns: u64) -> u64 {
        match self.busy_since.load(Ordering::Relaxed) {
            0 => 0,
            since => now_ns.saturating_sub(since),
        }
    }

    fn count(&self, which: usize, n: u64) {
        self.counts[which].fetch_add(n, Ordering::Relaxed);
    }
}

/// The state that this trouble is shown as.
pub fn state_of(trouble: Trouble) -> State {
    match trouble {
        Trouble::Full => State::DiskFull,
        Trouble::ReadOnly => State::ReadOnly,
        Trouble::Damaged | Trouble::Other => State::DiskError,
    }
}

fn group_ns(sync: Sync) -> u64 {
    match sync {
        Sync::Every(group) => group.as_nanos() as u64,
        Sync::Always => 0,
    }
}

/// The disk thread.
pub struct Writer {
    record: Record<DirDisk>,
    shared: Arc<Shared>,
    jobs: Receiver<Job>,
    done: Sender<Done>,
    group_ns: u64,
    last_commit: u64,
    rewinds: u64,
    keeper: Bell,
    /// What the keeper was told last.
    sealed_before: u64,
    said: Said,
}

impl Writer {
    /// Around an open record.
    pub fn new(
        record: Record<DirDisk>,
        shared: Arc<Shared>,
        sync: Sync,
        jobs: Receiver<Job>,
        done: Sender<Done>,
        keeper: Bell,
    ) -> Writer {
        let sealed_before = record.sealed_before();
        Writer {
            record,
            shared,
            jobs,
            done,
            group_ns: group_ns(sync),
            last_commit: 0,
            rewinds: 0,
            keeper,
            sealed_before,
            said: Said::default(),
        }
    }

    /// Works until told to stop.
    pub fn run(mut self) {
        while self.turn() {}
        self.commit();
        self.shared.ended.store(true, Ordering::Release);
    }

    /// One job, or one commit when it is due. False: told to stop.
    fn turn(&mut self) -> bool {
        match self.next_job() {
            Some(Job::Append { buffer, len, rewinds, enough }) => {
                if rewinds == self.rewinds {
                    self.append(buffer.get(..len).unwrap_or_default());
                }
                let _ = self.done.send(Done::Buffer(buffer)); // the receiver is gone only when the process ends
                let undurable = self.record.end() - self.record.durable();
                if undurable >= enough || self.group_ns == 0 || self.commit_is_due() {
                    self.commit();
                }
            }
            Some(Job::Grant { grant, rewinds }) => self.grant(grant, rewinds),
            Some(Job::Group(sync)) => self.group_ns = group_ns(sync),
            Some(Job::Stop) => return false,
            None => self.commit(),
        }
        true
    }

    fn dirty(&self) -> bool {
        self.record.end() != self.record.durable()
    }

    fn commit_is_due(&self) -> bool {
        sys::monotonic_ns() - self.last_commit >= self.group_ns
    }

    /// The next job, or `None` when a commit is due first.
    fn next_job(&mut self) -> Option<Job> {
        if !self.dirty() {
            return Some(self.jobs.recv().unwrap_or(Job::Stop));
        }
        let due = (self.last_commit + self.group_ns).saturating_sub(sys::monotonic_ns());
        match self.jobs.recv_timeout(Duration::from_nanos(due)) {
            Ok(job) => Some(job),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Job::Stop),
        }
    }

    /// Notes the time around a call that may take long.
    fn on_disk<T>(&mut self, call: impl FnOnce(&mut Record<DirDisk>) -> T) -> T {
        self.shared.busy_since.store(sys::monotonic_ns(), Ordering::Relaxed);
        let result = call(&mut self.record);
        self.shared.busy_since.store(0, Ordering::Relaxed);
        result
    }

    fn append(&mut self, bytes: &[u8]) {
        let before = self.record.end();
        loop {
            let done = ((self.record.end() - before) as usize * LEN).min(bytes.len());
            let rest = &bytes[done..];
            match self.on_disk(|record| record.append(rest)) {
                Ok(()) => break self.fine(),
                Err(e) => {
                    self.trouble(&e);
                    if self.record.is_suspect() {
                        return self.rewind();
                    }
                    // What was taken becomes durable all the same.
                    self.commit();
                    if self.record.is_suspect() || !self.retry() {
                        return;
                    }
                }
            }
        }
        self.shared.count(2, bytes.len() as u64);
        if self.record.sealed_before() != self.sealed_before {
            self.sealed_before = self.record.sealed_before();
            self.keeper.ring();
        }
    }

    /// Everything appended becomes durable, and everybody may know it.
    fn commit(&mut self) {
        if !self.dirty() {
            return;
        }
        let timed = |record: &mut Record<DirDisk>| {
            let begun = sys::monotonic_ns();
            record.sync().map(|durable| (durable, sys::monotonic_ns() - begun))
        };
        let Some((durable, took_ns)) = self.insist(timed) else { return };
        if !self.record.is_in_place() {
            return self.shared.removed.store(true, Ordering::Relaxed);
        }
        self.last_commit = sys::monotonic_ns();
        self.shared.count(0, 1);
        self.shared.counts[1].fetch_max(took_ns, Ordering::Relaxed);
        self.publish(durable);
        self.fine();
    }

    /// Tries until the disk takes it. `None`: told to stop, or all that is not durable has to be taken again.
    fn insist<T>(&mut self, call: impl Fn(&mut Record<DirDisk>) -> Result<T, AppendError>) -> Option<T> {
        loop {
            let e = match self.on_disk(&call) {
                Ok(done) => return Some(done),
                Err(e) => e,
            };
            self.trouble(&e);
            if self.record.is_suspect() {
                self.rewind();
                return None;
            }
            if !self.retry() {
                return None;
            }
        }
    }

    fn publish(&self, durable: u64) {
        let page = self.shared.page();
        page.set_durable(durable);
        self.shared.durable.store(durable, Ordering::Release);
        // A few hundred times a second at most: looking who sleeps would cost as much as waking nobody.
        sys::wake(page.durable_word());
    }

    fn grant(&mut self, grant: Grant, rewinds: u64) {
        self.commit();
        // After a rewind the record ends elsewhere: the proposal is answered anew when all is taken again.
        if rewinds != self.rewinds || self.shared.removed.load(Ordering::Relaxed) {
            return;
        }
        if self.insist(|record| record.grant(grant)).is_some() {
            self.show_grant(grant);
            self.fine();
            let _ = self.done.send(Done::Granted(grant));
        }
    }

    fn show_grant(&self, grant: Grant) {
        let page = self.shared.page();
        show_grant(&page, &self.record, grant);
        sys::wake(page.durable_word());
    }

    /// The last segment cannot be trusted behind what is durable: set it aside, and have the rest taken again.
    fn rewind(&mut self) {
        while let Err(e) = self.on_disk(|record| record.set_aside()) {
            self.trouble(&e);
            if !self.retry() {
                return;
            }
        }
        self.rewinds += 1;
        let next = self.record.durable() + 1;
        log::warn!(id = Message::TakenAgain, seq = next; "entries from {next} on did not reach the disk: taking them from the spool again");
        let _ = self.done.send(Done::Rewind { next, rewinds: self.rewinds });
    }

    /// Waits a little before another try; false: told to stop instead.
    fn retry(&self) -> bool {
        std::thread::sleep(RETRY);
        !self.shared.stop.load(Ordering::Relaxed)
    }

    fn trouble(&mut self, e: &AppendError) {
        let state = state_of(e.trouble());
        self.shared.set_trouble(Some(state));
        self.shared.count(if state == State::DiskFull { 3 } else { 4 }, 1);
        if self.said.is_new(state.name()) {
            log::error!(
                id = message_of(state);
                "{e}. Nothing is lost: entries stay in the spool, and it is tried again every 100 ms"
            );
        }
    }

    fn fine(&mut self) {
        if self.shared.trouble().is_some() {
            self.shared.set_trouble(None);
            self.said.clear();
            let seq = self.record.end() + 1;
            log::warn!(id = Message::DiskBack, seq; "the disk takes entries again; the record goes on at {seq}");
        }
    }
}

/// What a log calls this trouble of the disk.
pub fn message_of(trouble: State) -> Message {
    if trouble == State::DiskFull { Message::DiskFull } else { Message::DiskTrouble }
}

/// Shows in the page of ipc-log that this epoch may begin, and where the source stands.
pub fn show_grant(page: &OwnPage<Shm>, record: &Record<DirDisk>, grant: Grant) {
    let source = record.position();
    page.set_grant(page::Grant {
        nonce: grant.nonce,
        epoch: grant.epoch,
        base: grant.base,
        source_id: source.map_or(0, |s| s.id),
        index: source.map_or(0, |s| s.index),
        source_seq: source.map_or(0, |s| s.seq),
    });
    page.set_identity(record.log_id(), grant.epoch);
}
