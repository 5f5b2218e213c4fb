//! Rotary position embeddings: frequencies as transformers computes them, tables in f32.
//!
//! The angle of position 4,096 is wrong by whole hundredths if a frequency is off in its last
//! bits or rounded to bf16, so frequencies follow the reference's order of operations.

use std::f64::consts::PI;

use crate::{LoadError, json::Json};

/// Rotation frequencies of one kind of layer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rope {
    /// One for each pair of components.
    pub(crate) frequencies: Vec<f32>,
    /// Multiplies cosine and sine (YaRN).
    pub(crate) magnitude: f32,
}

impl Rope {
    /// Unscaled: `theta^(-2i/d)`.
    pub(crate) fn plain(theta: f64, head: usize) -> Self {
        let frequencies = (0..head)
            .step_by(2)
            .map(|i| 1.0 / (theta.powf(f64::from(i as f32 / head as f32)) as f32))
            .collect();
        Self {
            frequencies,
            magnitude: 1.0,
        }
    }

    /// Refuses a head that is rotated in part, as `object` says, or `outside` where it does not.
    ///
    /// Only scaled rotations of transformers 5 read that; the families' own rotate a whole head.
    fn refuse_partial(object: &Json, outside: &Json) -> Result<(), LoadError> {
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
    ) -> Result<Self, LoadError> {
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
            "default" | "dynamic" => Ok(plain),
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

    pub(crate) fn linear(mut self, factor: f64) -> Self {
        self.frequencies
            .iter_mut()
            .for_each(|frequency| *frequency /= factor as f32);
        self
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
        self
    }

    /// Scaled as YaRN (arXiv 2309.00071) has it: fast rotations stay, slow ones are stretched.
    pub(crate) fn yarn(mut self, yarn: &Yarn) -> Self {
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
        self
    }
}

/// What YaRN is told.
pub(crate) struct Yarn {
    pub(crate) theta: f64,
    pub(crate) factor: f64,
    /// Context before scaling.
    pub(crate) original: f64,
    /// Multiplies cosine and sine.
    pub(crate) magnitude: f64,
    /// Rotations within the original context from which on a frequency stays as it is.
    pub(crate) fast: f64,
    /// Rotations below which it is stretched by the whole factor.
    pub(crate) slow: f64,
    /// Whether the dimensions between the two are whole numbers.
    pub(crate) truncate: bool,
}

impl Yarn {
    /// The attention temperature for a factor.
    pub(crate) fn magnitude(mscale: f64, factor: f64) -> f64 {
        if factor <= 1.0 {
            1.0
        } else {
            0.1 * mscale * factor.ln() + 1.0
        }
    }
}

/// Cosines and sines of all positions so far.
pub(crate) struct RopeTable {
    rope: Rope,
    /// `[position][cosines, sines]`
    values: Vec<f32>,
    positions: usize,
}

impl RopeTable {
    pub(crate) fn new(rope: Rope) -> Self {
        Self {
            rope,
            values: Vec::new(),
            positions: 0,
        }
    }

    /// Makes sure that positions below `positions` are there; says whether some are new.
    pub(crate) fn extend(&mut self, positions: usize) -> bool {
        if positions <= self.positions {
            return false;
        }
        // In steps, so that a growing context does not extend at every token.
        let positions = positions.next_multiple_of(256);
        for position in self.positions..positions {
            let angle = |frequency: f32| position as f32 * frequency;
            let cosines = self
                .rope
                .frequencies
                .iter()
                .map(|&frequency| angle(frequency).cos());
            self.values
                .extend(cosines.map(|cosine| cosine * self.rope.magnitude));
            let sines = self
                .rope
                .frequencies
                .iter()
                .map(|&frequency| angle(frequency).sin());
            self.values
                .extend(sines.map(|sine| sine * self.rope.magnitude));
        }
        self.positions = positions;
        true
    }

    /// `[position][cosines, sines]`
    #[cfg(any(test, feature = "cuda"))]
    pub(crate) fn values(&self) -> &[f32] {
        &self.values
    }

    /// Cosines and sines at a position.
    pub(crate) fn at(&self, position: usize) -> (&[f32], &[f32]) {
        let half = self.rope.frequencies.len();
        self.values[position * 2 * half..][..2 * half].split_at(half)
    }
}
