//! What the examples share: reading images, running a registration and drawing results.

pub(crate) mod arguments;
pub(crate) mod case;
pub(crate) mod font;
pub(crate) mod outcome;
pub(crate) mod panel;
pub(crate) mod raster;
pub(crate) mod read;
pub(crate) mod regional;
