//! The grid of an epoch as it is audited: which tick comes next, and when.
#![forbid(unsafe_code)]

/// Picoseconds in a nanosecond: periods are counted in the former, instants in the latter.
const PS: u64 = 1000;

/// A grid and the tick that comes next on it: tick k is at `origin_ns + floor(k * period_ps / 1000)`. The default is no grid: its
/// ticks are all at once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Grid {
    /// Instant of tick 0, ns since the epoch began.
    pub origin_ns: u64,
    /// Not 0 in a record.
    pub period_ps: u64,
    /// Number of the tick that comes next.
    pub tick: u64,
    /// Its instant, and the part of a nanosecond that was cut off, below [`PS`].
    next_ns: u64,
    cut_ps: u64,
    /// The period in the same two parts: so no sample costs a division.
    step_ns: u64,
    step_ps: u64,
}

impl Grid {
    /// The grid with its first tick next.
    pub fn new(origin_ns: u64, period_ps: u64) -> Grid {
        Grid {
            origin_ns,
            period_ps,
            tick: 0,
            next_ns: origin_ns,
            cut_ps: 0,
            step_ns: period_ps / PS,
            step_ps: period_ps % PS,
        }
    }

    /// The tick that came next is past.
    #[inline(always)]
    pub fn step(&mut self) {
        self.tick = self.tick.saturating_add(1);
        self.next_ns = self.next_ns.wrapping_add(self.step_ns);
        self.cut_ps += self.step_ps;
        if self.cut_ps >= PS {
            self.cut_ps -= PS;
            self.next_ns = self.next_ns.wrapping_add(1);
        }
    }

    /// The grid with this tick next.
    pub fn at_tick(self, tick: u64) -> Grid {
        let since_ps = tick as u128 * self.period_ps as u128;
        let since_ns = (since_ps / PS as u128) as u64;
        let cut_ps = (since_ps % PS as u128) as u64;
        Grid { tick, next_ns: self.origin_ns.wrapping_add(since_ns), cut_ps, ..self }
    }

    /// The grid after so many more ticks.
    pub fn after(self, ticks: u64) -> Grid {
        self.at_tick(self.tick.saturating_add(ticks))
    }

    /// Instant of the tick that comes next.
    #[inline(always)]
    pub fn next_ns(&self) -> u64 {
        self.next_ns
    }

    /// Instant of the tick before it.
    pub fn last_ns(&self) -> u64 {
        self.at_tick(self.tick.saturating_sub(1)).next_ns
    }

    /// Number of the tick at exactly this instant.
    pub fn tick_at(&self, t_ns: u64) -> Option<u64> {
        let since_ps = t_ns.checked_sub(self.origin_ns)? as u128 * PS as u128;
        let tick = u64::try_from(since_ps.div_ceil((self.period_ps as u128).max(1))).ok()?;
        (self.at_tick(tick).next_ns == t_ns).then_some(tick)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn steps_and_jumps_meet(origin: u64, period in 1u64.., tick in 0u64..1 << 40, steps in 1u64..2000) {
            let mut stepped = Grid::new(origin, period).at_tick(tick);
            (0..steps).for_each(|_| stepped.step());
            let jumped = Grid::new(origin, period).at_tick(tick).after(steps);
            prop_assert_eq!((stepped.tick, stepped.next_ns, stepped.cut_ps), (jumped.tick, jumped.next_ns, jumped.cut_ps));
            let since_ns = ((tick + steps) as u128 * period as u128 / 1000) as u64;
            prop_assert_eq!(stepped.next_ns(), origin.wrapping_add(since_ns));
        }
    }
}
