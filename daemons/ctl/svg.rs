//! A picture as SVG.
#![forbid(unsafe_code)]

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;

use crate::axis::Axis;
use crate::chart::{Layer, Picture};
use crate::screen::fitted;

/// Width of a file, and height of each picture in it, in pixels.
const WIDTH: u32 = 1200;
const HEIGHT: u32 = 500;
/// With more than one picture each is lower.
const HEIGHT_OF_SEVERAL: u32 = 320;
const TEXT: (&str, u32) = ("sans-serif", 15);
const TITLE: (&str, u32) = ("sans-serif", 18);
const AREA: RGBColor = RGBColor(190, 210, 235);
const GRID: RGBColor = RGBColor(225, 225, 225);
/// Each layer has another colour, and another mark on its line: in black and white these tell them apart.
const INKS: [Ink; 6] = [
    Ink { colour: RGBColor(20, 80, 160), mark: &CIRCLE, filled: true },
    Ink { colour: RGBColor(205, 95, 10), mark: &SQUARE, filled: false },
    Ink { colour: RGBColor(30, 125, 70), mark: &TRIANGLE, filled: true },
    Ink { colour: RGBColor(145, 50, 140), mark: &CIRCLE, filled: false },
    Ink { colour: RGBColor(90, 90, 90), mark: &SQUARE, filled: true },
    Ink { colour: RGBColor(150, 120, 0), mark: &TRIANGLE, filled: false },
];
/// The shapes of marks, around their place.
pub const CIRCLE: [Place; 9] = [(5, 0), (4, 4), (0, 5), (-4, 4), (-5, 0), (-4, -4), (0, -5), (4, -4), (5, 0)];
/// See [`CIRCLE`].
pub const SQUARE: [Place; 5] = [(-4, -4), (4, -4), (4, 4), (-4, 4), (-4, -4)];
/// See [`CIRCLE`].
pub const TRIANGLE: [Place; 4] = [(-5, 4), (0, -6), (5, 4), (-5, 4)];
/// Width of the legend in pixels, and characters of a name in it.
const LEGEND: u32 = 240;
const NAME: usize = 24;
/// So many marks stand on a line.
const MARKS: usize = 8;

/// A place on the canvas, in pixels.
pub type Place = (i32, i32);
type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Failed = DrawingAreaErrorKind<std::io::Error>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Ticked, Ticked>>;

/// How a layer is drawn.
pub struct Ink {
    /// Of its line and marks.
    pub colour: RGBColor,
    /// The shape of its marks.
    pub mark: &'static [Place],
    /// Are they full, or white inside?
    pub filled: bool,
}

/// The whole text of a file with these pictures, one below the other.
///
/// # Errors
/// What the library says, in words.
pub fn svg(pictures: &[Picture]) -> Result<String, String> {
    let count = pictures.len().max(1);
    // Where one has a legend all leave room for it, so that the same time stands at the same place.
    let legend = if pictures.iter().any(|picture| picture.layers.len() > 1) { LEGEND } else { 0 };
    let height = if count > 1 { HEIGHT_OF_SEVERAL * count as u32 } else { HEIGHT };
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area();
        root.fill(&WHITE).map_err(|e| e.to_string())?;
        for (area, picture) in root.split_evenly((count, 1)).iter().zip(pictures) {
            draw(area, picture, WIDTH - legend).map_err(|e| e.to_string())?;
        }
        root.present().map_err(|e| e.to_string())?;
    }
    Ok(text)
}

fn draw(area: &Canvas, picture: &Picture, width: u32) -> Result<(), Failed> {
    let many = picture.layers.len() > 1;
    let (area, legend) = area.split_horizontally(width);
    let (x, y) = (picture.x.clone().unwrap_or_default(), picture.y.clone().unwrap_or_default());
    let mut chart = ChartBuilder::on(&area)
        .caption(&picture.title, TITLE)
        .margin(12)
        .margin_right(30)
        .x_label_area_size(48)
        .y_label_area_size(84)
        .build_cartesian_2d(Ticked(x.clone()), Ticked(y.clone()))?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .label_style(TEXT)
        .axis_desc_style(TEXT)
        .x_desc(x.label)
        .y_desc(y.label)
        .draw()?;
    for (layer, ink) in picture.layers.iter().zip(INKS.iter().cycle()) {
        draw_layer(&mut chart, layer, ink)?;
    }
    for (i, (layer, ink)) in picture.layers.iter().zip(INKS.iter().cycle()).enumerate().filter(|_| many) {
        // Never two marks at the same place.
        let shift = (i as f64 + 0.5) / picture.layers.len() as f64;
        chart.draw_series(marks(layer, shift).map(|at| EmptyElement::at(at) + ink.fill() + ink.outline()))?;
        draw_name(&legend, i, &layer.name, ink)?;
    }
    Ok(())
}

fn draw_layer(chart: &mut Chart, layer: &Layer, ink: &Ink) -> Result<(), Failed> {
    let area = layer.area.iter().map(|(x, _, high)| (*x, *high));
    let back = layer.area.iter().rev().map(|(x, low, _)| (*x, *low));
    let outline: Vec<(f64, f64)> = area.chain(back).collect();
    if !outline.is_empty() {
        chart.draw_series(std::iter::once(Polygon::new(outline, AREA.filled())))?;
    }
    let bar = |(from, to, height): &(f64, f64, f64)| {
        Rectangle::new([(*from, 0.0), (*to, *height)], ink.colour.mix(0.8).filled())
    };
    chart.draw_series(layer.bars.iter().map(bar))?;
    for piece in &layer.pieces {
        match piece.as_slice() {
            [alone] => chart.draw_series([Circle::new(*alone, 2, ink.colour.filled())]),
            points => chart.draw_series([PathElement::new(points.to_vec(), ink.colour.stroke_width(1))]),
        }?;
    }
    Ok(())
}

/// Places for marks on the lines of a layer; `shift`: 0 to 1, how far they are moved towards the next one.
fn marks(layer: &Layer, shift: f64) -> impl Iterator<Item = (f64, f64)> + '_ {
    let points = || layer.pieces.iter().flatten().copied();
    let ends = points().fold((f64::MAX, f64::MIN), |(from, to), (x, _)| (from.min(x), to.max(x)));
    (0..MARKS).filter_map(move |n| {
        let wanted = ends.0 + (ends.1 - ends.0) * (n as f64 + shift) / MARKS as f64;
        points().find(|(x, _)| *x >= wanted)
    })
}

/// The line, the mark and the name of layer number `i`.
fn draw_name(legend: &Canvas, i: usize, name: &str, ink: &'static Ink) -> Result<(), Failed> {
    let line = PathElement::new(vec![(-14, 0), (14, 0)], ink.colour.stroke_width(1));
    let text = Text::new(fitted(name, NAME), (22, -8), TEXT);
    let at = EmptyElement::at((16, 56 + 26 * i as i32));
    legend.draw(&(at + line + ink.fill() + ink.outline() + text))
}

impl Ink {
    /// The inside of a mark.
    pub fn fill(&self) -> Polygon<Place> {
        Polygon::new(self.mark.to_vec(), if self.filled { self.colour } else { WHITE }.filled())
    }

    /// The rim of a mark.
    pub fn outline(&self) -> PathElement<Place> {
        PathElement::new(self.mark.to_vec(), self.colour.stroke_width(2))
    }
}

/// An axis as the library wants it.
struct Ticked(Axis);

impl Ranged for Ticked {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let share = (value - self.0.from) / (self.0.to - self.0.from);
        from + (share * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.0.ticks.iter().map(|(value, _)| *value).collect()
    }

    fn range(&self) -> Range<f64> {
        self.0.from..self.0.to
    }
}

impl ValueFormatter<f64> for Ticked {
    fn format(value: &f64) -> String {
        value.to_string()
    }

    fn format_ext(&self, value: &f64) -> String {
        let tick = self.0.ticks.iter().find(|(place, _)| place == value);
        tick.map_or_else(String::new, |(_, text)| text.clone())
    }
}
