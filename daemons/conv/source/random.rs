//! Uniform random integers.
#![forbid(unsafe_code)]

use super::{Source, SourceError, Supply};

/// Value `i` is a function of seed and `i` alone, so that after a kill the sequence goes on where it stood.
pub struct Random {
    min: i32,
    max: i32,
    seed: u64,
    /// Position of the next sample: rows of `columns`.
    index: u64,
    columns: u64,
}

impl Random {
    /// Values `min..=max`; without a seed another sequence in each life.
    pub fn new(min: i32, max: i32, seed: Option<u64>, columns: usize) -> Random {
        let seed = seed.unwrap_or_else(|| fastrand::u64(..));
        Random { min, max, seed, index: 0, columns: columns.max(1) as u64 }
    }
}

impl Source for Random {
    fn seek(&mut self, row: u64) -> Result<(), SourceError> {
        self.index = row.wrapping_mul(self.columns);
        Ok(())
    }

    #[inline]
    fn fill(&mut self, out: &mut [i32]) -> Result<Supply, SourceError> {
        for value in out.iter_mut() {
            // A generator of its own for each position: fastrand mixes the seed well, and rejects to stay uniform.
            let seed = self.seed.wrapping_add(self.index.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            *value = fastrand::Rng::with_seed(seed).i32(self.min..=self.max);
            self.index += 1;
        }
        Ok(Supply::Rows(out.len() / self.columns as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(source: &mut Random, n: usize) -> Vec<i32> {
        let mut out = vec![0; n];
        assert_eq!(source.fill(&mut out).unwrap(), Supply::Rows(n));
        out
    }

    #[test]
    fn goes_on_anywhere_with_the_same_values() {
        let all = take(&mut Random::new(0, 100, Some(7), 1), 1000);
        let mut source = Random::new(0, 100, Some(7), 1);
        source.seek(321).unwrap();
        assert_eq!(take(&mut source, 100), all[321..421]);
        assert_ne!(take(&mut Random::new(0, 100, Some(8), 1), 1000), all);
    }

    #[test]
    fn is_uniform_over_the_whole_range() {
        let mut seen = [0u32; 101];
        for v in take(&mut Random::new(0, 100, Some(1), 1), 101_000) {
            seen[v as usize] += 1;
        }
        // chi squared with 100 degrees of freedom: 170 is beyond one in 100,000
        let chi: f64 = seen.iter().map(|&n| (n as f64 - 1000.0).powi(2) / 1000.0).sum();
        assert!(chi < 170.0, "{chi} {seen:?}");
        let extremes = take(&mut Random::new(i32::MIN, i32::MAX, Some(1), 1), 1000);
        assert!(extremes.iter().any(|v| *v < i32::MIN / 2) && extremes.iter().any(|v| *v > i32::MAX / 2));
        assert_eq!(take(&mut Random::new(5, 5, None, 1), 3), [5, 5, 5]);
    }

    #[test]
    fn rows_begin_where_they_begin() {
        let (mut wide, mut narrow) = (Random::new(0, 1000, Some(3), 4), Random::new(0, 1000, Some(3), 1));
        let mut out = [0; 12];
        assert_eq!(wide.fill(&mut out).unwrap(), Supply::Rows(3));
        assert_eq!(out.to_vec(), take(&mut narrow, 12));
        wide.seek(2).unwrap();
        assert_eq!(wide.fill(&mut out[..4]).unwrap(), Supply::Rows(1));
        assert_eq!(out[..4], out[8..]);
    }
}
