//! What an L-BFGS iteration goes on from.

use std::collections::VecDeque;

use super::history::{End, History, Pair};
use crate::error::Result;
use crate::scalar::Real;
use crate::space::StateSpace;

/// A point of the search.
#[derive(Debug)]
pub(super) struct Point<C> {
    pub(super) control: C,
    pub(super) gradient: C,
    pub(super) value: f64,
}

/// Work vectors. They are made when first needed, are not copied with a state and are not stored;
/// no result depends on what they hold.
#[derive(Debug)]
pub(super) struct Work<C>(pub(super) Option<Buffers<C>>);

#[derive(Debug)]
pub(super) struct Buffers<C> {
    pub(super) direction: C,
    pub(super) scratch: C,
    /// The last trial.
    pub(super) trial: Point<C>,
    /// The lowest trial of this iteration.
    pub(super) lowest: Point<C>,
    /// Vectors of dropped pairs.
    pub(super) spare: Vec<Pair<C>>,
    /// αᵢ of the two-loop recursion.
    pub(super) coefficients: Vec<f64>,
}

impl<C> Default for Work<C> {
    fn default() -> Self {
        Self(None)
    }
}

impl<C> Clone for Work<C> {
    fn clone(&self) -> Self {
        Self(None)
    }
}

impl<C: Clone> Buffers<C> {
    pub(super) fn new(control: &C) -> Self {
        let point =
            || Point { control: control.clone(), gradient: control.clone(), value: f64::INFINITY };
        Self {
            direction: control.clone(),
            scratch: control.clone(),
            trial: point(),
            lowest: point(),
            spare: Vec::new(),
            coefficients: Vec::new(),
        }
    }
}

/// Everything that the next iteration of [`Lbfgs`](super::Lbfgs) depends on.
///
/// It can be cloned and stored (feature `serde`); [`Lbfgs::resume`](super::Lbfgs::resume) with the same settings,
/// objective and H̃₀ then gives the same bits as never having stopped, unless the evaluations ran
/// out within a line search.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(bound(deserialize = "C: serde::Deserialize<'de>")))]
pub struct LbfgsState<C> {
    pub(super) control: C,
    pub(super) gradient: C,
    /// H̃₀ g.
    pub(super) preconditioned_gradient: C,
    pub(super) value: f64,
    pub(super) first_value: f64,
    pub(super) gradient_norm: f64,
    pub(super) first_gradient_norm: f64,
    pub(super) history: History<C>,
    pub(super) values: VecDeque<f64>,
    pub(super) iteration: usize,
    pub(super) evaluations: usize,
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(super) work: Work<C>,
}

impl<C> LbfgsState<C> {
    /// The current control, which is the best one: values never increase.
    #[must_use]
    pub fn best(&self) -> &C {
        &self.control
    }

    /// The objective there.
    #[must_use]
    pub fn best_value(&self) -> f64 {
        self.value
    }

    /// The current control.
    #[must_use]
    pub fn control(&self) -> &C {
        &self.control
    }

    /// The current control itself, the rest of the state dropped.
    #[must_use]
    pub fn into_control(self) -> C {
        self.control
    }

    /// The objective at the current control.
    #[must_use]
    pub fn value(&self) -> f64 {
        self.value
    }

    /// The objective at the starting point.
    #[must_use]
    pub fn first_value(&self) -> f64 {
        self.first_value
    }

    /// The Euclidean gradient g at the current control.
    #[must_use]
    pub fn gradient(&self) -> &C {
        &self.gradient
    }

    /// √(gᵀH̃₀g) at the current control.
    #[must_use]
    pub fn gradient_norm(&self) -> f64 {
        self.gradient_norm
    }

    /// √(gᵀH̃₀g) at the starting point.
    #[must_use]
    pub fn first_gradient_norm(&self) -> f64 {
        self.first_gradient_norm
    }

    /// The pairs (s, y), oldest first.
    pub fn pairs(&self) -> impl ExactSizeIterator<Item = (&C, &C)> {
        self.history.pairs()
    }

    /// Iterations so far.
    #[must_use]
    pub fn iteration(&self) -> usize {
        self.iteration
    }

    /// Evaluations so far, failed ones included.
    #[must_use]
    pub fn evaluations(&self) -> usize {
        self.evaluations
    }
}

impl<C> LbfgsState<C> {
    /// The current point.
    pub(super) fn end(&self) -> End<'_, C> {
        let Self { control, gradient, preconditioned_gradient, .. } = self;
        End { control, gradient, preconditioned_gradient }
    }

    /// `Ok` if all vectors have the shape of the control: a stored state could be damaged.
    pub(super) fn expect_whole<T: Real>(&self) -> Result<()>
    where
        C: StateSpace<T>,
    {
        self.control.expect_like(&self.gradient)?;
        self.control.expect_like(&self.preconditioned_gradient)?;
        for (s, y) in self.history.pairs() {
            self.control.expect_like(s)?;
            self.control.expect_like(y)?;
        }
        Ok(())
    }
}
