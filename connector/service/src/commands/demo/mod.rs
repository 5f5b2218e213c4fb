//! `demo`: the service at work. Traffic is produced live, the same code as `run` corrects it, and
//! what it wrote is read back from the topics and shown.

mod books;
mod reach;
mod traffic;
mod view;

use std::{mem::ManuallyDrop, process::ExitCode, sync::atomic::AtomicBool, time::Duration};

use aligner_kafka::{Connection, MockBroker, TopicReader, create_topics};
use anyhow::{Context, bail};
use tokio::{sync::oneshot, time::timeout};

use crate::{
    cli,
    commands::{self, demo::books::Books},
    config::{Secret, Settings},
    serve,
    signals::{self, INTERRUPTED},
    telemetry,
};

const PARTITIONS: i32 = 3;
/// No output for so long means that something is lost.
const PATIENCE: Duration = Duration::from_secs(60);
/// The broker and the clients' first meeting.
const CONNECT: Duration = Duration::from_secs(40);

/// Runs the command.
pub fn run(args: &cli::Demo) -> anyhow::Result<ExitCode> {
    telemetry::install_quiet();
    let runtime = commands::runtime()?;
    let code = runtime.block_on(demo(args));
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

async fn demo(args: &cli::Demo) -> anyhow::Result<ExitCode> {
    // The in-process broker lives as long as the process: threads of the clients still close their
    // connections when the service has ended, and would report a broker that went before them.
    let (broker, settings) = match &args.bootstrap_servers {
        Some(servers) => (None, settings(servers)),
        None => {
            let broker = ManuallyDrop::new(mock()?);
            let mut settings = settings(broker.bootstrap_servers());
            settings.kafka.properties = MockBroker::client_properties()
                .into_iter()
                .map(|(name, value)| (name, Secret::new(value)))
                .collect();
            (Some(broker), settings)
        }
    };
    let connection = serve::connection(&settings)?;
    if broker.is_none() {
        reach::any_of(&settings.kafka.bootstrap_servers).await?;
    }
    let view = view::View::new(args, broker.is_some()).map_err(commands::unprinted)?;
    view.opening(&settings).map_err(commands::unprinted)?;
    if broker.is_none() {
        let topics = topics(&settings);
        let topics: Vec<(&str, i32)> = topics.iter().map(|topic| (*topic, PARTITIONS)).collect();
        create_topics(&connection, &topics).await.with_context(|| {
            format!(
                "{} (it must be a Kafka that asks for no login, and whose advertised.listeners \
                     this machine reaches)",
                at(&settings, "making the demo's topics")
            )
        })?;
    }
    let outputs = outputs(connection.clone(), &settings).await?;

    // One for all that follows: between two of them a signal would go unheard.
    let mut interrupt = Box::pin(signals::stop_signal(INTERRUPTED)?);
    let (stop, stopped) = oneshot::channel::<()>();
    let (started, running) = oneshot::channel();
    let service_settings = settings.clone();
    let mut service = tokio::spawn(async move {
        let stopped = async {
            // A dropped sender stops the service as well.
            let _ = stopped.await;
        };
        // Nobody asks what it waits for.
        let connecting = AtomicBool::new(false);
        serve::serve(&service_settings, stopped, &connecting, started).await
    });
    let progress = tokio::select! {
        running = timeout(CONNECT, running) => match running {
            Ok(Ok(running)) => running.progress,
            // The service ended before it began: its own error says why.
            Ok(Err(_)) => return Err(service.await?.err().context("the service did not start")?),
            Err(_) => bail!(
                "kafka at {} did not let the service start within {} s: is it up, and does it \
                 let this machine in?",
                settings.kafka.bootstrap_servers,
                CONNECT.as_secs()
            ),
        },
        () = &mut interrupt => {
            view.interrupted(0, args.events);
            return Ok(ExitCode::from(INTERRUPTED));
        }
    };

    let events = traffic::events(args.seed, args.events);
    let mut books = Books::new(&events);
    let mut producer = tokio::spawn(traffic::produce(
        connection,
        settings.topics.answers[0].clone(),
        events,
    ));
    let followed = follow(
        outputs,
        &mut books,
        &view,
        &progress,
        &mut service,
        &mut producer,
        &mut interrupt,
    )
    .await;
    let interrupted = matches!(followed, Ok(Followed::Interrupted));
    let closed = if interrupted {
        view.interrupted(books.done(), books.total());
        Ok(())
    } else {
        view.closing(&books, broker.is_some())
    };
    producer.abort();
    // The service may have ended already, and then has nothing to be told.
    let _ = stop.send(());
    if !service.is_finished() {
        tokio::select! {
            ended = &mut service => {
                ended??;
            }
            // Nobody needs what is left to do.
            () = &mut interrupt, if !interrupted => signals::end_at_once(INTERRUPTED),
        }
    }
    followed?;
    closed.map_err(commands::unprinted)?;
    if interrupted {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    Ok(if books.lost() == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

type Service = tokio::task::JoinHandle<anyhow::Result<Option<aligner_pipeline::Summary>>>;

/// Why outputs are read no more.
enum Followed {
    /// Every event is accounted for.
    ToTheEnd,
    /// Somebody has seen enough.
    Interrupted,
}

/// Reads outputs until every event is accounted for.
async fn follow(
    mut outputs: TopicReader,
    books: &mut Books,
    view: &view::View,
    progress: &aligner_pipeline::progress::Progress,
    service: &mut Service,
    producer: &mut tokio::task::JoinHandle<anyhow::Result<()>>,
    interrupt: &mut (impl Future<Output = ()> + Unpin),
) -> anyhow::Result<Followed> {
    let mut redraw = tokio::time::interval(Duration::from_millis(200));
    let mut last = tokio::time::Instant::now();
    let mut is_produced = false;
    while books.open() > 0 {
        tokio::select! {
            record = outputs.next() => {
                let before = (books.done(), books.open());
                let corrected = books.enter(&record?)?;
                // On a shared cluster another demo may write at the same time.
                if (books.done(), books.open()) != before {
                    last = tokio::time::Instant::now();
                }
                if let Some(correction) = corrected {
                    view.correction(&correction).map_err(commands::unprinted)?;
                }
            }
            produced = &mut *producer, if !is_produced => {
                is_produced = true;
                produced?.context("an answer of the demo could not be written")?;
            }
            _ = redraw.tick() => {
                view.status(books, &progress.snapshot());
                if last.elapsed() > PATIENCE {
                    bail!("{} events are lost: nothing came for {} s", books.open(), PATIENCE.as_secs());
                }
            }
            ended = &mut *service => {
                ended??;
                bail!("the service ended with {} events open", books.open());
            }
            () = &mut *interrupt => return Ok(Followed::Interrupted),
        }
    }
    view.status(books, &progress.snapshot());
    Ok(Followed::ToTheEnd)
}

fn settings(bootstrap_servers: &str) -> Settings {
    let mut settings = Settings::default();
    settings.name.0 = "aligner-demo".to_owned();
    settings.kafka.bootstrap_servers = bootstrap_servers.to_owned();
    settings.topics.answers = vec!["aligner-demo.answers".to_owned()];
    settings.topics.corrections = "aligner-demo.corrections".to_owned();
    settings.topics.pairs = "aligner-demo.pairs".to_owned();
    settings.topics.dead_letters = "aligner-demo.dead-letters".to_owned();
    settings.topics.create = true;
    // Somebody is watching: small batches, so that corrections come one by one.
    settings.pipeline.max_batch_records = 8;
    // Whoever interrupts it waits for no answer.
    settings.pipeline.drain_timeout_ms = 0;
    settings
}

fn topics(settings: &Settings) -> [&str; 4] {
    let topics = &settings.topics;
    [
        &topics.answers[0],
        &topics.corrections,
        &topics.pairs,
        &topics.dead_letters,
    ]
}

/// What was tried, and with which brokers.
fn at(settings: &Settings, what: &str) -> String {
    format!("{what} on kafka at {}", settings.kafka.bootstrap_servers)
}

fn mock() -> anyhow::Result<MockBroker> {
    let settings = settings("");
    let topics: Vec<(&str, i32)> = topics(&settings)
        .iter()
        .map(|topic| (*topic, PARTITIONS))
        .collect();
    Ok(MockBroker::start(&topics)?)
}

async fn outputs(connection: Connection, settings: &Settings) -> anyhow::Result<TopicReader> {
    let [_, corrections, pairs, dead_letters] = topics(settings).map(str::to_owned);
    // Asking where the topics end blocks.
    let opened = tokio::task::spawn_blocking(move || {
        TopicReader::open(
            &connection,
            &[corrections.as_str(), pairs.as_str(), dead_letters.as_str()],
            aligner_kafka::StartFrom::Latest,
        )
    });
    opened
        .await?
        .with_context(|| at(settings, "reading the demo's output topics"))
}
