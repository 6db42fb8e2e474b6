//! Distance of the weights from global ones.

use super::{On, Penalty, Regularizer, expect_weight, fit};
use crate::error::Result;
use crate::grid::Grid;
use crate::kernel::gaussian::{expect_increasing, expect_weights};
use crate::par;
use crate::scalar::Real;

/// Mean squared distance of the weights from global ones.
///
#[doc = include_str!("../../docs/math/range.html")]
///
/// w* are the roots of the global weights. 0 for the global weights everywhere, at most 2. One pass over
/// the weights.
///
/// # References
/// Shen, Vialard, Niethammer, `NeurIPS` 2019, arXiv:1906.00139, Section 3.
///
/// ```
/// use rdmm_core::{grid::Grid, regularize::{RangePenalty, Regularizer}};
/// let grid = Grid::new([4, 4], [1.0, 1.0])?;
/// let range = RangePenalty::new(0.1, &[0.36, 0.64])?;
/// let mut range = Regularizer::<f64, 2>::on_grid(&range, &grid, &[1.0, 2.0])?;
/// // All of the smaller Gaussian: (1 − 0.6)² + 0.8².
/// let weights: Vec<f64> = (0..32).map(|k| f64::from(u8::from(k < 16))).collect();
/// let mut gradient = vec![0.0; 32];
/// assert!((range.add(1.0, &weights, &mut gradient) - 0.8).abs() < 1e-14);
/// # Ok::<(), rdmm_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "Stored"))]
pub struct RangePenalty {
    weight: f64,
    weights: Vec<f64>,
    on: On,
}

impl RangePenalty {
    /// The distance of the smoothed weights from the global ones, whose squares are `weights`, with factor λ = `weight`.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) unless λ is finite and ≥ 0;
    /// [`Error::WeightSum`](crate::Error::WeightSum) unless the weights sum to one.
    pub fn new(weight: f64, weights: &[f64]) -> Result<Self> {
        expect_weight("weight of the range penalty", weight)?;
        expect_weights(weights, weights.len())?;
        Ok(Self { weight, weights: weights.to_vec(), on: On::Weights })
    }

    /// The same as a function of other weights; of w by default.
    #[must_use]
    pub fn with_on(mut self, on: On) -> Self {
        self.on = on;
        self
    }

    /// Squares of the global weights, of sum one.
    #[must_use]
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }
}

/// What is stored of the penalty: checked when it is read.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
#[serde(rename = "Range")]
struct Stored {
    weight: f64,
    weights: Vec<f64>,
    on: On,
}

#[cfg(feature = "serde")]
impl TryFrom<Stored> for RangePenalty {
    type Error = crate::Error;

    fn try_from(stored: Stored) -> Result<Self> {
        Ok(Self::new(stored.weight, &stored.weights)?.with_on(stored.on))
    }
}

impl<T: Real, const D: usize> Regularizer<T, D> for RangePenalty {
    #[inline(never)]
    fn on_grid(&self, grid: &Grid<D>, sigmas: &[f64]) -> Result<Box<dyn Penalty<T>>> {
        expect_increasing(sigmas)?;
        expect_weights(&self.weights, sigmas.len())?;
        let global = self.weights.iter().map(|square| square.sqrt()).collect();
        Ok(Box::new(Prepared { global, n: grid.len() }))
    }

    fn acts_on(&self) -> On {
        self.on
    }

    fn weight(&self) -> f64 {
        self.weight
    }

    fn name(&self) -> &'static str {
        "range"
    }
}

struct Prepared {
    /// √ of the global weights.
    global: Vec<f64>,
    n: usize,
}

impl<T: Real> Penalty<T> for Prepared {
    fn add(&mut self, scale: f64, weights: &[T], gradient: &mut [T]) -> f64 {
        let n = self.n;
        if !fit(self.global.len() * n, weights, gradient) {
            return f64::NAN;
        }
        // ∫ · / V is the mean over the voxels.
        let scale = scale / n as f64;
        par::components(gradient, n, |i, lo, chunk| {
            let (slope, global) = (T::of(2.0 * scale), T::of(self.global[i]));
            for (g, &w) in chunk.iter_mut().zip(&weights[i * n + lo..]) {
                *g += slope * (w - global);
            }
        });
        let square = |i: usize| {
            let (w, global) = (&weights[i * n..(i + 1) * n], self.global[i]);
            par::sum(n, |range| w[range].iter().map(|w| (w.f64() - global).powi(2)).sum())
        };
        scale * (0..self.global.len()).map(square).sum::<f64>()
    }
}
