//! Symmetric positive smoothing operators: Gaussians, their sums and powers, functions of the frequency, windowed kernels.
//!
//! | to smooth by | take |
//! | --- | --- |
//! | a Gaussian, isotropic or with a covariance | [`Gaussian`] |
//! | several Gaussians, a weighted sum of them, a power of that sum | [`GaussianBank`] |
//! | any function of the frequency, such as (1 − α Δ)⁻ˢ | [`Spectral::from_symbol`] |
//! | one of these, and nothing at the border | [`Windowed`] |
//! | something else | your own [`Kernel`]: one method |
//!
//! # How a Gaussian is applied
//!
//! Along each axis a Gaussian is a symmetric matrix, and the operator is their product. When a Gaussian is made, the time of
//! four ways to apply that matrix is counted, for its σ, the length of the axis and the boundary, and the cheapest is kept:
//!
//! 1. a *band*: entries beyond some 5 σ are below the tolerance, and left out. Taken where σ is short beside the axis.
//! 2. its *modes*: cosines and sines of high frequency have multipliers below the tolerance; lanes go to the coefficients
//!    of the others and back. Taken where σ is long beside the axis.
//! 3. *halves*: the whole matrix, which acts on the even and the odd part of a lane apart. Taken where the axis is short.
//! 4. a *Fourier filter*, which leaves nothing out. Taken where the others cost more, on axes of more than 1024 voxels, and
//!    for a tolerance of zero ([`Gaussian::with_tolerance`]).
//!
//! A weighted sum is not a product over the axes: it is applied in the modes that matter in any of its Gaussians, with one
//! table of multipliers, or Gaussian by Gaussian, or by Fourier transforms of all axes, which are also what correlated
//! axes and powers take. `docs/src/design.md` has the reasons, `src/kernel/apply/plan.rs` the choice.

mod apply;
pub mod bank;
pub mod covariance;
pub mod gaussian;
pub(crate) mod slabs;
pub mod spectral;
mod terms;
mod traits;
pub mod window;
mod workspace;

pub use bank::GaussianBank;
pub use covariance::Covariance;
pub use gaussian::Gaussian;
pub use spectral::Spectral;
pub use traits::{Identity, Kernel};
pub(crate) use traits::{expect_boundary, expect_on};
pub use window::{Windowed, border_window};
pub use workspace::Workspace;
