//! Queues of the kernel: POSIX and System V messages, signals; and a file that one appends to and another follows.
#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use ipc_pipeline::sys::{self, MessageQueue, QueuedSignal};
use posixmq::PosixMq;
use rustix::process::Pid;

use super::mechanism::{End, Ends, Load, Mechanism, Port, SMALL, Side, take};
use super::room::Room;

/// POSIX message queues.
pub struct Mq;

impl Mq {
    fn queue(size: usize) -> io::Result<OwnedFd> {
        let name = format!("/ipc-pipeline-bench-{}-{:x}", std::process::id(), fastrand::u64(..));
        let mut options = posixmq::OpenOptions::readwrite();
        options.mode(0o600).max_msg_len(size).capacity(10).create_new();
        let queue = options.open(&name)?;
        posixmq::remove_queue(&name)?; // whoever has it open keeps it
        sys::borrowed(&queue).try_clone_to_owned()
    }
}

/// What a queue of ours says when a limit of the machine is reached.
fn with_limit(e: io::Error) -> io::Error {
    let remedy = match e.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::MFILE) => "the memory of this user's queues is used up: ulimit -q",
        Some(rustix::io::Errno::NOSPC) => "the machine has as many queues as it may have",
        Some(rustix::io::Errno::NOSYS) => "this kernel has no such queues",
        _ => return e,
    };
    io::Error::new(e.kind(), format!("{e}; {remedy}"))
}

impl Mechanism for Mq {
    fn name(&self) -> &'static str {
        "mq"
    }

    fn message_max(&self) -> usize {
        SMALL // fs.mqueue.msgsize_max is 8 KiB as a rule
    }

    fn open(&self, load: Load) -> io::Result<Ends> {
        let (there, back) =
            (Mq::queue(load.size).map_err(with_limit)?, Mq::queue(load.size).map_err(with_limit)?);
        let first = vec![back.try_clone()?, there.try_clone()?];
        Ok(Ends { first, second: vec![there, back], ..Ends::default() })
    }

    fn join(&self, end: End) -> io::Result<Box<dyn Port>> {
        let mut fds = end.fds.into_iter();
        let (input, output) = (sys::queue_of(take(&mut fds)?), sys::queue_of(take(&mut fds)?));
        Ok(Box::new(MqPort { input, output }))
    }
}

struct MqPort {
    input: PosixMq,
    output: PosixMq,
}

impl Port for MqPort {
    fn send(&mut self, message: &[u8]) -> io::Result<u32> {
        self.output.send(0, message).map(|()| 1)
    }

    fn receive(&mut self, out: &mut [u8]) -> io::Result<u32> {
        self.input.recv(out).map(|_| 1)
    }
}

/// System V message queues.
pub struct Sysv;

/// Both queues; they have no name but their number, and live until somebody removes them.
struct Pair([i32; 2]);

impl Pair {
    fn read(word: &str) -> Option<Pair> {
        let (there, back) = word.split_once(' ')?;
        Some(Pair([there.parse().ok()?, back.parse().ok()?]))
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for id in self.0 {
            let _ = MessageQueue::of(id).remove(); // the other process may have done it
        }
    }
}

impl Mechanism for Sysv {
    fn name(&self) -> &'static str {
        "sysv"
    }

    fn message_max(&self) -> usize {
        SMALL // kernel.msgmax is 8 KiB as a rule
    }

    fn open(&self, _: Load) -> io::Result<Ends> {
        let there = MessageQueue::new().map_err(with_limit)?;
        let mut pair = Pair([there.id(), there.id()]);
        pair.0[1] = MessageQueue::new().map_err(with_limit)?.id();
        let word = format!("{} {}", pair.0[0], pair.0[1]);
        Ok(Ends { word, guard: Some(Box::new(pair)), ..Ends::default() })
    }

    fn join(&self, end: End) -> io::Result<Box<dyn Port>> {
        let pair = Pair::read(&end.word).ok_or(ErrorKind::InvalidInput)?;
        let [there, back] = pair.0.map(MessageQueue::of);
        std::mem::forget(pair); // the bench's own value removes them
        let (input, output) = if end.side == Side::First { (back, there) } else { (there, back) };
        Ok(Box::new(SysvPort { input, output }))
    }

    fn abandon(&self, word: &str) {
        drop(Pair::read(word));
    }
}

struct SysvPort {
    input: MessageQueue,
    output: MessageQueue,
}

impl Port for SysvPort {
    fn send(&mut self, message: &[u8]) -> io::Result<u32> {
        self.output.send_waiting(message).map(|()| 1)
    }

    fn receive(&mut self, out: &mut [u8]) -> io::Result<u32> {
        self.input.receive_waiting(out).map(|_| 1)
    }
}

/// Real-time signals, each with a word.
pub struct Signals;

impl Mechanism for Signals {
    fn name(&self) -> &'static str {
        "signals"
    }

    fn only_size(&self) -> Option<usize> {
        Some(8) // that is all a signal carries
    }

    fn open(&self, _: Load) -> io::Result<Ends> {
        Ok(Ends::default())
    }

    fn join(&self, end: End) -> io::Result<Box<dyn Port>> {
        let to = Pid::from_raw(end.peer).ok_or(ErrorKind::InvalidInput)?;
        Ok(Box::new(SignalPort { to, signal: QueuedSignal::block()? }))
    }
}

struct SignalPort {
    to: Pid,
    signal: QueuedSignal,
}

impl Port for SignalPort {
    fn send(&mut self, message: &[u8]) -> io::Result<u32> {
        let word = message.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let mut calls = 1;
        loop {
            match self.signal.send(self.to, word) {
                // The user's limit of queued signals: nothing says when there is room again.
                Err(e) if e.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                sent => return sent.map(|()| calls),
            }
            calls += 2;
        }
    }

    fn receive(&mut self, out: &mut [u8]) -> io::Result<u32> {
        let word = self.signal.receive()?;
        if let Some(bytes) = out.first_chunk_mut::<8>() {
            *bytes = word.to_le_bytes();
        }
        Ok(1)
    }
}

/// A file: one process appends, the other one looks again and again whether it has grown.
pub struct Appended;

impl Appended {
    fn file() -> io::Result<File> {
        let room = Room::new()?;
        OpenOptions::new().read(true).append(true).create_new(true).open(room.path("file"))
    }
}

impl Mechanism for Appended {
    fn name(&self) -> &'static str {
        "file"
    }

    fn bytes_max(&self) -> usize {
        128 << 20
    }

    fn open(&self, _: Load) -> io::Result<Ends> {
        let (there, back) = (Appended::file()?, Appended::file()?);
        let own = |file: &File| file.as_fd().try_clone_to_owned();
        let first = vec![own(&back)?, own(&there)?];
        Ok(Ends { first, second: vec![there.into(), back.into()], ..Ends::default() })
    }

    fn join(&self, end: End) -> io::Result<Box<dyn Port>> {
        let mut fds = end.fds.into_iter();
        let (input, output) = (take(&mut fds)?.into(), take(&mut fds)?.into());
        Ok(Box::new(Follower { input, output, at: 0 }))
    }
}

struct Follower {
    input: File,
    output: File,
    /// Bytes read so far.
    at: u64,
}

impl Port for Follower {
    fn send(&mut self, message: &[u8]) -> io::Result<u32> {
        // In one call: the file is opened for appending.
        io::Write::write_all(&mut self.output, message).map(|()| 1)
    }

    fn receive(&mut self, out: &mut [u8]) -> io::Result<u32> {
        let (mut done, mut calls) = (0, 0);
        while let Some(rest) = out.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let n = self.input.read_at(rest, self.at)?;
            (done, calls, self.at) = (done + n, calls + 1, self.at + n as u64);
            if n == 0 {
                calls += 1;
                std::thread::yield_now();
            }
        }
        Ok(calls)
    }
}
