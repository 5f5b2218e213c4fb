//! `bench`: what it refuses before it measures anything. How fast something is, is no test.

use aligner_tests::{
    command::{Done, call},
    scratch::Scratch,
};

fn bench(arguments: &[&str]) -> Done {
    let done = call(&[&["bench"][..], arguments].concat());
    assert_eq!(done.stdout, "", "it was measured: {arguments:?}");
    done
}

fn queue(prompt: usize, output: usize) -> String {
    format!(r#"{{"requests": [{{"id": 7, "prompt_len": {prompt}, "out_len": {output}}}]}}"#)
}

#[test]
fn what_is_emitted_may_not_be_the_queue_by_any_name() {
    let scratch = Scratch::new("bench");
    let path = scratch.file("q.json", queue(4, 2)).display().to_string();
    let other = scratch.path().join("link.json").display().to_string();
    std::fs::hard_link(&path, &other).expect("one folder");
    for emit in [&path, &other] {
        let done = bench(&["--queue", &path, "--emit", emit]).expect_code(2);
        let said = format!("--emit {emit} is the file of --queue, too");
        assert!(done.stderr.contains(&said), "{}", done.stderr);
        let left = std::fs::read_to_string(&path).expect("the queue is still there");
        assert_eq!(left, queue(4, 2));
    }
}

#[test]
fn sizes_out_of_range_are_2_and_told_the_range() {
    for (flag, value, range) in [
        ("--slots", "0", "give 1 to 256"),
        ("--slots", "257", "give 1 to 256"),
        ("--prompt-tokens", "0", "give 1 to "),
        ("--prompt-tokens", "99999", "give 1 to "),
        ("--new-tokens", "0", "give 1 to "),
    ] {
        let done = bench(&[flag, value]).expect_code(2);
        for expected in [&format!("{flag} {value}")[..], range] {
            assert!(done.stderr.contains(expected), "{}", done.stderr);
        }
    }
}

#[test]
fn kernels_that_do_not_exist_are_2_with_those_that_do() {
    let done = bench(&["--kernels", "sse"]).expect_code(2);
    for expected in ["--kernels sse", "portable"] {
        assert!(done.stderr.contains(expected), "{}", done.stderr);
    }
}

#[test]
fn a_request_that_does_not_fit_is_named_by_its_id() {
    let scratch = Scratch::new("bench");
    for (prompt, output) in [(0, 4), (4, 0), (99_999, 1)] {
        let path = scratch.file("q.json", queue(prompt, output));
        let path = path.display().to_string();
        let done = bench(&["--queue", &path]).expect_code(2);
        let said = format!("request 7 has prompt_len {prompt} and out_len {output}");
        assert!(done.stderr.contains(&said), "{}", done.stderr);
    }
}

#[test]
fn files_that_cannot_be_opened_are_named_with_their_option() {
    let scratch = Scratch::new("bench");
    let path = scratch.file("q.json", queue(4, 2)).display().to_string();
    let absent = scratch.path().join("absent/out").display().to_string();
    for (arguments, said) in [
        (&["--queue", &absent][..], "--queue"),
        (&["--queue", &path, "--emit", &absent][..], "--emit"),
    ] {
        let done = bench(arguments).expect_code(1);
        let said = format!("{said} {absent} cannot be");
        assert!(done.stderr.contains(&said), "{}", done.stderr);
    }
}
