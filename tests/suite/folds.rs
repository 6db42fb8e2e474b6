//! A smallest determinant that is promised is kept.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use crate::common;
use rdmm_core::Error;
use rdmm_core::evaluate;
use rdmm_core::field::Image;
use rdmm_core::grid::{Boundary, Grid};
use rdmm_core::model::{Lddmm, MultiGaussian};
use rdmm_core::registration::{Level, Registered, Registration, Settings};
use rdmm_core::similarity::Ssd;
use rdmm_core::step::Steps;

/// Two unlike images, with a similarity that is worth any deformation.
fn register(min_jacobian: Option<f64>, last: f64) -> Registered<f64, 2> {
    let grid = common::grid([32, 28], Boundary::Reflecting);
    let image = |seed| Image::from_vec(&grid, common::smooth(&grid, 1, seed)).unwrap();
    let model = Lddmm::new(MultiGaussian::new(&[0.07, 0.15], &[0.5, 0.5]).unwrap());
    let settings = Settings::default()
        .with_levels([2.0, last].map(|factor| Level { factor, iterations: 25 }).to_vec())
        .with_similarity_weight(300.0)
        .with_min_jacobian(min_jacobian);
    let registration = Registration::new(model, Ssd).with_settings(settings);
    registration.run(&image(1), &image(2)).unwrap()
}

#[test]
fn the_smallest_determinant_is_kept() {
    let free = register(None, 1.0);
    let least = free.report.folds.total().min;
    println!("free: {least:.3}");
    for (bound, last) in [(0.0, 1.0), (0.3, 1.0), (0.3, 2.0)] {
        let found = register(Some(bound), last);
        let folds = found.report.folds.total();
        let [before, after] =
            [&found.report.levels[0].first, &found.report.levels.last().unwrap().last];
        println!(
            "bound {bound}, last factor {last}: {:.3}, {} refused, loss {:.3e} to {:.3e}",
            folds.min, found.report.refused, before.terms.similarity, after.terms.similarity
        );
        assert!(least < bound + 0.1, "the bound matters here: {least}");
        assert!(folds.min > bound && folds.folded == 0);
        assert!(found.report.refused > 0 || bound < least);
        assert!(after.terms.similarity < 0.8 * before.terms.similarity, "something is gained");
        // The figures are those of the map that is handed out.
        let again = evaluate::Folds::of(&found.inverse_map).unwrap();
        assert_eq!(again, found.report.folds);
    }
}

/// A disc onto three quarters of a ring, with edges of a voxel or two.
fn disc_and_ring() -> [Image<f32, 2>; 2] {
    let grid = Grid::<2>::unit([64, 64]).unwrap();
    let soft = |d: f64| 0.5 * (1.0 + (d / 0.02).tanh());
    let disc = |x: f64, y: f64| 0.2 - x.hypot(y);
    let ring =
        |x: f64, y: f64| (0.08 - (x.hypot(y) - 0.24).abs()).min((y.abs() - x) * 0.5_f64.sqrt());
    let image = |shape: &dyn Fn(f64, f64) -> f64| {
        Image::from_fn(&grid, |x| soft(shape(x[0] - 0.5, x[1] - 0.5))).unwrap()
    };
    [image(&disc), image(&ring)]
}

#[test]
fn the_barrier_is_felt_before_the_bound() {
    // The ring needs determinants around the bound, unless something holds the map off it. Where the barrier is too
    // weak for that, trials run into the bound again and again.
    let [moving, fixed] = disc_and_ring();
    let model = Lddmm::new(MultiGaussian::for_grid(fixed.grid()));
    let found = Registration::new(model, Ssd).run(&fixed, &moving).unwrap();
    let (least, report) = (found.report.folds.total().min, &found.report);
    let [before, after] =
        [&moving, &found.warped].map(|image| evaluate::ncc(image, &fixed, None).unwrap());
    println!("{least:.3}, {} of {} refused", report.refused, report.evaluations);
    println!("NCC {before:.4} to {after:.4}");
    // Three times the bound of 0.05; a tenth of the trials; and all but a hundredth of the mismatch is gone.
    assert!(least > 0.15, "{least}");
    assert!(10 * report.refused < report.evaluations);
    assert!(1.0 - after < 0.01 * (1.0 - before), "{before} {after}");
}

#[test]
fn a_bound_that_the_identity_breaks_is_refused() {
    let grid = common::grid([12, 12], Boundary::Reflecting);
    let image = Image::from_vec(&grid, common::smooth(&grid, 1, 1)).unwrap();
    for bad in [1.0, 1.5, -0.1, f64::NAN, f64::INFINITY] {
        let model = Lddmm::new(MultiGaussian::new(&[0.2], &[1.0]).unwrap());
        let settings = Settings::default().with_min_jacobian(Some(bad));
        let error = Registration::new(model, Ssd).with_settings(settings).run(&image, &image);
        assert!(matches!(error, Err(Error::Setting { name: "smallest determinant", .. })), "{bad}");
    }
}

#[test]
fn a_level_whose_flow_diverges_on_the_next_grid_starts_from_less() {
    let grid = common::grid([32, 28], Boundary::Reflecting);
    let image = |seed| Image::from_vec(&grid, common::smooth(&grid, 1, seed)).unwrap();
    let model = Lddmm::new(MultiGaussian::new(&[0.07, 0.15], &[0.5, 0.5]).unwrap());
    // Two steps do for the coarse grid's long voxels, and are too few for shorter ones.
    let levels = [4.0, 1.0].map(|factor| Level { factor, iterations: 25 }).to_vec();
    let mut settings =
        Settings::default().with_levels(levels).with_similarity_weight(1e3).with_min_jacobian(None);
    settings.integration.steps = Steps::Fixed(2);
    let registration = Registration::new(model, Ssd).with_settings(settings);
    let found = registration.run(&image(1), &image(2)).unwrap();
    let [coarse, fine] = [0, 1].map(|level| &found.report.levels[level].last.terms);
    assert!(fine.total.is_finite() && found.inverse_map.data().iter().all(|u| u.is_finite()));
    assert!(coarse.regularisation > 0.0 && fine.regularisation > 0.0, "both levels moved");
}
