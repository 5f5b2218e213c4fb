//! A registry's few operations, each tried once; what comes of them is sorted by [`Failure`].

use std::{collections::BTreeSet, fmt, sync::Arc};

use aligner_http::base_url_fault;
use aligner_records::Record;

use crate::{
    RegistryError, RegistrySettings,
    error::Failure,
    outputs::{RegisteredEncoder, subject},
    requests::{NoAnswer, Reference, Registered, Requests},
};

/// Most schemas that one schema may refer to, directly and through others.
const MAX_REFERENCES: usize = 64;

/// A Schema Registry. Clones share its connections.
#[derive(Clone)]
pub struct Registry {
    requests: Requests,
    settings: Arc<RegistrySettings>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registry").field(&self.settings).finish()
    }
}

/// A step of the walk through a schema's references.
enum Open {
    Visit(Reference),
    /// Everything that this text refers to was visited.
    Leave(String),
}

/// What the registry has under an id.
pub(crate) enum Lookup {
    Schema(SchemaText),
    /// A schema, but not one that we read; the cause is a sentence about it.
    Unusable(String),
    /// It says that there is none.
    Nothing,
}

/// A schema's text and the texts of those that it refers to, each after those that it needs.
pub(crate) struct SchemaText {
    pub text: String,
    pub references: Vec<String>,
}

impl Registry {
    /// Prepares a client; reads the files for TLS, and opens no connection.
    ///
    /// # Errors
    /// [`RegistryError::Settings`] if the URL or one of the files cannot be used.
    pub fn new(mut settings: RegistrySettings) -> Result<Self, RegistryError> {
        let fault = |field, what: &str| {
            Err(RegistryError::Settings {
                field,
                fault: what.to_owned(),
            })
        };
        if let Some(found) = base_url_fault(&settings.url, "set username and password_file") {
            return fault("url", &found);
        }
        if settings.password.is_some() && settings.username.is_none() {
            return fault("username", "there is a password but no username");
        }
        // Paths are added with a slash of their own.
        settings
            .url
            .truncate(settings.url.trim_end_matches('/').len());

        let settings = Arc::new(settings);
        Ok(Self {
            requests: Requests::new(Arc::clone(&settings))?,
            settings,
        })
    }

    /// Its settings.
    pub fn settings(&self) -> &RegistrySettings {
        &self.settings
    }

    /// Registers the schemas of corrections and pairs under their topics' subjects, or looks them
    /// up where `auto_register` is off.
    ///
    /// # Errors
    /// If the registry cannot be reached, or refuses a schema, or does not have it.
    pub async fn outputs(
        &self,
        corrections_topic: &str,
        pairs_topic: &str,
    ) -> Result<RegisteredEncoder, RegistryError> {
        Ok(RegisteredEncoder::new(
            self.id_of::<aligner_records::Correction>(corrections_topic)
                .await?,
            self.id_of::<aligner_records::PreferencePair>(pairs_topic)
                .await?,
        ))
    }

    /// The id of a record's schema under its topic's subject; registers it if that is allowed.
    ///
    /// # Errors
    /// As [`Registry::outputs`].
    pub async fn id_of<R: Record>(&self, topic: &str) -> Result<u32, RegistryError> {
        let subject = subject(topic);
        let what = format!("schemas/{} for subject {subject}", R::FILE);
        let id = if self.settings.auto_register {
            self.requests.register(&subject, R::AVSC).await
        } else {
            self.requests.find(&subject, R::AVSC).await
        };
        id.map_err(
            |error| match Failure::of(error, &self.settings.url, &what) {
                Failure::Other(error) => error,
                Failure::UnknownSubject | Failure::UnknownSchema => RegistryError::Refused {
                    url: self.settings.url.clone(),
                    what,
                    cause: "it is not registered: register it, or set \
                            formats.schema_registry.auto_register to true"
                        .to_owned(),
                },
            },
        )
    }

    /// Looks an id up.
    pub(crate) async fn schema(&self, id: u32) -> Result<Lookup, RegistryError> {
        let what = format!("schema id {id}");
        match self.with_references(id).await {
            Ok(lookup) => Ok(lookup),
            Err(error) => match Failure::of(error, &self.settings.url, &what) {
                Failure::UnknownSchema => Ok(Lookup::Nothing),
                // Only a reference can lead there, and that the registry keeps whole.
                Failure::UnknownSubject => Err(RegistryError::Refused {
                    url: self.settings.url.clone(),
                    what,
                    cause: "a schema that it refers to is missing".to_owned(),
                }),
                Failure::Other(error) => Err(error),
            },
        }
    }

    /// Whether the registry has a word of its own for an id, be it that there is no such schema.
    pub(crate) async fn answers_for(&self, id: u32) -> bool {
        let what = format!("schema id {id}");
        match self.requests.schema(id).await {
            Ok(_) => true,
            Err(error) => !matches!(
                Failure::of(error, &self.settings.url, &what),
                Failure::Other(_)
            ),
        }
    }

    async fn with_references(&self, id: u32) -> Result<Lookup, NoAnswer> {
        let Registered {
            schema_type,
            text,
            references,
        } = self.requests.schema(id).await?;
        if schema_type.is_some_and(|schema_type| schema_type != "AVRO") {
            return Ok(Lookup::Unusable(format!(
                "schema id {id} is not an Avro schema: write the record in Avro"
            )));
        }
        let mut texts = Vec::new();
        let mut seen = BTreeSet::new();
        let mut open: Vec<_> = references.into_iter().map(Open::Visit).collect();
        while let Some(next) = open.pop() {
            let reference = match next {
                Open::Visit(reference) => reference,
                Open::Leave(text) => {
                    texts.push(text);
                    continue;
                }
            };
            if !seen.insert((reference.subject.clone(), reference.version)) {
                continue;
            }
            if seen.len() > MAX_REFERENCES {
                return Ok(Lookup::Unusable(format!(
                    "schema id {id} refers to more than {MAX_REFERENCES} others: write the record \
                     with one that refers to fewer"
                )));
            }
            let referenced = self.requests.referenced(&reference).await?;
            open.push(Open::Leave(referenced.text));
            open.extend(referenced.references.into_iter().map(Open::Visit));
        }
        Ok(Lookup::Schema(SchemaText {
            text,
            references: texts,
        }))
    }
}
