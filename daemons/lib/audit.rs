//! What a record proves by itself: the rules of docs/formats.md, as a pure fold over its entries.
//!
//! [`Audit`] is given the entries in the order in which they stand and collects [`Finding`]s, each with the seq and a
//! sentence. After a finding it goes on as well as it can, so that one rotten entry is one finding: it takes up the
//! order, the epoch and the grid again from the next whole entry.
//!
//! Proved are: CRC, known kinds, order without gap; how epochs begin; `planned = taken + empty` on a grid, where the
//! time of every entry follows from the number of ticks before it; without a grid, that time never goes back. Not
//! provable from a record alone: that no position of the source was skipped.
#![forbid(unsafe_code)]

use crate::entry::{self, Entry, Kind, LEN, Reason};
use crate::fold::Fold;
use crate::settings::Settings;
use thiserror::Error;

mod grid;
mod state;
use grid::Grid;
pub use state::STATE_LEN;

/// So many findings are kept; all are counted.
pub const FINDINGS_MAX: usize = 100;

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

/// Ticks of all grids of a record: planned = taken + empty + full + hidden.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticks {
    /// Ticks of the grids up to the last entry.
    pub planned: u64,
    /// Ticks with a sample on channel 0.
    pub taken: u64,
    /// Ticks in LOSS(missed) and LOSS(unread): nobody took them, or there was nothing to take.
    pub empty: u64,
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

/// A run of LOSS entries that took ticks. Each of them has the t of the last tick of the run; only if conv died within
/// it, those before have an earlier one.
#[derive(Clone, Copy, Debug, Default)]
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

    /// The same, with totals that hold what these settings ask for.
    pub fn with(settings: &Settings) -> Audit {
        Audit { totals: Fold::with(settings), ..Audit::new() }
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
        for part in entries.chunks(entry::PART) {
            entry::checked(part).for_each(|(entry, is_whole)| self.gather(&entry, is_whole));
        }
        self.totals.settle();
        entries.len()
    }

    /// Audits the entry that stands next.
    pub fn take(&mut self, entry: &Entry) {
        self.gather(entry, entry.is_whole());
        self.totals.settle();
    }

    /// The same; `is_whole`: its CRC is right.
    #[inline(always)]
    fn gather(&mut self, entry: &Entry, is_whole: bool) {
        let seq = self.next;
        match self.check_form(entry, is_whole) {
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
    fn check_form(&mut self, entry: &Entry, is_whole: bool) -> Result<Kind, Fault> {
        if !is_whole {
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
        if kind == Kind::Sample && self.is_in_time(entry) {
            return;
        }
        self.check_time(entry, kind);
    }

    /// The way of nearly all: a sample of channel 0 on the next tick of the grid or, without one, not before the last entry.
    #[inline(always)]
    fn is_in_time(&mut self, entry: &Entry) -> bool {
        let time = &mut self.time;
        if entry.channel > 0 || time.run.is_some() || time.unsure {
            return false;
        }
        match &mut time.grid {
            Some(grid) if entry.t_ns == grid.next_ns() => {
                grid.step();
                self.ticks.planned += 1;
                self.ticks.taken += 1;
            }
            None if time.free && entry.t_ns >= time.last => {}
            _ => return false,
        }
        (time.zero, time.last) = (Some(entry.t_ns), entry.t_ns);
        true
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
        self.time.grid = (period_ps > 0).then(|| Grid::new(origin_ns, period_ps));
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
            Reason::Missed | Reason::Unread => &mut self.ticks.empty,
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
        // The rest of a row that a power cut has torn begins its epoch: there is no channel 0 before it.
        let Some(expected) = self.time.zero else { return };
        if expected == found {
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

#[cfg(test)]
mod tests;
