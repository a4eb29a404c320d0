//! Reads a source that may take its time, a slow chip or a file on a network, in a thread of its own.
#![forbid(unsafe_code)]

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::{Source, SourceError, Supply};

/// The caller is kept waiting for so long at most.
const WAIT: Duration = Duration::from_millis(5);

/// A source that is read at each tick, one row at a time.
///
/// A reading counts for the tick that it was asked for. One that takes more than half of a period comes too late: its
/// tick has no reading, and the next reading begins when this one is over.
pub struct Aside {
    name: &'static str,
    asks: SyncSender<()>,
    answers: Receiver<Answer>,
    patience: Duration,
    /// Since when an answer is awaited.
    asked: Option<Instant>,
    /// The tick that was asked for has been given up.
    late: bool,
}

/// A row and what was said of it.
type Answer = (Vec<i32>, Result<Supply, SourceError>);

impl Aside {
    /// Rows have `channels` samples and are wanted every `period`; `name` is what users call the source.
    pub fn new(
        name: &'static str,
        mut source: impl Source + Send + 'static,
        channels: usize,
        period: Duration,
    ) -> Result<Aside, SourceError> {
        let (asks, asked) = sync_channel(1);
        let (answer, answers) = sync_channel(1);
        let read = move || {
            // Ends with the first who is gone.
            while asked.recv().is_ok() {
                let mut row = vec![0; channels];
                let supply = source.fill(&mut row);
                if answer.send((row, supply)).is_err() {
                    break;
                }
            }
        };
        let thread = thread::Builder::new().name(name.into()).spawn(read);
        thread.map_err(|why| SourceError::Read { path: name.into(), why })?;
        Ok(Aside { name, asks, answers, patience: period / 2, asked: None, late: false })
    }

    /// The answer, if it comes within `wait`.
    fn answer(&mut self, wait: Duration) -> Result<Option<Answer>, SourceError> {
        match self.answers.recv_timeout(wait) {
            Ok(answer) => {
                self.asked = None;
                Ok(Some(answer))
            }
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                let why = std::io::Error::other("the thread that reads it has ended");
                Err(SourceError::Read { path: self.name.into(), why })
            }
        }
    }

    fn does_not_answer(&self) -> Supply {
        Supply::Unread(format!("{} does not answer in time", self.name))
    }
}

impl Source for Aside {
    fn seek(&mut self, _: u64) -> Result<(), SourceError> {
        Ok(()) // what is there now is the next row
    }

    fn fill(&mut self, out: &mut [i32]) -> Result<Supply, SourceError> {
        self.late |= self.asked.is_some_and(|at| at.elapsed() >= self.patience);
        if self.late {
            if self.answer(Duration::ZERO)?.is_none() {
                return Ok(self.does_not_answer());
            }
            self.late = false; // that answer is for a tick of the past
        }
        if self.asked.is_none() {
            self.asked = Some(Instant::now());
            let _ = self.asks.try_send(()); // one that has ended is found below
        }
        match self.answer(WAIT.min(self.patience))? {
            Some((row, supply)) => {
                out.iter_mut().zip(row).for_each(|(slot, code)| *slot = code);
                supply
            }
            None if self.asked.is_some_and(|at| at.elapsed() < self.patience) => Ok(Supply::Nothing),
            None => {
                self.late = true;
                Ok(self.does_not_answer())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Sender, channel};

    /// Gives what it is sent, and waits for it as long as that takes.
    struct Slow(Receiver<i32>);

    impl Source for Slow {
        fn seek(&mut self, _: u64) -> Result<(), SourceError> {
            Ok(())
        }

        fn fill(&mut self, out: &mut [i32]) -> Result<Supply, SourceError> {
            match self.0.recv() {
                Ok(-1) => Ok(Supply::Unread("gone".into())),
                Ok(code) => {
                    out[0] = code;
                    Ok(Supply::Rows(1))
                }
                Err(_) => Ok(Supply::End),
            }
        }
    }

    fn slow(period: Duration) -> (Aside, Sender<i32>) {
        let (codes, slow) = channel();
        (Aside::new("poll", Slow(slow), 1, period).unwrap(), codes)
    }

    /// Asks for rows until it is said whether there is one for this tick.
    fn tick(source: &mut Aside) -> Result<i32, String> {
        let mut out = [0; 4];
        loop {
            match source.fill(&mut out).unwrap() {
                Supply::Rows(1) => return Ok(out[0]),
                Supply::Unread(text) => return Err(text),
                Supply::Nothing => {}
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn what_takes_its_time_is_waited_for() {
        let (mut source, codes) = slow(Duration::from_secs(3600));
        assert_eq!(source.fill(&mut [0]).unwrap(), Supply::Nothing);
        codes.send(5).unwrap();
        assert_eq!(tick(&mut source), Ok(5));
        codes.send(-1).unwrap();
        assert_eq!(tick(&mut source), Err("gone".into()));
    }

    #[test]
    fn a_late_answer_is_for_no_later_tick() {
        let (mut source, codes) = slow(Duration::from_millis(20));
        let late = Err("poll does not answer in time".to_owned());
        assert_eq!(tick(&mut source), late);
        assert_eq!(tick(&mut source), late);
        codes.send(5).unwrap(); // asked for at the first tick
        codes.send(6).unwrap();
        let begun = Instant::now();
        let mut next = tick(&mut source);
        while next == late {
            assert!(begun.elapsed() < Duration::from_secs(20));
            next = tick(&mut source);
        }
        assert_eq!(next, Ok(6));
    }

    #[test]
    fn a_thread_that_has_ended_is_an_error() {
        let (asks, _) = sync_channel(1);
        let (_, answers) = sync_channel(1);
        let patience = Duration::from_secs(1);
        let mut source = Aside { name: "poll", asks, answers, patience, asked: None, late: false };
        let text = source.fill(&mut [0]).unwrap_err().to_string();
        assert_eq!(text, "cannot read poll: the thread that reads it has ended");
    }
}
