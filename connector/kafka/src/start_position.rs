//! Where reading begins in a partition that came to us.
//!
//! Left to librdkafka, it would be where its own question about committed offsets leads, and that
//! goes wrong in two ways. While a transaction on these offsets is open, as when its owner has just
//! died, the broker answers "unstable"; if the assignment changes meanwhile, or the retries are used
//! up, librdkafka 2.12 takes that for "none" and begins at the start of the partition, or skips to its
//! end. And "latest" would mean since some process last started, so that records between a first
//! start and a crash before the first commit would be skipped; it means since the group first had the
//! partition, so the end is looked up once and committed.
//!
//! So we ask ourselves, until the answer is stable, and begin at an offset that we know.
//!
//! "Latest" skips what was there when the group began, and nothing else: a partition that was added
//! since is read from its beginning. Whoever adds it, the group has committed offsets elsewhere in the
//! topic by then, since each member commits where it begins in all that it is given. But so has, at the
//! very first start, another member a moment before us, in partitions of its own. Therefore only what
//! was committed before this process joined counts: in a topic without any such offset, the partitions
//! that were there by then are as old as the group, until the first of them are ours. What comes to us
//! after that without an offset is left by a member that did not get so far.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use aligner_pipeline::Partition;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext},
    error::KafkaResult,
};

use crate::{listing::listed, settings::StartFrom, stats::ClientStats};

/// The longest that stable committed offsets are asked for: an outage of the brokers is waited for,
/// and so is a transaction of somebody who died.
const LONGEST_PATIENCE: Duration = Duration::from_secs(240);
/// How often the wait is said.
const SAY_INTERVAL: Duration = Duration::from_secs(10);
/// How long one question about a partition may take. Heartbeats go on meanwhile.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(2);
/// Between questions.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// What part of the patience a commit has: it may follow a question that took all of it.
const COMMIT_SHARE: u32 = 8;

/// An answer topic as this process found it, before it joined the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// Number of its partitions.
    pub(crate) partitions: i32,
    /// Whether the group had committed an offset in any of them.
    pub(crate) begun: bool,
}

type Topics = BTreeMap<String, Found>;

/// Where the group begins in partitions without a committed offset.
#[derive(Debug)]
pub(crate) struct Beginning {
    start_from: StartFrom,
    topics: Mutex<Topics>,
}

impl Beginning {
    pub(crate) fn new(start_from: StartFrom, topics: BTreeMap<String, Found>) -> Self {
        Self {
            start_from,
            topics: Mutex::new(topics),
        }
    }

    /// The group has begun in these: what comes to us in them later, and has no committed offset, had
    /// another owner, or was added.
    pub(crate) fn begun<'a>(&self, topics: impl IntoIterator<Item = &'a str>) {
        let mut known = self.topics();
        for topic in topics {
            if let Some(found) = known.get_mut(topic) {
                found.begun = true;
            }
        }
    }

    fn topics(&self) -> MutexGuard<'_, Topics> {
        // Every change is complete before anything can panic.
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, topic: &str, partition: i32) -> Offset {
        let is_as_old_as_the_group = self
            .topics()
            .get(topic)
            .is_some_and(|found| !found.begun && partition < found.partitions);
        match self.start_from {
            StartFrom::Latest if is_as_old_as_the_group => Offset::End,
            StartFrom::Latest | StartFrom::Earliest => Offset::Beginning,
        }
    }
}

/// Where to begin.
pub(crate) struct Positions {
    /// The assignment, with an offset for each partition.
    pub(crate) assignment: TopicPartitionList,
    /// Those that are to be committed, so that the next owner begins there too.
    pins: TopicPartitionList,
}

/// How long to ask, which is done within a poll: less than the longest time between two polls.
pub(crate) fn patience(max_poll_interval: Duration) -> Duration {
    LONGEST_PATIENCE.min(max_poll_interval * 4 / 5)
}

/// Looks positions up until they are known, for as long as `patience` lasts and nobody gives up.
///
/// # Errors
///
/// Why they are still not known.
pub(crate) fn find<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    assigned: &TopicPartitionList,
    beginning: &Beginning,
    patience: Duration,
    give_up: impl Fn() -> bool,
) -> Result<Positions, String> {
    ask(patience, give_up, || {
        look(consumer, assigned, beginning).map_err(|error| error.to_string())
    })
}

/// Moves the group to an offset, back or forth, and waits until it is there: from then on nothing that
/// was committed before can be taken for what is delivered now.
///
/// # Errors
///
/// Why it is still not there.
pub(crate) fn move_group<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    partition: &Partition,
    offset: i64,
    patience: Duration,
    give_up: impl Fn() -> bool,
) -> Result<(), String> {
    let mut position = TopicPartitionList::new();
    position
        .add_partition_offset(&partition.topic, partition.number, Offset::Offset(offset))
        .map_err(|error| error.to_string())?;
    commit(consumer, &position, patience, give_up)
}

/// Commits, and asks until it is there.
fn commit<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    positions: &TopicPartitionList,
    patience: Duration,
    give_up: impl Fn() -> bool,
) -> Result<(), String> {
    ask(patience / COMMIT_SHARE, give_up, || {
        consumer
            .commit(positions, CommitMode::Async)
            .map_err(|error| error.to_string())?;
        let committed = consumer
            .committed_offsets(positions.clone(), QUESTION_TIMEOUT)
            .map_err(|error| error.to_string())?;
        for wanted in positions.elements() {
            let there = committed
                .find_partition(wanted.topic(), wanted.partition())
                .is_some_and(|found| found.offset() == wanted.offset());
            if !there {
                return Err(format!(
                    "{}-{} is not committed yet",
                    wanted.topic(),
                    wanted.partition()
                ));
            }
        }
        Ok(())
    })
}

/// Asks until there is an answer, for as long as `patience` lasts and nobody gives up.
fn ask<T>(
    patience: Duration,
    give_up: impl Fn() -> bool,
    mut question: impl FnMut() -> Result<T, String>,
) -> Result<T, String> {
    let started = Instant::now();
    let mut next_word = started + SAY_INTERVAL.min(patience / 2);
    loop {
        let error = match question() {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let waited = started.elapsed();
        if give_up() || waited >= patience {
            return Err(format!("{error}, for {} s", waited.as_secs()));
        }
        if Instant::now() >= next_word {
            next_word += SAY_INTERVAL;
            tracing::warn!(
                %error,
                waited_s = waited.as_secs(),
                limit_s = patience.as_secs(),
                "reading waits for committed offsets"
            );
        }
        thread::sleep(RETRY_PAUSE);
    }
}

fn look<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    assigned: &TopicPartitionList,
    beginning: &Beginning,
) -> KafkaResult<Positions> {
    let mut assignment = consumer.committed_offsets(assigned.clone(), QUESTION_TIMEOUT)?;
    let mut whole = TopicPartitionList::new();
    let mut pins = TopicPartitionList::new();
    for element in assignment.elements() {
        element.error()?;
        if matches!(element.offset(), Offset::Offset(_)) {
            continue;
        }
        let first = beginning.of(element.topic(), element.partition());
        let list = if first == Offset::End {
            &mut pins
        } else {
            &mut whole
        };
        list.add_partition_offset(element.topic(), element.partition(), first)?;
    }
    if pins.count() > 0 {
        // One question for all of them: the end is the "time" -1 of Kafka's ListOffsets.
        pins = consumer.offsets_for_times(pins, QUESTION_TIMEOUT)?;
    }
    for element in whole.elements().into_iter().chain(pins.elements()) {
        element.error()?;
        assignment.set_partition_offset(element.topic(), element.partition(), element.offset())?;
    }
    if beginning.start_from == StartFrom::Latest && whole.count() > 0 {
        tracing::info!(
            partitions = whole.count(),
            "the group is older than these partitions: they are read from their beginning"
        );
    }
    Ok(Positions { assignment, pins })
}

/// Where to go on in a log that was cut or made anew, and in which `first` is the first record that
/// came: no later than there, nor than the group has come.
fn no_later_than(first: i64, position: Offset) -> Offset {
    match position {
        Offset::Offset(offset) => Offset::Offset(offset.min(first)),
        Offset::Beginning => Offset::Beginning,
        _ => Offset::Offset(first),
    }
}

impl Positions {
    /// The offset that a partition begins at, unless it begins where its log does.
    pub(crate) fn of(&self, partition: &Partition) -> Option<i64> {
        match self.position(partition) {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        }
    }

    /// Each partition with its offset, or with `beginning` where it begins where its log does.
    pub(crate) fn shown(&self) -> String {
        let elements = self.assignment.elements();
        listed(elements.iter().map(|element| {
            let place = match element.offset() {
                Offset::Offset(offset) => offset.to_string(),
                Offset::Beginning => "beginning".to_owned(),
                other => format!("{other:?}"),
            };
            format!("{}-{}:{place}", element.topic(), element.partition())
        }))
    }

    /// Where a partition begins, at `first` or before it.
    pub(crate) fn no_later_than(&self, first: i64, partition: &Partition) -> Offset {
        no_later_than(first, self.position(partition))
    }

    fn position(&self, partition: &Partition) -> Offset {
        self.assignment
            .find_partition(&partition.topic, partition.number)
            .map_or(Offset::Invalid, |element| element.offset())
    }

    /// Tells the figures where each partition stands.
    pub(crate) fn tell(&self, stats: &ClientStats) {
        for element in self.assignment.elements() {
            if let Offset::Offset(offset) = element.offset() {
                let partition = Partition {
                    topic: element.topic().into(),
                    number: element.partition(),
                };
                stats.begins(&partition, offset);
            }
        }
    }

    /// Commits the positions that only we know. Where that fails, the next owner reads more than we
    /// would: a partition without an offset is one that was added.
    pub(crate) fn pin<C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        patience: Duration,
        give_up: impl Fn() -> bool,
    ) {
        if self.pins.count() == 0 {
            return;
        }
        match commit(consumer, &self.pins, patience, give_up) {
            Ok(()) => {
                tracing::info!(partitions = self.pins.count(), "reading begins at the end");
            }
            Err(error) => tracing::warn!(%error, "the position to begin at was not committed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_ends_before_the_group_goes_on_without_us() {
        let seconds = Duration::from_secs;
        assert_eq!(patience(seconds(300)), seconds(240));
        assert_eq!(patience(seconds(3_600)), seconds(240));
        assert_eq!(patience(seconds(10)), seconds(8));
    }

    /// Four partitions of a topic, as a process found them.
    fn found(begun: bool) -> BTreeMap<String, Found> {
        let found = Found {
            partitions: 4,
            begun,
        };
        BTreeMap::from([("answers".to_owned(), found)])
    }

    #[test]
    fn latest_skips_only_partitions_that_are_as_old_as_the_group() {
        let offsets = |start_from, begun| {
            let beginning = Beginning::new(start_from, found(begun));
            [
                beginning.of("answers", 0),
                beginning.of("answers", 3),
                // Added after the process had started.
                beginning.of("answers", 4),
                beginning.of("unknown", 0),
            ]
        };
        let (first, end) = (Offset::Beginning, Offset::End);
        // The group is new, and another member may have committed in its share of them meanwhile.
        assert_eq!(offsets(StartFrom::Latest, false), [end, end, first, first]);
        // It is new to nobody who got partitions of it before.
        let beginning = Beginning::new(StartFrom::Latest, found(false));
        beginning.begun(["answers", "unknown"]);
        assert_eq!(beginning.of("answers", 0), first);
        // The group has been here before: whatever it has no offset in was added since.
        assert_eq!(offsets(StartFrom::Latest, true), [first; 4]);
        assert_eq!(offsets(StartFrom::Earliest, false), [first; 4]);
        assert_eq!(offsets(StartFrom::Earliest, true), [first; 4]);
    }

    #[test]
    fn a_log_that_was_cut_is_read_from_where_the_group_is_and_no_later_than_the_cut() {
        for (position, first, begins) in [
            (Offset::Offset(100), 150, Offset::Offset(100)),
            (Offset::Offset(180), 150, Offset::Offset(150)),
            (Offset::Offset(180), 0, Offset::Offset(0)),
            (Offset::Beginning, 150, Offset::Beginning),
            (Offset::Invalid, 150, Offset::Offset(150)),
        ] {
            assert_eq!(no_later_than(first, position), begins, "{position:?}");
        }
    }

    #[test]
    fn where_each_partition_begins_is_one_text() {
        let mut assignment = TopicPartitionList::new();
        for (number, offset) in [(0, Offset::Offset(50)), (1, Offset::Beginning)] {
            assignment
                .add_partition_offset("answers", number, offset)
                .expect("such an offset can be");
        }
        let positions = Positions {
            assignment,
            pins: TopicPartitionList::new(),
        };
        assert_eq!(positions.shown(), "answers-0:50 answers-1:beginning");
    }

    #[test]
    fn asking_ends_with_an_answer_with_patience_or_when_given_up() {
        let mut asked = 0;
        let answer = ask(
            Duration::from_secs(60),
            || false,
            || {
                asked += 1;
                if asked < 3 {
                    Err("not yet".to_owned())
                } else {
                    Ok(asked)
                }
            },
        );
        assert_eq!(answer, Ok(3));
        let never = || Err::<(), _>("not yet".to_owned());
        assert!(ask(Duration::ZERO, || false, never).is_err());
        assert!(ask(Duration::from_secs(60), || true, never).is_err());
    }
}
