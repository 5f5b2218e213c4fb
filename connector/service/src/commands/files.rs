//! Files that a command reads and writes, by the options that name them.
//!
//! A command does not write over what it reads. A file may have several names, by links or by the way
//! that a path takes, so files are compared and not paths.

use std::{
    fmt,
    fs::{File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::anyhow;

use crate::{commands::Usage, config};

/// A file, and the option that names it.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    option: &'static str,
    path: &'a Path,
}

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.option, self.path.display())
    }
}

impl<'a> Named<'a> {
    /// The file at `path`, as `option` names it.
    pub fn new(option: &'static str, path: &'a Path) -> Self {
        Self { option, path }
    }

    /// Where it lies.
    pub fn path(self) -> &'a Path {
        self.path
    }

    /// Opens it to read.
    ///
    /// # Errors
    /// If it cannot be read, or is a folder, which opens like a file and fails at the first line.
    pub fn open(self) -> anyhow::Result<File> {
        let file = File::open(self.path)
            .map_err(|error| self.fault("opened", &error, "check the path"))?;
        if file.metadata().is_ok_and(|found| found.is_dir()) {
            return Err(self.folder_fault());
        }
        Ok(file)
    }

    /// The error for whoever else could not read it.
    pub fn unreadable(self, error: &io::Error) -> anyhow::Error {
        match error.kind() {
            io::ErrorKind::IsADirectory => self.folder_fault(),
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => {
                self.fault("opened", error, "check the path")
            }
            _ => self.fault("read", error, "check the path"),
        }
    }

    /// The error for whoever else could not write it.
    pub fn unwritable(self, error: &io::Error) -> anyhow::Error {
        self.fault("written", error, "make its folder, or name another")
    }

    /// All of it.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(self) -> anyhow::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open()?
            .read_to_end(&mut bytes)
            .map_err(|error| self.fault("read", &error, "check the path"))?;
        Ok(bytes)
    }

    /// Makes it, empty.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn create(self) -> anyhow::Result<File> {
        self.writable(true)
    }

    /// Makes sure, before any work is done, that it can be written. What stands in it stays until
    /// [`emptied`].
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn reserve(self) -> anyhow::Result<File> {
        self.writable(false)
    }

    /// Makes sure of the same, and gives what is there; what is not is made when it is written. An
    /// empty file would pass for the work of a command that somebody interrupted.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn reserve_if_there(self) -> anyhow::Result<Option<File>> {
        let made = File::options()
            .write(true)
            .create_new(true)
            .open(self.path)
            .and_then(|_| std::fs::remove_file(self.path));
        match made {
            Ok(()) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.reserve().map(Some),
            Err(error) => Err(self.unwritable(&error)),
        }
    }

    fn writable(self, truncate: bool) -> anyhow::Result<File> {
        File::options()
            .write(true)
            .create(true)
            .truncate(truncate)
            .open(self.path)
            .map_err(|error| self.unwritable(&error))
    }

    fn folder_fault(self) -> anyhow::Error {
        anyhow!("{self} is a folder: name a file in it")
    }

    fn fault(self, done: &str, error: &io::Error, if_missing: &str) -> anyhow::Error {
        let fix = match error.kind() {
            io::ErrorKind::NotFound => if_missing,
            io::ErrorKind::PermissionDenied => "allow this user to, or name another file",
            io::ErrorKind::IsADirectory => "name a file in it",
            _ => "name another file",
        };
        anyhow!("{self} cannot be {done}: {error}; {fix}")
    }

    /// Refuses to be written if it is one of `others`.
    ///
    /// # Errors
    /// With the option that names it, too.
    pub fn refuse_if_among(self, others: &[Named<'_>]) -> Result<(), Usage> {
        let Some(own) = self.identity() else {
            return Ok(());
        };
        match others.iter().find(|other| other.identity() == Some(own)) {
            None => Ok(()),
            Some(other) => Err(self.also(*other)),
        }
    }

    /// Refuses to be written where `other` will be, though neither may be there yet.
    ///
    /// # Errors
    /// With the option that names it, too.
    pub fn refuse_if_with(self, other: Named<'_>) -> Result<(), Usage> {
        self.refuse_if_among(&[other])?;
        match (self.place(), other.place()) {
            (Some(own), Some(others)) if own == others => Err(self.also(other)),
            _ => Ok(()),
        }
    }

    fn also(self, other: Named<'_>) -> Usage {
        Usage(format!(
            "{self} is the file of {}, too: name another one",
            other.option
        ))
    }

    /// What tells a file from all others; nothing for devices, pipes, and what is not there.
    fn identity(self) -> Option<(u64, u64)> {
        let file = std::fs::metadata(self.path)
            .ok()
            .filter(Metadata::is_file)?;
        Some((file.dev(), file.ino()))
    }

    /// Where it will be made; nothing for what is there.
    fn place(self) -> Option<PathBuf> {
        if self.path.exists() {
            return None;
        }
        let folder = match self.path.parent()? {
            here if here.as_os_str().is_empty() => Path::new("."),
            folder => folder,
        };
        Some(folder.canonicalize().ok()?.join(self.path.file_name()?))
    }
}

/// Takes out of a reserved file what stood in it.
///
/// # Errors
/// If the system refuses.
pub fn emptied(file: File) -> io::Result<File> {
    // A pipe or a terminal holds nothing, and cannot be cut.
    if file.metadata()?.is_file() {
        file.set_len(0)?;
    }
    Ok(file)
}

/// What an Aligner is loaded from, where it is a file of its own.
pub fn of_aligner(settings: &config::Aligner) -> Vec<Named<'_>> {
    let profile = settings.profile.as_deref();
    let profile = profile.map(|path| Named::new("--profile", Path::new(path)));
    let model = settings.model.path();
    let model = model.map(|path| Named::new("--model", path));
    model.into_iter().chain(profile).collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write, os::unix::fs::symlink};

    use super::*;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("temporary folder");
        let file = folder.path().join("a");
        fs::write(&file, "text").expect("written");
        (folder, file)
    }

    #[test]
    fn a_file_is_told_by_itself_and_not_by_its_name() {
        let (folder, file) = folder();
        let at = |name: &str| folder.path().join(name);
        fs::hard_link(&file, at("hard")).expect("one folder");
        symlink(&file, at("soft")).expect("one folder");
        fs::write(at("other"), "text").expect("written");
        let input = Named::new("--input", &file);
        for same in ["a", "hard", "soft", "./a"] {
            let path = at(same);
            let error = Named::new("--output", &path)
                .refuse_if_among(&[input])
                .expect_err(same);
            let said = format!(
                "--output {} is the file of --input, too: name another one",
                path.display()
            );
            assert_eq!(error.to_string(), said);
        }
        for another in [at("other"), at("absent"), PathBuf::from("/dev/null")] {
            let device = Named::new("--input", Path::new("/dev/null"));
            Named::new("--output", &another)
                .refuse_if_among(&[input, device])
                .expect("another file, or none");
        }
    }

    #[test]
    fn two_files_that_are_not_there_yet_are_told_by_where_they_will_be() {
        let (folder, file) = folder();
        let absent = folder.path().join("b");
        let other = folder.path().join("./b");
        let output = Named::new("--output", &absent);
        let error = Named::new("--pairs", &other)
            .refuse_if_with(output)
            .expect_err("both would be one");
        let said = error.to_string();
        assert!(
            said.ends_with(" is the file of --output, too: name another one"),
            "{said}"
        );
        assert!(!absent.exists(), "asking makes nothing");
        let device = PathBuf::from("/dev/null");
        for (pairs, output) in [
            (&file, &absent),
            (&folder.path().join("c"), &absent),
            (&device, &device),
        ] {
            Named::new("--pairs", pairs)
                .refuse_if_with(Named::new("--output", output))
                .expect("two files, or none");
        }
    }

    #[test]
    fn a_file_that_is_only_asked_for_is_left_as_it_was() {
        let (folder, file) = folder();
        let absent = folder.path().join("b");
        let made = Named::new("--report", &absent).reserve_if_there();
        assert!(made.expect("it can be made").is_none());
        assert!(!absent.exists());
        let there = Named::new("--report", &file).reserve_if_there();
        assert!(there.expect("it can be written").is_some());
        assert_eq!(fs::read(&file).expect("readable"), b"text");
        for refused in [absent.join("c"), folder.path().to_owned()] {
            Named::new("--report", &refused)
                .reserve_if_there()
                .expect_err("it cannot be a file");
        }
    }

    #[test]
    fn a_reserved_file_keeps_what_it_holds_until_it_is_emptied() {
        let (_folder, path) = folder();
        let file = Named::new("--report", &path).reserve().expect("writable");
        assert_eq!(fs::read(&path).expect("readable"), b"text");
        let mut file = emptied(file).expect("a plain file");
        file.write_all(b"new").expect("writable");
        assert_eq!(fs::read(&path).expect("readable"), b"new");
    }

    #[test]
    fn what_cannot_be_opened_is_named_with_its_option_and_a_fix() {
        let (folder, file) = folder();
        let said = |outcome: anyhow::Result<File>| format!("{:#}", outcome.expect_err("refused"));
        let absent = folder.path().join("absent");
        let at = absent.display();
        assert_eq!(
            said(Named::new("--input", &absent).open()),
            format!(
                "--input {at} cannot be opened: No such file or directory (os error 2); check the \
                 path"
            )
        );
        let within = absent.join("out");
        let error = said(Named::new("--report", &within).reserve());
        assert!(
            error.ends_with("; make its folder, or name another"),
            "{error}"
        );
        let error = said(Named::new("--input", folder.path()).open());
        assert!(
            error.ends_with(" is a folder: name a file in it"),
            "{error}"
        );
        let error = said(Named::new("--output", folder.path()).create());
        assert!(error.ends_with("; name a file in it"), "{error}");
        let error = said(Named::new("--output", &file.join("out")).create());
        assert!(error.ends_with("; name another file"), "{error}");
    }
}
