//! Standard output, written without waiting for whoever reads it: a pipe or a terminal takes what fits, the rest follows.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind, Stdout};
use std::time::{Duration, Instant};

use ipc_pipeline::sink::Stream;

/// At the end a reader that takes nothing is waited for no longer.
const LAST: Duration = Duration::from_millis(500);

/// Standard output and what it has not taken yet.
pub struct Output {
    stdout: Stream<Stdout>,
    rest: Vec<u8>,
}

impl Output {
    /// Of this process. Nothing else in it may write there.
    pub fn new() -> Output {
        Output { stdout: Stream::of(io::stdout()), rest: Vec::new() }
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
        while !self.rest.is_empty() {
            match self.stdout.write(&self.rest) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                taken => self.rest.drain(..taken?),
            };
        }
        Ok(self.stdout.is_ready(Duration::ZERO))
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
            if self.stdout.is_ready(LAST / 10) {
                self.go_on()?;
            }
            if self.rest.len() < before {
                last = Instant::now();
            }
        }
        Ok(())
    }
}
