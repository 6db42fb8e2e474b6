//! What the examples and the benches that measure time share.

pub(crate) mod clock;
pub(crate) mod measurement;
pub(crate) mod page;
pub(crate) mod peak;
pub(crate) mod problem;
pub(crate) mod traffic;
pub(crate) mod triad;
pub(crate) mod workload;
