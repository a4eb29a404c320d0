//! stat's checkpoints, killed at every instruction of saving one.

use std::path::Path;

use ipc_pipeline::checkpoint::{Checkpoint, list};
use ipc_pipeline::entry::Entry;
use ipc_pipeline::fold::Fold;

use crate::directory::{Told, Watch, in_memory};
use crate::life::{Life, boundaries, dice};

/// Entries from one checkpoint to the next.
const APART: usize = 10;

// The words of `Told`, as numbers of checkpoints from 1.
const SAVING: usize = 0;
const SAVED: usize = 1;

/// All that are ever made; number k was made after entry k * APART.
fn checkpoints(count: usize) -> Vec<Checkpoint> {
    let mut fold = Fold::default();
    let mut all = Vec::new();
    for seq in 1..=(count * APART) as u64 {
        let e = Entry::sample(seq, 1, seq, (seq % 3) as u16, (seq as i32).wrapping_mul(1_000_003));
        fold.fold(&e).unwrap();
        if seq.is_multiple_of(APART as u64) {
            all.push(Checkpoint::new(77, &e, fold.clone()));
        }
    }
    all
}

/// One life: goes on behind the newest checkpoint.
fn stat(dir: &Path, told: &Told, all: &[Checkpoint]) {
    let newest = list(dir).unwrap().first().map_or(0, |(n, _)| *n as usize / APART);
    told.say(SAVED, newest as u64);
    for (k, checkpoint) in all.iter().enumerate().skip(newest) {
        told.say(SAVING, k as u64 + 1);
        checkpoint.save(dir).unwrap();
        told.say(SAVED, k as u64 + 1);
    }
    panic!("there were too few checkpoints");
}

/// Judges what a kill would leave now.
fn look(dir: &Path, told: &Told, all: &[Checkpoint]) -> Result<(), String> {
    let (saving, saved) = (told.get(SAVING), told.get(SAVED));
    let found = list(dir).map_err(|e| e.to_string())?;
    for (n, path) in &found {
        let loaded = Checkpoint::load(path).map_err(|e| e.to_string())?;
        if all.get(*n as usize / APART - 1) != Some(&loaded) {
            return Err(format!("checkpoint {n} is not the one that was made there"));
        }
    }
    let newest = found.first().map_or(0, |(n, _)| n / APART as u64);
    if newest < saved || newest > saving {
        return Err(format!("the newest is {newest}; saved was {saved}, begun {saving}"));
    }
    // Two, so that one can be damaged: from the second on there is always another one.
    if (found.len() as u64) < saved.min(2) {
        return Err(format!("{} are there after {saved}", found.len()));
    }
    Ok(())
}

#[test]
fn checkpoints_can_be_killed_anywhere() {
    let (dir, told) = (in_memory(), Told::new());
    let all = checkpoints(2 + boundaries() as usize / 250);
    let mut watch = Watch::new(dir.path());
    let (mut n, mut lives, mut random) = (0, 0, dice(6));
    while n < 2 * boundaries() {
        lives += 1;
        let mut life = Life::start(|| stat(dir.path(), &told, &all));
        for _ in 0..random.u64(100..80_000) {
            if watch.is_new(&told) {
                look(dir.path(), &told, &all).unwrap_or_else(|e| panic!("life {lives}, boundary {n}: {e}"));
            }
            assert!(life.step());
            n += 1;
        }
        life.kill();
    }
    assert!(told.get(SAVED) > 3, "too few were saved");
}
