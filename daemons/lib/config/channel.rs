//! `[[channel]]`: what the samples of a row are, and what they are watched for.
#![forbid(unsafe_code)]

use super::document::{Document, Found, Section};
use super::fault::Place;
use super::read::{duration_in, or};
use super::{ChannelConfig, WatchConfig, units};
use crate::decimal::{DECIMALS_MAX, Decimal};
use crate::exact::{Conversion, Exact};
use crate::limits::{HITS_MAX, Limits};
use std::cmp::Ordering;
use std::ops::RangeInclusive;
use std::time::Duration;

const NAME_LEN_MAX: usize = 40;
const UNIT_LEN_MAX: usize = 16;
const STALE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(36_500 * 86_400);

/// All channels; `period` is the time from one sample to the next, where there is one and it could be read.
pub(super) fn channels(document: &mut Document, period: Option<Duration>) -> Vec<ChannelConfig> {
    let (mut channels, mut names) = (Vec::new(), Vec::new());
    for mut section in document.repeated("channel") {
        channels.push(channel(&mut section, &mut names, period));
        document.add(section.finish());
    }
    if channels.is_empty() {
        channels.push(ChannelConfig::default());
    }
    channels
}

/// `names` are those of the channels before this one, and then its own; `None` is one that could not be read.
fn channel(s: &mut Section, names: &mut Vec<Option<String>>, period: Option<Duration>) -> ChannelConfig {
    let default = ChannelConfig::default();
    // Names are printed and stand zero padded in segment headers.
    let short = |text: &str, range: RangeInclusive<usize>| {
        (range.contains(&text.len()) && !text.contains(char::is_control)).then(|| text.to_owned())
    };
    let name = s.text("name", "1 to 40 bytes, no control characters", |text| short(text, 1..=NAME_LEN_MAX));
    check_name(s, name.as_ref(), names);
    let unit =
        s.text("unit", "at most 16 bytes, no control characters", |text| short(text, 0..=UNIT_LEN_MAX));
    let decimals = s.int("decimals", 0..=DECIMALS_MAX);
    let scale = s.decimal("scale", " other than 0", |scale| scale.digits != 0);
    let offset = s.decimal("offset", "", |_| true);
    let (decimals, scale, offset) =
        (or(decimals, default.decimals), or(scale, default.scale), or(offset, default.offset));
    // What could not be read has its fault already, and limits would be judged by a default.
    let known = !s.is_faulty(&["decimals", "scale", "offset"]);
    let conversion = Conversion::new(decimals, scale, offset);
    let watch = watch(s, known.then_some(&conversion), period);
    ChannelConfig {
        name: or(name, default.name),
        unit: or(unit, default.unit),
        decimals,
        scale,
        offset,
        watch,
    }
}

/// What the channel is watched for; `conversion` only if it could be read.
fn watch(s: &mut Section, conversion: Option<&Conversion>, period: Option<Duration>) -> WatchConfig {
    let default = WatchConfig::default();
    let [high, low] = ["high", "low"].map(|key| s.decimal(key, "", |_| true));
    let max_rate = s.decimal("max_rate", " above 0", |rate| rate.digits > 0);
    let hysteresis = s.decimal("hysteresis", ", not below 0", |back| back.digits >= 0);
    let hits = s.int("hits", 1..=HITS_MAX);
    let stale =
        s.text("stale", "a duration from 100ms to 36500d, like \"10s\"", |text| duration_in(text, STALE));
    check_stale(s, stale.as_ref(), period);
    if !s.is_faulty(&["high", "low", "max_rate"]) {
        let [some_value, some_rate] = [high.is_some() || low.is_some(), max_rate.is_some()];
        needs(
            s,
            "hysteresis",
            hysteresis.as_ref().filter(|_| !some_value).map(|found| &found.place),
            "high or low",
        );
        let useless = hits.as_ref().filter(|_| !some_value && !some_rate).map(|found| &found.place);
        needs(s, "hits", useless, "high, low or max_rate");
    }
    let back = or(hysteresis, default.hysteresis);
    let limits = [("high", &high), ("low", &low)];
    for (key, found) in limits {
        check_limit(s, key, found.as_ref(), &back, conversion);
    }
    check_between(s, low.as_ref(), high.as_ref(), &back);
    let steep = |found: &&Found<Decimal>| conversion.is_some_and(|c| c.slope(&found.value).is_none());
    if let Some(found) = max_rate.as_ref().filter(steep) {
        let text = format!(
            "found {}, which with this scale is no fraction of 64 bits; allowed: one with fewer digits",
            found.value
        );
        s.fault(found.place.clone(), "max_rate", text);
    }
    WatchConfig {
        high: high.map(|found| found.value),
        low: low.map(|found| found.value),
        max_rate: max_rate.map(|found| found.value),
        hysteresis: back,
        hits: or(hits, default.hits),
        stale: stale.map(|found| found.value),
    }
}

/// A key that stands at `place` has no sense without others.
fn needs(s: &mut Section, key: &str, place: Option<&Place>, others: &str) {
    if let Some(place) = place {
        s.fault(place.clone(), key, format!("found it without a limit; allowed: with {others}"));
    }
}

/// A limit that no code is beyond would never say anything, and one that none is within would never stop.
fn check_limit(
    s: &mut Section,
    key: &'static str,
    found: Option<&Found<Decimal>>,
    back: &Decimal,
    conversion: Option<&Conversion>,
) {
    let (Some(Found { value, place }), Some(c)) = (found, conversion) else { return };
    let limit = if key == "high" { c.above(value, back) } else { c.below(value, back) };
    if limit.is_none() {
        let [a, b] = [i32::MIN, i32::MAX].map(|code| c.value(code).text(c.places()));
        let (least, most) = if c.is_rising() { (a, b) } else { (b, a) };
        let text = format!(
            "found {value} with hysteresis {back}; allowed: a limit that values from {least} to {most} can pass both ways"
        );
        s.fault(place.clone(), key, text);
    }
}

/// What has left one limit must be well within before it is beyond the other.
fn check_between(
    s: &mut Section,
    low: Option<&Found<Decimal>>,
    high: Option<&Found<Decimal>>,
    back: &Decimal,
) {
    let (Some(low), Some(high)) = (low, high) else { return };
    if Exact::sum(&low.value, back).partial_cmp(&high.value) != Some(Ordering::Less) {
        let text = format!(
            "found {} with high = {} and hysteresis {back}; allowed: below high by more than the hysteresis",
            low.value, high.value
        );
        s.fault(low.place.clone(), "low", text);
    }
}

/// Between two good samples a channel must not be stale.
fn check_stale(s: &mut Section, stale: Option<&Found<Duration>>, period: Option<Duration>) {
    let Some(Found { value, place }) = stale else { return };
    if let Some(period) = period.filter(|period| *value < *period * 2) {
        let [found, period] = [*value, period].map(units::show_duration);
        let text = format!("found {found} with a sample every {period}; allowed: at least twice that");
        s.fault(place.clone(), "stale", text);
    }
}

/// The limits in codes, of the channels that have some.
pub(super) fn limits(channels: &[ChannelConfig]) -> Vec<(u16, Limits)> {
    let each = (0u16..).zip(channels).map(|(number, channel)| (number, channel.limits()));
    each.filter(|(_, limits)| !limits.is_empty()).collect()
}

impl ChannelConfig {
    /// How its codes become physical values.
    pub fn conversion(&self) -> Conversion {
        Conversion::new(self.decimals, self.scale, self.offset)
    }

    /// What it is watched for, in codes.
    fn limits(&self) -> Limits {
        let (c, watch) = (self.conversion(), &self.watch);
        Limits {
            high: watch.high.and_then(|high| c.above(&high, &watch.hysteresis)),
            low: watch.low.and_then(|low| c.below(&low, &watch.hysteresis)),
            rate: watch.max_rate.and_then(|rate| c.slope(&rate)),
            hits: watch.hits,
        }
    }
}

/// Commands find a channel by its name.
fn check_name(s: &mut Section, name: Option<&Found<String>>, names: &mut Vec<Option<String>>) {
    if s.is_faulty(&["name"]) {
        return names.push(None);
    }
    let default = ChannelConfig::default().name;
    let (found, place) = name.map_or((&default, s.place()), |found| (&found.value, found.place.clone()));
    if let Some(number) = names.iter().position(|other| other.as_ref() == Some(found)) {
        let by_default = if name.is_some() { "" } else { " (the default)" };
        let text = format!(
            "found {found:?}{by_default}, the name of channel {number} too; allowed: another name for each channel"
        );
        s.fault(place, "name", text);
    }
    names.push(Some(found.clone()));
}
