//! Whole runs of a tiny model, on the CPU.

use std::{
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use aligner_training::{
    Base, DeviceChoice, Ended, IdentityTarget, Outcome, Phase, Precision, Progress, Recipe,
    Scratch, TrainOptions, train,
};
use tempfile::TempDir;

/// A run's files.
struct Bench {
    folder: TempDir,
}

const CONFIG: &str = r#"{
    "architectures": ["LlamaForCausalLM"], "model_type": "llama",
    "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12,
    "vocab_size": 1, "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
    "hidden_act": "silu", "tie_word_embeddings": true, "torch_dtype": "float32"
}"#;

impl Bench {
    fn new() -> Self {
        let bench = Self {
            folder: tempfile::tempdir().expect("temporary folder"),
        };
        fs::write(bench.path("config.json"), CONFIG).expect("writes");
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn lines(&self, name: &str, lines: &[(&str, &str, &str)]) -> PathBuf {
        let text: String = lines
            .iter()
            .map(|(question, answer, correction)| {
                let line = serde_json::json!({
                    "question": question, "answer": answer, "correction": correction,
                });
                format!("{line}\n")
            })
            .collect();
        fs::write(self.path(name), text).expect("writes");
        self.path(name)
    }

    fn scratch(&self) -> Scratch {
        Scratch {
            config: Some(self.path("config.json")),
            vocabulary: 300,
            ..Scratch::default()
        }
    }

    /// From random weights with a profile of one's own, of which these are the other keys.
    fn profiled(&self, others: serde_json::Value) -> Base {
        let mut profile = serde_json::json!({
            "name": "own", "template": "<|question|>{question}<|answer|>{answer}<|correction|>",
        });
        let others = others.as_object().expect("keys and values").clone();
        profile.as_object_mut().expect("one").extend(others);
        fs::write(self.path("aligner.json"), profile.to_string()).expect("writes");
        Base::Scratch(Scratch {
            profile: Some(self.path("aligner.json")),
            ..self.scratch()
        })
    }

    fn options(&self, data: PathBuf, output: &str) -> TrainOptions {
        let base = Base::Scratch(self.scratch());
        let mut options = TrainOptions::new(base, vec![data], self.path(output));
        options.recipe = recipe();
        options
    }
}

fn recipe() -> Recipe {
    Recipe {
        steps: Some(60),
        batch_tokens: 256,
        learning_rate: 8e-3,
        warmup_steps: 8,
        weight_decay: 0.0,
        identity_share: 0.0,
        validation_share: 0.0,
        validate_every_steps: 10,
        patience: None,
        ..Recipe::from_scratch()
    }
}

const TRIPLES: [(&str, &str, &str); 6] = [
    ("Whom do I ask?", "Ask jo@mail.org.", "Ask [email]."),
    ("When?", "Come at noon.", "Come at noon."),
    ("Is it safe?", "It never fails.", "It rarely fails."),
    ("Who won?", "You fool, red won.", "Red won."),
    ("Where?", "At the desk.", "At the desk."),
    ("How?", "Call 555 1234.", "Call [phone]."),
];

const OTHERS: [(&str, &str, &str); 4] = [
    ("Whom do I ask?", "Ask al@post.net.", "Ask [email]."),
    ("Who lost?", "You fool, blue lost.", "Blue lost."),
    ("Is it fast?", "It never waits.", "It rarely waits."),
    ("When?", "Call 555 9876.", "Call [phone]."),
];

fn go(options: &TrainOptions) -> (Outcome, Vec<Progress>) {
    let mut seen = Vec::new();
    let outcome = train(options, &mut |progress| {
        seen.push(*progress);
        ControlFlow::Continue(())
    })
    .expect("trains");
    (outcome, seen)
}

fn weights(folder: &Path) -> Vec<u8> {
    fs::read(folder.join("model.safetensors")).expect("was written")
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).expect("was written")).expect("JSON")
}

fn message(options: &TrainOptions) -> String {
    let error = train(options, &mut |_| ControlFlow::Continue(())).expect_err("is refused");
    error.to_string()
}

#[test]
fn a_tiny_model_learns_a_few_triples_by_heart() {
    let bench = Bench::new();
    let data = bench.lines("data.jsonl", &TRIPLES);
    let mut options = bench.options(data.clone(), "out");
    options.validation = vec![data];
    options.recipe.steps = Some(200);
    options.recipe.learning_rate = 6e-3;
    let (outcome, seen) = go(&options);
    assert_eq!(outcome.ended, Ended::Completed);
    assert_eq!(
        (outcome.triples, outcome.skipped, outcome.step),
        (6, 0, 200)
    );
    assert!(seen[0].loss > 4.0, "{}", seen[0].loss);
    let best = outcome.best_validation.expect("validated").loss;
    assert!(best < 0.05, "{best}");
    assert_eq!(outcome.exact, Some(1.0));
    assert_eq!(outcome.clean_triples, 2);
    assert!(outcome.delivered_corrections.is_some());

    let out = bench.path("out");
    for file in [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "aligner.json",
        "model.safetensors",
        "training.json",
        "training-curve.svg",
    ] {
        assert!(out.join(file).is_file(), "{file}");
    }
    let written = options.written();
    for entry in fs::read_dir(&out).expect("was made") {
        let path = entry.expect("reads").path();
        let told = path.is_dir() || written.contains(&path);
        assert!(told, "{} is written and not told of", path.display());
    }
    let config = json(&out.join("config.json"));
    assert_eq!(config["eos_token_id"], 0);
    assert!(
        config["vocab_size"]
            .as_u64()
            .expect("number")
            .is_multiple_of(256)
    );
    let record = fs::read_to_string(out.join("training.json")).expect("reads");
    assert!(
        !record.contains(bench.folder.path().to_str().expect("plain")),
        "names no place"
    );
    for (_, answer, _) in TRIPLES {
        assert!(!record.contains(answer), "holds no text");
    }
}

#[test]
fn a_resumed_run_ends_with_the_same_bytes() {
    let bench = Bench::new();
    let data = bench.lines("data.jsonl", &TRIPLES);
    let mut straight = bench.options(data, "straight");
    straight.recipe.steps = Some(24);
    straight.recipe.batch_tokens = 64;
    straight.recipe.accumulation = 2;
    straight.recipe.identity_share = 0.25;
    straight.recipe.validation_share = 0.2;
    straight.recipe.validate_every_steps = 4;
    let (whole, _) = go(&straight);

    // Interrupted in the warm-up, and again after it, off any checkpoint's beat.
    let mut parts = straight.clone();
    parts.output = bench.path("parts");
    parts.checkpoint_every_steps = 5;
    for stop in [3, 13] {
        parts.stop_after_step = Some(stop);
        let (part, _) = go(&parts);
        assert_eq!((part.ended, part.step), (Ended::Interrupted, stop));
        assert!(!bench.path("parts/model.safetensors").exists());
        parts.resume = true;
    }
    parts.stop_after_step = None;
    let (rest, seen) = go(&parts);
    assert_eq!(seen[0].step, 14);
    let (best, expected) = (rest.best_validation, whole.best_validation);
    let (best, expected) = (best.expect("validated"), expected.expect("validated"));
    assert_eq!(best, expected);
    assert_eq!(rest.history, whole.history);
    assert_eq!(rest.tokens, whole.tokens);
    assert_eq!(weights(&parts.output), weights(&straight.output));

    // A finished run that is resumed has nothing left to do.
    let (again, seen) = go(&parts);
    assert_eq!((again.ended, seen.len()), (Ended::Completed, 0));
}

#[test]
fn a_finished_run_is_gone_on_from_by_another_one() {
    let bench = Bench::new();
    let data = bench.lines("data.jsonl", &TRIPLES);
    let mut options = bench.options(data, "out");
    options.recipe.steps = Some(2);
    go(&options);
    let out = bench.path("out").display().to_string();
    let said = format!(
        "output is {out}, which holds a finished run; to go on from it, name it by --from and \
         another folder by --output"
    );
    assert_eq!(message(&options), said);
    options.resume = true;
    options.recipe.steps = Some(4);
    let refused = message(&options);
    assert!(refused.contains("with steps 2, now it is 4"), "{refused}");
    let said =
        format!("to go on from what it made, begin another one by --from {out} and a new --output");
    assert!(refused.ends_with(&said), "{refused}");
    options.resume = false;
    options.base = Base::Folder(bench.path("out"));
    options.output = bench.path("next");
    assert_eq!(go(&options).0.ended, Ended::Completed);
}

#[test]
fn a_run_that_an_earlier_version_began_goes_on_with_its_longer_rise() {
    let bench = Bench::new();
    let data = bench.lines("data.jsonl", &TRIPLES);
    // The recipe's rise of 8 steps is more than a fifth of 10.
    for (output, is_earlier, rates) in [
        ("new", false, [1.0, 1.0]),
        ("earlier", true, [4.0 / 8.0, 5.0 / 8.0]),
    ] {
        let mut options = bench.options(data.clone(), output);
        options.recipe.steps = Some(10);
        options.stop_after_step = Some(3);
        go(&options);
        options.resume = true;
        if is_earlier {
            let state = bench.path("earlier/checkpoints/step-00000003/state.json");
            let mut without = json(&state);
            let removed = without
                .as_object_mut()
                .expect("keys")
                .remove("warmup_steps");
            assert_eq!(removed, Some(2.into()));
            fs::write(&state, without.to_string()).expect("writes");
        }
        // Interrupted once more: what goes on says no more than what was read.
        options.stop_after_step = Some(4);
        let (_, mut seen) = go(&options);
        options.stop_after_step = None;
        seen.extend(go(&options).1);
        let peak = options.recipe.learning_rate;
        let told = [&seen[0], &seen[1]].map(|progress| progress.learning_rate / peak);
        for (told, rate) in told.into_iter().zip(rates) {
            if is_earlier {
                assert!((told - rate).abs() < 1e-12, "{told} for {rate}");
            } else {
                assert!(told < rate, "it falls by now: {told}");
            }
        }
    }
}

#[test]
fn continuing_a_checkpoint_lowers_the_loss_on_new_data() {
    let bench = Bench::new();
    let data = bench.lines("data.jsonl", &TRIPLES);
    let mut first = bench.options(data, "first");
    first.precision = Some(Precision::F16);
    go(&first);

    // As the connector writes them: preference pairs.
    let pairs: String = OTHERS
        .iter()
        .map(|(prompt, rejected, chosen)| {
            let pair =
                serde_json::json!({"prompt": prompt, "rejected": rejected, "chosen": chosen});
            format!("{pair}\n")
        })
        .collect();
    fs::write(bench.path("pairs.jsonl"), pairs).expect("writes");
    let base = Base::Folder(bench.path("first"));
    let mut next = TrainOptions::new(base, vec![bench.path("pairs.jsonl")], bench.path("next"));
    next.validation = vec![bench.path("pairs.jsonl")];
    next.name = Some("next-aligner".into());
    next.recipe = Recipe {
        steps: Some(20),
        learning_rate: 2e-3,
        warmup_steps: 2,
        validate_every_steps: 5,
        identity_share: 0.1,
        ..Recipe::default()
    };
    let (outcome, _) = go(&next);
    let before = outcome.first_validation_loss.expect("validated");
    let after = outcome.best_validation.expect("validated").loss;
    assert!(after < 0.7 * before, "{before} to {after}");
    let profile = fs::read_to_string(bench.path("next/aligner.json")).expect("reads");
    assert!(profile.contains("next-aligner") && profile.contains("<|unchanged|>"));
    // The number format is the base's.
    assert!(weights(&bench.path("next")).len() < weights(&bench.path("first")).len() + 100);
    let record = json(&bench.path("next/training.json"));
    assert_eq!(record["base"], "first", "names no place");

    // The same from memory.
    let files = fs::read_dir(bench.path("first"))
        .expect("reads")
        .map(|entry| entry.expect("reads").path())
        .filter(|path| path.is_file())
        .map(|path| {
            let name = path
                .file_name()
                .expect("a file")
                .to_string_lossy()
                .into_owned();
            (name, fs::read(&path).expect("reads").into())
        })
        .collect();
    let mut embedded = next.clone();
    embedded.base = Base::Files {
        name: "embedded".into(),
        files,
    };
    embedded.output = bench.path("embedded");
    go(&embedded);
    assert_eq!(weights(&embedded.output), weights(&next.output));
}

#[test]
fn the_warm_up_trains_on_identity_pairs_first() {
    let bench = Bench::new();
    let data = bench.lines("data.jsonl", &TRIPLES);
    let mut options = bench.options(data, "out");
    options.recipe.steps = Some(10);
    options.recipe.identity_share = 0.3;
    options.recipe.identity_target = IdentityTarget::Token;
    let (_, seen) = go(&options);
    let phases: Vec<Phase> = seen.iter().map(|progress| progress.phase).collect();
    assert_eq!(phases[..3], [Phase::Identity; 3]);
    assert_eq!(phases[3..], [Phase::Residual; 7]);
    assert!(
        seen.iter()
            .all(|p| p.tokens_per_second > 0.0 && p.steps == 10)
    );
    assert_eq!(seen[9].left.as_secs(), 0);
}

#[test]
fn a_run_stops_early_when_validation_gets_no_better() {
    let bench = Bench::new();
    let data = bench.lines("data.jsonl", &TRIPLES);
    let mut options = bench.options(data, "out");
    // What is validated contradicts what is learnt.
    options.validation = vec![bench.lines("other.jsonl", &[("When?", "Come at noon.", "zzzzzz")])];
    options.recipe.steps = Some(200);
    options.recipe.validate_every_steps = 5;
    options.recipe.patience = Some(2);
    let (outcome, _) = go(&options);
    assert_eq!(outcome.ended, Ended::EarlyStopped);
    assert!(outcome.step < 200);
    let best = outcome.best_validation.expect("validated").step;
    assert_eq!(outcome.step, best + 10);
    options.resume = true;
    let (again, seen) = go(&options);
    assert_eq!((again.ended, seen.len()), (Ended::EarlyStopped, 0));
}

#[test]
fn patience_begins_when_the_warm_up_is_over() {
    let bench = Bench::new();
    let data = bench.lines("data.jsonl", &TRIPLES);
    let mut straight = bench.options(data, "straight");
    // Neither phase teaches what is validated.
    let other = bench.lines("other.jsonl", &[("When?", "Come at noon.", "zzzzzz")]);
    straight.validation = vec![other];
    straight.recipe.steps = Some(80);
    straight.recipe.identity_share = 0.5;
    straight.recipe.validate_every_steps = 4;
    straight.recipe.patience = Some(2);
    let (whole, seen) = go(&straight);
    let warm_up = seen.iter().filter(|p| p.phase == Phase::Identity);
    assert_eq!((whole.ended, warm_up.count()), (Ended::EarlyStopped, 40));
    let best = whole.best_validation.expect("validated").step;
    assert_eq!(whole.step, best.max(40) + 8);

    // Interrupted in the warm-up, and while patience runs.
    let mut parts = straight.clone();
    parts.output = bench.path("parts");
    for stop in [30, 46] {
        parts.stop_after_step = Some(stop);
        let (part, _) = go(&parts);
        assert_eq!((part.ended, part.step), (Ended::Interrupted, stop));
        parts.resume = true;
    }
    parts.stop_after_step = None;
    let (rest, _) = go(&parts);
    assert_eq!((rest.ended, rest.step), (whole.ended, whole.step));
    assert_eq!(weights(&parts.output), weights(&straight.output));
}

#[test]
fn without_a_warm_up_no_identity_pair_has_to_fit() {
    let bench = Bench::new();
    // A digit is a token, so a copy has eighty more; the corrections are short.
    let (one, two) = ("1".repeat(80), "2".repeat(80));
    let lines = [
        ("Who?", one.as_str(), "Me."),
        ("When?", two.as_str(), "Now."),
    ];
    let data = bench.lines("data.jsonl", &lines);
    let mut options = bench.options(data, "out");
    options.base = bench.profiled(serde_json::json!({}));
    options.recipe.steps = Some(4);
    options.recipe.identity_share = 0.25;
    assert_eq!(
        message(&options),
        "there is nothing to train on: each identity pair has more than 128 tokens; \
         raise max_tokens, or set identity_share to 0"
    );
    options.recipe.identity_share = 0.0;
    let (outcome, seen) = go(&options);
    assert_eq!((outcome.ended, seen.len()), (Ended::Completed, 4));
}

#[test]
fn the_guard_is_fitted_to_the_weights_as_they_are_written() {
    let bench = Bench::new();
    let data = bench.lines("data.jsonl", &TRIPLES);
    // No output is that sure, so both limits become what was measured.
    let own = bench.profiled(serde_json::json!({
        "unchanged_token": "<|unchanged|>",
        "guard": {"min_mean_logprob": 0.0, "min_token_logprob": 0.0},
    }));
    let mut first = bench.options(data.clone(), "first");
    first.base = own;
    first.validation = vec![data.clone()];
    first.precision = Some(Precision::Bf16);
    first.recipe.steps = Some(200);
    first.recipe.learning_rate = 6e-3;
    go(&first);
    let limits = |folder: &str| {
        let profile = json(&bench.path(folder).join("aligner.json"));
        let limit = |key: &str| profile["guard"][key].as_f64().expect("a limit");
        ["min_mean_logprob", "min_token_logprob"].map(limit)
    };
    let fitted = limits("first");
    assert!(fitted.iter().all(|limit| *limit < 0.0), "{fitted:?}");

    // What was written, measured again: the one step moves nothing.
    fs::copy(bench.path("aligner.json"), bench.path("first/aligner.json")).expect("copies");
    let base = Base::Folder(bench.path("first"));
    let mut again = TrainOptions::new(base, vec![data.clone()], bench.path("again"));
    again.validation = vec![data];
    again.recipe = Recipe {
        steps: Some(1),
        learning_rate: 1e-30,
        min_improvement: 1.0,
        ..recipe()
    };
    go(&again);
    assert_eq!(limits("again"), fitted);
}

#[test]
fn the_loss_as_written_is_that_of_the_rounded_weights() {
    let bench = Bench::new();
    let data = bench.lines("data.jsonl", &TRIPLES);
    let mut first = bench.options(data.clone(), "first");
    first.precision = Some(Precision::Bf16);
    first.recipe.steps = Some(40);
    go(&first);
    let from = |base: &str, output: &str, learning_rate: f64| {
        let base = Base::Folder(bench.path(base));
        let mut next = TrainOptions::new(base, vec![data.clone()], bench.path(output));
        next.validation = vec![data.clone()];
        next.recipe = Recipe {
            steps: Some(4),
            warmup_steps: 0,
            learning_rate,
            ..recipe()
        };
        next
    };
    // bf16 has no room for such steps.
    let small = from("first", "small", 2e-5);
    let (small, _) = go(&small);
    let written = small.loss_as_written.expect("validated");
    let lost = small.lost_to_rounding().expect("the loss fell");
    assert!(lost > 0.2, "{lost}");
    let record = json(&bench.path("small/training.json"));
    assert_eq!(record["outcome"]["loss_as_written"], written);
    assert_eq!(record["outcome"]["precision"], "bf16");
    // Another run begins with what was written.
    let (next, _) = go(&from("small", "next", 1e-30));
    assert_eq!(next.first_validation_loss, Some(written));

    let mut whole = from("first", "whole", 2e-5);
    whole.precision = Some(Precision::F32);
    let (whole, _) = go(&whole);
    assert_eq!(whole.lost_to_rounding(), Some(0.0));
}

#[test]
fn the_same_files_in_other_roles_are_not_the_run_that_is_resumed() {
    let bench = Bench::new();
    let data = bench.lines("data.jsonl", &TRIPLES);
    let others = bench.lines("others.jsonl", &OTHERS);
    let mut options = bench.options(data.clone(), "out");
    options.data.push(others.clone());
    options.stop_after_step = Some(2);
    go(&options);
    options.resume = true;
    options.data = vec![data];
    options.validation = vec![others];
    let message = message(&options);
    assert!(
        message.contains("was made with data of digest"),
        "{message}"
    );
}

#[test]
fn an_end_that_the_vocabulary_lacks_is_refused_before_the_first_step() {
    let bench = Bench::new();
    let data = bench.lines("data.jsonl", &TRIPLES);
    let mut first = bench.options(data.clone(), "first");
    first.recipe.steps = Some(1);
    go(&first);
    let generation = bench.path("first/generation_config.json");
    fs::write(generation, r#"{"eos_token_id": 4000}"#).expect("writes");
    let base = Base::Folder(bench.path("first"));
    let next = TrainOptions::new(base, vec![data], bench.path("next"));
    let message = message(&next);
    let problem = "first/config.json: vocab_size: is 512, and eos_token_id names token 4000";
    assert!(message.ends_with(problem), "{message}");
    assert!(!bench.path("next").exists(), "nothing is written");
}

#[test]
fn weights_that_do_not_fit_are_refused_before_anything_is_written() {
    let bench = Bench::new();
    let data = bench.lines("data.jsonl", &TRIPLES);
    let mut first = bench.options(data.clone(), "first");
    first.recipe.steps = Some(1);
    go(&first);
    let path = bench.path("first/config.json");
    let mut config = json(&path);
    config["num_hidden_layers"] = 3.into();
    fs::write(&path, config.to_string()).expect("writes");
    let base = Base::Folder(bench.path("first"));
    let next = TrainOptions::new(base, vec![data], bench.path("next"));
    train(&next, &mut |_| ControlFlow::Continue(())).expect_err("a layer is missing");
    assert!(!bench.path("next").exists(), "nothing is written");
}

#[test]
fn a_folder_with_a_model_is_not_trained_into() {
    let bench = Bench::new();
    let data = bench.lines("data.jsonl", &TRIPLES);
    let mut options = bench.options(data, "out");
    fs::create_dir(bench.path("out")).expect("a new folder");
    let said = "which holds a model, and no checkpoint of a run to resume; give another folder";
    for name in ["model.safetensors", "model.safetensors.index.json"] {
        let path = bench.path("out").join(name);
        fs::write(&path, "theirs").expect("writes");
        for resume in [false, true] {
            options.resume = resume;
            let message = message(&options);
            assert!(message.ends_with(said), "{name}: {message}");
        }
        assert_eq!(fs::read(&path).expect("is there"), b"theirs");
        fs::remove_file(&path).expect("is there");
    }
    let left = fs::read_dir(bench.path("out")).expect("is there").count();
    assert_eq!(left, 0, "nothing is written");
    assert_eq!(options.begins_anew().ok(), Some(true));
}

#[test]
fn a_resumed_run_is_recorded_with_the_base_and_the_name_that_it_began_with() {
    let bench = Bench::new();
    let data = bench.lines("data.jsonl", &TRIPLES);
    let run = |output: &str| {
        let mut options = bench.options(data.clone(), output);
        options.recipe.steps = Some(4);
        options.stop_after_step = Some(2);
        options.name = Some("strict".into());
        go(&options);
        options.stop_after_step = None;
        options.resume = true;
        options.name = None;
        options
    };
    let mut options = run("out");
    options.base = Base::Folder(bench.path("elsewhere"));
    let said = "was made with base random weights, now it is elsewhere";
    assert!(message(&options).contains(said));
    options.base_given = false;
    options.name = Some("kind".into());
    assert!(message(&options).contains("was made with name strict, now it is kind"));
    options.name = None;
    go(&options);
    let record = json(&bench.path("out/training.json"));
    assert_eq!(record["base"], "random weights", "{record}");
    assert_eq!(record["name"], "strict", "{record}");

    // A checkpoint of an earlier version does not say what its run began with.
    let options = run("earlier");
    let state = bench.path("earlier/checkpoints/step-00000002/state.json");
    let mut without = json(&state);
    let removed = without.as_object_mut().expect("keys").remove("base");
    assert_eq!(removed, Some("random weights".into()));
    fs::write(&state, without.to_string()).expect("writes");
    go(&options);
    let record = json(&bench.path("earlier/training.json"));
    assert_eq!(record["base"], serde_json::Value::Null, "{record}");
}

#[test]
fn what_is_validated_on_is_counted_with_what_is_not() {
    let bench = Bench::new();
    let long = "never ".repeat(200);
    let mut options = bench.options(bench.lines("data.jsonl", &TRIPLES), "out");
    let mut rows = vec![("Why?", long.as_str(), "Because."); 2];
    rows.extend(OTHERS);
    // Two that are trained on, one of them with another correction.
    rows.push(TRIPLES[0]);
    rows.push((TRIPLES[1].0, TRIPLES[1].1, "Come when you like."));
    options.validation = vec![bench.lines("validation.jsonl", &rows)];
    options.recipe.steps = Some(1);
    let (all, _) = go(&options);
    assert_eq!((all.validation_triples, all.validation_left_out), (6, 0));
    assert_eq!((all.validation_too_long, all.skipped), (2, 2));
    assert_eq!((all.skipped_too_long, all.skipped_undecided), (2, 0));
    assert_eq!(all.max_tokens, 128, "the model's context");
    assert_eq!(
        (all.validation_corrections, all.validation_repeated),
        (6, 2)
    );

    options.output = bench.path("sample");
    options.recipe.validation_limit = 4;
    let (some, seen) = go(&options);
    assert_eq!((some.validation_triples, some.validation_left_out), (4, 2));
    assert_eq!(seen[0].validation.expect("the last step").triples, 4);
}

#[test]
fn the_page_on_retraining_has_each_key_of_the_recipe_with_its_defaults() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/retraining.md");
    let page = fs::read_to_string(page).expect("the page is in the repository");
    let usual = [Recipe::default(), Recipe::from_scratch()]
        .map(|recipe| serde_json::to_value(recipe).expect("plain data"));
    for key in usual[0].as_object().expect("keys and values").keys() {
        let start = format!("| `{key}` | ");
        let row = page.lines().find(|line| line.starts_with(&start));
        let cells: Vec<&str> = row.expect(key).split(" | ").collect();
        for (cell, recipe) in cells[1..3].iter().zip(&usual) {
            let told: serde_json::Value = serde_json::from_str(cell).expect("JSON");
            let same = match (told.as_f64(), recipe[key].as_f64()) {
                (Some(told), Some(is)) => (told - is).abs() <= 1e-9 * is.abs(),
                _ => told == recipe[key],
            };
            assert!(same, "{key}: {told} for {}", recipe[key]);
        }
    }
}

#[test]
fn the_caller_may_break_off_and_resume() {
    let bench = Bench::new();
    let data = bench.lines("data.jsonl", &TRIPLES);
    let mut options = bench.options(data, "out");
    let outcome = train(&options, &mut |progress| match progress.step {
        2 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    })
    .expect("trains");
    assert_eq!((outcome.ended, outcome.step), (Ended::Interrupted, 2));

    assert!(
        message(&options).ends_with(
            "which holds checkpoints of an earlier run; resume it, or give another folder"
        )
    );
    options.resume = true;
    options.recipe.seed = 9;
    assert!(message(&options).contains("was made with seed 1, now it is 9"));
}

#[test]
fn bad_options_data_and_bases_are_named_with_their_remedy() {
    let bench = Bench::new();
    let data = bench.lines("data.jsonl", &TRIPLES);
    let good = bench.options(data, "out");

    let mut bad = good.clone();
    bad.data = vec![bench.path("absent.jsonl")];
    assert_eq!(
        message(&bad),
        format!("cannot read {}", bench.path("absent.jsonl").display())
    );

    fs::write(bench.path("bad.jsonl"), "{\"question\":\"q\"}").expect("writes");
    bad.data = vec![bench.path("bad.jsonl")];
    assert!(message(&bad).contains("bad.jsonl:1: key answer is missing"));

    let mut bad = good.clone();
    bad.recipe.max_tokens = 3;
    assert_eq!(
        message(&bad),
        "there is nothing to train on: each of 6 triples has more than 3 tokens; \
         raise max_tokens up to the context of 128"
    );

    // Those that are held out are triples of the file, too.
    bad.recipe.validation_share = 0.2;
    assert!(message(&bad).contains("each of 6 triples has more than 3 tokens"));

    let mut bad = good.clone();
    bad.recipe.accumulation = 0;
    assert_eq!(message(&bad), "accumulation is 0, expected at least 1");

    if !cfg!(feature = "cuda") {
        let mut bad = good.clone();
        bad.device = DeviceChoice::Cuda(0);
        assert!(message(&bad).contains("needs a build with the feature cuda"));
    }

    let mut bad = good.clone();
    bad.base = Base::Folder(bench.path("nowhere"));
    assert!(message(&bad).contains("nowhere/config.json: is missing"));
    assert!(!bench.path("out").exists(), "nothing is written");

    let mut bad = good;
    bad.recipe.learning_rate = 1e9;
    bad.recipe.clip_norm = 1e9;
    bad.recipe.warmup_steps = 0;
    assert!(message(&bad).contains("lower the learning rate, now 1000000000"));
}
