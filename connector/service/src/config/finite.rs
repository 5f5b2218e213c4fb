//! Numbers that are none: `8e400` without quotes is infinite, and JSON's values, which settings are
//! made of, would have null in its place, as if nothing had been written.

use config::{Value, ValueKind};

use super::Problem;

/// Takes them out of what was given, with what is to be said of each.
pub(super) fn taken_out(given: &mut Value) -> Vec<Problem> {
    let mut keys = Vec::new();
    walk(given, "", &mut keys);
    // Maps keep no order.
    keys.sort_unstable();
    keys.into_iter()
        .map(|key| Problem {
            key,
            // It may be a password.
            value: None,
            message: "this is read as a number that is infinite, or none".to_owned(),
            fix: Some("write it in quotes, or a finite number".to_owned()),
        })
        .collect()
}

fn walk(value: &mut Value, path: &str, keys: &mut Vec<String>) {
    let ValueKind::Table(table) = &mut value.kind else {
        return;
    };
    table.retain(|key, value| {
        let key = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        if matches!(value.kind, ValueKind::Table(_)) {
            walk(value, &key, keys);
            return true;
        }
        let is_finite = is_finite(value);
        if !is_finite {
            keys.push(key);
        }
        is_finite
    });
}

/// Whether every number of a value, such as a list, is finite.
fn is_finite(value: &Value) -> bool {
    match &value.kind {
        ValueKind::Float(number) => number.is_finite(),
        ValueKind::Array(values) => values.iter().all(is_finite),
        ValueKind::Table(table) => table.values().all(is_finite),
        _ => true,
    }
}
