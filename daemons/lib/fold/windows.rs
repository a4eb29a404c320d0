//! What is kept only if it is asked for: the histogram since the start, the fading average, windows, and alarms.
//!
//! Samples are gathered first, and then counted together, in the order of their codes: at the latest when a pane ends.
//! A window is made of panes of one step each. They go into the open pane; when its end is reached it is closed and
//! joins those of the last `steps` panes, whose sum is the window.
#![forbid(unsafe_code)]

use super::Rate;
use super::alarm::Watch;
use super::histogram::{Count, Histogram, bucket, from_runs, tally};
use super::stats::Stats;
use crate::entry::{Entry, MAX_CHANNELS};
use crate::settings::{Percentile, Settings, Unit, Weight, Window};
use std::collections::VecDeque;

/// Samples that may wait to be counted.
const RECENT_MAX: u64 = 8192;

/// What is kept of all channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Measures {
    pub settings: Settings,
    /// For each window of time the first pane that is known from its beginning.
    pub first: Vec<u64>,
    /// The next instant at which a pane of time is full.
    border: u64,
    pub channels: Vec<Channel>,
}

/// What is kept of one channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Channel {
    /// Of all samples; `None` if not asked for, or not known from the first sample on.
    pub histogram: Option<Histogram>,
    /// In units of 2^-32 codes; `None` before the first sample of the epoch.
    pub ewma: Option<i64>,
    /// `None` without limits.
    pub watch: Option<Watch>,
    pub panes: Vec<Panes>,
    /// Not yet in histogram and panes; empty between batches.
    recent: Recent,
    /// So many samples more, and they must go there.
    left: u64,
}

/// Samples that wait to be counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Recent {
    stats: Stats,
    /// Only if percentiles are asked for.
    buckets: Vec<u32>,
}

/// The panes of one window. Those without a sample are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Panes {
    pub open: Stats,
    /// Of the open pane, if percentiles are asked for.
    pub counts: Option<Histogram>,
    pub closed: VecDeque<Pane>,
    /// Sum of the counts of all closed panes.
    pub sum: Option<Histogram>,
}

/// A closed pane: positions `number * step` up to the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pane {
    pub number: u64,
    pub stats: Stats,
    pub runs: Vec<u8>,
}

/// A closed window: the samples at positions `from..to` of the epoch, in ns or counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where it begins.
    pub from: u64,
    /// Where it ends.
    pub to: u64,
    /// Its samples.
    pub stats: Stats,
    /// The code of each percentile in [`Settings`], if it has samples.
    pub codes: Vec<i32>,
}

impl Measures {
    pub fn new(settings: Settings) -> Measures {
        let asked = || (!settings.percentiles.is_empty()).then(Histogram::default);
        let panes = Panes { counts: asked(), sum: asked(), ..Panes::default() };
        let panes = vec![panes; settings.windows.len()];
        let channel = Channel { histogram: asked(), panes, ..Channel::default() };
        let first = vec![0; settings.windows.len()];
        let mut channels = vec![channel; MAX_CHANNELS];
        for (number, limits) in &settings.limits {
            if let Some(channel) = channels.get_mut(*number as usize) {
                channel.watch = Some(Watch::new(*limits));
            }
        }
        let mut new = Measures { settings, first, border: 0, channels };
        new.begin_epoch();
        new
    }

    /// Takes over from what was kept with other settings, at this time in the middle of an epoch.
    pub fn go_on_from(
        &mut self,
        before: Option<Measures>,
        has_samples: impl Iterator<Item = bool>,
        now: u64,
    ) {
        let mut before = before.map(|before| before.channels).unwrap_or_default().into_iter();
        for (channel, has_samples) in self.channels.iter_mut().zip(has_samples) {
            let before = before.next().unwrap_or_default();
            if has_samples {
                channel.histogram = channel.histogram.take().and(before.histogram);
            }
            if let (Some(watch), Some(before)) = (&mut channel.watch, before.watch)
                && watch.limits == before.limits
            {
                *watch = before;
            }
        }
        for (first, window) in self.first.iter_mut().zip(&self.settings.windows) {
            if window.unit() == Unit::Time {
                *first = (now / window.step()).saturating_add(1);
            }
        }
        self.find_border(now);
    }

    /// Everything of the epoch begins anew.
    pub fn begin_epoch(&mut self) {
        for channel in &mut self.channels {
            channel.count_recent();
            channel.ewma = None;
            channel.panes.iter_mut().for_each(Panes::clear);
            channel.find_left(0, &self.settings);
        }
        self.first.fill(0);
        self.find_border(0);
    }

    /// Takes one sample; `position` counts those of its channel in this epoch, itself included, and `rate` is what it
    /// has changed.
    #[inline(always)]
    pub fn take(&mut self, sample: &Entry, position: u64, rate: impl FnOnce() -> Option<Rate>) {
        let Some(channel) = self.channels.get_mut(sample.channel as usize) else { return };
        channel.recent.stats.take(sample);
        if !self.settings.percentiles.is_empty() {
            channel.recent.buckets.push(bucket(sample.value));
        }
        if let Some(weight) = self.settings.ewma {
            channel.ewma = Some(fade(channel.ewma, sample.value, weight));
        }
        if let Some(watch) = &mut channel.watch {
            watch.take(sample.seq, sample.value, rate);
        }
        channel.left -= 1;
        if channel.left == 0 {
            channel.settle(position, &self.settings);
        }
    }

    /// Counts what waits for it in a channel that has so many samples in this epoch.
    pub fn settle(&mut self, channel: usize, position: u64) {
        if let Some(channel) = self.channels.get_mut(channel) {
            channel.settle(position, &self.settings);
        }
    }

    /// Time goes on from `before` to `now`.
    #[inline(always)]
    pub fn reach(&mut self, before: u64, now: u64) {
        if now >= self.border {
            self.close_panes(before, now);
        }
    }

    /// The next instant at which a pane that has samples, or a window with such panes, ends; `None`: there are none.
    pub fn next_end(&self) -> Option<u64> {
        let times = self.settings.windows.iter().enumerate().filter(|(_, w)| w.unit() == Unit::Time);
        let mut panes = times.flat_map(|(i, _)| self.channels.iter().filter_map(move |c| c.panes.get(i)));
        let waiting = self.channels.iter().any(|channel| channel.recent.stats.count > 0);
        let some = waiting || panes.any(|panes| panes.open.count > 0 || !panes.closed.is_empty());
        some.then_some(self.border)
    }

    #[cold]
    fn close_panes(&mut self, before: u64, now: u64) {
        self.channels.iter_mut().for_each(Channel::count_recent);
        for (i, window) in self.settings.windows.iter().enumerate().filter(|(_, w)| w.unit() == Unit::Time) {
            let next = now / window.step();
            if before / window.step() != next {
                let panes = self.channels.iter_mut().filter_map(|channel| channel.panes.get_mut(i));
                panes.for_each(|panes| panes.close(before / window.step(), next, window.steps()));
            }
        }
        self.find_border(now);
    }

    pub fn find_border(&mut self, now: u64) {
        let times = self.settings.windows.iter().filter(|w| w.unit() == Unit::Time);
        let ends = times.map(|w| (now / w.step()).saturating_add(1).saturating_mul(w.step()));
        self.border = ends.min().unwrap_or(u64::MAX);
    }

    /// The last closed window number `i` of a channel, at this time and with so many samples in the epoch.
    pub fn span(&self, channel: u16, i: usize, now: u64, samples: u64) -> Option<Span> {
        let (window, first) = (self.settings.windows.get(i)?, *self.first.get(i)?);
        let panes = self.channels.get(channel as usize)?.panes.get(i)?;
        let next = next_pane(window, now, samples);
        let from = next.checked_sub(window.steps()).filter(|from| *from >= first)?;
        let stats = panes.closed.iter().fold(Stats::default(), |all, pane| all.and(&pane.stats));
        let codes = panes.sum.as_ref().map(|sum| codes(sum, &self.settings.percentiles, &stats));
        let [from, to] = [from, next].map(|pane| pane * window.step());
        Some(Span { from, to, stats, codes: codes.unwrap_or_default() })
    }

    /// The code of each percentile of all samples of a channel.
    pub fn codes(&self, channel: u16, stats: &Stats) -> Option<Vec<i32>> {
        let histogram = self.channels.get(channel as usize)?.histogram.as_ref()?;
        Some(codes(histogram, &self.settings.percentiles, stats))
    }
}

impl Channel {
    /// Counts what waits, and closes the panes of samples that end here.
    #[cold]
    fn settle(&mut self, position: u64, settings: &Settings) {
        self.count_recent();
        for (panes, window) in self.panes.iter_mut().zip(&settings.windows) {
            let is_full = position.is_multiple_of(window.step()) && panes.open.count > 0;
            if window.unit() == Unit::Samples && is_full {
                let next = position / window.step();
                panes.close(next - 1, next, window.steps());
            }
        }
        self.find_left(position, settings);
    }

    pub fn find_left(&mut self, position: u64, settings: &Settings) {
        let counted = settings.windows.iter().filter(|window| window.unit() == Unit::Samples);
        let to_end = counted.map(|window| window.step() - position % window.step());
        self.left = to_end.min().unwrap_or(RECENT_MAX).min(RECENT_MAX);
    }

    fn count_recent(&mut self) {
        if self.recent.stats.count == 0 {
            return;
        }
        let stats = std::mem::take(&mut self.recent.stats);
        let counts = tally(&mut self.recent.buckets);
        self.recent.buckets.clear();
        if let Some(histogram) = &mut self.histogram {
            histogram.add(&counts);
        }
        self.panes.iter_mut().for_each(|panes| panes.add(&stats, &counts));
    }
}

/// The pane that is open.
pub(super) fn next_pane(window: &Window, now: u64, samples: u64) -> u64 {
    let position = match window.unit() {
        Unit::Time => now,
        Unit::Samples => samples,
    };
    position / window.step()
}

/// A bucket of several codes may reach beyond all samples: no percentile does.
fn codes(histogram: &Histogram, percentiles: &[Percentile], stats: &Stats) -> Vec<i32> {
    let ranks: Vec<u64> = percentiles.iter().map(|p| p.rank(stats.count)).collect();
    histogram.codes_at(&ranks).into_iter().map(|code| code.max(stats.min).min(stats.max)).collect()
}

/// The fading average after one more value: y + floor((x - y) * weight), all in units of 2^-32. It lies between the
/// smallest and the largest value, so it always fits.
#[inline(always)]
fn fade(before: Option<i64>, value: i32, weight: Weight) -> i64 {
    let value = (value as i64) << 32;
    let Some(before) = before else { return value };
    let distance = value as i128 - before as i128;
    (before as i128 + ((distance * weight.units() as i128) >> 32)) as i64
}

impl Panes {
    fn clear(&mut self) {
        self.open = Stats::default();
        self.closed.clear();
        for histogram in [&mut self.counts, &mut self.sum].into_iter().flatten() {
            *histogram = Histogram::default();
        }
    }

    /// More samples of the open pane.
    fn add(&mut self, stats: &Stats, counts: &[Count]) {
        self.open = self.open.and(stats);
        if let Some(open) = &mut self.counts {
            open.add(counts);
        }
    }

    /// Closes pane `number`; the panes up to `next`, which is open now, have no samples.
    fn close(&mut self, number: u64, next: u64, steps: u64) {
        if self.open.count > 0 {
            let stats = std::mem::take(&mut self.open);
            let runs =
                self.counts.as_mut().map(|counts| std::mem::take(counts).to_runs()).unwrap_or_default();
            self.join(Pane { number, stats, runs });
        }
        while self.closed.front().is_some_and(|pane| pane.number.saturating_add(steps) < next) {
            let gone = self.closed.pop_front();
            if let (Some(sum), Some(pane)) = (&mut self.sum, gone) {
                sum.remove(&pane.counts());
            }
        }
    }

    /// One more closed pane.
    pub fn join(&mut self, pane: Pane) {
        if let Some(sum) = &mut self.sum {
            sum.add(&pane.counts());
        }
        self.closed.push_back(pane);
    }
}

impl Pane {
    fn counts(&self) -> Vec<Count> {
        from_runs(&self.runs, self.stats.count).unwrap_or_default()
    }
}
