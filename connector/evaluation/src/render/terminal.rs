//! A report as plain text.

use std::collections::BTreeMap;

use super::{harmless_line, number, percent, percent_between, table::Table};
use crate::{figures::Figures, judge::GARBLED_NOTE, proxies::NOTE, report::Report};

/// The report as plain text of at most about 120 columns; holds no text of questions and
/// answers.
pub fn terminal(report: &Report) -> String {
    let [summary, kinds, upstream, proxies] = tables(report);
    format!(
        "{} on {}: {} answers in {:.1} s ({:.1} a second)\nrevision {}\n\n{}\n{GARBLED_NOTE}\n\nby kind\n{}\nby upstream model\n{}\n{NOTE}\n{}",
        harmless_line(&report.aligner.name),
        harmless_line(&report.data),
        report.all.answers,
        report.seconds,
        report.answers_per_second,
        harmless_line(&report.aligner.revision),
        summary.text(),
        kinds.text(),
        upstream.text(),
        proxies.text(),
    )
}

/// Summary, by kind, by upstream model, proxies.
pub(super) fn tables(report: &Report) -> [Table; 4] {
    [
        summary(&report.all),
        groups("kind", &report.kinds, &report.all),
        groups("upstream model", &report.upstream_models, &report.all),
        proxies(report),
    ]
}

fn summary(all: &Figures) -> Table {
    let mut table = Table::new(["measure", "value (95 % interval)", "of"]);
    let mut share = |name: &str, share: crate::Share| {
        table.row(vec![
            name.to_owned(),
            percent_between(share),
            share.of.to_string(),
        ]);
    };
    share("clean answers returned byte-identical", all.clean.identical);
    share(
        "  decided to leave it (no text decoded)",
        all.clean.by_token,
    );
    share("  decoded as the same text", all.clean.by_copy);
    share("  bypassed", all.clean.by_bypass);
    share("clean answers that got a fault", all.clean.with_added_fault);
    share("corrections that match exactly", all.faulty.exact);
    share("faulty answers mended", all.faulty.mended);
    share("faulty answers with a fault left", all.faulty.fault_left);
    share(
        "faulty answers that got a fault",
        all.faulty.with_added_fault,
    );
    share("faulty answers returned as they were", all.faulty.untouched);
    share(
        "with personal data by its form, before",
        all.detected.before,
    );
    share("with personal data by its form, after", all.detected.after);
    share("answers returned garbled", all.garbled);
    share("answers bypassed", all.guarding.bypassed);
    share(
        "  faulty answers bypassed (guard's cost)",
        all.guarding.faulty_bypassed,
    );
    share(
        "  garbled outputs let through (guard's misses)",
        all.guarding.misses,
    );
    for (name, parts) in [
        ("planted faults left", all.faulty.faults_left),
        ("sentences kept that should stay", all.faulty.sentences_kept),
        ("words from nowhere in rewritten answers", all.novel_words),
    ] {
        let value = percent(parts.value());
        table.row(vec![name.to_owned(), value, parts.of.to_string()]);
    }
    let mut value = |name: String, value: String| table.row(vec![name, value, String::new()]);
    for (reason, count) in &all.decisions.bypassed {
        value(format!("bypassed: {reason}"), count.to_string());
    }
    for (reason, count) in &all.decisions.failed {
        value(format!("failed: {reason}"), count.to_string());
    }
    let speed = &all.speed;
    for (name, measured, decimals) in [
        (
            "edit similarity of corrections",
            all.faulty.edit_similarity,
            3,
        ),
        ("copy ratio of rewritten answers", all.copy_ratio, 3),
        ("length ratio of rewritten answers", all.length_ratio, 3),
        ("prompt tokens", speed.prompt_tokens, 1),
        ("correction tokens", speed.correction_tokens, 1),
        ("seconds of inference, mean", speed.inference_seconds, 4),
        (
            "seconds of inference, median",
            speed.inference_seconds_p50,
            4,
        ),
        (
            "seconds of inference, 95th percentile",
            speed.inference_seconds_p95,
            4,
        ),
        (
            "seconds of waiting for a batch, mean",
            speed.queued_seconds,
            4,
        ),
    ] {
        value(name.to_owned(), number(measured, decimals));
    }
    table
}

fn groups(name: &str, groups: &BTreeMap<String, Figures>, all: &Figures) -> Table {
    let mut table = Table::new([
        name,
        "answers",
        "identical",
        "exact",
        "similarity",
        "mended",
        "faults left",
        "garbled",
        "bypassed",
        "tokens",
        "seconds",
    ]);
    let every = ("all".to_owned(), all.clone());
    for (group, figures) in groups.iter().chain([(&every.0, &every.1)]) {
        table.row(vec![
            group.clone(),
            figures.answers.to_string(),
            percent(figures.clean.identical.value()),
            percent(figures.faulty.exact.value()),
            number(figures.faulty.edit_similarity, 3),
            percent(figures.faulty.mended.value()),
            percent(figures.faulty.faults_left.value()),
            percent(figures.garbled.value()),
            percent(figures.guarding.bypassed.value()),
            number(figures.speed.correction_tokens, 1),
            number(figures.speed.inference_seconds, 4),
        ]);
    }
    table
}

fn proxies(report: &Report) -> Table {
    let mut table = Table::new([
        "answers without a known fault",
        "of",
        "helpful before",
        "after",
        "harmless before",
        "after",
        "honest before",
        "after",
    ]);
    let upstream = report
        .upstream_models
        .iter()
        .map(|(name, figures)| (format!("upstream {name}"), figures));
    let kinds = report
        .kinds
        .iter()
        .map(|(name, figures)| (format!("kind {name}"), figures));
    for (name, figures) in upstream
        .chain(kinds)
        .chain([("all".to_owned(), &report.all)])
    {
        let proxies = &figures.proxies;
        // Those of which somebody said what is right, in words that tell a dimension.
        let mut row = vec![name, proxies.harmless.before.of.to_string()];
        for dimension in [proxies.helpful, proxies.harmless, proxies.honest] {
            row.push(percent(dimension.before.value()));
            row.push(percent(dimension.after.value()));
        }
        table.row(row);
    }
    table
}
