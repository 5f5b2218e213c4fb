//! Whether documents agree with what they describe.

use std::{collections::BTreeSet, fs, path::Path};

use aligner_tidy::{root, tracked_files, workspace_packages};

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Rows of the table of crates in the architecture: folder, and the crates it uses.
fn documented_crates() -> Vec<(String, BTreeSet<String>)> {
    read("docs/architecture.md")
        .lines()
        .skip_while(|line| *line != "## The crates")
        .skip(1)
        .take_while(|line| !line.starts_with("## "))
        .filter_map(|line| {
            let cells: Vec<_> = line
                .strip_prefix("| `")?
                .split('|')
                .map(str::trim)
                .collect();
            let folder = cells[0].strip_suffix('`')?;
            let is_folder = folder.starts_with("connector/") || folder.starts_with("tests");
            let uses = cells.get(2).filter(|_| is_folder)?;
            let uses = uses.split(',').map(|name| name.trim().trim_matches('`'));
            let uses = uses
                .filter(|name| !name.is_empty() && *name != "–")
                .map(str::to_owned);
            Some((folder.to_owned(), uses.collect()))
        })
        .collect()
}

#[test]
fn the_architecture_names_every_crate_and_what_it_uses() {
    let documented = documented_crates();
    let packages = workspace_packages();
    let folder_of = |name: &str| {
        let package = packages.iter().find(|package| package.name == name)?;
        Some(package.folder.trim_start_matches("connector/").to_owned())
    };
    let mut differences = Vec::new();
    for package in &packages {
        let Some((_, uses)) = documented
            .iter()
            .find(|(folder, _)| *folder == package.folder)
        else {
            differences.push(format!("{} has no row", package.folder));
            continue;
        };
        let actual: BTreeSet<_> = package
            .dependencies
            .iter()
            .filter_map(|name| folder_of(name))
            .collect();
        if *uses != actual {
            differences.push(format!(
                "{} uses {actual:?}, its row says {uses:?}",
                package.folder
            ));
        }
    }
    for (folder, _) in &documented {
        if !packages.iter().any(|package| package.folder == *folder) {
            differences.push(format!("{folder} has a row, and no package"));
        }
    }
    assert!(
        differences.is_empty(),
        "docs/architecture.md, table of crates:\n{}",
        differences.join("\n")
    );
}

#[test]
fn links_between_files_lead_somewhere() {
    let mut broken = Vec::new();
    for file in tracked_files()
        .iter()
        .filter(|file| file.path.ends_with(".md"))
    {
        let folder = Path::new(&file.path).parent().expect("a file has a folder");
        for target in links(&file.text) {
            let path = target.split('#').next().expect("split yields one part");
            let elsewhere = target.contains("://") || target.starts_with("mailto:");
            if !elsewhere && !path.is_empty() && !root().join(folder).join(path).exists() {
                broken.push(format!("{}: {target}", file.path));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Targets of `[text](target)` outside code blocks.
fn links(text: &str) -> Vec<&str> {
    let mut inside_code = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            inside_code = !inside_code;
        }
        if inside_code {
            continue;
        }
        for (position, _) in line.match_indices("](") {
            let rest = &line[position + 2..];
            if let Some(end) = rest.find(')') {
                found.push(&rest[..end]);
            }
        }
    }
    found
}

fn make_targets() -> BTreeSet<String> {
    read("Makefile")
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(target, _)| target)
        .filter(|target| {
            !target.is_empty() && target.chars().all(|c| c.is_ascii_lowercase() || c == '-')
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_promised_make_targets_exist_and_have_help() {
    let makefile = read("Makefile");
    for target in ["help", "build", "demo", "test", "lint", "bench"] {
        assert!(make_targets().contains(target), "make {target}");
    }
    for target in make_targets()
        .iter()
        .filter(|target| !target.starts_with("needs-"))
    {
        let helped = makefile
            .lines()
            .any(|line| line.starts_with(&format!("{target}:")) && line.contains("## "));
        assert!(helped, "make {target} has no line in make help");
    }
}

/// What stands between backticks, and the lines of code blocks.
fn commands(text: &str) -> impl Iterator<Item = &str> {
    let mut inside_code = false;
    text.lines().flat_map(move |line| {
        let fence = line.trim_start().starts_with("```");
        inside_code ^= fence;
        let code = inside_code;
        let block = (code && !fence).then(|| line.trim_start());
        let inline = line.split('`').skip(1).step_by(2);
        block.into_iter().chain(inline.filter(move |_| !code))
    })
}

#[test]
fn documents_name_only_make_targets_that_exist() {
    let targets = make_targets();
    let mut unknown = Vec::new();
    for file in tracked_files()
        .iter()
        .filter(|file| file.path.ends_with(".md"))
    {
        for rest in commands(&file.text).filter_map(|command| command.strip_prefix("make ")) {
            let target: String = rest
                .chars()
                .take_while(|c| c.is_ascii_lowercase() || *c == '-')
                .collect();
            if !target.is_empty() && !targets.contains(&target) {
                unknown.push(format!("{}: make {target}", file.path));
            }
        }
    }
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}

#[test]
fn the_changelog_begins_with_what_is_unreleased_and_groups_by_kind() {
    const KINDS: [&str; 6] = [
        "Breaking", "Added", "Changed", "Fixed", "Removed", "Security",
    ];
    let changelog = read("CHANGELOG.md");
    assert!(changelog.starts_with("# Changelog\n"));
    let mut versions = changelog
        .lines()
        .filter_map(|line| line.strip_prefix("## "));
    assert_eq!(versions.next(), Some("Unreleased"));
    for version in versions {
        let (number, date) = version.split_once(" – ").expect("`version – date`");
        assert_eq!(number.split('.').count(), 3, "{version}");
        assert_eq!(date.len(), "2026-01-31".len(), "{version}");
    }
    for kind in changelog
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
    {
        assert!(KINDS.contains(&kind), "{kind} is none of {KINDS:?}");
    }
}

#[test]
fn there_are_commented_examples_of_the_configuration() {
    let examples: Vec<_> = tracked_files()
        .into_iter()
        .filter(|file| file.path.starts_with("config/"))
        .collect();
    assert!(
        examples
            .iter()
            .any(|file| file.path == "config/connector.yaml")
    );
    for file in &examples {
        if file.path.ends_with(".toml") {
            let parsed = file.text.parse::<toml::Table>();
            assert!(parsed.is_ok(), "{}: {:?}", file.path, parsed.err());
        }
        assert!(
            file.text.starts_with('#'),
            "{} does not say what it is for",
            file.path
        );
    }
}
