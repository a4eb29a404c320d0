//! Every daemon's `main` alike: arguments, configuration, log, signals, lock and directories, then the work; at the end
//! one place that reports and picks the exit code.
#![forbid(unsafe_code)]

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};

pub use crate::args::EXIT_SYSTEM;
use crate::args::{self, CommonArgs, EXIT_CONFIG, EXIT_USAGE};
use crate::carrier::CarrierError;
use crate::config::{ChannelConfig, Config};
use crate::header::ChannelRow;
use crate::lock::{Lock, LockError};
use crate::logging::{self, SERVICE};
use crate::messages::Message;
use crate::names::{Names, Role, Scope};
use crate::notify::Notifier;
use crate::objects;
use crate::page::{self, Page, State};
use crate::publisher::{LOOK_NS, REST_NS, SegmentNames};
use crate::record::Settings;
use crate::reload::{Asked, Reload, Reloads};
use crate::segment::{Copied, SegmentError, Shm};
use crate::sink::Stream;
use crate::sys;

/// Exit code: the source gave something that is no sample, and the configuration says to stop then.
pub const EXIT_DATA: u8 = 65;
/// Exit code: whoever read our lines has gone.
pub const EXIT_UNREAD: u8 = 74;
/// Exit code: an object of this daemon is gone and must be made anew.
pub const EXIT_OBJECT: u8 = 69;
/// Exit code: a bug of ours (a panic).
pub const EXIT_BUG: u8 = 70;
/// Exit code: this instance already has such a daemon.
pub const EXIT_SECOND: u8 = 75;

/// How long a second daemon of the same role waits for the first one to go.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a daemon ends other than by being told to: a sentence for the user, and the exit code.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// What was tried, why it failed, what to do.
    pub text: String,
    /// The exit code that says so to a service manager.
    pub code: u8,
}

impl Failure {
    /// A failure with the exit code `code`.
    pub fn new(code: u8, text: impl ToString) -> Failure {
        Failure { text: text.to_string(), code }
    }

    /// The system refused something.
    pub fn system(text: impl ToString) -> Failure {
        Failure::new(EXIT_SYSTEM, text)
    }

    /// Says it in the log; the exit code that goes with it.
    pub fn say(&self) -> ExitCode {
        for line in self.text.lines() {
            log::error!(id = self.message(), exit_code = self.code; "{line}");
        }
        self.code.into()
    }

    /// What a log calls it.
    const fn message(&self) -> Message {
        match self.code {
            EXIT_USAGE | EXIT_CONFIG => Message::ConfigRefused,
            EXIT_DATA => Message::InputRefused,
            EXIT_OBJECT => Message::ObjectGone,
            EXIT_BUG => Message::Bug,
            EXIT_UNREAD => Message::NobodyReads,
            EXIT_SECOND => Message::SecondInstance,
            _ => Message::SystemRefused,
        }
    }

    /// The configuration does not fit.
    pub fn config(text: impl ToString) -> Failure {
        Failure::new(EXIT_CONFIG, text)
    }
}

impl From<LockError> for Failure {
    fn from(e: LockError) -> Failure {
        let code = if matches!(e, LockError::Held { .. }) { EXIT_SECOND } else { EXIT_SYSTEM };
        Failure::new(code, e)
    }
}

/// What every daemon has when its work begins.
pub struct Context {
    /// The configuration.
    pub config: Config,
    /// The names of its instance.
    pub names: Names,
    /// /dev/shm, as this instance uses it.
    pub shm: Shm,
    /// The way to the service manager.
    pub notifier: Notifier,
    stop: Arc<AtomicBool>,
    reload: Reload,
    lock: Lock,
}

impl Context {
    /// Were we told to stop?
    #[inline]
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The daemon has all that it needs: says so to the service manager and to the log of services.
    pub fn ready(&self) {
        self.notifier.ready();
        let version = env!("CARGO_PKG_VERSION");
        log::info!(target: SERVICE, id = Message::Started, version; "ready, version {version}");
    }

    /// To be called at every look: is the lock still ours alone?
    pub fn check_lock(&self) -> Result<(), Failure> {
        if self.lock.is_current() {
            return Ok(());
        }
        Err(Failure::new(
            EXIT_OBJECT,
            "the lock file was removed while this daemon ran: ending, to be started again",
        ))
    }

    /// To be called at every look: reads the configuration again if that was asked for, and has the role take it.
    pub fn reload(&mut self, role: &mut impl Reloads) {
        if self.reload.look(&mut self.config, &mut self.notifier, role) {
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    /// Was the lock file so new that it may replace one whose holder still lives, perhaps frozen?
    pub fn lock_was_young(&self) -> bool {
        self.lock.was_young()
    }

    /// Names of the segments, for [`crate::publisher`] and [`crate::intake`].
    pub fn segments(&self) -> SegmentNames {
        segment_names(&self.names)
    }
}

/// Names of the segments of an instance.
pub fn segment_names(names: &Names) -> SegmentNames {
    SegmentNames { spool: names.spool(), pages: Role::ALL.map(|role| names.page(role)) }
}

/// What the record keeps of a channel's configuration.
pub fn channel_row(channel: &ChannelConfig) -> ChannelRow {
    ChannelRow {
        name: channel.name.clone(),
        unit: channel.unit.clone(),
        scale: channel.scale.to_string(),
        offset: channel.offset.to_string(),
        decimals: channel.decimals,
    }
}

/// How the record of this configuration is written.
pub fn record_settings(config: &Config) -> Settings {
    let channels = config.channels.iter().map(channel_row).collect();
    Settings { segment_entries: config.log.segment_entries(), channels }
}

/// The whole `main` of a daemon; `work` returns when it is told to stop or its work is done.
pub fn main(role: Role, work: impl FnOnce(&mut Context) -> Result<(), Failure>) -> ExitCode {
    let asked = Asked::catch();
    bugs_exit_with_70();
    let args = match args::parse(role, std::env::args_os()) {
        Ok(args) => args,
        Err(e) => return args::report_usage(&e).into(),
    };
    logging::start(role.program(), args.common.level(), args.syslog);
    let asked = asked.map_err(no_handler);
    match asked.and_then(|asked| start(role, &args.common, asked)).and_then(|mut context| work(&mut context))
    {
        Ok(()) => {
            log::info!(target: SERVICE, id = Message::Ended; "ended, as it was told to or its work is done");
            ExitCode::SUCCESS
        }
        Err(failure) => failure.say(),
    }
}

fn start(role: Role, args: &CommonArgs, asked: Asked) -> Result<Context, Failure> {
    let (config, names) = args.resolve().map_err(|e| Failure::new(e.exit_code(), e))?;
    let stop = stop_flag()?;
    objects::make_directories(&names).map_err(Failure::system)?;
    refuse_wrong_user(&names, role)?;
    let lock = take_lock(&names.lock(role))?;
    look_at_last_life(&names, role)?;
    // Only now is what an earlier life of this role left behind nobody's.
    objects::sweep(&names, role);
    let shm = Shm::of(&names);
    let reload = Reload::new(role, args, asked);
    Ok(Context { config, names, shm, notifier: Notifier::from_env(), stop, reload, lock })
}

/// What another user makes for the machine's pipeline nobody else takes for the role's: not even the superuser's.
fn refuse_wrong_user(names: &Names, role: Role) -> Result<(), Failure> {
    let owner = std::fs::metadata(names.lock(role)).map(|lock| lock.uid());
    let ours = owner.is_ok_and(|uid| uid == rustix::process::geteuid().as_raw());
    if names.scope() == Scope::User || ours {
        return Ok(());
    }
    Err(Failure::config(format!(
        "{0} --system is for the user _{0}, and its lock {1} must be there: let systemd start it, `systemctl start ipc-pipeline.target`",
        role.program(),
        names.lock(role).display()
    )))
}

/// Another one may be about to end; but whoever started a second one by mistake shall not wait in the dark.
fn take_lock(path: &Path) -> Result<Lock, LockError> {
    let now = Lock::take(path, Duration::ZERO);
    if matches!(now, Err(LockError::Held { .. })) {
        log::warn!(
            id = Message::SecondInstance;
            "{} is held by another process: waiting up to {} s for it to end",
            path.display(),
            PATIENCE.as_secs()
        );
        return Lock::take(path, PATIENCE);
    }
    now
}

/// Locks lie in the run directory, which the environment chooses; the names in /dev/shm do not. So the page is asked
/// too: does another process of this role turn its loop? If not, the page tells whether the last life came to its end.
fn look_at_last_life(names: &Names, role: Role) -> Result<(), Failure> {
    let copy = Copied::read(&Shm::of(names), &names.page(role), page::WORDS);
    let Some(page) = copy.and_then(|c| Page::new(c, role.index())) else { return Ok(()) };
    let silent_ns = sys::monotonic_ns().saturating_sub(page.beat());
    if silent_ns >= SILENT_NS || page.state() == Some(State::Ended) || !lives(page.pid(), role) {
        if page.pid() != 0 && page.state() != Some(State::Ended) {
            tell_of_death(page.pid(), silent_ns);
        }
        return Ok(());
    }
    let (program, pid, instance) = (role.program(), page.pid(), names.instance());
    Err(Failure::new(
        EXIT_SECOND,
        format!(
            "{program} of instance {instance} runs already, as process {pid} with another XDG_RUNTIME_DIR: stop that one, or give this one another --name"
        ),
    ))
}

/// The last life, process `pid`, gave its last sign `silent_ns` ago and did not come to its end. Who was silent for as long as
/// the service manager is patient was replaced by it.
fn tell_of_death(pid: u64, silent_ns: u64) {
    let silent_ms = silent_ns / 1_000_000;
    let hung = sd_notify::watchdog_enabled().is_some_and(|limit| u128::from(silent_ms) >= limit.as_millis());
    let id = if hung { Message::Watchdog } else { Message::CutShort };
    log::warn!(
        target: SERVICE, id, pid, silent_ms;
        "the life before (process {pid}) did not end by itself; its last sign was {silent_ms} ms ago. This one goes on where it was"
    );
}

/// Is this a running process of that role's program, and not ourselves? One that is stopped or a zombie turns no loop.
fn lives(pid: u64, role: Role) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let Some((name, rest)) = text.split_once('(').and_then(|(_, t)| t.rsplit_once(')')) else { return false };
    let still = rest.trim_start().starts_with(['Z', 'X', 'T', 't']);
    pid != std::process::id() as u64 && name == role.program() && !still
}

/// A flag that SIGTERM and SIGINT set.
pub fn stop_flag() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, stop.clone()).map_err(no_handler)?;
    }
    Ok(stop)
}

fn no_handler(e: std::io::Error) -> Failure {
    Failure::system(format!("cannot install a signal handler: {e}"))
}

/// What we listen at cannot be had: whoever starts us again repairs it first.
pub fn unheard(e: CarrierError) -> Failure {
    if e.is_forbidden() {
        return Failure::config(format!(
            "{e}; services of systemd have no network: choose another carrier in [edge], or use the drop-in loopback.conf"
        ));
    }
    Failure::new(EXIT_OBJECT, e)
}

/// A panic is a bug: it is said, as far as there is room for that, and the process ends at once with a code of its own, never
/// half of it.
pub fn bugs_exit_with_70() {
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if Stream::of(io::stderr()).is_ready(Duration::ZERO) {
            say(info);
        }
        log::error!(target: SERVICE, id = Message::Bug; "a bug ends this process; please report this: {info}");
        std::process::exit(EXIT_BUG.into());
    }));
}

/// Says a state once, when it begins, instead of at every turn.
#[derive(Default)]
pub struct Said(String);

impl Said {
    /// Is this another text than the last one?
    pub fn is_new(&mut self, text: &str) -> bool {
        let new = self.0 != text;
        if new {
            self.0 = text.into();
        }
        new
    }

    /// Whatever was said is over: the same text is news again.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Was there something that is over now?
    pub fn is_over(&mut self) -> bool {
        !std::mem::take(&mut self.0).is_empty()
    }
}

/// Looks after an object of our own: counts how often it was made again, and says once why it cannot be. It is tried again
/// at the next look, for ever: peers still have the old one mapped, so nothing is lost meanwhile.
#[derive(Default)]
pub struct Remade {
    count: u64,
    told: Told,
    said: Said,
}

impl Remade {
    /// Takes note of what a look came to.
    pub fn note(&mut self, looked: Result<bool, SegmentError>) {
        match looked {
            Ok(remade) => {
                self.count += u64::from(remade);
                self.said.clear();
                self.tell();
            }
            Err(e) if self.said.is_new(&e.to_string()) => {
                log::warn!(id = Message::ObjectTrouble; "{e}; trying again every 100 ms");
            }
            Err(_) => {}
        }
    }

    /// Takes note of what a look at the place where we listen came to.
    pub fn note_listening(&mut self, remade: bool) {
        self.count += u64::from(remade);
        self.tell();
    }

    /// At once, and then once a minute while it goes on.
    fn tell(&mut self) {
        if let Some(times) = self.told.news(self.count, sys::monotonic_ns()) {
            log::warn!(
                target: SERVICE, id = Message::ObjectRepaired, times;
                "an object of this daemon was removed or overwritten, and was made again (times: {times}); nothing is lost"
            );
        }
    }

    /// How often it was made again.
    pub fn count(&self) -> u64 {
        self.count
    }
}

/// What goes on and on is told once in this time, ns.
pub const TELL_NS: u64 = 60_000_000_000;

/// How much of a count was told: it is told at once, and then once a minute while it grows.
#[derive(Default)]
pub struct Told {
    count: u64,
    next_ns: Option<u64>,
}

impl Told {
    /// By how much `count` has grown since it was last told, if that is to be told now (CLOCK_MONOTONIC, ns).
    pub fn news(&mut self, count: u64, now_ns: u64) -> Option<u64> {
        let more = count.saturating_sub(self.count);
        let news = more > 0 && self.next_ns.is_none_or(|next| now_ns >= next);
        news.then(|| {
            (self.count, self.next_ns) = (count, Some(now_ns + TELL_NS));
            more
        })
    }
}

/// How long a start may take before users are told what it waits for, ns.
const PATIENT_NS: u64 = 500_000_000;

/// Says once what a daemon waits for, if it waits longer than every start does.
#[derive(Default)]
pub struct Waiting {
    since: Option<u64>,
    said: bool,
}

impl Waiting {
    /// `waits`: does it wait now? True once in each long wait.
    pub fn is_news(&mut self, waits: bool, now_ns: u64) -> bool {
        if !waits {
            *self = Waiting::default();
            return false;
        }
        let long = now_ns - *self.since.get_or_insert(now_ns) >= PATIENT_NS;
        let news = long && !self.said;
        self.said |= long;
        news
    }
}

/// Says that a disk is slow when it has been so for longer than it may take, once a minute at most; and when that is over.
#[derive(Default)]
pub struct SlowDisk {
    waiting: Waiting,
    said: bool,
    next_ns: u64,
}

impl SlowDisk {
    /// `is_slow`: is it so now (CLOCK_MONOTONIC, ns)? `meanwhile` says what that means.
    pub fn tell(&mut self, is_slow: bool, meanwhile: &str, now_ns: u64) {
        if self.waiting.is_news(is_slow, now_ns) && now_ns >= self.next_ns {
            (self.said, self.next_ns) = (true, now_ns + TELL_NS);
            log::warn!(id = Message::DiskSlow; "the disk does not answer in time: {meanwhile}");
        } else if !is_slow && std::mem::take(&mut self.said) {
            log::warn!(id = Message::DiskInTime; "the disk answers in time again");
        }
    }
}

/// A daemon whose loop has not turned for so long does not answer, ns. All turn it every 200 ms at least.
pub const SILENT_NS: u64 = 1_000_000_000;

/// When to look after names, by the clock (rule E4): every [`LOOK_NS`] while there is something to do, and never later than
/// [`REST_NS`] after the last look.
#[derive(Default)]
pub struct Looks {
    last_ns: Option<u64>,
}

impl Looks {
    /// Is it time for a look? If so, it counts as done.
    #[inline]
    pub fn is_due(&mut self, now_ns: u64) -> bool {
        let due = self.last_ns.is_none_or(|last| now_ns >= last + LOOK_NS);
        if due {
            self.last_ns = Some(now_ns);
        }
        due
    }

    /// How long a daemon that has nothing to do may rest, from `now_ns` (CLOCK_MONOTONIC, ns) on. A bell that rang shortly
    /// after a look, and brought no other look, leaves less than the whole rest.
    #[inline]
    pub fn rest(&self, now_ns: u64) -> Duration {
        let end = self.last_ns.map_or(0, |last| last + REST_NS);
        Duration::from_nanos(end.saturating_sub(now_ns))
    }
}

/// A number that no other life of any process has.
pub fn nonce() -> u64 {
    fastrand::u64(..) ^ sys::wall_ns() ^ (std::process::id() as u64) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_is_told_at_once_and_once_a_minute() {
        let mut told = Told::default();
        assert_eq!([told.news(0, 5), told.news(2, 6), told.news(3, 7)], [None, Some(2), None]);
        assert_eq!([told.news(9, 6 + TELL_NS), told.news(9, 6 + 3 * TELL_NS)], [Some(7), None]);
        assert_eq!(told.news(10, 6 + 3 * TELL_NS), Some(1));
    }

    /// Whenever bells ring and however long turns take: nobody is longer than `REST_NS` without a look.
    #[test]
    fn a_rest_ends_where_a_look_is_due() {
        let mut looks = Looks::default();
        assert_eq!(looks.rest(5), Duration::ZERO, "never looked yet");
        let (mut now, mut last) = (1_000, 1_000);
        for i in 0..10_000 {
            if looks.is_due(now) {
                assert!(i == 0 || (LOOK_NS..=REST_NS).contains(&(now - last)), "looked after {}", now - last);
                last = now;
            }
            let rest = looks.rest(now).as_nanos() as u64;
            assert_eq!(now + rest, last + REST_NS);
            // A bell, or the end of the rest.
            now += if i % 3 == 0 { rest } else { rest.min(fastrand::u64(..LOOK_NS)) };
        }
        assert_eq!(looks.rest(last + 10 * REST_NS), Duration::ZERO, "a turn that took long");
    }
}
