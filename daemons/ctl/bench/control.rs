//! The socket between the bench and each of its two processes: messages of text, the first with descriptors.
#![forbid(unsafe_code)]

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use super::mechanism::gone;

/// Descriptors in one message at most.
const FDS: usize = 8;
/// Bytes of one message at most.
const MESSAGE: usize = 1024;

/// Sends a line, with descriptors.
///
/// # Errors
/// The other end is gone.
pub fn tell(socket: impl AsFd, line: &str, fds: &[OwnedFd]) -> io::Result<()> {
    let fds: Vec<BorrowedFd> = fds.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS))];
    let mut with = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !with.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
    }
    sendmsg(socket, &[IoSlice::new(line.as_bytes())], &mut with, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Waits for a line.
///
/// # Errors
/// The other end is gone, or what it says is no text.
pub fn hear(socket: impl AsFd) -> io::Result<(String, Vec<OwnedFd>)> {
    receive(socket, RecvFlags::CMSG_CLOEXEC)
}

/// The next line, if it has come.
///
/// # Errors
/// As [`hear`].
pub fn heard(socket: impl AsFd) -> io::Result<Option<String>> {
    match receive(socket, RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT) {
        Ok((line, _)) => Ok(Some(line)),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(e) => Err(e),
    }
}

fn receive(socket: impl AsFd, flags: RecvFlags) -> io::Result<(String, Vec<OwnedFd>)> {
    let mut bytes = [0; MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS))];
    let mut with = RecvAncillaryBuffer::new(&mut space);
    let n = recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut with, flags)?.bytes;
    let mut fds = Vec::new();
    for message in with.drain() {
        if let RecvAncillaryMessage::ScmRights(came) = message {
            fds.extend(came);
        }
    }
    match bytes.get(..n).unwrap_or_default() {
        [] => Err(gone()),
        line => Ok((String::from_utf8_lossy(line).into_owned(), fds)),
    }
}
