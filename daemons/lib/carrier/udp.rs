//! `udp:PORT`, datagrams over the loopback interface. The kernel drops what finds no room, so no more is on the way at once
//! than fits; what is lost all the same is sent again by rule E2.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind};
use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::net::sockopt;

use super::{CarrierError, MESSAGE, local, unheard, unsent};
use crate::edge::{Inlet, Outlet, Sent};

/// Room asked for at the receiver; the kernel gives no more than net.core.rmem_max, 208 KiB as a rule.
const ROOM: usize = 1 << 20;
/// On the way at once: more would not be faster.
const WINDOW: u64 = 8 * MESSAGE as u64;
/// A full datagram takes twice its size in that room, and there is some to spare.
const COST: u64 = 4;

/// The room that the kernel gives to a socket.
fn ask_for_room(socket: &UdpSocket) -> u64 {
    let _ = sockopt::set_socket_recv_buffer_size(socket, ROOM);
    sockopt::socket_recv_buffer_size(socket).unwrap_or(0) as u64
}

/// So much may be on the way to a receiver that has so much room.
fn window(room: u64) -> u64 {
    WINDOW.min(room / COST)
}

/// The receiving end.
pub struct Receiving(UdpSocket);

impl Receiving {
    pub fn open(port: u16) -> Result<Receiving, CarrierError> {
        let fault = |why| unheard(port, "UDP", why);
        let socket = UdpSocket::bind(local(port)).map_err(fault)?;
        socket.set_nonblocking(true).map_err(fault)?;
        ask_for_room(&socket);
        Ok(Receiving(socket))
    }
}

impl Inlet for Receiving {
    fn keeps_messages(&self) -> bool {
        true
    }

    fn recv(&mut self, out: &mut [u8]) -> usize {
        self.0.recv(out).unwrap_or(0)
    }

    /// A port has no name that could be taken away.
    fn is_stale(&self) -> bool {
        false
    }

    fn fds(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [Some(self.0.as_fd()), None]
    }
}

/// The sending end.
pub struct Sending {
    socket: UdpSocket,
    window: u64,
}

impl Sending {
    pub fn open(port: u16) -> Result<Sending, CarrierError> {
        let fault = |why| unsent(port, "UDP", why);
        let socket = bind_beside(port).map_err(fault)?;
        socket.set_nonblocking(true).map_err(fault)?;
        socket.connect(local(port)).map_err(fault)?;
        // The receiver asks the same kernel for the same.
        let window = window(ask_for_room(&socket));
        Ok(Sending { socket, window })
    }
}

/// A port of our own, which the kernel chooses: never the receiver's, even if that is free just now.
fn bind_beside(port: u16) -> io::Result<UdpSocket> {
    let first = UdpSocket::bind(local(0))?;
    // As long as the first one is held nobody gets its port again.
    if first.local_addr()?.port() == port { UdpSocket::bind(local(0)) } else { Ok(first) }
}

impl Outlet for Sending {
    fn message_max(&self) -> usize {
        MESSAGE
    }

    fn window(&self) -> Option<u64> {
        Some(self.window)
    }

    fn send(&mut self, message: &[u8]) -> Sent {
        match self.socket.send(message) {
            Ok(_) => Sent::Sent,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Sent::Full,
            // Nobody listened to the last one: that is a loss like any other, and who listens may come.
            Err(e) if e.kind() == ErrorKind::ConnectionRefused => Sent::Full,
            Err(_) => Sent::Gone,
        }
    }

    fn is_stale(&self) -> bool {
        false
    }

    /// It can always be written to: room in the window is nothing that the kernel knows of.
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_on_the_way_than_the_room_allows() {
        assert_eq!(window(2 * 212_992), WINDOW, "as a rule");
        assert_eq!(window(64 * 1024), 16 * 1024);
        let socket = UdpSocket::bind(local(0)).unwrap();
        let given = ask_for_room(&socket);
        assert!(given >= 2_048, "{given}");
        // Full datagrams as far as the window allows all find room.
        let (sender, message) = (Sending::open(socket.local_addr().unwrap().port()).unwrap(), [1; MESSAGE]);
        let count = (sender.window().unwrap() as usize / MESSAGE).max(1);
        (0..count).for_each(|_| assert_eq!(sender.socket.send(&message).unwrap(), MESSAGE));
        socket.set_nonblocking(true).unwrap();
        let mut out = [0; MESSAGE];
        assert_eq!((0..count).filter(|_| socket.recv(&mut out).is_ok()).count(), count);
    }
}
