//! Models: what a user controls, how it starts the evolution, and what it costs.
//!
//! A [`Model`] is a recipe in physical units. [`Model::discretise`] makes it a [`Shooting`] on one grid, so that
//! one recipe serves every level of a pyramid.

pub mod geodesic;
mod geodesics;
mod lddmm;
mod multi_gaussian;
mod preconditioner;
mod rdmm;
mod rdmm_optimised;
mod region_metric;
pub mod regions;
pub mod scale;
pub mod two_sided;
pub mod vsvf;
pub mod weights;

pub use geodesic::{AsWeights, GeodesicShooting, LocalScale};
pub use geodesics::Geodesics;
pub use lddmm::Lddmm;
pub use multi_gaussian::MultiGaussian;
pub use preconditioner::{Preconditioner, Smoothing};
pub use rdmm::Rdmm;
pub use rdmm_optimised::RdmmOptimised;
pub use region_metric::RdmmControlled;
pub use regions::{Advected, weights_by_label, weights_by_mask, weights_for_sigma};
pub use scale::GaussianSpec;
pub use two_sided::TwoSided;
pub use vsvf::Vsvf;
pub use weights::{Given, PreWeights, Softmax, Uniform, WeightControl};

use std::sync::Arc;

use crate::dynamics::FieldEvolution;
use crate::error::Result;
use crate::field::{Displacement, Image, Momentum, Weights};
use crate::grid::Grid;
use crate::kernel::window::border_window;
use crate::kernel::{Kernel, Windowed};
use crate::ops::resample::Resample;
use crate::optim::{Euclidean, InitialInverseHessian};
use crate::scalar::Real;
use crate::space::{Componentwise, StateSpace};
use crate::world::Affine;

/// What an optimiser moves: the initial momentum, and the controls of the weights where there are any.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(bound(
        serialize = "T: Real + serde::Serialize, W: serde::Serialize",
        deserialize = "T: Real + serde::Deserialize<'de>, W: serde::Deserialize<'de>"
    ))
)]
pub struct Controls<T, const D: usize, W> {
    /// Initial momentum m₀, a covector density.
    pub momentum: Momentum<T, D>,
    /// Controls of the weights; `()` where they are given.
    pub weights: W,
}

crate::product_space!(
    @linear [T: Real, const D: usize, W: StateSpace<T>] Controls<T, D, W> { momentum, weights } T
);
crate::product_space!(
    @componentwise [T: Real, const D: usize, W: Componentwise<T>] Controls<T, D, W>
    { momentum, weights } T
);

/// Where a recipe is discretised: the grid of momentum and map, how the moving image is read there, and for which level
/// of a registration.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Domain<const D: usize> {
    /// The grid of momentum and map.
    pub grid: Grid<D>,
    /// The affine map A through which the moving image is read: what a recipe holds in the moving image's world, such as
    /// regions, belongs at x as it is given at A(x). The identity by default.
    pub initial: Affine<D>,
    /// The level of a registration, 0 for the coarsest; none outside of one.
    pub level: Option<usize>,
}

impl<const D: usize> Domain<D> {
    /// A grid, without an affine map and outside of a registration.
    #[must_use]
    pub fn new(grid: &Grid<D>) -> Self {
        Self { grid: grid.clone(), initial: Affine::identity(), level: None }
    }

    /// The same with an affine map.
    #[must_use]
    pub fn with_initial(mut self, initial: &Affine<D>) -> Self {
        self.initial = *initial;
        self
    }

    /// The same on a level.
    #[must_use]
    pub fn with_level(mut self, level: usize) -> Self {
        self.level = Some(level);
        self
    }
}

/// A recipe for a [`Shooting`] on any grid, in physical units.
pub trait Model<T: Real, const D: usize> {
    /// The recipe on one grid.
    type Shooting: Shooting<T, D>;

    /// The name that reports use.
    fn name(&self) -> &'static str;

    /// The smallest length over which velocities or weights vary, physical units: map grids are kept fine enough for it.
    fn smallest_sigma(&self) -> f64;

    /// The recipe on a grid.
    ///
    /// # Errors
    /// Where the grid cannot carry it, such as [`Error::Sigma`](crate::Error::Sigma).
    fn discretise(&self, domain: &Domain<D>) -> Result<Self::Shooting>;

    /// The recipe for the source image after it was read at x + u(x): what is given on the source image
    /// is advected, the rest stays. Used where one geodesic follows another.
    ///
    /// # Errors
    /// Those of reading what is given, such as [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    fn advected_by(&self, map: &Displacement<T, D>) -> Result<Self>
    where
        Self: Sized;

    /// [`Model::discretise`] on a grid, without an affine map and outside of a registration.
    ///
    /// # Errors
    /// Those of [`Model::discretise`].
    fn on(&self, grid: &Grid<D>) -> Result<Self::Shooting> {
        self.discretise(&Domain::new(grid))
    }
}

/// Controls ⇄ initial state, and the energy of the controls, on one grid.
///
/// Everything that is not dynamics lives here: softmax, normalisation, smoothing of the initial weights. Eight methods
/// are required.
///
/// Controls and states of another grid, which [`Shooting::identity`] and [`Shooting::initial_state`] do not
/// give, make results NaN where a method cannot fail; [`Sweep::forward`](crate::adjoint::Sweep::forward)
/// and [`PairObjective`](crate::registration::PairObjective) refuse them.
pub trait Shooting<T: Real, const D: usize>: Send {
    /// Controls of the weights.
    type Weights: Componentwise<T>;
    /// What the initial state evolves by.
    type Evolution: FieldEvolution<T, D>;

    /// The grid of momentum and map.
    fn grid(&self) -> &Grid<D>;

    /// The evolution, shared.
    fn evolution(&self) -> Arc<Self::Evolution>;

    /// The controls of the identity.
    fn identity(&self) -> Controls<T, D, Self::Weights>;

    /// What the controls start from, with the identity map.
    fn initial_state(&mut self, controls: &Controls<T, D, Self::Weights>) -> State<T, D, Self>;

    /// Transpose of [`Shooting::initial_state`]: adds to `controls_bar`.
    fn initial_state_vjp(
        &mut self,
        controls: &Controls<T, D, Self::Weights>,
        state_bar: &State<T, D, Self>,
        controls_bar: &mut Controls<T, D, Self::Weights>,
    );

    /// `scale` · ½ ∫ m₀·K(w₀) m₀, and its gradient added to `gradient`.
    fn add_energy(
        &mut self,
        controls: &Controls<T, D, Self::Weights>,
        scale: f64,
        gradient: &mut Controls<T, D, Self::Weights>,
    ) -> f64;

    /// The Hamiltonian ½ ∫ m·v of a state, or what else the flow conserves.
    ///
    /// # Errors
    /// [`Error::GridMismatch`](crate::Error::GridMismatch) or [`Error::Length`](crate::Error::Length) for a state of
    /// another grid or another number of weights;
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    fn hamiltonian(&mut self, state: &State<T, D, Self>) -> Result<f64>;

    /// Controls of a coarser or finer grid over the same box, interpolated on this one.
    ///
    /// # Errors
    /// [`Error::GridMismatch`](crate::Error::GridMismatch) for another box;
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    fn prolong(
        &self,
        controls: &Controls<T, D, Self::Weights>,
    ) -> Result<Controls<T, D, Self::Weights>>;

    /// [`Shooting::initial_state`] in the place of another state of the same shape, without an allocation where that
    /// can be. The default allocates.
    fn set_initial_state(
        &mut self,
        controls: &Controls<T, D, Self::Weights>,
        state: &mut State<T, D, Self>,
    ) {
        *state = self.initial_state(controls);
    }

    /// The penalties of the weights, each with its λ, and their gradient added to `gradient`; 0 for a
    /// model without.
    fn add_penalty(
        &mut self,
        _controls: &Controls<T, D, Self::Weights>,
        _gradient: &mut Controls<T, D, Self::Weights>,
    ) -> f64 {
        0.0
    }

    /// The Hamiltonian of the start of controls whose energy, of [`Shooting::add_energy`] with scale one, is
    /// `energy`: for a geodesic it is that.
    ///
    /// # Errors
    /// Those of [`Shooting::hamiltonian`].
    fn initial_hamiltonian(&mut self, energy: f64, _start: &State<T, D, Self>) -> Result<f64> {
        Ok(energy)
    }

    /// What turns a gradient in the momentum into a direction of descent, up to a factor, such as (K̄ + ε)⁻¹ with the
    /// kernel K̄ of the mean weights and ε relative to its largest multiplier. The identity by default, with which
    /// optimisation takes more iterations.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) unless ε is positive.
    fn inverse_metric(&self, epsilon: f64) -> Result<BoxedInverse<T, Momentum<T, D>>> {
        let _ = crate::error::positive("epsilon of the inverse metric", epsilon)?;
        Ok(Box::new(Euclidean))
    }

    /// What turns a gradient in the controls of the weights into a direction of descent, up to a factor: a
    /// symmetric positive definite operator. The identity by default.
    fn inverse_weights_metric(&self) -> BoxedInverse<T, Self::Weights> {
        Box::new(Euclidean)
    }

    /// The weights w_i of the Gaussians in a state, after G: one component a Gaussian, whose squares sum to
    /// one (up to what G does where weights vary fast). None where the metric is no sum of Gaussians, as by default.
    ///
    /// # Errors
    /// [`Error::GridMismatch`](crate::Error::GridMismatch) or [`Error::Length`](crate::Error::Length) for
    /// a state of another grid or another number of weights;
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    fn weights(&self, _state: &State<T, D, Self>) -> Result<Option<Weights<T, D>>> {
        Ok(None)
    }

    /// Transpose of [`Shooting::weights`]: adds to `state_bar`. Nothing where the weights do not depend on the state, as by
    /// default.
    ///
    /// # Errors
    /// Those of [`Shooting::weights`].
    fn weights_vjp(
        &self,
        _weights_bar: &Weights<T, D>,
        _state_bar: &mut State<T, D, Self>,
    ) -> Result<()> {
        Ok(())
    }

    /// Local standard deviation √(Σ w_i² σ_i²) of the regulariser in a state, physical units; none where the metric is no
    /// sum of Gaussians, as by default.
    ///
    /// # Errors
    /// Those of [`Shooting::weights`].
    fn local_sigma(&self, _state: &State<T, D, Self>) -> Result<Option<Image<T, D>>> {
        Ok(None)
    }
}

/// An initial inverse Hessian chosen at run time.
pub type BoxedInverse<T, W> = Box<dyn InitialInverseHessian<T, W> + Send>;

/// The state of a [`Shooting`]'s evolution.
pub type State<T, const D: usize, S> =
    <<S as Shooting<T, D>>::Evolution as crate::dynamics::Evolution>::State;

/// A kernel chosen at run time.
pub type BoxedKernel<T> = Box<dyn Kernel<T>>;

/// `kernel`, or the same between two multiplications by a border window.
fn windowed<T: Real, const D: usize>(
    kernel: impl Kernel<T> + 'static,
    grid: &Grid<D>,
    border: Option<f64>,
) -> Result<BoxedKernel<T>> {
    Ok(match border {
        None => Box::new(kernel),
        Some(width) => Box::new(Windowed::new(kernel, border_window(grid, width)?)?),
    })
}

/// 1/(V L²) of a grid, with its volume V and its longest extent L: the factor of ½ ∫ m₀·v₀ in energies.
pub(crate) fn energy_scale<const D: usize>(grid: &Grid<D>) -> f64 {
    1.0 / (grid.volume() * grid.largest_extent().powi(2))
}

/// A field interpolated on another grid over the same box.
///
/// # Errors
/// [`Error::GridMismatch`](crate::Error::GridMismatch) for another box;
/// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
pub(crate) fn resampled<T: Real, const D: usize, K: crate::field::kind::Kind>(
    field: &crate::field::Field<T, D, K>,
    grid: &Grid<D>,
) -> Result<crate::field::Field<T, D, K>> {
    Resample::new(field.grid(), grid).field(field)
}
