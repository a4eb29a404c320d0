//! Reading the configuration again, without a restart.
//!
//! SIGUSR1 asks for it, and SIGHUP does if it does not say that our terminal has gone. The daemon reads in a thread of its own, so that no disk holds its loop up, takes what can change at
//! run time, and says in its page what has come of it (docs/formats.md, "Page"): `ipc-pipeline reload` waits for that.
//! A configuration with a fault changes nothing.
#![forbid(unsafe_code)]

use std::fs::OpenOptions;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

use signal_hook::consts::{SIGHUP, SIGUSR1};
use signal_hook::flag;

use crate::args::CommonArgs;
use crate::config::{Config, Faults};
use crate::logging::SERVICE;
use crate::messages::Message;
use crate::names::Role;
use crate::notify::Notifier;
use crate::page::Page;
use crate::sys::{self, Map};

/// A role that can go by another configuration while it runs.
pub trait Reloads {
    /// Writes into its page.
    fn write(&self, to: &dyn Fn(&Page<Map>));

    /// Goes by this configuration from now on: what [`Config::taking`] leaves as it was has not changed.
    ///
    /// # Errors
    /// A sentence why it cannot; then nothing has changed.
    fn take(&mut self, config: &Config) -> Result<(), String>;
}

/// What signals ask for.
pub struct Asked {
    /// By SIGUSR1, which `ipc-pipeline reload` sends, or SIGHUP.
    reload: Arc<AtomicBool>,
    /// By SIGHUP.
    hangup: Arc<AtomicBool>,
    /// We had a terminal and were not told to outlive it.
    has_terminal: bool,
}

impl Asked {
    /// From now on these signals do not kill this process any more. To be called before anything else: whoever sends one early
    /// is answered later.
    ///
    /// # Errors
    /// The system refuses a handler.
    pub fn catch() -> std::io::Result<Asked> {
        let outlives = signals("self", "SigIgn").is_some_and(|mask| has(mask, SIGHUP)); // nohup(1)
        let (reload, hangup) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        flag::register(SIGUSR1, reload.clone())?;
        flag::register(SIGHUP, reload.clone())?;
        flag::register(SIGHUP, hangup.clone())?;
        Ok(Asked { reload, hangup, has_terminal: !outlives && has_terminal() })
    }

    /// Was SIGHUP what it is called, and not a wish: has our terminal gone?
    fn has_hung_up(&self) -> bool {
        self.hangup.swap(false, Ordering::Relaxed) && self.has_terminal && !has_terminal()
    }
}

fn has_terminal() -> bool {
    OpenOptions::new().read(true).open("/dev/tty").is_ok()
}

/// A mask of signals in /proc/PID/status.
fn signals(pid: &str, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn has(mask: u64, signal: i32) -> bool {
    mask >> (signal - 1) & 1 == 1
}

/// Is this a process of that role's program that reads its configuration again when it gets SIGUSR1? Another one would be
/// killed by it.
pub fn listens(pid: u64, role: Role) -> bool {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let catches = signals(&pid.to_string(), "SigCgt").is_some_and(|mask| has(mask, SIGUSR1));
    name.trim_end() == role.program() && catches
}

/// What a daemon needs for it.
pub struct Reload {
    role: Role,
    args: CommonArgs,
    asked: Asked,
    /// The page says that we listen.
    listens: bool,
    reading: Option<Receiver<Result<Config, Faults>>>,
}

/// What has come of it.
enum Outcome {
    Taken { changed: Vec<&'static str>, restart: Vec<&'static str> },
    Refused(String),
}

impl Reload {
    /// For this role, which was started with these arguments.
    pub fn new(role: Role, args: &CommonArgs, asked: Asked) -> Reload {
        Reload { role, args: args.clone(), asked, listens: false, reading: None }
    }

    /// To be called at every look. Never waits. True: SIGHUP came because the terminal has gone, and that is the end.
    pub fn look(&mut self, config: &mut Config, notifier: &mut Notifier, role: &mut impl Reloads) -> bool {
        if !self.listens {
            let pid = std::process::id().into();
            role.write(&|page| page.listen_for_reloads(pid));
            self.listens = true;
        }
        if self.asked.has_hung_up() {
            return true;
        }
        if self.reading.is_none() && self.asked.reload.swap(false, Ordering::Relaxed) {
            notifier.reloading(sys::monotonic_ns());
            role.write(&Page::begin_reload);
            match self.read() {
                Ok(reading) => self.reading = Some(reading),
                Err(e) => self.end(Outcome::Refused(format!("cannot start a thread: {e}")), notifier, role),
            }
        }
        let read = match self.reading.as_ref().map(Receiver::try_recv) {
            None | Some(Err(TryRecvError::Empty)) => return false,
            Some(Ok(read)) => read.map_err(|faults| faults.to_string()),
            Some(Err(TryRecvError::Disconnected)) => Err("reading it has ended in the middle".to_owned()),
        };
        self.reading = None;
        let outcome = match read.and_then(|new| self.take(config, new, role)) {
            Ok(taken) => taken,
            Err(why) => Outcome::Refused(why),
        };
        self.end(outcome, notifier, role);
        false
    }

    fn read(&self) -> std::io::Result<Receiver<Result<Config, Faults>>> {
        let (to_us, reading) = sync_channel(1);
        let (file, sets) = (self.args.config_file(), self.args.set.clone());
        std::thread::Builder::new().name("reload".into()).spawn(move || {
            let _ = to_us.send(Config::load(file.as_deref(), &sets)); // nobody waits when the daemon ends
        })?;
        Ok(reading)
    }

    fn take(&self, config: &mut Config, mut new: Config, role: &mut impl Reloads) -> Result<Outcome, String> {
        if self.args.system || self.args.name.is_some() {
            new.instance.clone_from(&config.instance); // the command line says it
        }
        let mixed = config.taking(&new, self.role);
        let changed = config.differences(&mixed, self.role);
        let restart = mixed.differences(&new, self.role);
        if !changed.is_empty() {
            role.take(&mixed)?;
        }
        *config = mixed;
        Ok(Outcome::Taken { changed, restart })
    }

    /// To the log, to the service manager, and last to whoever waits for it.
    fn end(&self, outcome: Outcome, notifier: &mut Notifier, role: &mut impl Reloads) {
        let (taken, text) = match outcome {
            Outcome::Taken { changed, restart } => {
                let (changed, restart) = (changed.join(" "), restart.join(" "));
                tell(&changed, &restart);
                (true, format!("{changed}\n{restart}"))
            }
            Outcome::Refused(why) => {
                for line in
                    why.lines().chain(["the configuration was not taken: going on with the one before"])
                {
                    log::error!(id = Message::ConfigNotTaken; "{line}");
                }
                (false, why)
            }
        };
        notifier.reloaded();
        role.write(&|page| page.end_reload(taken, &text));
    }
}

fn tell(changed: &str, restart: &str) {
    if restart.is_empty() {
        let text =
            if changed.is_empty() { "nothing has changed".to_owned() } else { format!("changed {changed}") };
        log::info!(target: SERVICE, id = Message::ConfigReadAgain, changed, restart; "the configuration was read again: {text}");
    } else {
        log::warn!(
            target: SERVICE, id = Message::ConfigReadAgain, changed, restart;
            "the configuration was read again: changed {}, but {restart} only with a restart",
            if changed.is_empty() { "nothing" } else { changed }
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_catches_it_gets_it() {
        // Right program, but without a handler: an older version, or one that has just begun.
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join(Role::Conv.program());
        std::os::unix::fs::symlink("/bin/sleep", &program).unwrap();
        let mut other = std::process::Command::new(program).arg("60").spawn().unwrap();
        let comm = || std::fs::read_to_string(format!("/proc/{}/comm", other.id())).unwrap();
        while comm().trim_end() != Role::Conv.program() {} // the kernel says so a little after the start
        let it_listens = listens(other.id().into(), Role::Conv);
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(!it_listens);
        assert!(!listens(u64::MAX, Role::Conv));
        let _caught = Asked::catch().unwrap();
        assert!(signals("self", "SigCgt").is_some_and(|mask| has(mask, SIGUSR1) && has(mask, SIGHUP)));
        // Right signal, wrong program.
        assert!(!listens(std::process::id().into(), Role::Conv));
    }
}
