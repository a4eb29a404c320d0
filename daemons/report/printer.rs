//! The loop of ipc-report: waits for a new snapshot and prints it, not more often than people can read.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind, IsTerminal};
use std::time::Duration;

use ipc_pipeline::config::{Config, ReportConfig};
use ipc_pipeline::daemon::{Context, EXIT_UNREAD, Failure, Looks, Remade, Waiting};
use ipc_pipeline::fold::Losses;
use ipc_pipeline::messages::Message;
use ipc_pipeline::names::{Names, Role};
use ipc_pipeline::notify::{Notifier, Status};
use ipc_pipeline::page::{self, OwnPage, Page, State};
use ipc_pipeline::publisher::LOOK_NS;
use ipc_pipeline::reload::Reloads;
use ipc_pipeline::segment::{Copied, Memory, Shm};
use ipc_pipeline::spool::{HEADER_WORDS, Overview};
use ipc_pipeline::sys::{self, Map};

use crate::alarms::{Event, Watcher};
use crate::arrivals::Arrivals;
use crate::command::Runner;
use crate::feed::{self, Feed};
use crate::line::{Channel, News, Style};
use crate::output::Output;

struct Printer {
    names: Names,
    page: OwnPage<Shm>,
    arrivals: Arrivals,
    style: Style,
    /// `None` if there is nothing to watch for.
    watcher: Option<Watcher>,
    /// Version of the last snapshot that was looked at for alarms.
    watched: u64,
    next_message: u64,
    /// What is run for each alarm.
    runner: Option<Runner>,
    alarms: u64,
    /// An alarm has changed since the last print.
    changed: bool,
    /// Not printed yet.
    header: Option<String>,
    output: Output,
    /// Where the lines go if standard output leads into the journal.
    feed: Option<Feed>,
    /// ns for each line, and for each message about an alarm.
    pause_ns: u64,
    alarm_pause_ns: u64,
    next_line: u64,
    /// Version of the last snapshot printed, and its n.
    version: u64,
    printed_n: Option<u64>,
    printed: u64,
    superseded: u64,
    /// Of them, those since the last print.
    coalesced: u64,
    remade: Remade,
    woken: u64,
}

/// The whole work of ipc-report.
pub fn run(context: &mut Context) -> Result<(), Failure> {
    let mut printer = Printer::start(context)?;
    context.ready();
    let (mut looks, mut waiting) = (Looks::default(), Waiting::default());
    loop {
        let now = sys::monotonic_ns();
        context.notifier.turn(now);
        let stopping = context.stopping();
        // Also at the end: a short job is over before the register is looked for again.
        if looks.is_due(now) || stopping {
            context.check_lock()?;
            printer.look(now, &mut waiting)?;
            context.reload(&mut printer);
            if context.notifier.status_due(now) {
                printer.report_status(&mut context.notifier, now);
            }
        }
        printer.arrivals.receive();
        // The last snapshot is printed in any case.
        if stopping {
            printer.arrivals.last_word();
            printer.output.finish().map_err(unwritten)?;
        }
        // The same goes for the last message.
        if printer.has_unwatched() && (stopping || now >= printer.next_message) {
            printer.watch(now);
        }
        if stopping || now >= printer.next_line {
            printer.print(now)?;
        }
        if stopping {
            printer.output.finish().map_err(unwritten)?;
            printer.end();
            return Ok(());
        }
        let now = sys::monotonic_ns();
        printer.sleep(now, looks.rest(now));
    }
}

impl Printer {
    fn start(context: &Context) -> Result<Printer, Failure> {
        let (shm, names, config) = (context.shm.clone(), &context.names, &context.config);
        let page = OwnPage::open(shm, &names.page(Role::Report), 3).map_err(Failure::system)?;
        page.begin(0, page::new_session(), std::process::id().into(), sys::wall_ns());
        page.set_address(&config.edge.report.to_string());
        let style = Style::of(config, may_be_coloured());
        let is_watched = style.channels.iter().any(Channel::is_watched);
        let watcher = is_watched.then(|| Watcher::after(page.alarmed()));
        let feed = Feed::start();
        let [pause_ns, alarm_pause_ns] = pauses(&config.report, feed.is_some());
        Ok(Printer {
            names: names.clone(),
            page,
            arrivals: Arrivals::open(context)?,
            header: style.header(),
            watcher,
            watched: 0,
            next_message: 0,
            runner: Runner::start(&config.report, context.names.instance())?,
            alarms: 0,
            changed: false,
            output: Output::new(),
            style,
            feed,
            pause_ns,
            alarm_pause_ns,
            next_line: 0,
            version: 0,
            printed_n: None,
            printed: 0,
            superseded: 0,
            coalesced: 0,
            remade: Remade::default(),
            woken: 0,
        })
    }

    fn look(&mut self, now: u64, waiting: &mut Waiting) -> Result<(), Failure> {
        self.remade.note(self.page.look());
        self.arrivals.look(&mut self.remade)?;
        let state = self.state();
        if waiting.is_news(state == State::WaitingForStat, now) {
            log::info!(id = Message::Waiting; "waiting for ipc-stat");
        }
        let [run, failed] = self.runner.as_ref().map_or([0; 2], Runner::counts);
        let remade = self.remade.count();
        self.page.set_counters(&[
            self.printed,
            self.superseded,
            remade,
            self.woken,
            self.alarms,
            run,
            failed,
            self.arrivals.refused(),
        ]);
        self.page.set_state(state);
        self.page.set_beat(now);
        Ok(())
    }

    fn report_status(&self, notifier: &mut Notifier, now: u64) {
        let newest = self.arrivals.read();
        let printed = self.printed_n.unwrap_or(0);
        let status = Status {
            state: self.state().name(),
            seq: printed,
            done: "printed",
            lag: newest.as_ref().map(|snapshot| snapshot.n.saturating_sub(printed)),
            behind: "counted and not yet printed",
            lost: &newest.map_or(Losses::default(), |snapshot| snapshot.losses).in_words(),
        };
        notifier.status(now, &status);
    }

    fn state(&self) -> State {
        if self.arrivals.is_there() { State::Running } else { State::WaitingForStat }
    }

    /// Is there a snapshot that we have not dealt with?
    fn has_news(&self) -> bool {
        self.arrivals.version() != self.version
    }

    /// Is there a snapshot that was not looked at for alarms?
    fn has_unwatched(&self) -> bool {
        self.watcher.is_some() && self.arrivals.version() != self.watched
    }

    /// Prints the newest snapshot, if it says something new.
    fn print(&mut self, now: u64) -> Result<(), Failure> {
        if !self.has_news() && self.output.is_idle() {
            return Ok(());
        }
        // A reader that pauses must not stop us: whatever is the newest snapshot then is printed when it goes on.
        let free = self.output.go_on().map_err(unwritten)?;
        let snapshot = if free { self.arrivals.read() } else { None };
        let Some(snapshot) = snapshot else {
            self.next_line = now + LOOK_NS;
            return Ok(());
        };
        if self.version != 0 {
            let passed_over = snapshot.version.saturating_sub(self.version + 1);
            self.superseded += passed_over;
            self.coalesced += passed_over;
        }
        self.version = snapshot.version;
        // A new life of stat publishes what the last one did; markers alone are no news, but alarms are.
        if self.printed_n == Some(snapshot.n) && !std::mem::take(&mut self.changed) {
            return Ok(());
        }
        self.changed = false;
        let n = snapshot.n;
        self.printed_n = Some(n);
        let coalesced = std::mem::take(&mut self.coalesced);
        let lines = self.say(&News { snapshot, coalesced, at_risk: at_risk(&self.names) })?;
        self.next_line = now + self.pause_ns * lines as u64;
        self.printed += 1;
        self.page.set_received(n);
        Ok(())
    }

    /// Prints it; how many lines that took.
    fn say(&mut self, news: &News) -> Result<usize, Failure> {
        if let Some(feed) = &self.feed {
            return Ok(feed.send(news, &self.style));
        }
        let lines = self.style.lines(news);
        let text: String = self.header.take().iter().chain(&lines).map(|line| format!("{line}\n")).collect();
        self.output.say(&text).map_err(unwritten)?;
        Ok(lines.len())
    }

    /// Says which alarms have begun or ended, as soon as a snapshot shows it, but no more messages than lines: in our log,
    /// where warnings are looked for, and to the command.
    fn watch(&mut self, now: u64) {
        let Some(watcher) = self.watcher.as_mut() else { return };
        let Some(snapshot) = self.arrivals.read() else {
            self.next_message = now + LOOK_NS;
            return;
        };
        self.watched = snapshot.version;
        let (events, alarmed) = (watcher.look(&snapshot, &self.style), watcher.alarmed());
        self.next_message = now + self.alarm_pause_ns * events.len() as u64;
        self.alarms += events.len() as u64;
        self.changed |= !events.is_empty();
        for event in events {
            tell(&event);
            if let Some(runner) = &self.runner {
                runner.tell(event);
            }
        }
        // A kill before this tells all of it again: better twice than not at all.
        self.page.set_alarmed(alarmed);
    }

    fn end(self) {
        if let Some(runner) = self.runner {
            runner.finish();
        }
        self.page.set_state(State::Ended);
    }

    /// Sleeps until a snapshot can be printed, or looked at for alarms, at most for `rest`.
    fn sleep(&mut self, now: u64, rest: Duration) {
        self.woken += 1;
        let mut until = now + rest.as_nanos() as u64;
        if self.has_unwatched() {
            until = until.min(self.next_message);
        }
        if self.has_news() {
            until = until.min(self.next_line);
        }
        let seen = self.watcher.as_ref().map_or(self.version, |_| self.watched);
        if self.arrivals.version() != seen {
            return sys::sleep_until(until); // one is there, but its pause is not over
        }
        self.arrivals.wait(seen, self.page.waiting(), now, until);
    }
}

impl Reloads for Printer {
    fn write(&self, to: &dyn Fn(&Page<Map>)) {
        to(&self.page);
    }

    fn take(&mut self, config: &Config) -> Result<(), String> {
        let report = &config.report;
        match &self.runner {
            Some(runner) => runner.change(report)?,
            None => self.runner = Runner::start(report, self.names.instance()).map_err(|e| e.to_string())?,
        }
        let Style { format, digits, .. } = Style::of(config, self.style.coloured);
        if format != self.style.format {
            self.style.format = format;
            self.header = self.style.header();
        }
        self.style.digits = digits;
        [self.pause_ns, self.alarm_pause_ns] = pauses(report, self.feed.is_some());
        // What was long may be short now.
        (self.next_line, self.next_message) = (0, 0);
        Ok(())
    }
}

/// ns for each line, and for each message about an alarm.
fn pauses(report: &ReportConfig, into_journal: bool) -> [u64; 2] {
    feed::rates(report.max_lines_per_second.into(), into_journal).map(|rate| 1_000_000_000 / rate)
}

/// Says in the log that an alarm has begun or is over.
fn tell(Event { channel, unit, alarm, value, seq, text }: &Event) {
    if alarm == "ok" {
        log::info!(id = Message::AlarmOver, channel, unit, alarm, value, seq; "{text}");
    } else {
        log::warn!(id = Message::AlarmBegins, channel, unit, alarm, value, seq; "{text}");
    }
}

/// How many entries are accepted and not yet durable; `None`: there is no spool.
fn at_risk(names: &Names) -> Option<u64> {
    let shm = Shm::of(names);
    let log = Copied::read(&shm, &names.page(Role::Log), page::WORDS);
    let durable = log.and_then(|copy| Page::new(copy, Role::Log.index())?.durable());
    // The spool is read last: what log has said by then is accepted.
    let spool =
        Copied::read(&shm, &names.spool(), HEADER_WORDS).and_then(|copy| Overview::of(copy.words()))?;
    Some(spool.at_risk(durable.unwrap_or(0)))
}

/// Colours are for terminals, and not for those who do not want them.
fn may_be_coloured() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && !unwanted
}

fn unwritten(e: io::Error) -> Failure {
    match e.kind() {
        ErrorKind::BrokenPipe => Failure::new(EXIT_UNREAD, "nobody reads standard output any more: ending"),
        _ => Failure::system(format!("cannot print to standard output: {e}")),
    }
}
