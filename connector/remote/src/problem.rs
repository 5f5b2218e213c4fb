//! What a server says of a request that it does not fulfil.

use serde::Deserialize;
use serde_json::Value;

/// The body of an error: OpenAI's form (`{"error": {…}}`), vLLM's older one, flat, or that of Text
/// Generation Inference (`{"error": "…"}`).
#[derive(Deserialize, Default)]
pub(crate) struct Problem {
    #[serde(default)]
    message: Option<String>,
    #[serde(default, rename = "type")]
    kind: Option<String>,
    /// A word, or the status again.
    #[serde(default)]
    code: Value,
    #[serde(default)]
    param: Value,
}

impl Problem {
    pub fn of(body: &[u8]) -> Self {
        let mut body: Value = serde_json::from_slice(body).unwrap_or_default();
        let problem = match body.get_mut("error").map(Value::take) {
            Some(Value::String(message)) => {
                return Self {
                    message: Some(message),
                    ..Self::default()
                };
            }
            Some(error @ Value::Object(_)) => error,
            _ => body,
        };
        serde_json::from_value(problem).unwrap_or_default()
    }

    /// Whether the server explained itself, as a proxy before it would not.
    pub fn is_readable(&self) -> bool {
        self.message.is_some() || self.kind.is_some()
    }

    /// Whether the prompt, or the prompt and `max_tokens`, do not fit the model's context.
    ///
    /// There is one code for it, and servers that do not use it say it in words: vLLM ("maximum
    /// context length", "max_tokens must be at least 1", param `input_tokens`), llama.cpp
    /// ("exceed_context_size_error"), Text Generation Inference ("must be <=").
    pub fn is_overflow(&self) -> bool {
        const WORDS: [&str; 8] = [
            "context length",
            "context size",
            "context window",
            "maximum input length",
            "prompt is too long",
            "too many tokens",
            "max_tokens must be at least 1",
            "`max_new_tokens` must be <=",
        ];
        let code = self.code.as_str().unwrap_or_default();
        let kind = self.kind.as_deref().unwrap_or_default();
        let param = self.param.as_str();
        let message = self
            .message
            .as_deref()
            .unwrap_or_default()
            .to_ascii_lowercase();
        code == "context_length_exceeded"
            || kind == "exceed_context_size_error"
            || param == Some("input_tokens")
            || WORDS.iter().any(|words| message.contains(words))
    }

    /// The error's type in brackets, if it is a plain word.
    pub fn word(&self) -> String {
        match self.kind.as_deref() {
            Some(kind)
                if !kind.is_empty()
                    && kind.len() <= 40
                    && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') =>
            {
                format!(" ({kind})")
            }
            _ => String::new(),
        }
    }
}
