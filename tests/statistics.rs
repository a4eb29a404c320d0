//! T14: the statistics are exact. Random histories, cut and restarted anywhere, against a second implementation that
//! keeps every sample and counts with big integers; printed decimals against the inequalities that define rounding.
//!
//! 100,000 cases; `PROPTEST_CASES=n` runs n of each property instead.

use ipc_pipeline::checkpoint::Checkpoint;
use ipc_pipeline::entry::{Entry, LEN, Reason};
use ipc_pipeline::exact::{self, Conversion, Exact};
use ipc_pipeline::fold::{Fold, Losses, Stats};
use ipc_pipeline::snapshot::Snapshot;
use num_bigint::BigInt;
use proptest::prelude::*;

const LOG_ID: u64 = 0x1234_5678_9abc_def0;
const CASES: u32 = 50_000;

fn config() -> ProptestConfig {
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    let cases = if asked { ProptestConfig::default().cases } else { CASES };
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
    let Some(last) = entries.last() else { return Fold::new() };
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
            prop_assert_eq!(publish(&fold).n, fold.n);
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
