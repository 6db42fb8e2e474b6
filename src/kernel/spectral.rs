//! Operators that are functions of the frequency on a grid.

use rustfft::FftPlanner;

use super::axis::Modes;
use super::engine::{Engine, PASS};
use super::gaussian::padding;
use super::transform::{Lattice, Transform};
use super::{Kernel, Workspace};
use crate::field::axpy;
use crate::grid::{Boundary, Grid};
use crate::par;
use crate::scalar::Real;

/// Tᵀ M T with the orthonormal transform T of the grid, real and taken axis by axis, and the multiplier M of
/// any function λ of the frequency with λ(−ω) = λ(ω).
///
/// Where λ is even in each component of ω, M is a diagonal table. Where it is not, as for a Gaussian at an
/// angle to the axes, M also mixes the coefficient at k with those at its mirror images in an even number of
/// axes:
///
#[doc = include_str!("../../docs/math/mirrored.html")]
///
/// The sum runs over the sets S of axes with an even number of members, k with the axes of S mirrored is
/// `S k`, and λ_S is the part of λ that is odd in the axes of S and even in the others. This is the complex
/// transform, diagonal with λ, in a real basis: symmetric for every λ, positive for positive ones.
///
/// D passes there and D back a component. Multipliers that fall off with the frequency are applied by products
/// with the few cosines and sines for which they do not vanish.
#[derive(Clone, Debug)]
pub struct Spectral<T, const D: usize> {
    n: usize,
    shape: [usize; D],
    operator: Operator<T, D>,
}

/// How the multipliers are applied.
#[derive(Clone, Debug)]
enum Operator<T, const D: usize> {
    /// Without those that are negligible, by products with the other cosines and sines.
    Products(Engine<T>),
    /// A sum of separable operators, with their factors.
    Sum(Vec<(T, Engine<T>)>),
    /// All of them, by Fourier transforms.
    Transforms(Transformed<T, D>),
}

#[derive(Clone, Debug)]
struct Transformed<T, const D: usize> {
    n: usize,
    transforms: [Transform<T>; D],
    /// λ_S for no axis: the diagonal.
    table: Vec<T>,
    /// The other ± λ_S, with their axes; none where all are zero.
    mirrored: Vec<([bool; D], Vec<T>)>,
}

/// Time of a pair of transforms with a multiplication of all coefficients in between, relative to a filter that
/// does both on one axis at once. Measured.
const THERE_AND_BACK: f64 = 1.7;

/// The index of the same frequency with the other sign.
fn negated(k: usize, len: usize) -> usize {
    if k == 0 { 0 } else { len - k }
}

impl<T: Real, const D: usize> Spectral<T, D> {
    /// The operator with multiplier `f(k)` at the coefficient with index `k[a]` along each axis, where
    /// `prepare(a, ω)` was called once with the frequencies ω of axis `a` in radians a voxel. A free grid
    /// is padded for kernels up to a standard deviation of `reach[a]` (physical units) along each axis.
    pub(crate) fn new<P>(
        grid: &Grid<D>,
        reach: [f64; D],
        prepare: impl Fn(usize, &[f64]) -> P,
        f: impl Fn(&[P; D], [usize; D]) -> f64,
    ) -> Self {
        let transforms = transforms(grid, reach);
        let prepared: [P; D] = std::array::from_fn(|a| prepare(a, &transforms[a].frequencies()));
        let lens = transforms.each_ref().map(Transform::len);
        let len = lens.iter().product();
        let table = (0..len).map(|flat| T::of(f(&prepared, unravel(flat, lens)))).collect();
        Self::transformed(grid, transforms, table, Vec::new())
    }

    /// Like [`Spectral::new`], in the way that costs least: all frequencies, those for which `keep(a, ω)`
    /// alone, or the sum of the `parts`, which is the same operator where they are given.
    pub(super) fn cheapest<P>(
        grid: &Grid<D>,
        reach: [f64; D],
        keep: impl Fn(usize, f64) -> bool,
        prepare: impl Fn(usize, &[f64]) -> P,
        f: impl Fn(&[P; D], [usize; D]) -> f64,
        parts: Option<Vec<(T, Engine<T>)>>,
    ) -> Self {
        let lattices: [Lattice; D] = std::array::from_fn(|a| {
            let zeros = padding(reach[a] / grid.spacing()[a]);
            Lattice::new(grid.shape()[a], grid.boundary(), zeros)
        });
        let modes: [Modes; D] =
            std::array::from_fn(|a| Modes::new(lattices[a], |omega| keep(a, omega)));
        let engine = Engine::spectral(&modes);
        let by_modes = engine.cost();
        let by_parts = parts.as_ref().map_or(f64::INFINITY, |parts| {
            parts.iter().map(|(_, engine)| engine.cost() + PASS).sum()
        });
        // A padded axis makes the later ones longer.
        let mut grown = 1.0;
        let by_transforms = lattices.iter().map(|lattice| {
            let cost = THERE_AND_BACK * grown * lattice.filter_cost();
            if grid.boundary() == Boundary::Free {
                grown *= lattice.period as f64 / lattice.n as f64;
            }
            cost
        });
        if by_transforms.sum::<f64>() < by_modes.min(by_parts) {
            return Self::new(grid, reach, prepare, f);
        }
        let operator = match parts {
            Some(parts) if by_parts < by_modes => Operator::Sum(parts),
            _ => {
                let prepared: [P; D] = std::array::from_fn(|a| prepare(a, &modes[a].frequencies()));
                let lens = modes.each_ref().map(Modes::len);
                let at = |flat: usize| T::of(f(&prepared, unravel(flat, lens)));
                let table = (0..lens.iter().product()).map(at).collect();
                Operator::Products(engine.with_table(table))
            }
        };
        Self { n: grid.len(), shape: grid.shape(), operator }
    }

    fn transformed(
        grid: &Grid<D>,
        transforms: [Transform<T>; D],
        table: Vec<T>,
        mirrored: Vec<([bool; D], Vec<T>)>,
    ) -> Self {
        let n = grid.len();
        let operator = Operator::Transforms(Transformed { n, transforms, table, mirrored });
        Self { n, shape: grid.shape(), operator }
    }

    /// The operator with multiplier `f(ω)` at the frequency ω, in radians a voxel, with f(−ω) = f(ω). The grid
    /// is periodic or free: cosines have no sign of the frequency.
    pub(crate) fn tilted(
        grid: &Grid<D>,
        reach: [f64; D],
        f: impl Fn([f64; D]) -> f64 + Sync,
    ) -> Self {
        let transforms = transforms(grid, reach);
        let lens = transforms.each_ref().map(Transform::len);
        let frequencies = transforms.each_ref().map(Transform::frequencies);
        let mut values = vec![0.0; lens.iter().product()];
        par::chunks(&mut values, |lo, chunk| {
            for (i, value) in chunk.iter_mut().enumerate() {
                let k = unravel(lo + i, lens);
                *value = f(std::array::from_fn(|a| {
                    let size = frequencies[a][k[a]];
                    if 2 * k[a] > lens[a] { -size } else { size }
                }));
            }
        });
        // λ_S(k) = 2⁻ᴰ Σ_R (−1)^|R ∩ S| λ(R k), over all sets R of axes; the sign of M is (−1)^(|S|/2).
        let part = |odd: &[bool; D]| -> Vec<T> {
            let pairs = odd.iter().filter(|&&odd| odd).count() / 2;
            let scale = if pairs % 2 == 0 { 1.0 } else { -1.0 } / f64::from(1u32 << D);
            let mut table = vec![T::zero(); values.len()];
            par::chunks(&mut table, |lo, chunk| {
                for (i, x) in chunk.iter_mut().enumerate() {
                    let k = unravel(lo + i, lens);
                    let terms = subsets::<D>().map(|mirror| {
                        let sign = (0..D).filter(|&a| mirror[a] && odd[a]).count() % 2 == 0;
                        let value = values[mirrored(k, &mirror, lens)];
                        if sign { value } else { -value }
                    });
                    *x = T::of(scale * terms.sum::<f64>());
                }
            });
            table
        };
        let even = subsets::<D>().filter(|s| s.iter().filter(|&&x| x).count() % 2 == 0).skip(1);
        let tables = even.map(|odd| (odd, part(&odd)));
        let mirrored = tables.filter(|(_, t)| t.iter().any(|x| !x.is_zero())).collect();
        Self::transformed(grid, transforms, part(&[false; D]), mirrored)
    }
}

impl<T: Real, const D: usize> Transformed<T, D> {
    fn input_len(&self, axis: usize) -> usize {
        self.transforms[axis].input_len()
    }

    /// `out ← M input`.
    fn multiply(&self, input: &[T], out: &mut [T]) {
        let lens = self.transforms.each_ref().map(Transform::len);
        let width = lens[D - 1];
        par::chunks_of(out, par::CHUNK.div_ceil(width) * width, |lo, chunk| {
            for (r, row) in chunk.chunks_mut(width).enumerate() {
                let first = lo + r * width;
                for (k, x) in row.iter_mut().enumerate() {
                    *x = self.table[first + k] * input[first + k];
                }
                for (mirror, table) in &self.mirrored {
                    // The row that holds the mirror images, whatever its own axis does.
                    let rows = std::array::from_fn(|a| mirror[a] && a + 1 < D);
                    let from = &input[mirrored(unravel(first, lens), &rows, lens)..][..width];
                    for (k, x) in row.iter_mut().enumerate() {
                        let k_from = if mirror[D - 1] { negated(k, width) } else { k };
                        *x += table[first + k] * from[k_from];
                    }
                }
            }
        });
    }
}

/// The transforms of a grid, padded for kernels of this reach where it is free.
fn transforms<T: Real, const D: usize>(grid: &Grid<D>, reach: [f64; D]) -> [Transform<T>; D] {
    let mut planner = FftPlanner::new();
    std::array::from_fn(|a| {
        let zeros = padding(reach[a] / grid.spacing()[a]);
        Transform::new(&mut planner, grid.shape()[a], grid.boundary(), zeros)
    })
}

/// The index along each axis of the coefficient at `flat`.
fn unravel<const D: usize>(mut flat: usize, lens: [usize; D]) -> [usize; D] {
    let mut k = [0; D];
    for a in (0..D).rev() {
        k[a] = flat % lens[a];
        flat /= lens[a];
    }
    k
}

/// Where the coefficient lies whose frequency is that of `k` with some components negated.
fn mirrored<const D: usize>(k: [usize; D], mirror: &[bool; D], lens: [usize; D]) -> usize {
    (0..D).fold(0, |flat, a| flat * lens[a] + if mirror[a] { negated(k[a], lens[a]) } else { k[a] })
}

/// All sets of axes, the empty one first.
fn subsets<const D: usize>() -> impl Iterator<Item = [bool; D]> {
    (0..1usize << D).map(|bits| std::array::from_fn(|a| bits >> a & 1 == 1))
}

impl<T: Real, const D: usize> Kernel<T> for Spectral<T, D> {
    #[inline(never)]
    fn apply(&self, input: &[T], out: &mut [T], ws: &mut Workspace<T>) {
        if !super::fits(self.n, input, out) {
            return;
        }
        match &self.operator {
            Operator::Products(engine) => engine.apply(input, out, &mut ws.fields, &mut ws.parts),
            Operator::Sum(parts) => {
                out.fill(T::zero());
                let mut part = std::mem::take(&mut ws.part);
                let field = part.grown(input.len());
                for (share, engine) in parts {
                    engine.apply(input, field, &mut ws.fields, &mut ws.parts);
                    axpy(out, *share, field);
                }
                ws.part = part;
            }
            Operator::Transforms(transformed) => transformed.apply(input, out, ws),
        }
    }

    fn shape(&self) -> Option<Vec<usize>> {
        Some(self.shape.to_vec())
    }
}

impl<T: Real, const D: usize> Transformed<T, D> {
    fn apply(&self, input: &[T], out: &mut [T], ws: &mut Workspace<T>) {
        let spectrum = self.table.len();
        let [mut a, mut b] = ws.fields.each_mut().map(|field| field.grown(spectrum));
        let slots = &mut ws.slots;
        for (input, out) in input.chunks(self.n).zip(out.chunks_mut(self.n)) {
            let mut len = self.n;
            for (axis, transform) in self.transforms.iter().enumerate() {
                let from = if axis == 0 { input } else { &b[..len] };
                len = len / self.input_len(axis) * transform.len();
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
                let next = len / transform.len() * self.input_len(axis);
                let to = if axis + 1 == D { &mut *out } else { &mut a[..next] };
                transform.inverse(&b[..len], to, slots);
                len = next;
                std::mem::swap(&mut a, &mut b);
            }
        }
    }
}
