//! What a pair of images is registered with, read and checked.

use std::path::{Path, PathBuf};

use rdmm_core::field::Image;
use rdmm_core::grid::{Boundary, Grid};
use rdmm_core::labels::Labels;
use rdmm_io::points::Points;
use rdmm_io::transform::{Chain, Listed};
use rdmm_io::{Forms, Geometry, Meaning, Volume};

use crate::cli::BesideArgs;
use crate::config::Config;
use crate::failure::{Done, Failure};
use crate::intensities::{Which, cut};
use crate::log::Log;
use crate::maps::inside;

/// Points of the fixed image, and the same ones of the moving image.
pub(crate) type Landmarks<const D: usize> = (Vec<[f64; D]>, Vec<[f64; D]>);

/// A pair of images and what belongs to it.
pub(crate) struct Inputs<const D: usize> {
    /// Both with what the configuration cuts off.
    pub(crate) fixed: Image<f32, D>,
    pub(crate) moving: Image<f32, D>,
    /// The moving image without, where something was cut off.
    uncut: Option<Image<f32, D>>,
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
    let grey = matches!(volume.meaning, Meaning::Colours | Meaning::Indexed);
    volume.image::<D>().map_err(|problem| match volume.components {
        2.. if !grey => Failure::at(
            path.display(),
            format!("{problem}; rdmm apply --volume N --fixed FILE --moving FILE --out ONE writes the volume N, from 0"),
        ),
        _ => problem.at(path).into(),
    })
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

/// The lattice of an image, or the one over the same box with the spacing that `--spacing` names.
pub(crate) fn lattice(geometry: &Geometry, spacing: &[f64]) -> Done<Geometry> {
    let spacing = match spacing {
        [] => return Ok(geometry.clone()),
        &[one] => vec![one; geometry.shape.len()],
        all => all.to_vec(),
    };
    geometry.respaced(&spacing).map_err(|problem| Failure::at("--spacing", problem))
}

/// How far, in voxels, a corner may be from where it is on another grid for both to count as one: programs round headers.
const ROUNDED: f64 = 1e-2;

/// Whether both grids are the same but for rounded headers.
fn near<const D: usize>(found: &Grid<D>, expected: &Grid<D>) -> bool {
    let corner = |bits: usize| -> [f64; D] {
        std::array::from_fn(
            |a| if bits >> a & 1 == 0 { 0.0 } else { expected.shape()[a] as f64 - 1.0 },
        )
    };
    found.shape() == expected.shape()
        && (0..1 << D).map(corner).all(|index| {
            let there = found.to_index(expected.to_world(index));
            (0..D).all(|a| (there[a] - index[a]).abs() <= ROUNDED)
        })
}

/// Labels on the grid of their image, which theirs is but for rounding.
pub(crate) fn onto<const D: usize>(labels: Labels<D>, grid: &Grid<D>) -> Done<Labels<D>> {
    if labels.grid().same_lattice(grid) {
        return Ok(labels);
    }
    Ok(Labels::from_vec(grid, labels.data().to_vec())?)
}

/// `Ok` if the label map of a file is over the grid of its image.
pub(crate) fn expect_grid<const D: usize>(
    path: &Path,
    found: &Grid<D>,
    expected: &Grid<D>,
) -> Done {
    if near(found, expected) {
        return Ok(());
    }
    let problem = format!("expected the grid of its image, {expected}, found {found}: resample it");
    Err(Failure::at(path.display(), problem))
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
        let target = with_boundary(image(fixed.0, fixed.1)?)?;
        let source = with_boundary(image(moving.0, moving.1)?)?;
        let (moving, uncut) = match cut(&source, &config.intensities, Which::Moving) {
            Some(less) => (less, Some(source)),
            None => (source, None),
        };
        let inputs = Self {
            fixed: cut(&target, &config.intensities, Which::Fixed).unwrap_or(target),
            moving,
            uncut,
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
        inputs.checked(beside, boundary)
    }

    /// The moving image with all grey values of its file.
    pub(crate) fn moving_as_given(&self) -> &Image<f32, D> {
        self.uncut.as_ref().unwrap_or(&self.moving)
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
            let grid = self.fixed.grid().clone().with_boundary(boundary);
            if mask.data().iter().all(|&x| x == 0.0) {
                let problem = "the mask is empty: expected some voxels above 0";
                return Err(Failure::at(path.display(), problem));
            }
            self.fixed_mask = Some(Image::from_vec(&grid, mask.data().to_vec())?);
        }
        let moved = |labels: Option<Labels<D>>, grid: &Grid<D>| {
            labels.map(|labels| onto(labels, grid)).transpose()
        };
        self.fixed_labels = moved(self.fixed_labels, self.fixed.grid())?;
        self.moving_labels = moved(self.moving_labels, self.moving.grid())?;
        self.regions = moved(self.regions, self.moving.grid())?;
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
