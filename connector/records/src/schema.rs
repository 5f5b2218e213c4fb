//! The records' schemas, embedded from `schemas/`.

use std::sync::LazyLock;

use apache_avro::{Schema, writer::datum::GenericDatumWriter};
use serde::Serialize;

use crate::{AnswerEvent, Correction, PreferencePair};

/// A record with a schema in `schemas/`.
pub trait Record: Serialize {
    /// Its name in the schema, without namespace.
    const NAME: &'static str;
    /// Its file in `schemas/`.
    const FILE: &'static str;
    /// The text of that file.
    const AVSC: &'static str;

    /// The parsed schema.
    fn schema() -> &'static Schema;

    /// Writes datums of that schema.
    fn writer() -> &'static GenericDatumWriter<'static>;
}

macro_rules! record {
    ($record:ty, $name:literal, $file:literal) => {
        impl Record for $record {
            const NAME: &'static str = $name;
            const FILE: &'static str = $file;
            const AVSC: &'static str = include_str!(concat!("../../../schemas/", $file));

            fn schema() -> &'static Schema {
                static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
                    Schema::parse_str(<$record>::AVSC)
                        .expect("the embedded schema parses, as its test shows")
                });
                &SCHEMA
            }

            fn writer() -> &'static GenericDatumWriter<'static> {
                static WRITER: LazyLock<GenericDatumWriter<'static>> = LazyLock::new(|| {
                    GenericDatumWriter::builder(<$record>::schema())
                        .build()
                        .expect("the embedded schema refers to no other")
                });
                &WRITER
            }
        }
    };
}

record!(AnswerEvent, "AnswerEvent", "answer-event.avsc");
record!(Correction, "Correction", "correction.avsc");
record!(PreferencePair, "PreferencePair", "preference-pair.avsc");
