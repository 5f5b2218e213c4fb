//! The manifests: one version and one feature set for each dependency, set at the root, and none
//! that is not used.

use std::fs;

use aligner_tidy::{root, tracked_files, workspace_packages};
use toml::{Table, Value};

fn manifest(path: &str) -> Table {
    let text = fs::read_to_string(root().join(path)).expect("the manifest exists");
    text.parse().expect("the manifest is TOML")
}

fn dependency_tables(manifest: &Table) -> Vec<&Table> {
    let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
    let targets = manifest.get("target").and_then(Value::as_table);
    let scopes = std::iter::once(manifest).chain(
        targets
            .into_iter()
            .flat_map(|table| table.values().filter_map(Value::as_table)),
    );
    scopes
        .flat_map(|scope| kinds.iter().filter_map(|kind| scope.get(*kind)?.as_table()))
        .collect()
}

#[test]
fn versions_and_features_are_set_at_the_root_alone() {
    let mut own = Vec::new();
    for package in workspace_packages() {
        let manifest = manifest(&format!("{}/Cargo.toml", package.folder));
        for (name, entry) in dependency_tables(&manifest).into_iter().flatten() {
            let inherited = entry.get("workspace").and_then(Value::as_bool) == Some(true);
            if !inherited || entry.get("features").is_some() {
                own.push(format!("{}: {name}", package.name));
            }
        }
    }
    assert!(
        own.is_empty(),
        "these are compiled twice, once for each feature set; put version and features into \
         [workspace.dependencies]:\n{}",
        own.join("\n")
    );
}

#[test]
fn every_crate_obeys_the_workspaces_lints() {
    for package in workspace_packages() {
        let manifest = manifest(&format!("{}/Cargo.toml", package.folder));
        let inherited = manifest
            .get("lints")
            .and_then(|lints| lints.get("workspace"));
        assert_eq!(
            inherited,
            Some(&Value::Boolean(true)),
            "[lints] of {}",
            package.name
        );
    }
}

#[test]
fn the_oldest_rust_that_is_promised_is_the_pinned_one() {
    let toolchain = manifest("rust-toolchain.toml");
    let pinned = toolchain["toolchain"]["channel"]
        .as_str()
        .expect("a version");
    let root = manifest("Cargo.toml");
    let promised = root["workspace"]["package"]["rust-version"]
        .as_str()
        .expect("a version");
    assert!(
        pinned.starts_with(promised),
        "{promised} is promised, {pinned} is tested"
    );
}

#[test]
fn every_dependency_of_the_root_is_used() {
    let root = manifest("Cargo.toml");
    let declared = root["workspace"]["dependencies"]
        .as_table()
        .expect("a table");
    let packages = workspace_packages();
    let used = |name: &String| {
        packages.iter().any(|package| {
            package.dependencies.contains(name) || package.dev_dependencies.contains(name)
        })
    };
    let unused: Vec<_> = declared.keys().filter(|name| !used(name)).collect();
    assert!(
        unused.is_empty(),
        "remove from [workspace.dependencies]: {unused:?}"
    );
}

/// Whether a line names a crate where a path begins: elsewhere it is a module of that name.
fn names_crate(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(position, _)| {
        let before = line[..position].chars().next_back().unwrap_or(' ');
        !before.is_alphanumeric() && !matches!(before, '_' | ':')
    })
}

#[test]
fn every_dependency_of_a_crate_is_named_in_its_code() {
    let files = tracked_files();
    let mut unnamed = Vec::new();
    for package in workspace_packages() {
        let code: Vec<_> = files
            .iter()
            .filter(|file| file.path.ends_with(".rs"))
            .filter(|file| package.code.iter().any(|code| file.path.starts_with(code)))
            .flat_map(|file| file.text.lines())
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect();
        let dependencies = package.dependencies.iter();
        for dependency in dependencies.chain(&package.dev_dependencies) {
            let name = dependency.replace('-', "_");
            // What is there for what it links has no path that begins with it.
            let (path, linked) = (format!("{name}::"), format!("use {name} as _;"));
            let names = |line: &&str| names_crate(line, &path) || line.trim() == linked;
            if !code.iter().any(names) {
                unnamed.push(format!("{}: {dependency}", package.name));
            }
        }
    }
    assert!(
        unnamed.is_empty(),
        "compiled and audited for nothing; remove them:\n{}",
        unnamed.join("\n")
    );
}
