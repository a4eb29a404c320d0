//! One pipeline of four real processes, with a name and directories of its own, that a test may kill, freeze and rob
//! at will. Whatever happens, nothing of it is left when the value is dropped.
#![forbid(unsafe_code)]
#![allow(dead_code, unused_imports)] // each test program uses its own part of the harness

mod edges;
mod foreground;
mod judge;
mod shm;
mod witness;

pub use edges::{all_edges, edges, free_port};
pub use foreground::{
    Foreground, Process, fifo_for_writing, process, processes, signal_pid, value, wait_until, write_to,
};
pub use judge::{entries, samples};
pub use shm::{Page, Paths, Spool, snapshot_rows};
pub use witness::{Seen, Witness};

use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The four daemons, numbered as in their pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Conv,
    Log,
    Stat,
    Report,
}

impl Role {
    pub const ALL: [Role; 4] = [Role::Conv, Role::Log, Role::Stat, Role::Report];

    pub fn name(self) -> &'static str {
        ["conv", "log", "stat", "report"][self as usize]
    }

    fn program(self) -> &'static str {
        [
            env!("CARGO_BIN_EXE_ipc-conv"),
            env!("CARGO_BIN_EXE_ipc-log"),
            env!("CARGO_BIN_EXE_ipc-stat"),
            env!("CARGO_BIN_EXE_ipc-report"),
        ][self as usize]
    }
}

/// How often each role was started; witnesses need it to know that a session may have changed.
pub type Lives = Arc<[AtomicU64; 4]>;

/// One instance.
pub struct Pipeline {
    pub name: String,
    pub paths: Paths,
    pub lives: Lives,
    dir: tempfile::TempDir,
    begun: Instant,
    children: [Option<Child>; 4],
    /// conv came to the end of its source and left by itself: it is not started again.
    pub source_ended: bool,
    /// SIGTERM was sent by us.
    stopping: [bool; 4],
}

static NUMBER: AtomicU64 = AtomicU64::new(0);

impl Pipeline {
    /// A new instance; nothing runs yet. `config` is the file without its `[instance]` section.
    pub fn new(config: &str) -> Pipeline {
        let name = format!("t{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let dir =
            tempfile::Builder::new().prefix("ipc-pipeline-test-").tempdir().expect("a temporary directory");
        for sub in ["run", "state"] {
            fs::create_dir(dir.path().join(sub)).unwrap();
        }
        let text = format!("[instance]\nname = \"{name}\"\n{config}");
        fs::write(dir.path().join("pipeline.toml"), text).unwrap();
        let paths = Paths::new(&name);
        let children = [None, None, None, None];
        Pipeline {
            name,
            paths,
            lives: Lives::default(),
            dir,
            begun: Instant::now(),
            children,
            source_ended: false,
            stopping: [false; 4],
        }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn config(&self) -> PathBuf {
        self.dir().join("pipeline.toml")
    }

    pub fn record(&self) -> PathBuf {
        self.dir().join(format!("state/ipc-pipeline/@{}/log", self.name))
    }

    pub fn run_dir(&self) -> PathBuf {
        self.dir().join(format!("run/ipc-pipeline/@{}", self.name))
    }

    /// Start a program with the environment of this instance. It dies with the thread that started it.
    pub fn command(&self, program: &str) -> Command {
        self.command_under(&[], program)
    }

    /// The same, under another program that runs it.
    fn command_under(&self, tracer: &[&str], program: &str) -> Command {
        let mut c = Command::new("setpriv");
        c.args(["--pdeathsig", "KILL", "--"]).args(tracer).arg(program);
        c.env("XDG_RUNTIME_DIR", self.dir().join("run")).env("XDG_STATE_HOME", self.dir().join("state"));
        c.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC").stdin(Stdio::null());
        c.current_dir(self.dir()); // so that a configuration may name a source beside it
        c
    }

    pub fn start(&mut self, role: Role) {
        self.start_under(&[], role);
    }

    /// Start it under another program that becomes it, or runs beside it.
    pub fn start_under(&mut self, tracer: &[&str], role: Role) {
        assert!(self.children[role as usize].is_none(), "{} runs already", role.name());
        // Counted before the process exists: who sees the same number before and after a look knows that no new
        // life has begun between.
        self.lives[role as usize].fetch_add(1, Ordering::SeqCst);
        self.stopping[role as usize] = false;
        let mut c = self.command_under(tracer, role.program());
        c.arg("--config").arg(self.config());
        c.stdout(self.append_to(role.name())).stderr(self.append_to("story"));
        self.note(format_args!("start {}", role.name()));
        self.children[role as usize] = Some(c.spawn().expect("setpriv (util-linux) starts the daemon"));
    }

    pub fn start_all(&mut self) {
        [Role::Report, Role::Stat, Role::Log, Role::Conv].into_iter().for_each(|r| self.start(r));
    }

    pub fn is_running(&self, role: Role) -> bool {
        self.children[role as usize].is_some()
    }

    /// Has it died, and was not yet waited for?
    pub fn is_dead(&self, role: Role) -> bool {
        let Some(child) = &self.children[role as usize] else { return true };
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
        stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with(['Z', 'X']))
    }

    /// The process of this role, if it was started and not yet waited for.
    pub fn pid(&self, role: Role) -> Option<i32> {
        self.children[role as usize].as_ref().map(|child| child.id() as i32)
    }

    pub fn signal(&self, role: Role, signal: Signal) {
        if let Some(child) = &self.children[role as usize] {
            let pid = Pid::from_raw(child.id() as i32).unwrap();
            self.note(format_args!("{signal:?} to {}", role.name()));
            kill_process(pid, signal).expect("our own child, not yet waited for");
        }
    }

    /// kill -9, and wait until it is gone.
    pub fn kill(&mut self, role: Role) {
        if let Some(mut child) = self.children[role as usize].take() {
            child.kill().unwrap();
            let status = child.wait().unwrap();
            self.note(format_args!("killed {}: {status}", role.name()));
            self.judge_exit(role, status, true);
        }
    }

    /// SIGTERM, and no wait.
    pub fn ask_to_stop(&mut self, role: Role) {
        self.stopping[role as usize] = true;
        self.signal(role, Signal::TERM);
    }

    /// Was it asked to stop, in its present or last life?
    pub fn is_asked_to_stop(&self, role: Role) -> bool {
        self.stopping[role as usize]
    }

    /// If it has ended: how. The caller judges that.
    pub fn take_dead(&mut self, role: Role) -> Option<ExitStatus> {
        if !self.is_running(role) || !self.is_dead(role) {
            return None;
        }
        self.children[role as usize].take().map(|mut child| child.wait().unwrap())
    }

    /// SIGTERM: it must leave with status 0 within `bound`.
    pub fn stop(&mut self, role: Role, bound: Duration) {
        self.ask_to_stop(role);
        let start = Instant::now();
        while self.is_running(role) {
            self.reap();
            assert!(start.elapsed() < bound, "{} ignores SIGTERM{}", role.name(), self.state());
            sleep(Duration::from_millis(1));
        }
    }

    /// Take note of daemons that left by themselves. Only conv at the end of its source, or anyone with status 0
    /// after SIGTERM, may do so (I9).
    pub fn reap(&mut self) {
        for role in Role::ALL {
            let child = &mut self.children[role as usize];
            if let Some(status) = child.as_mut().and_then(|c| c.try_wait().unwrap()) {
                *child = None;
                self.judge_exit(role, status, false);
            }
        }
    }

    fn judge_exit(&mut self, role: Role, status: ExitStatus, killed: bool) {
        use std::os::unix::process::ExitStatusExt;
        let asked = self.stopping[role as usize];
        let ended = role == Role::Conv && status.code() == Some(0);
        self.source_ended |= ended && !asked;
        // A SIGTERM that comes before the daemon has a handler for it ends it, too.
        let obeyed = asked && (status.code() == Some(0) || status.signal() == Some(15));
        let allowed = killed && status.signal() == Some(9) || obeyed || ended;
        assert!(allowed, "{} left by itself: {status}{}", role.name(), self.state());
    }

    /// Wait until `done`; gives the time it took. Daemons that fail meanwhile, or `bound`, end the test.
    pub fn wait_for(
        &mut self,
        what: &str,
        bound: Duration,
        mut done: impl FnMut(&Pipeline) -> bool,
    ) -> Duration {
        let start = Instant::now();
        loop {
            if done(self) {
                return start.elapsed();
            }
            self.reap();
            let waited = start.elapsed();
            assert!(waited < bound, "after {waited:.1?} still not: {what}{}", self.state());
            sleep(Duration::from_micros(500));
        }
    }

    /// `durable` of log's page, 0 while there is none.
    pub fn durable(&self) -> u64 {
        Page::open(&self.paths.page(Role::Log)).and_then(|p| p.durable()).unwrap_or(0)
    }

    pub fn head(&self) -> Option<u64> {
        Spool::open(&self.paths.spool()).and_then(|s| s.head())
    }

    /// Has this role mapped the spool that has the name now?
    pub fn holds_the_spool(&self, role: Role) -> bool {
        use std::os::unix::fs::MetadataExt;
        let inode = fs::metadata(self.paths.spool()).map(|m| m.ino());
        let child = self.children[role as usize].as_ref();
        let maps =
            child.and_then(|c| fs::read_to_string(format!("/proc/{}/maps", c.id())).ok()).unwrap_or_default();
        let inodes = maps.lines().filter_map(|l| l.split_whitespace().nth(4)?.parse::<u64>().ok());
        inode.is_ok_and(|inode| inodes.into_iter().any(|i| i == inode))
    }

    /// n of the snapshot, 0 while there is none.
    pub fn folded(&self) -> u64 {
        snapshot_rows(&self.paths.snapshot()).first().map_or(0, |r| r.row.n)
    }

    /// Names of this instance in /dev/shm, /dev/mqueue and its run directory, locks and the empty manifest apart.
    pub fn objects(&self) -> Vec<PathBuf> {
        let list = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|f| f.path()).collect();
        let mut all: Vec<PathBuf> = list(Path::new("/dev/shm"));
        all.retain(|p| self.is_ours(p));
        all.extend(self.queues());
        let run: Vec<PathBuf> = list(&self.run_dir());
        all.extend(run.into_iter().filter(|p| {
            let name = p.file_name().unwrap_or_default().to_string_lossy();
            !(name.ends_with(".lock") || name == "manifest")
        }));
        all
    }

    fn is_ours(&self, path: &Path) -> bool {
        let prefix = format!("ipc-pipeline@{}.", self.name);
        path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&prefix))
    }

    /// What people do after a clean stop: it must refuse nothing and say nothing is at risk.
    pub fn remove_objects(&mut self) {
        let mut c = self.command(env!("CARGO_BIN_EXE_ipc-pipeline"));
        let out = c.args(["objects", "remove", "--config"]).arg(self.config()).output().unwrap();
        assert!(
            out.status.success(),
            "objects remove: {}{}",
            String::from_utf8_lossy(&out.stderr),
            self.state()
        );
    }

    /// No process and no object may be left (I7), and nobody may have panicked (I9).
    pub fn assert_nothing_left(&mut self) {
        let running: Vec<&str> =
            Role::ALL.iter().filter(|r| self.is_running(**r)).map(|r| r.name()).collect();
        assert!(running.is_empty(), "still running: {running:?}");
        let strangers = self.strangers();
        assert!(strangers.is_empty(), "processes left: {strangers:?}");
        let objects = self.objects();
        assert!(objects.is_empty(), "objects left: {objects:?}{}", self.state());
        assert!(!self.story().contains("panicked"), "panicked{}", self.state());
    }

    /// Processes that were started with our configuration and are not our children.
    fn strangers(&self) -> Vec<String> {
        let config = self.config();
        let ours = config.to_string_lossy();
        let commands = fs::read_dir("/proc").unwrap().flatten();
        let commands = commands.filter_map(|p| fs::read(p.path().join("cmdline")).ok());
        commands
            .map(|c| String::from_utf8_lossy(&c).replace('\0', " "))
            .filter(|c| c.contains(&*ours))
            .collect()
    }

    /// What a daemon wrote to its standard output.
    pub fn output(&self, role: Role) -> String {
        self.text(role.name())
    }

    /// What all daemons wrote to standard error, and what was done to them, in the order of time.
    pub fn story(&self) -> String {
        self.text("story")
    }

    /// Add a line to the story.
    pub fn note(&self, what: impl std::fmt::Display) {
        let line = format!("[{:.3}] {what}\n", self.begun.elapsed().as_secs_f64());
        self.append_to("story").write_all(line.as_bytes()).unwrap();
    }

    fn text(&self, name: &str) -> String {
        let bytes = fs::read(self.dir().join(format!("{name}.txt"))).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn append_to(&self, name: &str) -> File {
        File::options().create(true).append(true).open(self.dir().join(format!("{name}.txt"))).unwrap()
    }

    /// All that helps to understand a failure.
    pub fn state(&self) -> String {
        let mut text = format!("\n--- {} ---", self.name);
        match Spool::open(&self.paths.spool()) {
            Some(s) => text += &format!("\nspool {s}"),
            None => text += "\nspool: none",
        }
        for role in Role::ALL {
            match Page::open(&self.paths.page(role)) {
                Some(p) => text += &format!("\n{:6} {p}", role.name()),
                None => text += &format!("\n{:6} no page", role.name()),
            }
            let runs = if self.is_running(role) { "runs" } else { "does not run" };
            text += &format!(", {runs}");
        }
        text + "\n" + &tail(&self.story())
    }
}

/// The last lines, indented.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(80)..].iter().map(|l| format!("    {l}\n")).collect()
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
        Role::ALL.into_iter().for_each(|role| self.delete_inlet(role));
        self.objects().into_iter().for_each(|path| drop(fs::remove_file(path)));
        if std::thread::panicking() && std::env::var_os("STORM_KEEP").is_some() {
            self.dir.disable_cleanup(true);
            eprintln!("kept: {}", self.dir().display());
        }
    }
}
