//! T14: the statistics are exact. Random histories, cut and restarted anywhere, against a second implementation that
//! keeps every sample and counts with big integers; printed decimals against the inequalities that define rounding.
//!
//! 100,000 cases; `PROPTEST_CASES=n` runs n of each property instead.

mod scale;

use ipc_pipeline::checkpoint::Checkpoint;
use ipc_pipeline::entry::{Entry, LEN, Reason};
use ipc_pipeline::exact::{self, Conversion, Exact};
use ipc_pipeline::fold::{Alarm, Closed, Closings, Fold, Losses, Rate, Span, Stats};
use ipc_pipeline::limits::{Limit, Limits, Slope};
use ipc_pipeline::settings::{Percentile, Settings, Unit, Weight, Window};
use ipc_pipeline::snapshot::{Row, Snapshot};
use num_bigint::BigInt;
use proptest::prelude::*;

const LOG_ID: u64 = 0x1234_5678_9abc_def0;
const CASES: [u64; 3] = [33_400, 3_340_000, 33_400_000];

fn config() -> ProptestConfig {
    let cases = scale::size("PROPTEST_CASES", CASES) as u32;
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Values as a converter gives them, and those that break arithmetic.
fn value() -> impl Strategy<Value = i32> {
    prop_oneof![
        4 => any::<i32>(),
        3 => -3..=3i32,
        3 => Just(i32::MIN),
        2 => Just(i32::MAX),
        1 => prop_oneof![Just(i32::MIN + 1), Just(i32::MAX - 1), Just(65_535), Just(-65_536)],
    ]
}

/// An entry without its number: (selector of kind, channel, value, time).
type Seed = (u8, u8, i32, u64);

fn history() -> impl Strategy<Value = Vec<Seed>> {
    prop::collection::vec((0..40u8, 0..40u8, value(), any::<u64>()), 0..40)
}

fn entry(seq: u64, (kind, channel, value, t_ns): Seed) -> Entry {
    // Mostly channel 0 and its neighbours, sometimes the last one.
    let channel = [0, 0, 0, 1, 2, 31, channel as u16 % 32][channel as usize % 7];
    let epoch = 1 + seq as u32 / 16;
    let count = value as u32 | 1;
    match kind {
        0 => Entry::epoch(seq, epoch, t_ns),
        1 => Entry::source(seq, epoch, t_ns, value as u32 as u64),
        2 => Entry::grid(seq, epoch, t_ns, value as u32 as u64),
        3 => Entry::clock(seq, epoch, t_ns, value as i64),
        4 => Entry::corrupt(seq, epoch),
        5 => Entry::loss(seq, epoch, t_ns, Reason::Missed, count),
        6 => Entry::loss(seq, epoch, t_ns, Reason::Full, count),
        7 => Entry::loss(seq, epoch, t_ns, Reason::Bad, count),
        8 => Entry::loss(seq, epoch, t_ns, Reason::Abandoned, count),
        _ => Entry::sample(seq, epoch, t_ns, channel, value),
    }
}

fn entries(seeds: &[Seed]) -> Vec<Entry> {
    (1..).zip(seeds).map(|(seq, seed)| entry(seq, *seed)).collect()
}

fn bytes(entries: &[Entry]) -> Vec<u8> {
    entries.iter().flat_map(|e| e.to_bytes()).collect()
}

/// The second implementation: reads the fields by their documented numbers and keeps every sample.
fn assert_is_recomputation(fold: &Fold, entries: &[Entry]) {
    assert_eq!(fold.n, entries.len() as u64);
    assert_eq!(fold.epoch, entries.last().map_or(0, |e| e.epoch));
    let lost = |reason: u8| {
        entries
            .iter()
            .filter(|e| e.kind == 3 && e.flags == reason)
            .map(|e| e.value as u32 as u64)
            .sum::<u64>()
    };
    let corrupt = entries.iter().filter(|e| e.kind == 5).count() as u64;
    let losses =
        Losses { missed: lost(1), full: lost(2), bad: lost(3), abandoned: lost(4), corrupt, unread: lost(5) };
    assert_eq!(fold.losses, losses);
    for channel in 0..32 {
        let samples: Vec<&Entry> = entries.iter().filter(|e| e.kind == 1 && e.channel == channel).collect();
        match fold.channel(channel) {
            None => assert!(samples.is_empty(), "channel {channel} is missing"),
            Some(stats) => assert_are_statistics(stats, &samples),
        }
    }
}

fn assert_are_statistics(stats: &Stats, samples: &[&Entry]) {
    let values: Vec<BigInt> = samples.iter().map(|e| BigInt::from(e.value)).collect();
    assert_eq!(stats.count, samples.len() as u64);
    assert_eq!(BigInt::from(stats.sum), values.iter().sum::<BigInt>());
    assert_eq!(BigInt::from(stats.sum_squares), values.iter().map(|v| v * v).sum::<BigInt>());
    assert_eq!(Some(BigInt::from(stats.min)), values.iter().min().cloned());
    assert_eq!(Some(BigInt::from(stats.max)), values.iter().max().cloned());
    assert_eq!(Some(BigInt::from(stats.first)), values.first().cloned());
    assert_eq!(Some(BigInt::from(stats.last)), values.last().cloned());
    assert_eq!(Some(stats.t_ns), samples.last().map(|e| e.t_ns));
}

/// stat dies and starts again from its checkpoint.
fn restart(fold: Fold, entries: &[Entry]) -> Fold {
    let Some(last) = entries.last() else { return fold };
    let bytes = Checkpoint::new(LOG_ID, last, fold).encode();
    let checkpoint = Checkpoint::decode(&bytes).expect("a checkpoint can be read again");
    assert!(checkpoint.fits(LOG_ID, last));
    checkpoint.fold
}

/// What a reader of the register sees.
fn publish(fold: &Fold) -> Snapshot {
    let snapshot = Snapshot::of(fold, 5, LOG_ID);
    assert_eq!(Snapshot::decode(&snapshot.encode()).as_ref(), Ok(&snapshot));
    snapshot
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_statistic_is_a_recomputation(seeds in history(), cuts in prop::collection::vec((0..12usize, 0..4u8), 1..8)) {
        let all = entries(&seeds);
        let mut fold = Fold::new();
        let mut n = 0;
        for (length, action) in cuts.into_iter().chain([(usize::MAX, 0)]) {
            let end = n + length.min(all.len() - n);
            let batch = &all[n..end];
            match action {
                0 => prop_assert_eq!(fold.fold_bytes(&bytes(batch)), Ok(batch.len())),
                1 => batch.iter().for_each(|e| fold.fold(e).expect("a good entry")),
                2 => {
                    fold.fold_bytes(&bytes(batch)).expect("good entries");
                    fold = restart(fold, &all[..end]);
                }
                _ => {
                    // It dies after the batch, but its checkpoint is from before it.
                    let older = restart(fold.clone(), &all[..n]);
                    fold.fold_bytes(&bytes(batch)).expect("good entries");
                    fold = older;
                    fold.fold_bytes(&bytes(batch)).expect("good entries");
                }
            }
            n = end;
            assert_is_recomputation(&fold, &all[..n]);
            let nothing = Settings::default();
            assert_rows(&fold, &all[..n], &Asked { settings: &nothing, before: &nothing, from: 0, counted: true });
        }
    }

    #[test]
    fn every_printed_digit_is_right(
        values in prop::collection::vec(value(), 0..12),
        digits in 0..=30u8,
        decimals in 0..=9u8,
        bad in any::<prop::sample::Index>(),
    ) {
        let all: Vec<Entry> = (1..).zip(&values).map(|(seq, v)| Entry::sample(seq, 1, seq, 0, *v)).collect();
        let mut fold = Fold::new();
        fold.fold_bytes(&bytes(&all)).expect("good entries");
        let stats = fold.channel(0).copied().unwrap_or_default();
        assert_decimals(&stats, &values, digits, decimals);

        // And a damaged entry ends the fold right before it, whichever it is.
        if !all.is_empty() {
            let (bad, mut damaged) = (bad.index(all.len()), bytes(&all));
            damaged[bad * LEN + bad % LEN] ^= 0x10;
            let mut fold = Fold::new();
            prop_assert!(fold.fold_bytes(&damaged).is_err());
            assert_is_recomputation(&fold, &all[..bad]);
        }
    }
}

/// What may be asked for.
fn settings() -> impl Strategy<Value = Settings> {
    let percentile =
        prop_oneof![Just(0), Just(50_000_000), Just(99_900_000), Just(100_000_000), 0..=100_000_000u32];
    let weight = prop_oneof![Just(1u64 << 32), Just(429_496_730), 1..=1u64 << 32];
    let window = (any::<bool>(), 1..=6u64, 1..=5u64);
    let asked = (
        prop::collection::vec(percentile, 0..4),
        prop::option::of(weight),
        prop::collection::vec(window, 0..4),
        limits(),
    );
    asked.prop_map(|(percentiles, weight, windows, limits)| Settings {
        percentiles: percentiles.into_iter().filter_map(Percentile::new).collect(),
        ewma: weight.and_then(Weight::new),
        windows: windows
            .into_iter()
            .filter_map(|(by_time, steps, step)| {
                let unit = if by_time { Unit::Time } else { Unit::Samples };
                Window::new(unit, steps * step, step)
            })
            .collect(),
        limits,
    })
}

/// Limits that ordinary values and extreme ones pass, of some channels.
fn limits() -> impl Strategy<Value = Vec<(u16, Limits)>> {
    let limit = || prop::option::of((any::<bool>(), value(), 0..4i32));
    let slope = prop::option::of((1..=9u64, 1..=9u64));
    let of_one = (any::<bool>(), limit(), limit(), slope, 1..=3u32);
    prop::collection::vec(of_one, 3).prop_map(|all| {
        let each = [0, 1, 31].into_iter().zip(all);
        let limits =
            each.filter(|(_, (wanted, ..))| *wanted).map(|(channel, (_, high, low, slope, hits))| {
                let limit = |limit: Option<(bool, i32, i32)>| {
                    let (above, begin, back) = limit?;
                    if above {
                        Limit::above(begin, begin.saturating_sub(back))
                    } else {
                        Limit::below(begin, begin.saturating_add(back))
                    }
                };
                let rate = slope.and_then(|(codes, seconds)| Slope::reduced(codes.into(), seconds.into()));
                (channel, Limits { high: limit(high), low: limit(low), rate, hits })
            });
        limits.filter(|(_, limits)| !limits.is_empty()).collect()
    })
}

/// A history in which time passes slowly, with a leap now and then; it may even go back.
fn slow(seeds: &[Seed]) -> Vec<Entry> {
    let mut t_ns = 0u64;
    let with_time = |(kind, channel, value, time): Seed| {
        t_ns = match (kind, time % 40) {
            (0, _) => 0,
            (_, 0) => t_ns / 2,
            (_, 1) => t_ns.saturating_add(time % 1000),
            (_, 2) => u64::MAX - time % 9,
            (_, step) => t_ns.saturating_add(step % 4),
        };
        (kind, channel, value, t_ns)
    };
    entries(&seeds.iter().copied().map(with_time).collect::<Vec<_>>())
}

/// The samples of a channel from entry `from` on in the present epoch, each with the time that had come by then, and
/// that time at `from` and at the end.
struct Epoch<'a> {
    samples: Vec<(u64, &'a Entry)>,
    at_from: Option<u64>,
    now: u64,
}

impl Epoch<'_> {
    fn of(all: &[Entry], from: usize, channel: u16) -> Epoch<'_> {
        let begin = all.iter().rposition(|e| e.kind == 2).unwrap_or(0);
        let mut epoch = Epoch { samples: Vec::new(), at_from: None, now: 0 };
        for (i, e) in all.iter().enumerate().skip(begin) {
            if i == from && from > begin {
                epoch.at_from = Some(epoch.now);
            }
            if e.kind == 1 || e.kind == 3 && [1, 2, 5].contains(&e.flags) {
                epoch.now = epoch.now.max(e.t_ns);
            }
            if e.kind == 1 && e.channel == channel && i >= from {
                epoch.samples.push((epoch.now, e));
            }
        }
        if from == all.len() && from > begin {
            epoch.at_from = Some(epoch.now);
        }
        epoch
    }

    /// The last closed window: where it lies, and its samples.
    fn window(&self, window: &Window) -> Option<(u64, u64, Vec<&Entry>)> {
        let by_time = window.unit() == Unit::Time;
        let position = if by_time { self.now } else { self.samples.len() as u64 };
        let to = position / window.step() * window.step();
        let from = to.checked_sub(window.size())?;
        // The step in which a fold went on is not known as a whole.
        let known = self
            .at_from
            .filter(|_| by_time)
            .map_or(0, |now| (now / window.step()).saturating_add(1).saturating_mul(window.step()));
        let inside = |i: usize, now: u64| (from..to).contains(&if by_time { now } else { i as u64 });
        let samples = self.samples.iter().enumerate().filter(|(i, (now, _))| inside(*i, *now));
        (from >= known).then(|| (from, to, samples.map(|(_, (_, e))| *e).collect()))
    }

    fn ewma(&self, weight: Weight) -> Option<BigInt> {
        let one = BigInt::from(1u64 << 32);
        let values = self.samples.iter().map(|(_, e)| BigInt::from(e.value) * &one);
        values.reduce(|y, x| {
            let product = (x - &y) * weight.units();
            // Towards minus infinity.
            let rest = ((&product % &one) + &one) % &one;
            y + (product - rest) / &one
        })
    }

    fn rate(&self) -> Option<Rate> {
        let [.., (_, a), (_, b)] = self.samples.as_slice() else { return None };
        let time_ns = b.t_ns.checked_sub(a.t_ns).filter(|time| *time > 0)?;
        Some(Rate { change: b.value as i64 - a.value as i64, time_ns })
    }
}

/// The nearest-rank percentile: exact for codes of 16 bits, beyond them cut to eleven significant bits, but never outside
/// of the samples.
fn percentile(samples: &[&Entry], p: Percentile) -> Option<i32> {
    let mut values: Vec<i32> = samples.iter().map(|e| e.value).collect();
    values.sort_unstable();
    let (above, below) = (BigInt::from(p.millionths()) * values.len(), BigInt::from(100_000_000));
    let rank = usize::try_from((above + &below - 1) / below).expect("a small number").max(1);
    let cut = |magnitude: i64| {
        let bits = 64 - magnitude.leading_zeros();
        if bits <= 16 { magnitude } else { magnitude >> (bits - 11) << (bits - 11) }
    };
    let value = i64::from(*values.get(rank - 1)?);
    let near = if value < 0 { -1 - cut(-1 - value) } else { cut(value) } as i32;
    Some(near.max(*values.first()?).min(*values.last()?))
}

/// What the samples say, in the words of docs/formats.md: an alarm begins with the last of `hits` samples in a row beyond its
/// limit, and ends with the last of as many in a row well within it.
fn assert_alarm(row: &Row, all: &[Entry], asked: &Asked) {
    let of = |settings: &Settings| {
        settings.limits.iter().find(|(channel, _)| *channel == row.channel).map(|(_, limits)| *limits)
    };
    let limits = of(asked.settings);
    assert_eq!(row.limits, limits);
    // With the same limits an alarm goes on; only the first change of values behind the seam is not known.
    let begin = if of(asked.before) == limits { 0 } else { asked.from };
    let Some(limits) = limits else { return assert_eq!(row.alarm, Alarm::default()) };
    let (mut on, mut said) = ([false; 3], [(); 3].map(|()| Vec::new()));
    let (mut changes, mut seq, mut before) = (0, 0, None::<&Entry>);
    for (i, e) in all.iter().enumerate() {
        if e.kind == 2 || i == asked.from {
            before = None;
        }
        if e.kind != 1 || e.channel != row.channel {
            continue;
        }
        let change = before
            .filter(|before| e.t_ns > before.t_ns)
            .map(|before| (BigInt::from(e.value) - before.value, BigInt::from(e.t_ns - before.t_ns)));
        before = Some(e);
        if i < begin {
            continue;
        }
        // Beyond, well within, or neither.
        let of_value = |limit: Option<Limit>| match limit? {
            Limit::Above { begin, .. } if e.value > begin => Some(1),
            Limit::Above { end, .. } if e.value <= end => Some(-1),
            Limit::Below { begin, .. } if e.value < begin => Some(1),
            Limit::Below { end, .. } if e.value >= end => Some(-1),
            _ => Some(0),
        };
        let of_rate = limits.rate.zip(change).map(|(slope, (change, ns))| {
            let (codes, seconds) = slope.parts();
            let steeper = change.magnitude() * 1_000_000_000u64 * seconds > ns.magnitude() * codes;
            if steeper { 1 } else { -1 }
        });
        let was = on;
        for (i, verdict) in [of_value(limits.high), of_value(limits.low), of_rate].into_iter().enumerate() {
            said[i].extend(verdict);
            let wanted = if on[i] { -1 } else { 1 };
            let last: Vec<i32> = said[i].iter().rev().take(limits.hits as usize).copied().collect();
            if last.len() == limits.hits as usize && last.iter().all(|verdict| *verdict == wanted) {
                on[i] = !on[i];
                said[i].clear();
            }
        }
        if on != was {
            (changes, seq) = (changes + 1, e.seq);
        }
    }
    let bits = (0..3).map(|i| u8::from(on[i]) << i).sum::<u8>();
    assert_eq!((row.alarm.on.bits(), row.alarm.changes, row.alarm.seq), (bits, changes, seq), "{limits:?}");
}

/// What a fold was asked for: it has gone on with `settings` behind entry number `from`, where it was asked for `before`;
/// percentiles of channels with samples before that are known if `counted`.
struct Asked<'a> {
    settings: &'a Settings,
    before: &'a Settings,
    from: usize,
    counted: bool,
}

/// Every row of what a reader of the register sees, from its definition.
fn assert_rows(fold: &Fold, all: &[Entry], asked: &Asked) {
    let &Asked { settings, from, counted, .. } = asked;
    let snapshot = publish(fold);
    let mut rows = snapshot.rows.iter();
    for channel in 0..32 {
        let samples: Vec<&Entry> = all.iter().filter(|e| e.kind == 1 && e.channel == channel).collect();
        if samples.is_empty() {
            continue;
        }
        let epoch = Epoch::of(all, from, channel);
        let row = rows.next().expect("a row for each channel");
        assert_eq!((row.channel, row.window), (channel, None));
        assert_are_statistics(&row.stats, &samples);
        assert_eq!(row.rate, epoch.rate());
        assert_eq!(row.weight, settings.ewma);
        assert_eq!(row.ewma.map(BigInt::from), settings.ewma.and_then(|weight| epoch.ewma(weight)));
        let is_new = !all[..from].iter().any(|e| e.kind == 1 && e.channel == channel);
        assert_percentiles(row, settings, (counted || is_new).then_some(&samples));
        assert_alarm(row, all, asked);
        for (window, number) in settings.windows.iter().zip(1..) {
            let row = rows.next().expect("a row for each window");
            let of = row.window.expect("a window");
            assert_eq!((row.channel, of.number, of.window), (channel, number, *window));
            let wanted = epoch.window(window);
            assert_eq!(of.span, wanted.as_ref().map(|(from, to, _)| (*from, *to)), "{window} {channel}");
            let samples = wanted.map(|(_, _, samples)| samples).unwrap_or_default();
            if samples.is_empty() {
                assert_eq!(row.stats, Stats::default());
            } else {
                assert_are_statistics(&row.stats, &samples);
            }
            assert_percentiles(row, settings, Some(&samples));
        }
    }
    assert_eq!(rows.next(), None);
}

fn assert_percentiles(row: &Row, settings: &Settings, samples: Option<&Vec<&Entry>>) {
    let wanted =
        settings.percentiles.iter().map(|p| (*p, samples.and_then(|samples| percentile(samples, *p))));
    assert_eq!(row.percentiles, wanted.collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(config())]

    /// Percentiles, windows, fading average and rate, with restarts from checkpoints and a change of settings on the way.
    #[test]
    fn everything_asked_for_is_a_recomputation(
        seeds in history(),
        first in settings(),
        mut second in settings(),
        same_limits in any::<bool>(),
        cuts in prop::collection::vec((0..12usize, 0..6u8), 1..6),
    ) {
        let all = slow(&seeds);
        if same_limits {
            second.limits.clone_from(&first.limits);
        }
        let mut fold = Fold::with(&first);
        let (mut n, mut from, mut asked, mut counted) = (0, 0, &first, true);
        for (length, action) in cuts.into_iter().chain([(usize::MAX, 0)]) {
            let end = n + length.min(all.len() - n);
            if action == 5 && *asked != second {
                counted = n == 0 || counted && !asked.percentiles.is_empty();
                (asked, from) = (&second, n);
                fold = fold.go_on_with(&second);
            }
            prop_assert_eq!(fold.fold_bytes(&bytes(&all[n..end])), Ok(end - n));
            if action > 2 {
                fold = restart(fold, &all[..end]);
            }
            n = end;
            prop_assert_eq!(fold.settings(), asked);
            assert_rows(&fold, &all[..n], &Asked { settings: asked, before: &first, from, counted });
        }
        // Other settings in between leave no trace in the totals.
        assert_is_recomputation(&fold, &all);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: config().cases / 4, ..config() })]

    #[test]
    fn every_window_that_closes_is_told_once(seeds in history(), settings in settings()) {
        let all = slow(&seeds);
        let mut closings = Closings::after(Fold::with(&settings));
        let is_next_epoch = |_: &Entry, next: &Entry| next.kind != 2;
        for epoch in all.chunk_by(is_next_epoch) {
            let mut told = Vec::new();
            for e in epoch {
                closings.take(e, e.kind().expect("known"), &mut |closed: Closed| told.push(closed));
            }
            let mut told: Vec<_> = told.into_iter().map(|c| (c.channel, c.window, c.span)).collect();
            prop_assert!(told.iter().all(|(_, window, span)| *window < 3 && span.stats.count > 0));
            told.sort_by_key(|(channel, window, span)| (*channel, *window, span.to));
            assert_eq!(told, closed(epoch, &settings));
        }
    }
}

/// All windows of an epoch that are closed at its end and have samples, by channel, window and end.
fn closed(all: &[Entry], settings: &Settings) -> Vec<(u16, usize, Span)> {
    let mut found = Vec::new();
    for (channel, (i, window)) in
        (0..32).flat_map(|c| settings.windows.iter().enumerate().map(move |w| (c, w)))
    {
        let epoch = Epoch::of(all, 0, channel);
        let by_time = window.unit() == Unit::Time;
        let positions: Vec<u64> =
            epoch.samples.iter().zip(0..).map(|((now, _), i)| if by_time { *now } else { i }).collect();
        let end = if by_time { epoch.now } else { positions.len() as u64 };
        let panes = positions.iter().map(|position| position / window.step());
        let ends = panes.flat_map(|pane| (1..=window.steps()).filter_map(move |step| pane.checked_add(step)));
        let ends: std::collections::BTreeSet<u64> = ends.filter(|to| *to <= end / window.step()).collect();
        for to in ends.into_iter().map(|pane| pane * window.step()) {
            let Some(from) = to.checked_sub(window.size()) else { continue };
            let inside = |position: &u64| (from..to).contains(position);
            let samples: Vec<&Entry> = positions
                .iter()
                .zip(&epoch.samples)
                .filter(|(p, _)| inside(p))
                .map(|(_, (_, e))| *e)
                .collect();
            found.push((channel, i, span(from, to, &samples, settings)));
        }
    }
    found
}

fn span(from: u64, to: u64, samples: &[&Entry], settings: &Settings) -> Span {
    let mut fold = Fold::new();
    let again = samples.iter().zip(1..).map(|(e, seq)| Entry { seq, channel: 0, ..**e }.seal());
    again.for_each(|e| fold.fold(&e).expect("a good entry"));
    let codes = settings.percentiles.iter().filter_map(|p| percentile(samples, *p)).collect();
    Span { from, to, stats: fold.channel(0).copied().unwrap_or_default(), codes }
}

/// Mean, variance and deviation of `values`, each from its definition.
fn assert_decimals(stats: &Stats, values: &[i32], digits: u8, decimals: u8) {
    let count = BigInt::from(values.len());
    let sum: BigInt = values.iter().map(|v| BigInt::from(*v)).sum();
    let (unit, conversion) = (ten_to(decimals), Conversion::plain(decimals));
    let mean = printed(conversion.mean(stats), digits);
    assert_eq!(mean.is_some(), !values.is_empty());
    if let Some(mean) = mean {
        assert_is_rounded(&mean, &(&sum * ten_to(digits)), &(&count * &unit));
    }
    let variance = printed(conversion.variance(stats), digits);
    let deviation = printed(conversion.deviation(stats), digits);
    assert_eq!((variance.is_some(), deviation.is_some()), (values.len() > 1, values.len() > 1));
    if let (Some(variance), Some(deviation)) = (variance, deviation) {
        // Sum of (count * value - sum)^2, which is count^2 times the sum of the squared distances from the mean.
        let spread: BigInt = values.iter().map(|v| (&count * *v - &sum).pow(2)).sum();
        let below = &count * &count * (&count - 1) * &unit * &unit;
        assert_is_rounded(&variance, &(&spread * ten_to(digits)), &below);
        assert_is_rounded_root(&deviation, &(&spread * ten_to(digits).pow(2)), &below);
    }
}

/// The digits without the point, as an integer; the form of the text is checked.
fn printed(value: Option<Exact>, digits: u8) -> Option<BigInt> {
    let text = exact::text(value, digits);
    if text == "-" {
        return None;
    }
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    assert_eq!(fraction.len(), digits as usize, "{text}");
    assert_eq!(text.contains('.'), digits > 0, "{text}");
    let whole = text.trim_start_matches('-').split('.').next().unwrap_or("");
    assert!(!whole.is_empty() && (whole == "0" || !whole.starts_with('0')), "{text}");
    let number: BigInt = text.replace('.', "").parse().expect("only digits");
    assert_eq!(text.starts_with('-'), number < BigInt::ZERO, "{text}");
    Some(number)
}

/// `rounded` is the integer nearest to above / below; of two, the one away from zero.
fn assert_is_rounded(rounded: &BigInt, above: &BigInt, below: &BigInt) {
    let twice_error: BigInt = 2 * (rounded * below - above);
    let (size, limit) = (twice_error.magnitude(), below.magnitude());
    let is_outward = (rounded * below).magnitude() > above.magnitude();
    assert!(size < limit || size == limit && is_outward, "{rounded} is not {above}/{below}");
}

/// `rounded` is the integer nearest to the square root of above / below; of two, the larger one.
fn assert_is_rounded_root(rounded: &BigInt, above: &BigInt, below: &BigInt) {
    let (low, high): (BigInt, BigInt) = (2 * rounded - 1, 2 * rounded + 1);
    let four = 4 * above;
    assert!(*rounded >= BigInt::ZERO && four < &high * &high * below, "{rounded} is too small");
    assert!(*rounded == BigInt::ZERO || four >= &low * &low * below, "{rounded} is too large");
}

fn ten_to(digits: u8) -> BigInt {
    BigInt::from(10).pow(digits as u32)
}

#[test]
fn a_long_run_of_extremes_does_not_overflow() {
    let mut fold = Fold::new();
    let mut seq = 0;
    for _ in 0..300 {
        let batch: Vec<Entry> = (0..4096).map(|i| Entry::sample(seq + i + 1, 1, i, 0, i32::MIN)).collect();
        fold.fold_bytes(&bytes(&batch)).expect("good entries");
        seq += 4096;
    }
    let stats = fold.channel(0).copied().unwrap_or_default();
    assert_eq!((stats.count, stats.sum), (seq, i32::MIN as i128 * seq as i128));
    assert_eq!(stats.sum_squares, (1 << 62) * seq as u128);
    assert_eq!(exact::text(Conversion::plain(0).deviation(&stats), 30), format!("0.{}", "0".repeat(30)));
}
