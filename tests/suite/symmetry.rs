//! Two-sided registration: the energy and the map from either end.
#![expect(clippy::unwrap_used, reason = "a test that cannot prepare its input stops")]

use crate::common::along;
use rdmm_core::adjoint::Integration;
use rdmm_core::adjoint::Sweep;
use rdmm_core::evaluate::inverse_consistency;
use rdmm_core::field::{Displacement, Image, Momentum};
use rdmm_core::grid::Grid;
use rdmm_core::model::{Controls, Lddmm, Model, MultiGaussian, RdmmOptimised, Shooting, TwoSided};
use rdmm_core::optim::Objective;
use rdmm_core::registration::{Level, PairObjective, Registration, Settings};
use rdmm_core::similarity::{Measure, Ssd};
use rdmm_core::space::{FlowState, StateSpace};
use rdmm_core::step::Steps;
use rdmm_core::synthetic::Shapes;
use rdmm_core::testing::random;

const FIXED_STEPS: usize = 6;

fn integration() -> Integration {
    Integration { steps: Steps::Fixed(FIXED_STEPS), ..Integration::default() }
}

/// Two blobs: smooth, so that the error of interpolation is that of smooth images.
fn blobs(grid: &Grid<2>, centre: [f64; 2]) -> Image<f64, 2> {
    let [a, b] = grid.shape();
    let data = (0..a * b).map(|i| {
        let x = [(i / b) as f64 / (a - 1) as f64, (i % b) as f64 / (b - 1) as f64];
        let square = (x[0] - centre[0]).powi(2) + 1.6 * (x[1] - centre[1]).powi(2);
        (-square / 0.02).exp()
    });
    Image::from_vec(grid, data.collect()).unwrap()
}

fn model(grid: &Grid<2>) -> TwoSided<Lddmm> {
    let extent = grid.largest_extent();
    let metric = MultiGaussian::new(&[0.1 * extent, 0.2 * extent], &[0.5, 0.5]).unwrap();
    TwoSided(Lddmm::new(metric))
}

/// The energy of `moving` onto `fixed`, both ways.
fn objective<M: Model<f64, 2>>(
    model: &M,
    fixed: &Image<f64, 2>,
    moving: &Image<f64, 2>,
) -> PairObjective<M::Shooting, f64, 2> {
    let grid = fixed.grid();
    let against = |image: &Image<f64, 2>| Measure::<f64, 2>::prepare(&Ssd, image, None).unwrap();
    let shooting = model.on(grid).unwrap();
    PairObjective::new(shooting, moving, grid, against(fixed), 5.0, integration())
        .unwrap()
        .with_reverse(fixed, against(moving), 5.0)
        .unwrap()
}

/// Momentum of a smooth random push of about a tenth of the extent.
fn push(shooting: &impl Shooting<f64, 2>, scale: f64) -> Momentum<f64, 2> {
    let grid = shooting.grid();
    let n = grid.len();
    let noise = random::<f64>(2 * n, 5);
    let [a, b] = grid.shape();
    let window = |i: usize| {
        let of = |k: usize, n: usize| (std::f64::consts::PI * k as f64 / (n - 1) as f64).sin();
        of(i / b, a).powi(2) * of(i % b, b).powi(2)
    };
    let data = (0..2 * n).map(|k| scale * noise[k] * window(k % n));
    Momentum::from_vec(grid, data.collect()).unwrap()
}

#[test]
fn the_gradient_is_the_derivative_and_the_taylor_remainder_has_slope_two() {
    let grid = Grid::<2>::unit([20, 20]).unwrap();
    let (fixed, moving) = (blobs(&grid, [0.55, 0.5]), blobs(&grid, [0.45, 0.48]));
    let metric = model(&grid).0.metric().clone();
    let model = TwoSided(RdmmOptimised::<f64, 2>::new(metric, 0.12).unwrap());
    let mut objective = objective(&model, &fixed, &moving);
    let mut at = objective.shooting().identity();
    at.momentum = push(objective.shooting(), 2.0);
    let noise = random::<f64>(at.weights.data().len(), 6);
    at.weights.data_mut().iter_mut().zip(noise).for_each(|(x, y)| *x += 0.3 * y);
    let mut direction = at.zeros_like();
    direction.momentum = push(objective.shooting(), 1.5);
    direction.weights.data_mut().copy_from_slice(&random(2 * grid.len(), 7));

    let mut gradient = at.zeros_like();
    let value = objective.evaluate(&at, &mut gradient).unwrap();
    assert!(objective.diagnostics(value).terms.reverse > 1e-3, "the other side counts");
    let slope = gradient.dot(&direction);
    let mut moved = along(&mut objective, &at, &direction);
    let numeric = (moved(1e-4) - moved(-1e-4)) / 2e-4;
    // Truncation 1e-8 and rounding 1e-16/1e-4, relative to third derivatives of order ten.
    assert!((numeric / slope - 1.0).abs() < 1e-6, "{numeric} {slope}");
    let mut rest = |e: f64| (moved(e) - value - e * slope).abs();
    let order = (rest(2e-2) / rest(1e-2)).log2();
    assert!((order - 2.0).abs() < 0.1, "{order}");
}

/// λ/2 a side: where the images stand as they are, both sides together cost what one alone does.
#[test]
fn two_sides_share_the_weight_of_the_similarity() {
    let grid = Grid::<2>::unit([20, 20]).unwrap();
    let (fixed, moving) = (blobs(&grid, [0.55, 0.5]), blobs(&grid, [0.45, 0.48]));
    let settings = || {
        let once = vec![Level { factor: 1.0, iterations: 1 }];
        Settings::default().with_levels(once).with_similarity_weight(7.0)
    };
    let two = model(&grid);
    let one = Registration::new(two.0.clone(), Ssd).with_settings(settings());
    let one = one.run(&fixed, &moving).unwrap().report.levels[0].first.terms.clone();
    let two = Registration::new(two, Ssd).with_settings(settings());
    let two = two.run(&fixed, &moving).unwrap().report.levels[0].first.terms.clone();
    assert!((one.weighted_similarity - 7.0 * one.similarity).abs() < 1e-14);
    // The same differences, summed in the same order: rounding of the halves.
    assert!((two.weighted_similarity - 0.5 * one.weighted_similarity).abs() < 1e-13);
    assert!((two.reverse - 0.5 * one.weighted_similarity).abs() < 1e-13);
    assert!(one.weighted_similarity > 1e-3 && one.reverse.abs() <= 0.0);
}

#[test]
fn a_geodesic_costs_the_same_from_either_end() {
    // E(m₀; I₀ → I₁) = E(−m(1); I₁ → I₀): the reversed geodesic carries the images back.
    let gap = |n: usize| {
        let grid = Grid::<2>::unit([n, n]).unwrap();
        let (fixed, moving) = (blobs(&grid, [0.55, 0.5]), blobs(&grid, [0.45, 0.48]));
        let model = model(&grid);
        let mut shooting = model.on(&grid).unwrap();
        let mut there = shooting.identity();
        // A push of the same shape on every grid.
        let [a, b] = grid.shape();
        let at = |i: usize| [(i / b) as f64 / (a - 1) as f64, (i % b) as f64 / (b - 1) as f64];
        let bump = |x: [f64; 2]| (-((x[0] - 0.45).powi(2) + (x[1] - 0.5).powi(2)) / 0.015).exp();
        for i in 0..grid.len() {
            let strength = bump(at(i));
            there.momentum.data_mut()[i] = 0.3 * strength;
            there.momentum.data_mut()[grid.len() + i] = -0.2 * strength * (at(i)[0] - 0.4);
        }
        let start = shooting.initial_state(&there);
        let mut sweep = Sweep::new(shooting.evolution(), &start, integration()).unwrap();
        let end = sweep.forward(&start).unwrap();
        let moved = end.map().max_abs();
        assert!(moved > 0.05, "{moved}");
        let mut back = Controls { momentum: end.flow.body.momentum.clone(), weights: () };
        back.momentum.scale(-1.0);
        let energy = |fixed: &Image<f64, 2>, moving: &Image<f64, 2>, at: &Controls<f64, 2, ()>| {
            let mut objective = objective(&model, fixed, moving);
            objective.evaluate(at, &mut at.zeros_like()).unwrap()
        };
        let (forth, back) = (energy(&fixed, &moving, &there), energy(&moving, &fixed, &back));
        (forth / back - 1.0).abs()
    };
    let [coarse, fine] = [gap(24), gap(48)];
    // Differences and splines of fourth order: the gap shrinks at least as the square of the spacing, down to
    // the error of six time steps, 1e-6.
    assert!(fine < 1e-5 && fine < coarse / 4.0, "{coarse} {fine}");
}

#[test]
fn swapped_images_give_the_inverse_map() {
    let grid = Grid::<2>::unit([48, 48]).unwrap();
    let shapes = Shapes::default().with_outside(1);
    let pair = shapes.pair::<f32, 2>(&grid).unwrap();
    let metric = MultiGaussian::for_grid(&grid);
    let (one, two) = (Lddmm::new(metric.clone()), TwoSided(Lddmm::new(metric)));
    let swap =
        |there: &Displacement<f32, 2>, back| inverse_consistency(there, back).unwrap().mean * 47.0;
    let run_one = |a, b| Registration::new(one.clone(), Ssd).run(a, b).unwrap();
    let run_two = |a, b| Registration::new(two.clone(), Ssd).run(a, b).unwrap();
    let (there, back) = (run_one(&pair.fixed, &pair.moving), run_one(&pair.moving, &pair.fixed));
    let one_sided = swap(&there.inverse_map, &back.inverse_map);
    let (there, back) = (run_two(&pair.fixed, &pair.moving), run_two(&pair.moving, &pair.fixed));
    let two_sided = swap(&there.inverse_map, &back.inverse_map);
    // Both stop where the energy falls by less than 1e-3 of its way: found .11 and .004 voxels.
    assert!(two_sided < 0.1 * one_sided, "{one_sided} {two_sided}");
}

#[test]
fn masks_and_models_that_do_not_fit_are_named() {
    let grid = Grid::<2>::unit([16, 16]).unwrap();
    let image = blobs(&grid, [0.5, 0.5]);
    let mask = image.clone();
    let one = || Registration::new(model(&grid).0, Ssd);
    let two = || Registration::new(model(&grid), Ssd);
    let errors = [
        one().with_moving_mask(mask.clone()).run(&image, &image).unwrap_err(),
        two().with_moving_mask(mask.clone()).run(&image, &image).unwrap_err(),
        two().with_mask(mask.clone()).run(&image, &image).unwrap_err(),
    ];
    for error in errors {
        assert!(error.to_string().contains("mask") && error.to_string().contains("TwoSided"));
    }
    let both = two().with_mask(mask.clone()).with_moving_mask(mask).run(&image, &image);
    assert_eq!(both.unwrap().report.folds.total().folded, 0);
    let shooting = model(&grid).0.on(&grid).unwrap();
    let against = || Measure::<f64, 2>::prepare(&Ssd, &image, None).unwrap();
    let objective =
        PairObjective::new(shooting, &image, &grid, against(), 1.0, Integration::default())
            .unwrap();
    let error = objective.with_reverse(&image, against(), 1.0).err().unwrap();
    assert!(error.to_string().contains("TwoSided"), "{error}");
}
