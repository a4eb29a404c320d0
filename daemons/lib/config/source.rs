//! `[source]`: what each kind of source may be told, and the number that stands for a source in the record.
#![forbid(unsafe_code)]

use super::document::{Document, Found, Section};
use super::fault::Place;
use super::{Config, Rate, units};
use crate::decimal::Decimal;
use crate::entry::WIDE_MAX;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const RANDOM_MIN: i32 = 0;
const RANDOM_MAX: i32 = 100;
/// 1 kHz: each tick wakes conv and reads files.
const LIVE_PERIOD_PS_MIN: u64 = 1_000_000_000;
const MILLIHERTZ: RangeInclusive<u64> = 1..=1_000_000_000;
/// Picoseconds times millihertz in one turn.
pub const TURN: u128 = 1_000_000_000_000_000;

/// The kinds with their keys.
const KINDS: [(&str, Kind, &[&str]); 8] = [
    ("random", Kind::Random, &["min", "max", "seed"]),
    ("wave", Kind::Wave, &["shape", "amplitude", "frequency", "bits", "phase"]),
    ("lines", Kind::Lines, &["path", "columns", "separator", "comment", "header", "on_bad"]),
    ("command", Kind::Command, &["command", "columns", "separator", "comment", "header", "on_bad"]),
    ("poll", Kind::Poll, &["files", "columns"]),
    ("hwmon", Kind::Hwmon, &["sensors", "root"]),
    ("iio", Kind::Iio, &["sensors", "root"]),
    ("replay", Kind::Replay, &["path", "speed", "on_bad"]),
];

/// Where samples come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceConfig {
    /// Uniform random integers.
    Random {
        /// Smallest value.
        min: i32,
        /// Largest value, at least `min`.
        max: i32,
        /// Same seed, same samples; 0..=2^63 - 1. `None`: conv picks one.
        seed: Option<u64>,
    },
    /// A computed wave, as a converter would see it.
    Wave(WaveConfig),
    /// A text with one row of numbers a line.
    Lines {
        /// A file or a FIFO; `-` is standard input. A relative path starts where the daemon was started.
        path: PathBuf,
        /// How a line is cut.
        format: LineFormat,
        /// What a bad line does.
        on_bad: OnBad,
    },
    /// The lines that a program prints; it is started again whenever it ends.
    Command {
        /// The program, searched in `PATH` if it has no `/`, and its arguments; at least one text.
        command: Vec<String>,
        /// How a line is cut.
        format: LineFormat,
        /// What a bad line does.
        on_bad: OnBad,
    },
    /// Numbers in files, read at each tick.
    Poll {
        /// One file for all channels or one for each.
        files: Vec<PathBuf>,
        /// Which word of the file, from 1, by channel.
        columns: Vec<u16>,
    },
    /// Sensors of the kernel's hardware monitoring, read at each tick.
    Hwmon(Sensors),
    /// Channels of the kernel's industrial I/O, read at each tick.
    Iio(Sensors),
    /// The samples of a record or of an export.
    Replay {
        /// A directory or a CSV file.
        path: PathBuf,
        /// How many times faster than the original; more than 0. `None`: as fast as conv takes them.
        speed: Option<Decimal>,
        /// What a row that is torn does.
        on_bad: OnBad,
    },
}

/// A computed wave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaveConfig {
    /// Its form.
    pub shape: Shape,
    /// Its peak in codes, 1..=2^31 - 1.
    pub amplitude: i32,
    /// In thousandths of a hertz: 1 mHz to 1 MHz, at most half the rate.
    pub frequency_mhz: u64,
    /// The converter has so many bits, 2..=32: what is beyond them is cut off.
    pub bits: u8,
    /// Degrees by which each channel is ahead of the one before, 0..=359.
    pub phase: u16,
}

/// The form of a wave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Begins at 0 and rises.
    Sine,
    /// Half a turn high, half a turn low.
    Square,
    /// Begins at 0 and rises.
    Triangle,
    /// Begins at 0, rises to the peak, and falls to the bottom at once.
    Sawtooth,
    /// Uniform between bottom and peak; has no frequency.
    Noise,
}

/// How a line of text is cut into numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineFormat {
    /// Which column each channel takes, from 1. Empty: a line has exactly one for each channel.
    pub columns: Vec<u16>,
    /// What stands between two columns. `None`: a comma, a semicolon, a tab, or blanks.
    pub separator: Option<char>,
    /// Lines that begin so are left out, and blank ones. `None`: no line is.
    pub comment: Option<String>,
    /// The first line is left out.
    pub header: bool,
}

/// Sensors by stable names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sensors {
    /// One for each channel.
    pub sensors: Vec<SensorName>,
    /// Where the kernel's tree of devices is: `/sys`.
    pub root: PathBuf,
}

/// A sensor by names that stay when numbers change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SensorName {
    /// The name that the driver gives: `coretemp`.
    pub chip: String,
    /// The device behind it, where several have one name: `0000:01:00.0`.
    pub device: Option<String>,
    /// Label or channel: `Package id 0`, `temp1`, `in_voltage0`.
    pub label: String,
}

impl std::fmt::Display for SensorName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.device {
            Some(device) => write!(f, "{}@{device}/{}", self.chip, self.label),
            None => write!(f, "{}/{}", self.chip, self.label),
        }
    }
}

impl SensorName {
    /// `chip/label` or `chip@device/label`.
    pub fn read(text: &str) -> Option<SensorName> {
        let (chip, label) = text.split_once('/')?;
        let (chip, device) = match chip.split_once('@') {
            Some((chip, device)) => (chip, Some(device.to_owned())),
            None => (chip, None),
        };
        let good = !chip.is_empty() && !label.is_empty() && device.as_deref() != Some("");
        // The label may be part of a file's name.
        let good = good && !label.contains('/') && !text.contains(char::is_control);
        good.then(|| SensorName { chip: chip.to_owned(), device, label: label.to_owned() })
    }
}

/// What a row that is none does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnBad {
    /// It ends the source.
    #[default]
    Stop,
    /// It is counted and left out.
    Skip,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Random,
    Wave,
    Lines,
    Command,
    Poll,
    Hwmon,
    Iio,
    Replay,
}

impl Default for SourceConfig {
    fn default() -> SourceConfig {
        SourceConfig::Random { min: RANDOM_MIN, max: RANDOM_MAX, seed: None }
    }
}

impl SourceConfig {
    /// What a row that is none does.
    pub fn on_bad(&self) -> OnBad {
        match self {
            SourceConfig::Lines { on_bad, .. }
            | SourceConfig::Command { on_bad, .. }
            | SourceConfig::Replay { on_bad, .. } => *on_bad,
            _ => OnBad::Stop,
        }
    }

    /// Is it read at each tick? Then a reading belongs to the newest tick that is due, and to no older one.
    pub fn is_live(&self) -> bool {
        matches!(self, SourceConfig::Poll { .. } | SourceConfig::Hwmon(_) | SourceConfig::Iio(_))
    }
}

/// What the rest of the configuration says that a source must fit.
struct Frame {
    rate: Rate,
    channels: usize,
    /// The file has faults of form: what seems missing may only be unreadable.
    torn: bool,
}

impl Frame {
    /// `n` things where one for each channel is wanted.
    fn one_each(&self, n: usize) -> bool {
        n == self.channels
    }
}

pub(super) fn section(document: &mut Document, rate: Rate, channels: usize) -> SourceConfig {
    let frame = Frame { rate, channels, torn: document.is_torn() };
    let mut section = document.section("source");
    let source = source(&mut section, &frame);
    document.add(section.finish());
    source
}

fn source(s: &mut Section, frame: &Frame) -> SourceConfig {
    let (given, by_set) = (s.has("kind"), s.is_set("kind"));
    let kinds = KINDS.map(|(word, kind, _)| (word, kind));
    let found = s.word("kind", &kinds);
    if given && found.is_none() {
        // Which keys belong here depends on the kind; judging them without it would be guessing.
        KINDS.iter().for_each(|(_, _, keys)| s.skip(keys));
        return SourceConfig::default();
    }
    let place = found.as_ref().map(|found| found.place.clone()).unwrap_or(Place::Whole);
    let kind = found.map_or(Kind::Random, |found| found.value);
    refuse_others(s, kind, by_set);
    match kind {
        Kind::Random => random(s),
        Kind::Wave => wave(s, frame, place),
        Kind::Lines => lines(s, frame, place),
        Kind::Command => command(s, frame, place),
        Kind::Poll => poll(s, frame, place),
        Kind::Hwmon => SourceConfig::Hwmon(sensors(s, frame, place, "hwmon")),
        Kind::Iio => SourceConfig::Iio(sensors(s, frame, place, "iio")),
        Kind::Replay => replay(s, frame, place),
    }
}

/// Refuses the keys of other kinds; a kind given by `--set` puts those of the file aside instead.
fn refuse_others(s: &mut Section, kind: Kind, by_set: bool) {
    let own = KINDS.iter().find(|(_, k, _)| *k == kind);
    let Some((word, _, own)) = own else { return };
    for key in KINDS.iter().flat_map(|(_, _, keys)| *keys).filter(|key| !own.contains(key)) {
        if by_set {
            s.set_aside(&[key]);
        }
        let owners = KINDS.iter().filter(|(_, _, keys)| keys.contains(key));
        let owners: Vec<String> = owners.map(|(word, _, _)| format!("{word:?}")).collect();
        let owners = owners.join(" or ");
        s.refuse(&[key], &format!("belongs to kind = {owners}, but here kind is {word:?}; remove it"));
    }
}

/// A key without which the kind has no sense.
fn need(s: &mut Section, frame: &Frame, place: &Place, key: &str, kind: &str, allowed: &str) {
    if !s.has(key) && !frame.torn {
        let text = format!("is missing, and kind = {kind:?} needs it; allowed: {allowed}");
        s.fault(place.clone(), key, text);
    }
}

fn or<T>(found: Option<Found<T>>, default: T) -> T {
    found.map_or(default, |found| found.value)
}

fn random(s: &mut Section) -> SourceConfig {
    let given = [s.has("min"), s.has("max")];
    let min = s.int("min", i32::MIN..=i32::MAX);
    let max = s.int("max", i32::MIN..=i32::MAX);
    let seed = s.int("seed", 0..=i64::MAX as u64).map(|found| found.value);
    // A bound that could not be read has its fault already; comparing its default would invent another.
    if given == [min.is_some(), max.is_some()] {
        check_order(s, min.as_ref(), max.as_ref());
    }
    SourceConfig::Random { min: or(min, RANDOM_MIN), max: or(max, RANDOM_MAX), seed }
}

fn check_order(s: &mut Section, min: Option<&Found<i32>>, max: Option<&Found<i32>>) {
    let low = min.map_or(RANDOM_MIN, |found| found.value);
    let high = max.map_or(RANDOM_MAX, |found| found.value);
    let Some(place) = max.or(min).map(|found| found.place.clone()) else { return };
    if low > high {
        let by_default = |found: Option<&Found<i32>>| if found.is_some() { "" } else { " (the default)" };
        let (low_by, high_by) = (by_default(min), by_default(max));
        let text = format!("found min = {low}{low_by} above max = {high}{high_by}; allowed: min at most max");
        s.fault(place, if max.is_some() { "max" } else { "min" }, text);
    }
}

fn wave(s: &mut Section, frame: &Frame, kind_place: Place) -> SourceConfig {
    let shapes = [
        ("sine", Shape::Sine),
        ("square", Shape::Square),
        ("triangle", Shape::Triangle),
        ("sawtooth", Shape::Sawtooth),
        ("noise", Shape::Noise),
    ];
    let shape = or(s.word("shape", &shapes), Shape::Sine);
    let frequency = s.text("frequency", "1 mHz to 1 MHz in mHz Hz kHz MHz or /s, like \"50 Hz\"", |text| {
        units::frequency_mhz(text).filter(|mhz| MILLIHERTZ.contains(mhz))
    });
    let wave = WaveConfig {
        shape,
        amplitude: or(s.int("amplitude", 1..=i32::MAX), 1000),
        frequency_mhz: frequency.as_ref().map_or(100, |found| found.value),
        bits: or(s.int("bits", 2..=32), 32),
        phase: or(s.int("phase", 0..=359), 0),
    };
    let place = frequency.map_or(kind_place.clone(), |found| found.place);
    match frame.rate {
        Rate::Max => {
            let text = "found \"wave\" with conv.rate = \"max\", where time has no step; allowed: a period or a rate";
            s.fault(kind_place, "kind", text.to_owned());
        }
        Rate::Every { period_ps }
            if shape != Shape::Noise && u128::from(period_ps) * u128::from(wave.frequency_mhz) * 2 > TURN =>
        {
            let text =
                "found more than half of conv's rate, which looks like a lower one; allowed: at most half";
            s.fault(place, "frequency", text.to_owned());
        }
        Rate::Every { .. } => {}
    }
    SourceConfig::Wave(wave)
}

fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty() && !text.contains('\0')).then(|| PathBuf::from(text))
}

fn on_bad(s: &mut Section) -> OnBad {
    or(s.word("on_bad", &[("stop", OnBad::Stop), ("skip", OnBad::Skip)]), OnBad::default())
}

fn lines(s: &mut Section, frame: &Frame, place: Place) -> SourceConfig {
    let allowed = "a file, or \"-\" for standard input";
    need(s, frame, &place, "path", "lines", allowed);
    let path = or(s.text("path", allowed, path), PathBuf::new());
    SourceConfig::Lines { path, format: line_format(s, frame), on_bad: on_bad(s) }
}

fn command(s: &mut Section, frame: &Frame, place: Place) -> SourceConfig {
    let allowed = "a program and its arguments, like [\"sensor\", \"-v\"]";
    need(s, frame, &place, "command", "command", allowed);
    let command = or(s.program("command", allowed), Vec::new());
    SourceConfig::Command { command, format: line_format(s, frame), on_bad: on_bad(s) }
}

fn line_format(s: &mut Section, frame: &Frame) -> LineFormat {
    let columns = columns(s, frame);
    let separator = s.text("separator", "one character, no letter, digit, sign or point", |text| {
        let mut all = text.chars();
        let one = all.next().filter(|_| all.next().is_none())?;
        let in_numbers = one.is_ascii_alphanumeric() || "+-.\r\n".contains(one);
        (one.is_ascii() && !in_numbers).then_some(one)
    });
    let comment = s.text("comment", "1 to 8 characters without blanks, like \"#\"", |text| {
        let blank = |c: char| c.is_whitespace() || c.is_control();
        ((1..=8).contains(&text.len()) && !text.contains(blank)).then(|| text.to_owned())
    });
    LineFormat {
        columns,
        separator: separator.map(|found| found.value),
        comment: comment.map(|found| found.value),
        header: or(s.flag("header"), false),
    }
}

fn columns(s: &mut Section, frame: &Frame) -> Vec<u16> {
    let Some(Found { value, place }) = s.ints("columns", 1..=999) else { return Vec::new() };
    if !frame.one_each(value.len()) {
        s.fault(place, "columns", wrong_number(value.len(), frame.channels));
    }
    value
}

fn wrong_number(found: usize, channels: usize) -> String {
    format!("found {found} for {channels} [[channel]]; allowed: one for each channel, in their order")
}

/// A source that is read at each tick needs ticks, and time to read.
fn check_live(s: &mut Section, frame: &Frame, place: &Place, kind: &str) {
    let found = match frame.rate {
        Rate::Every { period_ps } if period_ps >= LIVE_PERIOD_PS_MIN => return,
        Rate::Every { .. } => "a rate above 1 kHz",
        Rate::Max => "conv.rate = \"max\"",
    };
    let text =
        format!("found {kind:?}, which is read at each tick, with {found}; allowed: a rate up to 1 kHz");
    s.fault(place.clone(), "kind", text);
}

fn poll(s: &mut Section, frame: &Frame, place: Place) -> SourceConfig {
    let allowed = "files, like [\"/proc/loadavg\"]";
    check_live(s, frame, &place, "poll");
    need(s, frame, &place, "files", "poll", allowed);
    let files = match s.texts("files", allowed, path) {
        Some(Found { value, place }) => {
            if value.len() != 1 && !frame.one_each(value.len()) {
                let text = wrong_number(value.len(), frame.channels) + ", or one file for all";
                s.fault(place, "files", text);
            }
            value
        }
        None => Vec::new(),
    };
    let columns = columns(s, frame);
    let columns = if columns.is_empty() { vec![1; frame.channels] } else { columns };
    SourceConfig::Poll { files, columns }
}

fn sensors(s: &mut Section, frame: &Frame, place: Place, kind: &str) -> Sensors {
    let allowed = match kind {
        "iio" => "names like \"ads1015/in_voltage0\", or with the device, \"ads1015@1-0048/in_voltage0\"",
        _ => "names like \"coretemp/Package id 0\", or with the device, \"nvme@0000:01:00.0/Composite\"",
    };
    check_live(s, frame, &place, kind);
    need(s, frame, &place, "sensors", kind, allowed);
    let sensors = match s.texts("sensors", allowed, SensorName::read) {
        Some(Found { value, place }) => {
            if !frame.one_each(value.len()) {
                s.fault(place, "sensors", wrong_number(value.len(), frame.channels));
            }
            value
        }
        None => Vec::new(),
    };
    Sensors { sensors, root: or(s.text("root", "a directory", path), PathBuf::from("/sys")) }
}

fn replay(s: &mut Section, frame: &Frame, place: Place) -> SourceConfig {
    let allowed = "a CSV file of `ipc-pipeline export`, or the directory of a record";
    need(s, frame, &place, "path", "replay", allowed);
    let path = or(s.text("path", allowed, path), PathBuf::new());
    let speed = s.decimal("speed", " above 0", |speed| speed.digits > 0);
    if let Some(Found { place, .. }) = speed.as_ref().filter(|_| frame.rate != Rate::Max) {
        let text = "found the original times with a rate of conv's own; allowed: with conv.rate = \"max\"";
        s.fault(place.clone(), "speed", text.to_owned());
    }
    SourceConfig::Replay { path, speed: speed.map(|found| found.value), on_bad: on_bad(s) }
}

impl LineFormat {
    /// What is not as by default, for the identity.
    fn identity(&self) -> String {
        let mut text = String::new();
        if !self.columns.is_empty() {
            let columns: Vec<String> = self.columns.iter().map(u16::to_string).collect();
            text += &format!("columns={} ", columns.join(","));
        }
        if let Some(separator) = self.separator {
            text += &format!("separator={} ", u32::from(separator));
        }
        if let Some(comment) = &self.comment {
            text += &format!("comment={comment} ");
        }
        text + if self.header { "header " } else { "" }
    }
}

impl Config {
    /// [`Config::identity_of_source`] with this working directory.
    pub(super) fn identity_in(&self, directory: &Path) -> u64 {
        let decimals: Vec<String> = self.channels.iter().map(|c| c.decimals.to_string()).collect();
        let (decimals, channels) = (decimals.join(","), self.channels.len());
        // By components, so that `./a` and `a` are one.
        let absolute = |path: &Path| -> PathBuf { directory.join(path).components().collect() };
        let with_paths = |head: String, paths: &[PathBuf]| {
            let paths: Vec<PathBuf> = paths.iter().map(|path| absolute(path)).collect();
            let paths: Vec<&[u8]> = paths.iter().map(|path| path.as_os_str().as_bytes()).collect();
            [head.as_bytes(), &paths.join(&0)].concat()
        };
        let with_names = |head: Vec<u8>, names: &[String]| [head, names.join("\0").into_bytes()].concat();
        let text = match &self.source {
            SourceConfig::Random { min, max, seed } => {
                let seed = seed.map_or_else(|| "none".to_owned(), |seed| seed.to_string());
                let channels = if channels == 1 { String::new() } else { format!(" {channels}") };
                format!("random {min} {max} {seed}{channels}").into_bytes()
            }
            SourceConfig::Wave(wave) => {
                let period_ps = match self.conv.rate {
                    Rate::Every { period_ps } => period_ps,
                    Rate::Max => 0,
                };
                let WaveConfig { shape, amplitude, frequency_mhz, bits, phase } = wave;
                let shape = format!("{shape:?}").to_lowercase();
                format!("wave {shape} {amplitude} {frequency_mhz} {bits} {phase} {period_ps} {channels}")
                    .into()
            }
            SourceConfig::Lines { path, format, .. } if path == Path::new("-") => {
                format!("lines {decimals} {}-", format.identity()).into_bytes()
            }
            SourceConfig::Lines { path, format, .. } => {
                with_paths(format!("lines {decimals} {}", format.identity()), std::slice::from_ref(path))
            }
            SourceConfig::Command { command, format, .. } => {
                with_names(format!("command {decimals} {}", format.identity()).into(), command)
            }
            SourceConfig::Poll { files, columns } => {
                let columns: Vec<String> = columns.iter().map(u16::to_string).collect();
                with_paths(format!("poll {decimals} {} ", columns.join(",")), files)
            }
            SourceConfig::Hwmon(sensors) => {
                let root = std::slice::from_ref(&sensors.root);
                with_names(with_paths(format!("hwmon {decimals} "), root), &sensors.names())
            }
            SourceConfig::Iio(sensors) => {
                let root = std::slice::from_ref(&sensors.root);
                with_names(with_paths(format!("iio {decimals} "), root), &sensors.names())
            }
            SourceConfig::Replay { path, .. } => {
                with_paths(format!("replay {decimals} "), std::slice::from_ref(path))
            }
        };
        fold48(&text)
    }
}

impl Sensors {
    /// The names, each with a zero byte before it.
    fn names(&self) -> Vec<String> {
        std::iter::once(String::new()).chain(self.sensors.iter().map(SensorName::to_string)).collect()
    }
}

/// FNV-1a of 64 bits, its upper 16 folded onto the lower 48.
fn fold48(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, step);
    (hash >> 48) ^ (hash & WIDE_MAX)
}
