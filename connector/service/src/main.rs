//! `aligner-connector`: see `aligner-connector --help`.

use std::process::ExitCode;

/// Every operation of the model allocates and frees large buffers: with the system's allocator a
/// fifth to a half of prefill time goes to page faults.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    aligner_service::main()
}
