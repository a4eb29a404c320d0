//! A picture, and how it looks in a terminal.
#![forbid(unsafe_code)]

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::widgets::Paragraph;
use ratatui::widgets::canvas::{Canvas, Line};

use crate::axis::Axis;

/// Lines, areas and bars over two axes.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    /// What it shows.
    pub title: String,
    /// To the right; `None`: it fits the points, and says nothing.
    pub x: Option<Axis>,
    /// Upwards; `None`: it fits the points.
    pub y: Option<Axis>,
    /// What is drawn, one over the other.
    pub layers: Vec<Layer>,
}

/// What belongs together in a picture.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    /// What the legend calls it, where there are several.
    pub name: String,
    /// Lines through points.
    pub pieces: Vec<Vec<(f64, f64)>>,
    /// An area behind the lines: place, from, to.
    pub area: Vec<(f64, f64, f64)>,
    /// Bars on the x axis: from, to, height.
    pub bars: Vec<(f64, f64, f64)>,
}

/// Draws it with braille dots.
pub fn draw(frame: &mut Frame, area: Rect, picture: &Picture, style: Style) {
    let points = || picture.layers.iter().flat_map(|layer| &layer.pieces).flatten();
    let y = picture.y.clone().unwrap_or_else(|| {
        let (low, high) = ends(points().map(|p| p.1));
        Axis::of_values(String::new(), low, high, usize::from(area.height / 2).clamp(1, 10))
    });
    let (from, to) = match &picture.x {
        Some(x) => (x.from, x.to),
        None => ends(points().map(|p| p.0)),
    };
    let axis_rows = if picture.x.is_some() { 2 } else { 0 };
    let [title, middle, below] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(1), Constraint::Length(axis_rows)])
            .areas(area);
    let width = y.ticks.iter().map(|(_, text)| text.chars().count()).max().unwrap_or(0) as u16;
    let [labels, rule, canvas] =
        Layout::horizontal([Constraint::Length(width + 1), Constraint::Length(1), Constraint::Min(1)])
            .areas(middle);
    let dim = Style::new().add_modifier(Modifier::DIM);
    // It names what the numbers at the left mean: there is no room for it beside them.
    frame.render_widget(Paragraph::new(format!(" {}", picture.title)).style(dim), title);
    // The labels stand in the row in which their value lies.
    let mut rows = vec![(String::new(), "│"); middle.height.into()];
    for (value, text) in &y.ticks {
        let share = (y.to - value) / (y.to - y.from);
        let row = share * f64::from(middle.height.saturating_sub(1));
        if let Some(found) = rows.get_mut(row.round() as usize) {
            *found = (format!("{text:>width$}", width = usize::from(width)), "┤");
        }
    }
    let column = |texts: Vec<&str>| Paragraph::new(texts.join("\n"));
    frame.render_widget(column(rows.iter().map(|(text, _)| text.as_str()).collect()), labels);
    frame.render_widget(column(rows.iter().map(|(_, rule)| *rule).collect()), rule);
    let paint = Canvas::default().marker(Marker::Braille).x_bounds([from, to]).y_bounds([y.from, y.to]);
    let colour = style.fg.unwrap_or_default();
    frame.render_widget(
        paint.paint(|c| {
            let mut line = |x1, y1, x2, y2| c.draw(&Line { x1, y1, x2, y2, color: colour });
            for (x, low, high) in picture.layers.iter().flat_map(|layer| &layer.area) {
                line(*x, *low, *x, *high);
            }
            for (from, to, height) in picture.layers.iter().flat_map(|layer| &layer.bars) {
                let steps = 2 * usize::from(canvas.width);
                // Every column of dots within the bar.
                for i in 0..=steps {
                    line(
                        from + (to - from) * i as f64 / steps as f64,
                        y.from.max(0.0),
                        from + (to - from) * i as f64 / steps as f64,
                        *height,
                    );
                }
            }
            for piece in picture.layers.iter().flat_map(|layer| &layer.pieces) {
                for pair in piece.windows(2) {
                    if let [(x1, y1), (x2, y2)] = pair {
                        line(*x1, *y1, *x2, *y2);
                    }
                }
                if let [(x, y)] = piece.as_slice() {
                    line(*x, *y, *x, *y);
                }
            }
        }),
        canvas,
    );
    if let Some(x) = &picture.x {
        let inner = Rect { x: canvas.x, width: canvas.width, ..below };
        draw_x(frame, inner, x, dim);
    }
}

/// The ticks of the lower axis, each under its place as far as there is room, and what they mean.
fn draw_x(frame: &mut Frame, area: Rect, x: &Axis, dim: Style) {
    let mut row = String::new();
    for (value, text) in &x.ticks {
        let place = (value - x.from) / (x.to - x.from) * f64::from(area.width.saturating_sub(1));
        let begin = (place as usize).saturating_sub(text.chars().count() / 2);
        let begin = begin.min(usize::from(area.width).saturating_sub(text.chars().count()));
        let len = row.chars().count();
        if len == 0 || begin > len {
            row.extend(std::iter::repeat_n(' ', begin.saturating_sub(len)));
            row.push_str(text);
        }
    }
    let [ticks, label] = Layout::vertical([Constraint::Length(1), Constraint::Length(1)]).areas(area);
    frame.render_widget(Paragraph::new(row), ticks);
    frame.render_widget(Paragraph::new(x.label.as_str()).centered().style(dim), label);
}

/// The smallest and largest; 0 and 1 of nothing.
fn ends(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let none = (f64::INFINITY, f64::NEG_INFINITY);
    let (low, high) = values.fold(none, |(low, high), v| (low.min(v), high.max(v)));
    if low < high {
        (low, high)
    } else if low == high {
        (low, low + 1.0)
    } else {
        (0.0, 1.0)
    }
}
