//! The dashboard for Grafana.

use std::{collections::BTreeSet, fs};

use serde_json::{Value, json};

use crate::{
    metrics,
    tools::{chart, rendered},
};

/// Whom every query asks about.
const CHOSEN: &str = r#"{namespace=~"$namespace", service=~"$service", pod=~"$pod""#;

fn text() -> String {
    fs::read_to_string(chart().join("dashboards/aligner-connector.json"))
        .expect("the chart has a dashboard")
}

fn dashboard() -> Value {
    serde_json::from_str(&text()).expect("it is JSON")
}

fn panels(dashboard: &Value) -> &[Value] {
    dashboard["panels"].as_array().expect("a list")
}

#[test]
fn the_dashboard_is_installed_as_it_is_and_only_where_asked_for() {
    let found = |given: Value| {
        rendered(&given)
            .into_iter()
            .find(|object| object["metadata"]["name"] == "prod-aligner-connector-dashboard")
    };
    assert_eq!(found(json!({})), None);
    let map = found(json!({"grafanaDashboard": {"enabled": true}})).expect("it was asked for");
    assert_eq!(map["kind"], "ConfigMap");
    assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
    let data = map["data"].as_object().expect("files");
    let files: Vec<_> = data.iter().collect();
    let [(name, content)] = files[..] else {
        panic!("one file: {files:?}");
    };
    assert_eq!(name, "prod-aligner-connector.json");
    assert_eq!(content.as_str().map(str::trim), Some(text().trim()));
}

#[test]
fn the_dashboard_shows_metrics_that_the_connector_has() {
    let text = text();
    assert!(text.contains("aligner_records_total{"));
    let unknown = metrics::unknown(&text);
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn every_panel_asks_the_chosen_source_about_the_chosen_workers() {
    let dashboard = dashboard();
    let variables: Vec<_> = dashboard["templating"]["list"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|variable| &variable["name"])
        .collect();
    assert_eq!(variables, ["datasource", "namespace", "service", "pod"]);
    let mut ids = BTreeSet::new();
    for panel in panels(&dashboard) {
        let title = &panel["title"];
        assert!(
            ids.insert(panel["id"].as_u64()),
            "the id of {title} is twice"
        );
        if panel["type"] == "row" {
            continue;
        }
        let targets = panel["targets"].as_array().expect("a list");
        assert!(!targets.is_empty(), "{title}");
        for target in targets {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            let expression = target["expr"].as_str().expect("text");
            let selectors = expression.matches('{').count();
            assert!(selectors > 0, "{title}: {expression}");
            assert_eq!(
                expression.matches(CHOSEN).count(),
                selectors,
                "{title}: {expression}"
            );
        }
    }
}

/// `up` and `target_info` are every program's in the cluster. Grafana makes All the values that were found, unless the
/// variable has a pattern of its own for it.
#[test]
fn all_connectors_are_those_that_were_found_and_all_pods_are_also_those_that_still_start() {
    let dashboard = dashboard();
    let pattern_of_all = |name: &str| {
        dashboard["templating"]["list"]
            .as_array()
            .expect("a list")
            .iter()
            .find(|variable| variable["name"] == name)
            .map(|variable| &variable["allValue"])
    };
    assert_eq!(pattern_of_all("namespace"), Some(&Value::Null));
    assert_eq!(pattern_of_all("service"), Some(&Value::Null));
    // Pods are found by a metric that they have once they have a model.
    assert_eq!(pattern_of_all("pod"), Some(&json!(".*")));
}

#[test]
fn the_dashboard_has_a_row_for_everything_that_is_watched() {
    let dashboard = dashboard();
    let rows: Vec<_> = panels(&dashboard)
        .iter()
        .filter(|panel| panel["type"] == "row")
        .map(|panel| &panel["title"])
        .collect();
    assert_eq!(
        rows,
        [
            "Throughput",
            "Lag and oldest age",
            "Inference",
            "Kafka",
            "Process"
        ]
    );
}
