//! How often drafts are right on recorded corrections, without a model.
//!
//! ```text
//! cargo run --release --example draft_replay -- TRIPLES.jsonl TOKENIZER.json
//! ```
//!
//! Each line of `TRIPLES` has `question`, `answer` and `correction`. Five folds by question: what
//! an output is guessed from are corrections of other questions only.

use std::{collections::BTreeMap, env, fs};

use aligner::prompt::{ALPACA_EVAL, Template};
use aligner_engine::probe::{Drafting, replay_drafts};
use aligner_tokens::Texts;

const FOLDS: usize = 5;

struct Triple {
    fold: usize,
    prompt: Vec<u32>,
    correction: Vec<u32>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = env::args().skip(1);
    let (Some(triples), Some(tokenizer)) = (arguments.next(), arguments.next()) else {
        return Err("give triples as JSON Lines, and a tokenizer.json".into());
    };
    let texts = Texts::from_json(&fs::read(tokenizer)?)?;
    let template = Template::new(ALPACA_EVAL)?;
    // Something that ends every correction, as in the model's output.
    let end = u32::try_from(texts.vocabulary())?;
    let mut folds = BTreeMap::new();
    let triples: Vec<Triple> = fs::read_to_string(triples)?
        .lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line)?;
            let field = |name: &str| line[name].as_str().ok_or(format!("a line without {name}"));
            let next = folds.len() % FOLDS;
            let question = field("question")?;
            let fold = *folds.entry(question.to_owned()).or_insert(next);
            let prompt = texts.encode_pieces(&template.pieces(question, field("answer")?))?;
            let mut correction = texts.encode_plain(field("correction")?)?;
            correction.push(end);
            Ok(Triple {
                fold,
                prompt,
                correction,
            })
        })
        .collect::<Result<_, Box<dyn std::error::Error>>>()?;
    println!("{} triples of {} questions", triples.len(), folds.len());
    println!("worth  tokens/step  drafts/step  µs of drafting/step");
    for worth in [0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005] {
        let mut all = Drafting::default();
        for fold in 0..FOLDS {
            let (test, history): (Vec<_>, Vec<_>) =
                triples.iter().partition(|triple| triple.fold == fold);
            let history: Vec<&[u32]> = history
                .iter()
                .map(|triple| &triple.correction[..])
                .collect();
            let requests: Vec<(&[u32], &[u32])> = test
                .iter()
                .map(|triple| (&triple.prompt[..], &triple.correction[..]))
                .collect();
            let one = replay_drafts(&history, &requests, worth, 24);
            all.tokens += one.tokens;
            all.steps += one.steps;
            all.drafts += one.drafts;
            all.elapsed += one.elapsed;
        }
        let steps = all.steps as f64;
        println!(
            "{worth:5.3}  {:11.3}  {:11.2}  {:19.1}",
            all.tokens as f64 / steps,
            all.drafts as f64 / steps,
            all.elapsed.as_secs_f64() * 1e6 / steps
        );
    }
    Ok(())
}
