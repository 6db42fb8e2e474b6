//! Adam.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use crate::error::{Error, Result, positive};
use crate::optim::{
    Objective, Outcome, Stop, count, evaluate, evaluate_start, remember, stagnates, tolerance,
};
use crate::scalar::Real;
use crate::space::{Componentwise, StateSpace};

/// Settings of Adam, gradient steps scaled coordinate by coordinate.
///
/// In iteration t = 1, 2, … with the gradient g, all products and roots coordinate by coordinate:
///
/// - m ← β₁ m + (1 − β₁) g,
/// - v ← β₂ v + (1 − β₂) g²,
/// - x ← x − η (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε).
///
/// **Units.** A coordinate moves by at most about η in one iteration, whatever the size of the
/// gradient: the learning rate η is in units of the control, a displacement's in physical units. ε is
/// in units of the gradient and must be small against its typical entries, which for a field are
/// often small themselves as they are derivatives by single voxels.
///
/// **Failures.** Where the new point has an infinitely high value or a recoverable error, the step is
/// halved and tried again until it succeeds, at most 30 times; the next iteration starts from the
/// full η.
///
/// **Stop.** Where ‖g‖₂ is at most `gradient_tolerance` times its first value; where the lowest value
/// decreased by at most `value_tolerance` · |f| over the last `value_window` iterations; at the
/// limits. Values may increase, so the state keeps the lowest point.
///
/// # Requirements
/// f differentiable; its gradient may be noisy. The steps depend on the coordinates: there is no
/// operator H̃₀ here.
///
/// # Cost
/// One evaluation and about ten passes over the control an iteration; eight vectors. Nothing is
/// allocated after the first iteration.
///
/// # References
/// - D. P. Kingma and J. Ba, Adam: a method for stochastic optimization, ICLR 2015.
///   <https://doi.org/10.48550/arXiv.1412.6980>
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct Adam {
    /// η, in units of the control.
    pub learning_rate: f64,
    /// β₁, the decay of the first moment, in [0, 1).
    pub beta1: f64,
    /// β₂, the decay of the second moment, in [0, 1).
    pub beta2: f64,
    /// ε, in units of the gradient.
    pub epsilon: f64,
    /// Most iterations, those before a resumption included.
    pub max_iterations: usize,
    /// Most evaluations, the first and failed ones and those before a resumption included.
    pub max_evaluations: usize,
    /// Size of ‖g‖₂, relative to the first, that is small enough.
    pub gradient_tolerance: f64,
    /// Relative decrease of the lowest value over the window that is too little.
    pub value_tolerance: f64,
    /// Length of the window, in iterations.
    pub value_window: usize,
}

impl Default for Adam {
    /// η = 10⁻², β₁ = 0.9, β₂ = 0.999, ε = 10⁻⁸, 500 iterations, 1000 evaluations; tolerances 10⁻⁵
    /// of the gradient and 10⁻⁶ of the lowest value over 50 iterations.
    fn default() -> Self {
        Self {
            learning_rate: 1e-2,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            max_iterations: 500,
            max_evaluations: 1000,
            gradient_tolerance: 1e-5,
            value_tolerance: 1e-6,
            value_window: 50,
        }
    }
}

with!(Adam {
    with_learning_rate: learning_rate: f64,
    with_beta1: beta1: f64,
    with_beta2: beta2: f64,
    with_epsilon: epsilon: f64,
    with_max_iterations: max_iterations: usize,
    with_max_evaluations: max_evaluations: usize,
    with_gradient_tolerance: gradient_tolerance: f64,
    with_value_tolerance: value_tolerance: f64,
    with_value_window: value_window: usize,
});

/// Halvings of one step.
const HALVINGS: usize = 30;

/// Work vectors. They are made when first needed, are not copied with a state and are not stored;
/// no result depends on what they hold.
#[derive(Debug)]
struct Work<C>(Option<Buffers<C>>);

#[derive(Debug)]
struct Buffers<C> {
    direction: C,
    control: C,
    gradient: C,
}

impl<C> Default for Work<C> {
    fn default() -> Self {
        Self(None)
    }
}

impl<C> Clone for Work<C> {
    fn clone(&self) -> Self {
        Self(None)
    }
}

/// Everything that the next iteration of [`Adam`] depends on.
///
/// It can be cloned and stored (feature `serde`); [`Adam::resume`] with the same settings and
/// objective then gives the same bits as never having stopped, unless the evaluations ran out while
/// a step was halved.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(bound(deserialize = "C: serde::Deserialize<'de>")))]
pub struct AdamState<C> {
    control: C,
    gradient: C,
    first_moment: C,
    second_moment: C,
    value: f64,
    first_value: f64,
    gradient_norm: f64,
    first_gradient_norm: f64,
    best: C,
    best_value: f64,
    best_values: VecDeque<f64>,
    iteration: usize,
    evaluations: usize,
    #[cfg_attr(feature = "serde", serde(skip))]
    work: Work<C>,
}

impl<C> AdamState<C> {
    /// The control with the lowest value so far.
    #[must_use]
    pub fn best(&self) -> &C {
        &self.best
    }

    /// The lowest value so far.
    #[must_use]
    pub fn best_value(&self) -> f64 {
        self.best_value
    }

    /// The best control itself, the rest of the state dropped.
    #[must_use]
    pub fn into_best(self) -> C {
        self.best
    }

    /// The current control.
    #[must_use]
    pub fn control(&self) -> &C {
        &self.control
    }

    /// The objective at the current control.
    #[must_use]
    pub fn value(&self) -> f64 {
        self.value
    }

    /// The objective at the starting point.
    #[must_use]
    pub fn first_value(&self) -> f64 {
        self.first_value
    }

    /// The gradient at the current control.
    #[must_use]
    pub fn gradient(&self) -> &C {
        &self.gradient
    }

    /// ‖g‖₂ at the current control.
    #[must_use]
    pub fn gradient_norm(&self) -> f64 {
        self.gradient_norm
    }

    /// ‖g‖₂ at the starting point.
    #[must_use]
    pub fn first_gradient_norm(&self) -> f64 {
        self.first_gradient_norm
    }

    /// The moments m and v.
    #[must_use]
    pub fn moments(&self) -> (&C, &C) {
        (&self.first_moment, &self.second_moment)
    }

    /// Iterations so far.
    #[must_use]
    pub fn iteration(&self) -> usize {
        self.iteration
    }

    /// Evaluations so far, failed ones included.
    #[must_use]
    pub fn evaluations(&self) -> usize {
        self.evaluations
    }
}

impl<C> AdamState<C> {
    /// `Ok` if all vectors have the shape of the control: a stored state could be damaged.
    fn expect_whole<T: Real>(&self) -> Result<()>
    where
        C: Componentwise<T>,
    {
        let moments = [&self.first_moment, &self.second_moment];
        let vectors = moments.into_iter().chain([&self.gradient, &self.best]);
        vectors.into_iter().try_for_each(|vector| self.control.expect_like(vector))
    }
}

impl Adam {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Setting`] with the first that is out of its range.
    pub fn validate(&self) -> Result<()> {
        positive("Adam learning_rate", self.learning_rate)?;
        for (name, beta) in [("Adam beta1", self.beta1), ("Adam beta2", self.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return Err(Error::setting(name, "a number in [0, 1)", beta));
            }
        }
        positive("Adam epsilon", self.epsilon)?;
        count("Adam max_evaluations", self.max_evaluations)?;
        count("Adam value_window", self.value_window)?;
        tolerance("Adam gradient_tolerance", self.gradient_tolerance)?;
        tolerance("Adam value_tolerance", self.value_tolerance)
    }

    /// Minimises from `control`. After every iteration `observer` sees the state and may stop.
    ///
    /// # Errors
    /// Settings out of range, an error of the first evaluation, and [`Error::Start`] where the
    /// objective is not finite there. Later errors come as [`Stop::Failed`] with the best point.
    ///
    /// ```
    /// use std::ops::ControlFlow;
    /// use rdmm_core::optim::{Adam, Objective};
    ///
    /// /// f(x) = ½ (x − 3)².
    /// struct Parabola;
    /// impl Objective<f64> for Parabola {
    ///     type Control = Vec<f64>;
    ///     fn evaluate(&mut self, x: &Vec<f64>, g: &mut Vec<f64>) -> rdmm_core::Result<f64> {
    ///         g[0] = x[0] - 3.0;
    ///         Ok(0.5 * g[0] * g[0])
    ///     }
    /// }
    ///
    /// let adam = Adam::default().with_learning_rate(0.1);
    /// let observer = |_: &_| ControlFlow::Continue(());
    /// let outcome = adam.minimize(&mut Parabola, vec![0.0], observer)?;
    /// assert!((outcome.state.best()[0] - 3.0).abs() < 1e-2);
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    pub fn minimize<T: Real, O: Objective<T, Control: Componentwise<T>>>(
        &self,
        objective: &mut O,
        control: O::Control,
        observer: impl FnMut(&AdamState<O::Control>) -> ControlFlow<()>,
    ) -> Result<Outcome<AdamState<O::Control>>> {
        let state = self.start(objective, control)?;
        Ok(self.resume(objective, state, observer))
    }

    /// Continues from a state. The limits count from its start. A stored state whose vectors have
    /// different shapes ends at once with [`Stop::Failed`]; whether they fit the objective, the objective
    /// says.
    pub fn resume<T: Real, O: Objective<T, Control: Componentwise<T>>>(
        &self,
        objective: &mut O,
        mut state: AdamState<O::Control>,
        mut observer: impl FnMut(&AdamState<O::Control>) -> ControlFlow<()>,
    ) -> Outcome<AdamState<O::Control>> {
        loop {
            if let Some(stop) = self.step(objective, &mut state) {
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
    /// As [`Adam::minimize`].
    pub fn start<T: Real, O: Objective<T, Control: Componentwise<T>>>(
        &self,
        objective: &mut O,
        control: O::Control,
    ) -> Result<AdamState<O::Control>> {
        self.validate()?;
        let mut gradient = control.zeros_like();
        let value = evaluate_start(objective, &control, &mut gradient)?;
        let gradient_norm = gradient.norm();
        Ok(AdamState {
            first_moment: control.zeros_like(),
            second_moment: control.zeros_like(),
            value,
            first_value: value,
            gradient_norm,
            first_gradient_norm: gradient_norm,
            best: control.clone(),
            best_value: value,
            best_values: VecDeque::from([value]),
            iteration: 0,
            evaluations: 1,
            work: Work(None),
            control,
            gradient,
        })
    }

    /// One iteration. Returns why there is nothing more to do, or `None` where there is.
    pub fn step<T: Real, O: Objective<T, Control: Componentwise<T>>>(
        &self,
        objective: &mut O,
        state: &mut AdamState<O::Control>,
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
            None => Buffers {
                direction: state.control.clone(),
                control: state.control.clone(),
                gradient: state.control.clone(),
            },
        };
        let stop = self.iterate(objective, state, &mut work);
        state.work.0 = Some(work);
        stop
    }

    fn limit<C>(&self, state: &AdamState<C>) -> Option<Stop> {
        if state.gradient_norm <= self.gradient_tolerance * state.first_gradient_norm {
            Some(Stop::Gradient)
        } else if stagnates(&state.best_values, self.value_window, self.value_tolerance) {
            Some(Stop::Value)
        } else if state.iteration >= self.max_iterations {
            Some(Stop::MaxIterations)
        } else if state.evaluations >= self.max_evaluations {
            Some(Stop::MaxEvaluations)
        } else {
            None
        }
    }

    fn iterate<T: Real, O: Objective<T, Control: Componentwise<T>>>(
        &self,
        objective: &mut O,
        state: &mut AdamState<O::Control>,
        work: &mut Buffers<O::Control>,
    ) -> Option<Stop> {
        self.direction(state, &mut work.direction);
        let mut rate = self.learning_rate;
        let mut value = None;
        for _ in 0..=HALVINGS {
            if state.evaluations >= self.max_evaluations {
                return Some(Stop::MaxEvaluations);
            }
            // x − η d
            work.control.copy_from(&state.control);
            work.control.axpy(T::of(-rate), &work.direction);
            state.evaluations += 1;
            match evaluate(objective, &work.control, &mut work.gradient) {
                Ok(None) => rate *= 0.5,
                Ok(found) => {
                    value = found;
                    break;
                }
                Err(error) => return Some(Stop::Failed(error)),
            }
        }
        let Some(value) = value else {
            return Some(Stop::LineSearch);
        };
        std::mem::swap(&mut state.control, &mut work.control);
        std::mem::swap(&mut state.gradient, &mut work.gradient);
        state.value = value;
        state.gradient_norm = state.gradient.norm();
        if value < state.best_value {
            state.best_value = value;
            state.best.copy_from(&state.control);
        }
        remember(&mut state.best_values, state.best_value, self.value_window);
        state.iteration += 1;
        None
    }

    /// Updates the moments; `direction ← m̂ / (√v̂ + ε)`.
    fn direction<T: Real, C: Componentwise<T>>(&self, state: &mut AdamState<C>, direction: &mut C) {
        let t = (state.iteration + 1) as f64;
        let (b1, c1) = (T::of(self.beta1), T::of(1.0 - self.beta1));
        let (b2, c2) = (T::of(self.beta2), T::of(1.0 - self.beta2));
        let unbias1 = T::of(1.0 / (1.0 - self.beta1.powf(t)));
        let unbias2 = T::of(1.0 / (1.0 - self.beta2.powf(t)));
        let epsilon = T::of(self.epsilon);
        let (m, v, g) = (&mut state.first_moment, &mut state.second_moment, &state.gradient);
        m.combine(g, |m, g| b1 * m + c1 * g);
        v.combine(g, |v, g| b2 * v + c2 * g * g);
        direction.copy_from(m);
        direction.combine(v, |m, v| m * unbias1 / ((v * unbias2).sqrt() + epsilon));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::Image;
    use crate::grid::Grid;
    use crate::optim::problems::{Barrier, Quadratic, Rosenbrock, diverged};

    fn go<S>(_: &S) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    #[test]
    fn the_steps_are_those_of_the_scalar_recurrence() {
        let h = [1.0, 30.0, 0.02];
        let (beta1, beta2, rate, epsilon) = (0.8, 0.95, 0.05, 1e-6);
        let adam = Adam { learning_rate: rate, beta1, beta2, epsilon, ..Adam::default() };
        let mut problem = Quadratic { h: h.to_vec(), offset: 0.0 };
        let mut x = [1.0, -2.0, 3.0];
        let (mut m, mut v) = ([0.0; 3], [0.0; 3]);
        let mut state = adam.start(&mut problem, x.to_vec()).unwrap();
        for t in 1..=25 {
            assert_eq!(adam.step(&mut problem, &mut state), None);
            for i in 0..3 {
                let g = h[i] * x[i];
                m[i] = beta1 * m[i] + (1.0 - beta1) * g;
                v[i] = beta2 * v[i] + (1.0 - beta2) * g * g;
                let m_hat: f64 = m[i] / (1.0 - beta1.powi(t));
                let v_hat: f64 = v[i] / (1.0 - beta2.powi(t));
                x[i] -= rate * m_hat / (v_hat.sqrt() + epsilon);
                // The same operations but for the order of products: some units of rounding a step.
                assert!((state.control()[i] - x[i]).abs() <= 1e-13, "step {t}, coordinate {i}");
            }
        }
    }

    #[test]
    fn a_quadratic_is_minimised() {
        let mut problem = Quadratic::graded(10, 1e4);
        let adam = Adam {
            learning_rate: 0.02,
            max_iterations: 2000,
            max_evaluations: 3000,
            ..Adam::default()
        };
        let outcome = adam.minimize(&mut problem, vec![1.0; 10], go).unwrap();
        // Adam with a constant rate η circles the minimum at a distance of the order of η.
        assert!(outcome.state.best().iter().all(|x| x.abs() < 0.02));
        assert!(outcome.state.best_value() < 1e-4 * outcome.state.first_value());
    }

    #[test]
    fn the_best_point_is_kept() {
        let adam = Adam { learning_rate: 0.3, max_iterations: 60, ..Adam::default() };
        let mut problem = Rosenbrock::default();
        let mut increased = false;
        let mut before = f64::INFINITY;
        let outcome = adam
            .minimize(&mut problem, vec![-1.2_f64, 1.0], |state| {
                increased |= state.value() > before;
                before = state.value();
                ControlFlow::Continue(())
            })
            .unwrap();
        assert!(increased, "the rate is meant to be too long");
        let state = outcome.state;
        assert_eq!(Some(state.best_value()), problem.lowest);
        let mut gradient = vec![0.0; 2];
        let again = problem.evaluate(state.best(), &mut gradient).unwrap();
        assert_eq!(again.to_bits(), state.best_value().to_bits());
    }

    /// 1 from 0 on, with a gradient that points out of there.
    struct Island;
    impl Objective<f64> for Island {
        type Control = Vec<f64>;
        fn evaluate(&mut self, x: &Vec<f64>, g: &mut Vec<f64>) -> Result<f64> {
            g.fill(1.0);
            if x[0] < 0.0 { Err(diverged()) } else { Ok(1.0) }
        }
    }

    #[test]
    fn a_step_into_an_error_is_halved() {
        // The first step has the length η: from 5 to −3, behind the wall.
        let adam = Adam { learning_rate: 8.0, max_iterations: 1, ..Adam::default() };
        let mut problem = Barrier::default();
        let outcome = adam.minimize(&mut problem, vec![5.0], go).unwrap();
        assert_eq!(problem.errors, 1);
        assert_eq!(outcome.state.evaluations(), 3);
        // Half the step; ε over the gradient, 10⁻⁸ / 0.8, is what differs.
        assert!((outcome.state.control()[0] - 1.0).abs() < 1e-7);

        let outcome = Adam::default().minimize(&mut Island, vec![0.0], go).unwrap();
        assert_eq!(outcome.stop, Stop::LineSearch);
        assert_eq!(outcome.state.best(), &vec![0.0]);
    }

    #[test]
    fn a_stored_state_continues_with_the_same_bits() {
        let adam = Adam::default();
        let mut problem = Rosenbrock::default();
        let start = vec![-1.2_f64, 1.0, 0.3];
        let through = adam.minimize(&mut problem, start.clone(), go).unwrap();
        let first = Adam { max_iterations: 17, ..adam.clone() };
        let part = first.minimize(&mut problem, start, go).unwrap();
        assert_eq!(part.stop, Stop::MaxIterations);
        #[cfg(feature = "serde")]
        let stored: AdamState<Vec<f64>> =
            serde_json::from_str(&serde_json::to_string(&part.state).unwrap()).unwrap();
        #[cfg(not(feature = "serde"))]
        let stored = part.state.clone();
        let joined = adam.resume(&mut problem, stored, go);
        assert_eq!(joined.stop, through.stop);
        assert_eq!(joined.state.iteration(), through.state.iteration());
        for (a, b) in joined.state.control().iter().zip(through.state.control()) {
            assert_eq!(a.to_bits(), b.to_bits());
        }
    }

    /// ½ ‖x − 2‖² over an image.
    struct Distance;
    impl Objective<f32> for Distance {
        type Control = Image<f32, 2>;
        fn evaluate(&mut self, x: &Self::Control, g: &mut Self::Control) -> Result<f64> {
            g.copy_from(x);
            g.combine(x, |_, x| x - 2.0);
            Ok(0.5 * g.dot(g))
        }
    }

    #[test]
    fn fields_and_single_precision_work() {
        // More voxels than one chunk of a parallel loop.
        let grid = Grid::new([120, 150], [1.0, 1.0]).unwrap();
        let start = Image::<f32, 2>::from_fn(&grid, |x| 0.01 * (x[0] - x[1])).unwrap();
        let adam = Adam { learning_rate: 0.1, ..Adam::default() };
        let outcome = adam.minimize(&mut Distance, start, go).unwrap();
        let largest = outcome.state.best().data().iter().map(|x| (x - 2.0).abs());
        // A tenth of η: the coordinates move in step once the momentum has damped out.
        assert!(largest.fold(0.0, f32::max) < 0.01);
    }

    #[test]
    fn settings_and_the_start_are_checked() {
        let wrong = [
            Adam { learning_rate: 0.0, ..Adam::default() },
            Adam { beta1: 1.0, ..Adam::default() },
            Adam { beta2: -0.1, ..Adam::default() },
            Adam { epsilon: f64::NAN, ..Adam::default() },
            Adam { value_window: 0, ..Adam::default() },
        ];
        for adam in wrong {
            assert!(matches!(adam.validate(), Err(Error::Setting { .. })), "{adam:?}");
        }
        let start = Adam::default().minimize(&mut Barrier::default(), vec![-1.0], go);
        assert_eq!(start.err(), Some(diverged()));
        let start = Adam::default().minimize(&mut Rosenbrock::default(), vec![f64::NAN, 0.0], go);
        assert!(matches!(start.err(), Some(Error::Start { .. })));
    }
}
