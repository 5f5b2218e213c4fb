//! What the repository promises of itself, checked from its files: who may depend on what, which
//! words stay out, whether its documents agree with it, under which licences it builds, and whether their notices
//! are complete.

mod documents;
mod layering;
mod licences;
mod manifests;
mod notices;
mod words;
