//! Writes the corpus as JSON Lines.

use std::fs::File;
use std::io::{BufWriter, Write, stdout};
use std::path::PathBuf;

use aligner_corpus::{Corpus, Kind, Split, correction_phrases};
use clap::{Parser, ValueEnum};

/// Writes question-answer-correction triples as JSON Lines.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Which part: no two parts share templates or values
    #[arg(long, required_unless_present = "phrases")]
    split: Option<Part>,
    /// Print the phrases that corrections are made of, one a line, instead of triples
    #[arg(long)]
    phrases: bool,
    /// How many triples
    #[arg(long, default_value_t = 1000)]
    count: usize,
    /// The same seed gives the same bytes
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Share of clean answers
    #[arg(long, default_value_t = 0.5, value_parser = share)]
    clean: f64,
    /// The only faults to plant; all without it
    #[arg(long, value_delimiter = ',', value_parser = fault)]
    only: Vec<Kind>,
    /// Share of insults, dangers and overclaims that anybody would think of first
    #[arg(long, default_value_t = 0.5, value_parser = share)]
    plain: f64,
    /// Share of answers made of spliced sentences, of random and of invented words (drills)
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    drills: f64,
    /// Least words of an answer
    #[arg(long, default_value_t = 20)]
    min_words: usize,
    /// Most words of an answer
    #[arg(long, default_value_t = 160)]
    max_words: usize,
    /// Where to write; standard output without it
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Part {
    Train,
    Validation,
    Test,
}

fn fault(name: &str) -> Result<Kind, String> {
    let faults = &Kind::ALL[1..];
    let found = faults.iter().copied().find(|kind| kind.name() == name);
    found.ok_or_else(|| {
        let names: Vec<_> = faults.iter().map(|kind| kind.name()).collect();
        format!("no kind of fault; there are {}", names.join(", "))
    })
}

fn share(text: &str) -> Result<f64, String> {
    let found = text
        .parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share));
    found.ok_or_else(|| "a share is a number from 0 to 1".to_owned())
}

fn main() -> std::io::Result<()> {
    let a = Arguments::parse();
    let split = match a.split {
        Some(Part::Train) => Split::Train,
        Some(Part::Validation) => Split::Validation,
        Some(Part::Test) => Split::Test,
        None => {
            let mut sink = stdout().lock();
            for phrase in correction_phrases() {
                writeln!(sink, "{phrase}")?;
            }
            return Ok(());
        }
    };
    let corpus = Corpus::new(a.seed, split)
        .clean(a.clean)
        .only(&a.only)
        .plain(a.plain)
        .drills(a.drills)
        .words(a.min_words, a.max_words);
    let sink: Box<dyn Write> = match a.out {
        Some(path) => Box::new(File::create(path)?),
        None => Box::new(stdout().lock()),
    };
    let mut sink = BufWriter::new(sink);
    for triple in corpus.take(a.count) {
        serde_json::to_writer(&mut sink, &triple)?;
        sink.write_all(b"\n")?;
    }
    sink.flush()
}
