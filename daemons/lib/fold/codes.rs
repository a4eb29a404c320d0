//! The codes of one pane, in the form that costs least: few as they come, many as counters, and packed when it is closed.
#![forbid(unsafe_code)]

use super::histogram::{Histogram, Runs, tally, to_runs};
use std::borrow::Cow;

/// So many codes are listed at most: 16 KiB.
const LIST_MAX: usize = 4096;

/// How often each bucket was hit. Two are equal if they count the same.
#[derive(Clone, Debug)]
pub(super) enum Codes {
    /// Buckets in any order: most panes of few samples go before anybody asks for what they count.
    Listed(Vec<u32>),
    Counted(Histogram),
    /// As [`to_runs`] makes them.
    Packed(Vec<u8>),
}

impl Codes {
    /// The codes that these runs count.
    pub fn packed(runs: &[u8]) -> Codes {
        Codes::Packed(runs.to_vec())
    }

    /// More of them.
    pub fn add(&mut self, buckets: &[u32]) {
        if let Some(histogram) = self.counters_for(buckets.len()) {
            histogram.add(tally(&mut buckets.to_vec()).into_iter());
        } else if let Codes::Listed(list) = self {
            list.extend(buckets);
        }
    }

    /// The counters to which so many more belong; `None` if there is room for them in the list.
    pub fn counters_for(&mut self, more: usize) -> Option<&mut Histogram> {
        match self {
            Codes::Listed(list) if list.len() + more <= LIST_MAX => return None,
            Codes::Counted(_) => {}
            _ => {
                let mut histogram = Histogram::default();
                histogram.add(Runs::of(&self.runs()));
                *self = Codes::Counted(histogram);
            }
        }
        if let Codes::Counted(histogram) = self { Some(histogram) } else { None }
    }

    /// No more will come.
    pub fn close(self) -> Codes {
        match self {
            Codes::Counted(histogram) => Codes::Packed(to_runs(histogram.counts())),
            closed => closed,
        }
    }

    /// As [`to_runs`] makes them.
    pub fn runs(&self) -> Cow<'_, [u8]> {
        match self {
            Codes::Listed(list) => to_runs(tally(&mut list.clone()).into_iter()).into(),
            Codes::Counted(histogram) => to_runs(histogram.counts()).into(),
            Codes::Packed(runs) => runs.into(),
        }
    }
}

impl Default for Codes {
    fn default() -> Codes {
        Codes::Listed(Vec::new())
    }
}

impl PartialEq for Codes {
    fn eq(&self, other: &Codes) -> bool {
        self.runs() == other.runs()
    }
}

impl Eq for Codes {}
