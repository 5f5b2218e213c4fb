//! What the person sees: diffs as they come, a status line, and a summary. Without a terminal one
//! plain line for each corrected answer.

use std::{
    io::{self, Write},
    time::Duration,
};

use aligner_pipeline::progress::Snapshot;
use aligner_records::{Correction, Disposition};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use super::books::Books;
use crate::{
    cli, commands,
    config::Settings,
    diff::{self, Paint},
    stderr::tell,
};

/// What to try next, in a file of its own because `tests/cli` tries it: a proposal that the bundled
/// model does not correct would be a bad start.
const PROPOSAL: &str = include_str!("proposal.txt");
/// The program, as the proposal names it.
const PROGRAM: &str = "aligner-connector";

/// The demo's output.
pub struct View {
    bar: ProgressBar,
    terminal: bool,
    paint: Paint,
    begun: Instant,
}

impl View {
    /// A view for a terminal, or for a pipe.
    pub fn new(args: &cli::Demo, in_process: bool) -> io::Result<Self> {
        let target = ProgressDrawTarget::stdout();
        // A dumb terminal counts as none: nothing can be drawn over there, and a bar that is not drawn
        // prints no lines either.
        let terminal = !target.is_hidden();
        let bar = ProgressBar::with_draw_target(Some(args.events.into()), target);
        bar.set_style(
            ProgressStyle::with_template("{bar:30.cyan} {pos}/{len} answers  {msg}")
                .expect("the template is well formed"),
        );
        let view = Self {
            bar,
            terminal,
            paint: Paint::of_stdout(),
            begun: Instant::now(),
        };
        let broker = if in_process {
            "an in-process broker"
        } else {
            "your Kafka"
        };
        view.line(&format!(
            "Aligner Connector demo: {} answers over {broker}.",
            args.events
        ))?;
        Ok(view)
    }

    fn line(&self, text: &str) -> io::Result<()> {
        if self.terminal {
            self.bar.println(text);
            Ok(())
        } else {
            writeln!(io::stdout(), "{text}")
        }
    }

    /// Which way the records go.
    pub fn opening(&self, settings: &Settings) -> io::Result<()> {
        let topics = &settings.topics;
        self.line(&format!(
            "{} -> {} Aligner -> {}, {}, {}\n",
            topics.answers[0],
            settings.aligner.model,
            topics.corrections,
            topics.pairs,
            topics.dead_letters,
        ))
    }

    /// An answer that was changed.
    pub fn correction(&self, correction: &Correction) -> io::Result<()> {
        let answer = correction.answer.as_deref().unwrap_or_default();
        let corrected = correction.correction.as_deref().unwrap_or_default();
        let diff = diff::words(answer, corrected, self.paint);
        let question = commands::question_line(correction.question.as_deref().unwrap_or_default());
        let id = diff::harmless(&correction.event_id);
        let model = diff::harmless(correction.upstream_model.as_deref().unwrap_or("?"));
        if self.terminal {
            self.line(&format!(
                "corrected {id} ({model})\n  {question}\n  {}\n",
                diff.replace('\n', "\n  ")
            ))
        } else {
            self.line(&format!(
                "corrected {id} model={model} {question} / {}",
                diff.replace('\n', " / ")
            ))
        }
    }

    /// Rate, dispositions, queue.
    pub fn status(&self, books: &Books, snapshot: &Snapshot) {
        let rate = f64::from(books.done()) / self.begun.elapsed().as_secs_f64().max(0.001);
        self.bar.set_position(books.done().into());
        self.bar.set_message(format!(
            "{rate:.0}/s  {} corrected, {} unchanged, {} bypassed, {} dead letters  {} in the queue",
            books.count(Disposition::Corrected),
            books.count(Disposition::Unchanged),
            books.count(Disposition::Bypassed),
            books.count(Disposition::DeadLettered),
            snapshot.unfinished,
        ));
    }

    /// How far it came until somebody stopped it.
    pub fn interrupted(&self, done: u32, of: u32) {
        self.bar.finish_and_clear();
        tell!("interrupted: {done} of {of} answers were done");
    }

    /// What happened, and what to do next.
    pub fn closing(&self, books: &Books, in_process: bool) -> io::Result<()> {
        self.bar.finish_and_clear();
        let mut out = io::stdout().lock();
        let seconds = self.begun.elapsed();
        let share = |part: u32, all: u32| 100.0 * f64::from(part) / f64::from(all.max(1));
        let corrected = books.count(Disposition::Corrected);
        writeln!(out)?;
        writeln!(
            out,
            "{} of {} answers accounted for in {}: {corrected} corrected ({:.0} %), {} unchanged, \
             {} bypassed, {} dead letters; {} lost.",
            books.done(),
            books.total(),
            short(seconds),
            share(corrected, books.total()),
            books.count(Disposition::Unchanged),
            books.count(Disposition::Bypassed),
            books.count(Disposition::DeadLettered),
            books.lost(),
        )?;
        if let Some(median) = books.median_inference_ms() {
            writeln!(
                out,
                "Each correction took a median of {median} ms in the model."
            )?;
        }
        for (model, (all, corrected)) in books.by_model() {
            writeln!(out, "  {model:<24} {corrected:>4} of {all:>4} corrected")?;
        }
        writeln!(out)?;
        writeln!(out, "Next:")?;
        let program = program();
        let own_kafka = "demo --bootstrap-servers localhost:9092   on your own Kafka";
        for arguments in [PROPOSAL.trim_end().trim_start_matches(PROGRAM).trim_start()]
            .into_iter()
            .chain(in_process.then_some(own_kafka))
            .chain([
                "validate --config config/connector.yaml",
                "run --config config/connector.yaml --set topics.create=true",
            ])
        {
            writeln!(out, "  {program} {arguments}")?;
        }
        Ok(())
    }
}

/// What this was called by, so that a proposal can be typed as it stands; its name where a shell would
/// take that for something else.
fn program() -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    std::env::args_os()
        .next()
        .and_then(|called| called.into_string().ok())
        .filter(|called| called.chars().all(is_plain))
        .unwrap_or_else(|| PROGRAM.to_owned())
}

fn short(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
