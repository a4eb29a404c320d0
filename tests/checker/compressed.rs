//! Compressed segments, decoded once more from docs/formats.md alone: one number at a time, by the book.

use super::Faults;
use super::bytes::{crc, u16_at, u32_at, u64_at};
use std::io::Write;
use std::path::Path;

const HEADER: usize = 4096;
const HEAD: usize = 64;
const GROUP: usize = 128;

/// The segment as it was before it was compressed, in a file without a name.
pub fn plain(path: &Path, faults: &mut Faults) -> std::io::Result<std::fs::File> {
    let bytes = std::fs::read(path)?;
    let mut plain = bytes.get(..HEADER).unwrap_or_default().to_vec();
    let mut next = 0;
    let mut rest = bytes.get(HEADER..).unwrap_or_default();
    while !rest.is_empty() {
        match block(rest) {
            Ok((first, entries, len)) => {
                if next != 0 && first != next {
                    faults.add(format!("{}: a block begins with {first} instead of {next}", path.display()));
                }
                next = first + entries.len() as u64 / 32;
                plain.extend(entries);
                rest = &rest[len..];
            }
            Err(why) => {
                faults.add(format!("{}: {} bytes before its end a block {why}", path.display(), rest.len()));
                break;
            }
        }
    }
    let mut file = tempfile::tempfile()?;
    file.write_all(&plain)?;
    Ok(file)
}

/// What the next sample is expected to be.
struct Expected {
    epoch: u32,
    channels: u16,
    channel: u16,
    t_ns: u64,
    step_ns: u64,
    values: [i32; 32],
}

/// First seq, entries and length of the block that `b` begins with.
fn block(b: &[u8]) -> Result<(u64, Vec<u8>, usize), &'static str> {
    let head = b.get(..HEAD).ok_or("is cut off")?;
    if &head[..8] != b"IPCPBLK1" || crc(&head[..60]) != u32_at(head, 60) {
        return Err("has no whole head");
    }
    let (first, len) = (u64_at(head, 8), u32_at(head, 16) as usize);
    let (count, full) = (u16_at(head, 20) as usize, u16_at(head, 22) as usize);
    let body = b.get(HEAD..len).ok_or("is cut off")?;
    if crc(body) != u32_at(head, 48) {
        return Err("has a body with a bad CRC");
    }
    let mut expected = Expected {
        epoch: u32_at(head, 24),
        channels: u16_at(head, 28),
        channel: u16_at(head, 30),
        t_ns: u64_at(head, 32),
        step_ns: u64_at(head, 40),
        values: [0; 32],
    };
    let indexes: Vec<usize> = (0..full).map(|i| u16_at(body, 2 * i) as usize).collect();
    let in_full = &body[2 * full..34 * full];
    let mut groups = &body[34 * full..];
    let mut differences: Vec<[u32; 4]> = Vec::new();
    while differences.len() < count - full {
        let columns: [Vec<u32>; 4];
        (columns, groups) = group(groups)?;
        differences.extend((0..GROUP).map(|i| std::array::from_fn(|column| columns[column][i])));
    }
    if !groups.is_empty() {
        return Err("has bytes that mean nothing");
    }
    let mut entries = Vec::new();
    let (mut nth_full, mut nth_sample) = (0, 0);
    for i in 0..count {
        if indexes.get(nth_full) == Some(&i) {
            let raw = &in_full[32 * nth_full..32 * nth_full + 32];
            nth_full += 1;
            if crc(&raw[..28]) == u32_at(raw, 28) {
                expected.epoch = u32_at(raw, 24);
            }
            entries.extend(raw);
        } else {
            entries.extend(expected.sample(first + i as u64, differences[nth_sample]));
            nth_sample += 1;
        }
    }
    Ok((first, entries, len))
}

/// Four widths, then four columns of 128 numbers; returns what comes behind.
fn group(b: &[u8]) -> Result<([Vec<u32>; 4], &[u8]), &'static str> {
    let widths = b.get(..4).ok_or("ends within its columns")?;
    let mut rest = &b[4..];
    let mut columns = [const { Vec::new() }; 4];
    for (column, width) in columns.iter_mut().zip(widths) {
        let width = *width as usize;
        let packed = rest.get(..16 * width).ok_or("ends within its columns")?;
        rest = &rest[16 * width..];
        // Number i is in lane i % 4, there the bits from width * (i / 4) on; a lane is every fourth word.
        let bit = |lane: usize, at: usize| u32_at(packed, 4 * (4 * (at / 32) + lane)) >> (at % 32) & 1;
        *column =
            (0..GROUP).map(|i| (0..width).map(|j| bit(i % 4, width * (i / 4) + j) << j).sum()).collect();
    }
    Ok((columns, rest))
}

impl Expected {
    fn sample(&mut self, seq: u64, [value, channel, low, high]: [u32; 4]) -> [u8; 32] {
        let channel = channel as u16 ^ self.channel;
        let value = self.values[channel as usize].wrapping_add(signed(value.into()) as i32);
        let step = if channel == 0 { self.step_ns } else { 0 };
        let late = signed(u64::from(low) | u64::from(high) << 32) as u64;
        let t_ns = self.t_ns.wrapping_add(step).wrapping_add(late);
        self.values[channel as usize] = value;
        if channel == 0 {
            self.step_ns = t_ns.wrapping_sub(self.t_ns);
        }
        self.t_ns = t_ns;
        self.channel = if channel + 1 < self.channels { channel + 1 } else { 0 };
        let mut raw = [0; 32];
        raw[..8].copy_from_slice(&seq.to_le_bytes());
        raw[8..16].copy_from_slice(&t_ns.to_le_bytes());
        raw[16..20].copy_from_slice(&value.to_le_bytes());
        raw[20..22].copy_from_slice(&channel.to_le_bytes());
        raw[22] = super::SAMPLE;
        raw[24..28].copy_from_slice(&self.epoch.to_le_bytes());
        let check = crc(&raw[..28]);
        raw[28..].copy_from_slice(&check.to_le_bytes());
        raw
    }
}

/// 0, 1, 2, 3, 4 ... is 0, -1, 1, -2, 2 ...
fn signed(n: u64) -> i64 {
    if n.is_multiple_of(2) { (n / 2) as i64 } else { -((n / 2) as i64) - 1 }
}
