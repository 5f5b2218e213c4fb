//! The connections of the HTTP server: few, and none that says nothing for long.
//!
//! Whoever opens connections and sends nothing must not keep the probes out, or a connector that is
//! well would be restarted. So a request's head must come in time, and where too many connections
//! are open the oldest gives way to the newest: a probe asks at once and is answered within
//! milliseconds, and a scraper that hangs is soon the oldest.

use std::{collections::VecDeque, time::Duration};

use axum::{Router, serve::Listener};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
};

/// What connections may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most of them at once.
    pub connections: usize,
    /// Longest wait for the head of a request, the first and each that follows it.
    pub head_timeout: Duration,
}

impl Limits {
    /// A kubelet and some scrapers have a handful, far below what a process may open. And they
    /// send a head in one packet: the timeout is for those that never do.
    pub const SERVICE: Self = Self {
        connections: 128,
        head_timeout: Duration::from_secs(10),
    };
}

/// Serves until `stopped` changes or loses its sender, and then until what was asked is answered.
pub async fn serve(
    mut listener: TcpListener,
    routes: Router,
    limits: Limits,
    mut stopped: watch::Receiver<()>,
) {
    let mut tasks = JoinSet::new();
    // The oldest first.
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let stream = tokio::select! {
            (stream, _) = Listener::accept(&mut listener) => stream,
            _ = stopped.changed() => break,
        };
        while tasks.try_join_next().is_some() {}
        open.retain(|task| !task.is_finished());
        if open.len() >= limits.connections
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let task = connection(stream, routes.clone(), limits.head_timeout, stopped.clone());
        open.push_back(tasks.spawn(task));
    }
    // Nobody waits for an answer that will not come.
    drop(listener);
    while tasks.join_next().await.is_some() {}
}

async fn connection(
    stream: TcpStream,
    routes: Router,
    head_timeout: Duration,
    mut stopped: watch::Receiver<()>,
) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    tokio::pin!(served);
    // Why a client went away or was too slow is its own matter.
    tokio::select! {
        _ = served.as_mut() => return,
        _ = stopped.changed() => {}
    }
    served.as_mut().graceful_shutdown();
    let _ = served.await;
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        task::JoinHandle,
        time::timeout,
    };

    use super::*;

    /// Ends a test that would hang.
    const LIMIT: Duration = Duration::from_secs(60);

    const NEVER: Duration = Duration::from_secs(3_600);

    struct Served {
        address: SocketAddr,
        stop: watch::Sender<()>,
        task: JoinHandle<()>,
    }

    impl Served {
        async fn start(connections: usize, head_timeout: Duration) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0")
                .await
                .expect("a port is free");
            let address = listener.local_addr().expect("it is bound");
            let routes = Router::new().route("/livez", get(|| async { "alive" }));
            let limits = Limits {
                connections,
                head_timeout,
            };
            let (stop, stopped) = watch::channel(());
            let task = tokio::spawn(serve(listener, routes, limits, stopped));
            Self {
                address,
                stop,
                task,
            }
        }

        async fn connect(&self, sent: &str) -> TcpStream {
            let mut stream = TcpStream::connect(self.address).await.expect("it listens");
            stream
                .write_all(sent.as_bytes())
                .await
                .expect("it is connected");
            stream
        }
    }

    /// What comes until the connection is closed.
    async fn rest(mut stream: TcpStream) -> String {
        let mut bytes = Vec::new();
        // Being reset is being closed.
        let _ = timeout(LIMIT, stream.read_to_end(&mut bytes))
            .await
            .expect("the connection is closed");
        String::from_utf8(bytes).expect("text")
    }

    #[tokio::test]
    async fn half_a_head_is_closed_in_time() {
        let served = Served::start(8, Duration::from_millis(50)).await;
        for sent in ["", "GET /livez HT", "GET /livez HTTP/1.1\r\nHost: h\r\n"] {
            let stream = served.connect(sent).await;
            assert_eq!(rest(stream).await, "", "{sent:?}");
        }
    }

    #[tokio::test]
    async fn a_whole_request_is_answered_and_silence_after_it_is_closed() {
        let served = Served::start(8, Duration::from_millis(500)).await;
        let stream = served
            .connect("GET /livez HTTP/1.1\r\nHost: h\r\n\r\n")
            .await;
        let answer = rest(stream).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.ends_with("alive"), "{answer}");
    }

    #[tokio::test]
    async fn a_probe_is_answered_while_the_silent_hold_every_place() {
        let served = Served::start(4, NEVER).await;
        let mut silent = Vec::new();
        for _ in 0..20 {
            silent.push(served.connect("GET").await);
        }
        let probe = served
            .connect("GET /livez HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            .await;
        let answer = rest(probe).await;
        assert!(answer.ends_with("alive"), "{answer}");
        // The oldest gave way.
        assert_eq!(rest(silent.swap_remove(0)).await, "");
    }

    #[tokio::test]
    async fn a_silent_connection_holds_no_stop_up() {
        let served = Served::start(4, NEVER).await;
        let silent = served.connect("").await;
        drop(served.stop);
        assert_eq!(rest(silent).await, "");
        timeout(LIMIT, served.task)
            .await
            .expect("it ends")
            .expect("without a panic");
    }
}
