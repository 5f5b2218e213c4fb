//! What each family's class in transformers takes for the keys that a `config.json` leaves out.
//!
//! Files that people write by hand, and the text half of multimodal ones, leave out what equals
//! the class's defaults.

/// Values of `model_type` that are read, and what becomes of others.
pub(crate) const SUPPORTED: &str = "llama, mistral, ministral, qwen2, qwen3, gemma, gemma2, \
    gemma3, gemma3_text; serve others elsewhere, and set aligner.model: remote";

/// Keys that a layer with a window sees; the same in every family that has windows.
pub const WINDOW: usize = 4096;

/// Where Gemma 2 caps the scores of attention.
pub const ATTENTION_SOFTCAP: f64 = 50.0;
/// Where Gemma 2 caps the logits.
pub const FINAL_SOFTCAP: f64 = 30.0;

/// Defaults of one family, as of transformers 5.24.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Defaults {
    pub(crate) hidden: usize,
    pub(crate) ffn: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    /// As many as heads if `None`.
    pub(crate) kv_heads: Option<usize>,
    /// Hidden size over heads if `None`.
    pub(crate) head: Option<usize>,
    pub(crate) vocab: usize,
    pub(crate) context: usize,
    pub(crate) eos: Option<u32>,
}

impl Defaults {
    /// Those of a `model_type`; `None` if it is not supported.
    pub(crate) fn of(family: &str) -> Option<Self> {
        let llama = Self {
            hidden: 4096,
            ffn: 11_008,
            layers: 32,
            heads: 32,
            kv_heads: None,
            head: None,
            vocab: 32_000,
            context: 2048,
            eos: Some(2),
        };
        let qwen2 = Self {
            ffn: 22_016,
            kv_heads: Some(32),
            vocab: 151_936,
            context: 32_768,
            eos: None,
            ..llama
        };
        let gemma2 = Self {
            hidden: 2304,
            ffn: 9216,
            layers: 26,
            heads: 8,
            kv_heads: Some(4),
            head: Some(256),
            vocab: 256_000,
            context: 8192,
            eos: Some(1),
        };
        Some(match family {
            "llama" => llama,
            "mistral" | "ministral" => Self {
                ffn: 14_336,
                kv_heads: Some(8),
                context: 131_072,
                ..llama
            },
            "qwen2" => qwen2,
            "qwen3" => Self {
                head: Some(128),
                ..qwen2
            },
            "gemma" => Self {
                hidden: 3072,
                ffn: 24_576,
                layers: 28,
                heads: 16,
                kv_heads: Some(16),
                ..gemma2
            },
            "gemma2" => gemma2,
            "gemma3" | "gemma3_text" => Self {
                vocab: 262_208,
                context: 131_072,
                ..gemma2
            },
            _ => return None,
        })
    }
}
