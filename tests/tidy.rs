//! Style as a test: what a reviewer would have to look for by eye, over and over. Each rule says what to do.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ipc_pipeline::config::Config;

/// Layers of the library, from below; docs/architecture.md says what each is for. A module may use its own layer and
/// those below it, and of them exactly what stands here.
const LAYERS: [&[(&str, &[&str])]; 4] = [
    &[("sys", &[]), ("sync", &[])],
    &[
        ("address", &[]),
        ("audit", &["entry", "fields", "fold", "settings"]),
        ("block", &["entry", "fields"]),
        ("decimal", &[]),
        ("entry", &["sys"]),
        ("exact", &["decimal", "fold", "header", "limits"]),
        ("fields", &[]),
        ("fold", &["entry", "fields", "limits", "settings"]),
        ("grid", &[]),
        ("header", &["entry"]),
        ("limits", &["fields"]),
        ("messages", &[]),
        ("program", &["sys"]),
        ("ring", &["entry", "sync"]),
        ("settings", &["decimal", "fields", "limits"]),
        ("snapshot", &["entry", "fields", "fold", "limits", "settings"]),
        ("text", &["entry", "exact", "header"]),
        ("wall", &["entry"]),
    ],
    &[
        ("carrier", &["address", "edge", "names", "sys"]),
        ("checkpoint", &["entry", "fields", "fold"]),
        ("compress", &["block", "disk", "entry", "header"]),
        ("disk", &["sys"]),
        ("edge", &["entry", "page", "ring"]),
        ("intake", &["edge", "entry", "page", "publisher", "ring", "segment", "spool"]),
        ("lock", &["publisher", "sys"]),
        ("mark", &["disk", "entry", "header"]),
        ("names", &[]),
        ("objects", &["address", "carrier", "lock", "names", "segment", "spool"]),
        ("page", &["segment", "spool", "sys"]),
        ("publisher", &["grid", "page", "ring", "segment", "spool", "sys"]),
        ("reader", &["disk", "header", "mark", "segment_file", "summary"]),
        ("record", &["disk", "entry", "header", "mark", "recovery"]),
        ("recovery", &["disk", "entry", "header", "mark", "record", "segment_file", "summary"]),
        ("register", &["segment", "snapshot"]),
        ("retention", &["disk", "header", "segment_file", "settings", "summary"]),
        ("segment", &["names", "sys"]),
        ("segment_file", &["block", "disk", "entry", "header"]),
        ("spool", &["entry", "header", "ring", "segment"]),
        (
            "summary",
            &["audit", "checkpoint", "disk", "entry", "fields", "fold", "header", "mark", "settings", "wall"],
        ),
        ("timeline", &["entry", "reader", "wall"]),
    ],
    &[
        ("args", &["config", "journal", "names"]),
        ("config", &["address", "decimal", "entry", "exact", "limits", "names", "settings", "sys"]),
        (
            "daemon",
            &[
                "args",
                "carrier",
                "config",
                "header",
                "lock",
                "logging",
                "messages",
                "names",
                "notify",
                "objects",
                "sink",
                "page",
                "publisher",
                "record",
                "reload",
                "segment",
                "sys",
            ],
        ),
        ("journal", &["messages", "sink"]),
        ("logging", &["journal", "messages", "sink", "syslog"]),
        ("notify", &[]),
        ("reload", &["args", "config", "logging", "messages", "names", "notify", "page", "sys"]),
        ("sink", &[]),
        ("syslog", &["sink"]),
    ],
];

/// The longest that a file may be, in lines.
const LINES_MAX: usize = 700;
/// Files that may be longer, and why.
const LONG: [(&str, &str); 1] = [("tests/simulation.rs", "one world; its parts make no sense alone")];

/// What ends a process instead of telling its caller.
const FORBIDDEN: [&str; 8] =
    [".unwrap()", ".expect(", "todo!", "dbg!", "unimplemented!", "unreachable!", "panic!", "eprintln!"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a folder of the project, as paths from its root, sorted.
fn files_in(folder: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    files.sort();
    files
}

fn with_extension(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut files = files_in(folder);
    files.retain(|path| path.extension().is_some_and(|e| e == extension));
    files
}

fn text_of(path: &Path) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The lines of a file that are no test and no comment, with their numbers. Tests stand at the end of a file, or in
/// files of their own named `tests.rs` or `interleavings.rs`.
fn code_of(path: &Path) -> Vec<(usize, String)> {
    if path.ends_with("tests.rs") || path.ends_with("interleavings.rs") {
        return Vec::new();
    }
    let text = text_of(path);
    let before_tests =
        text.lines().take_while(|l| !l.starts_with("#[cfg(test)]") && !l.starts_with("#[cfg(all(test"));
    let code = before_tests.enumerate().filter(|(_, l)| !l.trim_start().starts_with("//"));
    code.map(|(i, l)| (i + 1, l.to_owned())).collect()
}

fn assert_none(faults: Vec<String>, what_to_do: &str) {
    assert!(faults.is_empty(), "{what_to_do}:\n  {}", faults.join("\n  "));
}

/// The words that follow `prefix` in a line: `crate::` in `use crate::entry::LEN;` gives `entry`.
fn names_after<'a>(line: &'a str, prefix: &str) -> Vec<&'a str> {
    let ends = |c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let after = line.split(prefix).skip(1);
    after.map(|rest| rest.split(ends).next().unwrap_or_default()).filter(|name| !name.is_empty()).collect()
}

/// Which module of the library a file belongs to.
fn module_of(path: &Path) -> String {
    let inside = path.strip_prefix("daemons/lib").unwrap();
    inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// What each module of the library uses of the others.
fn uses_found() -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in with_extension("daemons/lib", "rs") {
        let module = module_of(&path);
        if module == "lib" {
            continue;
        }
        let uses = found.entry(module.clone()).or_default();
        for (_, line) in code_of(&path) {
            assert!(
                !line.contains("crate::{"),
                "{}: one `use crate::` a line, so that tidy sees it",
                path.display()
            );
            uses.extend(
                names_after(&line, "crate::").into_iter().filter(|n| *n != module).map(str::to_owned),
            );
        }
    }
    found
}

#[test]
fn layers_point_down_and_the_table_is_true() {
    let mut layer_of = BTreeMap::new();
    for (layer, modules) in LAYERS.iter().enumerate() {
        layer_of.extend(modules.iter().map(|(module, _)| (*module, layer)));
    }
    let mut faults = Vec::new();
    for (module, allowed) in LAYERS.iter().copied().flatten() {
        for used in *allowed {
            if layer_of[used] > layer_of[module] {
                faults.push(format!("the table lets {module} use {used}, which is in a higher layer"));
            }
        }
    }
    let table: BTreeMap<&str, &[&str]> = LAYERS.iter().copied().flatten().copied().collect();
    let found = uses_found();
    for (module, uses) in &found {
        let Some(allowed) = table.get(module.as_str()) else {
            faults.push(format!("{module} is in no layer of the table"));
            continue;
        };
        let allowed: BTreeSet<String> = allowed.iter().map(|s| (*s).to_owned()).collect();
        faults.extend(
            uses.difference(&allowed).map(|used| format!("{module} uses {used}, which is not allowed")),
        );
        faults.extend(allowed.difference(uses).map(|used| format!("{module} no longer uses {used}")));
    }
    faults
        .extend(table.keys().filter(|m| !found.contains_key(**m)).map(|m| format!("there is no module {m}")));
    assert_none(
        faults,
        "keep the layers, or change the table in tests/tidy.rs and docs/architecture.md on purpose",
    );
}

#[test]
fn unsafe_code_stands_in_one_place() {
    let excused = |path: &Path| path.starts_with("daemons/lib/sys") || path.ends_with("daemons/lib/lib.rs");
    let rust = with_extension("daemons", "rs").into_iter().filter(|path| !excused(path));
    let faults = rust.filter(|path| !text_of(path).contains("#![forbid(unsafe_code)]"));
    let faults = faults.map(|path| path.display().to_string()).collect();
    assert_none(faults, "begin every file outside daemons/lib/sys with #![forbid(unsafe_code)]");
}

#[test]
fn no_daemon_ends_by_panic() {
    let mut faults = Vec::new();
    for path in with_extension("daemons", "rs") {
        for (number, line) in code_of(&path) {
            let found = FORBIDDEN.iter().filter(|word| line.contains(**word));
            faults.extend(found.map(|word| format!("{}:{number}: {word}", path.display())));
        }
    }
    assert_none(faults, "return an error whose text is a sentence instead");
}

/// A static is never dropped, so the directory that it holds would be left behind.
#[test]
fn no_temporary_directory_outlives_its_test() {
    let mut faults = Vec::new();
    for path in with_extension("tests", "rs").into_iter().chain(with_extension("daemons", "rs")) {
        let text = text_of(&path);
        let kept = text.lines().filter(|line| line.trim_start().starts_with("static "));
        faults.extend(
            kept.filter(|line| line.contains("Temp")).map(|line| format!("{}: {line}", path.display())),
        );
    }
    assert_none(faults, "hold it in a value of the test");
}

#[test]
fn no_file_is_too_long() {
    let length = |path: &Path| text_of(path).lines().count();
    let all = ["daemons", "tests"].into_iter().flat_map(|folder| with_extension(folder, "rs"));
    let excused: BTreeMap<&str, &str> = LONG.into_iter().collect();
    let mut faults: Vec<String> = all
        .filter(|path| length(path) > LINES_MAX && !excused.contains_key(path.to_str().unwrap()))
        .map(|path| format!("{} has {} lines", path.display(), length(&path)))
        .collect();
    let short = excused.keys().filter(|path| length(Path::new(path)) <= LINES_MAX);
    faults.extend(short.map(|path| format!("{path} needs no excuse any more")));
    assert_none(faults, &format!("split what has more than {LINES_MAX} lines"));
}

#[test]
fn every_seeded_bug_applies_and_names_its_test() {
    let mut faults = Vec::new();
    let patches = with_extension("tests/mutants", "patch");
    assert!(!patches.is_empty());
    for path in patches {
        let first = text_of(&path).lines().next().unwrap_or_default().to_owned();
        if !first.starts_with("# test: ") {
            faults.push(format!("{}: its first line is not `# test: <command>`", path.display()));
        }
        let git = Command::new("git").args(["apply", "--check"]).arg(&path).current_dir(root()).output();
        let output = git.expect("git is needed to try the patches");
        if !output.status.success() {
            faults.push(format!("{}: {}", path.display(), String::from_utf8_lossy(&output.stderr).trim()));
        }
    }
    assert_none(faults, "make these patches anew for the code as it is now");
}

/// The Makefile names each suite: one that it forgot would never run.
#[test]
fn every_suite_is_run() {
    let (makefile, manifest) = (text_of(&root().join("Makefile")), text_of(&root().join("Cargo.toml")));
    let joined = makefile.replace("\\\n", " ");
    let mut named: Vec<&str> = ["TWO_AT_A_TIME = ", "ALONE = "]
        .into_iter()
        .flat_map(|list| joined.lines().find_map(|line| line.strip_prefix(list)).unwrap().split_whitespace())
        .chain(["systemd", "vm"])
        .collect();
    let mut there: Vec<&str> =
        manifest.split("[[test]]\nname = \"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    named.sort_unstable();
    there.sort_unstable();
    assert_eq!(named, there);
}

#[test]
fn every_configuration_loads() {
    let mut faults = Vec::new();
    for path in files_in("config").into_iter().filter(|path| path.extension().is_some_and(|e| e == "toml")) {
        if let Err(e) = Config::load(Some(&root().join(&path)), &[]) {
            faults.push(e.to_string());
        }
    }
    assert_none(faults, "an example that does not load teaches nothing");
}

/// The commands of a line of shell, as words: good enough for our own pages.
fn commands_in(line: &str) -> Vec<Vec<String>> {
    let mut commands = vec![vec![String::new()]];
    let mut quote = None;
    for c in line.chars() {
        let command = commands.last_mut().unwrap();
        match (c, quote) {
            ('"' | '\'', None) => quote = Some(c),
            (_, Some(q)) if c == q => quote = None,
            (' ', None) => command.push(String::new()),
            ('#', None) => break,
            (';' | '|' | '&' | '(' | ')' | '>', None) => commands.push(vec![String::new()]),
            _ => command.last_mut().unwrap().push(c),
        }
    }
    for command in &mut commands {
        command.retain(|word| !word.is_empty());
    }
    commands.retain(|command| !command.is_empty());
    commands
}

/// The calls of our own programs and of `make` in the code blocks of a page.
fn calls_in(page: &str) -> Vec<Vec<String>> {
    let text = text_of(Path::new(page));
    let blocks = text.split("```").skip(1).step_by(2);
    let commands = blocks.flat_map(str::lines).flat_map(commands_in);
    let is_ours = |c: &Vec<String>| c[0] == "make" || c[0].starts_with("ipc-") && !c[0].ends_with(':');
    commands.filter(is_ours).collect()
}

/// Does this program know this command and its options? An error says what it does not know.
fn is_known(words: &[String]) -> Result<(), String> {
    let name = words[0].as_str();
    if name == "make" {
        let makefile = text_of(Path::new("Makefile"));
        let targets = words.iter().skip(1).filter(|w| !w.contains('='));
        let mut unknown = targets.filter(|t| !makefile.lines().any(|l| l.starts_with(&format!("{t}:"))));
        return unknown.next().map_or(Ok(()), |t| Err(format!("make has no target {t}")));
    }
    let program = match name {
        "ipc-pipeline" => env!("CARGO_BIN_EXE_ipc-pipeline"),
        "ipc-conv" => env!("CARGO_BIN_EXE_ipc-conv"),
        "ipc-log" => env!("CARGO_BIN_EXE_ipc-log"),
        "ipc-stat" => env!("CARGO_BIN_EXE_ipc-stat"),
        "ipc-report" => env!("CARGO_BIN_EXE_ipc-report"),
        _ => return Err(format!("there is no program {name}")),
    };
    let is_word = |w: &&String| w.chars().all(|c| c.is_ascii_lowercase()) && !w.is_empty();
    let mut help = Command::new(program);
    help.args(words[1..].iter().take_while(is_word)).arg("--help");
    let output = help.output().map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        return Err(format!("`{}` fails", words.join(" ")));
    }
    let options = words.iter().filter(|w| w.starts_with("--") && !w.ends_with('-'));
    let mut unknown = options.filter(|o| !text.split([' ', '\n', ',']).any(|known| known == *o));
    unknown.next().map_or(Ok(()), |o| Err(format!("`{}` has no option {o}", words.join(" "))))
}

#[test]
fn commands_in_the_pages_exist() {
    let pages = ["README.md", "CONTRIBUTING.md", "docs/architecture.md"];
    let mut faults = Vec::new();
    let mut count = 0;
    for page in pages {
        for words in calls_in(page) {
            count += 1;
            faults.extend(is_known(&words).err().map(|e| format!("{page}: {e}")));
            let settings = words.iter().zip(words.iter().skip(1)).filter(|(option, _)| *option == "--set");
            let settings: Vec<String> = settings.map(|(_, setting)| setting.clone()).collect();
            faults.extend(Config::load(None, &settings).err().map(|e| format!("{page}: {e}")));
        }
    }
    assert!(count >= 10, "only {count} commands were found in the pages");
    assert_none(faults, "correct the page");
}

#[test]
fn paths_in_the_pages_exist() {
    let mut faults = Vec::new();
    for page in ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/architecture.md", "docs/formats.md"] {
        let text = text_of(Path::new(page));
        let ends = |c: char| !(c.is_ascii_alphanumeric() || "/._-".contains(c));
        let words = text.split(ends).map(|w| w.trim_end_matches(['.', '/']));
        let ours = ["daemons/", "tests/", "config/", "docs/", ".ci/"];
        for word in words.filter(|w| ours.iter().any(|folder| w.starts_with(folder))) {
            if !root().join(word).exists() {
                faults.push(format!("{page} names {word}"));
            }
        }
    }
    assert_none(faults, "these files are not there");
}
