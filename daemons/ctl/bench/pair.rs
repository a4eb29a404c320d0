//! Two processes of this program, one at each end of a mechanism, and the bench that waits for them: never for ever.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ipc_pipeline::{carrier, program};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::child::LOST;
use super::control::{heard, tell};
use super::job::{Job, Report};
use super::mechanism::{Ends, Mechanism, Side};

/// Longer than any sample takes, even on a machine that is very busy.
const BOUND: Duration = Duration::from_secs(20);
/// A process that was killed is seen to be dead within this.
const GRACE: Duration = Duration::from_millis(200);

/// One process; it dies with this value.
struct Process {
    child: Child,
    socket: OwnedFd,
}

impl Process {
    fn start(who: &str) -> io::Result<Process> {
        let (socket, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        // A group of its own: Ctrl-C reaches the bench alone, and whoever reads that the bench is gone cleans up.
        let child = Command::new(std::env::current_exe()?)
            .args(["bench", "--child", who])
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Process { child, socket })
    }

    fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Takes its next line, if it has come and none was taken before.
    fn hear(&mut self, line: &mut Option<String>) -> Result<(), String> {
        if line.is_none() {
            *line = match heard(&self.socket) {
                Ok(heard) => heard,
                Err(_) => return Err(self.child.wait().map_or_else(|e| e.to_string(), died)),
            };
        }
        match line.as_ref().and_then(|line| line.strip_prefix("failed ")) {
            Some(why) => Err(why.to_owned()),
            None => Ok(()),
        }
    }

    /// What it has not got, if it says that next.
    fn misses(&mut self) -> Option<String> {
        self.hear(&mut None).err().filter(|why| why.ends_with(LOST))
    }

    /// How it was killed, if it was.
    fn killed(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok()??;
        status.signal().map(|_| died(status))
    }
}

fn died(status: ExitStatus) -> String {
    format!("one of its two processes {}", program::how(status))
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
    let who = format!("{} {word}", mechanism.name());
    let mut first = Process::start(&who).map_err(system)?;
    let mut second = Process::start(&who).map_err(system)?;
    let pids = (first.pid(), second.pid());
    tell(&first.socket, &job.line(Side::First, pids.1), &firsts).map_err(system)?;
    tell(&second.socket, &job.line(Side::Second, pids.0), &seconds).map_err(system)?;
    // Only the two processes hold the ends now: if one of them dies, the other one reads that.
    drop((firsts, seconds));
    let end = Instant::now() + BOUND;
    both(&mut first, &mut second, end)?;
    for process in [&second, &first] {
        tell(&process.socket, "go", &[]).map_err(system)?;
    }
    let (first, second) = both(&mut first, &mut second, end)?;
    let report = |line: &str| Report::read(line).ok_or_else(|| format!("one of its processes said {line:?}"));
    Ok(Reports { first: report(&first)?, second: report(&second)? })
}

/// The next line of each.
fn both(first: &mut Process, second: &mut Process, end: Instant) -> Result<(String, String), String> {
    let (mut of_first, mut of_second) = (None, None);
    loop {
        let heard = first.hear(&mut of_first).and_then(|()| second.hear(&mut of_second));
        heard.map_err(|why| reason(why, first, second))?;
        let silent = match (&of_first, &of_second) {
            (Some(_), None) => vec![second.socket.as_fd()],
            (None, Some(_)) => vec![first.socket.as_fd()],
            (None, None) => vec![first.socket.as_fd(), second.socket.as_fd()],
            (Some(first), Some(second)) => return Ok((first.clone(), second.clone())),
        };
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(format!("nothing came for {} s", BOUND.as_secs()));
        }
        carrier::wait(silent, false, left);
    }
}

/// Whoever lost its partner says only that: how the partner was killed, or what it misses, says more.
fn reason(why: String, first: &mut Process, second: &mut Process) -> String {
    let begun = Instant::now();
    while begun.elapsed() < GRACE {
        if let Some(how) = first.killed().or_else(|| second.killed()) {
            return how;
        }
        if let Some(why) = [&mut *first, &mut *second].into_iter().find_map(Process::misses) {
            return why;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    why
}
