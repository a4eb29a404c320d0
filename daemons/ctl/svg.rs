//! A picture as SVG.
#![forbid(unsafe_code)]

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;

use crate::axis::Axis;
use crate::chart::Picture;

/// Size in pixels.
pub const SIZE: (u32, u32) = (1200, 500);
const TEXT: (&str, u32) = ("sans-serif", 15);
const TITLE: (&str, u32) = ("sans-serif", 18);
const LINE: RGBColor = RGBColor(20, 80, 160);
const AREA: RGBColor = RGBColor(190, 210, 235);
const GRID: RGBColor = RGBColor(225, 225, 225);

/// The whole text of the file.
///
/// # Errors
/// What the library says, in words.
pub fn svg(picture: &Picture) -> Result<String, String> {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(|e| e.to_string())?;
        let (x, y) = (picture.x.clone().unwrap_or_default(), picture.y.clone().unwrap_or_default());
        let mut chart = ChartBuilder::on(&root)
            .caption(&picture.title, TITLE)
            .margin(12)
            .margin_right(30)
            .x_label_area_size(48)
            .y_label_area_size(84)
            .build_cartesian_2d(Ticked(x.clone()), Ticked(y.clone()))
            .map_err(|e| e.to_string())?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .label_style(TEXT)
            .axis_desc_style(TEXT)
            .x_desc(x.label)
            .y_desc(y.label)
            .draw()
            .map_err(|e| e.to_string())?;
        let area = picture.area.iter().map(|(x, _, high)| (*x, *high));
        let back = picture.area.iter().rev().map(|(x, low, _)| (*x, *low));
        let outline: Vec<(f64, f64)> = area.chain(back).collect();
        if !outline.is_empty() {
            let area = std::iter::once(Polygon::new(outline, AREA.filled()));
            chart.draw_series(area).map_err(|e| e.to_string())?;
        }
        let bars = picture
            .bars
            .iter()
            .map(|(from, to, height)| Rectangle::new([(*from, 0.0), (*to, *height)], LINE.mix(0.8).filled()));
        chart.draw_series(bars).map_err(|e| e.to_string())?;
        for piece in &picture.pieces {
            match piece.as_slice() {
                [alone] => chart.draw_series([Circle::new(*alone, 2, LINE.filled())]),
                points => chart.draw_series([PathElement::new(points.to_vec(), LINE.stroke_width(1))]),
            }
            .map_err(|e| e.to_string())?;
        }
        root.present().map_err(|e| e.to_string())?;
    }
    Ok(text)
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
