//! What is to be done about outputs that were not written.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use aligner_pipeline::Outbound;
use rdkafka::{error::RDKafkaErrorCode, producer::Producer};

use super::{attempt::Attempt, size};
use crate::{
    batching::{Blame, RefusedBatch},
    native::{self, TransactionError},
    reports::Undelivered,
    transaction::{WriteFailure, stopping_cause},
    untaken,
};

/// How long looks at topics that did not take their outputs may take together.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);

impl Attempt<'_> {
    /// Sorts reports by what is to be done. `is_alone` tells whether the refusal of an output can only
    /// mean that very one.
    pub(super) fn judge(
        &self,
        undelivered: &[Undelivered],
        is_alone: impl Fn(&Outbound) -> bool,
    ) -> WriteFailure {
        for failed in undelivered {
            match failed.code {
                RDKafkaErrorCode::MessageSizeTooLarge
                | RDKafkaErrorCode::MessageBatchTooLarge
                | RDKafkaErrorCode::InvalidRecord => {
                    return if is_alone(self.output(failed.index)) {
                        self.refused(failed.index, failed.code)
                    } else {
                        self.refused_together(failed.index, failed.code)
                    };
                }
                // What the others are told that were in a batch with one that is not valid.
                RDKafkaErrorCode::InvalidDifferentRecord => {
                    return self.refused_together(failed.index, failed.code);
                }
                code if is_unknown(code) => {
                    return self.absent(&[self.topic_of(failed.index)], failed.code);
                }
                // A name that no topic can have is not looked for.
                RDKafkaErrorCode::InvalidTopic => {
                    return WriteFailure::Lasting(format!(
                        "output topic \"{}\" is not there ({}); create it, then start again",
                        self.topic_of(failed.index),
                        failed.code
                    ));
                }
                RDKafkaErrorCode::TopicAuthorizationFailed => {
                    return WriteFailure::Lasting(format!(
                        "this user may not write to topic \"{}\"; allow WRITE and DESCRIBE on it",
                        self.topic_of(failed.index)
                    ));
                }
                _ => {}
            }
        }
        let told = undelivered.iter().find(|failed| failed.says_why());
        let code = told
            .map(|failed| failed.code)
            // What is thrown away does not say why; the transaction that failed with it does.
            .or_else(|| self.failure().map(|error| error.code))
            .or(undelivered.first().map(|failed| failed.code))
            .unwrap_or(RDKafkaErrorCode::Fail);
        match stopping_cause(code) {
            // The transaction was refused as a whole; for which topic, only librdkafka's log says.
            Some(_) if code == RDKafkaErrorCode::TopicAuthorizationFailed => {
                WriteFailure::Lasting(format!(
                    "this user may not write to one of the topics {}; allow WRITE and DESCRIBE on \
                     each of them",
                    quoted(&self.topics())
                ))
            }
            Some(cause) => WriteFailure::Lasting(cause.to_owned()),
            None if code == RDKafkaErrorCode::InvalidTimestamp => WriteFailure::Passing(format!(
                "the broker finds this machine's clock wrong ({code}); set it right, or look at \
                 the output topics' message.timestamp.after.max.ms"
            )),
            // For which topic, only librdkafka's log says.
            None if is_unknown(code) => self.absent(&self.topics(), code),
            None => WriteFailure::Passing(format!("outputs were not delivered: {code}")),
        }
    }

    fn refused(&self, index: usize, code: RDKafkaErrorCode) -> WriteFailure {
        let (delivery, output) = self.locate(index);
        let found = &self.deliveries[delivery].outputs[output];
        let cause = untaken::cause(self.outlet.topic(found.kind), found.bytes(), code);
        WriteFailure::Refused {
            delivery,
            output,
            cause,
        }
    }

    fn refused_together(&self, index: usize, code: RDKafkaErrorCode) -> WriteFailure {
        let kind = self.output(index).kind;
        let beside = self.outputs().filter(|output| output.kind == kind);
        let topic = self.outlet.topic(kind);
        let (blame, fix) = match untaken::limit(code) {
            Some(limit) => {
                let bytes = beside.map(size).sum();
                (Blame::Size { bytes }, format!("; raise its {limit}"))
            }
            None => (Blame::Contents, String::new()),
        };
        WriteFailure::RefusedTogether(RefusedBatch {
            blame,
            cause: format!("topic \"{topic}\" does not take a batch ({code}){fix}"),
        })
    }

    /// Which topics did not take their outputs, and what the brokers say about them: a topic that
    /// was deleted is waited for by the client in silence.
    pub(super) fn unacknowledged(&self, indexes: &[usize]) -> WriteFailure {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for index in indexes {
            *counts.entry(self.topic_of(*index)).or_default() += 1;
        }
        let looks_end = Instant::now() + LOOK_TIMEOUT;
        let mut missing = None;
        let topics: Vec<_> = counts
            .iter()
            .map(|(topic, count)| {
                let left = looks_end.saturating_duration_since(Instant::now());
                let remark = match self.look_at(topic, left) {
                    Some(Flaw::Missing) => {
                        missing.get_or_insert(*topic);
                        ", which is not there: create it".to_owned()
                    }
                    Some(Flaw::Other(remark)) => format!(", {remark}"),
                    None => String::new(),
                };
                format!("{count} of topic \"{topic}\"{remark}")
            })
            .collect();
        let cause = format!(
            "outputs were not acknowledged in time: {}",
            topics.join("; ")
        );
        match missing {
            Some(topic) => WriteFailure::Missing {
                topic: topic.to_owned(),
                cause,
            },
            None => WriteFailure::Unacknowledged(cause),
        }
    }

    /// What is to be done where the client takes one of these topics to be gone. A single answer without
    /// it is enough for that, and a broker that has just started may give one: they are asked again. This
    /// client may go on to miss the topic for half a minute; the one that replaces it after a few aborts
    /// does not.
    fn absent(&self, topics: &[&str], code: RDKafkaErrorCode) -> WriteFailure {
        let looks_end = self.write_deadline.min(Instant::now() + LOOK_TIMEOUT);
        for topic in topics {
            let left = looks_end.saturating_duration_since(Instant::now());
            if let Some(Flaw::Missing) = self.look_at(topic, left) {
                return WriteFailure::Missing {
                    topic: (*topic).to_owned(),
                    cause: format!("output topic \"{topic}\" is not there ({code}): create it"),
                };
            }
        }
        WriteFailure::Passing(format!(
            "an output topic was not there for a moment ({code}): {}",
            quoted(topics)
        ))
    }

    /// What brokers find wrong with a topic; nothing, where none answers in time.
    fn look_at(&self, topic: &str, timeout: Duration) -> Option<Flaw> {
        let client = self.outlet.producer.client();
        let metadata = client.fetch_metadata(Some(topic), timeout).ok()?;
        let found = metadata.topics().iter().find(|t| t.name() == topic)?;
        if let Some(error) = found.error() {
            return Some(match RDKafkaErrorCode::from(error) {
                code if is_unknown(code) => Flaw::Missing,
                other => Flaw::Other(other.to_string()),
            });
        }
        let leaderless = found.partitions().iter().filter(|p| p.leader() < 0).count();
        (leaderless > 0).then(|| {
            Flaw::Other(format!(
                "which has {leaderless} partitions without a leader"
            ))
        })
    }

    /// What failed the open transaction, if anything did.
    fn failure(&self) -> Option<TransactionError> {
        if self.outlet.parts.transactional {
            native::transaction_failure(self.outlet.producer.client())
        } else {
            None
        }
    }

    /// The topics of all outputs, each once.
    fn topics(&self) -> Vec<&str> {
        let topics: BTreeSet<_> = self
            .outputs()
            .map(|output| self.outlet.topic(output.kind))
            .collect();
        topics.into_iter().collect()
    }

    /// The output with this index.
    fn output(&self, index: usize) -> &Outbound {
        let (delivery, output) = self.locate(index);
        &self.deliveries[delivery].outputs[output]
    }

    /// The topic of the output with this index.
    fn topic_of(&self, index: usize) -> &str {
        self.outlet.topic(self.output(index).kind)
    }

    /// Which output has this index, counted over all deliveries.
    fn locate(&self, mut index: usize) -> (usize, usize) {
        for (number, delivery) in self.deliveries.iter().enumerate() {
            if index < delivery.outputs.len() {
                return (number, index);
            }
            index -= delivery.outputs.len();
        }
        unreachable!("labels are given to outputs of these deliveries only")
    }
}

fn is_unknown(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition
    )
}

fn quoted(topics: &[&str]) -> String {
    let quoted: Vec<_> = topics.iter().map(|topic| format!("\"{topic}\"")).collect();
    quoted.join(", ")
}

/// What is wrong with an output topic.
enum Flaw {
    Missing,
    Other(String),
}
