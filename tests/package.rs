//! The Debian package, as far as it can be judged without building one: `make deb` builds it, and lintian judges that.
//!
//! `BLESS=1 cargo test --test package` writes packaging/copyright anew; read the difference before keeping it.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
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
