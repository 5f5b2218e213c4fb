//! What the machine does: the broker's disk is full, the clock jumps.

use std::{fs, path::PathBuf, process::Command, thread, time::Duration};

use aligner_tests::{
    completions::Completions,
    connector::Connector,
    events::{self, Events},
    kafka::Kafka,
    ledger::Expected,
    scratch::{Scratch, workspace},
    story::Story,
    wait,
};

const LIMIT: Duration = Duration::from_secs(90);

#[test]
fn a_full_disk_under_the_broker_is_waited_for_and_nothing_is_lost_or_doubled() {
    let kafka = Kafka::start();
    let server = Completions::start();
    server.answer_per_second(100);
    let story = Story::new(&kafka, "disk-full", 3).with(|config| config.corrected_by(&server));
    let mut connector = Connector::ready(&story.name, &story.config);
    story.oracle.send((0..1_500).map(|number| {
        let (outgoing, mut input) =
            events::event(Some(&format!("disk-{number}")), "why?", "because it is so");
        input.expected = Expected::AnyCorrection;
        (outgoing, input)
    }));
    story.oracle.wait_done(200, LIMIT);
    // Kafka answers a write that fails by giving up the disk, and a broker without one ends.
    kafka.fill_disk(1);
    kafka.wait_dead(1, LIMIT);
    let written = story.oracle.done();
    eprintln!("disk-full: the broker has ended; {written} events were done");
    wait::until("the alarm", LIMIT, || {
        connector
            .get("/readyz")
            .is_some_and(|answer| answer.status == 503 && answer.body.contains("kafka_unreachable"))
    });
    let live = connector.get("/livez").expect("the service listens");
    assert_eq!(live.status, 200, "a restart would not help: {}", live.body);
    server.hurry();
    kafka.restart(1);
    assert_eq!(story.oracle.settled(LIMIT).inputs, 1_500);
    assert!(connector.sigterm().success());
    connector.assert_log_is_clean();
}

/// A clock for one process, that can be moved.
struct Clock {
    scratch: Scratch,
    library: PathBuf,
}

impl Clock {
    fn new() -> Self {
        let scratch = Scratch::new("clock");
        let library = scratch.path().join("clock.so");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&library)
            .arg(workspace().join("tests/faults/clock.c"))
            .arg("-ldl")
            .output()
            .expect("a C compiler is needed to build the connector, too");
        assert!(
            compiled.status.success(),
            "clock.c: {}",
            String::from_utf8_lossy(&compiled.stderr)
        );
        let clock = Self { scratch, library };
        clock.set(0);
        clock
    }

    /// Sets it to the right time plus `seconds`.
    fn set(&self, seconds: i64) {
        // In place: the process has it mapped.
        let file = fs::File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.offset());
        let file = file.expect("the test's own folder is writable");
        std::os::unix::fs::FileExt::write_all_at(&file, &seconds.to_ne_bytes(), 0)
            .expect("eight bytes can be written");
    }

    fn offset(&self) -> PathBuf {
        self.scratch.path().join("offset")
    }
}

#[test]
fn a_wall_clock_that_jumps_ahead_and_back_costs_no_record() {
    let clock = Clock::new();
    let kafka = Kafka::shared();
    let story = Story::new(kafka, "clock", 3);
    let library = clock.library.display().to_string();
    let offset = clock.offset().display().to_string();
    let mut connector = Connector::start_with(
        "clock",
        &story.config,
        &[("LD_PRELOAD", &library), ("CLOCK_OFFSET_FILE", &offset)],
    );
    connector.wait_ready();
    let mut events = Events::new(events::seed("clock"), "clock");
    let mut move_to = |seconds: i64, hours: &str| {
        clock.set(seconds);
        for _ in 0..20 {
            story.send(&mut events, 20);
            thread::sleep(Duration::from_millis(50));
        }
        eprintln!("clock: {hours}: {} done", story.oracle.done());
    };
    for (seconds, hours) in [
        (0, "right"),
        (3_000, "fifty minutes ahead"),
        (0, "right again"),
        (-3_000, "fifty minutes behind"),
        (0, "right again"),
    ] {
        move_to(seconds, hours);
        story.oracle.wait_all_done(LIMIT);
    }
    // Brokers take no record from the future; there is nothing to do but to say so and to wait.
    move_to(86_400, "a day ahead");
    wait::until("the log to name the clock", LIMIT, || {
        connector.log().contains("clock wrong")
    });
    move_to(0, "right at last");
    assert_eq!(story.oracle.settled(LIMIT).inputs, 7 * 400);
    assert!(connector.sigterm().success());
    connector.assert_log_is_clean();
}
