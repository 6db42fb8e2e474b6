//! Images that show a part of one another: what is not shown does not count.
#![expect(clippy::unwrap_used, reason = "a test stops where its problem cannot be built")]

use nalgebra::{SMatrix, SVector};
use rdmm_core::Error;
use rdmm_core::adjoint::Integration;
use rdmm_core::affine::{AffineObjective, AffineRegistration, AffineSettings, Start, Transform};
use rdmm_core::field::{Displacement, Image};
use rdmm_core::grid::Grid;
use rdmm_core::model::{Lddmm, Model, MultiGaussian, TwoSided};
use rdmm_core::optim::Objective;
use rdmm_core::registration::{PairObjective, Registration, Settings};
use rdmm_core::similarity::{Lncc, Measure, Ncc, Nmi, Ssd};
use rdmm_core::testing::{check_gradient, random, smooth};
use rdmm_core::world::Affine;

/// A head of sorts: an ellipse with structures in it.
fn head(x: [f64; 2]) -> f64 {
    let ball = |c: [f64; 2], r: [f64; 2]| {
        let square = ((x[0] - c[0]) / r[0]).powi(2) + ((x[1] - c[1]) / r[1]).powi(2);
        1.0 / (1.0 + (6.0 * (square - 1.0)).exp())
    };
    ball([30.0, 34.0], [24.0, 28.0]) - 0.6 * ball([24.0, 40.0], [6.0, 9.0])
        + 0.5 * ball([38.0, 28.0], [7.0, 5.0])
        - 0.4 * ball([32.0, 50.0], [5.0, 4.0])
}

fn whole() -> Image<f32, 2> {
    Image::from_fn(&Grid::new([60, 68], [1.0; 2]).unwrap(), head).unwrap()
}

/// A slab of it, across.
fn slab() -> Image<f32, 2> {
    let grid = Grid::new([60, 22], [1.0; 2]).unwrap().with_origin([0.0, 22.0]).unwrap();
    // Coordinates of fields begin at the origin of their grid.
    Image::from_fn(&grid, |x| head([x[0], x[1] + 22.0])).unwrap()
}

/// Mean length of a displacement over the voxels that the slab shows.
fn moved(map: &Displacement<f32, 2>) -> f64 {
    let (grid, mut sum, mut count) = (map.grid(), 0.0, 0);
    for i in (0..grid.len()).filter(|&i| (22..44).contains(&grid.unravel(i)[1])) {
        let along = [map.component(0)[i], map.component(1)[i]];
        sum += f64::from(along[0]).hypot(f64::from(along[1]));
        count += 1;
    }
    sum / f64::from(count)
}

#[test]
fn an_aligned_slab_stays_where_it_is() {
    let (fixed, moving) = (whole(), slab());
    for transform in [Transform::Rigid, Transform::Affine] {
        let found = AffineRegistration::new(transform, Ncc).run(&fixed, &moving).unwrap();
        let off = moved(&found.map.displacement(fixed.grid()).unwrap());
        // Levels see the slab through voxels of four; the finest finds it again.
        assert!(off < 0.1, "{transform:?}: {off} voxels");
        // 22 of 68 rows, and a part of those beside them.
        assert!((found.overlap - 22.0 / 68.0).abs() < 0.02 && !found.is_worse());
    }
    let model = || Lddmm::new(MultiGaussian::for_grid(fixed.grid()));
    let settings = Settings::default().with_fill(-7.0);
    let one = Registration::new(model(), Ncc).with_settings(settings.clone());
    let two = Registration::new(TwoSided(model()), Ncc).with_settings(settings);
    for found in [one.run(&fixed, &moving).unwrap(), two.run(&fixed, &moving).unwrap()] {
        let off = moved(&found.inverse_map);
        assert!(off < 0.1, "{off} voxels");
        assert!((found.report.overlap - 22.0 / 68.0).abs() < 0.02, "{}", found.report.overlap);
        let row = |i: usize| found.warped.data()[30 * 68 + i];
        assert_eq!([5, 60].map(|i| row(i).to_bits()), [(-7.0_f32).to_bits(); 2]);
        assert!((f64::from(row(33)) - head([30.0, 33.0])).abs() < 0.05);
    }
}

#[test]
fn a_shifted_slab_is_found() {
    let (fixed, moving) = (whole(), slab());
    let away = Affine::new(SMatrix::identity(), SVector::from([2.0, -3.0])).unwrap();
    for measure in
        [Box::new(Ssd) as Box<dyn Measure<f32, 2>>, Box::new(Ncc), Box::new(Nmi::default())]
    {
        let registration = AffineRegistration::new(Transform::Rigid, measure);
        let found = registration.with_initial(away).run(&fixed, &moving).unwrap();
        let off = moved(&found.map.displacement(fixed.grid()).unwrap());
        assert!(off < 0.3, "{off} voxels from {:?}", found.levels);
    }
}

#[test]
fn images_beside_one_another_are_refused_with_a_remedy() {
    let fixed = whole();
    let far = fixed.grid().clone().with_origin([600.0, 0.0]).unwrap();
    let moving = Image::from_vec(&far, fixed.data().to_vec()).unwrap();
    let affine = AffineRegistration::new(Transform::Affine, Ncc);
    let model = Lddmm::new(MultiGaussian::for_grid(fixed.grid()));
    let two = TwoSided(model.clone());
    let errors = [
        affine.run(&fixed, &moving).err(),
        Registration::new(model, Ncc).run(&fixed, &moving).err(),
        Registration::new(two, Ncc).run(&fixed, &moving).err(),
    ];
    for error in errors {
        let error = error.unwrap();
        assert!(matches!(error, Error::NoOverlap { least: 0.0, .. }), "{error}");
        assert!(error.to_string().contains("centres of mass"), "{error}");
    }
    let found = affine.with_start(Start::Mass).run(&fixed, &moving).unwrap();
    assert!((found.map.shift()[0] - 600.0).abs() < 0.5, "{:?}", found.map);
}

#[test]
fn affine_maps_do_not_run_away() {
    let grid = Grid::new([64, 64], [1.0; 2]).unwrap();
    let blob = |c: f64, s: f64| {
        move |x: [f64; 2]| (-((x[0] - c).powi(2) + (x[1] - c).powi(2)) / (2.0 * s * s)).exp()
    };
    let image = |f: &dyn Fn([f64; 2]) -> f64| Image::<f32, 2>::from_fn(&grid, f).unwrap();
    let noise = |seed| Image::<f32, 2>::from_vec(&grid, random(grid.len(), seed)).unwrap();
    let ring = |x: [f64; 2]| blob(32.0, 20.0)(x) - blob(32.0, 15.0)(x);
    let pairs = [
        (image(&blob(32.0, 6.0)), image(&ring)),
        (image(&blob(12.0, 4.0)), image(&blob(52.0, 4.0))),
        (noise(1), noise(2)),
    ];
    let measures: [Box<dyn Measure<f32, 2>>; 3] =
        [Box::new(Ssd), Box::new(Ncc), Box::new(Nmi::default())];
    for measure in measures {
        let registration = AffineRegistration::new(Transform::Affine, measure);
        for (fixed, moving) in &pairs {
            match registration.run(fixed, moving) {
                Ok(found) => {
                    let singular = found.map.matrix().svd(false, false).singular_values;
                    assert!(singular.max() <= 4.0 && singular.min() >= 0.25, "{singular}");
                    assert!(found.overlap > 0.24, "{}", found.overlap);
                }
                Err(error) => assert!(matches!(error, Error::Stretched { .. }), "{error}"),
            }
        }
    }
    // A bound that the true map breaks.
    let (fixed, moving) = (image(&blob(32.0, 10.0)), image(&blob(32.0, 4.0)));
    let settings = AffineSettings::default().with_most_stretch(1.3);
    let bounded = AffineRegistration::new(Transform::Similarity, Ssd).with_settings(settings);
    let error = bounded.run(&fixed, &moving).map(drop).unwrap_err();
    assert!(
        matches!(error, Error::Stretched { most, .. } if (most - 1.3).abs() < 1e-12),
        "{error}"
    );
}

#[test]
fn gradients_are_exact_where_a_part_is_seen() {
    let image = |grid: &Grid<2>, seed| {
        let values = smooth(grid, 1, seed).iter().map(|x| 0.5 + 0.2 * x).collect();
        Image::<f64, 2>::from_vec(grid, values).unwrap()
    };
    let grid = Grid::new([20, 24], [1.0; 2]).unwrap();
    let part = Grid::new([20, 9], [1.0; 2]).unwrap().with_origin([1.3, 7.4]).unwrap();
    let (fixed, moving) = (image(&grid, 1), image(&part, 2));
    let measures: [Box<dyn Measure<f64, 2>>; 4] =
        [Box::new(Ssd), Box::new(Ncc), Box::new(Lncc { sigma: 2.0 }), Box::new(Nmi::default())];
    for measure in measures {
        let loss = measure.prepare(&fixed, None).unwrap();
        let start = Affine::identity();
        let mut objective =
            AffineObjective::new(Transform::Affine, start, &moving, &grid, loss).unwrap();
        let at: Vec<f64> = random::<f64>(6, 3).iter().map(|x| 0.05 * x).collect();
        let (mut gradient, direction) = (objective.rest(), random::<f64>(6, 4));
        objective.evaluate(&at, &mut gradient).unwrap();
        let slope: f64 = gradient.iter().zip(&direction).map(|(g, d)| 1e-3 * g * d).sum();
        let size = 1e-3 * gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
        let along = |e: f64| {
            let moved: Vec<f64> =
                at.iter().zip(&direction).map(|(x, d)| x + 1e-3 * e * d).collect();
            objective.evaluate(&moved, &mut [0.0; 6].to_vec()).unwrap()
        };
        check_gradient(measure.name(), along, slope, size).unwrap();

        let model = Lddmm::new(MultiGaussian::for_grid(&grid)).on(&grid).unwrap();
        let loss = measure.prepare(&fixed, None).unwrap();
        let mut objective =
            PairObjective::new(model, &moving, &grid, loss, 1.0, Integration::default()).unwrap();
        let mut at = rdmm_core::model::Shooting::identity(objective.shooting());
        let (mut direction, mut gradient) = (at.clone(), at.clone());
        let fill = |out: &mut [f64], scale: f64, seed| {
            out.iter_mut().zip(smooth(&grid, 2, seed)).for_each(|(out, x)| *out = scale * x);
        };
        fill(at.momentum.data_mut(), 0.05, 5);
        // Long enough that the flat NMI stands out of its rounding.
        fill(direction.momentum.data_mut(), 1e-2, 6);
        objective.evaluate(&at, &mut gradient).unwrap();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let (g, d) = (gradient.momentum.data(), direction.momentum.data());
        let (slope, size) = (dot(g, d), (dot(g, g) * dot(d, d)).sqrt());
        let along = |e: f64| {
            let mut moved = at.clone();
            let data = moved.momentum.data_mut().iter_mut();
            data.zip(direction.momentum.data()).for_each(|(x, d)| *x += e * d);
            objective.evaluate(&moved, &mut at.clone()).unwrap()
        };
        check_gradient(measure.name(), along, slope, size).unwrap();
    }
}
