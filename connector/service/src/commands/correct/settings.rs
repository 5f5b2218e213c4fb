//! Settings of `correct`: those of `run`, from the same file, the same variables and the flags, the
//! later winning.
//!
//! Only sections with a meaning for a file are taken; brokers, topics and their secrets may be out
//! of reach where somebody tries a configuration.

use aligner_pipeline::Settings as Limits;
use clap::{ArgMatches, parser::ValueSource};

use crate::{
    cli,
    commands::{self, line::MAX_LINE_BYTES},
    config::{self, Layers, Problems, Settings},
};

/// `service` has the time that `pipeline` is held against.
const SECTIONS: [&str; 4] = ["input", "aligner", "pipeline", "service"];

/// Reads them; `matches` are those of the whole command line, from which `args` were made.
///
/// # Errors
/// With every problem there is; what a flag says wrong has the name of the flag.
pub fn read(args: &cli::Correct, matches: &ArgMatches) -> Result<Settings, Problems> {
    let flags = written(&args.model, matches);
    let layers = Layers {
        file: args.config.clone(),
        environment: std::env::vars_os().collect(),
        flags,
    };
    config::read_sections(&layers, &SECTIONS).map_err(|problems| {
        commands::by_flags(problems, &layers.flags, ", or give a --config that has it")
    })
}

/// Those flags of the model that somebody wrote: the default of one must not win over a file. In
/// [`cli::Model`] nothing tells `--model bundled` from no flag at all; what clap matched does.
fn written(model: &cli::Model, matches: &ArgMatches) -> Vec<(String, String)> {
    let correct = matches.subcommand_matches("correct");
    let by_hand = |flag: &str| {
        correct.is_some_and(|correct| correct.value_source(flag) == Some(ValueSource::CommandLine))
    };
    commands::flags(model)
        .into_iter()
        .filter(|(flag, _)| by_hand(flag))
        .map(|(flag, value)| (format!("aligner.{flag}"), value))
        .collect()
}

/// The limits of the pipeline, for a file: nothing waits for it to leave.
///
/// Where `run` has limits because of brokers, or patience because nobody is looking, a file has its
/// own as long as nobody chose others. A configuration that is tried `as_run` keeps the limits of
/// brokers, its defaults too: what they refuse there is to be seen here.
pub fn limits(given: Limits, as_run: bool) -> Limits {
    let usual = Limits::default();
    let (input, output) = if as_run {
        (given.max_input_bytes, given.max_output_bytes)
    } else {
        (
            chosen(given.max_input_bytes, usual.max_input_bytes, MAX_LINE_BYTES),
            chosen(given.max_output_bytes, usual.max_output_bytes, 256 << 20),
        )
    };
    Limits {
        // Whoever interrupts waits for the prompt, and the input still holds what was not done.
        drain_timeout_ms: 0,
        // Somebody is looking on: an Aligner that answers nothing is waited for while each line
        // of the log says so, and then the lines that it did not answer are named.
        max_outage_ms: chosen(given.max_outage_ms, usual.max_outage_ms, 60_000),
        // What is longer was cut when it was read.
        max_input_bytes: input.min(MAX_LINE_BYTES),
        max_output_bytes: output,
        ..given
    }
}

fn chosen<T: PartialEq>(given: T, usual: T, own: T) -> T {
    if given == usual { own } else { given }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches};

    use super::*;

    fn matches(arguments: &[&str]) -> ArgMatches {
        let arguments = [&["aligner-connector", "correct"][..], arguments].concat();
        let matches = cli::Cli::command().try_get_matches_from(arguments);
        matches.expect("a command line")
    }

    fn given(arguments: &[&str]) -> Vec<(String, String)> {
        let matches = matches(arguments);
        let parsed = cli::Cli::from_arg_matches(&matches).expect("it is one of ours");
        let cli::Command::Correct(args) = parsed.command else {
            unreachable!("it says correct");
        };
        written(&args.model, &matches)
    }

    #[test]
    fn a_flag_counts_where_it_was_written_even_with_the_value_that_it_has_without() {
        assert!(given(&["--input", "f"]).is_empty());
        let pair = |key: &str, value: &str| (format!("aligner.{key}"), value.to_owned());
        assert_eq!(given(&["--model", "bundled"]), [pair("model", "bundled")]);
        assert_eq!(
            given(&[
                "--model=m",
                "--profile",
                "p",
                "--dtype",
                "q8_0",
                "--device",
                "cpu",
                "--threads",
                "2",
                "--max-new-tokens",
                "7"
            ]),
            [
                pair("model", "m"),
                pair("profile", "p"),
                pair("dtype", "q8_0"),
                pair("device", "cpu"),
                pair("threads", "2"),
                pair("max_new_tokens", "7"),
            ]
        );
    }

    #[test]
    fn a_file_has_limits_of_its_own_until_others_are_chosen() {
        let own = limits(Limits::default(), false);
        assert_eq!(own.max_input_bytes, MAX_LINE_BYTES);
        assert_eq!((own.max_outage_ms, own.drain_timeout_ms), (60_000, 0));
        let small = Limits {
            max_answer_chars: Some(7),
            max_input_bytes: 1_000,
            max_outage_ms: 5,
            ..Limits::default()
        };
        let chosen = limits(small, false);
        assert_eq!(chosen.max_answer_chars, Some(7));
        assert_eq!((chosen.max_input_bytes, chosen.max_outage_ms), (1_000, 5));
        let large = Limits {
            max_input_bytes: usize::MAX,
            ..Limits::default()
        };
        for as_run in [false, true] {
            let larger = limits(large.clone(), as_run);
            assert_eq!(larger.max_input_bytes, MAX_LINE_BYTES);
        }
    }

    #[test]
    fn a_configuration_that_is_tried_keeps_the_limits_of_brokers_though_they_are_the_usual_ones() {
        let usual = Limits::default();
        let tried = limits(usual.clone(), true);
        assert_eq!(tried.max_input_bytes, usual.max_input_bytes);
        assert_eq!(tried.max_output_bytes, usual.max_output_bytes);
        // Patience is nothing that brokers ask for.
        assert_eq!((tried.max_outage_ms, tried.drain_timeout_ms), (60_000, 0));
    }
}
