//! What `cargo metadata` says of the workspace's packages.

use std::{collections::BTreeSet, path::Path, process::Command};

use serde_json::Value;

use crate::root;

/// A package of the workspace, with the names of what it depends on.
#[derive(Debug, Clone)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its folder from the repository root.
    pub folder: String,
    /// Folders from the repository root, each ending in `/`, in which its library, programs, tests
    /// and examples begin. Those of tests may lie outside its own folder.
    pub code: BTreeSet<String>,
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
            let targets = package["targets"].as_array().expect("targets is a list");
            Package {
                name: text(&package["name"]),
                folder: folder_of(&package["manifest_path"], &root),
                code: targets
                    .iter()
                    .map(|target| format!("{}/", folder_of(&target["src_path"], &root)))
                    .collect(),
                dependencies: names(package, |kind| kind != Some("dev")),
                dev_dependencies: names(package, |kind| kind == Some("dev")),
            }
        })
        .collect()
}

/// The folder of a file, from the repository root.
fn folder_of(file: &Value, root: &Path) -> String {
    let file = Path::new(file.as_str().expect("a path"));
    let folder = file.parent().expect("a file lies in a folder");
    // Cargo leaves the `..` of a manifest in its paths.
    let folder = folder.canonicalize().expect("cargo lists what exists");
    let folder = folder
        .strip_prefix(root)
        .expect("packages of the workspace lie under its root");
    folder.to_str().expect("names are UTF-8").to_owned()
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
