//! The triples of a run: read, checked, and parted into those to train on and those to validate on.
//!
//! The digest tells one such parting from another: a run is only resumed with its own.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
};

use aligner::hex;
use aligner_evaluation::{Purpose, RowFaults, Triple, TripleError, parse_rows};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

use crate::{error::TrainError, files, options::TrainOptions};

/// The triples of a run.
pub(crate) struct Split {
    pub training: Vec<Triple>,
    /// Of more than can be validated on, any first part is a sample.
    pub held_out: Vec<Triple>,
    /// Rows that say nothing about what is right.
    pub undecided: usize,
    /// Rows whose question is the last of several messages.
    pub shortened: usize,
    /// Of the files, each in its role.
    pub digest: String,
}

impl Split {
    /// Reads the files of a run, and holds out a share where none is for validation.
    pub fn read(options: &TrainOptions) -> Result<Self, TrainError> {
        let recipe = &options.recipe;
        let mut files = Files::default();
        let triples = files.read(&options.data)?;
        // Earlier versions parted some data otherwise: what is appended for it keeps their runs
        // from being resumed with other rows.
        let to_validate = if options.validation.is_empty() {
            None
        } else {
            // The same files in other roles are other data.
            files.digest.extend(b"validation");
            Some(files.read(&options.validation)?)
        };
        let Files {
            mut digest,
            undecided,
            shortened,
            faults,
        } = files;
        faults.check().map_err(TripleError::from)?;
        if triples.is_empty() {
            return Err(TrainError::NoExamples(match undecided {
                0 => "no data file is given; give at least one".to_owned(),
                rows => format!(
                    "each of {rows} rows was bypassed or dead-lettered, which says nothing about \
                     what is right; give corrected ones"
                ),
            }));
        }
        let (training, held_out) = match to_validate {
            None => {
                let (training, held_out, moved) =
                    split(triples, recipe.validation_share, recipe.seed);
                if moved {
                    digest.extend(b"equal rows together");
                }
                (training, held_out)
            }
            Some(mut held_out) => {
                if held_out.len() > recipe.validation_limit {
                    // The first rows of a file may all be of one kind.
                    held_out.shuffle(&mut ChaCha8Rng::seed_from_u64(recipe.seed ^ 0x5eed_0004));
                    digest.extend(b"sample");
                }
                (triples, held_out)
            }
        };
        // Earlier versions taught them as corrections.
        if training.iter().chain(&held_out).any(differs_at_ends) {
            digest.extend(b"white space at ends");
        }
        Ok(Self {
            training,
            held_out,
            undecided,
            shortened,
            digest: hex(&Sha256::digest(&digest)),
        })
    }
}

/// The files of a run, as far as they are read.
#[derive(Default)]
struct Files {
    digest: Vec<u8>,
    undecided: usize,
    shortened: usize,
    faults: RowFaults,
}

impl Files {
    /// Reads files of triples that can be trained on.
    fn read(&mut self, paths: &[PathBuf]) -> Result<Vec<Triple>, TrainError> {
        let mut triples = Vec::new();
        for path in paths {
            let bytes = files::read(path)?;
            let origin = path.display().to_string();
            let rows = parse_rows(&bytes, &origin, Purpose::Training, &mut self.faults)?;
            self.undecided += rows.undecided;
            self.shortened += rows.shortened;
            triples.extend(rows.triples);
            self.digest.extend(Sha256::digest(&bytes));
        }
        Ok(triples)
    }
}

/// Whether the correction is the answer but for white space at its ends.
fn differs_at_ends(triple: &Triple) -> bool {
    triple.keeps_answer() && triple.correction.as_ref() != Some(&triple.answer)
}

/// What the model sees of a triple: rows that are equal in it are one to the model.
fn seen(triple: &Triple) -> (&str, &str) {
    (&triple.question, &triple.answer)
}

/// Holds out a share of the triples, the same for a seed. Equal rows stay on one side, since what
/// was learnt by heart would pass for skill; the last value tells whether any was moved for that.
fn split(mut triples: Vec<Triple>, share: f64, seed: u64) -> (Vec<Triple>, Vec<Triple>, bool) {
    if share <= 0.0 || triples.len() < 2 {
        return (triples, Vec::new(), false);
    }
    triples.shuffle(&mut ChaCha8Rng::seed_from_u64(seed ^ 0x5eed_0001));
    let most = ((triples.len() as f64 * share).round() as usize).clamp(1, triples.len() - 1);
    let held = hold_out(&triples, most);
    let moved = held
        .iter()
        .enumerate()
        .any(|(place, held)| *held != (place < most));
    let mut held = held.into_iter();
    let (held_out, training) = triples.into_iter().partition(|_| held.next() == Some(true));
    (training, held_out, moved)
}

/// Largest part of the triples that is held out where equal ones are so many that no group of them fits
/// into the share that was asked for: one in so many.
const LARGEST_PART: usize = 5;

/// Of each triple, whether it is held out. Equal ones go together, the first groups for which there
/// is room in `most`; where it has room for none, a smallest group if that is no more than a
/// [`LARGEST_PART`]th.
fn hold_out(triples: &[Triple], most: usize) -> Vec<bool> {
    let mut sizes: HashMap<(&str, &str), usize> = HashMap::new();
    for triple in triples {
        *sizes.entry(seen(triple)).or_default() += 1;
    }
    let smallest = sizes.values().copied().min().unwrap_or(0);
    let mut room = if smallest <= triples.len() / LARGEST_PART {
        most.max(smallest)
    } else {
        most
    };
    let mut sides: HashMap<(&str, &str), bool> = HashMap::new();
    triples
        .iter()
        .map(|triple| {
            let key = seen(triple);
            *sides.entry(key).or_insert_with(|| {
                let fits = sizes[&key] <= room;
                if fits {
                    room -= sizes[&key];
                }
                fits
            })
        })
        .collect()
}

/// How many of `held_out` are among those that are trained on, question and answer alike.
pub(crate) fn count_repeated<'a>(
    training: impl IntoIterator<Item = &'a Triple>,
    held_out: &'a [Triple],
) -> usize {
    let trained: HashSet<(&str, &str)> = training.into_iter().map(seen).collect();
    held_out
        .iter()
        .filter(|triple| trained.contains(&seen(triple)))
        .count()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::options::Base;

    fn triple(question: &str, answer: &str, correction: &str) -> Triple {
        Triple {
            event_id: "line-1".into(),
            question: question.into(),
            answer: answer.into(),
            correction: Some(correction.into()),
            ..Triple::default()
        }
    }

    fn questions(triples: &[Triple]) -> Vec<&str> {
        triples.iter().map(|triple| &*triple.question).collect()
    }

    #[test]
    fn the_split_is_the_same_for_a_seed_and_loses_nothing() {
        let triples: Vec<Triple> = (0..20)
            .map(|n| triple(&format!("q{n}"), "a", "a"))
            .collect();
        let (rest, held, moved) = split(triples.clone(), 0.1, 7);
        assert_eq!((rest.len(), held.len(), moved), (18, 2, false));
        let again = split(triples.clone(), 0.1, 7);
        assert_eq!(again, (rest.clone(), held.clone(), false));
        let mut all: Vec<String> = rest.into_iter().chain(held).map(|t| t.question).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 20);
        assert_eq!(split(triples[..1].to_vec(), 0.5, 7).1, []);
    }

    #[test]
    fn rows_that_are_not_equal_are_cut_as_they_were_shuffled() {
        // So a run that began before equal rows went together is resumed with its own split.
        let triples: Vec<Triple> = (0..20)
            .map(|n| triple(&format!("q{n}"), "a", "a"))
            .collect();
        let mut shuffled = triples.clone();
        shuffled.shuffle(&mut ChaCha8Rng::seed_from_u64(7 ^ 0x5eed_0001));
        let rest = shuffled.split_off(6);
        assert_eq!(split(triples, 0.3, 7), (rest, shuffled, false));
    }

    #[test]
    fn equal_rows_stand_on_one_side_of_the_split() {
        for seed in 0..50 {
            // Ten rows once, and two more often, with a correction of its own each time.
            let once = (0..10).map(|n| triple(&format!("q{n}"), "a", "a"));
            let often = (0..10).map(|n| triple(&format!("r{}", n % 2), "a", &n.to_string()));
            let (rest, held, _) = split(once.chain(often).collect(), 0.3, seed);
            assert_eq!(rest.len() + held.len(), 20);
            assert_eq!(held.len(), 6, "seed {seed}");
            assert_eq!(count_repeated(&rest, &held), 0, "seed {seed}");
        }
    }

    #[test]
    fn a_smallest_group_is_held_out_where_each_is_larger_than_the_share_but_no_great_part() {
        for seed in 0..20 {
            let rows = (0..20).map(|n| triple(if n < 4 { "q" } else { "r" }, "a", "a"));
            let (_, held, moved) = split(rows.collect(), 0.1, seed);
            assert_eq!((questions(&held), moved), (vec!["q"; 4], true));
            let rows = (0..19).map(|n| triple(if n < 4 { "q" } else { "r" }, "a", "a"));
            let (_, held, _) = split(rows.collect(), 0.1, seed);
            assert_eq!(held, [], "more than a fifth");
        }
        let equal = vec![triple("q", "a", "a"); 9];
        let (rest, held, moved) = split(equal, 0.5, 1);
        assert_eq!((rest.len(), held.len(), moved), (9, 0, true));
    }

    #[test]
    fn a_long_validation_file_is_sampled_by_the_seed() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let file = |name: &str, rows: std::ops::Range<usize>| {
            let line = |row| {
                format!("{{\"question\":\"q{row}\",\"answer\":\"a\",\"correction\":\"a\"}}\n")
            };
            let path = folder.path().join(name);
            fs::write(&path, rows.map(line).collect::<String>()).expect("writes");
            path
        };
        let base = Base::Folder(folder.path().to_owned());
        let mut options = TrainOptions::new(base, vec![file("data.jsonl", 0..3)], "out");
        options.validation = vec![file("validation.jsonl", 100..200)];
        let read = |limit: usize, seed: u64| {
            let mut options = options.clone();
            (options.recipe.validation_limit, options.recipe.seed) = (limit, seed);
            Split::read(&options).expect("triples")
        };
        let (whole, sample) = (read(100, 1), read(20, 1));
        assert_eq!(whole.held_out[0].question, "q100", "as the file has them");
        let first = questions(&sample.held_out[..20]);
        assert_ne!(first, questions(&whole.held_out[..20]));
        assert_eq!(first, questions(&read(20, 1).held_out[..20]));
        assert_ne!(first, questions(&read(20, 2).held_out[..20]));
        assert_ne!(whole.digest, sample.digest);
    }

    #[test]
    fn rows_that_count_as_clean_by_now_are_not_the_data_of_a_run_that_was_begun_before() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let base = Base::Folder(folder.path().to_owned());
        let path = folder.path().join("data.jsonl");
        let options = TrainOptions::new(base, vec![path.clone()], "out");
        for (answer, appended) in [("a", false), ("a ", true)] {
            let row =
                format!("{{\"question\":\"q\",\"answer\":\"{answer}\",\"correction\":\"a\"}}\n");
            fs::write(&path, &row).expect("writes");
            let mut expected = Sha256::digest(&row).to_vec();
            if appended {
                expected.extend(b"white space at ends");
            }
            let read = Split::read(&options).expect("one triple");
            assert_eq!(read.digest, hex(&Sha256::digest(&expected)), "{answer:?}");
        }
    }

    #[test]
    fn rows_of_all_files_that_cannot_be_trained_on_are_named_together_without_their_text() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let file = |name: &str, rows: &str| {
            let path = folder.path().join(name);
            fs::write(&path, rows).expect("writes");
            path
        };
        let data = file(
            "data.jsonl",
            "{\"question\":\"secret\",\"answer\":\" \",\"correction\":\"secret\"}\n\
             {\"question\":\"q\",\"answer\":\"a\",\"correction\":\"a\"}\n\
             {\"event_id\":\"e\",\"question\":\"secret\",\"answer\":\"secret\"}\n",
        );
        let validation = file("validation.jsonl", "secret\n");
        let base = Base::Folder(folder.path().to_owned());
        let mut options = TrainOptions::new(base, vec![data.clone()], "out");
        options.validation = vec![validation.clone()];
        let error = Split::read(&options).err().expect("refused").to_string();
        let (data, validation) = (data.display(), validation.display());
        let expected = format!(
            "3 of 4 rows cannot be used\n\n  {data}:1: key answer is blank\n  \
             {data}:3: key correction is missing\n  \
             {validation}:1: not JSON (expected value)\n    fix: mend these rows"
        );
        assert!(error.starts_with(&expected), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}
