//! Which keys there are: what a key that is none was likely meant to be.

use serde_json::Value;

use super::{Problem, load::FREE_MAPS};

/// What is wrong with a path that leads to no setting.
pub(super) fn unknown(defaults: &Value, path: &[String]) -> Option<Problem> {
    let mut known = defaults;
    for (depth, key) in path.iter().enumerate() {
        let parent = path[..depth].join(".");
        if FREE_MAPS.contains(&parent.as_str()) {
            return None;
        }
        let Some(next) = known.get(key) else {
            return Some(Problem {
                key: path[..=depth].join("."),
                value: None,
                message: "there is no such key".to_owned(),
                fix: Some(nearest(defaults, &path[..=depth])),
            });
        };
        known = next;
    }
    None
}

fn nearest(defaults: &Value, path: &[String]) -> String {
    let written = path.join(".");
    let (last, section) = path.split_last().expect("a path is never empty");
    let own = section
        .iter()
        .try_fold(defaults, |value, key| value.get(key))
        .and_then(Value::as_object)
        .filter(|_| !section.is_empty());
    let section = section.join(".");
    let mut keys = Vec::new();
    collect_keys(defaults, &mut String::new(), &mut keys);
    let distance = |known: &String| {
        let (place, tail) = known.rsplit_once('.').unwrap_or(("", known.as_str()));
        // Either the key stands in the wrong section, or the whole path is misspelt, of which a
        // section that is there says nothing.
        let elsewhere = if place == section { 0.0 } else { 0.1 };
        let key = strsim::normalized_damerau_levenshtein(tail, last) - elsewhere;
        if own.is_some() {
            return key;
        }
        key.max(strsim::normalized_damerau_levenshtein(known, &written))
    };
    keys.into_iter()
        .filter(|known| own.is_none() || !written.starts_with(&format!("{known}.")))
        .map(|known| (distance(&known), known))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(similarity, _)| *similarity > 0.5)
        .map_or_else(
            || match own {
                Some(own) => {
                    let names: Vec<&str> = own.keys().map(String::as_str).collect();
                    format!("remove it; {section} has {}", names.join(", "))
                }
                None => "remove it; config/connector.yaml lists every key".to_owned(),
            },
            |(_, known)| format!("did you mean {known}?"),
        )
}

fn collect_keys(value: &Value, path: &mut String, keys: &mut Vec<String>) {
    let Value::Object(map) = value else { return };
    for (key, value) in map {
        let length = path.len();
        if length > 0 {
            path.push('.');
        }
        path.push_str(key);
        keys.push(path.clone());
        collect_keys(value, path, keys);
        path.truncate(length);
    }
}
