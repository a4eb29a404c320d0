//! Where the record is that a command is about.
#![forbid(unsafe_code)]

use std::io;
use std::path::PathBuf;

use ipc_pipeline::args::CommonArgs;
use ipc_pipeline::config::Config;
use ipc_pipeline::daemon::Failure;
use ipc_pipeline::names::{GROUP, Names, Scope};
use ipc_pipeline::reader::RecordReader;

/// Exit code: the record cannot be read.
pub const EXIT_UNREADABLE: u8 = 2;

/// Where the record is, and whose it is; only the record where a directory is given.
pub struct Place {
    /// The directory of the record.
    pub record: PathBuf,
    /// The instance that the record belongs to.
    pub names: Option<Names>,
}

impl Place {
    /// The directory, if one is given; else that of the instance.
    ///
    /// # Errors
    /// The configuration has faults, or the instance has no record.
    pub fn find(common: &CommonArgs, dir: Option<PathBuf>) -> Result<Place, Failure> {
        if let Some(record) = dir {
            return Ok(Place { record, names: None });
        }
        let (_, names) = instance(common)?;
        let record = names.record_dir();
        if !record.exists() {
            let (name, dir) = (names.instance(), record.display());
            let text = format!(
                "instance {name} has no record: there is no {dir}; look at --name and XDG_STATE_HOME"
            );
            return Err(Failure::new(EXIT_UNREADABLE, text));
        }
        Ok(Place { record, names: Some(names) })
    }

    /// The record, opened.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(&self) -> Result<RecordReader, Failure> {
        RecordReader::open(&self.record).map_err(unreadable)
    }
}

/// Configuration and names of an instance that this user may look at.
///
/// # Errors
/// The configuration has faults, or as [`may_look`].
pub fn instance(common: &CommonArgs) -> Result<(Config, Names), Failure> {
    let (config, names) = common.resolve().map_err(|e| Failure::new(e.exit_code(), e))?;
    may_look(&names)?;
    Ok((config, names))
}

/// Of the pipelines of the machine others than the superuser and the group see nothing: to them it would seem that none runs.
///
/// # Errors
/// This user is one of these.
pub fn may_look(names: &Names) -> Result<(), Failure> {
    let dirs = [names.run_dir(), names.state_dir()].into_iter().filter(|_| names.scope() == Scope::System);
    for dir in dirs {
        if let Err(why) = std::fs::metadata(dir.join("."))
            && why.kind() == io::ErrorKind::PermissionDenied
        {
            return Err(Failure::system(format!(
                "cannot look into {}: {why}; only root and members of the group {GROUP} may: `adduser NAME {GROUP}` as root, then log in anew",
                dir.display()
            )));
        }
    }
    Ok(())
}

/// The record cannot be read.
pub fn unreadable(e: impl ToString) -> Failure {
    Failure::new(EXIT_UNREADABLE, e)
}
