//! The chart's schema of its values, and their documentation.

use std::{fs, os::unix::fs::symlink};

use serde_json::{Value, json};

use crate::tools::{chart, template_parent, values};

/// Where users put objects of Kubernetes or of the connector: what is unknown there is refused by
/// the API server and by the connector, not by the chart.
const PASSED_THROUGH: [&str; 33] = [
    "/affinity",
    "/config/aligner",
    "/config/aligner/remote",
    "/config/errors",
    "/config/formats",
    "/config/formats/schema_registry",
    "/config/input",
    "/config/kafka",
    "/config/kafka/properties",
    "/config/pipeline",
    "/config/service",
    "/config/telemetry",
    "/config/topics",
    "/dnsConfig",
    "/extraContainers/*",
    "/extraEnv/*",
    "/extraEnvFrom/*",
    "/extraObjects/*",
    "/extraVolumeMounts/*",
    "/extraVolumes/*",
    "/global",
    "/initContainers/*",
    "/networkPolicy/egress/*",
    "/networkPolicy/ingressFrom/*",
    "/podSecurityContext",
    "/prometheusRule/rules/*",
    "/resources",
    "/securityContext",
    "/serviceMonitor/metricRelabelings/*",
    "/serviceMonitor/relabelings/*",
    "/tolerations/*",
    "/topologySpreadConstraints/*",
    "/updateStrategy",
];

/// The schema as it is in the chart.
pub fn schema() -> Value {
    let text = fs::read(chart().join("values.schema.json")).expect("the schema exists");
    serde_json::from_slice(&text).expect("the schema is JSON")
}

fn collect_open(node: &Value, path: &str, open: &mut Vec<String>) {
    let object = node["type"] == "object"
        || node["type"]
            .as_array()
            .is_some_and(|types| types.contains(&"object".into()));
    let closed = node["additionalProperties"] == false;
    let map = node["additionalProperties"].is_object();
    if object && !closed && !map {
        open.push(path.to_owned());
    }
    for (name, child) in node["properties"].as_object().into_iter().flatten() {
        collect_open(child, &format!("{path}/{name}"), open);
    }
    if node["items"].is_object() {
        collect_open(&node["items"], &format!("{path}/*"), open);
    }
}

#[test]
fn unknown_keys_are_refused_everywhere_but_where_objects_pass_through() {
    let mut open = Vec::new();
    collect_open(&schema(), "", &mut open);
    open.sort();
    assert_eq!(open, PASSED_THROUGH);
}

#[test]
fn every_value_is_in_the_readme() {
    let readme = fs::read_to_string(chart().join("README.md")).expect("the chart has a README");
    let schema = schema();
    for (name, node) in schema["properties"].as_object().expect("an object") {
        // Helm's own.
        if ["enabled", "global"].contains(&name.as_str()) {
            continue;
        }
        let documented = |key: &str| readme.contains(&format!("`{key}"));
        assert!(
            documented(name),
            "README.md of the chart does not name {name}"
        );
        let nested = node["properties"].as_object().filter(|_| name != "config");
        // What may not be given at all is no value.
        let nested = nested
            .into_iter()
            .flatten()
            .filter(|(_, node)| node["not"].is_null());
        for key in nested.map(|(key, _)| key) {
            assert!(
                documented(&format!("{name}.{key}")) || documented(&format!(".{key}")),
                "README.md of the chart does not name {name}.{key}"
            );
        }
    }
}

#[test]
fn the_schema_knows_every_section_of_the_connectors_configuration() {
    let example = fs::read_to_string(aligner_tidy::root().join("config/connector.yaml"))
        .expect("config/connector.yaml documents every key");
    let schema = schema();
    let known = schema["properties"]["config"]["properties"]
        .as_object()
        .expect("an object");
    let sections: Vec<_> = example
        .lines()
        .filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase()))
        .filter_map(|line| line.split_once(':'))
        .map(|(section, _)| section)
        .collect();
    assert!(sections.len() > 5, "{sections:?}");
    for section in sections {
        assert!(
            known.contains_key(section),
            "values.schema.json does not know config.{section}"
        );
    }
}

/// A chart that installs ours where its values say so, as Helm has it: the key of the condition comes
/// among our values.
const PARENT: &str = "\
apiVersion: v2
name: parent
version: 1.0.0
dependencies:
  - {name: aligner-connector, version: '>=0.0.0', condition: aligner-connector.enabled}
";

#[test]
fn the_chart_can_be_a_dependency_with_a_condition() {
    let parent = tempfile::tempdir().expect("a temporary folder can be made");
    fs::write(parent.path().join("Chart.yaml"), PARENT).expect("written");
    let charts = parent.path().join("charts");
    fs::create_dir(&charts).expect("made");
    symlink(chart(), charts.join("aligner-connector")).expect("linked");
    let with = |enabled: Value| {
        let given = json!({"aligner-connector": {"enabled": enabled}});
        template_parent(parent.path(), values(&given).path())
    };
    let on = with(json!(true)).expect("the values render");
    assert!(on.contains("kind: StatefulSet"), "{on}");
    let off = with(json!(false)).expect("the values render");
    assert!(!off.contains("kind: "), "{off}");
    let error = with(json!("yes")).expect_err("a text is no switch");
    assert!(error.contains("/enabled"), "{error}");
}
