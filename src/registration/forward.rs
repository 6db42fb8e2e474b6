//! The forward map.

use crate::adjoint::Integration;
use crate::dynamics::{FieldEvolution, Tracked};
use crate::error::Result;
use crate::field::Displacement;
use crate::grid::Grid;
use crate::ops::spline::Prefilter;
use crate::ops::warp::Warp;
use crate::scalar::Real;
use crate::space::StateSpace;
use crate::step::Stepper;
use crate::world::Affine;

/// The forward map of a flow, with given steps.
pub(super) fn forward_map<E, T: Real, const D: usize>(
    grid: &Grid<D>,
    evolution: E,
    start: E::State,
    steps: &[f64],
    integration: &Integration,
) -> Result<Displacement<T, D>>
where
    E: FieldEvolution<T, D>,
{
    let tracked = Tracked::new(grid, evolution);
    let mut state = tracked.start(start);
    let (tableau, transport) = (integration.tableau, integration.transport.clone());
    let stepper = Stepper::new(tracked, tableau, transport);
    let (mut next, mut ws) = (state.zeros_like(), stepper.workspace(&state)?);
    for &tau in steps {
        stepper.step(&state, tau, &mut next, &mut ws);
        std::mem::swap(&mut state, &mut next);
    }
    Ok(state.forward)
}

/// Φ∘B for a map Φ = id + U over a coarser grid of the same box, as a displacement of the voxels of `grid`:
/// B(x) − x + U(B(x)), interpolated once.
pub(super) fn after_affine<T: Real, const D: usize>(
    forward: &Displacement<T, D>,
    grid: &Grid<D>,
    first: &Affine<D>,
) -> Result<Displacement<T, D>> {
    let mut coefficients = vec![T::zero(); forward.data().len()];
    Prefilter::new(forward.grid()).interleaved::<D>(forward.data(), &mut coefficients);
    let (rest, mut out) = (Displacement::zeros(grid)?, Displacement::zeros(grid)?);
    let warp = Warp::through(forward.grid(), grid, first);
    warp.values::<D>(&coefficients, rest.data(), out.data_mut());
    out.axpy(T::one(), &first.displacement(grid)?);
    out.expect_finite("forward map")?;
    Ok(out)
}
