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
    let outcome = runtime.block_on(async {
        let stop = signals::stop_signal(1)?;
        let cell = RunningCell::default();
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
        let watch = tokio::spawn(async move {
            // The sender is dropped if the service ends before it has started.
            if let Ok(handle) = running.await {
                let _ = cell.set(handle);
            }
        });
        let outcome = serve::serve(&settings, stop, &connecting, started).await;
        watch.abort();
        server.stop(HTTP_GRACE).await;
        outcome
    });
    let code = match outcome {
        Ok(Some(summary)) => {
            tracing::info!(
                received = summary.received,
                left_for_others = summary.left,
                "stopped"
            );
            ExitCode::SUCCESS
        }
        Ok(None) => {
            tracing::info!("stopped before the first record");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the service cannot go on");
            crate::exit_code(&error)
        }
    };
    runtime.shutdown_timeout(HTTP_GRACE);
    installed.shut_down();
    Ok(code)
}
