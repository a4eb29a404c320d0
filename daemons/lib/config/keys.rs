//! The keys of a configuration with what they hold: in which of them two configurations differ, whom each key is for, and
//! which of them a running daemon takes over.
#![forbid(unsafe_code)]

use super::{
    ChannelConfig, Config, ConvConfig, EdgeConfig, LineFormat, LogConfig, ReportConfig, Sensors,
    SourceConfig, SpoolConfig, StatConfig, WatchConfig, WaveConfig,
};
use crate::names::Role;
use crate::settings::Settings;
use std::collections::BTreeMap;
use std::fmt::Debug;

/// Each key with a text for what it holds: another text, another value.
type Values = BTreeMap<&'static str, String>;

/// Where one of these is another one, the keys that begin so mean something else, too.
const LEADERS: [(&str, &str); 2] = [("source.kind", "source."), ("channel", "channel.")];

impl Config {
    /// The keys that `role` goes by and that hold something else in `other`, sorted. `conv.period` and `conv.rate` are one:
    /// `conv.period/rate`. `channel` stands for the number of channels, `window` for all windows.
    pub fn differences(&self, other: &Config, role: Role) -> Vec<&'static str> {
        let (ours, theirs) = (values(self), values(other));
        let differ = |key: &str| theirs.get(key).is_some_and(|text| Some(text) != ours.get(key));
        let follows = |key: &str| {
            LEADERS.iter().any(|(leader, keys)| key != *leader && key.starts_with(keys) && differ(leader))
        };
        let wanted = |key: &&str| differ(key) && !follows(key) && other.concerns(role, key);
        theirs.keys().copied().filter(wanted).collect()
    }

    /// This configuration with all that a running daemon of this role takes over from another one. Each of these keys has a
    /// meaning by itself, whatever the others hold.
    pub fn taking(&self, new: &Config, role: Role) -> Config {
        let mut config = self.clone();
        match role {
            Role::Conv => config.conv.max_late = new.conv.max_late,
            // Its text file and the size of its segments stay.
            Role::Log => {
                let (segment, text) = (self.log.segment, self.log.text.clone());
                config.log = LogConfig { segment, text, ..new.log.clone() };
            }
            Role::Stat => config.stat.checkpoint = new.stat.checkpoint,
            Role::Report => config.report = new.report.clone(),
        }
        config
    }

    /// Does a daemon of this role go by this key?
    fn concerns(&self, role: Role, key: &str) -> bool {
        let (section, name) = key.split_once('.').unwrap_or((key, ""));
        // What it removes it folds, for the summary.
        let folds = match role {
            Role::Conv => false,
            Role::Log => self.log.keep_size.is_some() || self.log.keep_time.is_some(),
            Role::Stat | Role::Report => true,
        };
        match (section, name) {
            ("source" | "conv" | "spool", _) => role == Role::Conv,
            ("log", _) => role == Role::Log,
            ("report", _) | ("stat", "checkpoint") => role.name() == section,
            ("stat" | "window", _) => folds,
            ("channel", "" | "decimals") => true,
            ("channel", "name" | "unit") => matches!(role, Role::Log | Role::Report),
            ("channel", "scale" | "offset") => role != Role::Conv,
            ("channel", _) => folds,
            ("edge", "report") => matches!(role, Role::Stat | Role::Report),
            ("edge", to) => role == Role::Conv || role.name() == to,
            _ => true,
        }
    }
}

/// All keys. Whoever adds a field must say here which key it is: nothing is left out by `..`.
fn values(config: &Config) -> Values {
    let Config { instance, source, conv, spool, edge, log, stat, report, channels } = config;
    let ConvConfig { rate, policy, lock_step, max_late, count, align, realtime } = conv;
    let SpoolConfig { capacity } = spool;
    let EdgeConfig { log: to_log, stat: to_stat, report: to_report } = edge;
    let LogConfig { sync, segment, text, compress, keep_size, keep_time } = log;
    let StatConfig { checkpoint, settings } = stat;
    // Limits are those of the channels.
    let Settings { percentiles, ewma, windows, limits: _ } = settings;
    let ReportConfig { format, max_lines_per_second, digits, command, command_limit } = report;
    let all: [(&'static str, &dyn Debug); 29] = [
        ("instance.name", instance),
        ("conv.period/rate", rate),
        ("conv.policy", policy),
        ("conv.lock_step", lock_step),
        ("conv.max_late", max_late),
        ("conv.count", count),
        ("conv.align", align),
        ("conv.realtime", realtime),
        ("spool.capacity", capacity),
        ("edge.log", to_log),
        ("edge.stat", to_stat),
        ("edge.report", to_report),
        ("log.sync", sync),
        ("log.segment", segment),
        ("log.text", text),
        ("log.compress", compress),
        ("log.keep_size", keep_size),
        ("log.keep_time", keep_time),
        ("stat.checkpoint", checkpoint),
        ("stat.percentiles", percentiles),
        ("stat.ewma", ewma),
        ("window", windows),
        ("report.format", format),
        ("report.max_lines_per_second", max_lines_per_second),
        ("report.digits", digits),
        ("report.command", command),
        ("report.command_limit", command_limit),
        ("channel", &channels.len()),
        ("source.kind", &kind(source)),
    ];
    let mut values: Values = all.into_iter().map(|(key, value)| (key, format!("{value:?}"))).collect();
    add_source(&mut values, source);
    channels.iter().for_each(|channel| add_channel(&mut values, channel));
    values
}

/// What one more of something repeated holds is written behind the others.
fn add(values: &mut Values, all: &[(&'static str, &dyn Debug)]) {
    for (key, value) in all {
        *values.entry(key).or_default() += &format!("{value:?};");
    }
}

const fn kind(source: &SourceConfig) -> &'static str {
    match source {
        SourceConfig::Random { .. } => "random",
        SourceConfig::Wave(_) => "wave",
        SourceConfig::Lines { .. } => "lines",
        SourceConfig::Command { .. } => "command",
        SourceConfig::Poll { .. } => "poll",
        SourceConfig::Hwmon(_) => "hwmon",
        SourceConfig::Iio(_) => "iio",
        SourceConfig::Replay { .. } => "replay",
    }
}

fn add_source(values: &mut Values, source: &SourceConfig) {
    match source {
        SourceConfig::Random { min, max, seed } => {
            add(values, &[("source.min", min), ("source.max", max), ("source.seed", seed)]);
        }
        SourceConfig::Wave(WaveConfig { shape, amplitude, frequency_mhz, bits, phase }) => {
            add(values, &[("source.shape", shape), ("source.amplitude", amplitude)]);
            add(
                values,
                &[("source.frequency", frequency_mhz), ("source.bits", bits), ("source.phase", phase)],
            );
        }
        SourceConfig::Lines { path, format, on_bad } => {
            add(values, &[("source.path", path), ("source.on_bad", on_bad)]);
            add_format(values, format);
        }
        SourceConfig::Command { command, format, on_bad } => {
            add(values, &[("source.command", command), ("source.on_bad", on_bad)]);
            add_format(values, format);
        }
        SourceConfig::Poll { files, columns } => {
            add(values, &[("source.files", files), ("source.columns", columns)]);
        }
        SourceConfig::Hwmon(Sensors { sensors, root }) | SourceConfig::Iio(Sensors { sensors, root }) => {
            add(values, &[("source.sensors", sensors), ("source.root", root)]);
        }
        SourceConfig::Replay { path, speed, on_bad } => {
            add(values, &[("source.path", path), ("source.speed", speed), ("source.on_bad", on_bad)]);
        }
    }
}

fn add_format(values: &mut Values, LineFormat { columns, separator, comment, header }: &LineFormat) {
    add(values, &[("source.columns", columns), ("source.separator", separator)]);
    add(values, &[("source.comment", comment), ("source.header", header)]);
}

fn add_channel(values: &mut Values, channel: &ChannelConfig) {
    let ChannelConfig { name, unit, decimals, scale, offset, watch } = channel;
    let WatchConfig { high, low, max_rate, hysteresis, hits, stale } = watch;
    add(values, &[("channel.name", name), ("channel.unit", unit), ("channel.decimals", decimals)]);
    add(values, &[("channel.scale", scale), ("channel.offset", offset)]);
    add(values, &[("channel.high", high), ("channel.low", low), ("channel.max_rate", max_rate)]);
    add(values, &[("channel.hysteresis", hysteresis), ("channel.hits", hits), ("channel.stale", stale)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key, what makes it sensible, another value, and who goes by it.
    type Case = (&'static str, &'static str, &'static str, &'static [Role]);

    const CONV: &[Role] = &[Role::Conv];
    const LOG: &[Role] = &[Role::Log];
    const FOLDS: &[Role] = &[Role::Stat, Role::Report];
    const FOLDS_AND_LOG: &[Role] = &[Role::Log, Role::Stat, Role::Report];
    const LINES: &str = "[source]\nkind = \"lines\"\npath = \"a\"\n";
    const WAVE: &str = "[source]\nkind = \"wave\"\n";
    const HIGH: &str = "[[channel]]\nhigh = 5\n";

    const CASES: &[Case] = &[
        ("source.kind", "", "\"wave\"", CONV),
        ("source.min", "", "1", CONV),
        ("source.max", "", "7", CONV),
        ("source.seed", "", "7", CONV),
        ("source.shape", WAVE, "\"square\"", CONV),
        ("source.amplitude", WAVE, "7", CONV),
        ("source.frequency", WAVE, "\"0.2 Hz\"", CONV),
        ("source.bits", WAVE, "7", CONV),
        ("source.phase", WAVE, "7", CONV),
        ("source.path", LINES, "\"b\"", CONV),
        ("source.columns", LINES, "[2]", CONV),
        ("source.separator", LINES, "\";\"", CONV),
        ("source.comment", LINES, "\"#\"", CONV),
        ("source.header", LINES, "true", CONV),
        ("source.on_bad", LINES, "\"skip\"", CONV),
        ("source.command", "[source]\nkind = \"command\"\ncommand = [\"a\"]\n", "[\"b\"]", CONV),
        ("source.files", "[source]\nkind = \"poll\"\nfiles = [\"a\"]\n", "[\"b\"]", CONV),
        ("source.sensors", "[source]\nkind = \"hwmon\"\nsensors = [\"a/b\"]\n", "[\"a/c\"]", CONV),
        ("source.root", "[source]\nkind = \"iio\"\nsensors = [\"a/b\"]\n", "\"/mnt\"", CONV),
        ("source.speed", "[source]\nkind = \"replay\"\npath = \"a\"\n[conv]\nrate = \"max\"\n", "2", CONV),
        ("conv.period", "", "\"1s\"", CONV),
        ("conv.rate", "", "\"5 Hz\"", CONV),
        ("conv.policy", "", "\"drop-newest\"", CONV),
        ("conv.lock_step", "", "true", CONV),
        ("conv.max_late", "", "\"1s\"", CONV),
        ("conv.count", "", "7", CONV),
        ("conv.align", "", "true", CONV),
        ("conv.realtime", "", "7", CONV),
        ("spool.capacity", "", "512", CONV),
        ("edge.log", "", "\"unix:\"", &[Role::Conv, Role::Log]),
        ("edge.stat", "", "\"unix:\"", &[Role::Conv, Role::Stat]),
        ("edge.report", "", "\"unix:\"", &[Role::Stat, Role::Report]),
        ("log.sync", "", "\"1s\"", LOG),
        ("log.segment", "", "\"1MiB\"", LOG),
        ("log.text", "", "\"a\"", LOG),
        ("log.compress", "", "true", LOG),
        ("log.keep_size", "", "\"1GiB\"", LOG),
        ("log.keep_time", "", "\"1h\"", LOG),
        ("stat.checkpoint", "", "\"1s\"", &[Role::Stat]),
        ("stat.percentiles", "", "[50]", FOLDS),
        ("stat.ewma", "", "0.5", FOLDS),
        ("stat.ewma", "[log]\nkeep_time = \"1h\"\n", "0.5", FOLDS_AND_LOG),
        ("report.format", "", "\"csv\"", &[Role::Report]),
        ("report.max_lines_per_second", "", "7", &[Role::Report]),
        ("report.digits", "", "7", &[Role::Report]),
        ("report.command", "", "[\"a\"]", &[Role::Report]),
        ("report.command_limit", "[report]\ncommand = [\"a\"]\n", "\"1s\"", &[Role::Report]),
        ("instance.name", "", "\"a\"", &Role::ALL),
        ("channel.name", "[[channel]]\n", "\"a\"", &[Role::Log, Role::Report]),
        ("channel.unit", "[[channel]]\n", "\"a\"", &[Role::Log, Role::Report]),
        ("channel.decimals", "[[channel]]\n", "2", &Role::ALL),
        ("channel.scale", "[[channel]]\n", "2", FOLDS_AND_LOG),
        ("channel.offset", "[[channel]]\n", "2", FOLDS_AND_LOG),
        ("channel.high", "[[channel]]\n", "2", FOLDS),
        ("channel.low", "[[channel]]\n", "2", FOLDS),
        ("channel.max_rate", "[[channel]]\n", "2", FOLDS),
        ("channel.hysteresis", HIGH, "2", FOLDS),
        ("channel.hits", HIGH, "2", FOLDS),
        ("channel.stale", "[[channel]]\n", "\"10s\"", FOLDS),
        ("channel.stale", "[log]\nkeep_size = \"1GiB\"\n[[channel]]\n", "\"10s\"", FOLDS_AND_LOG),
        ("window.size", "[[window]]\nsize = 10\n", "20", FOLDS),
        ("window.step", "[[window]]\nsize = 10\n", "5", FOLDS),
    ];

    fn config(text: &str) -> Config {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::load(Some(file.path()), &[]).unwrap_or_else(|faults| panic!("{text}: {faults}"))
    }

    /// The same text with another value for the key.
    fn with(text: &str, key: &str, value: &str) -> String {
        let (section, name) = key.split_once('.').unwrap();
        let heading = [format!("[[{section}]]\n"), format!("[{section}]\n")];
        let line = format!("{name} = {value}\n");
        let without: String =
            text.lines().filter(|l| !l.starts_with(&format!("{name} ="))).map(|l| format!("{l}\n")).collect();
        match heading.iter().find(|heading| without.contains(*heading)) {
            Some(heading) => without.replace(heading, &format!("{heading}{line}")),
            None => format!("[{section}]\n{line}{without}"),
        }
    }

    /// As differences name it.
    fn shown(key: &'static str) -> &'static str {
        match key {
            "conv.period" | "conv.rate" => "conv.period/rate",
            "window.size" | "window.step" => "window",
            key => key,
        }
    }

    #[test]
    fn every_key_is_named_to_those_who_go_by_it() {
        for (key, text, value, roles) in CASES {
            let conv = if *key == "source.kind" { "period = \"1s\"" } else { "" };
            let base = if conv.is_empty() { (*text).to_owned() } else { format!("[conv]\n{conv}\n") };
            let (old, new) = (config(&base), config(&with(&base, key, value)));
            for role in Role::ALL {
                let expected = if roles.contains(&role) { vec![shown(key)] } else { vec![] };
                assert_eq!(old.differences(&new, role), expected, "{key} for {role}");
                assert!(old.differences(&old, role).is_empty());
            }
        }
    }

    /// What is shipped says every key, and this table must know it.
    #[test]
    fn no_key_is_forgotten() {
        let shipped = include_str!("../../../config/pipeline.toml");
        let mut section = "";
        for line in shipped.lines() {
            let line = line.trim_start_matches("# ");
            if let Some(name) = line.strip_prefix('[') {
                section = name.trim_matches(['[', ']']);
            } else if let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| !key.contains(' ')) {
                let whole = format!("{section}.{key}");
                assert!(CASES.iter().any(|(key, ..)| *key == whole), "{whole}");
            }
        }
    }

    #[test]
    fn what_is_taken_over_is_no_difference_any_more() {
        for (key, text, value, roles) in CASES {
            if *key == "source.kind" {
                continue;
            }
            let (old, new) = (config(text), config(&with(text, key, value)));
            for role in roles.iter().copied() {
                let mixed = old.taking(&new, role);
                let left = mixed.differences(&new, role);
                let taken = old.differences(&mixed, role);
                assert_eq!(
                    [&left[..], &taken].concat(),
                    [shown(key)],
                    "{key} for {role}: once, here or there"
                );
                // What people read says the same.
                let shipped = include_str!("../../../config/pipeline.toml").lines().skip(3).take(2);
                let readme = include_str!("../../../README.md")
                    .lines()
                    .filter(|line| line.contains("`conv.max_late`, `log"));
                let help = include_str!("../../ctl/reload.rs")
                    .lines()
                    .filter(|line| line.starts_with("conv.max_late, "));
                for told in [shipped.collect::<String>(), readme.collect(), help.collect()] {
                    let is_told =
                        told.contains(key) || key.starts_with("report.") && told.contains("[report]");
                    assert_eq!(is_told, !taken.is_empty(), "{key}: {told}");
                }
            }
        }
    }

    #[test]
    fn another_kind_or_number_says_it_all() {
        let old = config("[conv]\nrate = \"5 Hz\"\n");
        let new = config(
            "[source]\nkind = \"wave\"\n[conv]\nrate = \"5 Hz\"\n[[channel]]\nname = \"a\"\n[[channel]]\nname = \"b\"\n",
        );
        assert_eq!(old.differences(&new, Role::Conv), ["channel", "source.kind"]);
        assert_eq!(old.differences(&new, Role::Log), ["channel"]);
    }
}
