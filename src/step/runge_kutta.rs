//! One step of a flow, and its exact transpose.

use super::tableau::Tableau;
use crate::aligned::Aligned;
use crate::dynamics::{Evolution, EvolutionVjp, MapState};
use crate::field::Displacement;
use crate::grid::Grid;
use crate::ops::compose::Composition;
use crate::par;
use crate::scalar::Real;
use crate::space::{StateSpace, set_sum_of};

/// How a step carries the inverse map.
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

/// An evolution, a tableau and a rule for the map: one time step.
///
#[doc = include_str!("../../docs/math/stages.html")]
#[derive(Clone, Debug)]
pub struct Stepper<E, T, const D: usize> {
    evolution: E,
    tableau: Tableau,
    transport: MapTransport,
    composition: Composition<T, D>,
}

/// Buffers of a [`Stepper`].
pub struct Workspace<T: Real, const D: usize, E: Evolution<T, D>> {
    evolution: E::Workspace,
    /// Rates of [`Stepper::step`]; none before the first. Other steps leave theirs on a [`Trace`].
    rates: Vec<E::State>,
    stages: usize,
    /// The estimate of the error; none before the first.
    estimate: Option<E::State>,
    /// Spline coefficients of the map, likewise.
    coefficients: Aligned<T>,
    /// The displacement of one step.
    local: Displacement<T, D>,
}

impl<T: Real, const D: usize, E: Evolution<T, D>> Workspace<T, D, E> {
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

    /// The evolution's buffers.
    pub(crate) fn evolution(&mut self) -> &mut E::Workspace {
        &mut self.evolution
    }
}

/// What a step leaves for its transpose: the rates k_i of its stages, on tapes what these leave behind, and the spline
/// coefficients of the map that it begins from. On the way back, the cotangents Ȳ_i take the places of the rates.
pub struct Trace<T, S, P> {
    rates: Vec<S>,
    tapes: Vec<P>,
    /// None where the map is transported with the other fields.
    coefficients: Aligned<T>,
}

impl<T, S, P> Trace<T, S, P> {
    /// How many numbers are on it, with so many in a state and on a tape.
    pub(crate) fn numbers(&self, state: usize, tape: usize) -> usize {
        self.rates.len() * state + self.tapes.len() * tape + self.coefficients.len()
    }
}

impl<T: Real, const D: usize, E: Evolution<T, D>> Stepper<E, T, D> {
    /// Steps of `evolution` on `grid`.
    #[must_use]
    pub fn new(grid: &Grid<D>, evolution: E, tableau: Tableau, transport: MapTransport) -> Self {
        Self { evolution, tableau, transport, composition: Composition::new(grid) }
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
    #[must_use]
    pub fn workspace(&self, state: &E::State) -> Workspace<T, D, E> {
        let map = state.map();
        Workspace {
            evolution: self.evolution.workspace(),
            rates: Vec::new(),
            stages: self.tableau.stages(),
            estimate: None,
            coefficients: Aligned::default(),
            local: map.zeros_like(),
        }
    }

    /// Whether the buffers are of this tableau and of states like `state`.
    fn fits(&self, state: &E::State, other: &E::State, ws: &Workspace<T, D, E>) -> bool {
        ws.stages == self.tableau.stages()
            && state.expect_like(other).is_ok()
            && ws.local.expect_like(state.map()).is_ok()
            && ws.rates.first().is_none_or(|rate| rate.expect_like(state).is_ok())
    }

    /// `out` ← `start` + τ Σ c_i k_i, where the step composes maps with the map of the step alone, τ Σ c_i k_i from the
    /// identity.
    fn set_moved<'a>(
        &self,
        start: &'a E::State,
        tau: f64,
        weighted: impl Iterator<Item = (f64, &'a E::State)> + Clone,
        out: &mut E::State,
    ) {
        let moving = weighted.filter(|(c, _)| *c != 0.0).map(|(c, rate)| (T::of(tau * c), rate));
        let moved = std::iter::once((T::one(), start)).chain(moving.clone());
        match self.transport {
            MapTransport::SemiLagrangian => {
                out.set_sum_but_map(moved);
                set_sum_of(out.map_mut(), moving.map(|(c, rate)| (c, rate.map())));
            }
            MapTransport::Eulerian => set_sum_of(out, moved),
        }
    }

    /// The rates of all stages, from the start of a step; calls `after(i, buffers)` after that of stage i. `spare`
    /// is where the stages are.
    fn run_stages(
        &self,
        state: &E::State,
        tau: f64,
        rates: &mut [E::State],
        (spare, ws): (&mut E::State, &mut Workspace<T, D, E>),
        mut after: impl FnMut(usize, &mut E::Workspace),
    ) {
        for i in 0..rates.len() {
            let (rates, rest) = rates.split_at_mut(i);
            let Some(rate) = rest.first_mut() else { return };
            let stage = self.stage(tau, state, spare, rates);
            if self.at_identity(i) {
                self.evolution.rate_at_identity(stage, rate, &mut ws.evolution);
            } else {
                self.evolution.rate(stage, rate, &mut ws.evolution);
            }
            after(i, &mut ws.evolution);
        }
    }

    /// Whether stage `i` has the identity for a map, whatever map the state holds that it is.
    fn at_identity(&self, i: usize) -> bool {
        i == 0 && self.transport == MapTransport::SemiLagrangian
    }

    /// Y_i = y + τ Σ_{j<i} a_ij k_j after the rates of i stages, in `buffer` unless it is `start` itself. The last of
    /// them comes first, as in [`Stepper::put_stage`].
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
        self.set_moved(start, tau, weighted, buffer);
        buffer
    }

    /// The same stage, to the bit, in the place of the last of the rates before it, unless it is `start` itself.
    fn put_stage<'a>(
        &self,
        tau: f64,
        start: &'a E::State,
        rates: &'a mut [E::State],
    ) -> &'a E::State {
        let row = self.tableau.a()[rates.len()];
        let Some((stage, earlier)) = rates.split_last_mut() else { return start };
        let step = T::of(tau * row[earlier.len()]);
        match self.transport {
            MapTransport::SemiLagrangian => {
                stage.combine_but_map(start, |rate, y| y + step * rate);
                stage.map_mut().scale(step);
            }
            MapTransport::Eulerian => stage.combine(start, |rate, y| y + step * rate),
        }
        for (a, rate) in row.iter().zip(earlier).filter(|(a, _)| **a != 0.0) {
            stage.axpy(T::of(tau * a), rate);
        }
        stage
    }

    /// `next` ← the state a time `tau` after `state`; NaN where states and buffers have different shapes.
    pub fn step(
        &self,
        state: &E::State,
        tau: f64,
        next: &mut E::State,
        ws: &mut Workspace<T, D, E>,
    ) {
        if !self.fits(state, next, ws) {
            return next.scale(T::nan());
        }
        let (mut rates, mut coefficients) =
            (ws.take_rates(state), std::mem::take(&mut ws.coefficients));
        let of_map = coefficients.grown(self.coefficients_len(state));
        par::inside(state.map().data().len(), || {
            self.run_stages(state, tau, &mut rates, (next, ws), |_, _| ());
            self.set_coefficients(state, of_map);
            self.finish(state, tau, (&rates, of_map), next, ws);
        });
        (ws.rates, ws.coefficients) = (rates, coefficients);
    }

    /// How many spline coefficients a step needs of the map that it begins from.
    fn coefficients_len(&self, state: &E::State) -> usize {
        match self.transport {
            MapTransport::SemiLagrangian => state.map().data().len(),
            MapTransport::Eulerian => 0,
        }
    }

    fn set_coefficients(&self, state: &E::State, coefficients: &mut [T]) {
        if self.transport == MapTransport::SemiLagrangian {
            self.composition.coefficients(state.map().data(), coefficients);
        }
    }

    /// `next` ← the state after a step with these rates of the stages, from a map with these spline coefficients.
    fn finish(
        &self,
        state: &E::State,
        tau: f64,
        (rates, coefficients): (&[E::State], &[T]),
        next: &mut E::State,
        ws: &mut Workspace<T, D, E>,
    ) {
        self.set_moved(state, tau, self.tableau.b().iter().copied().zip(rates), next);
        if self.transport == MapTransport::SemiLagrangian {
            std::mem::swap(next.map_mut(), &mut ws.local);
            self.composition.compose(coefficients, ws.local.data(), next.map_mut().data_mut());
        }
    }

    /// Embedded error estimate of the last [`Stepper::step`], which gave `next`, relative to it; `None` without an
    /// embedded method. It covers the displacement of the step, not the map it is composed with.
    pub fn error(&self, tau: f64, next: &mut E::State, ws: &mut Workspace<T, D, E>) -> Option<f64> {
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
        ws: &mut Workspace<T, D, E>,
    ) -> Option<f64> {
        let weights = self.tableau.error()?;
        let estimate = ws.estimate.get_or_insert_with(|| next.zeros_like());
        let terms = weights.iter().zip(rates).map(|(&e, rate)| (T::of(tau * e), rate));
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

impl<T: Real, const D: usize, E: EvolutionVjp<T, D>> Stepper<E, T, D> {
    /// A trace for states like `state`, with tapes for the first so many stages. The last stage needs none for a
    /// transpose that follows at once; a stage without a tape is smoothed again.
    #[must_use]
    pub fn trace(&self, state: &E::State, tapes: usize) -> Trace<T, E::State, E::Tape> {
        let stages = self.tableau.stages();
        let tapes = (0..tapes.min(stages)).map(|_| self.evolution.tape()).collect();
        let coefficients = Aligned::zeros(self.coefficients_len(state));
        Trace { rates: vec![state.zeros_like(); stages], tapes, coefficients }
    }

    /// Numbers on a trace of states like `state` with a tape for each stage.
    pub(crate) fn trace_len(&self, state: &E::State) -> usize {
        self.tableau.stages() * (state.dimension() + self.evolution.tape_len())
            + self.coefficients_len(state)
    }

    /// Whether the trace is of this tableau and of states like `state`.
    fn traces(&self, state: &E::State, trace: &Trace<T, E::State, E::Tape>) -> bool {
        trace.rates.len() == self.tableau.stages()
            && trace.coefficients.len() == self.coefficients_len(state)
            && trace.rates.iter().all(|rate| rate.expect_like(state).is_ok())
    }

    /// [`Stepper::step`] that leaves its stages on `trace`.
    pub fn step_traced(
        &self,
        state: &E::State,
        tau: f64,
        next: &mut E::State,
        trace: &mut Trace<T, E::State, E::Tape>,
        ws: &mut Workspace<T, D, E>,
    ) {
        if !self.fits(state, next, ws) || !self.traces(state, trace) {
            return next.scale(T::nan());
        }
        par::inside(state.map().data().len(), || {
            self.trace_inside(state, tau, trace, (next, ws));
            self.finish(state, tau, (&trace.rates, &trace.coefficients), next, ws);
        });
    }

    /// Leaves the stages of a step from `state` on `trace`, without the step. The cost is nearly that of the step. What
    /// `spare` holds does not matter, before and after.
    pub fn retrace(
        &self,
        state: &E::State,
        tau: f64,
        trace: &mut Trace<T, E::State, E::Tape>,
        (spare, ws): (&mut E::State, &mut Workspace<T, D, E>),
    ) {
        if self.fits(state, spare, ws) && self.traces(state, trace) {
            let len = state.map().data().len();
            par::inside(len, || self.trace_inside(state, tau, trace, (spare, ws)));
        } else {
            trace.rates.iter_mut().for_each(|rate| rate.scale(T::nan()));
        }
    }

    fn trace_inside(
        &self,
        state: &E::State,
        tau: f64,
        Trace { rates, tapes, coefficients }: &mut Trace<T, E::State, E::Tape>,
        buffers: (&mut E::State, &mut Workspace<T, D, E>),
    ) {
        self.set_coefficients(state, coefficients);
        self.run_stages(state, tau, rates, buffers, |i, buffers| {
            if let Some(tape) = tapes.get_mut(i) {
                self.evolution.exchange(buffers, tape);
            }
        });
    }

    /// [`Stepper::error`] of the last step, whose stages are on `trace`.
    pub fn error_traced(
        &self,
        tau: f64,
        next: &mut E::State,
        trace: &Trace<T, E::State, E::Tape>,
        ws: &mut Workspace<T, D, E>,
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
        trace: &mut Trace<T, E::State, E::Tape>,
        (spare, ws): (&mut E::State, &mut Workspace<T, D, E>),
    ) {
        let fits = self.fits(state, bar, ws) && self.fits(state, spare, ws);
        if !fits || !self.traces(state, trace) {
            return bar.scale(T::nan());
        }
        par::inside(state.map().data().len(), || {
            self.step_vjp_inside(state, tau, bar, trace, (spare, ws));
        });
    }

    fn step_vjp_inside(
        &self,
        state: &E::State,
        tau: f64,
        bar: &mut E::State,
        Trace { rates, tapes, coefficients }: &mut Trace<T, E::State, E::Tape>,
        (spare, ws): (&mut E::State, &mut Workspace<T, D, E>),
    ) {
        let last = self.tableau.stages() - 1;
        let composed = self.transport == MapTransport::SemiLagrangian;
        if composed {
            // u⁺ = d + u∘(id + d): d̄ = ū⁺ + D(u)ᵀ ū⁺, ū = Sᵀ ū⁺.
            let weights = self.tableau.b().iter().zip(&*rates);
            let terms = weights.map(|(&b, rate)| (T::of(tau * b), rate.map()));
            set_sum_of(&mut ws.local, terms.filter(|(b, _)| !b.is_zero()));
            spare.map_mut().copy_from(bar.map());
            self.composition.sample_vjp(
                coefficients,
                ws.local.data(),
                bar.map_mut().data_mut(),
                spare.map_mut().data_mut(),
            );
            // ū waits in the place of d until the end.
            std::mem::swap(bar.map_mut(), spare.map_mut());
            std::mem::swap(spare.map_mut(), &mut ws.local);
        }
        // k̄_i = τ (b_i ȳ + Σ_{j>i} a_ji Ȳ_j), Ȳ_i = (∂f/∂y)ᵀ k̄_i, ȳ ← ȳ + Σ Ȳ_i.
        // Y_i takes the place of k_{i−1} and Ȳ_i that of k_i: earlier stages need earlier rates only.
        for i in (0..self.tableau.stages()).rev() {
            let rate_bar = &mut *spare;
            let (rest, after) = rates.split_at_mut(i + 1);
            let column = self.tableau.a()[i + 1..].iter().map(|row| row[i]).zip(after.iter());
            let terms = std::iter::once((self.tableau.b()[i], &*bar)).chain(column);
            let mut terms = terms.filter(|(c, _)| *c != 0.0).map(|(c, x)| (T::of(tau * c), x));
            let Some((stage_bar, before)) = rest.split_last_mut() else { return };
            let Some(first) = terms.next() else {
                stage_bar.set_zero();
                continue;
            };
            set_sum_of(rate_bar, std::iter::once(first).chain(terms));
            let stage = self.put_stage(tau, state, before);
            match tapes.get_mut(i) {
                Some(tape) => self.evolution.exchange(&mut ws.evolution, tape),
                // Still in the buffers.
                None if i == last => (),
                None => self.evolution.record(stage, &mut ws.evolution),
            }
            if self.at_identity(i) {
                self.evolution.rate_vjp_at_identity(stage, rate_bar, stage_bar, &mut ws.evolution);
            } else {
                self.evolution.rate_vjp(stage, rate_bar, stage_bar, &mut ws.evolution);
            }
        }
        let stage_bars = rates.iter().map(|stage_bar| (T::one(), stage_bar));
        let all = std::iter::once((T::one(), &*bar)).chain(stage_bars);
        if composed {
            spare.set_sum_but_map(all);
            std::mem::swap(spare.map_mut(), &mut ws.local);
        } else {
            set_sum_of(spare, all);
        }
        std::mem::swap(bar, spare);
    }
}
