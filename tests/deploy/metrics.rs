//! The names under which Prometheus finds the connector's metrics, read off the code that makes them.

use std::{collections::BTreeSet, fs};

use aligner_tidy::root;

/// Where the metrics are made.
const SOURCES: [&str; 2] = [
    "connector/pipeline/src/metrics.rs",
    "connector/kafka/src/stats/instruments.rs",
];

/// Words of a text that name metrics, and which the connector does not have.
pub fn unknown(text: &str) -> Vec<&str> {
    let exported = exported();
    assert!(exported.len() > 20, "{exported:?}");
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("aligner_") && !exported.contains(*word))
        .collect()
}

fn exported() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in SOURCES {
        let source = fs::read_to_string(root().join(file)).expect("it has metrics");
        let mut before = "";
        for part in source.split("\"aligner.") {
            let (name, rest) = part.split_once('"').unwrap_or((part, ""));
            // A test that looks at names has no kind.
            if let Some(endings) = endings(before, rest) {
                let name = name.replace('.', "_");
                let unit = unit(rest);
                names.extend(
                    endings
                        .iter()
                        .map(|end| format!("aligner_{name}{unit}{end}")),
                );
            }
            before = part;
        }
    }
    names
}

/// What the exporter appends to a name. The kind stands before it, as in `.u64_counter("…")`, or
/// after it, as in `("…", Counter, …)`.
fn endings(before: &str, after: &str) -> Option<&'static [&'static str]> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let before = before.trim_end().trim_end_matches('(');
    let before = before.rsplit(|c| !is_part(c)).next().unwrap_or_default();
    let after = after.trim_start_matches(|c| !is_part(c));
    let after = after.split(|c| !is_part(c)).next().unwrap_or_default();
    let has = |kind: &str| {
        [before, after]
            .iter()
            .any(|word| word.to_lowercase().ends_with(kind))
    };
    if has("counter") {
        Some(&["_total"])
    } else if has("gauge") {
        Some(&[""])
    } else if has("histogram") {
        Some(&["_bucket", "_sum", "_count"])
    } else {
        None
    }
}

/// What the exporter makes of the unit, which follows the name.
fn unit(after: &str) -> &'static str {
    if after.contains("\"s\"") {
        "_seconds"
    } else if after.contains("\"By\"") {
        "_bytes"
    } else {
        ""
    }
}

#[test]
fn kind_and_unit_are_part_of_a_name() {
    let right = "aligner_kafka_lag aligner_kafka_fenced_total aligner_queue_duration_seconds_sum";
    assert_eq!(unknown(right), [""; 0]);
    let wrong = "aligner_kafka_lag_total aligner_kafka_fenced aligner_queue_duration_sum";
    assert_eq!(unknown(wrong), wrong.split(' ').collect::<Vec<_>>());
}

#[test]
fn the_documented_metrics_are_those_that_the_connector_has() {
    let operations = fs::read_to_string(root().join("docs/operations.md")).expect("it exists");
    let first_cells: Vec<_> = operations
        .lines()
        .skip_while(|line| *line != "## Metrics to watch")
        .skip(1)
        .take_while(|line| !line.starts_with("## "))
        .filter_map(|line| line.strip_prefix("| `aligner_"))
        .filter_map(|line| line.split('|').next())
        .map(|cell| format!("aligner_{cell}"))
        .collect();
    assert!(first_cells.len() > 10, "{first_cells:?}");
    // Of a histogram the table gives what its three series have in common.
    let unknown: Vec<_> = first_cells
        .iter()
        .flat_map(|cell| unknown(cell))
        .filter(|name| !unknown(&format!("{name}_bucket")).is_empty())
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}
