//! The lines that a program prints; whenever it ends it is started again.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStderr, Command as Start, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ipc_pipeline::config::LineFormat;
use ipc_pipeline::messages::Message;
use ipc_pipeline::program;
use ipc_pipeline::sys;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use super::rows::{Input, RowReader};
use super::{Source, SourceError, Supply};

/// Pause before the first new start; each further one is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest pause. A program that has lived so long begins with the shortest again.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// A program that has closed its output has so long to end, and one that was told to.
const GRACE: Duration = Duration::from_millis(500);
/// Lines of standard error passed on in a second; the others are counted.
const ERRORS_MAX: u32 = 10;

/// Runs one program, without a shell, in a process group of its own.
pub struct Command {
    command: Vec<String>,
    format: LineFormat,
    decimals: Vec<u8>,
    running: Option<Running>,
    /// Why it is not running.
    down: String,
    start_at: Instant,
    pause: Duration,
}

struct Running {
    child: Child,
    rows: RowReader,
    since: Instant,
    /// It has closed its output, but was not seen to end.
    closed_since: Option<Instant>,
}

impl Command {
    /// `command` is a program, searched in `PATH` if it has no `/`, and its arguments. It is started when the first
    /// row is wanted.
    pub fn new(command: &[String], format: &LineFormat, decimals: &[u8]) -> Result<Command, SourceError> {
        let name = command.first().cloned().unwrap_or_default();
        match program::can_be_found(&name) {
            Ok(true) => {}
            Ok(false) => return Err(SourceError::NoProgram { name }),
            Err(why) => return Err(SourceError::Read { path: name, why }),
        }
        Ok(Command {
            command: command.to_vec(),
            format: format.clone(),
            decimals: decimals.to_vec(),
            running: None,
            down: String::new(),
            start_at: Instant::now(),
            pause: PAUSE_MIN,
        })
    }

    fn name(&self) -> &str {
        self.command.first().map_or("", String::as_str)
    }

    /// Starts it if its pause is over; else says why it is not running.
    fn start(&mut self) -> Result<(), String> {
        if Instant::now() < self.start_at {
            return Err(self.down.clone());
        }
        match start(&self.command) {
            Ok((child, output)) => {
                let rows =
                    RowReader::new(self.name().into(), Input::Program(output), &self.format, &self.decimals);
                let since = Instant::now();
                self.running = Some(Running { child, rows, since, closed_since: None });
                Ok(())
            }
            Err(why) => {
                self.is_down(format!("cannot start {}: {why}", self.name()), Duration::ZERO);
                Err(self.down.clone())
            }
        }
    }

    fn is_down(&mut self, why: String, lived: Duration) {
        if lived >= PAUSE_MAX {
            self.pause = PAUSE_MIN;
        }
        self.down = why;
        self.start_at = Instant::now() + self.pause;
        self.pause = (2 * self.pause).min(PAUSE_MAX);
    }
}

impl Source for Command {
    fn seek(&mut self, _: u64) -> Result<(), SourceError> {
        Ok(()) // what it prints next is the next row
    }

    fn fill(&mut self, out: &mut [i32]) -> Result<Supply, SourceError> {
        if self.running.is_none()
            && let Err(down) = self.start()
        {
            return Ok(Supply::Unread(down));
        }
        let Some(running) = &mut self.running else { return Ok(Supply::Nothing) };
        let supply = running.rows.fill(out)?;
        if supply != Supply::End {
            return Ok(supply);
        }
        let Some(status) = running.ended() else { return Ok(Supply::Nothing) };
        let lived = running.since.elapsed();
        self.running = None;
        self.is_down(format!("{} {}", self.name(), program::how(status)), lived);
        Ok(Supply::Unread(self.down.clone()))
    }
}

impl Running {
    /// How it ended, once it has; then nothing of its process group is left.
    fn ended(&mut self) -> Option<ExitStatus> {
        let since = *self.closed_since.get_or_insert_with(Instant::now);
        if !self.has_ended() && since.elapsed() < GRACE {
            return None;
        }
        self.signal(Signal::KILL);
        self.child.wait().ok()
    }

    /// Asked without taking its process away, so that its number still names its group.
    fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let pid = Pid::from_child(&self.child);
        !matches!(rustix::process::waitid(WaitId::Pid(pid), options), Ok(None))
    }

    /// To all of its group.
    fn signal(&self, signal: Signal) {
        let _ = rustix::process::kill_process_group(Pid::from_child(&self.child), signal);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return; // taken away by `ended`
        }
        self.signal(Signal::TERM);
        let told = Instant::now();
        while !self.has_ended() && told.elapsed() < GRACE {
            thread::sleep(Duration::from_millis(2));
        }
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }
}

/// Starts the program; gives it and its output, from which reading never waits.
fn start(command: &[String]) -> io::Result<(Child, File)> {
    let name = command.first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut start = Start::new(name);
    start.args(command.get(1..).unwrap_or_default());
    start.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    start.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC"); // those are for us
    sys::dies_with_parent(&mut start);
    let mut child = start.spawn()?;
    let missing = || io::Error::other("it has no output");
    let output = OwnedFd::from(child.stdout.take().ok_or_else(missing)?);
    rustix::io::ioctl_fionbio(&output, true)?;
    if let Some(errors) = child.stderr.take() {
        let name = name.clone();
        // It ends when nobody can write any more, at the latest with our process.
        thread::Builder::new().name("stderr".into()).spawn(move || pass_on(errors, &name))?;
    }
    Ok((child, output.into()))
}

/// Passes what a program complains of to our log, line by line.
fn pass_on(mut errors: ChildStderr, name: &str) {
    let mut limit = Limit { second: Instant::now(), said: 0, held: 0 };
    let (mut chunk, mut line) = ([0; 4096], Vec::new());
    while let Ok(n) = errors.read(&mut chunk) {
        for byte in chunk.iter().take(n) {
            // A line that is too long is said in parts.
            if *byte != b'\n' && line.len() < 1000 {
                line.push(*byte);
                continue;
            }
            limit.say(name, &line);
            line.clear();
            if *byte != b'\n' {
                line.push(*byte);
            }
        }
        if n == 0 {
            break;
        }
    }
    if !line.is_empty() {
        limit.say(name, &line);
    }
    limit.say_held(name);
}

/// Lets so many lines a second through.
struct Limit {
    second: Instant,
    said: u32,
    held: u64,
}

impl Limit {
    fn say(&mut self, name: &str, line: &[u8]) {
        if self.second.elapsed() >= Duration::from_secs(1) {
            self.say_held(name);
            (self.second, self.said) = (Instant::now(), 0);
        }
        if self.said < ERRORS_MAX {
            self.said += 1;
            let text = String::from_utf8_lossy(line);
            let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            log::warn!(id = Message::ProgramSaid; "{name}: {}", text.trim_end());
        } else {
            self.held += 1;
        }
    }

    fn say_held(&mut self, name: &str) {
        match std::mem::take(&mut self.held) {
            0 => {}
            n => log::warn!(id = Message::ProgramSaid; "{name}: {n} more lines"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Command {
        let command = ["sh", "-c", script].map(str::to_owned);
        Command::new(&command, &LineFormat::default(), &[0]).unwrap()
    }

    /// What it gives until `done` likes it.
    fn until(source: &mut Command, mut done: impl FnMut(&Supply, i32) -> bool) {
        let begun = Instant::now();
        loop {
            let mut out = [0; 1];
            let supply = source.fill(&mut out).unwrap();
            if done(&supply, out[0]) {
                return;
            }
            assert!(begun.elapsed() < BOUND, "{supply:?}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn is_unread(supply: &Supply, part: &str) -> bool {
        matches!(supply, Supply::Unread(text) if text.contains(part))
    }

    #[test]
    fn it_is_started_again_and_what_it_tore_is_no_sample() {
        let mut source = shell("echo 5; printf 12; exit 3");
        for _ in 0..2 {
            until(&mut source, |supply, value| {
                assert!(value == 0 || value == 5, "{value}");
                *supply == Supply::Rows(1)
            });
            until(&mut source, |supply, _| {
                assert!(!matches!(supply, Supply::Rows(_)), "a torn line was taken");
                is_unread(supply, "sh ended with exit code 3")
            });
        }
        assert!(source.pause >= 4 * PAUSE_MIN);
    }

    #[test]
    fn nothing_of_it_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let pids = dir.path().join("pids");
        let script = format!("sleep 1000 & echo $$ $! > {0}.new; mv {0}.new {0}; wait", pids.display());
        let mut source = shell(&script);
        until(&mut source, |supply, _| {
            assert_eq!(*supply, Supply::Nothing);
            pids.exists()
        });
        let text = std::fs::read_to_string(&pids).unwrap();
        drop(source);
        for pid in text.split_whitespace() {
            let begun = Instant::now();
            // One that only waits to be taken away by init has no memory any more.
            while std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty()) {
                assert!(begun.elapsed() < BOUND, "{pid} lives");
                thread::sleep(Duration::from_millis(1));
            }
        }
    }

    #[test]
    fn one_that_closes_its_output_is_ended() {
        let mut source = shell("echo 1; exec >&-; sleep 1000");
        until(&mut source, |supply, _| *supply == Supply::Rows(1));
        until(&mut source, |supply, _| is_unread(supply, "was killed by signal 9"));
    }

    #[test]
    fn a_header_comes_with_each_start() {
        let format = LineFormat { header: true, ..LineFormat::default() };
        let command = ["printf", "value\\n7\\n"].map(str::to_owned);
        let mut source = Command::new(&command, &format, &[0]).unwrap();
        source.seek(100).unwrap();
        for _ in 0..2 {
            until(&mut source, |supply, value| {
                assert!(!matches!(supply, Supply::Bad(_)), "{supply:?}");
                *supply == Supply::Rows(1) && value == 7
            });
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_refused() {
        for name in ["no-such-program", "/no/such/program"] {
            let text = Command::new(&[name.into()], &LineFormat::default(), &[0]).err().unwrap().to_string();
            assert!(text.starts_with("cannot find the program") && text.contains(name), "{text}");
        }
    }
}
