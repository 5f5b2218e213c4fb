//! A triple in the making: the units of an answer, before and after correction.

use crate::Split;
use crate::carrier::{Layout, Unit};
use crate::lists::LISTS;
use crate::writer::Writer;

/// A unit before and after correction; `None` means that it is dropped.
pub(crate) struct Piece {
    pub(crate) sep: &'static str,
    pub(crate) before: String,
    pub(crate) after: Option<String>,
}

pub(crate) struct Draft {
    pub(crate) question: String,
    pub(crate) pieces: Vec<Piece>,
    pub(crate) layout: Layout,
    pub(crate) faults: Vec<String>,
}

impl Draft {
    pub(crate) fn new((question, units, layout): (String, Vec<Unit>, Layout)) -> Self {
        let pieces = units
            .into_iter()
            .map(|u| Piece {
                sep: u.sep,
                after: Some(u.text.clone()),
                before: u.text,
            })
            .collect();
        Self {
            question,
            pieces,
            layout,
            faults: Vec::new(),
        }
    }

    /// Puts a unit at a place; it takes the separator of the unit it pushes back.
    pub(crate) fn insert(&mut self, at: usize, before: String, after: Option<String>) {
        let sep = if at == 0 {
            if let Some(first) = self.pieces.first_mut() {
                first.sep = match self.layout {
                    Layout::Lines => "\n",
                    _ if first.before.starts_with("1. ") => "\n",
                    _ => " ",
                };
            }
            ""
        } else if at < self.pieces.len() && self.pieces[at].sep != "\n\n" {
            self.pieces[at].sep
        } else {
            match self.pieces[at - 1].sep {
                "" | "\n\n" => " ",
                sep => sep,
            }
        };
        self.pieces.insert(at, Piece { sep, before, after });
    }

    pub(crate) fn answer(&self) -> String {
        self.pieces
            .iter()
            .map(|p| format!("{}{}", p.sep, p.before))
            .collect()
    }

    pub(crate) fn correction(&self) -> String {
        let mut out = String::new();
        let mut owed = "";
        for piece in &self.pieces {
            let Some(text) = &piece.after else {
                // A dropped unit leaves its paragraph break to the one that follows.
                if piece.sep == "\n\n" {
                    owed = "\n\n";
                }
                continue;
            };
            if !out.is_empty() {
                out.push_str(if piece.sep == " " && !owed.is_empty() {
                    owed
                } else {
                    piece.sep
                });
            } else if piece.sep.starts_with("\n") {
                out.push_str(piece.sep.trim_start_matches('\n'));
            }
            owed = "";
            out.push_str(text);
        }
        out
    }

    /// Any place before, between or after the units, but not inside a numbered list.
    pub(crate) fn place(&self, w: &mut Writer) -> usize {
        if self.layout == Layout::Numbered {
            let first = self
                .pieces
                .iter()
                .position(|p| p.before.starts_with("1. "))
                .unwrap_or(0);
            return if w.chance(0.5) {
                first.min(1) * w.below(2)
            } else {
                self.pieces.len()
            };
        }
        w.between(self.start(w), self.pieces.len())
    }

    /// The first place for a unit: a greeting stays in front, except in training.
    pub(crate) fn start(&self, w: &Writer) -> usize {
        let greeting = |p: &Piece| {
            let text = p.before.replace('’', "'");
            let openers = &LISTS.clean["opener"].all;
            openers.iter().any(|o| o.eq_ignore_ascii_case(&text))
        };
        usize::from(w.split != Split::Train && self.pieces.first().is_some_and(greeting))
    }
}
