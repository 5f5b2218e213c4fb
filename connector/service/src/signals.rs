//! Signals: the first asks a command to stop, a second one ends the process.
//!
//! Whoever stops a group of processes may signal one of them twice at once: GNU `timeout` signals its
//! child and then the group. So what comes right after the first is the same request.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
    time::Instant,
};

use crate::stderr::tell;

/// The exit code that shells give for a program that Ctrl-C ended.
pub const INTERRUPTED: u8 = 130;

/// A signal that comes within this time of the first says nothing new. Machines send both at once, and
/// no person is so quick in losing patience.
const SAME_REQUEST: Duration = Duration::from_millis(500);

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    /// Finish what was begun, and stop.
    Stop,
    /// What the first asked for.
    Same,
    /// Do not finish it.
    EndAtOnce,
}

/// The signals so far.
#[derive(Debug, Default)]
struct Signals {
    first: Option<Instant>,
}

impl Signals {
    /// What the one that comes now asks for.
    fn hear(&mut self, now: Instant) -> Request {
        match self.first {
            None => {
                self.first = Some(now);
                Request::Stop
            }
            Some(first) if now.duration_since(first) < SAME_REQUEST => Request::Same,
            Some(_) => Request::EndAtOnce,
        }
    }
}

/// Hears SIGTERM and SIGINT.
struct Listener {
    terminate: Signal,
    interrupt: Signal,
    signals: Signals,
}

impl Listener {
    /// Within a runtime.
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            signals: Signals::default(),
        })
    }

    /// The name of the next one, and what it asks for.
    async fn next(&mut self) -> (&'static str, Request) {
        let name = tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        };
        (name, self.signals.hear(Instant::now()))
    }
}

/// Ready at the first SIGTERM or SIGINT. At a second one the process ends at once, with `code`.
pub fn stop_signal(code: u8) -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let mut listener = Listener::new()?;
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(async move {
        let mut stop = Some(stop);
        loop {
            let (name, request) = listener.next().await;
            match request {
                Request::Stop => {
                    tracing::info!(signal = name, "stopping; a second signal ends at once");
                    let _ = stop.take().map(|stop| stop.send(()));
                }
                Request::Same => tracing::debug!(signal = name, "the same request again"),
                Request::EndAtOnce => {
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

/// Set by the first SIGTERM or SIGINT; a second one ends the process. For work that is not async.
pub fn interrupt_flag() -> anyhow::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&flag);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut listener = {
        let _inside = runtime.enter();
        Listener::new()?
    };
    thread::spawn(move || {
        runtime.block_on(async {
            loop {
                match listener.next().await.1 {
                    Request::Stop => {
                        raised.store(true, Ordering::Relaxed);
                        tell!("finishing this step; a second signal ends at once");
                    }
                    Request::Same => {}
                    Request::EndAtOnce => end_at_once(INTERRUPTED),
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_signal_ends_at_once_unless_it_comes_with_the_first() {
        let begin = Instant::now();
        for (later_ms, requests) in [
            (vec![], vec![]),
            (vec![0], vec![Request::Same]),
            (vec![1, 499], vec![Request::Same; 2]),
            (vec![500], vec![Request::EndAtOnce]),
            // The time counts from the first, so that someone who goes on is heard.
            (vec![300, 600], vec![Request::Same, Request::EndAtOnce]),
            (vec![3_600_000], vec![Request::EndAtOnce]),
        ] {
            let mut signals = Signals::default();
            assert_eq!(signals.hear(begin), Request::Stop);
            let heard: Vec<_> = later_ms
                .iter()
                .map(|&later| signals.hear(begin + Duration::from_millis(later)))
                .collect();
            assert_eq!(heard, requests, "{later_ms:?}");
        }
    }
}
