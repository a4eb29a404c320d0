//! Configuration files: the shipped ones load and mean what they say; each file in tests/bad-configs is refused
//! with exactly the text beside it, and each shows its faults all at once.
//!
//! `BLESS=1 cargo test --test config` writes the texts anew; read the difference before keeping it.

use ipc_pipeline::config::{Config, OnBad, Rate, SourceConfig};
use std::path::{Path, PathBuf};

fn load(path: &str) -> Config {
    Config::load(Some(Path::new(path)), &[]).unwrap_or_else(|faults| panic!("{faults}"))
}

#[test]
fn the_shipped_file_is_the_default() {
    assert_eq!(load("config/pipeline.toml"), Config::default());
}

/// With every `# key = value` line alive, each key of the program is in the file, and its line is right.
#[test]
fn the_shipped_file_knows_every_key() {
    let text = std::fs::read_to_string("config/pipeline.toml").unwrap();
    let keys_of = |kind: &str, wanted: &[&str]| {
        let mut lines = Vec::new();
        for line in text.lines() {
            let bare = line.strip_prefix("# ").unwrap_or(line);
            let key = bare.split_once(" = ").map_or("", |(key, _)| key);
            lines.push(match key {
                "" if bare.starts_with("[[") => bare.to_owned(),
                "kind" => format!("kind = {kind:?}"),
                "period" | "min" | "max" | "seed" | "path" | "on_bad" if !wanted.contains(&key) => {
                    String::new()
                }
                "" => line.to_owned(),
                word if word.contains(' ') => line.to_owned(),
                _ => bare.to_owned(),
            });
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), lines.join("\n")).unwrap();
        load(file.path().to_str().unwrap())
    };
    let config = keys_of("lines", &["path", "on_bad"]);
    let wanted = SourceConfig::Lines { path: "tests/data/ecg-360hz.txt".into(), on_bad: OnBad::Skip };
    assert_eq!(config.source, wanted);
    assert_eq!(config.instance.as_deref(), Some("ecg"));
    assert_eq!(config.conv.rate, Rate::Every { period_ps: 2_777_777_778 });
    assert!(config.conv.max_late.is_some());
    let config = keys_of("random", &["min", "max", "seed"]);
    assert_eq!(config.source, SourceConfig::Random { min: 0, max: 100, seed: Some(1) });
}

#[test]
fn the_examples_load_and_each_names_its_own_instance() {
    let ecg = load("config/examples/ecg.toml");
    assert_eq!(ecg.conv.rate, Rate::Max);
    assert_eq!((ecg.channels[0].name.as_str(), ecg.channels[0].unit.as_str()), ("ecg", "code"));
    let stdin = load("config/examples/stdin.toml");
    let wanted = SourceConfig::Lines { path: "-".into(), on_bad: OnBad::Skip };
    assert_eq!(stdin.channels[0].decimals, 4);
    assert_eq!(stdin.source, wanted);
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
