//! Forward and backward sweeps over time.

pub mod checkpoint;
mod continuous;
pub mod sweep;

pub use checkpoint::Checkpoints;
pub use sweep::{GradientKind, Integration, Sweep};
