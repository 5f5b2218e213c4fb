//! Drafts: guesses of the next tokens that the model checks in one step.
//!
//! A draft is accepted only where greedy decoding gives the same token, so drafts change the
//! number of steps and never the output. An Aligner often copies stretches of the answer, and its
//! answer stands in the prompt: that is where guesses come from.

/// Guesses how a sequence goes on.
pub(crate) trait Drafter: Send {
    /// Appends up to `most` tokens that may follow `tokens`.
    fn propose(&mut self, tokens: &[u32], most: usize, drafts: &mut Vec<u32>);

    /// Learns how many of the proposed drafts were right.
    fn observe(&mut self, proposed: usize, accepted: usize);
}

/// Copies what followed the last occurrence of the sequence's ending.
///
/// The longer the ending that occurred before, the more is proposed, and a run of accepted drafts
/// doubles it: a mostly copied answer costs few steps, and one that is not copied little more
/// than none.
pub(crate) struct CopyDrafter {
    /// Positions of each pair of tokens, the latest of each kept.
    last: std::collections::HashMap<(u32, u32), u32>,
    indexed: usize,
    /// Where the text that is being copied goes on.
    source: Option<usize>,
    length: usize,
    most: usize,
}

const FIRST_LENGTH: usize = 2;

impl CopyDrafter {
    /// Proposes at most `most` tokens at a time.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            last: std::collections::HashMap::new(),
            indexed: 0,
            source: None,
            length: FIRST_LENGTH,
            most,
        }
    }

    /// Indexes pairs that end before the last token.
    fn index(&mut self, tokens: &[u32]) {
        while self.indexed + 2 < tokens.len() {
            let at = self.indexed;
            self.last
                .insert((tokens[at], tokens[at + 1]), at as u32 + 2);
            self.indexed += 1;
        }
    }
}

impl Drafter for CopyDrafter {
    fn propose(&mut self, tokens: &[u32], most: usize, drafts: &mut Vec<u32>) {
        self.index(tokens);
        let [.., before, last] = *tokens else { return };
        // Stay with the text that was right so far, if the last token still is its next.
        let following = self
            .source
            .filter(|&at| at < tokens.len() && tokens[at - 1] == last && tokens[at - 2] == before)
            .or_else(|| self.last.get(&(before, last)).map(|&at| at as usize));
        self.source = following;
        let Some(at) = following else { return };
        let most = most.min(self.length).min(self.most);
        drafts.extend_from_slice(&tokens[at..tokens.len().min(at + most)]);
    }

    fn observe(&mut self, proposed: usize, accepted: usize) {
        if proposed == 0 {
            self.length = FIRST_LENGTH;
            return;
        }
        if accepted == proposed {
            self.length = (2 * self.length).min(self.most);
        } else {
            self.length = FIRST_LENGTH;
        }
        self.source = self.source.map(|at| at + accepted + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps that decoding `output` after `prompt` takes.
    fn steps(prompt: &[u32], output: &[u32]) -> (usize, usize) {
        let mut drafter = CopyDrafter::new(64);
        let mut tokens = prompt.to_vec();
        let (mut steps, mut proposed) = (0, 0);
        let mut done = 0;
        while done < output.len() {
            let mut drafts = Vec::new();
            drafter.propose(&tokens, output.len() - done - 1, &mut drafts);
            let right = drafts
                .iter()
                .zip(&output[done..])
                .take_while(|(a, b)| a == b)
                .count();
            drafter.observe(drafts.len(), right);
            tokens.extend_from_slice(&output[done..=done + right]);
            done += right + 1;
            steps += 1;
            proposed += drafts.len();
        }
        (steps, proposed)
    }

    #[test]
    fn a_copied_answer_costs_few_steps() {
        let answer: Vec<u32> = (100..400).collect();
        let prompt: Vec<u32> = [1, 2, 3]
            .into_iter()
            .chain(answer.clone())
            .chain([4])
            .collect();
        let (steps, _) = steps(&prompt, &answer);
        assert!(steps <= 14, "{steps} steps");
    }

    #[test]
    fn a_substitution_interrupts_a_copy_briefly() {
        let answer: Vec<u32> = (100..200).collect();
        let prompt: Vec<u32> = answer.iter().copied().chain([4]).collect();
        let mut output = answer;
        output[50] = 9;
        let (steps, _) = steps(&prompt, &output);
        assert!(steps <= 22, "{steps} steps");
    }

    #[test]
    fn an_output_that_copies_nothing_gets_no_drafts() {
        let prompt: Vec<u32> = (0..100).collect();
        let output: Vec<u32> = (1000..1100).collect();
        assert_eq!(steps(&prompt, &output), (100, 0));
    }
}
