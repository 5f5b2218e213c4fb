//! Rebalances, aborts, outages and the end, with every step of log and sink in the test's hand.

mod endings;
mod failing;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use aligner::{
    AlignRequest, Aligner, Alignment, Completion, Completions, Identity, Outcome,
    builtin::{Builtin, Rule},
};
use aligner_pipeline::{
    Decoder, Delivery, DeliveryError, Flow, JsonDecoder, JsonEncoder, KEY_OMITTED_HEADER,
    OutputKind, Partition, PartitionEpoch, Parts, Pipeline, PipelineError, Settings, Sink, Source,
    SourceError, SourceEvent, SourceRecord, Summary, Undecoded, VALUE_OMITTED_HEADER,
    progress::Progress,
};
use aligner_records::AnswerEvent;
use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, timeout},
};

type Answer = Result<Vec<Arc<PartitionEpoch>>, DeliveryError>;

struct HandSource {
    events: mpsc::Receiver<Result<SourceEvent, SourceError>>,
    flows: mpsc::Sender<&'static str>,
}

impl Source for HandSource {
    async fn next(&mut self) -> Option<Result<SourceEvent, SourceError>> {
        self.events.recv().await
    }

    fn flow(&mut self, flow: Flow) {
        let word = match flow {
            Flow::Pause => "pause",
            Flow::Resume => "resume",
        };
        self.flows.try_send(word).expect("room in the test");
    }

    fn stop(&mut self) {
        self.flows.try_send("stop").expect("room in the test");
    }

    async fn close(self) {
        self.flows.try_send("close").expect("room in the test");
    }
}

struct HandSink(mpsc::Sender<(Vec<Delivery>, oneshot::Sender<Answer>)>);

impl Sink for HandSink {
    async fn deliver(&mut self, deliveries: Vec<Delivery>) -> Answer {
        let (answer, answered) = oneshot::channel();
        self.0
            .send((deliveries, answer))
            .await
            .expect("the test listens");
        answered.await.expect("the test answers")
    }

    async fn close(self) {}
}

/// Rewrites every answer; never answers a question "hangs", and says when it is given up.
struct Patient {
    identity: Identity,
    abandoned: mpsc::Sender<()>,
}

struct OnDrop(mpsc::Sender<()>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        let _ = self.0.try_send(());
    }
}

impl Aligner for Patient {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn align(&self, batch: Vec<AlignRequest>) -> Completions {
        let hangs = batch.iter().any(|request| &*request.question == "hangs");
        let answers: Vec<_> = batch
            .into_iter()
            .enumerate()
            .filter(|(_, request)| &*request.question != "hangs")
            .map(|(index, request)| Completion {
                index,
                result: Ok(Alignment {
                    outcome: Outcome::Rewritten(format!("better {}", request.answer)),
                    usage: Default::default(),
                    timing: Default::default(),
                    confidence: None,
                }),
            })
            .collect();
        let answers = stream::iter(answers);
        if hangs {
            let on_drop = OnDrop(self.abandoned.clone());
            answers
                .chain(stream::pending().inspect(move |_: &Completion| {
                    let _keep = &on_drop;
                }))
                .boxed()
        } else {
            answers.boxed()
        }
    }
}

/// A running pipeline, and everything around it.
struct Bench {
    events: mpsc::Sender<Result<SourceEvent, SourceError>>,
    flows: mpsc::Receiver<&'static str>,
    deliveries: mpsc::Receiver<(Vec<Delivery>, oneshot::Sender<Answer>)>,
    abandoned: mpsc::Receiver<()>,
    stop: Option<oneshot::Sender<()>>,
    progress: Progress,
    run: JoinHandle<Result<Summary, PipelineError>>,
}

impl Bench {
    fn start(settings: Settings) -> Self {
        Self::start_with(settings, Arc::new(JsonDecoder::default()))
    }

    fn start_with(settings: Settings, decoder: Arc<dyn Decoder>) -> Self {
        let (events, source) = mpsc::channel(16);
        let (to_flows, flows) = mpsc::channel(16);
        let (to_deliveries, deliveries) = mpsc::channel(1);
        let (to_abandoned, abandoned) = mpsc::channel(16);
        let (stop, stopped) = oneshot::channel();
        let pipeline = Pipeline::new(Parts {
            source: HandSource {
                events: source,
                flows: to_flows,
            },
            sink: HandSink(to_deliveries),
            aligner: Arc::new(Patient {
                identity: Builtin::new(Rule::Identity).identity().clone(),
                abandoned: to_abandoned,
            }),
            decoder,
            encoder: Arc::new(JsonEncoder),
            settings,
            connector: "test".to_owned(),
            task: 0,
            wall_clock: Arc::new(|| 0),
        });
        let progress = pipeline.progress();
        let run = tokio::spawn(pipeline.run(stopped.map(|_| ())));
        Self {
            events,
            flows,
            deliveries,
            abandoned,
            stop: Some(stop),
            progress,
            run,
        }
    }

    async fn tell(&self, event: SourceEvent) {
        self.events
            .send(Ok(event))
            .await
            .expect("the pipeline runs");
    }

    async fn assign(&self, partitions: &[&Arc<PartitionEpoch>]) {
        let partitions = partitions.iter().copied().cloned().collect();
        self.tell(SourceEvent::Assigned(partitions)).await;
    }

    /// Hands out records with these questions, from this offset on.
    async fn records(&self, partition: &Arc<PartitionEpoch>, first: i64, questions: &[&str]) {
        let records = (first..)
            .zip(questions)
            .map(|(offset, question)| record(partition, offset, question))
            .collect();
        self.tell(SourceEvent::Records(records)).await;
    }

    async fn revoke(
        &self,
        partition: &Arc<PartitionEpoch>,
        within: Duration,
    ) -> oneshot::Receiver<()> {
        let (release, released) = oneshot::channel();
        self.tell(SourceEvent::Revoking {
            partitions: vec![Arc::clone(partition)],
            deadline: Instant::now() + within,
            release,
        })
        .await;
        released
    }

    async fn next(&mut self) -> (Vec<Delivery>, oneshot::Sender<Answer>) {
        timeout(Duration::from_secs(600), self.deliveries.recv())
            .await
            .expect("a delivery begins in time")
            .expect("the pipeline runs")
    }

    /// Whether nothing is delivered for a while.
    async fn is_quiet(&mut self) -> bool {
        timeout(Duration::from_secs(30), self.deliveries.recv())
            .await
            .is_err()
    }

    /// The source has nothing more to say.
    fn end_source(&mut self) {
        self.events = mpsc::channel(1).0;
    }

    fn shut_down(&mut self) {
        let stop = self.stop.take().expect("asked once");
        stop.send(()).expect("the pipeline runs");
    }
}

fn aborted() -> Answer {
    Err(DeliveryError::Aborted("told to".to_owned()))
}

fn tenure(number: i32, epoch: u64) -> Arc<PartitionEpoch> {
    Arc::new(PartitionEpoch {
        partition: Partition {
            topic: "answers".into(),
            number,
        },
        epoch,
    })
}

fn record(partition: &Arc<PartitionEpoch>, offset: i64, question: &str) -> SourceRecord {
    let value = serde_json::json!({"question": question, "answer": "a"}).to_string();
    SourceRecord {
        partition: Arc::clone(partition),
        offset,
        key: None,
        value: Some(value.into()),
        headers: Vec::new(),
        timestamp: None,
    }
}

/// Partition number and next offset of each delivery.
fn advances(deliveries: &[Delivery]) -> Vec<(i32, i64)> {
    deliveries
        .iter()
        .map(|delivery| (delivery.partition.partition.number, delivery.next_offset))
        .collect()
}

/// Settings under which every record is a call of its own.
fn single() -> Settings {
    Settings {
        max_batch_records: 1,
        max_batches_in_flight: 8,
        ..Settings::default()
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_revoked_partition_gets_one_last_delivery_of_what_it_has_finished() {
    let mut bench = Bench::start(single());
    let (p0, p1) = (tenure(0, 1), tenure(1, 2));
    bench.assign(&[&p0, &p1]).await;
    bench.records(&p1, 0, &["q"]).await;
    let (first, answer_first) = bench.next().await;
    assert_eq!(advances(&first), [(1, 1)]);

    // While that is in flight, partition 0 has a finished prefix, and is taken.
    bench.records(&p0, 10, &["q", "hangs", "q"]).await;
    bench.records(&p1, 1, &["q"]).await;
    let mut released = bench.revoke(&p0, MINUTE).await;
    assert!(bench.is_quiet().await, "one delivery at a time");
    assert!(released.try_recv().is_err());
    answer_first.send(Ok(vec![])).expect("the sink waits");

    let (last, answer_last) = bench.next().await;
    assert_eq!(advances(&last), [(0, 11)], "the prefix of what is taken");
    assert_eq!(last[0].outputs.len(), 2);
    answer_last.send(Ok(vec![])).expect("the sink waits");
    released.await.expect_err("dropped once it is forgotten");
    bench.abandoned.recv().await.expect("nobody waits for it");

    let (next, answer) = bench.next().await;
    assert_eq!(advances(&next), [(1, 2)], "others go on");
    answer.send(Ok(vec![])).expect("the sink waits");
    assert!(bench.is_quiet().await, "what was taken is forgotten");
    assert_eq!(bench.progress.snapshot().unfinished, 0);
}

#[tokio::test(start_paused = true)]
async fn a_revoked_partition_is_released_at_its_deadline_though_the_sink_hangs() {
    let mut bench = Bench::start(single());
    let p0 = tenure(0, 1);
    bench.assign(&[&p0]).await;
    bench.records(&p0, 0, &["q"]).await;
    let (_, answer) = bench.next().await;
    let begin = Instant::now();
    let released = bench.revoke(&p0, Duration::from_secs(3)).await;
    released.await.expect_err("dropped");
    assert_eq!(begin.elapsed().as_secs(), 3);
    // The late answer finds nothing to settle; what it says was delivered was.
    answer.send(Ok(vec![])).expect("the sink waits");
    assert!(bench.is_quiet().await);
    assert_eq!(bench.progress.snapshot().delivered(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_last_delivery_that_aborts_is_tried_again_after_a_pause_until_its_deadline() {
    let mut bench = Bench::start(single());
    let p0 = tenure(0, 1);
    bench.assign(&[&p0]).await;
    bench.records(&p0, 0, &["q"]).await;
    let (_, mut answer) = bench.next().await;
    let begin = Instant::now();
    let mut released = bench.revoke(&p0, Duration::from_secs(3)).await;
    let mut tries = 0;
    loop {
        answer.send(aborted()).expect("the sink waits");
        tokio::select! {
            _ = &mut released => break,
            (last, next) = bench.next() => {
                assert_eq!(advances(&last), [(0, 1)]);
                answer = next;
                tries += 1;
            }
        }
    }
    assert_eq!(begin.elapsed().as_secs(), 3);
    assert_eq!(tries, 5, "after 50, 100, 200, 400 and 800 ms");
    assert!(bench.is_quiet().await);
}

#[tokio::test(start_paused = true)]
async fn a_revoked_partition_is_emptied_however_small_deliveries_have_become() {
    let mut bench = Bench::start(Settings::default());
    let (p0, p1) = (tenure(0, 1), tenure(1, 2));
    bench.assign(&[&p0, &p1]).await;
    bench.records(&p0, 0, &["q"]).await;
    let (_, answer) = bench.next().await;
    answer.send(aborted()).expect("the sink waits");
    let (small, mut answer) = bench.next().await;
    assert_eq!(advances(&small), [(0, 1)]);
    bench.records(&p0, 1, &["q"; 39]).await;
    bench.records(&p1, 0, &["q"]).await;
    let released = bench.revoke(&p0, MINUTE).await;
    assert!(bench.is_quiet().await, "one delivery at a time");
    for end in [3, 7, 15, 31, 40] {
        answer.send(Ok(vec![])).expect("the sink waits");
        let (next, waits) = bench.next().await;
        assert_eq!(advances(&next), [(0, end)], "what is taken goes first");
        answer = waits;
    }
    answer.send(Ok(vec![])).expect("the sink waits");
    released.await.expect_err("dropped once it is empty");
    let (next, _answer) = bench.next().await;
    assert_eq!(advances(&next), [(1, 1)], "others go on");
}

#[tokio::test(start_paused = true)]
async fn a_lost_partition_delivers_nothing_more_and_its_inference_is_given_up() {
    let mut bench = Bench::start(single());
    let p0 = tenure(0, 1);
    bench.assign(&[&p0]).await;
    bench.records(&p0, 0, &["hangs", "q"]).await;
    assert!(bench.is_quiet().await, "a straggler holds its partition");
    bench.tell(SourceEvent::Lost(vec![Arc::clone(&p0)])).await;
    bench.abandoned.recv().await.expect("nobody waits for it");
    let again = tenure(0, 2);
    bench.assign(&[&again]).await;
    bench.records(&again, 0, &["q"]).await;
    let (delivery, _answer) = bench.next().await;
    assert_eq!(delivery[0].partition, again);
    assert_eq!(advances(&delivery), [(0, 1)]);
}

#[tokio::test(start_paused = true)]
async fn an_aborted_delivery_is_tried_again_with_the_same_results() {
    let mut bench = Bench::start(single());
    let p0 = tenure(0, 1);
    bench.assign(&[&p0]).await;
    bench.records(&p0, 0, &["q"]).await;
    let (first, answer) = bench.next().await;
    answer.send(aborted()).expect("the sink waits");
    let (second, answer) = bench.next().await;
    assert_eq!(advances(&second), [(0, 1)]);
    assert!(Arc::ptr_eq(&first[0].outputs[0], &second[0].outputs[0]));
    answer.send(Ok(vec![])).expect("the sink waits");
    assert!(bench.is_quiet().await);
    let done = bench.progress.snapshot();
    assert_eq!((done.delivered(), done.aborted, done.batches), (1, 1, 1));
}

/// A key that no log of these tests takes.
fn large_key() -> Bytes {
    vec![b'k'; 3_000].into()
}

/// Hands out a record with a large key and this value.
async fn with_large_key(bench: &Bench, value: &'static str) {
    let p0 = tenure(0, 1);
    bench.assign(&[&p0]).await;
    let large = SourceRecord {
        key: Some(large_key()),
        value: Some(value.into()),
        ..record(&p0, 0, "q")
    };
    bench.tell(SourceEvent::Records(vec![large])).await;
}

fn refused() -> Answer {
    Err(DeliveryError::Refused {
        delivery: 0,
        output: 0,
        cause: "too large".to_owned(),
    })
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_is_refused_though_bare_is_written_without_its_key() {
    // What is no event, and an event whose correction is refused as well.
    for (value, most) in [("{", 2), (r#"{"question":"q","answer":"a"}"#, 3)] {
        let mut bench = Bench::start(single());
        with_large_key(&bench, value).await;
        let mut refusals = 0;
        let letter = loop {
            let (delivery, answer) = bench.next().await;
            let output = Arc::clone(&delivery[0].outputs[0]);
            if output.kind == OutputKind::DeadLetter && output.key != Some(large_key()) {
                answer.send(Ok(vec![])).expect("the sink waits");
                break output;
            }
            refusals += 1;
            answer.send(refused()).expect("the sink waits");
        };
        assert_eq!(refusals, most, "{value}");
        assert_eq!(letter.key, Some("answers-0-0".into()));
        assert_eq!(letter.value, None);
        let header = |name: &str| {
            let header = letter.headers.iter().find(|header| header.key == name)?;
            header.value.clone()
        };
        assert_eq!(header(KEY_OMITTED_HEADER), Some("3000".into()));
        let bytes = value.len().to_string();
        assert_eq!(header(VALUE_OMITTED_HEADER), Some(bytes.into()));
        bench.shut_down();
        let ended = bench.run.await.expect("no panic");
        assert_eq!(ended.expect("a shutdown is no error").left, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_refuses_a_dead_letter_without_key_and_value_stops_the_pipeline() {
    for value in ["{", r#"{"question":"q","answer":"a"}"#] {
        let mut bench = Bench::start(single());
        with_large_key(&bench, value).await;
        let mut last = None;
        while let Some((delivery, answer)) = bench.deliveries.recv().await {
            last = Some(Arc::clone(&delivery[0].outputs[0]));
            answer.send(refused()).expect("the sink waits");
        }
        let last = last.expect("it was tried");
        assert_eq!(last.key, Some("answers-0-0".into()), "{value}");
        assert_eq!(last.value, None);
        let error = bench.run.await.expect("no panic").expect_err("it ends");
        assert_eq!(
            error.to_string(),
            "sink: not even a dead letter without key and value is taken for a record of answers-0: \
             too large"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_abort_halves_the_next_delivery_and_a_success_doubles_it() {
    let mut bench = Bench::start(Settings::default());
    let p0 = tenure(0, 1);
    bench.assign(&[&p0]).await;
    bench.records(&p0, 0, &["q"]).await;
    let (first, answer) = bench.next().await;
    assert_eq!(advances(&first), [(0, 1)]);
    // Finished while the first delivery is under way, so that the next ones are as large as they
    // may be.
    bench.records(&p0, 1, &["q"; 40]).await;
    let mut answer = Some(answer);
    let (mut start, mut end) = (0, 1);
    for (is_aborted, records) in [(true, 1), (false, 2), (false, 4), (true, 2), (false, 4)] {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let told = if is_aborted { aborted() } else { Ok(vec![]) };
        let waiting = answer.take().expect("a delivery is under way");
        waiting.send(told).expect("the sink waits");
        let (delivery, next) = bench.next().await;
        start = if is_aborted { start } else { end };
        end = delivery[0].next_offset;
        assert_eq!(end - start, records, "from offset {start}");
        answer = Some(next);
    }
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_the_sink_says_is_gone_is_forgotten() {
    let mut bench = Bench::start(single());
    let p0 = tenure(0, 1);
    bench.assign(&[&p0]).await;
    bench.records(&p0, 0, &["q", "hangs"]).await;
    let (_, answer) = bench.next().await;
    answer.send(Ok(vec![p0])).expect("the sink waits");
    assert!(bench.is_quiet().await);
    let done = bench.progress.snapshot();
    assert_eq!((done.delivered(), done.partitions), (0, 0));
}

/// Told to shut down with two records of four finished, whose delivery waits for its answer.
async fn stopped_half_way(
    settings: Settings,
) -> (Bench, Arc<PartitionEpoch>, oneshot::Sender<Answer>) {
    let mut bench = Bench::start(settings);
    let p0 = tenure(0, 1);
    bench.assign(&[&p0]).await;
    bench.records(&p0, 0, &["q", "q", "hangs", "q"]).await;
    let (first, answer) = bench.next().await;
    assert_eq!(advances(&first), [(0, 2)]);
    bench.shut_down();
    assert_eq!(bench.flows.recv().await, Some("stop"));
    (bench, p0, answer)
}

#[tokio::test(start_paused = true)]
async fn at_shutdown_what_was_begun_is_delivered_and_the_rest_is_left() {
    let (mut bench, p0, answer) = stopped_half_way(Settings::default()).await;
    // What comes after that was not begun.
    bench.records(&p0, 4, &["q"]).await;
    let begin = Instant::now();
    answer.send(Ok(vec![])).expect("the sink waits");
    let summary = bench
        .run
        .await
        .expect("no panic")
        .expect("a shutdown is no error");
    assert_eq!(
        begin.elapsed(),
        Duration::from_millis(Settings::default().drain_timeout_ms)
    );
    assert_eq!((summary.received, summary.left), (4, 2));
    assert_eq!(bench.flows.recv().await, Some("close"));
}

#[tokio::test(start_paused = true)]
async fn without_time_to_drain_what_is_finished_is_delivered_and_the_rest_is_left_at_once() {
    let (mut bench, _, answer) = stopped_half_way(Settings {
        drain_timeout_ms: 0,
        ..Settings::default()
    })
    .await;
    bench.abandoned.recv().await.expect("nobody waits for it");
    let begin = Instant::now();
    answer.send(Ok(vec![])).expect("the sink waits");
    let ended = bench.run.await.expect("no panic");
    let summary = ended.expect("a shutdown is no error");
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert_eq!((summary.received, summary.left), (4, 2));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_without_work_ends_at_once() {
    let mut bench = Bench::start(single());
    bench.assign(&[&tenure(0, 1)]).await;
    bench.shut_down();
    let begin = Instant::now();
    let ended = bench.run.await.expect("no panic");
    assert_eq!(ended.expect("a shutdown is no error").left, 0);
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_hangs_does_not_hold_a_shutdown_for_ever() {
    let mut bench = Bench::start(single());
    let p0 = tenure(0, 1);
    bench.assign(&[&p0]).await;
    bench.records(&p0, 0, &["q"]).await;
    let (_, _answer) = bench.next().await;
    bench.shut_down();
    let begin = Instant::now();
    let summary = bench.run.await.expect("no panic").expect("no error");
    assert_eq!(summary.left, 1);
    // Drain, last delivery, closing of the sink.
    assert!(begin.elapsed() <= Duration::from_secs(30 + 10 + 10));
}

#[tokio::test(start_paused = true)]
async fn a_source_or_sink_that_cannot_go_on_ends_the_pipeline_with_its_cause() {
    let bench = Bench::start(single());
    let message = "topic llm.answers is gone".to_owned();
    let error = SourceError { message };
    bench.events.send(Err(error)).await.expect("it runs");
    let error = bench.run.await.expect("no panic").expect_err("it ends");
    assert_eq!(error.to_string(), "source: topic llm.answers is gone");

    let mut bench = Bench::start(single());
    let p0 = tenure(0, 1);
    bench.assign(&[&p0]).await;
    bench.records(&p0, 0, &["q"]).await;
    let (_, answer) = bench.next().await;
    let fenced = DeliveryError::Stopped("fenced twice".to_owned());
    answer.send(Err(fenced)).expect("the sink waits");
    let error = bench.run.await.expect("no panic").expect_err("it ends");
    assert_eq!(error.to_string(), "sink: fenced twice");
}

/// Needs three tries to be ready, once.
struct Unready {
    tries: AtomicU32,
}

impl Decoder for Unready {
    fn decode(&self, record: &SourceRecord) -> Result<AnswerEvent, Undecoded> {
        if self.tries.load(SeqCst) < 3 {
            return Err(Undecoded::NotReady);
        }
        JsonDecoder::default().decode(record)
    }

    fn make_ready<'a>(&'a self, _: &'a SourceRecord) -> BoxFuture<'a, Result<(), String>> {
        async {
            if self.tries.fetch_add(1, SeqCst) < 2 {
                Err("http://registry: connection refused".to_owned())
            } else {
                Ok(())
            }
        }
        .boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_registry_stalls_and_dead_letters_nothing() {
    let decoder = Arc::new(Unready {
        tries: AtomicU32::new(0),
    });
    let mut bench = Bench::start_with(
        Settings::default(),
        Arc::clone(&decoder) as Arc<dyn Decoder>,
    );
    let p0 = tenure(0, 1);
    bench.assign(&[&p0]).await;
    let begin = Instant::now();
    bench.records(&p0, 0, &["q", "q"]).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(bench.progress.snapshot().decoder_waits);
    let (delivery, answer) = bench.next().await;
    assert_eq!(delivery[0].outputs.len(), 4, "two corrections, two pairs");
    answer.send(Ok(vec![])).expect("the sink waits");
    // Pauses of 500 and 1000 ms.
    assert!(begin.elapsed() >= Duration::from_millis(1_500));
    assert!(begin.elapsed() < Duration::from_millis(1_700));
    assert_eq!(decoder.tries.load(SeqCst), 3);
    assert!(bench.is_quiet().await);
    assert!(!bench.progress.snapshot().decoder_waits);
}

/// Never has what a question "unseen" needs: says so at once, or says nothing.
struct Away {
    is_silent: bool,
}

impl Decoder for Away {
    fn decode(&self, record: &SourceRecord) -> Result<AnswerEvent, Undecoded> {
        let event = JsonDecoder::default().decode(record)?;
        if event.question == "unseen" {
            return Err(Undecoded::NotReady);
        }
        Ok(event)
    }

    fn make_ready<'a>(&'a self, _: &'a SourceRecord) -> BoxFuture<'a, Result<(), String>> {
        async {
            if self.is_silent {
                std::future::pending::<()>().await;
            }
            Err("http://registry: connection refused".to_owned())
        }
        .boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_leaves_takes_along_what_its_record_waited_for() {
    for (is_silent, is_lost) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut bench = Bench::start_with(Settings::default(), Arc::new(Away { is_silent }));
        let (p0, p1) = (tenure(0, 1), tenure(1, 2));
        bench.assign(&[&p0, &p1]).await;
        bench.records(&p0, 0, &["unseen", "q"]).await;
        bench.records(&p1, 0, &["q"]).await;
        // In the middle of a pause of 8 s, or of the first try.
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(bench.progress.snapshot().decoder_waits);
        let begin = Instant::now();
        if is_lost {
            bench.tell(SourceEvent::Lost(vec![p0])).await;
        } else {
            let released = bench.revoke(&p0, MINUTE).await;
            released.await.expect_err("dropped once it is forgotten");
        }
        let (delivery, answer) = bench.next().await;
        assert_eq!(advances(&delivery), [(1, 1)]);
        let waited = begin.elapsed();
        assert!(waited < Duration::from_millis(500), "{waited:?}");
        answer.send(Ok(vec![])).expect("the sink waits");
        assert!(bench.is_quiet().await);
        let done = bench.progress.snapshot();
        assert!(!done.decoder_waits);
        assert_eq!((done.unfinished, done.bytes_in_flight), (0, 0));
        bench.shut_down();
        let ended = bench.run.await.expect("no panic");
        assert_eq!(ended.expect("a shutdown is no error").left, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_aligner_is_not_silent_while_it_has_nothing_to_answer() {
    let decoder = Arc::new(Unready {
        tries: AtomicU32::new(0),
    });
    let bench = Bench::start_with(Settings::default(), decoder);
    let p0 = tenure(0, 1);
    bench.assign(&[&p0]).await;
    bench.records(&p0, 0, &["hangs"]).await;
    // Decoded after pauses of 500 and 1000 ms.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let now = bench.progress.snapshot();
    assert_eq!(now.batches_in_flight, 1);
    let silent = now.aligner_silent.as_millis();
    assert!((400..600).contains(&silent), "{silent}");
}

#[tokio::test(start_paused = true)]
async fn a_lasting_fullness_pauses_the_source_and_its_end_resumes_it() {
    let settings = Settings {
        max_bytes_in_flight: 10_000,
        ..single()
    };
    let mut bench = Bench::start(settings);
    let p0 = tenure(0, 1);
    bench.assign(&[&p0]).await;
    bench.records(&p0, 0, &["q"; 20]).await;
    let (_, answer) = bench.next().await;
    assert_eq!(bench.flows.recv().await, Some("pause"));
    assert!(bench.progress.snapshot().is_paused);
    answer.send(Ok(vec![])).expect("the sink waits");
    while bench.progress.snapshot().delivered() < 20 {
        match timeout(MINUTE, bench.deliveries.recv()).await {
            Ok(Some((_, answer))) => answer.send(Ok(vec![])).expect("the sink waits"),
            Ok(None) => panic!("the pipeline has ended"),
            Err(_) => break,
        }
    }
    assert_eq!(bench.flows.recv().await, Some("resume"));
    assert!(bench.progress.snapshot().paused > Duration::ZERO);
}
