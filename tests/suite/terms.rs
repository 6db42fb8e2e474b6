//! Terms of the energy that a user adds.
#![expect(clippy::unwrap_used, reason = "a test stops where its problem cannot be built")]

use crate::common::{self, along, controls, fixed_steps, grid, slope, smooth};
use rdmm_core::field::Image;
use rdmm_core::grid::{Boundary, Grid};
use rdmm_core::model::{Advected, Lddmm, Model, TwoSided};
use rdmm_core::optim::{Objective, Stop};
use rdmm_core::registration::{
    FinalMaps, Level, LevelGrids, MapCotangents, MapTerm, PairObjective, Registration, Settings,
    TermRecipe,
};
use rdmm_core::similarity::{Measure, Ssd};
use rdmm_core::space::StateSpace;
use rdmm_core::world::Affine;
use rdmm_core::{Error, Result};

fn image(grid: &Grid<2>, seed: u64) -> Image<f64, 2> {
    Image::from_vec(grid, smooth(grid, 1, seed)).unwrap()
}

/// ½ s (|u|² + 3 |u on the map grid|²) and, of the forward map, 2 s U·a with a fixed field a: each of the maps counts.
struct Moves {
    scale: f64,
    forward: bool,
}

impl MapTerm<f64, 2> for Moves {
    fn add(
        &mut self,
        maps: &FinalMaps<'_, f64, 2>,
        bars: &mut MapCotangents<f64, 2>,
    ) -> Result<f64> {
        let (s, u, coarse) = (self.scale, maps.inverse, maps.inverse_on_map_grid);
        bars.inverse.sum_mut()?.axpy(s, u);
        bars.inverse_on_map_grid.add_written(|bar| {
            bar.iter_mut().zip(coarse.data()).for_each(|(bar, x)| *bar = 3.0 * s * x);
        })?;
        let mut value = 0.5 * s * (u.dot(u) + 3.0 * coarse.dot(coarse));
        if let Some(forward) = maps.forward.filter(|_| self.forward) {
            let a = smooth(forward.grid(), 2, 31);
            let bar = bars.forward.sum_mut()?.data_mut();
            bar.iter_mut().zip(&a).for_each(|(bar, a)| *bar += 2.0 * s * a);
            value += forward.data().iter().zip(&a).map(|(x, a)| 2.0 * s * x * a).sum::<f64>();
        }
        Ok(value)
    }

    fn needs_forward_map(&self) -> bool {
        self.forward
    }
}

fn with_moves<M: Model<f64, 2>>(
    grid: &Grid<2>,
    model: &M,
    forward: bool,
) -> Result<PairObjective<M::Shooting, f64, 2>> {
    let similarity = Ssd.prepare(&image(grid, 2), None)?;
    let shooting = model.on(&grid.coarsened(2.0)?)?;
    PairObjective::new(shooting, &image(grid, 1), grid, similarity, 3.0, fixed_steps(3))?
        .with_term("moves", Box::new(Moves { scale: 0.2, forward }))
}

fn check<M: Model<f64, 2>>(grid: &Grid<2>, model: &M, forward: bool) {
    let mut energy = with_moves(grid, model, forward).unwrap();
    let mut shooting = model.on(&grid.coarsened(2.0).unwrap()).unwrap();
    let (start, direction) = (controls(&mut shooting, 0.5, 5), controls(&mut shooting, 0.4, 22));
    let mut gradient = start.zeros_like();
    let value = energy.evaluate(&start, &mut gradient).unwrap();
    let terms = energy.diagnostics(value).terms;
    assert!(terms.further["moves"] > 1e-3, "{terms:?}");
    let sum: f64 = terms.weighted().map(|(_, value)| value).sum();
    // The same sum, but for where it starts.
    assert!((sum - terms.total).abs() < 1e-14 * terms.total);
    assert_eq!(terms.weighted_similarity.to_bits(), (3.0 * terms.similarity).to_bits());
    let exact = gradient.dot(&direction);
    let mut at = along(&mut energy, &start, &direction);
    let numeric = (at(1e-4) - at(-1e-4)) / 2e-4;
    // Truncation 1e-8 times a third derivative, rounding 1e-16/1e-4.
    assert!((numeric / exact - 1.0).abs() < 1e-6, "{numeric} {exact}");
    let steps = [4e-3, 2e-3, 1e-3, 5e-4];
    // Both sides, so that the third order cancels.
    let remainders =
        steps.map(|e| (at(e) - value - e * exact).abs() + (at(-e) - value + e * exact).abs());
    // What the fourth order does at the largest steps; slope 1 is a wrong gradient.
    assert!((slope(&steps, &remainders) - 2.0).abs() < 0.1);
}

#[test]
fn the_gradient_of_a_term_of_the_user_is_the_derivative() {
    for boundary in Boundary::ALL {
        let grid = grid([16, 18], boundary);
        check(&grid, &common::lddmm(), false);
        check(&grid, &common::rdmm_optimised(Advected::PreWeights), false);
        check(&grid, &TwoSided(common::lddmm()), true);
    }
}

#[test]
fn a_term_of_the_forward_map_needs_a_model_that_has_it() {
    let grid = grid([16, 18], Boundary::Reflecting);
    let error = with_moves(&grid, &common::lddmm(), true).map(drop).unwrap_err();
    assert!(error.to_string().contains("TwoSided"), "{error}");
}

/// Refuses maps that move a voxel by more than `most`, or fails for good.
#[derive(Clone, Debug)]
struct Limit {
    most: f64,
    fatal: bool,
}

impl TermRecipe<f64, 2> for Limit {
    fn name(&self) -> &'static str {
        "limit"
    }
    fn prepare(&self, _: &LevelGrids<2>, _: &Affine<2>) -> Result<Box<dyn MapTerm<f64, 2>>> {
        Ok(Box::new(self.clone()))
    }
}

impl MapTerm<f64, 2> for Limit {
    fn add(&mut self, maps: &FinalMaps<'_, f64, 2>, _: &mut MapCotangents<f64, 2>) -> Result<f64> {
        let found = maps.inverse.max_abs();
        match (found > self.most, self.fatal) {
            (false, _) => Ok(0.0),
            (true, false) => Err(Error::Folded { bound: self.most, found }),
            (true, true) => Err(Error::NoContrast { what: "limit" }),
        }
    }
}

#[test]
fn a_term_can_refuse_maps_and_can_fail() {
    let grid = grid([24, 20], Boundary::Reflecting);
    let (fixed, moving) = (image(&grid, 1), image(&grid, 2));
    let settings = Settings::default().with_levels(vec![Level { factor: 1.0, iterations: 8 }]);
    let registration = Registration::new(common::lddmm(), Ssd).with_settings(settings);
    let free = registration.run(&fixed, &moving).unwrap();
    let most = 0.5 * free.inverse_map.max_abs();
    let limited = |fatal| registration.clone().with_term(Limit { most, fatal });
    let found = limited(false).run(&fixed, &moving).unwrap();
    assert!(found.inverse_map.max_abs() <= most && found.report.refused > 0);
    let failed = limited(true).run(&fixed, &moving).unwrap();
    assert!(matches!(failed.report.levels[0].stop, Stop::Failed(Error::NoContrast { .. })));
    assert!(failed.inverse_map.max_abs() <= most);
    let error = limited(false).run_chain(&fixed, &moving, 2).map(drop).unwrap_err();
    assert!(error.to_string().contains("further terms"), "{error}");
}

/// A recipe sees the grids of its level, and terms of one name are added up.
#[derive(Debug)]
struct Constant(f64);

impl TermRecipe<f64, 2> for Constant {
    fn name(&self) -> &'static str {
        "constant"
    }
    fn prepare(
        &self,
        level: &LevelGrids<2>,
        initial: &Affine<2>,
    ) -> Result<Box<dyn MapTerm<f64, 2>>> {
        assert!((initial.determinant() - 1.0).abs() < 1e-15);
        Ok(Box::new(Size(self.0 * level.images.len() as f64)))
    }
}

struct Size(f64);

impl MapTerm<f64, 2> for Size {
    fn add(&mut self, maps: &FinalMaps<'_, f64, 2>, _: &mut MapCotangents<f64, 2>) -> Result<f64> {
        Ok(self.0 / maps.inverse.grid().len() as f64)
    }
}

#[test]
fn terms_are_prepared_on_every_level_and_change_nothing_they_do_not_touch() {
    let grid = grid([24, 20], Boundary::Reflecting);
    let (fixed, moving) = (image(&grid, 1), image(&grid, 2));
    // No iteration: a constant changes the size of the first step, which is relative to the energy.
    let levels = [1.5, 1.0].map(|factor| Level { factor, iterations: 0 }).to_vec();
    let registration: Registration<Lddmm, f64, 2> = Registration::new(common::lddmm(), Ssd)
        .with_settings(Settings::default().with_levels(levels));
    let plain = registration.run(&fixed, &moving).unwrap();
    let more = registration.with_term(Constant(1.0)).with_term(Constant(0.5));
    let found = more.run(&fixed, &moving).unwrap();
    assert_eq!(found.inverse_map.data(), plain.inverse_map.data());
    for (with, without) in found.report.levels.iter().zip(&plain.report.levels) {
        assert!((with.last.terms.further["constant"] - 1.5).abs() < 1e-15);
        assert!((with.last.terms.total - without.last.terms.total - 1.5).abs() < 1e-12);
        assert!(without.last.terms.further.is_empty());
    }
}
