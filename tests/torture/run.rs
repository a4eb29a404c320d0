//! One suite, once.
#![forbid(unsafe_code)]

use crate::suites::{How, Suite};
use indicatif::{ProgressBar, ProgressStyle};
use std::fs::{self, File};
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What came of it.
pub struct Outcome {
    pub faults: u64,
    /// The longest time from a fault until all went on, if the suite measures it.
    pub worst: Option<Duration>,
    pub took: Duration,
    /// What it said, if it failed.
    pub kept: Option<PathBuf>,
    /// The command that repeats it.
    pub again: String,
}

/// Runs it with dice from `seed`. What it says goes into a file in `dir`, which is kept if it fails. `live` gives the line that is
/// shown meanwhile, from the faults so far.
pub fn run(suite: &Suite, seed: u64, tests: &[String], dir: &Path, live: &dyn Fn(u64) -> String) -> Outcome {
    fs::create_dir_all(dir).unwrap_or_else(|e| panic!("cannot make {}: {e}", dir.display()));
    let dir = fs::canonicalize(dir).expect("it was just made");
    let file = |end: &str| {
        dir.join(format!("{}-{seed}.{end}", suite.name.replace(|c: char| !c.is_alphanumeric(), "-")))
    };
    let (said, tally) = (file("log"), file("tally"));
    let _ = fs::remove_file(&tally);
    let words = words(suite, tests);
    let out = File::create(&said).unwrap_or_else(|e| panic!("cannot make {}: {e}", said.display()));
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env("IPC_PIPELINE_SEED", seed.to_string()).env("IPC_PIPELINE_TALLY", &tally);
    command.stdin(Stdio::null()).stdout(out.try_clone().expect("a descriptor")).stderr(out);
    let begun = Instant::now();
    let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot start {}: {e}", words[0]));
    let ended_well = watch(&mut child, &tally, live).is_ok_and(|end| end.success());
    let (faults, worst) = read(&tally);
    // A suite that was left out, or a name that no test has, is no success.
    let passed = ended_well && faults > 0;
    let _ = fs::remove_file(&tally);
    if passed {
        let _ = fs::remove_file(&said);
    }
    Outcome {
        faults,
        worst,
        took: begun.elapsed(),
        kept: (!passed).then_some(said),
        again: format!("IPC_PIPELINE_SEED={seed} {}", words.join(" ")),
    }
}

fn words(suite: &Suite, tests: &[String]) -> Vec<String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let make = std::env::var("MAKE").unwrap_or_else(|_| "make".into());
    let mut words: Vec<String> = match suite.how {
        How::Test(program, filter) => {
            vec![
                cargo,
                "test".into(),
                "--locked".into(),
                "--test".into(),
                program.into(),
                "--".into(),
                filter.into(),
            ]
        }
        How::Make(target, filter) => {
            vec![make, "--no-print-directory".into(), target.into(), format!("ARGS={filter}")]
        }
    };
    if matches!(suite.how, How::Test(..)) {
        words.push("--test-threads=1".into());
        words.extend(tests.iter().cloned());
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Waits for its end, and says meanwhile what there is to say: all the time on a terminal, else once.
fn watch(child: &mut Child, tally: &Path, live: &dyn Fn(u64) -> String) -> io::Result<ExitStatus> {
    if !io::stderr().is_terminal() {
        eprintln!("torture: {}", live(0));
        return child.wait();
    }
    let style = ProgressStyle::with_template("{spinner} {msg}").expect("the template is right");
    let bar = ProgressBar::new_spinner().with_style(style);
    let end = loop {
        if let Some(end) = child.try_wait()? {
            break end;
        }
        bar.set_message(live(read(tally).0));
        bar.tick();
        sleep(Duration::from_millis(200));
    };
    bar.finish_and_clear();
    Ok(end)
}

/// Faults in all, and the worst time.
fn read(tally: &Path) -> (u64, Option<Duration>) {
    let text = fs::read_to_string(tally).unwrap_or_default();
    let lines = text.lines().filter_map(|line| {
        let (faults, worst) = line.split_once(' ')?;
        Some((faults.parse::<u64>().ok()?, worst.parse::<u64>().ok()?))
    });
    let (faults, worst) = lines.fold((0, 0), |(sum, most), (faults, worst)| (sum + faults, most.max(worst)));
    (faults, (worst > 0).then(|| Duration::from_millis(worst)))
}
