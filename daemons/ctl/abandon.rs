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

/// Appends a LOSS(abandoned) for this spool to the record, and then lets the record take nothing more of the spool's epoch;
/// both are durable when this returns. Killed anywhere, it can be called again: the loss of one spool is written once, as
/// its head tells; and what is left of the spool after the loss is written is never taken.
pub fn write_loss(config: &Config, names: &Names, lost: AtRisk) -> Result<(), Failure> {
    let disk = DirDisk::open(&names.record_dir(), 0o600).map_err(Failure::system)?;
    let _lock = disk.lock().map_err(Failure::system)?;
    let settings = daemon::record_settings(config);
    let (mut record, _) =
        Record::open(disk, settings, daemon::nonce().max(1), sys::wall_ns).map_err(Failure::system)?;
    let written = entry(names, record.end()).is_some_and(|last| {
        // The count cannot be compared: the loss itself made the record one entry longer.
        last.kind() == Some(Kind::Loss(Reason::Abandoned)) && last.t_ns == lost.head
    });
    // Opening may have found entries behind the mark that were whole: they are in the record now.
    let ours = record.log_id() == lost.log_id;
    let entries = if ours { lost.head.saturating_sub(record.end()) } else { lost.entries };
    if !written && entries > 0 {
        let count = u32::try_from(entries).unwrap_or(u32::MAX); // a spool has at most 2^26 entries
        let loss = Entry::loss(record.end() + 1, record.epoch(), lost.head, Reason::Abandoned, count);
        record.append(&loss.to_bytes()).map_err(Failure::system)?;
    }
    record.sync().map_err(Failure::system)?;
    if record.current_grant().is_none_or(|g| g.epoch <= lost.epoch) {
        let (epoch, base) = (lost.epoch.max(record.epoch()) + 1, record.end() + 1);
        record.grant(Grant { nonce: daemon::nonce(), epoch, base }).map_err(Failure::system)?;
    }
    Ok(())
}

fn entry(names: &Names, seq: u64) -> Option<Entry> {
    let mut bytes = Vec::new();
    RecordReader::open(&names.record_dir()).ok()?.read(seq, 1, &mut bytes).ok()?;
    bytes.first_chunk::<LEN>().map(Entry::from_bytes)
}
