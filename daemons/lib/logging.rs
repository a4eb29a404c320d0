//! Where log lines go: standard error, in the form its reader understands.
//!
//! Under systemd each line begins with `<N>`, its priority; on a terminal levels have colours; else they are words.
//! The data path never logs: lines are for events, at most a few a second.
#![forbid(unsafe_code)]

use std::io::{IsTerminal, Write};

use log::{Level, LevelFilter, Log, Metadata, Record};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Journal,
    Terminal,
    Plain,
}

struct Sink {
    program: &'static str,
    style: Style,
}

impl Sink {
    fn line(&self, level: Level, text: &str) -> String {
        // A line must stay one line, whatever is in the text.
        let text: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        let program = self.program;
        match self.style {
            Style::Journal => format!("<{}>{text}\n", priority(level)),
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

fn priority(level: Level) -> u8 {
    match level {
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
        // One write for one line, so that the lines of several daemons do not mix; nobody to tell if it fails.
        let _ = std::io::stderr().write_all(self.line(record.level(), &record.args().to_string()).as_bytes());
    }

    fn flush(&self) {}
}

/// Starts logging for `program`, from `level` up.
pub fn start(program: &'static str, level: LevelFilter) {
    let style = if std::env::var_os("JOURNAL_STREAM").is_some() {
        Style::Journal
    } else if std::io::stderr().is_terminal() {
        Style::Terminal
    } else {
        Style::Plain
    };
    log::set_max_level(level);
    // Fails only when called twice; then the first one stays.
    let _ = log::set_boxed_logger(Box::new(Sink { program, style }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_their_reader_wants_them() {
        let line = |style, level| Sink { program: "ipc-log", style }.line(level, "disk\nfull");
        assert_eq!(line(Style::Journal, Level::Error), "<3>disk\u{fffd}full\n");
        assert_eq!(line(Style::Journal, Level::Info), "<6>disk\u{fffd}full\n");
        assert_eq!(line(Style::Plain, Level::Info), "ipc-log: disk\u{fffd}full\n");
        assert_eq!(line(Style::Plain, Level::Warn), "ipc-log: warning: disk\u{fffd}full\n");
        assert_eq!(
            line(Style::Terminal, Level::Warn),
            "ipc-log: \x1b[1;33mwarning\x1b[0m: disk\u{fffd}full\n"
        );
    }
}
