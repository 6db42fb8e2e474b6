//! Registrations that are stopped or fail midway: what was reached is what is returned.
#![expect(clippy::unwrap_used, reason = "a test stops where its problem cannot be built")]

use std::ops::ControlFlow;

use crate::common;
use rdmm_core::adjoint::Sweep;
use rdmm_core::field::Image;
use rdmm_core::grid::{Boundary, Grid};
use rdmm_core::model::{Advected, Controls, Lddmm, Model, MultiGaussian, Shooting};
use rdmm_core::ops::resample::Resample;
use rdmm_core::optim::{Adam, Lbfgs, Stop};
use rdmm_core::registration::{
    Begin, Checkpoint, Level, Progress, Registered, Registration, Search, Settings,
};
use rdmm_core::similarity::{Measure, Similarity, Ssd, Warped, WarpedBar};
use rdmm_core::space::StateSpace;
use rdmm_core::step::Steps;
use rdmm_core::{Error, Result};

fn grid() -> Grid<2> {
    common::grid([24, 20], Boundary::Reflecting)
}

fn pair() -> (Image<f64, 2>, Image<f64, 2>) {
    let image = |seed| Image::from_vec(&grid(), common::smooth(&grid(), 1, seed)).unwrap();
    (image(1), image(2))
}

fn model() -> Lddmm {
    Lddmm::new(MultiGaussian::new(&[0.1, 0.2], &[0.5, 0.5]).unwrap())
}

fn levels(iterations: usize) -> Vec<Level> {
    vec![Level { factor: 1.5, iterations }, Level { factor: 1.0, iterations }]
}

/// The map that the returned controls give, computed again.
fn assert_map_of_controls(found: &Registered<f64, 2>, model: &Lddmm) {
    let (fixed, moving) = pair();
    let grid = found.momentum.grid().clone();
    let mut shooting = Model::<f64, 2>::on(model, &grid).unwrap();
    let controls = Controls { momentum: found.momentum.clone(), weights: () };
    let start = shooting.initial_state(&controls);
    let how = common::fixed_steps(found.report.steps);
    let mut sweep = Sweep::new(shooting.evolution(), &start, how).unwrap();
    let map = &sweep.forward(&start).unwrap().map;
    let map = Resample::new(&grid, fixed.grid()).field(map).unwrap();
    assert_eq!(found.inverse_map, map);
    assert_eq!(found.warped, map.warp_filled(&moving, 0.0).unwrap());
}

#[test]
fn an_observer_that_stops_gets_the_best_state() {
    let (fixed, moving) = pair();
    let lbfgs = Lbfgs::default().with_value_tolerance(0.0);
    let adam = Adam::default().with_learning_rate(0.05).with_value_tolerance(0.0);
    for search in [
        Search::MetricLbfgs { lbfgs: lbfgs.clone(), epsilon: 1e-3 },
        Search::EuclideanLbfgs(lbfgs),
        // Adam's values may rise: its best state is not its last.
        Search::Adam(adam),
    ] {
        for (level, iteration) in [(0, 1), (0, 4), (1, 3)] {
            let settings = Settings::default().with_levels(levels(8)).with_search(search.clone());
            let registration = Registration::new(model(), Ssd).with_settings(settings);
            let mut seen: Vec<Progress> = Vec::new();
            let found = registration
                .run_with(&fixed, &moving, |progress| {
                    seen.push(progress.clone());
                    if (progress.level, progress.iteration) == (level, iteration) {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                })
                .unwrap();
            assert!(found.report.stopped);
            assert_eq!(found.report.levels.len(), level + 1);
            let last = found.report.levels.last().unwrap();
            assert_eq!((&last.stop, last.iterations), (&Stop::Observer, iteration));
            let here = seen.iter().filter(|progress| progress.level == level);
            let best = here.map(|progress| progress.diagnostics.terms.total);
            let best = best.fold(f64::INFINITY, f64::min);
            assert!(last.last.terms.total <= best, "{} {best}", last.last.terms.total);
            assert_map_of_controls(&found, &model());
        }
    }
}

/// A registration that goes on from a checkpoint, stored as text and read again, ends with the bits of one that
/// was never interrupted.
#[test]
fn a_checkpoint_goes_on_bit_for_bit() {
    let (fixed, moving) = pair();
    let lbfgs = Lbfgs::default().with_value_tolerance(0.0).with_memory(3);
    let adam = Adam::default().with_learning_rate(0.05).with_value_tolerance(0.0);
    for search in [
        Search::MetricLbfgs { lbfgs: lbfgs.clone(), epsilon: 1e-3 },
        Search::EuclideanLbfgs(lbfgs),
        Search::Adam(adam),
    ] {
        let settings = Settings::default().with_levels(levels(7)).with_search(search);
        let model = common::rdmm_optimised(Advected::PreWeights);
        let registration = Registration::new(model, Ssd).with_settings(settings);
        let mut saved = Vec::new();
        let whole = registration
            .run_from(&fixed, &moving, Begin::Identity, |progress, checkpoint| {
                if [(0, 0), (0, 4), (1, 5)].contains(&(progress.level, progress.iteration)) {
                    saved.push((progress.clone(), serde_json::to_string(&checkpoint()).unwrap()));
                }
                ControlFlow::Continue(())
            })
            .unwrap()
            .result;
        assert_eq!(saved.len(), 3);
        for (at, text) in saved {
            let mut next = None;
            let again = registration
                .run_from(
                    &fixed,
                    &moving,
                    serde_json::from_str::<Checkpoint<_, 2, _>>(&text).unwrap(),
                    |progress, _| {
                        next.get_or_insert(progress.clone());
                        ControlFlow::Continue(())
                    },
                )
                .unwrap()
                .result;
            let next = next.unwrap();
            assert_eq!((next.level, next.iteration), (at.level, at.iteration + 1));
            assert!(next.seconds >= at.seconds);
            assert_eq!(again.inverse_map.data(), whole.inverse_map.data());
            assert_eq!(again.sigma_end, whole.sigma_end);
            assert_eq!(again.report.evaluations, whole.report.evaluations);
            for (a, b) in again.report.levels.iter().zip(&whole.report.levels) {
                assert_eq!((&a.first, &a.last), (&b.first, &b.last));
                assert_eq!(a.iterations, b.iterations);
                assert_eq!((&a.stop, a.refused), (&b.stop, b.refused));
            }
        }
    }
}

#[test]
fn a_checkpoint_of_another_registration_is_refused() {
    let (fixed, moving) = pair();
    let with = |levels: Vec<Level>, search: Search, map_factor: f64| {
        let settings =
            Settings::default().with_levels(levels).with_search(search).with_map_factor(map_factor);
        Registration::new(model(), Ssd).with_settings(settings)
    };
    let mut saved = None;
    let registration = with(levels(2), Search::default(), 2.0);
    let watch = |progress: &Progress, checkpoint: &dyn Fn() -> _| {
        saved = (progress.level == 1).then(checkpoint).or(saved.take());
        ControlFlow::Continue(())
    };
    registration.run_from(&fixed, &moving, Begin::Identity, watch).unwrap();
    let checkpoint = saved.unwrap();
    let coarse = vec![Level { factor: 1.5, iterations: 2 }];
    for (other, says) in [
        (with(coarse, Search::default(), 2.0), "same levels"),
        (with(levels(2), Search::default(), 1.0), "grid"),
        (with(levels(2), Search::Adam(Adam::default()), 2.0), "optimiser"),
    ] {
        let go_on = |_: &Progress, _: &dyn Fn() -> _| ControlFlow::Continue(());
        let found = other.run_from(&fixed, &moving, checkpoint.clone(), go_on);
        let error = found.map(drop).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

/// Pairs that run side by side, one of which cannot be registered.
#[test]
fn a_batch_is_its_pairs_one_by_one() {
    let (fixed, moving) = pair();
    let flat = Image::zeros(&grid()).unwrap();
    let settings = Settings::default().with_levels(levels(3));
    let registration = Registration::new(model(), Ssd).with_settings(settings);
    let pairs = [(&fixed, &moving), (&fixed, &flat), (&moving, &fixed), (&moving, &moving)];
    for jobs in [0, 1, 3, 9] {
        let stop_last = |pair: usize, _: &Progress| {
            if pair == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let found = registration.run_batch(&pairs, jobs, stop_last);
        assert_eq!(found.len(), pairs.len());
        assert!(matches!(found[1], Err(Error::NoContrast { .. })));
        for k in [0, 2] {
            let alone = registration.run(pairs[k].0, pairs[k].1).unwrap();
            let found = found[k].as_ref().unwrap();
            assert_eq!(found.inverse_map.data(), alone.inverse_map.data());
            assert!(!found.report.stopped);
        }
        assert!(found[3].as_ref().unwrap().report.stopped);
    }
}

#[test]
fn a_registration_that_is_not_stopped_says_so() {
    let (fixed, moving) = pair();
    let settings = Settings::default().with_levels(levels(2));
    let registration = Registration::new(model(), Ssd).with_settings(settings);
    let found = registration.run(&fixed, &moving).unwrap();
    assert!(!found.report.stopped);
    assert_map_of_controls(&found, &model());
}

/// A weight so large, and so few steps, that many trial states leave the finite numbers.
#[test]
fn states_that_diverge_are_backtracked_from() {
    let (fixed, moving) = pair();
    for (weight, search) in [
        (1e8, Search::default()),
        (1e12, Search::EuclideanLbfgs(Lbfgs::default().with_first_decrease(1e6))),
        (1e8, Search::Adam(Adam::default().with_learning_rate(1e200))),
    ] {
        let mut settings = Settings::default().with_levels(levels(6)).with_search(search);
        settings.similarity_weight = Some(weight);
        settings.integration.steps = Steps::Fixed(1);
        let registration = Registration::new(model(), Ssd).with_settings(settings);
        let found = registration.run(&fixed, &moving).unwrap();
        assert!(found.inverse_map.is_finite() && found.warped.is_finite() && !found.report.stopped);
        for level in &found.report.levels {
            assert!(level.last.terms.total.is_finite());
            assert!(level.last.terms.total <= level.first.terms.total);
        }
        assert_map_of_controls(&found, &model());
    }
}

/// SSD that is NaN from its `good`-th evaluation on.
#[derive(Debug)]
struct Fails {
    good: usize,
}

struct Failing {
    loss: Box<dyn Similarity<f64>>,
    left: usize,
}

impl Measure<f64, 2> for Fails {
    fn prepare(
        &self,
        fixed: &Image<f64, 2>,
        mask: Option<&Image<f64, 2>>,
    ) -> Result<Box<dyn Similarity<f64>>> {
        Ok(Box::new(Failing { loss: Ssd.prepare(fixed, mask)?, left: self.good }))
    }
    fn name(&self) -> &'static str {
        "SSD that fails"
    }
    fn default_weight(&self) -> f64 {
        10.0
    }
}

impl Similarity<f64> for Failing {
    fn value_and_gradient_where_seen(
        &mut self,
        warped: Warped<'_, f64>,
        bar: WarpedBar<'_, f64>,
    ) -> f64 {
        let value = self.loss.value_and_gradient_where_seen(warped, bar);
        self.left = self.left.saturating_sub(1);
        if self.left > 0 { value } else { f64::NAN }
    }
    fn value_where_seen(&mut self, warped: Warped<'_, f64>) -> f64 {
        self.loss.value_where_seen(warped)
    }
    fn mask(&self) -> Option<&[f64]> {
        self.loss.mask()
    }
}

#[test]
fn an_objective_that_fails_midway_leaves_what_was_reached() {
    let (fixed, moving) = pair();
    for search in [Search::default(), Search::Adam(Adam::default())] {
        let run = |good| {
            let settings = Settings::default().with_levels(levels(20)).with_search(search.clone());
            Registration::new(model(), Fails { good }).with_settings(settings).run(&fixed, &moving)
        };
        let found = run(6).unwrap();
        for level in &found.report.levels {
            assert!(level.iterations >= 1 && level.last.terms.total < level.first.terms.total);
            assert!(
                matches!(level.stop, Stop::LineSearch | Stop::MaxEvaluations),
                "{:?}",
                level.stop
            );
        }
        assert_map_of_controls(&found, &model());
        // Not even the start can be evaluated.
        let error = run(1).map(drop).unwrap_err();
        assert!(matches!(error, Error::Start { .. }), "{error}");
        assert!(error.to_string().contains("NaN"), "{error}");
    }
}
