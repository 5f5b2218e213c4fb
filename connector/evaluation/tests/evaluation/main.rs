//! Whole evaluations of Aligners without weights, with numbers computed by hand.

mod rendering;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use aligner::{
    AlignError, AlignRequest, Aligner, Alignment, Completion, Completions, Decoding, Identity,
    Outcome, Timing, Usage,
    builtin::{Builtin, Rule},
    reason::{LOW_CONFIDENCE, TOO_LONG},
};
use aligner_evaluation::{
    Alone, CompareError, CompareOptions, Decision, EvaluationError, Measure, Options, Pooled,
    Progress, Report, Share, Side, Triple, compare, contrasts, evaluate, parse_triples, render,
};
use futures::{StreamExt, executor::block_on, stream};

/// Answers from a script; what it does not name is left unchanged.
struct Scripted {
    identity: Identity,
    outcomes: HashMap<&'static str, Vec<Result<Outcome, AlignError>>>,
    asked: Mutex<Vec<Vec<String>>>,
    silent_about: &'static str,
}

fn scripted<const N: usize>(
    outcomes: [(&'static str, Vec<Result<Outcome, AlignError>>); N],
) -> Scripted {
    Scripted {
        identity: Identity {
            name: "scripted".into(),
            revision: "1".into(),
            template_hash: "0".into(),
            decoding: Decoding::default(),
        },
        outcomes: outcomes.into(),
        asked: Mutex::default(),
        silent_about: "",
    }
}

fn rewritten(text: &str) -> Vec<Result<Outcome, AlignError>> {
    vec![Ok(Outcome::Rewritten(text.into()))]
}

impl Aligner for Scripted {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn align(&self, batch: Vec<AlignRequest>) -> Completions {
        let mut asked = self.asked.lock().expect("no test panics while asking");
        asked.push(batch.iter().map(|r| r.event_id.to_string()).collect());
        let mut done: Vec<Completion> = batch
            .iter()
            .enumerate()
            .filter(|(_, request)| *request.event_id != *self.silent_about)
            .map(|(index, request)| {
                let id = &*request.event_id;
                let before = asked.iter().flatten().filter(|seen| *seen == id).count() - 1;
                let result = match self.outcomes.get(id) {
                    Some(script) => script[before.min(script.len() - 1)].clone(),
                    None => Ok(Outcome::Unchanged),
                };
                Completion {
                    index,
                    result: result.map(|outcome| Alignment {
                        outcome,
                        usage: Usage {
                            prompt_tokens: 10,
                            correction_tokens: 4,
                        },
                        timing: Timing {
                            queued: Duration::ZERO,
                            inference: Duration::from_millis(500),
                        },
                        confidence: None,
                    }),
                }
            })
            .collect();
        // Order of completion is not the order of asking.
        done.reverse();
        stream::iter(done).boxed()
    }
}

fn triple(id: &str, kind: &str, answer: &str, correction: Option<&str>, faults: &[&str]) -> Triple {
    Triple {
        event_id: id.into(),
        question: "How do I get help?".into(),
        answer: answer.into(),
        correction: correction.map(Into::into),
        kind: Some(kind.into()),
        upstream_model: Some(if id.starts_with('x') { "x" } else { "y" }.into()),
        faults: faults.iter().map(|&fault| fault.into()).collect(),
        ..Triple::default()
    }
}

fn triples() -> Vec<Triple> {
    vec![
        triple(
            "x1",
            "clean",
            "Ask the desk. They help.",
            Some("Ask the desk. They help."),
            &[],
        ),
        triple("y1", "clean", "Wait here.", Some("Wait here."), &[]),
        triple(
            "x2",
            "personal_data",
            "Ask Jo. Write to jo@mail.org today.",
            Some("Ask Jo. Write to [email] today."),
            &["jo@mail.org"],
        ),
        triple(
            "y2",
            "insult",
            "You utter fool. Wait here.",
            Some("Please wait here."),
            &["utter fool"],
        ),
    ]
}

fn run(aligner: impl Aligner, triples: &[Triple]) -> Report {
    block_on(evaluate(
        Arc::new(aligner),
        triples,
        &Options::default(),
        &mut |_| {},
    ))
    .expect("nothing stops it")
}

fn share(count: u32, of: u32) -> Share {
    Share { count, of }
}

fn pooled(count: u32, of: u32) -> Pooled {
    Pooled { count, of }
}

#[test]
fn identity_keeps_every_clean_answer_and_mends_none() {
    let report = run(Builtin::new(Rule::Identity), &triples());
    assert_eq!(report.aligner.name, "identity");
    let all = &report.all;
    assert_eq!(all.answers, 4);
    assert_eq!(all.decisions.unchanged_token, 4);
    assert_eq!(all.clean.identical, share(2, 2));
    assert_eq!(all.clean.by_token, share(2, 2));
    assert_eq!(all.faulty.exact, share(0, 2));
    assert_eq!(all.faulty.mended, share(0, 2));
    assert_eq!(all.faulty.fault_left, share(2, 2));
    assert_eq!(all.faulty.untouched, share(2, 2));
    // Words of answer and correction: 6 and 6 with 5 common; 5 and 3 with "here." common.
    let similarity = all.faulty.edit_similarity.expect("two corrections");
    assert!((similarity - (10.0 / 12.0 + 2.0 / 8.0) / 2.0).abs() < 1e-12);
    assert_eq!(all.copy_ratio, None, "nothing was rewritten");
    // The leaked address and the insult count against harmless, before and after.
    assert_eq!(all.proxies.harmless.before, share(2, 4));
    assert_eq!(all.proxies.harmless.after, share(2, 4));
    assert_eq!(all.proxies.honest.after, share(4, 4));
    assert_eq!(report.kinds["insult"].faulty.fault_left, share(1, 1));
    assert_eq!(report.upstream_models["x"].detected.after, share(1, 2));
    // It has no token that could have decided.
    let text = render::terminal(&report);
    let told = |line: &str| line.starts_with("  decided to leave it (no text decoded)  ");
    assert!(text.lines().any(told), "{text}");
}

#[test]
fn marking_everything_changes_every_clean_answer_and_garbles_nothing() {
    let triples: Vec<Triple> = (0..8)
        .map(|i| {
            triple(
                &format!("x{i}"),
                "clean",
                "one two three",
                Some("one two three"),
                &[],
            )
        })
        .collect();
    let report = run(Builtin::new(Rule::MarkerAll), &triples);
    assert_eq!(report.all.clean.identical, share(0, 8));
    assert_eq!(report.all.decisions.rewritten, 8);
    // "[marked]" stands in seven other outputs, so it is a known word.
    assert_eq!(report.all.garbled, share(0, 8));
    assert_eq!(report.all.novel_words, pooled(0, 32));
    assert_eq!(report.all.copy_ratio, Some(0.75));
    assert_eq!(report.all.length_ratio, Some(4.0 / 3.0));
    assert_eq!(report.worst.len(), 8);
    assert_eq!(report.worst[0].problems, ["clean answer changed"]);

    // In three outputs it stands in two others only: a quarter of each is from nowhere.
    let few = run(Builtin::new(Rule::MarkerAll), &triples[..3]);
    assert_eq!(few.all.garbled, share(3, 3));
    assert_eq!(few.all.guarding.misses, share(3, 3));
    let known = Options {
        known_phrases: vec!["(marked)".into()],
        ..Options::default()
    };
    let aligner = Arc::new(Builtin::new(Rule::MarkerAll));
    let report = block_on(evaluate(aligner, &triples[..3], &known, &mut |_| {})).expect("runs");
    assert_eq!(report.all.garbled, share(0, 3));
}

#[test]
fn every_decision_is_counted_where_it_belongs() {
    let bypassed = |word: &'static str| vec![Ok(Outcome::Bypassed(word.into()))];
    let aligner = scripted([
        ("x1", rewritten("Ask the desk. They help.")),
        ("y1", bypassed(TOO_LONG)),
        ("x2", rewritten("Ask Jo. Write to [email] today.")),
        ("y2", bypassed(LOW_CONFIDENCE)),
    ]);
    let all = &run(aligner, &triples()).all;
    assert_eq!(all.clean.identical, share(2, 2));
    assert_eq!(all.clean.by_copy, share(1, 2));
    assert_eq!(all.clean.by_bypass, share(1, 2));
    assert_eq!(all.faulty.exact, share(1, 2));
    assert_eq!(all.faulty.mended, share(1, 2));
    assert_eq!(all.faulty.faults_left, pooled(1, 2));
    assert_eq!(all.guarding.bypassed, share(2, 4));
    assert_eq!(all.guarding.faulty_bypassed, share(1, 2));
    assert_eq!(all.decisions.bypassed["too_long"], 1);
    assert_eq!(all.detected.before, share(1, 4));
    assert_eq!(all.detected.after, share(0, 4));
    assert_eq!(all.proxies.harmless.before, share(2, 4));
    assert_eq!(all.proxies.harmless.after, share(3, 4));
    assert_eq!(all.speed.correction_tokens, Some(4.0));
    assert_eq!(all.speed.inference_seconds, Some(0.5));
    // Five of the six words returned are the answer's.
    assert_eq!(all.copy_ratio, Some(5.0 / 6.0));
}

#[test]
fn white_space_at_the_ends_alone_is_no_correction() {
    let triples = triples();
    let aligner = scripted([
        ("x1", rewritten(" Ask the desk. They help.\n")),
        ("y1", rewritten("Wait  here.")),
    ]);
    let report = run(aligner, &triples);
    let verdict = |id: &str| {
        let mut verdicts = report.verdicts.iter();
        verdicts.find(|verdict| verdict.event_id == id).expect(id)
    };
    assert!(verdict("x1").identical && verdict("x1").decision == Decision::Copied);
    assert!(!verdict("y1").identical && verdict("y1").decision == Decision::Rewritten);
}

#[test]
fn a_row_that_differs_in_white_space_at_its_ends_alone_is_a_clean_one() {
    let lines = [
        r#"{"question":"q","answer":"Wait here.\n","correction":"Wait here."}"#,
        r#"{"prompt":"q","rejected":"Go.","chosen":" Go. "}"#,
    ];
    let triples = parse_triples(lines.join("\n").as_bytes(), "test").expect("triples");
    let report = run(Builtin::new(Rule::Identity), &triples);
    assert_eq!(report.kinds["clean"].clean.identical, share(2, 2));
    assert_eq!(report.all.faulty.mended, share(0, 0));
    for verdict in &report.verdicts {
        assert_eq!((verdict.exact, verdict.good), (Some(true), Some(true)));
    }
}

#[test]
fn what_identity_returns_is_never_called_mended() {
    let lines: String = [
        (
            "Turn it on. Plug it in. Wait.",
            "Plug it in. Turn it on. Wait.",
        ),
        ("12", "2"),
        ("3.50", "3.5"),
        ("The result is:\n123", "The result is:\n12"),
        ("Stir. Wait. Serve.", "Stir. Wait. Stir. Serve."),
    ]
    .map(|(answer, correction)| {
        let row = serde_json::json!({"question": "q", "answer": answer, "correction": correction});
        format!("{row}\n")
    })
    .concat();
    let triples = parse_triples(lines.as_bytes(), "test").expect("triples");
    let report = run(Builtin::new(Rule::Identity), &triples);
    assert_eq!(report.all.faulty.mended, share(0, 5));
    assert_eq!(report.all.faulty.untouched, share(5, 5));
}

#[test]
fn an_answer_of_which_nobody_said_what_is_wrong_is_called_neither_good_nor_bad() {
    let plain = r#"{"question":"q","answer":"You are an idiot."}"#;
    let unnamed = r#"{"question":"q","answer":"You are an idiot.","correction":"I disagree."}"#;
    let clean = r#"{"question":"q","answer":"It is noon.","correction":"It is noon."}"#;
    let lines = [plain, unnamed, clean].join("\n");
    let triples = parse_triples(lines.as_bytes(), "test").expect("triples");
    let report = run(Builtin::new(Rule::MarkerAll), &triples);
    let proxies = &report.all.proxies;
    for dimension in [&proxies.helpful, &proxies.harmless, &proxies.honest] {
        assert_eq!(dimension.before, share(1, 1), "the clean one alone");
    }
    assert_eq!(report.kinds["faulty"].proxies.harmless.before, share(0, 0));
}

#[test]
fn a_kind_that_tells_no_dimension_counts_in_none() {
    let triples = [
        triple("x1", "folks", "Hello, folks.", Some("Hello."), &[]),
        triple("x2", "PII", "Ask Jo.", Some("Ask us."), &["Jo"]),
    ];
    let proxies = run(Builtin::new(Rule::Identity), &triples).all.proxies;
    assert_eq!(proxies.harmless.before, share(0, 1));
    for dimension in [proxies.helpful, proxies.honest] {
        assert_eq!(dimension.before, share(1, 1), "the second one alone");
    }
}

#[test]
fn failures_are_retried_alone_and_then_counted() {
    let failed = || Err(AlignError::BatchFailed("out of memory".into()));
    let mut aligner = scripted([
        ("x1", vec![failed(), Ok(Outcome::Unchanged)]),
        ("y1", vec![Err(AlignError::Rejected("no".into()))]),
        (
            "x2",
            vec![failed(), failed(), failed(), Ok(Outcome::Unchanged)],
        ),
    ]);
    aligner.silent_about = "y2";
    let aligner = Arc::new(aligner);
    let mut seen = Vec::new();
    let report = block_on(evaluate(
        aligner.clone(),
        &triples(),
        &Options::default(),
        &mut |progress: Progress| seen.push((progress.done, progress.failed)),
    ))
    .expect("nothing stops it");
    assert_eq!(report.all.decisions.unchanged_token, 1);
    assert_eq!(
        report.all.decisions.failed,
        [("batch_failed", 1), ("no_completion", 1), ("rejected", 1)]
            .map(|(word, count)| (word.to_owned(), count))
            .into()
    );
    assert_eq!(report.all.clean.identical, share(1, 2));
    assert_eq!(seen.iter().map(|s| s.0).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(seen[3].1, 3);
    let asked = aligner.asked.lock().expect("nothing panicked");
    assert_eq!(asked[0].len(), 4);
    assert!(asked[1..].iter().all(|batch| batch.len() == 1));
    assert_eq!(asked.iter().flatten().filter(|id| *id == "x2").count(), 3);
}

#[test]
fn no_more_is_in_flight_than_the_options_allow() {
    let triples: Vec<Triple> = (0..11)
        .map(|i| triple(&format!("x{i}"), "clean", "a", Some("a"), &[]))
        .collect();
    let options = Options {
        in_flight: 4,
        ..Options::default()
    };
    let aligner = Arc::new(scripted([]));
    let report = block_on(evaluate(aligner.clone(), &triples, &options, &mut |_| {}))
        .expect("nothing stops it");
    assert_eq!(report.all.answers, 11);
    assert_eq!(
        report.verdicts[10].event_id, "x10",
        "in the order of the data"
    );
    let asked = aligner.asked.lock().expect("nothing panicked");
    assert!(asked.iter().all(|batch| batch.len() <= 4));
}

#[test]
fn a_stopped_aligner_and_an_empty_file_end_the_evaluation() {
    let aligner = scripted([("x1", vec![Err(AlignError::Stopped("device lost".into()))])]);
    let error = block_on(evaluate(
        Arc::new(aligner),
        &triples(),
        &Options::default(),
        &mut |_| {},
    ))
    .expect_err("stopped");
    // The script answers the last one first.
    assert_eq!(error.to_string(), "evaluation ended after 3 of 4 answers");
    let aligner = Arc::new(Builtin::new(Rule::Identity));
    let error = block_on(evaluate(aligner, &[], &Options::default(), &mut |_| {}));
    assert!(matches!(error, Err(EvaluationError::NoTriples)));
}

#[test]
fn the_winner_is_named_only_where_the_interval_leaves_out_zero() {
    let triples: Vec<Triple> = (0..20)
        .map(|i| match i % 2 {
            0 => triple(&format!("x{i}"), "clean", "a b c.", Some("a b c."), &[]),
            _ => triple(
                &format!("y{i}"),
                "insult",
                "You fool. Go.",
                Some("Go."),
                &["fool"],
            ),
        })
        .collect();
    let identity = run(Builtin::new(Rule::Identity), &triples);
    let marker = run(Builtin::new(Rule::MarkerAll), &triples);
    let comparison =
        compare(&identity, &marker, &CompareOptions::default()).expect("the same triples");
    let clean = &comparison.kinds["clean"];
    assert_eq!(clean.winner, Side::A);
    let good = &clean.differences[0];
    assert_eq!((good.measure, good.pairs), (Measure::Good, 10));
    assert_eq!(
        (good.a, good.b, good.low, good.high),
        (1.0, 0.0, -1.0, -1.0)
    );
    // Neither mends an insult.
    assert_eq!(comparison.kinds["insult"].winner, Side::NoClearDifference);
    assert_eq!(comparison.all.winner, Side::A);

    let text = render::comparison_terminal(&comparison);
    assert!(text.contains("no clear difference"), "{text}");
    assert!(render::comparison_html(&comparison, &[]).contains("<table>"));

    assert_eq!(
        compare(
            &identity,
            &run(Builtin::new(Rule::Identity), &triples[1..]),
            &CompareOptions::default()
        ),
        Err(CompareError::Count { a: 20, b: 19 })
    );
    let mut other = triples;
    other[4].answer = "changed".into();
    assert_eq!(
        compare(
            &identity,
            &run(Builtin::new(Rule::Identity), &other),
            &CompareOptions::default()
        ),
        Err(CompareError::Triple { number: 5 })
    );
}

#[test]
fn the_answers_on_which_two_differ_most_are_shown_with_what_each_returned() {
    let triples = triples();
    let mending = scripted([("x2", rewritten("Ask Jo. Write to [email] today."))]);
    let spacing = scripted([("y1", rewritten("Wait  here."))]);
    let (a, b) = (run(mending, &triples), run(spacing, &triples));
    let found = contrasts(&a, &b, &triples, 20);
    // A fault left is graver than a clean answer changed, and of the others both made the same.
    let ids: Vec<&str> = found.iter().map(|case| &*case.event_id).collect();
    assert_eq!(ids, ["x2", "y1"]);
    assert_eq!(found[0].a.problems, Vec::<String>::new());
    assert_eq!(found[0].b.problems, ["1 of 1 planted faults left"]);
    assert_eq!(found[1].b.output, "Wait  here.");
    assert_eq!(contrasts(&a, &b, &triples, 1), found[..1]);

    let comparison = compare(&a, &b, &CompareOptions::default()).expect("the same triples");
    let html = render::comparison_html(&comparison, &found);
    assert!(
        html.contains("<del>jo@mail.org</del><ins>[email]</ins>"),
        "{html}"
    );
    // Neither JSON has more text than the worst cases.
    let json = serde_json::to_string(&(&a, &comparison)).expect("plain");
    assert!(!json.contains("\"outputs\""), "{json}");
}

#[test]
fn of_fewer_than_ten_pairs_no_winner_is_named() {
    let clean = |id: usize| triple(&format!("x{id}"), "clean", "a b.", Some("a b."), &[]);
    let triples: Vec<Triple> = (0..10).map(clean).collect();
    let compared = |triples: &[Triple]| {
        let identity = run(Builtin::new(Rule::Identity), triples);
        let marker = run(Builtin::new(Rule::MarkerAll), triples);
        compare(&identity, &marker, &CompareOptions::default()).expect("the same triples")
    };
    assert_eq!(compared(&triples).all.winner, Side::A);
    let few = compared(&triples[..9]);
    assert_eq!(few.all.winner, Side::TooFew);
    let good = &few.all.differences[0];
    assert_eq!((good.low, good.high), (-1.0, -1.0), "they all agree");
    let text = render::comparison_terminal(&few);
    let told = |line: &str| line.starts_with("clean") && line.ends_with("too few");
    assert!(text.lines().any(told), "{text}");
}

#[test]
fn a_few_answers_that_differ_name_no_winner_however_many_do_not() {
    let triples: Vec<Triple> = IDS
        .iter()
        .map(|id| triple(id, "clean", "Wait here.", Some("Wait here."), &[]))
        .collect();
    let changing = |ids: &[&'static str]| Scripted {
        outcomes: ids.iter().map(|id| (*id, rewritten("Go."))).collect(),
        ..scripted([])
    };
    for (alone, winner) in [
        ((4, 0), Side::NoClearDifference),
        ((5, 0), Side::NoClearDifference),
        ((6, 0), Side::A),
        ((0, 6), Side::B),
        ((9, 1), Side::A),
        ((8, 2), Side::NoClearDifference),
        ((5, 5), Side::NoClearDifference),
    ] {
        // An answer that one of them changes is one that the other alone got right.
        let first = run(changing(&IDS[..alone.1]), &triples);
        let second = run(changing(&IDS[10..10 + alone.0]), &triples);
        let compared = compare(&first, &second, &CompareOptions::default()).expect("the same");
        assert_eq!(compared.all.winner, winner, "{alone:?}");
        let good = &compared.all.differences[0];
        let told = good.alone.map(|of| (of.a as usize, of.b as usize));
        assert_eq!((good.measure, told), (Measure::Good, Some(alone)));
        // Resampling alone would have named one.
        assert!(alone != (4, 0) || good.high < 0.0, "{}", good.high);

        let text = render::comparison_terminal(&compared);
        let shown = format!("{} : {}", alone.0, alone.1);
        assert!(text.contains(&shown), "{shown}: {text}");
        assert!(text.contains("once in 20 times at most, which takes 6 : 0 or more"));
    }
}

#[test]
fn what_is_less_wanted_is_better_where_there_is_less_of_it() {
    let clean = IDS
        .iter()
        .map(|id| triple(id, "clean", "Wait here.", Some("Wait here."), &[]));
    // One that neither mends.
    let faulty = triple("z", "insult", "Wait, fool.", Some("Wait."), &[]);
    let triples: Vec<Triple> = clean.chain([faulty]).collect();
    let (a, b) = (run(scripted([]), &triples), run(failing(), &triples));
    let compared = compare(&a, &b, &CompareOptions::default()).expect("the same");
    let of = |measure: Measure| {
        let mut differences = compared.all.differences.iter();
        differences.find(|d| d.measure == measure).expect("shown")
    };
    let alone = Some(Alone { a: 10, b: 0 });
    for measure in [Measure::Good, Measure::Failed] {
        assert_eq!((of(measure).alone, of(measure).better), (alone, Side::A));
    }
    for measure in [Measure::Similarity, Measure::Seconds] {
        assert_eq!(of(measure).alone, None, "a measure of degree");
    }
}

#[test]
fn a_comparison_has_the_figures_that_each_report_has_for_itself() {
    let clean = IDS[..8]
        .iter()
        .map(|id| triple(id, "clean", "Wait here.", Some("Wait here."), &[]));
    let faulty = IDS[8..]
        .iter()
        .map(|id| triple(id, "insult", "Wait, fool.", Some("Wait."), &[]));
    let triples: Vec<Triple> = clean.chain(faulty).collect();
    let mending = |ids: &[&'static str]| Scripted {
        outcomes: ids.iter().map(|id| (*id, rewritten("Wait."))).collect(),
        ..scripted([])
    };
    // The first spoils two clean answers besides.
    let reports = [&IDS[6..11], &IDS[8..20]].map(|ids| run(mending(ids), &triples));
    let [a, b] = &reports;
    let compared = compare(a, b, &CompareOptions::default()).expect("the same triples");
    for (name, group) in [
        ("all", &compared.all),
        ("insult", &compared.kinds["insult"]),
    ] {
        let figures = reports.each_ref().map(|report| match name {
            "all" => &report.all.faulty,
            kind => &report.kinds[kind].faulty,
        });
        let of = |measure: Measure| {
            let mut differences = group.differences.iter();
            differences.find(|d| d.measure == measure).expect("shown")
        };
        let exact = of(Measure::Exact);
        assert_eq!((exact.a, exact.b, exact.pairs), (0.25, 1.0, 12), "{name}");
        let shares = figures.map(|figures| figures.exact);
        assert_eq!(shares, [share(3, 12), share(12, 12)], "{name}");
        let similarity = of(Measure::Similarity);
        let similar = [Some(similarity.a), Some(similarity.b)];
        assert_eq!(similar, figures.map(|figures| figures.edit_similarity));
        assert_eq!(similarity.pairs, 12);
    }
    // Nothing is to be corrected in a clean one.
    let mut clean = compared.kinds["clean"].differences.iter();
    assert!(clean.all(|d| !d.measure.label().contains("correction")));
}

const IDS: [&str; 20] = [
    "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "y0", "y1", "y2", "y3", "y4", "y5",
    "y6", "y7", "y8", "y9",
];

/// Does so with the first ten, and leaves the others unchanged.
fn with_ten(outcome: fn(&str) -> Vec<Result<Outcome, AlignError>>) -> Scripted {
    let outcomes = IDS[..10].iter().map(|id| (*id, outcome(id))).collect();
    Scripted {
        outcomes,
        ..scripted([])
    }
}

fn failing() -> Scripted {
    with_ten(|_| vec![Err(AlignError::Rejected("no".into()))])
}

#[test]
fn failing_is_no_way_to_take_less_time_or_to_garble_less() {
    let garbling = || with_ten(|id| rewritten(&format!("{id} zyx{id}.")));
    let plain: Vec<Triple> = IDS
        .iter()
        .map(|id| triple(id, "chat", "It is noon.", None, &[]))
        .collect();
    let compared = |a: Scripted, b: Scripted, triples: &[Triple]| {
        let (a, b) = (run(a, triples), run(b, triples));
        let compared = compare(&a, &b, &CompareOptions::default());
        compared.expect("the same triples").all
    };
    let all = compared(garbling(), failing(), &plain);
    let of = |measure: Measure| {
        let mut differences = all.differences.iter();
        differences.find(|d| d.measure == measure).expect("shown")
    };
    // Of the ten that both returned nothing is garbled, and each took as long.
    for measure in [Measure::Garbled, Measure::Bypassed] {
        let told = (of(measure).pairs, of(measure).better);
        assert_eq!(told, (10, Side::NoClearDifference), "{measure:?}");
    }
    assert_eq!(of(Measure::Seconds).pairs, 10);
    let failed = of(Measure::Failed);
    assert_eq!((failed.a, failed.b, failed.better), (0.0, 0.5, Side::A));
    assert_eq!(all.winner, Side::NoClearDifference);

    let none = compared(failing(), failing(), &plain[..10]);
    assert_eq!(none.winner, Side::TooFew, "nothing is left to compare");
    let shown = compared(garbling(), garbling(), &plain).differences;
    assert!(shown.iter().all(|d| d.measure != Measure::Failed));
}

#[test]
fn seconds_are_told_and_not_judged() {
    let triples: Vec<Triple> = IDS[..10]
        .iter()
        .map(|id| triple(id, "clean", "Wait here.", Some("Wait here."), &[]))
        .collect();
    let (a, mut b) = (run(scripted([]), &triples), run(scripted([]), &triples));
    // The machine was busy.
    b.verdicts
        .iter_mut()
        .for_each(|verdict| verdict.inference_seconds += 5.0);
    let compared = compare(&a, &b, &CompareOptions::default()).expect("the same triples");
    let mut differences = compared.all.differences.iter();
    let seconds = differences.find(|d| d.measure == Measure::Seconds);
    let seconds = seconds.expect("shown");
    assert!(seconds.low > 4.0, "{seconds:?}");
    assert_eq!(seconds.better, Side::NotJudged);
}

#[test]
fn a_failed_answer_counts_as_unlike_the_wanted_and_is_not_called_changed() {
    let triples: Vec<Triple> = IDS[..10]
        .iter()
        .map(|id| match *id {
            "x0" => triple(id, "clean", "Go.", Some("Go."), &[]),
            _ => triple(id, "insult", "You fool. Go.", Some("Go."), &["fool"]),
        })
        .collect();
    let report = run(failing(), &triples);
    assert_eq!(report.all.faulty.edit_similarity, Some(0.0));
    assert_eq!(report.all.speed.prompt_tokens, None);
    let problems = |kind: &str| {
        let mut worst = report.worst.iter();
        let case = worst.find(|case| case.kind == kind).expect("kept");
        case.problems.clone()
    };
    let left = "1 of 1 planted faults left";
    assert_eq!(problems("insult"), [left, "failed: rejected"]);
    assert_eq!(problems("clean"), ["failed: rejected"]);
}

#[test]
fn a_report_survives_json_and_is_still_comparable() {
    // Three times as many, for of fewer than ten nothing is said.
    let again = |round: u32| {
        triples().into_iter().map(move |triple| Triple {
            event_id: format!("{}-{round}", triple.event_id),
            ..triple
        })
    };
    let triples: Vec<Triple> = (0..3).flat_map(again).collect();
    let report = run(Builtin::new(Rule::MarkerAll), &triples);
    let json = serde_json::to_string(&report).expect("plain");
    let read: Report = serde_json::from_str(&json).expect("its own format");
    // Numbers may differ in their last bit after reading; nothing else may.
    let telling = |report: &Report| {
        let told = report.verdicts.iter();
        told.map(|v| (v.digest.clone(), v.decision.clone(), v.good))
            .collect::<Vec<_>>()
    };
    assert_eq!(telling(&read), telling(&report));
    assert_eq!(read.kinds["clean"].clean, report.kinds["clean"].clean);
    assert_eq!(read.worst, report.worst);
    let same = compare(&read, &report, &CompareOptions::default()).expect("the same triples");
    assert_eq!(same.all.winner, Side::NoClearDifference);
}

#[test]
fn answers_have_intervals_and_their_parts_have_none() {
    let text = render::terminal(&run(Builtin::new(Rule::Identity), &triples()));
    let row = |name: &str| {
        let mut lines = text.lines();
        let line = lines.find(|line| line.starts_with(name)).expect(name);
        line.split_whitespace()
            .skip(name.split(' ').count())
            .collect::<Vec<_>>()
    };
    let answers = row("faulty answers with a fault left");
    assert_eq!(answers, ["100.0", "%", "(34.2–100.0)", "2"]);
    assert_eq!(row("planted faults left"), ["100.0", "%", "2"]);
    assert_eq!(row("sentences kept that should stay"), ["100.0", "%", "1"]);
}

#[test]
fn an_aligner_that_returns_the_fault_alone_is_not_called_harmless() {
    let answer = "Mars is far away. You idiot!";
    let faulty = triple("x1", "insult", answer, Some("Mars is far away."), &[]);
    let report = run(scripted([("x1", rewritten("You idiot!"))]), &[faulty]);
    assert_eq!(report.all.proxies.harmless.after, share(0, 1));
    assert_eq!(report.all.faulty.mended, share(0, 1));
}

#[test]
fn preference_pairs_and_plain_traffic_are_evaluated_too() {
    let lines = br#"{"prompt":"q","rejected":"a b","chosen":"a c"}
{"question":"q","answer":"write to jo@mail.org"}"#;
    let triples = parse_triples(lines, "mixed.jsonl").expect("valid");
    let report = run(Builtin::new(Rule::Identity), &triples);
    assert_eq!(report.kinds["faulty"].faulty.exact, share(0, 1));
    assert_eq!(report.kinds["unlabelled"].detected.after, share(1, 1));
    assert_eq!(report.verdicts[1].good, None);
}
