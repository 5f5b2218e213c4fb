//! `run`: the service.

use std::{
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use tokio::sync::oneshot;

use crate::{
    cli, commands,
    http::{HTTP_GRACE, RunningCell, Server, Watched},
    serve, signals, telemetry,
};

/// Runs the command.
pub fn run(args: &cli::Run) -> anyhow::Result<ExitCode> {
    let settings = commands::settings(args)?;
    let installed = telemetry::install(&settings)?;
    let runtime = commands::runtime()?;
    let cell = RunningCell::default();
    let outcome = runtime.block_on(async {
        let stop = signals::stop_signal(1)?;
        let connecting = Arc::new(AtomicBool::new(false));
        let server = Server::start(
            &settings.service.listen,
            Watched {
                running: Arc::clone(&cell),
                connecting: Arc::clone(&connecting),
                stall_timeout: Duration::from_millis(settings.service.stall_timeout_ms),
                metrics: installed.metrics.clone(),
            },
        )
        .await?;
        tracing::info!(address = %server.address, version = env!("CARGO_PKG_VERSION"), "listening");
        let (started, running) = oneshot::channel();
        let started_cell = Arc::clone(&cell);
        let watch = tokio::spawn(async move {
            // The sender is dropped if the service ends before it has started.
            if let Ok(handle) = running.await {
                let _ = started_cell.set(handle);
            }
        });
        let outcome = serve::serve(&settings, stop, &connecting, started).await;
        watch.abort();
        server.stop(HTTP_GRACE).await;
        outcome
    });
    let stopped = |received: u64, delivered: u64, left_for_others: u64| {
        tracing::info!(received, delivered, left_for_others, "stopped");
    };
    let code = match outcome {
        Ok(Some(summary)) => {
            let delivered = summary.outcomes.iter().map(|outcome| outcome.records).sum();
            stopped(summary.received, delivered, summary.left);
            ExitCode::SUCCESS
        }
        Ok(None) => {
            tracing::info!("stopped before the first record");
            ExitCode::SUCCESS
        }
        Err(error) => {
            if let Some(running) = cell.get() {
                let done = running.progress.snapshot();
                let left = done.unfinished + done.undelivered;
                stopped(done.received, done.delivered(), left);
            }
            tracing::error!(error = format!("{error:#}"), "the service cannot go on");
            crate::exit_code(&error)
        }
    };
    runtime.shutdown_timeout(HTTP_GRACE);
    installed.shut_down();
    Ok(code)
}
