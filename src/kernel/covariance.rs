//! Gaussians with a covariance matrix: their reach differs from direction to direction.

use nalgebra::{DMatrix, SMatrix, SVector};

use super::apply::profile::Profile;
use crate::error::{Error, Result, positive};

/// Largest asymmetry of a covariance that rounding may leave, over its largest entry.
const ASYMMETRY: f64 = 1e-9;

/// Correlation of two axes below which it is rounding: R Λ Rᵀ of a turn by 90° leaves 1e-16.
const CORRELATION: f64 = 1e-12;

/// The covariance Σ of a Gaussian, in squared physical units along the grid's axes.
///
/// The kernel is exp(−½ xᵀ Σ⁻¹ x) with unit mass:
///
#[doc = include_str!("../../docs/math/covariance.html")]
///
/// Entry (a, b) belongs to the array axes a and b of the grid, as the components of vectors do. A covariance W
/// that is given in the world is `QᵀWQ` there, with the grid's direction Q.
///
/// ```
/// use nalgebra::SMatrix;
/// use rdmm_core::kernel::Covariance;
/// // σ = 3 along a fibre at 45°, σ = 1 across it.
/// let fibre = Covariance::along([1.0, 1.0], 3.0, 1.0)?;
/// assert!((fibre.matrix()[(0, 1)] - 4.0).abs() < 1e-12);
/// assert!((fibre.smallest_sigma() - 1.0).abs() < 1e-12);
/// assert!(Covariance::new(SMatrix::<f64, 2, 2>::new(1.0, 2.0, 2.0, 1.0)).is_err()); // indefinite
/// # Ok::<(), rdmm_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "SMatrix<f64, D, D>", into = "SMatrix<f64, D, D>"))]
pub struct Covariance<const D: usize> {
    matrix: SMatrix<f64, D, D>,
}

impl<const D: usize> Covariance<D> {
    /// The covariance with this matrix. It is made symmetric to the last bit.
    ///
    /// # Errors
    /// [`Error::NonFinite`] for an entry that is NaN or infinite; [`Error::Setting`] unless the matrix is
    /// symmetric to 1e-9 of its largest entry and positive definite.
    pub fn new(matrix: SMatrix<f64, D, D>) -> Result<Self> {
        if D == 0 {
            return Err(Error::Length { what: "axes of a covariance", expected: 1, found: 0 });
        }
        if let Some(index) = matrix.iter().position(|x| !x.is_finite()) {
            return Err(Error::NonFinite { what: "covariance", index, found: matrix[index] });
        }
        let off = (matrix - matrix.transpose()).amax();
        if off.is_nan() || off > ASYMMETRY * matrix.amax() {
            let expected = "a symmetric matrix";
            let found = format!("entries that differ by {off:e} from their mirror images");
            return Err(Error::setting("covariance of a Gaussian", expected, found));
        }
        let covariance = Self { matrix: 0.5 * matrix + 0.5 * matrix.transpose() };
        let smallest = covariance.variances().into_iter().fold(f64::INFINITY, f64::min);
        if smallest > 0.0 {
            Ok(covariance)
        } else {
            let expected = "a positive definite matrix";
            let found = format!("the eigenvalue {smallest:e}");
            Err(Error::setting("covariance of a Gaussian", expected, found))
        }
    }

    /// σ² on the diagonal: the same reach in all directions.
    ///
    /// # Errors
    /// [`Error::Setting`] unless `sigma` is finite and positive.
    pub fn isotropic(sigma: f64) -> Result<Self> {
        positive("σ of a Gaussian", sigma)?;
        Self::new(SMatrix::identity() * (sigma * sigma))
    }

    /// Standard deviation `along` in a direction (of any length, along the grid's axes) and `across` at right
    /// angles to it.
    ///
    /// # Errors
    /// [`Error::Setting`] unless both are finite and positive and the direction is finite and not zero.
    pub fn along(direction: [f64; D], along: f64, across: f64) -> Result<Self> {
        positive("σ along a direction", along)?;
        positive("σ across a direction", across)?;
        let direction = SVector::from(direction);
        let length = positive("length of a direction", direction.norm())?;
        let unit = direction / length;
        let stretch = unit * unit.transpose() * (along * along - across * across);
        Self::new(SMatrix::identity() * (across * across) + stretch)
    }

    /// The matrix Σ.
    #[must_use]
    pub fn matrix(&self) -> &SMatrix<f64, D, D> {
        &self.matrix
    }

    /// Root mean square of the principal standard deviations, √(tr Σ / D).
    #[must_use]
    pub fn sigma(&self) -> f64 {
        (self.matrix.trace() / D as f64).sqrt()
    }

    /// The smallest principal standard deviation.
    #[must_use]
    pub fn smallest_sigma(&self) -> f64 {
        self.principal_sigmas().into_iter().fold(f64::INFINITY, f64::min)
    }

    /// Geometric mean of the principal standard deviations, det(Σ)^(1/2D): σ of the isotropic Gaussian of
    /// the same peak.
    #[must_use]
    pub fn volume_sigma(&self) -> f64 {
        let logs: f64 = self.principal_sigmas().into_iter().map(f64::ln).sum();
        (logs / D as f64).exp()
    }

    /// The principal standard deviations, in no order.
    pub(super) fn principal_sigmas(&self) -> Vec<f64> {
        self.variances().into_iter().map(f64::sqrt).collect()
    }

    /// The eigenvalues of Σ.
    fn variances(&self) -> Vec<f64> {
        eigenvalues(D, self.matrix.as_slice())
    }

    /// The standard deviation along each axis, √Σ_aa.
    pub(crate) fn axis_sigmas(&self) -> [f64; D] {
        std::array::from_fn(|a| self.matrix[(a, a)].sqrt())
    }

    /// The largest correlation |Σ_ab| / √(Σ_aa Σ_bb) of two axes, zero where it is rounding.
    pub(crate) fn correlation(&self) -> f64 {
        let sigmas = self.axis_sigmas();
        let pairs = (0..D).flat_map(|a| (0..a).map(move |b| (a, b)));
        let of = |(a, b)| (self.matrix[(a, b)] / sigmas[a] / sigmas[b]).abs();
        let largest = pairs.map(of).fold(0.0, f64::max);
        if largest > CORRELATION { largest } else { 0.0 }
    }

    /// The Gaussian in voxels of this spacing.
    pub(super) fn profile(&self, spacing: &[f64], correlated: bool) -> Profile {
        let sigmas = self.axis_sigmas().iter().zip(spacing).map(|(sigma, h)| sigma / h).collect();
        let entry = |i: usize| self.matrix[(i / D, i % D)] / (spacing[i / D] * spacing[i % D]);
        Profile { sigmas, covariance: (0..D * D).map(entry).collect(), correlated }
    }
}

/// Of a symmetric matrix.
fn eigenvalues(d: usize, matrix: &[f64]) -> Vec<f64> {
    let matrix = DMatrix::from_column_slice(d, d, matrix);
    matrix.symmetric_eigenvalues().iter().copied().collect()
}

impl<const D: usize> TryFrom<SMatrix<f64, D, D>> for Covariance<D> {
    type Error = Error;

    fn try_from(matrix: SMatrix<f64, D, D>) -> Result<Self> {
        Self::new(matrix)
    }
}

impl<const D: usize> From<Covariance<D>> for SMatrix<f64, D, D> {
    fn from(covariance: Covariance<D>) -> Self {
        covariance.matrix
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::{Boundary, Grid};
    use crate::kernel::{Gaussian, GaussianBank, Kernel, Workspace};
    use crate::testing::{check_positive, check_symmetric, random};

    fn smooth<const D: usize>(kernel: &impl Kernel<f64>, grid: &Grid<D>, x: &[f64]) -> Vec<f64> {
        let mut out = vec![f64::NAN; grid.len()];
        kernel.apply(x, &mut out, &mut Workspace::new());
        out
    }

    fn close(a: &[f64], b: &[f64], tolerance: f64, what: &str) {
        for (a, b) in a.iter().zip(b) {
            assert!((a - b).abs() < tolerance, "{what}: {a} {b}");
        }
    }

    /// Offsets j·n of the periodic images, and whether they are mirrored, up to three extents away.
    fn images(boundary: Boundary) -> Vec<(isize, bool)> {
        let mirrored: &[bool] = match boundary {
            Boundary::Reflecting => &[false, true],
            _ => &[false],
        };
        let period = if boundary == Boundary::Reflecting { 2 } else { 1 };
        let reach = if boundary == Boundary::Free { 0 } else { 3 / period };
        (-reach..=reach).flat_map(|j| mirrored.iter().map(move |&m| (period * j, m))).collect()
    }

    /// The sampled Gaussian of unit mass, repeated, mirrored or cut at the border, summed directly.
    fn oracle<const D: usize>(grid: &Grid<D>, c: &Covariance<D>, input: &[f64]) -> Vec<f64> {
        let (shape, h) = (grid.shape(), grid.spacing());
        let inverse = c.matrix().try_inverse().unwrap();
        let g = |d: [isize; D]| {
            let x = SVector::<f64, D>::from_fn(|a, _| d[a] as f64 * h[a]);
            (-0.5 * x.dot(&(inverse * x))).exp()
        };
        let all = |reach: isize, f: &mut dyn FnMut([isize; D])| {
            let width = 2 * reach + 1;
            for mut flat in 0..width.pow(u32::try_from(D).unwrap()) {
                f(std::array::from_fn(|_| {
                    let d = flat % width - reach;
                    flat /= width;
                    d
                }));
            }
        };
        // Twelve voxels or more are eight σ of every Gaussian below.
        let mut mass = 0.0;
        all(if D > 3 { 9 } else { 24 }, &mut |d| mass += g(d));
        let folds = images(grid.boundary());
        let count = folds.len().pow(u32::try_from(D).unwrap());
        let signed = |i: usize| i.cast_signed();
        (0..grid.len())
            .map(|i| {
                let i = grid.unravel(i);
                let row = (0..grid.len()).map(|j| {
                    let j = grid.unravel(j);
                    let image = |mut flat: usize| {
                        g(std::array::from_fn(|a| {
                            let (period, mirrored) = folds[flat % folds.len()];
                            flat /= folds.len();
                            let n = signed(shape[a]);
                            let at = if mirrored { -1 - signed(j[a]) } else { signed(j[a]) };
                            signed(i[a]) - at - period * n
                        }))
                    };
                    (0..count).map(image).sum::<f64>()
                });
                row.zip(input).map(|(k, x)| k * x).sum::<f64>() / mass
            })
            .collect()
    }

    fn grids<const D: usize>(shape: [usize; D], spacing: [f64; D]) -> [Grid<D>; 3] {
        Boundary::ALL.map(|b| Grid::new(shape, spacing).unwrap().with_boundary(b))
    }

    fn check_oracle<const D: usize>(grid: &Grid<D>, covariance: Covariance<D>) {
        let gaussian = Gaussian::anisotropic(grid, covariance).unwrap();
        let input: Vec<f64> = random(grid.len(), 3);
        let name = format!("{:?} {covariance:?}", grid.boundary());
        // Free grids cut the kernel at 7σ, the oracle at 7σ and more: 2e-11 of the peak.
        close(&smooth(&gaussian, grid, &input), &oracle(grid, &covariance, &input), 1e-10, &name);
        check_symmetric(&gaussian, grid.len(), 1e-14).unwrap();
        check_positive(&gaussian, grid.len(), 1e-14).unwrap();
    }

    #[test]
    fn smoothing_equals_the_direct_sum() {
        for grid in grids([9, 8], [1.0, 0.5]) {
            check_oracle(&grid, Covariance::along([0.0, 1.0], 0.6, 1.4).unwrap());
            if grid.boundary() != Boundary::Reflecting {
                check_oracle(&grid, Covariance::along([1.0, 2.0], 1.3, 0.6).unwrap());
                check_oracle(&grid, Covariance::along([-3.0, 1.0], 1.0, 0.5).unwrap());
            }
        }
        for grid in grids([5, 4, 6], [1.0, 1.2, 0.8]) {
            check_oracle(&grid, Covariance::along([0.0, 0.0, 1.0], 1.3, 0.7).unwrap());
            if grid.boundary() != Boundary::Reflecting {
                check_oracle(&grid, Covariance::along([1.0, 1.0, -1.0], 1.2, 0.6).unwrap());
                let m = [1.2, 0.5, 0.0, 0.5, 0.9, -0.3, 0.0, -0.3, 0.8];
                check_oracle(&grid, Covariance::new(SMatrix::from_row_slice(&m)).unwrap());
            }
        }
        // Four axes: a part that is odd in all of them.
        let grid = Grid::new([4; 4], [1.0; 4]).unwrap().with_boundary(Boundary::Free);
        check_oracle(&grid, Covariance::along([1.0, -1.0, 1.0, 1.0], 1.1, 0.6).unwrap());
    }

    #[test]
    fn all_axes_together_are_the_axes_one_by_one() {
        for boundary in [Boundary::Periodic, Boundary::Free] {
            let grid = Grid::new([12, 9, 10], [1.0, 0.5, 0.8]).unwrap().with_boundary(boundary);
            let input: Vec<f64> = random(grid.len(), 5);
            for sigma in [0.5, 0.9, 3.0] {
                let tilted = Covariance::along([1.0, 1.0, 0.0], 2.0, 1.0).unwrap();
                let scales = [Covariance::isotropic(sigma).unwrap(), tilted];
                let bank = GaussianBank::anisotropic(&grid, &scales).unwrap();
                let joint = smooth(&bank.combined(&[1.0, 0.0]).unwrap(), &grid, &input);
                let gaussian = Gaussian::new(&grid, sigma).unwrap();
                // Rounding, and on free grids the cut at 7σ, which lies elsewhere for the larger padding.
                let tolerance = if boundary == Boundary::Free { 1e-11 } else { 1e-14 };
                let expected = smooth(&gaussian, &grid, &input);
                close(&joint, &expected, tolerance, &format!("{boundary:?} {sigma}"));
                let same = smooth(&bank.gaussians()[0], &grid, &input);
                assert_eq!(same, expected, "σ² on the diagonal is the isotropic Gaussian");
            }
        }
    }

    #[test]
    fn sums_and_inverses_of_a_bank_are_what_they_say() {
        for boundary in [Boundary::Periodic, Boundary::Free] {
            let grid = Grid::new([8, 7, 6], [1.0, 1.5, 0.7]).unwrap().with_boundary(boundary);
            let scales = [
                Covariance::along([1.0, 2.0, 0.5], 2.0, 0.8).unwrap(),
                Covariance::isotropic(2.5).unwrap(),
            ];
            let bank = GaussianBank::<f64, 3>::anisotropic(&grid, &scales).unwrap();
            let sum = bank.combined(&[0.4, 0.6]).unwrap();
            let inverse = bank.regularised_inverse(&[0.4, 0.6], 1e-2).unwrap();
            for kernel in [&sum, &inverse] {
                check_symmetric(kernel, grid.len(), 1e-12).unwrap();
                check_positive(kernel, grid.len(), 1e-12).unwrap();
            }
            let x: Vec<f64> = random(grid.len(), 4);
            let k = smooth(&sum, &grid, &x);
            let [a, b] = [0, 1].map(|i| smooth(&bank.gaussians()[i], &grid, &x));
            let parts: Vec<f64> = a.iter().zip(&b).map(|(a, b)| 0.4 * a + 0.6 * b).collect();
            close(&k, &parts, 1e-11, "the sum of the parts");
            if boundary == Boundary::Periodic {
                let raised: Vec<f64> = k.iter().zip(&x).map(|(k, x)| k + 1e-2 * x).collect();
                // Rounding, enlarged by 1/ε.
                close(&smooth(&inverse, &grid, &raised), &x, 1e-12, "the inverse");
            }
        }
    }

    #[test]
    fn the_mass_is_one_and_a_turn_turns_the_kernel() {
        let fibre = Covariance::along([1.0, 2.0], 2.0, 0.7).unwrap();
        let turned = Covariance::along([-2.0, 1.0], 2.0, 0.7).unwrap();
        for boundary in [Boundary::Periodic, Boundary::Free] {
            let grid = |shape| Grid::new(shape, [0.9; 2]).unwrap().with_boundary(boundary);
            let (from, to) = (grid([8, 11]), grid([11, 8]));
            // A quarter turn takes (i, j) to (−j, i), here counted from the other end.
            let turn = |x: &[f64]| -> Vec<f64> {
                (0..88).map(|flat| x[(flat % 8) * 11 + 10 - flat / 8]).collect()
            };
            let x: Vec<f64> = random(88, 6);
            let smoothed = smooth(&Gaussian::anisotropic(&from, fibre).unwrap(), &from, &x);
            let after = smooth(&Gaussian::anisotropic(&to, turned).unwrap(), &to, &turn(&x));
            close(&turn(&smoothed), &after, 1e-11, "turned");
            let straight = smooth(&Gaussian::anisotropic(&to, fibre).unwrap(), &to, &turn(&x));
            let off = straight.iter().zip(&after).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(off > 0.01, "the direction matters: {off}");
            if boundary == Boundary::Periodic {
                let (before, mass) = (x.iter().sum::<f64>(), smoothed.iter().sum::<f64>());
                assert!((before - mass).abs() < 1e-13, "{before} {mass}");
            }
        }
        // A matrix that was turned by 90° in floating point still has axes of its own.
        let (sin, cos) = std::f64::consts::FRAC_PI_2.sin_cos();
        let turn = SMatrix::<f64, 2, 2>::new(cos, -sin, sin, cos);
        let long = SMatrix::<f64, 2, 2>::new(9.0, 0.0, 0.0, 1.0);
        let swapped = Covariance::new(turn * long * turn.transpose()).unwrap();
        let grid = Grid::new([9, 12], [1.0; 2]).unwrap();
        let gaussian = Gaussian::<f64, 2>::anisotropic(&grid, swapped).unwrap();
        let across = Covariance::along([0.0, 1.0], 3.0, 1.0).unwrap();
        let expected = Gaussian::<f64, 2>::anisotropic(&grid, across).unwrap();
        let x: Vec<f64> = random(108, 7);
        close(&smooth(&gaussian, &grid, &x), &smooth(&expected, &grid, &x), 1e-14, "swapped");
    }

    #[test]
    fn measures_of_size() {
        let c = Covariance::along([1.0, 0.0, 1.0], 4.0, 1.0).unwrap();
        assert!((c.sigma() - 6.0_f64.sqrt()).abs() < 1e-14);
        assert!((c.volume_sigma() - 4.0_f64.cbrt()).abs() < 1e-14);
        assert!((c.smallest_sigma() - 1.0).abs() < 1e-14);
        let flat = Covariance::along([0.0, 0.0, 2.0], 0.5, 3.0).unwrap();
        assert!((flat.smallest_sigma() - 0.5).abs() < 1e-14);
        for sigma in [0.1, 1.0 / 3.0, 7.3] {
            let same = Covariance::<3>::isotropic(sigma).unwrap().sigma();
            assert!((same - sigma).abs() < 1e-15 * sigma);
        }
    }

    #[test]
    fn bad_covariances_are_refused() {
        let of = |a, b, c, d| Covariance::new(SMatrix::<f64, 2, 2>::new(a, b, c, d));
        assert!(matches!(of(1.0, f64::NAN, 0.0, 1.0), Err(Error::NonFinite { .. })));
        assert!(matches!(of(f64::INFINITY, 0.0, 0.0, 1.0), Err(Error::NonFinite { .. })));
        let text = |error: Result<Covariance<2>>| error.unwrap_err().to_string();
        assert!(text(of(1.0, 0.2, 0.3, 1.0)).contains("symmetric"));
        assert!(text(of(1.0, 2.0, 2.0, 1.0)).contains("positive definite"));
        assert!(text(of(-1.0, 0.0, 0.0, 1.0)).contains("-1"));
        assert!(text(of(0.0, 0.0, 0.0, 0.0)).contains("positive definite"));
        assert!(text(of(f64::MAX, 0.0, 0.0, -f64::MAX)).contains("positive definite"));
        for sigma in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Covariance::<2>::isotropic(sigma).is_err());
            assert!(Covariance::along([1.0, 0.0], sigma, 1.0).is_err());
            assert!(Covariance::along([1.0, 0.0], 1.0, sigma).is_err());
        }
        for bad in [0.0, f64::NAN, f64::INFINITY] {
            assert!(Covariance::along([bad, 0.0], 1.0, 2.0).is_err());
        }
        assert!(matches!(
            Covariance::<0>::new(SMatrix::<f64, 0, 0>::identity()),
            Err(Error::Length { .. })
        ));

        let grid = Grid::new([8, 8], [1.0, 2.0]).unwrap().with_boundary(Boundary::Free);
        let on = |c: Covariance<2>| Gaussian::<f32, 2>::anisotropic(&grid, c);
        let along = |a, b| Covariance::along([1.0, 1.0], a, b).unwrap();
        assert!(matches!(on(along(2.0, 0.9)), Err(Error::Sigma { .. })));
        assert!(matches!(on(along(17.0, 2.0)), Err(Error::Sigma { .. })));
        assert!(on(along(2.0, 1.0)).is_ok());
        let bank = |c: &[Covariance<2>]| GaussianBank::<f32, 2>::anisotropic(&grid, c);
        assert!(matches!(bank(&[]), Err(Error::Length { .. })));
        let second = bank(&[along(2.0, 2.0), along(2.0, 0.5)]);
        assert!(matches!(second, Err(Error::Sigma { index: 1, .. })));
        let reflecting = grid.clone().with_boundary(Boundary::Reflecting);
        let refused = Gaussian::<f32, 2>::anisotropic(&reflecting, along(3.0, 1.0));
        assert!(refused.unwrap_err().to_string().contains("Boundary::Free"));
        // Padding that no memory holds: the coarsest axis allows what the finest cannot carry.
        let thin = Grid::new([8, 8], [1.0, 1e-12]).unwrap().with_boundary(Boundary::Free);
        let huge = Gaussian::<f32, 2>::anisotropic(&thin, along(3.0, 1.0));
        assert!(matches!(huge, Err(Error::OutOfMemory { .. })));
    }
}
