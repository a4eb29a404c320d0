//! The witnesses judged: segments made by hand that break one rule each, and the rule must be named.
#![forbid(unsafe_code)]

#[path = "../checker/mod.rs"]
mod checker;
#[path = "mod.rs"]
mod harness;

use checker::{Faults, crc};
use harness::{Lives, Paths, Pipeline, Role, Seen, Witness};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

/// A spool of 256 entries, log's page and the snapshot register, all in order: entries up to 300 accepted, up to 200
/// durable and released.
struct Stage {
    paths: Paths,
    lives: Lives,
    spool: File,
    page: File,
    snapshot: File,
}

static NUMBER: AtomicU64 = AtomicU64::new(0);
const EPOCH: u32 = 3;
const LOG_ID: u64 = 77;

impl Stage {
    fn new() -> Stage {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let paths = Paths::new(&format!("teeth{}-{number}", std::process::id()));
        let spool_header = [(16, 32 | 1 << 32), (24, 256), (32, LOG_ID), (40, EPOCH as u64), (48, 1)];
        let spool = make(paths.spool(), b"IPCPSPL1", 4096 + 256 * 32, &spool_header);
        let page = make(paths.page(Role::Log), b"IPCPPAG1", 4096, &[]);
        let snapshot = make(paths.snapshot(), b"IPCPSNP1", 167_936, &[]);
        (45..=300).for_each(|seq| put_entry(&spool, seq));
        put(&spool, 128, 300);
        put(&spool, 256, 200);
        put(&page, 64, LOG_ID);
        put(&page, 72, EPOCH as u64);
        put(&page, 128, 1);
        put(&page, 256, 250);
        let stage = Stage { paths, lives: Lives::default(), spool, page, snapshot };
        stage.durable(200);
        stage.publish(150);
        stage
    }

    fn durable(&self, seq: u64) {
        put(&self.page, 392, !seq);
        put(&self.page, 384, seq);
    }

    fn publish(&self, n: u64) {
        let mut row = vec![0; 512];
        for (at, v) in [(0, n), (8, 1), (16, EPOCH as u64 | 1 << 48), (24, n), (136, LOG_ID)] {
            row[at..at + 8].copy_from_slice(&v.to_le_bytes());
        }
        let sum = crc(&row[..508]).to_le_bytes();
        row[508..].copy_from_slice(&sum);
        self.snapshot.write_all_at(&row, 4096 + 81_920).unwrap();
        put(&self.snapshot, 128, 1);
    }

    /// Let the witnesses look, do something, let them look again.
    fn seen(&self, then: impl FnOnce(&Stage)) -> Seen {
        let witness = Witness::start(&self.paths, &self.lives);
        witness.look_once();
        then(self);
        witness.look_once();
        witness.finish()
    }

    fn faults(&self, then: impl FnOnce(&Stage)) -> Faults {
        self.seen(then).faults
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        [self.paths.spool(), self.paths.page(Role::Log), self.paths.snapshot()]
            .iter()
            .for_each(|p| Paths::delete(p));
    }
}

fn put(file: &File, at: u64, word: u64) {
    file.write_all_at(&word.to_le_bytes(), at).unwrap();
}

fn make(path: PathBuf, magic: &[u8; 8], len: u64, words: &[(usize, u64)]) -> File {
    let mut h = vec![0; 64];
    h[..8].copy_from_slice(magic);
    words.iter().for_each(|(at, w)| h[*at..at + 8].copy_from_slice(&w.to_le_bytes()));
    let sum = crc(&h[..60]).to_le_bytes();
    h[60..].copy_from_slice(&sum);
    let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
    file.set_len(len).unwrap();
    file.write_all_at(&h, 0).unwrap();
    file
}

fn put_entry(spool: &File, seq: u64) {
    let mut e = [0; 32];
    e[..8].copy_from_slice(&seq.to_le_bytes());
    (e[22], e[24]) = (1, EPOCH as u8);
    let sum = crc(&e[..28]).to_le_bytes();
    e[28..].copy_from_slice(&sum);
    spool.write_all_at(&e, 4096 + 32 * (seq % 256)).unwrap();
}

#[track_caller]
fn found(faults: &Faults, part: &str) {
    assert!(faults.has(part), "expected a fault with {part:?}, got {faults}");
}

#[test]
fn all_in_order_is_no_fault() {
    let seen = Stage::new().seen(|s| {
        s.durable(260);
        put(&s.spool, 256, 220);
        put_entry(&s.spool, 301);
        put(&s.spool, 128, 301);
        s.publish(260);
    });
    assert!(seen.faults.is_empty(), "{}", seen.faults);
    let seqs: Vec<u64> = seen.accepted.iter().map(|e| checker::Entry::read(e).seq).collect();
    assert!([201, 221, 300, 301].iter().all(|s| seqs.contains(s)), "{seqs:?}");
    assert_eq!(seen.published.iter().map(|r| r.n).collect::<Vec<_>>(), [150, 260]);
    assert!(seen.looks >= 4);
}

#[test]
fn crossed_cursors_are_found() {
    found(&Stage::new().faults(|s| put(&s.spool, 256, 201)), "tail > durable");
    found(&Stage::new().faults(|s| s.durable(301)), "durable > head");
    found(&Stage::new().faults(|s| put(&s.spool, 128, 457)), "head > tail + capacity");
    found(&Stage::new().faults(|s| s.durable(199)), "durable fell");
}

#[test]
fn received_that_falls_is_found_within_a_session_only() {
    found(&Stage::new().faults(|s| put(&s.page, 256, 249)), "received of log fell");
    let new_life = |s: &Stage| {
        s.lives[Role::Log as usize].fetch_add(1, Ordering::SeqCst);
        put(&s.page, 256, 200);
        sleep(Duration::from_millis(10));
        put(&s.page, 128, 2);
    };
    let faults = Stage::new().faults(new_life);
    assert!(faults.is_empty(), "{faults}");
}

#[test]
fn a_damaged_slot_is_found_at_both_ends() {
    let damage = |s: &Stage, seq: u64| s.spool.write_all_at(&[1], 4096 + 32 * (seq % 256) + 9).unwrap();
    found(
        &Stage::new().faults(|s| [300, 201].iter().for_each(|seq| damage(s, *seq))),
        "not whole in its slot",
    );
    found(&Stage::new().faults(|s| put(&s.spool, 128, 301)), "entry 301");
    let faults = Stage::new().faults(|s| damage(s, 150));
    assert!(faults.is_empty(), "what is durable may be overwritten: {faults}");
}

#[test]
fn what_stands_above_head_was_not_accepted() {
    let seen = Stage::new().seen(|s| {
        s.durable(300);
        put(&s.spool, 256, 300);
        put_entry(&s.spool, 301);
    });
    assert!(seen.accepted.iter().all(|e| checker::Entry::read(e).seq <= 300));
    assert!(seen.faults.is_empty(), "{}", seen.faults);
}

#[test]
fn statistics_ahead_of_the_disk_are_found() {
    found(&Stage::new().faults(|s| s.publish(201)), "only 200 is durable");
}

#[test]
fn segments_without_a_name_tell_nothing() {
    let faults = Stage::new().faults(|s| {
        Paths::delete(&s.paths.spool());
        put(&s.spool, 128, 9_000);
    });
    assert!(faults.is_empty(), "{faults}");
}

#[test]
fn what_is_left_over_is_found_and_swept() {
    let p = Pipeline::new("");
    fs::write(p.paths.spool(), "left").unwrap();
    assert_eq!(p.objects(), [p.paths.spool()]);
    let path = p.paths.spool();
    drop(p);
    assert!(!path.exists());
}
