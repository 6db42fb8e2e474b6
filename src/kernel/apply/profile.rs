//! Fourier multipliers of Gaussians.

use nalgebra::DMatrix;

use super::domain::Domain;

/// σ beyond the border of a free grid after which a Gaussian is cut: exp(−7²/2) = 2e-11 of its peak.
const FREE_REACH: f64 = 7.0;

/// A multiplier below this, of one at frequency zero, is lost in the rounding of the transforms.
const NEGLIGIBLE: f64 = 1e-17;

/// A Gaussian on a grid, in voxels.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    /// Standard deviation along each axis.
    pub(crate) sigmas: Vec<f64>,
    /// The covariance, row by row.
    pub(crate) covariance: Vec<f64>,
    /// Whether axes are correlated.
    pub(crate) correlated: bool,
}

impl Profile {
    /// The multipliers of the Gaussian as a function of all axes together.
    pub(crate) fn spectrum(&self) -> Spectrum {
        Spectrum::new(self.sigmas.len(), self.covariance.clone())
    }
}

/// Fourier multiplier of the sampled, unit-mass Gaussian at `omega` radians a voxel, for a standard
/// deviation of `sigma` voxels.
///
/// The samples' spectrum is the continuous one summed over its aliases: positive at every frequency,
/// so that every matrix with it on the diagonal is positive, and the kernel itself is positive too.
pub(crate) fn multiplier(sigma: f64, omega: f64) -> f64 {
    let tau = std::f64::consts::TAU;
    let alias = |w: f64| (-0.5 * (sigma * w).powi(2)).exp();
    let sum = |w: f64| (-3..=3).map(|j| alias(w + tau * f64::from(j))).sum::<f64>();
    sum(omega) / sum(0.0)
}

/// Zeros behind a lane of a free grid so that nothing wraps around.
pub(crate) fn padding(sigma_in_voxels: f64) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "a few extents at most")]
    #[expect(clippy::cast_sign_loss, reason = "σ is positive")]
    let zeros = (FREE_REACH * sigma_in_voxels).ceil() as usize;
    zeros
}

/// Fourier multiplier of the sampled, unit-mass Gaussian of a covariance.
///
/// The samples' spectrum is the continuous one, exp(−½ ωᵀSω), summed over its aliases ω + 2πj: positive at
/// every frequency, for it is a sum of positive terms, and so is the kernel. S is the covariance in voxels.
pub(crate) struct Spectrum {
    /// S, row by row.
    covariance: Vec<f64>,
    /// Aliases to either side along each axis.
    aliases: Vec<usize>,
    mass: f64,
}

impl Spectrum {
    fn new(d: usize, covariance: Vec<f64>) -> Self {
        let tau = std::f64::consts::TAU;
        // min ωᵀSω over all ω with one component given is ω_a² / (S⁻¹)_aa.
        let inverse = DMatrix::from_row_slice(d, d, &covariance).try_inverse();
        let inverse = inverse.unwrap_or_else(|| DMatrix::identity(d, d));
        let alias = |a: usize| {
            let nearest = |j: i32| (tau * f64::from(j) - 0.5 * tau).powi(2) / inverse[(a, a)];
            let counts = |j: &i32| (-0.5 * nearest(*j)).exp() > NEGLIGIBLE;
            (1..).take_while(counts).take(3).count()
        };
        let aliases = (0..d).map(alias).collect();
        let mut spectrum = Self { covariance, aliases, mass: 1.0 };
        spectrum.mass = spectrum.at(&vec![0.0; d]);
        spectrum
    }

    /// The multiplier at `omega` radians a voxel.
    pub(crate) fn at(&self, omega: &[f64]) -> f64 {
        let (tau, d) = (std::f64::consts::TAU, omega.len());
        let count: usize = self.aliases.iter().map(|r| 2 * r + 1).product();
        let mut shifted = vec![0.0; d];
        let mut alias = |mut flat: usize| {
            for (a, shifted) in shifted.iter_mut().enumerate() {
                let (reach, width) = (self.aliases[a], 2 * self.aliases[a] + 1);
                let j = (flat % width) as f64 - reach as f64;
                flat /= width;
                *shifted = omega[a] + tau * j;
            }
            // ωᵀ(Sω)
            let rows = self.covariance.chunks_exact(d).zip(&shifted);
            let row = |row: &[f64]| row.iter().zip(&shifted).map(|(s, x)| s * x).sum::<f64>();
            let square: f64 = rows.map(|(s, x)| x * row(s)).sum();
            (-0.5 * square).exp()
        };
        (0..count).map(&mut alias).sum::<f64>() / self.mass
    }
}

/// The padding of a free grid along each axis for Gaussians of these σ.
pub(crate) fn reach(profiles: &[Profile], domain: &Domain) -> Vec<f64> {
    let largest = |a: usize| profiles.iter().fold(0.0, |m, p| p.sigmas[a].max(m));
    (0..domain.shape.len()).map(largest).collect()
}
