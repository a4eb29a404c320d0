//! Faults of a configuration: where, which key, what was found and what is allowed. All are shown at once.
#![forbid(unsafe_code)]

use std::fmt;

/// Where a fault stands. Places sort as a reader meets them: the file from top to bottom, then `--set`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The whole file.
    #[default]
    Whole,
    /// A place in the file; both numbers count from 1, columns in characters.
    Line {
        /// Line.
        line: usize,
        /// Column.
        column: usize,
    },
    /// The n-th `--set` on the command line, with its text.
    Set {
        /// Its number, from 0.
        number: usize,
        /// What stands behind `--set`.
        text: String,
    },
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Where.
    pub place: Place,
    /// `section.key`; empty where no key is concerned.
    pub key: String,
    /// What was found; what is allowed.
    pub text: String,
}

/// All faults of one configuration, at least one, in the order of their places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    file: Option<String>,
    list: Vec<Fault>,
    momentary: bool,
}

impl Faults {
    /// Sorts `list`; `file` is the name that the user gave, if there was one.
    pub(super) fn new(file: Option<String>, mut list: Vec<Fault>) -> Faults {
        for fault in &mut list {
            fault.text = on_one_line(&fault.text);
            if let Place::Set { text, .. } = &mut fault.place {
                *text = on_one_line(text);
            }
        }
        list.sort();
        list.dedup();
        Faults { file, list, momentary: false }
    }

    /// The file could not be read; `momentary`: this may be otherwise the next time.
    pub(super) fn unread(file: Option<String>, fault: Fault, momentary: bool) -> Faults {
        Faults { momentary, ..Faults::new(file, vec![fault]) }
    }

    /// Is perhaps nothing wrong with the configuration, and only the system refused to read it for now?
    pub fn is_momentary(&self) -> bool {
        self.momentary
    }

    /// The single faults.
    pub fn list(&self) -> &[Fault] {
        &self.list
    }

    fn file(&self) -> &str {
        self.file.as_deref().unwrap_or("the command line")
    }

    fn write_one(&self, f: &mut fmt::Formatter<'_>, fault: &Fault) -> fmt::Result {
        match &fault.place {
            Place::Whole => write!(f, "{}: ", self.file())?,
            Place::Line { line, column } => write!(f, "{}:{line}:{column}: ", self.file())?,
            // The text of a --set already names its key.
            Place::Set { text, .. } => return writeln!(f, "--set {text}: {}", fault.text),
        }
        if !fault.key.is_empty() {
            write!(f, "{}: ", fault.key)?;
        }
        writeln!(f, "{}", fault.text)
    }
}

/// Found texts may hold anything; a fault is one line and does nothing to the terminal.
fn on_one_line(text: &str) -> String {
    text.replace(char::is_control, "?")
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.list {
            self.write_one(f, fault)?;
        }
        let count = self.list.len();
        write!(f, "{count} fault{} in {}", if count == 1 { "" } else { "s" }, self.file())
    }
}

impl std::error::Error for Faults {}
