//! What the chart renders.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use aligner_tidy::root;
use serde_json::{Value, json};

use crate::tools::{
    container, item, lint, objects, only, pod, rendered, template, template_in, template_of, text,
    value_sets, values,
};

const HUB_MODEL: &str = "acme/aligner-2b@0123456789abcdef0123456789abcdef01234567";
/// What the process may take to end after drain and closing: HTTP, the runtime, and the last spans.
const END_MS: u64 = 1_000 + 1_000 + 5_000;
const CACHE_VARIABLES: [&str; 2] = ["HF_HOME", "HF_HUB_CACHE"];

fn config(objects: &[Value]) -> &str {
    objects
        .iter()
        .find_map(|object| object["data"]["connector.yaml"].as_str())
        .expect("a ConfigMap holds the configuration")
}

#[test]
fn every_value_set_passes_strict_lint() {
    for (name, file) in value_sets() {
        let output = lint(&file);
        assert!(
            output.status.success(),
            "{name}: {}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
    }
}

#[test]
fn every_value_set_renders_objects_that_kubernetes_knows() {
    let sets = value_sets();
    assert!(sets.len() >= 4, "{sets:?}");
    for (name, file) in sets {
        let objects = objects(&file);
        assert!(
            objects.len() >= 4,
            "{name} rendered {} objects",
            objects.len()
        );
    }
}

#[test]
fn unknown_and_impossible_values_are_refused_by_name() {
    let refusals = [
        (json!({"replicas": 3}), "replicas"),
        (json!({"image": {"repo": "x"}}), "repo"),
        (json!({"probes": {"startup": {"path": "/"}}}), "path"),
        (json!({"config": {"topic": {}}}), "topic"),
        (
            json!({"config": {"kafka": {"instance_id": "0"}}}),
            "instance_id",
        ),
        (
            json!({"config": {"kafka": {"delivery": "at_most_once"}}}),
            "delivery",
        ),
        (json!({"config": {"topics": {"answers": []}}}), "answers"),
        (
            json!({"config": {"service": {"listen": "127.0.0.1:1"}}}),
            "listen",
        ),
        (json!({"service": {"port": "http"}}), "port"),
        (json!({"image": {"digest": "latest"}}), "digest"),
        (
            json!({"secretFiles": [{"secretName": "kafka"}]}),
            "mountPath",
        ),
        (
            json!({"secretEnv": [{"name": "PASSWORD", "secretName": "a", "key": "b"}]}),
            "name",
        ),
        (json!({"terminationGracePeriodSeconds": 30}), "drain"),
        (
            json!({"config": {"pipeline": {"drain_timeout_ms": 90_000}}}),
            "drain",
        ),
        (
            json!({
                "config": {"pipeline": {"drain_timeout_ms": null}},
                "terminationGracePeriodSeconds": 57,
            }),
            "57000 ms",
        ),
        (
            json!({
                "config": {"pipeline": {"drain_timeout_ms": 0}},
                "terminationGracePeriodSeconds": 27,
            }),
            "27000 ms",
        ),
        (json!({"modelCache": {"sizeLimit": 20}}), "sizeLimit"),
        (json!({"modelCache": {"sizeLimit": "20 GB"}}), "sizeLimit"),
        (json!({"modelCache": {"mountPath": "cache"}}), "mountPath"),
        (json!({"modelCache": {"persistence": {"size": 20}}}), "size"),
        (
            json!({"modelCache": {"enabled": false, "persistence": {"enabled": true}}}),
            "modelCache.persistence.enabled",
        ),
        (
            json!({"config": {"aligner": {"model": HUB_MODEL}}, "modelCache": {"enabled": false}}),
            "HF_HOME",
        ),
        (
            json!({"probes": {"startup": {"successThreshold": 2}}}),
            "/probes/startup/successThreshold",
        ),
        (
            json!({"probes": {"liveness": {"successThreshold": 2}}}),
            "/probes/liveness/successThreshold",
        ),
        (
            json!({"podDisruptionBudget": {"maxUnavailable": -1}}),
            "maxUnavailable",
        ),
        (
            json!({"podDisruptionBudget": {"maxUnavailable": "1"}}),
            "maxUnavailable",
        ),
        (
            json!({"keda": {"enabled": true, "minReplicas": 5}}),
            "keda.minReplicas 5 is above keda.maxReplicas 4",
        ),
        (
            json!({"serviceMonitor": {"enabled": true, "interval": "9s", "scrapeTimeout": "10s"}}),
            "serviceMonitor.scrapeTimeout 10s is above serviceMonitor.interval 9s",
        ),
        (json!({"nameOverride": "two words"}), "nameOverride"),
        // Cut to what names have room for, it would end with a dot.
        (
            json!({"nameOverride": format!("{}.x", "a".repeat(51))}),
            "nameOverride",
        ),
        (json!({"fullnameOverride": "2024"}), "fullnameOverride"),
        (
            json!({"podLabels": {"app.kubernetes.io/name": "x"}}),
            "/podLabels/app.kubernetes.io~1name",
        ),
        (
            json!({"podLabels": {"app.kubernetes.io/instance": "x"}}),
            "/podLabels/app.kubernetes.io~1instance",
        ),
        (
            json!({"podAnnotations": {"checksum/config": "x"}}),
            "/podAnnotations/checksum~1config",
        ),
        (
            json!({"commonLabels": {"helm.sh/chart": "x"}}),
            "/commonLabels/helm.sh~1chart",
        ),
        (
            json!({"initContainers": [{"image": "x"}]}),
            "/initContainers/0",
        ),
        (json!({"networkPolicy": {"ingress": []}}), "ingress"),
        (
            json!({"prometheusRule": {"lagThreshold": -1}}),
            "lagThreshold",
        ),
    ];
    for (given, named) in refusals {
        let error = template(values(&given).path()).expect_err(&given.to_string());
        assert!(
            error.contains(named),
            "{given} was refused without naming {named}: {error}"
        );
    }
}

#[test]
fn texts_that_look_like_numbers_or_hold_a_comment_stay_as_they_are() {
    // The schemas of the API refuse a number in the place of each of these.
    let objects = rendered(&json!({
        "nameOverride": "2024",
        "model": {"existingClaim": "123", "mountPath": "/models #1"},
        "secretFiles": [{"secretName": "2024", "mountPath": "/run/secrets #1"}],
        "secretEnv": [{
            "name": "ALIGNER__KAFKA__PROPERTIES__SASL_PASSWORD", "secretName": "123", "key": "1",
        }],
        "runtimeClassName": "1",
        "priorityClassName": "on",
        "serviceAccount": {"name": "2024"},
        "keda": {"enabled": true, "authenticationRef": "2024"},
    }));
    let mounts = &container(&objects)["volumeMounts"];
    let path = |name: &str| item(mounts, name).map(|mount| mount["mountPath"].clone());
    assert_eq!(path("model"), Some(json!("/models #1")));
    assert_eq!(path("secret-0"), Some(json!("/run/secrets #1")));
    // Kinds of operators have no schema here.
    let triggers = &only(&objects, "ScaledObject")["spec"]["triggers"];
    assert_eq!(triggers[0]["authenticationRef"]["name"], "2024");

    let manifests = template_of("on", values(&json!({})).path()).expect("the values render");
    assert!(manifests.contains("app.kubernetes.io/instance: \"on\"\n"));
    assert!(!manifests.contains("app.kubernetes.io/instance: on\n"));
}

#[test]
fn the_port_of_the_service_is_not_the_pods_which_only_root_could_bind() {
    let objects = rendered(&json!({"service": {"port": 80}}));
    let ports: Vec<_> = objects
        .iter()
        .filter(|object| object["kind"] == "Service")
        .map(|service| &service["spec"]["ports"][0])
        .collect();
    assert_eq!(
        ports,
        [
            &json!({"name": "http", "port": 80, "targetPort": "http"}),
            // A headless service leads to the pods themselves.
            &json!({"name": "http", "port": 8083, "targetPort": "http"}),
        ]
    );
    assert_eq!(
        container(&objects)["ports"],
        json!([{"name": "http", "containerPort": 8083}])
    );
    assert!(config(&objects).contains("listen: 0.0.0.0:8083\n"));
}

#[test]
fn a_node_can_be_drained_while_no_worker_is_ready() {
    let objects = rendered(&json!({}));
    let budget = &only(&objects, "PodDisruptionBudget")["spec"];
    assert_eq!(budget["maxUnavailable"], 1);
    assert_eq!(budget["unhealthyPodEvictionPolicy"], "AlwaysAllow");
}

#[test]
fn a_drain_that_waits_for_none_takes_no_time_of_the_grace_period() {
    let objects = rendered(&json!({
        "config": {"pipeline": {"drain_timeout_ms": 0}},
        "terminationGracePeriodSeconds": 28,
    }));
    assert_eq!(pod(&objects)["terminationGracePeriodSeconds"], 28);
    assert!(config(&objects).contains("drain_timeout_ms: 0\n"));
}

#[test]
fn the_grace_period_is_held_to_the_timeouts_that_the_connector_has_by_default() {
    let example = fs::read_to_string(root().join("config/connector.yaml"))
        .expect("config/connector.yaml documents every default");
    let pipeline = example
        .lines()
        .skip_while(|line| !line.starts_with("pipeline:"));
    let default = |key: &str| -> u64 {
        let value = pipeline
            .clone()
            .find_map(|line| line.trim_start().strip_prefix(key)?.strip_prefix(": "));
        let digits = value.and_then(|value| value.split_whitespace().next());
        digits
            .and_then(|digits| digits.parse().ok())
            .unwrap_or_else(|| panic!("pipeline.{key} has a number"))
    };
    let (drain, close) = (default("drain_timeout_ms"), default("close_timeout_ms"));
    let refused_with = |pipeline: Value, sum: u64| {
        let given = json!({
            "config": {"pipeline": pipeline}, "terminationGracePeriodSeconds": 1,
        });
        let error = template(values(&given).path()).expect_err("a second is too short");
        let said = format!("{} ms that a drain may take", sum + END_MS);
        assert!(error.contains(&said), "{pipeline}: {error}");
    };
    refused_with(Value::Null, drain + 2 * close);
    refused_with(json!({"drain_timeout_ms": 5000}), 5000 + 2 * close);
    refused_with(json!({"close_timeout_ms": 5000}), drain + 2 * 5000);
}

#[test]
fn a_pods_ordinal_is_its_instance_id() {
    let objects = rendered(&json!({}));
    assert_eq!(
        container(&objects)["env"][0],
        json!({
            "name": "ALIGNER__KAFKA__INSTANCE_ID",
            "valueFrom": {
                "fieldRef": {"fieldPath": "metadata.labels['apps.kubernetes.io/pod-index']"}
            },
        })
    );
    let objects = rendered(&json!({"instanceId": "podName"}));
    let from = &container(&objects)["env"][0]["valueFrom"]["fieldRef"]["fieldPath"];
    assert_eq!(from, "metadata.name");
}

#[test]
fn pods_meet_the_restricted_standard_by_default() {
    let objects = rendered(&json!({}));
    let pod = pod(&objects);
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(
        pod["securityContext"]["seccompProfile"]["type"],
        "RuntimeDefault"
    );
    let security = &container(&objects)["securityContext"];
    assert_eq!(security["allowPrivilegeEscalation"], false);
    assert_eq!(security["readOnlyRootFilesystem"], true);
    assert_eq!(security["capabilities"], json!({"drop": ["ALL"]}));
    assert_eq!(
        only(&objects, "ServiceAccount")["automountServiceAccountToken"],
        false
    );
}

/// `/livez` says yes from the moment that something listens; what it says while a model is loaded is
/// held beside its code.
#[test]
fn no_probe_that_restarts_a_pod_waits_for_its_model() {
    let objects = rendered(&json!({}));
    for (probe, path) in [
        ("startupProbe", "/livez"),
        ("livenessProbe", "/livez"),
        ("readinessProbe", "/readyz"),
    ] {
        assert_eq!(
            container(&objects)[probe]["httpGet"],
            json!({"path": path, "port": "http"}),
            "{probe}"
        );
    }
}

#[test]
fn a_changed_configuration_restarts_the_pods_and_nothing_else_does() {
    let checksum = |given: Value| {
        let objects = rendered(&given);
        let template = &only(&objects, "StatefulSet")["spec"]["template"];
        template["metadata"]["annotations"]["checksum/config"]
            .as_str()
            .expect("the pods carry a checksum")
            .to_owned()
    };
    let before = checksum(json!({}));
    assert_eq!(checksum(json!({"replicaCount": 2})), before);
    assert_ne!(
        checksum(json!({"config": {"aligner": {"max_new_tokens": 7}}})),
        before
    );
}

#[test]
fn namespace_and_release_name_the_connector_unless_the_values_do() {
    let named =
        |given: Value, name: &str| config(&rendered(&given)).contains(&format!("\nname: {name}\n"));
    assert!(named(json!({}), "ml.prod-aligner-connector"));
    let given = json!({"config": {"name": "moderation"}});
    assert!(named(given, "moderation"));
}

#[test]
fn no_two_releases_have_one_name_by_default_whatever_their_namespaces() {
    let defaults = values(&json!({}));
    let name = |namespace: &str, release: &str| {
        let manifests =
            template_in(namespace, release, defaults.path()).expect("the values render");
        let name = manifests
            .lines()
            .find_map(|line| line.strip_prefix("    name: "));
        name.expect("the configuration names the connector")
            .to_owned()
    };
    // With a hyphen both would be ml-prod-aligner-connector.
    assert_eq!(name("ml", "prod"), "ml.prod-aligner-connector");
    assert_eq!(
        name("ml-prod", "aligner-connector"),
        "ml-prod.aligner-connector"
    );
    // Neither may hold what joins them: Kubernetes refuses such a namespace, and the chart:
    let dotted = template_of("ml.prod", defaults.path()).expect_err("it has a dot");
    assert!(dotted.contains("fullnameOverride"), "{dotted}");
}

#[test]
fn a_model_of_the_hub_is_kept_where_the_pod_may_write() {
    let objects = rendered(&json!({"config": {"aligner": {"model": HUB_MODEL}}}));
    let container = container(&objects);
    let home = item(&container["env"], "HF_HOME").expect("HF_HOME is set");
    let mount = item(&container["volumeMounts"], "model-cache").expect("the cache is mounted");
    assert_eq!(home["value"], mount["mountPath"]);
    assert_eq!(mount["readOnly"], Value::Null);
    let volume = item(&pod(&objects)["volumes"], "model-cache").expect("the cache is a volume");
    assert_eq!(volume["emptyDir"], json!({"sizeLimit": "20Gi"}));
    let claims = &only(&objects, "StatefulSet")["spec"]["volumeClaimTemplates"];
    assert_eq!(*claims, Value::Null);
}

#[test]
fn other_models_have_no_cache_unless_the_values_ask_for_it() {
    let has_cache = |given: &Value| {
        let objects = rendered(given);
        let container = container(&objects);
        let set = item(&container["env"], "HF_HOME").is_some();
        let mounted = item(&container["volumeMounts"], "model-cache").is_some();
        let volume = item(&pod(&objects)["volumes"], "model-cache").is_some();
        assert!(set == mounted && mounted == volume, "{given}");
        volume
    };
    let others = [
        "bundled",
        "remote",
        "/models/aligner-2b",
        "/models/a@b",
        "acme/aligner-2b",
        "acme/aligners/2b@main",
        ".acme/aligner-2b@main",
    ];
    for model in others {
        let given = json!({"config": {"aligner": {"model": model}}});
        assert!(!has_cache(&given), "{model}");
    }
    assert!(has_cache(&json!({"modelCache": {"enabled": true}})));
}

#[test]
fn a_cache_that_the_environment_names_is_left_alone() {
    for variable in CACHE_VARIABLES {
        for asked in [Value::Null, json!(true), json!(false)] {
            let objects = rendered(&json!({
                "config": {"aligner": {"model": HUB_MODEL}},
                "modelCache": {"enabled": asked},
                "extraEnv": [{"name": variable, "value": "/scratch"}],
            }));
            let container = container(&objects);
            let set: Vec<_> = container["env"]
                .as_array()
                .expect("a list")
                .iter()
                .filter(|entry| CACHE_VARIABLES.iter().any(|name| entry["name"] == *name))
                .collect();
            assert_eq!(set, [&json!({"name": variable, "value": "/scratch"})]);
            let mounted = item(&container["volumeMounts"], "model-cache").is_some();
            assert_eq!(mounted, asked == json!(true), "{variable}, {asked}");
        }
    }
}

#[test]
fn a_persistent_cache_is_a_volume_of_each_pods_own_whatever_the_model() {
    for model in [HUB_MODEL, "bundled"] {
        let objects = rendered(&json!({
            "config": {"aligner": {"model": model}},
            "modelCache": {
                "persistence": {"enabled": true, "storageClass": "fast", "size": "40Gi"},
            },
        }));
        let claims = &only(&objects, "StatefulSet")["spec"]["volumeClaimTemplates"];
        assert_eq!(claims.as_array().map(Vec::len), Some(1), "{claims}");
        assert_eq!(claims[0]["metadata"]["name"], "model-cache");
        // A label that changes with the chart would forbid every upgrade.
        assert_eq!(
            claims[0]["metadata"]["labels"]["helm.sh/chart"],
            Value::Null
        );
        assert_eq!(
            claims[0]["spec"],
            json!({
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": "fast",
                "resources": {"requests": {"storage": "40Gi"}},
            })
        );
        let container = container(&objects);
        let mount = item(&container["volumeMounts"], "model-cache").expect("the cache is mounted");
        let home = item(&container["env"], "HF_HOME").expect("HF_HOME is set");
        assert_eq!(home["value"], mount["mountPath"]);
        assert_eq!(item(&pod(&objects)["volumes"], "model-cache"), None);
    }
    let objects = rendered(&json!({"modelCache": {"persistence": {"enabled": true}}}));
    let claims = &only(&objects, "StatefulSet")["spec"]["volumeClaimTemplates"];
    assert_eq!(claims[0]["spec"]["storageClassName"], Value::Null);
}

#[test]
fn an_autoscaler_owns_the_replicas() {
    let replicas =
        |given: Value| only(&rendered(&given), "StatefulSet")["spec"]["replicas"].clone();
    assert_eq!(replicas(json!({"replicaCount": 3})), 3);
    assert_eq!(
        replicas(json!({"replicaCount": 3, "keda": {"enabled": true}})),
        Value::Null
    );
    // One that the chart knows nothing of.
    assert_eq!(replicas(json!({"replicaCount": null})), Value::Null);
    assert_eq!(replicas(json!({"replicaCount": 0})), 0);
}

#[test]
fn the_autoscaler_watches_the_lag_of_our_group_on_every_answer_topic() {
    let objects = rendered(&json!({
        "config": {"name": "moderation", "topics": {"answers": ["a", "b"]}},
        "keda": {"enabled": true, "lagThreshold": 5_000_000},
    }));
    let triggers = only(&objects, "ScaledObject")["spec"]["triggers"]
        .as_array()
        .expect("a list");
    let topics: Vec<_> = triggers
        .iter()
        .map(|trigger| &trigger["metadata"]["topic"])
        .collect();
    assert_eq!(topics, ["a", "b"]);
    assert_eq!(
        triggers[0]["metadata"]["consumerGroup"],
        "connect-moderation"
    );
    assert_eq!(triggers[0]["metadata"]["lagThreshold"], "5000000");
    assert_eq!(triggers[0]["metadata"]["activationLagThreshold"], "0");
    assert_eq!(triggers[0]["metadata"]["excludePersistentLag"], "false");
}

#[test]
fn the_last_worker_leaves_at_the_lag_that_transactions_leave_behind() {
    let objects = rendered(&json!({
        "config": {"topics": {"answers": ["a", "b"]}},
        "keda": {"enabled": true, "minReplicas": 0, "activationLagThreshold": 12, "excludePersistentLag": true},
    }));
    let scaled = &only(&objects, "ScaledObject")["spec"];
    assert_eq!(scaled["minReplicaCount"], 0);
    for trigger in scaled["triggers"].as_array().expect("a list") {
        assert_eq!(trigger["metadata"]["activationLagThreshold"], "12");
        assert_eq!(trigger["metadata"]["excludePersistentLag"], "true");
    }
}

#[test]
fn operators_objects_are_off_by_default() {
    let kinds: Vec<_> = rendered(&json!({}))
        .iter()
        .map(|object| object["kind"].clone())
        .collect();
    for kind in ["ServiceMonitor", "PrometheusRule", "ScaledObject"] {
        assert!(!kinds.contains(&json!(kind)), "{kind}");
    }
}

#[test]
fn objects_and_strings_are_templates_and_braces_can_be_kept() {
    let kept = "{{ `{{ $labels.pod }}` }}";
    let object = |name: &str| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name}, "data": {"kept": kept},
        })
    };
    let as_object = object("{{ .Release.Name }}-object");
    let as_string = object("{{ .Release.Name }}-string").to_string();
    let objects = rendered(&json!({"extraObjects": [as_object, as_string]}));
    for name in ["prod-object", "prod-string"] {
        let object = objects
            .iter()
            .find(|object| object["metadata"]["name"] == name);
        let text = &object.expect("it was rendered")["data"]["kept"];
        assert_eq!(text, "{{ $labels.pod }}", "{name}");
    }
}

/// `ALIGNER_CONNECTOR_BIN`, else what `make build` left.
fn connector() -> PathBuf {
    let built = || {
        let own = std::env::current_exe().expect("a running program has a path");
        let target = own
            .ancestors()
            .nth(3)
            .expect("tests lie in target/<profile>/deps");
        [target.to_owned(), root().join("target")]
            .map(|target| target.join("release/aligner-connector"))
            .into_iter()
            .find(|path| path.exists())
            .expect("run `make build` first, or set ALIGNER_CONNECTOR_BIN to the binary")
    };
    std::env::var_os("ALIGNER_CONNECTOR_BIN").map_or_else(built, PathBuf::from)
}

/// `validate` looks for the files that settings name. In a pod they are mounted; here a file that
/// begins as a model would stands in for each, and CPU for a GPU that this binary was not built for.
fn with_files(config: &str, folder: &Path) -> String {
    let mut written = String::new();
    for line in config.lines() {
        match line.split_once(": /") {
            Some((key, path)) if path.starts_with("run/") || path.starts_with("models/") => {
                let file = folder.join(path);
                fs::create_dir_all(file.parent().expect("it has a folder")).expect("made");
                fs::write(&file, "GGUF, or a secret").expect("written");
                written.push_str(&format!("{key}: {}\n", file.display()));
            }
            _ => {
                written.push_str(&line.replace("device: cuda:0", "device: cpu"));
                written.push('\n');
            }
        }
    }
    written
}

#[test]
fn the_connector_accepts_every_rendered_configuration() {
    let connector = connector();
    for (name, file) in value_sets() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let path = folder.path().join("connector.yaml");
        fs::write(&path, with_files(config(&objects(&file)), folder.path())).expect("written");
        let output = Command::new(&connector)
            .args(["validate", "--config"])
            .arg(&path)
            .env("ALIGNER__KAFKA__INSTANCE_ID", "0")
            .output()
            .expect("the connector runs");
        assert!(
            output.status.success(),
            "{name}: {}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
    }
}
