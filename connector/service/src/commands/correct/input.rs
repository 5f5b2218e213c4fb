//! What `correct` reads: one pair from the command line, a file, or stdin.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Cursor, IsTerminal, Read},
    path::Path,
};

use aligner_records::FieldMap;

use super::{Input, files::Named};
use crate::{cli, commands::Usage};

/// What some editors put first into a file.
pub const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
/// White space that is looked through for what an input begins with.
const MOST_BLANK: usize = 64 << 10;

/// Opens it, and looks at how it begins: nothing of a JSON array is corrected, though its last
/// element may stand on a line of its own.
pub fn open(args: &cli::Correct, fields: Option<&FieldMap>) -> anyhow::Result<Input> {
    if let (Some(question), Some(answer)) = (&args.question, &args.answer) {
        let event = serde_json::json!({ "question": question, "answer": answer });
        return Ok(Box::new(Cursor::new(format!("{event}\n"))));
    }
    let input: Input = match file(args) {
        Some(file) => Box::new(BufReader::new(file.open()?)),
        None if args.input.is_some() || !io::stdin().is_terminal() => {
            Box::new(BufReader::new(io::stdin()))
        }
        None => {
            return Err(Usage(
                "nothing to correct: give --question and --answer, or --input FILE with one JSON \
                 object per line ({\"question\": …, \"answer\": …})"
                    .to_owned(),
            )
            .into());
        }
    };
    let (first, input) = look(input);
    if first == Some(b'[') && !fields.is_some_and(maps_lists) {
        return Err(Usage(format!(
            "{}: one JSON object a line is expected; this looks like a JSON array: convert with \
             `jq -c '.[]'`",
            name(args)
        ))
        .into());
    }
    Ok(input)
}

/// How messages call it.
pub fn name(args: &cli::Correct) -> String {
    file(args).map_or_else(|| "stdin".to_owned(), |file| file.to_string())
}

/// The file that is read, stdin's included; none for a pair from the command line.
pub fn origin(args: &cli::Correct) -> Option<Named<'_>> {
    let stdin = || Named::new("stdin", Path::new("/dev/stdin"));
    match args.question {
        Some(_) => None,
        None => Some(file(args).unwrap_or_else(stdin)),
    }
}

/// Lines of the input file, for the progress bar.
pub fn total_lines(args: &cli::Correct) -> Option<u64> {
    let path = file(args)?.path();
    // Counting the lines of a pipe would take them.
    if !path.is_file() {
        return None;
    }
    let mut reader = BufReader::new(File::open(path).ok()?);
    let mut lines = 0;
    loop {
        let buffer = reader.fill_buf().ok()?;
        if buffer.is_empty() {
            return Some(lines);
        }
        lines += buffer.iter().filter(|byte| **byte == b'\n').count() as u64;
        let read = buffer.len();
        reader.consume(read);
    }
}

fn file(args: &cli::Correct) -> Option<Named<'_>> {
    let path = args.input.as_deref()?;
    (path.as_os_str() != "-").then(|| Named::new("--input", path))
}

/// The first byte that is no white space, and the input as it was.
fn look(mut input: Input) -> (Option<u8>, Input) {
    let mut head = Vec::new();
    let first = loop {
        if head.len() >= MOST_BLANK {
            break None;
        }
        // An error comes again for whoever reads on, and then has the number of its line.
        let Ok(buffer) = input.fill_buf() else {
            break None;
        };
        if buffer.is_empty() {
            break None;
        }
        let blank = |at: usize, byte: u8| {
            byte.is_ascii_whitespace() || BYTE_ORDER_MARK.get(head.len() + at) == Some(&byte)
        };
        let mut bytes = buffer.iter().copied().enumerate();
        let first = bytes.find(|&(at, byte)| !blank(at, byte));
        head.extend_from_slice(buffer);
        let read = buffer.len();
        input.consume(read);
        if let Some((_, byte)) = first {
            break Some(byte);
        }
    };
    (first, Box::new(Cursor::new(head).chain(input)))
}

/// Whether a mapping begins with an item of a list, so that each line is one.
fn maps_lists(fields: &FieldMap) -> bool {
    let step = fields.question.as_str().split('/').nth(1);
    step.is_some_and(|step| step.contains('=') || step.parse::<i64>().is_ok())
}

#[cfg(test)]
mod tests {
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
        for (text, expected) in [
            ("", None),
            (" \r\n\t", None),
            ("[1]", Some(b'[')),
            ("\u{feff}\n [\n", Some(b'[')),
            ("\n{}\n[]\n", Some(b'{')),
            // So much of nothing is nobody's array.
            (blank.as_str(), None),
        ] {
            let slow = Slow(Cursor::new(text.as_bytes().to_vec()));
            let (first, mut input) = look(Box::new(BufReader::new(slow)));
            assert_eq!(first, expected);
            let mut read = String::new();
            input.read_to_string(&mut read).expect("text");
            assert!(read == text, "{} bytes of {}", read.len(), text.len());
        }
    }

    #[test]
    fn a_mapping_into_lists_is_told_by_its_first_step() {
        for (question, lists) in [
            ("/0/question", true),
            ("/-1/content", true),
            ("/role=user/content", true),
            ("/messages/role=user/content", false),
            ("/question", false),
        ] {
            let pointers = [("question", question), ("answer", "/answer")];
            let fields = pointers.map(|(name, pointer)| (name.to_owned(), pointer.to_owned()));
            let fields = FieldMap::try_from(std::collections::BTreeMap::from(fields));
            assert_eq!(maps_lists(&fields.expect("pointers")), lists, "{question}");
        }
    }
}
