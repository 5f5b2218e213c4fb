//! What the clients of registry, completions server and token endpoint have in common: which URLs they can
//! be given, a secret that nothing prints, how an error is told, and how much of what a server says.
//!
//! Deliberately absent: requests. Each client has its own answers, limits and retries.

mod body;
mod said;
mod secret;
mod story;
mod url;

pub use body::{Unread, bounded_body};
pub use said::shortened;
pub use secret::Secret;
pub use story::{is_about_trust, story};
pub use url::{base_url_fault, endpoint_url_fault};
