//! A model that finds no marker in a text.
//!
//! Trainers put special tokens into the vocabulary of the model, too. Where no text is cut at them first, a
//! model that looks up whole pieces finds them there: `</s>` in a question would be the end of the sequence.
//! So they get names there that no text holds, and keep their ids.

use serde_json::{Value, json};
use tokenizers::{Model as _, ModelWrapper};

use crate::layout::Marker;

/// The model without these markers; none where it has none of them, or finds none in a text.
pub(crate) fn without(model: &ModelWrapper, markers: &[Marker]) -> Option<ModelWrapper> {
    // Without `ignore_merges`, only merges make pieces, and trainers make none of a special token.
    if matches!(model, ModelWrapper::BPE(bpe) if !bpe.ignore_merges) {
        return None;
    }
    let known: Vec<&Marker> = markers
        .iter()
        .filter(|(token, id)| model.token_to_id(&token.content) == Some(*id))
        .collect();
    if known.is_empty() {
        return None;
    }
    let mut told = serde_json::to_value(model).ok()?;
    for (token, id) in known {
        rename(&mut told, &token.content, *id);
    }
    serde_json::from_value(told).ok()
}

/// Gives a piece of a model's vocabulary another name.
fn rename(model: &mut Value, piece: &str, id: u32) {
    // By this name the model finds what it says of unknown text, and texts that hold it are unknown, too.
    if model["unk_token"] == piece {
        return;
    }
    // Whoever writes a text cannot know it.
    let name = format!("\u{ffff}{:032x}", rand::random::<u128>());
    match &mut model["vocab"] {
        // Unigram's, by id: each piece with its score.
        Value::Array(pieces) => {
            if let Some(named) = pieces.get_mut(id as usize) {
                named[0] = name.into();
            }
        }
        Value::Object(ids) => {
            ids.remove(piece);
            ids.insert(name, json!(id));
        }
        _ => {}
    }
}
