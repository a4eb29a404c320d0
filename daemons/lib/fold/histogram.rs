//! How often each code came: the source of every percentile.
//!
//! Codes from -65536 to 65535 have a counter each. Beyond that each octave is cut into 1024 buckets, so that a bucket is
//! never wider than 1/1024 of what it holds. Counters stand in pages of 256 that are made when they are first hit: at
//! most 632 pages, 1.3 MiB. Only integers, and adding is all that happens, so histograms can be merged in any order.
#![forbid(unsafe_code)]

/// Counters in a page.
const PAGE: usize = 256;
/// Magnitudes that have a counter each: 16 bits.
const EXACT: u32 = 1 << 16;
/// Buckets in an octave, as power of two.
const SUB_BITS: u32 = 10;
/// Buckets of either sign: 2^16 and those of 15 octaves.
const HALF: u32 = EXACT + (15 << SUB_BITS);
const PAGES: usize = 2 * HALF as usize / PAGE;

/// Counters by code. Two are equal if they count the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    /// Empty until the first code comes, then [`PAGES`].
    pages: Vec<Option<Box<[u64; PAGE]>>>,
}

/// The bucket of a code; buckets rise with the codes. A negative code lies as far from the middle as `-1 - code`.
#[inline(always)]
pub(crate) fn bucket(code: i32) -> u32 {
    let magnitude = (code ^ (code >> 31)) as u32;
    let place = if magnitude < EXACT { magnitude } else { coarse(magnitude) };
    if code < 0 { HALF - 1 - place } else { HALF + place }
}

fn coarse(magnitude: u32) -> u32 {
    let octave = magnitude.ilog2();
    let part = (magnitude >> (octave - SUB_BITS)) & ((1 << SUB_BITS) - 1);
    EXACT + ((octave - 16) << SUB_BITS) + part
}

/// The code nearest to zero in a bucket.
fn code(bucket: u32) -> i32 {
    let place = if bucket < HALF { HALF - 1 - bucket } else { bucket - HALF };
    let magnitude = match place.checked_sub(EXACT) {
        None => place,
        Some(beyond) => ((1 << SUB_BITS) + (beyond & 1023)) << (6 + (beyond >> SUB_BITS)),
    };
    if bucket < HALF { -1 - magnitude as i32 } else { magnitude as i32 }
}

impl Histogram {
    /// Counts one code, by its bucket.
    #[inline(always)]
    pub fn count(&mut self, bucket: u32) {
        *self.counter(bucket) += 1;
    }

    #[inline(always)]
    fn counter(&mut self, bucket: u32) -> &mut u64 {
        let (page, at) = (bucket as usize / PAGE, bucket as usize % PAGE);
        if self.pages.is_empty() {
            self.pages.resize_with(PAGES, || None);
        }
        &mut self.pages[page % PAGES].get_or_insert_with(|| Box::new([0; PAGE]))[at]
    }

    /// The buckets that were hit, in rising order, and how often.
    fn iter(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        let pages = (0..).step_by(PAGE).zip(&self.pages);
        let pages = pages.filter_map(|(first, page)| Some((first, page.as_deref()?)));
        pages.flat_map(|(first, page)| (first..).zip(page.iter().copied())).filter(|(_, count)| *count > 0)
    }

    /// For each rank, 1 to the number of codes, the code that stands there in rising order: of a bucket that holds
    /// several the one nearest to zero. 0 where there are not so many.
    pub fn codes_at(&self, ranks: &[u64]) -> Vec<i32> {
        let mut codes = vec![0; ranks.len()];
        let mut before = 0;
        for (bucket, count) in self.iter() {
            let here = before + 1..=before + count;
            before += count;
            for (found, _) in codes.iter_mut().zip(ranks).filter(|(_, rank)| here.contains(rank)) {
                *found = code(bucket);
            }
        }
        codes
    }

    /// All of it in few bytes: for each bucket that was hit its distance from the one after the last, and its count.
    pub fn to_runs(&self) -> Vec<u8> {
        let mut runs = Vec::new();
        let mut next = 0;
        for (bucket, count) in self.iter() {
            push(&mut runs, (bucket - next).into());
            push(&mut runs, count);
            next = bucket + 1;
        }
        runs
    }

    /// The histogram of these runs if it counts `total` codes; `None` if they are no runs, or of another number.
    pub fn from_runs(runs: &[u8], total: u64) -> Option<Histogram> {
        let (mut rest, mut counted, mut next) = (runs, 0u64, 0u64);
        while !rest.is_empty() {
            let bucket = next.checked_add(pull(&mut rest)?).filter(|b| *b < 2 * HALF as u64)?;
            counted = counted.checked_add(pull(&mut rest)?)?;
            next = bucket + 1;
        }
        let mut histogram = Histogram::default();
        histogram.add(runs);
        (counted == total && histogram.to_runs() == runs).then_some(histogram)
    }

    /// Adds what [`Histogram::to_runs`] made of another one.
    pub fn add(&mut self, runs: &[u8]) {
        self.each(runs, |counter, count| *counter += count);
    }

    /// Takes away what was added.
    pub fn remove(&mut self, runs: &[u8]) {
        self.each(runs, |counter, count| *counter -= count);
    }

    fn each(&mut self, mut runs: &[u8], act: impl Fn(&mut u64, u64)) {
        let mut next = 0;
        while let (Some(gap), Some(count)) = (pull(&mut runs), pull(&mut runs)) {
            act(self.counter(next + gap as u32), count);
            next += gap as u32 + 1;
        }
    }
}

impl PartialEq for Histogram {
    fn eq(&self, other: &Histogram) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Histogram {}

/// Seven bits a byte, the lowest first; all bytes but the last have their highest bit set (LEB128).
fn push(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 128 {
        bytes.push(number as u8 | 128);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn pull(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 127) << shift;
        if *byte < 128 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(codes: &[i32]) -> Histogram {
        let mut histogram = Histogram::default();
        codes.iter().for_each(|c| histogram.count(bucket(*c)));
        histogram
    }

    #[test]
    fn codes_of_sixteen_bits_are_exact() {
        for c in -65_536..65_536 {
            assert_eq!(code(bucket(c)), c);
        }
        assert_eq!((bucket(i32::MIN), bucket(i32::MAX)), (0, 2 * HALF - 1));
        assert_eq!(PAGES, 632);
    }

    #[test]
    fn beyond_them_a_bucket_is_narrow() {
        for (below, above) in (0..2 * HALF).zip(1..2 * HALF) {
            assert!(code(below) < code(above), "{below}");
            assert_eq!(bucket(code(below)), below);
            // Of a bucket the code nearest to zero is known; the one beside it belongs to the neighbour.
            let (beside, neighbour) =
                if above < HALF { (code(below) + 1, above) } else { (code(above) - 1, below) };
            assert_eq!(bucket(beside), neighbour);
        }
        for c in [65_536, 65_599, 65_600, 1 << 20, (1 << 20) + 1023, (1 << 20) + 1024, i32::MAX] {
            let error = c as i64 - code(bucket(c)) as i64;
            assert!(error >= 0 && error * 1024 < c as i64, "{c}");
            assert_eq!(code(bucket(-1 - c)), -1 - code(bucket(c)));
        }
        assert_eq!((code(bucket(65_599)), code(bucket(65_600))), (65_536, 65_600));
    }

    #[test]
    fn ranks_find_their_codes() {
        let histogram = of(&[5, -7, 5, 900, 70_001]);
        assert_eq!(histogram.codes_at(&[1, 2, 3, 4, 5]), [-7, 5, 5, 900, 69_952]);
        assert_eq!(histogram.codes_at(&[5, 1, 6]), [69_952, -7, 0]);
        assert_eq!(Histogram::default().codes_at(&[1]), [0]);
    }

    #[test]
    fn runs_come_back() {
        let histogram = of(&[i32::MIN, -1, 0, 0, 1, i32::MAX, 1 << 20, 300]);
        let runs = histogram.to_runs();
        assert_eq!(Histogram::from_runs(&runs, 8), Some(histogram.clone()));
        assert_eq!(Histogram::from_runs(&[], 0), Some(Histogram::default()));
        assert_eq!(Histogram::from_runs(&runs, 7), None);
        for cut in 1..runs.len() {
            assert_eq!(Histogram::from_runs(&runs[..cut], 8), None, "{cut}");
        }
        // Not the shortest form, no count, a bucket beyond the last, more than 64 bits.
        for bad in [&[0x80, 0, 1][..], &[3, 0], &[255, 255, 255, 1, 1], &[255; 11]] {
            assert_eq!(Histogram::from_runs(bad, 1), None);
        }
        let mut sum = of(&[4]);
        sum.add(&runs);
        sum.remove(&runs);
        assert_eq!(sum, of(&[4]));
        assert_ne!(sum, of(&[5]));
    }
}
