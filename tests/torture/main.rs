//! `make torture HOURS=n`: all suites of faults, one after the other and round again with new dice, for n hours. It shows what it
//! does, and writes at the end what came of it into docs/reliability.md. What failed is kept with the command that repeats it.
#![forbid(unsafe_code)]

mod run;
mod suites;
mod table;

use clap::Parser;
use run::{Outcome, run};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use suites::SUITES;
use table::Table;

#[derive(Parser)]
struct Args {
    /// How long; the suite that runs then is still finished.
    #[arg(long, value_name = "H")]
    hours: f64,
    /// Where the dice of the first round start; a random one if not given.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Only suites whose name contains this.
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Leave the table in docs/reliability.md as it is.
    #[arg(long)]
    dry: bool,
    /// For the tests, such as --include-ignored.
    #[arg(last = true)]
    tests: Vec<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let chosen: Vec<_> = SUITES.iter().filter(|suite| suite.name.contains(&args.only)).collect();
    if chosen.is_empty() || args.hours.is_nan() || args.hours <= 0.0 {
        eprintln!("torture: --hours must be more than 0, and --only part of one of these names:");
        SUITES.iter().for_each(|suite| eprintln!("  {}", suite.name));
        return ExitCode::from(64);
    }
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000_000));
    let (begun, time) = (Instant::now(), Duration::from_secs_f64(args.hours * 3600.0));
    let kept = PathBuf::from("target/torture");
    let mut table = Table::new(seed);
    eprintln!("torture: seed {seed}, suites: {}, for {}", chosen.len(), table::hours(time));
    'rounds: for round in 0.. {
        for suite in &chosen {
            if begun.elapsed() >= time {
                break 'rounds;
            }
            let live = |faults| table.live(begun.elapsed(), time, suite.name, faults);
            let outcome = run(suite, seed.wrapping_add(round), &args.tests, &kept, &live);
            if let Outcome { kept: Some(path), again, .. } = &outcome {
                eprintln!(
                    "torture: {} FAILED; again by: {again}\n  what it said: {}",
                    suite.name,
                    path.display()
                );
            }
            table.add(suite, &outcome);
        }
    }
    let text = table.finish(begun.elapsed());
    println!("{text}");
    if !args.dry
        && let Err(e) = table::publish(&text)
    {
        eprintln!("torture: {e}");
        return ExitCode::FAILURE;
    }
    if table.errors() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
