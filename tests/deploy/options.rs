//! What is off until the values ask for it, and what they may not say.

use serde_json::{Value, json};

use crate::{
    schema::schema,
    tools::{container, item, only, pod, rendered, template, values},
};

/// Values with a text at a path such as `/config/name`.
fn nested(path: &str, text: &str) -> Value {
    path.trim_start_matches('/')
        .rsplit('/')
        .fold(json!(text), |inner, key| json!({ key: inner }))
}

#[test]
fn secrets_are_refused_in_the_configuration_which_many_may_read() {
    let schema = schema();
    for (path, instead) in [
        (
            "/config/formats/schema_registry/password",
            "formats.schema_registry.password_file",
        ),
        (
            "/config/aligner/remote/api_key",
            "aligner.remote.api_key_file",
        ),
        (
            "/config/kafka/properties/sasl.password",
            "kafka.property_files.sasl.password",
        ),
        (
            "/config/kafka/properties/sasl/password",
            "kafka.property_files.sasl.password",
        ),
        (
            "/config/kafka/properties/ssl.key.password",
            "kafka.property_files.ssl.key.password",
        ),
        (
            "/config/kafka/properties/ssl.key.pem",
            "kafka.property_files.ssl.key.pem",
        ),
        (
            "/config/kafka/properties/ssl.keystore.password",
            "kafka.property_files.ssl.keystore.password",
        ),
        (
            "/config/kafka/properties/ssl.key/password",
            "kafka.property_files.ssl.key.password",
        ),
        (
            "/config/kafka/properties/sasl.oauthbearer/client.secret",
            "kafka.property_files.sasl.oauthbearer.client.secret",
        ),
    ] {
        let error = template(values(&nested(path, "hunter2")).path()).expect_err(path);
        assert!(error.contains(path), "{path}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
        let keys = path.trim_start_matches('/').split('/');
        let node = keys.fold(&schema, |node, key| &node["properties"][key]);
        let description = node["description"].as_str().expect("it says why");
        for way in ["secretEnv", instead] {
            assert!(description.contains(way), "{path}: {description}");
        }
    }
}

/// Every spelling of a property's name: each of its dots stays one, or leads into a mapping.
fn spellings(name: &str) -> Vec<Vec<String>> {
    let Some((first, rest)) = name.split_once('.') else {
        return vec![vec![name.to_owned()]];
    };
    let mut found = Vec::new();
    for rest in spellings(rest) {
        let mut dotted = rest.clone();
        dotted[0] = format!("{first}.{}", rest[0]);
        found.push(dotted);
        found.push([vec![first.to_owned()], rest].concat());
    }
    found
}

#[test]
fn secret_properties_are_refused_however_their_names_are_spelt() {
    let schema = schema();
    let kafka = &schema["properties"]["config"]["properties"]["kafka"];
    let properties = &kafka["properties"]["properties"];
    for (name, count) in [
        ("sasl.password", 2),
        ("ssl.key.password", 4),
        ("ssl.key.pem", 4),
        ("ssl.keystore.password", 4),
        ("sasl.oauthbearer.client.secret", 8),
    ] {
        let spellings = spellings(name);
        assert_eq!(spellings.len(), count, "{spellings:?}");
        for spelling in spellings {
            let node = spelling
                .iter()
                .fold(properties, |node, key| &node["properties"][key]);
            assert_eq!(node["type"], "null", "{spelling:?}");
        }
    }
}

#[test]
fn credentials_in_urls_are_refused_without_printing_them() {
    for path in [
        "/config/formats/schema_registry/url",
        "/config/aligner/remote/url",
        "/config/telemetry/otlp_endpoint",
    ] {
        for url in ["https://ada:hunter2@host:8081/", "ada:hunter2@host:8081"] {
            let error = template(values(&nested(path, url)).path()).expect_err(path);
            assert!(error.contains(path), "{path}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        // What stands in the path is no user.
        let harmless = nested(path, "https://host:8081/teams/@safety");
        template(values(&harmless).path()).expect(path);
    }
}

#[test]
fn common_labels_are_on_every_object_and_pod_and_select_nothing() {
    let label = "example.com/team";
    let objects = rendered(&json!({
        "commonLabels": {label: "safety", "tier": "common"},
        "podLabels": {"tier": "pods"},
        "serviceMonitor": {"enabled": true, "labels": {"tier": "monitors"}},
        "prometheusRule": {"enabled": true},
        "grafanaDashboard": {"enabled": true},
        "networkPolicy": {"enabled": true},
        "keda": {"enabled": true},
        "modelCache": {"persistence": {"enabled": true}},
    }));
    assert!(objects.len() >= 11, "{}", objects.len());
    for object in &objects {
        assert_eq!(object["metadata"]["labels"][label], "safety", "{object}");
    }
    let set = &only(&objects, "StatefulSet")["spec"];
    let of_pods = &set["template"]["metadata"]["labels"];
    assert_eq!(of_pods[label], "safety");
    // Closer ones win.
    assert_eq!(of_pods["tier"], "pods");
    let monitor = only(&objects, "ServiceMonitor");
    assert_eq!(monitor["metadata"]["labels"]["tier"], "monitors");
    // Neither may change in an installed release.
    assert_eq!(set["selector"]["matchLabels"][label], Value::Null);
    let claim = &set["volumeClaimTemplates"][0];
    assert_eq!(claim["metadata"]["labels"][label], Value::Null);
}

#[test]
fn a_network_policy_lets_in_to_the_port_alone_and_leaves_egress_alone_unless_it_is_given() {
    let policy = |given: Value| {
        let objects = rendered(&json!({ "networkPolicy": given }));
        only(&objects, "NetworkPolicy")["spec"].clone()
    };
    assert!(
        rendered(&json!({}))
            .iter()
            .all(|object| object["kind"] != "NetworkPolicy")
    );
    let port = json!([{"port": "http", "protocol": "TCP"}]);
    let plain = policy(json!({"enabled": true}));
    assert_eq!(plain["policyTypes"], json!(["Ingress"]));
    assert_eq!(plain["ingress"], json!([{ "ports": port }]));
    assert_eq!(plain["egress"], Value::Null);
    assert_eq!(
        plain["podSelector"]["matchLabels"]["app.kubernetes.io/instance"],
        "prod"
    );

    let from = json!([{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}]);
    let egress = json!([{"ports": [{"port": 9092}]}]);
    let whole = policy(json!({"enabled": true, "ingressFrom": from, "egress": egress}));
    assert_eq!(whole["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(whole["ingress"], json!([{"ports": port, "from": from}]));
    assert_eq!(whole["egress"], egress);
}

#[test]
fn other_containers_and_dns_settings_come_beside_the_connector() {
    let objects = rendered(&json!({
        "initContainers": [{"name": "wait", "image": "busybox"}],
        "extraContainers": [{"name": "proxy", "image": "envoy"}],
        "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]},
    }));
    let with = pod(&objects);
    assert_eq!(container(&objects)["name"], "connector");
    let proxy = item(&with["containers"], "proxy").expect("it is beside the connector");
    assert_eq!(proxy["image"], "envoy");
    let wait = item(&with["initContainers"], "wait").expect("it is before the connector");
    assert_eq!(wait["image"], "busybox");
    assert_eq!(with["dnsConfig"]["options"][0]["value"], "2");

    let objects = rendered(&json!({}));
    let without = pod(&objects);
    assert_eq!(without["containers"].as_array().map(Vec::len), Some(1));
    for key in ["initContainers", "dnsConfig"] {
        assert_eq!(without[key], Value::Null, "{key}");
    }
}

#[test]
fn relabelings_are_passed_to_the_service_monitor() {
    let endpoint = |given: Value| {
        let objects = rendered(&json!({ "serviceMonitor": given }));
        only(&objects, "ServiceMonitor")["spec"]["endpoints"][0].clone()
    };
    let node =
        json!([{"sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "node"}]);
    let drop = json!([{"sourceLabels": ["__name__"], "regex": "target_info", "action": "drop"}]);
    let plain = endpoint(json!({"enabled": true}));
    assert_eq!(plain["relabelings"], Value::Null);
    assert_eq!(plain["metricRelabelings"], Value::Null);
    let given = endpoint(json!({
        "enabled": true, "relabelings": node, "metricRelabelings": drop,
    }));
    assert_eq!(given["relabelings"], node);
    assert_eq!(given["metricRelabelings"], drop);
}

#[test]
fn a_scrape_has_the_time_that_prometheus_gives_it_unless_the_values_say() {
    let endpoint = |interval: &str, timeout: Value| {
        let objects = rendered(&json!({"serviceMonitor": {
            "enabled": true, "interval": interval, "scrapeTimeout": timeout,
        }}));
        only(&objects, "ServiceMonitor")["spec"]["endpoints"][0].clone()
    };
    let short = endpoint("5s", Value::Null);
    assert_eq!(short["interval"], "5s");
    assert_eq!(short["scrapeTimeout"], Value::Null);
    // As long as the interval is not too long, and other units are the operator's to judge.
    for (interval, timeout) in [("10s", "10s"), ("1m", "50s"), ("100s", "20s")] {
        let given = endpoint(interval, json!(timeout));
        assert_eq!(given["scrapeTimeout"], timeout);
    }
}

#[test]
fn users_are_left_to_a_platform_that_gives_each_namespace_its_own() {
    let objects = rendered(&json!({
        "podSecurityContext": {"runAsUser": null, "runAsGroup": null, "fsGroup": null},
    }));
    let security = &pod(&objects)["securityContext"];
    for key in ["runAsUser", "runAsGroup", "fsGroup"] {
        assert_eq!(security[key], Value::Null, "{key}");
    }
    assert_eq!(security["runAsNonRoot"], true);
}
