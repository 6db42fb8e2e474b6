//! Figures about a finished registration: folds, overlap, landmarks, inverse consistency, intensities
//! and the local scale of the deformation.

mod consistency;
mod folds;
mod intensity;
mod landmarks;
mod overlap;
mod scale;

pub use crate::ops::cells::CellCount;
pub use consistency::{Consistency, inverse_consistency};
pub use folds::{FoldCount, Folds};
pub use intensity::{mse, ncc};
pub use landmarks::target_registration_error;
pub use overlap::{dice, dice_whole};
pub use scale::local_standard_deviation;

use crate::grid::{Boundary, Grid};

/// Voxels from a face that count as border: the reach of the fourth-order differences and of the
/// cubic splines, which see mirrored values there.
const BORDER: usize = 2;

/// Whether the voxel at `flat` is at least [`BORDER`] voxels from every face. Periodic grids have no
/// faces.
fn is_interior<const D: usize>(grid: &Grid<D>, flat: usize) -> bool {
    let (index, shape) = (grid.unravel(flat), grid.shape());
    grid.boundary() == Boundary::Periodic
        || (0..D).all(|a| index[a] >= BORDER && index[a] + BORDER < shape[a])
}
