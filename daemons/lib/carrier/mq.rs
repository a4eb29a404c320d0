//! `mq:`, a POSIX message queue: messages of one priority, kept together and in order.
//!
//! Ten messages of 8 KiB are what every Linux gives without a setting (fs.mqueue.msg_max), and enough: the spool is the
//! buffer. The queue file system need not be mounted.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use posixmq::{OpenOptions, PosixMq};
use rustix::fs::{Gid, Mode, Uid};
use rustix::io::Errno;

use super::{CarrierError, MESSAGE, Owner, check_owner, has_no_name};
use crate::edge::{Inlet, Outlet, Sent};
use crate::names::{Names, Role};
use crate::sys;

const CAPACITY: usize = 10;

/// As the system's tools call it.
pub fn path(names: &Names, receiver: Role) -> PathBuf {
    Path::new("/dev/mqueue").join(names.queue(receiver).trim_start_matches('/'))
}

fn place(names: &Names, receiver: Role) -> String {
    format!("the message queue {}", names.queue(receiver))
}

fn refused(what: &'static str, object: String, why: io::Error) -> CarrierError {
    let remedy = match why.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::MFILE) => Some(
            "the limit on the memory of this user's queues is reached: remove queues of pipelines that are gone, or raise LimitMSGQUEUE= (ulimit -q)",
        ),
        Some(Errno::NOSPC) => Some("the machine has as many queues as fs.mqueue.queues_max allows"),
        Some(Errno::INVAL) => Some("fs.mqueue.msg_max must be 10 and fs.mqueue.msgsize_max 8192 at least"),
        Some(Errno::NOSYS) => Some("this kernel has no message queues: choose another carrier"),
        Some(Errno::ACCESS) => Some("does it belong to somebody else?"),
        _ => None,
    };
    let error = CarrierError::new(what, object, why);
    if let Some(remedy) = remedy { error.with(remedy) } else { error }
}

/// Makes the queue. One that is there already and has other limits is made anew: it cannot be ours.
pub fn make(names: &Names, receiver: Role, owner: Option<Owner>) -> Result<(), CarrierError> {
    let fault = |why| refused("make", place(names, receiver), why);
    let name = names.queue(receiver);
    if let Ok(there) = OpenOptions::readonly().nonblocking().open(&name)
        && !is_as_made(&there)
    {
        posixmq::remove_queue(&name).map_err(fault)?;
    }
    let mut options = OpenOptions::readwrite();
    options.mode(0o600).max_msg_len(MESSAGE).capacity(CAPACITY).create_new().nonblocking();
    let queue = match options.open(&name) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => return Ok(()),
        made => made.map_err(fault)?,
    };
    let fd = sys::borrowed(&queue);
    if let Some(Owner { user, group }) = owner {
        let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
        rustix::fs::fchown(fd, Some(user), Some(group)).map_err(|e| fault(e.into()))?;
    }
    rustix::fs::fchmod(fd, Mode::from_raw_mode(names.inlet_mode())).map_err(|e| fault(e.into()))
}

fn is_as_made(queue: &PosixMq) -> bool {
    queue.attributes().is_ok_and(|is| (is.max_msg_len, is.capacity) == (MESSAGE, CAPACITY))
}

/// Bytes that wait in the queue; `None`: there is none, or none that we may read.
pub fn waiting(names: &Names, receiver: Role) -> Option<u64> {
    let queue = OpenOptions::readonly().nonblocking().open(&names.queue(receiver)).ok()?;
    // Read as a file, a queue says how many bytes stand in it: QSIZE:1024 NOTIFY:0 ...
    let mut text = [0; 128];
    let n = rustix::io::read(sys::borrowed(&queue), &mut text).ok()?;
    let text = std::str::from_utf8(text.get(..n)?).ok()?;
    text.strip_prefix("QSIZE:")?.split_whitespace().next()?.parse().ok()
}

pub fn remove(names: &Names, receiver: Role) -> Result<bool, CarrierError> {
    match posixmq::remove_queue(&names.queue(receiver)) {
        Ok(()) => Ok(true),
        // Without queues in the kernel there is none.
        Err(e)
            if e.kind() == ErrorKind::NotFound || e.raw_os_error() == Some(Errno::NOSYS.raw_os_error()) =>
        {
            Ok(false)
        }
        Err(e) => Err(refused("remove", place(names, receiver), e)),
    }
}

fn open(names: &Names, receiver: Role, mut options: OpenOptions) -> Result<PosixMq, CarrierError> {
    let fault = |why| refused("open", place(names, receiver), why);
    let queue = options.nonblocking().open(&names.queue(receiver)).map_err(fault)?;
    let stat = rustix::fs::fstat(sys::borrowed(&queue)).map_err(|e| fault(e.into()))?;
    check_owner(names, receiver, stat.st_uid, stat.st_mode).map_err(fault)?;
    if !is_as_made(&queue) {
        let text = "its limits are not those of ours; remove it, it is made anew with the next start";
        return Err(fault(io::Error::new(ErrorKind::InvalidData, text)));
    }
    Ok(queue)
}

/// The receiving end.
pub struct Receiving(PosixMq);

impl Receiving {
    pub fn open(names: &Names, receiver: Role) -> Result<Receiving, CarrierError> {
        open(names, receiver, OpenOptions::readonly()).map(Receiving)
    }
}

impl Inlet for Receiving {
    fn keeps_messages(&self) -> bool {
        true
    }

    fn recv(&mut self, out: &mut [u8]) -> usize {
        self.0.recv(out).map_or(0, |(_, n)| n)
    }

    fn is_stale(&self) -> bool {
        has_no_name(&sys::borrowed(&self.0))
    }

    fn fds(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [Some(sys::borrowed(&self.0)), None]
    }
}

/// The sending end.
pub struct Sending(PosixMq);

impl Sending {
    pub fn open(names: &Names, receiver: Role) -> Result<Sending, CarrierError> {
        open(names, receiver, OpenOptions::writeonly()).map(Sending)
    }
}

impl Outlet for Sending {
    fn message_max(&self) -> usize {
        MESSAGE
    }

    fn send(&mut self, message: &[u8]) -> Sent {
        match self.0.send(0, message) {
            Ok(()) => Sent::Sent,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Sent::Full,
            Err(_) => Sent::Gone,
        }
    }

    fn is_stale(&self) -> bool {
        has_no_name(&sys::borrowed(&self.0))
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(sys::borrowed(&self.0))
    }
}
