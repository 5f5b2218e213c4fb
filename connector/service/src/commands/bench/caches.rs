//! The processor's last-level cache: what fits there is not read at the speed of memory.

use std::{fs, path::Path};

/// One processor's caches, where Linux describes them.
const FOLDER: &str = "/sys/devices/system/cpu/cpu0/cache";

/// Its bytes, where the system tells.
pub(super) fn last_level_bytes() -> Option<usize> {
    last_level(Path::new(FOLDER))
}

fn last_level(folder: &Path) -> Option<usize> {
    let cache = |folder: &Path| {
        let text = |name: &str| fs::read_to_string(folder.join(name)).ok();
        let level: u32 = text("level")?.trim().parse().ok()?;
        Some((level, bytes(text("size")?.trim())?))
    };
    fs::read_dir(folder)
        .ok()?
        .flatten()
        .filter_map(|entry| cache(&entry.path()))
        .max()
        .map(|(_, bytes)| bytes)
}

/// `32768K` and the like.
fn bytes(size: &str) -> Option<usize> {
    let (number, unit) = match size.as_bytes().last()? {
        b'K' => (&size[..size.len() - 1], 1 << 10),
        b'M' => (&size[..size.len() - 1], 1 << 20),
        _ => (size, 1),
    };
    number.parse::<usize>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_of_the_highest_level_counts() {
        let folder = tempfile::tempdir().expect("temporary folder");
        for (index, level, size) in [
            ("index0", "1\n", "32K\n"),
            ("index2", "2\n", "1M\n"),
            ("index3", "3\n", "32768K\n"),
        ] {
            let index = folder.path().join(index);
            fs::create_dir(&index).expect("made");
            fs::write(index.join("level"), level).expect("written");
            fs::write(index.join("size"), size).expect("written");
        }
        fs::write(folder.path().join("uevent"), "").expect("written");
        assert_eq!(last_level(folder.path()), Some(32 << 20));
        assert_eq!(last_level(&folder.path().join("absent")), None);
    }

    #[test]
    fn sizes_are_read_as_linux_writes_them() {
        for (text, size) in [
            ("48K", Some(48 << 10)),
            ("2M", Some(2 << 20)),
            ("512", Some(512)),
            ("", None),
            ("K", None),
        ] {
            assert_eq!(bytes(text), size, "{text}");
        }
    }
}
