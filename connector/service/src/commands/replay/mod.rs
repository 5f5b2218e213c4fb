//! `replay`: records of dead letters go back to where they were read, once their cause is mended.
//!
//! Without a reason it writes nothing, and shows which reasons there are and what waits. With one, each
//! record goes to its own topic and partition with the key, value and headers that it had, exactly once
//! where `kafka.delivery` says so: how far it came is committed with the records, by reason, so that
//! another call goes on from there. It stops where the dead letters end as it begins; what becomes a dead
//! letter again meanwhile is for the next call.

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
use aligner_kafka::{Connection, Copy, CopyError, Copying, StartError, TopicRecord};
use aligner_pipeline::OpenedLetter;
use anyhow::anyhow;
use tokio::runtime::Runtime;

use self::overview::Overview;
use crate::{
    cli, commands, serve,
    signals::{self, INTERRUPTED},
    stderr::tell,
    telemetry,
};

/// Most records in a transaction.
const MOST_RECORDS: usize = 500;
/// Most bytes in one; a record may be larger.
const MOST_BYTES: usize = 4 << 20;
/// So many letters that are left out are told of one by one.
const MOST_TOLD: u64 = 10;

/// Runs the command.
pub fn run(args: &cli::Replay) -> anyhow::Result<ExitCode> {
    if args.limit == Some(0) {
        let message = "--limit 0 leaves nothing to send: give 1 or more, or no limit";
        return Err(commands::Usage(message.to_owned()).into());
    }
    if let Some(fault) = args.reason.as_deref().and_then(reason_fault) {
        return Err(commands::Usage(fault).into());
    }
    let settings = commands::settings(&args.run)?;
    telemetry::install_quiet();
    let runtime = commands::runtime()?;
    let connection = serve::connection(&settings)?;
    let interrupted = signals::interrupt_flag()?;
    let outcome = match &args.reason {
        None => show(&connection, &runtime, &interrupted, &called(args)),
        Some(reason) => send(args, reason, &connection, &runtime, &interrupted),
    };
    match outcome {
        Ok(()) if !interrupted.load(Ordering::Relaxed) => Ok(ExitCode::SUCCESS),
        Ok(()) => Ok(ExitCode::from(INTERRUPTED)),
        Err(error) => match error.downcast_ref() {
            Some(StartError::GivenUp) => Ok(ExitCode::from(INTERRUPTED)),
            _ => Err(error),
        },
    }
}

/// The purpose of copying, which group and transactional id are named after.
fn purpose(reason: &str) -> String {
    format!("replay-{reason}")
}

/// Reasons are words, and name a group.
fn reason_fault(reason: &str) -> Option<String> {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    (reason.is_empty() || !reason.chars().all(is_word)).then(|| {
        format!(
            "--reason {reason:?} is none: give one word as `replay` shows them without --reason, such \
             as missing_question"
        )
    })
}

/// The command line without what is to be added.
fn called(args: &cli::Replay) -> String {
    let mut line = "aligner-connector replay".to_owned();
    if let Some(path) = &args.run.config {
        line.push_str(&format!(" --config {}", path.display()));
    }
    for (key, value) in &args.run.set {
        line.push_str(&format!(" --set {key}={value}"));
    }
    line
}

/// Which letters there are, by reason.
fn show(
    connection: &Connection,
    runtime: &Runtime,
    interrupted: &Arc<AtomicBool>,
    called: &str,
) -> anyhow::Result<()> {
    let topic = &connection.topics.dead_letters;
    let mut scan = aligner_kafka::scan(connection, topic, runtime.handle(), interrupted)?;
    let bar = commands::progress_bar(None);
    bar.set_message("reading");
    let mut overview = Overview::new(&connection.name);
    while let Some(record) = scan.read()? {
        if interrupted.load(Ordering::Relaxed) {
            return Ok(());
        }
        bar.inc(1);
        overview.add(&record, |reason| {
            aligner_kafka::copied(connection, topic, &purpose(reason))
        })?;
    }
    bar.finish_and_clear();
    let text = overview.text(topic, called);
    // Not println!, which panics where nobody reads it.
    write!(io::stdout(), "{text}").map_err(commands::unprinted)
}

/// What becomes of a record of the dead-letter topic.
enum Choice {
    /// Its record goes back.
    Send(Copy),
    /// It would, and cannot.
    LeaveOut(String),
    /// It is another connector's, has another reason, or is no letter.
    Pass,
}

/// Whether a letter of this reason goes back, and as what.
fn choose(record: TopicRecord, reason: &str, connection: &Connection) -> Choice {
    let Some(letter) = OpenedLetter::open(record.key, record.value, record.headers) else {
        return Choice::Pass;
    };
    if letter.reason != reason || letter.connector != connection.name {
        return Choice::Pass;
    }
    let source = letter.source;
    if !connection
        .topics
        .answers
        .iter()
        .any(|topic| **topic == *source.topic)
    {
        return Choice::LeaveOut(format!(
            "{source}: its topic is none of topics.answers, so that nobody would correct it there"
        ));
    }
    match letter.record {
        Some(record) => Choice::Send(Copy {
            topic: source.topic.to_string(),
            partition: source.partition,
            key: record.key,
            value: record.value,
            headers: record.headers,
        }),
        None => Choice::LeaveOut(format!(
            "{source}: its dead letter has no room for it, see aligner.value_omitted there; it lies \
             at that position as long as the topic keeps it"
        )),
    }
}

/// What was done so far.
#[derive(Default)]
struct Tally {
    chosen: u64,
    sent: u64,
    left_out: u64,
}

/// Sends what has this reason.
fn send(
    args: &cli::Replay,
    reason: &str,
    connection: &Connection,
    runtime: &Runtime,
    interrupted: &Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let topic = &connection.topics.dead_letters;
    let (purpose, handle) = (purpose(reason), runtime.handle());
    let mut copying = Copying::begin(connection, topic, &purpose, args.again, handle, interrupted)?;
    let bar = commands::progress_bar(None);
    bar.set_message("replaying");
    let mut tally = Tally::default();
    let mut copies = Vec::new();
    let mut bytes = 0;
    loop {
        let enough = args.limit.is_some_and(|limit| tally.chosen >= limit)
            || interrupted.load(Ordering::Relaxed);
        let record = if enough { None } else { copying.read()? };
        let ended = record.is_none();
        if let Some(record) = record {
            bar.inc(1);
            match choose(record, reason, connection) {
                Choice::Send(copy) => {
                    tally.chosen += 1;
                    bytes += size(&copy);
                    copies.push(copy);
                }
                Choice::LeaveOut(why) => {
                    tally.left_out += 1;
                    if tally.left_out <= MOST_TOLD {
                        bar.suspend(|| tell!("left out: {}", harmless_line(&why)));
                    }
                }
                Choice::Pass => {}
            }
        }
        if ended || copies.len() >= MOST_RECORDS || bytes >= MOST_BYTES {
            copying.write(&copies).map_err(|error| {
                bar.finish_and_clear();
                unsent(error, &copies, tally.sent, args.again)
            })?;
            tally.sent += copies.len() as u64;
            copies.clear();
            bytes = 0;
        }
        if ended {
            break;
        }
    }
    bar.finish_and_clear();
    if tally.left_out > MOST_TOLD {
        tell!("left out: and {} more", tally.left_out - MOST_TOLD);
    }
    let text = told(&tally, reason, connection);
    writeln!(io::stdout(), "{text}").map_err(commands::unprinted)
}

fn size(copy: &Copy) -> usize {
    let bytes = |part: &Option<bytes::Bytes>| part.as_ref().map_or(0, bytes::Bytes::len);
    bytes(&copy.key) + bytes(&copy.value)
}

/// The end of a call, for people.
fn told(tally: &Tally, reason: &str, connection: &Connection) -> String {
    let Tally { sent, left_out, .. } = tally;
    let to = connection.topics.answers.join(", ");
    let others = match left_out {
        0 => String::new(),
        _ => format!("; {left_out} left out, see above"),
    };
    if *sent == 0 && *left_out == 0 {
        return format!(
            "no dead letter of reason {reason} waits; `replay` without --reason shows those that do"
        );
    }
    format!("{sent} records of reason {reason} sent again to {to}{others}")
}

/// Why it ended before its end, and what the next call does.
fn unsent(error: CopyError, copies: &[Copy], sent: u64, again: bool) -> anyhow::Error {
    let next = if again {
        "the next call without --again goes on behind them"
    } else {
        "the next call goes on behind them"
    };
    let which = match &error {
        CopyError::Refused { index, .. } => {
            let key = copies[*index].key.as_deref();
            let key = key.map_or("none".into(), String::from_utf8_lossy);
            format!(" (its key: {})", harmless_line(&key))
        }
        CopyError::Start(_) | CopyError::Unfinished(_) => String::new(),
    };
    anyhow!("{error}{which}; {sent} records were sent before, and {next}")
}
