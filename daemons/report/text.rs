//! Lines that people read: a line for each channel and for each of its windows, their values one below the other.
#![forbid(unsafe_code)]

use crate::line::{Channel, News, Numbers, Style, or_absent};
use ipc_pipeline::snapshot::Row;

/// What a line of ordinary values fits into.
const WIDTH: usize = 80;
const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

/// A line before it is aligned.
struct Line {
    label: String,
    cells: Vec<String>,
    /// Its cells stand below those of other lines.
    aligned: bool,
}

/// Something that is said of the whole record, and its colour.
struct Note {
    text: String,
    colour: &'static str,
}

/// The lines of one print.
pub fn lines(news: &News, style: &Style) -> Vec<String> {
    let rows = news.rows();
    let lines: Vec<Line> = rows.iter().flat_map(|row| lines_of(row, style)).collect();
    let alarms = rows.iter().filter_map(|row| alarm_note(row, style));
    let notes: Vec<Note> = alarms.chain(notes(news)).collect();
    with_notes(align(&lines), &notes, style.coloured)
}

/// How many lines each row has.
pub fn counts(rows: &[Row], style: &Style) -> Vec<usize> {
    rows.iter().map(|row| lines_of(row, style).len()).collect()
}

/// The line of a row, and a second one for what was asked for beside the totals.
fn lines_of(row: &Row, style: &Style) -> Vec<Line> {
    if row.window.is_some_and(|of| of.span.is_none()) {
        return Vec::new(); // none has closed yet
    }
    let channel = style.channel(row);
    let numbers = Numbers::rounded(row, channel, style.digits);
    let label = label(row, channel);
    let cells = cells(row, &numbers, WIDTH.saturating_sub(width(&label)));
    let mut lines = vec![Line { label, cells, aligned: true }];
    let more = more(row, &numbers);
    if !more.is_empty() {
        lines.push(Line { label: bare_label(row, channel), cells: more, aligned: false });
    }
    lines
}

/// The name and what else tells the row: its unit, or its window.
fn label(row: &Row, channel: &Channel) -> String {
    match (row.window, channel.unit.as_str()) {
        (None, unit) if !unit.is_empty() => format!("{} [{unit}]:", channel.name),
        _ => bare_label(row, channel),
    }
}

fn bare_label(row: &Row, channel: &Channel) -> String {
    match row.window {
        Some(of) => format!("{} {}:", channel.name, of.window),
        None => format!("{}:", channel.name),
    }
}

/// The values of a row in `room` columns. Where that is too narrow for all of them, the deviation is left out, then
/// minimum and maximum; json and csv have everything.
fn cells(row: &Row, numbers: &Numbers, room: usize) -> Vec<String> {
    let mut cells = vec![("n", format!("n={}", row.stats.count))];
    if row.stats.count > 0 {
        let Numbers { sum, mean, deviation, min, max, last, .. } = numbers;
        let named =
            [("mean", mean), ("sd", deviation), ("min", min), ("max", max), ("last", last), ("sum", sum)];
        // The last value of a window that has closed is old, and its sum says little.
        let named =
            named.into_iter().filter(|(name, _)| row.window.is_none() || !["sum", "last"].contains(name));
        cells.extend(named.map(|(name, value)| (name, format!("{name}={}", or_absent(value)))));
    }
    for left_out in [&["sd"][..], &["min", "max"]] {
        if cells.iter().map(|(_, cell)| 1 + width(cell)).sum::<usize>() > room {
            cells.retain(|(name, _)| !left_out.contains(name));
        }
    }
    cells.into_iter().map(|(_, cell)| cell).collect()
}

/// Percentiles and, of the whole channel, the fading average and the rate if something like it was asked for.
fn more(row: &Row, numbers: &Numbers) -> Vec<String> {
    if row.stats.count == 0 {
        return Vec::new();
    }
    let percentile = |(p, value): &(_, Option<String>)| format!("p{p}={}", or_absent(value));
    let mut cells: Vec<String> = numbers.percentiles.iter().map(percentile).collect();
    if row.weight.is_some() {
        cells.push(format!("ewma={}", or_absent(&numbers.ewma)));
    }
    if row.window.is_none() && !cells.is_empty() {
        cells.push(format!("rate={}/s", or_absent(&numbers.rate)));
    }
    cells
}

/// Lines as text: cells one below the other, if that fits.
fn align(lines: &[Line]) -> Vec<String> {
    let aligned = Columns::of(lines).lay(lines);
    if aligned.iter().all(|line| width(line) <= WIDTH) { aligned } else { Columns::default().lay(lines) }
}

/// How wide the parts of lines are at least.
#[derive(Default)]
struct Columns {
    label: usize,
    cells: Vec<usize>,
}

impl Columns {
    /// Those that all these lines need.
    fn of(lines: &[Line]) -> Columns {
        let mut columns = Columns::default();
        for line in lines {
            columns.label = columns.label.max(width(&line.label));
            for (i, cell) in line.cells.iter().enumerate().filter(|_| line.aligned) {
                columns.cells.resize(columns.cells.len().max(i + 1), 0);
                columns.cells[i] = columns.cells[i].max(width(cell));
            }
        }
        columns
    }

    fn lay(&self, lines: &[Line]) -> Vec<String> {
        let cells = |line: &Line| {
            let widths = self.cells.iter().copied().filter(|_| line.aligned).chain(std::iter::repeat(0));
            line.cells.iter().zip(widths).map(|(cell, width)| format!(" {cell:width$}")).collect::<String>()
        };
        let text = |line: &Line| format!("{:width$}{}", line.label, cells(line), width = self.label);
        lines.iter().map(|line| text(line).trim_end().to_owned()).collect()
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// Which alarms of a channel are on, if any are.
fn alarm_note(row: &Row, style: &Style) -> Option<Note> {
    let on = Some(row.alarms()).filter(|on| !on.is_empty())?;
    Some(Note { text: format!("{}={on}", style.channel(row).name), colour: RED })
}

/// What is missing, if anything is, and how many snapshots are not shown.
fn notes(news: &News) -> Vec<Note> {
    let note = |text: String, colour| Note { text, colour };
    let losses = news.losses().into_iter().filter(|(_, n, _)| *n > 0);
    let mut notes: Vec<Note> =
        losses.map(|(name, n, gone)| note(format!("{name}={n}"), if gone { RED } else { YELLOW })).collect();
    notes.extend(news.at_risk.filter(|n| *n > 0).map(|n| note(format!("at risk={n}"), YELLOW)));
    if news.coalesced > 0 {
        notes.push(note(format!("(+{})", news.coalesced), ""));
    }
    notes
}

/// Notes stand at the end of a single line as long as it fits, else in a line of their own before all others.
fn with_notes(mut lines: Vec<String>, notes: &[Note], coloured: bool) -> Vec<String> {
    if notes.is_empty() {
        return lines;
    }
    let needed: usize = notes.iter().map(|note| 1 + width(&note.text)).sum();
    let painted: Vec<String> = notes.iter().map(|note| note.painted(coloured)).collect();
    match lines.as_mut_slice() {
        [line] if width(line) + needed <= WIDTH => {
            line.push(' ');
            line.push_str(&painted.join(" "));
        }
        _ => lines.insert(0, painted.join(" ")),
    }
    lines
}

impl Note {
    fn painted(&self, coloured: bool) -> String {
        let Note { text, colour } = self;
        if coloured && !colour.is_empty() { format!("{colour}{text}{PLAIN}") } else { text.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::tests::{channel, news, settings, style};
    use ipc_pipeline::config::Format;
    use ipc_pipeline::settings::Settings;

    fn text_style(channels: Vec<Channel>) -> Style {
        style(Format::Text, channels, &Settings::default())
    }

    #[test]
    fn a_line_has_values_in_their_unit() {
        let style = Style { digits: 3, ..text_style(vec![channel("t", "C", 4, "1")]) };
        let nothing = Settings::default();
        assert_eq!(lines(&news(&nothing, &[], 0), &style), ["t: n=0"].map(|l| l.replace("t:", "t [C]:")));
        let some = news(&nothing, &[&[20018], &[-5], &[7]], 3);
        let line = "t [C]: n=3 mean=0.667 sd=1.156 min=-0.0005 max=2.0018 last=0.0007 sum=2.0020";
        assert_eq!(lines(&some, &style), ["missed=3", line]);
        let codes = Style { digits: 3, ..text_style(vec![channel("t", "", 0, "1")]) };
        let line = "t: n=3 mean=6673.333 sd=11556.822 min=-5 max=20018 last=7 sum=20020 missed=3";
        assert_eq!(lines(&some, &codes), [line]);
        let turned = Style { digits: 3, ..text_style(vec![channel("t", "K", 4, "-0.5")]) };
        let line = "t [K]: n=3 mean=-0.334 sd=0.578 min=-1.0009 max=0.0003 last=-0.0004 sum=-1.0010";
        assert_eq!(lines(&some, &turned), ["missed=3", line]);
    }

    #[test]
    fn the_electrocardiogram_fits_80_columns() {
        let style = text_style(vec![channel("ecg", "code", 0, "1")]);
        let news = |coalesced, missed| News { coalesced, ..ecg(missed) };
        // For the deviation there is no room.
        let line = "ecg [code]: n=2 mean=1040.500000 min=327 max=1754 last=1754 sum=2081";
        assert_eq!(lines(&news(0, 0), &style), [line]);
        assert_eq!(lines(&news(3, 0), &style), [format!("{line} (+3)")]);
        assert_eq!(width(&lines(&news(12_345_678, 0), &style)[0]), 80);
        // One column more than there are: the notes go first, and the last line stays that of the values.
        assert_eq!(lines(&news(123_456_789, 0), &style), ["(+123456789)", line]);
        assert_eq!(lines(&news(3, 4148), &style), ["missed=4148 (+3)", line]);
        let risky = News { at_risk: Some(489), ..news(3, 0) };
        assert_eq!(lines(&risky, &style), ["at risk=489 (+3)", line]);
    }

    fn ecg(missed: u32) -> News {
        news(&Settings::default(), &[&[327], &[1754]], missed)
    }

    #[test]
    fn only_a_terminal_gets_colours() {
        let style = Style { coloured: true, ..text_style(vec![channel("v", "", 0, "1")]) };
        let mut news = News { coalesced: 1, at_risk: Some(2), ..news(&Settings::default(), &[&[7]], 3) };
        news.snapshot.losses.full = 4;
        let (yellow, red) = ("\x1b[33m", "\x1b[31m");
        let notes = format!("{yellow}missed=3\x1b[0m {red}dropped=4\x1b[0m {yellow}at risk=2\x1b[0m (+1)");
        let line = "v: n=1 mean=7.000000 sd=- min=7 max=7 last=7 sum=7";
        // Colours take no room.
        assert_eq!(lines(&news, &style), [notes, line.to_owned()]);
        let plain = text_style(vec![channel("v", "", 0, "1")]);
        assert_eq!(lines(&news, &plain), ["missed=3 dropped=4 at risk=2 (+1)", line]);
    }

    #[test]
    fn channels_and_windows_stand_one_below_the_other() {
        let rows: Vec<[i32; 2]> = (0..62).map(|i| [215 + i % 3, 1013 - i]).collect();
        let rows: Vec<&[i32]> = rows.iter().map(|row| row.as_slice()).collect();
        let channels = vec![channel("inside", "C", 1, "1"), channel("p", "hPa", 0, "1")];
        let news = News { coalesced: 2, ..news(&settings(), &rows, 0) };
        let found = lines(&news, &Style { digits: 3, ..text_style(channels) });
        let wanted = [
            "(+2)",
            "inside [C]:  n=62 mean=21.598  sd=0.082  min=21.5 max=21.7 last=21.6 sum=1339.1",
            "inside:      p50=21.6 p99.9=21.7 ewma=21.586 rate=0.100/s",
            "inside 1min: n=60 mean=21.600  sd=0.082  min=21.5 max=21.7",
            "inside 1min: p50=21.6 p99.9=21.7",
            "p [hPa]:     n=62 mean=982.500 sd=18.042 min=952  max=1013 last=952  sum=60915",
            "p:           p50=982 p99.9=1013 ewma=953.000 rate=-1.000/s",
            "p 1min:      n=60 mean=983.500 sd=17.464 min=954  max=1013",
            "p 1min:      p50=983 p99.9=1013",
        ];
        assert_eq!(found, wanted);
        assert!(found.iter().all(|line| width(line) <= WIDTH));
    }
    #[test]
    fn what_does_not_fit_is_not_spread() {
        let rows: [&[i32]; 2] = [&[-1000, 7], &[1000, 7]];
        let channels = vec![channel("in", "C", 1, "1"), channel("far outside, north", "C", 0, "1")];
        let style = text_style(channels);
        let wanted = [
            "in [C]: n=2 mean=0.000000 sd=141.421356 min=-100.0 max=100.0 last=100.0 sum=0.0",
            "far outside, north [C]: n=2 mean=7.000000 sd=0.000000 min=7 max=7 last=7 sum=14",
        ];
        assert_eq!(lines(&news(&Settings::default(), &rows, 0), &style), wanted);
    }
}
