//! From the controls of the last level to the result.

use super::builder::Registration;
use super::controls::WeightsOf;
use super::forward::{after_affine, forward_map};
use super::level::Reached;
use super::objective::SHRINK;
use super::result::{Registered, Report, WithControls};
use crate::adjoint::Integration;
use crate::adjoint::{Checkpoints, Sweep};
use crate::comparison::Overlap;
use crate::error::Result;
use crate::evaluate::{Folds, inverse_consistency};
use crate::field::{Displacement, Image};
use crate::grid::Grid;
use crate::model::{Controls, Model, Shooting, State, resampled};
use crate::ops::unfold::{Unfold, Unfolded};
use crate::ops::warp::Warp;
use crate::scalar::Real;
use crate::space::{FlowState, StateSpace};
use crate::step::Steps;
use crate::world::Affine;

/// The flow of controls, without a gradient.
struct Shot<S: Shooting<T, D>, T: Real, const D: usize> {
    start: State<T, D, S>,
    end: State<T, D, S>,
    /// Φ⁻¹ on the fixed image's grid.
    deformation: Displacement<T, D>,
    step_sizes: Vec<f64>,
    /// max_t |H(t)/H(0) − 1|.
    drift: f64,
}

impl<S: Shooting<T, D>, T: Real, const D: usize> Shot<S, T, D> {
    fn of(
        shooting: &mut S,
        controls: &Controls<T, D, S::Weights>,
        integration: &Integration,
        fixed: &Grid<D>,
    ) -> Result<Self> {
        let start = shooting.initial_state(controls);
        let energy = shooting.hamiltonian(&start)?;
        let (mut drift, mut failure) = (0.0_f64, None);
        let mut sweep = Sweep::new(shooting.evolution(), &start, integration.clone())?;
        let end = sweep
            .forward_with(&start, |_, state| match shooting.hamiltonian(state) {
                Ok(now) if energy > 0.0 => drift = drift.max((now / energy - 1.0).abs()),
                Ok(_) => {}
                Err(error) => failure = Some(error),
            })?
            .clone();
        if let Some(error) = failure {
            return Err(error);
        }
        let deformation = resampled(end.map(), fixed)?;
        let step_sizes = sweep.step_sizes().to_vec();
        Ok(Self { start, end, deformation, step_sizes, drift })
    }
}

impl<M: Model<T, D>, T: Real, const D: usize> Registration<M, T, D> {
    /// Maps, warped image and figures from the controls of the last level.
    pub(super) fn finish(
        &self,
        initial: &Affine<D>,
        reached: Reached<M::Shooting, T, D>,
        fixed: &Grid<D>,
        moving: &Image<T, D>,
    ) -> Result<WithControls<T, D, WeightsOf<M, T, D>>> {
        let Reached { mut shooting, mut controls, report } = reached;
        let map_grid = shooting.grid().clone();
        // The number of steps that the optimiser ended with, so that the map is the one it saw.
        let mut integration = self.settings.integration.clone();
        if let Steps::Courant { .. } = integration.steps {
            integration.steps = Steps::Fixed(report.last.steps.max(1));
        }
        // No gradient follows.
        integration.checkpoints = Checkpoints::Binomial(1);
        let unfold = self.settings.min_jacobian.map(Unfold::new).transpose()?;
        let unfolded = |map: &mut Displacement<T, D>, affine: &Affine<D>| match unfold {
            Some(unfold) => unfold.with_affine(affine.determinant()).apply(map),
            None => Ok(Unfolded::default()),
        };
        let (none, back) = (Affine::identity(), initial.inverse());
        let mut shrunk = 1.0;
        let (Shot { start, end, deformation, step_sizes, drift }, of_inverse) = loop {
            let mut shot = Shot::of(&mut shooting, &controls, &integration, fixed)?;
            // Levels that end at a coarser resolution have seen the map there only.
            let done = unfolded(&mut shot.deformation, &none)?;
            if done.left == 0 {
                break (shot, done);
            }
            controls.momentum.scale(T::of(SHRINK));
            shrunk *= SHRINK;
        };
        let folds = Folds::of(&deformation)?;
        let (sigma_start, sigma_end) = (shooting.local_sigma(&start)?, shooting.local_sigma(&end)?);
        let (weights_start, weights_end) = (shooting.weights(&start)?, shooting.weights(&end)?);
        let forward =
            forward_map(&map_grid, shooting.evolution(), start, &step_sizes, &integration)?;
        let on_fixed =
            |sigma: Option<Image<T, D>>| sigma.map(|sigma| resampled(&sigma, fixed)).transpose();
        let map = initial.after_displacement(&deformation)?;
        let whole = Warp::through(moving.grid(), fixed, initial);
        let overlap = Overlap::at(&whole, &deformation, self.mask.as_ref())?.part;
        let mut deformation_forward = resampled(&forward, fixed)?;
        let of_forward = unfolded(&mut deformation_forward, &none)?;
        let mut forward_map = after_affine(&forward, fixed, &back)?;
        unfolded(&mut forward_map, &back)?;
        let result = Registered {
            sigma_start: on_fixed(sigma_start)?,
            sigma_end: on_fixed(sigma_end)?,
            weights_start,
            weights_end,
            report: Report {
                model: self.model.name().to_owned(),
                measure: self.measure.name().to_owned(),
                similarity_weight: self.weight(),
                levels: Vec::new(),
                folds: folds.scaled(initial.determinant().abs()),
                forward_folds: Folds::of(&deformation_forward)?,
                unfolded: of_inverse,
                forward_unfolded: of_forward,
                shrunk,
                overlap,
                refused: 0,
                inverse_consistency: inverse_consistency(&deformation_forward, &deformation)?,
                energy_drift: drift,
                steps: step_sizes.len(),
                evaluations: 0,
                stopped: false,
                seconds: 0.0,
            },
            forward_map,
            forward_deformation: deformation_forward,
            affine: *initial,
            warped: map.warp_filled(moving, self.settings.fill)?,
            inverse_map: map,
            deformation,
            momentum: controls.momentum.clone(),
        };
        Ok(WithControls { result, controls })
    }
}
