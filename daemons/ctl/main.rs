//! ipc-pipeline, the one command for people.
#![forbid(unsafe_code)]

mod export;
mod verify;
mod walk;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipc_pipeline::args::{self, CommonArgs};
use ipc_pipeline::daemon::Failure;
use ipc_pipeline::names::shm_path;
use ipc_pipeline::reader::RecordReader;

/// Looks at a measurement pipeline and at its record
#[derive(Parser)]
#[command(version, subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check every promise that a record and its statistics make
    #[command(
        after_help = "Exit codes: 0 everything is true, 1 a promise is broken, 2 the record cannot be read.\n\n\
        Examples:\n  ipc-pipeline verify\n  ipc-pipeline verify --json /backup/log"
    )]
    Verify(VerifyArgs),
    /// Write the samples of a record as text
    #[command(
        after_help = "Exit codes: 0 all samples were written, 1 damaged entries were left out, 2 the record cannot be \
        read.\n\nExamples:\n  ipc-pipeline export --format csv > samples.csv\n  ipc-pipeline export --output samples.csv \
        /backup/log"
    )]
    Export(ExportArgs),
}

/// Which record.
#[derive(Args)]
struct RecordArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Directory of the record; without it that of the instance, also while it runs
    dir: Option<PathBuf>,
}

#[derive(Args)]
struct VerifyArgs {
    #[command(flatten)]
    record: RecordArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct ExportArgs {
    #[command(flatten)]
    record: RecordArgs,
    /// Form of the text
    #[arg(long, value_enum, default_value_t = Format::Csv)]
    format: Format,
    /// Write to FILE instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// seq,time,channel,value: a header, then one line a sample
    Csv,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return args::report_usage(&e).into(),
    };
    let done = match &cli.command {
        Command::Verify(args) => verify(args),
        Command::Export(args) => export(args),
    };
    match done {
        Ok(code) => code.into(),
        Err(failure) => {
            eprintln!("ipc-pipeline: {failure}");
            failure.code.into()
        }
    }
}

impl RecordArgs {
    /// The record's directory and, for the record of an instance, its snapshot register.
    fn place(&self) -> Result<(PathBuf, Option<PathBuf>), Failure> {
        if let Some(dir) = &self.dir {
            return Ok((dir.clone(), None));
        }
        let (_, names) = self.common.resolve().map_err(|e| Failure::new(e.exit_code(), e))?;
        Ok((names.record_dir(), Some(shm_path(&names.snapshot()))))
    }
}

fn verify(args: &VerifyArgs) -> Result<u8, Failure> {
    let (dir, register) = args.record.place()?;
    let report = verify::verify(&dir, register.as_deref()).map_err(|e| Failure::new(e.exit_code(), e))?;
    let text = if args.json { format!("{:#}\n", report.json()) } else { report.text() };
    unless_unread(io::stdout().write_all(text.as_bytes()))
        .map_err(|e| Failure::system(format!("cannot write the report to standard output: {e}")))?;
    Ok(report.exit_code())
}

fn export(args: &ExportArgs) -> Result<u8, Failure> {
    let (dir, _) = args.record.place()?;
    let reader = RecordReader::open(&dir).map_err(|e| Failure::new(verify::EXIT_UNREADABLE, e))?;
    let mut out = output(args.output.as_deref())?;
    let done = match args.format {
        Format::Csv => export::csv(reader, &mut out),
    };
    match done {
        Ok(done) if done.damaged == 0 => Ok(verify::EXIT_TRUE),
        Ok(done) => {
            let damaged = done.damaged;
            let text = format!("{damaged} damaged entries were left out; `ipc-pipeline verify` names them");
            Err(Failure::new(verify::EXIT_BROKEN, text))
        }
        Err(export::ExportError::Record(e)) => Err(Failure::new(verify::EXIT_UNREADABLE, e)),
        Err(export::ExportError::Output(e)) => match unless_unread(Err(e)) {
            Ok(()) => Ok(verify::EXIT_TRUE),
            Err(e) => Err(Failure::system(export::ExportError::Output(e))),
        },
    }
}

fn output(path: Option<&Path>) -> Result<Box<dyn Write>, Failure> {
    let Some(path) = path else { return Ok(Box::new(BufWriter::new(io::stdout().lock()))) };
    let file = File::create(path);
    let file =
        file.map_err(|e| Failure::system(format!("cannot make the output file {}: {e}", path.display())))?;
    Ok(Box::new(file))
}

/// A reader that went away, such as `head`, has read what it wanted.
fn unless_unread(written: io::Result<()>) -> io::Result<()> {
    written.or_else(|e| if e.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(e) })
}
