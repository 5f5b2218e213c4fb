//! A command that is interrupted with its first line done, while more may follow.

use std::io::{BufRead, BufReader, Read, Write};

use aligner_tests::command::spawn;

/// What became of it.
pub struct Interrupted {
    /// The line that it wrote before.
    pub first: String,
    pub code: Option<i32>,
    pub stderr: String,
}

/// Gives `input` to a command, waits for its first line, and sends SIGINT. Its stdin stays open until it
/// has ended.
#[track_caller]
pub fn after_first_line(arguments: &[&str], input: &str) -> Interrupted {
    let mut child = spawn(&[], arguments);
    let mut stdin = child.stdin.take().expect("stdin was asked for");
    stdin
        .write_all(input.as_bytes())
        .expect("the command reads its input");
    let mut stdout = BufReader::new(child.stdout.take().expect("stdout was asked for"));
    let mut first = String::new();
    stdout
        .read_line(&mut first)
        .expect("a line is written while more may follow");
    let pid = libc::pid_t::try_from(child.id()).expect("pids fit their own type");
    // SAFETY: the child is waited for below, so the pid is still its own.
    unsafe { libc::kill(pid, libc::SIGINT) };
    let mut stderr = String::new();
    child
        .stderr
        .take()
        .expect("stderr was asked for")
        .read_to_string(&mut stderr)
        .expect("stderr is text");
    let status = child.wait().expect("our own child can be waited for");
    drop(stdin);
    Interrupted {
        first,
        code: status.code(),
        stderr,
    }
}
