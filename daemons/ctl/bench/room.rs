//! A directory of the bench's own, for names that live only while both ends are being opened.
#![forbid(unsafe_code)]

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

/// The directory; it goes away with this value.
pub struct Room(PathBuf);

impl Room {
    /// A new one, for nobody else.
    ///
    /// # Errors
    /// The directory of temporary files cannot be written.
    pub fn new() -> io::Result<Room> {
        let name = format!("ipc-pipeline-bench-{}-{:x}", std::process::id(), fastrand::u64(..));
        let path = std::env::temp_dir().join(name);
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Room(path))
    }

    /// A name in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
