//! Some of the triples of a file, where all would take too long.

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use crate::triple::Triple;

/// Fixed, so that two Aligners are measured on the same answers, today and tomorrow.
const SEED: u64 = 0x5eed_0005;

/// At most so many of `triples`, the same ones each time and in their order.
///
/// The first ones would all be of one kind where a file is sorted by it. A larger sample holds the
/// smaller ones.
pub fn sample(triples: Vec<Triple>, most: usize) -> Vec<Triple> {
    if triples.len() <= most {
        return triples;
    }
    let mut places: Vec<usize> = (0..triples.len()).collect();
    places.shuffle(&mut ChaCha8Rng::seed_from_u64(SEED));
    let mut taken = vec![false; triples.len()];
    for place in &places[..most] {
        taken[*place] = true;
    }
    let mut taken = taken.into_iter();
    let sampled = triples.into_iter();
    sampled.filter(|_| taken.next() == Some(true)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn triples(count: usize) -> Vec<Triple> {
        (0..count)
            .map(|number| Triple {
                event_id: format!("{number:04}"),
                // Sorted by kind.
                kind: Some(
                    if number < count / 2 {
                        "clean"
                    } else {
                        "insult"
                    }
                    .into(),
                ),
                ..Triple::default()
            })
            .collect()
    }

    #[test]
    fn a_sample_of_a_sorted_file_has_all_kinds_in_the_order_of_the_file() {
        let sampled = sample(triples(1000), 100);
        assert_eq!(sampled.len(), 100);
        assert!(sampled.is_sorted_by(|a, b| a.event_id < b.event_id));
        let of = |kind: &str| {
            let kinds = sampled.iter().filter_map(|triple| triple.kind.as_deref());
            kinds.filter(|named| *named == kind).count()
        };
        // Half of 100, give or take four standard deviations of 5.
        assert!((30..=70).contains(&of("clean")), "{}", of("clean"));
        assert_eq!(of("clean") + of("insult"), 100);
    }

    #[test]
    fn a_sample_is_the_same_each_time_and_within_each_larger_one() {
        let (small, large) = (sample(triples(50), 10), sample(triples(50), 20));
        assert_eq!(small, sample(triples(50), 10));
        assert!(small.iter().all(|triple| large.contains(triple)));
    }

    #[test]
    fn all_are_taken_where_there_are_no_more() {
        for most in [5, 6, usize::MAX] {
            assert_eq!(sample(triples(5), most), triples(5));
        }
    }
}
