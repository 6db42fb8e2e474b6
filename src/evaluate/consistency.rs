use super::is_interior;
use crate::error::Result;
use crate::field::Displacement;
use crate::ops::compose::Composition;
use crate::scalar::Real;

/// How far the composition of two maps is from the identity, in physical units.
///
/// The border holds the voxels less than two voxels from a face and those that the inverse carries
/// out of the grid, where the forward map is only a mirrored guess; means are zero and largest values
/// too where a part holds no voxel. Periodic grids have no border.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Consistency {
    /// Mean distance over the interior.
    pub mean: f64,
    /// Largest distance in the interior.
    pub max: f64,
    /// Mean distance over the border.
    pub border_mean: f64,
    /// Largest distance in the border.
    pub border_max: f64,
    /// Voxels that count as border.
    pub border_voxels: usize,
}

/// |Φ(Φ⁻¹(x)) − x| over the grid, from the displacements of Φ and of Φ⁻¹.
///
/// Φ is interpolated by cubic splines, so maps that are exact inverses of one another leave the
/// error of interpolation. One composition; two displacements of memory.
///
/// # Errors
/// [`Error::GridMismatch`](crate::Error::GridMismatch) unless both maps are over the same lattice,
/// [`Error::NonFinite`](crate::Error::NonFinite) for NaN or infinity in either or where a point is carried
/// too far to be indexed,
/// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
///
/// # References
/// Christensen, Johnson, *Consistent image registration*, IEEE Trans. Med. Imaging 20 (2001),
/// doi:10.1109/42.932742.
///
/// ```
/// use rdmm_core::{evaluate::inverse_consistency, field::Displacement, grid::Grid};
/// let grid = Grid::new([16, 16], [2.0, 2.0])?;
/// let forward = Displacement::<f64, 2>::from_fn(&grid, |_| [3.0, 0.0])?;
/// let inverse = Displacement::<f64, 2>::from_fn(&grid, |_| [-3.0, 0.5])?;
/// let found = inverse_consistency(&forward, &inverse)?;
/// assert!((found.max - 0.5).abs() < 1e-12); // physical units
/// # Ok::<(), rdmm_core::Error>(())
/// ```
#[inline(never)]
pub fn inverse_consistency<T: Real, const D: usize>(
    forward: &Displacement<T, D>,
    inverse: &Displacement<T, D>,
) -> Result<Consistency> {
    let grid = forward.grid();
    grid.expect_same(inverse.grid(), "inverse map")?;
    forward.expect_finite("forward map")?;
    inverse.expect_finite("inverse map")?;
    let mut coefficients = Displacement::<T, D>::zeros(grid)?;
    let mut error = Displacement::<T, D>::zeros(grid)?;
    let composition = Composition::new(grid);
    composition.coefficients(forward.data(), coefficients.data_mut());
    composition.compose(coefficients.data(), inverse.data(), error.data_mut());
    error.expect_finite("composition of the maps")?;

    let (mut interior, mut border) = (Distances::default(), Distances::default());
    let (n, spacing) = (grid.len(), grid.spacing());
    for i in 0..n {
        let index = grid.unravel(i);
        let image =
            std::array::from_fn(|a| index[a] as f64 + inverse.data()[a * n + i].f64() / spacing[a]);
        let part = if is_interior(grid, i) && grid.contains_index(image) {
            &mut interior
        } else {
            &mut border
        };
        let square = |a: usize| error.data()[a * n + i].f64().powi(2);
        part.add((0..D).map(square).sum::<f64>().sqrt());
    }
    Ok(Consistency {
        mean: interior.mean(),
        max: interior.max,
        border_mean: border.mean(),
        border_max: border.max,
        border_voxels: border.count,
    })
}

#[derive(Default)]
struct Distances {
    count: usize,
    sum: f64,
    max: f64,
}

impl Distances {
    fn add(&mut self, distance: f64) {
        self.count += 1;
        self.sum += distance;
        self.max = self.max.max(distance);
    }

    fn mean(&self) -> f64 {
        self.sum / self.count.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use crate::grid::{Boundary, Grid};

    #[test]
    fn shifts_cancel_and_their_remainder_is_a_distance() {
        let grid = Grid::new([9, 8], [2.0, 0.5]).unwrap();
        let shift = |u: [f64; 2]| Displacement::<f64, 2>::from_fn(&grid, |_| u).unwrap();
        let found = inverse_consistency(&shift([2.0, 1.0]), &shift([-1.7, -0.6])).unwrap();
        // Splines reproduce constants to rounding: √(0.3² + 0.4²).
        for x in [found.mean, found.max, found.border_mean, found.border_max] {
            assert!((x - 0.5).abs() < 1e-13);
        }
        // Axis 1 keeps indices 2 to 5, all carried to 0.8 … 3.8; axis 0 keeps 2 to 6.
        assert_eq!(found.border_voxels, 72 - 5 * 4);
    }

    #[test]
    fn voxels_that_leave_the_grid_count_as_border() {
        let grid = Grid::new([9, 8], [1.0; 2]).unwrap();
        let u = |s: f64| Displacement::<f64, 2>::from_fn(&grid, |_| [s, 0.0]).unwrap();
        // Indices 2 … 6 less 4: those of 2 and 3 end below −½.
        let found = inverse_consistency(&u(4.0), &u(-4.0)).unwrap();
        assert_eq!(found.border_voxels, 72 - 3 * 4);
        assert!(found.max < 1e-13 && found.border_max < 1e-13);
        let periodic = grid.clone().with_boundary(Boundary::Periodic);
        let on = |map: Displacement<f64, 2>| map.on_grid(&periodic).unwrap();
        let found = inverse_consistency(&on(u(4.0)), &on(u(-4.0))).unwrap();
        assert_eq!(found.border_voxels, 0);
    }

    #[test]
    fn the_order_is_forward_after_inverse() {
        // Φ(x) = 1.1 x about the centre and the identity: Φ(Φ⁻¹(x)) − x is Φ's own displacement.
        let grid = Grid::new([9, 9], [1.0; 2]).unwrap();
        let scale = |x: [f64; 2], c: usize| 0.1 * (x[c] - 4.0);
        let forward =
            Displacement::<f64, 2>::from_fn(&grid, |x| std::array::from_fn(|c| scale(x, c)))
                .unwrap();
        let found = inverse_consistency(&forward, &Displacement::zeros(&grid).unwrap()).unwrap();
        // At voxels the splines interpolate, to rounding; index 2 is two from the centre.
        assert!((found.max - 0.2 * 2f64.sqrt()).abs() < 1e-13);
        assert!((found.border_max - 0.4 * 2f64.sqrt()).abs() < 1e-13);
    }

    #[test]
    fn bad_maps_are_refused() {
        let a = Displacement::<f64, 2>::zeros(&Grid::new([9, 8], [1.0; 2]).unwrap()).unwrap();
        let b = Displacement::zeros(&Grid::new([9, 9], [1.0; 2]).unwrap()).unwrap();
        assert!(matches!(inverse_consistency(&a, &b), Err(Error::GridMismatch { .. })));
        let mut broken = a.clone();
        broken.data_mut()[1] = f64::NAN;
        assert!(matches!(inverse_consistency(&a, &broken), Err(Error::NonFinite { .. })));
    }
}
