//! The crate's own parts hold the contracts that `rdmm_core::testing` checks, and parts that break them are found out.
#![expect(clippy::unwrap_used, reason = "a problem that cannot be made stops the test")]

use crate::common::{FORMS, Region, SIGMAS, grid, region};
use rdmm_core::Real;
use rdmm_core::dynamics::{Epdiff, Flow, Geodesic, Stationary};
use rdmm_core::error::Result;
use rdmm_core::field::{Displacement, Image, Momentum, Velocity, Weights};
use rdmm_core::grid::{Boundary, Grid};
use rdmm_core::kernel::GaussianBank;
use rdmm_core::metric::{Homogeneous, Inputs, Metric, Outputs};
use rdmm_core::ops::difference::Order;
use rdmm_core::regularize::{Omt, RangePenalty, Regularizer, TotalVariation};
use rdmm_core::similarity::{
    Histogram, Lncc, Measure, MutualInformation, Ncc, Nmi, Similarity, Ssd, Warped, WarpedBar,
    WeightedSum,
};
use rdmm_core::space::StateSpace;
use rdmm_core::testing::{check_evolution, check_metric, check_penalty, check_similarity, smooth};

fn image(grid: &Grid<2>, seed: u64) -> Image<f64, 2> {
    Image::from_vec(grid, smooth(grid, 1, seed)).unwrap()
}

/// Weights between 0 and 1.
fn mask(grid: &Grid<2>) -> Image<f64, 2> {
    let values = smooth(grid, 1, 9).iter().map(|x| (0.5 + 0.4 * x).clamp(0.0, 1.0)).collect();
    Image::from_vec(grid, values).unwrap()
}

#[test]
fn similarities() {
    let histogram = Histogram { bins: 9, fixed: [-2.0, 2.0], moving: [-2.5, 2.5] };
    let sum: Vec<(f64, Box<dyn Measure<f64, 2>>)> =
        vec![(0.6, Box::new(Ssd)), (0.1, Box::new(Ncc))];
    let measures: Vec<Box<dyn Measure<f64, 2>>> = vec![
        Box::new(Ssd),
        Box::new(Ncc),
        Box::new(Lncc { sigma: 0.15 }),
        Box::new(MutualInformation { histogram }),
        Box::new(Nmi { histogram }),
        Box::new(WeightedSum::new(sum).unwrap()),
    ];
    for boundary in Boundary::ALL {
        let grid = grid([12, 14], boundary);
        for measure in &measures {
            for mask in [None, Some(&mask(&grid))] {
                check_similarity(&**measure, &image(&grid, 1), &image(&grid, 2), mask).unwrap();
            }
        }
    }
}

#[test]
fn penalties() {
    let penalties: [Box<dyn Regularizer<f64, 2>>; 3] = [
        Box::new(Omt::new(1.0).unwrap()),
        Box::new(TotalVariation::new(1.0).unwrap()),
        Box::new(RangePenalty::new(1.0, &[0.2, 0.3, 0.5]).unwrap()),
    ];
    for boundary in Boundary::ALL {
        for penalty in &penalties {
            check_penalty(&**penalty, &grid([9, 7], boundary), &SIGMAS).unwrap();
        }
    }
}

/// Pre-weights that vary, and a change of them.
fn weights<const D: usize>(grid: &Grid<D>) -> [Weights<f64, D>; 2] {
    let of = |seed, middle: f64| {
        let values = smooth(grid, SIGMAS.len(), seed).iter().map(|x| middle + 0.2 * x).collect();
        Weights::from_vec(grid, values).unwrap()
    };
    [of(3, 0.6), of(4, 0.0)]
}

#[test]
fn metrics() {
    fn check<const D: usize>(grid: &Grid<D>) {
        let [at, direction] = weights(grid);
        for form in FORMS {
            check_metric(&region(grid, form, Order::Fourth), grid, &at, &direction).unwrap();
        }
        let sum = GaussianBank::new(grid, &SIGMAS).unwrap().combined(&[0.2, 0.5, 0.3]).unwrap();
        check_metric(&Homogeneous::new(sum), grid, &(), &()).unwrap();
    }
    for boundary in Boundary::ALL {
        check(&grid([12, 9], boundary));
        check(&grid([6, 7, 6], boundary));
    }
}

#[test]
fn evolutions() {
    for boundary in Boundary::ALL {
        let grid = grid([12, 9], boundary);
        let momentum = |seed| Momentum::from_vec(&grid, smooth(&grid, 2, seed)).unwrap();
        let map = |seed| {
            let values = smooth(&grid, 2, seed).iter().map(|x| 0.05 * x).collect();
            Displacement::from_vec(&grid, values).unwrap()
        };
        let [at, direction] = weights(&grid);
        let state = |seed, weights: &Weights<f64, 2>| Flow {
            body: Geodesic { momentum: momentum(seed), weights: weights.clone() },
            map: map(seed + 1),
        };
        let [y, d, bar] = [state(10, &at), state(12, &direction), state(14, &direction)];
        for form in FORMS {
            let metric = region(&grid, form, Order::Fourth);
            check_evolution(&Epdiff::new(&grid, metric, Order::Fourth), &y, &d, &bar).unwrap();
        }
        let state = |seed| Flow {
            body: Velocity::from_vec(&grid, smooth(&grid, 2, seed)).unwrap(),
            map: map(seed + 1),
        };
        let stationary = Stationary::new(&grid, Order::Fourth);
        check_evolution(&stationary, &state(10), &state(12), &state(14)).unwrap();
    }
}

/// What a metric sets where it should add, or adds to where it should set.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Breach {
    SetsForce,
    AddsRate,
    SetsMomentumBar,
    AddsWeightsBar,
}

/// A metric that is right where rates and cotangents begin with zero.
struct Broken(Region<f64, 2>, Breach);

type At<'a> = Inputs<'a, f64, 2, Weights<f64, 2>>;
type Out<'a> = Outputs<'a, f64, 2, Weights<f64, 2>>;

impl Broken {
    /// What `work` gives, with `sets` in the place of the momentum and with `adds` added to the weights.
    fn broken(&self, out: Out<'_>, [sets, adds]: [Breach; 2], work: impl FnOnce(Out<'_>)) {
        let Outputs { momentum, weights } = out;
        let before = weights.clone();
        if self.1 == sets {
            momentum.set_zero();
        }
        work(Outputs { momentum, weights: &mut *weights });
        if self.1 == adds {
            weights.axpy(1.0, &before);
        }
    }
}

impl Metric<f64, 2> for Broken {
    type Weights = Weights<f64, 2>;
    type Tape = <Region<f64, 2> as Metric<f64, 2>>::Tape;
    type Workspace = <Region<f64, 2> as Metric<f64, 2>>::Workspace;

    fn tape(&self, grid: &Grid<2>) -> Result<Self::Tape> {
        self.0.tape(grid)
    }

    fn velocity(
        &self,
        at: At<'_>,
        velocity: &mut Velocity<f64, 2>,
        tape: &mut Self::Tape,
        ws: &mut Self::Workspace,
    ) {
        self.0.velocity(at, velocity, tape, ws);
    }

    fn velocity_vjp(
        &self,
        at: At<'_>,
        velocity_bar: &Velocity<f64, 2>,
        bars: Out<'_>,
        tape: &Self::Tape,
        ws: &mut Self::Workspace,
    ) {
        self.0.velocity_vjp(at, velocity_bar, bars, tape, ws);
    }

    fn advect(
        &self,
        at: At<'_>,
        velocity: &Velocity<f64, 2>,
        rates: Out<'_>,
        tape: &Self::Tape,
        ws: &mut Self::Workspace,
    ) {
        self.broken(rates, [Breach::SetsForce, Breach::AddsRate], |rates| {
            self.0.advect(at, velocity, rates, tape, ws);
        });
    }

    fn rates_vjp(
        &self,
        at: At<'_>,
        velocity: &Velocity<f64, 2>,
        rate_bars: At<'_>,
        velocity_bar: &mut Velocity<f64, 2>,
        bars: Out<'_>,
        tape: &Self::Tape,
        ws: &mut Self::Workspace,
    ) {
        self.broken(bars, [Breach::SetsMomentumBar, Breach::AddsWeightsBar], |bars| {
            self.0.rates_vjp(at, velocity, rate_bars, velocity_bar, bars, tape, ws);
        });
    }
}

#[test]
fn a_metric_that_sets_what_it_should_add_to_is_found_out() {
    let grid = grid([12, 9], Boundary::Reflecting);
    let [at, direction] = weights(&grid);
    for (breach, expected) in [
        (Breach::SetsForce, "rates of the metric, transpose against central differences"),
        (Breach::AddsRate, "velocity and rate of the weights over what was NaN"),
        (Breach::SetsMomentumBar, "rates of the metric, transpose against central differences"),
        (Breach::AddsWeightsBar, "cotangent of the weights by the rates over what was NaN"),
    ] {
        let broken = Broken(region(&grid, FORMS[0], Order::Fourth), breach);
        let found = check_metric(&broken, &grid, &at, &direction).unwrap_err().to_string();
        assert!(found.starts_with(expected), "{breach:?}: {found}");
    }
}

/// The mean squared difference with twice its gradient, with one that is added, or with twice that in what was seen.
#[derive(Clone, Copy, Debug)]
enum Wrong {
    Twice,
    Added,
    TwiceInSeen,
}

struct Prepared<T> {
    inner: Box<dyn Similarity<T>>,
    how: Wrong,
}

impl<T: Real, const D: usize> Measure<T, D> for Wrong {
    fn prepare(
        &self,
        fixed: &Image<T, D>,
        mask: Option<&Image<T, D>>,
    ) -> Result<Box<dyn Similarity<T>>> {
        Ok(Box::new(Prepared { inner: Ssd.prepare(fixed, mask)?, how: *self }))
    }

    fn name(&self) -> &'static str {
        "wrong"
    }

    fn default_weight(&self) -> f64 {
        1.0
    }
}

impl<T: Real> Similarity<T> for Prepared<T> {
    fn value_and_gradient_where_seen(
        &mut self,
        warped: Warped<'_, T>,
        bar: WarpedBar<'_, T>,
    ) -> f64 {
        let before = bar.values.to_vec();
        let WarpedBar { values, mut seen } = bar;
        let inner = WarpedBar { values: &mut *values, seen: seen.as_deref_mut() };
        let value = self.inner.value_and_gradient_where_seen(warped, inner);
        for (g, &before) in values.iter_mut().zip(&before) {
            match self.how {
                Wrong::Twice => *g *= T::of(2.0),
                Wrong::Added => *g += before,
                Wrong::TwiceInSeen => {}
            }
        }
        if let (Wrong::TwiceInSeen, Some(seen)) = (self.how, seen) {
            for g in seen {
                *g *= T::of(2.0);
            }
        }
        value
    }

    fn value_where_seen(&mut self, warped: Warped<'_, T>) -> f64 {
        self.inner.value_where_seen(warped)
    }

    fn mask(&self) -> Option<&[T]> {
        self.inner.mask()
    }
}

#[test]
fn a_wrong_gradient_is_found_out() {
    let grid = grid([12, 14], Boundary::Reflecting);
    let check = |how| {
        let found = check_similarity(&how, &image(&grid, 1), &image(&grid, 2), None);
        found.unwrap_err().to_string()
    };
    let [twice, added] = [check(Wrong::Twice), check(Wrong::Added)];
    // Twice the derivative: off by half of it, relative to it and to the curvature along the direction.
    assert!(twice.contains("against central differences: off by 4."), "{twice}");
    assert!(added.contains("which held NaN before: expected finite numbers"), "{added}");
    let seen = check(Wrong::TwiceInSeen);
    assert!(seen.contains("what was seen") && seen.contains("off by"), "{seen}");
}
