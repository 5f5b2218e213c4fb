//! Access tokens from an identity provider, by the grant for programs: client credentials (RFC 6749,
//! section 4.4), as librdkafka and Kafka's Java clients ask for them with `sasl.oauthbearer.method=oidc`.
//!
//! What passes through: an id and a secret go out, in a header; a token comes in, with whom it is for and
//! when it ends. Promised: each question ends within a known time and takes known memory; what comes of
//! it is sorted by what helps, waiting or a person; and neither secret nor token is ever printed, also
//! where an endpoint repeats them.
//!
//! Deliberately absent: other grants, retrying and remembering, which are the caller's business, and
//! whether a token's signature is right, which is the brokers' business.

mod endpoint;
mod error;
mod form;
mod settings;
mod token;
mod url;

pub use aligner_http::Secret;
pub use endpoint::TokenEndpoint;
pub use error::TokenError;
pub use settings::{OidcSettings, SettingsFault};
pub use token::Token;
pub use url::is_in_the_clear;
