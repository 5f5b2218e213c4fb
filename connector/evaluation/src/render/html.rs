//! A report as one HTML file: no script, no font, no image, nothing loaded from anywhere.

use similar::{ChangeTag, TextDiff};

use super::{
    table::{Table, escape},
    terminal::tables,
};
use crate::{
    judge::GARBLED_NOTE,
    proxies::NOTE,
    report::{Case, Report},
};

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--gone:#c22;--new:#162;--soft:#8881}\
@media(prefers-color-scheme:dark){:root{--gone:#f88;--new:#8d8}}\
body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.2rem}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums}\
th,td{padding:.2rem .7rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}\
th:first-child,td:first-child{text-align:left}\
.wide{overflow-x:auto}.note{opacity:.75}\
.known{border-left:4px solid var(--gone);padding:.2rem .8rem;background:var(--soft)}\
article{border:1px solid var(--line);border-radius:6px;padding:.4rem 1rem;margin:1rem 0}\
article p{white-space:pre-wrap;overflow-wrap:anywhere;background:var(--soft);padding:.5rem .7rem;margin:.3rem 0 .8rem}\
del{color:var(--gone)}ins{color:var(--new);text-decoration:underline}\
.problem{display:inline-block;border:1px solid var(--gone);border-radius:4px;padding:0 .4rem;margin-right:.4rem}";

/// The report as one self-contained HTML file. It shows the text of the report's worst cases.
pub fn html(report: &Report) -> String {
    let [summary, kinds, upstream, proxies] = tables(report);
    let section = |title: &str, table: &Table| format!("<h2>{title}</h2>\n{}", table.html());
    let cases: String = report.worst.iter().map(case).collect();
    let worst = if report.worst.is_empty() {
        "<p class=\"note\">None to show.</p>\n".to_owned()
    } else {
        cases
    };
    let body = format!(
        "<h1>{} on {}</h1>\n<p class=\"note\">{} answers in {:.1} s · revision {} · template {}</p>\n{}{}<p class=\"note\">{GARBLED_NOTE}</p>\n{}{}{}<p class=\"note\">{NOTE}</p>\n<h2>Worst cases</h2>\n{worst}",
        escape(&report.aligner.name),
        escape(&report.data),
        report.all.answers,
        report.seconds,
        escape(&report.aligner.revision),
        escape(&report.aligner.template_hash),
        noted(&report.notes),
        section("All answers", &summary),
        section("By kind", &kinds),
        section("By upstream model", &upstream),
        section("Helpful, harmless, honest", &proxies),
    );
    page(&format!("Evaluation of {}", report.aligner.name), &body)
}

/// What is to be known first.
pub(super) fn noted(notes: &[String]) -> String {
    let note = |note: &String| format!("<p class=\"known\">{}</p>\n", escape(note));
    notes.iter().map(note).collect()
}

/// A page around an already safe body.
pub(super) fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n<title>{}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n",
        escape(title)
    )
}

/// Each problem in a frame of its own.
pub(super) fn framed(problems: &[String]) -> String {
    problems
        .iter()
        .map(|problem| format!("<span class=\"problem\">{}</span>", escape(problem)))
        .collect()
}

/// What stands over a text, and the text, both safe already. The text has its own direction.
pub(super) fn passage(over: &str, text: &str) -> String {
    format!("{over}\n<p dir=\"auto\">{text}</p>\n")
}

fn case(case: &Case) -> String {
    let problems = framed(&case.problems);
    let wanted = match &case.correction {
        Some(wanted) if *wanted != case.output => passage(
            "What was returned, with what it lacks to what was wanted",
            &diff(&case.output, wanted),
        ),
        _ => String::new(),
    };
    let rejected = match &case.proposal {
        Some(proposal) => passage(
            "What the guard did not let through",
            &diff(&case.answer, proposal),
        ),
        None => String::new(),
    };
    let changed = diff(&case.answer, &case.output);
    format!(
        "<article>\n<h3>{} · {}</h3>\n{}{}{rejected}{wanted}</article>\n",
        escape(&case.event_id),
        escape(&case.kind),
        passage(&problems, &escape(&case.question)),
        passage("The answer, with what was changed", &changed),
    )
}

/// `old` with its words struck out and `new`'s words set in.
pub(super) fn diff(old: &str, new: &str) -> String {
    let diff = TextDiff::from_words(old, new);
    let mut parts: Vec<(ChangeTag, String)> = Vec::new();
    for change in diff.iter_all_changes() {
        let word = escape(change.value());
        match parts.last_mut() {
            // One change to whoever has the page read out.
            Some((tag, text)) if *tag == change.tag() => text.push_str(&word),
            _ => parts.push((change.tag(), word)),
        }
    }
    let marked = |(tag, text): (ChangeTag, String)| match tag {
        ChangeTag::Equal => text,
        ChangeTag::Delete => format!("<del>{text}</del>"),
        ChangeTag::Insert => format!("<ins>{text}</ins>"),
    };
    parts.into_iter().map(marked).collect()
}
