//! Images, label maps and transforms in the files that the field's tools read.
//!
//! The world of this crate is ITK's: millimetres, LPS. Array axes are those of the file, in its order.

pub mod atomic;
mod convert;
mod error;
mod format;
mod metaimage;
mod nifti;
pub mod npy;
mod nrrd;
mod placement;
mod png;
mod samples;
mod source;
mod volume;

pub use convert::{read_image, read_labels, write_image, write_labels};
pub use error::{Error, Problem, Result};
pub use format::{read, write};
pub use volume::{Geometry, Meaning, Sample, Volume};
