//! What goes into a trajectory, what comes out of it, and the derivatives of both.

use crate::field::{Displacement, Momentum, Weights};

/// What a flow reached at a time.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Shot<T, const D: usize> {
    /// t, from 0 to 1.
    pub time: f64,
    /// u of the inverse map Φ⁻¹(t) = id + u, physical units: images are read there.
    pub inverse_map: Displacement<T, D>,
    /// U of the forward map Φ(t) = id + U; none unless
    /// [`Shoot::with_forward_map`](super::Shoot::with_forward_map) asked for it.
    pub forward_map: Option<Displacement<T, D>>,
    /// ½ ∫ m₀·K(w₀) m₀ / (V L²), with the volume V and the longest extent L of the grid: no unit, as in the energy of a
    /// registration. It is that of the start at every time.
    pub energy: f64,
    /// Weights w_i(t) of the Gaussians, after G; none where the metric is no sum of Gaussians.
    pub weights: Option<Weights<T, D>>,
}

/// Partial derivatives of a loss with respect to a [`Shot`]: the Euclidean ones, without cell volumes. Those that are left
/// out are zero.
#[derive(Clone, Debug)]
pub struct Cotangents<T, const D: usize> {
    /// With respect to the inverse map.
    pub inverse_map: Option<Displacement<T, D>>,
    /// With respect to the forward map.
    pub forward_map: Option<Displacement<T, D>>,
    /// With respect to the energy.
    pub energy: f64,
    /// With respect to the weights.
    pub weights: Option<Weights<T, D>>,
}

impl<T, const D: usize> Default for Cotangents<T, D> {
    fn default() -> Self {
        Self { inverse_map: None, forward_map: None, energy: 0.0, weights: None }
    }
}

/// Partial derivatives of a loss with respect to initial conditions.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Gradient<T, const D: usize> {
    /// With respect to the initial momentum m₀.
    pub momentum: Momentum<T, D>,
    /// With respect to the initial pre-weights h₀; none for a flow without.
    pub pre_weights: Option<Weights<T, D>>,
}

/// Initial conditions: momentum, and pre-weights for a flow that has them.
pub type Initial<'a, T, const D: usize> = (&'a Momentum<T, D>, Option<&'a Weights<T, D>>);
