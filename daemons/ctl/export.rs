//! `ipc-pipeline export [DIR]`: the samples of a record, or a selection of them, as text.
//!
//! One line a sample ([`Lines`]). The same record and the same selection always give the same bytes, and what begins at a
//! later seq gives exactly the rest. With `--windows` it is a line for each window that has closed ([`Windows`]).
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use clap::ValueEnum;
use ipc_pipeline::args::CommonArgs;
use ipc_pipeline::daemon::Failure;
use ipc_pipeline::reader::ReadError;
use ipc_pipeline::text::{Form, Lines};

use crate::entries::Damage;
use crate::place::{Place, unreadable};
use crate::progress::Bar;
use crate::samples::{Follow, Samples, SelectionArgs};
use crate::verify::{EXIT_BROKEN, EXIT_TRUE};
use crate::windows::{Windows, asked_for};

/// Examples and exit codes.
pub const HELP: &str = "Examples:
  ipc-pipeline export > samples.csv
  ipc-pipeline export --name demo --format jsonl --from 10min --channel ecg
  ipc-pipeline export --where 'value > 900 and value < 1000' --output some.csv
  ipc-pipeline export --seq 1001.. --no-heading >> samples.csv
      goes on behind entry 1000, exactly
  ipc-pipeline export --follow | while read line; do ...; done
  ipc-pipeline export --windows --digits 3 --output windows.csv
      every window that has closed, computed again from the samples

Values are physical ones, (code / 10^decimals + offset) * scale, exactly; --raw gives the codes.
Exit codes: 0 all samples were written, 1 damaged entries were left out, 2 the record cannot be read.";

/// The command line.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: CommonArgs,
    /// The directory of a record; without it that of the instance
    dir: Option<PathBuf>,
    /// The form of the text
    #[arg(long, value_enum, default_value_t = Format::Csv)]
    format: Format,
    #[command(flatten)]
    selection: SelectionArgs,
    /// Give codes instead of physical values
    #[arg(long)]
    raw: bool,
    /// Give the closed windows of the configuration instead of samples; of a directory those that stat kept, or of --config
    #[arg(long, conflicts_with_all = ["seq", "condition", "raw", "follow"])]
    windows: bool,
    /// Digits after the point of what is no integer in windows; without it report.digits
    #[arg(long, value_name = "N", requires = "windows", value_parser = clap::value_parser!(u8).range(0..=30))]
    digits: Option<u8>,
    /// Leave out the line with the names of the columns
    #[arg(long)]
    no_heading: bool,
    /// Wait for more, until Ctrl-C or the end of the pipeline
    #[arg(long)]
    follow: bool,
    /// Write to FILE instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// The form of the text.
#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// seq,time,channel,value with a line of these names
    Csv,
    /// A JSON object a line, with name and unit too
    Jsonl,
}

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The record cannot be read.
    #[error(transparent)]
    Record(#[from] ReadError),
    /// The text cannot be written.
    #[error(
        "cannot write the export: {source}; what was written so far is right but for its last line, go on there with --seq"
    )]
    Output {
        /// What the system said.
        #[from]
        source: io::Error,
    },
}

impl ExportError {
    /// How the command ends with it.
    pub fn end(self) -> Result<u8, Failure> {
        match self {
            ExportError::Record(e) => Err(unreadable(e)),
            // A reader that went away, such as `head`, has read what it wanted.
            ExportError::Output { source } if source.kind() == io::ErrorKind::BrokenPipe => Ok(EXIT_TRUE),
            ExportError::Output { .. } => Err(Failure::system(self)),
        }
    }
}

/// The whole command.
pub fn export(args: Args) -> Result<u8, Failure> {
    let place = Place::find(&args.common, args.dir.clone())?;
    let written = if args.windows { export_windows(&args, &place) } else { export_samples(&args, place) }?;
    match written {
        Ok(damage) => damage.text().map_or(Ok(EXIT_TRUE), |text| Err(Failure::new(EXIT_BROKEN, text))),
        Err(e) => e.end(),
    }
}

fn export_samples(args: &Args, place: Place) -> Result<Result<Damage, ExportError>, Failure> {
    let reader = place.open()?;
    let lines = Lines::new(args.form(), args.raw, reader.channels());
    let selection = args.selection.resolve(args.raw, reader.channels())?;
    let follow = args.follow.then(|| Follow::begin(place.names, args.output.is_none())).transpose()?;
    let samples = Samples::open(reader, selection, args.follow).map_err(unreadable)?;
    let (mut out, bar) = args.output()?;
    let heading = if args.no_heading { "" } else { lines.heading() };
    let written = out.write_all(heading.as_bytes()).map_err(ExportError::from);
    Ok(written.and_then(|()| write(samples, lines, follow, &mut *out, &bar)))
}

fn export_windows(args: &Args, place: &Place) -> Result<Result<Damage, ExportError>, Failure> {
    let reader = place.open()?;
    let (settings, digits) = asked_for(&args.common, place, &reader)?;
    let selection = args.selection.resolve(false, reader.channels())?;
    let digits = args.digits.unwrap_or(digits);
    let windows = Windows::open(reader, &settings, selection, args.form(), digits).map_err(unreadable)?;
    let (mut out, bar) = args.output()?;
    Ok(write_windows(windows, !args.no_heading, &mut *out, &bar))
}

impl Args {
    fn form(&self) -> Form {
        match self.format {
            Format::Csv => Form::Csv,
            Format::Jsonl => Form::Jsonl,
        }
    }

    /// Where the text goes, and the bar beside it.
    fn output(&self) -> Result<(Box<dyn Write>, Bar), Failure> {
        let aside = self.output.is_some() || !io::stdout().is_terminal();
        let bar = Bar::new("exporting", aside && !self.follow);
        let out: Box<dyn Write> = match &self.output {
            Some(path) => Box::new(File::create(path).map_err(|e| {
                Failure::system(format!(
                    "cannot make the output file {}: {e}; name another one",
                    path.display()
                ))
            })?),
            None => Box::new(io::stdout().lock()),
        };
        Ok((out, bar))
    }
}

/// Writes all windows. Returns what was left out.
fn write_windows(
    mut windows: Windows,
    heading: bool,
    out: &mut dyn Write,
    bar: &Bar,
) -> Result<Damage, ExportError> {
    let mut text = if heading { windows.heading() } else { String::new() };
    loop {
        let more = windows.step(&mut text)?;
        out.write_all(text.as_bytes())?;
        text.clear();
        bar.at(windows.next() - 1, windows.end());
        if !more {
            out.flush()?;
            return Ok(windows.damage());
        }
    }
}

/// Writes all samples, and those to come if they are followed. Returns what was left out.
///
/// # Errors
/// The record cannot be read or the output not written.
pub fn write(
    mut samples: Samples,
    mut lines: Lines,
    mut follow: Option<Follow>,
    out: &mut dyn Write,
    bar: &Bar,
) -> Result<Damage, ExportError> {
    let mut text = Vec::new();
    while follow.as_ref().is_none_or(|follow| !follow.is_told()) {
        let more = samples.step(|sample, wall_ns| lines.put(&mut text, sample, wall_ns))?;
        out.write_all(&text)?;
        text.clear();
        bar.at(samples.next() - 1, samples.end());
        if more {
            continue;
        }
        out.flush()?;
        let Some(follow) = &mut follow else { break };
        if !follow.wait(&mut samples)? {
            break;
        }
    }
    out.flush()?;
    Ok(samples.damage())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::testing::{mark, record, rot};
    use ipc_pipeline::reader::RecordReader;
    use std::path::Path;

    fn exported(dir: &Path, form: Form, from: u64) -> (String, u64) {
        let reader = RecordReader::open(dir).unwrap();
        let lines = Lines::new(form, false, reader.channels());
        let selection = SelectionArgs::default().resolve(false, reader.channels()).unwrap();
        let selection = selection.of_seqs(from..=u64::MAX);
        let samples = Samples::open(reader, selection, false).unwrap();
        let mut text = lines.heading().as_bytes().to_vec();
        let damaged = write(samples, lines, None, &mut text, &Bar::new("", false)).unwrap();
        (String::from_utf8(text).unwrap(), damaged.entries)
    }

    #[test]
    fn one_line_a_sample() {
        let dir = tempfile::tempdir().unwrap();
        record(dir.path());
        let (text, damaged) = exported(dir.path(), Form::Csv, 1);
        assert_eq!(damaged, 0);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 16);
        assert_eq!(lines[0], "seq,time,channel,value");
        assert_eq!(lines[1], "4,2023-11-14T22:13:20.999000000Z,0,-2147483648");
        assert_eq!(lines[2], "5,2023-11-14T22:13:20.999000000Z,1,-0.0018");
        assert_eq!(lines[3], "8,2023-11-14T22:13:20.004000000Z,0,8");
        assert_eq!(lines[15], "20,2023-11-14T22:13:20.016000000Z,0,20");
    }

    #[test]
    fn what_begins_later_gives_exactly_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        record(dir.path());
        for form in [Form::Csv, Form::Jsonl] {
            let whole = exported(dir.path(), form, 1).0;
            for from in 1..=21 {
                let rest = exported(dir.path(), form, from).0;
                let rest: Vec<&str> = rest.lines().skip((form == Form::Csv).into()).collect();
                let seqs = [4, 5].into_iter().chain(8..=20).filter(|seq| *seq >= from).count();
                assert_eq!(rest.len(), seqs);
                assert!(whole.lines().rev().zip(rest.into_iter().rev()).all(|(a, b)| a == b), "from {from}");
            }
        }
    }

    #[test]
    fn damaged_entries_are_left_out_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        record(dir.path());
        rot(dir.path(), 1, 8);
        let (text, damaged) = exported(dir.path(), Form::Csv, 1);
        assert_eq!((text.lines().count(), damaged), (1 + 14, 1));
        assert!(!text.contains("\n8,"));
        rot(dir.path(), 1, 1);
        assert!(exported(dir.path(), Form::Csv, 1).0.contains("\n4,,0,-2147483648\n"));
        mark(dir.path(), 2);
        assert_eq!(
            exported(dir.path(), Form::Csv, 1).1,
            1,
            "what is above the mark counts while it is whole"
        );
    }

    #[test]
    fn missing_entries_are_counted_wherever_they_are() {
        let dir = tempfile::tempdir().unwrap();
        record(dir.path());
        std::fs::remove_file(dir.path().join(format!("{:020}.seg", 1))).unwrap();
        let missing = |from| exported(dir.path(), Form::Csv, from).1;
        assert_eq!([1, 7, 9, 10, 20].map(missing), [9, 3, 1, 0, 0]);
    }
}
