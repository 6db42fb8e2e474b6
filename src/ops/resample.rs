//! Cubic resampling between grids over the same box, with its transpose.

use super::difference::fold_index;
use super::or_nan;
use super::spline::{Prefilter, weights};
use crate::error::{Error, Result};
use crate::field::kind::Kind;
use crate::field::{Field, copy};
use crate::grid::Grid;
use crate::par;
use crate::scalar::Real;

/// A sparse matrix along one axis, by rows of entries, four at a time: `(column, value)`, zeros where a row has
/// fewer.
#[derive(Clone, Debug)]
struct Taps<T> {
    rows: Vec<Vec<[(usize, T); 4]>>,
}

impl<T: Real> Taps<T> {
    fn new(rows: impl Iterator<Item = Vec<(usize, T)>>) -> Self {
        let four = |entries: &[(usize, T)]| {
            std::array::from_fn(|k| entries.get(k).copied().unwrap_or((entries[0].0, T::zero())))
        };
        Self { rows: rows.map(|row| row.chunks(4).map(four).collect()).collect() }
    }

    /// `out[o, i, k] = Σ_j taps[i, j] input[o, j, k]` for lanes of `inner` interleaved values.
    fn apply(&self, columns: usize, inner: usize, input: &[T], out: &mut [T]) {
        let block = self.rows.len() * inner;
        let rows_at_once = par::CHUNK.div_ceil(inner);
        par::chunks_of(
            out,
            rows_at_once * inner,
            #[inline(always)]
            |lo, chunk| {
                for (r, out) in chunk.chunks_mut(inner).enumerate() {
                    let at = lo + r * inner;
                    let lane = &input[at / block * columns * inner..][..columns * inner];
                    combine(&self.rows[at % block / inner], inner, lane, out);
                }
            },
        );
    }

    fn transposed(&self, columns: usize) -> Self {
        let mut rows = vec![Vec::new(); columns];
        for (i, row) in self.rows.iter().enumerate() {
            for &(j, w) in row.iter().flatten().filter(|(_, w)| !w.is_zero()) {
                rows[j].push((i, w));
            }
        }
        Self::new(rows.into_iter())
    }
}

/// `out[k] = Σ_j row[j] lane[j, k]`.
#[inline(always)]
fn combine<T: Real>(row: &[[(usize, T); 4]], inner: usize, lane: &[T], out: &mut [T]) {
    if let [out] = out {
        // The contiguous axis: a sum in a register.
        let four = |sum: T, taps: &[(usize, T); 4]| {
            taps.iter().fold(sum, |sum, &(j, w)| sum + w * lane[j])
        };
        *out = row.iter().fold(T::zero(), four);
        return;
    }
    for (q, taps) in row.iter().enumerate() {
        let [w1, w2, w3, w4] = taps.map(|(_, w)| w);
        let [x1, x2, x3, x4] = taps.map(|(j, _)| &lane[j * inner..][..out.len()]);
        if q == 0 {
            out.fill(T::zero());
        }
        for k in 0..out.len() {
            out[k] += (w1 * x1[k] + w2 * x2[k]) + (w3 * x3[k] + w4 * x4[k]);
        }
    }
}

/// Cubic B-spline interpolation of fields from one grid to another over the same box: the
/// prolongation of displacements, momenta and weights between levels. It does not smooth first:
/// images go through [`pyramid`](crate::pyramid).
///
/// Separable: one prefilter and one pass of four taps an axis.
#[derive(Clone, Debug)]
pub struct Resample<T, const D: usize> {
    prefilter: Prefilter<T, D>,
    from: Grid<D>,
    to: Grid<D>,
    taps: [Taps<T>; D],
    transposed: [Taps<T>; D],
}

/// Buffers of a [`Resample`].
#[derive(Clone, Debug, Default)]
pub struct Workspace<T> {
    buffers: [Vec<T>; 2],
}

impl<T: Real, const D: usize> Resample<T, D> {
    /// Resampling of fields over `from` to the voxels of `to`. The grids must cover the same box
    /// ([`Grid::resampled`] gives such grids); positions are matched from face to face.
    #[must_use]
    #[inline(never)]
    pub fn new(from: &Grid<D>, to: &Grid<D>) -> Self {
        let boundary = from.boundary().of_weights();
        let taps: [Taps<T>; D] = std::array::from_fn(|a| {
            let (n, m) = (from.shape()[a], to.shape()[a]);
            let row = |i: usize| {
                let position = (i as f64 + 0.5) * n as f64 / m as f64 - 0.5;
                let floor = position.floor();
                let w = weights(position - floor);
                #[expect(clippy::cast_possible_truncation, reason = "an index within the grid")]
                let first = floor as isize - 1;
                let mut row: Vec<(usize, T)> = Vec::with_capacity(4);
                for (k, w) in (0isize..).zip(w) {
                    let j = fold_index(first + k, n, boundary);
                    match row.iter_mut().find(|tap| tap.0 == j) {
                        Some(tap) => tap.1 += T::of(w),
                        None => row.push((j, T::of(w))),
                    }
                }
                row
            };
            Taps::new((0..m).map(row))
        });
        let transposed = std::array::from_fn(|a| taps[a].transposed(from.shape()[a]));
        let (from, to) = (from.clone(), to.clone());
        Self { prefilter: Prefilter::new(&from), from, to, taps, transposed }
    }

    /// The grid of the input.
    #[must_use]
    pub fn from(&self) -> &Grid<D> {
        &self.from
    }

    /// The grid of the output.
    #[must_use]
    pub fn to(&self) -> &Grid<D> {
        &self.to
    }

    /// `out ← R input`, component-major, any number of components.
    #[inline(never)]
    pub fn apply(&self, input: &[T], out: &mut [T], ws: &mut Workspace<T>) {
        let components = input.len() / self.from.len();
        if !or_nan(self.fits(components, input, out), out) {
            return;
        }
        // A component after the other: the buffers hold one.
        let [a, b] = &mut ws.buffers;
        let components = input.chunks_exact(self.from.len());
        for (input, out) in components.zip(out.chunks_exact_mut(self.to.len())) {
            a.clear();
            a.extend_from_slice(input);
            self.prefilter.apply(a);
            // Lanes of the axes before `axis` are already of the output's shape.
            let mut shape = self.from.shape();
            for axis in 0..D {
                let (n, inner) = (shape[axis], shape[axis + 1..].iter().product());
                shape[axis] = self.to.shape()[axis];
                if axis + 1 == D {
                    self.taps[axis].apply(n, inner, a, out);
                } else {
                    b.resize(shape.iter().product::<usize>(), T::zero());
                    self.taps[axis].apply(n, inner, a, b);
                    std::mem::swap(a, b);
                }
            }
        }
    }

    /// A field over the input's grid, carried to the output's.
    ///
    /// # Errors
    /// [`Error::GridMismatch`] for a field over another grid, and unless both grids cover the same box;
    /// [`Error::OutOfMemory`].
    pub fn field<K: Kind>(&self, field: &Field<T, D, K>) -> Result<Field<T, D, K>> {
        self.from.expect_same(field.grid(), K::NAME)?;
        if !self.from.same_box(&self.to) {
            let expected = format!("over the box of {}", self.from);
            let found = self.to.to_string();
            return Err(Error::GridMismatch { what: "resampling", expected, found });
        }
        let mut out = Field::zeros_with(&self.to, field.components())?;
        self.apply(field.data(), out.data_mut(), &mut Workspace::default());
        Ok(out)
    }

    /// Whether `from` and `to` hold so many whole components.
    fn fits(&self, components: usize, from: &[T], to: &[T]) -> bool {
        from.len() == components * self.from.len() && to.len() == components * self.to.len()
    }

    /// `out ← Rᵀ bar`.
    #[inline(never)]
    pub fn transpose(&self, bar: &[T], out: &mut [T], ws: &mut Workspace<T>) {
        let components = bar.len() / self.to.len();
        if !or_nan(self.fits(components, out, bar), out) {
            return;
        }
        let [a, b] = &mut ws.buffers;
        let components = bar.chunks_exact(self.to.len());
        for (bar, out) in components.zip(out.chunks_exact_mut(self.from.len())) {
            let mut shape = self.to.shape();
            for axis in (0..D).rev() {
                let (n, inner) = (shape[axis], shape[axis + 1..].iter().product());
                shape[axis] = self.from.shape()[axis];
                b.resize(shape.iter().product::<usize>(), T::zero());
                let input = if axis + 1 == D { bar } else { a.as_slice() };
                self.transposed[axis].apply(n, inner, input, b);
                std::mem::swap(a, b);
            }
            self.prefilter.apply(a);
            copy(a, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::Boundary;
    use crate::testing::random;

    #[test]
    fn resampling_and_its_transpose_match() {
        for boundary in Boundary::ALL {
            let from = Grid::new([5, 4, 6], [1.0, 2.0, 0.5]).unwrap().with_boundary(boundary);
            for shape in [[9, 8, 12], [5, 4, 6], [4, 4, 4]] {
                let to = from.resampled(shape).unwrap();
                let r = Resample::<f64, 3>::new(&from, &to);
                let (x, y) = (random::<f64>(2 * from.len(), 1), random::<f64>(2 * to.len(), 2));
                let (mut rx, mut rty) = (vec![0.0; y.len()], vec![0.0; x.len()]);
                let mut ws = Workspace::default();
                r.apply(&x, &mut rx, &mut ws);
                r.transpose(&y, &mut rty, &mut ws);
                let left: f64 = rx.iter().zip(&y).map(|(a, b)| a * b).sum();
                let right: f64 = rty.iter().zip(&x).map(|(a, b)| a * b).sum();
                assert!((left - right).abs() < 1e-12 * left.abs().max(1.0), "{boundary:?}");
                if shape == from.shape() {
                    assert!(rx.iter().zip(&x).all(|(a, b)| (a - b).abs() < 1e-13));
                }
            }
        }
    }
}
