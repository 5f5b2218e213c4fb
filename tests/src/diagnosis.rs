//! Why outputs are missing, for the message of a test that fails.
//!
//! Three causes look alike from a test: nothing was written, it was written and is hidden from
//! committed readers by a transaction that nobody ended, or the test's own reader is stuck. Where a
//! partition ends for a committed client (the last stable offset) and for any other one (the high
//! watermark), and what a fresh reader sees, tells them apart.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
};

use crate::{
    client::{self, Reader, Silent},
    connector::Topics,
    ledger::Ledger,
};

/// How long one look at all partitions may take.
const LOOK_LIMIT: Duration = Duration::from_secs(20);
/// How long the fresh reader reads at most.
const READ_LIMIT: Duration = Duration::from_secs(30);
/// A reader that gets nothing for so long has read all that there is for it.
const QUIET: Duration = Duration::from_secs(10);

/// Where a partition ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// Last stable offset: where committed readers stop.
    pub stable: i64,
    /// High watermark.
    pub all: i64,
}

/// One line for each output partition, and one for what a fresh reader sees of the inputs whose
/// output is `missing`. Takes some ten seconds, between two looks.
pub fn of(settings: &ClientConfig, topics: &Topics, mut missing: Ledger) -> Vec<String> {
    let before = ends(settings, topics);
    if before.values().all(Result::is_err) {
        let errors = before.into_iter();
        return errors
            .map(|(name, end)| format!("{name}: {}", end.expect_err("all of them are errors")))
            .collect();
    }
    let count = missing.missing_count();
    read(settings, topics, &mut missing);
    let seen = count - missing.missing_count();
    let mut lines: Vec<_> = ends(settings, topics)
        .into_iter()
        .map(|(name, after)| {
            let before = before.get(&name).and_then(|ends| ends.as_ref().ok());
            let told = after.map_or_else(|error| error, |after| verdict(before.copied(), after));
            format!("{name}: {told}")
        })
        .collect();
    lines.push(match seen {
        0 => format!("a fresh read_committed reader sees none of the {count} missing outputs"),
        _ => format!(
            "a fresh read_committed reader sees {seen} of the {count} missing outputs: the \
             oracle's reader is late or stuck"
        ),
    });
    lines
}

/// What two looks at a partition say, one after the other.
pub fn verdict(before: Option<Ends>, after: Ends) -> String {
    let Ends { stable, all } = after;
    if stable >= all {
        format!("LSO = HW = {all}: nothing is hidden")
    } else if before.is_some_and(|before| before.stable == stable) {
        format!("LSO {stable} < HW {all}, and stands still: hanging transaction, see KAFKA-20734")
    } else {
        format!("LSO {stable} < HW {all}, and moves: a transaction is open")
    }
}

/// The ends of all output partitions by name, or why they were not to be had.
fn ends(settings: &ClientConfig, topics: &Topics) -> BTreeMap<String, Result<Ends, String>> {
    let until = Instant::now() + LOOK_LIMIT;
    let left = || until.saturating_duration_since(Instant::now());
    let [committed, uncommitted] = ["read_committed", "read_uncommitted"].map(|isolation| {
        settings
            .clone()
            .set("isolation.level", isolation)
            .create_with_context::<_, BaseConsumer<Silent>>(Silent)
            .expect("constant settings are valid")
    });
    let end = |client: &BaseConsumer<Silent>, topic: &str, partition: i32| {
        client
            .fetch_watermarks(topic, partition, left())
            .map(|(_, end)| end)
            .map_err(|error| error.to_string())
    };
    let mut found = BTreeMap::new();
    for topic in [&topics.corrections, &topics.pairs, &topics.dead_letters] {
        let Some(leaders) = client::leaders(&uncommitted, topic) else {
            found.insert(topic.clone(), Err("no broker tells about it".to_owned()));
            continue;
        };
        for (partition, leader) in (0..).zip(leaders) {
            // The stable one first: what is written in between only moves the other one on.
            let ends = match end(&committed, topic, partition) {
                Ok(stable) => end(&uncommitted, topic, partition).map(|all| Ends { stable, all }),
                Err(error) => Err(format!("{error} (leader: {leader})")),
            };
            found.insert(format!("{topic}-{partition}"), ends);
        }
    }
    found
}

/// Reads all outputs from the beginning, and takes them into the books.
fn read(settings: &ClientConfig, topics: &Topics, books: &mut Ledger) {
    let mut reader = Reader::open(
        settings,
        &[&topics.corrections, &topics.pairs, &topics.dead_letters],
    );
    let until = Instant::now() + READ_LIMIT;
    while Instant::now() < until
        && let Some(record) = reader.next(QUIET)
    {
        books.observe(topics.output(&record.topic), &record);
    }
}
