//! Samples that were recorded before: a record of this project, or what `ipc-pipeline export` has made of one.
#![forbid(unsafe_code)]

use std::fs::File;
use std::path::Path;

use ipc_pipeline::decimal::{self, Decimal};
use ipc_pipeline::entry::{Entry, Kind, LEN};
use ipc_pipeline::reader::{MAX_READ, ReadError, RecordReader};
use ipc_pipeline::sys;
use jiff::Timestamp;

use super::rows::{Fields, Input, LineReader};
use super::{Source, SourceError, Supply};

/// The first line of an export.
const HEADER: &str = "seq,time,channel,value";

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
    /// Channel and code; else why there is none.
    sample: Result<(u16, i32), String>,
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
            match item.sample {
                Ok((channel, code)) if usize::from(channel) == codes.len() => {
                    row_t = if codes.is_empty() { item.t } else { row_t };
                    codes.push(code);
                    if codes.len() == self.channels {
                        return Ok(Some(Row::Good { t: row_t, codes }));
                    }
                }
                _ => return self.torn(item).map(Some),
            }
        }
        let cut = format!("{} ends in the midst of a row", self.path);
        Ok((!codes.is_empty()).then_some(Row::Torn(cut)))
    }

    /// Passes what is left of a row that does not fit, up to the next one.
    fn torn(&mut self, item: Item) -> Result<Row, SourceError> {
        let what = match &item.sample {
            Ok((channel, _)) => format!("channel {channel} is not the next one"),
            Err(why) => why.clone(),
        };
        let what = format!("{}:{}: this is no whole row of {}: {what}", self.path, item.at, self.channels);
        let mut next = Some(item);
        while let Some(item) = next {
            if matches!(item.sample, Ok((0, _))) {
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
    decimals: Vec<u8>,
}

impl CsvItems {
    fn open(path: &Path, decimals: &[u8]) -> Result<CsvItems, SourceError> {
        let name = path.display().to_string();
        let unusable = |why| SourceError::Unusable { path: name.clone(), why };
        let file = File::open(path).map_err(unusable)?;
        let mut lines = LineReader::new(Input::File(file));
        let header = lines.next_line().map_err(unusable)?;
        if header.is_none_or(|line| lines.text(&line).trim() != HEADER) {
            let why = format!("its first line is not {HEADER:?}, so it is no export");
            return Err(unusable(std::io::Error::other(why)));
        }
        Ok(CsvItems { path: name, lines, line: 1, decimals: decimals.to_vec() })
    }

    fn next(&mut self) -> Result<Option<Item>, SourceError> {
        let line = self.lines.next_line();
        let line = line.map_err(|why| SourceError::Read { path: self.path.clone(), why })?;
        let Some(line) = line else { return Ok(None) };
        self.line += 1;
        let mut fields = Fields::of(self.lines.text(&line), Some(','));
        let [_, time, channel, value] = [(); 4].map(|()| fields.next().unwrap_or_default());
        let t = time.parse::<Timestamp>().ok().map(Timestamp::as_nanosecond);
        Ok(Some(Item { at: self.line, t, sample: self.sample(channel, value) }))
    }

    fn sample(&self, channel: &str, value: &str) -> Result<(u16, i32), String> {
        let number: u16 = channel.parse().map_err(|_| format!("{channel:?} is no channel"))?;
        let decimals =
            self.decimals.get(usize::from(number)).ok_or(format!("there is no channel {number} here"))?;
        Ok((number, decimal::parse(value, *decimals).map_err(|why| why.to_string())?))
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
                "it has {there} channels, and the configuration {here} [[channel]]"
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
                let sample = Err(format!("entry {at} is damaged"));
                return Ok(Some(Item { at, t: None, sample }));
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
                return Some(Item { at, t, sample: self.code(entry) });
            }
            Kind::Corrupt => {
                return Some(Item { at, t: None, sample: Err(format!("entry {at} is damaged")) });
            }
            // A step of the wall clock is no time that has passed.
            Kind::Clock | Kind::Loss(_) | Kind::Source | Kind::Grid => {}
        }
        None
    }

    fn code(&self, entry: &Entry) -> Result<(u16, i32), String> {
        let missing = || format!("there is no channel {} here", entry.channel);
        let (there, here) = *self.decimals.get(usize::from(entry.channel)).ok_or_else(missing)?;
        let code = if there == here {
            entry.value
        } else {
            let text = decimal::format_scaled(entry.value.into(), there);
            decimal::parse(&text, here).map_err(|why| why.to_string())?
        };
        Ok((entry.channel, code))
    }
}
