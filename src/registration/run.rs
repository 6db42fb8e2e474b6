//! The registration itself: one level after the other.

use std::ops::ControlFlow;
use std::time::Instant;

use super::builder::Registration;
use super::channel::{Pair, indicators};
use super::checkpoint::{Checkpoint, LevelState};
use super::controls::WeightsOf;
use super::grids::level_grids;
use super::intensity::Intensities;
use super::level::{self, Reached, Recipe};
use super::progress::Progress;
use super::result::{LevelReport, Registered, WithControls};
use super::settings::Level;
use crate::error::{Error, Result};
use crate::field::Image;
use crate::labels::Labels;
use crate::model::{Controls, Model};
use crate::optim::Clock;
use crate::scalar::Real;
use crate::space::StateSpace;

/// Where a registration begins.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Begin<T, const D: usize, W> {
    /// At the identity.
    #[default]
    Identity,
    /// At controls that were found elsewhere, such as by a registration with other settings or by a network:
    /// momentum and controls of the weights on any grid over the box of the fixed image. The first level carries
    /// them to its grid. Controls that it cannot integrate or that break a bound are scaled down, see
    /// [`PairObjective::evaluate_shrunk`](super::PairObjective::evaluate_shrunk), and the report of the level says by how
    /// much.
    Controls(Controls<T, D, W>),
    /// Where it was interrupted: with the same registration and images the result has the same bits as without the
    /// interruption. Seconds go on from those of the checkpoint.
    Checkpoint(Box<Checkpoint<T, D, W>>),
}

impl<T, const D: usize, W> From<Controls<T, D, W>> for Begin<T, D, W> {
    fn from(controls: Controls<T, D, W>) -> Self {
        Self::Controls(controls)
    }
}

impl<T, const D: usize, W> From<Checkpoint<T, D, W>> for Begin<T, D, W> {
    fn from(checkpoint: Checkpoint<T, D, W>) -> Self {
        Self::Checkpoint(Box::new(checkpoint))
    }
}

impl<T, const D: usize, W> From<Option<Checkpoint<T, D, W>>> for Begin<T, D, W> {
    fn from(checkpoint: Option<Checkpoint<T, D, W>>) -> Self {
        checkpoint.map_or(Self::Identity, Self::from)
    }
}

/// What is registered.
pub(super) struct Job<'a, M, T: Real, const D: usize> {
    pub(super) recipe: Recipe<'a, M, T, D>,
    pub(super) fixed: &'a Image<T, D>,
    pub(super) moving: &'a Image<T, D>,
    pub(super) intensities: Intensities,
    /// Pairs beside `fixed` and `moving`, those of the registration's channels left out.
    pub(super) others: Vec<Pair<'a, T, D>>,
    pub(super) clock: Clock,
}

impl<M: Model<T, D>, T: Real, const D: usize> Registration<M, T, D> {
    /// Registers `moving` onto `fixed`. Both are placed in the world by their grids.
    ///
    /// # Errors
    /// Settings, images or masks that do not fit, with what was expected; [`Error::Diverged`] where not
    /// even the first evaluation succeeds.
    pub fn run(&self, fixed: &Image<T, D>, moving: &Image<T, D>) -> Result<Registered<T, D>> {
        self.run_with(fixed, moving, |_| ControlFlow::Continue(()))
    }

    /// Like [`Registration::run`], with an observer that sees each iteration and can stop: the best state
    /// so far is then what is returned.
    ///
    /// # Errors
    /// Those of [`Registration::run`].
    pub fn run_with(
        &self,
        fixed: &Image<T, D>,
        moving: &Image<T, D>,
        mut observer: impl FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<Registered<T, D>> {
        let found = self.run_from(fixed, moving, Begin::Identity, |at, _| observer(at))?;
        Ok(found.result)
    }

    /// Like [`Registration::run_with`], from [controls](Begin::Controls) or a [checkpoint](Begin::Checkpoint), with
    /// an observer that can take a [`Checkpoint`] after any iteration, and with the controls that were found.
    ///
    /// A registration goes on from where another one ended, here on the finest level alone:
    ///
    /// ```
    /// use std::ops::ControlFlow;
    ///
    /// use rdmm_core::grid::Grid;
    /// use rdmm_core::model::{Lddmm, MultiGaussian};
    /// use rdmm_core::registration::{Begin, Level, Registration, Settings};
    /// use rdmm_core::similarity::Ssd;
    /// use rdmm_core::synthetic::Shapes;
    ///
    /// let grid = Grid::<2>::unit([32, 32])?;
    /// let pair = Shapes::default().with_outside(1).pair::<f32, 2>(&grid)?;
    /// let (fixed, moving) = (&pair.fixed, &pair.moving);
    /// let registration = Registration::new(Lddmm::new(MultiGaussian::for_grid(&grid)), Ssd);
    /// let go_on = ControlFlow::Continue(());
    /// let found = registration.run_from(fixed, moving, Begin::Identity, |_, _| go_on)?;
    ///
    /// let finest = vec![Level { factor: 1.0, iterations: 3 }];
    /// let more = registration.clone().with_settings(Settings::default().with_levels(finest));
    /// let more = more.run_from(fixed, moving, found.controls, |_, _| go_on)?;
    /// let first = more.result.report.levels[0].first.terms.total;
    /// let last = found.result.report.levels.last().unwrap().last.terms.total;
    /// assert!((first - last).abs() < 1e-6 * last);
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    ///
    /// A registration that was interrupted ends with the bits that it would have had:
    ///
    /// ```
    /// # use std::ops::ControlFlow;
    /// # use rdmm_core::grid::Grid;
    /// # use rdmm_core::model::{Lddmm, MultiGaussian};
    /// # use rdmm_core::registration::{Begin, Registration};
    /// # use rdmm_core::similarity::Ssd;
    /// # use rdmm_core::synthetic::Shapes;
    /// # let grid = Grid::<2>::unit([32, 32])?;
    /// # let pair = Shapes::default().with_outside(1).pair::<f32, 2>(&grid)?;
    /// # let (fixed, moving) = (&pair.fixed, &pair.moving);
    /// # let registration = Registration::new(Lddmm::new(MultiGaussian::for_grid(&grid)), Ssd);
    /// let mut saved = None;
    /// let whole = registration.run_from(fixed, moving, Begin::Identity, |progress, checkpoint| {
    ///     if progress.iteration == 2 {
    ///         saved = Some(checkpoint());
    ///     }
    ///     ControlFlow::Continue(())
    /// })?;
    /// let rest = registration.run_from(fixed, moving, saved, |_, _| ControlFlow::Continue(()))?;
    /// assert_eq!(rest.result.inverse_map.data(), whole.result.inverse_map.data());
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Registration::run`]; [`Error::Setting`],
    /// [`Error::GridMismatch`] or [`Error::Length`] for controls of another box or number of Gaussians, or for a
    /// checkpoint of another registration.
    pub fn run_from(
        &self,
        fixed: &Image<T, D>,
        moving: &Image<T, D>,
        begin: impl Into<Begin<T, D, WeightsOf<M, T, D>>>,
        observer: impl FnMut(
            &Progress,
            &dyn Fn() -> Checkpoint<T, D, WeightsOf<M, T, D>>,
        ) -> ControlFlow<()>,
    ) -> Result<WithControls<T, D, WeightsOf<M, T, D>>> {
        self.run_job(self.job(self.recipe(), fixed, moving), begin.into(), observer)
    }

    /// Registers label maps alone: the sum over the labels of the measure of their smoothed indicators, as in
    /// [`label_channels`](super::label_channels), each with the weight and mask of the registration. Channels
    /// and landmarks count too. `warped` of the result is the indicator of the smallest label;
    /// [`Displacement::warp_labels`](crate::field::Displacement::warp_labels) warps them all. Grey values are taken as they are.
    ///
    /// # Errors
    /// Those of [`Registration::run`] and [`label_channels`](super::label_channels).
    ///
    /// ```
    /// use rdmm_core::evaluate::dice;
    /// use rdmm_core::grid::Grid;
    /// use rdmm_core::model::{Lddmm, MultiGaussian};
    /// use rdmm_core::registration::Registration;
    /// use rdmm_core::similarity::Ssd;
    /// use rdmm_core::synthetic::Shapes;
    ///
    /// let grid = Grid::<2>::unit([40, 40])?;
    /// let pair = Shapes::default().with_outside(1).pair::<f32, 2>(&grid)?;
    /// let (fixed, moving) = (&pair.fixed_labels, &pair.moving_labels);
    /// let model = Lddmm::new(MultiGaussian::for_grid(&grid));
    /// let result = Registration::<_, f32, 2>::new(model, Ssd).run_labels(fixed, moving, 0.025)?;
    /// let (before, after) = (dice(fixed, moving)?, dice(fixed, &result.inverse_map.warp_labels(moving)?)?);
    /// assert!(after.iter().all(|(label, dice)| *dice >= before[label]));
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    pub fn run_labels(
        &self,
        fixed: &Labels<D>,
        moving: &Labels<D>,
        sigma: f64,
    ) -> Result<Registered<T, D>> {
        let go_on = |_: &Progress, _: &dyn Fn() -> _| ControlFlow::Continue(());
        Ok(self.run_labels_from(fixed, moving, sigma, Begin::Identity, go_on)?.result)
    }

    /// Like [`Registration::run_labels`], with what [`Registration::run_from`] takes and gives beside the images.
    ///
    /// # Errors
    /// Those of [`Registration::run_labels`] and [`Registration::run_from`].
    pub fn run_labels_from(
        &self,
        fixed: &Labels<D>,
        moving: &Labels<D>,
        sigma: f64,
        begin: impl Into<Begin<T, D, WeightsOf<M, T, D>>>,
        observer: impl FnMut(
            &Progress,
            &dyn Fn() -> Checkpoint<T, D, WeightsOf<M, T, D>>,
        ) -> ControlFlow<()>,
    ) -> Result<WithControls<T, D, WeightsOf<M, T, D>>> {
        let mut indicators = indicators(fixed, moving, sigma)?;
        let (fixed, moving) = indicators.remove(0);
        let pair = |(fixed, moving)| self.pair(fixed, moving);
        let others = indicators.into_iter().map(pair).collect();
        let job = self.job(self.recipe(), &fixed, &moving);
        let job = Job { intensities: Intensities::AsGiven, others, ..job };
        self.run_job(job, begin.into(), observer)
    }

    pub(super) fn recipe(&self) -> Recipe<'_, M, T, D> {
        Recipe { model: &self.model, initial: &self.initial, map_before: None }
    }

    /// The registration of one pair.
    pub(super) fn job<'a>(
        &'a self,
        recipe: Recipe<'a, M, T, D>,
        fixed: &'a Image<T, D>,
        moving: &'a Image<T, D>,
    ) -> Job<'a, M, T, D> {
        let (intensities, clock) =
            (self.settings.intensities, Clock::new(self.settings.time_limit));
        Job { recipe, fixed, moving, intensities, others: Vec::new(), clock }
    }

    /// One level after the other.
    pub(super) fn run_job(
        &self,
        mut job: Job<'_, M, T, D>,
        begin: Begin<T, D, WeightsOf<M, T, D>>,
        mut observer: impl FnMut(
            &Progress,
            &dyn Fn() -> Checkpoint<T, D, WeightsOf<M, T, D>>,
        ) -> ControlFlow<()>,
    ) -> Result<WithControls<T, D, WeightsOf<M, T, D>>> {
        let start = Instant::now();
        self.settings.validate()?;
        let others = std::mem::take(&mut job.others);
        let pairs = self.pairs(&job, others)?;
        let finest = job.fixed.grid();
        let levels = self.settings.levels_for(finest);
        let sigma = job.recipe.model.smallest_sigma();
        let grids = level_grids(finest, &levels, &self.settings, sigma)?;
        let mut begin = Outset::of(begin, &levels)?;
        let mut clock = job.clock;
        let mut reached: Option<Reached<M::Shooting, T, D>> = None;
        for (level, grids) in levels.iter().zip(&grids).skip(begin.finished.len()) {
            let finished = &begin.finished;
            let evaluations: usize = finished.iter().map(|level| level.evaluations).sum();
            let mut watch = |mut progress: Progress, state: &dyn Fn() -> LevelState<_>| {
                (progress.level, progress.levels) = (grids.level, levels.len());
                progress.evaluations += evaluations;
                progress.seconds = begin.seconds + start.elapsed().as_secs_f64();
                let seconds = progress.seconds;
                let checkpoint =
                    || Checkpoint { finished: finished.clone(), state: state(), seconds };
                clock.also(observer(&progress, &checkpoint))
            };
            let from = match reached.take() {
                Some(reached) => level::Begin::From(reached.controls),
                None => std::mem::replace(&mut begin.first, level::Begin::Identity),
            };
            let mut next = self.level(job.recipe, &pairs, grids, level, from, &mut watch)?;
            next.report.stop = clock.reason(next.report.stop);
            begin.finished.push(next.report.clone());
            let stopped = next.report.stop.is_request();
            reached = Some(next);
            if stopped {
                break;
            }
        }
        let none = Error::Length { what: "levels", expected: 1, found: 0 };
        let reached = reached.ok_or(none)?;
        let mut found = self.finish(job.recipe.initial, reached, finest, job.moving)?;
        let report = &mut found.result.report;
        report.levels = begin.finished;
        report.evaluations = report.levels.iter().map(|level| level.evaluations).sum();
        report.refused = report.levels.iter().map(|level| level.refused).sum();
        report.stopped = report.levels.last().is_some_and(|level| level.stop.is_request());
        report.seconds = begin.seconds + start.elapsed().as_secs_f64();
        Ok(found)
    }

    /// The pair of a job, checked, with its grey values mapped, then `others` and the channels.
    fn pairs<'a>(
        &'a self,
        job: &Job<'_, M, T, D>,
        others: Vec<Pair<'a, T, D>>,
    ) -> Result<Vec<Pair<'a, T, D>>> {
        let (fixed, moving) = (job.fixed, job.moving);
        if let Some(mask) = &self.mask {
            fixed.grid().expect_same(mask.grid(), "mask")?;
        }
        if let Some(mask) = &self.moving_mask {
            moving.grid().expect_same(mask.grid(), "mask of the moving image")?;
        }
        if let Some(landmarks) = &self.landmarks {
            landmarks.expect_inside(fixed.grid())?;
        }
        let fixed_grey = job.intensities.applied(fixed, "fixed image")?;
        let moving_grey = job.intensities.applied(moving, "moving image")?;
        let mut pairs = vec![self.pair(fixed_grey, moving_grey)];
        pairs.extend(others);
        for channel in &self.channels {
            pairs.push(channel.pair(fixed.grid())?);
        }
        Ok(pairs)
    }
}

/// Where the levels begin.
struct Outset<C> {
    /// Levels that are done.
    finished: Vec<LevelReport>,
    /// Where the first of the others begins.
    first: level::Begin<C>,
    /// Seconds before.
    seconds: f64,
}

impl<T: Real, const D: usize, W: StateSpace<T>> Outset<Controls<T, D, W>> {
    fn of(begin: Begin<T, D, W>, levels: &[Level]) -> Result<Self> {
        let at_once = |first| Self { finished: Vec::new(), first, seconds: 0.0 };
        Ok(match begin {
            Begin::Identity => at_once(level::Begin::Identity),
            Begin::Controls(controls) => {
                controls.momentum.expect_finite("initial momentum")?;
                if !controls.weights.is_finite() {
                    let (name, expected) = ("controls of the weights", "finite numbers");
                    return Err(Error::setting(name, expected, "NaN or infinity"));
                }
                at_once(level::Begin::From(controls))
            }
            Begin::Checkpoint(checkpoint) => {
                checkpoint.expect_level_of(levels)?;
                let Checkpoint { finished, state, seconds } = *checkpoint;
                Self { finished, first: level::Begin::Again(Box::new(state)), seconds }
            }
        })
    }
}
