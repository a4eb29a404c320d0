//! How often each code came: the source of every percentile.
//!
//! Codes from -65536 to 65535 have a counter each. Beyond that each octave is cut into 1024 buckets, so that a bucket is
//! never wider than 1/1024 of what it holds. While few buckets were hit they stand in a list; then counters stand in pages
//! of 256 that are made when they are first hit: at most 632 pages, 1.3 MiB. Only integers, and adding is all that
//! happens, so histograms can be merged in any order.
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
/// The longest list.
const LIST_MAX: usize = 1024;
/// Buckets are counted in place if their range is at most so many times their number.
const DENSE: usize = 4;
/// Shorter ones are sorted by comparing, longer ones by two digits of nine bits.
const RADIX_MIN: usize = 256;
const RADIX_BITS: u32 = 9;

/// A bucket and how often it was hit.
pub(crate) type Count = (u32, u64);

/// Counters by code. Two are equal if they count the same.
#[derive(Clone, Debug)]
pub(crate) enum Histogram {
    /// In rising order, each bucket once, no count 0.
    Few(Vec<Count>),
    /// [`PAGES`] pages.
    Many(Vec<Option<Box<[u64; PAGE]>>>),
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
    /// Adds counts that are in rising order.
    pub fn add(&mut self, counts: impl Iterator<Item = Count>) {
        if let Histogram::Few(list) = self {
            list.extend(counts);
            list.sort_by_key(|(bucket, _)| *bucket); // two runs in order: one pass
            list.dedup_by(|next, kept| {
                let same = next.0 == kept.0;
                kept.1 += if same { next.1 } else { 0 };
                same
            });
            if list.len() > LIST_MAX {
                let list = std::mem::take(list);
                *self = Histogram::Many(vec![None; PAGES]);
                self.add(list.into_iter());
            }
        } else {
            counts.for_each(|(bucket, count)| self.change(bucket, |counter| counter + count));
        }
    }

    /// Takes away what was added.
    pub fn remove(&mut self, counts: impl Iterator<Item = Count>) {
        counts.for_each(|(bucket, count)| self.change(bucket, |counter| counter.saturating_sub(count)));
        if let Histogram::Few(list) = self {
            list.retain(|(_, count)| *count > 0);
        }
    }

    /// Changes one counter; in a list only if it is there.
    #[inline(always)]
    fn change(&mut self, bucket: u32, act: impl Fn(u64) -> u64) {
        let counter = match self {
            Histogram::Few(list) => {
                let found = list.binary_search_by_key(&bucket, |(bucket, _)| *bucket).ok();
                found.and_then(|at| list.get_mut(at)).map(|(_, count)| count)
            }
            Histogram::Many(pages) => {
                let page = pages.get_mut(bucket as usize / PAGE);
                let page = page.map(|page| page.get_or_insert_with(|| Box::new([0; PAGE])));
                page.and_then(|page| page.get_mut(bucket as usize % PAGE))
            }
        };
        if let Some(counter) = counter {
            *counter = act(*counter);
        }
    }

    /// The buckets that were hit, in rising order.
    pub fn counts(&self) -> impl Iterator<Item = Count> {
        let (list, pages): (&[Count], &[_]) = match self {
            Histogram::Few(list) => (list, &[]),
            Histogram::Many(pages) => (&[], pages),
        };
        let pages =
            (0..).step_by(PAGE).zip(pages).filter_map(|(first, page)| Some((first, page.as_deref()?)));
        let counters = pages.flat_map(|(first, page)| (first..).zip(page.iter().copied()));
        list.iter().copied().chain(counters.filter(|(_, count)| *count > 0))
    }

    /// For each rank, 1 to the number of codes, the code that stands there in rising order: of a bucket that holds
    /// several the one nearest to zero. 0 where there are not so many.
    pub fn codes_at(&self, ranks: &[u64]) -> Vec<i32> {
        let mut codes = vec![0; ranks.len()];
        let mut before = 0;
        for (bucket, count) in self.counts() {
            let here = before + 1..=before + count;
            before += count;
            for (found, _) in codes.iter_mut().zip(ranks).filter(|(_, rank)| here.contains(rank)) {
                *found = code(bucket);
            }
        }
        codes
    }

    /// All of it in few bytes, as [`to_runs`].
    pub fn to_runs(&self) -> Vec<u8> {
        to_runs(self.counts())
    }
}

/// Counts of buckets in any order, which may be changed by it.
pub(crate) fn tally(buckets: &mut Vec<u32>) -> Vec<Count> {
    let (first, last) = (buckets.iter().copied().min(), buckets.iter().copied().max());
    let (Some(first), Some(last)) = (first, last) else { return Vec::new() };
    let range = (last - first) as usize + 1;
    if range <= DENSE * buckets.len() {
        let mut counters = vec![0u32; range];
        for bucket in buckets.iter() {
            if let Some(counter) = counters.get_mut((bucket - first) as usize) {
                *counter += 1;
            }
        }
        let counts = (first..).zip(counters).filter(|(_, count)| *count > 0);
        return counts.map(|(bucket, count)| (bucket, count.into())).collect();
    }
    sort(buckets);
    let same = |a: &u32, b: &u32| a == b;
    buckets.chunk_by(same).filter_map(|run| Some((*run.first()?, run.len() as u64))).collect()
}

fn sort(buckets: &mut Vec<u32>) {
    if buckets.len() < RADIX_MIN {
        return buckets.sort_unstable();
    }
    let mut sorted = vec![0; buckets.len()];
    for shift in [0, RADIX_BITS] {
        let digit = |bucket: u32| (bucket >> shift) as usize % (1 << RADIX_BITS);
        let mut places = [0; 1 << RADIX_BITS];
        buckets.iter().for_each(|bucket| places[digit(*bucket)] += 1);
        let mut next = 0;
        for place in &mut places {
            next += std::mem::replace(place, next);
        }
        for bucket in buckets.iter() {
            let place = &mut places[digit(*bucket)];
            if let Some(to) = sorted.get_mut(*place) {
                *to = *bucket;
            }
            *place += 1;
        }
        std::mem::swap(buckets, &mut sorted);
    }
}

/// Counts in few bytes: for each its distance from the bucket after the last one, and its count.
pub(crate) fn to_runs(counts: impl Iterator<Item = Count>) -> Vec<u8> {
    let mut runs = Vec::new();
    let mut next = 0;
    for (bucket, count) in counts {
        push(&mut runs, (bucket - next).into());
        push(&mut runs, count);
        next = bucket + 1;
    }
    runs
}

/// The counts of these runs if there are `total` in all; `None` if they are no runs, or of another number.
pub(crate) fn from_runs(runs: &[u8], total: u64) -> Option<Vec<Count>> {
    let counts: Vec<Count> = Runs::of(runs).collect();
    let counted = counts.iter().try_fold(0u64, |sum, (_, count)| sum.checked_add(*count));
    (counted == Some(total) && to_runs(counts.iter().copied()) == runs).then_some(counts)
}

/// The counts that [`to_runs`] made these bytes of. It ends before what is no count.
pub(crate) struct Runs<'a> {
    bytes: &'a [u8],
    next: u64,
}

impl<'a> Runs<'a> {
    pub fn of(bytes: &'a [u8]) -> Runs<'a> {
        Runs { bytes, next: 0 }
    }
}

impl Iterator for Runs<'_> {
    type Item = Count;

    #[inline]
    fn next(&mut self) -> Option<Count> {
        let bucket = self.next.checked_add(pull(&mut self.bytes)?).filter(|b| *b < 2 * HALF as u64)?;
        let count = pull(&mut self.bytes).filter(|count| *count > 0)?;
        self.next = bucket + 1;
        Some((bucket as u32, count))
    }
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram::Few(Vec::new())
    }
}

impl PartialEq for Histogram {
    fn eq(&self, other: &Histogram) -> bool {
        self.counts().eq(other.counts())
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

    fn counted(codes: &[i32]) -> Vec<Count> {
        tally(&mut codes.iter().map(|c| bucket(*c)).collect())
    }

    fn of(codes: &[i32]) -> Histogram {
        let mut histogram = Histogram::default();
        histogram.add(counted(codes).into_iter());
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
        let counts = counted(&[i32::MIN, -1, 0, 0, 1, i32::MAX, 1 << 20, 300]);
        let runs = to_runs(counts.iter().copied());
        assert_eq!(from_runs(&runs, 8), Some(counts));
        assert_eq!(from_runs(&[], 0), Some(vec![]));
        assert_eq!(from_runs(&runs, 7), None);
        for cut in 1..runs.len() {
            assert_eq!(from_runs(&runs[..cut], 8), None, "{cut}");
        }
        // Not the shortest form, no count, a bucket beyond the last, more than 64 bits.
        for bad in [&[0x80, 0, 1][..], &[3, 0], &[255, 255, 255, 1, 1], &[255; 11]] {
            assert_eq!(from_runs(bad, 1), None);
        }
    }

    #[test]
    fn few_and_many_count_the_same() {
        let mut random = fastrand::Rng::with_seed(5);
        let (mut sum, mut all) = (Histogram::default(), Vec::new());
        let mut added = Vec::new();
        for round in 0..40 {
            let codes: Vec<i32> =
                (0..random.usize(1..400)).map(|_| random.i32(..) >> random.u32(0..32)).collect();
            added.push(counted(&codes));
            sum.add(added[round].iter().copied());
            all.extend(codes);
            assert_eq!(sum, of(&all), "{round}");
        }
        assert!(matches!(sum, Histogram::Many(_)) && matches!(of(&all[..900]), Histogram::Few(_)));
        for (round, counts) in added.iter().enumerate() {
            sum.remove(counts.iter().copied());
            let mut rest = Histogram::default();
            added[round + 1..].iter().for_each(|counts| rest.add(counts.iter().copied()));
            assert_eq!(sum, rest);
        }
        let mut few = of(&[4, 4, 9]);
        few.remove(counted(&[4, 9]).into_iter());
        assert_eq!(few, of(&[4]));
        assert_ne!(few, of(&[5]));
    }

    #[test]
    fn both_ways_of_sorting_sort() {
        let mut random = fastrand::Rng::with_seed(6);
        for len in [0, 1, 255, 256, 257, 4096] {
            let mut buckets: Vec<u32> = (0..len).map(|_| random.u32(..2 * HALF)).collect();
            let mut wanted = buckets.clone();
            wanted.sort();
            sort(&mut buckets);
            assert_eq!(buckets, wanted);
        }
    }
}
