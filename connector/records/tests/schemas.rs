//! The rules that let a warehouse take our records as they are.
//!
//! Connect's JDBC sinks take top-level primitives only, converters recognise only millisecond
//! timestamps, other unions than a nullable one become structs, and warehouses fold case.

use std::collections::BTreeSet;

use aligner_records::{AnswerEvent, Correction, PreferencePair, Record};
use apache_avro::{
    Schema,
    schema_compatibility::{Compatibility, SchemaCompatibility},
};
use serde_json::Value;

/// What a warehouse would stumble over.
fn faults(avsc: &str) -> Vec<String> {
    let schema: Value = serde_json::from_str(avsc).expect("JSON");
    let mut faults = Vec::new();
    if schema["type"] != "record" || schema["namespace"] != "io.alignerconnector" {
        faults.push("not a record of io.alignerconnector".to_owned());
    }
    if !documented(&schema) {
        faults.push("the record has no doc".to_owned());
    }
    let mut names = BTreeSet::new();
    for field in schema["fields"].as_array().expect("a record has fields") {
        let name = field["name"].as_str().expect("a field has a name");
        let mut fault = |what: &str| faults.push(format!("{name}: {what}"));
        if !snake_case(name) {
            fault("not snake_case");
        }
        if !names.insert(name.to_lowercase()) {
            fault("differs from another name by case only");
        }
        if !documented(field) {
            fault("no doc");
        }
        let (value, nullable) = match &field["type"] {
            Value::Array(union) => match union.as_slice() {
                [Value::String(null), value] if null == "null" => (value, true),
                _ => {
                    fault("a union other than [\"null\", T]");
                    continue;
                }
            },
            value => (value, false),
        };
        let defaults_to_null = field.get("default").is_some_and(Value::is_null);
        if nullable != defaults_to_null {
            fault("default null must go with [\"null\", T], and only with it");
        }
        let instant = value["logicalType"] == "timestamp-millis" && value["type"] == "long";
        if name.ends_with("_at") != instant {
            fault("instants, and only they, end in _at and are timestamp-millis");
        }
        let primitive = matches!(
            value.as_str(),
            Some("string" | "int" | "long" | "double" | "boolean")
        );
        if !instant && !primitive {
            fault("not a primitive");
        }
        if name.ends_with("_ms") && value != "long" {
            fault("a duration is a plain long");
        }
    }
    faults
}

fn documented(value: &Value) -> bool {
    value["doc"].as_str().is_some_and(|doc| !doc.is_empty())
}

fn snake_case(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

fn all() -> [(&'static str, &'static str, &'static Schema); 3] {
    fn of<R: Record>() -> (&'static str, &'static str, &'static Schema) {
        (R::NAME, R::AVSC, R::schema())
    }
    [
        of::<AnswerEvent>(),
        of::<Correction>(),
        of::<PreferencePair>(),
    ]
}

#[test]
fn every_schema_follows_the_warehouse_rules() {
    for (name, avsc, _) in all() {
        assert_eq!(faults(avsc), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn the_warehouse_rules_catch_each_mistake() {
    let mistakes = [
        r#"{"name":"camelCase","doc":"d","type":"string"}"#,
        r#"{"name":"a","type":"string"}"#,
        r#"{"name":"a","doc":"d","type":["null","string"]}"#,
        r#"{"name":"a","doc":"d","type":["string","null"],"default":"x"}"#,
        r#"{"name":"a","doc":"d","type":["null","string","int"],"default":null}"#,
        r#"{"name":"a","doc":"d","type":{"type":"array","items":"string"}}"#,
        r#"{"name":"created_at","doc":"d","type":"long"}"#,
        r#"{"name":"a","doc":"d","type":{"type":"long","logicalType":"timestamp-micros"}}"#,
        r#"{"name":"queue_ms","doc":"d","type":"int"}"#,
    ];
    for field in mistakes {
        let avsc = format!(
            r#"{{"type":"record","name":"R","namespace":"io.alignerconnector","doc":"d","fields":[{field}]}}"#
        );
        assert_eq!(faults(&avsc).len(), 1, "{field}");
    }
}

#[test]
fn schemas_carry_the_names_of_their_records() {
    for (name, _, schema) in all() {
        let full = schema.name().expect("a record has a name");
        assert_eq!(full.to_string(), format!("io.alignerconnector.{name}"));
    }
}

#[test]
fn a_reader_of_today_reads_what_is_written_today() {
    for (name, _, schema) in all() {
        assert_eq!(
            SchemaCompatibility::can_read(schema, schema),
            Ok(Compatibility::Full),
            "{name}"
        );
    }
}
