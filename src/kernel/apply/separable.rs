//! Separable operators on a grid, as products along its axes.
//!
//! | stage | works on | products |
//! | --- | --- | --- |
//! | analysis | slabs: the fields over all axes but the first, while they are in cache | all axes but the first |
//! | first axis | lanes along the first axis | the first axis: one matrix, or to its coefficients and back |
//! | synthesis | slabs | those that went to coefficients, transposed, in reverse order |
//!
//! A Gaussian whose matrices all are square needs no synthesis. No code knows the dimension.

use std::ops::Range;

use super::axis::Axis;
use super::modes::Modes;
use super::product::{Buffers, Product, Strided, along_contiguous, along_strided, width};
use crate::aligned::Aligned;
use crate::kernel::terms::sum_products;
use crate::par::{self, PARTS};
use crate::scalar::Real;
use crate::simd::{self, Simd};

/// Multiplications that take as long as to read and write a value of a slab. Measured.
pub(super) const PASS: f64 = 8.0;

/// The same for a value of a lane along the first axis, where rows are far apart.
const PASS_ACROSS: f64 = 12.0;

/// Values of the slabs that are worked on together: they stay in the first-level cache.
const SLABS: usize = 2048;

/// A product along one axis of a slab.
#[derive(Clone, Debug)]
struct Pass<T> {
    product: Product<T>,
    /// Distance of neighbours along the axis.
    inner: usize,
}

/// A symmetric positive operator that is a product, or a pair of transposed products, along every axis.
#[derive(Clone, Debug)]
pub(crate) struct Separable<T> {
    /// Values of a field.
    n: usize,
    analysis: Vec<Pass<T>>,
    along_first: Vec<Product<T>>,
    /// What coefficients are multiplied by between the products along the first axis; empty for ones.
    table: Vec<T>,
    synthesis: Vec<Pass<T>>,
}

/// What an operator is applied to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Input<'a, T> {
    /// The values of one component.
    Values(&'a [T]),
    /// Σ_t weightₜ ⊙ inputₜ, for the component of the inputs that begins at `component`.
    Products { terms: &'a [(&'a [T], &'a [T])], component: usize },
}

impl<'a, T: Real> Input<'a, T> {
    /// The values of a range, formed in `sum` where they are products.
    #[inline(always)]
    fn values<'b>(self, range: Range<usize>, sum: &'b mut Aligned<T>) -> &'b [T]
    where
        'a: 'b,
    {
        match self {
            Self::Values(values) => &values[range],
            Self::Products { terms, component } => {
                let sum = sum.grown(range.len());
                sum_products(terms, (component, range.start), sum);
                sum
            }
        }
    }
}

/// Buffers of one part of a stage.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slot<T> {
    buffers: Buffers<T>,
    sum: Aligned<T>,
    slabs: [Aligned<T>; 2],
}

impl<T: Real> Separable<T> {
    /// The product of one operator along each axis.
    pub(super) fn new(axes: Vec<Axis<T>>) -> Self {
        let lens: Vec<usize> = axes.iter().map(Axis::len).collect();
        let mut shape = lens.clone();
        let (mut analysis, mut squares, mut synthesis) = (Vec::new(), Vec::new(), Vec::new());
        let mut along_first = Vec::new();
        for (a, axis) in axes.into_iter().enumerate() {
            match axis {
                Axis::Square(product) if a == 0 => along_first = vec![product],
                Axis::Modes { analysis, synthesis } if a == 0 => {
                    along_first = vec![analysis, synthesis];
                }
                Axis::Square(product) => squares.push((a, product)),
                Axis::Modes { analysis: forward, synthesis: transposed } => {
                    let inner = shape[a + 1..].iter().product();
                    shape[a] = forward.output_len();
                    analysis.push(Pass { product: forward, inner });
                    synthesis.push(Pass { product: transposed, inner });
                }
            }
        }
        let inner = |a: usize| shape[a + 1..].iter().product();
        analysis.extend(squares.into_iter().map(|(a, product)| Pass { product, inner: inner(a) }));
        synthesis.reverse();
        Self { n: lens.iter().product(), analysis, along_first, table: Vec::new(), synthesis }
    }

    /// The product of the operators along the axes, each in the one of two ways with which the whole costs least:
    /// modes of one axis make the others cheaper.
    pub(super) fn cheapest(axes: &[[Axis<T>; 2]]) -> Self {
        let way = |ways: usize| {
            let axis = |(a, axis): (usize, &[Axis<T>; 2])| axis[ways >> a & 1].clone();
            Self::new(axes.iter().enumerate().map(axis).collect())
        };
        let first = way(0);
        (1..1 << axes.len()).map(way).fold(first, |a, b| if b.cost() < a.cost() { b } else { a })
    }

    /// B Bᵀ with the modes B of all axes.
    pub(super) fn spectral(axes: &[Modes]) -> Self {
        let last = axes.len() - 1;
        let pair = |(a, modes): (usize, &Modes)| Axis::Modes {
            analysis: modes.analysis(|_| 1.0, a == last && a > 0),
            synthesis: modes.synthesis(|_| 1.0, a == last && a > 0),
        };
        Self::new(axes.iter().enumerate().map(pair).collect())
    }

    /// B diag(table) Bᵀ in place of B Bᵀ.
    pub(super) fn with_table(self, table: Vec<T>) -> Self {
        Self { table, ..self }
    }

    /// Time of the operator a value of a field, in multiplications: those that it does, and a few a pass for
    /// reading and writing.
    pub(super) fn cost(&self) -> f64 {
        let [analysis, synthesis] =
            [&self.analysis, &self.synthesis].map(|p| p.iter().map(|p| (&p.product, PASS)));
        // Both products of a column are one pass.
        let along_first = self.along_first.iter().zip([PASS_ACROSS, 0.0]);
        let (mut cost, mut share) = (0.0, 1.0);
        for (product, pass) in analysis.chain(along_first).chain(synthesis) {
            let n = product.input_len() as f64;
            cost += share * (product.cost() as f64 / n + pass);
            share *= product.output_len() as f64 / n;
        }
        cost
    }

    /// Applies the operator to every field of `input`. `fields` are buffers that grow.
    pub(super) fn apply(
        &self,
        input: &[T],
        out: &mut [T],
        fields: &mut [Aligned<T>; 2],
        slots: &mut Vec<Slot<T>>,
    ) {
        let component = |c: usize| Input::Values(&input[c * self.n..][..self.n]);
        self.apply_to(component, out, fields, slots);
    }

    /// Applies the operator to every field of Σ_t weightₜ ⊙ inputₜ.
    pub(super) fn apply_products(
        &self,
        terms: &[(&[T], &[T])],
        out: &mut [T],
        fields: &mut [Aligned<T>; 2],
        slots: &mut Vec<Slot<T>>,
    ) {
        let component = |c: usize| Input::Products { terms, component: c * self.n };
        self.apply_to(component, out, fields, slots);
    }

    fn apply_to<'a>(
        &self,
        input: impl Fn(usize) -> Input<'a, T> + Send,
        out: &mut [T],
        fields: &mut [Aligned<T>; 2],
        slots: &mut Vec<Slot<T>>,
    ) {
        par::inside(out.len(), || self.apply_inside(input, out, fields, slots));
    }

    fn apply_inside<'a>(
        &self,
        input: impl Fn(usize) -> Input<'a, T>,
        out: &mut [T],
        fields: &mut [Aligned<T>; 2],
        slots: &mut Vec<Slot<T>>,
    ) {
        let [a, b] = fields;
        for (c, out) in out.chunks_mut(self.n).enumerate() {
            if self.synthesis.is_empty() {
                self.begin(input(c), out, a, slots);
            } else {
                let smooth = b.grown(self.partial_len());
                self.begin(input(c), smooth, a, slots);
                slabs(
                    &self.synthesis,
                    (Input::Values(smooth), self.inner()),
                    (out, self.slab()),
                    slots,
                );
            }
        }
    }

    /// Number of voxels.
    pub(super) fn voxels(&self) -> usize {
        self.n
    }

    /// Number of slabs.
    fn rows(&self) -> usize {
        self.along_first.first().map_or(1, Product::input_len)
    }

    /// Values of a slab.
    pub(super) fn slab(&self) -> usize {
        self.n / self.rows()
    }

    /// What analysis makes of a slab.
    fn inner(&self) -> usize {
        self.analysis.iter().fold(self.slab(), Pass::output)
    }

    /// Values of a field that [`Separable::begin`] leaves.
    pub(crate) fn partial_len(&self) -> usize {
        self.rows() * self.inner()
    }

    /// All stages of a field but synthesis.
    fn begin(
        &self,
        input: Input<T>,
        partial: &mut [T],
        buffer: &mut Aligned<T>,
        slots: &mut Vec<Slot<T>>,
    ) {
        if slots.len() < PARTS {
            slots.resize_with(PARTS, Slot::default);
        }
        let inner = self.inner();
        let coefficients = if self.analysis.is_empty() {
            input.values(0..self.n, buffer)
        } else {
            let coefficients = buffer.grown(partial.len());
            slabs(&self.analysis, (input, self.slab()), (coefficients, inner), slots);
            coefficients
        };
        self.along_first(coefficients, inner, partial, slots);
    }

    /// All stages of every field of Σ_t weightₜ ⊙ inputₜ but synthesis, each into [`Separable::partial_len`] values.
    pub(super) fn begin_products(
        &self,
        terms: &[(&[T], &[T])],
        partial: &mut [T],
        buffer: &mut Aligned<T>,
        slots: &mut Vec<Slot<T>>,
    ) {
        par::inside(partial.len(), || {
            for (c, partial) in partial.chunks_mut(self.partial_len()).enumerate() {
                let input = Input::Products { terms, component: c * self.n };
                self.begin(input, partial, buffer, slots);
            }
        });
    }

    /// Synthesis of the slabs of a field from its value `lo` on.
    pub(super) fn finish(&self, partial: &[T], lo: usize, out: &mut [T], slot: &mut Slot<T>) {
        if self.synthesis.is_empty() {
            return out.copy_from_slice(&partial[lo..][..out.len()]);
        }
        let (input, slab) = (Input::Values(partial), self.slab());
        some_slabs(&self.synthesis, (input, self.inner()), lo / slab, (out, slab), slot);
    }

    /// The products along the first axis.
    fn along_first(&self, input: &[T], inner: usize, out: &mut [T], slots: &mut [Slot<T>]) {
        let width = inner.div_ceil(PARTS).next_multiple_of(width::<T>());
        par::columns(out, inner, width, slots, |first, rows, slot| {
            simd::explicit(AlongFirst { operator: self, input, inner, first, rows, slot });
        });
    }
}

impl<T: Real> Pass<T> {
    /// Length of a slab that had `len` values before the pass.
    fn output(len: usize, pass: &Self) -> usize {
        len / pass.product.input_len() * pass.product.output_len()
    }
}

/// Takes every slab of `len` values through the passes.
fn slabs<T: Real>(
    passes: &[Pass<T>],
    (input, len): (Input<T>, usize),
    (out, out_len): (&mut [T], usize),
    slots: &mut [Slot<T>],
) {
    let count = out.len() / out_len;
    let a_part = count.div_ceil(PARTS).next_multiple_of(together(len, out_len));
    par::with_slots(out, a_part * out_len, slots, |part, out, slot| {
        some_slabs(passes, (input, len), part * a_part, (out, out_len), slot);
    });
}

/// Slabs that are worked on together.
fn together(len: usize, out_len: usize) -> usize {
    (SLABS / len.max(out_len)).max(1)
}

/// The same for the slabs from `first` on that `out` has, on this thread.
fn some_slabs<T: Real>(
    passes: &[Pass<T>],
    (input, len): (Input<T>, usize),
    first: usize,
    (out, out_len): (&mut [T], usize),
    slot: &mut Slot<T>,
) {
    let mut from = first * len;
    for out in out.chunks_mut(together(len, out_len) * out_len) {
        let range = from..from + out.len() / out_len * len;
        from = range.end;
        simd::explicit(Slabs { passes, input, range, out, slot });
    }
}

/// Brings values into the cache: one line after the other, so that their misses overlap, which they do less
/// where rows are far apart and multiplied in between.
#[inline(always)]
fn touch<T: Real>(values: &[T]) {
    for &value in values.iter().step_by(width::<T>()) {
        std::hint::black_box(value);
    }
}

/// Neighbouring slabs, through all passes.
struct Slabs<'a, T> {
    passes: &'a [Pass<T>],
    input: Input<'a, T>,
    range: Range<usize>,
    out: &'a mut [T],
    slot: &'a mut Slot<T>,
}

impl<T: Real> simd::Work for Slabs<'_, T> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Slot { buffers, sum, slabs } = self.slot;
        let input = self.input.values(self.range, sum);
        touch(input);
        touch(self.out);
        let [mut a, mut b] = slabs.each_mut();
        let mut len = input.len();
        for (i, pass) in self.passes.iter().enumerate() {
            let next = Pass::output(len, pass);
            let last = i + 1 == self.passes.len();
            let from = if i == 0 { input } else { &b[..len] };
            let to = if last { &mut *self.out } else { a.grown(next) };
            pass.run(simd, from, to, buffers);
            std::mem::swap(&mut a, &mut b);
            len = next;
        }
    }
}

impl<T: Real> Pass<T> {
    #[inline(always)]
    fn run<S: Simd>(&self, simd: S, input: &[T], out: &mut [T], buffers: &mut Buffers<T>) {
        if size_of::<T>() == 4 {
            self.run_wide::<S, { width::<f32>() }>(simd, input, out, buffers);
        } else {
            self.run_wide::<S, { width::<f64>() }>(simd, input, out, buffers);
        }
    }

    #[inline(always)]
    fn run_wide<S: Simd, const W: usize>(
        &self,
        simd: S,
        input: &[T],
        out: &mut [T],
        buffers: &mut Buffers<T>,
    ) {
        let (product, inner) = (&self.product, self.inner);
        if product.is_contiguous() {
            return along_contiguous::<T, S, W>(simd, product, input, out, buffers);
        }
        let (n, m) = (product.input_len() * inner, product.output_len() * inner);
        for (input, data) in input.chunks_exact(n).zip(out.chunks_exact_mut(m)) {
            let mut rows = Strided { data, inner };
            let products = std::slice::from_ref(product);
            let out = (&mut rows, inner);
            along_strided(simd, products, &[], (input, inner), 0, out, buffers);
        }
    }
}

/// A block of lanes along the first axis.
struct AlongFirst<'a, 'b, T> {
    operator: &'a Separable<T>,
    input: &'a [T],
    inner: usize,
    first: usize,
    rows: &'a mut [&'b mut [T]],
    slot: &'a mut Slot<T>,
}

impl<T: Real> simd::Work for AlongFirst<'_, '_, T> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Separable { along_first, table, .. } = self.operator;
        let count = self.rows.first().map_or(0, |row| row.len());
        let (input, out) = ((self.input, self.inner), (self.rows, count));
        let buffers = &mut self.slot.buffers;
        along_strided(simd, along_first, table, input, self.first, out, buffers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::{Boundary, Grid, MIN_VOXELS};
    use crate::kernel::apply::domain::Lattice;
    use crate::kernel::apply::profile::padding;
    use crate::kernel::gaussian::rounding;
    use crate::kernel::{Gaussian, GaussianBank, Kernel, Workspace};
    use crate::testing::random;

    /// Which operator an axis takes.
    fn kind<T: Real>(operator: &Separable<T>) -> &'static str {
        match &operator.along_first[..] {
            [p] if p.cost() < p.input_len() * p.input_len() / 2 => "band",
            [_] => "halves",
            _ => "modes",
        }
    }

    /// The matrix of a kernel, column by column.
    fn dense<T: Real, const D: usize>(kernel: &impl Kernel<T>, grid: &Grid<D>) -> Vec<Vec<f64>> {
        let (n, mut ws) = (grid.len(), Workspace::new());
        let column = |j: usize| {
            let (mut unit, mut out) = (vec![T::zero(); n], vec![T::nan(); n]);
            unit[j] = T::one();
            kernel.apply(&unit, &mut out, &mut ws);
            out.into_iter().map(Real::f64).collect()
        };
        (0..n).map(column).collect()
    }

    /// Products whatever they cost.
    struct Products<T>(Separable<T>);

    impl<T: Real> Kernel<T> for Products<T> {
        fn apply(&self, input: &[T], out: &mut [T], ws: &mut Workspace<T>) {
            self.0.apply(input, out, &mut ws.fields, &mut ws.products);
        }
    }

    /// Compares the products with the transforms, as dense matrices, at every boundary.
    fn check<T: Real, const D: usize>(shape: [usize; D], sigma: f64, tolerance: f64) {
        for boundary in Boundary::ALL {
            let grid = Grid::new(shape, [1.0; D]).unwrap().with_boundary(boundary);
            let axis = |a: usize| {
                let lattice = Lattice::new(shape[a], boundary, padding(sigma));
                Axis::<T>::both(lattice, sigma, tolerance, a > 0 && a + 1 == D)
            };
            let axes: Vec<_> = (0..D).map(axis).collect();
            let all = |way: usize| Separable::new(axes.iter().map(|a| a[way].clone()).collect());
            let operators = [all(0), all(1), Separable::cheapest(&axes)].map(Products);
            let reference =
                Gaussian::<f64, D>::new(&grid, sigma).unwrap().with_tolerance(0.0).unwrap();
            let expected = dense(&reference, &grid);
            // D axes, each within the tolerance; sums of rounded products; transforms in double precision.
            let bound = D as f64 * tolerance + 16.0 * T::epsilon().f64();
            let rounding = 16.0 * T::epsilon().f64();
            let n = grid.len();
            for found in operators.map(|operator| dense(&operator, &grid)) {
                for i in 0..n {
                    for j in 0..n {
                        let off = (found[i][j] - expected[i][j]).abs();
                        assert!(off < bound, "{boundary:?} {shape:?} σ = {sigma}: {off}");
                        let asymmetry = (found[i][j] - found[j][i]).abs();
                        assert!(asymmetry < rounding, "{boundary:?} {shape:?}: {asymmetry}");
                    }
                }
                let symmetric = |i: usize, j: usize| 0.5 * (found[i][j] + found[j][i]);
                let matrix = nalgebra::DMatrix::from_fn(n, n, symmetric);
                let least = matrix.symmetric_eigenvalues().min();
                assert!(least > -rounding, "{boundary:?} {shape:?} σ = {sigma}: {least}");
            }
        }
    }

    #[test]
    fn products_equal_the_transforms_and_are_symmetric_and_positive() {
        for tolerance in [1e-2, 1e-6, rounding::<f64>()] {
            for sigma in [0.5, 0.8, 1.5, 3.0] {
                check::<f64, 2>([MIN_VOXELS, 31], sigma, tolerance);
                check::<f64, 2>([20, 6], sigma, tolerance);
                check::<f64, 3>([4, 5, 9], sigma, tolerance);
                // Lengths that fall into quarters.
                check::<f64, 2>([MIN_VOXELS, 40], sigma, tolerance);
                check::<f64, 2>([28, MIN_VOXELS], sigma, tolerance);
            }
        }
        for sigma in [0.5, 1.0, 3.0] {
            check::<f32, 2>([9, 30], sigma, rounding::<f32>());
            check::<f32, 2>([25, 8], sigma, rounding::<f32>());
            check::<f32, 2>([5, 36], sigma, rounding::<f32>());
            check::<f32, 3>([6, 5, 4], sigma, 1e-3);
        }
    }

    #[test]
    fn every_kind_of_operator_is_taken_somewhere() {
        for boundary in Boundary::ALL {
            let kind_of = |n: usize, sigma: f64| {
                let lattice = Lattice::new(n, boundary, padding(sigma));
                kind(&Separable::cheapest(&[Axis::<f64>::both(lattice, sigma, 1e-6, false)]))
            };
            assert_eq!(kind_of(64, 1.0), "band", "{boundary:?}");
            assert_eq!(kind_of(64, 12.0), "modes", "{boundary:?}");
            assert_eq!(kind_of(16, 0.9), "halves", "{boundary:?}");
        }
    }

    #[test]
    fn sums_equal_their_transforms() {
        for boundary in Boundary::ALL {
            let grid = Grid::new([13, 12, 20], [1.0; 3]).unwrap().with_boundary(boundary);
            let x: Vec<f64> = random(grid.len(), 5);
            for sigmas in [vec![0.7, 1.5], vec![2.0, 3.0, 4.0], vec![4.0]] {
                let weights = vec![1.0 / sigmas.len() as f64; sigmas.len()];
                let bank = GaussianBank::<f64, 3>::new(&grid, &sigmas).unwrap();
                let reference = bank.clone().with_tolerance(0.0).unwrap();
                let smooth = |bank: &GaussianBank<f64, 3>| {
                    let mut out = vec![f64::NAN; x.len()];
                    bank.combined(&weights).unwrap().apply(&x, &mut out, &mut Workspace::new());
                    out
                };
                for (a, b) in smooth(&bank).iter().zip(smooth(&reference)) {
                    // Kernels on a free grid are cut at 7σ, at 2e-11 of their peak.
                    assert!((a - b).abs() < 1e-10, "{boundary:?} {sigmas:?}: {a} {b}");
                }
            }
        }
    }

    #[test]
    fn large_fields_in_many_parts_equal_the_reference() {
        // Enough columns and slabs for several parts, none a multiple of a block.
        for boundary in Boundary::ALL {
            let grid = Grid::new([37, 41, 43], [1.0; 3]).unwrap().with_boundary(boundary);
            let n = grid.len();
            let x: Vec<f32> = random(2 * n, 9);
            for sigma in [1.0, 3.0, 8.0] {
                let gaussian = Gaussian::<f32, 3>::new(&grid, sigma).unwrap();
                let reference = Gaussian::<f64, 3>::new(&grid, sigma).unwrap();
                let reference = reference.with_tolerance(0.0).unwrap();
                let (mut out, mut ws) = (vec![f32::NAN; 2 * n], Workspace::new());
                gaussian.apply(&x, &mut out, &mut ws);
                let wide: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
                let mut expected = vec![0.0; 2 * n];
                reference.apply(&wide, &mut expected, &mut Workspace::new());
                for (a, b) in out.iter().zip(&expected) {
                    // Three axes within 1e-6 of the norm of a row, and sums of rounded products.
                    assert!((f64::from(*a) - b).abs() < 4e-6, "{boundary:?} σ = {sigma}: {a} {b}");
                }
                let mut again = vec![f32::NAN; 2 * n];
                gaussian.apply(&x, &mut again, &mut ws);
                assert_eq!(out, again, "buffers that held something");
            }
        }
    }

    #[test]
    fn constants_stay_where_nothing_leaves() {
        for boundary in [Boundary::Periodic, Boundary::Reflecting] {
            let grid = Grid::new([40, 33], [1.0; 2]).unwrap().with_boundary(boundary);
            for (sigma, tolerance) in [(1.0, 1e-2), (1.5, 1e-4), (6.0, 1e-2)] {
                let gaussian = Gaussian::<f64, 2>::new(&grid, sigma).unwrap();
                let gaussian = gaussian.with_tolerance(tolerance).unwrap();
                let mut out = vec![0.0; grid.len()];
                gaussian.apply(&vec![1.0; grid.len()], &mut out, &mut Workspace::new());
                assert!(out.iter().all(|x| (x - 1.0).abs() < 1e-13), "to rounding, {boundary:?}");
            }
        }
    }

    #[test]
    fn bad_tolerances_are_refused() {
        let grid = Grid::new([8, 8], [1.0, 1.0]).unwrap();
        for tolerance in [-1e-9, 0.02, f64::NAN] {
            let gaussian = Gaussian::<f64, 2>::new(&grid, 1.0).unwrap();
            assert!(gaussian.with_tolerance(tolerance).is_err());
            let bank = GaussianBank::<f64, 2>::new(&grid, &[1.0]).unwrap();
            assert!(bank.with_tolerance(tolerance).is_err());
        }
    }
}
