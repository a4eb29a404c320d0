//! What a mechanism must do to bring sums from the workers to who gathers them: one type each, in a file beside this.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind};
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::place::Place;
use super::sums::Sums;
use super::{fifo, file, inherited, mq, shm, streams, sysv};

/// A mechanism of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// Messages appended to a file.
    File,
    /// An anonymous pipe.
    Pipe,
    /// TCP over 127.0.0.1.
    Tcp,
    /// A stream socket with a path.
    Unix,
    /// Two sockets without a name.
    Socketpair,
    /// A pipe with a path.
    Fifo,
    /// A POSIX message queue.
    Mq,
    /// A System V message queue.
    Sysv,
    /// One sum in shared memory, under a lock.
    Shm,
}

impl Via {
    /// All of them, as they are shown.
    pub const ALL: [Via; 9] =
        [Via::File, Via::Pipe, Via::Tcp, Via::Unix, Via::Socketpair, Via::Fifo, Via::Mq, Via::Sysv, Via::Shm];

    /// Its word on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Via::File => "file",
            Via::Pipe => "pipe",
            Via::Tcp => "tcp",
            Via::Unix => "unix",
            Via::Socketpair => "socketpair",
            Via::Fifo => "fifo",
            Via::Mq => "mq",
            Via::Sysv => "sysv",
            Via::Shm => "shm",
        }
    }

    /// Makes its object. It is removed when the value is dropped.
    pub fn make(self, place: &Place) -> io::Result<Box<dyn Mechanism>> {
        Ok(match self {
            Via::File => Box::new(file::File::make(place)?),
            Via::Pipe => Box::new(inherited::Pipe::make()?),
            Via::Tcp => Box::new(streams::Streams::tcp()?),
            Via::Unix => Box::new(streams::Streams::unix(place)?),
            Via::Socketpair => Box::new(inherited::Pair::make()?),
            Via::Fifo => Box::new(fifo::Fifo::make(place)?),
            Via::Mq => Box::new(mq::Queue::make(place)?),
            Via::Sysv => Box::new(sysv::Queue::make(place)?),
            Via::Shm => Box::new(shm::Shared::make(place)?),
        })
    }

    /// Sends a worker's message to the mechanism at `at`; shared memory takes the sum itself.
    pub fn send(self, at: &str, message: &[u8], sum: f64) -> io::Result<()> {
        match self {
            Via::File => file::send(at, message),
            Via::Pipe | Via::Socketpair => inherited::send(message),
            Via::Tcp => streams::send_tcp(at, message),
            Via::Unix => streams::send_unix(at, message),
            Via::Fifo => fifo::send(at, message),
            Via::Mq => mq::send(at, message),
            Via::Sysv => sysv::send(at, message),
            Via::Shm => shm::add(at, sum),
        }
    }
}

/// The end that gathers.
pub trait Mechanism {
    /// Where workers find it; empty if they inherit it.
    fn at(&self) -> String {
        String::new()
    }

    /// What a worker gets as its standard output.
    fn inherited(&self) -> io::Result<Stdio> {
        Ok(Stdio::null())
    }

    /// Takes what has come, without waiting.
    fn take(&mut self, sums: &mut Sums) -> io::Result<()>;
}

/// A worker waits no longer than this for room, or for whoever is at the other end.
pub const LIMIT: Duration = Duration::from_secs(4);

/// Tries until it is not refused for want of room. System V queues cannot be polled, so nothing is.
pub fn patiently<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let begin = Instant::now();
    loop {
        match attempt() {
            Err(e) if e.kind() == ErrorKind::WouldBlock && begin.elapsed() > LIMIT => {
                let text = format!("it has been full for {} s, nobody empties it", LIMIT.as_secs());
                return Err(io::Error::new(ErrorKind::TimedOut, text));
            }
            Err(e) if [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&e.kind()) => {
                sleep(Duration::from_millis(1));
            }
            done => return done,
        }
    }
}

/// Gives a whole message to what keeps messages together.
pub fn send_whole(message: &[u8], mut write: impl FnMut() -> io::Result<usize>) -> io::Result<()> {
    match patiently(&mut write)? {
        n if n == message.len() => Ok(()),
        n => {
            Err(io::Error::new(ErrorKind::WriteZero, format!("only {n} bytes of {} went in", message.len())))
        }
    }
}
