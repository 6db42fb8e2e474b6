//! How alike two images are: losses of a warped image against a fixed one, with exact gradients.
//!
//! A [`Measure`] is what a user chooses. [`Measure::prepare`] checks one fixed image and its mask and
//! gives a [`Similarity`] that holds all buffers, once a resolution level; the evaluations themselves
//! cannot fail.
//!
//! Masks weigh voxels: the mean of f is ∫ mask f / ∫ mask. Voxels all have the same volume, so it
//! cancels and losses have no unit of length.

mod histogram;
mod information;
mod lncc;
mod lncc_voxels;
mod multi_lncc;
mod ncc;
mod ssd;
mod sum;
mod window;

pub use histogram::Histogram;
pub use information::{MutualInformation, Nmi};
pub use lncc::Lncc;
pub use lncc_voxels::LnccVoxels;
pub use multi_lncc::MultiLncc;
pub use ncc::Ncc;
pub use ssd::Ssd;
pub use sum::WeightedSum;
pub use window::Window;

use crate::error::{Error, Result};
use crate::field::Image;
use crate::grid::Grid;
use crate::par;
use crate::scalar::Real;

/// Variances of a warped image below this part of the fixed image's count as none: a contrast of
/// 1e-6 of the fixed image's is what single precision leaves of a constant.
const NO_CONTRAST: f64 = 1e-12;

/// A choice of loss: prepares itself against fixed images.
pub trait Measure<T: Real, const D: usize>: std::fmt::Debug + Send + Sync {
    /// The loss against `fixed`, each voxel weighted by `mask`; `None` counts all alike.
    ///
    /// # Errors
    /// [`Error::GridMismatch`] for a mask over another lattice, [`Error::Setting`] for mask values
    /// outside [0, 1], [`Error::NoContrast`] for a mask that is zero, [`Error::NonFinite`] for NaN
    /// or infinity in the image, and those that the measure states.
    fn prepare(
        &self,
        fixed: &Image<T, D>,
        mask: Option<&Image<T, D>>,
    ) -> Result<Box<dyn Similarity<T>>>;

    /// The name that reports use.
    fn name(&self) -> &'static str;

    /// λ that suits this loss, for images of unit contrast and a regulariser without unit.
    fn default_weight(&self) -> f64;
}

/// A warped image, and what of it was seen.
#[derive(Clone, Copy, Debug)]
pub struct Warped<'a, T> {
    /// Its values, one a voxel.
    pub values: &'a [T],
    /// How far the moving image showed each voxel, ω from 0 to 1 ([`Warp::seen`](crate::ops::warp::Warp::seen)):
    /// beyond the image values are mirrored, and count by this. `None` where all was seen.
    pub seen: Option<&'a [T]>,
}

impl<'a, T> Warped<'a, T> {
    /// An image that was seen everywhere.
    #[must_use]
    pub const fn whole(values: &'a [T]) -> Self {
        Self { values, seen: None }
    }
}

/// The partial derivatives of a loss in a [`Warped`] image, which overwrite what was there.
#[derive(Debug)]
pub struct WarpedBar<'a, T> {
    /// In the values.
    pub values: &'a mut [T],
    /// In ω; there where ω is.
    pub seen: Option<&'a mut [T]>,
}

impl<T: Real> WarpedBar<'_, T> {
    /// NaN everywhere, for lengths that do not fit.
    pub fn fill_nan(&mut self) {
        self.values.fill(T::nan());
        if let Some(seen) = self.seen.as_deref_mut() {
            seen.fill(T::nan());
        }
    }
}

/// A loss against one fixed image: smaller is better, 0 is best. Not all measures reach 0 for equal images.
///
/// Voxels count by mask · ω, the mask of the fixed image and [what was seen](Warped::seen), over the sum of that: what
/// was not seen does not count, for any value in it. Without ω the loss has the bits that it has without this notion,
/// with ω = 1 everywhere the same value to rounding.
///
/// Buffers hold one value a voxel of the fixed image's grid, C order. Results do not
/// depend on earlier calls. Nothing is allocated after the first call of each kind. A warped image with NaN, of
/// another length, or of which nothing was seen gives a NaN loss, and lengths that do not fit NaN derivatives.
pub trait Similarity<T: Real>: Send {
    /// The loss, and its partial derivatives with respect to each voxel of the warped image and to each ω, which
    /// overwrite `bar`.
    fn value_and_gradient_where_seen(
        &mut self,
        warped: Warped<'_, T>,
        bar: WarpedBar<'_, T>,
    ) -> f64;

    /// The loss.
    fn value_where_seen(&mut self, warped: Warped<'_, T>) -> f64;

    /// The mask that it was prepared with; `None` where all voxels count alike.
    fn mask(&self) -> Option<&[T]>;

    /// The loss and its gradient for an image that was seen everywhere.
    fn value_and_gradient(&mut self, warped: &[T], gradient: &mut [T]) -> f64 {
        let bar = WarpedBar { values: gradient, seen: None };
        self.value_and_gradient_where_seen(Warped::whole(warped), bar)
    }

    /// The loss of an image that was seen everywhere.
    fn value(&mut self, warped: &[T]) -> f64 {
        self.value_where_seen(Warped::whole(warped))
    }
}

/// How much each voxel counts: the mask.
#[derive(Clone, Debug)]
pub(crate) struct Shares<T> {
    mask: Option<Vec<T>>,
    len: usize,
    scale: f64,
    /// mask · ω.
    both: Vec<T>,
}

/// The share of each voxel in a mean: mask · ω over the sum of that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted<'a, T> {
    weights: Option<&'a [T]>,
    mask: Option<&'a [T]>,
    len: usize,
    scale: f64,
}

impl<T: Real> Shares<T> {
    pub(crate) fn new<const D: usize>(grid: &Grid<D>, mask: Option<&Image<T, D>>) -> Result<Self> {
        let (len, scale) = (grid.len(), 1.0 / grid.len() as f64);
        let mut shares = Self { mask: None, len, scale, both: Vec::new() };
        let Some(mask) = mask else {
            return Ok(shares);
        };
        grid.expect_same(mask.grid(), "mask")?;
        let within = |x: &&T| !(x.f64() >= 0.0 && x.f64() <= 1.0);
        if let Some(found) = mask.data().iter().find(within) {
            return Err(Error::setting("mask", "values between 0 and 1", found));
        }
        let sum = par::sum(shares.len, |r| mask.data()[r].iter().map(|x| x.f64()).sum());
        if sum <= 0.0 {
            return Err(Error::NoContrast { what: "mask" });
        }
        shares.scale = 1.0 / sum;
        shares.mask = Some(mask.data().to_vec());
        Ok(shares)
    }

    pub(crate) fn mask(&self) -> Option<&[T]> {
        self.mask.as_deref()
    }

    /// Whether `warped` holds one value a voxel.
    pub(crate) fn fits(&self, warped: Warped<'_, T>) -> bool {
        let fits = |x: &[T]| x.len() == self.len;
        fits(warped.values) && warped.seen.is_none_or(fits)
    }

    /// Whether `warped` and `bar` hold one value a voxel; `bar` is NaN otherwise.
    pub(crate) fn fit(&self, warped: Warped<'_, T>, bar: &mut WarpedBar<'_, T>) -> bool {
        let lengths = (warped.seen.map(<[T]>::len), bar.seen.as_ref().map(|seen| seen.len()));
        let fit = self.fits(warped) && bar.values.len() == self.len && lengths.0 == lengths.1;
        if !fit {
            bar.fill_nan();
        }
        fit
    }

    /// The shares where all was seen.
    pub(crate) fn whole(&self) -> Counted<'_, T> {
        let mask = self.mask();
        Counted { weights: mask, mask, len: self.len, scale: self.scale }
    }

    /// The shares of what was seen. They are NaN where that is nothing.
    pub(crate) fn counted<'a>(&'a mut self, seen: Option<&'a [T]>) -> Counted<'a, T> {
        let Some(seen) = seen else { return self.whole() };
        let Self { mask, len, both, .. } = self;
        let weights = match mask {
            None => seen,
            Some(mask) => {
                both.resize(*len, T::zero());
                par::chunks(both, |lo, both| {
                    for (i, both) in (lo..).zip(both) {
                        *both = mask[i] * seen[i];
                    }
                });
                both
            }
        };
        let sum = par::sum(*len, |r| weights[r].iter().map(|x| x.f64()).sum());
        let scale = if sum > 0.0 { 1.0 / sum } else { f64::NAN };
        Counted { weights: Some(weights), mask: mask.as_deref(), len: *len, scale }
    }
}

impl<T: Real> Counted<'_, T> {
    /// Share of voxel `i`.
    #[inline]
    pub(crate) fn at(&self, i: usize) -> f64 {
        self.weights.map_or(self.scale, |weights| weights[i].f64() * self.scale)
    }

    /// Derivative of a mean in ω of voxel `i`, over how far that voxel is above the mean: mask / Σ mask ω.
    #[inline]
    pub(crate) fn by_seen(&self, i: usize) -> f64 {
        self.mask.map_or(self.scale, |mask| mask[i].f64() * self.scale)
    }

    /// Means of `K` quantities of the voxels.
    pub(crate) fn means<const K: usize>(&self, f: impl Fn(usize) -> [f64; K] + Sync) -> [f64; K] {
        par::sums(self.len, |range| {
            par::lanes(range, |i| {
                let share = self.at(i);
                f(i).map(|x| share * x)
            })
        })
    }

    /// Mean of a quantity of the voxels.
    pub(crate) fn mean(&self, f: impl Fn(usize) -> f64 + Sync) -> f64 {
        self.means(|i| [f(i)])[0]
    }

    /// Mean and variance of an image. The mean of the deviations, which is rounding only, is taken
    /// out of both, so that a constant has no variance whatever the number of voxels.
    pub(crate) fn moments(&self, image: &[T]) -> (f64, f64) {
        let mean = self.mean(|i| image[i].f64());
        let [shift, square] = self.means(|i| {
            let x = image[i].f64() - mean;
            [x, x * x]
        });
        (mean + shift, square - shift * shift)
    }

    /// Mean and variance of an image that must have contrast beyond rounding.
    pub(crate) fn contrast(&self, image: &[T], what: &'static str) -> Result<(f64, f64)> {
        let (mean, variance) = self.moments(image);
        let largest = par::max(image.len(), |range| {
            image[range].iter().fold(0.0, |m, x| x.f64().abs().max(m))
        });
        // A few units in the last place of the largest value: what arithmetic leaves of a constant.
        if variance > (4.0 * T::epsilon().f64() * largest).powi(2) {
            Ok((mean, variance))
        } else {
            Err(Error::NoContrast { what })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::Boundary;
    use crate::testing::random;

    const SHAPE: [usize; 2] = [7, 9];

    fn grid(boundary: Boundary) -> Grid<2> {
        let grid = Grid::new(SHAPE, [1.0, 0.8]).unwrap();
        grid.with_boundary(boundary)
    }

    /// An image with contrast in every window.
    fn image<T: Real>(grid: &Grid<2>, seed: u64) -> Image<T, 2> {
        let noise = random::<f64>(grid.len(), seed);
        let mut noise = noise.iter();
        Image::from_fn(grid, |x| {
            5.0 + (0.9 * x[0]).sin() + (0.7 * x[1]).cos() + noise.next().unwrap()
        })
        .unwrap()
    }

    /// Weights between 0 and 1, zero in the first two rows.
    fn mask<T: Real>(grid: &Grid<2>) -> Image<T, 2> {
        let noise = random::<f64>(grid.len(), 9);
        let mut noise = noise.iter();
        Image::from_fn(grid, |x| {
            let w = noise.next().unwrap().abs();
            if x[0] < 1.5 { 0.0 } else { w }
        })
        .unwrap()
    }

    fn measures<T: Real>() -> Vec<Box<dyn Measure<T, 2>>> {
        let windows = [(0.3, Window::gaussian_like_box(4.0)), (0.7, Window::Box { width: 2.7 })];
        // The images lie between 2 and 8; some voxels of the warped ones lie beyond their range.
        let histogram = Histogram { bins: 7, fixed: [2.0, 8.0], moving: [3.0, 7.0] };
        let sum: Vec<(f64, Box<dyn Measure<T, 2>>)> =
            vec![(0.6, Box::new(Ssd)), (0.1, Box::new(Ncc))];
        vec![
            Box::new(Ssd),
            Box::new(Ncc),
            Box::new(Lncc { sigma: 1.2 }),
            Box::new(LnccVoxels { sigma: 0.8 }),
            Box::new(MultiLncc::new(&windows).unwrap()),
            Box::new(MutualInformation { histogram }),
            Box::new(Nmi { histogram }),
            Box::new(WeightedSum::new(sum).unwrap()),
        ]
    }

    /// Correlations do not see the scale of intensities.
    fn is_correlation(measure: &dyn Measure<f64, 2>) -> bool {
        ["NCC", "LNCC", "mk-LNCC"].contains(&measure.name())
    }

    /// Every measure on every boundary, with and without a mask.
    fn every(mut f: impl FnMut(&dyn Measure<f64, 2>, &Grid<2>, Option<&Image<f64, 2>>)) {
        for boundary in Boundary::ALL {
            let grid = grid(boundary);
            let mask = mask(&grid);
            for measure in measures() {
                f(&*measure, &grid, None);
                f(&*measure, &grid, Some(&mask));
            }
        }
    }

    #[test]
    fn gradients_are_the_derivatives_of_the_values() {
        every(|measure, grid, mask| {
            let (fixed, mut warped) = (image(grid, 1), image::<f64>(grid, 2).into_vec());
            let mut loss = measure.prepare(&fixed, mask).unwrap();
            let mut gradient = vec![f64::NAN; grid.len()];
            let value = loss.value_and_gradient(&warped, &mut gradient);
            // The same sums over the same chunks, so the same bits.
            assert_eq!(value.to_bits(), loss.value(&warped).to_bits());
            let largest = gradient.iter().fold(0.0f64, |m, g| m.max(g.abs()));
            for i in 0..grid.len() {
                let (x, e) = (warped[i], 1e-4);
                warped[i] = x + e;
                let above = loss.value(&warped);
                warped[i] = x - e;
                let below = loss.value(&warped);
                warped[i] = x;
                // Truncation e² = 1e-8 of the third derivative and rounding 1e-16/e = 1e-12.
                let error = ((above - below) / (2.0 * e) - gradient[i]).abs();
                assert!(error <= 1e-6 * largest, "{} at {i}: {error:e}", measure.name());
            }
        });
    }

    #[test]
    fn the_taylor_remainder_has_slope_two() {
        every(|measure, grid, mask| {
            let (fixed, warped) = (image(grid, 1), image::<f64>(grid, 2));
            let mut loss = measure.prepare(&fixed, mask).unwrap();
            let direction: Vec<f64> = random(grid.len(), 3);
            let mut gradient = vec![0.0; grid.len()];
            let value = loss.value_and_gradient(warped.data(), &mut gradient);
            let slope = crate::field::dot(&gradient, &direction);
            let mut remainder = |e: f64| {
                let moved: Vec<f64> =
                    warped.data().iter().zip(&direction).map(|(x, d)| x + e * d).collect();
                (loss.value(&moved) - value - e * slope).abs()
            };
            let order = (remainder(2e-3) / remainder(1e-3)).log2();
            // The third-order term adds about e; 0.05 is far below the distance to slope 1.
            assert!((order - 2.0).abs() < 0.05, "{}: {order}", measure.name());
        });
    }

    #[test]
    fn masked_voxels_do_not_count() {
        let grid = grid(Boundary::Reflecting);
        let (fixed, mask) = (image::<f64>(&grid, 1), mask(&grid));
        for measure in measures().into_iter().filter(|m| !m.name().ends_with("LNCC")) {
            let mut loss = measure.prepare(&fixed, Some(&mask)).unwrap();
            let mut warped = image::<f64>(&grid, 2).into_vec();
            let (mut first, mut second) = (vec![f64::NAN; 63], vec![f64::NAN; 63]);
            let before = loss.value_and_gradient(&warped, &mut first);
            warped[3] += 1e6;
            let after = loss.value_and_gradient(&warped, &mut second);
            // A weight of zero adds exact zeros.
            assert_eq!(before.to_bits(), after.to_bits(), "{}", measure.name());
            assert_eq!(first, second);
            assert!(first[..18].iter().all(|g| g.abs() == 0.0));
        }
        // Windows of the counted voxels reach into the mask, but not across the whole grid.
        let lncc = Lncc { sigma: 0.5 };
        let far = Image::from_fn(&grid, |x| f64::from(u8::from(x[0] > 5.5))).unwrap();
        let mut loss = lncc.prepare(&fixed, Some(&far)).unwrap();
        let mut gradient = vec![f64::NAN; 63];
        loss.value_and_gradient(image(&grid, 2).data(), &mut gradient);
        // The global variance of the texture counts the mask only; exp(−½ 6²/0.5²) of the window is left.
        assert!(gradient[..9].iter().all(|g| g.abs() < 1e-12));
        assert!(gradient[54..].iter().any(|g| g.abs() > 1e-4));
    }

    #[test]
    fn correlations_ignore_an_affine_change_of_intensity() {
        every(|measure, grid, mask| {
            if !is_correlation(measure) {
                return;
            }
            let (fixed, warped) = (image(grid, 1), image::<f64>(grid, 2));
            let mut loss = measure.prepare(&fixed, mask).unwrap();
            let changed: Vec<f64> = warped.data().iter().map(|x| 30.0 * x - 7.0).collect();
            let difference = loss.value(warped.data()) - loss.value(&changed);
            // The floor of the variance, NO_CONTRAST = 1e-12, and rounding.
            assert!(difference.abs() < 1e-11, "{}: {difference:e}", measure.name());
        });
    }

    #[test]
    fn the_same_image_is_a_minimum() {
        every(|measure, grid, mask| {
            if !is_correlation(measure) && !["SSD", "sum"].contains(&measure.name()) {
                return; // see `information::tests`
            }
            let fixed = image::<f64>(grid, 1);
            let mut loss = measure.prepare(&fixed, mask).unwrap();
            let (mut gradient, mut other) = (vec![f64::NAN; 63], vec![f64::NAN; 63]);
            let value = loss.value_and_gradient(fixed.data(), &mut gradient);
            loss.value_and_gradient(image(grid, 2).data(), &mut other);
            // SSD is exact; the correlations have their floor of 1e-12 and, in windows with a few times
            // less than the global variance, rounding.
            let tolerance = if measure.name() == "SSD" { 0.0 } else { 1e-11 };
            assert!(value.abs() <= tolerance, "{}: {value:e}", measure.name());
            let size = |g: &[f64]| crate::field::dot(g, g).sqrt();
            let ratio = size(&gradient) / size(&other);
            assert!(ratio <= 10.0 * tolerance, "{}: {ratio:e}", measure.name());
        });
    }

    #[test]
    fn single_precision_agrees_with_double() {
        let grid = grid(Boundary::Reflecting);
        let (fixed, warped, weight) = (image(&grid, 1), image(&grid, 2), mask(&grid));
        let (fixed32, warped32, weight32) = (image(&grid, 1), image(&grid, 2), mask(&grid));
        for (double, single) in measures::<f64>().iter().zip(measures::<f32>()) {
            let mut double = double.prepare(&fixed, Some(&weight)).unwrap();
            let mut single = single.prepare(&fixed32, Some(&weight32)).unwrap();
            let (mut g, mut g32) = (vec![0.0f64; 63], vec![0.0f32; 63]);
            let value = double.value_and_gradient(warped.data(), &mut g);
            let value32 = single.value_and_gradient(warped32.data(), &mut g32);
            // Rounding of intensities of 5 beside a contrast of 1 is 3e-7; windows and cancelling
            // variances lose one more digit.
            assert!((value - value32).abs() < 1e-5 * value.max(1.0));
            let largest = g.iter().fold(0.0f64, |m, g| m.max(g.abs()));
            for (a, b) in g.iter().zip(&g32) {
                assert!((a - f64::from(*b)).abs() < 1e-4 * largest);
            }
        }
    }

    #[test]
    fn results_do_not_depend_on_what_buffers_held() {
        every(|measure, grid, mask| {
            let (fixed, warped) = (image(grid, 1), image::<f64>(grid, 2));
            let mut used = measure.prepare(&fixed, mask).unwrap();
            let mut dirty = vec![f64::NAN; 63];
            used.value_and_gradient(&[f64::NAN; 63], &mut dirty);
            used.value_and_gradient(image(grid, 5).data(), &mut dirty);
            let value = used.value_and_gradient(warped.data(), &mut dirty);
            let mut clean = vec![0.0; 63];
            let mut fresh = measure.prepare(&fixed, mask).unwrap();
            let expected = fresh.value_and_gradient(warped.data(), &mut clean);
            assert_eq!(value.to_bits(), expected.to_bits());
            assert_eq!(dirty, clean);
        });
    }

    #[test]
    fn a_constant_warped_image_gives_finite_results() {
        every(|measure, grid, mask| {
            let mut loss = measure.prepare(&image(grid, 1), mask).unwrap();
            let mut gradient = vec![f64::NAN; 63];
            let value = loss.value_and_gradient(&[2.5; 63], &mut gradient);
            assert!(value.is_finite() && gradient.iter().all(|g| g.is_finite()));
            let least = match measure.name() {
                "SSD" => 0.0,
                // Rounding of the mean, 1e-16, against the floor's contrast of 1e-6.
                "NCC" => 1.0 - 1e-8,
                // Nothing is known of the fixed image; to rounding of entropies of about 4.
                "NMI" => 1.0 - 1e-14,
                "sum" => 0.1 * (1.0 - 1e-8),
                // Every window of the image has contrast far above the texture's. H(I) is about 2.
                _ => 0.9,
            };
            assert!(value >= least, "{}: {value}", measure.name());
        });
    }

    #[test]
    fn bad_input_is_refused() {
        let grid = grid(Boundary::Reflecting);
        let fixed = image::<f64>(&grid, 1);
        let other = Image::zeros(&Grid::new([7, 9], [1.0, 1.0]).unwrap()).unwrap();
        let filled = |x: f64| Image::from_vec(&grid, vec![x; 63]).unwrap();
        for measure in measures() {
            let error = |fixed: &Image<f64, 2>, mask: Option<&Image<f64, 2>>| {
                measure.prepare(fixed, mask).err()
            };
            let mismatch = error(&fixed, Some(&other));
            assert!(matches!(mismatch, Some(Error::GridMismatch { .. })));
            for x in [-0.1, 1.1] {
                let range = error(&fixed, Some(&filled(x)));
                assert!(matches!(range, Some(Error::Setting { name: "mask", .. })));
            }
            let empty = error(&fixed, Some(&filled(0.0)));
            assert!(matches!(empty, Some(Error::NoContrast { what: "mask" })));
            let flat = error(&filled(0.1), None);
            let refused = matches!(flat, Some(Error::NoContrast { what: "fixed image" }));
            assert_eq!(refused, measure.name() != "SSD");
            let mut broken = fixed.clone();
            broken.data_mut()[4] = f64::NAN;
            let nan = error(&broken, None);
            assert!(matches!(nan, Some(Error::NonFinite { index: 4, .. })));
        }
        // The mean of many equal values is rounded; they are a constant all the same.
        let large = Grid::new([300, 200], [1.0; 2]).unwrap();
        let flat = Image::from_vec(&large, vec![0.1f32; 60_000]).unwrap();
        assert!(Ncc.prepare(&flat, None).is_err());
        for sigma in [0.1, 50.0, f64::NAN] {
            let error = Lncc { sigma }.prepare(&fixed, None).err();
            assert!(matches!(error, Some(Error::Sigma { .. })));
        }
    }

    /// What was seen: nothing in the last two columns, a part of some voxels elsewhere.
    fn seen<T: Real>(grid: &Grid<2>) -> Image<T, 2> {
        let noise = random::<f64>(grid.len(), 10);
        let mut noise = noise.iter();
        Image::from_fn(grid, |x| {
            let w = 0.2 + noise.next().unwrap().abs();
            if x[1] > 5.5 { 0.0 } else { w.min(1.0) }
        })
        .unwrap()
    }

    /// The loss and its derivatives in values and ω, one after the other.
    fn derivatives<T: Real>(loss: &mut dyn Similarity<T>, point: &[T]) -> (f64, Vec<T>) {
        let (values, seen) = point.split_at(point.len() / 2);
        let mut bars = vec![T::nan(); point.len()];
        let (values_bar, seen_bar) = bars.split_at_mut(values.len());
        let bar = WarpedBar { values: values_bar, seen: Some(seen_bar) };
        let value = loss.value_and_gradient_where_seen(Warped { values, seen: Some(seen) }, bar);
        (value, bars)
    }

    fn value_at(loss: &mut dyn Similarity<f64>, point: &[f64]) -> f64 {
        let (values, seen) = point.split_at(point.len() / 2);
        loss.value_where_seen(Warped { values, seen: Some(seen) })
    }

    /// Values and ω of a warped image.
    fn point<T: Real>(grid: &Grid<2>) -> Vec<T> {
        [image::<T>(grid, 2).into_vec(), seen::<T>(grid).into_vec()].concat()
    }

    #[test]
    fn derivatives_in_values_and_in_what_was_seen_are_those_of_the_value() {
        every(|measure, grid, mask| {
            let (fixed, mut point) = (image(grid, 1), point::<f64>(grid));
            let mut loss = measure.prepare(&fixed, mask).unwrap();
            let (value, bars) = derivatives(&mut *loss, &point);
            assert_eq!(value.to_bits(), value_at(&mut *loss, &point).to_bits());
            for half in [0..grid.len(), grid.len()..2 * grid.len()] {
                let largest = bars[half.clone()].iter().fold(0.0f64, |m, g| m.max(g.abs()));
                for i in half {
                    if i >= grid.len() && point[i] == 0.0 {
                        // A cell of a histogram that nothing else is in: p ln p has no derivative at p = 0.
                        continue;
                    }
                    let (x, e) = (point[i], 1e-4);
                    point[i] = x + e;
                    let above = value_at(&mut *loss, &point);
                    point[i] = x - e;
                    let below = value_at(&mut *loss, &point);
                    point[i] = x;
                    // Truncation e² = 1e-8 of the third derivative and rounding 1e-16/e = 1e-12.
                    let error = ((above - below) / (2.0 * e) - bars[i]).abs();
                    assert!(error <= 1e-6 * largest, "{} at {i}: {error:e}", measure.name());
                }
            }
        });
    }

    #[test]
    fn the_taylor_remainder_in_values_and_in_what_was_seen_has_slope_two() {
        every(|measure, grid, mask| {
            let (fixed, point) = (image(grid, 1), point::<f64>(grid));
            let mut loss = measure.prepare(&fixed, mask).unwrap();
            let mut direction: Vec<f64> = random(point.len(), 3);
            for (direction, seen) in direction[63..].iter_mut().zip(&point[63..]) {
                // What is not seen at all: see above.
                *direction *= f64::from(u8::from(*seen > 0.0));
            }
            let (value, bars) = derivatives(&mut *loss, &point);
            let slope = crate::field::dot(&bars, &direction);
            let mut remainder = |e: f64| {
                let moved: Vec<f64> =
                    point.iter().zip(&direction).map(|(x, d)| x + e * d).collect();
                (value_at(&mut *loss, &moved) - value - e * slope).abs()
            };
            let order = (remainder(2e-3) / remainder(1e-3)).log2();
            // The third-order term adds about e; 0.05 is far below the distance to slope 1.
            assert!((order - 2.0).abs() < 0.05, "{}: {order}", measure.name());
        });
    }

    #[test]
    fn what_was_not_seen_does_not_count() {
        every(|measure, grid, mask| {
            let mut loss = measure.prepare(&image(grid, 1), mask).unwrap();
            let mut point = point::<f64>(grid);
            let (before, first) = derivatives(&mut *loss, &point);
            let unseen: Vec<usize> = (0..63).filter(|i| point[63 + i] == 0.0).collect();
            assert!(unseen.len() >= 14);
            for &i in &unseen {
                point[i] += 1e6;
            }
            let (after, second) = derivatives(&mut *loss, &point);
            // A weight of zero adds exact zeros.
            assert_eq!(before.to_bits(), after.to_bits(), "{}", measure.name());
            assert_eq!(first[..63], second[..63]);
            assert!(unseen.iter().all(|&i| first[i].abs() == 0.0));
            point[63..].fill(0.0);
            assert!(derivatives(&mut *loss, &point).0.is_nan(), "nothing is seen");
        });
    }

    #[test]
    fn an_image_that_is_seen_everywhere_has_the_loss_of_the_whole() {
        every(|measure, grid, mask| {
            let mut loss = measure.prepare(&image(grid, 1), mask).unwrap();
            let mut point = point::<f64>(grid);
            point[63..].fill(1.0);
            let (value, bars) = derivatives(&mut *loss, &point);
            let mut gradient = vec![f64::NAN; 63];
            let whole = loss.value_and_gradient(&point[..63], &mut gradient);
            // Windows are accurate to a thousand units of rounding.
            assert!((value - whole).abs() < 1e-11, "{}: {value} {whole}", measure.name());
            let largest = gradient.iter().fold(0.0f64, |m, g| m.max(g.abs()));
            let near = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-10 * largest;
            assert!(bars[..63].iter().zip(&gradient).all(near), "{}", measure.name());
            assert_eq!(loss.mask(), mask.map(Image::data));
        });
    }

    #[test]
    fn what_was_seen_counts_alike_in_single_precision_and_whatever_buffers_held() {
        let grid = grid(Boundary::Reflecting);
        let (weight, weight32) = (mask(&grid), mask(&grid));
        for (double, single) in measures::<f64>().iter().zip(measures::<f32>()) {
            let mut loss = double.prepare(&image(&grid, 1), Some(&weight)).unwrap();
            let mut loss32 = single.prepare(&image(&grid, 1), Some(&weight32)).unwrap();
            let (value, g) = derivatives(&mut *loss, &point::<f64>(&grid));
            let (value32, g32) = derivatives(&mut *loss32, &point::<f32>(&grid));
            // As where all is seen.
            assert!((value - value32).abs() < 1e-5 * value.max(1.0), "{}", double.name());
            for half in [0..63, 63..126] {
                let largest = g[half.clone()].iter().fold(0.0f64, |m, g| m.max(g.abs()));
                for i in half {
                    let off = (g[i] - f64::from(g32[i])).abs();
                    assert!(off < 1e-4 * largest, "{} at {i}: {off:e}", double.name());
                }
            }
            derivatives(&mut *loss, &vec![f64::NAN; 126]);
            loss.value(image(&grid, 5).data());
            let (again, h) = derivatives(&mut *loss, &point::<f64>(&grid));
            assert_eq!((value.to_bits(), g), (again.to_bits(), h), "{}", double.name());
            for lengths in [(63, 62, 63, 62), (62, 63, 62, 63), (63, 63, 63, 62)] {
                let (values, seen) = (vec![1.0; lengths.0], vec![1.0; lengths.1]);
                let (mut a, mut b) = (vec![0.0; lengths.2], vec![0.0; lengths.3]);
                let bar = WarpedBar { values: &mut a, seen: Some(&mut b) };
                let warped = Warped { values: &values, seen: Some(&seen) };
                assert!(loss.value_and_gradient_where_seen(warped, bar).is_nan());
                assert!(a.iter().chain(&b).all(|x| x.is_nan()));
            }
        }
    }
}
