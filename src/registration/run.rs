//! The registration itself.

use std::ops::ControlFlow;
use std::time::Instant;

use super::channel::{Channel, Pair, indicators};
use super::checkpoint::{Checkpoint, LevelState, Optimiser};
use super::landmarks::Landmarks;
use super::objective::{Diagnostics, PairObjective};
use super::settings::{Level, Search, Settings, VOXELS_A_SIGMA, map_grid};
use super::{Intensities, InverseMetric, WeightsOf};
use crate::adjoint::{Checkpoints, Sweep};
use crate::dynamics::{FieldEvolution, Tracked};
use crate::error::Result;
use crate::evaluate::{Consistency, Folds, inverse_consistency};
use crate::field::{Displacement, Image, Weights};
use crate::grid::Grid;
use crate::labels::Labels;
use crate::model::{Controls, Domain, Model, Shooting, resampled};
use crate::ops::spline::Prefilter;
use crate::ops::warp::{Warp, warped};
use crate::optim::{Euclidean, Objective, Outcome, Stop};
use crate::scalar::Real;
use crate::similarity::Measure;
use crate::space::{FlowState, StateSpace};
use crate::world::Affine;

/// What an observer sees after each iteration.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Progress {
    /// Level, from 0 for the coarsest, and how many there are.
    pub level: usize,
    /// Number of levels.
    pub levels: usize,
    /// Iteration within the level; 0 is the start.
    pub iteration: usize,
    /// Evaluations of energy and gradient so far, all levels.
    pub evaluations: usize,
    /// Norm of the gradient in the inverse metric, relative to the level's start.
    pub gradient_norm: f64,
    /// Energy terms, time steps, energy drift and smallest determinant.
    pub diagnostics: Diagnostics,
    /// Seconds since the start.
    pub seconds: f64,
}

/// What one level did.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct LevelReport {
    /// Voxels of the images.
    pub images: Vec<usize>,
    /// Voxels of the map.
    pub map: Vec<usize>,
    /// Iterations of the optimiser.
    pub iterations: usize,
    /// Evaluations of energy and gradient.
    pub evaluations: usize,
    /// Evaluations that [`Settings::min_jacobian`] refused.
    pub refused: usize,
    /// What was found at the start.
    pub first: Diagnostics,
    /// What was found at the best controls.
    pub last: Diagnostics,
    /// Why the level ended.
    pub stop: Stop,
    /// Bytes of the states of the flow that were held for the gradient: see
    /// [`Checkpoints::Bytes`](crate::adjoint::Checkpoints::Bytes).
    pub bytes: usize,
    /// Seconds spent.
    pub seconds: f64,
}

/// Figures of a registration.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// Name of the model.
    pub model: &'static str,
    /// Name of the similarity measure.
    pub measure: &'static str,
    /// λ.
    pub similarity_weight: f64,
    /// Levels from coarse to fine.
    pub levels: Vec<LevelReport>,
    /// Folds of the whole map on the fixed image's grid: determinants are those of Φ⁻¹ times |det A|.
    pub folds: Folds,
    /// Evaluations that [`Settings::min_jacobian`] refused, all levels.
    pub refused: usize,
    /// How far Φ∘Φ⁻¹, the non-linear parts, is from the identity: physical units.
    pub inverse_consistency: Consistency,
    /// max_t |H(t)/H(0) − 1| over the time steps; 0 for the identity.
    pub energy_drift: f64,
    /// Time steps of the final map.
    pub steps: usize,
    /// Evaluations of energy and gradient in all.
    pub evaluations: usize,
    /// Whether an observer stopped it before its last level was done.
    pub stopped: bool,
    /// Wall time.
    pub seconds: f64,
}

/// A registration's result.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Registered<T, const D: usize, W> {
    /// The whole inverse map A∘Φ⁻¹ = id + u, as u on the fixed image's grid: read the moving image at
    /// x + u(x).
    pub map: Displacement<T, D>,
    /// The whole forward map Φ∘A⁻¹ = id + U, as U on the same grid: where a point of the moving image goes.
    /// Points that A⁻¹ carries out of the grid see the mirrored Φ.
    pub forward: Displacement<T, D>,
    /// A, the initial map: the identity unless [`Registration::with_initial`] gave another.
    pub affine: Affine<D>,
    /// The non-linear part of the inverse map, Φ⁻¹, on the same grid. The same as `map` without an initial
    /// map.
    pub deformation: Displacement<T, D>,
    /// The non-linear part of the forward map, Φ, on the same grid: for points of the moving image outside
    /// this grid, take A⁻¹ of them first and then this map.
    pub deformation_forward: Displacement<T, D>,
    /// The moving image, original grey values, on the fixed image's grid.
    pub warped: Image<T, D>,
    /// Initial momentum, and controls of the weights, on the map grid.
    pub controls: Controls<T, D, W>,
    /// Local standard deviation of the regulariser at t = 0, on the fixed image's grid; none where the metric is no sum
    /// of Gaussians.
    pub sigma_start: Option<Image<T, D>>,
    /// The same at t = 1, carried with the anatomy.
    pub sigma_end: Option<Image<T, D>>,
    /// The weights of the Gaussians at t = 0, on the map grid: see
    /// [`Shooting::weights`](crate::model::Shooting::weights).
    pub weights_start: Option<Weights<T, D>>,
    /// The same at t = 1.
    pub weights_end: Option<Weights<T, D>>,
    /// Figures.
    pub report: Report,
}

/// A model, a measure and settings, ready for pairs of images.
///
/// ```
/// use rdmm_core::grid::Grid;
/// use rdmm_core::model::{Lddmm, MultiGaussian};
/// use rdmm_core::registration::Registration;
/// use rdmm_core::similarity::Ssd;
/// use rdmm_core::synthetic::Shapes;
///
/// let grid = Grid::<2>::unit([48, 48])?;
/// let pair = Shapes::default().with_outside(1).pair::<f32, 2>(&grid)?;
/// let model = Lddmm::new(MultiGaussian::for_grid(&grid));
/// let result = Registration::new(model, Ssd).run(&pair.fixed, &pair.moving)?;
/// assert_eq!(result.report.folds.total().folded, 0);
/// # Ok::<(), rdmm_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Registration<M, T: Real, const D: usize> {
    model: M,
    measure: Box<dyn Measure<T, D>>,
    settings: Settings,
    mask: Option<Image<T, D>>,
    moving_mask: Option<Image<T, D>>,
    initial: Affine<D>,
    channels: Vec<Channel<T, D>>,
    landmarks: Option<Landmarks<D>>,
}

/// What a registration may take in place of its own.
pub(super) struct Recipe<'a, M, T: Real, const D: usize> {
    pub(super) model: &'a M,
    pub(super) initial: &'a Affine<D>,
    /// The map that the moving image was read at before: the smallest determinant is that of both together.
    pub(super) map_before: Option<&'a Displacement<T, D>>,
}

impl<M, T: Real, const D: usize> Clone for Recipe<'_, M, T, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M, T: Real, const D: usize> Copy for Recipe<'_, M, T, D> {}

/// Controls and grid-bound model that a level ended with.
struct Reached<S: Shooting<T, D>, T: Real, const D: usize> {
    shooting: S,
    controls: Controls<T, D, S::Weights>,
    report: LevelReport,
}

/// Where a level begins.
enum Begin<T, const D: usize, W> {
    /// At the identity.
    Rest,
    /// At the controls of the level before.
    From(Controls<T, D, W>),
    /// Where it was interrupted.
    Again(Box<LevelState<Controls<T, D, W>>>),
}

/// Where an optimiser begins.
enum Start<C> {
    At(C),
    State(Box<LevelState<C>>),
}

/// What an optimiser found.
struct Found<C> {
    controls: C,
    first: Diagnostics,
    last: Diagnostics,
    iterations: usize,
    evaluations: usize,
    stop: Stop,
    /// Seconds of the level before it was interrupted.
    earlier: f64,
}

impl<M: Model<T, D>, T: Real, const D: usize> Registration<M, T, D> {
    /// Registration with default settings.
    #[must_use]
    pub fn new(model: M, measure: impl Measure<T, D> + 'static) -> Self {
        Self {
            model,
            measure: Box::new(measure),
            settings: Settings::default(),
            mask: None,
            moving_mask: None,
            initial: Affine::identity(),
            channels: Vec::new(),
            landmarks: None,
        }
    }

    /// The same with other settings.
    #[must_use]
    pub fn with_settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// The same with a mask on the fixed image: voxels count by their value from 0 to 1.
    #[must_use]
    pub fn with_mask(mut self, mask: Image<T, D>) -> Self {
        self.mask = Some(mask);
        self
    }

    /// The same with a mask on the moving image, over its grid, for the half of a comparison that is seen from
    /// there: for a [`TwoSided`](crate::model::TwoSided) model, together with the fixed image's mask.
    #[must_use]
    pub fn with_moving_mask(mut self, mask: Image<T, D>) -> Self {
        self.moving_mask = Some(mask);
        self
    }

    /// The same from an affine map A, such as that of
    /// [`AffineRegistration`](crate::affine::AffineRegistration): points of the fixed image's world to those of
    /// the moving image's.
    ///
    #[doc = include_str!("../../docs/math/totalmap.html")]
    ///
    /// The flow lives in the fixed image's world. The moving image is read at A(x + u(x)) and interpolated
    /// once, on every level. What a model is given in the moving image's world is read through A as well:
    /// the shares of [`Rdmm`](crate::model::Rdmm) at x are those given at A(x)
    /// ([`Model::discretise`]), so give them as without an initial map. `map` and `forward` of the result
    /// are the whole maps: labels, images and landmarks go through them as they are.
    ///
    /// ```
    /// use nalgebra::{SMatrix, SVector};
    /// use rdmm_core::grid::Grid;
    /// use rdmm_core::model::{Lddmm, MultiGaussian};
    /// use rdmm_core::registration::Registration;
    /// use rdmm_core::{evaluate::dice_whole, similarity::Ssd, synthetic::Shapes, world::Affine};
    ///
    /// let grid = Grid::<2>::unit([40, 40])?;
    /// let pair = Shapes::default().with_outside(1).pair::<f32, 2>(&grid)?;
    /// // The moving image stands elsewhere in the world, and it is known where.
    /// let moving = pair.moving.on_grid(&grid.clone().with_origin([5.0, -2.0])?)?;
    /// let initial = Affine::new(SMatrix::identity(), SVector::from([5.0, -2.0]))?;
    /// let model = Lddmm::new(MultiGaussian::for_grid(&grid));
    /// let result = Registration::new(model, Ssd).with_initial(initial).run(&pair.fixed, &moving)?;
    /// assert!(result.map.data()[0] > 4.0 && result.deformation.data()[0] < 0.1);
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    #[must_use]
    pub fn with_initial(mut self, initial: Affine<D>) -> Self {
        self.initial = initial;
        self
    }

    /// The same with a further pair of images, beside those before.
    #[must_use]
    pub fn with_channel(mut self, channel: Channel<T, D>) -> Self {
        self.channels.push(channel);
        self
    }

    /// The same with these landmarks, in place of those before.
    #[must_use]
    pub fn with_landmarks(mut self, landmarks: Landmarks<D>) -> Self {
        self.landmarks = Some(landmarks);
        self
    }

    /// Whether there are channels or landmarks.
    pub(super) fn has_further_terms(&self) -> bool {
        !self.channels.is_empty() || self.landmarks.is_some()
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &M {
        &self.model
    }

    /// Registers `moving` onto `fixed`. Both are placed in the world by their grids.
    ///
    /// # Errors
    /// Settings, images or masks that do not fit, with what was expected; [`Error::Diverged`] where not
    /// even the first evaluation succeeds.
    ///
    /// [`Error::Diverged`]: crate::Error::Diverged
    pub fn run(
        &self,
        fixed: &Image<T, D>,
        moving: &Image<T, D>,
    ) -> Result<Registered<T, D, <M::Shooting as Shooting<T, D>>::Weights>> {
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
        observer: impl FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<Registered<T, D, <M::Shooting as Shooting<T, D>>::Weights>> {
        self.run_model(self.recipe(), fixed, moving, observer)
    }

    /// Like [`Registration::run_with`], with an observer that can take a [`Checkpoint`] after any iteration, and
    /// from where one was taken: with the same registration and images the result has the same bits as
    /// without the interruption. Seconds go on from those of the checkpoint.
    ///
    /// # Errors
    /// Those of [`Registration::run`]; [`Error::Setting`](crate::Error::Setting),
    /// [`Error::GridMismatch`](crate::Error::GridMismatch) or [`Error::Length`](crate::Error::Length) for a
    /// checkpoint of another registration.
    ///
    /// ```
    /// use std::ops::ControlFlow;
    ///
    /// use rdmm_core::grid::Grid;
    /// use rdmm_core::model::{Lddmm, MultiGaussian};
    /// use rdmm_core::registration::Registration;
    /// use rdmm_core::similarity::Ssd;
    /// use rdmm_core::synthetic::Shapes;
    ///
    /// let grid = Grid::<2>::unit([32, 32])?;
    /// let pair = Shapes::default().with_outside(1).pair::<f32, 2>(&grid)?;
    /// let (fixed, moving) = (&pair.fixed, &pair.moving);
    /// let registration = Registration::new(Lddmm::new(MultiGaussian::for_grid(&grid)), Ssd);
    /// let mut saved = None;
    /// let whole = registration.run_resumable(fixed, moving, None, |progress, checkpoint| {
    ///     if progress.iteration == 2 {
    ///         saved = Some(checkpoint());
    ///     }
    ///     ControlFlow::Continue(())
    /// })?;
    /// let rest = registration
    ///     .run_resumable(fixed, moving, saved, |_, _| ControlFlow::Continue(()))?;
    /// assert_eq!(rest.map.data(), whole.map.data());
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    pub fn run_resumable(
        &self,
        fixed: &Image<T, D>,
        moving: &Image<T, D>,
        from: Option<Checkpoint<T, D, WeightsOf<M, T, D>>>,
        observer: impl FnMut(
            &Progress,
            &dyn Fn() -> Checkpoint<T, D, WeightsOf<M, T, D>>,
        ) -> ControlFlow<()>,
    ) -> Result<Registered<T, D, WeightsOf<M, T, D>>> {
        let intensities = self.settings.intensities;
        let pairs = (fixed, moving);
        self.run_pairs(self.recipe(), pairs, intensities, Vec::new(), from, observer)
    }

    fn recipe(&self) -> Recipe<'_, M, T, D> {
        Recipe { model: &self.model, initial: &self.initial, map_before: None }
    }

    /// Like [`Registration::run_with`], with another recipe.
    pub(super) fn run_model(
        &self,
        recipe: Recipe<'_, M, T, D>,
        fixed: &Image<T, D>,
        moving: &Image<T, D>,
        mut observer: impl FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<Registered<T, D, WeightsOf<M, T, D>>> {
        let intensities = self.settings.intensities;
        let watch = |progress: &Progress, _: &dyn Fn() -> _| observer(progress);
        self.run_pairs(recipe, (fixed, moving), intensities, Vec::new(), None, watch)
    }

    /// Registers label maps alone: the sum over the labels of the measure of their smoothed indicators, as in
    /// [`label_channels`](super::label_channels), each with the weight and mask of the registration. Channels
    /// and landmarks count too. `warped` of the result is the indicator of the smallest label;
    /// [`Displacement::warp_labels`] warps them all. Grey values are taken as they are.
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
    /// let (before, after) = (dice(fixed, moving)?, dice(fixed, &result.map.warp_labels(moving)?)?);
    /// assert!(after.iter().all(|(label, dice)| *dice >= before[label]));
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    pub fn run_labels(
        &self,
        fixed: &Labels<D>,
        moving: &Labels<D>,
        sigma: f64,
    ) -> Result<Registered<T, D, <M::Shooting as Shooting<T, D>>::Weights>> {
        let mut indicators = indicators(fixed, moving, sigma)?;
        let (fixed, moving) = indicators.remove(0);
        let pair = |(fixed, moving)| self.pair(fixed, moving);
        let others = indicators.into_iter().map(pair).collect();
        let watch = |_: &Progress, _: &dyn Fn() -> _| ControlFlow::Continue(());
        let recipe = self.recipe();
        self.run_pairs(recipe, (&fixed, &moving), Intensities::AsGiven, others, None, watch)
    }

    /// A pair by the measure, weight and masks of the registration.
    fn pair(&self, fixed: Image<T, D>, moving: Image<T, D>) -> Pair<'_, T, D> {
        let (measure, weight) = (&*self.measure, self.weight());
        let (mask, moving_mask) = (self.mask.as_ref(), self.moving_mask.as_ref());
        Pair { fixed, moving, measure, weight, mask, moving_mask }
    }

    /// The registration of one pair and `others`, and of the channels.
    fn run_pairs<'a>(
        &'a self,
        recipe: Recipe<'_, M, T, D>,
        (fixed, moving): (&Image<T, D>, &Image<T, D>),
        intensities: Intensities,
        mut others: Vec<Pair<'a, T, D>>,
        from: Option<Checkpoint<T, D, WeightsOf<M, T, D>>>,
        mut observer: impl FnMut(
            &Progress,
            &dyn Fn() -> Checkpoint<T, D, WeightsOf<M, T, D>>,
        ) -> ControlFlow<()>,
    ) -> Result<Registered<T, D, WeightsOf<M, T, D>>> {
        let begin = Instant::now();
        self.settings.validate()?;
        if let Some(mask) = &self.mask {
            fixed.grid().expect_same(mask.grid(), "mask")?;
        }
        if let Some(mask) = &self.moving_mask {
            moving.grid().expect_same(mask.grid(), "mask of the moving image")?;
        }
        if let Some(landmarks) = &self.landmarks {
            landmarks.expect_inside(fixed.grid())?;
        }
        let fixed_grey = intensities.applied(fixed, "fixed image")?;
        let moving_grey = intensities.applied(moving, "moving image")?;
        let first = self.pair(fixed_grey, moving_grey);
        for channel in &self.channels {
            others.push(channel.pair(fixed.grid())?);
        }
        let finest = fixed.grid();
        let levels =
            self.settings.levels.clone().unwrap_or_else(|| Settings::default_levels(finest));

        let mut reached: Option<Reached<M::Shooting, T, D>> = None;
        let (mut reports, mut state, seconds) = match from {
            None => (Vec::new(), None, 0.0),
            Some(checkpoint) => {
                checkpoint.expect_level_of(&levels)?;
                (checkpoint.finished, Some(checkpoint.state), checkpoint.seconds)
            }
        };
        let mut stopped = false;
        for (index, level) in levels.iter().enumerate().skip(reports.len()) {
            let before = match (state.take(), reached.take()) {
                (Some(state), _) => Begin::Again(Box::new(state)),
                (None, Some(reached)) => Begin::From(reached.controls),
                (None, None) => Begin::Rest,
            };
            let evaluations: usize = reports.iter().map(|level| level.evaluations).sum();
            let mut watch = |mut progress: Progress, state: &dyn Fn() -> LevelState<_>| {
                (progress.level, progress.levels) = (index, levels.len());
                progress.evaluations += evaluations;
                progress.seconds = seconds + begin.elapsed().as_secs_f64();
                let seconds = progress.seconds;
                let finished = || reports.clone();
                let checkpoint = || Checkpoint { finished: finished(), state: state(), seconds };
                observer(&progress, &checkpoint)
            };
            let place = (index, index + 1 == levels.len());
            let next = self.level(recipe, (&first, &others), level, place, before, &mut watch)?;
            stopped = next.report.stop == Stop::Observer;
            reports.push(next.report.clone());
            reached = Some(next);
            if stopped {
                break;
            }
        }
        let expected = crate::Error::Length { what: "levels", expected: 1, found: 0 };
        let reached = reached.ok_or(expected)?;
        let mut result = self.finish(recipe.initial, reached, fixed, moving)?;
        result.report.evaluations = reports.iter().map(|level| level.evaluations).sum();
        result.report.levels = reports;
        result.report.refused = result.report.levels.iter().map(|level| level.refused).sum();
        result.report.stopped = stopped;
        result.report.seconds = seconds + begin.elapsed().as_secs_f64();
        Ok(result)
    }

    fn weight(&self) -> f64 {
        self.settings.similarity_weight.unwrap_or_else(|| self.measure.default_weight())
    }

    /// One level of the pyramid, from the controls of the level before.
    fn level(
        &self,
        recipe: Recipe<'_, M, T, D>,
        (first, others): (&Pair<'_, T, D>, &[Pair<'_, T, D>]),
        level: &Level,
        (index, last): (usize, bool),
        before: Begin<T, D, WeightsOf<M, T, D>>,
        watch: &mut impl FnMut(
            Progress,
            &dyn Fn() -> LevelState<Controls<T, D, WeightsOf<M, T, D>>>,
        ) -> ControlFlow<()>,
    ) -> Result<Reached<M::Shooting, T, D>> {
        let begin = Instant::now();
        let finest = first.fixed.grid();
        let grid = finest.coarsened(level.factor)?;
        let sigma = recipe.model.smallest_sigma();
        let map = map_grid(
            &grid,
            finest,
            self.settings.map_factor,
            sigma,
            VOXELS_A_SIGMA[usize::from(!last)],
        )?;
        let domain = Domain::new(&map).with_initial(recipe.initial).with_level(index);
        let mut shooting = recipe.model.discretise(&domain)?;
        let identity = shooting.identity();
        let two_sided = shooting.initial_state(&identity).forward().is_some();
        std::iter::once(first).chain(others).try_for_each(|pair| pair.expect_masks(two_sided))?;
        let before = match before {
            Begin::From(controls) => Begin::From(shooting.prolong(&controls)?),
            other => other,
        };
        let (moving, similarity) = first.coarser(&grid, level.factor)?;
        let integration = self.settings.integration.clone();
        // The two sides share the weight.
        let share = if two_sided { 0.5 } else { 1.0 };
        let weight = share * first.weight;
        let mut objective =
            PairObjective::new(shooting, &moving, &grid, similarity, weight, integration)?
                .with_initial(recipe.initial)
                .with_min_jacobian(self.settings.min_jacobian);
        if let Some(before) = within(recipe.map_before, self.settings.min_jacobian, &grid)? {
            objective = objective.with_map_before(&before)?;
        }
        for pair in others {
            let (moving, similarity) = pair.coarser(&grid, level.factor)?;
            objective = objective.with_channel(&moving, similarity, share * pair.weight)?;
        }
        for pair in std::iter::once(first).chain(others) {
            if two_sided {
                let (fixed, similarity) =
                    pair.coarser_reverse(&grid, level.factor, recipe.initial)?;
                objective = objective.with_reverse(&fixed, similarity, share * pair.weight)?;
            }
        }
        if let Some(landmarks) = &self.landmarks {
            objective = objective.with_landmarks(landmarks)?;
        }
        let start = match before {
            Begin::Again(state) => {
                objective.resume(&state)?;
                Start::State(state)
            }
            Begin::From(controls) => Start::At(admissible(&mut objective, controls)?),
            Begin::Rest => {
                let rest = objective.shooting().identity();
                Start::At(admissible(&mut objective, rest)?)
            }
        };
        let Found { controls, first, last, iterations, evaluations, stop, earlier } =
            self.search(&mut objective, start, level.iterations, watch)?;
        let report = LevelReport {
            images: grid.shape().to_vec(),
            map: map.shape().to_vec(),
            iterations,
            evaluations,
            refused: objective.refused(),
            first,
            last,
            stop,
            bytes: objective.bytes_held(),
            seconds: earlier + begin.elapsed().as_secs_f64(),
        };
        Ok(Reached { shooting: objective.into_shooting(), controls, report })
    }

    /// Runs the optimiser.
    fn search<S: Shooting<T, D>>(
        &self,
        objective: &mut PairObjective<S, T, D>,
        start: Start<Controls<T, D, S::Weights>>,
        iterations: usize,
        watch: &mut impl FnMut(
            Progress,
            &dyn Fn() -> LevelState<Controls<T, D, S::Weights>>,
        ) -> ControlFlow<()>,
    ) -> Result<Found<Controls<T, D, S::Weights>>> {
        let begin = Instant::now();
        let (mut at_start, earlier) = match &start {
            Start::At(_) => (None, 0.0),
            Start::State(state) => (Some(state.first), state.seconds),
        };
        // The observer needs the objective's diagnostics while the optimiser holds it.
        let shared = std::cell::RefCell::new(objective);
        let mut evaluate = Shared(&shared);
        let mut report = |counts: [usize; 2], norms: [f64; 2], value, optimiser: &dyn Fn() -> _| {
            let diagnostics = shared.borrow_mut().diagnostics(value);
            let first = *at_start.get_or_insert(diagnostics);
            let progress = Progress {
                level: 0,
                levels: 0,
                iteration: counts[0],
                evaluations: counts[1],
                gradient_norm: if norms[1] > 0.0 { norms[0] / norms[1] } else { 0.0 },
                diagnostics,
                seconds: 0.0,
            };
            let seconds = earlier + begin.elapsed().as_secs_f64();
            watch(progress, &|| shared.borrow().state(optimiser(), first, seconds))
        };
        let other = || {
            let expected = "one of the optimiser that the settings name";
            crate::Error::setting("checkpoint", expected, "one of another")
        };
        macro_rules! by_lbfgs {
            ($lbfgs:expr, $h0:expr) => {{
                let lbfgs = crate::optim::Lbfgs { max_iterations: iterations, ..$lbfgs.clone() };
                let mut report = |s: &crate::optim::LbfgsState<_>| {
                    let counts = [s.iteration(), s.evaluations()];
                    let norms = [s.gradient_norm(), s.first_gradient_norm()];
                    report(counts, norms, s.value(), &|| Optimiser::Lbfgs(s.clone()))
                };
                let (start, go_on) = match start {
                    Start::At(controls) => {
                        let start = lbfgs.start(&mut evaluate, $h0, controls)?;
                        let go_on = report(&start);
                        (start, go_on)
                    }
                    Start::State(state) => match state.optimiser {
                        Optimiser::Lbfgs(state) => (state, ControlFlow::Continue(())),
                        Optimiser::Adam(_) => return Err(other()),
                    },
                };
                let Outcome { state: s, stop } = match go_on {
                    ControlFlow::Continue(()) => lbfgs.resume(&mut evaluate, $h0, start, report),
                    ControlFlow::Break(()) => Outcome { state: start, stop: Stop::Observer },
                };
                (s.best().clone(), s.best_value(), [s.iteration(), s.evaluations()], stop)
            }};
        }
        let (controls, value, [iterations, evaluations], stop) = match &self.settings.search {
            Search::MetricLbfgs { lbfgs, epsilon } => {
                let mut h0 = {
                    let objective = shared.borrow();
                    InverseMetric::new(objective.shooting(), objective.energy_scale(), *epsilon)?
                };
                by_lbfgs!(lbfgs, &mut h0)
            }
            Search::EuclideanLbfgs(lbfgs) => by_lbfgs!(lbfgs, &mut Euclidean),
            Search::Adam(adam) => {
                let adam = crate::optim::Adam { max_iterations: iterations, ..adam.clone() };
                let mut report = |s: &crate::optim::AdamState<_>| {
                    let counts = [s.iteration(), s.evaluations()];
                    let norms = [s.gradient_norm(), s.first_gradient_norm()];
                    report(counts, norms, s.value(), &|| Optimiser::Adam(s.clone()))
                };
                let (start, go_on) = match start {
                    Start::At(controls) => {
                        let start = adam.start(&mut evaluate, controls)?;
                        let go_on = report(&start);
                        (start, go_on)
                    }
                    Start::State(state) => match state.optimiser {
                        Optimiser::Adam(state) => (state, ControlFlow::Continue(())),
                        Optimiser::Lbfgs(_) => return Err(other()),
                    },
                };
                let Outcome { state: s, stop } = match go_on {
                    ControlFlow::Continue(()) => adam.resume(&mut evaluate, start, report),
                    ControlFlow::Break(()) => Outcome { state: start, stop: Stop::Observer },
                };
                (s.best().clone(), s.best_value(), [s.iteration(), s.evaluations()], stop)
            }
        };
        let last = shared.borrow_mut().diagnostics(value);
        let first = at_start.unwrap_or(last);
        Ok(Found { controls, first, last, iterations, evaluations, stop, earlier })
    }

    /// Maps, warped image and figures from the controls of the last level.
    fn finish(
        &self,
        initial: &Affine<D>,
        reached: Reached<M::Shooting, T, D>,
        fixed: &Image<T, D>,
        moving: &Image<T, D>,
    ) -> Result<Registered<T, D, <M::Shooting as Shooting<T, D>>::Weights>> {
        let Reached { mut shooting, mut controls, report } = reached;
        let map_grid = shooting.grid().clone();
        let start = shooting.initial_state(&controls);
        let sigma_start = shooting.local_sigma(&start)?;
        let weights_start = shooting.weights(&start)?;
        let energy = shooting.hamiltonian(&start)?;

        // The number of steps that the optimiser ended with, so that the map is the one it saw.
        let mut integration = self.settings.integration.clone();
        if let crate::step::Steps::Courant { .. } = integration.steps {
            integration.steps = crate::step::Steps::Fixed(report.last.steps.max(1));
        }
        // No gradient follows.
        integration.checkpoints = Checkpoints::Binomial(1);
        let (mut drift, mut failure) = (0.0_f64, None);
        let mut sweep = Sweep::new(shooting.evolution(), &start, integration.clone())?;
        let end = sweep
            .forward_with(&start, |_, state| match shooting.hamiltonian(state) {
                Ok(now) if energy > 0.0 => drift = drift.max((now / energy - 1.0).abs()),
                Ok(_) => {}
                Err(error) => failure = Some(error),
            })?
            .clone();
        if let Some(error) = failure {
            return Err(error);
        }
        let sigma_end = shooting.local_sigma(&end)?;
        let weights_end = shooting.weights(&end)?;
        let steps = sweep.step_sizes().to_vec();
        let forward = forward_map(&map_grid, shooting.evolution(), start, &steps, &integration)?;

        let deformation = resampled(end.map(), fixed.grid())?;
        let folds = Folds::of(&deformation)?;
        if self.settings.min_jacobian.is_some_and(|bound| folds.total().min <= bound) {
            // Levels that end at a coarser resolution have seen the map there only.
            controls.momentum.scale(T::of(SHRINK));
            return self.finish(initial, Reached { shooting, controls, report }, fixed, moving);
        }
        let map = initial.after_displacement(&deformation)?;
        let deformation_forward = resampled(&forward, fixed.grid())?;
        let warped = warped(moving, &map)?;
        Ok(Registered {
            sigma_start: sigma_start.map(|sigma| resampled(&sigma, fixed.grid())).transpose()?,
            sigma_end: sigma_end.map(|sigma| resampled(&sigma, fixed.grid())).transpose()?,
            weights_start,
            weights_end,
            report: Report {
                model: self.model.name(),
                measure: self.measure.name(),
                similarity_weight: self.weight(),
                levels: Vec::new(),
                folds: folds.scaled(initial.determinant().abs()),
                refused: 0,
                inverse_consistency: inverse_consistency(&deformation_forward, &deformation)?,
                energy_drift: drift,
                steps: steps.len(),
                evaluations: 0,
                stopped: false,
                seconds: 0.0,
            },
            forward: after_affine(&forward, fixed.grid(), &initial.inverse())?,
            deformation_forward,
            affine: *initial,
            map,
            deformation,
            warped,
            controls,
        })
    }
}

/// The map before, at the resolution of a level, where it keeps the bound there: beyond it no control would.
fn within<T: Real, const D: usize>(
    before: Option<&Displacement<T, D>>,
    bound: Option<f64>,
    grid: &Grid<D>,
) -> Result<Option<Displacement<T, D>>> {
    let (Some(before), Some(bound)) = (before, bound) else { return Ok(None) };
    let before = resampled(before, grid)?;
    let least = Folds::of(&before)?.total().min;
    Ok((least > bound).then_some(before))
}

/// The factor by which controls beyond the smallest determinant are scaled down, again and again.
const SHRINK: f64 = 0.8;

/// How often, before the identity is taken instead: 0.8³⁰ leaves a thousandth.
const SHRINKS: usize = 30;

/// Controls whose flow can be integrated and whose map keeps the smallest determinant, if there is a bound: those
/// given, with the momentum scaled down as far as that needs. On a finer grid the flow of a coarser level may
/// diverge. The momentum zero is the identity, which keeps any bound.
fn admissible<S: Shooting<T, D>, T: Real, const D: usize>(
    objective: &mut PairObjective<S, T, D>,
    mut controls: Controls<T, D, S::Weights>,
) -> Result<Controls<T, D, S::Weights>> {
    let mut gradient = controls.zeros_like();
    for _ in 0..SHRINKS {
        match objective.evaluate(&controls, &mut gradient) {
            Ok(_) => return Ok(controls),
            Err(error) if error.is_recoverable() => controls.momentum.scale(T::of(SHRINK)),
            Err(error) => return Err(error),
        }
    }
    controls.momentum.set_zero();
    Ok(controls)
}

/// The forward map of a flow, with given steps.
fn forward_map<E, T: Real, const D: usize>(
    grid: &Grid<D>,
    evolution: E,
    start: E::State,
    steps: &[f64],
    integration: &crate::adjoint::sweep::Integration,
) -> Result<Displacement<T, D>>
where
    E: FieldEvolution<T, D>,
{
    let tracked = Tracked::new(grid, evolution);
    let mut state = tracked.start(start);
    let (tableau, transport) = (integration.tableau, integration.transport.clone());
    let stepper = crate::step::Stepper::new(tracked, tableau, transport);
    let (mut next, mut ws) = (state.zeros_like(), stepper.workspace(&state)?);
    for &tau in steps {
        stepper.step(&state, tau, &mut next, &mut ws);
        std::mem::swap(&mut state, &mut next);
    }
    Ok(state.forward)
}

/// Φ∘B for a map Φ = id + U over a coarser grid of the same box, as a displacement of the voxels of `grid`:
/// B(x) − x + U(B(x)), interpolated once.
fn after_affine<T: Real, const D: usize>(
    forward: &Displacement<T, D>,
    grid: &Grid<D>,
    first: &Affine<D>,
) -> Result<Displacement<T, D>> {
    let mut coefficients = vec![T::zero(); forward.data().len()];
    Prefilter::new(forward.grid()).interleaved::<D>(forward.data(), &mut coefficients);
    let (rest, mut out) = (Displacement::zeros(grid)?, Displacement::zeros(grid)?);
    let warp = Warp::through(forward.grid(), grid, first);
    warp.values::<D>(&coefficients, rest.data(), out.data_mut());
    out.axpy(T::one(), &first.displacement(grid)?);
    out.expect_finite("forward map")?;
    Ok(out)
}

/// An objective that an optimiser and its observer both reach.
struct Shared<'a, 'b, O>(&'a std::cell::RefCell<&'b mut O>);

impl<T: Real, O: crate::optim::Objective<T>> crate::optim::Objective<T> for Shared<'_, '_, O> {
    type Control = O::Control;

    fn evaluate(&mut self, control: &O::Control, gradient: &mut O::Control) -> Result<f64> {
        self.0.borrow_mut().evaluate(control, gradient)
    }
}
