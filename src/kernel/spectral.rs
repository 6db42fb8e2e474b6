//! Operators that are functions of the frequency on a grid.

use super::apply::compiled::planner;
use super::apply::domain::Domain;
use super::apply::plan::Planned;
use super::traits::{Kernel, SlabKernel};
use super::workspace::Workspace;
use crate::error::Result;
use crate::grid::{Boundary, Grid};
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
    shape: [usize; D],
    boundary: Boundary,
    operator: Planned<T>,
}

impl<T: Real, const D: usize> Spectral<T, D> {
    /// The operator with the multiplier `symbol(ω)`, where ω are the radians a physical unit along each axis of the grid:
    /// a wave of length ℓ along one axis has ω = 2π / ℓ there.
    ///
    /// | boundary | the operator | the symbol |
    /// | --- | --- | --- |
    /// | periodic | the one on fields that repeat | the same at −ω as at ω |
    /// | reflecting | the one on mirrored fields | the same at (±ω₀, ±ω₁, …): cosines have no direction |
    /// | free | the one in free space, of fields that are zero outside | the same at −ω as at ω |
    ///
    /// Frequencies beyond those of the grid, |ω_a| ≤ π / spacing, are never asked for. On a free grid fields are padded
    /// with zeros to twice their extent along each axis, and further, up to eight times, until the kernel has fallen to a
    /// thousandth of its peak in the middle of the padding; it is symmetric and positive wherever it is cut. The symbol is
    /// evaluated once or twice for every coefficient, 2^D times on a reflecting grid. To apply the operator takes 2 D
    /// Fourier transforms a component.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) for a symbol that is not finite or negative somewhere, is not the same
    /// where it must be, or whose kernel does not die out on a free grid;
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory) for a padding that cannot be held.
    ///
    /// The kernel of a Sobolev space, (1 − α Δ)⁻² with α = 9 units squared:
    ///
    /// ```
    /// use rdmm_core::{field::Image, grid::Grid, kernel::{Kernel, Spectral}, testing::random};
    /// let grid = Grid::new([24, 20], [1.0, 1.5])?;
    /// let sobolev = Spectral::from_symbol(&grid, |omega| {
    ///     (1.0 + 9.0 * omega.iter().map(|w| w * w).sum::<f64>()).powi(-2)
    /// })?;
    /// let image = Image::<f64, 2>::from_vec(&grid, random(grid.len(), 1))?;
    /// let smooth = sobolev.smooth(&image)?;
    /// let mass = |image: &Image<f64, 2>| image.data().iter().sum::<f64>();
    /// assert!((mass(&smooth) - mass(&image)).abs() < 1e-12); // the multiplier of constants is one
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    pub fn from_symbol(grid: &Grid<D>, symbol: impl Fn([f64; D]) -> f64 + Sync) -> Result<Self> {
        let at = |omega: &[f64]| symbol(std::array::from_fn(|a| omega[a]));
        Ok(Self::of(grid, planner::<T>().symbol(&Domain::of(grid), &at)?))
    }

    pub(super) fn of(grid: &Grid<D>, operator: Planned<T>) -> Self {
        Self { shape: grid.shape(), boundary: grid.boundary(), operator }
    }
}

impl<T: Real, const D: usize> Kernel<T> for Spectral<T, D> {
    #[inline(never)]
    fn apply(&self, input: &[T], out: &mut [T], ws: &mut Workspace<T>) {
        self.operator.apply(input, out, ws);
    }

    fn apply_products(&self, terms: &[(&[T], &[T])], out: &mut [T], ws: &mut Workspace<T>) {
        self.operator.apply_products(terms, out, ws);
    }

    fn shape(&self) -> Option<Vec<usize>> {
        Some(self.shape.to_vec())
    }

    fn boundary(&self) -> Option<Boundary> {
        Some(self.boundary)
    }

    fn by_slabs(&self) -> Option<&dyn SlabKernel<T>> {
        self.operator.by_slabs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::kernel::apply::profile::multiplier;
    use crate::kernel::{Covariance, Gaussian};
    use crate::testing::{check_positive, check_symmetric, random};

    fn applied<const D: usize>(kernel: &impl Kernel<f64>, grid: &Grid<D>) -> Vec<f64> {
        let (x, mut out) = (random::<f64>(grid.len(), 3), vec![f64::NAN; grid.len()]);
        kernel.apply(&x, &mut out, &mut Workspace::new());
        out
    }

    fn close(a: &[f64], b: &[f64], tolerance: f64, what: &str) {
        for (a, b) in a.iter().zip(b) {
            assert!((a - b).abs() < tolerance, "{what}: {a} {b}");
        }
    }

    fn check_gaussian<const D: usize>(shape: [usize; D], spacing: [f64; D], sigma: f64) {
        for boundary in Boundary::ALL {
            let grid = Grid::new(shape, spacing).unwrap().with_boundary(boundary);
            let symbol = |omega: [f64; D]| -> f64 {
                (0..D).map(|a| multiplier(sigma / spacing[a], omega[a] * spacing[a])).product()
            };
            let kernel = Spectral::<f64, D>::from_symbol(&grid, symbol).unwrap();
            let gaussian = Gaussian::<f64, D>::new(&grid, sigma).unwrap();
            let gaussian = gaussian.with_tolerance(0.0).unwrap();
            // Rounding; on free grids the Gaussian is cut at 7σ, the kernel where it is a thousandth.
            let tolerance = if boundary == Boundary::Free { 2e-3 } else { 1e-14 };
            let what = format!("{boundary:?} {shape:?} {sigma}");
            close(&applied(&kernel, &grid), &applied(&gaussian, &grid), tolerance, &what);
        }
    }

    #[test]
    fn a_symbol_is_a_function_of_radians_a_unit() {
        check_gaussian([40], [0.7], 1.9);
        check_gaussian([12, 9], [1.0, 1.5], 2.3);
        check_gaussian([6, 8, 5], [0.5, 1.0, 0.8], 1.1);
        // A Gaussian as large as the grid: the padding grows.
        check_gaussian([16], [1.0], 16.0);
    }

    #[test]
    fn a_symbol_may_favour_a_direction_where_the_boundary_has_one() {
        let fibre = Covariance::along([1.0, 2.0], 2.0, 0.8).unwrap();
        for boundary in Boundary::ALL {
            let grid = Grid::new([14, 11], [1.0, 0.9]).unwrap().with_boundary(boundary);
            // At the highest frequency, 3.1 radians a unit, 4e-2 is left; its aliases are 1e-3 at most.
            let symbol = |[x, y]: [f64; 2]| {
                let m = fibre.matrix();
                (-0.5 * (m[(0, 0)] * x * x + 2.0 * m[(0, 1)] * x * y + m[(1, 1)] * y * y)).exp()
            };
            let kernel = Spectral::<f64, 2>::from_symbol(&grid, symbol);
            if boundary == Boundary::Reflecting {
                let text = kernel.unwrap_err().to_string();
                assert!(text.contains("reflecting") && text.contains("Boundary::Free"), "{text}");
                continue;
            }
            let (kernel, gaussian) =
                (kernel.unwrap(), Gaussian::anisotropic(&grid, fibre).unwrap());
            check_symmetric(&kernel, grid.len(), 1e-14).unwrap();
            check_positive(&kernel, grid.len(), 1e-14).unwrap();
            let (found, expected) = (applied(&kernel, &grid), applied(&gaussian, &grid));
            close(&found, &expected, 0.1, "the Gaussian but for its aliases");
            let plain = applied(&Gaussian::new(&grid, fibre.sigma()).unwrap(), &grid);
            let off = |x: &[f64]| found.iter().zip(x).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
            assert!(off(&expected) < 0.05 * off(&plain), "{} {}", off(&expected), off(&plain));
        }
    }

    #[test]
    fn sobolev_kernels_are_symmetric_and_positive_at_every_boundary() {
        fn check<T: Real, const D: usize>(shape: [usize; D], tolerance: f64) {
            for boundary in Boundary::ALL {
                for s in [1.0, 1.5, 3.0] {
                    let grid = Grid::new(shape, [0.8; D]).unwrap().with_boundary(boundary);
                    let symbol = |omega: [f64; D]| {
                        (1.0 + 2.0 * omega.iter().map(|w| w * w).sum::<f64>()).powf(-s)
                    };
                    let kernel = Spectral::<T, D>::from_symbol(&grid, symbol).unwrap();
                    check_symmetric(&kernel, grid.len(), tolerance).unwrap();
                    check_positive(&kernel, grid.len(), tolerance).unwrap();
                }
            }
        }
        check::<f64, 1>([37], 1e-14);
        check::<f64, 2>([9, 12], 1e-14);
        check::<f32, 2>([9, 12], 1e-6);
        check::<f64, 3>([6, 5, 7], 1e-14);
    }

    #[test]
    fn a_free_kernel_is_the_one_of_free_space() {
        // The Green's function of 1 − α d²/dx² is exp(−|x| / √α) / (2 √α).
        let (h, length) = (0.25, 2.0);
        let grid = Grid::new([64], [h]).unwrap().with_boundary(Boundary::Free);
        let symbol = |[w]: [f64; 1]| 1.0 / (1.0 + (length * w).powi(2));
        let kernel = Spectral::<f64, 1>::from_symbol(&grid, symbol).unwrap();
        let (mut x, mut out) = (vec![0.0; 64], vec![f64::NAN; 64]);
        x[0] = 1.0 / h;
        kernel.apply(&x, &mut out, &mut Workspace::new());
        for (i, found) in out.iter().enumerate().skip(4) {
            let expected = (-(i as f64) * h / length).exp() / (2.0 * length);
            // Frequencies above that of the grid are 3e-3 of the value at one unit, and less further away.
            assert!((found - expected).abs() < 1e-3, "{i}: {found} {expected}");
        }
    }

    #[test]
    fn bad_symbols_are_refused() {
        fn text(boundary: Boundary, symbol: impl Fn([f64; 2]) -> f64 + Sync) -> String {
            let grid = Grid::new([8, 9], [1.0, 2.0]).unwrap().with_boundary(boundary);
            let error = Spectral::<f64, 2>::from_symbol(&grid, symbol).unwrap_err();
            assert!(matches!(error, Error::Setting { .. }), "{error}");
            error.to_string()
        }
        for boundary in Boundary::ALL {
            assert!(text(boundary, |_| f64::NAN).contains("NaN at [0.0, 0.0]"));
            assert!(text(boundary, |[x, _]| 1.0 / x).contains("inf at"));
            assert!(text(boundary, |[x, _]| 1.0 - x * x).contains("≥ 0 at every frequency"));
            let odd = text(boundary, |[x, _]| (0.1 * x).exp());
            assert!(odd.contains("the same at"), "{odd}");
        }
        // A mean is the same however far away.
        let mean = |[x, y]: [f64; 2]| if x.abs() + y.abs() < 1e-9 { 1.0 } else { 0.0 };
        assert!(text(Boundary::Free, mean).contains("axis 0"));
        let grid = Grid::new([8, 9], [1.0, 2.0]).unwrap();
        let mean = Spectral::<f64, 2>::from_symbol(&grid, mean).unwrap();
        let mut out = vec![0.0; 72];
        mean.apply(&random(72, 1), &mut out, &mut Workspace::new());
        assert!(out.iter().all(|x| (x - out[0]).abs() < 1e-15));
        // Padding that no memory holds is not tried.
        let long = Grid::new([1 << 20, 1 << 10], [1.0; 2]).unwrap().with_boundary(Boundary::Free);
        let found = Spectral::<f32, 2>::from_symbol(&long, |_| 1.0);
        assert!(matches!(found, Err(Error::OutOfMemory { .. })));
    }
}
