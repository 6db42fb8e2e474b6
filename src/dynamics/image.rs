//! RDMM by image and adjoint: the first theorem of the paper.

use super::{Evolution, Flow, StageMap, transport};
use crate::error::{Error, Result};
use crate::field::{Image, Momentum, Velocity, Weights};
use crate::grid::Grid;
use crate::metric::{self, Inputs, Metric};
use crate::ops::difference::{Difference, Order};
use crate::par;
use crate::scalar::Real;
use crate::space::StateSpace;

/// An image and pre-weights, each with its adjoint. The adjoints are densities.
#[derive(Clone, Debug)]
pub struct ImageAdjoint<T, const D: usize> {
    /// I, advected: I(t) = I₀∘Φ⁻¹.
    pub image: Image<T, D>,
    /// λ, a density.
    pub image_adjoint: Image<T, D>,
    /// h, advected.
    pub weights: Weights<T, D>,
    /// γ, densities, one for each of the pre-weights.
    pub weights_adjoint: Weights<T, D>,
}

crate::product_space!(
    @linear [T: Real, const D: usize] ImageAdjoint<T, D>
    { image, image_adjoint, weights, weights_adjoint } T
);

/// ∂t I + ∇I·v = 0, ∂t λ + div(λ v) = 0, ∂t h_i + ∇h_i·v = 0, ∂t γ_i + div(γ_i v) = G ⋆ (m·ν_i), with
/// v = K(h) m and m = λ ∇I + Σ_i γ_i ∇h_i.
///
#[doc = include_str!("../../docs/math/imageform.html")]
///
#[doc = include_str!("../../docs/math/imagemomentum.html")]
///
/// The same geodesics as [`Epdiff`](super::Epdiff) with the same metric, started from that m; the momenta of
/// registration are of this form, along the gradients of what is advected. The equations are the canonical
/// ones of H = ½⟨m, K(h) m⟩ with (I, λ) and (h, γ) as pairs, and ∂ and ∂ᵀ stand where H has them: the
/// discrete H is constant in continuous time, at every boundary.
///
/// `M` is a metric with weights, such as [`Mixture`](crate::metric::Mixture). Scalars are advected instead of
/// covectors: D + 2(1 + N) differences a voxel more than N for the momentum form, and none of its D² for m.
/// The momentum form is what models shoot with; it needs no image and has a transpose.
///
/// # References
/// Shen, Vialard, Niethammer 2019, arXiv:1906.00139, Theorem 1.
///
/// ```
/// use rdmm_core::dynamics::image::{ImageAdjoint, ImageGeodesic};
/// use rdmm_core::field::{Image, Weights};
/// use rdmm_core::grid::Grid;
/// use rdmm_core::kernel::{Gaussian, GaussianBank};
/// use rdmm_core::metric::Mixture;
/// use rdmm_core::ops::difference::Order;
///
/// let grid = Grid::<2>::unit([16, 16])?;
/// let kernels = GaussianBank::<f64, 2>::new(&grid, &[0.1, 0.2])?.into_gaussians();
/// let metric = Mixture::new(&grid, kernels, Gaussian::for_weights(&grid, 0.1)?, Order::Fourth)?;
/// let evolution = ImageGeodesic::new(&grid, metric, Order::Fourth);
/// let body = ImageAdjoint {
///     image: Image::from_fn(&grid, |x| (3.0 * x[0]).sin())?,
///     image_adjoint: Image::from_fn(&grid, |x| 0.1 * x[1])?,
///     weights: Weights::from_fn(&grid, 2, |_, _| 0.5_f64.sqrt())?,
///     weights_adjoint: Weights::zeros_with(&grid, 2)?,
/// };
/// assert!(evolution.hamiltonian(&body)? > 0.0);
/// # Ok::<(), rdmm_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ImageGeodesic<M, T, const D: usize> {
    metric: M,
    difference: Difference<T, D>,
    grid: Grid<D>,
}

impl<T: Real, const D: usize, M: Metric<T, D, Weights = Weights<T, D>>> ImageGeodesic<M, T, D> {
    /// The geodesics of `metric`, with differences of the given order.
    #[must_use]
    pub fn new(grid: &Grid<D>, metric: M, order: Order) -> Self {
        Self { metric, difference: Difference::new(grid, order), grid: grid.clone() }
    }

    /// m = λ ∇I + Σ_i γ_i ∇h_i, what [`Epdiff`](super::Epdiff) starts from.
    ///
    /// # Errors
    /// [`Error::GridMismatch`] or [`Error::Length`] for fields that do not fit; [`Error::OutOfMemory`].
    pub fn momentum(&self, body: &ImageAdjoint<T, D>) -> Result<Momentum<T, D>> {
        let ImageAdjoint { image, image_adjoint, weights, weights_adjoint } = body;
        self.grid.expect_same(image.grid(), "image")?;
        self.grid.expect_same(image_adjoint.grid(), "adjoint of the image")?;
        self.grid.expect_same(weights.grid(), "pre-weights")?;
        self.metric.expect_weights(&self.grid, weights)?;
        self.grid.expect_same(weights_adjoint.grid(), "adjoints of the pre-weights")?;
        let (expected, found) = (weights.components(), weights_adjoint.components());
        if expected != found {
            return Err(Error::Length { what: "adjoints of the pre-weights", expected, found });
        }
        let mut momentum = Momentum::zeros(&self.grid)?;
        self.put_momentum(body, &mut momentum);
        Ok(momentum)
    }

    /// H = ½ ∫ m·K(h) m, conserved by the flow.
    ///
    /// # Errors
    /// Those of [`ImageGeodesic::momentum`].
    pub fn hamiltonian(&self, body: &ImageAdjoint<T, D>) -> Result<f64> {
        let momentum = self.momentum(body)?;
        let mut velocity = Velocity::zeros(&self.grid)?;
        let (mut tape, mut ws) = (self.metric.tape(&self.grid)?, M::Workspace::default());
        let at = Inputs { momentum: &momentum, weights: &body.weights };
        self.metric.velocity(at, &mut velocity, &mut tape, &mut ws);
        Ok(0.5 * momentum.integral_with(&velocity)?)
    }

    fn put_momentum(&self, body: &ImageAdjoint<T, D>, momentum: &mut Momentum<T, D>) {
        let (d, one) = (&self.difference, T::one());
        par::components(momentum.data_mut(), self.grid.len(), |a, lo, chunk| {
            chunk.fill(T::zero());
            d.add_scaled(a, one, body.image_adjoint.data(), body.image.data(), lo, chunk);
            for i in 0..body.weights.components() {
                let (gamma, h) = (body.weights_adjoint.component(i), body.weights.component(i));
                d.add_scaled(a, one, gamma, h, lo, chunk);
            }
        });
    }

    /// ∂t f = −∇f·v, component by component.
    fn advect(&self, v: &Velocity<T, D>, f: &[T], rate: &mut [T]) {
        let n = self.grid.len();
        par::components(rate, n, |i, lo, chunk| {
            chunk.fill(T::zero());
            for j in 0..D {
                let f = &f[i * n..(i + 1) * n];
                self.difference.add_scaled(j, -T::one(), v.component(j), f, lo, chunk);
            }
        });
    }

    /// ∂t ρ = −div(ρ v), component by component: the negative transpose of [`ImageGeodesic::advect`].
    fn advect_density(&self, v: &Velocity<T, D>, density: &[T], rate: &mut [T]) {
        let n = self.grid.len();
        par::components(rate, n, |i, lo, chunk| {
            chunk.fill(T::zero());
            for j in 0..D {
                let density = &density[i * n..(i + 1) * n];
                self.difference.add_transposed(j, T::one(), v.component(j), density, lo, chunk);
            }
        });
    }

    /// Whether all fields are of this grid and of the same number of pre-weights.
    fn fits(&self, states: [&State<T, D>; 2]) -> bool {
        let (n, scales) = (self.grid.len(), states[0].body.weights.components());
        states.into_iter().all(|Flow { body, map }| {
            let images = [&body.image, &body.image_adjoint];
            let weights = [&body.weights, &body.weights_adjoint];
            images.into_iter().all(|image| image.data().len() == n)
                && weights.into_iter().all(|w| w.data().len() == scales * n)
                && map.data().len() == D * n
        })
    }
}

type State<T, const D: usize> = Flow<T, D, ImageAdjoint<T, D>>;

/// What a velocity leaves: itself, its momentum, and what the metric leaves.
#[derive(Clone, Debug)]
pub struct Tape<T, const D: usize, P> {
    metric: P,
    momentum: Momentum<T, D>,
    velocity: Velocity<T, D>,
}

impl<T: Real, const D: usize, P: metric::Tape> metric::Tape for Tape<T, D, P> {
    fn len(&self) -> usize {
        self.metric.len() + self.momentum.data().len() + self.velocity.data().len()
    }
}

impl<T: Real, const D: usize, M: Metric<T, D, Weights = Weights<T, D>>> Evolution
    for ImageGeodesic<M, T, D>
{
    type Scalar = T;
    type State = State<T, D>;
    type Velocity = Velocity<T, D>;
    type Tape = Tape<T, D, M::Tape>;
    type Workspace = M::Workspace;

    fn workspace(&self) -> Result<Self::Workspace> {
        Ok(M::Workspace::default())
    }

    fn tape(&self) -> Result<Self::Tape> {
        Ok(Tape {
            metric: self.metric.tape(&self.grid)?,
            momentum: Momentum::zeros(&self.grid)?,
            velocity: Velocity::zeros(&self.grid)?,
        })
    }

    fn expect_state(&self, state: &Self::State) -> Result<()> {
        self.grid.expect_same(state.map.grid(), "map of the state")
    }

    fn velocity(&self, state: &Self::State, tape: &mut Self::Tape, ws: &mut Self::Workspace) {
        let Tape { metric, momentum, velocity } = tape;
        if !self.fits([state, state]) {
            return velocity.scale(T::nan());
        }
        self.put_momentum(&state.body, momentum);
        let at = Inputs { momentum, weights: &state.body.weights };
        self.metric.velocity(at, velocity, metric, ws);
    }

    fn velocity_field<'a>(
        &'a self,
        _state: &'a Self::State,
        tape: &'a Self::Tape,
    ) -> &'a Velocity<T, D> {
        &tape.velocity
    }

    fn rate(
        &self,
        state: &Self::State,
        map: StageMap,
        rate: &mut Self::State,
        tape: &Self::Tape,
        ws: &mut Self::Workspace,
    ) {
        if !self.fits([state, rate]) {
            return rate.scale(T::nan());
        }
        let (body, v) = (&state.body, &tape.velocity);
        self.advect(v, body.image.data(), rate.body.image.data_mut());
        self.advect_density(v, body.image_adjoint.data(), rate.body.image_adjoint.data_mut());
        self.advect(v, body.weights.data(), rate.body.weights.data_mut());
        let gamma_rate = &mut rate.body.weights_adjoint;
        self.advect_density(v, body.weights_adjoint.data(), gamma_rate.data_mut());
        // + G ⋆ (m·ν_i), the derivative of H with respect to h_i where K depends on it.
        let at = Inputs { momentum: &tape.momentum, weights: &body.weights };
        self.metric.energy_gradient(at, T::one(), gamma_rate, &tape.metric, ws);
        transport::rate(&self.difference, v, state.map_at(map), &mut rate.map);
    }
}
