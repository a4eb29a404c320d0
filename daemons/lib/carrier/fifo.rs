//! `fifo:`, a named pipe: a stream of bytes, of which each write of at most PIPE_BUF (4096) bytes stays in one piece.
//!
//! Larger writes can be torn by a kill; ours never are larger.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{CarrierError, Owner, check_owner, give, is_at, look};
use crate::edge::{Inlet, Outlet, Sent};
use crate::names::{Names, Role};

/// What is written in one piece or not at all.
const MESSAGE: usize = rustix::pipe::PIPE_BUF;
/// Room in the pipe: as much as everybody may ask for. Refused, the 64 KiB that it has will do.
const ROOM: usize = 1 << 20;

/// Makes the FIFO.
pub fn make(names: &Names, receiver: Role, owner: Option<Owner>) -> Result<(), CarrierError> {
    let path = names.fifo(receiver);
    let fault = |why: io::Error| CarrierError::new("make the FIFO", path.display(), why);
    let mode = Mode::from_raw_mode(0o600);
    match rustix::fs::mknodat(CWD, &path, FileType::Fifo, mode, 0) {
        Err(Errno::EXIST) => Ok(()),
        made => {
            made.map_err(io::Error::from).and_then(|()| give(&path, names.inlet_mode(), owner)).map_err(fault)
        }
    }
}

fn open(names: &Names, receiver: Role, flags: OFlags) -> Result<(PathBuf, OwnedFd), CarrierError> {
    let path = names.fifo(receiver);
    let fault = |why: io::Error| CarrierError::new("open the FIFO", path.display(), why);
    let no_fifo = || fault(io::Error::new(io::ErrorKind::InvalidData, "it is no FIFO; remove it"));
    // First looked at: opening what is no FIFO may do anything.
    if !look(&path).map_err(fault)?.file_type().is_fifo() {
        return Err(no_fifo());
    }
    let flags = flags | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = rustix::fs::open(&path, flags, Mode::empty());
    // Without a reader it cannot be written to: nobody listens.
    let file =
        file.map_err(|e| if e == Errno::NXIO { Errno::NOENT } else { e }).map_err(|e| fault(e.into()))?;
    let stat = rustix::fs::fstat(&file).map_err(|e| fault(e.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Fifo {
        return Err(no_fifo());
    }
    check_owner(names, receiver, stat.st_uid, stat.st_mode).map_err(fault)?;
    Ok((path, file))
}

/// The receiving end. It can write as well, so that the pipe never ends, whoever comes and goes.
pub struct Receiving {
    path: PathBuf,
    file: OwnedFd,
}

impl Receiving {
    pub fn open(names: &Names, receiver: Role) -> Result<Receiving, CarrierError> {
        let (path, file) = open(names, receiver, OFlags::RDWR)?;
        let _ = rustix::pipe::fcntl_setpipe_size(&file, ROOM);
        Ok(Receiving { path, file })
    }
}

impl Inlet for Receiving {
    fn keeps_messages(&self) -> bool {
        false
    }

    fn recv(&mut self, out: &mut [u8]) -> usize {
        rustix::io::read(&self.file, out).unwrap_or(0)
    }

    fn is_stale(&self) -> bool {
        !is_at(&self.path, &self.file)
    }

    fn fds(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [Some(self.file.as_fd()), None]
    }
}

/// The sending end. A reader that goes is EPIPE: no signal, as every Rust program ignores SIGPIPE.
pub struct Sending {
    path: PathBuf,
    file: OwnedFd,
}

impl Sending {
    pub fn open(names: &Names, receiver: Role) -> Result<Sending, CarrierError> {
        open(names, receiver, OFlags::WRONLY).map(|(path, file)| Sending { path, file })
    }
}

impl Outlet for Sending {
    fn message_max(&self) -> usize {
        MESSAGE
    }

    fn send(&mut self, message: &[u8]) -> Sent {
        match rustix::io::write(&self.file, message) {
            Ok(_) => Sent::Sent,
            Err(Errno::AGAIN | Errno::INTR) => Sent::Full,
            Err(_) => Sent::Gone,
        }
    }

    fn is_stale(&self) -> bool {
        !is_at(&self.path, &self.file)
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }
}
