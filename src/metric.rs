//! Metrics: how momentum becomes velocity, and how the flow advects the weights of a metric.

pub mod homogeneous;
pub mod mixture;

pub use homogeneous::Homogeneous;
pub use mixture::Mixture;

use crate::error::Result;
use crate::field::{Momentum, Velocity};
use crate::grid::Grid;
use crate::scalar::Real;
use crate::space::StateSpace;

/// What a metric is applied to, or the cotangents of its rates.
#[derive(Debug)]
pub struct Inputs<'a, T, const D: usize, W> {
    /// Momentum m.
    pub momentum: &'a Momentum<T, D>,
    /// Weights w; `()` for a metric without.
    pub weights: &'a W,
}

impl<T, const D: usize, W> Clone for Inputs<'_, T, D, W> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, const D: usize, W> Copy for Inputs<'_, T, D, W> {}

/// Rates, or cotangents, of what a metric is applied to.
#[derive(Debug)]
pub struct Outputs<'a, T, const D: usize, W> {
    /// That of the momentum.
    pub momentum: &'a mut Momentum<T, D>,
    /// That of the weights.
    pub weights: &'a mut W,
}

/// What an operator leaves for its transpose: a value that can be kept, moved and sent.
pub trait Tape: Send {
    /// How many numbers are on it.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Tape for () {
    fn len(&self) -> usize {
        0
    }
}

/// A right-invariant metric v = K(w) m whose parameters w may be advected by the flow.
///
/// `Weights` is `()` for a metric that is the same everywhere. The operators come in three parts, so
/// that the discrete Hamiltonian ½⟨m, K(w) m⟩ is conserved exactly in space: the velocity, the rates
/// that advecting the weights causes, and the transpose of both together.
///
/// [`Metric::velocity`] writes a tape, and whatever needs the velocity of the same momentum and weights afterwards takes
/// that tape. Fields of another shape than the metric's make results NaN.
///
/// Five methods are required; [`check_metric`](crate::testing) tests an implementation.
pub trait Metric<T: Real, const D: usize>: Send + Sync {
    /// What of the metric moves: nothing, or weights.
    type Weights: StateSpace<T>;

    /// What [`Metric::velocity`] leaves for the calls that follow it.
    type Tape: Tape;

    /// Buffers, owned by the caller; they grow to what is needed. No result depends on what they held before.
    type Workspace: Default + Send;

    /// A tape of the size that velocities on `grid` fill.
    ///
    /// # Errors
    /// Those of making fields, such as [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    fn tape(&self, grid: &Grid<D>) -> Result<Self::Tape>;

    /// `Ok` if `weights` are of `grid`, and as many as the metric has. This default accepts all; those that do not fit then
    /// make results NaN.
    ///
    /// # Errors
    /// [`Error::GridMismatch`](crate::Error::GridMismatch) or [`Error::Length`](crate::Error::Length) with both.
    fn expect_weights(&self, _grid: &Grid<D>, _weights: &Self::Weights) -> Result<()> {
        Ok(())
    }

    /// v ← K(w) m.
    fn velocity(
        &self,
        at: Inputs<'_, T, D, Self::Weights>,
        velocity: &mut Velocity<T, D>,
        tape: &mut Self::Tape,
        ws: &mut Self::Workspace,
    );

    /// Transpose of [`Metric::velocity`] alone: adds to `bars`, the cotangents of momentum and
    /// weights, from the cotangent of v. By the symmetry of K, m̄ += K(w) v̄.
    fn velocity_vjp(
        &self,
        at: Inputs<'_, T, D, Self::Weights>,
        velocity_bar: &Velocity<T, D>,
        bars: Outputs<'_, T, D, Self::Weights>,
        tape: &Self::Tape,
        ws: &mut Self::Workspace,
    );

    /// ∂t m += the force of the moving metric, ∂t w ← transport of w by v.
    fn advect(
        &self,
        at: Inputs<'_, T, D, Self::Weights>,
        velocity: &Velocity<T, D>,
        rates: Outputs<'_, T, D, Self::Weights>,
        tape: &Self::Tape,
        ws: &mut Self::Workspace,
    );

    /// Transpose of [`Metric::advect`] and [`Metric::velocity`], from the cotangents of the rates and of v: adds to
    /// the cotangent of the momentum, and sets that of the weights. `velocity_bar` enters with what the rest of
    /// the dynamics put there and leaves changed.
    #[expect(clippy::too_many_arguments, reason = "one for each symbol of the equation")]
    fn rates_vjp(
        &self,
        at: Inputs<'_, T, D, Self::Weights>,
        velocity: &Velocity<T, D>,
        rate_bars: Inputs<'_, T, D, Self::Weights>,
        velocity_bar: &mut Velocity<T, D>,
        bars: Outputs<'_, T, D, Self::Weights>,
        tape: &Self::Tape,
        ws: &mut Self::Workspace,
    );

    /// Adds `scale` · ∂/∂w ½⟨m, K(w) m⟩ (plain sums) to `bar`. This default is half of [`Metric::velocity_vjp`] from
    /// v̄ = m, since K is symmetric; it copies the momentum twice.
    fn energy_gradient(
        &self,
        at: Inputs<'_, T, D, Self::Weights>,
        scale: T,
        bar: &mut Self::Weights,
        tape: &Self::Tape,
        ws: &mut Self::Workspace,
    ) {
        // A field of the same numbers, of the kind of velocities.
        let mut velocity_bar = Velocity::blank(at.momentum.grid());
        crate::field::copy(at.momentum.data(), velocity_bar.data_mut());
        velocity_bar.scale(T::of(0.5) * scale);
        let mut momentum_bar = at.momentum.zeros_like();
        let bars = Outputs { momentum: &mut momentum_bar, weights: bar };
        self.velocity_vjp(at, &velocity_bar, bars, tape, ws);
    }
}
