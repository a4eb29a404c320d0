//! `sysv:`, a System V message queue: messages kept together and in order, in a queue that has a key and no name. The key
//! is random, and stands in a file of the run directory before there is a queue: so a kill leaves none that nobody finds.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use super::{
    CarrierError, MESSAGE, Owner, check_owner, give, is_missing, look, speaks_of_the_object, unlink, user_of,
};
use crate::edge::{Inlet, Outlet, Sent};
use crate::names::{Names, Role, Scope};
use crate::sys::{MessageQueue, QueueState};

/// Tries to make a queue: of two billion keys hardly any is taken, and nobody takes the file away all the time.
const TRIES: usize = 32;

/// Makes the file that says the key, and the queue. A file whose queue is gone, or not ours, is of no use and replaced.
pub fn make(names: &Names, receiver: Role, owner: Option<Owner>) -> Result<(), CarrierError> {
    let path = names.sysv(receiver);
    let fault = |why: io::Error| refused("make the System V queue of", &path, why);
    // Of a remover that was killed. Its file stays: another remover may be putting another key there just now.
    remove_queue_of(names, receiver, &taken(&path)).map_err(fault)?;
    for _ in 0..TRIES {
        if is_made(names, receiver).map_err(fault)? || create(names, &path, owner).map_err(fault)? {
            return Ok(());
        }
    }
    Err(fault(Errno::NOENT.into()))
}

/// Is the queue there? One that was made and not given to its owner, for a kill came between, is removed.
fn is_made(names: &Names, receiver: Role) -> io::Result<bool> {
    let found = key_in(&names.sysv(receiver)).and_then(|key| find(names, receiver, key));
    match found {
        // What passes says nothing of the queue: it stays.
        Err(why) if !is_missing(&why) && !is_gone(&why) && !speaks_of_the_object(&why) => Err(why),
        Err(_) => Ok(false),
        Ok((_, state)) if Some(state.user) == names.owner(receiver) => Ok(true),
        Ok((queue, _)) => queue.remove().map(|()| false),
    }
}

/// A queue under a new key. False: another queue has this key, or the file went while the queue was made; nothing is left then.
fn create(names: &Names, path: &Path, owner: Option<Owner>) -> io::Result<bool> {
    let key = fastrand::i32(1..);
    write(path, key, owner)?;
    let queue = match MessageQueue::create(key) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        made => made?,
    };
    let (user, group) = owner.map_or((None, None), |owner| (Some(owner.user), Some(owner.group)));
    let given = queue.give(user, group, queue_mode(names));
    let is_named = key_in(path).ok() == Some(key);
    if given.is_err() || !is_named {
        let _ = queue.remove(); // it may be gone already
    }
    given.map(|()| is_named)
}

/// Who sends must be able to ask for the queue's state, which takes the right to read it.
fn queue_mode(names: &Names) -> u32 {
    match names.scope() {
        Scope::User => 0o600,
        Scope::System => 0o660,
    }
}

fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("sysv.new")
}

/// The name of a file whose queue is being removed.
fn taken(path: &Path) -> PathBuf {
    path.with_extension("sysv.gone")
}

/// The file appears whole, so whoever reads it reads a key: as `ipcs -q` shows it.
fn write(path: &Path, key: i32, owner: Option<Owner>) -> io::Result<()> {
    let new = unfinished(path);
    std::fs::write(&new, format!("{key:#010x}\n"))?;
    give(&new, if owner.is_some() { 0o640 } else { 0o600 }, owner)?;
    std::fs::rename(&new, path)
}

/// Was the queue removed since it was found?
fn is_gone(why: &io::Error) -> bool {
    matches!(Errno::from_io_error(why), Some(Errno::INVAL | Errno::IDRM))
}

fn refused(what: &'static str, path: &Path, why: io::Error) -> CarrierError {
    let errno = Errno::from_io_error(&why);
    // To be made again.
    let why = if is_gone(&why) { io::Error::new(io::ErrorKind::NotFound, why) } else { why };
    let error = CarrierError::new(what, path.display(), why);
    match errno {
        Some(Errno::NOSPC) => {
            error.with("the machine has as many queues as kernel.msgmni allows: `ipcs -q` lists them")
        }
        Some(Errno::NOSYS) => error.with("this kernel has no System V queues: choose another carrier"),
        _ => error,
    }
}

/// The key that stands in the file.
fn key_in(path: &Path) -> io::Result<i32> {
    let text = std::fs::read_to_string(path)?;
    let key = text.trim_end().strip_prefix("0x").and_then(|digits| i32::from_str_radix(digits, 16).ok());
    key.filter(|key| *key > 0)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "there is no key in it; remove it"))
}

/// The queue with this key, if it was made for the receiver: by its user, or by the superuser for the machine. Everybody sees
/// all keys, may make a queue under one that is free, and give it to anybody: so its owner alone says nothing.
fn find(names: &Names, receiver: Role, key: i32) -> io::Result<(MessageQueue, QueueState)> {
    let queue = MessageQueue::find(key)?;
    let state = queue.state()?;
    let maker = match names.scope() {
        Scope::User => names.owner(receiver),
        Scope::System => Some(0),
    };
    if Some(state.creator) == maker { Ok((queue, state)) } else { Err(Errno::NOENT.into()) }
}

/// Bytes that wait in the queue; 0 if there is only its file. `None`: there is nothing.
pub fn waiting(names: &Names, receiver: Role) -> Option<u64> {
    let path = names.sysv(receiver);
    let found = key_in(&path).and_then(|key| find(names, receiver, key));
    let is_file = || [path.clone(), unfinished(&path), taken(&path)].iter().any(|path| look(path).is_ok());
    found.map(|(_, state)| state.bytes).ok().or_else(|| is_file().then_some(0))
}

/// The file is taken away first, with whatever key stands in it by now; then its queue is removed, then the file. So a kill
/// leaves no queue that nobody finds, and who is about to make a queue notices that its file is gone.
pub fn remove(names: &Names, receiver: Role) -> Result<bool, CarrierError> {
    let path = names.sysv(receiver);
    let fault = |why: io::Error| refused("remove the System V queue of", &path, why);
    let mut removed = unlink(&unfinished(&path)).map_err(|(_, why)| fault(why))?;
    loop {
        // First what an earlier life has taken and not removed.
        removed |= remove_taken(names, receiver, &taken(&path)).map_err(fault)?;
        match rustix::fs::renameat_with(CWD, &path, CWD, taken(&path), RenameFlags::NOREPLACE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(Errno::NOENT) => return Ok(removed),
            Err(e) => return Err(fault(e.into())),
        }
    }
}

fn remove_taken(names: &Names, receiver: Role, file: &Path) -> io::Result<bool> {
    remove_queue_of(names, receiver, file)?;
    unlink(file).map_err(|(_, why)| why)
}

/// Removes the queue whose key stands in this file, if there is one.
fn remove_queue_of(names: &Names, receiver: Role, file: &Path) -> io::Result<()> {
    match key_in(file).ok().and_then(|key| find(names, receiver, key).ok()) {
        Some((queue, _)) => queue.remove().or_else(|why| if is_gone(&why) { Ok(()) } else { Err(why) }),
        None => Ok(()),
    }
}

struct Known {
    path: PathBuf,
    key: i32,
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
        let key = key_in(&path).map_err(fault)?;
        let (queue, state) = find(names, receiver, key).map_err(fault)?;
        if Some(state.user) != names.owner(receiver) {
            return Err(fault(Errno::NOENT.into())); // made, and not yet given to its owner
        }
        check_owner(names, receiver, state.user, state.mode & !(queue_mode(names) & 0o040)).map_err(fault)?;
        Ok(Known { key, queue, room: state.room, path })
    }

    fn is_stale(&self) -> bool {
        key_in(&self.path).ok() != Some(self.key) || self.queue.state().is_err()
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

    fn abandon(&self) {
        let open = &self.0;
        let is_lost = match key_in(&open.path) {
            Ok(key) => key != open.key,
            Err(why) => why.kind() == io::ErrorKind::NotFound,
        };
        if is_lost {
            let _ = open.queue.remove(); // it may be gone already
        }
    }

    /// Such a queue cannot be polled.
    fn fds(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [None; 2]
    }
}

/// The largest message of whole rows, 512 bytes each, of which two fit into a queue with so much `room`, and of which the kernel
/// allows one (`most`); or what to do if there is none.
fn largest(room: usize, most: usize) -> Result<usize, &'static str> {
    let [of_room, of_most] = [room / 2, most].map(|bytes| bytes.min(MESSAGE) & !511);
    match of_room.min(of_most) {
        0 if of_room == 0 => Err("kernel.msgmnb must be 1024 at least, 16384 is usual"),
        0 => Err("kernel.msgmax must be 512 at least, 8192 is usual"),
        bytes => Ok(bytes),
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
        let message_max = largest(open.room as usize, MessageQueue::message_max().unwrap_or(MESSAGE));
        let message_max = message_max.map_err(|remedy| {
            let why = io::Error::other("there is no room for a message of 512 bytes");
            CarrierError::new("use the System V queue of", open.path.display(), why).with(remedy)
        })?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_makes_messages_smaller_or_is_named() {
        assert_eq!(largest(16_384, 8_192), Ok(MESSAGE));
        assert_eq!(largest(4_096, 8_192), Ok(2_048));
        assert_eq!(largest(16_384, 1_500), Ok(1_024));
        assert!(largest(1_000, 8_192).is_err_and(|remedy| remedy.contains("kernel.msgmnb")));
        assert!(largest(16_384, 500).is_err_and(|remedy| remedy.contains("kernel.msgmax")));
        assert!(MessageQueue::message_max().unwrap() > 0);
    }
}
