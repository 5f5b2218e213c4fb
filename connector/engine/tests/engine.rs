//! The engine as an Aligner: outcomes, limits, identity, and what it refuses to load.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use aligner::{
    AlignError, AlignRequest, Aligner, Alignment, Decoding, Outcome, Profile, guard::Confidence,
    prompt::Template, reason,
};
use aligner_engine::{
    Device, Dtype, Engine, EngineOptions, Limits, LoadError, ModelSource, Speculation, probe::Probe,
};
use aligner_tokens::Texts;
use candle_core::{DType, Device::Cpu, Tensor, safetensors};
use futures::{StreamExt, executor::block_on, future::join_all};
use serde_json::json;

const TEMPLATE: &str = "<q>{question}<a>{answer}<c>";

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llama2")
}

fn options() -> EngineOptions {
    EngineOptions {
        profile: Some(profile(None, "{}")),
        decoding: Decoding {
            max_new_tokens: 400,
            ..Decoding::default()
        },
        ..EngineOptions::new(ModelSource::Folder(fixture()))
    }
}

fn profile(unchanged_token: Option<&str>, guard: &str) -> Profile {
    Profile {
        name: "tiny".to_owned(),
        template: Template::new(TEMPLATE).expect("both fields"),
        unchanged_token: unchanged_token.map(str::to_owned),
        guard: serde_json::from_str(guard).expect("a guard"),
    }
}

fn request(question: &str, answer: &str) -> AlignRequest {
    AlignRequest {
        event_id: "e".into(),
        question: question.into(),
        answer: answer.into(),
        waiting_since: Instant::now(),
    }
}

fn align(engine: &Engine, batch: Vec<AlignRequest>) -> Vec<Result<Alignment, AlignError>> {
    let count = batch.len();
    let mut done = block_on(engine.align(batch).collect::<Vec<_>>());
    done.sort_by_key(|completion| completion.index);
    let indices: Vec<usize> = done.iter().map(|completion| completion.index).collect();
    assert_eq!(
        indices,
        (0..count).collect::<Vec<_>>(),
        "each request is answered once"
    );
    done.into_iter()
        .map(|completion| completion.result)
        .collect()
}

fn outcome(engine: &Engine, question: &str, answer: &str) -> Outcome {
    align(engine, vec![request(question, answer)])
        .remove(0)
        .expect("an alignment")
        .outcome
}

/// Questions without end; to some of them this random model says something that ends.
fn questions() -> impl Iterator<Item = AlignRequest> {
    (0..).map(|i| request(&format!("What is {i}?"), &"the answer ".repeat(1 + i % 5)))
}

fn batch() -> Vec<AlignRequest> {
    questions().take(24).collect()
}

#[test]
fn every_request_is_answered_once_and_alike_with_drafts_or_without() {
    let engine = Engine::load(options()).expect("loads");
    let plain = Engine::load(EngineOptions {
        speculation: Speculation::Off,
        limits: Limits {
            max_running: 1,
            ..Limits::default()
        },
        ..options()
    })
    .expect("loads");
    // Which outputs end depends on the last bits of the logits, and so on the machine: they are looked
    // for, and half of the batch is made of them.
    let (mut requests, mut one_by_one, mut rewritten) = (Vec::new(), Vec::new(), 0);
    for request in questions().take(1_000) {
        let outcome = outcome(&plain, &request.question, &request.answer);
        let ended = matches!(outcome, Outcome::Rewritten(_));
        if ended || requests.len() - rewritten < 12 {
            rewritten += usize::from(ended);
            requests.push(request);
            one_by_one.push(outcome);
        }
        if rewritten == 12 && requests.len() == 24 {
            break;
        }
    }
    assert_eq!((rewritten, requests.len()), (12, 24), "of 1,000 questions");
    for (result, alone) in align(&engine, requests).into_iter().zip(one_by_one) {
        let alignment = result.expect("an alignment");
        assert_eq!(alignment.outcome, alone);
        assert!(alignment.usage.prompt_tokens > 3 && alignment.usage.correction_tokens > 0);
    }
}

#[test]
fn the_first_token_may_say_that_the_answer_stands() {
    let engine = Engine::load(options()).expect("loads");
    // Look for a question whose output happens to begin with a special token.
    let names = ["<pad>", "<bos>", "", "<q>", "<a>", "<c>", "<same>"];
    let found = (0..2_000).find_map(|i| {
        let question = format!("question {i}");
        let prompt = TEMPLATE
            .replace("{question}", &question)
            .replace("{answer}", "a");
        let first = block_on(engine.raw(prompt)).expect("completes").token_ids[0];
        names
            .get(first as usize)
            .filter(|name| !name.is_empty())
            .map(|name| (question, *name))
    });
    let (question, token) = found.expect("one in fifty begins so");
    assert!(matches!(
        outcome(&engine, &question, "a"),
        Outcome::Rewritten(_) | Outcome::Bypassed(_) | Outcome::Rejected { .. }
    ));
    let learnt = EngineOptions {
        profile: Some(profile(Some(token), "{}")),
        ..options()
    };
    let engine = Engine::load(learnt).expect("loads");
    let alignment = align(&engine, vec![request(&question, "a")])
        .remove(0)
        .expect("an alignment");
    assert_eq!(alignment.outcome, Outcome::Unchanged);
    assert_eq!(alignment.usage.correction_tokens, 1);
}

#[test]
fn how_sure_the_model_was_of_the_unchanged_token_is_what_its_logits_say() {
    let learnt = || EngineOptions {
        profile: Some(profile(Some("<same>"), "{}")),
        ..options()
    };
    let json = fs::read(fixture().join("tokenizer.json")).expect("readable");
    let texts = Texts::from_json(&json).expect("a tokenizer");
    let same = texts.special("<same>").expect("it is learnt") as usize;
    let prompts: Vec<Vec<u32>> = batch()
        .iter()
        .map(|request| {
            let template = Template::new(TEMPLATE).expect("both fields");
            let pieces = template.pieces(&request.question, &request.answer);
            texts.encode_pieces(&pieces).expect("encodes")
        })
        .collect();
    let probe = Probe::load(&learnt()).expect("loads");
    let expected = prompts.into_iter().map(|prompt| {
        let longest = prompt.len();
        let logits = probe.logits(&[prompt], 1, longest);
        let logits = &logits[0][0];
        let total: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
        f64::from(logits[same]) - total.ln()
    });
    let expected: Vec<f64> = expected.collect();

    let mut told = Vec::new();
    for speculation in [Speculation::Off, Speculation::Always] {
        let engine = Engine::load(EngineOptions {
            speculation,
            ..learnt()
        })
        .expect("loads");
        // Drafts of the second time are made from the first.
        for time in ["first", "second"] {
            let found: Vec<Confidence> = align(&engine, batch())
                .into_iter()
                .map(|result| result.expect("an alignment").confidence)
                .map(|confidence| confidence.expect("tokens were decoded"))
                .collect();
            for (found, expected) in found.iter().zip(&expected) {
                let found = found.unchanged_logprob.expect("the token is learnt");
                let off = (f64::from(found) - expected).abs();
                assert!(off < 1e-4, "{found}, not {expected}, the {time} time");
            }
            told.push(found);
        }
    }
    assert!(told.windows(2).all(|pair| pair[0] == pair[1]), "{told:?}");

    let without = Engine::load(options()).expect("loads");
    let alignment = align(&without, batch()).remove(0).expect("an alignment");
    let confidence = alignment.confidence.expect("tokens were decoded");
    assert_eq!(confidence.unchanged_logprob, None);
    assert!(confidence.min_logprob <= confidence.mean_logprob && confidence.mean_logprob < 0.0);
}

/// What is said of an answer that was bypassed for this reason.
#[track_caller]
fn bypassed(word: &str, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Bypassed(bypass) if bypass.word == word => {
            bypass.message().unwrap_or_default().to_owned()
        }
        other => panic!("{other:?} for {word}"),
    }
}

#[test]
fn what_does_not_fit_is_bypassed_before_inference_and_what_does_not_end_after() {
    let engine = Engine::load(EngineOptions {
        limits: Limits {
            kv_tokens: Some(64),
            ..Limits::default()
        },
        ..options()
    })
    .expect("loads");
    let long = align(&engine, vec![request("q", &"word ".repeat(100))]).remove(0);
    let long = long.expect("an alignment");
    let said = bypassed(reason::TOO_LONG, &long.outcome);
    assert!(said.contains("the model's context of 64 tokens"), "{said}");
    assert_eq!(long.usage.correction_tokens, 0);
    assert_eq!(long.confidence, None, "no model was asked");
    // Far beyond what can fit: not even encoded.
    let said = bypassed(
        reason::TOO_LONG,
        &outcome(&engine, "q", &"word ".repeat(1_000_000)),
    );
    assert!(said.contains("5000001 bytes"), "{said}");

    let short = EngineOptions {
        decoding: Decoding {
            max_new_tokens: 1,
            ..Decoding::default()
        },
        ..options()
    };
    let engine = Engine::load(short).expect("loads");
    let said = bypassed(reason::LENGTH_LIMIT, &outcome(&engine, "q", "a"));
    assert!(said.contains("1 tokens, which is max_new_tokens"), "{said}");
}

#[test]
fn the_guard_of_the_profile_is_asked_before_and_after() {
    let guarded = |guard| {
        let options = EngineOptions {
            profile: Some(profile(None, guard)),
            ..options()
        };
        Engine::load(options).expect("loads")
    };
    let engine = guarded(r#"{"max_question_tokens": 3}"#);
    let unasked = "a question of several tokens";
    let said = bypassed(reason::TOO_LONG, &outcome(&engine, unasked, "a"));
    assert!(said.contains("max_question_tokens"), "{said}");
    let engine = guarded(r#"{"max_tokens_per_word": 1.5}"#);
    let said = bypassed(
        reason::UNFAMILIAR_TEXT,
        &outcome(&engine, "q", "Ärger über Öl"),
    );
    assert!(said.contains("in 3 words"), "{said}");
    // This model is sure of nothing.
    let engine = guarded(r#"{"min_mean_logprob": -0.0001}"#);
    let outcomes = align(&engine, batch());
    let mut rejected = 0;
    for result in &outcomes {
        match &result.as_ref().expect("an alignment").outcome {
            Outcome::Rejected { bypass, proposal } if bypass.word == reason::LOW_CONFIDENCE => {
                assert!(!proposal.trim().is_empty(), "an empty one is told as such");
                rejected += 1;
            }
            Outcome::Bypassed(bypass)
                if matches!(bypass.word, reason::EMPTY_OUTPUT | reason::LENGTH_LIMIT) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(rejected > 0, "none of the texts came to an end");
}

#[test]
fn requests_beyond_the_bound_are_refused_as_unavailable_and_abandoned_ones_make_room() {
    let engine = Engine::load(EngineOptions {
        limits: Limits {
            max_queued: 30,
            ..Limits::default()
        },
        ..options()
    })
    .expect("loads");
    let first = engine.align(batch());
    let refused = align(&engine, batch());
    assert!(
        refused
            .iter()
            .all(|result| matches!(result, Err(AlignError::Unavailable(_)))),
        "24 and 24 are more than 30"
    );
    drop(first);
    // Nobody waits for the first batch any more; its places are given up within some steps.
    let served = (0..10_000).any(|_| {
        let results = align(&engine, batch());
        results.iter().all(Result::is_ok)
    });
    assert!(served);
}

#[test]
fn the_revision_names_the_checkpoint_and_what_decides_its_output() {
    let revision = |options| {
        Engine::load(options)
            .expect("loads")
            .identity()
            .revision
            .clone()
    };
    let first = revision(options());
    assert_eq!(first.len(), 16);
    assert_eq!(
        first,
        revision(EngineOptions {
            threads: None,
            ..options()
        })
    );
    assert_ne!(
        first,
        revision(EngineOptions {
            dtype: Dtype::Q8_0,
            ..options()
        })
    );
    let guarded = Some(profile(None, r#"{"max_answer_tokens": 9}"#));
    assert_ne!(
        first,
        revision(EngineOptions {
            profile: guarded,
            ..options()
        })
    );
    let penalised = copied(|folder| {
        let generation = r#"{"eos_token_id": 2, "repetition_penalty": 1.1}"#;
        fs::write(folder.join("generation_config.json"), generation).expect("writable");
    });
    let model = ModelSource::Folder(penalised.path().to_owned());
    assert_ne!(first, revision(EngineOptions { model, ..options() }));
}

#[test]
fn a_sampled_output_depends_on_its_seed_and_prompt_alone() {
    let sampled = |seed| {
        let decoding = Decoding {
            temperature: 1.0,
            top_p: Some(0.9),
            seed,
            max_new_tokens: 40,
        };
        Engine::load(EngineOptions {
            decoding,
            ..options()
        })
        .expect("loads")
    };
    let tokens = |engine: &Engine, i: usize| {
        block_on(engine.raw(format!("<q>{i}")))
            .expect("completes")
            .token_ids
    };
    let (one, other) = (sampled(1), sampled(2));
    let alone: Vec<_> = (0..4).map(|i| tokens(&one, i)).collect();
    let together = block_on(futures::future::join_all(
        (0..4).map(|i| one.raw(format!("<q>{i}"))),
    ));
    for (alone, together) in alone.iter().zip(together) {
        assert_eq!(*alone, together.expect("completes").token_ids);
    }
    assert_ne!(alone, (0..4).map(|i| tokens(&other, i)).collect::<Vec<_>>());
}

/// A copy of the fixture, with `change` done to it.
fn copied(change: impl Fn(&Path)) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a temporary folder");
    let ModelSource::Folder(original) = options().model else {
        unreachable!("a folder")
    };
    for entry in fs::read_dir(original).expect("a folder") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, copy.path().join(path.file_name().expect("a file"))).expect("copied");
    }
    change(copy.path());
    copy
}

/// Lets `change` loose on the tensors of a checkpoint.
fn edit_weights(folder: &Path, change: impl Fn(&str, Tensor) -> Tensor) {
    let path = folder.join("model.safetensors");
    let tensors: HashMap<String, Tensor> = safetensors::load(&path, &Cpu)
        .expect("readable")
        .into_iter()
        .map(|(name, tensor)| {
            let changed = change(&name, tensor);
            (name, changed)
        })
        .collect();
    safetensors::save(&tensors, path).expect("writable");
}

#[test]
fn the_token_that_ends_an_output_is_no_part_of_it_though_it_is_not_flagged_as_special() {
    let flagged = Engine::load(options()).expect("loads");
    let folder = copied(|folder| {
        edit_json(folder, "tokenizer.json", |tokenizer| {
            let added = tokenizer["added_tokens"].as_array_mut().expect("a list");
            let end = added.iter_mut().find(|token| token["content"] == "<eos>");
            end.expect("it ends outputs")["special"] = false.into();
        });
    });
    let unflagged = Engine::load(EngineOptions {
        model: ModelSource::Folder(folder.path().to_owned()),
        ..options()
    })
    .expect("loads");
    let alignment = |engine: &Engine, request: &AlignRequest| {
        let done = align(engine, vec![request.clone()]).remove(0);
        let alignment = done.expect("an alignment");
        (alignment.outcome, alignment.usage)
    };
    // Which outputs end depends on the machine.
    let (request, expected) = questions()
        .take(1_000)
        .map(|request| {
            let expected = alignment(&flagged, &request);
            (request, expected)
        })
        .find(|(_, (outcome, _))| matches!(outcome, Outcome::Rewritten(_)))
        .expect("one of 1,000 ends");
    assert_eq!(alignment(&unflagged, &request), expected);
    let raw = |engine: &Engine| {
        let prompt = TEMPLATE
            .replace("{question}", &request.question)
            .replace("{answer}", &request.answer);
        block_on(engine.raw(prompt)).expect("completes")
    };
    let (got, want) = (raw(&unflagged), raw(&flagged));
    assert!(!got.truncated && got.token_ids.last() == Some(&2));
    assert_eq!((got.text, got.token_ids), (want.text, want.token_ids));
}

#[test]
fn the_space_that_joins_an_output_to_the_prompt_is_no_part_of_it_unless_the_answer_has_one() {
    // Each text begins with a space when it is decoded, whatever the model says.
    let folder = copied(|folder| {
        edit_json(folder, "tokenizer.json", |tokenizer| {
            let first = json!({"Regex": "^[\\s\\S]"});
            let spaced = json!({"type": "Replace", "pattern": first, "content": " x"});
            let decoders = json!([tokenizer["decoder"], spaced]);
            tokenizer["decoder"] = json!({"type": "Sequence", "decoders": decoders});
        });
    });
    let engine = Engine::load(EngineOptions {
        model: ModelSource::Folder(folder.path().to_owned()),
        ..options()
    })
    .expect("loads");
    for (answer, begins) in [("the answer ", "x"), (" the answer ", " x")] {
        // Which outputs end depends on the machine.
        let text = (0..1_000)
            .find_map(
                |i| match outcome(&engine, &format!("What is {i}?"), answer) {
                    Outcome::Rewritten(text) => Some(text),
                    _ => None,
                },
            )
            .expect("one of 1,000 ends");
        assert!(text.starts_with(begins), "{text:?} for {answer:?}");
    }
}

#[test]
fn an_output_that_repeats_itself_without_end_is_bypassed() {
    // Without attention and FFN, and with its own embedding as the head, a token says itself.
    let parrot = copied(|folder| {
        let path = folder.join("model.safetensors");
        let tensors = safetensors::load(path, &Cpu).expect("readable");
        edit_weights(folder, |name, tensor| {
            if name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight") {
                tensor.zeros_like().expect("zeros")
            } else if name == "lm_head.weight" {
                tensors["model.embed_tokens.weight"].clone()
            } else if name == "model.norm.weight" {
                tensor.ones_like().expect("ones")
            } else {
                tensor
            }
        });
    });
    let engine = Engine::load(EngineOptions {
        model: ModelSource::Folder(parrot.path().to_owned()),
        ..options()
    })
    .expect("loads");
    let done = align(&engine, vec![request("What is it?", "an answer")]);
    let alignment = done[0].as_ref().expect("an alignment");
    assert_eq!(
        alignment.outcome,
        Outcome::Bypassed(reason::REPETITION.into())
    );
    // It is given up long before the length limit.
    assert!(alignment.usage.correction_tokens < 200, "{alignment:?}");
}

#[test]
fn logits_that_are_no_numbers_bypass_the_answer_and_leave_its_neighbours_alone() {
    // So short that no output gets to the poisoned token by itself.
    let short = || EngineOptions {
        decoding: Decoding {
            max_new_tokens: 8,
            ..Decoding::default()
        },
        ..options()
    };
    let sound = Engine::load(short()).expect("loads");
    // The bytes of a crab's UTF-8 have tokens of their own, and nothing else here has them.
    let first_byte = {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llama2/tokenizer.json");
        let json: serde_json::Value =
            serde_json::from_slice(&fs::read(path).expect("readable")).expect("JSON");
        json["model"]["vocab"]["\u{f0}"]
            .as_u64()
            .expect("a byte's token") as usize
    };
    let folder = copied(|folder| {
        edit_weights(folder, |name, tensor| {
            if name != "model.embed_tokens.weight" {
                return tensor;
            }
            let (rows, columns) = tensor.dims2().expect("a matrix");
            let mut scale = vec![1.0_f32; rows];
            scale[first_byte] = f32::NAN;
            let scale = Tensor::from_vec(scale, (rows, 1), &Cpu).expect("a column");
            let wide = tensor.to_dtype(DType::F32).expect("widened");
            let scaled = wide.broadcast_mul(&scale).expect("scaled");
            assert_eq!(scaled.dims(), [rows, columns]);
            scaled.to_dtype(tensor.dtype()).expect("narrowed")
        });
    });
    let engine = Engine::load(EngineOptions {
        model: ModelSource::Folder(folder.path().to_owned()),
        ..short()
    })
    .expect("loads");
    let poisoned = "the answer is a \u{1f980}";
    assert_eq!(
        outcome(&engine, "question", poisoned),
        Outcome::Bypassed(reason::NOT_FINITE.into())
    );
    // Beside it in the same steps, the others say what they say without it.
    let prompts: Vec<String> = (0..4).map(|i| format!("question {i} and {i}")).collect();
    let tokens = |engine: &Engine, also: Option<&str>| -> Vec<Option<Vec<u32>>> {
        let texts = prompts.iter().map(String::as_str).chain(also);
        let answers = texts.map(|text| engine.raw(text.to_owned()));
        block_on(join_all(answers))
            .into_iter()
            .map(|answer| answer.ok().map(|answer| answer.token_ids))
            .collect()
    };
    let healthy = tokens(&sound, None);
    assert!(healthy.iter().all(Option::is_some));
    let mut beside = tokens(&engine, Some(poisoned));
    assert_eq!(beside.pop(), Some(None));
    assert_eq!(beside, healthy);
}

#[test]
fn keys_too_large_for_their_f16_bypass_the_answer() {
    let outcome_of = |factor: f64| {
        let folder = copied(|folder| {
            edit_weights(folder, |name, tensor| {
                // The same scores, had they only room.
                let factor = match name {
                    name if name.contains("k_proj") => factor,
                    name if name.contains("q_proj") => 1.0 / factor,
                    _ => return tensor,
                };
                let wide = tensor.to_dtype(DType::F32).expect("widened");
                (wide * factor).expect("scaled")
            });
        });
        let engine = Engine::load(EngineOptions {
            model: ModelSource::Folder(folder.path().to_owned()),
            dtype: Dtype::Q8_0,
            ..options()
        })
        .expect("loads");
        assert_eq!(engine.describe().kv_dtype, "f16");
        outcome(&engine, "What is 3?", "the answer")
    };
    let small = outcome_of(1.0);
    assert_ne!(small, Outcome::Bypassed(reason::NOT_FINITE.into()));
    assert_eq!(outcome_of(f64::from(1 << 6)), small);
    let large = outcome_of(f64::from(1 << 18));
    assert_eq!(large, Outcome::Bypassed(reason::NOT_FINITE.into()));
}

#[test]
fn a_lesser_instruction_set_can_be_asked_for_and_one_that_is_missing_is_refused() {
    let with = |kernels: &str| EngineOptions {
        kernels: Some(kernels.to_owned()),
        ..options()
    };
    let plain = Engine::load(with("portable")).expect("every machine has it");
    assert_eq!(plain.describe().kernels, "portable");
    let best = Engine::load(options()).expect("loads");
    let (question, answer) = ("What is 3?", "the answer");
    assert_eq!(
        outcome(&plain, question, answer),
        outcome(&best, question, answer)
    );
    let error = Engine::load(with("avx1024")).map(|_| ()).expect_err("none");
    let text = error.to_string();
    assert!(
        text.starts_with("kernels = avx1024 is not available on this machine; use ")
            && text.ends_with("portable"),
        "{text}"
    );
}

fn edit_json(folder: &Path, file: &str, change: impl Fn(&mut serde_json::Value)) {
    let path = folder.join(file);
    let mut json = serde_json::from_slice(&fs::read(&path).expect("readable")).expect("JSON");
    change(&mut json);
    fs::write(path, json.to_string()).expect("writable");
}

fn edit_config(folder: &Path, key: &str, value: serde_json::Value) {
    edit_json(folder, "config.json", |config| config[key] = value.clone());
}

#[test]
fn settings_that_this_build_cannot_serve_are_refused_with_what_would_work() {
    let refused = |options| match Engine::load(options) {
        Err(error @ LoadError::Setting { .. }) => error.to_string(),
        Err(other) => panic!("refused for another reason: {other}"),
        Ok(_) => "it loads".to_owned(),
    };
    // A build with CUDA says what this machine lacks instead.
    if !cfg!(feature = "cuda") {
        assert_eq!(
            refused(EngineOptions {
                devices: vec![Device::Cuda(1)],
                ..options()
            }),
            "device = cuda:1 needs a build with CUDA, which this one is not; use cpu"
        );
    }
    assert_eq!(
        refused(EngineOptions {
            dtype: Dtype::Bf16,
            ..options()
        }),
        "dtype = bf16 is not available on the CPU; use f32, q8_0 or q4_k"
    );
    let huge = refused(EngineOptions {
        limits: Limits {
            kv_tokens: Some(1 << 40),
            ..Limits::default()
        },
        ..options()
    });
    let start = "kv_tokens = 1099511627776 takes ";
    let end = " MiB for keys and values, which this system does not give; set it lower";
    assert!(huge.starts_with(start) && huge.ends_with(end), "{huge}");
    let unknown = refused(EngineOptions {
        profile: Some(profile(Some("<nope>"), "{}")),
        ..options()
    });
    let start = "unchanged_token = \"<nope>\" is not a special token of ";
    assert!(unknown.starts_with(start), "{unknown}");
    assert!(
        unknown.ends_with("fixtures/llama2/tokenizer.json"),
        "{unknown}"
    );
}

#[test]
fn a_model_with_a_context_below_the_default_limit_loads_and_decodes_at_most_its_context() {
    let small = copied(|folder| edit_config(folder, "max_position_embeddings", 512.into()));
    for (max_new_tokens, used) in [(1_024, 512), (512, 512), (400, 400)] {
        let engine = Engine::load(EngineOptions {
            model: ModelSource::Folder(small.path().to_owned()),
            decoding: Decoding {
                max_new_tokens,
                ..Decoding::default()
            },
            ..options()
        });
        let identity = engine.expect("loads").identity().clone();
        assert_eq!(identity.decoding.max_new_tokens, used);
    }
}
