//! The command line as users' scripts rely on it: what goes to stdout, what to stderr, and the
//! exit code. And that no text of theirs leaks into what operators collect.

mod canary;
mod configuration;
mod correct;
mod demo;
mod general;
mod train;
