//! The alarms of a channel: its limits, and what its samples have said about them.
#![forbid(unsafe_code)]

use super::Rate;
use crate::fields::{get, get_u32, get_u64, put};
use crate::limits::{LIMITS_LEN, Limits};
use std::fmt;

/// The state of a channel's alarms, by its samples alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alarm {
    /// Which are on now.
    pub on: Alarms,
    /// How often `on` has changed since the start.
    pub changes: u64,
    /// Seq of the sample that changed it last; 0: none.
    pub seq: u64,
}

/// A set of alarms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alarms(u8);

/// The names of the alarms that samples give, in the order of their bits.
const NAMES: [&str; 3] = ["high", "low", "rate"];
/// Size of a [`Watch`] in bytes, behind the number of its channel.
pub(super) const WATCH_LEN: usize = 72;

/// A channel that has limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Watch {
    pub limits: Limits,
    pub alarm: Alarm,
    /// For each alarm, how many of the last samples in a row spoke for its change.
    runs: [u32; 3],
}

impl Alarms {
    /// The set with these bits: 1 high, 2 low, 4 rate.
    pub fn from_bits(bits: u8) -> Option<Alarms> {
        (bits < 1 << NAMES.len()).then_some(Alarms(bits))
    }

    /// Its bits.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// Is none on?
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Their names: `high`, `low`, `rate`.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        (0..).zip(NAMES).filter(move |(bit, _)| self.0 >> bit & 1 == 1).map(|(_, name)| name)
    }

    /// Which these limits can give.
    pub fn of(limits: &Limits) -> Alarms {
        let given = [limits.high.is_some(), limits.low.is_some(), limits.rate.is_some()];
        Alarms((0..).zip(given).map(|(bit, given)| u8::from(given) << bit).sum())
    }
}

/// `high`, `low+rate`; nothing if none is on.
impl fmt::Display for Alarms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().collect::<Vec<_>>().join("+"))
    }
}

impl Alarm {
    /// Can limits and the samples of entries 1..n give this?
    pub fn is_plausible(&self, limits: Option<&Limits>, n: u64) -> bool {
        let possible = limits.map_or(0, |limits| Alarms::of(limits).bits());
        let never = self.changes == 0;
        self.on.bits() & !possible == 0
            && (possible != 0 || never)
            && never == (self.seq == 0)
            && (!never || self.on.is_empty())
            && self.changes <= self.seq
            && self.seq <= n
    }
}

impl Watch {
    pub fn new(limits: Limits) -> Watch {
        Watch { limits, alarm: Alarm::default(), runs: [0; 3] }
    }

    /// Takes one sample; `rate` is the change from the one before it in its epoch, if it has one.
    #[inline(always)]
    pub fn take(&mut self, seq: u64, code: i32, rate: impl FnOnce() -> Option<Rate>) {
        let Limits { high, low, rate: slope, .. } = self.limits;
        let before = self.alarm.on;
        if let Some(limit) = high {
            self.hear(0, limit.verdict(code));
        }
        if let Some(limit) = low {
            self.hear(1, limit.verdict(code));
        }
        // The first sample of an epoch has no rate: it neither speaks nor interrupts.
        if let Some((slope, Rate { change, time_ns })) = slope.and_then(|slope| Some((slope, rate()?))) {
            self.hear(2, Some(slope.is_exceeded(change, time_ns)));
        }
        if self.alarm.on != before {
            self.alarm.changes += 1;
            self.alarm.seq = seq;
        }
    }

    /// One more sample speaks for an alarm (true), against it (false), or for what is.
    #[inline(always)]
    fn hear(&mut self, alarm: usize, verdict: Option<bool>) {
        let is_on = self.alarm.on.0 >> alarm & 1 == 1;
        let run = &mut self.runs[alarm];
        if verdict != Some(!is_on) {
            *run = 0;
            return;
        }
        *run += 1;
        if *run >= self.limits.hits {
            *run = 0;
            self.alarm.on.0 ^= 1 << alarm;
        }
    }

    /// The bytes as docs/formats.md orders them.
    pub fn to_bytes(self) -> [u8; WATCH_LEN] {
        let mut b = [0; WATCH_LEN];
        put(&mut b, 2, [self.alarm.on.bits()]);
        for (i, run) in self.runs.iter().enumerate() {
            put(&mut b, 4 + 4 * i, run.to_le_bytes());
        }
        put(&mut b, 16, self.alarm.changes.to_le_bytes());
        put(&mut b, 24, self.alarm.seq.to_le_bytes());
        put(&mut b, 32, self.limits.to_bytes());
        b
    }

    /// The watch in these bytes, up to entry n; `None` if no samples give it.
    pub fn from_bytes(b: &[u8], n: u64) -> Option<Watch> {
        let limits = Limits::from_bytes(&get::<LIMITS_LEN>(b, 32))?;
        let [on] = get(b, 2);
        let alarm = Alarm { on: Alarms::from_bits(on)?, changes: get_u64(b, 16), seq: get_u64(b, 24) };
        let runs = [4, 8, 12].map(|at| get_u32(b, at));
        let possible = runs.iter().all(|run| *run < limits.hits) && alarm.is_plausible(Some(&limits), n);
        possible.then_some(Watch { limits, alarm, runs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{Limit, Slope};

    fn limits(hits: u32) -> Limits {
        Limits { high: Limit::above(10, 7), low: Limit::below(-10, -10), rate: Slope::new(100, 1), hits }
    }

    /// What is on after each of these codes, one a second.
    fn said(hits: u32, codes: &[i32]) -> Vec<String> {
        let mut watch = Watch::new(limits(hits));
        let mut before = None;
        let mut each = |(seq, code): (u64, &i32)| {
            let rate =
                before.map(|before: i32| Rate { change: (code - before).into(), time_ns: 1_000_000_000 });
            before = Some(*code);
            watch.take(seq, *code, || rate);
            assert_eq!(Watch::from_bytes(&watch.to_bytes(), seq), Some(watch));
            watch.alarm.on.to_string()
        };
        (1..).zip(codes).map(&mut each).collect()
    }

    #[test]
    fn an_alarm_ends_only_well_within() {
        assert_eq!(said(1, &[10, 11, 10, 8, 7, 8, 11]), ["", "high", "high", "high", "", "", "high"]);
        assert_eq!(said(1, &[-10, -11, -10]), ["", "low", ""]);
        assert_eq!(said(1, &[0, 100, 201, 100]), ["", "high", "high+rate", "high+rate"]);
        assert_eq!(said(1, &[0, -200, 0, 0]), ["", "low+rate", "rate", ""]);
    }

    #[test]
    fn it_takes_so_many_in_a_row() {
        assert_eq!(said(2, &[11, 10, 11, 11, 7, 8, 7, 7]), ["", "", "", "high", "high", "high", "high", ""]);
    }

    #[test]
    fn changes_are_counted_with_their_place() {
        let mut watch = Watch::new(limits(1));
        for (seq, code) in [(5, 11), (6, 12), (8, 0), (9, -11)] {
            watch.take(seq, code, || None);
        }
        assert_eq!(watch.alarm, Alarm { on: Alarms(2), changes: 3, seq: 9 });
        assert_eq!(
            (watch.alarm.is_plausible(Some(&watch.limits), 9), watch.alarm.is_plausible(None, 9)),
            (true, false)
        );
        assert!(!watch.alarm.is_plausible(Some(&watch.limits), 8));
    }

    #[test]
    fn impossible_bytes_are_refused() {
        let mut watch = Watch::new(limits(3));
        (1..=5).for_each(|seq| watch.take(seq, 11, || None));
        let good = watch.to_bytes();
        assert_eq!(Watch::from_bytes(&good, 5), Some(watch));
        for (at, value) in [(2, 8), (4, 3), (16, 0), (24, 0), (24, 6), (36, 0)] {
            let mut bad = good;
            bad[at] = value;
            assert_eq!(Watch::from_bytes(&bad, 5), None, "{at} {value}");
        }
        assert_eq!(Watch::from_bytes(&good, 2), None);
    }
}
