//! The command for people: `ipc-pipeline run` as a process that tests may signal and kill, and all other commands.

use super::{Page, Pipeline, Role};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const CTL: &str = env!("CARGO_BIN_EXE_ipc-pipeline");

/// A moment between two looks.
const PAUSE: Duration = Duration::from_millis(2);

/// The value in line `index` of a test's source; neighbours differ and no short stretch repeats.
pub fn value(index: u64) -> i32 {
    (index.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 43) as i32 - (1 << 20)
}

/// Waits until `done`, at most `bound`.
#[track_caller]
pub fn wait_until(what: &str, bound: Duration, mut done: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < bound, "after {:.1?} still not: {what}", start.elapsed());
        sleep(PAUSE);
    }
    start.elapsed()
}

/// The end of a FIFO that writes, once somebody reads it: an open that blocks would wait without a bound for a reader that died.
#[track_caller]
pub fn fifo_for_writing(fifo: &Path, bound: Duration) -> File {
    let mut writer = None;
    wait_until(&format!("somebody reads {}", fifo.display()), bound, || {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::open(fifo, flags, Mode::empty()) {
            Err(e) => assert_eq!(e, Errno::NXIO, "{}", fifo.display()),
            Ok(end) => writer = Some(end),
        }
        writer.is_some()
    });
    let writer = writer.expect("it is open");
    rustix::fs::fcntl_setfl(&writer, OFlags::empty()).expect("a FIFO may block again");
    File::from(writer)
}

impl Pipeline {
    /// A pipeline whose source is the file `in.txt` with `n` lines of [`value`]; `config` is what follows `[source]`.
    pub fn of_lines(n: u64, config: &str) -> Pipeline {
        let p = Pipeline::new(&format!("[source]\nkind = \"lines\"\npath = \"in.txt\"\n{config}"));
        p.write_lines("in.txt", 0..n);
        p
    }

    /// Another configuration for the same instance.
    pub fn configure(&self, config: &str) {
        fs::write(self.config(), format!("[instance]\nname = \"{}\"\n{config}", self.name)).unwrap();
    }

    /// Writes these lines of the source into a file of the instance's directory.
    pub fn write_lines(&self, file: &str, lines: std::ops::Range<u64>) {
        let text: String = lines.map(|i| format!("{}\n", value(i))).collect();
        fs::write(self.dir().join(file), text).unwrap();
    }

    /// Any command of `ipc-pipeline` on this instance, to its end.
    pub fn ctl(&self, args: &[&str]) -> Output {
        self.command(CTL).args(args).arg("--config").arg(self.config()).output().unwrap()
    }

    /// Like [`Pipeline::ctl`]: the command must end with this exit code. Gives what it printed.
    #[track_caller]
    pub fn expect(&self, args: &[&str], code: i32) -> String {
        let out = self.ctl(args);
        let (text, errors) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        let right = out.status.code() == Some(code);
        assert!(right, "{args:?}: {} instead of {code}\n{text}\n{errors}{}", out.status, self.state());
        format!("{text}{errors}")
    }

    /// What a daemon that was started by hand wrote to standard error, in all its lives.
    pub fn said_by(&self, role: Role) -> String {
        let (story, name) = (self.story(), format!("ipc-{}: ", role.name()));
        story.lines().filter(|l| l.starts_with(&name)).map(|l| format!("{l}\n")).collect()
    }

    /// What `status --json` says.
    pub fn status(&self) -> serde_json::Value {
        let out = self.ctl(&["status", "--json"]);
        serde_json::from_slice(&out.stdout).unwrap_or_default()
    }

    /// The state of a role in the words of `status`.
    pub fn state_of(&self, role: Role) -> String {
        self.status()["daemons"][role.name()]["state"].as_str().unwrap_or_default().to_owned()
    }

    /// A counter of a role's page, by its name in `status --json`.
    pub fn counter(&self, role: Role, name: &str) -> u64 {
        let status = self.status();
        status["daemons"][role.name()]["counters"][name].as_u64().unwrap_or(u64::MAX)
    }

    /// `ipc-pipeline run` in the background of the test.
    pub fn run(&self, args: &[&str]) -> Foreground {
        self.run_with(args, Stdio::null())
    }

    /// The same, with something as its standard input.
    pub fn run_with(&self, args: &[&str], stdin: Stdio) -> Foreground {
        self.begin("run", args, stdin)
    }

    /// Any command of `ipc-pipeline` on this instance, in the background of the test.
    pub fn begin(&self, command: &str, args: &[&str], stdin: Stdio) -> Foreground {
        let config = self.config();
        let common = [command, "--config", config.to_str().unwrap()];
        self.spawn(CTL, &[&common, args].concat(), stdin)
    }

    /// Any program in the background of the test.
    pub fn spawn(&self, program: &str, args: &[&str], stdin: Stdio) -> Foreground {
        let number = fs::read_dir(self.dir()).unwrap().count();
        let [out, err] = ["out", "err"].map(|end| self.dir().join(format!("run{number}.{end}")));
        let mut c = self.command(program);
        c.args(args).stdin(stdin);
        c.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        let child = c.spawn().expect("setpriv (util-linux) starts ipc-pipeline");
        Foreground { child, out, err, pages: Role::ALL.map(|r| self.paths.page(r)) }
    }
}

/// A process of /proc.
pub struct Process {
    pub pid: i32,
    pub name: String,
    pub parent: i32,
    pub group: i32,
    pub state: String,
}

/// All processes.
pub fn processes() -> Vec<Process> {
    let numbers = fs::read_dir("/proc").unwrap().flatten();
    numbers.filter_map(|p| process(p.file_name().to_str()?.parse().ok()?)).collect()
}

/// One process, unless it is gone or only waits to be reaped.
pub fn process(pid: i32) -> Option<Process> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (name, rest) = text.split_once('(')?.1.rsplit_once(") ")?;
    let mut rest = rest.split(' ');
    let state = rest.next()?.to_owned();
    let (parent, group) = (rest.next()?.parse().ok()?, rest.next()?.parse().ok()?);
    (state != "Z" && state != "X").then(|| Process { pid, name: name.into(), parent, group, state })
}

/// Sends a signal to a process that may be gone.
pub fn signal_pid(pid: i32, signal: Signal) {
    let _ = kill_process(Pid::from_raw(pid).unwrap(), signal);
}

/// A running `ipc-pipeline run`.
pub struct Foreground {
    child: Child,
    out: PathBuf,
    err: PathBuf,
    pages: [PathBuf; 4],
}

impl Foreground {
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// The process of this role now, if it lives.
    pub fn daemon(&self, role: Role) -> Option<i32> {
        let name = format!("ipc-{}", role.name());
        processes().into_iter().find(|p| p.parent == self.pid() && p.name == name).map(|p| p.pid)
    }

    /// All its daemons.
    pub fn daemons(&self) -> Vec<Process> {
        processes().into_iter().filter(|p| p.parent == self.pid()).collect()
    }

    /// The same signal once more, by somebody who presses Ctrl-C twice: that takes longer than what counts as one.
    pub fn signal_again(&self, signal: Signal) {
        sleep(Duration::from_millis(150));
        self.signal(signal);
    }

    /// kill -9 of a daemon; false: it was not there.
    pub fn kill(&self, role: Role) -> bool {
        let pid = self.daemon(role);
        pid.inspect(|pid| signal_pid(*pid, Signal::KILL)).is_some()
    }

    pub fn signal(&self, signal: Signal) {
        signal_pid(self.pid(), signal);
    }

    /// Standard input, if it was piped; dropping it closes it.
    pub fn stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Highest durable seq.
    pub fn durable(&self) -> u64 {
        Page::open(&self.pages[Role::Log as usize]).and_then(|p| p.durable()).unwrap_or(0)
    }

    /// Waits until so much is durable.
    #[track_caller]
    pub fn wait_for_durable(&mut self, seq: u64, bound: Duration) {
        let start = Instant::now();
        while self.durable() < seq {
            let ended = self.child.try_wait().unwrap();
            let late = start.elapsed() > bound;
            assert!(
                ended.is_none() && !late,
                "durable {} of {seq} ({ended:?})\n{}",
                self.durable(),
                self.err()
            );
            sleep(PAUSE);
        }
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end; gives the exit code.
    #[track_caller]
    pub fn wait(&mut self, bound: Duration) -> i32 {
        let start = Instant::now();
        while self.is_running() {
            assert!(start.elapsed() < bound, "run does not end\n{}", self.err());
            sleep(PAUSE);
        }
        self.child.wait().unwrap().code().unwrap_or(-1)
    }

    /// Waits for its end, which must be with this exit code.
    #[track_caller]
    pub fn ends_with(&mut self, code: i32, bound: Duration) {
        let found = self.wait(bound);
        assert_eq!(found, code, "exit code of run\n{}\n{}", self.out(), self.err());
    }

    pub fn out(&self) -> String {
        fs::read_to_string(&self.out).unwrap_or_default()
    }

    pub fn err(&self) -> String {
        fs::read_to_string(&self.err).unwrap_or_default()
    }

    /// Does the last print say this, in the line of the values or in the one before it?
    pub fn last_print_says(&self, part: &str) -> bool {
        self.out().lines().rev().take(2).any(|line| line.contains(part))
    }

    /// The last line that report printed.
    pub fn last_line(&self) -> String {
        self.out().lines().last().unwrap_or_default().to_owned()
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        // Its daemons die with it.
        let daemons = self.daemons();
        let _ = self.child.kill();
        let _ = self.child.wait();
        for d in daemons {
            signal_pid(d.pid, Signal::CONT);
            let start = Instant::now();
            while process(d.pid).is_some_and(|p| p.name == d.name) && start.elapsed() < Duration::from_secs(5)
            {
                sleep(PAUSE);
            }
        }
    }
}

/// Appends text to a FIFO or a file.
pub fn write_to(path: &Path, text: &str) {
    File::options().write(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}
