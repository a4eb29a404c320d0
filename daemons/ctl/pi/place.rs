//! Where the objects of one run are: a directory of its own, whose name is in every other name. The directory is locked as
//! long as the run lives, so that what is left of one that was killed is known, and removed by the next one.
#![forbid(unsafe_code)]

use std::fs::{DirBuilder, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ipc_pipeline::names::shm_path;
use ipc_pipeline::sys::{self, MessageQueue};
use rustix::fs::{FlockOperation, OFlags, flock};

/// The front of every name.
const PREFIX: &str = "ipc-pipeline-pi.";
/// The file with the number of a System V queue, which has no name.
const NUMBER: &str = "sysv";

/// The directory of one run, removed with all that is in it when the value is dropped.
pub struct Place {
    /// A number that nobody guesses: it tells messages of this run from all others.
    pub tag: u64,
    name: String,
    dir: PathBuf,
    _locked: File,
}

/// The standard library gives random numbers of the system by its hashers only.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// The directory, open and locked; `None`: whoever made it lives, or it is none of ours.
fn locked(dir: &Path) -> Option<File> {
    let flags = (OFlags::DIRECTORY | OFlags::NOFOLLOW).bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(dir).ok()?;
    let ours = file.metadata().is_ok_and(|is| is.uid() == rustix::process::geteuid().as_raw());
    (ours && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()).then_some(file)
}

impl Place {
    /// Makes it below TMPDIR, for this user only, and removes what killed runs have left there.
    pub fn make() -> io::Result<Place> {
        let above = std::env::temp_dir();
        sweep(&above);
        loop {
            let name = format!("{PREFIX}{}.{:016x}", std::process::id(), random());
            let dir = above.join(&name);
            let said = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", dir.display()));
            DirBuilder::new().mode(0o700).create(&dir).map_err(said)?;
            // Before it was locked another run may have taken it for one that is left.
            if let Some(locked) = locked(&dir)
                && sys::links(&locked)? > 0
            {
                return Ok(Place { tag: random(), name, dir, _locked: locked });
            }
        }
    }

    /// A file of this run.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The name of its message queue.
    pub fn queue(&self) -> String {
        queue(&self.name)
    }

    /// Its segment.
    pub fn segment(&self) -> PathBuf {
        shm_path(&self.name)
    }

    /// Notes its System V queue.
    pub fn note(&self, queue: &MessageQueue) -> io::Result<()> {
        std::fs::write(self.file(NUMBER), noted(queue.id()))
    }
}

/// A number means a queue only since the machine has started, and in one namespace.
fn noted(id: i32) -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let space = std::fs::read_link("/proc/self/ns/ipc").unwrap_or_default();
    format!("{id} {} {}", space.display(), boot.trim_end())
}

fn queue(name: &str) -> String {
    format!("/{name}")
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Removes what is left of runs that were killed. What cannot be removed now is tried again by the next run.
fn sweep(above: &Path) {
    for entry in std::fs::read_dir(above).into_iter().flatten().flatten() {
        let (name, dir) = (entry.file_name(), entry.path());
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        let Some(_locked) = locked(&dir) else { continue };
        let _ = posixmq::remove_queue(&queue(name));
        let _ = std::fs::remove_file(shm_path(name));
        remove_noted(&dir);
        let _ = std::fs::remove_dir_all(&dir);
    }
}

fn remove_noted(dir: &Path) {
    let text = std::fs::read_to_string(dir.join(NUMBER)).unwrap_or_default();
    if let Some(id) = text.split(' ').next().and_then(|id| id.parse().ok())
        && text == noted(id)
    {
        let _ = MessageQueue::of(id).remove();
    }
}
