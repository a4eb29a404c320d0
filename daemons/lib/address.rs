//! The address of one end of an edge, written as URI: `mq:`, `fifo:`, `tcp:51337` ... All but TCP and UDP find their object by
//! the instance's name and the receiver's role, so that there is nothing to write behind the scheme.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

/// The addresses there are, for messages.
pub const ALLOWED: &str = "shm: mq: fifo: unix: sysv: tcp:PORT udp:PORT";

/// The port of `tcp:` and `udp:` without one.
pub const PORT: u16 = 51337;

/// Where one end of an edge is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// The spool (or the snapshot register) itself, read in place.
    Shm,
    /// A POSIX message queue.
    Mq,
    /// A named pipe.
    Fifo,
    /// A socket in the file system that keeps messages together (SOCK_SEQPACKET).
    Unix,
    /// A System V message queue.
    Sysv,
    /// TCP on this port of the loopback interface.
    Tcp(u16),
    /// UDP on this port of the loopback interface.
    Udp(u16),
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// A scheme that no carrier has.
    #[error("there is no carrier `{0}`; allowed: {ALLOWED}")]
    Unknown(String),
    /// No scheme at all.
    #[error("{0:?} is no address, it has no `carrier:` at its front; allowed: {ALLOWED}")]
    NoScheme(String),
    /// Something behind a scheme that has nothing.
    #[error(
        "{text:?} says too much: `{scheme}:` finds its object by the instance's name; allowed: {ALLOWED}"
    )]
    TooMuch {
        /// The whole text.
        text: String,
        /// Its scheme.
        scheme: String,
    },
    /// Something else than a port of the loopback interface.
    #[error(
        "{0:?} is not the loopback interface and a port from 1 to 65535; edges stay on this machine; allowed: {ALLOWED}"
    )]
    Port(String),
}

impl Address {
    /// The carrier's word.
    pub fn scheme(self) -> &'static str {
        match self {
            Address::Shm => "shm",
            Address::Mq => "mq",
            Address::Fifo => "fifo",
            Address::Unix => "unix",
            Address::Sysv => "sysv",
            Address::Tcp(_) => "tcp",
            Address::Udp(_) => "udp",
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(AddressError::NoScheme(text.to_owned()));
        };
        let named = match scheme {
            "shm" => Address::Shm,
            "mq" => Address::Mq,
            "fifo" => Address::Fifo,
            "unix" => Address::Unix,
            "sysv" => Address::Sysv,
            "tcp" => return port(text, rest).map(Address::Tcp),
            "udp" => return port(text, rest).map(Address::Udp),
            _ => return Err(AddressError::Unknown(scheme.to_owned())),
        };
        let (text, scheme) = (text.to_owned(), scheme.to_owned());
        if rest.is_empty() { Ok(named) } else { Err(AddressError::TooMuch { text, scheme }) }
    }
}

/// `51337`, `127.0.0.1:51337`, `localhost:51337` or nothing.
fn port(text: &str, rest: &str) -> Result<u16, AddressError> {
    let digits = rest.strip_prefix("127.0.0.1:").or(rest.strip_prefix("localhost:")).unwrap_or(rest);
    let plain = digits.bytes().all(|b| b.is_ascii_digit()); // not +5
    match digits.parse() {
        _ if rest.is_empty() => Ok(PORT),
        Ok(port) if plain && port > 0 => Ok(port),
        _ => Err(AddressError::Port(text.to_owned())),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(port) | Address::Udp(port) => write!(f, "{}:127.0.0.1:{port}", self.scheme()),
            named => write!(f, "{}:", named.scheme()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        text.parse::<Address>().unwrap_err().to_string()
    }

    #[test]
    fn every_address_is_read_and_written_the_same() {
        for text in ["shm:", "mq:", "fifo:", "unix:", "sysv:", "tcp:127.0.0.1:51337", "udp:127.0.0.1:1"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in ["tcp:", "tcp:51337", "tcp:localhost:51337", "tcp:127.0.0.1:51337"] {
            assert_eq!(text.parse(), Ok(Address::Tcp(51337)), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused_with_the_list() {
        assert_eq!(refused("nats:x"), format!("there is no carrier `nats`; allowed: {ALLOWED}"));
        assert_eq!(refused("SHM:"), format!("there is no carrier `SHM`; allowed: {ALLOWED}"));
        assert!(refused("shm").ends_with(&format!("no `carrier:` at its front; allowed: {ALLOWED}")));
        assert!(refused("").ends_with(ALLOWED));
        for text in ["shm:/other", "mq:/q", "fifo:/run/f", "sysv:7"] {
            assert!(refused(text).contains("says too much"), "{text}");
        }
        for text in ["tcp:0", "udp:65536", "tcp:+5", "tcp:10.0.0.1:5", "tcp:*:5", "udp:127.0.0.1:", "tcp:::1"]
        {
            assert!(refused(text).contains("edges stay on this machine"), "{text}");
        }
    }
}
