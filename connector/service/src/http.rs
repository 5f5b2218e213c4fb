//! `/livez`, `/readyz` and `/metrics`.
//!
//! A probe answers by progress, not by an open port: *live* means that a restart would not help,
//! *ready* that records move, or would if there were any. A broker, a registry or a completions server
//! that is away makes the connector unready but leaves it alive: restarting cannot bring them back. So
//! does a model that is being fetched or loaded, however long that takes.

use std::{
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aligner_pipeline::progress::{Snapshot, State};
use anyhow::Context;
use axum::{Json, Router, extract, http::StatusCode, response::IntoResponse, routing::get};
use serde::Serialize;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use crate::{
    connections::{self, Limits},
    serve::Running,
    telemetry::Metrics,
};

/// The coordinator turns once a second at least.
const HEARTBEAT_LIMIT: Duration = Duration::from_secs(30);

/// Deliveries may fail for so long before that is no passing trouble: a broker that goes down and comes
/// back, or a rebalance, costs less.
const DELIVERY_PATIENCE: Duration = Duration::from_secs(60);

/// A server that turns requests away for a moment answers again within less.
const ALIGNER_PATIENCE: Duration = Duration::from_secs(10);

/// How long closing connections may take.
pub const HTTP_GRACE: Duration = Duration::from_secs(1);

/// A cell that is filled once the pipeline runs.
pub type RunningCell = Arc<OnceLock<Running>>;

/// What the probes look at.
#[derive(Debug, Clone)]
pub struct Watched {
    /// The pipeline, once it runs.
    pub running: RunningCell,
    /// Whether Kafka is all that it waits for before it runs.
    pub connecting: Arc<AtomicBool>,
    /// Time without any result, while the Aligner has records, after which it counts as stuck.
    pub stall_timeout: Duration,
    /// Metrics of the process.
    pub metrics: Metrics,
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    stop: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    /// Binds `listen` and serves.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub async fn start(listen: &str, watched: Watched) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(listen).await.with_context(|| {
            format!(
                "service.listen = {listen}: cannot listen there; set another address, or port 0"
            )
        })?;
        let address = listener.local_addr()?;
        let routes = Router::new()
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(watched);
        let (stop, stopped) = watch::channel(());
        let served = connections::serve(listener, routes, Limits::SERVICE, stopped);
        let task = tokio::spawn(served);
        Ok(Self {
            address,
            stop,
            task,
        })
    }

    /// Stops serving; connections that are open get `grace` to end.
    pub async fn stop(self, grace: Duration) {
        drop(self.stop);
        let mut task = self.task;
        if tokio::time::timeout(grace, &mut task).await.is_err() {
            task.abort();
            tracing::debug!("http connections were still open");
        }
    }
}

#[derive(Debug, Serialize)]
struct Answer {
    status: &'static str,
    /// Why not, in a word that `docs/operations.md` explains.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    partitions: u64,
    unfinished: u64,
    undelivered: u64,
    oldest_unfinished_seconds: f64,
}

fn answer(snapshot: Option<&Snapshot>, reason: Option<&'static str>) -> impl IntoResponse + use<> {
    let (code, status) = match reason {
        None => (StatusCode::OK, "ok"),
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    let count = |read: fn(&Snapshot) -> u64| snapshot.map_or(0, read);
    let oldest = snapshot
        .and_then(|snapshot| snapshot.oldest)
        .unwrap_or_default();
    let body = Answer {
        status,
        reason,
        partitions: count(|snapshot| snapshot.partitions),
        unfinished: count(|snapshot| snapshot.unfinished),
        undelivered: count(|snapshot| snapshot.undelivered),
        oldest_unfinished_seconds: oldest.as_secs_f64(),
    };
    (code, Json(body))
}

async fn livez(extract::State(watched): extract::State<Watched>) -> impl IntoResponse {
    let snapshot = watched.running.get().map(snapshot);
    // Loading a model and waiting for a broker are no reasons to restart.
    let reason = snapshot
        .as_ref()
        .and_then(|found| not_live(found, watched.stall_timeout));
    answer(snapshot.as_ref(), reason)
}

async fn readyz(extract::State(watched): extract::State<Watched>) -> impl IntoResponse {
    let Some(running) = watched.running.get() else {
        let reason = if watched.connecting.load(Ordering::Relaxed) {
            "connecting"
        } else {
            "starting"
        };
        return answer(None, Some(reason));
    };
    let snapshot = snapshot(running);
    let state = running.kafka.state();
    let kafka = Kafka {
        brokers_up: state.has_reported.then_some(state.brokers_up),
        out_of_group: running.kafka.is_out_of_group(),
        undecided_offsets: running.kafka.has_undecided_offsets(),
    };
    let reason = not_ready(&snapshot, kafka, watched.stall_timeout);
    answer(Some(&snapshot), reason)
}

fn snapshot(running: &Running) -> Snapshot {
    running.progress.snapshot()
}

async fn metrics(extract::State(watched): extract::State<Watched>) -> impl IntoResponse {
    match watched.metrics.encode() {
        Ok(text) => (
            StatusCode::OK,
            [("content-type", "text/plain; version=0.0.4")],
            text,
        )
            .into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be encoded");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Why a restart would help.
fn not_live(snapshot: &Snapshot, stall_timeout: Duration) -> Option<&'static str> {
    let running = matches!(snapshot.state, State::Running | State::Draining);
    if snapshot.state == State::Stopped {
        Some("stopped")
    } else if running && snapshot.since_heartbeat > HEARTBEAT_LIMIT {
        Some("coordinator_stuck")
    } else if snapshot.aligner_silent > stall_timeout {
        Some("aligner_stuck")
    } else {
        None
    }
}

/// How the connection to Kafka is.
#[derive(Debug, Clone, Copy)]
struct Kafka {
    /// Unknown until the clients have said it for the first time.
    brokers_up: Option<usize>,
    out_of_group: bool,
    undecided_offsets: bool,
}

/// Why records do not move.
fn not_ready(snapshot: &Snapshot, kafka: Kafka, stall_timeout: Duration) -> Option<&'static str> {
    match snapshot.state {
        State::Starting => Some("starting"),
        State::Draining => Some("draining"),
        State::Stopped => Some("stopped"),
        State::Running if kafka.brokers_up.is_none() => Some("connecting"),
        State::Running if kafka.brokers_up == Some(0) => Some("kafka_unreachable"),
        State::Running if kafka.out_of_group => Some("group_unreachable"),
        State::Running if kafka.undecided_offsets => Some("offsets_undecided"),
        State::Running if snapshot.decoder_waits => Some("schema_registry_unavailable"),
        State::Running if snapshot.aligner_unavailable > ALIGNER_PATIENCE => {
            Some("aligner_unavailable")
        }
        State::Running if snapshot.failing > DELIVERY_PATIENCE => Some("not_delivering"),
        State::Running if snapshot.idle_with_work > stall_timeout => Some("no_progress"),
        State::Running => not_live(snapshot, stall_timeout),
    }
}

#[cfg(test)]
mod tests {
    use aligner_pipeline::progress::Progress;
    use opentelemetry_sdk::Resource;

    use super::*;

    const OURS: Kafka = Kafka {
        brokers_up: Some(3),
        out_of_group: false,
        undecided_offsets: false,
    };

    #[tokio::test]
    async fn it_is_alive_and_not_ready_from_listening_until_its_model_is_loaded() {
        let watched = Watched {
            running: RunningCell::default(),
            connecting: Arc::default(),
            stall_timeout: Duration::from_secs(1),
            metrics: Metrics::install(Resource::builder_empty().build())
                .expect("a registry of its own"),
        };
        let live = livez(extract::State(watched.clone())).await;
        assert_eq!(live.into_response().status(), StatusCode::OK);
        let ready = readyz(extract::State(watched)).await.into_response();
        assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE);
        let body = axum::body::to_bytes(ready.into_body(), 1_024)
            .await
            .expect("a short body");
        let body = String::from_utf8_lossy(&body);
        assert!(body.contains(r#""reason":"starting""#), "{body}");
    }

    #[test]
    fn a_restart_is_asked_for_only_where_it_would_help() {
        const STALL: Duration = Duration::from_secs(100);
        const NOW: Duration = Duration::ZERO;
        const MOMENT: Duration = Duration::from_millis(1);
        let late = HEARTBEAT_LIMIT + MOMENT;
        let silent = STALL + MOMENT;
        for (state, since_heartbeat, aligner_silent, reason) in [
            (State::Running, NOW, NOW, None),
            (State::Running, HEARTBEAT_LIMIT, STALL, None),
            (State::Running, late, NOW, Some("coordinator_stuck")),
            (State::Draining, late, NOW, Some("coordinator_stuck")),
            // Nothing turns yet while a model is loaded, however long that takes.
            (State::Starting, late, NOW, None),
            (State::Running, NOW, STALL - MOMENT, None),
            (State::Running, NOW, silent, Some("aligner_stuck")),
            (State::Draining, NOW, silent, Some("aligner_stuck")),
            // Whoever does not turn hears no Aligner either.
            (State::Running, late, silent, Some("coordinator_stuck")),
            (State::Stopped, NOW, NOW, Some("stopped")),
            (State::Stopped, late, silent, Some("stopped")),
        ] {
            let mut snapshot = Progress::default().snapshot();
            snapshot.state = state;
            snapshot.since_heartbeat = since_heartbeat;
            snapshot.aligner_silent = aligner_silent;
            let case = format!("{state:?}, {since_heartbeat:?}, {aligner_silent:?}");
            assert_eq!(not_live(&snapshot, STALL), reason, "{case}");
            let answered = answer(Some(&snapshot), reason).into_response().status();
            assert_eq!(answered == StatusCode::OK, reason.is_none(), "{case}");
        }
    }

    #[test]
    fn it_is_not_ready_once_deliveries_have_failed_for_a_minute_and_nothing_else_explains_it() {
        const SECOND: Duration = Duration::from_secs(1);
        let alone = Kafka {
            brokers_up: Some(0),
            ..OURS
        };
        let late = DELIVERY_PATIENCE + SECOND;
        for (kafka, state, failing, reason) in [
            (OURS, State::Running, Duration::ZERO, None),
            (OURS, State::Running, DELIVERY_PATIENCE - SECOND, None),
            (OURS, State::Running, late, Some("not_delivering")),
            (alone, State::Running, late, Some("kafka_unreachable")),
            (OURS, State::Draining, late, Some("draining")),
        ] {
            let mut snapshot = Progress::default().snapshot();
            snapshot.state = state;
            snapshot.failing = failing;
            let case = format!("{kafka:?}, {state:?}, {failing:?}");
            assert_eq!(not_ready(&snapshot, kafka, Duration::MAX), reason, "{case}");
            assert_eq!(not_live(&snapshot, Duration::MAX), None, "{case}");
        }
    }

    #[test]
    fn it_is_not_ready_once_the_aligner_has_been_unavailable_for_ten_seconds_and_stays_alive() {
        const MOMENT: Duration = Duration::from_millis(1);
        for (state, unavailable, reason) in [
            (State::Running, ALIGNER_PATIENCE, None),
            (
                State::Running,
                ALIGNER_PATIENCE + MOMENT,
                Some("aligner_unavailable"),
            ),
            (State::Draining, ALIGNER_PATIENCE + MOMENT, Some("draining")),
        ] {
            let mut snapshot = Progress::default().snapshot();
            snapshot.state = state;
            snapshot.aligner_unavailable = unavailable;
            let case = format!("{state:?}, {unavailable:?}");
            assert_eq!(not_ready(&snapshot, OURS, Duration::MAX), reason, "{case}");
            assert_eq!(not_live(&snapshot, Duration::MAX), None, "{case}");
        }
    }

    #[test]
    fn brokers_are_not_enough_where_the_group_is_missing() {
        let mut snapshot = Progress::default().snapshot();
        snapshot.state = State::Running;
        let kafka = |brokers_up, out_of_group, undecided_offsets| Kafka {
            brokers_up,
            out_of_group,
            undecided_offsets,
        };
        for (kafka, reason) in [
            (kafka(Some(1), false, false), None),
            (kafka(Some(1), true, false), Some("group_unreachable")),
            (kafka(Some(1), false, true), Some("offsets_undecided")),
            // Without brokers there is no group either: they are what is to be mended.
            (kafka(Some(0), true, true), Some("kafka_unreachable")),
            // Nothing is wrong yet: every start passes through this.
            (kafka(None, false, false), Some("connecting")),
        ] {
            assert_eq!(not_ready(&snapshot, kafka, Duration::MAX), reason);
        }
        snapshot.state = State::Draining;
        let draining = not_ready(&snapshot, kafka(Some(1), true, false), Duration::MAX);
        assert_eq!(draining, Some("draining"), "whoever leaves misses no group");
    }
}
