//! Says when a source has been silent for long, and when it speaks again.
#![forbid(unsafe_code)]

use std::time::Duration;

use ipc_pipeline::messages::Message;
use ipc_pipeline::sys;

use super::{Source, SourceError, Supply};

/// A silence shorter than this is no news.
const SILENCE_MIN: Duration = Duration::from_secs(10);

/// A source that others feed: a pipe or a program. Its ticks pass while it is silent, and are counted as missed.
pub struct Quiet<S> {
    source: S,
    name: String,
    /// What becomes of the ticks of the silence; empty where there is no grid.
    ticks: &'static str,
    /// So long it may be silent, ns.
    limit_ns: u64,
    /// Since when it was asked in vain, CLOCK_MONOTONIC.
    since: Option<u64>,
    said: bool,
}

impl<S: Source> Quiet<S> {
    /// `period` is the time between two rows that are wanted: to be silent for two of them is no news either.
    pub fn new(source: S, name: String, period: Duration) -> Quiet<S> {
        let limit_ns = u64::try_from((2 * period).max(SILENCE_MIN).as_nanos()).unwrap_or(u64::MAX);
        let ticks = if period.is_zero() { "" } else { "; ticks that pass meanwhile are counted as missed" };
        Quiet { source, name, ticks, limit_ns, since: None, said: false }
    }

    fn news(&self) -> String {
        let seconds = self.limit_ns / 1_000_000_000;
        format!("{} has been silent for {seconds} s{}", self.name, self.ticks)
    }

    /// Is the silence news now?
    fn is_news(&mut self, now: u64) -> bool {
        let long = now.saturating_sub(*self.since.get_or_insert(now)) >= self.limit_ns;
        long && !std::mem::replace(&mut self.said, long)
    }
}

impl<S: Source> Source for Quiet<S> {
    fn seek(&mut self, row: u64) -> Result<(), SourceError> {
        self.source.seek(row)
    }

    fn fill(&mut self, out: &mut [i32]) -> Result<Supply, SourceError> {
        let supply = self.source.fill(out)?;
        if supply != Supply::Nothing {
            self.since = None;
            if std::mem::take(&mut self.said) {
                log::info!(id = Message::SourceBack; "{} speaks again", self.name);
            }
        } else if self.is_news(sys::monotonic_ns()) {
            log::warn!(id = Message::SourceTrouble; "{}", self.news());
        }
        Ok(supply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has something only where it is asked for an even number of samples.
    struct Even;

    impl Source for Even {
        fn seek(&mut self, _: u64) -> Result<(), SourceError> {
            Ok(())
        }

        fn fill(&mut self, out: &mut [i32]) -> Result<Supply, SourceError> {
            Ok(if out.len().is_multiple_of(2) { Supply::Rows(out.len()) } else { Supply::Nothing })
        }
    }

    #[test]
    fn a_long_silence_is_said_once() {
        let mut quiet = Quiet::new(Even, "it".into(), Duration::from_secs(7));
        assert_eq!(quiet.limit_ns, 14_000_000_000);
        assert_eq!(
            quiet.news(),
            "it has been silent for 14 s; ticks that pass meanwhile are counted as missed"
        );
        let without_grid = Quiet::new(Even, "it".into(), Duration::ZERO);
        assert_eq!(without_grid.news(), "it has been silent for 10 s");
        let mut news = |now: u64| quiet.is_news(now * 1_000_000_000);
        assert!(!news(100) && !news(113));
        assert!(news(114) && !news(115) && !news(1000));
        assert_eq!(quiet.fill(&mut [0, 0]).unwrap(), Supply::Rows(2));
        assert!(!quiet.said && quiet.since.is_none());
        assert_eq!(quiet.fill(&mut [0]).unwrap(), Supply::Nothing);
        assert!(!quiet.said && quiet.since.is_some());
    }
}
