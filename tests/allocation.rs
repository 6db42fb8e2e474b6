//! A gradient needs no further memory once its buffers exist, and keeps fewer stages where memory is refused.

#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "suite/common/mod.rs"]
mod common;

use std::sync::Arc;

use cap::Cap;
use common::Randomise;
use peak_alloc::PeakAlloc;
use rdmm_core::adjoint::Integration;
use rdmm_core::adjoint::Sweep;
use rdmm_core::dynamics::Evolution;
use rdmm_core::field::Weights;
use rdmm_core::grid::Grid;
use rdmm_core::model::{Lddmm, Model, MultiGaussian, Rdmm, Shooting, Vsvf};
use rdmm_core::space::StateSpace;
use rdmm_core::step::Steps;

#[global_allocator]
static ALLOCATOR: Cap<PeakAlloc> = Cap::new(PeakAlloc, usize::MAX);

const SHAPE: [usize; 3] = [40, 36, 38];

/// A gradient of three steps and what it needs.
struct Gradient<S: Shooting<f32, 3>> {
    sweep: Sweep<Arc<S::Evolution>>,
    start: State<S>,
    bar: State<S>,
}

type State<S> = <<S as Shooting<f32, 3>>::Evolution as Evolution>::State;

impl<S: Shooting<f32, 3>> Gradient<S> {
    fn new(grid: &Grid<3>, model: &impl Model<f32, 3, Shooting = S>) -> Self {
        let mut shooting = model.on(grid).unwrap();
        let mut controls = shooting.identity();
        controls.momentum.randomise(1);
        controls.momentum.scale(1e-3);
        let start = shooting.initial_state(&controls);
        let how = Integration { steps: Steps::Fixed(3), ..Integration::default() };
        let sweep = Sweep::new(shooting.evolution(), &start, how).unwrap();
        Self { sweep, bar: start.clone(), start }
    }

    fn compute(&mut self) {
        self.bar.copy_from(self.sweep.forward(&self.start).unwrap());
        self.sweep.backward(&self.start, &mut self.bar).unwrap();
    }
}

/// Bytes that a second gradient holds for a time beyond what there was before it, as a weight of one field.
fn share<M: Model<f32, 3>>(grid: &Grid<3>, model: &M) -> f64 {
    let mut gradient = Gradient::new(grid, model);
    gradient.compute();
    let before = PeakAlloc.current_usage();
    PeakAlloc.reset_peak_usage();
    gradient.compute();
    let bytes = PeakAlloc.peak_usage() - before;
    bytes as f64 / (grid.len() * size_of::<f32>()) as f64
}

/// Bytes held by the sweeps of two gradients: one with all the memory it asks for, one with no more than `fields`
/// beyond what there was before it. They are the same to the bit.
fn held<M: Model<f32, 3>>(grid: &Grid<3>, model: &M, fields: usize) -> [usize; 2] {
    let (mut rich, mut poor) = (Gradient::new(grid, model), Gradient::new(grid, model));
    rich.compute();
    ALLOCATOR.set_limit(ALLOCATOR.allocated() + fields * grid.len() * size_of::<f32>()).unwrap();
    poor.compute();
    ALLOCATOR.set_limit(usize::MAX).unwrap();
    rich.bar.axpy(-1.0, &poor.bar);
    assert!(rich.bar.max_abs() == 0.0 && poor.bar.max_abs() > 0.0);
    [rich, poor].map(|gradient| gradient.sweep.bytes_held())
}

/// One test, so that no other thread allocates meanwhile.
#[test]
fn gradients_hold_what_they_have_and_do_with_what_they_get() {
    let grid = Grid::<3>::unit(SHAPE).unwrap();
    let metric = MultiGaussian::for_grid(&grid);
    let weights = Weights::from_fn(&grid, 4, |_, _| 0.25).unwrap();
    let lddmm = Lddmm::new(metric.clone());
    let rdmm = Rdmm::new(metric.sigmas(), weights, 0.1).unwrap();
    let found = [share(&grid, &Vsvf::new(metric)), share(&grid, &lddmm), share(&grid, &rdmm)];
    println!("{found:?}");
    // Lists of the slices that threads work on, and tasks of the pool: some kilobytes at a time.
    assert!(found.iter().all(|&share| share < 0.1), "{found:?}");

    // A trace of RK4 is 39 fields and a state 6: there is room for one trace and all states, none for a second trace.
    let [rich, poor] = held(&grid, &lddmm, 70);
    let traces = (rich - poor) as f64 / (39 * grid.len() * size_of::<f32>()) as f64;
    assert!((traces - 2.0).abs() < 1e-6, "{traces} traces fewer");
}
