use rdmm_core::grid::{Boundary, Grid};
use rdmm_core::kernel::{Gaussian, GaussianBank, Kernel, Workspace};
use rdmm_core::testing::random;
use std::time::Instant;
fn best(mut f: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    let start = Instant::now();
    let mut k = 0;
    while k < 5 || start.elapsed().as_secs_f64() < 0.25 {
        let t = Instant::now();
        f();
        best = best.min(t.elapsed().as_secs_f64());
        k += 1;
    }
    best
}
fn on<T: rdmm_core::Real, const D: usize>(shape: [usize; D]) {
    let g0 = Grid::<D>::new(shape, [1.0; D]).unwrap();
    let n = g0.len();
    let x = random::<T>(n, 1);
    let mut out = vec![T::zero(); n];
    for b in Boundary::ALL {
        let grid = g0.clone().with_boundary(b);
        let mut line = format!("{shape:?} {} {b:?}:", T::NAME);
        for sigma in [2.0, 4.0, 8.0] {
            let t0 = Instant::now();
            let g = Gaussian::<T, D>::new(&grid, sigma).unwrap();
            let build = t0.elapsed().as_secs_f64() * 1e3;
            let r = Gaussian::<T, D>::new(&grid, sigma).unwrap().with_tolerance(0.0).unwrap();
            let mut ws = Workspace::new();
            let a = best(|| r.apply(&x, &mut out, &mut ws));
            let c = best(|| g.apply(&x, &mut out, &mut ws));
            line += &format!(
                "  s{sigma}: {:.1} -> {:.2} (build {build:.1} ms)",
                a * 1e9 / n as f64,
                c * 1e9 / n as f64
            );
        }
        let bank = GaussianBank::<T, D>::new(&grid, &[2.0, 4.0, 8.0, 12.0]).unwrap();
        let s = bank.combined(&[0.1, 0.3, 0.3, 0.3]).unwrap();
        let r = bank.with_tolerance(0.0).unwrap().combined(&[0.1, 0.3, 0.3, 0.3]).unwrap();
        let mut ws = Workspace::new();
        let a = best(|| r.apply(&x, &mut out, &mut ws));
        let c = best(|| s.apply(&x, &mut out, &mut ws));
        line += &format!("  sum: {:.1} -> {:.2}", a * 1e9 / n as f64, c * 1e9 / n as f64);
        println!("{line}");
    }
}
fn main() {
    on::<f32, 3>([64, 64, 64]);
    on::<f32, 3>([96, 96, 96]);
    on::<f32, 2>([256, 256]);
    if std::env::args().nth(1).is_some() {
        on::<f64, 3>([64, 64, 64]);
        on::<f64, 2>([256, 256]);
    }
}
