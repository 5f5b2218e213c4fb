//! What whoever installs the chart is told.

use serde_json::json;

use crate::tools::notes;

#[test]
fn the_notes_say_what_readers_get_with_each_delivery() {
    let delivered = |delivery: &str| {
        notes(&json!({"config": {
            "kafka": {"delivery": delivery}, "topics": {"corrections": "fixed", "pairs": "two"},
        }}))
    };
    let exactly = "corrected exactly once for those who read fixed and\n\
                   two with isolation.level=read_committed";
    let at_least = "a correction may come twice, with the same correction_id";
    for (delivery, told, untold) in [
        ("exactly_once", exactly, at_least),
        ("at_least_once", at_least, exactly),
    ] {
        let said = delivered(delivery);
        assert!(said.contains(told), "{delivery}: {said}");
        assert!(!said.contains(untold), "{delivery}: {said}");
        // They hold of both.
        assert!(
            said.contains("replicas beyond the partitions of the answer topics stay idle"),
            "{delivery}: {said}"
        );
    }
    assert_eq!(
        notes(&json!({"config": {"kafka": {"delivery": null}}})),
        notes(&json!({"config": {"kafka": {"delivery": "exactly_once"}}})),
    );
}

#[test]
fn the_notes_name_the_topics_the_group_and_how_many_workers_there_may_be() {
    let default = notes(&json!({}));
    for told in [
        "prod reads llm.answers as group connect-ml.prod-aligner-connector.",
        "config.name is not set: it is ml.prod-aligner-connector, after namespace and release.",
        "stay idle (replicaCount is 1).",
    ] {
        assert!(default.contains(told), "{told}: {default}");
    }
    let given = notes(&json!({
        "config": {"name": "moderation", "topics": {"answers": ["a", "b"]}},
        "keda": {"enabled": true},
    }));
    for told in [
        "prod reads a, b as group connect-moderation.",
        "stay idle (keda.maxReplicas is 4).",
    ] {
        assert!(given.contains(told), "{told}: {given}");
    }
    assert!(!given.contains("config.name is not set"), "{given}");
    // How many there are is another's to say.
    let autoscaled = notes(&json!({"replicaCount": null}));
    assert!(autoscaled.contains("stay idle.\n"), "{autoscaled}");
}
