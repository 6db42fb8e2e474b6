use super::{Measure, NO_CONTRAST, Shares, Similarity};
use crate::error::Result;
use crate::field::Image;
use crate::par;
use crate::scalar::Real;

/// One minus the normalised cross-correlation of the whole images: 1 − cov / √(var I · var J), between
/// 0 and 2.
///
#[doc = include_str!("../../docs/math/ncc.html")]
///
/// For images that differ by a linear change of intensity, of positive slope: a negative one costs up
/// to 2. Moments are means over the mask. var J has 1e-12 var I added to it, so that a constant
/// warped image has a loss of 1 and a finite gradient; contrasts above 1e-4 of the fixed image's do
/// not notice. Three passes over the images and one for the
/// gradient, no buffers.
///
/// [`Measure::prepare`] also gives [`Error::NoContrast`](crate::Error::NoContrast) for a fixed image
/// that is constant where the mask counts.
///
/// ```
/// use rdmm_core::{field::Image, grid::Grid, similarity::{Measure, Ncc}};
/// let grid = Grid::new([8, 8], [1.0, 1.0])?;
/// let fixed = Image::<f64, 2>::from_fn(&grid, |x| x[0] * x[1])?;
/// let brighter: Vec<f64> = fixed.data().iter().map(|x| 2.0 * x + 5.0).collect();
/// let loss = Ncc.prepare(&fixed, None)?.value(&brighter);
/// assert!(loss.abs() < 1e-11); // the 1e-12 above
/// # Ok::<(), rdmm_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Ncc;

struct Prepared<T> {
    fixed: Vec<T>,
    shares: Shares<T>,
    mean: f64,
    variance: f64,
}

/// Moments of a warped image.
struct Moments {
    mean: f64,
    covariance: f64,
    /// var J and its floor.
    variance: f64,
}

impl<T: Real, const D: usize> Measure<T, D> for Ncc {
    #[inline(never)]
    fn prepare(
        &self,
        fixed: &Image<T, D>,
        mask: Option<&Image<T, D>>,
    ) -> Result<Box<dyn Similarity<T>>> {
        fixed.expect_finite("fixed image")?;
        let shares = Shares::new(fixed.grid(), mask)?;
        let (mean, variance) = shares.contrast(fixed.data(), "fixed image")?;
        Ok(Box::new(Prepared { fixed: fixed.data().to_vec(), shares, mean, variance }))
    }

    fn name(&self) -> &'static str {
        "NCC"
    }

    fn default_weight(&self) -> f64 {
        0.05
    }
}

impl<T: Real> Prepared<T> {
    fn moments(&self, warped: &[T]) -> Moments {
        let (mean, variance) = self.shares.moments(warped);
        let covariance =
            self.shares.mean(|i| (self.fixed[i].f64() - self.mean) * (warped[i].f64() - mean));
        Moments { mean, covariance, variance: variance + NO_CONTRAST * self.variance }
    }

    fn correlation(&self, of: &Moments) -> f64 {
        of.covariance / (self.variance * of.variance).sqrt()
    }
}

impl<T: Real> Similarity<T> for Prepared<T> {
    fn value_and_gradient(&mut self, warped: &[T], gradient: &mut [T]) -> f64 {
        if !self.shares.fit(warped, gradient) {
            return f64::NAN;
        }
        let of = self.moments(warped);
        let ncc = self.correlation(&of);
        // ∂ncc/∂J = share · ((I − Ī)/√(var I · var J) − ncc (J − J̄)/var J)
        let by_fixed = 1.0 / (self.variance * of.variance).sqrt();
        let by_warped = ncc / of.variance;
        par::chunks(gradient, |lo, out| {
            for (i, out) in (lo..).zip(out) {
                let (x, y) = (self.fixed[i].f64() - self.mean, warped[i].f64() - of.mean);
                *out = T::of(-self.shares.at(i) * (by_fixed * x - by_warped * y));
            }
        });
        1.0 - ncc
    }

    fn value(&mut self, warped: &[T]) -> f64 {
        if warped.len() != self.fixed.len() {
            return f64::NAN;
        }
        1.0 - self.correlation(&self.moments(warped))
    }
}
