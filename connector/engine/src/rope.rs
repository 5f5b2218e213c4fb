//! Tables of rotary position embeddings, in f32.

use aligner_checkpoint::Rope;

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
            let Rope {
                frequencies,
                rotated,
                magnitude,
                ..
            } = &self.rope;
            let rotations = |of: fn(f32) -> f32| {
                let frequencies = frequencies.iter().enumerate();
                frequencies.map(move |(pair, &frequency)| {
                    let value = of(position as f32 * frequency);
                    // What passes is not stretched either.
                    if pair < *rotated {
                        value * magnitude
                    } else {
                        value
                    }
                })
            };
            self.values.extend(rotations(f32::cos));
            self.values.extend(rotations(f32::sin));
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
