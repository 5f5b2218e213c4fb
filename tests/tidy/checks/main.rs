//! What the repository promises of itself, checked from its files: who may depend on what, which
//! words stay out, whether its documents agree with it, and under which licences it builds.

mod documents;
mod layering;
mod licences;
mod manifests;
mod words;
