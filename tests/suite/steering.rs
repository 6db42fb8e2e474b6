//! Registrations that are steered from outside: where they begin, what is exchanged under them, when they stop, and
//! models that are chosen at run time.
#![expect(clippy::unwrap_used, reason = "a test stops where its problem cannot be built")]

use std::ops::ControlFlow;
use std::time::Duration;

use crate::common::{self, controls, fixed_steps};
use rdmm_core::Error;
use rdmm_core::adjoint::Integration;
use rdmm_core::affine::{AffineRegistration, AffineSettings, Start, Transform};
use rdmm_core::field::Image;
use rdmm_core::grid::{Boundary, Grid};
use rdmm_core::labels::Labels;
use rdmm_core::model::{Advected, Lddmm, Model, Shooting, TwoSided};
use rdmm_core::optim::{Objective, Stop};
use rdmm_core::registration::{
    Begin, Level, PairObjective, Progress, Register, Registered, Registration, Report, Settings,
};
use rdmm_core::similarity::{Measure, Ncc, Similarity, Ssd};
use rdmm_core::space::StateSpace;
use rdmm_core::step::{Steps, Tableau};

fn grid() -> Grid<2> {
    common::grid([24, 20], Boundary::Reflecting)
}

fn image(seed: u64) -> Image<f64, 2> {
    Image::from_vec(&grid(), common::smooth(&grid(), 1, seed)).unwrap()
}

fn labels(seed: u64) -> Labels<2> {
    let values = common::smooth(&grid(), 1, seed).into_iter().map(|x| u32::from(x > 0.0));
    Labels::from_vec(&grid(), values.collect()).unwrap()
}

fn short() -> Settings {
    let levels = [1.5, 1.0].map(|factor| Level { factor, iterations: 3 });
    Settings::default().with_levels(levels.to_vec())
}

fn registration() -> Registration<Lddmm, f64, 2> {
    Registration::new(common::lddmm(), Ssd).with_settings(short())
}

const GO_ON: ControlFlow<()> = ControlFlow::Continue(());

#[test]
fn controls_of_another_grid_are_where_a_registration_begins() {
    let (fixed, moving) = (image(1), image(2));
    let registration = registration();
    let first = registration.run_from(&fixed, &moving, Begin::Identity, |_, _| GO_ON).unwrap();
    assert_eq!(first.result.momentum.data(), first.controls.momentum.data());
    // One level on the same grid begins where the other one ended: the same energy, but for the number of steps.
    let finest = Settings::default().with_levels(vec![Level { factor: 1.0, iterations: 2 }]);
    let again = registration.clone().with_settings(finest);
    let again = again.run_from(&fixed, &moving, first.controls.clone(), |_, _| GO_ON).unwrap();
    let (before, after) = (&first.result.report.levels[1], &again.result.report.levels[0]);
    assert!((after.first.terms.total / before.last.terms.total - 1.0).abs() < 1e-3);
    assert!(after.last.terms.total <= after.first.terms.total);
    // Both levels, the first on a coarser grid: far better than the identity.
    let both = registration.run_from(&fixed, &moving, first.controls, |_, _| GO_ON).unwrap();
    let start = |found: &Registered<f64, 2>| found.report.levels[0].first.terms.total;
    assert!(start(&both.result) < 0.8 * start(&first.result));
    // Controls of another box.
    let other = common::grid([24, 20], Boundary::Reflecting).with_origin([9.0, 9.0]).unwrap();
    let mut shooting = Model::<f64, 2>::on(&common::lddmm(), &other).unwrap();
    let begin = controls(&mut shooting, 0.1, 3);
    let error = registration.run_from(&fixed, &moving, begin, |_, _| GO_ON).map(drop).unwrap_err();
    assert!(matches!(error, Error::GridMismatch { .. }), "{error}");
}

#[test]
fn label_maps_go_on_from_controls() {
    let (fixed, moving) = (labels(1), labels(2));
    let (registration, sigma) = (registration(), 0.05);
    let plain = registration.run_labels(&fixed, &moving, sigma).unwrap();
    let mut seen = 0;
    let first = registration
        .run_labels_from(&fixed, &moving, sigma, Begin::Identity, |progress, _| {
            seen += 1;
            if (progress.level, progress.iteration) == (1, 1) {
                ControlFlow::Break(())
            } else {
                GO_ON
            }
        })
        .unwrap();
    assert!(first.result.report.stopped && seen > 2 && !plain.report.stopped);
    let more =
        registration.run_labels_from(&fixed, &moving, sigma, first.controls, |_, _| GO_ON).unwrap();
    let energy = |found: &Registered<f64, 2>| found.report.levels.last().unwrap().last.terms.total;
    assert!(energy(&more.result) < energy(&first.result));
}

#[test]
fn the_grids_are_known_before_anything_is_built() {
    let (fixed, moving) = (image(1), image(2));
    let registration = registration();
    let grids = registration.grids(&grid()).unwrap();
    let found = registration.run(&fixed, &moving).unwrap();
    assert_eq!(grids.len(), found.report.levels.len());
    for (level, (grids, report)) in grids.iter().zip(&found.report.levels).enumerate() {
        assert_eq!(grids.level, level);
        assert_eq!(grids.images.shape().to_vec(), report.images);
        assert_eq!(grids.maps.shape().to_vec(), report.map);
    }
    assert_eq!(&grids[1].maps, found.momentum.grid());
    let bad = registration.with_settings(short().with_map_factor(0.5));
    assert!(matches!(bad.grids(&grid()), Err(Error::Setting { name: "map factor", .. })));
}

type Energy<M> = PairObjective<<M as Model<f64, 2>>::Shooting, f64, 2>;

fn loss(measure: &dyn Measure<f64, 2>, seed: u64) -> Box<dyn Similarity<f64>> {
    measure.prepare(&image(seed), None).unwrap()
}

/// The energy of the images `seed` and `seed + 1` both ways, with a channel of two others.
fn energy<M: Model<f64, 2>>(model: &M, seed: u64) -> Energy<M> {
    let shooting = model.on(&grid().coarsened(2.0).unwrap()).unwrap();
    // As many steps as the speed asks for.
    let steps = Steps::Courant { number: 0.1, at_least: 1, at_most: 500 };
    let how = Integration { steps, ..Integration::default() };
    PairObjective::new(shooting, &image(seed + 1), &grid(), loss(&Ssd, seed), 3.0, how)
        .unwrap()
        .with_min_jacobian(Some(0.05))
        .with_channel(&image(seed + 3), loss(&Ncc, seed + 2), 2.0)
        .unwrap()
        .with_reverse(&image(seed), loss(&Ssd, seed + 1), 3.0)
        .unwrap()
}

#[test]
fn exchanged_images_give_the_bits_of_a_fresh_objective() {
    let model = TwoSided(common::rdmm_optimised(Advected::PreWeights));
    let (mut used, mut fresh) = (energy(&model, 1), energy(&model, 11));
    let mut shooting = model.on(&grid().coarsened(2.0).unwrap()).unwrap();
    let (large, small) = (controls(&mut shooting, 0.3, 5), controls(&mut shooting, 0.1, 6));
    let (mut bar, mut expected) = (large.zeros_like(), large.zeros_like());
    // An accepted point with many steps, which later points would be compared with.
    let value = used.evaluate(&large, &mut bar).unwrap();
    let steps = used.diagnostics(value).steps;
    used.exchange(&image(12), loss(&Ssd, 11)).unwrap();
    used.exchange_channel(0, &image(14), loss(&Ncc, 13)).unwrap();
    used.exchange_reverse(0, &image(11), loss(&Ssd, 12)).unwrap();
    let value = used.evaluate(&small, &mut bar).unwrap();
    assert_eq!(value.to_bits(), fresh.evaluate(&small, &mut expected).unwrap().to_bits());
    assert_eq!(bar.momentum.data(), expected.momentum.data());
    assert_eq!(bar.weights.data(), expected.weights.data());
    let now = used.diagnostics(value).steps;
    assert!(now < steps, "the points before count no longer: {now} of {steps}");
    // A moving image on a grid of its own.
    let coarse = grid().coarsened(1.5).unwrap();
    let moving = Image::from_vec(&coarse, common::smooth(&coarse, 1, 4)).unwrap();
    used.exchange(&moving, loss(&Ssd, 1)).unwrap();
    assert!(used.evaluate(&small, &mut bar).unwrap().is_finite());

    let error = used.exchange_channel(1, &image(1), loss(&Ssd, 1)).unwrap_err();
    assert!(matches!(error, Error::Length { what: "channels", expected: 2, found: 1 }));
    let error = used.exchange_reverse(0, &moving, loss(&Ssd, 1)).unwrap_err();
    assert!(matches!(error, Error::GridMismatch { .. }));
    let mut spoilt = image(1);
    spoilt.data_mut()[3] = f64::NAN;
    let error = used.exchange(&spoilt, loss(&Ssd, 1)).unwrap_err();
    assert!(matches!(error, Error::NonFinite { index: 3, .. }));
}

#[test]
fn controls_shrink_until_they_are_admissible() {
    let model = TwoSided(common::lddmm());
    let mut energy = energy(&model, 1);
    let mut shooting = model.on(&grid().coarsened(2.0).unwrap()).unwrap();
    let mut gradient = shooting.identity();
    let small = controls(&mut shooting, 0.1, 5);
    let mut kept = small.clone();
    let found = energy.evaluate_shrunk(&mut kept, &mut gradient).unwrap();
    assert_eq!((found.factor, kept.momentum.data()), (1.0, small.momentum.data()));

    let large = controls(&mut shooting, 20.0, 5);
    assert!(energy.evaluate(&large, &mut gradient).unwrap_err().is_recoverable());
    let mut shrunk = large.clone();
    let found = energy.evaluate_shrunk(&mut shrunk, &mut gradient).unwrap();
    assert!(0.0 < found.factor && found.factor < 0.81, "{found:?}");
    // Scaled step by step: a few roundings.
    let ratio = shrunk.momentum.norm() / large.momentum.norm();
    assert!((ratio / found.factor - 1.0).abs() < 1e-12);
    let again = energy.evaluate(&shrunk, &mut gradient).unwrap();
    assert_eq!(again.to_bits(), found.value.to_bits());
    // One step less is not admissible.
    shrunk.momentum.scale(1.0 / 0.8);
    assert!(energy.evaluate(&shrunk, &mut gradient).unwrap_err().is_recoverable());

    let mut hopeless = controls(&mut shooting, 1e9, 5);
    let found = energy.evaluate_shrunk(&mut hopeless, &mut gradient).unwrap();
    assert_eq!((found.factor, hopeless.momentum.max_abs()), (0.0, 0.0));
}

/// With no time at all a run ends after the first evaluation, and says why.
#[test]
fn every_run_has_a_time_limit() {
    let (fixed, moving) = (image(1), image(2));
    let stops = |report: &Report, iterations: usize| {
        assert!(report.timed_out() && report.stopped);
        assert_eq!(report.stop(), Some(&Stop::TimeLimit));
        let level = report.levels.last().unwrap();
        assert_eq!((report.levels.len(), level.iterations), (1, iterations));
    };
    let none = registration().with_settings(short().with_time_limit(Duration::ZERO));
    let found = none.run(&fixed, &moving).unwrap();
    stops(&found.report, 0);
    assert!(found.inverse_map.max_abs() <= 0.0);
    stops(&none.run_labels(&labels(1), &labels(2), 0.05).unwrap().report, 0);
    let chain = none.run_chain(&fixed, &moving, 3).unwrap();
    assert_eq!(chain.segments.len(), 1);
    stops(&chain.segments[0].report, 0);
    for found in none.run_batch(&[(&fixed, &moving), (&moving, &fixed)], 2, |_, _| GO_ON) {
        stops(&found.unwrap().report, 0);
    }
    // An observer that stops comes first, and a long limit changes nothing.
    let found = none.run_with(&fixed, &moving, |_| ControlFlow::Break(())).unwrap();
    assert_eq!((found.report.timed_out(), found.report.stop()), (false, Some(&Stop::Observer)));
    let long = short().with_time_limit(Duration::from_secs(3600));
    let found = registration().with_settings(long).run(&fixed, &moving).unwrap();
    let plain = registration().run(&fixed, &moving).unwrap();
    assert_eq!((found.report.stopped, found.report.stop()), (false, None));
    assert_eq!(found.inverse_map.data(), plain.inverse_map.data());
}

#[test]
fn affine_registrations_stop_for_time_and_go_on() {
    let (fixed, moving) = (image(1), image(2));
    let levels = [1.5, 1.0].map(|factor| Level { factor, iterations: 4 }).to_vec();
    let settings = AffineSettings::default().with_levels(levels);
    let affine = AffineRegistration::new(Transform::Rigid, Ssd).with_start(Start::Moments);
    let none = affine.clone().with_settings(settings.clone().with_time_limit(Duration::ZERO));
    let found = none.run(&fixed, &moving).unwrap();
    assert_eq!((found.levels.len(), found.stop()), (1, Some(&Stop::TimeLimit)));
    let on = affine.with_start(Start::World).with_initial(found.map).with_settings(settings);
    let mut seen = Vec::new();
    let more = on.run_with(&fixed, &moving, |progress| {
        seen.push((progress.level, progress.iteration, progress.evaluations));
        GO_ON
    });
    let more = more.unwrap();
    assert_eq!(more.stop(), None);
    assert!(more.levels[0].first <= found.levels[0].last);
    assert!(seen.is_sorted_by_key(|(level, _, evaluations)| (*level, *evaluations)), "{seen:?}");
}

#[test]
fn a_chain_that_was_stopped_goes_on_from_its_map() {
    let (fixed, moving) = (image(1), image(2));
    let registration = registration();
    let whole = registration.run_chain(&fixed, &moving, 3).unwrap();
    let one = registration.run_chain(&fixed, &moving, 1).unwrap();
    let three = registration.run_chain_from(Some(one), &fixed, &moving, 2, |_, _| GO_ON).unwrap();
    assert_eq!(three.inverse_map.data(), whole.inverse_map.data());
    assert_eq!(three.forward_map.data(), whole.forward_map.data());
    let mut segments = Vec::new();
    let stopped = registration
        .run_chain_from(None, &fixed, &moving, 3, |segment, progress| {
            segments.push(segment);
            let here = (segment, progress.level, progress.iteration) == (1, 0, 2);
            if here { ControlFlow::Break(()) } else { GO_ON }
        })
        .unwrap();
    assert_eq!((stopped.segments.len(), segments.last()), (2, Some(&1)));
    assert!(stopped.segments[1].report.stopped && !stopped.segments[0].report.stopped);
    let more =
        registration.run_chain_from(Some(stopped), &fixed, &moving, 1, |_, _| GO_ON).unwrap();
    assert_eq!((more.segments.len(), more.folds.total().folded), (3, 0));
    let error = registration.run_chain(&fixed, &moving, 0).map(drop).unwrap_err();
    assert!(matches!(error, Error::Length { expected: 1, found: 0, .. }), "{error}");
}

#[test]
fn a_model_is_chosen_at_run_time() {
    let (fixed, moving) = (image(1), image(2));
    let chosen: [Box<dyn Register<f64, 2>>; 2] = [
        Box::new(registration()),
        Box::new(
            Registration::new(common::rdmm_optimised(Advected::PreWeights), Ssd)
                .with_settings(short()),
        ),
    ];
    let mut seen = 0;
    let mut watch = |_: &Progress| {
        seen += 1;
        GO_ON
    };
    let found = chosen[0].register(&fixed, &moving, &mut watch).unwrap();
    let plain = registration().run(&fixed, &moving).unwrap();
    assert_eq!(found.inverse_map.data(), plain.inverse_map.data());
    let found = chosen[0].register_labels(&labels(1), &labels(2), 0.05, &mut watch).unwrap();
    let plain = registration().run_labels(&labels(1), &labels(2), 0.05).unwrap();
    assert_eq!(found.inverse_map.data(), plain.inverse_map.data());
    for registration in &chosen {
        let batch = registration.register_batch(&[(&fixed, &moving)], 1, &|_, _| GO_ON);
        let chain = registration.register_chain(None, &fixed, &moving, 1, &mut |_, _| GO_ON);
        let (batch, chain) = (batch.into_iter().next().unwrap().unwrap(), chain.unwrap());
        assert_eq!(batch.inverse_map.data(), chain.inverse_map.data());
    }
    assert!(seen > 4);
}

/// Midpoint, as a method of somebody else's.
const THIRDS: Tableau = match Tableau::new("thirds", 1, &[&[], &[0.5]], &[0.0, 1.0], None) {
    Ok(tableau) => tableau,
    Err(_) => rdmm_core::step::EULER,
};

/// Settings and reports are stored, and read again as they were.
#[test]
fn settings_and_reports_are_stored() {
    let (fixed, moving) = (image(1), image(2));
    let mut settings = short().with_time_limit(Duration::from_millis(3_600_500));
    settings.integration = fixed_steps(4);
    let text = serde_json::to_string(&settings).unwrap();
    assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), settings);
    // What is left out has its default; what is unknown is refused.
    let partial = serde_json::from_str::<Settings>(r#"{"map_factor": 3.0}"#).unwrap();
    assert_eq!(partial, Settings::default().with_map_factor(3.0));
    assert!(serde_json::from_str::<Settings>(r#"{"map_facto": 3.0}"#).is_err());
    settings.integration.tableau = THIRDS;
    let error = serde_json::to_string(&settings).unwrap_err().to_string();
    assert!(error.contains("thirds") && error.contains("a method of this crate"), "{error}");

    let mut last = None;
    let found = registration().run_with(&fixed, &moving, |progress| {
        last = Some(progress.clone());
        GO_ON
    });
    let (found, last) = (found.unwrap(), last.unwrap());
    let text = serde_json::to_string(&found.report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), found.report);
    let text = serde_json::to_string(&last).unwrap();
    assert_eq!(serde_json::from_str::<Progress>(&text).unwrap(), last);
    let text = serde_json::to_string(&found).unwrap();
    let again = serde_json::from_str::<Registered<f64, 2>>(&text).unwrap();
    assert_eq!((again.inverse_map, again.report), (found.inverse_map, found.report));
}
