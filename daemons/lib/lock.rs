//! One process for each role: a lock file that the kernel lets go when its holder dies.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};

use crate::publisher::REST_NS;
use crate::sys;

/// A held lock; let go when dropped, or when the process dies.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
    young: bool,
}

/// Why a lock could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error(
        "{path} is held by another process: this instance already has one; stop that one, or give this one another --name"
    )]
    Held {
        /// The lock file.
        path: PathBuf,
    },
    /// The lock file cannot be used.
    #[error(
        "cannot use the lock file {path}: {why}; if it is refused, do this as the pipeline's user, in a pipeline of the machine as root"
    )]
    Unusable {
        /// The lock file.
        path: PathBuf,
        /// The reason given.
        why: io::Error,
    },
}

/// In this time a holder finds out that its lock file is gone: it looks every [`REST_NS`] at least (rule E4), and may have to
/// wait for a processor.
const FOUND_OUT: Duration = Duration::from_nanos(REST_NS + REST_NS / 2);
/// How often a lock that is held is tried again.
const RETRY: Duration = Duration::from_millis(10);

impl Lock {
    /// Takes the lock, waiting up to `patience` for another holder to go. The file is made (0600) if it is not there.
    pub fn take(path: &Path, patience: Duration) -> Result<Lock, LockError> {
        let unusable = |why: io::Error| LockError::Unusable { path: path.into(), why };
        let until = Instant::now() + patience;
        loop {
            let file = open(path).map_err(unusable)?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    let age = age(&file);
                    // Perhaps this file, whoever made it, replaces one that was deleted under a living holder: that
                    // one finds it out and ends. Until then we do nothing.
                    let young = age < FOUND_OUT;
                    std::thread::sleep(FOUND_OUT.saturating_sub(age));
                    let lock = Lock { file, path: path.into(), young };
                    if lock.leads_to_it().map_err(unusable)? {
                        return Ok(lock);
                    }
                }
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < until => std::thread::sleep(RETRY),
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(LockError::Held { path: path.into() }),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(unusable(e.into())),
            }
        }
    }

    /// Does the path still lead to the locked file? If not, somebody else may hold the lock of the same name: the
    /// holder must end. What the system does not tell now is asked again at the next look.
    pub fn is_current(&self) -> bool {
        self.leads_to_it().unwrap_or_else(|e| sys::is_momentary(&e))
    }

    fn leads_to_it(&self) -> io::Result<bool> {
        let at_path = match std::fs::symlink_metadata(&self.path) {
            Err(e) if !sys::is_momentary(&e) => return Ok(false),
            found => found?,
        };
        let held = self.file.metadata()?;
        Ok((held.ino(), held.dev()) == (at_path.ino(), at_path.dev()))
    }

    /// Was the file so new when it was locked that it may replace one whose holder still lives?
    pub fn was_young(&self) -> bool {
        self.young
    }

    /// Makes the lock file without taking the lock, if it is not there.
    pub fn make(path: &Path) -> Result<(), LockError> {
        open(path).map(|_| ()).map_err(|why| LockError::Unusable { path: path.into(), why })
    }
}

/// How long ago the file was made; it is never written. Nothing, if the clock says nonsense.
fn age(file: &File) -> Duration {
    let made = file.metadata().and_then(|m| m.modified());
    made.ok().and_then(|t| t.elapsed().ok()).unwrap_or_default()
}

fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = match rustix::fs::open(path, flags | OFlags::CREATE | OFlags::EXCL, Mode::RUSR | Mode::WUSR) {
        Ok(fd) => fd,
        Err(rustix::io::Errno::EXIST) => match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::NOENT) => return open(path), // deleted in between
            Err(e) => return Err(e.into()),
        },
        Err(e) => return Err(e.into()),
    };
    let file = File::from(fd);
    let meta = file.metadata()?;
    let user = rustix::process::geteuid();
    // The superuser takes the locks of all roles, to be sure that none lives.
    let ours = meta.uid() == user.as_raw() || user.is_root();
    if !meta.is_file() || meta.mode() & 0o077 != 0 || !ours {
        return Err(io::Error::other("it is not a plain file of this user with mode 0600; remove it"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn one_holder_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("conv.lock");
        let first = Lock::take(&path, NOW).unwrap();
        assert!(matches!(Lock::take(&path, NOW), Err(LockError::Held { .. })));
        drop(first);
        let second = Lock::take(&path, NOW).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(!second.is_current(), "a holder notices that its file is gone");
        let third = Lock::take(&path, NOW).unwrap();
        assert!(third.is_current() && !second.is_current());
    }

    #[test]
    fn what_is_no_lock_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        assert!(matches!(Lock::take(&path, NOW), Err(LockError::Unusable { .. })));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(Lock::take(&path, NOW), Err(LockError::Unusable { .. })));
    }
}
