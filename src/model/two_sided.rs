//! A model that compares both ways.

use std::sync::Arc;

use super::{BoxedInverse, Controls, Domain, Model, Shooting, State};
use crate::dynamics::{Tracked, TrackedState};
use crate::error::Result;
use crate::field::{Displacement, Image, Momentum, Weights};
use crate::grid::Grid;
use crate::scalar::Real;
use crate::space::StateSpace;

/// Any model, compared from both images: the flow carries the forward map Φ along, and a registration takes
/// half of each similarity at Φ⁻¹ and half at Φ.
///
#[doc = include_str!("../../docs/math/twosided.html")]
///
/// The length of a geodesic is the same from either end, so that the energy of
/// [`Lddmm`](super::Lddmm) and [`Vsvf`](super::Vsvf) with the images swapped has its minimum at the inverse map,
/// up to the discretisation; a regulariser that is given in the moving image stays where it is given. J is the
/// moving image read through the initial affine map, on the grid of the fixed image. Landmarks and the
/// bound on determinants are as with the model itself. The forward map and its transpose cost one
/// interpolation of the velocity a stage each way.
///
/// # References
/// Avants, Epstein, Grossman, Gee, *Symmetric diffeomorphic image registration with cross-correlation*, Med.
/// Image Anal. 12 (2008), doi:10.1016/j.media.2007.06.004.
///
/// ```
/// use rdmm_core::grid::Grid;
/// use rdmm_core::model::{Lddmm, MultiGaussian, TwoSided};
/// use rdmm_core::registration::Registration;
/// use rdmm_core::similarity::Ssd;
/// use rdmm_core::synthetic::Shapes;
///
/// let grid = Grid::<2>::unit([32, 32])?;
/// let pair = Shapes::default().with_outside(1).pair::<f32, 2>(&grid)?;
/// let model = TwoSided(Lddmm::new(MultiGaussian::for_grid(&grid)));
/// let result = Registration::new(model, Ssd).run(&pair.fixed, &pair.moving)?;
/// assert!(result.report.inverse_consistency.mean < 0.1 / 32.0); // a tenth of a voxel
/// # Ok::<(), rdmm_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TwoSided<M>(pub M);

impl<T: Real, const D: usize, M: Model<T, D>> Model<T, D> for TwoSided<M> {
    type Shooting = TrackedShooting<M::Shooting, T, D>;

    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn smallest_sigma(&self) -> f64 {
        self.0.smallest_sigma()
    }

    fn discretise(&self, domain: &Domain<D>) -> Result<Self::Shooting> {
        Ok(TrackedShooting::new(self.0.discretise(domain)?))
    }

    fn advected_by(&self, map: &Displacement<T, D>) -> Result<Self> {
        Ok(Self(self.0.advected_by(map)?))
    }
}

/// A shooting whose states hold the forward map beside the inverse one.
pub struct TrackedShooting<S: Shooting<T, D>, T: Real, const D: usize> {
    shooting: S,
    evolution: Arc<Tracked<Arc<S::Evolution>, T, D>>,
}

impl<S: Shooting<T, D>, T: Real, const D: usize> TrackedShooting<S, T, D> {
    /// `shooting` with the forward map.
    #[must_use]
    pub fn new(shooting: S) -> Self {
        let evolution = Arc::new(Tracked::new(shooting.grid(), shooting.evolution()));
        Self { shooting, evolution }
    }
}

impl<S: Shooting<T, D>, T: Real, const D: usize> Shooting<T, D> for TrackedShooting<S, T, D> {
    type Weights = S::Weights;
    type Evolution = Tracked<Arc<S::Evolution>, T, D>;

    fn grid(&self) -> &Grid<D> {
        self.shooting.grid()
    }

    fn evolution(&self) -> Arc<Self::Evolution> {
        Arc::clone(&self.evolution)
    }

    fn identity(&self) -> Controls<T, D, S::Weights> {
        self.shooting.identity()
    }

    fn initial_state(&mut self, controls: &Controls<T, D, S::Weights>) -> State<T, D, Self> {
        self.evolution.start(self.shooting.initial_state(controls))
    }

    fn set_initial_state(
        &mut self,
        controls: &Controls<T, D, S::Weights>,
        state: &mut State<T, D, Self>,
    ) {
        let TrackedState { flow, forward } = state;
        self.shooting.set_initial_state(controls, flow);
        forward.set_zero();
    }

    fn initial_state_vjp(
        &mut self,
        controls: &Controls<T, D, S::Weights>,
        state_bar: &State<T, D, Self>,
        controls_bar: &mut Controls<T, D, S::Weights>,
    ) {
        self.shooting.initial_state_vjp(controls, &state_bar.flow, controls_bar);
    }

    fn add_energy(
        &mut self,
        controls: &Controls<T, D, S::Weights>,
        scale: f64,
        gradient: &mut Controls<T, D, S::Weights>,
    ) -> f64 {
        self.shooting.add_energy(controls, scale, gradient)
    }

    fn add_penalty(
        &mut self,
        controls: &Controls<T, D, S::Weights>,
        gradient: &mut Controls<T, D, S::Weights>,
    ) -> f64 {
        self.shooting.add_penalty(controls, gradient)
    }

    fn hamiltonian(&mut self, state: &State<T, D, Self>) -> Result<f64> {
        self.shooting.hamiltonian(&state.flow)
    }

    fn initial_hamiltonian(&mut self, energy: f64, start: &State<T, D, Self>) -> Result<f64> {
        self.shooting.initial_hamiltonian(energy, &start.flow)
    }

    fn prolong(&self, controls: &Controls<T, D, S::Weights>) -> Result<Controls<T, D, S::Weights>> {
        self.shooting.prolong(controls)
    }

    fn inverse_metric(&self, epsilon: f64) -> Result<BoxedInverse<T, Momentum<T, D>>> {
        self.shooting.inverse_metric(epsilon)
    }

    fn inverse_weights_metric(&self) -> BoxedInverse<T, S::Weights> {
        self.shooting.inverse_weights_metric()
    }

    fn weights(&self, state: &State<T, D, Self>) -> Result<Option<Weights<T, D>>> {
        self.shooting.weights(&state.flow)
    }

    fn weights_vjp(
        &self,
        weights_bar: &Weights<T, D>,
        state_bar: &mut State<T, D, Self>,
    ) -> Result<()> {
        self.shooting.weights_vjp(weights_bar, &mut state_bar.flow)
    }

    fn local_sigma(&self, state: &State<T, D, Self>) -> Result<Option<Image<T, D>>> {
        self.shooting.local_sigma(&state.flow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{MultiGaussian, Vsvf};

    #[test]
    fn what_a_flow_conserves_is_that_of_the_model() {
        fn both<S: Shooting<f64, 2, Weights = ()>>(
            mut shooting: S,
            controls: &Controls<f64, 2, ()>,
        ) -> [f64; 2] {
            let start = shooting.initial_state(controls);
            let mut gradient = controls.zeros_like();
            let energy = shooting.add_energy(controls, 1.0, &mut gradient);
            let initial = shooting.initial_hamiltonian(energy, &start).unwrap();
            assert!((initial - energy).abs() > 1e-3 * energy, "½ ∫ |v|² is not the energy");
            [initial, shooting.hamiltonian(&start).unwrap()]
        }

        let grid = Grid::<2>::unit([12, 10]).unwrap();
        let model = Vsvf::new(MultiGaussian::for_grid(&grid));
        let momentum = |x: [f64; 2]| [(5.0 * x[0]).sin(), (4.0 * x[1]).cos()];
        let momentum = Momentum::<f64, 2>::from_fn(&grid, momentum).unwrap();
        let controls = Controls { momentum, weights: () };
        let alone = both(model.on(&grid).unwrap(), &controls);
        let tracked = both(TwoSided(model).on(&grid).unwrap(), &controls);
        assert_eq!(tracked.map(f64::to_bits), alone.map(f64::to_bits));
        assert_eq!(alone[0].to_bits(), alone[1].to_bits());
    }
}
