//! `unix:`, a socket in the file system that keeps messages together and in order (SOCK_SEQPACKET); the kernel says who is at
//! the other end.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
    send, socket_with, sockopt,
};

use super::{CarrierError, MESSAGE, Owner, check_owner, give, is_sender, look, unlink, user_of};
use crate::edge::{Inlet, Outlet, Sent};
use crate::names::{Names, Role, Scope};

/// Room for messages on their way; the kernel may give less (net.core.wmem_max).
const ROOM: usize = 1 << 20;

/// Connections looked at in one turn.
const KNOCKS_MAX: usize = 8;

/// Makes the directory in which the receiver puts its socket: nobody but it and who sends to it gets through.
pub fn make(names: &Names, receiver: Role, owner: Option<Owner>) -> Result<(), CarrierError> {
    let dir = names.socket_dir(receiver);
    let mode = dir_mode(names);
    match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made
            .and_then(|()| give(&dir, mode, owner))
            .map_err(|why| CarrierError::new("make the directory", dir.display(), why)),
    }
}

fn dir_mode(names: &Names) -> u32 {
    match names.scope() {
        Scope::User => 0o700,
        Scope::System => 0o710,
    }
}

fn socket() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}

fn address(path: &PathBuf) -> Result<SocketAddrUnix, CarrierError> {
    SocketAddrUnix::new(path).map_err(|e| {
        CarrierError::new("name the socket", path.display(), e)
            .with("a socket's path has 107 bytes at most: choose a shorter directory or instance name")
    })
}

/// The receiving end: one connection at a time, of who sends.
pub struct Receiving {
    names: Names,
    receiver: Role,
    path: PathBuf,
    /// Device and inode of our own name.
    made: (u64, u64),
    listener: OwnedFd,
    connection: Option<OwnedFd>,
}

impl Receiving {
    /// Puts a socket under the name, in place of what an earlier life left.
    pub fn open(names: &Names, receiver: Role) -> Result<Receiving, CarrierError> {
        let path = names.socket(receiver);
        let fault = |why: io::Error| CarrierError::new("listen at the socket", path.display(), why);
        let dir = look(&names.socket_dir(receiver)).map_err(fault)?;
        if !dir.is_dir()
            || Some(dir.uid()) != names.owner(receiver)
            || dir.mode() & !dir_mode(names) & 0o777 != 0
        {
            let text = "its directory belongs to somebody else or is open to others; remove that";
            return Err(fault(io::Error::new(io::ErrorKind::PermissionDenied, text)));
        }
        unlink(&path).map_err(|(_, e)| fault(e))?;
        let listener = socket().map_err(|e| fault(e.into()))?;
        bind(&listener, &address(&path)?).map_err(|e| fault(e.into()))?;
        // Who may come in is said by the directory.
        rustix::fs::chmod(&path, rustix::fs::Mode::from_raw_mode(0o666)).map_err(|e| fault(e.into()))?;
        listen(&listener, 4).map_err(|e| fault(e.into()))?;
        let meta = look(&path).map_err(fault)?;
        let made = (meta.dev(), meta.ino());
        Ok(Receiving { names: names.clone(), receiver, path, made, listener, connection: None })
    }

    /// The newest connection of who sends counts: an older one is that of an earlier life.
    fn accept(&mut self) -> bool {
        let mut accepted = false;
        // Whoever knocks without end must not hold us up.
        for _ in 0..KNOCKS_MAX {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let Ok(connection) = accept_with(&self.listener, flags) else { break };
            let peer = sockopt::socket_peercred(&connection);
            if peer.is_ok_and(|peer| is_sender(&self.names, self.receiver, peer.uid.as_raw())) {
                self.connection = Some(connection);
                accepted = true;
            }
        }
        accepted
    }

    fn read(&mut self, out: &mut [u8]) -> usize {
        let Some(connection) = &self.connection else { return 0 };
        match rustix::io::read(connection, out) {
            Ok(0) => {
                self.connection = None;
                0
            }
            Ok(n) => n,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(_) => {
                self.connection = None;
                0
            }
        }
    }
}

impl Inlet for Receiving {
    fn keeps_messages(&self) -> bool {
        true
    }

    fn recv(&mut self, out: &mut [u8]) -> usize {
        // What an earlier life has sent is read to its end first.
        match self.read(out) {
            0 if self.accept() => self.read(out),
            n => n,
        }
    }

    fn is_stale(&self) -> bool {
        look(&self.path).map(|meta| (meta.dev(), meta.ino())).ok() != Some(self.made)
    }

    fn fds(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [Some(self.listener.as_fd()), self.connection.as_ref().map(AsFd::as_fd)]
    }
}

/// The sending end.
pub struct Sending(OwnedFd);

impl Sending {
    pub fn open(names: &Names, receiver: Role) -> Result<Sending, CarrierError> {
        let path = names.socket(receiver);
        let fault = |why: io::Error| CarrierError::new("connect to the socket", path.display(), why);
        let meta = look(&path).map_err(fault)?;
        if !meta.file_type().is_socket() {
            return Err(fault(io::Error::new(io::ErrorKind::InvalidData, "it is no socket; remove it")));
        }
        let (user, _) = user_of(&meta);
        check_owner(names, receiver, user, 0).map_err(fault)?;
        let socket = socket().map_err(|e| fault(e.into()))?;
        let _ = sockopt::set_socket_send_buffer_size(&socket, ROOM);
        connect(&socket, &address(&path)?).map_err(|e| fault(e.into()))?;
        let peer = sockopt::socket_peercred(&socket).map_err(|e| fault(e.into()))?;
        check_owner(names, receiver, peer.uid.as_raw(), 0).map_err(fault)?;
        Ok(Sending(socket))
    }
}

impl Outlet for Sending {
    fn message_max(&self) -> usize {
        MESSAGE
    }

    fn send(&mut self, message: &[u8]) -> Sent {
        match send(&self.0, message, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(_) => Sent::Sent,
            Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS) => Sent::Full,
            Err(_) => Sent::Gone,
        }
    }

    /// A receiver that begins anew closes the connection: that is Gone.
    fn is_stale(&self) -> bool {
        false
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }
}
