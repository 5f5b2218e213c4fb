//! Rotary position embeddings: frequencies as transformers computes them.
//!
//! The angle of position 4,096 is wrong by whole hundredths if a frequency is off in its last
//! bits or rounded to bf16, so frequencies follow the reference's order of operations.

use std::f64::consts::PI;

use crate::{CheckpointError, Json};

/// Rotation frequencies of one kind of layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// What the frequencies are powers of.
    pub theta: f64,
    /// What scales them, as `rope_type` calls it.
    pub scaling: Option<&'static str>,
    /// One for each pair of components, scaled.
    pub frequencies: Vec<f32>,
    /// Multiplies cosine and sine (YaRN).
    pub magnitude: f32,
}

impl Rope {
    /// Unscaled: `theta^(-2i/d)`.
    pub fn plain(theta: f64, head: usize) -> Self {
        let frequencies = (0..head)
            .step_by(2)
            .map(|i| 1.0 / (theta.powf(f64::from(i as f32 / head as f32)) as f32))
            .collect();
        Self {
            theta,
            scaling: None,
            frequencies,
            magnitude: 1.0,
        }
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

    /// From `rope_scaling` or `rope_parameters`; `outside` is what that stands in. `of_all` says
    /// that the object is that of all layers, as it is but for Gemma 3.
    pub(crate) fn from_json(
        json: &Json,
        outside: &Json,
        of_all: bool,
        theta: f64,
        head: usize,
        context: usize,
    ) -> Result<Self, CheckpointError> {
        let key = if json.has("rope_type") {
            "rope_type"
        } else {
            "type"
        };
        let kind = json.text_or(key, "default")?;
        if kind != "default" {
            Self::refuse_partial(json, outside)?;
        }
        let plain = Self::plain(theta, head);
        let factor = || match json.optional_number("factor")? {
            Some(factor) if factor > 0.0 => Ok(factor),
            _ => Err(json.problem("factor", "must be a number above 0".to_owned())),
        };
        // transformers takes the outer one where there are two, but not for some of the layers.
        let original = || {
            let key = "original_max_position_embeddings";
            let outer = if of_all { outside } else { json };
            match outer.optional_number(key)? {
                Some(original) => Ok(original),
                None => json.number_or(key, context as f64),
            }
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
                Ok(plain.llama3(factor()?, low, high, original()?))
            }
            "yarn" => {
                let original = original()?;
                let factor = match json.optional_number("factor")? {
                    Some(factor) => factor,
                    None => context as f64 / original,
                };
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
                    theta,
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
                    truncate: json.flag_or("truncate", true)?,
                }))
            }
            _ => Err(json.unsupported(key, "default, linear, dynamic, llama3, yarn")),
        }
    }

    fn scaled(mut self, kind: &'static str) -> Self {
        self.scaling = Some(kind);
        self
    }

    /// Stretched evenly.
    pub fn linear(mut self, factor: f64) -> Self {
        self.frequencies
            .iter_mut()
            .for_each(|frequency| *frequency /= factor as f32);
        self.scaled("linear")
    }

    /// Scaled as Llama 3 has it, by one divisor for each frequency, as GGUF files store them.
    pub fn divided(mut self, divisors: &[f32]) -> Self {
        self.frequencies
            .iter_mut()
            .zip(divisors)
            .for_each(|(frequency, divisor)| *frequency /= divisor);
        self.scaled("llama3")
    }

    fn llama3(mut self, factor: f64, low: f64, high: f64, original: f64) -> Self {
        for frequency in &mut self.frequencies {
            let wavelength = 2.0 * PI / f64::from(*frequency);
            let scaled = f64::from(*frequency) / factor;
            if wavelength > original / low {
                *frequency = scaled as f32;
            } else if wavelength >= original / high {
                let smooth = (original / wavelength - low) / (high - low);
                *frequency = ((1.0 - smooth) * scaled + smooth * f64::from(*frequency)) as f32;
            }
        }
        self.scaled("llama3")
    }

    /// Scaled as YaRN (arXiv 2309.00071) has it: fast rotations stay, slow ones are stretched.
    pub fn yarn(mut self, yarn: &Yarn) -> Self {
        let head = 2 * self.frequencies.len();
        let dimension = |rotations: f64| {
            head as f64 * (yarn.original / (rotations * 2.0 * PI)).ln() / (2.0 * yarn.theta.ln())
        };
        let (mut low, mut high) = (dimension(yarn.fast), dimension(yarn.slow));
        if yarn.truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        let (low, mut high) = (low.max(0.0), high.min(head as f64 - 1.0));
        if low == high {
            high += 0.001;
        }
        for (i, frequency) in self.frequencies.iter_mut().enumerate() {
            let ramp = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0) as f32;
            let interpolated = *frequency / yarn.factor as f32;
            *frequency = interpolated * ramp + *frequency * (1.0 - ramp);
        }
        self.magnitude = yarn.magnitude as f32;
        self.scaled("yarn")
    }
}

/// What YaRN is told.
#[derive(Debug, Clone, Copy)]
pub struct Yarn {
    /// What the frequencies are powers of.
    pub theta: f64,
    /// How many times the context is stretched.
    pub factor: f64,
    /// Context before scaling.
    pub original: f64,
    /// Multiplies cosine and sine.
    pub magnitude: f64,
    /// Rotations within the original context from which on a frequency stays as it is.
    pub fast: f64,
    /// Rotations below which it is stretched by the whole factor.
    pub slow: f64,
    /// Whether the dimensions between the two are whole numbers.
    pub truncate: bool,
}

impl Yarn {
    /// The attention temperature for a factor.
    pub fn magnitude(mscale: f64, factor: f64) -> f64 {
        if factor <= 1.0 {
            1.0
        } else {
            0.1 * mscale * factor.ln() + 1.0
        }
    }
}
