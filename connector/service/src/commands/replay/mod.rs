//! `replay`: records of dead letters go back to where they were read, once their cause is mended.
//!
//! Without a reason it writes nothing, and shows which reasons there are and what waits. With one, each
//! record goes to its own topic and partition with the key, value and headers that it had. How far that came is
//! written with the records, by reason, as [`marks`] beside the letters: in one transaction, so that another call
//! goes on from there whatever ended the one before. It stops where the dead letters end as it begins; what
//! becomes a dead letter again meanwhile is for the next call.

mod marks;
mod overview;

use std::{
    io::{self, Write},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use aligner_evaluation::render::harmless_line;
use aligner_kafka::{
    Addressed, BatchError, BatchWriter, Connection, Positions, Scan, StartError, TopicRecord,
};
use aligner_pipeline::OpenedLetter;
use aligner_records::SourcePosition;
use anyhow::{anyhow, bail};
use tokio::runtime::Runtime;

use self::{marks::Marks, overview::Overview};
use crate::{
    cli, commands, serve,
    signals::{self, INTERRUPTED},
    stderr::tell,
    telemetry,
};

/// Most records in a transaction. Without transactions each is told of by itself.
const MOST_RECORDS: usize = 500;
/// Most bytes in one; a record may be larger.
const MOST_BYTES: usize = 4 << 20;

/// Runs the command.
pub fn run(args: &cli::Replay) -> anyhow::Result<ExitCode> {
    if args.limit == Some(0) {
        let message = "--limit 0 leaves nothing to send: give 1 or more, or no limit";
        return Err(commands::Usage(message.to_owned()).into());
    }
    let settings = commands::settings(&args.run)?;
    telemetry::install_quiet();
    let letters = Letters {
        connection: serve::connection(&settings)?,
        runtime: commands::runtime()?,
        interrupted: signals::interrupt_flag()?,
    };
    let outcome = match &args.reason {
        None => letters.show(),
        Some(reason) => letters.send(reason, args),
    };
    match outcome {
        Err(error) if error.downcast_ref() == Some(&StartError::GivenUp) => {
            Ok(ExitCode::from(INTERRUPTED))
        }
        outcome => outcome,
    }
}

/// Dead letters of a connector, and who may interrupt us.
struct Letters {
    connection: Connection,
    runtime: Runtime,
    interrupted: Arc<AtomicBool>,
}

/// What becomes of a record of the dead-letter topic.
enum Choice {
    /// The record of this position goes back.
    Send(SourcePosition, Addressed),
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
}

impl Tally {
    fn leave_out(&mut self, source: &SourcePosition, why: &str) {
        self.left_out += 1;
        tell!("left out: {}", harmless_line(&format!("{source}: {why}")));
    }
}

/// What is written next.
#[derive(Default)]
struct Batch {
    records: Vec<(SourcePosition, Addressed)>,
    bytes: usize,
    /// Whether a letter of the reason was read since the last one, so that a mark says something.
    has_news: bool,
}

impl Letters {
    fn topic(&self) -> &str {
        &self.connection.topics.dead_letters
    }

    fn scan(&self, positions: &Positions) -> Result<Scan, StartError> {
        let handle = self.runtime.handle();
        let (connection, topic) = (&self.connection, self.topic());
        Scan::begin(connection, topic, positions, handle, &self.interrupted)
    }

    /// Reads all that there is.
    fn overview(&self) -> Result<Overview, StartError> {
        let mut scan = self.scan(&Positions::new())?;
        let bar = commands::progress_bar(None);
        bar.set_message("reading");
        let mut overview = Overview::new(&self.connection.name);
        while let Some(record) = scan.read()? {
            bar.inc(1);
            overview.add(record);
        }
        bar.finish_and_clear();
        Ok(overview)
    }

    /// Which letters there are, by reason.
    fn show(&self) -> anyhow::Result<ExitCode> {
        let text = self.overview()?.text(self.topic());
        // Not println!, which panics where nobody reads it.
        write!(io::stdout(), "{text}").map_err(commands::unprinted)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Refuses what cannot be meant, before anything is claimed or written.
    fn check(&self, reason: &str, overview: &Overview) -> anyhow::Result<()> {
        let reasons: Vec<_> = overview.reasons().collect();
        if !reasons.contains(&reason) {
            let there = match reasons[..] {
                [] => "there are none".to_owned(),
                _ => format!("there are {}", harmless_line(&reasons.join(", "))),
            };
            return Err(commands::Usage(format!(
                "--reason {reason:?}: no dead letter of connector {} in {} has it; {there}",
                self.connection.name,
                self.topic()
            ))
            .into());
        }
        let answers = &self.connection.topics.answers;
        let listed = |topic: &&str| answers.iter().any(|answers| answers == topic);
        let strange: Vec<_> = overview
            .topics(reason)
            .filter(|topic| !listed(topic))
            .collect();
        if !strange.is_empty() {
            bail!(
                "dead letters of reason {reason} came from {}, which topics.answers does not list, so that \
                 nobody would correct their records there; list it, as by --set topics.answers=a,b, to send \
                 them all the same",
                harmless_line(&strange.join(", "))
            );
        }
        Ok(())
    }

    /// Sends what has this reason.
    fn send(&self, reason: &str, args: &cli::Replay) -> anyhow::Result<ExitCode> {
        self.check(reason, &self.overview()?)?;
        let mut writer = BatchWriter::claim(&self.connection, &format!("replay-{reason}"))?;
        // Once the id is ours: what another process wrote is decided by then, and it writes no more.
        let replayed = self.overview()?.replayed(reason);
        let positions = if args.again {
            Positions::new()
        } else {
            replayed.clone()
        };
        let mut scan = self.scan(&positions)?;
        let mut marks = Marks {
            connector: &self.connection.name,
            reason,
            topic: self.topic(),
            marked: scan.positions(),
            there: replayed,
        };
        let bar = commands::progress_bar(None);
        bar.set_message("replaying");
        let most = if writer.is_transactional() {
            MOST_RECORDS
        } else {
            1
        };
        let mut tally = Tally::default();
        let mut batch = Batch::default();
        let limit = args.limit.unwrap_or(u64::MAX);
        loop {
            let chosen = tally.sent + batch.records.len() as u64;
            let record = if chosen >= limit {
                None
            } else {
                match scan.read() {
                    // What was read is written all the same.
                    Err(StartError::GivenUp) => None,
                    read => read?,
                }
            };
            let is_last = record.is_none();
            match record.map(|record| self.choose(record, reason)) {
                Some(Choice::Send(source, record)) => {
                    bar.inc(1);
                    batch.bytes += record.bytes();
                    batch.records.push((source, record));
                    batch.has_news = true;
                }
                Some(Choice::LeaveOut(source, why)) => {
                    bar.suspend(|| tally.leave_out(&source, why));
                    batch.has_news = true;
                }
                Some(Choice::Pass) | None => {}
            }
            let is_full = batch.records.len() >= most || batch.bytes >= MOST_BYTES;
            if batch.has_news && (is_full || is_last) {
                let batch = std::mem::take(&mut batch);
                self.write(&mut writer, batch, &mut marks, scan.positions(), &mut tally)
                    .map_err(|error| unsent(&error, tally.sent))?;
            }
            if is_last {
                break;
            }
        }
        bar.finish_and_clear();
        self.tell(reason, &tally)
    }

    /// Writes a batch, and marks that everything before these positions is done. A record that its topic does not
    /// take is left out by name, so that it holds no other back.
    fn write(
        &self,
        writer: &mut BatchWriter,
        batch: Batch,
        marks: &mut Marks<'_>,
        positions: Positions,
        tally: &mut Tally,
    ) -> Result<(), BatchError> {
        let told = marks.of(&positions);
        let (mut sources, mut records): (Vec<_>, Vec<_>) = batch.records.into_iter().unzip();
        loop {
            if writer.is_spent() {
                writer.claim_again()?;
                // Fences another call that began since; what it did is not to be done again.
                if self.overview()?.replayed(marks.reason) != marks.there {
                    let cause = "another process does the same, and was stopped";
                    return Err(BatchError::Unfinished(cause.to_owned()));
                }
            }
            match writer.write(&records, &told) {
                Ok(()) => break,
                Err(BatchError::RefusedTogether(_)) => {}
                Err(BatchError::Refused { index, cause }) if index < records.len() => {
                    records.remove(index);
                    tally.leave_out(&sources.remove(index), &cause);
                }
                Err(error) => return Err(error),
            }
        }
        tally.sent += records.len() as u64;
        marks.written(positions);
        Ok(())
    }

    /// Whether a letter of this reason goes back, and as what.
    fn choose(&self, record: TopicRecord, reason: &str) -> Choice {
        let Some(letter) = OpenedLetter::open(record.key, record.value, record.headers) else {
            return Choice::Pass;
        };
        if letter.reason != reason || letter.connector != self.connection.name {
            return Choice::Pass;
        }
        let source = letter.source;
        match letter.record {
            Some(record) => {
                let addressed = Addressed {
                    topic: source.topic.to_string(),
                    partition: source.partition,
                    key: record.key,
                    value: record.value,
                    headers: record.headers,
                };
                Choice::Send(source, addressed)
            }
            None => Choice::LeaveOut(
                source,
                "its dead letter has no room for it, see aligner.value_omitted there; it lies at that \
                 position as long as the topic keeps it",
            ),
        }
    }

    /// The end of a call, for people.
    fn tell(&self, reason: &str, tally: &Tally) -> anyhow::Result<ExitCode> {
        let Tally { sent, left_out } = tally;
        let to = self.connection.topics.answers.join(", ");
        let is_interrupted = self.interrupted.load(Ordering::Relaxed);
        let mut text = format!("{sent} records of reason {reason} sent again to {to}");
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

/// Why it ended before its end, and what the next call does.
fn unsent(error: &BatchError, sent: u64) -> anyhow::Error {
    anyhow!("{error}; {sent} records were sent before, and the next call goes on behind them")
}
