//! Where the objects of one run are: a directory of its own, whose name is in every other name.
#![forbid(unsafe_code)]

use std::fs::DirBuilder;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

/// The front of every name.
const PREFIX: &str = "ipc-pipeline-pi.";

/// The directory of one run, removed with all that is in it when the value is dropped.
pub struct Place {
    /// A number that nobody guesses: it tells messages of this run from all others.
    pub tag: u64,
    name: String,
    dir: PathBuf,
}

impl Place {
    /// Makes it below TMPDIR, for this user only.
    pub fn make() -> io::Result<Place> {
        // The standard library gives random numbers of the system by its hashers only; two, as names are seen by others.
        let random = || RandomState::new().build_hasher().finish();
        let (tag, name) = (random(), format!("{PREFIX}{:016x}", random()));
        let dir = std::env::temp_dir().join(&name);
        let said = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", dir.display()));
        DirBuilder::new().mode(0o700).create(&dir).map_err(said)?;
        Ok(Place { tag, name, dir })
    }

    /// A file of this run.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The name of what is no file.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
