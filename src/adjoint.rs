//! Forward and backward sweeps over time.

pub mod checkpoint;
mod continuous;
mod integration;
pub mod sweep;

pub use checkpoint::Checkpoints;
pub use integration::{GradientKind, Integration};
pub use sweep::Sweep;
