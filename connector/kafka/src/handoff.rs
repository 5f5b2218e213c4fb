//! Between the thread that polls and the pipeline that takes: records wait here.
//!
//! Putting something in always succeeds at once. What bounds the queue is its byte budget:
//! [`Handoff::room`] tells the thread how much is left of it, and [`crate::fetching`] what follows from
//! that. News about partitions overtakes records, so that a revocation is heard while a slow model keeps
//! records waiting; it takes the waiting records of its partitions with it, which nobody has seen and
//! somebody else will read.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aligner_pipeline::{Flow, PartitionEpoch, SourceError, SourceEvent, SourceRecord};
use tokio::sync::Notify;

use crate::fetching::Room;

/// What a record costs beyond its bytes.
const RECORD_OVERHEAD_BYTES: usize = 160;

/// The queue, shared between both sides.
#[derive(Debug)]
pub(crate) struct Handoff {
    state: Mutex<State>,
    filled: Notify,
    budget_bytes: usize,
}

#[derive(Debug)]
struct State {
    news: VecDeque<Result<SourceEvent, SourceError>>,
    batches: VecDeque<Batch>,
    waiting_bytes: usize,
    flow: Flow,
    /// No records come behind those that wait, which is still to be told once they are taken.
    exhausted: bool,
    /// No more records will be handed out.
    stopped: bool,
    /// The thread has ended.
    ended: bool,
}

#[derive(Debug)]
struct Batch {
    records: Vec<SourceRecord>,
    bytes: usize,
}

/// What the pipeline gets when it asks.
#[derive(Debug)]
pub(crate) enum Taken {
    Event(Result<SourceEvent, SourceError>),
    /// Nothing now; more may come.
    Empty,
    /// Nothing will ever come again.
    Finished,
}

pub(crate) fn record_bytes(record: &SourceRecord) -> usize {
    RECORD_OVERHEAD_BYTES + record.bytes()
}

impl Handoff {
    pub(crate) fn new(budget_bytes: usize) -> Self {
        Self {
            state: Mutex::new(State {
                news: VecDeque::new(),
                batches: VecDeque::new(),
                waiting_bytes: 0,
                flow: Flow::Resume,
                exhausted: false,
                stopped: false,
                ended: false,
            }),
            filled: Notify::new(),
            budget_bytes,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Counters and queues change together inside one lock and nothing between can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds records; `bytes` is the sum of their [`record_bytes`].
    pub(crate) fn put_records(&self, records: Vec<SourceRecord>, bytes: usize) {
        if records.is_empty() {
            return;
        }
        let mut state = self.state();
        if state.stopped {
            return;
        }
        state.waiting_bytes += bytes;
        state.batches.push_back(Batch { records, bytes });
        drop(state);
        self.filled.notify_one();
    }

    /// Adds news that overtakes records.
    pub(crate) fn put_news(&self, event: SourceEvent) {
        self.state().news.push_back(Ok(event));
        self.filled.notify_one();
    }

    /// Says at once that no records can be read behind those that wait. These are still to be had.
    pub(crate) fn put_unreadable(&self, error: SourceError) {
        let mut state = self.state();
        state.exhausted = true;
        state.news.push_back(Ok(SourceEvent::Unreadable(error)));
        drop(state);
        self.filled.notify_one();
    }

    /// Whether no records are wanted any more.
    pub(crate) fn is_stopped(&self) -> bool {
        self.state().stopped
    }

    /// Takes away the waiting records of these tenures.
    pub(crate) fn forget(&self, tenures: &[Arc<PartitionEpoch>]) {
        let mut state = self.state();
        let mut waiting_bytes = 0;
        for batch in &mut state.batches {
            batch
                .records
                .retain(|record| !tenures.contains(&record.partition));
            batch.bytes = batch.records.iter().map(record_bytes).sum();
            waiting_bytes += batch.bytes;
        }
        state.batches.retain(|batch| !batch.records.is_empty());
        state.waiting_bytes = waiting_bytes;
    }

    /// Nothing more will come; an error is heard at once.
    pub(crate) fn end(&self, error: Option<SourceError>) {
        let mut state = self.state();
        state.ended = true;
        if let Some(error) = error {
            state.news.push_back(Err(error));
        }
        drop(state);
        self.filled.notify_one();
    }

    /// No more records from now on, not even those that wait. News goes on: partitions may be taken
    /// while what was begun is finished, and whoever takes them should not wait for that.
    pub(crate) fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        state.batches.clear();
        state.waiting_bytes = 0;
        drop(state);
        self.filled.notify_one();
    }

    pub(crate) fn set_flow(&self, flow: Flow) {
        self.state().flow = flow;
        self.filled.notify_one();
    }

    /// How much there is room for: plenty below an eighth of the budget.
    pub(crate) fn room(&self) -> Room {
        let state = self.state();
        if state.stopped {
            Room::Closed
        } else if state.waiting_bytes >= self.budget_bytes {
            Room::None
        } else if state.waiting_bytes <= self.budget_bytes / 8 {
            Room::Plenty
        } else {
            Room::Some
        }
    }

    pub(crate) fn take(&self) -> Taken {
        let mut state = self.state();
        if let Some(event) = state.news.pop_front() {
            return Taken::Event(event);
        }
        if state.flow == Flow::Resume
            && let Some(batch) = state.batches.pop_front()
        {
            state.waiting_bytes -= batch.bytes;
            return Taken::Event(Ok(SourceEvent::Records(batch.records)));
        }
        if !state.batches.is_empty() {
            return Taken::Empty;
        }
        if mem::take(&mut state.exhausted) {
            return Taken::Event(Ok(SourceEvent::Exhausted));
        }
        if state.ended {
            Taken::Finished
        } else {
            Taken::Empty
        }
    }

    /// The next event; `None` once nothing will come. Loses nothing when dropped.
    pub(crate) async fn next(&self) -> Option<Result<SourceEvent, SourceError>> {
        loop {
            match self.take() {
                Taken::Event(event) => return Some(event),
                Taken::Finished => return None,
                // One taker, and a notification that comes before the wait is kept.
                Taken::Empty => self.filled.notified().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use aligner_pipeline::Partition;
    use bytes::Bytes;

    use super::*;

    fn tenure(number: i32, epoch: u64) -> Arc<PartitionEpoch> {
        Arc::new(PartitionEpoch {
            partition: Partition {
                topic: "answers".into(),
                number,
            },
            epoch,
        })
    }

    fn record(tenure: &Arc<PartitionEpoch>, offset: i64, bytes: usize) -> SourceRecord {
        SourceRecord {
            partition: Arc::clone(tenure),
            offset,
            key: None,
            value: Some(Bytes::from(vec![b'x'; bytes])),
            headers: Vec::new(),
            timestamp: None,
        }
    }

    fn put(handoff: &Handoff, records: Vec<SourceRecord>) {
        let bytes = records.iter().map(record_bytes).sum();
        handoff.put_records(records, bytes);
    }

    fn offsets(taken: Taken) -> Vec<i64> {
        match taken {
            Taken::Event(Ok(SourceEvent::Records(records))) => {
                records.iter().map(|record| record.offset).collect()
            }
            other => panic!("expected records, got {other:?}"),
        }
    }

    #[test]
    fn news_overtakes_records() {
        let handoff = Handoff::new(1 << 20);
        let mine = tenure(0, 1);
        put(&handoff, vec![record(&mine, 7, 10)]);
        handoff.put_news(SourceEvent::Assigned(vec![tenure(1, 2)]));
        assert!(matches!(
            handoff.take(),
            Taken::Event(Ok(SourceEvent::Assigned(_)))
        ));
        assert_eq!(offsets(handoff.take()), [7]);
        assert!(matches!(handoff.take(), Taken::Empty));
    }

    #[test]
    fn a_pause_holds_records_but_not_news() {
        let handoff = Handoff::new(1 << 20);
        let mine = tenure(0, 1);
        put(&handoff, vec![record(&mine, 7, 10)]);
        handoff.set_flow(Flow::Pause);
        handoff.put_news(SourceEvent::Lost(vec![tenure(1, 2)]));
        assert!(matches!(
            handoff.take(),
            Taken::Event(Ok(SourceEvent::Lost(_)))
        ));
        assert!(matches!(handoff.take(), Taken::Empty));
        handoff.set_flow(Flow::Resume);
        assert_eq!(offsets(handoff.take()), [7]);
    }

    #[test]
    fn a_revocation_takes_its_waiting_records_and_no_others() {
        let handoff = Handoff::new(1 << 20);
        let (leaves, stays) = (tenure(0, 1), tenure(1, 1));
        put(
            &handoff,
            vec![record(&leaves, 1, 100), record(&stays, 2, 100)],
        );
        put(&handoff, vec![record(&leaves, 3, 100)]);
        handoff.forget(&[leaves]);
        assert_eq!(
            handoff.state().waiting_bytes,
            record_bytes(&record(&stays, 2, 100))
        );
        assert_eq!(offsets(handoff.take()), [2]);
        assert_eq!(handoff.state().waiting_bytes, 0);
        assert!(matches!(handoff.take(), Taken::Empty));
    }

    #[test]
    fn there_is_no_room_from_the_budget_on_and_plenty_well_below_it() {
        let handoff = Handoff::new(8_000);
        let mine = tenure(0, 1);
        let each = record_bytes(&record(&mine, 0, 1_000));
        for offset in 0..7 {
            put(&handoff, vec![record(&mine, offset, 1_000)]);
        }
        assert!(7 * each > 8_000);
        assert_eq!(handoff.room(), Room::None);
        for _ in 0..6 {
            handoff.take();
            assert_eq!(handoff.room(), Room::Some);
        }
        handoff.take();
        assert_eq!(handoff.room(), Room::Plenty);
    }

    #[test]
    fn stopping_drops_waiting_records_and_still_tells_news() {
        let handoff = Handoff::new(1 << 20);
        let mine = tenure(0, 1);
        put(&handoff, vec![record(&mine, 7, 10)]);
        handoff.stop();
        put(&handoff, vec![record(&mine, 8, 10)]);
        assert_eq!(handoff.state().waiting_bytes, 0);
        handoff.put_news(SourceEvent::Lost(vec![mine]));
        assert!(matches!(
            handoff.take(),
            Taken::Event(Ok(SourceEvent::Lost(_)))
        ));
        assert!(matches!(handoff.take(), Taken::Empty));
        assert_eq!(handoff.room(), Room::Closed);
        handoff.end(None);
        assert!(matches!(handoff.take(), Taken::Finished));
    }

    #[test]
    fn what_cannot_be_read_is_told_at_once_and_the_records_before_it_follow() {
        let handoff = Handoff::new(1 << 20);
        put(&handoff, vec![record(&tenure(0, 1), 7, 10)]);
        handoff.put_unreadable(SourceError {
            message: "a broken batch".to_owned(),
        });
        assert!(matches!(
            handoff.take(),
            Taken::Event(Ok(SourceEvent::Unreadable(_)))
        ));
        handoff.put_news(SourceEvent::Lost(vec![tenure(1, 2)]));
        assert!(matches!(
            handoff.take(),
            Taken::Event(Ok(SourceEvent::Lost(_)))
        ));
        assert_eq!(offsets(handoff.take()), [7]);
        assert!(matches!(
            handoff.take(),
            Taken::Event(Ok(SourceEvent::Exhausted))
        ));
        assert!(matches!(handoff.take(), Taken::Empty));
        // We are still a member of the group, which goes on.
        handoff.put_news(SourceEvent::Lost(vec![tenure(0, 1)]));
        assert!(matches!(
            handoff.take(),
            Taken::Event(Ok(SourceEvent::Lost(_)))
        ));
        handoff.end(None);
        assert!(matches!(handoff.take(), Taken::Finished));
    }

    #[test]
    fn an_error_is_heard_before_the_records_that_still_wait() {
        let handoff = Handoff::new(1 << 20);
        put(&handoff, vec![record(&tenure(0, 1), 7, 10)]);
        handoff.end(Some(SourceError {
            message: "fenced".to_owned(),
        }));
        assert!(matches!(handoff.take(), Taken::Event(Err(_))));
        assert_eq!(offsets(handoff.take()), [7]);
        assert!(matches!(handoff.take(), Taken::Finished));
    }
}
