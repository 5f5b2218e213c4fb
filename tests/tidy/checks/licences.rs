//! The licences of everything that is linked, against the list in `deny.toml`.
//!
//! `cargo deny` does the same and more, where it is installed. This much runs everywhere.

use std::{collections::BTreeSet, fs};

use aligner_tidy::{cargo, host, root};
use serde_json::Value;

fn allowed() -> BTreeSet<String> {
    let policy = fs::read_to_string(root().join("deny.toml")).expect("deny.toml exists");
    let policy: toml::Table = policy.parse().expect("deny.toml is TOML");
    let list = policy["licenses"]["allow"].as_array().expect("a list");
    list.iter()
        .filter_map(|licence| licence.as_str().map(str::to_owned))
        .collect()
}

#[test]
fn every_dependency_has_a_licence_that_the_policy_allows() {
    let arguments = [
        "metadata",
        "--format-version",
        "1",
        "--filter-platform",
        &host(),
    ];
    let metadata: Value = serde_json::from_str(&cargo(&arguments)).expect("cargo prints JSON");
    let linked: BTreeSet<_> = metadata["resolve"]["nodes"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|node| node["id"].as_str())
        .collect();
    let allowed = allowed();
    let mut refused = Vec::new();
    for package in metadata["packages"].as_array().expect("a list") {
        if !linked.contains(&package["id"].as_str()) {
            continue;
        }
        let licence = package["license"].as_str().unwrap_or("none");
        if !satisfied(licence, &|name| allowed.contains(name)) {
            refused.push(format!("{}: {licence}", package["name"]));
        }
    }
    assert!(
        refused.is_empty(),
        "not allowed by deny.toml:\n{}",
        refused.join("\n")
    );
}

/// Whether an SPDX expression can be met: a choice by one side, a sum by both. An old-style slash
/// is a choice.
fn satisfied(expression: &str, allowed: &dyn Fn(&str) -> bool) -> bool {
    let expression = expression.trim().replace('/', " OR ");
    split(&expression, " OR ").iter().any(|choice| {
        split(choice, " AND ").iter().all(|part| {
            let part = part.trim();
            match part
                .strip_prefix('(')
                .and_then(|inner| inner.strip_suffix(')'))
            {
                Some(inner) => satisfied(inner, allowed),
                None => allowed(part),
            }
        })
    })
}

/// Splits outside parentheses.
fn split<'a>(expression: &'a str, operator: &str) -> Vec<&'a str> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (position, character) in expression.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0
                && position >= start
                && expression[position..].starts_with(operator) =>
            {
                parts.push(&expression[start..position]);
                start = position + operator.len();
            }
            _ => {}
        }
    }
    parts.push(&expression[start..]);
    parts
}

#[test]
fn licence_expressions_are_read_as_spdx_means_them() {
    let allowed = |name: &str| matches!(name, "MIT" | "BSD-3-Clause");
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("GPL-3.0 AND MIT", false),
        ("MIT AND BSD-3-Clause", true),
        ("(GPL-3.0 OR MIT) AND BSD-3-Clause", true),
        ("(GPL-3.0 AND MIT) OR Zlib", false),
        ("none", false),
    ] {
        assert_eq!(satisfied(expression, &allowed), expected, "{expression}");
    }
}
