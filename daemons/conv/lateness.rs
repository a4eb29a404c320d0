//! How late ticks were taken, as percentiles: what users ask first about a rate.
#![forbid(unsafe_code)]

use hdrhistogram::{CreationError, Histogram};

/// Largest lateness that is told apart, an hour: `conv.max_late` allows no more.
const MAX_NS: u64 = 3_600_000_000_000;

/// Lateness of all ticks that this life of conv has taken, ns.
pub struct Lateness(Histogram<u64>);

impl Lateness {
    /// Nothing taken yet. Two significant digits, some 50 KiB.
    ///
    /// # Errors
    /// None that these bounds can cause.
    pub fn new() -> Result<Lateness, CreationError> {
        Histogram::new_with_bounds(1, MAX_NS, 2).map(Lateness)
    }

    /// One tick more; what is above an hour counts as an hour.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    /// p50, p99 and the maximum, ns; 0 while nothing was taken.
    pub fn summary(&self) -> [u64; 3] {
        if self.0.is_empty() {
            return [0; 3];
        }
        [self.0.value_at_quantile(0.5), self.0.value_at_quantile(0.99), self.0.max()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_what_was_recorded() {
        let mut lateness = Lateness::new().unwrap();
        assert_eq!(lateness.summary(), [0; 3]);
        (1..=1000).for_each(|us| lateness.record(us * 1000));
        let near = |value: u64, wanted: u64| value.abs_diff(wanted) <= wanted / 100;
        let [p50, p99, max] = lateness.summary();
        assert!(near(p50, 500_000) && near(p99, 990_000) && near(max, 1_000_000), "{p50} {p99} {max}");
        lateness.record(u64::MAX);
        assert!(near(lateness.summary()[2], MAX_NS));
    }
}
