//! Images, label maps and transforms in the files that the field's tools read.
//!
//! The world of this crate is ITK's: millimetres, LPS. Array axes are those of the file, in its order.

pub mod atomic;
mod error;
pub mod points;
pub mod transform;
mod volume;

pub use error::{Error, Problem, Result};
pub use transform::{Chain, Listed, Transform};
pub use volume::{Geometry, Meaning, Sample, Volume};
