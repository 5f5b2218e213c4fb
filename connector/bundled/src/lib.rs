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
    ("generation_config.json", include_bytes!("../model/generation_config.json")),
    ("model.safetensors", include_bytes!("../model/model.safetensors")),
    ("tokenizer.json", include_bytes!("../model/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../model/tokenizer_config.json")),
];
