//! The chart's alerts.

use std::{collections::BTreeSet, fs};

use aligner_tidy::root;
use serde_json::{Value, json};

use crate::{
    metrics,
    tools::{only, rendered},
};

const OURS: &str = r#"{namespace="ml", service="prod-aligner-connector"}"#;

/// The rules of the chart's alerts, with these values; with the ServiceMonitor, unless they say.
fn rules(mut given: Value) -> Vec<Value> {
    given["prometheusRule"]["enabled"] = json!(true);
    if given["serviceMonitor"].is_null() {
        given["serviceMonitor"] = json!({"enabled": true});
    }
    let objects = rendered(&given);
    let groups = &only(&objects, "PrometheusRule")["spec"]["groups"];
    groups[0]["rules"].as_array().expect("a list").clone()
}

/// All of them.
fn all_rules() -> Vec<Value> {
    rules(json!({"prometheusRule": {"lagThreshold": 5_000_000}}))
}

fn rule<'a>(rules: &'a [Value], alert: &str) -> Option<&'a Value> {
    rules.iter().find(|rule| rule["alert"] == alert)
}

fn expression<'a>(rules: &'a [Value], alert: &str) -> &'a str {
    let rule = rule(rules, alert).unwrap_or_else(|| panic!("there is no {alert}"));
    rule["expr"].as_str().expect("text")
}

#[test]
fn alerts_watch_metrics_that_the_connector_has() {
    for rule in all_rules() {
        let expression = rule["expr"].as_str().expect("text");
        assert!(expression.contains(r#"{namespace="ml", service="prod-aligner-connector""#));
        let unknown = metrics::unknown(expression);
        assert!(unknown.is_empty(), "{unknown:?} in {expression}");
    }
}

#[test]
fn every_alert_is_documented() {
    let operations = fs::read_to_string(root().join("docs/operations.md")).expect("it exists");
    let documented: BTreeSet<_> = operations
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| word.starts_with("AlignerConnector"))
        .map(str::to_owned)
        .collect();
    let there: BTreeSet<_> = all_rules()
        .iter()
        .filter_map(|rule| rule["alert"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(documented, there);
}

#[test]
fn no_broker_no_group_and_no_model_are_alerts_where_the_worker_answers() {
    let rules = rules(json!({}));
    assert_eq!(
        expression(&rules, "AlignerConnectorDisconnected"),
        format!("aligner_kafka_brokers_up{OURS} == 0")
    );
    assert_eq!(
        expression(&rules, "AlignerConnectorOutOfGroup"),
        format!("aligner_kafka_in_group{OURS} == 0")
    );
    assert_eq!(
        expression(&rules, "AlignerConnectorStarting"),
        format!("up{OURS} == 1 unless on (namespace, pod) aligner_kafka_brokers_up{OURS}")
    );
}

/// Kubernetes waits for at most five minutes between two starts, which is no longer than `downFor` is.
#[test]
fn a_worker_that_is_mostly_away_is_an_alert_though_it_comes_back_in_between() {
    let rules = rules(json!({}));
    assert_eq!(
        expression(&rules, "AlignerConnectorRestarts"),
        format!("avg_over_time(up{OURS}[15m]) < 0.5 and changes(up{OURS}[15m]) > 2")
    );
    let restarts = rule(&rules, "AlignerConnectorRestarts").expect("it is there");
    assert_eq!(restarts["for"], Value::Null, "the window is time enough");
    assert_eq!(restarts["labels"]["severity"], "critical");
}

#[test]
fn an_old_record_is_an_alert_where_no_other_is_delivered_meanwhile_or_after_six_times_as_long() {
    // A window shorter than some scrapes would hold no rate, and make every backlog an alert.
    for (oldest, window) in [(600, 600), (1_800, 1_800), (30, 600)] {
        let rules = rules(json!({"prometheusRule": {"oldestRecordSeconds": oldest}}));
        assert_eq!(
            expression(&rules, "AlignerConnectorStuck"),
            format!(
                "(aligner_record_oldest_age_seconds{OURS} > {oldest} unless on (namespace, pod) \
                 sum by (namespace, pod) (rate(aligner_records_total{OURS}[{window}s])) > 0) \
                 or aligner_record_oldest_age_seconds{OURS} > {}",
                6 * oldest
            )
        );
    }
}

#[test]
fn what_no_probe_sees_is_an_alert() {
    let rules = rules(json!({}));
    let hidden = rule(&rules, "AlignerConnectorOutputsHidden").expect("it is there");
    assert_eq!(
        hidden["expr"],
        format!("aligner_kafka_hanging_partitions{OURS} > 0")
    );
    assert_eq!(hidden["for"], "2m");
    assert_eq!(
        expression(&rules, "AlignerConnectorAnswersWithheld"),
        format!("aligner_kafka_withheld_partitions{OURS} > 0")
    );
    // The series of both totals begin with the first thing that they count.
    let own = OURS.replace('}', r#", whose="own"}"#);
    for (alert, total, limit) in [
        (
            "AlignerConnectorLogRewound",
            format!("aligner_kafka_rewinds_total{OURS}"),
            0,
        ),
        (
            "AlignerConnectorFenced",
            format!("aligner_kafka_fenced_total{own}"),
            2,
        ),
    ] {
        assert_eq!(
            expression(&rules, alert),
            format!(
                "increase({total}[1h]) > {limit} or ({total} unless {total} offset 1h) > {limit}"
            )
        );
    }
    // The same by topic, since retention takes from all partitions at once.
    let total = format!("aligner_kafka_skipped_offsets_total{OURS}");
    assert_eq!(
        expression(&rules, "AlignerConnectorRecordsMissed"),
        format!(
            "sum by (namespace, service, topic) (increase({total}[1h]) > 0 or ({total} unless {total} \
             offset 1h) > 0)"
        )
    );
    let severity = |alert: &str| rule(&rules, alert).map(|rule| &rule["labels"]["severity"]);
    assert_eq!(
        severity("AlignerConnectorRecordsMissed"),
        Some(&json!("critical"))
    );
    assert_eq!(
        severity("AlignerConnectorOutputsHidden"),
        Some(&json!("critical"))
    );
    assert_eq!(
        severity("AlignerConnectorLogRewound"),
        Some(&json!("critical"))
    );
    assert_eq!(severity("AlignerConnectorFenced"), Some(&json!("warning")));
}

#[test]
fn lag_is_an_alert_only_where_the_values_say_how_much_is_too_much() {
    for unset in [json!(null), json!(0)] {
        let rules = rules(json!({"prometheusRule": {"lagThreshold": unset}}));
        assert_eq!(rule(&rules, "AlignerConnectorLagGrows"), None, "{unset}");
    }
    let by = "by (namespace, service, topic, partition)";
    assert_eq!(
        expression(&all_rules(), "AlignerConnectorLagGrows"),
        format!(
            "min {by} (min_over_time(aligner_kafka_lag{OURS}[30m])) > 5000000 \
             and max {by} (aligner_kafka_lag{OURS} offset 30m) > 5000000"
        )
    );
}

#[test]
fn workers_without_a_series_are_missed_unless_none_may_be_wanted() {
    let missing = |given: Value| {
        let rules = rules(given);
        rule(&rules, "AlignerConnectorMissing")?;
        Some(expression(&rules, "AlignerConnectorMissing").to_owned())
    };
    let fewer_than = |workers: u32| {
        format!("count by (namespace, service) (up{OURS}) < {workers} or absent(up{OURS})")
    };
    assert_eq!(missing(json!({"replicaCount": 3})), Some(fewer_than(3)));
    assert_eq!(missing(json!({"replicaCount": 0})), None);
    assert_eq!(
        missing(json!({"replicaCount": null})),
        None,
        "scaled by others"
    );
    let scaled = |least: u32| json!({"keda": {"enabled": true, "minReplicas": least}});
    assert_eq!(missing(scaled(2)), Some(fewer_than(2)));
    assert_eq!(missing(scaled(0)), None, "scaled to nothing");
}

#[test]
fn nobody_is_missed_where_the_chart_has_nobody_scrape_and_all_other_alerts_stay() {
    let alerts = |monitored: bool| -> Vec<Value> {
        rules(json!({"serviceMonitor": {"enabled": monitored}}))
            .iter()
            .map(|rule| rule["alert"].clone())
            .collect()
    };
    let with = alerts(true);
    let missing = json!("AlignerConnectorMissing");
    assert!(with.contains(&missing), "{with:?}");
    let others: Vec<_> = with.into_iter().filter(|alert| *alert != missing).collect();
    assert_eq!(alerts(false), others);
}
