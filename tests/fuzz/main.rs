//! T9, hostile bytes: every reader of outside bytes gets inputs that were made to break it.
//!
//! `tests/fuzz/corpus/<target>` holds inputs that once found something, or that lead to code which others do not; they are tried first.
//! Then come right inputs with mutations, from a seed that is printed. `FUZZ_RUNS` says how many for each target, `FUZZ_SEED`
//! repeats them, `cargo test --test fuzz -- NAME FILE...` tries one target, or only these files on it. `make fuzz` tries the same targets
//! with mutations that the coverage guides.
#![forbid(unsafe_code)]

mod mutate;
#[path = "../scale.rs"]
mod scale;
mod targets;

// Readers that stand in the programs and not in the library.
#[allow(dead_code, unused_imports)]
#[path = "../../daemons/ctl/condition.rs"]
mod condition;
#[allow(dead_code, unused_imports)]
#[path = "../../daemons/ctl/moment.rs"]
mod moment;
#[allow(dead_code, unused_imports)]
#[path = "../../daemons/conv/source/mod.rs"]
mod source;

use std::fs;
use std::panic;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use targets::{TARGETS, Target};

/// Seconds for each target, if `FUZZ_RUNS` does not say a number.
const SECONDS: [u64; 3] = [2, 150, 3_600];

fn main() -> ExitCode {
    let seed = scale::seed("FUZZ_SEED");
    let names: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    // A panic is caught and said with the input that made it.
    panic::set_hook(Box::new(|panic| {
        println!("{}", panic.location().map_or(String::new(), ToString::to_string))
    }));
    let (wanted, files) = names.split_first().map_or((None, &[][..]), |(name, files)| (Some(name), files));
    let chosen: Vec<&Target> = TARGETS.iter().filter(|t| wanted.is_none_or(|name| t.name == name)).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        println!("there is no such target; there are: {}", names.join(" "));
        return ExitCode::FAILURE;
    }
    let mut found = 0;
    for target in chosen {
        found += match files {
            [] => usize::from(!fuzz(target, seed)),
            files => files.iter().filter(|file| !holds(target, &fs::read(file).expect("a file"))).count(),
        };
    }
    println!("{found} of the targets broke");
    if found == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Tries corpus, right inputs and mutations; false: something did not hold.
fn fuzz(target: &Target, seed: u64) -> bool {
    let (begun, runs) = (Instant::now(), scale::number("FUZZ_RUNS"));
    let share = Duration::from_secs(scale::size("FUZZ_SECONDS", SECONDS));
    let kept = corpus(target);
    let pool: Vec<Vec<u8>> = kept.iter().cloned().chain((target.seeds)()).collect();
    let mut dice = fastrand::Rng::with_seed(seed ^ targets::digest(target.name.as_bytes()));
    let mut tried = 0;
    let all_hold = pool.iter().all(|input| holds(target, input))
        && std::iter::repeat_with(|| mutate::mutate(&pool, target.words, &mut dice))
            .take_while(|_| {
                tried += 1;
                runs.map_or(begun.elapsed() < share, |runs| tried <= runs)
            })
            .all(|input| holds(target, &input));
    scale::tally(tried + pool.len() as u64, None);
    println!("{:16} {:4} kept {tried:9} mutations {:6.1?}", target.name, kept.len(), begun.elapsed());
    all_hold
}

/// The kept inputs of a target, in the order of their names.
fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target.name);
    let mut files: Vec<PathBuf> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|f| f.path()).collect();
    files.sort_unstable();
    files.iter().map(|path| fs::read(path).expect("a file of the corpus")).collect()
}

/// Tries one input. If it breaks something it is written to a file, so that it can be tried again and kept.
fn holds(target: &Target, input: &[u8]) -> bool {
    let Err(panic) = panic::catch_unwind(|| target.try_input(input)) else { return true };
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    let file = std::env::temp_dir().join(format!("fuzz-{}-{:08x}", target.name, crc32c::crc32c(input)));
    let kept = fs::write(&file, input).map_or_else(|e| e.to_string(), |()| file.display().to_string());
    println!("{}: {}\n    the input is in {kept}", target.name, text.unwrap_or("a panic without text"));
    false
}
