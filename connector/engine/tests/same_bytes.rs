//! An output has the same bytes whatever else is in the batch, however prompts are chunked, on
//! however many threads, in whatever order requests come, with drafts or without, and even if it
//! was preempted and computed again.

use std::{num::NonZeroUsize, path::Path};

use aligner_engine::{
    Dtype, EngineOptions, Limits, ModelSource, Speculation,
    probe::{Output, Probe, TokenRequest},
};
use proptest::prelude::*;

fn options(family: &str, dtype: Dtype) -> EngineOptions {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(family);
    EngineOptions {
        dtype,
        speculation: Speculation::Off,
        threads: NonZeroUsize::new(1),
        ..EngineOptions::new(ModelSource::Folder(folder))
    }
}

/// Prompts that begin alike, repeat themselves, or have nothing in common.
fn requests() -> Vec<TokenRequest> {
    (0..9_u32)
        .map(|index| {
            let length = [3, 17, 40, 64, 5, 33, 90, 16, 48][index as usize];
            let prompt = (0..length)
                .map(|i| match index % 3 {
                    0 => 10 + i % 7,
                    1 => 20 + (i * i + index) % 290,
                    _ => 30 + i,
                })
                .collect();
            TokenRequest {
                prompt,
                output: Output::Greedy(20 + 7 * index as usize),
            }
        })
        .collect()
}

fn alone(family: &str, dtype: Dtype) -> Vec<Vec<u32>> {
    let probe = Probe::load(&options(family, dtype)).expect("the fixture loads");
    requests()
        .into_iter()
        .map(|request| probe.run(&[request]).expect("it fits").tokens.remove(0))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn outputs_do_not_depend_on_batch_chunks_threads_order_drafts_or_preemption(
        order in Just((0..9_usize).collect::<Vec<_>>()).prop_shuffle(),
        count in 1_usize..10,
        max_step_tokens in 1_usize..80,
        max_running in 1_usize..10,
        kv_tokens in 176_usize..600,
        threads in 1_usize..4,
        speculation in prop::bool::ANY,
        family in prop::sample::select(vec!["llama3", "gemma2", "qwen3"]),
        int8 in prop::bool::ANY,
    ) {
        let dtype = if int8 { Dtype::Q8_0 } else { Dtype::F32 };
        let expected = alone(family, dtype);
        let options = EngineOptions {
            threads: NonZeroUsize::new(threads),
            speculation: if speculation { Speculation::Always } else { Speculation::Off },
            limits: Limits {
                max_step_tokens,
                max_running,
                kv_tokens: Some(kv_tokens),
                ..Limits::default()
            },
            ..options(family, dtype)
        };
        let probe = Probe::load(&options).expect("the fixture loads");
        let all = requests();
        let chosen: Vec<TokenRequest> =
            order[..count].iter().map(|&index| all[index].clone()).collect();
        let run = probe.run(&chosen).expect("they fit");
        for (place, &index) in order[..count].iter().enumerate() {
            prop_assert_eq!(&run.tokens[place], &expected[index], "request {}", index);
        }
    }
}

#[test]
fn logits_are_the_same_bytes_in_a_batch_as_alone() {
    for (family, dtype) in [
        ("llama2", Dtype::F32),
        ("mistral", Dtype::Q8_0),
        ("gemma3", Dtype::F32),
        ("phi3", Dtype::Q8_0),
        ("granite", Dtype::F32),
        ("smollm3", Dtype::Q8_0),
        ("olmo2", Dtype::Q8_0),
        ("olmo3", Dtype::F32),
    ] {
        let prompts: Vec<Vec<u32>> = requests()
            .into_iter()
            .map(|request| request.prompt)
            .collect();
        let threads = NonZeroUsize::new(3);
        let batch = Probe::load(&EngineOptions {
            threads,
            ..options(family, dtype)
        })
        .expect("the fixture loads");
        let single = Probe::load(&options(family, dtype)).expect("the fixture loads");
        let together = batch.logits(&prompts, 2, 37);
        for (index, prompt) in prompts.iter().enumerate() {
            let alone = single.logits(std::slice::from_ref(prompt), 2, 1_000);
            let bits = |rows: &[Vec<f32>]| -> Vec<u32> {
                rows.iter().flatten().map(|value| value.to_bits()).collect()
            };
            assert_eq!(
                bits(&together[index]),
                bits(&alone[0]),
                "{family}, prompt {index}"
            );
        }
    }
}
