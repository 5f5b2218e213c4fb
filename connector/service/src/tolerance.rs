//! `errors.tolerance: none`: the first record that cannot be corrected stops the service, before
//! anything of it is written.
//!
//! What lies before it in its partition was finished with it, and is delivered first. So whoever
//! sets the offset behind that record loses no other one, and whoever mends the cause does not have
//! the model asked again.

use std::sync::Arc;

use aligner_pipeline::{Delivery, DeliveryError, Outbound, OutputKind, PartitionEpoch, Sink};
use aligner_records::{
    MESSAGE_HEADER, OFFSET_HEADER, PARTITION_HEADER, REASON_HEADER, TOPIC_HEADER,
};

use crate::config::Tolerance;

/// A sink that delivers no dead letter where none is tolerated.
#[derive(Debug)]
pub struct Tolerant<K> {
    sink: K,
    tolerance: Tolerance,
}

impl<K> Tolerant<K> {
    /// Wraps a sink.
    pub fn new(sink: K, tolerance: Tolerance) -> Self {
        Self { sink, tolerance }
    }
}

impl<K: Sink> Sink for Tolerant<K> {
    async fn deliver(
        &mut self,
        deliveries: Vec<Delivery>,
    ) -> Result<Vec<Arc<PartitionEpoch>>, DeliveryError> {
        if self.tolerance == Tolerance::All {
            return self.sink.deliver(deliveries).await;
        }
        let Tolerated {
            deliveries,
            places,
            cause,
        } = tolerated(deliveries);
        let mut delivered: Vec<_> = deliveries
            .iter()
            .map(|delivery| (Arc::clone(&delivery.partition), delivery.outputs.len()))
            .collect();
        let ended = if deliveries.is_empty() {
            Vec::new()
        } else {
            let answer = self.sink.deliver(deliveries).await;
            answer.map_err(|error| in_place(error, &places))?
        };
        delivered.retain(|(partition, _)| !ended.contains(partition));
        match cause {
            Some(cause) if delivered.is_empty() => Err(DeliveryError::Stopped(cause)),
            Some(cause) => Err(DeliveryError::StoppedWithin { delivered, cause }),
            None => Ok(ended),
        }
    }

    async fn close(self) {
        self.sink.close().await;
    }
}

/// What may be delivered of a call.
struct Tolerated {
    deliveries: Vec<Delivery>,
    /// Where each of them stands in the call.
    places: Vec<usize>,
    /// Why nothing can be delivered after them.
    cause: Option<String>,
}

/// Cuts each delivery before its first dead letter.
fn tolerated(deliveries: Vec<Delivery>) -> Tolerated {
    let mut found = Tolerated {
        deliveries: Vec::with_capacity(deliveries.len()),
        places: Vec::with_capacity(deliveries.len()),
        cause: None,
    };
    for (place, mut delivery) in deliveries.into_iter().enumerate() {
        let first = delivery
            .outputs
            .iter()
            .position(|output| output.kind == OutputKind::DeadLetter);
        if let Some(first) = first {
            let letter = Arc::clone(&delivery.outputs[first]);
            found.cause.get_or_insert_with(|| cause(&letter));
            // One that begins with its dead letter is left out: a commit that does not advance its
            // partition could not be told from one that did not take place.
            let (1.., Some(offset)) = (first, letter.source_offset()) else {
                continue;
            };
            // A dead letter is all that its record has, so the cut parts no correction from its
            // pair.
            delivery.outputs.truncate(first);
            delivery.next_offset = offset;
        }
        found.places.push(place);
        found.deliveries.push(delivery);
    }
    found
}

/// An error about one of the deliveries that were passed on, as the caller counts them.
fn in_place(error: DeliveryError, places: &[usize]) -> DeliveryError {
    match error {
        DeliveryError::Refused {
            delivery,
            output,
            cause,
        } => DeliveryError::Refused {
            // A sink that miscounts shall not be taken to mean another delivery.
            delivery: places.get(delivery).copied().unwrap_or(usize::MAX),
            output,
            cause,
        },
        DeliveryError::Aborted(_)
        | DeliveryError::Stopped(_)
        | DeliveryError::StoppedWithin { .. } => error,
    }
}

fn cause(letter: &Outbound) -> String {
    let told = |key: &str| letter.header(key).unwrap_or("?");
    format!(
        "record {}-{}-{} cannot be corrected ({}: {}) and errors.tolerance is none; all before it \
         in its partition is delivered; mend or skip it, or set errors.tolerance to all",
        told(TOPIC_HEADER),
        told(PARTITION_HEADER),
        told(OFFSET_HEADER),
        told(REASON_HEADER),
        told(MESSAGE_HEADER),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use aligner_pipeline::{Header, Partition};
    use aligner_records::{DeadLetter, SourcePosition, Stage};

    use super::*;

    type Answer = Result<Vec<Arc<PartitionEpoch>>, DeliveryError>;

    /// Partition, next offset and number of outputs of each delivery.
    type Given = Vec<(i32, i64, usize)>;

    /// Keeps what it is given, and answers as it is told.
    struct Told {
        given: Arc<Mutex<Vec<Given>>>,
        answer: Answer,
    }

    impl Sink for Told {
        async fn deliver(&mut self, deliveries: Vec<Delivery>) -> Answer {
            let given = deliveries
                .iter()
                .map(|delivery| {
                    let number = delivery.partition.partition.number;
                    (number, delivery.next_offset, delivery.outputs.len())
                })
                .collect();
            self.given.lock().expect("no holder panics").push(given);
            self.answer.clone()
        }

        async fn close(self) {}
    }

    /// What a sink behind this tolerance is given, and what is answered.
    async fn delivered(
        tolerance: Tolerance,
        deliveries: Vec<Delivery>,
        answer: Answer,
    ) -> (Vec<Given>, Answer) {
        let given = Arc::<Mutex<Vec<Given>>>::default();
        let sink = Told {
            given: Arc::clone(&given),
            answer,
        };
        let answer = Tolerant::new(sink, tolerance).deliver(deliveries).await;
        let given = given.lock().expect("no holder panics").clone();
        (given, answer)
    }

    fn delivery(number: i32, next_offset: i64, outputs: Vec<Outbound>) -> Delivery {
        Delivery {
            partition: Arc::new(PartitionEpoch {
                partition: Partition {
                    topic: "answers".into(),
                    number,
                },
                epoch: 1,
            }),
            next_offset,
            outputs: outputs.into_iter().map(Arc::new).collect(),
        }
    }

    fn output(kind: OutputKind) -> Outbound {
        Outbound {
            kind,
            key: None,
            value: None,
            headers: Vec::new(),
        }
    }

    fn correction() -> Outbound {
        output(OutputKind::Correction)
    }

    fn letter(partition: i32, offset: i64) -> Outbound {
        let letter = DeadLetter {
            source: SourcePosition {
                topic: "answers".into(),
                partition,
                offset,
            },
            logged_at: None,
            event_id: None,
            upstream_model: None,
            stage: Stage::ValueConverter,
            reason: "invalid_json",
            message: "no JSON".to_owned(),
        };
        // The record was a dead letter once, and says where it lay then.
        let own = Header {
            key: OFFSET_HEADER.to_owned(),
            value: Some("7".into()),
        };
        let ours = letter
            .headers("test", 0)
            .into_iter()
            .map(|(key, value)| Header {
                key,
                value: Some(value.into()),
            });
        Outbound {
            headers: [own].into_iter().chain(ours).collect(),
            ..output(OutputKind::DeadLetter)
        }
    }

    /// Three partitions: with a dead letter at 100 in the midst, without one, and with one at 5
    /// first.
    fn three() -> Vec<Delivery> {
        let corrected = [correction(), output(OutputKind::Pair), correction()];
        let in_the_midst = [letter(0, 100), correction(), letter(0, 102)];
        vec![
            delivery(0, 103, corrected.into_iter().chain(in_the_midst).collect()),
            delivery(1, 7, vec![correction()]),
            delivery(2, 9, vec![letter(2, 5), correction()]),
        ]
    }

    /// Partitions and numbers of the outputs that were delivered before it stopped, and why it did.
    fn stopped(answer: Answer) -> (Vec<(i32, usize)>, String) {
        match answer {
            Err(DeliveryError::Stopped(cause)) => (Vec::new(), cause),
            Err(DeliveryError::StoppedWithin { delivered, cause }) => {
                let delivered = delivered
                    .iter()
                    .map(|(partition, outputs)| (partition.partition.number, *outputs))
                    .collect();
                (delivered, cause)
            }
            other => panic!("not stopped: {other:?}"),
        }
    }

    #[tokio::test]
    async fn what_lies_before_a_record_that_is_not_tolerated_is_delivered_and_then_it_stops() {
        let (given, answer) = delivered(Tolerance::None, three(), Ok(Vec::new())).await;
        assert_eq!(given, [vec![(0, 100, 3), (1, 7, 1)]]);
        let (delivered, cause) = stopped(answer);
        assert_eq!(delivered, [(0, 3), (1, 1)]);
        let expected = "record answers-0-100 cannot be corrected (invalid_json: no JSON)";
        assert!(cause.starts_with(expected), "{cause}");
    }

    #[tokio::test]
    async fn what_had_ended_before_such_a_record_is_not_said_to_be_delivered() {
        let ended = |which: &[usize]| {
            let three = three();
            let ended = which.iter().map(|at| Arc::clone(&three[*at].partition));
            Ok(ended.collect())
        };
        for (gone, expected) in [(vec![0], vec![(1, 1)]), (vec![0, 1], vec![])] {
            let (_, answer) = delivered(Tolerance::None, three(), ended(&gone)).await;
            let (delivered, cause) = stopped(answer);
            assert_eq!(delivered, expected);
            assert!(cause.starts_with("record answers-0-100 "), "{cause}");
        }
    }

    #[tokio::test]
    async fn a_partition_that_begins_with_such_a_record_is_left_as_it_is() {
        let last = three().pop().into_iter().collect();
        let (given, answer) = delivered(Tolerance::None, last, Ok(Vec::new())).await;
        assert_eq!(given, Vec::<Given>::new());
        let (delivered, cause) = stopped(answer);
        assert!(delivered.is_empty(), "{delivered:?}");
        assert!(cause.starts_with("record answers-2-5 "), "{cause}");
    }

    #[tokio::test]
    async fn a_delivery_that_fails_before_such_a_record_is_told_and_tried_again() {
        let aborted = Err(DeliveryError::Aborted("told to".to_owned()));
        let (_, answer) = delivered(Tolerance::None, three(), aborted).await;
        assert!(
            matches!(&answer, Err(DeliveryError::Aborted(cause)) if cause == "told to"),
            "{answer:?}"
        );
        let refused = Err(DeliveryError::Refused {
            delivery: 0,
            output: 2,
            cause: "too large".to_owned(),
        });
        // The one that is left out counts for the caller.
        let mut deliveries = three();
        deliveries.rotate_right(1);
        let (given, answer) = delivered(Tolerance::None, deliveries, refused).await;
        assert_eq!(given, [vec![(0, 100, 3), (1, 7, 1)]]);
        assert!(
            matches!(
                &answer,
                Err(DeliveryError::Refused {
                    delivery: 1,
                    output: 2,
                    ..
                })
            ),
            "{answer:?}"
        );
    }

    #[tokio::test]
    async fn what_is_tolerated_is_delivered_whole() {
        let whole = vec![(0, 103, 6), (1, 7, 1), (2, 9, 2)];
        let (given, answer) = delivered(Tolerance::All, three(), Ok(Vec::new())).await;
        assert_eq!(given, [whole]);
        answer.expect("nothing stops it");
        let good = vec![delivery(1, 7, vec![correction()])];
        let (given, answer) = delivered(Tolerance::None, good, Ok(Vec::new())).await;
        assert_eq!(given, [vec![(1, 7, 1)]]);
        answer.expect("nothing stops it");
    }
}
