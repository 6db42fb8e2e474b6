//! What a pair of images is registered with, read and checked.

use std::path::{Path, PathBuf};

use rdmm_core::field::Image;
use rdmm_core::grid::{Boundary, Grid};
use rdmm_core::labels::Labels;
use rdmm_core::registration::Intensities;
use rdmm_io::points::Points;
use rdmm_io::transform::{Chain, Listed};
use rdmm_io::{Forms, Meaning, Volume};

use crate::cli::BesideArgs;
use crate::config::Config;
use crate::failure::{Done, Failure};
use crate::log::Log;
use crate::maps::inside;

/// Points of the fixed image, and the same ones of the moving image.
pub(crate) type Landmarks<const D: usize> = (Vec<[f64; D]>, Vec<[f64; D]>);

/// A pair of images and what belongs to it.
pub(crate) struct Inputs<const D: usize> {
    pub(crate) fixed: Image<f32, D>,
    pub(crate) moving: Image<f32, D>,
    pub(crate) fixed_labels: Option<Labels<D>>,
    pub(crate) moving_labels: Option<Labels<D>>,
    pub(crate) fixed_mask: Option<Image<f32, D>>,
    pub(crate) landmarks: Option<Landmarks<D>>,
    pub(crate) regions: Option<Labels<D>>,
    pub(crate) initial: Chain<D>,
    /// How the fixed file gives its place, for results on its lattice.
    pub(crate) forms: Option<Forms>,
}

/// The number of axes of both images.
pub(crate) fn common_dimension(fixed: (&Path, &Volume), moving: (&Path, &Volume)) -> Done<usize> {
    let (a, b) = (fixed.1.dimension(), moving.1.dimension());
    if a == b {
        return Ok(a);
    }
    Err(Failure::Input(format!(
        "{} has {a} axes and {} has {b}: expected the same number; extract a slice of one or stack the other",
        fixed.0.display(),
        moving.0.display(),
    )))
}

/// A file of an image, with what is doubtful about it said.
pub(crate) fn volume(path: &Path, log: &Log) -> Done<Volume> {
    let volume = rdmm_io::read(path)?;
    for warning in &volume.warnings {
        log.warn(&format!("{}: {warning}", path.display()));
    }
    Ok(volume)
}

/// The same of an image that is used by its grey values: it is said where these are made of colours.
pub(crate) fn grey(path: &Path, log: &Log) -> Done<Volume> {
    let volume = volume(path, log)?;
    if matches!(volume.meaning, Meaning::Colours | Meaning::Indexed) {
        log.warn(&format!(
            "{}: colours are used, and written, as grey values; rdmm apply carries the colours",
            path.display()
        ));
    }
    Ok(volume)
}

/// An image of a volume that was read from `path`.
pub(crate) fn image<const D: usize>(path: &Path, volume: &Volume) -> Done<Image<f32, D>> {
    volume.image::<D>().map_err(|problem| problem.at(path).into())
}

/// A label map of the images' dimension.
pub(crate) fn labels<const D: usize>(path: &Path) -> Done<Labels<D>> {
    Ok(rdmm_io::read_labels::<D>(path)?)
}

/// The list of transforms that options name, the first one applied first to points of the fixed image.
/// `option` is where they are named.
pub(crate) fn chain<const D: usize>(option: &str, texts: &[String]) -> Done<Chain<D>> {
    Ok(Chain::read(&listed(option, texts)?)?)
}

/// The files that a list of transforms names.
pub(crate) fn listed(option: &str, texts: &[String]) -> Done<Vec<Listed>> {
    let parsed = |text: &String| text.parse().map_err(|problem| Failure::at(option, problem));
    texts.iter().map(parsed).collect()
}

/// What was read of transforms, or else why not; `--dimension` is named where they have another one.
pub(crate) fn of_dimension<T>(
    read: rdmm_io::Result<T>,
    listed: &[Listed],
    expected: usize,
) -> Done<T> {
    read.map_err(|error| {
        let (found, reads) = match expected {
            2 => (3, Chain::<3>::read(listed).is_ok()),
            _ => (2, Chain::<2>::read(listed).is_ok()),
        };
        if !reads {
            return error.into();
        }
        let problem = format!(
            "expected a transform of {expected} axes, found one of {found}: add --dimension {found}"
        );
        Failure::at(error.path.display(), problem)
    })
}

/// `Ok` if the label map of a file is over the grid of its image.
pub(crate) fn expect_grid<const D: usize>(
    path: &Path,
    found: &Grid<D>,
    expected: &Grid<D>,
) -> Done {
    if found.same_lattice(expected) {
        return Ok(());
    }
    let problem = format!("expected the grid of its image, {expected}, found {found}: resample it");
    Err(Failure::at(path.display(), problem))
}

/// What is wrong with the percentiles of an image that is not constant: few of its voxels are of other values.
fn contrast(error: &rdmm_core::Error) -> String {
    match error {
        rdmm_core::Error::NoContrast { .. } => format!(
            "{error}; if only few voxels are bright, as in sparse images and masks, set low = 0 and high = 1 under \
             [intensities] in the configuration (--config)"
        ),
        _ => error.to_string(),
    }
}

/// Points of two files, as many in both.
pub(crate) fn landmarks<const D: usize>(
    files: (Option<&PathBuf>, Option<&PathBuf>),
) -> Done<Option<Landmarks<D>>> {
    let (Some(fixed), Some(moving)) = files else { return Ok(None) };
    let read = |path: &PathBuf| Points::<D>::read(path).map(|points| points.positions().to_vec());
    let (a, b) = (read(fixed)?, read(moving)?);
    if a.len() == b.len() && !a.is_empty() {
        return Ok(Some((a, b)));
    }
    let expected = "expected as many points in both, at least one";
    let (m, n) = (a.len(), b.len());
    Err(Failure::at(
        moving.display(),
        format!("{expected}; found {n}, and {m} in {}", fixed.display()),
    ))
}

impl<const D: usize> Inputs<D> {
    /// Reads what `beside` names. Both images and what lies on them get the boundary.
    pub(crate) fn read(
        fixed: (&Path, &Volume),
        moving: (&Path, &Volume),
        beside: &BesideArgs,
        config: &Config,
    ) -> Done<Self> {
        let boundary = config.regulariser.boundary.core();
        let with_boundary = |image: Image<f32, D>| -> Done<Image<f32, D>> {
            let grid: Grid<D> = image.grid().clone().with_boundary(boundary);
            Ok(image.on_grid(&grid)?)
        };
        let label_map = |path: &Option<PathBuf>| path.as_deref().map(labels::<D>).transpose();
        let inputs = Self {
            fixed: with_boundary(image(fixed.0, fixed.1)?)?,
            moving: with_boundary(image(moving.0, moving.1)?)?,
            fixed_labels: label_map(&beside.fixed_labels)?,
            moving_labels: label_map(&beside.moving_labels)?,
            fixed_mask: beside.fixed_mask.as_deref().map(rdmm_io::read_mask).transpose()?,
            landmarks: landmarks((
                beside.fixed_landmarks.as_ref(),
                beside.moving_landmarks.as_ref(),
            ))?,
            regions: label_map(&beside.regions)?,
            initial: chain("--initial", &beside.initial)?,
            forms: fixed.1.forms.clone(),
        };
        for (path, image) in [(fixed.0, &inputs.fixed), (moving.0, &inputs.moving)] {
            let first = image.data().first();
            if image.data().iter().all(|x| Some(x) == first) {
                let problem = "all voxels are alike, expected some contrast: is it the right file?";
                return Err(Failure::at(path.display(), problem));
            }
            let (low, high) = (config.intensities.low, config.intensities.high);
            Intensities::Percentiles { low, high }
                .applied(image, "image between its percentiles [intensities]")
                .map_err(|error| Failure::at(path.display(), contrast(&error)))?;
        }
        inputs.checked(beside, boundary)
    }

    fn checked(mut self, beside: &BesideArgs, boundary: Boundary) -> Done<Self> {
        let grids = [
            (&beside.fixed_labels, self.fixed_labels.as_ref().map(Labels::grid), self.fixed.grid()),
            (
                &beside.moving_labels,
                self.moving_labels.as_ref().map(Labels::grid),
                self.moving.grid(),
            ),
            (&beside.regions, self.regions.as_ref().map(Labels::grid), self.moving.grid()),
        ];
        for (path, found, expected) in grids {
            if let (Some(path), Some(found)) = (path, found) {
                expect_grid(path, found, expected)?;
            }
        }
        if let (Some(mask), Some(path)) = (self.fixed_mask.take(), &beside.fixed_mask) {
            expect_grid(path, mask.grid(), self.fixed.grid())?;
            let grid = mask.grid().clone().with_boundary(boundary);
            if mask.data().iter().all(|&x| x == 0.0) {
                let problem = "the mask is empty: expected some voxels above 0";
                return Err(Failure::at(path.display(), problem));
            }
            self.fixed_mask = Some(mask.on_grid(&grid)?);
        }
        if let (Some((fixed, _)), Some(path)) = (&self.landmarks, &beside.fixed_landmarks)
            && !beside.landmarks_only_measured
        {
            let grid = self.fixed.grid();
            if let Some(at) = fixed.iter().position(|&x| !inside(grid.shape(), grid.to_index(x))) {
                let problem = format!(
                    "expected landmarks inside the fixed image (LPS, mm), found {:?} as number {}: \
                     leave it out, turn the signs of x and y of RAS, or add --landmarks-only-measured",
                    fixed[at],
                    at + 1
                );
                return Err(Failure::at(path.display(), problem));
            }
        }
        Ok(self)
    }
}
