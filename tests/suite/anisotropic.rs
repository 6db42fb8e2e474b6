//! Models whose Gaussians have a covariance matrix each.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests, which show their figures")]

use crate::common::{
    self, FORMS, Randomise, bits, controls, deviation, fixed_steps, grid, randomised, slope,
    smooth, squares,
};
use nalgebra::SMatrix;
use rdmm_core::Error;
use rdmm_core::evaluate;
use rdmm_core::field::Image;
use rdmm_core::grid::{Boundary, Grid};
use rdmm_core::kernel::Covariance;
use rdmm_core::model::{
    Advected, Controls, Lddmm, Model, MultiGaussian, Rdmm, RdmmOptimised, Shooting, State, Vsvf,
    weights_by_label,
};
use rdmm_core::optim::Objective;
use rdmm_core::registration::{PairObjective, Registration};
use rdmm_core::similarity::{Measure, Ssd};
use rdmm_core::space::{FlowState, StateSpace};
use rdmm_core::step::{MapTransport, RK4, Stepper};
use rdmm_core::synthetic::Shapes;
use rdmm_core::testing::central_difference;

/// Two long Gaussians that cross and a round one.
fn scales<const D: usize>() -> [Covariance<D>; 3] {
    let direction = |x: [f64; 3]| std::array::from_fn(|a| x[a]);
    [
        Covariance::along(direction([1.0, 2.0, -1.0]), 0.22, 0.1).unwrap(),
        Covariance::along(direction([2.0, -1.0, 0.0]), 0.24, 0.15).unwrap(),
        Covariance::isotropic(0.3).unwrap(),
    ]
}

type Tilted<const D: usize> = Covariance<D>;

fn rdmm<const D: usize>(grid: &Grid<D>, advected: Advected) -> Rdmm<f64, D, Tilted<D>> {
    Rdmm::anisotropic(&scales(), squares(grid), 0.12).unwrap().with_advected(advected)
}

fn metric<const D: usize>() -> MultiGaussian<Tilted<D>> {
    MultiGaussian::anisotropic(&scales(), &[0.2, 0.5, 0.3]).unwrap()
}

/// Boundaries on which the axes may be correlated.
const BOUNDARIES: [Boundary; 2] = [Boundary::Periodic, Boundary::Free];

fn check_drift<const D: usize, S>(mut shooting: S, name: &str)
where
    S: Shooting<f64, D>,
{
    // Large enough that the leading term of the error shows: smaller ones cancel in part.
    let controls = controls(&mut shooting, 4.0, 5);
    let start = shooting.initial_state(&controls);
    let before = shooting.hamiltonian(&start).unwrap();
    let semi_lagrangian = MapTransport::SemiLagrangian;
    let stepper = Stepper::new(shooting.evolution(), RK4, semi_lagrangian);
    let steps = [16.0, 32.0, 64.0];
    // The largest on the way: at the end alone the sign may change.
    let drifts = steps.map(|n| {
        let (mut state, mut next) = (start.clone(), start.zeros_like());
        let (mut ws, mut worst, mut t) = (stepper.workspace(&state).unwrap(), 0.0_f64, 0.0);
        while t < 1.0 {
            stepper.step(&state, 1.0 / n, &mut next, &mut ws);
            std::mem::swap(&mut state, &mut next);
            worst = worst.max((shooting.hamiltonian(&state).unwrap() / before - 1.0).abs());
            t += 1.0 / n;
        }
        worst
    });
    let observed = slope(&steps.map(|n| 1.0 / n), &drifts);
    println!("{name}: order {observed:.2}, drifts {drifts:?}");
    // RK4; 0.3 for three step counts that are not yet asymptotic. A drift of some per cent with 16 steps at
    // most is below 1e-3 with 64.
    assert!(observed > 3.7 && drifts[2] < 1e-3, "{name}: {observed:.2} {drifts:?}");
}

#[test]
fn the_energy_drift_has_the_order_of_the_integrator() {
    for boundary in BOUNDARIES {
        let plane = grid([20, 18], boundary);
        let volume = grid([10, 9, 11], boundary);
        check_drift(Lddmm::new(metric::<2>()).on(&plane).unwrap(), "LDDMM 2-D");
        for advected in FORMS {
            check_drift(rdmm(&plane, advected).on(&plane).unwrap(), &format!("{boundary:?} 2-D"));
            check_drift(rdmm(&volume, advected).on(&volume).unwrap(), &format!("{boundary:?} 3-D"));
        }
        let windowed = rdmm(&plane, Advected::PreWeights).with_border(0.2).unwrap();
        check_drift(windowed.on(&plane).unwrap(), &format!("{boundary:?} window"));
    }
}

/// Largest relative deviation of the gradient of the whole energy from central differences, and of the
/// slope of the Taylor remainder from two.
fn end_to_end<const D: usize, M: Model<f64, D>>(grid: &Grid<D>, model: &M) -> (f64, f64)
where
    Controls<f64, D, <M::Shooting as Shooting<f64, D>>::Weights>: Randomise,
{
    let image = |seed| Image::from_vec(grid, smooth(grid, 1, seed)).unwrap();
    let similarity = Ssd.prepare(&image(2), None).unwrap();
    let mut shooting = model.on(&grid.coarsened(2.0).unwrap()).unwrap();
    let mut start = randomised(&shooting.identity(), 5);
    start.momentum = controls(&mut shooting, 0.5, 5).momentum;
    let how = fixed_steps(3);
    let mut direction = randomised(&shooting.identity(), 22);
    direction.momentum = controls(&mut shooting, 0.5, 22).momentum;
    let mut energy = PairObjective::new(shooting, &image(1), grid, similarity, 3.0, how).unwrap();
    let mut gradient = start.zeros_like();
    let value = energy.evaluate(&start, &mut gradient).unwrap();
    let exact = gradient.dot(&direction);
    let mut at = common::along(&mut energy, &start, &direction);
    // Truncation e⁴ = 1e-16 of a fifth derivative, e³ of jumps of the third; rounding 1e-16 / e = 1e-12.
    let numeric = central_difference(1e-4, &mut at);
    let size = exact.abs().max(1e-2 * gradient.norm() * direction.norm());
    let steps = [4e-3, 2e-3, 1e-3, 5e-4];
    // Both sides, so that the third order cancels; e² = 2.5e-7 is far above rounding.
    let remainders =
        steps.map(|e| (at(e) - value - e * exact).abs() + (at(-e) - value + e * exact).abs());
    ((numeric - exact).abs() / size, (slope(&steps, &remainders) - 2.0).abs())
}

#[test]
fn gradients_of_the_energy_equal_differences() {
    fn check<const D: usize>(grid: &Grid<D>) {
        let optimised = |advected| {
            let model = RdmmOptimised::new(metric(), 0.12).unwrap();
            model.with_advected(advected).with_penalties(vec![])
        };
        let name = format!("{:?} {D}-D", grid.boundary());
        let mut all =
            vec![end_to_end(grid, &Vsvf::new(metric())), end_to_end(grid, &Lddmm::new(metric()))];
        for advected in FORMS {
            all.push(end_to_end(grid, &rdmm(grid, advected)));
            all.push(end_to_end(grid, &optimised(advected)));
        }
        println!("{name}: {all:?}");
        for (off, bend) in all {
            // The errors of the differences; slope 1 is a wrong gradient.
            assert!(off < 1e-6 && bend < 0.1, "{name}: {off:.1e} {bend:.2}");
        }
    }
    for boundary in BOUNDARIES {
        check(&grid([20, 22], boundary));
    }
    check(&grid([12, 14, 16], Boundary::Free));
}

fn end<const D: usize, S: Shooting<f64, D>>(mut shooting: S) -> State<f64, D, S> {
    let controls = controls(&mut shooting, 0.4, 7);
    common::shoot(&mut shooting, &controls, fixed_steps(4))
}

#[test]
fn equal_variances_are_the_recipe_with_standard_deviations() {
    let round = common::SIGMAS.map(|sigma| Covariance::isotropic(sigma).unwrap());
    for boundary in Boundary::ALL {
        let grid = grid([16, 14], boundary);
        let model = Rdmm::anisotropic(&round, squares(&grid), 0.12).unwrap();
        let by_sigma = common::rdmm::<f64, 2>(&grid, Advected::PreWeights).on(&grid).unwrap();
        let (a, b) = (end(model.on(&grid).unwrap()), end(by_sigma));
        // √(σ²) is σ, so the kernels have the same bits.
        assert_eq!(bits(a.map.data()), bits(b.map.data()), "{boundary:?}");
        let metric = MultiGaussian::anisotropic(&round, &[0.2, 0.5, 0.3]).unwrap();
        let (a, b) =
            (end(Lddmm::new(metric).on(&grid).unwrap()), end(common::lddmm().on(&grid).unwrap()));
        assert_eq!(bits(a.map.data()), bits(b.map.data()), "{boundary:?}");
    }
}

/// A uniform RDMM is LDDMM with the same covariances, and the inverse metric is the inverse of its kernel.
#[test]
fn constant_weights_are_lddmm_and_its_inverse_metric() {
    let grid = grid([16, 14], Boundary::Periodic);
    let constant = rdmm_core::field::Weights::from_fn(&grid, 3, |_, i| [0.2, 0.5, 0.3][i]).unwrap();
    let model = Rdmm::anisotropic(&scales(), constant, 0.12).unwrap();
    let lddmm = Lddmm::new(metric());
    let (a, b) = (end(model.on(&grid).unwrap()), end(lddmm.on(&grid).unwrap()));
    // Rounding over four steps.
    assert!(deviation(a.map.data(), b.map.data()) < 1e-11);

    let mut shooting: <Lddmm<Tilted<2>> as Model<f64, 2>>::Shooting = lddmm.on(&grid).unwrap();
    let mut inverse = shooting.inverse_metric(1e-2).unwrap();
    let m = controls(&mut shooting, 0.5, 9);
    let mut slope = m.zeros_like();
    shooting.add_energy(&m, 1.0 / grid.cell_volume(), &mut slope); // K m
    slope.momentum.axpy(1e-2, &m.momentum);
    let mut back = m.momentum.zeros_like();
    inverse.apply(&slope.momentum, &mut back);
    // Rounding, enlarged by 1/ε.
    assert!(deviation(back.data(), m.momentum.data()) < 1e-12);
}

#[test]
fn the_local_standard_deviation_is_the_mean_over_directions() {
    let grid = grid([16, 14], Boundary::Free);
    let squares = squares::<f64, 2>(&grid);
    let variances = scales::<2>().map(|c| 0.5 * c.matrix().trace());
    let model = Rdmm::anisotropic(&scales(), squares.clone(), 0.04).unwrap();
    let model = model.with_advected(Advected::Weights);
    let mut shooting = model.on(&grid).unwrap();
    let state = shooting.initial_state(&shooting.identity());
    let found = shooting.local_sigma(&state).unwrap().unwrap();
    for at in 0..grid.len() {
        let expected: f64 = (0..3).map(|i| squares.component(i)[at] * variances[i]).sum();
        // Weights that a narrow Gaussian smoothed.
        assert!((found.data()[at] / expected.sqrt() - 1.0).abs() < 0.05);
    }
    let mut lddmm: <Lddmm<Tilted<2>> as Model<f64, 2>>::Shooting =
        Lddmm::new(metric()).on(&grid).unwrap();
    let state = lddmm.initial_state(&lddmm.identity());
    let sigma = lddmm.local_sigma(&state).unwrap().unwrap();
    let expected: f64 = [0.2, 0.5, 0.3].iter().zip(variances).map(|(w, v)| w * v).sum();
    assert!((sigma.data()[3] - expected.sqrt()).abs() < 1e-15);
}

#[test]
fn a_registration_follows_the_fibres() {
    let grid = Grid::<2>::unit([40, 40]).unwrap().with_boundary(Boundary::Free);
    let shapes = Shapes::default().with_outside(1);
    let pair = shapes.pair::<f32, 2>(&grid).unwrap();
    let by_label = [(0, vec![0.0, 1.0]), (1, vec![1.0, 0.0])].into_iter().collect();
    let squares = weights_by_label(&pair.foreground, &by_label).unwrap();
    let scales =
        [Covariance::along([1.0, 1.0], 0.2, 0.08).unwrap(), Covariance::isotropic(0.3).unwrap()];
    let model = Rdmm::anisotropic(&scales, squares, 0.08).unwrap();
    let found = Registration::new(model, Ssd).run(&pair.fixed, &pair.moving).unwrap();
    let before = evaluate::mse(&pair.fixed, &pair.moving, None).unwrap();
    let after = evaluate::mse(&pair.fixed, &found.warped, None).unwrap();
    println!("mean squared error {before:.4} → {after:.4}");
    assert!(after < 0.5 * before && found.report.folds.total().folded == 0, "{before} {after}");
    let images = [found.sigma_start.unwrap(), found.sigma_end.unwrap()];
    assert!(images.iter().all(|image| image.data().iter().all(|&s| s > 0.07 && s < 0.31)));
}

#[cfg(feature = "rayon")]
#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let grid = grid([24, 26, 30], Boundary::Free);
    let model = rdmm(&grid, Advected::PreWeights);
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut shooting = model.on(&grid).unwrap();
            let start = controls(&mut shooting, 0.4, 7);
            let end = common::shoot(&mut shooting, &start, fixed_steps(2));
            assert!(end.map().max_abs() > 1e-3, "something moves");
            let mut inverse = shooting.inverse_metric(1e-3).unwrap();
            let mut out = start.momentum.clone();
            inverse.apply(&start.momentum, &mut out);
            [bits(end.map().data()), bits(out.data())]
        })
    };
    let one = with(1);
    assert!(one == with(2) && one == with(5));
}

#[test]
fn bad_recipes_are_refused() {
    let free = grid([16, 14], Boundary::Free);
    let reflecting = grid([16, 14], Boundary::Reflecting);
    let model = rdmm(&free, Advected::PreWeights);
    assert!(matches!(model.on(&reflecting).err(), Some(Error::Setting { .. })));
    let narrow = Covariance::along([1.0, 1.0], 0.2, 0.01).unwrap();
    let sigmas = [scales()[0], narrow, scales()[2]];
    let changed = Rdmm::anisotropic(&sigmas, squares(&free), 0.12).unwrap();
    assert!(matches!(changed.on(&free).err(), Some(Error::Sigma { index: 1, .. })));
    assert!((Model::<f64, 2>::smallest_sigma(&changed) - 0.01).abs() < 1e-12);
    let two = Rdmm::anisotropic(&scales()[..2], squares::<f64, 2>(&free), 0.12);
    assert!(matches!(two, Err(Error::Length { .. })));
    let none = Rdmm::anisotropic(&[], squares::<f64, 2>(&free), 0.12);
    assert!(matches!(none, Err(Error::Length { .. })));
    let squares = MultiGaussian::anisotropic(&scales::<2>(), &[0.9, 0.9, 0.9]);
    assert!(matches!(squares, Err(Error::WeightSum { .. })));
    // The penalties of optimised weights need an order of sizes.
    let metric = metric::<2>();
    let [first, second, third] = scales::<2>();
    let swapped = MultiGaussian::anisotropic(&[third, second, first], metric.weights()).unwrap();
    let optimised = RdmmOptimised::<f64, 2, _>::new(swapped, 0.12).unwrap();
    assert!(matches!(optimised.on(&free).err(), Some(Error::SigmaOrder { .. })));
    assert!(RdmmOptimised::<f64, 2, _>::new(metric.clone(), 0.12).unwrap().on(&free).is_ok());

    let text = serde_json::to_string(&Lddmm::new(metric.clone())).unwrap();
    let back: Lddmm<Covariance<2>> = serde_json::from_str(&text).unwrap();
    assert_eq!(back, Lddmm::new(metric));
    let matrix = serde_json::to_string(&SMatrix::<f64, 2, 2>::new(1.0, 2.0, 2.0, 1.0)).unwrap();
    let error = serde_json::from_str::<Covariance<2>>(&matrix).unwrap_err();
    assert!(error.to_string().contains("positive definite"));
}
