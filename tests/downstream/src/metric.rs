//! A metric of one's own.

// ANCHOR: scaled
use rdmm_core::Real;
use rdmm_core::error::Result;
use rdmm_core::field::Velocity;
use rdmm_core::grid::Grid;
use rdmm_core::kernel::Kernel;
use rdmm_core::metric::{Homogeneous, Inputs, Metric, Outputs, homogeneous};
use rdmm_core::space::StateSpace;

/// v = c K m.
#[derive(Clone, Debug)]
struct Scaled<K> {
    inner: Homogeneous<K>,
    factor: f64,
}

impl<T: Real, K: Kernel<T>, const D: usize> Metric<T, D> for Scaled<K> {
    type Weights = ();
    /// The transposes of a homogeneous metric need nothing of the velocity.
    type Tape = ();
    type Workspace = homogeneous::Workspace<T>;

    fn tape(&self, _grid: &Grid<D>) -> Result<()> {
        Ok(())
    }

    fn velocity(
        &self,
        at: Inputs<'_, T, D, ()>,
        velocity: &mut Velocity<T, D>,
        tape: &mut (),
        ws: &mut Self::Workspace,
    ) {
        self.inner.velocity(at, velocity, tape, ws);
        velocity.scale(T::of(self.factor));
    }

    fn velocity_vjp(
        &self,
        at: Inputs<'_, T, D, ()>,
        velocity_bar: &Velocity<T, D>,
        bars: Outputs<'_, T, D, ()>,
        tape: &(),
        ws: &mut Self::Workspace,
    ) {
        let mut scaled = velocity_bar.clone();
        scaled.scale(T::of(self.factor));
        self.inner.velocity_vjp(at, &scaled, bars, tape, ws);
    }

    /// Nothing moves, so there is no force.
    fn advect(
        &self,
        _at: Inputs<'_, T, D, ()>,
        _velocity: &Velocity<T, D>,
        _rates: Outputs<'_, T, D, ()>,
        _tape: &(),
        _ws: &mut Self::Workspace,
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
        ws: &mut Self::Workspace,
    ) {
        self.velocity_vjp(at, velocity_bar, bars, tape, ws);
    }
}
// ANCHOR_END: scaled

// ANCHOR: recipe
use rdmm_core::dynamics::Epdiff;
use rdmm_core::field::Displacement;
use rdmm_core::kernel::Gaussian;
use rdmm_core::model::{Domain, GeodesicShooting, Model, Uniform};
use rdmm_core::ops::difference::Order;

/// Geodesics of c K with a Gaussian K, lengths in physical units.
#[derive(Clone, Copy, Debug)]
struct ScaledGeodesics {
    sigma: f64,
    factor: f64,
}

impl<T: Real, const D: usize> Model<T, D> for ScaledGeodesics {
    type Shooting = GeodesicShooting<Scaled<Gaussian<T, D>>, Uniform, T, D>;

    fn name(&self) -> &'static str {
        "scaled LDDMM"
    }

    fn smallest_sigma(&self) -> f64 {
        self.sigma
    }

    fn discretise(&self, domain: &Domain<D>) -> Result<Self::Shooting> {
        let inner = Homogeneous::new(Gaussian::new(&domain.grid, self.sigma)?);
        let metric = Scaled { inner, factor: self.factor };
        GeodesicShooting::new(Epdiff::new(&domain.grid, metric, Order::Fourth), Uniform)
    }

    /// The recipe is the same everywhere.
    fn advected_by(&self, _map: &Displacement<T, D>) -> Result<Self> {
        Ok(*self)
    }
}
// ANCHOR_END: recipe

use crate::pair::{Fallible, Pair, settings};
use rdmm_core::registration::Registration;
use rdmm_core::similarity::Ssd;
use rdmm_core::testing::check_metric;

pub fn register(pair: &Pair) -> Fallible<f64> {
    let grid = Grid::<2>::unit([12, 10])?;
    let inner = Homogeneous::new(Gaussian::<f64, 2>::new(&grid, 0.15)?);
    check_metric(&Scaled { inner, factor: 0.5 }, &grid, &(), &())?;

    let model = ScaledGeodesics { sigma: 0.08 * pair.grid().largest_extent(), factor: 0.5 };
    let registration = Registration::new(model, Ssd).with_settings(settings());
    pair.gain(&registration.run(&pair.fixed, &pair.moving)?.warped)
}
