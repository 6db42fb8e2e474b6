//! Models: what a user controls, how it starts the evolution, and what it costs.
//!
//! A [`Model`] is a recipe in physical units. [`Model::on`] makes it a [`Shooting`] on one grid, so that
//! one recipe serves every level of a pyramid.

pub mod geodesic;
mod multi_gaussian;
mod rdmm;
mod rdmm_optimised;
pub mod regions;
pub mod scale;
pub mod two_sided;
pub mod vsvf;
pub mod weights;

pub use geodesic::{GeodesicShooting, Lddmm};
pub use multi_gaussian::MultiGaussian;
pub use rdmm::Rdmm;
pub use rdmm_optimised::RdmmOptimised;
pub use regions::{Carried, shares_by_label, shares_by_mask, shares_for_sigma};
pub use scale::Scale;
pub use two_sided::TwoSided;
pub use vsvf::Vsvf;
pub use weights::{Given, Softmax, Uniform, WeightControl};

use std::sync::Arc;

use crate::dynamics::EvolutionVjp;
use crate::error::Result;
use crate::evaluate::local_standard_deviation;
use crate::field::{Displacement, Image, Momentum, Weights};
use crate::grid::Grid;
use crate::kernel::window::border_window;
use crate::kernel::{self, Kernel, Spectral, Windowed};
use crate::ops::resample::Resample;
use crate::optim::{Euclidean, InitialInverseHessian};
use crate::scalar::Real;
use crate::space::StateSpace;
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
    @impl [T: Real, const D: usize, W: StateSpace<T>] Controls<T, D, W> { momentum, weights } T
);

/// A recipe for a [`Shooting`] on any grid, in physical units.
pub trait Model<T: Real, const D: usize> {
    /// The recipe on one grid.
    type Shooting: Shooting<T, D>;

    /// The name that reports use.
    fn name(&self) -> &'static str;

    /// The smallest σ: map grids are kept fine enough for it.
    fn smallest_sigma(&self) -> f64;

    /// The recipe on `grid`.
    ///
    /// # Errors
    /// Where the grid cannot carry it, such as [`Error::Sigma`](crate::Error::Sigma).
    fn on(&self, grid: &Grid<D>) -> Result<Self::Shooting>;

    /// The recipe for the source image after it was read at x + u(x): what is given on the source image
    /// moves along, the rest stays. Used where one geodesic follows another.
    ///
    /// # Errors
    /// Those of reading what is given, such as [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    fn carried(&self, map: &Displacement<T, D>) -> Result<Self>
    where
        Self: Sized;

    /// The recipe on `grid`, where the moving image is read through an affine map A: what the recipe holds in
    /// the moving image's world, such as regions, belongs at x as it is given at A(x). Recipes that hold
    /// nothing of the kind are the same, which is what this method does unless a recipe defines it.
    ///
    /// # Errors
    /// Those of [`Model::on`].
    fn on_through(&self, grid: &Grid<D>, initial: &Affine<D>) -> Result<Self::Shooting> {
        let _ = initial;
        self.on(grid)
    }

    /// The recipe on the grid of a level of a registration, 0 for the coarsest, as by [`Model::on_through`].
    /// Recipes that change from level to level, such as by
    /// [`Scheduled`](crate::regularize::Scheduled) penalties, define it.
    ///
    /// # Errors
    /// Those of [`Model::on_through`].
    fn on_level(
        &self,
        grid: &Grid<D>,
        initial: &Affine<D>,
        level: usize,
    ) -> Result<Self::Shooting> {
        let _ = level;
        self.on_through(grid, initial)
    }
}

/// Controls ⇄ initial state, and the energy of the controls, on one grid.
///
/// Everything that is not dynamics lives here: softmax, normalisation, smoothing of the initial weights.
///
/// Controls and states of another grid, which [`Shooting::rest`] and [`Shooting::blank_state`] do not
/// give, make results NaN where a method cannot fail; [`Sweep::forward`](crate::adjoint::Sweep::forward)
/// and [`PairObjective`](crate::registration::PairObjective) refuse them.
pub trait Shooting<T: Real, const D: usize>: Send {
    /// Controls of the weights.
    type Weights: StateSpace<T>;
    /// What the initial state evolves by.
    type Evolution: EvolutionVjp<T, D>;

    /// The grid of momentum and map.
    fn grid(&self) -> &Grid<D>;

    /// The evolution, shared.
    fn evolution(&self) -> Arc<Self::Evolution>;

    /// The controls of the identity.
    fn rest(&self) -> Controls<T, D, Self::Weights>;

    /// A state of the right shape, all zero.
    fn blank_state(&self) -> State<T, D, Self>;

    /// `state` ← what the controls start from, with the identity map.
    fn start(&mut self, controls: &Controls<T, D, Self::Weights>, state: &mut State<T, D, Self>);

    /// Transpose of [`Shooting::start`]: adds to `controls_bar`.
    fn start_vjp(
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

    /// The penalties of the weights, each with its λ, and their gradient added to `gradient`; 0 for a
    /// model without.
    fn add_penalty(
        &mut self,
        _controls: &Controls<T, D, Self::Weights>,
        _gradient: &mut Controls<T, D, Self::Weights>,
    ) -> f64 {
        0.0
    }

    /// The Hamiltonian ½ ∫ m·v of a state.
    ///
    /// # Errors
    /// [`Error::GridMismatch`](crate::Error::GridMismatch) for a state of another grid;
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    fn hamiltonian(&mut self, state: &State<T, D, Self>) -> Result<f64>;

    /// The Hamiltonian of the start of controls whose energy, of [`Shooting::add_energy`] with scale one, is
    /// `energy`: for a geodesic it is that.
    ///
    /// # Errors
    /// Those of [`Shooting::hamiltonian`].
    fn initial_hamiltonian(&mut self, energy: f64, _start: &State<T, D, Self>) -> Result<f64> {
        Ok(energy)
    }

    /// Controls of a coarser or finer grid over the same box, carried to this one.
    ///
    /// # Errors
    /// [`Error::GridMismatch`](crate::Error::GridMismatch) for another box;
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    fn prolong(
        &self,
        controls: &Controls<T, D, Self::Weights>,
    ) -> Result<Controls<T, D, Self::Weights>>;

    /// (K̄ + ε)⁻¹ with the kernel K̄ of the mean weights.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) unless ε is positive.
    fn inverse_metric(&self, epsilon: f64) -> Result<Spectral<T, D>>;

    /// What turns a gradient in the controls of the weights into a direction of descent, up to a factor: a
    /// symmetric positive definite operator. The identity by default.
    fn inverse_weights_metric(&self) -> BoxedInverse<T, Self::Weights> {
        Box::new(Euclidean)
    }

    /// Standard deviations of the Gaussians, physical units. A Gaussian with a covariance Σ counts with
    /// √(tr Σ / D), the root mean square over the directions.
    fn sigmas(&self) -> Vec<f64>;

    /// The weights w_i of the Gaussians in a state, after G: one component a Gaussian, w_i² are shares of sum
    /// one (up to what G does where weights vary fast).
    ///
    /// # Errors
    /// [`Error::GridMismatch`](crate::Error::GridMismatch) or [`Error::Length`](crate::Error::Length) for
    /// a state of another grid or another number of weights;
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    fn weights(&self, state: &State<T, D, Self>) -> Result<Weights<T, D>>;

    /// Local standard deviation √(Σ w_i² σ_i²) of the regulariser in a state, physical units.
    ///
    /// # Errors
    /// Those of [`Shooting::weights`].
    fn local_sigma(&self, state: &State<T, D, Self>) -> Result<Image<T, D>> {
        local_standard_deviation(&self.weights(state)?, &self.sigmas())
    }
}

/// An initial inverse Hessian chosen at run time.
pub type BoxedInverse<T, W> = Box<dyn InitialInverseHessian<T, W> + Send>;

/// The state of a [`Shooting`]'s evolution.
pub type State<T, const D: usize, S> =
    <<S as Shooting<T, D>>::Evolution as crate::dynamics::Evolution<T, D>>::State;

/// A kernel chosen at run time.
pub type BoxedKernel<T> = Box<dyn Kernel<T>>;

impl<T: Real> Kernel<T> for BoxedKernel<T> {
    fn apply(&self, input: &[T], out: &mut [T], ws: &mut kernel::Workspace<T>) {
        (**self).apply(input, out, ws);
    }

    fn apply_products(&self, terms: &[(&[T], &[T])], out: &mut [T], ws: &mut kernel::Workspace<T>) {
        (**self).apply_products(terms, out, ws);
    }

    fn begin_products(
        &self,
        terms: &[(&[T], &[T])],
        half: &mut kernel::Half<T>,
        ws: &mut kernel::Workspace<T>,
    ) {
        (**self).begin_products(terms, half, ws);
    }

    fn finish(
        &self,
        half: &kernel::Half<T>,
        component: usize,
        lo: usize,
        out: &mut [T],
        scratch: &mut kernel::Scratch<T>,
    ) {
        (**self).finish(half, component, lo, out, scratch);
    }

    fn shape(&self) -> Option<Vec<usize>> {
        (**self).shape()
    }
}

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

/// A field carried to another grid over the same box.
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
