//! What the fold of ipc-stat takes for an entry, by what is asked of it. CRC made and checked, as in the daemon.

use std::time::Instant;

use ipc_pipeline::entry::{Entry, LEN};
use ipc_pipeline::fold::Fold;
use ipc_pipeline::settings::{Percentile, Settings, Unit, Weight, Window};

use crate::median;

const ENTRIES: u64 = 1 << 20;
/// Entries that the daemon folds at a time.
const BATCH: usize = 8192;
const ROUNDS: usize = 9;

/// All figures of the statistics.
pub fn run() {
    println!("statistics: folding {ENTRIES} samples at 1 MHz from memory, ns for each; median of {ROUNDS}");
    for (text, bits) in [("12-bit codes", 12), ("16-bit codes", 16), ("32-bit codes", 32)] {
        let bytes = samples(bits);
        let base = measure(&bytes, &Settings::default());
        println!("  {text}: totals alone {base:.1}");
        for (text, settings) in cases() {
            let all = measure(&bytes, &settings);
            println!("    {text:<36} {all:>5.1} (+{:.1})", all - base);
        }
    }
}

/// Noise of so many bits.
fn samples(bits: u32) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(3);
    let entries = (0..ENTRIES).map(|i| {
        let value = (random.u64(..) >> (64 - bits)) as u32 as i32;
        Entry::sample(i + 1, 1, i * 1000, 0, value).to_bytes()
    });
    entries.flatten().collect()
}

fn cases() -> Vec<(&'static str, Settings)> {
    let percentiles: Vec<Percentile> =
        [50, 99].iter().filter_map(|p| Percentile::new(p * 1_000_000)).collect();
    let windows: Vec<Window> = [
        Window::new(Unit::Time, 1_000_000_000, 100_000_000),
        Window::new(Unit::Time, 60_000_000_000, 60_000_000_000),
        Window::new(Unit::Samples, 10_000, 1000),
    ]
    .into_iter()
    .flatten()
    .collect();
    let ewma = Weight::new(1 << 28);
    let none = Settings::default();
    vec![
        ("percentiles", Settings { percentiles: percentiles.clone(), ..none.clone() }),
        ("fading average", Settings { ewma, ..none.clone() }),
        ("three windows", Settings { windows: windows.clone(), ..none }),
        ("all, percentiles of windows too", Settings { percentiles, ewma, windows, limits: Vec::new() }),
    ]
}

fn measure(bytes: &[u8], settings: &Settings) -> f64 {
    let round = |_| {
        let mut fold = Fold::with(settings);
        let begun = Instant::now();
        let folded = bytes.chunks(BATCH * LEN).try_for_each(|batch| fold.fold_bytes(batch).map(|_| ()));
        let ns = begun.elapsed().as_nanos() as f64 / ENTRIES as f64;
        assert_eq!((folded, fold.n), (Ok(()), ENTRIES));
        ns
    };
    median((0..ROUNDS).map(round).collect())
}
