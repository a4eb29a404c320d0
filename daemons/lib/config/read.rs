//! From sections to [`Config`]: each key's type, range and default, then what must hold between keys.
#![forbid(unsafe_code)]

use super::document::{Document, Found, Section};
use super::fault::Fault;
use super::{
    Config, ConvConfig, EdgeConfig, Format, LogConfig, Policy, Rate, ReportConfig, SpoolConfig, StatConfig,
    Sync, channel, source, units,
};
use crate::address::Address;
use crate::names;
use crate::settings::{PERCENTILES_MAX, Percentile, Settings, Unit, Weight, Window};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// 1 MHz to 0.01 Hz.
const PERIOD_PS: RangeInclusive<u128> = 1_000_000..=100_000_000_000_000;
const SEGMENT: RangeInclusive<u64> = 64 << 10..=16 << 30;
const KEEP_SIZE: RangeInclusive<u64> = 1 << 20..=1 << 46;
const KEEP_TIME: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(36_500 * 86_400);
const CAPACITY: RangeInclusive<u64> = 256..=67_108_864;
const WINDOW_SAMPLES: RangeInclusive<u64> = 1..=1_000_000_000_000;
const LENGTH_ALLOWED: &str =
    "a duration from 1us to 10000h, like \"60s\", or a number of samples from 1 to 1000000000000";
const PERCENTILES_ALLOWED: &str =
    "at most 8 numbers from 0 to 100 with at most 6 digits after the point, like [50, 99.9]";

/// The value that was found, else the default.
pub(super) fn or<T>(found: Option<Found<T>>, default: T) -> T {
    found.map_or(default, |found| found.value)
}

/// All of it, or all faults.
pub(super) fn config(mut document: Document) -> Result<Config, Vec<Fault>> {
    let d = &mut document;
    let (conv, period) = with(d, "conv", conv);
    // Of a torn file what seems a default may only be unreadable.
    let torn = d.is_torn();
    let period = period.filter(|_| !torn);
    let awaited = period.filter(|_| conv.lock_step);
    let channels = channel::channels(d, period);
    let mut stat = stat_and_windows(d, period);
    stat.settings.limits = channel::limits(&channels);
    let config = Config {
        instance: with(d, "instance", instance),
        source: source::section(d, conv.rate, channels.len()),
        conv,
        spool: with(d, "spool", spool),
        edge: with(d, "edge", edge),
        log: with(d, "log", |s| log(s, awaited, torn)),
        stat,
        report: with(d, "report", report),
        channels,
    };
    let faults = document.into_faults();
    if faults.is_empty() { Ok(config) } else { Err(faults) }
}

fn with<T>(document: &mut Document, name: &'static str, read: impl FnOnce(&mut Section) -> T) -> T {
    let mut section = document.section(name);
    let value = read(&mut section);
    document.add(section.finish());
    value
}

fn instance(s: &mut Section) -> Option<String> {
    let good = |text: &str| names::check_instance(text).is_ok().then(|| text.to_owned());
    s.text("name", "1 to 32 of a-z A-Z 0-9 - _", good).map(|found| found.value)
}

/// With the time from tick to tick, where there is one and it could be read.
fn conv(s: &mut Section) -> (ConvConfig, Option<Duration>) {
    let rate = rate(s);
    let period = match rate {
        Rate::Every { period_ps } if !s.is_faulty(&["rate", "period"]) => {
            Some(Duration::from_nanos(period_ps / 1000))
        }
        _ => None,
    };
    let policy = s.word("policy", &[("block", Policy::Block), ("drop-newest", Policy::DropNewest)]);
    let lock_step = s.flag("lock_step");
    if let Some(Found { value: Policy::DropNewest, place }) = &policy {
        if rate == Rate::Max {
            let text = "found \"drop-newest\" with rate = \"max\", which would drop without end; \
                        allowed: \"block\", or a rate or period";
            s.fault(place.clone(), "policy", text.to_owned());
        }
        if lock_step.as_ref().is_some_and(|found| found.value) {
            let text = "found \"drop-newest\" with lock_step = true, which never lets the spool fill; \
                        allowed: one of the two";
            s.fault(place.clone(), "policy", text.to_owned());
        }
    }
    let align = s.flag("align");
    if let Some(Found { value: true, place }) = &align
        && rate == Rate::Max
    {
        let text = "found true with rate = \"max\", which has no ticks; allowed: a rate or period";
        s.fault(place.clone(), "align", text.to_owned());
    }
    let max_late = s.text("max_late", "a duration from 0s to 1h, like \"10ms\"", |text| {
        units::duration(text).filter(|late| *late <= Duration::from_secs(3600))
    });
    let conv = ConvConfig {
        rate,
        policy: or(policy, Policy::default()),
        lock_step: or(lock_step, false),
        max_late: max_late.map(|found| found.value),
        count: or(s.int("count", 0..=i64::MAX as u64), 0),
        align: or(align, false),
        realtime: or(s.int("realtime", 0..=99), 0),
    };
    (conv, period)
}

fn rate(s: &mut Section) -> Rate {
    match (s.is_set("period"), s.is_set("rate")) {
        (true, false) => s.set_aside(&["rate"]),
        (false, true) => s.set_aside(&["period"]),
        _ => {}
    }
    let both = s.has("period") && s.has("rate");
    let every = |period_ps: u128| u64::try_from(period_ps).ok().map(|period_ps| Rate::Every { period_ps });
    let period = s.text("period", "a duration from 1us to 100s in ns us ms s min, like \"800ms\"", |text| {
        units::period_ps(text).filter(|ps| PERIOD_PS.contains(ps)).and_then(every)
    });
    let allowed = "0.01 Hz to 1 MHz in mHz Hz kHz MHz or /s, like \"360 Hz\" or \"50/s\"; or \"max\"";
    let rate = s.text("rate", allowed, |text| match text {
        "max" => Some(Rate::Max),
        _ => units::rate_period_ps(text).and_then(every),
    });
    if let Some(found) = rate.as_ref().or(period.as_ref()).filter(|_| both) {
        let key = if rate.is_some() { "rate" } else { "period" };
        s.fault(found.place.clone(), key, "found both period and rate; allowed: one of the two".to_owned());
    }
    or(rate.or(period), Rate::default())
}

fn spool(s: &mut Section) -> SpoolConfig {
    let allowed = "a power of two from 256 to 67108864";
    let good = |capacity: &u64| capacity.is_power_of_two() && CAPACITY.contains(capacity);
    SpoolConfig { capacity: or(s.int_where("capacity", allowed, good), SpoolConfig::default().capacity) }
}

fn edge(s: &mut Section) -> EdgeConfig {
    let default = EdgeConfig::default();
    let mut seen: Vec<(&'static str, Address)> = Vec::new();
    let mut address = |key: &'static str, default: Address| {
        let Some(Found { value, place }) = address(s, key) else { return default };
        // Names differ by themselves, ports do not.
        let is_port = matches!(value, Address::Tcp(_) | Address::Udp(_));
        match seen.iter().find(|(_, other)| *other == value && is_port) {
            Some((other, _)) => {
                s.fault(
                    place,
                    key,
                    format!("found {value}, where edge.{other} is already; allowed: a port of its own"),
                );
            }
            None => seen.push((key, value)),
        }
        value
    };
    EdgeConfig {
        log: address("log", default.log),
        stat: address("stat", default.stat),
        report: address("report", default.report),
    }
}

fn address(s: &mut Section, key: &'static str) -> Option<Found<Address>> {
    let Found { value: text, place } = s.text(key, "\"mq:\"", |text| Some(text.to_owned()))?;
    match text.parse() {
        Ok(value) => Some(Found { value, place }),
        Err(error) => {
            let error: crate::address::AddressError = error;
            s.fault(place, key, error.to_string());
            None
        }
    }
}

/// `awaited`: each sample waits for the one before to be durable, so long after it.
fn log(s: &mut Section, awaited: Option<Duration>, torn: bool) -> LogConfig {
    let default = LogConfig::default();
    let sync =
        s.text("sync", "a duration from 1ms to 10s, like \"50ms\"; or \"always\"", |text| match text {
            "always" => Some(Sync::Always),
            _ => duration_in(text, Duration::from_millis(1)..=Duration::from_secs(10)).map(Sync::Every),
        });
    let segment = s.text("segment", "a size from 64KiB to 16GiB in B KiB MiB GiB, like \"64MiB\"", |text| {
        units::size(text).filter(|size| SEGMENT.contains(size))
    });
    check_sync(s, sync.as_ref(), awaited);
    let text = s.text("text", "a file, like \"samples.txt\"", |text| {
        (!text.is_empty() && !text.contains('\0')).then(|| PathBuf::from(text))
    });
    let keep_size =
        s.text("keep_size", "a size from 1MiB to 65536GiB in B KiB MiB GiB, like \"10GiB\"", |text| {
            units::size(text).filter(|size| KEEP_SIZE.contains(size))
        });
    check_text(s, text.as_ref());
    check_keep_size(s, keep_size.as_ref(), segment.as_ref(), torn);
    let keep_time =
        s.text("keep_time", "a duration from 1min to 36500d in s min h d, like \"30d\"", |text| {
            duration_in(text, KEEP_TIME)
        });
    LogConfig {
        sync: or(sync, default.sync),
        segment: or(segment, default.segment),
        text: text.map(|found| found.value),
        compress: or(s.flag("compress"), default.compress),
        keep_size: keep_size.map(|found| found.value),
        keep_time: keep_time.map(|found| found.value),
    }
}

/// With lock_step a sample is taken only once the last is durable: more often than log makes them so, most are missed.
fn check_sync(s: &mut Section, sync: Option<&Found<Sync>>, awaited: Option<Duration>) {
    let default = LogConfig::default().sync;
    let (value, place) = sync.map_or((default, s.place()), |found| (found.value, found.place.clone()));
    let Sync::Every(every) = value else { return };
    let awaited = awaited.filter(|_| !s.is_faulty(&["sync"]));
    if let Some(period) = awaited.filter(|period| *period < every) {
        let text = format!(
            "found {}{} with conv.lock_step = true and ticks every {}, of which most would be missed; \
             allowed: at most the period, or \"always\"",
            units::show_duration(every),
            if sync.is_some() { "" } else { " (the default)" },
            units::show_duration(period),
        );
        s.fault(place, "sync", text);
    }
}

/// The record is ipc-log's alone.
fn check_text(s: &mut Section, text: Option<&Found<PathBuf>>) {
    let here = std::env::current_dir().unwrap_or_default();
    if let Some(Found { place, .. }) = text.filter(|found| names::is_of_a_record(&here.join(&found.value))) {
        let text = "found a file in the directory of a record or of checkpoints; allowed: a file elsewhere";
        s.fault(place.clone(), "text", text.to_owned());
    }
}

/// The segment that is written always stays, and grows to its size: behind it something must have room.
fn check_keep_size(
    s: &mut Section,
    keep_size: Option<&Found<u64>>,
    segment: Option<&Found<u64>>,
    torn: bool,
) {
    if torn || s.is_faulty(&["segment"]) {
        return;
    }
    let by_default = if segment.is_some() { "" } else { " (the default)" };
    let segment = segment.map_or(LogConfig::default().segment, |found| found.value);
    if let Some(Found { value, place }) = keep_size.filter(|found| found.value < 2 * segment) {
        let [found, size, least] = [*value, segment, 2 * segment].map(units::show_size);
        let text = format!(
            "found {found} with segments of {size}{by_default}, of which the newest always stays; \
             allowed: at least {least}, or a smaller segment"
        );
        s.fault(place.clone(), "keep_size", text);
    }
}

fn stat(s: &mut Section) -> StatConfig {
    let checkpoint = s.text("checkpoint", "a duration from 10ms to 1h, like \"200ms\"", |text| {
        duration_in(text, Duration::from_millis(10)..=Duration::from_secs(3600))
    });
    let percentiles = s.decimals("percentiles", PERCENTILES_ALLOWED, Percentile::of);
    if let Some(found) = percentiles.as_ref().filter(|found| found.value.len() > PERCENTILES_MAX) {
        let text = format!("found {} of them; allowed: {PERCENTILES_ALLOWED}", found.value.len());
        s.fault(found.place.clone(), "percentiles", text);
    }
    let ewma = s.decimal("ewma", " from 0.000001 to 1", |weight| Weight::of(weight).is_some());
    let settings = Settings {
        percentiles: or(percentiles, Vec::new()),
        ewma: ewma.and_then(|found| Weight::of(&found.value)),
        ..Settings::default()
    };
    StatConfig { checkpoint: or(checkpoint, StatConfig::default().checkpoint), settings }
}

fn stat_and_windows(document: &mut Document, period: Option<Duration>) -> StatConfig {
    let mut config = with(document, "stat", stat);
    let torn = document.is_torn();
    for mut section in document.repeated("window") {
        config.settings.windows.extend(window(&mut section, torn, period));
        document.add(section.finish());
    }
    config
}

fn window(s: &mut Section, torn: bool, period: Option<Duration>) -> Option<Window> {
    let given = [s.has("size"), s.has("step")];
    let [size, step] =
        ["size", "step"].map(|key| s.text_or_int(key, LENGTH_ALLOWED, length_of_time, samples));
    if !given[0] && !torn {
        let place = step.as_ref().map_or(s.place(), |found| found.place.clone());
        s.fault(place, "size", format!("is missing, and a window needs it; allowed: {LENGTH_ALLOWED}"));
    }
    // What could not be read has its fault already.
    let size = size.filter(|_| given[1] == step.is_some())?;
    check_window(s, &size, period);
    let place = step.as_ref().unwrap_or(&size).place.clone();
    let (unit, size) = size.value;
    let (step_unit, step) = or(step, (unit, size));
    let window = Window::new(unit, size, step).filter(|_| unit == step_unit);
    if window.is_none() {
        let text = "found one of which size is no multiple; allowed: a step of the same kind as size, of which size is 1 to 64 times as much";
        s.fault(place, "step", text.to_owned());
    }
    window
}

/// A window of time that is shorter than the time between two samples is empty nearly always.
fn check_window(s: &mut Section, size: &Found<(Unit, u64)>, period: Option<Duration>) {
    let Found { value: (Unit::Time, ns), place } = size else { return };
    let size = Duration::from_nanos(*ns);
    if let Some(period) = period.filter(|period| size < *period) {
        let [size, period] = [size, period].map(units::show_duration);
        let text = format!(
            "found {size}, less than the {period} from one sample to the next; allowed: at least that"
        );
        s.fault(place.clone(), "size", text);
    }
}

fn length_of_time(text: &str) -> Option<(Unit, u64)> {
    let time = duration_in(text, Duration::from_micros(1)..=Duration::from_secs(10_000 * 3600))?;
    Some((Unit::Time, u64::try_from(time.as_nanos()).ok()?))
}

fn samples(number: i128) -> Option<(Unit, u64)> {
    Some((Unit::Samples, u64::try_from(number).ok().filter(|n| WINDOW_SAMPLES.contains(n))?))
}

pub(super) fn duration_in(text: &str, range: RangeInclusive<Duration>) -> Option<Duration> {
    units::duration(text).filter(|duration| range.contains(duration))
}

fn report(s: &mut Section) -> ReportConfig {
    let default = ReportConfig::default();
    let formats = [("text", Format::Text), ("json", Format::Json), ("csv", Format::Csv)];
    let format = s.word("format", &formats);
    let lines = s.int("max_lines_per_second", 1..=1000);
    let digits = s.int("digits", 0..=30);
    let command = s.program("command", "a program and its arguments, like [\"logger\", \"-t\", \"alarm\"]");
    let limit = s.text("command_limit", "a duration from 100ms to 10min, like \"10s\"", |text| {
        duration_in(text, Duration::from_millis(100)..=Duration::from_secs(600))
    });
    if let Some(found) = limit.as_ref().filter(|_| !s.is_faulty(&["command"]) && command.is_none()) {
        s.fault(
            found.place.clone(),
            "command_limit",
            "found it without a command; allowed: with one".to_owned(),
        );
    }
    ReportConfig {
        format: or(format, default.format),
        max_lines_per_second: or(lines, default.max_lines_per_second),
        digits: or(digits, default.digits),
        command: or(command, default.command),
        command_limit: or(limit, default.command_limit),
    }
}
