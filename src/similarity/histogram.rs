//! Joint histograms of two images by cubic B-spline Parzen windows, and gradients through them.

use super::Shares;
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
    /// Values of the fixed image in bins.
    fixed: Vec<T>,
    shares: Shares<T>,
    fixed_scale: Scale,
    warped_scale: Scale,
    /// Bins of an axis, two more at each end.
    side: usize,
    /// Sums over consecutive parts of the voxels.
    parts: Vec<f64>,
    /// p(a, b), fixed image first.
    both: Vec<f64>,
    /// p(b).
    warped: Vec<f64>,
    /// ∂loss/∂p(a, b), less a constant.
    slopes: Vec<f64>,
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
        shares.contrast(fixed.data(), "fixed image")?;
        let within = |x: f64| x >= settings.fixed[0] && x <= settings.fixed[1];
        let inside = shares.mean(|i| f64::from(u8::from(within(fixed.data()[i].f64()))));
        if inside < 0.5 {
            let [low, high] = settings.fixed;
            let found = format!("{low} to {high}, which holds {:.1} %", 100.0 * inside);
            let expected = "one that holds at least half of the voxels";
            return Err(Error::setting("range of the fixed image", expected, found));
        }
        let side = settings.bins + 4;
        Ok(Self {
            fixed: fixed.data().iter().map(|x| T::of(fixed_scale.at(x.f64()).0)).collect(),
            shares,
            fixed_scale,
            warped_scale,
            side,
            parts: vec![0.0; fixed.grid().len().div_ceil(par::CHUNK).min(PARTS) * side * side],
            both: vec![0.0; side * side],
            warped: vec![0.0; side],
            slopes: vec![0.0; side * side],
        })
    }

    /// Whether `warped` has one value a voxel.
    pub(super) fn fits(&self, warped: &[T]) -> bool {
        warped.len() == self.fixed.len()
    }

    /// Whether `warped` and `gradient` have one value a voxel; `gradient` is NaN otherwise.
    pub(super) fn fit(&self, warped: &[T], gradient: &mut [T]) -> bool {
        self.shares.fit(warped, gradient)
    }

    /// First cell of the 4×4 that voxel `i` counts in, its fractions, and the derivative of its second one.
    #[inline]
    fn cell(&self, warped: &[T], i: usize) -> (usize, f64, f64, f64) {
        let (a, s) = self.fixed_scale.cell(self.fixed[i].f64());
        let (t, slope) = self.warped_scale.at(warped[i].f64());
        let (b, t) = self.warped_scale.cell(t);
        (a * self.side + b, s, t, slope)
    }

    /// p(a, b) = Σ share · β(a − I) β(b − J), and the entropies.
    pub(super) fn count(&mut self, warped: &[T]) -> Entropies {
        let (cells, side) = (self.both.len(), self.side);
        let mut parts = std::mem::take(&mut self.parts);
        let voxels = self.fixed.len().div_ceil(parts.len() / cells);
        par::parts(&mut parts, cells, |offset, histogram| {
            histogram.fill(0.0);
            let first = offset / cells * voxels;
            for i in first..(first + voxels).min(warped.len()) {
                let (at, s, t, _) = self.cell(warped, i);
                let (ws, wt) = (weights(s), weights(t));
                for (k, w) in ws.into_iter().enumerate() {
                    let w = self.shares.at(i) * w;
                    let row = &mut histogram[at + k * side..][..4];
                    row.iter_mut().zip(wt).for_each(|(p, wt)| *p += w * wt);
                }
            }
        });
        self.both.fill(0.0);
        for part in parts.chunks(cells) {
            self.both.iter_mut().zip(part).for_each(|(sum, p)| *sum += p);
        }
        self.parts = parts;
        self.warped.fill(0.0);
        let mut fixed = 0.0;
        for row in self.both.chunks(side) {
            self.warped.iter_mut().zip(row).for_each(|(sum, p)| *sum += p);
            fixed += surprise(row.iter().sum());
        }
        let entropy = |p: &[f64]| p.iter().map(|&p| surprise(p)).sum();
        Entropies { fixed, warped: entropy(&self.warped), joint: entropy(&self.both) }
    }

    /// `gradient` ← ∂loss/∂J of the images counted last, from the loss's derivatives with respect to the
    /// entropies of the warped image and of both.
    pub(super) fn gradient(
        &mut self,
        by_warped: f64,
        by_joint: f64,
        warped: &[T],
        gradient: &mut [T],
    ) {
        // ∂H/∂p = −ln p − 1. The ones drop out: each voxel counts once, so that p keeps its sum.
        let side = self.side;
        for (slopes, joint) in self.slopes.chunks_mut(side).zip(self.both.chunks(side)) {
            for ((slope, &p), &marginal) in slopes.iter_mut().zip(joint).zip(&self.warped) {
                // An empty cell is met by voxels whose spline, and its derivative, is zero there.
                *slope =
                    if p <= 0.0 { 0.0 } else { -by_warped * marginal.ln() - by_joint * p.ln() };
            }
        }
        par::chunks(gradient, |lo, out| {
            for (i, out) in (lo..).zip(out) {
                let (at, s, t, slope) = self.cell(warped, i);
                let (ws, dt) = (weights::<f64>(s), derivatives::<f64>(t));
                let mut sum = 0.0;
                for (k, w) in ws.into_iter().enumerate() {
                    let row = &self.slopes[at + k * side..][..4];
                    sum += w * row.iter().zip(dt).map(|(q, dt)| q * dt).sum::<f64>();
                }
                *out = T::of(self.shares.at(i) * slope * sum);
            }
        });
    }
}

/// −p ln p.
fn surprise(p: f64) -> f64 {
    if p <= 0.0 { 0.0 } else { -p * p.ln() }
}
