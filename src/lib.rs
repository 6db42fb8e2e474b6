//! Diffeomorphic image registration with region-specific metrics.
pub mod error;
pub mod field;
pub mod grid;
pub mod labels;
pub mod ops;
mod par;
pub mod scalar;
pub mod space;
pub mod synthetic;
pub mod testing;

pub use error::{Error, Result};
pub use scalar::Real;
