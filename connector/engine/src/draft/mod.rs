//! Drafts: guesses of the next tokens that the model checks in one step.
//!
//! A draft is accepted only where greedy decoding gives the same token, so drafts change the
//! number of steps and never the output. An Aligner often copies stretches of the answer, which
//! stands in its prompt, and many corrections share their phrases: that is where guesses come
//! from.

mod log;
mod mixture;
mod pointer;

pub(crate) use mixture::{Mixture, Past};

/// Guesses how a sequence goes on.
pub(crate) trait Drafter: Send {
    /// Appends tokens that may follow `tokens`, at most `most`: one after the other, while the
    /// chance that the model agrees with all of them is at least `worth`.
    fn propose(&mut self, tokens: &[u32], most: usize, worth: f32, drafts: &mut Vec<u32>);

    /// Hears the whole output once it is there.
    fn finish(&mut self, output: &[u32]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps that decoding `output` after `prompt` takes, and drafts that it checks.
    fn steps(past: &std::sync::Arc<Past>, prompt: &[u32], output: &[u32]) -> (usize, usize) {
        let mut drafter = Mixture::new(past);
        let mut tokens = prompt.to_vec();
        let (mut steps, mut proposed, mut done) = (0, 0, 0);
        while done < output.len() {
            let mut drafts = Vec::new();
            drafter.propose(&tokens, output.len() - done - 1, 0.02, &mut drafts);
            let right = drafts
                .iter()
                .zip(&output[done..])
                .take_while(|(a, b)| a == b)
                .count();
            tokens.extend_from_slice(&output[done..=done + right]);
            done += right + 1;
            steps += 1;
            proposed += drafts.len();
        }
        drafter.finish(output);
        (steps, proposed)
    }

    #[test]
    fn a_copied_answer_costs_fewer_steps_the_more_copies_were_seen() {
        let past = Past::new(10_000);
        let costs: Vec<usize> = (0..40)
            .map(|round| {
                let answer: Vec<u32> = (0..300).map(|i| 1_000 * (round + 1) + i).collect();
                let prompt: Vec<u32> = answer.iter().copied().chain([4]).collect();
                steps(&past, &prompt, &answer).0
            })
            .collect();
        assert!(costs[39] < 40 && costs[39] < costs[0], "{costs:?}");
    }

    #[test]
    fn a_substitution_interrupts_a_copy_briefly() {
        let past = Past::new(10_000);
        let mut cost = (0, 0);
        for round in 0..40 {
            let answer: Vec<u32> = (0..200).map(|i| 1_000 * (round + 1) + i).collect();
            let prompt: Vec<u32> = answer.iter().copied().chain([4]).collect();
            let mut output = answer;
            output[100] = 9;
            cost = steps(&past, &prompt, &output);
        }
        assert!(cost.0 < 40, "{cost:?}");
    }

    #[test]
    fn phrases_of_past_corrections_are_guessed() {
        let past = Past::new(10_000);
        let phrase: Vec<u32> = (10..40).collect();
        let mut last = 0;
        for round in 0..40 {
            last = steps(&past, &[1_000 + round, 2_000 + round], &phrase).0;
        }
        assert!(last < 10, "{last} steps");
    }

    #[test]
    fn an_output_that_copies_nothing_gets_no_drafts() {
        let prompt: Vec<u32> = (0..100).collect();
        let output: Vec<u32> = (1_000..1_100).collect();
        assert_eq!(steps(&Past::new(10), &prompt, &output), (100, 0));
    }
}
