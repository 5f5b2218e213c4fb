//! `formats` and `input`: how bytes are read and written.

use aligner_records::{JsonPointer, JsonPointerError};
use aligner_registry::{Registry, RegistryError};

use super::{Found, Secret, Settings};
use crate::config::{self, Format, Places};

/// Where the chat logs of many hold a question.
const QUESTION: &str = "/messages/role=user/content";

/// Where they hold its answer.
const ANSWER: &str = "/choices/0/message/content";

impl Found {
    pub(super) fn formats(&mut self, settings: &Settings) {
        let formats = &settings.formats;
        let avro = formats.answers == Format::Avro || formats.outputs == Format::Avro;
        let registry = &formats.schema_registry;
        match &registry.url {
            None if avro => self.add(
                "formats.schema_registry.url",
                None,
                "avro needs a Schema Registry",
                "set it, for example to http://localhost:8081, or use json",
            ),
            Some(url) => {
                // Which password it is does not matter, only that there is one.
                let password = registry
                    .password
                    .clone()
                    .or(registry.password_file.clone().map(Secret::new));
                let registry = config::registry(settings, url, password.as_ref());
                if let Err(RegistryError::Settings { field, fault }) = Registry::new(registry) {
                    let fix = match field {
                        "ca_file" => "name a PEM file with the authority that signed the registry",
                        "certificate_file" | "key_file" => {
                            "name PEM files with a certificate and its key, both or neither"
                        }
                        _ => {
                            "write for example http://localhost:8081, with username and \
                             password_file where it wants them"
                        }
                    };
                    self.add(
                        &format!("formats.schema_registry.{field}"),
                        None,
                        fault,
                        fix,
                    );
                }
            }
            None => {}
        }
        if let Some(path) = &registry.password_file {
            self.secret("formats.schema_registry.password_file", path);
            if registry.password.is_some() {
                self.add(
                    "formats.schema_registry.password_file",
                    path.clone(),
                    "the password is given twice",
                    "remove formats.schema_registry.password",
                );
            }
        }
    }

    pub(super) fn input(&mut self, settings: &Settings) {
        let all = settings.input.fields.pointers();
        let any = all.iter().any(|(_, places)| places.is_some());
        for (name, places) in all {
            let key = format!("input.fields.{name}");
            match places {
                None => {
                    let example = match name {
                        "question" if any => QUESTION,
                        "answer" if any => ANSWER,
                        _ => continue,
                    };
                    self.add(
                        &key,
                        None,
                        "a mapping must say where question and answer lie",
                        format!("write for example {name}: {example}"),
                    );
                }
                Some(places) => self.places(&key, places),
            }
        }
        let fields = &settings.input.fields;
        let asked = fields.question.as_ref().map_or(&[][..], Places::values);
        let answered = fields.answer.as_ref().map_or(&[][..], Places::values);
        if let Some(both) = answered.iter().find(|at| asked.contains(at)) {
            self.add(
                "input.fields.answer",
                format!("{both:?}"),
                "input.fields.question lies there too, and would be corrected",
                format!("write for example question: {QUESTION} and answer: {ANSWER}"),
            );
        }
        if settings.input.created_at_unit.is_some() && settings.input.fields.created_at.is_none() {
            self.add(
                "input.created_at_unit",
                None,
                "there is no input.fields.created_at that it could be the unit of",
                "map that field, or write null",
            );
        }
    }

    fn places(&mut self, key: &str, places: &Places) {
        if places.values().is_empty() {
            self.add(
                key,
                "[]".to_owned(),
                "the list is empty",
                "write a JSON Pointer into it, or null for no list",
            );
        }
        // Lists elsewhere are written so in texts.
        if let Some(one) = places.one()
            && one.contains(",/")
        {
            self.add(
                key,
                format!("{one:?}"),
                "this is one pointer, through a name that ends in a comma",
                format!("write [{one}] for a list, or [{one:?}] where the name does"),
            );
        }
        for pointer in places.values() {
            let fix = match JsonPointer::new(pointer.clone()) {
                Ok(_) => continue,
                Err(JsonPointerError::NoSlash(path)) => {
                    // As JSONPath has it, unless it means several places.
                    let path = path.trim_start_matches('$').replace(['.', '['], "/");
                    let path = path.replace([']', '\'', '"'], "");
                    let path = path.trim_start_matches('/');
                    if path.contains(['*', '?', '@']) || path.contains("//") {
                        "write for example /choices/0/message/content".to_owned()
                    } else {
                        format!("write /{path}")
                    }
                }
                Err(JsonPointerError::Empty) => "write for example /answer, or null".to_owned(),
                Err(JsonPointerError::Escape(_)) => {
                    "write ~0 for ~ and ~1 for / within a name".to_owned()
                }
                Err(JsonPointerError::Brackets { meant, .. }) => {
                    format!("write {meant}; -1 is the last of a list")
                }
            };
            self.add(
                key,
                format!("{pointer:?}"),
                "this is no JSON Pointer (RFC 6901)",
                fix,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        Problem,
        check::{check, tests::keys},
    };

    #[test]
    fn avro_needs_a_registry() {
        let mut settings = Settings::default();
        settings.formats.outputs = Format::Avro;
        assert_eq!(keys(&settings), ["formats.schema_registry.url"]);
    }

    #[test]
    fn a_password_of_the_registry_needs_a_user() {
        let mut settings = Settings::default();
        settings.formats.schema_registry.url = Some("http://localhost:8081".to_owned());
        settings.formats.schema_registry.password = Some(Secret::new("hunter2"));
        assert_eq!(keys(&settings), ["formats.schema_registry.username"]);
    }

    #[test]
    fn the_registrys_files_are_looked_at() {
        let mut settings = Settings::default();
        let registry = &mut settings.formats.schema_registry;
        registry.url = Some("https://localhost:8081".to_owned());
        registry.ca_file = Some("/nowhere/ca.pem".to_owned());
        let problems = check(&settings);
        assert_eq!(problems[0].key, "formats.schema_registry.ca_file");
        assert!(problems[0].message.contains("/nowhere/ca.pem"));
    }

    #[test]
    fn a_mapping_needs_question_and_answer_as_pointers() {
        let mut settings = Settings::default();
        settings.input.fields.question = Some("messages.0.content".into());
        let problems = check(&settings);
        assert_eq!(problems[0].key, "input.fields.question");
        assert_eq!(
            problems[0].fix.as_deref(),
            Some("write /messages/0/content")
        );
        assert_eq!(problems[1].key, "input.fields.answer");
    }

    #[test]
    fn what_a_mapping_lacks_is_shown_where_a_chat_log_has_it() {
        let mut settings = Settings::default();
        settings.input.fields.user_id = Some("/user".into());
        let fixes: Vec<_> = check(&settings)
            .into_iter()
            .filter_map(|problem| problem.fix)
            .collect();
        assert_eq!(
            fixes,
            [
                "write for example question: /messages/role=user/content",
                "write for example answer: /choices/0/message/content",
            ]
        );
    }

    #[test]
    fn a_question_is_not_taken_for_its_answer() {
        let mut settings = Settings::default();
        let fields = &mut settings.input.fields;
        fields.question = Some("/messages/role=user/content".into());
        fields.answer = fields.question.clone();
        let problems = check(&settings);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].key, "input.fields.answer");
        let fix = problems[0].fix.as_deref().unwrap_or_default();
        assert!(fix.contains("/choices/0/message/content"), "{fix}");
    }

    #[test]
    fn a_question_is_not_taken_for_its_answer_where_one_of_several_pointers_is_the_same() {
        let mut settings = Settings::default();
        let fields = &mut settings.input.fields;
        fields.question = Some(["/input/role=user/content", "/text"].into());
        fields.answer = Some(["/output/content", "/text"].into());
        let problems = check(&settings);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].key, "input.fields.answer");
        assert_eq!(problems[0].value.as_deref(), Some("\"/text\""));
        settings.input.fields.answer = Some("/input".into());
        assert_eq!(keys(&settings), [""; 0]);
    }

    fn keys_and_fixes(problems: &[Problem]) -> Vec<(&str, &str)> {
        problems
            .iter()
            .map(|problem| (problem.key.as_str(), problem.fix.as_deref().unwrap_or("")))
            .collect()
    }

    #[test]
    fn every_pointer_of_a_list_is_looked_at_and_a_text_with_two_is_told_to_be_one() {
        let mut settings = Settings::default();
        let fields = &mut settings.input.fields;
        fields.question = Some(["/input/role=user/content", "input", "/a~2"].into());
        fields.answer = Some("/output/content,/output".into());
        fields.user_id = Some([].into());
        assert_eq!(
            keys_and_fixes(&check(&settings)),
            [
                ("input.fields.question", "write /input"),
                (
                    "input.fields.question",
                    "write ~0 for ~ and ~1 for / within a name"
                ),
                (
                    "input.fields.answer",
                    "write [/output/content,/output] for a list, or \
                     [\"/output/content,/output\"] where the name does"
                ),
                (
                    "input.fields.user_id",
                    "write a JSON Pointer into it, or null for no list"
                ),
            ]
        );
    }

    #[test]
    fn every_pointer_is_parsed_and_a_unit_needs_its_field() {
        let mut settings = Settings::default();
        let fields = &mut settings.input.fields;
        fields.question = Some("/messages/role=user/content".into());
        fields.answer = Some("/a~2".into());
        fields.user_id = Some("".into());
        fields.conversation_id = Some("$.traces[0].id".into());
        fields.upstream_model = Some("/models/[-1]".into());
        settings.input.created_at_unit = Some(aligner_records::TimeUnit::Seconds);
        assert_eq!(
            keys_and_fixes(&check(&settings)),
            [
                (
                    "input.fields.answer",
                    "write ~0 for ~ and ~1 for / within a name"
                ),
                (
                    "input.fields.upstream_model",
                    "write /models/-1; -1 is the last of a list"
                ),
                ("input.fields.conversation_id", "write /traces/0/id"),
                ("input.fields.user_id", "write for example /answer, or null"),
                ("input.created_at_unit", "map that field, or write null"),
            ]
        );
    }
}
