//! The recipe that made the bundled model: its scripts have tests of their own.

use std::process::Command;

use aligner_tests::scratch::workspace;

use crate::python;

#[test]
fn the_scripts_that_trained_the_bundled_model_pass_their_own_tests() {
    let done = Command::new(python())
        .args(["-B", "-m", "unittest", "test_recipe"])
        .current_dir(workspace().join("connector/bundled/training"))
        .output()
        .expect("the interpreter starts");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    assert!(!said.contains("Ran 0 tests"), "{said}");
}
