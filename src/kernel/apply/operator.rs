//! What the ways to apply a kernel have in common.

use std::fmt::Debug;

use super::fft::Scalar;
use super::filters::{Filters, Transformed};
use super::separable::Separable;
use crate::field::axpy;
use crate::kernel::terms::{Terms, fits, products_fit, terms_fit};
use crate::kernel::traits::{Kernel, SlabKernel, sum_and_apply};
use crate::kernel::workspace::{Partial, Scratch, Workspace};
use crate::scalar::Real;

/// A kernel on a grid of any number of axes.
pub(crate) trait Operator<T: Real>: Kernel<T> + Debug {
    /// The products of matrices that it is, if it is.
    fn products(&self) -> Option<&Separable<T>> {
        None
    }
}

impl<T: Real> Kernel<T> for Separable<T> {
    fn apply(&self, input: &[T], out: &mut [T], ws: &mut Workspace<T>) {
        if fits(self.voxels(), input, out) {
            self.apply(input, out, &mut ws.fields, &mut ws.products);
        }
    }

    fn apply_products(&self, terms: Terms<T>, out: &mut [T], ws: &mut Workspace<T>) {
        if products_fit(self.voxels(), terms, out) {
            self.apply_products(terms, out, &mut ws.fields, &mut ws.products);
        }
    }

    fn by_slabs(&self) -> Option<&dyn SlabKernel<T>> {
        Some(self)
    }
}

impl<T: Real> SlabKernel<T> for Separable<T> {
    fn begin(&self, terms: Terms<T>, partial: &mut Partial<T>, ws: &mut Workspace<T>) {
        let (n, len) = (self.voxels(), terms.first().map_or(0, |(_, input)| input.len()));
        let components = if terms_fit(n, terms, len) { len / n } else { 0 };
        let partial = partial.grown(self.partial_len(), components);
        self.begin_products(terms, partial, &mut ws.fields[0], &mut ws.products);
    }

    fn finish(
        &self,
        partial: &Partial<T>,
        component: usize,
        lo: usize,
        out: &mut [T],
        Scratch(slot): &mut Scratch<T>,
    ) {
        let (values, slab) = (partial.component(component), self.slab());
        let slabs = lo.is_multiple_of(slab) && out.len().is_multiple_of(slab);
        let left = self.voxels().checked_sub(lo);
        let inside = left.is_some_and(|left| out.len() <= left);
        if values.len() == self.partial_len() && slabs && inside {
            self.finish(values, lo, out, slot);
        } else {
            out.fill(T::nan());
        }
    }
}

impl<T: Real> Operator<T> for Separable<T> {
    fn products(&self) -> Option<&Separable<T>> {
        Some(self)
    }
}

/// A sum of separable operators, with their factors.
#[derive(Clone, Debug)]
pub(super) struct Sum<T> {
    pub(super) n: usize,
    pub(super) parts: Vec<(T, Separable<T>)>,
}

impl<T: Real> Kernel<T> for Sum<T> {
    fn apply(&self, input: &[T], out: &mut [T], ws: &mut Workspace<T>) {
        if !fits(self.n, input, out) {
            return;
        }
        out.fill(T::zero());
        let mut part = std::mem::take(&mut ws.part);
        let field = part.grown(input.len());
        for (weight, operator) in &self.parts {
            operator.apply(input, field, &mut ws.fields, &mut ws.products);
            axpy(out, *weight, field);
        }
        ws.part = part;
    }

    fn apply_products(&self, terms: Terms<T>, out: &mut [T], ws: &mut Workspace<T>) {
        sum_and_apply(self, self.n, terms, out, ws);
    }
}

impl<T: Real> Operator<T> for Sum<T> {}

/// Operators by transforms, which take sums of products when they are formed.
macro_rules! by_transforms {
    ($($operator:ident),+) => {
        $(impl<T: Scalar> Kernel<T> for $operator<T> {
            fn apply(&self, input: &[T], out: &mut [T], ws: &mut Workspace<T>) {
                if fits(self.len(), input, out) {
                    self.apply(input, out, &mut ws.fields, &mut ws.transforms);
                }
            }

            fn apply_products(&self, terms: Terms<T>, out: &mut [T], ws: &mut Workspace<T>) {
                sum_and_apply(self, self.len(), terms, out, ws);
            }
        }

        impl<T: Scalar> Operator<T> for $operator<T> {})+
    };
}

by_transforms!(Filters, Transformed);
