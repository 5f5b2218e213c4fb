//! What null in the values takes away, and where it is refused: Helm removes such values before it looks at the schema.

use serde_json::{Value, json};

use crate::tools::{container, item, pod, rendered, template, values};

/// What may not be null, by the section that it stands in; the first are sections themselves.
const NEEDED: [(&str, &[&str]); 10] = [
    (
        "",
        &[
            "config",
            "grafanaDashboard",
            "image",
            "keda",
            "model",
            "modelCache",
            "networkPolicy",
            "podDisruptionBudget",
            "probes",
            "prometheusRule",
            "service",
            "serviceAccount",
            "serviceMonitor",
            "terminationGracePeriodSeconds",
        ],
    ),
    ("config", &["kafka", "topics"]),
    ("image", &["repository"]),
    (
        "keda",
        &[
            "cooldownPeriod",
            "lagThreshold",
            "maxReplicas",
            "minReplicas",
        ],
    ),
    ("model", &["mountPath"]),
    ("modelCache", &["mountPath", "persistence"]),
    ("modelCache/persistence", &["size"]),
    ("podDisruptionBudget", &["maxUnavailable"]),
    (
        "prometheusRule",
        &["downFor", "oldestRecordSeconds", "startingFor"],
    ),
    ("service", &["port"]),
];

#[test]
fn null_is_refused_by_name_where_something_is_needed() {
    for (section, keys) in NEEDED {
        let nulls: Value = keys.iter().map(|key| (*key, Value::Null)).collect();
        let given = section
            .rsplit('/')
            .filter(|part| !part.is_empty())
            .fold(nulls, |inner, part| json!({ part: inner }));
        let error = template(values(&given).path()).expect_err(&given.to_string());
        for key in keys {
            let quoted = format!("'{key}'");
            assert!(
                error
                    .lines()
                    .any(|line| line.contains(section) && line.contains(&quoted)),
                "{given} was refused without naming {key}: {error}"
            );
        }
    }
}

#[test]
fn a_probe_that_is_null_is_left_out_and_the_others_stay() {
    let probes = ["startup", "liveness", "readiness"];
    for absent in probes {
        let objects = rendered(&json!({"probes": {absent: null}}));
        for probe in probes {
            assert_eq!(
                container(&objects).get(format!("{probe}Probe")).is_some(),
                probe != absent,
                "{probe} without {absent}"
            );
        }
    }
}

#[test]
fn what_kubernetes_and_its_operators_have_defaults_for_is_left_out_where_it_is_null() {
    let objects = rendered(&json!({
        "image": {"pullPolicy": null},
        "podManagementPolicy": null,
        "updateStrategy": null,
        "service": {"type": null},
        "serviceMonitor": {"enabled": true, "interval": null},
        "modelCache": {"enabled": true, "sizeLimit": null},
    }));
    let volume = item(&pod(&objects)["volumes"], "model-cache").expect("the cache is a volume");
    assert_eq!(volume["emptyDir"], json!({}));
    let all = Value::Array(objects).to_string();
    assert!(!all.contains(":null"), "{all}");
}

#[test]
fn sections_of_the_connectors_configuration_may_be_empty() {
    let objects = rendered(&json!({"config": {
        "formats": null, "input": null, "aligner": null, "pipeline": null, "errors": null,
        "service": null, "telemetry": null,
    }}));
    assert_eq!(pod(&objects)["terminationGracePeriodSeconds"], 60);
}
