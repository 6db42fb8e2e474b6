//! Shootings behind one type.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::values::{Cotangents, Gradient, Initial, Shot};
use crate::adjoint::{Integration, Sweep};
use crate::dynamics::{Evolution, FieldEvolution, Tracked, TrackedState};
use crate::error::{Error, Result};
use crate::field::{Momentum, Weights};
use crate::grid::Grid;
use crate::model::{Controls, Shooting, State, energy_scale};
use crate::scalar::Real;
use crate::space::{Componentwise, FlowState, StateSpace};

/// Controls of weights that are weights, or none.
pub trait ControlWeights<T: Real, const D: usize>: Componentwise<T> + 'static {
    /// The controls that are these weights.
    ///
    /// # Errors
    /// [`Error::Length`] for weights that are missing or not wanted.
    fn from_weights(weights: Option<&Weights<T, D>>) -> Result<Self>;

    /// The weights that these controls are.
    fn into_weights(self) -> Option<Weights<T, D>>;
}

impl<T: Real, const D: usize> ControlWeights<T, D> for () {
    fn from_weights(weights: Option<&Weights<T, D>>) -> Result<()> {
        match weights {
            None => Ok(()),
            Some(found) => {
                let (what, found) = ("pre-weights of a flow without", found.components());
                Err(Error::Length { what, expected: 0, found })
            }
        }
    }

    fn into_weights(self) -> Option<Weights<T, D>> {
        None
    }
}

impl<T: Real, const D: usize> ControlWeights<T, D> for Weights<T, D> {
    fn from_weights(weights: Option<&Weights<T, D>>) -> Result<Self> {
        let none = Error::Length { what: "fields of pre-weights", expected: 1, found: 0 };
        weights.cloned().ok_or(none)
    }

    fn into_weights(self) -> Option<Weights<T, D>> {
        Some(self)
    }
}

/// What was shot, and the way back.
type Forward<T, const D: usize> = (Vec<Shot<T, D>>, Box<dyn Pull<T, D>>);

/// What [`Shoot`](super::Shoot) needs of a flow.
pub(super) trait Trajectories<T: Real, const D: usize>: Send + Sync {
    fn grid(&self) -> &Grid<D>;

    fn identity(&self) -> (Momentum<T, D>, Option<Weights<T, D>>);

    fn forward(
        &self,
        initial: Initial<'_, T, D>,
        times: &[f64],
        integration: Integration,
    ) -> Result<Forward<T, D>>;

    /// The same with the forward map.
    fn tracked(&self) -> Arc<dyn Trajectories<T, D>>;
}

/// What [`Tape`](super::Tape) needs of a trajectory.
pub(super) trait Pull<T: Real, const D: usize>: Send {
    fn bytes(&self) -> usize;
    fn backward(self: Box<Self>, bars: &[Option<&Cotangents<T, D>>]) -> Result<Gradient<T, D>>;
}

/// The shootings of a recipe. Each does one piece of work at a time; there are as many as ever worked at once.
///
/// No lock is held over that work. Its loops may be parallel, and a thread that waits for the rest of a loop may take up
/// another trajectory meanwhile: it would wait for a lock of its own.
struct Shootings<S: Shooting<T, D>, T: Real, const D: usize> {
    recipe: Box<dyn Fn() -> Result<S> + Send + Sync>,
    idle: Mutex<Vec<S>>,
    identity: Controls<T, D, S::Weights>,
    evolution: Arc<S::Evolution>,
}

impl<S: Shooting<T, D>, T: Real, const D: usize> Shootings<S, T, D> {
    fn new(recipe: impl Fn() -> Result<S> + Send + Sync + 'static) -> Result<Self> {
        let first = recipe()?;
        let (identity, evolution) = (first.identity(), first.evolution());
        Ok(Self { recipe: Box::new(recipe), idle: Mutex::new(vec![first]), identity, evolution })
    }

    /// Those that do not work at present. A list of them is as good after a panic of another thread as before.
    fn idle(&self) -> MutexGuard<'_, Vec<S>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a shooting does that no one else works with: one that is idle, or another one of the recipe.
    fn work<R>(&self, work: impl FnOnce(&mut S) -> Result<R>) -> Result<R> {
        // A statement of its own, at whose end the list is free again.
        let idle = self.idle().pop();
        let mut shooting = match idle {
            Some(shooting) => shooting,
            None => (self.recipe)()?,
        };
        let done = work(&mut shooting);
        self.idle().push(shooting);
        done
    }
}

/// Shootings, shared by their trajectories, and the flow that is integrated.
pub(super) struct Erased<S: Shooting<T, D>, F, T: Real, const D: usize> {
    shootings: Arc<Shootings<S, T, D>>,
    flow: F,
}

/// How the flow that is integrated holds the states of a shooting.
trait Holds<S: Shooting<T, D>, T: Real, const D: usize>: Clone + Send + Sync + 'static {
    type Evolution: FieldEvolution<T, D> + 'static;
    fn evolution(&self) -> Arc<Self::Evolution>;
    fn lift(&self, state: State<T, D, S>) -> <Self::Evolution as Evolution>::State;
    fn held(state: &<Self::Evolution as Evolution>::State) -> &State<T, D, S>;
    fn held_mut(state: &mut <Self::Evolution as Evolution>::State) -> &mut State<T, D, S>;
}

/// The evolution of the shooting itself.
pub(super) struct Plain<E>(Arc<E>);

impl<E> Clone for Plain<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S, T, const D: usize> Holds<S, T, D> for Plain<S::Evolution>
where
    T: Real,
    S: Shooting<T, D, Evolution: 'static>,
{
    type Evolution = S::Evolution;

    fn evolution(&self) -> Arc<S::Evolution> {
        Arc::clone(&self.0)
    }
    fn lift(&self, state: State<T, D, S>) -> State<T, D, S> {
        state
    }
    fn held(state: &State<T, D, S>) -> &State<T, D, S> {
        state
    }
    fn held_mut(state: &mut State<T, D, S>) -> &mut State<T, D, S> {
        state
    }
}

/// The evolution with the forward map.
pub(super) struct WithForward<E, T, const D: usize>(Arc<Tracked<Arc<E>, T, D>>);

impl<E, T, const D: usize> Clone for WithForward<E, T, D> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S, T, const D: usize> Holds<S, T, D> for WithForward<S::Evolution, T, D>
where
    T: Real,
    S: Shooting<T, D, Evolution: 'static>,
{
    type Evolution = Tracked<Arc<S::Evolution>, T, D>;

    fn evolution(&self) -> Arc<Self::Evolution> {
        Arc::clone(&self.0)
    }
    fn lift(&self, state: State<T, D, S>) -> TrackedState<T, D, State<T, D, S>> {
        self.0.start(state)
    }
    fn held(state: &TrackedState<T, D, State<T, D, S>>) -> &State<T, D, S> {
        &state.flow
    }
    fn held_mut(state: &mut TrackedState<T, D, State<T, D, S>>) -> &mut State<T, D, S> {
        &mut state.flow
    }
}

impl<E> Plain<E> {
    pub(super) fn of<S, T: Real, const D: usize>(
        recipe: impl Fn() -> Result<S> + Send + Sync + 'static,
    ) -> Result<Erased<S, Self, T, D>>
    where
        S: Shooting<T, D, Evolution = E>,
    {
        let shootings = Arc::new(Shootings::new(recipe)?);
        let flow = Self(Arc::clone(&shootings.evolution));
        Ok(Erased { shootings, flow })
    }
}

/// The state of what a shooting's flow is integrated by.
type HeldState<H, S, T, const D: usize> = <<H as Holds<S, T, D>>::Evolution as Evolution>::State;

impl<S, H, T, const D: usize> Trajectories<T, D> for Erased<S, H, T, D>
where
    T: Real,
    S: Shooting<T, D, Weights: ControlWeights<T, D>, Evolution: 'static> + 'static,
    H: Holds<S, T, D>,
{
    fn grid(&self) -> &Grid<D> {
        self.shootings.identity.momentum.grid()
    }

    fn identity(&self) -> (Momentum<T, D>, Option<Weights<T, D>>) {
        let Controls { momentum, weights } = self.shootings.identity.clone();
        (momentum, weights.into_weights())
    }

    fn forward(
        &self,
        (momentum, weights): Initial<'_, T, D>,
        times: &[f64],
        integration: Integration,
    ) -> Result<Forward<T, D>> {
        let weights = S::Weights::from_weights(weights)?;
        let controls = Controls { momentum: momentum.clone(), weights };
        let scale = energy_scale(momentum.grid());
        let shootings = &self.shootings;
        shootings.identity.expect_like(&controls)?;
        let (start, energy, energy_gradient) = shootings.work(|shooting| {
            let mut gradient = controls.zeros_like();
            let energy = shooting.add_energy(&controls, scale, &mut gradient);
            Ok((self.flow.lift(shooting.initial_state(&controls)), energy, gradient))
        })?;
        let mut sweep = Sweep::new(self.flow.evolution(), &start, integration)?;
        let (mut shots, mut failure) = (Vec::with_capacity(times.len()), None);
        sweep.forward_at(&start, times, |i, state| {
            match shootings.work(|shooting| shooting.weights(H::held(state))) {
                Ok(weights) => shots.push(Shot {
                    time: times[i],
                    inverse_map: state.map().clone(),
                    forward_map: state.forward().cloned(),
                    energy,
                    weights,
                }),
                Err(error) => failure = Some(error),
            }
        })?;
        if let Some(error) = failure {
            return Err(error);
        }
        let shootings = Arc::clone(shootings);
        let components = shots.first().and_then(|shot| shot.weights.as_ref()?.components().into());
        let tape = Trajectory::<S, H, T, D> {
            shootings,
            sweep,
            start,
            controls,
            energy_gradient,
            components,
        };
        Ok((shots, Box::new(tape)))
    }

    fn tracked(&self) -> Arc<dyn Trajectories<T, D>> {
        let shootings = Arc::clone(&self.shootings);
        let tracked = Tracked::new(self.grid(), Arc::clone(&shootings.evolution));
        Arc::new(Erased { shootings, flow: WithForward(Arc::new(tracked)) })
    }
}

/// A trajectory that was shot.
struct Trajectory<S, H, T, const D: usize>
where
    T: Real,
    S: Shooting<T, D>,
    H: Holds<S, T, D>,
{
    shootings: Arc<Shootings<S, T, D>>,
    sweep: Sweep<Arc<H::Evolution>>,
    start: HeldState<H, S, T, D>,
    controls: Controls<T, D, S::Weights>,
    /// Of the energy, with its scale.
    energy_gradient: Controls<T, D, S::Weights>,
    /// Of the weights that were shown.
    components: Option<usize>,
}

impl<S, H, T, const D: usize> Trajectory<S, H, T, D>
where
    T: Real,
    S: Shooting<T, D>,
    H: Holds<S, T, D>,
{
    /// `Ok` if the cotangents are those of what was shown, at the time of this index.
    fn expect(&self, index: usize, bars: &Cotangents<T, D>) -> Result<()> {
        let found = bars.energy;
        if !found.is_finite() {
            return Err(Error::NonFinite { what: "cotangents of the energy", index, found });
        }
        let grid = self.controls.momentum.grid();
        if let Some(bar) = &bars.inverse_map {
            grid.expect_same(bar.grid(), "cotangent of the inverse map")?;
        }
        if let Some(bar) = &bars.forward_map {
            if self.start.forward().is_none() {
                let expected = "none: ask for the map by Shoot::with_forward_map";
                return Err(Error::setting("cotangent of the forward map", expected, "one"));
            }
            grid.expect_same(bar.grid(), "cotangent of the forward map")?;
        }
        if let Some(bar) = &bars.weights {
            let (expected, found) = (self.components.unwrap_or(0), bar.components());
            if expected != found {
                return Err(Error::Length { what: "cotangents of the weights", expected, found });
            }
            grid.expect_same(bar.grid(), "cotangent of the weights")?;
        }
        Ok(())
    }
}

impl<S, H, T, const D: usize> Pull<T, D> for Trajectory<S, H, T, D>
where
    T: Real,
    S: Shooting<T, D, Weights: ControlWeights<T, D>>,
    H: Holds<S, T, D>,
{
    fn bytes(&self) -> usize {
        let (start, controls) = (self.start.dimension(), self.controls.dimension());
        self.sweep.bytes_held() + (start + 2 * controls) * size_of::<T>()
    }

    fn backward(mut self: Box<Self>, bars: &[Option<&Cotangents<T, D>>]) -> Result<Gradient<T, D>> {
        for (index, bars) in bars.iter().enumerate() {
            if let Some(bars) = bars {
                self.expect(index, bars)?;
            }
        }
        let (mut state_bar, mut failure) = (self.start.zeros_like(), None);
        let shootings = &self.shootings;
        self.sweep.backward_at(&self.start, &mut state_bar, |i, state_bar| {
            let Some(bars) = bars[i] else { return };
            if let Some(bar) = &bars.inverse_map {
                state_bar.map_mut().axpy(T::one(), bar);
            }
            if let (Some(bar), Some(out)) = (&bars.forward_map, state_bar.forward_mut()) {
                out.axpy(T::one(), bar);
            }
            if let Some(bar) = &bars.weights {
                let state_bar = H::held_mut(state_bar);
                let done = shootings.work(|shooting| shooting.weights_vjp(bar, state_bar));
                failure = done.err().or(failure.take());
            }
        })?;
        if let Some(error) = failure {
            return Err(error);
        }
        let energy: f64 = bars.iter().flatten().map(|bars| bars.energy).sum();
        let mut gradient = self.controls.zeros_like();
        let held = H::held(&state_bar);
        shootings.work(|shooting| {
            shooting.initial_state_vjp(&self.controls, held, &mut gradient);
            Ok(())
        })?;
        gradient.axpy(T::of(energy), &self.energy_gradient);
        if !gradient.is_finite() {
            return Err(Error::Diverged { step: 0, steps: self.sweep.step_sizes().len() });
        }
        let Controls { momentum, weights } = gradient;
        Ok(Gradient { momentum, pre_weights: weights.into_weights() })
    }
}
