//! Families that have switches of their own: what their classes take, and what they refuse.

use serde_json::{Value, json};

use crate::{Config, Json, Norms, QkNorm, Rope};

fn read(json: &Value) -> Result<Config, String> {
    Json::of("config.json", json)
        .and_then(|json| Config::read(&json))
        .map_err(|error| error.to_string())
}

fn config(json: Value) -> Config {
    read(&json).expect("valid")
}

/// What `changes` make of a valid file is refused so.
fn refused(base: &Value, changes: &[(&str, Value)]) -> String {
    let mut json = base.clone();
    for (key, value) in changes {
        json[*key] = value.clone();
    }
    let error = read(&json).expect_err("it is refused");
    error
        .strip_prefix("config.json: ")
        .expect("its file")
        .to_owned()
}

#[test]
fn what_a_file_of_phi_3_leaves_out_is_what_its_class_takes() {
    let phi = config(json!({"model_type": "phi3"}));
    assert_eq!((phi.hidden, phi.ffn, phi.vocab), (3072, 8192, 32_064));
    assert_eq!((phi.heads, phi.kv_heads, phi.head), (32, 32, 96));
    assert_eq!((phi.layers.len(), phi.context), (32, 4096));
    assert_eq!((phi.epsilon, &phi.eos[..]), (1e-5, &[32_000][..]));
    assert!(phi.fused && !phi.tied && !phi.qkv_bias && !phi.mlp_bias);
    assert_eq!(phi.layers[0].window, None);
    assert_eq!(phi.ropes, [Rope::plain(1e4, 96)]);
    let phi = config(json!({"model_type": "phi3", "sliding_window": 7,
        "layer_types": ["full_attention"], "attention_bias": true, "mlp_bias": true}));
    assert!(phi.layers.iter().all(|layer| layer.window == Some(7)));
    assert!(
        !phi.qkv_bias && !phi.out_bias && !phi.mlp_bias,
        "it reads neither"
    );
}

#[test]
fn phi_3_rotates_as_much_of_a_head_as_the_file_says() {
    let rope = |more: Value| {
        let mut json = json!({"model_type": "phi3", "hidden_size": 64,
            "num_attention_heads": 4});
        for (key, value) in more.as_object().expect("an object") {
            json[key] = value.clone();
        }
        config(json).ropes.remove(0)
    };
    let three_quarters = rope(json!({"partial_rotary_factor": 0.75}));
    let mut expected = Rope::plain(1e4, 12).frequencies;
    expected.extend([0.0; 2]);
    assert_eq!(three_quarters.frequencies, expected);
    assert_eq!(three_quarters.rotated, 6);
    for object in ["rope_scaling", "rope_parameters"] {
        let plain = rope(json!({"partial_rotary_factor": 0.75, object: {"type": "default"}}));
        assert_eq!(plain, three_quarters, "{object}");
        let within = json!({"type": "default", "partial_rotary_factor": 0.75});
        let inner = rope(json!({"partial_rotary_factor": 0.5, object: within}));
        assert_eq!(inner, three_quarters, "{object}");
    }
}

const SHORT: [f32; 2] = [1.0, 2.0];

fn longrope() -> Value {
    json!({"model_type": "phi3", "hidden_size": 8, "num_attention_heads": 2,
        "max_position_embeddings": 16_384, "original_max_position_embeddings": 1024,
        "rope_scaling": {"type": "longrope", "short_factor": SHORT, "long_factor": [3, 4]}})
}

#[test]
fn longrope_is_that_of_short_texts_as_long_as_the_context_is_that_of_them() {
    let phi = config(longrope());
    assert_eq!(phi.context, 1024);
    let rope = &phi.ropes[0];
    assert_eq!(rope.frequencies, [1.0, 1.0 / (2.0 * 100.0)]);
    // √(1 + ln 16 / ln 1024)
    assert!((rope.magnitude - 1.4_f32.sqrt()).abs() < 1e-6);
    for kind in ["su", "yarn", "longrope"] {
        for key in ["type", "rope_type"] {
            let mut json = longrope();
            json["rope_scaling"] = json!({key: kind, "short_factor": SHORT,
                "long_factor": [3, 4], "original_max_position_embeddings": 77});
            let named = config(json);
            assert_eq!(
                (&named.ropes, named.context),
                (&phi.ropes, 1024),
                "{key} {kind}"
            );
        }
    }
    let mut json = longrope();
    json["rope_scaling"]["factor"] = json!(1.0);
    assert_eq!(config(json.clone()).ropes[0].magnitude, 1.0);
    json["rope_scaling"]["attention_factor"] = json!(1.25);
    assert_eq!(config(json.clone()).ropes[0].magnitude, 1.25);
    json["max_position_embeddings"] = json!(512);
    assert_eq!(config(json.clone()).context, 512);
    // Where the file does not say, the class does, and what stands within does not count.
    json.as_object_mut()
        .expect("an object")
        .remove("original_max_position_embeddings");
    json["max_position_embeddings"] = json!(131_072);
    json["rope_scaling"]["original_max_position_embeddings"] = json!(77);
    assert_eq!(config(json).context, 4096);
}

#[test]
fn the_inner_original_context_of_longrope_counts_but_for_phi_3() {
    let mut json = longrope();
    json["model_type"] = json!("llama");
    assert_eq!(config(json.clone()).context, 1024);
    assert_eq!(config(json.clone()).ropes, config(longrope()).ropes);
    json["original_max_position_embeddings"] = json!(null);
    json["rope_scaling"]["original_max_position_embeddings"] = json!(2048);
    assert_eq!(config(json).context, 2048);
}

#[test]
fn rotations_that_phi_3_does_not_have_are_refused_by_key() {
    let scaling = |key: &str, value: Value| {
        let mut scaling = longrope()["rope_scaling"].clone();
        scaling[key] = value;
        [("rope_scaling", scaling)]
    };
    let list = "must be a list of 2 numbers above 0, one for each frequency";
    for (key, value) in [
        ("short_factor", json!([1.0])),
        ("short_factor", json!([1.0, 0.0])),
        ("short_factor", json!([1.0, "2"])),
        ("short_factor", json!(2)),
        ("long_factor", json!([1.0, 2.0, 3.0])),
        ("long_factor", json!(null)),
    ] {
        let error = refused(&longrope(), &scaling(key, value));
        assert_eq!(error, format!("rope_scaling.{key} {list}"));
    }
    for kind in ["linear", "dynamic", "llama3"] {
        assert_eq!(
            refused(&longrope(), &scaling("type", json!(kind))),
            format!(
                "rope_scaling.type = \"{kind}\" is not supported; supported: default, longrope"
            )
        );
    }
    let original = [("original_max_position_embeddings", json!(1))];
    assert!(refused(&longrope(), &original).contains("is 1; it must be a number above 1"));
    for (factor, rotated) in [(0.0, 0), (0.1, 0), (1.5, 6), (0.75, 3)] {
        assert_eq!(
            refused(&longrope(), &[("partial_rotary_factor", json!(factor))]),
            format!(
                "partial_rotary_factor is {factor}, which rotates {rotated} of the 4 components \
                 of a head; it must be an even number of them, 2 at least"
            )
        );
    }
}

#[test]
fn what_granite_multiplies_by_is_1_unless_the_file_says_so() {
    let factors = |granite: &Config| {
        let inner = [granite.embed_scale, granite.query_scale];
        (inner, granite.residual_scale, granite.logits_divisor)
    };
    let granite = config(json!({"model_type": "granite"}));
    assert_eq!(factors(&granite), ([1.0, 1.0], 1.0, 1.0));
    assert_eq!(
        (granite.hidden, granite.kv_heads, granite.context),
        (4096, 32, 2048)
    );
    assert_eq!(
        (granite.epsilon, granite.tied, &granite.eos[..]),
        (1e-6, false, &[2][..])
    );
    assert!(!granite.qkv_bias && !granite.out_bias && !granite.mlp_bias);
    let said = json!({"model_type": "granite", "embedding_multiplier": 12,
        "attention_multiplier": 0.015625, "residual_multiplier": 0.25, "logits_scaling": 8.0,
        "attention_bias": true, "mlp_bias": true, "sliding_window": 7});
    let granite = config(said.clone());
    assert_eq!(factors(&granite), ([12.0, 0.015625], 0.25, 8.0));
    assert!(granite.qkv_bias && granite.out_bias && granite.mlp_bias);
    assert!(granite.layers.iter().all(|layer| layer.window.is_none()));
    // Of others they are nothing.
    let mut llama = said;
    llama["model_type"] = json!("llama");
    let llama = config(llama);
    assert_eq!(factors(&llama), ([1.0, 128_f32.powf(-0.5)], 1.0, 1.0));
}

#[test]
fn what_a_file_of_smollm_3_leaves_out_is_what_its_class_takes() {
    let smollm = config(json!({"model_type": "smollm3"}));
    assert_eq!(
        (smollm.hidden, smollm.ffn, smollm.vocab),
        (2048, 11_008, 128_256)
    );
    assert_eq!((smollm.heads, smollm.kv_heads, smollm.head), (16, 4, 128));
    assert_eq!((smollm.layers.len(), smollm.context), (36, 32_768));
    assert_eq!((smollm.epsilon, &smollm.eos[..]), (1e-6, &[128_001][..]));
    assert!(smollm.tied && !smollm.qkv_bias && !smollm.out_bias && !smollm.mlp_bias);
    assert_eq!(smollm.ropes[0], Rope::plain(2e6, 128));
    let said = json!({"model_type": "smollm3", "num_key_value_heads": null,
        "attention_bias": true, "mlp_bias": true, "tie_word_embeddings": false});
    let said = config(said);
    assert!(said.qkv_bias && said.out_bias && said.mlp_bias && !said.tied);
    assert_eq!(said.kv_heads, 16);
}

#[test]
fn layers_of_smollm_3_rotate_where_the_file_says_and_else_three_of_four() {
    let rotate = |more: &[(&str, Value)]| -> Vec<bool> {
        let mut json = json!({"model_type": "smollm3", "num_hidden_layers": 5});
        for (key, value) in more {
            json[*key] = value.clone();
        }
        let config = config(json);
        let ropes = config.layers.iter().map(|layer| &config.ropes[layer.rope]);
        let rotate = ropes.map(|rope| match rope.rotated {
            0 => rope.frequencies.iter().any(|&frequency| frequency != 0.0),
            all => all == config.head / 2,
        });
        rotate.collect()
    };
    assert_eq!(rotate(&[]), [true, true, true, false, true]);
    let interval = ("no_rope_layer_interval", json!(2));
    let every_other = [true, false, true, false, true];
    assert_eq!(rotate(std::slice::from_ref(&interval)), every_other);
    assert_eq!(
        rotate(&[interval, ("no_rope_layers", json!(null))]),
        every_other
    );
    // More than there are layers, and any number but 0 for those that rotate.
    let list = ("no_rope_layers", json!([0, 1, 2, 0, 0, 1]));
    assert_eq!(rotate(&[list]), [false, true, true, false, false]);
}

#[test]
fn windows_of_smollm_3_are_those_of_layers_that_do_not_rotate_or_that_the_file_names() {
    let base = json!({"model_type": "smollm3", "num_hidden_layers": 4, "sliding_window": 9});
    let windows = |more: Value| -> Vec<Option<usize>> {
        let mut json = base.clone();
        for (key, value) in more.as_object().expect("an object") {
            json[key] = value.clone();
        }
        config(json)
            .layers
            .iter()
            .map(|layer| layer.window)
            .collect()
    };
    assert_eq!(windows(json!({})), [None; 4]);
    let used = json!({"use_sliding_window": true});
    assert_eq!(windows(used), [None, None, None, Some(9)]);
    let used = json!({"use_sliding_window": true, "sliding_window": null});
    assert_eq!(windows(used), [None; 4]);
    let types = json!([
        "sliding_attention",
        "full_attention",
        "full_attention",
        "sliding_attention"
    ]);
    for used in [true, false] {
        let named = json!({"use_sliding_window": used, "layer_types": types});
        assert_eq!(windows(named), [Some(9), None, None, Some(9)]);
    }
    let windowless = [("layer_types", types), ("sliding_window", json!(null))];
    assert_eq!(
        refused(&base, &windowless),
        "sliding_window must be a number, since there are layers of type sliding_attention"
    );
}

#[test]
fn layers_of_smollm_3_that_cannot_be_are_refused_by_key() {
    let smollm = json!({"model_type": "smollm3", "num_hidden_layers": 3});
    for list in [
        json!([1, 0]),
        json!([]),
        json!([true, true, false]),
        json!(1),
    ] {
        assert_eq!(
            refused(&smollm, &[("no_rope_layers", list)]),
            "no_rope_layers must be a list of whole numbers, one for each of 3 layers at least"
        );
    }
    let error = refused(&smollm, &[("no_rope_layer_interval", json!(0))]);
    assert_eq!(
        error,
        "no_rope_layer_interval is 0; expected a whole number of 1 to 16777216"
    );
}

#[test]
fn what_a_file_of_olmo_leaves_out_is_what_its_class_takes() {
    for (family, theta) in [("olmo2", 1e4), ("olmo3", 5e5)] {
        let olmo = config(json!({"model_type": family}));
        assert_eq!((olmo.hidden, olmo.ffn, olmo.vocab), (4096, 11_008, 50_304));
        assert_eq!((olmo.heads, olmo.kv_heads, olmo.head), (32, 32, 128));
        assert_eq!((olmo.layers.len(), olmo.context), (32, 2048));
        assert_eq!((olmo.epsilon, &olmo.eos[..]), (1e-5, &[50_279][..]));
        assert!(!olmo.tied && !olmo.qkv_bias && !olmo.out_bias && !olmo.mlp_bias);
        assert_eq!(
            (olmo.norms, olmo.qk_norm),
            (Norms::After, Some(QkNorm::Projection))
        );
        assert!(
            olmo.ropes
                .iter()
                .all(|rope| *rope == Rope::plain(theta, 128))
        );
        let said = json!({"model_type": family, "attention_bias": true, "mlp_bias": true});
        let said = config(said);
        assert!(said.qkv_bias && said.out_bias && !said.mlp_bias);
    }
}

#[test]
fn olmo_3_looks_through_windows_and_rotates_by_layer_type_and_olmo_2_does_not() {
    let layers = |family: &str, more: Value| {
        let mut json = json!({"model_type": family, "num_hidden_layers": 5});
        for (key, value) in more.as_object().expect("an object") {
            json[key] = value.clone();
        }
        let olmo = config(json);
        let layers = olmo.layers.iter();
        layers
            .map(|layer| (layer.window, olmo.ropes[layer.rope].theta))
            .collect::<Vec<_>>()
    };
    let (local, global) = ((Some(4096), 5e5), (None, 5e5));
    let usual = [local, local, local, global, local];
    assert_eq!(layers("olmo3", json!({})), usual);
    let window = json!({"sliding_window": 9, "layer_types": ["full_attention",
        "sliding_attention", "full_attention", "full_attention", "full_attention"]});
    let theta = json!({"rope_theta": 123.0});
    let named = [global, (Some(9), 5e5), global, global, global];
    assert_eq!(layers("olmo3", window.clone()), named);
    assert_eq!(layers("olmo2", window), [(None, 1e4); 5]);
    // As transformers 4 writes it: the global layers alone.
    let outside = [local, local, local, (None, 123.0), local];
    assert_eq!(layers("olmo3", theta.clone()), outside);
    assert_eq!(layers("olmo2", theta), [(None, 123.0); 5]);
    let within = json!({"rope_parameters": {
        "full_attention": {"rope_type": "default", "rope_theta": 123.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 7.0}}});
    let local = (Some(4096), 7.0);
    let expected = [local, local, local, (None, 123.0), local];
    assert_eq!(layers("olmo3", within), expected);
    let olmo = json!({"model_type": "olmo3"});
    assert_eq!(
        refused(&olmo, &[("sliding_window", json!(null))]),
        "sliding_window must be a number, since there are layers of type sliding_attention"
    );
}

#[test]
fn factors_of_granite_that_cannot_be_are_refused_by_key() {
    let granite = json!({"model_type": "granite"});
    assert_eq!(
        refused(&granite, &[("logits_scaling", json!(0))]),
        "logits_scaling is 0; it must be a number above 0"
    );
    for key in [
        "embedding_multiplier",
        "attention_multiplier",
        "residual_multiplier",
    ] {
        let error = refused(&granite, &[(key, json!(-1))]);
        assert_eq!(error, format!("{key} is -1; it must be a number from 0 on"));
    }
}

#[test]
fn relatives_of_a_family_that_are_others_are_refused_by_name() {
    for family in [
        "phi",
        "phi3small",
        "phimoe",
        "phi3_v",
        "phi4mm",
        "granitemoe",
        "granitemoehybrid",
        "olmo",
        "olmoe",
    ] {
        let error = refused(&json!({"model_type": family}), &[]);
        let expected = format!("model_type = \"{family}\" is not supported; supported: llama,");
        assert!(error.starts_with(&expected), "{error}");
    }
}
