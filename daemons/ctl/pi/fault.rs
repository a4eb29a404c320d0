//! Why pi did not come, and what to do.
#![forbid(unsafe_code)]

use std::fmt::{self, Display};
use std::io::{self, ErrorKind};

use rustix::io::Errno;

use super::Via;

/// A sentence for people, and what to do.
#[derive(Debug)]
pub struct Fault {
    /// What was tried, and why it failed.
    pub said: String,
    /// What to do; empty where nobody knows.
    pub remedy: String,
}

impl Fault {
    /// The system refused something.
    pub fn system(via: Via, what: impl Display, why: &io::Error) -> Fault {
        Fault { said: format!("cannot {what}: {why}"), remedy: remedy(via, why).to_owned() }
    }

    /// Something else.
    pub fn new(said: impl Into<String>, remedy: impl Into<String>) -> Fault {
        Fault { said: said.into(), remedy: remedy.into() }
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "\n-> {}", self.remedy) }
    }
}

fn remedy(via: Via, why: &io::Error) -> &'static str {
    match (via, why.kind()) {
        (_, ErrorKind::TimedOut) => return "is the machine overloaded? Try again with fewer --workers",
        (Via::Unix, ErrorKind::InvalidInput) => {
            return "set TMPDIR to a shorter path: that of a socket has 107 bytes at most";
        }
        _ => {}
    }
    match (via, Errno::from_io_error(why)) {
        (Via::Mq, Some(Errno::MFILE)) => {
            "the memory of this user's message queues is used up: remove queues of /dev/mqueue, or raise ulimit -q (LimitMSGQUEUE=)"
        }
        (Via::Mq, Some(Errno::NOSPC)) => "raise the sysctl fs.mqueue.queues_max, or remove queues",
        (Via::Mq, Some(Errno::INVAL)) => "raise the sysctls fs.mqueue.msg_max and fs.mqueue.msgsize_max",
        (Via::Sysv, Some(Errno::NOSPC)) => "raise the sysctl kernel.msgmni, or remove queues: ipcs -q, ipcrm",
        (Via::Mq | Via::Sysv, Some(Errno::NOSYS)) => "this kernel has no such queues: use another mechanism",
        (Via::Shm, Some(Errno::NOSPC)) => "free some of /dev/shm, or enlarge it: mount -o remount,size=...",
        (Via::Shm, Some(Errno::NOENT)) => "mount it: mount -t tmpfs tmpfs /dev/shm",
        (Via::Tcp, Some(Errno::ADDRNOTAVAIL | Errno::ADDRINUSE)) => {
            "is the loopback interface up (ip link set lo up), and has it a free port?"
        }
        (_, Some(Errno::NOSPC | Errno::DQUOT)) => {
            "free some of the file system, or set TMPDIR to another one"
        }
        (_, Some(Errno::MFILE | Errno::NFILE)) => "raise the limit on open files: ulimit -n",
        (_, Some(Errno::AGAIN | Errno::NOMEM)) => "take fewer --workers, or raise ulimit -u (TasksMax=)",
        _ => "",
    }
}
