//! Folders for what a test leaves on disk: data that goes, and logs that stay after a failure.
//!
//! Everything lies under `target/test-run/<pid>-<n>-<name>`. A folder is removed when its owner
//! is dropped, unless the thread is panicking: then its path is printed and it stays for reading,
//! with the data of all brokers of that process. Shared fixtures are never dropped; the next test
//! process clears what dead ones left.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

/// The workspace's root.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests crate lies in a folder of the workspace")
        .to_path_buf()
}

/// Where downloads and test runs are kept: the workspace's `target`, whatever cargo's is.
pub fn downloads() -> PathBuf {
    std::env::var_os("ALIGNER_TEST_DOWNLOADS")
        .map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// A folder of this test process.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

/// How long logs and data of a failed run are kept.
const KEEP_FAILURES: Duration = Duration::from_secs(24 * 3600);

impl Scratch {
    /// A fresh, empty folder.
    pub fn new(name: &str) -> Self {
        static SWEEP: Once = Once::new();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let root = workspace().join("target/test-run");
        SWEEP.call_once(|| sweep(&root));
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = root.join(format!("{}-{number}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("the target folder is writable");
        Self { path }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file and gives its path.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path.join(name);
        fs::write(&path, content).expect("the test's own folder is writable");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if thread::panicking() {
            if let Some(root) = self.path.parent() {
                // Where it cannot be written, the logs are still kept.
                let _ = fs::create_dir_all(failure_mark(root, &std::process::id().to_string()));
            }
            eprintln!("kept for reading: {}", self.path.display());
        } else {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// The folder whose being there says that a test of this process failed.
fn failure_mark(root: &Path, pid: &str) -> PathBuf {
    root.join(format!("{pid}-failed"))
}

/// Removes data of processes that are gone, unless a test of theirs failed, and everything of
/// theirs once it is old.
fn sweep(root: &Path) {
    let Ok(entries) = fs::read_dir(root) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.split('-').next()) else {
            continue;
        };
        if Path::new("/proc").join(pid).exists() {
            continue;
        }
        let age = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .ok()
            .and_then(|modified| SystemTime::now().duration_since(modified).ok());
        if age.is_some_and(|age| age > KEEP_FAILURES) {
            let _ = fs::remove_dir_all(entry.path());
        } else if !failure_mark(root, pid).exists()
            && let Ok(children) = fs::read_dir(entry.path())
        {
            for child in children.flatten() {
                if child.file_name().to_string_lossy().starts_with("data") {
                    let _ = fs::remove_dir_all(child.path());
                }
            }
        }
    }
}
