//! Diffeomorphic image registration with region-specific metrics.
pub mod error;
pub mod field;
pub mod grid;
pub mod labels;
pub mod ops;
pub mod optim;
mod par;
pub mod scalar;
pub mod space;
pub mod testing;

pub use error::{Error, Result};
pub use scalar::Real;
