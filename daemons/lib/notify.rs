//! Word to the service manager (systemd, or `ipc-pipeline run`): READY=1, STATUS=, WATCHDOG=1, RELOADING=1, STOPPING=1.
//!
//! The words are those of the sd-notify package; the socket is our own because it must never block: a manager that does
//! not read would otherwise stop a daemon.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;

/// STATUS= is sent at most this often, ns.
const STATUS_NS: u64 = 1_000_000_000;

/// The way to the service manager; silent if there is none. Says STOPPING=1 when dropped.
pub struct Notifier {
    socket: Option<UnixDatagram>,
    ping_ns: Option<u64>,
    next_ping: u64,
    next_status: u64,
    status: String,
    /// READY=1 behind RELOADING=1 found no room: without it the manager would wait for ever.
    owes_ready: bool,
    pace: Pace,
}

/// How fast a number of entries rises.
#[derive(Default)]
struct Pace {
    /// When it was looked at, CLOCK_MONOTONIC ns, and what it was.
    last: Option<(u64, u64)>,
}

impl Pace {
    /// Tenths of entries a second since the last call; `None`: there was none, or the number was set back.
    fn tenths(&mut self, now_ns: u64, entries: u64) -> Option<u64> {
        let (then, before) = self.last.replace((now_ns, entries))?;
        let (new, ns) = (entries.checked_sub(before)?, now_ns.checked_sub(then).filter(|ns| *ns > 0)?);
        u64::try_from(u128::from(new) * 10_000_000_000 / u128::from(ns)).ok()
    }
}

/// What STATUS= tells of a daemon.
pub struct Status<'a> {
    /// What it does, in words.
    pub state: &'a str,
    /// How far it has come: seq of the last entry.
    pub seq: u64,
    /// What it has done with that entry, like "durable".
    pub done: &'a str,
    /// How many entries it has still to do, and of whom they are; `None`: nobody knows.
    pub lag: Option<u64>,
    /// Of what, like "accepted".
    pub behind: &'a str,
    /// What was lost, each kind with its number.
    pub lost: &'a [(&'a str, u64)],
}

impl Status<'_> {
    /// All of it on one line; `tenths` of entries a second, if that is known.
    fn text(&self, tenths: Option<u64>) -> String {
        let Status { state, seq, done, lag, behind, lost } = self;
        let rate = match tenths {
            Some(n) if n < 100 => format!(" at {}.{} entries/s", n / 10, n % 10),
            Some(n) => format!(" at {} entries/s", n / 10),
            None => String::new(),
        };
        let lag = lag.map(|n| format!(", {n} {behind}")).unwrap_or_default();
        let lost: Vec<String> =
            lost.iter().filter(|(_, n)| *n > 0).map(|(what, n)| format!("{n} {what}")).collect();
        let lost =
            if lost.is_empty() { "nothing lost".to_owned() } else { format!("lost: {}", lost.join(", ")) };
        format!("{state}{rate}; entry {seq} {done}{lag}; {lost}")
    }
}

impl Notifier {
    /// From the environment that the service manager gave us.
    pub fn from_env() -> Notifier {
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|name| connect(&name).ok());
        let limit = sd_notify::watchdog_enabled().filter(|d| *d > Duration::ZERO);
        // at half of the limit, as sd_watchdog_enabled(3) advises
        let ping_ns = limit.map(|d| (d.as_nanos() / 2).min(u64::MAX as u128) as u64);
        Notifier::to(socket, ping_ns)
    }

    fn to(socket: Option<UnixDatagram>, ping_ns: Option<u64>) -> Notifier {
        let (status, pace) = (String::new(), Pace::default());
        Notifier { socket, ping_ns, next_ping: 0, next_status: 0, status, owes_ready: false, pace }
    }

    /// True: the manager has it, or there is none. Else its socket is full or gone, and mostly the next message will do.
    fn send(&self, states: &[NotifyState]) -> bool {
        let message: String = states.iter().map(|s| format!("{s}\n")).collect();
        self.socket.as_ref().is_none_or(|socket| socket.send(message.as_bytes()).is_ok())
    }

    /// Own page, lock and objects are there.
    pub fn ready(&self) {
        self.send(&[NotifyState::Ready]);
    }

    /// The configuration is being read again.
    pub fn reloading(&self, now_ns: u64) {
        self.send(&[NotifyState::Reloading, NotifyState::MonotonicUsec(i128::from(now_ns / 1000))]);
    }

    /// It was read.
    pub fn reloaded(&mut self) {
        self.owes_ready = !self.send(&[NotifyState::Ready]);
    }

    /// The working loop has turned: a ping if one is due.
    #[inline]
    pub fn turn(&mut self, now_ns: u64) {
        if let Some(ping_ns) = self.ping_ns
            && now_ns >= self.next_ping
        {
            self.next_ping = now_ns + ping_ns;
            self.send(&[NotifyState::Watchdog]);
        }
    }

    /// Is a new STATUS= line due?
    pub fn status_due(&self, now_ns: u64) -> bool {
        self.socket.is_some() && now_ns >= self.next_status
    }

    /// Sends a STATUS= line if it says something new.
    pub fn status(&mut self, now_ns: u64, status: &Status) {
        if self.owes_ready {
            self.reloaded();
        }
        self.next_status = now_ns + STATUS_NS;
        let tenths = self.pace.tenths(now_ns, status.seq);
        // a control character could forge another line of the protocol
        let text: String = status.text(tenths).chars().filter(|c| !c.is_control()).collect();
        if text != self.status {
            self.send(&[NotifyState::Status(&text)]);
            self.status = text;
        }
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        self.send(&[NotifyState::Stopping]);
    }
}

fn connect(name: &OsStr) -> std::io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
        path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status<'a>(lag: Option<u64>, lost: &'a [(&'a str, u64)]) -> Status<'a> {
        Status {
            state: "running",
            seq: 7,
            done: "durable",
            lag,
            behind: "accepted and not yet durable",
            lost,
        }
    }

    #[test]
    fn one_line_in_plain_words() {
        let lost = [("ticks missed", 3), ("samples dropped", 0), ("bad lines", 2)];
        assert_eq!(
            status(Some(4), &lost).text(Some(1255)),
            "running at 125 entries/s; entry 7 durable, 4 accepted and not yet durable; lost: 3 ticks missed, 2 bad lines"
        );
        assert_eq!(
            status(None, &[("x", 0)]).text(Some(12)),
            "running at 1.2 entries/s; entry 7 durable; nothing lost"
        );
        assert_eq!(status(None, &[]).text(None), "running; entry 7 durable; nothing lost");
    }

    #[test]
    fn a_pace_is_that_of_the_last_interval() {
        let mut pace = Pace::default();
        let second = 1_000_000_000;
        assert_eq!(pace.tenths(5, 100), None);
        assert_eq!(pace.tenths(5 + second, 300), Some(2000));
        assert_eq!(pace.tenths(5 + 3 * second, 301), Some(5));
        assert_eq!(pace.tenths(5 + 3 * second, 302), None, "no time has passed");
        assert_eq!(pace.tenths(5 + 4 * second, 10), None, "another record");
        assert_eq!(pace.tenths(5 + 5 * second, 10), Some(0));
        pace.tenths(6 * second, 0);
        assert_eq!(pace.tenths(6 * second + 1, u64::MAX), None, "more than there is a number for");
    }

    /// A manager that has no room for READY=1 gets it later: it would wait for ever.
    #[test]
    fn ready_is_owed_until_it_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let manager = UnixDatagram::bind(dir.path().join("s")).unwrap();
        manager.set_nonblocking(true).unwrap();
        let mut notifier = Notifier::to(connect(dir.path().join("s").as_os_str()).ok(), None);
        while notifier.send(&[NotifyState::Watchdog]) {}
        notifier.reloaded();
        let read = || {
            let mut bytes = [0; 100];
            manager.recv(&mut bytes).map(|n| String::from_utf8_lossy(&bytes[..n]).into_owned())
        };
        while read().is_ok() {}
        notifier.status(1, &status(None, &[]));
        assert_eq!(read().unwrap(), "READY=1\n");
        assert!(read().unwrap().starts_with("STATUS=running; entry 7"));
        notifier.status(2, &status(Some(1), &[]));
        assert!(read().unwrap().starts_with("STATUS="), "it was taken");
        notifier.reloading(5_000_000);
        assert_eq!(read().unwrap(), "RELOADING=1\nMONOTONIC_USEC=5000\n");
    }
}
