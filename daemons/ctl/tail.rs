//! `ipc-pipeline tail [DIR]`: the last samples of a record, then those to come.
#![forbid(unsafe_code)]

use std::io;
use std::path::PathBuf;

use ipc_pipeline::args::CommonArgs;
use ipc_pipeline::daemon::Failure;
use ipc_pipeline::reader::{MAX_READ, ReadError, RecordReader};
use ipc_pipeline::text::{Form, Lines};

use crate::export::write;
use crate::place::{Place, unreadable};
use crate::progress::Bar;
use crate::samples::{Follow, Samples, Selection, SelectionArgs};
use crate::verify::EXIT_TRUE;

/// Examples.
pub const HELP: &str = "Examples:
  ipc-pipeline tail
  ipc-pipeline tail --name demo -n 3 --channel ecg --json
  ipc-pipeline tail --once -n 100 --where 'value > 900'

Only what is durable is shown. Ends with Ctrl-C, or when the pipeline does.";

/// The command line.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: CommonArgs,
    /// The directory of a record; without it that of the instance
    dir: Option<PathBuf>,
    /// Begin with so many samples that are there already
    #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = 10)]
    lines: usize,
    #[command(flatten)]
    selection: SelectionArgs,
    /// Do not wait for more
    #[arg(long)]
    once: bool,
    /// For machines: a JSON object a line
    #[arg(long)]
    json: bool,
    /// Give codes instead of physical values
    #[arg(long)]
    raw: bool,
}

/// The whole command.
pub fn tail(args: Args) -> Result<u8, Failure> {
    let place = Place::find(&args.common, args.dir.clone())?;
    let reader = place.open()?;
    let selection = args.selection.resolve(args.raw, reader.channels())?;
    let form = if args.json { Form::Jsonl } else { Form::People };
    let lines = Lines::new(form, args.raw, reader.channels());
    let durable = place.open()?.mark().map_err(unreadable)?.map_or(0, |mark| mark.durable.seq);
    let begin = begin(&place, &selection, args.lines, durable)?;
    // More becomes durable while this is printed.
    let last = if args.once { durable } else { u64::MAX };
    let selection = selection.of_seqs(begin..=last.min(*selection.seqs.end()));
    let follow = (!args.once).then(|| Follow::begin(place.names, true)).transpose()?;
    let samples = Samples::open(reader, selection, true).map_err(unreadable)?;
    match write(samples, lines, follow, &mut io::stdout().lock(), &Bar::new("", false)) {
        Ok(_) => Ok(EXIT_TRUE),
        Err(e) => e.end(),
    }
}

/// Seq of the first of the last `count` selected samples up to entry `durable`.
fn begin(place: &Place, selection: &Selection, count: usize, durable: u64) -> Result<u64, Failure> {
    let first = (*selection.seqs.start()).max(place.open()?.first());
    let mut end = durable.min(*selection.seqs.end()).saturating_add(1);
    // Backwards in pieces, until there are enough.
    let (mut found, mut begin) = (Vec::new(), end);
    while found.len() < count && end > first {
        begin = end.saturating_sub(MAX_READ as u64).max(first);
        let piece = selection.of_seqs(begin..=end - 1);
        found.splice(0..0, seqs(place.open()?, piece).map_err(unreadable)?);
        end = begin;
    }
    let enough = found.len().checked_sub(count).and_then(|i| found.get(i)).copied();
    Ok(if count == 0 { begin } else { enough.unwrap_or(begin) }.max(1))
}

fn seqs(reader: RecordReader, selection: Selection) -> Result<Vec<u64>, ReadError> {
    let mut samples = Samples::open(reader, selection, true)?;
    let mut seqs = Vec::new();
    while samples.step(|sample, _| seqs.push(sample.seq))? {}
    Ok(seqs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::testing::{mark, record};

    #[test]
    fn it_begins_with_the_last_samples_that_are_durable() {
        let dir = tempfile::tempdir().unwrap();
        record(dir.path());
        let place = Place::find(&CommonArgs::default(), Some(dir.path().to_owned())).unwrap();
        let begin_of = |count| {
            let selection =
                SelectionArgs::default().resolve(false, place.open().unwrap().channels()).unwrap();
            let durable = place.open().unwrap().mark().unwrap().unwrap().durable.seq;
            begin(&place, &selection, count, durable).unwrap()
        };
        assert_eq!([0, 1, 2, 13, 14, 15].map(begin_of), [21, 20, 19, 8, 5, 4]);
        assert_eq!(begin_of(100), 1);
        mark(dir.path(), 12);
        assert_eq!([0, 1, 5].map(begin_of), [13, 12, 8]);
    }
}
