//! Operators that are diagonal in the cosine or Fourier basis of a grid.

use rustfft::FftPlanner;

use super::gaussian::padding;
use super::transform::Transform;
use super::{Kernel, Workspace};
use crate::grid::Grid;
use crate::par;
use crate::scalar::Real;

/// Tᵀ diag(table) T with the orthonormal transform T of the grid: any even function of the frequency.
///
/// Symmetric for every table, positive for positive ones. D passes there and D back a component.
#[derive(Clone, Debug)]
pub struct Spectral<T, const D: usize> {
    n: usize,
    transforms: [Transform<T>; D],
    table: Vec<T>,
}

impl<T: Real, const D: usize> Spectral<T, D> {
    /// The operator with multiplier `f(k)` at the coefficient with index `k[a]` along each axis, where
    /// `prepare(a, ω)` was called once with the frequencies ω of axis `a` in radians a voxel. A free grid
    /// is padded for kernels up to a standard deviation of `sigma` (physical units).
    pub(crate) fn new<P>(
        grid: &Grid<D>,
        sigma: f64,
        prepare: impl Fn(usize, &[f64]) -> P,
        f: impl Fn(&[P; D], [usize; D]) -> f64,
    ) -> Self {
        let mut planner = FftPlanner::new();
        let transforms: [Transform<T>; D] = std::array::from_fn(|a| {
            let zeros = padding(sigma / grid.spacing()[a]);
            Transform::new(&mut planner, grid.shape()[a], grid.boundary(), zeros)
        });
        let prepared: [P; D] = std::array::from_fn(|a| prepare(a, &transforms[a].frequencies()));
        let len = transforms.iter().map(Transform::len).product();
        let index = |mut flat: usize| {
            let mut index = [0; D];
            for a in (0..D).rev() {
                index[a] = flat % transforms[a].len();
                flat /= transforms[a].len();
            }
            index
        };
        let table = (0..len).map(|flat| T::of(f(&prepared, index(flat)))).collect();
        Self { n: grid.len(), transforms, table }
    }
}

impl<T: Real, const D: usize> Kernel<T> for Spectral<T, D> {
    fn apply(&self, input: &[T], out: &mut [T], ws: &mut Workspace<T>) {
        if !super::fits(self.n, input, out) {
            return;
        }
        let spectrum = self.table.len();
        for field in &mut ws.fields {
            if field.len() < spectrum {
                field.resize(spectrum, T::zero());
            }
        }
        let ([mut a, mut b], slots) = (ws.fields.each_mut(), &mut ws.slots);
        for (input, out) in input.chunks(self.n).zip(out.chunks_mut(self.n)) {
            let mut len = self.n;
            for (axis, transform) in self.transforms.iter().enumerate() {
                let from = if axis == 0 { input } else { &b[..len] };
                len = len / self.input_len(axis) * transform.len();
                transform.forward(from, &mut a[..len], slots);
                std::mem::swap(&mut a, &mut b);
            }
            par::chunks(&mut b[..len], |lo, chunk| {
                for (x, &gain) in chunk.iter_mut().zip(&self.table[lo..]) {
                    *x *= gain;
                }
            });
            for (axis, transform) in self.transforms.iter().enumerate() {
                let next = len / transform.len() * self.input_len(axis);
                let to = if axis + 1 == D { &mut *out } else { &mut a[..next] };
                transform.inverse(&b[..len], to, slots);
                len = next;
                std::mem::swap(&mut a, &mut b);
            }
        }
    }

    fn shape(&self) -> Option<Vec<usize>> {
        Some(self.transforms.iter().map(Transform::input_len).collect())
    }
}

impl<T: Real, const D: usize> Spectral<T, D> {
    fn input_len(&self, axis: usize) -> usize {
        self.transforms[axis].input_len()
    }
}
