//! A command that is interrupted: with its first line done, while more may follow, or with nobody who reads what
//! it writes.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::fd::AsRawFd,
    process::ExitStatus,
    time::Duration,
};

use aligner_tests::{command::spawn, process::Signal, wait};

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
    Signal::Int.send(&child);
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

/// Gives a file to a command that has one thread for all that waits, leaves its output unread until the pipe
/// takes no more, and sends SIGINT until it ends.
#[track_caller]
pub fn unread_on_one_thread(arguments: &[&str]) -> ExitStatus {
    const LIMIT: Duration = Duration::from_secs(30);
    let mut child = spawn(&[("TOKIO_WORKER_THREADS", "1")], arguments);
    let stdout = child.stdout.take().expect("stdout was asked for");
    let unread = || {
        let mut bytes: libc::c_int = 0;
        // SAFETY: the pipe is open, and the number is ours.
        let asked = unsafe { libc::ioctl(stdout.as_raw_fd(), libc::FIONREAD, &mut bytes) };
        assert_eq!(asked, 0, "a pipe tells what it holds");
        bytes
    };
    // It has room for sixteen pages, some of which are not filled, and a write that does not fit waits.
    let mut before = 0;
    wait::until("a full pipe", LIMIT, || {
        let now = unread();
        now > 16_384 && now == std::mem::replace(&mut before, now)
    });
    let mut ended = None;
    wait::until("its end", LIMIT, || {
        ended = child.try_wait().expect("our own child can be waited for");
        if ended.is_none() {
            Signal::Int.send(&child);
        }
        ended.is_some()
    });
    ended.expect("it ended")
}
