//! Where lines go: a file or stdout, by the name that messages have for it.

use std::{
    fmt,
    io::{self, Write},
};

/// An output of whole lines.
pub struct LineOutput {
    name: String,
    writer: Box<dyn Write + Send>,
}

impl LineOutput {
    /// The output that is called so, such as `--output FILE`.
    pub fn new(name: String, writer: Box<dyn Write + Send>) -> Self {
        Self { name, writer }
    }

    /// Writes a line and its end; whoever reads along has it at once.
    ///
    /// # Errors
    /// If it cannot be written; a part of it may have been.
    pub fn line(&mut self, line: &[u8]) -> Result<(), Unwritten> {
        self.write(line).map_err(|error| Unwritten {
            output: self.name.clone(),
            error,
        })
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        self.writer.write_all(line)?;
        self.writer.write_all(b"\n")?;
        self.writer.flush()
    }
}

/// Which output a line could not be written to, and why.
#[derive(Debug)]
pub struct Unwritten {
    output: String,
    error: io::Error,
}

impl Unwritten {
    /// Whether nobody reads there any more; a file does not end so.
    pub fn is_unread(&self) -> bool {
        self.error.kind() == io::ErrorKind::BrokenPipe
    }
}

impl fmt::Display for Unwritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot be written: {}", self.output, self.error)
    }
}
