//! One level of the pyramid.

use std::time::Instant;

use super::builder::Registration;
use super::channel::Pair;
use super::checkpoint::LevelState;
use super::controls::ControlsOf;
use super::grids::LevelGrids;
use super::objective::PairObjective;
use super::result::LevelReport;
use super::search::{Found, Start, Watch, minimise};
use super::settings::Level;
use crate::error::Result;
use crate::field::Displacement;
use crate::grid::Grid;
use crate::model::{Controls, Domain, Model, Shooting, resampled};
use crate::ops::cells::cell_determinants;
use crate::scalar::Real;
use crate::space::{FlowState, StateSpace};
use crate::world::Affine;

/// What a registration may take in place of its own.
pub(super) struct Recipe<'a, M, T: Real, const D: usize> {
    pub(super) model: &'a M,
    pub(super) initial: &'a Affine<D>,
    /// The map that the moving image was read at before, without an affine part: the bound on determinants is that of both
    /// together.
    pub(super) map_before: Option<&'a Displacement<T, D>>,
}

impl<M, T: Real, const D: usize> Clone for Recipe<'_, M, T, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M, T: Real, const D: usize> Copy for Recipe<'_, M, T, D> {}

/// Where a level begins.
pub(super) enum Begin<C> {
    Identity,
    /// At the controls of another grid.
    From(C),
    /// Where it was interrupted.
    Again(Box<LevelState<C>>),
}

/// Controls and grid-bound model that a level ended with.
pub(super) struct Reached<S: Shooting<T, D>, T: Real, const D: usize> {
    pub(super) shooting: S,
    pub(super) controls: Controls<T, D, S::Weights>,
    pub(super) report: LevelReport,
}

impl<M: Model<T, D>, T: Real, const D: usize> Registration<M, T, D> {
    /// One level, of the first pair and further ones.
    pub(super) fn level(
        &self,
        recipe: Recipe<'_, M, T, D>,
        pairs: &[Pair<'_, T, D>],
        grids: &LevelGrids<D>,
        level: &Level,
        begin: Begin<ControlsOf<M, T, D>>,
        watch: &mut impl Watch<ControlsOf<M, T, D>>,
    ) -> Result<Reached<M::Shooting, T, D>> {
        let clock = Instant::now();
        let domain = Domain::new(&grids.maps).with_initial(recipe.initial).with_level(grids.level);
        let mut shooting = recipe.model.discretise(&domain)?;
        let two_sided = is_two_sided(&mut shooting);
        pairs.iter().try_for_each(|pair| pair.expect_masks(two_sided))?;
        let begin = match begin {
            Begin::From(controls) => Begin::From(shooting.prolong(&controls)?),
            other => other,
        };
        let mut objective = self.objective(recipe, pairs, grids, level.factor, shooting)?;
        let start = match begin {
            Begin::Again(state) => {
                objective.resume(&state)?;
                Start::State(state)
            }
            Begin::From(controls) => Start::At(admissible(&mut objective, controls)?),
            Begin::Identity => {
                let identity = objective.shooting().identity();
                Start::At(admissible(&mut objective, identity)?)
            }
        };
        let search = &self.settings.search;
        let Found { controls, first, last, iterations, evaluations, stop, earlier } =
            minimise(&mut objective, search, start, level.iterations, watch)?;
        let report = LevelReport {
            images: grids.images.shape().to_vec(),
            map: grids.maps.shape().to_vec(),
            iterations,
            evaluations,
            refused: objective.refused(),
            first,
            last,
            shrunk: objective.shrunk(),
            stop,
            bytes: objective.bytes_held(),
            seconds: earlier + clock.elapsed().as_secs_f64(),
        };
        Ok(Reached { shooting: objective.into_shooting(), controls, report })
    }

    /// The energy on one level: every term of the registration, at its resolution.
    fn objective(
        &self,
        recipe: Recipe<'_, M, T, D>,
        pairs: &[Pair<'_, T, D>],
        grids: &LevelGrids<D>,
        factor: f64,
        mut shooting: M::Shooting,
    ) -> Result<PairObjective<M::Shooting, T, D>> {
        let (grid, initial) = (&grids.images, recipe.initial);
        let two_sided = is_two_sided(&mut shooting);
        // The two sides share the weight.
        let share = if two_sided { 0.5 } else { 1.0 };
        let [first, others @ ..] = pairs else {
            return Err(crate::Error::Length { what: "pairs of images", expected: 1, found: 0 });
        };
        let (moving, similarity) = first.coarser(grid, factor, initial)?;
        let (weight, integration) = (share * first.weight, self.settings.integration.clone());
        let mut objective =
            PairObjective::new(shooting, &moving, grid, similarity, weight, integration)?
                .with_initial(initial)
                .with_min_jacobian(self.settings.min_jacobian);
        if let Some(before) = within(recipe.map_before, self.settings.min_jacobian, grid)? {
            objective = objective.with_map_before(&before)?;
        }
        for pair in others {
            let (moving, similarity) = pair.coarser(grid, factor, initial)?;
            objective = objective.with_channel(&moving, similarity, share * pair.weight)?;
        }
        if two_sided {
            for pair in pairs {
                let (fixed, similarity) = pair.coarser_reverse(grid, factor, initial)?;
                objective = objective.with_reverse(&fixed, similarity, share * pair.weight)?;
            }
        }
        if let Some(landmarks) = &self.landmarks {
            objective = objective.with_landmarks(landmarks)?;
        }
        for term in &self.terms {
            objective = objective.with_term(term.name(), term.prepare(grids, initial)?)?;
        }
        Ok(objective)
    }
}

/// Whether the model carries the forward map.
fn is_two_sided<S: Shooting<T, D>, T: Real, const D: usize>(shooting: &mut S) -> bool {
    let identity = shooting.identity();
    shooting.initial_state(&identity).forward().is_some()
}

/// Controls that the objective accepts: on a finer grid the flow of a coarser level may diverge.
fn admissible<S: Shooting<T, D>, T: Real, const D: usize>(
    objective: &mut PairObjective<S, T, D>,
    mut controls: Controls<T, D, S::Weights>,
) -> Result<Controls<T, D, S::Weights>> {
    let mut gradient = controls.zeros_like();
    objective.evaluate_shrunk(&mut controls, &mut gradient)?;
    Ok(controls)
}

/// The map before, at the resolution of a level, where it keeps the bound there: beyond it no control would, and the bound
/// is that of the segment alone.
fn within<T: Real, const D: usize>(
    before: Option<&Displacement<T, D>>,
    bound: Option<f64>,
    grid: &Grid<D>,
) -> Result<Option<Displacement<T, D>>> {
    let (Some(before), Some(bound)) = (before, bound) else { return Ok(None) };
    let before = resampled(before, grid)?;
    let (least, largest) = cell_determinants(&before);
    Ok((least > bound && largest * bound < 1.0).then_some(before))
}
