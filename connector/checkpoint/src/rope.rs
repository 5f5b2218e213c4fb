//! Rotary position embeddings: frequencies as transformers computes them.
//!
//! The angle of position 4,096 is wrong by whole hundredths if a frequency is off in its last
//! bits or rounded to bf16, so frequencies follow the reference's order of operations.

use std::f64::consts::PI;

/// Rotation frequencies of one kind of layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// What the frequencies are powers of.
    pub theta: f64,
    /// What scales them, as `rope_type` calls it.
    pub scaling: Option<&'static str>,
    /// One for each pair of components, scaled; 0 for those that are not rotated.
    pub frequencies: Vec<f32>,
    /// Pairs that are rotated, the first ones; the others pass as they are.
    pub rotated: usize,
    /// Multiplies cosine and sine of pairs that are rotated (YaRN, LongRoPE).
    pub magnitude: f32,
    /// Positions that it is made for, if a context may be longer than they are.
    pub context: Option<usize>,
}

impl Rope {
    /// Unscaled: `theta^(-2i/d)`.
    pub fn plain(theta: f64, head: usize) -> Self {
        let frequencies: Vec<f32> = powers(theta, head).map(|power| 1.0 / power).collect();
        Self {
            theta,
            scaling: None,
            rotated: frequencies.len(),
            frequencies,
            magnitude: 1.0,
            context: None,
        }
    }

    /// None: every component passes.
    pub(crate) fn none(head: usize) -> Self {
        Self {
            theta: 1.0,
            scaling: None,
            frequencies: vec![0.0; head / 2],
            rotated: 0,
            magnitude: 1.0,
            context: None,
        }
    }

    /// The same of the first components of a longer head, whose others pass.
    pub(crate) fn within(mut self, head: usize) -> Self {
        self.frequencies.resize(head / 2, 0.0);
        self
    }

    /// Called so, with the frequencies that it has.
    pub(crate) fn scaled(mut self, kind: &'static str) -> Self {
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

    /// Scaled as Llama 3 has it: slow rotations are stretched by `factor`, fast ones stay.
    pub(crate) fn llama3(mut self, factor: f64, low: f64, high: f64, original: f64) -> Self {
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

    /// Scaled as LongRoPE (arXiv 2402.13753) has it, by one divisor for each frequency, which were
    /// found for `context` positions.
    ///
    /// Beyond them transformers goes over to other divisors, for all positions at once and in the
    /// middle of a text, whose keys it computes again. No sequence here gets there.
    pub(crate) fn longrope(mut self, divisors: &[f32], magnitude: f64, context: usize) -> Self {
        let powers = powers(self.theta, 2 * self.frequencies.len());
        self.frequencies = powers
            .zip(divisors)
            .map(|(power, divisor)| 1.0 / (divisor * power))
            .collect();
        self.magnitude = magnitude as f32;
        self.context = Some(context);
        self.scaled("longrope")
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

/// The powers of `theta` that frequencies are one over.
fn powers(theta: f64, head: usize) -> impl Iterator<Item = f32> {
    let pairs = (0..head).step_by(2);
    pairs.map(move |i| theta.powf(f64::from(i as f32 / head as f32)) as f32)
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
