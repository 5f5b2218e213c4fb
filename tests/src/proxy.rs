//! A TCP proxy that knows Kafka's frames, between a connector and the brokers.
//!
//! It rewrites the addresses that brokers advertise, so that clients stay on it, and does to
//! chosen requests what networks do: loses them, applies them and loses the answer, delays,
//! cuts. A request can also be *held*, so that a test can kill the connector while exactly that
//! request is on the way.
//!
//! ```text
//! let fault = proxy.on(ApiKey::EndTxn).nth(3).lose_response();
//! fault.wait_hit(Duration::from_secs(30));
//! ```
//!
//! Plaintext only; a secured broker is tested without it.

mod codec;
mod wire;

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    runtime::Runtime,
    sync::{Semaphore, watch},
};

pub use wire::ApiKey;
use wire::RequestHeader;

use crate::{kafka::free_port, wait};

/// The largest frame that the proxy carries.
const MAX_FRAME: usize = 64 << 20;

/// What happens to a request that a rule selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection is cut instead of carrying the request.
    CutBefore,
    /// The request is lost: never sent, never answered, the connection stays.
    LoseRequest,
    /// The broker applies the request; the connection is cut instead of carrying the answer.
    LoseResponse,
    /// The broker applies the request; the answer never comes, the connection stays.
    SwallowResponse,
    /// The request waits this long before it is sent.
    LateRequest(Duration),
    /// The answer waits this long before it is handed over.
    LateResponse(Duration),
    /// The request is not sent; the client is answered with this error code.
    Refuse(i16),
    /// The answer, which must be metadata, names no broker at all, as where none keeps its session.
    NoBrokers,
    /// The request is not sent until [`Held::release`].
    HoldRequest,
    /// The broker applies the request; its answer waits for [`Held::release`].
    HoldResponse,
}

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

#[derive(Debug)]
struct Rule {
    api: ApiKey,
    commits_only: bool,
    skip: u64,
    times: u64,
    fault: Fault,
    seen: AtomicU64,
    hits: AtomicU64,
    /// Set once the broker has answered a request whose answer is withheld.
    applied: AtomicU64,
    gate: Semaphore,
}

/// A rule in the making.
#[derive(Debug)]
pub struct RuleBuilder<'a> {
    proxy: &'a Proxy,
    api: ApiKey,
    commits_only: bool,
    skip: u64,
    times: u64,
}

/// A rule at work.
#[derive(Debug, Clone)]
pub struct Held {
    rule: Arc<Rule>,
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
        RuleBuilder {
            proxy: self,
            api,
            commits_only: false,
            skip: 0,
            times: 1,
        }
    }

    /// Ends all rules, and lets go of what they hold.
    pub fn heal(&self) {
        for rule in lock(&self.shared.rules).drain(..) {
            rule.gate.close();
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

impl RuleBuilder<'_> {
    /// Lets `count` matching requests pass first.
    #[must_use]
    pub fn after(mut self, count: u64) -> Self {
        self.skip = count;
        self
    }

    /// Applies to `count` requests, not to one.
    #[must_use]
    pub fn times(mut self, count: u64) -> Self {
        self.times = count;
        self
    }

    /// Among EndTxn requests, selects commits and lets aborts pass.
    #[must_use]
    pub fn commits(mut self) -> Self {
        self.commits_only = true;
        self
    }

    /// Puts the rule to work.
    pub fn does(self, fault: Fault) -> Held {
        let rule = Arc::new(Rule {
            api: self.api,
            commits_only: self.commits_only,
            skip: self.skip,
            times: self.times,
            fault,
            seen: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            applied: AtomicU64::new(0),
            gate: Semaphore::new(0),
        });
        lock(&self.proxy.shared.rules).push(Arc::clone(&rule));
        Held { rule }
    }
}

impl Held {
    /// How many requests were hit.
    pub fn hits(&self) -> u64 {
        self.rule.hits.load(Ordering::SeqCst)
    }

    /// Waits until a request was hit.
    #[track_caller]
    pub fn wait_hit(&self, limit: Duration) {
        let what = format!("a {} request to meet {:?}", self.rule.api, self.rule.fault);
        wait::until(&what, limit, || self.hits() > 0);
    }

    /// Waits until the broker has answered a request whose answer is withheld.
    #[track_caller]
    pub fn wait_applied(&self, limit: Duration) {
        let what = format!("the broker to apply {}", self.rule.api);
        wait::until(&what, limit, || {
            self.rule.applied.load(Ordering::SeqCst) > 0
        });
    }

    /// Lets everything go that is held.
    pub fn release(&self) {
        self.rule.gate.close();
    }
}

impl Rule {
    /// Whether this request is one of those that the rule is for; counts it.
    fn takes(&self, header: RequestHeader, frame: &[u8]) -> bool {
        if header.api != self.api {
            return false;
        }
        if self.commits_only && wire::end_txn_commits(frame) != Ok(true) {
            return false;
        }
        let number = self.seen.fetch_add(1, Ordering::SeqCst);
        let taken = number >= self.skip && number < self.skip + self.times;
        if taken {
            self.hits.fetch_add(1, Ordering::SeqCst);
        }
        taken
    }

    /// Waits for the test to let go.
    async fn wait_released(&self) {
        // The gate never gets permits; it is closed to let everybody through.
        let _ = self.gate.acquire().await;
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
        let line = Arc::new(Line {
            shared: Arc::clone(&self),
            in_flight: Mutex::default(),
            to_client: tokio::sync::Mutex::new(to_client),
        });
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

/// A request that was sent on, and the rule that its answer will meet.
type Sent = (RequestHeader, Option<Arc<Rule>>);

/// One connection of a client to a broker.
struct Line {
    shared: Arc<Shared>,
    /// By correlation id.
    in_flight: Mutex<HashMap<i32, Sent>>,
    to_client: tokio::sync::Mutex<OwnedWriteHalf>,
}

impl Line {
    async fn requests(
        self: Arc<Self>,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
    ) -> io::Result<()> {
        loop {
            let frame = read_frame(&mut from).await?;
            self.shared.wait_open().await?;
            let header = wire::request_header(&frame).map_err(malformed)?;
            let rule = self.shared.rule_for(header, &frame);
            let mut on_answer = None;
            if let Some(rule) = rule {
                match rule.fault {
                    Fault::CutBefore => return Err(io::ErrorKind::ConnectionReset.into()),
                    Fault::LoseRequest => continue,
                    Fault::LateRequest(delay) => tokio::time::sleep(delay).await,
                    Fault::HoldRequest => rule.wait_released().await,
                    Fault::Refuse(code) => {
                        let answer = wire::refusal(&frame, code)
                            .map_err(malformed)?
                            .unwrap_or_else(|| panic!("{} cannot be refused", header.api));
                        self.answer(&answer).await?;
                        continue;
                    }
                    Fault::LoseResponse
                    | Fault::SwallowResponse
                    | Fault::LateResponse(_)
                    | Fault::NoBrokers
                    | Fault::HoldResponse => on_answer = Some(rule),
                }
            }
            lock(&self.in_flight).insert(header.correlation, (header, on_answer));
            write_frame(&mut to, &frame).await?;
        }
    }

    async fn responses(self: Arc<Self>, mut from: OwnedReadHalf) -> io::Result<()> {
        loop {
            let mut frame = read_frame(&mut from).await?;
            self.shared.wait_open().await?;
            let correlation = wire::correlation(&frame).map_err(malformed)?;
            let Some((header, rule)) = lock(&self.in_flight).remove(&correlation) else {
                return Err(malformed(wire::Malformed));
            };
            *lock(&self.shared.answered_bytes)
                .entry(header.api)
                .or_default() += frame.len() as u64;
            if let Some(rule) = rule {
                rule.applied.fetch_add(1, Ordering::SeqCst);
                match rule.fault {
                    Fault::LoseResponse => return Err(io::ErrorKind::ConnectionReset.into()),
                    Fault::SwallowResponse => continue,
                    Fault::LateResponse(delay) => tokio::time::sleep(delay).await,
                    Fault::HoldResponse => rule.wait_released().await,
                    Fault::NoBrokers => {
                        frame = wire::without_brokers(header, &frame).map_err(malformed)?;
                    }
                    _ => {}
                }
            }
            let answer = wire::rewrite(header.api, header.version, &frame, &mut |host, port| {
                self.route_name(host, port)
            })
            .map_err(malformed)?;
            self.answer(&answer).await?;
        }
    }

    fn route_name(&self, host: &str, port: i32) -> (String, i32) {
        let address = format!("{host}:{port}").parse();
        match address {
            Ok(broker) => {
                let own = self.shared.route(broker);
                (own.ip().to_string(), i32::from(own.port()))
            }
            // The harness's brokers advertise numbers; a name is left as it is.
            Err(_) => (host.to_owned(), port),
        }
    }

    async fn answer(&self, frame: &[u8]) -> io::Result<()> {
        write_frame(&mut *self.to_client.lock().await, frame).await
    }
}

async fn read_frame(from: &mut OwnedReadHalf) -> io::Result<Vec<u8>> {
    let length = usize::try_from(from.read_i32().await?).map_err(io::Error::other)?;
    if length > MAX_FRAME {
        return Err(io::Error::other(
            "a frame is longer than any that Kafka sends",
        ));
    }
    let mut frame = vec![0; length];
    from.read_exact(&mut frame).await?;
    Ok(frame)
}

async fn write_frame(to: &mut OwnedWriteHalf, frame: &[u8]) -> io::Result<()> {
    let length = i32::try_from(frame.len()).map_err(io::Error::other)?;
    to.write_all(&length.to_be_bytes()).await?;
    to.write_all(frame).await
}

fn malformed(_: wire::Malformed) -> io::Error {
    // Loud, because a frame that the proxy cannot read makes every later finding worthless.
    eprintln!("proxy: a frame is not what the protocol says; the connection is cut");
    io::ErrorKind::InvalidData.into()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
