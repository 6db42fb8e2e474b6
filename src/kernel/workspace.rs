//! Buffers of kernels, owned by the caller.

use super::apply::fft;
use super::apply::separable;
use crate::aligned::Aligned;
use crate::scalar::Real;

/// Buffers that kernels share. They grow to what the largest kernel needs and are then reused.
#[derive(Clone, Debug, Default)]
pub struct Workspace<T> {
    /// Of Fourier transforms.
    pub(crate) transforms: Vec<fft::Slot<T>>,
    /// Of products of matrices.
    pub(crate) products: Vec<separable::Slot<T>>,
    /// Fields between the axes.
    pub(crate) fields: [Aligned<T>; 2],
    /// What one summand makes of a field.
    pub(crate) part: Aligned<T>,
    /// A sum of products.
    pub(crate) sum: Aligned<T>,
    /// The same between two multiplications by a window.
    pub(crate) window: Aligned<T>,
}

impl<T: Real> Workspace<T> {
    /// Empty buffers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

/// A smoothing that is done but for its last passes, which go slab by slab: a slab is then still in cache when the
/// caller reads it.
#[derive(Clone, Debug, Default)]
pub struct Partial<T> {
    /// Values of a component.
    len: usize,
    components: usize,
    values: Aligned<T>,
}

impl<T: Real> Partial<T> {
    /// The values, for so many components of `len`.
    pub(crate) fn grown(&mut self, len: usize, components: usize) -> &mut [T] {
        (self.len, self.components) = (len, components);
        self.values.grown(len * components)
    }

    /// The values of a component, if there is one.
    pub(crate) fn component(&self, component: usize) -> &[T] {
        if component < self.components {
            &self.values[component * self.len..][..self.len]
        } else {
            &[]
        }
    }

    /// Copies values of a component, from `lo` on; NaN where there are none.
    pub(crate) fn copy(&self, component: usize, lo: usize, out: &mut [T]) {
        let from_lo = self.component(component).get(lo..);
        match from_lo.and_then(|values| values.get(..out.len())) {
            Some(values) => out.copy_from_slice(values),
            None => out.fill(T::nan()),
        }
    }
}

/// Buffers of a slab: one for every thread.
#[derive(Clone, Debug, Default)]
pub struct Scratch<T>(pub(crate) separable::Slot<T>);
