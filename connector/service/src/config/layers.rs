//! Where settings come from: a file, the environment, the command line.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use config::{Config, Environment, File, FileFormat};
use serde_json::{Map, Value};

use super::{
    Problem, finite,
    load::FREE_MAPS,
    nesting::{MOST_LEVELS, levels},
    syntax,
};

/// What our variables begin with.
pub(super) const PREFIX: &str = "ALIGNER__";

/// Where settings come from, the later winning.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// A YAML or TOML file.
    pub file: Option<PathBuf>,
    /// Variables, as (name, value); those named `ALIGNER__SECTION__KEY` are read.
    pub environment: Vec<(OsString, OsString)>,
    /// Dotted keys from command-line flags.
    pub flags: Vec<(String, String)>,
}

impl Layers {
    /// Everything that was given, and what could not be read. Of a layer that cannot be read
    /// nothing is taken.
    pub(super) fn merged(&self) -> (Value, Vec<Problem>) {
        let (variables, mut problems) = variables(&self.environment);
        let (properties, variables): (Vec<_>, Vec<_>) = variables
            .into_iter()
            .partition(|(name, _)| property(name).is_some());
        let mut builder = Config::builder();
        if let Some(path) = &self.file {
            match file(path) {
                Ok(source) => builder = builder.add_source(source),
                Err(problem) => problems.push(problem),
            }
        }
        let environment = Environment::with_prefix("ALIGNER")
            .prefix_separator("__")
            .separator("__")
            .source(Some(variables.into_iter().collect()));
        let merged = builder.add_source(environment).build();
        let merged = merged.and_then(|mut config| {
            problems.extend(finite::taken_out(&mut config.cache));
            config.try_deserialize::<Value>()
        });
        let mut given = merged.unwrap_or_else(|error| {
            problems.push(Problem {
                key: "ALIGNER__…".to_owned(),
                value: None,
                message: error.to_string(),
                fix: Some("name variables like ALIGNER__KAFKA__BOOTSTRAP_SERVERS".to_owned()),
            });
            Value::Object(Map::new())
        });
        for (name, value) in properties {
            let path = property(&name).expect("partitioned by it");
            set(&mut given, &path, Value::String(value));
        }
        for (key, value) in &self.flags {
            set(&mut given, &path(key), Value::String(value.clone()));
        }
        (given, problems)
    }

    /// The variable that has the last word on a key, if one has.
    pub(super) fn variable(&self, key: &str) -> Option<&str> {
        if self.flags.iter().any(|(flag, _)| flag == key) {
            return None;
        }
        let names = self
            .environment
            .iter()
            .filter_map(|(name, _)| name.to_str());
        names.into_iter().find(|name| {
            let path = property(name).map(|path| path.join("."));
            let plain = || {
                let rest = name.strip_prefix(PREFIX)?;
                Some(rest.to_lowercase().replace("__", "."))
            };
            path.or_else(plain).as_deref() == Some(key)
        })
    }
}

/// A file that was read and parsed once: what is wrong with it is its own problem.
fn file(path: &Path) -> Result<Config, Problem> {
    let problem = |message: String, fix: &str| Problem {
        key: "--config".to_owned(),
        value: Some(path.display().to_string()),
        message,
        fix: Some(fix.to_owned()),
    };
    let text = fs::read_to_string(path).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => {
            problem("the file is not UTF-8".to_owned(), "write it in UTF-8")
        }
        _ => problem(
            format!("the file cannot be read: {error}"),
            "give a readable YAML or TOML file, such as config/connector.yaml",
        ),
    })?;
    // Editors on Windows begin files with this mark, which would become part of the first key.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    // JSON is YAML, too.
    let toml = path
        .extension()
        .is_some_and(|extension| extension == "toml");
    if let Some(line) = text.lines().position(|line| line.contains('\0')) {
        // YAML's parser takes it for the end, and the rest would be left out without a word.
        return Err(problem(
            format!("line {} has a NUL character", line + 1),
            "remove it; a crash may have cut the file off",
        ));
    }
    let aliases = if toml { 0 } else { aliases(text) };
    if aliases > MOST_ALIASES {
        return Err(problem(
            format!("the file has {aliases} aliases (*name), and {MOST_ALIASES} are the most"),
            "write out what they stand for",
        ));
    }
    // TOML's parser has a limit of its own.
    let levels = if toml { 0 } else { levels(text) };
    if levels > MOST_LEVELS {
        return Err(problem(
            format!("the file has {levels} levels of sections, and {MOST_LEVELS} are the most"),
            "write keys as config/connector.yaml has them, in sections of sections at most",
        ));
    }
    let format = if toml {
        FileFormat::Toml
    } else {
        FileFormat::Yaml
    };
    Config::builder()
        .add_source(File::from_str(text, format))
        .build()
        .map_err(|error| {
            let (message, fix) = syntax::fault(&error.to_string(), text, toml);
            problem(message, fix)
        })
}

/// Most aliases of a YAML file. Each may hold many others, so that a hundred of them make a file of
/// three hundred bytes larger than the memory; so many make it some hundred times as large at most.
const MOST_ALIASES: usize = 16;

/// Where a value begins with a star, outside of comments.
fn aliases(yaml: &str) -> usize {
    let of_line = |line: &str| {
        let starts = line.char_indices().filter(|&(at, c)| {
            let before = line[..at].chars().next_back();
            let after = line[at + c.len_utf8()..].chars().next();
            c == '*'
                && before.is_none_or(|c| c.is_whitespace() || "[,:-".contains(c))
                && after.is_some_and(|c| c.is_alphanumeric() || c == '_')
        });
        starts.count()
    };
    let lines = yaml
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    lines.map(of_line).sum()
}

/// Our variables; other programs' may hold anything.
fn variables(environment: &[(OsString, OsString)]) -> (Vec<(String, String)>, Vec<Problem>) {
    let mut ours = Vec::new();
    let mut problems = Vec::new();
    for (name, value) in environment {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else {
            continue;
        };
        // Sections are parted by a dot, too.
        let levels = name[PREFIX.len()..].replace("__", ".").split('.').count();
        if levels > MOST_LEVELS && property(name).is_none() {
            let beginning: String = name.chars().take(64).collect();
            problems.push(Problem {
                key: format!("{beginning}…"),
                value: None,
                message: format!("this names {levels} levels, and {MOST_LEVELS} are the most"),
                fix: Some("name variables like ALIGNER__KAFKA__BOOTSTRAP_SERVERS".to_owned()),
            });
            continue;
        }
        match value.to_str() {
            Some(value) => ours.push((name.to_owned(), value.to_owned())),
            None => problems.push(Problem {
                key: name.to_owned(),
                value: None,
                message: "the value of this variable is not UTF-8".to_owned(),
                fix: Some("write it in UTF-8, or give the key in a file".to_owned()),
            }),
        }
    }
    (ours, problems)
}

/// Shells allow no dots in names, and librdkafka's properties have no underscores: in
/// `ALIGNER__KAFKA__PROPERTIES__SASL_PASSWORD` the last part stands for `sasl.password`.
fn property(variable: &str) -> Option<[String; 3]> {
    const MAPS: [(&str, &str); 2] = [
        ("ALIGNER__KAFKA__PROPERTIES__", "properties"),
        ("ALIGNER__KAFKA__PROPERTY_FILES__", "property_files"),
    ];
    MAPS.iter().find_map(|(prefix, map)| {
        let name = variable
            .strip_prefix(prefix)?
            .to_lowercase()
            .replace('_', ".");
        Some(["kafka".to_owned(), (*map).to_owned(), name])
    })
}

/// The path of a dotted key. In a section whose keys are the user's own, the rest is one name with
/// all its dots, as files have it: a path through them would set another key.
fn path(key: &str) -> Vec<String> {
    let parts = |key: &str| key.split('.').map(str::to_owned).collect::<Vec<_>>();
    FREE_MAPS
        .iter()
        .find_map(|map| {
            let name = key.strip_prefix(map)?.strip_prefix('.')?;
            Some([parts(map), vec![name.to_owned()]].concat())
        })
        .unwrap_or_else(|| parts(key))
}

/// Puts a value at a path, making what is missing on the way.
pub(super) fn set(target: &mut Value, path: &[String], value: Value) {
    let Some((last, parents)) = path.split_last() else {
        return;
    };
    let mut target = target;
    for key in parents {
        if !target.is_object() {
            *target = Value::Object(Map::new());
        }
        target = target
            .as_object_mut()
            .expect("made an object above")
            .entry(key.clone())
            .or_insert(Value::Null);
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    target
        .as_object_mut()
        .expect("made an object above")
        .insert(last.clone(), value);
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::config::read;

    #[test]
    fn a_file_that_cannot_be_parsed_is_told_by_place_and_reason_without_its_lines() {
        for (ending, text, place) in [
            (
                ".toml",
                "[kafka.properties]\n\"sasl.password\" = hunter2\n",
                "line 2, column 19",
            ),
            (
                ".toml",
                "[kafka.properties]\n\"sasl.password\" = \"hunter2\n",
                "parse error at line",
            ),
            (
                ".toml",
                "[aligner.remote]\napi_key = \"hunter2\"\napi_key = \"hunter2\"\n",
                "duplicate key",
            ),
            (
                ".yaml",
                "kafka: {properties: {sasl.password: [hunter2}}\n",
                "line 1",
            ),
        ] {
            let mut written = tempfile::Builder::new()
                .suffix(ending)
                .tempfile()
                .expect("temporary file");
            written.write_all(text.as_bytes()).expect("written");
            let problem = file(written.path()).expect_err("no such syntax");
            assert!(problem.message.contains(place), "{problem:?}");
            assert!(!problem.message.contains("hunter2"), "{problem:?}");
            assert!(!problem.message.contains('\n'), "{problem:?}");
        }
    }

    #[test]
    fn a_file_that_is_cut_off_or_would_grow_beyond_all_bounds_is_refused() {
        let told = |text: &str| {
            let mut written = tempfile::Builder::new()
                .suffix(".yaml")
                .tempfile()
                .expect("temporary file");
            written.write_all(text.as_bytes()).expect("written");
            file(written.path()).map_err(|problem| problem.message)
        };
        let cut = told("name: a\nkafka:\0\n  bogus: 1\n").expect_err("cut off");
        assert_eq!(cut, "line 2 has a NUL character");
        let levels: String = ('b'..='j')
            .zip('a'..)
            .map(|(of, by)| format!("{of}: &{of} [{}]\n", vec![format!("*{by}"); 9].join(", ")))
            .collect();
        let bomb = told(&format!("a: &a [x]\n{levels}")).expect_err("nine to the ninth");
        assert!(bomb.starts_with("the file has 81 aliases"), "{bomb}");
        // Stars in texts and comments are no aliases.
        let stars = "*a *b ".repeat(20);
        let some = format!("# {stars}\nname: 'x*y'\nbase: &base {{a: 1}}\nother: *base\n");
        assert!(told(&some).is_ok());
    }

    #[test]
    fn levels_beyond_all_sections_are_refused_before_they_take_time() {
        let nested = |levels: usize| -> String {
            let line = |level| format!("{}a:\n", " ".repeat(level));
            (0..levels).map(line).collect()
        };
        let mut written = tempfile::Builder::new()
            .suffix(".yaml")
            .tempfile()
            .expect("temporary file");
        written
            .write_all(nested(3_000).as_bytes())
            .expect("written");
        let problem = file(written.path()).expect_err("3000 levels");
        let said = "the file has 3000 levels of sections, and 16 are the most";
        assert_eq!(problem.message, said);

        let variable = |levels: usize| {
            let name = format!("ALIGNER__{}", vec!["A"; levels].join("__"));
            variables(&[(name.into(), "x".into())])
        };
        let (ours, problems) = variable(3_000);
        assert!(ours.is_empty());
        assert_eq!(problems.len(), 1);
        assert!(problems[0].key.len() < 100, "{}", problems[0].key);
        let (ours, problems) = variable(MOST_LEVELS);
        assert_eq!((ours.len(), problems.len()), (1, 0));
    }

    #[test]
    fn a_key_that_stands_twice_is_named_with_its_line_and_a_number_that_is_none_by_its_key() {
        let told = |ending: &str, text: &str| {
            let mut written = tempfile::Builder::new()
                .suffix(ending)
                .tempfile()
                .expect("temporary file");
            written.write_all(text.as_bytes()).expect("written");
            let layers = Layers {
                file: Some(written.path().to_owned()),
                ..Layers::default()
            };
            let problems = read(&layers).expect_err("refused").0;
            problems
                .into_iter()
                .map(|problem| (problem.key, problem.message))
                .collect::<Vec<_>>()
        };
        let twice = "kafka:\n  group_id: a\nname: b\nkafka:\n  group_id: c\nerrors:\n";
        let found = told(".yaml", twice);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].1, "kafka is there twice (line 4)");
        for (ending, text, key) in [
            (".yaml", "kafka: {group_id: 8e400}\n", "kafka.group_id"),
            (
                ".yaml",
                "kafka: {instance_id: 12e999}\n",
                "kafka.instance_id",
            ),
            (".yaml", "aligner: {top_p: -1e400}\n", "aligner.top_p"),
            (".yaml", "topics: {answers: [a, 1e400]}\n", "topics.answers"),
            (
                ".yaml",
                "kafka: {properties: {sasl.password: 4711e400}}\n",
                "kafka.properties.sasl.password",
            ),
            (".toml", "[aligner]\ntop_p = nan\n", "aligner.top_p"),
            (
                ".toml",
                "[aligner]\ntemperature = inf\n",
                "aligner.temperature",
            ),
        ] {
            let found = told(ending, text);
            assert_eq!(found.len(), 1, "{text}: {found:?}");
            assert_eq!(found[0].0, key);
            assert!(!found[0].1.contains("4711"), "{found:?}");
        }
    }

    #[test]
    fn a_property_after_set_or_in_a_variable_has_the_last_word_however_the_file_writes_it() {
        const PROPERTY: &str = "kafka.properties.broker.address.family";
        let flag = |value: &str| vec![(PROPERTY.to_owned(), value.to_owned())];
        let variable = || -> Vec<(OsString, OsString)> {
            let name = "ALIGNER__KAFKA__PROPERTIES__BROKER_ADDRESS_FAMILY";
            vec![(name.into(), "v4".into())]
        };
        for (ending, text) in [
            (
                ".yaml",
                "kafka: {properties: {broker.address.family: any}}\n",
            ),
            (
                ".yaml",
                "kafka: {properties: {broker: {address.family: any}}}\n",
            ),
            (
                ".toml",
                "[kafka.properties]\nbroker.address.family = \"any\"\n",
            ),
        ] {
            let mut file = tempfile::Builder::new()
                .suffix(ending)
                .tempfile()
                .expect("temporary file");
            file.write_all(text.as_bytes()).expect("written");
            for (environment, flags, expected) in [
                (Vec::new(), Vec::new(), "any"),
                (variable(), Vec::new(), "v4"),
                (Vec::new(), flag("v6"), "v6"),
                (variable(), flag("v6"), "v6"),
            ] {
                let layers = Layers {
                    file: Some(file.path().to_owned()),
                    environment,
                    flags,
                };
                let properties = read(&layers).expect("valid").kafka.properties;
                assert_eq!(properties.len(), 1, "{text}");
                let value = properties["broker.address.family"].expose();
                assert_eq!(value, expected, "{text}");
            }
        }
    }

    #[test]
    fn a_file_of_a_property_after_set_replaces_the_one_that_the_file_names() {
        let file = |value: &str| {
            let file = tempfile::NamedTempFile::new().expect("temporary file");
            fs::write(file.path(), value).expect("written");
            file
        };
        let (old, new) = (file("any"), file("v6"));
        let (old, new) = (old.path().display(), new.path().display());
        let settings = file(&format!(
            "kafka: {{property_files: {{broker.address.family: {old}}}}}\n"
        ));
        let layers = Layers {
            file: Some(settings.path().to_owned()),
            flags: vec![(
                "kafka.property_files.broker.address.family".to_owned(),
                new.to_string(),
            )],
            ..Layers::default()
        };
        let files = read(&layers).expect("valid").kafka.property_files;
        assert_eq!(files["broker.address.family"], new.to_string());
        assert_eq!(files.len(), 1);
    }

    #[test]
    fn only_the_names_of_properties_hold_dots() {
        assert_eq!(path("kafka.group_id"), ["kafka", "group_id"]);
        assert_eq!(path("kafka.properties"), ["kafka", "properties"]);
        assert_eq!(
            path("kafka.properties_of.mine"),
            ["kafka", "properties_of", "mine"]
        );
        assert_eq!(
            path("kafka.property_files.sasl.password"),
            ["kafka", "property_files", "sasl.password"]
        );
    }
}
