//! The Jacobian determinant of a map.

use nalgebra::SMatrix;

use super::difference::{Difference, Order};
use crate::error::Result;
use crate::field::{Displacement, Image};
use crate::scalar::Real;
use crate::world::determinant;

/// The full determinant of D(id + u), by second-order central differences: what other tools report.
///
/// One value a voxel, dimensionless. In the outermost voxels the differences see a mirrored
/// displacement, so read the interior and the border apart
/// ([`Folds`](crate::evaluate::Folds) does).
///
/// # Errors
/// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
pub fn jacobian_determinant<T: Real, const D: usize>(
    map: &Displacement<T, D>,
) -> Result<Image<T, D>> {
    let grid = map.grid();
    let difference = Difference::new(grid, Order::Second);
    let mut out = Image::zeros(grid)?;
    let (one, ones) = (T::one(), vec![T::one(); grid.len()]);
    crate::par::chunks_of(out.data_mut(), 1024, |lo, chunk| {
        let len = chunk.len();
        let zeros = || vec![T::zero(); len];
        let mut slopes: [[Vec<T>; D]; D] =
            std::array::from_fn(|_| std::array::from_fn(|_| zeros()));
        for a in 0..D {
            for b in 0..D {
                difference.add_scaled(b, one, &ones, map.component(a), lo, &mut slopes[a][b]);
            }
        }
        for (k, out) in chunk.iter_mut().enumerate() {
            let identity = |a: usize, b: usize| if a == b { 1.0 } else { 0.0 };
            *out = T::of(determinant(SMatrix::<f64, D, D>::from_fn(|a, b| {
                identity(a, b) + slopes[a][b][k].f64()
            })));
        }
    });
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::Grid;

    #[test]
    fn the_determinant_is_full_and_in_physical_units() {
        let grid = Grid::new([8, 6, 7], [0.5, 2.0, 1.0]).unwrap();
        let matrix = [[0.1, 0.4, -0.2], [0.3, -0.2, 0.1], [0.0, 0.5, 0.2]];
        let map = Displacement::<f64, 3>::from_fn(&grid, 3, |x, c| {
            (0..3).map(|b| matrix[c][b] * x[b]).sum()
        })
        .unwrap();
        let det = jacobian_determinant(&map).unwrap();
        let shifted =
            SMatrix::<f64, 3, 3>::from_fn(|a, b| matrix[a][b] + if a == b { 1.0 } else { 0.0 });
        let expected = determinant(shifted);
        let centre = det.view()[[4, 3, 3]];
        assert!((centre - expected).abs() < 1e-13, "central differences are exact on a linear map");
    }
}
