//! The harness proves itself.

#[test]
fn a_real_broker_starts_and_takes_a_topic() {
    let kafka = aligner_tests::kafka::Kafka::start();
    kafka.create_topic("t", 3);
}
