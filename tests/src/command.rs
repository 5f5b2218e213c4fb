//! The binary as a person calls it: arguments and stdin in, stdout, stderr and an exit code out.

use std::{
    io::Write,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::connector::binary;

/// How long a command may take.
const LIMIT: Duration = Duration::from_secs(240);

/// What a command did.
#[derive(Debug, Clone)]
pub struct Done {
    /// Exit code; -1 if a signal ended it.
    pub code: i32,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl Done {
    /// Stdout as JSON Lines.
    #[track_caller]
    pub fn records(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .map(|line| {
                serde_json::from_str(line)
                    .unwrap_or_else(|error| panic!("stdout holds {line:?}, no JSON: {error}"))
            })
            .collect()
    }

    /// Panics unless it ended with `code`.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "stdout:\n{}\nstderr:\n{}",
            self.stdout, self.stderr
        );
        self
    }
}

/// Starts `aligner-connector` with pipes, for those who talk with it while it runs.
#[track_caller]
pub fn spawn(environment: &[(&str, &str)], arguments: &[&str]) -> Child {
    Command::new(binary())
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary can be started")
}

/// Calls `aligner-connector` with `arguments` and no stdin.
#[track_caller]
pub fn call(arguments: &[&str]) -> Done {
    call_with(arguments, "")
}

/// Calls `aligner-connector` with `arguments` and `input` on stdin.
#[track_caller]
pub fn call_with(arguments: &[&str], input: impl AsRef<[u8]>) -> Done {
    call_in(&[], arguments, input)
}

/// The same, with environment variables.
#[track_caller]
pub fn call_in(environment: &[(&str, &str)], arguments: &[&str], input: impl AsRef<[u8]>) -> Done {
    let started = Instant::now();
    let mut child = spawn(environment, arguments);
    let mut stdin = child.stdin.take().expect("stdin was asked for");
    let pid = libc::pid_t::try_from(child.id()).expect("pids fit their own type");
    let input = input.as_ref().to_vec();
    let writer = thread::spawn(move || {
        // A command that does not read all of its input is judged by what it says.
        let _ = stdin.write_all(&input);
    });
    let (done, ended) = std::sync::mpsc::sync_channel::<()>(1);
    let guard = thread::spawn(move || {
        if ended.recv_timeout(LIMIT).is_err() {
            // SAFETY: the child is waited for only after this thread was told to end, so the pid
            // is still its own.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            eprintln!("a command was ended after {LIMIT:?}");
        }
    });
    // Reads both pipes to their end; a child that is killed closes them.
    let output = child
        .wait_with_output()
        .expect("our own child can be waited for");
    let _ = done.send(());
    guard.join().expect("the guard does not panic");
    writer.join().expect("writing does not panic");
    Done {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).expect("stdout is text"),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        took: started.elapsed(),
    }
}
