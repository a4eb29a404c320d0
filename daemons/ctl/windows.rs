//! Every window of a record that has closed, computed again from its entries: for `export --windows`.
//!
//! stat shows a window only until the next one closes; the record still has what it was made of. Behind entries that were
//! removed it goes on from their summary, as stat does.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;

use ipc_pipeline::args::{CommonArgs, EXIT_USAGE};
use ipc_pipeline::checkpoint::{self, Checkpoint};
use ipc_pipeline::config::Config;
use ipc_pipeline::daemon::Failure;
use ipc_pipeline::entry::{Entry, Kind};
use ipc_pipeline::exact::{self, Conversion};
use ipc_pipeline::fold::{Closed, Closings, Fold};
use ipc_pipeline::header::ChannelRow;
use ipc_pipeline::reader::{ReadError, RecordReader};
use ipc_pipeline::settings::{Settings, Unit};
use ipc_pipeline::text::{Form, time_text};
use ipc_pipeline::wall::WallClock;

use crate::entries::{Damage, Entries, Met};
use crate::place::{Place, unreadable};
use crate::samples::Selection;

/// Which windows and percentiles are asked for, and with how many digits: by the configuration of the instance, or the one
/// that is given; for a directory alone by the newest checkpoint that stat made of this record, or by its summary.
///
/// # Errors
/// The configuration has faults, or no windows are asked for, or nobody knows.
pub fn asked_for(
    common: &CommonArgs,
    place: &Place,
    reader: &RecordReader,
) -> Result<(Settings, u8), Failure> {
    let config = Config::load(common.config_file().as_deref(), &common.set).map_err(Failure::config)?;
    let by_configuration = place.names.is_some() || common.config.is_some() || !common.set.is_empty();
    let settings = if by_configuration { config.stat.settings } else { kept(place, reader)? };
    if settings.windows.is_empty() {
        let text = "no windows are asked for, so there are none to export: name a configuration with [[window]] by --config";
        return Err(Failure::new(EXIT_USAGE, text));
    }
    Ok((settings, config.report.digits))
}

/// What was asked for when the last checkpoint of the record was made, or its summary.
fn kept(place: &Place, reader: &RecordReader) -> Result<Settings, Failure> {
    let checkpoints = checkpoint::list(&place.record.with_file_name("stat")).unwrap_or_default();
    let mut ours = checkpoints.iter().filter_map(|(_, path)| Checkpoint::load(path).ok());
    let newest = ours.find(|checkpoint| checkpoint.log_id == reader.log_id()).map(|found| found.fold);
    let fold = match newest {
        None => reader.summary().map_err(unreadable)?.map(|summary| summary.fold),
        found => found,
    };
    let text = || {
        format!(
            "nothing tells which windows to compute: beside {} there is no checkpoint of this record; name its configuration with --config",
            place.record.display()
        )
    };
    fold.map(|fold| fold.settings().clone()).ok_or_else(|| Failure::new(EXIT_USAGE, text()))
}

/// The closed windows of a record, as lines.
pub struct Windows {
    entries: Entries,
    closings: Closings,
    settings: Settings,
    begins: Begins,
    selection: Selection,
    lines: Lines,
}

impl Windows {
    /// Begins where the record does.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn open(
        reader: RecordReader,
        settings: &Settings,
        selection: Selection,
        form: Form,
        digits: u8,
    ) -> Result<Windows, ReadError> {
        let channels = reader.channels().to_vec();
        Ok(Windows {
            entries: Entries::from(reader, 1, WallClock::default())?,
            closings: Closings::after(Fold::with(settings)),
            settings: settings.clone(),
            begins: Begins::default(),
            selection,
            lines: Lines { form, channels, digits },
        })
    }

    /// Seq of the next entry.
    pub fn next(&self) -> u64 {
        self.entries.walk.next
    }

    /// What was left out so far.
    pub fn damage(&self) -> Damage {
        self.entries.damage
    }

    /// About so far it goes, by the mark: for showing progress.
    pub fn end(&self) -> u64 {
        self.entries.walk.mark.unwrap_or(0)
    }

    /// The line with the names of the columns; empty if the form has none.
    pub fn heading(&self) -> String {
        let percentiles: String = self.settings.percentiles.iter().map(|p| format!(",p{p}")).collect();
        match self.lines.form {
            Form::Csv => {
                format!("window,channel,from,to,n,mean,stddev,min,max,first,last{percentiles}\n")
            }
            _ => String::new(),
        }
    }

    /// Appends the windows that close with the next entries. False: there are no more entries.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn step(&mut self, text: &mut String) -> Result<bool, ReadError> {
        let Windows { entries, closings, settings, begins, selection, lines } = self;
        entries.step(u64::MAX, |met, wall| match met {
            Met::Entry(entry, kind) => {
                begins.see(&entry, kind, closings.fold(), wall);
                closings.take(&entry, kind, &mut |closed| {
                    let (from_ns, to_ns) = times(&closed, settings, begins, wall);
                    if selection.takes_span(closed.channel, from_ns, to_ns) {
                        lines.put(text, &closed, settings, (from_ns, to_ns));
                    }
                });
            }
            Met::Damaged(seq) => {
                closings.take(&Entry::corrupt(seq, closings.fold().epoch), Kind::Corrupt, &mut |_| {});
            }
            Met::Summary(summary) => {
                *closings = Closings::after(summary.fold.go_on_with(settings));
                *begins = Begins::default();
            }
        })
    }
}

/// When a window begins and ends, ns since 1970, as far as that is known. One of time by the wall clock as it was set when
/// the window closed; one of samples with its first and last sample.
fn times(
    closed: &Closed,
    settings: &Settings,
    begins: &Begins,
    wall: &WallClock,
) -> (Option<i128>, Option<i128>) {
    let at = |t_ns| wall.at(t_ns).filter(|_| wall.epoch == closed.epoch);
    match settings.windows.get(closed.window).map(|window| window.unit()) {
        Some(Unit::Samples) => (begins.of(closed), at(closed.span.stats.t_ns)),
        _ => (at(closed.span.from), at(closed.span.to)),
    }
}

/// Time of day of the first sample in each pane of the windows of samples that may still close: by window and channel,
/// the position where a pane begins, and when that was.
#[derive(Default)]
struct Begins(BTreeMap<(usize, u16), VecDeque<Begin>>);

/// Position and time of day.
type Begin = (u64, Option<i128>);

impl Begins {
    /// Notes a sample that begins a pane; `fold` has not taken it yet.
    fn see(&mut self, entry: &Entry, kind: Kind, fold: &Fold, wall: &WallClock) {
        if kind == Kind::Epoch {
            self.0.clear();
        }
        if kind != Kind::Sample {
            return;
        }
        let position = fold.in_epoch(entry.channel);
        let counted = fold.settings().windows.iter().enumerate().filter(|(_, w)| w.unit() == Unit::Samples);
        for (i, window) in counted.filter(|(_, w)| position.is_multiple_of(w.step())) {
            let panes = self.0.entry((i, entry.channel)).or_default();
            panes.push_back((position, wall.at(entry.t_ns)));
            if panes.len() as u64 > window.steps() {
                panes.pop_front();
            }
        }
    }

    fn of(&self, closed: &Closed) -> Option<i128> {
        let panes = self.0.get(&(closed.window, closed.channel))?;
        panes.iter().find(|(position, _)| *position == closed.span.from)?.1
    }
}

/// How a window is written.
struct Lines {
    form: Form,
    channels: Vec<ChannelRow>,
    digits: u8,
}

impl Lines {
    /// Appends the line of a window.
    fn put(
        &self,
        text: &mut String,
        closed: &Closed,
        settings: &Settings,
        (from_ns, to_ns): (Option<i128>, Option<i128>),
    ) {
        let unknown = ChannelRow::default();
        let row = self.channels.get(closed.channel as usize).unwrap_or(&unknown);
        let values = self.values(closed, settings, Conversion::of(row));
        let window = settings.windows.get(closed.window).map(|w| w.to_string()).unwrap_or_default();
        let [from, to] = [from_ns, to_ns].map(|ns| ns.and_then(time_text));
        let (channel, n) = (closed.channel, closed.span.stats.count);
        // Writing to a String cannot fail.
        let _ = if self.form == Form::Csv {
            let [from, to] = [from, to].map(Option::unwrap_or_default);
            write!(text, "{window},{channel},{from},{to},{n}")
        } else {
            let [window, name, unit] = [&window, &row.name, &row.unit].map(|t| json(Some(t)));
            let [from, to] = [from, to].map(|time| json(time.as_ref()));
            write!(
                text,
                "{{\"window\":{window},\"channel\":{channel},\"name\":{name},\"unit\":{unit},\"from\":{from},\"to\":{to},\"n\":{n}"
            )
        };
        for (name, value) in values {
            let _ = match (self.form, value.as_str()) {
                (Form::Csv, exact::ABSENT) => write!(text, ","),
                (Form::Csv, value) => write!(text, ",{value}"),
                (_, exact::ABSENT) => write!(text, ",\"{name}\":null"),
                (_, value) => write!(text, ",\"{name}\":{value}"),
            };
        }
        text.push_str(if self.form == Form::Csv { "\n" } else { "}\n" });
    }

    /// What was computed: names and physical values.
    fn values(&self, closed: &Closed, settings: &Settings, conversion: Conversion) -> Vec<(String, String)> {
        let (stats, digits) = (&closed.span.stats, self.digits);
        let of_code = |code| conversion.text(&conversion.value(code), digits);
        let mut values = vec![
            ("mean".to_owned(), exact::text(conversion.mean(stats), digits)),
            ("stddev".to_owned(), exact::text(conversion.deviation(stats), digits)),
            ("min".to_owned(), conversion.text(&conversion.min(stats), digits)),
            ("max".to_owned(), conversion.text(&conversion.max(stats), digits)),
            ("first".to_owned(), of_code(stats.first)),
            ("last".to_owned(), of_code(stats.last)),
        ];
        let percentiles = settings.percentiles.iter().zip(&closed.span.codes);
        values.extend(percentiles.map(|(which, code)| (format!("p{which}"), of_code(*code))));
        values
    }
}

fn json(text: Option<&String>) -> serde_json::Value {
    text.cloned().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::SelectionArgs;
    use crate::walk::testing::{record, rot};
    use ipc_pipeline::settings::{Percentile, Window};
    use std::path::Path;

    fn exported(dir: &Path, form: Form) -> (String, u64) {
        let reader = RecordReader::open(dir).unwrap();
        let window = |unit, size| Window::new(unit, size, size).unwrap();
        let settings = Settings {
            percentiles: vec![Percentile::new(99_900_000).unwrap()],
            windows: vec![window(Unit::Time, 8_000_000), window(Unit::Samples, 1)],
            ..Settings::default()
        };
        let selection = SelectionArgs::default().resolve(false, reader.channels()).unwrap();
        let mut windows = Windows::open(reader, &settings, selection, form, 2).unwrap();
        let mut text = windows.heading();
        while windows.step(&mut text).unwrap() {}
        (text, windows.damage().entries)
    }

    #[test]
    fn a_line_for_each_window_that_has_closed() {
        let dir = tempfile::tempdir().unwrap();
        record(dir.path());
        let (text, damaged) = exported(dir.path(), Form::Csv);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), damaged), (1 + 15 + 3, 0));
        assert_eq!(lines[0], "window,channel,from,to,n,mean,stddev,min,max,first,last,p99.9");
        let time = "2023-11-14T22:13:20.999000000Z";
        assert_eq!(
            lines[2],
            format!("1 samples,1,{time},{time},1,0.00,,-0.0018,-0.0018,-0.0018,-0.0018,-0.0018")
        );
        // The clock was set back by a second before these windows closed; entries 8, 9, 10 are 5, 6, 7 ms in.
        let time = "2023-11-14T22:13:19.999000000Z,2023-11-14T22:13:20.007000000Z";
        assert!(lines[6].starts_with(&format!("8ms,0,{time},4,-536870905.25,")), "{text}");
        assert!(lines[7].starts_with(&format!("8ms,1,{time},1,0.00,,")), "{text}");
        assert_eq!(lines[16].split(',').nth(4), Some("8"), "{text}");
        let (jsonl, _) = exported(dir.path(), Form::Jsonl);
        let objects: Vec<serde_json::Value> =
            jsonl.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(
            (objects.len(), &objects[1]["stddev"], &objects[1]["n"]),
            (18, &serde_json::Value::Null, &1.into())
        );
    }

    #[test]
    fn damaged_entries_are_left_out_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        record(dir.path());
        rot(dir.path(), 1, 8);
        let (text, damaged) = exported(dir.path(), Form::Csv);
        assert_eq!((text.lines().count(), damaged), (1 + 14 + 3, 1));
        // Nobody knows the time without the EPOCH.
        rot(dir.path(), 1, 1);
        assert!(exported(dir.path(), Form::Csv).0.contains("\n8ms,0,,,3,"));
    }
}
