//! `fifo`: a pipe that workers find by its path.
#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};

use super::mechanism::{Mechanism, send_whole};
use super::place::Place;
use super::sums::Sums;

/// The reading end. It holds a writing end too, so that it never comes to an end between two workers.
pub struct Fifo {
    path: PathBuf,
    pipe: File,
}

fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    options.custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)
}

impl Fifo {
    pub fn make(place: &Place) -> io::Result<Fifo> {
        let path = place.file("fifo");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        let pipe = open(&path, OpenOptions::new().read(true).write(true))?;
        Ok(Fifo { path, pipe })
    }
}

impl Mechanism for Fifo {
    fn at(&self) -> String {
        self.path.display().to_string()
    }

    fn take(&mut self, sums: &mut Sums) -> io::Result<()> {
        sums.drain(|message| self.pipe.read(message))
    }
}

pub fn send(at: &str, message: &[u8]) -> io::Result<()> {
    let mut pipe = open(Path::new(at), OpenOptions::new().write(true))?;
    send_whole(message, || pipe.write(message))
}
