//! Man pages and completions name everything there is: every command and option that `--help` knows, every key of the
//! configuration, every part of the page of formats.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PROGRAMS: [(&str, &str, char); 5] = [
    ("ipc-pipeline", env!("CARGO_BIN_EXE_ipc-pipeline"), '1'),
    ("ipc-conv", env!("CARGO_BIN_EXE_ipc-conv"), '8'),
    ("ipc-log", env!("CARGO_BIN_EXE_ipc-log"), '8'),
    ("ipc-stat", env!("CARGO_BIN_EXE_ipc-stat"), '8'),
    ("ipc-report", env!("CARGO_BIN_EXE_ipc-report"), '8'),
];
/// Where the completions of a program are.
const COMPLETIONS: [(&str, &str, &str); 3] =
    [("bash/", "", "bash"), ("zsh/_", "", "zsh"), ("fish/", ".fish", "fish")];
/// 2026-02-03 04:05:06 UTC.
const DAY: &str = "1770091506";

/// What `ipc-pipeline pages` writes.
fn pages() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut write = Command::new(PROGRAMS[0].1);
    let status = write.arg("pages").arg(dir.path()).env("SOURCE_DATE_EPOCH", DAY).status().unwrap();
    assert!(status.success());
    dir
}

fn text_of(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// What is written on a page, without what makes it bold or keeps it from being a request.
fn read_page(path: &Path) -> String {
    let text = text_of(path);
    let fonts = [("\\fB", ""), ("\\fI", ""), ("\\fR", "")];
    let marks = [("\\-", "-"), ("\\(rs", "\\"), ("\\(ha", "^"), ("\\(ti", "~"), ("\\&", "")];
    let plain = [&fonts[..], &marks[..]].concat();
    plain.iter().fold(text, |text, (from, to)| text.replace(from, to))
}

/// What --help says about a program's command.
struct Help {
    /// The words that lead here, the program first.
    words: Vec<&'static str>,
    commands: Vec<String>,
    /// All that begins with two dashes, in descriptions too.
    options: Vec<String>,
    /// Those that begin a line.
    own_options: Vec<String>,
}

fn help(program: &str, words: &[&'static str]) -> Help {
    let output = Command::new(program).args(&words[1..]).arg("--help").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut found =
        Help { words: words.to_vec(), commands: Vec::new(), options: Vec::new(), own_options: Vec::new() };
    let mut part = "";
    for line in text.lines() {
        if !line.starts_with(' ') {
            part = line.trim();
            continue;
        }
        let first = line.trim().split([' ', '.', '[', '=']).next().unwrap();
        match part {
            "Commands:" if line.starts_with("  ") && !line.starts_with("   ") => {
                found.commands.push(first.to_owned())
            }
            "Options:" => {
                // Words of a description that begin with dashes are options, too.
                let options =
                    line.split([' ', ',', '\'', '.']).filter(|w| w.len() > 2 && w.starts_with("--"));
                let options: Vec<String> = options.map(str::to_owned).collect();
                if line.trim_start().starts_with('-') {
                    found.own_options.extend(options.first().cloned());
                }
                found.options.extend(options);
            }
            _ => {}
        }
    }
    found.commands.retain(|command| command != "help");
    found
}

/// The help of a program and of all that is below it.
fn all_help(program: &str, words: &[&'static str]) -> Vec<Help> {
    let own = help(program, words);
    let mut all = Vec::new();
    for command in &own.commands {
        let below = [words, &[String::leak(command.clone())]].concat();
        all.extend(all_help(program, &below));
    }
    all.push(own);
    all
}

#[test]
fn every_command_and_every_option_has_its_place() {
    let dir = pages();
    let mut options = 0;
    for (name, program, section) in PROGRAMS {
        let all = all_help(program, &[name]);
        for help in &all {
            let page_name = help.words.join("-");
            let page = read_page(&dir.path().join(format!("man{section}/{page_name}.{section}")));
            for option in &help.options {
                assert!(page.contains(option.as_str()), "{page_name}({section}) does not name {option}");
            }
            let items: Vec<&str> =
                page.split("\n.TP\n").skip(1).filter_map(|item| item.lines().next()).collect();
            for option in &help.own_options {
                let is_described = items.iter().any(|item| item.split([' ', ',']).any(|word| word == option));
                assert!(is_described, "{page_name}({section}) does not describe {option}: {items:?}");
            }
            // It names the pages behind the topic, itself not among them.
            assert!(
                page.contains(".BR ipc-pipeline (7)")
                    && !page.contains(&format!(".BR {page_name} ({section})"))
            );
            for command in &help.commands {
                assert!(
                    page.contains(&format!("{page_name}-{command}(1)")),
                    "{page_name} does not name {command}"
                );
            }
            options += help.options.len();
        }
        for (before, behind, shell) in COMPLETIONS {
            let text = text_of(&dir.path().join(format!("{before}{name}{behind}")));
            for word in all.iter().flat_map(|help| help.options.iter().chain(&help.commands)) {
                // fish names long options without their dashes.
                let word = if shell == "fish" { word.trim_start_matches('-') } else { word };
                assert!(text.contains(word), "{shell} does not complete {word} of {name}");
            }
            assert!(!text.contains("pages"), "{shell} offers what is hidden");
        }
    }
    assert!(options > 100, "only {options} options were found in --help");
}

/// What bash offers after these words and `--`.
fn offered_by_bash(file: &Path, words: &[&str]) -> String {
    let script = r#"
        file=$1; shift
        source "$file"
        function=$(complete -p "$1" | sed 's/.*-F \([^ ]*\).*/\1/')
        COMP_WORDS=("$@" --); COMP_CWORD=$#
        "$function" "$1" -- "${!#}"
        echo "${COMPREPLY[@]}""#;
    let mut bash = Command::new("bash");
    let output = bash.args(["-c", script, "bash"]).arg(file).args(words).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn bash_offers_the_options_of_every_command() {
    let dir = pages();
    for (name, program, _) in PROGRAMS {
        for help in all_help(program, &[name]) {
            let offered = offered_by_bash(&dir.path().join("bash").join(name), &help.words);
            let offered: Vec<&str> = offered.split_whitespace().collect();
            assert!(offered.contains(&"--help"), "{:?}: {offered:?}", help.words);
            for option in help.own_options {
                assert!(offered.contains(&option.as_str()), "{:?} {option}: {offered:?}", help.words);
            }
        }
    }
}

#[test]
fn every_key_of_the_configuration_is_described() {
    let dir = pages();
    let page = read_page(&dir.path().join("man5/ipc-pipeline.toml.5"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut table, mut count) = (String::new(), 0);
    for line in text_of(&root.join("config/pipeline.toml")).lines() {
        let line = line.trim_start_matches("# ");
        if line.starts_with('[') {
            table = line.trim_matches(['[', ']']).to_owned();
            assert!(page.contains(&format!(".SH \"{line}\"\n")), "{line}");
        }
        let Some((key, value)) = line.split_once(" = ").filter(|(key, _)| !key.contains([' ', '"'])) else {
            continue;
        };
        assert!(page.contains(&format!("\n{table}.{key} ")), "{table}.{key}");
        assert!(page.contains(value), "{value} of {table}.{key}");
        count += 1;
    }
    assert!(count > 50, "{count}");
    assert!(page.contains("on the second"), "comments are missing");
}

/// Each word of the page of formats stands in the manual page, in its order; but for the heads of tables, which are lists.
#[test]
fn nothing_is_missing_of_the_formats() {
    let dir = pages();
    let only_letters =
        |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    let page = read_page(&dir.path().join("man5/ipc-pipeline-formats.5"));
    let (_, page) = page.split_once(".SH \"DESCRIPTION\"").unwrap();
    let page = only_letters(&page.replace("T{", "").replace("T}", ""));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = text_of(&root.join("docs/formats.md"));
    let lines: Vec<&str> = text.lines().skip(1).collect();
    let mut at = 0;
    for (i, line) in lines.iter().enumerate() {
        if lines.get(i + 1).is_some_and(|next| next.starts_with("|--")) {
            continue;
        }
        let words = only_letters(line);
        let found = page[at..].find(&words).unwrap_or_else(|| panic!("{line}"));
        // What the page has more than this is requests, and the few words of a head.
        assert!(found < 60, "before {line}: {}", &page[at..at + found]);
        at += found + words.len();
    }
}

#[test]
fn pages_are_of_the_day_that_is_asked_for() {
    let dir = pages();
    let mut count = 0;
    for folder in ["man1", "man5", "man7", "man8"] {
        for page in fs::read_dir(dir.path().join(folder)).unwrap() {
            let path: PathBuf = page.unwrap().path();
            let text = read_page(&path);
            let title = text.lines().find(|line| line.starts_with(".TH ")).unwrap();
            assert!(title.contains("2026-02-03") && title.contains(env!("CARGO_PKG_VERSION")), "{title}");
            assert!(!text.contains('@') || text.contains("ipc-pipeline@NAME"), "{}", path.display());
            count += 1;
        }
    }
    assert!(count >= 19, "{count} pages");
    let mut wrong = Command::new(PROGRAMS[0].1);
    let wrong =
        wrong.arg("pages").arg(dir.path()).env("SOURCE_DATE_EPOCH", "soon").stderr(Stdio::piped()).output();
    let wrong = wrong.unwrap();
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(wrong.status.code() == Some(71) && said.contains("SOURCE_DATE_EPOCH is \"soon\""), "{said}");
}
