//! Two processes of this program, one at each end of a mechanism, and the bench that waits for them: never for ever.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ipc_pipeline::{carrier, program};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::control::{hear, tell};
use super::job::{Job, Report};
use super::mechanism::{Ends, Mechanism, Side};

/// Longer than any sample takes, even on a machine that is very busy.
const BOUND: Duration = Duration::from_secs(20);

/// One process; it dies with this value.
struct Process {
    child: Child,
    socket: OwnedFd,
}

impl Process {
    fn start() -> io::Result<Process> {
        let (socket, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        // A group of its own: Ctrl-C reaches the bench alone, and whoever reads that the bench is gone cleans up.
        let child = Command::new(std::env::current_exe()?)
            .args(["bench", "--child"])
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Process { child, socket })
    }

    fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Its next line, until `end`.
    fn hear(&mut self, end: Instant) -> Result<String, String> {
        let left = end.saturating_duration_since(Instant::now());
        carrier::wait([self.socket.as_fd()], false, left);
        if Instant::now() >= end {
            return Err(format!("nothing came for {} s", BOUND.as_secs()));
        }
        let line = match hear(&self.socket) {
            Ok((line, _)) => line,
            Err(_) => return Err(self.how()),
        };
        match line.strip_prefix("failed ") {
            Some(why) => Err(why.to_owned()),
            None => Ok(line),
        }
    }

    fn how(&mut self) -> String {
        match self.child.wait() {
            Ok(status) => format!("one of its two processes {}", program::how(status)),
            Err(e) => e.to_string(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the first and the second process say.
pub struct Reports {
    /// Who sent.
    pub first: Report,
    /// Who received.
    pub second: Report,
}

/// One sample of a mechanism.
///
/// # Errors
/// A sentence's rest: why it cannot be measured here.
pub fn sample(mechanism: &dyn Mechanism, job: &Job) -> Result<Reports, String> {
    let system = |e: io::Error| e.to_string();
    // The guard goes last, after both processes.
    let Ends { first: firsts, second: seconds, word, guard: _guard } =
        mechanism.open(job.load()).map_err(system)?;
    let mut first = Process::start().map_err(system)?;
    let mut second = Process::start().map_err(system)?;
    let pids = (first.pid(), second.pid());
    tell(&first.socket, &job.line(Side::First, pids.1, &word), &firsts).map_err(system)?;
    tell(&second.socket, &job.line(Side::Second, pids.0, &word), &seconds).map_err(system)?;
    // Only the two processes hold the ends now: if one of them dies, the other one reads that.
    drop((firsts, seconds));
    let end = Instant::now() + BOUND;
    for process in [&mut second, &mut first] {
        process.hear(end)?;
    }
    for process in [&second, &first] {
        tell(&process.socket, "go", &[]).map_err(system)?;
    }
    let report = |process: &mut Process| {
        let line = process.hear(end)?;
        Report::read(&line).ok_or_else(|| format!("one of its processes said {line:?}"))
    };
    let second_said = report(&mut second);
    // Whoever failed first knows why; the other one only lost its partner.
    let first_said = report(&mut first)?;
    Ok(Reports { first: first_said, second: second_said? })
}
