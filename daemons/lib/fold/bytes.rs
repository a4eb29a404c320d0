//! A whole [`Fold`] as bytes and back (docs/formats.md, "Fold").
#![forbid(unsafe_code)]

use super::alarm::{WATCH_LEN, Watch};
use super::codes::Codes;
use super::histogram::{Histogram, from_runs};
use super::stats::{LOSSES_LEN, Losses, STATS_LEN, Stats};
use super::windows::{self, Pane, Panes, next_pane};
use super::{Channel, Fold, measures};
use crate::entry::MAX_CHANNELS;
use crate::fields::{get, get_u16, get_u32, get_u64, put};
use crate::settings::{SETTINGS_LEN, Settings, Unit, WINDOWS_MAX};

const LOSSES_AT: usize = 16;
const NOW_AT: usize = 64;
const FIRST_AT: usize = 72;
const SETTINGS_AT: usize = FIRST_AT + 8 * WINDOWS_MAX;
/// Size of what stands before the channels.
const HEAD_LEN: usize = SETTINGS_AT + SETTINGS_LEN;
const CHANNEL_LEN: usize = 96;
const PANE_LEN: usize = 8 + STATS_LEN;

impl Fold {
    /// All of it: [`Fold::from_bytes`] makes the same fold of it, in another life or on another machine.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut b = vec![0; HEAD_LEN];
        put(&mut b, 0, self.n.to_le_bytes());
        put(&mut b, 8, self.epoch.to_le_bytes());
        put(&mut b, 12, (self.channels().count() as u16).to_le_bytes());
        put(&mut b, 14, (self.settings().limits.len() as u16).to_le_bytes());
        put(&mut b, LOSSES_AT, self.losses.to_bytes());
        put(&mut b, NOW_AT, self.now.to_le_bytes());
        let first = self.measures.iter().flat_map(|measures| &measures.first);
        for (i, first) in first.enumerate() {
            put(&mut b, FIRST_AT + 8 * i, first.to_le_bytes());
        }
        put(&mut b, SETTINGS_AT, self.settings().to_bytes());
        b.extend(self.watches());
        for (number, channel) in (0u16..).zip(&self.channels).filter(|(_, channel)| channel.stats.count > 0) {
            let measures = self.measures.as_ref().and_then(|measures| measures.channels.get(number as usize));
            channel.write(number, measures, &mut b);
        }
        b
    }

    /// The limits, each with what its channel's alarms have come to.
    fn watches(&self) -> Vec<u8> {
        let channels = self.measures.iter().flat_map(|measures| &measures.channels);
        let watches = (0u16..).zip(channels).filter_map(|(number, channel)| Some((number, channel.watch?)));
        let bytes = watches.flat_map(|(number, watch)| {
            let mut b = watch.to_bytes();
            put(&mut b, 0, number.to_le_bytes());
            b
        });
        bytes.collect()
    }

    /// The fold in these bytes; `None` if [`Fold::to_bytes`] makes them of no fold, so whatever they are is found out.
    pub fn from_bytes(bytes: &[u8]) -> Option<Fold> {
        let (head, rest) = bytes.split_at_checked(HEAD_LEN)?;
        let mut settings = Settings::from_bytes(&get(head, SETTINGS_AT))?;
        let mut reader = Reader { rest };
        let watches = reader.watches(get_u16(head, 14), get_u64(head, 0))?;
        settings.limits = watches.iter().map(|(number, watch)| (*number, watch.limits)).collect();
        let mut fold = Fold {
            n: get_u64(head, 0),
            epoch: get_u32(head, 8),
            losses: Losses::from_bytes(&get::<LOSSES_LEN>(head, LOSSES_AT)),
            now: get_u64(head, NOW_AT),
            measures: measures(&settings),
            ..Fold::default()
        };
        if let Some(measures) = &mut fold.measures {
            for (i, first) in measures.first.iter_mut().enumerate() {
                *first = get_u64(head, FIRST_AT + 8 * i);
            }
            measures.find_border(fold.now);
            for (number, watch) in watches {
                measures.channels.get_mut(number as usize)?.watch = Some(watch);
            }
        }
        for _ in 0..get_u16(head, 12) {
            fold.read_channel(&mut reader)?;
        }
        let samples: u128 = fold.channels().map(|(_, stats)| stats.count as u128).sum();
        let fits = samples + fold.losses.corrupt as u128 <= fold.n as u128;
        (fits && fold.to_bytes() == bytes).then_some(fold)
    }

    fn read_channel(&mut self, reader: &mut Reader) -> Option<()> {
        let row = reader.take(CHANNEL_LEN)?;
        let number = get_u16(row, 0) as usize;
        let channel = Channel::read(row)?;
        *self.channels.get_mut(number)? = channel;
        let Some(measures) = &mut self.measures else { return Some(()) };
        let kept = measures.channels.get_mut(number)?;
        kept.read(row, &channel, reader)?;
        kept.find_left(channel.in_epoch(), &measures.settings);
        for (panes, window) in kept.panes.iter_mut().zip(&measures.settings.windows) {
            panes.read(channel.in_epoch(), reader)?;
            let next = next_pane(window, self.now, channel.in_epoch());
            let kept = next.saturating_sub(window.steps())..next;
            let numbers: Vec<u64> = panes.closed.iter().map(|pane| pane.number).collect();
            let in_order = numbers.is_sorted() && numbers.iter().all(|number| kept.contains(number));
            let rest = channel.in_epoch() % window.step();
            let in_step = window.unit() == Unit::Time || panes.open.count == rest;
            (in_order && in_step).then_some(())?;
        }
        Some(())
    }
}

impl Channel {
    fn write(&self, number: u16, kept: Option<&windows::Channel>, b: &mut Vec<u8>) {
        let mut row = [0; CHANNEL_LEN];
        put(&mut row, 0, number.to_le_bytes());
        put(&mut row, 4, self.before.to_le_bytes());
        put(&mut row, 8, self.stats.to_bytes());
        put(&mut row, 72, self.before_ns.to_le_bytes());
        put(&mut row, 80, self.earlier.to_le_bytes());
        if let Some(kept) = kept {
            put(&mut row, 2, [kept.histogram.is_some().into(), kept.ewma.is_some().into()]);
            put(&mut row, 88, kept.ewma.unwrap_or(0).to_le_bytes());
        }
        b.extend(row);
        if let Some(kept) = kept {
            write_runs(&kept.histogram.as_ref().map(Histogram::to_runs).unwrap_or_default(), b);
            kept.panes.iter().for_each(|panes| panes.write(b));
        }
    }

    fn read(row: &[u8]) -> Option<Channel> {
        let stats = Stats::from_bytes(&get(row, 8));
        let before = i32::from_le_bytes(get(row, 4));
        let (before_ns, earlier) = (get_u64(row, 72), get_u64(row, 80));
        let plausible = stats.is_plausible() && earlier <= stats.count;
        plausible.then_some(Channel { stats, before, before_ns, earlier })
    }
}

impl windows::Channel {
    /// Histogram and fading average; the panes follow.
    fn read(&mut self, row: &[u8], of: &Channel, reader: &mut Reader) -> Option<()> {
        let [has_histogram, has_ewma] = get(row, 2);
        let runs = reader.runs()?;
        self.histogram = match (self.histogram.take(), has_histogram) {
            (Some(_), 1) => Some(read_counts(runs, of.stats.count)?),
            _ => None,
        };
        self.ewma = (has_ewma == 1).then(|| i64::from_le_bytes(get(row, 88)));
        Some(())
    }
}

impl Panes {
    fn write(&self, b: &mut Vec<u8>) {
        b.extend((self.closed.len() as u64).to_le_bytes());
        write_pane(0, &self.open, self.codes.as_ref(), b);
        self.closed.iter().for_each(|pane| write_pane(pane.number, &pane.stats, pane.codes.as_ref(), b));
    }

    /// All panes together have at most `samples`.
    fn read(&mut self, samples: u64, reader: &mut Reader) -> Option<()> {
        let closed = get_u64(reader.take(8)?, 0);
        let has_codes = self.codes.is_some();
        let open = reader.pane(has_codes)?;
        (open.stats.count == 0 || open.stats.is_plausible()).then_some(())?;
        let mut rest = samples.checked_sub(open.stats.count)?;
        self.open = open.stats;
        for _ in 0..closed {
            let pane = reader.pane(has_codes)?;
            pane.stats.is_plausible().then_some(())?;
            rest = rest.checked_sub(pane.stats.count)?;
            self.closed.push_back(pane);
        }
        self.codes = open.codes;
        Some(())
    }
}

fn write_pane(number: u64, stats: &Stats, codes: Option<&Codes>, b: &mut Vec<u8>) {
    b.extend(number.to_le_bytes());
    b.extend(stats.to_bytes());
    write_runs(&codes.map(Codes::runs).unwrap_or_default(), b);
}

fn write_runs(runs: &[u8], b: &mut Vec<u8>) {
    b.extend((runs.len() as u64).to_le_bytes());
    b.extend(runs);
}

fn read_counts(runs: &[u8], total: u64) -> Option<Histogram> {
    let mut histogram = Histogram::default();
    histogram.add(from_runs(runs, total)?.into_iter());
    Some(histogram)
}

/// What is left to read.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    fn runs(&mut self) -> Option<&'a [u8]> {
        let len = get_u64(self.take(8)?, 0);
        self.take(usize::try_from(len).ok()?)
    }

    /// So many limits and alarms, each with the number of its channel, after entry n.
    fn watches(&mut self, count: u16, n: u64) -> Option<Vec<(u16, Watch)>> {
        let bytes = self.take(WATCH_LEN * (count as usize).min(MAX_CHANNELS + 1))?;
        let each = bytes.chunks_exact(WATCH_LEN);
        each.map(|b| Some((get_u16(b, 0), Watch::from_bytes(b, n)?))).collect()
    }

    /// It has codes if percentiles are asked for.
    fn pane(&mut self, has_codes: bool) -> Option<Pane> {
        let head = self.take(PANE_LEN)?;
        let stats = Stats::from_bytes(&get::<STATS_LEN>(head, 8));
        let runs = self.runs()?;
        let right = if has_codes { from_runs(runs, stats.count).is_some() } else { runs.is_empty() };
        let codes = has_codes.then(|| Codes::packed(runs));
        right.then_some(Pane { number: get_u64(head, 0), stats, codes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fold of these totals, as bytes.
    fn fold(n: u64, rows: &[(u16, Stats)]) -> Vec<u8> {
        let fold = Fold { n, epoch: 1, ..Fold::default() };
        let mut bytes = fold.to_bytes();
        put(&mut bytes, 12, (rows.len() as u16).to_le_bytes());
        for (number, stats) in rows {
            Channel { stats: *stats, ..Channel::default() }.write(*number, None, &mut bytes);
        }
        bytes
    }

    #[test]
    fn numbers_that_cannot_belong_together_are_refused() {
        let good = Stats { count: 2, sum: 1, sum_squares: 5, min: -1, max: 2, first: -1, last: 2, t_ns: 9 };
        let accepts = |n, rows: &[(u16, Stats)]| Fold::from_bytes(&fold(n, rows)).is_some();
        assert!(accepts(2, &[(0, good)]));
        assert!(!accepts(1, &[(0, good)]));
        assert!(!accepts(9, &[(1, good), (0, good)]));
        assert!(!accepts(9, &[(1, good), (1, good)]));
        assert!(!accepts(9, &[(32, good)]));
        assert!(!accepts(9, &[(u16::MAX, good)]));
        assert!(!accepts(9, &[(0, Stats { count: 0, ..good })]));
        assert!(!accepts(9, &[(0, Stats { sum: 5, ..good })]));
        assert!(!accepts(9, &[(0, Stats { sum: i128::MIN, ..good })]));
        assert!(!accepts(9, &[(0, Stats { sum_squares: u128::MAX, ..good })]));
        assert!(!accepts(9, &[(0, Stats { sum_squares: 0, ..good })]));
        assert!(!accepts(9, &[(0, Stats { first: 3, ..good })]));
        assert!(!accepts(9, &[(0, Stats { last: -2, ..good })]));
    }
}
