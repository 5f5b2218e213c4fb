//! Kafka's own Java client, as an independent writer: it shares no code with librdkafka.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use crate::kafka::{self, Kafka};

/// Writes each line as a record's value, with the console producer that Kafka ships.
pub fn produce_lines(kafka: &Kafka, topic: &str, compression: &str, lines: &[String]) {
    let mut child: std::process::Child = console(kafka, topic, compression)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("java can be started");
    let mut input = child.stdin.take().expect("stdin was asked for");
    for line in lines {
        assert!(!line.contains('\n'), "a record is one line here");
        writeln!(input, "{line}").expect("the producer reads on");
    }
    drop(input);
    let done = child
        .wait_with_output()
        .expect("our own child can be waited for");
    assert!(
        done.status.success(),
        "the console producer failed: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

fn console(kafka: &Kafka, topic: &str, compression: &str) -> Command {
    let mut command = kafka::java();
    command
        .arg("org.apache.kafka.tools.ConsoleProducer")
        .args(["--bootstrap-server", kafka.bootstrap()])
        .args(["--topic", topic])
        .args(["--compression-codec", compression])
        .args(["--command-property", "acks=all"]);
    command
}
