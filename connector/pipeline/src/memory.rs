//! A log in memory, with a source and a sink on it that fail as they are told to.
//!
//! It keeps the promises that the pipeline builds on, and nothing more: a delivery is atomic, a
//! tenure that has ended delivers nothing, and a partition is read again from where it was last
//! committed. Everything else may go wrong, by a seeded draw, so that a run can be repeated:
//! deliveries abort, partitions are revoked and lost and come back, outputs are refused.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep, sleep_until, timeout_at},
};

use crate::{
    sink::{Delivery, DeliveryError, Outbound, Sink},
    source::{
        Flow, Header, Partition, PartitionEpoch, Source, SourceError, SourceEvent, SourceRecord,
    },
};

/// What goes wrong, and how often. Probabilities are between 0 and 1, of each event or delivery.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Faults {
    /// Seed of all draws.
    pub seed: u64,
    /// A partition is revoked, with time for a last delivery.
    pub revoke: f64,
    /// A partition is lost, without.
    pub lose: f64,
    /// A delivery is aborted.
    pub abort: f64,
    /// Outputs with a larger value are refused.
    pub max_value_bytes: usize,
    /// Longest time of a delivery, and between the source's events; drawn.
    pub latency: Duration,
    /// Time that a revoked partition has.
    pub revoke_timeout: Duration,
    /// Most records of one event; drawn.
    pub max_records: usize,
}

impl Default for Faults {
    /// None.
    fn default() -> Self {
        Self {
            seed: 0,
            revoke: 0.0,
            lose: 0.0,
            abort: 0.0,
            max_value_bytes: usize::MAX,
            latency: Duration::ZERO,
            revoke_timeout: Duration::from_secs(1),
            max_records: 500,
        }
    }
}

/// A record that was delivered, and the partition of its input.
#[derive(Debug, Clone)]
pub struct Delivered {
    /// Partition of the input record.
    pub partition: Partition,
    /// What was written.
    pub output: Arc<Outbound>,
}

/// A topic of answer events, and the outputs that were made of it. Clones share it.
#[derive(Debug, Clone)]
pub struct MemoryLog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    topic: Arc<str>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    partitions: Vec<PartitionState>,
    outputs: Vec<Delivered>,
    last_epoch: u64,
}

#[derive(Debug, Default)]
struct PartitionState {
    records: Vec<Stored>,
    next_offset: i64,
    committed: i64,
    owner: Option<Arc<PartitionEpoch>>,
}

#[derive(Debug, Clone)]
struct Stored {
    offset: i64,
    key: Option<Bytes>,
    value: Option<Bytes>,
    headers: Vec<Header>,
}

impl MemoryLog {
    /// An empty topic.
    pub fn new(topic: &str, partitions: usize) -> Self {
        let state = State {
            partitions: (0..partitions).map(|_| PartitionState::default()).collect(),
            outputs: Vec::new(),
            last_epoch: 0,
        };
        Self(Arc::new(Shared {
            topic: topic.into(),
            state: Mutex::new(state),
            changed: Notify::new(),
        }))
    }

    /// Appends a record; returns its offset.
    pub fn append(
        &self,
        partition: usize,
        key: Option<Bytes>,
        value: Option<Bytes>,
        headers: Vec<Header>,
    ) -> i64 {
        let mut state = self.state();
        let partition = &mut state.partitions[partition];
        let offset = partition.next_offset;
        partition.next_offset += 1;
        partition.records.push(Stored {
            offset,
            key,
            value,
            headers,
        });
        drop(state);
        self.0.changed.notify_waiters();
        offset
    }

    /// Leaves a gap in a partition's offsets, as control records and compaction do.
    pub fn skip(&self, partition: usize, offsets: i64) {
        self.state().partitions[partition].next_offset += offsets;
    }

    /// A source that reads all partitions from where they were committed. An earlier source, and
    /// whatever was read from it, has lost them.
    pub fn source(&self, faults: Faults) -> MemorySource {
        for partition in &mut self.state().partitions {
            partition.owner = None;
        }
        MemorySource {
            log: self.clone(),
            faults,
            draw: Draw(faults.seed ^ 0x5ee_d0f5),
            owned: Vec::new(),
            away: (0..self.state().partitions.len())
                .map(|partition| (partition, Instant::now()))
                .collect(),
            revoking: None,
            next_at: None,
            flow: Flow::Resume,
            stopped: false,
        }
    }

    /// A sink that commits to this log.
    pub fn sink(&self, faults: Faults) -> MemorySink {
        MemorySink {
            log: self.clone(),
            faults,
            draw: Draw(faults.seed ^ 0x51_4c0),
        }
    }

    /// Everything delivered so far, in order.
    pub fn outputs(&self) -> Vec<Delivered> {
        self.state().outputs.clone()
    }

    /// Where a partition would be read from.
    pub fn committed(&self, partition: usize) -> i64 {
        self.state().partitions[partition].committed
    }

    /// Whether every record is behind its partition's committed offset.
    pub fn is_delivered(&self) -> bool {
        self.state().partitions.iter().all(|partition| {
            partition
                .records
                .last()
                .is_none_or(|record| record.offset < partition.committed)
        })
    }

    /// Waits until every record is behind its partition's committed offset.
    pub async fn delivered(&self) {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.is_delivered() {
                return;
            }
            changed.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Random numbers that are the same everywhere (SplitMix64).
#[derive(Debug, Clone)]
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn chance(&mut self, probability: f64) -> bool {
        ((self.next() >> 11) as f64) < probability * (1_u64 << 53) as f64
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn duration(&mut self, max: Duration) -> Duration {
        let micros = max.as_micros() as usize;
        Duration::from_micros(self.below(micros + 1) as u64)
    }
}

/// Reads a [`MemoryLog`].
#[derive(Debug)]
pub struct MemorySource {
    log: MemoryLog,
    faults: Faults,
    draw: Draw,
    owned: Vec<Owned>,
    /// Partitions that are not ours, and when they come.
    away: Vec<(usize, Instant)>,
    revoking: Option<Revoking>,
    next_at: Option<Instant>,
    flow: Flow,
    stopped: bool,
}

#[derive(Debug)]
struct Owned {
    number: usize,
    epoch: Arc<PartitionEpoch>,
    /// Index of the next record to hand out.
    next: usize,
}

#[derive(Debug)]
struct Revoking {
    partitions: Vec<usize>,
    deadline: Instant,
    released: oneshot::Receiver<()>,
}

impl MemorySource {
    /// Takes partitions that have come; `None` if none has.
    fn assign(&mut self, now: Instant) -> Option<SourceEvent> {
        let mut state = self.log.state();
        let mut assigned = Vec::new();
        let owned = &mut self.owned;
        self.away.retain(|(number, when)| {
            if *when > now {
                return true;
            }
            state.last_epoch += 1;
            let epoch = Arc::new(PartitionEpoch {
                partition: Partition {
                    topic: Arc::clone(&self.log.0.topic),
                    number: i32::try_from(*number).expect("a handful of partitions"),
                },
                epoch: state.last_epoch,
            });
            let partition = &mut state.partitions[*number];
            partition.owner = Some(Arc::clone(&epoch));
            let committed = partition.committed;
            owned.push(Owned {
                number: *number,
                epoch: Arc::clone(&epoch),
                next: partition
                    .records
                    .partition_point(|record| record.offset < committed),
            });
            assigned.push(epoch);
            false
        });
        (!assigned.is_empty()).then_some(SourceEvent::Assigned(assigned))
    }

    /// Gives partitions up; they come back later.
    fn give_up(&mut self, numbers: &[usize], now: Instant) {
        let mut state = self.log.state();
        self.owned.retain(|owned| !numbers.contains(&owned.number));
        for number in numbers {
            state.partitions[*number].owner = None;
            let back = now + self.draw.duration(4 * self.faults.latency);
            self.away.push((*number, back));
        }
    }

    fn fault(&mut self, now: Instant) -> Option<SourceEvent> {
        let revoke = self.draw.chance(self.faults.revoke);
        let lose = self.draw.chance(self.faults.lose);
        if self.owned.is_empty() || !(revoke || lose) {
            return None;
        }
        let count = 1 + self.draw.below(self.owned.len());
        let numbers: Vec<usize> = (0..count)
            .map(|_| self.owned[self.draw.below(self.owned.len())].number)
            .collect();
        let partitions = self
            .owned
            .iter()
            .filter(|owned| numbers.contains(&owned.number))
            .map(|owned| Arc::clone(&owned.epoch))
            .collect();
        let numbers: Vec<usize> = self
            .owned
            .iter()
            .map(|owned| owned.number)
            .filter(|number| numbers.contains(number))
            .collect();
        if lose {
            self.give_up(&numbers, now);
            return Some(SourceEvent::Lost(partitions));
        }
        let (release, released) = oneshot::channel();
        let deadline = now + self.faults.revoke_timeout;
        self.revoking = Some(Revoking {
            partitions: numbers,
            deadline,
            released,
        });
        Some(SourceEvent::Revoking {
            partitions,
            deadline,
            release,
        })
    }

    /// The next records of some partition.
    fn read(&mut self) -> Option<SourceEvent> {
        if self.flow == Flow::Pause {
            return None;
        }
        let log = self.log.clone();
        let state = log.state();
        let first = self.draw.below(self.owned.len());
        let most = 1 + self.draw.below(self.faults.max_records);
        let count = self.owned.len();
        let owned = (0..count)
            .map(|step| (first + step) % count)
            .find(|index| {
                let owned = &self.owned[*index];
                owned.next < state.partitions[owned.number].records.len()
            })?;
        let owned = &mut self.owned[owned];
        let records = &state.partitions[owned.number].records[owned.next..];
        let records: Vec<SourceRecord> = records
            .iter()
            .take(most)
            .map(|stored| SourceRecord {
                partition: Arc::clone(&owned.epoch),
                offset: stored.offset,
                key: stored.key.clone(),
                value: stored.value.clone(),
                headers: stored.headers.clone(),
                timestamp: None,
            })
            .collect();
        owned.next += records.len();
        Some(SourceEvent::Records(records))
    }
}

impl Source for MemorySource {
    async fn next(&mut self) -> Option<Result<SourceEvent, SourceError>> {
        loop {
            if let Some(revoking) = &mut self.revoking {
                // Dropped, sent or too late: it is over.
                let _ = timeout_at(revoking.deadline, &mut revoking.released).await;
                let partitions = std::mem::take(&mut revoking.partitions);
                self.revoking = None;
                self.give_up(&partitions, Instant::now());
            }
            if let Some(next_at) = self.next_at {
                sleep_until(next_at).await;
                self.next_at = None;
            }
            if self.stopped {
                return None;
            }
            let changed = self.log.clone();
            let changed = changed.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();

            let now = Instant::now();
            let event = self
                .assign(now)
                .or_else(|| self.fault(now))
                .or_else(|| self.read());
            if let Some(event) = event {
                if self.faults.latency > Duration::ZERO {
                    self.next_at = Some(now + self.draw.duration(self.faults.latency));
                }
                return Some(Ok(event));
            }
            match self.away.iter().map(|(_, when)| *when).min() {
                Some(when) => {
                    let _ = timeout_at(when, changed).await;
                }
                None => changed.await,
            }
        }
    }

    fn flow(&mut self, flow: Flow) {
        self.flow = flow;
        self.log.0.changed.notify_waiters();
    }

    fn stop(&mut self) {
        self.stopped = true;
    }

    async fn close(self) {}
}

/// Writes to a [`MemoryLog`].
#[derive(Debug)]
pub struct MemorySink {
    log: MemoryLog,
    faults: Faults,
    draw: Draw,
}

impl Sink for MemorySink {
    async fn deliver(
        &mut self,
        deliveries: Vec<Delivery>,
    ) -> Result<Vec<Arc<PartitionEpoch>>, DeliveryError> {
        if self.faults.latency > Duration::ZERO {
            sleep(self.draw.duration(self.faults.latency)).await;
        }
        if self.draw.chance(self.faults.abort) {
            return Err(DeliveryError::Aborted("drawn".to_owned()));
        }
        for (delivery, Delivery { outputs, .. }) in deliveries.iter().enumerate() {
            let refused = outputs.iter().position(|output| {
                let bytes = output.value.as_ref().map_or(0, Bytes::len);
                bytes > self.faults.max_value_bytes
            });
            if let Some(output) = refused {
                return Err(DeliveryError::Refused {
                    delivery,
                    output,
                    cause: format!("larger than {} bytes", self.faults.max_value_bytes),
                });
            }
        }
        let mut ended = Vec::new();
        let mut state = self.log.state();
        let state = &mut *state;
        for delivery in &deliveries {
            let number = usize::try_from(delivery.partition.partition.number)
                .expect("partitions are numbered from 0");
            let partition = &mut state.partitions[number];
            if partition.owner.as_ref() != Some(&delivery.partition) {
                ended.push(Arc::clone(&delivery.partition));
                continue;
            }
            assert!(
                delivery.next_offset > partition.committed,
                "a delivery advances its partition"
            );
            partition.committed = delivery.next_offset;
            state
                .outputs
                .extend(delivery.outputs.iter().map(|output| Delivered {
                    partition: delivery.partition.partition.clone(),
                    output: Arc::clone(output),
                }));
        }
        self.log.0.changed.notify_waiters();
        Ok(ended)
    }

    async fn close(self) {}
}
