//! `show`: corrections that were written before, for people; no model is loaded, and no broker asked.
//!
//! Lines come from files or from a pipe, whose writer may be a consumer that never ends: each is shown as
//! soon as it is there. A line that is no correction is told of on stderr, and keeps no other from being
//! shown.

use std::{
    io::{self, BufReader, BufWriter, IsTerminal},
    path::{Path, PathBuf},
    process::ExitCode,
};

use aligner_records::Disposition;
use anyhow::{anyhow, bail};

use super::{
    Unread, Usage, beginning,
    files::Named,
    line::{Input, MAX_LINE_BYTES, read_line},
    outlet::{Outlet, Unwritten},
    shown::{Look, Shown},
};
use crate::{cli, diff::Paint};

/// Runs the command.
pub fn run(args: &cli::Show) -> anyhow::Result<ExitCode> {
    let shows_unchanged = args.only.contains(&Disposition::Unchanged);
    let mut show = Show {
        output: Outlet::new("stdout".to_owned(), Box::new(BufWriter::new(io::stdout()))),
        look: Look::of_records(Paint::of_stdout(), shows_unchanged),
        only: &args.only,
        is_whole: true,
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
    Ok(if show.is_whole {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

struct Show<'a> {
    output: Outlet,
    look: Look,
    /// Whatever became of the answers, if it is empty.
    only: &'a [Disposition],
    /// Whether every line was a correction so far.
    is_whole: bool,
}

impl Show<'_> {
    fn all_of(&mut self, path: &Path) -> anyhow::Result<()> {
        let (name, input) = open(path)?;
        let (first, mut input) = beginning::look(input);
        let shown = path.display().to_string();
        let file = if shown == "-" { "FILE" } else { &shown };
        if let Some(fault) = beginning::unlike_lines(&first, false, file, "show") {
            return Err(Usage(format!("{name}: {fault}")).into());
        }
        let mut number: u64 = 0;
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
                eprintln!("{name}: line {number}: {cause}");
            }
        }
        if !holds_lines {
            eprintln!("warning: {name} holds no lines");
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
        let shown = match Shown::read(line) {
            Ok(shown) => shown,
            Err(cause) => return Ok(Err(cause)),
        };
        if self.only.is_empty() || self.only.contains(&shown.disposition) {
            let text = shown.text(self.look);
            self.output.line(text.as_bytes()).map_err(unwritten)?;
        }
        Ok(Ok(()))
    }
}

/// An input, and how messages call it.
fn open(path: &Path) -> anyhow::Result<(String, Input)> {
    if path.as_os_str() == "-" {
        let stdin: Input = Box::new(BufReader::new(io::stdin()));
        return Ok(("stdin".to_owned(), stdin));
    }
    let file = Named::new("FILE", path).open()?;
    Ok((path.display().to_string(), Box::new(BufReader::new(file))))
}

/// No failure where whoever reads along has seen enough.
fn unwritten(error: Unwritten) -> anyhow::Error {
    if error.is_unread() {
        return Unread.into();
    }
    anyhow!("{error}")
}
