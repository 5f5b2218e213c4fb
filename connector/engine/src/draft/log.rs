//! Tokens in order, searchable by what went before: n-grams of any length without counting them.
//!
//! Every token, and every pair of tokens, is chained to its previous occurrence. Walking a pair's
//! chain backwards and comparing what stands before each occurrence gives the longest contexts
//! that a text shares with the log, the latest first, and what followed each. Where no pair is
//! known, the single token's chain has still something to say.

use std::collections::HashMap;

/// Occurrences that a search looks at in each chain, those that nothing follows included: what ends
/// every text has a long chain, and nothing behind any of it.
const MOST_MATCHES: usize = 24;

/// Contexts are compared so far back.
pub(super) const LONGEST: usize = 12;

/// Stands between texts; no vocabulary reaches it.
pub(super) const SEPARATOR: u32 = u32::MAX;

/// A growing text.
pub(super) struct Log {
    tokens: Vec<u32>,
    singles: Chains<u32>,
    pairs: Chains<(u32, u32)>,
    capacity: usize,
}

/// For each key the positions after its occurrences, each linked to the one before.
struct Chains<K> {
    last: HashMap<K, u32>,
    /// By position.
    previous: Vec<u32>,
}

/// No occurrence: nothing stands before position 0.
const NOWHERE: u32 = 0;

impl<K: std::hash::Hash + Eq> Chains<K> {
    fn new() -> Self {
        Self {
            last: HashMap::new(),
            previous: vec![NOWHERE],
        }
    }

    /// Notes that `key` ends before the next position.
    fn push(&mut self, key: Option<K>) {
        let end = self.previous.len() as u32;
        let before = key.and_then(|key| self.last.insert(key, end));
        self.previous.push(before.unwrap_or(NOWHERE));
    }

    /// Positions after `key`, the latest first.
    fn after(&self, key: &K) -> impl Iterator<Item = usize> + use<'_, K> {
        let first = self.last.get(key).copied().unwrap_or(NOWHERE);
        std::iter::successors(Some(first), |&at| Some(self.previous[at as usize]))
            .take_while(|&at| at != NOWHERE)
            .map(|at| at as usize)
    }
}

/// An occurrence of a context's ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Match {
    /// Tokens that agree.
    pub(super) length: usize,
    /// What followed.
    pub(super) next: u32,
    /// Where it stands.
    pub(super) at: usize,
}

impl Log {
    /// Holds between half of `capacity` and all of it once it is full.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            tokens: Vec::new(),
            singles: Chains::new(),
            pairs: Chains::new(),
            capacity: capacity.max(2),
        }
    }

    pub(super) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    pub(super) fn push(&mut self, token: u32) {
        if self.tokens.len() >= self.capacity {
            let kept = self.tokens.split_off(self.tokens.len() - self.capacity / 2);
            *self = Self::new(self.capacity);
            kept.into_iter().for_each(|token| self.push(token));
        }
        let before = self.tokens.last().copied();
        self.tokens.push(token);
        self.singles.push(Some(token));
        self.pairs.push(before.map(|before| (before, token)));
    }

    /// What followed the ending of `context` here, the latest first: where its last token stands,
    /// with length 1, and where its last pair stands.
    pub(super) fn find(&self, context: &[u32], matches: &mut Vec<Match>) {
        matches.clear();
        let Some(&last) = context.last() else { return };
        let followed = |at: usize| {
            let next = self.tokens.get(at).copied();
            next.filter(|&next| next != SEPARATOR)
                .map(|next| (at, next))
        };
        let singles = self.singles.after(&last).take(MOST_MATCHES);
        matches.extend(singles.filter_map(followed).map(|(at, next)| Match {
            length: 1,
            next,
            at,
        }));
        let &[.., before, _] = context else { return };
        let pairs = self.pairs.after(&(before, last)).take(MOST_MATCHES);
        matches.extend(pairs.filter_map(followed).map(|(at, next)| {
            let here = self.tokens[..at].iter().rev();
            let agreed = here.zip(context.iter().rev()).take(LONGEST);
            Match {
                length: agreed.take_while(|(a, b)| a == b).count(),
                next,
                at,
            }
        }));
    }
}

/// The chance of each token to follow, by Witten and Bell: the longest context speaks first, and
/// leaves to the next shorter one as much as it has been surprised. Returns the longest length.
pub(super) fn chances(matches: &[Match], chances: &mut Vec<(u32, f32)>) -> usize {
    chances.clear();
    let mut named = [0; 2 * MOST_MATCHES];
    for (found, name) in matches.iter().zip(&mut named) {
        let known = chances.iter().position(|&(token, _)| token == found.next);
        *name = known.unwrap_or_else(|| {
            chances.push((found.next, 0.0));
            chances.len() - 1
        });
    }
    let longest = matches.iter().map(|found| found.length).max().unwrap_or(0);
    for length in 1..=longest {
        let mut counts = [0.0; 2 * MOST_MATCHES];
        let (mut total, mut kinds) = (0.0, 0.0);
        for (found, &name) in matches.iter().zip(&named) {
            // Those of length 1 are all that counts there; the others are among them, if recent.
            if found.length == length || length > 1 && found.length > length {
                kinds += if counts[name] == 0.0 { 1.0 } else { 0.0 };
                counts[name] += 1.0;
                total += 1.0;
            }
        }
        if total > 0.0 {
            for ((_, chance), count) in chances.iter_mut().zip(counts) {
                *chance = (count + kinds * *chance) / (total + kinds);
            }
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(tokens: &[u32], capacity: usize) -> Log {
        let mut log = Log::new(capacity);
        tokens.iter().for_each(|&token| log.push(token));
        log
    }

    fn found(log: &Log, context: &[u32]) -> Vec<(usize, u32)> {
        let mut matches = Vec::new();
        log.find(context, &mut matches);
        matches
            .iter()
            .map(|found| (found.length, found.next))
            .collect()
    }

    #[test]
    fn the_latest_occurrence_comes_first_with_the_length_of_its_agreement() {
        let log = log(&[1, 2, 3, 9, 1, 2, 4, 8, 2, 3, 5], 100);
        assert_eq!(found(&log, &[3]), [(1, 5), (1, 9)]);
        assert_eq!(found(&log, &[1, 2, 3])[2..], [(2, 5), (3, 9)]);
        assert_eq!(found(&log, &[7, 1, 2])[3..], [(2, 4), (2, 3)]);
        assert_eq!(found(&log, &[5]), []);
    }

    #[test]
    fn the_end_of_a_text_and_what_comes_after_it_are_not_followers() {
        let log = log(&[1, 2, SEPARATOR, 3, 4], 100);
        assert_eq!(found(&log, &[1, 2]), []);
        assert_eq!(found(&log, &[3, 4]), []);
    }

    #[test]
    fn a_search_looks_at_so_many_occurrences_whether_something_follows_them_or_not() {
        let ends = |count: usize| [&[1, 2, 3][..], &[1, 2, SEPARATOR].repeat(count)[..]].concat();
        let few = log(&ends(MOST_MATCHES - 1), 1_000);
        assert_eq!(found(&few, &[1, 2]), [(1, 3), (2, 3)]);
        let many = log(&ends(MOST_MATCHES), 1_000);
        assert_eq!(found(&many, &[1, 2]), []);
    }

    #[test]
    fn a_full_log_forgets_its_older_half() {
        let log = log(&(0..1_000).collect::<Vec<_>>(), 64);
        assert!((32..=64).contains(&log.tokens().len()));
        assert_eq!(found(&log, &[998, 999]), []);
        let context: Vec<u32> = (980..999).collect();
        assert_eq!(found(&log, &context), [(1, 999), (LONGEST, 999)]);
        assert_eq!(found(&log, &[10, 11]), []);
    }

    #[test]
    fn long_contexts_outweigh_short_ones_and_chances_stay_below_one() {
        // After 1 2 always 3; after 0 1 2 once 4.
        let log = log(&[1, 2, 3, 1, 2, 3, 1, 2, 3, 0, 1, 2, 4, 9], 100);
        let (mut matches, mut given) = (Vec::new(), Vec::new());
        log.find(&[0, 1, 2], &mut matches);
        assert_eq!(chances(&matches, &mut given), 3);
        let of = |token| given.iter().find(|(t, _)| *t == token).expect("seen").1;
        assert!(of(4) > of(3), "{given:?}");
        assert!(of(3) > 0.2 && of(3) + of(4) < 1.0, "{given:?}");
    }
}
