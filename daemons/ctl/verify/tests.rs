//! Tests of `verify` over records written by the formats alone.
#![forbid(unsafe_code)]

use super::*;
use crate::walk::testing::{LOG_ID, entries, mark, record, rot, segment};
use ipc_pipeline::disk::DirDisk;
use ipc_pipeline::entry::Entry;
use ipc_pipeline::fields::put;
use ipc_pipeline::settings::Percentile;
use ipc_pipeline::snapshot::{VERSION_AT, header, slot_at};
use ipc_pipeline::summary::Summary;
use std::fs;
use std::os::unix::fs::PermissionsExt;

fn verify(
    dir: &Path,
    instance: Option<&Instance>,
    checkpoints: Option<&Path>,
) -> Result<Report, VerifyError> {
    super::verify(dir, instance.map(|instance| &instance.0), checkpoints, &Bar::new("", false))
}

/// An instance of which there is only the register, if that.
struct Instance(Names);

impl Instance {
    fn new() -> Instance {
        let name = format!("verify-{}-{:x}", std::process::id(), fastrand::u32(..));
        Instance(Names::for_user(Some(&name)).unwrap())
    }

    fn register(&self) -> PathBuf {
        shm_path(&self.0.snapshot())
    }

    fn write(&self, bytes: &[u8]) {
        fs::write(self.register(), bytes).unwrap();
        fs::set_permissions(self.register(), fs::Permissions::from_mode(0o600)).unwrap();
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.register());
    }
}

fn dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path());
    dir
}

fn register(log_id: u64, fold: Fold) -> Instance {
    let mut bytes = vec![0; REGISTER_LEN];
    put(&mut bytes, 0, header());
    put(&mut bytes, VERSION_AT, 9u64.to_le_bytes());
    let rows = Snapshot::of(&fold, 9, log_id).encode();
    bytes[slot_at(9)..][..rows.len()].copy_from_slice(&rows);
    let instance = Instance::new();
    instance.write(&bytes);
    instance
}

fn fold(n: usize) -> Fold {
    let mut fold = Fold::new();
    entries()[..n].iter().for_each(|e| fold.fold(e).unwrap());
    fold
}

fn broken(dir: &Path) -> Vec<String> {
    let report = verify(dir, None, None).unwrap();
    assert_eq!(report.exit_code(), u8::from(!report.broken.is_empty()));
    report.broken
}

#[test]
fn a_true_record_is_true() {
    let dir = dir();
    let report = verify(dir.path(), None, None).unwrap();
    assert_eq!(report.broken, [""; 0]);
    assert_eq!((report.exit_code(), report.end(), report.stat), (EXIT_TRUE, 20, StatWord::None));
    assert_eq!(report.audit.ticks.planned, 18);
    let text = report.text();
    assert!(
        text.contains("18 planned = 14 taken + 4 empty") && text.ends_with("everything is true\n"),
        "{text}"
    );
    let json = report.json();
    assert_eq!((&json["true"], &json["entries"]), (&json!(true), &json!(20)));
    assert_eq!(json["channels"][1]["mean"], json!("-0.001800"));
}

#[test]
fn rot_is_named_by_seq_and_file() {
    let dir = dir();
    rot(dir.path(), 1, 8);
    rot(dir.path(), 10, 20);
    let broken = broken(dir.path());
    assert_eq!(broken.len(), 2, "{broken:?}");
    assert!(broken[0].starts_with("00000000000000000001.seg: entry 8: damaged"), "{broken:?}");
    assert!(broken[1].starts_with("00000000000000000010.seg: entry 20: damaged"), "{broken:?}");
}

#[test]
fn what_is_torn_above_the_mark_is_no_part_of_the_record() {
    let dir = dir();
    mark(dir.path(), 15);
    rot(dir.path(), 10, 18);
    let report = verify(dir.path(), None, None).unwrap();
    assert_eq!((report.exit_code(), report.end()), (EXIT_TRUE, 17));
}

#[test]
fn a_record_that_is_cut_below_the_mark_is_broken() {
    let dir = dir();
    mark(dir.path(), 21);
    assert_eq!(broken(dir.path()), ["the record ends at entry 20, but durable.mark says 21"]);
    segment(dir.path(), 1, &entries()[..7]);
    mark(dir.path(), 20);
    let found = broken(dir.path());
    assert_eq!(
        found,
        ["00000000000000000001.seg: entry 8: is not in the record, nor are those after it up to entry 10"]
    );
    fs::remove_file(dir.path().join("00000000000000000001.seg")).unwrap();
    assert_eq!(broken(dir.path()).len(), 1);
    fs::remove_file(dir.path().join("durable.mark")).unwrap();
    assert!(broken(dir.path())[1].starts_with("durable.mark is missing"));
}

#[test]
fn damaged_headers_are_found() {
    let dir = dir();
    let path = dir.path().join("00000000000000000001.seg");
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_eq!(broken(dir.path()), ["00000000000000000001.seg: its header is damaged"]);
}

#[test]
fn the_last_word_of_stat_is_compared() {
    let dir = dir();
    let word = |instance: &Instance| verify(dir.path(), Some(instance), None).unwrap();
    for n in 0..=20 {
        let report = word(&register(LOG_ID, fold(n)));
        assert_eq!((report.stat, report.exit_code()), (StatWord::Equal(n as u64), EXIT_TRUE));
    }
    let other = word(&register(5, fold(12)));
    assert_eq!((other.stat, other.exit_code()), (StatWord::OtherRecord, EXIT_TRUE));
    let mut wrong = fold(12);
    wrong.losses.missed += 1;
    let wrong = word(&register(LOG_ID, wrong));
    assert_eq!((wrong.stat, wrong.exit_code()), (StatWord::Different(12), EXIT_BROKEN));
    let mut beyond = fold(20);
    beyond.fold(&Entry::sample(21, 1, 18_000_000, 0, 1)).unwrap();
    let beyond = word(&register(LOG_ID, beyond));
    assert_eq!((beyond.stat, beyond.exit_code()), (StatWord::Different(21), EXIT_BROKEN));
    rot(dir.path(), 1, 8);
    let after_rot = word(&register(LOG_ID, fold(12)));
    assert_eq!((after_rot.stat, after_rot.broken.len()), (StatWord::NotComparable(12), 1));
}

#[test]
fn what_the_summary_no_longer_knows_is_not_compared() {
    let (dir, kept) = (dir(), tempfile::tempdir().unwrap());
    let percentiles = vec![Percentile::new(50_000_000).unwrap()];
    let settings = Settings { percentiles, ..Settings::default() };
    // A summary that was made without percentiles goes on with them; stat has never been without.
    let mut summary = Summary::new(LOG_ID, &Settings::default());
    entries()[..9].iter().for_each(|e| summary.take_bytes(&e.to_bytes()));
    summary.go_on_with(&settings).write(&DirDisk::open(dir.path()).unwrap()).unwrap();
    fs::remove_file(dir.path().join("00000000000000000001.seg")).unwrap();
    let mut fold = Fold::with(&settings);
    entries()[..12].iter().for_each(|e| fold.fold(e).unwrap());
    let says = |fold: Fold| {
        let live = verify(dir.path(), Some(&register(LOG_ID, fold.clone())), None).unwrap();
        Checkpoint::new(LOG_ID, &entries()[11], fold).save(kept.path()).unwrap();
        [live.stat, verify(dir.path(), None, Some(kept.path())).unwrap().stat]
    };
    assert_eq!(says(fold.clone()), [StatWord::SummedUp(9); 2]);
    fold.losses.bad += 1;
    assert_eq!(says(fold), [StatWord::Different(12); 2]);
}

#[test]
fn without_a_register_the_newest_checkpoint_speaks() {
    let (dir, kept) = (dir(), tempfile::tempdir().unwrap());
    let keep = |fold: Fold| {
        let entry = Entry::sample(fold.n, 1, 0, 0, 0);
        Checkpoint::new(LOG_ID, &entry, fold).save(kept.path()).unwrap();
        verify(dir.path(), Some(&Instance::new()), Some(kept.path())).unwrap()
    };
    assert_eq!(keep(fold(12)).stat, StatWord::Equal(12));
    let mut wrong = fold(20);
    wrong.losses.bad += 1;
    let wrong = keep(wrong);
    assert_eq!((wrong.stat, wrong.exit_code()), (StatWord::Different(20), EXIT_BROKEN));
}

#[test]
fn a_register_that_is_not_there_or_torn() {
    let dir = dir();
    let instance = Instance::new();
    assert_eq!(verify(dir.path(), Some(&instance), None).unwrap().stat, StatWord::None);
    instance.write(&[]);
    assert_eq!(verify(dir.path(), Some(&instance), None).unwrap().stat, StatWord::None);
    instance.write(&[7; 200]);
    assert_eq!(verify(dir.path(), Some(&instance), None).unwrap().exit_code(), EXIT_BROKEN);
    let nowhere = verify(&dir.path().join("nowhere"), None, None);
    assert!(nowhere.is_err_and(|e| e.exit_code() == EXIT_UNREADABLE));
}

/// Nobody can make `verify` wait, or believe what is not stat's.
#[test]
fn a_register_that_is_no_plain_file_of_its_owner() {
    let (dir, instance) = (dir(), Instance::new());
    let refused = |what| {
        let why = verify(dir.path(), Some(&instance), None).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(why.contains("cannot read the snapshot register /dev/shm/"), "{what}: {why}");
        let _ = fs::remove_file(instance.register());
    };
    instance.write(&[0; REGISTER_LEN]);
    fs::set_permissions(instance.register(), fs::Permissions::from_mode(0o666)).unwrap();
    refused("everybody may write it");
    std::os::unix::fs::symlink("/dev/zero", instance.register()).unwrap();
    refused("a link");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, instance.register(), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    refused("a FIFO that nobody writes to");
}
