//! What a way from one process to another must offer to be measured.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;

/// Which of the two processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Sends, asks.
    First,
    /// Receives, answers.
    Second,
}

/// What the bench wants to do over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Bytes of a message.
    pub size: usize,
    /// Messages go one way only, as many as fit. A mechanism that drops what finds no room must count credits then.
    pub is_stream: bool,
}

/// Both ends, open. Nothing of them has a name any more, if that can be.
#[derive(Default)]
pub struct Ends {
    /// Descriptors for the first process.
    pub first: Vec<OwnedFd>,
    /// Descriptors for the second one.
    pub second: Vec<OwnedFd>,
    /// What both are told.
    pub word: String,
    /// Removes what still has a name when this value goes.
    pub guard: Option<Box<dyn std::any::Any>>,
}

/// One end as a process gets it.
pub struct End {
    /// Whose.
    pub side: Side,
    /// Its descriptors, in the order of [`Ends`].
    pub fds: Vec<OwnedFd>,
    /// What both were told.
    pub word: String,
    /// The process at the other end.
    pub peer: i32,
    /// What it will be used for.
    pub load: Load,
}

/// A way to carry messages between two processes.
pub trait Mechanism: Sync {
    /// The word of `--only`.
    fn name(&self) -> &'static str;

    /// Bytes that a message of it can have.
    fn message_max(&self) -> usize {
        MESSAGE_MAX
    }

    /// It carries messages of one size only, of so many bytes.
    fn only_size(&self) -> Option<usize> {
        None
    }

    /// Bytes that a stream carries at most.
    fn bytes_max(&self) -> usize {
        8 << 30
    }

    /// In the bench itself: opens both ends.
    ///
    /// # Errors
    /// This machine does not have it, or a limit of it is reached.
    fn open(&self, load: Load) -> io::Result<Ends>;

    /// In each process: makes one end ready.
    ///
    /// # Errors
    /// The system refuses it.
    fn join(&self, end: End) -> io::Result<Box<dyn Port>>;

    /// Called when the bench itself has died: removes what still has a name.
    fn abandon(&self, _word: &str) {}
}

/// One end at work. All calls block; the bench ends who blocks for too long.
pub trait Port {
    /// Sends a message and returns how many system calls that took.
    ///
    /// # Errors
    /// The system's.
    fn send(&mut self, message: &[u8]) -> io::Result<u32>;

    /// Receives one message of exactly the length of `out`, and returns how many system calls that took.
    ///
    /// # Errors
    /// The system's; `UnexpectedEof`: the other end is gone.
    fn receive(&mut self, out: &mut [u8]) -> io::Result<u32>;

    /// Does what is left to do after the last message of a stream; system calls.
    ///
    /// # Errors
    /// The system's.
    fn flush(&mut self) -> io::Result<u32> {
        Ok(0)
    }

    /// Of each so many bytes the first eight arrive; the rest belongs to the mechanism.
    fn stride(&self) -> usize {
        8
    }
}

/// Bytes of the smallest message that is asked for: one entry.
pub const SMALLEST: usize = 32;
/// Bytes of the messages whose latency is measured: a cache line.
pub const LINE: usize = 64;
/// Bytes of the largest message that is ever asked for.
pub const MESSAGE_MAX: usize = 64 * 1024;
/// What mechanisms with limits carry at once, as kernels are set up.
pub const SMALL: usize = 8 * 1024;

/// The other end is gone.
pub fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the other end is gone")
}

/// The next descriptor of an end.
///
/// # Errors
/// There is none: both processes are not of the same program.
pub fn take(fds: &mut impl Iterator<Item = OwnedFd>) -> io::Result<OwnedFd> {
    fds.next().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a descriptor is missing"))
}
