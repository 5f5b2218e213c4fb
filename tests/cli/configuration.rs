//! `validate`, and a `run` that cannot start: every problem at once, each with its key.

use std::{ffi::OsStr, net::TcpListener, os::unix::ffi::OsStrExt, path::Path, process::Command};

use aligner_tests::{
    command::{call, call_in, call_with},
    connector::binary,
    scratch::{Scratch, workspace},
};

fn file(name: &str, text: &str) -> (Scratch, String) {
    let scratch = Scratch::new("configuration");
    let path = scratch.file(name, text).display().to_string();
    (scratch, path)
}

#[test]
fn a_valid_file_is_0_and_opens_no_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener
        .set_nonblocking(true)
        .expect("a fresh listener can be switched");
    let address = listener
        .local_addr()
        .expect("a bound listener has an address");
    let (_scratch, path) = file(
        "valid.yaml",
        &format!(
            "name: moderation\nkafka: {{bootstrap_servers: \"{address}\"}}\n\
             formats: {{answers: avro, schema_registry: {{url: \"http://{address}\"}}}}\n\
             aligner: {{model: marker}}\n"
        ),
    );
    let done = call(&["validate", "--config", &path]).expect_code(0);
    assert_eq!(
        done.stdout,
        format!(
            "{path}: valid. Connector moderation on {address} reads llm.answers as group \
             connect-moderation, corrects with marker, and writes llm.corrections, llm.pairs and \
             llm.dead-letters.\n"
        )
    );
    // The process has ended: a connection of its would wait to be accepted, closed or not.
    assert!(listener.accept().is_err(), "a connection was opened");
}

#[test]
fn every_problem_is_named_at_once_with_its_key_and_a_fix() {
    let (_scratch, path) = file(
        "wrong.yaml",
        "name: moderation\n\
         kafka:\n  boostrap_servers: \"x:1\"\n  delivery: twice\n\
         topics:\n  answers: [same]\n  corrections: same\n\
         aligner:\n  device: gpu\n  max_new_tokens: 0\n\
         service:\n  listen: nowhere\n",
    );
    let run = call(&["run", "--config", &path]).expect_code(2);
    let done = call(&["validate", "--config", &path]).expect_code(2);
    assert_eq!(done.stdout, "");
    for expected in [
        "kafka.boostrap_servers",
        "kafka.bootstrap_servers",
        "kafka.delivery",
    ] {
        assert!(
            done.stderr.contains(expected),
            "{expected} is not in {}",
            done.stderr
        );
        assert!(
            run.stderr.contains(expected),
            "{expected} is not in {}",
            run.stderr
        );
    }

    let (_scratch, path) = file(
        "contradictory.yaml",
        "topics:\n  answers: [same]\n  corrections: same\n\
         aligner:\n  device: gpu\n  dtype: bf16\n  max_new_tokens: 0\n\
         service:\n  listen: nowhere\n",
    );
    let done = call(&["validate", "--config", &path]).expect_code(2);
    for expected in [
        "topics.corrections",
        "aligner.device",
        "aligner.dtype",
        "aligner.max_new_tokens",
        "service.listen",
    ] {
        assert!(
            done.stderr.contains(expected),
            "{expected} is not in {}",
            done.stderr
        );
    }
}

#[test]
fn a_path_that_holds_no_checkpoint_is_no_model() {
    let scratch = Scratch::new("configuration");
    let text = scratch.file("notes.txt", "not a model\n");
    let folder = text.parent().expect("a folder");
    for (path, problem) in [
        (folder, "a folder without config.json"),
        (text.as_path(), "a file that is no GGUF file"),
        (Path::new("/dev/null"), "neither a file nor a folder"),
    ] {
        let model = format!("aligner.model={}", path.display());
        let done = call(&["validate", "--set", &model]).expect_code(2);
        assert!(done.stderr.contains(problem), "{}", done.stderr);
    }
    let model = format!("aligner.model={}", folder.display());
    for (file, problem) in [
        ("config.json", "a folder without model.safetensors"),
        ("model.safetensors", "a folder without tokenizer.json"),
    ] {
        scratch.file(file, "{}");
        let done = call(&["validate", "--set", &model]).expect_code(2);
        assert!(done.stderr.contains(problem), "{}", done.stderr);
    }
    scratch.file("tokenizer.json", "{}");
    call(&["validate", "--set", &model]).expect_code(0);
}

#[test]
fn what_lies_in_property_files_is_judged_before_anything_starts() {
    let scratch = Scratch::new("configuration");
    let secret = scratch
        .file("secret", "hunter2-canary\n")
        .display()
        .to_string();
    let path = scratch
        .file(
            "files.yaml",
            format!(
                "aligner: {{model: marker}}\nservice: {{listen: \"127.0.0.1:0\"}}\n\
                 kafka:\n  property_files:\n    transactional.id: {secret}\n    \
                 sasl.pasword: /no/such/file\n    socket.keepalive.enable: {secret}\n"
            ),
        )
        .display()
        .to_string();
    for command in ["validate", "run"] {
        let done = call(&[command, "--config", &path]).expect_code(2);
        for name in [
            "transactional.id",
            "sasl.pasword",
            "socket.keepalive.enable",
        ] {
            let key = format!("kafka.property_files.{name}");
            assert!(done.stderr.contains(&key), "{key}: {}", done.stderr);
        }
        assert!(!done.stderr.contains("hunter2-canary"), "{}", done.stderr);
    }
}

#[test]
fn variables_of_other_programs_may_hold_any_bytes() {
    let bytes = OsStr::from_bytes(b"\xff\xfe");
    let validate = |name: &str| {
        Command::new(binary())
            .arg("validate")
            .env(name, bytes)
            .output()
            .expect("the binary can be started")
    };
    let theirs = validate("LS_COLORS");
    assert_eq!(theirs.status.code(), Some(0), "{theirs:?}");
    let ours = validate("ALIGNER__NAME");
    assert_eq!(ours.status.code(), Some(2), "{ours:?}");
    let said = String::from_utf8_lossy(&ours.stderr);
    assert!(said.contains("ALIGNER__NAME"), "{said}");
}

#[test]
fn a_variable_that_lacks_an_underscore_is_named_and_those_of_kubernetes_are_not() {
    let mistaken = ("ALIGNER_KAFKA_BOOTSTRAP_SERVERS", "kafka:9092");
    for command in ["validate", "run"] {
        let done = call_in(&[mistaken], &[command], "").expect_code(2);
        for expected in [mistaken.0, "ALIGNER__KAFKA__BOOTSTRAP_SERVERS"] {
            assert!(done.stderr.contains(expected), "{}", done.stderr);
        }
        assert!(!done.stderr.contains(mistaken.1), "{}", done.stderr);
    }
    // As a Service named aligner, and one named aligner-connector, leave them.
    let theirs = [
        ("ALIGNER_HOME", "/opt/aligner"),
        ("ALIGNER_SERVICE_HOST", "10.0.0.1"),
        ("ALIGNER_SERVICE_PORT_HTTP", "8083"),
        ("ALIGNER_PORT", "tcp://10.0.0.1:8083"),
        ("ALIGNER_CONNECTOR_SERVICE_HOST", "10.0.0.1"),
        ("ALIGNER_CONNECTOR_PORT_8083_TCP", "tcp://10.0.0.1:8083"),
        ("ALIGNER_CONNECTOR_PORT_8083_TCP_ADDR", "10.0.0.1"),
    ];
    call_in(&theirs, &["validate"], "").expect_code(0);
}

#[test]
fn a_log_level_that_would_hide_errors_is_refused_with_the_nearest_one() {
    for (level, meant) in [
        ("warning", "write warn"),
        ("loud", "write for example info"),
        ("", "write for example info"),
        ("info,aligner_kafak=debug", "write aligner_kafka=debug"),
        ("aligner_kafka=debug", "write info,aligner_kafka=debug"),
    ] {
        let set = format!("telemetry.log_level={level}");
        for command in ["validate", "run"] {
            let done = call(&[command, "--set", &set]).expect_code(2);
            for expected in ["telemetry.log_level", meant] {
                assert!(done.stderr.contains(expected), "{}", done.stderr);
            }
        }
    }
    for level in ["warn", "off", "info,aligner_kafka=debug"] {
        let set = format!("telemetry.log_level={level}");
        call(&["validate", "--set", &set]).expect_code(0);
    }
}

#[test]
fn a_login_that_no_client_takes_is_refused_before_anything_starts() {
    let (_scratch, path) = file(
        "login.yaml",
        "kafka:\n  properties:\n    security.protocol: sasl_ssl\n    sasl.mechanism: SCRAM\n",
    );
    for command in ["validate", "run"] {
        let done = call(&[command, "--config", &path]).expect_code(2);
        for expected in ["kafka.properties.sasl.mechanism", "SCRAM-SHA-512"] {
            assert!(done.stderr.contains(expected), "{}", done.stderr);
        }
    }
    let protocol = "kafka.properties.security.protocol=sasl";
    let done = call(&["validate", "--set", protocol]).expect_code(2);
    assert!(done.stderr.contains("sasl_plaintext"), "{}", done.stderr);
}

#[test]
fn a_list_may_be_set_with_commas_and_with_brackets() {
    for list in ["a,b", "[a,b]", "[a, b]"] {
        let done = call(&["validate", "--set", &format!("topics.answers={list}")]).expect_code(0);
        assert!(done.stdout.contains("reads a, b as"), "{}", done.stdout);
    }
    let done = call(&["validate", "--set", "topics.answers=['a','b']"]).expect_code(2);
    assert!(done.stderr.contains("a,b in a variable"), "{}", done.stderr);
}

#[test]
fn a_mapping_is_tried_without_the_secrets_and_the_model_of_the_same_file() {
    let (_scratch, path) = file(
        "production.yaml",
        "input: {fields: {question: /q, answer: /a}}\n\
         aligner: {model: /no/such/folder}\n\
         kafka: {property_files: {sasl.password: /no/such/file}}\n",
    );
    call(&["validate", "--config", &path]).expect_code(2);
    let arguments = ["correct", "--model", "identity", "--config", &path];
    let done = call_with(&arguments, r#"{"q": "why?", "a": "because"}"#).expect_code(0);
    assert_eq!(done.records()[0]["question"], "why?");

    let (_scratch, path) = file("half.yaml", "input: {fields: {question: /q}}\n");
    let arguments = ["correct", "--model", "identity", "--config", &path];
    let done = call_with(&arguments, "").expect_code(2);
    assert!(
        done.stderr.contains("input.fields.answer"),
        "{}",
        done.stderr
    );
}

#[test]
fn a_full_disk_is_1_and_no_panic() {
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .expect("linux has one");
    let done = Command::new(binary())
        .arg("validate")
        .stdout(full)
        .output()
        .expect("the binary can be started");
    assert_eq!(done.status.code(), Some(1), "{done:?}");
}

#[test]
fn null_after_set_or_in_a_variable_is_what_it_is_in_a_file() {
    for command in ["validate", "run"] {
        for key in ["topics.pairs", "topics.answers", "name"] {
            let set = format!("{key}=null");
            let done = call(&[command, "--set", &set]).expect_code(2);
            let said = format!("\n  {key} = null");
            assert!(done.stderr.contains(&said), "{}", done.stderr);
        }
        let variable = ("ALIGNER__TOPICS__PAIRS", "null");
        let done = call_in(&[variable], &[command], "").expect_code(2);
        assert!(done.stderr.contains(variable.0), "{}", done.stderr);
    }
    let done = call(&["validate", "--set", "kafka.group_id=null"]).expect_code(0);
    let said = "as group connect-aligner";
    assert!(done.stdout.contains(said), "{}", done.stdout);
    // In a file whoever wants that name can quote it.
    let (_scratch, path) = file("quoted.yaml", "topics: {pairs: \"null\"}\n");
    call(&["validate", "--config", &path]).expect_code(0);
}

#[test]
fn an_unknown_key_is_not_taken_for_the_section_that_it_stands_in() {
    for (key, fix) in [
        ("kafka.foo", "remove it; kafka has bootstrap_servers, "),
        ("telemetry.foo", "remove it; telemetry has "),
        ("kafka.instanceid", "did you mean kafka.instance_id?"),
        (
            "kafka.max_new_tokens",
            "did you mean aligner.max_new_tokens?",
        ),
        ("kafak.foo", "did you mean kafka?"),
    ] {
        let set = format!("{key}=1");
        let done = call(&["validate", "--set", &set]).expect_code(2);
        assert!(done.stderr.contains(fix), "{key}: {}", done.stderr);
    }
}

#[test]
fn a_setting_that_others_leave_without_effect_is_refused_with_a_fix() {
    let (_scratch, path) = file(
        "unread.yaml",
        "formats: {schema_registry: {url: 'http://localhost:8081'}}\n\
         aligner:\n  top_p: 0.9\n  seed: 7\n  remote: {url: 'http://vllm:8000/v1'}\n",
    );
    for command in ["validate", "run"] {
        let done = call(&[command, "--config", &path]).expect_code(2);
        for said in [
            "4 problems",
            "formats.schema_registry.url",
            "aligner.top_p",
            "aligner.seed",
            "aligner.remote.url",
            "write aligner.model: remote",
        ] {
            assert!(done.stderr.contains(said), "{said}: {}", done.stderr);
        }
    }
}

#[test]
fn secrets_are_never_repeated() {
    let (_scratch, path) = file(
        "secret.yaml",
        "kafka:\n  properties:\n    sasl.password: hunter2-canary\n    sasl.pasword: hunter2-canary\n\
         aligner:\n  remote:\n    api_key: hunter2-canary\n  max_new_tokens: hunter\n",
    );
    let done = call(&["validate", "--config", &path]).expect_code(2);
    assert!(!done.stderr.contains("hunter2-canary"), "{}", done.stderr);

    let (_scratch, path) = file(
        "secret.toml",
        "[kafka.properties]\n\"sasl.password\" = hunter2-canary\n",
    );
    let done = call(&["run", "--config", &path]).expect_code(2);
    assert!(!done.stderr.contains("hunter2-canary"), "{}", done.stderr);
    assert!(done.stderr.contains("line 2"), "{}", done.stderr);
}

#[test]
fn a_missing_file_and_a_file_that_is_no_yaml_are_named_with_2() {
    for (path, _scratch) in [("/no/such/file.yaml".to_owned(), None), {
        let (scratch, path) = file("broken.yaml", "a: [1,\nb: }");
        (path, Some(scratch))
    }] {
        let done = call(&["validate", "--config", &path]).expect_code(2);
        assert!(
            done.stderr.contains(&path),
            "{path} is not in {}",
            done.stderr
        );
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_key() {
    let (_scratch, path) = file("marked.yaml", "\u{feff}name: marked\n");
    let done = call(&["validate", "--config", &path]).expect_code(0);
    assert!(done.stdout.contains("Connector marked"), "{}", done.stdout);
}

#[test]
fn toml_is_read_like_yaml() {
    let (_scratch, path) = file(
        "valid.toml",
        "name = \"t\"\n[aligner]\nmodel = \"marker\"\n",
    );
    call(&["validate", "--config", &path]).expect_code(0);
}

#[test]
fn every_example_in_the_repository_is_valid_up_to_files_that_only_its_user_has() {
    let folder = workspace().join("config");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder)
        .expect("the folder is part of the repository")
        .flatten()
    {
        let path = entry.path().display().to_string();
        if !path.ends_with(".yaml") && !path.ends_with(".toml") {
            continue;
        }
        seen += 1;
        let done = call(&["validate", "--config", &path]);
        let only_files = done
            .stderr
            .lines()
            .filter(|line| line.contains("fix:") || line.contains("hint"))
            .all(|line| line.contains("file"));
        assert!(
            done.code == 0
                || (done.code == 2 && done.stderr.contains("cannot be read") && only_files),
            "{path}: {}",
            done.stderr
        );
    }
    assert!(seen >= 4, "only {seen} examples were found");
}
