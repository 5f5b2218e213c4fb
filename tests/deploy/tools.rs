//! Runs the tools, each found once.

use std::{
    collections::HashMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::LazyLock,
};

use aligner_tidy::root;
use serde_json::Value;
use tempfile::NamedTempFile;

/// Kubernetes versions whose API the rendered objects must fit: the oldest that the chart takes,
/// and the newest whose schemas are at hand.
const KUBERNETES: [&str; 2] = ["1.28", "1.37"];

static TOOLS: LazyLock<HashMap<String, PathBuf>> = LazyLock::new(|| {
    let found = Command::new(here("tools.sh"))
        .output()
        .expect("tools.sh is executable");
    assert!(found.status.success(), "tools.sh: {}", text(&found.stderr));
    text(&found.stdout)
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, path)| (name.to_owned(), PathBuf::from(path)))
        .collect()
});

/// A file beside this one.
pub fn here(name: &str) -> PathBuf {
    root().join("tests/deploy").join(name)
}

/// The chart's folder.
pub fn chart() -> PathBuf {
    root().join("helm/aligner-connector")
}

/// A command that runs a tool of `tools.sh`.
pub fn tool(name: &str) -> Command {
    let path = TOOLS.get(name).expect("tools.sh names every tool");
    if path.extension().is_some_and(|extension| extension == "py") {
        return script(path);
    }
    Command::new(path)
}

fn script(path: &Path) -> Command {
    let mut command = tool("python");
    command.arg(path);
    command
}

/// Names and contents of the value sets in the chart's folder `ci`.
pub fn value_sets() -> Vec<(String, PathBuf)> {
    let mut sets: Vec<_> = fs::read_dir(chart().join("ci"))
        .expect("the chart has value sets")
        .map(|entry| entry.expect("its folder can be read").path())
        .map(|path| {
            (
                path.file_stem()
                    .expect("a name")
                    .to_string_lossy()
                    .into_owned(),
                path,
            )
        })
        .collect();
    sets.sort();
    sets
}

/// Writes values to a file; JSON is YAML.
pub fn values(values: &Value) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a temporary file can be made");
    write!(file, "{values}").expect("a temporary file can be written");
    file
}

/// `helm lint --strict`.
pub fn lint(values: &Path) -> Output {
    tool("helm")
        .args(["lint", "--strict", "--values"])
        .args([values, &chart()])
        .output()
        .expect("helm runs")
}

/// `helm template`: the manifests, or what Helm says against it.
pub fn template(values: &Path) -> Result<String, String> {
    template_of("prod", values)
}

/// The same for a release of this name.
pub fn template_of(release: &str, values: &Path) -> Result<String, String> {
    template_in("ml", release, values)
}

/// The same for a release in this namespace.
pub fn template_in(namespace: &str, release: &str, values: &Path) -> Result<String, String> {
    template_with(&chart(), namespace, release, values)
}

/// The same for a chart that has ours in its folder `charts`.
pub fn template_parent(parent: &Path, values: &Path) -> Result<String, String> {
    template_with(parent, "ml", "prod", values)
}

fn template_with(
    chart: &Path,
    namespace: &str,
    release: &str,
    values: &Path,
) -> Result<String, String> {
    let output = tool("helm")
        .args(["template", release])
        .arg(chart)
        .args(["--namespace", namespace, "--values"])
        .arg(values)
        .output()
        .expect("helm runs");
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    }
}

/// What an installation with these values tells its user. By helm.py in any case: helm shows notes
/// only where it can reach a cluster.
pub fn notes(given: &Value) -> String {
    let output = script(&here("helm.py"))
        .args(["template", "prod"])
        .arg(chart())
        .args(["--notes", "--namespace", "ml", "--values"])
        .arg(values(given).path())
        .output()
        .expect("python runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// The rendered objects, each checked against the schemas of the Kubernetes API.
pub fn objects(values: &Path) -> Vec<Value> {
    let manifests = template(values).expect("the values render");
    let mut checking = script(&here("objects.py"))
        .args(KUBERNETES)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python runs");
    let mut stdin = checking.stdin.take().expect("stdin is piped");
    stdin
        .write_all(manifests.as_bytes())
        .expect("the checker reads all of it");
    drop(stdin);
    let output = checking.wait_with_output().expect("the checker ends");
    assert!(
        output.status.success(),
        "{}\n{manifests}",
        text(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("the checker prints JSON")
}

/// The objects that these values render.
pub fn rendered(given: &Value) -> Vec<Value> {
    objects(values(given).path())
}

/// What the StatefulSet says of its pods.
pub fn pod(objects: &[Value]) -> &Value {
    &only(objects, "StatefulSet")["spec"]["template"]["spec"]
}

/// The connector's container.
pub fn container(objects: &[Value]) -> &Value {
    &pod(objects)["containers"][0]
}

/// The item of a list that has this name.
pub fn item<'a>(list: &'a Value, name: &str) -> Option<&'a Value> {
    list.as_array()?.iter().find(|item| item["name"] == name)
}

/// The one object of a kind.
pub fn only<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    let first = found
        .next()
        .unwrap_or_else(|| panic!("no {kind} was rendered"));
    assert!(found.next().is_none(), "more than one {kind} was rendered");
    first
}

/// What a tool printed.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
