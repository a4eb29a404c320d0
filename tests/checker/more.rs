//! What a row says beside the totals - percentiles, fading average, rate, alarms, windows - once more, from the samples themselves.

use super::Entry;
use super::alarms::{Alarms, Watched};
use super::fold::Published;
use num_bigint::BigInt;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The part of a row behind the totals. What was asked stat itself says in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct More {
    /// 0: since the start.
    pub window: u8,
    /// 1: ns, 2: samples.
    pub unit: u8,
    pub percentiles: u8,
    pub closed: u8,
    pub known: u8,
    pub has_ewma: u8,
    pub size: u64,
    pub step: u64,
    pub from: u64,
    pub to: u64,
    /// In millionths of a percent.
    pub asked: [u32; 8],
    pub codes: [i32; 8],
    pub weight: u64,
    pub ewma: i64,
    pub change: i64,
    pub time_ns: u64,
    pub alarms: Alarms,
}

/// What all rows together ask for: no more is kept.
#[derive(Default)]
pub struct Asked {
    percentiles: bool,
    weights: BTreeSet<u64>,
    limits: BTreeSet<(u16, [u8; 40])>,
    longest_ns: u64,
    longest_samples: u64,
}

impl Asked {
    pub fn by(rows: &[Published]) -> Asked {
        let mut asked = Asked::default();
        for (channel, more) in rows.iter().map(|row| (row.channel, &row.more)) {
            asked.limits.extend(Some((channel, more.alarms.limits)).filter(|(_, limits)| *limits != [0; 40]));
            asked.percentiles |= more.window == 0 && more.percentiles > 0;
            asked.weights.extend(Some(more.weight).filter(|weight| *weight > 0));
            let longest = if more.unit == 1 { &mut asked.longest_ns } else { &mut asked.longest_samples };
            *longest = (*longest).max(more.size.saturating_add(more.step));
        }
        asked
    }
}

/// A sample of the present epoch.
struct Sample {
    /// How far time had come with it.
    now: u64,
    /// Its number in the epoch, from 0.
    index: u64,
    value: i32,
    t_ns: u64,
}

/// What is kept of a channel.
#[derive(Default)]
pub struct Kept {
    /// How often each value came, by what a percentile would say for it.
    counts: BTreeMap<i32, u64>,
    ewma: BTreeMap<u64, i128>,
    /// By limits.
    watched: BTreeMap<[u8; 40], Watched>,
    /// The last samples of the epoch: at least two, and as many as windows need.
    recent: VecDeque<Sample>,
    in_epoch: u64,
}

impl Kept {
    pub fn begin_epoch(&mut self) {
        self.recent.clear();
        self.ewma.clear();
        self.watched.values_mut().for_each(Watched::begin_epoch);
        self.in_epoch = 0;
    }

    pub fn add(&mut self, e: &Entry, now: u64, asked: &Asked) {
        if asked.percentiles {
            *self.counts.entry(shown(e.value)).or_default() += 1;
        }
        let value = i128::from(e.value) << 32;
        for weight in &asked.weights {
            let y = self.ewma.entry(*weight).or_insert(value);
            *y += ((value - *y) * i128::from(*weight)).div_euclid(1 << 32);
        }
        for (_, limits) in asked.limits.iter().filter(|(channel, _)| *channel == e.channel) {
            self.watched.entry(*limits).or_insert_with(|| Watched::new(*limits)).add(e);
        }
        self.recent.push_back(Sample { now, index: self.in_epoch, value: e.value, t_ns: e.t_ns });
        self.in_epoch += 1;
        let needed = |s: &Sample| {
            now - s.now < asked.longest_ns || self.in_epoch - s.index <= asked.longest_samples.max(2)
        };
        while self.recent.front().is_some_and(|s| !needed(s)) {
            self.recent.pop_front();
        }
    }

    /// What the row of the totals must say, beside them.
    pub fn totals(&self, row: &Published) -> More {
        let said = row.more;
        let known = (said.percentiles > 0) as u8;
        let mut more = More { percentiles: said.percentiles, asked: said.asked, known, ..More::default() };
        for (i, asked) in said.asked.iter().enumerate().take(said.percentiles.into()) {
            let mut before = 0;
            let rank = rank(*asked, row.count);
            let mut values = self.counts.iter();
            let found = values.find(|(_, count)| {
                before += **count;
                before >= rank
            });
            more.codes[i] = found.map_or(0, |(value, _)| (*value).max(row.min).min(row.max));
        }
        more.weight = said.weight;
        if let Some(ewma) = self.ewma.get(&said.weight) {
            (more.has_ewma, more.ewma) = (1, i64::try_from(*ewma).expect("between two values"));
        }
        more.alarms = self.watched.get(&said.alarms.limits).map(Watched::said).unwrap_or_default();
        let mut last = self.recent.iter().rev();
        if let (Some(b), Some(a)) = (last.next(), last.next())
            && b.t_ns > a.t_ns
        {
            (more.change, more.time_ns) = (b.value as i64 - a.value as i64, b.t_ns - a.t_ns);
        }
        more
    }

    /// What the row of a window must say: its statistics and the rest.
    pub fn window(&self, said: &Published, now: u64) -> Published {
        let More { window, unit, size, step, percentiles, asked, .. } = said.more;
        let mut row = Published {
            more: More { window, unit, size, step, percentiles, asked, ..More::default() },
            ..*said
        };
        (row.count, row.sum, row.sum_squares, row.t_ns) = (0, 0, 0, 0);
        (row.min, row.max, row.first, row.last) = (0, 0, 0, 0);
        let position = if unit == 1 { now } else { self.in_epoch };
        let Some(to) = position.checked_div(step).map(|steps| steps * step).filter(|to| *to >= size) else {
            return row;
        };
        (row.more.closed, row.more.from, row.more.to) = (1, to - size, to);
        let inside = |s: &&Sample| (to - size..to).contains(if unit == 1 { &s.now } else { &s.index });
        let samples: Vec<&Sample> = self.recent.iter().filter(inside).collect();
        let mut values: Vec<i32> = samples.iter().map(|s| s.value).collect();
        values.sort_unstable();
        let [Some(first), Some(last)] = [samples.first(), samples.last()] else { return row };
        let big = |v: &i32| BigInt::from(*v);
        row.count = samples.len() as u64;
        row.sum = i128::try_from(values.iter().map(big).sum::<BigInt>()).expect("small");
        row.sum_squares = u128::try_from(values.iter().map(|v| big(v) * v).sum::<BigInt>()).expect("small");
        (row.min, row.max) = (values[0], values[values.len() - 1]);
        (row.first, row.last, row.t_ns) = (first.value, last.value, last.t_ns);
        row.more.known = (percentiles > 0) as u8;
        for i in 0..percentiles as usize {
            let value = values[rank(asked[i], row.count) as usize - 1];
            row.more.codes[i] = shown(value).max(row.min).min(row.max);
        }
        row
    }
}

/// Nearest rank: the least count that is at least p percent of all, but at least 1.
fn rank(millionths: u32, count: u64) -> u64 {
    let hundred = 100_000_000;
    let exact = u128::from(millionths) * u128::from(count);
    u64::try_from(exact / hundred + u128::from(exact % hundred > 0)).expect("at most the count").max(1)
}

/// What a percentile says for a value: the value itself up to 16 bits, beyond them the nearest to zero that has the same
/// eleven leading bits; negative ones counted from -1.
fn shown(value: i32) -> i32 {
    if value < 0 {
        return -1 - shown(-1 - value);
    }
    let mut width = 1;
    while value / width >= 2048 {
        width *= 2;
    }
    if value < 65_536 { value } else { value - value % width }
}
