//! Configuration files: the shipped ones load and mean what they say; each file in tests/bad-configs is refused
//! with exactly the text beside it, and each shows its faults all at once.
//!
//! `BLESS=1 cargo test --test config` writes the texts anew; read the difference before keeping it.

use ipc_pipeline::config::{
    Config, LineFormat, OnBad, Rate, SensorName, Sensors, Shape, SourceConfig, WaveConfig,
};
use ipc_pipeline::decimal::Decimal;
use std::path::{Path, PathBuf};

fn load(path: &str) -> Config {
    Config::load(Some(Path::new(path)), &[]).unwrap_or_else(|faults| panic!("{faults}"))
}

#[test]
fn the_shipped_file_is_the_default() {
    assert_eq!(load("config/pipeline.toml"), Config::default());
}

/// The keys of [source] that only some kinds have.
const SOURCE_KEYS: [&str; 21] = [
    "min",
    "max",
    "seed",
    "shape",
    "amplitude",
    "frequency",
    "bits",
    "phase",
    "path",
    "command",
    "files",
    "columns",
    "separator",
    "comment",
    "header",
    "sensors",
    "root",
    "speed",
    "on_bad",
    "period",
    "rate",
];

/// The shipped file with every `# key = value` line alive, with this kind of source and of its keys these only.
fn all_alive(kind: &str, wanted: &[&str]) -> Config {
    let text = std::fs::read_to_string("config/pipeline.toml").unwrap();
    let (mut lines, mut in_report) = (Vec::new(), false);
    for line in text.lines() {
        in_report = in_report && !line.starts_with('[') || line == "[report]";
        let bare = line.strip_prefix("# ").unwrap_or(line);
        let key = bare.split_once(" = ").map_or("", |(key, _)| key);
        lines.push(match key {
            "" if bare.starts_with("[[") => bare.to_owned(),
            "kind" => format!("kind = {kind:?}"),
            "rate" if kind == "replay" => "rate = \"max\"".to_owned(),
            "rate" => bare.to_owned(),
            key if SOURCE_KEYS.contains(&key) && !wanted.contains(&key) && !in_report => String::new(),
            "" => line.to_owned(),
            word if word.contains(' ') => line.to_owned(),
            _ => bare.to_owned(),
        });
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), lines.join("\n")).unwrap();
    load(file.path().to_str().unwrap())
}

/// Each key of the program is in the file, and its line is right.
#[test]
fn the_shipped_file_knows_every_key() {
    let format =
        LineFormat { columns: vec![1], separator: Some(';'), comment: Some("#".to_owned()), header: true };
    let on_bad = OnBad::Skip;
    let lines_keys = ["path", "command", "columns", "separator", "comment", "header", "on_bad"];
    let without = |key| lines_keys.into_iter().filter(|k| *k != key).collect::<Vec<_>>();
    let config = all_alive("lines", &without("command"));
    let path = PathBuf::from("tests/data/ecg-360hz.txt");
    assert_eq!(config.source, SourceConfig::Lines { path: path.clone(), format: format.clone(), on_bad });
    assert_eq!(config.instance.as_deref(), Some("ecg"));
    assert_eq!(config.conv.rate, Rate::Every { period_ps: 2_777_777_778 });
    assert!(config.conv.max_late.is_some());
    assert_eq!((config.stat.settings.limits.len(), config.report.command[0].as_str()), (1, "mail"));
    let command = ["vmstat", "-n", "1"].map(str::to_owned).to_vec();
    let source = |kind, wanted: &[&str]| all_alive(kind, wanted).source;
    assert_eq!(source("command", &without("path")), SourceConfig::Command { command, format, on_bad });
    let random = SourceConfig::Random { min: 0, max: 100, seed: Some(1) };
    assert_eq!(source("random", &["min", "max", "seed"]), random);
    let wave =
        WaveConfig { shape: Shape::Triangle, amplitude: 500, frequency_mhz: 5000, bits: 12, phase: 120 };
    let wave_keys = ["shape", "amplitude", "frequency", "bits", "phase"];
    assert_eq!(source("wave", &wave_keys), SourceConfig::Wave(wave));
    let poll = SourceConfig::Poll { files: vec!["/proc/loadavg".into()], columns: vec![1] };
    assert_eq!(source("poll", &["files", "columns"]), poll);
    let name = SensorName::read("coretemp/Package id 0").unwrap();
    let sensors = Sensors { sensors: vec![name], root: "/mnt/sys".into() };
    assert_eq!(source("hwmon", &["sensors", "root"]), SourceConfig::Hwmon(sensors.clone()));
    assert_eq!(source("iio", &["sensors", "root"]), SourceConfig::Iio(sensors));
    let speed = Decimal::read("10");
    assert_eq!(source("replay", &["path", "speed", "on_bad"]), SourceConfig::Replay { path, speed, on_bad });
}

#[test]
fn the_examples_load_and_each_names_its_own_instance() {
    let ecg = load("config/examples/ecg.toml");
    assert_eq!(ecg.conv.rate, Rate::Max);
    assert_eq!((ecg.channels[0].name.as_str(), ecg.channels[0].unit.as_str()), ("ecg", "code"));
    let stdin = load("config/examples/stdin.toml");
    let wanted = SourceConfig::Lines { path: "-".into(), format: LineFormat::default(), on_bad: OnBad::Skip };
    assert_eq!(stdin.channels[0].decimals, 4);
    assert_eq!(stdin.source, wanted);
    let windows = load("config/examples/windows.toml");
    let settings = &windows.stat.settings;
    assert_eq!((windows.channels.len(), settings.windows.len(), settings.percentiles.len()), (3, 4, 4));
    for path in files("config/examples") {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        assert_eq!(load(path.to_str().unwrap()).instance, Some(name));
    }
}

#[test]
fn bad_files_are_refused_with_the_text_beside_them() {
    let bad = files("tests/bad-configs");
    assert!(bad.len() >= 12, "found only {} bad files", bad.len());
    for path in bad {
        let faults = Config::load(Some(&path), &[]).expect_err(path.to_str().unwrap()).to_string() + "\n";
        let beside = path.with_extension("txt");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&beside, &faults).unwrap();
        }
        let wanted = std::fs::read_to_string(&beside).unwrap_or_default();
        assert_eq!(faults, wanted, "{}", path.display());
    }
}

#[test]
fn a_file_that_cannot_be_read_is_one_fault() {
    let error = Config::load(Some(Path::new("no/such.toml")), &[]).unwrap_err().to_string();
    assert_eq!(
        error,
        "no/such.toml: cannot read this file: No such file or directory (os error 2); name another one with \
         --config\n1 fault in no/such.toml"
    );
    let error = Config::load(Some(Path::new("config")), &[]).unwrap_err().to_string();
    assert!(error.contains("Is a directory"), "{error}");
}

/// All .toml files of a folder, sorted.
fn files(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    paths.sort();
    paths
}
