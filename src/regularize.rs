//! Penalties of weights: what keeps an optimised regulariser regular.
//!
//! A [`Regularizer`] is what a user chooses, with its weight λ. [`Regularizer::on_grid`] checks it and
//! gives a [`Penalty`] that holds all buffers, once a resolution level; the evaluations themselves cannot
//! fail.
//!
//! | penalty | acts on | is zero for | keeps |
//! | --- | --- | --- | --- |
//! | [`Omt`] | w | the largest σ everywhere | the metric smooth |
//! | [`TotalVariation`] | h | constant pre-weights | regions few and their borders short |
//! | [`Range`] | w | the global weights | weights from wandering |
//!
//! Penalties are integrals divided by the volume V, total variation times the longest extent L, so that
//! they and their λ have no unit of length and go with the energy of
//! [`PairObjective`](crate::registration::PairObjective).
//!
//! # References
//! Shen, Vialard, Niethammer, *Region-specific diffeomorphic metric mapping*, `NeurIPS` 2019,
//! arXiv:1906.00139, Section 3; Niethammer, Kwitt, Vialard, *Metric learning for image registration*, CVPR
//! 2019, doi:10.1109/CVPR.2019.00866.

mod omt;
mod range;
mod total_variation;

pub use omt::Omt;
pub use range::Range;
pub use total_variation::{TotalVariation, edge_weight};

use crate::error::{Error, Result};
use crate::grid::Grid;
use crate::scalar::Real;

/// Which of the two weights a penalty is a function of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum On {
    /// The pre-weights h, of unit norm.
    PreWeights,
    /// The smoothed weights w = G ⋆ h, which the metric sees.
    Weights,
}

/// A choice of penalty: prepares itself on grids.
pub trait Regularizer<T: Real, const D: usize>: std::fmt::Debug + Send + Sync {
    /// The penalty of weights of Gaussians with these σ (physical units, increasing) on `grid`.
    ///
    /// # Errors
    /// [`Error::Setting`], [`Error::SigmaOrder`] or [`Error::Length`] for settings and σ that do not fit,
    /// and those that the penalty states.
    fn on_grid(&self, grid: &Grid<D>, sigmas: &[f64]) -> Result<Box<dyn Penalty<T>>>;

    /// Which weights it is a function of.
    fn acts_on(&self) -> On;

    /// λ, the factor with which it counts in the energy.
    fn weight(&self) -> f64;

    /// The name that reports use.
    fn name(&self) -> &'static str;
}

/// A penalty of the weights of N Gaussians on one grid: 0 is best.
///
/// `weights` and `gradient` have the shape `[N, ..grid.shape()]`, C order. Results do not depend on
/// earlier calls. Nothing is allocated after the first call. Lengths that do not fit give a NaN value and
/// a NaN gradient.
pub trait Penalty<T: Real>: Send {
    /// `scale` times the penalty, without its λ; adds `scale` times its partial derivatives with respect
    /// to each weight to `gradient`.
    fn add(&mut self, scale: f64, weights: &[T], gradient: &mut [T]) -> f64;
}

/// `Ok` if λ is finite and not negative.
fn expect_weight(name: &'static str, weight: f64) -> Result<()> {
    if weight.is_finite() && weight >= 0.0 {
        Ok(())
    } else {
        Err(Error::setting(name, "a finite number ≥ 0", weight))
    }
}

/// Whether both hold `n` values; `gradient` is NaN otherwise.
fn fit<T: Real>(n: usize, weights: &[T], gradient: &mut [T]) -> bool {
    let fit = weights.len() == n && gradient.len() == n;
    if !fit {
        gradient.fill(T::nan());
    }
    fit
}
