//! Kafka's own Java programs: a client as an independent writer, which shares no code with librdkafka, and what
//! librdkafka cannot ask a broker for.

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

/// Lets clients with this id write so many bytes a second to a broker, or as many as they like.
pub fn limit_writing(kafka: &Kafka, client_id: &str, bytes_per_second: Option<u32>) {
    let mut command = kafka::java();
    command
        .args(["kafka.admin.ConfigCommand", "--alter"])
        .args(["--bootstrap-server", kafka.bootstrap()])
        .args(["--entity-type", "clients", "--entity-name", client_id]);
    match bytes_per_second {
        Some(rate) => command.args(["--add-config", &format!("producer_byte_rate={rate}")]),
        None => command.args(["--delete-config", "producer_byte_rate"]),
    };
    let done = command.output().expect("java can be started");
    assert!(
        done.status.success(),
        "the quota was not set: {}{}",
        String::from_utf8_lossy(&done.stdout),
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
