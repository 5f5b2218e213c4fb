//! What a panic says on stderr: which thread it was and where, and a message only where that was
//! written into the code.
//!
//! Rust prints whatever message a panic has. One that was put together at run time may quote a text:
//! a slice beside the border of a character has the whole string in it, an index that is too large a byte of
//! it, and the library that reads a tokenizer does both. Where it happened is enough to find it.

use std::{
    any::Any,
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, Write},
    panic::{self, Location},
    thread,
};

/// Takes the place of Rust's own report, for all threads.
pub fn report_without_texts() {
    panic::set_hook(Box::new(|panic| {
        let thread = thread::current();
        let report = report(
            thread.name().unwrap_or("<unnamed>"),
            panic.location(),
            panic.payload(),
        );
        // As RUST_BACKTRACE asks for it.
        let backtrace = Backtrace::capture();
        let mut stderr = io::stderr().lock();
        // Whoever closed stderr does not read it, and to panic here would abort.
        let _ = writeln!(stderr, "{report}");
        if backtrace.status() == BacktraceStatus::Captured {
            let _ = writeln!(stderr, "{backtrace}");
        }
    }));
}

fn report(thread: &str, location: Option<&Location<'_>>, payload: &(dyn Any + Send)) -> String {
    let place = location.map_or_else(|| "an unknown place".to_owned(), Location::to_string);
    // What is formatted is a `String`, a literal is not.
    let message = payload
        .downcast_ref::<&'static str>()
        .unwrap_or(&"its message is left out, because it may quote a text");
    format!("thread '{thread}' panicked at {place}: {message}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANARY: &str = "zq-canary-zq";

    #[test]
    fn a_panic_tells_where_it_was_and_nothing_that_was_put_together_from_texts() {
        let here = Location::caller();
        let told = |payload: &(dyn Any + Send)| report("tokenizer", Some(here), payload);
        let place = format!("thread 'tokenizer' panicked at {here}: ");
        assert!(place.contains("panics.rs:"), "{place}");
        assert_eq!(told(&"no such page"), format!("{place}no such page"));
        let left_out = format!("{place}its message is left out, because it may quote a text");
        assert_eq!(told(&CANARY.to_owned()), left_out);
        assert_eq!(told(&7), left_out);
        // As the language and the standard library make them.
        let slice = panic::catch_unwind(|| String::from(&format!("ä{CANARY}")[1..]));
        assert_eq!(told(&*slice.expect_err("no border")), left_out);
        let result = panic::catch_unwind(|| {
            let number = CANARY.parse::<u32>();
            number.map_err(|_| CANARY).expect("a number")
        });
        assert_eq!(told(&*result.expect_err("an error")), left_out);
    }
}
