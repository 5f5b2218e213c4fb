//! `validate`: what is wrong with a configuration, all at once, without opening a connection.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use crate::{
    cli, commands,
    config::{self, Problems},
};

/// Runs the command.
pub fn run(args: &cli::Run) -> anyhow::Result<ExitCode> {
    let settings = commands::settings(args)?;
    if let Some(problem) = config::no_tokenizer(&settings.aligner) {
        return Err(Problems(vec![problem]).into());
    }
    let from = args.config.as_ref().map_or_else(
        || "the defaults".to_owned(),
        |path| path.display().to_string(),
    );
    // Not println!, which panics where nobody reads it.
    writeln!(
        io::stdout(),
        "{from}: valid. Connector {} on {} reads {} as group {}, corrects with {}, and writes {}, {} and {}.",
        settings.name.0,
        settings.kafka.bootstrap_servers,
        settings.topics.answers.join(", "),
        settings.group_id(),
        settings.aligner.model,
        settings.topics.corrections,
        settings.topics.pairs,
        settings.topics.dead_letters,
    )
    .map_err(commands::unprinted)?;
    Ok(ExitCode::SUCCESS)
}
