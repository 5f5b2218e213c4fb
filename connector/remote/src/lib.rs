//! The Aligner on an OpenAI-compatible completions server, such as vLLM.
//!
//! What passes through: the prompt that the model's profile renders, as it is, to `/completions`
//! (never `/chat/completions`, which would wrap it in a chat template that the model was not
//! trained on), and the text that comes back. Promised: each request is answered once, on its
//! own; a server that is down, slow or overloaded is waited for within the limits of
//! [`RemoteSettings`] and then reported as unavailable, as is one whose answer says nothing of the
//! request; and a dropped batch closes its connections, at which servers abandon the work.
//!
//! What the server cannot be asked stays unknown. It does not tell a digest of its weights, so an
//! [`Identity`](aligner::Identity)'s revision is the served model's id and root, or what the
//! settings pin. It tokenises the prompt as one text, so special tokens that a user spelt out are
//! not kept apart from the template's, as the engine does, and it may begin that text with a token
//! of its own, which the engine does not do before a template with special tokens: the settings say
//! so, since not every server knows the field. And limits in tokens are the server's
//! to enforce: those of a profile's guard are not applied, which is said once at start. The rest
//! of the guard is.
//!
//! Deliberately absent: tokenizers, tensors, Kafka.

mod client;
mod completion;
mod problem;
mod remote;
mod reply;
mod retry;
mod settings;
mod url;

pub use aligner_http::Secret;
pub use remote::RemoteAligner;
pub use settings::{RemoteError, RemoteSettings};
pub use url::url_fault;
