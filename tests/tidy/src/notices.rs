//! The licence texts and notices of what is linked into the connector, as one text.
//!
//! MIT, BSD and Apache-2.0 allow a compiled copy to be passed on together with their text, the
//! copyright line and what a `NOTICE` says. All of these lie in the crates that Cargo unpacks to
//! compile them, so they are collected from there: at every depth, for the C libraries that some
//! crates bring along have their licences in folders of their own.
//!
//! A crate that was published without its text has that of a linked crate from the same repository,
//! or, where its manifest offers Apache-2.0, which asks for no copyright line, the one of this
//! repository. Whatever is left is named, and nothing is written: a list that is complete but for
//! one is not a list to ship. The same crates give the same bytes.
//!
//! Deliberately absent: `cargo about`. It takes minutes to compile in the image, leaves out
//! `NOTICE`, and has to be told of each C library by hand. Absent, too, is a choice where several
//! licences are offered: all texts of a crate are kept, less those of [`NOT_CHOSEN`].

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use crate::Crate;

/// Texts under which nothing is taken here, by crate: zstd is offered under BSD or the GPL.
const NOT_CHOSEN: [(&str, &str); 1] = [("zstd-sys", "zstd/COPYING")];

/// What the names of such files begin with, in capitals.
const BEGINNINGS: [&str; 6] = [
    "LICENSE",
    "LICENCE",
    "UNLICENSE",
    "COPYING",
    "COPYRIGHT",
    "NOTICE",
];

/// Endings of files that are named so and are source code. A list of those that are texts would be
/// longer: librdkafka has `LICENSE.lz4` and others.
const SOURCES: [&str; 7] = ["c", "cc", "cpp", "h", "js", "py", "rs"];

/// One licence or notice.
struct Text {
    /// Its path in the crate that it was found in.
    path: PathBuf,
    content: String,
}

/// A text as it is written, with the crates that it came with.
struct Shared {
    content: String,
    origins: Vec<String>,
}

/// All notices, as the text of a file. `apache` is the text of Apache-2.0.
///
/// # Errors
/// If a folder cannot be read, or a crate has no text; the message names all of them.
pub fn third_party(crates: &[Crate], apache: &str) -> io::Result<String> {
    let found = crates
        .iter()
        .map(|one| texts(one).map(|texts| (one, texts)))
        .collect::<io::Result<Vec<_>>>()?;
    // By the words alone, so that a text that is only wrapped or indented otherwise is written once.
    let mut shared: BTreeMap<String, Shared> = BTreeMap::new();
    let mut add = |content: &str, origin: String| {
        let words = content.split_whitespace().collect::<Vec<_>>().join(" ");
        let entry = shared.entry(words).or_insert_with(|| Shared {
            content: content.trim_matches(['\n', '\r']).replace("\r\n", "\n"),
            origins: Vec::new(),
        });
        entry.origins.push(origin);
    };
    let mut without = Vec::new();
    for (one, own) in &found {
        let Crate { name, version, .. } = one;
        for text in own {
            let path = text.path.display();
            add(&text.content, format!("{name} {version}, {path}"));
        }
        if at_top(own).next().is_some() {
            continue;
        }
        let relative = found.iter().find(|(other, texts)| {
            same_repository(one, other)
                && one.licence == other.licence
                && at_top(texts).next().is_some()
        });
        if let Some((other, texts)) = relative {
            for text in at_top(texts) {
                let path = text.path.display();
                let from = format!("{} {}", other.name, other.version);
                add(&text.content, format!("{name} {version}, {path} of {from}"));
            }
        } else if offers_apache(&one.licence) {
            add(apache, format!("{name} {version}, without a text"));
        } else {
            without.push(format!("  {name} {version} ({})", one.licence));
        }
    }
    if !without.is_empty() {
        return Err(io::Error::new(
            ErrorKind::NotFound,
            format!(
                "crates without a licence text, which their licences ask for:\n{}\nfix: depend on a \
                 release that has it, or on another crate",
                without.join("\n")
            ),
        ));
    }
    let mut shared: Vec<_> = shared.into_values().collect();
    shared.sort_by(|a, b| a.origins.cmp(&b.origins));
    Ok(written(crates, &shared))
}

fn written(crates: &[Crate], shared: &[Shared]) -> String {
    let thick = "=".repeat(100);
    let thin = "-".repeat(100);
    let mut all = String::from(
        "Aligner Connector is linked with the crates below, and with the C libraries that some of \
         them bring\nalong. Their licences and notices follow, each text once, under the crates and \
         files that have it.\nWhere a crate offers several licences, any of them may be chosen. \
         Those of Rust's standard library are\nin RUST-STANDARD-LIBRARY.html. OpenSSL and the C \
         library are the system's, and linked when it starts.\n\n",
    );
    for one in crates {
        let Crate { name, version, .. } = one;
        let line = format!("{name} {version}  {}  {}", one.licence, one.repository);
        writeln!(all, "{}", line.trim_end()).expect("a string takes all");
    }
    for text in shared {
        let origins = text.origins.join("\n");
        write!(
            all,
            "\n{thick}\n{origins}\n{thin}\n\n{}\n",
            text.content.trim_end()
        )
        .expect("a string takes all");
    }
    all
}

/// The texts in the folder of a crate, at every depth, by path.
fn texts(one: &Crate) -> io::Result<Vec<Text>> {
    let mut found = Vec::new();
    let mut folders = vec![one.folder.clone()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).map_err(|error| named(&folder, &error))?;
        for entry in entries {
            let entry = entry.map_err(|error| named(&folder, &error))?;
            let path = entry.path();
            let kind = entry.file_type().map_err(|error| named(&path, &error))?;
            if kind.is_dir() {
                folders.push(path);
            } else if is_notice(&entry.file_name().to_string_lossy()) {
                let content = fs::read(&path).map_err(|error| named(&path, &error))?;
                let relative = path.strip_prefix(&one.folder);
                found.push(Text {
                    path: relative.expect("it was found in there").to_owned(),
                    content: String::from_utf8_lossy(&content).into_owned(),
                });
            }
        }
    }
    found.retain(|text| {
        let refused =
            |(name, path): &(&str, &str)| one.name == *name && text.path == Path::new(path);
        !NOT_CHOSEN.iter().any(refused)
    });
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn is_notice(name: &str) -> bool {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    let name = name.to_ascii_uppercase();
    BEGINNINGS
        .iter()
        .any(|beginning| name.starts_with(beginning))
        && !SOURCES.contains(&ending)
}

/// Texts beside the manifest: those further down are of what the crate brings along.
fn at_top(texts: &[Text]) -> impl Iterator<Item = &Text> {
    texts
        .iter()
        .filter(|text| text.path.components().count() == 1)
}

fn same_repository(one: &Crate, other: &Crate) -> bool {
    let place = |repository: &str| {
        let whole = repository.split("/tree/").next().unwrap_or_default();
        whole
            .trim_end_matches('/')
            .trim_end_matches(".git")
            .to_owned()
    };
    !one.repository.is_empty() && place(&one.repository) == place(&other.repository)
}

/// Whether Apache-2.0 alone is enough for all of the crate.
fn offers_apache(licence: &str) -> bool {
    let licence = licence.replace('/', " OR ");
    !licence.contains(['(', ')'])
        && licence
            .split(" OR ")
            .any(|choice| choice.trim() == "Apache-2.0")
}

#[cfg(test)]
mod tests {
    use super::*;

    const APACHE: &str = "Apache License, Version 2.0";

    /// A crate whose folder holds these files.
    fn unpacked(root: &Path, name: &str, licence: &str, files: &[(&str, &str)]) -> Crate {
        let folder = root.join(name);
        fs::create_dir_all(&folder).expect("a temporary folder is writable");
        for (path, content) in files {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().expect("it is in the folder")).expect("writable");
            fs::write(path, content).expect("writable");
        }
        Crate {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            licence: licence.to_owned(),
            repository: format!("https://example.com/{name}"),
            folder,
        }
    }

    /// The notices without the list of crates at their head.
    fn bodies(crates: &[Crate]) -> String {
        let all = third_party(crates, APACHE).expect("each has a text");
        let (_, bodies) = all.split_once("\n\n=").expect("a text follows the list");
        bodies.trim_start_matches('=').to_owned()
    }

    #[test]
    fn texts_and_notices_are_found_at_every_depth() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let files = [
            ("LICENSE", "top"),
            ("NOTICE", "made by many"),
            ("vendored/lib/COPYING.lz4", "of a C library"),
            ("src/license.rs", "code"),
            ("README.md", "words"),
        ];
        let found = bodies(&[unpacked(root.path(), "a", "MIT", &files)]);
        for expected in ["top", "made by many", "of a C library"] {
            assert!(found.contains(expected), "{expected} in {found}");
        }
        for refused in ["code", "words"] {
            assert!(!found.contains(refused), "{refused} in {found}");
        }
    }

    #[test]
    fn texts_that_differ_in_white_space_alone_are_written_once_with_all_their_crates() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let crates = [
            unpacked(
                root.path(),
                "a",
                "MIT",
                &[("LICENSE", "Do what\nyou like.\n")],
            ),
            unpacked(
                root.path(),
                "b",
                "MIT",
                &[("COPYING", "\n  Do what you\r\n  like.")],
            ),
            unpacked(
                root.path(),
                "c",
                "MIT",
                &[("LICENSE", "Copyright C\nDo what you like.")],
            ),
        ];
        let found = bodies(&crates);
        assert!(
            found.contains("\na 1.0.0, LICENSE\nb 1.0.0, COPYING\n"),
            "{found}"
        );
        assert_eq!(found.matches("Do what").count(), 2, "{found}");
    }

    #[test]
    fn a_crate_without_a_text_has_that_of_its_repository_and_not_of_what_that_brings_along() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let files = [
            ("LICENSE", "Copyright A"),
            ("vendored/LICENSE", "Copyright V"),
        ];
        let with = unpacked(root.path(), "a", "MIT", &files);
        let mut without = unpacked(root.path(), "a-sys", "MIT", &[("c/LICENSE", "Copyright C")]);
        without.repository = format!("{}/tree/main/a-sys", with.repository);
        let found = bodies(&[with.clone(), without.clone()]);
        assert!(
            found.contains("a-sys 1.0.0, LICENSE of a 1.0.0\n"),
            "{found}"
        );
        assert!(!found.contains("vendored/LICENSE of"), "{found}");

        without.licence = "MIT AND ISC".to_owned();
        third_party(&[with, without], APACHE).expect_err("the text is of another licence");
    }

    #[test]
    fn only_where_apache_is_enough_its_text_stands_in_and_all_others_are_named() {
        let root = tempfile::tempdir().expect("a temporary folder");
        for (licence, enough) in [
            ("Apache-2.0", true),
            ("MIT OR Apache-2.0", true),
            ("MIT/Apache-2.0", true),
            ("MIT", false),
            ("Apache-2.0 AND MIT", false),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", false),
            ("Apache-2.0 WITH LLVM-exception", false),
            ("", false),
        ] {
            let crates = ["a", "b"].map(|name| unpacked(root.path(), name, licence, &[]));
            match third_party(&crates, APACHE) {
                Ok(all) => assert!(enough && all.contains(APACHE), "{licence}: {all}"),
                Err(error) => {
                    let error = error.to_string();
                    assert!(!enough, "{licence}: {error}");
                    assert!(error.contains(&format!("  a 1.0.0 ({licence})\n  b 1.0.0 (")));
                }
            }
        }
    }
}
