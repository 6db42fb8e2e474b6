//! Symmetric positive smoothing operators: Gaussians, their sums, and windowed kernels.

mod apply;
pub mod bank;
pub mod covariance;
pub mod gaussian;
pub(crate) mod slabs;
pub mod spectral;
mod terms;
mod traits;
pub mod window;
pub(crate) mod workspace;

pub use bank::GaussianBank;
pub use covariance::Covariance;
pub use gaussian::Gaussian;
pub use spectral::Spectral;
pub use traits::{Identity, Kernel};
pub(crate) use traits::{expect_boundary, expect_on};
pub use window::Windowed;
pub use workspace::Workspace;
