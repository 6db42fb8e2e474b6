//! Optimal mass transport of the weights to the largest Gaussian.

use super::{On, Penalty, Regularizer, expect_weight, fit};
use crate::error::{Result, positive};
use crate::grid::Grid;
use crate::kernel::gaussian::expect_increasing;
use crate::par;
use crate::scalar::Real;

/// What it costs to move the shares w_i² to the largest σ, as a mean over the grid.
///
#[doc = include_str!("../../docs/math/omt.html")]
///
/// 0 where the largest Gaussian has the whole share, 1 where the smallest has it. With a single Gaussian
/// there is nothing to move, and the penalty is 0. One pass over the weights.
///
/// Smoothing lowers Σ w_i² where weights change, so the penalty of w is lower for rough h. Total variation
/// beside it makes up for that.
///
/// # References
/// Shen, Vialard, Niethammer, `NeurIPS` 2019, arXiv:1906.00139, Section 3; Niethammer, Kwitt, Vialard,
/// CVPR 2019, doi:10.1109/CVPR.2019.00866.
///
/// ```
/// use rdmm_core::{grid::Grid, regularize::{Omt, Regularizer}};
/// let grid = Grid::new([4, 4], [1.0, 1.0])?;
/// let mut omt = Regularizer::<f64, 2>::on_grid(&Omt::new(0.1)?, &grid, &[1.0, 2.0, 4.0])?;
/// // All of the middle Gaussian, half-way in log σ.
/// let weights: Vec<f64> = (0..48).map(|k| f64::from(u8::from(k / 16 == 1))).collect();
/// let mut gradient = vec![0.0; 48];
/// assert!((omt.add(1.0, &weights, &mut gradient) - 0.5).abs() < 1e-14);
/// # Ok::<(), rdmm_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "Stored"))]
pub struct Omt {
    weight: f64,
    power: f64,
    on: On,
}

impl Omt {
    /// The penalty of the smoothed weights with factor λ = `weight` and r = 1.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) unless λ is finite and ≥ 0.
    pub fn new(weight: f64) -> Result<Self> {
        expect_weight("weight of OMT", weight)?;
        Ok(Self { weight, power: 1.0, on: On::Weights })
    }

    /// The same with another power r of the distances |log(σ_{N−1}/σ_i)|; 1 by default.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) unless r is finite and positive.
    pub fn with_power(mut self, power: f64) -> Result<Self> {
        self.power = positive("power of OMT", power)?;
        Ok(self)
    }

    /// The same as a function of other weights; of w by default.
    #[must_use]
    pub fn with_on(mut self, on: On) -> Self {
        self.on = on;
        self
    }

    /// r.
    #[must_use]
    pub fn power(&self) -> f64 {
        self.power
    }
}

/// What is stored of the penalty: checked when it is read.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
#[serde(rename = "Omt")]
struct Stored {
    weight: f64,
    power: f64,
    on: On,
}

#[cfg(feature = "serde")]
impl TryFrom<Stored> for Omt {
    type Error = crate::Error;

    fn try_from(stored: Stored) -> Result<Self> {
        Ok(Self::new(stored.weight)?.with_power(stored.power)?.with_on(stored.on))
    }
}

impl<T: Real, const D: usize> Regularizer<T, D> for Omt {
    #[inline(never)]
    fn on_grid(&self, grid: &Grid<D>, sigmas: &[f64]) -> Result<Box<dyn Penalty<T>>> {
        expect_increasing(sigmas)?;
        let (smallest, largest) = (sigmas[0], sigmas[sigmas.len() - 1]);
        let whole = (largest / smallest).ln();
        let cost = |sigma: &f64| {
            if sigmas.len() == 1 { 0.0 } else { ((largest / sigma).ln() / whole).powf(self.power) }
        };
        Ok(Box::new(Prepared { costs: sigmas.iter().map(cost).collect(), n: grid.len() }))
    }

    fn acts_on(&self) -> On {
        self.on
    }

    fn weight(&self) -> f64 {
        self.weight
    }

    fn name(&self) -> &'static str {
        "OMT"
    }
}

struct Prepared {
    /// |log(σ_{N−1}/σ_i)|^r / |log(σ_{N−1}/σ_0)|^r.
    costs: Vec<f64>,
    n: usize,
}

impl<T: Real> Penalty<T> for Prepared {
    fn add(&mut self, scale: f64, weights: &[T], gradient: &mut [T]) -> f64 {
        let n = self.n;
        if !fit(self.costs.len() * n, weights, gradient) {
            return f64::NAN;
        }
        // ∫ · / V is the mean over the voxels.
        let scale = scale / n as f64;
        par::components(gradient, n, |i, lo, chunk| {
            let slope = T::of(2.0 * scale * self.costs[i]);
            for (g, &w) in chunk.iter_mut().zip(&weights[i * n + lo..]) {
                *g += slope * w;
            }
        });
        let square = |i: usize| {
            let w = &weights[i * n..(i + 1) * n];
            crate::field::dot(w, w)
        };
        scale * self.costs.iter().enumerate().map(|(i, cost)| cost * square(i)).sum::<f64>()
    }
}
