//! The way of a pointer through a document, and what is made of its end.
//!
//! Three ends are told apart, because something else is to be done about each. Where the log says
//! that there is nothing, with a null or with a list that lacks the item, it had nothing to say, and
//! so will the next record now and then. Where a name is not there at all, or what stands on the way
//! holds nothing that could be named so, the pointer is more likely to be wrong than the log.
//!
//! A text that holds JSON is gone on in, as a column of a database or an attribute of a span has it.
//! It is parsed for that alone: a text at the end of the way is a text.

use super::{
    document,
    draft::{Kind, Slot},
    pointer::{Item, JsonPointer, Step},
    tree::{Found, Tree},
};

/// Most documents that stand as texts within each other. Logs are known with two, a message in a
/// table in an event; each is parsed anew.
const MAX_TEXTS: usize = 4;

/// A name on the way stands twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Twice;

/// What is made of the end of a way.
pub(super) struct Reading<T, R> {
    /// What a value there says.
    pub read: R,
    /// Whether that is enough. Of the items that a step names by what they say of themselves the
    /// last counts whose rest of the way leads to enough, or else the last.
    pub is_enough: fn(&Slot<T>) -> bool,
}

impl<T, R: Fn(&Tree<'_>) -> Slot<T>> Reading<T, R> {
    /// Whatever it is, it is enough.
    pub fn of_last(read: R) -> Self {
        Self {
            read,
            is_enough: |_| true,
        }
    }

    /// What stands where a pointer leads to: nothing where a name is not there, null where the log
    /// has none, and where the way ended if it did on something else.
    pub fn at(&self, pointer: &JsonPointer, document: &Tree<'_>) -> Result<Slot<T>, Twice> {
        let way = Way {
            pointer,
            reading: self,
        };
        way.on(document, 0, 0)
    }
}

struct Way<'w, T, R> {
    pointer: &'w JsonPointer,
    reading: &'w Reading<T, R>,
}

impl<T, R: Fn(&Tree<'_>) -> Slot<T>> Way<'_, T, R> {
    /// Goes on from a place behind so many steps, which stands within so many texts.
    fn on(&self, place: &Tree<'_>, taken: usize, texts: usize) -> Result<Slot<T>, Twice> {
        let Some(step) = self.pointer.steps().get(taken) else {
            return Ok((self.reading.read)(place));
        };
        match place {
            Tree::Null => Ok(Slot::Null),
            Tree::Object(_) => match place.member(&step.name) {
                Found::One(member) => self.on(member, taken + 1, texts),
                Found::Twice => Err(Twice),
                Found::Nothing if step.item.is_some() => Ok(self.no_way(Kind::Object, taken)),
                Found::Nothing => Ok(Slot::Absent),
            },
            Tree::Array(items) => self.among(items, step, taken, texts),
            Tree::Text(text) => self.within(text, taken, texts),
            other => Ok(self.no_way(other.kind(), taken)),
        }
    }

    fn among(
        &self,
        items: &[Tree<'_>],
        step: &Step,
        taken: usize,
        texts: usize,
    ) -> Result<Slot<T>, Twice> {
        let item = match &step.item {
            None => return Ok(self.no_way(Kind::Array, taken)),
            Some(Item::Whose { name, text }) => {
                return self.among_named(items, name, text, taken, texts);
            }
            Some(Item::At(index)) => items.get(*index),
            Some(Item::FromEnd(index)) => items
                .len()
                .checked_sub(*index)
                .and_then(|index| items.get(index)),
        };
        item.map_or(Ok(Slot::Null), |item| self.on(item, taken + 1, texts))
    }

    /// From the last of the items whose member of that name is that text.
    fn among_named(
        &self,
        items: &[Tree<'_>],
        name: &str,
        wanted: &str,
        taken: usize,
        texts: usize,
    ) -> Result<Slot<T>, Twice> {
        let mut last = None;
        let mut is_named = items.is_empty();
        for item in items.iter().rev() {
            match item.member(name) {
                Found::One(Tree::Text(text)) if text == wanted => {
                    let found = self.on(item, taken + 1, texts)?;
                    if (self.reading.is_enough)(&found) {
                        return Ok(found);
                    }
                    last.get_or_insert(found);
                }
                Found::One(_) => is_named = true,
                Found::Nothing => {}
                Found::Twice => return Err(Twice),
            }
        }
        Ok(match last {
            Some(last) => last,
            None if is_named => Slot::Null,
            None => Slot::Ended(format!("no item of {} has {name:?}", self.place(taken))),
        })
    }

    /// Goes on in the JSON that a text holds.
    fn within(&self, text: &str, taken: usize, texts: usize) -> Result<Slot<T>, Twice> {
        let json = text.trim_ascii();
        if json == "null" {
            return Ok(Slot::Null);
        }
        if !json.starts_with(['{', '[']) {
            return Ok(self.no_way(Kind::Text, taken));
        }
        let fault = if texts == MAX_TEXTS {
            format!("is a string within {MAX_TEXTS} others, into which nobody looks")
        } else {
            match document::read(json) {
                Ok(document) => return self.on(&document, taken, texts + 1),
                Err(_) => "is a string that is no JSON".to_owned(),
            }
        };
        Ok(Slot::Ended(format!("{} {fault}", self.place(taken))))
    }

    /// The end, on what cannot hold what the next step names.
    fn no_way(&self, found: Kind, taken: usize) -> Slot<T> {
        let names_an_item = self.pointer.steps()[taken].item.is_some();
        let wanted = if names_an_item {
            Kind::Array
        } else {
            Kind::Object
        };
        Slot::Ended(format!("{} is {found}, not {wanted}", self.place(taken)))
    }

    /// The place behind so many steps, in words of the configuration and none of the document.
    fn place(&self, taken: usize) -> &str {
        match self.pointer.beginning(taken) {
            "" => "the document",
            beginning => beginning,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found, as JSON; in a word or a sentence what became of the way otherwise.
    fn at(pointer: &str, json: &str) -> String {
        let pointer = JsonPointer::new(pointer).expect("a pointer");
        let document = document::read(json).expect("JSON");
        let written = |tree: &Tree<'_>| Slot::Is(serde_json::to_string(tree).expect("a tree"));
        match Reading::of_last(written).at(&pointer, &document) {
            Ok(Slot::Is(json)) => json,
            Ok(Slot::Absent) => "absent".to_owned(),
            Ok(Slot::Null) => "silence".to_owned(),
            Ok(Slot::Ended(why)) => why,
            Ok(other) => panic!("{other:?} was not read"),
            Err(Twice) => "twice".to_owned(),
        }
    }

    #[test]
    fn the_examples_of_the_rfc_are_found() {
        // RFC 6901, section 5.
        let document = r#"{"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"e^f":3,"g|h":4,"i\\j":5,
            "k\"l":6," ":7,"m~n":8}"#;
        let no_item = "/foo is an array, not an object";
        for (pointer, value) in [
            ("/foo", r#"["bar","baz"]"#),
            ("/foo/0", r#""bar""#),
            ("/", "0"),
            ("/a~1b", "1"),
            ("/c%d", "2"),
            ("/e^f", "3"),
            ("/g|h", "4"),
            ("/i\\j", "5"),
            ("/k\"l", "6"),
            ("/ ", "7"),
            ("/m~0n", "8"),
            ("/foo/-", no_item),
            ("/foo/2", "silence"),
            ("/foo/00", no_item),
            ("/foo/+1", no_item),
            ("/foo/bar", no_item),
            ("/foo/0/deeper", "/foo/0 is a string, not an object"),
            ("/m~01", "absent"),
        ] {
            assert_eq!(at(pointer, document), value, "{pointer}");
        }
    }

    #[test]
    fn items_are_counted_from_the_end() {
        let document = r#"{"a":[1,2,3],"-1":4}"#;
        for (pointer, value) in [
            ("/a/-1", "3"),
            ("/a/-3", "1"),
            ("/a/-4", "silence"),
            ("/a/-0", "/a is an array, not an object"),
            ("/a/--1", "/a is an array, not an object"),
            ("/-1", "4"),
        ] {
            assert_eq!(at(pointer, document), value, "{pointer}");
        }
    }

    #[test]
    fn an_item_is_found_by_what_it_says_of_itself_and_the_last_one_counts() {
        let document = r#"{"messages":[
            {"role":"system","content":"s"},{"role":"user","content":"first"},
            {"role":"assistant","content":"a"},{"role":"user","content":"last"},
            {"role":"tool","content":"t"},"text",{"content":"nobody"},{"role":7}],"role=user":1}"#;
        for (pointer, value) in [
            ("/messages/role=user/content", r#""last""#),
            ("/messages/role=system/content", r#""s""#),
            ("/messages/role=developer/content", "silence"),
            ("/messages/role=/content", "silence"),
            ("/messages/role=7/content", "silence"),
            ("/messages/role=tool/name", "absent"),
            (
                "/messages/rolle=user/content",
                "no item of /messages has \"rolle\"",
            ),
            ("/role=user", "1"),
        ] {
            assert_eq!(at(pointer, document), value, "{pointer}");
        }
        assert_eq!(at("/a/x~1y=~0z/b", r#"{"a":[{"x/y":"~z","b":1}]}"#), "1");
    }

    #[test]
    fn a_name_that_stands_twice_on_the_way_is_told_and_elsewhere_it_is_not() {
        let document = r#"{"a":{"b":1},"a":{"b":1},"c":[{"d":1,"d":2,"e":3}],"f":4}"#;
        for (pointer, value) in [
            ("/a/b", "twice"),
            ("/c/0/d", "twice"),
            ("/c/d=1/e", "twice"),
            ("/c/0/e", "3"),
            ("/f", "4"),
        ] {
            assert_eq!(at(pointer, document), value, "{pointer}");
        }
    }

    #[test]
    fn what_the_log_says_is_not_there_is_silence_and_what_it_does_not_name_is_absent() {
        for (document, end) in [
            (r#"{"a":null}"#, "silence"),
            (r#"{"a":{"b":null}}"#, "silence"),
            (r#"{"a":{"b":[]}}"#, "silence"),
            (r#"{"a":{"b":[null]}}"#, "silence"),
            (r#"{"a":"null"}"#, "silence"),
            (r#"{}"#, "absent"),
            (r#"{"a":{}}"#, "absent"),
            (r#"{"a":{"b":[{}]}}"#, "absent"),
            (r#"{"a":7}"#, "/a is a number, not an object"),
            (r#"{"a":[{"b":[]}]}"#, "/a is an array, not an object"),
            (r#"{"a":{"b":{}}}"#, "/a/b is an object, not an array"),
            (r#"{"a":{"b":true}}"#, "/a/b is a boolean, not an array"),
            (r#"[]"#, "the document is an array, not an object"),
        ] {
            assert_eq!(at("/a/b/0/c", document), end, "{document}");
        }
    }

    #[test]
    fn a_text_that_holds_json_is_gone_on_in_and_at_the_end_of_the_way_it_is_a_text() {
        let inner = r#"{"q":[{"role":"user","content":"why?"}],"n":1}"#;
        let middle = serde_json::json!([{"payload": inner}]).to_string();
        let document = serde_json::json!({"after": {"row": format!(" {middle}\n")}}).to_string();
        for (pointer, value) in [
            ("/after/row/0/payload/q/role=user/content", r#""why?""#),
            ("/after/row/0/payload/n", "1"),
            ("/after/row/0/payload/q/role=tool/content", "silence"),
            ("/after/row/0/payload/a", "absent"),
            (
                "/after/row/payload",
                "/after/row is an array, not an object",
            ),
            (
                "/after/row/0/payload/n/m",
                "/after/row/0/payload/n is a number, not an object",
            ),
        ] {
            assert_eq!(at(pointer, &document), value, "{pointer}");
        }
        let text = serde_json::to_string(inner).expect("a text");
        assert_eq!(at("/after/row/0/payload", &document), text);
    }

    #[test]
    fn a_text_that_holds_none_ends_the_way_and_is_not_quoted() {
        for (text, pointer, end) in [
            ("canary", "/a/b", "/a is a string, not an object"),
            ("canary", "/a/role=user", "/a is a string, not an array"),
            ("", "/a/b", "/a is a string, not an object"),
            (r#""canary""#, "/a/b", "/a is a string, not an object"),
            (r#"{"canary":"#, "/a/b", "/a is a string that is no JSON"),
            ("[canary]", "/a/0", "/a is a string that is no JSON"),
            ("{} canary", "/a/b", "/a is a string that is no JSON"),
        ] {
            let document = serde_json::json!({"a": text}).to_string();
            assert_eq!(at(pointer, &document), end, "{text}");
        }
        let deep = "[".repeat(1_000) + &"]".repeat(1_000);
        let document = serde_json::json!({"a": deep}).to_string();
        assert_eq!(at("/a/0/0", &document), "/a is a string that is no JSON");
    }

    #[test]
    fn texts_within_texts_are_looked_into_up_to_a_limit() {
        let mut document = serde_json::json!({"a": 1});
        for texts in 0..=MAX_TEXTS + 1 {
            let pointer = "/a".repeat(texts + 1);
            let end = if texts <= MAX_TEXTS {
                "1".to_owned()
            } else {
                let place = "/a".repeat(MAX_TEXTS + 1);
                format!("{place} is a string within 4 others, into which nobody looks")
            };
            assert_eq!(at(&pointer, &document.to_string()), end);
            document = serde_json::json!({"a": document.to_string()});
        }
    }

    #[test]
    fn of_items_of_one_name_the_last_counts_whose_rest_leads_to_enough() {
        let enough = Reading {
            read: |tree: &Tree<'_>| match tree {
                Tree::Null => Slot::Null,
                Tree::Text(text) => Slot::Is(text.to_string()),
                other => Slot::Wrong(other.kind()),
            },
            is_enough: |found: &Slot<String>| match found {
                Slot::Is(text) => !text.is_empty(),
                found => matches!(found, Slot::Wrong(_)),
            },
        };
        let pointer = JsonPointer::new("/m/role=user/text").expect("a pointer");
        let last = |messages: &str| {
            let json = format!(r#"{{"m":[{messages}]}}"#);
            let document = document::read(&json).expect("JSON");
            enough.at(&pointer, &document)
        };
        let first = r#"{"role":"user","text":"first"},{"role":"tool","text":"t"}"#;
        let is = |text: &str| Ok(Slot::Is(text.to_owned()));
        assert_eq!(last(first), is("first"));
        for silent in ["", r#","text":null"#, r#","text":"""#] {
            let messages = format!(r#"{first},{{"role":"user"{silent}}}"#);
            assert_eq!(last(&messages), is("first"), "{messages}");
        }
        let messages = format!(r#"{first},{{"role":"user","text":"last"}}"#);
        assert_eq!(last(&messages), is("last"));
        // What is wrong is no silence, before which something else was meant.
        let messages = format!(r#"{first},{{"role":"user","text":7}}"#);
        assert_eq!(last(&messages), Ok(Slot::Wrong(Kind::Number)));
        // None leads to enough: the last one says what there is instead.
        let messages = r#"{"role":"user"},{"role":"user","text":""},{"role":"user","text":null}"#;
        assert_eq!(last(messages), Ok(Slot::Null));
    }
}
