//! One daemon as a child of `ipc-pipeline run`: started, listened to, watched, replaced.
#![forbid(unsafe_code)]

use std::io;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child as Process, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ipc_pipeline::daemon::Failure;
use ipc_pipeline::messages::Message;
use ipc_pipeline::names::{Names, Role};
use ipc_pipeline::sys;
use rustix::process::{Pid, Signal};

/// A daemon that has not pinged for so long hangs.
const WATCHDOG: Duration = Duration::from_secs(3);
/// A daemon that was killed is waited for no longer than this: in a disk call that stalls it dies only when the disk answers.
const LAST: Duration = Duration::from_millis(200);
/// A daemon that ended by itself is started again after this.
const RESTART: Duration = Duration::from_millis(100);

/// How to start a daemon.
pub struct Plan {
    /// The role.
    pub role: Role,
    /// Its program.
    pub program: PathBuf,
    /// What all daemons are given.
    pub args: Vec<String>,
    /// It reads our standard input.
    pub reads_stdin: bool,
}

/// One daemon.
pub struct Child {
    plan: Plan,
    socket: UnixDatagram,
    socket_path: PathBuf,
    process: Option<Process>,
    last_ping: Instant,
    not_before: Instant,
    /// The process has said READY=1.
    pub ready: bool,
    /// It said that starting it again would not help.
    pub hopeless: bool,
}

impl Child {
    /// Starts it, with a notification socket of its own.
    pub fn start(plan: Plan, names: &Names) -> Result<Child, Failure> {
        let socket_path = names.run_dir().join(format!("notify.{}", plan.role));
        let socket = listen(&socket_path)
            .map_err(|e| Failure::system(format!("cannot make the socket {}: {e}", socket_path.display())))?;
        let now = Instant::now();
        let (process, ready, hopeless) = (None, false, false);
        let mut child =
            Child { plan, socket, socket_path, process, last_ping: now, not_before: now, ready, hopeless };
        child.spawn()?;
        Ok(child)
    }

    /// Its role.
    pub fn role(&self) -> Role {
        self.plan.role
    }

    fn spawn(&mut self) -> Result<(), Failure> {
        let program = &self.plan.program;
        let mut command = Command::new(program);
        command
            .args(&self.plan.args)
            .env("NOTIFY_SOCKET", &self.socket_path)
            .env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string())
            .env_remove("WATCHDOG_PID")
            .stdin(if self.plan.reads_stdin { Stdio::inherit() } else { Stdio::null() });
        sys::dies_with_parent(&mut command);
        let process = command.spawn().map_err(|e| {
            Failure::system(format!("cannot start {}: {e}; is it installed?", program.display()))
        })?;
        (self.process, self.ready, self.last_ping) = (Some(process), false, Instant::now());
        Ok(())
    }

    /// Starts it again once its pause is over, if it is not running.
    pub fn keep_running(&mut self) -> Result<(), Failure> {
        if self.process.is_none() && !self.hopeless && Instant::now() >= self.not_before {
            self.spawn()?;
        }
        Ok(())
    }

    /// Reads what it says, and replaces it if it hangs. If it has ended since the last call: how.
    pub fn look(&mut self) -> Option<ExitStatus> {
        let mut message = [0; 4096];
        while let Ok(n) = self.socket.recv(&mut message) {
            for line in message[..n].split(|b| *b == b'\n') {
                self.ready |= line == b"READY=1";
                if line == b"READY=1" || line == b"WATCHDOG=1" {
                    self.last_ping = Instant::now();
                }
            }
        }
        if self.process.is_some() && self.last_ping.elapsed() > WATCHDOG {
            log::warn!(
                id = Message::Watchdog;
                "{} has not turned for {} s: replacing it",
                self.plan.role.program(),
                WATCHDOG.as_secs()
            );
            self.signal(Signal::KILL);
            self.last_ping = Instant::now();
        }
        let status = self.process.as_mut()?.try_wait().ok()??;
        self.process = None;
        self.not_before = Instant::now() + RESTART;
        Some(status)
    }

    /// Sends a signal to its group, if it is running.
    pub fn signal(&self, signal: Signal) {
        let pid = self.process.as_ref().and_then(|p| Pid::from_raw(p.id() as i32));
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process_group(pid, signal); // it may have ended just now
        }
    }

    /// Is it running?
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        if let Some(process) = &mut self.process {
            let killed = Instant::now();
            while matches!(process.try_wait(), Ok(None)) && killed.elapsed() < LAST {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let _ = std::fs::remove_file(&self.socket_path);
    }
}

fn listen(path: &Path) -> io::Result<UnixDatagram> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let socket = UnixDatagram::bind(path)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// How a process ended, in words.
pub fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (_, Some(signal)) => format!("was killed by signal {signal}"),
        _ => "ended".into(),
    }
}
