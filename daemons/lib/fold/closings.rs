//! Every window that closes, one after the other: what a snapshot shows only until the next one closes.
#![forbid(unsafe_code)]

use super::{Fold, Span};
use crate::entry::{Entry, Kind, MAX_CHANNELS};
use crate::settings::{Settings, Unit};

/// A window of a channel that has just closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Number of the channel.
    pub channel: u16,
    /// Which window of the settings, from 0.
    pub window: usize,
    /// Epoch in which it lies.
    pub epoch: u32,
    /// Its place, samples and percentiles.
    pub span: Span,
}

/// Folds entries and tells of every window that closes with at least one sample in it.
#[derive(Clone, Debug)]
pub struct Closings {
    fold: Fold,
}

impl Closings {
    /// Goes on from a fold: [`Fold::with`] at the beginning of a record.
    pub fn after(fold: Fold) -> Closings {
        Closings { fold }
    }

    /// The fold as it is now.
    pub fn fold(&self) -> &Fold {
        &self.fold
    }

    /// Takes an entry that is whole, of this kind, and the next one that is; `each` gets what closes with it, in the order
    /// of their ends.
    pub fn take(&mut self, entry: &Entry, kind: Kind, each: &mut impl FnMut(Closed)) {
        if kind == Kind::Sample || matches!(kind, Kind::Loss(reason) if reason.takes_time()) {
            self.reach(entry.t_ns, each);
        }
        self.fold.take(entry, kind);
        if kind == Kind::Sample {
            self.tell(
                entry.channel..entry.channel + 1,
                |fold, unit, step| {
                    let samples =
                        fold.channels.get(entry.channel as usize).map_or(0, |channel| channel.in_epoch());
                    unit == Unit::Samples && samples.is_multiple_of(step)
                },
                each,
            );
        }
    }

    /// Time goes on to `t_ns`, from the end of one pane to that of the next.
    fn reach(&mut self, t_ns: u64, each: &mut impl FnMut(Closed)) {
        while let Some(end) = self.fold.measures.as_ref().and_then(|measures| measures.next_end()) {
            if end > t_ns || end <= self.fold.now {
                return;
            }
            self.fold.reach(end);
            let ends_here = |_: &Fold, unit, step| unit == Unit::Time && end.is_multiple_of(step);
            self.tell(0..MAX_CHANNELS as u16, ends_here, each);
        }
    }

    /// Tells of those windows of these channels which have closed just now.
    fn tell(
        &self,
        channels: std::ops::Range<u16>,
        closes: impl Fn(&Fold, Unit, u64) -> bool,
        each: &mut impl FnMut(Closed),
    ) {
        let Settings { windows, .. } = self.fold.settings();
        for (i, _) in windows.iter().enumerate().filter(|(_, w)| closes(&self.fold, w.unit(), w.step())) {
            for channel in channels.clone() {
                let span = self.fold.window(channel, i).filter(|span| span.stats.count > 0);
                if let Some(span) = span {
                    each(Closed { channel, window: i, epoch: self.fold.epoch, span });
                }
            }
        }
    }
}
