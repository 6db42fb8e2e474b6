//! Small problems that several test files share.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    clippy::allow_attributes,
    clippy::unwrap_used,
    reason = "each test file uses a part"
)]

use std::sync::Arc;

use rdmm_core::Real;
use rdmm_core::adjoint::Integration;
use rdmm_core::adjoint::Sweep;
use rdmm_core::dynamics::{Evolution, StageMap};
use rdmm_core::field::Weights;
use rdmm_core::grid::{Boundary, Grid};
use rdmm_core::kernel::{Gaussian, GaussianBank, Identity};
use rdmm_core::metric::Mixture;
use rdmm_core::model::{
    Advected, BoxedKernel, Controls, Lddmm, MultiGaussian, Rdmm, RdmmOptimised, Shooting, State,
    Vsvf,
};
use rdmm_core::ops::difference::Order;
use rdmm_core::optim::Objective;
use rdmm_core::regularize::{Omt, RangePenalty, Regularizer, TotalVariation};
use rdmm_core::space::StateSpace;
use rdmm_core::step::Steps;
pub use rdmm_core::testing::{random, slope, smooth};

/// Weights of three Gaussians that vary smoothly over the grid.
pub fn squares<T: Real, const D: usize>(grid: &Grid<D>) -> Weights<T, D> {
    let rough = smooth(grid, 3, 77);
    let n = grid.len();
    let mut data = vec![T::zero(); 3 * n];
    for at in 0..n {
        let e: Vec<f64> = (0..3).map(|i| rough[i * n + at].exp()).collect();
        let sum: f64 = e.iter().sum();
        for i in 0..3 {
            data[i * n + at] = T::of(e[i] / sum);
        }
    }
    Weights::from_vec(grid, data).unwrap()
}

/// σ of the test models, for grids of extent about one.
pub const SIGMAS: [f64; 3] = [0.1, 0.18, 0.3];

pub fn metric() -> MultiGaussian {
    MultiGaussian::new(&SIGMAS, &[0.2, 0.5, 0.3]).unwrap()
}

pub fn vsvf() -> Vsvf {
    Vsvf::new(metric())
}

pub fn lddmm() -> Lddmm {
    Lddmm::new(metric())
}

pub fn rdmm<T: Real, const D: usize>(grid: &Grid<D>, advected: Advected) -> Rdmm<T, D> {
    Rdmm::new(&SIGMAS, squares(grid), 0.12).unwrap().with_advected(advected)
}

/// With penalties that are as large as the other parts of the energy.
pub fn rdmm_optimised<T: Real, const D: usize>(advected: Advected) -> RdmmOptimised<T, D> {
    let metric = metric();
    let penalties: Vec<Arc<dyn Regularizer<T, D>>> = vec![
        Arc::new(Omt::new(0.3).unwrap()),
        Arc::new(TotalVariation::new(0.2).unwrap()),
        Arc::new(RangePenalty::new(0.1, metric.weights()).unwrap()),
    ];
    let model = RdmmOptimised::new(metric, 0.12).unwrap();
    model.with_advected(advected).with_penalties(penalties)
}

/// A grid of anisotropic spacing and extent about one.
pub fn grid<const D: usize>(shape: [usize; D], boundary: Boundary) -> Grid<D> {
    let spacing = std::array::from_fn(|a| (1.0 - 0.1 * a as f64) / shape[a] as f64);
    Grid::new(shape, spacing).unwrap().with_boundary(boundary)
}

/// Random controls whose velocity moves the grid by about `size` of its extent.
pub fn controls<T: Real, const D: usize, S: Shooting<T, D>>(
    shooting: &mut S,
    size: f64,
    seed: u64,
) -> Controls<T, D, S::Weights> {
    let grid = shooting.grid().clone();
    let mut controls = shooting.identity();
    let field = smooth(&grid, D, seed);
    for (m, x) in controls.momentum.data_mut().iter_mut().zip(field) {
        *m = T::of(size * x);
    }
    controls
}

/// Integrates the controls and gives the end.
pub fn shoot<T: Real, const D: usize, S: Shooting<T, D>>(
    shooting: &mut S,
    controls: &Controls<T, D, S::Weights>,
    integration: Integration,
) -> State<T, D, S> {
    let start = shooting.initial_state(controls);
    let mut sweep = Sweep::new(shooting.evolution(), &start, integration).unwrap();
    sweep.forward(&start).unwrap().clone()
}

/// The rate of a state, and the tape with its velocity.
pub fn rate<E: Evolution>(evolution: &E, state: &E::State) -> (E::State, E::Tape) {
    let (mut tape, mut ws) = (evolution.tape().unwrap(), evolution.workspace().unwrap());
    let mut rate = state.zeros_like();
    evolution.velocity(state, &mut tape, &mut ws);
    evolution.rate(state, StageMap::OfState, &mut rate, &tape, &mut ws);
    (rate, tape)
}

pub fn fixed_steps(n: usize) -> Integration {
    Integration { steps: Steps::Fixed(n), ..Integration::default() }
}

/// The metric of RDMM built by hand, for weights that no model would give.
pub type Region<T, const D: usize> = Mixture<Gaussian<T, D>, BoxedKernel<T>, T, D>;

/// Three Gaussians of [`SIGMAS`] with G of 0.12, or no G where the weights themselves are advected.
pub fn region<T: Real, const D: usize>(
    grid: &Grid<D>,
    advected: Advected,
    order: Order,
) -> Region<T, D> {
    let mirrored = grid.clone().with_boundary(grid.boundary().of_weights());
    let smoothing: BoxedKernel<T> = match advected {
        Advected::PreWeights => Box::new(Gaussian::new(&mirrored, 0.12).unwrap()),
        _ => Box::new(Identity),
    };
    let kernels = GaussianBank::new(grid, &SIGMAS).unwrap().into_gaussians();
    Mixture::new(grid, kernels, smoothing, order).unwrap()
}

/// Both forms of RDMM.
pub const FORMS: [Advected; 2] = [Advected::PreWeights, Advected::Weights];

/// Largest deviation of `a` from `b` over the largest value of `b`; infinite where there is a NaN.
pub fn deviation<T: Real>(a: &[T], b: &[T]) -> f64 {
    assert_eq!(a.len(), b.len());
    let largest = |f: &dyn Fn(usize) -> f64| {
        (0..b.len()).fold(0.0_f64, |m, i| if f(i).is_nan() { f64::INFINITY } else { m.max(f(i)) })
    };
    let size = largest(&|i| b[i].f64().abs());
    let off = largest(&|i| (a[i].f64() - b[i].f64()).abs());
    if off > 0.0 { off / size } else { 0.0 }
}

/// The values of an objective on a line: e ↦ f(start + e·direction).
pub fn along<'a, O: Objective<f64>>(
    objective: &'a mut O,
    start: &'a O::Control,
    direction: &'a O::Control,
) -> impl FnMut(f64) -> f64 + 'a {
    let mut gradient = start.zeros_like();
    move |e| {
        let mut moved = start.clone();
        moved.axpy(e, direction);
        objective.evaluate(&moved, &mut gradient).unwrap()
    }
}

/// The bits of every value.
pub fn bits<T: Real>(data: &[T]) -> Vec<u64> {
    data.iter().map(|x| x.f64().to_bits()).collect()
}

/// Fills any state or control with reproducible random values through its axpy and scale only.
pub fn randomised<T: Real, S: StateSpace<T> + Randomise>(like: &S, seed: u64) -> S {
    let mut out = like.clone();
    out.randomise(seed);
    out
}

/// Random content, block by block.
pub trait Randomise {
    fn randomise(&mut self, seed: u64);
}

impl Randomise for () {
    fn randomise(&mut self, _seed: u64) {}
}

impl<T: Real, const D: usize, K: rdmm_core::field::kind::Kind> Randomise
    for rdmm_core::field::Field<T, D, K>
{
    fn randomise(&mut self, seed: u64) {
        let values: Vec<T> = random(self.data().len(), seed);
        self.data_mut().copy_from_slice(&values);
    }
}

impl<T: Real, const D: usize, W: Randomise> Randomise for Controls<T, D, W> {
    fn randomise(&mut self, seed: u64) {
        self.momentum.randomise(seed);
        self.weights.randomise(seed + 1);
    }
}

impl<T: Real, const D: usize, W: Randomise> Randomise for rdmm_core::dynamics::Geodesic<T, D, W> {
    fn randomise(&mut self, seed: u64) {
        self.momentum.randomise(seed);
        self.weights.randomise(seed + 1);
    }
}

impl<T: Real, const D: usize, B: Randomise> Randomise for rdmm_core::dynamics::Flow<T, D, B> {
    fn randomise(&mut self, seed: u64) {
        self.body.randomise(seed);
        self.map.randomise(seed + 2);
    }
}

impl<T: Real, const D: usize, S: Randomise> Randomise
    for rdmm_core::dynamics::TrackedState<T, D, S>
{
    fn randomise(&mut self, seed: u64) {
        self.flow.randomise(seed);
        self.forward.randomise(seed + 4);
    }
}

/// Runs `$body` with `$model` bound to every model in turn.
#[macro_export]
macro_rules! for_each_model {
    ($grid:expr, |$model:ident| $body:expr) => {{
        use rdmm_core::model::Advected;
        {
            let $model = $crate::common::vsvf();
            $body
        }
        {
            let $model = $crate::common::lddmm();
            $body
        }
        {
            let $model = $crate::common::rdmm::<f64, _>($grid, Advected::PreWeights);
            $body
        }
        {
            let $model = $crate::common::rdmm::<f64, _>($grid, Advected::Weights);
            $body
        }
        {
            let $model = $crate::common::rdmm_optimised(Advected::PreWeights);
            $body
        }
        {
            let $model = $crate::common::rdmm_optimised(Advected::Weights);
            $body
        }
    }};
}
