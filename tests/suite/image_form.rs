//! RDMM by image and adjoint against RDMM by momentum: the same geodesics.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::f64::consts::TAU;
use std::sync::Arc;

use crate::common::{FORMS, deviation, grid, region, slope};
use rdmm_core::Error;
use rdmm_core::dynamics::{Epdiff, Evolution, Flow, Geodesic, ImageAdjoint, ImageGeodesic};
use rdmm_core::field::{Displacement, Image, Weights};
use rdmm_core::grid::{Boundary, Grid};
use rdmm_core::model::Advected;
use rdmm_core::ops::difference::Order;
use rdmm_core::space::{FlowState, StateSpace};
use rdmm_core::step::{MapTransport, RK4, Stepper};

/// Smooth closed-form data, periodic in the unit box; γ starts at `gamma` times a wave.
fn body<const D: usize>(grid: &Grid<D>, gamma: f64) -> ImageAdjoint<f64, D> {
    let extent: [f64; D] = grid.extent();
    let wave = |x: [f64; D], k: [f64; 2], phase: f64| {
        let turns: f64 = (0..D).map(|a| k[a % 2] * x[a] / extent[a]).sum();
        (TAU * (turns + phase)).sin()
    };
    let image = Image::from_fn(grid, |x| wave(x, [1.0, 1.0], 0.1)).unwrap();
    let adjoint = Image::from_fn(grid, |x| 0.02 * wave(x, [0.0, 1.0], 0.3)).unwrap();
    let angle = |x: [f64; D]| 0.8 + 0.5 * wave(x, [1.0, 0.0], 0.2);
    let weights = Weights::from_fn(grid, 3, |x, i| {
        // Σ h² = 1: a point of the sphere.
        let (s, c) = angle(x).sin_cos();
        [c, 0.6 * s, 0.8 * s][i]
    });
    let gammas = Weights::from_fn(grid, 3, |x, i| gamma * wave(x, [1.0, 1.0], 0.2 * i as f64));
    ImageAdjoint {
        image,
        image_adjoint: adjoint,
        weights: weights.unwrap(),
        weights_adjoint: gammas.unwrap(),
    }
}

fn shoot<E: Evolution<Scalar = f64>>(evolution: E, start: &E::State, steps: usize) -> E::State {
    let stepper = Stepper::new(evolution, RK4, MapTransport::SemiLagrangian);
    let (mut state, mut next, mut ws) =
        (start.clone(), start.zeros_like(), stepper.workspace(start).unwrap());
    for _ in 0..steps {
        stepper.step(&state, 1.0 / steps as f64, &mut next, &mut ws);
        std::mem::swap(&mut state, &mut next);
    }
    state
}

/// Momentum, map and relative energy at t = 1 of both forms, and the momentum without its γ.
fn difference<const D: usize>(grid: &Grid<D>, advected: Advected, steps: usize) -> [f64; 4] {
    let order = Order::Fourth;
    let image_form = Arc::new(ImageGeodesic::new(grid, region(grid, advected, order), order));
    let momentum_form = Epdiff::new(grid, region(grid, advected, order), order);
    let start = body(grid, 0.004);
    let rest = Displacement::zeros(grid).unwrap();
    let momentum = image_form.momentum(&start).unwrap();
    let geodesic = Geodesic { momentum, weights: start.weights.clone() };
    let energy = momentum_form.hamiltonian(&geodesic).unwrap();

    let image_end = shoot(Arc::clone(&image_form), &Flow { body: start, map: rest.clone() }, steps);
    let state = Flow { body: geodesic, map: rest };
    let momentum_end = shoot(momentum_form, &state, steps);
    assert!(momentum_end.map().max_abs() > 0.005, "something moves");

    let m = image_form.momentum(&image_end.body).unwrap();
    let expected = momentum_end.body.momentum.data();
    let mut without = image_end.body.clone();
    without.weights_adjoint.set_zero();
    let without = image_form.momentum(&without).unwrap();
    [
        deviation(m.data(), expected),
        deviation(image_end.map.data(), momentum_end.map.data()),
        (image_form.hamiltonian(&image_end.body).unwrap() / energy - 1.0).abs(),
        deviation(without.data(), expected),
    ]
}

#[test]
fn both_forms_give_the_same_geodesic() {
    for advected in FORMS {
        let sizes = [24, 48, 96];
        let found = sizes.map(|n| difference(&grid([n, n], Boundary::Periodic), advected, 40));
        for (k, name) in ["momentum", "map", "energy"].iter().enumerate() {
            let errors = found.map(|f| f[k]);
            println!("{advected:?} {name}: {errors:?}");
            // The two products of differences differ by the stencil's fourth order; the coarsest grid is
            // hardly in that range.
            let observed = slope(&[0.5, 0.25], &errors[1..]);
            assert!(k == 2 || observed > 3.5, "{advected:?} {name}: {observed:.2} {errors:?}");
            assert!(errors[2] < 1e-3, "{advected:?} {name}: {errors:?}");
        }
        // Without γ the momenta differ: the comparison sees the term.
        assert!(found[2][3] > 0.05, "{advected:?}: {:.1e}", found[2][3]);
    }
}

#[test]
fn both_forms_agree_in_three_dimensions() {
    let found = difference(&grid([20, 24, 22], Boundary::Periodic), Advected::PreWeights, 10);
    println!("{found:?}");
    // Fourth order at 20 voxels a wave: what 2-D shows at 24.
    assert!(found[0] < 0.05 && found[1] < 0.02 && found[2] < 1e-2, "{found:?}");
}

#[test]
fn the_energy_drift_has_the_order_of_the_integrator_at_every_boundary() {
    for boundary in Boundary::ALL {
        for advected in FORMS {
            let grid = grid([20, 24], boundary);
            let metric = region(&grid, advected, Order::Fourth);
            let form = Arc::new(ImageGeodesic::new(&grid, metric, Order::Fourth));
            let start = body(&grid, 0.004);
            let energy = form.hamiltonian(&start).unwrap();
            let drift = [4, 8, 16].map(|steps| {
                let map = Displacement::zeros(&grid).unwrap();
                let end = shoot(Arc::clone(&form), &Flow { body: start.clone(), map }, steps);
                (form.hamiltonian(&end.body).unwrap() / energy - 1.0).abs()
            });
            let observed = slope(&[1.0, 0.5, 0.25], &drift);
            println!("{boundary:?} {advected:?}: {observed:.2} {drift:?}");
            // RK4; the leading term of H's error may vanish, never fall below fourth order.
            assert!(observed > 3.6 && drift[2] < 1e-4, "{boundary:?}: {observed:.2} {drift:?}");
        }
    }
}

#[test]
fn constant_weights_leave_their_adjoint_without_effect() {
    let grid = grid([24, 20], Boundary::Reflecting);
    let metric = region(&grid, Advected::PreWeights, Order::Fourth);
    let form = ImageGeodesic::new(&grid, metric, Order::Fourth);
    let mut start = body(&grid, 0.3);
    for (i, square) in [0.2_f64, 0.5, 0.3].iter().enumerate() {
        start.weights.component_mut(i).fill(square.sqrt());
    }
    let with = form.momentum(&start).unwrap();
    start.weights_adjoint.set_zero();
    let without = form.momentum(&start).unwrap();
    // γ ∇h with ∇h of rounding: 1e-16 over the spacing.
    assert!(deviation(with.data(), without.data()) < 1e-11);
}

#[test]
fn fields_that_do_not_fit_are_refused() {
    let small = grid([8, 8], Boundary::Periodic);
    let form =
        ImageGeodesic::new(&small, region(&small, Advected::Weights, Order::Second), Order::Second);
    assert!(form.momentum(&body(&grid([8, 9], Boundary::Periodic), 0.0)).is_err());
    let mut fewer = body(&small, 0.0);
    fewer.weights_adjoint = Weights::zeros_with(&small, 2).unwrap();
    let error = form.hamiltonian(&fewer).unwrap_err().to_string();
    assert!(error.contains('3') && error.contains('2'), "{error}");
    // Another number than the metric has.
    fewer.weights = Weights::zeros_with(&small, 2).unwrap();
    for error in [form.momentum(&fewer).map(drop), form.hamiltonian(&fewer).map(drop)] {
        assert!(matches!(error, Err(Error::Length { expected: 3, found: 2, .. })), "{error:?}");
    }
}
