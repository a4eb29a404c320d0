//! `pipe` and `socketpair`: no name, workers inherit the other end as their standard output, all of them the same one.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;

use rustix::pipe::{PipeFlags, pipe_with};

use super::mechanism::{Mechanism, send_whole};
use super::sums::Sums;

/// A pipe; so short a write stays together.
pub struct Pipe {
    ours: OwnedFd,
    theirs: OwnedFd,
}

impl Pipe {
    pub fn make() -> io::Result<Pipe> {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Pipe { ours, theirs })
    }
}

impl Mechanism for Pipe {
    fn inherited(&self) -> io::Result<Stdio> {
        self.theirs.try_clone().map(Stdio::from)
    }

    fn take(&mut self, sums: &mut Sums) -> io::Result<()> {
        sums.drain(|message| Ok(rustix::io::read(&self.ours, message)?))
    }
}

/// Two datagram sockets: they keep messages apart, though many write.
pub struct Pair {
    ours: UnixDatagram,
    theirs: UnixDatagram,
}

impl Pair {
    pub fn make() -> io::Result<Pair> {
        let (ours, theirs) = UnixDatagram::pair()?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        Ok(Pair { ours, theirs })
    }
}

impl Mechanism for Pair {
    fn inherited(&self) -> io::Result<Stdio> {
        Ok(OwnedFd::from(self.theirs.try_clone()?).into())
    }

    fn take(&mut self, sums: &mut Sums) -> io::Result<()> {
        sums.drain(|message| self.ours.recv(message))
    }
}

pub fn send(message: &[u8]) -> io::Result<()> {
    send_whole(message, || Ok(rustix::io::write(io::stdout().as_fd(), message)?))
}
