//! Reads the repository as its checks see it: the tracked files, and what Cargo says of the
//! packages.
//!
//! Deliberately absent: the product. Nothing here depends on a crate of `connector/`, so these
//! checks compile in seconds and hold even while the product does not build.

mod cargo;
mod tree;

pub use cargo::{Package, workspace_packages};
pub use tree::{SourceFile, root, tracked_files};
