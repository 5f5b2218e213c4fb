//! What scales a rotation, as `rope_type` calls it, and the numbers that it depends on.

use serde_json::Value;

use crate::{
    CheckpointError, Json, Rope, Yarn,
    rotation::{Rotations, Theta},
};

/// The context that a scaled rotation began with.
const ORIGINAL: &str = "original_max_position_embeddings";

impl Rotations<'_> {
    /// As an object of the file has it. `of_all` says that the object is that of all layers, as it is
    /// but for Gemma 3 and OLMo 3.
    pub(crate) fn scaled(
        &self,
        json: &Json,
        of_all: bool,
        theta: &Theta<'_>,
        rotated: usize,
    ) -> Result<Rope, CheckpointError> {
        let (outside, context) = (self.json, self.context);
        let key = if json.has("rope_type") {
            "rope_type"
        } else {
            "type"
        };
        let kind = json.text_or(key, "default")?;
        let kind = match self.defaults.longrope {
            None => kind,
            // What Phi-3's first files called it, and transformers reads so.
            Some(_) if matches!(kind, "su" | "yarn") => "longrope",
            Some(_) if matches!(kind, "default" | "longrope") => kind,
            Some(_) => return Err(json.unsupported(key, "default, longrope")),
        };
        if kind != "default" && self.defaults.longrope.is_none() {
            refuse_partial(json, outside)?;
        }
        let plain = Rope::plain(theta.above(0.0, "")?, rotated);
        let factor = || match json.optional_number("factor")? {
            Some(factor) if factor > 0.0 => Ok(factor),
            _ => Err(json.problem("factor", "must be a number above 0".to_owned())),
        };
        match kind {
            // NTK scaling begins where the trained context ends, and no sequence here goes beyond it.
            "dynamic" => Ok(plain.scaled("dynamic")),
            "default" => Ok(plain),
            "linear" => Ok(plain.linear(factor()?)),
            "llama3" => {
                let number = |key| match json.optional_number(key)? {
                    Some(number) => Ok(number),
                    None => Err(json.problem(key, "is missing".to_owned())),
                };
                let (low, high) = (number("low_freq_factor")?, number("high_freq_factor")?);
                if low >= high {
                    // What lies between them is divided by their distance.
                    let rule = format!("must be below high_freq_factor, {high}");
                    return Err(json.problem("low_freq_factor", rule));
                }
                Ok(plain.llama3(factor()?, low, high, self.original(json, of_all)?))
            }
            "longrope" => self.longrope(plain, json, of_all),
            "yarn" => {
                let original = self.original(json, of_all)?;
                let factor = json.optional_positive("factor")?;
                let factor = factor.unwrap_or(context as f64 / original);
                let scale = |mscale| Yarn::magnitude(mscale, factor);
                let inferred = match (
                    json.optional_number("mscale")?
                        .filter(|&mscale| mscale != 0.0),
                    json.optional_number("mscale_all_dim")?
                        .filter(|&mscale| mscale != 0.0),
                ) {
                    (Some(one), Some(all)) => scale(one) / scale(all),
                    _ => scale(1.0),
                };
                Ok(plain.yarn(&Yarn {
                    theta: theta.above(1.0, ", since YaRN divides by its logarithm")?,
                    factor,
                    original,
                    magnitude: json.number_or("attention_factor", inferred)?,
                    fast: json
                        .optional_number("beta_fast")?
                        .filter(|&fast| fast != 0.0)
                        .unwrap_or(32.0),
                    slow: json
                        .optional_number("beta_slow")?
                        .filter(|&slow| slow != 0.0)
                        .unwrap_or(1.0),
                    truncate: truncated(json, outside, of_all)?,
                }))
            }
            _ => {
                let supported = "default, linear, dynamic, llama3, longrope, yarn";
                Err(json.unsupported(key, supported))
            }
        }
    }

    /// The context before it was stretched.
    fn original(&self, json: &Json, of_all: bool) -> Result<f64, CheckpointError> {
        // transformers takes the outer one where there are two, but not for some of the layers.
        let outer = if of_all { self.json } else { json };
        if let Some(original) = outer.optional_positive(ORIGINAL)? {
            return Ok(original);
        }
        // A class that has one of its own takes it before the inner one.
        if let Some(original) = self.defaults.longrope {
            return Ok(original as f64);
        }
        let original = json.optional_positive(ORIGINAL)?;
        Ok(original.unwrap_or(self.context as f64))
    }

    /// Scaled by the factors for short texts.
    fn longrope(&self, plain: Rope, json: &Json, of_all: bool) -> Result<Rope, CheckpointError> {
        let factors = |key| positive_numbers(json, key, plain.frequencies.len());
        // Those for long ones are not computed with, but transformers asks for as many of them.
        let (short, _) = (factors("short_factor")?, factors("long_factor")?);
        let original = self.original(json, of_all)?;
        if original <= 1.0 {
            let problem = format!(
                "is {original}; it must be a number above 1, since LongRoPE divides by its logarithm"
            );
            return Err(json.problem(ORIGINAL, problem));
        }
        let factor = json.optional_number("factor")?;
        let factor = factor.unwrap_or(self.context as f64 / original);
        let inferred = if factor <= 1.0 {
            1.0
        } else {
            (1.0 + factor.ln() / original.ln()).sqrt()
        };
        let magnitude = json.number_or("attention_factor", inferred)?;
        Ok(plain.longrope(&short, magnitude, original as usize))
    }
}

/// So many numbers above 0 under a key.
fn positive_numbers(json: &Json, key: &str, count: usize) -> Result<Vec<f32>, CheckpointError> {
    let list = json.get(key).and_then(Value::as_array);
    let numbers = list.and_then(|list| {
        let numbers = list.iter().map(Value::as_f64);
        numbers
            .map(|number| number.map(|number| number as f32))
            .collect::<Option<Vec<f32>>>()
    });
    numbers
        .filter(|numbers| numbers.len() == count && numbers.iter().all(|&number| number > 0.0))
        .ok_or_else(|| {
            let problem =
                format!("must be a list of {count} numbers above 0, one for each frequency");
            json.problem(key, problem)
        })
}

/// Whether YaRN's dimensions are whole numbers.
fn truncated(json: &Json, outside: &Json, of_all: bool) -> Result<bool, CheckpointError> {
    if of_all {
        return json.flag_or("truncate", true);
    }
    // Of types of layers, transformers looks beside their objects, not into them.
    let around = outside.object("rope_parameters")?;
    around.map_or(Ok(true), |around| around.flag_or("truncate", true))
}

/// Refuses a head that is rotated in part, as `object` says, or `outside` where it does not.
///
/// Only scaled rotations of transformers 5 read that; the families' own rotate a whole head.
fn refuse_partial(object: &Json, outside: &Json) -> Result<(), CheckpointError> {
    let json = if object.mentions("partial_rotary_factor") {
        object
    } else {
        outside
    };
    if json.number_or("partial_rotary_factor", 1.0)? != 1.0 {
        return Err(json.unsupported("partial_rotary_factor", "1.0"));
    }
    Ok(())
}
