//! Standard output, written without waiting for whoever reads it: a pipe or a terminal takes what fits, the rest follows.
#![forbid(unsafe_code)]

use std::io::{self, Stdout};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

/// What a pipe that is ready takes at least without waiting.
const PIECE: usize = 4096;
/// At the end a reader that takes nothing is waited for no longer.
const LAST: Duration = Duration::from_millis(500);

/// Standard output and what it has not taken yet.
pub struct Output {
    stdout: Stdout,
    rest: Vec<u8>,
}

impl Output {
    /// Of this process. Nothing else in it may write there.
    pub fn new() -> Output {
        Output { stdout: io::stdout(), rest: Vec::new() }
    }

    /// Has everything been taken?
    pub fn is_idle(&self) -> bool {
        self.rest.is_empty()
    }

    /// Writes as much of the rest as is taken at once. True: all of it, and more would be.
    ///
    /// # Errors
    /// Those of writing, such as a broken pipe.
    pub fn go_on(&mut self) -> io::Result<bool> {
        while self.is_ready(Duration::ZERO) {
            if self.rest.is_empty() {
                return Ok(true);
            }
            let piece = self.rest.get(..PIECE).unwrap_or(&self.rest);
            let taken = rustix::io::retry_on_intr(|| rustix::io::write(&self.stdout, piece))?;
            self.rest.drain(..taken);
        }
        Ok(false)
    }

    /// Writes this behind the rest, as far as it is taken at once.
    ///
    /// # Errors
    /// As [`Output::go_on`].
    pub fn say(&mut self, text: &str) -> io::Result<()> {
        self.rest.extend(text.as_bytes());
        self.go_on().map(|_| ())
    }

    /// Writes the rest, as long as the reader takes some of it now and then.
    ///
    /// # Errors
    /// As [`Output::go_on`].
    pub fn finish(&mut self) -> io::Result<()> {
        let mut last = Instant::now();
        while !self.rest.is_empty() && last.elapsed() < LAST {
            let before = self.rest.len();
            if self.is_ready(LAST / 10) {
                self.go_on()?;
            }
            if self.rest.len() < before {
                last = Instant::now();
            }
        }
        Ok(())
    }

    /// Would a piece be taken without waiting for longer than this?
    fn is_ready(&self, wait: Duration) -> bool {
        let mut fds = [PollFd::new(&self.stdout, PollFlags::OUT)];
        let wait = Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
        // An error is found by the write itself.
        rustix::event::poll(&mut fds, Some(&wait)).map_or(true, |n| n > 0)
    }
}
