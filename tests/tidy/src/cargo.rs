//! What Cargo says of the workspace's packages, and of the crates that they are linked with.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

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

/// A crate of somebody else that a program of the workspace is linked with.
#[derive(Debug, Clone)]
pub struct Crate {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The SPDX expression of its manifest, or nothing.
    pub licence: String,
    /// Where its manifest says that it is developed, or nothing.
    pub repository: String,
    /// The folder into which Cargo unpacked it.
    pub folder: PathBuf,
}

/// What `cargo` prints, called with these arguments at the repository root.
///
/// # Panics
/// If it fails, with what it wrote to stderr.
#[must_use]
pub fn cargo(arguments: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("cargo runs: it ran this test, or built this program");
    assert!(
        output.status.success(),
        "cargo {}: {}",
        arguments[0],
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("cargo prints text")
}

/// The target that Cargo compiles for where none is given.
///
/// # Panics
/// If Cargo does not run.
#[must_use]
pub fn host() -> String {
    let version = cargo(&["-vV"]);
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.expect("cargo names its host").to_owned()
}

/// The crates from outside of the workspace that a package is linked with on this platform, by name
/// and version: as `cargo tree --edges normal` has them, procedural macros included, whose
/// templates end up in the program. The features are the workspace's, and those that are given.
///
/// # Panics
/// If Cargo cannot resolve the workspace, or has no such package.
#[must_use]
pub fn linked_crates(package: &str, features: &[&str]) -> Vec<Crate> {
    let features = features.join(",");
    let listed = cargo(&[
        "metadata",
        "--locked",
        "--format-version",
        "1",
        "--filter-platform",
        &host(),
        "--features",
        &features,
    ]);
    let metadata: Value = serde_json::from_str(&listed).expect("cargo prints JSON");
    let list = |value: &Value| value.as_array().expect("a list").clone();
    let packages: BTreeMap<_, _> = list(&metadata["packages"])
        .into_iter()
        .map(|package| (text(&package["id"]), package))
        .collect();
    let nodes: BTreeMap<_, _> = list(&metadata["resolve"]["nodes"])
        .into_iter()
        .map(|node| (text(&node["id"]), list(&node["deps"])))
        .collect();
    let start = list(&metadata["workspace_members"])
        .iter()
        .map(text)
        .find(|id| packages[id]["name"] == package)
        .expect("the package is one of the workspace");
    let mut reached = BTreeSet::from([start.clone()]);
    let mut open = vec![start];
    while let Some(id) = open.pop() {
        for dependency in &nodes[&id] {
            let kinds = list(&dependency["dep_kinds"]);
            let next = text(&dependency["pkg"]);
            if kinds.iter().any(|kind| kind["kind"].is_null()) && reached.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    let mut crates: Vec<_> = reached
        .iter()
        .map(|id| &packages[id])
        .filter(|package| !package["source"].is_null())
        .map(|package| Crate {
            name: text(&package["name"]),
            version: text(&package["version"]),
            licence: package["license"].as_str().unwrap_or_default().to_owned(),
            repository: package["repository"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            folder: Path::new(&text(&package["manifest_path"]))
                .parent()
                .expect("a manifest lies in a folder")
                .to_owned(),
        })
        .collect();
    crates.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    crates
}

/// The packages of the workspace, by `cargo metadata --no-deps`, which opens no connection.
///
/// # Panics
/// If Cargo cannot read the workspace.
#[must_use]
pub fn workspace_packages() -> Vec<Package> {
    let root = root();
    let listed = cargo(&[
        "metadata",
        "--no-deps",
        "--offline",
        "--format-version",
        "1",
    ]);
    let metadata: Value = serde_json::from_str(&listed).expect("cargo prints JSON");
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
    value
        .as_str()
        .expect("names and ids are strings")
        .to_owned()
}
