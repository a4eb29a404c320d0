//! From sections to [`Config`]: each key's type, range and default, then what must hold between keys.
#![forbid(unsafe_code)]

use super::document::{Document, Found, Section};
use super::fault::{Fault, Place};
use super::{
    ChannelConfig, Config, ConvConfig, EdgeConfig, LogConfig, OnBad, Policy, Rate, ReportConfig,
    SourceConfig, SpoolConfig, StatConfig, Sync, units,
};
use crate::address::Address;
use crate::decimal::DECIMALS_MAX;
use crate::names;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

const RANDOM_KEYS: [&str; 3] = ["min", "max", "seed"];
const RANDOM_MIN: i32 = 0;
const RANDOM_MAX: i32 = 100;
const LINES_KEYS: [&str; 2] = ["path", "on_bad"];
/// 1 MHz to 0.01 Hz.
const PERIOD_PS: RangeInclusive<u128> = 1_000_000..=100_000_000_000_000;
const SEGMENT: RangeInclusive<u64> = 64 << 10..=16 << 30;
const KEEP_SIZE: RangeInclusive<u64> = 1 << 20..=1 << 46;
const KEEP_TIME: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(36_500 * 86_400);
const CAPACITY: RangeInclusive<u64> = 256..=67_108_864;
const NAME_LEN_MAX: usize = 40;
const UNIT_LEN_MAX: usize = 16;

/// The value that was found, else the default.
fn or<T>(found: Option<Found<T>>, default: T) -> T {
    found.map_or(default, |found| found.value)
}

/// All of it, or all faults.
pub(super) fn config(mut document: Document) -> Result<Config, Vec<Fault>> {
    let d = &mut document;
    let config = Config {
        instance: with(d, "instance", instance),
        source: source_section(d),
        conv: with(d, "conv", conv),
        spool: with(d, "spool", spool),
        edge: with(d, "edge", edge),
        log: with(d, "log", log),
        stat: with(d, "stat", stat),
        report: with(d, "report", report),
        channels: channels(d),
    };
    cross_check(d, &config);
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

#[derive(Clone, Copy)]
enum Kind {
    Random,
    Lines,
}

fn source_section(document: &mut Document) -> SourceConfig {
    let torn = document.is_torn();
    with(document, "source", |s| source(s, torn))
}

fn source(s: &mut Section, torn: bool) -> SourceConfig {
    let (given, by_set) = (s.has("kind"), s.is_set("kind"));
    match s.word("kind", &[("random", Kind::Random), ("lines", Kind::Lines)]) {
        None if given => {
            // Which keys belong here depends on the kind; judging them without it would be guessing.
            s.skip(&RANDOM_KEYS);
            s.skip(&LINES_KEYS);
            SourceConfig::default()
        }
        Some(Found { value: Kind::Lines, place }) => {
            if by_set {
                s.set_aside(&RANDOM_KEYS);
            }
            s.refuse(&RANDOM_KEYS, "belongs to kind = \"random\", but here kind is \"lines\"; remove it");
            if !s.has("path") && !torn {
                let text =
                    "is missing, and kind = \"lines\" needs it; allowed: a file, or \"-\" for standard input";
                s.fault(place, "path", text.to_owned());
            }
            lines(s)
        }
        _ => {
            if by_set {
                s.set_aside(&LINES_KEYS);
            }
            s.refuse(&LINES_KEYS, "belongs to kind = \"lines\", but here kind is \"random\"; remove it");
            random(s)
        }
    }
}

fn lines(s: &mut Section) -> SourceConfig {
    let path = |text: &str| (!text.is_empty() && !text.contains('\0')).then(|| PathBuf::from(text));
    SourceConfig::Lines {
        path: or(s.text("path", "a file, or \"-\" for standard input", path), PathBuf::new()),
        on_bad: or(s.word("on_bad", &[("stop", OnBad::Stop), ("skip", OnBad::Skip)]), OnBad::default()),
    }
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

fn conv(s: &mut Section) -> ConvConfig {
    let rate = rate(s);
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
    let max_late = s.text("max_late", "a duration from 0s to 1h, like \"10ms\"", |text| {
        units::duration(text).filter(|late| *late <= Duration::from_secs(3600))
    });
    ConvConfig {
        rate,
        policy: or(policy, Policy::default()),
        lock_step: or(lock_step, false),
        max_late: max_late.map(|found| found.value),
        count: or(s.int("count", 0..=i64::MAX as u64), 0),
    }
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
    EdgeConfig { log: address(s, "log"), stat: address(s, "stat"), report: address(s, "report") }
}

fn address(s: &mut Section, key: &'static str) -> Address {
    let Some(Found { value: text, place }) = s.text(key, "\"shm:\"", |text| Some(text.to_owned())) else {
        return Address::Shm;
    };
    text.parse().unwrap_or_else(|error: crate::address::AddressError| {
        s.fault(place, key, error.to_string());
        Address::Shm
    })
}

fn log(s: &mut Section) -> LogConfig {
    let default = LogConfig::default();
    let sync =
        s.text("sync", "a duration from 1ms to 10s, like \"50ms\"; or \"always\"", |text| match text {
            "always" => Some(Sync::Always),
            _ => duration_in(text, Duration::from_millis(1)..=Duration::from_secs(10)).map(Sync::Every),
        });
    let segment = s.text("segment", "a size from 64KiB to 16GiB in B KiB MiB GiB, like \"64MiB\"", |text| {
        units::size(text).filter(|size| SEGMENT.contains(size))
    });
    let keep_size =
        s.text("keep_size", "a size from 1MiB to 65536GiB in B KiB MiB GiB, like \"10GiB\"", |text| {
            units::size(text).filter(|size| KEEP_SIZE.contains(size))
        });
    let keep_time =
        s.text("keep_time", "a duration from 1min to 36500d in s min h d, like \"30d\"", |text| {
            duration_in(text, KEEP_TIME)
        });
    LogConfig {
        sync: or(sync, default.sync),
        segment: or(segment, default.segment),
        compress: or(s.flag("compress"), default.compress),
        keep_size: keep_size.map(|found| found.value),
        keep_time: keep_time.map(|found| found.value),
    }
}

fn stat(s: &mut Section) -> StatConfig {
    let checkpoint = s.text("checkpoint", "a duration from 10ms to 1h, like \"200ms\"", |text| {
        duration_in(text, Duration::from_millis(10)..=Duration::from_secs(3600))
    });
    StatConfig { checkpoint: or(checkpoint, StatConfig::default().checkpoint) }
}

fn duration_in(text: &str, range: RangeInclusive<Duration>) -> Option<Duration> {
    units::duration(text).filter(|duration| range.contains(duration))
}

fn report(s: &mut Section) -> ReportConfig {
    let default = ReportConfig::default();
    ReportConfig {
        max_lines_per_second: or(s.int("max_lines_per_second", 1..=1000), default.max_lines_per_second),
        digits: or(s.int("digits", 0..=30), default.digits),
    }
}

fn channels(document: &mut Document) -> Vec<ChannelConfig> {
    let mut channels = Vec::new();
    for mut section in document.repeated("channel") {
        channels.push(channel(&mut section));
        document.add(section.finish());
    }
    if channels.is_empty() {
        channels.push(ChannelConfig::default());
    }
    channels
}

/// What must hold between sections.
fn cross_check(document: &mut Document, config: &Config) {
    let several = config.channels.len() > 1;
    if several && matches!(config.source, SourceConfig::Lines { .. }) {
        let text = "found several, and kind = \"lines\" gives one number a line; allowed: one [[channel]]";
        document.add(vec![Fault { place: Place::Whole, key: "channel".to_owned(), text: text.to_owned() }]);
    }
}

fn channel(s: &mut Section) -> ChannelConfig {
    let default = ChannelConfig::default();
    // Names are printed and stand zero padded in segment headers.
    let short = |text: &str, range: RangeInclusive<usize>| {
        (range.contains(&text.len()) && !text.contains(char::is_control)).then(|| text.to_owned())
    };
    let name = s.text("name", "1 to 40 bytes, no control characters", |text| short(text, 1..=NAME_LEN_MAX));
    let unit =
        s.text("unit", "at most 16 bytes, no control characters", |text| short(text, 0..=UNIT_LEN_MAX));
    let decimals = s.int("decimals", 0..=DECIMALS_MAX);
    let scale = s.decimal("scale", " other than 0", |scale| scale.digits != 0);
    let offset = s.decimal("offset", "", |_| true);
    ChannelConfig {
        name: or(name, default.name),
        unit: or(unit, default.unit),
        decimals: or(decimals, default.decimals),
        scale: or(scale, default.scale),
        offset: or(offset, default.offset),
    }
}
