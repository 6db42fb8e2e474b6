//! What a registration found.

use super::terms::Diagnostics;
use crate::evaluate::{Consistency, Folds};
use crate::field::{Displacement, Image, Momentum, Weights};
use crate::model::Controls;
use crate::ops::unfold::Unfolded;
use crate::optim::Stop;
use crate::world::Affine;

/// What one level did.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct LevelReport {
    /// Voxels of the images.
    pub images: Vec<usize>,
    /// Voxels of the map.
    pub map: Vec<usize>,
    /// Iterations of the optimiser.
    pub iterations: usize,
    /// Evaluations of energy and gradient.
    pub evaluations: usize,
    /// Evaluations that a term refused, such as for [`Settings::min_jacobian`](super::Settings::min_jacobian).
    pub refused: usize,
    /// What was found at the start.
    pub first: Diagnostics,
    /// What was found at the best controls.
    pub last: Diagnostics,
    /// What the momentum that the level began with was multiplied by, so that its flow could be integrated and no term
    /// refused it: 1 where nothing had to be done.
    pub shrunk: f64,
    /// Why the level ended.
    pub stop: Stop,
    /// Bytes of the states of the flow that were held for the gradient: see
    /// [`Checkpoints::Bytes`](crate::adjoint::Checkpoints::Bytes).
    pub bytes: usize,
    /// Seconds spent.
    pub seconds: f64,
}

/// Figures of a registration.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Report {
    /// Name of the model.
    pub model: String,
    /// Name of the similarity measure.
    pub measure: String,
    /// λ.
    pub similarity_weight: f64,
    /// Levels from coarse to fine.
    pub levels: Vec<LevelReport>,
    /// Folds of the whole map on the fixed image's grid: determinants are those of Φ⁻¹ times |det A|.
    pub folds: Folds,
    /// The same of the forward map Φ, the non-linear part.
    pub forward_folds: Folds,
    /// What was smoothed away of the inverse map, the non-linear part, for
    /// [`Settings::min_jacobian`](super::Settings::min_jacobian).
    pub unfolded: Unfolded,
    /// The same of the forward map. What is [left](Unfolded::left) of it folds.
    pub forward_unfolded: Unfolded,
    /// What the momentum of the last level was multiplied by where smoothing was not enough: the energies of that level
    /// are of the momentum before. 1 where nothing had to be done.
    pub shrunk: f64,
    /// How much of the fixed image, or of its mask, the moving image shows at the end: Σ mask ω / Σ mask, with ω of
    /// [`Warp::seen`](crate::ops::warp::Warp::seen). What is not shown does not count for the loss.
    pub overlap: f64,
    /// Evaluations that a term refused, such as for [`Settings::min_jacobian`](super::Settings::min_jacobian), all
    /// levels.
    pub refused: usize,
    /// How far Φ∘Φ⁻¹, the non-linear parts, is from the identity: physical units.
    pub inverse_consistency: Consistency,
    /// max_t |H(t)/H(0) − 1| over the time steps; 0 for the identity.
    pub energy_drift: f64,
    /// Time steps of the final map.
    pub steps: usize,
    /// Evaluations of energy and gradient in all.
    pub evaluations: usize,
    /// Whether an observer or the [time limit](super::Settings::time_limit) stopped it before its last level was done:
    /// see [`Report::timed_out`].
    pub stopped: bool,
    /// Wall time.
    pub seconds: f64,
}

/// A registration's result.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(bound(
        serialize = "T: crate::scalar::Real + serde::Serialize",
        deserialize = "T: crate::scalar::Real + serde::Deserialize<'de>"
    ))
)]
#[non_exhaustive]
pub struct Registered<T, const D: usize> {
    /// The whole inverse map A∘Φ⁻¹ = id + u, as u on the fixed image's grid: read the moving image at
    /// x + u(x).
    pub inverse_map: Displacement<T, D>,
    /// The whole forward map Φ∘A⁻¹ = id + U, as U on the same grid: where a point of the moving image goes.
    /// Points that A⁻¹ carries out of the grid see the mirrored Φ.
    pub forward_map: Displacement<T, D>,
    /// A, the initial map: the identity unless
    /// [`Registration::with_initial`](super::Registration::with_initial) gave another.
    pub affine: Affine<D>,
    /// The non-linear part of the inverse map, Φ⁻¹, on the same grid. The same as `inverse_map` without an initial
    /// map.
    pub deformation: Displacement<T, D>,
    /// The non-linear part of the forward map, Φ, on the same grid: for points of the moving image outside
    /// this grid, take A⁻¹ of them first and then this map.
    pub forward_deformation: Displacement<T, D>,
    /// The moving image, original grey values, on the fixed image's grid; [`Settings::fill`](super::Settings::fill)
    /// beyond it.
    pub warped: Image<T, D>,
    /// Initial momentum m₀ on the map grid.
    pub momentum: Momentum<T, D>,
    /// Local standard deviation of the regulariser at t = 0, on the fixed image's grid; none where the metric is no sum
    /// of Gaussians.
    pub sigma_start: Option<Image<T, D>>,
    /// The same at t = 1, advected with the anatomy.
    pub sigma_end: Option<Image<T, D>>,
    /// The weights of the Gaussians at t = 0, on the map grid: see
    /// [`Shooting::weights`](crate::model::Shooting::weights).
    pub weights_start: Option<Weights<T, D>>,
    /// The same at t = 1.
    pub weights_end: Option<Weights<T, D>>,
    /// Figures.
    pub report: Report,
}

impl Report {
    /// Why the registration was stopped before its last level was done: [`Stop::Observer`] or [`Stop::TimeLimit`];
    /// `None` where it was not.
    #[must_use]
    pub fn stop(&self) -> Option<&Stop> {
        self.levels.last().map(|level| &level.stop).filter(|_| self.stopped)
    }

    /// Whether the time was up before the last level was done.
    #[must_use]
    pub fn timed_out(&self) -> bool {
        self.stop() == Some(&Stop::TimeLimit)
    }
}

/// A result, and beside it the controls of the model that it was found with.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(bound(
        serialize = "T: crate::scalar::Real + serde::Serialize, W: serde::Serialize",
        deserialize = "T: crate::scalar::Real + serde::Deserialize<'de>, W: serde::Deserialize<'de>"
    ))
)]
#[non_exhaustive]
pub struct WithControls<T, const D: usize, W> {
    /// The result.
    pub result: Registered<T, D>,
    /// The initial momentum and the controls of the weights, on the map grid: where
    /// [`Registration::run_from`](super::Registration::run_from) can begin.
    pub controls: Controls<T, D, W>,
}
