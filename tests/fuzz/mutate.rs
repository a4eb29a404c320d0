//! Makes new inputs of old ones: small damage, other numbers, pieces exchanged, known words put in.

use fastrand::Rng;

/// No input becomes longer, in bytes.
const LEN_MAX: usize = 64 << 10;

/// Numbers at which readers go wrong.
const NUMBERS: [u64; 16] = [
    0,
    1,
    2,
    31,
    32,
    127,
    128,
    255,
    256,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 57,
    i64::MAX as u64,
    u64::MAX,
];

/// A new input from one of these.
pub fn mutate(pool: &[Vec<u8>], words: &[&str], dice: &mut Rng) -> Vec<u8> {
    let any = |dice: &mut Rng| dice.choice(pool).cloned().unwrap_or_default();
    let mut bytes = any(dice);
    for _ in 0..1 << dice.u32(..4) {
        let other = any(dice);
        change(&mut bytes, &other, words, dice);
        bytes.truncate(LEN_MAX);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, other: &[u8], words: &[&str], dice: &mut Rng) {
    let at = place(bytes.len(), dice);
    let end = (at + (1 << dice.u32(..8))).min(bytes.len());
    match dice.u32(..12) {
        0 | 1 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << dice.u32(..8)),
        2 => overwrite(bytes, at, &[dice.u8(..)]),
        3 | 4 => {
            let width = 1 << dice.u32(..4);
            let number = dice.choice(NUMBERS).unwrap_or(0).wrapping_add(dice.u64(..3)).wrapping_sub(1);
            overwrite(bytes, at / width * width, &number.to_le_bytes()[..width]);
        }
        5 => drop(bytes.drain(at..end)),
        6 => {
            let piece = bytes[at..end].to_vec();
            let to = place(bytes.len(), dice);
            drop(bytes.splice(to..to, piece));
        }
        7 => {
            let from = place(other.len(), dice);
            let piece = &other[from..(from + (1 << dice.u32(..10))).min(other.len())];
            let to = if dice.bool() { at } else { end };
            drop(bytes.splice(at..to, piece.iter().copied()));
        }
        8 => bytes.truncate(at),
        9 => bytes.extend(std::iter::repeat_n(dice.u8(..), end - at)),
        10 => bytes[at..end].fill(0),
        _ => {
            let word = dice.choice(words).copied().unwrap_or_default();
            let to = if dice.bool() { at } else { end };
            drop(bytes.splice(at..to, word.bytes()));
        }
    }
}

/// Anywhere, most often near the beginning, where the heads are, or at a whole entry.
fn place(len: usize, dice: &mut Rng) -> usize {
    let any = dice.usize(..=len);
    match dice.u32(..4) {
        0 => any.min(dice.usize(..160)),
        1 => any / 32 * 32,
        _ => any,
    }
}

fn overwrite(bytes: &mut [u8], at: usize, new: &[u8]) {
    bytes.iter_mut().skip(at).zip(new).for_each(|(byte, new)| *byte = *new);
}
