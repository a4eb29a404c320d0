//! The samples of a record, or a selection of them, one after the other: for `export`, `tail` and `plot`.
#![forbid(unsafe_code)]

use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use ipc_pipeline::args::EXIT_USAGE;
use ipc_pipeline::daemon::{self, Failure};
use ipc_pipeline::entry::Entry;
use ipc_pipeline::header::ChannelRow;
use ipc_pipeline::names::{Names, Role};
use ipc_pipeline::page::{Page, State};
use ipc_pipeline::reader::{ReadError, RecordReader};
use ipc_pipeline::timeline::wall_before;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::condition::{Condition, channel_number};
use crate::entries::{Damage, Entries, Met};
use crate::moment;
use crate::standing::Standings;

/// How often somebody who follows looks for more.
const LOOK: Duration = Duration::from_millis(50);
/// An ipc-log that shows no life for so long does not come back.
const GONE: Duration = Duration::from_secs(5);

/// Which samples are wanted.
#[derive(Args, Clone, Debug, Default)]
pub struct SelectionArgs {
    /// Only samples taken at this time or later: 2026-11-21T12:00:00Z, 2026-11-21, or 10min for so long ago
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    from: Option<i128>,
    /// Only samples taken before this time
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    to: Option<i128>,
    /// Only entries A to B of the record; `A..` and `..B` are allowed
    #[arg(long, value_name = "A..B", value_parser = seqs)]
    seq: Option<RangeInclusive<u64>>,
    /// Only this channel, by name or number; may be repeated
    #[arg(long, value_name = "NAME|N")]
    channel: Vec<String>,
    /// Only samples that meet the condition: comparisons of value, channel, seq, t, joined by and, or, not, ( )
    #[arg(long = "where", value_name = "CONDITION")]
    condition: Option<String>,
}

/// `A..B`, both included.
fn seqs(text: &str) -> Result<RangeInclusive<u64>, String> {
    let end = |text: &str, default| if text.is_empty() { Some(default) } else { text.parse().ok() };
    let ends = text.split_once("..").and_then(|(a, b)| Some((end(a, 1)?, end(b, u64::MAX)?)));
    let ordered = ends.filter(|(a, b)| 1 <= *a && a <= b);
    ordered.map(|(a, b)| a..=b).ok_or_else(|| "allowed: A..B with 1 <= A <= B, or A.. or ..B".into())
}

impl SelectionArgs {
    /// The selection from a record with these channels; `raw`: `value` means the code.
    ///
    /// # Errors
    /// An unknown channel, or a mistake in the condition.
    pub fn resolve(&self, raw: bool, channels: &[ChannelRow]) -> Result<Selection, Failure> {
        let usage = |e: String| Failure::new(EXIT_USAGE, e);
        let mut wanted = if self.channel.is_empty() { u32::MAX } else { 0 };
        for text in &self.channel {
            wanted |= 1 << channel_number(text, channels).map_err(|e| usage(format!("--channel: {e}")))?;
        }
        let condition =
            self.condition.as_deref().map(|text| Condition::parse(text, raw, channels)).transpose();
        Ok(Selection {
            seqs: self.seq.clone().unwrap_or(1..=u64::MAX),
            from_ns: self.from,
            to_ns: self.to,
            channels: wanted,
            condition: condition.map_err(usage)?,
        })
    }
}

/// Which samples are wanted.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Seqs of entries to look at.
    pub seqs: RangeInclusive<u64>,
    /// Time of day, ns since 1970: at or after this.
    from_ns: Option<i128>,
    /// Before this.
    to_ns: Option<i128>,
    /// A bit for each channel.
    channels: u32,
    condition: Option<Condition>,
}

impl Selection {
    /// The numbers of the channels that are wanted, of those below `count`; `None`: there was no choice.
    pub fn chosen(&self, count: u16) -> Option<Vec<u16>> {
        let chosen = || (0..count.min(32)).filter(|n| self.channels >> n & 1 == 1).collect();
        (self.channels != u32::MAX).then(chosen)
    }

    /// The same, of these seqs.
    pub fn of_seqs(&self, seqs: RangeInclusive<u64>) -> Selection {
        Selection { seqs, ..self.clone() }
    }

    /// The same, of this channel (below 32) alone.
    pub fn of_channel(&self, number: u16) -> Selection {
        Selection { channels: 1 << number, ..self.clone() }
    }

    /// Is this channel wanted, at this span of time? Its beginning and end are ns since 1970, where they are known.
    pub fn takes_span(&self, channel: u16, from_ns: Option<i128>, to_ns: Option<i128>) -> bool {
        u32::checked_shr(self.channels, channel.into()).is_some_and(|bits| bits & 1 == 1)
            && self.from_ns.is_none_or(|from| from_ns.is_some_and(|begin| begin >= from))
            && self.to_ns.is_none_or(|to| to_ns.is_some_and(|end| end <= to))
    }

    #[inline(always)]
    fn takes(&self, sample: &Entry, wall_ns: Option<i128>) -> bool {
        self.channels >> sample.channel & 1 == 1
            && self.from_ns.is_none_or(|from| wall_ns.is_some_and(|wall| wall >= from))
            && self.to_ns.is_none_or(|to| wall_ns.is_some_and(|wall| wall < to))
            && self.condition.as_ref().is_none_or(|c| c.holds(sample, wall_ns))
    }
}

/// The selected samples of a record, in their order.
pub struct Samples {
    entries: Entries,
    selection: Selection,
}

impl Samples {
    /// Begins; `live`: to be followed, only what is durable.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn open(mut reader: RecordReader, selection: Selection, live: bool) -> Result<Samples, ReadError> {
        // Also before the first segment: what is missing there was either summed up, or it is damage.
        let begin = *selection.seqs.start();
        let wall = wall_before(&mut reader, begin)?;
        let mut entries = Entries::from(reader, begin, wall)?;
        if live {
            entries.walk = entries.walk.live();
        }
        Ok(Samples { entries, selection })
    }

    /// What was left out so far.
    pub fn damage(&self) -> Damage {
        self.entries.damage
    }

    /// Seq of the next entry.
    pub fn next(&self) -> u64 {
        self.entries.walk.next
    }

    /// About so far it goes, by the mark: for showing progress.
    pub fn end(&self) -> u64 {
        self.entries.walk.mark.unwrap_or(0).min(*self.selection.seqs.end())
    }

    /// Gives the selected samples among the next entries, each with its time of day in ns since 1970 if that is known.
    /// False: there are no more entries now.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn step(&mut self, mut take: impl FnMut(&Entry, Option<i128>)) -> Result<bool, ReadError> {
        let Samples { entries, selection } = self;
        entries.step(*selection.seqs.end(), |met, wall| {
            if let Met::Entry(entry, _) = met
                && entry.is_sample()
            {
                let wall_ns = wall.at(entry.t_ns);
                if selection.takes(&entry, wall_ns) {
                    take(&entry, wall_ns);
                }
            }
        })
    }

    /// Is there nothing more to come, whatever is written?
    fn is_over(&self) -> bool {
        self.entries.walk.next > *self.selection.seqs.end()
    }
}

/// Waits for more samples of a pipeline that runs.
pub struct Follow {
    /// The instance; a record that is only a directory has none, and is followed until Ctrl-C.
    names: Option<Names>,
    /// The samples go to standard output.
    prints: bool,
    stop: Arc<AtomicBool>,
    alive: Option<Instant>,
}

impl Follow {
    /// From now on Ctrl-C and SIGTERM only end the waiting; and so does, if what is followed is printed, that nobody reads it
    /// any more.
    ///
    /// # Errors
    /// Signal handlers cannot be installed.
    pub fn begin(names: Option<Names>, prints: bool) -> Result<Follow, Failure> {
        Ok(Follow { names, prints, stop: daemon::stop_flag()?, alive: None })
    }

    /// Were we told to stop?
    pub fn is_told(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Waits until there is more; false: nothing more will come, or we were told to stop.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn wait(&mut self, samples: &mut Samples) -> Result<bool, ReadError> {
        while !self.is_told() && !samples.is_over() {
            // Before the look at the mark: what ipc-log made durable before its end is seen.
            let ended = self.has_ended();
            if samples.entries.walk.look()? {
                return Ok(true);
            }
            if ended || self.prints && nobody_reads() {
                return Ok(false);
            }
            std::thread::sleep(LOOK);
        }
        Ok(false)
    }

    /// Has the pipeline ended? A log that was killed is waited for: it is started again.
    fn has_ended(&mut self) -> bool {
        let Some(names) = &self.names else { return false };
        let standings = Standings::of(names);
        let log = standings.role(Role::Log);
        if log.is_running() {
            self.alive = Some(Instant::now());
            return false;
        }
        let clean = log.page.as_ref().and_then(Page::state) == Some(State::Ended);
        clean || self.alive.is_none_or(|seen| seen.elapsed() > GONE)
    }
}

/// Have all gone away who could read standard output? Who only waits for something to print would never see it.
fn nobody_reads() -> bool {
    let output = io::stdout();
    let mut output = [PollFd::new(&output, PollFlags::empty())];
    let gone = PollFlags::ERR | PollFlags::HUP;
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut output, Some(&now)).is_ok() && output.iter().any(|output| output.revents().intersects(gone))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::testing::record;
    use std::path::Path;

    fn selected(dir: &Path, args: &SelectionArgs) -> Vec<u64> {
        let reader = RecordReader::open(dir).unwrap();
        let selection = args.resolve(false, reader.channels()).unwrap();
        let (mut samples, mut seqs) = (Samples::open(reader, selection, false).unwrap(), Vec::new());
        while samples.step(|sample, _| seqs.push(sample.seq)).unwrap() {}
        seqs
    }

    #[test]
    fn every_way_to_select() {
        let dir = tempfile::tempdir().unwrap();
        record(dir.path());
        let none = SelectionArgs::default;
        let all: Vec<u64> = [4, 5].into_iter().chain(8..=20).collect();
        assert_eq!(selected(dir.path(), &none()), all);
        assert_eq!(
            selected(dir.path(), &SelectionArgs { seq: Some(seqs("5..9").unwrap()), ..none() }),
            [5, 8, 9]
        );
        assert_eq!(
            selected(dir.path(), &SelectionArgs { seq: Some(seqs("19..").unwrap()), ..none() }),
            [19, 20]
        );
        assert_eq!(selected(dir.path(), &SelectionArgs { channel: vec!["1".into()], ..none() }), [5]);
        let condition = Some("value >= -0.0018 and value < 10".into());
        assert_eq!(selected(dir.path(), &SelectionArgs { condition, ..none() }), [5, 8, 9]);
        // The clock was set back by a second behind entry 6; t of entry 10 is 7 ms.
        let at = |text: &str| Some(moment::parse(text).unwrap());
        let (from, to) = (at("2023-11-14T22:13:20.006Z"), at("2023-11-14T22:13:20.008Z"));
        assert_eq!(selected(dir.path(), &SelectionArgs { from, to, ..none() }), [10, 11]);
        let seq = Some(seqs("11..").unwrap());
        assert_eq!(
            selected(dir.path(), &SelectionArgs { from, to, seq, ..none() }),
            [11],
            "wherever it begins"
        );
    }

    #[test]
    fn ranges_of_seqs() {
        assert_eq!(seqs("3..7"), Ok(3..=7));
        assert_eq!(seqs(".."), Ok(1..=u64::MAX));
        for wrong in ["", "7", "0..3", "7..3", "a..", "-1..4"] {
            assert!(seqs(wrong).is_err(), "{wrong}");
        }
    }
}
