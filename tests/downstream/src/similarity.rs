//! A similarity of one's own.

// ANCHOR: charbonnier
use rdmm_core::Real;
use rdmm_core::error::{Error, Result};
use rdmm_core::field::Image;
use rdmm_core::similarity::{Measure, Similarity};

/// Charbonnier's penalty on differences of intensity: mean of √(r² + δ²) − δ.
#[derive(Clone, Copy, Debug)]
struct Charbonnier {
    /// Differences below this count as squares.
    delta: f64,
}

struct Prepared<T> {
    fixed: Vec<T>,
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
        Ok(Box::new(Prepared { fixed: fixed.data().to_vec(), parts, delta: self.delta }))
    }

    fn name(&self) -> &'static str {
        "Charbonnier"
    }

    fn default_weight(&self) -> f64 {
        0.6
    }
}

impl<T: Real> Similarity<T> for Prepared<T> {
    fn value_and_gradient(&mut self, warped: &[T], gradient: &mut [T]) -> f64 {
        if warped.len() != self.fixed.len() || gradient.len() != self.fixed.len() {
            gradient.fill(T::nan());
            return f64::NAN;
        }
        for (i, out) in gradient.iter_mut().enumerate() {
            let r = warped[i].f64() - self.fixed[i].f64();
            *out = T::of(self.parts[i] * r / r.hypot(self.delta));
        }
        self.value(warped)
    }

    fn value(&mut self, warped: &[T]) -> f64 {
        if warped.len() != self.fixed.len() {
            return f64::NAN;
        }
        let term = |i: usize| {
            let r = warped[i].f64() - self.fixed[i].f64();
            self.parts[i] * (r.hypot(self.delta) - self.delta)
        };
        (0..warped.len()).map(term).sum()
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
