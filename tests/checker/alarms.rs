//! Alarms once more: what the samples of a channel say about its limits, read from the bytes of the row.

use super::Entry;

/// What a row says of alarms. What it is watched for stat itself says in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alarms {
    /// 1 high, 2 low, 4 rate.
    pub on: u8,
    pub changes: u64,
    pub seq: u64,
    /// Bytes 304 to 343 of the row.
    pub limits: [u8; 40],
}

impl Default for Alarms {
    fn default() -> Alarms {
        Alarms { on: 0, changes: 0, seq: 0, limits: [0; 40] }
    }
}

/// One channel under one set of limits.
pub struct Watched {
    said: Alarms,
    /// What each of the last samples said of high, low and rate since the alarm changed: 1 beyond, -1 well within.
    verdicts: [Vec<i8>; 3],
    /// The last sample of the epoch: value and t.
    before: Option<(i64, u64)>,
}

impl Watched {
    pub fn new(limits: [u8; 40]) -> Watched {
        Watched { said: Alarms { limits, ..Alarms::default() }, verdicts: Default::default(), before: None }
    }

    pub fn said(&self) -> Alarms {
        self.said
    }

    pub fn begin_epoch(&mut self) {
        self.before = None;
    }

    pub fn add(&mut self, e: &Entry) {
        let value = i64::from(e.value);
        let before = self.before.replace((value, e.t_ns));
        let rate = before.filter(|(_, t_ns)| e.t_ns > *t_ns).map(|(v, t_ns)| (value - v, e.t_ns - t_ns));
        let verdicts = [self.of_limit(0, value), self.of_limit(1, value), self.of_rate(rate)];
        let was = self.said.on;
        let hits = self.int(4) as usize;
        for (i, verdict) in verdicts.into_iter().enumerate() {
            let Some(verdict) = verdict else { continue };
            let so_far = &mut self.verdicts[i];
            so_far.push(verdict);
            let wanted = if self.said.on & 1 << i == 0 { 1 } else { -1 };
            if so_far.len() >= hits && so_far[so_far.len() - hits..].iter().all(|v| *v == wanted) {
                self.said.on ^= 1 << i;
                so_far.clear();
            } else if so_far.len() > 2 * hits {
                so_far.drain(..hits);
            }
        }
        if self.said.on != was {
            (self.said.changes, self.said.seq) = (self.said.changes + 1, e.seq);
        }
    }

    fn int(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.said.limits[at..at + 4].try_into().expect("4 bytes"))
    }

    fn wide(&self, at: usize) -> u128 {
        u64::from_le_bytes(self.said.limits[at..at + 8].try_into().expect("8 bytes")).into()
    }

    /// High is limit 0, low 1: beyond, well within, neither; `None`: there is no such limit.
    fn of_limit(&self, number: usize, value: i64) -> Option<i8> {
        let [begin, end] = [8, 12].map(|at| i64::from(self.int(at + 8 * number) as i32));
        // A limit below is one above, seen in a mirror.
        let side = match self.said.limits[number] {
            0 => return None,
            1 => 1,
            _ => -1,
        };
        let (value, begin, end) = (value * side, begin * side, end * side);
        Some(if value > begin { 1 } else { -i8::from(value <= end) })
    }

    fn of_rate(&self, rate: Option<(i64, u64)>) -> Option<i8> {
        let (codes, seconds) = (self.wide(24), self.wide(32));
        let (change, ns) = rate.filter(|_| codes > 0)?;
        let change = u128::from(change.unsigned_abs());
        Some(if change * 1_000_000_000 * seconds > codes * u128::from(ns) { 1 } else { -1 })
    }
}
