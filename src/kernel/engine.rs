//! Separable operators on a grid, as products along its axes.
//!
//! | stage | works on | products |
//! | --- | --- | --- |
//! | there | slabs: the fields over all axes but the first, while they are in cache | all axes but the first |
//! | columns | lanes along the first axis | the first axis, there and back |
//! | back | slabs | those that went to coefficients, transposed, in reverse order |
//!
//! A Gaussian whose matrices all are square needs no way back. No code knows the dimension.

use super::axis::{Axis, Modes};
use super::product::{Buffers, Product, Strided, along_contiguous, along_strided, width};
use crate::par;
use crate::scalar::Real;
use crate::simd::{self, Arithmetic};

/// Parts of a stage that may run at once.
const PARTS: usize = 16;

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
pub(super) struct Engine<T> {
    /// Values of a field.
    n: usize,
    there: Vec<Pass<T>>,
    columns: Vec<Product<T>>,
    /// What coefficients are multiplied by between the products of the columns; empty for ones.
    table: Vec<T>,
    back: Vec<Pass<T>>,
}

/// Buffers of one part of a stage.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slot<T> {
    buffers: Buffers<T>,
    slabs: [Vec<T>; 2],
}

impl<T: Real> Engine<T> {
    /// The product of one operator along each axis.
    pub(super) fn separable(axes: Vec<Axis<T>>) -> Self {
        let lens: Vec<usize> = axes.iter().map(Axis::len).collect();
        let mut shape = lens.clone();
        let (mut there, mut squares, mut back) = (Vec::new(), Vec::new(), Vec::new());
        let mut columns = Vec::new();
        for (a, axis) in axes.into_iter().enumerate() {
            match axis {
                Axis::Square(product) if a == 0 => columns = vec![product],
                Axis::Modes { forward, back } if a == 0 => columns = vec![forward, back],
                Axis::Square(product) => squares.push((a, product)),
                Axis::Modes { forward, back: transposed } => {
                    let inner = shape[a + 1..].iter().product();
                    shape[a] = forward.output_len();
                    there.push(Pass { product: forward, inner });
                    back.push(Pass { product: transposed, inner });
                }
            }
        }
        let inner = |a: usize| shape[a + 1..].iter().product();
        there.extend(squares.into_iter().map(|(a, product)| Pass { product, inner: inner(a) }));
        back.reverse();
        Self { n: lens.iter().product(), there, columns, table: Vec::new(), back }
    }

    /// B diag(table) Bᵀ with the modes B of all axes.
    pub(super) fn spectral(axes: &[Modes], table: Vec<T>) -> Self {
        let last = axes.len() - 1;
        let pair = |(a, modes): (usize, &Modes)| Axis::Modes {
            forward: modes.forward(|_| 1.0, a == last && a > 0),
            back: modes.back(|_| 1.0, a == last && a > 0),
        };
        Self { table, ..Self::separable(axes.iter().enumerate().map(pair).collect()) }
    }

    /// Applies the operator to every field of `input`. `fields` are buffers that grow.
    pub(super) fn apply(
        &self,
        input: &[T],
        out: &mut [T],
        fields: &mut [Vec<T>; 2],
        slots: &mut Vec<Slot<T>>,
    ) {
        if slots.len() < PARTS {
            slots.resize_with(PARTS, Slot::default);
        }
        let rows = self.columns.first().map_or(1, Product::input_len);
        let slab = self.n / rows;
        let inner = self.there.iter().fold(slab, Pass::output);
        for field in fields.iter_mut() {
            if field.len() < rows * inner {
                field.resize(rows * inner, T::zero());
            }
        }
        let [a, b] = fields;
        for (input, out) in input.chunks(self.n).zip(out.chunks_mut(self.n)) {
            let coefficients = if self.there.is_empty() {
                input
            } else {
                slabs(&self.there, (input, slab), (&mut a[..rows * inner], inner), slots);
                &a[..rows * inner]
            };
            if self.back.is_empty() {
                self.columns(coefficients, inner, out, slots);
            } else {
                let smooth = &mut b[..rows * inner];
                self.columns(coefficients, inner, smooth, slots);
                slabs(&self.back, (smooth, inner), (out, slab), slots);
            }
        }
    }

    /// The products along the first axis.
    fn columns(&self, input: &[T], inner: usize, out: &mut [T], slots: &mut [Slot<T>]) {
        let width = inner.div_ceil(PARTS).next_multiple_of(width::<T>());
        par::columns(out, inner, width, slots, |first, rows, slot| {
            simd::fused(Columns { engine: self, input, inner, first, rows, slot });
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
    (input, len): (&[T], usize),
    (out, out_len): (&mut [T], usize),
    slots: &mut [Slot<T>],
) {
    let count = input.len() / len;
    let together = (SLABS / len.max(out_len)).max(1);
    let a_part = count.div_ceil(PARTS).next_multiple_of(together);
    par::with_slots(out, a_part * out_len, slots, |part, out, slot| {
        let input = &input[part * a_part * len..];
        let groups = input.chunks(together * len).zip(out.chunks_mut(together * out_len));
        for (input, out) in groups {
            simd::fused(Slabs { passes, input: &input[..out.len() / out_len * len], out, slot });
        }
    });
}

/// Neighbouring slabs, through all passes.
struct Slabs<'a, T> {
    passes: &'a [Pass<T>],
    input: &'a [T],
    out: &'a mut [T],
    slot: &'a mut Slot<T>,
}

impl<T: Real> simd::Work for Slabs<'_, T> {
    #[inline(always)]
    fn run<A: Arithmetic>(self) {
        let Slot { buffers, slabs } = self.slot;
        let [mut a, mut b] = slabs.each_mut();
        let mut len = self.input.len();
        for (i, pass) in self.passes.iter().enumerate() {
            let next = Pass::output(len, pass);
            let last = i + 1 == self.passes.len();
            if !last && a.len() < next {
                a.resize(next, T::zero());
            }
            let from = if i == 0 { self.input } else { &b[..len] };
            let to = if last { &mut *self.out } else { &mut a[..next] };
            pass.run::<A>(from, to, buffers);
            std::mem::swap(&mut a, &mut b);
            len = next;
        }
    }
}

impl<T: Real> Pass<T> {
    #[inline(always)]
    fn run<A: Arithmetic>(&self, input: &[T], out: &mut [T], buffers: &mut Buffers<T>) {
        if size_of::<T>() == 4 {
            self.run_wide::<A, { width::<f32>() }>(input, out, buffers);
        } else {
            self.run_wide::<A, { width::<f64>() }>(input, out, buffers);
        }
    }

    #[inline(always)]
    fn run_wide<A: Arithmetic, const W: usize>(
        &self,
        input: &[T],
        out: &mut [T],
        buffers: &mut Buffers<T>,
    ) {
        let (product, inner) = (&self.product, self.inner);
        if product.is_contiguous() {
            return along_contiguous::<T, A, W>(product, input, out, buffers);
        }
        let (n, m) = (product.input_len() * inner, product.output_len() * inner);
        for (input, data) in input.chunks_exact(n).zip(out.chunks_exact_mut(m)) {
            let mut rows = Strided { data, inner };
            let products = std::slice::from_ref(product);
            let out = (&mut rows, inner);
            along_strided::<T, A, W>(products, &[], (input, inner), 0, out, buffers);
        }
    }
}

/// A block of lanes along the first axis.
struct Columns<'a, 'b, T> {
    engine: &'a Engine<T>,
    input: &'a [T],
    inner: usize,
    first: usize,
    rows: &'a mut [&'b mut [T]],
    slot: &'a mut Slot<T>,
}

impl<T: Real> simd::Work for Columns<'_, '_, T> {
    #[inline(always)]
    fn run<A: Arithmetic>(self) {
        let Engine { columns, table, .. } = self.engine;
        let count = self.rows.first().map_or(0, |row| row.len());
        let (input, out) = ((self.input, self.inner), (self.rows, count));
        let buffers = &mut self.slot.buffers;
        if size_of::<T>() == 4 {
            along_strided::<T, A, { width::<f32>() }>(
                columns, table, input, self.first, out, buffers,
            );
        } else {
            along_strided::<T, A, { width::<f64>() }>(
                columns, table, input, self.first, out, buffers,
            );
        }
    }
}
