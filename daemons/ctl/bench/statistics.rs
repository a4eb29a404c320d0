//! Of several samples: the median, the range, and the ratio to the best. Pure.
#![forbid(unsafe_code)]

/// What of a distribution of latencies is kept: so many percent have at most so much. The farther out, the closer together.
pub const PERCENTS: [f64; 19] = [
    1.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0, 98.0, 99.0, 99.5, 99.8, 99.9,
    99.95, 99.99,
];

/// What several samples say together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle one, of an even number the mean of the two.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of these samples; `None`: there are none.
    pub fn of(samples: &[f64]) -> Option<Spread> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let upper = sorted.get(sorted.len() / 2)?;
        let lower = sorted.get((sorted.len() - 1) / 2)?;
        Some(Spread { median: (lower + upper) / 2.0, min, max })
    }
}

/// What each is of the best, 0 to 1: the most if `more_is_better`, else the least.
pub fn ratios(values: &[f64], more_is_better: bool) -> Vec<f64> {
    let positive = || values.iter().copied().filter(|v| *v > 0.0);
    if more_is_better {
        let best = positive().fold(0.0, f64::max);
        values.iter().map(|v| if best > 0.0 { v / best } else { 0.0 }).collect()
    } else {
        let best = positive().fold(f64::INFINITY, f64::min);
        values.iter().map(|v| if *v > 0.0 { best / v } else { 0.0 }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of(&[4.0, 1.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
    }

    #[test]
    fn the_best_has_the_ratio_1() {
        assert_eq!(ratios(&[2.0, 4.0, 1.0], true), [0.5, 1.0, 0.25]);
        assert_eq!(ratios(&[2.0, 4.0, 1.0], false), [0.5, 0.25, 1.0]);
        assert_eq!(ratios(&[0.0], false), [0.0]);
    }
}
