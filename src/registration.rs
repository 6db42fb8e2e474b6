//! From two images to a map: levels, objective, observer, result.

mod chain;
mod channel;
mod intensity;
mod landmarks;
pub mod objective;
mod preconditioner;
mod run;
mod settings;

pub use chain::Chain;
pub use channel::{Channel, label_channels};
pub use intensity::Intensities;
pub use landmarks::Landmarks;
pub use objective::{Diagnostics, PairObjective, Terms};
pub use preconditioner::InverseMetric;
pub use run::{LevelReport, Progress, Registered, Registration, Report};
pub use settings::{Level, Search, Settings};
