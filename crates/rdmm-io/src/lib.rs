//! Images, label maps and transforms in the files that the field's tools read.
//!
//! The world of this crate is ITK's: millimetres, LPS. Array axes are those of the file, in its order.
//!
//! [`read`] and [`write()`] know `NIfTI`, NRRD, `MetaImage` and PNG; [`npy`] holds numpy's arrays. A
//! [`Volume`] is what a file holds, and becomes an image, labels or vectors of `rdmm-core`.
//!
//! ```
//! use rdmm_core::{field::Image, grid::Grid};
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("img_1.5mm.nii.gz");
//! let grid = Grid::new([8, 6], [1.5, 2.0])?.with_origin([10.0, -4.0])?;
//! let image = Image::<f32, 2>::from_fn(&grid, |x| x[0] + 0.5 * x[1])?;
//! rdmm_io::write_image(&path, &image)?;
//!
//! let found = rdmm_io::read_image::<2>(&path)?;
//! assert_eq!(found.data(), image.data());
//! assert!(found.grid().same_lattice(&grid));
//!
//! // The same file as numbers on a lattice, of any dimension.
//! let volume = rdmm_io::read(&path)?;
//! assert_eq!(volume.geometry.shape, [8, 6]);
//! assert!(volume.image::<3>().is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod atomic;
mod convert;
mod detached;
mod error;
mod format;
mod metaimage;
mod name;
mod nifti;
pub mod npy;
mod nrrd;
mod placement;
mod png;
pub mod points;
mod samples;
mod source;
pub mod transform;
mod volume;

pub use convert::{read_image, read_labels, read_mask, write_image, write_labels};
pub use error::{Error, Problem, Result};
pub use format::{read, write};
pub use nifti::{Forms, Series};
pub use placement::{Geometry, Lattice};
pub use transform::{Chain, Listed, Transform};
pub use volume::{Meaning, Sample, Volume};
