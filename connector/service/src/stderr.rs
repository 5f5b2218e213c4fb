//! What commands say beside their output.

use std::{
    fmt::Arguments,
    io::{self, Write},
};

/// Writes a line to stderr; where nobody reads it, see [`write_line`].
macro_rules! tell {
    ($($line:tt)*) => {
        $crate::stderr::write_line(format_args!($($line)*))
    };
}

pub(crate) use tell;

/// Writes a line to stderr. Where that is closed, or a terminal that is gone, the work goes on all the same:
/// `eprintln!` would panic, and a training of hours end with it.
pub(crate) fn write_line(line: Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
}
