//! One metric everywhere: LDDMM.

use super::Metric;
use crate::aligned::Aligned;
use crate::field::{Momentum, Velocity, axpy};
use crate::kernel::{self, Kernel};
use crate::scalar::Real;

/// v = K m with one kernel. For the multi-Gaussian metric of LDDMM the kernel is
/// [`GaussianBank::combined`](crate::kernel::GaussianBank::combined): one transform pair a component.
#[derive(Clone, Debug)]
pub struct Fixed<K> {
    kernel: K,
}

impl<K> Fixed<K> {
    /// The metric of a kernel.
    #[must_use]
    pub fn new(kernel: K) -> Self {
        Self { kernel }
    }
}

/// Buffers of [`Fixed`].
#[derive(Clone, Debug, Default)]
pub struct Workspace<T> {
    kernel: kernel::Workspace<T>,
    smooth: Aligned<T>,
}

impl<T: Real, K: Kernel<T>, const D: usize> Metric<T, D> for Fixed<K> {
    type Weights = ();
    type Workspace = Workspace<T>;
    type Tape = ();

    fn workspace(&self) -> Workspace<T> {
        Workspace { kernel: kernel::Workspace::new(), smooth: Aligned::default() }
    }

    fn tape(&self) {}

    fn tape_len(&self) -> usize {
        0
    }

    fn exchange(&self, _ws: &mut Workspace<T>, _tape: &mut ()) {}

    fn velocity(
        &self,
        momentum: &Momentum<T, D>,
        _weights: &(),
        velocity: &mut Velocity<T, D>,
        ws: &mut Workspace<T>,
    ) {
        self.kernel.apply(momentum.data(), velocity.data_mut(), &mut ws.kernel);
    }

    fn velocity_vjp(
        &self,
        _momentum: &Momentum<T, D>,
        velocity_bar: &Velocity<T, D>,
        (momentum_bar, ()): (&mut Momentum<T, D>, &mut ()),
        ws: &mut Workspace<T>,
    ) {
        let smooth = ws.smooth.grown(velocity_bar.data().len());
        self.kernel.apply(velocity_bar.data(), smooth, &mut ws.kernel);
        axpy(momentum_bar.data_mut(), T::one(), smooth);
    }

    fn carry(
        &self,
        _momentum: &Momentum<T, D>,
        _weights: &(),
        _velocity: &Velocity<T, D>,
        _rates: (&mut Momentum<T, D>, &mut ()),
        _ws: &mut Workspace<T>,
    ) {
    }

    fn pull_back(
        &self,
        momentum: &Momentum<T, D>,
        _weights: &(),
        _velocity: &Velocity<T, D>,
        _rate_bars: (&Momentum<T, D>, &()),
        velocity_bar: &mut Velocity<T, D>,
        bars: (&mut Momentum<T, D>, &mut ()),
        ws: &mut Workspace<T>,
    ) {
        // Nothing is carried: only v depends on the momentum.
        self.velocity_vjp(momentum, velocity_bar, bars, ws);
    }

    fn add_energy_slope(
        &self,
        _momentum: &Momentum<T, D>,
        _scale: T,
        _bar: &mut (),
        _ws: &mut Workspace<T>,
    ) {
    }
}

/// The velocity of a fixed metric needs no state: for stationary fields and preconditioners.
impl<K> Fixed<K> {
    /// The kernel.
    #[must_use]
    pub fn kernel(&self) -> &K {
        &self.kernel
    }

    /// `out ← K input` for any field with the kernel's grid.
    pub fn smooth<T: Real>(&self, input: &[T], out: &mut [T], ws: &mut Workspace<T>)
    where
        K: Kernel<T>,
    {
        self.kernel.apply(input, out, &mut ws.kernel);
    }
}
