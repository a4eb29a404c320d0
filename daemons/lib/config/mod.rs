//! The configuration: one TOML file and `--set section.key=value`, read into plain structs.
//!
//! Every fault is found in one go and says where it is, what was found and what is allowed. Every key, its
//! default and a sentence about it: config/pipeline.toml.
#![forbid(unsafe_code)]

mod channel;
mod document;
mod fault;
mod keys;
mod read;
mod source;
mod units;

pub use fault::{Fault, Faults, Place};
pub use source::{LineFormat, OnBad, SensorName, Sensors, Shape, SourceConfig, TURN, WaveConfig};

use crate::address::Address;
use crate::decimal::Decimal;
use crate::names::Role;
use crate::settings::Settings;
use crate::sys;
use document::Document;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

/// Largest file that is read as configuration, in bytes.
const FILE_LEN_MAX: u64 = 64 << 10;
/// Size of a segment's header and of an entry, in bytes (docs/formats.md, "Record").
const SEGMENT_HEADER_LEN: u64 = 4096;

/// The whole configuration. [`Config::default`] is the reference job: a random integer 0..=100 every 800 ms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[instance] name`; `None` means `u<uid>`. Already checked by [`crate::names::check_instance`].
    pub instance: Option<String>,
    /// `[source]`: where samples come from.
    pub source: SourceConfig,
    /// `[conv]`: when samples are taken.
    pub conv: ConvConfig,
    /// `[spool]`: the ring between conv and log.
    pub spool: SpoolConfig,
    /// `[edge]`: what carries the entries.
    pub edge: EdgeConfig,
    /// `[log]`: the durable record.
    pub log: LogConfig,
    /// `[stat]`: the statistics.
    pub stat: StatConfig,
    /// `[report]`: the printed lines.
    pub report: ReportConfig,
    /// `[[channel]]`: what the samples of a row are, in their order; 1 to 32.
    pub channels: Vec<ChannelConfig>,
}

/// When samples are taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConvConfig {
    /// The grid.
    pub rate: Rate,
    /// What happens to a sample when the spool is full.
    pub policy: Policy,
    /// Take the next sample only when the last is durable.
    pub lock_step: bool,
    /// How late a tick may be taken; later ones are missed. `None`: see [`ConvConfig::late_limit`].
    pub max_late: Option<Duration>,
    /// Stop after this many rows of the epoch; 0: never.
    pub count: u64,
    /// Ticks at whole multiples of the period by the wall clock.
    pub align: bool,
    /// Real-time priority, 1..=99; 0: none.
    pub realtime: u8,
}

impl ConvConfig {
    /// How late a tick may be taken: `max_late`, else one period but at least 10 ms. Has no meaning without
    /// a grid.
    pub fn late_limit(&self) -> Duration {
        let period = match self.rate {
            Rate::Every { period_ps } => Duration::from_nanos(period_ps / 1000),
            Rate::Max => Duration::ZERO,
        };
        self.max_late.unwrap_or(period.max(Duration::from_millis(10)))
    }
}

/// How often a sample is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// On a grid: tick k at `origin + floor(k * period_ps / 1000)` nanoseconds.
    Every {
        /// 10^6 (1 MHz) to 10^14 (0.01 Hz) picoseconds.
        period_ps: u64,
    },
    /// As fast as possible, without a grid.
    Max,
}

impl Default for Rate {
    fn default() -> Rate {
        Rate::Every { period_ps: 800_000_000_000 }
    }
}

/// What happens to a sample when the spool is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// The source waits.
    #[default]
    Block,
    /// The sample is dropped and counted.
    DropNewest,
}

/// The ring between conv and log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolConfig {
    /// Entries, a power of two from 256 to 67,108,864.
    pub capacity: u64,
}

/// Addresses of the receiving ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeConfig {
    /// conv to log.
    pub log: Address,
    /// conv to stat.
    pub stat: Address,
    /// stat to report.
    pub report: Address,
}

/// The durable record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// When entries are made durable.
    pub sync: Sync,
    /// Size of a whole segment, header included, in bytes: 64 KiB to 16 GiB.
    pub segment: u64,
    /// A plain text file with every durable sample.
    pub text: Option<PathBuf>,
    /// Compress segments that are no longer written.
    pub compress: bool,
    /// Remove the oldest segments while the files of the record are larger, in bytes: 1 MiB to 64 TiB. `None`: keep all.
    pub keep_size: Option<u64>,
    /// Remove segments whose entries are all older: 1 min to 36,500 d. `None`: keep all.
    pub keep_time: Option<Duration>,
}

impl LogConfig {
    /// Entries that fit a segment of this size behind its header.
    pub fn segment_entries(&self) -> u64 {
        self.segment.saturating_sub(SEGMENT_HEADER_LEN) / crate::entry::LEN as u64
    }
}

/// When entries are made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Together, after this time: 1 ms to 10 s.
    Every(Duration),
    /// At once, as soon as the disk has finished with the ones before.
    Always,
}

/// The statistics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatConfig {
    /// A checkpoint is written when a replay without it would take longer: 10 ms to 1 h.
    pub checkpoint: Duration,
    /// What is asked for beside the totals: `percentiles`, `ewma` and the `[[window]]` tables.
    pub settings: Settings,
}

/// The printed lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportConfig {
    /// For whom they are.
    pub format: Format,
    /// At most so many lines a second, 1..=1000; newer values win.
    pub max_lines_per_second: u32,
    /// Digits after the point of values that are no integers, 0..=30.
    pub digits: u8,
    /// A program and its arguments, run when an alarm begins or ends; empty: none.
    pub command: Vec<String>,
    /// It may take so long: 100 ms to 10 min.
    pub command_limit: Duration,
}

/// The form of the printed lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people: a line for each channel and window.
    #[default]
    Text,
    /// One object a snapshot.
    Json,
    /// A header, then a line for each channel and window.
    Csv,
}

/// What one sample of a row is: `physical value = (code / 10^decimals + offset) * scale`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelConfig {
    /// 1 to 40 bytes.
    pub name: String,
    /// At most 16 bytes.
    pub unit: String,
    /// Digits after the point that a code holds, 0..=9: with 4, 2.0018 is the code 20018.
    pub decimals: u8,
    /// Not 0.
    pub scale: Decimal,
    /// In units of the value before it is scaled.
    pub offset: Decimal,
    /// What it is watched for.
    pub watch: WatchConfig,
}

/// What makes the alarms of a channel; all in physical values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchConfig {
    /// A value above this is an alarm.
    pub high: Option<Decimal>,
    /// A value below this is one.
    pub low: Option<Decimal>,
    /// A faster change, a second, is one.
    pub max_rate: Option<Decimal>,
    /// By so much a value must come back behind `high` or `low` for the alarm to end.
    pub hysteresis: Decimal,
    /// So many samples in a row it takes to begin or end: 1 to 1,000,000.
    pub hits: u32,
    /// No sample for this time is an alarm: 100 ms to 36,500 d.
    pub stale: Option<Duration>,
}

impl Default for SpoolConfig {
    fn default() -> SpoolConfig {
        SpoolConfig { capacity: 65_536 }
    }
}

impl EdgeConfig {
    /// Where each role listens that is sent something.
    pub fn listeners(&self) -> [(Role, Address); 3] {
        [(Role::Log, self.log), (Role::Stat, self.stat), (Role::Report, self.report)]
    }
}

/// The three kinds of name at once: a queue, a segment, a path.
impl Default for EdgeConfig {
    fn default() -> EdgeConfig {
        EdgeConfig { log: Address::Mq, stat: Address::Shm, report: Address::Fifo }
    }
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig {
            sync: Sync::Every(Duration::from_millis(50)),
            segment: 64 << 20,
            text: None,
            compress: false,
            keep_size: None,
            keep_time: None,
        }
    }
}

impl Default for StatConfig {
    fn default() -> StatConfig {
        StatConfig { checkpoint: Duration::from_millis(200), settings: Settings::default() }
    }
}

impl Default for ReportConfig {
    fn default() -> ReportConfig {
        ReportConfig {
            format: Format::Text,
            max_lines_per_second: 10,
            digits: 6,
            command: Vec::new(),
            command_limit: Duration::from_secs(10),
        }
    }
}

impl Default for ChannelConfig {
    fn default() -> ChannelConfig {
        let (scale, offset) = (Decimal::ONE, Decimal::ZERO);
        let watch = WatchConfig::default();
        ChannelConfig { name: "value".to_owned(), unit: String::new(), decimals: 0, scale, offset, watch }
    }
}

impl Default for WatchConfig {
    fn default() -> WatchConfig {
        WatchConfig { high: None, low: None, max_rate: None, hysteresis: Decimal::ZERO, hits: 1, stale: None }
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            instance: None,
            source: SourceConfig::default(),
            conv: ConvConfig::default(),
            spool: SpoolConfig::default(),
            edge: EdgeConfig::default(),
            log: LogConfig::default(),
            stat: StatConfig::default(),
            report: ReportConfig::default(),
            channels: vec![ChannelConfig::default()],
        }
    }
}

impl Config {
    /// Reads the file at `path`, if one is given, over the defaults, then each `section.key=value` of `sets`
    /// over the file.
    ///
    /// A set takes the place of the keys in the file that exclude it: `conv.rate` of `conv.period` and the
    /// other way round, `source.kind` of the keys of the other kind.
    pub fn load(path: Option<&Path>, sets: &[String]) -> Result<Config, Faults> {
        let name = path.map(|path| path.display().to_string());
        let whole = |text| Fault { place: Place::Whole, key: String::new(), text };
        let text = match path.map(read_file).transpose() {
            Ok(text) => text.unwrap_or_default(),
            Err((text, momentary)) => return Err(Faults::unread(name, whole(text), momentary)),
        };
        read::config(Document::read(&text, sets)).map_err(|faults| Faults::new(name, faults))
    }

    /// How late a tick may be taken. A source that is read at each tick gives the newest of those that are due
    /// and no older one, or a reading would stand at instants when nobody read.
    pub fn late_limit(&self) -> Duration {
        match self.conv.rate {
            Rate::Every { period_ps } if self.source.is_live() => {
                self.conv.late_limit().min(Duration::from_nanos((period_ps / 1000).saturating_sub(1)))
            }
            _ => self.conv.late_limit(),
        }
    }

    /// The number that stands for the source in SOURCE entries: 48 bits of its kind and of what decides its
    /// samples (docs/formats.md, "Identity of a source"). Paths count as given, made absolute by the working
    /// directory but not resolved further.
    ///
    /// Frozen: records hold it, and a source with another number does not go on where this one ended.
    ///
    /// # Errors
    /// The working directory cannot be asked for now.
    pub fn identity_of_source(&self) -> std::io::Result<u64> {
        let directory = match std::env::current_dir() {
            // Without a working directory a relative path stands for itself.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => PathBuf::new(),
            asked => asked?,
        };
        Ok(self.identity_in(&directory))
    }
}

/// A duration as users write it: a number with a unit, `2.5ms`, `10s`, `1h`.
pub fn duration(text: &str) -> Option<Duration> {
    units::duration(text)
}

/// The same the other way round.
pub fn show_duration(duration: Duration) -> String {
    units::show_duration(duration)
}

/// Its text; or what is wrong, and whether that is only so for a moment.
fn read_file(path: &Path) -> Result<String, (String, bool)> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path);
    file.and_then(|file| file.take(FILE_LEN_MAX + 1).read_to_end(&mut bytes)).map_err(|error| {
        let text = format!("cannot read this file: {error}; name another one with --config");
        (text, sys::is_momentary(&error))
    })?;
    if bytes.len() as u64 > FILE_LEN_MAX {
        let text = "is larger than 64 KiB, so surely no configuration; name another one with --config";
        return Err((text.to_owned(), false));
    }
    let not_utf8 = |byte| format!("is no UTF-8 text from byte {byte} on");
    String::from_utf8(bytes).map_err(|error| (not_utf8(error.utf8_error().valid_up_to() + 1), false))
}

#[cfg(test)]
mod tests;
