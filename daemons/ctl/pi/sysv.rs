//! `sysv`: a System V message queue, which workers find by its number.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind};

use ipc_pipeline::sys::MessageQueue;
use rustix::io::Errno;

use super::mechanism::{Mechanism, patiently};
use super::place::Place;
use super::sums::Sums;

/// The receiving end.
pub struct Queue(MessageQueue);

impl Queue {
    pub fn make(place: &Place) -> io::Result<Queue> {
        let queue = MessageQueue::new().map(Queue)?;
        place.note(&queue.0)?;
        Ok(queue)
    }
}

impl Mechanism for Queue {
    fn at(&self) -> String {
        self.0.id().to_string()
    }

    fn take(&mut self, sums: &mut Sums) -> io::Result<()> {
        sums.drain(|message| match self.0.receive(message) {
            Err(e) if Errno::from_io_error(&e) == Some(Errno::NOMSG) => Ok(0),
            taken => taken,
        })
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let _ = self.0.remove();
    }
}

pub fn send(at: &str, message: &[u8]) -> io::Result<()> {
    let id = at.parse().map_err(|e| io::Error::new(ErrorKind::InvalidInput, e))?;
    let mut queue = MessageQueue::of(id);
    patiently(|| queue.send(message))
}
