//! What the examples and the benches that measure time share.

pub mod clock;
pub mod measurement;
pub mod page;
pub mod peak;
pub mod problem;
pub mod traffic;
pub mod triad;
pub mod workload;
