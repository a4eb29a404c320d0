//! `ipc-pipeline archive` sets the record of a stopped pipeline aside, so that the next run begins a new one;
//! `ipc-pipeline compress` makes a record small that nobody writes.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use ipc_pipeline::compress::compress_all;
use ipc_pipeline::daemon::{self, EXIT_SECOND, Failure};
use ipc_pipeline::disk::{DirDisk, DirError, DirLock};
use ipc_pipeline::names::Names;
use ipc_pipeline::reader::RecordReader;
use ipc_pipeline::record::{Record, Settings};
use ipc_pipeline::sys;
use ipc_pipeline::text::counted;
use jiff::Timestamp;
use serde_json::json;

use crate::objects;
use crate::progress::Bar;

/// What was done with a record.
pub struct Done {
    log_id: u64,
    entries: u64,
    /// Where it was and where it is, if it was set aside.
    moved: Option<(PathBuf, PathBuf)>,
    /// Its bytes before and after it was compressed, if it was.
    bytes: Option<(u64, u64)>,
}

impl Done {
    /// For people, a line for each thing done.
    pub fn text(&self) -> String {
        let moved = self.moved.iter().map(|(from, to)| {
            format!(
                "record {:016x} with {} is now {}\nthe next run begins a new record in {}\n",
                self.log_id,
                counted(self.entries, "entry", "entries"),
                to.display(),
                from.display()
            )
        });
        let compressed = self.bytes.iter();
        let compressed =
            compressed.map(|(before, after)| format!("compressed: {before} bytes before, {after} now\n"));
        moved.chain(compressed).collect()
    }

    /// For machines.
    pub fn json(&self) -> String {
        let (before, after) = self.bytes.unzip();
        let value = json!({
            "log_id": format!("{:016x}", self.log_id),
            "entries": self.entries,
            "archive": self.moved.as_ref().map(|(_, to)| to.display().to_string()),
            "bytes_before": before,
            "bytes_after": after,
        });
        format!("{value}\n")
    }
}

/// Sets the record aside as `log-<UTC>` in `to`, without it beside where it was.
pub fn archive(names: &Names, to: Option<&Path>, compressed: bool) -> Result<Done, Failure> {
    // A spool that is left belongs to this record: it goes first, or all stays if it holds what the record does not.
    objects::remove(names, None)?;
    let from = names.record_dir();
    let held = Held::take(&from)?;
    let target = to.unwrap_or(names.state_dir()).join(format!("log-{}", now()));
    rename(&from, &target)?;
    let bytes = if compressed { Some(held.compress()?) } else { None };
    Ok(Done { moved: Some((from, target)), bytes, ..held.done() })
}

/// Compresses all segments of the record in `dir`, which nobody may be writing.
pub fn compress(dir: &Path) -> Result<Done, Failure> {
    let held = Held::take(dir)?;
    Ok(Done { bytes: Some(held.compress()?), ..held.done() })
}

/// A record that nobody else writes while this lives.
struct Held {
    disk: DirDisk,
    _lock: DirLock,
    log_id: u64,
    entries: u64,
}

impl Held {
    /// Takes its lock and recovers it, so that it holds exactly what counts.
    fn take(dir: &Path) -> Result<Held, Failure> {
        let refused = |e: DirError| match e {
            DirError::Busy { .. } => Failure::new(EXIT_SECOND, e),
            _ => Failure::system(e),
        };
        let reader = RecordReader::open(dir).map_err(Failure::system)?;
        let disk = DirDisk::open(dir).map_err(refused)?;
        let _lock = disk.lock().map_err(refused)?;
        // With its own channels: those of the configuration may be others already.
        let settings = Settings { segment_entries: 1, channels: reader.channels().to_vec() };
        let writable =
            disk.try_clone().map_err(|e| Failure::system(format!("cannot open {}: {e}", dir.display())))?;
        let (record, _) = Record::open(writable, settings, daemon::nonce().max(1), sys::wall_ns)
            .map_err(Failure::config)?;
        Ok(Held { disk, _lock, log_id: record.log_id(), entries: record.end() })
    }

    fn done(&self) -> Done {
        Done { log_id: self.log_id, entries: self.entries, moved: None, bytes: None }
    }

    /// Gives its bytes before and after.
    fn compress(&self) -> Result<(u64, u64), Failure> {
        let bar = Bar::new("compressing", true);
        let go_on = |seq: u64| {
            bar.at(seq.saturating_sub(1), self.entries);
            true
        };
        compress_all(&self.disk, &go_on).map_err(Failure::system)
    }
}

/// The present time as part of a name: `20260131T235959Z`.
fn now() -> String {
    let seconds = i64::try_from(sys::wall_ns() / 1_000_000_000).unwrap_or(0);
    Timestamp::from_second(seconds).unwrap_or_default().strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// Renames a directory, for good when this returns.
fn rename(from: &Path, to: &PathBuf) -> Result<(), Failure> {
    let refused = |e: io::Error| {
        let hint = match e.kind() {
            io::ErrorKind::CrossesDevices => {
                "it is another file system: archive without --to, then move the directory"
            }
            io::ErrorKind::NotFound => "make the directory that --to names first",
            _ => "check owner and mode of both directories",
        };
        Failure::system(format!("cannot rename {} to {}: {e}; {hint}", from.display(), to.display()))
    };
    if to.exists() {
        return Err(refused(io::ErrorKind::AlreadyExists.into()));
    }
    std::fs::rename(from, to).map_err(refused)?;
    for dir in [from.parent(), to.parent()].into_iter().flatten() {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(refused)?;
    }
    Ok(())
}
