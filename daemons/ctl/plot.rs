//! `ipc-pipeline plot [DIR]`: pictures of the samples of some channels, as SVG or in the terminal.
//!
//! The record is read twice for each channel: first for the extent of what is selected, then for the picture. Where there are more samples
//! than columns, each column shows the smallest and the largest value in it: no spike is ever left out.
#![forbid(unsafe_code)]

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use clap::ValueEnum;
use ipc_pipeline::args::{CommonArgs, EXIT_USAGE};
use ipc_pipeline::daemon::Failure;
use ipc_pipeline::exact::Conversion;
use ipc_pipeline::header::ChannelRow;
use ipc_pipeline::logging;
use ipc_pipeline::text::counted;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Style;

use crate::axis::{Axis, round_time};
use crate::chart::{self, Layer, Picture};
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
  ipc-pipeline plot --channel inside --channel outside --out both.svg

Without --out the picture is drawn with characters. Without --channel up to 6 channels are shown, one below the other; series
of the same unit share a picture in an SVG. Where there are more samples than columns, each column shows the
smallest and the largest value in it. Times are UTC; values are physical ones.";

/// Columns of an SVG.
const COLUMNS: usize = 1000;
/// Bars of a histogram, at most.
const BARS: usize = 100;
/// A picture in characters where there is no terminal, and how high one of several is at least.
const CHARACTERS: (u16, u16) = (100, 30);
const ROWS_MIN: u16 = 10;
/// Of more channels than this nobody could tell the lines apart.
const CHANNELS_MAX: usize = 6;
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

/// A channel that is shown.
struct Channel {
    name: String,
    label: String,
    unit: String,
    conversion: Conversion,
}

impl Channel {
    fn of(row: &ChannelRow) -> Channel {
        let ChannelRow { name, unit, .. } = row.clone();
        let label = if unit.is_empty() { name.clone() } else { format!("{name} [{unit}]") };
        Channel { name, label, unit, conversion: Conversion::of(row) }
    }
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
    let sketches = sketches(&args)?;
    let rows = sketches.first().map_or(CHARACTERS.1, |sketch| sketch.size.1);
    let width = sketches.first().map_or(CHARACTERS.0, |sketch| sketch.size.0);
    let pictures = match args.kind {
        Kind::Series => series(&sketches)?,
        Kind::Histogram => sketches.iter().map(Sketch::histogram).collect::<Result<_, _>>()?,
        Kind::Windows => sketches.iter().map(|s| s.windows(args.window)).collect::<Result<_, _>>()?,
    };
    match &args.out {
        Some(path) => write(path, &pictures),
        None => pictures.iter().try_for_each(|picture| say(&characters(picture, (width, rows))?)),
    }?;
    Ok(0)
}

/// What is to be drawn, by channel; channels without samples are left out.
fn sketches(args: &Args) -> Result<Vec<Sketch>, Failure> {
    let place = Rc::new(Place::find(&args.common, args.dir.clone())?);
    let reader = place.open()?;
    let selection = args.selection.resolve(false, reader.channels())?;
    let mut found = Vec::new();
    for number in numbers(&selection, reader.channels().len())? {
        let selection = selection.of_channel(number);
        if let Some(extent) = extent(&place, &selection)? {
            let row = reader.channels().get(usize::from(number)).cloned().unwrap_or_default();
            found.push((Channel::of(&row), selection.of_seqs(extent.seqs.0..=extent.seqs.1), extent));
        }
    }
    if found.is_empty() {
        let text = "no samples are selected: nothing to plot; widen the selection";
        return Err(Failure::new(EXIT_USAGE, text));
    }
    let span = found.iter().filter_map(|(_, _, extent)| extent.times);
    let span = span.reduce(|(from, to), (begin, end)| (from.min(begin), to.max(end)));
    let (in_characters, size) = (args.out.is_none(), size_of_each(found.len()));
    let sketch = |(channel, selection, extent)| {
        let place = place.clone();
        Sketch { place, selection, extent, span, channel, in_characters, size }
    };
    Ok(found.into_iter().map(sketch).collect())
}

/// The numbers of the channels that are shown, of `count`: those that were chosen, else the first ones.
fn numbers(selection: &Selection, count: usize) -> Result<Vec<u16>, Failure> {
    let count = u16::try_from(count).unwrap_or(u16::MAX);
    let Some(chosen) = selection.chosen(count) else {
        if usize::from(count) > CHANNELS_MAX {
            logging::start("ipc-pipeline", log::LevelFilter::Info, false);
            log::warn!(
                "only the first {CHANNELS_MAX} of {count} channels are shown; --channel chooses others"
            );
        }
        return Ok((0..count.max(1)).take(CHANNELS_MAX).collect());
    };
    if chosen.len() > CHANNELS_MAX {
        let text = format!("plot shows at most {CHANNELS_MAX} channels: give --channel for fewer of them");
        return Err(Failure::new(EXIT_USAGE, text));
    }
    Ok(chosen)
}

/// Columns and rows of each of `count` pictures in characters: together they fill the terminal.
fn size_of_each(count: usize) -> (u16, u16) {
    let terminal = io::stdout().is_terminal().then(|| ratatui::crossterm::terminal::size().ok()).flatten();
    let (width, height) = terminal.map_or(CHARACTERS, |(width, height)| (width, height.saturating_sub(1)));
    let each = height / u16::try_from(count).unwrap_or(1).max(1);
    (width, if count > 1 { each.max(ROWS_MIN) } else { height })
}

/// The courses of all channels, over the same time: in an SVG those of one unit share a picture.
fn series(sketches: &[Sketch]) -> Result<Vec<Picture>, Failure> {
    let mut groups: Vec<Vec<&Sketch>> = Vec::new();
    for sketch in sketches {
        let same = |group: &&mut Vec<&Sketch>| {
            !sketch.in_characters && group.iter().all(|other| other.channel.unit == sketch.channel.unit)
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(sketch),
            None => groups.push(vec![sketch]),
        }
    }
    groups.iter().map(|group| series_of(group)).collect()
}

/// The courses of some channels in one picture.
fn series_of(group: &[&Sketch]) -> Result<Picture, Failure> {
    let Some(first) = group.first() else { return Ok(Picture::default()) };
    let ends = group
        .iter()
        .flat_map(|sketch| [sketch.extent.codes.0, sketch.extent.codes.1].map(|c| sketch.value(c)));
    let (low, high) = ends.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
    let layers = group.iter().map(|sketch| {
        let name = format!("{}, {}", sketch.channel.name, counted(sketch.extent.count, "sample", "samples"));
        Ok(Layer { name, pieces: sketch.course()?, ..Layer::default() })
    });
    let title = if let [only] = group { only.title("value over time") } else { "value over time".into() };
    let (from_ns, to_ns) = first.times()?;
    Ok(Picture {
        title,
        x: Some(first.x_of_time(from_ns, to_ns)),
        y: Some(first.y_of(low, high)),
        layers: layers.collect::<Result<_, Failure>>()?,
    })
}

fn write(path: &Path, pictures: &[Picture]) -> Result<(), Failure> {
    let text = svg::svg(pictures).map_err(|e| Failure::system(format!("cannot draw the picture: {e}")))?;
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

/// All that the picture of a channel is made from.
struct Sketch {
    place: Rc<Place>,
    selection: Selection,
    extent: Extent,
    /// Begin and end of what is shown of all channels, ns since 1970.
    span: Option<(i128, i128)>,
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
        format!("{}: {what}, {}{without}", self.channel.label, counted(count, "sample", "samples"))
    }

    /// Begin and end in ns since 1970.
    fn times(&self) -> Result<(i128, i128), Failure> {
        self.span.ok_or_else(|| {
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
        self.y_of(a.min(b), a.max(b))
    }

    fn y_of(&self, low: f64, high: f64) -> Axis {
        let label = if self.channel.unit.is_empty() { "value".into() } else { self.channel.unit.clone() };
        Axis::of_values(label, low, high, self.steps())
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

    /// Lines through all samples, or through what stands for them.
    fn course(&self) -> Result<Vec<Vec<(f64, f64)>>, Failure> {
        let (from_ns, to_ns) = self.times()?;
        let most = if self.in_characters { 2 * usize::from(self.size.0) } else { COLUMNS };
        if self.extent.count <= most as u64 {
            return self.points(from_ns);
        }
        let width_ns = (to_ns - from_ns) / most as i128 + 1;
        let columns = self.columns(from_ns, width_ns, most)?;
        Ok(self.envelope(&columns, width_ns as f64 / 1e9))
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
        let most = counts.iter().copied().max().unwrap_or(0);
        let x = Axis::of_values(
            self.channel.label.clone(),
            ends.0,
            ends.1,
            if self.in_characters { 6 } else { 10 },
        );
        Ok(Picture {
            title: self.title("how often each value occurs"),
            x: Some(x),
            y: Some(Axis::of_counts("samples".into(), most, self.steps())),
            layers: vec![Layer { bars, ..Layer::default() }],
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
            layers: vec![Layer {
                area: area.collect(),
                pieces: vec![filled.iter().map(|(x, c)| (*x, mean(c))).collect()],
                ..Layer::default()
            }],
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
        let (channel, place) = (Channel::of(&ChannelRow::default()), Rc::new(place));
        let (span, size) = (extent.times, (4, 10));
        let sketch = Sketch { place, selection, extent, span, channel, in_characters: true, size };
        let picture = series_of(&[&sketch]).unwrap();
        let values = picture.layers.iter().flat_map(|layer| &layer.pieces).flatten().map(|p| p.1);
        assert_eq!(values.clone().fold(f64::MAX, f64::min), f64::from(i32::MIN));
        assert_eq!(values.fold(f64::MIN, f64::max), 20.0);
        let pieces = sketch.envelope(&[column, None, column], 2.0);
        let one = |x| vec![(x, 5.0), (x, -900.0), (x, 1000.0), (x, 6.0)];
        assert_eq!(pieces, [one(1.0), one(5.0)]);
        let bars = sketch.histogram().unwrap().layers.remove(0).bars;
        assert_eq!(bars.iter().map(|bar| bar.2).sum::<f64>(), 14.0);
        assert_eq!((bars.first().unwrap().2, bars.last().unwrap().2), (1.0, 13.0));
    }
}
