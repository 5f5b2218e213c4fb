//! Which requests meet which fault.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Semaphore, watch};

use super::{
    Proxy, lock,
    wire::{self, ApiKey, RequestHeader},
};
use crate::wait;

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

/// A rule in the making.
#[derive(Debug)]
pub struct RuleBuilder<'a> {
    proxy: &'a Proxy,
    api: ApiKey,
    only: Option<Selects>,
    skip: u64,
    times: u64,
}

/// Which requests of a kind are meant.
type Selects = fn(&[u8]) -> wire::Result<bool>;

impl<'a> RuleBuilder<'a> {
    pub(super) fn new(proxy: &'a Proxy, api: ApiKey) -> Self {
        Self {
            proxy,
            api,
            only: None,
            skip: 0,
            times: 1,
        }
    }

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
        self.only = Some(wire::end_txn_commits);
        self
    }

    /// Among FindCoordinator requests, selects those for groups and lets those for transactions pass.
    #[must_use]
    pub fn groups(mut self) -> Self {
        self.only = Some(wire::find_coordinator_of_group);
        self
    }

    /// Puts the rule to work.
    pub fn does(self, fault: Fault) -> Held {
        let rule = Arc::new(Rule {
            api: self.api,
            only: self.only,
            skip: self.skip,
            times: self.times,
            fault,
            seen: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            applied: watch::Sender::new(false),
            gate: Semaphore::new(0),
        });
        lock(&self.proxy.shared.rules).push(Arc::clone(&rule));
        Held { rule }
    }
}

/// A rule at work.
#[derive(Debug, Clone)]
pub struct Held {
    rule: Arc<Rule>,
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

    /// Waits until the broker has answered a request that was held, or whose answer is withheld.
    #[track_caller]
    pub fn wait_applied(&self, limit: Duration) {
        let what = format!("the broker to apply {}", self.rule.api);
        wait::until(&what, limit, || *self.rule.applied.borrow());
    }

    /// Lets everything go that is held.
    pub fn release(&self) {
        self.rule.release();
    }
}

/// Which requests meet which fault, and how many have.
#[derive(Debug)]
pub(super) struct Rule {
    api: ApiKey,
    only: Option<Selects>,
    skip: u64,
    times: u64,
    pub(super) fault: Fault,
    seen: AtomicU64,
    hits: AtomicU64,
    /// Set once the broker has answered a request that was held, or whose answer is withheld.
    applied: watch::Sender<bool>,
    gate: Semaphore,
}

impl Rule {
    /// Whether this request is one of those that the rule is for; counts it.
    pub(super) fn takes(&self, header: RequestHeader, frame: &[u8]) -> bool {
        if header.api != self.api {
            return false;
        }
        if self.only.is_some_and(|selects| selects(frame) != Ok(true)) {
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
    pub(super) async fn wait_released(&self) {
        // The gate never gets permits; it is closed to let everybody through.
        let _ = self.gate.acquire().await;
    }

    /// Notes that the broker has answered.
    pub(super) fn note_applied(&self) {
        self.applied.send_replace(true);
    }

    /// Waits for the broker's answer.
    pub(super) async fn wait_applied(&self) {
        // The sender is this rule's own.
        let _ = self.applied.subscribe().wait_for(|applied| *applied).await;
    }

    /// Lets everything go that is held.
    pub(super) fn release(&self) {
        self.gate.close();
    }
}
