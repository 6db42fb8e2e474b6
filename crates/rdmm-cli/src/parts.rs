//! A whole map taken apart: an affine map, which has no end, after a warp of the rest, which ends with its grid.

use nalgebra::SVector;
use rdmm_core::evaluate::{CellCount, Folds};
use rdmm_core::field::Displacement;
use rdmm_core::ops::unfold::{Unfold, Unfolded};
use rdmm_core::world::Affine;

use crate::failure::Done;

/// What remains of a map without its affine part, on the fixed grid, both ways.
pub(crate) struct Nonlinear<const D: usize> {
    /// A⁻¹∘Φ: points go through it first and through A afterwards.
    pub(crate) map: Displacement<f32, D>,
    /// Φ⁻¹∘A: points of the moving image go through A⁻¹ first and through it afterwards.
    pub(crate) inverse: Displacement<f32, D>,
    /// Cells of the inverse.
    pub(crate) inverse_cells: CellCount,
    /// What was smoothed away around its folded cells.
    pub(crate) inverse_unfolded: Unfolded,
}

impl<const D: usize> Nonlinear<D> {
    /// Of the map `whole`, whose inverse is known at points. Folded cells of the inverse are smoothed until their
    /// determinants are above `least`.
    pub(crate) fn of(
        whole: &Displacement<f32, D>,
        inverse: &(dyn Fn([f64; D]) -> rdmm_core::Result<[f64; D]> + Sync),
        affine: &Affine<D>,
        least: f64,
    ) -> Done<Self> {
        let grid = whole.grid();
        let mut back = Displacement::from_map(grid, |x| inverse(affine.apply(x)))?;
        let inverse_unfolded = Unfold::new(least)?.apply(&mut back)?;
        let inverse_cells = Folds::of(&back)?.cells;
        Ok(Self { map: before(whole, affine)?, inverse: back, inverse_cells, inverse_unfolded })
    }
}

/// A⁻¹∘Φ on the grid of Φ. Nothing is interpolated.
fn before<const D: usize>(
    whole: &Displacement<f32, D>,
    affine: &Affine<D>,
) -> Done<Displacement<f32, D>> {
    let (grid, back) = (whole.grid(), affine.inverse());
    let mut rest = whole.clone();
    for flat in 0..grid.len() {
        let x = SVector::from(grid.to_world(grid.unravel(flat).map(|i| i as f64)));
        let u = SVector::<f64, D>::from_fn(|a, _| f64::from(whole.component(a)[flat]));
        let there = back.apply((x + grid.direction() * u).into());
        let along = grid.direction().transpose() * (SVector::from(there) - x);
        #[expect(clippy::cast_possible_truncation, reason = "maps are kept in single precision")]
        (0..D).for_each(|a| rest.component_mut(a)[flat] = along[a] as f32);
    }
    rest.expect_finite("non-linear part of the map")?;
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nalgebra::SMatrix;
    use rdmm_core::grid::Grid;

    #[test]
    fn both_parts_are_the_whole() {
        let turn = SMatrix::<f64, 2, 2>::new(0.0, 1.0, -1.0, 0.0);
        let grid =
            Grid::new([14, 12], [1.0, 1.5]).and_then(|grid| grid.with_direction(turn)).unwrap();
        let matrix = SMatrix::<f64, 2, 2>::new(1.2, 0.3, -0.1, 0.8);
        let affine = Affine::new(matrix, SVector::from([30.0, -4.0])).unwrap();
        let wave = |x: [f64; 2]| [x[0] + 0.5 * (0.4 * x[1]).sin(), x[1]];
        let unwave = |x: [f64; 2]| [x[0] - 0.5 * (0.4 * x[1]).sin(), x[1]];
        let whole = Displacement::from_map(&grid, |x| Ok(affine.apply(wave(x)))).unwrap();
        let inverse = |y: [f64; 2]| Ok(unwave(affine.inverse().apply(y)));
        let parts = Nonlinear::of(&whole, &inverse, &affine, 1e-3).unwrap();
        let close = |found: &Displacement<f32, 2>,
                     expected: &(dyn Fn([f64; 2]) -> [f64; 2] + Sync)| {
            let expected = Displacement::<f32, 2>::from_map(&grid, |x| Ok(expected(x))).unwrap();
            let off = found.data().iter().zip(expected.data()).map(|(a, b)| (a - b).abs());
            // Displacements of thirty, in single precision.
            off.fold(0.0, f32::max) < 1e-5
        };
        assert!(close(&parts.map, &wave) && close(&parts.inverse, &unwave));
        assert_eq!(parts.inverse_cells.folded, 0);
    }
}
