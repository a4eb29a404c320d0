//! `ipc-pipeline plot [DIR]`: a picture of the samples of a channel, as SVG or in the terminal.
//!
//! The record is read twice: first for the extent of what is selected, then for the picture. Where there are more samples
//! than columns, each column shows the smallest and the largest value in it: no spike is ever left out.
#![forbid(unsafe_code)]

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use ipc_pipeline::args::{CommonArgs, EXIT_USAGE};
use ipc_pipeline::daemon::Failure;
use ipc_pipeline::exact::Conversion;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Style;

use crate::axis::{Axis, round_time};
use crate::chart::{self, Picture};
use crate::place::{Place, unreadable};
use crate::samples::{Samples, Selection, SelectionArgs};
use crate::screen::shown;
use crate::{say, svg};

/// Examples.
pub const HELP: &str = "Examples:
  ipc-pipeline plot --from 10min
  ipc-pipeline plot --name demo --out demo.svg
  ipc-pipeline plot --kind histogram --channel ecg --out histogram.svg
  ipc-pipeline plot --kind windows --window 1s --out windows.svg

Without --out the picture is drawn with characters. Where there are more samples than columns, each column shows the
smallest and the largest value in it. Times are UTC; values are physical ones.";

/// Columns of an SVG.
const COLUMNS: usize = 1000;
/// Bars of a histogram, at most.
const BARS: usize = 100;
/// The picture in characters where there is no terminal.
const CHARACTERS: (u16, u16) = (100, 30);
/// Of windows of its own choice there are at most so many.
const WINDOWS: i128 = 100;
const WINDOWS_MAX: i128 = 100_000;

/// The command line.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: CommonArgs,
    /// The directory of a record; without it that of the instance
    dir: Option<PathBuf>,
    /// What is shown
    #[arg(long, value_enum, default_value_t = Kind::Series)]
    kind: Kind,
    #[command(flatten)]
    selection: SelectionArgs,
    /// Length of a window with --kind windows; without it about a hundredth of all
    #[arg(long, value_name = "DURATION", value_parser = crate::duration)]
    window: Option<Duration>,
    /// Write an SVG to FILE instead of drawing with characters
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// What is shown.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Value over time
    Series,
    /// How often each value occurs
    Histogram,
    /// Mean, smallest and largest value in windows of time
    Windows,
}

/// The channel that is shown.
struct Channel {
    label: String,
    unit: String,
    conversion: Conversion,
}

/// What the selected samples span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    count: u64,
    /// Samples whose time is not known; they are not shown over time.
    timeless: u64,
    seqs: (u64, u64),
    codes: (i32, i32),
    times: Option<(i128, i128)>,
}

/// The samples in one column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Column {
    count: u64,
    sum: i128,
    min: i32,
    max: i32,
    first: i32,
    last: i32,
}

/// The whole command.
pub fn plot(args: Args) -> Result<u8, Failure> {
    let place = Place::find(&args.common, args.dir.clone())?;
    let reader = place.open()?;
    let selection = args.selection.resolve(false, reader.channels())?;
    let number = selection
        .one_channel()
        .ok_or_else(|| Failure::new(EXIT_USAGE, "plot shows one channel: give one --channel, not several"))?;
    let selection = selection.of_channel(number);
    let row = reader.channels().get(usize::from(number)).cloned().unwrap_or_default();
    let label = if row.unit.is_empty() { row.name.clone() } else { format!("{} [{}]", row.name, row.unit) };
    let channel = Channel { label, unit: row.unit.clone(), conversion: Conversion::of(&row) };
    let extent = extent(&place, &selection)?.ok_or_else(|| {
        Failure::new(EXIT_USAGE, "no samples are selected: nothing to plot; widen the selection")
    })?;
    let selection = selection.of_seqs(extent.seqs.0..=extent.seqs.1);
    let terminal = io::stdout().is_terminal().then(|| ratatui::crossterm::terminal::size().ok()).flatten();
    let size = terminal.map_or(CHARACTERS, |(width, height)| (width, height.saturating_sub(1)));
    let sketch = Sketch { place, selection, extent, channel, in_characters: args.out.is_none(), size };
    let picture = match args.kind {
        Kind::Series => sketch.series()?,
        Kind::Histogram => sketch.histogram()?,
        Kind::Windows => sketch.windows(args.window)?,
    };
    match &args.out {
        Some(path) => write(path, &picture),
        None => say(&characters(&picture, size)?),
    }?;
    Ok(0)
}

fn write(path: &Path, picture: &Picture) -> Result<(), Failure> {
    let text = svg::svg(picture).map_err(|e| Failure::system(format!("cannot draw the picture: {e}")))?;
    std::fs::write(path, text)
        .map_err(|e| Failure::system(format!("cannot write {}: {e}; name another file", path.display())))
}

/// The picture as lines of text.
fn characters(picture: &Picture, (width, height): (u16, u16)) -> Result<String, Failure> {
    let failed = |e: &dyn std::fmt::Display| Failure::system(format!("cannot draw the picture: {e}"));
    let mut screen = Terminal::new(TestBackend::new(width, height)).map_err(|e| failed(&e))?;
    let drawn = screen
        .draw(|frame| chart::draw(frame, frame.area(), picture, Style::new()))
        .map_err(|e| failed(&e))?;
    let rows = drawn.buffer.content().chunks(width.max(1).into());
    let text = |row: &[ratatui::buffer::Cell]| row.iter().map(|cell| cell.symbol()).collect::<String>();
    Ok(rows.map(|row| text(row).trim_end().to_owned() + "\n").collect())
}

fn extent(place: &Place, selection: &Selection) -> Result<Option<Extent>, Failure> {
    let mut found: Option<Extent> = None;
    each(place, selection, |seq, code, wall_ns| {
        let extent = found.get_or_insert(Extent {
            count: 0,
            timeless: 0,
            seqs: (seq, seq),
            codes: (code, code),
            times: None,
        });
        extent.count += 1;
        extent.seqs.1 = seq;
        extent.codes = (extent.codes.0.min(code), extent.codes.1.max(code));
        match wall_ns {
            Some(ns) => {
                let (from, to) = extent.times.unwrap_or((ns, ns));
                extent.times = Some((from.min(ns), to.max(ns)));
            }
            None => extent.timeless += 1,
        }
    })?;
    Ok(found)
}

/// Gives seq, code and time of each selected sample.
fn each(
    place: &Place,
    selection: &Selection,
    mut take: impl FnMut(u64, i32, Option<i128>),
) -> Result<(), Failure> {
    let mut samples = Samples::open(place.open()?, selection.clone(), false).map_err(unreadable)?;
    while samples.step(|sample, wall_ns| take(sample.seq, sample.value, wall_ns)).map_err(unreadable)? {}
    Ok(())
}

impl Column {
    fn add(column: &mut Option<Column>, code: i32) {
        let new = Column { count: 0, sum: 0, min: code, max: code, first: code, last: code };
        let column = column.get_or_insert(new);
        column.count += 1;
        column.sum += i128::from(code);
        column.min = column.min.min(code);
        column.max = column.max.max(code);
        column.last = code;
    }
}

/// All that a picture is made from.
struct Sketch {
    place: Place,
    selection: Selection,
    extent: Extent,
    channel: Channel,
    in_characters: bool,
    size: (u16, u16),
}

impl Sketch {
    fn value(&self, code: i32) -> f64 {
        shown(self.channel.conversion, code)
    }

    fn title(&self, what: &str) -> String {
        let Extent { count, timeless, .. } = self.extent;
        let without = match timeless {
            0 => String::new(),
            n => format!(", {n} of unknown time left out"),
        };
        format!("{}: {what}, {count} samples{without}", self.channel.label)
    }

    /// Begin and end in ns since 1970.
    fn times(&self) -> Result<(i128, i128), Failure> {
        self.extent.times.ok_or_else(|| {
            Failure::new(
                EXIT_USAGE,
                "the time of no selected sample is known: only --kind histogram can show them",
            )
        })
    }

    fn x_of_time(&self, from_ns: i128, to_ns: i128) -> Axis {
        Axis::of_time(
            from_ns,
            to_ns,
            if self.in_characters { usize::from(self.size.0 / 16).max(1) } else { 10 },
        )
    }

    fn y_of_values(&self) -> Axis {
        let (a, b) = (self.value(self.extent.codes.0), self.value(self.extent.codes.1));
        let label = if self.channel.unit.is_empty() { "value".into() } else { self.channel.unit.clone() };
        Axis::of_values(label, a.min(b), a.max(b), self.steps())
    }

    fn steps(&self) -> usize {
        if self.in_characters { usize::from(self.size.1 / 4).clamp(1, 10) } else { 10 }
    }

    /// Columns of time: width in ns each, at most `most` of them.
    fn columns(&self, from_ns: i128, width_ns: i128, most: usize) -> Result<Vec<Option<Column>>, Failure> {
        let mut columns = vec![None; most];
        each(&self.place, &self.selection, |_, code, wall_ns| {
            let at = wall_ns.map(|ns| (ns - from_ns).div_euclid(width_ns));
            if let Some(column) = at.and_then(|at| columns.get_mut(usize::try_from(at).ok()?)) {
                Column::add(column, code);
            }
        })?;
        Ok(columns)
    }

    fn series(&self) -> Result<Picture, Failure> {
        let (from_ns, to_ns) = self.times()?;
        let most = if self.in_characters { 2 * usize::from(self.size.0) } else { COLUMNS };
        let pieces = if self.extent.count <= most as u64 {
            self.points(from_ns)?
        } else {
            let width_ns = (to_ns - from_ns) / most as i128 + 1;
            let columns = self.columns(from_ns, width_ns, most)?;
            self.envelope(&columns, width_ns as f64 / 1e9)
        };
        Ok(Picture {
            title: self.title("value over time"),
            x: Some(self.x_of_time(from_ns, to_ns)),
            y: Some(self.y_of_values()),
            pieces,
            ..Picture::default()
        })
    }

    /// Every sample is a point.
    fn points(&self, from_ns: i128) -> Result<Vec<Vec<(f64, f64)>>, Failure> {
        let mut points = Vec::new();
        each(&self.place, &self.selection, |_, code, wall_ns| {
            points.extend(wall_ns.map(|ns| ((ns - from_ns) as f64 / 1e9, code)));
        })?;
        Ok(vec![points.into_iter().map(|(x, code)| (x, self.value(code))).collect()])
    }

    /// Through first, smallest, largest and last of each column; the line is broken where columns are empty.
    fn envelope(&self, columns: &[Option<Column>], width: f64) -> Vec<Vec<(f64, f64)>> {
        let mut pieces = vec![Vec::new()];
        for (i, column) in columns.iter().enumerate() {
            let x = (i as f64 + 0.5) * width;
            match (column, pieces.last_mut()) {
                (Some(c), Some(piece)) => {
                    // Towards the side on which the column ends, so that no line is drawn twice.
                    let (near, far) = if c.first <= c.last { (c.min, c.max) } else { (c.max, c.min) };
                    piece.extend([c.first, near, far, c.last].map(|code| (x, self.value(code))));
                }
                (None, Some(piece)) if !piece.is_empty() => pieces.push(Vec::new()),
                _ => {}
            }
        }
        pieces
    }

    fn histogram(&self) -> Result<Picture, Failure> {
        let (low, high) = self.extent.codes;
        let span = i64::from(high) - i64::from(low) + 1;
        let most = if self.in_characters { usize::from(self.size.0) } else { BARS };
        // Bars of whole codes, all of the same width: else some would be high for no reason.
        let width = span.div_euclid(most.max(1) as i64 + 1) + 1;
        let mut counts = vec![0u64; usize::try_from((span - 1) / width + 1).unwrap_or(1)];
        each(&self.place, &self.selection, |_, code, _| {
            let bar = (i64::from(code) - i64::from(low)) / width;
            if let Some(count) = usize::try_from(bar).ok().and_then(|bar| counts.get_mut(bar)) {
                *count += 1;
            }
        })?;
        let edge = |i: usize| {
            // Half a code to the left of the first code in the bar.
            let code = i64::from(low) + i as i64 * width;
            let clamped = i32::try_from(code).unwrap_or(i32::MAX);
            let (here, next) = (self.value(clamped), self.value(clamped.saturating_sub(1)));
            here - (here - next) / 2.0
        };
        let bars: Vec<(f64, f64, f64)> = counts
            .iter()
            .enumerate()
            .map(|(i, count)| {
                let (a, b) = (edge(i), edge(i + 1));
                (a.min(b), a.max(b), *count as f64)
            })
            .collect();
        let ends =
            bars.iter().fold((f64::MAX, f64::MIN), |(low, high), bar| (low.min(bar.0), high.max(bar.1)));
        let most = counts.iter().copied().max().unwrap_or(0) as f64;
        let x = Axis::of_values(
            self.channel.label.clone(),
            ends.0,
            ends.1,
            if self.in_characters { 6 } else { 10 },
        );
        Ok(Picture {
            title: self.title("how often each value occurs"),
            x: Some(x),
            y: Some(Axis::of_values("samples".into(), 0.0, most, self.steps())),
            bars,
            ..Picture::default()
        })
    }

    fn windows(&self, window: Option<Duration>) -> Result<Picture, Failure> {
        let (from_ns, to_ns) = self.times()?;
        let own = || round_time((to_ns - from_ns) / WINDOWS);
        let size = window.map_or_else(own, |window| window.as_nanos() as i128).max(1);
        // Windows begin at multiples of their length, so that the same ones are shown wherever the selection begins.
        let begin = from_ns.div_euclid(size) * size;
        let count = (to_ns - begin) / size + 1;
        if count > WINDOWS_MAX {
            let text = format!(
                "--window gives {count} windows; at most {WINDOWS_MAX} can be shown: choose a longer one"
            );
            return Err(Failure::new(EXIT_USAGE, text));
        }
        let columns = self.columns(begin, size, count as usize)?;
        let place = |i: usize| ((begin - from_ns + i as i128 * size + size / 2) as f64 / 1e9).max(0.0);
        let filled: Vec<(f64, Column)> =
            columns.iter().enumerate().filter_map(|(i, column)| Some((place(i), (*column)?))).collect();
        let area = filled.iter().map(|(x, c)| {
            let (a, b) = (self.value(c.min), self.value(c.max));
            (*x, a.min(b), a.max(b))
        });
        let mean = |c: &Column| {
            let (low, high) = (self.value(0), self.value(1));
            low + (high - low) * (c.sum as f64 / c.count as f64)
        };
        Ok(Picture {
            title: self.title(&format!("mean, smallest and largest in windows of {}", length_text(size))),
            x: Some(self.x_of_time(from_ns, to_ns)),
            y: Some(self.y_of_values()),
            area: area.collect(),
            pieces: vec![filled.iter().map(|(x, c)| (*x, mean(c))).collect()],
            ..Picture::default()
        })
    }
}

fn length_text(ns: i128) -> String {
    format!("{:#}", jiff::SignedDuration::from_nanos(i64::try_from(ns).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::axis::time_text;
    use crate::walk::testing::record;

    #[test]
    fn what_is_selected_is_measured() {
        let dir = tempfile::tempdir().unwrap();
        record(dir.path());
        let place = Place::find(&CommonArgs::default(), Some(dir.path().to_owned())).unwrap();
        let all = SelectionArgs::default().resolve(false, place.open().unwrap().channels()).unwrap();
        let found = extent(&place, &all.of_channel(0)).unwrap().unwrap();
        assert_eq!((found.count, found.seqs, found.codes), (14, (4, 20), (i32::MIN, 20)));
        assert_eq!(time_text(found.times.unwrap().0, "%S%.3f"), "20.004", "the clock went back by a second");
    }

    #[test]
    fn no_spike_is_left_out() {
        let mut column = None;
        for code in [5, 5, -900, 5, 1000, 5, 6] {
            Column::add(&mut column, code);
        }
        assert_eq!(column, Some(Column { count: 7, sum: 126, min: -900, max: 1000, first: 5, last: 6 }));
        let dir = tempfile::tempdir().unwrap();
        record(dir.path());
        let place = Place::find(&CommonArgs::default(), Some(dir.path().to_owned())).unwrap();
        let all = SelectionArgs::default().resolve(false, place.open().unwrap().channels()).unwrap();
        let selection = all.of_channel(0);
        let extent = extent(&place, &selection).unwrap().unwrap();
        let channel = Channel { label: "x".into(), unit: String::new(), conversion: Conversion::plain(0) };
        let sketch = Sketch { place, selection, extent, channel, in_characters: true, size: (4, 10) };
        let picture = sketch.series().unwrap();
        let values = picture.pieces.iter().flatten().map(|p| p.1);
        assert_eq!(values.clone().fold(f64::MAX, f64::min), f64::from(i32::MIN));
        assert_eq!(values.fold(f64::MIN, f64::max), 20.0);
        let pieces = sketch.envelope(&[column, None, column], 2.0);
        let one = |x| vec![(x, 5.0), (x, -900.0), (x, 1000.0), (x, 6.0)];
        assert_eq!(pieces, [one(1.0), one(5.0)]);
        let bars = sketch.histogram().unwrap().bars;
        assert_eq!(bars.iter().map(|bar| bar.2).sum::<f64>(), 14.0);
        assert_eq!((bars.first().unwrap().2, bars.last().unwrap().2), (1.0, 13.0));
    }
}
