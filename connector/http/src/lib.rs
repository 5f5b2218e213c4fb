//! What the clients of registry, completions server and token endpoint have in common: which URLs they can
//! be given, and how an error is told.
//!
//! Deliberately absent: requests. Each client has its own answers, limits and retries.

mod story;
mod url;

pub use story::story;
pub use url::{base_url_fault, endpoint_url_fault};
