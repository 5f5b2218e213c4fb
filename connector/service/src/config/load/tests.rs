//! What a file, the environment and flags make of settings, and what is said of mistakes in them.

use std::{ffi::OsString, io::Write};

use super::*;

fn file(extension: &str, text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new()
        .suffix(extension)
        .tempfile()
        .expect("temporary file");
    file.write_all(text.as_bytes()).expect("written");
    file
}

fn layers(file: &tempfile::NamedTempFile) -> Layers {
    Layers {
        file: Some(file.path().to_owned()),
        ..Layers::default()
    }
}

#[test]
fn flags_beat_environment_beats_file_beats_defaults() {
    let file = file(
        ".yaml",
        "name: from-file\nkafka: {bootstrap_servers: 'file:1'}\n",
    );
    let mut layers = layers(&file);
    assert_eq!(
        read(&layers).expect("valid").kafka.bootstrap_servers,
        "file:1"
    );
    layers.environment = vec![("ALIGNER__KAFKA__BOOTSTRAP_SERVERS".into(), "env:1".into())];
    assert_eq!(
        read(&layers).expect("valid").kafka.bootstrap_servers,
        "env:1"
    );
    layers.flags = vec![("kafka.bootstrap_servers".to_owned(), "flag:1".to_owned())];
    let settings = read(&layers).expect("valid");
    assert_eq!(settings.kafka.bootstrap_servers, "flag:1");
    assert_eq!(settings.name.0, "from-file");
    assert_eq!(settings.topics.corrections, "llm.corrections");
}

#[test]
fn toml_takes_the_same_keys() {
    let file = file(
        ".toml",
        "name = \"t\"\n[topics]\nanswers = [\"a\", \"b\"]\n",
    );
    assert_eq!(
        read(&layers(&file)).expect("valid").topics.answers,
        ["a", "b"]
    );
}

#[test]
fn variables_stand_for_numbers_lists_and_dotted_properties() {
    let layers = Layers {
        environment: [
            ("ALIGNER__ALIGNER__MAX_NEW_TOKENS", "64"),
            ("ALIGNER__TOPICS__ANSWERS", "a, b"),
            ("ALIGNER__KAFKA__INSTANCE_ID", "0"),
            ("ALIGNER__KAFKA__PROPERTIES__SECURITY_PROTOCOL", "sasl_ssl"),
            ("ALIGNER__KAFKA__PROPERTIES__SASL_MECHANISM", "PLAIN"),
            ("ALIGNER__KAFKA__PROPERTIES__SASL_USERNAME", "ada"),
            ("ALIGNER__KAFKA__PROPERTIES__SASL_PASSWORD", "12345"),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .to_vec(),
        ..Layers::default()
    };
    let settings = read(&layers).expect("valid");
    assert_eq!(settings.aligner.max_new_tokens, 64);
    assert_eq!(settings.topics.answers, ["a", "b"]);
    assert_eq!(
        settings.kafka.instance_id,
        Some(crate::config::InstanceId("0".to_owned()))
    );
    assert_eq!(settings.kafka.properties["sasl.password"].expose(), "12345");
}

#[test]
fn variables_of_others_may_hold_any_bytes_and_ours_must_be_text() {
    use std::os::unix::ffi::OsStringExt;
    let bytes = || OsString::from_vec(vec![0xff, 0xfe]);
    let mut layers = Layers {
        environment: vec![("LS_COLORS".into(), bytes()), (bytes(), bytes())],
        ..Layers::default()
    };
    read(&layers).expect("none of them is ours");
    layers.environment.push(("ALIGNER__NAME".into(), bytes()));
    let Problems(problems) = read(&layers).expect_err("no text");
    assert_eq!(problems[0].key, "ALIGNER__NAME");
    assert!(problems[0].message.contains("UTF-8"));
}

#[test]
fn a_list_after_set_may_have_the_brackets_that_it_has_in_yaml() {
    for written in ["a,b", "a, b", "[a,b]", "[a, b]", "[\"a\", \"b\"]"] {
        let layers = Layers {
            flags: vec![
                ("topics.answers".to_owned(), written.to_owned()),
                ("aligner.device".to_owned(), "[cpu,cpu]".to_owned()),
            ],
            ..Layers::default()
        };
        let settings = read(&layers).expect("valid");
        assert_eq!(settings.topics.answers, ["a", "b"], "{written}");
        assert_eq!(settings.aligner.device.values(), ["cpu", "cpu"]);
    }
}

#[test]
fn a_field_has_a_pointer_or_a_list_of_them_however_that_is_given() {
    let written = file(
        ".yaml",
        "input: {fields: {question: [/input/role=user/content, /input], answer: '/a,b'}}\n",
    );
    let mut layers = layers(&written);
    let settings = read(&layers).expect("valid");
    let fields = settings.input.fields;
    assert_eq!(
        fields.question,
        Some(["/input/role=user/content", "/input"].into())
    );
    assert_eq!(fields.answer, Some("/a,b".into()));
    layers.environment = vec![(
        "ALIGNER__INPUT__FIELDS__QUESTION".into(),
        "[/q, /prompt]".into(),
    )];
    layers.flags = vec![("input.fields.answer".to_owned(), "[/a,/b]".to_owned())];
    let fields = read(&layers).expect("valid").input.fields;
    assert_eq!(fields.question, Some(["/q", "/prompt"].into()));
    assert_eq!(fields.answer, Some(["/a", "/b"].into()));
    layers.flags = vec![("input.fields.answer".to_owned(), "/a,/b".to_owned())];
    let Problems(problems) = read(&layers).expect_err("two pointers in one text");
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].key, "input.fields.answer");
}

#[test]
fn a_file_may_begin_with_a_byte_order_mark() {
    for (ending, text) in [
        (".yaml", "\u{feff}name: marked\n"),
        (".toml", "\u{feff}name = \"marked\"\n"),
        (".json", "\u{feff}{\"name\": \"marked\"}"),
    ] {
        let file = file(ending, text);
        let settings = read(&layers(&file)).expect("valid");
        assert_eq!(settings.name.0, "marked", "{ending}");
    }
}

#[test]
fn dotted_properties_of_a_file_stay_whole() {
    let file = file(
        ".yaml",
        "kafka:\n  properties:\n    broker.address.family: v4\n    \
         fetch.wait.max.ms: 10\n",
    );
    let settings = read(&layers(&file)).expect("valid");
    assert_eq!(
        settings.kafka.properties["broker.address.family"].expose(),
        "v4"
    );
    assert_eq!(
        settings.kafka.properties["fetch.wait.max.ms"].expose(),
        "10"
    );
}

#[test]
fn properties_may_be_written_as_mappings_and_set_by_flags() {
    let file = file(
        ".toml",
        "[kafka.properties]\nsecurity.protocol = \"sasl_ssl\"\nsasl.username = \"ada\"\n\
         sasl.mechanism = \"PLAIN\"\n",
    );
    let mut layers = layers(&file);
    layers.flags = vec![("kafka.properties.sasl.password".into(), "hunter2".into())];
    let properties = read(&layers).expect("valid").kafka.properties;
    for (name, value) in [
        ("security.protocol", "sasl_ssl"),
        ("sasl.username", "ada"),
        ("sasl.password", "hunter2"),
    ] {
        assert_eq!(properties[name].expose(), value, "{name}");
    }
}

#[test]
fn a_file_without_a_known_ending_is_yaml_and_so_is_json() {
    for (ending, text) in [("", "name: other\n"), (".json", "{\"name\": \"other\"}")] {
        let file = file(ending, text);
        assert_eq!(read(&layers(&file)).expect("valid").name.0, "other");
    }
}

#[test]
fn devices_from_a_variable_are_a_list() {
    let layers = Layers {
        environment: vec![("ALIGNER__ALIGNER__DEVICE".into(), "cpu, cpu".into())],
        ..Layers::default()
    };
    let settings = read(&layers).expect("valid");
    assert_eq!(settings.aligner.device.values(), ["cpu", "cpu"]);
}

#[test]
fn every_unknown_key_and_wrong_type_is_reported_at_once_with_the_nearest_key() {
    let file = file(
        ".yaml",
        "kafak: {bootstrap_servers: x}\nkafka: {delivery: exactly-once, instanceid: 1}\n\
         aligner: {max_new_tokens: many}\n",
    );
    let Problems(problems) = read(&layers(&file)).expect_err("four problems");
    let keys: Vec<&str> = problems
        .iter()
        .map(|problem| problem.key.as_str())
        .collect();
    assert_eq!(
        keys,
        [
            "aligner.max_new_tokens",
            "kafak",
            "kafka.delivery",
            "kafka.instanceid"
        ]
    );
    assert_eq!(problems[1].fix.as_deref(), Some("did you mean kafka?"));
    assert_eq!(
        problems[3].fix.as_deref(),
        Some("did you mean kafka.instance_id?")
    );
    assert!(
        problems[2].message.contains("`exactly_once`"),
        "{}",
        problems[2].message
    );
    assert_eq!(problems[0].value.as_deref(), Some("\"many\""));
}

#[test]
fn a_value_of_another_type_is_told_in_words_what_belongs_there_and_not_by_its_default() {
    for (text, fault, fix) in [
        (
            "topics: {create: yes}\n",
            "this is neither true nor false",
            "write true or false",
        ),
        (
            "aligner: {remote: {add_special_tokens: 0}}\n",
            "this is neither true nor false",
            "write true or false, or null",
        ),
        (
            "pipeline: {record_timeout_ms: 30s}\n",
            "this is no whole number of milliseconds from 0 up",
            "write a whole number of milliseconds from 0 up, such as 1000 for a second",
        ),
        (
            "kafka: {session_timeout_ms: 6.5}\n",
            "this is no whole number of milliseconds from 0 to 4294967295",
            "write a whole number of milliseconds from 0 to 4294967295, such as 1000 for a second",
        ),
        (
            "aligner: {threads: -1}\n",
            "this is no whole number from 0 to 65535",
            "write a whole number from 0 to 65535, or null",
        ),
        (
            "pipeline: {max_bytes_in_flight: 100MB}\n",
            "this is no whole number of bytes from 0 up",
            "write a whole number of bytes from 0 up, such as 1048576 for a MiB",
        ),
        (
            "aligner: {temperature: warm}\n",
            "this is no number",
            "write a number, such as 0.7",
        ),
        (
            "kafka: {instance_id: [0]}\n",
            "expected a text or a whole number",
            "see config/connector.yaml",
        ),
    ] {
        let file = file(".yaml", text);
        let Problems(problems) = read(&layers(&file)).expect_err(text);
        assert_eq!(problems.len(), 1, "{text}: {problems:?}");
        assert_eq!(problems[0].message, fault, "{text}");
        assert_eq!(problems[0].fix.as_deref(), Some(fix), "{text}");
    }
}

#[test]
fn a_property_of_another_type_is_shown_unless_it_is_a_secret() {
    for (name, shown) in [
        ("broker.address.family", "[\"v4\"]"),
        ("sasl.password", "[redacted]"),
        ("sasl.pasword", "[redacted]"),
    ] {
        let text = format!("kafka: {{properties: {{{name}: [v4]}}}}\n");
        let file = file(".yaml", &text);
        let Problems(problems) = read(&layers(&file)).expect_err("a list is no property");
        assert_eq!(problems[0].value.as_deref(), Some(shown), "{name}");
    }
}

#[test]
fn a_problem_names_the_variable_that_made_it_unless_a_flag_has_the_last_word() {
    let told = |flags: &[(&str, &str)]| {
        let own = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
        let variables = [
            ("ALIGNER__KAFKA__DELIVERY", "twice"),
            ("ALIGNER__ALIGNER__MAX_NEW_TOKENS", "0"),
            ("ALIGNER__KAFKA__PROPERTIES__NO_SUCH", "1"),
        ];
        let layers = Layers {
            environment: variables.map(|(a, b)| (a.into(), b.into())).into(),
            flags: flags.iter().map(own).collect(),
            ..Layers::default()
        };
        let Problems(problems) = read(&layers).expect_err("none of them is taken");
        problems
            .into_iter()
            .map(|problem| (problem.key, problem.message))
            .collect::<Vec<_>>()
    };
    for (key, variable) in [
        ("kafka.delivery", "ALIGNER__KAFKA__DELIVERY"),
        ("aligner.max_new_tokens", "ALIGNER__ALIGNER__MAX_NEW_TOKENS"),
        (
            "kafka.properties.no.such",
            "ALIGNER__KAFKA__PROPERTIES__NO_SUCH",
        ),
    ] {
        let problems = told(&[]);
        let found = problems.iter().find(|(found, _)| found == key);
        let (_, message) = found.unwrap_or_else(|| panic!("{key}: {problems:?}"));
        let said = format!("(set by the variable {variable})");
        assert!(message.ends_with(&said), "{message}");
    }
    let problems = told(&[("kafka.delivery", "thrice")]);
    let found = problems.iter().find(|(key, _)| key == "kafka.delivery");
    let (_, message) = found.expect("still wrong");
    assert!(!message.contains("variable"), "{message}");
}

#[test]
fn brokers_in_a_list_are_told_to_be_one_text() {
    let file = file(".yaml", "kafka: {bootstrap_servers: ['a:1', 'b:1']}\n");
    let Problems(problems) = read(&layers(&file)).expect_err("a list is no text");
    assert_eq!(problems.len(), 1, "{problems:?}");
    let fix = problems[0].fix.as_deref().unwrap_or_default();
    assert!(fix.contains("a:9092,b:9092"), "{fix}");
}

#[test]
fn a_text_or_a_list_in_place_of_a_section_is_told_how_its_keys_are_written() {
    let brokers = "write for example kafka.bootstrap_servers: \"localhost:9092\"";
    let answers = "write for example topics.answers: [\"llm.answers\"]";
    let pointer = "write input.fields.answer and others; see config/connector.yaml";
    let protocol = "write for example kafka.properties.security.protocol: \"ssl\"";
    let password = "write for example kafka.property_files.sasl.password: \
                    \"/run/secrets/kafka-password\"";
    for (text, key, fix) in [
        ("kafka: [a:1]\n", "kafka", brokers),
        ("kafka: 1\n", "kafka", brokers),
        ("topics: [[a], b, c, d]\n", "topics", answers),
        ("topics: []\n", "topics", answers),
        ("input: {fields: [/q, /a]}\n", "input.fields", pointer),
        ("kafka: {properties: [a]}\n", "kafka.properties", protocol),
        ("kafka: {properties: 'a=b'}\n", "kafka.properties", protocol),
        (
            "kafka: {property_files: [a]}\n",
            "kafka.property_files",
            password,
        ),
    ] {
        let file = file(".yaml", text);
        let Problems(problems) = read(&layers(&file)).expect_err("a section is no value");
        assert_eq!(problems.len(), 1, "{text}: {problems:?}");
        assert_eq!(problems[0].key, key);
        assert_eq!(
            problems[0].message,
            "this is a section, and has keys of its own"
        );
        assert_eq!(problems[0].fix.as_deref(), Some(fix), "{text}");
    }
    for (name, value, key, fix) in [
        ("ALIGNER__KAFKA", "zk:1", "kafka", brokers),
        ("ALIGNER__KAFKA", "", "kafka", brokers),
        ("ALIGNER__TOPICS", "[[a], b, c, d]", "topics", answers),
        (
            "ALIGNER__KAFKA__PROPERTIES",
            "a",
            "kafka.properties",
            protocol,
        ),
        (
            "ALIGNER__KAFKA__PROPERTY_FILES",
            "a",
            "kafka.property_files",
            password,
        ),
    ] {
        let layers = Layers {
            environment: vec![(name.into(), value.into())],
            ..Layers::default()
        };
        let Problems(problems) = read(&layers).expect_err("a section is no value");
        assert_eq!(problems.len(), 1, "{name}: {problems:?}");
        assert_eq!(problems[0].key, key);
        assert!(problems[0].message.contains(name), "{problems:?}");
        assert_eq!(problems[0].fix.as_deref(), Some(fix), "{name}");
    }
}

#[test]
fn a_section_may_be_a_mapping_or_say_nothing() {
    for text in [
        "kafka: {bootstrap_servers: 'a:1'}\n",
        "kafka:\ntopics: {}\ninput:\n  fields:\n",
        "kafka: {properties: null, property_files: {}}\n",
        "kafka: {properties: {broker.address.family: v4}}\n",
    ] {
        let file = file(".yaml", text);
        read(&layers(&file)).unwrap_or_else(|problems| panic!("{text}: {problems}"));
    }
}

#[test]
fn what_stands_in_place_of_a_section_with_secrets_is_not_repeated() {
    for text in [
        "kafka: [hunter2]\n",
        "kafka: {properties: 'sasl.password=hunter2'}\n",
        "formats: {schema_registry: ['http://ada:hunter2@host']}\n",
        "aligner: {remote: [a, b, hunter2]}\n",
        "aligner: {remote: {url: ['http://ada:hunter2@host']}}\n",
        "telemetry: {otlp_endpoint: ['http://ada:hunter2@host']}\n",
    ] {
        let file = file(".yaml", text);
        let problems = read(&layers(&file)).expect_err("a section is no value");
        assert!(!problems.to_string().contains("hunter2"), "{problems}");
    }
}

#[test]
fn a_secret_of_the_wrong_type_is_not_repeated() {
    let file = file(".yaml", "kafka: {properties: {sasl.password: [hunter2]}}\n");
    let problems = read(&layers(&file)).expect_err("a list is no password");
    assert!(!problems.to_string().contains("hunter2"), "{problems}");
}

#[test]
fn a_section_is_read_alone_whatever_others_need_and_misspelt_ones_are_told() {
    let input = "input: {fields: {question: /q, answer: /a}}\n";
    let elsewhere = file(
        ".yaml",
        &format!(
            "{input}kafka: {{property_files: {{sasl.password: /no/such/file}}}}\n\
             aligner: {{model: /no/such/folder}}\n"
        ),
    );
    read(&layers(&elsewhere)).expect_err("its files lie on other machines");
    let settings = read_sections(&layers(&elsewhere), &["input"]).expect("input is complete");
    assert_eq!(settings.input.fields.question, Some("/q".into()));
    assert!(settings.kafka.property_files.is_empty());

    let misspelt = file(".yaml", "inptu: {fields: {question: /q}}\n");
    let Problems(problems) =
        read_sections(&layers(&misspelt), &["input"]).expect_err("no such section");
    assert_eq!(problems[0].fix.as_deref(), Some("did you mean input?"));

    let half = file(".yaml", "input: {fields: {question: /q}}\n");
    let Problems(problems) =
        read_sections(&layers(&half), &["input"]).expect_err("no answer is mapped");
    assert_eq!(problems[0].key, "input.fields.answer");
}

#[test]
fn what_was_written_must_have_an_effect_and_defaults_need_none() {
    let pipeline = "pipeline: {close_timeout_ms: 3000}\n";
    let shorter = file(".yaml", pipeline);
    read(&layers(&shorter)).expect("nobody wrote how long leaving may take");
    let text = format!("kafka: {{close_timeout_ms: 5000}}\n{pipeline}");
    let both = file(".yaml", &text);
    let Problems(problems) = read(&layers(&both)).expect_err("it would be cut off");
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].key, "kafka.close_timeout_ms");
    read_sections(&layers(&both), &["pipeline"]).expect("nothing is left");
    let layers = Layers {
        environment: vec![("ALIGNER__KAFKA__SESSION_TIMEOUT_MS".into(), "6000".into())],
        flags: vec![(
            "kafka.properties.group.protocol".to_owned(),
            "consumer".to_owned(),
        )],
        ..Layers::default()
    };
    let Problems(problems) = read(&layers).expect_err("the brokers decide it");
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].key, "kafka.session_timeout_ms");
}

#[test]
fn a_file_that_cannot_be_read_hides_no_other_problem() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let latin1 = folder.path().join("latin1.yaml");
    std::fs::write(&latin1, b"name: caf\xe9\n").expect("written");
    for (path, cause) in [
        (folder.path().join("no-such.yaml"), "cannot be read"),
        (folder.path().to_owned(), "cannot be read"),
        (latin1, "not UTF-8"),
    ] {
        let layers = Layers {
            file: Some(path.clone()),
            flags: vec![("kafak".to_owned(), "x".to_owned())],
            ..Layers::default()
        };
        let Problems(problems) = read(&layers).expect_err("no file");
        assert_eq!(problems[0].value, Some(path.display().to_string()));
        assert!(
            problems[0].message.contains(cause),
            "{}",
            problems[0].message
        );
        assert_eq!(problems[1].key, "kafak");
    }
}
