//! Where log lines go, in the form of their reader: to the journal with fields if standard error leads there; to syslog if
//! that is asked for; else to standard error.
//!
//! No message ever waits for its reader, on none of these ways: what finds no room is counted, and that is said before the
//! next one that does. On a terminal levels have colours; else they are words. The data path never logs: lines are for
//! events, at most a few a second. A line's keys become fields of the journal, its `id` (a [`Message`]) its MESSAGE_ID.
#![forbid(unsafe_code)]

use std::io::{IsTerminal, Stderr};
use std::path::Path;

use log::kv::{Key, Value, VisitSource};
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::journal::{Fields, Journal};
use crate::messages::Message;
use crate::sink::{Counted, Lines, Stream};
use crate::syslog::{self, Syslog};

/// Target of lines that only the log of a service keeps, `log::info!(target: SERVICE, ...)`: who runs a pipeline by hand
/// sees what they tell in report's lines, or has just done it.
pub const SERVICE: &str = "service";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// `<N>`, the priority, before each line: for a journal whose own socket cannot be reached.
    Prefixed,
    Terminal,
    Plain,
}

enum Way {
    Journal(Journal),
    Syslog(Syslog),
    Stderr,
}

struct Sink {
    program: &'static str,
    way: Way,
    /// Standard error, and how lines look there.
    stderr: Counted<Lines<Stderr>>,
    style: Style,
}

/// What a line carries in its keys.
#[derive(Default)]
struct Keys {
    id: Option<Message>,
    /// All others, with their values.
    others: Vec<(String, String)>,
}

impl Keys {
    fn of(record: &Record) -> Keys {
        let mut keys = Keys::default();
        // Our own visitor finds no fault with any key.
        let _ = record.key_values().visit(&mut keys);
        keys
    }
}

impl<'kvs> VisitSource<'kvs> for Keys {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
        let text = value.to_string();
        match key.as_str() {
            "id" => self.id = Message::of(&text),
            key => self.others.push((key.to_owned(), text)),
        }
        Ok(())
    }
}

/// A line must stay one line, whatever is in the text.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

impl Sink {
    fn say(&self, record: &Record) {
        let (text, keys) = (one_line(&record.args().to_string()), Keys::of(record));
        let priority = priority(record.level(), keys.id);
        let said = match &self.way {
            Way::Journal(journal) => {
                journal.send(&fields(journal, priority, &text, &keys));
                return;
            }
            Way::Syslog(syslog) => syslog.send(priority, &text).is_ok(),
            Way::Stderr => false,
        };
        if !said {
            let line = |level, priority, text: &str| self.line(level, priority, text).into_bytes();
            let lost = |n| {
                let text = format!("{n} messages of this process are not here: nobody read them in time");
                line(Level::Warn, 4, &text)
            };
            // Nobody is left to tell if it fails.
            let _ = self.stderr.send(&line(record.level(), priority, &text), lost);
        }
    }

    fn line(&self, level: Level, priority: u8, text: &str) -> String {
        let program = self.program;
        match self.style {
            Style::Prefixed => format!("<{priority}>{text}\n"),
            Style::Terminal => match colour(level) {
                "" => format!("{program}: {text}\n"),
                colour => format!("{program}: {colour}{}\x1b[0m: {text}\n", word(level)),
            },
            Style::Plain => match level {
                Level::Info => format!("{program}: {text}\n"),
                _ => format!("{program}: {}: {text}\n", word(level)),
            },
        }
    }
}

fn fields(journal: &Journal, priority: u8, text: &str, keys: &Keys) -> Fields {
    let mut fields = journal.message(priority, keys.id, text);
    keys.others.iter().for_each(|(name, value)| fields.own(name, value));
    fields
}

/// As syslog(3) numbers them. Error: somebody must do something; warning: have a look; notice: a trouble is over; info:
/// normal life.
fn priority(level: Level, id: Option<Message>) -> u8 {
    match level {
        Level::Warn | Level::Info if id.is_some_and(Message::is_notice) => 5,
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

fn colour(level: Level) -> &'static str {
    match level {
        Level::Error => "\x1b[1;31m",
        Level::Warn => "\x1b[1;33m",
        Level::Info => "",
        Level::Debug | Level::Trace => "\x1b[2m",
    }
}

impl Log for Sink {
    fn enabled(&self, _: &Metadata) -> bool {
        true // the level was set once, in `start`
    }

    fn log(&self, record: &Record) {
        let by_hand = matches!(self.way, Way::Stderr) && self.style != Style::Prefixed;
        if record.target() != SERVICE || !by_hand {
            self.say(record);
        }
    }

    fn flush(&self) {}
}

/// Starts logging for `program`, from `level` up; `to_syslog` where there is no journal, if there is a syslog daemon.
pub fn start(program: &'static str, level: LevelFilter, to_syslog: bool) {
    let stderr = std::io::stderr();
    let journal = Journal::behind(&stderr, program);
    let syslog = || to_syslog.then(|| Syslog::at(Path::new(syslog::SOCKET), program).ok()).flatten();
    let way = journal.map(Way::Journal).or_else(|| syslog().map(Way::Syslog)).unwrap_or(Way::Stderr);
    let style = if Journal::is_behind(&stderr) {
        Style::Prefixed
    } else if stderr.is_terminal() {
        Style::Terminal
    } else {
        Style::Plain
    };
    log::set_max_level(level);
    // Fails only when called twice; then the first one stays.
    let stderr = Counted::new(Lines::on(Stream::of(stderr)));
    if matches!(way, Way::Journal(_)) {
        // journald asks which service a sender belongs to when it reads: too late, if that has ended at once. Of who writes to
        // standard error it has been told before, and keeps it; an empty line is enough, and is not shown.
        let _ = stderr.send(b"\n", |_| Vec::new());
    }
    let _ = log::set_boxed_logger(Box::new(Sink { program, way, stderr, style }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::tests::Reader;

    fn sink(way: Way, style: Style) -> Sink {
        let stderr = Counted::new(Lines::on(Stream::of(std::io::stderr())));
        Sink { program: "ipc-log", way, stderr, style }
    }

    #[test]
    fn lines_are_as_their_reader_wants_them() {
        let line = |style, level| {
            let sink = sink(Way::Stderr, style);
            sink.line(level, priority(level, None), &one_line("disk\nfull"))
        };
        assert_eq!(line(Style::Prefixed, Level::Error), "<3>disk\u{fffd}full\n");
        assert_eq!(line(Style::Prefixed, Level::Info), "<6>disk\u{fffd}full\n");
        assert_eq!(line(Style::Plain, Level::Info), "ipc-log: disk\u{fffd}full\n");
        assert_eq!(line(Style::Plain, Level::Warn), "ipc-log: warning: disk\u{fffd}full\n");
        assert_eq!(
            line(Style::Terminal, Level::Warn),
            "ipc-log: \x1b[1;33mwarning\x1b[0m: disk\u{fffd}full\n"
        );
    }

    /// A line as the macros of the facade make it.
    fn log(sink: &Sink, target: &str, level: Level, id: Message, text: std::fmt::Arguments) {
        let pairs: [(&str, Value); 2] = [("id", Value::from(id.id())), ("entries", Value::from(7u64))];
        sink.log(&Record::builder().target(target).level(level).key_values(&pairs).args(text).build());
    }

    #[test]
    fn the_journal_gets_id_priority_and_every_key() {
        let reader = Reader::new();
        let way = Way::Journal(Journal::at(&reader.path(), "ipc-log").unwrap());
        let sink = sink(way, Style::Prefixed);
        for (level, id, priority) in [
            (Level::Error, Message::DiskFull, "3"),
            (Level::Warn, Message::Recovered, "4"),
            (Level::Warn, Message::DiskBack, "5"),
            (Level::Info, Message::AlarmOver, "5"),
            (Level::Info, Message::RecordOpened, "6"),
            (Level::Debug, Message::BadInput, "7"),
        ] {
            for target in ["any", SERVICE] {
                log(&sink, target, level, id, format_args!("a\nb"));
                let got = reader.fields();
                assert_eq!((got["MESSAGE"].as_str(), got["PRIORITY"].as_str()), ("a\u{fffd}b", priority));
                assert_eq!(
                    (got["MESSAGE_ID"].as_str(), got["IPC_PIPELINE_ENTRIES"].as_str()),
                    (id.id(), "7")
                );
            }
        }
    }

    #[test]
    fn syslog_gets_the_priority_and_one_line() {
        let reader = Reader::new();
        let way = Way::Syslog(Syslog::at(&reader.path(), "ipc-log").unwrap());
        let sink = sink(way, Style::Plain);
        log(&sink, SERVICE, Level::Warn, Message::DiskBack, format_args!("a\nb"));
        let line = format!("<29>ipc-log[{}]: a\u{fffd}b", std::process::id());
        assert_eq!(String::from_utf8(reader.datagram()).unwrap(), line);
    }
}
