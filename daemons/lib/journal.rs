//! systemd's journal, by its native protocol: a message is one datagram of fields, and nobody ever waits for its reader.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::OnceLock;

use crate::messages::Message;
use crate::sink::{Counted, Mailbox};

/// Where journald takes messages.
pub const SOCKET: &str = "/run/systemd/journal/socket";
/// The longest value of a field, in bytes: a message must fit into one datagram.
const VALUE_MAX: usize = 32 * 1024;
/// Before the names of our own fields.
const PREFIX: &str = "IPC_PIPELINE_";

/// The instance of this process, for a field of every message.
static INSTANCE: OnceLock<String> = OnceLock::new();

/// To be called once, as soon as the instance is known.
pub fn set_instance(instance: &str) {
    // A second one finds the first one there: a process has one instance.
    let _ = INSTANCE.set(instance.to_owned());
}

/// The way to the journal.
pub struct Journal {
    mailbox: Counted<Mailbox>,
    program: &'static str,
}

impl Journal {
    /// The journal, if `stream` leads there: then systemd has named its device and inode in `$JOURNAL_STREAM`.
    pub fn behind(stream: impl AsFd, program: &'static str) -> Option<Journal> {
        Journal::is_behind(stream).then(|| Journal::at(Path::new(SOCKET), program).ok())?
    }

    /// Does `stream` lead to the journal?
    pub fn is_behind(stream: impl AsFd) -> bool {
        std::env::var("JOURNAL_STREAM").is_ok_and(|named| is_named(stream, &named))
    }

    /// The journal whose socket is at `path`; `program` is the SYSLOG_IDENTIFIER.
    ///
    /// # Errors
    /// Those of [`Mailbox::at`].
    pub fn at(path: &Path, program: &'static str) -> io::Result<Journal> {
        Ok(Journal { mailbox: Counted::new(Mailbox::at(path)?), program })
    }

    /// The beginning of a message: what every one has. `priority` is that of syslog, 0 to 7.
    pub fn message(&self, priority: u8, id: Option<Message>, text: &str) -> Fields {
        let mut fields = Fields(Vec::with_capacity(512));
        fields.put("MESSAGE", text);
        fields.put("PRIORITY", &priority.to_string());
        fields.put("SYSLOG_IDENTIFIER", self.program);
        if let Some(id) = id {
            fields.put("MESSAGE_ID", id.id());
        }
        if let Some(instance) = INSTANCE.get() {
            fields.own("INSTANCE", instance);
        }
        fields
    }

    /// Sends a message. One that finds no room, or nobody, is counted, and the next one says how many.
    pub fn send(&self, fields: &Fields) {
        let lost = |n: u64| {
            let text =
                format!("{n} messages of this process are not here: the journal did not take them in time");
            let mut fields = self.message(4, Some(Message::MessagesLost), &text);
            fields.own("LOST_MESSAGES", &n.to_string());
            fields.0
        };
        if self.mailbox.send(&fields.0, lost).is_err() {
            self.mailbox.miss();
        }
    }
}

/// Does `$JOURNAL_STREAM`, `device:inode` in decimal, name this stream?
fn is_named(stream: impl AsFd, named: &str) -> bool {
    rustix::fs::fstat(stream).is_ok_and(|stat| named == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// The fields of a message, as they are sent.
pub struct Fields(Vec<u8>);

impl Fields {
    /// Adds a field of our own: `IPC_PIPELINE_` and `name`, which is made of letters, digits and `_`.
    pub fn own(&mut self, name: &str, value: &str) {
        self.put(&format!("{PREFIX}{}", name.to_ascii_uppercase()), value);
    }

    fn put(&mut self, name: &str, value: &str) {
        let end = (0..=VALUE_MAX.min(value.len())).rev().find(|end| value.is_char_boundary(*end));
        let value = value.get(..end.unwrap_or(0)).unwrap_or_default();
        self.0.extend(name.bytes());
        if value.contains('\n') {
            // Only so can it have more than one line: its length in 8 bytes, then itself.
            self.0.push(b'\n');
            self.0.extend((value.len() as u64).to_le_bytes());
        } else {
            self.0.push(b'=');
        }
        self.0.extend(value.bytes());
        self.0.push(b'\n');
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::os::unix::net::UnixDatagram;
    use std::path::PathBuf;
    use std::time::Duration;

    /// A journald of our own.
    pub struct Reader {
        dir: tempfile::TempDir,
        socket: UnixDatagram,
    }

    impl Reader {
        pub fn new() -> Reader {
            let dir = tempfile::tempdir().unwrap();
            let socket = UnixDatagram::bind(dir.path().join("socket")).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            Reader { dir, socket }
        }

        pub fn path(&self) -> PathBuf {
            self.dir.path().join("socket")
        }

        pub fn datagram(&self) -> Vec<u8> {
            let mut datagram = vec![0; 1 << 20];
            let n = self.socket.recv(&mut datagram).unwrap();
            datagram.truncate(n);
            datagram
        }

        /// The fields of the next message, read as journald reads them.
        pub fn fields(&self) -> BTreeMap<String, String> {
            parse(&self.datagram())
        }
    }

    fn parse(mut rest: &[u8]) -> BTreeMap<String, String> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let mut fields = BTreeMap::new();
        while !rest.is_empty() {
            let end = rest.iter().position(|b| *b == b'\n').unwrap();
            let (line, behind) = (&rest[..end], &rest[end + 1..]);
            let (name, value) = match line.iter().position(|b| *b == b'=') {
                Some(at) => {
                    rest = behind;
                    (text(&line[..at]), text(&line[at + 1..]))
                }
                None => {
                    let length = u64::from_le_bytes(behind[..8].try_into().unwrap()) as usize;
                    assert_eq!(behind[8 + length], b'\n');
                    rest = &behind[8 + length + 1..];
                    (text(line), text(&behind[8..8 + length]))
                }
            };
            assert!(fields.insert(name, value).is_none(), "a field twice");
        }
        fields
    }

    fn said(journal: &Journal, text: &str) {
        journal.send(&journal.message(6, None, text));
    }

    #[test]
    fn every_field_arrives_as_it_is() {
        let reader = Reader::new();
        let journal = Journal::at(&reader.path(), "ipc-log").unwrap();
        for text in ["", "plain", "a=b", "two\nlines\n", "PRIORITY=0\nMESSAGE=forged", "°C \u{fffd}"] {
            let mut fields = journal.message(4, Some(Message::DiskFull), text);
            fields.own("seq", "18446744073709551615");
            fields.own("CHANNEL", text);
            journal.send(&fields);
            let got = reader.fields();
            assert_eq!((got["MESSAGE"].as_str(), got["IPC_PIPELINE_CHANNEL"].as_str()), (text, text));
            assert_eq!((got["PRIORITY"].as_str(), got["SYSLOG_IDENTIFIER"].as_str()), ("4", "ipc-log"));
            assert_eq!(got["IPC_PIPELINE_SEQ"], "18446744073709551615");
            assert_eq!(got["MESSAGE_ID"], Message::DiskFull.id());
        }
    }

    #[test]
    fn what_is_too_long_for_a_datagram_is_cut() {
        let reader = Reader::new();
        let journal = Journal::at(&reader.path(), "ipc-log").unwrap();
        said(&journal, &"ä".repeat(1 << 20));
        assert_eq!(reader.fields()["MESSAGE"].len(), VALUE_MAX);
    }

    #[test]
    fn a_journal_that_does_not_read_holds_nobody_up_and_is_told_what_it_missed() {
        let reader = Reader::new();
        let journal = Journal::at(&reader.path(), "ipc-log").unwrap();
        let sent = 100_000;
        let (back, came_back) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            (0..sent).for_each(|i| said(&journal, &i.to_string()));
            back.send(journal).unwrap();
        });
        let journal = came_back.recv_timeout(Duration::from_secs(60)).expect("it waits for its reader");
        let lost = journal.mailbox.lost();
        assert!(lost > 0 && lost < sent);
        // It reads again: all that found room is there, then the number of the others, then what is new.
        for i in 0..sent - lost {
            assert_eq!(reader.fields()["MESSAGE"], i.to_string());
        }
        said(&journal, "new");
        let got = reader.fields();
        assert_eq!(got["IPC_PIPELINE_LOST_MESSAGES"], lost.to_string());
        assert_eq!(got["MESSAGE_ID"], Message::MessagesLost.id());
        assert_eq!(reader.fields()["MESSAGE"], "new");
        said(&journal, "newer");
        assert_eq!(reader.fields()["MESSAGE"], "newer", "said once");
    }

    #[test]
    fn a_journal_that_was_restarted_is_found_again() {
        let reader = Reader::new();
        let journal = Journal::at(&reader.path(), "ipc-log").unwrap();
        std::fs::remove_file(reader.path()).unwrap();
        said(&journal, "nobody is there");
        let socket = UnixDatagram::bind(reader.path()).unwrap();
        let reader = Reader { socket, ..reader };
        said(&journal, "b");
        assert_eq!(reader.fields()["IPC_PIPELINE_LOST_MESSAGES"], "1");
        assert_eq!(reader.fields()["MESSAGE"], "b");
    }

    #[test]
    fn only_the_stream_that_is_named_is_the_journal() {
        let (a, b) = UnixDatagram::pair().unwrap();
        let name = |socket: &UnixDatagram| {
            let stat = rustix::fs::fstat(socket).unwrap();
            format!("{}:{}", stat.st_dev, stat.st_ino)
        };
        assert!(is_named(&a, &name(&a)) && !is_named(&a, &name(&b)));
        for wrong in ["", ":", "8:1", &format!("{} ", name(&a)), &format!("0{}", name(&a))] {
            assert!(!is_named(&a, wrong), "{wrong:?}");
        }
    }

    #[test]
    fn without_a_socket_there_is_no_journal() {
        assert!(Journal::at(Path::new("/nowhere/socket"), "ipc-log").is_err());
    }
}
