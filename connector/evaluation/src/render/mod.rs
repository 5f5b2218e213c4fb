//! Reports and comparisons for people: plain text for a terminal, and one HTML file that loads
//! nothing from anywhere.

mod comparison;
mod harmless;
mod html;
mod table;
mod terminal;

pub use comparison::{comparison_html, comparison_terminal};
pub use harmless::{harmless, harmless_line};
pub use html::html;
pub use terminal::terminal;

use crate::share::Share;

/// `97.3 %`, or a dash where there was nothing to count.
pub(crate) fn percent(value: Option<f64>) -> String {
    value.map_or_else(dash, |value| format!("{:.1} %", 100.0 * value))
}

/// `97.3 % (95.1–98.6)`: with its 95 % interval.
pub(crate) fn percent_between(share: Share) -> String {
    share.interval().map_or_else(dash, |(low, high)| {
        format!(
            "{} ({:.1}–{:.1})",
            percent(share.value()),
            100.0 * low,
            100.0 * high
        )
    })
}

pub(crate) fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(dash, |value| format!("{value:.decimals$}"))
}

fn dash() -> String {
    "–".to_owned()
}
