//! The same weights as a GGUF file: the same logits, and a tokenizer from its metadata.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::BufWriter,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use aligner_checkpoint::CheckpointError;
use aligner_engine::{
    Dtype, Engine, EngineOptions, LoadError, ModelSource,
    probe::{Output, Probe, TokenRequest},
};
use candle_core::{
    Device, Tensor,
    quantized::{
        GgmlDType, QTensor,
        gguf_file::{self, Value},
    },
    safetensors,
};
use futures::executor::block_on;

fn fixture() -> PathBuf {
    family("llama2")
}

fn family(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).expect("readable")).expect("JSON")
}

/// llama.cpp's name of a tensor.
fn renamed(name: &str) -> String {
    let (stem, suffix) = name.rsplit_once('.').expect("a suffix");
    let own = match stem {
        "model.embed_tokens" => "token_embd".to_owned(),
        "model.norm" => "output_norm".to_owned(),
        "lm_head" => "output".to_owned(),
        _ => {
            let rest = stem.strip_prefix("model.layers.").expect("a layer");
            let (layer, part) = rest.split_once('.').expect("a part");
            let own = match part {
                "input_layernorm" => "attn_norm",
                "post_attention_layernorm" => "ffn_norm",
                "self_attn.q_proj" => "attn_q",
                "self_attn.k_proj" => "attn_k",
                "self_attn.v_proj" => "attn_v",
                "self_attn.o_proj" => "attn_output",
                "mlp.gate_proj" => "ffn_gate",
                "mlp.up_proj" => "ffn_up",
                "mlp.down_proj" => "ffn_down",
                other => panic!("no tensor of this family: {other}"),
            };
            format!("blk.{layer}.{own}")
        }
    };
    format!("{own}.{suffix}")
}

/// Rows of queries or keys, or their biases, as llama.cpp's conversion orders them.
fn interleaved(tensor: &Tensor, heads: usize) -> Tensor {
    let rows = tensor.dim(0).expect("rows");
    let columns = tensor.elem_count() / rows;
    let halves = tensor.reshape((heads, 2, rows / heads / 2, columns));
    let swapped = halves.and_then(|halves| halves.transpose(1, 2)?.contiguous());
    swapped
        .and_then(|swapped| swapped.reshape(tensor.shape()))
        .expect("the same elements")
}

/// Writes the fixture with its tokenizer, see [`write_family`].
fn write_gguf(path: &Path, dtype: GgmlDType, change: impl Fn(&mut HashMap<String, Value>)) {
    write_family(path, "llama2", dtype, |metadata| {
        tokenizer_metadata(metadata);
        change(metadata);
    });
}

/// Writes a Llama of the fixtures as llama.cpp's conversion would, matrices in `dtype`.
fn write_family(
    path: &Path,
    name: &str,
    dtype: GgmlDType,
    change: impl Fn(&mut HashMap<String, Value>),
) {
    let config = json(&family(name).join("config.json"));
    let size = |key: &str| config[key].as_u64().expect("a size") as usize;
    let tensors = safetensors::load(family(name).join("model.safetensors"), &Device::Cpu);
    let tensors: Vec<(String, QTensor)> = tensors
        .expect("readable")
        .into_iter()
        .map(|(name, tensor)| {
            let own = renamed(&name);
            let mut tensor = tensor.to_dtype(candle_core::DType::F32).expect("widened");
            for (part, heads) in [
                (".attn_q.", "num_attention_heads"),
                (".attn_k.", "num_key_value_heads"),
            ] {
                if own.contains(part) {
                    tensor = interleaved(&tensor, size(heads));
                }
            }
            let kind = if tensor.rank() == 1 {
                GgmlDType::F32
            } else {
                dtype
            };
            (own, QTensor::quantize(&tensor, kind).expect("quantised"))
        })
        .collect();
    let mut metadata: HashMap<String, Value> = [
        ("embedding_length", "hidden_size"),
        ("block_count", "num_hidden_layers"),
        ("feed_forward_length", "intermediate_size"),
        ("attention.head_count", "num_attention_heads"),
        ("attention.head_count_kv", "num_key_value_heads"),
        ("context_length", "max_position_embeddings"),
    ]
    .into_iter()
    .map(|(own, key)| (format!("llama.{own}"), Value::U32(size(key) as u32)))
    .collect();
    let mut set = |key: &str, value| metadata.insert(key.to_owned(), value);
    set("general.architecture", Value::String("llama".to_owned()));
    set("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-6));
    change(&mut metadata);
    let metadata: Vec<(&str, &Value)> = metadata
        .iter()
        .map(|(key, value)| (key.as_str(), value))
        .collect();
    let tensors: Vec<(&str, &QTensor)> = tensors
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor))
        .collect();
    let mut file = BufWriter::new(File::create(path).expect("created"));
    gguf_file::write(&mut file, &metadata, &tensors).expect("written");
}

/// What a conversion takes from tokenizer.json.
fn tokenizer_metadata(metadata: &mut HashMap<String, Value>) {
    let json = json(&fixture().join("tokenizer.json"));
    let vocab = json["model"]["vocab"].as_object().expect("a vocabulary");
    let mut tokens = vec![String::new(); vocab.len()];
    for (token, id) in vocab {
        tokens[id.as_u64().expect("an id") as usize] = token.clone();
    }
    let kinds = (0..tokens.len())
        .map(|id| Value::I32(if id < 7 { 3 } else { 1 }))
        .collect();
    let merges = json["model"]["merges"]
        .as_array()
        .expect("merges")
        .iter()
        .map(|merge| {
            let part = |index: usize| merge[index].as_str().expect("a pair");
            Value::String(format!("{} {}", part(0), part(1)))
        });
    let mut set = |key: &str, value| metadata.insert(format!("tokenizer.ggml.{key}"), value);
    set("merges", Value::Array(merges.collect()));
    set(
        "tokens",
        Value::Array(tokens.into_iter().map(Value::String).collect()),
    );
    set("token_type", Value::Array(kinds));
    set("model", Value::String("gpt2".to_owned()));
    set("pre", Value::String("gpt-2".to_owned()));
    set("eos_token_id", Value::U32(2));
}

fn prompts() -> Vec<Vec<u32>> {
    vec![(3..90).collect(), vec![5; 20]]
}

fn logits(model: ModelSource, dtype: Dtype) -> (Vec<Vec<Vec<f32>>>, &'static str) {
    let options = EngineOptions {
        dtype,
        ..EngineOptions::new(model)
    };
    let probe = Probe::load(&options).expect("loads");
    (probe.logits(&prompts(), 2, 50), probe.describe().dtype)
}

#[test]
fn a_gguf_file_gives_the_logits_of_the_checkpoint_it_was_made_from() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tiny.gguf");
    let original = || ModelSource::Folder(fixture());
    // The fixture is stored in bf16, which f32 and bf16 hold exactly.
    for kind in [GgmlDType::F32, GgmlDType::BF16] {
        write_gguf(&path, kind, |_| ());
        let got = logits(ModelSource::Gguf(path.clone()), Dtype::Auto);
        assert_eq!(got, logits(original(), Dtype::F32), "{kind:?}");
    }
    // Blocks of int8 run as they are, and as on-load quantisation makes them.
    write_gguf(&path, GgmlDType::Q8_0, |_| ());
    let (int8, dtype) = logits(ModelSource::Gguf(path.clone()), Dtype::Auto);
    assert_eq!(dtype, "q8_0");
    let close = |got: &[Vec<Vec<f32>>], tolerance: f32| {
        let (exact, _) = logits(original(), Dtype::F32);
        let pairs = got
            .iter()
            .flatten()
            .flatten()
            .zip(exact.iter().flatten().flatten());
        let worst = pairs
            .map(|(got, want)| (got - want).abs())
            .fold(0.0_f32, f32::max);
        assert!(worst < tolerance, "{worst}");
    };
    close(&int8, 1.0);
    // Other types are widened.
    write_gguf(&path, GgmlDType::Q5_1, |_| ());
    let (widened, dtype) = logits(ModelSource::Gguf(path.clone()), Dtype::Auto);
    assert_eq!(dtype, "f32");
    close(&widened, 3.0);
    write_gguf(&path, GgmlDType::Q4_0, |_| ());
    let (int4, dtype) = logits(ModelSource::Gguf(path), Dtype::Auto);
    assert_eq!(dtype, "q8_0");
    let (widened, _) = logits(
        ModelSource::Gguf(folder.path().join("tiny.gguf")),
        Dtype::F32,
    );
    let pairs = int4
        .iter()
        .flatten()
        .flatten()
        .zip(widened.iter().flatten().flatten());
    let worst = pairs
        .map(|(got, want)| (got - want).abs())
        .fold(0.0_f32, f32::max);
    assert!(worst < 1.0, "{worst}");
}

#[test]
fn scaled_rotations_are_those_of_the_checkpoint() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tiny.gguf");
    let scaled = folder.path().join("scaled");
    fs::create_dir(&scaled).expect("created");
    for entry in fs::read_dir(fixture()).expect("a folder") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, scaled.join(path.file_name().expect("a file"))).expect("copied");
    }
    let text = |text: &str| Value::String(text.to_owned());
    // Of the eight frequencies, these keep the first as they are and stretch the last ones wholly.
    let plain = serde_json::json!({"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0,
        "original_max_position_embeddings": 64});
    let mut tuned = plain.clone();
    tuned["beta_fast"] = 2.0.into();
    tuned["beta_slow"] = 0.05.into();
    tuned["attention_factor"] = 1.75.into();
    let linear = serde_json::json!({"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0});
    let numbers: &[(&str, f32)] = &[
        ("yarn_beta_fast", 2.0),
        ("yarn_beta_slow", 0.05),
        ("yarn_attn_factor", 1.75),
    ];
    let mut seen = vec![logits(ModelSource::Folder(fixture()), Dtype::F32)];
    for (kind, parameters, numbers) in [
        ("yarn", plain, &[][..]),
        ("yarn", tuned, numbers),
        ("linear", linear, &[]),
    ] {
        let file = scaled.join("config.json");
        let mut config = json(&file);
        config["rope_parameters"] = parameters;
        fs::write(file, config.to_string()).expect("written");
        write_gguf(&path, GgmlDType::F32, |metadata| {
            let mut set = |key: &str, value| metadata.insert(format!("llama.rope.{key}"), value);
            set("freq_base", Value::F32(1e4));
            set("scaling.type", text(kind));
            set("scaling.factor", Value::F32(4.0));
            set("scaling.original_context_length", Value::U32(64));
            for (key, number) in numbers {
                set(&format!("scaling.{key}"), Value::F32(*number));
            }
        });
        let want = logits(ModelSource::Folder(scaled.clone()), Dtype::F32);
        let got = logits(ModelSource::Gguf(path.clone()), Dtype::Auto);
        assert!(got == want, "{kind} {numbers:?}");
        assert!(
            !seen.contains(&want),
            "{kind} {numbers:?}: it changed nothing"
        );
        seen.push(want);
    }
}

#[test]
fn biases_of_queries_and_keys_are_put_in_the_order_of_their_weights() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tiny.gguf");
    write_family(&path, "llama_odd", GgmlDType::F32, |metadata| {
        let mut set = |key: &str, value| metadata.insert(format!("llama.rope.{key}"), value);
        set("scaling.type", Value::String("linear".to_owned()));
        set("scaling.factor", Value::F32(4.0));
    });
    let got = logits(ModelSource::Gguf(path), Dtype::Auto);
    let want = logits(ModelSource::Folder(family("llama_odd")), Dtype::F32);
    assert!(got == want, "the logits differ");
}

#[test]
fn the_tokenizer_in_the_metadata_is_that_of_tokenizer_json() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tiny.gguf");
    write_gguf(&path, GgmlDType::F32, |_| ());
    let from_metadata = Engine::load(EngineOptions::new(ModelSource::Gguf(path))).expect("loads");
    let original = Engine::load(EngineOptions::new(ModelSource::Folder(fixture()))).expect("loads");
    for prompt in ["What is the answer?", "<q>é\n\n 12<c>", "the question 🦀"] {
        let got = block_on(from_metadata.raw(prompt.to_owned())).expect("completes");
        let want = block_on(original.raw(prompt.to_owned())).expect("completes");
        assert_eq!(
            (got.prompt_tokens, &got.token_ids),
            (want.prompt_tokens, &want.token_ids)
        );
        assert_eq!(got.text, want.text);
    }
}

#[test]
fn a_tokenizer_json_beside_is_used_if_it_is_that_of_the_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tiny.gguf");
    let beside = folder.path().join("tokenizer.json");
    let load = || match Engine::load(EngineOptions::new(ModelSource::Gguf(path.clone()))) {
        Ok(engine) => {
            let got = block_on(engine.raw("the answer".to_owned())).expect("completes");
            format!("{} tokens", got.prompt_tokens)
        }
        Err(error) => error.to_string(),
    };
    let mut tokenizer = json(&fixture().join("tokenizer.json"));
    let write = |tokenizer: &serde_json::Value| {
        fs::write(&beside, tokenizer.to_string()).expect("written");
    };
    // The file's own tokenizer cannot be used, so that it is seen which one is.
    write_gguf(&path, GgmlDType::F32, |metadata| {
        let unknown = Value::String("unknown".to_owned());
        metadata.insert("tokenizer.ggml.pre".to_owned(), unknown);
    });
    write(&tokenizer);
    let prompt = load();
    assert!(prompt.ends_with(" tokens"), "{prompt}");
    let vocabulary = &mut tokenizer["model"]["vocab"];
    vocabulary["#"] = 10.into();
    vocabulary["$"] = 9.into();
    write(&tokenizer);
    assert_eq!(
        load(),
        format!(
            "tokenizer.json beside {} is of another model: token 9 is \"$\" there and \"#\" in the \
             file; move the file into a folder of its own, or remove tokenizer.json",
            path.display()
        )
    );
    // A file that says nothing of its tokens is taken at its neighbour's word.
    write_gguf(&path, GgmlDType::F32, |metadata| {
        metadata.remove("tokenizer.ggml.tokens");
    });
    assert_eq!(load(), prompt);
}

const LOADS: &str = "it loads";

/// Why the fixture is not loaded with changed metadata.
fn refusal(change: &dyn Fn(&mut HashMap<String, Value>)) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tiny.gguf");
    write_gguf(&path, GgmlDType::F32, change);
    match Engine::load(EngineOptions::new(ModelSource::Gguf(path))) {
        Err(error) => error
            .to_string()
            .replace(&folder.path().display().to_string(), "FOLDER"),
        Ok(_) => LOADS.to_owned(),
    }
}

#[test]
fn a_gguf_file_that_cannot_be_used_is_refused_with_key_and_value() {
    let text = |text: &str| Value::String(text.to_owned());
    for architecture in ["mamba", "phi3", "granite", "smollm3", "olmo2"] {
        assert_eq!(
            refusal(&|metadata| {
                metadata.insert("general.architecture".to_owned(), text(architecture));
            }),
            format!(
                "FOLDER/tiny.gguf: general.architecture = {architecture} is not supported; supported: \
                 llama, qwen2, qwen3, gemma, gemma2, gemma3; of phi3, granite, smollm3 and olmo2 take \
                 the checkpoint in Hugging Face layout; serve others elsewhere, and set aligner.model: remote"
            )
        );
    }
    assert_eq!(
        refusal(&|metadata| {
            metadata.insert("llama.expert_count".to_owned(), Value::U32(8));
        }),
        "FOLDER/tiny.gguf: llama.expert_count = 8 is not supported; supported: 0, a model \
         without experts"
    );
    assert_eq!(
        refusal(&|metadata| {
            metadata.remove("llama.block_count");
        }),
        "FOLDER/tiny.gguf: llama.block_count is missing"
    );
    assert_eq!(
        refusal(&|metadata| {
            metadata.insert("tokenizer.ggml.pre".to_owned(), text("tekken"));
        }),
        "FOLDER/tiny.gguf: tokenizer.ggml.pre = tekken is not supported; put tokenizer.json beside \
         the file, or use gpt-2, smollm, llama-bpe or qwen2"
    );
    assert_eq!(
        refusal(&|metadata| {
            metadata.remove("tokenizer.ggml.model");
        }),
        "FOLDER/tiny.gguf: tokenizer.ggml.model names no tokenizer; put the model's tokenizer.json \
         beside the file"
    );
    let scaled = |key: &'static str, value: f32| {
        move |metadata: &mut HashMap<String, Value>| {
            let kind = Value::String("yarn".to_owned());
            metadata.insert("llama.rope.scaling.type".to_owned(), kind);
            metadata.insert(format!("llama.rope.scaling.{key}"), Value::F32(value));
        }
    };
    assert_eq!(
        refusal(&scaled("factor", 0.0)),
        "FOLDER/tiny.gguf: llama.rope.scaling.factor is 0; it must be a number above 0"
    );
    assert_eq!(
        refusal(&scaled("yarn_ext_factor", 0.5)),
        "FOLDER/tiny.gguf: llama.rope.scaling.yarn_ext_factor = 0.5 is not supported; supported: no \
         value of its own"
    );
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tiny.gguf");
    fs::write(&path, b"GGUF and nothing else").expect("written");
    let error = Engine::load(EngineOptions::new(ModelSource::Gguf(path))).err();
    assert!(matches!(
        error,
        Some(LoadError::Checkpoint(CheckpointError::Malformed { .. }))
    ));
}

#[test]
fn metadata_that_no_model_has_are_refused_with_key_and_value() {
    for (key, value, problem) in [
        (
            "attention.head_count",
            Value::U32(0),
            "is 0; expected a whole number of 1 to 16777216",
        ),
        (
            "attention.head_count_kv",
            Value::U32(0),
            "is 0; expected a whole number of 1 to 16777216",
        ),
        (
            "attention.head_count",
            Value::I32(-4),
            "is -4; expected a whole number of 1 to 16777216",
        ),
        (
            "block_count",
            Value::F32(2.0),
            "is 2.0; expected a whole number of 1 to 16777216",
        ),
        (
            "embedding_length",
            Value::U64(1 << 40),
            "is 1099511627776; expected a whole number of 1 to 16777216",
        ),
        (
            "attention.head_count_kv",
            Value::U32(3),
            "is 3, which does not divide attention.head_count = 4",
        ),
        (
            "attention.key_length",
            Value::U32(15),
            "is 15; it must be even and above 0",
        ),
        (
            "rope.dimension_count",
            Value::U32(8),
            "is 8, and a head has 16 components (attention.key_length); rotating a part of them is \
             not supported",
        ),
        (
            "rope.freq_base",
            Value::String("1e4".to_owned()),
            "is \"1e4\"; it must be a number from 0 on",
        ),
        (
            "rope.freq_base",
            Value::F32(0.0),
            "is 0; it must be a number above 0",
        ),
        (
            "attention.layer_norm_rms_epsilon",
            Value::F32(f32::NAN),
            "is NaN; it must be a number from 0 on",
        ),
    ] {
        let key = format!("llama.{key}");
        let got = refusal(&|metadata| {
            metadata.insert(key.clone(), value.clone());
        });
        assert_eq!(got, format!("FOLDER/tiny.gguf: {key} {problem}"));
    }
}

#[test]
fn embeddings_without_dimensions_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tiny.gguf");
    write_gguf(&path, GgmlDType::F32, |_| ());
    let mut bytes = fs::read(&path).expect("readable");
    let name = b"token_embd.weight";
    let at = bytes.windows(name.len()).position(|window| window == name);
    let at = at.expect("its name") + name.len();
    // How many there are, and both of them.
    bytes[at] = 0;
    bytes.drain(at + 4..at + 20);
    fs::write(&path, bytes).expect("written");
    let loaded = Engine::load(EngineOptions::new(ModelSource::Gguf(path.clone())));
    let error = loaded.map(|_| ()).expect_err("it is refused");
    let problem = "tensor token_embd.weight has shape []; the metadata says 64 for each token";
    assert_eq!(error.to_string(), format!("{}: {problem}", path.display()));
}

#[test]
fn a_type_of_tensors_that_is_not_read_is_named_with_those_that_are() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tiny.gguf");
    write_gguf(&path, GgmlDType::F32, |_| ());
    let written = fs::read(&path).expect("readable");
    let name = b"token_embd.weight";
    let at = written
        .windows(name.len())
        .position(|window| window == name);
    // Behind the name stand how many dimensions there are, and two of eight bytes each.
    let at = at.expect("its name") + name.len() + 4 + 16;
    for (number, shown) in [
        (23_u32, "IQ4_XS"),
        (20, "IQ4_NL"),
        (39, "MXFP4"),
        (99, "99"),
    ] {
        let mut bytes = written.clone();
        bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
        fs::write(&path, bytes).expect("written");
        let loaded = Engine::load(EngineOptions::new(ModelSource::Gguf(path.clone())));
        let error = loaded.map(|_| ()).expect_err("it is refused");
        let types = "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K";
        assert_eq!(
            error.to_string(),
            format!(
                "{}: the type of a tensor = {shown} is not supported; supported: {types}",
                path.display()
            )
        );
    }
}

#[test]
fn one_of_several_files_of_a_model_is_refused_with_how_to_put_them_together() {
    let split = |count: Value| {
        refusal(&|metadata| {
            // The first has the metadata; those behind it have no more than this.
            metadata.remove("general.architecture");
            metadata.insert("split.count".to_owned(), count.clone());
        })
    };
    let parts = "FOLDER/tiny.gguf: split.count is 3: this is one of 3 files that a model was split \
                 into; put them together with `llama-gguf-split --merge <the first of them> <the whole>`";
    assert_eq!(split(Value::U16(3)), parts);
    assert_eq!(split(Value::I32(3)), parts);
    let whole = refusal(&|metadata| {
        metadata.insert("split.count".to_owned(), Value::U16(1));
    });
    assert_eq!(whole, LOADS);
}

#[test]
fn a_pre_tokenizer_is_not_guessed() {
    let remedy = "put tokenizer.json beside the file, or use gpt-2, smollm, llama-bpe or qwen2";
    assert_eq!(
        refusal(&|metadata| {
            metadata.remove("tokenizer.ggml.pre");
        }),
        format!("FOLDER/tiny.gguf: tokenizer.ggml.pre is missing or no text; {remedy}")
    );
    let default = |metadata: &mut HashMap<String, Value>| {
        let default = Value::String("default".to_owned());
        metadata.insert("tokenizer.ggml.pre".to_owned(), default);
    };
    assert_eq!(
        refusal(&default),
        format!("FOLDER/tiny.gguf: tokenizer.ggml.pre = default is not supported; {remedy}")
    );
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tiny.gguf");
    let tokenizer = fixture().join("tokenizer.json");
    fs::copy(tokenizer, folder.path().join("tokenizer.json")).expect("copied");
    write_gguf(&path, GgmlDType::F32, default);
    Engine::load(EngineOptions::new(ModelSource::Gguf(path))).expect("loads");
}

#[test]
fn a_file_in_which_nothing_ends_an_output_is_refused_for_texts() {
    let end = |key: &str, id: Value| {
        refusal(&|metadata| {
            metadata.remove("tokenizer.ggml.eos_token_id");
            metadata.insert(format!("tokenizer.ggml.{key}"), id.clone());
        })
    };
    let refused = "FOLDER/tiny.gguf: tokenizer.ggml.eos_token_id names no token, and none of the \
                   vocabulary is known to end an output, so that every correction would run to its \
                   limit; convert the model again, with its tokenizer";
    assert_eq!(end("padding_token_id", Value::U32(0)), refused);
    assert_eq!(end("eos_token_id", Value::U32(320)), refused);
    assert_eq!(end("eom_token_id", Value::I64(2)), LOADS);
    // Those who count in tokens may do without.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tiny.gguf");
    write_family(&path, "llama2", GgmlDType::F32, |_| ());
    Probe::load(&EngineOptions::new(ModelSource::Gguf(path))).expect("loads");
}

#[test]
fn outputs_end_at_the_end_of_a_turn_though_no_key_names_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tiny.gguf");
    let decoded = |end: Option<u32>| {
        write_gguf(&path, GgmlDType::F32, |metadata| {
            let Some(id) = end else { return };
            let mut set = |key: &str, value| match metadata.get_mut(key) {
                Some(Value::Array(list)) => list[id as usize] = value,
                _ => panic!("{key} is no list"),
            };
            set(
                "tokenizer.ggml.tokens",
                Value::String("<|eot_id|>".to_owned()),
            );
            set("tokenizer.ggml.token_type", Value::I32(3));
        });
        let probe = Probe::load(&EngineOptions::new(ModelSource::Gguf(path.clone())));
        let request = TokenRequest {
            prompt: vec![104],
            output: Output::Greedy(8),
        };
        let run = probe.expect("loads").run(&[request]).expect("completes");
        run.tokens[0].clone()
    };
    let plain = decoded(None);
    assert_eq!(plain.len(), 8, "nothing ends it");
    assert_eq!(decoded(Some(plain[2])), plain[..3]);
}

/// A Llama with rows of 256, most of it in Q4_K and the rest in Q6_K, as `Q4_K_M` files have it.
fn write_k_quants(path: &Path) {
    const WIDTH: usize = 256;
    let noise = |rows: usize, columns: usize, salt: usize| {
        let values: Vec<f32> = (0..rows * columns)
            .map(|i| ((i * 7_919 + salt * 104_729) % 1_009) as f32 / 5_000.0 - 0.1)
            .collect();
        Tensor::from_vec(values, (rows, columns), &Device::Cpu).expect("a matrix")
    };
    let ones = Tensor::ones(WIDTH, candle_core::DType::F32, &Device::Cpu).expect("a vector");
    let mut tensors = vec![
        (
            "output_norm.weight".to_owned(),
            quantized(&ones, GgmlDType::F32),
        ),
        (
            "token_embd.weight".to_owned(),
            quantized(&noise(320, WIDTH, 1), GgmlDType::Q6K),
        ),
    ];
    for layer in 0..2 {
        let matrices = [
            ("attn_q", GgmlDType::Q4K),
            ("attn_k", GgmlDType::Q4K),
            ("attn_v", GgmlDType::Q6K),
            ("attn_output", GgmlDType::Q4K),
            ("ffn_gate", GgmlDType::Q4K),
            ("ffn_up", GgmlDType::Q4K),
            ("ffn_down", GgmlDType::Q6K),
        ];
        for (salt, (name, kind)) in matrices.into_iter().enumerate() {
            let values = noise(WIDTH, WIDTH, 10 * layer + salt + 2);
            tensors.push((
                format!("blk.{layer}.{name}.weight"),
                quantized(&values, kind),
            ));
        }
        for name in ["attn_norm", "ffn_norm"] {
            tensors.push((
                format!("blk.{layer}.{name}.weight"),
                quantized(&ones, GgmlDType::F32),
            ));
        }
    }
    let number = |value| Value::U32(value);
    let metadata = [
        ("general.architecture", Value::String("llama".to_owned())),
        ("llama.embedding_length", number(256)),
        ("llama.block_count", number(2)),
        ("llama.feed_forward_length", number(256)),
        ("llama.attention.head_count", number(4)),
        ("llama.context_length", number(512)),
    ];
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor))
        .collect();
    let mut file = BufWriter::new(File::create(path).expect("created"));
    gguf_file::write(&mut file, &metadata, &tensors).expect("written");
}

fn quantized(tensor: &Tensor, kind: GgmlDType) -> QTensor {
    QTensor::quantize(tensor, kind).expect("quantised")
}

#[test]
fn k_quants_run_as_they_are_stored() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("k.gguf");
    write_k_quants(&path);
    let load = |dtype| logits(ModelSource::Gguf(path.clone()), dtype);
    let (stored, held) = load(Dtype::Auto);
    assert_eq!(held, "mixed q4_k and q6_k");
    let (exact, held) = load(Dtype::F32);
    assert_eq!(held, "f32");
    let (fours, held) = load(Dtype::Q4K);
    assert_eq!(held, "q4_k");
    // The weights are the same; inputs are rounded to one part in 254 of their block's largest.
    let error = |got: &[Vec<Vec<f32>>]| {
        let pairs = got
            .iter()
            .flatten()
            .flatten()
            .zip(exact.iter().flatten().flatten());
        let (difference, size) = pairs.fold((0.0_f64, 0.0_f64), |(difference, size), (a, b)| {
            (
                difference + f64::from(a - b).powi(2),
                size + f64::from(*b).powi(2),
            )
        });
        (difference / size).sqrt()
    };
    assert!(error(&stored) < 0.02, "{}", error(&stored));
    // Here what was Q6_K is rounded to four bits too.
    assert!(error(&fours) < 0.2, "{}", error(&fours));
    // Alone, in other chunks and on other threads: the same bytes.
    let options = EngineOptions {
        threads: NonZeroUsize::new(1),
        ..EngineOptions::new(ModelSource::Gguf(path.clone()))
    };
    let probe = Probe::load(&options).expect("loads");
    for (prompt, together) in prompts().iter().zip(&stored) {
        let alone = probe.logits(std::slice::from_ref(prompt), 2, 7);
        assert_eq!(&alone[0], together);
    }
}
