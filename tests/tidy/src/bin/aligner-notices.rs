//! Writes what has to go along with a compiled connector that is passed on: `LICENSE`, its own;
//! `THIRD-PARTY.txt`, of the crates and C libraries that are linked into it; and
//! `RUST-STANDARD-LIBRARY.html`, which the toolchain brings along.
//!
//!     aligner-notices FOLDER [FEATURE]...
//!
//! `FEATURE` is one that it was built with, such as `aligner-service/cuda`. The OpenSSL and the C
//! library that it uses are the system's, and are not part of it.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use aligner_tidy::{linked_crates, root, third_party};

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let Some((folder, features)) = arguments.split_first() else {
        eprintln!("error: no folder to write to\n  fix: aligner-notices FOLDER [FEATURE]...");
        return ExitCode::from(2);
    };
    let features: Vec<_> = features.iter().map(String::as_str).collect();
    match write(Path::new(folder), &features) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(folder: &Path, features: &[&str]) -> io::Result<()> {
    let own = root().join("LICENSE");
    let licence = fs::read_to_string(&own).map_err(|error| about(&own, &error))?;
    let notices = third_party(&linked_crates("aligner-service", features), &licence)?;
    fs::create_dir_all(folder).map_err(|error| about(folder, &error))?;
    for (name, text) in [("LICENSE", licence), ("THIRD-PARTY.txt", notices)] {
        let file = folder.join(name);
        fs::write(&file, text).map_err(|error| about(&file, &error))?;
    }
    let standard_library = standard_library()?;
    let file = folder.join("RUST-STANDARD-LIBRARY.html");
    fs::copy(&standard_library, file).map_err(|error| {
        let what = about(&standard_library, &error);
        io::Error::new(
            error.kind(),
            format!("{what}\n  fix: use rustup's toolchain, which has it"),
        )
    })?;
    Ok(())
}

fn about(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The notices of the standard library and of what it is linked with.
fn standard_library() -> io::Result<PathBuf> {
    let output = Command::new("rustc")
        .args(["--print", "sysroot"])
        .current_dir(root())
        .output()?;
    let sysroot = String::from_utf8_lossy(&output.stdout);
    Ok(Path::new(sysroot.trim()).join("share/doc/rust/COPYRIGHT-library.html"))
}
