//! Where the displaced voxels of a target lie in a source.

use nalgebra::SMatrix;

use super::source::Source;
use crate::grid::Grid;
use crate::scalar::Real;
use crate::world::Affine;

/// A source, a target, and the affine part of the way from a voxel of the one to a place in the other.
#[derive(Clone, Debug)]
pub(super) struct Places<T, const D: usize> {
    pub(super) source: Source<D>,
    pub(super) target: Grid<D>,
    /// Source index of a target index: `base · i + offset`.
    pub(super) base: [[T; D]; D],
    pub(super) offset: [T; D],
    /// Source index units of a displacement in physical units.
    pub(super) scale: [[T; D]; D],
}

impl<T: Real, const D: usize> Places<T, D> {
    pub(super) fn new(source: &Grid<D>, target: &Grid<D>, affine: &Affine<D>) -> Self {
        let turn = source.direction().transpose() * (affine.matrix() * target.direction());
        let per_voxel =
            |a: usize, b: usize| turn[(a, b)] / source.spacing()[a] * target.spacing()[b];
        let base = SMatrix::<f64, D, D>::from_fn(per_voxel);
        let offset = source.to_index(affine.apply(target.origin()));
        Self {
            source: Source::new(source),
            target: target.clone(),
            base: rows(|a, b| snap(base[(a, b)])),
            offset: offset.map(|x| T::of(snap(x))),
            scale: rows(|a, b| turn[(a, b)] / source.spacing()[a]),
        }
    }
}

fn rows<T: Real, const D: usize>(f: impl Fn(usize, usize) -> f64) -> [[T; D]; D] {
    std::array::from_fn(|a| std::array::from_fn(|b| T::of(f(a, b))))
}

/// Rounds to an integer what differs from it by rounding only, so that equal lattices give the
/// identity to the bit.
fn snap(x: f64) -> f64 {
    if (x - x.round()).abs() < 1e-9 { x.round() } else { x }
}
