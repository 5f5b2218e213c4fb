//! What most stories begin with: topics, an oracle that watches them, and a configuration.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use crate::{
    connector::{Config, Topics},
    events::Events,
    kafka::Kafka,
    oracle::Oracle,
};

/// A connector's surroundings, before the connector itself.
pub struct Story<'a> {
    /// The brokers.
    pub kafka: &'a Kafka,
    /// The connector's name.
    pub name: String,
    /// Its topics; they exist.
    pub topics: Topics,
    /// Watches them.
    pub oracle: Oracle,
    /// What to start the connector with.
    pub config: Config,
}

impl<'a> Story<'a> {
    /// Topics with `partitions` partitions each, and the `marker` Aligner.
    pub fn new(kafka: &'a Kafka, name: &str, partitions: i32) -> Self {
        let topics = Topics::create(kafka, name, partitions);
        // Unique, because the group's name is made of it and tests share a broker.
        let name = topics
            .answers
            .strip_suffix(".answers")
            .expect("topics are named after their connector")
            .to_owned();
        Self {
            kafka,
            oracle: Oracle::watch(kafka, &topics, &name),
            config: Config::new(&name, kafka.bootstrap(), &topics),
            name,
            topics,
        }
    }

    /// The same with another configuration, made of its own.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(Config) -> Config) -> Self {
        self.config = change(self.config);
        self
    }

    /// Writes `count` events at once.
    pub fn send(&self, events: &mut Events, count: usize) {
        self.oracle.send((0..count).map(|_| events.next_json()));
    }

    /// Writes `total` events, `per_second` of them, until `enough` is set.
    pub fn feed(&self, events: &mut Events, total: usize, per_second: usize, enough: &AtomicBool) {
        const EVERY: Duration = Duration::from_millis(50);
        let chunk = (per_second / 20).max(1);
        let mut sent = 0;
        while sent < total && !enough.load(Ordering::Relaxed) {
            let count = chunk.min(total - sent);
            self.send(events, count);
            sent += count;
            thread::sleep(EVERY);
        }
    }
}

/// Tells a story while `other` goes on, on a thread of its own, until the flag that it is given is set.
/// Whatever ends the story sets it, a panic too: the story would wait for that thread for ever.
pub fn meanwhile<T>(other: impl FnOnce(&AtomicBool) + Send, tell: impl FnOnce() -> T) -> T {
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| other(&enough));
        let _told = SetAtEnd(&enough);
        tell()
    })
}

/// Sets a flag when it is dropped.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
