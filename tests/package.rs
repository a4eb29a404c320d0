//! The Debian package, as far as it can be judged without building one: `make deb` builds it, and lintian judges that.
//!
//! `BLESS=1 cargo test --test package` writes packaging/copyright anew; read the difference before keeping it.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const COPYRIGHT: &str = "packaging/copyright";
/// Between these two lines of it stands what is linked in.
const BEGIN: &str = "Files: rust-std/*\nCopyright: The Rust Project contributors\nLicense: Expat\n";
const END: &str = "\nLicense: Expat\n Permission";

fn text_of(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn metadata() -> Value {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--locked", "--offline", "--format-version=1"]);
    // What other systems need is in no package of Debian.
    cargo.arg("--filter-platform=x86_64-unknown-linux-gnu").current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().filter_map(Value::as_str).collect()
}

/// The crates whose code is in the programs: no tests, no build scripts, no macros that only write code.
fn linked(metadata: &Value) -> Vec<&Value> {
    let packages: BTreeMap<&str, &Value> = keyed(&metadata["packages"]);
    let nodes: BTreeMap<&str, &Value> = keyed(&metadata["resolve"]["nodes"]);
    let root = metadata["resolve"]["root"].as_str().unwrap();
    let (mut found, mut next) = (BTreeSet::new(), vec![root]);
    while let Some(id) = next.pop() {
        if !found.insert(id) {
            continue;
        }
        for dependency in nodes[id]["deps"].as_array().unwrap() {
            let id = dependency["pkg"].as_str().unwrap();
            let kinds = dependency["dep_kinds"].as_array().unwrap();
            // Loom is for one test alone, in a build of its own.
            let is_linked =
                |kind: &Value| kind["kind"].is_null() && kind["target"].as_str() != Some("cfg(loom)");
            let is_macro = packages[id]["targets"]
                .as_array()
                .unwrap()
                .iter()
                .any(|t| texts(&t["kind"]).contains(&"proc-macro"));
            if kinds.iter().any(is_linked) && !is_macro {
                next.push(id);
            }
        }
    }
    found.remove(root);
    let mut found: Vec<&Value> = found.into_iter().map(|id| packages[id]).collect();
    found.sort_by_key(|package| (package["name"].as_str(), package["version"].as_str()));
    found
}

fn keyed(list: &Value) -> BTreeMap<&str, &Value> {
    list.as_array().unwrap().iter().map(|one| (one["id"].as_str().unwrap(), one)).collect()
}

/// The licence under which we take a crate, of those that it offers, as copyright files of Debian name it.
fn licence(package: &Value) -> &'static str {
    let offered = package["license"].as_str().unwrap_or_default();
    let offers = |name: &str| offered.split([' ', '/', '(', ')']).any(|word| word == name);
    let is_choice = !offered.contains(" AND ");
    match () {
        () if is_choice && offers("MIT") => "Expat",
        () if is_choice && offers("Apache-2.0") => "Apache-2.0",
        () if offered == "Zlib" => "Zlib",
        () => panic!("{}: no rule for the licence {offered:?}", package["name"]),
    }
}

/// Who says in a crate's licences that the copyright is theirs; else its authors.
fn holders(package: &Value) -> Vec<String> {
    let dir = Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap();
    let mut lines = BTreeSet::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().to_uppercase();
        let is_licence =
            ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE"].iter().any(|n| name.starts_with(n));
        if is_licence && entry.path().is_file() {
            let text = fs::read(entry.path()).unwrap();
            lines.extend(String::from_utf8_lossy(&text).lines().filter_map(holder));
        }
    }
    if lines.is_empty() {
        lines.extend(texts(&package["authors"]).iter().map(|author| (*author).to_owned()));
    }
    if lines.is_empty() {
        lines.insert(format!("the authors of {}", package["name"].as_str().unwrap()));
    }
    lines.into_iter().collect()
}

/// `Copyright (c) 2015 Somebody` says `2015 Somebody`; what a licence says in general, or as a form to fill in, is none.
fn holder(line: &str) -> Option<String> {
    let rest = line.trim().strip_prefix("Copyright ").or_else(|| line.trim().strip_prefix("copyright "))?;
    let is_statement = rest.starts_with(|c: char| c.is_ascii_digit() || c == '(' || c == '©' || c == '[');
    let text = ["(c)", "(C)", "©"].iter().fold(rest.to_owned(), |text, mark| text.replace(mark, ""));
    let text = text.replace(['[', ']'], "").trim().trim_end_matches('.').trim_end_matches(" or").to_owned();
    (is_statement && !text.is_empty() && !text.contains("yyyy") && !text.contains("{")).then_some(text)
}

/// A paragraph for each crate.
fn paragraphs() -> String {
    let metadata = metadata();
    let mut text = String::new();
    for package in linked(&metadata) {
        let name = format!("{}-{}", package["name"].as_str().unwrap(), package["version"].as_str().unwrap());
        let licence = licence(package);
        let holders = holders(package).join("\n           ");
        text += &format!("\nFiles: {name}/*\nCopyright: {holders}\nLicense: {licence}\n");
    }
    text
}

#[test]
fn the_copyright_names_everything_that_is_linked_in() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(COPYRIGHT);
    let shipped = text_of(COPYRIGHT);
    let (head, rest) = shipped.split_once(BEGIN).expect("its first part ends with what begins the list");
    let (_, tail) = rest.split_once(END).expect("licences stand behind the list");
    let wanted = format!("{head}{BEGIN}{}{END}{tail}", paragraphs());
    if std::env::var_os("BLESS").is_some() {
        fs::write(path, &wanted).unwrap();
    }
    let shipped = text_of(COPYRIGHT);
    assert!(shipped == wanted, "{COPYRIGHT} is not of these crates: BLESS=1 cargo test --test package");
    let licences: BTreeSet<&str> =
        shipped.lines().filter_map(|line| line.strip_prefix("License: ")).collect();
    for name in licences.iter().flat_map(|licence| licence.split(" or ")) {
        assert!(shipped.contains(&format!("\n\nLicense: {name}\n ")), "the text of {name} is missing");
    }
}

#[test]
fn the_changelog_is_of_this_version() {
    let changelog = text_of("packaging/changelog");
    let first = changelog.lines().next().unwrap();
    assert!(first.starts_with(&format!("ipc-pipeline ({}) ", env!("CARGO_PKG_VERSION"))), "{first}");
}

/// The most that `systemd-analyze security` may say about conv with any of the drop-ins, in tenths.
const EXPOSURE: u32 = 15;

/// The files of a folder whose names end so.
fn files(folder: &str, end: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let all = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = all.filter(|path| path.to_string_lossy().ends_with(end)).collect();
    found.sort();
    found
}

/// All units in a directory of their own, with the programs that were built just now in the place of installed ones.
fn units() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let built = Path::new(env!("CARGO_BIN_EXE_ipc-pipeline")).parent().unwrap().to_str().unwrap();
    for unit in files("units", ".service").into_iter().chain(files("units", ".target")) {
        let text = fs::read_to_string(&unit).unwrap();
        let text = text.replace("/usr/sbin/ipc-", &format!("{built}/ipc-"));
        let text = text.replace("/usr/bin/ipc-", &format!("{built}/ipc-"));
        fs::write(dir.path().join(unit.file_name().unwrap()), text).unwrap();
    }
    dir
}

/// `systemd-analyze`, which knows these units and those of systemd: exit code 0, or what it says.
fn analyze(dir: &Path, arguments: &[&str], unit: &str) -> Result<(), String> {
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(arguments).arg(dir.join(unit)).env("SYSTEMD_UNIT_PATH", format!("{}:", dir.display()));
    let output = analyze.output().expect("systemd-analyze is needed to judge units: apt install systemd");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let is_silent = said.trim().is_empty() || arguments[0] == "security";
    if output.status.success() && is_silent { Ok(()) } else { Err(format!("{unit}: {said}")) }
}

#[test]
fn systemd_has_nothing_to_say_against_the_drop_ins() {
    let drop_ins = files("units/drop-ins", "");
    assert!(drop_ins.len() >= 6, "{drop_ins:?}");
    let threshold = format!("--threshold={EXPOSURE}");
    let security = ["security", "--offline=yes", "--no-pager", &threshold];
    for drop_in in drop_ins {
        let dir = units();
        let text = fs::read_to_string(&drop_in).unwrap();
        let name = drop_in.file_name().unwrap().to_str().unwrap();
        for unit in ["ipc-conv.service", "ipc-conv@.service"] {
            let place = dir.path().join(format!("{unit}.d"));
            fs::create_dir(&place).unwrap();
            fs::copy(&drop_in, place.join(name)).unwrap();
        }
        // A template is judged by one of its instances.
        fs::rename(dir.path().join("ipc-conv@.service"), dir.path().join("ipc-conv@a.service")).unwrap();
        for unit in ["ipc-conv.service", "ipc-conv@a.service"] {
            analyze(dir.path(), &["verify", "--man=no"], unit).unwrap_or_else(|e| panic!("{name}: {e}"));
            analyze(dir.path(), &security, unit).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
        assert!(text.contains("# How to use it") && text.contains(&format!("drop-ins/{name} ")), "{name}");
        assert!(text.contains("systemctl daemon-reload"), "{name}");
    }
}

/// What a drop-in shows of a configuration is one.
#[test]
fn the_configurations_in_the_drop_ins_load() {
    for drop_in in files("units/drop-ins", ".conf") {
        let text = fs::read_to_string(&drop_in).unwrap();
        let lines = text.lines().filter_map(|line| line.strip_prefix("#   "));
        let is_toml = |line: &&str| line.starts_with('[') || line.contains(" = ");
        let toml: Vec<&str> = lines.filter(is_toml).collect();
        assert!(toml.len() >= 2, "{}", drop_in.display());
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("it.toml");
        // The program of the example need not be here.
        let toml = toml
            .join("\n")
            .replace("[\"/usr/local/bin/read-sensor\"", "[\"sh\"")
            .replace("[\"node\"", "[\"sh\"");
        fs::write(&file, toml.replace("[\"nc\"", "[\"sh\"")).unwrap();
        if let Err(faults) = ipc_pipeline::config::Config::load(Some(&file), &[]) {
            panic!("{}: {faults}", drop_in.display());
        }
    }
}

/// Everything in `units` is installed, and every unit names pages that are.
#[test]
fn the_package_has_all_units_and_their_pages() {
    let manifest = text_of("Cargo.toml");
    for end in [".service", ".target"] {
        assert!(
            manifest.contains(&format!("[\"units/*{end}\", \"usr/lib/systemd/system/\", \"644\"]")),
            "{end}"
        );
    }
    assert!(manifest.contains("[\"units/drop-ins/*\","), "drop-ins");
    let header = "[\"packaging/include/ipc_pipeline.h\", \"usr/include/\", \"644\"]";
    assert!(manifest.contains(header) && manifest.contains("[\"config/examples/*\","), "for other programs");
    // Pages, and the pictures in them.
    for end in ["md", "svg"] {
        assert!(
            manifest.contains(&format!("[\"docs/*.{end}\", \"usr/share/doc/ipc-pipeline/docs/\"")),
            "{end}"
        );
    }
    let pages = tempfile::tempdir().unwrap();
    let mut write = Command::new(env!("CARGO_BIN_EXE_ipc-pipeline"));
    assert!(write.arg("pages").arg(pages.path()).status().unwrap().success());
    for unit in files("units", ".service").into_iter().chain(files("units", ".target")) {
        let text = fs::read_to_string(&unit).unwrap();
        let line =
            text.lines().find_map(|line| line.strip_prefix("Documentation=")).expect("a unit has a page");
        for page in line.split(' ') {
            let (name, section) =
                page.trim_start_matches("man:").trim_end_matches(')').split_once('(').unwrap();
            let file = pages.path().join(format!("man{section}/{name}.{section}"));
            assert!(file.is_file(), "{}: there is no {name}({section})", unit.display());
        }
    }
}

/// A template is its unit with `%i` where the instance stands, and the sandbox is one text in all four services.
#[test]
fn templates_are_their_units_and_all_have_one_sandbox() {
    let mut sandboxes = Vec::new();
    for unit in ["ipc-conv", "ipc-log", "ipc-stat", "ipc-report", "ipc-pipeline-objects"] {
        let mut text = text_of(&format!("units/{unit}.service"));
        sandboxes.extend(text.split_once("# The sandbox").map(|(_, sandbox)| sandbox.to_owned()));
        for name in ["ipc-conv", "ipc-log", "ipc-stat", "ipc-report", "ipc-pipeline-objects"] {
            text = text.replace(&format!("{name}.service"), &format!("{name}@%i.service"));
        }
        let text = text
            .replace("ipc-pipeline.target", "ipc-pipeline@%i.target")
            .replace("--system", "--system --name %i")
            .replace("StateDirectory=ipc-pipeline/", "StateDirectory=ipc-pipeline/@%i/")
            .replace("Description=Measurement pipeline", "Description=Measurement pipeline %i");
        assert_eq!(text_of(&format!("units/{unit}@.service")), text, "{unit}@.service");
    }
    assert_eq!(sandboxes.len(), 4);
    assert!(sandboxes.iter().all(|sandbox| *sandbox == sandboxes[0]), "the sandboxes differ");
}
