//! The binary `aligner-connector`: commands, configuration, wiring, HTTP, telemetry.
//!
//! The only crate that reads the environment and configuration files, and the only one that knows
//! all the others. Text goes to stdout, progress and logs to stderr; exit codes are 0 done,
//! 1 failed, 2 wrong usage or configuration, 130 interrupted (`correct`, `train`, `demo`, `replay`).

pub mod cli;
mod codecs;
mod commands;
pub mod config;
mod connections;
mod diff;
mod http;
mod hub;
mod login;
mod models;
mod panics;
mod serve;
mod signals;
mod stderr;
mod telemetry;
mod tolerance;

#[cfg(all(feature = "cuda", feature = "cuda-training"))]
compile_error!("candle links CUDA, the engine loads it: choose the feature cuda or cuda-training");

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use cli::{Cli, Command};
use stderr::tell;

/// Runs the command of the command line to its exit code.
pub fn main() -> ExitCode {
    panics::report_without_texts();
    // Kept, because they tell a flag that was written from one that has its default.
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let outcome = match cli.command {
        Command::Demo(args) => commands::demo::run(&args),
        Command::Run(args) => commands::run::run(&args),
        Command::Correct(args) => commands::correct::run(&args, &matches),
        Command::Show(args) => commands::show::run(&args),
        Command::Replay(args) => commands::replay::run(&args),
        Command::Validate(args) => commands::validate::run(&args),
        Command::Bench(args) => commands::bench::run(&args),
        Command::Train(args) => commands::train::run(&args),
        Command::Eval(args) => commands::eval::run(&args),
    };
    match outcome {
        Ok(code) => code,
        Err(error) if error.is::<commands::Unread>() => ExitCode::SUCCESS,
        Err(error) => {
            tell!("error: {error:#}");
            exit_code(&error)
        }
    }
}

/// 2 for what only other words or settings can mend, else 1.
fn exit_code(error: &anyhow::Error) -> ExitCode {
    let usage = error.is::<config::Problems>() || error.is::<commands::Usage>();
    ExitCode::from(if usage { 2 } else { 1 })
}
