//! Batches that the log holds and nobody can read.

use std::{fs, path::Path, time::Duration};

use aligner_tests::{
    client::{Committed, Reader, Writer},
    command,
    connector::{Config, Connector, Topics},
    events::{self, Events},
    kafka::Kafka,
    scratch::Scratch,
    wait,
};

const LIMIT: Duration = Duration::from_secs(90);
/// Events of one round, which is one batch: the writer waits for all of them.
const ROUND: i64 = 10;
/// Before the payload of a batch of format 2 (KIP-98).
const BATCH_HEADER_BYTES: usize = 61;

#[test]
fn a_batch_that_cannot_be_read_ends_the_connector_by_name_and_is_not_skipped() {
    // A checksum that is wrong; and one that nobody looks at, over what does not unpack.
    for (name, compression, checks) in [("checksum", "none", "true"), ("unpacking", "lz4", "false")]
    {
        let kafka = Kafka::start();
        let topics = Topics::create(&kafka, name, 1);
        let config = Config::new(name, kafka.bootstrap(), &topics).property("check.crcs", checks);
        let mut writer = Writer::open(
            kafka
                .settings()
                .clone()
                // One batch for each round, sent as soon as it is whole.
                .set("linger.ms", "60000")
                .set("batch.num.messages", ROUND.to_string())
                .set("compression.type", compression),
        );
        let mut events = Events::new(events::seed(name), name);
        for _ in 0..3 {
            for _ in 0..ROUND {
                writer.send(&topics.answers, &events.next_json().0);
            }
            writer.settle(LIMIT);
        }
        spoil(&kafka.segment(1, &topics.answers, 0), ROUND);
        no_dead_letter_is_passed_over(&config, &topics);

        let mut connector = Connector::start(name, &config);
        connector.allow_error("cannot be read");
        assert_eq!(connector.wait_exit(LIMIT).code(), Some(1), "{name}");
        let named = format!("a batch of {}-0 cannot be read", topics.answers);
        let log = connector.log();
        assert!(log.contains(&named), "{log}");
        let mut reader = Reader::open(kafka.settings(), &[&topics.corrections]);
        let mut read = || -> Vec<i64> {
            let records = reader.read_to_end(LIMIT);
            records.iter().map(events::source_offset).collect()
        };
        let before: Vec<i64> = (0..ROUND).collect();
        assert_eq!(read(), before, "what comes before is delivered");
        let group = format!("connect-{name}");
        let mut committed = Committed::of(kafka.settings(), &group, &topics.answers);
        let offsets = wait::for_value("committed offsets", LIMIT, || committed.fetch());
        assert_eq!(offsets.get(&0), Some(&ROUND), "nothing is skipped");

        // Somebody has looked at it, and says where the group goes on.
        committed.move_to(0, 2 * ROUND);
        connector.restart();
        let behind: Vec<i64> = (2 * ROUND..3 * ROUND).collect();
        let mut read_since = Vec::new();
        wait::until("what lies behind", LIMIT, || {
            read_since.extend(read());
            read_since.len() >= behind.len()
        });
        assert_eq!(read_since, behind);
        assert!(connector.sigterm().success());
    }
}

/// `replay` does not go on behind such a batch either.
#[track_caller]
fn no_dead_letter_is_passed_over(config: &Config, topics: &Topics) {
    let config = config
        .clone()
        .set(&["topics", "answers"], vec![topics.dead_letters.clone()])
        .set(&["topics", "dead_letters"], topics.answers.clone());
    let scratch = Scratch::new("unreadable-letters");
    let file = scratch.file("replay.yaml", config.text());
    let file = file.to_str().expect("our paths are text");
    let done = command::call(&["replay", "--config", file]).expect_code(1);
    let named = format!("topic \"{}\" cannot be read: ", topics.answers);
    assert!(done.stderr.contains(&named), "{done:?}");
}

/// Changes the first byte of the payload of the batch that begins at `offset`.
#[track_caller]
fn spoil(segment: &Path, offset: i64) {
    let mut log = fs::read(segment).expect("the broker's segment is there");
    let mut at = 0;
    while at + BATCH_HEADER_BYTES < log.len() {
        let base = i64::from_be_bytes(log[at..at + 8].try_into().expect("eight bytes"));
        let rest = i32::from_be_bytes(log[at + 8..at + 12].try_into().expect("four bytes"));
        if base == offset {
            log[at + BATCH_HEADER_BYTES] ^= 0xff;
            fs::write(segment, log).expect("the file can be written");
            return;
        }
        at += 12 + usize::try_from(rest).expect("a length");
    }
    panic!("no batch begins at offset {offset}");
}
