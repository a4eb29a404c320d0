//! What workers send, and what has come of it.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind};

/// Bytes of a message: tag of the run, number of the worker, its sum; each 8 bytes, little-endian. All mechanisms keep so few
/// bytes together.
pub const LEN: usize = 24;

/// The message of a worker.
pub fn message(tag: u64, worker: u32, sum: f64) -> [u8; LEN] {
    let mut message = [0; LEN];
    for (to, word) in message.chunks_exact_mut(8).zip([tag, worker.into(), sum.to_bits()]) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    message
}

/// The sums that have come.
pub struct Sums {
    tag: u64,
    of: Vec<Option<f64>>,
}

impl Sums {
    /// Those of so many workers.
    pub fn new(tag: u64, workers: u32) -> Sums {
        Sums { tag, of: vec![None; workers as usize] }
    }

    /// Workers of the run.
    pub fn workers(&self) -> u64 {
        self.of.len() as u64
    }

    /// A message has come. What is no message of this run is left out: anybody may connect to a port.
    pub fn put(&mut self, message: &[u8]) {
        let mut words = message.chunks_exact(8).map(|word| word.try_into().map_or(0, u64::from_le_bytes));
        let words = [words.next(), words.next(), words.next()];
        if let ([Some(tag), Some(worker), Some(sum)], true) = (words, message.len() == LEN)
            && tag == self.tag
            && let Some(of) = usize::try_from(worker).ok().and_then(|worker| self.of.get_mut(worker))
        {
            *of = Some(f64::from_bits(sum));
        }
    }

    /// All workers have added to this one sum.
    pub fn put_whole(&mut self, sum: f64) {
        self.of.fill(Some(0.0));
        if let Some(first) = self.of.first_mut() {
            *first = Some(sum);
        }
    }

    /// Puts each message that `next` gives until it has no more.
    pub fn drain(&mut self, mut next: impl FnMut(&mut [u8]) -> io::Result<usize>) -> io::Result<()> {
        let mut message = [0; LEN];
        loop {
            match next(&mut message) {
                Ok(0) => return Ok(()),
                Ok(n) => self.put(message.get(..n).unwrap_or_default()),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// The first worker of whom nothing has come.
    pub fn missing(&self) -> Option<usize> {
        self.of.iter().position(Option::is_none)
    }

    /// Their sum, always added in the same order, the smallest first, whoever came first.
    pub fn whole(&self) -> f64 {
        self.of.iter().rev().flatten().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_messages_of_this_run_count() {
        let mut sums = Sums::new(7, 2);
        for bad in [&message(8, 0, 1.0)[..], &message(7, 2, 1.0), &message(7, 0, 1.0)[..23], b""] {
            sums.put(bad);
        }
        assert_eq!(sums.missing(), Some(0));
        sums.put(&message(7, 1, 0.25));
        sums.put(&message(7, 0, 1.0));
        assert_eq!((sums.missing(), sums.whole()), (None, 1.25));
    }

    #[test]
    fn the_order_of_coming_does_not_show() {
        let numbers: Vec<f64> = (0..100).map(|i| 1.0 / (3.0 + f64::from(i))).collect();
        let whole = |order: &mut dyn Iterator<Item = usize>| {
            let mut sums = Sums::new(1, 100);
            order.for_each(|i| sums.put(&message(1, i as u32, numbers[i])));
            sums.whole().to_bits()
        };
        assert_eq!(whole(&mut (0..100)), whole(&mut (0..100).rev()));
    }
}
