//! The training curve as one SVG file: both losses over the steps, on a logarithmic scale.

use std::fmt::Write as _;

use crate::history::{History, Point};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 36.0;
const BOTTOM: f64 = 44.0;
const TRAINING: &str = "#4c78a8";
const VALIDATION: &str = "#e45756";

/// Steps and losses to places on the picture.
struct Axes {
    last: f64,
    low: f64,
    high: f64,
}

impl Axes {
    fn of(history: &History) -> Self {
        let points = || history.training.iter().chain(&history.validation);
        let losses = || points().map(|p| p.loss).filter(|loss| *loss > 0.0);
        let low = losses().fold(f64::INFINITY, f64::min);
        let high = losses().fold(f64::NEG_INFINITY, f64::max);
        let (low, high) = if low < high {
            (low.log10().floor(), high.log10().ceil())
        } else {
            (-1.0, 1.0)
        };
        let last = points().map(|p| p.step).max().unwrap_or(1).max(1) as f64;
        Self {
            last,
            low,
            high: high.max(low + 1.0),
        }
    }

    fn x(&self, step: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * step / self.last
    }

    fn y(&self, log: f64) -> f64 {
        let share = (log - self.low) / (self.high - self.low);
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share.clamp(0.0, 1.0)
    }

    fn place(&self, point: &Point) -> (f64, f64) {
        let log = point.loss.max(f64::MIN_POSITIVE).log10();
        (self.x(point.step as f64), self.y(log))
    }
}

/// The curve; `title` is escaped.
pub(crate) fn svg(history: &History, title: &str) -> String {
    let axes = Axes::of(history);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"system-ui,sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{}</text>\n",
        escape(title)
    );
    grid(&mut svg, &axes);
    line(&mut svg, &axes, &history.training, TRAINING, 1.2);
    line(&mut svg, &axes, &history.validation, VALIDATION, 2.0);
    for point in &history.validation {
        let (x, y) = axes.place(point);
        put(
            &mut svg,
            format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{VALIDATION}\"/>\n"),
        );
    }
    for (at, name, colour) in [
        (0.0, "training loss", TRAINING),
        (120.0, "validation loss", VALIDATION),
    ] {
        let x = WIDTH - RIGHT - 240.0 + at;
        put(
            &mut svg,
            format_args!("<text x=\"{x}\" y=\"20\" fill=\"{colour}\">{name}</text>\n"),
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn grid(svg: &mut String, axes: &Axes) {
    let right = WIDTH - RIGHT;
    for decade in axes.low as i32..=axes.high as i32 {
        let y = axes.y(f64::from(decade));
        let label = 10f64.powi(decade);
        put(
            svg,
            format_args!(
                "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#ccc\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>\n",
                LEFT - 8.0,
                y + 4.0
            ),
        );
    }
    for part in 0..=4 {
        let step = (axes.last * f64::from(part) / 4.0).round();
        put(
            svg,
            format_args!(
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{step}</text>\n",
                axes.x(step),
                HEIGHT - BOTTOM + 20.0
            ),
        );
    }
    put(
        svg,
        format_args!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">steps</text>\n",
            f64::midpoint(LEFT, right),
            HEIGHT - 8.0
        ),
    );
}

fn line(svg: &mut String, axes: &Axes, points: &[Point], colour: &str, width: f64) {
    if points.is_empty() {
        return;
    }
    svg.push_str("<polyline fill=\"none\" points=\"");
    for point in points {
        let (x, y) = axes.place(point);
        put(svg, format_args!("{x:.1},{y:.1} "));
    }
    put(
        svg,
        format_args!("\" stroke=\"{colour}\" stroke-width=\"{width}\"/>\n"),
    );
}

fn put(svg: &mut String, text: std::fmt::Arguments<'_>) {
    svg.write_fmt(text)
        .expect("writing to a string cannot fail");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_lie_where_their_logarithm_says() {
        let mut history = History::default();
        history.trained(50, 10.0);
        history.trained(100, 0.1);
        history.validated(100, 1.0);
        let svg = svg(&history, "a < b");
        // From 64 to 844 across and from 376 up to 36: 10 is at the top, 1 in the middle.
        assert!(svg.contains("points=\"454.0,36.0 844.0,376.0 \""), "{svg}");
        assert!(svg.contains("<circle cx=\"844.0\" cy=\"206.0\""), "{svg}");
        assert!(svg.contains("a &lt; b"));
    }

    #[test]
    fn an_empty_history_is_still_a_picture() {
        assert!(svg(&History::default(), "t").ends_with("</svg>\n"));
    }
}
