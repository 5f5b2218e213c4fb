//! For how long nothing is delivered, as a probe is told.

use super::*;

fn failing(bench: &Bench) -> u64 {
    bench.progress.snapshot().failing.as_secs()
}

#[tokio::test(start_paused = true)]
async fn deliveries_fail_from_the_first_that_fails_until_one_succeeds() {
    let mut bench = Bench::start(single());
    let p0 = tenure(0, 1);
    bench.assign(&[&p0]).await;
    bench.records(&p0, 0, &["q"]).await;
    let (_, mut answer) = bench.next().await;
    assert_eq!(failing(&bench), 0, "one that goes on has not failed");
    let begin = Instant::now();
    while begin.elapsed() < MINUTE {
        answer.send(aborted()).expect("the sink waits");
        answer = bench.next().await.1;
        let lasted = begin.elapsed().as_secs();
        assert!(failing(&bench).abs_diff(lasted) <= 1, "{lasted} s");
    }
    answer.send(Ok(vec![])).expect("the sink waits");
    assert!(bench.is_quiet().await);
    assert_eq!(failing(&bench), 0);
}

#[tokio::test(start_paused = true)]
async fn what_others_deliver_now_does_not_fail_here_any_more() {
    let mut bench = Bench::start(single());
    let p0 = tenure(0, 1);
    bench.assign(&[&p0]).await;
    bench.records(&p0, 0, &["q"]).await;
    let (_, answer) = bench.next().await;
    answer.send(aborted()).expect("the sink waits");
    let (_, answer) = bench.next().await;
    bench.tell(SourceEvent::Lost(vec![Arc::clone(&p0)])).await;
    answer.send(aborted()).expect("the sink waits");
    assert!(bench.is_quiet().await);
    assert_eq!(failing(&bench), 0);
}
