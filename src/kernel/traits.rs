//! What a smoothing operator is.

use super::terms::{Terms, fits, products_fit, sum_products};
use super::workspace::{Partial, Scratch, Workspace};
use crate::error::{Error, Result};
use crate::field::Field;
use crate::field::kind::Kind;
use crate::grid::{Boundary, Grid};
use crate::par;
use crate::scalar::Real;

/// A linear operator K on scalar fields over a grid that is symmetric and positive semi-definite as a
/// matrix, at the boundary too.
///
/// Symmetry is what conserves the Hamiltonian and what lets adjoints use K for Kᵀ; positivity makes
/// ½⟨m, K m⟩ a squared norm. [`check_symmetric`](crate::testing::check_symmetric) and
/// [`check_positive`](crate::testing::check_positive) test both.
///
/// [`Kernel::apply`] is all that a kernel needs. One that was made for a grid says so by [`Kernel::shape`] and
/// [`Kernel::boundary`]; one that wraps another passes them on.
pub trait Kernel<T: Real>: Send + Sync {
    /// `out ← K input`, component by component; both hold whole components of the kernel's grid.
    /// The result does not depend on what `ws` held before. Where the lengths do not fit, kernels of this
    /// crate make `out` NaN; [`Kernel::smooth`] checks and says what was expected.
    fn apply(&self, input: &[T], out: &mut [T], ws: &mut Workspace<T>);

    /// `out ← K Σ_t weightₜ ⊙ inputₜ`: each weight is one field, each input has as many components as `out`.
    /// Lengths that do not fit make `out` NaN. The default forms the sum first, in a buffer as large as `out`; a
    /// [`Gaussian`](super::Gaussian) by products of matrices forms it as it reads.
    ///
    /// ```
    /// use rdmm_core::{grid::Grid, kernel::{Gaussian, Kernel, Workspace}, testing::random};
    /// let grid = Grid::new([12, 10], [1.0, 1.0])?;
    /// let (w, m) = (random::<f64>(120, 1), random::<f64>(240, 2)); // a weight, a vector field
    /// let (kernel, mut ws) = (Gaussian::new(&grid, 2.0)?, Workspace::new());
    /// let (mut found, mut expected) = (vec![0.0; 240], vec![0.0; 240]);
    /// kernel.apply_products(&[(&w, &m)], &mut found, &mut ws);
    /// let product: Vec<f64> = m.iter().zip(w.iter().cycle()).map(|(m, w)| w * m).collect();
    /// kernel.apply(&product, &mut expected, &mut ws);
    /// assert_eq!(found, expected);
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    fn apply_products(&self, terms: &[(&[T], &[T])], out: &mut [T], ws: &mut Workspace<T>) {
        let weight = terms.first().map_or(out.len(), |(weight, _)| weight.len());
        let n = self.shape().map_or(weight, |shape| shape.iter().product());
        sum_and_apply(self, n, terms, out, ws);
    }

    /// Voxels along each axis of the grid that the kernel was made for; `None` where it takes any.
    fn shape(&self) -> Option<Vec<usize>> {
        None
    }

    /// The boundary of the grid that the kernel was made for; `None` where it takes any.
    fn boundary(&self) -> Option<Boundary> {
        None
    }

    /// K applied to every component of a field.
    ///
    /// # Errors
    /// [`Error::GridMismatch`] for a field over a grid of another shape; [`Error::OutOfMemory`].
    fn smooth<const D: usize, F: Kind>(&self, field: &Field<T, D, F>) -> Result<Field<T, D, F>>
    where
        Self: Sized,
    {
        expect_on(self, field.grid(), F::NAME)?;
        let mut out = Field::zeros_with(field.grid(), field.components())?;
        self.apply(field.data(), out.data_mut(), &mut Workspace::new());
        Ok(out)
    }

    /// The kernel in two parts, the second of which goes slab by slab. Kernels of this crate have it, others are
    /// applied as they are.
    #[doc(hidden)]
    fn by_slabs(&self) -> Option<&dyn SlabKernel<T>> {
        None
    }
}

/// A kernel whose last passes work on slabs across the first axis, one independently of the other.
pub trait SlabKernel<T: Real> {
    /// All of K Σ_t weightₜ ⊙ inputₜ but the last passes, with as many components as the inputs. Where lengths do not fit,
    /// or without terms, there are no components.
    fn begin(&self, terms: Terms<T>, partial: &mut Partial<T>, ws: &mut Workspace<T>);

    /// `out ←` the result's values from `lo` on in one component: whole slabs, so that `lo` and the length of `out` are
    /// multiples of n / n₀ for n₀ of n voxels along the first axis. Where there are no such values, `out` is NaN.
    /// This kernel must have begun `partial`: what another one left means something else.
    fn finish(
        &self,
        partial: &Partial<T>,
        component: usize,
        lo: usize,
        out: &mut [T],
        scratch: &mut Scratch<T>,
    );
}

/// [`Kernel::apply_products`] on `n` voxels, the sum first.
pub(crate) fn sum_and_apply<T: Real, K: Kernel<T> + ?Sized>(
    kernel: &K,
    n: usize,
    terms: Terms<T>,
    out: &mut [T],
    ws: &mut Workspace<T>,
) {
    if !products_fit(n, terms, out) {
        return;
    }
    let mut sum = std::mem::take(&mut ws.sum);
    let field = sum.grown(out.len());
    add_up(terms, n, field);
    kernel.apply(field, out, ws);
    ws.sum = sum;
}

/// `out ← Σ_t weightₜ ⊙ inputₜ` for components of `n` voxels.
pub(crate) fn add_up<T: Real>(terms: Terms<T>, n: usize, out: &mut [T]) {
    par::components(
        out,
        n,
        #[inline(always)]
        |c, lo, chunk| sum_products(terms, (c * n, lo), chunk),
    );
}

/// `Ok` if `kernel` was made for grids of this shape.
pub(crate) fn expect_on<T: Real, const D: usize>(
    kernel: &(impl Kernel<T> + ?Sized),
    grid: &Grid<D>,
    what: &'static str,
) -> Result<()> {
    match kernel.shape() {
        Some(shape) if shape != grid.shape() => {
            let expected = format!("of the kernel, {shape:?} voxels");
            Err(Error::GridMismatch { what, expected, found: grid.to_string() })
        }
        _ => Ok(()),
    }
}

/// `Ok` if `kernel` was made for this boundary.
pub(crate) fn expect_boundary<T: Real>(
    kernel: &(impl Kernel<T> + ?Sized),
    name: &'static str,
    boundary: Boundary,
    expected: &'static str,
) -> Result<()> {
    match kernel.boundary() {
        Some(found) if found != boundary => {
            let found = format!("{found:?} in place of {boundary:?}");
            Err(Error::setting(name, expected, found))
        }
        _ => Ok(()),
    }
}

/// The identity: no smoothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Identity;

impl<T: Real> Kernel<T> for Identity {
    fn apply(&self, input: &[T], out: &mut [T], _ws: &mut Workspace<T>) {
        if fits(1, input, out) {
            out.copy_from_slice(input);
        }
    }
}

/// What a pointer points to.
macro_rules! pointers {
    ($($pointer:ty),+) => {
        $(impl<T: Real, K: Kernel<T> + ?Sized> Kernel<T> for $pointer {
            fn apply(&self, input: &[T], out: &mut [T], ws: &mut Workspace<T>) {
                (**self).apply(input, out, ws);
            }

            fn apply_products(&self, terms: Terms<T>, out: &mut [T], ws: &mut Workspace<T>) {
                (**self).apply_products(terms, out, ws);
            }

            fn shape(&self) -> Option<Vec<usize>> {
                (**self).shape()
            }

            fn boundary(&self) -> Option<Boundary> {
                (**self).boundary()
            }

            fn by_slabs(&self) -> Option<&dyn SlabKernel<T>> {
                (**self).by_slabs()
            }
        })+
    };
}

pointers!(&K, Box<K>, std::sync::Arc<K>);
