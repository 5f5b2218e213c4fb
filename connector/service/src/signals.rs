//! Signals: the first asks a command to stop, a second one ends the process.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use tokio::sync::oneshot;

/// The exit code that shells give for a program that Ctrl-C ended.
pub const INTERRUPTED: u8 = 130;

/// Ready at the first SIGTERM or SIGINT. At a second one the process ends at once, with `code`.
pub fn stop_signal(code: u8) -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(async move {
        let mut stop = Some(stop);
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            match stop.take() {
                Some(stop) => {
                    tracing::info!(signal = name, "stopping; a second signal ends at once");
                    let _ = stop.send(());
                }
                None => {
                    tracing::warn!(
                        signal = name,
                        "ended at once; records in flight will be read again"
                    );
                    end_at_once(code);
                }
            }
        }
    });
    Ok(async {
        // The sender is kept until a signal comes.
        let _ = stopped.await;
    })
}

/// Set by the first interrupt; a second one ends the process. For work that is not async.
pub fn interrupt_flag() -> anyhow::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&flag);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    thread::spawn(move || {
        runtime.block_on(async {
            while tokio::signal::ctrl_c().await.is_ok() {
                if raised.swap(true, Ordering::Relaxed) {
                    end_at_once(INTERRUPTED);
                }
                eprintln!("finishing this step; interrupt again to end at once");
            }
        });
    });
    Ok(flag)
}

/// What a second signal asks for, with the exit code that the command has for it. Nothing is lost by
/// it: offsets were not committed, and checkpoints are written whole.
#[expect(
    clippy::disallowed_methods,
    reason = "whoever signals twice does not want to wait for a drain"
)]
pub fn end_at_once(code: u8) -> ! {
    std::process::exit(code.into())
}
