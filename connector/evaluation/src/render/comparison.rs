//! A comparison as plain text and as HTML.

use super::{
    harmless_line,
    html::{diff, framed, noted, page, passage},
    table::{Table, escape},
};
use crate::{
    compare::{Comparison, GroupComparison, MIN_PAIRS, Side},
    contrast::{Contrast, Returned},
    judge::GARBLED_NOTE,
    sign_test,
};

/// The comparison as plain text.
pub fn comparison_terminal(comparison: &Comparison) -> String {
    format!(
        "A: {} {}\nB: {} {}\non {}, intervals at {:.0} %\n\n{}\n{}\n{GARBLED_NOTE}\n",
        harmless_line(&comparison.a.name),
        harmless_line(&comparison.a.revision),
        harmless_line(&comparison.b.name),
        harmless_line(&comparison.b.revision),
        harmless_line(&comparison.data),
        100.0 * comparison.confidence,
        table(comparison).text(),
        legend(comparison.confidence),
    )
}

/// The comparison as one self-contained HTML file, with the text of the answers given with it.
pub fn comparison_html(comparison: &Comparison, contrasts: &[Contrast]) -> String {
    let contrasts: String = contrasts.iter().map(contrast).collect();
    let contrasts = if contrasts.is_empty() {
        "<p class=\"note\">None was kept on which they do.</p>\n".to_owned()
    } else {
        contrasts
    };
    let body = format!(
        "<h1>A: {} against B: {}</h1>\n<p class=\"note\">on {} · A {} · B {} · intervals at {:.0} %</p>\n{}{}<p class=\"note\">{}</p>\n<p class=\"note\">{GARBLED_NOTE}</p>\n<h2>Where the two differ most</h2>\n{contrasts}",
        escape(&comparison.a.name),
        escape(&comparison.b.name),
        escape(&comparison.data),
        escape(&comparison.a.revision),
        escape(&comparison.b.revision),
        100.0 * comparison.confidence,
        noted(&comparison.notes),
        table(comparison).html(),
        escape(&legend(comparison.confidence)),
    );
    page("Comparison of two Aligners", &body)
}

/// What both made of one answer, each as a diff to it, and what was wanted.
fn contrast(contrast: &Contrast) -> String {
    let returned = |name: &str, returned: &Returned| {
        passage(
            &format!(
                "{name}, with what it changed {}",
                framed(&returned.problems)
            ),
            &diff(&contrast.answer, &returned.output),
        )
    };
    let wanted = contrast
        .correction
        .as_ref()
        .map_or_else(String::new, |wanted| {
            passage("What was wanted", &diff(&contrast.answer, wanted))
        });
    format!(
        "<article>\n<h3>{} · {}</h3>\n<p dir=\"auto\">{}</p>\n{}{}{wanted}</article>\n",
        escape(&contrast.event_id),
        escape(&contrast.kind),
        escape(&contrast.question),
        returned("A", &contrast.a),
        returned("B", &contrast.b),
    )
}

/// Why a winner is named, and why none is.
fn legend(confidence: f64) -> String {
    format!(
        "alone: pairs that A alone got better : that B alone did. One is called better where the interval leaves out zero\n\
         and chance would share these pairs out so unevenly once in {:.0} times at most, which takes {} : 0 or more.\n\
         too few: of fewer than {MIN_PAIRS} pairs none is called better; not judged: what else the machine did is in all seconds",
        1.0 / (1.0 - confidence),
        sign_test::fewest(confidence),
    )
}

fn table(comparison: &Comparison) -> Table {
    let mut table = Table::new([
        "kind", "measure", "pairs", "A", "B", "B − A", "interval", "alone", "better", "winner",
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
            d.alone
                .map_or_else(String::new, |alone| format!("{} : {}", alone.a, alone.b)),
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
        Side::NotJudged => "not judged",
        Side::TooFew => "too few",
    }
}
