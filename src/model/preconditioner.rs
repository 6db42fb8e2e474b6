//! Approximate inverses of a metric, for optimisers.

use super::BoxedInverse;
use crate::error::Result;
use crate::field::{Field, Momentum, kind::Kind};
use crate::kernel::{GaussianBank, Kernel, Workspace};
use crate::optim::InitialInverseHessian;
use crate::scalar::Real;

/// An approximate inverse of a metric: symmetric, positive definite, up to a factor.
///
/// A closure from ε to an operator is one.
pub trait Preconditioner<T: Real, const D: usize>: Send + Sync {
    /// (K̄ + ε)⁻¹ or the like, with ε relative to the largest multiplier of K̄.
    ///
    /// # Errors
    /// Those of making the operator.
    fn inverse(&self, epsilon: f64) -> Result<BoxedInverse<T, Momentum<T, D>>>;
}

impl<T: Real, const D: usize, F> Preconditioner<T, D> for F
where
    F: Fn(f64) -> Result<BoxedInverse<T, Momentum<T, D>>> + Send + Sync,
{
    fn inverse(&self, epsilon: f64) -> Result<BoxedInverse<T, Momentum<T, D>>> {
        self(epsilon)
    }
}

/// (K̄ + ε)⁻¹ with the kernel K̄ of a sum of Gaussians with the mean weights.
pub(super) struct OfBank<T, const D: usize> {
    pub(super) bank: GaussianBank<T, D>,
    /// Squares of the weights.
    pub(super) mean_weights: Vec<f64>,
}

impl<T: Real, const D: usize> Preconditioner<T, D> for OfBank<T, D> {
    fn inverse(&self, epsilon: f64) -> Result<BoxedInverse<T, Momentum<T, D>>> {
        let inverse = self.bank.regularised_inverse(&self.mean_weights, epsilon)?;
        Ok(Box::new(Smoothing::new(inverse)))
    }
}

/// A kernel as the shape of an initial inverse Hessian: the direction is the gradient, smoothed.
#[derive(Clone, Debug)]
pub struct Smoothing<T, K> {
    kernel: K,
    ws: Workspace<T>,
}

impl<T: Real, K: Kernel<T>> Smoothing<T, K> {
    /// By this kernel, which must be positive definite.
    #[must_use]
    pub fn new(kernel: K) -> Self {
        Self { kernel, ws: Workspace::new() }
    }
}

impl<T: Real, K: Kernel<T>, F: Kind, const D: usize> InitialInverseHessian<T, Field<T, D, F>>
    for Smoothing<T, K>
{
    fn apply(&mut self, gradient: &Field<T, D, F>, direction: &mut Field<T, D, F>) {
        self.kernel.apply(gradient.data(), direction.data_mut(), &mut self.ws);
    }
}
