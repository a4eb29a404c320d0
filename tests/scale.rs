//! How much of something a test does, where its dice start, and what it tells about it afterwards.
//!
//! `IPC_PIPELINE_SIZE` is `ci` (also if it is not set), `nightly` or `release`; `IPC_PIPELINE_SEED` starts all dice. A variable of a
//! test's own, like `STORM_KILLS`, goes before both. `make test SIZE=nightly` and `make torture` set them.
#![forbid(unsafe_code)]
#![allow(dead_code)] // each test program uses its own part of it

use std::env;
use std::fs::OpenOptions;
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How much: what the variable `name` says, or else this much in CI, at night and before a release.
pub fn size(name: &str, sizes: [u64; 3]) -> u64 {
    number(name).unwrap_or_else(|| usual(sizes))
}

/// The same without a variable of its own.
pub fn usual([ci, nightly, release]: [u64; 3]) -> u64 {
    match env::var("IPC_PIPELINE_SIZE").as_deref() {
        Err(_) | Ok("" | "ci") => ci,
        Ok("nightly") => nightly,
        Ok("release") => release,
        Ok(other) => panic!("IPC_PIPELINE_SIZE={other}: there are ci, nightly and release"),
    }
}

/// Where the dice start: what the variable `name` says, or the common one; else another seed each time. It is printed.
pub fn seed(name: &str) -> u64 {
    let seed = seed_or(
        name,
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |t| t.as_nanos() as u64 % 1_000_000_000),
    );
    eprintln!("{name}={seed}");
    seed
}

/// The same for a test that starts at `usual` if nobody says otherwise.
pub fn seed_or(name: &str, usual: u64) -> u64 {
    number(name).or_else(|| number("IPC_PIPELINE_SEED")).unwrap_or(usual)
}

/// A variable that is a number.
pub fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}")))
}

/// Tells `make torture` how many faults were put in, and the longest time until all went on, as a line in the file that
/// `IPC_PIPELINE_TALLY` names.
pub fn tally(faults: u64, worst: Option<Duration>) {
    let Some(path) = env::var_os("IPC_PIPELINE_TALLY") else { return };
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("the tally can be written");
    writeln!(file, "{faults} {}", worst.map_or(0, |worst| worst.as_millis()))
        .expect("the tally can be written");
}
