//! Which records of each partition are finished, and which prefix of them may be delivered.
//!
//! Records finish out of order; offsets must not. Each tenure of a partition keeps its records in
//! the order in which they were read, and only the finished *prefix* is handed out for delivery: a
//! crash then replays exactly what was not delivered. Results stay here until a delivery is
//! settled, so an aborted one is tried again without asking the model again. When a tenure ends,
//! all that it held is forgotten, and results that arrive later fall on no ground.
//!
//! Nothing here counts with offsets: control records, aborted and compacted ranges leave gaps.
//! Deliberately absent: time limits, I/O, and what a result is.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use tokio::time::Instant;

use crate::source::PartitionEpoch;

/// Names one admitted record. It outlives the record: using it later does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Ticket {
    tenure: u64,
    sequence: u64,
}

/// The finished prefix of one tenure, as it is handed out for delivery.
#[derive(Debug, Clone)]
pub(crate) struct Portion {
    tenure: u64,
    /// The tenure.
    pub partition: Arc<PartitionEpoch>,
    /// Records in it.
    pub records: usize,
    /// Offset of the next record to read once they are delivered.
    pub next_offset: i64,
}

/// How much one delivery may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    /// Most records.
    pub records: usize,
    /// Most bytes, input and output; a single record may exceed it.
    pub bytes: u64,
}

/// What the tracker holds, over all tenures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Records that are not finished.
    pub unfinished: usize,
    /// Records that are finished, prefix or not.
    pub finished: usize,
    /// Records that could be delivered now.
    pub ready: usize,
    /// Bytes of all of them, and of their results.
    pub bytes: u64,
    /// Bytes of the results among them.
    pub outputs: u64,
    /// Tokens of those that are not finished.
    pub tokens: u64,
}

/// Why a record is not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unadmitted {
    /// Its tenure has ended: whoever has the partition now reads it.
    Ended,
    /// Its tenure has read on, to this offset.
    Behind(i64),
}

struct Slot<T> {
    offset: i64,
    admitted: Instant,
    /// Of the record, and of its result.
    bytes: u64,
    /// Of the result alone.
    outputs: u64,
    tokens: u64,
    result: Option<T>,
}

struct Tenure<T> {
    partition: Arc<PartitionEpoch>,
    /// Sequence number of the first slot.
    base: u64,
    slots: VecDeque<Slot<T>>,
    /// Length of the finished prefix.
    prefix: usize,
    /// Highest offset ever admitted.
    last_offset: Option<i64>,
}

impl<T> Tenure<T> {
    fn slot(&mut self, ticket: Ticket) -> Option<(usize, &mut Slot<T>)> {
        let index = usize::try_from(ticket.sequence.checked_sub(self.base)?).ok()?;
        Some((index, self.slots.get_mut(index)?))
    }
}

/// Tracks all tenures.
pub(crate) struct Offsets<T> {
    tenures: BTreeMap<u64, Tenure<T>>,
    next_tenure: u64,
    /// The tenure of the last admitted record: records come in runs of one partition.
    recent: Option<(Arc<PartitionEpoch>, u64)>,
    /// Where the next round of portions begins, so that a budget starves no partition.
    cursor: u64,
    held: Held,
}

impl<T> Default for Offsets<T> {
    fn default() -> Self {
        Self {
            tenures: BTreeMap::new(),
            next_tenure: 0,
            recent: None,
            cursor: 0,
            held: Held::default(),
        }
    }
}

impl<T> Offsets<T> {
    /// Begins a tenure; an older one of the same partition ends.
    pub(crate) fn open(&mut self, partition: Arc<PartitionEpoch>) {
        let older: Vec<u64> = self
            .tenures
            .iter()
            .filter(|(_, tenure)| tenure.partition.partition == partition.partition)
            .map(|(id, _)| *id)
            .collect();
        for id in older {
            self.end(id);
        }
        self.tenures.insert(
            self.next_tenure,
            Tenure {
                partition,
                base: 0,
                slots: VecDeque::new(),
                prefix: 0,
                last_offset: None,
            },
        );
        self.next_tenure += 1;
    }

    /// Takes in the next record of a tenure.
    ///
    /// # Errors
    ///
    /// If the tenure has ended, or if the record lies no further than the last one: a source that reads
    /// back must not make two results of one record, and its tenure could not commit another one at an
    /// old offset. One whose log was made anew begins another tenure.
    pub(crate) fn admit(
        &mut self,
        partition: &Arc<PartitionEpoch>,
        offset: i64,
        bytes: u64,
        now: Instant,
    ) -> Result<Ticket, Unadmitted> {
        let id = self.find(partition).ok_or(Unadmitted::Ended)?;
        let tenure = self.tenures.get_mut(&id).ok_or(Unadmitted::Ended)?;
        if let Some(last) = tenure.last_offset
            && offset <= last
        {
            return Err(Unadmitted::Behind(last));
        }
        tenure.last_offset = Some(offset);
        let sequence = tenure.base + tenure.slots.len() as u64;
        tenure.slots.push_back(Slot {
            offset,
            admitted: now,
            bytes,
            outputs: 0,
            tokens: 0,
            result: None,
        });
        self.held.unfinished += 1;
        self.held.bytes += bytes;
        Ok(Ticket {
            tenure: id,
            sequence,
        })
    }

    /// Notes what an unfinished record will cost the Aligner.
    pub(crate) fn weigh(&mut self, ticket: Ticket, tokens: u64) {
        if let Some(tenure) = self.tenures.get_mut(&ticket.tenure)
            && let Some((_, slot)) = tenure.slot(ticket)
            && slot.result.is_none()
        {
            self.held.tokens = self.held.tokens - slot.tokens + tokens;
            slot.tokens = tokens;
        }
    }

    /// Whether a record is still ours to finish.
    pub(crate) fn awaits(&self, ticket: Ticket) -> bool {
        self.tenures.get(&ticket.tenure).is_some_and(|tenure| {
            ticket
                .sequence
                .checked_sub(tenure.base)
                .and_then(|index| tenure.slots.get(usize::try_from(index).ok()?))
                .is_some_and(|slot| slot.result.is_none())
        })
    }

    /// Keeps the result of a record; `bytes` is what it holds beyond the record itself. The
    /// result comes back if nobody waits for it: the tenure ended, or it was finished before.
    pub(crate) fn finish(&mut self, ticket: Ticket, result: T, bytes: u64) -> Result<(), T> {
        let Some(tenure) = self.tenures.get_mut(&ticket.tenure) else {
            return Err(result);
        };
        let Some((index, slot)) = tenure.slot(ticket) else {
            return Err(result);
        };
        if slot.result.is_some() {
            return Err(result);
        }
        slot.result = Some(result);
        slot.bytes += bytes;
        slot.outputs = bytes;
        self.held.bytes += bytes;
        self.held.outputs += bytes;
        self.held.tokens -= slot.tokens;
        self.held.unfinished -= 1;
        self.held.finished += 1;
        if index == tenure.prefix {
            let grown = tenure
                .slots
                .iter()
                .skip(index)
                .take_while(|slot| slot.result.is_some())
                .count();
            tenure.prefix += grown;
            self.held.ready += grown;
        }
        Ok(())
    }

    /// The finished prefixes, within a budget; of the tenures in `only`, if given.
    ///
    /// Nothing is removed: see [`Offsets::settle`]. Each call begins with another tenure.
    pub(crate) fn portions(
        &mut self,
        budget: Budget,
        only: Option<&[Arc<PartitionEpoch>]>,
    ) -> Vec<Portion> {
        let (mut records, mut bytes) = (budget.records, budget.bytes);
        let mut portions = Vec::new();
        let round = self
            .tenures
            .range(self.cursor..)
            .chain(self.tenures.range(..self.cursor));
        for (id, tenure) in round {
            if only.is_some_and(|only| !only.contains(&tenure.partition)) {
                continue;
            }
            let mut taken = 0;
            for slot in tenure.slots.iter().take(tenure.prefix.min(records)) {
                let first = taken == 0 && portions.is_empty();
                if slot.bytes > bytes && !first {
                    break;
                }
                bytes = bytes.saturating_sub(slot.bytes);
                taken += 1;
            }
            if taken == 0 {
                continue;
            }
            records -= taken;
            portions.push(Portion {
                tenure: *id,
                partition: Arc::clone(&tenure.partition),
                records: taken,
                next_offset: tenure.slots[taken - 1].offset + 1,
            });
        }
        if let Some(first) = portions.first() {
            self.cursor = first.tenure + 1;
        }
        portions
    }

    /// Begins the next round of portions where this one began.
    pub(crate) fn begin_again(&mut self, portions: &[Portion]) {
        if let Some(first) = portions.first() {
            self.cursor = first.tenure;
        }
    }

    /// Whether any of these tenures has a finished prefix.
    pub(crate) fn is_ready(&self, partitions: &[Arc<PartitionEpoch>]) -> bool {
        self.tenures
            .values()
            .any(|tenure| tenure.prefix > 0 && partitions.contains(&tenure.partition))
    }

    /// The results of a portion, in offset order; none if its tenure has ended.
    pub(crate) fn results(&self, portion: &Portion) -> impl Iterator<Item = &T> {
        self.tenures
            .get(&portion.tenure)
            .into_iter()
            .flat_map(|tenure| tenure.slots.iter())
            .take(portion.records)
            .filter_map(|slot| slot.result.as_ref())
    }

    /// Lets `change` make another result of the one at `index` of a portion.
    pub(crate) fn revise(&mut self, portion: &Portion, index: usize, change: impl FnOnce(T) -> T) {
        if let Some(tenure) = self.tenures.get_mut(&portion.tenure)
            && let Some(slot) = tenure.slots.get_mut(index)
        {
            slot.result = slot.result.take().map(change);
        }
    }

    /// Forgets the first `records` of a portion, which were delivered. Does nothing if the tenure has
    /// ended.
    pub(crate) fn settle(&mut self, portion: &Portion, records: usize) {
        let Some(tenure) = self.tenures.get_mut(&portion.tenure) else {
            return;
        };
        assert!(
            records <= tenure.prefix,
            "only a finished prefix is handed out, and it never shrinks while its tenure lasts"
        );
        for slot in tenure.slots.drain(..records) {
            self.held.bytes -= slot.bytes;
            self.held.outputs -= slot.outputs;
        }
        tenure.base += records as u64;
        tenure.prefix -= records;
        self.held.finished -= records;
        self.held.ready -= records;
    }

    /// Ends tenures; what they held is forgotten.
    pub(crate) fn forget(&mut self, partitions: &[Arc<PartitionEpoch>]) {
        let ended: Vec<u64> = self
            .tenures
            .iter()
            .filter(|(_, tenure)| partitions.contains(&tenure.partition))
            .map(|(id, _)| *id)
            .collect();
        for id in ended {
            self.end(id);
        }
    }

    /// Totals over all tenures.
    pub(crate) fn held(&self) -> Held {
        self.held
    }

    /// Tenures that last.
    pub(crate) fn tenures(&self) -> usize {
        self.tenures.len()
    }

    /// When the oldest undelivered record was admitted.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.tenures
            .values()
            .filter_map(|tenure| tenure.slots.front())
            .map(|slot| slot.admitted)
            .min()
    }

    fn find(&mut self, partition: &Arc<PartitionEpoch>) -> Option<u64> {
        if let Some((recent, id)) = &self.recent
            && Arc::ptr_eq(recent, partition)
        {
            return Some(*id);
        }
        let id = self
            .tenures
            .iter()
            .find(|(_, tenure)| tenure.partition == *partition)
            .map(|(id, _)| *id)?;
        self.recent = Some((Arc::clone(partition), id));
        Some(id)
    }

    fn end(&mut self, id: u64) {
        let Some(tenure) = self.tenures.remove(&id) else {
            return;
        };
        self.recent = None;
        self.held.ready -= tenure.prefix;
        for slot in &tenure.slots {
            self.held.bytes -= slot.bytes;
            self.held.outputs -= slot.outputs;
            if slot.result.is_some() {
                self.held.finished -= 1;
            } else {
                self.held.unfinished -= 1;
                self.held.tokens -= slot.tokens;
            }
        }
    }
}

#[cfg(test)]
#[path = "offsets_tests.rs"]
mod tests;
