#![forbid(unsafe_code)]

use super::*;
use crate::entry::Reason;
use crate::grid::Grid;
use proptest::prelude::*;

fn bytes(entries: &[Entry]) -> Vec<[u8; LEN]> {
    entries.iter().map(Entry::to_bytes).collect()
}

fn decoded(block: &[u8]) -> Option<Vec<[u8; LEN]>> {
    let mut out = Vec::new();
    let head = decode(block, &mut out)?;
    assert_eq!((out.len(), head.len), (head.count * LEN, block.len()));
    Some(out.as_chunks().0.to_vec())
}

/// Samples of this many channels on a grid.
fn samples(first_seq: u64, count: usize, channels: u16, period_ps: u64) -> Vec<[u8; LEN]> {
    let grid = Grid { origin_ns: 12_345, period_ps };
    let sample = |i: u64| {
        let t_ns = grid.time_of(1_000_000 + i / channels as u64);
        Entry::sample(first_seq + i, 3, t_ns, (i % channels as u64) as u16, ((i * i) % 97) as i32 - 40)
    };
    bytes(&(0..count as u64).map(sample).collect::<Vec<_>>())
}

#[test]
fn a_grid_costs_next_to_nothing() {
    for (channels, period_ps, most) in
        [(1, 1_000_000_000, 1.1), (1, 2_777_777_778, 1.4), (3, 2_777_777_778, 1.3), (32, 1_000_000, 1.2)]
    {
        let entries = samples(77, BLOCK, channels, period_ps);
        let block = encode(77, &entries);
        assert_eq!(decoded(&block), Some(entries));
        let each = block.len() as f64 / BLOCK as f64;
        assert!(each < most, "{channels} channels, {period_ps} ps: {each} bytes a sample");
    }
}

/// The goal is 4 bytes a sample. Recorded it has EPOCH, SOURCE, GRID before it.
#[test]
fn an_electrocardiogram_is_small() {
    let codes: Vec<i32> =
        include_str!("../../../tests/data/ecg-360hz.txt").lines().map(|line| line.parse().unwrap()).collect();
    let grid = Grid { origin_ns: 0, period_ps: 2_777_777_778 };
    let mut entries =
        vec![Entry::epoch(1, 1, 7), Entry::source(2, 1, 0, 7), Entry::grid(3, 1, 0, grid.period_ps)];
    entries.extend((0..).zip(&codes).map(|(k, code)| Entry::sample(k + 4, 1, grid.time_of(k), 0, *code)));
    let (mut size, mut back) = (0, Vec::new());
    for (i, some) in bytes(&entries).chunks(BLOCK).enumerate() {
        let block = encode(1 + (i * BLOCK) as u64, some);
        size += block.len();
        back.extend(decoded(&block).unwrap());
    }
    assert!(back == bytes(&entries));
    let each = size as f64 / codes.len() as f64;
    assert!(each < 1.5, "{each} bytes a sample");
}

#[test]
fn every_length_and_place_comes_back() {
    for count in [1, 2, 127, 128, 129, 255, 256, 4000, BLOCK] {
        let entries = samples(u64::MAX - 4096, count, 2, 1_000);
        let block = encode(u64::MAX - 4096, &entries);
        assert_eq!(decoded(&block), Some(entries), "{count}");
        // From another place than its own nothing is predicted rightly, and all still comes back.
        let entries = samples(5, count, 2, 1_000);
        assert_eq!(decoded(&encode(6, &entries)), Some(entries));
    }
    assert_eq!(decoded(&encode(1, &samples(1, BLOCK + 1, 1, 1_000))).map(|b| b.len()), Some(BLOCK));
}

#[test]
fn no_block_is_longer_than_said() {
    let noise: Vec<[u8; LEN]> = (0..BLOCK).map(|_| std::array::from_fn(|_| fastrand::u8(..))).collect();
    let block = encode(1, &noise);
    assert!(block.len() <= BLOCK_LEN_MAX);
    assert_eq!(decoded(&block), Some(noise));
    let mut rng = fastrand::Rng::with_seed(3);
    let wild = |seq| Entry::sample(seq, 1, rng.u64(..), rng.u16(0..32), rng.i32(..));
    let wild = bytes(&(1..=BLOCK as u64).map(wild).collect::<Vec<_>>());
    let block = encode(1, &wild);
    assert!(block.len() <= BLOCK_LEN_MAX);
    assert_eq!(decoded(&block), Some(wild));
}

/// Any entry that a record may hold, and such as it may hold only after damage.
fn any_entry(seq: u64) -> impl Strategy<Value = [u8; LEN]> {
    let t = prop_oneof![Just(0u64), 0..1u64 << 40, any::<u64>()];
    (0..20u8, t, any::<i32>(), 0..32u16, 1..3u32, 0..32usize, 0..8u8).prop_map(
        move |(what, t_ns, value, channel, epoch, at, bit)| {
            let entry = match what {
                0 => Entry::epoch(seq, epoch, t_ns),
                1 => Entry::source(seq, epoch, t_ns, value as u32 as u64),
                2 => Entry::grid(seq, epoch, t_ns, value as u32 as u64),
                3 => Entry::loss(seq, epoch, t_ns, Reason::Missed, value as u32),
                4 => Entry::corrupt(seq, epoch),
                5 => Entry { flags: 1, ..Entry::sample(seq, 1, t_ns, 0, value) }.seal(),
                6 => Entry { channel: channel + 32, ..Entry::sample(seq, 1, t_ns, 0, value) }.seal(),
                7 => Entry::sample(seq.wrapping_add(value as u64), 1, t_ns, channel, value),
                8..10 => Entry::sample(seq, epoch, t_ns, channel, value),
                10 => Entry::sample(seq, 1, t_ns, 0, value),
                _ => Entry::sample(seq, 1, seq.wrapping_mul(1_000_000), (seq % 2) as u16, value % 100),
            };
            let mut b = entry.to_bytes();
            b[at] ^= if what == 10 { 1 << bit } else { 0 };
            b
        },
    )
}

fn any_entries() -> impl Strategy<Value = (u64, Vec<[u8; LEN]>)> {
    let first = prop_oneof![Just(1u64), any::<u64>()];
    (first, 1..600u64).prop_flat_map(|(first, count)| {
        let entries: Vec<_> = (0..count).map(|i| any_entry(first.wrapping_add(i))).collect();
        (Just(first), entries)
    })
}

/// The CRCs of a block as if its bytes were meant.
fn seal(block: &mut [u8]) {
    let body = crc32c::crc32c(block.get(HEAD_LEN..).unwrap_or_default());
    put(block, 48, body.to_le_bytes());
    let head = crc32c::crc32c(&block[..60]);
    put(block, 60, head.to_le_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn every_entry_comes_back_bit_for_bit((first, entries) in any_entries()) {
        prop_assert_eq!(decoded(&encode(first, &entries)), Some(entries));
    }

    #[test]
    fn damage_is_seen((first, entries) in any_entries(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let mut block = encode(first, &entries);
        let at = at.index(block.len());
        block[at] ^= 1 << bit;
        let mut out = vec![7];
        prop_assert_eq!(decode(&block, &mut out), None);
        prop_assert_eq!(out, vec![7]);
    }

    #[test]
    fn lies_with_right_crcs_do_no_harm(
        (first, entries) in any_entries(),
        lies in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        len in any::<u16>(),
    ) {
        let mut block = encode(first, &entries);
        for (at, lie) in lies {
            let at = at.index(block.len());
            block[at] = lie;
        }
        let keep = if len % 3 == 0 { cut.index(block.len()) } else { block.len() };
        block.truncate(keep.max(HEAD_LEN));
        put(&mut block, 0, MAGIC);
        put(&mut block, 16, (keep as u32).to_le_bytes());
        seal(&mut block);
        let mut out = Vec::new();
        let head = decode(&block, &mut out);
        prop_assert_eq!(out.len(), head.map_or(0, |head| head.count * LEN));
        prop_assert!(out.capacity() <= 2 * BLOCK * LEN);
    }
}
