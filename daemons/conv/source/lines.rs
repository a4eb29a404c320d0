//! Lines of text, one number each: a file, a FIFO, or standard input.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use ipc_pipeline::decimal;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};

use super::{Source, SourceError, Supply};

/// A longer line is no number.
const LINE_LEN_MAX: usize = 4096;
/// Bytes read at once.
const CHUNK: usize = 64 * 1024;

enum Input {
    /// A file can be read again from its start: line i is sample i for ever.
    File(File),
    /// A FIFO never ends: writers come and go.
    Fifo(File),
    /// Standard input ends when its writer closes it.
    Stdin(io::Stdin),
}

/// One number a line.
pub struct Lines {
    path: PathBuf,
    /// Digits after the point, by column.
    decimals: Vec<u8>,
    input: Input,
    /// Bytes read; those before `start` are used up.
    buffer: Vec<u8>,
    start: usize,
    /// Up to here there is no line end in the buffer.
    searched: usize,
    ended: bool,
    /// A line that was too long is being skipped.
    skipping: bool,
    /// Lines used up, from 0.
    line: u64,
}

impl Lines {
    /// Opens `path` (`-` is standard input); the digits after the point are kept exactly.
    pub fn open(path: &Path, decimals: &[u8]) -> Result<Lines, SourceError> {
        let unusable = |why| SourceError::Unusable { path: path.display().to_string(), why };
        let input = open(path).map_err(unusable)?;
        let buffer = Vec::with_capacity(2 * CHUNK);
        let (start, searched, ended, skipping, line) = (0, 0, false, false, 0);
        Ok(Lines {
            path: path.into(),
            decimals: decimals.into(),
            input,
            buffer,
            start,
            searched,
            ended,
            skipping,
            line,
        })
    }

    fn read_error(&self, why: io::Error) -> SourceError {
        SourceError::Read { path: self.path.display().to_string(), why }
    }

    /// Reads one chunk more, if there is anything to be had without waiting. False: nothing now.
    fn more(&mut self) -> Result<bool, SourceError> {
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        let n = read_now(&mut self.input, &mut self.buffer).map_err(|e| self.read_error(e))?;
        if n == Some(0) {
            self.ended = !matches!(self.input, Input::Fifo(_));
        }
        Ok(n.is_some_and(|n| n > 0))
    }

    /// The next line as a range of the buffer, without its end; `None`: no whole line now.
    fn next_line(&mut self) -> Result<Option<std::ops::Range<usize>>, SourceError> {
        loop {
            if let Some(at) = self.buffer[self.searched..].iter().position(|b| *b == b'\n') {
                let line = self.start..self.searched + at;
                (self.start, self.searched) = (line.end + 1, line.end + 1);
                // The length of a line that is too long is its fault: an empty line before its end stands for it.
                let long = std::mem::take(&mut self.skipping) || line.len() > LINE_LEN_MAX;
                return Ok(Some(if long { line.end..line.end } else { line }));
            }
            self.searched = self.buffer.len();
            if self.searched - self.start > LINE_LEN_MAX {
                self.skipping = true;
                self.start = self.searched;
            }
            if self.ended || !self.more()? {
                // The last line of a file may lack its end.
                let rest = self.start..self.buffer.len();
                if !self.ended || rest.is_empty() && !self.skipping {
                    return Ok(None);
                }
                if self.skipping {
                    self.buffer.push(b'\n');
                    continue; // now it has one, and is too long like any other
                }
                self.start = rest.end;
                return Ok(Some(rest));
            }
        }
    }

    fn bad(&self, line: &std::ops::Range<usize>, why: &str) -> Supply {
        let text = String::from_utf8_lossy(&self.buffer[line.clone()]);
        let short: String = text.chars().take(60).collect();
        Supply::Bad(format!("{}:{}: {short:?} is no sample: {why}", self.path.display(), self.line + 1))
    }
}

impl Source for Lines {
    fn seek(&mut self, index: u64) -> Result<(), SourceError> {
        let Input::File(_) = self.input else {
            self.line = index; // what a pipe gives next is the next line
            return Ok(());
        };
        while self.line < index {
            if self.next_line()?.is_none() {
                let path = self.path.display().to_string();
                return Err(SourceError::Shrunk { path, found: self.line, wanted: index });
            }
            self.line += 1;
        }
        Ok(())
    }

    fn fill(&mut self, out: &mut [i32]) -> Result<Supply, SourceError> {
        let wanted = out.len();
        for (n, slot) in out.iter_mut().enumerate() {
            let Some(line) = self.next_line()? else {
                return Ok(match (n, self.ended) {
                    (0, true) => Supply::End,
                    (0, false) => Supply::Nothing,
                    _ => Supply::Rows(n),
                });
            };
            let text = std::str::from_utf8(&self.buffer[line.clone()]).unwrap_or("");
            match decimal::parse(text.trim(), self.decimals.first().copied().unwrap_or(0)) {
                Ok(value) => *slot = value,
                // What stands before a bad line goes first: the line is met again at the next call.
                Err(_) if n > 0 => {
                    (self.start, self.searched) = (line.start, line.start);
                    return Ok(Supply::Rows(n));
                }
                Err(e) => {
                    let bad = self.bad(&line, &e.to_string());
                    self.line += 1;
                    return Ok(bad);
                }
            }
            self.line += 1;
        }
        Ok(Supply::Rows(wanted))
    }
}

fn open(path: &Path) -> io::Result<Input> {
    if path == Path::new("-") {
        return Ok(Input::Stdin(io::stdin()));
    }
    let kind = std::fs::metadata(path)?.file_type();
    let flags = OFlags::CLOEXEC | OFlags::NONBLOCK;
    if kind.is_fifo() {
        // Read and write: there is then always a writer, so that the end of one is not the end of all.
        let fd = rustix::fs::open(path, flags | OFlags::RDWR, Mode::empty())?;
        return Ok(Input::Fifo(fd.into()));
    }
    if !kind.is_file() {
        return Err(io::Error::other("it is neither a file nor a FIFO"));
    }
    Ok(Input::File(rustix::fs::open(path, flags | OFlags::RDONLY, Mode::empty())?.into()))
}

/// Appends what can be read without waiting: `None` nothing now, `Some(0)` the end.
fn read_now(input: &mut Input, buffer: &mut Vec<u8>) -> io::Result<Option<usize>> {
    let ready = match input {
        Input::File(_) => true,
        Input::Fifo(file) => is_readable(file.as_fd())?,
        Input::Stdin(stdin) => is_readable(stdin.as_fd())?,
    };
    if !ready {
        return Ok(None);
    }
    let old = buffer.len();
    buffer.resize(old + CHUNK, 0);
    let result = match input {
        Input::File(file) | Input::Fifo(file) => file.read(&mut buffer[old..]),
        // not through std's buffer: poll cannot see what is in there
        Input::Stdin(stdin) => rustix::io::read(stdin.as_fd(), &mut buffer[old..]).map_err(io::Error::from),
    };
    buffer.truncate(old + result.as_ref().map_or(0, |n| *n));
    match result {
        Ok(n) => Ok(Some(n)),
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
        Err(e) => Err(e),
    }
}

fn is_readable(fd: BorrowedFd) -> io::Result<bool> {
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    match rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
        Ok(n) => Ok(n > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("in.txt");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    /// All that a source gives: values, and `None` for a bad line.
    fn all(source: &mut Lines, batch: usize) -> Vec<Option<i32>> {
        let mut given = Vec::new();
        let mut out = vec![0; batch];
        loop {
            match source.fill(&mut out).unwrap() {
                Supply::Rows(n) => given.extend(out[..n].iter().map(|v| Some(*v))),
                Supply::Bad(_) => given.push(None),
                Supply::Nothing | Supply::Unread(_) => panic!("a file always has its next line"),
                Supply::End => return given,
            }
        }
    }

    #[test]
    fn every_line_is_one_position() {
        let text = "1\n -2 \r\nx\n\n3\n9999999999\n4";
        let want = [Some(1), Some(-2), None, None, Some(3), None, Some(4)];
        let (_dir, path) = file(text);
        for batch in 1..9 {
            assert_eq!(all(&mut Lines::open(&path, &[0]).unwrap(), batch), want, "batch {batch}");
            for index in 0..=want.len() {
                let mut source = Lines::open(&path, &[0]).unwrap();
                source.seek(index as u64).unwrap();
                assert_eq!(all(&mut source, batch), want[index..], "from {index}");
            }
        }
        assert!(matches!(
            Lines::open(&path, &[0]).unwrap().seek(8),
            Err(SourceError::Shrunk { found: 7, wanted: 8, .. })
        ));
    }

    #[test]
    fn a_large_file_with_bad_lines_anywhere() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut want: Vec<Option<i32>> = Vec::new();
        let mut text = String::new();
        for _ in 0..60_000 {
            match rng.u32(..50) {
                0 => text.push_str("bad line\n"),
                1 => text.push_str(&format!("{}\n", "7".repeat(rng.usize(5000..9000)))),
                _ => {
                    want.push(Some(rng.i32(..)));
                    text.push_str(&format!("{}\n", want.last().unwrap().unwrap()));
                    continue;
                }
            }
            want.push(None);
        }
        let (_dir, path) = file(&text);
        for batch in [1, 7, 1024] {
            assert!(all(&mut Lines::open(&path, &[0]).unwrap(), batch) == want, "batch {batch}");
        }
    }

    #[test]
    fn a_bad_line_is_named() {
        let (_dir, path) = file("2.0018\n2.00185\n");
        let mut source = Lines::open(&path, &[4]).unwrap();
        let mut out = [0; 8];
        assert_eq!(source.fill(&mut out).unwrap(), Supply::Rows(1));
        assert_eq!(out[0], 20018);
        let Supply::Bad(text) = source.fill(&mut out).unwrap() else { panic!() };
        assert!(text.contains("in.txt:2: \"2.00185\" is no sample: "), "{text}");
    }

    #[test]
    fn a_fifo_outlives_its_writers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        let status = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(status.success());
        let mut source = Lines::open(&path, &[0]).unwrap();
        let mut out = [0; 8];
        assert_eq!(source.fill(&mut out).unwrap(), Supply::Nothing);
        for round in 0..3 {
            std::fs::File::options().write(true).open(&path).unwrap().write_all(b"5\n6\n").unwrap();
            assert_eq!(source.fill(&mut out).unwrap(), Supply::Rows(2), "round {round}");
            assert_eq!(source.fill(&mut out).unwrap(), Supply::Nothing);
        }
    }

    #[test]
    fn the_tail_of_a_line_that_is_too_long_is_no_sample() {
        let good = "1\n".repeat(30_000);
        let long = format!("{good}{}42", "x".repeat(CHUNK - good.len())); // "42" is in the next chunk
        for (text, after) in [(format!("{long}\n7\n"), vec![None, Some(7)]), (long, vec![None])] {
            let (_dir, path) = file(&text);
            for batch in [1, 7, 1024] {
                let given = all(&mut Lines::open(&path, &[0]).unwrap(), batch);
                assert_eq!(given[30_000..], after, "batch {batch}");
            }
        }
    }

    #[test]
    fn what_cannot_be_a_source_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let text = |p: &Path| Lines::open(p, &[0]).err().unwrap().to_string();
        assert!(text(dir.path()).contains("neither a file nor a FIFO"));
        assert!(text(&dir.path().join("none")).starts_with("cannot use source.path "));
    }
}
