//! Diffeomorphic image registration with region-specific metrics.
pub mod adjoint;
pub mod dynamics;
pub mod error;
pub mod evaluate;
pub mod field;
pub mod grid;
pub mod kernel;
pub mod labels;
pub mod metric;
pub mod model;
pub mod ops;
pub mod optim;
mod par;
pub mod registration;
pub mod scalar;
pub mod similarity;
pub mod space;
pub mod step;
pub mod synthetic;
pub mod testing;

pub use error::{Error, Result};
pub use scalar::Real;
