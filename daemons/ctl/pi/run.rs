//! One run: workers are started and looked after, their sums gathered.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::sleep;
use std::time::Duration;

use ipc_pipeline::daemon::Failure;
use ipc_pipeline::sys;
use rustix::pipe::{PipeFlags, pipe_with};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::fault::Fault;
use super::mechanism::Mechanism;
use super::place::Place;
use super::sums::Sums;
use super::{Via, series, worker};

/// How often is looked at what has come and who has ended.
const LOOK: Duration = Duration::from_millis(1);
/// Results that differ by no more than this are the same when printed.
const CLOSE: f64 = 5e-12;

/// What is to be computed.
#[derive(Clone, Copy)]
pub struct Job {
    /// Processes that compute, 1 to 1000.
    pub workers: u32,
    /// Terms of the sum, 1 to 2^52.
    pub terms: u64,
}

/// Ctrl-C and SIGTERM, which end the program when everything is removed.
pub struct Stop(Arc<AtomicUsize>);

impl Stop {
    /// From now on they wait for [`Stop::obey`].
    pub fn listen() -> Result<Stop, Failure> {
        let stop = Stop(Arc::default());
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register_usize(signal, stop.0.clone(), signal as usize)
                .map_err(|e| Failure::system(format!("cannot listen to signals: {e}")))?;
        }
        Ok(stop)
    }

    /// Whether one came.
    pub fn is_asked(&self) -> bool {
        self.0.load(Relaxed) != 0
    }

    /// Ends the program by the signal that came, if one did.
    pub fn obey(&self) {
        if self.is_asked() {
            let _ = signal_hook::low_level::emulate_default_handler(self.0.load(Relaxed) as i32);
        }
    }
}

/// Computes pi over one mechanism. When this returns no process and no object of it is left.
pub fn compute(via: Via, job: Job, stop: &Stop) -> Result<f64, Fault> {
    let system = |what: &'static str| move |e: io::Error| Fault::system(via, what, &e);
    let place = Place::make().map_err(|e| {
        Fault::new(
            format!("cannot make the directory {e}"),
            "set TMPDIR to one where you may write, and with room",
        )
    })?;
    let mut mechanism = via.make(&place).map_err(system("make what the sums come over"))?;
    let mut sums = Sums::new(place.tag, job.workers);
    let mut workers = Workers::new().map_err(system("make a pipe"))?;
    loop {
        let all_ended = workers.all_ended()?;
        mechanism.take(&mut sums).map_err(system("take the sums"))?;
        if stop.is_asked() {
            return Err(Fault::new("interrupted", ""));
        }
        let index = workers.started();
        if index < job.workers {
            let started = equipped(via, job, index, place.tag, mechanism.as_ref())
                .and_then(|command| workers.start(command));
            started.map_err(system("start a worker"))?;
        } else if all_ended {
            return pi_of(&sums, job);
        } else {
            sleep(LOOK);
        }
    }
}

/// What starts a worker.
fn equipped(via: Via, job: Job, index: u32, tag: u64, mechanism: &dyn Mechanism) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["pi", "--via", via.name()]);
    command.args(["--workers", &job.workers.to_string(), "--terms", &job.terms.to_string()]);
    command.args(["--worker", &index.to_string(), "--at", &mechanism.at()]);
    command.env(worker::TAG, tag.to_string());
    command.stdin(Stdio::null()).stdout(mechanism.inherited()?);
    Ok(command)
}

fn pi_of(sums: &Sums, job: Job) -> Result<f64, Fault> {
    if let Some(worker) = sums.missing() {
        let said = format!("worker {worker} ended well, and its sum did not come");
        return Err(Fault::new(said, "this is a fault of the machine: what came in was lost"));
    }
    let (pi, right) = (series::pi(sums.whole()), series::directly(job.terms));
    if (pi - right).abs() <= CLOSE {
        return Ok(pi);
    }
    let said = format!("it came to {pi:.11}, and {right:.11} is right");
    Err(Fault::new(said, "this is a fault of the machine: what came in was damaged"))
}

/// The workers of a run. They are killed when the value is dropped, and with this process.
struct Workers {
    started: u32,
    alive: Vec<(u32, Child)>,
    /// What they say when they fail; both ends.
    said: File,
    say: OwnedFd,
}

impl Workers {
    fn new() -> io::Result<Workers> {
        let (said, say) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Workers { started: 0, alive: Vec::new(), said: said.into(), say })
    }

    fn started(&self) -> u32 {
        self.started
    }

    fn start(&mut self, mut command: Command) -> io::Result<()> {
        sys::dies_with_parent(&mut command);
        let child = command.stderr(self.say.try_clone()?).spawn()?;
        self.alive.push((self.started, child));
        self.started += 1;
        Ok(())
    }

    /// Whether all that were started have ended, and ended well.
    fn all_ended(&mut self) -> Result<bool, Fault> {
        let mut failed = None;
        self.alive.retain_mut(|(worker, child)| match child.try_wait() {
            Ok(None) => true,
            Ok(Some(status)) => {
                if !status.success() {
                    failed.get_or_insert((*worker, status));
                }
                false
            }
            // Nobody but us can have taken its end.
            Err(_) => false,
        });
        match failed {
            Some((worker, status)) => Err(self.why(worker, status)),
            None => Ok(self.alive.is_empty()),
        }
    }

    /// Its own words, if it had any.
    fn why(&mut self, worker: u32, status: ExitStatus) -> Fault {
        if let Some(signal) = status.signal() {
            let said = format!("worker {worker} was killed by signal {signal}");
            return Fault::new(said, "who killed it? `dmesg` tells if memory was short");
        }
        let mut bytes = [0; 4096];
        let n = self.said.read(&mut bytes).unwrap_or(0);
        let text = String::from_utf8_lossy(bytes.get(..n).unwrap_or_default()).into_owned();
        match text.lines().next().and_then(|line| line.split_once('\t')) {
            Some((said, remedy)) => Fault::new(said, remedy),
            None => Fault::new(format!("worker {worker} ended with {status}: {}", text.trim()), ""),
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for (_, child) in &mut self.alive {
            let _ = child.kill();
        }
        for (_, child) in &mut self.alive {
            let _ = child.wait();
        }
    }
}
