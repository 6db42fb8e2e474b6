//! The barrier that keeps a map from folding.

use super::{FinalMaps, MapCotangents, MapTerm};
use crate::error::{Error, Result};
use crate::field::{Displacement, axpy};
use crate::grid::Grid;
use crate::model::resampled;
use crate::ops::barrier::{FoldBarrier, fold_barrier};
use crate::ops::cells::nan_min;
use crate::ops::compose::Composition;
use crate::scalar::Real;
use crate::space::StateSpace;

/// Weight of the barrier, for energies without unit. With a tenth of it the optimiser meets the bound itself, where
/// every other trial is refused and iterations end early; with ten times as much, maps that must be steep end short.
const WEIGHT: f64 = 1e-1;

/// Where the barrier begins, from the bound (0) to the determinant of the identity (1). Determinants of cells change faster
/// than those of voxels: with a quarter, a disc that becomes a ring has a fifth of its trials refused, with this a
/// fourteenth, at the same loss in two thirds of the evaluations.
const REACH: f64 = 0.4;

/// A tenth of the mean barrier over the cells of the map, or of a map before it with this one; maps at the bound or beyond
/// are refused. Nothing without a bound.
pub(in crate::registration) struct FoldingTerm<T: Real, const D: usize> {
    barrier: Option<FoldBarrier>,
    before: Option<MapBefore<T, D>>,
}

impl<T: Real, const D: usize> FoldingTerm<T, D> {
    /// No bound.
    pub(in crate::registration) fn none() -> Self {
        Self { barrier: None, before: None }
    }

    pub(in crate::registration) fn set_bound(&mut self, bound: Option<f64>) {
        let reach = |bound: f64| bound + REACH * (1.0 - bound);
        self.barrier = bound.map(|bound| FoldBarrier { bound, reach: reach(bound) });
    }

    /// From now on the bound is that of `before`∘Φ⁻¹.
    pub(in crate::registration) fn set_before(
        &mut self,
        before: &Displacement<T, D>,
        grid: &Grid<D>,
    ) -> Result<()> {
        self.before = Some(MapBefore::new(before, grid)?);
        Ok(())
    }
}

impl<T: Real, const D: usize> MapTerm<T, D> for FoldingTerm<T, D> {
    fn add(&mut self, maps: &FinalMaps<'_, T, D>, bars: &mut MapCotangents<T, D>) -> Result<f64> {
        let Some(barrier) = self.barrier else { return Ok(0.0) };
        // Both maps where there are both, so that swapped images have the same energy.
        let weight = if maps.forward.is_some() { 0.5 * WEIGHT } else { WEIGHT };
        let (u, bar) = (maps.inverse, bars.inverse.sum_mut()?);
        let mut found = match &mut self.before {
            None => fold_barrier(u, barrier, weight, bar)?,
            Some(before) => before.barrier(u, barrier, weight, bar)?,
        };
        if let Some(forward) = maps.forward {
            let bar = bars.forward.sum_mut()?;
            let (mean, smallest) = fold_barrier(forward, barrier, weight, bar)?;
            found = (found.0 + mean, nan_min(found.1, smallest));
        }
        let (mean, found) = found;
        if mean.is_finite() {
            Ok(weight * mean)
        } else {
            Err(Error::Folded { bound: barrier.bound, found })
        }
    }
}

/// The map that the moving image was read at before this registration, and the whole map.
struct MapBefore<T: Real, const D: usize> {
    composition: Composition<T, D>,
    /// Spline coefficients of U before.
    coefficients: Vec<T>,
    whole: Displacement<T, D>,
    whole_bar: Displacement<T, D>,
}

impl<T: Real, const D: usize> MapBefore<T, D> {
    fn new(before: &Displacement<T, D>, grid: &Grid<D>) -> Result<Self> {
        let before = resampled(before, grid)?;
        let composition = Composition::new(grid);
        let mut coefficients = vec![T::zero(); before.data().len()];
        composition.coefficients(before.data(), &mut coefficients);
        let whole_bar = Displacement::zeros(grid)?;
        Ok(Self { composition, coefficients, whole: before, whole_bar })
    }

    /// The barrier of w = u + U∘(id + u); adds its gradient ū = w̄ + D(U)ᵀ w̄ to `u_bar`.
    fn barrier(
        &mut self,
        u: &Displacement<T, D>,
        barrier: FoldBarrier,
        weight: f64,
        u_bar: &mut Displacement<T, D>,
    ) -> Result<(f64, f64)> {
        let Self { composition, coefficients, whole, whole_bar } = self;
        composition.compose(coefficients, u.data(), whole.data_mut());
        whole_bar.set_zero();
        let found = fold_barrier(whole, barrier, weight, whole_bar)?;
        let bar = whole_bar.data();
        composition.position_vjp(coefficients, u.data(), bar, u_bar.data_mut());
        axpy(u_bar.data_mut(), T::one(), bar);
        Ok(found)
    }
}
