//! The Aligner that ships with the product, inside the binary.
//!
//! A checkpoint in Hugging Face layout with its profile (`aligner.json`); see `model/README.md`
//! for how it was trained and what it can and cannot do. Nothing here loads it: whoever does gets
//! the files by name.

/// Its name.
pub const NAME: &str = "bundled";

/// The files of the checkpoint, by name.
pub const FILES: &[(&str, &[u8])] = &[
    ("aligner.json", include_bytes!("../model/aligner.json")),
    ("config.json", include_bytes!("../model/config.json")),
    (
        "generation_config.json",
        include_bytes!("../model/generation_config.json"),
    ),
    (
        "model.safetensors",
        include_bytes!("../model/model.safetensors"),
    ),
    ("tokenizer.json", include_bytes!("../model/tokenizer.json")),
    (
        "tokenizer_config.json",
        include_bytes!("../model/tokenizer_config.json"),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> &'static [u8] {
        let (_, bytes) = FILES.iter().find(|(n, _)| *n == name).expect(name);
        bytes
    }

    #[test]
    fn it_stays_small_enough_for_the_repository() {
        let total: usize = FILES.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(total <= 24 << 20, "{total} bytes");
    }

    #[test]
    fn the_weights_are_half_precision_safetensors() {
        let weights = file("model.safetensors");
        let length = u64::from_le_bytes(weights[..8].try_into().expect("eight bytes")) as usize;
        let header = std::str::from_utf8(&weights[8..8 + length]).expect("a text header");
        assert!(header.contains("model.embed_tokens.weight"));
        assert!(header.contains("\"F16\"") && !header.contains("\"F32\""));
    }

    #[test]
    fn the_profile_names_the_tokens_that_the_tokenizer_has() {
        let profile = std::str::from_utf8(file("aligner.json")).expect("text");
        let tokenizer = std::str::from_utf8(file("tokenizer.json")).expect("text");
        for token in [
            "<|question|>",
            "<|answer|>",
            "<|correction|>",
            "<|unchanged|>",
        ] {
            assert!(
                profile.contains(token) && tokenizer.contains(token),
                "{token}"
            );
        }
    }
}
