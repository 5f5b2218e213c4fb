//! What `correct` reads: one pair from the command line, a file, or stdin.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Cursor, IsTerminal},
    path::Path,
};

use aligner_records::FieldMap;

use crate::{
    cli,
    commands::{
        Usage,
        beginning::{look, misfit},
        files::Named,
        line::Input,
    },
};

/// Opens it, and looks at how it begins: nothing is corrected of what is no JSON Lines throughout,
/// though the last element of a JSON array may stand on a line of its own.
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
    let (beginning, input) = look(input);
    let path = file(args).map_or_else(
        || "FILE".to_owned(),
        |file| file.path().display().to_string(),
    );
    let lists = fields.is_some_and(maps_lists);
    match misfit(&beginning, lists, &path, "correct --input -") {
        Some(fault) => Err(Usage(format!("{}: {fault}", name(args))).into()),
        None => Ok(input),
    }
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

/// Lines of the input file that are not blank, for the progress bar.
pub fn total_lines(args: &cli::Correct) -> Option<u64> {
    let path = file(args)?.path();
    // Counting the lines of a pipe would take them.
    if !path.is_file() {
        return None;
    }
    count_lines(BufReader::new(File::open(path).ok()?)).ok()
}

/// As many as the source will hand out: the last one counts without its end, too.
fn count_lines(mut reader: impl BufRead) -> io::Result<u64> {
    let (mut lines, mut is_filled) = (0, false);
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(lines + u64::from(is_filled));
        }
        for (ends_before, piece) in buffer.split(|byte| *byte == b'\n').enumerate() {
            if ends_before > 0 {
                lines += u64::from(is_filled);
                is_filled = false;
            }
            is_filled |= !piece.trim_ascii().is_empty();
        }
        let read = buffer.len();
        reader.consume(read);
    }
}

fn file(args: &cli::Correct) -> Option<Named<'_>> {
    let path = args.input.as_deref()?;
    (path.as_os_str() != "-").then(|| Named::new("--input", path))
}

/// Whether a mapping begins with an item of a list, so that each line may be one.
fn maps_lists(fields: &FieldMap) -> bool {
    fields.question.as_slice().iter().any(|pointer| {
        let step = pointer.as_str().split('/').nth(1);
        step.is_some_and(|step| step.contains('=') || step.parse::<i64>().is_ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_as_they_are_handed_out() {
        for (text, lines) in [
            ("", 0),
            ("\n \r\n\n", 0),
            ("{}", 1),
            ("{}\n", 1),
            ("{}\n\n  \n{}", 2),
            ("  {}\r\n{}\n \t", 2),
        ] {
            for capacity in [1, 3, 64] {
                let reader = BufReader::with_capacity(capacity, text.as_bytes());
                let counted = count_lines(reader).expect("memory can be read");
                assert_eq!(counted, lines, "{text:?} by {capacity}");
            }
        }
    }

    #[test]
    fn a_mapping_into_lists_is_told_by_its_first_step() {
        for (question, lists) in [
            (&["/0/question"][..], true),
            (&["/-1/content"], true),
            (&["/role=user/content"], true),
            (&["/question", "/role=user/content"], true),
            (&["/messages/role=user/content"], false),
            (&["/question"], false),
        ] {
            let pointers = [("question", question), ("answer", &["/answer"])];
            let fields = pointers.map(|(name, pointers)| {
                let pointers = pointers.iter().map(|pointer| (*pointer).to_owned());
                (name.to_owned(), pointers.collect::<Vec<_>>())
            });
            let fields = FieldMap::try_from(std::collections::BTreeMap::from(fields));
            assert_eq!(
                maps_lists(&fields.expect("pointers")),
                lists,
                "{question:?}"
            );
        }
    }
}
