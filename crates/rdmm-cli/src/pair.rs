//! One pair of images registered by one preset.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use rdmm_core::Error;
use rdmm_core::adjoint::Checkpoints;
use rdmm_core::affine::{AffineRegistered, AffineRegistration, AffineSettings, Start, Transform};
use rdmm_core::evaluate::Folds;
use rdmm_core::field::{Displacement, Image};
use rdmm_core::grid::Grid;
use rdmm_core::kernel::GaussianBank;
use rdmm_core::labels::Labels;
use rdmm_core::maps::PointMap;
use rdmm_core::model::{
    Lddmm, Model, MultiGaussian, Rdmm, RdmmOptimised, Shooting, Vsvf, weights_by_label,
    weights_for_sigma,
};
use rdmm_core::ops::unfold::{Unfold, Unfolded};
use rdmm_core::ops::warp::Warp;
use rdmm_core::optim::Lbfgs;
use rdmm_core::registration::{
    Checkpoint, Intensities, Landmarks, Progress, Registered, Registration, Search, Settings,
};
use rdmm_core::regularize::{Omt, RangePenalty, TotalVariation};
use rdmm_core::step::Steps;
use rdmm_core::world::Affine;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::{
    AffineKind, Auto, Config, MeasureKind, Preset, Region, SimilarityConfig, StartKind,
};
use crate::failure::{Done, Failure};
use crate::fit::fit;
use crate::inputs::Inputs;
use crate::log::Log;
use crate::maps::{consistency, read, without_seam};
use crate::parts::Nonlinear;
use crate::watch::{CheckpointFile, Saved, Stopped, Watch};

/// Standard deviations of RDMM's Gaussians by region, and of G, in largest extents: those of the paper.
const REGION_SIGMAS: [f64; 4] = [0.03, 0.06, 0.09, 0.3];
const SMOOTHING: f64 = 0.05;
/// Shares of these Gaussians in the background and in labelled regions: those of the paper.
const STIFF: [f64; 4] = [0.0, 0.0, 0.0, 1.0];
const PERMISSIVE: [f64; 4] = [0.2, 0.5, 0.3, 0.0];

/// Determinants of cells of the files that are written are above this, and below its reciprocal: far enough from zero that
/// rounding to single precision does not turn a cell over.
const LEAST: f64 = 1e-3;

/// What a registration found. All maps pull back.
pub(crate) struct Found<const D: usize> {
    /// The whole map, initial transforms and affine map included, on the fixed grid.
    pub(crate) map: Displacement<f32, D>,
    /// Its inverse, on the moving grid.
    pub(crate) inverse: Displacement<f32, D>,
    /// The affine part: of the affine registration, and of the initial transforms, whose warps are left out.
    pub(crate) affine: Affine<D>,
    /// The rest; `None` where the whole map is affine.
    pub(crate) nonlinear: Option<Nonlinear<D>>,
    /// Determinant of the whole map.
    pub(crate) det: Image<f32, D>,
    /// Of the whole map, on the fixed grid, and of its inverse, on the moving grid: what is written.
    pub(crate) folds: Folds,
    pub(crate) inverse_folds: Folds,
    /// What was smoothed away around folded cells of what is written.
    pub(crate) unfolded: [Unfolded; 2],
    /// The moving image, original grey values.
    pub(crate) warped: Image<f32, D>,
    /// The non-linear part; `None` for an affine registration.
    pub(crate) flow: Option<Registered<f32, D>>,
    /// How far the map and its inverse are from each other's inverses, mean and largest, mm.
    pub(crate) inverse_consistency: [f64; 2],
    pub(crate) stopped: Option<Stopped>,
    pub(crate) history: Vec<Progress>,
    /// Seconds of the flow before it was stopped, where it went on from a checkpoint.
    pub(crate) earlier: f64,
    /// The configuration with all values filled in.
    pub(crate) config: Config,
}

/// How a registration goes on, and until when.
pub(crate) struct Course<'a> {
    pub(crate) log: &'a Log,
    pub(crate) begin: Instant,
    pub(crate) time_limit: Option<f64>,
    pub(crate) file: Option<&'a CheckpointFile>,
    pub(crate) resume: bool,
}

/// Registers a pair.
pub(crate) fn register<const D: usize>(
    inputs: &Inputs<D>,
    config: &Config,
    course: &Course<'_>,
) -> Done<Found<D>> {
    expect_effects(inputs, config)?;
    let (config, regulariser) = resolved(inputs, config)?;
    if course.resume
        && let Some(file) = course.file
    {
        file.content()?;
    }
    let before = Before::of(inputs)?;
    let watch = Watch::new(course.log, course.begin, course.time_limit, course.file)?;
    let mut run = Run { inputs, before, config, regulariser, course, watch, earlier: 0.0 };
    match run.config.preset {
        Preset::Affine => run.affine_alone(),
        Preset::Vsvf => {
            let metric = run.metric()?;
            run.flow(Vsvf::new(metric))
        }
        Preset::Lddmm => {
            let metric = run.metric()?;
            run.flow(Lddmm::new(metric))
        }
        Preset::RdmmRegions => {
            let model = run.regional()?;
            run.flow(model)
        }
        Preset::Rdmm => {
            let model = run.optimised()?;
            run.flow(model)
        }
    }
}

/// `Ok` unless something that was given would do nothing.
fn expect_effects<const D: usize>(inputs: &Inputs<D>, config: &Config) -> Done {
    if inputs.regions.is_some() && config.preset != Preset::RdmmRegions {
        let problem = "expected the preset rdmm-regions, the only one that has regions: leave it out, or name that preset";
        return Err(Failure::at("--regions", problem));
    }
    if config.affine.start != StartKind::World && config.affine.transform == AffineKind::None {
        let problem = "expected world where there is no affine registration: leave --start or --affine none out";
        return Err(Failure::at("affine.start (--start)", problem));
    }
    if config.affine.start == StartKind::Landmarks {
        if inputs.landmarks.is_none() {
            return Err(no_landmarks());
        }
        if config.landmarks.weight <= 0.0 {
            let problem = "expected landmarks that count: leave --landmarks-only-measured out, or --start landmarks";
            return Err(Failure::at("affine.start (--start landmarks)", problem));
        }
    }
    Ok(())
}

fn no_landmarks() -> Failure {
    let problem = "expected landmarks, found none: give --fixed-landmarks and --moving-landmarks";
    Failure::at("affine.start (--start landmarks)", problem)
}

/// The Gaussians of a regulariser, mm.
struct Regulariser {
    sigmas: Vec<f64>,
    shares: Vec<f64>,
    smoothing: f64,
}

/// The configuration with the values that suit the images in place of `"auto"`, and those of the regulariser.
fn resolved<const D: usize>(inputs: &Inputs<D>, config: &Config) -> Done<(Config, Regulariser)> {
    let mut config = config.clone();
    let grid = inputs.fixed.grid();
    let extent = grid.largest_extent();
    let levels = || Settings::default_levels(grid);
    config.affine.levels = Auto::Value(config.affine.levels.or_else(levels));
    config.optimiser.levels = Auto::Value(config.optimiser.levels.or_else(levels));
    let of_affine = config.similarity.measure.of_affine(config.affine.transform);
    config.affine.similarity = Auto::Value(config.affine.similarity.or_else(|| of_affine));
    let metric = MultiGaussian::fine(grid);
    let regional = config.preset == Preset::RdmmRegions;
    let regulariser = &mut config.regulariser;
    let sigmas = regulariser.sigmas.or_else(|| {
        if regional { REGION_SIGMAS.map(|s| s * extent).to_vec() } else { metric.sigmas().to_vec() }
    });
    let shares = regulariser.shares.or_else(|| {
        if sigmas.len() == metric.weights().len() {
            metric.weights().to_vec()
        } else {
            vec![1.0 / sigmas.len() as f64; sigmas.len()]
        }
    });
    GaussianBank::<f32, D>::new(grid, &sigmas)
        .map_err(|error| Failure::at("regulariser.sigmas (--sigmas)", error))?;
    regulariser.sigmas = Auto::Value(sigmas.clone());
    let smoothing = regulariser.smoothing.or_else(|| SMOOTHING * extent);
    regulariser.shares = Auto::Value(shares.clone());
    regulariser.smoothing = Auto::Value(smoothing);
    if regional && config.regions.is_empty() {
        let labels = region_labels(inputs)?;
        let of = |label: u32| if label == 0 { STIFF } else { PERMISSIVE };
        if sigmas.len() != STIFF.len() {
            return Err(Failure::at(
                "[regions]",
                format!(
                    "expected entries for each label where there are not four σ, found {} σ",
                    sigmas.len()
                ),
            ));
        }
        let all = std::iter::once(0).chain(labels.classes());
        config.regions =
            all.map(|label| (label.to_string(), Region::Shares(of(label).to_vec()))).collect();
    }
    Ok((config, Regulariser { sigmas, shares, smoothing }))
}

fn region_labels<const D: usize>(inputs: &Inputs<D>) -> Done<&Labels<D>> {
    let labels = inputs.regions.as_ref().or(inputs.moving_labels.as_ref());
    labels.ok_or_else(|| {
        Failure::Input(
            "--preset rdmm-regions: expected --regions or --moving-labels, a label map of the moving image; \
             --preset rdmm finds the regulariser without one"
                .to_owned(),
        )
    })
}

/// What the initial transforms leave to be registered.
enum Before<const D: usize> {
    /// They are one affine map, perhaps the identity.
    Affine(Affine<D>),
    /// There is a warp among them: the moving image was read through all of them.
    Warped(Box<Carried<D>>),
}

/// What was carried by initial transforms.
struct Carried<const D: usize> {
    moving: Image<f32, D>,
    /// How much each voxel counts: the mask of the fixed image, where the moving image showed it.
    mask: Image<f32, D>,
    regions: Option<Labels<D>>,
    landmarks: Option<Vec<[f64; D]>>,
}

impl<const D: usize> Before<D> {
    fn of(inputs: &Inputs<D>) -> Done<Self> {
        if let Some(map) = inputs.initial.affine() {
            return Ok(Self::Affine(map));
        }
        let map = inputs.initial.displacement(inputs.fixed.grid())?;
        let regions = inputs.regions.as_ref().or(inputs.moving_labels.as_ref());
        let back = inputs.initial.inverse()?;
        let mut mask = Image::zeros(inputs.fixed.grid())?;
        Warp::new(inputs.moving.grid(), inputs.fixed.grid()).seen(map.data(), mask.data_mut());
        if let Some(of_fixed) = &inputs.fixed_mask {
            mask.data_mut().iter_mut().zip(of_fixed.data()).for_each(|(seen, mask)| *seen *= mask);
        }
        if mask.data().iter().all(|&counts| counts <= 0.0) {
            return Err(rdmm_core::Error::NoOverlap { found: 0.0, least: 0.0 }.into());
        }
        let carry = |points: &[[f64; D]]| -> rdmm_core::Result<Vec<[f64; D]>> {
            points.iter().map(|&p| back.apply(p)).collect()
        };
        Ok(Self::Warped(Box::new(Carried {
            moving: map.warp(&inputs.moving)?,
            mask,
            regions: regions.map(|labels| map.warp_labels(labels)).transpose()?,
            landmarks: inputs.landmarks.as_ref().map(|(_, moving)| carry(moving)).transpose()?,
        })))
    }
}

/// A registration on its way.
struct Run<'a, const D: usize> {
    inputs: &'a Inputs<D>,
    before: Before<D>,
    config: Config,
    regulariser: Regulariser,
    course: &'a Course<'a>,
    watch: Watch<'a>,
    earlier: f64,
}

impl<const D: usize> Run<'_, D> {
    fn grid(&self) -> &Grid<D> {
        self.inputs.fixed.grid()
    }

    fn moving(&self) -> &Image<f32, D> {
        match &self.before {
            Before::Affine(_) => &self.inputs.moving,
            Before::Warped(carried) => &carried.moving,
        }
    }

    fn initial(&self) -> Affine<D> {
        match &self.before {
            Before::Affine(map) => *map,
            Before::Warped(_) => Affine::identity(),
        }
    }

    fn intensities(&self) -> Intensities {
        self.config.intensities.mapping()
    }

    /// The affine map from where the initial transforms lead.
    fn affine(&mut self) -> Done<Affine<D>> {
        let transform = match self.config.affine.transform {
            AffineKind::None => return Ok(self.initial()),
            AffineKind::Rigid => Transform::Rigid,
            AffineKind::Similarity => Transform::Similarity,
            AffineKind::Affine => Transform::Affine,
        };
        let mut initial = self.initial();
        let start = match self.config.affine.start {
            StartKind::World => Start::World,
            StartKind::Mass => Start::Mass,
            StartKind::Moments => Start::Moments,
            StartKind::Landmarks => {
                let [fixed, moving] = self.points().ok_or_else(no_landmarks)?;
                // As the initial map places them.
                let back = initial.inverse();
                let moving: Vec<_> = moving.iter().map(|&y| back.apply(y)).collect();
                initial = initial.after(&fit(transform, fixed, &moving)?)?;
                Start::World
            }
        };
        let measure = self.config.affine.similarity.or_else(|| self.config.similarity.measure);
        // Local correlations are flat far from the optimum.
        if measure.is_local() {
            initial =
                self.affine_stage(Transform::Rigid, MeasureKind::Ncc, initial, start, None)?;
            if self.watch.stopped.is_some() {
                return Ok(initial);
            }
            return self.affine_stage(transform, measure, initial, Start::World, Some(initial));
        }
        self.affine_stage(transform, measure, initial, start, None)
    }

    /// The best of these transforms by one measure; where none is found, `otherwise`.
    fn affine_stage(
        &mut self,
        transform: Transform,
        measure: MeasureKind,
        initial: Affine<D>,
        start: Start,
        otherwise: Option<Affine<D>>,
    ) -> Done<Affine<D>> {
        let mut settings = AffineSettings::default().with_intensities(self.intensities());
        settings.levels = self.config.affine.levels.value();
        let similarity = SimilarityConfig { measure, ..self.config.similarity.clone() };
        let measure = similarity.on(self.grid());
        let mut registration =
            AffineRegistration::new(transform, measure).with_start(start).with_settings(settings);
        registration = registration.with_initial(initial);
        // The weight that they have beside the similarity of the flow.
        let of_flow = self.config.similarity.weight_on(self.grid());
        let beside = self.config.landmarks.weight / of_flow;
        if let Some(landmarks) = self.landmarks(beside)? {
            registration = registration.with_landmarks(landmarks);
        }
        if let Some(mask) = self.mask() {
            registration = registration.with_mask(mask.clone());
        }
        let mut due = None;
        let found = registration.run_with(&self.inputs.fixed, self.moving(), |_| {
            due = self.watch.due();
            if due.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let found: AffineRegistered<f32, D> = match (found, otherwise) {
            (Ok(found), _) => found,
            (Err(error @ (Error::Stretched { .. } | Error::NoOverlap { .. })), Some(kept)) => {
                self.course.log.warn(&format!("the rigid map before is kept: {error}"));
                return Ok(kept);
            }
            (Err(error), _) => return Err(error.into()),
        };
        if due.is_some() {
            // What is begun here does not go on later: the affine map would be another one.
            (self.watch.stopped, self.watch.file) = (due, None);
        }
        if found.is_worse() {
            self.course.log.warn(
                "the affine map has a higher loss than its start: try another --start, or another --affine",
            );
        }
        let AffineRegistered { map, levels, .. } = found;
        let evaluations: usize = levels.iter().map(|level| level.evaluations).sum();
        self.course.log.say(&format!(
            "affine: {evaluations} evaluations, {:.1} s",
            self.course.begin.elapsed().as_secs_f64()
        ));
        Ok(map)
    }

    fn affine_alone(mut self) -> Done<Found<D>> {
        let affine = self.affine()?;
        let map = affine.displacement(self.grid())?;
        let back = affine.inverse();
        self.found(affine, &map, &|y| Ok(back.apply(y)), None)
    }

    fn metric(&self) -> Done<MultiGaussian> {
        let Regulariser { sigmas, shares, .. } = &self.regulariser;
        MultiGaussian::new(sigmas, shares)
            .map_err(|error| Failure::at("[regulariser] (--sigmas, --shares)", error))
    }

    fn regional(&self) -> Done<Rdmm<f32, D>> {
        let labels = match &self.before {
            Before::Warped(carried) => carried.regions.as_ref(),
            Before::Affine(_) => None,
        };
        let labels = match labels {
            Some(labels) => labels,
            None => region_labels(self.inputs)?,
        };
        let Regulariser { sigmas, smoothing, .. } = &self.regulariser;
        let mut shares = BTreeMap::new();
        for (name, region) in &self.config.regions {
            let label: u32 = name.parse().map_err(|_| {
                Failure::at("[regions]", format!("expected labels, integers from 0, found {name}"))
            })?;
            let given = match region {
                Region::Shares(shares) => shares.clone(),
                Region::Sigma(local) => weights_for_sigma(sigmas, *local)?,
            };
            shares.insert(label, given);
        }
        Ok(Rdmm::new(sigmas, weights_by_label(labels, &shares)?, *smoothing)?)
    }

    fn optimised(&mut self) -> Done<RdmmOptimised<f32, D>> {
        let metric = self.metric()?;
        let shares = metric.weights().to_vec();
        let regulariser = &mut self.config.regulariser;
        let mut model = RdmmOptimised::new(metric, self.regulariser.smoothing)?;
        let given = [&regulariser.omt, &regulariser.total_variation, &regulariser.range];
        let weights: Vec<f64> = given
            .into_iter()
            .zip(model.penalties())
            .map(|(given, penalty)| given.or_else(|| penalty.weight()))
            .collect();
        if let [omt, tv, range] = weights[..] {
            model = model.with_penalties(vec![
                Arc::new(Omt::new(omt)?),
                Arc::new(TotalVariation::new(tv)?),
                Arc::new(RangePenalty::new(range, &shares)?),
            ]);
            regulariser.omt = Auto::Value(omt);
            regulariser.total_variation = Auto::Value(tv);
            regulariser.range = Auto::Value(range);
        }
        Ok(model)
    }

    fn settings(&self) -> Settings {
        let (flow, optimiser) = (&self.config.flow, &self.config.optimiser);
        let lbfgs = Lbfgs::default()
            .with_value_tolerance(optimiser.tolerance)
            .with_memory(optimiser.memory);
        let mut settings = Settings::default()
            .with_map_factor(flow.map_factor)
            .with_sigma_voxels(flow.sigma_voxels)
            .with_search(Search::MetricLbfgs { lbfgs, epsilon: 1e-3 })
            .with_intensities(self.intensities())
            .with_min_jacobian(Some(flow.min_jacobian));
        settings.similarity_weight = Some(self.config.similarity.weight_on(self.grid()));
        settings.levels = optimiser.levels.value();
        settings.integration.steps = Steps::Courant {
            number: flow.courant,
            at_least: flow.least_steps,
            at_most: flow.most_steps,
        };
        if let Some(mib) = flow.checkpoint_mib.value() {
            settings.integration.checkpoints = Checkpoints::Bytes(mib.saturating_mul(1 << 20));
        }
        settings
    }

    /// The non-linear registration.
    fn flow<M: Model<f32, D>>(mut self, model: M) -> Done<Found<D>>
    where
        <M::Shooting as Shooting<f32, D>>::Weights: Serialize + DeserializeOwned,
    {
        let saved = match self.course.file.filter(|_| self.course.resume) {
            Some(file) => file.read::<Checkpoint<f32, D, _>, D>()?,
            None => None,
        };
        let (affine, from) = match saved {
            Some(Saved { affine, history, checkpoint }) => {
                self.course.log.say(&format!("goes on after {:.1} s", checkpoint.seconds()));
                self.watch.history = history;
                self.earlier = checkpoint.seconds();
                (affine, Some(checkpoint))
            }
            None => (self.affine()?, None),
        };
        let registration = self.with_terms(model, affine)?;
        let moving = match &self.before {
            Before::Affine(_) => &self.inputs.moving,
            Before::Warped(carried) => &carried.moving,
        };
        let watch = &mut self.watch;
        let registered = registration
            .run_from(&self.inputs.fixed, moving, from, |progress, checkpoint| {
                watch.iteration(progress, &affine, checkpoint)
            })?
            .result;
        self.course.log.end();
        self.config.similarity.weight = Auto::Value(registered.report.similarity_weight);
        self.of_registered(affine, registered)
    }

    fn with_terms<M: Model<f32, D>>(
        &self,
        model: M,
        affine: Affine<D>,
    ) -> Done<Registration<M, f32, D>> {
        let measure = self.config.similarity.on(self.grid());
        let mut registration =
            Registration::new(model, measure).with_settings(self.settings()).with_initial(affine);
        if let Some(mask) = self.mask() {
            registration = registration.with_mask(mask.clone());
        }
        if let Some(landmarks) = self.landmarks(self.config.landmarks.weight)? {
            registration = registration.with_landmarks(landmarks);
        }
        Ok(registration)
    }

    /// How much each voxel of the fixed image counts.
    fn mask(&self) -> Option<&Image<f32, D>> {
        match &self.before {
            Before::Affine(_) => self.inputs.fixed_mask.as_ref(),
            Before::Warped(carried) => Some(&carried.mask),
        }
    }

    /// Points of the fixed image, and of the moving one as the initial warps carried it.
    fn points(&self) -> Option<[&[[f64; D]]; 2]> {
        let (fixed, moving) = self.inputs.landmarks.as_ref()?;
        let carried = match &self.before {
            Before::Warped(carried) => carried.landmarks.as_ref(),
            Before::Affine(_) => None,
        };
        Some([fixed, carried.unwrap_or(moving)])
    }

    /// The landmarks that are to be joined, none where they are only measured.
    fn landmarks(&self, weight: f64) -> Done<Option<Landmarks<D>>> {
        let Some([fixed, moving]) = self.points() else { return Ok(None) };
        if self.config.landmarks.weight <= 0.0 {
            return Ok(None);
        }
        Ok(Some(Landmarks::new(fixed, moving, weight)?))
    }

    fn of_registered(self, affine: Affine<D>, found: Registered<f32, D>) -> Done<Found<D>> {
        let (back, forward) = (affine.inverse(), PointMap::new(&found.forward_deformation)?);
        let map = found.inverse_map.clone();
        self.found(affine, &map, &|y| Ok(forward.apply(back.apply(y))), Some(found))
    }

    /// The result from the map after the initial warps, and its inverse.
    fn found(
        self,
        affine: Affine<D>,
        map: &Displacement<f32, D>,
        inverse: &(dyn Fn([f64; D]) -> rdmm_core::Result<[f64; D]> + Sync),
        flow: Option<Registered<f32, D>>,
    ) -> Done<Found<D>> {
        let moving = &self.inputs.moving;
        let (chain, back) = (&self.inputs.initial, self.inputs.initial.inverse()?);
        let through = |y: [f64; D]| match &self.before {
            Before::Affine(_) => inverse(y),
            Before::Warped(_) => inverse(back.apply(y)?),
        };
        let (whole, affine) = match &self.before {
            Before::Affine(_) => (map.clone(), affine),
            Before::Warped(_) => {
                let sampler = PointMap::new(map)?;
                let whole = Displacement::from_map(map.grid(), |x| chain.apply(sampler.apply(x)))?;
                let after = chain.affine_part().unwrap_or_else(Affine::identity);
                (whole, after.after(&affine)?)
            }
        };
        let mut whole = without_seam(whole)?;
        let mut inverse = without_seam(Displacement::from_map(moving.grid(), through)?)?;
        // The optimiser holds the non-linear part to its bound. This is for what initial warps and the interpolation on
        // the moving image's grid bring.
        let mut unfolded = [Unfolded::default(); 2];
        // What turns space over as a whole is no matter of some cells.
        if affine.determinant() > 0.0 {
            let unfold = Unfold::new(LEAST)?;
            unfolded = [unfold.apply(&mut whole)?, unfold.apply(&mut inverse)?];
        }
        if let Some(flow) = &flow {
            let beside = [&flow.report.unfolded, &flow.report.forward_unfolded];
            for (done, of_flow) in unfolded.iter_mut().zip(beside) {
                *done = done.after(of_flow);
            }
        }
        let (folds, inverse_folds) = (Folds::of(&whole)?, Folds::of(&inverse)?);
        let bent = flow.is_some() || matches!(self.before, Before::Warped(_));
        let nonlinear =
            bent.then(|| Nonlinear::of(&whole, &through, &affine, LEAST)).transpose()?;
        let inverse_consistency = consistency(&whole, &inverse)?;
        Ok(Found {
            det: whole.jacobian_determinant()?,
            warped: read(self.inputs.moving_as_given(), &whole)?,
            map: whole,
            inverse,
            affine,
            nonlinear,
            folds,
            inverse_folds,
            unfolded,
            flow,
            inverse_consistency,
            stopped: self.watch.stopped,
            history: self.watch.history,
            earlier: self.earlier,
            config: self.config,
        })
    }
}
