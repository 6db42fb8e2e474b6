//! Affine registration: exact gradients, known maps found again, and registrations that start from them.
#![expect(clippy::unwrap_used, reason = "a test stops where its problem cannot be built")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::common;
use nalgebra::{Rotation3, SMatrix, SVector};
use rdmm_core::adjoint::Integration;
use rdmm_core::affine::{
    AffineObjective, AffineRegistered, AffineRegistration, AffineSettings, Start, Transform,
};
use rdmm_core::evaluate::{dice_whole, inverse_consistency};
use rdmm_core::field::{Displacement, Image};
use rdmm_core::grid::{Boundary, Grid};
use rdmm_core::labels::Labels;
use rdmm_core::model::{Lddmm, Model, MultiGaussian, Rdmm, weights_by_label};
use rdmm_core::optim::{Objective, Stop};
use rdmm_core::registration::{
    Intensities, Landmarks, Level, PairObjective, Registration, Settings,
};
use rdmm_core::similarity::{Lncc, Measure, Ncc, Ssd};
use rdmm_core::space::StateSpace;
use rdmm_core::synthetic::{Pair, Shapes};
use rdmm_core::testing::{central_difference, random};
use rdmm_core::world::Affine;
use rdmm_core::{Error, Result};

const TRANSFORMS: [Transform; 3] = [Transform::Rigid, Transform::Similarity, Transform::Affine];

fn identity<const D: usize>() -> SMatrix<f64, D, D> {
    SMatrix::identity()
}

/// A rotation by `angle` in the plane of the first two axes.
fn turn<const D: usize>(angle: f64) -> SMatrix<f64, D, D> {
    let mut turn = identity::<D>();
    turn.fixed_view_mut::<2, 2>(0, 0).copy_from(&SMatrix::<f64, 2, 2>::new(
        angle.cos(),
        -angle.sin(),
        angle.sin(),
        angle.cos(),
    ));
    turn
}

/// x ↦ M (x − c) + c + s about the centre of a grid.
fn about<const D: usize>(grid: &Grid<D>, matrix: SMatrix<f64, D, D>, shift: [f64; D]) -> Affine<D> {
    let centre = SVector::from(grid.to_world(grid.shape().map(|n| 0.5 * (n - 1) as f64)));
    Affine::new(matrix, centre - matrix * centre + SVector::from(shift)).unwrap()
}

/// Gradients on two grids that differ in everything, with a mask.
fn gradients_are_exact<const D: usize>(shapes: [[usize; D]; 2]) {
    let fixed_grid = common::grid(shapes[0], Boundary::Reflecting);
    let moving_grid = common::grid(shapes[1], Boundary::Reflecting);
    let moving_grid = moving_grid.with_origin([0.03; D]).unwrap();
    let moving_grid = moving_grid.with_direction(turn(0.3)).unwrap();
    let image = |grid: &Grid<D>, seed| {
        Image::<f64, D>::from_vec(grid, common::smooth(grid, 1, seed)).unwrap()
    };
    let (fixed, moving) = (image(&fixed_grid, 1), image(&moving_grid, 2));
    let mask = random::<f64>(fixed_grid.len(), 3).iter().map(|x| x.abs()).collect();
    let mask = Image::from_vec(&fixed_grid, mask).unwrap();
    let shear = turn(-0.4) * (identity() + 0.1 * SMatrix::from_fn(|a, b| (a + 2 * b) as f64));
    let start = about(&fixed_grid, shear, [0.04; D]);

    let measures: [Box<dyn Measure<f64, D>>; 3] =
        [Box::new(Ssd), Box::new(Ncc), Box::new(Lncc { sigma: 0.2 })];
    for measure in &measures {
        for transform in TRANSFORMS {
            let loss = measure.prepare(&fixed, Some(&mask)).unwrap();
            let points = [[0.2; D], [0.5; D], std::array::from_fn(|a| 0.1 + 0.3 * a as f64)];
            let others = points.map(|p| p.map(|x| 0.9 * x + 0.07));
            let landmarks = Landmarks::new(&points, &others, 0.4).unwrap();
            let mut objective =
                AffineObjective::new(transform, start, &moving, &fixed_grid, loss).unwrap();
            if transform == Transform::Affine {
                objective = objective.with_landmarks(&landmarks);
            }
            let mut at = objective.rest();
            let n = at.len();
            at.axpy(0.2, &random(n, 4));
            let (mut gradient, mut other) = (vec![f64::NAN; n], vec![f64::NAN; n]);
            let value = objective.evaluate(&at, &mut gradient).unwrap();
            let what = format!("{} {transform:?} {D}-D", measure.name());
            let largest = gradient.max_abs();
            assert!(largest > 1e-3, "{what}: the gradient is {largest:e}, too small to be tested");
            for k in 0..n {
                let mut moved = |e: f64| {
                    let mut x = at.clone();
                    x[k] += e;
                    objective.evaluate(&x, &mut other).unwrap()
                };
                let numeric = central_difference(1e-5, &mut moved);
                // Cubic splines have jumps in the third derivative: the truncation is e times their size,
                // and positions are snapped to 1e-9 of a voxel.
                let error = (numeric - gradient[k]).abs();
                assert!(error < 1e-6 * largest, "{what}, {k}: {numeric} and {}", gradient[k]);
            }
            let direction: Vec<f64> = random(n, 6);
            let slope = gradient.dot(&direction);
            let mut moved = common::along(&mut objective, &at, &direction);
            // Both sides, so that the third order cancels.
            let mut remainder = |e: f64| {
                (moved(e) - value - e * slope).abs() + (moved(-e) - value + e * slope).abs()
            };
            let order = (remainder(1e-3) / remainder(5e-4)).log2();
            // The fourth order adds about e² times the ratio of the derivatives.
            assert!((order - 2.0).abs() < 0.1, "{what}: {order}");
        }
    }
}

#[test]
fn gradients_are_exact_in_the_plane() {
    gradients_are_exact([[17, 14], [15, 18]]);
}

#[test]
fn gradients_are_exact_in_space() {
    gradients_are_exact([[9, 8, 10], [10, 9, 8]]);
}

/// The largest distance, in voxels of the coarsest spacing, of A(x) from B(x) over the grid.
fn distance<const D: usize>(grid: &Grid<D>, a: &Affine<D>, b: &Affine<D>) -> f64 {
    let far = |flat: usize| {
        let x = grid.to_world(grid.unravel(flat).map(|i| i as f64));
        (SVector::from(a.apply(x)) - SVector::from(b.apply(x))).norm()
    };
    (0..grid.len()).map(far).fold(0.0, f64::max) / grid.coarsest_spacing()
}

/// `image` read through B⁻¹, an image onto which B is the map: on a grid that holds all of it, with the
/// image's background around.
fn moved<const D: usize>(image: &Image<f64, D>, map: &Affine<D>) -> Image<f64, D> {
    let (grid, background) = (image.grid(), image.data()[0]);
    let larger = Grid::new(grid.shape().map(|n| 8 * n / 5), grid.spacing()).unwrap();
    let corner = grid.shape().map(|n| -0.3 * n as f64);
    let centre = |grid: &Grid<D>| grid.to_world(grid.shape().map(|n| 0.5 * (n - 1) as f64));
    let (from, to) = (centre(grid), map.apply(centre(grid)));
    let corner = grid.to_world(corner);
    let larger = larger.with_origin(std::array::from_fn(|a| corner[a] + to[a] - from[a])).unwrap();
    let back = map.inverse();
    let mut out = back.displacement(&larger).unwrap().warp(image).unwrap();
    for (flat, x) in out.data_mut().iter_mut().enumerate() {
        let point = back.apply(larger.to_world(larger.unravel(flat).map(|i| i as f64)));
        let index = grid.to_index(point);
        if (0..D).any(|a| index[a] < 0.0 || index[a] > (grid.shape()[a] - 1) as f64) {
            *x = background;
        }
    }
    out
}

/// Grey values as given: percentiles of the larger moving image are others.
fn raw() -> AffineSettings {
    AffineSettings::default().with_intensities(Intensities::AsGiven)
}

fn shapes<const D: usize>(grid: &Grid<D>) -> Pair<f64, D> {
    Shapes::default().with_outside(1).with_seed(4).pair(grid).unwrap()
}

/// The members of the three groups that are to be found: a turn, that with a scale, that with shears.
fn members<const D: usize>(rotation: SMatrix<f64, D, D>) -> [(Transform, SMatrix<f64, D, D>); 3] {
    let shear = SMatrix::from_fn(|a, b| 0.04 * (a as f64 - 1.5 * b as f64));
    [
        (Transform::Rigid, rotation),
        (Transform::Similarity, 0.93 * rotation),
        (Transform::Affine, rotation * (identity() + shear)),
    ]
}

fn a_known_map_is_found<const D: usize>(
    shape: [usize; D],
    rotation: SMatrix<f64, D, D>,
    measure: impl Measure<f64, D> + Copy + 'static,
) {
    let grid = Grid::unit(shape).unwrap();
    let fixed = shapes(&grid).fixed;
    for (transform, matrix) in members(rotation) {
        let known = about(&grid, matrix, std::array::from_fn(|a| 0.05 - 0.03 * a as f64));
        let moving = moved(&fixed, &known);
        let registration = AffineRegistration::new(transform, measure).with_settings(raw());
        let found = registration.run(&fixed, &moving).unwrap();
        let error = distance(&grid, &found.map, &known);
        let before = distance(&grid, &Affine::identity(), &known);
        assert!(before > 2.0 && error < 0.1, "{transform:?}: {error} voxels, {before} before");
        let levels = &found.levels;
        assert!(levels.iter().all(|level| level.last <= level.first));
    }
}

#[test]
fn a_known_map_is_found_in_the_plane() {
    a_known_map_is_found([56, 48], turn(0.2), Ssd);
    a_known_map_is_found([56, 48], turn(-0.15), Lncc { sigma: 0.1 });
}

#[test]
fn a_known_map_is_found_in_space() {
    let rotation = Rotation3::from_euler_angles(0.1, -0.15, 0.12).into_inner();
    a_known_map_is_found([34, 32, 36], rotation, Ncc);
}

#[test]
fn moments_start_near_a_turn_of_any_angle() {
    let grid = Grid::unit([56, 48]).unwrap();
    let fixed = shapes(&grid).fixed;
    for degrees in [30.0_f64, 130.0, -100.0] {
        // Elsewhere in the world, too: the identity has nothing in common with it.
        let known = about(&grid, turn(degrees.to_radians()), [3.06, -1.95]);
        let moving = moved(&fixed, &known);
        let registration = AffineRegistration::new(Transform::Rigid, Ncc);
        let found = registration.with_start(Start::Moments).run(&fixed, &moving).unwrap();
        let error = distance(&grid, &found.map, &known);
        assert!(error < 0.1, "{degrees}°: {error} voxels");
        let registration = AffineRegistration::new(Transform::Rigid, Ncc);
        let given = registration.with_initial(known).run(&fixed, &moving).unwrap();
        assert!(distance(&grid, &given.map, &known) < 0.1);
    }
}

/// A comb of equal stripes: shifted by one of them it looks the same.
#[test]
fn landmarks_decide_where_images_do_not() {
    let grid = Grid::new([64, 40], [1.0; 2]).unwrap();
    let comb = |shift: f64| {
        let value = move |x: [f64; 2]| {
            (std::f64::consts::TAU * (x[0] - shift) / 16.0).cos() + (0.2 * x[1]).sin()
        };
        Image::<f32, 2>::from_fn(&grid, value).unwrap()
    };
    let (fixed, moving) = (comb(0.0), comb(1.0));
    let points = [[10.0, 10.0], [50.0, 12.0], [30.0, 33.0], [22.0, 5.0], [40.0, 38.0]];
    let others = points.map(|[x, y]| [x + 17.0, y]);
    let registration = || AffineRegistration::new(Transform::Rigid, Ncc);
    let mean = |map: &Affine<2>| {
        let pairs = points.iter().zip(&others);
        pairs.map(|(&p, q)| (map.apply(p)[0] - q[0]).hypot(map.apply(p)[1] - q[1])).sum::<f64>()
            / 5.0
    };
    let alone = registration().run(&fixed, &moving).unwrap();
    assert!(mean(&alone.map) > 10.0, "the nearest stripe is another");
    let landmarks = Landmarks::new(&points, &others, 10.0).unwrap();
    let found = registration().with_landmarks(landmarks).run(&fixed, &moving).unwrap();
    assert!(mean(&found.map) < 0.2, "{}", mean(&found.map));
}

#[test]
fn masses_are_brought_together_after_an_initial_map() {
    let grid = Grid::unit([56, 48]).unwrap();
    let fixed = shapes(&grid).fixed;
    let known = about(&grid, turn(170.0_f64.to_radians()), [3.06, -1.95]);
    let moving = moved(&fixed, &known);
    let initial = Affine::new(turn(175.0_f64.to_radians()), [40.0, 7.0].into()).unwrap();
    let registration = AffineRegistration::new(Transform::Rigid, Ncc).with_start(Start::Mass);
    let found = registration.clone().with_initial(initial).run(&fixed, &moving).unwrap();
    let error = distance(&grid, &found.map, &known);
    assert!(error < 0.1, "{error} voxels");
    let without = registration.run(&fixed, &moving);
    assert!(without.is_err() || distance(&grid, &without.unwrap().map, &known) > 1.0);
}

fn lddmm<const D: usize>(grid: &Grid<D>) -> Lddmm {
    Lddmm::new(MultiGaussian::for_grid(grid))
}

fn short() -> Settings {
    let levels = vec![Level { factor: 2.0, iterations: 8 }, Level { factor: 1.0, iterations: 5 }];
    Settings::default().with_levels(levels)
}

/// Weights of three Gaussians for the foreground of a pair and for the rest.
fn regions(labels: &Labels<2>) -> Rdmm<f64, 2> {
    let weights = BTreeMap::from([(0, vec![0.0, 0.0, 1.0]), (1, vec![0.3, 0.4, 0.3])]);
    Rdmm::new(&[0.1, 0.2, 0.4], weights_by_label(labels, &weights).unwrap(), 0.1).unwrap()
}

#[test]
fn a_moving_image_that_is_placed_elsewhere_is_registered_all_the_same() {
    // The moving grid, turned and shifted by B, with B as the initial map: every index is as before.
    let grid = Grid::unit([40, 36]).unwrap();
    let pair = shapes::<2>(&grid);
    let map = about(&grid, turn(2.1), [4.0, -7.0]);
    let placed = grid.clone().with_origin(map.apply(grid.origin())).unwrap();
    let placed = placed.with_direction(*map.matrix()).unwrap();
    let moving = pair.moving.clone().on_grid(&placed).unwrap();
    let foreground = Labels::from_vec(&placed, pair.foreground.data().to_vec()).unwrap();
    let labels = Labels::from_vec(&placed, pair.moving_labels.data().to_vec()).unwrap();

    let here = Registration::new(regions(&pair.foreground), Ssd).with_settings(short());
    let there = Registration::new(regions(&foreground), Ssd).with_settings(short());
    let here = here.run(&pair.fixed, &pair.moving).unwrap();
    let there = there.with_initial(map).run(&pair.fixed, &moving).unwrap();

    let near = |a: &[f64], b: &[f64], tolerance: f64| {
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) < tolerance
    };
    let sigma = |image: &Option<Image<f64, 2>>| image.as_ref().unwrap().data().to_vec();
    // Rounding of world coordinates of about ten, over a dozen iterations that are no contraction.
    assert!(near(there.deformation.data(), here.inverse_map.data(), 1e-9));
    assert!(near(there.forward_deformation.data(), here.forward_map.data(), 1e-9));
    assert!(near(there.warped.data(), here.warped.data(), 1e-8));
    assert!(near(&sigma(&there.sigma_start), &sigma(&here.sigma_start), 1e-9), "weights through A");
    assert!(near(&sigma(&there.sigma_end), &sigma(&here.sigma_end), 1e-9));
    let folds = |r: &rdmm_core::evaluate::Folds| (r.total().folded, r.interior.voxels);
    assert_eq!(folds(&there.report.folds), folds(&here.report.folds));
    assert!((there.report.folds.total().min - here.report.folds.total().min).abs() < 1e-8);
    assert_eq!(there.affine, map);
    // Without an initial map the whole map is the deformation.
    assert!(near(here.inverse_map.data(), here.deformation.data(), 1e-15));
    assert!(near(here.forward_map.data(), here.forward_deformation.data(), 1e-12));

    // Labels and landmarks go through the whole maps. Voxels on a tie may fall to either side.
    let (a, b) =
        (there.inverse_map.warp_labels(&labels), here.inverse_map.warp_labels(&pair.moving_labels));
    assert!(dice_whole(&a.unwrap(), &b.unwrap()).unwrap() > 0.999);
    let points = [[0.4, 0.5], [0.55, 0.3], [0.7, 0.6]];
    let (a, b) =
        (there.inverse_map.transform_points(&points), here.inverse_map.transform_points(&points));
    for (a, b) in a.unwrap().iter().zip(&b.unwrap()) {
        let expected = map.apply(*b);
        assert!((0..2).all(|c| (a[c] - expected[c]).abs() < 1e-8));
    }
}

#[test]
fn the_whole_maps_are_inverse_to_one_another() {
    let grid = Grid::unit([48, 40]).unwrap();
    let pair = shapes::<2>(&grid);
    let map = about(&grid, 1.1 * turn::<2>(0.25), [0.03, -0.02]);
    let moving = moved(&pair.moving, &map);
    let registration = Registration::new(lddmm(&grid), Ssd).with_settings(short());
    let result = registration.with_initial(map).run(&pair.fixed, &moving).unwrap();
    // Points near the centre: A moves none of them out of the grid.
    let points: Vec<[f64; 2]> =
        (0..25).map(|i| [0.3 + 0.1 * f64::from(i / 5), 0.2 + 0.1 * f64::from(i % 5)]).collect();
    let there = result.inverse_map.transform_points(&points).unwrap();
    let back = result.forward_map.transform_points(&there).unwrap();
    let furthest = |a: &[[f64; 2]], b: &[[f64; 2]]| {
        let one = |(a, b): (&[f64; 2], &[f64; 2])| (a[0] - b[0]).hypot(a[1] - b[1]);
        a.iter().zip(b).map(one).fold(0.0, f64::max)
    };
    let parts = inverse_consistency(&result.forward_deformation, &result.deformation).unwrap();
    // As consistent as the parts, and the second interpolation of a landmark.
    let voxel = grid.spacing()[0];
    assert!(furthest(&points, &back) < parts.max + 0.05 * voxel && parts.max < 0.2 * voxel);
    assert!(furthest(&points, &there) > voxel);
    // det A = 1.21 counts, and no fold of the mirrored border of a turned map does.
    let folds = result.report.folds;
    assert_eq!(folds.total().folded, 0);
    let parts = rdmm_core::evaluate::Folds::of(&result.deformation).unwrap();
    assert!((folds.total().min - 1.21 * parts.total().min).abs() < 1e-12);
}

#[test]
fn a_turned_and_shifted_pair_is_registered_as_well_as_the_pair_itself() {
    let grid = Grid::unit([56, 48]).unwrap();
    let pair = shapes::<2>(&grid);
    let known = about(&grid, turn::<2>(30.0_f64.to_radians()), [0.1, 0.05]);
    let moving = moved(&pair.moving, &known);
    let start = AffineRegistration::new(Transform::Rigid, Ncc).with_start(Start::Moments);
    let start = start.run(&pair.fixed, &moving).unwrap().map;
    let last = |moving: &Image<f64, 2>, initial: Affine<2>| {
        let settings = Settings::default().with_intensities(Intensities::AsGiven);
        let registration = Registration::new(lddmm(&grid), Ssd).with_settings(settings);
        let registration = registration.with_initial(initial);
        let result = registration.run(&pair.fixed, moving).unwrap();
        let levels = &result.report.levels;
        let [first, last] = [&levels[0].first, &levels.last().unwrap().last];
        (first.terms.similarity, last.terms.similarity)
    };
    let (before, plain) = last(&pair.moving, Affine::identity());
    let (_, turned) = last(&moving, start);
    let (_, lost) = last(&moving, Affine::identity());
    // The turned image was interpolated when it was made, and the motion that is left is another: what is
    // left of the loss agrees to a hundredth of what there was. Without the initial map it stays far off.
    assert!(plain < 0.1 * before && turned - plain < 0.01 * before, "{turned:e} and {plain:e}");
    assert!(lost > 4.0 * turned, "{lost:e} and {turned:e}");
}

#[test]
fn the_gradient_of_the_energy_goes_through_the_initial_map() {
    let grid = common::grid([16, 14], Boundary::Reflecting);
    let image = |seed| Image::<f64, 2>::from_vec(&grid, common::smooth(&grid, 1, seed)).unwrap();
    let (fixed, moving) = (image(1), image(2));
    let shear = SMatrix::<f64, 2, 2>::new(0.9, -0.5, 0.3, 1.2);
    let initial = about(&grid, shear, [0.05, -0.1]);
    let mut shooting = Model::<f64, 2>::on(&common::lddmm(), &grid).unwrap();
    let controls = common::controls(&mut shooting, 0.05, 3);
    let loss = Measure::<f64, 2>::prepare(&Ssd, &fixed, None).unwrap();
    let how = Integration { steps: rdmm_core::step::Steps::Fixed(3), ..Integration::default() };
    let energy = PairObjective::new(shooting, &moving, &grid, loss, 3.0, how).unwrap();
    let mut energy = energy.with_initial(&initial);
    let mut gradient = controls.zeros_like();
    let value = energy.evaluate(&controls, &mut gradient).unwrap();
    let mut direction = controls.zeros_like();
    let noise = common::smooth(&grid, 2, 8);
    direction.momentum.data_mut().copy_from_slice(&noise);
    direction.scale(controls.norm() / direction.norm());
    let slope = gradient.dot(&direction);
    let mut at = common::along(&mut energy, &controls, &direction);
    let numeric = (at(1e-4) - at(-1e-4)) / 2e-4;
    // Truncation of e² = 1e-8, relative to slopes of about the value.
    assert!((numeric - slope).abs() < 1e-6 * slope.abs(), "{numeric} and {slope}");
    let mut remainder = |e: f64| (at(e) - value - e * slope).abs();
    let order = (remainder(2e-2) / remainder(1e-2)).log2();
    assert!((order - 2.0).abs() < 0.1, "{order}");
}

#[test]
fn bad_input_is_refused() {
    let grid = Grid::new([16, 14], [1.0; 2]).unwrap();
    let image = |data: Vec<f64>| Image::from_vec(&grid, data).unwrap();
    let good = image(common::smooth(&grid, 1, 1));
    let flat = image(vec![2.0; grid.len()]);
    let run = |registration: AffineRegistration<f64, 2>, fixed, moving| -> Result<_> {
        let AffineRegistered { map, .. } = registration.run(fixed, moving)?;
        Ok(map)
    };
    let new = || AffineRegistration::new(Transform::Affine, Ncc);
    let contrast = |what| Err(Error::NoContrast { what });
    assert_eq!(run(new(), &flat, &good), contrast("fixed image"));
    assert_eq!(run(new(), &good, &flat), contrast("moving image"));
    assert_eq!(run(new().with_mask(image(vec![0.0; 224])), &good, &good), contrast("mask"));
    let wrong = run(new().with_mask(image(vec![2.0; 224])), &good, &good).unwrap_err();
    assert!(wrong.to_string().contains("values from 0 to 1"), "{wrong}");
    let other = Image::zeros(&Grid::new([9, 9], [1.0; 2]).unwrap()).unwrap();
    let wrong = run(new().with_mask(other), &good, &good).unwrap_err();
    assert!(matches!(wrong, Error::GridMismatch { what: "mask", .. }), "{wrong}");
    let mut broken = good.clone();
    broken.data_mut()[5] = f64::NAN;
    for (fixed, moving) in [(&broken, &good), (&good, &broken)] {
        let wrong = run(new(), fixed, moving).unwrap_err();
        assert!(matches!(wrong, Error::NonFinite { index: 5, .. }), "{wrong}");
    }
    let levels = |levels| {
        let settings = AffineSettings::default().with_levels(levels);
        run(new().with_settings(settings), &good, &good).unwrap_err()
    };
    assert!(matches!(levels(vec![]), Error::Length { what: "levels", .. }));
    let half = levels(vec![Level { factor: 0.5, iterations: 1 }]);
    assert!(half.to_string().contains("factor of a level"), "{half}");
    // Constant images as they are: the measure says so, or there is nothing to be found.
    let intensities = Intensities::AsGiven;
    let start = Affine::identity();
    let raw = || AffineSettings::default().with_intensities(intensities);
    assert_eq!(run(new().with_settings(raw()), &flat, &good), contrast("fixed image"));
    let ssd = || AffineRegistration::new(Transform::Rigid, Ssd).with_settings(raw());
    // Rounding of the constant has slopes of rounding: they move the map by next to nothing.
    assert!(distance(&grid, &run(ssd(), &flat, &flat).unwrap(), &start) < 1e-3);
    let mass = ssd().with_start(Start::Mass);
    assert_eq!(run(mass, &good, &flat), contrast("moving image"));

    let loss = Measure::<f64, 2>::prepare(&Ssd, &good, None).unwrap();
    let rigid = Transform::Rigid;
    let mut objective = AffineObjective::new(rigid, start, &good, &grid, loss).unwrap();
    let mut gradient = vec![0.0; 3];
    let wrong = objective.evaluate(&vec![0.0; 4], &mut gradient).unwrap_err();
    assert!(matches!(wrong, Error::Length { expected: 3, found: 4, .. }));
    // Controls that have no map count as infinitely high.
    for bad in [f64::NAN, f64::INFINITY, 1e300] {
        assert!(objective.map(&vec![0.0, bad, 0.0]).is_err() || bad.is_finite());
        let value = objective.evaluate(&vec![bad, 0.0, 0.0], &mut gradient).unwrap();
        assert!(!value.is_finite(), "{bad}");
    }
    let loss = Measure::<f64, 2>::prepare(&Ssd, &good, None).unwrap();
    assert!(AffineObjective::new(rigid, start, &broken, &grid, loss).is_err());
    let unplaced: Displacement<f64, 2> = start.displacement(&grid).unwrap();
    assert!(unplaced.max_abs() < 1e-15);
}

#[test]
fn an_observer_sees_every_iteration_and_stops_with_the_best_map() {
    let grid = Grid::<2>::unit([48, 48]).unwrap();
    let fixed = shapes(&grid).fixed;
    let moving = moved(&fixed, &about(&grid, turn(0.2), [0.05, -0.04]));
    let registration = AffineRegistration::new(Transform::Rigid, Ncc).with_start(Start::Moments);
    let whole = registration.run(&fixed, &moving).unwrap();
    let mut seen = Vec::new();
    let watched = registration
        .run_with(&fixed, &moving, |progress| {
            seen.push(*progress);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(watched.map, whole.map);
    assert!(seen.iter().any(|p| p.start > 0) && seen.iter().any(|p| p.level > 0));
    assert!(seen.windows(2).all(|pair| pair[1].evaluations > pair[0].evaluations));

    let loss = seen[3].loss;
    let mut left = 3;
    let stopped = registration
        .run_with(&fixed, &moving, |_| {
            left -= 1;
            if left < 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    assert_eq!(stopped.levels.len(), 1);
    assert_eq!(stopped.levels[0].stop, Stop::Observer);
    assert!(stopped.levels[0].last <= loss);
}
