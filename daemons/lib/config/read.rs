//! From sections to [`Config`]: each key's type, range and default, then what must hold between keys.
#![forbid(unsafe_code)]

use super::document::{Document, Found, Section};
use super::fault::{Fault, Place};
use super::{
    ChannelConfig, Config, ConvConfig, EdgeConfig, Format, LogConfig, Policy, Rate, ReportConfig,
    SpoolConfig, StatConfig, Sync, source, units,
};
use crate::address::Address;
use crate::decimal::DECIMALS_MAX;
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
const NAME_LEN_MAX: usize = 40;
const UNIT_LEN_MAX: usize = 16;

/// The value that was found, else the default.
fn or<T>(found: Option<Found<T>>, default: T) -> T {
    found.map_or(default, |found| found.value)
}

/// All of it, or all faults.
pub(super) fn config(mut document: Document) -> Result<Config, Vec<Fault>> {
    let d = &mut document;
    let (conv, channels) = (with(d, "conv", conv), channels(d));
    let config = Config {
        instance: with(d, "instance", instance),
        source: source::section(d, conv.rate, channels.len()),
        conv,
        spool: with(d, "spool", spool),
        edge: with(d, "edge", edge),
        log: with(d, "log", log),
        stat: stat_and_windows(d),
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
    ConvConfig {
        rate,
        policy: or(policy, Policy::default()),
        lock_step: or(lock_step, false),
        max_late: max_late.map(|found| found.value),
        count: or(s.int("count", 0..=i64::MAX as u64), 0),
        align: or(align, false),
        realtime: or(s.int("realtime", 0..=99), 0),
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
    let text = s.text("text", "a file, like \"samples.txt\"", |text| {
        (!text.is_empty() && !text.contains('\0')).then(|| PathBuf::from(text))
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
        text: text.map(|found| found.value),
        compress: or(s.flag("compress"), default.compress),
        keep_size: keep_size.map(|found| found.value),
        keep_time: keep_time.map(|found| found.value),
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
        windows: Vec::new(),
    };
    StatConfig { checkpoint: or(checkpoint, StatConfig::default().checkpoint), settings }
}

fn stat_and_windows(document: &mut Document) -> StatConfig {
    let mut config = with(document, "stat", stat);
    let torn = document.is_torn();
    for mut section in document.repeated("window") {
        config.settings.windows.extend(window(&mut section, torn));
        document.add(section.finish());
    }
    config
}

fn window(s: &mut Section, torn: bool) -> Option<Window> {
    let given = [s.has("size"), s.has("step")];
    let [size, step] =
        ["size", "step"].map(|key| s.text_or_int(key, LENGTH_ALLOWED, length_of_time, samples));
    if !given[0] && !torn {
        let place = step.as_ref().map_or(Place::Whole, |found| found.place.clone());
        s.fault(place, "size", format!("is missing, and a window needs it; allowed: {LENGTH_ALLOWED}"));
    }
    // What could not be read has its fault already.
    let size = size.filter(|_| given[1] == step.is_some())?;
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

fn length_of_time(text: &str) -> Option<(Unit, u64)> {
    let time = duration_in(text, Duration::from_micros(1)..=Duration::from_secs(10_000 * 3600))?;
    Some((Unit::Time, u64::try_from(time.as_nanos()).ok()?))
}

fn samples(number: i128) -> Option<(Unit, u64)> {
    Some((Unit::Samples, u64::try_from(number).ok().filter(|n| WINDOW_SAMPLES.contains(n))?))
}

fn duration_in(text: &str, range: RangeInclusive<Duration>) -> Option<Duration> {
    units::duration(text).filter(|duration| range.contains(duration))
}

fn report(s: &mut Section) -> ReportConfig {
    let default = ReportConfig::default();
    let formats = [("text", Format::Text), ("json", Format::Json), ("csv", Format::Csv)];
    ReportConfig {
        format: or(s.word("format", &formats), default.format),
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
