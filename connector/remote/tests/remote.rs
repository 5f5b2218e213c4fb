//! The remote Aligner against a completions server that answers as it is told.

use std::{
    num::NonZeroU32,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use aligner::{
    AlignError, AlignRequest, Aligner, Alignment, NextStep, Outcome, Profile,
    prompt::{PAPER, Template},
    reason::{self, Bypass},
};
use aligner_remote::{RemoteAligner, RemoteError, RemoteSettings, Secret};
use axum::{
    Router,
    extract::Request,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, future::BoxFuture};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{Barrier, mpsc},
    time::timeout,
};

/// Longer than anything here takes; a test that runs into it has failed.
const PATIENCE: Duration = Duration::from_secs(30);

type Handler = Arc<dyn Fn(Value) -> BoxFuture<'static, Response> + Send + Sync>;

/// A completions server with the model `m`.
struct Fake {
    url: String,
    /// Bodies of the completions asked for.
    asked: Arc<Mutex<Vec<Value>>>,
    headers: Arc<Mutex<Vec<HeaderMap>>>,
}

impl Fake {
    async fn start<F>(complete: impl Fn(Value) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response> + Send + 'static,
    {
        let models =
            json!({ "object": "list", "data": [{ "id": "m", "root": "/models/aligner" }] });
        Self::with_models(200, models.to_string(), complete).await
    }

    /// Refuses prompts with this word, and answers others otherwise.
    async fn refusing(word: &'static str, status: u16, otherwise: fn() -> Response) -> Self {
        Self::start(move |body| async move {
            match body["prompt"].as_str().expect("text").contains(word) {
                true => reply(status, String::new()),
                false => otherwise(),
            }
        })
        .await
    }

    async fn with_models<F>(
        status: u16,
        models: String,
        complete: impl Fn(Value) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response> + Send + 'static,
    {
        let asked = Arc::<Mutex<Vec<Value>>>::default();
        let headers = Arc::<Mutex<Vec<HeaderMap>>>::default();
        let handler: Handler = Arc::new(move |body| Box::pin(complete(body)));
        let (log, head) = (Arc::clone(&asked), Arc::clone(&headers));
        let app = Router::new().fallback(move |request: Request| {
            let (handler, log, head) = (Arc::clone(&handler), Arc::clone(&log), Arc::clone(&head));
            let models = models.clone();
            async move {
                let (parts, body) = request.into_parts();
                head.lock()
                    .expect("no panic while locked")
                    .push(parts.headers);
                match parts.uri.path() {
                    "/v1/models" => reply(status, models),
                    "/v1/completions" => {
                        let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
                        let body: Value = serde_json::from_slice(&body).expect("JSON");
                        log.lock()
                            .expect("no panic while locked")
                            .push(body.clone());
                        handler(body).await
                    }
                    other => panic!("nobody asks for {other}"),
                }
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self {
            url: format!("http://{address}/v1"),
            asked,
            headers,
        }
    }

    fn settings(&self) -> RemoteSettings {
        let mut settings = RemoteSettings::new(&self.url, "m", Profile::paper("aligner-2b"));
        settings.first_pause = Duration::from_millis(1);
        settings.max_pause = Duration::from_millis(20);
        settings
    }

    async fn aligner(&self) -> RemoteAligner {
        RemoteAligner::connect(self.settings())
            .await
            .expect("served")
    }

    fn asked(&self) -> Vec<Value> {
        self.asked.lock().expect("no panic while locked").clone()
    }
}

fn reply(status: u16, body: String) -> Response {
    let status = StatusCode::from_u16(status).expect("a status");
    (status, [("content-type", "application/json")], body).into_response()
}

fn completed(text: &str) -> Response {
    let choice = json!({ "index": 0, "text": text, "finish_reason": "stop" });
    let usage = json!({ "prompt_tokens": 30, "completion_tokens": 5, "total_tokens": 35 });
    reply(
        200,
        json!({ "choices": [choice], "usage": usage }).to_string(),
    )
}

fn request(answer: &str) -> AlignRequest {
    AlignRequest {
        event_id: "e".into(),
        question: "Why?".into(),
        answer: answer.into(),
        waiting_since: Instant::now(),
    }
}

async fn align(
    aligner: &RemoteAligner,
    batch: Vec<AlignRequest>,
) -> Vec<Result<Alignment, AlignError>> {
    let len = batch.len();
    let mut done: Vec<_> = timeout(PATIENCE, aligner.align(batch).collect::<Vec<_>>())
        .await
        .expect("in time");
    done.sort_by_key(|completion| completion.index);
    let indices: Vec<_> = done.iter().map(|completion| completion.index).collect();
    assert_eq!(indices, (0..len).collect::<Vec<_>>(), "each answered once");
    done.into_iter()
        .map(|completion| completion.result)
        .collect()
}

async fn align_one(aligner: &RemoteAligner) -> Result<Alignment, AlignError> {
    align(aligner, vec![request("Because.")]).await.remove(0)
}

#[tokio::test]
async fn the_profiles_prompt_is_sent_as_it_is_and_decoded_greedily() {
    let fake = Fake::start(|_| async { completed(" Since.") }).await;
    let mut settings = fake.settings();
    settings.decoding.max_new_tokens = 77;
    let aligner = RemoteAligner::connect(settings).await.expect("served");
    let alignment = align_one(&aligner).await.expect("answered");
    assert_eq!(alignment.outcome, Outcome::Rewritten("Since.".into()));
    assert_eq!(alignment.usage.prompt_tokens, 30);
    assert_eq!(alignment.usage.correction_tokens, 5);
    assert!(alignment.timing.inference > Duration::ZERO);
    assert_eq!(
        fake.asked(),
        [json!({
            "model": "m",
            "prompt": "BEGINNING OF CONVERSATION: USER: ##Question: Why?\n##Answer: Because.\n\
                       ##Correction:  ASSISTANT:",
            "max_tokens": 77,
            "temperature": 0.0,
            "stream": false,
        })]
    );
}

#[tokio::test]
async fn a_sampled_model_gets_its_seed_and_the_profile_what_it_needs() {
    let fake = Fake::start(|_| async { completed("<same>") }).await;
    let mut settings = fake.settings();
    settings.decoding.temperature = 0.5;
    settings.decoding.top_p = Some(0.9);
    settings.decoding.seed = 3;
    settings.profile.unchanged_token = Some("<same>".into());
    settings.profile.guard.min_mean_logprob = Some(-1.0);
    let aligner = RemoteAligner::connect(settings).await.expect("served");
    let alignment = align_one(&aligner).await.expect("answered");
    assert_eq!(alignment.outcome, Outcome::Unchanged);
    let asked = &fake.asked()[0];
    assert_eq!(asked["temperature"], 0.5);
    assert_eq!(asked["top_p"], 0.9);
    assert_eq!(asked["seed"], 3);
    assert_eq!(asked["skip_special_tokens"], false);
    assert_eq!(asked["logprobs"], 1);
}

#[tokio::test]
async fn what_the_server_adds_to_the_prompt_is_said_only_where_the_settings_say_it() {
    let fake = Fake::start(|_| async { completed("Since.") }).await;
    for (said, expected) in [
        (None, None),
        (Some(false), Some(json!(false))),
        (Some(true), Some(json!(true))),
    ] {
        let mut settings = fake.settings();
        settings.add_special_tokens = said;
        let aligner = RemoteAligner::connect(settings).await.expect("served");
        align_one(&aligner).await.expect("answered");
        let asked = fake.asked().pop().expect("a request");
        assert_eq!(asked.get("add_special_tokens").cloned(), expected);
    }
}

#[tokio::test]
async fn each_request_of_a_batch_meets_its_own_fate() {
    let fake = Fake::start(|body| async move {
        let prompt = body["prompt"].as_str().expect("text");
        if prompt.contains("endless") {
            let choice = json!({ "text": "x", "finish_reason": "length" });
            reply(200, json!({ "choices": [choice] }).to_string())
        } else if prompt.contains("huge") {
            let error = json!({ "message": "no", "code": "context_length_exceeded" });
            reply(400, json!({ "error": error }).to_string())
        } else if prompt.contains("poison") {
            reply(
                400,
                json!({ "error": { "message": prompt, "type": "Bad" } }).to_string(),
            )
        } else {
            completed(" Better.")
        }
    })
    .await;
    let aligner = fake.aligner().await;
    let batch = ["good", "endless", "huge", "poison", "good"].map(request);
    let results = align(&aligner, batch.to_vec()).await;
    let outcomes: Vec<_> = results
        .iter()
        .map(|result| {
            result
                .as_ref()
                .map(|alignment| alignment.outcome.clone())
                .ok()
        })
        .collect();
    assert_eq!(
        outcomes,
        [
            Some(Outcome::Rewritten("Better.".into())),
            Some(Outcome::Bypassed(reason::LENGTH_LIMIT.into())),
            Some(Outcome::Bypassed(Bypass::found(
                reason::TOO_LONG,
                format!(
                    "{} answered 400: the prompt is longer than its model, or the server, allows",
                    fake.url
                ),
            ))),
            None,
            Some(Outcome::Rewritten("Better.".into())),
        ]
    );
    let error = results[3].as_ref().expect_err("rejected");
    assert_eq!(error.next_step(), NextStep::DeadLetter);
    assert!(!error.to_string().contains("poison"), "{error}");
}

#[tokio::test]
async fn a_server_that_refuses_what_all_requests_have_in_common_stops_the_service() {
    let strict = |body: Value| async move {
        match body.get("add_special_tokens") {
            Some(_) => reply(
                400,
                json!({ "error": { "type": "unknown_field" } }).to_string(),
            ),
            None => completed(" Better."),
        }
    };
    let fake = Fake::start(strict).await;
    let mut settings = fake.settings();
    settings.add_special_tokens = Some(false);
    let aligner = RemoteAligner::connect(settings).await.expect("served");
    let error = align_one(&aligner).await.expect_err("refused");
    assert_eq!(error.next_step(), NextStep::Stop, "{error}");
    let told = error.to_string();
    assert!(told.contains("aligner.remote.add_special_tokens"), "{told}");
    let asked = fake.asked();
    assert_eq!(asked.len(), 2, "about the record, and about two words");
    assert_eq!(asked[0]["max_tokens"], asked[1]["max_tokens"]);
    assert!(
        !asked[1]["prompt"]
            .as_str()
            .expect("text")
            .contains("Because")
    );
}

#[tokio::test]
async fn a_record_that_is_too_long_does_not_vouch_for_the_others() {
    let fake = Fake::refusing("huge", 413, || reply(400, String::new())).await;
    let aligner = fake.aligner().await;
    let long = align(&aligner, vec![request("huge")]).await.remove(0);
    let long = long.expect("bypassed").outcome;
    assert!(matches!(long, Outcome::Bypassed(bypass) if bypass.word == reason::TOO_LONG));
    let error = align_one(&aligner).await.expect_err("refused");
    assert_eq!(error.next_step(), NextStep::Stop, "{error}");
}

#[tokio::test]
async fn one_refused_record_is_given_up_once_the_server_took_another_and_no_more_is_asked_for_it() {
    let fake = Fake::refusing("poison", 422, || completed(" Better.")).await;
    let aligner = fake.aligner().await;
    for expected_requests in [2, 3] {
        let results = align(&aligner, vec![request("poison")]).await;
        let error = results[0].as_ref().expect_err("refused");
        assert_eq!(error.next_step(), NextStep::DeadLetter, "{error}");
        assert_eq!(fake.asked().len(), expected_requests);
    }
}

#[tokio::test]
async fn while_nobody_can_tell_whose_fault_a_refusal_is_no_record_is_given_up() {
    let fake = Fake::refusing("Because", 400, || reply(503, String::new())).await;
    let aligner = fake.aligner().await;
    let error = align_one(&aligner).await.expect_err("refused");
    assert_eq!(error.next_step(), NextStep::Retry, "{error}");
}

#[tokio::test]
async fn an_overloaded_server_is_asked_again_after_the_pause_it_wants() {
    let count = Arc::new(AtomicUsize::new(0));
    let fake = {
        let count = Arc::clone(&count);
        Fake::start(move |_| {
            let first = count.fetch_add(1, Ordering::SeqCst) == 0;
            async move {
                if first {
                    (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "5")]).into_response()
                } else {
                    completed("Better.")
                }
            }
        })
        .await
    };
    let mut settings = fake.settings();
    // Without the server's wish, the pause would be 1 ms; with it, the limit.
    settings.max_pause = Duration::from_millis(60);
    let aligner = RemoteAligner::connect(settings).await.expect("served");
    let start = Instant::now();
    let alignment = align_one(&aligner).await.expect("answered");
    assert_eq!(alignment.outcome, Outcome::Rewritten("Better.".into()));
    assert!(start.elapsed() >= Duration::from_millis(60));
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn attempts_are_bounded_and_end_in_unavailable() {
    let fake = Fake::start(|_| async { reply(429, String::new()) }).await;
    let mut settings = fake.settings();
    settings.max_attempts = NonZeroU32::new(3).expect("not zero");
    let aligner = RemoteAligner::connect(settings).await.expect("served");
    let error = align_one(&aligner).await.expect_err("overloaded");
    assert_eq!(error.next_step(), NextStep::Retry);
    assert!(error.to_string().contains("429"), "{error}");
    assert!(error.to_string().contains("after 3 attempts"), "{error}");
    assert_eq!(fake.asked().len(), 3);
}

#[tokio::test]
async fn a_server_that_does_not_answer_in_time_is_unavailable() {
    let fake = Fake::start(|_| std::future::pending()).await;
    let mut settings = fake.settings();
    settings.timeout = Duration::from_millis(200);
    let aligner = RemoteAligner::connect(settings).await.expect("served");
    let error = align_one(&aligner).await.expect_err("silent");
    assert_eq!(error.next_step(), NextStep::Retry);
    // The first took the time of all: whoever waits for the answer waits for no more.
    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test]
async fn a_server_that_will_never_answer_stops_the_service_with_the_setting_to_change() {
    for (status, body, setting) in [
        (401, "{}", "aligner.remote.api_key"),
        (403, "", "aligner.remote.api_key"),
        (
            404,
            r#"{"object":"error","message":"The model `m` does not exist.","type":"NotFoundError"}"#,
            "aligner.remote.model",
        ),
        (404, "<html>", "aligner.remote.url"),
        (402, "", "aligner.remote.api_key"),
        (304, "", "aligner.remote.url"),
    ] {
        let fake = Fake::start(move |_| async move { reply(status, body.to_owned()) }).await;
        let aligner = fake.aligner().await;
        let error = align_one(&aligner).await.expect_err("refused");
        assert_eq!(error.next_step(), NextStep::Stop);
        assert!(error.to_string().contains(setting), "{error}");
        assert_eq!(fake.asked().len(), 1, "asked once");
    }
}

#[tokio::test]
async fn an_answer_that_says_nothing_of_the_record_is_waited_for_and_never_its_fault() {
    for status in [201, 204, 407, 409, 418, 451] {
        let fake = Fake::start(move |_| async move { reply(status, String::new()) }).await;
        let mut settings = fake.settings();
        settings.max_attempts = NonZeroU32::new(2).expect("not zero");
        let aligner = RemoteAligner::connect(settings).await.expect("served");
        let error = align_one(&aligner).await.expect_err("no completion");
        assert_eq!(error.next_step(), NextStep::Retry, "{error}");
        assert!(error.to_string().contains(&status.to_string()), "{error}");
        assert_eq!(fake.asked().len(), 2);
    }
}

#[tokio::test]
async fn a_redirect_stops_the_service_and_tells_where_to_without_what_is_secret() {
    let login = "http://ada:hunter2@login:80/v1/completions?token=hunter2#hunter2";
    for status in [301, 302, 307, 308] {
        let fake = Fake::start(move |_| async move {
            let status = StatusCode::from_u16(status).expect("a status");
            (status, [("location", login)]).into_response()
        })
        .await;
        let aligner = fake.aligner().await;
        let error = align_one(&aligner).await.expect_err("elsewhere");
        assert_eq!(error.next_step(), NextStep::Stop);
        let said = error.to_string();
        let hint = "redirects to http://login/v1: set aligner.remote.url to where it leads";
        assert!(said.contains(hint), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
        assert_eq!(fake.asked().len(), 1, "not followed, and not asked again");
    }
}

#[tokio::test]
async fn a_completion_counts_whatever_stands_in_its_counters() {
    let fake = Fake::start(|_| async {
        let choice = json!({
            "text": " Since.", "finish_reason": "stop", "logprobs": { "token_logprobs": null },
        });
        let usage = json!({ "prompt_tokens": null, "completion_tokens": -1 });
        reply(
            200,
            json!({ "choices": [choice], "usage": usage }).to_string(),
        )
    })
    .await;
    let alignment = align_one(&fake.aligner().await).await.expect("answered");
    assert_eq!(alignment.outcome, Outcome::Rewritten("Since.".into()));
    assert_eq!(alignment.usage.prompt_tokens, 0);
    assert_eq!(alignment.usage.correction_tokens, 0);
    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test]
async fn no_more_requests_are_in_flight_than_allowed_over_all_batches() {
    let now = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    // Nobody is answered before two are there: fewer in flight would hang.
    let pair = Arc::new(Barrier::new(2));
    let fake = {
        let (now, most, pair) = (Arc::clone(&now), Arc::clone(&most), Arc::clone(&pair));
        Fake::start(move |_| {
            let (now, most, pair) = (Arc::clone(&now), Arc::clone(&most), Arc::clone(&pair));
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                pair.wait().await;
                now.fetch_sub(1, Ordering::SeqCst);
                completed("Better.")
            }
        })
        .await
    };
    let mut settings = fake.settings();
    settings.max_concurrency = NonZeroU32::new(2).expect("not zero");
    let aligner = RemoteAligner::connect(settings).await.expect("served");
    let batch = || vec![request("a"), request("b"), request("c")];
    let (one, two) = tokio::join!(align(&aligner, batch()), align(&aligner, batch()));
    assert!(one.iter().chain(&two).all(Result::is_ok));
    assert_eq!(most.load(Ordering::SeqCst), 2);
}

/// Says when it is dropped.
struct Abandoned(mpsc::Sender<&'static str>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.try_send("abandoned").expect("there is room");
    }
}

#[tokio::test]
async fn dropping_a_batch_makes_the_server_abandon_it() {
    let (sender, mut events) = mpsc::channel(8);
    let fake = Fake::start(move |_| {
        let abandoned = Abandoned(sender.clone());
        async move {
            abandoned.0.try_send("arrived").expect("there is room");
            std::future::pending::<Response>().await
        }
    })
    .await;
    let aligner = fake.aligner().await;
    let mut stream = aligner.align(vec![request("a")]);
    tokio::select! {
        _ = stream.next() => panic!("never answered"),
        event = timeout(PATIENCE, events.recv()) => {
            assert_eq!(event.expect("in time"), Some("arrived"));
        }
    }
    drop(stream);
    let event = timeout(PATIENCE, events.recv()).await.expect("in time");
    assert_eq!(event, Some("abandoned"));
}

#[tokio::test]
async fn the_identity_says_who_corrects_as_far_as_the_server_tells() {
    let fake = Fake::start(|_| async { completed("x") }).await;
    let aligner = fake.aligner().await;
    let identity = aligner.identity();
    assert_eq!(identity.name, "aligner-2b");
    assert_eq!(identity.revision, "remote:m:/models/aligner");
    assert_eq!(
        identity.template_hash,
        Template::new(PAPER).expect("valid").hash()
    );

    let mut settings = fake.settings();
    settings.revision = Some("sha256:12ab".into());
    let pinned = RemoteAligner::connect(settings).await.expect("served");
    assert_eq!(pinned.identity().revision, "sha256:12ab");

    let bare = Fake::with_models(404, String::new(), |_| async { completed("x") }).await;
    assert_eq!(bare.aligner().await.identity().revision, "remote:m");
}

#[tokio::test]
async fn a_start_that_cannot_succeed_says_which_setting_is_wrong() {
    async fn refusal(status: u16, models: &str) -> RemoteError {
        let fake = Fake::with_models(status, models.to_owned(), |_| async { completed("x") }).await;
        RemoteAligner::connect(fake.settings())
            .await
            .expect_err("refused")
    }
    let error = refusal(200, r#"{"data":[{"id":"other"}]}"#).await;
    assert!(matches!(error, RemoteError::Refused { .. }));
    assert!(error.to_string().contains("\"other\""), "{error}");
    assert!(
        error.to_string().contains("aligner.remote.model"),
        "{error}"
    );

    let error = refusal(401, "").await;
    assert!(
        error.to_string().contains("aligner.remote.api_key"),
        "{error}"
    );
    let error = refusal(200, "<html>").await;
    assert!(error.to_string().contains("aligner.remote.url"), "{error}");
    let error = refusal(302, "").await;
    assert!(matches!(error, RemoteError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("aligner.remote.url"), "{error}");
    let error = refusal(200, r#"{"data":[]}"#).await;
    assert!(matches!(error, RemoteError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("serves no model"), "{error}");
    let error = refusal(503, "").await;
    assert!(matches!(error, RemoteError::Unavailable { .. }), "{error}");

    for url in [
        "vllm:8000/v1",
        "http://",
        "http://ada:hunter2@vllm/v1",
        "http://vllm/v1?api_key=hunter2",
    ] {
        let settings = RemoteSettings::new(url, "m", Profile::paper("m"));
        let error = RemoteAligner::connect(settings)
            .await
            .expect_err("mistaken");
        assert!(matches!(error, RemoteError::Settings(_)), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable_and_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/v1", listener.local_addr().expect("bound"));
    drop(listener);
    let settings = RemoteSettings::new(&url, "m", Profile::paper("m"));
    let error = RemoteAligner::connect(settings).await.expect_err("nobody");
    assert!(matches!(error, RemoteError::Unavailable { .. }));
    assert!(error.to_string().contains(&url), "{error}");
}

#[tokio::test]
async fn a_key_that_cannot_be_sent_is_refused_by_name_before_anybody_is_asked() {
    let fake = Fake::start(|_| async { completed("x") }).await;
    for key in ["hunter2\nb", "hunter2\n", "hunter2\0"] {
        let mut settings = fake.settings();
        settings.api_key = Some(Secret::new(key));
        let error = RemoteAligner::connect(settings)
            .await
            .expect_err("no header");
        assert!(matches!(error, RemoteError::Settings(_)), "{error}");
        let said = error.to_string();
        assert!(said.contains("aligner.remote.api_key"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
    let headers = fake.headers.lock().expect("no panic while locked");
    assert!(headers.is_empty());
}

#[tokio::test]
async fn the_key_is_sent_and_never_printed() {
    let fake = Fake::start(|_| async { reply(401, String::new()) }).await;
    let mut settings = fake.settings();
    settings.api_key = Some(Secret::new("hunter2"));
    let printed = format!("{settings:?}");
    let aligner = RemoteAligner::connect(settings).await.expect("served");
    let error = align_one(&aligner).await.expect_err("refused");
    for text in [
        printed,
        format!("{aligner:?}"),
        format!("{error} {error:?}"),
    ] {
        assert!(!text.contains("hunter2"), "{text}");
    }
    let headers = fake.headers.lock().expect("no panic while locked");
    assert_eq!(headers.len(), 2);
    for headers in headers.iter() {
        assert_eq!(headers["authorization"], "Bearer hunter2");
    }
}
