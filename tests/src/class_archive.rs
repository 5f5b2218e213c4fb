//! Kafka's classes, loaded and verified once for all brokers of the tests: an archive that Java maps into
//! memory (JEP 350), with which a broker starts with three fifths of the work.
//!
//! It lies beside the jars and is made by the first broker that a test program starts. One that does not fit the
//! Java or the jars any more is passed over by Java, in silence, and brokers start as slowly as without.

use std::{
    fs::{self, File},
    panic,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use crate::kafka::{self, Kafka, Options};

/// Java's option to use the archive; none where it could not be made.
pub(crate) fn option() -> Option<&'static str> {
    static OPTION: OnceLock<Option<String>> = OnceLock::new();
    let option = OPTION.get_or_init(|| {
        let archive = kafka::libraries().join(format!("classes-{:08x}.jsa", key()));
        match made(&archive) {
            Ok(()) => Some(format!("-XX:SharedArchiveFile={}", archive.display())),
            Err(cause) => {
                eprintln!("brokers start slowly, without an archive of their classes: {cause}");
                None
            }
        }
    });
    option.as_deref()
}

/// Another one for other jars.
fn key() -> u32 {
    crc32fast::hash(kafka::class_path().as_bytes())
}

/// Makes the archive, unless some process has.
fn made(archive: &Path) -> Result<(), String> {
    let doing = |what: &str, error: std::io::Error| format!("{what}: {error}");
    let lock = File::create(archive.with_extension("lock")).map_err(|e| doing("its lock", e))?;
    lock.lock().map_err(|e| doing("its lock", e))?;
    if archive.exists() {
        return Ok(());
    }
    let staging: PathBuf = archive.with_extension("new");
    let _ = fs::remove_file(&staging);
    let java = kafka::SMALL_JAVA.map(str::to_owned).into_iter();
    let java = java.chain([format!("-XX:ArchiveClassesAtExit={}", staging.display())]);
    let options = Options {
        java: java.collect(),
        ..Options::plain()
    };
    // It writes the archive as it ends. What keeps it from that keeps no test from running.
    panic::catch_unwind(|| Kafka::with(options).stop(1))
        .map_err(|_| "its broker failed, see above".to_owned())?;
    fs::rename(&staging, archive).map_err(|e| doing("its archive", e))
}
