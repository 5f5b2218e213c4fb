//! Where the tokens of a step get their embeddings from.

use std::sync::Arc;

use crate::{
    kernels::{Matrix, Precision},
    rows::Rows,
};

/// The table of embeddings.
#[derive(Clone)]
pub(crate) enum Embeddings {
    /// As the file has it.
    Stored(Arc<Rows<'static>>),
    /// The output head, where that holds the same values: of a large vocabulary the table is a
    /// good part of a small model, so a tied one is in memory once.
    Head(Arc<Matrix>),
}

impl Embeddings {
    /// The head if it is tied to the table and was not quantised, or else a copy of the table.
    pub(crate) fn of(table: Rows<'_>, head: &Arc<Matrix>, tied: bool) -> Self {
        if tied && head.precision() == Precision::F32 {
            Self::Head(Arc::clone(head))
        } else {
            Self::Stored(Arc::new(table.into_owned()))
        }
    }

    /// Writes the embedding of a token, unscaled.
    pub(crate) fn row(&self, token: u32, to: &mut [f32]) {
        match self {
            Self::Stored(rows) => rows.row(token as usize, to),
            Self::Head(head) => head.row(token as usize, to),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        decoder::{WeightPrecision, fixture},
        kernels::Isa,
    };

    #[test]
    fn a_tied_table_is_held_once_with_the_values_of_the_file() {
        let exact = fixture("gemma2", WeightPrecision::AsStored, Isa::available()[0]);
        let quantised = fixture("gemma2", WeightPrecision::Q8, Isa::available()[0]);
        assert!(matches!(exact.embeddings, Embeddings::Head(_)));
        assert!(
            matches!(quantised.embeddings, Embeddings::Stored(_)),
            "a quantised head is not the table"
        );
        let (mut held, mut stored) = (
            vec![0.0; exact.config.hidden],
            vec![0.0; exact.config.hidden],
        );
        for token in 0..exact.config.vocab as u32 {
            exact.embeddings.row(token, &mut held);
            quantised.embeddings.row(token, &mut stored);
            assert_eq!(held, stored, "token {token}");
        }
    }

    #[test]
    fn a_head_of_its_own_is_not_the_table() {
        let decoder = fixture("llama2", WeightPrecision::AsStored, Isa::available()[0]);
        assert!(matches!(decoder.embeddings, Embeddings::Stored(_)));
    }
}
