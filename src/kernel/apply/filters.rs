//! Kernels by Fourier transforms.

use rustfft::FftPlanner;

use super::domain::{Domain, Lattice, unravel};
use super::fft::{Scalar, Slot, Transform};
use crate::aligned::Aligned;
use crate::par;

/// A product of operators along the axes: one filter an axis.
#[derive(Clone, Debug)]
pub(super) struct Filters<T: Scalar> {
    n: usize,
    /// Transforms, with the multipliers of their coefficients.
    axes: Vec<(Transform<T>, Vec<T>)>,
}

impl<T: Scalar> Filters<T> {
    /// The operator with the multiplier Π_a `gain(a, ω_a)`, ω in radians a voxel.
    pub(super) fn new(
        planner: &mut FftPlanner<T>,
        lattices: &[Lattice],
        gain: impl Fn(usize, f64) -> f64,
    ) -> Self {
        let axis = |(a, lattice): (usize, &Lattice)| {
            let gains = lattice.sizes().iter().map(|&omega| T::of(gain(a, omega))).collect();
            (Transform::new(planner, *lattice), gains)
        };
        let axes = lattices.iter().enumerate().map(axis).collect();
        Self { n: lattices.iter().map(|lattice| lattice.n).product(), axes }
    }

    /// Number of voxels.
    pub(super) fn len(&self) -> usize {
        self.n
    }

    /// Applies the operator to every field of `input`.
    pub(super) fn apply(
        &self,
        input: &[T],
        out: &mut [T],
        fields: &mut [Aligned<T>; 2],
        slots: &mut Vec<Slot<T>>,
    ) {
        let n = self.n;
        let mut fields = fields.each_mut().map(|field| field.grown(n));
        for (input, out) in input.chunks(n).zip(out.chunks_mut(n)) {
            for (a, (transform, gain)) in self.axes.iter().enumerate() {
                let [even, odd] = &mut fields;
                let (from, to) = if a % 2 == 0 { (odd, even) } else { (even, odd) };
                let from = if a == 0 { input } else { &from[..n] };
                let to = if a + 1 == self.axes.len() { &mut *out } else { &mut to[..n] };
                transform.filter(gain, from, to, slots);
            }
        }
    }
}

/// Tᵀ M T with the orthonormal transform T of all axes.
///
/// Where the multiplier λ is even in each component of ω, M is a diagonal table. Where it is not, M also mixes the
/// coefficient at k with those at its mirror images in an even number of axes, see
/// [`Spectral`](crate::kernel::Spectral).
#[derive(Clone, Debug)]
pub(super) struct Transformed<T: Scalar> {
    n: usize,
    transforms: Vec<Transform<T>>,
    lens: Vec<usize>,
    /// λ_S for no axis: the diagonal.
    table: Vec<T>,
    /// The other ± λ_S, with their axes; none where all are zero.
    mirrored: Vec<(Vec<bool>, Vec<T>)>,
}

/// The index of the same frequency with the other sign.
fn negated(k: usize, len: usize) -> usize {
    if k == 0 { 0 } else { len - k }
}

/// Where the coefficient lies whose frequency is that of the one at `flat` with some components negated.
fn mirrored(mut flat: usize, mirror: &[bool], lens: &[usize]) -> usize {
    let (mut at, mut stride) = (0, 1);
    for (&mirror, &len) in mirror.iter().zip(lens).rev() {
        let k = flat % len;
        flat /= len;
        at += stride * if mirror { negated(k, len) } else { k };
        stride *= len;
    }
    at
}

/// All sets of axes, the empty one first.
pub(super) fn subsets(axes: usize) -> impl Iterator<Item = Vec<bool>> {
    (0..1usize << axes).map(move |bits| (0..axes).map(|a| bits >> a & 1 == 1).collect())
}

/// `f(ω)` at the frequency ω of every coefficient, radians a voxel.
pub(super) fn evaluated(lattices: &[Lattice], f: &(dyn Fn(&[f64]) -> f64 + Sync)) -> Vec<f64> {
    let lens: Vec<usize> = lattices.iter().map(|lattice| lattice.coefficients()).collect();
    let frequencies: Vec<Vec<f64>> = lattices.iter().map(|lattice| lattice.signed()).collect();
    let mut values = vec![0.0; lens.iter().product()];
    par::chunks(&mut values, |lo, chunk| {
        let (mut k, mut omega) = (vec![0; lens.len()], vec![0.0; lens.len()]);
        for (i, value) in chunk.iter_mut().enumerate() {
            unravel(lo + i, &lens, &mut k);
            for a in 0..k.len() {
                omega[a] = frequencies[a][k[a]];
            }
            *value = f(&omega);
        }
    });
    values
}

impl<T: Scalar> Transformed<T> {
    /// The operator with these multipliers, even in each component of ω.
    pub(super) fn diagonal(lattices: &[Lattice], table: Vec<T>) -> Self {
        let mut planner = FftPlanner::new();
        Self {
            n: lattices.iter().map(|lattice| lattice.n).product(),
            transforms: lattices.iter().map(|&x| Transform::new(&mut planner, x)).collect(),
            lens: lattices.iter().map(|lattice| lattice.coefficients()).collect(),
            table,
            mirrored: Vec::new(),
        }
    }

    /// The operator with the multiplier `values` at the frequency of every coefficient, the same at −ω as at ω. The
    /// axes are periodic or free: cosines have no sign of the frequency.
    pub(super) fn tilted(lattices: &[Lattice], values: &[f64]) -> Self {
        let mut operator = Self::diagonal(lattices, Vec::new());
        let (axes, lens) = (lattices.len(), &operator.lens);
        let sets: Vec<Vec<bool>> = subsets(axes).collect();
        // λ_S(k) = 2⁻ᴰ Σ_R (−1)^|R ∩ S| λ(R k), over all sets R of axes; the sign of M is (−1)^(|S|/2).
        let part = |odd: &[bool]| -> Vec<T> {
            let pairs = odd.iter().filter(|&&odd| odd).count() / 2;
            let scale = if pairs % 2 == 0 { 1.0 } else { -1.0 } / f64::from(1u32 << axes);
            let mut table = vec![T::zero(); values.len()];
            par::chunks(&mut table, |lo, chunk| {
                for (i, x) in chunk.iter_mut().enumerate() {
                    let terms = sets.iter().map(|mirror| {
                        let sign = (0..axes).filter(|&a| mirror[a] && odd[a]).count() % 2 == 0;
                        let value = values[mirrored(lo + i, mirror, lens)];
                        if sign { value } else { -value }
                    });
                    *x = T::of(scale * terms.sum::<f64>());
                }
            });
            table
        };
        let even = sets.iter().filter(|s| s.iter().filter(|&&x| x).count() % 2 == 0).skip(1);
        let tables = even.map(|odd| (odd.clone(), part(odd)));
        let mirrored = tables.filter(|(_, t)| t.iter().any(|x| !x.is_zero())).collect();
        let table = part(&vec![false; axes]);
        operator.table = table;
        operator.mirrored = mirrored;
        operator
    }

    /// Number of voxels.
    pub(super) fn len(&self) -> usize {
        self.n
    }

    /// `out ← M input`.
    fn multiply(&self, input: &[T], out: &mut [T]) {
        let width = self.lens.last().copied().unwrap_or(1);
        par::chunks_of(out, par::CHUNK.div_ceil(width) * width, |lo, chunk| {
            for (r, row) in chunk.chunks_mut(width).enumerate() {
                let first = lo + r * width;
                for (k, x) in row.iter_mut().enumerate() {
                    *x = self.table[first + k] * input[first + k];
                }
                for (mirror, table) in &self.mirrored {
                    // The row that holds the mirror images: it begins with frequency zero of its own axis.
                    let from = &input[mirrored(first, mirror, &self.lens)..][..width];
                    let turned = mirror.last() == Some(&true);
                    for (k, x) in row.iter_mut().enumerate() {
                        let k_from = if turned { negated(k, width) } else { k };
                        *x += table[first + k] * from[k_from];
                    }
                }
            }
        });
    }

    /// Applies the operator to every field of `input`.
    pub(super) fn apply(
        &self,
        input: &[T],
        out: &mut [T],
        fields: &mut [Aligned<T>; 2],
        slots: &mut Vec<Slot<T>>,
    ) {
        let spectrum = self.table.len();
        let [mut a, mut b] = fields.each_mut().map(|field| field.grown(spectrum));
        for (input, out) in input.chunks(self.n).zip(out.chunks_mut(self.n)) {
            let mut len = self.n;
            for (axis, transform) in self.transforms.iter().enumerate() {
                let from = if axis == 0 { input } else { &b[..len] };
                len = len / transform.input_len() * transform.len();
                transform.forward(from, &mut a[..len], slots);
                std::mem::swap(&mut a, &mut b);
            }
            if self.mirrored.is_empty() {
                par::chunks(&mut b[..len], |lo, chunk| {
                    for (x, &gain) in chunk.iter_mut().zip(&self.table[lo..]) {
                        *x *= gain;
                    }
                });
            } else {
                self.multiply(&b[..len], &mut a[..len]);
                std::mem::swap(&mut a, &mut b);
            }
            for (axis, transform) in self.transforms.iter().enumerate() {
                let next = len / transform.len() * transform.input_len();
                let last = axis + 1 == self.transforms.len();
                let to = if last { &mut *out } else { &mut a[..next] };
                transform.inverse(&b[..len], to, slots);
                len = next;
                std::mem::swap(&mut a, &mut b);
            }
        }
    }
}

/// The table of multipliers `f(k)` at the coefficient with index `k[a]` along each axis.
pub(super) fn table<T: Scalar>(lens: &[usize], f: impl Fn(&[usize]) -> f64) -> Vec<T> {
    let mut k = vec![0; lens.len()];
    let at = |flat: usize| {
        unravel(flat, lens, &mut k);
        T::of(f(&k))
    };
    (0..lens.iter().product()).map(at).collect()
}

/// The axes of a grid, padded for Gaussians of these σ (voxels) where it is free.
pub(super) fn padded(domain: &Domain, reach: &[f64]) -> Vec<Lattice> {
    domain.lattices(|a| super::profile::padding(reach[a]))
}
