//! Five times more than the Aligner can take: the source waits, memory stays within the limits
//! that the configuration names, the membership is kept, and little is fetched twice.

use std::{
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use aligner_tests::{
    client::Outgoing,
    completions::Completions,
    connector::{Config, Connector},
    events,
    group::Group,
    kafka::Kafka,
    ledger::{Expected, Input},
    proxy::{ApiKey, Proxy},
    story::{Story, meanwhile},
    wait,
};

const LIMIT: Duration = Duration::from_secs(120);
/// What the Aligner answers in a second while it is slow.
const ANSWERS_PER_SECOND: u32 = 40;
const OVERLOAD: usize = 5;
/// Large enough that a minute of overload is far more than may be in flight.
const ANSWER_BYTES: usize = 16_000;

const MEBIBYTE: u64 = 1 << 20;
/// `pipeline.max_bytes_in_flight`: undelivered records with their outputs.
const IN_FLIGHT: u64 = 8 * MEBIBYTE;
/// `kafka.fetch_buffer_bytes`: records that were fetched and not yet taken.
const FETCH_BUFFER: u64 = 8 * MEBIBYTE;
/// librdkafka's own queues (2 MiB read ahead), the answer to a fetch that is under way, requests of the
/// Aligner with their texts, and what the allocator keeps back: all in all a process came to hold 45 to
/// 75 MiB more than idle, in six runs on a machine more or less busy, of which 24 are the two above. What
/// piles up meanwhile is 150 MB.
const CLIENT: u64 = 64 * MEBIBYTE;

fn long_answer(number: usize) -> (Outgoing, Input) {
    let id = format!("overload-{number}");
    let answer = "because ".repeat(ANSWER_BYTES / 8);
    let (outgoing, mut input) = events::event(Some(&id), "why?", &answer);
    input.expected = Expected::AnyCorrection;
    (outgoing, input)
}

/// Bytes fetched, of the input's. Every suspension throws away one queue of the client's.
const MOST_FETCHED: f64 = 1.2;

fn overloaded_for(duration: Duration) {
    let kafka = Kafka::start();
    let server = Completions::start();
    server.answer_per_second(ANSWERS_PER_SECOND);
    let story = Story::new(&kafka, "overload", 3);
    let proxy = Proxy::before(&kafka.addresses());
    let config = story
        .config
        .clone()
        .through(&proxy)
        .set(&["pipeline", "max_bytes_in_flight"], IN_FLIGHT)
        .set(&["kafka", "fetch_buffer_bytes"], FETCH_BUFFER)
        .corrected_by(&server);
    let mut connector = Connector::ready(&story.name, &config);
    let group = Group::of(&kafka, &story.name);
    let member = group.wait_stable(1, LIMIT);
    let watch = group.watch();
    let idle = connector.resident_bytes().expect("it runs");

    let mut input_bytes = 0_u64;
    let mut highest = idle;
    let mut most_in_flight: f64 = 0.0;
    meanwhile(
        |enough| {
            let per_second = ANSWERS_PER_SECOND as usize * OVERLOAD;
            let mut number = 0;
            let started = Instant::now();
            while !enough.load(Ordering::Relaxed) {
                let due = per_second * (started.elapsed().as_millis() as usize) / 1_000;
                let records: Vec<_> = (number..due).map(long_answer).collect();
                input_bytes += records
                    .iter()
                    .map(|(outgoing, _)| outgoing.value.as_ref().map_or(0, Vec::len) as u64)
                    .sum::<u64>();
                number = due;
                story.oracle.send(records);
                thread::sleep(Duration::from_millis(100));
            }
        },
        || {
            let started = Instant::now();
            while started.elapsed() < duration {
                assert!(connector.exited().is_none(), "the connector ended");
                highest = highest.max(connector.resident_bytes().unwrap_or(0));
                let in_flight = connector.metric("aligner_bytes_in_flight_bytes", &[]);
                most_in_flight = most_in_flight.max(in_flight.unwrap_or(0.0));
                thread::sleep(Duration::from_millis(200));
            }
        },
    );
    let backlog = story.oracle.missing();
    let paused = connector.metric("aligner_source_paused_time_seconds_total", &[]);
    server.hurry();
    // Everything that piled up, as fast as the rest allows.
    let summary = story.oracle.settled(LIMIT + 2 * duration);
    let fetched = proxy.answered_bytes(ApiKey::Fetch);
    let ratio = fetched as f64 / input_bytes as f64;
    let mib = |bytes: u64| bytes / MEBIBYTE;
    eprintln!(
        "overload: {} events of {ANSWER_BYTES} bytes in {duration:?}, {backlog} of them waiting at \
         the end; memory {} MiB idle, {} MiB at most; {:.1} MiB in flight at most; paused {:.0} s; \
         fetched {ratio:.2} times the input",
        summary.inputs,
        mib(idle),
        mib(highest),
        most_in_flight / MEBIBYTE as f64,
        paused.unwrap_or(0.0),
    );
    assert!(
        backlog > summary.inputs / 2,
        "the Aligner was fast enough: nothing was tested"
    );
    assert!(paused.is_some_and(|seconds| seconds > 1.0), "{paused:?}");
    // A batch may be taken in as a whole, and a result is larger than its record.
    assert!(
        most_in_flight <= 1.25 * IN_FLIGHT as f64,
        "{most_in_flight} bytes in flight"
    );
    let bound = idle + 2 * IN_FLIGHT + FETCH_BUFFER + CLIENT;
    assert!(
        highest <= bound,
        "{} MiB, more than {} MiB",
        mib(highest),
        mib(bound)
    );
    assert_eq!(watch.end(), [member], "the group changed");
    assert!(ratio <= MOST_FETCHED, "fetched {ratio:.2} times the input");
    assert!(connector.sigterm().success());
    connector.assert_log_is_clean();
}

#[test]
fn a_minute_of_five_times_too_much_is_held_within_the_limits_and_then_worked_off() {
    overloaded_for(Duration::from_secs(60));
}

#[test]
#[ignore = "ten minutes and what they leave behind: make overload"]
fn ten_minutes_of_five_times_too_much_are_held_within_the_limits_and_then_worked_off() {
    overloaded_for(Duration::from_secs(600));
}

/// With room for few records, so that fetching is suspended as soon as the server is slow.
fn soon_suspended(story: &Story, server: &Completions) -> Config {
    story
        .config
        .clone()
        .set(&["kafka", "fetch_buffer_bytes"], MEBIBYTE)
        .set(&["pipeline", "max_bytes_in_flight"], MEBIBYTE)
        .corrected_by(server)
}

#[test]
fn lag_grows_with_the_backlog_while_fetching_is_suspended() {
    let server = Completions::start();
    let story = Story::new(Kafka::shared(), "unfetched", 1);
    let config = soon_suspended(&story, &server).set(&["aligner", "remote", "timeout_ms"], 500_000);
    let mut connector = Connector::ready(&story.name, &config);
    // No record is finished, so fetching cannot go on and find the end by itself.
    server.hold();
    story.oracle.send((0..400).map(long_answer));
    wait::until("fetching to be suspended for good", LIMIT, || {
        let paused = connector.metric("aligner_kafka_paused_time_seconds_total", &[]);
        paused.is_some_and(|seconds| seconds > 2.0)
    });
    story.oracle.send((400..1_000).map(long_answer));
    wait::until("the lag to be that of all of them", LIMIT, || {
        let lag = connector.metric("aligner_kafka_lag", &[]);
        lag.is_some_and(|lag| lag > 900.0)
    });
    server.release();
    assert_eq!(story.oracle.settled(LIMIT).inputs, 1_000);
    wait::until("the lag to be gone", LIMIT, || {
        connector.metric("aligner_kafka_lag", &[]) == Some(0.0)
    });
    assert!(connector.sigterm().success());
}

#[test]
fn a_partition_that_leaves_while_fetching_is_suspended_is_read_when_it_is_back() {
    // librdkafka keeps a suspension with the partition, even through the hands of another member.
    let kafka = Kafka::shared();
    let server = Completions::start();
    server.answer_per_second(ANSWERS_PER_SECOND);
    let story = Story::new(kafka, "back-again", 2);
    let config = soon_suspended(&story, &server);
    let mut staying = Connector::ready("staying", &config);
    let group = Group::of(kafka, &story.name);
    group.wait_stable(1, LIMIT);
    story.oracle.send((0..400).map(long_answer));
    wait::until("fetching to be suspended", LIMIT, || {
        let paused = staying.metric("aligner_kafka_paused_time_seconds_total", &[]);
        paused.is_some_and(|seconds| seconds > 0.0)
    });

    let mut guest = Connector::ready("guest", &config);
    group.wait_stable(2, LIMIT);
    server.hurry();
    story.oracle.wait_done(400, LIMIT);
    assert!(guest.sigterm().success());
    group.wait_stable(1, LIMIT);
    story.oracle.send((400..600).map(long_answer));
    assert_eq!(story.oracle.settled(LIMIT).inputs, 600);
    assert!(staying.sigterm().success());
}
