//! The statistics: a pure, exact fold over the entries of the record.
//!
//! [`Fold`] is what is known after entry `n`: per channel count, sum, sum of squares, minimum, maximum, first and last
//! value as integers, and what was lost, by reason; and what [`Settings`] ask for: percentiles, a fading average, windows,
//! alarms.
//! There are no floats, so the same entries always give the same bits, however they were cut into batches and however
//! often the daemon was restarted in between. Mean, variance and standard deviation are made from these integers by
//! [`crate::exact`].
#![forbid(unsafe_code)]

mod alarm;
mod bytes;
mod closings;
mod codes;
mod histogram;
mod stats;
mod windows;

pub use alarm::{Alarm, Alarms};
pub use closings::{Closed, Closings};
pub use stats::{LOSSES_LEN, Losses, STATS_LEN, Stats};
pub use windows::Span;

use crate::entry::{self, Entry, Kind, LEN, MAX_CHANNELS};
use crate::settings::Settings;
use thiserror::Error;
use windows::Measures;

/// Everything that is known after entry `n` of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fold {
    /// Seq of the last entry that was folded; 0: none yet.
    pub n: u64,
    /// Epoch of that entry; 0: none yet.
    pub epoch: u32,
    /// What was lost up to n.
    pub losses: Losses,
    /// How far time has come in this epoch, ns: the largest t of its samples and lost ticks.
    now: u64,
    channels: [Channel; MAX_CHANNELS],
    /// What the settings ask for; `None` if that is nothing.
    measures: Option<Box<Measures>>,
}

/// What is known of one channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Channel {
    stats: Stats,
    /// Value of the sample before the last.
    before: i32,
    /// Its `t_ns`.
    before_ns: u64,
    /// Samples before this epoch.
    earlier: u64,
}

/// How a channel changes: from the last sample but one to the last one, within an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Difference of the values, in codes.
    pub change: i64,
    /// Time between them, ns, not 0.
    pub time_ns: u64,
}

/// Why an entry cannot be folded. Everything before it is in the fold, itself and all after it are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FoldError {
    /// The CRC does not fit the bytes.
    #[error("entry {seq} is damaged: its CRC does not fit; run `ipc-pipeline verify`")]
    Damaged {
        /// Seq that the entry should have.
        seq: u64,
    },
    /// The CRC fits, but the kind, reason or channel is not known.
    #[error(
        "entry {seq} has the unknown kind {kind} (flags {flags}, channel {channel}); a newer version may know it"
    )]
    Unknown {
        /// Seq of the entry.
        seq: u64,
        /// Number of its kind.
        kind: u8,
        /// Its flags.
        flags: u8,
        /// Its channel.
        channel: u16,
    },
    /// Not the next entry.
    #[error("entry {found} stands where entry {expected} was expected; run `ipc-pipeline verify`")]
    Order {
        /// Seq that comes next.
        expected: u64,
        /// Seq that was found.
        found: u64,
    },
}

impl Fold {
    /// A fold over nothing, for which only the totals are asked.
    pub fn new() -> Fold {
        Fold::default()
    }

    /// A fold over nothing.
    pub fn with(settings: &Settings) -> Fold {
        Fold { measures: measures(settings), ..Fold::default() }
    }

    /// The same fold, going on with other settings. The totals go on as they are, and so do percentiles if they were asked
    /// for before; otherwise they stay unknown where there are samples already. Everything that belongs to the epoch begins anew behind entry n, windows
    /// of time with the next whole step; alarms go on where the limits of a channel are the same. With the same settings nothing changes.
    pub fn go_on_with(mut self, settings: &Settings) -> Fold {
        if self.n == 0 {
            return Fold::with(settings);
        }
        if *self.settings() == *settings {
            return self;
        }
        let before = std::mem::replace(&mut self.measures, measures(settings));
        if let Some(measures) = &mut self.measures {
            let has_samples = self.channels.iter().map(|channel| channel.stats.count > 0);
            measures.go_on_from(before.map(|before| *before), has_samples, self.now);
        }
        self.channels.iter_mut().for_each(Channel::begin_epoch);
        self
    }

    /// What is asked for.
    pub fn settings(&self) -> &Settings {
        static NOTHING: Settings =
            Settings { percentiles: Vec::new(), ewma: None, windows: Vec::new(), limits: Vec::new() };
        self.measures.as_ref().map_or(&NOTHING, |measures| &measures.settings)
    }

    /// The channels that have samples, in rising order.
    pub fn channels(&self) -> impl Iterator<Item = (u16, &Stats)> {
        (0..).zip(self.channels.iter().map(|channel| &channel.stats)).filter(|(_, stats)| stats.count > 0)
    }

    /// What is known of one channel; `None` if it has no sample.
    pub fn channel(&self, channel: u16) -> Option<&Stats> {
        self.channels.get(channel as usize).map(|channel| &channel.stats).filter(|stats| stats.count > 0)
    }

    /// How many samples of a channel there are in this epoch.
    pub fn in_epoch(&self, channel: u16) -> u64 {
        self.channels.get(channel as usize).map_or(0, Channel::in_epoch)
    }

    /// How a channel changes; `None` without two samples in this epoch at two times.
    pub fn rate(&self, channel: u16) -> Option<Rate> {
        self.channels.get(channel as usize)?.rate()
    }

    /// The alarms of a channel; none is on if it has no limits.
    pub fn alarm(&self, channel: u16) -> Alarm {
        let kept = self.measures.as_ref().and_then(|measures| measures.channels.get(channel as usize));
        kept.and_then(|kept| kept.watch.as_ref()).map(|watch| watch.alarm).unwrap_or_default()
    }

    /// The fading average of a channel in units of 2^-32 codes; `None` if not asked for, or without a sample in this epoch.
    pub fn ewma(&self, channel: u16) -> Option<i64> {
        self.measures.as_ref()?.channels.get(channel as usize)?.ewma
    }

    /// The code of each percentile that is asked for, over all samples of a channel: of codes beyond 16 bits that of
    /// their bucket which is nearest to zero, at most 1/1024 off, but never one beyond all samples. `None` if not asked for from the first sample on.
    pub fn percentiles(&self, channel: u16) -> Option<Vec<i32>> {
        self.measures.as_ref()?.codes(channel, self.channel(channel)?)
    }

    /// The last closed window of a channel; `number` counts the windows of the settings from 0. `None` if none is closed
    /// in this epoch.
    pub fn window(&self, channel: u16, number: usize) -> Option<Span> {
        let samples = self.channels.get(channel as usize)?.in_epoch();
        self.measures.as_ref()?.span(channel, number, self.now, samples)
    }

    /// Folds one entry.
    ///
    /// # Errors
    /// It must be whole, of a known kind and have seq `n + 1`; otherwise nothing changes.
    #[inline(always)]
    pub fn fold(&mut self, entry: &Entry) -> Result<(), FoldError> {
        let folded = self.gather(entry, entry.is_whole());
        self.settle();
        folded
    }

    /// Folds one entry, but leaves what it adds to histograms and windows to [`Fold::settle`]; `is_whole`: its CRC is right.
    #[inline(always)]
    fn gather(&mut self, entry: &Entry, is_whole: bool) -> Result<(), FoldError> {
        let expected = self.n.wrapping_add(1);
        if !is_whole {
            return Err(FoldError::Damaged { seq: expected });
        }
        if entry.seq != expected {
            return Err(FoldError::Order { expected, found: entry.seq });
        }
        let &Entry { seq, kind, flags, channel, .. } = entry;
        let known = entry.kind().ok_or(FoldError::Unknown { seq, kind, flags, channel })?;
        self.take(entry, known);
        Ok(())
    }

    /// Counts the samples that [`Fold::take`] has gathered: to be called after the last of them.
    pub(crate) fn settle(&mut self) {
        if let Some(measures) = &mut self.measures {
            for (number, channel) in self.channels.iter().enumerate() {
                measures.settle(number, channel.in_epoch());
            }
        }
    }

    /// Folds the whole entries that `bytes` begins with and returns how many; up to 31 bytes may remain.
    ///
    /// # Errors
    /// As [`Fold::fold`]; it stops at the first bad entry, and `n` says how far it came.
    pub fn fold_bytes(&mut self, bytes: &[u8]) -> Result<usize, FoldError> {
        let (entries, _) = bytes.as_chunks::<LEN>();
        let mut parts = entries.chunks(entry::PART);
        let folded = parts.try_for_each(|part| {
            entry::checked(part).try_for_each(|(entry, whole)| self.gather(&entry, whole))
        });
        self.settle();
        folded.map(|()| entries.len())
    }

    /// Takes an entry whose checks are done; [`Fold::settle`] follows the last of them.
    #[inline(always)]
    pub(crate) fn take(&mut self, entry: &Entry, kind: Kind) {
        self.n = entry.seq;
        self.epoch = entry.epoch;
        if kind == Kind::Sample {
            self.take_sample(entry);
        } else {
            self.take_marker(entry, kind);
        }
    }

    #[cold]
    fn take_marker(&mut self, entry: &Entry, kind: Kind) {
        match kind {
            Kind::Loss(reason) => {
                self.losses.add(reason, entry.count());
                if reason.takes_time() {
                    self.reach(entry.t_ns);
                }
            }
            Kind::Corrupt => self.losses.corrupt = self.losses.corrupt.saturating_add(1),
            Kind::Epoch => self.begin_epoch(),
            Kind::Sample | Kind::Clock | Kind::Source | Kind::Grid => {}
        }
    }

    #[inline(always)]
    fn take_sample(&mut self, sample: &Entry) {
        self.reach(sample.t_ns);
        let Some(channel) = self.channels.get_mut(sample.channel as usize) else { return };
        channel.take(sample);
        if let Some(measures) = &mut self.measures {
            measures.take(sample, channel.in_epoch(), || channel.rate());
        }
    }

    /// Time never goes back: what stands later in the record belongs to a later window.
    #[inline(always)]
    fn reach(&mut self, t_ns: u64) {
        if t_ns > self.now {
            if let Some(measures) = &mut self.measures {
                measures.reach(self.now, t_ns);
            }
            self.now = t_ns;
        }
    }

    fn begin_epoch(&mut self) {
        self.now = 0;
        self.channels.iter_mut().for_each(Channel::begin_epoch);
        if let Some(measures) = &mut self.measures {
            measures.begin_epoch();
        }
    }
}

fn measures(settings: &Settings) -> Option<Box<Measures>> {
    (!settings.is_empty()).then(|| Box::new(Measures::new(settings.clone())))
}

impl Channel {
    #[inline(always)]
    fn take(&mut self, sample: &Entry) {
        (self.before, self.before_ns) = (self.stats.last, self.stats.t_ns);
        self.stats.take(sample);
    }

    fn begin_epoch(&mut self) {
        self.earlier = self.stats.count;
    }

    /// Samples in this epoch.
    #[inline(always)]
    fn in_epoch(&self) -> u64 {
        self.stats.count - self.earlier
    }

    /// From the last sample but one to the last one.
    fn rate(&self) -> Option<Rate> {
        let time_ns = self.stats.t_ns.checked_sub(self.before_ns).filter(|time| *time > 0)?;
        let change = self.stats.last as i64 - self.before as i64;
        (self.in_epoch() > 1).then_some(Rate { change, time_ns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Reason;

    fn bytes(entries: &[Entry]) -> Vec<u8> {
        entries.iter().flat_map(|e| e.to_bytes()).collect()
    }

    fn history() -> Vec<Entry> {
        vec![
            Entry::epoch(1, 1, 1_700_000_000_000_000_000),
            Entry::source(2, 1, 0, 7),
            Entry::grid(3, 1, 0, 1_000_000),
            Entry::sample(4, 1, 0, 0, i32::MIN),
            Entry::sample(5, 1, 0, 31, -3),
            Entry::sample(6, 1, 1000, 0, i32::MAX),
            Entry::loss(7, 1, 2000, Reason::Missed, 1),
            Entry::loss(8, 1, 2000, Reason::Full, u32::MAX),
            Entry::corrupt(9, 1),
            Entry::clock(10, 1, 2500, -7),
            Entry::sample(11, 1, 3000, 0, 5),
        ]
    }

    #[test]
    fn integers_are_exact() {
        let mut fold = Fold::new();
        assert_eq!(fold.fold_bytes(&bytes(&history())), Ok(11));
        let low = i32::MIN as i128;
        let high = i32::MAX as i128;
        let expected = Stats {
            count: 3,
            sum: low + high + 5,
            sum_squares: (low * low + high * high + 25) as u128,
            min: i32::MIN,
            max: i32::MAX,
            first: i32::MIN,
            last: 5,
            t_ns: 3000,
        };
        assert_eq!(fold.channel(0), Some(&expected));
        assert_eq!(fold.channels().map(|(c, s)| (c, s.count)).collect::<Vec<_>>(), [(0, 3), (31, 1)]);
        assert_eq!(fold.channel(1), None);
        assert_eq!(
            fold.losses,
            Losses { missed: 1, full: u32::MAX as u64, bad: 0, abandoned: 0, corrupt: 1, unread: 0 }
        );
        assert_eq!((fold.n, fold.epoch), (11, 1));
    }

    #[test]
    fn one_by_one_is_the_same_as_in_batches() {
        let mut one_by_one = Fold::new();
        history().iter().for_each(|e| one_by_one.fold(e).unwrap());
        let all = bytes(&history());
        for cut in 0..=11 {
            let mut fold = Fold::new();
            let (a, b) = all.split_at(cut * LEN);
            assert_eq!(fold.fold_bytes(a), Ok(cut));
            assert_eq!(fold.fold_bytes(b), Ok(11 - cut));
            assert_eq!(fold, one_by_one);
        }
    }

    #[test]
    fn it_stops_before_the_first_bad_entry() {
        let all = bytes(&history());
        for bad in 0..11 {
            let mut damaged = all.clone();
            damaged[bad * LEN + 17] ^= 4;
            let mut fold = Fold::new();
            let seq = bad as u64 + 1;
            assert_eq!(fold.fold_bytes(&damaged), Err(FoldError::Damaged { seq }));
            let mut before = Fold::new();
            before.fold_bytes(&all[..bad * LEN]).unwrap();
            assert_eq!(fold, before);
        }
    }

    #[test]
    fn gaps_repeats_and_unknown_kinds_are_refused() {
        let mut fold = Fold::new();
        let second = Entry::sample(2, 1, 0, 0, 1);
        assert_eq!(fold.fold(&second), Err(FoldError::Order { expected: 1, found: 2 }));
        fold.fold_bytes(&bytes(&history())).unwrap();
        let again = bytes(&history()[10..]);
        assert_eq!(fold.fold_bytes(&again), Err(FoldError::Order { expected: 12, found: 11 }));
        let mut strange = Entry::sample(12, 1, 0, 32, 1);
        let unknown = FoldError::Unknown { seq: 12, kind: 1, flags: 0, channel: 32 };
        assert_eq!(fold.fold(&strange), Err(unknown));
        strange = Entry { kind: 99, channel: 0, ..strange }.seal();
        let unknown = FoldError::Unknown { seq: 12, kind: 99, flags: 0, channel: 0 };
        assert_eq!(fold.fold_bytes(&strange.to_bytes()), Err(unknown));
        assert_eq!(fold.n, 11);
    }

    #[test]
    fn part_of_an_entry_waits() {
        let mut fold = Fold::new();
        assert_eq!(fold.fold_bytes(&bytes(&history())[..2 * LEN + 31]), Ok(2));
    }
}
