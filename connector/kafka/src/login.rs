//! A login by access tokens (SASL OAUTHBEARER): one token for all clients, fetched ahead of time.
//!
//! librdkafka asks for a token by an event to whoever polls a client, and the wrapper answers it on that
//! thread. Neither suits us: several of our clients ask brokers before anybody polls them, or are polled
//! by nobody; the consumer must be polled however slow an endpoint is; and the wrapper knows no
//! extensions. So the event is left alone. A thread fetches a token, and the next one once four fifths of
//! its life are over, and hands it to every client there is; one that is made later gets it with its
//! first breath, before it asks anything.
//!
//! While no next token is to be had, the present one goes on to its end, and connections that are open
//! go on as long as their brokers let them. What brokers say of a token that has ended tells nothing
//! about who we are, so nobody ends over it; only an endpoint that refuses us ends the process.
//!
//! Deliberately absent: where tokens come from. That is a [`TokenSource`].

use std::{
    fmt, io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use crate::{
    listener::ClientFault,
    native::{Listed, Native, Roster},
    preflight::StartError,
    repeats::RepeatFilter,
};

/// A token as brokers are shown it.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken {
    /// The token itself; nothing prints it.
    pub value: String,
    /// Whom it is for, as clients name it in errors.
    pub principal: String,
    /// When it ends.
    pub expires_at: SystemTime,
    /// What brokers are told beside it (RFC 7628), such as a cluster's id.
    pub extensions: Vec<(String, String)>,
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken")
            .field("value", &"[redacted]")
            .field("principal", &self.principal)
            .field("expires_at", &self.expires_at)
            .field("extensions", &self.extensions)
            .finish()
    }
}

/// Why there is no token. The texts name who was asked, what came of it, and what helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenError {
    /// Nobody answers, or not as they should for now: it is asked again.
    Unavailable(String),
    /// We are refused: a person must change something.
    Refused(String),
}

/// Gives tokens.
pub trait TokenSource: Send + 'static {
    /// A token that was just issued. Blocks, for a bounded time, on a thread of its own.
    ///
    /// # Errors
    ///
    /// Sorted by what helps.
    fn fetch(&self) -> Result<AccessToken, TokenError>;
}

/// Pauses after failures, the first and the longest of them.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A token is never renewed sooner than this, however short its life.
const LEAST_AGE: Duration = Duration::from_millis(500);
/// Nor later than this, however long: a key of the issuer that was withdrawn is noticed within a day.
const GREATEST_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// How soon one who waits for a token notices that nobody waits for them.
const GIVE_UP_CHECK_INTERVAL: Duration = Duration::from_millis(200);

/// The present token, and who gets it. Clones share it.
#[derive(Clone)]
pub(crate) struct Login(Arc<Owner>);

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Login").finish_non_exhaustive()
    }
}

/// Ends the thread once nobody logs in any more.
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.lock().over = true;
        self.0.changed.notify_all();
    }
}

#[derive(Default)]
struct Shared {
    roster: Arc<Roster>,
    standing: Mutex<Standing>,
    changed: Condvar,
}

impl Login {
    /// Starts to fetch tokens.
    ///
    /// # Errors
    ///
    /// When no thread can be started.
    pub(crate) fn start(source: impl TokenSource) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        thread::Builder::new()
            .name("kafka-login".to_owned())
            .spawn(move || of_thread.keep_fetching(&source))?;
        Ok(Self(Arc::new(Owner(shared))))
    }

    fn shared(&self) -> &Shared {
        &self.0.0
    }

    /// Has a client handed the present token, and each that follows.
    pub(crate) fn list<C: Native>(&self, client: C) -> Listed<C> {
        self.shared().roster.list(client)
    }

    /// Waits for a token, for ever where the source is not available.
    ///
    /// # Errors
    ///
    /// When we are refused, or nobody waits any more.
    pub(crate) fn wait(&self, given_up: &AtomicBool) -> Result<(), StartError> {
        let shared = self.shared();
        let mut standing = shared.lock();
        loop {
            if standing.is_good(SystemTime::now()) {
                return Ok(());
            }
            if let Some(TokenError::Refused(cause)) = &standing.failure {
                return Err(StartError::Token(cause.clone()));
            }
            if given_up.load(Ordering::Acquire) {
                return Err(StartError::GivenUp);
            }
            standing = shared
                .changed
                .wait_timeout(standing, GIVE_UP_CHECK_INTERVAL)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Whether a refusal by brokers is about the present token. One that has ended is refused by
    /// everybody, and clocks do not agree on when that is.
    pub(crate) fn is_about_the_present(&self, fault: &ClientFault) -> bool {
        let standing = self.shared().lock();
        standing.failure.is_none()
            && standing.is_good(SystemTime::now())
            && standing.since.is_some_and(|since| fault.at >= since)
    }

    /// Why no token will come any more: the last one has ended, and another was refused for longer than
    /// this.
    pub(crate) fn refusal(&self, patience: Duration) -> Option<String> {
        self.shared()
            .lock()
            .refusal(patience, SystemTime::now(), Instant::now())
    }
}

/// What is known of tokens.
#[derive(Debug, Default)]
struct Standing {
    expires_at: Option<SystemTime>,
    /// When the present one was handed out.
    since: Option<Instant>,
    /// Why there is no newer one, since it was due.
    failure: Option<TokenError>,
    /// Since when nothing but refusals was heard.
    refused_since: Option<Instant>,
    over: bool,
}

impl Standing {
    fn is_good(&self, now: SystemTime) -> bool {
        self.expires_at.is_some_and(|end| end > now)
    }

    fn succeed(&mut self, expires_at: SystemTime, now: Instant) {
        self.expires_at = Some(expires_at);
        self.since = Some(now);
        self.failure = None;
        self.refused_since = None;
    }

    fn fail(&mut self, error: TokenError, now: Instant) {
        match error {
            TokenError::Refused(_) => {
                self.refused_since.get_or_insert(now);
            }
            TokenError::Unavailable(_) => self.refused_since = None,
        }
        self.failure = Some(error);
    }

    fn refusal(&self, patience: Duration, now: SystemTime, at: Instant) -> Option<String> {
        let since = self.refused_since?;
        let Some(TokenError::Refused(cause)) = &self.failure else {
            return None;
        };
        let lasted = at.saturating_duration_since(since);
        (!self.is_good(now) && lasted > patience).then(|| {
            format!(
                "no access token is left to log in with, for {} s now: {cause}; secrets are read at \
                 the start: put the right one in place and start again",
                lasted.as_secs()
            )
        })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches token after token until nobody logs in any more.
    fn keep_fetching(&self, source: &impl TokenSource) {
        let mut repeats = RepeatFilter::default();
        let mut failed = 0;
        loop {
            let pause = match source.fetch() {
                Ok(token) => {
                    let now = SystemTime::now();
                    let pause = age_to_renew_at(token.expires_at, now);
                    if failed > 0 {
                        tracing::info!("an access token was issued again");
                    }
                    failed = 0;
                    self.take(token);
                    pause
                }
                Err(error) => {
                    failed += 1;
                    self.miss(error, &mut repeats);
                    pause_after(failed)
                }
            };
            if self.is_over_within(pause) {
                return;
            }
        }
    }

    fn take(&self, token: AccessToken) {
        let expires_at = token.expires_at;
        self.roster.renew(token);
        self.lock().succeed(expires_at, Instant::now());
        self.changed.notify_all();
    }

    fn miss(&self, error: TokenError, repeats: &mut RepeatFilter) {
        let now = SystemTime::now();
        let left = {
            let mut standing = self.lock();
            standing.fail(error.clone(), Instant::now());
            let left = standing.expires_at.map(|end| end.duration_since(now));
            left.map(|left| left.unwrap_or_default().as_secs())
        };
        self.changed.notify_all();
        let (thing, cause) = match &error {
            TokenError::Unavailable(cause) => ("unavailable", cause),
            TokenError::Refused(cause) => ("refused", cause),
        };
        let Some(unsaid) = repeats.admit(thing, Instant::now()) else {
            return;
        };
        match (&error, left) {
            // Whoever waits for the first one says why there is none.
            (TokenError::Refused(_), None) => {}
            (TokenError::Refused(_), Some(seconds_left)) => tracing::error!(
                seconds_left,
                unsaid,
                "no further access token to log in to kafka with: {cause}"
            ),
            (TokenError::Unavailable(_), None) => tracing::warn!(
                unsaid,
                "no access token to log in to kafka with yet, waiting for one: {cause}"
            ),
            (TokenError::Unavailable(_), Some(seconds_left)) => tracing::warn!(
                seconds_left,
                unsaid,
                "no further access token to log in to kafka with yet: {cause}"
            ),
        }
    }

    /// Waits; whether it is over.
    fn is_over_within(&self, pause: Duration) -> bool {
        let deadline = Instant::now() + pause;
        let mut standing = self.lock();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if standing.over || left.is_zero() {
                return standing.over;
            }
            standing = self
                .changed
                .wait_timeout(standing, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// How old a token grows before the next one is asked for: four fifths of what it has left, as librdkafka
/// has it.
fn age_to_renew_at(expires_at: SystemTime, now: SystemTime) -> Duration {
    let left = expires_at.duration_since(now).unwrap_or_default();
    (left / 5 * 4).clamp(LEAST_AGE, GREATEST_AGE)
}

/// The pause after so many failures in a row, each twice as long as the one before.
fn pause_after(failed: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(failed.saturating_sub(1));
    FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, sync::mpsc};

    use rdkafka::{
        ClientConfig, config::FromClientConfig, consumer::BaseConsumer, error::RDKafkaErrorCode,
    };

    use super::*;

    /// Longer than anything here takes on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(60);
    /// Questions that a test hears of before it listens.
    const MAX_HEARD: usize = 64;

    fn token(value: &str, life: Duration) -> AccessToken {
        AccessToken {
            value: value.to_owned(),
            principal: "moderation".to_owned(),
            expires_at: SystemTime::now() + life,
            extensions: vec![("logicalCluster".to_owned(), "lkc-1".to_owned())],
        }
    }

    fn unavailable() -> TokenError {
        TokenError::Unavailable("the endpoint is down".to_owned())
    }

    fn refused() -> TokenError {
        TokenError::Refused("the endpoint knows no such client".to_owned())
    }

    /// Gives what it is told to, the last of it again and again, and tells each time.
    struct Scripted {
        answers: Mutex<VecDeque<Result<AccessToken, TokenError>>>,
        asked: mpsc::SyncSender<Instant>,
    }

    impl TokenSource for Scripted {
        fn fetch(&self) -> Result<AccessToken, TokenError> {
            let mut answers = self.answers.lock().expect("nobody panics with it");
            // The test may be over, or not count.
            let _ = self.asked.try_send(Instant::now());
            if answers.len() > 1 {
                answers.pop_front().expect("there are several")
            } else {
                answers.front().expect("there is one").clone()
            }
        }
    }

    fn login(
        answers: impl IntoIterator<Item = Result<AccessToken, TokenError>>,
    ) -> (Login, mpsc::Receiver<Instant>) {
        let (asked, heard) = mpsc::sync_channel(MAX_HEARD);
        let source = Scripted {
            answers: Mutex::new(answers.into_iter().collect()),
            asked,
        };
        let login = Login::start(source).expect("a thread can be started");
        (login, heard)
    }

    #[test]
    fn a_token_is_renewed_at_four_fifths_of_what_is_left_of_it_within_limits() {
        let now = SystemTime::now();
        for (left, age) in [
            (Duration::from_secs(3_600), Duration::from_secs(2_880)),
            (Duration::from_secs(10), Duration::from_secs(8)),
            (Duration::ZERO, LEAST_AGE),
            (Duration::from_secs(10 * 365 * 86_400), GREATEST_AGE),
        ] {
            assert_eq!(age_to_renew_at(now + left, now), age, "{left:?}");
        }
        assert_eq!(
            age_to_renew_at(now - Duration::from_secs(5), now),
            LEAST_AGE
        );
    }

    #[test]
    fn pauses_after_failures_double_up_to_a_limit() {
        let pauses = [1, 2, 3, 4, 5, 1_000].map(|failed| pause_after(failed).as_secs());
        assert_eq!(pauses, [1, 2, 4, 8, 10, 10]);
    }

    #[test]
    fn one_token_serves_all_until_it_is_due() {
        let (login, heard) = login([Ok(token("a", Duration::from_secs(3_600)))]);
        for _ in 0..3 {
            login
                .wait(&AtomicBool::new(false))
                .expect("there is a token");
        }
        assert!(heard.recv_timeout(PATIENCE).is_ok());
        assert!(heard.try_recv().is_err(), "it was asked once");
    }

    #[test]
    fn a_short_token_is_renewed_again_and_again_and_the_end_ends_that() {
        let (login, heard) = login([Ok(token("a", Duration::from_millis(100)))]);
        for _ in 0..3 {
            heard.recv_timeout(PATIENCE).expect("it is asked again");
        }
        drop(login);
        // The sender goes with the thread.
        while heard.recv_timeout(PATIENCE).is_ok() {}
        assert_eq!(
            heard.recv_timeout(PATIENCE),
            Err(mpsc::RecvTimeoutError::Disconnected)
        );
    }

    #[test]
    fn an_endpoint_that_is_down_is_waited_for_and_a_refusal_ends_the_start_with_its_cause() {
        let (login, _heard) = login([
            Err(unavailable()),
            Ok(token("a", Duration::from_secs(3_600))),
        ]);
        assert_eq!(login.wait(&AtomicBool::new(false)), Ok(()));
        let (login, _heard) = self::login([Err(refused())]);
        assert_eq!(
            login.wait(&AtomicBool::new(false)),
            Err(StartError::Token(
                "the endpoint knows no such client".to_owned()
            ))
        );
        let (login, _heard) = self::login([Err(unavailable())]);
        assert_eq!(login.wait(&AtomicBool::new(true)), Err(StartError::GivenUp));
    }

    #[test]
    fn only_refusals_that_outlast_patience_and_the_last_token_end_the_process() {
        /// Second, and what was heard then: a token of so many seconds, or none.
        type Heard = (u64, Result<u64, TokenError>);
        let stories: [(&str, &[Heard], u64, bool); 6] = [
            ("refused from the start", &[(0, Err(refused()))], 46, true),
            ("not for long", &[(0, Err(refused()))], 45, false),
            (
                "the present token is good",
                &[(0, Ok(100)), (80, Err(refused()))],
                99,
                false,
            ),
            (
                "it has ended",
                &[(0, Ok(100)), (50, Err(refused()))],
                101,
                true,
            ),
            (
                "nobody answers",
                &[(0, Err(refused())), (40, Err(unavailable()))],
                999,
                false,
            ),
            (
                "refused, and issued again",
                &[(0, Err(refused())), (40, Ok(10))],
                999,
                false,
            ),
        ];
        let (start, wall) = (Instant::now(), SystemTime::now());
        for (story, heard, second, ends) in stories {
            let mut standing = Standing::default();
            for (at, what) in heard {
                let now = start + Duration::from_secs(*at);
                match what {
                    Ok(life) => standing.succeed(wall + Duration::from_secs(at + life), now),
                    Err(error) => standing.fail(error.clone(), now),
                }
            }
            let after = Duration::from_secs(second);
            let refusal = standing.refusal(Duration::from_secs(45), wall + after, start + after);
            assert_eq!(refusal.is_some(), ends, "{story}: {refusal:?}");
            if let Some(refusal) = refusal {
                assert!(refusal.contains("knows no such client"), "{refusal}");
            }
        }
    }

    #[test]
    fn what_brokers_say_of_an_earlier_token_or_of_one_that_has_ended_does_not_count() {
        let fault = |at| ClientFault {
            code: RDKafkaErrorCode::Authentication,
            reason: "invalid_token".to_owned(),
            at,
        };
        let before = Instant::now();
        let (login, _heard) = login([Ok(token("a", Duration::from_secs(3_600)))]);
        login
            .wait(&AtomicBool::new(false))
            .expect("there is a token");
        assert!(!login.is_about_the_present(&fault(before)));
        assert!(login.is_about_the_present(&fault(Instant::now())));
        login.shared().lock().fail(unavailable(), Instant::now());
        assert!(!login.is_about_the_present(&fault(Instant::now())));
        let mut standing = login.shared().lock();
        standing.succeed(SystemTime::now() - Duration::from_secs(1), before);
        drop(standing);
        assert!(!login.is_about_the_present(&fault(Instant::now())));
    }

    #[test]
    fn clients_come_and_go_while_tokens_are_renewed() {
        let mut config = ClientConfig::new();
        config
            .set("security.protocol", "sasl_plaintext")
            .set("sasl.mechanism", "OAUTHBEARER");
        let client =
            || -> BaseConsumer { BaseConsumer::from_config(&config).expect("usable properties") };
        let roster = Arc::new(Roster::default());
        let early = roster.list(client());
        roster.renew(token("a", Duration::from_secs(60)));
        let late = roster.list(client());
        drop(early);
        roster.renew(token("b", Duration::from_secs(60)));
        // Neither one that librdkafka refuses, nor one that no text can hold, harms anybody.
        roster.renew(token("ended", Duration::ZERO));
        roster.renew(token("a\u{e9}b", Duration::from_secs(60)));
        roster.renew(token("a\0b", Duration::from_secs(60)));
        drop(late);
    }

    #[test]
    fn a_token_is_printed_by_nothing() {
        let printed = format!("{:?}", token("hunter2", Duration::ZERO));
        assert!(!printed.contains("hunter2"), "{printed}");
        assert!(printed.contains("moderation"), "{printed}");
    }
}
