//! The keys of `top`. Read here and not by crossterm, which never returns when its terminal is gone: that has to end `top`.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// q, Esc or Ctrl-C.
    Quit,
    /// p or the space bar.
    Pause,
    /// Down, right or Tab.
    Next,
    /// Up, left or Shift-Tab.
    Before,
}

/// The terminal as a source of keys.
pub struct Keys(File);

impl Keys {
    /// Those of standard input, or if that is no terminal of the one that we are on.
    ///
    /// # Errors
    /// There is no terminal.
    pub fn open() -> io::Result<Keys> {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            Ok(Keys(stdin.as_fd().try_clone_to_owned()?.into()))
        } else {
            File::open("/dev/tty").map(Keys)
        }
    }

    /// The keys that come within this time, as soon as there are any; none if there are none. `None`: the terminal is gone.
    pub fn wait(&mut self, patience: Duration) -> Option<Vec<Key>> {
        let time = Timespec::try_from(patience).ok();
        let mut terminal = [PollFd::new(&self.0, PollFlags::IN)];
        match poll(&mut terminal, time.as_ref()) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Some(Vec::new()),
            Ok(_) => {}
            Err(_) => return None,
        }
        let mut bytes = [0; 256];
        match self.0.read(&mut bytes) {
            Ok(0) => None,
            Ok(n) => Some(keys(bytes.get(..n).unwrap_or_default())),
            Err(e) if [io::ErrorKind::Interrupted, io::ErrorKind::WouldBlock].contains(&e.kind()) => {
                Some(Vec::new())
            }
            Err(_) => None,
        }
    }
}

/// The keys in what a terminal sends at once; all others mean nothing.
fn keys(mut bytes: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    while let Some((key, rest)) = first(bytes) {
        keys.extend(key);
        bytes = rest;
    }
    keys
}

/// The first key and what comes behind it; `None`: there is no more.
fn first(bytes: &[u8]) -> Option<(Option<Key>, &[u8])> {
    let (key, rest) = match bytes {
        [0x1b, b'[' | b'O', rest @ ..] => {
            // Parameters, then the letter that says which key it is.
            let end = rest.iter().position(|byte| (0x40..=0x7e).contains(byte)).unwrap_or(rest.len());
            let key = match rest.get(end) {
                Some(b'B' | b'C') => Some(Key::Next),
                Some(b'A' | b'D' | b'Z') => Some(Key::Before),
                _ => None,
            };
            return Some((key, rest.get(end + 1..).unwrap_or_default()));
        }
        [0x1b] | [0x1b, 0x1b, ..] => (Some(Key::Quit), bytes),
        [0x1b, _, rest @ ..] => return Some((None, rest)), // with Alt
        [b'q' | 0x03, ..] => (Some(Key::Quit), bytes),
        [b'p' | b' ', ..] => (Some(Key::Pause), bytes),
        [b'\t', ..] => (Some(Key::Next), bytes),
        [_, ..] => (None, bytes),
        [] => return None,
    };
    Some((key, rest.get(1..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key() {
        use Key::*;
        for (bytes, wanted) in [
            (&b"q"[..], &[Quit][..]),
            (b"\x1b", &[Quit]),
            (b"\x03", &[Quit]),
            (b"p ", &[Pause, Pause]),
            (b"\t\x1b[B\x1b[C\x1bOB", &[Next; 4]),
            (b"\x1b[Z\x1b[A\x1bOD\x1b[1;5A", &[Before; 4]),
            (b"c\x1bq\x1b[3~\x1b[1\xff\xc3\xa4", &[]),
            (b"\x1b[Aq", &[Before, Quit]),
            (b"", &[]),
        ] {
            assert_eq!(keys(bytes), wanted, "{bytes:?}");
        }
    }

    #[test]
    fn a_terminal_that_is_gone_has_no_keys() {
        let (ours, theirs) = rustix::pipe::pipe().unwrap();
        let mut keys = Keys(ours.into());
        rustix::io::write(&theirs, b"xp").unwrap();
        assert_eq!(keys.wait(Duration::from_secs(9)), Some(vec![Key::Pause]));
        assert_eq!(keys.wait(Duration::ZERO), Some(Vec::new()));
        drop(theirs);
        assert_eq!(keys.wait(Duration::from_secs(9)), None);
    }
}
