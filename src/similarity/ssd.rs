use super::{Measure, Shares, Similarity, Warped, WarpedBar};
use crate::error::Result;
use crate::field::Image;
use crate::par;
use crate::scalar::Real;

/// Mean squared difference: ∫ mask (I − J)² / ∫ mask, in squared units of intensity.
///
#[doc = include_str!("../../docs/math/ssd.html")]
///
/// For images of the same modality and scale. Two passes over the images, no buffers.
///
/// ```
/// use rdmm_core::{field::Image, grid::Grid, similarity::{Measure, Ssd}};
/// let grid = Grid::new([8, 8], [1.0, 1.0])?;
/// let fixed = Image::<f64, 2>::zeros(&grid)?;
/// let mut loss = Ssd.prepare(&fixed, None)?;
/// let mut gradient = vec![0.0; grid.len()];
/// assert_eq!(loss.value_and_gradient(&[3.0; 64], &mut gradient), 9.0);
/// assert_eq!(gradient[0], 2.0 * 3.0 / 64.0);
/// # Ok::<(), rdmm_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Ssd;

struct Prepared<T> {
    fixed: Vec<T>,
    shares: Shares<T>,
}

impl<T: Real, const D: usize> Measure<T, D> for Ssd {
    #[inline(never)]
    fn prepare(
        &self,
        fixed: &Image<T, D>,
        mask: Option<&Image<T, D>>,
    ) -> Result<Box<dyn Similarity<T>>> {
        fixed.expect_finite("fixed image")?;
        Ok(Box::new(Prepared {
            fixed: fixed.data().to_vec(),
            shares: Shares::new(fixed.grid(), mask)?,
        }))
    }

    fn name(&self) -> &'static str {
        "SSD"
    }

    fn default_weight(&self) -> f64 {
        0.6
    }
}

/// J − I at a voxel.
#[inline]
fn residual<T: Real>(warped: &[T], fixed: &[T], i: usize) -> f64 {
    warped[i].f64() - fixed[i].f64()
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
        let (fixed, counted) = (&self.fixed, self.shares.counted(warped.seen));
        let residual = |i: usize| residual(warped.values, fixed, i);
        par::chunks(bar.values, |lo, out| {
            for (i, out) in (lo..).zip(out) {
                *out = T::of(2.0 * counted.at(i) * residual(i));
            }
        });
        let mean = counted.mean(|i| residual(i).powi(2));
        if let Some(seen) = bar.seen {
            par::chunks(seen, |lo, out| {
                for (i, out) in (lo..).zip(out) {
                    *out = T::of(counted.by_seen(i) * (residual(i).powi(2) - mean));
                }
            });
        }
        mean
    }

    fn value_where_seen(&mut self, warped: Warped<'_, T>) -> f64 {
        if !self.shares.fits(warped) {
            return f64::NAN;
        }
        let fixed = &self.fixed;
        self.shares.counted(warped.seen).mean(|i| residual(warped.values, fixed, i).powi(2))
    }

    fn mask(&self) -> Option<&[T]> {
        self.shares.mask()
    }
}
