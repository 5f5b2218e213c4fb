//! The whole pipeline on a log in memory: what becomes of each kind of record.

use std::{collections::HashMap, sync::Arc, time::Duration};

use aligner::{
    AlignError, AlignRequest, Aligner, Alignment, Completion, Completions, Identity, Outcome,
    builtin::{Builtin, Rule},
    guard::Confidence,
    reason::Bypass,
};
use aligner_pipeline::{
    Header, JsonDecoder, JsonEncoder, OutputKind, Parts, Pipeline, PipelineError, Settings,
    Summary, VALUE_OMITTED_HEADER,
    memory::{Delivered, Faults, MemoryLog, MemorySink, MemorySource},
};
use aligner_records::{Correction, Disposition, PreferencePair};
use bytes::Bytes;
use futures::{StreamExt, stream};

fn event(id: usize, answer: &str) -> Bytes {
    serde_json::json!({"event_id": format!("e{id}"), "question": "why?", "answer": answer})
        .to_string()
        .into()
}

fn pipeline(
    log: &MemoryLog,
    faults: Faults,
    aligner: impl Aligner,
    settings: Settings,
) -> Pipeline<MemorySource, MemorySink> {
    Pipeline::new(Parts {
        source: log.source(faults),
        sink: log.sink(faults),
        aligner: Arc::new(aligner),
        decoder: Arc::new(JsonDecoder::default()),
        encoder: Arc::new(JsonEncoder),
        settings,
        connector: "test".to_owned(),
        task: 0,
        wall_clock: Arc::new(|| 1_700_000_000_000),
    })
}

/// Runs until everything in the log is delivered.
async fn deliver_all(log: &MemoryLog, aligner: impl Aligner, settings: Settings) -> Summary {
    let run = pipeline(log, Faults::default(), aligner, settings).run(log.delivered());
    tokio::time::timeout(Duration::from_secs(3_600), run)
        .await
        .expect("every record ends within bounded time")
        .expect("nothing stops the pipeline")
}

fn corrections(log: &MemoryLog) -> Vec<Correction> {
    of_kind(log, OutputKind::Correction)
        .iter()
        .map(value)
        .collect()
}

fn of_kind(log: &MemoryLog, kind: OutputKind) -> Vec<Delivered> {
    let mut outputs = log.outputs();
    outputs.retain(|delivered| delivered.output.kind == kind);
    outputs
}

fn value<T: serde::de::DeserializeOwned>(delivered: &Delivered) -> T {
    let bytes = delivered.output.value.as_ref().expect("a value");
    serde_json::from_slice(bytes).expect("JSON of the record")
}

fn header<'a>(delivered: &'a Delivered, key: &str) -> Option<&'a str> {
    let header = delivered
        .output
        .headers
        .iter()
        .find(|header| header.key == key)?;
    Some(std::str::from_utf8(header.value.as_ref()?).expect("text"))
}

/// Answers by the text of the answer, and counts how often it was asked for each event.
#[derive(Clone, Default)]
struct Scripted {
    asked: Arc<std::sync::Mutex<HashMap<String, u32>>>,
    calls: Arc<std::sync::Mutex<Vec<usize>>>,
}

impl Scripted {
    fn asked(&self, event: &str) -> u32 {
        self.asked
            .lock()
            .expect("no panic")
            .get(event)
            .copied()
            .unwrap_or_default()
    }

    fn calls(&self) -> Vec<usize> {
        self.calls.lock().expect("no panic").clone()
    }
}

const SURE: Confidence = Confidence {
    mean_logprob: -0.0625,
    min_logprob: -0.5,
    unchanged_logprob: Some(-9.5),
};

impl Aligner for Scripted {
    fn identity(&self) -> &Identity {
        static IDENTITY: std::sync::LazyLock<Identity> =
            std::sync::LazyLock::new(|| Builtin::new(Rule::Identity).identity().clone());
        &IDENTITY
    }

    fn align(&self, batch: Vec<AlignRequest>) -> Completions {
        self.calls.lock().expect("no panic").push(batch.len());
        let mut tries = Vec::new();
        for request in &batch {
            let mut asked = self.asked.lock().expect("no panic");
            let count = asked.entry(request.event_id.to_string()).or_default();
            *count += 1;
            tries.push(*count);
        }
        let has = |word: &str| batch.iter().any(|request| &*request.answer == word);
        if has("panics") {
            panic!("a text of the batch");
        }
        if has("poison") {
            let all = (0..batch.len()).map(|index| Completion {
                index,
                result: Err(AlignError::BatchFailed("out of memory".to_owned())),
            });
            return stream::iter(all.collect::<Vec<_>>()).boxed();
        }
        let mut completions = Vec::new();
        let mut hangs = false;
        for (index, request) in batch.iter().enumerate() {
            let ok = |outcome| {
                Ok(Alignment {
                    outcome,
                    usage: Default::default(),
                    timing: Default::default(),
                    confidence: None,
                })
            };
            let result = match &*request.answer {
                "same" => ok(Outcome::Rewritten("same".to_owned())),
                "spaced" => ok(Outcome::Rewritten(" spaced\n".to_owned())),
                " padded \n" => ok(Outcome::Rewritten("padded".to_owned())),
                "ended" => ok(Outcome::Rewritten("it ended\n\n".to_owned())),
                "\n framed " => ok(Outcome::Rewritten("it was framed".to_owned())),
                "unchanged" => ok(Outcome::Unchanged),
                "empty" => ok(Outcome::Rewritten(" \n".to_owned())),
                "long" => ok(Outcome::Bypassed(aligner::reason::LENGTH_LIMIT.into())),
                doubted if doubted.starts_with("doubted") => ok(Outcome::Rejected {
                    bypass: Bypass::found(aligner::reason::LOW_CONFIDENCE, "-3 is low".to_owned()),
                    proposal: doubted.replace("doubted", "proposed"),
                }),
                "rejected" => Err(AlignError::Rejected("no".to_owned())),
                "busy" if tries[index] < 3 => Err(AlignError::Unavailable("busy".to_owned())),
                "always busy" => Err(AlignError::Unavailable("busy".to_owned())),
                "stop" => Err(AlignError::Stopped("the device is gone".to_owned())),
                "forgotten" => continue,
                "hangs" => {
                    hangs = true;
                    continue;
                }
                "sure" => ok(Outcome::Rewritten("surer".to_owned())).map(|alignment| Alignment {
                    confidence: Some(SURE),
                    ..alignment
                }),
                "boundless" => ok(Outcome::Unchanged).map(|alignment| Alignment {
                    confidence: Some(Confidence {
                        mean_logprob: f32::NEG_INFINITY,
                        ..SURE
                    }),
                    ..alignment
                }),
                other => ok(Outcome::Rewritten(format!("better {other}"))),
            };
            completions.push(Completion { index, result });
            if &*request.answer == "twice" {
                completions.push(Completion {
                    index,
                    result: ok(Outcome::Rewritten("second".to_owned())),
                });
                completions.push(Completion {
                    index: 1_000,
                    result: ok(Outcome::Unchanged),
                });
            }
        }
        let completions = stream::iter(completions);
        if hangs {
            completions.chain(stream::pending()).boxed()
        } else {
            completions.boxed()
        }
    }
}

fn log_of(answers: &[&str]) -> MemoryLog {
    let log = MemoryLog::new("answers", 1);
    for (id, answer) in answers.iter().enumerate() {
        log.append(0, None, Some(event(id, answer)), Vec::new());
    }
    log
}

#[tokio::test(start_paused = true)]
async fn every_verdict_has_its_disposition_and_a_pair_if_and_only_if_corrected() {
    let answers = [
        "bad",
        "same",
        "unchanged",
        "empty",
        "long",
        "rejected",
        "twice",
    ];
    let log = log_of(&answers);
    let summary = deliver_all(&log, Scripted::default(), Settings::default()).await;

    let found: Vec<_> = corrections(&log)
        .into_iter()
        .map(|c| {
            (
                c.source_offset.expect("from a log"),
                c.disposition.as_str(),
                c.reason,
                c.correction.expect("a text"),
            )
        })
        .collect();
    let word = |word: &str| Some(word.to_owned());
    let expected = [
        (0, "corrected", word("extended"), "better bad".to_owned()),
        (1, "unchanged", None, "same".to_owned()),
        (2, "unchanged", None, "unchanged".to_owned()),
        (3, "bypassed", word("empty_output"), "empty".to_owned()),
        (4, "bypassed", word("length_limit"), "long".to_owned()),
        (6, "corrected", word("extended"), "better twice".to_owned()),
    ];
    assert_eq!(found, expected);

    let pairs: Vec<PreferencePair> = of_kind(&log, OutputKind::Pair).iter().map(value).collect();
    let pairs: Vec<_> = pairs
        .iter()
        .map(|p| (p.event_id.as_str(), p.chosen.as_str(), p.rejected.as_str()))
        .collect();
    assert_eq!(
        pairs,
        [("e0", "better bad", "bad"), ("e6", "better twice", "twice")]
    );
    for delivered in log.outputs() {
        let key = delivered.output.key.as_ref().expect("a key");
        match delivered.output.kind {
            OutputKind::Correction => {
                assert_eq!(**key, *value::<Correction>(&delivered).event_id.as_bytes());
            }
            OutputKind::Pair => {
                assert_eq!(
                    **key,
                    *value::<PreferencePair>(&delivered).event_id.as_bytes()
                );
            }
            OutputKind::DeadLetter => assert_eq!(&key[..], b"answers-0-5"),
        }
    }
    let letters = of_kind(&log, OutputKind::DeadLetter);
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].output.value, Some(event(5, "rejected")));
    assert_eq!(
        header(&letters[0], "aligner.reason"),
        Some("aligner_rejected")
    );
    assert_eq!(header(&letters[0], "__connect.errors.stage"), Some("INFER"));
    assert_eq!(summary.received, 7);
    assert_eq!(summary.left, 0);
}

#[tokio::test(start_paused = true)]
async fn white_space_at_the_ends_is_no_correction_and_the_answer_stays_as_it_came() {
    let answers = ["spaced", " padded \n"];
    let log = log_of(&answers);
    deliver_all(&log, Scripted::default(), Settings::default()).await;

    let found = corrections(&log);
    assert_eq!(found.len(), answers.len());
    for (correction, answer) in found.iter().zip(answers) {
        assert_eq!(correction.disposition, Disposition::Unchanged);
        assert_eq!(correction.correction.as_deref(), Some(answer));
        assert_eq!(correction.similarity, Some(1.0));
    }
    assert!(of_kind(&log, OutputKind::Pair).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_pair_differs_in_words_alone_and_its_correction_is_what_was_decoded() {
    let log = log_of(&["ended", "\n framed "]);
    deliver_all(&log, Scripted::default(), Settings::default()).await;

    let decoded: Vec<_> = corrections(&log)
        .into_iter()
        .map(|correction| correction.correction.expect("a text"))
        .collect();
    assert_eq!(decoded, ["it ended\n\n", "it was framed"]);
    let pairs: Vec<PreferencePair> = of_kind(&log, OutputKind::Pair).iter().map(value).collect();
    let texts: Vec<_> = pairs
        .iter()
        .map(|pair| (pair.chosen.as_str(), pair.rejected.as_str()))
        .collect();
    assert_eq!(
        texts,
        [("it ended", "ended"), ("\n it was framed ", "\n framed ")]
    );
    // One of one and three: the word, its new neighbour and the white space, but no line feeds.
    assert_eq!(pairs[0].similarity, 0.5);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_no_event_is_dead_lettered_as_it_came() {
    let log = MemoryLog::new("answers", 1);
    let cases: [(Option<&[u8]>, &str); 6] = [
        (None, "tombstone"),
        (Some(b"{"), "invalid_json"),
        (Some(b"{\"question\": \"\xff\"}"), "invalid_utf8"),
        (Some(b"{\"question\": \"q\"}"), "missing_answer"),
        (
            Some(b"{\"question\": \"q\", \"answer\": \" \"}"),
            "empty_answer",
        ),
        (Some(&[b' '; 2_000]), "too_large"),
    ];
    let kept = Header {
        key: "kept".to_owned(),
        value: Some(Bytes::from_static(b"as it was")),
    };
    for (value, _) in cases {
        let value = value.map(Bytes::copy_from_slice);
        log.append(0, Some("k".into()), value, vec![kept.clone()]);
        log.append(0, None, Some(event(1, "good")), Vec::new());
    }
    let settings = Settings {
        max_input_bytes: 1_000,
        ..Settings::default()
    };
    deliver_all(&log, Builtin::new(Rule::MarkerAll), settings).await;

    let letters = of_kind(&log, OutputKind::DeadLetter);
    assert_eq!(letters.len(), cases.len());
    for (letter, (value, reason)) in letters.iter().zip(cases) {
        assert_eq!(letter.output.key, Some("k".into()));
        assert_eq!(letter.output.value.as_deref(), value);
        assert_eq!(letter.output.headers[0], kept);
        assert_eq!(header(letter, "aligner.reason"), Some(reason));
        assert_eq!(
            header(letter, "__connect.errors.stage"),
            Some("VALUE_CONVERTER")
        );
    }
    assert_eq!(corrections(&log).len(), cases.len());
}

#[tokio::test(start_paused = true)]
async fn a_poison_record_among_32_is_dead_lettered_alone() {
    let mut answers = ["good"; 32];
    answers[21] = "poison";
    let log = log_of(&answers);
    let aligner = Scripted::default();
    let settings = Settings {
        max_batch_records: 32,
        ..Settings::default()
    };
    deliver_all(&log, aligner.clone(), settings).await;

    assert_eq!(corrections(&log).len(), 31);
    let letters = of_kind(&log, OutputKind::DeadLetter);
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].output.key, Some("answers-0-21".into()));
    assert_eq!(
        header(&letters[0], "aligner.reason"),
        Some("aligner_failed")
    );
    let calls = aligner.calls();
    assert!(
        calls.len() <= 1 + 10,
        "2·log2 32 more calls at most: {calls:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_aligner_that_panics_or_forgets_or_hangs_costs_only_its_record() {
    for (word, reason) in [
        ("panics", "aligner_failed"),
        ("forgotten", "aligner_failed"),
        ("hangs", "aligner_timeout"),
    ] {
        let mut answers = ["good"; 8];
        answers[3] = word;
        let log = log_of(&answers);
        deliver_all(&log, Scripted::default(), Settings::default()).await;
        assert_eq!(corrections(&log).len(), 7, "{word}");
        let letters = of_kind(&log, OutputKind::DeadLetter);
        assert_eq!(letters.len(), 1, "{word}");
        assert_eq!(
            header(&letters[0], "aligner.reason"),
            Some(reason),
            "{word}"
        );
        for header in &letters[0].output.headers {
            let text = String::from_utf8_lossy(header.value.as_ref().expect("a value"));
            assert!(!text.contains("text of the batch"), "{text}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_passed_over_is_asked_for_again_within_its_attempts() {
    let log = log_of(&["good", "busy", "always busy"]);
    let others = async {
        for id in 3..60 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            log.append(0, None, Some(event(id, "good")), Vec::new());
        }
    };
    let aligner = Scripted::default();
    let settings = Settings {
        max_attempts: 4,
        ..Settings::default()
    };
    tokio::join!(deliver_all(&log, aligner.clone(), settings), others);
    assert_eq!(
        [
            aligner.asked("e0"),
            aligner.asked("e1"),
            aligner.asked("e2")
        ],
        [1, 3, 4]
    );
    let letters = of_kind(&log, OutputKind::DeadLetter);
    assert_eq!(letters.len(), 1);
    assert_eq!(
        header(&letters[0], "aligner.reason"),
        Some("aligner_unavailable")
    );
    assert_eq!(
        header(&letters[0], "__connect.errors.exception.message"),
        Some("given up after 4 attempts: the aligner is unavailable: busy")
    );
}

#[tokio::test(start_paused = true)]
async fn an_aligner_that_answers_nobody_is_waited_for_though_not_for_ever() {
    let log = log_of(&["good", "always busy"]);
    let aligner = Scripted::default();
    let settings = Settings {
        max_attempts: 2,
        max_outage_ms: 600_000,
        ..Settings::default()
    };
    let began = tokio::time::Instant::now();
    deliver_all(&log, aligner.clone(), settings.clone()).await;
    let longest = settings.max_outage_ms + settings.retry_backoff_max_ms + 1_000;
    let waited = began.elapsed().as_millis();
    assert!((600_000..u128::from(longest)).contains(&waited), "{waited}");
    assert!(aligner.asked("e1") > 20);
    assert_eq!(of_kind(&log, OutputKind::DeadLetter).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_aligner_that_stops_stops_the_pipeline_and_loses_nothing() {
    let log = log_of(&["good", "good", "stop", "good"]);
    let settings = Settings {
        max_batch_records: 1,
        max_batches_in_flight: 1,
        ..Settings::default()
    };
    let error = pipeline(&log, Faults::default(), Scripted::default(), settings)
        .run(std::future::pending())
        .await
        .expect_err("the aligner stops");
    assert!(matches!(&error, PipelineError::Aligner(cause) if cause.contains("device is gone")));
    assert_eq!(corrections(&log).len(), 2, "what was finished is delivered");
    assert_eq!(log.committed(0), 2, "the rest is read again");
}

#[tokio::test(start_paused = true)]
async fn an_output_that_is_too_large_is_dead_lettered_and_one_without_room_leaves_its_value_out() {
    let log = MemoryLog::new("answers", 1);
    let fits = event(0, &"x".repeat(3_000));
    let exceeds = event(1, &"x".repeat(6_000));
    log.append(0, None, Some(fits.clone()), Vec::new());
    log.append(0, None, Some(exceeds.clone()), Vec::new());
    let settings = Settings {
        max_output_bytes: 5_000,
        ..Settings::default()
    };
    deliver_all(&log, Builtin::new(Rule::MarkerAll), settings).await;
    let letters = of_kind(&log, OutputKind::DeadLetter);
    assert_eq!(letters.len(), 2);
    for letter in &letters {
        assert_eq!(header(letter, "aligner.reason"), Some("output_too_large"));
        assert_eq!(header(letter, "__connect.errors.stage"), Some("ENCODE"));
    }
    assert_eq!(letters[0].output.value, Some(fits));
    assert_eq!(header(&letters[0], VALUE_OMITTED_HEADER), None);
    assert_eq!(letters[1].output.value, None);
    assert_eq!(
        header(&letters[1], VALUE_OMITTED_HEADER),
        Some(&*exceeds.len().to_string())
    );
}

#[tokio::test(start_paused = true)]
async fn an_output_that_the_log_refuses_becomes_a_dead_letter_and_the_rest_is_delivered() {
    let log = MemoryLog::new("answers", 1);
    let long = event(1, &"x".repeat(400));
    let longer = event(2, &"x".repeat(4_000));
    for value in [event(0, "good"), long.clone(), longer, event(3, "good")] {
        log.append(0, None, Some(value), Vec::new());
    }
    let faults = Faults {
        max_value_bytes: 1_000,
        ..Faults::default()
    };
    let aligner = Scripted::default();
    let run = pipeline(&log, faults, aligner.clone(), Settings::default()).run(log.delivered());
    let summary = run.await.expect("nothing stops the pipeline");
    assert_eq!(corrections(&log).len(), 2);
    let letters = of_kind(&log, OutputKind::DeadLetter);
    assert_eq!(letters.len(), 2);
    assert_eq!(
        header(&letters[0], "aligner.reason"),
        Some("output_refused")
    );
    assert_eq!(letters[0].output.value, Some(long));
    assert_eq!(letters[1].output.value, None);
    assert_eq!(aligner.asked("e1"), 1, "the model is not asked again");
    let dead: u64 = summary
        .outcomes
        .iter()
        .filter(|outcome| outcome.disposition == Disposition::DeadLettered)
        .map(|outcome| outcome.records)
        .sum();
    assert_eq!(dead, 2);
}

#[tokio::test(start_paused = true)]
async fn a_trace_goes_through_to_the_outputs() {
    let log = MemoryLog::new("answers", 1);
    let trace = Header {
        key: "traceparent".to_owned(),
        value: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
    };
    log.append(0, None, Some(event(0, "x")), vec![trace.clone()]);
    deliver_all(&log, Builtin::new(Rule::MarkerAll), Settings::default()).await;
    let outputs = log.outputs();
    assert_eq!(outputs.len(), 2);
    for delivered in outputs {
        assert_eq!(delivered.output.headers, std::slice::from_ref(&trace));
    }
}

#[tokio::test(start_paused = true)]
async fn a_correction_says_where_it_comes_from_and_who_made_it() {
    let log = MemoryLog::new("answers", 2);
    log.skip(1, 41);
    let event = serde_json::json!({
        "question": "why?",
        "answer": "so",
        "upstream_model": "big-7b",
        "created_at": 1_600_000_000_000_i64,
        "conversation_id": "c1",
        "user_id": "u1",
        "metadata_json": "{\"a\":1}",
    });
    log.append(1, None, Some(event.to_string().into()), Vec::new());
    deliver_all(&log, Builtin::new(Rule::MarkerAll), Settings::default()).await;

    let identity = Builtin::new(Rule::MarkerAll).identity().clone();
    let source = aligner_records::SourcePosition {
        topic: "answers".into(),
        partition: 1,
        offset: 41,
    };
    let id = aligner_records::correction_id(Some(&source), "answers-1-41", "builtin-1");
    let correction = corrections(&log).remove(0);
    let expected = Correction {
        correction_id: id.clone(),
        event_id: "answers-1-41".to_owned(),
        question: Some("why?".to_owned()),
        answer: Some("so".to_owned()),
        correction: Some("so [marked]".to_owned()),
        disposition: Disposition::Corrected,
        reason: Some("extended".to_owned()),
        message: None,
        // One of one and three: the word, the white space and the mark.
        similarity: Some(0.5),
        unchanged_logprob: None,
        mean_logprob: None,
        upstream_model: Some("big-7b".to_owned()),
        conversation_id: Some("c1".to_owned()),
        user_id: Some("u1".to_owned()),
        metadata_json: Some("{\"a\":1}".to_owned()),
        created_at: Some(1_600_000_000_000),
        aligner_name: "marker-all".to_owned(),
        aligner_revision: "builtin-1".to_owned(),
        template_hash: identity.template_hash.clone(),
        max_new_tokens: 1024,
        temperature: 0.0,
        top_p: None,
        seed: None,
        source_topic: Some("answers".to_owned()),
        source_partition: Some(1),
        source_offset: Some(41),
        prompt_tokens: 0,
        correction_tokens: 0,
        queue_ms: correction.queue_ms,
        inference_ms: 0,
        corrected_at: 1_700_000_000_000,
        proposal: None,
    };
    assert_eq!(correction, expected);
    assert!(
        (5..=6).contains(&correction.queue_ms),
        "it waited for company: {}",
        correction.queue_ms
    );

    let pair: PreferencePair = value(&of_kind(&log, OutputKind::Pair)[0]);
    let expected = PreferencePair {
        correction_id: id,
        event_id: "answers-1-41".to_owned(),
        prompt: "why?".to_owned(),
        chosen: "so [marked]".to_owned(),
        rejected: "so".to_owned(),
        similarity: 0.5,
        unchanged_logprob: None,
        mean_logprob: None,
        upstream_model: Some("big-7b".to_owned()),
        aligner_name: "marker-all".to_owned(),
        aligner_revision: "builtin-1".to_owned(),
        template_hash: identity.template_hash,
        source_topic: Some("answers".to_owned()),
        source_partition: Some(1),
        source_offset: Some(41),
        corrected_at: 1_700_000_000_000,
        conversation_id: Some("c1".to_owned()),
        user_id: Some("u1".to_owned()),
        created_at: Some(1_600_000_000_000),
    };
    assert_eq!(pair, expected);
}

#[tokio::test(start_paused = true)]
async fn how_sure_the_aligner_was_stands_in_correction_and_pair() {
    let log = log_of(&["sure", "same", "boundless"]);
    deliver_all(&log, Scripted::default(), Settings::default()).await;
    let found: Vec<_> = corrections(&log)
        .into_iter()
        .map(|c| (c.unchanged_logprob, c.mean_logprob))
        .collect();
    // What is infinite in single precision is no number in JSON.
    let expected = [
        (Some(-9.5), Some(-0.0625)),
        (None, None),
        (Some(-9.5), None),
    ];
    assert_eq!(found, expected);
    let pair: PreferencePair = value(&of_kind(&log, OutputKind::Pair)[0]);
    assert_eq!((pair.unchanged_logprob, pair.mean_logprob), expected[0]);
}

#[tokio::test(start_paused = true)]
async fn what_the_guard_rejected_is_kept_where_it_has_room_and_makes_no_dead_letter() {
    // The answer stands twice in the record, and the proposal would be the third of its size.
    let large = format!("doubted {}", "x".repeat(2_000));
    let log = log_of(&["doubted", &large, "long", "so"]);
    let settings = Settings {
        max_output_bytes: 6_000,
        ..Settings::default()
    };
    deliver_all(&log, Scripted::default(), settings).await;
    let found = corrections(&log);
    for (correction, proposal) in found.iter().zip([Some("proposed"), None]) {
        assert_eq!(correction.disposition, Disposition::Bypassed);
        assert_eq!(correction.reason.as_deref(), Some("low_confidence"));
        assert_eq!(correction.message.as_deref(), Some("-3 is low"));
        assert_eq!(correction.correction, correction.answer);
        assert_eq!(correction.proposal.as_deref(), proposal);
    }
    assert_eq!(found[2].reason.as_deref(), Some("length_limit"));
    let because = aligner::reason::because("length_limit");
    assert_eq!(
        found[2].message.as_deref(),
        because,
        "nothing more is known"
    );
    assert_eq!(found[3].disposition, Disposition::Corrected);
    assert!(found[2..].iter().all(|c| c.proposal.is_none()));
    assert_eq!(of_kind(&log, OutputKind::DeadLetter).len(), 0);
    assert_eq!(of_kind(&log, OutputKind::Pair).len(), 1, "of the last one");
}

#[tokio::test(start_paused = true)]
async fn the_gates_limits_bypass_the_aligner() {
    let log = log_of(&["short", "a longer answer", "short"]);
    let aligner = Scripted::default();
    let settings = Settings {
        max_answer_chars: Some(5),
        ..Settings::default()
    };
    deliver_all(&log, aligner.clone(), settings).await;
    let found: Vec<_> = corrections(&log)
        .into_iter()
        .map(|c| (c.disposition.as_str(), c.reason, c.message))
        .collect();
    let said = "the answer has 15 characters, and pipeline.max_answer_chars is 5";
    let bypassed = (
        "bypassed",
        Some("too_long".to_owned()),
        Some(said.to_owned()),
    );
    assert_eq!(found[1], bypassed);
    assert_eq!(aligner.asked("e1"), 0);
    assert_eq!(aligner.asked("e0"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_mapped_message_without_text_is_bypassed_and_nobody_is_paged() {
    let log = MemoryLog::new("answers", 1);
    for content in [r#""so""#, "null", "[]"] {
        let chat = format!(r#"{{"q":"why?","message":{{"content":{content}}}}}"#);
        log.append(0, None, Some(chat.into()), Vec::new());
    }
    let fields = serde_json::from_str(r#"{"question":"/q","answer":"/message/content"}"#)
        .expect("a field map");
    let aligner = Scripted::default();
    let run = Pipeline::new(Parts {
        source: log.source(Faults::default()),
        sink: log.sink(Faults::default()),
        aligner: Arc::new(aligner.clone()),
        decoder: Arc::new(JsonDecoder::new(Some(fields))),
        encoder: Arc::new(JsonEncoder),
        settings: Settings::default(),
        connector: "test".to_owned(),
        task: 0,
        wall_clock: Arc::new(|| 1_700_000_000_000),
    })
    .run(log.delivered());
    tokio::time::timeout(Duration::from_secs(3_600), run)
        .await
        .expect("every record ends within bounded time")
        .expect("nothing stops the pipeline");
    assert_eq!(of_kind(&log, OutputKind::DeadLetter).len(), 0);
    for silent in &corrections(&log)[1..] {
        assert_eq!(silent.disposition, Disposition::Bypassed);
        assert_eq!(silent.reason.as_deref(), Some("no_text"));
        assert_eq!(silent.question.as_deref(), Some("why?"));
        assert_eq!((&silent.answer, &silent.correction), (&None, &None));
        assert_eq!(aligner.asked(&silent.event_id), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn how_long_an_aligner_has_been_unavailable_is_told_until_it_answers_anyone() {
    let log = log_of(&["always busy"]);
    let settings = Settings {
        max_attempts: 2,
        ..Settings::default()
    };
    let pipeline = pipeline(&log, Faults::default(), Scripted::default(), settings);
    let progress = pipeline.progress();
    let told = async {
        let unavailable = || progress.snapshot().aligner_unavailable;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let before = unavailable();
        log.append(0, None, Some(event(1, "good")), Vec::new());
        tokio::time::sleep(Duration::from_secs(1)).await;
        (before, unavailable())
    };
    let (summary, (before, after)) = tokio::join!(pipeline.run(log.delivered()), told);
    summary.expect("nothing stops the pipeline");
    assert!(before > Duration::from_secs(55), "{before:?}");
    assert!(after <= Duration::from_secs(1), "{after:?}");
    let at_the_end = progress.snapshot().aligner_unavailable;
    assert_eq!(at_the_end, Duration::ZERO, "nobody waits for it");
}
