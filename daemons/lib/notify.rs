//! Word to the service manager (systemd, or `ipc-pipeline run`): READY=1, STATUS=, WATCHDOG=1, STOPPING=1.
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
}

impl Notifier {
    /// From the environment that the service manager gave us.
    pub fn from_env() -> Notifier {
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|name| connect(&name).ok());
        let limit = sd_notify::watchdog_enabled().filter(|d| *d > Duration::ZERO);
        // at half of the limit, as sd_watchdog_enabled(3) advises
        let ping_ns = limit.map(|d| (d.as_nanos() / 2).min(u64::MAX as u128) as u64);
        Notifier { socket, ping_ns, next_ping: 0, next_status: 0, status: String::new() }
    }

    fn send(&self, states: &[NotifyState]) {
        let message: String = states.iter().map(|s| format!("{s}\n")).collect();
        if let Some(socket) = &self.socket {
            // Full or gone: the next one will do.
            let _ = socket.send(message.as_bytes());
        }
    }

    /// Own page, lock and objects are there.
    pub fn ready(&self) {
        self.send(&[NotifyState::Ready]);
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
    pub fn status(&mut self, now_ns: u64, text: &str) {
        self.next_status = now_ns + STATUS_NS;
        // a control character could forge another line of the protocol
        let text: String = text.chars().filter(|c| !c.is_control()).collect();
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
