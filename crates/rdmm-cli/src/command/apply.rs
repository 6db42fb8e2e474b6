//! `rdmm apply`: images, label maps and points through transforms.

use std::path::Path;

use rayon::prelude::*;
use rdmm_core::grid::Grid;
use rdmm_io::points::Points;
use rdmm_io::transform::Chain;
use rdmm_io::{Lattice, Meaning, Problem, Sample, Volume};

use crate::cli::{ApplyArgs, Interpolation};
use crate::failure::{Done, Failure};
use crate::files::{Kind, write_volume};
use crate::inputs;
use crate::log::Log;
use crate::maps::{carried, inside, read};

/// Carries what the options name.
pub(crate) fn run(args: &ApplyArgs, log: &Log) -> Done {
    match (&args.points, &args.moving, &args.fixed) {
        (Some(path), ..) => match args.dimension {
            2 => carry_points::<2>(args, path)?,
            _ => carry_points::<3>(args, path)?,
        },
        (None, Some(moving), Some(fixed)) => {
            let (a, b) = (inputs::volume(fixed, log)?, inputs::volume(moving, log)?);
            match inputs::common_dimension((fixed, &a), (moving, &b))? {
                2 => carry_image::<2>(args, fixed, &a, moving, &b)?,
                _ => carry_image::<3>(args, fixed, &a, moving, &b)?,
            }
        }
        _ => return Err(Failure::at("rdmm apply", "expected --moving and --fixed, or --points")),
    }
    log.say(&format!("written: {}", args.out.display()));
    Ok(())
}

fn carry_points<const D: usize>(args: &ApplyArgs, path: &Path) -> Done {
    let listed = inputs::listed("--transform", &args.transforms)?;
    let chain = inputs::of_dimension(Chain::<D>::read(&listed), &listed, D)?;
    let mut points = Points::<D>::read(path)?;
    let moved: rdmm_core::Result<Vec<_>> =
        points.positions().iter().map(|&point| chain.apply(point)).collect();
    points.set_positions(moved?)?;
    Ok(points.write(&args.out)?)
}

fn carry_image<const D: usize>(
    args: &ApplyArgs,
    fixed_path: &Path,
    fixed: &Volume,
    moving_path: &Path,
    moving: &Volume,
) -> Done {
    let chain = inputs::chain::<D>("--transform", &args.transforms)?;
    let kind = Kind::of(&args.out);
    let onto = || -> Done<Grid<D>> { fixed.geometry.grid().map_err(|p| thin(fixed_path, p)) };
    let sampled = |source: &Volume, value: fn(&Component<'_, D>, [f64; D]) -> f64| {
        sampled(source, fixed, &chain, value)
            .map_err(|problem| Failure::from(problem.at(fixed_path)))
    };
    match args.interpolation {
        Interpolation::Cubic => {
            let source = interpolable(moving_path, moving)?;
            let map = chain.displacement(&onto()?)?;
            let mut values = Vec::new();
            for component in source.values.chunks_exact(source.values.len() / source.components) {
                let component = Volume::new(
                    source.geometry.clone(),
                    1,
                    Meaning::Values,
                    source.sample,
                    component.to_vec(),
                );
                let image = component.image::<D>().map_err(|p| thin(moving_path, p))?;
                values.append(&mut Volume::of_image(&read(&image, &map)?).values);
            }
            let moved = Volume::new(
                fixed.geometry.clone(),
                source.components,
                source.meaning,
                Sample::F32,
                values,
            );
            write_volume(&args.out, kind, moved.placed_as(fixed), moving)
        }
        Interpolation::Linear => {
            let source = interpolable(moving_path, moving)?;
            let mut moved = sampled(&source, linear)?;
            moved.sample = Sample::F32;
            write_volume(&args.out, kind, moved.placed_as(fixed), moving)
        }
        Interpolation::Labels => {
            let labels = moving.labels::<D>().map_err(|p| thin(moving_path, p))?;
            let moved = carried(&labels, &chain.displacement(&onto()?)?)?;
            Ok(rdmm_io::write(&args.out, &Volume::of_labels(&moved).placed_as(fixed))?)
        }
        Interpolation::Nearest => {
            let moved = sampled(&numbers(moving_path, moving)?, nearest)?;
            Ok(rdmm_io::write(&args.out, &moved.placed_as(fixed))?)
        }
    }
}

/// What a volume cannot be used for, with the way out for axes that are too short for splines.
fn thin(path: &Path, problem: Problem) -> Failure {
    match problem {
        Problem::Core(rdmm_core::Error::AxisTooShort { .. }) => Failure::at(
            path.display(),
            format!("{problem}; or take -i linear or -i nearest, for any number of voxels"),
        ),
        _ => problem.at(path).into(),
    }
}

/// A volume of grey values or colours, those of a palette without it.
fn numbers(path: &Path, volume: &Volume) -> Done<Volume> {
    let voxels = volume.values.len() / volume.components.max(1);
    let part = |components: std::ops::Range<usize>, meaning: Meaning| {
        let values = volume.values[voxels * components.start..voxels * components.end].to_vec();
        Volume::new(volume.geometry.clone(), components.len(), meaning, volume.sample, values)
    };
    match (volume.meaning, volume.components) {
        (Meaning::Indexed, 4) => Ok(part(3..4, Meaning::Values)),
        (Meaning::Values, 1) | (Meaning::Colours, 3..) => {
            Ok(part(0..volume.components, volume.meaning))
        }
        (meaning, components) => {
            let problem = format!(
                "expected one grey value or a colour a voxel, found {components} numbers ({meaning:?}): extract one"
            );
            Err(Failure::at(path.display(), problem))
        }
    }
}

/// The same where values are mixed: finite numbers, and the colours of a palette.
fn interpolable(path: &Path, volume: &Volume) -> Done<Volume> {
    let voxels = volume.values.len() / volume.components.max(1);
    if let Some(at) = volume.values.iter().position(|x| !x.is_finite()) {
        let problem = format!(
            "expected finite numbers, found {} at number {} of the voxels: replace such voxels first, or take -i nearest",
            volume.values[at],
            at % voxels
        );
        return Err(Failure::at(path.display(), problem));
    }
    if (volume.meaning, volume.components) == (Meaning::Indexed, 4) {
        let values = volume.values[..3 * voxels].to_vec();
        return Ok(Volume::new(
            volume.geometry.clone(),
            3,
            Meaning::Colours,
            volume.sample,
            values,
        ));
    }
    numbers(path, volume)
}

/// Values of one component, and where they are.
struct Component<'a, const D: usize> {
    shape: [usize; D],
    values: &'a [f64],
}

impl<const D: usize> Component<'_, D> {
    /// The value of the nearest voxel: the first axis is the fastest.
    fn at(&self, index: [f64; D]) -> f64 {
        let along = |flat: usize, a: usize| flat * self.shape[a] + voxel(index[a], self.shape[a]);
        self.values[(0..D).rev().fold(0, along)]
    }
}

/// All components of `moving` on the lattice of `fixed`, zero beyond it, as ITK has it.
fn sampled<const D: usize>(
    moving: &Volume,
    fixed: &Volume,
    chain: &Chain<D>,
    value: fn(&Component<'_, D>, [f64; D]) -> f64,
) -> Result<Volume, Problem> {
    let (from, onto) = (moving.geometry.lattice::<D>()?, fixed.geometry.lattice::<D>()?);
    let places = places(&from, &onto, chain)?;
    let mut values = Vec::new();
    for component in moving.values.chunks_exact(from.len()) {
        let component = Component { shape: from.shape(), values: component };
        values
            .extend(places.iter().map(|place| place.map_or(0.0, |index| value(&component, index))));
    }
    let geometry = fixed.geometry.clone();
    Ok(Volume::new(geometry, moving.components, moving.meaning, moving.sample, values))
}

/// Fractional voxels of `from` that the voxels of `onto` are read at; `None` more than half a voxel outside.
fn places<const D: usize>(
    from: &Lattice<D>,
    onto: &Lattice<D>,
    chain: &Chain<D>,
) -> rdmm_core::Result<Vec<Option<[f64; D]>>> {
    let place = |flat: usize| {
        let x = onto.to_world(onto.unravel(flat).map(|i| i as f64));
        let index = from.to_index(chain.apply(x)?);
        Ok(inside(from.shape(), index).then_some(index))
    };
    (0..onto.len()).into_par_iter().map(place).collect()
}

/// The nearest whole voxel along an axis of `n`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the axis")]
fn voxel(index: f64, n: usize) -> usize {
    index.round().clamp(0.0, n as f64 - 1.0) as usize
}

fn nearest<const D: usize>(component: &Component<'_, D>, index: [f64; D]) -> f64 {
    component.at(index)
}

/// Linear between the voxels, in single precision.
fn linear<const D: usize>(component: &Component<'_, D>, index: [f64; D]) -> f64 {
    let corner = |bits: usize| {
        let (mut weight, mut at) = (1.0, index);
        for a in 0..D {
            let low = index[a].floor();
            let upper = bits >> a & 1 == 1;
            let share = index[a] - low;
            weight *= if upper { share } else { 1.0 - share };
            at[a] = low + f64::from(u8::from(upper));
        }
        weight * component.at(at)
    };
    #[expect(clippy::cast_possible_truncation, reason = "images are kept in single precision")]
    let value = (0..1 << D).map(corner).sum::<f64>() as f32;
    f64::from(value)
}
