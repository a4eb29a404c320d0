//! The distribution of each latency as a curve: how many microseconds the slowest half, tenth, hundredth ... of all messages
//! take at least. Told apart by dash and mark, no colours: readable in black and white.
#![forbid(unsafe_code)]

use plotters::element::DashedPathElement;
use plotters::prelude::*;

use super::bars::{Canvas, Failed, GRID, HEAD, Scale, TEXT};
use super::job::Task;
use super::{Figure, Findings};
use crate::svg::{CIRCLE, Ink, SQUARE, TRIANGLE};

/// What stands in one row of panels: of one kind, and so few that they can be told apart.
const FAMILIES: [(&str, &[&str]); 5] = [
    ("pipes and queues", &["pipe", "fifo", "mq", "sysv", "file", "signals"]),
    ("Unix sockets", &["unix-stream", "unix-seqpacket", "unix-datagram", "socketpair"]),
    ("loopback", &["tcp", "udp", "multicast"]),
    ("shared memory", &["shm-lock", "ring", "ring-spin"]),
    (
        "our carriers, with entries",
        &["carrier-mq", "carrier-fifo", "carrier-unix", "carrier-sysv", "carrier-tcp", "carrier-udp"],
    ),
];
/// The panels of a row.
const TASKS: [(Task, &str); 2] = [(Task::RoundTrip, "round trip"), (Task::WakeUp, "wake-up")];

/// How each of a family is drawn; the second number is the space between two dashes of the first one's length, in pixels.
const LINES: [(Ink, u32, u32); 6] = [
    (Ink { colour: BLACK, mark: &CIRCLE, filled: true }, 1, 0),
    (Ink { colour: BLACK, mark: &SQUARE, filled: false }, 9, 5),
    (Ink { colour: BLACK, mark: &TRIANGLE, filled: true }, 2, 4),
    (Ink { colour: BLACK, mark: &CIRCLE, filled: false }, 16, 5),
    (Ink { colour: BLACK, mark: &SQUARE, filled: true }, 5, 9),
    (Ink { colour: BLACK, mark: &TRIANGLE, filled: false }, 4, 3),
];
/// Marks stand at these percentages.
const MARKED: [f64; 6] = [1.0, 50.0, 90.0, 99.0, 99.9, 99.99];
/// Percentages with a line of the grid.
const GRIDDED: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 99.99];

/// Where panels begin, in pixels: from the left end of the picture, and from the top of their row.
const LEFTS: [i32; 2] = [90, 590];
const TOP: i32 = 40;
/// Size of a panel, and height of a row of them.
const WIDTH: i32 = 420;
const HEIGHT: i32 = 220;
const ROW: i32 = HEIGHT + 80;
/// Where the names of a row stand, and the space between two of them.
const LEGEND: i32 = 1040;
const LINE: i32 = 24;
/// Height of the title.
const TITLE: i32 = 50;

/// The curves of a row: each has its place among the lines in the whole family, measured or not.
type Row<'f> = (&'static str, Vec<(usize, &'static str)>, Vec<&'f Figure>);

fn rows(findings: &Findings) -> Vec<Row<'_>> {
    let row = |(title, members): (&'static str, &'static [&'static str])| {
        let is_drawn = |f: &&Figure| members.contains(&f.mechanism) && !f.curve.is_empty();
        let figures: Vec<&Figure> = findings.figures.iter().filter(is_drawn).collect();
        let is_there = |(_, name): &(usize, &str)| figures.iter().any(|f| f.mechanism == *name);
        let names: Vec<(usize, &str)> = members.iter().copied().enumerate().filter(is_there).collect();
        (title, names, figures)
    };
    FAMILIES.into_iter().map(row).filter(|(_, names, _)| !names.is_empty()).collect()
}

/// So many pixels are needed for all; 0: there is nothing to draw.
pub fn height(findings: &Findings) -> i32 {
    let rows = rows(findings).len() as i32;
    if rows > 0 { TITLE + rows * ROW } else { 0 }
}

/// Draws them below `top`.
pub fn draw(area: &Canvas, findings: &Findings, top: i32) -> Result<(), Failed> {
    if height(findings) == 0 {
        return Ok(());
    }
    let title =
        "Latency: so many % of all messages took no longer. At 50 % the median; to the right the slow ones";
    area.draw(&Text::new(title, (LEFTS[0], top + 12), HEAD))?;
    let rows = rows(findings);
    // One scale for all, so that panels can be compared.
    let values = rows.iter().flat_map(|(_, _, figures)| figures).flat_map(|f| &f.curve);
    let scale = Scale::of(values.map(|(_, ns)| ns / 1e3));
    for ((title, names, figures), i) in rows.iter().zip(0..) {
        let top = top + TITLE + i * ROW + TOP;
        for ((task, word), left) in TASKS.into_iter().zip(LEFTS) {
            let panel = Panel { left, top, scale: &scale };
            panel.frame(area, &format!("{title}: {word}"))?;
            for (place, name) in names {
                let figure = figures.iter().find(|f| f.mechanism == *name && f.task == task);
                figure
                    .map_or(Ok(()), |figure| panel.curve(area, &figure.curve, &LINES[place % LINES.len()]))?;
            }
        }
        for ((place, name), i) in names.iter().zip(0..) {
            legend(area, name, &LINES[place % LINES.len()], top + 10 + LINE * i)?;
        }
    }
    Ok(())
}

fn legend(area: &Canvas, name: &str, line: &'static (Ink, u32, u32), y: i32) -> Result<(), Failed> {
    dashed(area, vec![(LEGEND, y), (LEGEND + 44, y)], line)?;
    mark(area, (LEGEND + 22, y), &line.0)?;
    area.draw(&Text::new(name.to_owned(), (LEGEND + 54, y - 7), TEXT))
}

fn dashed(area: &Canvas, points: Vec<(i32, i32)>, (_, dash, space): &(Ink, u32, u32)) -> Result<(), Failed> {
    match space {
        0 => area.draw(&PathElement::new(points, BLACK.stroke_width(1))),
        space => area.draw(&DashedPathElement::new(points, *dash, *space, BLACK.stroke_width(1))),
    }
}

fn mark(area: &Canvas, at: (i32, i32), ink: &'static Ink) -> Result<(), Failed> {
    area.draw(&(EmptyElement::at(at) + ink.fill() + ink.outline()))
}

/// So many microseconds, in short.
fn time(us: f64) -> String {
    match us {
        us if us >= 1e6 => format!("{} s", us / 1e6),
        us if us >= 1e3 => format!("{} ms", us / 1e3),
        us if us >= 1.0 => format!("{us} us"),
        us => format!("{:.0} ns", us * 1e3),
    }
}

/// One diagram: to the right the rarer, upwards the slower.
struct Panel<'s> {
    left: i32,
    top: i32,
    scale: &'s Scale,
}

impl Panel<'_> {
    /// Each nine of a percentage takes as much room as the one before it: 90, 99, 99.9 ...
    fn x(&self, percent: f64) -> i32 {
        let nines = (1.0 / (1.0 - percent / 100.0)).log10();
        self.left + (nines / 4.0 * f64::from(WIDTH)).round() as i32
    }

    fn y(&self, us: f64) -> i32 {
        self.top + HEIGHT - (self.scale.share(us) * f64::from(HEIGHT)).round() as i32
    }

    fn frame(&self, area: &Canvas, title: &str) -> Result<(), Failed> {
        let (right, bottom) = (self.left + WIDTH, self.top + HEIGHT);
        for percent in GRIDDED {
            let x = self.x(percent);
            area.draw(&PathElement::new(vec![(x, self.top), (x, bottom)], GRID.stroke_width(1)))?;
            area.draw(&Text::new(format!("{percent} %"), (x - 16, bottom + 8), TEXT))?;
        }
        for value in self.scale.powers() {
            let y = self.y(value);
            area.draw(&PathElement::new(vec![(self.left, y), (right, y)], GRID.stroke_width(1)))?;
            let text = time(value);
            area.draw(&Text::new(text.clone(), (self.left - 10 - 7 * text.len() as i32, y - 7), TEXT))?;
        }
        area.draw(&Rectangle::new([(self.left, self.top), (right, bottom)], BLACK.stroke_width(1)))?;
        area.draw(&Text::new(title.to_owned(), (self.left, self.top - 20), TEXT))
    }

    fn curve(
        &self,
        area: &Canvas,
        curve: &[(f64, f64)],
        line: &'static (Ink, u32, u32),
    ) -> Result<(), Failed> {
        let at = |(percent, ns): &(f64, f64)| (self.x(*percent), self.y(ns / 1e3));
        dashed(area, curve.iter().map(at).collect(), line)?;
        let marked = curve.iter().filter(|(percent, _)| MARKED.contains(percent));
        marked.map(at).try_for_each(|at| mark(area, at, &line.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::all;
    use std::collections::BTreeSet;

    #[test]
    fn each_mechanism_has_one_place_and_one_line() {
        let members: Vec<&str> = FAMILIES.iter().flat_map(|(_, members)| *members).copied().collect();
        assert_eq!(members.len(), all().count());
        assert_eq!(members.into_iter().collect::<BTreeSet<_>>(), all().map(|m| m.name()).collect());
        assert!(FAMILIES.iter().all(|(_, members)| members.len() <= LINES.len()));
        let looks: BTreeSet<String> =
            LINES.iter().map(|(ink, ..)| format!("{:?} {}", ink.mark, ink.filled)).collect();
        let dashes: BTreeSet<(u32, u32)> = LINES.iter().map(|(_, dash, space)| (*dash, *space)).collect();
        assert_eq!((looks.len(), dashes.len()), (LINES.len(), LINES.len()));
    }

    #[test]
    fn times_are_short() {
        assert_eq!([0.1, 1.0, 100.0, 1e4, 1e6].map(time), ["100 ns", "1 us", "100 us", "10 ms", "1 s"]);
    }

    #[test]
    fn nines_are_evenly_spaced_and_slow_is_up() {
        let scale = Scale::of([0.5, 900.0].into_iter());
        let panel = Panel { left: 0, top: 0, scale: &scale };
        assert_eq!([0.0, 90.0, 99.0, 99.9, 99.99].map(|p| panel.x(p)), [0, 105, 210, 315, 420]);
        assert!(panel.y(900.0) < panel.y(1.0) && panel.y(0.1) == HEIGHT && panel.y(1000.0) == 0);
    }
}
