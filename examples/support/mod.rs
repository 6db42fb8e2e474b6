//! What the examples share: reading images, running a registration, drawing results and
//! measuring time.

pub(crate) mod arguments;
pub(crate) mod case;
pub(crate) mod clock;
pub(crate) mod font;
pub(crate) mod measurement;
pub(crate) mod outcome;
pub(crate) mod page;
pub(crate) mod panel;
pub(crate) mod peak;
pub(crate) mod problem;
pub(crate) mod raster;
pub(crate) mod read;
pub(crate) mod regional;
pub(crate) mod traffic;
pub(crate) mod triad;
pub(crate) mod workload;
