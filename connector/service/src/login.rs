//! Access tokens for the clients of Kafka: asked of the identity provider, and handed on.

use aligner_kafka::{AccessToken, TokenError, TokenSource};
use aligner_oidc::{OidcSettings, SettingsFault, TokenEndpoint};

/// A client at an identity provider.
#[derive(Debug)]
pub struct Oidc {
    endpoint: TokenEndpoint,
    client_id: String,
    extensions: Vec<(String, String)>,
}

impl Oidc {
    /// Prepares to ask; `extensions` are what brokers are told beside a token.
    ///
    /// # Errors
    /// If a setting cannot be used.
    pub fn new(
        settings: OidcSettings,
        extensions: Vec<(String, String)>,
    ) -> Result<Self, SettingsFault> {
        if aligner_oidc::is_in_the_clear(&settings.endpoint) {
            tracing::warn!(
                "sasl.oauthbearer.token.endpoint.url begins with http://: the client's secret and the \
                 tokens cross the network for everybody on it to read; use https://"
            );
        }
        Ok(Self {
            client_id: settings.client_id.clone(),
            endpoint: TokenEndpoint::new(settings)?,
            extensions,
        })
    }
}

impl TokenSource for Oidc {
    fn fetch(&self) -> Result<AccessToken, TokenError> {
        let token = self.endpoint.token().map_err(|error| {
            let said = error.to_string();
            match error {
                aligner_oidc::TokenError::Unavailable { .. } => TokenError::Unavailable(said),
                aligner_oidc::TokenError::Refused { .. } => TokenError::Refused(said),
            }
        })?;
        Ok(AccessToken {
            value: token.value,
            // Only clients name it, in their errors: brokers go by the token.
            principal: token.subject.unwrap_or_else(|| self.client_id.clone()),
            expires_at: token.expires_at,
            extensions: self.extensions.clone(),
        })
    }
}
