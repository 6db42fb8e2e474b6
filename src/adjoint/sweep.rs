//! A trajectory from its start to its end, and the gradient back.

use super::checkpoint::{Checkpoints, Schedule};
use super::continuous;
use super::integration::{GradientKind, Integration};
use crate::aligned::reserved;
use crate::dynamics::EvolutionVjp;
use crate::error::{Error, Result};
use crate::space::StateSpace;
use crate::step::Steps;
use crate::step::control::MAX_STEPS;
use crate::step::runge_kutta::{Stepper, Trace, Workspace};

/// How much longer than the rule's the steps of [`Sweep::keep_steps`] may get. With the default Courant number that is
/// 2.25 voxels a step, below the 3.5 at which RK4 becomes unstable.
const STRETCH: f64 = 1.5;

/// Integrates a flow over t ∈ \[0, 1\] and pulls gradients back. Owns every buffer.
///
/// With J the derivative of the steps as they were taken, the backward sweep is Jᵀ:
///
#[doc = include_str!("../../docs/math/transpose.html")]
///
/// Memory: what [`Checkpoints`] keep, and six states more with RK4. Time: a backward sweep transposes each step, some two
/// forward sweeps, and before that repeats the stages that were not kept, up to one more.
pub struct Sweep<E: EvolutionVjp> {
    stepper: Stepper<E>,
    settings: Integration,
    schedule: Schedule,
    ws: Workspace<E>,
    /// The stages of the last steps, those of step i at i modulo `most_traces`.
    traces: Vec<Traced<E>>,
    most_traces: usize,
    /// On how many stages of a trace there is a tape.
    taped: usize,
    /// Step sizes of the last forward sweep.
    step_sizes: Vec<f64>,
    /// After how many steps each of the times that were asked for is reached.
    stops: Vec<usize>,
    /// The squared norm of the start of the last forward sweep, until a backward one.
    from: Option<f64>,
    /// States at the starts of steps other than the first.
    stored: Vec<(usize, E::State)>,
    pool: Vec<E::State>,
    current: E::State,
    next: E::State,
    /// Steps to keep to, raised by [`Sweep::keep_steps`].
    kept: usize,
}

/// The stages of a step.
struct Traced<E: EvolutionVjp> {
    /// Which step; none once its transpose has used them up.
    of: Option<usize>,
    trace: Trace<E>,
}

impl<E: EvolutionVjp> Sweep<E> {
    /// Sweeps of `evolution` for states like `state`.
    ///
    /// # Errors
    /// Those of [`Integration::validate`] and [`Evolution::expect_state`](crate::dynamics::Evolution::expect_state);
    /// [`Error::OutOfMemory`].
    pub fn new(evolution: E, state: &E::State, settings: Integration) -> Result<Self> {
        settings.validate()?;
        evolution.expect_state(state)?;
        let bytes = state.dimension() * size_of::<E::Scalar>();
        let schedule = settings.checkpoints.schedule(bytes)?;
        let stepper = Stepper::new(evolution, settings.tableau, settings.transport.clone());
        let ws = stepper.workspace(state)?;
        let stages = stepper.tableau().stages();
        let most_traces = match (settings.checkpoints, settings.gradient) {
            (Checkpoints::Stages(bytes), GradientKind::Discrete) => {
                let trace = stepper.trace_len(state, stages, &ws) * size_of::<E::Scalar>();
                (bytes / trace.max(1)).max(1)
            }
            _ => 1,
        };
        let taped = match settings.checkpoints {
            // A transpose of the step whose stages are the only ones follows at once.
            Checkpoints::All | Checkpoints::Stages(_) if most_traces == 1 => stages - 1,
            Checkpoints::Stages(_) => stages,
            _ => 0,
        };
        Ok(Self {
            stepper,
            settings,
            schedule,
            ws,
            traces: Vec::new(),
            most_traces,
            taped,
            step_sizes: Vec::new(),
            stops: Vec::new(),
            from: None,
            stored: Vec::new(),
            pool: Vec::new(),
            current: state.zeros_like(),
            next: state.zeros_like(),
            kept: 0,
        })
    }

    /// What is integrated.
    #[must_use]
    pub fn evolution(&self) -> &E {
        self.stepper.evolution()
    }

    /// Step sizes of the last forward sweep; they sum to one.
    #[must_use]
    pub fn step_sizes(&self) -> &[f64] {
        &self.step_sizes
    }

    /// From now on this many equal steps, unless they would be half as long again as [`Steps::Courant`] asks for:
    /// then as many as it does. An optimiser calls it with the steps of each point that it accepts, so that later
    /// points are compared like with like; trial points do not count. Fewer than before change nothing, and more than
    /// 10 000 count as 10 000.
    pub fn keep_steps(&mut self, steps: usize) {
        self.kept = self.kept.max(steps.min(MAX_STEPS));
    }

    /// Forgets what [`Sweep::keep_steps`] was told.
    pub(crate) fn forget_steps(&mut self) {
        self.kept = 0;
    }

    /// What [`Sweep::keep_steps`] was told, 0 before.
    pub(crate) fn kept_steps(&self) -> usize {
        self.kept
    }

    /// States held for the backward sweep at present. The start, which the caller holds, is none of them.
    #[must_use]
    pub fn states_held(&self) -> usize {
        self.stored.len()
    }

    /// Bytes of all states that the sweep holds at present: those stored, those of the stages of steps with what these
    /// leave for their transposes, and the two of the step in hand. The evolution's own buffers, a few fields, do not count.
    #[must_use]
    pub fn bytes_held(&self) -> usize {
        let states = self.stored.len() + self.pool.len() + self.ws.states() + 2;
        let trace = self.stepper.trace_len(&self.current, self.taped, &self.ws);
        let numbers = states * self.current.dimension() + self.traces.len() * trace;
        numbers * size_of::<E::Scalar>()
    }

    /// Integrates from `start` to t = 1 and gives the end. Where no gradient follows, [`Checkpoints::Binomial`] of one
    /// state spares memory and time.
    ///
    /// # Errors
    /// [`Error::Diverged`] where the state leaves the finite numbers, [`Error::StepLimit`] where adaptive
    /// steps run out. Both are recoverable: a smaller momentum may succeed. [`Error::GridMismatch`] or
    /// [`Error::Length`] for a state unlike the one that the sweep was made for.
    pub fn forward(&mut self, start: &E::State) -> Result<&E::State> {
        self.forward_with(start, |_, _| {})
    }

    /// Like [`Sweep::forward`], with a look at every state: `watch(time, state)`, t = 0 and t = 1
    /// included.
    ///
    /// # Errors
    /// Those of [`Sweep::forward`].
    pub fn forward_with(
        &mut self,
        start: &E::State,
        watch: impl FnMut(f64, &E::State),
    ) -> Result<&E::State> {
        self.sweep(start, &[], watch, |_, _| {})
    }

    /// Like [`Sweep::forward`], in steps that end at each of `times`, which increase and lie in (0, 1]: `at(i, state)`
    /// sees the state at the i-th. Between two of them the steps have one length, at most that of [`Sweep::forward`].
    ///
    /// # Errors
    /// [`Error::Setting`] for other times; those of [`Sweep::forward`].
    pub fn forward_at(
        &mut self,
        start: &E::State,
        times: &[f64],
        at: impl FnMut(usize, &E::State),
    ) -> Result<&E::State> {
        let mut before = 0.0;
        for &time in times {
            if !(time > before && time <= 1.0) {
                let expected = "times that increase, above 0 and at most 1";
                return Err(Error::setting("time of a trajectory", expected, time));
            }
            before = time;
        }
        self.sweep(start, times, |_, _| {}, at)
    }

    fn sweep(
        &mut self,
        start: &E::State,
        times: &[f64],
        watch: impl FnMut(f64, &E::State),
        at: impl FnMut(usize, &E::State),
    ) -> Result<&E::State> {
        let done = self.integrate(start, times, watch, at);
        self.from = done.is_ok().then(|| start.dot(start));
        if done.is_err() {
            // There is nothing to pull a gradient back through.
            self.step_sizes.clear();
        }
        done.map(|()| &self.current)
    }

    fn integrate(
        &mut self,
        start: &E::State,
        times: &[f64],
        mut watch: impl FnMut(f64, &E::State),
        mut at: impl FnMut(usize, &E::State),
    ) -> Result<()> {
        self.next.expect_like(start)?;
        self.traces.iter_mut().for_each(|traced| traced.of = None);
        self.pool.extend(self.stored.drain(..).map(|(_, state)| state));
        self.step_sizes.clear();
        self.stops.clear();
        self.current.copy_from(start);
        watch(0.0, start);
        self.plan(start, times)?;
        let n = self.step_sizes.len();
        if n == 0 {
            return self.forward_adaptive(times, watch, at);
        }
        let mut time = 0.0;
        let mut target = self.checkpoint_after(0, n);
        for i in 0..n {
            self.advance(i)?;
            time += self.step_sizes[i];
            if Some(i + 1) == target {
                self.store(i + 1);
                target = self.checkpoint_after(i + 1, n);
            }
            watch(time.min(1.0), &self.current);
            if let Ok(stop) = self.stops.binary_search(&(i + 1)) {
                at(stop, &self.current);
            }
        }
        Ok(())
    }

    /// Chooses equal steps; leaves the list empty for adaptive ones.
    fn plan(&mut self, start: &E::State, times: &[f64]) -> Result<()> {
        let mut speed = 0.0;
        if matches!(self.settings.steps, Steps::Courant { .. }) {
            speed = self.stepper.speed(start, &mut self.ws);
        }
        if let Some(needed) = self.settings.steps.count(speed)? {
            let stretched = self.settings.steps.count(speed / STRETCH)?;
            let keep = stretched.is_some_and(|fewest| fewest <= self.kept);
            let count = if keep { self.kept } else { needed };
            let (mut from, last) = (0.0, times.last().is_none_or(|&time| time < 1.0));
            for &to in times.iter().chain(last.then_some(&1.0)) {
                let steps = (1..count).find(|&k| k as f64 >= (to - from) * count as f64);
                let steps = steps.unwrap_or(count);
                let len = self.step_sizes.len() + steps;
                self.step_sizes.resize(len, (to - from) / steps as f64);
                self.stops.push(len);
                from = to;
            }
            self.stops.truncate(times.len());
        }
        Ok(())
    }

    /// `next` ← the state after step `i` from `current`. Gives the place of its trace.
    fn take_step(&mut self, i: usize, tau: f64) -> Result<usize> {
        // Where memory for one more trace is refused, those that there are do.
        if i == self.traces.len() && i > 0 && i < self.most_traces {
            let stages = self.stepper.tableau().stages();
            let numbers = self.stepper.trace_len(&self.current, stages, &self.ws);
            if std::hint::black_box(reserved::<E::Scalar>(numbers)).is_err() {
                self.most_traces = i;
            }
        }
        let at = i % self.most_traces;
        if at >= self.traces.len() {
            let trace = self.stepper.trace(&self.current, self.taped)?;
            self.traces.push(Traced { of: None, trace });
        }
        let Traced { of, trace } = &mut self.traces[at];
        *of = Some(i);
        self.stepper.step_traced(&self.current, tau, &mut self.next, trace, &mut self.ws);
        Ok(at)
    }

    /// One step of the forward sweep.
    fn advance(&mut self, i: usize) -> Result<()> {
        self.take_step(i, self.step_sizes[i])?;
        std::mem::swap(&mut self.current, &mut self.next);
        if self.current.is_finite() {
            Ok(())
        } else {
            Err(Error::Diverged { step: i + 1, steps: self.step_sizes.len() })
        }
    }

    /// Adaptive steps. Every accepted state is a candidate for storing; which are kept follows from the
    /// policy once the number of steps is known, so all are stored and surplus ones released.
    fn forward_adaptive(
        &mut self,
        times: &[f64],
        mut watch: impl FnMut(f64, &E::State),
        mut at_time: impl FnMut(usize, &E::State),
    ) -> Result<()> {
        let Steps::Tolerance { relative, at_most } = self.settings.steps else {
            return Ok(());
        };
        // The estimate belongs to the lower order of the pair.
        let exponent = 1.0 / f64::from(self.settings.tableau.order());
        let (mut time, mut tau, mut tried) = (0.0, 0.1, 0);
        while time < 1.0 {
            // A last step that ends at the next time exactly, and no sliver after it.
            let end = times.get(self.stops.len()).copied().unwrap_or(1.0);
            let ends = time + 1.01 * tau >= end;
            tau = if ends { end - time } else { tau };
            if tried == at_most {
                return Err(Error::StepLimit { tolerance: relative, steps: tried, time });
            }
            tried += 1;
            let at = self.take_step(self.step_sizes.len(), tau)?;
            let trace = &self.traces[at].trace;
            let error = self.stepper.error_traced(tau, &mut self.next, trace, &mut self.ws);
            let error = error.unwrap_or(0.0) / relative;
            let finite = error.is_finite() && self.next.is_finite();
            // Hairer, Nørsett, Wanner, II.4: safety factor and bounds of a change.
            let factor =
                if finite { (0.9 * error.max(1e-10).powf(-exponent)).clamp(0.2, 5.0) } else { 0.2 };
            if finite && error <= 1.0 {
                std::mem::swap(&mut self.current, &mut self.next);
                self.step_sizes.push(tau);
                time = if ends { end } else { time + tau };
                self.store(self.step_sizes.len());
                watch(time, &self.current);
                if ends && self.stops.len() < times.len() {
                    self.stops.push(self.step_sizes.len());
                    at_time(self.stops.len() - 1, &self.current);
                }
            }
            tau *= factor;
        }
        self.thin();
        Ok(())
    }

    /// Releases what the policy would not have stored.
    fn thin(&mut self) {
        let n = self.step_sizes.len();
        let (mut keep, mut at) = (Vec::new(), 0);
        while let Some(next) = self.next_checkpoint(at, n, keep.len()) {
            keep.push(next);
            at = next;
        }
        for (i, state) in std::mem::take(&mut self.stored) {
            if keep.contains(&i) {
                self.stored.push((i, state));
            } else {
                self.pool.push(state);
            }
        }
    }

    /// The next state to store, with so many held; the start, which the caller holds, counts as one more.
    fn next_checkpoint(&self, from: usize, end: usize, held: usize) -> Option<usize> {
        let free = self.schedule.places().saturating_sub(held + 1);
        if free == 0 { None } else { self.schedule.next(from, end, free) }
    }

    fn checkpoint_after(&self, from: usize, end: usize) -> Option<usize> {
        self.next_checkpoint(from, end, self.stored.len())
    }

    fn store(&mut self, i: usize) {
        let mut state = self.pool.pop().unwrap_or_else(|| self.current.clone());
        state.copy_from(&self.current);
        self.stored.push((i, state));
    }

    /// Brings `current` to the start of step `i` and keeps what the policy says on the way.
    fn recall(&mut self, start: &E::State, i: usize) -> Result<()> {
        let (mut at, state) = self.stored.last().map_or((0, start), |(at, state)| (*at, state));
        self.current.copy_from(state);
        while at < i {
            let target = self.checkpoint_after(at, i + 1);
            for k in at..target.unwrap_or(i) {
                self.take_step(k, self.step_sizes[k])?;
                std::mem::swap(&mut self.current, &mut self.next);
            }
            at = target.unwrap_or(i);
            if target.is_some() {
                self.store(at);
            }
        }
        Ok(())
    }

    /// Pulls `bar`, the cotangent of the end of the last forward sweep, back to its start, which is given again: the
    /// sweep keeps no copy.
    ///
    /// The stored states are used up: a second call needs another [`Sweep::forward`].
    ///
    /// # Errors
    /// [`Error::Setting`] without a forward sweep that succeeded, and for another `start` than its; [`Error::GridMismatch`]
    /// or [`Error::Length`] for a cotangent unlike the states; [`Error::Diverged`] where the gradient leaves
    /// the finite numbers.
    pub fn backward(&mut self, start: &E::State, bar: &mut E::State) -> Result<()> {
        self.backward_at(start, bar, |_, _| {})
    }

    /// Like [`Sweep::backward`] of [`Sweep::forward_at`]: `at(i, bar)` adds to the cotangent of the state at the i-th of
    /// the times, from the last to the first.
    ///
    /// # Errors
    /// Those of [`Sweep::backward`].
    pub fn backward_at(
        &mut self,
        start: &E::State,
        bar: &mut E::State,
        mut at: impl FnMut(usize, &mut E::State),
    ) -> Result<()> {
        let n = self.step_sizes.len();
        let Some(norm) = self.from else {
            return Err(Error::setting("backward sweep", "a forward sweep before it", "none"));
        };
        self.next.expect_like(start)?;
        self.next.expect_like(bar)?;
        if start.dot(start).to_bits() != norm.to_bits() {
            let expected = "the start of the forward sweep before it";
            return Err(Error::setting("start of a backward sweep", expected, "another state"));
        }
        self.from = None;
        let mut later = match self.settings.gradient {
            GradientKind::Discrete => None,
            GradientKind::Continuous => Some(self.current.clone()),
        };
        for i in (0..n).rev() {
            if let Ok(stop) = self.stops.binary_search(&(i + 1)) {
                at(stop, bar);
            }
            self.recall(start, i)?;
            let tau = self.step_sizes[i];
            match &mut later {
                None => {
                    let (state, next, ws) = (&self.current, &mut self.next, &mut self.ws);
                    let Traced { of, trace } = &mut self.traces[i % self.most_traces];
                    if of.take() != Some(i) {
                        self.stepper.retrace(state, tau, trace, (next, ws));
                    }
                    self.stepper.step_vjp(state, tau, bar, trace, (next, ws));
                }
                Some(later) => {
                    let (evolution, tableau) = (self.stepper.evolution(), self.stepper.tableau());
                    continuous::step_back(evolution, tableau, later, bar, tau)?;
                    later.copy_from(&self.current);
                }
            }
            // The state at the start of step i is no longer needed.
            if self.stored.last().is_some_and(|(at, _)| *at == i)
                && let Some((_, state)) = self.stored.pop()
            {
                self.pool.push(state);
            }
        }
        if bar.is_finite() { Ok(()) } else { Err(Error::Diverged { step: 0, steps: n }) }
    }
}
