//! What networks, brokers and machines do to a connector, one fault at a time, each at an exact
//! moment: exactly once through all of it.
//!
//! `matrix` enumerates every transactional request and everything that can happen to it; the
//! other files tell the longer stories. Cells of the matrix that `make test` leaves out run in
//! `make test-faults`.

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
mod unreadable;
mod zombies;
