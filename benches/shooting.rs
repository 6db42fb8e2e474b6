//! Shooting, and shooting with its gradient: RK4 with ten steps, in voxels per second.
#![expect(clippy::unwrap_used, reason = "a test stops where its problem cannot be built")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rdmm_core::Real;
use rdmm_core::adjoint::Sweep;
use rdmm_core::adjoint::sweep::Integration;
use rdmm_core::field::Weights;
use rdmm_core::grid::Grid;
use rdmm_core::kernel::Kernel;
use rdmm_core::model::{Lddmm, Model, MultiGaussian, Rdmm, Shooting, Vsvf};
use rdmm_core::space::StateSpace;
use rdmm_core::step::Steps;
use rdmm_core::testing::random;

fn model_on<T: Real, const D: usize, M: Model<T, D>>(c: &mut Criterion, grid: &Grid<D>, model: &M) {
    let mut shooting = model.on(grid).unwrap();
    let mut controls = shooting.rest();
    // A smooth momentum whose velocity crosses about a twentieth of the grid.
    let smoother = MultiGaussian::for_grid(grid);
    let bank = rdmm_core::kernel::GaussianBank::<T, D>::new(grid, &smoother.sigmas).unwrap();
    let rough = random::<T>(D * grid.len(), 7);
    let mut ws = rdmm_core::kernel::Workspace::new();
    bank.scales()[1].apply(&rough, controls.momentum.data_mut(), &mut ws);
    let mut start = shooting.blank_state();
    let largest = controls.momentum.max_abs();
    controls.momentum.scale(T::of(0.1 / largest));
    shooting.start(&controls, &mut start);

    let how = Integration { steps: Steps::Fixed(10), ..Integration::default() };
    let mut sweep = Sweep::new(grid, shooting.evolution(), &start, how).unwrap();
    let id = format!("{} {:?} {}", model.name(), grid.shape(), T::NAME);
    let mut bench = |name: &str, work: &mut dyn FnMut()| {
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Elements(grid.len() as u64)).sample_size(10);
        group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_millis(500));
        group.bench_function(BenchmarkId::from_parameter(&id), |b| b.iter(&mut *work));
        group.finish();
    };
    bench("shooting", &mut || {
        black_box(sweep.forward(black_box(&start)).unwrap());
    });
    let mut bar = start.clone();
    bench("shooting and gradient", &mut || {
        bar.copy_from(sweep.forward(black_box(&start)).unwrap());
        sweep.backward(&mut bar).unwrap();
    });
}

fn on<T: Real, const D: usize>(c: &mut Criterion, shape: [usize; D]) {
    let grid = Grid::<D>::unit(shape).unwrap();
    let metric = MultiGaussian::for_grid(&grid);
    model_on::<T, D, _>(c, &grid, &Vsvf { metric: metric.clone() });
    model_on::<T, D, _>(c, &grid, &Lddmm { metric: metric.clone() });
    // Two regions with different shares of the four Gaussians.
    let [left, right] = [[0.1, 0.3, 0.3, 0.3], [0.4, 0.4, 0.1, 0.1]];
    let half = 0.5 * grid.extent()[0];
    let share = |x: [f64; D], i: usize| if x[0] < half { left[i] } else { right[i] };
    let shares = Weights::<T, D>::from_fn(&grid, 4, share).unwrap();
    let smoothing = 0.04 * grid.largest_extent();
    model_on::<T, D, _>(c, &grid, &Rdmm::new(&metric.sigmas, shares, smoothing).unwrap());
}

fn shooting(c: &mut Criterion) {
    on::<f32, 2>(c, [128, 128]);
    on::<f64, 2>(c, [128, 128]);
    on::<f32, 2>(c, [256, 256]);
    on::<f64, 2>(c, [256, 256]);
    on::<f32, 3>(c, [64, 64, 64]);
    on::<f64, 3>(c, [64, 64, 64]);
    on::<f32, 3>(c, [40, 96, 96]);
    on::<f64, 3>(c, [40, 96, 96]);
}

criterion_group!(benches, shooting);
criterion_main!(benches);
