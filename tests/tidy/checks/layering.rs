//! Which crate may name what, so that the pipeline compiles without models and without Kafka, the
//! engine without Kafka, and a mistaken setting can only come from one place.

use aligner_tidy::{Package, SourceFile, tracked_files, workspace_packages};

/// A dependency and the only crates that may have it.
struct Reserved {
    dependency: fn(&str) -> bool,
    what: &'static str,
    to: &'static [&'static str],
    /// Whether the tests of the other crates do without it too.
    in_tests: bool,
}

const RESERVED: [Reserved; 4] = [
    Reserved {
        dependency: |name| name.starts_with("rdkafka"),
        what: "librdkafka",
        to: &["aligner-kafka", "aligner-librdkafka-patch", "aligner-tests"],
        in_tests: true,
    },
    Reserved {
        dependency: |name| name.starts_with("candle"),
        what: "candle",
        to: &["aligner-engine", "aligner-training"],
        in_tests: true,
    },
    Reserved {
        dependency: |name| {
            matches!(
                name,
                "opentelemetry_sdk" | "tracing-subscriber" | "tracing-opentelemetry"
            ) || (name.starts_with("opentelemetry-")
                && name != "opentelemetry-semantic-conventions")
        },
        what: "the telemetry SDK: others use its API",
        to: &["aligner-service"],
        in_tests: false,
    },
    Reserved {
        dependency: |name| name == "config",
        what: "configuration files",
        to: &["aligner-service"],
        in_tests: true,
    },
];

/// Crates and what they are kept free of.
const FREE_OF: [(&str, &str, &[&str]); 7] = [
    (
        "aligner-records",
        "async and I/O",
        &["tokio", "futures", "async-trait", "reqwest", "axum"],
    ),
    (
        "aligner",
        "I/O",
        &["tokio", "reqwest", "axum", "safetensors", "tokenizers"],
    ),
    (
        "aligner-pipeline",
        "Kafka and models",
        &[
            "aligner-kafka",
            "aligner-engine",
            "aligner-remote",
            "aligner-registry",
            "reqwest",
        ],
    ),
    (
        "aligner-kafka",
        "what records mean, and where access tokens come from",
        &[
            "aligner-records",
            "aligner",
            "aligner-oidc",
            "apache-avro",
            "reqwest",
        ],
    ),
    (
        "aligner-oidc",
        "Kafka",
        &["aligner-kafka", "aligner-pipeline"],
    ),
    (
        "aligner-remote",
        "Kafka",
        &["aligner-kafka", "aligner-pipeline"],
    ),
    (
        "aligner-evaluation",
        "how an Aligner works",
        &[
            "aligner-engine",
            "aligner-remote",
            "aligner-tokens",
            "aligner-training",
            "candle-core",
            "tokenizers",
        ],
    ),
];

/// Parts of paths that read the environment.
const ENVIRONMENT: [&str; 4] = ["env::var(", "env::var_os(", "env::vars(", "env::vars_os("];

/// Parts of paths that touch files or the network.
const INPUT_OUTPUT: [&str; 6] = [
    "std::fs",
    "std::net",
    "fs::read",
    "fs::write",
    "File::open",
    "async fn",
];

fn all_dependencies(package: &Package) -> impl Iterator<Item = &String> {
    package.dependencies.iter().chain(&package.dev_dependencies)
}

#[test]
fn reserved_dependencies_stay_in_their_crates() {
    let mut trespassers = Vec::new();
    for package in workspace_packages() {
        for rule in &RESERVED {
            if rule.to.contains(&package.name.as_str()) {
                continue;
            }
            let of_tests = package.dev_dependencies.iter().filter(|_| rule.in_tests);
            let all = package.dependencies.iter().chain(of_tests);
            for dependency in all.filter(|name| (rule.dependency)(name)) {
                trespassers.push(format!(
                    "{} depends on {dependency} ({}); only {} may",
                    package.name,
                    rule.what,
                    rule.to.join(", ")
                ));
            }
        }
    }
    assert!(trespassers.is_empty(), "{}", trespassers.join("\n"));
}

#[test]
fn the_inner_crates_are_free_of_what_surrounds_them() {
    let packages = workspace_packages();
    for (name, of, dependencies) in FREE_OF {
        let package = packages
            .iter()
            .find(|package| package.name == name)
            .expect("it exists");
        for dependency in &package.dependencies {
            assert!(
                !dependencies.contains(&dependency.as_str()),
                "{name} is free of {of}, and depends on {dependency}"
            );
        }
    }
}

#[test]
fn the_product_does_not_depend_on_its_tests() {
    for package in workspace_packages() {
        if package.folder.starts_with("connector/") {
            for dependency in all_dependencies(&package) {
                assert!(
                    !matches!(dependency.as_str(), "aligner-tests" | "aligner-tidy"),
                    "{} depends on {dependency}",
                    package.name
                );
            }
        }
    }
}

/// Where the tests at the end of a file begin. An item that only tests compile may stand anywhere.
const TESTS: &str = "\n#[cfg(test)]\nmod tests {\n";

/// Code of a file: without comments, and without the tests at its end.
fn code(file: &SourceFile) -> impl Iterator<Item = (usize, &str)> {
    let end = file.text.find(TESTS).unwrap_or(file.text.len());
    file.text[..end]
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[test]
fn code_behind_an_item_for_tests_is_looked_at_and_tests_are_not() {
    let file = SourceFile {
        path: String::new(),
        text: format!("#[cfg(test)]\nmod double;\nmod real; // read\n// said\n{TESTS}left out"),
    };
    let seen: Vec<_> = code(&file).collect();
    assert_eq!(
        seen,
        [
            (1, "#[cfg(test)]"),
            (2, "mod double;"),
            (3, "mod real; // read"),
        ]
    );
}

fn mentions(folder: &str, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for file in tracked_files() {
        if !file.path.starts_with(folder)
            || !file.path.ends_with(".rs")
            // A file of tests of its own, as `mod tests;` names it.
            || file.path.ends_with("/tests.rs")
        {
            continue;
        }
        for (line, text) in code(&file) {
            for word in words {
                if text.contains(word) {
                    found.push(format!("{}:{line}: {word}", file.path));
                }
            }
        }
    }
    found
}

#[test]
fn only_the_service_reads_the_environment() {
    let readers: Vec<_> = workspace_packages()
        .into_iter()
        .filter(|package| package.folder.starts_with("connector/"))
        .filter(|package| package.name != "aligner-service")
        .flat_map(|package| mentions(&format!("{}/src/", package.folder), &ENVIRONMENT))
        .collect();
    assert!(
        readers.is_empty(),
        "pass the value in instead:\n{}",
        readers.join("\n")
    );
}

#[test]
fn records_do_neither_async_nor_io() {
    let found = mentions("connector/records/src/", &INPUT_OUTPUT);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_aligner_contract_does_no_io() {
    let found = mentions("connector/aligner/src/", &INPUT_OUTPUT[..5]);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn what_a_checkpoint_says_is_read_without_io() {
    let found = mentions("connector/checkpoint/src/", &INPUT_OUTPUT);
    assert!(found.is_empty(), "{}", found.join("\n"));
}
