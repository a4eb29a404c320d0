//! Samples that were recorded before: a record of this project, or what `ipc-pipeline export` has made of one.
#![forbid(unsafe_code)]

use std::fs::File;
use std::path::Path;

use ipc_pipeline::decimal::{self, Decimal};
use ipc_pipeline::entry::{Entry, Kind, LEN};
use ipc_pipeline::reader::{MAX_READ, ReadError, RecordReader};
use ipc_pipeline::sys;
use ipc_pipeline::text::counted;
use jiff::Timestamp;

use super::rows::{Fields, Input, LineReader, too_long};
use super::{Source, SourceError, Supply};

/// The first line of an export.
const HEADER: &str = "seq,time,channel,value";
/// The same with `--raw`.
const RAW_HEADER: &str = "seq,time,channel,code";

/// Gives the rows of a recording, at their original distances or as fast as they are taken.
pub struct Replay {
    path: String,
    items: Items,
    channels: usize,
    /// How many times faster; `None`: as fast as they are taken.
    speed: Option<Decimal>,
    /// An instant of now (CLOCK_MONOTONIC, ns) and the recorded one, ns, that belongs to it.
    anchor: Option<(u64, i128)>,
    /// A sample that was looked at but not used.
    put_back: Option<Item>,
    /// A row whose time has not come, or that stands behind others that go first.
    held: Option<Row>,
}

/// A recorded sample.
struct Item {
    /// What a fault is named after: the line or the entry.
    at: u64,
    /// Wall clock, ns since 1970, if it is known.
    t: Option<i128>,
    /// Its channel; `None`: not known, the entry is damaged.
    channel: Option<u16>,
    /// Its code; else why there is none.
    code: Result<i32, String>,
}

impl Item {
    fn damaged(at: u64) -> Item {
        Item { at, t: None, channel: None, code: Err("the entry is damaged".into()) }
    }
}

/// The samples of one tick.
enum Row {
    Good {
        t: Option<i128>,
        codes: Vec<i32>,
    },
    /// One of its samples is missing or none: the sentence says where.
    Torn(String),
}

enum Items {
    Csv(CsvItems),
    Record(Box<RecordItems>),
}

impl Replay {
    /// Opens a CSV file or the directory of a record; it must have as many channels as `decimals`.
    pub fn open(path: &Path, speed: Option<Decimal>, decimals: &[u8]) -> Result<Replay, SourceError> {
        let items = if path.is_dir() {
            Items::Record(Box::new(RecordItems::open(path, decimals)?))
        } else {
            Items::Csv(CsvItems::open(path, decimals)?)
        };
        let (path, channels) = (path.display().to_string(), decimals.len());
        Ok(Replay { path, items, channels, speed, anchor: None, put_back: None, held: None })
    }

    fn next_item(&mut self) -> Result<Option<Item>, SourceError> {
        if let Some(item) = self.put_back.take() {
            return Ok(Some(item));
        }
        match &mut self.items {
            Items::Csv(items) => items.next(),
            Items::Record(items) => items.next(),
        }
    }

    /// The next row: channels 0, 1, 2 ... one behind the other.
    fn next_row(&mut self) -> Result<Option<Row>, SourceError> {
        let (mut codes, mut row_t) = (Vec::with_capacity(self.channels), None);
        while let Some(item) = self.next_item()? {
            match (item.channel, &item.code) {
                (Some(channel), Ok(code)) if usize::from(channel) == codes.len() => {
                    row_t = if codes.is_empty() { item.t } else { row_t };
                    codes.push(*code);
                    if codes.len() == self.channels {
                        return Ok(Some(Row::Good { t: row_t, codes }));
                    }
                }
                _ => return self.torn(item, codes.is_empty()).map(Some),
            }
        }
        let cut = format!("{} ends in the midst of a row", self.path);
        Ok((!codes.is_empty()).then_some(Row::Torn(cut)))
    }

    /// Passes what is left of a row that does not fit, up to the next channel 0; `first`: `item` is the first of it.
    fn torn(&mut self, item: Item, first: bool) -> Result<Row, SourceError> {
        let what = match (&item.code, item.channel) {
            (Err(why), _) => why.clone(),
            (_, channel) => format!("channel {} is not the next one", channel.unwrap_or_default()),
        };
        let what = format!("{}:{}: this is no whole row of {}: {what}", self.path, item.at, self.channels);
        let mut next = if first { self.next_item()? } else { Some(item) };
        while let Some(item) = next {
            if item.channel == Some(0) {
                self.put_back = Some(item);
                break;
            }
            next = self.next_item()?;
        }
        Ok(Row::Torn(what))
    }

    /// Is it time for a row of this instant? The first one sets the clock, and so does one before its predecessor.
    fn is_due(&mut self, t: Option<i128>, now: u64) -> bool {
        let (Some(speed), Some(t)) = (self.speed, t) else { return true };
        let (began, from) = *self.anchor.get_or_insert((now, t));
        if t < from {
            self.anchor = Some((now, t)); // the wall clock was set back
            return true;
        }
        // now - began >= (t - from) / speed
        let passed = i128::from(now.saturating_sub(began)).saturating_mul(speed.digits);
        let wanted = (t - from).saturating_mul(10i128.saturating_pow(speed.places.into()));
        passed >= wanted
    }
}

impl Source for Replay {
    fn seek(&mut self, row: u64) -> Result<(), SourceError> {
        for found in 0..row {
            if self.next_row()?.is_none() {
                return Err(SourceError::Shrunk { path: self.path.clone(), found, wanted: row });
            }
        }
        Ok(())
    }

    fn fill(&mut self, out: &mut [i32]) -> Result<Supply, SourceError> {
        let now = if self.speed.is_some() { sys::monotonic_ns() } else { 0 };
        let wanted = out.len() / self.channels.max(1);
        for (n, slot) in out.chunks_exact_mut(self.channels.max(1)).enumerate() {
            let first = n == 0;
            let row = match self.held.take() {
                Some(row) => Some(row),
                None => self.next_row()?,
            };
            match row {
                None if first => return Ok(Supply::End),
                Some(Row::Torn(text)) if first => return Ok(Supply::Bad(text)),
                Some(Row::Good { t, codes }) if self.is_due(t, now) => slot.copy_from_slice(&codes),
                held => {
                    self.held = held;
                    return Ok(if first { Supply::Nothing } else { Supply::Rows(n) });
                }
            }
        }
        Ok(Supply::Rows(wanted))
    }
}

/// The lines of an export.
struct CsvItems {
    path: String,
    lines: LineReader,
    line: u64,
    /// Digits after the point that a value may have, by channel; those of a code are none.
    decimals: Vec<u8>,
}

impl CsvItems {
    fn open(path: &Path, decimals: &[u8]) -> Result<CsvItems, SourceError> {
        let name = path.display().to_string();
        let unusable = |why| SourceError::Unusable { path: name.clone(), why };
        let file = File::open(path).map_err(unusable)?;
        let mut lines = LineReader::new(Input::File(file));
        let header = lines.next_line().map_err(unusable)?;
        let header = header.map(|line| lines.text(&line).trim().to_owned());
        let decimals = match header.as_deref() {
            Some(HEADER) => decimals.to_vec(),
            Some(RAW_HEADER) => vec![0; decimals.len()],
            _ => {
                let why = format!(
                    "its first line is neither {HEADER:?} nor {RAW_HEADER:?}, so it is no export as csv with its heading"
                );
                return Err(unusable(std::io::Error::other(why)));
            }
        };
        Ok(CsvItems { path: name, lines, line: 1, decimals })
    }

    fn next(&mut self) -> Result<Option<Item>, SourceError> {
        let line = self.lines.next_line();
        let line = line.map_err(|why| SourceError::Read { path: self.path.clone(), why })?;
        let Some(line) = line else { return Ok(None) };
        self.line += 1;
        if self.lines.is_long() {
            return Ok(Some(Item { at: self.line, t: None, channel: None, code: Err(too_long()) }));
        }
        let mut fields = Fields::of(self.lines.text(&line), Some(','));
        let [_, time, channel, value] = [(); 4].map(|()| fields.next().unwrap_or_default());
        let t = time.parse::<Timestamp>().ok().map(Timestamp::as_nanosecond);
        let channel = channel.parse().ok();
        Ok(Some(Item { at: self.line, t, channel, code: self.code(channel, value) }))
    }

    fn code(&self, channel: Option<u16>, value: &str) -> Result<i32, String> {
        let decimals = channel.and_then(|channel| self.decimals.get(usize::from(channel)));
        let decimals = decimals.ok_or("there is no such channel here")?;
        decimal::parse(value, *decimals).map_err(|why| why.to_string())
    }
}

/// The entries of a record, as far as they are durable.
struct RecordItems {
    reader: RecordReader,
    path: String,
    /// The last entry that counts.
    end: u64,
    next: u64,
    chunk: Vec<u8>,
    /// Entries of the chunk that are used up.
    used: usize,
    /// Digits after the point: in the record and here, by channel.
    decimals: Vec<(u8, u8)>,
    epoch: u32,
    /// Wall clock at t = 0 of the epoch.
    wall_ns: Option<i128>,
}

impl RecordItems {
    fn open(path: &Path, decimals: &[u8]) -> Result<RecordItems, SourceError> {
        let name = path.display().to_string();
        let unusable =
            |why: String| SourceError::Unusable { path: name.clone(), why: std::io::Error::other(why) };
        let reader = RecordReader::open(path).map_err(|e| unusable(e.to_string()))?;
        if reader.channels().len() != decimals.len() {
            let (there, here) = (reader.channels().len(), decimals.len());
            return Err(unusable(format!(
                "it has {}, and the configuration {here} [[channel]]",
                counted(there as u64, "channel", "channels")
            )));
        }
        let decimals =
            reader.channels().iter().map(|row| row.decimals).zip(decimals.iter().copied()).collect();
        let end = reader.mark().map_err(|e| unusable(e.to_string()))?.map_or(0, |mark| mark.durable.seq);
        let next = reader.first();
        let (chunk, used, epoch, wall_ns) = (Vec::new(), 0, 0, None);
        Ok(RecordItems { reader, path: name, end, next, chunk, used, decimals, epoch, wall_ns })
    }

    fn next(&mut self) -> Result<Option<Item>, SourceError> {
        while self.next <= self.end {
            let Some(entry) = self.next_entry()? else { break };
            let (at, whole) = (self.next, entry.seq == self.next && entry.is_whole());
            self.next += 1;
            let Some(kind) = entry.kind().filter(|_| whole) else {
                return Ok(Some(Item::damaged(at)));
            };
            if let Some(item) = self.take(at, &entry, kind) {
                return Ok(Some(item));
            }
        }
        Ok(None)
    }

    fn next_entry(&mut self) -> Result<Option<Entry>, SourceError> {
        if self.used == self.chunk.as_chunks::<LEN>().0.len() && !self.read_chunk()? {
            return Ok(None);
        }
        let entry = self.chunk.as_chunks::<LEN>().0.get(self.used).map(Entry::from_bytes);
        self.used += 1;
        Ok(entry)
    }

    fn read_chunk(&mut self) -> Result<bool, SourceError> {
        self.used = 0;
        match self.reader.read(self.next, MAX_READ, &mut self.chunk) {
            Ok(n) => Ok(n > 0),
            Err(ReadError::Missing { .. }) => {
                // On to what is there; the row that is torn by it says so.
                let later = self.reader.segments().iter().map(|s| s.first).find(|first| *first > self.next);
                self.next = later.unwrap_or(u64::MAX);
                if later.is_some() { self.read_chunk() } else { Ok(false) }
            }
            Err(e) => {
                Err(SourceError::Read { path: self.path.clone(), why: std::io::Error::other(e.to_string()) })
            }
        }
    }

    /// A sample, or what tears a row.
    fn take(&mut self, at: u64, entry: &Entry, kind: Kind) -> Option<Item> {
        if entry.epoch != self.epoch {
            (self.epoch, self.wall_ns) = (entry.epoch, None);
        }
        match kind {
            Kind::Epoch => self.wall_ns = Some(entry.t_ns.into()),
            Kind::Sample => {
                let t = self.wall_ns.map(|wall| wall.saturating_add(entry.t_ns.into()));
                return Some(Item { at, t, channel: Some(entry.channel), code: self.code(entry) });
            }
            Kind::Corrupt => {
                return Some(Item::damaged(at));
            }
            // A step of the wall clock is no time that has passed.
            Kind::Clock | Kind::Loss(_) | Kind::Source | Kind::Grid => {}
        }
        None
    }

    fn code(&self, entry: &Entry) -> Result<i32, String> {
        let decimals = self.decimals.get(usize::from(entry.channel));
        let (there, here) = *decimals.ok_or("there is no such channel here")?;
        if there == here {
            return Ok(entry.value);
        }
        let text = decimal::format_scaled(entry.value.into(), there);
        decimal::parse(&text, here).map_err(|why| why.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_pipeline::header::{ChannelRow, Header};
    use ipc_pipeline::mark::{Mark, Position};
    use std::fs;
    use std::time::{Duration, Instant};

    /// All that a source gives: rows, and `None` for a bad one.
    fn all(source: &mut Replay, batch: usize) -> Vec<Option<Vec<i32>>> {
        let mut given = Vec::new();
        let mut out = vec![0; batch * source.channels];
        loop {
            match source.fill(&mut out).unwrap() {
                Supply::Rows(n) => {
                    given.extend(out.chunks(source.channels).take(n).map(|row| Some(row.to_vec())))
                }
                Supply::Bad(_) => given.push(None),
                Supply::Nothing => std::thread::yield_now(),
                Supply::End => return given,
                Supply::Unread(text) => panic!("{text}"),
            }
        }
    }

    const CSV: &str = "seq,time,channel,value\n\
        4,2023-11-14T22:13:20.000000000Z,0,1.5\n5,2023-11-14T22:13:20.000000000Z,1,-7\n\
        8,2023-11-14T22:13:20.200000000Z,0,2.5\n\
        9,2023-11-14T22:13:20.300000000Z,0,3.5\n10,2023-11-14T22:13:20.300000000Z,1,8\n\
        11,,0,bad\n12,,1,8\n\
        13,2023-11-14T22:13:20.100000000Z,0,4.5\n14,2023-11-14T22:13:20.100000000Z,1,9\n15,,0,6\n";

    fn wanted() -> Vec<Option<Vec<i32>>> {
        vec![Some(vec![15, -7]), None, Some(vec![35, 8]), None, Some(vec![45, 9]), None]
    }

    fn csv(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("all.csv");
        fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    fn codes_are_taken_as_they_are() {
        let (_dir, path) = csv(&format!("{RAW_HEADER}\n4,,0,15\n5,,1,-7\n6,,0,1.5\n7,,1,2\n"));
        let mut source = Replay::open(&path, None, &[1, 3]).unwrap();
        assert_eq!(all(&mut source, 10), [Some(vec![15, -7]), None]);
    }

    #[test]
    fn a_line_that_is_too_long_is_called_so() {
        let long = "9".repeat(3_000_000);
        let (_dir, path) = csv(&format!("{HEADER}\n4,,0,1\n5,,0,{long}\n6,,0,2\n"));
        let mut source = Replay::open(&path, None, &[0]).unwrap();
        let mut out = [0];
        assert_eq!(source.fill(&mut out).unwrap(), Supply::Rows(1));
        let Supply::Bad(text) = source.fill(&mut out).unwrap() else { panic!() };
        let end = "all.csv:3: this is no whole row of 1: the line is too long, it has more than 4096 bytes";
        assert!(text.ends_with(end), "{text}");
        assert_eq!((source.fill(&mut out).unwrap(), out), (Supply::Rows(1), [2]));
    }

    #[test]
    fn rows_of_an_export_from_anywhere() {
        let (_dir, path) = csv(CSV);
        for batch in [1, 2, 100] {
            for row in 0..=6 {
                let mut source = Replay::open(&path, None, &[1, 0]).unwrap();
                source.seek(row).unwrap();
                assert_eq!(all(&mut source, batch), wanted()[row as usize..], "batch {batch} from {row}");
            }
        }
        let beyond = Replay::open(&path, None, &[1, 0]).unwrap().seek(7);
        assert!(matches!(beyond, Err(SourceError::Shrunk { found: 6, wanted: 7, .. })));
        assert_eq!(all(&mut Replay::open(&path, None, &[0, 0]).unwrap(), 10), vec![None; 6]);
    }

    #[test]
    fn original_times_are_kept_from_wherever_it_begins() {
        let (_dir, path) = csv(CSV);
        let took = |speed: &str, row| {
            let begun = Instant::now();
            let mut source = Replay::open(&path, Decimal::read(speed), &[1, 0]).unwrap();
            source.seek(row).unwrap();
            assert_eq!(all(&mut source, 100), wanted()[row as usize..]);
            begun.elapsed()
        };
        assert!(took("1.5", 0) >= Duration::from_millis(200)); // 300 ms, then the clock was set back
        assert!(took("0.001", 2) < Duration::from_secs(60)); // nothing to wait for behind the first row
    }

    #[test]
    fn a_row_comes_when_its_time_has() {
        let (_dir, path) = csv(CSV);
        let mut source = Replay::open(&path, Decimal::read("2.5"), &[1, 0]).unwrap();
        let second = 1_000_000_000;
        assert!(source.is_due(Some(0), 7 * second));
        assert!(!source.is_due(Some(10 * second as i128), 11 * second - 1));
        assert!(source.is_due(Some(10 * second as i128), 11 * second));
        assert!(source.is_due(None, 0));
    }

    fn record(channels: usize, durable: u64, entries: &[Entry]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let channels = vec![ChannelRow { decimals: 1, ..ChannelRow::default() }; channels];
        let header = Header { log_id: 1, first_seq: 1, epoch: 0, created_ns: 0, channels };
        let bytes = [header.encode(), entries.iter().flat_map(|e| e.to_bytes()).collect()].concat();
        fs::write(dir.path().join(format!("{:020}.seg", 1)), bytes).unwrap();
        let durable = Position { seq: durable, epoch: 1, source: None };
        let mark = Mark { counter: 1, log_id: 1, durable, grant: None };
        let mut bytes = vec![0; 4096 + 128];
        bytes[..128].copy_from_slice(&mark.encode());
        fs::write(dir.path().join("durable.mark"), bytes).unwrap();
        dir
    }

    #[test]
    fn rows_of_a_record() {
        let s = |seq, t, channel, value| Entry::sample(seq, 1, t, channel, value);
        let entries = [
            Entry::epoch(1, 1, 1_700_000_000_000_000_000),
            Entry::source(2, 1, 0, 7),
            Entry::grid(3, 1, 0, 1_000_000_000),
            s(4, 0, 0, 10),
            s(5, 0, 1, 11),
            Entry::corrupt(6, 1),
            s(7, 1_000_000, 1, 21),
            s(8, 2_000_000, 0, 30),
            s(9, 2_000_000, 1, 31),
            s(10, 3_000_000, 0, 40),
            s(11, 3_000_000, 1, 41),
        ];
        let dir = record(2, 9, &entries); // what stands behind the mark is not taken
        let open = |decimals: &[u8]| Replay::open(dir.path(), None, decimals);
        let rows = |a: i32| vec![Some(vec![a, 110 / 10 * (a / 10)]), None, Some(vec![3 * a, 31 * (a / 10)])];
        assert_eq!(all(&mut open(&[1, 1]).unwrap(), 5), rows(10));
        let finer = vec![Some(vec![100, 11]), None, Some(vec![300, 31])];
        assert_eq!(all(&mut open(&[2, 1]).unwrap(), 1), finer);
        let mut source = open(&[1, 1]).unwrap();
        source.seek(2).unwrap();
        assert_eq!(all(&mut source, 5), rows(10)[2..]);
        let text = open(&[1]).err().unwrap().to_string();
        assert!(text.contains("it has 2 channels, and the configuration 1 [[channel]]"), "{text}");
    }

    #[test]
    fn any_text_behind_the_header_ends() {
        let mut rng = fastrand::Rng::with_seed(5);
        for _ in 0..300 {
            let words = [
                "0",
                "1",
                "2",
                ",",
                ",",
                ",",
                "\n",
                "\n",
                "x",
                "2023-11-14T22:13:20Z",
                "-7.5",
                "99999999999",
            ];
            let text: String = (0..rng.usize(0..80)).map(|_| words[rng.usize(..words.len())]).collect();
            let (_dir, path) = csv(&format!("{HEADER}\n{text}"));
            let given = all(&mut Replay::open(&path, None, &[1, 0]).unwrap(), 3);
            for row in 0..=given.len() {
                let mut source = Replay::open(&path, None, &[1, 0]).unwrap();
                source.seek(row as u64).unwrap();
                assert_eq!(all(&mut source, 1), given[row..], "{text:?} from {row}");
            }
        }
    }

    #[test]
    fn what_is_no_recording_is_refused() {
        let (dir, path) = csv("1\n2\n");
        let text = |p: &Path| Replay::open(p, None, &[0]).err().unwrap().to_string();
        assert!(text(&path).contains("so it is no export"));
        assert!(text(dir.path()).contains("holds no record"));
        assert!(text(&dir.path().join("none")).starts_with("cannot use source.path "));
    }
}
