//! The Jacobian determinant of a map.

use std::array::from_fn;

use nalgebra::SMatrix;

use super::difference::{Difference, Order};
use crate::error::Result;
use crate::field::{Displacement, Image};
use crate::grid::Boundary;
use crate::par;
use crate::scalar::Real;
use crate::world::determinant;

/// The full determinant of D(id + u), by second-order central differences: what other tools report.
///
/// One value a voxel, dimensionless. In the outermost voxels differences are one-sided, so that affine maps have their
/// determinant everywhere; on a periodic grid they go around the border. Central differences cannot see what a map does
/// between the voxels beside one: see [`cell_determinants`](super::cells::cell_determinants).
///
/// # Errors
/// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
#[inline(never)]
pub fn jacobian_determinant<T: Real, const D: usize>(
    map: &Displacement<T, D>,
) -> Result<Image<T, D>> {
    let grid = map.grid();
    let difference = Difference::new(grid, Order::Second);
    let mut out = Image::zeros(grid)?;
    par::chunks_of(out.data_mut(), BLOCK, |lo, chunk| {
        let found = determinants(&difference, map, lo, chunk.len());
        for (out, det) in chunk.iter_mut().zip(found) {
            *out = T::of(det);
        }
    });
    Ok(out)
}

/// Voxels that are worked on together: their differences stay in the second cache.
const BLOCK: usize = 1024;

/// det D(id + u) at the voxels `lo..lo + len`.
fn determinants<T: Real, const D: usize>(
    difference: &Difference<T, D>,
    map: &Displacement<T, D>,
    lo: usize,
    len: usize,
) -> Vec<f64> {
    let mut slopes = vec![T::zero(); D * D * len];
    for (ab, slope) in slopes.chunks_mut(len).enumerate() {
        difference.add(ab % D, map.component(ab / D), lo, slope);
    }
    let of = |a: usize, b: usize| &slopes[(a * D + b) * len..][..len];
    let slopes: [[&[T]; D]; D] = from_fn(|a| from_fn(|b| of(a, b)));
    let (grid, shape) = (map.grid(), map.grid().shape());
    let closed = grid.boundary() == Boundary::Periodic;
    let mut out = vec![0.0; len];
    for (k, out) in out.iter_mut().enumerate() {
        let index = grid.unravel(lo + k);
        // Beyond a face the voxel there is repeated: the difference to the one before it, over two voxels.
        let one_sided = |b: usize| !closed && (index[b] == 0 || index[b] + 1 == shape[b]);
        let factors: [f64; D] = from_fn(|b| if one_sided(b) { 2.0 } else { 1.0 });
        *out = determinant(SMatrix::<f64, D, D>::from_fn(|a, b| {
            f64::from(u8::from(a == b)) + factors[b] * slopes[a][b][k].f64()
        }));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::Grid;

    #[test]
    fn the_determinant_is_full_and_in_physical_units() {
        let grid = Grid::new([8, 6, 7], [0.5, 2.0, 1.0]).unwrap();
        let matrix = [[0.1, 0.4, -0.2], [0.3, -0.2, 0.1], [0.0, 0.5, 0.2]];
        let map = Displacement::<f64, 3>::from_fn(&grid, |x| {
            std::array::from_fn(|c| (0..3).map(|b| matrix[c][b] * x[b]).sum())
        })
        .unwrap();
        let det = jacobian_determinant(&map).unwrap();
        let shifted =
            SMatrix::<f64, 3, 3>::from_fn(|a, b| matrix[a][b] + if a == b { 1.0 } else { 0.0 });
        let expected = determinant(shifted);
        // Differences are exact on a linear map, at the faces too; a few roundings.
        assert!(det.data().iter().all(|d| (d - expected).abs() < 1e-13));
    }
}
