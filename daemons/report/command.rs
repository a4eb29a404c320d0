//! The command that is run when an alarm begins or ends: without a shell, one at a time, in a thread of its own.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::io::{self, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ipc_pipeline::config::ReportConfig;
use ipc_pipeline::daemon::Failure;
use ipc_pipeline::messages::Message;
use ipc_pipeline::{program, sys};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::alarms::Event;

/// Events that may wait for the command; of more the oldest that are out of date are left out.
const WAITING_MAX: usize = 64;
/// The thread waits no longer without looking around.
const LOOK: Duration = Duration::from_millis(200);
/// At the end the command has so long.
const LAST: Duration = Duration::from_secs(2);

/// Our end of the thread.
pub struct Runner {
    thread: JoinHandle<()>,
    shared: Arc<Shared>,
}

/// What both ends of the thread know.
#[derive(Default)]
struct Shared {
    /// How often it was run, and how often in vain.
    run: AtomicU64,
    failed: AtomicU64,
    /// What is run.
    plan: Mutex<Plan>,
    /// What waits for it, and who rings when that changes.
    queue: Mutex<Queue>,
    bell: Condvar,
    /// The command that runs now. While this is locked its number is its own.
    running: Mutex<Option<Pid>>,
}

/// The events that wait for the command, the oldest first.
#[derive(Default)]
struct Queue {
    events: VecDeque<Event>,
    /// There will be no more.
    closed: bool,
}

impl Queue {
    /// Puts it behind those that wait. What has to be left out for it is the oldest that is out of date: behind it another one
    /// of its channel waits. So the last word about each channel always stays.
    fn put(&mut self, event: Event) -> Option<Event> {
        self.events.push_back(event);
        if self.events.len() <= WAITING_MAX {
            return None;
        }
        let is_old = |(at, event): &(usize, &Event)| {
            self.events.iter().skip(at + 1).any(|newer| newer.channel == event.channel)
        };
        // There is one: there are fewer channels than places.
        let at = self.events.iter().enumerate().find(is_old).map_or(0, |(at, _)| at);
        self.events.remove(at)
    }
}

/// What the thread runs; nothing if the command is empty.
#[derive(Clone, Default)]
struct Plan {
    command: Vec<String>,
    limit: Duration,
    instance: String,
}

impl Runner {
    /// Starts the thread; `None` if there is no command.
    pub fn start(config: &ReportConfig, instance: &str) -> Result<Option<Runner>, Failure> {
        if config.command.is_empty() {
            return Ok(None);
        }
        check(config)?;
        let plan = Plan {
            command: config.command.clone(),
            limit: config.command_limit,
            instance: instance.to_owned(),
        };
        let shared = Arc::new(Shared { plan: Mutex::new(plan), ..Shared::default() });
        let theirs = shared.clone();
        let thread = thread::Builder::new().name("command".into()).spawn(move || serve(&theirs));
        let thread = thread.map_err(|e| Failure::system(format!("cannot start a thread: {e}")))?;
        Ok(Some(Runner { thread, shared }))
    }

    /// From the next event on another command is run, or none.
    ///
    /// # Errors
    /// There is no such program; then nothing has changed.
    pub fn change(&self, config: &ReportConfig) -> Result<(), String> {
        check(config).map_err(|failure| failure.text)?;
        let mut plan = self.shared.plan();
        (plan.command, plan.limit) = (config.command.clone(), config.command_limit);
        Ok(())
    }

    /// Gives it an event; it is run when those before it are done.
    pub fn tell(&self, event: Event) {
        if self.shared.plan().command.is_empty() {
            return;
        }
        let left_out = self.shared.queue().put(event);
        self.shared.bell.notify_one();
        if let Some(event) = left_out {
            self.shared.failed.fetch_add(1, Ordering::Relaxed);
            log::warn!(
                id = Message::CommandFailed;
                "report.command is too slow: {WAITING_MAX} alarms wait for it; \"{}\" is not given to it, what came of that channel since then is",
                event.text
            );
        }
    }

    /// How often it was run, and how often in vain.
    pub fn counts(&self) -> [u64; 2] {
        [&self.shared.run, &self.shared.failed].map(|count| count.load(Ordering::Relaxed))
    }

    /// Waits a little until all events are dealt with. What still runs then is killed.
    pub fn finish(self) {
        self.shared.queue().closed = true;
        self.shared.bell.notify_one();
        let begun = Instant::now();
        while !self.thread.is_finished() && begun.elapsed() < LAST {
            thread::sleep(Duration::from_millis(5));
        }
        if !self.thread.is_finished() {
            let left_out = std::mem::take(&mut self.shared.queue().events).len();
            self.shared.failed.fetch_add(left_out as u64, Ordering::Relaxed);
            log::warn!(
                id = Message::CommandFailed;
                "report.command still runs at the end: it is killed; alarms that waited for it and are not given to it: {left_out}"
            );
            self.shared.kill();
        }
    }
}

/// The program must be there.
fn check(config: &ReportConfig) -> Result<(), Failure> {
    let Some(name) = config.command.first() else { return Ok(()) };
    match program::can_be_found(name) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::config(format!(
            "report.command: there is no program {name:?}; install it, or name another one"
        ))),
        Err(e) => Err(Failure::system(format!("report.command: cannot look for the program {name:?}: {e}"))),
    }
}

impl Shared {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next event; `None`: there will be none.
    fn next(&self) -> Option<Event> {
        let mut queue = self.queue();
        loop {
            match queue.events.pop_front() {
                None if !queue.closed => {
                    let rung = self.bell.wait_timeout(queue, LOOK);
                    (queue, _) = rung.unwrap_or_else(PoisonError::into_inner);
                }
                next => return next,
            }
        }
    }

    fn running(&self) -> MutexGuard<'_, Option<Pid>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills the command that runs, and all that it has started.
    fn kill(&self) {
        if let Some(pid) = *self.running() {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

fn serve(shared: &Shared) {
    while let Some(event) = shared.next() {
        let plan = shared.plan().clone();
        if plan.command.is_empty() {
            continue;
        }
        shared.run.fetch_add(1, Ordering::Relaxed);
        if let Err(why) = plan.run(&event, shared) {
            shared.failed.fetch_add(1, Ordering::Relaxed);
            log::error!(
                id = Message::CommandFailed;
                "report.command: {} {why}; \"{}\" may not have reached anybody",
                plan.name(),
                event.text
            );
        }
    }
}

impl Plan {
    fn name(&self) -> &str {
        self.command.first().map_or("", String::as_str)
    }

    /// Runs the command for one event; why that was in vain is the rest of a sentence.
    fn run(&self, event: &Event, shared: &Shared) -> Result<(), String> {
        let mut child = self.spawn(event).map_err(|e| format!("cannot be started: {e}"))?;
        if let Some(mut stdin) = child.stdin.take() {
            // One short line fits any pipe; who does not read it does not want it.
            let _ = stdin.write_all(format!("{}\n", event.text).as_bytes());
        }
        match wait(&mut child, self.limit, shared) {
            Ok(Some(status)) if status.success() => Ok(()),
            Ok(Some(status)) => Err(program::how(status)),
            Ok(None) => Err(format!("took longer than {:?} and was killed", self.limit)),
            Err(e) => Err(format!("cannot be waited for: {e}")),
        }
    }

    fn spawn(&self, event: &Event) -> io::Result<Child> {
        let mut command = Command::new(self.name());
        command.args(self.command.get(1..).unwrap_or_default());
        command
            .env("IPC_PIPELINE_INSTANCE", &self.instance)
            .env("IPC_PIPELINE_CHANNEL", &event.channel)
            .env("IPC_PIPELINE_UNIT", &event.unit)
            .env("IPC_PIPELINE_ALARM", &event.alarm)
            .env("IPC_PIPELINE_VALUE", &event.value)
            .env("IPC_PIPELINE_SEQ", event.seq.to_string());
        command.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC"); // those are for us
        // Standard output is for our lines alone.
        command.stdin(Stdio::piped()).stdout(io::stderr()).stderr(Stdio::inherit());
        sys::dies_with_parent(&mut command);
        command.spawn()
    }
}

/// How it ended; `None`: not in time, so it was killed, and all that it has started.
fn wait(child: &mut Child, limit: Duration, shared: &Shared) -> io::Result<Option<ExitStatus>> {
    let pid = Pid::from_child(child);
    *shared.running() = Some(pid);
    let process = pidfd_open(pid, PidfdFlags::empty());
    let ended = process.and_then(|process| ends_within(&process, limit));
    let in_time = matches!(ended, Ok(true));
    // What a command that has ended well has left to work on, as a mailer does, may finish that.
    if !in_time {
        shared.kill();
    }
    *shared.running() = None; // from here on its number may become that of another process
    let status = child.wait()?;
    ended?;
    Ok(in_time.then_some(status))
}

fn ends_within(process: &impl rustix::fd::AsFd, limit: Duration) -> rustix::io::Result<bool> {
    let end = Instant::now() + limit;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&left)) {
            Err(rustix::io::Errno::INTR) => {}
            ready => return ready.map(|n| n > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &str) -> Event {
        let [channel, unit, alarm, value] = ["t", "C", "high", "81.5"].map(str::to_owned);
        Event { channel, unit, alarm, value, seq: 7, text: text.to_owned() }
    }

    fn config(command: &[&str], limit_ms: u64) -> ReportConfig {
        ReportConfig {
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            command_limit: Duration::from_millis(limit_ms),
            ..ipc_pipeline::config::Config::default().report
        }
    }

    fn run(command: &[&str], limit_ms: u64, events: usize) -> [u64; 2] {
        let runner = Runner::start(&config(command, limit_ms), "x").unwrap().unwrap();
        let shared = runner.shared.clone();
        (0..events).for_each(|i| runner.tell(event(&i.to_string())));
        runner.finish();
        [&shared.run, &shared.failed].map(|count| count.load(Ordering::Relaxed))
    }

    #[test]
    fn it_is_given_the_event_in_its_environment_and_the_sentence_as_input() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let script = format!(
            "cat >> {0}; echo $IPC_PIPELINE_INSTANCE $IPC_PIPELINE_CHANNEL $IPC_PIPELINE_UNIT \
             $IPC_PIPELINE_ALARM $IPC_PIPELINE_VALUE $IPC_PIPELINE_SEQ >> {0}",
            out.display()
        );
        assert_eq!(run(&["sh", "-c", &script], 10_000, 2), [2, 0]);
        assert_eq!(std::fs::read_to_string(out).unwrap(), "0\nx t C high 81.5 7\n1\nx t C high 81.5 7\n");
    }

    #[test]
    fn one_that_fails_or_does_not_end_is_counted() {
        assert_eq!(run(&["false"], 10_000, 1), [1, 1]);
        // It and what it has started.
        let begun = Instant::now();
        assert_eq!(run(&["sh", "-c", "sleep 200 & sleep 200"], 100, 1), [1, 1]);
        assert!(begun.elapsed() < Duration::from_secs(100));
        // One that does not read does not hold us up.
        assert_eq!(run(&["true"], 10_000, 20), [20, 0]);
    }

    #[test]
    fn at_the_end_all_that_it_has_started_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let script = format!("sleep 60 > {0} & sleep 60", fifo.display());
        let runner = Runner::start(&config(&["sh", "-c", &script], 1_000_000), "x").unwrap().unwrap();
        runner.tell(event("e"));
        runner.tell(event("one that waits"));
        let read = std::fs::File::open(&fifo).unwrap(); // it runs
        let shared = runner.shared.clone();
        runner.finish();
        // The last process that could write there has gone, and there is no other one.
        assert!(ends_within(&read, Duration::from_secs(20)).unwrap());
        assert_eq!(shared.run.load(Ordering::Relaxed), 1);
        assert!(shared.failed.load(Ordering::Relaxed) >= 1, "the one that waited is counted");
    }

    #[test]
    fn what_it_leaves_behind_may_finish() {
        let dir = tempfile::tempdir().unwrap();
        let [go, done] = ["go", "done"].map(|name| dir.path().join(name));
        let script =
            format!("(until [ -e {} ]; do sleep 0.01; done; : > {}) &", go.display(), done.display());
        assert_eq!(run(&["sh", "-c", &script], 10_000, 1), [1, 0]);
        std::fs::write(go, "").unwrap();
        let begun = Instant::now();
        while !done.exists() {
            assert!(begun.elapsed() < Duration::from_secs(60));
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn events_that_cannot_wait_are_counted_and_the_last_of_each_channel_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let [go, out] = ["go", "out"].map(|name| dir.path().join(name));
        let script = format!("cat >> {}; until [ -e {} ]; do sleep 0.01; done", out.display(), go.display());
        let runner = Runner::start(&config(&["sh", "-c", &script], 60_000), "x").unwrap().unwrap();
        runner.tell(event("first"));
        let begun = Instant::now();
        while std::fs::read_to_string(&out).unwrap_or_default() != "first\n" {
            assert!(begun.elapsed() < Duration::from_secs(60));
            thread::sleep(Duration::from_millis(5));
        }
        // Nothing is newer than the only word about another channel, however old it is.
        runner.tell(Event { channel: "other".into(), ..event("rare") });
        (0..2 * WAITING_MAX).for_each(|i| runner.tell(event(&i.to_string())));
        runner.tell(event("ok"));
        let left_out = WAITING_MAX + 2;
        assert_eq!(runner.counts(), [1, left_out as u64]);
        let shared = runner.shared.clone();
        std::fs::write(go, "").unwrap();
        // More time than `finish` gives: all that waited has to be seen.
        while !shared.queue().events.is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(60));
            thread::sleep(Duration::from_millis(5));
        }
        runner.finish();
        let kept = (left_out..2 * WAITING_MAX).map(|i| i.to_string());
        let kept = ["first".to_owned(), "rare".to_owned()].into_iter().chain(kept).chain(["ok".to_owned()]);
        assert_eq!(std::fs::read_to_string(out).unwrap(), kept.map(|text| text + "\n").collect::<String>());
        assert_eq!(shared.failed.load(Ordering::Relaxed), left_out as u64);
    }

    #[test]
    fn a_program_that_is_not_there_is_said_at_the_start() {
        let Err(failure) = Runner::start(&config(&["no-such-program"], 100), "x") else { panic!("started") };
        assert!(failure.to_string().contains("no-such-program"));
        assert!(Runner::start(&config(&[], 100), "x").unwrap().is_none());
    }
}
