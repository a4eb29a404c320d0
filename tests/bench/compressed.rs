//! Compressed segments: bytes a sample, and how fast they are written and read again, from page cache, by one thread.

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use ipc_pipeline::compress::compress_sealed;
use ipc_pipeline::disk::DirDisk;
use ipc_pipeline::entry::Entry;
use ipc_pipeline::grid::Grid;
use ipc_pipeline::reader::{MAX_READ, RecordReader};
use ipc_pipeline::record::{Record, Settings};

use crate::median;

/// Entries of a segment of 64 MiB.
const SEGMENT: u64 = 2_097_024;

/// All figures of compressed segments.
pub fn run() {
    println!("compressed segments: one of {SEGMENT} entries, page cache, one thread");
    println!("  {:<34} {:>8} {:>12} {:>12} {:>12}", "", "bytes/s.", "compress M/s", "read M/s", "plain M/s");
    let ecg: Vec<i32> =
        include_str!("../data/ecg-360hz.txt").lines().filter_map(|l| l.parse().ok()).collect();
    let grid = Grid { origin_ns: 0, period_ps: 2_777_777_778 };
    let code = |i: u64| ecg[(i % ecg.len() as u64) as usize];
    row("ECG, 360 Hz", |seq| Entry::sample(seq, 1, grid.time_of(seq), 0, code(seq)));
    row("ECG, 3 channels, 360 Hz", |seq| {
        Entry::sample(seq, 1, grid.time_of(seq / 3), (seq % 3) as u16, code(seq / 3 + 1000 * (seq % 3)))
    });
    row("ECG, rate = \"max\"", |seq| Entry::sample(seq, 1, seq * 80 + seq * seq % 31, 0, code(seq)));
    row("random 0..=100, rate = \"max\"", |seq| {
        Entry::sample(seq, 1, seq * 80 + seq * seq % 31, 0, fastrand::i32(0..=100))
    });
    row("random 32 bits, random times", |seq| Entry::sample(seq, 1, fastrand::u64(..), 0, fastrand::i32(..)));
}

fn row(what: &str, entry: impl FnMut(u64) -> Entry) {
    let dir = tempfile::tempdir().unwrap();
    let disk = || DirDisk::open(dir.path()).unwrap();
    let settings = Settings { segment_entries: SEGMENT, channels: Vec::new() };
    let (mut record, _) = Record::open(disk(), settings, 1, || 0).unwrap();
    let entries: Vec<u8> = (1..=SEGMENT + 1).map(entry).flat_map(|e| e.to_bytes()).collect();
    record.append(&entries).unwrap();
    record.sync().unwrap();
    let plain = read(dir.path());
    let begun = Instant::now();
    assert_eq!(compress_sealed(&disk(), &|_| true).unwrap(), 1);
    let compress = SEGMENT as f64 / 1e6 / begun.elapsed().as_secs_f64();
    let size = std::fs::metadata(dir.path().join("00000000000000000001.segz")).unwrap().len();
    let (bytes, read) = (size as f64 / SEGMENT as f64, read(dir.path()));
    println!("  {what:<34} {bytes:>8.2} {compress:>12.0} {read:>12.0} {plain:>12.0}");
}

/// M entries/s of reading the whole record.
fn read(dir: &Path) -> f64 {
    let mut out = Vec::new();
    let once = |_| {
        let mut reader = RecordReader::open(dir).unwrap();
        let begun = Instant::now();
        let mut next = 1;
        while let n @ 1.. = reader.read(next, MAX_READ, &mut out).unwrap() {
            black_box(&out);
            next += n as u64;
        }
        assert_eq!(next, SEGMENT + 2);
        SEGMENT as f64 / 1e6 / begun.elapsed().as_secs_f64()
    };
    median((0..5).map(once).collect())
}
