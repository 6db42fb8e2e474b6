//! The same bits on every run, whatever the number of threads.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use crate::common::{self, bits, controls, fixed_steps, grid};
use rdmm_core::adjoint::Sweep;
use rdmm_core::grid::{Boundary, Grid};
#[cfg(feature = "rayon")]
use rdmm_core::model::Carried;
use rdmm_core::model::{Model, Shooting};
use rdmm_core::space::{FlowState, StateSpace};

/// Bits of the end map, of the Hamiltonian and of the gradient of ½‖u‖² in the momentum.
fn trajectory_and_gradient<M: Model<f32, 3>>(grid: &Grid<3>, model: &M) -> Vec<u64> {
    let mut shooting = model.on(grid).unwrap();
    let controls = controls(&mut shooting, 0.5, 5);
    let start = shooting.initial_state(&controls);
    let mut sweep = Sweep::new(shooting.evolution(), &start, fixed_steps(2)).unwrap();
    let end = sweep.forward(&start).unwrap().clone();
    let mut found = bits(end.map().data());
    found.push(shooting.hamiltonian(&end).unwrap().to_bits());
    let mut bar = end.zeros_like();
    bar.map_mut().copy_from(end.map());
    sweep.backward(&start, &mut bar).unwrap();
    let mut gradient = controls.zeros_like();
    shooting.initial_state_vjp(&controls, &bar, &mut gradient);
    assert!(end.map().max_abs() > 1e-3 && gradient.momentum.max_abs() > 0.0, "something moves");
    found.extend(bits(gradient.momentum.data()));
    // Reductions, too: the optimiser's inner products.
    found.push(gradient.norm().to_bits());
    found
}

/// Large enough to be cut into several chunks a component, of a length that chunks do not divide.
fn volume() -> Grid<3> {
    grid([40, 36, 44], Boundary::Reflecting)
}

#[test]
fn repeated_runs_give_the_same_bits() {
    let grid = volume();
    let model = common::lddmm();
    let first = trajectory_and_gradient(&grid, &model);
    assert!(first == trajectory_and_gradient(&grid, &model));
}

#[cfg(feature = "rayon")]
#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let grid = volume();
    let (lddmm, rdmm) = (common::lddmm(), common::rdmm_optimised(Carried::PreWeights));
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            assert_eq!(rayon::current_num_threads(), threads);
            [trajectory_and_gradient(&grid, &lddmm), trajectory_and_gradient(&grid, &rdmm)]
        })
    };
    let one = with(1);
    for threads in [2, 5] {
        let many = with(threads);
        for (model, (a, b)) in ["LDDMM", "RDMM"].iter().zip(one.iter().zip(&many)) {
            let differ = a.iter().zip(b).filter(|(a, b)| a != b).count();
            assert_eq!(differ, 0, "{model}: values that differ with {threads} threads");
        }
    }
}

#[cfg(feature = "rayon")]
#[test]
fn the_number_of_threads_does_not_change_a_bit_of_a_similarity() {
    use rdmm_core::field::Image;
    use rdmm_core::similarity::{Histogram, Measure, MultiLncc, MutualInformation, Ncc, Window};
    use rdmm_core::testing::random;

    let grid = volume();
    let fixed = Image::<f32, 3>::from_vec(&grid, random(grid.len(), 1)).unwrap();
    let warped: Vec<f32> = random(grid.len(), 2);
    let histogram = Histogram { fixed: [-1.0, 1.0], moving: [-1.0, 1.0], ..Histogram::default() };
    let windows = [
        (0.5, Window::Gaussian { sigma: 2.0 * grid.coarsest_spacing() }),
        (0.5, Window::Box { width: 6.5 * grid.coarsest_spacing() }),
    ];
    let measures: [Box<dyn Measure<f32, 3>>; 3] = [
        Box::new(Ncc),
        Box::new(MultiLncc::new(&windows).unwrap()),
        Box::new(MutualInformation { histogram }),
    ];
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let evaluate = |measure: &dyn Measure<f32, 3>| {
                let mut gradient = vec![f32::NAN; grid.len()];
                let mut loss = measure.against(&fixed, None).unwrap();
                let value = loss.value_and_gradient(&warped, &mut gradient);
                assert!(value.is_finite() && gradient.iter().all(|g| g.is_finite()));
                (value.to_bits(), bits(&gradient))
            };
            measures.iter().map(|measure| evaluate(&**measure)).collect::<Vec<_>>()
        })
    };
    let one = with(1);
    for threads in [2, 5] {
        assert!(with(threads) == one, "{threads} threads");
    }
}
