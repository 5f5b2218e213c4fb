//! The command line as users' scripts rely on it: what goes to stdout, what to stderr, and the
//! exit code. And that no text of theirs leaks into what operators collect.

mod bench;
mod canary;
mod configuration;
mod correct;
mod correct_config;
mod correct_endings;
mod correct_output;
mod correct_raw;
mod demo;
mod eval;
mod first_steps;
mod general;
mod interrupted;
mod keys;
mod replay;
mod retrain;
mod show;
mod train;
