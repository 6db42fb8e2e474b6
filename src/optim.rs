//! Optimisers: L-BFGS in a metric of the caller's, and Adam.
//!
//! | | [`Lbfgs`] | [`Adam`] |
//! | --- | --- | --- |
//! | for | smooth objectives with exact gradients | noisy or stochastic ones |
//! | values | never increase | may increase; the lowest point is kept |
//! | scale | found by the line search | the learning rate, in units of the control |
//! | vectors held, for memory m | 2m + 9 | 8 |
//!
//! Both work on any [`StateSpace`], take an [`Objective`], report to an observer after every
//! iteration and hand back an [`Outcome`] with the best point and the reason of the [`Stop`]. Their
//! states can be cloned, stored (feature `serde`) and continued from with the same bits.
//!
//! ```
//! use std::ops::ControlFlow;
//! use rdmm_core::optim::{Euclidean, Lbfgs, Objective};
//!
//! /// f(x) = (x₀ − 1)² + 100 x₁².
//! struct Bowl;
//!
//! impl Objective<f64> for Bowl {
//!     type Control = Vec<f64>;
//!     fn evaluate(&mut self, x: &Vec<f64>, gradient: &mut Vec<f64>) -> rdmm_core::Result<f64> {
//!         gradient[0] = 2.0 * (x[0] - 1.0);
//!         gradient[1] = 200.0 * x[1];
//!         Ok((x[0] - 1.0).powi(2) + 100.0 * x[1].powi(2))
//!     }
//! }
//!
//! let outcome = Lbfgs::default().minimize(&mut Bowl, &mut Euclidean, vec![3.0, 1.0], |state| {
//!     println!("{} {:.3e}", state.iteration(), state.value());
//!     ControlFlow::Continue(())
//! })?;
//! let best = outcome.state.best();
//! assert!((best[0] - 1.0).abs() < 1e-4 && best[1].abs() < 1e-4);
//! # Ok::<(), rdmm_core::Error>(())
//! ```

/// Methods `with_x` of settings: the same with another `x`.
macro_rules! with {
    ($settings:ident { $($with:ident: $field:ident: $type:ty),+ $(,)? }) => {
        impl $settings {
            $(
                #[doc = concat!("The same with another `", stringify!($field), "`.")]
                #[must_use]
                pub fn $with(mut self, $field: $type) -> Self {
                    self.$field = $field;
                    self
                }
            )+
        }
    };
}

mod adam;
mod clock;
mod lbfgs;
mod line_search;
#[cfg(test)]
mod problems;

use std::collections::VecDeque;

use crate::error::{Error, Result};
use crate::scalar::Real;
use crate::space::StateSpace;

pub use adam::{Adam, AdamState};
pub(crate) use clock::Clock;
pub use lbfgs::{Lbfgs, LbfgsState};
pub use line_search::{LineSearch, Step};

/// A differentiable function f of a control.
pub trait Objective<T: Real> {
    /// The space that is searched.
    type Control: StateSpace<T>;

    /// Returns f(control) and overwrites `gradient` with the partial derivatives ∂f/∂control (the
    /// Euclidean gradient, without cell volumes). `gradient` has the shape of `control` and
    /// arbitrary content.
    ///
    /// A point where the value or a derivative is NaN or infinite counts as infinitely high.
    ///
    /// # Errors
    /// An error that [is recoverable](Error::is_recoverable) counts as an infinitely high value:
    /// the optimiser takes a smaller step. Any other error ends the optimisation, which then
    /// returns the best point so far.
    fn evaluate(&mut self, control: &Self::Control, gradient: &mut Self::Control) -> Result<f64>;
}

/// A symmetric positive definite operator H̃₀: the shape of the inverse Hessian at the start.
///
/// Its scale is free: [`Lbfgs`] uses H₀ = γ H̃₀ and finds γ. With H̃₀ the inverse of a metric
/// operator L, L-BFGS is L-BFGS in the inner product ⟨a, L b⟩.
///
/// The operator must be linear and stay the same for all iterations on one state.
pub trait InitialInverseHessian<T: Real, C: StateSpace<T>> {
    /// `direction ← H̃₀ gradient`. `direction` has the shape of `gradient` and arbitrary content.
    fn apply(&mut self, gradient: &C, direction: &mut C);
}

/// H̃₀ = 1: the Euclidean inner product.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Euclidean;

impl<T: Real, C: StateSpace<T>> InitialInverseHessian<T, C> for Euclidean {
    fn apply(&mut self, gradient: &C, direction: &mut C) {
        direction.copy_from(gradient);
    }
}

/// Why an optimisation ended.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Stop {
    /// The gradient is small enough, or zero.
    Gradient,
    /// The value decreased too little over the last iterations.
    Value,
    /// The iterations are used up.
    MaxIterations,
    /// The evaluations are used up.
    MaxEvaluations,
    /// No step gave a lower value: at the limit of rounding, or where the gradient does not belong
    /// to the value. For [`Adam`]: no step, however short, gave a finite value.
    LineSearch,
    /// The observer asked for it.
    Observer,
    /// The time was up.
    TimeLimit,
    /// An error that no smaller step can avoid.
    Failed(#[cfg_attr(feature = "serde", serde(with = "crate::error::stored"))] Error),
}

impl Stop {
    /// Whether a tolerance was met.
    #[must_use]
    pub fn is_converged(&self) -> bool {
        matches!(self, Self::Gradient | Self::Value)
    }

    /// Whether it was stopped before it was done: by an observer or for time.
    #[must_use]
    pub fn is_request(&self) -> bool {
        matches!(self, Self::Observer | Self::TimeLimit)
    }
}

/// What an optimisation reached, and why it ended there.
#[derive(Clone, Debug)]
pub struct Outcome<S> {
    /// The state that was reached, with the best point.
    pub state: S,
    /// Why it ended.
    pub stop: Stop,
}

/// Value and gradient; `None` where the point counts as infinitely high.
fn evaluate<T: Real, O: Objective<T>>(
    objective: &mut O,
    control: &O::Control,
    gradient: &mut O::Control,
) -> Result<Option<f64>> {
    match objective.evaluate(control, gradient) {
        Ok(value) if value.is_finite() && gradient.is_finite() => Ok(Some(value)),
        Ok(_) => Ok(None),
        Err(error) if error.is_recoverable() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Value and gradient at the starting point, where there is nothing to go back to.
fn evaluate_start<T: Real, O: Objective<T>>(
    objective: &mut O,
    control: &O::Control,
    gradient: &mut O::Control,
) -> Result<f64> {
    let value = objective.evaluate(control, gradient)?;
    let derivative = gradient.max_abs();
    if value.is_finite() && derivative.is_finite() {
        Ok(value)
    } else {
        Err(Error::Start { value, derivative })
    }
}

/// Adds a value to the last `window + 1` of them.
fn remember(values: &mut VecDeque<f64>, value: f64, window: usize) {
    values.push_back(value);
    while values.len() > window.saturating_add(1) {
        values.pop_front();
    }
}

/// Whether the decrease over the last `window` iterations is at most `tolerance`, relatively.
fn stagnates(values: &VecDeque<f64>, window: usize, tolerance: f64) -> bool {
    let last = values.len().wrapping_sub(1);
    let before = last.checked_sub(window).and_then(|i| values.get(i));
    match (before, values.back()) {
        (Some(&before), Some(&now)) => before - now <= tolerance * before.abs(),
        _ => false,
    }
}

/// A tolerance: finite and not negative.
fn tolerance(name: &'static str, value: f64) -> Result<()> {
    if value.is_finite() && value >= 0.0 {
        Ok(())
    } else {
        Err(Error::setting(name, "a finite number ≥ 0", value))
    }
}

/// A number strictly between 0 and 1.
fn fraction(name: &'static str, value: f64) -> Result<()> {
    if value > 0.0 && value < 1.0 {
        Ok(())
    } else {
        Err(Error::setting(name, "a number between 0 and 1", value))
    }
}

/// A count that must not be zero.
fn count(name: &'static str, value: usize) -> Result<()> {
    if value > 0 { Ok(()) } else { Err(Error::setting(name, "at least 1", value)) }
}
