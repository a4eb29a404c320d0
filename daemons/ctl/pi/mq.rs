//! `mq`: a POSIX message queue of ten messages, as many as every Linux gives.
#![forbid(unsafe_code)]

use std::io;

use posixmq::{OpenOptions, PosixMq};

use super::mechanism::{Mechanism, patiently};
use super::place::Place;
use super::sums::{LEN, Sums};

const CAPACITY: usize = 10;

/// The receiving end.
pub struct Queue {
    name: String,
    queue: PosixMq,
}

impl Queue {
    pub fn make(place: &Place) -> io::Result<Queue> {
        let name = place.queue();
        let mut options = OpenOptions::readonly();
        options.mode(0o600).capacity(CAPACITY).max_msg_len(LEN).create_new().nonblocking();
        let queue = options.open(&name)?;
        Ok(Queue { name, queue })
    }
}

impl Mechanism for Queue {
    fn at(&self) -> String {
        self.name.clone()
    }

    fn take(&mut self, sums: &mut Sums) -> io::Result<()> {
        sums.drain(|message| self.queue.recv(message).map(|(_, n)| n))
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let _ = posixmq::remove_queue(&self.name);
    }
}

pub fn send(at: &str, message: &[u8]) -> io::Result<()> {
    let queue = OpenOptions::writeonly().nonblocking().open(at)?;
    patiently(|| queue.send(0, message))
}
