//! Three brokers, bounced under load.

use std::{sync::atomic::AtomicBool, sync::atomic::Ordering, thread, time::Duration};

use aligner_tests::{
    client,
    connector::Connector,
    events::{self, Events},
    kafka::Kafka,
    story::Story,
};

const LIMIT: Duration = Duration::from_secs(180);

#[test]
fn three_brokers_killed_and_restarted_one_after_another_lose_and_double_nothing() {
    let kafka = Kafka::three();
    let story = Story::new(&kafka, "bounce", 3);
    let mut connector = Connector::ready(&story.name, &story.config);
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut events = Events::new(events::seed("bounce"), "bounce");
            story.feed(&mut events, 100_000, 100, &enough);
        });
        let told = scope
            .spawn(|| {
                let some_more = || story.oracle.wait_done(story.oracle.done() + 100, LIMIT);
                let consumer = client::silent_consumer(kafka.settings());
                some_more();
                for broker in 1..=3 {
                    let leaders = client::leaders(&consumer, &story.topics.corrections);
                    eprintln!("bounce: kill -9 of broker {broker}; leaders {leaders:?}");
                    kafka.kill(broker);
                    some_more();
                    kafka.restart(broker);
                    some_more();
                }
                eprintln!("bounce: a clean stop of broker 1");
                kafka.stop(1);
                some_more();
                kafka.restart(1);
                some_more();
            })
            .join();
        enough.store(true, Ordering::Relaxed);
        if let Err(panic) = told {
            std::panic::resume_unwind(panic);
        }
    });
    let summary = story.oracle.settled(LIMIT);
    eprintln!("bounce: {summary:?}");
    assert!(connector.sigterm().success());
    connector.assert_log_is_clean();
}
