//! `train` and `eval`, from the bundled Aligner to one of the user's own.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    os::unix::fs::symlink,
    process::{Child, ChildStderr, Command, Stdio},
    thread,
    time::Duration,
};

use aligner_tests::{command::call, connector::binary, process::Signal, scratch::Scratch};
use serde_json::{Value, json};

const NOUNS: [&str; 16] = [
    "apple", "bridge", "candle", "desert", "engine", "forest", "garden", "harbour", "island",
    "jacket", "kettle", "ladder", "meadow", "needle", "orange", "pepper",
];

/// A rule of the house that the bundled model has never heard of: nobody is called folks.
fn triples(numbers: std::ops::Range<usize>) -> String {
    numbers
        .map(|number| {
            let (a, b) = (
                NOUNS[number % 16],
                NOUNS[(number / 16 + 5 * number + 3) % 16],
            );
            let answer = |folks: &str| format!("A {a} is not a {b}{folks}. It is older.");
            let triple = json!({
                "question": format!("Is a {a} a {b}?"),
                "answer": answer(", folks"),
                "correction": answer(""),
            });
            format!("{triple}\n")
        })
        .collect()
}

/// A rule that adds words which the bundled model's guard knows nothing of.
fn asking(numbers: std::ops::Range<usize>) -> String {
    triples(numbers)
        .lines()
        .map(|line| {
            let mut triple: Value = serde_json::from_str(line).expect("JSON");
            let answer = triple["answer"].as_str().expect("text");
            triple["correction"] = format!("{answer} Kindly verify with our librarian.").into();
            format!("{triple}\n")
        })
        .collect()
}

/// The one JSON object that a command printed.
fn report(stdout: &str) -> Value {
    serde_json::from_str(stdout).expect("one JSON object on stdout")
}

/// Teaches the bundled model a rule: what the run reported, the file of the sixteen triples that
/// were held out, and the folder of the new Aligner.
fn learn(
    scratch: &Scratch,
    rule: fn(std::ops::Range<usize>) -> String,
    recipe: &str,
    name: &str,
) -> (Value, String, String) {
    let path = |name: &str| scratch.path().join(name).display().to_string();
    scratch.file("train.jsonl", rule(0..80));
    scratch.file("validation.jsonl", rule(80..96));
    scratch.file("recipe.json", recipe);
    let (train, validation) = (path("train.jsonl"), path("validation.jsonl"));
    let (recipe, output) = (path("recipe.json"), path(name));
    #[rustfmt::skip]
    let trained = call(&[
        "train", "--data", &train, "--validation", &validation, "--recipe", &recipe, "--output", &output,
    ])
    .expect_code(0);
    (report(&trained.stdout), validation, output)
}

/// A file of triples, and where what is made of it goes.
fn data_and_output(scratch: &Scratch, triples: String) -> (String, String) {
    let data = scratch.file("train.jsonl", triples);
    let output = scratch.path().join("mine");
    (data.display().to_string(), output.display().to_string())
}

#[test]
fn eighty_examples_teach_the_bundled_model_a_rule_of_the_house() {
    let scratch = Scratch::new("train");
    let recipe = r#"{"warmup_steps": 2, "validate_every_steps": 4, "batch_tokens": 768, "identity_share": 0,
            "learning_rate": 0.0003, "steps": 8}"#;
    let (trained, validation, mine) = learn(&scratch, triples, recipe, "mine");
    let before = trained["first_validation_loss"].as_f64().expect("a loss");
    let after = trained["best_validation"]["loss"].as_f64().expect("a loss");
    assert!(after < 0.5 * before, "{trained}");

    #[rustfmt::skip]
    let compared = call(&[
        "eval", "--model", &mine, "--against", "bundled", "--data", &validation, "--json",
    ])
    .expect_code(0);
    let compared = report(&compared.stdout);
    // `a` is the one that was trained.
    assert_eq!(compared["kinds"]["faulty"]["winner"], "a", "{compared}");
}

#[test]
fn what_a_rule_adds_passes_the_guard_of_the_aligner_that_learnt_it() {
    let scratch = Scratch::new("train-adding");
    let recipe = r#"{"warmup_steps": 2, "validate_every_steps": 8, "batch_tokens": 768, "identity_share": 0,
            "learning_rate": 0.001, "steps": 24}"#;
    let (trained, validation, mine) = learn(&scratch, asking, recipe, "librarian");
    let delivered = trained["delivered"].as_f64();
    assert!(delivered > Some(0.5), "{trained}");

    // What the run reports is what the connector delivers.
    let evaluated =
        call(&["eval", "--model", &mine, "--data", &validation, "--json"]).expect_code(0);
    let evaluated = report(&evaluated.stdout);
    assert_eq!(evaluated["aligner"]["name"], "librarian");
    let exact = evaluated["all"]["faulty"]["exact"]["share"].as_f64();
    assert!(
        (exact.expect("a share") - delivered.expect("a share")).abs() < 0.07,
        "{exact:?} of the corrections are delivered, and the run said {delivered:?}"
    );
}

#[test]
fn what_a_run_cannot_teach_or_show_is_said_with_a_fix() {
    let unclean = "no answer in the data is clean";
    let cases: [(usize, &[&str]); 2] = [
        (1, &["no triple was validated on", unclean]),
        (4, &["validated on 1 only", "give more --epochs", unclean]),
    ];
    for (count, said) in cases {
        // One step does not teach to begin with words from nowhere.
        let odd = triples(0..count).replace(r#""correction":""#, r#""correction":"Zyx wub. "#);
        let scratch = Scratch::new(&format!("train-warnings-{count}"));
        let (data, output) = data_and_output(&scratch, odd);
        #[rustfmt::skip]
        let done = call(&[
            "train", "--data", &data, "--output", &output, "--epochs", "1", "--identity-share", "0",
        ])
        .expect_code(0);
        let outcome = report(&done.stdout);
        assert_eq!(outcome["steps"], 1, "as many epochs as were asked for");
        assert_eq!(outcome["clean_triples"], 0, "{outcome}");
        for words in said {
            assert!(done.stderr.contains(words), "{words}: {}", done.stderr);
        }
    }
}

#[test]
fn a_run_that_bettered_nothing_says_that_the_base_was_written() {
    let scratch = Scratch::new("train-worse");
    // What is held out contradicts what is taught.
    let odd = triples(0..4).replace(r#""correction":""#, r#""correction":"Zyx wub. "#);
    let clean: String = triples(0..4)
        .lines()
        .map(|line| {
            let mut triple: Value = serde_json::from_str(line).expect("JSON");
            triple["correction"] = triple["answer"].clone();
            format!("{triple}\n")
        })
        .collect();
    let (data, output) = data_and_output(&scratch, odd);
    let held_out = scratch.file("held-out.jsonl", clean).display().to_string();
    #[rustfmt::skip]
    let done = call(&[
        "train", "--data", &data, "--validation", &held_out, "--output", &output,
        "--steps", "8", "--identity-share", "0", "--learning-rate", "0.001",
    ])
    .expect_code(0);
    let outcome = report(&done.stdout);
    assert_eq!(outcome["best_validation"]["step"], 0, "{outcome}");
    let said = "warning: nothing that was trained was better than the base";
    assert!(done.stderr.contains(said), "{}", done.stderr);
}

#[test]
fn an_aligner_is_written_though_stdout_is_full() {
    let scratch = Scratch::new("train-full");
    let (data, output) = data_and_output(&scratch, triples(0..2));
    let full = File::options()
        .write(true)
        .open("/dev/full")
        .expect("linux has one");
    #[rustfmt::skip]
    let done = Command::new(binary())
        .args(["train", "--data", &data, "--output", &output, "--steps", "1", "--identity-share", "0"])
        .stdout(full)
        .output()
        .expect("the binary can be started");
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    let weights = scratch.path().join("mine/model.safetensors");
    assert!(weights.is_file(), "{done:?}");
}

#[test]
fn a_recipe_from_scratch_keeps_what_its_file_does_not_say() {
    let scratch = Scratch::new("train-recipe");
    let (data, output) = data_and_output(&scratch, triples(0..4));
    let recipe = scratch.file("recipe.json", r#"{"steps": 1}"#);
    let recipe = recipe.display().to_string();
    #[rustfmt::skip]
    let done = call(&[
        "train", "--from", "scratch", "--data", &data, "--recipe", &recipe, "--output", &output,
    ])
    .expect_code(0);
    assert_eq!(report(&done.stdout)["steps"], 1, "{}", done.stdout);
    let record = fs::read_to_string(scratch.path().join("mine/training.json"));
    let record = report(&record.expect("it was written"));
    // Both are of the recipe from scratch, and continuing has others.
    assert_eq!(record["recipe"]["learning_rate"], 0.0015, "{record}");
    assert_eq!(record["recipe"]["identity_target"], "copy", "{record}");

    let unknown = scratch.file("unknown.json", r#"{"step": 1}"#);
    let unknown = unknown.display().to_string();
    #[rustfmt::skip]
    let done = call(&[
        "train", "--from", "scratch", "--data", &data, "--recipe", &unknown, "--output", &output,
    ])
    .expect_code(2);
    let said = "unknown field `step`";
    assert!(done.stderr.contains(said), "{}", done.stderr);
}

#[test]
fn wrong_words_are_2_and_named_by_their_flags() {
    let scratch = Scratch::new("train-words");
    let (data, mine) = data_and_output(&scratch, triples(0..2));
    let recipe = scratch.file("recipe.json", r#"{"max_tokens": 0}"#);
    let recipe = recipe.display().to_string();
    let cases: [(&str, &[&str], &str); 5] = [
        (&data, &[], "is a file: name a folder"),
        (
            &mine,
            &["--recipe", &recipe],
            "max_tokens is 0, expected at least 1",
        ),
        (
            &mine,
            &["--from", "nope"],
            "--from nope is no folder, expected bundled, scratch, or the folder of a Llama",
        ),
        (
            &mine,
            &["--learning-rate", "-1"],
            "learning_rate is -1, expected",
        ),
        (
            &mine,
            &["--steps", "8", "--epochs", "2"],
            "cannot be used with",
        ),
    ];
    for (output, words, said) in cases {
        let mut arguments = vec!["train", "--data", &data, "--output", output];
        arguments.extend(words);
        let done = call(&arguments).expect_code(2);
        assert!(done.stderr.contains(said), "{said}: {}", done.stderr);
    }
}

#[test]
fn data_that_cannot_be_read_is_named_with_its_option() {
    let scratch = Scratch::new("train-absent");
    let (data, mine) = data_and_output(&scratch, triples(0..2));
    let absent = "/no/such/file";
    for (data, validation, flag) in [
        (absent, data.as_str(), "--data"),
        (data.as_str(), absent, "--validation"),
    ] {
        #[rustfmt::skip]
        let done = call(&[
            "train", "--data", data, "--validation", validation, "--output", &mine,
        ])
        .expect_code(1);
        let said = format!("{flag} {absent} cannot be opened: No such file or directory");
        assert!(done.stderr.contains(&said), "{}", done.stderr);
        assert!(done.stderr.contains("check the path"), "{}", done.stderr);
    }
    let folder = scratch.path().display().to_string();
    for (arguments, said) in [
        (
            ["--data", &folder, "--output", &mine],
            format!("--data {folder} is a folder: name a file in it"),
        ),
        (
            ["--data", &data, "--output", "/proc/mine"],
            "--output /proc/mine cannot be written: ".to_owned(),
        ),
    ] {
        let done = call(&[&["train"][..], &arguments].concat()).expect_code(1);
        assert!(done.stderr.contains(&said), "{said}: {}", done.stderr);
    }
    #[rustfmt::skip]
    let done = call(&["train", "--data", &data, "--output", &mine, "--recipe", absent])
        .expect_code(1);
    let said = format!("--recipe {absent} cannot be opened");
    assert!(done.stderr.contains(&said), "{}", done.stderr);
}

#[test]
fn a_run_that_has_nothing_to_go_on_from_says_so() {
    let scratch = Scratch::new("train-anew");
    let (_data, mine) = data_and_output(&scratch, triples(0..2));
    let said = format!("{mine} holds no checkpoint: beginning anew");
    // Data that is not there ends both before anything is trained.
    let arguments = ["train", "--data", "/no/such/file", "--output", &mine];
    let done = call(&[&arguments[..], &["--resume"]].concat()).expect_code(1);
    assert!(done.stderr.contains(&said), "{}", done.stderr);
    let done = call(&arguments).expect_code(1);
    assert!(!done.stderr.contains(&said), "{}", done.stderr);
}

#[test]
fn triples_that_are_trained_on_may_not_validate_by_any_name() {
    let scratch = Scratch::new("train-twice");
    let (data, mine) = data_and_output(&scratch, triples(0..2));
    let other = scratch.path().join("link.jsonl").display().to_string();
    fs::hard_link(&data, &other).expect("one folder");
    for validation in [&data, &other] {
        #[rustfmt::skip]
        let done = call(&[
            "train", "--data", &data, "--validation", validation, "--output", &mine,
        ])
        .expect_code(2);
        let said = format!("--validation {validation} is the file of --data, too");
        assert!(done.stderr.contains(&said), "{}", done.stderr);
    }
}

#[test]
fn a_run_does_not_write_over_what_it_reads() {
    let scratch = Scratch::new("train-over");
    let (data, mine) = data_and_output(&scratch, triples(0..4));
    let at = |name: &str| scratch.path().join(name).display().to_string();
    for folder in [&mine, &at("base")] {
        fs::create_dir(folder).expect("a new folder");
    }
    let (record, part) = (at("mine/training.json"), at("mine/model.part"));
    let config = at("mine/config.json");
    let files = [
        (&record, triples(0..4)),
        (&part, triples(4..8)),
        (&config, r#"{"steps": 1}"#.to_owned()),
    ];
    for (path, text) in &files {
        fs::write(path, text).expect("a file of our own");
    }
    let (link, base) = (at("link.jsonl"), at("base"));
    symlink(&record, &link).expect("a new name");
    symlink(&part, at("base/tokenizer.json")).expect("a new name");
    let cases: [(&[&str], &str, &str); 5] = [
        (&["--data", &record], &record, "--data"),
        (&["--data", &part], &part, "--data"),
        (
            &["--data", &data, "--validation", &link],
            &record,
            "--validation",
        ),
        (&["--data", &data, "--recipe", &config], &config, "--recipe"),
        (&["--data", &data, "--from", &base], &part, "--from"),
    ];
    for (words, file, flag) in cases {
        let arguments = [&["train", "--output", &mine, "--steps", "1"][..], words].concat();
        let done = call(&arguments).expect_code(2);
        let said = format!("--output {file} is the file of {flag}, too: name another one");
        assert!(done.stderr.contains(&said), "{said}: {}", done.stderr);
    }
    for (path, text) in &files {
        let left = fs::read_to_string(path).expect("it is still there");
        assert_eq!(&left, text, "{path}");
    }
    let written = scratch.path().join("mine/aligner.json");
    assert!(!written.exists(), "nothing is written");
}

#[test]
fn a_folder_with_a_model_is_2_and_left_as_it_is() {
    let scratch = Scratch::new("train-model-there");
    let (data, mine) = data_and_output(&scratch, triples(0..4));
    fs::create_dir(&mine).expect("a new folder");
    let weights = scratch.path().join("mine/model.safetensors");
    fs::write(&weights, "theirs").expect("a file of our own");
    let cases: [&[&str]; 2] = [&[], &["--resume"]];
    for words in cases {
        let arguments = [&["train", "--data", &data, "--output", &mine][..], words].concat();
        let done = call(&arguments).expect_code(2);
        let said = "which holds a model, and no checkpoint of a run to resume; give another folder";
        assert!(done.stderr.contains(said), "{}", done.stderr);
        assert!(!done.stderr.contains("beginning anew"), "{}", done.stderr);
    }
    assert_eq!(fs::read(&weights).expect("is there"), b"theirs");
    let left = fs::read_dir(&mine).expect("is there").count();
    assert_eq!(left, 1, "nothing is written");
}

#[test]
fn a_sample_of_a_long_validation_file_and_what_it_repeats_are_told() {
    let scratch = Scratch::new("train-sample");
    let (data, mine) = data_and_output(&scratch, triples(0..4));
    let held_out = scratch.file("held-out.jsonl", triples(0..12));
    let held_out = held_out.display().to_string();
    let recipe = scratch.file("recipe.json", r#"{"validation_limit": 11}"#);
    let recipe = recipe.display().to_string();
    #[rustfmt::skip]
    let done = call(&[
        "train", "--data", &data, "--validation", &held_out, "--recipe", &recipe, "--output", &mine,
        "--steps", "1", "--identity-share", "0",
    ])
    .expect_code(0);
    assert!(
        done.stderr.contains("validated on 11 of 12 rows"),
        "{}",
        done.stderr
    );
    let said = "of 11 validation rows are among those that are trained on";
    assert!(done.stderr.contains(said), "{}", done.stderr);
}

/// A run without an end, after its first step, and what it has said by then.
fn begun(data: &str, output: &str) -> (Child, BufReader<ChildStderr>, String) {
    #[rustfmt::skip]
    let mut child = Command::new(binary())
        .args(["train", "--data", data, "--output", output, "--steps", "100000"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary can be started");
    let mut stderr = BufReader::new(child.stderr.take().expect("stderr was asked for"));
    let mut said = String::new();
    while !said.contains("step 1/100000") {
        let read = stderr.read_line(&mut said).expect("stderr is text");
        assert_ne!(read, 0, "it ended by itself: {said}");
    }
    (child, stderr, said)
}

#[test]
fn a_run_whose_stderr_nobody_reads_goes_on_and_stops_when_it_is_told_to() {
    let scratch = Scratch::new("train-unread");
    let (data, mine) = data_and_output(&scratch, triples(0..4));
    let (mut child, stderr, _) = begun(&data, &mine);
    drop(stderr);
    // Longer than until it has something to say again.
    thread::sleep(Duration::from_secs(6));
    assert_eq!(child.try_wait().expect("our own child"), None);
    Signal::Term.send(&child);
    let status = child.wait().expect("our own child can be waited for");
    assert_eq!(status.code(), Some(130));
    let done = call(&[
        "train", "--data", &data, "--output", &mine, "--steps", "1", "--resume",
    ]);
    assert!(
        !done.stderr.contains("holds no checkpoint"),
        "{}",
        done.stderr
    );
}

#[test]
fn an_interrupted_run_is_130_and_goes_on_as_what_it_began() {
    let scratch = Scratch::new("train-interrupted");
    let (data, mine) = data_and_output(&scratch, triples(0..4));
    let (mut child, mut stderr, mut said) = begun(&data, &mine);
    Signal::Int.send(&child);
    stderr.read_to_string(&mut said).expect("stderr is text");
    let status = child.wait().expect("our own child can be waited for");
    assert_eq!(status.code(), Some(130), "{said}");
    assert!(said.contains("--resume continues there"), "{said}");

    // What was asked for and is not the run's is not passed over.
    for (flag, other, said) in [
        (
            "--from",
            "scratch",
            "made with base bundled, now it is random weights",
        ),
        ("--name", "other", "made with name mine, now it is other"),
    ] {
        #[rustfmt::skip]
        let done = call(&[
            "train", "--data", &data, "--output", &mine, "--steps", "100000", "--resume", flag, other,
        ])
        .expect_code(1);
        assert!(done.stderr.contains(said), "{said}: {}", done.stderr);
    }
}
