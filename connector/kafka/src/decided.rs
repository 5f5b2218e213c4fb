//! Waits until all that was written to a topic is decided.
//!
//! A committed reader sees a partition up to the first transaction that is open there, whoever's it is, and
//! nothing behind it, however long that has been committed. Who must not miss what is there waits first.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use aligner_pipeline::Partition;
use rdkafka::error::KafkaError;

use crate::{
    lookout::{LOOK_TIMEOUT, LogEnds},
    preflight::StartError,
    settings::Connection,
};

/// Between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// Looks whether what was written to a topic is decided.
pub struct Decisions {
    topic: String,
    written: LogEnds,
    decided: LogEnds,
    patience: Duration,
}

impl std::fmt::Debug for Decisions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decisions")
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

impl Decisions {
    /// Of a topic.
    ///
    /// # Errors
    ///
    /// When no client can be had.
    pub fn of(connection: &Connection, topic: &str) -> Result<Self, StartError> {
        let client = |isolation| {
            LogEnds::seen_with(isolation, connection)
                .map_err(|error| StartError::Other(error.to_string()))
        };
        Ok(Self {
            topic: topic.to_owned(),
            written: client("read_uncommitted")?,
            decided: client("read_committed")?,
            patience: connection.longest_transaction(),
        })
    }

    /// Waits until every record that is there now is committed or aborted. Blocks for as long as one of our own
    /// transactions may stay open; others' may stay for longer.
    ///
    /// # Errors
    ///
    /// When one is open even then, or somebody gives up.
    pub fn wait(&self, given_up: &AtomicBool) -> Result<(), StartError> {
        let asked = Instant::now();
        let ends = self.until(asked, given_up, || self.ends())?;
        self.until(asked, given_up, || self.reached(&ends))
    }

    fn until<T>(
        &self,
        asked: Instant,
        given_up: &AtomicBool,
        ask: impl Fn() -> Result<T, String>,
    ) -> Result<T, StartError> {
        loop {
            let cause = match ask() {
                Ok(found) => return Ok(found),
                Err(cause) => cause,
            };
            if given_up.load(Ordering::Acquire) {
                return Err(StartError::GivenUp);
            }
            if asked.elapsed() >= self.patience {
                return Err(StartError::Unreadable(format!(
                    "topic \"{}\" cannot be read to its end: {cause}",
                    self.topic
                )));
            }
            self.written.serve();
            self.decided.serve();
            thread::sleep(LOOK_PAUSE);
        }
    }

    /// Where each partition ends, with all that is undecided.
    fn ends(&self) -> Result<BTreeMap<Partition, i64>, String> {
        let said = |error: KafkaError| error.to_string();
        let partitions = self
            .written
            .partitions(&self.topic, LOOK_TIMEOUT)
            .map_err(said)?;
        let ends = self.written.of(&partitions, LOOK_TIMEOUT).map_err(said)?;
        match partitions.iter().find(|one| !ends.contains_key(one)) {
            Some(silent) => Err(format!("{silent} does not say where it ends")),
            None if ends.is_empty() => Err("it has no partitions".to_owned()),
            None => Ok(ends),
        }
    }

    /// Whether a committed reader comes as far as this.
    fn reached(&self, ends: &BTreeMap<Partition, i64>) -> Result<(), String> {
        let decided = self.decided.of(ends.keys(), LOOK_TIMEOUT);
        let decided = decided.map_err(|error| error.to_string())?;
        for (partition, end) in ends {
            match decided.get(partition) {
                Some(stable) if stable >= end => {}
                Some(stable) => {
                    return Err(format!(
                        "a transaction of another producer is open at {partition}, offset {stable}; try again \
                         once that producer has ended it, and where it is gone, kafka-transactions.sh \
                         find-hanging shows what to abort"
                    ));
                }
                None => return Err(format!("{partition} does not say where it ends")),
            }
        }
        Ok(())
    }
}
