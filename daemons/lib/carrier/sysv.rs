//! `sysv:`, a System V message queue: messages kept together and in order, in a queue that has a number and no name. The
//! number stands in a file of the run directory, so that it can be found, and nobody can guess a key.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::{CarrierError, MESSAGE, Owner, check_owner, give, look, unlink, user_of};
use crate::edge::{Inlet, Outlet, Sent};
use crate::names::{Names, Role, Scope};
use crate::sys::MessageQueue;

/// Makes the queue and the file that says its number. A file whose queue is gone is of no use and replaced.
pub fn make(names: &Names, receiver: Role, owner: Option<Owner>) -> Result<(), CarrierError> {
    let path = names.sysv(receiver);
    if queue(&path).is_ok_and(|queue| queue.state().is_ok()) {
        return Ok(());
    }
    let fault = |why: io::Error| refused("make the System V queue of", &path, why);
    let queue = MessageQueue::new().map_err(fault)?;
    let (user, group) = owner.map_or((None, None), |owner| (Some(owner.user), Some(owner.group)));
    let made = queue.give(user, group, queue_mode(names)).and_then(|()| write(&path, queue.id(), owner));
    made.map_err(|why| {
        let _ = queue.remove();
        fault(why)
    })
}

/// Who sends must be able to ask for the queue's state, which takes the right to read it.
fn queue_mode(names: &Names) -> u32 {
    match names.scope() {
        Scope::User => 0o600,
        Scope::System => 0o660,
    }
}

/// The file appears whole, so whoever reads it reads a number.
fn write(path: &Path, id: i32, owner: Option<Owner>) -> io::Result<()> {
    let new = path.with_extension("sysv.new");
    std::fs::write(&new, format!("{id}\n"))?;
    give(&new, if owner.is_some() { 0o640 } else { 0o600 }, owner)?;
    std::fs::rename(&new, path)
}

fn refused(what: &'static str, path: &Path, why: io::Error) -> CarrierError {
    let errno = why.raw_os_error().map(Errno::from_raw_os_error);
    let full = errno == Some(Errno::NOSPC);
    // The number is that of no queue any more: to be made again.
    let gone = matches!(errno, Some(Errno::INVAL | Errno::IDRM));
    let why = if gone { io::Error::new(io::ErrorKind::NotFound, why) } else { why };
    let error = CarrierError::new(what, path.display(), why);
    if full {
        error.with("the machine has as many queues as kernel.msgmni allows: `ipcs -q` lists them")
    } else {
        error
    }
}

/// The queue whose number stands in the file.
fn queue(path: &Path) -> io::Result<MessageQueue> {
    let text = std::fs::read_to_string(path)?;
    let id = text.trim_end().parse().ok().filter(|id| *id >= 0);
    id.map(MessageQueue::of)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "there is no number in it; remove it"))
}

/// Bytes that wait in the queue; `None`: there is none.
pub fn waiting(names: &Names, receiver: Role) -> Option<u64> {
    queue(&names.sysv(receiver)).ok()?.state().ok().map(|state| state.bytes)
}

pub fn remove(names: &Names, receiver: Role) -> Result<bool, CarrierError> {
    let path = names.sysv(receiver);
    // Only what is ours is removed: the number may be that of another queue by now.
    if let Ok(queue) = queue(&path)
        && let Ok(state) = queue.state()
        && check_owner(names, receiver, state.user, state.mode & !(queue_mode(names) & 0o040)).is_ok()
    {
        queue
            .remove()
            .map_err(|why| CarrierError::new("remove the System V queue of", path.display(), why))?;
    }
    unlink(&path).map_err(|(path, why)| CarrierError::new("remove", path, why))
}

struct Known {
    path: PathBuf,
    queue: MessageQueue,
    /// What the queue holds at most, in bytes.
    room: u64,
}

impl Known {
    fn open(names: &Names, receiver: Role) -> Result<Known, CarrierError> {
        let path = names.sysv(receiver);
        let fault = |why: io::Error| refused("open the System V queue of", &path, why);
        let meta = look(&path).map_err(fault)?;
        if !meta.is_file() {
            return Err(fault(io::Error::new(io::ErrorKind::InvalidData, "it is no plain file; remove it")));
        }
        let (user, mode) = user_of(&meta);
        check_owner(names, receiver, user, mode & !0o040).map_err(fault)?;
        let queue = queue(&path).map_err(fault)?;
        let state = queue.state().map_err(fault)?;
        check_owner(names, receiver, state.user, state.mode & !(queue_mode(names) & 0o040)).map_err(fault)?;
        Ok(Known { queue, room: state.room, path })
    }

    fn is_stale(&self) -> bool {
        let same = queue(&self.path).is_ok_and(|queue| queue.id() == self.queue.id());
        !same || self.queue.state().is_err()
    }
}

/// The receiving end.
pub struct Receiving(Known);

impl Receiving {
    pub fn open(names: &Names, receiver: Role) -> Result<Receiving, CarrierError> {
        Known::open(names, receiver).map(Receiving)
    }
}

impl Inlet for Receiving {
    fn keeps_messages(&self) -> bool {
        true
    }

    fn recv(&mut self, out: &mut [u8]) -> usize {
        self.0.queue.receive(out).unwrap_or(0)
    }

    fn is_stale(&self) -> bool {
        self.0.is_stale()
    }

    /// Such a queue cannot be polled.
    fn fds(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [None; 2]
    }
}

/// The sending end.
pub struct Sending {
    open: Known,
    message_max: usize,
}

impl Sending {
    pub fn open(names: &Names, receiver: Role) -> Result<Sending, CarrierError> {
        let open = Known::open(names, receiver)?;
        // Two messages fit at least, whatever kernel.msgmnb says; whole rows of 512 bytes.
        let message_max = MESSAGE.min(open.room as usize / 2) & !511;
        if message_max == 0 {
            let why = io::Error::other(format!("it holds {} bytes only", open.room));
            let error = CarrierError::new("use the System V queue of", open.path.display(), why);
            return Err(error.with("kernel.msgmnb must be 1024 at least, 16384 is usual"));
        }
        Ok(Sending { open, message_max })
    }
}

impl Outlet for Sending {
    fn message_max(&self) -> usize {
        self.message_max
    }

    fn send(&mut self, message: &[u8]) -> Sent {
        match self.open.queue.send(message).map_err(|e| Errno::from_io_error(&e)) {
            Ok(()) => Sent::Sent,
            Err(Some(Errno::AGAIN | Errno::INTR)) => Sent::Full,
            Err(_) => Sent::Gone,
        }
    }

    fn is_stale(&self) -> bool {
        self.open.is_stale()
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
