//! Checkpoints that cannot be used, and files that are broken in ways that their parsers do not expect:
//! what stops the start says which file it is and why, and what is left for a single text to find costs
//! that text alone.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use aligner::{AlignError, AlignRequest, Aligner, Alignment, Decoding};
use aligner_engine::{Dtype, Engine, EngineOptions, ModelSource};
use futures::{StreamExt, executor::block_on};
use serde_json::{Value, json};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/llama2")
        .join(name)
}

/// A copy of the fixture, with `change` done to it.
fn copied(change: impl Fn(&Path)) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a temporary folder");
    for file in [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
    ] {
        fs::copy(fixture(file), copy.path().join(file)).expect("copied");
    }
    change(copy.path());
    copy
}

fn edit(folder: &Path, file: &str, change: impl Fn(&mut Value)) {
    let path = folder.join(file);
    let mut json = serde_json::from_slice(&fs::read(&path).expect("readable")).expect("JSON");
    change(&mut json);
    fs::write(path, json.to_string()).expect("writable");
}

fn load(folder: &Path) -> Result<Engine, String> {
    load_as(folder, Dtype::Auto)
}

fn load_as(folder: &Path, dtype: Dtype) -> Result<Engine, String> {
    let model = ModelSource::Folder(folder.to_owned());
    let options = EngineOptions {
        dtype,
        decoding: Decoding {
            max_new_tokens: 4,
            ..Decoding::default()
        },
        ..EngineOptions::new(model)
    };
    Engine::load(options).map_err(|error| {
        let folder = folder.display().to_string();
        error.to_string().replace(&folder, "FOLDER")
    })
}

/// What stops the start with a changed fixture.
fn refusal(change: impl Fn(&Path)) -> String {
    let folder = copied(change);
    load(folder.path()).map(|_| ()).expect_err("it is refused")
}

fn with_tokenizer(part: &'static str, value: &Value) -> impl Fn(&Path) {
    move |folder| {
        edit(folder, "tokenizer.json", |tokenizer| {
            tokenizer[part] = value.clone();
        });
    }
}

/// The last value of `v_proj`, behind which the last norm alone stands, as one that is none.
fn without_a_number(folder: &Path) {
    const BF16: usize = 2;
    const NORM: usize = 64 * BF16;
    let path = folder.join("model.safetensors");
    let mut bytes = fs::read(&path).expect("readable");
    let at = bytes.len() - NORM - BF16;
    bytes[at..][..BF16].copy_from_slice(&[0xc0, 0x7f]);
    fs::write(path, bytes).expect("writable");
}

#[test]
fn weights_that_are_not_finite_are_refused_by_name_where_they_are_to_become_integers() {
    let folder = copied(without_a_number);
    for dtype in [Dtype::Q8_0, Dtype::Q4K] {
        let error = load_as(folder.path(), dtype)
            .map(|_| ())
            .expect_err("refused");
        assert!(
            error.contains("holds values that are not finite"),
            "{error}"
        );
        assert!(
            error.contains("tensor model.layers.1.self_attn.v_proj.weight"),
            "{error}"
        );
    }
    // Each record says so, where floats stay floats.
    assert!(load_as(folder.path(), Dtype::F32).is_ok());
}

/// A special token `<x>` behind the last for which the model has an embedding, and a profile.
fn with_a_token_beyond(profile: &Value) -> impl Fn(&Path) {
    move |folder| {
        edit(folder, "tokenizer.json", |tokenizer| {
            tokenizer["model"]["vocab"]["<x>"] = 320.into();
            let added = tokenizer["added_tokens"].as_array_mut().expect("a list");
            let mut token = added[0].clone();
            token["id"] = 320.into();
            token["content"] = "<x>".into();
            added.push(token);
        });
        fs::write(folder.join("aligner.json"), profile.to_string()).expect("writable");
    }
}

/// What a normalizer does by this map, in base64.
fn precompiled(map: &str) -> Value {
    json!({"type": "Precompiled", "precompiled_charsmap": map})
}

fn align(engine: &Engine, answers: &[&str]) -> Vec<Result<Alignment, AlignError>> {
    let requests = answers.iter().map(|&answer| AlignRequest {
        event_id: "e".into(),
        question: "What is it?".into(),
        answer: answer.into(),
        waiting_since: Instant::now(),
    });
    let mut done: Vec<_> = block_on(engine.align(requests.collect()).collect());
    done.sort_by_key(|completion| completion.index);
    done.into_iter()
        .map(|completion| completion.result)
        .collect()
}

#[test]
fn a_text_that_the_tokenizer_panics_on_is_refused_alone_and_those_behind_it_are_answered() {
    // A trie of 128 units, in which every search for ASCII ends at once, and any other outside of it.
    let trie = format!("AAIA{}", "AAAA".repeat(171));
    let folder = copied(with_tokenizer("normalizer", &precompiled(&trie)));
    let engine = load(folder.path()).expect("plain texts are no matter");
    let said = "canary \u{e4}";
    for _ in 0..2 {
        let results = align(&engine, &["an answer", said, said, "another one"]);
        assert!(results[0].is_ok() && results[3].is_ok(), "{results:?}");
        for result in &results[1..3] {
            let Err(AlignError::Rejected(problem)) = result else {
                panic!("it speaks against this text: {result:?}");
            };
            let file = folder.path().join("tokenizer.json");
            let expected = format!(
                "{} cannot encode this text: its tokenizer panicked",
                file.display()
            );
            assert_eq!(*problem, expected);
        }
    }
    let raw = block_on(engine.raw(said.to_owned())).expect_err("it is refused");
    assert!(matches!(raw, AlignError::Rejected(_)), "{raw}");
    block_on(engine.raw("a text".to_owned())).expect("completes");
}

#[test]
fn a_tokenizer_that_panics_on_every_text_stops_the_start() {
    let bos = json!({"SpecialToken": {"id": "<bos>", "type_id": 0}});
    let second = json!({"Sequence": {"id": "B", "type_id": 0}});
    let processor = |single: Value, pair: Value| json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": {}});
    for (part, value) in [
        ("pre_tokenizer", json!({"type": "FixedLength", "length": 0})),
        (
            "normalizer",
            json!({"type": "Replace", "pattern": {"Regex": ""}, "content": "x"}),
        ),
        ("normalizer", json!({"type": "Prepend", "prepend": ""})),
        ("normalizer", precompiled("CAAAAP////8AAAAA")),
        ("post_processor", processor(json!([bos]), json!([]))),
        (
            "post_processor",
            processor(json!([second]), json!([second])),
        ),
    ] {
        assert_eq!(
            refusal(with_tokenizer(part, &value)),
            "FOLDER/tokenizer.json is not valid: the tokenizer panics on the prompt of a text as \
             plain as \"What is 1 + 1? It is two.\"",
            "{value}"
        );
    }
}

#[test]
fn a_tokenizer_that_cannot_be_read_is_named_whatever_its_parser_does() {
    for (map, problem) in [
        ("", "its precompiled_charsmap has 0 bytes, too few for any"),
        (
            "/////wAA",
            "its precompiled_charsmap says that it has a trie of 4294967295 bytes, and has 2",
        ),
    ] {
        assert_eq!(
            refusal(with_tokenizer("normalizer", &precompiled(map))),
            format!("FOLDER/tokenizer.json is not valid: {problem}")
        );
    }
    let prefixed = refusal(|folder| {
        edit(folder, "tokenizer.json", |tokenizer| {
            tokenizer["model"]["continuing_subword_prefix"] = "####".into();
        });
    });
    assert_eq!(
        prefixed,
        "FOLDER/tokenizer.json is not valid: its parser panicked"
    );
    let pointer = refusal(|folder| {
        let text = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9085657\n";
        fs::write(folder.join("tokenizer.json"), text).expect("written");
    });
    assert_eq!(
        pointer,
        "FOLDER/tokenizer.json is not valid: it is a pointer of Git LFS and not the tokenizer; fetch it with \
         `git lfs pull`"
    );
}

#[test]
fn a_folder_in_which_nothing_ends_an_output_is_refused_for_texts() {
    let of = |generation: Option<Value>, config: Value| {
        copied(move |folder| {
            let path = folder.join("generation_config.json");
            match &generation {
                Some(end) => {
                    let json = json!({"eos_token_id": end}).to_string();
                    fs::write(path, json).expect("written");
                }
                None => fs::remove_file(path).expect("removed"),
            }
            edit(folder, "config.json", |json| {
                json["eos_token_id"] = config.clone();
            });
        })
    };
    let refused = |file: &str| {
        format!(
            "FOLDER/{file}: eos_token_id names no token of the 320 that the model has, so that \
             every correction would run to its limit; set it to the id of the token that ends an \
             output"
        )
    };
    for end in [json!(null), json!([]), json!(320), json!([4000, 320])] {
        let both = of(Some(end.clone()), end.clone());
        let said = load(both.path()).map(|_| ()).expect_err("it is refused");
        assert_eq!(said, refused("generation_config.json"), "{end}");
        let one = of(None, end.clone());
        let said = load(one.path()).map(|_| ()).expect_err("it is refused");
        assert_eq!(said, refused("config.json"), "{end}");
        // Either file may name it.
        for (generation, config) in [(json!([320, 2]), end.clone()), (end.clone(), json!(2))] {
            load(of(Some(generation), config).path()).expect("outputs end at 2");
        }
    }
}

#[test]
fn weights_that_were_cut_off_are_told_by_their_sizes_and_the_path_once() {
    let whole = fs::metadata(fixture("model.safetensors")).expect("a file");
    let whole = whole.len();
    let cut = refusal(|folder| {
        let file = fs::OpenOptions::new()
            .write(true)
            .open(folder.join("model.safetensors"));
        file.and_then(|file| file.set_len(whole - 100))
            .expect("cut");
    });
    assert_eq!(
        cut,
        format!(
            "FOLDER/model.safetensors is not valid: it has {} bytes, and its header describes \
             {whole}; download it again",
            whole - 100
        )
    );
}

#[test]
fn a_gguf_file_whose_alignment_is_zero_is_refused_by_its_key() {
    fn text(text: &str) -> Vec<u8> {
        [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
    }
    // Version 3, no tensors, two keys: a text, and a number of 32 bits.
    let bytes = [
        b"GGUF".to_vec(),
        3_u32.to_le_bytes().to_vec(),
        0_u64.to_le_bytes().to_vec(),
        2_u64.to_le_bytes().to_vec(),
        text("general.architecture"),
        8_u32.to_le_bytes().to_vec(),
        text("llama"),
        text("general.alignment"),
        4_u32.to_le_bytes().to_vec(),
        0_u32.to_le_bytes().to_vec(),
    ]
    .concat();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tiny.gguf");
    fs::write(&path, bytes).expect("written");
    let error = Engine::load(EngineOptions::new(ModelSource::Gguf(path)));
    let error = error.map(|_| ()).expect_err("it is refused").to_string();
    assert_eq!(
        error.replace(&folder.path().display().to_string(), "FOLDER"),
        "FOLDER/tiny.gguf: general.alignment is 0; it must be a number above 0, and is 32 as a rule"
    );
}

#[test]
fn a_marker_or_an_unchanged_token_that_the_model_does_not_have_stops_the_start() {
    let end = "is token 320, but the model's vocab_size is 320; use another token, or resize the \
               embeddings";
    let marked = json!({"name": "tiny", "template": "<q>{question}<x>{answer}<c>"});
    assert_eq!(
        refusal(with_a_token_beyond(&marked)),
        format!("FOLDER/tokenizer.json: \"<x>\" {end}")
    );
    let mut plain = json!({"name": "tiny", "template": "<q>{question}<a>{answer}<c>"});
    load(copied(with_a_token_beyond(&plain)).path()).expect("nothing uses the token");
    plain["unchanged_token"] = "<x>".into();
    assert_eq!(
        refusal(with_a_token_beyond(&plain)),
        format!("unchanged_token = \"<x>\" {end}")
    );
}

fn edit_config(folder: &Path, key: &str, value: Value) {
    edit(folder, "config.json", |config| config[key] = value.clone());
}

#[test]
fn weights_in_one_file_are_taken_before_the_index_of_former_shards() {
    let stale = r#"{"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}"#;
    let write = |folder: &Path| {
        fs::write(folder.join("model.safetensors.index.json"), stale).expect("writable");
    };
    load(copied(write).path()).expect("it loads");
    assert_eq!(
        refusal(|folder| {
            write(folder);
            fs::remove_file(folder.join("model.safetensors")).expect("removed");
        }),
        "model-00001-of-00002.safetensors is missing from FOLDER: model.safetensors.index.json \
         lists it as a shard"
    );
}

#[test]
fn a_checkpoint_that_cannot_be_used_is_refused_with_file_key_and_value() {
    let cases: Vec<(String, &str)> = vec![
        (
            refusal(|folder| edit_config(folder, "model_type", "bert".into())),
            "FOLDER/config.json: model_type = \"bert\" is not supported; supported: llama, mistral, \
             ministral, qwen2, qwen3, gemma, gemma2, gemma3, gemma3_text, phi3, granite, \
             smollm3, olmo2, olmo3; serve others elsewhere, and set aligner.model: remote",
        ),
        (
            refusal(|folder| {
                let rope = json!({"rope_type": "proportional", "rope_theta": 1e4});
                edit_config(folder, "rope_parameters", rope);
            }),
            "FOLDER/config.json: rope_parameters.rope_type = \"proportional\" is not supported; \
             supported: default, linear, dynamic, llama3, longrope, yarn",
        ),
        (
            refusal(|folder| {
                edit_config(folder, "quantization_config", json!({"bits": 4}));
            }),
            "FOLDER/config.json: quantization_config = {\"bits\":4} is not supported; supported: \
             checkpoints in f32, f16 or bf16, and GGUF files; save it dequantised, or use a GGUF file",
        ),
        (
            refusal(|folder| edit_config(folder, "hidden_size", "big".into())),
            "FOLDER/config.json: hidden_size is \"big\"; expected a whole number of 1 to 16777216",
        ),
        (
            refusal(|folder| edit_config(folder, "intermediate_size", 128.into())),
            "FOLDER: tensor model.layers.0.mlp.gate_proj.weight has shape [96, 64]; config.json \
             says [128, 64]",
        ),
        (
            refusal(|folder| edit_config(folder, "hidden_act", "relu".into())),
            "FOLDER/config.json: hidden_act = \"relu\" is not supported; supported: silu, gelu, \
             gelu_new, gelu_pytorch_tanh",
        ),
        (
            refusal(|folder| fs::remove_file(folder.join("tokenizer.json")).expect("removed")),
            "tokenizer.json is missing from FOLDER: tokenizer.model and vocab.json are not read; \
             transformers writes it: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)",
        ),
        (
            refusal(|folder| fs::remove_file(folder.join("model.safetensors")).expect("removed")),
            "model.safetensors is missing from FOLDER: a checkpoint needs model.safetensors, or \
             model.safetensors.index.json and its shards; PyTorch .bin files are not read",
        ),
        (
            refusal(|folder| {
                edit(folder, "generation_config.json", |generation| {
                    generation["num_beams"] = 4.into();
                });
            }),
            "FOLDER/generation_config.json: num_beams = 4 is not supported; supported: 1; remove \
             the key to decode without it",
        ),
        (
            refusal(|folder| {
                fs::remove_file(folder.join("generation_config.json")).expect("removed");
                edit_config(folder, "no_repeat_ngram_size", 3.into());
            }),
            "FOLDER/config.json: no_repeat_ngram_size = 3 is not supported; supported: 0; remove \
             the key to decode without it",
        ),
        (
            refusal(|folder| {
                edit(folder, "tokenizer.json", |tokenizer| {
                    let added = tokenizer["added_tokens"].as_array_mut().expect("a list");
                    for token in added {
                        token["single_word"] = true.into();
                    }
                });
                let marked = json!({"name": "tiny", "template": "<q>{question}<a>{answer}<c>"});
                fs::write(folder.join("aligner.json"), marked.to_string()).expect("writable");
            }),
            "FOLDER/tokenizer.json: added_tokens has single_word = true for <q>, a marker of the \
             prompt template, which would be text beside a letter or a digit; set it to false",
        ),
        (
            refusal(|folder| fs::remove_file(folder.join("config.json")).expect("removed")),
            "config.json is missing from FOLDER: it describes the model",
        ),
    ];
    for (got, expected) in cases {
        assert_eq!(got, expected);
    }
    let undescribed = copied(|folder| {
        fs::remove_file(folder.join("generation_config.json")).expect("removed");
    });
    load(undescribed.path()).expect("config.json says what ends an output");
    for (file, problem) in [
        ("config.json", "is not valid: "),
        ("generation_config.json", "is not valid: "),
        ("aligner.json", "is not a profile: "),
    ] {
        let got = refusal(|folder| fs::write(folder.join(file), "[").expect("written"));
        assert!(
            got.starts_with(&format!("FOLDER/{file} {problem}")),
            "{got}"
        );
    }
    assert!(
        refusal(|folder| fs::write(folder.join("tokenizer.json"), "{}").expect("written"))
            .starts_with("FOLDER/tokenizer.json is not valid: ")
    );
}
