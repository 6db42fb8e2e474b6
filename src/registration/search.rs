//! The search for the controls of one level.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::time::Instant;

use super::checkpoint::{LevelState, Optimiser};
use super::objective::PairObjective;
use super::preconditioner::InverseMetric;
use super::progress::Progress;
use super::settings::Search;
use super::terms::Diagnostics;
use crate::error::{Error, Result};
use crate::model::{Controls, Shooting};
use crate::optim::{
    Adam, AdamState, Euclidean, InitialInverseHessian, Lbfgs, LbfgsState, Objective, Outcome, Stop,
};
use crate::scalar::Real;
use crate::space::{Componentwise, StateSpace};

/// Where an optimiser begins.
pub(super) enum Start<C> {
    At(C),
    State(Box<LevelState<C>>),
}

/// What an optimiser found.
pub(super) struct Found<C> {
    pub(super) controls: C,
    pub(super) first: Diagnostics,
    pub(super) last: Diagnostics,
    pub(super) iterations: usize,
    pub(super) evaluations: usize,
    pub(super) stop: Stop,
    /// Seconds of the level before it was interrupted.
    pub(super) earlier: f64,
}

/// What looks at each iteration: its figures, those of the level, and the state to go on from.
pub(super) trait Watch<C>:
    FnMut(Progress, &dyn Fn() -> LevelState<C>) -> ControlFlow<()>
{
}

impl<C, F: FnMut(Progress, &dyn Fn() -> LevelState<C>) -> ControlFlow<()>> Watch<C> for F {}

/// Minimises the energy by the optimiser that `search` names.
///
/// # Errors
/// Settings out of range, a start that cannot be evaluated, the state of another optimiser.
pub(super) fn minimise<S: Shooting<T, D>, T: Real, const D: usize>(
    objective: &mut PairObjective<S, T, D>,
    search: &Search,
    start: Start<Controls<T, D, S::Weights>>,
    max_iterations: usize,
    watch: &mut impl Watch<Controls<T, D, S::Weights>>,
) -> Result<Found<Controls<T, D, S::Weights>>> {
    match search {
        Search::MetricLbfgs { lbfgs, epsilon } => {
            let scale = objective.energy_scale();
            let h0 = InverseMetric::new(objective.shooting(), scale, *epsilon)?;
            let lbfgs = Lbfgs { max_iterations, ..lbfgs.clone() };
            run(objective, ByLbfgs { lbfgs, h0 }, start, watch)
        }
        Search::EuclideanLbfgs(lbfgs) => {
            let lbfgs = Lbfgs { max_iterations, ..lbfgs.clone() };
            run(objective, ByLbfgs { lbfgs, h0: Euclidean }, start, watch)
        }
        Search::Adam(adam) => {
            let adam = Adam { max_iterations, ..adam.clone() };
            run(objective, adam, start, watch)
        }
    }
}

/// Minimises the energy by one optimiser.
fn run<S: Shooting<T, D>, T: Real, const D: usize, A>(
    objective: &mut PairObjective<S, T, D>,
    mut optimiser: A,
    start: Start<Controls<T, D, S::Weights>>,
    watch: &mut impl Watch<Controls<T, D, S::Weights>>,
) -> Result<Found<Controls<T, D, S::Weights>>>
where
    A: Minimiser<T, Controls<T, D, S::Weights>>,
{
    let begin = Instant::now();
    let (mut at_start, earlier) = match &start {
        Start::At(_) => (None, 0.0),
        Start::State(state) => (Some(state.first.clone()), state.seconds),
    };
    // The observer needs the objective's diagnostics while the optimiser holds it.
    let shared = RefCell::new(objective);
    let mut evaluate = Shared(&shared);
    let mut report = |state: &A::State| {
        let at = A::at(state);
        let diagnostics = shared.borrow_mut().diagnostics(at.value);
        let first = at_start.get_or_insert_with(|| diagnostics.clone()).clone();
        let progress = Progress {
            level: 0,
            levels: 0,
            iteration: at.iteration,
            evaluations: at.evaluations,
            gradient_norm: at.gradient_norm,
            diagnostics,
            seconds: 0.0,
        };
        let seconds = earlier + begin.elapsed().as_secs_f64();
        watch(progress, &|| shared.borrow().state(A::stored(state), first.clone(), seconds))
    };
    let (state, go_on) = match start {
        Start::At(controls) => {
            let state = optimiser.start(&mut evaluate, controls)?;
            let go_on = report(&state);
            (state, go_on)
        }
        Start::State(level) => (A::restored(level.optimiser)?, ControlFlow::Continue(())),
    };
    let Outcome { state, stop } = match go_on {
        ControlFlow::Continue(()) => optimiser.resume(&mut evaluate, state, report),
        ControlFlow::Break(()) => Outcome { state, stop: Stop::Observer },
    };
    let At { best, best_value, iteration: iterations, evaluations, .. } = A::at(&state);
    let last = shared.borrow_mut().diagnostics(best_value);
    let first = at_start.unwrap_or_else(|| last.clone());
    let controls = best.clone();
    Ok(Found { controls, first, last, iterations, evaluations, stop, earlier })
}

/// Where an optimiser stands.
struct At<'a, C> {
    best: &'a C,
    best_value: f64,
    /// The value of the last iteration.
    value: f64,
    iteration: usize,
    evaluations: usize,
    /// Relative to the start.
    gradient_norm: f64,
}

/// An optimiser with its settings.
trait Minimiser<T: Real, C: StateSpace<T>> {
    type State;

    /// The state at `control`, by one evaluation.
    fn start(
        &mut self,
        objective: &mut impl Objective<T, Control = C>,
        control: C,
    ) -> Result<Self::State>;

    /// Goes on until there is nothing more to do or `report` says so.
    fn resume(
        &mut self,
        objective: &mut impl Objective<T, Control = C>,
        state: Self::State,
        report: impl FnMut(&Self::State) -> ControlFlow<()>,
    ) -> Outcome<Self::State>;

    fn at(state: &Self::State) -> At<'_, C>;

    fn stored(state: &Self::State) -> Optimiser<C>;

    fn restored(stored: Optimiser<C>) -> Result<Self::State>;
}

/// A norm relative to the first; 0 where that is 0.
fn relative(norm: f64, first: f64) -> f64 {
    if first > 0.0 { norm / first } else { 0.0 }
}

fn other_optimiser() -> Error {
    let expected = "one of the optimiser that the settings name";
    Error::setting("checkpoint", expected, "one of another")
}

struct ByLbfgs<H> {
    lbfgs: Lbfgs,
    h0: H,
}

impl<T: Real, C: StateSpace<T>, H: InitialInverseHessian<T, C>> Minimiser<T, C> for ByLbfgs<H> {
    type State = LbfgsState<C>;

    fn start(
        &mut self,
        objective: &mut impl Objective<T, Control = C>,
        control: C,
    ) -> Result<Self::State> {
        self.lbfgs.start(objective, &mut self.h0, control)
    }

    fn resume(
        &mut self,
        objective: &mut impl Objective<T, Control = C>,
        state: Self::State,
        report: impl FnMut(&Self::State) -> ControlFlow<()>,
    ) -> Outcome<Self::State> {
        self.lbfgs.resume(objective, &mut self.h0, state, report)
    }

    fn at(state: &Self::State) -> At<'_, C> {
        At {
            best: state.best(),
            best_value: state.best_value(),
            value: state.value(),
            iteration: state.iteration(),
            evaluations: state.evaluations(),
            gradient_norm: relative(state.gradient_norm(), state.first_gradient_norm()),
        }
    }

    fn stored(state: &Self::State) -> Optimiser<C> {
        Optimiser::Lbfgs(state.clone())
    }

    fn restored(stored: Optimiser<C>) -> Result<Self::State> {
        match stored {
            Optimiser::Lbfgs(state) => Ok(state),
            Optimiser::Adam(_) => Err(other_optimiser()),
        }
    }
}

impl<T: Real, C: Componentwise<T>> Minimiser<T, C> for Adam {
    type State = AdamState<C>;

    fn start(
        &mut self,
        objective: &mut impl Objective<T, Control = C>,
        control: C,
    ) -> Result<Self::State> {
        Adam::start(self, objective, control)
    }

    fn resume(
        &mut self,
        objective: &mut impl Objective<T, Control = C>,
        state: Self::State,
        report: impl FnMut(&Self::State) -> ControlFlow<()>,
    ) -> Outcome<Self::State> {
        Adam::resume(self, objective, state, report)
    }

    fn at(state: &Self::State) -> At<'_, C> {
        At {
            best: state.best(),
            best_value: state.best_value(),
            value: state.value(),
            iteration: state.iteration(),
            evaluations: state.evaluations(),
            gradient_norm: relative(state.gradient_norm(), state.first_gradient_norm()),
        }
    }

    fn stored(state: &Self::State) -> Optimiser<C> {
        Optimiser::Adam(state.clone())
    }

    fn restored(stored: Optimiser<C>) -> Result<Self::State> {
        match stored {
            Optimiser::Adam(state) => Ok(state),
            Optimiser::Lbfgs(_) => Err(other_optimiser()),
        }
    }
}

/// An objective that an optimiser and its observer both reach.
struct Shared<'a, 'b, O>(&'a RefCell<&'b mut O>);

impl<T: Real, O: Objective<T>> Objective<T> for Shared<'_, '_, O> {
    type Control = O::Control;

    fn evaluate(&mut self, control: &O::Control, gradient: &mut O::Control) -> Result<f64> {
        self.0.borrow_mut().evaluate(control, gradient)
    }
}
