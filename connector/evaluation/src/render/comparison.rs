//! A comparison as plain text and as HTML.

use super::{
    harmless_line,
    html::page,
    table::{Table, escape},
};
use crate::compare::{Comparison, GroupComparison, Side};

/// The comparison as plain text.
pub fn comparison_terminal(comparison: &Comparison) -> String {
    format!(
        "A: {} {}\nB: {} {}\non {}, intervals at {:.0} %\n\n{}",
        harmless_line(&comparison.a.name),
        harmless_line(&comparison.a.revision),
        harmless_line(&comparison.b.name),
        harmless_line(&comparison.b.revision),
        harmless_line(&comparison.data),
        100.0 * comparison.confidence,
        table(comparison).text()
    )
}

/// The comparison as one self-contained HTML file.
pub fn comparison_html(comparison: &Comparison) -> String {
    let body = format!(
        "<h1>A: {} against B: {}</h1>\n<p class=\"note\">on {} · A {} · B {} · intervals at {:.0} %</p>\n{}",
        escape(&comparison.a.name),
        escape(&comparison.b.name),
        escape(&comparison.data),
        escape(&comparison.a.revision),
        escape(&comparison.b.revision),
        100.0 * comparison.confidence,
        table(comparison).html()
    );
    page("Comparison of two Aligners", &body)
}

fn table(comparison: &Comparison) -> Table {
    let mut table = Table::new([
        "kind", "measure", "pairs", "A", "B", "B − A", "interval", "better", "winner",
    ]);
    let kinds = comparison
        .kinds
        .iter()
        .map(|(name, group)| (name.as_str(), group));
    for (name, group) in kinds.chain([("all", &comparison.all)]) {
        rows(&mut table, name, group);
    }
    table
}

fn rows(table: &mut Table, name: &str, group: &GroupComparison) {
    for (at, d) in group.differences.iter().enumerate() {
        table.row(vec![
            if at == 0 {
                name.to_owned()
            } else {
                String::new()
            },
            d.measure.label().to_owned(),
            d.pairs.to_string(),
            format!("{:.4}", d.a),
            format!("{:.4}", d.b),
            format!("{:+.4}", d.difference),
            format!("{:+.4} to {:+.4}", d.low, d.high),
            side(d.better).to_owned(),
            if at == 0 {
                side(group.winner).to_owned()
            } else {
                String::new()
            },
        ]);
    }
}

fn side(side: Side) -> &'static str {
    match side {
        Side::A => "A",
        Side::B => "B",
        Side::NoClearDifference => "no clear difference",
        Side::TooFew => "too few",
    }
}
