//! JSON Schemas of what the connector writes: they say what the Avro schemas say.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use aligner_records::{Correction, PreferencePair, Record};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

fn read(path: &Path) -> Value {
    let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas");
    let text = fs::read_to_string(schemas.join(path))
        .unwrap_or_else(|error| panic!("schemas/{}: {error}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

/// The JSON Schema beside an Avro schema.
fn beside(avsc: &str) -> PathBuf {
    Path::new(avsc).with_extension("schema.json")
}

/// What a field of an Avro schema is in JSON.
fn property(field: &Value) -> Value {
    let (avro, nullable) = match &field["type"] {
        Value::Array(union) => (&union[1], true),
        avro => (avro, false),
    };
    let doc = field["doc"].as_str().expect("every field has a doc");
    // Avro says so by a logical type, which JSON lacks.
    let (avro, doc) = if avro["logicalType"] == "timestamp-millis" {
        (&avro["type"], format!("{doc} In epoch milliseconds."))
    } else {
        (avro, doc.to_owned())
    };
    let (kind, format) = match avro.as_str() {
        Some("string") => ("string", None),
        Some("int") => ("integer", Some("int32")),
        Some("long") => ("integer", Some("int64")),
        Some("double") => ("number", Some("double")),
        Some("boolean") => ("boolean", None),
        _ => panic!("{avro} is none of the types of our records"),
    };
    let kind = if nullable {
        json!([kind, "null"])
    } else {
        json!(kind)
    };
    let mut property = json!({"description": doc, "type": kind});
    if let Some(format) = format {
        property["format"] = json!(format);
    }
    property
}

/// The JSON Schema of an Avro schema. What can be null is not required: every record of today has
/// it, but one that was written before there was such a field does not.
fn json_schema(avsc: &str) -> Value {
    let avro: Value = serde_json::from_str(avsc).expect("JSON");
    let fields = avro["fields"].as_array().expect("a record has fields");
    let name = |field: &Value| field["name"].as_str().expect("a name").to_owned();
    let properties: Map<String, Value> = fields
        .iter()
        .map(|field| (name(field), property(field)))
        .collect();
    let required: Vec<String> = fields
        .iter()
        .filter(|field| !field["type"].is_array())
        .map(name)
        .collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": avro["name"],
        "description": avro["doc"],
        "type": "object",
        "properties": properties,
        "required": required,
        // A later version may have more fields.
        "additionalProperties": true,
    })
}

#[test]
fn every_field_has_its_type_and_doc_in_the_json_schema() {
    for (file, avsc) in [
        (Correction::FILE, Correction::AVSC),
        (PreferencePair::FILE, PreferencePair::AVSC),
    ] {
        let (path, expected) = (beside(file), json_schema(avsc));
        let found = read(&path);
        for (name, property) in expected["properties"].as_object().expect("an object") {
            let path = path.display();
            assert_eq!(&found["properties"][name], property, "{path}: {name}");
        }
        assert_eq!(found, expected, "{}", path.display());
    }
}

/// Whether a value has one of the types.
fn fits(value: &Value, types: &Value) -> bool {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    match types {
        Value::Array(types) => types.iter().any(|one| one == found),
        one => one == found,
    }
}

fn check_what_is_written<R: Record + DeserializeOwned>() {
    // Any record will do, and every version reads those of the first.
    let sample = read(&Path::new("golden/v1").join(Path::new(R::FILE).with_extension("json")));
    let sample: R = aligner_records::json::decode(sample.to_string().as_bytes()).expect("a record");
    let written = aligner_records::json::encode(&sample);
    let written: Map<String, Value> = serde_json::from_slice(&written).expect("an object");
    let schema = read(&beside(R::FILE));
    let properties = schema["properties"].as_object().expect("an object");
    let keys: BTreeSet<_> = written.keys().collect();
    let named: BTreeSet<_> = properties.keys().collect();
    assert_eq!(keys, named, "{}", R::NAME);
    for (name, value) in &written {
        let types = &properties[name]["type"];
        assert!(fits(value, types), "{}: {name} is {value}", R::NAME);
    }
}

#[test]
fn what_is_written_has_exactly_the_keys_of_its_json_schema_with_values_of_their_types() {
    check_what_is_written::<Correction>();
    check_what_is_written::<PreferencePair>();
}
