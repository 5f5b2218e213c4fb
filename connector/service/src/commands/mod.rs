//! One command per file.

pub mod bench;
pub mod correct;
pub mod demo;
pub mod eval;
pub mod run;
pub mod train;
pub mod validate;

use std::{
    fmt, io,
    time::{SystemTime, UNIX_EPOCH},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    cli,
    config::{self, Layers, Problems, Settings},
};

/// The command cannot work as it was written; exit code 2.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::error::Error for Usage {}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Settings of the service: file, then environment, then `--set`.
fn settings(args: &cli::Run) -> Result<Settings, Problems> {
    let layers = Layers {
        file: args.config.clone(),
        environment: std::env::vars_os().collect(),
        flags: args.set.clone(),
    };
    config::read(&layers)
}

/// Settings of a command that takes a model from its flags, and what they do not say from the
/// environment: the server of a remote one, above all.
fn model(args: &cli::Model) -> Result<config::Aligner, Problems> {
    let mut flags = vec![
        ("aligner.model".to_owned(), args.model.clone()),
        ("aligner.dtype".to_owned(), args.dtype.clone()),
        ("aligner.device".to_owned(), args.device.clone()),
        (
            "aligner.max_new_tokens".to_owned(),
            args.max_new_tokens.to_string(),
        ),
    ];
    flags.extend(
        args.profile
            .clone()
            .map(|profile| ("aligner.profile".to_owned(), profile)),
    );
    flags.extend(
        args.threads
            .map(|threads| ("aligner.threads".to_owned(), threads.to_string())),
    );
    let environment = std::env::vars_os()
        .filter(|(name, _)| name.to_string_lossy().starts_with("ALIGNER__ALIGNER__"))
        .collect();
    Ok(config::read(&Layers {
        file: None,
        environment,
        flags,
    })?
    .aligner)
}

/// The runtime of a command.
fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
}

/// A bar on stderr, invisible where that is no terminal; a spinner without a `total`.
fn progress_bar(total: Option<u64>) -> ProgressBar {
    // indicatif draws nothing where stderr is no terminal.
    let (bar, template) = match total {
        Some(total) => (
            ProgressBar::new(total),
            "{msg} {bar:40} {pos}/{len} {per_sec} {eta} left",
        ),
        None => (ProgressBar::new_spinner(), "{msg} {pos} done {per_sec}"),
    };
    bar.with_style(ProgressStyle::with_template(template).expect("the template is well formed"))
}

/// Epoch milliseconds.
fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// What a second signal asks for, with the exit code that the command has for it. Nothing is lost by
/// it: offsets were not committed, and checkpoints are written whole.
#[expect(
    clippy::disallowed_methods,
    reason = "whoever signals twice does not want to wait for a drain"
)]
pub fn end_at_once(code: u8) -> ! {
    std::process::exit(code.into())
}
