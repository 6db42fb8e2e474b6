//! Symmetric positive smoothing operators: Gaussians, their sums, and windowed kernels.

pub mod anisotropic;
mod axis;
mod engine;
mod form;
pub mod gaussian;
mod product;
pub mod spectral;
mod transform;
pub mod window;

pub use anisotropic::Covariance;
pub use gaussian::{Gaussian, GaussianBank};
pub use spectral::Spectral;
pub use window::Windowed;

use crate::aligned::Aligned;
use crate::error::{Error, Result};
use crate::field::kind::Kind;
use crate::field::{Field, add_products};
use crate::grid::Grid;
use crate::par;
use crate::scalar::Real;

/// A linear operator K on scalar fields over a grid that is symmetric and positive semi-definite as a
/// matrix, at the boundary too.
///
/// Symmetry is what conserves the Hamiltonian and what lets adjoints use K for Kᵀ; positivity makes
/// ½⟨m, K m⟩ a squared norm. [`check_symmetric`](crate::testing::check_symmetric) and
/// [`check_positive`](crate::testing::check_positive) test both.
pub trait Kernel<T: Real>: Send + Sync {
    /// `out ← K input`, component by component; both hold whole components of the kernel's grid.
    /// The result does not depend on what `ws` held before. Where the lengths do not fit, kernels of this
    /// crate make `out` NaN; [`Kernel::smooth`] checks and says what was expected.
    fn apply(&self, input: &[T], out: &mut [T], ws: &mut Workspace<T>);

    /// `out ← K Σ_t weightₜ ⊙ inputₜ`: each weight is one field, each input has as many components as `out`.
    /// Lengths that do not fit make `out` NaN. The default forms the sum first, in a buffer as large as `out`; a
    /// [`Gaussian`] by products of matrices forms it as it reads.
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
        sum_and_apply(self, terms, out, ws);
    }

    /// The first part of [`Kernel::apply_products`], with as many components as the inputs: leaves in `half` what
    /// [`Kernel::finish`] makes the result of, no more than one number a value. The default does all of it; of a [`Gaussian`]
    /// by products with the modes along all axes but the first, the way back from the coefficients remains. Where lengths
    /// do not fit, or without terms, there are no components.
    ///
    /// Whoever overrides one of the two methods overrides both, and a kernel that passes one on to another kernel passes on both.
    ///
    /// ```
    /// use rdmm_core::{grid::Grid, kernel::{Gaussian, Half, Kernel, Scratch, Workspace}};
    /// use rdmm_core::testing::random;
    /// let grid = Grid::new([12, 10], [1.0, 1.0])?;
    /// let (w, m) = (random::<f64>(120, 1), random::<f64>(240, 2)); // a weight, a vector field
    /// let (kernel, mut ws) = (Gaussian::new(&grid, 2.0)?, Workspace::new());
    /// let (mut half, mut expected) = (Half::new(), vec![0.0; 240]);
    /// kernel.apply_products(&[(&w, &m)], &mut expected, &mut ws);
    /// kernel.begin_products(&[(&w, &m)], &mut half, &mut ws);
    /// let mut rows = vec![0.0; 30]; // rows 4 to 6 of the second component
    /// kernel.finish(&half, 1, 4 * 10, &mut rows, &mut Scratch::new());
    /// assert_eq!(rows, expected[120 + 40..][..30]);
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    fn begin_products(&self, terms: &[(&[T], &[T])], half: &mut Half<T>, ws: &mut Workspace<T>) {
        begin_and_finish(self, terms, half, ws);
    }

    /// `out ←` the result's values from `lo` on in one component: whole slabs across the first axis, so that `lo` and the
    /// length of `out` are multiples of n / n₀ for n₀ of n voxels along it. Where there are no such values, `out` is NaN.
    /// This kernel must have begun `half`: what another one left means something else.
    fn finish(
        &self,
        half: &Half<T>,
        component: usize,
        lo: usize,
        out: &mut [T],
        _scratch: &mut Scratch<T>,
    ) {
        half.copy(component, lo, out);
    }

    /// Voxels along each axis of the grid that the kernel was made for; `None` where it takes any.
    fn shape(&self) -> Option<Vec<usize>> {
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
}

/// `Ok` if `kernel` was made for grids of this shape.
pub(crate) fn expect_on<T: Real, const D: usize>(
    kernel: &impl Kernel<T>,
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

/// Whether `input` and `out` hold the same number of whole components of `n` voxels; `out` is NaN
/// otherwise.
pub(crate) fn fits<T: Real>(n: usize, input: &[T], out: &mut [T]) -> bool {
    let fits = input.len() == out.len() && input.len().is_multiple_of(n);
    if !fits {
        out.fill(T::nan());
    }
    fits
}

/// [`Kernel::apply_products`] in two steps.
fn sum_and_apply<T: Real, K: Kernel<T> + ?Sized>(
    kernel: &K,
    terms: &[(&[T], &[T])],
    out: &mut [T],
    ws: &mut Workspace<T>,
) {
    let weight = terms.first().map_or(out.len(), |(weight, _)| weight.len());
    let n = kernel.shape().map_or(weight, |shape| shape.iter().product());
    if !products_fit(n, terms, out) {
        return;
    }
    let mut sum = std::mem::take(&mut ws.sum);
    let field = sum.grown(out.len());
    par::components(
        field,
        n,
        #[inline(always)]
        |c, lo, chunk| sum_products(terms, (c * n, lo), chunk),
    );
    kernel.apply(field, out, ws);
    ws.sum = sum;
}

/// [`Kernel::begin_products`] that leaves nothing but a copy to [`Kernel::finish`].
fn begin_and_finish<T: Real, K: Kernel<T> + ?Sized>(
    kernel: &K,
    terms: &[(&[T], &[T])],
    half: &mut Half<T>,
    ws: &mut Workspace<T>,
) {
    let (n, len) = terms.first().map_or((0, 0), |(weight, input)| (weight.len(), input.len()));
    let components = len.checked_div(n).unwrap_or(0);
    kernel.apply_products(terms, half.grown(n, components), ws);
}

/// Whether every weight has `n` values and every input those of `out`, whole components; `out` is NaN otherwise.
fn products_fit<T: Real>(n: usize, terms: &[(&[T], &[T])], out: &mut [T]) -> bool {
    let fits = terms_fit(n, terms, out.len());
    if !fits {
        out.fill(T::nan());
    }
    fits
}

/// Whether every weight has `n` values and every input `len`, whole components.
fn terms_fit<T>(n: usize, terms: &[(&[T], &[T])], len: usize) -> bool {
    let fits = |(weight, input): &(&[T], &[T])| weight.len() == n && input.len() == len;
    len.is_multiple_of(n) && terms.iter().all(fits)
}

/// `out ← Σ_t weightₜ ⊙ inputₜ` from the value `lo` of a component on that begins at `component`.
#[inline(always)]
fn sum_products<T: Real>(terms: &[(&[T], &[T])], (component, lo): (usize, usize), out: &mut [T]) {
    if terms.is_empty() {
        out.fill(T::zero());
    }
    for (t, (weight, input)) in terms.iter().enumerate() {
        add_products(t == 0, &weight[lo..], &input[component + lo..], out);
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

/// A smoothing that is done but for what [`Kernel::finish`] does slab by slab, so that a slab is still in cache when the
/// caller reads it.
#[derive(Clone, Debug, Default)]
pub struct Half<T> {
    /// Values of a component.
    len: usize,
    components: usize,
    values: Aligned<T>,
}

impl<T: Real> Half<T> {
    /// An empty one. It grows to what it has to hold and is then reused.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The values, for so many components of `len`.
    fn grown(&mut self, len: usize, components: usize) -> &mut [T] {
        (self.len, self.components) = (len, components);
        self.values.grown(len * components)
    }

    /// The values of a component, if there is one.
    fn component(&self, component: usize) -> &[T] {
        if component < self.components {
            &self.values[component * self.len..][..self.len]
        } else {
            &[]
        }
    }

    /// Copies values of a component, from `lo` on.
    fn copy(&self, component: usize, lo: usize, out: &mut [T]) {
        let from_lo = self.component(component).get(lo..);
        match from_lo.and_then(|values| values.get(..out.len())) {
            Some(values) => out.copy_from_slice(values),
            None => out.fill(T::nan()),
        }
    }
}

/// Buffers of [`Kernel::finish`]: one for every thread that calls it. They grow and are reused.
#[derive(Clone, Debug, Default)]
pub struct Scratch<T>(engine::Slot<T>);

impl<T: Real> Scratch<T> {
    /// Empty buffers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

/// Buffers that kernels share. They grow to what the largest kernel needs and are then reused.
#[derive(Clone, Debug, Default)]
pub struct Workspace<T> {
    pub(crate) slots: Vec<transform::Slot<T>>,
    pub(crate) fields: [Aligned<T>; 2],
    pub(crate) parts: Vec<engine::Slot<T>>,
    pub(crate) part: Aligned<T>,
    pub(crate) sum: Aligned<T>,
    pub(crate) window: Aligned<T>,
}

impl<T: Real> Workspace<T> {
    /// Empty buffers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}
