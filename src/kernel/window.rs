//! Kernels that vanish on the border: v = b K (b m).

use super::slabs;
use super::terms::{Terms, fits, terms_fit};
use super::traits::{Kernel, SlabKernel, add_up, expect_on};
use super::workspace::{Partial, Scratch, Workspace};
use crate::error::{Error, Result};
use crate::field::Image;
use crate::grid::{Boundary, Grid};
use crate::par;
use crate::scalar::Real;

/// b K b with a window b: the velocity vanishes where b does, and the metric stays symmetric and
/// positive, which multiplying the velocity alone would break.
#[derive(Clone, Debug)]
pub struct Windowed<K, T, const D: usize> {
    kernel: K,
    window: Image<T, D>,
}

impl<K: Kernel<T>, T: Real, const D: usize> Windowed<K, T, D> {
    /// The kernel between two multiplications by `window`, which must live on the kernel's grid.
    ///
    /// # Errors
    /// [`Error::Setting`] unless the window lies in \[0, 1\]; [`Error::GridMismatch`] unless it has the
    /// shape of the kernel's grid.
    pub fn new(kernel: K, window: Image<T, D>) -> Result<Self> {
        expect_on(&kernel, window.grid(), "window")?;
        match window.data().iter().find(|&&b| !(b >= T::zero() && b <= T::one())) {
            None => Ok(Self { kernel, window }),
            Some(b) => Err(Error::setting("window", "values from 0 to 1", b)),
        }
    }
}

/// A window that is 0 on the outermost voxels and rises to 1 over `width` (physical units) as a
/// raised cosine in the distance from the border.
///
/// # Errors
/// [`Error::Setting`] unless `width` is finite and positive; [`Error::OutOfMemory`].
pub fn border_window<T: Real, const D: usize>(grid: &Grid<D>, width: f64) -> Result<Image<T, D>> {
    crate::error::positive("width of the border window", width)?;
    let last: [f64; D] = std::array::from_fn(|a| (grid.shape()[a] - 1) as f64 * grid.spacing()[a]);
    Image::from_fn(grid, |x| {
        let rise = |d: f64| 0.5 - 0.5 * (std::f64::consts::PI * (d / width).min(1.0)).cos();
        (0..D).map(|a| rise(x[a].min(last[a] - x[a]).max(0.0))).product()
    })
}

impl<K: Kernel<T>, T: Real, const D: usize> Kernel<T> for Windowed<K, T, D> {
    #[inline(never)]
    fn apply(&self, input: &[T], out: &mut [T], ws: &mut Workspace<T>) {
        let (b, n) = (self.window.data(), self.window.data().len());
        if !fits(n, input, out) {
            return;
        }
        self.kernel.apply_products(&[(b, input)], out, ws);
        par::components(out, n, |_, lo, chunk| multiply(&b[lo..], chunk));
    }

    fn shape(&self) -> Option<Vec<usize>> {
        Some(self.window.grid().shape().to_vec())
    }

    fn boundary(&self) -> Option<Boundary> {
        self.kernel.boundary()
    }

    fn by_slabs(&self) -> Option<&dyn SlabKernel<T>> {
        Some(self)
    }
}

impl<K: Kernel<T>, T: Real, const D: usize> SlabKernel<T> for Windowed<K, T, D> {
    fn begin(&self, terms: Terms<T>, partial: &mut Partial<T>, ws: &mut Workspace<T>) {
        let (b, len) = (self.window.data(), terms.first().map_or(0, |(_, input)| input.len()));
        if !terms_fit(b.len(), terms, len) {
            // A weight without a value fits nothing.
            return slabs::begin(&self.kernel, &[(&[], b)], partial, ws);
        }
        let mut sum = std::mem::take(&mut ws.window);
        let field = sum.grown(len);
        add_up(terms, b.len(), field);
        slabs::begin(&self.kernel, &[(b, field)], partial, ws);
        ws.window = sum;
    }

    #[inline(never)]
    fn finish(
        &self,
        partial: &Partial<T>,
        component: usize,
        lo: usize,
        out: &mut [T],
        scratch: &mut Scratch<T>,
    ) {
        slabs::finish(&self.kernel, partial, component, lo, out, scratch);
        multiply(self.window.data().get(lo..).unwrap_or(&[]), out);
    }
}

/// `out ← window ⊙ out`.
#[inline(always)]
fn multiply<T: Real>(window: &[T], out: &mut [T]) {
    for (x, &b) in out.iter_mut().zip(window) {
        *x *= b;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::Boundary;
    use crate::kernel::Gaussian;
    use crate::testing::{check_positive, check_symmetric};

    #[test]
    fn a_windowed_kernel_is_symmetric_positive_and_vanishes_on_the_border() {
        for boundary in Boundary::ALL {
            let grid = Grid::new([8, 9], [1.0, 0.5]).unwrap().with_boundary(boundary);
            let window = border_window::<f64, 2>(&grid, 2.0).unwrap();
            let kernel = Windowed::new(Gaussian::new(&grid, 1.5).unwrap(), window).unwrap();
            check_symmetric(&kernel, grid.len(), 1e-14).unwrap();
            check_positive(&kernel, grid.len(), 1e-14).unwrap();
            let mut out = vec![f64::NAN; 72];
            kernel.apply(&[1.0; 72], &mut out, &mut Workspace::new());
            assert!(out[..9].iter().all(|x| x.abs() < 1e-15), "b = 0 on the border");
            assert!(out[4 * 9 + 4] > 0.1);
        }
    }
}
