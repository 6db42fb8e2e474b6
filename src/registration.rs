//! From two images to a map.
pub mod pyramid;
