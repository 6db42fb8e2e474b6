//! Names for what a model's optimiser moves.

use crate::model::{Controls, Model, Shooting};

/// The controls of the weights of a model.
pub type WeightsOf<M, T, const D: usize> =
    <<M as Model<T, D>>::Shooting as Shooting<T, D>>::Weights;

/// The controls of a model: initial momentum and controls of the weights.
pub type ControlsOf<M, T, const D: usize> = Controls<T, D, WeightsOf<M, T, D>>;
