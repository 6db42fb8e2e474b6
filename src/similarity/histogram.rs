//! Joint histograms of two images by cubic B-spline Parzen windows, and gradients through them.

use super::{Shares, Warped, WarpedBar};
use crate::error::{Error, Result};
use crate::field::Image;
use crate::ops::spline::{derivatives, weights};
use crate::par;
use crate::scalar::Real;

/// How grey values are counted: the settings of [`MutualInformation`](super::MutualInformation) and
/// [`Nmi`](super::Nmi).
///
/// `bins` lie at equal distances from one end of a range to the other. A voxel counts in the four bins next
/// to its value, by a cubic B-spline, so that the histogram is twice differentiable in the grey values and
/// each voxel counts once.
///
/// The ranges are settings, [0, 1] by default, because the registration brings all images to [0, 1] first
/// ([`Intensities`](crate::registration::Intensities)). A range that followed the warped image's own extremes
/// would jump as voxels enter and leave the grid. State the ranges where images are taken as given. Values
/// beyond a range are squeezed into one bin beyond its end, x ↦ tanh x in bins, which is twice
/// differentiable too.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Histogram {
    /// Bins of each image, 4 to 512; 32 by default.
    pub bins: usize,
    /// Range of the fixed image's grey values.
    pub fixed: [f64; 2],
    /// Range of the moving image's grey values.
    pub moving: [f64; 2],
}

impl Default for Histogram {
    fn default() -> Self {
        Self { bins: 32, fixed: [0.0, 1.0], moving: [0.0, 1.0] }
    }
}

/// Grey values in bins: bin k at k.
#[derive(Clone, Copy, Debug)]
struct Scale {
    low: f64,
    per_bin: f64,
    last: f64,
}

impl Scale {
    fn new(name: &'static str, [low, high]: [f64; 2], bins: usize) -> Result<Self> {
        let last = bins as f64 - 1.0;
        let per_bin = last / (high - low);
        if low.is_finite() && high.is_finite() && per_bin.is_finite() && per_bin > 0.0 {
            return Ok(Self { low, per_bin, last });
        }
        let found = format!("{low} to {high}");
        Err(Error::setting(name, "two finite numbers, the smaller one first", found))
    }

    /// A value in bins, from −1 to `last` + 1, and the derivative of that.
    #[inline]
    fn at(&self, x: f64) -> (f64, f64) {
        let t = (x - self.low) * self.per_bin;
        let end = if t < 0.0 { 0.0 } else { self.last };
        if t < 0.0 || t > self.last {
            let beyond = (t - end).tanh();
            (end + beyond, (1.0 - beyond * beyond) * self.per_bin)
        } else {
            (t, self.per_bin)
        }
    }

    /// The first of the four bins that `t` counts in, with two bins more at each end, and its fraction.
    #[inline]
    fn cell(&self, t: f64) -> (usize, f64) {
        // t is NaN where the image is: the fraction is then too.
        let floor = t.floor().clamp(-1.0, self.last);
        #[expect(clippy::cast_possible_truncation, reason = "from 0 to the number of bins")]
        #[expect(clippy::cast_sign_loss, reason = "not negative")]
        let first = (floor + 1.0) as usize;
        (first, t - floor)
    }
}

/// Entropies of the histograms, in nats.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entropies {
    pub(super) fixed: f64,
    pub(super) warped: f64,
    pub(super) joint: f64,
}

/// Most histograms that are summed apart and then added.
const PARTS: usize = 32;

/// The joint histogram of a fixed image with warped ones.
pub(super) struct Joint<T> {
    shares: Shares<T>,
    bins: Bins<T>,
    /// Sums over consecutive parts of the voxels.
    parts: Vec<f64>,
    /// p(a, b), fixed image first.
    both: Vec<f64>,
    /// p(a).
    fixed: Vec<f64>,
    /// p(b).
    warped: Vec<f64>,
    /// ∂loss/∂p(a, b), less a constant.
    slopes: Vec<f64>,
}

/// Where voxels count.
struct Bins<T> {
    /// Values of the fixed image in bins.
    fixed: Vec<T>,
    fixed_scale: Scale,
    warped_scale: Scale,
    /// Bins of an axis, two more at each end.
    side: usize,
}

/// Derivatives of a loss in the entropies.
#[derive(Clone, Copy, Debug)]
pub(super) struct ByEntropies {
    pub(super) fixed: f64,
    pub(super) warped: f64,
    pub(super) joint: f64,
}

impl<T: Real> Bins<T> {
    /// First cell of the 4×4 that voxel `i` counts in, its fractions, and the derivative of its second one.
    #[inline]
    fn cell(&self, warped: &[T], i: usize) -> (usize, f64, f64, f64) {
        let (a, s) = self.fixed_scale.cell(self.fixed[i].f64());
        let (t, slope) = self.warped_scale.at(warped[i].f64());
        let (b, t) = self.warped_scale.cell(t);
        (a * self.side + b, s, t, slope)
    }

    /// Σ over the cells of a voxel of the fixed image's weights, those of the other, and `slopes`.
    #[inline]
    fn meet(&self, at: usize, of_fixed: [f64; 4], of_warped: [f64; 4], slopes: &[f64]) -> f64 {
        let mut sum = 0.0;
        for (k, w) in of_fixed.into_iter().enumerate() {
            let row = &slopes[at + k * self.side..][..4];
            sum += w * row.iter().zip(of_warped).map(|(q, t)| q * t).sum::<f64>();
        }
        sum
    }
}

impl<T: Real> Joint<T> {
    pub(super) fn new<const D: usize>(
        settings: &Histogram,
        fixed: &Image<T, D>,
        mask: Option<&Image<T, D>>,
    ) -> Result<Self> {
        fixed.expect_finite("fixed image")?;
        if !(4..=512).contains(&settings.bins) {
            return Err(Error::setting("bins of a histogram", "from 4 to 512", settings.bins));
        }
        let fixed_scale = Scale::new("range of the fixed image", settings.fixed, settings.bins)?;
        let warped_scale = Scale::new("range of the moving image", settings.moving, settings.bins)?;
        let shares = Shares::new(fixed.grid(), mask)?;
        shares.whole().contrast(fixed.data(), "fixed image")?;
        let within = |x: f64| x >= settings.fixed[0] && x <= settings.fixed[1];
        let inside = shares.whole().mean(|i| f64::from(u8::from(within(fixed.data()[i].f64()))));
        if inside < 0.5 {
            let [low, high] = settings.fixed;
            let found = format!("{low} to {high}, which holds {:.1} %", 100.0 * inside);
            let expected = "one that holds at least half of the voxels";
            return Err(Error::setting("range of the fixed image", expected, found));
        }
        let side = settings.bins + 4;
        let fixed_bins = fixed.data().iter().map(|x| T::of(fixed_scale.at(x.f64()).0)).collect();
        Ok(Self {
            shares,
            bins: Bins { fixed: fixed_bins, fixed_scale, warped_scale, side },
            fixed: vec![0.0; side],
            parts: vec![0.0; fixed.grid().len().div_ceil(par::CHUNK).min(PARTS) * side * side],
            both: vec![0.0; side * side],
            warped: vec![0.0; side],
            slopes: vec![0.0; side * side],
        })
    }

    /// Whether `warped` has one value a voxel.
    pub(super) fn fits(&self, warped: Warped<'_, T>) -> bool {
        self.shares.fits(warped)
    }

    /// Whether `warped` and `bar` have one value a voxel; `bar` is NaN otherwise.
    pub(super) fn fit(&self, warped: Warped<'_, T>, bar: &mut WarpedBar<'_, T>) -> bool {
        self.shares.fit(warped, bar)
    }

    pub(super) fn mask(&self) -> Option<&[T]> {
        self.shares.mask()
    }

    /// H(I) where all is seen.
    pub(super) fn whole_entropy(&mut self, fixed: &[T]) -> f64 {
        // It does not depend on what the other image is.
        self.count(Warped::whole(fixed)).fixed
    }

    /// p(a, b) = Σ share · β(a − I) β(b − J), and the entropies.
    pub(super) fn count(&mut self, warped: Warped<'_, T>) -> Entropies {
        let Self { shares, bins, parts, both, fixed, warped: marginal, .. } = self;
        let (counted, values) = (shares.counted(warped.seen), warped.values);
        let (cells, side) = (both.len(), bins.side);
        let voxels = values.len().div_ceil(parts.len() / cells);
        par::parts(parts, cells, |offset, histogram| {
            histogram.fill(0.0);
            let first = offset / cells * voxels;
            for i in first..(first + voxels).min(values.len()) {
                let (at, s, t, _) = bins.cell(values, i);
                let (ws, wt) = (weights(s), weights(t));
                for (k, w) in ws.into_iter().enumerate() {
                    let w = counted.at(i) * w;
                    let row = &mut histogram[at + k * side..][..4];
                    row.iter_mut().zip(wt).for_each(|(p, wt)| *p += w * wt);
                }
            }
        });
        both.fill(0.0);
        for part in parts.chunks(cells) {
            both.iter_mut().zip(part).for_each(|(sum, p)| *sum += p);
        }
        marginal.fill(0.0);
        for (p, row) in fixed.iter_mut().zip(both.chunks(side)) {
            marginal.iter_mut().zip(row).for_each(|(sum, p)| *sum += p);
            *p = row.iter().sum();
        }
        let entropy = |p: &[f64]| p.iter().fold(0.0, |sum, &p| sum + surprise(p));
        Entropies { fixed: entropy(fixed), warped: entropy(marginal), joint: entropy(both) }
    }

    /// `bar` ← the derivatives in the image that was counted last, and in what was seen of it, from the loss's
    /// derivatives in the entropies.
    pub(super) fn gradient(
        &mut self,
        by: ByEntropies,
        warped: Warped<'_, T>,
        bar: WarpedBar<'_, T>,
    ) {
        let Self { shares, bins, both, fixed, warped: marginal, slopes, .. } = self;
        let (counted, values) = (shares.counted(warped.seen), warped.values);
        set_slopes(slopes, both, [0.0, by.warped, by.joint], fixed, marginal);
        par::chunks(bar.values, |lo, out| {
            for (i, out) in (lo..).zip(out) {
                let (at, s, t, slope) = bins.cell(values, i);
                let sum = bins.meet(at, weights(s), derivatives(t), slopes);
                *out = T::of(counted.at(i) * slope * sum);
            }
        });
        let Some(seen) = bar.seen else { return };
        // ∂p/∂ω = mask / Σ mask ω · (β(a − I) β(b − J) − p): now the fixed image's histogram moves too.
        set_slopes(slopes, both, [by.fixed, by.warped, by.joint], fixed, marginal);
        let mean: f64 = slopes.iter().zip(&*both).map(|(slope, p)| slope * p).sum();
        par::chunks(seen, |lo, out| {
            for (i, out) in (lo..).zip(out) {
                let (at, s, t, _) = bins.cell(values, i);
                let sum = bins.meet(at, weights(s), weights(t), slopes);
                *out = T::of(counted.by_seen(i) * (sum - mean));
            }
        });
    }
}

/// `slopes` ← ∂loss/∂p(a, b) less a constant, from the derivatives `by` in the entropies of the fixed image, the warped
/// one and both.
fn set_slopes(slopes: &mut [f64], both: &[f64], by: [f64; 3], fixed: &[f64], warped: &[f64]) {
    // ∂H/∂p = −ln p − 1. The ones drop out: each voxel counts once, so that p keeps its sum.
    let side = warped.len();
    for ((slopes, joint), &of_fixed) in slopes.chunks_mut(side).zip(both.chunks(side)).zip(fixed) {
        for ((slope, &p), &of_warped) in slopes.iter_mut().zip(joint).zip(warped) {
            // An empty cell is met by voxels whose spline, and its derivative, is zero there.
            *slope = if p <= 0.0 {
                0.0
            } else {
                let marginals = -by[0] * of_fixed.ln() - by[1] * of_warped.ln();
                marginals - by[2] * p.ln()
            };
        }
    }
}

/// −p ln p.
fn surprise(p: f64) -> f64 {
    if p <= 0.0 { 0.0 } else { -p * p.ln() }
}
