//! The registration over the levels of a pyramid.

use std::ops::ControlFlow;

use super::{AffineObjective, Start, Transform};
use crate::error::{Error, Result};
use crate::field::Image;
use crate::ops::warp::warp;
use crate::optim::{Euclidean, Lbfgs, LbfgsState, Stop};
use crate::pyramid;
use crate::registration::{Intensities, Level, Settings};
use crate::scalar::Real;
use crate::similarity::Measure;
use crate::world::Affine;

/// Everything that is not transform, measure, start or data.
#[derive(Clone, Debug)]
pub struct AffineSettings {
    /// Levels from coarse to fine; `None` takes [`Settings::default_levels`].
    pub levels: Option<Vec<Level>>,
    /// The optimiser; its iterations are those of the level.
    pub lbfgs: Lbfgs,
    /// Grey values.
    pub intensities: Intensities,
}

impl Default for AffineSettings {
    fn default() -> Self {
        let intensities = Intensities::default();
        // A short first step: half the value may be in another valley. A value tolerance above what single
        // precision leaves of positions: 1e-5 of a voxel.
        let (value_tolerance, value_window) = (1e-4, 3);
        let lbfgs =
            Lbfgs { first_decrease: 0.1, value_tolerance, value_window, ..Lbfgs::default() };
        Self { levels: None, lbfgs, intensities }
    }
}

/// What an observer sees after each iteration.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct AffineProgress {
    /// Level, from 0 for the coarsest.
    pub level: usize,
    /// Number of levels.
    pub levels: usize,
    /// Which of the starts of the coarsest level; 0 on the others.
    pub start: usize,
    /// Iteration from this start.
    pub iteration: usize,
    /// Evaluations of loss and gradient so far, all starts and levels.
    pub evaluations: usize,
    /// Loss.
    pub loss: f64,
}

/// What one level did.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AffineLevel {
    /// Voxels of the fixed image.
    pub images: Vec<usize>,
    /// Iterations of the optimiser, from the start that was kept.
    pub iterations: usize,
    /// Evaluations of loss and gradient, from all starts.
    pub evaluations: usize,
    /// Loss at the start that was kept.
    pub first: f64,
    /// Loss at the end.
    pub last: f64,
    /// Why the level ended.
    pub stop: Stop,
}

/// What an affine registration found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AffineRegistered<T, const D: usize> {
    /// A: read the moving image at A(x).
    pub map: Affine<D>,
    /// The moving image, original grey values, on the fixed image's grid.
    pub warped: Image<T, D>,
    /// Levels from coarse to fine.
    pub levels: Vec<AffineLevel>,
}

/// A transform, a measure and a start, ready for pairs of images.
///
/// Any [`Measure`] will do, those of one's own too. The map is sought about the centre of the fixed image,
/// on one level of resolution after the other, by L-BFGS on [`AffineObjective`]. See the
/// [module](crate::affine) for an example.
#[derive(Debug)]
pub struct AffineRegistration<T: Real, const D: usize> {
    transform: Transform,
    measure: Box<dyn Measure<T, D>>,
    start: Start<D>,
    settings: AffineSettings,
    mask: Option<Image<T, D>>,
}

impl<T: Real, const D: usize> AffineRegistration<T, D> {
    /// Registration with default settings, from the identity.
    #[must_use]
    pub fn new(transform: Transform, measure: impl Measure<T, D> + 'static) -> Self {
        let (start, settings) = (Start::default(), AffineSettings::default());
        Self { transform, measure: Box::new(measure), start, settings, mask: None }
    }

    /// The same from elsewhere.
    #[must_use]
    pub fn with_start(mut self, start: Start<D>) -> Self {
        self.start = start;
        self
    }

    /// The same with other settings.
    #[must_use]
    pub fn with_settings(mut self, settings: AffineSettings) -> Self {
        self.settings = settings;
        self
    }

    /// The same with a mask on the fixed image: voxels count by their value from 0 to 1. [`Start`] does not
    /// see it.
    #[must_use]
    pub fn with_mask(mut self, mask: Image<T, D>) -> Self {
        self.mask = Some(mask);
        self
    }

    /// Registers `moving` onto `fixed`. Both are placed in the world by their grids.
    ///
    /// # Errors
    /// Settings, images or masks that do not fit, with what was expected; [`Error::NoContrast`] for images
    /// that are constant or a mask that is zero; [`Error::Start`] where the loss is not finite at the start.
    pub fn run(&self, fixed: &Image<T, D>, moving: &Image<T, D>) -> Result<AffineRegistered<T, D>> {
        self.run_with(fixed, moving, |_| ControlFlow::Continue(()))
    }

    /// Like [`AffineRegistration::run`], with an observer that is called after each iteration and may stop: the
    /// best map so far is the result then, and the last level says [`Stop::Observer`].
    ///
    /// # Errors
    /// Those of [`AffineRegistration::run`].
    pub fn run_with(
        &self,
        fixed: &Image<T, D>,
        moving: &Image<T, D>,
        mut observer: impl FnMut(&AffineProgress) -> ControlFlow<()>,
    ) -> Result<AffineRegistered<T, D>> {
        self.settings.lbfgs.validate()?;
        let (finest, settings) = (fixed.grid(), &self.settings);
        let levels = settings.levels.clone().unwrap_or_else(|| Settings::default_levels(finest));
        Level::validate(&levels)?;
        if let Some(mask) = &self.mask {
            finest.expect_same(mask.grid(), "mask")?;
        }
        let fixed_grey = settings.intensities.applied(fixed, "fixed image")?;
        let moving_grey = settings.intensities.applied(moving, "moving image")?;

        let mut starts = Vec::new();
        let mut reports: Vec<AffineLevel> = Vec::new();
        let mut before = 0;
        for (index, level) in levels.iter().enumerate() {
            let grid = finest.coarsened(level.factor)?;
            let fixed_here = pyramid::coarser(&fixed_grey, &grid)?;
            let moving_here =
                pyramid::coarser(&moving_grey, &moving.grid().coarsened(level.factor)?)?;
            let mask = self.mask.as_ref().map(|mask| pyramid::coarser_mask(mask, &grid));
            let mask = mask.transpose()?;
            if index == 0 {
                starts = self.start.candidates(&fixed_here, &moving_here)?;
            }
            let mut best: Option<(Affine<D>, AffineLevel)> = None;
            let mut evaluations = 0;
            let mut stopped = false;
            for (k, &start) in starts.iter().enumerate() {
                let images = (&fixed_here, &moving_here, mask.as_ref());
                let done = before + evaluations;
                let mut watch = |iteration, evaluations, loss| {
                    let evaluations = done + evaluations;
                    let (level, levels) = (index, levels.len());
                    observer(&AffineProgress {
                        level,
                        levels,
                        start: k,
                        iteration,
                        evaluations,
                        loss,
                    })
                };
                let (map, report) = self.level(images, start, level.iterations, &mut watch)?;
                evaluations += report.evaluations;
                stopped = report.stop == Stop::Observer;
                if best.as_ref().is_none_or(|(_, best)| report.last < best.last) {
                    best = Some((map, report));
                }
                if stopped {
                    break;
                }
            }
            let Some((map, report)) = best else { continue };
            starts = vec![map];
            before += evaluations;
            let stop = if stopped { Stop::Observer } else { report.stop };
            reports.push(AffineLevel { evaluations, stop, ..report });
            if stopped {
                break;
            }
        }
        let expected = Error::Length { what: "starts", expected: 1, found: 0 };
        let map = *starts.first().ok_or(expected)?;
        let warped = warp(moving, &map.displacement(finest)?)?;
        Ok(AffineRegistered { map, warped, levels: reports })
    }

    /// One start on one level.
    fn level(
        &self,
        (fixed, moving, mask): (&Image<T, D>, &Image<T, D>, Option<&Image<T, D>>),
        start: Affine<D>,
        max_iterations: usize,
        observer: &mut impl FnMut(usize, usize, f64) -> ControlFlow<()>,
    ) -> Result<(Affine<D>, AffineLevel)> {
        let similarity = self.measure.against(fixed, mask)?;
        let mut objective =
            AffineObjective::new(self.transform, start, moving, fixed.grid(), similarity)?;
        let lbfgs = Lbfgs { max_iterations, ..self.settings.lbfgs.clone() };
        let rest = objective.rest();
        let watch =
            |state: &LbfgsState<_>| observer(state.iteration(), state.evaluations(), state.value());
        let outcome = lbfgs.minimize(&mut objective, &mut Euclidean, rest, watch)?;
        let state = &outcome.state;
        let report = AffineLevel {
            images: fixed.grid().shape().to_vec(),
            iterations: state.iteration(),
            evaluations: state.evaluations(),
            first: state.first_value(),
            last: state.best_value(),
            stop: outcome.stop.clone(),
        };
        Ok((objective.map(state.best())?, report))
    }
}
