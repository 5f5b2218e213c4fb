//! `telemetry`: where spans go, and which lines are logged.
//!
//! A filter is judged word by word, because `tracing` takes every word that is no level for the
//! name of a target: `warning` would log what a crate of that name says, and no errors of ours.

use super::{Found, Settings};

/// What may be logged, the least first; `off` is nothing.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Our crates that log. A target stands for all that begin with it, so that `aligner` is everyone.
const TARGETS: [&str; 6] = [
    "aligner",
    "aligner_engine",
    "aligner_kafka",
    "aligner_pipeline",
    "aligner_remote",
    "aligner_service",
];

/// What the exporter reads by itself.
const INSTEAD: &str =
    "set the variable OTEL_EXPORTER_OTLP_HEADERS, such as Authorization=Basic%20…";

/// Where a collector takes spans, below its base URL.
const PATH_OF_SPANS: &str = "/v1/traces";

/// For those of whom nobody knows what they meant.
const EXAMPLE: &str = "write for example info, or info,aligner_kafka=debug";

impl Found {
    pub(super) fn telemetry(&mut self, settings: &Settings) {
        if let Some(endpoint) = &settings.telemetry.otlp_endpoint
            && let Some(fault) = aligner_http::base_url_fault(endpoint, INSTEAD)
        {
            // Not repeated: it may hold a password.
            self.add(
                "telemetry.otlp_endpoint",
                None,
                fault,
                "write for example http://collector:4318",
            );
        } else if let Some(endpoint) = &settings.telemetry.otlp_endpoint
            && let Some(base) = endpoint.trim_end_matches('/').strip_suffix(PATH_OF_SPANS)
        {
            self.add(
                "telemetry.otlp_endpoint",
                format!("{endpoint:?}"),
                format!("{PATH_OF_SPANS} is added to it, and would be there twice"),
                format!("write {base}"),
            );
        }
        let filter = &settings.telemetry.log_level;
        for Fault { message, fix } in faults(filter) {
            self.add("telemetry.log_level", format!("{filter:?}"), message, fix);
        }
    }
}

/// What is wrong with a filter, and what to write instead.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    message: String,
    fix: String,
}

/// Every fault of a filter such as `info,aligner_kafka=debug`.
fn faults(filter: &str) -> Vec<Fault> {
    let mut found: Vec<_> = filter.split(',').filter_map(fault).collect();
    if found.is_empty() && filter.split(',').all(|word| word.contains('=')) {
        found.push(Fault {
            message: "no level is given for the rest, whose errors would not be logged".to_owned(),
            fix: format!("write info,{filter}"),
        });
    }
    found
}

/// What is wrong with one word of it, `LEVEL` or `TARGET=LEVEL`.
fn fault(word: &str) -> Option<Fault> {
    let bare = word.trim();
    if bare != word && !bare.is_empty() {
        return Some(Fault {
            message: format!("{word:?} has a space at its edge, which would belong to a name"),
            fix: format!("write {bare}, without the space"),
        });
    }
    match word.split_once('=') {
        None => level_fault(None, word),
        Some((target, level)) => {
            target_fault(target, level).or_else(|| level_fault(Some(target), level))
        }
    }
}

fn level_fault(target: Option<&str>, level: &str) -> Option<Fault> {
    if LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level)) {
        return None;
    }
    let written = level.to_lowercase();
    let nearest = nearest(&written, &LEVELS, strsim::jaro_winkler);
    Some(Fault {
        message: format!(
            "{level:?} is no level: those are error, warn, info, debug, trace, and off, which logs \
             nothing"
        ),
        fix: match (target, nearest) {
            (None, Some(nearest)) => format!("write {nearest}"),
            (Some(target), Some(nearest)) => format!("write {target}={nearest}"),
            (None, None) if TARGETS.contains(&level) => format!("write info,{level}=debug"),
            _ => EXAMPLE.to_owned(),
        },
    })
}

/// Other people's crates are not known by name; what looks like one of ours must be one.
fn target_fault(target: &str, level: &str) -> Option<Fault> {
    let possible = |c: char| c.is_ascii_alphanumeric() || "_-:./".contains(c);
    if target.is_empty() || !target.chars().all(possible) {
        return Some(Fault {
            message: format!("{target:?} is no target, which is the path of a module"),
            fix: EXAMPLE.to_owned(),
        });
    }
    let crate_name = target.split("::").next().unwrap_or(target);
    if TARGETS.contains(&crate_name) {
        return None;
    }
    let whole = format!("aligner_{crate_name}");
    let nearest = if TARGETS.contains(&whole.as_str()) {
        Some(whole.as_str())
    } else {
        nearest(crate_name, &TARGETS, strsim::normalized_damerau_levenshtein)
    };
    if nearest.is_none() && !crate_name.starts_with("aligner") {
        return None;
    }
    Some(Fault {
        message: format!(
            "{crate_name:?} is none of our crates that log: {}, or aligner for all of them",
            TARGETS[1..].join(", ")
        ),
        fix: nearest.map_or_else(
            || EXAMPLE.to_owned(),
            |nearest| format!("write {}={level}", target.replacen(crate_name, nearest, 1)),
        ),
    })
}

/// The known word that `written` most likely stands for.
fn nearest<'a>(
    written: &str,
    known: &[&'a str],
    similarity: fn(&str, &str) -> f64,
) -> Option<&'a str> {
    known
        .iter()
        .map(|known| (similarity(written, known), *known))
        .filter(|(similarity, _)| *similarity > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use tracing_subscriber::filter::Targets;

    use super::*;
    use crate::config::check::check;

    #[test]
    fn an_endpoint_is_a_url_that_spans_can_be_sent_to_and_is_not_repeated_otherwise() {
        let mut settings = Settings::default();
        for endpoint in [
            "http://collector:4318",
            "https://host/otlp/",
            "http://[::1]:4318",
        ] {
            settings.telemetry.otlp_endpoint = Some(endpoint.to_owned());
            assert_eq!(check(&settings), [], "{endpoint}");
        }
        for endpoint in [
            "collector:4318",
            "http://",
            "http://ada:hunter2@collector:4318",
            "http://collector:hunter2",
            "http://collector:4318/?token=hunter2",
            "http://collector:4318/#hunter2",
        ] {
            settings.telemetry.otlp_endpoint = Some(endpoint.to_owned());
            let problems = check(&settings);
            assert_eq!(problems.len(), 1, "{endpoint}: {problems:?}");
            assert_eq!(problems[0].key, "telemetry.otlp_endpoint");
            assert!(!format!("{problems:?}").contains("hunter2"), "{problems:?}");
        }
    }

    fn fix(filter: &str) -> String {
        let found = faults(filter);
        assert_eq!(found.len(), 1, "{filter}: {found:?}");
        found[0].fix.clone()
    }

    #[test]
    fn levels_and_filters_of_ours_and_of_others_are_taken() {
        for filter in [
            "info",
            "WARN",
            "off",
            "info,aligner_kafka=debug",
            "aligner_kafka::consumer_thread=trace,error",
            "warn,aligner=debug",
            "info,hyper_util=debug,opentelemetry-otlp=off",
        ] {
            assert_eq!(faults(filter), [], "{filter}");
            filter.parse::<Targets>().expect("tracing takes it, too");
        }
    }

    #[test]
    fn a_word_that_is_no_level_is_refused_with_the_nearest_one() {
        for (written, meant) in [
            ("warning", "warn"),
            ("WARNING", "warn"),
            ("err", "error"),
            ("information", "info"),
            ("tracing", "trace"),
        ] {
            assert_eq!(fix(written), format!("write {meant}"));
            assert_eq!(
                fix(&format!("info,aligner_kafka={written}")),
                format!("write aligner_kafka={meant}")
            );
        }
        for unlike in ["", "loud", "  ", "3"] {
            assert_eq!(fix(unlike), EXAMPLE);
        }
        assert_eq!(fix("info,"), EXAMPLE);
        assert_eq!(fix("aligner_kafka"), "write info,aligner_kafka=debug");
        assert!(faults("loud")[0].message.contains("warn"));
    }

    #[test]
    fn a_target_that_looks_like_ours_must_be_ours() {
        for (written, meant) in [
            ("aligner_kafak", "aligner_kafka"),
            ("alinger_kafka::sink", "aligner_kafka::sink"),
            ("aligner-pipeline", "aligner_pipeline"),
            ("kafka", "aligner_kafka"),
        ] {
            assert_eq!(
                fix(&format!("info,{written}=debug")),
                format!("write {meant}=debug")
            );
        }
        assert_eq!(fix("info,aligner_connector=debug"), EXAMPLE);
        assert_eq!(fix("info,aligner_kafka[{topic}]=debug"), EXAMPLE);
        assert_eq!(fix("info,=debug"), EXAMPLE);
    }

    #[test]
    fn a_filter_that_would_hide_the_errors_of_the_rest_is_refused() {
        assert_eq!(fix("aligner_kafka=debug"), "write info,aligner_kafka=debug");
        assert_eq!(
            fix("info, aligner_kafka=debug"),
            "write aligner_kafka=debug, without the space"
        );
    }

    #[test]
    fn every_fault_of_a_filter_is_told() {
        assert_eq!(faults("warning,aligner_kafak=debug,hyper=loud").len(), 3);
    }

    #[test]
    fn our_targets_are_the_crates_that_log() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut log: Vec<_> = fs::read_dir(crates)
            .expect("the folder of crates is there")
            .flatten()
            .filter(|entry| {
                fs::read_to_string(entry.path().join("Cargo.toml")).is_ok_and(|manifest| {
                    manifest
                        .lines()
                        .any(|line| line.starts_with("tracing.workspace"))
                })
            })
            .map(|entry| format!("aligner_{}", entry.file_name().display()))
            .collect();
        log.sort();
        assert_eq!(log, TARGETS[1..]);
    }
}
