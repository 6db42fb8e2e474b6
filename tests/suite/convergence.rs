//! Observed orders in time and space, an independent spectral oracle, and the control of step sizes.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests, which show their figures"
)]

use crate::common::{self, FORMS, deviation, fixed_steps, region, slope};
use rdmm_core::Error;
use rdmm_core::adjoint::Integration;
use rdmm_core::adjoint::Sweep;
use rdmm_core::dynamics::{Epdiff, EvolutionVjp, Flow, Geodesic, Stationary};
use rdmm_core::field::{Displacement, Momentum, Velocity, Weights};
use rdmm_core::grid::{Boundary, Grid};
use rdmm_core::kernel::{GaussianBank, Spectral};
use rdmm_core::metric::Homogeneous;
use rdmm_core::model::Advected;
use rdmm_core::ops::cells::cell_determinants;
use rdmm_core::ops::difference::Order;
use rdmm_core::space::StateSpace;
use rdmm_core::step::{DOPRI5, EULER, HEUN, MIDPOINT, MapTransport, RK4, Steps, Tableau};
use std::f64::consts::TAU;

const SHARES: [f64; 3] = [0.2, 0.5, 0.3];

/// A periodic box of extents 1, 0.8, 0.9 whose voxel i lies at i·h: coarse voxels coincide with fine ones.
fn lattice<const D: usize>(shape: [usize; D]) -> Grid<D> {
    let spacing = std::array::from_fn(|a| EXTENT[a] / shape[a] as f64);
    Grid::new(shape, spacing).unwrap().with_boundary(Boundary::Periodic)
}

const EXTENT: [f64; 3] = [1.0, 0.8, 0.9];

/// cos 2π(Σ kₐ xₐ/Lₐ + shift).
fn wave<const D: usize>(x: [f64; D], cycles: [f64; 3], shift: f64) -> f64 {
    let phase: f64 = (0..D).map(|a| cycles[a] * x[a] / EXTENT[a]).sum();
    (TAU * (phase + shift)).cos()
}

/// A trigonometric momentum that moves the box by about a tenth, for `size` = 1.
fn momentum<const D: usize>(grid: &Grid<D>, size: f64) -> Momentum<f64, D> {
    Momentum::from_fn(grid, |x| {
        std::array::from_fn(|c| {
            let waves = [
                0.14 * wave(x, [1.0, 0.0, 0.0], 0.1) + 0.08 * wave(x, [1.0, 1.0, 0.0], 0.3),
                0.12 * wave(x, [0.0, 1.0, 0.0], 0.7) - 0.07 * wave(x, [1.0, -1.0, 1.0], 0.2),
                0.10 * wave(x, [1.0, 0.0, 1.0], 0.5),
            ];
            size * waves[c]
        })
    })
    .unwrap()
}

/// Pre-weights of unit norm, not constant.
fn weights<const D: usize>(grid: &Grid<D>) -> Weights<f64, D> {
    Weights::from_fn(grid, 3, |x, c| {
        let angle = 0.8 + 0.4 * wave(x, [1.0, 0.0, 0.0], 0.0) * wave(x, [0.0, 1.0, 1.0], 0.2);
        [0.5, 0.75_f64.sqrt() * angle.cos(), 0.75_f64.sqrt() * angle.sin()][c]
    })
    .unwrap()
}

fn combined<const D: usize>(grid: &Grid<D>) -> Spectral<f64, D> {
    GaussianBank::new(grid, &common::SIGMAS).unwrap().combined(&SHARES).unwrap()
}

/// The blocks of an end state: momentum, weights, map.
type Blocks = Vec<(&'static str, Vec<f64>)>;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Which {
    Vsvf,
    Lddmm,
    Rdmm(Advected),
}

fn start_geodesic<const D: usize, W: StateSpace<f64>>(
    grid: &Grid<D>,
    size: f64,
    weights: W,
) -> Flow<f64, D, Geodesic<f64, D, W>> {
    let body = Geodesic { momentum: momentum(grid, size), weights };
    Flow { body, map: Displacement::zeros(grid).unwrap() }
}

fn end_of<E: EvolutionVjp<Scalar = f64>>(
    evolution: E,
    start: &E::State,
    how: Integration,
) -> (E::State, Vec<f64>) {
    let mut sweep = Sweep::new(evolution, start, how).unwrap();
    let end = sweep.forward(start).unwrap().clone();
    (end, sweep.step_sizes().to_vec())
}

/// End of a trajectory from the closed-form data, and its steps.
fn end<const D: usize>(
    which: Which,
    order: Order,
    grid: &Grid<D>,
    size: f64,
    how: Integration,
) -> (Blocks, Vec<f64>) {
    match which {
        Which::Vsvf => {
            let mut body = Velocity::zeros(grid).unwrap();
            let m = momentum(grid, size);
            Homogeneous::new(combined(grid)).smooth(
                m.data(),
                body.data_mut(),
                &mut rdmm_core::metric::homogeneous::Workspace::default(),
            );
            let start = Flow { body, map: Displacement::zeros(grid).unwrap() };
            let (end, steps) = end_of(Stationary::new(grid, order), &start, how);
            (vec![("map", end.map.into_vec())], steps)
        }
        Which::Lddmm => {
            let evolution = Epdiff::new(grid, Homogeneous::new(combined(grid)), order);
            let (end, steps) = end_of(evolution, &start_geodesic(grid, size, ()), how);
            (vec![("m", end.body.momentum.into_vec()), ("map", end.map.into_vec())], steps)
        }
        Which::Rdmm(carried) => {
            let evolution = Epdiff::new(grid, region(grid, carried, order), order);
            let start = start_geodesic(grid, size, weights(grid));
            let (end, steps) = end_of(evolution, &start, how);
            let Geodesic { momentum, weights } = end.body;
            let blocks = vec![
                ("m", momentum.into_vec()),
                ("h", weights.into_vec()),
                ("map", end.map.into_vec()),
            ];
            (blocks, steps)
        }
    }
}

/// Observed order of some blocks over a few step counts, against many steps on the same grid.
fn check_time<const D: usize>(
    grid: &Grid<D>,
    which: Which,
    (transport, blocks): (MapTransport, &[&str]),
    methods: &[(Tableau, [usize; 3])],
) {
    let run = |tableau: Tableau, steps: usize| {
        let how = Integration { tableau, transport: transport.clone(), ..fixed_steps(steps) };
        end(which, Order::Fourth, grid, 1.2, how).0
    };
    let reference = run(DOPRI5, 30);
    for &(tableau, counts) in methods {
        let ends = counts.map(|n| run(tableau, n));
        for (block, (name, exact)) in reference.iter().enumerate() {
            if !blocks.contains(name) {
                continue;
            }
            let errors: Vec<f64> = ends.iter().map(|end| deviation(&end[block].1, exact)).collect();
            let steps: Vec<f64> = counts.iter().map(|&n| 1.0 / n as f64).collect();
            let observed = slope(&steps, &errors);
            let what = format!("{D}-D {which:?} {transport:?} {} {name}", tableau.name());
            println!("{what}: {observed:.2}, {:.1e} … {:.1e}", errors[0], errors[2]);
            // 0.4 for step counts that are not yet asymptotic.
            let expected = f64::from(tableau.order()) - 0.4;
            assert!(observed > expected, "{what}: {observed:.2} {errors:?}");
        }
    }
}

const MODELS: [Which; 4] =
    [Which::Vsvf, Which::Lddmm, Which::Rdmm(Advected::PreWeights), Which::Rdmm(Advected::Weights)];

/// Counts for which errors lie above rounding.
const METHODS: [(Tableau, [usize; 3]); 5] = [
    (EULER, [16, 24, 32]),
    (MIDPOINT, [8, 12, 16]),
    (HEUN, [8, 12, 16]),
    (RK4, [5, 7, 9]),
    (DOPRI5, [4, 5, 6]),
];

/// With the Eulerian map a trajectory is an ordinary differential equation on the grid.
#[test]
fn methods_reach_their_order_in_time() {
    let all = ["m", "h", "map"];
    for which in MODELS {
        check_time(&lattice([32, 28]), which, (MapTransport::Eulerian, &all), &METHODS);
    }
    for which in [Which::Vsvf, Which::Lddmm, Which::Rdmm(Advected::PreWeights)] {
        check_time(&lattice([14, 12, 12]), which, (MapTransport::Eulerian, &all), &METHODS);
    }
}

/// A step of less than a voxel, of length d, loses d²h² times a fourth derivative to the cubic splines:
/// over all steps τh², first order in time with a small factor. So the order of the tableau is seen on a
/// fine grid and with few steps; in three dimensions, for the methods of low order.
#[test]
fn characteristics_reach_the_order_of_the_tableau() {
    let map = ["map"];
    let few = [
        (EULER, [16, 24, 32]),
        (MIDPOINT, [8, 12, 16]),
        (HEUN, [8, 12, 16]),
        (RK4, [2, 3, 4]),
        (DOPRI5, [1, 2, 3]),
    ];
    for which in [Which::Vsvf, Which::Lddmm, Which::Rdmm(Advected::PreWeights)] {
        check_time(&lattice([96, 80]), which, (MapTransport::SemiLagrangian, &map), &few);
    }
    for which in [Which::Vsvf, Which::Lddmm] {
        let grid = lattice([16, 14, 14]);
        check_time(&grid, which, (MapTransport::SemiLagrangian, &map), &few[..3]);
    }
}

/// Values of a fine grid at the voxels of one that is `times` coarser.
fn at_coarse<const D: usize>(fine: &[f64], grid: &Grid<D>, times: usize) -> Vec<f64> {
    let (n, shape) = (grid.len(), grid.shape());
    let fine_shape = shape.map(|s| s * times);
    let fine_len: usize = fine_shape.iter().product();
    let mut out = Vec::with_capacity(fine.len() / fine_len * n);
    for c in 0..fine.len() / fine_len {
        out.extend((0..n).map(|flat| {
            let index = grid.unravel(flat);
            let at = (0..D).fold(0, |at, a| at * fine_shape[a] + times * index[a]);
            fine[c * fine_len + at]
        }));
    }
    out
}

/// A grid of `shape` refined by some `times`, against one refined `finest` times, with as many steps.
struct Refinement<'a, const D: usize> {
    shape: [usize; D],
    times: &'a [usize],
    finest: usize,
    size: f64,
    how: Integration,
}

fn check_space<const D: usize>(which: Which, on: &Refinement<'_, D>, orders: &[(Order, f64)]) {
    let run = |order: Order, times: usize| {
        let grid = lattice(on.shape.map(|s| s * times));
        (end(which, order, &grid, on.size, on.how.clone()).0, grid)
    };
    // The reference is of fourth order for both stencils: its error is a small part of theirs.
    let (reference, _) = run(Order::Fourth, on.finest);
    for &(order, expected) in orders {
        let ends: Vec<_> = on.times.iter().map(|&t| run(order, t)).collect();
        for (block, (name, exact)) in reference.iter().enumerate() {
            let error = |(t, (blocks, grid)): (&usize, &(Blocks, Grid<D>))| {
                deviation(&blocks[block].1, &at_coarse(exact, grid, on.finest / t))
            };
            let errors: Vec<f64> = on.times.iter().zip(&ends).map(error).collect();
            let spacing: Vec<f64> = on.times.iter().map(|&t| 1.0 / t as f64).collect();
            let observed = slope(&spacing, &errors);
            let what = format!("{D}-D {which:?} {order:?} {name}");
            println!("{what}: {observed:.2}, {:.1e} … {:.1e}", errors[0], errors[errors.len() - 1]);
            // Half an order for grids that are not yet asymptotic, either way: a stencil of order two
            // must not look like one of order four.
            let off = (observed - expected).abs();
            assert!(off < 0.5, "{what}: {observed:.2} {errors:?}");
        }
    }
}

#[test]
fn stencils_reach_their_order_in_space() {
    let how = Integration { transport: MapTransport::Eulerian, ..fixed_steps(10) };
    let on = Refinement { shape: [20, 16], times: &[2, 3, 4], finest: 12, size: 0.7, how };
    let both = [(Order::Second, 2.0), (Order::Fourth, 4.0)];
    for which in [Which::Lddmm, Which::Rdmm(Advected::PreWeights), Which::Rdmm(Advected::Weights)] {
        check_space(which, &on, &both);
    }
}

/// For a velocity that is given: the splines and the local map alone, with steps of more than a voxel.
#[test]
fn characteristics_are_of_fourth_order_in_space() {
    let how = fixed_steps(2);
    let on = Refinement { shape: [20, 16], times: &[2, 3, 4, 6], finest: 12, size: 1.6, how };
    check_space(Which::Vsvf, &on, &[(Order::Fourth, 4.0)]);
}

#[test]
fn stencils_reach_their_order_in_space_in_three_dimensions() {
    let how = Integration { transport: MapTransport::Eulerian, ..fixed_steps(3) };
    let on = Refinement { shape: [4, 4, 4], times: &[4, 6], finest: 12, size: 0.3, how };
    for which in [Which::Lddmm, Which::Rdmm(Advected::PreWeights)] {
        check_space(which, &on, &[(Order::Fourth, 4.0)]);
    }
}

/// A slow pseudo-spectral oracle on a periodic grid: derivatives and Gaussians are dense matrices of the
/// discrete Fourier transform, applied axis by axis, with exact multipliers.
struct Oracle {
    shape: [usize; 2],
}

impl Oracle {
    /// Matrix with entries `(1/n) Σ_ω f(ω, x_j − x_k)`.
    fn matrix(n: usize, length: f64, f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
        let half = i32::try_from(n / 2).unwrap();
        let row: Vec<f64> = (0..n)
            .map(|d| {
                let x = d as f64 * length / n as f64;
                let sum: f64 = (1 - half..=half).map(|k| f(TAU * f64::from(k) / length, x)).sum();
                sum / n as f64
            })
            .collect();
        (0..n * n).map(|at| row[(at / n + n - at % n) % n]).collect()
    }

    fn along(&self, axis: usize, matrix: &[f64], f: &[f64]) -> Vec<f64> {
        let [n, m] = self.shape;
        let at = |i: usize, j: usize| -> f64 {
            match axis {
                0 => (0..n).map(|k| matrix[i * n + k] * f[k * m + j]).sum(),
                _ => (0..m).map(|k| matrix[j * m + k] * f[i * m + k]).sum(),
            }
        };
        (0..n * m).map(|flat| at(flat / m, flat % m)).collect()
    }

    /// ∂f/∂x along an axis.
    fn d(&self, axis: usize, f: &[f64]) -> Vec<f64> {
        let n = self.shape[axis];
        let half = TAU * (n / 2) as f64 / EXTENT[axis];
        // The highest frequency of an even grid has no derivative.
        let entry = |w: f64, x: f64| if w >= half { 0.0 } else { -w * (w * x).sin() };
        self.along(axis, &Self::matrix(n, EXTENT[axis], entry), f)
    }

    /// `K_σ ⋆ f`.
    fn gauss(&self, sigma: f64, f: &[f64]) -> Vec<f64> {
        let axis = |axis: usize, f: &[f64]| {
            let entry = |w: f64, x: f64| (-0.5 * (sigma * w).powi(2)).exp() * (w * x).cos();
            self.along(axis, &Self::matrix(self.shape[axis], EXTENT[axis], entry), f)
        };
        axis(1, &axis(0, f))
    }

    /// ∂t m, ∂t h and ∂t u of the momentum form, with w = G ⋆ h; `smoothing` = 0 for G = 1.
    fn rates(
        &self,
        m: &[Vec<f64>],
        h: &[Vec<f64>],
        u: &[Vec<f64>],
        smoothing: f64,
    ) -> [Vec<f64>; 3] {
        let times = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).collect::<Vec<_>>();
        let add = |out: &mut Vec<f64>, s: f64, x: &[f64]| {
            out.iter_mut().zip(x).for_each(|(out, x)| *out += s * x);
        };
        let zeros = || vec![0.0; self.shape[0] * self.shape[1]];
        let g = |f: &[f64]| if smoothing > 0.0 { self.gauss(smoothing, f) } else { f.to_vec() };
        let (mut v, mut force) = ([zeros(), zeros()], [zeros(), zeros()]);
        for (h, sigma) in h.iter().zip(common::SIGMAS) {
            let w = g(h);
            let mut density = zeros();
            for a in 0..2 {
                let nu = self.gauss(sigma, &times(&w, &m[a]));
                add(&mut v[a], 1.0, &times(&w, &nu));
                add(&mut density, 1.0, &times(&m[a], &nu));
            }
            let density = g(&density);
            for a in 0..2 {
                add(&mut force[a], 1.0, &times(&self.d(a, h), &density));
            }
        }
        let mut divergence = self.d(0, &v[0]);
        add(&mut divergence, 1.0, &self.d(1, &v[1]));
        let (mut m_rate, mut h_rate, mut u_rate) = (Vec::new(), Vec::new(), Vec::new());
        for a in 0..2 {
            let mut rate = force[a].clone();
            add(&mut rate, -1.0, &times(&divergence, &m[a]));
            let mut moved = v[a].clone();
            for j in 0..2 {
                add(&mut rate, -1.0, &times(&self.d(a, &v[j]), &m[j]));
                add(&mut rate, -1.0, &times(&v[j], &self.d(j, &m[a])));
                add(&mut moved, 1.0, &times(&v[j], &self.d(j, &u[a])));
            }
            m_rate.extend(rate);
            u_rate.extend(moved.iter().map(|x| -x));
        }
        for h in h {
            let mut rate = zeros();
            for j in 0..2 {
                add(&mut rate, -1.0, &times(&v[j], &self.d(j, h)));
            }
            h_rate.extend(rate);
        }
        [m_rate, h_rate, u_rate]
    }
}

fn map<const D: usize>(grid: &Grid<D>) -> Displacement<f64, D> {
    Displacement::from_fn(grid, |x| {
        std::array::from_fn(|c| {
            0.1 * wave(x, [1.0, c as f64, 0.0], 0.4) - 0.05 * wave(x, [0.0, 1.0, 1.0], 0.1)
        })
    })
    .unwrap()
}

fn parts(data: &[f64], n: usize) -> Vec<Vec<f64>> {
    data.chunks(n).map(<[f64]>::to_vec).collect()
}

#[test]
fn rates_agree_with_a_spectral_oracle() {
    let (base, finest, times) = ([16, 20], 4, [1, 2, 4]);
    let fine = lattice(base.map(|n| n * finest));
    let n = fine.len();
    let oracle = Oracle { shape: fine.shape() };
    let (m, u) = (momentum(&fine, 1.0), map(&fine));
    let (m, u) = (parts(m.data(), n), parts(u.data(), n));
    let constant: Vec<Vec<f64>> = SHARES.iter().map(|share| vec![share.sqrt(); n]).collect();
    let varying = parts(weights(&fine).data(), n);
    let cases = [
        (Which::Lddmm, oracle.rates(&m, &constant, &u, 0.0)),
        (Which::Rdmm(Advected::PreWeights), oracle.rates(&m, &varying, &u, 0.12)),
        (Which::Rdmm(Advected::Weights), oracle.rates(&m, &varying, &u, 0.0)),
    ];
    // The cases differ by more than what is tested: force and smoothing matter.
    for (a, b) in [(0, 1), (1, 2)] {
        assert!(deviation(&cases[a].1[0], &cases[b].1[0]) > 0.01);
    }
    for (which, expected) in cases {
        for (order, slope_expected) in [(Order::Second, 2.0), (Order::Fourth, 4.0)] {
            let errors = times.map(|t| {
                let grid = lattice(base.map(|n| n * t));
                let found: Vec<Vec<f64>> = if let Which::Rdmm(carried) = which {
                    let evolution = Epdiff::new(&grid, region(&grid, carried, order), order);
                    let mut state = start_geodesic(&grid, 1.0, weights(&grid));
                    state.map = map(&grid);
                    let (rate, _) = common::rate(&evolution, &state);
                    let Geodesic { momentum, weights } = rate.body;
                    vec![momentum.into_vec(), weights.into_vec(), rate.map.into_vec()]
                } else {
                    let evolution = Epdiff::new(&grid, Homogeneous::new(combined(&grid)), order);
                    let mut state = start_geodesic(&grid, 1.0, ());
                    state.map = map(&grid);
                    let (rate, _) = common::rate(&evolution, &state);
                    let still = vec![0.0; 3 * grid.len()];
                    vec![rate.body.momentum.into_vec(), still, rate.map.into_vec()]
                };
                let mut off = [0.0; 3];
                for block in 0..3 {
                    let exact = at_coarse(&expected[block], &grid, finest / t);
                    off[block] = deviation(&found[block], &exact);
                }
                off
            });
            for (block, name) in ["∂t m", "∂t h", "∂t u"].iter().enumerate() {
                if which == Which::Lddmm && block == 1 {
                    // The oracle's derivative of constants: rounding against nothing.
                    continue;
                }
                let errors = errors.map(|e| e[block]);
                let observed = slope(&[1.0, 0.5, 0.25], &errors);
                println!("{which:?} {order:?} {name}: {observed:.2}, {:.1e}", errors[2]);
                // Smooth data and an exact reference: a quarter of an order.
                assert!(
                    (observed - slope_expected).abs() < 0.25 && errors[2] < 2e-2,
                    "{which:?} {order:?} {name}: {observed:.2} {errors:?}"
                );
                assert!(order == Order::Second || errors[2] < 5e-4, "{name}: {errors:?}");
            }
        }
    }
}

/// Relative distance of the blocks, each in its Euclidean norm, as the step control measures it.
fn block_error(a: &Blocks, b: &Blocks) -> f64 {
    let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
    let pairs = a.iter().zip(b).map(|((_, a), (_, b))| {
        let difference: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
        norm(&difference) / norm(b)
    });
    pairs.fold(0.0, f64::max)
}

#[test]
fn adaptive_steps_honour_their_tolerance() {
    let grid = lattice([24, 20]);
    for which in [Which::Lddmm, Which::Rdmm(Advected::PreWeights)] {
        // Characteristics lose what splines lose in a step; the differential equation itself does not.
        let how = |steps| Integration {
            tableau: DOPRI5,
            transport: MapTransport::Eulerian,
            steps,
            ..Integration::default()
        };
        let run = |steps| end(which, Order::Fourth, &grid, 1.5, how(steps));
        let (reference, _) = run(Steps::Fixed(100));
        let mut last = f64::INFINITY;
        for tolerance in [1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8] {
            let (found, steps) = run(Steps::Tolerance { relative: tolerance, at_most: 1000 });
            let error = block_error(&found, &reference);
            println!("{which:?} {tolerance:.0e}: error {error:.1e}, {} steps", steps.len());
            assert!((steps.iter().sum::<f64>() - 1.0).abs() < 1e-14);
            // The tolerance bounds the error of a step: some tens of steps, and what the flow makes of
            // an error on the way.
            assert!(error < 10.0 * tolerance, "{tolerance:.0e}: {error:.1e}");
            assert!(error < last, "decreases with the tolerance: {error:.1e} after {last:.1e}");
            last = error;
        }
    }
}

/// The first step tried is 0.1. Where it is too long it is rejected, counted against the limit, and
/// repeated.
#[test]
fn steps_that_are_too_long_are_rejected() {
    let grid = lattice([24, 20]);
    let run = |size: f64, at_most: usize| {
        let evolution = Epdiff::new(&grid, Homogeneous::new(combined(&grid)), Order::Fourth);
        let start = start_geodesic(&grid, size, ());
        let steps = Steps::Tolerance { relative: 1e-8, at_most };
        let how = Integration { tableau: DOPRI5, steps, ..Integration::default() };
        let mut sweep = Sweep::new(evolution, &start, how).unwrap();
        sweep.forward(&start).map(|_| ()).map(|()| sweep.step_sizes().to_vec())
    };
    let stiff = run(2.0, 1000).unwrap();
    println!("first steps {:?}, {} in all", &stiff[..3], stiff.len());
    assert!(stiff[0] < 0.1, "the first step was cut: {}", stiff[0]);
    let tried = (stiff.len()..1000).find(|&limit| run(2.0, limit).is_ok()).unwrap();
    assert!(tried > stiff.len(), "{tried} tried, {} taken", stiff.len());
    // One step fewer is an error that a line search may backtrack from.
    let error = run(2.0, tried - 1).unwrap_err();
    assert!(matches!(error, Error::StepLimit { steps, .. } if steps == tried - 1));
    assert!(error.is_recoverable());
    // A small momentum needs no rejection: the first step stands.
    let calm = run(1e-3, 1000).unwrap();
    assert!((calm[0] - 0.1).abs() < 1e-15, "{calm:?}");
    assert!(run(1e-3, calm.len()).is_ok());
}

#[test]
fn the_courant_rule_gives_the_expected_number_of_steps() {
    let grid = lattice([24, 20]);
    // A constant momentum is its own velocity: 6 voxels along one axis and 8 along the other are 10.
    let speeds = [6.0 / 24.0, 8.0 * 0.8 / 20.0];
    let field = Momentum::from_fn(&grid, |_| speeds).unwrap();
    let steps = |scale: f64, number: f64, at_least: usize| {
        let evolution = Epdiff::new(&grid, Homogeneous::new(combined(&grid)), Order::Fourth);
        let mut start = start_geodesic(&grid, 1.0, ());
        start.body.momentum.copy_from(&field);
        start.body.momentum.scale(scale);
        let how = Integration {
            steps: Steps::Courant { number, at_least, at_most: 1000 },
            ..Integration::default()
        };
        let mut sweep = Sweep::new(evolution, &start, how).unwrap();
        let end = sweep.forward(&start).map(|end| end.map.clone());
        end.map(|map| (sweep.step_sizes().len(), map))
    };
    for (scale, number, at_least, expected) in [
        (1.0, 2.1, 1, 5),
        (1.0, 0.99, 1, 11),
        (1.0, 2.1, 8, 8),
        (3.0, 4.01, 1, 8),
        (0.0, 2.0, 3, 3),
    ] {
        let (found, map) = steps(scale, number, at_least).unwrap();
        assert_eq!(found, expected, "scale {scale}, number {number}, at least {at_least}");
        // The flow is a translation: u = −v, to rounding of the splines.
        for c in 0..2 {
            let off = |u: &f64| (u + scale * speeds[c]).abs();
            assert!(map.component(c).iter().map(off).fold(0.0, f64::max) < 1e-12);
        }
    }
    // 1e5 voxels at two a step are more steps than any registration needs.
    let error = steps(1e4, 2.0, 1).unwrap_err();
    assert!(matches!(error, Error::Diverged { step: 0, .. }) && error.is_recoverable(), "{error}");
}

/// dx/dt = A sin 2πx, whose flow is tan πx(t) = tan πx(0) · exp 2πAt: determinants of the inverse from e⁻ᶜ to eᶜ, c = 2πA.
#[test]
fn few_long_steps_are_nearer_to_a_steep_flow_than_many_short_ones() {
    let grid = lattice([24, 20]);
    let c = 1.4_f64;
    let body = Velocity::from_fn(&grid, |x| [c / TAU * (TAU * x[0]).sin(), 0.0]);
    let start = Flow { body: body.unwrap(), map: Displacement::zeros(&grid).unwrap() };
    let exact = Displacement::<f64, 2>::from_fn(&grid, |x| {
        std::array::from_fn(|axis| {
            let x = x[0] - x[0].round();
            [((TAU / 2.0 * x).tan() * (-c).exp()).atan() / (TAU / 2.0) - x, 0.0][axis]
        })
    })
    .unwrap();
    let run = |steps| {
        let how = Integration { steps, ..Integration::default() };
        let (end, taken) = end_of(Stationary::new(&grid, Order::Fourth), &start, how);
        let least = cell_determinants(&end.map).0;
        (taken.len(), deviation(end.map.data(), exact.data()), least)
    };
    let (taken, error, least) = run(Steps::default());
    let (_, worse, lower) = run(Steps::Fixed(8 * taken));
    let expected = cell_determinants(&exact).0;
    println!(
        "{taken} steps: {error:.1e}; eight times as many: {worse:.1e}; {least:.4}, {lower:.4}, {expected:.4}"
    );
    // Found: 3.3 times. Every composition adds an error of the splines.
    assert!(2.0 * error < worse, "{error:e} {worse:e}");
    // A hundredth of what voxels shrink to.
    assert!((least - expected).abs() < 0.01 * expected, "{least} {expected}");
}

#[test]
fn an_optimiser_keeps_its_steps_until_they_are_half_as_long_again() {
    let grid = lattice([24, 20]);
    let evolution = Epdiff::new(&grid, Homogeneous::new(combined(&grid)), Order::Fourth);
    let mut start = start_geodesic(&grid, 1.0, ());
    let steps = Steps::Courant { number: 2.0, at_least: 3, at_most: 12 };
    let how = Integration { steps, ..Integration::default() };
    let mut sweep = Sweep::new(evolution, &start, how).unwrap();
    // Of these voxels along the first axis.
    let mut taken = |sweep: &mut Sweep<_>, voxels: f64| {
        for (c, speed) in [voxels / 24.0, 0.0].into_iter().enumerate() {
            start.body.momentum.component_mut(c).fill(speed);
        }
        sweep.forward(&start)?;
        Ok::<_, Error>(sweep.step_sizes().len())
    };
    assert_eq!(taken(&mut sweep, 8.5).unwrap(), 5);
    sweep.keep_steps(4);
    // 4 steps of 3 voxels are the longest; after them the rule holds again.
    for (voxels, expected) in [(2.0, 4), (8.5, 4), (11.9, 4), (12.1, 7), (8.5, 4)] {
        assert_eq!(taken(&mut sweep, voxels).unwrap(), expected, "{voxels}");
    }
    sweep.keep_steps(3);
    assert_eq!(taken(&mut sweep, 2.0).unwrap(), 4, "fewer change nothing");
    // More than the most steps are refused, however long they could be.
    sweep.keep_steps(12);
    assert_eq!(taken(&mut sweep, 23.9).unwrap(), 12);
    assert!(taken(&mut sweep, 24.1).unwrap_err().is_recoverable());
}

#[test]
fn absurd_momenta_diverge_and_say_so() {
    let grid = lattice([24, 20]);
    for carried in FORMS {
        let evolution = || Epdiff::new(&grid, region(&grid, carried, Order::Fourth), Order::Fourth);
        for (size, how) in
            [(1e200, fixed_steps(5)), (1e6, fixed_steps(8)), (1e12, Integration::default())]
        {
            let start = start_geodesic(&grid, size, weights(&grid));
            let mut sweep = Sweep::new(evolution(), &start, how).unwrap();
            let error = sweep.forward(&start).unwrap_err();
            assert!(matches!(error, Error::Diverged { .. }), "{size:e}: {error}");
            assert!(error.is_recoverable());
            // The sweep itself survives: a smaller momentum succeeds, with the bits of a fresh sweep.
            let calm = start_geodesic(&grid, 0.5, weights(&grid));
            let how = fixed_steps(5);
            let mut fresh = Sweep::new(evolution(), &calm, how.clone()).unwrap();
            let expected = common::bits(fresh.forward(&calm).unwrap().map.data());
            let mut used = Sweep::new(evolution(), &start, how).unwrap();
            assert!(used.forward(&start_geodesic(&grid, 1e200, weights(&grid))).is_err());
            assert_eq!(expected, common::bits(used.forward(&calm).unwrap().map.data()));
        }
    }
}
