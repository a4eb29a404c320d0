//! The carriers that are not the spool itself: each moves messages along one edge, by one kind of name.
//!
//! The contract, which tests/carriers.rs holds all of them to:
//! - A message goes in whole or not at all, and comes out whole; of a stream (FIFO, TCP) the bytes come out in order.
//! - No call blocks. Full leaves no trace: the same message goes in when there is room.
//! - Either end may come first, end at any instant and come back. What was on the way may be lost then, or come once more.
//! - An object that is missing, of another kind, another owner or open to others is refused; one that is gone is noticed.
//! - Nothing that comes out is true because it came: that is judged by [`crate::edge`] against the spool.
//!
//! Only `receiver` has an object: who sends finds it by the receiver's role.
#![forbid(unsafe_code)]

mod fifo;
mod mq;
mod sysv;
mod tcp;
mod udp;
mod unix;

use std::fs::Metadata;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD};
use rustix::io::Errno;

use crate::address::Address;
use crate::edge::{Inlet, Outlet};
use crate::names::{Names, Role};
use crate::sys;

/// A message of most carriers: 256 entries or 16 rows.
const MESSAGE: usize = 8192;

/// Why a carrier's object could not be made, opened or removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {object}: {why}{remedy}")]
pub struct CarrierError {
    what: &'static str,
    object: String,
    why: io::Error,
    remedy: String,
}

impl CarrierError {
    fn new(what: &'static str, object: impl ToString, why: impl Into<io::Error>) -> CarrierError {
        let why = why.into();
        let strange =
            [Errno::ISDIR, Errno::LOOP].map(|e| Some(e.raw_os_error())).contains(&why.raw_os_error());
        let remedy = if strange { "; remove what is there" } else { "" };
        CarrierError { what, object: object.to_string(), why, remedy: remedy.into() }
    }

    /// What to do about it.
    fn with(mut self, remedy: &str) -> CarrierError {
        self.remedy = format!("; {remedy}");
        self
    }

    /// The process may not use such a carrier at all: to try again is of no use.
    pub fn is_forbidden(&self) -> bool {
        self.why.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error())
    }

    /// There is no such object: its owner has not made it yet.
    pub fn is_missing(&self) -> bool {
        is_missing(&self.why)
    }

    /// What stands there is of another kind, of somebody else or open to others, and stays so. Not that the caller or the machine
    /// lacks something now (descriptors, memory): that passes, and says nothing of the object.
    pub fn is_strange(&self) -> bool {
        speaks_of_the_object(&self.why)
    }
}

fn is_missing(why: &io::Error) -> bool {
    matches!(why.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

/// Either we have looked at the object and refuse it, or the system does for what it is and whose it is.
fn speaks_of_the_object(why: &io::Error) -> bool {
    match Errno::from_io_error(why) {
        None => !is_missing(why),
        Some(errno) => {
            matches!(errno, Errno::ACCESS | Errno::PERM | Errno::LOOP | Errno::ISDIR | Errno::NOTDIR)
        }
    }
}

/// To whom a new object is given: the receiver's user, and the group of who sends to it.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    /// The receiver's user.
    pub user: u32,
    /// The sender's own group.
    pub group: u32,
}

/// Makes what `receiver` listens at, if that is an object that has to be there before; what is there already stays.
///
/// # Errors
/// The system refuses it; the text says which limit and what to do.
pub fn make(
    names: &Names,
    receiver: Role,
    address: Address,
    owner: Option<Owner>,
) -> Result<(), CarrierError> {
    match address {
        Address::Mq => mq::make(names, receiver, owner),
        Address::Fifo => fifo::make(names, receiver, owner),
        Address::Unix => unix::make(names, receiver, owner),
        Address::Sysv => sysv::make(names, receiver, owner),
        Address::Shm | Address::Tcp(_) | Address::Udp(_) => Ok(()),
    }
}

/// The receiving end, for the receiver itself. `None`: of `shm:` there is none.
///
/// # Errors
/// The object is missing or not as it should be.
pub fn inlet(
    names: &Names,
    receiver: Role,
    address: Address,
) -> Result<Option<Box<dyn Inlet>>, CarrierError> {
    Ok(match address {
        Address::Shm => None,
        Address::Mq => Some(Box::new(mq::Receiving::open(names, receiver)?)),
        Address::Fifo => Some(Box::new(fifo::Receiving::open(names, receiver)?)),
        Address::Unix => Some(Box::new(unix::Receiving::open(names, receiver)?)),
        Address::Sysv => Some(Box::new(sysv::Receiving::open(names, receiver)?)),
        Address::Tcp(port) => Some(Box::new(tcp::Receiving::open(names, receiver, port)?)),
        Address::Udp(port) => Some(Box::new(udp::Receiving::open(port)?)),
    })
}

/// The sending end, for who sends to `receiver`. `None`: of `shm:` there is none.
///
/// # Errors
/// The object is missing or not as it should be.
pub fn outlet(
    names: &Names,
    receiver: Role,
    address: Address,
) -> Result<Option<Box<dyn Outlet>>, CarrierError> {
    Ok(match address {
        Address::Shm => None,
        Address::Mq => Some(Box::new(mq::Sending::open(names, receiver)?)),
        Address::Fifo => Some(Box::new(fifo::Sending::open(names, receiver)?)),
        Address::Unix => Some(Box::new(unix::Sending::open(names, receiver)?)),
        Address::Sysv => Some(Box::new(sysv::Sending::open(names, receiver)?)),
        Address::Tcp(port) => Some(Box::new(tcp::Sending::open(port)?)),
        Address::Udp(port) => Some(Box::new(udp::Sending::open(port)?)),
    })
}

/// Is there something in the place of what this receiver listens at that is not as it should be?
pub fn is_strange(names: &Names, receiver: Role, address: Address) -> bool {
    let opened = match address {
        Address::Mq => mq::Sending::open(names, receiver).err(),
        Address::Fifo => fifo::Sending::open(names, receiver).err(),
        Address::Sysv => sysv::Sending::open(names, receiver).err(),
        // The receiver itself removes what stands in the way of its socket.
        Address::Shm | Address::Unix | Address::Tcp(_) | Address::Udp(_) => None,
    };
    opened.is_some_and(|e| e.is_strange())
}

/// An object of a carrier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// queue, fifo, socket or sysv.
    pub kind: &'static str,
    /// Where it is; a queue as a path of /dev/mqueue, whether or not that is mounted.
    pub path: std::path::PathBuf,
    /// Bytes that wait in it, if it is there; 0 where that cannot be told.
    pub size: Option<u64>,
}

/// Everything that carriers can have made for this receiver, whether it is there or not, whatever the configuration says now.
pub fn list(names: &Names, receiver: Role) -> Vec<Found> {
    let file = |kind, path: std::path::PathBuf| {
        let size = std::fs::symlink_metadata(&path).ok().map(|_| 0);
        Found { kind, path, size }
    };
    vec![
        Found { kind: "queue", path: mq::path(names, receiver), size: mq::waiting(names, receiver) },
        file("fifo", names.fifo(receiver)),
        file("socket", names.socket(receiver)),
        Found { kind: "sysv", path: names.sysv(receiver), size: sysv::waiting(names, receiver) },
    ]
}

/// Removes one of [`list`]; false if it was not there.
///
/// # Errors
/// The system refuses it.
pub fn remove(names: &Names, receiver: Role, kind: &str) -> Result<bool, CarrierError> {
    let removed = match kind {
        "queue" => return mq::remove(names, receiver),
        "sysv" => return sysv::remove(names, receiver),
        "fifo" => unlink(&names.fifo(receiver)),
        _ => {
            let removed = unlink(&names.socket(receiver));
            let _ = std::fs::remove_dir(names.socket_dir(receiver)); // only if nothing foreign is in it
            removed
        }
    };
    removed.map_err(|(path, why)| CarrierError::new("remove", path, why))
}

fn unlink(path: &Path) -> Result<bool, (String, io::Error)> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err((path.display().to_string(), e)),
    }
}

/// Sleeps until one of these can be read (or, `room`, written) or `limit` has passed. Without any only the latter.
pub fn wait<'f>(fds: impl IntoIterator<Item = BorrowedFd<'f>>, room: bool, limit: Duration) {
    if limit.is_zero() {
        return; // to give the processor away could take a whole time slice of somebody else
    }
    let flags = if room { PollFlags::OUT } else { PollFlags::IN };
    let mut fds: Vec<PollFd> = fds.into_iter().map(|fd| PollFd::from_borrowed_fd(fd, flags)).collect();
    let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
    // All outcomes mean the same to the caller: look again.
    let _ = poll(&mut fds, Some(&limit));
}

/// How long to wait for what cannot be waited for: no time at all at first, as the other end is at work just now; then longer
/// and longer, so that hardly anything is spent on another end that rests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Blind {
    /// Waits in a row after which nothing had moved.
    in_vain: u32,
}

/// So often it is tried again at once: some 20 us, in which the other end empties or fills such a queue.
const TURNS: u32 = 50;
/// The first real wait; each further one is twice as long, up to 128 times this.
const SOON: Duration = Duration::from_micros(100);
const DOUBLINGS_MAX: u32 = 7;

impl Blind {
    /// The other end is at work.
    pub fn moved(&mut self) {
        self.in_vain = 0;
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let doublings = self.in_vain.checked_sub(TURNS);
        self.in_vain = self.in_vain.saturating_add(1);
        doublings.map_or(Duration::ZERO, |n| SOON * (1 << n.min(DOUBLINGS_MAX)))
    }
}

/// What `receiver` listens at must belong to its user, and nobody else may do more with it than is meant.
fn check_owner(names: &Names, receiver: Role, user: u32, mode: u32) -> io::Result<()> {
    if names.owner(receiver) == Some(user) && mode & !names.inlet_mode() & 0o077 == 0 {
        return Ok(());
    }
    let text = format!(
        "it belongs to user {user} with mode {:04o}; remove it, it is made anew with the next start",
        mode & 0o7777
    );
    Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
}

/// Does the path still lead to this open file?
fn is_at(path: &Path, file: impl AsFd) -> bool {
    let at_path = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW);
    let (Ok(open), Ok(at_path)) = (rustix::fs::fstat(&file), at_path) else { return false };
    (open.st_dev, open.st_ino) == (at_path.st_dev, at_path.st_ino)
}

/// What a look at a path finds, without following a link.
fn look(path: &Path) -> io::Result<Metadata> {
    std::fs::symlink_metadata(path)
}

/// Gives a path in a directory where only the caller makes names to its owner, and its mode, which the umask has cut.
fn give(path: &Path, mode: u32, owner: Option<Owner>) -> io::Result<()> {
    if let Some(Owner { user, group }) = owner {
        std::os::unix::fs::lchown(path, Some(user), Some(group))?;
    }
    rustix::fs::chmod(path, rustix::fs::Mode::from_raw_mode(mode))?;
    Ok(())
}

/// A port of the loopback interface.
fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Why nobody can listen at this port of `protocol`.
fn unheard(port: u16, protocol: &str, why: io::Error) -> CarrierError {
    let taken = why.kind() == io::ErrorKind::AddrInUse;
    let error = CarrierError::new("listen at", format!("{} ({protocol})", local(port)), why);
    if taken { error.with("another program has that port: choose another one in [edge]") } else { error }
}

/// Why nothing can be sent to this port of `protocol`.
fn unsent(port: u16, protocol: &str, why: io::Error) -> CarrierError {
    CarrierError::new("send to", format!("{} ({protocol})", local(port)), why)
}

/// Who owns the other end of a socket of this machine is who must send.
fn is_sender(names: &Names, receiver: Role, user: u32) -> bool {
    receiver.sender().and_then(|sender| names.owner(sender)) == Some(user)
}

/// Whose a file is, and its mode.
fn user_of(meta: &Metadata) -> (u32, u32) {
    (meta.uid(), meta.mode())
}

/// Where a receiver listens, held open as long as it works.
pub struct Listening {
    names: Names,
    receiver: Role,
    address: Address,
    inlet: Box<dyn Inlet>,
    blind: Blind,
}

impl Listening {
    /// Opens what the receiver listens at; a user's own is made if it is missing. `None` for `shm:`.
    ///
    /// # Errors
    /// As [`make`] and [`inlet`].
    pub fn open(names: &Names, receiver: Role, address: Address) -> Result<Option<Listening>, CarrierError> {
        let inlet = open_inlet(names, receiver, address)?;
        let (names, blind) = (names.clone(), Blind::default());
        Ok(inlet.map(|inlet| Listening { names, receiver, address, inlet, blind }))
    }

    /// Rule E4: is the object still the one under its name? If not, it is opened again. True if that was so.
    ///
    /// # Errors
    /// As [`Listening::open`]: what is gone is not there again, and for the machine only the superuser makes it.
    pub fn look(&mut self) -> Result<bool, CarrierError> {
        if !self.inlet.is_stale() {
            return Ok(false);
        }
        self.inlet.abandon();
        if let Some(inlet) = open_inlet(&self.names, self.receiver, self.address)? {
            self.inlet = inlet;
        }
        Ok(true)
    }

    /// The receiving end.
    pub fn inlet(&mut self) -> &mut dyn Inlet {
        self
    }

    /// Sleeps until something has come, at most for `limit`; a carrier that cannot be waited for is asked again soon.
    pub fn wait(&mut self, limit: Duration) {
        let limit = if self.can_wait() { limit } else { limit.min(self.blind.next_wait()).min(BLIND_MAX) };
        wait(self.inlet.fds().into_iter().flatten(), false, limit);
    }

    /// Can it be waited for?
    pub fn can_wait(&self) -> bool {
        self.inlet.fds().iter().any(Option::is_some)
    }
}

/// The receiving end as it is, with an eye on whether anything comes.
impl Inlet for Listening {
    fn keeps_messages(&self) -> bool {
        self.inlet.keeps_messages()
    }

    fn recv(&mut self, out: &mut [u8]) -> usize {
        let n = self.inlet.recv(out);
        if n > 0 {
            self.blind.moved();
        }
        n
    }

    fn is_stale(&self) -> bool {
        self.inlet.is_stale()
    }

    fn fds(&self) -> [Option<BorrowedFd<'_>>; 2] {
        self.inlet.fds()
    }
}

/// Something is on its way to who waits, so that is never longer.
const BLIND_MAX: Duration = Duration::from_millis(1);

/// How often what is gone between its making and its opening is made again: somebody removes it all the time.
const TRIES: usize = 128;

fn open_inlet(
    names: &Names,
    receiver: Role,
    address: Address,
) -> Result<Option<Box<dyn Inlet>>, CarrierError> {
    // The superuser makes what belongs to the machine: objects service and repair.
    if names.scope() == crate::names::Scope::System {
        return inlet(names, receiver, address);
    }
    let make_and_open = || {
        make(names, receiver, address, None)?;
        inlet(names, receiver, address)
    };
    for _ in 1..TRIES {
        match make_and_open() {
            Err(e) if e.is_missing() => {}
            opened => return opened,
        }
    }
    make_and_open()
}

/// The way to a receiver, opened as soon as that is possible, and again whenever it breaks.
pub struct Lane {
    names: Names,
    receiver: Role,
    address: Address,
    outlet: Option<Box<dyn Outlet>>,
    trouble: Option<String>,
}

impl Lane {
    /// To this receiver. `None` for `shm:`, which needs none.
    pub fn to(names: &Names, receiver: Role, address: Address) -> Option<Lane> {
        let lane = Lane { names: names.clone(), receiver, address, outlet: None, trouble: None };
        (address != Address::Shm).then_some(lane)
    }

    /// To be called at every look: opens what can be opened. Rule E4.
    pub fn look(&mut self) {
        if self.outlet.as_ref().is_some_and(|outlet| !outlet.is_stale()) {
            return;
        }
        match outlet(&self.names, self.receiver, self.address) {
            Ok(outlet) => (self.outlet, self.trouble) = (outlet, None),
            // Whoever listens there has not come yet: that is said elsewhere.
            Err(e) if e.is_missing() => (self.outlet, self.trouble) = (None, None),
            Err(e) => (self.outlet, self.trouble) = (None, Some(e.to_string())),
        }
    }

    /// Why it cannot be opened, if that is more than that nobody listens.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Where the receiver must listen.
    pub fn address(&self) -> Address {
        self.address
    }

    /// The role at its end.
    pub fn receiver(&self) -> Role {
        self.receiver
    }

    /// The sending end, if it is open.
    pub fn outlet(&mut self) -> Option<&mut (dyn Outlet + 'static)> {
        self.outlet.as_deref_mut()
    }

    /// It is broken: opened again at the next look.
    pub fn close(&mut self) {
        self.outlet = None;
    }

    /// What becomes writable when there is room; `None`: that can only be tried.
    pub fn room(&self) -> Option<BorrowedFd<'_>> {
        self.outlet.as_ref().and_then(|outlet| outlet.fd())
    }
}

/// Has the last name of what is open gone?
fn has_no_name(file: &impl AsFd) -> bool {
    sys::links(file).is_ok_and(|links| links == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_does_not_make_an_object_strange() {
        let system = |errno: Errno| CarrierError::new("open", "it", errno);
        for errno in
            [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::INTR, Errno::IO, Errno::NOENT, Errno::NOSYS]
        {
            assert!(!system(errno).is_strange(), "{errno:?}");
        }
        for errno in [Errno::ACCESS, Errno::LOOP, Errno::ISDIR] {
            assert!(system(errno).is_strange(), "{errno:?}");
        }
        let judged = |kind| CarrierError::new("open", "it", io::Error::new(kind, "our own judgement"));
        assert!(judged(io::ErrorKind::InvalidData).is_strange());
        assert!(judged(io::ErrorKind::PermissionDenied).is_strange());
        assert!(!judged(io::ErrorKind::NotFound).is_strange());
    }
}
