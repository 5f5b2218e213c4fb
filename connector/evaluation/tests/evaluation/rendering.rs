//! What people see of a report: the table of a terminal, and the page.

use super::*;

#[test]
fn the_html_report_is_self_contained_and_escapes_text() {
    let hostile = vec![triple(
        "x<1>",
        "clean",
        "<script>alert('x')</script> & more",
        Some("<script>alert('x')</script> & more"),
        &[],
    )];
    let html = render::html(&run(Builtin::new(Rule::MarkerAll), &hostile));
    assert!(html.starts_with("<!doctype html>"));
    for absent in [
        "<script", "src=", "href=", "http:", "https:", "@import", "url(",
    ] {
        assert!(!html.contains(absent), "{absent}");
    }
    assert!(html.contains("&lt;script&gt;"));
    assert!(html.contains("<ins> [marked]</ins>"));
    assert!(html.contains("not human judgement"));
}

#[test]
fn a_page_begins_with_what_is_to_be_known_and_shows_what_a_person_is_to_judge() {
    let plain = |id, answer| triple(id, "", answer, None, &[]);
    let insult = triple("x3", "insult", "Go, fool.", Some("Go."), &["fool"]);
    let triples = [
        plain("x1", "It is noon."),
        plain("x2", "It is one."),
        insult,
    ];
    let rejected = Outcome::Rejected {
        bypass: LOW_CONFIDENCE.into(),
        proposal: "Go, friend.".into(),
    };
    let aligner = scripted([
        ("x1", rewritten("It is noon. It is.")),
        ("x3", vec![Ok(rejected)]),
    ]);
    let options = Options {
        notes: vec!["7 rows were skipped: <all> the others".into()],
        ..Options::default()
    };
    let report = block_on(evaluate(Arc::new(aligner), &triples, &options, &mut |_| {}));
    let report = report.expect("a report");
    let cases: Vec<_> = report.worst.iter().map(|case| &*case.event_id).collect();
    assert_eq!(cases, ["x3", "x1"], "the fault that is left first");
    assert_eq!(report.worst[1].problems, ["changed, and not labelled"]);
    let html = render::html(&report);
    let (head, tables) = html.split_once("<table>").expect("a table");
    assert!(head.contains("7 rows were skipped: &lt;all&gt; the others"));
    assert!(tables.contains("did not let through"));
    assert!(tables.contains("<ins>friend.</ins>"), "{tables}");
    let comparison = compare(&report, &report, &CompareOptions::default()).expect("the same");
    assert_eq!(comparison.notes, options.notes, "once");
    let html = render::comparison_html(&comparison, &[]);
    assert!(html.contains("7 rows were skipped"));
}

#[test]
fn what_a_terminal_or_a_page_obeys_is_shown_instead() {
    let name = "x\u{1b}[2J\u{202e}\nmine";
    let answer = "a \u{2066}b\u{9b}";
    let mut hostile = triple("x1", name, answer, Some(answer), &[]);
    hostile.upstream_model = Some(name.into());
    let hostile = [hostile];
    let report = run(Builtin::new(Rule::MarkerAll), &hostile);
    let other = run(Builtin::new(Rule::Identity), &hostile);
    let contrasts = contrasts(&report, &other, &hostile, 1);
    assert_eq!(contrasts.len(), 1);
    let text = render::terminal(&report);
    let row = |line: &str| line.starts_with("x\u{fffd}[2J\u{fffd} mine  ");
    assert_eq!(text.lines().filter(|line| row(line)).count(), 2, "{text}");
    let comparison = compare(&report, &report, &CompareOptions::default()).expect("the same");
    for shown in [
        text,
        render::html(&report),
        render::comparison_terminal(&comparison),
        render::comparison_html(&comparison, &contrasts),
    ] {
        let obeyed = ['\u{1b}', '\u{9b}', '\u{202e}', '\u{2066}'];
        assert!(!shown.contains(obeyed), "{shown:?}");
    }
}

#[test]
fn the_terminal_report_quotes_no_question_or_answer() {
    let text = render::terminal(&run(Builtin::new(Rule::Identity), &triples()));
    assert!(text.contains("personal_data"));
    assert!(
        text.contains("nor three other outputs"),
        "what garbled means"
    );
    assert!(text.contains("not human judgement"));
    for secret in ["jo@mail.org", "utter fool", "Wait here", "help?"] {
        assert!(!text.contains(secret), "{secret}");
    }
    assert!(
        text.lines().all(|line| line.chars().count() <= 130),
        "{text}"
    );
}
