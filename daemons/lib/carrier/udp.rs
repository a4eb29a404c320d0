//! `udp:PORT`, datagrams over the loopback interface. The kernel drops what finds no room, so no more is on the way at once
//! than fits; what is lost all the same is sent again by rule E2.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::net::sockopt;

use super::{CarrierError, MESSAGE};
use crate::edge::{Inlet, Outlet, Sent};

/// Room asked for at the receiver; the kernel gives no more than net.core.rmem_max, 208 KiB as a rule.
const ROOM: usize = 1 << 20;
/// On the way at once: with all that the kernel counts for a datagram, this fits the room that every machine gives.
const WINDOW: u64 = 8 * MESSAGE as u64;

fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// The receiving end.
pub struct Receiving(UdpSocket);

impl Receiving {
    pub fn open(port: u16) -> Result<Receiving, CarrierError> {
        let fault = |why: io::Error| {
            let taken = why.kind() == ErrorKind::AddrInUse;
            let error = CarrierError::new("listen at", format!("127.0.0.1:{port} (UDP)"), why);
            if taken {
                error.with("another program has that port: choose another one in [edge]")
            } else {
                error
            }
        };
        let socket = UdpSocket::bind(address(port)).map_err(fault)?;
        socket.set_nonblocking(true).map_err(fault)?;
        let _ = sockopt::set_socket_recv_buffer_size(&socket, ROOM);
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
pub struct Sending(UdpSocket);

impl Sending {
    pub fn open(port: u16) -> Result<Sending, CarrierError> {
        let fault = |why: io::Error| CarrierError::new("send to", format!("127.0.0.1:{port} (UDP)"), why);
        let socket = UdpSocket::bind(address(0)).map_err(fault)?;
        socket.set_nonblocking(true).map_err(fault)?;
        socket.connect(address(port)).map_err(fault)?;
        Ok(Sending(socket))
    }
}

impl Outlet for Sending {
    fn message_max(&self) -> usize {
        MESSAGE
    }

    fn window(&self) -> Option<u64> {
        Some(WINDOW)
    }

    fn send(&mut self, message: &[u8]) -> Sent {
        match self.0.send(message) {
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
