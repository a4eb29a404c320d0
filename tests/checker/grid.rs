//! The ticks of a grid, recomputed from the entries alone (P7).

use super::{ABANDONED, BAD, CORRUPT, Entry, FULL, Faults, GRID, LOSS, MISSED, SAMPLE, UNREAD};

/// Counts the ticks of the present grid.
#[derive(Default)]
pub struct Clockwork {
    grid: Option<Grid>,
    /// A CORRUPT may have hidden ticks: the next instant on the grid sets the number right again.
    unsure: bool,
    /// LOSS entries one after the other with one instant.
    run: Option<Run>,
    /// Instant of the last sample of this epoch, and of its last one on channel 0.
    last_t: u64,
    channel0_t: Option<u64>,
    /// Ticks taken by samples, missed and full, over all grids.
    pub taken: u64,
    pub missed: u64,
    pub full: u64,
}

struct Grid {
    origin: u64,
    period: u64,
    next: u64,
}

struct Run {
    t_ns: u64,
    ticks: u64,
}

impl Grid {
    fn instant(&self, tick: u64) -> u64 {
        self.origin.wrapping_add((tick as u128 * self.period as u128 / 1000) as u64)
    }

    /// The tick at this instant, if there is one.
    fn tick_at(&self, t: u64) -> Option<u64> {
        let ps = (t.checked_sub(self.origin)? as u128) * 1000;
        let tick = ps.div_ceil(self.period as u128) as u64;
        (self.instant(tick) == t).then_some(tick)
    }
}

impl Clockwork {
    pub fn new_epoch(&mut self) {
        *self = Clockwork { taken: self.taken, missed: self.missed, full: self.full, ..Clockwork::default() };
    }

    pub fn step(&mut self, e: &Entry, faults: &mut Faults) {
        let goes_on = e.kind == LOSS && self.run.as_ref().is_some_and(|r| r.t_ns == e.t_ns);
        if !goes_on {
            self.end(e.seq.wrapping_sub(1), faults);
        }
        match e.kind {
            GRID => self.begin(e),
            SAMPLE if e.channel == 0 => self.sample(e, faults),
            SAMPLE => self.further(e, faults),
            LOSS => self.loss(e),
            CORRUPT => self.unsure = true,
            _ => (),
        }
    }

    /// The run of LOSS entries that ended at `seq` must carry the instant of its last tick.
    pub fn end(&mut self, seq: u64, faults: &mut Faults) {
        let Some(run) = self.run.take() else { return };
        let Some(grid) = self.grid.as_mut().filter(|g| g.period > 0 && run.ticks > 0) else { return };
        grid.next += run.ticks;
        if self.unsure {
            if let Some(tick) = grid.tick_at(run.t_ns).filter(|t| t + 1 >= grid.next) {
                grid.next = tick + 1;
                self.unsure = false;
            }
        } else if run.t_ns != grid.instant(grid.next - 1) {
            let due = grid.instant(grid.next - 1);
            faults
                .at(seq, format!("LOSS carries t {}, its last tick {} is at {due}", run.t_ns, grid.next - 1));
        }
        self.later(seq, run.t_ns, faults);
    }

    fn begin(&mut self, e: &Entry) {
        self.grid = Some(Grid { origin: e.t_ns, period: e.wide(), next: 0 });
        self.unsure = false;
    }

    fn sample(&mut self, e: &Entry, faults: &mut Faults) {
        self.taken += 1;
        self.later(e.seq, e.t_ns, faults);
        self.channel0_t = Some(e.t_ns);
        let Some(grid) = self.grid.as_mut().filter(|g| g.period > 0) else { return };
        let on_grid = grid.tick_at(e.t_ns);
        if self.unsure && on_grid.is_some_and(|t| t >= grid.next) {
            grid.next = on_grid.unwrap();
            self.unsure = false;
        }
        if e.t_ns != grid.instant(grid.next) {
            let due = grid.instant(grid.next);
            faults.at(e.seq, format!("sample at t {}, tick {} is at {due}", e.t_ns, grid.next));
            grid.next = on_grid.unwrap_or(grid.next);
        }
        grid.next += 1;
    }

    fn further(&mut self, e: &Entry, faults: &mut Faults) {
        // The rest of a row that a power cut has torn begins its epoch without channel 0.
        if !self.unsure && self.channel0_t.is_some_and(|t| t != e.t_ns) {
            faults.at(
                e.seq,
                format!("channel {} has t {}, channel 0 {:?}", e.channel, e.t_ns, self.channel0_t),
            );
        }
    }

    fn loss(&mut self, e: &Entry) {
        let ticks = match e.flags {
            MISSED | FULL | UNREAD => e.count(),
            BAD | ABANDONED => 0,
            _ => 0,
        };
        match e.flags {
            MISSED | UNREAD => self.missed += ticks,
            FULL => self.full += ticks,
            _ => (),
        }
        if e.flags != ABANDONED {
            self.run.get_or_insert(Run { t_ns: e.t_ns, ticks: 0 }).ticks += ticks;
        }
    }

    /// Within an epoch the instants never go back.
    fn later(&mut self, seq: u64, t_ns: u64, faults: &mut Faults) {
        if t_ns < self.last_t {
            faults.at(seq, format!("t goes back from {} to {t_ns}", self.last_t));
        }
        self.last_t = t_ns;
    }
}
