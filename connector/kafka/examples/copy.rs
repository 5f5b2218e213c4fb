//! Copies every answer to the corrections topic and nothing else: the smallest pipeline there
//! is, to try brokers, settings and faults by hand.
//!
//! ```text
//! copy BOOTSTRAP NAME [INSTANCE_ID] [exactly_once|at_least_once] [PAUSE_MS_PER_DELIVERY]
//! ```

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use aligner_kafka::{Connection, DeliveryGuarantee, KafkaSettings, TopicSettings, connect};
use aligner_pipeline::{
    Delivery, DeliveryError, Outbound, OutputKind, PartitionEpoch, Sink, Source, SourceEvent,
};

#[derive(Default)]
struct Finished {
    by_partition: BTreeMap<Arc<PartitionEpoch>, Delivery>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()),
        )
        .with_writer(std::io::stderr)
        .init();
    let mut arguments = std::env::args().skip(1);
    let servers = arguments.next().ok_or("BOOTSTRAP is missing")?;
    let name = arguments.next().ok_or("NAME is missing")?;
    let instance = arguments.next().filter(|given| given != "-");
    let delivery = match arguments.next().as_deref() {
        Some("at_least_once") => DeliveryGuarantee::AtLeastOnce,
        _ => DeliveryGuarantee::ExactlyOnce,
    };
    let pause = Duration::from_millis(arguments.next().map_or(Ok(5), |text| text.parse())?);
    let properties: BTreeMap<_, _> = arguments
        .filter_map(|pair| {
            pair.split_once('=')
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
        })
        .collect();
    let kafka = KafkaSettings {
        bootstrap_servers: servers,
        delivery,
        instance_id: instance,
        properties,
        ..KafkaSettings::default()
    };
    let topics = TopicSettings {
        create: true,
        ..TopicSettings::default()
    };
    let connection = Connection::new(&name, kafka, topics).map_err(|problems| {
        problems
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    })?;
    let connected = connect(connection)
        .await
        .map_err(|error| error.to_string())?;
    let (mut source, mut sink, stats) = (connected.source, connected.sink, connected.stats);
    let mut finished = Finished::default();
    let mut copied = 0_u64;
    let mut transactions = 0_u64;
    let mut slowest = Duration::ZERO;
    let mut report = tokio::time::interval(Duration::from_secs(1));
    let mut flush = tokio::time::interval(pause.max(Duration::from_millis(1)));
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    loop {
        tokio::select! {
            biased;
            _ = terminate.recv() => {
                source.stop();
                deliver(&mut sink, &mut finished).await?;
                sink.close().await;
                source.close().await;
                return Ok(());
            }
            _ = report.tick() => {
                eprintln!(
                    "copied {copied} in {transactions}, slowest {slowest:?}, assigned {}, lag {:?}, {:?}",
                    stats.assigned(),
                    stats.lags().iter().map(aligner_kafka::PartitionLag::lag).collect::<Vec<_>>(),
                    stats.state(),
                );
                slowest = Duration::ZERO;
            }
            _ = flush.tick() => {
                if !finished.by_partition.is_empty() {
                    let started = Instant::now();
                    let count = deliver(&mut sink, &mut finished).await?;
                    slowest = slowest.max(started.elapsed());
                    copied += count;
                    transactions += 1;
                }
            }
            event = source.next() => match event {
                None => return Ok(()),
                Some(Err(error) | Ok(SourceEvent::Unreadable(error))) => return Err(error.into()),
                Some(Ok(SourceEvent::Assigned(_) | SourceEvent::Exhausted)) => {}
                Some(Ok(SourceEvent::Records(records))) => {
                    for record in records {
                        let entry = finished
                            .by_partition
                            .entry(Arc::clone(&record.partition))
                            .or_insert_with(|| Delivery {
                                partition: Arc::clone(&record.partition),
                                next_offset: 0,
                                outputs: Vec::new(),
                            });
                        entry.next_offset = record.offset + 1;
                        entry.outputs.push(Arc::new(Outbound {
                            kind: OutputKind::Correction,
                            key: record.key,
                            value: record.value,
                            headers: record.headers,
                        }));
                    }
                }
                Some(Ok(SourceEvent::Revoking { partitions, release, .. })) => {
                    copied += deliver(&mut sink, &mut finished).await?;
                    finished.by_partition.retain(|tenure, _| !partitions.contains(tenure));
                    drop(release);
                }
                Some(Ok(SourceEvent::Lost(partitions))) => {
                    finished.by_partition.retain(|tenure, _| !partitions.contains(tenure));
                }
            }
        }
    }
}

async fn deliver(
    sink: &mut aligner_kafka::KafkaSink,
    finished: &mut Finished,
) -> Result<u64, DeliveryError> {
    let deliveries: Vec<_> = finished.by_partition.values().cloned().collect();
    if deliveries.is_empty() {
        return Ok(0);
    }
    let count = deliveries
        .iter()
        .map(|delivery| delivery.outputs.len() as u64)
        .sum();
    match sink.deliver(deliveries).await {
        Ok(_) => {
            finished.by_partition.clear();
            Ok(count)
        }
        Err(DeliveryError::Aborted(cause)) => {
            eprintln!("aborted: {cause}");
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok(0)
        }
        Err(error) => Err(error),
    }
}
