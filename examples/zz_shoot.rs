use rdmm_core::adjoint::Sweep;
use rdmm_core::adjoint::sweep::Integration;
use rdmm_core::field::Weights;
use rdmm_core::grid::Grid;
use rdmm_core::kernel::Kernel;
use rdmm_core::model::{Lddmm, Model, MultiGaussian, Rdmm, Shooting};
use rdmm_core::space::StateSpace;
use rdmm_core::step::Steps;
use rdmm_core::testing::random;
use std::time::Instant;
fn on<M: Model<f32, 3>>(grid: &Grid<3>, model: &M) {
    let mut shooting = model.on(grid).unwrap();
    let mut controls = shooting.rest();
    let smoother = MultiGaussian::for_grid(grid);
    let bank = rdmm_core::kernel::GaussianBank::<f32, 3>::new(grid, &smoother.sigmas).unwrap();
    let rough = random::<f32>(3 * grid.len(), 7);
    let mut ws = rdmm_core::kernel::Workspace::new();
    bank.scales()[1].apply(&rough, controls.momentum.data_mut(), &mut ws);
    let mut start = shooting.blank_state();
    let largest = controls.momentum.max_abs();
    controls.momentum.scale(0.1 / largest as f32);
    shooting.start(&controls, &mut start);
    let how = Integration { steps: Steps::Fixed(10), ..Integration::default() };
    let mut sweep = Sweep::new(grid, shooting.evolution(), &start, how).unwrap();
    let reps: usize = std::env::var("REPS").ok().and_then(|r| r.parse().ok()).unwrap_or(1);
    let (mut f, mut g) = (f64::INFINITY, f64::INFINITY);
    let mut bar = start.clone();
    for _ in 0..reps {
        let t = Instant::now();
        bar.copy_from(sweep.forward(&start).unwrap());
        f = f.min(t.elapsed().as_secs_f64());
        sweep.backward(&mut bar).unwrap();
        g = g.min(t.elapsed().as_secs_f64());
    }
    println!(
        "{} {:?}: shoot {f:.3} s, gradient {g:.3} s  sum {:e}",
        model.name(),
        grid.shape(),
        bar.max_abs()
    );
}
fn main() {
    let n: usize = std::env::var("N").ok().and_then(|r| r.parse().ok()).unwrap_or(64);
    let which = std::env::args().nth(1).unwrap_or_default();
    let grid = Grid::<3>::unit([n; 3]).unwrap();
    let metric = MultiGaussian::for_grid(&grid);
    if which != "r" {
        on(&grid, &Lddmm { metric: metric.clone() });
    }
    let [left, right] = [[0.1, 0.3, 0.3, 0.3], [0.4, 0.4, 0.1, 0.1]];
    let half = 0.5 * grid.extent()[0];
    let share = |x: [f64; 3], i: usize| if x[0] < half { left[i] } else { right[i] };
    let shares = Weights::<f32, 3>::from_fn(&grid, 4, share).unwrap();
    if which != "l" {
        on(&grid, &Rdmm::new(&metric.sigmas, shares, 0.04).unwrap());
    }
}
