//! What networks, brokers and machines do to a connector, one fault at a time, each at an exact
//! moment: exactly once through all of it, or at least once where that is what was asked for.
//!
//! `matrix` enumerates every transactional request and everything that can happen to it; the
//! other files tell the longer stories. What needs a machine to itself, or many minutes, is left to
//! `make failover` and `make overload`.

mod at_least_once;
mod cluster;
mod failover;
mod identity;
mod machine;
mod matrix;
mod metrics;
mod overload;
mod shown_empty;
mod sigterm;
mod topics;
mod twice;
mod unreadable;
mod zombies;
