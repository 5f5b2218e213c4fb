//! Sends what has a reason back, in transactions that say how far they came.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use aligner_evaluation::render::harmless_line;
use aligner_kafka::{
    Addressed, BatchError, BatchWriter, Decisions, Positions, Scan, StartError, TopicRecord,
};
use aligner_pipeline::OpenedLetter;
use aligner_records::SourcePosition;
use anyhow::anyhow;
use indicatif::ProgressBar;

use super::{Letters, marks::Marks};
use crate::{commands, signals::INTERRUPTED, stderr::tell};

/// Most records in a transaction. Without transactions each is told of by itself.
const MOST_RECORDS: usize = 500;
/// So many go one by one well within a transaction's time, also where a request takes 50 ms.
const MOST_ONE_BY_ONE: usize = 64;
/// Most bytes in a transaction; a record may be larger.
const MOST_BYTES: usize = 4 << 20;

/// A record that goes back.
struct Chosen {
    record: Addressed,
    /// Where it was read.
    source: SourcePosition,
    /// Where its letter lies: partition and offset.
    letter: (i32, i64),
}

/// What becomes of a record of the dead-letter topic.
enum Choice {
    /// The record of this letter goes back.
    Send(Chosen),
    /// It would, and cannot.
    LeaveOut(SourcePosition, &'static str),
    /// It is another connector's, has another reason, or is no letter.
    Pass,
}

/// What was done so far.
#[derive(Default)]
struct Tally {
    sent: u64,
    left_out: u64,
    topics: BTreeSet<String>,
}

/// What is written next.
#[derive(Default)]
struct Batch {
    records: Vec<Chosen>,
    bytes: usize,
    /// Whether a letter of the reason was read since the last one, so that a mark says something.
    has_news: bool,
}

/// A reason that is being replayed.
pub struct Sending<'a> {
    letters: &'a Letters,
    reason: &'a str,
    scan: Scan,
    writer: BatchWriter,
    decisions: Decisions,
    marks: Marks<'a>,
    /// Up to where it was looked for marks.
    looked: Positions,
    /// Partitions that their topics do not have any more.
    gone: BTreeSet<(String, i32)>,
    tally: Tally,
    bar: ProgressBar,
}

impl<'a> Sending<'a> {
    /// Claims the reason: whoever else replays it is fenced.
    pub fn begin(letters: &'a Letters, reason: &'a str, again: bool) -> anyhow::Result<Self> {
        let (connection, interrupted) = (&letters.connection, &letters.interrupted);
        let writer = BatchWriter::claim(connection, &format!("replay-{reason}"))?;
        // Once the id is ours, nobody else writes marks; and those that are there are seen once no transaction,
        // whoever's it is, lies before them.
        let decisions = Decisions::of(connection, letters.topic())?;
        decisions.wait(interrupted)?;
        let (overview, looked) = letters.overview()?;
        letters.check(reason, again, &overview)?;
        let there = overview.replayed(reason);
        let begin = if again {
            Positions::new()
        } else {
            there.clone()
        };
        let scan = letters.scan(&begin, interrupted)?;
        let bar = commands::progress_bar(None);
        bar.set_message("replaying");
        Ok(Self {
            letters,
            reason,
            writer,
            decisions,
            marks: Marks::new(
                &connection.name,
                reason,
                letters.topic(),
                scan.positions(),
                there,
            ),
            scan,
            looked,
            gone: BTreeSet::new(),
            tally: Tally::default(),
            bar,
        })
    }

    /// Sends records, so many at most.
    pub fn run(mut self, limit: u64) -> anyhow::Result<ExitCode> {
        self.send(limit).map_err(|error| {
            let sent = self.tally.sent;
            anyhow!(
                "{error}; {sent} records were sent before, and the next call goes on behind them"
            )
        })?;
        self.bar.finish_and_clear();
        self.tell()
    }

    fn send(&mut self, limit: u64) -> Result<(), BatchError> {
        let most = if self.writer.is_transactional() {
            MOST_RECORDS
        } else {
            1
        };
        let mut batch = Batch::default();
        loop {
            let chosen = self.tally.sent + batch.records.len() as u64;
            let record = if chosen >= limit {
                None
            } else {
                match self.scan.read() {
                    // What was read is written all the same.
                    Err(StartError::GivenUp) => None,
                    read => read?,
                }
            };
            let is_last = record.is_none();
            match record.map(|record| self.choose(record)) {
                Some(Choice::Send(chosen)) => {
                    self.bar.inc(1);
                    batch.bytes += chosen.record.bytes();
                    batch.records.push(chosen);
                    batch.has_news = true;
                }
                Some(Choice::LeaveOut(source, why)) => {
                    self.leave_out(&source, why);
                    batch.has_news = true;
                }
                Some(Choice::Pass) | None => {}
            }
            let is_full = batch.records.len() >= most || batch.bytes >= MOST_BYTES;
            if batch.has_news && (is_full || is_last) {
                let batch = std::mem::take(&mut batch);
                self.write(batch.records, self.scan.positions())?;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// Whether a letter of this reason goes back, and as what.
    fn choose(&self, record: TopicRecord) -> Choice {
        let place = (record.partition, record.offset);
        let Some(letter) = OpenedLetter::open(record.key, record.value, record.headers) else {
            return Choice::Pass;
        };
        if letter.reason != self.reason || letter.connector != self.letters.connection.name {
            return Choice::Pass;
        }
        let source = letter.source;
        if !self.letters.corrects(&source.topic) {
            return Choice::LeaveOut(source, "topics.answers does not list its topic");
        }
        let Some(record) = letter.record else {
            return Choice::LeaveOut(
                source,
                "its dead letter has no room for it, see aligner.value_omitted there; it lies at that \
                 position as long as the topic keeps it",
            );
        };
        let record = Addressed {
            topic: source.topic.to_string(),
            partition: source.partition,
            key: record.key,
            value: record.value,
            headers: record.headers,
        };
        Choice::Send(Chosen {
            record,
            source,
            letter: place,
        })
    }

    fn leave_out(&mut self, source: &SourcePosition, why: &str) {
        self.tally.left_out += 1;
        let line = harmless_line(&format!("{source}: {why}"));
        self.bar.suspend(|| tell!("left out: {line}"));
    }

    /// Writes records, and marks that all before these positions is done. One that its topic does not take is left
    /// out by name, and holds no other back: what is refused together goes again in halves, and the last of these
    /// one by one.
    fn write(&mut self, records: Vec<Chosen>, positions: Positions) -> Result<(), BatchError> {
        let mut left = vec![(records, false)];
        while let Some((records, one_by_one)) = left.pop() {
            let mut records = self.without_gone(records);
            let is_last = left.is_empty();
            if records.is_empty() && !is_last {
                continue;
            }
            let reached = if is_last {
                positions.clone()
            } else {
                self.marks
                    .behind(records.iter().map(|chosen| chosen.letter))
            };
            self.writer.send_one_by_one(one_by_one);
            if self.writer.is_spent() {
                self.claim_again()?;
            }
            let addressed: Vec<_> = records.iter().map(|chosen| &chosen.record).collect();
            match self.writer.write(&addressed, &self.marks.of(&reached)) {
                Ok(()) => {
                    self.tally.sent += records.len() as u64;
                    let topics = records.into_iter().map(|chosen| chosen.record.topic);
                    self.tally.topics.extend(topics);
                    self.marks.written(reached);
                }
                Err(BatchError::RefusedTogether(_)) if records.len() > MOST_ONE_BY_ONE => {
                    let second = records.split_off(records.len() / 2);
                    left.extend([(second, false), (records, false)]);
                }
                Err(BatchError::RefusedTogether(_)) => left.push((records, true)),
                Err(BatchError::Refused { index, cause }) => {
                    let refused = records.remove(index);
                    self.leave_out(&refused.source, &cause);
                    left.push((records, one_by_one));
                }
                Err(BatchError::NoPartition { topic, partition })
                    if self.gone.insert((topic.clone(), partition)) =>
                {
                    left.push((records, one_by_one));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Those of partitions that are there.
    fn without_gone(&mut self, records: Vec<Chosen>) -> Vec<Chosen> {
        let mut there = Vec::with_capacity(records.len());
        for chosen in records {
            let Addressed {
                topic, partition, ..
            } = &chosen.record;
            if self.gone.contains(&(topic.clone(), *partition)) {
                let (topic, partition) = (topic.clone(), *partition);
                let gone = BatchError::NoPartition { topic, partition };
                self.leave_out(&chosen.source, &gone.to_string());
            } else {
                there.push(chosen);
            }
        }
        there
    }

    /// Has another producer, after a batch of which something may still reach brokers. That fences another call
    /// which began since, and what it did is not to be done again.
    fn claim_again(&mut self) -> Result<(), BatchError> {
        self.writer.claim_again()?;
        // What was read is written, whoever interrupts.
        let nobody = Arc::new(AtomicBool::new(false));
        self.decisions.wait(&nobody)?;
        let (found, looked) = self.letters.look(&self.looked, &nobody)?;
        self.looked = looked;
        if self.marks.are_from_another(&found.replayed(self.reason)) {
            let cause = "another process does the same, and was stopped";
            return Err(BatchError::Unfinished(cause.to_owned()));
        }
        Ok(())
    }

    /// The end of a call, for people.
    fn tell(&self) -> anyhow::Result<ExitCode> {
        let Tally {
            sent,
            left_out,
            topics,
        } = &self.tally;
        let is_interrupted = self.letters.interrupted.load(Ordering::Relaxed);
        let mut text = format!("{sent} records of reason {} sent again", self.reason);
        if !topics.is_empty() {
            let topics: Vec<_> = topics.iter().map(String::as_str).collect();
            text.push_str(&format!(" to {}", topics.join(", ")));
        }
        if *left_out > 0 {
            text.push_str(&format!("; {left_out} left out, see above"));
        }
        if is_interrupted {
            text.push_str("; interrupted: the next call goes on behind them");
        }
        writeln!(io::stdout(), "{text}").map_err(commands::unprinted)?;
        Ok(match (is_interrupted, left_out) {
            (true, _) => ExitCode::from(INTERRUPTED),
            (false, 0) => ExitCode::SUCCESS,
            // Whoever called it shall look.
            (false, _) => ExitCode::FAILURE,
        })
    }
}
