//! One metric everywhere: LDDMM.

use super::{Inputs, Metric, Outputs};
use crate::aligned::Aligned;
use crate::error::Result;
use crate::field::{Velocity, axpy};
use crate::grid::Grid;
use crate::kernel::{self, Kernel};
use crate::scalar::Real;

/// v = K m with one kernel. For the multi-Gaussian metric of LDDMM the kernel is
/// [`GaussianBank::combined`](crate::kernel::GaussianBank::combined): one transform pair a component.
#[derive(Clone, Debug)]
pub struct Homogeneous<K> {
    kernel: K,
}

impl<K> Homogeneous<K> {
    /// The metric of a kernel.
    #[must_use]
    pub fn new(kernel: K) -> Self {
        Self { kernel }
    }
}

/// Buffers of [`Homogeneous`].
#[derive(Clone, Debug, Default)]
pub struct Workspace<T> {
    kernel: kernel::Workspace<T>,
    smooth: Aligned<T>,
}

impl<T: Real, K: Kernel<T>, const D: usize> Metric<T, D> for Homogeneous<K> {
    type Weights = ();
    type Tape = ();
    type Workspace = Workspace<T>;

    fn tape(&self, _grid: &Grid<D>) -> Result<()> {
        Ok(())
    }

    fn velocity(
        &self,
        at: Inputs<'_, T, D, ()>,
        velocity: &mut Velocity<T, D>,
        _tape: &mut (),
        ws: &mut Workspace<T>,
    ) {
        self.kernel.apply(at.momentum.data(), velocity.data_mut(), &mut ws.kernel);
    }

    fn velocity_vjp(
        &self,
        _at: Inputs<'_, T, D, ()>,
        velocity_bar: &Velocity<T, D>,
        bars: Outputs<'_, T, D, ()>,
        _tape: &(),
        ws: &mut Workspace<T>,
    ) {
        let smooth = ws.smooth.grown(velocity_bar.data().len());
        self.kernel.apply(velocity_bar.data(), smooth, &mut ws.kernel);
        axpy(bars.momentum.data_mut(), T::one(), smooth);
    }

    /// Nothing is advected.
    fn advect(
        &self,
        _at: Inputs<'_, T, D, ()>,
        _velocity: &Velocity<T, D>,
        _rates: Outputs<'_, T, D, ()>,
        _tape: &(),
        _ws: &mut Workspace<T>,
    ) {
    }

    /// Only v depends on the momentum.
    fn rates_vjp(
        &self,
        at: Inputs<'_, T, D, ()>,
        _velocity: &Velocity<T, D>,
        _rate_bars: Inputs<'_, T, D, ()>,
        velocity_bar: &mut Velocity<T, D>,
        bars: Outputs<'_, T, D, ()>,
        tape: &(),
        ws: &mut Workspace<T>,
    ) {
        self.velocity_vjp(at, velocity_bar, bars, tape, ws);
    }

    /// There are no weights.
    fn energy_gradient(
        &self,
        _at: Inputs<'_, T, D, ()>,
        _scale: T,
        _bar: &mut (),
        _tape: &(),
        _ws: &mut Workspace<T>,
    ) {
    }
}

/// The velocity of a homogeneous metric needs no state: for stationary fields and preconditioners.
impl<K> Homogeneous<K> {
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
