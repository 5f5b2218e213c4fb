//! `show`: corrections that were written before, for people; no model is loaded, and no broker asked.
//!
//! Lines come from files or from a pipe, whose writer may be a consumer that never ends: each is shown as
//! soon as it is there. A line that is no correction is told of on stderr, and keeps no other from being
//! shown.

use std::{
    collections::BTreeMap,
    io::{self, BufReader, BufWriter, IsTerminal},
    path::{Path, PathBuf},
    process::ExitCode,
};

use aligner_evaluation::render::harmless_line;
use aligner_records::Disposition;
use anyhow::{anyhow, bail};

use super::{
    Unread, Usage, beginning,
    files::Named,
    line::{Input, MAX_LINE_BYTES, read_line},
    line_output::{LineOutput, Unwritten},
    shown::{Look, Shown},
};
use crate::{cli, diff::Paint, stderr::tell};

/// How messages call it.
const STDIN: &str = "stdin";
/// So many lines of an input that are no corrections are told of by their numbers.
const MOST_LINES_TOLD: u64 = 10;
/// So many reasons are counted: those of records are few, and those of anything else may be any text.
const MOST_REASONS_TOLD: usize = 50;

/// Runs the command.
pub fn run(args: &cli::Show) -> anyhow::Result<ExitCode> {
    let shows_unchanged = args.only.contains(&Disposition::Unchanged);
    let mut show = Show {
        output: LineOutput::new("stdout".to_owned(), Box::new(BufWriter::new(io::stdout()))),
        look: Look::of_records(Paint::of_stdout(), shows_unchanged),
        only: &args.only,
        reasons: &args.reason,
        is_whole: true,
        corrections: 0,
        shown: 0,
        by_reason: BTreeMap::new(),
    };
    let stdin = [PathBuf::from("-")];
    let paths = if args.files.is_empty() {
        if io::stdin().is_terminal() {
            return Err(Usage(
                "nothing to show: name files of corrections, or send some to stdin, as \
                 kafka-console-consumer.sh prints them"
                    .to_owned(),
            )
            .into());
        }
        &stdin[..]
    } else {
        &args.files[..]
    };
    for path in paths {
        show.all_of(path)?;
    }
    show.sum_up();
    Ok(if show.is_whole {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

struct Show<'a> {
    output: LineOutput,
    look: Look,
    /// Whatever became of the answers, if it is empty.
    only: &'a [Disposition],
    /// Whatever the reason, if it is empty.
    reasons: &'a [String],
    /// Whether every input was there, and every line a correction so far.
    is_whole: bool,
    corrections: u64,
    shown: u64,
    /// Corrections that one of the dispositions became of, whatever reason was asked for; of no more than
    /// [`MOST_REASONS_TOLD`] reasons.
    by_reason: BTreeMap<String, u64>,
}

impl Show<'_> {
    fn all_of(&mut self, path: &Path) -> anyhow::Result<()> {
        let (name, input) = match open(path) {
            Ok(opened) => opened,
            Err(error) => {
                // Others are shown all the same.
                self.is_whole = false;
                tell!("error: {}", harmless_line(&format!("{error:#}")));
                return Ok(());
            }
        };
        let (first, mut input) = beginning::look(input);
        let file = if name == STDIN { "FILE" } else { &name };
        if let Some(fault) = beginning::unlike_lines(&first, false, file, "show") {
            return Err(Usage(format!("{name}: {fault}")).into());
        }
        let (mut number, mut unlike): (u64, u64) = (0, 0);
        let mut holds_lines = false;
        loop {
            number += 1;
            let line = match read_line(&mut input) {
                Ok(Some(line)) => line,
                Ok(None) => break,
                Err(error) => bail!("{name}: reading line {number}: {error}"),
            };
            let line = line.trim_ascii();
            if line.is_empty() {
                continue;
            }
            holds_lines = true;
            if let Err(cause) = self.line(line)? {
                self.is_whole = false;
                unlike += 1;
                if unlike <= MOST_LINES_TOLD {
                    tell!("{name}: line {number}: {cause}");
                }
            }
        }
        if unlike > MOST_LINES_TOLD {
            let more = unlike - MOST_LINES_TOLD;
            tell!("{name}: and {more} more lines that are no corrections");
        }
        if !holds_lines {
            tell!("warning: {name} holds no lines");
        }
        Ok(())
    }

    /// Shows a line, unless its disposition was not asked for; the inner error says why it is no
    /// correction.
    fn line(&mut self, line: &[u8]) -> anyhow::Result<Result<(), String>> {
        if line.len() > MAX_LINE_BYTES {
            let cause = "it is longer than 64 MiB, the most that show takes";
            return Ok(Err(cause.to_owned()));
        }
        let shown = match Shown::read(line).and_then(Shown::whole) {
            Ok(shown) => shown,
            Err(cause) => return Ok(Err(cause)),
        };
        self.corrections += 1;
        let is_of_disposition = self.only.is_empty() || self.only.contains(&shown.disposition);
        let reason = shown.reason.as_deref();
        if is_of_disposition && let Some(reason) = reason {
            self.count(reason);
        }
        if is_of_disposition && self.is_asked_for(reason) {
            self.shown += 1;
            let text = shown.text(self.look);
            self.output.line(text.as_bytes()).map_err(unwritten)?;
        }
        Ok(Ok(()))
    }

    fn is_asked_for(&self, reason: Option<&str>) -> bool {
        let is_it = |asked: &String| reason == Some(asked);
        self.reasons.is_empty() || self.reasons.iter().any(is_it)
    }

    fn count(&mut self, reason: &str) {
        if let Some(found) = self.by_reason.get_mut(reason) {
            *found += 1;
        } else if self.by_reason.len() < MOST_REASONS_TOLD {
            self.by_reason.insert(reason.to_owned(), 1);
        }
    }

    /// Where nothing was shown, whether that is because nothing was asked for that there is.
    /// What was not shown is told of, too: a filtered view is a part of something.
    fn sum_up(&self) {
        if self.corrections > 0 && self.shown == 0 {
            let only: Vec<_> = self.only.iter().map(|only| only.as_str()).collect();
            let mut asked = vec![only.join(" or "), harmless_line(&self.reasons.join(" or "))];
            asked.retain(|words| !words.is_empty());
            let asked = asked.join(" and ");
            // A reason that is misspelt must not look like nothing to see.
            let there = match self.counts(|_| true) {
                counts if counts.is_empty() || self.reasons.is_empty() => String::new(),
                counts => format!("; there are {}", counts.join(", ")),
            };
            tell!("of {} corrections none is {asked}{there}", self.corrections);
        } else if self.shown < self.corrections {
            let counts = self.counts(|reason| self.is_asked_for(Some(reason)));
            let counts = super::in_brackets(&counts);
            tell!("{} of {} corrections{counts}", self.shown, self.corrections);
        }
    }

    /// How many there are of some of the reasons.
    fn counts(&self, of: impl Fn(&str) -> bool) -> Vec<String> {
        let found = self.by_reason.iter();
        let found = found.map(|(reason, found)| (*found, reason.as_str()));
        super::by_count(found.filter(|(_, reason)| of(reason)))
    }
}

/// An input, and how messages call it.
fn open(path: &Path) -> anyhow::Result<(String, Input)> {
    if path.as_os_str() == "-" {
        let stdin: Input = Box::new(BufReader::new(io::stdin()));
        return Ok((STDIN.to_owned(), stdin));
    }
    let file = Named::new("FILE", path).open()?;
    let name = harmless_line(&path.display().to_string());
    Ok((name, Box::new(BufReader::new(file))))
}

/// No failure where whoever reads along has seen enough.
fn unwritten(error: Unwritten) -> anyhow::Error {
    if error.is_unread() {
        return Unread.into();
    }
    anyhow!("{error}")
}
