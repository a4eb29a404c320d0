//! The sum of 1/(2k+1)^2 over k = 0, 1, 2 ..., which is pi^2 / 8.
#![forbid(unsafe_code)]

use std::ops::Range;

/// Terms from which on the end of the sum is known well enough by a formula.
const MANY: u64 = 1000;

/// The sum over these terms, the smallest first: so nothing of them is lost beside the large ones.
pub fn sum(terms: Range<u64>) -> f64 {
    let one = |k: u64| {
        let odd = (2 * k + 1) as f64;
        1.0 / (odd * odd)
    };
    terms.rev().map(one).sum()
}

/// The terms of worker `index` of `workers`.
pub fn share(index: u32, workers: u32, terms: u64) -> Range<u64> {
    let bound = |i: u32| (u128::from(terms) * u128::from(i) / u128::from(workers)) as u64;
    bound(index)..bound(index + 1)
}

/// Pi, of this sum.
pub fn pi(sum: f64) -> f64 {
    (8.0 * sum).sqrt()
}

/// What pi must come to with so many terms, found in another way: the first terms, and the rest by the formula of Euler and
/// Maclaurin. Right to the last digit that is printed.
pub fn directly(terms: u64) -> f64 {
    let first = terms.min(MANY);
    let beyond = |n: u64| {
        let n = n as f64;
        1.0 / (4.0 * n) - 1.0 / (48.0 * n * n * n)
    };
    pi(sum(0..first) + (beyond(first) - beyond(terms)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_terms_give_the_known_digits() {
        assert_eq!(format!("{:.11}", pi(sum(0..10_000_000))), "3.14159262176");
        assert_eq!(format!("{:.11}", directly(10_000_000)), "3.14159262176");
    }

    #[test]
    fn both_ways_agree() {
        for terms in [1, 2, 999, 1000, 1001, 5000, 123_456] {
            assert!((directly(terms) - pi(sum(0..terms))).abs() < 1e-13, "{terms}");
        }
    }

    #[test]
    fn shares_are_all_terms_once() {
        for (workers, terms) in [(1, 1), (10, 10_000_000), (7, 3), (1000, 1 << 52), (1000, 999)] {
            let mut next = 0;
            for index in 0..workers {
                let share = share(index, workers, terms);
                assert_eq!(share.start, next);
                next = share.end;
            }
            assert_eq!(next, terms);
        }
    }
}
