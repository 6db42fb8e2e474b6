//! One step of a flow, and its exact transpose.

use num_traits::{Float, One, Zero};

use super::tableau::Tableau;
use crate::dynamics::{Evolution, EvolutionVjp, StageMap};
use crate::error::Result;
use crate::metric::Tape as _;
use crate::par;
use crate::scalar::Real;
use crate::space::{Compose, FlowState, MapSpace, StateSpace, VectorField, set_sum_of};

/// How a step advects the inverse map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum MapTransport {
    /// By characteristics. The step integrates its own small inverse map id + d from the identity, with
    /// the stages of the tableau, and composes: Φ⁻¹ ← Φ⁻¹ ∘ (id + d), with cubic splines. The order in
    /// time is the tableau's. Steep maps are composed, never differentiated, so they do not fold.
    ///
    /// Each composition interpolates once: a step of length d on voxels of h loses about d² h² / 24 of the
    /// map's fourth derivative. Steps far shorter than a voxel add such losses up; few long steps are
    /// better, and [`Steps::Courant`](super::Steps::Courant) takes them.
    ///
    #[doc = include_str!("../../docs/math/local.html")]
    ///
    #[doc = include_str!("../../docs/math/composition.html")]
    #[default]
    SemiLagrangian,
    /// By central differences of the whole map, as in the paper. It folds where the map is steep.
    Eulerian,
}

/// The maps of an evolution.
type MapOf<E> = <<E as Evolution>::State as FlowState<<E as Evolution>::Scalar>>::Map;
/// What composes them.
type ComposerOf<E> = <MapOf<E> as MapSpace<<E as Evolution>::Scalar>>::Composer;
/// What they are interpolated from.
type CoefficientsOf<E> = <ComposerOf<E> as Compose<<E as Evolution>::Scalar>>::Coefficients;

/// An evolution, a tableau and a rule for the map: one time step.
///
#[doc = include_str!("../../docs/math/stages.html")]
///
/// It works on any [`FlowState`], wherever its numbers are.
#[derive(Clone, Debug)]
pub struct Stepper<E> {
    evolution: E,
    tableau: Tableau,
    transport: MapTransport,
}

/// Buffers of a [`Stepper`].
pub struct Workspace<E: Evolution> {
    evolution: E::Workspace,
    /// What the last stage left that has no place on a [`Trace`].
    tape: E::Tape,
    /// Rates of [`Stepper::step`]; none before the first. Other steps leave theirs on a [`Trace`].
    rates: Vec<E::State>,
    stages: usize,
    /// The estimate of the error; none before the first.
    estimate: Option<E::State>,
    composer: ComposerOf<E>,
    /// Of the map that a [`Stepper::step`] begins from; none before the first.
    coefficients: Option<CoefficientsOf<E>>,
    /// The displacement of one step.
    local: MapOf<E>,
}

impl<E: Evolution> Workspace<E> {
    /// How many states are among the buffers.
    pub(crate) fn states(&self) -> usize {
        self.rates.len() + usize::from(self.estimate.is_some())
    }

    /// The rates, as many as there are stages.
    fn take_rates(&mut self, state: &E::State) -> Vec<E::State> {
        let mut rates = std::mem::take(&mut self.rates);
        rates.resize_with(self.stages, || state.zeros_like());
        rates
    }
}

/// What a step leaves for its transpose: the rates k_i of its stages, their tapes, and what the map that it begins from is
/// interpolated from. On the way back, the cotangents Ȳ_i take the places of the rates.
pub struct Trace<E: Evolution> {
    rates: Vec<E::State>,
    tapes: Vec<E::Tape>,
    /// None where the map is transported with the other fields.
    coefficients: Option<CoefficientsOf<E>>,
}

impl<E: Evolution> Stepper<E> {
    /// Steps of `evolution`.
    #[must_use]
    pub fn new(evolution: E, tableau: Tableau, transport: MapTransport) -> Self {
        Self { evolution, tableau, transport }
    }

    /// What is integrated.
    #[must_use]
    pub fn evolution(&self) -> &E {
        &self.evolution
    }

    /// The method.
    #[must_use]
    pub fn tableau(&self) -> &Tableau {
        &self.tableau
    }

    /// Buffers for states like `state`.
    ///
    /// # Errors
    /// Those of [`Evolution::tape`] and [`Evolution::workspace`].
    pub fn workspace(&self, state: &E::State) -> Result<Workspace<E>> {
        let map = state.map();
        Ok(Workspace {
            evolution: self.evolution.workspace()?,
            tape: self.evolution.tape()?,
            rates: Vec::new(),
            stages: self.tableau.stages(),
            estimate: None,
            composer: map.composer(),
            coefficients: None,
            local: map.zeros_like(),
        })
    }

    /// The fastest voxel of `state`, in voxels per unit of time.
    pub fn speed(&self, state: &E::State, ws: &mut Workspace<E>) -> f64 {
        self.evolution.velocity(state, &mut ws.tape, &mut ws.evolution);
        self.evolution.velocity_field(state, &ws.tape).longest()
    }

    /// Whether the buffers are of this tableau and of states like `state`.
    fn fits(&self, state: &E::State, other: &E::State, ws: &Workspace<E>) -> bool {
        ws.stages == self.tableau.stages()
            && state.expect_like(other).is_ok()
            && ws.local.expect_like(state.map()).is_ok()
            && ws.rates.first().is_none_or(|rate| rate.expect_like(state).is_ok())
    }

    /// `out` ← `start` + τ Σ c_i k_i, where the step composes maps with the map of the step alone, τ Σ c_i k_i from the
    /// identity.
    fn add_rates<'a>(
        &self,
        start: &'a E::State,
        tau: f64,
        weighted: impl Iterator<Item = (f64, &'a E::State)> + Clone,
        out: &mut E::State,
    ) {
        let moving = weighted.filter(|(c, _)| *c != 0.0);
        let moving = moving.map(|(c, rate)| (E::Scalar::of(tau * c), rate));
        let moved = std::iter::once((E::Scalar::one(), start)).chain(moving.clone());
        match self.transport {
            MapTransport::SemiLagrangian => {
                out.set_sum_but_map(moved);
                set_sum_of(out.map_mut(), moving.map(|(c, rate)| (c, rate.map())));
            }
            MapTransport::Eulerian => set_sum_of(out, moved),
        }
    }

    /// The rates of all stages, from the start of a step. Stages for which there is a tape leave theirs there, the others
    /// in `ws`. `spare` is where the stages are.
    fn run_stages(
        &self,
        state: &E::State,
        tau: f64,
        (rates, tapes): (&mut [E::State], &mut [E::Tape]),
        (spare, ws): (&mut E::State, &mut Workspace<E>),
    ) {
        for i in 0..rates.len() {
            let (rates, rest) = rates.split_at_mut(i);
            let Some(rate) = rest.first_mut() else { return };
            let stage = self.stage(tau, state, spare, rates);
            let tape = tapes.get_mut(i).unwrap_or(&mut ws.tape);
            self.evolution.velocity(stage, tape, &mut ws.evolution);
            self.evolution.rate(stage, self.map_of_stage(i), rate, tape, &mut ws.evolution);
        }
    }

    /// The map of stage `i`, whatever map the state holds that it is.
    fn map_of_stage(&self, i: usize) -> StageMap {
        match self.transport {
            MapTransport::SemiLagrangian if i == 0 => StageMap::Identity,
            _ => StageMap::OfState,
        }
    }

    /// Y_i = y + τ Σ_{j<i} a_ij k_j after the rates of i stages, in `buffer` unless it is `start` itself. The last of
    /// them comes first, as in [`Stepper::stage_in_place`].
    fn stage<'a>(
        &self,
        tau: f64,
        start: &'a E::State,
        buffer: &'a mut E::State,
        rates: &[E::State],
    ) -> &'a E::State {
        let Some((last, earlier)) = rates.split_last() else { return start };
        let row = self.tableau.a()[rates.len()];
        let weighted = std::iter::once((row[earlier.len()], last));
        let weighted = weighted.chain(row.iter().copied().zip(earlier));
        self.add_rates(start, tau, weighted, buffer);
        buffer
    }

    /// The same stage, to the bit, in the place of the last of the rates before it, unless it is `start` itself.
    fn stage_in_place<'a>(
        &self,
        tau: f64,
        start: &'a E::State,
        rates: &'a mut [E::State],
    ) -> &'a E::State {
        let row = self.tableau.a()[rates.len()];
        let Some((stage, earlier)) = rates.split_last_mut() else { return start };
        let step = E::Scalar::of(tau * row[earlier.len()]);
        match self.transport {
            MapTransport::SemiLagrangian => {
                stage.scale_add_but_map(step, start);
                stage.map_mut().scale(step);
            }
            MapTransport::Eulerian => stage.scale_add(step, start),
        }
        for (a, rate) in row.iter().zip(earlier).filter(|(a, _)| **a != 0.0) {
            stage.axpy(E::Scalar::of(tau * a), rate);
        }
        stage
    }

    /// `next` ← the state a time `tau` after `state`; NaN where states and buffers have different shapes.
    pub fn step(&self, state: &E::State, tau: f64, next: &mut E::State, ws: &mut Workspace<E>) {
        if !self.fits(state, next, ws) {
            return next.scale(E::Scalar::nan());
        }
        let mut rates = ws.take_rates(state);
        let mut coefficients = ws.coefficients.take().or_else(|| self.blank(&ws.composer));
        par::inside(state.map().dimension(), || {
            self.run_stages(state, tau, (&mut rates, &mut []), (next, ws));
            if let Some(coefficients) = &mut coefficients {
                ws.composer.set_coefficients(state.map(), coefficients);
            }
            self.finish(state, tau, (&rates, coefficients.as_ref()), next, ws);
        });
        (ws.rates, ws.coefficients) = (rates, coefficients);
    }

    /// Coefficients for a map, where the step composes maps.
    fn blank(&self, composer: &ComposerOf<E>) -> Option<CoefficientsOf<E>> {
        match self.transport {
            MapTransport::SemiLagrangian => Some(composer.blank()),
            MapTransport::Eulerian => None,
        }
    }

    /// `next` ← the state after a step with these rates of the stages, from a map with these coefficients.
    fn finish(
        &self,
        state: &E::State,
        tau: f64,
        (rates, coefficients): (&[E::State], Option<&CoefficientsOf<E>>),
        next: &mut E::State,
        ws: &mut Workspace<E>,
    ) {
        self.add_rates(state, tau, self.tableau.b().iter().copied().zip(rates), next);
        if let Some(coefficients) = coefficients {
            std::mem::swap(next.map_mut(), &mut ws.local);
            ws.composer.compose(coefficients, &ws.local, next.map_mut());
        }
    }

    /// Embedded error estimate of the last [`Stepper::step`], which gave `next`, relative to it; `None` without an
    /// embedded method. It covers the displacement of the step, not the map it is composed with.
    pub fn error(&self, tau: f64, next: &mut E::State, ws: &mut Workspace<E>) -> Option<f64> {
        let rates = std::mem::take(&mut ws.rates);
        let error = self.error_of(tau, &rates, next, ws);
        ws.rates = rates;
        error
    }

    /// [`Stepper::error`] of the last step, whose stages have these rates.
    fn error_of(
        &self,
        tau: f64,
        rates: &[E::State],
        next: &mut E::State,
        ws: &mut Workspace<E>,
    ) -> Option<f64> {
        let weights = self.tableau.error()?;
        let estimate = ws.estimate.get_or_insert_with(|| next.zeros_like());
        let terms = weights.iter().zip(rates).map(|(&e, rate)| (E::Scalar::of(tau * e), rate));
        set_sum_of(estimate, terms.filter(|(e, _)| !e.is_zero()));
        // With the displacement of the step in the place of the map.
        let composed = self.transport == MapTransport::SemiLagrangian;
        if composed {
            std::mem::swap(next.map_mut(), &mut ws.local);
        }
        let error = estimate.relative_error(next, next);
        if composed {
            std::mem::swap(next.map_mut(), &mut ws.local);
        }
        Some(error)
    }
}

impl<E: EvolutionVjp> Stepper<E> {
    /// A trace for states like `state`, with tapes for the first so many stages. The last stage needs none for a
    /// transpose that follows at once; a stage without a tape is smoothed again.
    ///
    /// # Errors
    /// Those of [`Evolution::tape`].
    pub fn trace(&self, state: &E::State, tapes: usize) -> Result<Trace<E>> {
        let stages = self.tableau.stages();
        let tapes: Result<_> = (0..tapes.min(stages)).map(|_| self.evolution.tape()).collect();
        let coefficients = self.blank(&state.map().composer());
        Ok(Trace { rates: vec![state.zeros_like(); stages], tapes: tapes?, coefficients })
    }

    /// Numbers on a trace of states like `state` with so many tapes.
    pub(crate) fn trace_len(&self, state: &E::State, tapes: usize, ws: &Workspace<E>) -> usize {
        let coefficients = match self.transport {
            MapTransport::SemiLagrangian => ws.composer.coefficients_len(),
            MapTransport::Eulerian => 0,
        };
        let tapes = tapes.min(self.tableau.stages()) * ws.tape.len();
        self.tableau.stages() * state.dimension() + tapes + coefficients
    }

    /// Whether the trace is of this tableau and of states like `state`.
    fn traces(&self, state: &E::State, trace: &Trace<E>, ws: &Workspace<E>) -> bool {
        let coefficients = match (&self.transport, &trace.coefficients) {
            (MapTransport::SemiLagrangian, Some(found)) => {
                ws.composer.expect_coefficients(found).is_ok()
            }
            (MapTransport::Eulerian, None) => true,
            _ => false,
        };
        coefficients
            && trace.rates.len() == self.tableau.stages()
            && trace.rates.iter().all(|rate| rate.expect_like(state).is_ok())
    }

    /// [`Stepper::step`] that leaves its stages on `trace`.
    pub fn step_traced(
        &self,
        state: &E::State,
        tau: f64,
        next: &mut E::State,
        trace: &mut Trace<E>,
        ws: &mut Workspace<E>,
    ) {
        if !self.fits(state, next, ws) || !self.traces(state, trace, ws) {
            return next.scale(E::Scalar::nan());
        }
        par::inside(state.map().dimension(), || {
            self.trace_inside(state, tau, trace, (next, ws));
            self.finish(state, tau, (&trace.rates, trace.coefficients.as_ref()), next, ws);
        });
    }

    /// Leaves the stages of a step from `state` on `trace`, without the step. The cost is nearly that of the step. What
    /// `spare` holds does not matter, before and after.
    pub fn retrace(
        &self,
        state: &E::State,
        tau: f64,
        trace: &mut Trace<E>,
        (spare, ws): (&mut E::State, &mut Workspace<E>),
    ) {
        if self.fits(state, spare, ws) && self.traces(state, trace, ws) {
            let len = state.map().dimension();
            par::inside(len, || self.trace_inside(state, tau, trace, (spare, ws)));
        } else {
            trace.rates.iter_mut().for_each(|rate| rate.scale(E::Scalar::nan()));
        }
    }

    fn trace_inside(
        &self,
        state: &E::State,
        tau: f64,
        Trace { rates, tapes, coefficients }: &mut Trace<E>,
        (spare, ws): (&mut E::State, &mut Workspace<E>),
    ) {
        if let Some(coefficients) = coefficients {
            ws.composer.set_coefficients(state.map(), coefficients);
        }
        self.run_stages(state, tau, (rates, tapes), (spare, ws));
    }

    /// [`Stepper::error`] of the last step, whose stages are on `trace`.
    pub fn error_traced(
        &self,
        tau: f64,
        next: &mut E::State,
        trace: &Trace<E>,
        ws: &mut Workspace<E>,
    ) -> Option<f64> {
        self.error_of(tau, &trace.rates, next, ws)
    }

    /// The transpose of the derivative of [`Stepper::step`] at `state`: `bar`, the cotangent of the next
    /// state, becomes that of `state`. The stages are those that [`Stepper::step_traced`] or [`Stepper::retrace`] of
    /// `state` left on `trace`, which this uses up; with fewer tapes than stages, that was the last call with
    /// these buffers. What `spare` holds does not matter, before and after.
    ///
    #[doc = include_str!("../../docs/math/stagesvjp.html")]
    ///
    /// For the composed map, with S the interpolation at x + d(x):
    ///
    #[doc = include_str!("../../docs/math/compositionvjp.html")]
    pub fn step_vjp(
        &self,
        state: &E::State,
        tau: f64,
        bar: &mut E::State,
        trace: &mut Trace<E>,
        (spare, ws): (&mut E::State, &mut Workspace<E>),
    ) {
        let fits = self.fits(state, bar, ws) && self.fits(state, spare, ws);
        if !fits || !self.traces(state, trace, ws) {
            return bar.scale(E::Scalar::nan());
        }
        par::inside(state.map().dimension(), || {
            self.step_vjp_inside(state, tau, bar, trace, (spare, ws));
        });
    }

    fn step_vjp_inside(
        &self,
        state: &E::State,
        tau: f64,
        bar: &mut E::State,
        Trace { rates, tapes, coefficients }: &mut Trace<E>,
        (spare, ws): (&mut E::State, &mut Workspace<E>),
    ) {
        let last = self.tableau.stages() - 1;
        if let Some(coefficients) = coefficients {
            // u⁺ = d + u∘(id + d): d̄ = ū⁺ + D(u)ᵀ ū⁺, ū = Sᵀ ū⁺.
            let weights = self.tableau.b().iter().zip(&*rates);
            let terms = weights.map(|(&b, rate)| (E::Scalar::of(tau * b), rate.map()));
            set_sum_of(&mut ws.local, terms.filter(|(b, _)| !b.is_zero()));
            let (u_bar, d_bar) = (bar.map_mut(), spare.map_mut());
            ws.composer.compose_vjp(coefficients, &ws.local, u_bar, d_bar);
            // ū waits in the place of d until the end.
            std::mem::swap(u_bar, d_bar);
            std::mem::swap(d_bar, &mut ws.local);
        }
        // k̄_i = τ (b_i ȳ + Σ_{j>i} a_ji Ȳ_j), Ȳ_i = (∂f/∂y)ᵀ k̄_i, ȳ ← ȳ + Σ Ȳ_i.
        // Y_i takes the place of k_{i−1} and Ȳ_i that of k_i: earlier stages need earlier rates only.
        for i in (0..self.tableau.stages()).rev() {
            let rate_bar = &mut *spare;
            let (rest, after) = rates.split_at_mut(i + 1);
            let column = self.tableau.a()[i + 1..].iter().map(|row| row[i]).zip(after.iter());
            let terms = std::iter::once((self.tableau.b()[i], &*bar)).chain(column);
            let mut terms =
                terms.filter(|(c, _)| *c != 0.0).map(|(c, x)| (E::Scalar::of(tau * c), x));
            let Some((stage_bar, before)) = rest.split_last_mut() else { return };
            let Some(first) = terms.next() else {
                stage_bar.set_zero();
                continue;
            };
            set_sum_of(rate_bar, std::iter::once(first).chain(terms));
            let stage = self.stage_in_place(tau, state, before);
            let tape = match tapes.get(i) {
                Some(tape) => tape,
                // Still in the buffers.
                None if i == last => &ws.tape,
                None => {
                    self.evolution.velocity(stage, &mut ws.tape, &mut ws.evolution);
                    &ws.tape
                }
            };
            let (map, buffers) = (self.map_of_stage(i), &mut ws.evolution);
            self.evolution.rate_vjp(stage, map, rate_bar, stage_bar, tape, buffers);
        }
        let stage_bars = rates.iter().map(|stage_bar| (E::Scalar::one(), stage_bar));
        let all = std::iter::once((E::Scalar::one(), &*bar)).chain(stage_bars);
        if coefficients.is_some() {
            spare.set_sum_but_map(all);
            std::mem::swap(spare.map_mut(), &mut ws.local);
        } else {
            set_sum_of(spare, all);
        }
        std::mem::swap(bar, spare);
    }
}
