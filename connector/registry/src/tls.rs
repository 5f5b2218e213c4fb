//! Whom we trust, and what we show: the files for TLS.

use std::{fs, path::Path};

use aligner_http::story;
use reqwest::{Certificate, ClientBuilder, Identity};

use crate::{RegistryError, RegistrySettings};

/// A client that trusts and shows what the settings name. The files are read once, here.
pub(crate) fn client(settings: &RegistrySettings) -> Result<ClientBuilder, RegistryError> {
    let mut client = reqwest::Client::builder();
    if let Some(path) = &settings.ca_file {
        let pem = read("ca_file", path)?;
        let authorities = Certificate::from_pem_bundle(&pem)
            .map_err(|error| fault("ca_file", path, &story(&error)))?;
        if authorities.is_empty() {
            let none = "it holds no certificate in PEM (-----BEGIN CERTIFICATE-----)";
            return Err(fault("ca_file", path, none));
        }
        client = client.tls_certs_merge(authorities);
    }
    match (&settings.certificate_file, &settings.key_file) {
        (Some(certificate), Some(key)) => {
            let (chain, secret) = (
                read("certificate_file", certificate)?,
                read("key_file", key)?,
            );
            if !secret.starts_with(b"-----BEGIN PRIVATE KEY-----") {
                let other = "it holds no key in PKCS #8 (-----BEGIN PRIVATE KEY-----); \
                             openssl pkcs8 -topk8 -nocrypt makes it one";
                return Err(fault("key_file", key, other));
            }
            let identity = Identity::from_pkcs8_pem(&chain, &secret).map_err(|error| {
                let what = format!("with {}: {}", key.display(), story(&error));
                fault("certificate_file", certificate, &what)
            })?;
            Ok(client.identity(identity))
        }
        (None, None) => Ok(client),
        (Some(_), None) => Err(alone("key_file", "certificate_file")),
        (None, Some(_)) => Err(alone("certificate_file", "key_file")),
    }
}

fn read(field: &'static str, path: &Path) -> Result<Vec<u8>, RegistryError> {
    fs::read(path).map_err(|error| fault(field, path, &format!("it cannot be read: {error}")))
}

fn alone(missing: &'static str, given: &str) -> RegistryError {
    RegistryError::Settings {
        field: missing,
        fault: format!("there is a {given} but no {missing}"),
    }
}

fn fault(field: &'static str, path: &Path, what: &str) -> RegistryError {
    RegistryError::Settings {
        field,
        fault: format!("{}: {what}", path.display()),
    }
}
