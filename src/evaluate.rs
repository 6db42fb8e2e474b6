//! Figures about a finished registration: folds, overlap, landmarks, inverse consistency, intensities
//! and the local scale of the deformation.

mod consistency;
mod folds;
mod intensity;
mod landmarks;
mod overlap;
mod scale;

pub use consistency::{Consistency, inverse_consistency};
pub use folds::{Folds, Region};
pub use intensity::{mse, ncc};
pub use landmarks::{carried, target_registration_error};
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

/// Whether a fractional array index lies between the outer faces of the grid. Periodic grids repeat,
/// so that every finite index does.
pub(crate) fn is_inside<const D: usize>(grid: &Grid<D>, index: [f64; D]) -> bool {
    if grid.boundary() == Boundary::Periodic {
        return index.iter().all(|x| x.is_finite());
    }
    // Half a voxel beyond the outermost centres, and what rounding of a header may add to it.
    let face = 0.5 + 1e-6;
    (0..D).all(|a| index[a] >= -face && index[a] <= grid.shape()[a] as f64 - 1.0 + face)
}
