//! `correct`: answers from the command line, a file or stdin; the same pipeline, engine and prompt
//! as `run`, with lines of text where that has Kafka.

mod lines;
mod raw;
mod writer;

use std::{
    fs::{File, Metadata},
    io::{self, BufRead, BufReader, BufWriter, IsTerminal, Write},
    os::unix::fs::MetadataExt,
    path::Path,
    process::ExitCode,
    sync::Arc,
};

use aligner_pipeline::{Parts, Pipeline, Settings, system_clock};
use aligner_records::FieldMap;
use anyhow::{Context, bail};

use crate::{
    cli::{self, OutputFormat},
    commands::{self, Usage},
    config, models, serve, telemetry,
};

/// Runs the command.
pub fn run(args: &cli::Correct) -> anyhow::Result<ExitCode> {
    telemetry::install_quiet();
    let settings = commands::model(&args.model)?;
    let fields = fields(args)?;
    let input = input(args)?;
    refuse_own_input(args)?;
    let format = args.format.unwrap_or_else(|| {
        let terminal = args.output.as_os_str() == "-" && io::stdout().is_terminal();
        if terminal {
            OutputFormat::Text
        } else {
            OutputFormat::Json
        }
    });
    let runtime = commands::runtime()?;
    let loaded = runtime.block_on(models::load(&settings))?;
    let output = output(&args.output)?;
    if args.raw {
        return runtime.block_on(raw::run(loaded.engine()?, input, output));
    }
    let aligner = loaded.aligner();
    let progress = commands::progress_bar(total_lines(args)?);
    let (sink, ending) =
        writer::LineSink::new(output, format, aligner.identity().clone(), progress);
    let (source, input_end) = lines::LineSource::new(input);
    let pipeline = Pipeline::new(Parts {
        source,
        sink,
        decoder: Arc::new(lines::LineDecoder::new(fields)),
        encoder: Arc::new(writer::LineEncoder::new(&aligner.identity().revision)),
        aligner,
        settings: patient(),
        connector: "correct".to_owned(),
        task: 0,
        wall_clock: system_clock(),
    });
    let summary = runtime.block_on(async {
        let stop = serve::stop_signal()?;
        let interrupted = async {
            stop.await;
            eprintln!("stopping: what the Aligner has is finished; a second signal ends at once");
        };
        anyhow::Ok(pipeline.run(interrupted).await?)
    });
    let ending = ending.wait();
    if let Some(error) = ending.write_error {
        return Err(anyhow::Error::new(error).context("writing corrections"));
    }
    let summary = summary?;
    match input_end.reached() {
        Some(Ok(())) if summary.left == 0 => {}
        Some(Err(error)) => bail!("{error}; the lines before it are done"),
        _ => bail!(
            "interrupted: {} lines were done, the others are not in the output",
            summary.received - summary.left
        ),
    }
    if ending.dead_lettered == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!(
        "{} of {} lines could not be corrected: their \"disposition\" is dead_lettered, and \
         \"message\" says why",
        ending.dead_lettered, summary.received
    );
    Ok(ExitCode::FAILURE)
}

/// A file is not a service: nothing waits for it to leave, and nobody gains from short batches.
fn patient() -> Settings {
    Settings {
        drain_timeout_ms: 24 * 3_600_000,
        // Somebody is looking on: an Aligner that answers nothing is waited for while each line
        // of the log says so, and then the lines that it did not answer are named.
        max_outage_ms: 60_000,
        max_input_bytes: lines::MAX_LINE_BYTES,
        max_output_bytes: 256 << 20,
        ..Settings::default()
    }
}

/// How the lines are laid out, where not in our own way.
fn fields(args: &cli::Correct) -> anyhow::Result<Option<FieldMap>> {
    let Some(path) = &args.config else {
        return Ok(None);
    };
    let settings = commands::settings(&cli::Run {
        config: Some(path.clone()),
        set: Vec::new(),
    })?;
    Ok(config::fields(&settings)?)
}

type Input = Box<dyn BufRead + Send>;
type Output = Box<dyn Write + Send>;

fn input(args: &cli::Correct) -> anyhow::Result<Input> {
    if let (Some(question), Some(answer)) = (&args.question, &args.answer) {
        let event = serde_json::json!({ "question": question, "answer": answer });
        return Ok(Box::new(io::Cursor::new(format!("{event}\n"))));
    }
    match &args.input {
        Some(path) if path.as_os_str() != "-" => {
            let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
            Ok(Box::new(BufReader::new(file)))
        }
        Some(_) => Ok(Box::new(BufReader::new(io::stdin()))),
        None if !io::stdin().is_terminal() => Ok(Box::new(BufReader::new(io::stdin()))),
        None => Err(Usage(
            "nothing to correct: give --question and --answer, or --input FILE with one JSON \
             object per line ({\"question\": …, \"answer\": …})"
                .to_owned(),
        )
        .into()),
    }
}

/// Making the output empties it: the answers would be gone before they are read.
fn refuse_own_input(args: &cli::Correct) -> anyhow::Result<()> {
    let identity = |path: &Path| {
        let file = std::fs::metadata(path).ok().filter(Metadata::is_file)?;
        Some((file.dev(), file.ino()))
    };
    if let Some(input) = &args.input
        && let Some(file) = identity(input)
        && identity(&args.output) == Some(file)
    {
        return Err(Usage(format!(
            "--output {} is the file that --input reads: name another one",
            args.output.display()
        ))
        .into());
    }
    Ok(())
}

fn output(path: &Path) -> anyhow::Result<Output> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(BufWriter::new(io::stdout())));
    }
    let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
    Ok(Box::new(BufWriter::new(file)))
}

/// Lines of the input file, for the progress bar.
fn total_lines(args: &cli::Correct) -> anyhow::Result<Option<u64>> {
    let Some(path) = args.input.as_ref().filter(|path| path.is_file()) else {
        return Ok(None);
    };
    let mut reader = BufReader::new(File::open(path)?);
    let mut lines = 0;
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(Some(lines));
        }
        lines += buffer.iter().filter(|byte| **byte == b'\n').count() as u64;
        let read = buffer.len();
        reader.consume(read);
    }
}
