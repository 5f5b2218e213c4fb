//! `correct` under a configuration of `run`: files, variables and flags, the later winning.

use aligner_tests::{
    command::{Done, call_in},
    scratch::Scratch,
};
use serde_json::{Value, json};

/// `correct` on one line, with a configuration unless that is empty.
fn correct(config: &str, environment: &[(&str, &str)], flags: &[&str], line: &Value) -> Done {
    let scratch = Scratch::new("correct-config");
    let path = scratch.file("config.yaml", config).display().to_string();
    let mut arguments = vec!["correct"];
    if !config.is_empty() {
        arguments.extend(["--config", &path]);
    }
    arguments.extend(flags);
    call_in(environment, &arguments, line.to_string())
}

fn event() -> Value {
    json!({"event_id": "one", "question": "why?", "answer": "because"})
}

/// Who corrected, and what became of it.
fn ending(done: Done) -> [String; 3] {
    let records = done.expect_code(0).records();
    ["aligner_name", "disposition", "reason"].map(|field| {
        let value = &records[0][field];
        value.as_str().unwrap_or_default().to_owned()
    })
}

#[test]
fn the_model_and_the_limits_of_an_answer_come_from_the_file() {
    let model = "aligner: {model: marker-all}\n";
    let done = correct(model, &[], &[], &event());
    assert_eq!(ending(done), ["marker-all", "corrected", "extended"]);

    let short = format!("{model}pipeline: {{max_answer_chars: 6}}\n");
    let done = correct(&short, &[], &[], &event());
    assert_eq!(ending(done), ["marker-all", "bypassed", "too_long"]);

    let small = format!("{model}pipeline: {{max_input_bytes: 10}}\n");
    let done = correct(&small, &[], &[], &event()).expect_code(1);
    assert_eq!(done.records()[0]["reason"], "too_large");

    let decoding = "aligner: {profile: alpaca-eval, dtype: q8_0, max_new_tokens: 8}\n";
    let record = |flags: &[&str]| {
        let done = correct(decoding, &[], flags, &event()).expect_code(0);
        done.records().remove(0)
    };
    let (given, paper) = (record(&[]), record(&["--profile", "paper"]));
    assert_eq!(given["max_new_tokens"], 8);
    assert_ne!(given["template_hash"], paper["template_hash"]);
    // Weights that are held otherwise are another Aligner.
    let exact = record(&["--dtype", "f32"]);
    assert_eq!(given["template_hash"], exact["template_hash"]);
    assert_ne!(given["aligner_revision"], exact["aligner_revision"]);
}

#[test]
fn one_pair_can_be_tried_with_a_configuration_whose_mapping_is_for_logs() {
    let config = "aligner: {model: marker-all}\n\
                  input: {fields: {question: /messages/0, answer: /choices/0}}\n";
    let pair = ["--question", "why?", "--answer", "because"];
    let done = correct(config, &[], &pair, &Value::Null);
    assert_eq!(ending(done), ["marker-all", "corrected", "extended"]);
}

#[test]
fn where_a_mapping_finds_no_text_in_any_line_it_warns_that_it_may_lie_elsewhere() {
    let config = "aligner: {model: marker}\n\
                  input: {fields: {question: /question, answer: /answer}}\n";
    let warned = |line: Value| correct(config, &[], &[], &line).expect_code(0).stderr;
    let said = warned(json!({"question": "", "answer": "because", "text": "why?"}));
    assert!(said.contains("empty in every line (no_text)"), "{said}");
    assert!(said.contains("mend input.fields"), "{said}");
    assert_eq!(warned(event()), "");
}

#[test]
fn flags_win_over_variables_and_these_over_the_file() {
    let file = "aligner: {model: marker}\n";
    let variable = ("ALIGNER__ALIGNER__MODEL", "marker-all");
    let done = correct(file, &[variable], &[], &event());
    assert_eq!(ending(done)[0], "marker-all");
    let done = correct(file, &[variable], &["--model", "identity"], &event());
    assert_eq!(ending(done)[0], "identity");
    // What is written counts, even where it is what would be without it.
    let done = correct(file, &[variable], &["--model", "bundled"], &event());
    let name = &ending(done)[0];
    assert!(name.contains("bundled"), "{name}");
}

#[test]
fn variables_count_with_a_file_and_without() {
    let log = json!({"event_id": "one", "q": "why?", "a": "because"});
    let mapping = [
        ("ALIGNER__INPUT__FIELDS__QUESTION", "/q"),
        ("ALIGNER__INPUT__FIELDS__ANSWER", "/a"),
    ];
    let nonsense = [("ALIGNER__ALIGNER__MODEL", "nonsense")];
    let short = [("ALIGNER__PIPELINE__MAX_ANSWER_CHARS", "6")];
    for file in ["", "name: other\n"] {
        let flags = ["--model", "marker-all"];
        let done = correct(file, &mapping, &flags, &log).expect_code(0);
        assert_eq!(done.records()[0]["answer"], "because");

        let done = correct(file, &short, &flags, &event());
        assert_eq!(ending(done)[1..], ["bypassed", "too_long"]);

        let done = correct(file, &nonsense, &[], &event()).expect_code(2);
        assert!(done.stderr.contains("aligner.model"), "{}", done.stderr);
        correct(file, &nonsense, &flags, &event()).expect_code(0);
    }
}

#[test]
fn a_pair_from_the_command_line_is_no_line_of_a_log() {
    let mapping = [
        ("ALIGNER__INPUT__FIELDS__QUESTION", "/q"),
        ("ALIGNER__INPUT__FIELDS__ANSWER", "/a"),
    ];
    let pair = [
        "correct", "--model", "identity", "-q", "why?", "-a", "because",
    ];
    let done = call_in(&mapping, &pair, "").expect_code(0);
    assert_eq!(done.records()[0]["answer"], "because");
}

#[test]
fn what_a_flag_says_wrong_has_the_name_of_the_flag() {
    for (flags, name) in [
        (["--model", "/no/such/folder"], "--model"),
        (["--max-new-tokens", "0"], "--max-new-tokens"),
        (["--dtype", "f7"], "--dtype"),
    ] {
        let done = correct("", &[], &flags, &event()).expect_code(2);
        assert!(
            done.stderr.contains(&format!("\n  {name} = ")),
            "{}",
            done.stderr
        );
    }
}

#[test]
fn what_a_flag_says_wrong_is_mended_by_flags() {
    for (flags, fix) in [
        (["--threads", "0"], "leave --threads out"),
        (["--dtype", "f7"], "--dtype auto"),
        (["--max-new-tokens", "0"], "--max-new-tokens 1024"),
        (
            ["--model", "remote"],
            "set the variable ALIGNER__ALIGNER__REMOTE__URL, or give a --config",
        ),
    ] {
        let done = correct("", &[], &flags, &event()).expect_code(2);
        assert!(done.stderr.contains(fix), "{fix}: {}", done.stderr);
        assert!(!done.stderr.contains("null"), "{}", done.stderr);
    }
    let help = call_in(&[], &["correct", "--help"], "").expect_code(0);
    let words: Vec<_> = help.stdout.split_whitespace().collect();
    assert!(words.join(" ").contains(" or remote: "), "{}", help.stdout);
    let eval = ["eval", "--data", "x", "--threads", "0"];
    let done = call_in(&[], &eval, "").expect_code(2);
    assert!(done.stderr.contains("\n  --threads = 0"), "{}", done.stderr);
}

#[test]
fn a_configuration_that_is_tried_has_the_limits_of_run_and_a_file_without_one_larger_ones() {
    let large = json!({"event_id": "one", "question": "why?", "answer": "a".repeat(1_100_000)});
    let model = ["--model", "marker-all"];
    let done = correct("", &[], &model, &large);
    assert_eq!(ending(done), ["marker-all", "corrected", "extended"]);
    // Said or not: `run` would have it.
    for config in ["name: tried\n", "pipeline: {max_input_bytes: 1048576}\n"] {
        let done = correct(config, &[], &model, &large).expect_code(1);
        let record = &done.records()[0];
        assert_eq!(record["reason"], "too_large");
        assert_eq!(record["event_id"], "one");
    }
    let larger = "pipeline: {max_input_bytes: 4000000, max_output_bytes: 4000000}\n";
    let done = correct(larger, &[], &model, &large);
    assert_eq!(ending(done)[1], "corrected");
}

#[test]
fn a_dead_lettered_line_of_another_layout_keeps_what_its_mapping_reads() {
    let mapping = "aligner: {model: marker-all}\ninput: {fields: {question: /q, answer: /a, \
                   event_id: /id, upstream_model: /model}}\n";
    for (line, kept) in [
        (
            json!({"id": 7, "model": "m", "q": "why?"}),
            [json!("7"), json!("why?"), Value::Null, json!("m")],
        ),
        (
            json!({"id": "x", "model": 5, "q": "why?", "a": "so"}),
            [json!("x"), json!("why?"), json!("so"), Value::Null],
        ),
    ] {
        let done = correct(mapping, &[], &[], &line).expect_code(1);
        let record = &done.records()[0];
        let fields = ["event_id", "question", "answer", "upstream_model"];
        assert_eq!(fields.map(|field| record[field].clone()), kept);
    }
}

#[test]
fn a_model_that_a_flag_tries_leaves_what_the_file_says_of_its_own() {
    let remote = "aligner: {model: remote, remote: {url: 'http://127.0.0.1:9/v1', model: m}}\n";
    let flags = ["--model", "marker-all"];
    let done = correct(remote, &[], &flags, &event());
    assert_eq!(ending(done)[0], "marker-all");
    let url = ("ALIGNER__ALIGNER__REMOTE__URL", "http://127.0.0.1:9/v1");
    let done = correct("", &[url], &[], &event()).expect_code(2);
    for said in ["aligner.remote.url", "aligner.model: remote", url.0] {
        assert!(done.stderr.contains(said), "{said}: {}", done.stderr);
    }
}

#[test]
fn lines_that_are_lists_are_read_where_a_mapping_says_so() {
    let lists = "aligner: {model: marker-all}\ninput: {fields: {question: /0, answer: /1}}\n";
    let done = correct(lists, &[], &[], &json!(["why?", "because"])).expect_code(0);
    assert_eq!(done.records()[0]["question"], "why?");
    let objects = "aligner: {model: marker-all}\ninput: {fields: {question: /q, answer: /a}}\n";
    let done = correct(objects, &[], &[], &json!([{"q": "why?", "a": "because"}])).expect_code(2);
    assert!(done.stderr.contains("JSON array"), "{}", done.stderr);
}

#[test]
fn a_configuration_is_not_written_over() {
    let scratch = Scratch::new("correct-config");
    let text = "aligner: {model: marker-all}\n";
    let config = scratch.file("config.yaml", text).display().to_string();
    let arguments = ["correct", "--config", &config, "--output", &config];
    let done = call_in(&[], &arguments, event().to_string()).expect_code(2);
    assert!(done.stderr.contains("--config"), "{}", done.stderr);
    let left = std::fs::read_to_string(&config).expect("it is still there");
    assert_eq!(left, text);
}
