//! Entries that are only in the spool and are given up: their number goes into the record, so that nothing vanishes
//! uncounted.
#![forbid(unsafe_code)]

use ipc_pipeline::config::Config;
use ipc_pipeline::daemon::Failure;
use ipc_pipeline::disk::DirDisk;
use ipc_pipeline::entry::{Entry, Kind, LEN, Reason};
use ipc_pipeline::mark::Grant;
use ipc_pipeline::names::Names;
use ipc_pipeline::objects::AtRisk;
use ipc_pipeline::reader::RecordReader;
use ipc_pipeline::record::Record;
use ipc_pipeline::{daemon, sys};

/// Writes a LOSS(abandoned) for this spool into the record and lets a later epoch begin behind it, so that the record takes
/// nothing more of the spool's; all is durable when this returns. Killed anywhere, both are there or neither is, and it
/// can be called again: the loss of one spool is written once.
pub fn write_loss(config: &Config, names: &Names, lost: AtRisk) -> Result<(), Failure> {
    let disk = DirDisk::open(&names.record_dir()).map_err(Failure::system)?;
    let _lock = disk.lock().map_err(Failure::system)?;
    let settings = daemon::record_settings(config);
    let (record, _) =
        Record::open(disk, settings, daemon::nonce().max(1), sys::wall_ns).map_err(Failure::system)?;
    let ours = record.log_id() == lost.log_id;
    // Opening may have found entries behind the mark that were whole: they are in the record now.
    let entries = if ours { lost.head.saturating_sub(record.end()) } else { lost.entries };
    let granted = record.current_grant().map_or(0, |grant| grant.epoch);
    let written = if ours { granted > lost.epoch } else { ends_with_loss(names, &record, lost.head) };
    if written || entries == 0 {
        return Ok(());
    }
    let (seq, epoch) = (record.end() + 1, record.epoch());
    let count = u32::try_from(entries).unwrap_or(u32::MAX); // a spool has at most 2^26 entries
    let loss = Entry::loss(seq, epoch, lost.head, Reason::Abandoned, count);
    let next = lost.epoch.max(epoch).max(granted) + 1;
    let grant = Grant { nonce: daemon::nonce(), epoch: next, base: seq + 1 };
    record.give_up(&loss, grant).map_err(Failure::system)
}

/// Is the last entry the LOSS of a spool that ended with `head`? The epochs of another record's spool tell nothing, but
/// nothing can follow its loss while it is there.
fn ends_with_loss(names: &Names, record: &Record<DirDisk>, head: u64) -> bool {
    entry(names, record.end())
        .is_some_and(|last| last.kind() == Some(Kind::Loss(Reason::Abandoned)) && last.t_ns == head)
}

fn entry(names: &Names, seq: u64) -> Option<Entry> {
    let mut bytes = Vec::new();
    RecordReader::open(&names.record_dir()).ok()?.read(seq, 1, &mut bytes).ok()?;
    bytes.first_chunk::<LEN>().map(Entry::from_bytes)
}
