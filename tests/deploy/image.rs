//! The Dockerfile. No container is built here: that takes a container engine and a registry.

use std::fs;

use aligner_tidy::root;

use crate::tools::{text, tool};

fn dockerfile() -> String {
    fs::read_to_string(root().join("Dockerfile")).expect("the Dockerfile exists")
}

#[test]
fn the_dockerfile_passes_its_linter() {
    let output = tool("hadolint")
        .arg(root().join("Dockerfile"))
        .output()
        .expect("hadolint runs");
    assert!(
        output.status.success(),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
}

#[test]
fn the_image_is_built_by_the_pinned_toolchain() {
    let toolchain = fs::read_to_string(root().join("rust-toolchain.toml")).expect("it exists");
    let toolchain: toml::Table = toolchain.parse().expect("it is TOML");
    let pinned = toolchain["toolchain"]["channel"]
        .as_str()
        .expect("a version");
    let dockerfile = dockerfile();
    assert!(
        dockerfile.contains(&format!("FROM rust:{pinned}-")),
        "{pinned} in FROM"
    );
    assert!(
        dockerfile.contains(&format!("RUSTUP_TOOLCHAIN={pinned}\n")),
        "{pinned} in ENV"
    );
}

#[test]
fn the_image_runs_as_the_user_that_the_chart_expects() {
    let values = fs::read_to_string(root().join("helm/aligner-connector/values.yaml"))
        .expect("the chart has values");
    let dockerfile = dockerfile();
    let user = dockerfile
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("USER "))
        .expect("the image names its user");
    let (user, group) = user.split_once(':').expect("user:group");
    assert_ne!(user, "0");
    assert!(values.contains(&format!("  runAsUser: {user}\n")));
    assert!(values.contains(&format!("  runAsGroup: {group}\n")));
}

#[test]
fn the_image_holds_the_licences_of_what_is_linked_into_its_binary() {
    let dockerfile = dockerfile();
    assert!(dockerfile.contains(" target/release/aligner-notices /out/doc\n"));
    assert!(dockerfile.contains("\nCOPY --from=build /out/doc /usr/share/doc/aligner-connector\n"));
}

#[test]
fn the_image_keeps_models_in_a_folder_of_its_user_where_the_chart_mounts_their_volume() {
    let values = fs::read_to_string(root().join("helm/aligner-connector/values.yaml"))
        .expect("the chart has values");
    let dockerfile = dockerfile();
    let line = |start: &str| {
        dockerfile
            .lines()
            .find_map(|line| line.strip_prefix(start))
            .unwrap_or_else(|| panic!("no line begins with {start}"))
    };
    let folder = line("ENV HF_HOME=");
    let (user, group) = line("USER ").split_once(':').expect("user:group");
    assert!(dockerfile.contains(&format!("install -d -o {user} -g {group} {folder}\n")));
    assert!(values.contains(&format!("  mountPath: {folder}\n")));
}
