//! The screen of `top`: from one look to cells. It fits 80 by 24, and uses what there is beyond that.
#![forbid(unsafe_code)]

use ipc_pipeline::exact::Conversion;
use ipc_pipeline::names::Role;
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Row, Sparkline, Table};

use crate::chart::{self, Layer, Picture};
use crate::said;
use crate::top::{Channel, Chosen, Look};

/// Columns of the sparkline in the table of channels.
const SPARK: usize = 12;
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// At most so many lines are given to windows.
const WINDOWS: u16 = 4;

/// Columns of a value in the table of channels.
const VALUE: usize = 10;

/// Draws everything, and below it which keys there are.
pub fn draw_with_keys(frame: &mut Frame, look: &Look, chosen: Chosen) {
    let [screen, keys] = Layout::vertical([Constraint::Min(1), Constraint::Length(1)]).areas(frame.area());
    draw(frame, screen, look, chosen);
    let help = " q quit   p pause   arrows, Tab channel";
    frame.render_widget(Paragraph::new(help).style(Ink { colours: chosen.colours }.dim()), keys);
}

/// Draws everything.
pub fn draw(frame: &mut Frame, area: Rect, look: &Look, chosen: Chosen) {
    let ink = Ink { colours: chosen.colours };
    let lines = lines_of(look, chosen.channel, area.width.into());
    let totals = totals_of(look, area.width.into(), ink);
    let channels = (look.channels.len().max(1) as u16).min(area.height / 4) + 1;
    let [title, head, _, roles, _, table, details, lower] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(totals.len() as u16),
        Constraint::Length(1),
        Constraint::Length(5),
        Constraint::Length(1),
        Constraint::Length(channels),
        Constraint::Length((lines.len() as u16).min(WINDOWS)),
        Constraint::Min(3),
    ])
    .areas(area);
    draw_title(frame, title, look, chosen, ink);
    frame.render_widget(Paragraph::new(totals), head);
    draw_roles(frame, roles, look, ink);
    draw_channels(frame, table, look, chosen, ink);
    frame.render_widget(Paragraph::new(lines), details);
    if let Some(channel) = look.channels.get(chosen.channel) {
        draw_recent(frame, lower, channel, ink);
    }
}

/// Colours, if they are wanted; they never carry a meaning alone.
#[derive(Clone, Copy)]
struct Ink {
    colours: bool,
}

impl Ink {
    fn of(self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }

    fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    fn bold(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }
}

fn draw_title(frame: &mut Frame, area: Rect, look: &Look, chosen: Chosen, ink: Ink) {
    let epoch = match look.standings.spool {
        Some(s) => {
            let held = 100 * s.head.saturating_sub(s.tail) / s.header.capacity;
            format!("epoch {}, spool of {} entries, {held} % held", s.header.epoch, s.header.capacity)
        }
        None => "no spool".into(),
    };
    let title = Line::from(vec![
        Span::styled(format!(" instance {}", look.instance), ink.bold()),
        Span::raw(format!("   {epoch}")),
    ]);
    frame.render_widget(Paragraph::new(title), area);
    let right = if chosen.paused { "paused " } else { "" };
    frame.render_widget(Paragraph::new(right).alignment(Alignment::Right).style(ink.of(Color::Yellow)), area);
}

/// How far things are, what was lost, and which alarms are on.
fn totals_of(look: &Look, width: usize, ink: Ink) -> Vec<Line<'static>> {
    let s = &look.standings;
    let style = if s.at_risk() > 0 { ink.of(Color::Yellow) } else { Style::new() };
    let nothing = if look.lost.is_known() && look.lost.is_nothing() { "; nothing is lost" } else { "" };
    let first = Line::styled(format!(" {}{nothing}", s.text()), style);
    let red = |line: String| Line::styled(line, ink.of(Color::Red));
    let lost = look.lost.lines().into_iter().map(|line| red(format!(" {line}")));
    let alarms = look.alarms.texts();
    let alarms = (!alarms.is_empty()).then(|| red(whole_items(" alarm:".into(), &alarms, width)));
    std::iter::once(first).chain(lost).chain(alarms).collect()
}

fn draw_roles(frame: &mut Frame, area: Rect, look: &Look, ink: Ink) {
    let s = &look.standings;
    let seq = |role| s.seq(role).unwrap_or(0);
    let durable = s.durable().unwrap_or(0);
    // What each has still to get from the one before it.
    let edge = |role| match role {
        Role::Conv => String::new(),
        Role::Log => {
            let received = seq(Role::Log);
            let (take, sync) = (s.head().saturating_sub(received), received.saturating_sub(durable));
            format!("take {take} sync {sync}")
        }
        Role::Stat => format!("fold {}", durable.saturating_sub(seq(Role::Stat))),
        Role::Report => format!("print {}", seq(Role::Stat).saturating_sub(seq(Role::Report))),
    };
    let rows = Role::ALL.map(|role| {
        let standing = s.role(role);
        let running = standing.is_running();
        let rate = look.rates.get(role.index()).copied().flatten().filter(|_| running);
        let edge = if running { edge(role) } else { String::new() };
        let colour = if running { Color::Green } else { Color::Red };
        Row::new([
            Line::from(format!(" {}", role.name())),
            Line::from(standing.state()).style(ink.of(colour)),
            right(s.seq(role).map_or("-".into(), |n| n.to_string())),
            right(rate.map_or("-".into(), |n| format!("{n}/s"))),
            Line::from(edge),
        ])
    });
    let widths = [8, 24, 13, 11].map(Constraint::Length).into_iter().chain([Constraint::Min(20)]);
    let heading = Row::new([
        Line::from(" daemon"),
        "state".into(),
        right("seq".into()),
        right("entries".into()),
        "lag".into(),
    ]);
    frame.render_widget(Table::new(rows, widths).header(heading.style(ink.dim())).column_spacing(1), area);
}

fn right(text: String) -> Line<'static> {
    Line::from(text).alignment(Alignment::Right)
}

fn draw_channels(frame: &mut Frame, area: Rect, look: &Look, chosen: Chosen, ink: Ink) {
    let room = usize::from(area.height.saturating_sub(1)).max(1);
    // What the values and the columns between them leave.
    let label = usize::from(area.width).saturating_sub(5 * VALUE + SPARK + 6).max(9);
    // The chosen one is always on the screen.
    let skip = (chosen.channel + 1).saturating_sub(room);
    let rows = look.channels.iter().enumerate().skip(skip).take(room).map(|(i, channel)| {
        let said = look
            .said
            .iter()
            .flat_map(|s| &s.lines)
            .find(|l| usize::from(l.channel) == i && l.window.is_none());
        let text = |of: fn(&said::Line) -> &String| right(said.map_or("-".into(), |l| fitted(of(l), VALUE)));
        let mark = if i == chosen.channel { ">" } else { " " };
        let row = Row::new([
            Line::from(fitted(&format!("{mark}{}", channel.label), label)),
            text(|l| &l.last),
            text(|l| &l.mean),
            text(|l| &l.min),
            text(|l| &l.max),
            right(said.map_or("-".into(), |l| fitted(&l.count.to_string(), VALUE))),
            Line::from(spark(channel, SPARK)).style(ink.of(Color::Cyan)),
        ]);
        if i == chosen.channel { row.style(ink.bold()) } else { row }
    });
    let heading = ["last", "mean", "min", "max", "samples"].map(|t| right(t.into()));
    let heading = [Line::from(" channel")].into_iter().chain(heading).chain([Line::from("recent")]);
    let widths = [Constraint::Length(label as u16)].into_iter();
    let widths =
        widths.chain([VALUE as u16; 5].map(Constraint::Length)).chain([Constraint::Length(SPARK as u16)]);
    let table = Table::new(rows, widths).header(Row::new(heading).style(ink.dim())).column_spacing(1);
    frame.render_widget(table, area);
}

/// `text` in `width` columns; what does not fit is cut where it is seen, so that no value looks like another one.
pub fn fitted(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// As many whole items as `width` columns hold, behind `begin`.
fn whole_items(begin: String, items: &[String], width: usize) -> String {
    let mut text = begin;
    for item in items {
        if text.chars().count() + item.chars().count() + 2 > width.saturating_sub(2) {
            return text + " …";
        }
        text = text + "  " + item;
    }
    text
}

/// Percentiles since the start, and a line for each window of the chosen channel.
fn lines_of(look: &Look, chosen: usize, width: usize) -> Vec<Line<'static>> {
    let lines = look.said.iter().flat_map(|s| &s.lines).filter(|l| usize::from(l.channel) == chosen);
    let texts = lines.filter_map(|line| {
        let percentiles = line.percentiles.iter().map(|(which, value)| format!("{which} {value}"));
        let percentiles: Vec<String> = percentiles.collect();
        match &line.window {
            None if percentiles.is_empty() => None,
            None => Some(whole_items("  since start:".into(), &percentiles, width)),
            Some(window) if line.count == 0 => Some(format!("  {window}: none closed yet")),
            Some(window) => {
                let values = [
                    ("n", &line.count.to_string()),
                    ("mean", &line.mean),
                    ("min", &line.min),
                    ("max", &line.max),
                ];
                let values = values.into_iter().map(|(name, value)| format!("{name} {value}"));
                let items: Vec<String> = values.chain(percentiles).collect();
                Some(whole_items(format!("  {window}:"), &items, width))
            }
        }
    });
    texts.map(Line::from).collect()
}

/// The newest samples of the chosen channel: their course and how they are distributed.
fn draw_recent(frame: &mut Frame, area: Rect, channel: &Channel, ink: Ink) {
    let [left, gap, side] =
        Layout::horizontal([Constraint::Fill(2), Constraint::Length(2), Constraint::Fill(1)]).areas(area);
    let _ = gap;
    let points: Vec<(f64, f64)> = channel
        .recent
        .iter()
        .enumerate()
        .map(|(i, code)| (i as f64, shown(channel.conversion, *code)))
        .collect();
    let title = format!("the last {} samples of {}", points.len(), channel.label);
    let layers = vec![Layer { pieces: vec![points], ..Layer::default() }];
    let picture = Picture { title, layers, ..Picture::default() };
    chart::draw(frame, left, &picture, ink.of(Color::Cyan));
    draw_histogram(frame, side, channel, ink);
}

fn draw_histogram(frame: &mut Frame, area: Rect, channel: &Channel, ink: Ink) {
    let [title, bars, axis] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(1), Constraint::Length(1)]).areas(area);
    frame.render_widget(Paragraph::new("how often each value").style(ink.dim()), title);
    let (Some(low), Some(high)) = (channel.recent.iter().min(), channel.recent.iter().max()) else { return };
    let counts = counts(&channel.recent, bars.width.into());
    // A turned scale turns the picture.
    let turned = !channel.conversion.is_rising();
    let (low, high) = if turned { (high, low) } else { (low, high) };
    let counts: Vec<u64> = if turned { counts.into_iter().rev().collect() } else { counts };
    frame.render_widget(Sparkline::default().data(counts).style(ink.of(Color::Cyan)), bars);
    let text = |code: i32| channel.conversion.text(&channel.conversion.value(code), 3);
    let (low, high) = (text(*low), text(*high));
    let gap = usize::from(axis.width).saturating_sub(low.chars().count() + high.chars().count()).max(1);
    frame.render_widget(Paragraph::new(format!("{low}{}{high}", " ".repeat(gap))), axis);
}

/// How many of the codes lie in each of at most `bins` equal parts of their range.
fn counts(codes: &[i32], bins: usize) -> Vec<u64> {
    let (Some(low), Some(high)) = (codes.iter().min(), codes.iter().max()) else { return Vec::new() };
    let span = i64::from(*high) - i64::from(*low) + 1;
    // Not more parts than codes, or some would be empty for no reason: each code as wide as the others.
    let bins = (bins.max(1) as i64).min(span);
    let mut counts = vec![0; bins as usize];
    for code in codes {
        let bin = (i64::from(*code) - i64::from(*low)) * bins / span;
        if let Some(count) = counts.get_mut(bin as usize) {
            *count += 1;
        }
    }
    counts
}

/// The newest samples as a row of bars, one sample each.
fn spark(channel: &Channel, width: usize) -> String {
    let newest = channel.recent.get(channel.recent.len().saturating_sub(width)..).unwrap_or_default();
    let (Some(low), Some(high)) = (newest.iter().min(), newest.iter().max()) else { return String::new() };
    let span = (i64::from(*high) - i64::from(*low)).max(1);
    let level = |code: &i32| {
        let above = i64::from(*code) - i64::from(*low);
        let above = if channel.conversion.is_rising() {
            above
        } else {
            span.min(i64::from(*high) - i64::from(*code))
        };
        LEVELS.get((above * 7 / span) as usize).copied().unwrap_or(' ')
    };
    newest.iter().map(level).collect()
}

/// A value for the eye: the nearest float.
pub fn shown(conversion: Conversion, code: i32) -> f64 {
    conversion.value(code).text(conversion.places()).parse().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars() {
        assert_eq!(counts(&[1, 1, 2, 4], 10), [2, 1, 0, 1]);
        assert_eq!(counts(&[i32::MIN, i32::MAX, 0], 2), [1, 2]);
        assert_eq!(counts(&[5], 3), [1]);
        assert_eq!(counts(&[], 3), [0; 0]);
        let spark_of = |codes: &[i32], conversion| {
            spark(&Channel { label: String::new(), conversion, recent: codes.to_vec() }, 4)
        };
        assert_eq!(spark_of(&[9, 0, 1, 6, 7], Conversion::plain(0)), "▁▂▇█");
        assert_eq!(spark_of(&[3, 3], Conversion::plain(0)), "▁▁");
        assert_eq!(spark_of(&[i32::MIN, i32::MAX], Conversion::plain(0)), "▁█");
    }
}
