//! Compiles one file of librdkafka again, mended, to be linked in place of the one in its archive.
//!
//! An archive's member is linked only where it defines a name that nothing has defined yet. The mended file
//! defines all names of the member, and is linked as a whole and first, so that the member stays out.

#![expect(
    clippy::disallowed_methods,
    reason = "a build script is told everything by the environment"
)]

use std::{
    env, fs,
    path::{Path, PathBuf},
};

const FILE: &str = "rdkafka_fetcher.c";

/// Where partitions of a topic whose leader a broker tells are copied out of a fetch reply, those without one left out.
const BEFORE: &str = "
                                changed_partition++;
                        }
                        changed_topic++;
";

/// What was left out is not counted either.
const AFTER: &str = "
                                changed_partition++;
                        }
                        md->topics[changed_topic].partition_cnt =
                            changed_partition;
                        changed_topic++;
";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let folder = |name| PathBuf::from(env::var_os(name).expect("cargo names this folder"));
    let (librdkafka, out) = (folder("DEP_RDKAFKA_ROOT"), folder("OUT_DIR"));
    let original = librdkafka.join("src").join(FILE);
    let text = read(&original);
    assert_eq!(
        text.matches(BEFORE).count(),
        1,
        "{} is not what connector/librdkafka-patch mends; if this librdkafka counts what it fills in \
         rd_kafka_handle_Fetch_metadata_update, remove that crate, else adapt its build.rs",
        original.display()
    );
    let mended = out.join(FILE);
    fs::write(&mended, text.replace(BEFORE, AFTER)).expect("cargo's folder can be written");
    let config = read(&librdkafka.join("Makefile.config"));
    cc::Build::new()
        .file(mended)
        .include(librdkafka.join("src"))
        // Sizes and offsets in its headers follow from what is on or off, and from others' headers.
        .no_default_flags(true)
        .flags(flags(&config))
        .warnings(false)
        .cargo_metadata(false)
        .compile("rdkafka_fetcher");
    println!("cargo:rustc-link-search=native={}", out.display());
    println!("cargo:rustc-link-lib=static:+whole-archive=rdkafka_fetcher");
}

fn read(path: &Path) -> String {
    fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("{} cannot be read: {error}", path.display()))
}

/// What the other files were compiled with, as `configure` wrote it down.
fn flags(makefile: &str) -> impl Iterator<Item = &str> {
    let lines = makefile.lines().filter_map(|line| line.split_once("+="));
    lines
        .filter(|(name, _)| ["CFLAGS", "CPPFLAGS"].contains(name))
        .flat_map(|(_, flags)| flags.split_whitespace())
}
