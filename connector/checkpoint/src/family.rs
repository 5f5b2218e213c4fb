//! What each family's class in transformers takes for the keys that a `config.json` leaves out.
//!
//! Files that people write by hand, and the text half of multimodal ones, leave out what equals
//! the class's defaults.

/// Values of `model_type` that are read, and what becomes of others.
pub(crate) const SUPPORTED: &str = "llama, mistral, ministral, qwen2, qwen3, gemma, gemma2, \
    gemma3, gemma3_text, phi3, granite, smollm3, olmo2, olmo3; serve others \
    elsewhere, and set aligner.model: remote";

/// Keys that a layer with a window sees; the same in every family whose class names a number.
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
    /// Of a class that knows no scaled rotation but LongRoPE, and may rotate a part of each head: the
    /// context that LongRoPE began with.
    pub(crate) longrope: Option<usize>,
    pub(crate) epsilon: f64,
    pub(crate) tied: bool,
    /// What frequencies are powers of; of global layers where the local ones have their own.
    pub(crate) theta: f64,
    /// The rotation of local layers, where a file may say another than that of the global ones.
    pub(crate) local: Option<Local>,
    /// Keys that a layer with a window sees; there is no such layer if `None`.
    pub(crate) window: Option<usize>,
    pub(crate) eos: Option<u32>,
}

/// The rotation of local layers where a file says none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Local {
    /// What its frequencies are powers of.
    pub(crate) theta: f64,
    /// Where transformers 4 has that, if anywhere.
    pub(crate) key: Option<&'static str>,
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
            longrope: None,
            epsilon: 1e-6,
            tied: false,
            theta: 1e4,
            local: None,
            window: Some(WINDOW),
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
            tied: true,
            eos: Some(1),
            ..llama
        };
        let olmo2 = Self {
            vocab: 50_304,
            epsilon: 1e-5,
            eos: Some(50_279),
            ..llama
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
                theta: 1e6,
                local: Some(Local {
                    theta: 1e4,
                    key: Some("rope_local_base_freq"),
                }),
                ..gemma2
            },
            "granite" => llama,
            "olmo2" => olmo2,
            "olmo3" => Self {
                theta: 5e5,
                // The class looks for the theta of local layers nowhere else than in their own object.
                local: Some(Local {
                    theta: 5e5,
                    key: None,
                }),
                ..olmo2
            },
            "smollm3" => Self {
                hidden: 2048,
                layers: 36,
                heads: 16,
                kv_heads: Some(4),
                vocab: 128_256,
                context: 32_768,
                tied: true,
                theta: 2e6,
                window: None,
                eos: Some(128_001),
                ..llama
            },
            "phi3" => Self {
                hidden: 3072,
                ffn: 8192,
                vocab: 32_064,
                context: 4096,
                longrope: Some(4096),
                epsilon: 1e-5,
                window: None,
                eos: Some(32_000),
                ..llama
            },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests;
