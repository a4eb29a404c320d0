//! ipc-pipeline, the one command for people: runs a pipeline in the foreground, and looks after one.
#![forbid(unsafe_code)]

mod abandon;
mod alarms;
mod archive;
mod axis;
mod bench;
mod chart;
mod check;
mod child;
mod condition;
mod doctor;
mod entries;
mod export;
mod keys;
mod lost;
mod moment;
mod objects;
mod pages;
mod pi;
mod place;
mod plot;
mod progress;
mod reload;
mod run;
mod said;
mod samples;
mod screen;
mod standing;
mod status;
mod svg;
mod tail;
mod top;
mod verify;
mod walk;
mod windows;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use ipc_pipeline::args::{CommonArgs, report_usage};
use ipc_pipeline::daemon::{self, EXIT_SYSTEM, Failure};
use ipc_pipeline::logging;

use crate::place::Place;

/// Measurement pipeline: conv takes samples, log makes each durable, stat keeps exact statistics, report prints them
#[derive(Parser)]
#[command(name = "ipc-pipeline", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  ipc-pipeline run
      the reference job: a random integer 0..=100 every 800 ms
  ipc-pipeline run --config config/examples/ecg.toml
      a file, as fast as the disk takes it; ends when the file does
  seq 1 1000 | ipc-pipeline run --name demo --set source.kind=lines --set source.path=- --set conv.rate=max
      numbers from standard input
  ipc-pipeline status --name demo
  ipc-pipeline verify --name demo
  ipc-pipeline export --name demo --output demo.csv
  ipc-pipeline tail --name demo

Exit codes: 0 done, 64 usage, 65 bad input, 70 bug, 71 system, 75 already running, 78 configuration;
verify: 0 all true, 1 a promise is broken, 2 unreadable; status: 0 running, 3 not running.";

#[derive(Subcommand)]
enum Command {
    /// Run the whole pipeline in the foreground, until its source ends or Ctrl-C
    #[command(after_help = "Examples:
  ipc-pipeline run --for 10s
  ipc-pipeline run --name demo --set conv.rate=max --count 1000000

Ctrl-C or SIGTERM ends conv, lets log make everything durable, then ends the rest; a second one ends at once.
One instance is one pipeline: two with the same --name cannot run at the same time.")]
    Run {
        #[command(flatten)]
        common: CommonArgs,
        /// End after this time, for example 10s, 5min, 1h
        #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
        limit: Option<std::time::Duration>,
        /// End after this many samples of the epoch
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..1 << 63))]
        count: Option<u64>,
    },
    /// Check a configuration and say all its faults at once
    #[command(
        after_help = "Examples:\n  ipc-pipeline check --config config/pipeline.toml\n  ipc-pipeline check --system --json\n\nExit codes: 0 no faults, 78 some."
    )]
    Check {
        #[command(flatten)]
        common: CommonArgs,
        /// For machines: one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Look whether this machine is as a pipeline needs it; each finding says what to do
    #[command(after_help = doctor::HELP)]
    Doctor {
        #[command(flatten)]
        common: CommonArgs,
        /// For machines: one JSON array
        #[arg(long)]
        json: bool,
    },
    /// Show how a pipeline is doing, from its shared memory, asking nobody
    #[command(
        after_help = "Examples:\n  ipc-pipeline status\n  ipc-pipeline status --name demo --json\n\nExit codes: 0 all four daemons are running, 3 not."
    )]
    Status {
        #[command(flatten)]
        common: CommonArgs,
        /// For machines: one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Have running daemons read their configuration again; say what has changed and what needs a restart
    #[command(after_help = reload::HELP)]
    Reload(reload::Args),
    /// Prove a record: every CRC, the order, the epochs, the losses, and stat's last word
    #[command(after_help = verify::HELP)]
    Verify(verify::Args),
    /// Write the samples of a record, or a selection of them, as text
    #[command(after_help = export::HELP)]
    Export(export::Args),
    /// Show the last samples, then those to come
    #[command(after_help = tail::HELP)]
    Tail(tail::Args),
    /// A live screen: rates, lag, what is at risk, the newest values
    #[command(after_help = top::HELP)]
    Top(top::Args),
    /// Draw samples as SVG, or with characters
    #[command(after_help = plot::HELP)]
    Plot(plot::Args),
    /// Set the record of a stopped pipeline aside, so that the next run begins a new one
    #[command(
        after_help = "Examples:\n  ipc-pipeline archive --name demo --compress\n  ipc-pipeline archive --name demo --to /backup\n\nThe old record stays readable: ipc-pipeline verify DIR, ipc-pipeline export DIR. A file source begins anew with its first line."
    )]
    Archive {
        #[command(flatten)]
        common: CommonArgs,
        /// Put it into this directory, on the same file system; without it beside the record, as log-<UTC>
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
        /// Compress all its segments
        #[arg(long)]
        compress: bool,
        /// For machines: one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Compress all segments of a record that nobody writes; every command reads it as before
    #[command(
        after_help = "Example:\n  ipc-pipeline compress /backup/log-20260131T235959Z\n\nWhile a pipeline runs, log.compress = true does this to segments that are full."
    )]
    Compress {
        #[command(flatten)]
        common: CommonArgs,
        /// The directory of a record; without it that of the instance
        dir: Option<PathBuf>,
        /// For machines: one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Measure how fast this machine carries messages between two processes, by every way it has
    #[command(after_help = bench::HELP)]
    Bench(bench::Args),
    /// Make, mend, remove or list the named objects of an instance
    #[command(
        after_help = "Examples:\n  ipc-pipeline objects list --name demo\n  ipc-pipeline objects remove --name demo"
    )]
    Objects {
        #[command(subcommand)]
        what: objects::Command,
    },
    /// Compute pi with many processes over each mechanism of the machine: a test of its IPC
    #[command(after_help = pi::HELP)]
    Pi(pi::Args),
    /// Write the man pages and the completions of shells; for who packages this
    #[command(hide = true)]
    Pages {
        /// Below this directory
        dir: PathBuf,
    },
}

fn duration(text: &str) -> Result<std::time::Duration, String> {
    ipc_pipeline::config::duration(text)
        .filter(|d| !d.is_zero())
        .ok_or_else(|| "allowed: a number with one of the units ns, us, ms, s, min, h, as in 10s".into())
}

fn main() -> ExitCode {
    daemon::bugs_exit_with_70();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return report_usage(&e).into(),
    };
    let result = match cli.command {
        Command::Run { common, limit, count } => run::run(common, limit, count),
        Command::Check { common, json } => check::check(&common, json),
        Command::Doctor { common, json } => doctor::doctor(&common, json),
        Command::Status { common, json } => status::status(&common, json),
        Command::Reload(args) => reload::reload(&args),
        Command::Verify(args) => verify::command(args),
        Command::Export(args) => export::export(args),
        Command::Tail(args) => tail::tail(args),
        Command::Top(args) => top::top(args),
        Command::Plot(args) => plot::plot(args),
        Command::Archive { common, to, compress, json } => archive_record(&common, to, compress, json),
        Command::Compress { common, dir, json } => compress_record(&common, dir, json),
        Command::Bench(args) => bench::bench(&args),
        Command::Objects { what } => objects::objects(what),
        Command::Pi(args) => pi::command(&args),
        Command::Pages { dir } => pages::write(&dir, Cli::command()),
    };
    match result {
        Ok(code) => code.into(),
        Err(failure) => {
            logging::start("ipc-pipeline", log::LevelFilter::Info, false);
            failure.say()
        }
    }
}

fn archive_record(
    common: &CommonArgs,
    to: Option<PathBuf>,
    compress: bool,
    json: bool,
) -> Result<u8, Failure> {
    Place::find(common, None)?;
    let names = common.names().map_err(|e| Failure::new(e.exit_code(), e))?;
    say_done(&archive::archive(&names, to.as_deref(), compress)?, json)
}

fn compress_record(common: &CommonArgs, dir: Option<PathBuf>, json: bool) -> Result<u8, Failure> {
    say_done(&archive::compress(&Place::find(common, dir)?.record)?, json)
}

fn say_done(done: &archive::Done, json: bool) -> Result<u8, Failure> {
    say(&if json { done.json() } else { done.text() }).map(|()| 0)
}

/// Prints to standard output; a closed pipe ends the program quietly, as it does every filter.
pub fn say(text: &str) -> Result<(), Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(EXIT_SYSTEM, format!("cannot print to standard output: {e}")))
        }
        _ => Ok(()),
    }
}
