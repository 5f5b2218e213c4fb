//! Which rotation a `config.json` asks for.
//!
//! Both spellings are read, that of transformers 4 (`rope_theta`, `rope_scaling`) and that of 5
//! (`rope_parameters`, per layer type for Gemma 3 and OLMo 3).

use crate::{CheckpointError, Json, Rope, family::Defaults};

/// What the rotations of a decoder depend on.
#[derive(Clone, Copy)]
pub(crate) struct Rotations<'a> {
    pub(crate) json: &'a Json,
    pub(crate) defaults: &'a Defaults,
    /// Components of a head.
    pub(crate) head: usize,
    pub(crate) context: usize,
}

impl Rotations<'_> {
    /// The rotation of the layers of a type, which Gemma 3 and OLMo 3 alone tell apart, or of all.
    pub(crate) fn of(&self, layer_type: Option<&str>) -> Result<Rope, CheckpointError> {
        const THETA: &str = "rope_theta";
        let json = self.json;
        let (key, default) = match (layer_type, self.defaults.local) {
            (Some("sliding_attention"), Some(local)) => (local.key, local.theta),
            _ => (Some(THETA), self.defaults.theta),
        };
        let outside = Theta {
            number: key.map_or(Ok(default), |key| json.number_or(key, default))?,
            json,
            key: key.unwrap_or(THETA),
        };
        let object = described(json, layer_type)?;
        if let (Some(object), None) = (&object, layer_type) {
            refuse_layer_types(object)?;
        }
        let rotated = self.rotated(object.as_ref())?;
        let Some(object) = object else {
            let rope = Rope::plain(outside.above(0.0, "")?, rotated);
            return Ok(rope.within(self.head));
        };
        // What stands outside counts for what the object leaves out.
        let theta = match object.optional_number("rope_theta")? {
            None => outside,
            Some(number) => Theta {
                number,
                json: &object,
                key: THETA,
            },
        };
        let rope = self.scaled(&object, layer_type.is_none(), &theta, rotated)?;
        Ok(rope.within(self.head))
    }

    /// How many components of a head are rotated, the first ones: all, but for Phi-3.
    fn rotated(&self, object: Option<&Json>) -> Result<usize, CheckpointError> {
        const KEY: &str = "partial_rotary_factor";
        if self.defaults.longrope.is_none() {
            return Ok(self.head);
        }
        let inner = object.filter(|object| object.mentions(KEY));
        let json = inner.unwrap_or(self.json);
        let factor = json.number_or(KEY, 1.0)?;
        // Rounded down, as transformers does.
        let rotated = (self.head as f64 * factor) as usize;
        if rotated == 0 || rotated > self.head || !rotated.is_multiple_of(2) {
            let problem = format!(
                "is {factor}, which rotates {rotated} of the {} components of a head; it must be an \
                 even number of them, 2 at least",
                self.head
            );
            return Err(json.problem(KEY, problem));
        }
        Ok(rotated)
    }
}

/// The object that describes it, if there is one.
fn described(json: &Json, layer_type: Option<&str>) -> Result<Option<Json>, CheckpointError> {
    // transformers 5: one object, or one for each layer type.
    let parameters = match (json.object("rope_parameters")?, layer_type) {
        (Some(parameters), Some(kind)) => parameters.object(kind)?,
        (parameters, _) => parameters,
    };
    // transformers 4 keeps what scales the rotation apart; of types of layers, that of the global ones
    // only. To transformers 5 an object of nothing is none.
    let scaling = json
        .object("rope_scaling")?
        .filter(|scaling| !scaling.is_empty() && layer_type != Some("sliding_attention"))
        // Their classes lay it over parameters of their own, which say "default": a kind under its old
        // name, `type`, changes nothing there.
        .filter(|scaling| layer_type.is_none() || parameters.is_some() || scaling.has("rope_type"));
    Ok(match (scaling, parameters) {
        // Where a file has both, those go by the keys of either, and the other classes by this one.
        (Some(scaling), Some(parameters)) if layer_type.is_some() => {
            Some(scaling.over(&parameters))
        }
        (scaling, parameters) => scaling.or(parameters),
    })
}

/// What frequencies are powers of, and where it stands.
pub(crate) struct Theta<'a> {
    number: f64,
    json: &'a Json,
    key: &'static str,
}

impl Theta<'_> {
    /// The number, if it is above `least`; `why` ends the error that says so.
    pub(crate) fn above(&self, least: f64, why: &str) -> Result<f64, CheckpointError> {
        let number = self.number;
        if number > least {
            return Ok(number);
        }
        let problem = format!("is {number}; it must be a number above {least}{why}");
        Err(self.json.problem(self.key, problem))
    }
}

/// Refuses an object for each layer type, of a family whose layers all rotate alike: what it holds
/// would not be seen.
fn refuse_layer_types(object: &Json) -> Result<(), CheckpointError> {
    const TYPES: [&str; 2] = ["full_attention", "sliding_attention"];
    let Some(kind) = TYPES.into_iter().find(|kind| object.has(kind)) else {
        return Ok(());
    };
    let problem = "is a rotation of one type of layers, which only gemma3, gemma3_text and olmo3 \
                   have; write the one of all layers into the object around it";
    Err(object.problem(kind, problem.to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::config::tests::read;

    #[test]
    fn a_theta_within_the_scaling_counts_before_the_one_outside() {
        let ropes = |family: &str, outside: Option<f64>, within: Option<f64>| {
            let mut scaling = json!({"rope_type": "linear", "factor": 8.0});
            if let Some(theta) = within {
                scaling["rope_theta"] = theta.into();
            }
            let mut config = json!({"model_type": family, "rope_scaling": scaling});
            if let Some(theta) = outside {
                config["rope_theta"] = theta.into();
            }
            read(config).expect("valid").ropes
        };
        for family in ["llama", "gemma3_text"] {
            let expected = ropes(family, Some(5e5), None);
            assert_eq!(ropes(family, None, Some(5e5)), expected, "{family}");
            assert_eq!(ropes(family, Some(1e4), Some(5e5)), expected, "{family}");
            assert_ne!(ropes(family, None, None), expected, "{family}");
        }
    }

    #[test]
    fn an_original_context_outside_counts_before_the_one_within_but_for_gemma_3() {
        const KEY: &str = "original_max_position_embeddings";
        let cases = ["rope_scaling", "rope_parameters"]
            .into_iter()
            .flat_map(|object| [(object, "llama3"), (object, "yarn")]);
        for (object, kind) in cases {
            // Which rotations count as slow depends on it.
            let ropes = |family: &str, outside: Option<usize>, within: Option<usize>| {
                let mut scaling = json!({"rope_type": kind, "rope_theta": 1e4, "factor": 4.0,
                    "low_freq_factor": 1.0, "high_freq_factor": 4.0, KEY: within});
                if family == "gemma3_text" && object == "rope_parameters" {
                    scaling = json!({ "full_attention": scaling });
                }
                let mut config = json!({"model_type": family, KEY: outside});
                config[object] = scaling;
                read(config).expect("valid").ropes
            };
            let within = ropes("llama", None, Some(128));
            assert_ne!(ropes("llama", None, Some(512)), within, "{object} {kind}");
            for inner in [None, Some(512)] {
                let outside = ropes("llama", Some(128), inner);
                assert_eq!(outside, within, "{object} {kind} {inner:?}");
                assert_eq!(
                    ropes("gemma3_text", Some(128), inner),
                    ropes("gemma3_text", None, inner),
                    "{object} {kind} {inner:?}"
                );
            }
        }
    }

    #[test]
    fn frequencies_of_llama_3_that_leave_nothing_between_them_are_refused() {
        for (low, high) in [(4.0, 4.0), (4.0, 1.0)] {
            let config = json!({"model_type": "llama", "rope_scaling": {"rope_type": "llama3",
                "factor": 8.0, "low_freq_factor": low, "high_freq_factor": high}});
            let error = read(config).expect_err("their distance is divided by");
            assert!(
                error.contains("low_freq_factor must be below high_freq_factor"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_partial_rotation_is_refused_where_it_is_scaled() {
        for object in ["rope_scaling", "rope_parameters"] {
            let mut config = json!({"model_type": "llama", "partial_rotary_factor": 0.5});
            config[object] = json!({"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4});
            let error = read(config.clone()).expect_err("it is refused");
            assert!(error.contains("partial_rotary_factor = 0.5"), "{error}");
            // transformers takes the inner one where there are two.
            config[object]["partial_rotary_factor"] = 1.0.into();
            read(config).expect("the whole head is rotated");
        }
    }

    #[test]
    fn a_rotation_that_is_not_scaled_is_of_the_whole_head_whatever_a_file_says() {
        let whole = read(json!({"model_type": "llama"})).expect("valid").ropes;
        let partial = json!({"model_type": "llama", "partial_rotary_factor": 0.5});
        assert_eq!(read(partial.clone()).expect("valid").ropes, whole);
        for object in ["rope_scaling", "rope_parameters"] {
            let mut config = partial.clone();
            config[object] = json!({"rope_type": "default", "partial_rotary_factor": 0.25});
            assert_eq!(read(config).expect("valid").ropes, whole, "{object}");
        }
    }

    #[test]
    fn ntk_scaling_is_none_within_the_trained_context() {
        let with = |kind: &str| {
            let rope = json!({"rope_type": kind, "rope_theta": 5e5, "factor": 4.0});
            read(json!({"model_type": "llama", "rope_parameters": rope})).expect("valid")
        };
        let (dynamic, plain) = (with("dynamic"), with("default"));
        let [dynamic_rope, plain_rope] = [&dynamic, &plain].map(|config| &config.ropes[0]);
        assert_eq!(dynamic_rope.frequencies, plain_rope.frequencies);
        assert_eq!(dynamic_rope.scaling, Some("dynamic"));
        assert_eq!(dynamic.context, 2048);
    }

    #[test]
    fn rotations_by_layer_type_are_refused_but_for_gemma_3_and_olmo_3() {
        let linear = json!({"rope_type": "linear", "factor": 8.0, "rope_theta": 5e5});
        for kind in ["full_attention", "sliding_attention"] {
            let config =
                |family: &str| json!({"model_type": family, "rope_parameters": { (kind): linear }});
            for family in [
                "llama",
                "mistral",
                "ministral",
                "qwen2",
                "qwen3",
                "gemma2",
                "phi3",
                "granite",
                "smollm3",
                "olmo2",
            ] {
                let expected = format!(
                    "config.json: rope_parameters.{kind} is a rotation of one type of layers, which \
                     only gemma3, gemma3_text and olmo3 have; write the one of all layers into the \
                     object around it"
                );
                assert_eq!(read(config(family)).expect_err(family), expected);
            }
            for family in ["gemma3_text", "olmo3"] {
                read(config(family)).expect("its layers differ");
            }
        }
    }

    #[test]
    fn whether_yarn_truncates_stands_beside_the_layer_types_of_gemma_3() {
        let with = |family: &str, within: bool, around: bool| {
            let mut rope = json!({"rope_type": "yarn", "factor": 16.0, "rope_theta": 5e4,
                "original_max_position_embeddings": 128, "truncate": within});
            if family == "gemma3_text" {
                rope = json!({"full_attention": rope, "truncate": around});
            }
            ropes(json!({"model_type": family, "rope_parameters": rope}))
        };
        assert_ne!(with("llama", false, true), with("llama", true, true));
        let gemma = |within, around| with("gemma3_text", within, around);
        assert_eq!(gemma(false, true), gemma(true, true));
        assert_ne!(gemma(true, false), gemma(true, true));
        // As transformers 4 wrote it.
        let scaled = |truncate: bool| {
            ropes(
                json!({"model_type": "gemma3_text", "rope_scaling": {"rope_type": "yarn",
                "factor": 16.0, "original_max_position_embeddings": 128, "truncate": truncate}}),
            )
        };
        assert_eq!(scaled(false), scaled(true));
    }

    fn ropes(json: Value) -> Vec<Rope> {
        read(json).expect("valid").ropes
    }

    #[test]
    fn a_scaling_of_nothing_is_none() {
        let linear = json!({"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0});
        for (family, parameters) in [
            ("llama", linear.clone()),
            ("gemma3_text", json!({ "full_attention": linear })),
        ] {
            let alone = json!({"model_type": family, "rope_parameters": parameters});
            let mut both = alone.clone();
            both["rope_scaling"] = json!({});
            assert_eq!(ropes(both), ropes(alone), "{family}");
        }
    }

    #[test]
    fn a_scaling_replaces_the_parameters_but_for_gemma_3_which_keeps_what_it_does_not_say() {
        let scaling = json!({"rope_type": "linear", "factor": 8.0});
        let plain = json!({"rope_type": "default", "rope_theta": 500.0});
        let of = |family: &str, scaling: Option<&Value>, parameters: Option<Value>| {
            ropes(json!({"model_type": family, "rope_scaling": scaling,
                "rope_parameters": parameters}))
        };
        assert_eq!(
            of("llama", Some(&scaling), Some(plain.clone())),
            of("llama", Some(&scaling), None)
        );
        let nested = |global: &Value| Some(json!({ "full_attention": global }));
        let merged = json!({"rope_type": "linear", "factor": 8.0, "rope_theta": 500.0});
        assert_eq!(
            of("gemma3_text", Some(&scaling), nested(&plain)),
            of("gemma3_text", None, nested(&merged))
        );
    }

    #[test]
    fn a_kind_under_its_old_name_scales_llama_and_not_gemma_3() {
        let scaling = json!({"type": "linear", "factor": 8.0});
        for (family, scales) in [("llama", true), ("gemma3_text", false)] {
            let plain = ropes(json!({"model_type": family}));
            let scaled = ropes(json!({"model_type": family, "rope_scaling": scaling}));
            assert_eq!(scaled != plain, scales, "{family}");
        }
    }

    #[test]
    fn rotations_that_cannot_be_are_refused_by_key() {
        let yarn = |key: &str, value: f64| {
            let mut rope = json!({"rope_type": "yarn", "factor": 2.0});
            rope[key] = value.into();
            json!({ "rope_parameters": rope })
        };
        for (mut config, problem) in [
            (
                json!({"rope_theta": 0}),
                "rope_theta is 0; it must be a number above 0",
            ),
            (
                json!({"rope_parameters": {"rope_type": "default", "rope_theta": 0}}),
                "rope_parameters.rope_theta is 0; it must be a number above 0",
            ),
            (
                yarn("rope_theta", 1.0),
                "rope_parameters.rope_theta is 1; it must be a number above 1, since YaRN divides \
                 by its logarithm",
            ),
            (
                yarn("original_max_position_embeddings", 0.0),
                "rope_parameters.original_max_position_embeddings is 0; it must be a number above 0",
            ),
            (
                yarn("factor", 0.0),
                "rope_parameters.factor is 0; it must be a number above 0",
            ),
            (
                json!({"original_max_position_embeddings": 0,
                    "rope_scaling": {"rope_type": "yarn", "factor": 2.0}}),
                "original_max_position_embeddings is 0; it must be a number above 0",
            ),
        ] {
            config["model_type"] = "llama".into();
            let error = read(config).expect_err(problem);
            assert_eq!(error, format!("config.json: {problem}"));
        }
        let unread = json!({"model_type": "llama", "rope_theta": 0,
            "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}});
        read(unread).expect("the theta within counts");
    }
}
