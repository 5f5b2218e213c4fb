//! Child processes that cannot outlive the test: brokers, registries, connectors.
//!
//! The kernel kills a child when the *thread* that spawned it ends (`PR_SET_PDEATHSIG`), and
//! cargo runs every test on a thread of its own. So one thread that lives as long as the process
//! spawns them all: children end with the test process, even if that is killed with -9.

use std::{
    fs::File,
    io,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{OnceLock, mpsc},
    thread,
    time::Duration,
};

use crate::wait;

type Order = (Command, mpsc::SyncSender<io::Result<Child>>);

fn spawn_bound_to_this_process(mut command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<mpsc::SyncSender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, inbox) = mpsc::sync_channel::<Order>(8);
        thread::Builder::new()
            .name("spawner".into())
            .spawn(move || {
                for (mut command, reply) in inbox {
                    let _ = reply.send(command.spawn());
                }
            })
            .expect("a thread can be started");
        orders
    });
    // SAFETY: between fork and exec only signal and prctl are called, which are async-signal-safe and
    // take no memory of ours.
    unsafe {
        command.pre_exec(|| {
            // A shell that runs the tests in its background has its children ignore it.
            libc::signal(libc::SIGINT, libc::SIG_DFL);
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0 {
                Ok(())
            } else {
                Err(io::Error::last_os_error())
            }
        });
    }
    let (reply, answer) = mpsc::sync_channel(1);
    spawner
        .send((command, reply))
        .expect("the spawner lives as long as the process");
    answer.recv().expect("the spawner answers every order")
}

/// A signal that tests send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Die at once.
    Kill,
    /// Please finish.
    Term,
    /// Ctrl-C.
    Int,
    /// Freeze.
    Stop,
    /// Thaw.
    Cont,
}

impl Signal {
    /// Sends it to a child that was not waited for to its end, so that the pid is still its own.
    pub fn send(self, child: &Child) {
        let pid = libc::pid_t::try_from(child.id()).expect("pids fit their own type");
        // SAFETY: no memory is involved, and the pid is the child's, as the caller sees to.
        unsafe { libc::kill(pid, self.number()) };
    }

    fn number(self) -> libc::c_int {
        match self {
            Self::Kill => libc::SIGKILL,
            Self::Term => libc::SIGTERM,
            Self::Int => libc::SIGINT,
            Self::Stop => libc::SIGSTOP,
            Self::Cont => libc::SIGCONT,
        }
    }
}

/// A running child; killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with stdout and stderr appended to `log`.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Self {
        let out = File::options()
            .create(true)
            .append(true)
            .open(log)
            .expect("the test's own folder is writable");
        let err = out.try_clone().expect("a file handle can be duplicated");
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let program = command.get_program().to_owned();
        let child = spawn_bound_to_this_process(command)
            .unwrap_or_else(|error| panic!("start {name} ({program:?}): {error}"));
        Self {
            name: name.to_owned(),
            child,
            log: log.to_path_buf(),
        }
    }

    /// Sends a signal; a process that is gone already is left alone.
    pub fn signal(&mut self, signal: Signal) {
        if self.exited().is_some() {
            return;
        }
        signal.send(&self.child);
    }

    /// Its exit status, if it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child
            .try_wait()
            .expect("our own child can be waited for")
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("the end of {} (log: {})", self.name, self.log.display());
        wait::for_value(&what, limit, || self.exited())
    }

    /// Kills it with -9 and waits until it is gone.
    pub fn kill(&mut self) {
        if self.exited().is_none() {
            // A frozen process dies of SIGKILL all the same.
            self.signal(Signal::Kill);
            let _ = self.child.wait();
        }
    }

    /// Lets none of its files grow beyond `bytes` from now on.
    pub fn limit_files(&self, bytes: u64) {
        let pid = libc::pid_t::try_from(self.child.id()).expect("pids fit their own type");
        let limit = libc::rlimit {
            rlim_cur: bytes,
            rlim_max: libc::RLIM_INFINITY,
        };
        // SAFETY: the limit lives through the call, and the old one is not asked for.
        let result = unsafe {
            libc::prlimit(
                pid,
                libc::RLIMIT_FSIZE,
                &raw const limit,
                std::ptr::null_mut(),
            )
        };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in bytes, if it still runs.
    pub fn resident_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib * 1024)
    }

    /// Everything it has written so far.
    pub fn log(&self) -> String {
        read_log(&self.log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A log file as text; bytes that are not UTF-8 are shown as replacement characters.
pub fn read_log(path: &Path) -> String {
    std::fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

/// What ended the process: its code, or the signal's number.
pub fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown ending".to_owned(),
    }
}
