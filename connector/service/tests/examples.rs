//! The examples in `config/` say the truth.

use std::path::{Path, PathBuf};

use aligner_service::config::{Layers, Problems, Settings, read};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config")
}

fn problems(file: &Path) -> Vec<String> {
    let layers = Layers {
        file: Some(file.to_owned()),
        ..Layers::default()
    };
    match read(&layers) {
        Ok(_) => Vec::new(),
        Err(Problems(problems)) => problems.into_iter().map(|problem| problem.key).collect(),
    }
}

#[test]
fn the_commented_example_holds_every_key_with_its_default() {
    let written = config::Config::builder()
        .add_source(config::File::from(folder().join("connector.yaml")))
        .build()
        .and_then(config::Config::try_deserialize::<serde_json::Value>)
        .expect("the example is YAML");
    let defaults = serde_json::to_value(Settings::default()).expect("settings serialise");
    assert_eq!(written, defaults);
}

#[test]
fn every_example_is_valid_but_for_the_secrets_of_other_machines() {
    let mut examples = 0;
    for entry in std::fs::read_dir(folder()).expect("the folder is there") {
        let path = entry.expect("readable").path();
        if !path
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "toml")
        {
            continue;
        }
        examples += 1;
        let secured = path.file_stem().is_some_and(|stem| stem == "secured");
        // It names a mounted secret, as it should.
        let expected: &[&str] = if secured {
            &["kafka.property_files.sasl.password"]
        } else {
            &[]
        };
        assert_eq!(problems(&path), expected, "{}", path.display());
    }
    assert!(examples >= 6, "{examples} examples");
}
