//! What the kernel carries by plain read and write: pipes and sockets.
#![forbid(unsafe_code)]

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use super::mechanism::{End, Ends, Load, MESSAGE_MAX, Mechanism, Port, SMALL, Side, gone, take};
use super::room::Room;

/// Datagrams of a stream that may be on their way before an answer: at most so many, of at most so many bytes together. The
/// kernel counts up to twice their bytes, and what was just read some time longer, so more room is asked for.
const WINDOW: u32 = 32;
const WINDOW_BYTES: usize = 48 * 1024;
const ROOM: usize = 1 << 20;
/// A group of the range that no router forwards.
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 77, 77);

/// A mechanism of the kernel.
pub enum Kernel {
    /// `pipe(2)`.
    Pipe,
    /// A pipe with a name.
    Fifo,
    /// `socketpair(2)`, a stream.
    Socketpair,
    /// A Unix socket with a name: stream.
    UnixStream,
    /// The same: whole messages in order.
    UnixSeqpacket,
    /// The same: datagrams.
    UnixDatagram,
    /// TCP over the loopback interface.
    Tcp,
    /// UDP over the loopback interface, with a window.
    Udp,
    /// UDP to a group, over the loopback interface, with a window.
    Multicast,
}

/// What goes where: reads from one, writes to the other.
type Duplex = (OwnedFd, OwnedFd);

impl Kernel {
    /// Two ends, each with what it reads and what it writes.
    fn pair(&self) -> io::Result<(Duplex, Duplex)> {
        match self {
            Kernel::Pipe => one_way_each(rustix_pipe),
            Kernel::Fifo => one_way_each(fifo),
            Kernel::Socketpair => both_ways(socketpair()?),
            Kernel::UnixStream => both_ways(unix_stream()?),
            Kernel::UnixSeqpacket => both_ways(unix_seqpacket()?),
            Kernel::UnixDatagram => both_ways(unix_datagram()?),
            Kernel::Tcp => both_ways(tcp()?),
            Kernel::Udp => both_ways(udp()?),
            Kernel::Multicast => one_way_each(multicast),
        }
    }

    fn is_stream(&self) -> bool {
        !matches!(self, Kernel::UnixSeqpacket | Kernel::UnixDatagram | Kernel::Udp | Kernel::Multicast)
    }
}

impl Mechanism for Kernel {
    fn name(&self) -> &'static str {
        match self {
            Kernel::Pipe => "pipe",
            Kernel::Fifo => "fifo",
            Kernel::Socketpair => "socketpair",
            Kernel::UnixStream => "unix-stream",
            Kernel::UnixSeqpacket => "unix-seqpacket",
            Kernel::UnixDatagram => "unix-datagram",
            Kernel::Tcp => "tcp",
            Kernel::Udp => "udp",
            Kernel::Multicast => "multicast",
        }
    }

    fn message_max(&self) -> usize {
        match self {
            Kernel::Udp | Kernel::Multicast => SMALL, // 65,507 bytes are the most that a datagram holds
            _ => MESSAGE_MAX,
        }
    }

    fn open(&self, _: Load) -> io::Result<Ends> {
        let ((a, b), (c, d)) = self.pair()?;
        Ok(Ends { first: vec![a, b], second: vec![c, d], ..Ends::default() })
    }

    fn join(&self, end: End) -> io::Result<Box<dyn Port>> {
        let mut fds = end.fds.into_iter();
        let (input, output) = (take(&mut fds)?, take(&mut fds)?);
        if self.is_stream() {
            return Ok(Box::new(Stream { input, output }));
        }
        let counts = matches!(self, Kernel::Udp | Kernel::Multicast) && end.load.is_stream;
        let credit = counts.then_some(0);
        let window = WINDOW.min((WINDOW_BYTES / end.load.size) as u32).max(1);
        Ok(Box::new(Messages { input, output, credit, window, sends: end.side == Side::First }))
    }
}

fn both_ways((a, b): Duplex) -> io::Result<(Duplex, Duplex)> {
    Ok(((a.try_clone()?, a), (b.try_clone()?, b)))
}

fn one_way_each(one_way: fn() -> io::Result<Duplex>) -> io::Result<(Duplex, Duplex)> {
    let ((there_out, there_in), (back_out, back_in)) = (one_way()?, one_way()?);
    Ok(((back_out, there_in), (there_out, back_in)))
}

fn rustix_pipe() -> io::Result<Duplex> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

fn fifo() -> io::Result<Duplex> {
    let room = Room::new()?;
    let path = room.path("fifo");
    rustix::fs::mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR)?;
    // Nobody waits for the other end to come: the reader is there first.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let out = rustix::fs::open(&path, flags, Mode::empty())?;
    let into = rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::fs::fcntl_setfl(&out, OFlags::empty())?;
    Ok((out, into))
}

fn socketpair() -> io::Result<Duplex> {
    let (a, b) = UnixStream::pair()?;
    Ok((a.into(), b.into()))
}

fn unix_stream() -> io::Result<Duplex> {
    let room = Room::new()?;
    let listener = UnixListener::bind(room.path("stream"))?;
    let a = UnixStream::connect(room.path("stream"))?;
    Ok((a.into(), listener.accept()?.0.into()))
}

fn unix_socket(kind: SocketType) -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?)
}

fn unix_seqpacket() -> io::Result<Duplex> {
    let room = Room::new()?;
    let address = SocketAddrUnix::new(room.path("seqpacket"))?;
    let (listener, a) = (unix_socket(SocketType::SEQPACKET)?, unix_socket(SocketType::SEQPACKET)?);
    rustix::net::bind(&listener, &address)?;
    rustix::net::listen(&listener, 1)?;
    rustix::net::connect(&a, &address)?;
    let b = rustix::net::accept_with(&listener, SocketFlags::CLOEXEC)?;
    Ok((a, b))
}

fn unix_datagram() -> io::Result<Duplex> {
    let room = Room::new()?;
    let (a, b) = (unix_socket(SocketType::DGRAM)?, unix_socket(SocketType::DGRAM)?);
    let at = |name| SocketAddrUnix::new(room.path(name));
    rustix::net::bind(&a, &at("a")?)?;
    rustix::net::bind(&b, &at("b")?)?;
    rustix::net::connect(&a, &at("b")?)?;
    rustix::net::connect(&b, &at("a")?)?;
    Ok((a, b))
}

fn tcp() -> io::Result<Duplex> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let a = TcpStream::connect(listener.local_addr()?)?;
    let (b, _) = listener.accept()?;
    a.set_nodelay(true)?;
    b.set_nodelay(true)?;
    Ok((a.into(), b.into()))
}

fn udp() -> io::Result<Duplex> {
    let (a, b) = (UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?, UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?);
    a.connect(b.local_addr()?)?;
    b.connect(a.local_addr()?)?;
    Ok((roomy(a), roomy(b)))
}

/// With as much room for what has come as the kernel gives (net.core.rmem_max).
fn roomy(socket: UdpSocket) -> OwnedFd {
    let _ = sockopt::set_socket_recv_buffer_size(&socket, ROOM);
    socket.into()
}

fn multicast() -> io::Result<Duplex> {
    let out = UdpSocket::bind((GROUP, 0))?;
    out.join_multicast_v4(&GROUP, &Ipv4Addr::LOCALHOST)?;
    let into = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    sockopt::set_ip_multicast_if(&into, &Ipv4Addr::LOCALHOST)?;
    into.set_multicast_loop_v4(true)?;
    into.connect(out.local_addr()?)?;
    Ok((roomy(out), roomy(into)))
}

/// Bytes in order; the length of a message is known to both.
struct Stream {
    input: OwnedFd,
    output: OwnedFd,
}

impl Port for Stream {
    fn send(&mut self, message: &[u8]) -> io::Result<u32> {
        write_all(&self.output, message)
    }

    fn receive(&mut self, out: &mut [u8]) -> io::Result<u32> {
        let (mut done, mut calls) = (0, 0);
        while let Some(rest) = out.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let n = rustix::io::retry_on_intr(|| rustix::io::read(&self.input, &mut *rest))?;
            (done, calls) = (done + n, calls + 1);
            if n == 0 {
                return Err(gone());
            }
        }
        Ok(calls)
    }
}

fn write_all(output: impl AsFd, message: &[u8]) -> io::Result<u32> {
    let (mut rest, mut calls) = (message, 0);
    while !rest.is_empty() {
        let n = rustix::io::retry_on_intr(|| rustix::io::write(&output, rest))?;
        (rest, calls) = (rest.get(n..).unwrap_or_default(), calls + 1);
    }
    Ok(calls)
}

/// Whole messages.
struct Messages {
    input: OwnedFd,
    output: OwnedFd,
    /// Messages of this window, where the mechanism drops what finds no room.
    credit: Option<u32>,
    window: u32,
    sends: bool,
}

impl Messages {
    /// After each window the receiver answers; the sender is at most two windows ahead.
    fn count(&mut self) -> io::Result<u32> {
        let Some(credit) = &mut self.credit else { return Ok(0) };
        *credit += 1;
        if !credit.is_multiple_of(self.window) {
            return Ok(0);
        }
        if !self.sends {
            return write_all(&self.output, &[0]);
        }
        if *credit == self.window {
            return Ok(0); // the first window is answered while the second one goes
        }
        rustix::io::retry_on_intr(|| rustix::io::read(&self.input, &mut [0; 1]))?;
        Ok(1)
    }
}

impl Port for Messages {
    fn send(&mut self, message: &[u8]) -> io::Result<u32> {
        let calls = write_all(&self.output, message)?;
        Ok(calls + self.count()?)
    }

    fn receive(&mut self, out: &mut [u8]) -> io::Result<u32> {
        let n = rustix::io::retry_on_intr(|| rustix::io::read(&self.input, &mut *out))?;
        match n {
            0 => Err(gone()),
            n if n < out.len() => Err(io::Error::new(io::ErrorKind::InvalidData, "a message came cut")),
            _ => Ok(1 + self.count()?),
        }
    }
}
