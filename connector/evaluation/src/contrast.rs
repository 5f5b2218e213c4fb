//! The answers on which two Aligners differ most, with their text: a comparison has figures alone.

use crate::{
    report::{Report, gravity, problems},
    text,
    triple::Triple,
    verdict::Verdict,
};

/// One answer to look at, and what two Aligners made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contrast {
    /// Id of the answer event.
    pub event_id: String,
    /// Kind of fault.
    pub kind: String,
    /// The question.
    pub question: String,
    /// The upstream model's answer.
    pub answer: String,
    /// What was wanted.
    pub correction: Option<String>,
    /// What the first made of it.
    pub a: Returned,
    /// What the second did.
    pub b: Returned,
}

/// What an Aligner made of one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Returned {
    /// What it returned.
    pub output: String,
    /// What went wrong, the gravest first; none where nothing did.
    pub problems: Vec<String>,
}

/// At most so many answers on which two reports of `triples` differ: first those that went worse
/// with one than with the other, and of equals those whose outputs are least alike. None where the
/// reports were made or read without texts.
pub fn contrasts(a: &Report, b: &Report, triples: &[Triple], most: usize) -> Vec<Contrast> {
    let mut rows: Vec<Row<'_>> = triples
        .iter()
        .zip(a.verdicts.iter().zip(&a.outputs))
        .zip(b.verdicts.iter().zip(&b.outputs))
        .map(|((triple, a), b)| Row {
            triple,
            a,
            b,
            apart: gravity(a.0).abs_diff(gravity(b.0)),
            alike: text::word_overlap(a.1, b.1),
        })
        .filter(|row| row.apart > 0 || row.a.1 != row.b.1)
        .collect();
    // The sort is stable, so equals stay in the order of the data.
    rows.sort_by(|x, y| y.apart.cmp(&x.apart).then(x.alike.total_cmp(&y.alike)));
    rows.into_iter().take(most).map(Row::contrast).collect()
}

/// A triple with verdict and output of both.
struct Row<'a> {
    triple: &'a Triple,
    a: (&'a Verdict, &'a String),
    b: (&'a Verdict, &'a String),
    /// By how much one went worse.
    apart: u32,
    /// Word similarity of the outputs.
    alike: f64,
}

impl Row<'_> {
    fn contrast(self) -> Contrast {
        let returned = |(verdict, output): (&Verdict, &String)| Returned {
            output: output.clone(),
            problems: problems(verdict),
        };
        let triple = self.triple;
        Contrast {
            event_id: triple.event_id.clone(),
            kind: self.a.0.kind.clone(),
            question: triple.question.clone(),
            answer: triple.answer.clone(),
            correction: triple.correction.clone(),
            a: returned(self.a),
            b: returned(self.b),
        }
    }
}
