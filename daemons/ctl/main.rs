//! ipc-pipeline, the one command for people: runs a pipeline in the foreground, and looks after one.
#![forbid(unsafe_code)]

mod abandon;
mod archive;
mod child;
mod export;
mod objects;
mod run;
mod status;
mod verify;
mod walk;

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use export::ExportError;
use ipc_pipeline::args::{CommonArgs, report_usage};
use ipc_pipeline::daemon::{self, EXIT_SYSTEM, Failure};
use ipc_pipeline::logging;
use ipc_pipeline::names::shm_path;
use ipc_pipeline::reader::RecordReader;

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
  ipc-pipeline export --format csv --name demo --output demo.csv

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
    #[command(after_help = "Example:\n  ipc-pipeline check --config config/pipeline.toml")]
    Check {
        #[command(flatten)]
        common: CommonArgs,
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
    /// Prove a record: every CRC, the order, the epochs, the losses, and stat's last word
    #[command(
        after_help = "Examples:\n  ipc-pipeline verify\n  ipc-pipeline verify /backup/log --json\n\nExit codes: 0 everything is true, 1 a promise is broken (what and where is said), 2 the record cannot be read."
    )]
    Verify {
        #[command(flatten)]
        common: CommonArgs,
        /// The directory of a record; without it that of the instance
        dir: Option<PathBuf>,
        /// For machines: one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Write the samples of a record as text
    #[command(
        after_help = "Examples:\n  ipc-pipeline export --format csv > samples.csv\n  ipc-pipeline export --name demo --output demo.csv\n\nExit codes: 0 all samples were written, 1 damaged entries were left out, 2 the record cannot be read."
    )]
    Export {
        #[command(flatten)]
        common: CommonArgs,
        /// The directory of a record; without it that of the instance
        dir: Option<PathBuf>,
        /// The form of the text
        #[arg(long, value_enum, default_value_t = Format::Csv)]
        format: Format,
        /// Write to FILE instead of standard output
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
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
    },
    /// Make, mend, remove or list the named objects of an instance
    #[command(
        after_help = "Examples:\n  ipc-pipeline objects list --name demo\n  ipc-pipeline objects remove --name demo"
    )]
    Objects {
        #[command(subcommand)]
        what: objects::Command,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// seq,time,channel,value with a header line
    Csv,
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
        Command::Check { common } => check(&common),
        Command::Status { common, json } => status::status(&common, json),
        Command::Verify { common, dir, json } => verify_record(&common, dir, json),
        Command::Export { common, dir, format: Format::Csv, output } => export_csv(&common, dir, output),
        Command::Archive { common, to, compress } => archive_record(&common, to, compress),
        Command::Compress { common, dir } => {
            place(&common, dir).and_then(|place| say(&archive::compress(&place.record)?)).map(|()| 0)
        }
        Command::Objects { what } => objects::objects(what),
    };
    match result {
        Ok(code) => code.into(),
        Err(failure) => {
            logging::start("ipc-pipeline", log::LevelFilter::Info);
            for line in failure.text.lines() {
                log::error!("{line}");
            }
            failure.code.into()
        }
    }
}

fn check(common: &CommonArgs) -> Result<u8, Failure> {
    let (config, names) = common.resolve().map_err(|e| Failure::new(e.exit_code(), e))?;
    let file = common.config.as_ref().map_or("the built-in defaults".into(), |f| f.display().to_string());
    say(&format!(
        "{file}: no faults; instance {}, record in {}, spool of {} entries ({} MiB)\n",
        names.instance(),
        names.record_dir().display(),
        config.spool.capacity,
        (config.spool.capacity * 32).div_ceil(1 << 20)
    ))?;
    Ok(0)
}

/// Where the record is, and stat's last word about it; only the record where a directory is given.
struct Place {
    record: PathBuf,
    register: Option<PathBuf>,
    checkpoints: Option<PathBuf>,
}

fn place(common: &CommonArgs, dir: Option<PathBuf>) -> Result<Place, Failure> {
    if let Some(record) = dir {
        return Ok(Place { record, register: None, checkpoints: None });
    }
    let (_, names) = common.resolve().map_err(|e| Failure::new(e.exit_code(), e))?;
    let register = Some(shm_path(&names.snapshot()));
    if !names.record_dir().exists() {
        let (name, dir) = (names.instance(), names.record_dir());
        return Err(Failure::new(
            verify::EXIT_UNREADABLE,
            format!(
                "instance {name} has no record: there is no {}; look at --name and XDG_STATE_HOME",
                dir.display()
            ),
        ));
    }
    Ok(Place { record: names.record_dir(), register, checkpoints: Some(names.stat_dir()) })
}

fn verify_record(common: &CommonArgs, dir: Option<PathBuf>, json: bool) -> Result<u8, Failure> {
    let Place { record, register, checkpoints } = place(common, dir)?;
    let report = verify::verify(&record, register.as_deref(), checkpoints.as_deref())
        .map_err(|e| Failure::new(e.exit_code(), e))?;
    say(&if json { format!("{:#}\n", report.json()) } else { report.text() })?;
    Ok(report.exit_code())
}

fn export_csv(common: &CommonArgs, dir: Option<PathBuf>, output: Option<PathBuf>) -> Result<u8, Failure> {
    let reader = RecordReader::open(&place(common, dir)?.record)
        .map_err(|e| Failure::new(verify::EXIT_UNREADABLE, e))?;
    let mut out: Box<dyn Write> =
        match &output {
            Some(path) => Box::new(std::fs::File::create(path).map_err(|e| {
                Failure::system(format!("cannot make the output file {}: {e}", path.display()))
            })?),
            None => Box::new(BufWriter::new(io::stdout().lock())),
        };
    match export::csv(reader, &mut out) {
        Ok(done) if done.damaged == 0 => Ok(verify::EXIT_TRUE),
        Ok(done) => {
            let damaged = done.damaged;
            let text = format!("{damaged} damaged entries were left out; `ipc-pipeline verify` names them");
            Err(Failure::new(verify::EXIT_BROKEN, text))
        }
        Err(ExportError::Record(e)) => Err(Failure::new(verify::EXIT_UNREADABLE, e)),
        // A reader that went away, such as `head`, has read what it wanted.
        Err(ExportError::Output(e)) if e.kind() == io::ErrorKind::BrokenPipe => Ok(verify::EXIT_TRUE),
        Err(e) => Err(Failure::system(e)),
    }
}

fn archive_record(common: &CommonArgs, to: Option<PathBuf>, compress: bool) -> Result<u8, Failure> {
    place(common, None)?;
    let (config, names) = common.resolve().map_err(|e| Failure::new(e.exit_code(), e))?;
    say(&archive::archive(&config, &names, to.as_deref(), compress)?)?;
    Ok(0)
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
