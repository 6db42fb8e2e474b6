//! One pair of images and the ways to register it.

use std::collections::BTreeMap;
use std::error::Error;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use rdmm_core::evaluate::{
    dice, dice_whole, inverse_consistency, mse, ncc, target_registration_error,
};
use rdmm_core::field::{Displacement, Image};
use rdmm_core::labels::Labels;
use rdmm_core::model::{Lddmm, Model, MultiGaussian, Rdmm, RdmmOptimised, Vsvf, weights_by_label};
use rdmm_core::registration::{Level, Progress, Registration, Settings};
use rdmm_core::regularize::{Omt, RangePenalty, TotalVariation};
use rdmm_core::similarity::{Lncc, MultiLncc, MutualInformation, Ncc, Nmi, Ssd};
use rdmm_core::world::Affine;

use super::outcome::{Outcome, Overlap};
use super::panel::{Orientation, Panel};
use super::regional::Regional;

type Fallible<T> = Result<T, Box<dyn Error>>;

/// Standard deviations and G of RDMM with given regions, in largest extents: those of the paper.
const SIGMAS: [f64; 4] = [0.03, 0.06, 0.09, 0.3];
const SMOOTHING: f64 = 0.05;
/// Weights of these Gaussians where the regulariser is stiff, and where it is permissive.
const STIFF: [f64; 4] = [0.0, 0.0, 0.0, 1.0];
const PERMISSIVE: [f64; 4] = [0.2, 0.5, 0.3, 0.0];

/// Points of the fixed image, and the same ones of the moving image.
pub type Points<'a, const D: usize> = (&'a [[f64; D]], &'a [[f64; D]]);

/// Which model registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Vsvf,
    Lddmm,
    /// With given regions.
    Rdmm,
    RdmmOptimised,
}

impl std::str::FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let all = [Self::Vsvf, Self::Lddmm, Self::Rdmm, Self::RdmmOptimised];
        let expected = || all.map(Self::stem).join(", ");
        let found = all.into_iter().find(|kind| kind.stem() == name);
        found.ok_or_else(|| format!("--model: expected one of {}, found {name}", expected()))
    }
}

impl Kind {
    /// The name of its files.
    pub fn stem(self) -> &'static str {
        match self {
            Self::Vsvf => "vsvf",
            Self::Lddmm => "lddmm",
            Self::Rdmm => "rdmm",
            Self::RdmmOptimised => "rdmm-optimised",
        }
    }
}

/// Which similarity measure is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Similarity {
    Ssd,
    Ncc,
    /// In Gaussian windows of four voxels of the finest level.
    Lncc,
    /// In the paper's windows.
    MultiLncc,
    MutualInformation,
    Nmi,
}

impl std::str::FromStr for Similarity {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "ssd" => Ok(Self::Ssd),
            "ncc" => Ok(Self::Ncc),
            "lncc" => Ok(Self::Lncc),
            "mk-lncc" => Ok(Self::MultiLncc),
            "mi" => Ok(Self::MutualInformation),
            "nmi" => Ok(Self::Nmi),
            other => {
                let expected = "ssd, ncc, lncc, mk-lncc, mi or nmi";
                Err(format!("--similarity: expected {expected}, found {other}"))
            }
        }
    }
}

/// A pair of images and what is known about them.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a, const D: usize> {
    pub fixed: &'a Image<f32, D>,
    pub moving: &'a Image<f32, D>,
    /// Objects of the fixed and of the moving image.
    pub labels: Option<(&'a Labels<D>, &'a Labels<D>)>,
    /// Regions of the moving image: 0 is stiff, other labels are permissive.
    pub regions: Option<&'a Labels<D>>,
    /// The permissive region in the fixed image, where it is known.
    pub fixed_region: Option<&'a Labels<D>>,
    /// Where to draw the map without the images.
    pub maps: Option<&'a Path>,
    /// Standard deviation of the smoothing of the labels, physical units, where they alone are matched.
    pub by_labels: Option<f64>,
    /// Resolution levels; `None` takes the default ones.
    pub levels: Option<&'a [Level]>,
    /// Where the registration starts from.
    pub initial: Affine<D>,
    /// The same points in the fixed and in the moving image, world coordinates.
    pub points: Option<Points<'a, D>>,
    /// λ of OMT, total variation and range; `None` takes the default ones.
    pub penalties: Option<[f64; 3]>,
    /// Weights of the fixed image's voxels, from 0 to 1.
    pub mask: Option<&'a Image<f32, D>>,
    pub orientation: Orientation,
}

impl<'a, const D: usize> Case<'a, D> {
    /// Two images of which nothing else is known, registered by default settings.
    pub fn new(
        fixed: &'a Image<f32, D>,
        moving: &'a Image<f32, D>,
        orientation: Orientation,
    ) -> Self {
        Self {
            fixed,
            moving,
            labels: None,
            regions: None,
            fixed_region: None,
            maps: None,
            by_labels: None,
            levels: None,
            initial: Affine::identity(),
            points: None,
            penalties: None,
            mask: None,
            orientation,
        }
    }

    /// Registers the pair and draws `panel`.
    pub fn register(
        &self,
        kind: Kind,
        similarity: Similarity,
        weight: Option<f64>,
        panel: &Path,
    ) -> Fallible<Outcome> {
        let grid = self.fixed.grid();
        let extent = grid.largest_extent();
        let metric = MultiGaussian::for_grid(grid);
        match kind {
            Kind::Vsvf => self.run(Vsvf::new(metric), similarity, weight, panel),
            Kind::Lddmm => self.run(Lddmm::new(metric), similarity, weight, panel),
            Kind::Rdmm => {
                let regions = self.regions.ok_or("RDMM with regions needs labels")?;
                let weights = |label: &u32| if *label == 0 { STIFF } else { PERMISSIVE }.to_vec();
                let labels = std::iter::once(0).chain(regions.classes());
                let by_label: BTreeMap<_, _> =
                    labels.map(|label| (label, weights(&label))).collect();
                let weights = weights_by_label(regions, &by_label)?;
                let model = Rdmm::new(&SIGMAS.map(|s| s * extent), weights, SMOOTHING * extent)?;
                self.run(model, similarity, weight, panel)
            }
            Kind::RdmmOptimised => {
                let weights = metric.weights().to_vec();
                let mut model = RdmmOptimised::new(metric, SMOOTHING * extent)?;
                if let Some([omt, tv, range]) = self.penalties {
                    model = model.with_penalties(vec![
                        Arc::new(Omt::new(omt)?),
                        Arc::new(TotalVariation::new(tv)?),
                        Arc::new(RangePenalty::new(range, &weights)?),
                    ]);
                }
                self.run(model, similarity, weight, panel)
            }
        }
    }

    fn run<M: Model<f32, D>>(
        &self,
        model: M,
        similarity: Similarity,
        weight: Option<f64>,
        panel: &Path,
    ) -> Fallible<Outcome> {
        let name = model.name();
        let grid = self.fixed.grid();
        // Four voxels of the finest level.
        let finest = self.levels.and_then(<[Level]>::last).map_or(1.0, |level| level.factor);
        let sigma = 4.0 * finest * grid.coarsest_spacing();
        let registration = match similarity {
            Similarity::Ssd => Registration::new(model, Ssd),
            Similarity::Ncc => Registration::new(model, Ncc),
            Similarity::Lncc => Registration::new(model, Lncc { sigma }),
            Similarity::MultiLncc => Registration::new(model, MultiLncc::for_grid(grid)),
            Similarity::MutualInformation => Registration::new(model, MutualInformation::default()),
            Similarity::Nmi => Registration::new(model, Nmi::default()),
        };
        let mut settings = Settings::default();
        settings.similarity_weight = weight;
        settings.levels = self.levels.map(<[Level]>::to_vec);
        // NCC and MSE are of the images as the registration saw them, so that MSE has no unit.
        let fixed = settings.intensities.applied(self.fixed, "fixed image")?;
        let moving = settings.intensities.applied(self.moving, "moving image")?;
        let mut registration = registration.with_settings(settings).with_initial(self.initial);
        if let Some(mask) = self.mask {
            registration = registration.with_mask(mask.clone());
        }

        let mut last: Option<Progress> = None;
        let watch = |progress: &Progress| {
            if let Some(done) = last.replace(progress.clone())
                && done.level < progress.level
            {
                line(name, &done);
            }
            ControlFlow::Continue(())
        };
        let result = match (self.by_labels, self.labels) {
            (Some(sigma), Some((fixed, moving))) => registration.run_labels(fixed, moving, sigma),
            _ => registration.run_with(self.fixed, self.moving, watch),
        }?;
        if let Some(done) = &last {
            line(name, done);
        }

        let rest = Displacement::zeros(grid)?;
        let (before, after) = (rest.warp(&moving)?, result.inverse_map.warp(&moving)?);
        let inverse = inverse_consistency(&result.forward_map, &result.inverse_map)?;
        let outcome = Outcome {
            ncc: [ncc(&before, &fixed, self.mask)?, ncc(&after, &fixed, self.mask)?],
            mse: [mse(&before, &fixed, self.mask)?, mse(&after, &fixed, self.mask)?],
            overlap: match self.labels {
                None => None,
                Some(labels) => Some([
                    overlap(labels, &rest, [&before, &fixed])?,
                    overlap(labels, &result.inverse_map, [&after, &fixed])?,
                ]),
            },
            inverse: [inverse.mean, inverse.max],
            landmarks: match self.points {
                None => None,
                Some((fixed, moving)) => Some([
                    mean(&target_registration_error(&rest, fixed, moving)?),
                    mean(&target_registration_error(
                        &self.initial.displacement::<f32>(grid)?,
                        fixed,
                        moving,
                    )?),
                    mean(&target_registration_error(&result.inverse_map, fixed, moving)?),
                ]),
            },
            regional: match (self.fixed_region, self.regions, self.labels) {
                (Some(fixed), Some(moving), Some((_, objects))) => {
                    Some(Regional::of(&result, [fixed, moving], objects)?)
                }
                _ => None,
            },
            spacing: grid.coarsest_spacing(),
            report: result.report,
        };

        let panels = Panel {
            title: &format!("{name}: {}", outcome.summary()),
            source: &moving,
            target: &fixed,
            warped: &after,
            map: &result.inverse_map,
            det: &result.inverse_map.jacobian_determinant()?,
            sigma0: result.sigma_start.as_ref().filter(|sigma| varies(sigma)),
            sigma1: result.sigma_end.as_ref().filter(|sigma| varies(sigma)),
            orientation: self.orientation,
        };
        let with_path = |path: &Path, drawn: Fallible<()>| {
            drawn.map_err(|error| format!("{}: {error}", path.display()))
        };
        with_path(panel, panels.draw(panel))?;
        if let Some(path) = self.maps {
            with_path(path, panels.draw_map(path))?;
        }
        Ok(outcome)
    }
}

/// The overlap of the objects under a map, and the NCC of the images in the union of all objects.
fn overlap<const D: usize>(
    (fixed, moving): (&Labels<D>, &Labels<D>),
    map: &Displacement<f32, D>,
    [warped, target]: [&Image<f32, D>; 2],
) -> Fallible<Overlap> {
    let moved = map.warp_labels(moving)?;
    let mut union = Image::zeros(fixed.grid())?;
    for ((x, &a), &b) in union.data_mut().iter_mut().zip(fixed.data()).zip(moved.data()) {
        *x = if a != 0 || b != 0 { 1.0 } else { 0.0 };
    }
    Ok(Overlap {
        by_label: dice(&moved, fixed)?,
        whole: dice_whole(&moved, fixed)?,
        ncc: ncc(warped, target, Some(&union))?,
    })
}

fn mean(errors: &[f64]) -> f64 {
    errors.iter().sum::<f64>() / errors.len() as f64
}

/// Whether an image varies beyond rounding.
fn varies<const D: usize>(image: &Image<f32, D>) -> bool {
    let (low, high) = image
        .data()
        .iter()
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &x| (low.min(x), high.max(x)));
    high - low > 1e-4 * high.abs()
}

/// One line on a level that is done.
fn line(name: &str, done: &Progress) {
    eprintln!(
        "{name}, level {} of {}: {} iterations, energy {:.3e}, loss {:.3e}, {} steps, {:.1} s",
        done.level + 1,
        done.levels,
        done.iteration,
        done.diagnostics.terms.total,
        done.diagnostics.terms.similarity,
        done.diagnostics.steps,
        done.seconds,
    );
}
