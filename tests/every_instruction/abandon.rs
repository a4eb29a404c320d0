//! `objects remove --abandon`, killed at every instruction of what it does to the record: what the spool still holds is
//! either given up and counted, or it is neither; never both counted and taken.

use std::path::Path;

use ipc_pipeline::entry::{Entry, Reason};
use ipc_pipeline::mark::Grant;

use crate::directory::{Told, Watch, copy, in_memory};
use crate::life::Life;
use crate::record::{EPOCH, SEGMENT, bytes, entry, grant, open};

/// The spool ends here, in the first epoch.
const HEAD: u64 = EPOCH;

fn loss(end: u64) -> Entry {
    Entry::loss(end + 1, 1, HEAD, Reason::Abandoned, (HEAD - end) as u32)
}

fn next_epoch(end: u64) -> Grant {
    Grant { nonce: 9, epoch: 2, base: end + 2 }
}

/// The record that the command finds: `end` entries, the last of them not yet named by the mark.
fn prepare(dir: &Path, end: u64) {
    let (mut record, _) = open(dir, 100).unwrap();
    record.grant(grant(1)).unwrap();
    record.append(&bytes(1..=end - 1)).unwrap();
    record.sync().unwrap();
    record.append(&bytes(end..=end)).unwrap();
}

/// The command.
fn abandon(dir: &Path, end: u64) {
    let (record, _) = open(dir, 100).unwrap();
    if record.current_grant() == Some(grant(1)) {
        record.give_up(&loss(end), next_epoch(end)).unwrap();
    }
}

/// Is it given up and counted?
fn is_given_up(dir: &Path, end: u64) -> Result<bool, String> {
    let (_, found) = open(dir, 1)?;
    match (found.durable, found.grant) {
        (last, Some(g)) if last == end && g == grant(1) => Ok(false),
        (last, Some(g)) if last == end + 1 && g == next_epoch(end) => Ok(true),
        _ => Err(format!("half given up: {found:?}")),
    }
}

/// The pipeline starts: what is not given up is taken. The grant of the epoch that did not begin must be forgotten for ever.
fn start(dir: &Path, end: u64) -> Result<(), String> {
    let (mut record, _) = open(dir, 1)?;
    record.append(&bytes(end + 1..=HEAD)).map_err(|e| e.to_string())?;
    record.sync().map_err(|e| e.to_string())?;
    drop(record);
    let (_, found) = open(dir, 1)?;
    let right = (found.durable, found.grant) == (HEAD, Some(grant(1)));
    if right { Ok(()) } else { Err(format!("started instead: {found:?}")) }
}

/// Judges what a kill would leave now, for those who start the pipeline and for those who repeat the command.
fn look(dir: &Path, scratch: &Path, end: u64) -> Result<bool, String> {
    let given_up = is_given_up(&copy(dir, scratch), end)?;
    if !given_up {
        start(&copy(dir, scratch), end)?;
    }
    let again = copy(dir, scratch);
    abandon(&again, end);
    if is_given_up(&again, end)? { Ok(given_up) } else { Err("the command did nothing".into()) }
}

/// Within a segment, at its end, and with nothing but the LOSS for the next one.
#[test]
fn abandoning_can_be_killed_anywhere() {
    assert_eq!(entry(HEAD).epoch, 1);
    for end in [SEGMENT + 3, 2 * SEGMENT - 1, 2 * SEGMENT] {
        let (dir, scratch, told) = (in_memory(), in_memory(), Told::new());
        prepare(dir.path(), end);
        let mut watch = Watch::new(dir.path());
        let mut life = Life::start(|| abandon(dir.path(), end));
        let (mut n, mut given_up) = (0, false);
        loop {
            if watch.is_new(&told) {
                let now =
                    look(dir.path(), scratch.path(), end).unwrap_or_else(|e| panic!("boundary {n}: {e}"));
                assert!(now || !given_up, "boundary {n}: taken back");
                given_up = now;
            }
            n += 1;
            if !life.step() {
                break;
            }
        }
        assert!(look(dir.path(), scratch.path(), end).unwrap(), "it has ended");
        assert!(watch.changed > 3, "only {} changes of the files were seen", watch.changed);
    }
}
