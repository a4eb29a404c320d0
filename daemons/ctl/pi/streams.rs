//! `tcp` and `unix`: each worker connects, writes its message, and closes.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};

use super::mechanism::{LIMIT, Mechanism};
use super::place::Place;
use super::sums::{LEN, Sums};

/// A socket that listens, and who has connected but not said all.
pub struct Streams {
    at: String,
    accept: Box<dyn Fn() -> io::Result<Box<dyn Read>>>,
    open: Vec<(Box<dyn Read>, Vec<u8>)>,
}

impl Streams {
    /// On a port of 127.0.0.1 that the kernel picks.
    pub fn tcp() -> io::Result<Streams> {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_nonblocking(true)?;
        let at = socket.local_addr()?.to_string();
        let accept = move || {
            let (stream, _) = socket.accept()?;
            stream.set_nonblocking(true)?;
            Ok(Box::new(stream) as Box<dyn Read>)
        };
        Ok(Streams { at, accept: Box::new(accept), open: Vec::new() })
    }

    /// On a path.
    pub fn unix(place: &Place) -> io::Result<Streams> {
        let path = place.file("socket");
        let socket = UnixListener::bind(&path)?;
        socket.set_nonblocking(true)?;
        let accept = move || {
            let (stream, _) = socket.accept()?;
            stream.set_nonblocking(true)?;
            Ok(Box::new(stream) as Box<dyn Read>)
        };
        Ok(Streams { at: path.display().to_string(), accept: Box::new(accept), open: Vec::new() })
    }

    fn take_connections(&mut self) -> io::Result<()> {
        loop {
            match (self.accept)() {
                Ok(stream) => self.open.push((stream, Vec::with_capacity(LEN))),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if [ErrorKind::Interrupted, ErrorKind::ConnectionAborted].contains(&e.kind()) => {}
                Err(e) => return Err(e),
            }
        }
    }
}

/// Reads on; whether there may be more. Whoever breaks off has said nothing.
fn read_on(stream: &mut dyn Read, said: &mut Vec<u8>) -> bool {
    let mut bytes = [0; LEN];
    while said.len() < LEN {
        match stream.read(bytes.get_mut(said.len()..).unwrap_or_default()) {
            Ok(0) => return false,
            Ok(n) => {
                let from = said.len();
                said.extend_from_slice(bytes.get(from..from + n).unwrap_or_default());
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return e.kind() == ErrorKind::WouldBlock,
        }
    }
    false
}

impl Mechanism for Streams {
    fn at(&self) -> String {
        self.at.clone()
    }

    fn take(&mut self, sums: &mut Sums) -> io::Result<()> {
        self.take_connections()?;
        self.open.retain_mut(|(stream, said)| {
            let more = read_on(stream.as_mut(), said);
            sums.put(said);
            more
        });
        Ok(())
    }
}

pub fn send_tcp(at: &str, message: &[u8]) -> io::Result<()> {
    let address: SocketAddr = at.parse().map_err(|e| io::Error::new(ErrorKind::InvalidInput, e))?;
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_write_timeout(Some(LIMIT))?;
    stream.write_all(message)
}

pub fn send_unix(at: &str, message: &[u8]) -> io::Result<()> {
    let mut stream = UnixStream::connect(at)?;
    stream.set_write_timeout(Some(LIMIT))?;
    stream.write_all(message)
}
