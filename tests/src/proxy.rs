//! A TCP proxy that knows Kafka's frames, between a connector and the brokers.
//!
//! It rewrites the addresses that brokers advertise, so that clients stay on it, and does to
//! chosen requests what networks do: loses them, applies them and loses the answer, delays,
//! cuts. A request can also be *held*, so that a test can kill the connector while exactly that
//! request is on the way.
//!
//! ```text
//! let held = proxy.on(ApiKey::EndTxn).commits().does(Fault::HoldRequest);
//! held.wait_hit(Duration::from_secs(30));
//! ```
//!
//! Plaintext only; a secured broker is tested without it.

mod codec;
mod line;
mod rule;
mod wire;

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::watch,
};

use self::{line::Line, rule::Rule, wire::RequestHeader};
pub use self::{
    rule::{Fault, Held, RuleBuilder},
    wire::ApiKey,
};
use crate::kafka::free_port;

/// How connections are treated as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Open,
    /// Connections stay and nothing moves, as when a firewall swallows packets.
    Frozen,
    /// Connections are closed at once.
    Refusing,
}

/// The proxy.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    bootstrap: String,
    runtime: Option<Runtime>,
}

#[derive(Debug)]
struct Shared {
    /// Broker address to the proxy's own.
    routes: Mutex<HashMap<SocketAddr, SocketAddr>>,
    rules: Mutex<Vec<Arc<Rule>>>,
    counts: Mutex<HashMap<ApiKey, u64>>,
    /// Bytes of the brokers' answers, by what was asked.
    answered_bytes: Mutex<HashMap<ApiKey, u64>>,
    mode: watch::Sender<Mode>,
    /// Raised to cut every connection that was made before.
    cuts: watch::Sender<u64>,
    handle: tokio::runtime::Handle,
}

impl Proxy {
    /// A proxy in front of brokers at `brokers`.
    pub fn before(brokers: &[SocketAddr]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("proxy")
            .enable_all()
            .build()
            .expect("a runtime can be started");
        let shared = Arc::new(Shared {
            routes: Mutex::default(),
            rules: Mutex::default(),
            counts: Mutex::default(),
            answered_bytes: Mutex::default(),
            mode: watch::Sender::new(Mode::Open),
            cuts: watch::Sender::new(0),
            handle: runtime.handle().clone(),
        });
        let bootstrap = brokers
            .iter()
            .map(|&broker| shared.route(broker).to_string())
            .collect::<Vec<_>>()
            .join(",");
        Self {
            shared,
            bootstrap,
            runtime: Some(runtime),
        }
    }

    /// `host:port,…` for clients.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Begins a rule for requests of one kind.
    pub fn on(&self, api: ApiKey) -> RuleBuilder<'_> {
        RuleBuilder::new(self, api)
    }

    /// Ends all rules, and lets go of what they hold.
    pub fn heal(&self) {
        for rule in lock(&self.shared.rules).drain(..) {
            rule.release();
        }
        self.shared.mode.send_replace(Mode::Open);
    }

    /// Cuts every connection that exists now.
    pub fn cut_all(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Swallows everything until [`Proxy::heal`]; connections stay open.
    pub fn freeze(&self) {
        self.shared.mode.send_replace(Mode::Frozen);
    }

    /// Closes connections and every new one, until [`Proxy::heal`].
    pub fn refuse(&self) {
        self.shared.mode.send_replace(Mode::Refusing);
        self.cut_all();
    }

    /// How many requests of a kind have come so far.
    pub fn count(&self, api: ApiKey) -> u64 {
        lock(&self.shared.counts).get(&api).copied().unwrap_or(0)
    }

    /// Bytes that brokers have answered requests of a kind with so far.
    pub fn answered_bytes(&self, api: ApiKey) -> u64 {
        lock(&self.shared.answered_bytes)
            .get(&api)
            .copied()
            .unwrap_or(0)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    /// The proxy's address for a broker, listening from now on.
    fn route(self: &Arc<Self>, broker: SocketAddr) -> SocketAddr {
        let mut routes = lock(&self.routes);
        *routes.entry(broker).or_insert_with(|| {
            let listener = loop {
                let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
                if let Ok(listener) = std::net::TcpListener::bind(address) {
                    break listener;
                }
            };
            listener
                .set_nonblocking(true)
                .expect("a fresh listener can be switched");
            let address = listener
                .local_addr()
                .expect("a bound listener has an address");
            let shared = Arc::clone(self);
            self.handle.spawn(async move {
                let listener =
                    TcpListener::from_std(listener).expect("the runtime watches sockets");
                while let Ok((client, _)) = listener.accept().await {
                    tokio::spawn(Arc::clone(&shared).carry(client, broker));
                }
            });
            address
        })
    }

    async fn carry(self: Arc<Self>, client: TcpStream, broker: SocketAddr) {
        let mut cuts = self.cuts.subscribe();
        let cut = *cuts.borrow_and_update();
        if *self.mode.borrow() == Mode::Refusing {
            return;
        }
        let Ok(upstream) = TcpStream::connect(broker).await else {
            return;
        };
        let _ = client.set_nodelay(true);
        let _ = upstream.set_nodelay(true);
        let (from_client, to_client) = client.into_split();
        let (from_broker, to_broker) = upstream.into_split();
        let line = Arc::new(Line::new(Arc::clone(&self), to_client));
        // Whichever direction ends first, both are closed: a half-open line is no fault that a
        // rule has asked for.
        tokio::select! {
            _ = Arc::clone(&line).requests(from_client, to_broker) => {}
            _ = line.responses(from_broker) => {}
            _ = cuts.wait_for(|now| *now != cut) => {}
        }
    }

    /// Waits while the network is frozen; an error where it refuses.
    async fn wait_open(&self) -> io::Result<()> {
        let mut mode = self.mode.subscribe();
        let mode = mode
            .wait_for(|mode| *mode != Mode::Frozen)
            .await
            .map_err(io::Error::other)?;
        if *mode == Mode::Refusing {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }

    fn rule_for(&self, header: RequestHeader, frame: &[u8]) -> Option<Arc<Rule>> {
        *lock(&self.counts).entry(header.api).or_default() += 1;
        let rules = lock(&self.rules);
        // Every rule counts the request; the first one that takes it decides.
        let mut chosen = None;
        for rule in rules.iter() {
            if rule.takes(header, frame) && chosen.is_none() {
                chosen = Some(Arc::clone(rule));
            }
        }
        chosen
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
