//! Lines of an input, one at a time.

use std::io::{self, BufRead, Read};

/// What lines are read from.
pub type Input = Box<dyn BufRead + Send>;

/// Longest line that is read; of a longer answer event `correct` makes a dead letter.
pub const MAX_LINE_BYTES: usize = 64 << 20;

/// The next line with its end. Of one that is too long so much is kept as tells that it is, since
/// a file without line breaks may be larger than the memory.
///
/// # Errors
/// If the input cannot be read.
pub fn read_line(input: &mut Input) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let limit = MAX_LINE_BYTES as u64 + 1;
    let read = input.by_ref().take(limit).read_until(b'\n', &mut line)?;
    if line.len() > MAX_LINE_BYTES && line.last() != Some(&b'\n') {
        input.skip_until(b'\n')?;
    }
    Ok((read > 0).then_some(line))
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Cursor};

    use super::*;

    #[test]
    fn a_line_without_end_is_cut_and_the_next_one_is_whole() {
        let endless = io::repeat(b'x').take(3 * MAX_LINE_BYTES as u64);
        let text = endless.chain(Cursor::new("\nnext\n"));
        let mut input: Input = Box::new(BufReader::new(text));
        let line = read_line(&mut input).expect("readable").expect("a line");
        assert_eq!(line.len(), MAX_LINE_BYTES + 1);
        let line = read_line(&mut input).expect("readable");
        assert_eq!(line.as_deref(), Some(&b"next\n"[..]));
        assert_eq!(read_line(&mut input).expect("readable"), None);
    }
}
