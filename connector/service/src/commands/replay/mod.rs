//! `replay`: records of dead letters go back to where they were read, once their cause is mended.
//!
//! Without a reason it writes nothing, and shows which reasons there are and what waits. With one, each
//! record goes to its own topic and partition with the key, value and headers that it had ([`sending`]). How far
//! that came is written with the records, by reason, as [`marks`] beside the letters: in one transaction, so that
//! another call goes on from there whatever ended the one before. It stops where the dead letters end as it
//! begins; what becomes a dead letter again meanwhile is for the next call.

mod marks;
mod overview;
mod sending;

use std::{
    io::{self, Write},
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
};

use aligner_evaluation::render::harmless_line;
use aligner_kafka::{Connection, Positions, Scan, StartError, preflight};
use anyhow::bail;

use self::{overview::Overview, sending::Sending};
use crate::{
    cli, commands, serve,
    signals::{self, INTERRUPTED},
    telemetry,
};

/// Runs the command.
pub fn run(args: &cli::Replay) -> anyhow::Result<ExitCode> {
    if args.limit == Some(0) {
        let message = "--limit 0 leaves nothing to send: give 1 or more, or no limit";
        return Err(commands::Usage(message.to_owned()).into());
    }
    let settings = commands::settings(&args.run)?;
    telemetry::install_quiet();
    let mut connection = serve::connection(&settings)?;
    // That is for the connector to do.
    connection.topics.create = false;
    let letters = Letters {
        connection,
        interrupted: signals::interrupt_flag()?,
    };
    let runtime = commands::runtime()?;
    let outcome = preflight(&letters.connection, runtime.handle(), &letters.interrupted)
        .map_err(anyhow::Error::from)
        .and_then(|()| match &args.reason {
            None => letters.show(),
            Some(reason) => letters.send(reason, args),
        });
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
    interrupted: Arc<AtomicBool>,
}

impl Letters {
    fn topic(&self) -> &str {
        &self.connection.topics.dead_letters
    }

    /// Reads from somewhere on.
    fn scan(&self, from: &Positions, given_up: &Arc<AtomicBool>) -> Result<Scan, StartError> {
        Scan::begin(&self.connection, self.topic(), from, given_up)
    }

    /// What there is from somewhere on, and up to where that was.
    fn look(
        &self,
        from: &Positions,
        given_up: &Arc<AtomicBool>,
    ) -> Result<(Overview, Positions), StartError> {
        let mut scan = self.scan(from, given_up)?;
        let bar = commands::progress_bar(None);
        bar.set_message("reading");
        let mut overview = Overview::new(&self.connection.name);
        while let Some(record) = scan.read()? {
            bar.inc(1);
            overview.add(record);
        }
        bar.finish_and_clear();
        Ok((overview, scan.positions()))
    }

    /// All that there is.
    fn overview(&self) -> Result<(Overview, Positions), StartError> {
        self.look(&Positions::new(), &self.interrupted)
    }

    /// Which letters there are, by reason.
    fn show(&self) -> anyhow::Result<ExitCode> {
        let text = self.overview()?.0.text(self.topic());
        // Not println!, which panics where nobody reads it.
        write!(io::stdout(), "{text}").map_err(commands::unprinted)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Sends what has this reason.
    fn send(&self, reason: &str, args: &cli::Replay) -> anyhow::Result<ExitCode> {
        // Before anything is claimed or written.
        self.check(reason, args.again, &self.overview()?.0)?;
        Sending::begin(self, reason, args.again)?.run(args.limit.unwrap_or(u64::MAX))
    }

    /// Refuses what cannot be meant.
    fn check(&self, reason: &str, again: bool, overview: &Overview) -> anyhow::Result<()> {
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
        let topics = overview.topics(reason, again);
        let strange: Vec<_> = topics.filter(|topic| !self.corrects(topic)).collect();
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

    /// Whether the connector reads a topic.
    fn corrects(&self, topic: &str) -> bool {
        let answers = &self.connection.topics.answers;
        answers.iter().any(|answers| answers == topic)
    }
}
