//! Puts source and sink together, in the order that exactly once needs.
//!
//! Have a token, where the login needs one; look; claim the transactional id, which ends what a
//! predecessor left open; only then join the group and read offsets.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, SyncSender},
    },
    thread,
    time::Instant,
};

use aligner_pipeline::Partition;
use tokio::sync::oneshot;

use crate::{
    absence::Absence,
    consumer_thread::ConsumerThread,
    delivery_thread::DeliveryThread,
    ends::Ends,
    handoff::Handoff,
    hanging::Watch,
    listener::Listener,
    lookout::Lookout,
    membership::Membership,
    outlet::OutletParts,
    preflight::{Preflight, StartError},
    producer_thread::NoProducer,
    properties,
    settings::{Connection, DeliveryGuarantee},
    sink::KafkaSink,
    source::KafkaSource,
    start_position::{self, Beginning},
    stats::ClientStats,
    successor::Successor,
    tenure::Tenures,
};

/// Both ends of a pipeline on Kafka.
#[derive(Debug)]
pub struct Connected {
    /// Reads answer events.
    pub source: KafkaSource,
    /// Writes results together with offsets.
    pub sink: KafkaSink,
    /// What both know about themselves.
    pub stats: Arc<ClientStats>,
}

/// Connects. Waits for brokers that are not there yet, for ever; dropping the future gives up.
///
/// # Errors
///
/// What no waiting mends, with its cause, within `start_timeout_ms` after a broker answered.
pub async fn connect(connection: Connection) -> Result<Connected, StartError> {
    let given_up = Arc::new(AtomicBool::new(false));
    let _gives_up_when_dropped = GiveUp(Some(Arc::clone(&given_up)));
    let runtime = tokio::runtime::Handle::current();
    let (answer, connected) = oneshot::channel();
    start_thread("kafka-connect", move || {
        // A caller that is gone has no use for the answer, and both ends close when dropped.
        let _ = answer.send(connect_blocking(&connection, &runtime, given_up));
    })?;
    connected.await.unwrap_or_else(|_| {
        Err(StartError::Other(
            "the thread that connects ended".to_owned(),
        ))
    })
}

/// Tells others to give up once it is dropped.
struct GiveUp(Option<Arc<AtomicBool>>);

impl GiveUp {
    /// They shall go on.
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for GiveUp {
    fn drop(&mut self) {
        if let Some(told) = &self.0 {
            told.store(true, Ordering::Release);
        }
    }
}

fn connect_blocking(
    connection: &Connection,
    runtime: &tokio::runtime::Handle,
    given_up: Arc<AtomicBool>,
) -> Result<Connected, StartError> {
    // Before anybody is waited for: while no broker was reached, 0 of them are up, and an alarm
    // on that must find the figure.
    let tenures = Arc::new(Tenures::default());
    let meter = opentelemetry::global::meter("aligner-kafka");
    let absence = Absence::new(
        connection.session_timeout(),
        !connection.kafka.brokers_decide_on_sessions(),
    );
    let stats = ClientStats::new(Arc::clone(&tenures), absence, &meter);

    if let Some(login) = &connection.login {
        login.wait(&given_up)?;
    }
    let found = Preflight::new(connection, Arc::clone(&given_up))?.run(runtime)?;

    let handoff = Arc::new(Handoff::new(connection.kafka.fetch_buffer_bytes));
    let source_closing = Arc::new(AtomicBool::new(false));
    let sink_closing = Arc::new(AtomicBool::new(false));
    // The threads beside the clients would look for ever.
    let ends_them_when_it_fails = GiveUp(Some(Arc::clone(&source_closing)));

    start_ends(connection, &stats, &source_closing)?;
    let exactly_once = connection.kafka.delivery == DeliveryGuarantee::ExactlyOnce;
    let arrivals = if exactly_once {
        start_watch(connection, &stats, &source_closing)?;
        Some(start_successor(connection, &stats, &source_closing)?)
    } else {
        None
    };
    let consuming = properties::consumer(connection);
    let membership = Membership {
        listener: Listener::new("consumer", Some(stats.client("consumer")), &consuming),
        tenures: Arc::clone(&tenures),
        courses: Mutex::default(),
        handoff: Arc::clone(&handoff),
        stats: Arc::clone(&stats),
        closing: Arc::clone(&source_closing),
        revoke_timeout: connection.revoke_timeout(),
        beginning: Beginning::new(connection.kafka.start_from, found),
        offsets_patience: start_position::patience(properties::max_poll_interval(&consuming)),
        arrivals,
        suspended: AtomicBool::new(false),
        changes: AtomicU64::new(0),
    };
    let (consumer, handle) = ConsumerThread::create(consuming, membership, connection)
        .map_err(|error| StartError::Other(error.to_string()))?;

    let parts = OutletParts {
        config: properties::producer(connection),
        transactional: exactly_once,
        connection: connection.clone(),
        consumer: handle,
        tenures,
        stats: Arc::clone(&stats),
    };
    let mut deliveries = DeliveryThread::open(
        parts,
        connection.transaction_timeout(),
        connection.news_of_a_duplicate(),
        Arc::clone(&handoff),
        Arc::clone(&sink_closing),
    );
    claim(&mut deliveries, connection, &given_up)?;

    consumer
        .subscribe(&connection.topics.answers)
        .map_err(|error| StartError::Other(error.to_string()))?;
    let no_thread =
        |error: std::io::Error| StartError::Other(format!("no thread could be started: {error}"));
    let sink = KafkaSink::start(deliveries, sink_closing, connection.close_timeout())
        .map_err(no_thread)?;
    let source = KafkaSource::start(
        consumer,
        handoff,
        source_closing,
        connection.close_timeout(),
    )
    .map_err(no_thread)?;
    ends_them_when_it_fails.disarm();
    Ok(Connected {
        source,
        sink,
        stats,
    })
}

/// Arrivals that wait while an earlier takeover goes on.
const WAITING_ARRIVALS: usize = 16;

fn start_successor(
    connection: &Connection,
    stats: &Arc<ClientStats>,
    closing: &Arc<AtomicBool>,
) -> Result<SyncSender<Vec<Partition>>, StartError> {
    let (arrivals, arrived) = mpsc::sync_channel(WAITING_ARRIVALS);
    let successor = Successor::new(connection.clone(), Arc::clone(stats), Arc::clone(closing))
        .map_err(|error| StartError::Other(error.to_string()))?;
    start_thread("kafka-succeed", move || successor.run(&arrived))?;
    Ok(arrivals)
}

fn start_ends(
    connection: &Connection,
    stats: &Arc<ClientStats>,
    closing: &Arc<AtomicBool>,
) -> Result<(), StartError> {
    let ends = Ends::new(connection, Arc::clone(stats))
        .map_err(|error| StartError::Other(error.to_string()))?;
    let closing = Arc::clone(closing);
    start_thread("kafka-ends", move || ends.keep_looking(&closing))
}

fn start_watch(
    connection: &Connection,
    stats: &Arc<ClientStats>,
    closing: &Arc<AtomicBool>,
) -> Result<(), StartError> {
    let watch = Watch::new(connection.clone(), Arc::clone(stats))
        .map_err(|error| StartError::Other(error.to_string()))?;
    let closing = Arc::clone(closing);
    start_thread("kafka-watch", move || watch.keep_looking(&closing))
}

fn start_thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), StartError> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map(drop)
        .map_err(|error| StartError::Other(format!("no thread could be started: {error}")))
}

fn claim(
    deliveries: &mut DeliveryThread,
    connection: &Connection,
    given_up: &AtomicBool,
) -> Result<(), StartError> {
    let deadline = Instant::now() + connection.start_timeout();
    loop {
        match deliveries.prepare() {
            Ok(()) => return Ok(()),
            Err(NoProducer::Lasting(cause)) => return Err(StartError::Forbidden(cause)),
            Err(NoProducer::Passing { cause, .. }) => {
                if given_up.load(Ordering::Acquire) {
                    return Err(StartError::GivenUp);
                }
                if Instant::now() >= deadline {
                    return Err(StartError::Other(format!(
                        "{cause}; does the cluster have as many brokers as its \
                         transaction.state.log.replication.factor asks for?"
                    )));
                }
                tracing::warn!(%cause, "waiting for the transaction coordinator");
            }
        }
    }
}
