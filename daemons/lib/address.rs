//! The address of one end of an edge, written as URI. This version carries `shm:` only; the schemes of the
//! other carriers are known, so that a configuration made for them gets a clear answer.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

/// The addresses that this version carries, for messages.
pub const ALLOWED: &str = "shm:";

const NOT_BUILT_IN: [&str; 6] = ["mq", "fifo", "unix", "tcp", "udp", "sysv"];

/// Where one end of an edge is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// The spool (or the snapshot register) itself, read in place: `shm:`.
    Shm,
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// A carrier of the design that this version does not have.
    #[error("carrier `{0}` is not built into this version; allowed: {ALLOWED}")]
    NotBuiltIn(String),
    /// A scheme that no carrier has.
    #[error("there is no carrier `{0}`; allowed: {ALLOWED}")]
    Unknown(String),
    /// No scheme at all.
    #[error("{0:?} is no address, it has no `carrier:` at its front; allowed: {ALLOWED}")]
    NoScheme(String),
    /// `shm:` with something behind it.
    #[error("{0:?} says too much: `shm:` finds its segments by the instance's name; allowed: {ALLOWED}")]
    ShmWithPath(String),
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(AddressError::NoScheme(text.to_owned()));
        };
        match scheme {
            "shm" if rest.is_empty() => Ok(Address::Shm),
            "shm" => Err(AddressError::ShmWithPath(text.to_owned())),
            _ if NOT_BUILT_IN.contains(&scheme) => Err(AddressError::NotBuiltIn(scheme.to_owned())),
            _ => Err(AddressError::Unknown(scheme.to_owned())),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Shm => f.write_str("shm:"),
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
    fn shm_is_read_and_written_the_same() {
        assert_eq!("shm:".parse(), Ok(Address::Shm));
        assert_eq!(Address::Shm.to_string(), "shm:");
    }

    #[test]
    fn carriers_of_later_versions_are_named_in_the_refusal() {
        let others =
            ["mq:/q", "fifo:/run/f", "unix:/run/s", "tcp:127.0.0.1:51337", "udp:127.0.0.1:1", "sysv:7"];
        for text in others {
            let scheme = text.split(':').next().unwrap();
            let wanted = format!("carrier `{scheme}` is not built into this version; allowed: shm:");
            assert_eq!(refused(text), wanted);
        }
    }

    #[test]
    fn everything_else_is_refused_with_the_list() {
        assert_eq!(refused("nats:x"), "there is no carrier `nats`; allowed: shm:");
        assert_eq!(refused("SHM:"), "there is no carrier `SHM`; allowed: shm:");
        assert!(refused("shm").ends_with("no `carrier:` at its front; allowed: shm:"));
        assert!(refused("").ends_with("allowed: shm:"));
        assert!(refused("shm:/other").contains("says too much"));
    }
}
