//! What the examples share: reading images and drawing results.

pub(crate) mod font;
pub(crate) mod panel;
pub(crate) mod raster;
pub(crate) mod read;
