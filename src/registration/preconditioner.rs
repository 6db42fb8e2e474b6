//! The metric as the optimiser's initial inverse Hessian.

use crate::error::Result;
use crate::field::Momentum;
use crate::model::{BoxedInverse, Controls, Shooting};
use crate::optim::InitialInverseHessian;
use crate::scalar::Real;
use crate::space::StateSpace;

/// H̃₀ = (c (K̄ + ε))⁻¹ on the momentum, with the kernel K̄ of the mean weights and c the factor of the
/// regulariser, and a multiple of the shooting's
/// [`inverse_weights_metric`](Shooting::inverse_weights_metric) on the controls of the weights.
///
/// The regulariser's Hessian is c K, so this is L-BFGS in the metric of the model: it needs three to four
/// times fewer evaluations than the Euclidean one. ε bounds what the inverse makes of frequencies that K
/// suppresses.
pub struct InverseMetric<T, const D: usize, W> {
    momentum: BoxedInverse<T, Momentum<T, D>>,
    weights: BoxedInverse<T, W>,
    momentum_scale: f64,
    weights_scale: f64,
}

/// Curvature of the objective in a smooth logit, as a fraction of a voxel's share of the volume: the logits
/// of a whole image change the energy by about this much. Between the curvature of the default penalties,
/// about 1e-3, and that of the energy at the start of a level, about 1e-2.
const LOGIT_CURVATURE: f64 = 0.005;

impl<T: Real, const D: usize, W: StateSpace<T>> InverseMetric<T, D, W> {
    /// The inverse metric of a shooting whose regulariser counts with `energy_scale`.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) unless ε is positive.
    pub fn new<S>(shooting: &S, energy_scale: f64, epsilon: f64) -> Result<Self>
    where
        S: Shooting<T, D, Weights = W>,
    {
        let grid = shooting.grid();
        Ok(Self {
            momentum: shooting.inverse_metric(epsilon)?,
            weights: shooting.inverse_weights_metric(),
            momentum_scale: 1.0 / (energy_scale * grid.cell_volume()),
            weights_scale: grid.len() as f64 / LOGIT_CURVATURE,
        })
    }
}

impl<T: Real, const D: usize, W: StateSpace<T>> InitialInverseHessian<T, Controls<T, D, W>>
    for InverseMetric<T, D, W>
{
    fn apply(&mut self, gradient: &Controls<T, D, W>, direction: &mut Controls<T, D, W>) {
        let out: &mut Momentum<T, D> = &mut direction.momentum;
        self.momentum.apply(&gradient.momentum, out);
        out.scale(T::of(self.momentum_scale));
        self.weights.apply(&gradient.weights, &mut direction.weights);
        direction.weights.scale(T::of(self.weights_scale));
    }
}
