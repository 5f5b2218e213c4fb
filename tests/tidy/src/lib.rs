//! Reads the repository as its checks see it: the tracked files, and what Cargo says of the
//! packages. Writes the notices that the program's distributors owe, too.
//!
//! Deliberately absent: the product. Nothing here depends on a crate of `connector/`, so these
//! checks compile in seconds and hold even while the product does not build.

mod cargo;
mod notices;
mod tree;

pub use cargo::{Crate, Package, cargo, host, linked_crates, workspace_packages};
pub use notices::third_party;
pub use tree::{SourceFile, binary_files, root, tracked_files};
