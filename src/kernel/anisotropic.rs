//! Gaussians with a covariance matrix: their reach differs from direction to direction.

use nalgebra::{DMatrix, SMatrix, SVector};

use crate::error::{Error, Result, positive};
use crate::grid::Grid;

/// Largest asymmetry of a covariance that rounding may leave, over its largest entry.
const ASYMMETRY: f64 = 1e-9;

/// Correlation of two axes below which it is rounding: R Λ Rᵀ of a turn by 90° leaves 1e-16.
const CORRELATION: f64 = 1e-12;

/// A multiplier below this, of one at frequency zero, is lost in the rounding of the transforms.
const NEGLIGIBLE: f64 = 1e-17;

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
        if !(off <= ASYMMETRY * matrix.amax()) {
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
    fn principal_sigmas(&self) -> Vec<f64> {
        self.variances().into_iter().map(f64::sqrt).collect()
    }

    /// The eigenvalues of Σ.
    fn variances(&self) -> Vec<f64> {
        let matrix = DMatrix::from_fn(D, D, |a, b| self.matrix[(a, b)]);
        matrix.symmetric_eigenvalues().iter().copied().collect()
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

    /// `Ok` if `grid` resolves every principal standard deviation.
    pub(crate) fn expect_on(&self, grid: &Grid<D>, index: usize) -> Result<()> {
        let mut sigmas = self.principal_sigmas().into_iter();
        sigmas.try_for_each(|sigma| super::gaussian::expect_sigma(grid, index, sigma))
    }
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

/// Fourier multiplier of the sampled, unit-mass Gaussian of a covariance on a grid.
///
/// The samples' spectrum is the continuous one, exp(−½ ωᵀSω), summed over its aliases ω + 2πj: positive at
/// every frequency, for it is a sum of positive terms, and so is the kernel. S is Σ in voxels.
pub(super) struct Spectrum<const D: usize> {
    voxels: SMatrix<f64, D, D>,
    /// Aliases to either side along each axis.
    aliases: [usize; D],
    mass: f64,
}

impl<const D: usize> Spectrum<D> {
    pub(super) fn new(grid: &Grid<D>, covariance: &Covariance<D>) -> Self {
        let (tau, h) = (std::f64::consts::TAU, grid.spacing());
        let voxels =
            SMatrix::<f64, D, D>::from_fn(|a, b| covariance.matrix[(a, b)] / (h[a] * h[b]));
        // min ωᵀSω over all ω with one component given is ω_a² / (S⁻¹)_aa.
        let inverse = voxels.try_inverse().unwrap_or_else(SMatrix::identity);
        let aliases = std::array::from_fn(|a| {
            let nearest = |j: i32| (tau * f64::from(j) - 0.5 * tau).powi(2) / inverse[(a, a)];
            let counts = |j: &i32| (-0.5 * nearest(*j)).exp() > NEGLIGIBLE;
            (1..).take_while(counts).take(3).count()
        });
        let mut spectrum = Self { voxels, aliases, mass: 1.0 };
        spectrum.mass = spectrum.at([0.0; D]);
        spectrum
    }

    /// The multiplier at `omega` radians a voxel.
    pub(super) fn at(&self, omega: [f64; D]) -> f64 {
        let tau = std::f64::consts::TAU;
        let count: usize = self.aliases.iter().map(|r| 2 * r + 1).product();
        let alias = |mut flat: usize| {
            let omega = SVector::<f64, D>::from_fn(|a, _| {
                let (reach, width) = (self.aliases[a], 2 * self.aliases[a] + 1);
                let j = (flat % width) as f64 - reach as f64;
                flat /= width;
                omega[a] + tau * j
            });
            (-0.5 * omega.dot(&(self.voxels * omega))).exp()
        };
        (0..count).map(alias).sum::<f64>() / self.mass
    }
}
