//! The loop of ipc-report: waits for a new snapshot and prints it, not more often than people can read.
#![forbid(unsafe_code)]

use std::io::{ErrorKind, Write};
use std::time::Duration;

use ipc_pipeline::daemon::{self, Context, EXIT_UNREAD, Failure, Looks, Remade, Waiting};
use ipc_pipeline::names::Role;
use ipc_pipeline::page::{self, OwnPage, State};
use ipc_pipeline::publisher::LOOK_NS;
use ipc_pipeline::register::RegisterReader;
use ipc_pipeline::ring;
use ipc_pipeline::segment::Shm;
use ipc_pipeline::sys;
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::line::{self, Style};

struct Printer {
    page: OwnPage<Shm>,
    register: RegisterReader<Shm>,
    style: Style,
    /// ns between two lines.
    pause_ns: u64,
    next_line: u64,
    /// Version of the last snapshot printed, and its n.
    version: u64,
    printed_n: Option<u64>,
    printed: u64,
    superseded: u64,
    remade: Remade,
    woken: u64,
}

/// The whole work of ipc-report.
pub fn run(context: &mut Context) -> Result<(), Failure> {
    let mut printer = Printer::start(context)?;
    context.notifier.ready();
    let (mut looks, mut waiting) = (Looks::default(), Waiting::default());
    loop {
        let now = sys::monotonic_ns();
        context.notifier.turn(now);
        let stopping = context.stopping();
        // Also at the end: a short job is over before the register is looked for again.
        if looks.is_due(now) || stopping {
            context.check_lock()?;
            printer.look(now, &mut waiting);
            if context.notifier.status_due(now) {
                context.notifier.status(now, &printer.status());
            }
        }
        // The last snapshot is printed in any case.
        if stopping || now >= printer.next_line {
            printer.print(now)?;
        }
        if stopping {
            printer.page.set_state(State::Ended);
            return Ok(());
        }
        let now = sys::monotonic_ns();
        printer.sleep(now, looks.rest(now));
    }
}

impl Printer {
    fn start(context: &Context) -> Result<Printer, Failure> {
        let (shm, names, config) = (context.shm.clone(), &context.names, &context.config);
        let page = OwnPage::open(shm.clone(), &names.page(Role::Report), 3).map_err(Failure::system)?;
        page.begin(0, page::new_session(), std::process::id().into(), sys::wall_ns());
        page.set_address(&config.edge.report.to_string());
        Ok(Printer {
            page,
            register: RegisterReader::new(shm, &names.snapshot()),
            style: Style {
                channels: config.channels.iter().map(daemon::channel_row).collect(),
                digits: config.report.digits,
            },
            pause_ns: 1_000_000_000 / config.report.max_lines_per_second as u64,
            next_line: 0,
            version: 0,
            printed_n: None,
            printed: 0,
            superseded: 0,
            remade: Remade::default(),
            woken: 0,
        })
    }

    fn look(&mut self, now: u64, waiting: &mut Waiting) {
        self.remade.note(self.page.look());
        self.register.look();
        let state = if self.register.is_there() { State::Running } else { State::WaitingForStat };
        if waiting.is_news(state == State::WaitingForStat, now) {
            log::info!("waiting for ipc-stat");
        }
        self.page.set_counters(&[self.printed, self.superseded, self.remade.count(), self.woken]);
        self.page.set_state(state);
        self.page.set_beat(now);
    }

    fn status(&self) -> String {
        format!("seq {}, {} lines printed", self.printed_n.unwrap_or(0), self.printed)
    }

    /// Is there a snapshot that we have not dealt with?
    fn has_news(&self) -> bool {
        self.register.version() != self.version
    }

    /// Prints the newest snapshot, if it says something new.
    fn print(&mut self, now: u64) -> Result<(), Failure> {
        if !self.has_news() {
            return Ok(());
        }
        // A reader that pauses must not stop us: whatever is the newest snapshot then is printed when it goes on.
        let snapshot = if can_print() { self.register.read() } else { None };
        let Some(snapshot) = snapshot else {
            self.next_line = now + LOOK_NS;
            return Ok(());
        };
        if self.version != 0 {
            self.superseded += snapshot.version.saturating_sub(self.version + 1);
        }
        self.version = snapshot.version;
        // A new life of stat publishes what the last one did; markers alone are no news.
        if self.printed_n == Some(snapshot.fold.n) {
            return Ok(());
        }
        self.printed_n = Some(snapshot.fold.n);
        self.next_line = now + self.pause_ns;
        let text: String =
            line::lines(&snapshot.fold, &self.style).iter().map(|l| format!("{l}\n")).collect();
        let written = std::io::stdout().lock().write_all(text.as_bytes());
        written.map_err(|e| match e.kind() {
            ErrorKind::BrokenPipe => {
                Failure::new(EXIT_UNREAD, "nobody reads standard output any more: ending")
            }
            _ => Failure::system(format!("cannot print to standard output: {e}")),
        })?;
        self.printed += 1;
        self.page.set_received(snapshot.fold.n);
        Ok(())
    }

    /// Sleeps until there is a new snapshot and the pause is over, at most for `rest`.
    fn sleep(&mut self, now: u64, rest: Duration) {
        self.woken += 1;
        if self.has_news() {
            return sys::sleep_until(self.next_line.min(now + rest.as_nanos() as u64));
        }
        let waiting = self.page.waiting();
        match self.register.version_word() {
            Some(word) if ring::may_sleep(waiting, word, self.version, || ()) => {
                sys::wait(word, self.version, rest);
            }
            Some(_) => {}
            None => sys::sleep_until(now + LOOK_NS / 2),
        }
        ring::awake(waiting);
    }
}

/// Would a line go out without waiting for whoever reads it?
fn can_print() -> bool {
    let stdout = std::io::stdout();
    let mut fds = [PollFd::new(&stdout, PollFlags::OUT)];
    // An error is found by the write itself.
    rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).map_or(true, |n| n > 0)
}
