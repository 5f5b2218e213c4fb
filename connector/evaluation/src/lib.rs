//! Measures an Aligner on question-answer-correction triples.
//!
//! Triples go in, every one is put through an [`aligner::Aligner`] (a model, a remote server or
//! a stand-in: this crate cannot tell), and out comes a [`Report`] that can be read on a
//! terminal, in a browser or by a program, and compared with another Aligner's.
//!
//! Everything counted here is a *proxy*: planted faults that are gone, sentences that were kept,
//! words from nowhere. No human judged anything, and the names say so.
//!
//! Deliberately absent: tensors, files, clocks other than the one that times the run, and any
//! knowledge of how an Aligner works. The report holds text of questions and answers (in
//! [`Report::worst`]): whoever writes it to a file decides who may read it.

mod bootstrap;
mod compare;
mod contrast;
mod detect;
mod dispositions;
mod evaluate;
mod faults;
mod figures;
mod gzip;
mod judge;
mod messages;
mod parse;
mod planted;
mod proxies;
pub mod render;
mod report;
mod row;
mod row_faults;
mod sample;
mod settled;
mod share;
mod sign_test;
mod text;
mod triple;
mod verdict;

pub use compare::{
    Alone, CompareError, CompareOptions, Comparison, Difference, GroupComparison, Measure, Side,
    compare,
};
pub use contrast::{Contrast, Returned, contrasts};
pub use evaluate::{EvaluationError, Options, Progress, evaluate};
pub use figures::{Clean, Decisions, Detected, Faulty, Figures, Guarding, Speed};
pub use gzip::is_gzip;
pub use parse::{Rows, TripleError, parse_rows, parse_triples};
pub use proxies::{BeforeAfter, Dimension, Proxies};
pub use report::{AlignerDescription, Case, Report};
pub use row_faults::RowFaults;
pub use sample::sample;
pub use share::{Pooled, Share};
pub use triple::{Purpose, Triple};
pub use verdict::{Class, Decision, Verdict};
