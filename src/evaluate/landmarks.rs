use nalgebra::SVector;

use super::is_inside;
use crate::error::{Error, Result};
use crate::field::Displacement;
use crate::ops::spline::Prefilter;
use crate::ops::warp::Warp;
use crate::scalar::Real;

/// Where a map carries points: x + u(x) in world coordinates, u interpolated by cubic splines.
///
/// `points` are world coordinates inside the map's grid, its outer voxels included. u is along the
/// grid's axes and turned into the world by the grid's direction. 4ᴰ reads a point, after one
/// prefilter of u.
///
/// # Errors
/// [`Error::Setting`] for a point outside the grid, where the map is not known; points of periodic
/// grids only need to be finite. [`Error::NonFinite`] for NaN or infinity in the map.
///
/// # References
/// Thévenaz, Blu, Unser, *Interpolation revisited*, IEEE Trans. Med. Imaging 19 (2000),
/// doi:10.1109/42.875199.
pub fn carried<T: Real, const D: usize>(
    map: &Displacement<T, D>,
    points: &[[f64; D]],
) -> Result<Vec<[f64; D]>> {
    map.expect_finite("map")?;
    let grid = map.grid();
    let (warp, mut coefficients) = (Warp::new(grid, grid), vec![T::zero(); map.data().len()]);
    Prefilter::new(grid).interleaved::<D>(map.data(), &mut coefficients);
    let carry = |(i, &x): (usize, &[f64; D])| {
        let index = grid.to_index(x);
        if !is_inside(grid, index) {
            let found = format!("{x:?} (point {i}, array index {index:?})");
            return Err(Error::setting("point", "world coordinates inside the grid", found));
        }
        let u: [T; D] = warp.at_index(&coefficients, index);
        if !u.iter().all(|u| u.is_finite()) {
            let found = format!("{x:?} (point {i})");
            return Err(Error::setting("point", "world coordinates that can be indexed", found));
        }
        let u = grid.direction() * SVector::from(u.map(T::f64));
        Ok((SVector::from(x) + u).into())
    };
    points.iter().enumerate().map(carry).collect()
}

/// Target registration errors: the distance of each moving point from where the map carries its fixed
/// point, |x + u(x) − y|, in physical units and in the order of the points.
///
/// The map is the one that pulls the moving image back to the fixed grid: I∘(id + u) looks like the
/// fixed image, so a landmark at x in the fixed image lies at x + u(x) in the moving one. Points are
/// in world coordinates; see [`carried`].
///
/// # Errors
/// Those of [`carried`]; [`Error::Length`] unless there are as many moving points as fixed ones;
/// [`Error::NonFinite`] for a moving point with NaN or infinity.
///
/// # References
/// Fitzpatrick, West, *The distribution of target registration error in rigid-body point-based
/// registration*, IEEE Trans. Med. Imaging 20 (2001), doi:10.1109/42.952729.
///
/// ```
/// use rdmm_core::{evaluate::target_registration_error, field::Displacement, grid::Grid};
/// let grid = Grid::new([16, 16], [2.0, 2.0])?;
/// let map = Displacement::<f64, 2>::from_fn(&grid, 2, |_, axis| [3.0, 0.0][axis])?;
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
    let carried = carried(map, fixed_points)?;
    let distance = |(x, y): (&[f64; D], &[f64; D])| (SVector::from(*x) - SVector::from(*y)).norm();
    Ok(carried.iter().zip(moving_points).map(distance).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::{Boundary, Grid};
    use nalgebra::SMatrix;

    fn turned() -> Grid<2> {
        let quarter = SMatrix::<f64, 2, 2>::new(0.0, -1.0, 1.0, 0.0);
        Grid::new([12, 10], [2.0, 1.0])
            .and_then(|grid| grid.with_origin([5.0, -3.0]))
            .and_then(|grid| grid.with_direction(quarter))
            .unwrap()
    }

    #[test]
    fn displacements_turn_with_the_grid() {
        // Axis 0 points along world axis 1, axis 1 along the negative world axis 0.
        let map = Displacement::<f64, 2>::from_fn(&turned(), 2, |_, c| [0.5, 2.0][c]).unwrap();
        let x = [2.3, 4.1];
        let carried = carried(&map, &[x]).unwrap();
        // Splines reproduce constants to rounding.
        assert!((carried[0][0] - (2.3 - 2.0)).abs() < 1e-13);
        assert!((carried[0][1] - (4.1 + 0.5)).abs() < 1e-13);
        let errors = target_registration_error(&map, &[x, x], &[carried[0], [0.3, 8.6]]).unwrap();
        assert!(errors[0] < 1e-13 && (errors[1] - 4.0).abs() < 1e-13);
    }

    #[test]
    fn voxels_are_met_and_smooth_maps_followed_between_them() {
        let grid = Grid::new([40, 36], [0.5, 0.5]).unwrap();
        let u = |x: [f64; 2], c: usize| (0.4 * x[0] + 0.3 * c as f64).sin() * (0.3 * x[1]).cos();
        let map = Displacement::<f64, 2>::from_fn(&grid, 2, u).unwrap();
        let (voxel, between) = ([5.0, 6.5], [9.13, 8.71]);
        let carried = carried(&map, &[voxel, between]).unwrap();
        for c in 0..2 {
            // At a voxel the splines interpolate, to rounding; between voxels they are off by
            // (0.4 · 0.5)⁴/384 = 4e-6 away from the border.
            assert!((carried[0][c] - voxel[c] - u(voxel, c)).abs() < 1e-13);
            assert!((carried[1][c] - between[c] - u(between, c)).abs() < 1e-5);
        }
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
        let periodic = map.on_grid(&turned().with_boundary(Boundary::Periodic)).unwrap();
        assert_eq!(carried(&periodic, &[[90.0, 70.0]]).unwrap(), [[90.0, 70.0]]);
    }
}
