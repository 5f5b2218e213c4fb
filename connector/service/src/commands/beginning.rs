//! How an input begins, which tells whether it is lines of JSON at all.

use std::{
    borrow::Cow,
    io::{Cursor, Read},
};

use aligner_evaluation::is_gzip;

use super::line::Input;

/// What some editors put first into a file.
pub const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
/// White space that is looked through for what an input begins with.
const MOST_BLANK: usize = 64 << 10;
/// So much of the first line that is not blank tells what it is.
const MOST_BEGINNING: usize = 64;

const EXPECTED: &str = "one JSON object a line is expected";

/// A path as shells take it for one word.
fn quoted(path: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+,:@%=".contains(c);
    if path.chars().all(is_plain) {
        Cow::Borrowed(path)
    } else {
        Cow::Owned(format!("'{}'", path.replace('\'', r"'\''")))
    }
}

/// Why an input that begins so is no JSON Lines: no line of a file at `path` could be read, or each
/// would be told of for the same cause. With `lists` a line may be an array; `call` is the command that
/// reads stdin. What stands there is described and never repeated: it may be somebody's address.
pub fn unlike_lines(beginning: &[u8], lists: bool, path: &str, call: &str) -> Option<String> {
    let path = quoted(path);
    if let Some(encoding) = utf_16(beginning) {
        return Some(format!(
            "this looks like {encoding}: `iconv -f {encoding} -t UTF-8 {path} | aligner-connector \
             {call}`"
        ));
    }
    match beginning {
        _ if is_gzip(beginning) => Some(format!(
            "this looks like gzip: `zcat {path} | aligner-connector {call}`"
        )),
        [b'[', ..] if !lists => Some(format!(
            "{EXPECTED}; this looks like a JSON array: convert with `jq -c '.[]'`"
        )),
        // Cut off, it may go on.
        [b'{', rest @ ..] if rest.len() + 1 < MOST_BEGINNING && rest.trim_ascii().is_empty() => {
            Some(format!(
                "{EXPECTED}; this looks like an object over several lines: make it one line with \
                 `jq -c .`"
            ))
        }
        _ => None,
    }
}

/// The same, and why a first line that is no JSON tells of a whole input of answers that it is none.
pub fn misfit(beginning: &[u8], lists: bool, path: &str, call: &str) -> Option<String> {
    unlike_lines(beginning, lists, path, call).or_else(|| match beginning {
        // One that holds nothing, as consumers print a tombstone, is a line that is told of in its place.
        [] | [b'{' | b'[', ..] | b"null" | b"null\r" => None,
        _ => Some(format!(
            "{EXPECTED}, such as {{\"question\": …, \"answer\": …}}; this looks like {}",
            kind(beginning)
        )),
    })
}

/// How iconv calls the encoding of an input that begins so, if it has two bytes a letter: by its byte
/// order mark, as PowerShell writes it, or else by the empty half of what JSON begins with.
fn utf_16(beginning: &[u8]) -> Option<&'static str> {
    match beginning {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16"),
        [b'{' | b'[', 0, ..] => Some("UTF-16LE"),
        [0, b'{' | b'[', ..] => Some("UTF-16BE"),
        _ => None,
    }
}

/// What a first line that is no JSON looks like.
fn kind(line: &[u8]) -> &'static str {
    let is_written = |byte: &u8| !byte.is_ascii_control() || b"\t\r\x1b".contains(byte);
    // In prose a blank follows a comma.
    let is_cut = |pair: &[u8]| matches!(pair, [b',' | b';', next] if !next.is_ascii_whitespace());
    if !line.iter().all(is_written) {
        "binary data"
    } else if line.contains(&b'\t') || line.windows(2).any(is_cut) {
        "CSV: write each row as an object"
    } else {
        "plain text"
    }
}

/// The beginning of the first line that is not blank, and the input as it was.
pub fn look(mut input: Input) -> (Vec<u8>, Input) {
    let mut head = Vec::new();
    let mut begin: Option<usize> = None;
    loop {
        let is_enough = match begin {
            None => head.len() >= MOST_BLANK,
            Some(begin) => beginning(&head[begin..]).len() < head.len() - begin,
        };
        if is_enough {
            break;
        }
        // An error comes again for whoever reads on, and then has the number of its line.
        let Ok(buffer) = input.fill_buf() else {
            break;
        };
        if buffer.is_empty() {
            break;
        }
        let seen = head.len();
        head.extend_from_slice(buffer);
        let read = buffer.len();
        input.consume(read);
        begin = begin.or_else(|| (seen..head.len()).find(|at| !is_blank(head[*at])));
    }
    let first = begin.map_or_else(Vec::new, |begin| beginning(&head[begin..]).to_vec());
    (first, Box::new(Cursor::new(head).chain(input)))
}

/// White space, or part of a byte order mark, which the reader of lines leaves out, too.
fn is_blank(byte: u8) -> bool {
    byte.is_ascii_whitespace() || BYTE_ORDER_MARK.contains(&byte)
}

/// A line without its end, or so much of it as tells what it is.
fn beginning(text: &[u8]) -> &[u8] {
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    &line[..line.len().min(MOST_BEGINNING)]
}

#[cfg(test)]
mod tests {
    use std::io::{self, BufReader};

    use super::*;

    /// One byte at a time, as a slow pipe gives them.
    struct Slow(Cursor<Vec<u8>>);

    impl Read for Slow {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let most = buffer.len().min(1);
            self.0.read(&mut buffer[..most])
        }
    }

    #[test]
    fn looking_at_how_an_input_begins_takes_nothing_from_it() {
        let blank = " \n".repeat(MOST_BLANK);
        let long = "[".repeat(1_000);
        for (text, expected) in [
            ("", ""),
            (" \r\n\t", ""),
            ("[1]", "[1]"),
            ("\u{feff}\n [\n", "["),
            ("\n\u{feff}{}\n", "{}"),
            ("\n{}\n[]\n", "{}"),
            ("\n{\r\n\"question\"", "{\r"),
            (long.as_str(), &long[..MOST_BEGINNING]),
            // So much of nothing is nobody's array.
            (blank.as_str(), ""),
        ] {
            let slow = Slow(Cursor::new(text.as_bytes().to_vec()));
            let (first, mut input) = look(Box::new(BufReader::new(slow)));
            assert_eq!(String::from_utf8_lossy(&first), expected);
            let mut read = String::new();
            input.read_to_string(&mut read).expect("text");
            assert!(read == text, "{} bytes of {}", read.len(), text.len());
        }
    }

    #[test]
    fn what_is_no_json_lines_is_told_by_its_beginning_with_the_way_to_make_it_that() {
        let fault = |beginning: &[u8], lists| misfit(beginning, lists, "log.gz", "show");
        assert_eq!(
            fault(b"null", false),
            None,
            "a tombstone as consumers print it"
        );
        let cut_off = format!("{{{}", " ".repeat(MOST_BEGINNING - 1));
        for (beginning, lists) in [
            ("", false),
            ("{\"question\": 1}", false),
            ("{ \"question\"", false),
            (cut_off.as_str(), false),
            ("[1]", true),
        ] {
            assert_eq!(fault(beginning.as_bytes(), lists), None);
        }
        let named = misfit(b"\x1f\x8b\x08", false, "it's my log.gz", "show");
        let named = named.expect("gzip");
        assert!(named.contains(r"`zcat 'it'\''s my log.gz' | "), "{named}");
        let cases: [(&[u8], bool, &str); 14] = [
            (b"\x1f\x8b\x08", true, "`zcat log.gz | "),
            (b"[1]", false, "`jq -c '.[]'`"),
            (b"{", true, "`jq -c .`"),
            (b"{ \r", false, "`jq -c .`"),
            (b"id,question\r", false, "this looks like CSV: "),
            (b"\"id\";\"question\"", false, "this looks like CSV: "),
            (b"id\tquestion", true, "this looks like CSV: "),
            (b"Hello, ann.lee\r", false, "this looks like plain text"),
            (b"\"a \x1b[2J t\xe9xt", true, "this looks like plain text"),
            (b"PAR1\x15\x04", false, "this looks like binary data"),
            (b"\xff\xfe{\0", true, "`iconv -f UTF-16 -t UTF-8 log.gz | "),
            (b"\xfe\xff\0\r", false, "`iconv -f UTF-16 -t"),
            (b"{\0\"\0", false, "`iconv -f UTF-16LE -t"),
            (b"\0[\0", true, "`iconv -f UTF-16BE -t"),
        ];
        for (beginning, lists, said) in cases {
            let fault = fault(beginning, lists).expect("no JSON Lines");
            assert!(fault.contains(said), "{said}: {fault}");
        }
    }

    #[test]
    fn nothing_of_what_an_input_begins_with_is_repeated() {
        for beginning in [
            "canary,why?",
            "canary",
            "\"canary\"",
            "\u{feff}canary",
            "\0canary",
        ] {
            let fault = misfit(beginning.as_bytes(), false, "log", "show").expect("no JSON Lines");
            assert!(!fault.contains("canary"), "{fault}");
        }
    }
}
