//! `ipc-pipeline export --format csv [DIR]`: the samples of a record as text.
//!
//! One line a sample, `seq,time,channel,value`: the entry's number; wall-clock time in UTC as RFC 3339 with nanoseconds,
//! which is the EPOCH's wall clock + t + the CLOCK steps before it in the epoch; the channel's number; the value with
//! the channel's decimals. The same record always gives the same bytes. Where the EPOCH itself is damaged, the time is
//! not known and its field is empty.
#![forbid(unsafe_code)]

use std::io::{self, Write};

use ipc_pipeline::entry::{Entry, Kind, LEN};
use ipc_pipeline::header::ChannelRow;
use ipc_pipeline::reader::{ReadError, RecordReader};
use ipc_pipeline::wall::WallClock;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::walk::{Step, Walk};

const HEADER: &[u8] = b"seq,time,channel,value\n";
const NS: i128 = 1_000_000_000;
/// Length of `2026-01-31T23:59:59`.
const SECOND_LEN: usize = 19;

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The record cannot be read.
    #[error(transparent)]
    Record(#[from] ReadError),
    /// The text cannot be written.
    #[error("cannot write the export: {0}; what was written so far is right, export again")]
    Output(#[from] io::Error),
}

/// What an export has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Lines written, without the header.
    pub samples: u64,
    /// Entries left out because they are damaged or missing; `verify` names them.
    pub damaged: u64,
    /// Seq of the last entry looked at.
    pub end: u64,
}

/// Writes all samples of the record as CSV.
///
/// # Errors
/// The record cannot be read or the output not written.
pub fn csv(reader: RecordReader, out: &mut dyn Write) -> Result<Exported, ExportError> {
    let mut lines = Lines::new(reader.channels());
    let mut walk = Walk::new(reader)?;
    out.write_all(HEADER)?;
    loop {
        let from = walk.next;
        match walk.step(None)? {
            Step::Entries(bytes) => {
                lines.take_bytes(from, bytes);
                out.write_all(&lines.text)?;
                lines.text.clear();
            }
            Step::Gap(seq) => lines.done.damaged += seq - from,
            // Its segment was removed on purpose: the export begins, or goes on, behind it.
            Step::Summary(summary) => lines.wall = summary.wall,
            Step::End => break,
        }
    }
    out.flush()?;
    Ok(Exported { end: walk.next - 1, ..lines.done })
}

/// Entries to lines.
struct Lines {
    text: Vec<u8>,
    done: Exported,
    decimals: Vec<u8>,
    wall: WallClock,
    second: Second,
}

/// The text of a whole second, made once and used for all samples in it.
struct Second {
    number: i64,
    text: Option<[u8; SECOND_LEN]>,
}

impl Lines {
    fn new(channels: &[ChannelRow]) -> Lines {
        Lines {
            text: Vec::new(),
            done: Exported::default(),
            decimals: channels.iter().map(|row| row.decimals).collect(),
            wall: WallClock::default(),
            second: Second { number: i64::MIN, text: None },
        }
    }

    fn take_bytes(&mut self, from: u64, bytes: &[u8]) {
        let (entries, _) = bytes.as_chunks::<LEN>();
        for (seq, bytes) in (from..).zip(entries) {
            let entry = Entry::from_bytes(bytes);
            match entry.kind().filter(|_| entry.seq == seq && entry.is_whole()) {
                Some(kind) => self.take(&entry, kind),
                None => self.done.damaged += 1,
            }
        }
    }

    fn take(&mut self, entry: &Entry, kind: Kind) {
        self.wall.take(entry, kind);
        if kind == Kind::Sample {
            self.line(entry);
        }
    }

    fn line(&mut self, sample: &Entry) {
        self.done.samples += 1;
        put_number(&mut self.text, sample.seq, 1);
        self.text.push(b',');
        if let Some(wall_ns) = self.wall.at(sample.t_ns) {
            self.put_time(wall_ns);
        }
        self.text.push(b',');
        put_number(&mut self.text, sample.channel as u64, 1);
        self.text.push(b',');
        let decimals = self.decimals.get(sample.channel as usize).copied().unwrap_or(0);
        put_scaled(&mut self.text, sample.value, decimals);
        self.text.push(b'\n');
    }

    /// RFC 3339, UTC, nine digits; nothing if the year is not one of 0 to 9999.
    fn put_time(&mut self, wall_ns: i128) {
        let Ok(second) = i64::try_from(wall_ns.div_euclid(NS)) else { return };
        if second != self.second.number {
            self.second = Second { number: second, text: second_text(second) };
        }
        if let Some(text) = self.second.text {
            self.text.extend_from_slice(&text);
            self.text.push(b'.');
            put_number(&mut self.text, wall_ns.rem_euclid(NS) as u64, 9);
            self.text.push(b'Z');
        }
    }
}

fn second_text(second: i64) -> Option<[u8; SECOND_LEN]> {
    let time = Timestamp::from_second(second).ok()?.to_zoned(TimeZone::UTC).datetime();
    time.to_string().as_bytes().try_into().ok()
}

/// `number` with at least `width` digits, 20 at most.
fn put_number(text: &mut Vec<u8>, mut number: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut begin = digits.len();
    for (i, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        begin = i;
        if number == 0 {
            break;
        }
    }
    begin = begin.min(digits.len().saturating_sub(width));
    text.extend_from_slice(digits.get(begin..).unwrap_or_default());
}

/// value / 10^decimals with exactly that many digits after the point.
fn put_scaled(text: &mut Vec<u8>, value: i32, decimals: u8) {
    if value < 0 {
        text.push(b'-');
    }
    let decimals = decimals.min(19) as usize;
    put_number(text, value.unsigned_abs() as u64, decimals + 1);
    if decimals > 0 {
        text.insert(text.len() - decimals, b'.');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::testing::{mark, record, rot};
    use std::path::Path;

    fn exported(dir: &Path) -> (String, Exported) {
        let mut text = Vec::new();
        let done = csv(RecordReader::open(dir).unwrap(), &mut text).unwrap();
        (String::from_utf8(text).unwrap(), done)
    }

    fn line(sample: Entry, decimals: &[u8], wall_ns: i128) -> String {
        let mut lines = Lines::new(&[]);
        lines.decimals = decimals.to_vec();
        lines.wall.zero_ns = Some(wall_ns);
        lines.line(&sample);
        String::from_utf8(lines.text).unwrap()
    }

    #[test]
    fn one_line_a_sample() {
        let dir = tempfile::tempdir().unwrap();
        record(dir.path());
        let (text, done) = exported(dir.path());
        assert_eq!(done, Exported { samples: 15, damaged: 0, end: 20 });
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 16);
        assert_eq!(lines[0], "seq,time,channel,value");
        assert_eq!(lines[1], "4,2023-11-14T22:13:20.999000000Z,0,-2147483648");
        assert_eq!(lines[2], "5,2023-11-14T22:13:20.999000000Z,1,-0.0018");
        assert_eq!(lines[3], "8,2023-11-14T22:13:20.004000000Z,0,8");
        assert_eq!(lines[15], "20,2023-11-14T22:13:20.016000000Z,0,20");
    }

    #[test]
    fn damaged_entries_are_left_out_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        record(dir.path());
        rot(dir.path(), 1, 8);
        let (text, done) = exported(dir.path());
        assert_eq!(done, Exported { samples: 14, damaged: 1, end: 20 });
        assert!(!text.contains("\n8,"));
        rot(dir.path(), 1, 1);
        assert!(exported(dir.path()).0.contains("\n4,,0,-2147483648\n"));
        mark(dir.path(), 2);
        assert_eq!(exported(dir.path()).1, Exported { samples: 4 - 1 - 1, damaged: 1, end: 7 });
    }

    #[test]
    fn values_and_times_are_exact() {
        let sample = |value| Entry::sample(u64::MAX, 1, 1, 31, value);
        assert_eq!(line(sample(5), &[], -2), "18446744073709551615,1969-12-31T23:59:59.999999999Z,31,5\n");
        let all = vec![9; 32];
        for (value, text) in [(0, "0.000000000"), (-1, "-0.000000001"), (i32::MIN, "-2.147483648")] {
            assert_eq!(
                line(sample(value), &all, 0),
                format!("18446744073709551615,1970-01-01T00:00:00.000000001Z,31,{text}\n")
            );
        }
        // A year that RFC 3339 cannot say.
        assert_eq!(line(sample(5), &[], i128::MAX), "18446744073709551615,,31,5\n");
        assert_eq!(line(sample(5), &[], -100_000_000_000 * NS), "18446744073709551615,,31,5\n");
        assert_eq!(line(sample(5), &[], 400_000_000_000 * NS), "18446744073709551615,,31,5\n");
    }
}
