//! A cluster that shows no broker for a moment, as one does whose brokers have all lost their session
//! with the controller: frozen ones, or a single one that starts.

use std::{thread, time::Duration};

use aligner_tests::{
    connector::Connector,
    events::{self, Events},
    kafka::Kafka,
    proxy::{ApiKey, Fault, Proxy},
    story::Story,
};

const LIMIT: Duration = Duration::from_secs(90);
/// Long enough for those to ask that read and write: twice a second.
const MOMENT: Duration = Duration::from_secs(3);
/// What the log says of a client that was told again where to begin.
const REMINDED: &str = "knew no broker of the cluster any more";

#[test]
fn a_cluster_that_shows_no_broker_for_a_moment_strands_no_client() {
    let kafka = Kafka::shared();
    let story = Story::new(kafka, "shown-empty", 3)
        .with(|config| config.property("topic.metadata.refresh.interval.ms", "500"));
    let mut events = Events::new(events::seed("shown-empty"), "empty");
    let proxy = Proxy::before(&kafka.addresses());
    let through = story.config.clone().through(&proxy);
    let mut connector = Connector::ready("shown-empty", &through);
    story.send(&mut events, 200);
    story.oracle.settled(LIMIT);
    assert!(!connector.log().contains(REMINDED), "nothing is the matter");
    for _ in 0..3 {
        let empty = proxy
            .on(ApiKey::Metadata)
            .times(u64::MAX)
            .does(Fault::NoBrokers);
        thread::sleep(MOMENT);
        assert!(empty.hits() > 0, "nobody asked");
        proxy.heal();
        story.send(&mut events, 200);
        story.oracle.settled(LIMIT);
    }
    // At the latest the third time: whether a client helps itself is a matter of moments.
    assert!(connector.log().contains(REMINDED), "they helped themselves");
    assert!(connector.sigterm().success());
}
