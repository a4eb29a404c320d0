//! A picture of the findings: bars for what goes one way, and below them the curves of latencies. Shades, dashes and marks, no
//! colours: readable in black and white.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::job::Task;
use super::{Figure, Findings, curves};

const WIDTH: u32 = 1200;
/// Height of one bar, of the space between mechanisms, and of a title with its scale.
const BAR: i32 = 11;
const GAP: i32 = 9;
const TITLE: i32 = 70;
/// Where names end and where the scale begins and ends.
const LEFT: i32 = 150;
const RIGHT: i32 = 1100;
pub const TEXT: (&str, u32) = ("sans-serif", 13);
pub const HEAD: (&str, u32) = ("sans-serif", 17);
pub const GRID: RGBColor = RGBColor(215, 215, 215);
/// The shade of the largest size; the smallest is white.
const DARK: u8 = 50;

pub type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub type Failed = DrawingAreaErrorKind<std::io::Error>;

/// The whole text of the file.
///
/// # Errors
/// What the library says, in words.
pub fn svg(findings: &Findings) -> Result<String, String> {
    let streams = groups(findings);
    let height = TITLE + streams.iter().map(|g| height(g)).sum::<i32>() + 30;
    let mut text = String::new();
    {
        let size = (WIDTH, (height + curves::height(findings)) as u32);
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        root.fill(&WHITE).map_err(|e| e.to_string())?;
        draw_streams(&root, &streams, height).map_err(|e| e.to_string())?;
        curves::draw(&root, findings, height).map_err(|e| e.to_string())?;
        root.present().map_err(|e| e.to_string())?;
    }
    Ok(text)
}

/// The figures of each mechanism that go one way.
fn groups(findings: &Findings) -> Vec<Vec<&Figure>> {
    let mut groups: Vec<Vec<&Figure>> = Vec::new();
    for figure in findings.figures.iter().filter(|f| f.task == Task::Stream) {
        match groups.last_mut().filter(|g| g.first().is_some_and(|f| f.mechanism == figure.mechanism)) {
            Some(group) => group.push(figure),
            None => groups.push(vec![figure]),
        }
    }
    groups
}

fn height(group: &[&Figure]) -> i32 {
    group.len() as i32 * BAR + GAP
}

/// A scale of powers of ten.
pub struct Scale {
    from: i32,
    to: i32,
}

impl Scale {
    /// One that holds all these values; what is not above 0 does not count.
    pub fn of(values: impl Iterator<Item = f64>) -> Scale {
        let logs = values.filter(|v| *v > 0.0).map(f64::log10);
        let (low, high) = logs.fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
        if low > high {
            return Scale { from: 0, to: 1 };
        }
        let from = low.floor() as i32;
        Scale { from, to: (high.ceil() as i32).max(from + 1) }
    }

    /// How far a value is from the beginning of the scale to its end, 0 to 1.
    pub fn share(&self, value: f64) -> f64 {
        if value <= 0.0 {
            return 0.0;
        }
        let share = (value.log10() - f64::from(self.from)) / f64::from(self.to - self.from);
        share.clamp(0.0, 1.0)
    }

    /// The powers of ten on it.
    pub fn powers(&self) -> impl Iterator<Item = f64> + use<> {
        (self.from..=self.to).map(|power| 10f64.powi(power))
    }

    /// The place of a value, in pixels.
    fn x(&self, value: f64) -> i32 {
        LEFT + (self.share(value) * f64::from(RIGHT - LEFT)) as i32
    }

    fn draw(&self, area: &Canvas, top: i32, bottom: i32) -> Result<(), Failed> {
        for value in self.powers() {
            let x = self.x(value);
            area.draw(&PathElement::new(vec![(x, top), (x, bottom)], GRID.stroke_width(1)))?;
            area.draw(&Text::new(format!("{value}"), (x - 8, top - 16), TEXT))?;
        }
        Ok(())
    }
}

fn draw_streams(area: &Canvas, groups: &[Vec<&Figure>], height: i32) -> Result<(), Failed> {
    let megabytes = |f: &Figure| f.value.median * f.size as f64 / 1e6;
    let sizes: BTreeSet<usize> = groups.iter().flatten().map(|f| f.size).collect();
    let words: Vec<String> = sizes.iter().map(usize::to_string).collect();
    let title = format!("One way, MB/s. Bytes of a message, from white to black: {}", words.join(", "));
    area.draw(&Text::new(title, (LEFT, 12), HEAD))?;
    let scale = Scale::of(groups.iter().flatten().map(|f| megabytes(f)));
    scale.draw(area, TITLE - 10, height - 20)?;
    each_row(area, groups, |f, y| {
        let shade = shade(sizes.range(..f.size).count(), sizes.len());
        let corners = [(LEFT, y), (scale.x(megabytes(f)), y + BAR - 1)];
        area.draw(&Rectangle::new(corners, shade.filled()))?;
        area.draw(&Rectangle::new(corners, BLACK.stroke_width(1)))
    })
}

/// Of the `i`th of so many sizes.
fn shade(i: usize, of: usize) -> RGBColor {
    let grey = 255 - (255 - usize::from(DARK)) * i / of.saturating_sub(1).max(1);
    let grey = u8::try_from(grey).unwrap_or(DARK);
    RGBColor(grey, grey, grey)
}

/// The name of each mechanism, and what `draw` makes of each of its figures at its height.
fn each_row(
    area: &Canvas,
    groups: &[Vec<&Figure>],
    mut draw: impl FnMut(&Figure, i32) -> Result<(), Failed>,
) -> Result<(), Failed> {
    let mut y = TITLE;
    for group in groups {
        let name = group.first().map_or("", |f| f.mechanism);
        area.draw(&Text::new(name, (20, y + (height(group) - GAP) / 2 - 7), TEXT))?;
        for figure in group {
            draw(figure, y)?;
            y += BAR;
        }
        y += GAP;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_go_from_white_to_black() {
        let all: Vec<u8> = (0..4).map(|i| shade(i, 4).0).collect();
        assert_eq!((all[0], all[3], shade(0, 1).0), (255, DARK, 255));
        assert!(all.is_sorted_by(|a, b| a > b));
    }

    #[test]
    fn a_scale_holds_all_values() {
        let scale = Scale::of([0.0, 3.0, 450.0].into_iter());
        assert_eq!((scale.from, scale.to), (0, 3));
        assert_eq!((scale.x(0.0), scale.x(1.0), scale.x(1000.0)), (LEFT, LEFT, RIGHT));
        assert!(scale.x(3.0) < scale.x(450.0));
        let none = Scale::of(std::iter::empty());
        assert_eq!((none.from, none.to), (0, 1));
    }
}
