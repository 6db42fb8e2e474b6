//! Slice operators and their transposes that `kernels` does not time, in voxels per second.
#![expect(clippy::unwrap_used, reason = "a test stops where its problem cannot be built")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rdmm_core::Real;
use rdmm_core::field::Displacement;
use rdmm_core::grid::Grid;
use rdmm_core::ops::compose::Composition;
use rdmm_core::ops::difference::{Difference, Order};
use rdmm_core::ops::resample::{Resample, Workspace};
use rdmm_core::ops::warp::Warp;
use rdmm_core::testing::random;
use rdmm_validation::speed::problem::displacement;

fn on<T: Real, const D: usize>(c: &mut Criterion, shape: [usize; D]) {
    let grid = Grid::<D>::unit(shape).unwrap();
    let (n, id) = (grid.len(), BenchmarkId::from_parameter(format!("{shape:?} {}", T::NAME)));
    let (f, a) = (random::<T>(n, 1), random::<T>(n, 2));
    let (vector, u) = (random::<T>(D * n, 4), displacement::<T, D>(&grid).unwrap());
    let (mut scalar, mut out) = (vec![T::zero(); n], vec![T::zero(); D * n]);
    let mut bench = |name: &str, work: &mut dyn FnMut()| {
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Elements(n as u64)).sample_size(20);
        group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
        group.bench_function(id.clone(), |b| b.iter(&mut *work));
        group.finish();
    };

    let difference = Difference::new(&grid, Order::Fourth);
    bench("difference, all axes", &mut || {
        (0..D).for_each(|axis| {
            difference.add_scaled(axis, T::one(), &a, black_box(&f), 0, &mut scalar);
        });
    });
    bench("difference transposed, all axes", &mut || {
        (0..D).for_each(|axis| difference.add_transposed(axis, T::one(), &a, &f, 0, &mut scalar));
    });

    let warp = Warp::<T, D>::new(&grid, &grid);
    bench("warp value and gradient", &mut || {
        warp.value_and_gradient(black_box(&f), &u, &mut scalar, &mut out);
    });
    let composition = Composition::new(&grid);
    let mut coefficients = vec![T::zero(); D * n];
    bench("composition", &mut || {
        composition.coefficients(black_box(&vector), &mut coefficients);
        composition.compose(&coefficients, &u, &mut out);
    });
    let (mut v_bar, kept) = (vector.clone(), coefficients.clone());
    bench("composition transposed", &mut || {
        out.fill(T::zero());
        v_bar.copy_from_slice(&vector);
        coefficients.copy_from_slice(&kept);
        composition.sample_vjp(&mut coefficients, &u, &mut v_bar, &mut out);
    });

    let coarse = grid.coarsened(2.0).unwrap();
    let resample = Resample::<T, D>::new(&coarse, &grid);
    let mut small = random::<T>(D * coarse.len(), 5);
    let mut ws = Workspace::default();
    bench("resample to twice as fine", &mut || {
        resample.apply(black_box(&small), &mut out, &mut ws);
    });
    bench("resample transposed", &mut || {
        resample.transpose(black_box(&vector), &mut small, &mut ws);
    });
    let map = Displacement::<T, D>::from_vec(&grid, u.clone()).unwrap();
    bench("jacobian determinant", &mut || {
        black_box(map.jacobian_determinant().unwrap());
    });
}

fn operators(c: &mut Criterion) {
    on::<f32, 2>(c, [256, 256]);
    on::<f64, 2>(c, [256, 256]);
    on::<f32, 3>(c, [64, 64, 64]);
    on::<f64, 3>(c, [64, 64, 64]);
}

criterion_group!(benches, operators);
criterion_main!(benches);
