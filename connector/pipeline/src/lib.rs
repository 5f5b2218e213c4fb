//! How records flow:
//!
//! ```text
//! source → decode → gate → batch → align → encode → sink        data goes right
//! source ←───────────────── offsets ←──────────────── sink      only acknowledgements come back
//! ```
//!
//! Deliberately absent: Kafka and models. A log is anything behind [`Source`] and [`Sink`], a
//! model anything behind [`aligner::Aligner`]; both have in-memory forms, so that every fault can
//! be replayed in a test.

mod align;
mod batcher;
mod calls;
mod coordinator;
mod decode;
mod delivery;
mod edit;
mod encode;
mod flow;
mod gate;
mod intake;
mod letters;
pub mod memory;
mod metrics;
mod notices;
mod offsets;
mod opened;
mod pacing;
pub mod progress;
mod retry;
mod run;
mod settings;
mod similarity;
mod sink;
mod source;
mod throttle;
mod trace;
mod turns;
mod work;

pub use decode::{Decoder, JsonDecoder, Undecoded};
pub use encode::{Encoder, JsonEncoder, WallClock};
pub use letters::{HEADERS_OMITTED_HEADER, KEY_OMITTED_HEADER, VALUE_OMITTED_HEADER};
pub use notices::DEAD_LETTER_TARGET;
pub use opened::{OpenedLetter, OriginalRecord};
pub use run::{Parts, Pipeline, PipelineError, Summary, system_clock};
pub use settings::{Problem, Settings};
pub use sink::{Delivery, DeliveryError, Outbound, OutputKind, Sink};
pub use source::{
    Flow, Header, Partition, PartitionEpoch, Source, SourceError, SourceEvent, SourceRecord,
};
pub use throttle::Throttle;
