use super::{Counted, Measure, NO_CONTRAST, Shares, Similarity, Warped, WarpedBar};
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
    fixed: Fixed<T>,
    shares: Shares<T>,
}

/// The fixed image, with its moments where all is seen.
struct Fixed<T> {
    values: Vec<T>,
    mean: f64,
    variance: f64,
}

/// Moments of both images over what was seen.
struct Moments {
    fixed_mean: f64,
    mean: f64,
    covariance: f64,
    fixed_variance: f64,
    /// var J and its floor.
    variance: f64,
    /// What the fixed variance has of its own.
    fixed_spread: f64,
    spread: f64,
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
        let (mean, variance) = shares.whole().contrast(fixed.data(), "fixed image")?;
        let fixed = Fixed { values: fixed.data().to_vec(), mean, variance };
        Ok(Box::new(Prepared { fixed, shares }))
    }

    fn name(&self) -> &'static str {
        "NCC"
    }

    fn default_weight(&self) -> f64 {
        0.05
    }
}

impl<T: Real> Fixed<T> {
    fn moments(&self, counted: Counted<'_, T>, warped: Warped<'_, T>) -> Moments {
        let values = warped.values;
        let floor = NO_CONTRAST * self.variance;
        // Where all is seen, the moments of the fixed image are known. What is seen of it may be constant.
        let (fixed_mean, fixed_spread, fixed_variance) = if warped.seen.is_none() {
            (self.mean, self.variance, self.variance)
        } else {
            let (mean, variance) = counted.moments(&self.values);
            (mean, variance, variance + floor)
        };
        let (mean, spread) = counted.moments(values);
        let covariance =
            counted.mean(|i| (self.values[i].f64() - fixed_mean) * (values[i].f64() - mean));
        let variance = spread + floor;
        Moments { fixed_mean, mean, covariance, fixed_variance, variance, fixed_spread, spread }
    }
}

impl Moments {
    fn correlation(&self) -> f64 {
        self.covariance / (self.fixed_variance * self.variance).sqrt()
    }
}

impl<T: Real> Similarity<T> for Prepared<T> {
    fn value_and_gradient_where_seen(
        &mut self,
        warped: Warped<'_, T>,
        mut bar: WarpedBar<'_, T>,
    ) -> f64 {
        if !self.shares.fit(warped, &mut bar) {
            return f64::NAN;
        }
        let counted = self.shares.counted(warped.seen);
        let of = self.fixed.moments(counted, warped);
        let ncc = of.correlation();
        // ∂ncc/∂J = share · ((I − Ī)/√(var I · var J) − ncc (J − J̄)/var J)
        let by_fixed = 1.0 / (of.fixed_variance * of.variance).sqrt();
        let by_warped = ncc / of.variance;
        let (fixed, values) = (&self.fixed.values, warped.values);
        let deviations = |i: usize| (fixed[i].f64() - of.fixed_mean, values[i].f64() - of.mean);
        par::chunks(bar.values, |lo, out| {
            for (i, out) in (lo..).zip(out) {
                let (x, y) = deviations(i);
                *out = T::of(-counted.at(i) * (by_fixed * x - by_warped * y));
            }
        });
        let Some(seen) = bar.seen else { return 1.0 - ncc };
        // Each moment m is a mean of squares or products: ∂m/∂ω = mask / Σ mask ω · (what the voxel has − m).
        let by_own = ncc / of.fixed_variance;
        par::chunks(seen, |lo, out| {
            for (i, out) in (lo..).zip(out) {
                let (x, y) = deviations(i);
                let by_moments = by_fixed * (x * y - of.covariance)
                    - 0.5 * by_own * (x * x - of.fixed_spread)
                    - 0.5 * by_warped * (y * y - of.spread);
                *out = T::of(-counted.by_seen(i) * by_moments);
            }
        });
        1.0 - ncc
    }

    fn value_where_seen(&mut self, warped: Warped<'_, T>) -> f64 {
        if !self.shares.fits(warped) {
            return f64::NAN;
        }
        1.0 - self.fixed.moments(self.shares.counted(warped.seen), warped).correlation()
    }

    fn mask(&self) -> Option<&[T]> {
        self.shares.mask()
    }
}
