//! From what is measured to work that can be run: grids, random fields, sweeps.

use std::error::Error;
use std::hint::black_box;

use rdmm_core::Real;
use rdmm_core::adjoint::Integration;
use rdmm_core::adjoint::{Checkpoints, Sweep};
use rdmm_core::field::{Displacement, Image, Weights};
use rdmm_core::grid::Grid;
use rdmm_core::kernel::{Gaussian, GaussianBank, Kernel, Workspace};
use rdmm_core::model::{Controls, Lddmm, Model, MultiGaussian, Rdmm, Shooting, Vsvf};
use rdmm_core::ops::warp::Warp;
use rdmm_core::similarity::{Lncc, Measure};
use rdmm_core::space::StateSpace;
use rdmm_core::step::Steps;
use rdmm_core::testing::random;

use super::workload::{Dynamics, Float, Flow, Operation, Workload};

type Fallible<T> = Result<T, Box<dyn Error>>;

/// What repeats the work that is prepared for it.
pub type Runner<'a> = dyn FnMut(&mut dyn FnMut() -> Fallible<()>) -> Fallible<()> + 'a;

/// Prepares the work and hands it to `runner`.
pub fn run(workload: &Workload, runner: &mut Runner) -> Fallible<()> {
    let operation = workload.operation;
    match (workload.shape.as_slice(), workload.float) {
        (&[a, b], Float::F32) => on::<f32, 2>(&Grid::unit([a, b])?, operation, runner),
        (&[a, b], Float::F64) => on::<f64, 2>(&Grid::unit([a, b])?, operation, runner),
        (&[a, b, c], Float::F32) => on::<f32, 3>(&Grid::unit([a, b, c])?, operation, runner),
        (&[a, b, c], Float::F64) => on::<f64, 3>(&Grid::unit([a, b, c])?, operation, runner),
        (shape, _) => Err(format!("no workload on {} axes", shape.len()).into()),
    }
}

/// The same for an operation on `grid`.
pub fn on<T: Real, const D: usize>(
    grid: &Grid<D>,
    operation: Operation,
    runner: &mut Runner,
) -> Fallible<()> {
    match operation {
        Operation::Shoot(flow) | Operation::Gradient(flow) | Operation::LeanGradient(flow) => {
            with_model::<T, D>(grid, operation, flow, runner)
        }
        Operation::Gaussian(sigma) => {
            let gaussian = Gaussian::new(grid, sigma * grid.coarsest_spacing())?;
            smooth::<T, D>(grid, &gaussian, runner)
        }
        Operation::SumOfGaussians => {
            let metric = MultiGaussian::for_grid(grid);
            let sum = GaussianBank::new(grid, metric.sigmas())?.combined(metric.weights())?;
            smooth::<T, D>(grid, &sum, runner)
        }
        Operation::WarpImage => warp::<T, D, 1>(grid, runner),
        Operation::WarpVector => warp::<T, D, D>(grid, runner),
        Operation::ScatterVector => scatter::<T, D>(grid, runner),
        Operation::Lncc => lncc::<T, D>(grid, runner),
    }
}

fn with_model<T: Real, const D: usize>(
    grid: &Grid<D>,
    operation: Operation,
    flow: Flow,
    runner: &mut Runner,
) -> Fallible<()> {
    let metric = metric(grid, flow.gaussians)?;
    match flow.dynamics {
        Dynamics::Vsvf => sweep::<T, D, _>(grid, Vsvf::new(metric), operation, flow, runner),
        Dynamics::Lddmm => sweep::<T, D, _>(grid, Lddmm::new(metric), operation, flow, runner),
        Dynamics::Rdmm => {
            // Two regions with the weights of the Gaussians in opposite order.
            let (n, half) = (flow.gaussians, 0.5 * grid.extent()[0]);
            let share =
                |x: [f64; D], i: usize| metric.weights()[if x[0] < half { i } else { n - 1 - i }];
            let weights = Weights::<T, D>::from_fn(grid, n, share)?;
            let smoothing = 0.04 * grid.largest_extent();
            let model = Rdmm::new(metric.sigmas(), weights, smoothing)?;
            sweep::<T, D, _>(grid, model, operation, flow, runner)
        }
    }
}

/// `n` Gaussians from the smallest to the largest σ of the default metric, with rising weights.
fn metric<const D: usize>(grid: &Grid<D>, n: usize) -> Fallible<MultiGaussian> {
    let default = MultiGaussian::for_grid(grid);
    let default = default.sigmas();
    let (Some(smallest), Some(largest)) = (default.first(), default.last()) else {
        return Err("the default metric has no Gaussian".into());
    };
    let ratio = largest / smallest;
    let place = |i: usize| i as f64 / (n.max(2) - 1) as f64;
    let sigmas: Vec<f64> = (0..n).map(|i| smallest * ratio.powf(place(i))).collect();
    let total = (1..=n).sum::<usize>() as f64;
    let weights: Vec<f64> = (1..=n).map(|i| i as f64 / total).collect();
    Ok(MultiGaussian::new(&sigmas, &weights)?)
}

fn sweep<T: Real, const D: usize, M: Model<T, D>>(
    grid: &Grid<D>,
    model: M,
    operation: Operation,
    flow: Flow,
    runner: &mut Runner,
) -> Fallible<()> {
    let mut shooting = model.on(grid)?;
    let start = controls(grid, shooting.identity())?;
    let start = shooting.initial_state(&start);
    let evolution = shooting.evolution();
    // Fields that a flow does not need count for no peak.
    drop((model, shooting));

    let checkpoints = match operation {
        Operation::Gradient(_) => Checkpoints::default(),
        _ => Checkpoints::Binomial(1),
    };
    let shoots = matches!(operation, Operation::Shoot(_));
    let steps = Steps::Fixed(flow.steps);
    let how = Integration { steps, checkpoints, ..Integration::default() };
    let mut sweep = Sweep::new(evolution, &start, how)?;
    if shoots {
        return runner(&mut || {
            black_box(sweep.forward(black_box(&start))?);
            Ok(())
        });
    }
    let mut bar = start.clone();
    runner(&mut || {
        bar.copy_from(sweep.forward(black_box(&start))?);
        Ok(sweep.backward(&start, &mut bar)?)
    })
}

/// A smooth momentum whose velocity crosses about a twentieth of the grid.
fn controls<T: Real, const D: usize, W: StateSpace<T>>(
    grid: &Grid<D>,
    mut controls: Controls<T, D, W>,
) -> Fallible<Controls<T, D, W>> {
    let smoother = Gaussian::<T, D>::new(grid, MultiGaussian::for_grid(grid).sigmas()[1])?;
    let rough = random::<T>(D * grid.len(), 7);
    smoother.apply(&rough, controls.momentum.data_mut(), &mut Workspace::new());
    let largest = controls.momentum.max_abs();
    controls.momentum.scale(T::of(0.1 / largest));
    Ok(controls)
}

fn smooth<T: Real, const D: usize>(
    grid: &Grid<D>,
    kernel: &impl Kernel<T>,
    runner: &mut Runner,
) -> Fallible<()> {
    let (x, mut out) = (random::<T>(grid.len(), 1), vec![T::zero(); grid.len()]);
    let mut ws = Workspace::new();
    runner(&mut || {
        kernel.apply(black_box(&x), &mut out, &mut ws);
        Ok(())
    })
}

/// A smooth displacement of up to two voxels.
pub fn displacement<T: Real, const D: usize>(grid: &Grid<D>) -> Fallible<Vec<T>> {
    let mut u = Displacement::<T, D>::from_vec(grid, random(D * grid.len(), 3))?;
    u = Gaussian::new(grid, 3.0 * grid.coarsest_spacing())?.smooth(&u)?;
    let largest = u.max_abs();
    u.scale(T::of(2.0 * grid.coarsest_spacing() / largest));
    Ok(u.into_vec())
}

fn warp<T: Real, const D: usize, const C: usize>(
    grid: &Grid<D>,
    runner: &mut Runner,
) -> Fallible<()> {
    let (warp, n) = (Warp::<T, D>::new(grid, grid), grid.len());
    let (coefficients, u) = (random::<T>(C * n, 1), displacement::<T, D>(grid)?);
    let mut out = vec![T::zero(); C * n];
    runner(&mut || {
        warp.values::<C>(black_box(&coefficients), &u, &mut out);
        Ok(())
    })
}

fn scatter<T: Real, const D: usize>(grid: &Grid<D>, runner: &mut Runner) -> Fallible<()> {
    let (warp, n) = (Warp::<T, D>::new(grid, grid), grid.len());
    let (bar, u) = (random::<T>(D * n, 4), displacement::<T, D>(grid)?);
    let mut out = vec![T::zero(); D * n];
    runner(&mut || {
        warp.values_vjp::<D>(black_box(&u), &bar, &mut out);
        Ok(())
    })
}

fn lncc<T: Real, const D: usize>(grid: &Grid<D>, runner: &mut Runner) -> Fallible<()> {
    let fixed = Image::<T, D>::from_vec(grid, random(grid.len(), 2))?;
    let measure = Lncc { sigma: 4.0 * grid.coarsest_spacing() };
    let mut loss = measure.prepare(&fixed, None)?;
    let (warped, mut out) = (random::<T>(grid.len(), 1), vec![T::zero(); grid.len()]);
    runner(&mut || {
        black_box(loss.value_and_gradient(black_box(&warped), &mut out));
        Ok(())
    })
}
