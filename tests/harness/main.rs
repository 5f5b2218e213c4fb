//! The harness proves itself: an oracle that cannot fail proves nothing, and neither does a proxy
//! that loses no answers.

mod books;
mod diagnosis;
mod faults;
mod parts;
