//! The decoder against Hugging Face transformers, family by family, on the fixtures that
//! `fixtures/make_fixtures.py` makes.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use aligner_engine::{
    Dtype, EngineOptions, Limits, ModelSource, Speculation,
    probe::{Output, Probe, TokenRequest},
};
use candle_core::{DType, Device, Tensor};
use safetensors::SafeTensors;

struct Reference {
    prompts: Vec<Vec<u32>>,
    /// At the last three positions of each prompt.
    logits: Vec<Vec<Vec<f32>>>,
    /// For all prompts but the last, long one.
    greedy: Vec<Vec<u32>>,
    gaps: Vec<Vec<f32>>,
}

fn fixture(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(family)
}

fn reference(family: &str) -> Reference {
    let bytes = std::fs::read(fixture(family).join("reference.safetensors")).expect("readable");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let words = |name: &str| -> Vec<[u8; 4]> {
        let view = file.tensor(name).expect("in the file");
        view.data()
            .chunks_exact(4)
            .map(|b| [b[0], b[1], b[2], b[3]])
            .collect()
    };
    let ids = |name| -> Vec<u32> { words(name).into_iter().map(u32::from_le_bytes).collect() };
    let floats = |name| -> Vec<f32> { words(name).into_iter().map(f32::from_le_bytes).collect() };
    let tokens = ids("tokens");
    let mut start = 0;
    let prompts: Vec<Vec<u32>> = ids("lengths")
        .into_iter()
        .map(|length| {
            start += length as usize;
            tokens[start - length as usize..start].to_vec()
        })
        .collect();
    let logits = floats("logits");
    let vocab = logits.len() / (3 * prompts.len());
    let logits = logits
        .chunks_exact(3 * vocab)
        .map(|rows| rows.chunks_exact(vocab).map(<[f32]>::to_vec).collect())
        .collect();
    let (greedy, gaps) = (ids("greedy"), floats("gaps"));
    let new = greedy.len() / (prompts.len() - 1);
    Reference {
        prompts,
        logits,
        greedy: greedy.chunks_exact(new).map(<[u32]>::to_vec).collect(),
        gaps: gaps.chunks_exact(new).map(<[f32]>::to_vec).collect(),
    }
}

fn probe(family: &str) -> Probe {
    let options = EngineOptions {
        dtype: Dtype::F32,
        speculation: Speculation::Off,
        limits: Limits {
            kv_tokens: Some(16_384),
            ..Limits::default()
        },
        ..EngineOptions::new(ModelSource::Folder(fixture(family)))
    };
    Probe::load(&options).expect("the fixture loads")
}

fn agrees_with_transformers(family: &str) {
    let reference = reference(family);
    let probe = probe(family);
    for chunk in [usize::MAX / 2, 512] {
        let logits = probe.logits(&reference.prompts, 3, chunk);
        for (prompt, (got, want)) in logits.iter().zip(&reference.logits).enumerate() {
            for (got, want) in got.iter().rev().zip(want.iter().rev()) {
                let scale = want
                    .iter()
                    .fold(0.0_f32, |scale, value| scale.max(value.abs()));
                for (got, want) in got.iter().zip(want) {
                    assert!(
                        (got - want).abs() <= 1e-4 * scale,
                        "{family}, prompt {prompt}: {got} for {want} at scale {scale}"
                    );
                }
            }
        }
    }

    let requests: Vec<TokenRequest> = reference
        .prompts
        .iter()
        .zip(&reference.greedy)
        .map(|(prompt, greedy)| TokenRequest {
            prompt: prompt.clone(),
            output: Output::Exactly(greedy.len()),
        })
        .collect();
    let run = probe.run(&requests).expect("all fit");
    for (prompt, (tokens, wanted)) in run.tokens.iter().zip(&reference.greedy).enumerate() {
        for (step, (token, want)) in tokens.iter().zip(wanted).enumerate() {
            if reference.gaps[prompt][step] <= 1e-3 {
                // Tied: either is right, and from here on the texts may differ.
                break;
            }
            assert_eq!(token, want, "{family}, prompt {prompt}, step {step}");
        }
    }
}

macro_rules! families {
    ($($claim:ident: $family:literal)*) => {
        $(
            #[test]
            fn $claim() {
                agrees_with_transformers($family);
            }
        )*
    };
}

families! {
    llama_2_agrees_with_transformers: "llama2"
    llama_3_in_shards_with_scaled_rope_agrees_with_transformers: "llama3"
    odd_sizes_and_biases_agree_with_transformers: "llama_odd"
    mistral_with_a_window_agrees_with_transformers: "mistral"
    qwen_2_agrees_with_transformers: "qwen2"
    qwen_3_with_yarn_agrees_with_transformers: "qwen3"
    gemma_agrees_with_transformers: "gemma"
    gemma_2_agrees_with_transformers: "gemma2"
    gemma_3_agrees_with_transformers: "gemma3"
    phi_3_that_rotates_a_part_of_each_head_by_longrope_agrees_with_transformers: "phi3"
    granite_with_factors_of_its_own_agrees_with_transformers: "granite"
    smollm_3_with_layers_that_do_not_rotate_agrees_with_transformers: "smollm3"
    olmo_2_with_norms_behind_agrees_with_transformers: "olmo2"
    olmo_3_with_windows_and_two_rotations_agrees_with_transformers: "olmo3"
}

#[test]
fn a_repetition_penalty_counts_as_in_transformers_with_drafts_or_without() {
    let prompt = vec![3, 290, 17, 40, 290, 17, 55, 4, 60, 61, 62, 5];
    // Of `generate(do_sample=False, repetition_penalty=…)` of transformers 5.24, in f32; the best
    // two scores are never closer than 0.003.
    let cases: [(f64, [u32; 24]); 3] = [
        (
            1.0,
            [
                138, 6, 37, 137, 103, 218, 286, 295, 56, 37, 258, 71, 189, 221, 295, 177, 93, 307,
                86, 157, 24, 301, 54, 301,
            ],
        ),
        (
            1.3,
            [
                138, 6, 37, 137, 103, 218, 286, 295, 56, 160, 214, 72, 145, 116, 25, 181, 30, 70,
                172, 143, 188, 53, 52, 220,
            ],
        ),
        (
            0.8,
            [
                138, 6, 37, 137, 103, 218, 286, 17, 258, 71, 104, 71, 218, 258, 71, 214, 47, 102,
                28, 172, 258, 258, 254, 64,
            ],
        ),
    ];
    for (penalty, expected) in cases {
        let copy = tempfile::tempdir().expect("a temporary folder");
        for name in ["config.json", "model.safetensors"] {
            std::fs::copy(fixture("llama2").join(name), copy.path().join(name)).expect("copied");
        }
        let generation = format!("{{\"repetition_penalty\": {penalty}}}");
        std::fs::write(copy.path().join("generation_config.json"), generation).expect("written");
        for speculation in [Speculation::Off, Speculation::Always] {
            let options = EngineOptions {
                dtype: Dtype::F32,
                speculation,
                limits: Limits {
                    kv_tokens: Some(1_024),
                    ..Limits::default()
                },
                ..EngineOptions::new(ModelSource::Folder(copy.path().to_owned()))
            };
            let probe = Probe::load(&options).expect("loads");
            let request = TokenRequest {
                prompt: prompt.clone(),
                output: Output::Exactly(expected.len()),
            };
            // Drafts of the second time are made from the first.
            for time in ["first", "second"] {
                let run = probe.run(std::slice::from_ref(&request)).expect("it fits");
                assert_eq!(
                    run.tokens[0], expected,
                    "{penalty} with {speculation:?}, the {time} time"
                );
                // The first draft is what followed 138 the first time.
                let drafted = speculation == Speculation::Always && time == "second";
                let accepted = run.work.accepted_drafts;
                assert!(!drafted || accepted > 0, "{penalty}: no draft is checked");
            }
        }
    }
}

#[test]
fn both_spellings_of_config_json_mean_the_same() {
    for family in [
        "llama3",
        "llama_odd",
        "mistral",
        "qwen3",
        "gemma",
        "gemma2",
        "gemma3",
        "phi3",
        "granite",
        "smollm3",
        "olmo2",
        "olmo3",
    ] {
        let copy = tempfile::tempdir().expect("a temporary folder");
        for entry in std::fs::read_dir(fixture(family)).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a file").to_owned();
            std::fs::copy(&path, copy.path().join(name)).expect("copied");
        }
        let older = fixture(family).join("config.v4.json");
        std::fs::copy(older, copy.path().join("config.json")).expect("copied");
        let options = EngineOptions::new(ModelSource::Folder(copy.path().to_owned()));
        let older = Probe::load(&options).expect("the older spelling loads");
        let prompts = vec![(3..120).collect::<Vec<u32>>()];
        let newer = probe(family).logits(&prompts, 2, 64);
        assert_eq!(older.logits(&prompts, 2, 64), newer, "{family}");
    }
}

#[test]
fn a_head_beside_tied_embeddings_is_used_and_either_may_stand_for_both() {
    let copy = tempfile::tempdir().expect("a temporary folder");
    let folder = fixture("llama2");
    let config = std::fs::read_to_string(folder.join("config.json")).expect("readable");
    let tied = config.replace(
        "\"tie_word_embeddings\": false",
        "\"tie_word_embeddings\": true",
    );
    assert_ne!(config, tied, "the fixture's head is its own");
    std::fs::write(copy.path().join("config.json"), tied).expect("written");
    let weights = copy.path().join("model.safetensors");
    std::fs::copy(folder.join("model.safetensors"), &weights).expect("copied");
    let load = || {
        let options = EngineOptions::new(ModelSource::Folder(copy.path().to_owned()));
        Probe::load(&options).expect("loads")
    };
    let prompts = vec![(3..40).collect::<Vec<u32>>()];
    assert_eq!(
        load().logits(&prompts, 2, 64),
        probe("llama2").logits(&prompts, 2, 64),
        "both are used"
    );

    let mut tensors =
        candle_core::safetensors::load(&weights, &candle_core::Device::Cpu).expect("readable");
    let head = tensors.remove("lm_head.weight").expect("a head");
    candle_core::safetensors::save(&tensors, &weights).expect("written");
    tensors.insert("model.embed_tokens.weight".to_owned(), head.clone());
    let with_embeddings = load().logits(&prompts, 2, 64);
    candle_core::safetensors::save(&tensors, &weights).expect("written");
    let of_the_head = load().logits(&prompts, 2, 64);
    assert_ne!(with_embeddings, of_the_head);
    tensors.remove("model.embed_tokens.weight");
    tensors.insert("lm_head.weight".to_owned(), head);
    candle_core::safetensors::save(&tensors, &weights).expect("written");
    assert_eq!(load().logits(&prompts, 2, 64), of_the_head);
}

#[test]
fn floats_of_sixteen_bits_compute_what_they_do_widened_in_half_of_the_memory() {
    let copy = tempfile::tempdir().expect("a temporary folder");
    let weights = copy.path().join("model.safetensors");
    let folder = fixture("llama2");
    std::fs::copy(folder.join("config.json"), copy.path().join("config.json")).expect("copied");
    let original = folder.join("model.safetensors");
    let original = candle_core::safetensors::load(original, &Device::Cpu).expect("readable");
    // The weights rounded to `rounded`, where `narrow` says so held as it, elsewhere in f32.
    let probe_of = |rounded: DType, narrow: &dyn Fn(&str) -> bool| {
        let tensors: HashMap<&str, Tensor> = original
            .iter()
            .map(|(name, tensor)| {
                let tensor = tensor.to_dtype(rounded).expect("rounded");
                let held = if narrow(name) { rounded } else { DType::F32 };
                (name.as_str(), tensor.to_dtype(held).expect("widened"))
            })
            .collect();
        candle_core::safetensors::save(&tensors, &weights).expect("written");
        let options = EngineOptions::new(ModelSource::Folder(copy.path().to_owned()));
        Probe::load(&options).expect("loads")
    };
    let prompts = vec![(3..80).collect::<Vec<u32>>(), (40..45).collect()];
    for rounded in [DType::F16, DType::BF16] {
        let wide = probe_of(rounded, &|_| false);
        let expected = wide.logits(&prompts, 3, 64);
        let narrow = probe_of(rounded, &|_| true);
        assert_eq!(narrow.logits(&prompts, 3, 64), expected, "{rounded:?}");
        assert_eq!(narrow.describe().dtype, "f32");
        assert_eq!(narrow.describe().kv_dtype, "f32");
        // Plain arrays widen f16 at load.
        let widens = narrow.describe().kernels != "portable" || rounded == DType::BF16;
        let times = if widens { 2 } else { 1 };
        let (bytes, all) = (narrow.describe().step_bytes, wide.describe().step_bytes);
        assert_eq!(bytes * times, all, "{rounded:?}");
        let mixed = probe_of(rounded, &|name| !name.contains("k_proj"));
        assert_eq!(mixed.logits(&prompts, 3, 64), expected, "{rounded:?}");
    }
}
