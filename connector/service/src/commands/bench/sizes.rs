//! Sizes that `bench` takes. A wrong one is refused with its range before anything is measured.

use aligner_engine::Limits;

use crate::{cli, commands::Usage};

/// Refuses sizes that no model takes.
pub(super) fn slots(args: &cli::Bench) -> Result<(), Usage> {
    // Every sequence of a step has a row in it.
    let most = Limits::default().max_step_tokens;
    if (1..=most).contains(&args.slots) {
        return Ok(());
    }
    let slots = args.slots;
    Err(Usage(format!("--slots {slots}: give 1 to {most}")))
}

/// Refuses lengths that a model has no room for, `context` tokens; with a queue they do not matter.
pub(super) fn lengths(args: &cli::Bench, context: usize) -> Result<(), Usage> {
    if args.queue.is_some() {
        return Ok(());
    }
    let (prompt, new) = (args.prompt_tokens, args.new_tokens);
    for (flag, value) in [("--prompt-tokens", prompt), ("--new-tokens", new)] {
        if !(1..context).contains(&value) {
            return Err(Usage(format!(
                "{flag} {value}: give 1 to {}, for this model has room for {context} tokens, \
                 those of prompt and output together",
                context.saturating_sub(1)
            )));
        }
    }
    if prompt + new > context {
        return Err(Usage(format!(
            "--prompt-tokens {prompt} and --new-tokens {new} are {} tokens: give {context} or \
             less together, for this model has no more room",
            prompt + new
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn args(arguments: &[&str]) -> cli::Bench {
        let line = [&["aligner-connector", "bench"][..], arguments].concat();
        let parsed = cli::Cli::try_parse_from(line).expect("a command line");
        let cli::Command::Bench(args) = parsed.command else {
            unreachable!("it says bench");
        };
        args
    }

    #[test]
    fn sizes_out_of_range_are_refused_with_the_range() {
        let refused = |arguments: &[&str]| {
            let args = args(arguments);
            let outcome = slots(&args).and_then(|()| lengths(&args, 512));
            outcome.expect_err("refused").to_string()
        };
        assert_eq!(refused(&["--slots", "0"]), "--slots 0: give 1 to 256");
        assert_eq!(refused(&["--slots", "257"]), "--slots 257: give 1 to 256");
        for flag in ["--prompt-tokens", "--new-tokens"] {
            for value in ["0", "512", "18446744073709551615"] {
                let said = refused(&[flag, value]);
                let expected = format!("{flag} {value}: give 1 to 511, for this model has room");
                assert!(said.starts_with(&expected), "{said}");
            }
        }
        let said = refused(&["--prompt-tokens", "500", "--new-tokens", "13"]);
        assert!(said.contains("are 513 tokens: give 512 or less"), "{said}");
    }

    #[test]
    fn what_fits_is_taken_and_a_queue_has_lengths_of_its_own() {
        for arguments in [
            &["--slots", "256"][..],
            &["--prompt-tokens", "1", "--new-tokens", "511"],
            &["--queue", "q.json", "--prompt-tokens", "0"],
            &[],
        ] {
            let args = args(arguments);
            slots(&args).expect("in range");
            lengths(&args, 512).expect("in range");
        }
    }
}
