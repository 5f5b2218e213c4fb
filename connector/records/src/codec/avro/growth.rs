//! How far a datum can grow while it is read, judged by its schema before anything is read.
//!
//! The library reads recursively and without a budget, so it is the *writer's* schema that decides
//! what a few bytes may turn into. Two kinds are refused: those that refer to themselves or nest
//! very deeply, whose data could overflow the stack; and those whose data could hold far more
//! values than bytes, such as a list of nulls, which could fill the memory.

use std::collections::HashMap;

use apache_avro::schema::{
    DecimalSchema, InnerDecimalSchema, Name, NamesRef, RecordSchema, Schema, UuidSchema,
};

/// Most schemas within each other. A record in a nullable field counts two.
const MAX_DEPTH: usize = 64;
/// Values that a byte may stand for. A list of nullable integers has two for each byte.
const VALUES_PER_BYTE: i64 = 8;
/// Values beyond that, such as those of records with nothing but nulls in them.
const MAX_EXCESS: i64 = 10_000;

/// Why `writer` is refused, if it is; `names` holds every type that it names.
pub(super) fn fault(writer: &Schema, names: &NamesRef<'_>) -> Option<String> {
    let mut walk = Walk {
        names,
        records: HashMap::new(),
    };
    match walk.growth(writer, None, 0) {
        Err(fault) => Some(fault),
        Ok(Growth { excess, .. }) if excess > MAX_EXCESS => Some(sparse()),
        Ok(_) => None,
    }
}

/// What one datum of a schema comes to at worst.
#[derive(Debug, Clone, Copy)]
struct Growth {
    /// Schemas within each other.
    depth: usize,
    /// Most values that it has beyond [`VALUES_PER_BYTE`] for each of its bytes. Sums over fields
    /// and, where it is not above zero, over the items of a list, however many.
    excess: i64,
}

struct Walk<'a> {
    names: &'a NamesRef<'a>,
    /// Of each record by its full name; `None` while its fields are walked.
    records: HashMap<Name, Option<Growth>>,
}

impl Walk<'_> {
    fn growth(
        &mut self,
        schema: &Schema,
        namespace: Option<&str>,
        above: usize,
    ) -> Result<Growth, String> {
        if above >= MAX_DEPTH {
            return Err(deep());
        }
        let (depth, excess) = match schema {
            Schema::Null => (0, 1),
            Schema::Record(record) => return self.record(record, namespace, above),
            Schema::Ref { name } => {
                let name = name.fully_qualified_name(namespace);
                let Some(named) = self.names.get(name.as_ref()).copied() else {
                    return Err(format!("it names the type {name}, which is not defined"));
                };
                return self.growth(named, name.namespace(), above);
            }
            Schema::Union(union) => {
                let mut most = Growth {
                    depth: 0,
                    excess: i64::MIN,
                };
                for variant in union.variants() {
                    let variant = self.growth(variant, namespace, above + 1)?;
                    most.depth = most.depth.max(variant.depth);
                    most.excess = most.excess.max(variant.excess);
                }
                (most.depth, most.excess.saturating_add(value_of(1)))
            }
            Schema::Array(array) => {
                let items = self.growth(&array.items, namespace, above + 1)?;
                if items.excess > 0 {
                    return Err(sparse());
                }
                (items.depth, value_of(1))
            }
            Schema::Map(map) => {
                let values = self.growth(&map.types, namespace, above + 1)?;
                // Each stands beside a key of at least one byte.
                if values.excess.saturating_add(value_of(1)) > 0 {
                    return Err(sparse());
                }
                (values.depth, value_of(1))
            }
            other => match least_bytes(other) {
                large if large > super::MAX_ALLOCATION_BYTES => {
                    return Err(format!("it has a fixed type of {large} bytes"));
                }
                bytes => (0, value_of(bytes)),
            },
        };
        Ok(Growth {
            depth: depth + 1,
            excess,
        })
    }

    fn record(
        &mut self,
        record: &RecordSchema,
        namespace: Option<&str>,
        above: usize,
    ) -> Result<Growth, String> {
        let name = record.name.fully_qualified_name(namespace).into_owned();
        match self.records.get(&name) {
            // Itself, somewhere within its own fields.
            Some(None) => return Err(format!("its type {name} holds itself")),
            Some(Some(known)) if above + known.depth > MAX_DEPTH => return Err(deep()),
            Some(Some(known)) => return Ok(*known),
            None => {}
        }
        self.records.insert(name.clone(), None);
        let mut growth = Growth {
            depth: 0,
            excess: value_of(0),
        };
        for field in &record.fields {
            let field = self.growth(&field.schema, name.namespace(), above + 1)?;
            growth.depth = growth.depth.max(field.depth);
            growth.excess = growth.excess.saturating_add(field.excess);
        }
        growth.depth += 1;
        self.records.insert(name, Some(growth));
        Ok(growth)
    }
}

/// The excess of one value with `bytes` bytes of its own.
fn value_of(bytes: usize) -> i64 {
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    1_i64.saturating_sub(VALUES_PER_BYTE.saturating_mul(bytes))
}

/// Of a value that holds no others.
fn least_bytes(schema: &Schema) -> usize {
    match schema {
        Schema::Fixed(fixed) | Schema::Duration(fixed) => fixed.size,
        Schema::Decimal(DecimalSchema {
            inner: InnerDecimalSchema::Fixed(fixed),
            ..
        })
        | Schema::Uuid(UuidSchema::Fixed(fixed)) => fixed.size,
        _ => 1,
    }
}

fn deep() -> String {
    format!("it nests more than {MAX_DEPTH} levels deep")
}

fn sparse() -> String {
    "its data may hold many more values than bytes, as a list of nulls does".to_owned()
}

#[cfg(test)]
mod tests {
    use apache_avro::schema::ResolvedSchema;

    use super::*;

    fn of(json: &str) -> Option<String> {
        let schema = Schema::parse_str(json).expect("a schema");
        let resolved = ResolvedSchema::new(&schema).expect("its names are its own");
        fault(&schema, resolved.get_names())
    }

    fn record(name: &str, fields: &[&str]) -> String {
        let fields: Vec<String> = fields
            .iter()
            .enumerate()
            .map(|(index, field)| format!(r#"{{"name":"f{index}","type":{field}}}"#))
            .collect();
        format!(
            r#"{{"type":"record","name":"{name}","fields":[{}]}}"#,
            fields.join(",")
        )
    }

    fn list(items: &str) -> String {
        format!(r#"{{"type":"array","items":{items}}}"#)
    }

    #[test]
    fn the_schemas_that_people_log_with_are_read() {
        let nullable = r#"["null","string"]"#;
        let message = record("Message", &[r#""string""#, nullable, nullable]);
        for schema in [
            record("Log", &[&list(&message), r#""Message""#, nullable]),
            record("Log", &[&list(r#"["null","boolean"]"#)]),
            record("Log", &[r#"{"type":"map","values":"null"}"#]),
            record(
                "Log",
                &[&record("Deep", &[&record("Deeper", &[r#""null""#])])],
            ),
            r#"["null","string"]"#.to_owned(),
        ] {
            assert_eq!(of(&schema), None, "{schema}");
        }
    }

    #[test]
    fn a_type_that_holds_itself_is_refused_by_name() {
        let through_a_list = record("Tree", &[&list(r#""Tree""#)]);
        let through_another = record("N", &[&record("M", &[r#"["null","N"]"#])]);
        for (schema, name) in [
            (record("N", &[r#"["null","N"]"#]), "N"),
            (through_a_list, "Tree"),
            (through_another, "N"),
        ] {
            let fault = of(&schema).expect("refused");
            assert!(
                fault.contains(&format!("type {name} holds itself")),
                "{fault}"
            );
        }
    }

    #[test]
    fn a_list_whose_items_need_no_bytes_is_refused() {
        for items in [
            r#""null""#.to_owned(),
            record("Empty", &[]),
            record("Nulls", &[r#""null""#; 9]),
            r#"{"type":"fixed","name":"Nothing","size":0}"#.to_owned(),
            list(r#""null""#),
        ] {
            let fault = of(&record("Log", &[&list(&items)])).expect("refused");
            assert!(fault.contains("more values than bytes"), "{fault}");
        }
    }

    #[test]
    fn a_fixed_type_of_gigabytes_is_refused() {
        let fixed = r#"{"type":"fixed","name":"Huge","size":9000000000000000000}"#;
        let fault = of(&record("Log", &[fixed])).expect("refused");
        assert!(fault.contains("9000000000000000000 bytes"), "{fault}");
    }

    #[test]
    fn records_that_double_at_every_level_are_refused_and_soon() {
        let mut schema = record("L0", &[r#""null""#]);
        for level in 1..30 {
            let below = format!(r#""L{}""#, level - 1);
            schema = record(&format!("L{level}"), &[&schema, &below]);
        }
        let fault = of(&schema).expect("refused");
        assert!(fault.contains("more values than bytes"), "{fault}");
    }

    #[test]
    fn nesting_is_bounded_also_through_names() {
        let lists =
            |levels: usize, inner: &str| (0..levels).fold(inner.to_owned(), |of, _| list(&of));
        let string = r#""string""#;
        assert_eq!(of(&record("Log", &[&lists(MAX_DEPTH - 2, string)])), None);
        assert!(of(&record("Log", &[&lists(MAX_DEPTH - 1, string)])).is_some());
        // A name brings the levels of its type along.
        let known = record("Known", &[&list(string)]);
        let by_name = |levels| record("Log", &[&known, &lists(levels, r#""Known""#)]);
        assert_eq!(of(&by_name(MAX_DEPTH - 4)), None);
        let fault = of(&by_name(MAX_DEPTH - 3)).expect("refused");
        assert!(fault.contains("64 levels"), "{fault}");
    }
}
