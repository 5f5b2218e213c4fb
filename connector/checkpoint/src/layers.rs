//! What distinguishes one layer from another: through which window it looks, and how it rotates.

use serde_json::Value;

use crate::{
    CheckpointError, Rope,
    config::{Layer, Reader},
    rotation::Rotations,
};

impl Reader<'_> {
    /// The window and rotation of each layer.
    pub(crate) fn layers(
        &self,
        count: usize,
        head: usize,
        context: usize,
    ) -> Result<(Vec<Layer>, Vec<Rope>), CheckpointError> {
        let rotated = self.rotated(count)?;
        let sliding = self.sliding(count, &rotated)?;
        let window = self.window()?;
        // Of files that the class fails on.
        let fails = matches!(self.family, "smollm3" | "olmo3");
        if fails && window.is_none() && sliding.contains(&true) {
            let problem = "must be a number, since there are layers of type sliding_attention";
            return Err(self.json.problem("sliding_window", problem.to_owned()));
        }
        let by_type = self.defaults.local.is_some();
        let rotations = Rotations {
            json: self.json,
            defaults: &self.defaults,
            head,
            context,
        };
        let mut ropes = if by_type {
            vec![
                rotations.of(Some("full_attention"))?,
                rotations.of(Some("sliding_attention"))?,
            ]
        } else {
            vec![rotations.of(None)?]
        };
        let none = ropes.len();
        if rotated.contains(&false) {
            ropes.push(Rope::none(head));
        }
        let layers = sliding
            .into_iter()
            .zip(rotated)
            .map(|(sliding, rotated)| Layer {
                window: window.filter(|_| sliding),
                rope: if rotated {
                    usize::from(by_type && sliding)
                } else {
                    none
                },
            })
            .collect();
        Ok((layers, ropes))
    }

    /// Which layers rotate queries and keys.
    fn rotated(&self, count: usize) -> Result<Vec<bool>, CheckpointError> {
        const KEY: &str = "no_rope_layers";
        let json = self.json;
        if self.family != "smollm3" {
            return Ok(vec![true; count]);
        }
        let Some(list) = json.get(KEY) else {
            let interval = json.size_or("no_rope_layer_interval", 4)?;
            return Ok((1..=count).map(|layer| layer % interval != 0).collect());
        };
        // In spite of the name, those that have one.
        let rotated = list.as_array().and_then(|list| {
            let numbers = list.iter().map(Value::as_i64);
            let rotated = numbers.map(|number| number.map(|number| number != 0));
            rotated.take(count).collect::<Option<Vec<bool>>>()
        });
        let rotated = rotated.filter(|rotated| rotated.len() == count);
        rotated.ok_or_else(|| {
            let problem =
                format!("must be a list of whole numbers, one for each of {count} layers at least");
            json.problem(KEY, problem)
        })
    }

    /// Keys that a layer with a window sees. Null, other than nothing, is no window.
    fn window(&self) -> Result<Option<usize>, CheckpointError> {
        let absent = !self.json.mentions("sliding_window");
        let window = self.json.optional_size("sliding_window")?;
        Ok(window.or(self.defaults.window.filter(|_| absent)))
    }

    /// Which layers look through a window; `rotated` are those that rotate.
    fn sliding(&self, count: usize, rotated: &[bool]) -> Result<Vec<bool>, CheckpointError> {
        let json = self.json;
        if matches!(self.family, "llama" | "gemma" | "granite" | "olmo2") {
            return Ok(vec![false; count]);
        }
        if matches!(self.family, "qwen2" | "qwen3") && !json.flag_or("use_sliding_window", false)? {
            return Ok(vec![false; count]);
        }
        // transformers takes a Mistral that has these for a Ministral, which differs in nothing else.
        let types = json.get("layer_types").filter(|_| self.family != "phi3");
        if let Some(types) = types {
            let types = types
                .as_array()
                .filter(|types| types.len() == count)
                .ok_or_else(|| json.problem("layer_types", format!("must list {count} layers")))?;
            return types
                .iter()
                .map(|kind| match kind.as_str() {
                    Some("sliding_attention") => Ok(true),
                    Some("full_attention") => Ok(false),
                    _ => Err(json.unsupported("layer_types", "full_attention, sliding_attention")),
                })
                .collect();
        }
        Ok(match self.family {
            // A window, if any, is everywhere.
            "mistral" | "ministral" | "phi3" => vec![true; count],
            "smollm3" => {
                let used = json.flag_or("use_sliding_window", false)? && self.window()?.is_some();
                rotated.iter().map(|rotated| used && !rotated).collect()
            }
            "olmo3" => (1..=count).map(|layer| layer % 4 != 0).collect(),
            "gemma2" => (0..count).map(|layer| layer % 2 == 0).collect(),
            "gemma3" | "gemma3_text" => {
                let pattern = json.size_or("sliding_window_pattern", 6)?;
                (0..count).map(|layer| (layer + 1) % pattern != 0).collect()
            }
            _ => {
                let full = json.count_or("max_window_layers", 28)?;
                (0..count).map(|layer| layer >= full).collect()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::tests::windows;

    #[test]
    fn windows_begin_where_the_file_says() {
        let qwen = |full: usize, on: bool| {
            json!({"model_type": "qwen2", "num_hidden_layers": 3, "sliding_window": 7,
                "use_sliding_window": on, "max_window_layers": full})
        };
        assert_eq!(windows(qwen(0, true)), [Some(7); 3]);
        assert_eq!(windows(qwen(2, true)), [None, None, Some(7)]);
        assert_eq!(windows(qwen(0, false)), [None; 3]);
    }

    #[test]
    fn layers_of_a_mistral_have_windows_where_its_layer_types_say_so() {
        for family in ["mistral", "ministral"] {
            let mistral = |types: Value| {
                windows(json!({"model_type": family, "num_hidden_layers": 2,
                    "sliding_window": 9, "layer_types": types}))
            };
            let mixed = json!(["full_attention", "sliding_attention"]);
            assert_eq!(mistral(mixed), [None, Some(9)], "{family}");
            assert_eq!(mistral(json!(null)), [Some(9); 2], "{family}");
        }
    }
}
