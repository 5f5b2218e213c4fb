//! What the figures say, report by report.

use super::*;

fn stats() -> (Arc<Tenures>, Arc<ClientStats>) {
    let tenures = Arc::new(Tenures::default());
    let meter = opentelemetry::global::meter("test");
    let absence = Absence::new(Duration::ZERO, true);
    let stats = ClientStats::new(Arc::clone(&tenures), absence, &meter);
    (tenures, stats)
}

fn partition(number: i32) -> Partition {
    Partition {
        topic: "answers".into(),
        number,
    }
}

const CONSUMER: &[u8] = br#"{
    "brokers": {
        "a:1/bootstrap": {"nodeid": -1, "nodename": "a:1", "source": "configured", "state": "UP", "stateage": 7, "req_timeouts": 9},
        "a:1/1": {"nodeid": 1, "nodename": "a:1", "source": "learned", "state": "UP", "stateage": 7, "req_timeouts": 2},
        "b:1/2": {"nodeid": 2, "nodename": "b:1", "source": "learned", "state": "DOWN", "stateage": 7, "req_timeouts": 0}
    },
    "topics": {"answers": {"topic": "answers", "partitions": {
        "0": {"partition": 0, "committed_offset": 20, "ls_offset": 100},
        "1": {"partition": 1, "committed_offset": -1001, "lo_offset": 5, "ls_offset": 50},
        "-1": {"partition": -1, "committed_offset": -1001, "ls_offset": -1001}
    }}},
    "cgrp": {"state": "up", "join_state": "steady", "rebalance_cnt": 3}
}"#;

/// The lag of each partition that is ours.
fn lag(stats: &ClientStats) -> Vec<Option<u64>> {
    stats.lags().iter().map(PartitionLag::lag).collect()
}

fn read(json: &[u8]) -> Report {
    Report::read(json).expect("a whole report")
}

#[test]
fn lag_counts_from_the_delivered_position_and_only_for_our_partitions() {
    let (tenures, stats) = stats();
    let consumer = stats.client("consumer");
    tenures.begin([partition(0), partition(1)]);
    stats.begins(&partition(0), 40);
    // What it says is committed is of an earlier time.
    consumer.take_report(read(CONSUMER));
    assert_eq!(lag(&stats), [Some(60), Some(45)]);
    stats.delivered(&partition(0), 90);
    stats.delivered(&partition(1), 50);
    assert_eq!(lag(&stats), [Some(10), Some(0)]);
    tenures.end(&tenures.of(&[partition(0)]));
    assert_eq!(lag(&stats), [Some(0)]);
}

#[test]
fn lag_grows_while_fetching_is_suspended_though_reports_repeat_an_old_end() {
    let (tenures, stats) = stats();
    let consumer = stats.client("consumer");
    tenures.begin([partition(0), partition(2)]);
    stats.begins(&partition(0), 40);
    stats.begins(&partition(2), 7);
    consumer.take_report(read(CONSUMER));
    assert_eq!(stats.unfollowed(Instant::now()), []);
    stats.set_paused(true);
    assert_eq!(stats.unfollowed(Instant::now()).len(), 2);
    let ends = [(partition(0), 300), (partition(2), 9)];
    let unfetched = stats.end_at(ends, Instant::now() + Duration::from_secs(600));
    assert_eq!(unfetched, [], "nothing is fetched, and that is meant");
    consumer.take_report(read(CONSUMER));
    assert_eq!(lag(&stats), [Some(260), Some(2)]);
    // Fetching goes on, and a report says something new, be it less.
    stats.set_paused(false);
    consumer.take_report(read(CONSUMER));
    assert_eq!(lag(&stats), [Some(260), Some(2)]);
    let text = std::str::from_utf8(CONSUMER).expect("JSON is text");
    let cut = text.replace("\"ls_offset\": 100", "\"ls_offset\": 90");
    consumer.take_report(read(cut.as_bytes()));
    assert_eq!(lag(&stats), [Some(50), Some(2)]);
}

#[test]
fn a_partition_that_reports_say_nothing_new_of_is_asked_for_and_told_if_it_is_left_behind() {
    let (tenures, stats) = stats();
    let consumer = stats.client("consumer");
    tenures.begin([partition(0), partition(1)]);
    stats.begins(&partition(0), 100);
    stats.begins(&partition(1), 50);
    consumer.take_report(read(CONSUMER));
    let now = Instant::now();
    assert_eq!(stats.unfollowed(now), []);
    let later = now + QUIET_AFTER;
    let mut unfollowed = stats.unfollowed(later);
    unfollowed.sort();
    assert_eq!(
        unfollowed,
        [partition(0), partition(1)],
        "their ends may be old"
    );
    let ends = || [(partition(0), 300), (partition(1), 50)];
    assert_eq!(stats.end_at(ends(), later), []);
    assert_eq!(lag(&stats), [Some(200), Some(0)]);
    let much_later = later + Duration::from_secs(60);
    assert_eq!(stats.end_at(ends(), much_later), [partition(0)]);
    stats.read_past(&partition(0), 300, Some(300));
    assert_eq!(stats.end_at(ends(), much_later), []);
}

#[test]
fn a_consumer_without_a_coordinator_is_out_of_its_group_until_it_is_back() {
    let (_, stats) = stats();
    let consumer = stats.client("consumer");
    assert!(!stats.is_out_of_group());
    let text = std::str::from_utf8(CONSUMER).expect("JSON is text");
    let away = text.replace("\"up\", \"join_state\"", "\"wait-coord\", \"join_state\"");
    consumer.take_report(read(away.as_bytes()));
    assert!(stats.is_out_of_group());
    consumer.take_report(read(CONSUMER));
    assert!(!stats.is_out_of_group());
}

#[test]
fn a_client_is_connected_to_brokers_of_a_report_until_it_is_gone() {
    let (_, stats) = stats();
    let consumer = stats.client("consumer");
    assert!(!stats.state().has_reported);
    consumer.take_report(read(CONSUMER));
    let state = stats.state();
    assert!(state.has_reported);
    assert_eq!((state.brokers_up, state.request_timeouts), (1, 2));
    assert_eq!(state.rebalances, 3);
    drop(consumer);
    let state = stats.state();
    assert_eq!((state.brokers_up, state.request_timeouts), (0, 2));
}

#[test]
fn of_two_brokers_by_one_name_the_newer_counts() {
    let (_, stats) = stats();
    let consumer = stats.client("consumer");
    let broker = |state: &str| {
        format!(
            r#""a:9092/1": {{"nodeid": 1, "nodename": "a:9092", "source": "learned", "state": "{state}", "stateage": 7, "req_timeouts": 0}}"#
        )
    };
    let (newer, dropped) = (broker("UP"), broker("INIT"));
    consumer.take_report(read(
        format!(r#"{{"brokers": {{{newer}, {dropped}}}}}"#).as_bytes(),
    ));
    assert_eq!(stats.state().brokers_up, 1);
}

#[test]
fn nobody_follows_the_ends_while_committed_offsets_are_asked_for() {
    let (tenures, stats) = stats();
    tenures.begin([partition(0)]);
    stats.asking(|| {
        assert_eq!(stats.unfollowed(Instant::now()), [partition(0)]);
        let now = Instant::now();
        assert!(!stats.is_undecided(now), "it has only just begun");
        assert!(stats.is_undecided(now + UNDECIDED_AFTER + Duration::from_secs(1)));
    });
    assert_eq!(stats.unfollowed(Instant::now()), []);
    assert!(!stats.is_undecided(Instant::now() + 2 * UNDECIDED_AFTER));
}

#[test]
fn deliveries_are_counted_by_their_end() {
    let (_, stats) = stats();
    stats.ended(DeliveryEnd::Committed, Duration::from_millis(5));
    stats.ended(DeliveryEnd::Aborted, Duration::from_millis(5));
    stats.ended(DeliveryEnd::Committed, Duration::from_millis(5));
    assert_eq!(stats.deliveries(DeliveryEnd::Committed), 2);
    assert_eq!(stats.deliveries(DeliveryEnd::Ambiguous), 0);
}

#[test]
fn what_holds_no_records_is_no_lag_once_it_was_read_past_and_all_before_it_is_delivered() {
    /// Where the tenure began, what was delivered, what was read past and behind which record, where the
    /// log begins and ends, and the lag.
    type Case = (
        &'static str,
        Option<i64>,
        Option<i64>,
        Option<(i64, Option<i64>)>,
        i64,
        i64,
        Option<u64>,
    );
    let cases: [Case; 11] = [
        (
            "nothing was told",
            Some(40),
            Some(90),
            None,
            0,
            100,
            Some(10),
        ),
        (
            "a transaction's end behind the last record",
            Some(40),
            Some(99),
            Some((100, Some(99))),
            0,
            100,
            Some(0),
        ),
        (
            "it, and more that is not read yet",
            Some(40),
            Some(99),
            Some((100, Some(99))),
            0,
            130,
            Some(30),
        ),
        (
            "records that are read and not delivered",
            Some(40),
            Some(90),
            Some((100, Some(99))),
            0,
            100,
            Some(10),
        ),
        (
            "a restart in front of a transaction's end",
            Some(99),
            None,
            Some((100, Some(99))),
            0,
            100,
            Some(0),
        ),
        (
            "nothing but aborted records in a new group",
            None,
            None,
            Some((100, None)),
            0,
            100,
            Some(0),
        ),
        (
            "records of a new group that are not delivered",
            None,
            None,
            Some((100, Some(100))),
            0,
            100,
            Some(100),
        ),
        (
            "a position that is behind what was delivered",
            None,
            Some(95),
            Some((90, Some(90))),
            0,
            100,
            Some(5),
        ),
        (
            "all that was to be read is deleted",
            Some(40),
            None,
            None,
            100,
            100,
            Some(0),
        ),
        (
            "some of it is deleted",
            Some(40),
            Some(50),
            Some((50, Some(50))),
            80,
            100,
            Some(20),
        ),
        (
            "deleted behind what was delivered",
            Some(40),
            Some(90),
            None,
            80,
            100,
            Some(10),
        ),
    ];
    for (what, began, delivered, passed, start, end, lag) in cases {
        let (tenures, stats) = stats();
        let consumer = stats.client("consumer");
        tenures.begin([partition(0)]);
        if let Some(offset) = began {
            stats.begins(&partition(0), offset);
        }
        if let Some(offset) = delivered {
            stats.delivered(&partition(0), offset);
        }
        if let Some((position, stood_at)) = passed {
            stats.read_past(&partition(0), position, stood_at);
        }
        let report = format!(
            r#"{{"topics": {{"answers": {{"topic": "answers", "partitions": {{
                "0": {{"partition": 0, "lo_offset": {start}, "ls_offset": {end}}}
            }}}}}}, "cgrp": {{"state": "up", "join_state": "steady", "rebalance_cnt": 1}}}}"#
        );
        consumer.take_report(read(report.as_bytes()));
        let found: Vec<_> = stats.lags().iter().map(PartitionLag::lag).collect();
        assert_eq!(found, [lag], "{what}");
    }
}

#[test]
fn what_was_read_past_is_forgotten_where_reading_goes_back() {
    let (tenures, stats) = stats();
    let consumer = stats.client("consumer");
    tenures.begin([partition(0)]);
    stats.begins(&partition(0), 40);
    consumer.take_report(read(CONSUMER));
    stats.read_past(&partition(0), 100, Some(40));
    assert_eq!(stats.lags()[0].lag(), Some(0));
    stats.seeks(&partition(0));
    assert_eq!(stats.lags()[0].lag(), Some(60));
}

fn reset(number: i32, wanted: i64, begins: Option<i64>) -> Reset {
    Reset {
        partition: partition(number),
        wanted,
        begins,
    }
}

#[test]
fn resets_are_counted_at_once_and_what_they_skipped_when_it_is_known() {
    let (_, stats) = stats();
    let consumer = stats.client("consumer");
    consumer.take_reset(reset(0, 50, None));
    assert_eq!(stats.missed(&partition(0)), (1, 0));
    assert_eq!(stats.unsettled(), [partition(0)]);
    // It has moved on before anybody could ask.
    consumer.take_reset(reset(0, 110, None));
    stats.settle_reset(&partition(0), 120);
    assert_eq!(stats.missed(&partition(0)), (2, 70));
    assert_eq!(stats.unsettled(), []);
    // An answer to a question that was answered before.
    stats.settle_reset(&partition(0), 200);
    assert_eq!(stats.missed(&partition(0)), (2, 70));
    // Known at once.
    consumer.take_reset(reset(0, 120, Some(150)));
    assert_eq!(stats.missed(&partition(0)), (3, 100));
    // Beyond the end, and one of which nobody learns.
    consumer.take_reset(reset(1, 200, Some(0)));
    consumer.take_reset(reset(2, 7, None));
    stats.tell_unsettled();
    assert_eq!(stats.unsettled(), []);
    assert_eq!(stats.missed(&partition(1)), (1, 0));
    assert_eq!(stats.missed(&partition(2)), (1, 0));
}

#[test]
fn the_time_for_which_brokers_hold_a_client_back_is_added_up_from_its_reports() {
    let (_, stats) = stats();
    let (consumer, producer) = (stats.client("consumer"), stats.client("producer"));
    consumer.take_report(read(CONSUMER));
    let text = std::str::from_utf8(CONSUMER).expect("JSON is text");
    let held = text.replace(
        "\"req_timeouts\": 2",
        "\"req_timeouts\": 2, \"throttle\": {\"min\": 100, \"max\": 400, \"sum\": 500, \"cnt\": 2}",
    );
    for _ in 0..2 {
        producer.take_report(read(held.as_bytes()));
    }
    let figures = stats.figures();
    let totals: Vec<_> = figures.throttling.totals().collect();
    assert_eq!(
        totals,
        [
            ("consumer", Duration::ZERO),
            ("producer", Duration::from_secs(1))
        ]
    );
}

#[test]
fn a_transaction_that_is_not_ended_withholds_what_is_behind_it_and_is_told_after_a_while() {
    let (tenures, stats) = stats();
    let consumer = stats.client("consumer");
    tenures.begin([partition(0), partition(1)]);
    let start = Instant::now();
    let report = |second: u64, fetch: &str, stable: i64, all: i64| {
        let report = format!(
            r#"{{"topics": {{"answers": {{"topic": "answers", "partitions": {{
                "0": {{"partition": 0, "fetch_state": "{fetch}", "ls_offset": {stable}, "hi_offset": {all}}},
                "1": {{"partition": 1, "fetch_state": "active", "ls_offset": 9, "hi_offset": 9}}
            }}}}}}, "cgrp": {{"state": "up", "join_state": "steady", "rebalance_cnt": 1}}}}"#
        );
        let now = start + Duration::from_secs(second);
        stats
            .figures()
            .take(consumer.id, read(report.as_bytes()), now);
        let told = stats.withheld().into_iter();
        let told = told.map(|found| (found.partition.number, found.offset, found.lasted.as_secs()));
        told.collect::<Vec<_>>()
    };
    assert_eq!(report(0, "active", 5, 9), []);
    assert_eq!(report(70, "active", 5, 20), []);
    assert_eq!(report(71, "active", 5, 30), [(0, 5, 71)]);
    assert_eq!(report(80, "active", 30, 30), []);
    // Another one, while reports stand still for half of the time.
    assert_eq!(report(90, "active", 31, 40), []);
    assert_eq!(report(120, "stopped", 31, 40), []);
    assert_eq!(report(150, "active", 31, 40), []);
    stats.set_paused(true);
    assert_eq!(report(210, "active", 31, 40), []);
    stats.set_paused(false);
    assert_eq!(report(220, "active", 31, 40), []);
    assert_eq!(report(291, "active", 31, 40), [(0, 31, 71)]);
    // Of somebody else now.
    tenures.end(&tenures.of(&[partition(0)]));
    assert_eq!(report(300, "active", 31, 40), []);
}
