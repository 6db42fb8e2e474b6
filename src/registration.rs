//! From two images to a map: levels, objective, observer, result.

mod batch;
mod chain;
mod channel;
mod checkpoint;
mod intensity;
mod landmarks;
pub mod objective;
mod preconditioner;
mod run;
mod settings;

pub use chain::Chain;
pub use channel::{Channel, label_channels};
pub use checkpoint::Checkpoint;
pub use intensity::Intensities;
pub use landmarks::Landmarks;
pub use objective::{Diagnostics, PairObjective, Terms};
pub use preconditioner::InverseMetric;
pub use run::{LevelReport, Progress, Registered, Registration, Report};
pub use settings::{Level, Search, Settings};

use crate::model::{Model, Shooting};

/// The controls of the weights of a model.
type WeightsOf<M, T, const D: usize> = <<M as Model<T, D>>::Shooting as Shooting<T, D>>::Weights;
