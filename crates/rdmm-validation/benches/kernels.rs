//! The kernels of the flows in voxels per second, beside the bound by the bandwidth of the memory, and
//! Gaussians at the boundaries that the flows do not use.
#![expect(clippy::unwrap_used, reason = "a bench stops where its problem cannot be built")]
#![expect(clippy::print_stdout, reason = "a bench reports on the terminal")]

mod bound;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rdmm_core::Real;
use rdmm_core::grid::{Boundary, Grid};
use rdmm_core::kernel::{Gaussian, Kernel, Workspace};
use rdmm_core::testing::random;

fn boundaries<T: Real, const D: usize>(c: &mut Criterion, shape: [usize; D]) {
    let unit = Grid::<D>::unit(shape).unwrap();
    let n = unit.len();
    let (x, mut out) = (random::<T>(n, 1), vec![T::zero(); n]);
    let mut ws = Workspace::new();
    let mut group = c.benchmark_group("Gaussian of 4 voxels");
    group.throughput(Throughput::Elements(n as u64)).sample_size(20);
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    for boundary in [Boundary::Periodic, Boundary::Free] {
        let grid = unit.clone().with_boundary(boundary);
        let gaussian = Gaussian::new(&grid, 4.0 * grid.coarsest_spacing()).unwrap();
        let id = BenchmarkId::from_parameter(format!("{shape:?} {} {boundary:?}", T::NAME));
        group.bench_function(id, |b| b.iter(|| gaussian.apply(black_box(&x), &mut out, &mut ws)));
    }
    group.finish();
}

fn kernels(c: &mut Criterion) {
    for workload in rdmm_validation::speed::workload::kernels() {
        bound::bench(c, &workload);
    }
    boundaries::<f32, 2>(c, [256, 256]);
    boundaries::<f32, 3>(c, [64, 64, 64]);
    boundaries::<f64, 3>(c, [64, 64, 64]);
}

criterion_group!(benches, kernels);
criterion_main!(benches);
