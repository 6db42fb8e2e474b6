//! Strategies of `proptest` for grids, fields and weights.
//!
//! ```
//! use proptest::prelude::*;
//! use rdmm_core::{field::Momentum, space::StateSpace, testing::strategies};
//!
//! let momenta = strategies::grids::<2>(6..14)
//!     .prop_flat_map(|grid| strategies::fields::<f64, 2, _>(&grid, 0.1));
//! proptest!(|(momentum in momenta)| {
//!     let momentum: Momentum<f64, 2> = momentum;
//!     prop_assert!(momentum.max_abs() < 0.1);
//! });
//! ```

use std::ops::Range;

use proptest::prelude::*;

use super::random::{random, smooth, unit_weights};
use crate::field::kind::Kind;
use crate::field::{Field, Weights};
use crate::grid::{Boundary, Grid};
use crate::scalar::Real;

/// Every boundary.
pub fn boundaries() -> impl Strategy<Value = Boundary> {
    proptest::sample::select(Boundary::ALL.to_vec())
}

/// Grids of extents about one with every boundary, from `voxels.start` voxels an axis on, a bit anisotropic.
///
/// `voxels` begins with four or more: smaller grids do not exist.
pub fn grids<const D: usize>(voxels: Range<usize>) -> impl Strategy<Value = Grid<D>> {
    let shapes = proptest::collection::vec(voxels, D);
    (shapes, boundaries()).prop_filter_map("a grid has four voxels an axis", |(shape, boundary)| {
        let shape: [usize; D] = shape.try_into().ok()?;
        let spacing = std::array::from_fn(|a| (1.0 - 0.1 * a as f64) / shape[a] as f64);
        Some(Grid::new(shape, spacing).ok()?.with_boundary(boundary))
    })
}

/// Rough fields with values between −`size` and `size`, of the kinds that know their number of components: images,
/// momenta, velocities, displacements.
pub fn fields<T: Real, const D: usize, K: Kind>(
    grid: &Grid<D>,
    size: f64,
) -> impl Strategy<Value = Field<T, D, K>> + use<T, D, K> {
    let grid = grid.clone();
    (0..u64::MAX).no_shrink().prop_filter_map("weights have no number of their own", move |seed| {
        let values = random::<T>(K::components(D)? * grid.len(), seed);
        let sized = values.into_iter().map(|x| T::of(size) * x).collect();
        Field::from_vec(&grid, sized).ok()
    })
}

/// Smooth fields of about this size, likewise: momenta that move a grid of extent one need about 0.1 to 0.5.
pub fn smooth_fields<T: Real, const D: usize, K: Kind>(
    grid: &Grid<D>,
    size: f64,
) -> impl Strategy<Value = Field<T, D, K>> + use<T, D, K> {
    let grid = grid.clone();
    (0..u64::MAX).no_shrink().prop_filter_map("weights have no number of their own", move |seed| {
        let values = smooth(&grid, K::components(D)?, seed);
        Field::from_vec(&grid, values.into_iter().map(|x| T::of(size * x)).collect()).ok()
    })
}

/// `N` positive numbers that sum to one, such as the weights of Gaussians in a sum.
pub fn convex<const N: usize>() -> impl Strategy<Value = [f64; N]> {
    proptest::collection::vec(0.05..1.0_f64, N).prop_filter_map("N numbers", |raw| {
        let sum: f64 = raw.iter().sum();
        let raw: [f64; N] = raw.try_into().ok()?;
        Some(raw.map(|x| x / sum))
    })
}

/// Positive pre-weights of `count` Gaussians, of unit norm at every voxel, that vary smoothly.
pub fn pre_weights<T: Real, const D: usize>(
    grid: &Grid<D>,
    count: usize,
) -> impl Strategy<Value = Weights<T, D>> + use<T, D> {
    let grid = grid.clone();
    (0..u64::MAX).no_shrink().prop_filter_map("weights fit their grid", move |seed| {
        let weights = unit_weights(&grid, count, seed);
        Weights::from_vec(&grid, weights.into_iter().map(T::of).collect()).ok()
    })
}
