//! Three experts guess the next token, and what came true says how much each is worth.
//!
//! - *local*: what followed the same words before, in the prompt and the output so far;
//! - *past*: what followed them in earlier corrections, a bounded number of them;
//! - *pointer*: what stands next in the text that is being copied.
//!
//! Their chances are mixed with weights that depend on how long the matches are and how the copy
//! has been going. The weights are learnt while correcting (one step of expectation maximisation
//! for each token), so that a chance of one half is right half of the time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{
    Drafter,
    log::{LONGEST, Log, Match, SEPARATOR, chances},
    pointer::{Pointer, STATES},
};

/// Lengths of matches that are told apart.
const LENGTHS: usize = 8;

/// Evidence that a weight remembers.
const MEMORY: f32 = 400.0;

/// Local, past, pointer, and none of them.
type Weights = [f32; 4];

/// One view for all: the pointer is seldom wrong, the others often have nothing to say.
const PRIOR: Weights = [1.0, 1.0, 1.0, 2.0];

/// No weight falls below this: without it one that is never right would halve until it is 0, and
/// a token that none of the others named could teach nothing but 0 / 0.
const LEAST: f32 = 1e-3;

/// The chance of a token that no expert named.
const UNNAMED: f32 = 1e-3;

/// Earlier corrections and the weights of the experts, shared by all sequences of a model.
pub(crate) struct Past {
    state: Mutex<State>,
}

struct State {
    log: Log,
    weights: Vec<Weights>,
}

impl Past {
    /// Remembers about so many tokens of corrections.
    pub(crate) fn new(most_tokens: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                log: Log::new(most_tokens),
                weights: vec![PRIOR; LENGTHS * LENGTHS * STATES],
            }),
        })
    }

    /// Adds a correction.
    pub(crate) fn remember(&self, tokens: &[u32]) {
        let mut state = self.lock();
        for &token in tokens.iter().chain([&SEPARATOR]) {
            state.log.push(token);
        }
    }

    /// What is in there is a guess at any time: a poisoned lock is no obstacle.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the experts said at one place.
#[derive(Default)]
struct Opinion {
    situation: usize,
    local: Vec<(u32, f32)>,
    past: Vec<(u32, f32)>,
    pointer: Option<u32>,
}

impl Opinion {
    /// The chance of `token` by each expert.
    fn of(&self, token: u32) -> [f32; 3] {
        let by = |chances: &[(u32, f32)]| {
            chances
                .iter()
                .find(|(named, _)| *named == token)
                .map_or(0.0, |(_, chance)| *chance)
        };
        let pointed = if self.pointer == Some(token) {
            1.0
        } else {
            0.0
        };
        [by(&self.local), by(&self.past), pointed]
    }

    /// The likeliest token.
    fn best(&self, weights: &Weights) -> Option<(u32, f32)> {
        let total: f32 = weights.iter().sum();
        let named = self.local.iter().chain(&self.past).map(|(token, _)| *token);
        named
            .chain(self.pointer)
            .map(|token| {
                let chance: f32 = self.of(token).iter().zip(weights).map(|(p, w)| p * w).sum();
                (token, chance / total)
            })
            .max_by(|(a, x), (b, y)| x.total_cmp(y).then(b.cmp(a)))
    }

    fn teach(&self, token: u32, weights: &mut Weights) {
        let [local, past, pointer] = self.of(token);
        let mut shares = *weights;
        for (share, chance) in shares.iter_mut().zip([local, past, pointer, UNNAMED]) {
            *share *= chance;
        }
        let sum: f32 = shares.iter().sum();
        if sum > 0.0 {
            for (weight, share) in weights.iter_mut().zip(shares) {
                *weight += share / sum;
            }
        }
        if weights.iter().sum::<f32>() > MEMORY {
            for weight in weights {
                *weight = (*weight * 0.5).max(LEAST);
            }
        }
    }
}

/// Drafts of one sequence.
pub(crate) struct Mixture {
    past: Arc<Past>,
    log: Log,
    pointer: Pointer,
    /// What was said of the tokens after those in the log.
    opinions: Vec<Opinion>,
    said: usize,
    context: Vec<u32>,
    matches: Vec<Match>,
}

impl Mixture {
    pub(crate) fn new(past: &Arc<Past>) -> Self {
        Self {
            past: Arc::clone(past),
            log: Log::new(usize::MAX),
            pointer: Pointer::default(),
            opinions: Vec::new(),
            said: 0,
            context: Vec::new(),
            matches: Vec::new(),
        }
    }

    /// Takes in the tokens that were decoded since, and learns from them.
    fn catch_up(&mut self, tokens: &[u32], state: &mut State) {
        let known = self.log.tokens().len();
        for (index, &token) in tokens[known..].iter().enumerate() {
            if let Some(opinion) = self.opinions[..self.said].get(index) {
                opinion.teach(token, &mut state.weights[opinion.situation]);
            }
            self.pointer.follow(token, &tokens[..known + index]);
            self.log.push(token);
        }
        self.said = 0;
    }

    /// Asks the experts what follows [`Self::context`].
    fn ask(&mut self, pointer: &mut Pointer, state: &State) -> &Opinion {
        if self.opinions.len() == self.said {
            self.opinions.push(Opinion::default());
        }
        let opinion = &mut self.opinions[self.said];
        self.said += 1;
        self.log.find(&self.context, &mut self.matches);
        let local = chances(&self.matches, &mut opinion.local);
        // The latest of those that agree longest; a single word is no copy.
        let mut best: Option<Match> = None;
        for &found in self.matches.iter().filter(|found| found.length > 1) {
            if best.is_none_or(|best| found.length > best.length) {
                best = Some(found);
            }
        }
        if let Some(best) = best {
            pointer.take_up(best.at);
        }
        state.log.find(&self.context, &mut self.matches);
        let past = chances(&self.matches, &mut opinion.past);
        opinion.pointer = pointer.next(self.log.tokens());
        let length = |length: usize| match length {
            0..=3 => length,
            4 | 5 => 4,
            6..=8 => 5,
            9..LONGEST => 6,
            _ => 7,
        };
        opinion.situation = (length(local) * LENGTHS + length(past)) * STATES + pointer.state();
        opinion
    }
}

impl Drafter for Mixture {
    fn propose(&mut self, tokens: &[u32], most: usize, worth: f32, drafts: &mut Vec<u32>) {
        let past = Arc::clone(&self.past);
        let mut state = past.lock();
        self.catch_up(tokens, &mut state);
        self.context.clear();
        self.context
            .extend_from_slice(&tokens[tokens.len().saturating_sub(LONGEST)..]);
        let mut pointer = self.pointer;
        let mut reached = 1.0;
        loop {
            let first = self.said == 0;
            let opinion = self.ask(&mut pointer, &state);
            let weights = &state.weights[opinion.situation];
            let best = opinion.best(weights);
            if first {
                self.pointer = pointer;
            }
            let Some((token, chance)) = best else { return };
            reached *= chance;
            if drafts.len() >= most || reached < worth {
                return;
            }
            drafts.push(token);
            self.context.push(token);
            pointer.follow(token, self.log.tokens());
        }
    }

    fn finish(&mut self, output: &[u32]) {
        self.past.remember(output);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_nobody_names_is_learnt_from_however_long_all_of_them_were_right() {
        let unanimous = Opinion {
            local: vec![(7, 1.0)],
            past: vec![(7, 1.0)],
            pointer: Some(7),
            ..Opinion::default()
        };
        let mut weights = PRIOR;
        for _ in 0..100_000 {
            unanimous.teach(7, &mut weights);
        }
        let sure = unanimous.best(&weights).expect("they name one");
        unanimous.teach(8, &mut weights);
        assert!(weights.iter().all(|&weight| weight >= LEAST), "{weights:?}");
        let (token, chance) = unanimous.best(&weights).expect("they name one");
        assert_eq!((token, sure.0), (7, 7));
        assert!(0.9 < chance && chance < sure.1, "{weights:?}");
    }
}
