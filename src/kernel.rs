//! Symmetric positive smoothing operators: Gaussians, their sums, and windowed kernels.

pub mod gaussian;
pub mod spectral;
mod transform;
pub mod window;

pub use gaussian::{Gaussian, GaussianBank};
pub use spectral::Spectral;
pub use window::Windowed;

use crate::scalar::Real;

/// A linear operator K on scalar fields over a grid that is symmetric and positive semi-definite as a
/// matrix, at the boundary too.
///
/// Symmetry is what conserves the Hamiltonian and what lets adjoints use K for Kᵀ; positivity makes
/// ½⟨m, K m⟩ a squared norm. [`check_symmetric`](crate::testing::check_symmetric) and
/// [`check_positive`](crate::testing::check_positive) test both.
pub trait Kernel<T: Real>: Send + Sync {
    /// `out ← K input`, component by component; both hold whole components of the kernel's grid.
    /// The result does not depend on what `ws` held before.
    fn apply(&self, input: &[T], out: &mut [T], ws: &mut Workspace<T>);
}

/// The identity: no smoothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Identity;

impl<T: Real> Kernel<T> for Identity {
    fn apply(&self, input: &[T], out: &mut [T], _ws: &mut Workspace<T>) {
        out.copy_from_slice(input);
    }
}

/// Buffers that kernels share. They grow to what the largest kernel needs and are then reused.
#[derive(Clone, Debug, Default)]
pub struct Workspace<T> {
    pub(crate) slots: Vec<transform::Slot<T>>,
    pub(crate) fields: [Vec<T>; 2],
    pub(crate) window: Vec<T>,
}

impl<T: Real> Workspace<T> {
    /// Empty buffers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}
