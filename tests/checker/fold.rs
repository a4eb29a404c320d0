//! Statistics once more, with big integers (I4).

use super::more::{Asked, Kept, More};
use super::{ABANDONED, BAD, CORRUPT, EPOCH, Entry, FULL, Faults, LOSS, MISSED, Record, SAMPLE, UNREAD};
use num_bigint::BigInt;
use std::collections::BTreeMap;

/// One row that stat published: its values after entry `n`, since the start or in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Published {
    pub n: u64,
    pub epoch: u32,
    /// 65535: the record has no sample yet.
    pub channel: u16,
    pub count: u64,
    pub sum: i128,
    pub sum_squares: u128,
    pub min: i32,
    pub max: i32,
    pub first: i32,
    pub last: i32,
    /// t of the last sample.
    pub t_ns: u64,
    pub missed: u64,
    pub full: u64,
    pub bad: u64,
    pub abandoned: u64,
    pub corrupt: u64,
    pub unread: u64,
    pub more: More,
}

/// Every published row must be what the first `n` entries of the record give, bit for bit.
pub fn check_statistics(record: &Record, published: &[Published]) -> Faults {
    let mut faults = Faults::default();
    let mut rows: Vec<&Published> = published.iter().collect();
    rows.sort_by_key(|r| r.n);
    let mut rows = rows.into_iter().peekable();
    let mut fold = Fold { asked: Asked::by(published), ..Fold::default() };
    while let Some(row) = rows.next_if(|r| r.n == 0) {
        fold.compare(row, &mut faults);
    }
    record.walk(&mut |raw, _| {
        let e = Entry::read(raw);
        fold.add(&e);
        while let Some(row) = rows.next_if(|r| r.n == e.seq) {
            fold.compare(row, &mut faults);
        }
        true
    });
    for row in rows {
        faults.add(format!("published for n = {}, the record ends at {}", row.n, record.last()));
    }
    faults
}

/// What the whole record gives for one channel.
pub fn totals(record: &Record, channel: u16) -> Published {
    let mut fold = Fold::default();
    record.walk(&mut |raw, _| {
        fold.add(&Entry::read(raw));
        true
    });
    fold.channels.get_mut(&channel).map_or(Published::default(), |c| c.total(record.last()))
}

#[derive(Default)]
struct Fold {
    asked: Asked,
    /// How far time has come in the epoch.
    now: u64,
    channels: BTreeMap<u16, Channel>,
    epoch: u32,
    missed: u64,
    full: u64,
    bad: u64,
    abandoned: u64,
    corrupt: u64,
    unread: u64,
}

struct Channel {
    count: u64,
    sum: BigInt,
    squares: BigInt,
    /// What is not yet in the big numbers: at most 2^16 samples, so it cannot overflow.
    new_sum: i64,
    new_squares: u128,
    min: i32,
    max: i32,
    first: i32,
    last: i32,
    t_ns: u64,
    kept: Kept,
}

impl Fold {
    fn add(&mut self, e: &Entry) {
        self.epoch = e.epoch;
        if e.kind == SAMPLE || e.kind == LOSS && [MISSED, FULL, UNREAD].contains(&e.flags) {
            self.now = self.now.max(e.t_ns);
        }
        match (e.kind, e.flags) {
            (SAMPLE, _) => {
                let channel = self.channels.entry(e.channel).or_insert_with(|| Channel::new(e.value));
                channel.add(e);
                channel.kept.add(e, self.now, &self.asked);
            }
            (EPOCH, _) => {
                self.now = 0;
                self.channels.values_mut().for_each(|channel| channel.kept.begin_epoch());
            }
            (CORRUPT, _) => self.corrupt += 1,
            (LOSS, MISSED) => self.missed += e.count(),
            (LOSS, FULL) => self.full += e.count(),
            (LOSS, BAD) => self.bad += e.count(),
            (LOSS, UNREAD) => self.unread += e.count(),
            (LOSS, ABANDONED) => self.abandoned += e.count(),
            _ => (),
        }
    }

    fn compare(&mut self, row: &Published, faults: &mut Faults) {
        let losses = (self.missed, self.full, self.bad, self.abandoned, self.corrupt, self.unread);
        let told = (row.missed, row.full, row.bad, row.abandoned, row.corrupt, row.unread);
        if losses != told || row.epoch != self.epoch {
            faults.add(format!(
                "published for n = {}: epoch {}, losses {told:?}; the record gives {}, {losses:?}",
                row.n, row.epoch, self.epoch
            ));
        }
        let none_yet = self.channels.is_empty();
        match self.channels.get_mut(&row.channel) {
            Some(channel) if row.more.window > 0 => channel.compare_window(row, self.now, faults),
            Some(channel) => channel.compare(row, faults),
            None if none_yet && row.channel == u16::MAX && row.count == 0 => (),
            None => faults.add(format!("published for n = {}: channel {} has no sample", row.n, row.channel)),
        }
    }
}

impl Channel {
    fn new(first: i32) -> Channel {
        let zero = BigInt::ZERO;
        Channel {
            count: 0,
            sum: zero.clone(),
            squares: zero,
            new_sum: 0,
            new_squares: 0,
            min: first,
            max: first,
            first,
            last: first,
            t_ns: 0,
            kept: Kept::default(),
        }
    }

    fn add(&mut self, e: &Entry) {
        let v = e.value as i64;
        self.count += 1;
        self.new_sum += v;
        self.new_squares += (v * v) as u128;
        self.min = self.min.min(e.value);
        self.max = self.max.max(e.value);
        self.last = e.value;
        self.t_ns = e.t_ns;
        if self.count.is_multiple_of(1 << 16) {
            self.carry();
        }
    }

    fn carry(&mut self) {
        self.sum += self.new_sum;
        self.squares += self.new_squares;
        (self.new_sum, self.new_squares) = (0, 0);
    }

    fn total(&mut self, n: u64) -> Published {
        self.carry();
        Published {
            n,
            count: self.count,
            sum: i128::try_from(&self.sum).expect("fewer than 2^96 samples"),
            sum_squares: u128::try_from(&self.squares).expect("fewer than 2^64 samples"),
            min: self.min,
            max: self.max,
            first: self.first,
            last: self.last,
            t_ns: self.t_ns,
            ..Published::default()
        }
    }

    fn compare_window(&mut self, row: &Published, now: u64, faults: &mut Faults) {
        let wanted = self.kept.window(row, now);
        if wanted != *row {
            faults.add(format!(
                "published for n = {}, channel {}: {row:?}; the record gives {wanted:?}",
                row.n, row.channel
            ));
        }
    }

    fn compare(&mut self, row: &Published, faults: &mut Faults) {
        self.carry();
        let more = self.kept.totals(row);
        if more != row.more {
            let told = row.more;
            faults.add(format!("published for n = {}: {told:?}; the record gives {more:?}", row.n));
        }
        let small = (self.count, self.min, self.max, self.first, self.last, self.t_ns);
        let told = (row.count, row.min, row.max, row.first, row.last, row.t_ns);
        if small != told {
            faults.add(format!(
                "published for n = {}: (count, min, max, first, last, t) = {told:?}, the record gives {small:?}",
                row.n
            ));
        }
        if self.sum != BigInt::from(row.sum) || self.squares != BigInt::from(row.sum_squares) {
            faults.add(format!(
                "published for n = {}: sum {}, of squares {}; the record gives {}, {}",
                row.n, row.sum, row.sum_squares, self.sum, self.squares
            ));
        }
    }
}
