//! The registration over the levels of a pyramid.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use super::group::Transform;
use super::landmarks::PointTerm;
use super::objective::AffineObjective;
use super::start::Start;
use crate::comparison::Overlap;
use crate::error::{Error, Result};
use crate::field::{Displacement, Image};
use crate::ops::warp::Warp;
use crate::optim::{Clock, Euclidean, Lbfgs, LbfgsState, Stop};
use crate::pyramid;
use crate::registration::{Intensities, Landmarks, Level, Settings};
use crate::scalar::Real;
use crate::similarity::Measure;
use crate::world::Affine;

/// Everything that is not transform, measure, start or data.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct AffineSettings {
    /// Levels from coarse to fine; `None` takes [`Settings::default_levels`].
    pub levels: Option<Vec<Level>>,
    /// The optimiser; its iterations are those of the level.
    pub lbfgs: Lbfgs,
    /// Grey values.
    pub intensities: Intensities,
    /// How much the map may stretch or squeeze along any direction, relative to its start: its singular values lie
    /// between one over this and this. 4 by default. A registration that ends beyond is [`Error::Stretched`].
    pub most_stretch: f64,
    /// Value of the warped image where the map leads more than half a voxel beyond the moving image. 0 by default.
    pub fill: f64,
    /// Wall time of a run. It is looked at after each iteration; once it is over, the best map so far is the result,
    /// and its last level says [`Stop::TimeLimit`]. No limit by default.
    pub time_limit: Option<Duration>,
}

impl AffineSettings {
    /// The same with these levels, from coarse to fine.
    #[must_use]
    pub fn with_levels(mut self, levels: Vec<Level>) -> Self {
        self.levels = Some(levels);
        self
    }

    /// The same with another optimiser.
    #[must_use]
    pub fn with_lbfgs(mut self, lbfgs: Lbfgs) -> Self {
        self.lbfgs = lbfgs;
        self
    }

    /// The same with other rules for grey values.
    #[must_use]
    pub fn with_intensities(mut self, intensities: Intensities) -> Self {
        self.intensities = intensities;
        self
    }

    /// The same with another [`AffineSettings::most_stretch`].
    #[must_use]
    pub fn with_most_stretch(mut self, most: f64) -> Self {
        self.most_stretch = most;
        self
    }

    /// The same with another [`AffineSettings::fill`].
    #[must_use]
    pub fn with_fill(mut self, fill: f64) -> Self {
        self.fill = fill;
        self
    }

    /// The same with an [`AffineSettings::time_limit`].
    #[must_use]
    pub fn with_time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = Some(limit);
        self
    }
}

impl Default for AffineSettings {
    fn default() -> Self {
        let intensities = Intensities::default();
        // A short first step: half the value may be in another valley. A value tolerance above what single
        // precision leaves of positions: 1e-5 of a voxel.
        let (value_tolerance, value_window) = (1e-4, 3);
        let lbfgs =
            Lbfgs { first_decrease: 0.1, value_tolerance, value_window, ..Lbfgs::default() };
        let (most_stretch, fill) = (4.0, 0.0);
        Self { levels: None, lbfgs, intensities, most_stretch, fill, time_limit: None }
    }
}

/// What an observer sees after each iteration.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
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
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct AffineLevel {
    /// Voxels of the fixed image.
    pub images: Vec<usize>,
    /// Iterations of the optimiser, from the start that was kept.
    pub iterations: usize,
    /// Evaluations of loss and gradient, from all starts.
    pub evaluations: usize,
    /// Loss of this level's images where the registration began, at the start that was kept.
    pub origin: f64,
    /// Loss where this level began.
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
    /// The moving image, original grey values, on the fixed image's grid; [`AffineSettings::fill`] beyond it.
    pub warped: Image<T, D>,
    /// How much of the fixed image, or of its mask, the moving image shows: Σ mask ω / Σ mask, with ω of
    /// [`Warp::seen`]. What is not shown does not count for the loss.
    pub overlap: f64,
    /// Levels from coarse to fine.
    pub levels: Vec<AffineLevel>,
}

impl<T, const D: usize> AffineRegistered<T, D> {
    /// Whether the loss of the last level is above that where the registration began: coarse levels, or a barrier, led
    /// elsewhere. The start is the better map then.
    #[must_use]
    pub fn is_worse(&self) -> bool {
        self.levels.last().is_some_and(|level| level.last > level.origin)
    }

    /// Why the registration was stopped before its last level was done: [`Stop::Observer`] or [`Stop::TimeLimit`];
    /// `None` where it was not. It goes on from the map as the [initial one](AffineRegistration::with_initial) and
    /// [`Start::World`].
    #[must_use]
    pub fn stop(&self) -> Option<&Stop> {
        self.levels.last().map(|level| &level.stop).filter(|stop| stop.is_request())
    }
}

/// A transform, a measure and a start, ready for pairs of images.
///
/// Any [`Measure`] will do, those of one's own too. The map is sought about the centre of the fixed image,
/// on one level of resolution after the other, by L-BFGS on [`AffineObjective`]. See the
/// [module](crate::affine) for an example.
#[derive(Clone, Debug)]
pub struct AffineRegistration<T: Real, const D: usize> {
    transform: Transform,
    measure: Arc<dyn Measure<T, D>>,
    start: Start,
    initial: Affine<D>,
    settings: AffineSettings,
    mask: Option<Image<T, D>>,
    landmarks: Option<Landmarks<D>>,
}

impl<T: Real, const D: usize> AffineRegistration<T, D> {
    /// Registration with default settings, from the images as they are placed in the world.
    #[must_use]
    pub fn new(transform: Transform, measure: impl Measure<T, D> + 'static) -> Self {
        Self {
            transform,
            measure: Arc::new(measure),
            start: Start::default(),
            initial: Affine::identity(),
            settings: AffineSettings::default(),
            mask: None,
            landmarks: None,
        }
    }

    /// The same with another start.
    #[must_use]
    pub fn with_start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// The same with the moving image placed by a map that is known: read at A₀(x), it should be about where the fixed
    /// one is. The [`Start`] is sought from there, and the map that is found holds it.
    #[must_use]
    pub fn with_initial(mut self, map: Affine<D>) -> Self {
        self.initial = map;
        self
    }

    /// The same with landmarks beside the images, whose similarity has the weight one: see
    /// [`AffineObjective::with_landmarks`]. The rotation and shift that brings them together is a start beside the others.
    #[must_use]
    pub fn with_landmarks(mut self, landmarks: Landmarks<D>) -> Self {
        self.landmarks = Some(landmarks);
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
    /// that are constant or a mask that is zero; [`Error::Start`] where the loss is not finite at the start;
    /// [`Error::NoOverlap`] where the moving image shows nothing of the fixed one there; [`Error::Stretched`] where no
    /// best map is found within [`AffineSettings::most_stretch`].
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
        let most = self.settings.most_stretch;
        if most.is_nan() || most <= 1.0 {
            return Err(Error::setting("largest stretch", "a number > 1", most));
        }
        let (finest, settings) = (fixed.grid(), &self.settings);
        let mut clock = Clock::new(settings.time_limit);
        let levels = settings.levels.clone().unwrap_or_else(|| Settings::default_levels(finest));
        Level::validate(&levels)?;
        if let Some(mask) = &self.mask {
            finest.expect_same(mask.grid(), "mask")?;
        }
        let fixed_grey = settings.intensities.applied(fixed, "fixed image")?;
        let moving_grey = settings.intensities.applied(moving, "moving image")?;

        let mut starts = Vec::new();
        let mut reports: Vec<AffineLevel> = Vec::new();
        for (index, level) in levels.iter().enumerate() {
            let placed = starts.first().map_or(self.initial, |begin: &Begin<D>| begin.map);
            let images = self.coarser(&fixed_grey, &moving_grey, &placed, level.factor)?;
            if index == 0 {
                let maps = self.candidates(&images)?;
                starts = maps.into_iter().map(|map| Begin { origin: map, map }).collect();
            }
            let before: usize = reports.iter().map(|level| level.evaluations).sum();
            let mut watch = |mut progress: AffineProgress| {
                (progress.level, progress.levels) = (index, levels.len());
                progress.evaluations += before;
                clock.also(observer(&progress))
            };
            let best = self.best_of(&starts, &images, level.iterations, &mut watch)?;
            let stop = clock.reason(best.report.stop);
            let stopped = stop.is_request();
            starts = vec![best.begin];
            reports.push(AffineLevel { stop, ..best.report });
            if stopped {
                break;
            }
        }
        let map = starts.first().ok_or_else(no_start)?.map;
        let displacement = map.displacement(finest)?;
        let warped = displacement.warp_filled(moving, settings.fill)?;
        let to_moving = Warp::new(moving.grid(), finest);
        let overlap = Overlap::at(&to_moving, &displacement, self.mask.as_ref())?.part;
        Ok(AffineRegistered { map, warped, overlap, levels: reports })
    }

    /// The images of a level, `factor` times coarser, for maps from `placed` on.
    fn coarser(
        &self,
        fixed: &Image<T, D>,
        moving: &Image<T, D>,
        placed: &Affine<D>,
        factor: f64,
    ) -> Result<Images<T, D>> {
        let grid = fixed.grid().coarsened(factor)?;
        let mask = self.mask.as_ref().map(|mask| pyramid::coarser_mask(mask, &grid));
        Ok(Images {
            fixed: pyramid::coarser(fixed, &grid)?,
            moving: pyramid::coarser_moving(moving, &grid, placed, factor)?,
            mask: mask.transpose()?,
        })
    }

    /// Where the coarsest level starts.
    fn candidates(&self, Images { fixed, moving, .. }: &Images<T, D>) -> Result<Vec<Affine<D>>> {
        let mut maps = self.start.candidates(fixed, moving, &self.initial)?;
        if let Some(landmarks) = &self.landmarks {
            let back = self.initial.inverse();
            let rigid = PointTerm::new(landmarks, fixed.grid()).rigid_after(&back)?;
            maps.push(self.initial.after(&rigid)?);
        }
        Ok(maps)
    }

    /// The best of the maps that are found from the starts, one after the other until an observer stops.
    fn best_of(
        &self,
        starts: &[Begin<D>],
        images: &Images<T, D>,
        max_iterations: usize,
        watch: &mut impl FnMut(AffineProgress) -> ControlFlow<()>,
    ) -> Result<Reached<D>> {
        let mut reached: Vec<Reached<D>> = Vec::new();
        let (mut evaluations, mut stopped, mut failure) = (0, false, None);
        for (index, &start) in starts.iter().enumerate() {
            let mut watch = |mut progress: AffineProgress| {
                progress.start = index;
                progress.evaluations += evaluations;
                watch(progress)
            };
            let found = match self.level_from(start, images, max_iterations, &mut watch) {
                Ok(found) => found,
                // Another start may do better.
                Err(error @ (Error::Stretched { .. } | Error::NoOverlap { .. })) => {
                    failure = Some(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            evaluations += found.report.evaluations;
            stopped = found.report.stop == Stop::Observer;
            reached.push(found);
            if stopped {
                break;
            }
        }
        // A loss of little that is shown says little: of two starts the one that shows less than half of the other is out.
        let most = reached.iter().fold(0.0_f64, |most, found| most.max(found.overlap));
        let enough = reached.into_iter().filter(|found| 2.0 * found.overlap >= most);
        let best = enough.reduce(|a, b| if b.report.last < a.report.last { b } else { a });
        let Reached { begin, overlap, report } =
            best.ok_or_else(|| failure.unwrap_or_else(no_start))?;
        let stop = if stopped { Stop::Observer } else { report.stop };
        Ok(Reached { begin, overlap, report: AffineLevel { evaluations, stop, ..report } })
    }

    /// One start on one level.
    fn level_from(
        &self,
        Begin { origin, map: start }: Begin<D>,
        Images { fixed, moving, mask }: &Images<T, D>,
        max_iterations: usize,
        watch: &mut impl FnMut(AffineProgress) -> ControlFlow<()>,
    ) -> Result<Reached<D>> {
        let similarity = self.measure.prepare(fixed, mask.as_ref())?;
        let mut objective =
            AffineObjective::new(self.transform, start, moving, fixed.grid(), similarity)?
                .with_origin(&origin)
                .with_most_stretch(BEYOND * self.settings.most_stretch);
        if let Some(landmarks) = &self.landmarks {
            objective = objective.with_landmarks(landmarks);
        }
        let lbfgs = Lbfgs { max_iterations, ..self.settings.lbfgs.clone() };
        let rest = objective.rest();
        let report = |state: &LbfgsState<_>| {
            let (iteration, evaluations) = (state.iteration(), state.evaluations());
            let loss = state.value();
            watch(AffineProgress { level: 0, levels: 0, start: 0, iteration, evaluations, loss })
        };
        let outcome = lbfgs.minimize(&mut objective, &mut Euclidean, rest, report)?;
        let state = &outcome.state;
        let report = AffineLevel {
            images: fixed.grid().shape().to_vec(),
            iterations: state.iteration(),
            evaluations: state.evaluations(),
            origin: objective.loss_at_origin()?,
            first: state.first_value(),
            last: state.best_value(),
            stop: outcome.stop.clone(),
        };
        let map = objective.map(state.best())?;
        let (found, most) = (objective.stretch(&map), self.settings.most_stretch);
        if found > most {
            return Err(Error::Stretched { found, most });
        }
        let warp = Warp::through(moving.grid(), fixed.grid(), &map);
        let rest = Displacement::zeros(fixed.grid())?;
        let overlap = Overlap::at(&warp, &rest, mask.as_ref())?.part;
        Ok(Reached { begin: Begin { origin, map }, overlap, report })
    }
}

/// Images of one level.
struct Images<T, const D: usize> {
    fixed: Image<T, D>,
    moving: Image<T, D>,
    mask: Option<Image<T, D>>,
}

/// How far the optimiser may go beyond the largest stretch: what ends there runs away.
const BEYOND: f64 = 2.0;

/// Where a level begins, and where the registration began.
#[derive(Clone, Copy)]
struct Begin<const D: usize> {
    origin: Affine<D>,
    map: Affine<D>,
}

/// What was found on one level.
struct Reached<const D: usize> {
    /// Where the next one begins.
    begin: Begin<D>,
    /// Part of the level's fixed image that is shown.
    overlap: f64,
    report: AffineLevel,
}

fn no_start() -> Error {
    Error::Length { what: "starts", expected: 1, found: 0 }
}
