//! What a record proves by itself: the rules of docs/formats.md, as a pure fold over its entries.
//!
//! [`Audit`] is given the entries in the order in which they stand and collects [`Finding`]s, each with the seq and a
//! sentence. After a finding it goes on as well as it can, so that one rotten entry is one finding: it takes up the
//! order, the epoch and the grid again from the next whole entry.
//!
//! Proved are: CRC, known kinds, order without gap; how epochs begin; `planned = taken + missed` on a grid, where the
//! time of every entry follows from the number of ticks before it; without a grid, that time never goes back. Not
//! provable from a record alone: that no position of the source was skipped.
#![forbid(unsafe_code)]

use crate::entry::{Entry, Kind, LEN, Reason};
use crate::fold::Fold;
use thiserror::Error;

/// So many findings are kept; all are counted.
pub const FINDINGS_MAX: usize = 100;

/// Picoseconds in a nanosecond.
const PS: u128 = 1000;

/// A rule that the record breaks, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("entry {seq}: {fault}")]
pub struct Finding {
    /// Seq of the entry at which it was seen.
    pub seq: u64,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// The CRC does not fit.
    #[error("damaged, its CRC does not fit its bytes")]
    Damaged,
    /// It and those up to `next` are not there.
    #[error("is not in the record, nor are those after it up to entry {next}")]
    Missing {
        /// The next entry that is there.
        next: u64,
    },
    /// Another seq than the place says.
    #[error("out of order, entry {found} stands in its place")]
    Order {
        /// Seq found in its place.
        found: u64,
    },
    /// The CRC fits, the kind does not.
    #[error("of unknown kind {kind} with flags {flags}")]
    Unknown {
        /// Number of the kind.
        kind: u8,
        /// The flags.
        flags: u8,
    },
    /// A LOSS that counts nothing.
    #[error("a LOSS with count 0")]
    EmptyLoss,
    /// Something other than LOSS(abandoned) before the first EPOCH.
    #[error("stands before the first EPOCH of the record, where only LOSS(abandoned) may stand")]
    BeforeEpoch,
    /// An EPOCH with a number that does not rise.
    #[error("an EPOCH with number {found} after epoch {last}; the number must rise")]
    EpochFalls {
        /// Epoch before.
        last: u32,
        /// Epoch found.
        found: u32,
    },
    /// The epoch changes without an EPOCH.
    #[error("belongs to epoch {found} in the middle of epoch {expected}")]
    WrongEpoch {
        /// Epoch that is open.
        expected: u32,
        /// Epoch found.
        found: u32,
    },
    /// An epoch that does not begin with EPOCH, SOURCE, GRID.
    #[error("stands where epoch {epoch} must have a {expected}: EPOCH is followed by SOURCE, SOURCE by GRID")]
    Opening {
        /// The epoch.
        epoch: u32,
        /// Name of the entry that must stand here.
        expected: &'static str,
    },
    /// The time on a grid is later than the ticks before it say.
    #[error(
        "its time is {found} ns where {expected} ns is due: ticks between are neither taken nor counted as lost"
    )]
    TicksLost {
        /// Instant that follows from the ticks before it.
        expected: u64,
        /// Instant found.
        found: u64,
    },
    /// The time on a grid is earlier than the ticks before it say.
    #[error("its time is {found} ns where {expected} ns is due: ticks are counted twice")]
    TicksTwice {
        /// Instant that follows from the ticks before it.
        expected: u64,
        /// Instant found.
        found: u64,
    },
    /// The time is no tick of the grid.
    #[error("its time is {found} ns where {expected} ns is due, and is no tick of the grid at all")]
    OffGrid {
        /// Instant that follows from the ticks before it.
        expected: u64,
        /// Instant found.
        found: u64,
    },
    /// An entry of a further channel has not the time of channel 0.
    #[error("channel {channel} has the time {found} ns, but channel 0 before it has {expected} ns")]
    OtherTime {
        /// Its channel.
        channel: u16,
        /// Time of channel 0.
        expected: u64,
        /// Time found.
        found: u64,
    },
    /// Without a grid the time goes back within an epoch.
    #[error("its time goes back from {last} ns to {found} ns within the epoch")]
    TimeGoesBack {
        /// Time before.
        last: u64,
        /// Time found.
        found: u64,
    },
}

/// Ticks of all grids of a record: planned = taken + missed + full + hidden.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticks {
    /// Ticks of the grids up to the last entry.
    pub planned: u64,
    /// Ticks with a sample on channel 0.
    pub taken: u64,
    /// Ticks in LOSS(missed).
    pub missed: u64,
    /// Ticks in LOSS(full).
    pub full: u64,
    /// Ticks whose entry is a CORRUPT or damaged: the time goes on over them.
    pub hidden: u64,
}

/// The audit of a record, from its first entry on.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    /// Totals over the entries that are whole, known and in order.
    pub totals: Fold,
    /// Ticks of all grids.
    pub ticks: Ticks,
    /// Number of epochs seen.
    pub epochs: u64,
    /// Number of findings, also of those that are not kept.
    pub faults: u64,
    findings: Vec<Finding>,
    /// Entries that could not be read; a gap counts as one.
    unread: u64,
    /// Seq that the next entry must have.
    next: u64,
    /// The seq that would follow the last one, if that was out of order.
    jumped: Option<u64>,
    /// The last entry could not be read.
    blind: bool,
    stage: Stage,
    /// The epoch that is open.
    epoch: u32,
    time: Time,
}

/// How far the beginning of an epoch has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// No EPOCH yet.
    #[default]
    Before,
    /// After EPOCH.
    WantSource,
    /// After EPOCH, SOURCE.
    WantGrid,
    /// After EPOCH, SOURCE, GRID.
    Open,
}

/// Times within an epoch.
#[derive(Clone, Copy, Debug, Default)]
struct Time {
    /// The grid; none while it is not known, or `free`.
    grid: Option<Grid>,
    /// There is no grid: as fast as possible.
    free: bool,
    /// t of the last sample of channel 0.
    zero: Option<u64>,
    /// Highest t without a grid.
    last: u64,
    /// The present run of LOSS entries.
    run: Option<Run>,
    /// A damaged entry since the last tick may have taken any number of ticks.
    unsure: bool,
}

/// A grid and the tick that comes next on it.
#[derive(Clone, Copy, Debug)]
struct Grid {
    origin_ns: u64,
    /// Not 0.
    period_ps: u64,
    /// Number of the tick that comes next.
    tick: u64,
    /// Instant of that tick in ps since the origin.
    at_ps: u128,
}

/// A run of LOSS entries that took ticks. Each of them has the t of the last tick of the run; only if conv died within
/// it, those before have an earlier one.
#[derive(Clone, Copy, Debug)]
struct Run {
    seq: u64,
    t_ns: u64,
    ticks: u64,
    /// A damaged entry before its last LOSS may have taken any number of ticks.
    unsure: bool,
}

impl Audit {
    /// An audit that expects entry 1 next.
    pub fn new() -> Audit {
        Audit { next: 1, ..Audit::default() }
    }

    /// The first [`FINDINGS_MAX`] findings, in the order of the record.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Are there entries that are not in the totals, because they are damaged, missing or not known?
    pub fn is_partial(&self) -> bool {
        self.unread > 0
    }

    /// Seq that the next entry must have.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Audits the whole entries that `bytes` begins with and returns how many; up to 31 bytes may remain.
    pub fn take_bytes(&mut self, bytes: &[u8]) -> usize {
        let (entries, _) = bytes.as_chunks::<LEN>();
        entries.iter().for_each(|bytes| self.take(&Entry::from_bytes(bytes)));
        entries.len()
    }

    /// Audits the entry that stands next.
    pub fn take(&mut self, entry: &Entry) {
        let seq = self.next;
        match self.check_form(entry) {
            Ok(kind) => {
                self.check_meaning(entry, kind);
                self.totals.take(entry, kind);
                self.blind = false;
            }
            Err(fault) => {
                self.lose_sight(seq, fault);
            }
        }
        self.next = self.next.wrapping_add(1);
    }

    /// The entries before `seq` are not in the record: one finding, and entry `seq` stands next.
    pub fn skip_to(&mut self, seq: u64) {
        self.lose_sight(self.next, Fault::Missing { next: seq });
        self.next = seq;
    }

    /// An entry cannot be read: it may have been anything.
    fn lose_sight(&mut self, seq: u64, fault: Fault) {
        self.report(seq, fault);
        self.unread += 1;
        self.blind = true;
        if self.stage != Stage::Before {
            self.stage = Stage::Open;
        }
        self.time.unsure = true;
    }

    /// To be called after the last entry: judges what waited for the entry after it.
    pub fn finish(&mut self) {
        self.end_run(Ending::Cut);
    }

    fn report(&mut self, seq: u64, fault: Fault) {
        self.faults += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { seq, fault });
        }
    }

    /// What can be said of an entry without its meaning: CRC, kind, order.
    #[inline(always)]
    fn check_form(&mut self, entry: &Entry) -> Result<Kind, Fault> {
        if !entry.is_whole() {
            return Err(Fault::Damaged);
        }
        if entry.seq != self.next {
            self.check_order(entry.seq)?;
        }
        self.jumped = None;
        let &Entry { kind, flags, .. } = entry;
        entry.kind().ok_or(Fault::Unknown { kind, flags })
    }

    /// One strange seq is a stray entry; two that follow each other are a jump, and the order goes on from there.
    #[cold]
    fn check_order(&mut self, found: u64) -> Result<(), Fault> {
        if self.jumped == Some(found) {
            self.next = found;
            return Ok(());
        }
        self.jumped = Some(found.wrapping_add(1));
        Err(Fault::Order { found })
    }

    /// Epochs first, then what the kind says.
    #[inline(always)]
    fn check_meaning(&mut self, entry: &Entry, kind: Kind) {
        if self.stage != Stage::Open || entry.epoch != self.epoch || kind == Kind::Epoch {
            self.check_epoch(entry, kind);
        }
        if kind == Kind::Sample && self.is_next_tick(entry) {
            self.time.zero = Some(entry.t_ns);
            self.ticks.planned += 1;
            self.ticks.taken += 1;
            return;
        }
        self.check_time(entry, kind);
    }

    /// The common case in one step: the next tick of the grid, on channel 0, after nothing that needs thought. If so
    /// it is taken.
    #[inline(always)]
    fn is_next_tick(&mut self, entry: &Entry) -> bool {
        let simple = entry.channel == 0 && self.time.run.is_none() && !self.time.unsure;
        match &mut self.time.grid {
            Some(grid) if simple && entry.t_ns == grid.next_ns() => {
                grid.step();
                true
            }
            _ => false,
        }
    }

    /// The rules of epochs; called at every entry that is not simply one more of the open epoch.
    fn check_epoch(&mut self, entry: &Entry, kind: Kind) {
        let stands_for_epoch = kind == Kind::Corrupt || self.blind;
        if kind == Kind::Epoch {
            // It may come at any place: a power cut may have ended the epoch before it anywhere.
            if self.stage != Stage::Before && entry.epoch <= self.epoch {
                self.report(entry.seq, Fault::EpochFalls { last: self.epoch, found: entry.epoch });
            }
            self.begin_epoch(entry.epoch, Stage::WantSource);
        } else if stands_for_epoch && (self.stage == Stage::Before || entry.epoch > self.epoch) {
            let stage = self.stage_after_hidden_epoch(kind);
            self.begin_epoch(entry.epoch, stage);
        } else if self.stage == Stage::Before {
            if kind != Kind::Loss(Reason::Abandoned) {
                self.report(entry.seq, Fault::BeforeEpoch);
                self.begin_epoch(entry.epoch, Stage::Open);
            }
        } else if entry.epoch != self.epoch {
            self.report(entry.seq, Fault::WrongEpoch { expected: self.epoch, found: entry.epoch });
            self.time.unsure = true;
            self.epoch = entry.epoch;
        } else {
            self.check_opening(entry, kind);
        }
    }

    /// A CORRUPT stands for the EPOCH itself. After a damaged entry, which was then the EPOCH or more, this one may be
    /// any of those that follow.
    fn stage_after_hidden_epoch(&self, kind: Kind) -> Stage {
        match kind {
            Kind::Corrupt if !self.blind => Stage::WantSource,
            Kind::Source => Stage::WantGrid,
            _ => Stage::Open,
        }
    }

    fn begin_epoch(&mut self, epoch: u32, stage: Stage) {
        self.end_run(Ending::Cut);
        self.time = Time { unsure: self.blind, ..Time::default() };
        self.stage = stage;
        self.epoch = epoch;
        self.epochs += 1;
    }

    /// The second and third entry of an epoch.
    fn check_opening(&mut self, entry: &Entry, kind: Kind) {
        let (expected, after) = match self.stage {
            Stage::WantSource => (Kind::Source, Stage::WantGrid),
            Stage::WantGrid => (Kind::Grid, Stage::Open),
            Stage::Before | Stage::Open => return,
        };
        if kind == expected || kind == Kind::Corrupt {
            self.stage = after;
            return;
        }
        self.stage = Stage::Open;
        let expected = if expected == Kind::Source { "SOURCE" } else { "GRID" };
        self.report(entry.seq, Fault::Opening { epoch: self.epoch, expected });
    }

    /// The rules of time, by kind.
    fn check_time(&mut self, entry: &Entry, kind: Kind) {
        match kind {
            Kind::Loss(Reason::Abandoned) => self.check_count(entry),
            Kind::Loss(reason) => {
                self.check_count(entry);
                self.take_loss(entry, reason);
            }
            // It may stand for a LOSS: a run goes on over it.
            Kind::Corrupt => self.time.unsure = true,
            Kind::Sample => {
                self.end_run(Ending::Seen);
                self.take_sample(entry);
            }
            Kind::Grid => {
                self.end_run(Ending::Seen);
                self.begin_grid(entry.t_ns, entry.wide_value());
            }
            Kind::Clock => {
                self.end_run(Ending::Seen);
                self.check_no_way_back(entry);
            }
            Kind::Source => {
                // Its GRID follows at once; if that is damaged, nothing is known of the ticks until the next one.
                self.end_run(Ending::Seen);
                self.forget_grid();
                self.stage = Stage::WantGrid;
            }
            Kind::Epoch => {}
        }
    }

    fn check_count(&mut self, entry: &Entry) {
        if entry.count() == 0 {
            self.report(entry.seq, Fault::EmptyLoss);
        }
    }

    fn begin_grid(&mut self, origin_ns: u64, period_ps: u64) {
        self.time.free = period_ps == 0;
        self.time.grid = (period_ps > 0).then_some(Grid { origin_ns, period_ps, tick: 0, at_ps: 0 });
        self.time.unsure = false;
    }

    fn forget_grid(&mut self) {
        self.time.free = false;
        self.time.grid = None;
    }

    /// Without a grid, all that is known of time is its direction.
    fn check_no_way_back(&mut self, entry: &Entry) {
        let last = self.time.last;
        if self.time.free && entry.t_ns < last {
            self.report(entry.seq, Fault::TimeGoesBack { last, found: entry.t_ns });
        }
        self.time.last = entry.t_ns;
    }

    fn take_loss(&mut self, entry: &Entry, reason: Reason) {
        self.check_no_way_back(entry);
        let total = match reason {
            Reason::Missed => &mut self.ticks.missed,
            Reason::Full => &mut self.ticks.full,
            Reason::Bad | Reason::Abandoned => return,
        };
        if self.time.grid.is_some() {
            *total = total.saturating_add(entry.count());
            let (before, was_unsure) = self.time.run.map_or((0, false), |run| (run.ticks, run.unsure));
            let ticks = before.saturating_add(entry.count());
            let unsure = was_unsure | std::mem::take(&mut self.time.unsure);
            self.time.run = Some(Run { seq: entry.seq, t_ns: entry.t_ns, ticks, unsure });
        }
    }

    /// A run of LOSS entries is over. What a power cut took of it is not known: then it may say more than it counts.
    fn end_run(&mut self, ending: Ending) {
        let (Some(run), Some(grid)) = (self.time.run.take(), self.time.grid) else { return };
        self.plan(run.ticks);
        if ending == Ending::Seen || run.t_ns <= grid.after(run.ticks).last_ns() {
            self.reach(run.seq, run.t_ns, run.ticks, run.unsure || self.time.unsure);
        }
    }

    fn plan(&mut self, ticks: u64) {
        self.ticks.planned = self.ticks.planned.saturating_add(ticks);
    }

    fn take_sample(&mut self, entry: &Entry) {
        self.check_no_way_back(entry);
        if entry.channel > 0 {
            return self.check_other_channel(entry);
        }
        self.time.zero = Some(entry.t_ns);
        if self.time.grid.is_some() {
            self.plan(1);
            self.ticks.taken += 1;
            self.reach(entry.seq, entry.t_ns, 1, self.time.unsure);
        }
        self.time.unsure = false;
    }

    /// The entries of further channels carry the time of channel 0 before them. If that one may be hidden, theirs
    /// tells it.
    fn check_other_channel(&mut self, entry: &Entry) {
        let found = entry.t_ns;
        let expected = self.time.zero.unwrap_or(0);
        if self.time.zero == Some(found) {
            return;
        }
        if !self.time.unsure {
            let channel = entry.channel;
            self.report(entry.seq, Fault::OtherTime { channel, expected, found });
        } else {
            self.time.zero = Some(found);
            self.reach(entry.seq, found, 0, true);
            self.time.unsure = false;
        }
    }

    /// `ticks` more ticks are accounted for, and the last one of them is at `t_ns`. With `ticks` 0 it is a hidden one.
    fn reach(&mut self, seq: u64, t_ns: u64, ticks: u64, unsure: bool) {
        let Some(grid) = self.time.grid else { return };
        let told = grid.after(ticks);
        if ticks > 0 && t_ns == told.last_ns() {
            self.time.grid = Some(told);
            return;
        }
        let (expected, found) = (if ticks > 0 { told.last_ns() } else { grid.next_ns() }, t_ns);
        let Some(tick) = grid.tick_at(t_ns) else {
            // What is damaged may have been another GRID. One finding is enough in any case.
            self.forget_grid();
            if !unsure {
                self.report(seq, Fault::OffGrid { expected, found });
            }
            return;
        };
        let seen = grid.at_tick(tick.saturating_add(1));
        let more = seen.tick.saturating_sub(told.tick);
        self.time.grid = Some(seen);
        self.plan(more);
        if seen.tick < told.tick {
            self.report(seq, Fault::TicksTwice { expected, found });
        } else if unsure {
            self.ticks.hidden = self.ticks.hidden.saturating_add(more);
        } else {
            self.report(seq, Fault::TicksLost { expected, found });
        }
    }
}

/// How a run of LOSS entries ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// With an entry after it.
    Seen,
    /// With the record, or with the epoch: there may have been more.
    Cut,
}

impl Grid {
    #[inline(always)]
    fn step(&mut self) {
        self.tick += 1;
        self.at_ps += self.period_ps as u128;
    }

    fn at_tick(&self, tick: u64) -> Grid {
        Grid { tick, at_ps: tick as u128 * self.period_ps as u128, ..*self }
    }

    fn after(&self, ticks: u64) -> Grid {
        self.at_tick(self.tick.saturating_add(ticks))
    }

    /// Instant of the tick that comes next.
    #[inline(always)]
    fn next_ns(&self) -> u64 {
        self.origin_ns.wrapping_add((self.at_ps / PS) as u64)
    }

    /// Instant of the tick before it.
    fn last_ns(&self) -> u64 {
        self.at_tick(self.tick.saturating_sub(1)).next_ns()
    }

    /// Number of the tick at exactly this instant.
    fn tick_at(&self, t_ns: u64) -> Option<u64> {
        let since_ps = t_ns.checked_sub(self.origin_ns)? as u128 * PS;
        let tick = u64::try_from(since_ps.div_ceil((self.period_ps as u128).max(1))).ok()?;
        (self.at_tick(tick).next_ns() == t_ns).then_some(tick)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: u64 = 2_777_777_778; // 360 Hz in ps

    fn tick(k: u64) -> u64 {
        500 + (k as u128 * P as u128 / PS) as u64
    }

    /// Numbers the entries 1, 2, 3 ... and seals them.
    fn record(entries: &[Entry]) -> Vec<Entry> {
        (1..).zip(entries).map(|(seq, e)| Entry { seq, ..*e }.seal()).collect()
    }

    fn opening(epoch: u32, period_ps: u64) -> Vec<Entry> {
        vec![Entry::epoch(0, epoch, 7), Entry::source(0, epoch, 0, 1), Entry::grid(0, epoch, 500, period_ps)]
    }

    fn on_grid(entries: &[Entry]) -> Vec<Entry> {
        record(&[opening(1, P), entries.to_vec()].concat())
    }

    fn sample(k: u64) -> Entry {
        Entry::sample(0, 1, tick(k), 0, k as i32)
    }

    fn other(k: u64) -> Entry {
        Entry::sample(0, 1, tick(k), 1, k as i32)
    }

    fn loss(last: u64, reason: Reason, count: u32) -> Entry {
        Entry::loss(0, 1, tick(last), reason, count)
    }

    fn audit(entries: &[Entry]) -> Audit {
        let mut audit = Audit::new();
        let bytes: Vec<u8> = entries.iter().flat_map(|e| e.to_bytes()).collect();
        assert_eq!(audit.take_bytes(&bytes), entries.len());
        audit.finish();
        audit
    }

    fn faults(entries: &[Entry]) -> Vec<(u64, Fault)> {
        let audit = audit(entries);
        let ticks = audit.ticks;
        if audit.faults == 0 {
            assert_eq!(ticks.planned, ticks.taken + ticks.missed + ticks.full + ticks.hidden);
        }
        assert_eq!(audit.faults as usize, audit.findings().len());
        audit.findings().iter().map(|f| (f.seq, f.fault)).collect()
    }

    fn good() -> Vec<Entry> {
        on_grid(&[
            sample(0),
            other(0),
            loss(5, Reason::Missed, 2),
            loss(5, Reason::Full, 3),
            loss(5, Reason::Bad, 9),
            sample(6),
            other(6),
            Entry::clock(0, 1, 9, -4),
            sample(7),
            other(7),
            sample(8),
            other(8),
        ])
    }

    #[test]
    fn a_true_record_has_no_findings() {
        let audit = audit(&good());
        assert_eq!(audit.findings(), []);
        assert_eq!(audit.ticks, Ticks { planned: 9, taken: 4, missed: 2, full: 3, hidden: 0 });
        assert_eq!((audit.epochs, audit.totals.n, audit.totals.losses.bad), (1, 15, 9));
        assert_eq!(audit.totals.channel(1).map(|s| s.count), Some(4));
    }

    #[test]
    fn every_rotten_entry_is_one_finding() {
        for rotten in 0..good().len() {
            let mut entries = good();
            entries[rotten].value ^= 1 << 30;
            assert_eq!(faults(&entries), [(rotten as u64 + 1, Fault::Damaged)]);
        }
    }

    #[test]
    fn corrupt_may_stand_for_anything() {
        for place in 0..good().len() {
            let mut entries = good();
            entries[place] = Entry::corrupt(place as u64 + 1, 1);
            assert_eq!(faults(&entries), [], "entry {}", place + 1);
            assert_eq!(audit(&entries).totals.losses.corrupt, 1);
        }
        let mut entries = good();
        entries[9] = Entry::corrupt(10, 1);
        entries[10] = Entry::corrupt(11, 1);
        assert_eq!(audit(&entries).ticks.hidden, 0);
        entries[12] = Entry::corrupt(13, 1);
        assert_eq!(audit(&entries).ticks.hidden, 0);
        entries[11] = Entry::corrupt(12, 1);
        assert_eq!(faults(&entries), []);
        assert_eq!(audit(&entries).ticks.hidden, 1);
    }

    #[test]
    fn an_entry_left_out_or_twice_is_one_or_two_findings() {
        for gone in 0..good().len() - 1 {
            let mut entries = good();
            entries.remove(gone);
            let found = faults(&entries);
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0], (gone as u64 + 1, Fault::Order { found: gone as u64 + 2 }));
            let mut entries = good();
            entries.insert(gone, entries[gone]);
            assert!((1..=2).contains(&faults(&entries).len()));
        }
    }

    #[test]
    fn ticks_must_add_up() {
        let (expected, found) = (tick(1), tick(2));
        let lost = Fault::TicksLost { expected, found };
        assert_eq!(faults(&on_grid(&[sample(0), sample(2), sample(3)])), [(5, lost)]);
        let twice = Fault::TicksTwice { expected, found: tick(0) };
        assert_eq!(faults(&on_grid(&[sample(0), sample(0), sample(1)])), [(5, twice)]);
        let off = Entry::sample(0, 1, tick(1) + 1, 0, 5);
        let fault = Fault::OffGrid { expected, found: tick(1) + 1 };
        assert_eq!(faults(&on_grid(&[sample(0), off, sample(2)])), [(5, fault)]);
        for (count, right) in [(2, false), (3, true), (4, false)] {
            let entries = on_grid(&[sample(0), loss(3, Reason::Missed, count), sample(4), sample(5)]);
            assert_eq!(faults(&entries).is_empty(), right, "{count}");
            assert!(faults(&entries).len() <= 1);
        }
    }

    #[test]
    fn a_run_of_losses_may_be_broken_by_a_restart_or_by_the_end() {
        let restart = [
            sample(0),
            loss(4, Reason::Missed, 2),
            loss(9, Reason::Missed, 5),
            loss(9, Reason::Full, 2),
            sample(10),
        ];
        assert_eq!(faults(&on_grid(&restart)), []);
        let cut = on_grid(&[sample(0), loss(4, Reason::Missed, 2)]);
        assert_eq!(faults(&cut), []);
        let power_cut = [cut.clone(), opening(2, P)].concat();
        assert_eq!(faults(&record(&power_cut)), []);
        let late = on_grid(&[sample(0), loss(4, Reason::Missed, 6)]);
        assert_eq!(faults(&late).len(), 1);
    }

    #[test]
    fn other_channels_have_the_time_of_channel_0() {
        let fault = Fault::OtherTime { channel: 1, expected: tick(0), found: tick(1) };
        assert_eq!(faults(&on_grid(&[sample(0), other(1), sample(1), other(1)])), [(5, fault)]);
        let first = Fault::OtherTime { channel: 1, expected: 0, found: tick(0) };
        assert_eq!(faults(&on_grid(&[other(0), sample(0)])), [(4, first)]);
    }

    #[test]
    fn without_a_grid_time_only_goes_forward() {
        let at = |t_ns| Entry::sample(0, 1, t_ns, 0, 0);
        let free = |entries: &[Entry]| faults(&record(&[opening(1, 0), entries.to_vec()].concat()));
        assert_eq!(
            free(&[at(5), at(5), Entry::loss(0, 1, 6, Reason::Full, 9), Entry::clock(0, 1, 7, 1), at(9)]),
            []
        );
        let back = Fault::TimeGoesBack { last: 9, found: 8 };
        assert_eq!(free(&[at(9), at(8), at(9)]), [(5, back)]);
        assert_eq!(free(&[at(9), Entry::clock(0, 1, 8, 1), at(9)]), [(5, back)]);
        let next_epoch = [vec![at(9)], opening(2, 0), vec![Entry::sample(0, 2, 1, 0, 0)]].concat();
        assert_eq!(free(&next_epoch), []);
    }

    #[test]
    fn a_grid_may_change_within_an_epoch() {
        let entries = [
            sample(0),
            Entry::source(0, 1, 5, 2),
            Entry::grid(0, 1, 9_000_000, 1_000_000),
            Entry::sample(0, 1, 9_000_000, 0, 1),
            Entry::sample(0, 1, 9_001_000, 0, 1),
        ];
        assert_eq!(faults(&on_grid(&entries)), []);
    }

    #[test]
    fn epochs_begin_as_they_must() {
        let abandoned = Entry::loss(0, 1, 44, Reason::Abandoned, 5);
        let first = [vec![abandoned], opening(2, P)].concat();
        assert_eq!(faults(&record(&first)), []);
        assert_eq!(faults(&record(&[vec![sample(0)], opening(1, P)].concat()))[0], (1, Fault::BeforeEpoch));
        let falls = [opening(3, P), opening(3, P)].concat();
        assert_eq!(faults(&record(&falls)), [(4, Fault::EpochFalls { last: 3, found: 3 })]);
        let middle =
            [good(), vec![Entry::sample(0, 2, tick(9), 0, 0), Entry::sample(0, 2, tick(10), 0, 0)]].concat();
        assert_eq!(faults(&record(&middle)), [(16, Fault::WrongEpoch { expected: 1, found: 2 })]);
        let mut headless = opening(1, P);
        headless.remove(1);
        headless.push(sample(0));
        assert_eq!(faults(&record(&headless)), [(2, Fault::Opening { epoch: 1, expected: "SOURCE" })]);
        let mut gridless = opening(1, P);
        gridless[2] = sample(0);
        assert_eq!(faults(&record(&gridless)), [(3, Fault::Opening { epoch: 1, expected: "GRID" })]);
        // A power cut may end an epoch after any of its entries.
        let cut = [opening(1, P)[..2].to_vec(), opening(2, P)].concat();
        assert_eq!(faults(&record(&cut)), []);
        // CORRUPT and rot may stand for the entries that begin the second epoch, too.
        for place in 0..3 {
            let mut entries =
                record(&[opening(1, P), opening(2, P), vec![Entry { epoch: 2, ..sample(0) }]].concat());
            entries[3 + place] = Entry::corrupt(4 + place as u64, 2);
            assert_eq!(faults(&entries), []);
            entries[3 + place].crc ^= 1;
            assert_eq!(faults(&entries), [(4 + place as u64, Fault::Damaged)]);
            assert_eq!(audit(&entries).epochs, 2);
        }
    }

    #[test]
    fn unknown_kinds_and_empty_losses_are_found() {
        let mut entries = good();
        entries[14] = Entry { kind: 44, ..entries[14] }.seal();
        assert_eq!(faults(&entries), [(15, Fault::Unknown { kind: 44, flags: 0 })]);
        let empty = on_grid(&[Entry::loss(0, 1, 0, Reason::Bad, 0)]);
        assert_eq!(faults(&empty), [(4, Fault::EmptyLoss)]);
    }

    #[test]
    fn entries_that_are_missing_are_one_finding() {
        for (gone, end) in [(4, 5), (4, 9), (1, 12), (2, 3), (9, 15)] {
            let (before, after) = (good()[..gone].to_vec(), good()[end..].to_vec());
            let mut audit = Audit::new();
            before.iter().for_each(|e| audit.take(e));
            audit.skip_to(end as u64 + 1);
            after.iter().for_each(|e| audit.take(e));
            audit.finish();
            let fault = Fault::Missing { next: end as u64 + 1 };
            assert_eq!(audit.findings(), [Finding { seq: gone as u64 + 1, fault }]);
            assert_eq!(audit.next(), 16);
        }
    }

    #[test]
    fn findings_are_bounded_and_counted() {
        let bad = vec![Entry::sample(1, 1, 0, 0, 0); 1000];
        let mut audit = audit(&bad);
        assert_eq!(audit.findings().len(), FINDINGS_MAX);
        assert!(audit.faults >= 999);
        audit.take_bytes(&[0xff; 64]);
        let finding = audit.findings()[0].to_string();
        assert!(finding.starts_with("entry 1: ") && finding.contains("before the first EPOCH"), "{finding}");
    }

    /// What conv could write: two channels on a grid, runs of losses, restarts, new grids, new epochs.
    fn random_history(random: &mut impl FnMut(u64) -> u64) -> Vec<Entry> {
        let (mut epoch, mut k, mut period, mut origin) = (1, 0, P, 500);
        let mut entries = opening(epoch, period);
        for _ in 0..random(20) {
            let at = |k: u64| origin + (k as u128 * period as u128 / PS) as u64;
            match random(10) {
                0 => {
                    let (missed, full, bad) = (random(4) as u32, 1 + random(3) as u32, 1 + random(2) as u32);
                    k += missed as u64 + full as u64;
                    let t_ns = at(k - 1);
                    let counts = [(Reason::Missed, missed), (Reason::Full, full), (Reason::Bad, bad)];
                    let some = counts.into_iter().filter(|(_, count)| *count > 0);
                    entries.extend(some.map(|(reason, count)| Entry::loss(0, epoch, t_ns, reason, count)));
                }
                1 => entries.push(Entry::clock(0, epoch, at(k), -3)),
                2 if random(3) == 0 => {
                    (origin, period, k) = (at(k) + 1, 1_000_001 + random(P), 0);
                    entries.push(Entry::source(0, epoch, 0, 5));
                    entries.push(Entry::grid(0, epoch, origin, period));
                }
                3 if random(3) == 0 => {
                    (epoch, k, period, origin) = (epoch + 1, 0, P, 500);
                    entries.extend(opening(epoch, period));
                }
                _ => {
                    entries.push(Entry::sample(0, epoch, at(k), 0, 7));
                    entries.push(Entry::sample(0, epoch, at(k), 1, 7));
                    k += 1;
                }
            }
        }
        record(&entries)
    }

    #[test]
    fn random_true_histories_have_no_findings_and_rotten_ones_one() {
        let mut seed = 7u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % below
        };
        for _ in 0..20_000 {
            let mut entries = random_history(&mut random);
            assert_eq!(faults(&entries), [], "{entries:#?}");
            for _ in 0..random(4) {
                let place = random(entries.len() as u64) as usize;
                entries[place] = Entry::corrupt(entries[place].seq, entries[place].epoch);
            }
            assert_eq!(faults(&entries), [], "{entries:#?}");
            let place = random(entries.len() as u64) as usize;
            entries[place].crc ^= 1;
            assert_eq!(faults(&entries), [(place as u64 + 1, Fault::Damaged)], "{entries:#?}");
        }
    }

    #[test]
    fn nonsense_never_panics() {
        let mut seed = 1u64;
        let mut random = || {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            seed >> 33
        };
        for _ in 0..2000 {
            let extreme = [0, 1, u64::MAX, u64::MAX - 1, 1 << 47];
            let mut audit = Audit::new();
            for seq in 1..40 {
                let t_ns = extreme[random() as usize % 5];
                let (value, kind) = (random() as i32, random() as u8 % 9);
                let (channel, flags, epoch) =
                    (random() as u16 % 3 * 21845, random() as u8 % 6, random() as u32 % 3);
                audit.take(&Entry { seq, t_ns, value, channel, kind, flags, epoch, crc: 0 }.seal());
            }
            audit.finish();
        }
    }
}
