//! Which channels have had no sample for too long. That is a matter of the clock, not of the record: the same entries
//! can be stale today and not tomorrow, so it is no part of the fold.
#![forbid(unsafe_code)]

use ipc_pipeline::config::ChannelConfig;
use ipc_pipeline::fold::Fold;
use ipc_pipeline::snapshot::Snapshot;

/// A channel that must not be silent for long.
struct Watched {
    channel: u16,
    limit_ns: u64,
    /// How many samples there were when we looked; `None`: we have not looked yet.
    count: Option<u64>,
    /// Since when there are so many, CLOCK_MONOTONIC ns.
    since: u64,
    stale: bool,
}

/// All that are watched.
pub struct Staleness {
    watched: Vec<Watched>,
}

impl Staleness {
    /// As it is configured.
    pub fn new(channels: &[ChannelConfig]) -> Staleness {
        let limit = |(channel, config): (u16, &ChannelConfig)| Some((channel, config.watch.stale?));
        let watched = (0u16..).zip(channels).filter_map(limit).map(|(channel, limit)| Watched {
            channel,
            limit_ns: u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX),
            count: None,
            since: 0,
            stale: false,
        });
        Staleness { watched: watched.collect() }
    }

    /// A new life of stat: what its last life has published goes on, or a channel that is stale would seem to have come back.
    pub fn go_on_from(&mut self, last: &Snapshot, now: u64) {
        for watched in &mut self.watched {
            let row = last.totals().find(|row| row.channel == watched.channel);
            let (count, stale) = row.map_or((0, last.silent), |row| (row.stats.count, row.stale));
            (watched.count, watched.since, watched.stale) = (Some(count), now, stale);
        }
    }

    /// Looks at this moment, ns. True: something has changed.
    pub fn look(&mut self, fold: &Fold, now: u64) -> bool {
        let mut changed = false;
        for watched in &mut self.watched {
            let count = fold.channel(watched.channel).map_or(0, |stats| stats.count);
            if watched.count != Some(count) {
                (watched.count, watched.since) = (Some(count), now);
                changed |= std::mem::take(&mut watched.stale);
            } else if !watched.stale && now.saturating_sub(watched.since) >= watched.limit_ns {
                watched.stale = true;
                changed = true;
            }
        }
        changed
    }

    /// Marks the channels of a snapshot that are stale. They get their samples together, so while there are none at all one
    /// mark is for all of them.
    pub fn mark(&self, snapshot: &mut Snapshot) {
        snapshot.silent = snapshot.rows.is_empty() && self.watched.iter().any(|watched| watched.stale);
        for row in snapshot.rows.iter_mut().filter(|row| row.window.is_none()) {
            row.stale = self.watched.iter().any(|watched| watched.stale && watched.channel == row.channel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_pipeline::config::Config;
    use ipc_pipeline::entry::Entry;
    use std::time::Duration;

    fn staleness() -> Staleness {
        let mut channels = vec![Config::default().channels[0].clone(); 3];
        channels[1].watch.stale = Some(Duration::from_nanos(100));
        Staleness::new(&channels)
    }

    fn take(fold: &mut Fold, channel: u16) {
        fold.fold(&Entry::sample(fold.n + 1, 1, 0, channel, 7)).unwrap();
    }

    fn shown(staleness: &Staleness, fold: &Fold) -> (Vec<u16>, Snapshot) {
        let mut snapshot = Snapshot::of(fold, 1, 7);
        staleness.mark(&mut snapshot);
        (snapshot.rows.iter().filter(|row| row.stale).map(|row| row.channel).collect(), snapshot)
    }

    #[test]
    fn a_channel_without_a_sample_for_too_long_is_stale_until_the_next() {
        let (mut staleness, mut fold) = (staleness(), Fold::new());
        assert!(!staleness.look(&fold, 800) && !staleness.look(&fold, 899) && staleness.look(&fold, 900));
        assert!(shown(&staleness, &fold).1.silent, "never a sample");
        let mut next = self::staleness();
        next.go_on_from(&shown(&staleness, &fold).1, 950);
        assert!(!next.look(&fold, 950) && shown(&next, &fold).1.silent);
        (0..3).for_each(|channel| take(&mut fold, channel));
        assert!(staleness.look(&fold, 1000) && !staleness.look(&fold, 1099));
        assert!(!shown(&staleness, &fold).1.silent);
        assert!(shown(&staleness, &fold).0.is_empty());
        assert!(staleness.look(&fold, 1100) && !staleness.look(&fold, 1101));
        take(&mut fold, 0);
        assert!(!staleness.look(&fold, 1102));
        assert_eq!(shown(&staleness, &fold).0, [1]);
        take(&mut fold, 1);
        assert!(staleness.look(&fold, 1103) && !staleness.look(&fold, 1202) && staleness.look(&fold, 1203));
    }

    #[test]
    fn it_is_stale_for_the_next_life_too() {
        let (mut before, mut fold) = (staleness(), Fold::new());
        take(&mut fold, 1);
        assert!(!before.look(&fold, 0) && before.look(&fold, 100));
        let mut now = staleness();
        now.go_on_from(&shown(&before, &fold).1, 500);
        assert!(!now.look(&fold, 500));
        assert_eq!(shown(&now, &fold).0, [1]);
        take(&mut fold, 1);
        assert!(now.look(&fold, 501));
        assert!(shown(&now, &fold).0.is_empty());
    }
}
