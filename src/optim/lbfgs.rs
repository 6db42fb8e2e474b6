//! Limited-memory BFGS.

mod history;
mod state;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::ops::ControlFlow;

use self::history::{End, History};
pub use self::state::LbfgsState;
use self::state::{Buffers, Work};
use crate::error::{Error, Result};
use crate::optim::{
    InitialInverseHessian, LineSearch, Objective, Outcome, Step, Stop, count, evaluate,
    evaluate_start, remember, stagnates, tolerance,
};
use crate::scalar::Real;
use crate::space::StateSpace;

/// Settings of limited-memory BFGS with an operator H̃₀ as the shape of its initial inverse Hessian.
///
/// From the last m pairs s = xₖ₊₁ − xₖ, y = gₖ₊₁ − gₖ the two-loop recursion forms
///
/// - d = −H g, H the BFGS update of H₀ = γ H̃₀ by the pairs, γ = sᵀy / yᵀH̃₀y of the last one,
/// - xₖ₊₁ = xₖ + α d, α by [`LineSearch`], first trial α = 1.
///
/// Without pairs d = −H̃₀ g, and the first trial is `first_decrease` · |f| / |gᵀd|, which does not
/// depend on the units of f, x or H̃₀ (after a restart f is the decrease of the last iteration).
///
/// **Cautious update.** A pair is kept only where sᵀy > ε κ ‖s‖² ‖gₖ‖ / ‖g₀‖, with κ the largest
/// sᵀy / ‖s‖² so far, which makes ε a pure number, and ‖·‖ of gradients as below.
///
/// **Stop.** Where √(gᵀH̃₀g) is at most `gradient_tolerance` times its first value; where f decreased
/// by at most `value_tolerance` · |f| over the last `value_window` iterations; at the limits. A line
/// search that fails drops the memory and is repeated once along −H̃₀ g before the optimisation stops.
///
/// # Requirements
/// f continuously differentiable where it is finite and bounded below, its gradient exact to
/// rounding. H̃₀ linear, symmetric, positive definite and the same for all iterations.
///
/// # Cost
/// One evaluation in most iterations, two applications of H̃₀ and about 4m + 15 passes over the
/// control, for m pairs; 2m + 9 vectors. Nothing is allocated once m pairs are held.
///
/// # References
/// - J. Nocedal, Updating quasi-Newton matrices with limited storage, Math. Comp. 35 (1980)
///   773–782. <https://doi.org/10.1090/S0025-5718-1980-0572855-7>
/// - D. C. Liu and J. Nocedal, On the limited memory BFGS method for large scale optimization,
///   Math. Program. 45 (1989) 503–528. <https://doi.org/10.1007/BF01589116>
/// - D.-H. Li and M. Fukushima, On the global convergence of the BFGS method for nonconvex
///   unconstrained optimization problems, SIAM J. Optim. 11 (2001) 1054–1064.
///   <https://doi.org/10.1137/S1052623499354242>
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct Lbfgs {
    /// Pairs that are kept, m.
    pub memory: usize,
    /// Most iterations, those before a resumption included.
    pub max_iterations: usize,
    /// Most evaluations, the first and failed ones and those before a resumption included.
    pub max_evaluations: usize,
    /// Size of √(gᵀH̃₀g), relative to the first, that is small enough.
    pub gradient_tolerance: f64,
    /// Relative decrease of the value over the window that is too little.
    pub value_tolerance: f64,
    /// Length of the window, in iterations.
    pub value_window: usize,
    /// The first step without pairs: the relative decrease that it would bring were f linear.
    pub first_decrease: f64,
    /// ε of the cautious update.
    pub curvature_threshold: f64,
    /// The line search.
    pub line_search: LineSearch,
}

impl Default for Lbfgs {
    /// Ten pairs, 200 iterations, 500 evaluations; tolerances 10⁻⁵ of the gradient and 10⁻⁶ of the
    /// value over 5 iterations; a first step of half the value; ε = 10⁻¹².
    fn default() -> Self {
        Self {
            memory: 10,
            max_iterations: 200,
            max_evaluations: 500,
            gradient_tolerance: 1e-5,
            value_tolerance: 1e-6,
            value_window: 5,
            first_decrease: 0.5,
            curvature_threshold: 1e-12,
            line_search: LineSearch::default(),
        }
    }
}

with!(Lbfgs {
    with_memory: memory: usize,
    with_max_iterations: max_iterations: usize,
    with_max_evaluations: max_evaluations: usize,
    with_gradient_tolerance: gradient_tolerance: f64,
    with_value_tolerance: value_tolerance: f64,
    with_value_window: value_window: usize,
    with_first_decrease: first_decrease: f64,
    with_curvature_threshold: curvature_threshold: f64,
    with_line_search: line_search: LineSearch,
});

/// How a line search of an iteration ended.
enum Search {
    /// At the last trial.
    Last,
    /// At the lowest trial.
    Lowest,
    /// Without a step.
    None,
    /// By an error.
    Failed(Error),
}

impl Lbfgs {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Setting`] with the first that is out of its range.
    pub fn validate(&self) -> Result<()> {
        count("L-BFGS memory", self.memory)?;
        count("L-BFGS max_evaluations", self.max_evaluations)?;
        count("L-BFGS value_window", self.value_window)?;
        tolerance("L-BFGS gradient_tolerance", self.gradient_tolerance)?;
        tolerance("L-BFGS value_tolerance", self.value_tolerance)?;
        crate::error::positive("L-BFGS first_decrease", self.first_decrease)?;
        tolerance("L-BFGS curvature_threshold", self.curvature_threshold)?;
        self.line_search.validate()
    }

    /// Minimises from `control`. After every iteration `observer` sees the state and may stop.
    ///
    /// # Errors
    /// Settings out of range, an error of the first evaluation, [`Error::Start`] where the objective
    /// is not finite there, and [`Error::Setting`] where H̃₀ is not positive there. Later errors come
    /// as [`Stop::Failed`] with the best point.
    ///
    /// ```
    /// use std::ops::ControlFlow;
    /// use rdmm_core::optim::{InitialInverseHessian, Lbfgs, Objective};
    ///
    /// /// f(x) = ½ Σ hᵢ xᵢ².
    /// struct Quadratic([f64; 3]);
    /// impl Objective<f64> for Quadratic {
    ///     type Control = Vec<f64>;
    ///     fn evaluate(&mut self, x: &Vec<f64>, g: &mut Vec<f64>) -> rdmm_core::Result<f64> {
    ///         for i in 0..3 {
    ///             g[i] = self.0[i] * x[i];
    ///         }
    ///         Ok((0..3).map(|i| 0.5 * g[i] * x[i]).sum())
    ///     }
    /// }
    ///
    /// /// H̃₀ = h⁻¹ up to a factor.
    /// struct Inverse([f64; 3]);
    /// impl InitialInverseHessian<f64, Vec<f64>> for Inverse {
    ///     fn apply(&mut self, gradient: &Vec<f64>, direction: &mut Vec<f64>) {
    ///         for i in 0..3 {
    ///             direction[i] = 1e-3 * gradient[i] / self.0[i];
    ///         }
    ///     }
    /// }
    ///
    /// let h = [1.0, 1e3, 1e6];
    /// let observer = |_: &_| ControlFlow::Continue(());
    /// let start = vec![1.0, 1.0, 1.0];
    /// let outcome = Lbfgs::default().minimize(&mut Quadratic(h), &mut Inverse(h), start, observer)?;
    /// assert!(outcome.stop.is_converged());
    /// assert!(outcome.state.iteration() <= 3); // one to find γ, one to arrive
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    pub fn minimize<T: Real, O: Objective<T>, H: InitialInverseHessian<T, O::Control>>(
        &self,
        objective: &mut O,
        h0: &mut H,
        control: O::Control,
        observer: impl FnMut(&LbfgsState<O::Control>) -> ControlFlow<()>,
    ) -> Result<Outcome<LbfgsState<O::Control>>> {
        let state = self.start(objective, h0, control)?;
        Ok(self.resume(objective, h0, state, observer))
    }

    /// Continues from a state. The limits count from its start. A stored state whose vectors have
    /// different shapes ends at once with [`Stop::Failed`]; whether they fit the objective, the objective
    /// says.
    pub fn resume<T: Real, O: Objective<T>, H: InitialInverseHessian<T, O::Control>>(
        &self,
        objective: &mut O,
        h0: &mut H,
        mut state: LbfgsState<O::Control>,
        mut observer: impl FnMut(&LbfgsState<O::Control>) -> ControlFlow<()>,
    ) -> Outcome<LbfgsState<O::Control>> {
        loop {
            if let Some(stop) = self.step(objective, h0, &mut state) {
                return Outcome { state, stop };
            }
            if observer(&state).is_break() {
                let stop = Stop::Observer;
                return Outcome { state, stop };
            }
        }
    }

    /// The state at `control`, by one evaluation.
    ///
    /// # Errors
    /// As [`Lbfgs::minimize`].
    pub fn start<T: Real, O: Objective<T>, H: InitialInverseHessian<T, O::Control>>(
        &self,
        objective: &mut O,
        h0: &mut H,
        control: O::Control,
    ) -> Result<LbfgsState<O::Control>> {
        self.validate()?;
        let mut gradient = control.zeros_like();
        let value = evaluate_start(objective, &control, &mut gradient)?;
        let mut preconditioned_gradient = control.zeros_like();
        h0.apply(&gradient, &mut preconditioned_gradient);
        let gradient_norm = norm_in(&gradient, &preconditioned_gradient)?;
        Ok(LbfgsState {
            control,
            gradient,
            preconditioned_gradient,
            value,
            first_value: value,
            gradient_norm,
            first_gradient_norm: gradient_norm,
            history: History::new(),
            values: VecDeque::from([value]),
            iteration: 0,
            evaluations: 1,
            work: Work::default(),
        })
    }

    /// One iteration. Returns why there is nothing more to do, or `None` where there is. The state is
    /// valid and its value not higher than before in every case, errors included.
    pub fn step<T: Real, O: Objective<T>, H: InitialInverseHessian<T, O::Control>>(
        &self,
        objective: &mut O,
        h0: &mut H,
        state: &mut LbfgsState<O::Control>,
    ) -> Option<Stop> {
        if let Err(error) = self.validate().and_then(|()| state.expect_whole()) {
            return Some(Stop::Failed(error));
        }
        let limit = self.limit(state);
        if limit.is_some() {
            return limit;
        }
        let mut work = match state.work.0.take() {
            Some(work) => work,
            None => Buffers::new(&state.control),
        };
        let stop = self.iterate(objective, h0, state, &mut work);
        state.work.0 = Some(work);
        stop
    }

    fn limit<C>(&self, state: &LbfgsState<C>) -> Option<Stop> {
        if state.gradient_norm <= self.gradient_tolerance * state.first_gradient_norm {
            Some(Stop::Gradient)
        } else if stagnates(&state.values, self.value_window, self.value_tolerance) {
            Some(Stop::Value)
        } else if state.iteration >= self.max_iterations {
            Some(Stop::MaxIterations)
        } else if state.evaluations >= self.max_evaluations {
            Some(Stop::MaxEvaluations)
        } else {
            None
        }
    }

    fn iterate<T: Real, O: Objective<T>, H: InitialInverseHessian<T, O::Control>>(
        &self,
        objective: &mut O,
        h0: &mut H,
        state: &mut LbfgsState<O::Control>,
        work: &mut Buffers<O::Control>,
    ) -> Option<Stop> {
        state.history.shorten(self.memory, &mut work.spare);
        work.lowest.value = f64::INFINITY;
        let stop = loop {
            let restarted = state.history.is_empty();
            let Buffers { direction, scratch, coefficients, .. } = &mut *work;
            state.history.two_loop_direction(h0, &state.end(), direction, scratch, coefficients);
            match self.line_search(objective, state, work) {
                Search::Last => break None,
                Search::Lowest => {
                    std::mem::swap(&mut work.trial, &mut work.lowest);
                    break None;
                }
                Search::Failed(error) => break Some(Stop::Failed(error)),
                Search::None if state.evaluations >= self.max_evaluations => {
                    break Some(Stop::MaxEvaluations);
                }
                Search::None if restarted => break Some(Stop::LineSearch),
                Search::None => state.history.shorten(0, &mut work.spare),
            }
        };
        if stop.is_some() {
            // Keep what was reached.
            if work.lowest.value >= state.value {
                return stop;
            }
            std::mem::swap(&mut work.trial, &mut work.lowest);
        }
        match self.accept(h0, state, work) {
            Ok(()) => stop,
            Err(error) => Some(Stop::Failed(error)),
        }
    }

    /// Searches along `work.direction`.
    fn line_search<T: Real, O: Objective<T>>(
        &self,
        objective: &mut O,
        state: &mut LbfgsState<O::Control>,
        work: &mut Buffers<O::Control>,
    ) -> Search {
        let LbfgsState { control, gradient, value, values, history, evaluations, .. } = state;
        let Buffers { direction, trial, lowest, .. } = work;
        let slope = gradient.dot(direction);
        if !(slope.is_finite() && slope < 0.0) {
            return Search::None;
        }
        let first = if history.is_empty() {
            // The decrease of the last iteration, once there is one.
            let decrease = match (values.iter().nth_back(1), values.back()) {
                (Some(before), Some(now)) if before > now => before - now,
                _ => self.first_decrease * value.abs(),
            };
            if decrease > 0.0 { decrease / slope.abs() } else { 1.0 }
        } else {
            1.0
        };
        let settings = LineSearch {
            max_evaluations: (self.max_evaluations - *evaluations)
                .min(self.line_search.max_evaluations),
            ..self.line_search
        };
        let mut last_is_lowest = false;
        let step = settings.search(*value, slope, first, ROUNDING * T::epsilon().f64(), |step| {
            let alpha = T::of(step);
            if !alpha.is_finite() {
                return Ok(None);
            }
            // x + α d
            trial.control.copy_from(control);
            trial.control.axpy(alpha, direction);
            *evaluations += 1;
            last_is_lowest = false;
            let Some(value) = evaluate(objective, &trial.control, &mut trial.gradient)? else {
                return Ok(None);
            };
            let slope = trial.gradient.dot(direction);
            if !slope.is_finite() {
                return Ok(None);
            }
            trial.value = value;
            if value < lowest.value {
                std::mem::swap(trial, lowest);
                last_is_lowest = true;
            }
            Ok(Some((value, slope)))
        });
        match step {
            Ok(Step::Wolfe(_)) if !last_is_lowest => Search::Last,
            Ok(Step::Wolfe(_) | Step::Decrease(_)) => Search::Lowest,
            Ok(Step::None) => Search::None,
            Err(error) => Search::Failed(error),
        }
    }

    /// Moves the state to `work.trial` and keeps the pair.
    fn accept<T: Real, C: StateSpace<T>, H: InitialInverseHessian<T, C>>(
        &self,
        h0: &mut H,
        state: &mut LbfgsState<C>,
        work: &mut Buffers<C>,
    ) -> Result<()> {
        let Buffers { trial, scratch: preconditioned, spare, .. } = work;
        // H̃₀ gₖ₊₁
        h0.apply(&trial.gradient, preconditioned);
        let mut pair = state.history.recycled(self.memory, spare, &state.control);
        let (control, gradient) = (&trial.control, &trial.gradient);
        let after = End { control, gradient, preconditioned_gradient: preconditioned };
        pair.set(&state.end(), &after);
        let size = state.gradient_norm / state.first_gradient_norm;
        state.history.push_cautious(pair, self.curvature_threshold, size, spare);

        let norm = norm_in(&trial.gradient, preconditioned);
        std::mem::swap(&mut state.control, &mut trial.control);
        std::mem::swap(&mut state.gradient, &mut trial.gradient);
        std::mem::swap(&mut state.preconditioned_gradient, preconditioned);
        state.value = trial.value;
        remember(&mut state.values, state.value, self.value_window);
        state.iteration += 1;
        state.gradient_norm = norm?;
        Ok(())
    }
}

/// Values that differ by this many units of rounding are level: they are sums of many terms.
const ROUNDING: f64 = 64.0;

/// √(gᵀH̃₀g) from g and H̃₀g.
fn norm_in<T: Real, C: StateSpace<T>>(gradient: &C, preconditioned: &C) -> Result<f64> {
    let square = gradient.dot(preconditioned);
    let positive = square > 0.0 && square.is_finite();
    if positive || gradient.max_abs() <= 0.0 {
        Ok(square.sqrt())
    } else {
        Err(Error::setting(
            "initial inverse Hessian",
            "a symmetric positive definite operator, gᵀH̃₀g > 0",
            format!("gᵀH̃₀g = {square}"),
        ))
    }
}
