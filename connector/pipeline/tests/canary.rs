//! No text of a record leaves the pipeline but in its outputs.
//!
//! Alone in its file, because what is logged is caught for the whole process.

use std::{
    io,
    sync::{Arc, Mutex},
};

use aligner::{
    AlignError, AlignRequest, Aligner, Alignment, Completion, Completions, Identity, Outcome,
    builtin::{Builtin, Rule},
};
use aligner_pipeline::{
    JsonDecoder, JsonEncoder, OutputKind, Parts, Pipeline, Settings,
    memory::{Faults, MemoryLog},
};
use futures::{StreamExt, stream};

const CANARY: &str = "zq-canary-zq";

/// Fails in every way, as the answer says.
struct Failing(Identity);

impl Aligner for Failing {
    fn identity(&self) -> &Identity {
        &self.0
    }

    fn align(&self, batch: Vec<AlignRequest>) -> Completions {
        let answers = batch
            .into_iter()
            .enumerate()
            .filter_map(|(index, request)| {
                let cause = "drawn".to_owned();
                let result = match &*request.answer {
                    "panics" => panic!("as it was told"),
                    "forgotten" => return None,
                    "poison" => Err(AlignError::BatchFailed(cause)),
                    "rejected" => Err(AlignError::Rejected(cause)),
                    "busy" => Err(AlignError::Unavailable(cause)),
                    answer => Ok(Alignment {
                        outcome: Outcome::Rewritten(format!("{answer} {CANARY}")),
                        usage: Default::default(),
                        timing: Default::default(),
                        confidence: None,
                    }),
                };
                Some(Completion { index, result })
            });
        stream::iter(answers.collect::<Vec<_>>()).boxed()
    }
}

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn no_text_of_a_record_is_in_logs_counts_or_causes() {
    let logged = Logged::default();
    let writer = logged.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .init();

    let log = MemoryLog::new("answers", 1);
    for word in ["good", "panics", "poison", "rejected", "busy", "forgotten"] {
        let event = serde_json::json!({"question": CANARY, "answer": word, "user_id": CANARY});
        let value = event.to_string().into();
        log.append(0, Some(CANARY.into()), Some(value), Vec::new());
    }
    let broken = [
        CANARY.to_owned(),
        format!("{{\"question\": \"{CANARY}\", \"answer\": 1}}"),
        format!("{{\"{CANARY}\": {CANARY}"),
        format!(
            "{{\"question\": \"{}\", \"answer\": \"a\"}}",
            CANARY.repeat(600)
        ),
    ];
    for value in broken {
        log.append(0, None, Some(value.into()), Vec::new());
    }
    let pipeline = Pipeline::new(Parts {
        source: log.source(Faults::default()),
        sink: log.sink(Faults::default()),
        aligner: Arc::new(Failing(Builtin::new(Rule::Identity).identity().clone())),
        decoder: Arc::new(JsonDecoder::default()),
        encoder: Arc::new(JsonEncoder),
        settings: Settings {
            max_output_bytes: 5_000,
            ..Settings::default()
        },
        connector: "canary".to_owned(),
        task: 0,
        wall_clock: Arc::new(|| 0),
    });
    let progress = pipeline.progress();
    let summary = pipeline
        .run(log.delivered())
        .await
        .expect("nothing stops the pipeline");
    assert_eq!((summary.received, summary.left), (10, 0));

    let logged = logged.0.lock().expect("no panic").clone();
    let logged = String::from_utf8(logged).expect("text");
    assert!(logged.contains("left records unanswered"), "{logged}");
    assert!(logged.contains("are dead letters now"), "{logged}");
    assert!(!logged.contains(CANARY), "{logged}");
    assert!(!format!("{summary:?} {:?}", progress.snapshot()).contains(CANARY));
    let mut letters = log.outputs();
    letters.retain(|delivered| delivered.output.kind == OutputKind::DeadLetter);
    assert_eq!(letters.len(), 9);
    for letter in letters {
        assert!(!format!("{:?}", letter.output.headers).contains(CANARY));
    }
}
