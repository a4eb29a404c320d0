//! The judge judged: a small writer of valid records of its own, and every kind of damage must be found.
#![forbid(unsafe_code)]

#[path = "mod.rs"]
mod checker;

use checker::*;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The slow, obvious CRC: a second opinion on the judge's tables.
fn slow_crc(bytes: &[u8]) -> u32 {
    let mut c = !0u32;
    for b in bytes {
        c ^= *b as u32;
        for _ in 0..8 {
            c = (c >> 1) ^ (0x82F6_3B78 * (c & 1));
        }
    }
    !c
}

#[test]
fn crc_is_castagnoli() {
    assert_eq!(crc(b"123456789"), 0xe306_9283);
    let bytes: Vec<u8> = (0..97u8).collect();
    (0..97).for_each(|n| assert_eq!(crc(&bytes[..n]), slow_crc(&bytes[..n])));
}

#[derive(Clone, Copy, Debug)]
struct Line {
    seq: u64,
    t_ns: u64,
    wide: u64,
    kind: u8,
    flags: u8,
    epoch: u32,
}

impl Line {
    fn bytes(&self) -> [u8; 32] {
        let mut b = [0; 32];
        b[..8].copy_from_slice(&self.seq.to_le_bytes());
        b[8..16].copy_from_slice(&self.t_ns.to_le_bytes());
        b[16..22].copy_from_slice(&self.wide.to_le_bytes()[..6]);
        b[22] = self.kind;
        b[23] = self.flags;
        b[24..28].copy_from_slice(&self.epoch.to_le_bytes());
        let crc = slow_crc(&b[..28]);
        b[28..].copy_from_slice(&crc.to_le_bytes());
        b
    }
}

const PERIOD_PS: u64 = 2_777_777_777; // 360 Hz
const ORIGIN: u64 = 5_000;
const IDENTITY: u64 = 0xabcd_0000_0001;

fn tick(k: u64) -> u64 {
    ORIGIN + (k as u128 * PERIOD_PS as u128 / 1000) as u64
}

fn value(index: u64) -> i32 {
    (index as i32).wrapping_mul(7919) % 2001 - 1000
}

/// A record being made: it keeps every rule unless a test bends a line.
#[derive(Clone)]
struct Writer {
    lines: Vec<Line>,
    epoch: u32,
    index: u64,
    tick: u64,
}

impl Writer {
    fn new() -> Writer {
        Writer { lines: Vec::new(), epoch: 0, index: 0, tick: 0 }
    }

    fn put(&mut self, t_ns: u64, wide: u64, kind: u8, flags: u8) {
        let seq = self.lines.len() as u64 + 1;
        self.lines.push(Line { seq, t_ns, wide, kind, flags, epoch: self.epoch });
    }

    fn open_epoch(&mut self) {
        self.epoch += 2; // numbers may be skipped
        self.tick = 0;
        self.put(1_700_000_000_000_000_000, 0, EPOCH, 0);
        self.put(self.index, IDENTITY, SOURCE, 0);
        self.put(ORIGIN, PERIOD_PS, GRID, 0);
    }

    fn samples(&mut self, n: u64) {
        for _ in 0..n {
            self.put(tick(self.tick), value(self.index) as u32 as u64, SAMPLE, 0);
            self.tick += 1;
            self.index += 1;
        }
    }

    /// A run of LOSS entries: reason and count of each.
    fn losses(&mut self, run: &[(u8, u32)]) {
        let ticks: u64 = run.iter().filter(|(r, _)| *r == MISSED || *r == FULL).map(|(_, c)| *c as u64).sum();
        self.tick += ticks;
        for (reason, count) in run {
            self.put(tick(self.tick - 1), *count as u64, LOSS, *reason);
            self.index += if matches!(*reason, FULL | BAD) { *count as u64 } else { 0 };
        }
    }

    /// 1,000 samples, losses, a clock step, two epochs.
    fn usual() -> Writer {
        let mut w = Writer::new();
        w.open_epoch();
        w.samples(300);
        w.losses(&[(MISSED, 5)]);
        w.samples(1);
        w.losses(&[(MISSED, 2), (BAD, 3)]);
        w.put(tick(w.tick - 1), (-5i64 as u64) & 0xffff_ffff_ffff, CLOCK, 0);
        w.samples(199);
        w.open_epoch();
        w.losses(&[(MISSED, 100)]);
        w.samples(500);
        w
    }

    /// Change the line of this seq.
    fn bend(mut self, seq: u64, how: impl FnOnce(&mut Line)) -> Writer {
        how(&mut self.lines[seq as usize - 1]);
        self
    }

    fn write(&self) -> Disk {
        self.write_cut(&[400])
    }

    /// Write segments that begin at 1 and at each seq of `cuts`, and the mark.
    fn write_cut(&self, cuts: &[u64]) -> Disk {
        let dir = tempfile::tempdir().unwrap();
        let n = self.lines.len() as u64;
        let firsts = [&[1], cuts, &[n + 1]].concat();
        for pair in firsts.windows(2) {
            let before = if pair[0] == 1 { 0 } else { self.lines[pair[0] as usize - 2].epoch };
            let mut bytes = header(pair[0], before);
            let part = &self.lines[pair[0] as usize - 1..pair[1] as usize - 1];
            bytes.extend(part.iter().flat_map(|l| l.bytes()));
            fs::write(dir.path().join(format!("{:020}.seg", pair[0])), bytes).unwrap();
        }
        let source = self.lines.iter().rfind(|l| l.kind == SOURCE).map_or(0, |l| l.seq);
        let marks = [mark(7, n - 10, 1, 0, 0), mark(8, n, self.epoch, source, self.index)];
        let mut bytes = vec![0; 8192];
        bytes[..128].copy_from_slice(&marks[1]);
        bytes[4096..4224].copy_from_slice(&marks[0]);
        fs::write(dir.path().join("durable.mark"), bytes).unwrap();
        Disk { dir }
    }

    fn faults(&self) -> Faults {
        self.write().report().faults
    }
}

const LOG_ID: u64 = 0x1234_5678_9abc_def0;

fn sealed(mut b: Vec<u8>) -> Vec<u8> {
    let end = b.len() - 4;
    let crc = slow_crc(&b[..end]).to_le_bytes();
    b[end..].copy_from_slice(&crc);
    b
}

fn header(first: u64, epoch_before: u32) -> Vec<u8> {
    let mut h = vec![0; 4096];
    h[..8].copy_from_slice(b"IPCPSEG1");
    for (at, v) in [(8, 1u32), (12, 4096), (16, 32), (20, 1), (40, epoch_before)] {
        h[at..at + 4].copy_from_slice(&v.to_le_bytes());
    }
    h[24..32].copy_from_slice(&LOG_ID.to_le_bytes());
    h[32..40].copy_from_slice(&first.to_le_bytes());
    h[64..68].copy_from_slice(b"lead");
    sealed(h)
}

fn mark(counter: u64, durable: u64, epoch: u32, source: u64, index: u64) -> Vec<u8> {
    let mut m = vec![0; 128];
    m[..8].copy_from_slice(b"IPCPMRK1");
    let words = [(8, counter), (16, LOG_ID), (24, durable), (32, epoch as u64)];
    for (at, v) in words.into_iter().chain([(40, source), (48, IDENTITY), (56, index)]) {
        m[at..at + 8].copy_from_slice(&v.to_le_bytes());
    }
    sealed(m)
}

struct Disk {
    dir: tempfile::TempDir,
}

impl Disk {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn segment(&self, first: u64) -> PathBuf {
        self.path(&format!("{first:020}.seg"))
    }

    fn report(&self) -> Report {
        check_record(self.dir.path())
    }
}

fn poke(path: &Path, at: u64, bytes: &[u8]) {
    fs::File::options().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

#[track_caller]
fn found(faults: &Faults, part: &str) {
    assert!(faults.has(part), "expected a fault with {part:?}, got {faults}");
}

#[test]
fn a_valid_record_has_no_fault() {
    let w = Writer::usual();
    for cuts in [&[][..], &[400], &[4, 5, 303, 700]] {
        let report = w.write_cut(cuts).report();
        assert!(report.faults.is_empty(), "{}", report.faults);
        assert_eq!(report.last, w.lines.len() as u64);
        assert_eq!(report.durable, report.last);
        assert_eq!((report.samples, report.epochs, report.tail_bytes), (1000, 2, 0));
        assert_eq!(report.lost, [0, 107, 0, 3, 0, 0]);
        let (samples, index, faults) = check_source(&report.record, value);
        assert!(faults.is_empty(), "{faults}");
        assert_eq!((samples, index), (1000, 1003));
    }
}

#[test]
fn every_flipped_bit_is_found() {
    let disk = Writer::usual().write();
    let path = disk.segment(1);
    let clean = fs::read(&path).unwrap();
    for bit in (4096 * 8..clean.len() * 8).step_by(101).chain(0..64 * 8) {
        poke(&path, bit as u64 / 8, &[clean[bit / 8] ^ 1 << (bit % 8)]);
        assert!(!disk.report().faults.is_empty(), "bit {bit}");
        poke(&path, bit as u64 / 8, &clean[bit / 8..bit / 8 + 1]);
    }
    assert!(disk.report().faults.is_empty());
}

#[test]
fn disorder_is_found() {
    let w = Writer::usual();
    let mut hole = w.clone();
    hole.lines.remove(99);
    found(&hole.faults(), "entry 100: it says seq 101");
    let mut twice = w.clone();
    twice.lines.insert(99, twice.lines[98]);
    found(&twice.faults(), "entry 100: it says seq 99");
    let mut swapped = w.clone();
    swapped.lines.swap(99, 100);
    found(&swapped.faults(), "entry 100: it says seq 101");
}

#[test]
fn unknown_and_misused_kinds_are_found() {
    let bent = |seq, how: fn(&mut Line)| Writer::usual().bend(seq, how).faults();
    found(&bent(50, |l| l.kind = 0), "unknown kind 0");
    found(&bent(50, |l| l.kind = 8), "unknown kind 8");
    found(&bent(50, |l| l.flags = 1), "flags");
    found(&bent(50, |l| l.wide |= 1 << 32), "channel is not in the table");
    found(&bent(304, |l| l.flags = 6), "unknown reason");
    found(&bent(304, |l| l.wide = 0), "LOSS of nothing");
    found(&bent(1, |l| l.wide = 1), "EPOCH with a value");
    found(&bent(50, |l| (l.kind, l.t_ns) = (CORRUPT, 1)), "CORRUPT with a value");
}

#[test]
fn epochs_out_of_order_are_found() {
    let bent = |seq, how: fn(&mut Line)| Writer::usual().bend(seq, how).faults();
    found(&bent(50, |l| l.epoch = 3), "epoch 3 begins with kind 1");
    found(&bent(50, |l| l.epoch = 1), "epoch 1 after 2");
    found(&bent(50, |l| l.kind = EPOCH), "EPOCH inside its epoch");
    found(&bent(1, |l| l.kind = SOURCE), "begins with kind 6");
    found(&bent(2, |l| l.kind = GRID), "kind 7 in the opening");
    found(&bent(3, |l| l.kind = SAMPLE), "kind 1 in the opening");
    let mut w = Writer::new();
    w.epoch = 0;
    w.put(1, 5, LOSS, ABANDONED);
    w.open_epoch();
    w.samples(10);
    assert!(w.faults_uncut().is_empty(), "LOSS(abandoned) may stand first");
    let mut w = Writer::new();
    w.epoch = 2;
    w.put(1, 5, LOSS, MISSED);
    w.samples(10);
    found(&w.faults_uncut(), "begins with kind 3");
}

impl Writer {
    fn faults_uncut(&self) -> Faults {
        self.write_cut(&[]).report().faults
    }
}

#[test]
fn ticks_off_the_grid_are_found() {
    let bent = |seq, how: fn(&mut Line)| Writer::usual().bend(seq, how).faults();
    found(&bent(50, |l| l.t_ns += 1), "tick 46 is at");
    found(&bent(50, |l| l.t_ns = tick(47)), "tick 46 is at");
    found(&bent(304, |l| l.wide = 4), "LOSS carries");
    found(&bent(304, |l| l.t_ns -= 1), "LOSS carries");
    found(&bent(3, |l| l.wide += 1), "is at");
    // A missed tick that nobody counted.
    let mut w = Writer::new();
    w.open_epoch();
    w.samples(5);
    w.tick += 1;
    w.samples(5);
    let faults = w.faults_uncut();
    found(&faults, "tick 5 is at");
    assert_eq!(faults.count, 1, "one slip, one fault: {faults}");
    // Two runs of LOSS side by side, each with its own last tick.
    let mut w = Writer::new();
    w.open_epoch();
    w.losses(&[(MISSED, 3), (FULL, 4)]);
    w.losses(&[(MISSED, 9)]);
    w.samples(5);
    assert!(w.faults_uncut().is_empty(), "{}", w.faults_uncut());
}

#[test]
fn corrupt_may_hide_ticks_but_not_the_grid() {
    let mut w = Writer::new();
    w.open_epoch();
    w.samples(5);
    w.put(0, 0, CORRUPT, 0);
    (w.index, w.tick) = (w.index + 1, w.tick + 1);
    w.samples(5);
    assert!(w.faults_uncut().is_empty(), "{}", w.faults_uncut());
    found(&w.clone().bend(10, |l| l.t_ns += 1).faults_uncut(), "is at");
    found(&w.bend(10, |l| l.t_ns = tick(2)).faults_uncut(), "is at");
}

#[test]
fn a_source_that_jumps_is_found() {
    let mut w = Writer::usual();
    let second = w.lines.iter().rposition(|l| l.kind == SOURCE).unwrap();
    w.lines[second].t_ns += 1;
    let report = w.write().report();
    found(&report.faults, "source goes on at 504, it stood at 503");
    found(&check_source(&report.record, value).2, "source goes on at 504");
    let report = Writer::usual().bend(60, |l| l.wide ^= 1).write().report();
    assert!(report.faults.is_empty());
    found(&check_source(&report.record, value).2, "entry 60: value");
    let report = Writer::usual().bend(2, |l| l.t_ns = 1).write().report();
    found(&check_source(&report.record, value).2, "goes on at 1, the samples before it end at 0");
}

#[test]
fn damaged_headers_are_found() {
    let damage = |at: u64, bytes: &[u8], seal: bool| {
        let disk = Writer::usual().write();
        let path = disk.segment(400);
        poke(&path, at, bytes);
        if seal {
            let header = sealed(fs::read(&path).unwrap()[..4096].to_vec());
            poke(&path, 0, &header);
        }
        disk.report().faults
    };
    found(&damage(50, &[1], false), "header has a bad CRC");
    found(&damage(0, b"J", true), "magic or layout");
    found(&damage(16, &[64], true), "magic or layout");
    found(&damage(24, &[1], true), "log_id or channel table differs");
    found(&damage(64, b"x", true), "log_id or channel table differs");
    found(&damage(32, &[9, 9], true), "header says first seq");
    found(&damage(40, &[9], true), "segment header says epoch 9");
}

#[test]
fn missing_and_overlapping_segments_are_found() {
    let w = Writer::usual();
    let disk = w.write_cut(&[400, 700]);
    fs::remove_file(disk.segment(400)).unwrap();
    found(&disk.report().faults, "hole");
    let disk = w.write();
    fs::remove_file(disk.segment(1)).unwrap();
    found(&disk.report().faults, "begins with entry 400");
    let disk = w.write();
    let length = fs::metadata(disk.segment(1)).unwrap().len();
    poke(&disk.segment(1), length, &w.lines[399].bytes());
    found(&disk.report().faults, "holds more");
    let disk = w.write();
    fs::File::options().write(true).open(disk.segment(1)).unwrap().set_len(length - 7).unwrap();
    found(&disk.report().faults, "hole");
}

#[test]
fn of_two_segments_the_bad_one_yields() {
    let w = Writer::usual();
    let disk = w.write();
    let bad = disk.path("00000000000000000001.seg.bad");
    fs::rename(disk.segment(1), &bad).unwrap();
    let length = fs::metadata(&bad).unwrap().len();
    poke(&bad, length, &[0x55; 3200]);
    let report = disk.report();
    assert!(report.faults.is_empty(), "{}", report.faults);
    assert_eq!(report.record.entry(400), Some(w.lines[399].bytes()));
    assert_eq!(report.record.entry(399), Some(w.lines[398].bytes()));
    // The same first seq in both.
    fs::copy(disk.segment(400), disk.path("00000000000000000400.seg.bad")).unwrap();
    poke(&disk.path("00000000000000000400.seg.bad"), 5000, &[9; 500]);
    assert!(disk.report().faults.is_empty());
    // A bad segment that counts is judged like any other.
    poke(&bad, 5000, &[9; 32]);
    found(&disk.report().faults, "bad CRC");
}

#[test]
fn the_mark_is_held_to_its_word() {
    let w = Writer::usual();
    let n = w.lines.len() as u64;
    let with = |m: Vec<u8>| {
        let disk = w.write();
        poke(&disk.path("durable.mark"), 0, &m);
        disk.report().faults
    };
    found(&with(mark(9, n + 1, 4, 508, w.index)), "durable, the record has");
    found(&with(mark(9, n, 3, 508, w.index)), "the mark says");
    found(&with(mark(9, n, 4, 508, w.index + 1)), "the mark says");
    found(&with(mark(9, n, 4, 2, w.index)), "the mark says");
    let disk = w.write();
    fs::write(disk.path("durable.mark"), vec![0; 8192]).unwrap();
    found(&disk.report().faults, "no valid mark");
}

#[test]
fn a_torn_tail_is_told_from_damage() {
    let w = Writer::usual();
    let n = w.lines.len() as u64;
    let disk = w.write();
    let segment = disk.segment(400);
    let length = fs::metadata(&segment).unwrap().len();
    poke(&segment, length, &[0; 50]);
    let report = disk.report();
    assert!(report.faults.is_empty(), "{}", report.faults);
    assert_eq!((report.last, report.tail_bytes), (n, 50));
    assert_eq!(report.record.entry(n + 1), None);
    poke(&segment, length - 32, &[0; 32]);
    found(&disk.report().faults, "bad CRC");
}

#[test]
fn a_lost_or_changed_acceptance_is_found() {
    let w = Writer::usual();
    let n = w.lines.len() as u64;
    let record = w.write().report().record;
    let seen: Vec<[u8; 32]> = w.lines.iter().map(|l| l.bytes()).collect();
    assert!(check_accepted(&record, &seen).is_empty());
    let lost = Line { seq: n + 1, ..w.lines[9] }.bytes();
    found(&check_accepted(&record, [&lost]), "was accepted");
    let other = Line { wide: 3, ..w.lines[9] }.bytes();
    found(&check_accepted(&record, [&other]), "accepted as");
}

/// Recomputed the naive way, with nothing but a loop.
fn row(w: &Writer, n: u64) -> Published {
    let lines = &w.lines[..n as usize];
    let samples: Vec<(i128, u64)> =
        lines.iter().filter(|l| l.kind == SAMPLE).map(|l| (l.wide as u32 as i32 as i128, l.t_ns)).collect();
    let lost = |reason| {
        lines.iter().filter(|l| l.kind == LOSS && l.flags == reason).map(|l| l.wide as u32 as u64).sum()
    };
    let rate = match epoch_samples(w, n).as_slice() {
        [.., (a, a_ns), (b, b_ns)] => (b - a, b_ns - a_ns),
        _ => (0, 0),
    };
    let (min, max) = (samples.iter().min_by_key(|s| s.0), samples.iter().max_by_key(|s| s.0));
    Published {
        n,
        epoch: lines[n as usize - 1].epoch,
        channel: if samples.is_empty() { u16::MAX } else { 0 },
        count: samples.len() as u64,
        sum: samples.iter().map(|s| s.0).sum(),
        sum_squares: samples.iter().map(|s| (s.0 * s.0) as u128).sum(),
        min: min.map_or(0, |s| s.0 as i32),
        max: max.map_or(0, |s| s.0 as i32),
        first: samples.first().map_or(0, |s| s.0 as i32),
        last: samples.last().map_or(0, |s| s.0 as i32),
        t_ns: samples.last().map_or(0, |s| s.1),
        missed: lost(MISSED),
        full: lost(FULL),
        bad: lost(BAD),
        abandoned: lost(ABANDONED),
        corrupt: 0,
        unread: lost(UNREAD),
        more: More { change: rate.0, time_ns: rate.1, ..More::default() },
    }
}

/// The samples of the epoch in which line n stands, and their t.
fn epoch_samples(w: &Writer, n: u64) -> Vec<(i64, u64)> {
    let lines = &w.lines[..n as usize];
    let begin = lines.iter().rposition(|l| l.kind == EPOCH).unwrap_or(0);
    let samples = lines[begin..].iter().filter(|l| l.kind == SAMPLE);
    samples.map(|l| (l.wide as u32 as i32 as i64, l.t_ns)).collect()
}

/// The last closed window of 100 samples, by steps of 50, with its median and its largest.
fn window_row(w: &Writer, n: u64) -> Published {
    let all = epoch_samples(w, n);
    let asked = [50_000_000, 100_000_000, 0, 0, 0, 0, 0, 0];
    let more = More { window: 1, unit: 2, size: 100, step: 50, percentiles: 2, asked, ..More::default() };
    let row = Published { more, ..row(w, n) };
    let to = all.len() / 50 * 50;
    if to < 100 {
        let none =
            Published { count: 0, sum: 0, sum_squares: 0, min: 0, max: 0, first: 0, last: 0, t_ns: 0, ..row };
        return none;
    }
    let inside = &all[to - 100..to];
    let mut values: Vec<i64> = inside.iter().map(|s| s.0).collect();
    let (first, last) = (values[0] as i32, values[99] as i32);
    values.sort();
    let (min, max) = (values[0] as i32, values[99] as i32);
    let codes = [values[49] as i32, max, 0, 0, 0, 0, 0, 0];
    let (from, to) = (to as u64 - 100, to as u64);
    Published {
        count: 100,
        sum: values.iter().sum::<i64>() as i128,
        sum_squares: values.iter().map(|v| (v * v) as u128).sum(),
        min,
        max,
        first,
        last,
        t_ns: inside[99].1,
        more: More { closed: 1, known: 1, from, to, codes, ..more },
        ..row
    }
}

#[test]
fn wrong_windows_are_found() {
    let w = Writer::usual();
    let n = w.lines.len() as u64;
    let record = w.write().report().record;
    let rows: Vec<Published> = (10..=n).map(|n| window_row(&w, n)).collect();
    let faults = check_statistics(&record, &rows);
    assert!(faults.is_empty(), "{faults}");
    let lies: [fn(&mut Published); 10] = [
        |r| r.count += 1,
        |r| r.sum -= 1,
        |r| r.sum_squares += 1,
        |r| r.max += 1,
        |r| r.last += 1,
        |r| r.t_ns += 1,
        |r| r.more.from += 50,
        |r| r.more.closed = 0,
        |r| r.more.codes[0] += 1,
        |r| r.more.codes[2] += 1,
    ];
    for (i, lie) in lies.into_iter().enumerate() {
        let mut told = window_row(&w, 480);
        lie(&mut told);
        assert!(!check_statistics(&record, &[told]).is_empty(), "lie {i}");
    }
    let lies: [fn(&mut More); 4] =
        [|m| m.change += 1, |m| m.time_ns -= 1, |m| m.ewma += 1, |m| (m.percentiles, m.known) = (1, 1)];
    for (i, lie) in lies.into_iter().enumerate() {
        let mut told = row(&w, 480);
        lie(&mut told.more);
        assert!(!check_statistics(&record, &[told]).is_empty(), "lie {i} about the totals");
    }
}

/// Above 60 until 40 or less, faster than 20,000 a second; two in a row.
fn watched_row(w: &Writer, n: u64) -> Published {
    let mut limits = [0; 40];
    (limits[0], limits[4], limits[8], limits[12]) = (1, 2, 60, 40);
    limits[24..26].copy_from_slice(&20_000u16.to_le_bytes());
    limits[32] = 1;
    let (mut on, mut runs, mut changes, mut seq) = ([false; 2], [0; 2], 0, 0);
    let mut before: Option<(i64, u64)> = None;
    for (line, at) in w.lines[..n as usize].iter().zip(1..) {
        if line.kind == EPOCH {
            before = None;
        }
        if line.kind != SAMPLE {
            continue;
        }
        let value = i64::from(line.wide as u32 as i32);
        let rate = before
            .replace((value, line.t_ns))
            .map(|(v, t)| (value - v).abs() * 1_000_000_000 > 20_000 * (line.t_ns - t) as i64);
        let said = [if on[0] { value <= 40 } else { value > 60 }, rate.is_some_and(|beyond| beyond != on[1])];
        let was = on;
        for i in 0..2 {
            if i == 1 && rate.is_none() {
                continue;
            }
            runs[i] = if said[i] { runs[i] + 1 } else { 0 };
            if runs[i] == 2 {
                (on[i], runs[i]) = (!on[i], 0);
            }
        }
        if on != was {
            (changes, seq) = (changes + 1, at);
        }
    }
    let on = u8::from(on[0]) | u8::from(on[1]) << 2;
    let row = row(w, n);
    Published { more: More { alarms: Alarms { on, changes, seq, limits }, ..row.more }, ..row }
}

#[test]
fn wrong_alarms_are_found() {
    let w = Writer::usual();
    let record = w.write().report().record;
    let rows: Vec<Published> = (10..=w.lines.len() as u64).map(|n| watched_row(&w, n)).collect();
    let most = rows.iter().map(|row| row.more.alarms.changes).max();
    assert!(most > Some(10), "too little happens to tell anything: {most:?}");
    let faults = check_statistics(&record, &rows);
    assert!(faults.is_empty(), "{faults}");
    let lies: [fn(&mut Alarms); 5] =
        [|a| a.on ^= 1, |a| a.on ^= 4, |a| a.changes += 1, |a| a.seq += 1, |a| a.limits[4] = 1];
    for (i, lie) in lies.into_iter().enumerate() {
        let mut told = watched_row(&w, 480);
        lie(&mut told.more.alarms);
        assert!(!check_statistics(&record, &[told]).is_empty(), "lie {i}");
    }
}

#[test]
fn wrong_statistics_are_found() {
    let w = Writer::usual();
    let n = w.lines.len() as u64;
    let record = w.write().report().record;
    let rows: Vec<Published> = (1..=n).rev().map(|n| row(&w, n)).collect();
    let faults = check_statistics(&record, &rows);
    assert!(faults.is_empty(), "{faults}");
    let lies: [fn(&mut Published); 14] = [
        |r| r.n += 1,
        |r| r.n = 1 << 40,
        |r| r.epoch += 1,
        |r| r.channel = 1,
        |r| r.count -= 1,
        |r| r.sum += 1,
        |r| r.sum_squares += 1,
        |r| r.min -= 1,
        |r| r.first += 1,
        |r| r.last += 1,
        |r| r.t_ns += 1,
        |r| r.missed += 1,
        |r| r.bad -= 1,
        |r| r.corrupt += 1,
    ];
    for (i, lie) in lies.into_iter().enumerate() {
        let mut told = row(&w, 600);
        lie(&mut told);
        assert!(!check_statistics(&record, &[told]).is_empty(), "lie {i}");
    }
}

#[test]
fn sums_beyond_64_bits_are_exact() {
    let mut w = Writer::new();
    w.open_epoch();
    for i in 0..200_000u64 {
        w.put(tick(i), if i % 3 == 0 { i32::MIN as u32 } else { i32::MAX as u32 } as u64, SAMPLE, 0);
    }
    w.index = 200_000;
    let report = w.write_cut(&[]).report();
    assert!(report.faults.is_empty(), "{}", report.faults);
    let full = row(&w, w.lines.len() as u64);
    assert!(full.sum_squares > u64::MAX as u128);
    assert!(check_statistics(&report.record, &[full]).is_empty());
    assert!(
        !check_statistics(&report.record, &[Published { sum_squares: full.sum_squares ^ 1, ..full }])
            .is_empty()
    );
}
