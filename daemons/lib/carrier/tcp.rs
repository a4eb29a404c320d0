//! `tcp:PORT`, a stream of bytes over the loopback interface. Anybody on the machine can knock at a port, so the kernel is
//! asked whose connection it is, and there is one at a time.
//!
//! A connection is not waited for: who sends looks again.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};

use super::{CarrierError, is_sender, local, unheard, unsent, wait};
use crate::edge::{Inlet, Outlet, Sent};
use crate::names::{Names, Role};

/// Bytes given to the kernel at once: what a turn of the receiver takes.
const MESSAGE: usize = 32 * 1024;
/// A connection that is not there by then is begun anew: a listener with too many callers answers nobody, and the kernel would
/// ask again only after a second, then after two, then four.
const PATIENCE: Duration = Duration::from_millis(300);

/// The loopback interface says at once that nobody listens, as a rule.
const AT_ONCE: Duration = Duration::from_millis(1);

/// Connections looked at in one turn.
const KNOCKS_MAX: usize = 8;

/// The receiving end.
pub struct Receiving {
    names: Names,
    receiver: Role,
    listener: TcpListener,
    connection: Option<TcpStream>,
}

impl Receiving {
    pub fn open(names: &Names, receiver: Role, port: u16) -> Result<Receiving, CarrierError> {
        let fault = |why| unheard(port, "TCP", why);
        let listener = TcpListener::bind(local(port)).map_err(fault)?;
        listener.set_nonblocking(true).map_err(fault)?;
        Ok(Receiving { names: names.clone(), receiver, listener, connection: None })
    }

    /// Takes the connection of who sends; all others are told that they are not wanted.
    fn accept(&mut self) -> bool {
        let mut accepted = false;
        // Whoever knocks without end must not hold us up.
        for _ in 0..KNOCKS_MAX {
            let Ok((mut connection, peer)) = self.listener.accept() else { break };
            let ours = self.listener.local_addr().ok();
            let user = ours.and_then(|ours| user_of_connection(peer, ours));
            let wanted = user.is_some_and(|user| is_sender(&self.names, self.receiver, user));
            if !wanted || self.connection.is_some() {
                let what = if wanted { "has its sender already" } else { "takes nothing from this user" };
                let _ = connection.set_nonblocking(true);
                let _ = connection.write(format!("{} {what}\n", self.receiver.program()).as_bytes());
                continue;
            }
            if connection.set_nonblocking(true).is_ok() {
                self.connection = Some(connection);
                accepted = true;
            }
        }
        accepted
    }

    fn read(&mut self, out: &mut [u8]) -> usize {
        let Some(connection) = &mut self.connection else { return 0 };
        match connection.read(out) {
            Ok(n) if n > 0 => n,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            _ => {
                self.connection = None;
                0
            }
        }
    }
}

/// Whose is the other end of this connection? The kernel lists all connections with their users.
fn user_of_connection(theirs: SocketAddr, ours: SocketAddr) -> Option<u32> {
    // Below our own process: /proc may show nothing else of the system.
    let table = std::fs::read_to_string("/proc/self/net/tcp").ok()?;
    user_in(&table, theirs, ours)
}

fn user_in(table: &str, theirs: SocketAddr, ours: SocketAddr) -> Option<u32> {
    let [theirs, ours] = [hex(theirs)?, hex(ours)?];
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let line =
        lines.find(|words| words.get(1) == Some(&theirs.as_str()) && words.get(2) == Some(&ours.as_str()))?;
    line.get(7)?.parse().ok()
}

/// As that list has it: the address as the machine's own number.
fn hex(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(v4) = address else { return None };
    Some(format!("{:08X}:{:04X}", u32::from_ne_bytes(v4.ip().octets()), v4.port()))
}

impl Inlet for Receiving {
    fn keeps_messages(&self) -> bool {
        false
    }

    fn recv(&mut self, out: &mut [u8]) -> usize {
        match self.read(out) {
            0 if self.accept() => self.read(out),
            n => n,
        }
    }

    /// A port has no name that could be taken away.
    fn is_stale(&self) -> bool {
        false
    }

    fn fds(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [Some(self.listener.as_fd()), self.connection.as_ref().map(AsFd::as_fd)]
    }
}

/// The sending end.
pub struct Sending {
    connection: TcpStream,
    begun: Instant,
    /// Of the last message, what the kernel has not taken yet; from `at` on.
    rest: Vec<u8>,
    at: usize,
}

impl Sending {
    pub fn open(port: u16) -> Result<Sending, CarrierError> {
        let connection = begin(port).map_err(|why| unsent(port, "TCP", why))?;
        Ok(Sending { connection, begun: Instant::now(), rest: Vec::new(), at: 0 })
    }

    /// Gives the kernel what is left of the last message.
    fn write_on(&mut self) -> Sent {
        while let Some(left) = self.rest.get(self.at..).filter(|left| !left.is_empty()) {
            match self.connection.write(left) {
                Ok(n) if n > 0 => self.at += n,
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    return Sent::Full;
                }
                _ => return Sent::Gone,
            }
        }
        self.rest.clear();
        self.at = 0;
        Sent::Sent
    }
}

/// A connection that is there, or on its way: until then it takes nothing, and is full.
fn begin(port: u16) -> io::Result<TcpStream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    match connect(&socket, &local(port)) {
        Ok(()) => {}
        Err(Errno::INPROGRESS) => {
            wait([socket.as_fd()], true, AT_ONCE);
            sockopt::socket_error(&socket)??;
        }
        Err(e) => return Err(e.into()),
    }
    let connection = TcpStream::from(socket);
    // Where nobody listens the kernel may choose that very port for our own end, and connects us to ourselves.
    if connection.local_addr()? == local(port) {
        return Err(ErrorKind::ConnectionRefused.into());
    }
    connection.set_nodelay(true)?;
    Ok(connection)
}

impl Outlet for Sending {
    fn message_max(&self) -> usize {
        MESSAGE
    }

    fn send(&mut self, message: &[u8]) -> Sent {
        match self.write_on() {
            Sent::Sent => {}
            other => return other,
        }
        self.rest.extend_from_slice(message);
        match self.write_on() {
            Sent::Gone => Sent::Gone,
            Sent::Full if self.at == 0 => {
                self.rest.clear(); // nothing of it was taken
                Sent::Full
            }
            // What is left of it goes before the next message, or by itself when there is room.
            _ => Sent::Sent,
        }
    }

    fn flush(&mut self) -> Sent {
        self.write_on()
    }

    /// A port has no name that could be taken away.
    fn is_stale(&self) -> bool {
        self.connection.peer_addr().is_err() && self.begun.elapsed() > PATIENCE
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.connection.as_fd())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_list_tells_whose_connection_it_is() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:C889 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1\n   \
            1: 0100007F:C889 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 2 1\n   \
            2: 0100007F:9C40 0100007F:C889 01 00000000:00000000 00:00000000 00000000  1000        0 3 1\n";
        assert_eq!(user_in(table, local(40000), local(51337)), Some(1000));
        assert_eq!(user_in(table, local(51337), local(40000)), Some(0));
        assert_eq!(user_in(table, local(40001), local(51337)), None);
        assert_eq!(user_in("", local(40000), local(51337)), None);
    }

    #[test]
    fn a_connection_of_ours_is_ours() {
        let listener = TcpListener::bind(local(0)).unwrap();
        let ours = listener.local_addr().unwrap();
        let _connection = TcpStream::connect(ours).unwrap();
        let (_accepted, peer) = listener.accept().unwrap();
        assert_eq!(user_of_connection(peer, ours), Some(rustix::process::geteuid().as_raw()));
    }

    #[test]
    fn what_is_left_of_a_message_goes_without_another_one() {
        let listener = TcpListener::bind(local(0)).unwrap();
        let mut sending = Sending::open(listener.local_addr().unwrap().port()).unwrap();
        let (mut there, _) = listener.accept().unwrap();
        let (message, mut sent) = (vec![7; MESSAGE], 0);
        // One that the kernel takes in part.
        while sending.rest.is_empty() {
            match sending.send(&message) {
                Sent::Sent => sent += MESSAGE,
                other => panic!("{other:?} after {sent} bytes, none taken in part"),
            }
        }
        assert_eq!(sending.flush(), Sent::Full, "nobody reads");
        there.set_nonblocking(true).unwrap();
        let (mut came, mut out, begun) = (0, vec![0; MESSAGE], Instant::now());
        while came < sent {
            assert!(begun.elapsed() < Duration::from_secs(10), "{came} of {sent} bytes came");
            came += there.read(&mut out).unwrap_or(0);
            assert_ne!(sending.flush(), Sent::Gone);
        }
        assert_eq!((came, sending.flush()), (sent, Sent::Sent));
    }
}
