//! Diffeomorphic image registration with region-specific metrics.
pub mod error;
pub mod evaluate;
pub mod field;
pub mod grid;
pub mod kernel;
pub mod labels;
pub mod ops;
mod par;
pub mod scalar;
pub mod similarity;
pub mod space;
pub mod testing;

pub use error::{Error, Result};
pub use scalar::Real;
