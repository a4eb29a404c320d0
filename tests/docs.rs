//! What the pages tell people to do is done here: every ```sh block of them runs, line by line, in a directory of its own,
//! and each line must end with 0, or with the code that a comment behind it names. Blocks that cannot run are ```text.
//!
//! A block is one script of `sh`. Changed in it are only names of instances, so that tests do not meet each other, and
//! the root of the kernel's sensors. A ```toml block whose first line is `# FILE.toml` is that file.
#![forbid(unsafe_code)]

use ipc_pipeline::page::State;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A page with what it is to be run, and how many commands it has at least: a page that is not run would be noticed.
const PAGES: [(&str, usize); 6] = [
    ("docs/carriers.md", 3),
    ("docs/pi.md", 3),
    ("docs/log-a-temperature.md", 14),
    ("docs/replay-a-record.md", 10),
    ("docs/numbers.md", 7),
    ("docs/what-to-do-when.md", 10),
];
/// The README's commands that end by themselves and need nothing to be built.
const README: [(&str, &str); 3] = [
    ("-eux", "ipc-pipeline run --config config/examples/ecg.toml"),
    ("-eux", "seq 1 1000 | "),
    ("-ux", "--name storm --set \"conv.rate=10 kHz\" &"), // who is to be killed may have died just now
];

/// A fenced block of a page: its language and its lines.
struct Block {
    language: String,
    lines: Vec<String>,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        match line.strip_prefix("```") {
            Some(_) if inside => inside = false,
            Some(language) => {
                inside = true;
                blocks.push(Block { language: language.to_owned(), lines: Vec::new() });
            }
            None if inside => blocks.last_mut().unwrap().lines.push(line.to_owned()),
            None => {}
        }
    }
    assert!(!inside, "a block without an end");
    blocks
}

/// Where one page is run.
struct Place {
    dir: tempfile::TempDir,
    /// Behind every name of an instance.
    tail: String,
    names: Vec<String>,
    commands: usize,
}

impl Place {
    fn new(page: &str) -> Place {
        let dir = tempfile::Builder::new().prefix("ipc-pipeline-docs-").tempdir().unwrap();
        for sub in ["run", "state", "bin"] {
            fs::create_dir(dir.path().join(sub)).unwrap();
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for sub in ["config", "tests"] {
            symlink(root.join(sub), dir.path().join(sub)).unwrap();
        }
        let programs = Path::new(env!("CARGO_BIN_EXE_ipc-pipeline")).parent().unwrap();
        for name in ["ipc-pipeline", "ipc-conv", "ipc-log", "ipc-stat", "ipc-report"] {
            symlink(programs.join(name), dir.path().join("bin").join(name)).unwrap();
        }
        let chip = dir.path().join("sys/class/hwmon/hwmon3");
        fs::create_dir_all(&chip).unwrap();
        for (file, text) in [("name", "coretemp"), ("temp1_input", "45499"), ("temp1_label", "Package id 0")]
        {
            fs::write(chip.join(file), text).unwrap();
        }
        let tail = format!("-{}-{}", std::process::id(), page.len());
        Place { dir, tail, names: Vec::new(), commands: 0 }
    }

    fn run(&mut self, block: &Block) {
        match (block.language.as_str(), block.lines.first()) {
            ("sh", _) => self.run_script("-eux", &block.lines),
            ("toml", Some(first)) => {
                if let Some(name) = first.strip_prefix("# ").filter(|name| name.ends_with(".toml")) {
                    let text = block.lines.join("\n").replace("root = \"/sys\"", "root = \"sys\"");
                    fs::write(self.dir.path().join(name), text).unwrap();
                }
            }
            _ => {}
        }
    }

    /// With `-e` among the `flags` each line must end well, else the last one.
    fn run_script(&mut self, flags: &str, lines: &[String]) {
        let script: String = joined(lines).iter().map(|line| self.checked(line) + "\n").collect();
        let [out, err] = ["out", "err"].map(|end| self.dir.path().join(end));
        let path = format!("{}:{}", self.dir.path().join("bin").display(), std::env::var("PATH").unwrap());
        // What a script leaves running when it fails dies with its process group.
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", "90", "sh", flags, "-c", &script]).current_dir(self.dir.path());
        command.env("PATH", path).env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC");
        command.env("XDG_RUNTIME_DIR", self.dir.path().join("run"));
        command.env("XDG_STATE_HOME", self.dir.path().join("state"));
        command.stdin(Stdio::null());
        command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        let status = command.status().unwrap();
        let [out, err] = [out, err].map(|path| fs::read_to_string(path).unwrap());
        assert!(status.success(), "{status} of\n{script}\n--- it printed\n{out}--- and said\n{err}");
    }

    /// The line with names of its own, and with a check of its code where that is not 0.
    fn checked(&mut self, line: &str) -> String {
        let (bare, code) = match line.split_once("  # exit code ") {
            Some((bare, code)) => (bare, code.trim()),
            None => (line, "0"),
        };
        self.commands += usize::from(bare.contains("ipc-pipeline "));
        let own = self.renamed(bare);
        match code {
            "0" => own,
            code => format!("code=0; {own} || code=$?; test $code = {code}"),
        }
    }

    /// `--name NAME` becomes `--name NAME-TAIL`; a command that takes its name from a configuration gets one.
    fn renamed(&mut self, line: &str) -> String {
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        if let Some(at) = words.iter().position(|word| word == "--name") {
            words[at + 1] = self.name(&words[at + 1].clone());
        } else if let Some(at) = words.iter().position(|word| word == "--config") {
            let file = Path::new(&words[at + 1]).file_stem().unwrap().to_str().unwrap().to_owned();
            words.insert(at, format!("--name {}", self.name(&file)));
        }
        self.renamed_paths(&words.join(" "))
    }

    /// `ipc-pipeline/@NAME/` becomes `ipc-pipeline/@NAME-TAIL/`.
    fn renamed_paths(&self, line: &str) -> String {
        let mut parts = line.split("ipc-pipeline/@");
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |line, part| {
            let end = part.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(part.len());
            line + "ipc-pipeline/@" + &part[..end] + &self.tail + &part[end..]
        })
    }

    fn name(&mut self, name: &str) -> String {
        let own = format!("{name}{}", self.tail);
        self.names.push(own.clone());
        own
    }

    /// Nothing of this page is left in shared memory.
    fn leave(&self) {
        for name in &self.names {
            let begins = format!("ipc-pipeline@{name}.");
            let left: Vec<PathBuf> = fs::read_dir("/dev/shm").unwrap().map(|e| e.unwrap().path()).collect();
            let own = |path: &&PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(&begins);
            let left: Vec<&PathBuf> = left.iter().filter(own).collect();
            assert!(left.is_empty(), "left: {left:?}");
        }
    }
}

/// Lines that end with a backslash, and loops, are one.
fn joined(lines: &[String]) -> Vec<String> {
    let mut whole: Vec<String> = Vec::new();
    let mut open = false;
    for line in lines {
        match whole.last_mut() {
            Some(last) if open || last.ends_with('\\') => {
                last.push('\n');
                last.push_str(line);
            }
            _ => whole.push(line.clone()),
        }
        let word = line.split_whitespace().next().unwrap_or_default();
        open = (open || ["for", "while", "until"].contains(&word)) && !line.trim_end().ends_with("done");
    }
    whole
}

fn page(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

fn run_page(name: &str) {
    let (_, least) = PAGES.into_iter().find(|(page, _)| *page == name).unwrap();
    let mut place = Place::new(name);
    let blocks = blocks(&page(name));
    for block in &blocks {
        assert!(["sh", "toml", "text"].contains(&block.language.as_str()), "{name}: ```{}", block.language);
        let commands = |line: &String| line.starts_with("ipc-pipeline ");
        place.run(block);
        assert!(block.language == "text" || !block.lines.is_empty(), "{name}: an empty block");
        assert!(
            block.language != "toml" || !block.lines.iter().any(commands),
            "{name}: commands that are not run"
        );
    }
    assert!(place.commands >= least, "{name}: only {} commands were run", place.commands);
    println!("{name}: {} commands", place.commands);
    place.leave();
}

#[test]
fn log_a_temperature() {
    run_page("docs/log-a-temperature.md");
}

#[test]
fn replay_a_record() {
    run_page("docs/replay-a-record.md");
}

#[test]
fn carriers() {
    run_page("docs/carriers.md");
}

#[test]
fn pi() {
    run_page("docs/pi.md");
}

#[test]
fn numbers() {
    run_page("docs/numbers.md");
}

#[test]
fn what_to_do_when() {
    run_page("docs/what-to-do-when.md");
}

#[test]
fn the_readme() {
    let mut place = Place::new("README.md");
    let blocks: Vec<Block> = blocks(&page("README.md")).into_iter().filter(|b| b.language == "sh").collect();
    assert_eq!(blocks.len(), README.len());
    for (flags, part) in README {
        let block = blocks.iter().find(|block| block.lines.iter().any(|line| line.contains(part)));
        place.run_script(flags, &block.unwrap_or_else(|| panic!("no block with {part}")).lines);
    }
    assert!(place.commands >= 5, "only {} commands were run", place.commands);
    place.leave();
}

/// Every page of docs/ is known to the README, and every page with commands is run here.
#[test]
fn no_page_is_forgotten() {
    let readme = page("README.md");
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")).unwrap() {
        let name = format!("docs/{}", entry.unwrap().file_name().to_str().unwrap());
        if !name.ends_with(".md") {
            continue; // a picture of a page
        }
        assert!(readme.contains(&format!("({name})")), "README.md does not link {name}");
        let has_commands = blocks(&page(&name)).iter().any(|block| block.language == "sh");
        assert_eq!(has_commands, PAGES.iter().any(|(page, _)| *page == name), "{name}");
    }
}

/// All that the program's files hold but tests and comments, with texts that go over several lines made one.
fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let whole = fs::read_to_string(path).unwrap();
            let without_tests = whole.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
            let is_code = |line: &&str| !line.trim_start().starts_with("//");
            for line in without_tests.lines().filter(is_code) {
                text.push_str(line.trim_start().trim_end_matches('\\'));
                text.push_str(if line.ends_with('\\') { "" } else { "\n" });
            }
        }
    }
}

/// The texts in the first column of the tables are those that the program prints; `...` stands for names and numbers.
#[test]
fn every_text_is_the_programs_own() {
    let mut program = String::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("daemons"), &mut program);
    let page = page("docs/what-to-do-when.md");
    let mut texts = 0;
    for line in page.lines().filter_map(|line| line.strip_prefix("| `")) {
        let text = line.split_once('`').unwrap().0;
        for part in text.split("...").map(str::trim).filter(|part| part.len() >= 4) {
            assert!(program.contains(part), "the program never says {part:?}");
        }
        texts += 1;
    }
    assert!(texts >= 40, "only {texts} texts");
    for (_, name) in State::ALL {
        assert!(page.contains(&format!("| `{name}` |")), "the state {name:?} is not in the page");
    }
    for code in ["0", "64", "65", "69", "70", "71", "74", "75", "78"] {
        assert!(page.contains(&format!("\n| {code} |")), "exit code {code} is not in the page");
    }
}
