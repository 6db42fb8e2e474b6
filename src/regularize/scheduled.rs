//! Penalties that count differently on each level.

use std::sync::Arc;

use super::{On, Penalty, Regularizer, expect_weight};
use crate::error::{Error, Result};
use crate::grid::Grid;
use crate::scalar::Real;

/// A penalty whose λ is multiplied by a factor for each level of a registration, from coarse to fine; the last
/// factor holds for further levels.
///
/// The reference implementation begins with the range penalty alone, so that the weights stay at the global
/// ones while the momentum is found, and hands over to OMT and total variation: see [`range_fraction`]. An
/// optimiser needs one energy a level, so what were epochs are levels here.
///
/// # References
/// Niethammer, Kwitt, Vialard, CVPR 2019, doi:10.1109/CVPR.2019.00866.
///
/// ```
/// use std::sync::Arc;
/// use rdmm_core::regularize::{Omt, RangePenalty, Regularizer, Scheduled, range_fraction};
/// // c and 1 − c at epochs 0, 20 and 40 for three levels.
/// let c = [0.0, 20.0, 40.0].map(|epoch| range_fraction(epoch, 5.0));
/// let range = Scheduled::<f64, 2>::new(Arc::new(RangePenalty::new(2e-3, &[0.5, 0.5])?), &c)?;
/// let omt = Scheduled::<f64, 2>::new(Arc::new(Omt::new(2e-3)?), &c.map(|c| 1.0 - c))?;
/// assert_eq!((range.weight_on(0), omt.weight_on(0)), (2e-3, 0.0));
/// assert!(range.weight_on(2) < omt.weight_on(2));
/// # Ok::<(), rdmm_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Scheduled<T, const D: usize> {
    penalty: Arc<dyn Regularizer<T, D>>,
    factors: Vec<f64>,
}

impl<T: Real, const D: usize> Scheduled<T, D> {
    /// `penalty` with these factors, the coarsest level's first.
    ///
    /// # Errors
    /// [`Error::Length`] for no factor; [`Error::Setting`] unless each is finite and ≥ 0.
    pub fn new(penalty: Arc<dyn Regularizer<T, D>>, factors: &[f64]) -> Result<Self> {
        if factors.is_empty() {
            return Err(Error::Length { what: "factors of a schedule", expected: 1, found: 0 });
        }
        factors.iter().try_for_each(|&f| expect_weight("factor of a schedule", f))?;
        Ok(Self { penalty, factors: factors.to_vec() })
    }
}

impl<T: Real, const D: usize> Regularizer<T, D> for Scheduled<T, D> {
    fn on_grid(&self, grid: &Grid<D>, sigmas: &[f64]) -> Result<Box<dyn Penalty<T>>> {
        self.penalty.on_grid(grid, sigmas)
    }

    fn acts_on(&self) -> On {
        self.penalty.acts_on()
    }

    /// λ of the last level.
    fn weight(&self) -> f64 {
        self.weight_on(usize::MAX)
    }

    fn weight_on(&self, level: usize) -> f64 {
        let factor = self.factors.get(level).or(self.factors.last()).copied().unwrap_or(1.0);
        factor * self.penalty.weight_on(level)
    }

    fn name(&self) -> &'static str {
        self.penalty.name()
    }
}

/// c of the reference's schedule: the range penalty counts c, OMT and total variation 1 − c.
///
#[doc = include_str!("../../docs/math/schedule.html")]
///
/// `decay` is k, in epochs: the larger, the slower. NaN gives NaN, which [`Scheduled::new`] refuses.
///
/// ```
/// use rdmm_core::regularize::range_fraction;
/// assert_eq!(range_fraction(10.0, 5.0), 5.0 / 6.0);
/// assert_eq!((range_fraction(3.0, 5.0), range_fraction(60.0, 5.0)), (1.0, 0.1));
/// ```
#[must_use]
pub fn range_fraction(epoch: f64, decay: f64) -> f64 {
    const ALONE: f64 = 10.0;
    const LEAST: f64 = 0.1;
    if epoch < ALONE && !decay.is_nan() {
        return 1.0;
    }
    let c = decay / (decay + ((epoch - ALONE) / decay).exp());
    // Not by `max`, which would turn NaN into a number.
    if c < LEAST { LEAST } else { c }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::regularize::Omt;

    #[test]
    fn the_last_factor_holds_for_further_levels_and_factors_are_checked() {
        let omt: Arc<dyn Regularizer<f64, 2>> = Arc::new(Omt::new(2.0).unwrap());
        let scheduled = Scheduled::new(Arc::clone(&omt), &[0.0, 0.5, 3.0]).unwrap();
        let weights: Vec<f64> = (0..5).map(|level| scheduled.weight_on(level)).collect();
        assert_eq!(weights, [0.0, 1.0, 6.0, 6.0, 6.0]);
        assert!((scheduled.weight() - 6.0).abs() < f64::EPSILON);
        for bad in [vec![], vec![1.0, -1.0], vec![f64::NAN], vec![f64::INFINITY]] {
            assert!(Scheduled::new(Arc::clone(&omt), &bad).is_err(), "{bad:?}");
        }
        let nan = f64::NAN;
        for (epoch, decay) in [(nan, 5.0), (3.0, nan), (20.0, nan)] {
            assert!(range_fraction(epoch, decay).is_nan(), "{epoch} {decay}");
        }
    }
}
