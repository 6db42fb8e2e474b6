//! Metrics: how momentum becomes velocity, and how the weights of a metric are carried along.

pub mod fixed;
pub mod mixture;

pub use fixed::Fixed;
pub use mixture::Mixture;

use crate::field::{Momentum, Velocity};
use crate::scalar::Real;
use crate::space::StateSpace;

/// A right-invariant metric v = K(w) m whose parameters w may be carried by the flow.
///
/// `Weights` is `()` for a metric that is the same everywhere. The operators come in three parts, so
/// that the discrete Hamiltonian ½⟨m, K(w) m⟩ is conserved exactly in space: the velocity, the rates
/// that carrying the weights causes, and the transpose of both together.
///
/// Every other call follows one of [`Metric::velocity`] with the same momentum, weights and workspace, or brings
/// back by [`Metric::exchange`] what that call left.
pub trait Metric<T: Real, const D: usize>: Send + Sync {
    /// What of the metric moves: nothing, or weights.
    type Weights: StateSpace<T>;

    /// Buffers, owned by the caller.
    type Workspace: Send;

    /// What [`Metric::velocity`] leaves in a workspace for the calls that follow it.
    type Tape: Send;

    /// Buffers for this metric.
    fn workspace(&self) -> Self::Workspace;

    /// A blank tape.
    fn tape(&self) -> Self::Tape;

    /// How many numbers are on a tape.
    fn tape_len(&self) -> usize;

    /// Exchanges what the last velocity left in `ws` for what is on `tape`.
    fn exchange(&self, ws: &mut Self::Workspace, tape: &mut Self::Tape);

    /// v ← K(w) m.
    fn velocity(
        &self,
        momentum: &Momentum<T, D>,
        weights: &Self::Weights,
        velocity: &mut Velocity<T, D>,
        ws: &mut Self::Workspace,
    );

    /// Transpose of [`Metric::velocity`] alone: adds to `bars`, the cotangents of momentum and
    /// weights, from the cotangent of v. By the symmetry of K, m̄ += K(w) v̄.
    fn velocity_vjp(
        &self,
        momentum: &Momentum<T, D>,
        velocity_bar: &Velocity<T, D>,
        bars: (&mut Momentum<T, D>, &mut Self::Weights),
        ws: &mut Self::Workspace,
    );

    /// ∂t m += the force of the moving metric, ∂t w ← transport of w by v.
    fn carry(
        &self,
        momentum: &Momentum<T, D>,
        weights: &Self::Weights,
        velocity: &Velocity<T, D>,
        rates: (&mut Momentum<T, D>, &mut Self::Weights),
        ws: &mut Self::Workspace,
    );

    /// Transpose of [`Metric::carry`] and [`Metric::velocity`], from the cotangents of the rates and of v: adds to
    /// the cotangent of the momentum, and sets that of the weights. `velocity_bar` enters with what the rest of
    /// the dynamics put there and leaves changed.
    #[expect(clippy::too_many_arguments, reason = "one for each symbol of the equation")]
    fn pull_back(
        &self,
        momentum: &Momentum<T, D>,
        weights: &Self::Weights,
        velocity: &Velocity<T, D>,
        rate_bars: (&Momentum<T, D>, &Self::Weights),
        velocity_bar: &mut Velocity<T, D>,
        bars: (&mut Momentum<T, D>, &mut Self::Weights),
        ws: &mut Self::Workspace,
    );

    /// Adds `scale` · ∂/∂w ½⟨m, K(w) m⟩ (plain sums) to `bar`.
    fn add_energy_slope(
        &self,
        momentum: &Momentum<T, D>,
        scale: T,
        bar: &mut Self::Weights,
        ws: &mut Self::Workspace,
    );
}
