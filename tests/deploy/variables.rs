//! Variables of the connector, which win over the file that the chart renders.

use serde_json::{Value, json};

use crate::tools::{container, item, rendered, template, values};

/// Variables that would overrule the chart, and the value to set instead.
const REFUSED: [(&str, &str); 4] = [
    ("ALIGNER__KAFKA__INSTANCE_ID", "instanceId"),
    ("ALIGNER__SERVICE__LISTEN", "service.port"),
    (
        "ALIGNER__PIPELINE__DRAIN_TIMEOUT_MS",
        "config.pipeline.drain_timeout_ms",
    ),
    (
        "ALIGNER__PIPELINE__CLOSE_TIMEOUT_MS",
        "config.pipeline.close_timeout_ms",
    ),
];

/// The same where KEDA has to know the group.
const REFUSED_WITH_KEDA: [(&str, &str); 5] = [
    ("ALIGNER__NAME", "config.name"),
    ("ALIGNER__KAFKA__GROUP_ID", "config.kafka.group_id"),
    (
        "ALIGNER__KAFKA__BOOTSTRAP_SERVERS",
        "config.kafka.bootstrap_servers",
    ),
    ("ALIGNER__KAFKA__START_FROM", "config.kafka.start_from"),
    ("ALIGNER__TOPICS__ANSWERS", "config.topics.answers"),
];

/// Values that set a variable, by each of the lists that may.
fn setting(variable: &str, keda: bool) -> [(&'static str, Value); 2] {
    let enabled = json!({"enabled": keda});
    let secret = json!([{"name": variable, "secretName": "a", "key": "b"}]);
    let extra = json!([{"name": "TZ", "value": "UTC"}, {"name": variable, "value": "1"}]);
    [
        ("secretEnv", json!({"secretEnv": secret, "keda": enabled})),
        ("extraEnv", json!({"extraEnv": extra, "keda": enabled})),
    ]
}

fn assert_refused(given: &Value, list: &str, variable: &str, instead: &str) {
    let error = template(values(given).path()).expect_err(&given.to_string());
    let said = format!("{list} sets {variable}: ");
    assert!(error.contains(&said), "{given}: {error}");
    assert!(error.contains(instead), "{given}: {error}");
}

#[test]
fn variables_that_would_overrule_the_chart_are_refused_with_the_value_to_set_instead() {
    let always = [false, true].map(|keda| REFUSED.map(|row| (row, keda)));
    let with_keda = REFUSED_WITH_KEDA.map(|row| (row, true));
    for ((variable, instead), keda) in always.into_iter().flatten().chain(with_keda) {
        for (list, given) in setting(variable, keda) {
            assert_refused(&given, list, variable, instead);
        }
    }
}

#[test]
fn a_variable_is_refused_however_the_connector_lets_its_name_be_spelt() {
    for variable in [
        "ALIGNER__service__listen",
        "ALIGNER__Service__Listen",
        "ALIGNER__SERVICE.LISTEN",
    ] {
        let given = json!({"extraEnv": [{"name": variable, "value": "127.0.0.1:1"}]});
        assert_refused(&given, "extraEnv", variable, "service.port");
    }
}

#[test]
fn name_and_group_may_come_from_variables_where_only_the_connector_has_to_know_them() {
    for (variable, _) in REFUSED_WITH_KEDA {
        for (list, given) in setting(variable, false) {
            let objects = rendered(&given);
            let set = item(&container(&objects)["env"], variable);
            assert!(set.is_some(), "{variable} in {list}");
        }
    }
}
