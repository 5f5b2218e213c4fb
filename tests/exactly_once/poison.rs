//! One record that the Aligner cannot answer, among those that it can.

use std::time::Duration;

use aligner_tests::{
    client::{Outgoing, Reader},
    completions::Completions,
    connector::Connector,
    events,
    kafka::Kafka,
    ledger::{Expected, Input},
    story::Story,
    wait,
};

const LIMIT: Duration = Duration::from_secs(90);

fn batch_with_poison(reason: &'static str) -> Vec<(Outgoing, Input)> {
    (0..32)
        .map(|number| {
            let id = format!("event-{number}");
            let answer = if number == 17 { "POISON" } else { "harmless" };
            let (mut outgoing, mut input) = events::event(Some(&id), "why?", answer);
            outgoing.partition = Some(0);
            input.expected = if number == 17 {
                Expected::DeadLetter(reason)
            } else {
                Expected::AnyCorrection
            };
            (outgoing, input)
        })
        .collect()
}

fn poisoned_by(status: u16, reason: &'static str, word: &str) {
    let server = Completions::start();
    server.fail_on("POISON", status);
    let story = Story::new(Kafka::shared(), &format!("poison-{status}"), 1).with(|config| {
        config
            .corrected_by(&server)
            .set(&["pipeline", "max_attempts"], 2)
            .set(&["pipeline", "retry_backoff_ms"], 50)
    });
    story.oracle.send(batch_with_poison(reason));
    let _connector = Connector::ready(&story.name, &story.config);
    // An Aligner that answers nobody is waited for; only one that answers others meanwhile has a
    // record to blame. So other records keep coming.
    let mut others = 0;
    wait::until("everything to be done", LIMIT, || {
        story.oracle.assert_clean();
        if others < 300 && story.oracle.missing() > 0 {
            let (outgoing, mut input) =
                events::event(Some(&format!("other-{others}")), "why?", "harmless");
            input.expected = Expected::AnyCorrection;
            story.oracle.send([(outgoing, input)]);
            others += 1;
        }
        story.oracle.missing() == 0
    });
    let summary = story.oracle.settled(LIMIT);
    assert_eq!(summary.inputs, 32 + others);
    assert_eq!(summary.dispositions["dead_lettered"], 1, "{summary:?}");
    let answered = server.asked() - server.failed();
    assert_eq!(
        answered,
        31 + others as u64,
        "the others are asked for once each"
    );

    let mut letters = Reader::open(story.kafka.settings(), &[&story.topics.dead_letters]);
    let letters = letters.read_to_end(LIMIT);
    let cause = letters[0]
        .header("__connect.errors.exception.message")
        .expect("a dead letter names its cause");
    eprintln!("poison-{status}: {cause}");
    assert!(cause.contains(word), "{cause}");
    assert!(
        !cause.contains("POISON"),
        "the cause repeats the answer's text: {cause}"
    );
}

#[test]
fn of_32_records_the_one_that_the_aligner_rejects_is_dead_lettered_and_31_are_delivered() {
    poisoned_by(400, "aligner_rejected", "400");
}

#[test]
fn of_32_records_the_one_that_the_aligner_is_down_for_is_dead_lettered_and_31_are_delivered() {
    poisoned_by(500, "aligner_unavailable", "500");
}
