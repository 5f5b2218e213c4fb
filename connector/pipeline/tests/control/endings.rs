//! Refusals, a log that takes nothing, and a source that reads no further.

use super::*;

/// Refuses the first output of the record at `index` of the first portion; its records have two each.
fn refused_at(index: usize) -> Answer {
    Err(DeliveryError::Refused {
        delivery: 0,
        output: 2 * index,
        cause: "too large".to_owned(),
    })
}

/// A bench whose sink has ten records of each of two partitions, of the second after one that is delivered;
/// the second partition, and where the answer is awaited.
async fn ten_of_each_of_two_partitions() -> (Bench, Arc<PartitionEpoch>, oneshot::Sender<Answer>) {
    let mut bench = Bench::start(Settings::default());
    let (p0, p1) = (tenure(0, 1), tenure(1, 2));
    bench.assign(&[&p0, &p1]).await;
    bench.records(&p1, 0, &["q"]).await;
    let (_, first) = bench.next().await;
    bench.records(&p0, 0, &["q"; 10]).await;
    bench.records(&p1, 1, &["q"; 10]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    first.send(Ok(vec![])).expect("the sink waits");
    let (all, answer) = bench.next().await;
    assert_eq!(advances(&all), [(0, 10), (1, 11)]);
    (bench, p1, answer)
}

#[tokio::test(start_paused = true)]
async fn what_comes_before_a_refused_output_is_delivered_next_and_stands() {
    let mut bench = Bench::start(Settings::default());
    let p0 = tenure(0, 1);
    bench.assign(&[&p0]).await;
    bench.records(&p0, 0, &["q"]).await;
    let (_, first) = bench.next().await;
    // Finished while the first delivery is under way, so that the next one holds them all.
    bench.records(&p0, 1, &["q"; 20]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    first.send(Ok(vec![])).expect("the sink waits");
    let (all, answer) = bench.next().await;
    assert_eq!(advances(&all), [(0, 21)]);
    answer.send(refused_at(5)).expect("the sink waits");
    let (before, answer) = bench.next().await;
    assert_eq!(advances(&before), [(0, 6)]);
    answer.send(Ok(vec![])).expect("the sink waits");
    // What was refused is a dead letter by now.
    let (behind, answer) = bench.next().await;
    assert_eq!(advances(&behind), [(0, 16)], "twice as many");
    assert_eq!(behind[0].outputs[0].kind, OutputKind::DeadLetter);
    answer.send(Ok(vec![])).expect("the sink waits");
    let (rest, _answer) = bench.next().await;
    assert_eq!(advances(&rest), [(0, 21)]);
}

#[tokio::test(start_paused = true)]
async fn what_comes_before_a_refused_output_is_delivered_next_whichever_partition_it_is_of() {
    let (mut bench, _, answer) = ten_of_each_of_two_partitions().await;
    let refused = DeliveryError::Refused {
        delivery: 1,
        output: 2 * 5,
        cause: "too large".to_owned(),
    };
    answer.send(Err(refused)).expect("the sink waits");
    let (before, _answer) = bench.next().await;
    assert_eq!(advances(&before), [(0, 10), (1, 6)]);
}

#[tokio::test(start_paused = true)]
async fn what_was_delivered_before_a_stop_within_a_delivery_is_counted() {
    let (mut bench, p1, answer) = ten_of_each_of_two_partitions().await;
    // Half of one partition's records, which have two outputs each, and none of the other's.
    let stopped = DeliveryError::StoppedWithin {
        delivered: vec![(p1, 2 * 5)],
        cause: "no dead letter is tolerated".to_owned(),
    };
    answer.send(Err(stopped)).expect("the sink waits");
    let error = bench.run.await.expect("no panic").expect_err("it ends");
    assert_eq!(error.to_string(), "sink: no dead letter is tolerated");
    let done = bench.progress.snapshot();
    assert_eq!((done.delivered(), done.undelivered), (1 + 5, 10 + 5));
    assert_eq!((done.deliveries, done.aborted), (2, 0));
    assert!(bench.deliveries.recv().await.is_none(), "nothing after it");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_in_the_last_delivery_has_another_try() {
    let mut bench = Bench::start(Settings {
        drain_timeout_ms: 0,
        ..Settings::default()
    });
    let p0 = tenure(0, 1);
    bench.assign(&[&p0]).await;
    bench.records(&p0, 0, &["q", "q", "q"]).await;
    let (_, answer) = bench.next().await;
    bench.shut_down();
    assert_eq!(bench.flows.recv().await, Some("stop"));
    answer.send(refused_at(1)).expect("the sink waits");
    let mut end = 0;
    while let Some((delivery, answer)) = bench.deliveries.recv().await {
        end = delivery[0].next_offset;
        answer.send(Ok(vec![])).expect("the sink waits");
    }
    assert_eq!(end, 3);
    let summary = bench.run.await.expect("no panic");
    assert_eq!(summary.expect("a shutdown is no error").left, 0);
}

#[tokio::test(start_paused = true)]
async fn outputs_that_pile_up_leave_records_undecoded_within_the_budget() {
    let budget = 40_000;
    let mut bench = Bench::start(Settings {
        max_bytes_in_flight: budget,
        // What the Aligner has is decoded already: its outputs come on top.
        max_tokens_in_flight: 8,
        pause_after_ms: 0,
        ..single()
    });
    let p0 = tenure(0, 1);
    bench.assign(&[&p0]).await;
    // As many as fit as records, and more than fit with their outputs.
    bench.records(&p0, 0, &["q"; 60]).await;
    let (_, mut answer) = bench.next().await;
    for _ in 0..5 {
        answer.send(aborted()).expect("the sink waits");
        answer = bench.next().await.1;
        let held = bench.progress.snapshot();
        assert!(held.bytes_in_flight <= 2 * budget, "{held:?}");
        assert!(held.unfinished > 0, "some wait as they are");
    }
    // The log is back.
    let mut end = 0;
    while end < 60 {
        answer.send(Ok(vec![])).expect("the sink waits");
        if bench.progress.snapshot().delivered() == 60 {
            break;
        }
        let (delivery, next) = bench.next().await;
        end = delivery[0].next_offset;
        answer = next;
    }
    assert_eq!(end, 60, "nothing waits for ever");
}

#[tokio::test(start_paused = true)]
async fn records_that_alone_fill_the_budget_are_worked_through_all_the_same() {
    let mut bench = Bench::start(Settings {
        max_bytes_in_flight: 1_000,
        ..Settings::default()
    });
    let p0 = tenure(0, 1);
    bench.assign(&[&p0]).await;
    bench.records(&p0, 0, &["q"; 40]).await;
    let mut end = 0;
    while end < 40 {
        let (delivery, answer) = bench.next().await;
        end = delivery[0].next_offset;
        answer.send(Ok(vec![])).expect("the sink waits");
    }
    let batches = bench.progress.snapshot().batches;
    assert!(
        batches <= 2,
        "{batches}: each in as large a batch as may be"
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_read_before_something_unreadable_is_delivered_and_that_is_how_it_ends() {
    let mut bench = Bench::start(single());
    let (p0, p1) = (tenure(0, 1), tenure(1, 2));
    bench.assign(&[&p0, &p1]).await;
    bench.tell(unreadable()).await;
    // What waits at the source follows, and partitions may be taken meanwhile, also once it has come.
    bench.records(&p0, 0, &["q", "q"]).await;
    let (delivery, answer) = bench.next().await;
    bench.tell(SourceEvent::Exhausted).await;
    let released = bench.revoke(&p1, MINUTE).await;
    answer.send(Ok(vec![])).expect("the sink waits");
    released.await.expect_err("dropped once it is forgotten");
    let mut end = delivery[0].next_offset;
    while let Some((delivery, answer)) = bench.deliveries.recv().await {
        end = delivery[0].next_offset;
        answer.send(Ok(vec![])).expect("the sink waits");
    }
    assert_eq!(end, 2);
    let error = bench.run.await.expect("no panic").expect_err("it ends");
    assert_eq!(error.to_string(), "source: a broken batch");
}

#[tokio::test(start_paused = true)]
async fn something_unreadable_ends_it_in_time_whatever_the_aligner_does() {
    let mut bench = Bench::start(single());
    let p0 = tenure(0, 1);
    bench.assign(&[&p0]).await;
    bench.records(&p0, 0, &["hangs"]).await;
    bench.tell(unreadable()).await;
    bench.end_source();
    let begin = Instant::now();
    bench.abandoned.recv().await.expect("nobody waits for it");
    let drain = Duration::from_millis(Settings::default().drain_timeout_ms);
    assert_eq!(begin.elapsed(), drain);
    let error = bench.run.await.expect("no panic").expect_err("it ends");
    assert_eq!(error.to_string(), "source: a broken batch");
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_panics_ends_it_at_once() {
    let mut bench = Bench::start(single());
    let p0 = tenure(0, 1);
    bench.assign(&[&p0]).await;
    bench.records(&p0, 0, &["q"]).await;
    let (_, answer) = bench.next().await;
    let begin = Instant::now();
    drop(answer);
    let error = bench.run.await.expect("no panic").expect_err("it ends");
    assert!(matches!(error, PipelineError::Task(_)), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(1));
}

fn unreadable() -> SourceEvent {
    SourceEvent::Unreadable(SourceError {
        message: "a broken batch".to_owned(),
    })
}
