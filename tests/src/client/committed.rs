//! What a group has committed.

use std::{collections::BTreeMap, time::Duration};

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
};

use super::{Silent, leaders};
use crate::reminder::Reminder;

/// Looks up the stable committed offsets of a group.
pub struct Committed {
    consumer: BaseConsumer<Silent>,
    reminder: Reminder,
    topic: String,
}

impl Committed {
    /// Offsets of `group` on `topic`.
    pub fn of(settings: &ClientConfig, group: &str, topic: &str) -> Self {
        let consumer = settings
            .clone()
            .set("group.id", group)
            // Also what makes the broker wait for open transactions on these offsets.
            .set("isolation.level", "read_committed")
            .create_with_context(Silent)
            .expect("constant settings are valid");
        Self {
            consumer,
            reminder: Reminder::of(settings),
            topic: topic.to_owned(),
        }
    }

    /// Moves the group, which has no members, in one partition.
    pub fn move_to(&mut self, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, partition, Offset::Offset(offset))
            .expect("a usable offset");
        self.consumer
            .commit(&list, CommitMode::Sync)
            .expect("the group has no members");
    }

    /// The offsets of the partitions that have one; nothing while the brokers cannot say.
    pub fn fetch(&mut self) -> Option<BTreeMap<i32, i64>> {
        let found = self.look();
        if found.is_none() && self.reminder.is_due() {
            self.reminder.remind(self.consumer.client());
        }
        found
    }

    fn look(&self) -> Option<BTreeMap<i32, i64>> {
        let partitions = leaders(&self.consumer, &self.topic)?.len();
        let mut list = TopicPartitionList::new();
        for partition in 0..i32::try_from(partitions).expect("few partitions") {
            list.add_partition(&self.topic, partition);
        }
        let found = self
            .consumer
            .committed_offsets(list, Duration::from_secs(2))
            .ok()?;
        Some(
            found
                .elements()
                .iter()
                .filter_map(|element| match element.offset() {
                    Offset::Offset(offset) => Some((element.partition(), offset)),
                    _ => None,
                })
                .collect(),
        )
    }
}
