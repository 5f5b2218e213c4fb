//! A consumer group as the broker sees it: who is in it, and whether it is being rebalanced.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rdkafka::consumer::{BaseConsumer, Consumer as _};

use crate::{
    client::{self, Silent},
    kafka::Kafka,
    reminder::Reminder,
    wait,
};

/// One look at a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// `Stable`, `PreparingRebalance`, `CompletingRebalance`, `Empty` or `Dead`.
    pub state: String,
    /// Ids of its members; a member that leaves and comes back has a new one.
    pub members: BTreeSet<String>,
}

/// A group.
pub struct Group {
    consumer: BaseConsumer<Silent>,
    reminder: Reminder,
    name: String,
}

impl Group {
    /// The group of the connector `name`.
    pub fn of(kafka: &Kafka, name: &str) -> Self {
        Self {
            consumer: client::silent_consumer(kafka.settings()),
            reminder: Reminder::of(kafka.settings()),
            name: format!("connect-{name}"),
        }
    }

    /// Looks at it; nothing if the brokers do not answer.
    pub fn look(&self) -> Option<Look> {
        let answer = self
            .consumer
            .fetch_group_list(Some(&self.name), Duration::from_secs(5));
        if answer.is_err() && self.reminder.is_due() {
            self.reminder.remind(self.consumer.client());
        }
        let list = answer.ok()?;
        let group = list
            .groups()
            .iter()
            .find(|group| group.name() == self.name)?;
        Some(Look {
            state: group.state().to_owned(),
            members: group
                .members()
                .iter()
                .map(|member| member.id().to_owned())
                .collect(),
        })
    }

    /// Waits until it is stable with `members` members.
    #[track_caller]
    pub fn wait_stable(&self, members: usize, limit: Duration) -> Look {
        let what = format!("group {} to be stable with {members} members", self.name);
        wait::for_value(&what, limit, || {
            self.look()
                .filter(|look| look.state == "Stable" && look.members.len() == members)
        })
    }

    /// Looks at it all the time, until the watch is ended.
    pub fn watch(self) -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(Vec::<Look>::new()));
        let thread = {
            let (stop, seen) = (Arc::clone(&stop), Arc::clone(&seen));
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    if let Some(look) = self.look() {
                        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                        if seen.last() != Some(&look) {
                            seen.push(look);
                        }
                    }
                    thread::sleep(Duration::from_millis(50));
                }
            })
        };
        Watch { stop, seen, thread }
    }
}

/// A group under watch.
pub struct Watch {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Look>>>,
    thread: JoinHandle<()>,
}

impl Watch {
    /// Ends the watch: every change that was seen, in order, the first look included.
    pub fn end(self) -> Vec<Look> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .expect("looking at a group does not panic");
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *seen)
    }
}
