//! Threads that look at a running pipeline about a thousand times a second and remember what they saw. What they saw
//! must hold for ever: accepted entries are in the record, published rows are true, cursors never cross.

use super::{Lives, Page, Paths, Role, Spool, snapshot_rows};
use crate::checker::{Entry, Faults, Published};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const PAUSE: Duration = Duration::from_micros(800);

/// What was seen.
#[derive(Default)]
pub struct Seen {
    /// Entries that `head` covered, whole.
    pub accepted: Vec<[u8; 32]>,
    pub published: Vec<Published>,
    pub faults: Faults,
    /// Looks that could be judged.
    pub looks: u64,
}

/// The running threads.
pub struct Witness {
    end: Arc<AtomicBool>,
    /// Looks that each thread has ended.
    turns: [Arc<AtomicU64>; 2],
    threads: Vec<JoinHandle<Seen>>,
}

impl Witness {
    pub fn start(paths: &Paths, lives: &Lives) -> Witness {
        let end = Arc::new(AtomicBool::new(false));
        let spool = SpoolWitness { paths: paths.clone(), lives: lives.clone(), ..Default::default() };
        let snapshot = SnapshotWitness { paths: paths.clone(), ..Default::default() };
        let turns = [Arc::default(), Arc::default()];
        let threads = vec![run(&end, &turns[0], spool), run(&end, &turns[1], snapshot)];
        Witness { end, turns, threads }
    }

    /// Wait until each thread has looked once from beginning to end.
    pub fn look_once(&self) {
        let before = self.turns.each_ref().map(|t| t.load(Ordering::SeqCst));
        // The first of the two may have begun before now.
        while self.turns.iter().zip(before).any(|(turns, b)| turns.load(Ordering::SeqCst) < b + 2) {
            thread::sleep(PAUSE);
        }
    }

    /// End the threads and take what they saw.
    pub fn finish(mut self) -> Seen {
        self.end.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for seen in self.threads.drain(..).map(|t| t.join().expect("a witness does not panic")) {
            all.accepted.extend(seen.accepted);
            all.published.extend(seen.published);
            all.faults.join(seen.faults);
            all.looks += seen.looks;
        }
        all
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}

trait Look: Send + 'static {
    /// `None`: something changed under the look, or is not there now; it tells nothing.
    fn look(&mut self, seen: &mut Seen) -> Option<()>;
}

fn run(end: &Arc<AtomicBool>, turns: &Arc<AtomicU64>, mut witness: impl Look) -> JoinHandle<Seen> {
    let (end, turns) = (end.clone(), turns.clone());
    thread::spawn(move || {
        let mut seen = Seen::default();
        while !end.load(Ordering::Relaxed) {
            seen.looks += witness.look(&mut seen).is_some() as u64;
            turns.fetch_add(1, Ordering::SeqCst);
            thread::sleep(PAUSE);
        }
        seen
    })
}

/// Looks at spool and pages.
struct SpoolWitness {
    paths: Paths,
    lives: Lives,
    last_seq: u64,
    durable: u64,
    cursors: [Cursor; 4],
}

impl Default for SpoolWitness {
    fn default() -> SpoolWitness {
        let (paths, lives) = (Paths::new(""), Lives::default());
        SpoolWitness { paths, lives, last_seq: 0, durable: 0, cursors: Default::default() }
    }
}

/// `received` of one role in one session.
#[derive(Default, Clone, Copy)]
struct Cursor {
    session: u64,
    life: u64,
    received: u64,
}

impl Look for SpoolWitness {
    fn look(&mut self, seen: &mut Seen) -> Option<()> {
        // Not report's: it says which snapshot was printed last, and a stat that begins anew shows lower ones.
        for role in [Role::Log, Role::Stat] {
            let _ = self.cursor(role, seen);
        }
        let spool = Spool::open(&self.paths.spool())?;
        self.accepted(&spool, seen);
        // One odd look may be a word torn by pread; a broken rule is still broken at the next look.
        if let Some(Err(_)) = self.order(&spool)
            && let Some(Err(odd)) = self.order(&spool)
        {
            seen.faults.add(odd);
        }
        let _ = self.durable(seen);
        Some(())
    }
}

impl SpoolWitness {
    /// Remember the entries at both ends of (tail, head], as far as they can be read before they are overwritten.
    fn accepted(&mut self, spool: &Spool, seen: &mut Seen) {
        for end in [Spool::head, |s: &Spool| s.tail().map(|t| t + 1)] {
            let Some(seq) = end(spool).filter(|s| *s != self.last_seq) else { continue };
            // Head first, then the slot: what a killed conv left above head is whole, too, but was never accepted.
            if spool.head().is_none_or(|head| seq > head) {
                continue;
            }
            if let Some(raw) = whole(spool, seq) {
                seen.accepted.push(raw);
                self.last_seq = seq;
            } else if is_broken(spool, seq) {
                seen.faults.at(seq, format!("is in (tail, head] but not whole in its slot: {spool}"));
            }
        }
    }

    /// I5. All four words only grow, so reading the lesser one first makes each comparison sound.
    fn order(&self, spool: &Spool) -> Option<Result<(), String>> {
        let page = Page::open(&self.paths.page(Role::Log))?;
        let early_head = spool.head()?;
        let tail = spool.tail()?;
        let durable = page.durable()?;
        let head = spool.head()?;
        let same_life = page.epoch()? == spool.epoch as u64 && page.log_id()? == spool.log_id;
        (same_life && page.is_named() && spool.is_current()).then_some(())?;
        let text =
            || format!("early head {early_head}, tail {tail}, durable {durable}, head {head}: {spool}");
        Some(match () {
            _ if tail > durable => Err(format!("tail > durable: {}", text())),
            _ if durable > head => Err(format!("durable > head: {}", text())),
            _ if early_head > tail + spool.capacity => Err(format!("head > tail + capacity: {}", text())),
            _ => Ok(()),
        })
    }

    /// `durable` belongs to the record and never falls, whoever shows it.
    fn durable(&mut self, seen: &mut Seen) -> Option<()> {
        let page = Page::open(&self.paths.page(Role::Log))?;
        let durable = page.durable()?;
        if durable < self.durable && page.is_named() {
            seen.faults.add(format!("durable fell from {} to {durable}", self.durable));
        }
        self.durable = self.durable.max(durable);
        Some(())
    }

    /// Within a session `received` never falls. A new life stores it before its session, so a lower number under the
    /// old session is wrong only if no new life has begun since that session was first seen.
    fn cursor(&mut self, role: Role, seen: &mut Seen) -> Option<()> {
        let life = self.lives[role as usize].load(Ordering::SeqCst);
        let page = Page::open(&self.paths.page(role))?;
        let session = page.session()?;
        let received = page.received()?;
        let same = page.session()? == session && self.lives[role as usize].load(Ordering::SeqCst) == life;
        (same && page.is_named()).then_some(())?;
        let known = &mut self.cursors[role as usize];
        if known.session != session {
            *known = Cursor { session, life, received };
        } else if known.life == life && received < known.received {
            let (name, before) = (role.name(), known.received);
            seen.faults.add(format!("received of {name} fell from {before} to {received} within a session"));
        }
        known.received = known.received.max(received);
        Some(())
    }
}

/// The entry of this seq, if its slot holds it whole.
fn whole(spool: &Spool, seq: u64) -> Option<[u8; 32]> {
    let raw = spool.slot(seq)?;
    let e = Entry::read(&raw);
    (e.is_whole(&raw) && e.seq == seq && e.epoch == spool.epoch).then_some(raw)
}

/// Is an entry that must stand there not there? Only if tail is still below it after the slot was read.
fn is_broken(spool: &Spool, seq: u64) -> bool {
    let covered = spool.head().is_some_and(|head| seq <= head);
    let damaged = whole(spool, seq).is_none();
    let needed = spool.tail().is_some_and(|tail| tail < seq);
    covered && damaged && needed
}

/// Looks at the snapshot register.
#[derive(Default)]
struct SnapshotWitness {
    paths: Paths,
    last_n: u64,
    log_id: Option<u64>,
}

impl Default for Paths {
    fn default() -> Paths {
        Paths::new("")
    }
}

impl Look for SnapshotWitness {
    fn look(&mut self, seen: &mut Seen) -> Option<()> {
        let rows = snapshot_rows(&self.paths.snapshot());
        let first = *rows.first().filter(|r| r.row.n != self.last_n)?;
        if first.row.n < self.last_n {
            seen.faults.add(format!("published for n = {}, and before it for {}", first.row.n, self.last_n));
        }
        self.last_n = first.row.n;
        if *self.log_id.get_or_insert(first.log_id) != first.log_id {
            seen.faults.add(format!("snapshot of another log: {}", first.log_id));
        }
        if rows.iter().any(|r| r.row.n != first.row.n) {
            seen.faults.add(format!("rows of one snapshot differ in n, the first has {}", first.row.n));
        }
        seen.published.extend(rows.iter().map(|r| r.row));
        // Read after the rows: stat may fold only what was durable before.
        let page = Page::open(&self.paths.page(Role::Log))?;
        let durable = page.durable()?;
        if first.row.n > durable && page.is_named() {
            seen.faults.add(format!("published for n = {}, but only {durable} is durable", first.row.n));
        }
        Some(())
    }
}
