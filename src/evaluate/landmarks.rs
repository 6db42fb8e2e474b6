use nalgebra::SVector;

use crate::error::{Error, Result};
use crate::field::Displacement;
use crate::scalar::Real;

/// Target registration errors: the distance of each moving point from where the map carries its fixed
/// point, |x + u(x) − y|, in physical units and in the order of the points.
///
/// The map is the one that pulls the moving image back to the fixed grid: I∘(id + u) looks like the
/// fixed image, so a landmark at x in the fixed image lies at x + u(x) in the moving one. Points are
/// in world coordinates; see [`Displacement::transform_points`].
///
/// # Errors
/// Those of [`Displacement::transform_points`]; [`Error::Length`] unless there are as many moving points as fixed ones;
/// [`Error::NonFinite`] for a moving point with NaN or infinity.
///
/// # References
/// Fitzpatrick, West, *The distribution of target registration error in rigid-body point-based
/// registration*, IEEE Trans. Med. Imaging 20 (2001), doi:10.1109/42.952729.
///
/// ```
/// use rdmm_core::{evaluate::target_registration_error, field::Displacement, grid::Grid};
/// let grid = Grid::new([16, 16], [2.0, 2.0])?;
/// let map = Displacement::<f64, 2>::from_fn(&grid, |_| [3.0, 0.0])?;
/// let errors = target_registration_error(&map, &[[10.0, 12.0]], &[[13.0, 8.0]])?;
/// assert!((errors[0] - 4.0).abs() < 1e-12); // axis 0 agrees, axis 1 is off by 4
/// # Ok::<(), rdmm_core::Error>(())
/// ```
pub fn target_registration_error<T: Real, const D: usize>(
    map: &Displacement<T, D>,
    fixed_points: &[[f64; D]],
    moving_points: &[[f64; D]],
) -> Result<Vec<f64>> {
    if fixed_points.len() != moving_points.len() {
        return Err(Error::Length {
            what: "moving points",
            expected: fixed_points.len(),
            found: moving_points.len(),
        });
    }
    let coordinates = moving_points.as_flattened();
    if let Some(index) = coordinates.iter().position(|x| !x.is_finite()) {
        return Err(Error::NonFinite { what: "moving points", index, found: coordinates[index] });
    }
    let moved = map.transform_points(fixed_points)?;
    let distance = |(x, y): (&[f64; D], &[f64; D])| (SVector::from(*x) - SVector::from(*y)).norm();
    Ok(moved.iter().zip(moving_points).map(distance).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::Grid;
    use nalgebra::SMatrix;

    fn turned() -> Grid<2> {
        let quarter = SMatrix::<f64, 2, 2>::new(0.0, -1.0, 1.0, 0.0);
        Grid::new([12, 10], [2.0, 1.0])
            .and_then(|grid| grid.with_origin([5.0, -3.0]))
            .and_then(|grid| grid.with_direction(quarter))
            .unwrap()
    }

    #[test]
    fn errors_are_distances_in_the_world() {
        let map = Displacement::<f64, 2>::from_fn(&turned(), |_| [0.5, 2.0]).unwrap();
        let x = [2.3, 4.1];
        // Axis 0 points along world axis 1, axis 1 along the negative world axis 0.
        let moved = [2.3 - 2.0, 4.1 + 0.5];
        let errors = target_registration_error(&map, &[x, x], &[moved, [0.3, 8.6]]).unwrap();
        // Splines reproduce constants to rounding.
        assert!(errors[0] < 1e-13 && (errors[1] - 4.0).abs() < 1e-13);
    }

    #[test]
    fn points_outside_and_unequal_lists_are_refused() {
        let map = Displacement::<f32, 2>::zeros(&turned()).unwrap();
        let tre = |fixed: &[[f64; 2]], moving: &[[f64; 2]]| {
            target_registration_error(&map, fixed, moving)
        };
        assert!(tre(&[], &[]).unwrap().is_empty());
        // The corner of the outermost voxel belongs to the grid.
        assert!(tre(&[[5.5, -4.0]], &[[0.0; 2]]).is_ok());
        assert!(matches!(tre(&[[5.6, -3.0]], &[[0.0; 2]]), Err(Error::Setting { .. })));
        assert!(matches!(tre(&[[f64::NAN; 2]], &[[0.0; 2]]), Err(Error::Setting { .. })));
        assert!(matches!(tre(&[[5.0, -3.0]], &[]), Err(Error::Length { .. })));
        let infinite = tre(&[[5.0, -3.0]], &[[0.0, f64::INFINITY]]);
        assert!(matches!(infinite, Err(Error::NonFinite { index: 1, .. })));
    }
}
