//! Configuration: what a user may write, with every default in one place.
//!
//! Layers, the later winning: defaults < file (YAML or TOML) < `ALIGNER__SECTION__KEY` in the
//! environment < command-line flags. Every section is always present, so that the serialised
//! default *is* the list of known keys; [`read`] refuses any other, with the nearest known one.

mod check;
mod finite;
mod fit;
mod known;
mod layers;
mod load;
mod login;
mod nesting;
mod problem;
mod secret;
mod sections;
mod strays;
mod syntax;
mod values;

use std::collections::BTreeMap;

use aligner_engine::{Dtype, Speculation};
use aligner_kafka::{DeliveryGuarantee, KafkaSettings, StartFrom, TopicSettings};
use aligner_records::TimeUnit;
use serde::{Deserialize, Serialize};

pub use aligner_http::Secret;
pub use check::no_tokenizer;
pub use layers::Layers;
pub use load::{read, read_sections};
pub use login::token_login;
pub use problem::{Problem, Problems};
pub use secret::{secret, secret_in};
pub use sections::{fields, kafka_sections, profile, properties, registry};
pub use values::{InstanceId, ModelChoice, OneOrMany, Places};

/// Everything that `aligner-connector run` can be told.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Name of this connector; the consumer group is `connect-<name>`.
    pub name: Name,
    /// How to reach Kafka, and what delivery to promise.
    pub kafka: Kafka,
    /// Topics read and written.
    pub topics: TopicSettings,
    /// How records are written.
    pub formats: Formats,
    /// How an existing log is read.
    pub input: Input,
    /// The model.
    pub aligner: Aligner,
    /// Batching, limits and retries.
    pub pipeline: aligner_pipeline::Settings,
    /// What happens to records that cannot be corrected.
    pub errors: Errors,
    /// The HTTP server.
    pub service: Service,
    /// Logs, metrics and traces.
    pub telemetry: Telemetry,
}

/// A connector's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Name(pub String);

impl Default for Name {
    fn default() -> Self {
        Self("aligner".to_owned())
    }
}

/// `kafka`: the cluster, and the guarantee.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kafka {
    /// `host:port`, comma-separated.
    pub bootstrap_servers: String,
    /// What readers of the output topics may rely on.
    pub delivery: DeliveryGuarantee,
    /// Where a group without committed offsets begins.
    pub start_from: StartFrom,
    /// Stable identity of this process, such as a StatefulSet ordinal: static membership, and a
    /// restarted process takes over within seconds.
    pub instance_id: Option<InstanceId>,
    /// Consumer group; `connect-<name>` when null.
    pub group_id: Option<String>,
    /// A member that is silent for so long is replaced, milliseconds.
    pub session_timeout_ms: u32,
    /// Between heartbeats, milliseconds.
    pub heartbeat_interval_ms: u32,
    /// The broker aborts a transaction that is older, milliseconds.
    pub transaction_timeout_ms: u32,
    /// How long a rebalance waits for finished results to be delivered, milliseconds.
    pub revoke_timeout_ms: u32,
    /// How long leaving the group may take, milliseconds.
    pub close_timeout_ms: u32,
    /// Within this time a wrong start is named, milliseconds.
    pub start_timeout_ms: u32,
    /// Bytes of records that were fetched and not yet taken; full for long, fetching is suspended.
    pub fetch_buffer_bytes: usize,
    /// Most records handed over at once.
    pub fetch_batch_records: usize,
    /// Any librdkafka property, for both clients.
    pub properties: BTreeMap<String, Secret>,
    /// librdkafka properties whose values are read from files, such as `sasl.password`.
    pub property_files: BTreeMap<String, String>,
}

impl Default for Kafka {
    fn default() -> Self {
        // The numbers have one home, and their reasons with them.
        let kafka = KafkaSettings::default();
        Self {
            bootstrap_servers: kafka.bootstrap_servers,
            delivery: kafka.delivery,
            start_from: kafka.start_from,
            instance_id: None,
            group_id: None,
            session_timeout_ms: kafka.session_timeout_ms,
            heartbeat_interval_ms: kafka.heartbeat_interval_ms,
            transaction_timeout_ms: kafka.transaction_timeout_ms,
            revoke_timeout_ms: kafka.revoke_timeout_ms,
            close_timeout_ms: kafka.close_timeout_ms,
            start_timeout_ms: kafka.start_timeout_ms,
            fetch_buffer_bytes: kafka.fetch_buffer_bytes,
            fetch_batch_records: kafka.fetch_batch_records,
            properties: BTreeMap::new(),
            property_files: BTreeMap::new(),
        }
    }
}

/// `formats`: how values are written.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Formats {
    /// Of answer events.
    pub answers: Format,
    /// Of corrections and pairs.
    pub outputs: Format,
    /// The Schema Registry that `avro` needs.
    pub schema_registry: SchemaRegistry,
}

/// How a value is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A JSON object.
    #[default]
    Json,
    /// Avro in the Confluent wire format.
    Avro,
}

/// `formats.schema_registry`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SchemaRegistry {
    /// Base URL.
    pub url: Option<String>,
    /// User of basic authentication.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
    /// File that holds the password.
    pub password_file: Option<String>,
    /// PEM file with authorities to trust beside the system's.
    pub ca_file: Option<String>,
    /// PEM file with the certificate to show, and its chain.
    pub certificate_file: Option<String>,
    /// PEM file with its key, in PKCS #8 and without a passphrase.
    pub key_file: Option<String>,
    /// Register the output schemas at start; otherwise they must be there.
    pub auto_register: bool,
}

impl Default for SchemaRegistry {
    fn default() -> Self {
        Self {
            url: None,
            username: None,
            password: None,
            password_file: None,
            ca_file: None,
            certificate_file: None,
            key_file: None,
            auto_register: true,
        }
    }
}

/// `input`: reading a log that was not written for us.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Input {
    /// Where each field of an answer event lies, as JSON Pointers (RFC 6901). With none given,
    /// answers are read in our own layout.
    pub fields: InputFields,
    /// What numbers at `fields.created_at` count.
    pub created_at_unit: Option<TimeUnit>,
}

/// `input.fields`: one pointer each, or several of which the first that leads to a value counts.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InputFields {
    /// What the user asked; required with any other.
    pub question: Option<Places>,
    /// What the upstream model answered; required with any other.
    pub answer: Option<Places>,
    /// The producer's id.
    pub event_id: Option<Places>,
    /// Name of the upstream model.
    pub upstream_model: Option<Places>,
    /// When the answer was given.
    pub created_at: Option<Places>,
    /// Conversation of the answer.
    pub conversation_id: Option<Places>,
    /// User who asked.
    pub user_id: Option<Places>,
    /// Anything else; kept as JSON text.
    pub metadata_json: Option<Places>,
}

/// `aligner`: the model and how it decodes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Aligner {
    /// `bundled`, `identity`, `marker`, `marker-all`, `remote`, a folder in Hugging Face layout,
    /// a GGUF file, or `owner/name@revision` on the Hugging Face hub.
    pub model: ModelChoice,
    /// Profile (template and guard): `paper`, `alpaca-eval`, or a JSON file; the model's own
    /// when null.
    pub profile: Option<String>,
    /// Where it runs: `cpu`, `cuda:0`, or a list.
    pub device: OneOrMany,
    /// Weights in memory: `auto`, `f32`, `q8_0`, `q4_k`, `bf16`.
    pub dtype: Dtype,
    /// CPU threads; all cores when null.
    pub threads: Option<u16>,
    /// Most tokens decoded for one answer.
    pub max_new_tokens: u32,
    /// 0 is greedy.
    pub temperature: f64,
    /// Nucleus sampling threshold, used only with a temperature.
    pub top_p: Option<f64>,
    /// Seed of the sampler, used only with a temperature.
    pub seed: u64,
    /// Whether steps check guessed tokens where that pays; it never changes an output.
    pub speculation: Speculation,
    /// Tokens of past corrections that guesses are made from.
    pub history_tokens: u32,
    /// Tokens whose keys and values fit into a worker; by the model's size when null.
    pub kv_tokens: Option<u32>,
    /// An OpenAI-compatible completions server, used with `model: remote`.
    pub remote: Remote,
}

impl Default for Aligner {
    fn default() -> Self {
        Self {
            model: ModelChoice::Bundled,
            profile: None,
            device: OneOrMany::One("cpu".to_owned()),
            dtype: Dtype::Auto,
            threads: None,
            max_new_tokens: 1024,
            temperature: 0.0,
            top_p: None,
            seed: 0,
            speculation: Speculation::Auto,
            history_tokens: 1 << 19,
            kv_tokens: None,
            remote: Remote::default(),
        }
    }
}

/// `aligner.remote`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Remote {
    /// Base URL, such as `http://vllm:8000/v1`.
    pub url: Option<String>,
    /// Model name to ask for.
    pub model: Option<String>,
    /// Whether the server begins the prompt with what its tokenizer adds; null leaves it to the
    /// server.
    pub add_special_tokens: Option<bool>,
    /// Bearer token.
    pub api_key: Option<Secret>,
    /// File that holds the bearer token.
    pub api_key_file: Option<String>,
    /// Requests in flight.
    pub max_concurrency: u32,
    /// One request's time with all its attempts, milliseconds.
    pub timeout_ms: u64,
}

impl Default for Remote {
    fn default() -> Self {
        Self {
            url: None,
            model: None,
            add_special_tokens: None,
            api_key: None,
            api_key_file: None,
            max_concurrency: 64,
            timeout_ms: 60_000,
        }
    }
}

/// `errors`, after Kafka Connect's settings of the same name.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Errors {
    /// `all` dead-letters a record that cannot be handled and goes on; `none` stops there.
    pub tolerance: Tolerance,
}

/// What a bad record does to the connector.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tolerance {
    /// It is dead-lettered.
    #[default]
    All,
    /// It stops the connector, before anything of it is written.
    None,
}

/// `service`: the HTTP server.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Service {
    /// Address of `/livez`, `/readyz` and `/metrics`; port 0 picks one and logs it.
    pub listen: String,
    /// So long without a word from the Aligner while it has records, or without any delivery while
    /// there is work, and it counts as stuck, milliseconds. More than three times
    /// `pipeline.record_timeout_ms`: records that never end must be given up before a restart, the
    /// first call, those beside it, and then one alone.
    pub stall_timeout_ms: u64,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8083".to_owned(),
            stall_timeout_ms: 2_000_000,
        }
    }
}

/// `telemetry`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// `auto` is `pretty` on a terminal and `json` elsewhere.
    pub log_format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, or `off`, which logs nothing; or a filter such as
    /// `info,aligner_kafka=debug`.
    pub log_level: String,
    /// OTLP endpoint over HTTP, such as `http://collector:4318`; no spans are sent when null.
    pub otlp_endpoint: Option<String>,
    /// `service.name` of spans and metrics; the connector's name when null.
    pub service_name: Option<String>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            log_format: LogFormat::Auto,
            log_level: "info".to_owned(),
            otlp_endpoint: None,
            service_name: None,
        }
    }
}

/// How logs are written to stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// By where stderr goes.
    Auto,
    /// One JSON object per line.
    Json,
    /// For people.
    Pretty,
}

impl InputFields {
    /// Every field with its pointers, in the order of the records.
    fn pointers(&self) -> [(&'static str, &Option<Places>); 8] {
        [
            ("question", &self.question),
            ("answer", &self.answer),
            ("event_id", &self.event_id),
            ("upstream_model", &self.upstream_model),
            ("created_at", &self.created_at),
            ("conversation_id", &self.conversation_id),
            ("user_id", &self.user_id),
            ("metadata_json", &self.metadata_json),
        ]
    }
}

impl Settings {
    /// The consumer group.
    pub fn group_id(&self) -> String {
        self.kafka
            .group_id
            .clone()
            .unwrap_or_else(|| aligner_kafka::default_group_id(&self.name.0))
    }
}
