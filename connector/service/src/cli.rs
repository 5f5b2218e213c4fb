//! The command line.

use std::path::PathBuf;

use aligner_records::Disposition;
use clap::{
    Args, Parser, Subcommand, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};

/// Corrects logged LLM answers: Kafka in, corrections and preference pairs out, exactly once.
#[derive(Debug, Parser)]
#[command(name = "aligner-connector", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Shows the whole service at work, offline: an in-process broker, live traffic, real corrections.
    Demo(Demo),
    /// Runs the service: reads answers from Kafka and writes corrections, pairs and dead letters.
    Run(Run),
    /// Corrects answers from the command line, a file, or stdin.
    Correct(Correct),
    /// Shows corrections that were written before to people: what was changed, and why the rest was not.
    Show(Show),
    /// Sends the records of dead letters back to their topics, by reason, once the cause is mended.
    Replay(Replay),
    /// Checks a configuration without opening a connection; every problem at once.
    Validate(Run),
    /// Measures how fast an Aligner is on this machine.
    Bench(Bench),
    /// Trains an Aligner, or continues one, from question-answer-correction triples.
    Train(Train),
    /// Measures what an Aligner corrects, and what it should have left alone.
    Eval(Eval),
}

/// `demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// Use this Kafka instead of the in-process broker; topics named aligner-demo.* are made on it.
    #[arg(long, value_name = "HOST:PORT")]
    pub bootstrap_servers: Option<String>,
    /// Answer events to produce.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub events: u32,
    /// Seed of the traffic.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// `run` and `validate`.
#[derive(Debug, Args)]
pub struct Run {
    /// YAML or TOML file; every key can also be given as ALIGNER__SECTION__KEY.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Override one key, such as kafka.bootstrap_servers=localhost:9092, a list as
    /// topics.answers=a,b; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
}

/// `replay`.
#[derive(Debug, Args)]
pub struct Replay {
    /// The connector whose dead letters they are.
    #[command(flatten)]
    pub run: Run,
    /// Send the records of this reason: each to its own topic and partition, as it was, and exactly once
    /// where kafka.delivery says so. Another call goes on where this one ends. Without it nothing is sent,
    /// and reasons are shown with what waits.
    #[arg(long, value_name = "REASON")]
    pub reason: Option<String>,
    /// At most so many records, as a try.
    #[arg(long, requires = "reason")]
    pub limit: Option<u64>,
    /// From the first dead letter on, what was sent before too.
    #[arg(long, requires = "reason")]
    pub again: bool,
}

/// Which Aligner, and how it decodes.
#[derive(Debug, Clone, Args)]
pub struct Model {
    /// bundled, identity, marker, marker-all, a folder in Hugging Face layout, a GGUF file,
    /// owner/name@revision on the Hugging Face hub, or remote: the completions server that
    /// ALIGNER__ALIGNER__REMOTE__URL and ALIGNER__ALIGNER__REMOTE__MODEL name, or for `correct`
    /// its --config.
    #[arg(long, default_value = "bundled")]
    pub model: String,
    /// paper, alpaca-eval, or a profile file; the model's own otherwise.
    #[arg(long, value_name = "NAME|FILE")]
    pub profile: Option<String>,
    /// auto, f32, q8_0, q4_k, or bf16.
    #[arg(long, default_value = "auto")]
    pub dtype: String,
    /// cpu, or cuda:N in a binary built with CUDA.
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// CPU threads; all cores otherwise.
    #[arg(long)]
    pub threads: Option<u16>,
    /// Most tokens decoded for one answer.
    #[arg(long, default_value_t = 1024)]
    pub max_new_tokens: u32,
}

/// `correct`.
#[derive(Debug, Args)]
pub struct Correct {
    /// The question; with --answer, corrects this one pair.
    #[arg(short, long, requires = "answer")]
    pub question: Option<String>,
    /// The answer to correct.
    #[arg(short, long, requires = "question", conflicts_with = "input")]
    pub answer: Option<String>,
    /// JSON Lines of answer events, at most 64 MiB each; - is stdin.
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// A configuration of `run`, to try it on a file of logs: `input`, `aligner` and `pipeline` count,
    /// and for --question and --answer the last two.
    /// Variables named ALIGNER__SECTION__KEY win over it, and flags over both.
    #[arg(long, value_name = "FILE", conflicts_with = "raw")]
    pub config: Option<PathBuf>,
    /// Where corrections go; - is stdout.
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
    /// Also write the preference pair of each corrected answer here, one JSON object a line, as `run`
    /// writes it to topics.pairs; - is stdout where --output names a file.
    #[arg(long, value_name = "FILE", conflicts_with = "raw")]
    pub pairs: Option<PathBuf>,
    /// json is one correction per line, with all that is known; text is for people: a word diff of
    /// what was changed, why the model was not asked, and one line for an answer that is unchanged.
    /// By default text on a terminal.
    #[arg(long)]
    pub format: Option<OutputFormat>,
    /// Send each line's `prompt` as it is: no template, no gates; returns token ids, or the line's
    /// error in its place.
    #[arg(long, conflicts_with_all = ["question", "answer", "profile"])]
    pub raw: bool,
    /// Which Aligner.
    #[command(flatten)]
    pub model: Model,
}

/// What `correct` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// One correction per line.
    Json,
    /// What a person looks for: word diffs and reasons.
    Text,
}

/// `show`.
#[derive(Debug, Args)]
pub struct Show {
    /// Corrections as JSON Lines, at most 64 MiB each: what `correct --output` writes, what
    /// kafka-console-consumer.sh prints of topics.corrections, or rows of a warehouse that have its
    /// fields as columns, in lower case. - is stdin, and so is none. Corrections in Avro are not read.
    /// Without colours changes are [-taken out-] and {+put in+}, and a text that has such marks looks alike.
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Only corrections of which this became, as corrected,bypassed; with `unchanged` among them, the
    /// texts of unchanged answers are shown, too.
    #[arg(
        long,
        value_name = "DISPOSITION",
        value_delimiter = ',',
        value_parser = PossibleValuesParser::new(Disposition::ALL.map(Disposition::as_str))
            .try_map(Disposition::try_from)
    )]
    pub only: Vec<Disposition>,
    /// Only corrections with one of these reasons, as low_confidence,inconsistent_copy.
    #[arg(long, value_name = "REASON", value_delimiter = ',')]
    pub reason: Vec<String>,
}

/// `bench`.
#[derive(Debug, Args)]
pub struct Bench {
    /// Replay a queue of {"requests": [{"id", "prompt_len", "out_len"}]} instead of batches 1, 8, 32.
    #[arg(long, value_name = "FILE")]
    pub queue: Option<PathBuf>,
    /// Sequences running at once.
    #[arg(long, default_value_t = 16)]
    pub slots: usize,
    /// With --queue: write the argmax id of every output row to this file.
    #[arg(long, value_name = "FILE", requires = "queue")]
    pub emit: Option<PathBuf>,
    /// Prompt tokens of each sequence, without --queue.
    #[arg(long, default_value_t = 128)]
    pub prompt_tokens: usize,
    /// Tokens decoded by each sequence, without --queue.
    #[arg(long, default_value_t = 128)]
    pub new_tokens: usize,
    /// Check drafts while decoding, as the service does.
    #[arg(long)]
    pub speculate: bool,
    /// Compute as a lesser processor would: avx512-vnni, avx512, avx2, or portable.
    #[arg(long, value_name = "SET")]
    pub kernels: Option<String>,
    /// One JSON object on stdout.
    #[arg(long)]
    pub json: bool,
    /// Which Aligner.
    #[command(flatten)]
    pub model: Model,
}

/// `train`.
#[derive(Debug, Args)]
pub struct Train {
    /// Triples as a JSON array or JSON Lines, or corrections and preference pairs as the connector
    /// writes them; prompt, chosen and rejected of a pair may be messages of a chat.
    #[arg(long, value_name = "FILE", required = true)]
    pub data: Vec<PathBuf>,
    /// Triples to validate on (of more than 512, a sample); without any, a share of --data is held
    /// out, equal rows together.
    #[arg(long, value_name = "FILE")]
    pub validation: Vec<PathBuf>,
    /// Where to begin, by default bundled: bundled, scratch, or the folder of a Llama in Hugging Face
    /// layout, the only kind that can be trained.
    #[arg(long)]
    pub from: Option<String>,
    /// Folder for the trained Aligner, its checkpoints and the training curve; one that holds a model
    /// is refused.
    #[arg(long, value_name = "DIR")]
    pub output: PathBuf,
    /// Name of the trained Aligner.
    #[arg(long)]
    pub name: Option<String>,
    /// Go on from the newest checkpoint in --output; where there is none, begin anew and say so. To go
    /// on from a finished run, name its folder by --from, and another one by --output.
    #[arg(long)]
    pub resume: bool,
    /// A JSON file with any keys of the recipe, such as max_tokens, validation_share or patience
    /// (docs/retraining.md, section 4, has them all with their defaults); the flags below override it.
    #[arg(long, value_name = "FILE")]
    pub recipe: Option<PathBuf>,
    /// Steps in all, instead of --epochs.
    #[arg(long, conflicts_with = "epochs")]
    pub steps: Option<u64>,
    /// Passes over the triples; by default 2 (10 from scratch), and as many more as make 24 steps
    /// on corrections.
    #[arg(long, allow_hyphen_values = true)]
    pub epochs: Option<f64>,
    /// Most tokens of a batch.
    #[arg(long)]
    pub batch_tokens: Option<usize>,
    /// Batches whose gradients make one step.
    #[arg(long)]
    pub accumulation: Option<usize>,
    /// Highest learning rate.
    #[arg(long, allow_hyphen_values = true)]
    pub learning_rate: Option<f64>,
    /// Share of the steps, at the start, that train on identity pairs.
    #[arg(long, allow_hyphen_values = true)]
    pub identity_share: Option<f64>,
    /// Seed of everything random.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Steps between two checkpoints.
    #[arg(long, default_value_t = 500)]
    pub checkpoint_every: u64,
    /// cpu, or cuda:N in a binary built with CUDA.
    #[arg(long, default_value = "cpu")]
    pub device: String,
}

/// `eval`.
#[derive(Debug, Args)]
pub struct Eval {
    /// Triples as a JSON array or JSON Lines, or corrections and preference pairs as the connector
    /// writes them; prompt, chosen and rejected of a pair may be messages of a chat.
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    /// A second Aligner to compare with.
    #[arg(long, value_name = "MODEL")]
    pub against: Option<String>,
    /// At most so many triples: of more, a sample of the whole file, the same one each time.
    #[arg(long)]
    pub limit: Option<usize>,
    /// One JSON object on stdout.
    #[arg(long)]
    pub json: bool,
    /// Also write an HTML report with diffs of the worst cases, and with --against of those on which
    /// the two differ most.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Which Aligner.
    #[command(flatten)]
    pub model: Model,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| format!("`{text}` is not KEY=VALUE"))?;
    let key = key.trim();
    if key.split('.').any(str::is_empty) {
        return Err(format!("`{key}` is no dotted key, such as topics.answers"));
    }
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
