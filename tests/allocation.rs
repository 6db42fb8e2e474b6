//! A gradient needs no further memory once its buffers exist.

#![expect(clippy::unwrap_used, reason = "a test")]

mod common;

use common::Randomise;
use peak_alloc::PeakAlloc;
use rdmm_core::adjoint::Sweep;
use rdmm_core::adjoint::sweep::Integration;
use rdmm_core::field::Weights;
use rdmm_core::grid::Grid;
use rdmm_core::model::{Lddmm, Model, MultiGaussian, Rdmm, Shooting, Vsvf};
use rdmm_core::space::StateSpace;
use rdmm_core::step::Steps;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const SHAPE: [usize; 3] = [40, 36, 38];

/// Bytes that a gradient holds for a time beyond what there was before it, as a share of one field.
fn share<M: Model<f32, 3>>(grid: &Grid<3>, model: &M) -> f64 {
    let mut shooting = model.on(grid).unwrap();
    let mut controls = shooting.rest();
    controls.momentum.randomise(1);
    controls.momentum.scale(1e-3);
    let mut start = shooting.blank_state();
    shooting.start(&controls, &mut start);
    let how = Integration { steps: Steps::Fixed(3), ..Integration::default() };
    let mut sweep = Sweep::new(grid, shooting.evolution(), &start, how).unwrap();
    let mut bar = start.clone();
    let mut gradient = || {
        bar.copy_from(sweep.forward(&start).unwrap());
        sweep.backward(&mut bar).unwrap();
    };
    gradient();
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    gradient();
    let bytes = ALLOCATOR.peak_usage() - before;
    bytes as f64 / (grid.len() * size_of::<f32>()) as f64
}

/// One test, so that no other thread allocates meanwhile.
#[test]
fn a_second_gradient_holds_no_further_field() {
    let grid = Grid::<3>::unit(SHAPE).unwrap();
    let metric = MultiGaussian::for_grid(&grid);
    let shares = Weights::from_fn(&grid, 4, |_, _| 0.25).unwrap();
    let rdmm = Rdmm::new(&metric.sigmas, shares, 0.1).unwrap();
    let found = [
        share(&grid, &Vsvf { metric: metric.clone() }),
        share(&grid, &Lddmm { metric }),
        share(&grid, &rdmm),
    ];
    println!("{found:?}");
    // Lists of the slices that threads work on, and tasks of the pool: some kilobytes at a time.
    assert!(found.iter().all(|&share| share < 0.1), "{found:?}");
}
