//! What is kept only if it is asked for: the histogram since the start, the fading average, windows, and alarms.
//!
//! Samples are gathered first, and then counted together, in the order of their codes. A window is made of panes of one
//! step each. Samples go into the open pane; when its end is reached it is closed and joins those of the last `steps`
//! panes, whose sum is the window. Most panes come and go before anybody asks for that sum: it is made when asked for.
#![forbid(unsafe_code)]

use super::Rate;
use super::alarm::Watch;
use super::codes::Codes;
use super::histogram::{Histogram, Runs, bucket, tally};
use super::stats::Stats;
use crate::entry::{Entry, MAX_CHANNELS};
use crate::settings::{Percentile, Settings, Unit, Weight, Window};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::VecDeque;

/// Samples that may wait to be counted.
const RECENT_MAX: usize = 8192;

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
    /// Samples that are not yet in the open panes; none between batches.
    recent: Stats,
    /// Samples that are not yet in the histogram, if percentiles are asked for; none between batches.
    buckets: Vec<u32>,
    /// After so many samples more a pane ends, or these must be counted.
    left: u64,
}

/// The panes of one window. Those without a sample are left out.
#[derive(Clone, Debug, Default)]
pub(super) struct Panes {
    pub open: Stats,
    /// Of the open pane, if percentiles are asked for.
    pub codes: Option<Codes>,
    /// Of the samples that wait in the channel, those from this one on belong to the open pane, too.
    from: usize,
    pub closed: VecDeque<Pane>,
    sum: RefCell<Sum>,
}

/// A closed pane: positions `number * step` up to the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pane {
    pub number: u64,
    pub stats: Stats,
    /// If percentiles are asked for.
    pub codes: Option<Codes>,
}

/// The codes of closed panes together, as they were when last asked for.
#[derive(Clone, Debug, Default)]
struct Sum {
    histogram: Histogram,
    /// So many of the panes that are kept are in it, the oldest ones,
    panes: usize,
    /// and these, which are no longer kept.
    gone: Vec<Pane>,
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
        let panes = Panes { codes: asked().map(|_| Codes::default()), ..Panes::default() };
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
            channel.settle();
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
        if let Some(weight) = self.settings.ewma {
            channel.ewma = Some(fade(channel.ewma, sample.value, weight));
        }
        if let Some(watch) = &mut channel.watch {
            watch.take(sample.seq, sample.value, rate);
        }
        if self.settings.windows.is_empty() && self.settings.percentiles.is_empty() {
            return;
        }
        channel.recent.take(sample);
        if !self.settings.percentiles.is_empty() {
            channel.buckets.push(bucket(sample.value));
        }
        channel.left -= 1;
        if channel.left == 0 {
            channel.come_to(position, &self.settings);
        }
    }

    /// Counts what waits for it in a channel that has so many samples in this epoch.
    pub fn settle(&mut self, channel: usize, position: u64) {
        if let Some(channel) = self.channels.get_mut(channel) {
            channel.settle();
            channel.find_left(position, &self.settings);
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
        let waiting = self.channels.iter().any(|channel| channel.recent.count > 0);
        let some = waiting || panes.any(|panes| panes.open.count > 0 || !panes.closed.is_empty());
        some.then_some(self.border)
    }

    #[cold]
    fn close_panes(&mut self, before: u64, now: u64) {
        for channel in &mut self.channels {
            channel.open_takes_recent();
            for (panes, window) in channel.panes.iter_mut().zip(&self.settings.windows) {
                let [last, next] = [before, now].map(|t_ns| t_ns / window.step());
                if window.unit() == Unit::Time && last != next {
                    panes.close(last, next, window.steps(), &channel.buckets);
                }
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
        let codes = panes.with_sum(|sum| codes(sum, &self.settings.percentiles, &stats));
        let [from, to] = [from, next].map(|pane| pane * window.step());
        Some(Span { from, to, stats, codes })
    }

    /// The code of each percentile of all samples of a channel.
    pub fn codes(&self, channel: u16, stats: &Stats) -> Option<Vec<i32>> {
        let histogram = self.channels.get(channel as usize)?.histogram.as_ref()?;
        Some(codes(histogram, &self.settings.percentiles, stats))
    }
}

impl Channel {
    /// The panes of samples that end here are closed; what waits is counted if it has become much.
    #[cold]
    fn come_to(&mut self, position: u64, settings: &Settings) {
        self.open_takes_recent();
        for (panes, window) in self.panes.iter_mut().zip(&settings.windows) {
            if window.unit() == Unit::Samples && position.is_multiple_of(window.step()) {
                let next = position / window.step();
                panes.close(next - 1, next, window.steps(), &self.buckets);
            }
        }
        if self.buckets.len() >= RECENT_MAX {
            self.settle();
        }
        self.find_left(position, settings);
    }

    pub fn find_left(&mut self, position: u64, settings: &Settings) {
        let counted = settings.windows.iter().filter(|window| window.unit() == Unit::Samples);
        let to_end = counted.map(|window| window.step() - position % window.step());
        let room = (RECENT_MAX - self.buckets.len()) as u64;
        self.left = to_end.min().unwrap_or(room).min(room);
    }

    fn open_takes_recent(&mut self) {
        let recent = std::mem::take(&mut self.recent);
        self.panes.iter_mut().for_each(|panes| panes.open = panes.open.and(&recent));
    }

    /// Counts all that waits.
    fn settle(&mut self) {
        self.open_takes_recent();
        if self.buckets.is_empty() {
            return;
        }
        let panes = self.panes.iter_mut().filter_map(|panes| panes.take(&self.buckets));
        let histograms: Vec<&mut Histogram> = self.histogram.iter_mut().chain(panes).collect();
        let counts = tally(&mut self.buckets);
        histograms.into_iter().for_each(|histogram| histogram.add(counts.iter().copied()));
        self.buckets.clear();
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
    let Some(before) = before else { return (value as i64) << 32 };
    // Whole codes and the part behind the point apart: 64 bits are enough then. Only the result must fit, and it does.
    let (whole, part) = (before >> 32, before as u32 as u64);
    let up = (value as i64 - whole).wrapping_mul(weight.units() as i64);
    let down = (part * weight.units()).div_ceil(1 << 32) as i64;
    before.wrapping_add(up).wrapping_sub(down)
}

impl Panes {
    fn clear(&mut self) {
        let codes = self.codes.as_ref().map(|_| Codes::default());
        *self = Panes { codes, ..Panes::default() };
    }

    /// Takes what waits for the open pane. What is to be counted together with all that waits it leaves to the caller and
    /// returns the counters.
    fn take(&mut self, waiting: &[u32]) -> Option<&mut Histogram> {
        let from = std::mem::take(&mut self.from);
        let codes = self.codes.as_mut()?;
        if from == 0 && codes.counters_for(waiting.len()).is_some() {
            return codes.counters_for(waiting.len());
        }
        codes.add(waiting.get(from..)?);
        None
    }

    /// Closes pane `number`; the panes up to `next`, which is open now, have no samples.
    fn close(&mut self, number: u64, next: u64, steps: u64, waiting: &[u32]) {
        if self.open.count > 0 {
            let stats = std::mem::take(&mut self.open);
            let codes = self.codes.as_mut().map(|codes| {
                codes.add(waiting.get(self.from..).unwrap_or_default());
                std::mem::take(codes).close()
            });
            self.closed.push_back(Pane { number, stats, codes });
        }
        self.from = waiting.len();
        while self.closed.front().is_some_and(|pane| pane.number.saturating_add(steps) < next) {
            self.closed.pop_front().into_iter().for_each(|pane| self.sum.get_mut().let_go(pane));
        }
    }

    /// The codes of all closed panes together.
    fn with_sum<T>(&self, act: impl FnOnce(&Histogram) -> T) -> T {
        let mut sum = self.sum.borrow_mut();
        sum.come_to(&self.closed);
        act(&sum.histogram)
    }
}

impl Sum {
    /// The oldest pane is no longer kept.
    fn let_go(&mut self, pane: Pane) {
        if self.panes > 0 {
            self.panes -= 1;
            self.gone.push(pane);
        }
        if self.panes == 0 {
            *self = Sum::default(); // nothing in it is of use any more
        }
    }

    fn come_to(&mut self, kept: &VecDeque<Pane>) {
        let gone = std::mem::take(&mut self.gone);
        gone.iter().flat_map(Pane::runs).for_each(|runs| self.histogram.remove(Runs::of(&runs)));
        kept.range(self.panes..).flat_map(Pane::runs).for_each(|runs| self.histogram.add(Runs::of(&runs)));
        self.panes = kept.len();
    }
}

impl Pane {
    fn runs(&self) -> Option<Cow<'_, [u8]>> {
        self.codes.as_ref().map(Codes::runs)
    }
}

/// What was asked for before makes no difference.
impl PartialEq for Panes {
    fn eq(&self, other: &Panes) -> bool {
        let parts = |panes: &Panes| (panes.open, panes.from);
        parts(self) == parts(other) && self.codes == other.codes && self.closed == other.closed
    }
}

impl Eq for Panes {}
