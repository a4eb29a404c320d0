//! The grid of ticks: absolute instants, so that nothing drifts and a late tick never shifts the next one.
#![forbid(unsafe_code)]

/// Ticks at `origin_ns + floor(k * period_ps / 1000)`, k = 0, 1, 2 ... (docs/formats.md, GRID).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Instant of tick 0, ns since the epoch began.
    pub origin_ns: u64,
    /// Period in picoseconds, at least 1 ns.
    pub period_ps: u64,
}

/// What is to be done with the ticks that are due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// So many are too late to be taken.
    pub missed: u64,
    /// So many are to be taken after them.
    pub take: u64,
}

impl Grid {
    /// Instant of tick `k`, ns since the epoch began; the far future if there is no such instant.
    #[inline]
    pub fn time_of(&self, k: u64) -> u64 {
        let offset = match k.checked_mul(self.period_ps) {
            Some(ps) => ps / 1000,
            None => u64::try_from(k as u128 * self.period_ps as u128 / 1000).unwrap_or(u64::MAX),
        };
        self.origin_ns.saturating_add(offset)
    }

    /// Number of ticks whose instant is not after `t_ns`.
    pub fn ticks_until(&self, t_ns: u64) -> u64 {
        let Some(since) = t_ns.checked_sub(self.origin_ns) else { return 0 };
        // tick k is due when floor(k * p / 1000) <= since, that is k * p < (since + 1) * 1000
        let last = ((since as u128 + 1) * 1000 - 1) / self.period_ps.max(1) as u128;
        u64::try_from(last).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// At instant `t_ns`, with `next` the first tick not yet dealt with: ticks more than `late_max_ns` late are missed.
    pub fn due(&self, next: u64, t_ns: u64, late_max_ns: u64) -> Due {
        let due = self.ticks_until(t_ns).saturating_sub(next);
        let too_late = match t_ns.checked_sub(late_max_ns) {
            Some(limit) if limit > 0 => self.ticks_until(limit - 1).saturating_sub(next),
            _ => 0,
        };
        Due { missed: too_late, take: due - too_late }
    }
}

/// From a wall clock of `wall_ns` since 1970 to the next whole multiple of the period, ns; 0 without a period.
pub fn to_whole_ns(period_ps: u64, wall_ns: u64) -> u64 {
    let Some(past) = (wall_ns as u128 * 1000).checked_rem(period_ps as u128) else { return 0 };
    if past == 0 { 0 } else { (period_ps as u128 - past).div_ceil(1000) as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn whole_multiples_of_the_period() {
        let second = 1_000_000_000_000;
        assert_eq!(to_whole_ns(second, 1_700_000_000_000_000_000), 0);
        assert_eq!(to_whole_ns(second, 1_700_000_000_000_000_001), 999_999_999);
        // A period of no whole ns: the first ns that is not before the multiple.
        let (third, wall) = (second / 3, 1_700_000_000_000_000_001u64);
        let at = (wall + to_whole_ns(third, wall)) as u128 * 1000;
        assert!(at % (third as u128) < 1000);
        assert_eq!(to_whole_ns(0, 5), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn ticks_until_is_the_inverse(origin in 0..1u64 << 40, period in 1000..1u64 << 47, k in 0..1u64 << 26) {
            let grid = Grid { origin_ns: origin, period_ps: period };
            let t = grid.time_of(k);
            prop_assert_eq!(grid.ticks_until(t), k + 1);
            prop_assert!(t == 0 || grid.ticks_until(t - 1) == k);
        }

        #[test]
        fn every_tick_is_dealt_with_once(period in 1000..1u64 << 34, late in 0..1u64 << 34, mut turns in prop::collection::vec(0..1u64 << 36, 1..40)) {
            let grid = Grid { origin_ns: 7, period_ps: period };
            turns.sort();
            let mut next = 0;
            for t in turns {
                let due = grid.due(next, t, late);
                for k in next + due.missed..next + due.missed + due.take.min(50) {
                    prop_assert!(grid.time_of(k) <= t && grid.time_of(k) + late >= t);
                }
                if due.missed > 0 {
                    prop_assert!(grid.time_of(next + due.missed - 1) + late < t);
                }
                next += due.missed + due.take;
                prop_assert_eq!(next, grid.ticks_until(t).max(next));
            }
        }
    }

    #[test]
    fn a_thousand_hours_do_not_drift() {
        let grid = Grid { origin_ns: 0, period_ps: 2_777_777_778 }; // 360 Hz to the nearest picosecond
        let exact = |k: u128| (k * 1_000_000_000 / 360) as i128;
        let k = 360 * 3600 * 1000;
        assert!((grid.time_of(k) as i128 - exact(k as u128)).abs() < 1_000_000, "1 ms in 1000 h");
    }

    #[test]
    fn the_far_future_does_not_overflow() {
        let grid = Grid { origin_ns: u64::MAX, period_ps: (1 << 48) - 1 };
        assert_eq!(grid.time_of(u64::MAX), u64::MAX);
        assert_eq!(Grid { origin_ns: 0, period_ps: 1000 }.ticks_until(u64::MAX), u64::MAX);
    }
}
