//! `ipc-pipeline run`: the whole pipeline in the foreground, for people without systemd. It starts the four daemons,
//! starts again what dies, replaces what hangs, and ends them in the order in which nothing is lost.
#![forbid(unsafe_code)]

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use ipc_pipeline::args::{CommonArgs, EXIT_CONFIG, EXIT_USAGE};
use ipc_pipeline::config::{Config, SourceConfig};
use ipc_pipeline::daemon::{EXIT_DATA, EXIT_SECOND, EXIT_SYSTEM, EXIT_UNREAD, Failure};
use ipc_pipeline::messages::Message;
use ipc_pipeline::names::{Names, Role};
use ipc_pipeline::{logging, objects};
use rustix::process::Signal;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::child::{Child, Plan, how};

/// How often children are looked after: a dead one is noticed this soon.
const TURN: Duration = Duration::from_millis(20);
/// A daemon that was told to stop and does not is killed after this; never ipc-log, which gives up by itself.
const PATIENCE: Duration = Duration::from_secs(15);
/// Signals so close behind one are the same: `timeout` signals us and our group, nobody presses Ctrl-C twice in this time.
const SAME: Duration = Duration::from_millis(100);

/// Exit codes of daemons that say: starting me again would not help.
const FINAL: [u8; 5] = [EXIT_USAGE, EXIT_DATA, EXIT_UNREAD, EXIT_SECOND, EXIT_CONFIG];

struct Supervisor {
    /// In the order in which they start: report, stat, log, conv.
    children: Vec<Child>,
    signals: Signals,
    /// How often we were told to stop, and when last.
    stops: usize,
    told_at: Option<Instant>,
    deadline: Option<Instant>,
    exit_code: u8,
}

/// Why the pipeline ends.
enum End {
    /// Told to, or the source has ended, or a daemon says it is no use: everything accepted becomes durable first.
    Drain,
    /// Told to twice.
    AtOnce,
}

/// The whole command.
pub fn run(common: CommonArgs, limit: Option<Duration>, count: Option<u64>) -> Result<u8, Failure> {
    logging::start("ipc-pipeline", common.level(), false);
    if common.system {
        let text = "with --system the service manager runs the pipeline: `systemctl start ipc-pipeline.target`, or ipc-pipeline@NAME.target";
        return Err(Failure::new(EXIT_USAGE, text));
    }
    let mut common = common;
    common.set.extend(count.map(|n| format!("conv.count={n}")));
    let (config, names) = common.resolve().map_err(|e| Failure::new(e.exit_code(), e))?;
    refuse_terminal(&config)?;
    let signals = Signals::new([SIGINT, SIGTERM, SIGHUP])
        .map_err(|e| Failure::system(format!("cannot install signal handlers: {e}")))?;
    drop(objects::quiet(&names).map_err(crate::objects::failure)?);
    objects::create(&names, &config.edge.listeners()).map_err(crate::objects::failure)?;

    let children = start(&common, &config, &names)?;
    let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
    let mut supervisor = Supervisor { children, signals, stops: 0, told_at: None, deadline, exit_code: 0 };
    match supervisor.watch()? {
        End::Drain => supervisor.drain()?,
        End::AtOnce => supervisor.exit_code = EXIT_SYSTEM,
    }
    let Supervisor { exit_code, children, stops, .. } = supervisor;
    // All before any is waited for.
    children.iter().for_each(|child| child.signal(Signal::KILL));
    drop(children);
    if stops > 1 {
        log::warn!(
            id = Message::LeftInSpool;
            "ended at once: what was accepted and not yet durable is still in the spool; the next run resumes it"
        );
        return Ok(EXIT_SYSTEM);
    }
    match crate::objects::remove(&names, None) {
        Ok(_) => Ok(exit_code),
        Err(e) => {
            log::warn!(id = Message::LeftInSpool; "{e}");
            Ok(if exit_code == 0 { e.code } else { exit_code })
        }
    }
}

/// A background process cannot read from a terminal, and the daemons are that.
fn refuse_terminal(config: &Config) -> Result<(), Failure> {
    let reads = reads_stdin(config) && std::io::stdin().is_terminal();
    if reads {
        return Err(Failure::new(
            EXIT_USAGE,
            "the source is standard input, which is a terminal here; pipe something in, as in `seq 1 100 | ipc-pipeline run ...`",
        ));
    }
    Ok(())
}

fn reads_stdin(config: &Config) -> bool {
    matches!(&config.source, SourceConfig::Lines { path, .. } if path == Path::new("-"))
}

fn start(common: &CommonArgs, config: &Config, names: &Names) -> Result<Vec<Child>, Failure> {
    let args = daemon_args(common, names);
    let mut children = Vec::new();
    for role in [Role::Report, Role::Stat, Role::Log, Role::Conv] {
        let plan = Plan {
            role,
            program: program(role),
            args: args.clone(),
            reads_stdin: role == Role::Conv && reads_stdin(config),
        };
        children.push(Child::start(plan, names)?);
    }
    Ok(children)
}

fn daemon_args(common: &CommonArgs, names: &Names) -> Vec<String> {
    let mut args = vec!["--name".to_owned(), names.instance().to_owned()];
    if let Some(file) = &common.config {
        args.extend(["--config".to_owned(), file.display().to_string()]);
    }
    for set in &common.set {
        args.extend(["--set".to_owned(), set.clone()]);
    }
    args.extend(common.quiet.then(|| "--quiet".to_owned()));
    args.extend((0..common.verbose).map(|_| "--verbose".to_owned()));
    args
}

/// The daemon's program: beside this one, or where packages put daemons.
fn program(role: Role) -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|p| Some(p.parent()?.to_owned()));
    let found = beside.and_then(|dir| {
        [dir.join(role.program()), dir.join("../sbin").join(role.program())].into_iter().find(|p| p.exists())
    });
    found.unwrap_or_else(|| role.program().into())
}

impl Supervisor {
    /// How often we were told to stop so far.
    fn told(&mut self) -> usize {
        let is_told = self.signals.pending().count() > 0;
        if is_told && self.told_at.is_none_or(|at| at.elapsed() > SAME) {
            self.stops += 1;
            self.told_at = Some(Instant::now());
        }
        self.stops
    }

    /// Looks after all of them until it is time to end.
    fn watch(&mut self) -> Result<End, Failure> {
        loop {
            for i in 0..self.children.len() {
                let role = self.children[i].role();
                if let Some(status) = self.children[i].look() {
                    if role == Role::Conv && status.success() {
                        return Ok(End::Drain); // its source has ended
                    }
                    if self.is_final(i, status) {
                        return Ok(End::Drain);
                    }
                    log::warn!(id = Message::Restarted; "{} {}: starting it again", role.program(), how(status));
                }
                self.children[i].keep_running()?;
            }
            let told = self.told();
            if told > 0 || self.deadline.is_some_and(|at| Instant::now() >= at) {
                return Ok(if told > 1 { End::AtOnce } else { End::Drain });
            }
            std::thread::sleep(TURN);
        }
    }

    /// Did it end with a code that says: no use in starting me again? Then the pipeline ends with that code.
    fn is_final(&mut self, which: usize, status: ExitStatus) -> bool {
        let code = status.code().and_then(|c| u8::try_from(c).ok()).filter(|c| FINAL.contains(c));
        // Who pipes the lines into `head` has had enough: a quiet end.
        self.exit_code = code.filter(|c| *c != EXIT_UNREAD).unwrap_or(self.exit_code);
        self.children[which].hopeless |= code.is_some();
        code.is_some()
    }

    /// Ends conv, then log, then stat, then report: each has by then all that it will ever get.
    fn drain(&mut self) -> Result<(), Failure> {
        for i in (0..self.children.len()).rev() {
            self.finish(i)?;
            if self.told() > 1 {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Ends one daemon well: it is told to stop until it says that it has done so; if it dies on the way it is started
    /// again to finish its work. The others are looked after meanwhile.
    fn finish(&mut self, which: usize) -> Result<(), Failure> {
        let role = self.children[which].role();
        let begun = Instant::now();
        let mut told_at: Option<Instant> = None;
        let child = &self.children[which];
        // conv has nothing left to do: what it accepted is in the spool.
        if child.hopeless || role == Role::Conv && !child.is_running() {
            return Ok(());
        }
        while self.told() < 2 {
            for other in 0..which {
                if let Some(status) = self.children[other].look() {
                    log::warn!(
                        id = Message::Restarted;
                        "{} {}: starting it again",
                        self.children[other].role().program(),
                        how(status)
                    );
                }
                self.children[other].keep_running()?;
            }
            let child = &mut self.children[which];
            if let Some(status) = child.look() {
                if status.success() || role == Role::Conv || self.is_final(which, status) {
                    return Ok(());
                }
                if begun.elapsed() > PATIENCE {
                    log::warn!(id = Message::Restarted; "{} {} again and again: giving it up", role.program(), how(status));
                    self.exit_code = EXIT_SYSTEM;
                    return Ok(());
                }
                log::warn!(id = Message::Restarted; "{} {} while ending: starting it again to finish", role.program(), how(status));
                told_at = None;
            }
            let child = &mut self.children[which];
            child.keep_running()?;
            // Only a daemon that is ready has its signal handlers.
            if child.ready && told_at.is_none_or(|at| at.elapsed() > Duration::from_secs(1)) {
                child.signal(Signal::TERM);
                told_at = Some(Instant::now());
            }
            if begun.elapsed() > PATIENCE && role != Role::Log {
                log::warn!(id = Message::Restarted; "{} does not end: killing it", role.program());
                child.signal(Signal::KILL);
                return Ok(());
            }
            std::thread::sleep(TURN / 4);
        }
        Ok(())
    }
}
