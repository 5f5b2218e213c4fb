//! A mistake of librdkafka 2.12.1, mended for whatever links this crate: it takes memory that nothing was
//! written to for leaders of partitions.
//!
//! A broker that no longer leads a partition says in its fetch reply who does (KIP-951). Where it does not
//! know, as for a moment after a broker came back, librdkafka leaves the partition out of what it has learnt,
//! but counts it, and then takes whatever lay in memory for a partition, a leader and an epoch. A negative number makes it
//! write before an array, and the process ends with SIGSEGV (confluentinc/librdkafka#5280, open). `build.rs` says how
//! the one line that is missing comes into the program; with a librdkafka that has it, the build says so, and this crate
//! can go.
//!
//! Deliberately absent: any other change to librdkafka.

use rdkafka_sys as _;
