//! Smoothed fields that are read while they are in cache.
//!
//! A field that several kernels make, ν_i = K_i p_i, and that is then multiplied with others, crosses the memory once more for
//! each of them where it is large. So its last passes and what reads it go slab by slab across the first axis.

use super::terms::Terms;
use super::traits::Kernel;
use super::workspace::{Partial, Scratch, Workspace};
use crate::aligned::Aligned;
use crate::grid::Grid;
use crate::par;
use crate::scalar::Real;
use crate::simd::vectorised;

/// All of K Σ_t weightₜ ⊙ inputₜ but its last passes, or all where the kernel has none.
pub(crate) fn begin<T: Real, K: Kernel<T> + ?Sized>(
    kernel: &K,
    terms: Terms<T>,
    partial: &mut Partial<T>,
    ws: &mut Workspace<T>,
) {
    if let Some(kernel) = kernel.by_slabs() {
        return kernel.begin(terms, partial, ws);
    }
    let (n, len) = terms.first().map_or((0, 0), |(weight, input)| (weight.len(), input.len()));
    let components = len.checked_div(n).unwrap_or(0);
    kernel.apply_products(terms, partial.grown(n, components), ws);
}

/// The slabs of a component from its value `lo` on that `out` has room for.
pub(crate) fn finish<T: Real, K: Kernel<T> + ?Sized>(
    kernel: &K,
    partial: &Partial<T>,
    component: usize,
    lo: usize,
    out: &mut [T],
    scratch: &mut Scratch<T>,
) {
    match kernel.by_slabs() {
        Some(kernel) => kernel.finish(partial, component, lo, out, scratch),
        None => partial.copy(component, lo, out),
    }
}

/// Buffers of [`Slabs::smooth_products`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffers<T> {
    /// Those of kernels that are applied at once.
    pub(crate) kernel: Workspace<T>,
    /// What every kernel leaves for the slabs.
    partials: Vec<Partial<T>>,
    slots: Vec<Slot<T>>,
}

/// Buffers of one thread.
#[derive(Clone, Debug, Default)]
struct Slot<T> {
    scratch: Scratch<T>,
    smooth: Aligned<T>,
}

/// How the fields of a grid fall apart into groups of slabs across the first axis.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slabs {
    /// Values of a component.
    n: usize,
    /// Values that are worked on together.
    group: usize,
}

/// Values of a group, where a slab has fewer.
const GROUP: usize = 4096;

/// Where a group of slabs lies in every component of a field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slab {
    n: usize,
    lo: usize,
    len: usize,
}

impl Slab {
    /// The values there of one component of a field.
    #[inline(always)]
    pub(crate) fn of<T>(self, field: &[T], component: usize) -> &[T] {
        &field[component * self.n + self.lo..][..self.len]
    }
}

impl Slabs {
    pub(crate) fn of<const D: usize>(grid: &Grid<D>) -> Self {
        let n = grid.len();
        let slab = n / grid.shape()[0];
        Self { n, group: (GROUP / slab).max(1) * slab }
    }

    /// Smoothed fields ν_i = K_i Σ_t weightₜ ⊙ inputₜ with the terms of every kernel, and `each(slab, i, a, ν_ia, out)` for every
    /// slab of component a of ν_i, i by i, while it is in cache. `out` has the slabs of all components of every field that
    /// is written to. What ν is goes to `kept`, if anywhere: all components of one i after the other.
    pub(crate) fn smooth_products<'a, T, K, Terms, const P: usize, const L: usize>(
        self,
        (kernels, terms): (&[K], Terms),
        kept: Option<&mut [T]>,
        out: [&mut [T]; L],
        buffers: &mut Buffers<T>,
        each: impl Fn(Slab, usize, usize, &[T], &mut [&mut [&mut [T]]; L]) + Sync,
    ) where
        T: Real,
        K: Kernel<T>,
        Terms: Fn(usize) -> [(&'a [T], &'a [T]); P],
    {
        let Self { n, group } = self;
        let Buffers { kernel: ws, partials, slots } = buffers;
        partials.resize_with(kernels.len(), Partial::default);
        slots.resize_with(par::PARTS, Slot::default);
        let mut components = 0;
        for (i, (kernel, partial)) in kernels.iter().zip(&mut *partials).enumerate() {
            let terms = terms(i);
            components = terms.first().map_or(0, |(_, input)| input.len() / n);
            begin(kernel, &terms, partial, ws);
        }
        let partials = &*partials;
        let counts = out.each_ref().map(|field| field.len() / n);
        let fields = kept.into_iter().chain(out).flat_map(|field| field.chunks_mut(n)).collect();
        par::slices_with_slots(fields, group, slots, |lo, slabs, slot| {
            let slab = Slab { n, lo, len: slabs.first().map_or(0, |values| values.len()) };
            let all: usize = counts.iter().sum();
            let (kept, mut rest) = slabs.split_at_mut(slabs.len() - all);
            let mut out = counts.map(|count| rest.split_off_mut(..count).unwrap_or_default());
            for (i, (kernel, partial)) in kernels.iter().zip(partials).enumerate() {
                for a in 0..components {
                    let nu = match kept.get_mut(i * components + a) {
                        Some(nu) => &mut **nu,
                        None => slot.smooth.grown(slab.len),
                    };
                    finish(kernel, partial, a, lo, nu, &mut slot.scratch);
                    vectorised(
                        #[inline(always)]
                        || each(slab, i, a, nu, &mut out),
                    );
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::Boundary;
    use crate::kernel::Gaussian;
    use crate::kernel::gaussian::rounding;

    /// Values of a component between the two parts, of a Gaussian by products.
    fn partial_len<T: Real, const D: usize>(gaussian: &Gaussian<T, D>) -> Option<usize> {
        Some(gaussian.operator().products()?.partial_len())
    }

    #[test]
    fn sums_of_products_are_smoothed_as_they_are_formed() {
        fn check<T: Real, const D: usize>(
            shape: [usize; D],
            sigma: f64,
            tolerance: f64,
            partial: &mut bool,
        ) {
            for boundary in Boundary::ALL {
                let grid = Grid::new(shape, [1.0; D]).unwrap().with_boundary(boundary);
                let n = grid.len();
                let random = |components: usize, seed: u64| -> Vec<T> {
                    crate::testing::random(components * n, seed)
                };
                let (v, w) = ([random(1, 1), random(1, 2)], [random(3, 3), random(3, 4)]);
                let gaussian = Gaussian::<T, D>::new(&grid, sigma).unwrap();
                let gaussian = gaussian.with_tolerance(tolerance).unwrap();
                let mut ws = Workspace::new();
                for count in 0..=2 {
                    let terms: Vec<(&[T], &[T])> =
                        v.iter().zip(&w).map(|(v, w)| (&v[..], &w[..])).take(count).collect();
                    let mut sum = vec![T::zero(); 3 * n];
                    for (weight, input) in &terms {
                        for (i, sum) in sum.iter_mut().enumerate() {
                            *sum += weight[i % n] * input[i];
                        }
                    }
                    let mut expected = vec![T::nan(); 3 * n];
                    gaussian.apply(&sum, &mut expected, &mut ws);
                    *partial |= partial_len(&gaussian).is_some_and(|len| len < n);
                    for kernel in [&gaussian as &dyn Kernel<T>, &TwoSteps(&gaussian)] {
                        let mut found = vec![T::nan(); 3 * n];
                        kernel.apply_products(&terms, &mut found, &mut ws);
                        assert_eq!(found, expected, "{boundary:?} {shape:?} σ = {sigma}");
                        if count > 0 {
                            let found = in_two_parts(kernel, &terms, 3, n / shape[0]);
                            assert_eq!(found, expected, "{boundary:?} {shape:?} σ = {sigma}");
                        }
                    }
                }
                let mut out = vec![T::zero(); 3 * n];
                for terms in [[(&v[0][1..], &w[0][..])], [(&v[0][..], &w[0][1..])]] {
                    gaussian.apply_products(&terms, &mut out, &mut ws);
                    assert!(out.iter().all(|x| x.is_nan()), "lengths that do not fit");
                    out.fill(T::zero());
                }
            }
        }

        /// Begun at once, and finished by three slabs at a time.
        fn in_two_parts<T: Real>(
            kernel: &dyn Kernel<T>,
            terms: &[(&[T], &[T])],
            components: usize,
            slab: usize,
        ) -> Vec<T> {
            let (mut partial, mut scratch) = (Partial::default(), Scratch::default());
            // What it held before must not matter.
            begin(kernel, &[terms[0], terms[0]], &mut partial, &mut Workspace::new());
            begin(kernel, terms, &mut partial, &mut Workspace::new());
            let n = terms[0].0.len();
            let mut out = vec![T::nan(); components * n];
            for (c, out) in out.chunks_mut(n).enumerate() {
                for (k, out) in out.chunks_mut(3 * slab).enumerate() {
                    finish(kernel, &partial, c, 3 * k * slab, out, &mut scratch);
                }
            }
            out
        }

        /// A kernel that knows nothing about products.
        struct TwoSteps<'a, K>(&'a K);

        impl<T: Real, K: Kernel<T>> Kernel<T> for TwoSteps<'_, K> {
            fn apply(&self, input: &[T], out: &mut [T], ws: &mut Workspace<T>) {
                self.0.apply(input, out, ws);
            }
        }

        for sigma in [0.8, 3.0] {
            let partial = &mut false;
            check::<f64, 1>([40], sigma, rounding::<f64>(), partial);
            check::<f32, 2>([37, 70], sigma, rounding::<f32>(), partial);
            check::<f64, 3>([9, 11, 20], sigma, 1e-6, partial);
            check::<f32, 3>([9, 20, 64], sigma, 1e-4, partial);
            check::<f64, 2>([9, 11], sigma, 0.0, partial);
            assert!(sigma < 3.0 || *partial, "some have a way back");
        }
    }

    #[test]
    fn what_was_not_begun_is_not_finished() {
        let grid = Grid::new([9, 20, 64], [1.0; 3]).unwrap();
        let (n, slab) = (grid.len(), 20 * 64);
        let (w, m) = (crate::testing::random::<f64>(n, 1), crate::testing::random(2 * n, 2));
        let gaussian = Gaussian::<f64, 3>::new(&grid, 3.0).unwrap().with_tolerance(1e-4).unwrap();
        assert!(partial_len(&gaussian).is_some_and(|len| len < n), "it has a way back");
        let (mut partial, mut ws) = (Partial::default(), Workspace::new());
        let finished = |partial: &Partial<f64>, component: usize, lo: usize, len: usize| {
            let mut out = vec![0.0; len];
            finish(&gaussian, partial, component, lo, &mut out, &mut Scratch::default());
            let nan = out.iter().filter(|x| x.is_nan()).count();
            assert!(nan == 0 || nan == len, "all or nothing");
            nan == 0
        };
        assert!(!finished(&partial, 0, 0, slab), "nothing was begun");
        begin(&gaussian, &[(&w, &m)], &mut partial, &mut ws);
        assert!(finished(&partial, 1, 2 * slab, 7 * slab));
        assert!(!finished(&partial, 2, 0, slab), "two components were begun");
        assert!(!finished(&partial, 1, 2 * slab, 8 * slab), "there are nine slabs");
        assert!(!finished(&partial, 0, 1, slab) && !finished(&partial, 0, 0, 1), "whole slabs");
        assert!(!finished(&partial, 0, usize::MAX - (usize::MAX % slab), slab), "far away");
        for terms in [[(&w[1..], &m[..])], [(&w[..], &m[1..])]] {
            begin(&gaussian, &terms, &mut partial, &mut ws);
            assert!(!finished(&partial, 0, 0, slab), "lengths that do not fit");
        }
    }
}
