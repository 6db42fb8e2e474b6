//! A similarity of one's own.

// ANCHOR: charbonnier
use rdmm_core::Real;
use rdmm_core::error::{Error, Result};
use rdmm_core::field::Image;
use rdmm_core::similarity::{Measure, Similarity, Warped, WarpedBar};

/// Charbonnier's penalty on differences of intensity: mean of √(r² + δ²) − δ.
#[derive(Clone, Copy, Debug)]
struct Charbonnier {
    /// Differences below this count as squares.
    delta: f64,
}

struct Prepared<T> {
    fixed: Vec<T>,
    mask: Option<Vec<T>>,
    /// Mask over its sum.
    parts: Vec<f64>,
    delta: f64,
}

impl<T: Real, const D: usize> Measure<T, D> for Charbonnier {
    fn prepare(
        &self,
        fixed: &Image<T, D>,
        mask: Option<&Image<T, D>>,
    ) -> Result<Box<dyn Similarity<T>>> {
        fixed.expect_finite("fixed image")?;
        let mut parts = vec![1.0; fixed.grid().len()];
        if let Some(mask) = mask {
            fixed.grid().expect_same(mask.grid(), "mask")?;
            parts = mask.data().iter().map(|x| x.f64()).collect();
        }
        let sum: f64 = parts.iter().sum();
        if sum <= 0.0 {
            return Err(Error::NoContrast { what: "mask" });
        }
        parts.iter_mut().for_each(|part| *part /= sum);
        let (fixed, mask) = (fixed.data().to_vec(), mask.map(|mask| mask.data().to_vec()));
        Ok(Box::new(Prepared { fixed, mask, parts, delta: self.delta }))
    }

    fn name(&self) -> &'static str {
        "Charbonnier"
    }

    fn default_weight(&self) -> f64 {
        0.6
    }
}

impl<T: Real> Similarity<T> for Prepared<T> {
    fn value_and_gradient_where_seen(
        &mut self,
        warped: Warped<'_, T>,
        mut bar: WarpedBar<'_, T>,
    ) -> f64 {
        let n = self.fixed.len();
        let of_seen = (warped.seen.map(<[T]>::len), bar.seen.as_ref().map(|seen| seen.len()));
        if bar.values.len() != n || of_seen.0 != of_seen.1 || !self.fits(warped) {
            bar.fill_nan();
            return f64::NAN;
        }
        let (value, total) = self.mean(warped);
        for (i, out) in bar.values.iter_mut().enumerate() {
            let r = warped.values[i].f64() - self.fixed[i].f64();
            *out = T::of(self.counts(warped, i) / total * r / r.hypot(self.delta));
        }
        // A mean Σ mask ω f / Σ mask ω has the derivative mask (f − mean) / Σ mask ω in ω.
        for (i, out) in bar.seen.into_iter().flatten().enumerate() {
            *out = T::of(self.parts[i] / total * (self.penalty(warped, i) - value));
        }
        value
    }

    fn value_where_seen(&mut self, warped: Warped<'_, T>) -> f64 {
        if self.fits(warped) { self.mean(warped).0 } else { f64::NAN }
    }

    fn mask(&self) -> Option<&[T]> {
        self.mask.as_deref()
    }
}

impl<T: Real> Prepared<T> {
    fn fits(&self, warped: Warped<'_, T>) -> bool {
        let fits = |x: &[T]| x.len() == self.fixed.len();
        fits(warped.values) && warped.seen.is_none_or(fits)
    }

    /// mask · ω.
    fn counts(&self, warped: Warped<'_, T>, i: usize) -> f64 {
        self.parts[i] * warped.seen.map_or(1.0, |seen| seen[i].f64())
    }

    fn penalty(&self, warped: Warped<'_, T>, i: usize) -> f64 {
        let r = warped.values[i].f64() - self.fixed[i].f64();
        r.hypot(self.delta) - self.delta
    }

    /// The mean over what was seen, and how much that is: NaN where it is nothing.
    fn mean(&self, warped: Warped<'_, T>) -> (f64, f64) {
        let [sum, total] = (0..self.fixed.len()).fold([0.0; 2], |[sum, total], i| {
            let counts = self.counts(warped, i);
            [sum + counts * self.penalty(warped, i), total + counts]
        });
        (sum / total, total)
    }
}
// ANCHOR_END: charbonnier

use crate::pair::{Fallible, Pair, settings};
use rdmm_core::grid::Grid;
use rdmm_core::model::{Lddmm, MultiGaussian};
use rdmm_core::registration::Registration;
use rdmm_core::testing::{check_similarity, smooth};

pub fn register(pair: &Pair) -> Fallible<f64> {
    let loss = Charbonnier { delta: 0.1 };
    let grid = Grid::<2>::unit([12, 10])?;
    let image = |seed| Image::from_vec(&grid, smooth(&grid, 1, seed));
    check_similarity(&loss, &image(1)?, &image(2)?, None)?;

    let model = Lddmm::new(MultiGaussian::for_grid(pair.grid()));
    let registration = Registration::new(model, loss).with_settings(settings());
    pair.gain(&registration.run(&pair.fixed, &pair.moving)?.warped)
}
