//! Steps of the wall clock against the monotonic one: set by hand, by NTP, or by a suspend, in which only the wall clock
//! goes on. A record tells wall time by its EPOCH and the steps after it (docs/formats.md, CLOCK).
#![forbid(unsafe_code)]

use ipc_pipeline::sys;

/// Smaller deviations are left to grow: NTP slews at up to 0.5 ms a second, and one entry for each 10 ms is enough.
const STEP_MIN_NS: i128 = 10_000_000;
/// Between two readings of the monotonic clock no more than this may pass, or the wall clock between them says nothing.
const READING_NS: u64 = 1_000_000;

/// The clocks at one instant, ns.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// CLOCK_MONOTONIC.
    pub monotonic: u64,
    /// CLOCK_REALTIME since 1970.
    pub wall: u64,
}

impl Clocks {
    /// The clocks now; `None` if we were interrupted while reading them.
    pub fn read() -> Option<Clocks> {
        let monotonic = sys::monotonic_ns();
        let wall = sys::wall_ns();
        (sys::monotonic_ns() - monotonic < READING_NS).then_some(Clocks { monotonic, wall })
    }

    /// What the wall clock has stepped by between `start` and now, beyond the `known_ms` that the record has already, in
    /// ms; `None` while that is less than 10 ms.
    pub fn step_since(&self, start: Clocks, known_ms: i64) -> Option<i64> {
        let ahead = |c: &Clocks| c.wall as i128 - c.monotonic as i128;
        let new_ns = ahead(self) - ahead(&start) - known_ms as i128 * 1_000_000;
        let ms = new_ns.abs().saturating_add(500_000) / 1_000_000 * new_ns.signum();
        (new_ns.abs() >= STEP_MIN_NS).then(|| i64::try_from(ms).ok()).flatten()
    }
}

/// Time that the machine was suspended so far, ns.
pub fn suspended_ns() -> u64 {
    sys::boot_ns().saturating_sub(sys::monotonic_ns())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_told_once_and_slews_in_tens_of_ms() {
        let start = Clocks { monotonic: 5_000_000_000, wall: 1_700_000_000_000_000_000 };
        let after = |s: u64, by_ns: i64| Clocks {
            monotonic: start.monotonic + s * 1_000_000_000,
            wall: (start.wall + s * 1_000_000_000).wrapping_add_signed(by_ns),
        };
        assert_eq!(after(9, 0).step_since(start, 0), None);
        assert_eq!(after(9, 9_999_999).step_since(start, 0), None);
        assert_eq!(after(9, 10_400_000).step_since(start, 0), Some(10));
        assert_eq!(after(9, -10_500_000).step_since(start, 0), Some(-11));
        assert_eq!(after(9, 3_600_000_000_000).step_since(start, 0), Some(3_600_000));
        assert_eq!(after(9, 3_600_000_000_000).step_since(start, 3_600_000), None);
        assert_eq!(after(9, 0).step_since(start, 3_600_000), Some(-3_600_000));
    }

    #[test]
    fn the_clocks_of_this_machine_can_be_read() {
        let read = (0..100).find_map(|_| Clocks::read()).unwrap();
        assert!(read.wall > 1_600_000_000_000_000_000 && read.monotonic > 0);
        assert!(suspended_ns() < 1 << 62);
    }
}
