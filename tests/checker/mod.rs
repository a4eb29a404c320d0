//! The independent judge of a record.
//!
//! It knows only docs/formats.md: its own reader, its own CRC, big integers for sums. Nothing here comes from the
//! library, so a fault of the daemons cannot hide in code that both share.
#![forbid(unsafe_code)]
#![allow(dead_code, unused_imports)] // each test program uses its own part of the judge

mod alarms;
mod bytes;
mod compressed;
mod fold;
mod grid;
mod more;
mod record;

pub use alarms::Alarms;
pub use bytes::{Entry, crc};
pub use fold::{Published, check_statistics, totals};
pub use grid::Clockwork;
pub use more::More;
pub use record::{Mark, Record};

use std::fmt;
use std::path::Path;

pub const SAMPLE: u8 = 1;
pub const EPOCH: u8 = 2;
pub const LOSS: u8 = 3;
pub const CLOCK: u8 = 4;
pub const CORRUPT: u8 = 5;
pub const SOURCE: u8 = 6;
pub const GRID: u8 = 7;

pub const MISSED: u8 = 1;
pub const FULL: u8 = 2;
pub const BAD: u8 = 3;
pub const ABANDONED: u8 = 4;
pub const UNREAD: u8 = 5;

/// What is wrong. The first faults in words, all of them counted.
#[derive(Default, Clone)]
pub struct Faults {
    pub words: Vec<String>,
    pub count: u64,
}

impl Faults {
    const SHOWN: usize = 20;

    pub fn add(&mut self, words: impl Into<String>) {
        self.count += 1;
        if self.words.len() < Self::SHOWN {
            self.words.push(words.into());
        }
    }

    /// Add a fault at an entry.
    pub fn at(&mut self, seq: u64, words: impl fmt::Display) {
        self.add(format!("entry {seq}: {words}"));
    }

    pub fn join(&mut self, other: Faults) {
        self.count += other.count;
        let room = Self::SHOWN.saturating_sub(self.words.len());
        self.words.extend(other.words.into_iter().take(room));
    }

    pub fn has(&self, part: &str) -> bool {
        self.words.iter().any(|w| w.contains(part))
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} faults", self.count)?;
        self.words.iter().try_for_each(|w| write!(f, "\n  {w}"))
    }
}

/// What a walk through the whole record found.
pub struct Report {
    pub record: Record,
    pub faults: Faults,
    /// Seq of the last good entry; 0: none.
    pub last: u64,
    /// What the valid mark says.
    pub durable: u64,
    /// Bytes behind the last good entry: none after a clean stop.
    pub tail_bytes: u64,
    pub samples: u64,
    pub epochs: u64,
    /// Epochs whose opening was cut by the next epoch: only after a power cut.
    pub cut_openings: u64,
    /// Totals of LOSS by reason (index 1..=5), and CORRUPT at index 0.
    pub lost: [u64; 6],
    /// Ticks of all grids: taken by a sample on channel 0, missed, full.
    pub taken: u64,
}

/// Judge the record in `dir`: I1, I6, P7.
pub fn check_record(dir: &Path) -> Report {
    let mut faults = Faults::default();
    let record = Record::open(dir, &mut faults);
    let mut judge = Judge::new(&record);
    let end = record.walk(&mut |raw, part_start| judge.entry(raw, part_start));
    let last = judge.stopped_before.map_or(end.last, |seq| seq - 1);
    judge.finish(last);
    let tail_bytes = record.bytes_after(last);
    if last < judge.mark.durable {
        faults
            .add(format!("the mark says {} entries are durable, the record has {last}", judge.mark.durable));
    }
    faults.join(judge.faults);
    let (durable, samples, epochs, cut_openings, lost, taken) =
        (judge.mark.durable, judge.samples, judge.epochs, judge.cut_openings, judge.lost, judge.ticks.taken);
    let record = record.ending_at(last);
    Report { record, faults, last, durable, tail_bytes, samples, epochs, cut_openings, lost, taken }
}

/// Judges entries one after the other.
struct Judge {
    mark: Mark,
    channels: u32,
    faults: Faults,
    next: u64,
    stopped_before: Option<u64>,
    epoch: u32,
    /// Entries of the opening still to come: 2 SOURCE, 1 GRID, 0 none.
    opening: u8,
    epochs: u64,
    cut_openings: u64,
    samples: u64,
    lost: [u64; 6],
    ticks: Clockwork,
    source: Position,
}

/// Where in the source the record stands.
#[derive(Default, Clone, Copy)]
pub struct Position {
    /// Seq of the SOURCE entry.
    pub seq: u64,
    pub identity: u64,
    pub index: u64,
}

impl Position {
    /// Does this SOURCE entry name the same source, but another place in it?
    fn jumps(&self, e: &Entry) -> bool {
        self.seq > 0 && e.wide() == self.identity && e.t_ns != self.index
    }

    /// Step over an entry.
    pub fn step(&mut self, e: &Entry) {
        match (e.kind, e.flags) {
            (SOURCE, _) => *self = Position { seq: e.seq, identity: e.wide(), index: e.t_ns },
            (SAMPLE | CORRUPT, _) => self.index += 1,
            (LOSS, FULL | BAD) => self.index += e.count() * (e.channel as u64 + 1),
            _ => (),
        }
    }
}

impl Judge {
    fn new(record: &Record) -> Judge {
        Judge {
            mark: record.mark.unwrap_or_default(),
            channels: record.channels,
            faults: Faults::default(),
            next: 1,
            stopped_before: None,
            epoch: 0,
            opening: 0,
            epochs: 0,
            cut_openings: 0,
            samples: 0,
            lost: [0; 6],
            ticks: Clockwork::default(),
            source: Position::default(),
        }
    }

    /// Judge the next entry; false: here the torn tail above the mark begins.
    /// `part_start` is the epoch that a segment's header names, at the first entry of that segment.
    fn entry(&mut self, raw: &[u8; 32], part_start: Option<u32>) -> bool {
        let seq = self.next;
        self.next += 1;
        let e = Entry::read(raw);
        if !(e.is_whole(raw) && e.seq == seq) {
            if seq > self.mark.durable {
                self.stopped_before = Some(seq);
                return false;
            }
            let why = if e.is_whole(raw) { format!("it says seq {}", e.seq) } else { "bad CRC".into() };
            self.faults.at(seq, why);
            return true;
        }
        if let Some(before) = part_start
            && before != self.epoch
        {
            self.faults.at(
                seq,
                format!("segment header says epoch {before} before it, the record has {}", self.epoch),
            );
        }
        self.form(&e);
        self.order(&e);
        self.count(&e);
        self.at_mark(&e);
        true
    }

    /// Kind, and unused fields zero.
    fn form(&mut self, e: &Entry) {
        let zero = |ok: bool, faults: &mut Faults, what: &str| {
            if !ok {
                faults.at(e.seq, what);
            }
        };
        let f = &mut self.faults;
        zero(e.kind == LOSS || e.flags == 0, f, "flags of a kind that has none");
        match e.kind {
            SAMPLE => zero((e.channel as u32) < self.channels.min(32), f, "channel is not in the table"),
            EPOCH => zero(e.wide() == 0, f, "EPOCH with a value"),
            LOSS => {
                zero((1..=5).contains(&e.flags), f, "LOSS with an unknown reason");
                zero(e.value != 0, f, "LOSS of nothing");
                let rows = matches!(e.flags, FULL | BAD);
                zero(
                    e.channel == 0 || rows && e.channel as u32 == self.channels - 1,
                    f,
                    "LOSS with a channel",
                );
            }
            CORRUPT => zero(e.wide() == 0 && e.t_ns == 0, f, "CORRUPT with a value"),
            CLOCK | SOURCE | GRID => (),
            kind => f.at(e.seq, format!("unknown kind {kind}")),
        }
    }

    /// Epochs rise only at their opening, and every opening is EPOCH, SOURCE, GRID.
    fn order(&mut self, e: &Entry) {
        let abandoned = e.kind == LOSS && e.flags == ABANDONED;
        if self.epochs == 0 && abandoned {
            self.epoch = e.epoch;
        } else if e.epoch != self.epoch || self.epochs == 0 {
            self.opens(e);
        } else if self.opening > 0 {
            let due = if self.opening == 2 { SOURCE } else { GRID };
            if e.kind != due && e.kind != CORRUPT {
                self.faults.at(e.seq, format!("kind {} in the opening of epoch {}", e.kind, e.epoch));
            }
            self.opening -= 1;
        } else if e.kind == EPOCH {
            self.faults.at(e.seq, "EPOCH inside its epoch");
        }
    }

    fn opens(&mut self, e: &Entry) {
        if e.epoch < self.epoch || e.epoch == 0 {
            self.faults.at(e.seq, format!("epoch {} after {}", e.epoch, self.epoch));
        }
        if e.kind != EPOCH && e.kind != CORRUPT {
            self.faults.at(e.seq, format!("epoch {} begins with kind {}", e.epoch, e.kind));
        }
        self.cut_openings += (self.opening > 0) as u64;
        self.epoch = e.epoch;
        self.epochs += 1;
        self.opening = 2;
        self.ticks.new_epoch();
    }

    fn count(&mut self, e: &Entry) {
        match e.kind {
            SAMPLE => self.samples += 1,
            CORRUPT => self.lost[0] += 1,
            LOSS => self.lost[e.flags.min(UNREAD) as usize] += e.count(),
            SOURCE if self.source.jumps(e) && self.lost[0] == 0 => {
                let text = format!("source goes on at {}, it stood at {}", e.t_ns, self.source.index);
                self.faults.at(e.seq, text);
            }
            _ => (),
        }
        self.source.step(e);
        self.ticks.step(e, &mut self.faults);
    }

    /// The mark must tell what the record shows at that entry.
    fn at_mark(&mut self, e: &Entry) {
        if e.seq != self.mark.durable {
            return;
        }
        let m = self.mark;
        let shown = (e.epoch, self.source.seq, self.source.identity, self.source.index);
        let told = (m.epoch, m.source_seq, m.identity, m.index);
        if shown != told {
            self.faults.at(
                e.seq,
                format!("the mark says (epoch, SOURCE, identity, index) = {told:?}, the record {shown:?}"),
            );
        }
    }

    fn finish(&mut self, last: u64) {
        self.ticks.end(last, &mut self.faults);
    }
}

/// Every sample must be `expected(index)`, from index 0 on, each once: nothing lost, nothing twice, nothing out of
/// order. Gives the number of samples and the position after the last one.
pub fn check_source(record: &Record, expected: impl Fn(u64) -> i32) -> (u64, u64, Faults) {
    let mut faults = Faults::default();
    let mut position = Position::default();
    let (mut samples, mut first) = (0, true);
    record.walk(&mut |raw, _| {
        let e = Entry::read(raw);
        let index = position.index;
        if e.kind == SOURCE && e.t_ns != if first { 0 } else { index } {
            faults.at(e.seq, format!("source goes on at {}, the samples before it end at {index}", e.t_ns));
        }
        first &= e.kind != SOURCE;
        if e.kind == SAMPLE {
            samples += 1;
            if e.value != expected(index) {
                let text = format!("value {}, line {index} of the source is {}", e.value, expected(index));
                faults.at(e.seq, text);
            }
        }
        position.step(&e);
        true
    });
    (samples, position.index, faults)
}

/// Every accepted entry that a witness saw must be in the record, bit for bit (I2).
pub fn check_accepted<'a>(record: &Record, accepted: impl IntoIterator<Item = &'a [u8; 32]>) -> Faults {
    let mut faults = Faults::default();
    for raw in accepted {
        let seq = Entry::read(raw).seq;
        match record.entry(seq) {
            None => faults.at(
                seq,
                format!("was accepted, the record ends at {}: {:?}", record.last(), Entry::read(raw)),
            ),
            Some(found) if found != *raw => faults.at(
                seq,
                format!("accepted as {:?}, recorded as {:?}", Entry::read(raw), Entry::read(&found)),
            ),
            Some(_) => (),
        }
    }
    faults
}
