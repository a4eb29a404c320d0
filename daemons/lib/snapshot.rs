//! The snapshot register: what stat shows of its [`Fold`], as bytes (docs/formats.md, "Snapshot register").
//!
//! A snapshot is a row of 512 bytes for each channel since the start and for each of its windows, and every row is
//! checked by its own CRC. The rows say what was asked for, so a snapshot can be compared, as a whole and by `==`, with
//! the one that a recomputation of the record gives.
#![forbid(unsafe_code)]

use crate::entry::MAX_CHANNELS;
use crate::fields::{get, get_u16, get_u32, get_u64, put};
use crate::fold::{Alarm, Alarms, Fold, Losses, Rate, Span, Stats};
use crate::limits::Limits;
use crate::settings::{PERCENTILES_MAX, Percentile, Settings, Unit, WINDOWS_MAX, Weight, Window};
use thiserror::Error;

/// Most rows of a snapshot: each channel since the start, and its windows.
pub const ROWS_MAX: usize = MAX_CHANNELS * (1 + WINDOWS_MAX);
/// Size of a row in bytes.
pub const ROW_LEN: usize = 512;
/// Size of a slot in bytes.
pub const SLOT_LEN: usize = ROWS_MAX * ROW_LEN;
/// Size of the register in bytes.
pub const REGISTER_LEN: usize = SLOTS_AT + 2 * SLOT_LEN;
/// Offset of the u64 `version`; its low half is the futex word.
pub const VERSION_AT: usize = 128;
/// Size of the header that [`header`] makes.
pub const HEADER_LEN: usize = 64;
/// Channel number of the one row that stands there while no channel has a sample.
pub const NO_CHANNEL: u16 = u16::MAX;

const MAGIC: &[u8; 8] = b"IPCPSNP1";
const LAYOUT: u32 = 2;
const SLOTS_AT: usize = 4096;
const STATS_AT: usize = 24;
const LOSSES_AT: usize = 88;
const LOG_ID_AT: usize = 136;
const WINDOW_AT: usize = 144;
const PERCENTILES_AT: usize = 184;
const CODES_AT: usize = 216;
const LIMITS_AT: usize = 304;
const CRC_AT: usize = ROW_LEN - 4;

/// What stat says about a record after entry `n`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Number of the snapshot: rises by 1 with each.
    pub version: u64,
    /// The record that was folded.
    pub log_id: u64,
    /// Seq of the last entry that was folded.
    pub n: u64,
    /// Epoch of that entry.
    pub epoch: u32,
    /// What was lost up to n.
    pub losses: Losses,
    /// No channel has a sample, and that for too long: by the clock, set by ipc-stat like [`Row::stale`].
    pub silent: bool,
    /// By channel, and for each channel by window: at most [`ROWS_MAX`].
    pub rows: Vec<Row>,
}

/// What is known of a channel since the start, or in one of its windows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Number of the channel.
    pub channel: u16,
    /// `None`: since the start.
    pub window: Option<InWindow>,
    /// Its samples; with `count` 0 all fields are 0.
    pub stats: Stats,
    /// Each percentile that is asked for and its code; `None` where it is not known.
    pub percentiles: Vec<(Percentile, Option<i32>)>,
    /// Weight of the fading average; `None` if not asked for, and in windows.
    pub weight: Option<Weight>,
    /// The fading average in units of 2^-32 codes; `None` without a sample in this epoch, and in windows.
    pub ewma: Option<i64>,
    /// How the channel changes; `None` without two samples in this epoch, and in windows.
    pub rate: Option<Rate>,
    /// What the channel is watched for; `None` if for nothing, and in windows.
    pub limits: Option<Limits>,
    /// Its alarms by its samples; none is on in windows.
    pub alarm: Alarm,
    /// No sample has come for too long, by the clock and so no statistic: set by ipc-stat, not by a fold.
    pub stale: bool,
}

/// Which window a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InWindow {
    /// Its number, from 1, in the order of the configuration.
    pub number: u8,
    /// What was asked for.
    pub window: Window,
    /// Where the last closed one lies: positions `from..to` of the epoch, in ns or counted in samples. `None`: none is closed
    /// in this epoch yet.
    pub span: Option<(u64, u64)>,
}

/// Why bytes are no snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SnapshotError {
    /// Not the header of a register of this layout.
    #[error(
        "this is not a snapshot register of layout 2; stop the pipeline and start it again with one version of it"
    )]
    Header,
    /// Too few bytes, or the number of rows is none of 1..=160.
    #[error(
        "the snapshot is cut short or names an impossible number of rows; the next one from ipc-stat replaces it"
    )]
    Rows,
    /// A CRC does not fit: torn by a newer snapshot, or damaged.
    #[error("row {row} of the snapshot is torn or damaged: its CRC does not fit; read it again")]
    Damaged {
        /// Number of the row, from 0.
        row: usize,
    },
    /// Rows of different snapshots, or numbers that cannot belong together.
    #[error("row {row} of the snapshot contradicts the others; read it again")]
    Contradiction {
        /// Number of the row, from 0.
        row: usize,
    },
    /// Each row is right by itself, but together they cannot come from entries 1..n.
    #[error("the numbers of the snapshot cannot come from a record; the next one from ipc-stat replaces it")]
    Impossible,
}

/// Offset of the slot in which snapshot number `version` stands.
pub const fn slot_at(version: u64) -> usize {
    SLOTS_AT + SLOT_LEN * (version & 1) as usize
}

/// The first bytes of a register.
pub fn header() -> [u8; HEADER_LEN] {
    let mut b = [0; HEADER_LEN];
    put(&mut b, 0, *MAGIC);
    put(&mut b, 8, LAYOUT.to_le_bytes());
    let crc = crc32c::crc32c(&b[..60]);
    put(&mut b, 60, crc.to_le_bytes());
    b
}

/// Are these the first bytes of a register that this version can read?
///
/// # Errors
/// [`SnapshotError::Header`] for everything else.
pub fn check_header(bytes: &[u8]) -> Result<(), SnapshotError> {
    if bytes.get(..HEADER_LEN) == Some(&header()) { Ok(()) } else { Err(SnapshotError::Header) }
}

/// The present snapshot in a whole register; `None` while there is none yet.
///
/// # Errors
/// As [`Snapshot::decode`]; also when the snapshot is older than the version says, or not of layout 2.
pub fn present(register: &[u8]) -> Result<Option<Snapshot>, SnapshotError> {
    check_header(register)?;
    if register.len() < REGISTER_LEN {
        return Err(SnapshotError::Header);
    }
    let version = get_u64(register, VERSION_AT);
    if version == 0 {
        return Ok(None);
    }
    let snapshot = Snapshot::decode(register.get(slot_at(version)..).unwrap_or_default())?;
    if snapshot.version == version {
        Ok(Some(snapshot))
    } else {
        Err(SnapshotError::Contradiction { row: 0 })
    }
}

impl Snapshot {
    /// What a fold shows.
    pub fn of(fold: &Fold, version: u64, log_id: u64) -> Snapshot {
        let rows = fold.channels().flat_map(|(channel, stats)| rows_of(fold, channel, stats)).collect();
        Snapshot { version, log_id, n: fold.n, epoch: fold.epoch, losses: fold.losses, silent: false, rows }
    }

    /// The rows since the start, one for each channel that has samples.
    pub fn totals(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.window.is_none())
    }

    /// The same for people: while there is no sample, one row of the first channel that says so.
    pub fn totals_or_none(&self) -> Vec<Row> {
        if self.rows.is_empty() {
            return vec![Row { stale: self.silent, ..Row::default() }];
        }
        self.totals().cloned().collect()
    }

    /// The rows of the windows of one channel, in their order.
    pub fn windows(&self, channel: u16) -> impl Iterator<Item = (&Row, &InWindow)> {
        let rows = self.rows.iter().filter(move |row| row.channel == channel);
        rows.filter_map(|row| Some((row, row.window.as_ref()?)))
    }

    /// What was asked of the fold that shows this. Without a sample nothing shows it.
    pub fn settings(&self) -> Settings {
        let first = self.rows.first();
        let windows = first.into_iter().flat_map(|first| self.windows(first.channel));
        Settings {
            percentiles: first.into_iter().flat_map(|row| &row.percentiles).map(|(p, _)| *p).collect(),
            ewma: first.and_then(|row| row.weight),
            windows: windows.map(|(_, of)| of.window).collect(),
            limits: self.totals().filter_map(|row| Some((row.channel, row.limits?))).collect(),
        }
    }

    /// The rows, 512 bytes each: what stands at the beginning of its slot.
    pub fn encode(&self) -> Vec<u8> {
        if self.rows.is_empty() {
            let none = Row { channel: NO_CHANNEL, stale: self.silent, ..Row::default() };
            return self.row(1, &none).to_vec();
        }
        self.rows.iter().flat_map(|row| self.row(self.rows.len() as u16, row)).collect()
    }

    fn row(&self, rows: u16, row: &Row) -> [u8; ROW_LEN] {
        let mut b = [0; ROW_LEN];
        put(&mut b, 0, self.n.to_le_bytes());
        put(&mut b, 8, self.version.to_le_bytes());
        put(&mut b, 16, self.epoch.to_le_bytes());
        put(&mut b, 20, row.channel.to_le_bytes());
        put(&mut b, 22, rows.to_le_bytes());
        put(&mut b, STATS_AT, row.stats.to_bytes());
        put(&mut b, LOSSES_AT, self.losses.to_bytes());
        put(&mut b, LOG_ID_AT, self.log_id.to_le_bytes());
        row.write(&mut b);
        let crc = crc32c::crc32c(&b[..CRC_AT]);
        put(&mut b, CRC_AT, crc.to_le_bytes());
        b
    }

    /// The snapshot at the beginning of `slot`; what stands behind its last row does not matter.
    ///
    /// # Errors
    /// Bytes that are not exactly what [`Snapshot::encode`] makes of some fold are refused, with the reason.
    pub fn decode(slot: &[u8]) -> Result<Snapshot, SnapshotError> {
        let (rows, _) = slot.as_chunks::<ROW_LEN>();
        let rows = rows.get(..rows_in(slot)).filter(|rows| (1..=ROWS_MAX).contains(&rows.len()));
        let rows = rows.ok_or(SnapshotError::Rows)?;
        if let Some(row) = rows.iter().position(|b| crc32c::crc32c(&b[..CRC_AT]) != get_u32(b, CRC_AT)) {
            return Err(SnapshotError::Damaged { row });
        }
        let snapshot = Snapshot::from_rows(rows).ok_or(SnapshotError::Impossible)?;
        let encoded = snapshot.encode();
        match rows.iter().zip(encoded.chunks(ROW_LEN)).position(|(row, again)| row != again) {
            Some(row) => Err(SnapshotError::Contradiction { row }),
            None if snapshot.is_plausible() => Ok(snapshot),
            None => Err(SnapshotError::Impossible),
        }
    }

    /// Head and losses from the first row, the rest from all of them.
    fn from_rows(rows: &[[u8; ROW_LEN]]) -> Option<Snapshot> {
        let head = rows.first()?;
        let none = rows.len() == 1 && get_u16(head, 20) == NO_CHANNEL;
        let read = rows.iter().filter(|_| !none).map(Row::read);
        Some(Snapshot {
            version: get_u64(head, 8),
            log_id: get_u64(head, LOG_ID_AT),
            n: get_u64(head, 0),
            epoch: get_u32(head, 16),
            losses: Losses::from_bytes(&get(head, LOSSES_AT)),
            silent: none && get(head, 281) == [1],
            rows: read.collect::<Option<_>>()?,
        })
    }

    /// Can these rows come from entries 1..n?
    fn is_plausible(&self) -> bool {
        let samples: u128 = self.totals().map(|row| row.stats.count as u128).sum();
        let windows = self.settings().windows;
        let n = self.n;
        let each = self.rows.chunks(1 + windows.len());
        let numbers: Vec<u16> = each.clone().filter_map(|rows| Some(rows.first()?.channel)).collect();
        samples + self.losses.corrupt as u128 <= self.n as u128
            && numbers.is_sorted_by(|a, b| a < b)
            && numbers.iter().all(|channel| (*channel as usize) < MAX_CHANNELS)
            && each.clone().all(|rows| are_of_one_channel(rows, &windows))
            && self.rows.iter().all(|row| row.is_plausible(n))
    }
}

/// The version that a row belongs to; `None`: it is damaged, or no row.
pub fn version_of(row: &[u8]) -> Option<u64> {
    let row: &[u8; ROW_LEN] = row.first_chunk()?;
    (crc32c::crc32c(&row[..CRC_AT]) == get_u32(row, CRC_AT)).then(|| get_u64(row, 8))
}

/// How many rows the snapshot at the beginning of `slot` says it has.
pub fn rows_in(slot: &[u8]) -> usize {
    get_u16(slot, 22) as usize
}

/// The rows of one channel.
fn rows_of(fold: &Fold, channel: u16, stats: &Stats) -> Vec<Row> {
    let settings = fold.settings();
    let with = |codes: Option<&[i32]>| {
        let code = |i| codes.and_then(|codes| codes.get(i).copied());
        settings.percentiles.iter().zip(0..).map(|(p, i)| (*p, code(i))).collect()
    };
    let mut rows = vec![Row {
        channel,
        stats: *stats,
        percentiles: with(fold.percentiles(channel).as_deref()),
        weight: settings.ewma,
        ewma: fold.ewma(channel),
        rate: fold.rate(channel),
        limits: settings.limits_of(channel).copied(),
        alarm: fold.alarm(channel),
        ..Row::default()
    }];
    for (number, window) in (1..).zip(&settings.windows) {
        let span = fold.window(channel, number as usize - 1);
        let filled = span.as_ref().filter(|span| span.stats.count > 0);
        rows.push(Row {
            channel,
            window: Some(InWindow { number, window: *window, span: span.as_ref().map(|s| (s.from, s.to)) }),
            stats: span.as_ref().map(|span| span.stats).unwrap_or_default(),
            percentiles: with(filled.map(|span: &Span| span.codes.as_slice())),
            ..Row::default()
        });
    }
    rows
}

/// One row since the start, then one for each window.
fn are_of_one_channel(rows: &[Row], windows: &[Window]) -> bool {
    let Some((total, rest)) = rows.split_first() else { return false };
    let of_windows = rest.iter().filter_map(|row| row.window.map(|of| (of.number, of.window)));
    total.window.is_none()
        && rest.len() == windows.len()
        && rest.iter().all(|row| row.channel == total.channel)
        && of_windows.eq((1..).zip(windows.iter().copied()))
}

impl Row {
    /// The names of the alarms that are on, like `high+stale`; nothing if none is.
    pub fn alarms(&self) -> String {
        self.alarm.on.names().chain(self.stale.then_some("stale")).collect::<Vec<_>>().join("+")
    }

    /// What stands behind the part that all layouts have.
    fn write(&self, b: &mut [u8; ROW_LEN]) {
        if let Some(InWindow { number, window, span }) = self.window {
            put(b, WINDOW_AT, [number, window.unit().code() as u8]);
            put(b, 147, [span.is_some().into()]);
            let (from, to) = span.unwrap_or_default();
            for (at, value) in (152..).step_by(8).zip([window.size(), window.step(), from, to]) {
                put(b, at, value.to_le_bytes());
            }
        }
        put(b, 146, [self.percentiles.len() as u8]);
        let known = self.percentiles.iter().any(|(_, code)| code.is_some());
        put(b, 148, [known.into(), self.ewma.is_some().into()]);
        for (i, (percentile, code)) in self.percentiles.iter().enumerate() {
            put(b, PERCENTILES_AT + 4 * i, percentile.millionths().to_le_bytes());
            put(b, CODES_AT + 4 * i, code.unwrap_or(0).to_le_bytes());
        }
        put(b, 248, self.weight.map_or(0, Weight::units).to_le_bytes());
        put(b, 256, self.ewma.unwrap_or(0).to_le_bytes());
        put(b, 264, self.rate.map_or(0, |rate| rate.change).to_le_bytes());
        put(b, 272, self.rate.map_or(0, |rate| rate.time_ns).to_le_bytes());
        put(b, 280, [self.alarm.on.bits(), self.stale.into()]);
        put(b, 288, self.alarm.changes.to_le_bytes());
        put(b, 296, self.alarm.seq.to_le_bytes());
        if let Some(limits) = &self.limits {
            put(b, LIMITS_AT, limits.to_bytes());
        }
    }

    fn read(b: &[u8; ROW_LEN]) -> Option<Row> {
        let [number, unit, percentiles, closed, known, has_ewma] = get(b, WINDOW_AT);
        let [size, step, from, to, weight, ewma, change, time_ns, changes, seq] =
            [152, 160, 168, 176, 248, 256, 264, 272, 288, 296].map(|at| get_u64(b, at));
        let window = match number {
            0 => None,
            _ => Some(InWindow {
                number,
                window: Window::new(Unit::from_code(unit.into())?, size, step)?,
                span: (closed == 1).then_some((from, to)),
            }),
        };
        let percentile = |i| {
            let code = (known == 1).then(|| get_u32(b, CODES_AT + 4 * i) as i32);
            Some((Percentile::new(get_u32(b, PERCENTILES_AT + 4 * i))?, code))
        };
        let [on, stale] = get(b, 280);
        Some(Row {
            channel: get_u16(b, 20),
            window,
            stats: Stats::from_bytes(&get(b, STATS_AT)),
            percentiles: (0..PERCENTILES_MAX.min(percentiles.into()))
                .map(percentile)
                .collect::<Option<_>>()?,
            weight: Weight::new(weight),
            ewma: (has_ewma == 1).then_some(ewma as i64),
            rate: (time_ns > 0).then_some(Rate { change: change as i64, time_ns }),
            limits: Limits::from_bytes(&get(b, LIMITS_AT)),
            alarm: Alarm { on: Alarms::from_bits(on)?, changes, seq },
            stale: stale == 1,
        })
    }

    fn is_plausible(&self, n: u64) -> bool {
        let in_window = self.window.is_some();
        let empty = in_window && self.stats == Stats::default();
        let watched = self.limits.is_some() || self.alarm != Alarm::default() || self.stale;
        (empty || self.stats.is_plausible())
            && self.alarm.is_plausible(self.limits.as_ref(), n)
            && !(in_window && watched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Entry, Reason};
    use crate::limits::{Limit, Slope};

    fn settings() -> Settings {
        let window = |unit, size, step| Window::new(unit, size, step).unwrap();
        Settings {
            percentiles: [50, 0, 100].map(|p| Percentile::new(p * 1_000_000).unwrap()).to_vec(),
            ewma: Weight::new(1 << 31),
            windows: vec![
                window(Unit::Time, 20, 10),
                window(Unit::Samples, 1, 1),
                window(Unit::Time, 1000, 1000),
            ],
            limits: Vec::new(),
        }
    }

    fn fold(settings: &Settings, channels: u16) -> Fold {
        let mut fold = Fold::with(settings);
        fold.fold(&Entry::epoch(1, 3, 5)).unwrap();
        fold.fold(&Entry::loss(2, 3, 7, Reason::Bad, 4)).unwrap();
        for (i, channel) in (0..channels).chain(0..channels).enumerate() {
            let t_ns = if i < channels as usize { 19 } else { 70 };
            let value = i32::MIN + channel as i32;
            fold.fold(&Entry::sample(fold.n + 1, 3, t_ns, channel, value)).unwrap();
        }
        fold
    }

    fn snapshot(channels: u16) -> Snapshot {
        Snapshot::of(&fold(&Settings::default(), channels), 77, 0xfeed)
    }

    fn full(channels: u16) -> Snapshot {
        Snapshot::of(&fold(&settings(), channels), 77, 0xfeed)
    }

    fn sealed(mut row: Vec<u8>) -> Vec<u8> {
        let crc = crc32c::crc32c(&row[..CRC_AT]);
        put(&mut row, CRC_AT, crc.to_le_bytes());
        row
    }

    #[test]
    fn what_goes_in_comes_out() {
        for channels in [0, 1, 2, 32] {
            for (snapshot, rows) in [(snapshot(channels), 1), (full(channels), 4)] {
                let mut slot = snapshot.encode();
                assert_eq!(slot.len(), ROW_LEN * (channels as usize * rows).max(1));
                slot.resize(SLOT_LEN, 0xaa);
                assert_eq!(Snapshot::decode(&slot).as_ref(), Ok(&snapshot));
                let asked = if rows == 4 && channels > 0 { settings() } else { Settings::default() };
                assert_eq!(snapshot.settings(), asked);
            }
        }
    }

    #[test]
    fn offsets_are_as_documented() {
        let row = snapshot(1).encode();
        assert_eq!(get_u64(&row, 0), 4);
        assert_eq!(get_u64(&row, 8), 77);
        assert_eq!((get_u32(&row, 16), get_u16(&row, 20), get_u16(&row, 22)), (3, 0, 1));
        assert_eq!(get_u64(&row, 24), 2);
        assert_eq!(i128::from_le_bytes(get(&row, 32)), i32::MIN as i128 * 2);
        assert_eq!(u128::from_le_bytes(get(&row, 48)), 1 << 63);
        assert_eq!(row[64..80], [[0, 0, 0, 0x80]; 4].concat());
        assert_eq!(get_u64(&row, 80), 70);
        assert_eq!([88, 96, 104, 112, 120, 136].map(|at| get_u64(&row, at)), [0, 0, 4, 0, 0, 0xfeed]);
        assert_eq!([264, 272].map(|at| get_u64(&row, at)), [0, 51]);
        assert_eq!(get_u16(&snapshot(0).encode(), 20), NO_CHANNEL);
        let silent = Snapshot { silent: true, ..snapshot(0) };
        assert_eq!((silent.encode()[281], Snapshot::decode(&silent.encode())), (1, Ok(silent)));
        assert_eq!((slot_at(4), slot_at(5)), (4096, 86_016));
        assert_eq!((slot_at(1) + SLOT_LEN, REGISTER_LEN), (REGISTER_LEN, 167_936));
        // With everything: the row since the start and that of the first window, 40..60 at t = 70 is empty.
        let rows = full(1).encode();
        let (total, window) = (&rows[..ROW_LEN], &rows[ROW_LEN..2 * ROW_LEN]);
        assert_eq!(total[144..150], [0, 0, 3, 0, 1, 1]);
        assert_eq!([184, 188, 192].map(|at| get_u32(total, at)), [50_000_000, 0, 100_000_000]);
        assert_eq!([216, 220, 224].map(|at| get_u32(total, at)), [0x8000_0000; 3]);
        assert_eq!([248, 256].map(|at| get_u64(total, at)), [1 << 31, 1 << 63]);
        assert_eq!(window[144..150], [1, 1, 3, 1, 0, 0]);
        assert_eq!([24, 152, 160, 168, 176].map(|at| get_u64(window, at)), [0, 20, 10, 50, 70]);
        // One that is not closed yet.
        assert_eq!([168, 176].map(|at| get_u64(&rows, 3 * ROW_LEN + at)), [0, 0]);
        let limits =
            Limits { high: Limit::above(10, 7), low: Limit::below(-9, -8), rate: Slope::new(3, 2), hits: 5 };
        let mut alarmed = full(1);
        let alarm = Alarm { on: Alarms::from_bits(3).unwrap(), changes: 2, seq: 4 };
        alarmed.rows[0] = Row { limits: Some(limits), alarm, stale: true, ..alarmed.rows[0].clone() };
        let bytes = alarmed.encode();
        assert_eq!((bytes[280], bytes[281], get_u64(&bytes, 288), get_u64(&bytes, 296)), (3, 1, 2, 4));
        assert_eq!((bytes[304], bytes[305], get_u32(&bytes, 308)), (1, 2, 5));
        assert_eq!([312, 316, 320, 324].map(|at| get_u32(&bytes, at) as i32), [10, 7, -9, -8]);
        assert_eq!([328, 336].map(|at| get_u64(&bytes, at)), [3, 2]);
        assert_eq!(Snapshot::decode(&bytes), Ok(alarmed));
    }

    #[test]
    fn the_version_says_where_the_snapshot_stands() {
        let mut register = vec![0; REGISTER_LEN];
        put(&mut register, 0, header());
        assert_eq!(present(&register), Ok(None));
        put(&mut register, VERSION_AT, 77u64.to_le_bytes());
        assert_eq!(present(&register), Err(SnapshotError::Rows));
        let rows = snapshot(2).encode();
        register[slot_at(77)..][..rows.len()].copy_from_slice(&rows);
        assert_eq!(present(&register), Ok(Some(snapshot(2))));
        put(&mut register, VERSION_AT, 79u64.to_le_bytes());
        assert_eq!(present(&register), Err(SnapshotError::Contradiction { row: 0 }));
        assert_eq!(present(&register[..100]), Err(SnapshotError::Header));
        assert_eq!(present(&[]), Err(SnapshotError::Header));
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let good = full(1).encode();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Snapshot::decode(&bad).is_err(), "bit {bit}");
        }
        for len in 0..good.len() {
            assert!(Snapshot::decode(&good[..len]).is_err(), "length {len}");
        }
        assert_eq!(check_header(&header()), Ok(()));
        assert_eq!(check_header(&header()[..63]), Err(SnapshotError::Header));
    }

    #[test]
    fn rows_of_two_snapshots_are_no_snapshot() {
        let mut older = snapshot(2);
        older.version = 75;
        let mixed = [&older.encode()[..ROW_LEN], &snapshot(2).encode()[ROW_LEN..]].concat();
        assert_eq!(Snapshot::decode(&mixed), Err(SnapshotError::Contradiction { row: 1 }));
    }

    #[test]
    fn rows_in_another_order_are_no_snapshot() {
        let changed = |change: fn(&mut Vec<Row>)| {
            let mut snapshot = full(2);
            change(&mut snapshot.rows);
            Snapshot::decode(&snapshot.encode())
        };
        assert!(changed(|_| ()).is_ok());
        let changes: [fn(&mut Vec<Row>); 6] = [
            |rows| rows.swap(1, 2),
            |rows| rows.swap(0, 4),
            |rows| drop(rows.pop()),
            |rows| rows[0].channel = 1,
            |rows| rows[5].channel = 0,
            |rows| rows.iter_mut().skip(4).for_each(|row| row.channel = 32),
        ];
        for change in changes {
            assert_eq!(changed(change), Err(SnapshotError::Impossible));
        }
    }

    #[test]
    fn right_crcs_do_not_make_nonsense_true() {
        let mut row = snapshot(1).encode();
        put(&mut row, 24, 0u64.to_le_bytes());
        assert_eq!(Snapshot::decode(&sealed(row)), Err(SnapshotError::Impossible));
        let mut row = snapshot(1).encode();
        row[400] = 1;
        assert_eq!(Snapshot::decode(&sealed(row)), Err(SnapshotError::Contradiction { row: 0 }));
        let mut row = snapshot(0).encode();
        put(&mut row, 24, 9u64.to_le_bytes());
        assert_eq!(Snapshot::decode(&sealed(row)), Err(SnapshotError::Contradiction { row: 0 }));
        let mut row = snapshot(1).encode();
        put(&mut row, 22, 161u16.to_le_bytes());
        assert_eq!(Snapshot::decode(&row.repeat(200)), Err(SnapshotError::Rows));
        for at in [144, 146, 147, 148, 149] {
            let mut row = snapshot(1).encode();
            row[at] = 9;
            assert!(Snapshot::decode(&sealed(row)).is_err(), "{at}");
        }
    }
}
