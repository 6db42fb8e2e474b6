//! Smoothing kernels and the local correlation, in voxels per second.
#![expect(clippy::unwrap_used, reason = "a test stops where its problem cannot be built")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rdmm_core::Real;
use rdmm_core::field::Image;
use rdmm_core::grid::{Boundary, Grid};
use rdmm_core::kernel::{Gaussian, GaussianBank, Kernel, Workspace};
use rdmm_core::similarity::{Lncc, Measure};
use rdmm_core::testing::random;

fn on<T: Real, const D: usize>(c: &mut Criterion, shape: [usize; D]) {
    let unit = Grid::<D>::unit(shape).unwrap();
    let n = unit.len();
    let (x, mut out) = (random::<T>(n, 1), vec![T::zero(); n]);
    let mut ws = Workspace::new();
    let mut bench = |name: &str, parameter: &str, work: &mut dyn FnMut()| {
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Elements(n as u64)).sample_size(20);
        group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
        let id = BenchmarkId::from_parameter(format!("{shape:?} {} {parameter}", T::NAME));
        group.bench_function(id, |b| b.iter(&mut *work));
        group.finish();
    };
    for boundary in Boundary::ALL {
        let grid = unit.clone().with_boundary(boundary);
        for sigma in [0.02, 0.16] {
            let gaussian = Gaussian::new(&grid, sigma).unwrap();
            bench("Gaussian", &format!("{boundary:?} {sigma}"), &mut || {
                gaussian.apply(black_box(&x), &mut out, &mut ws);
            });
        }
        let bank = GaussianBank::new(&grid, &[0.02, 0.04, 0.08, 0.16]).unwrap();
        let sum = bank.combined(&[0.1, 0.3, 0.3, 0.3]).unwrap();
        bench("sum of four Gaussians", &format!("{boundary:?}"), &mut || {
            sum.apply(black_box(&x), &mut out, &mut ws);
        });
    }
    let fixed = Image::<T, D>::from_vec(&unit, random(n, 2)).unwrap();
    let mut loss = Lncc { sigma: 0.05 }.against(&fixed, None).unwrap();
    bench("LNCC and gradient", "", &mut || {
        black_box(loss.value_and_gradient(black_box(&x), &mut out));
    });
}

fn kernels(c: &mut Criterion) {
    on::<f32, 2>(c, [256, 256]);
    on::<f64, 2>(c, [256, 256]);
    on::<f32, 3>(c, [64, 64, 64]);
    on::<f64, 3>(c, [64, 64, 64]);
}

criterion_group!(benches, kernels);
criterion_main!(benches);
