//! The notices that go along with the connector: that they are complete.

use std::{collections::BTreeSet, fs, sync::LazyLock};

use aligner_tidy::{cargo, linked_crates, root, third_party, workspace_packages};

/// Made once: it takes Cargo half a second.
static NOTICES: LazyLock<String> = LazyLock::new(|| {
    let apache = fs::read_to_string(root().join("LICENSE")).expect("it exists");
    third_party(&linked_crates("aligner-service", &[]), &apache)
        .unwrap_or_else(|error| panic!("{error}"))
});

#[test]
fn every_crate_that_the_connector_is_linked_with_has_a_licence_text() {
    let own: BTreeSet<_> = workspace_packages()
        .into_iter()
        .map(|package| package.name)
        .collect();
    let tree = cargo(&[
        "tree",
        "--locked",
        "--package",
        "aligner-service",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]);
    let linked: BTreeSet<_> = tree
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
            (!own.contains(name)).then(|| format!("{name} {version}"))
        })
        .collect();
    assert!(linked.len() > 100, "cargo tree lists them: {linked:?}");
    let lines: Vec<_> = NOTICES.lines().collect();
    let missing: Vec<_> = linked
        .iter()
        .filter(|one| {
            let listed = lines
                .iter()
                .any(|line| line.starts_with(&format!("{one}  ")));
            let texts = lines
                .iter()
                .any(|line| line.starts_with(&format!("{one}, ")));
            !listed || !texts
        })
        .collect();
    assert!(missing.is_empty(), "not in the notices: {missing:?}");
}

#[test]
fn c_libraries_that_are_compiled_in_are_among_the_notices() {
    for (library, words) in [
        ("librdkafka", "librdkafka - Apache Kafka C driver library"),
        ("LZ4, in librdkafka", "LZ4 Library"),
        ("tinycthread, in librdkafka", "Marcus Geelnard"),
        ("mimalloc", "Microsoft Corporation, Daan Leijen"),
        ("zlib", "Jean-loup Gailly and Mark Adler"),
        ("zstd", "Meta Platforms, Inc. and affiliates"),
    ] {
        assert!(NOTICES.contains(words), "{library}: {words:?}");
    }
}

#[test]
fn the_notices_hold_no_licence_that_the_policy_refuses() {
    // zstd comes with the text of the GPL, which is the other choice there.
    let notices = NOTICES.to_uppercase();
    for refused in [
        "GNU GENERAL PUBLIC LICENSE",
        "GNU LESSER GENERAL PUBLIC LICENSE",
        "MOZILLA PUBLIC LICENSE",
    ] {
        assert!(!notices.contains(refused), "{refused}");
    }
}

#[test]
fn a_notice_of_apache_is_passed_on() {
    // Apache-2.0 asks for it in section 4 (d).
    assert!(NOTICES.contains("This product includes software developed at\nThe Apache Software"));
}
