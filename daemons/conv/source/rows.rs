//! Lines of text and the rows of numbers in them: for every source that is given text.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};

use ipc_pipeline::config::LineFormat;
use ipc_pipeline::decimal;
use ipc_pipeline::text::counted;
use rustix::event::{PollFd, PollFlags, Timespec};

use super::{SourceError, Supply};

/// A longer line is no row.
pub const LINE_LEN_MAX: usize = 4096;
/// So much of a line that is too long is kept.
const LONG_KEPT: usize = 64;
/// Bytes read at once.
pub const CHUNK: usize = 64 * 1024;

/// Where lines come from.
pub enum Input {
    /// A file can be read again from its start: row i is row i for ever.
    File(File),
    /// A FIFO never ends: writers come and go.
    Fifo(File),
    /// Standard input ends when its writer closes it.
    Stdin(io::Stdin),
    /// The output of a program, not blocking; what it leaves behind of a line when it ends is no line.
    Program(File),
}

/// Cuts what an input gives into lines, without ever waiting.
pub struct LineReader {
    input: Input,
    /// Bytes read; those before `start` are used up.
    buffer: Vec<u8>,
    start: usize,
    /// Up to here there is no line end in the buffer.
    searched: usize,
    /// The input has ended.
    pub ended: bool,
    /// A line that is too long is being skipped: how it begins.
    skipping: Option<Vec<u8>>,
    /// The same of the line that was given last.
    long: Option<Vec<u8>>,
}

impl LineReader {
    /// Lines from the present place of `input` on.
    pub fn new(input: Input) -> LineReader {
        let buffer = Vec::with_capacity(2 * CHUNK);
        LineReader { input, buffer, start: 0, searched: 0, ended: false, skipping: None, long: None }
    }

    /// What it reads from.
    pub fn input(&self) -> &Input {
        &self.input
    }

    /// Reads one chunk more, if there is anything to be had without waiting. False: nothing now.
    fn more(&mut self) -> io::Result<bool> {
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        let n = read_now(&mut self.input, &mut self.buffer)?;
        if n == Some(0) {
            self.ended = !matches!(self.input, Input::Fifo(_));
        }
        Ok(n.is_some_and(|n| n > 0))
    }

    /// The next line as a range of the buffer, without its end; `None`: no whole line now.
    pub fn next_line(&mut self) -> io::Result<Option<Range<usize>>> {
        loop {
            if let Some(at) = self.buffer[self.searched..].iter().position(|b| *b == b'\n') {
                let line = self.start..self.searched + at;
                (self.start, self.searched) = (line.end + 1, line.end + 1);
                self.long = self.skipping.take();
                if self.long.is_none() && line.len() > LINE_LEN_MAX {
                    self.long = Some(self.begin_of(&line));
                }
                // The length of a line that is too long is its fault: an empty line before its end stands for it.
                return Ok(Some(if self.is_long() { line.end..line.end } else { line }));
            }
            self.searched = self.buffer.len();
            if self.searched - self.start > LINE_LEN_MAX {
                if self.skipping.is_none() {
                    self.skipping = Some(self.begin_of(&(self.start..self.searched)));
                }
                self.start = self.searched;
            }
            if self.ended || !self.more()? {
                // The last line of a file may lack its end.
                let rest = self.start..self.buffer.len();
                let torn = matches!(self.input, Input::Program(_));
                if !self.ended || torn || rest.is_empty() && self.skipping.is_none() {
                    return Ok(None);
                }
                if self.skipping.is_some() {
                    self.buffer.push(b'\n');
                    continue; // now it has one, and is too long like any other
                }
                self.start = rest.end;
                self.long = None;
                return Ok(Some(rest));
            }
        }
    }

    /// The text of a line that [`LineReader::next_line`] gave last; empty if it is no UTF-8.
    pub fn text(&self, line: &Range<usize>) -> &str {
        std::str::from_utf8(self.bytes(line)).unwrap_or("")
    }

    /// The same line once more at the next call.
    pub fn put_back(&mut self, line: &Range<usize>) {
        (self.start, self.searched) = (line.start, line.start);
        self.skipping = self.long.take();
    }

    /// Was the line that was given last longer than [`LINE_LEN_MAX`]? Then it is given as an empty one.
    pub fn is_long(&self) -> bool {
        self.long.is_some()
    }

    fn begin_of(&self, line: &Range<usize>) -> Vec<u8> {
        self.bytes(line).iter().take(LONG_KEPT).copied().collect()
    }

    /// The first bytes of the line that was given last, at least [`LONG_KEPT`] of a longer one.
    fn begin(&self, line: &Range<usize>) -> &[u8] {
        self.long.as_deref().unwrap_or(self.bytes(line))
    }

    fn bytes(&self, line: &Range<usize>) -> &[u8] {
        self.buffer.get(line.clone()).unwrap_or_default()
    }
}

/// Appends what can be read without waiting: `None` nothing now, `Some(0)` the end.
fn read_now(input: &mut Input, buffer: &mut Vec<u8>) -> io::Result<Option<usize>> {
    let ready = match input {
        Input::File(_) | Input::Program(_) => true,
        Input::Fifo(file) => is_readable(file.as_fd())?,
        Input::Stdin(stdin) => is_readable(stdin.as_fd())?,
    };
    if !ready {
        return Ok(None);
    }
    let old = buffer.len();
    buffer.resize(old + CHUNK, 0);
    let fd = match &*input {
        Input::File(file) | Input::Fifo(file) | Input::Program(file) => file.as_fd(),
        // not through std's buffer: poll cannot see what is in there
        Input::Stdin(stdin) => stdin.as_fd(),
    };
    // Of a file "nothing now" would be taken for its end.
    let result = rustix::io::retry_on_intr(|| rustix::io::read(fd, &mut buffer[old..]));
    buffer.truncate(old + result.as_ref().map_or(0, |n| *n));
    match result {
        Ok(n) => Ok(Some(n)),
        Err(rustix::io::Errno::AGAIN) => Ok(None),
        Err(e) => Err(e.into()),
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

/// The columns of a text.
pub struct Fields<'a> {
    rest: Option<&'a str>,
    separator: Option<char>,
}

impl<'a> Fields<'a> {
    /// Columns with `separator` between them; `None`: a comma, a semicolon, or blanks, which lines ends are too.
    pub fn of(text: &'a str, separator: Option<char>) -> Fields<'a> {
        Fields { rest: Some(text.trim()), separator }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest?;
        let is_end = |c: char| match self.separator {
            Some(separator) => c == separator,
            None => matches!(c, ',' | ';') || c.is_ascii_whitespace(),
        };
        let Some((field, after)) = rest.find(is_end).and_then(|at| rest.split_at_checked(at)) else {
            self.rest = None;
            return Some(rest.trim());
        };
        self.rest = Some(match self.separator {
            Some(' ') => after.trim_start_matches(' '),
            Some(separator) => after.strip_prefix(separator).unwrap_or(after),
            None => {
                let after = after.trim_start();
                after.strip_prefix([',', ';']).map_or(after, str::trim_start)
            }
        });
        Some(field.trim())
    }
}

/// Rows of numbers, one from each line.
pub struct RowReader {
    /// What faults are named after: the path or the program.
    name: String,
    reader: LineReader,
    format: LineFormat,
    /// Digits after the point, by channel.
    decimals: Vec<u8>,
    /// The first line is still to be left out.
    header: bool,
    /// Lines used up.
    line: u64,
}

/// What the next line came to.
enum Line {
    /// A row, written to where it was wanted.
    Row,
    /// No row: the line and why.
    Bad(Range<usize>, String),
    /// No whole line now, or none any more.
    None,
}

impl RowReader {
    /// Rows from the present place of `input` on, one sample for each of `decimals`, at least one.
    pub fn new(name: String, input: Input, format: &LineFormat, decimals: &[u8]) -> RowReader {
        let (format, decimals) = (format.clone(), decimals.to_vec());
        let header = format.header;
        RowReader { name, reader: LineReader::new(input), format, decimals, header, line: 0 }
    }

    /// What it reads from.
    pub fn input(&self) -> &Input {
        self.reader.input()
    }

    /// A pipe goes on with the next line, whichever that is; a header was there at its start only.
    pub fn resume(&mut self, row: u64) {
        self.line = row;
        self.header &= row == 0;
    }

    /// Passes so many rows, good and bad ones; gives how many there were.
    pub fn pass(&mut self, rows: u64) -> Result<u64, SourceError> {
        for passed in 0..rows {
            if self.next_line()?.is_none() {
                return Ok(passed);
            }
        }
        Ok(rows)
    }

    /// As [`super::Source::fill`].
    pub fn fill(&mut self, out: &mut [i32]) -> Result<Supply, SourceError> {
        let channels = self.decimals.len();
        let wanted = out.len() / channels;
        for (n, row) in out.chunks_exact_mut(channels).enumerate() {
            match self.next_row(row)? {
                Line::Row => {}
                Line::None if n > 0 => return Ok(Supply::Rows(n)),
                Line::None if self.reader.ended => return Ok(Supply::End),
                Line::None => return Ok(Supply::Nothing),
                // What stands before a bad line goes first: the line is met again at the next call.
                Line::Bad(line, _) if n > 0 => {
                    self.reader.put_back(&line);
                    self.line -= 1;
                    return Ok(Supply::Rows(n));
                }
                Line::Bad(line, why) => return Ok(self.bad(&line, &why)),
            }
        }
        Ok(Supply::Rows(wanted))
    }

    fn next_row(&mut self, row: &mut [i32]) -> Result<Line, SourceError> {
        let Some(line) = self.next_line()? else { return Ok(Line::None) };
        if self.reader.is_long() {
            return Ok(Line::Bad(line, too_long()));
        }
        Ok(match parse(self.reader.text(&line), &self.format, &self.decimals, row) {
            Ok(()) => Line::Row,
            Err(why) => Line::Bad(line, why),
        })
    }

    /// The next line that is a row or should be one.
    fn next_line(&mut self) -> Result<Option<Range<usize>>, SourceError> {
        loop {
            let line = self.reader.next_line();
            let line = line.map_err(|why| SourceError::Read { path: self.name.clone(), why })?;
            let Some(line) = line else { return Ok(None) };
            self.line += 1;
            if std::mem::take(&mut self.header) || self.is_comment(&line) {
                continue;
            }
            return Ok(Some(line));
        }
    }

    fn is_comment(&self, line: &Range<usize>) -> bool {
        let Some(comment) = &self.format.comment else { return false };
        let text = self.reader.begin(line).trim_ascii_start();
        text.is_empty() || text.starts_with(comment.as_bytes())
    }

    fn bad(&self, line: &Range<usize>, why: &str) -> Supply {
        let text = String::from_utf8_lossy(self.reader.begin(line));
        let short: String = text.chars().take(60).collect();
        Supply::Bad(format!("{}:{}: {short:?} is no sample: {why}", self.name, self.line))
    }
}

/// Why a line is no row.
pub fn too_long() -> String {
    format!("the line is too long, it has more than {LINE_LEN_MAX} bytes")
}

/// Writes the numbers of a line into `row`, one for each channel; else says why there are none.
fn parse(text: &str, format: &LineFormat, decimals: &[u8], row: &mut [i32]) -> Result<(), String> {
    let mut fields = Fields::of(text, format.separator);
    for (i, (slot, places)) in row.iter_mut().zip(decimals).enumerate() {
        let field = match format.columns.get(i) {
            Some(column) => Fields::of(text, format.separator).nth(usize::from(*column).saturating_sub(1)),
            None => fields.next(),
        };
        let Some(field) = field else { return Err(wrong_width(text, format, decimals.len())) };
        *slot = decimal::parse(field, *places).map_err(|e| match format.columns.get(i) {
            Some(column) => format!("column {column}: {e}"),
            None => e.to_string(),
        })?;
    }
    if format.columns.is_empty() && fields.next().is_some() {
        return Err(wrong_width(text, format, decimals.len()));
    }
    Ok(())
}

fn wrong_width(text: &str, format: &LineFormat, channels: usize) -> String {
    let found = Fields::of(text, format.separator).count();
    match format.columns.iter().max() {
        Some(column) => format!("there is no column {column}, only {found}"),
        None => {
            let found = counted(found as u64, "column", "columns");
            format!("it has {found}, not {channels}; source.columns says which of several count")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str, separator: Option<char>) -> Vec<&str> {
        Fields::of(text, separator).collect()
    }

    #[test]
    fn columns_by_any_separator_or_by_one() {
        for text in ["1,2,3", "1;2;3", "1 2\t3", " 1 , 2;  3 ", "1\n2\r\n3\n"] {
            assert_eq!(fields(text, None), ["1", "2", "3"], "{text:?}");
        }
        assert_eq!(fields("1,,2,", None), ["1", "", "2", ""]);
        assert_eq!(fields("a b: 1 2:3", Some(':')), ["a b", "1 2", "3"]);
        assert_eq!(fields("1,5  2,5", Some(' ')), ["1,5", "2,5"]);
        assert_eq!(fields("1\t\t2", Some('\t')), ["1", "", "2"]);
        assert_eq!(fields("", None), [""]);
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig {
            cases: 1024, failure_persistence: None, ..Default::default()
        })]

        /// Columns joined by their separator come apart again, and no text panics.
        #[test]
        fn columns_come_apart(numbers in proptest::collection::vec("-?[0-9]{0,3}", 1..6), separator in "[;:|,\t]") {
            let one = separator.chars().next();
            let text = numbers.join(&separator);
            if !one.is_some_and(char::is_whitespace) {
                proptest::prop_assert_eq!(fields(&text, one), numbers);
            }
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,20}|[-0-9.,; \t]{0,20}", columns in proptest::collection::vec(0u16..4, 0..3)) {
            let _ = parsed(&text, &columns, &[0, 9]);
        }
    }

    fn parsed(text: &str, columns: &[u16], decimals: &[u8]) -> Result<Vec<i32>, String> {
        let format = LineFormat { columns: columns.to_vec(), ..LineFormat::default() };
        let mut row = vec![0; decimals.len()];
        parse(text, &format, decimals, &mut row).map(|()| row)
    }

    #[test]
    fn rows_of_several_channels() {
        assert_eq!(parsed("1.5 -2", &[], &[1, 0]), Ok(vec![15, -2]));
        assert_eq!(parsed("t=5,7,x,8.25", &[4, 2], &[2, 0]), Ok(vec![825, 7]));
        assert_eq!(parsed("5 6", &[2, 2], &[0, 1]), Ok(vec![6, 60]));
        let why = |text, columns: &[u16], decimals: &[u8]| parsed(text, columns, decimals).unwrap_err();
        assert!(why("1 2 3", &[], &[0, 0]).starts_with("it has 3 columns, not 2"));
        assert!(why("1,5", &[], &[0]).starts_with("it has 2 columns, not 1"));
        assert!(why("1", &[], &[0, 0]).starts_with("it has 1 column, not 2"));
        assert_eq!(why("1 2", &[1, 3], &[0, 0]), "there is no column 3, only 2");
        assert_eq!(why("1 x", &[1, 2], &[0, 0]), "column 2: this is no decimal number");
        assert_eq!(why("", &[], &[0]), "there is no number");
    }
}
