//! Compiles the CUDA kernels, if the feature `cuda` is on, with the nvcc that `NVCC` names or that is found in
//! `CUDA_HOME` or on the path.

#![expect(
    clippy::disallowed_methods,
    reason = "a build script is told everything by the environment"
)]

use std::{env, path::Path, process::Command};

/// Devices from Ampere on; the driver compiles the rest of the way.
const ARCHITECTURE: &str = "compute_80";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    const SOURCE: &str = "src/cuda/kernels.cu";
    println!("cargo:rerun-if-changed={SOURCE}");
    println!("cargo:rerun-if-env-changed=NVCC");
    println!("cargo:rerun-if-env-changed=CUDA_HOME");
    let nvcc = env::var("NVCC").unwrap_or_else(|_| match env::var("CUDA_HOME") {
        Ok(home) => format!("{home}/bin/nvcc"),
        Err(_) => "nvcc".to_owned(),
    });
    let folder = env::var("OUT_DIR").expect("cargo names a folder");
    let status = Command::new(&nvcc)
        .args(["-ptx", "-O3", "-std=c++17", "-arch", ARCHITECTURE, "-o"])
        .arg(Path::new(&folder).join("kernels.ptx"))
        .arg(SOURCE)
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("{nvcc} on {SOURCE}: {status}"),
        Err(error) => panic!(
            "the feature cuda needs NVIDIA's compiler, and {nvcc} does not run: {error}; set \
             CUDA_HOME or NVCC, or run make cuda, which fetches one"
        ),
    }
}
