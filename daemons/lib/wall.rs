//! Wall-clock time of entries: the EPOCH's wall clock, t, and the CLOCK steps before it in the epoch.
#![forbid(unsafe_code)]

use crate::entry::{Entry, Kind};

/// What is known of the wall clock after some entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WallClock {
    /// The epoch that is open; 0: none yet.
    pub epoch: u32,
    /// Wall clock of its t = 0 with all steps so far, ns since 1970; `None`: its EPOCH is damaged.
    pub zero_ns: Option<i128>,
}

impl WallClock {
    /// Goes on over a whole entry of a known kind.
    pub fn take(&mut self, entry: &Entry, kind: Kind) {
        if entry.epoch != self.epoch {
            *self = WallClock { epoch: entry.epoch, zero_ns: None };
        }
        match kind {
            Kind::Epoch => self.zero_ns = Some(entry.t_ns.into()),
            Kind::Clock => {
                let step_ns = clock_step_ms(entry) as i128 * 1_000_000;
                self.zero_ns = self.zero_ns.map(|zero| zero.saturating_add(step_ns));
            }
            Kind::Sample | Kind::Loss(_) | Kind::Corrupt | Kind::Source | Kind::Grid => {}
        }
    }

    /// Wall clock at `t_ns` of the open epoch, ns since 1970.
    pub fn at(&self, t_ns: u64) -> Option<i128> {
        self.zero_ns.map(|zero| zero.saturating_add(t_ns.into()))
    }
}

/// The step of a CLOCK in ms: 48 bits, two's complement.
pub fn clock_step_ms(entry: &Entry) -> i64 {
    (entry.wide_value() << 16) as i64 >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_signed_numbers_of_48_bits() {
        assert_eq!(clock_step_ms(&Entry::clock(1, 1, 0, -3)), -3);
        assert_eq!(clock_step_ms(&Entry::clock(1, 1, 0, (1 << 47) - 1)), (1 << 47) - 1);
    }

    #[test]
    fn an_epoch_begins_anew_and_steps_add_up() {
        let mut clock = WallClock::default();
        let mut take = |e: Entry| {
            clock.take(&e, e.kind().unwrap());
            clock.at(1)
        };
        assert_eq!(take(Entry::sample(1, 1, 0, 0, 0)), None);
        assert_eq!(take(Entry::epoch(2, 1, 1000)), Some(1001));
        assert_eq!(take(Entry::clock(3, 1, 5, 2)), Some(2_001_001));
        assert_eq!(take(Entry::clock(4, 1, 5, -2)), Some(1001));
        assert_eq!(take(Entry::grid(5, 2, 0, 0)), None);
    }
}
