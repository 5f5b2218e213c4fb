//! What is said at the end of a run that skipped rows, or taught or showed little.

use aligner_training::{Ended, Outcome};

use crate::commands;

/// How many rows were skipped or read in part, a line for each reason. The recipe's `max_tokens` was
/// `asked` for.
pub(super) fn skipped(outcome: &Outcome, asked: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let (rows, most) = (outcome.skipped_too_long, outcome.max_tokens);
    if rows > 0 {
        lines.push(if most < asked {
            format!(
                "{rows} rows were skipped: longer than the context of the model ({most} tokens); \
                 give shorter rows"
            )
        } else {
            format!(
                "{rows} rows were skipped: longer than max_tokens ({most} tokens); raise it in the \
                 recipe, up to the context of the model"
            )
        });
    }
    if outcome.skipped_undecided > 0 {
        lines.push(format!(
            "{} rows were skipped: bypassed or dead-lettered, which says nothing about what is right",
            outcome.skipped_undecided
        ));
    }
    lines.extend(commands::shortened(outcome.shortened));
    lines
}

/// What a run cannot have learnt, or cannot have shown, with what to do about it.
///
/// `file_given` tells whether there were files to validate on.
pub(super) fn of(outcome: &Outcome, file_given: bool) -> Vec<String> {
    /// Of fewer triples no share says much.
    const ENOUGH: usize = 10;
    let mut warnings = Vec::new();
    let validated = outcome.validation_triples;
    match validated {
        0 if outcome.validation_too_long > 0 => warnings.push(format!(
            "no triple was validated on, so nobody knows what was learnt: each of {} validation rows \
             is longer than max_tokens; raise it in the recipe, up to the context of the model, or \
             give shorter rows",
            outcome.validation_too_long
        )),
        0 if file_given => warnings.push(
            "no triple was validated on, so nobody knows what was learnt: no row of --validation \
             says what is right; give corrected ones"
                .to_owned(),
        ),
        0 => warnings.push(
            "no triple was validated on, so nobody knows what was learnt: give --validation FILE"
                .to_owned(),
        ),
        1..ENOUGH => warnings.push(format!(
            "validated on {validated} only, too few to tell what was learnt: give --validation FILE \
             with {ENOUGH} triples or more"
        )),
        _ => {}
    }
    let teaches_to_correct = outcome.clean_triples < outcome.triples;
    if !teaches_to_correct {
        warnings.push(format!(
            "no answer in the data has anything to correct (0 of {} rows), so the Aligner learns to leave every \
             answer alone: add rows whose correction differs from the answer, about twice as many",
            outcome.triples
        ));
    }
    if validated > 0 && outcome.validation_corrections == 0 && teaches_to_correct {
        warnings.push(format!(
            "no answer of the {validated} validation rows has anything to correct, so nobody knows \
             what was learnt about correcting: give --validation FILE with corrections in it"
        ));
    }
    if outcome.validation_repeated > 0 {
        warnings.push(format!(
            "{} of {validated} validation rows are among those that are trained on: what was learnt \
             by heart comes out right there; take them out of one of the files",
            outcome.validation_repeated
        ));
    }
    if outcome.clean_triples == 0 {
        warnings.push(format!(
            "no answer in the data is clean (0 of {} rows), so nothing teaches what to leave alone, \
             and the Aligner tends to change every answer: add rows whose correction is the answer itself, about half as many ({}); what \
             correct writes as unchanged is such a row",
            outcome.triples,
            outcome.triples.div_ceil(2)
        ));
    }
    // A third mixed in keeps what it can do.
    if outcome.own_triples * 2 > outcome.triples {
        warnings.push(format!(
            "{} of {} rows were corrected by the model that is trained: they teach it nothing, and at \
             best keep what it can do; give corrections that people have mended (without their \
             aligner_name), or those of another Aligner",
            outcome.own_triples, outcome.triples
        ));
    }
    if !outcome.dropped_keys.is_empty() {
        warnings.push(format!(
            "left out of generation_config.json, since training measures outputs without them: {}; \
             put a key back by hand if you want it, and judge the model with it by eval",
            outcome.dropped_keys.join(", ")
        ));
    }
    let best = outcome.best_validation.map(|best| best.step);
    // An interrupted run has written nothing yet, and its next steps may be better.
    if best == Some(0) && outcome.ended != Ended::Interrupted {
        warnings.push(
            "nothing that was trained was better than the base on the held-out rows: the base was \
             written; give more or other held-out rows (--validation FILE), or a lower \
             --learning-rate"
                .to_owned(),
        );
    }
    warnings.extend(rounded(outcome));
    // Of the base, more of the same training says nothing.
    let trained = best != Some(0);
    if trained && (outcome.exact == Some(0.0) || outcome.delivered_corrections == Some(0.0)) {
        warnings.push(
            "no validation correction comes out exactly right and passes the guard: give more \
             --epochs, or more triples"
                .to_owned(),
        );
    }
    warnings
}

/// That much of what was learnt is not in the weights that are written.
fn rounded(outcome: &Outcome) -> Option<String> {
    /// Of what the loss fell by, as much as may be lost without a word.
    const MOST: f64 = 0.1;
    let lost = outcome.lost_to_rounding().filter(|lost| *lost > MOST)?;
    Some(format!(
        "{:.0} % of what the validation loss fell by is lost in the weights as they are written, which \
         {} rounds: give a base with f32 weights, or a higher --learning-rate, which moves weights by \
         more than is rounded off",
        100.0 * lost,
        outcome.precision
    ))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use aligner_training::{History, Point, Precision};

    use super::*;

    /// A run of which there is nothing to warn.
    fn fine() -> Outcome {
        Outcome {
            ended: Ended::Completed,
            output: PathBuf::from("mine"),
            parameters: 1,
            triples: 100,
            clean_triples: 40,
            own_triples: 0,
            dropped_keys: Vec::new(),
            validation_triples: 20,
            validation_corrections: 12,
            validation_repeated: 0,
            validation_left_out: 0,
            validation_too_long: 0,
            skipped: 0,
            skipped_too_long: 0,
            skipped_undecided: 0,
            shortened: 0,
            max_tokens: 1024,
            step: 24,
            steps: 24,
            tokens: 1000,
            seconds: 1.0,
            first_validation_loss: Some(2.0),
            best_validation: Some(Point {
                step: 24,
                loss: 0.1,
            }),
            loss_as_written: Some(0.1),
            precision: Precision::Bf16,
            exact: Some(0.9),
            delivered: Some(0.8),
            delivered_corrections: Some(0.7),
            history: History::default(),
        }
    }

    #[test]
    fn a_run_that_taught_and_showed_enough_is_not_warned_of() {
        assert_eq!(of(&fine(), true), Vec::<String>::new());
        let sampled = Outcome {
            validation_left_out: 5,
            validation_too_long: 2,
            ..fine()
        };
        assert_eq!(of(&sampled, true), Vec::<String>::new());
    }

    #[test]
    fn skipped_rows_are_counted_by_their_reason() {
        assert_eq!(skipped(&fine(), 1024), Vec::<String>::new());
        let both = Outcome {
            skipped: 25,
            skipped_too_long: 21,
            skipped_undecided: 4,
            shortened: 3,
            ..fine()
        };
        let lines = skipped(&both, 1024);
        assert_eq!(lines.len(), 3, "{lines:?}");
        let said = "of 3 rows the question is the last message of the user alone";
        assert!(lines[2].starts_with(said), "{lines:?}");
        let said = "21 rows were skipped: longer than max_tokens (1024 tokens); raise it";
        assert!(lines[0].starts_with(said), "{lines:?}");
        let said = "4 rows were skipped: bypassed or dead-lettered";
        assert!(lines[1].starts_with(said), "{lines:?}");
        // Raising it helps nothing where the model reads no more.
        let lines = skipped(&both, 4096);
        let said = "21 rows were skipped: longer than the context of the model (1024 tokens)";
        assert!(lines[0].starts_with(said), "{lines:?}");
    }

    #[test]
    fn data_without_a_clean_answer_is_told_with_how_many_to_add() {
        let unclean = Outcome {
            triples: 111,
            clean_triples: 0,
            ..fine()
        };
        let warnings = of(&unclean, true);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        for said in ["clean (0 of 111 rows)", "half as many (56)"] {
            assert!(warnings[0].contains(said), "{warnings:?}");
        }
    }

    #[test]
    fn data_without_a_correction_is_told_and_not_the_rows_that_were_held_out_of_it() {
        let untaught = Outcome {
            clean_triples: 100,
            validation_corrections: 0,
            ..fine()
        };
        let [warning] = <[String; 1]>::try_from(of(&untaught, false)).expect("one warning");
        assert!(warning.contains("(0 of 100 rows)"), "{warning}");
        assert!(
            warning.contains("correction differs from the answer"),
            "{warning}"
        );
    }

    #[test]
    fn a_run_without_validation_is_told_why_and_not_to_give_what_it_got() {
        let none = Outcome {
            validation_triples: 0,
            validation_corrections: 0,
            best_validation: None,
            exact: None,
            delivered: None,
            delivered_corrections: None,
            ..fine()
        };
        let long = Outcome {
            validation_too_long: 3,
            ..none.clone()
        };
        let give = "give --validation FILE";
        for (outcome, file_given, said) in [
            (
                &long,
                true,
                "each of 3 validation rows is longer than max_tokens",
            ),
            (
                &long,
                false,
                "each of 3 validation rows is longer than max_tokens",
            ),
            (&none, true, "no row of --validation says what is right"),
            (&none, false, give),
        ] {
            let warnings = of(outcome, file_given);
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            assert!(warnings[0].contains(said), "{warnings:?}");
            assert_eq!(warnings[0].contains(give), said == give, "{warnings:?}");
        }
    }

    #[test]
    fn validation_that_shows_no_correcting_or_what_was_learnt_by_heart_is_named() {
        let clean = Outcome {
            validation_corrections: 0,
            delivered_corrections: None,
            ..fine()
        };
        let warnings = of(&clean, true);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        let said = "no answer of the 20 validation rows has anything to correct";
        assert!(warnings[0].starts_with(said), "{warnings:?}");
        let repeated = Outcome {
            validation_repeated: 7,
            ..fine()
        };
        let warnings = of(&repeated, true);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        let said = "7 of 20 validation rows are among those that are trained on";
        assert!(warnings[0].starts_with(said), "{warnings:?}");
    }

    #[test]
    fn what_made_the_base_worse_is_not_advised_to_go_on_longer() {
        let (worse, longer) = ("lower --learning-rate", "more --epochs");
        for (step, said, unsaid) in [(0, worse, longer), (8, longer, worse)] {
            let outcome = Outcome {
                best_validation: Some(Point { step, loss: 3.0 }),
                delivered_corrections: Some(0.0),
                ..fine()
            };
            let warnings = of(&outcome, true);
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            assert!(warnings[0].contains(said), "{warnings:?}");
            assert!(!warnings[0].contains(unsaid), "{warnings:?}");
        }
    }

    #[test]
    fn a_tenth_of_what_was_learnt_may_be_lost_to_rounding_without_a_word() {
        for (first, best, written, lost) in [
            (Some(2.0), 1.0, 1.0, None),
            (Some(2.0), 1.0, 1.09, None),
            (Some(2.0), 1.0, 1.11, Some("11 %")),
            (Some(2.0), 1.0, 2.0, Some("100 %")),
            (Some(2.0), 1.0, 2.2, Some("120 %")),
            // Rounding may happen to better it.
            (Some(2.0), 1.0, 0.9, None),
            // It did not fall, or nobody knows by how much.
            (Some(2.0), 2.0, 2.1, None),
            (None, 1.0, 2.0, None),
        ] {
            let outcome = Outcome {
                first_validation_loss: first,
                best_validation: Some(Point {
                    step: 8,
                    loss: best,
                }),
                loss_as_written: Some(written),
                ..fine()
            };
            let warnings = of(&outcome, true);
            let said = warnings.first().map(|warning| {
                assert!(warning.contains("which bf16 rounds"), "{warning}");
                let end = warning.find(" of what").expect("begins with a share");
                &warning[..end]
            });
            assert_eq!(said, lost, "{first:?} {best} {written}");
            assert_eq!(warnings.len(), lost.iter().len(), "{warnings:?}");
        }
    }
}
