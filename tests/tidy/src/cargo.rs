//! What `cargo metadata` says of the workspace's packages.

use std::process::Command;

use serde_json::Value;

use crate::root;

/// A package of the workspace, with the names of what it depends on.
#[derive(Debug, Clone)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its folder from the repository root.
    pub folder: String,
    /// Packages that its library or program needs, optional ones included.
    pub dependencies: Vec<String>,
    /// Packages that its tests and benches need besides.
    pub dev_dependencies: Vec<String>,
}

/// The packages of the workspace, by `cargo metadata --no-deps`, which opens no connection.
///
/// # Panics
/// If Cargo cannot read the workspace.
#[must_use]
pub fn workspace_packages() -> Vec<Package> {
    let root = root();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(&root)
        .output()
        .expect("cargo runs, since it ran this test");
    assert!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let packages = metadata["packages"].as_array().expect("packages is a list");
    packages
        .iter()
        .map(|package| {
            let manifest = package["manifest_path"].as_str().expect("a path");
            let folder = manifest
                .strip_prefix(root.to_str().expect("the root's path is UTF-8"))
                .and_then(|rest| rest.strip_suffix("/Cargo.toml"))
                .expect("packages of the workspace lie under its root");
            Package {
                name: text(&package["name"]),
                folder: folder.trim_start_matches('/').to_owned(),
                dependencies: names(package, |kind| kind != Some("dev")),
                dev_dependencies: names(package, |kind| kind == Some("dev")),
            }
        })
        .collect()
}

fn names(package: &Value, wanted: impl Fn(Option<&str>) -> bool) -> Vec<String> {
    let listed = package["dependencies"]
        .as_array()
        .expect("dependencies is a list");
    listed
        .iter()
        .filter(|dependency| wanted(dependency["kind"].as_str()))
        .map(|dependency| text(&dependency["name"]))
        .collect()
}

fn text(value: &Value) -> String {
    value.as_str().expect("names are strings").to_owned()
}
