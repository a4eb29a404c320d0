//! The log of a machine without a journal: lines of RFC 3164 to the socket of the machine's syslog daemon.
#![forbid(unsafe_code)]

use std::io;
use std::path::Path;

use crate::sink::{Counted, Mailbox};

/// Where syslog daemons take lines.
pub const SOCKET: &str = "/dev/log";
/// The facility *daemon*, as it stands in a priority.
const DAEMON: u8 = 3 << 3;

/// The way to the syslog daemon.
pub struct Syslog {
    mailbox: Counted<Mailbox>,
    program: &'static str,
}

impl Syslog {
    /// The daemon whose socket is at `path`.
    ///
    /// # Errors
    /// Those of [`Mailbox::at`].
    pub fn at(path: &Path, program: &'static str) -> io::Result<Syslog> {
        Ok(Syslog { mailbox: Counted::new(Mailbox::at(path)?), program })
    }

    /// Sends a line. One that finds no room is counted, and the next one says how many.
    ///
    /// # Errors
    /// Nobody can read there: the line is still to be said elsewhere.
    pub fn send(&self, priority: u8, text: &str) -> io::Result<()> {
        let lost =
            |n| self.line(4, &format!("{n} messages were lost: the syslog daemon did not take them in time"));
        self.mailbox.send(&self.line(priority, text), lost)
    }

    /// Without a time stamp, which the daemon adds then (RFC 3164, 4.3.2): so it is in its time zone, not in ours.
    fn line(&self, priority: u8, text: &str) -> Vec<u8> {
        let (priority, program, pid) = (DAEMON | priority, self.program, std::process::id());
        format!("<{priority}>{program}[{pid}]: {text}").into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::tests::Reader;

    #[test]
    fn a_line_is_one_of_rfc_3164() {
        let reader = Reader::new();
        let syslog = Syslog::at(&reader.path(), "ipc-conv").unwrap();
        syslog.send(4, "a: b").unwrap();
        let line = format!("<28>ipc-conv[{}]: a: b", std::process::id());
        assert_eq!(String::from_utf8(reader.datagram()).unwrap(), line);
    }

    #[test]
    fn a_daemon_that_does_not_read_holds_nobody_up_and_one_that_is_gone_is_said() {
        let reader = Reader::new();
        let syslog = Syslog::at(&reader.path(), "ipc-conv").unwrap();
        (0..10_000).for_each(|i| syslog.send(6, &i.to_string()).unwrap());
        std::fs::remove_file(reader.path()).unwrap();
        assert!(syslog.send(6, "x").is_err());
    }
}
