//! `log.text`: a plain text file with every durable sample, one a line, for people and their tools.
//!
//! It is made from the record by a thread of its own, which reads like any reader: it never delays a commit, and it is
//! never the truth. Its first line says which record it shows, its last whole line how far it has come: so after a kill
//! anywhere it goes on with exactly the next sample. A file that was moved away or removed is begun anew, going on there.
#![forbid(unsafe_code)]

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use ipc_pipeline::daemon::Said;
use ipc_pipeline::entry::{Entry, LEN};
use ipc_pipeline::messages::Message;
use ipc_pipeline::reader::{MAX_READ, ReadError, RecordReader};
use ipc_pipeline::text::{Form, Lines, seq_of};
use ipc_pipeline::timeline::wall_before;
use ipc_pipeline::wall::WallClock;
use rustix::fs::FlockOperation;

use crate::writer::Shared;

/// How often it is looked whether more is durable.
const LOOK: Duration = Duration::from_millis(100);
/// How long to wait before what was refused is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// The last whole line is looked for in so many bytes, at first and at most. Only a power cut leaves something behind it
/// that is longer than a line.
const BLOCK: (u64, u64) = (64 << 10, 64 << 20);
/// The first line is shorter than this.
const HEADING_MAX: u64 = 256;

/// Why the file is not written now.
#[derive(Debug, thiserror::Error)]
enum TextError {
    #[error("cannot {doing} {}: {source}", path.display())]
    System { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("{} {what}: move it away, or give log.text another name", path.display())]
    Foreign { path: PathBuf, what: String },
    #[error(transparent)]
    Record(#[from] ReadError),
}

/// What the thread knows.
pub struct TextFile {
    path: PathBuf,
    record: PathBuf,
    shared: Arc<Shared>,
}

/// The file, opened at its end, and the place in the record that belongs to it.
struct Open {
    file: File,
    reader: RecordReader,
    lines: Lines,
    wall: WallClock,
    next: u64,
    chunk: Vec<u8>,
    text: Vec<u8>,
}

impl TextFile {
    /// Starts the thread; it ends once the disk thread has ended and all is written.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(path: PathBuf, record: PathBuf, shared: Arc<Shared>) -> io::Result<JoinHandle<()>> {
        let text = TextFile { path, record, shared };
        std::thread::Builder::new().name("text".into()).spawn(move || text.run())
    }

    fn run(&self) {
        let mut said = Said::default();
        let mut written = 0;
        while let Err(e) = self.keep(&mut written) {
            if said.is_new(&e.to_string()) {
                log::error!(id = Message::TextTrouble; "{e}. Until then log.text is not written; the record is");
            }
            if self.shared.ended.load(Ordering::Acquire) {
                return;
            }
            sleep(RETRY);
        }
    }

    /// Keeps the file until the end. `written` is the last entry dealt with in this life.
    fn keep(&self, written: &mut u64) -> Result<(), TextError> {
        let mut open = self.open(*written)?;
        loop {
            let ended = self.shared.ended.load(Ordering::Acquire);
            let durable = self.shared.durable.load(Ordering::Acquire);
            while open.next <= durable {
                if !self.write_some(&mut open, durable)? {
                    break; // durable, but not to be read just now
                }
                *written = open.next - 1;
            }
            if ended {
                return Ok(());
            }
            sleep(LOOK);
            if !self.is_current(&open.file) {
                open = self.open(*written)?;
            }
        }
    }

    fn error(&self, doing: &'static str) -> impl Fn(io::Error) -> TextError + '_ {
        move |source| TextError::System { doing, path: self.path.clone(), source }
    }

    fn foreign(&self, what: impl Into<String>) -> TextError {
        TextError::Foreign { path: self.path.clone(), what: what.into() }
    }

    /// Opens the file and finds out how far it has come; an empty one begins behind entry `after`.
    fn open(&self, after: u64) -> Result<Open, TextError> {
        let mut reader = RecordReader::open(&self.record)?;
        // A FIFO would be waited for.
        if self.path.metadata().is_ok_and(|found| !found.is_file()) {
            return Err(self.foreign("is no file"));
        }
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).mode(0o640).open(&self.path);
        let mut file = file.map_err(self.error("open"))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(e) if e == rustix::io::Errno::WOULDBLOCK => {
                return Err(self.foreign("is being written by another process"));
            }
            locked => locked.map_err(|e| self.error("lock")(e.into()))?,
        }
        let (end, last) = self.last_line(&file, reader.log_id())?.unwrap_or((0, after));
        file.set_len(end).map_err(self.error("cut off a torn line of"))?;
        if end == 0 {
            file.write_all(heading(reader.log_id(), after).as_bytes()).map_err(self.error("write"))?;
        }
        let next = last.max(after).saturating_add(1);
        let wall = wall_before(&mut reader, next)?;
        let lines = Lines::new(Form::People, false, reader.channels());
        Ok(Open { file, reader, lines, wall, next, chunk: Vec::new(), text: Vec::new() })
    }

    /// Where the last whole line ends, and up to which entry the file has come; `None` for a file without one.
    fn last_line(&self, file: &File, log_id: u64) -> Result<Option<(u64, u64)>, TextError> {
        let len = file.metadata().map_err(self.error("measure"))?.len();
        let begin = read_at(file, 0, len.min(HEADING_MAX)).map_err(self.error("read"))?;
        let Some(end) = begin.iter().position(|b| *b == b'\n') else {
            // What a kill left of a first line, or nothing.
            let torn = heading(log_id, 0).as_bytes().starts_with(begin.get(..10).unwrap_or(&begin));
            return if torn { Ok(None) } else { Err(self.foreign("is no file of log.text")) };
        };
        let first = String::from_utf8_lossy(begin.get(..end).unwrap_or_default());
        let (found, after) = read_heading(&first).ok_or_else(|| self.foreign("is no file of log.text"))?;
        if found != log_id {
            return Err(self.foreign(format!("shows record {found:016x}, this one is {log_id:016x}")));
        }
        let end = end as u64 + 1;
        let mut block = BLOCK.0;
        while block <= BLOCK.1 {
            let from = len.saturating_sub(block).max(end);
            let bytes = read_at(file, from, len - from).map_err(self.error("read"))?;
            if let Some((at, seq)) = last_whole_line(&bytes) {
                return Ok(Some((from + at, seq)));
            }
            if from == end {
                return Ok(Some((end, after)));
            }
            block *= 2;
        }
        Err(self.foreign("has no whole line near its end"))
    }

    /// Writes the lines of the next chunk; false: it cannot be read now.
    fn write_some(&self, open: &mut Open, durable: u64) -> Result<bool, TextError> {
        let Open { file, reader, lines, wall, next, chunk, text } = open;
        let most = usize::try_from(durable - *next).unwrap_or(MAX_READ).saturating_add(1);
        text.clear();
        match reader.read(*next, most, chunk) {
            Err(ReadError::Missing { .. }) => {
                let after = reader.segments().iter().map(|s| s.first).find(|first| first > next);
                let Some(first) = after else { return Ok(false) };
                text.extend_from_slice(format!("# entries {next} to {} are gone\n", first - 1).as_bytes());
                *next = first;
                *wall = wall_before(reader, first)?;
            }
            read => *next += read? as u64,
        }
        let (entries, _) = chunk.as_chunks::<LEN>();
        for entry in entries.iter().map(Entry::from_bytes) {
            let Some(kind) = entry.kind().filter(|_| entry.is_whole()) else { continue };
            wall.take(&entry, kind);
            if entry.is_sample() {
                lines.put(text, &entry, wall.at(entry.t_ns));
            }
        }
        file.write_all(text).map_err(self.error("write"))?;
        Ok(!chunk.is_empty() || !text.is_empty())
    }

    /// Does the name still lead to the file that is written, and is that not emptied?
    fn is_current(&self, file: &File) -> bool {
        let same = |a: Metadata, b: Metadata| a.dev() == b.dev() && a.ino() == b.ino() && a.len() > 0;
        file.metadata().ok().zip(self.path.metadata().ok()).is_some_and(|(a, b)| same(a, b))
    }
}

/// Waits for the thread's end, `bound` at most; what is missing then is written by the next life.
pub fn finish(thread: &JoinHandle<()>, bound: Duration, mut meanwhile: impl FnMut()) {
    let pause = Duration::from_millis(1);
    let mut waited = Duration::ZERO;
    while !thread.is_finished() && waited < bound {
        meanwhile();
        sleep(pause);
        waited += pause;
    }
}

fn heading(log_id: u64, after: u64) -> String {
    format!("# record {log_id:016x}, samples after entry {after}: time channel value unit #seq\n")
}

/// Which record, and after which entry.
fn read_heading(line: &str) -> Option<(u64, u64)> {
    let (log_id, rest) = line.strip_prefix("# record ")?.split_once(", samples after entry ")?;
    Some((u64::from_str_radix(log_id, 16).ok()?, rest.split_once(':')?.0.parse().ok()?))
}

/// Where the last line that is whole ends, and its seq. What stands before the first end of line may be half a line.
fn last_whole_line(bytes: &[u8]) -> Option<(u64, u64)> {
    let mut end = bytes.len();
    while let Some(newline) = bytes.get(..end)?.iter().rposition(|b| *b == b'\n') {
        let begin = bytes.get(..newline)?.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let line = std::str::from_utf8(bytes.get(begin..newline)?).ok();
        if let Some(seq) = line.filter(|line| !line.starts_with('#')).and_then(seq_of) {
            return Some((newline as u64 + 1, seq));
        }
        end = newline;
    }
    None
}

fn read_at(file: &File, from: u64, len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    file.read_exact_at(&mut bytes, from)?;
    Ok(bytes)
}

/// The path in the configuration, if it is wanted.
pub fn start(
    path: Option<&Path>,
    record: PathBuf,
    shared: &Arc<Shared>,
) -> io::Result<Option<JoinHandle<()>>> {
    path.map(|path| TextFile::start(path.to_owned(), record, shared.clone())).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heading_says_where_to_go_on() {
        assert_eq!(read_heading(heading(0xabc, 7).trim_end()), Some((0xabc, 7)));
        assert!((heading(u64::MAX, u64::MAX).len() as u64) < HEADING_MAX);
        for wrong in ["", "# record xyz, samples after entry 1:", "2026 a 1 #5"] {
            assert_eq!(read_heading(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_last_whole_line_is_found_behind_anything() {
        let whole = b"2026 a  1  #7\n2026 a  2  #8\n";
        for cut in 0..=whole.len() {
            let found = last_whole_line(&whole[..cut]);
            let wanted = match cut {
                28 => Some((28, 8)),
                14.. => Some((14, 7)),
                _ => None,
            };
            assert_eq!(found, wanted, "{cut}");
        }
        let torn = [whole.as_slice(), b"# entries 9 to 12 are gone\n", &[0; 5000], b"\n\xff\n20"].concat();
        assert_eq!(last_whole_line(&torn), Some((28, 8)));
    }
}
