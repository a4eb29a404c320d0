//! `file`: workers append their messages, each by one write; who gathers reads on from where it was.
#![forbid(unsafe_code)]

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

use super::mechanism::Mechanism;
use super::place::Place;
use super::sums::{LEN, Sums};

/// The file, and how far it has been read.
pub struct File {
    path: PathBuf,
    file: std::fs::File,
    read: u64,
}

impl File {
    pub fn make(place: &Place) -> io::Result<File> {
        let path = place.file("sums");
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(File { path, file, read: 0 })
    }
}

impl Mechanism for File {
    fn at(&self) -> String {
        self.path.display().to_string()
    }

    fn take(&mut self, sums: &mut Sums) -> io::Result<()> {
        sums.drain(|message| {
            let whole = self.file.metadata()?.len() >= self.read + LEN as u64;
            let n = if whole { self.file.read_at(message, self.read)? } else { 0 };
            self.read += n as u64;
            Ok(n)
        })
    }
}

pub fn send(at: &str, message: &[u8]) -> io::Result<()> {
    OpenOptions::new().append(true).open(at)?.write_all(message)
}
