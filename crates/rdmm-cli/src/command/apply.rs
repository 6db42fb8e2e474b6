//! `rdmm apply`: images, label maps and points through transforms.

use std::path::Path;

use rdmm_core::field::Displacement;
use rdmm_core::grid::Grid;
use rdmm_io::points::Points;
use rdmm_io::{Chain, Geometry, Meaning, Problem, Sample, Volume};

use crate::beyond;
use crate::cli::{ApplyArgs, Interpolation};
use crate::failure::{Done, Failure};
use crate::files::{Kind, write_volume};
use crate::inputs;
use crate::log::Log;
use crate::maps::{carried_or, read_or};
use crate::resample::{Reading, component, holds, linear, nearest, sampled};

/// Carries what the options name.
pub(crate) fn run(args: &ApplyArgs, log: &Log) -> Done {
    match (&args.points, &args.moving, &args.fixed) {
        (Some(path), ..) => match args.dimension {
            2 => carry_points::<2>(args, path, log)?,
            _ => carry_points::<3>(args, path, log)?,
        },
        (None, Some(moving), Some(fixed)) => {
            let (a, b) = (inputs::volume(fixed, log)?, inputs::volume(moving, log)?);
            let dimension = inputs::common_dimension((fixed, &a), (moving, &b))?;
            let b = chosen(moving, b, args.volume)?;
            let files = Files { args, fixed, moving, like: &a, log };
            match dimension {
                2 => files.carry::<2>(&b)?,
                _ => files.carry::<3>(&b)?,
            }
        }
        _ => return Err(Failure::at("rdmm apply", "expected --moving and --fixed, or --points")),
    }
    log.say(&format!("written: {}", args.out.display()));
    Ok(())
}

fn carry_points<const D: usize>(args: &ApplyArgs, path: &Path, log: &Log) -> Done {
    if args.transforms.is_empty() {
        let problem = "expected a transform beside --points, found none: name one";
        return Err(Failure::at("--transform", problem));
    }
    let listed = inputs::listed("--transform", &args.transforms)?;
    let chain = inputs::of_dimension(Chain::<D>::read(&listed), &listed, D)?;
    let mut points = Points::<D>::read(path)?;
    let moved: rdmm_core::Result<Vec<_>> =
        points.positions().iter().map(|&point| chain.apply(point)).collect();
    let moved = moved?;
    beyond::points(&chain, points.positions(), log)?;
    points.set_positions(moved)?;
    Ok(points.write(&args.out)?)
}

/// The volume that an option chooses of a series, counted from 0; all of them without one.
fn chosen(path: &Path, volume: Volume, at: Option<usize>) -> Done<Volume> {
    let Some(at) = at else { return Ok(volume) };
    if volume.meaning != Meaning::Values || at >= volume.components {
        let found = match volume.meaning {
            Meaning::Values => format!("{at} and {} of them", volume.components),
            meaning => format!("{meaning:?}, which belong together"),
        };
        let problem = format!(
            "expected the number of a volume of {}, from 0 to one less than their number, found {found}",
            path.display()
        );
        return Err(Failure::at("--volume", problem));
    }
    let one = component(&volume, at);
    Ok(Volume { forms: volume.forms, ..one })
}

/// What is carried, onto what, and how.
struct Files<'a> {
    args: &'a ApplyArgs,
    fixed: &'a Path,
    moving: &'a Path,
    /// The fixed image.
    like: &'a Volume,
    log: &'a Log,
}

impl Files<'_> {
    fn carry<const D: usize>(&self, moving: &Volume) -> Done {
        let chain = inputs::chain::<D>("--transform", &self.args.transforms)?;
        let onto = inputs::lattice(&self.like.geometry, &self.args.spacing)?;
        let lattice = onto.lattice::<D>().map_err(|problem| problem.at(self.fixed))?;
        self.expect_fill(moving)?;
        let alone = matches!(moving.meaning, Meaning::Values | Meaning::Vectors);
        if moving.components > 1 && alone && moving.series.is_none() {
            self.log.warn(&format!(
                "{}: each of the {} numbers of a voxel is carried alone: directions, as of vectors and tensors, are not \
                 turned",
                self.moving.display(),
                moving.components
            ));
        }
        let series = moving.series.clone();
        let written = match self.args.interpolation {
            Interpolation::Cubic => self.cubic::<D>(moving, &chain, &onto)?,
            Interpolation::Linear => {
                let source = self.interpolable(moving)?;
                Volume { sample: Sample::F32, ..self.sampled(&source, &onto, &chain, linear)? }
            }
            Interpolation::Labels => self.labels::<D>(moving, &chain, &onto)?,
            Interpolation::Nearest => {
                self.sampled(&without_palette(moving), &onto, &chain, nearest)?
            }
        };
        beyond::voxels(&chain, &lattice, self.log)?;
        let written = Volume { series, ..written }.placed_as(self.like);
        match self.args.interpolation {
            Interpolation::Cubic | Interpolation::Linear => {
                write_volume(&self.args.out, Kind::of(&self.args.out), written, moving)
            }
            Interpolation::Labels | Interpolation::Nearest => {
                Ok(rdmm_io::write(&self.args.out, &written)?)
            }
        }
    }

    /// `Ok` where what is written can hold the value outside.
    fn expect_fill(&self, moving: &Volume) -> Done {
        let fill = self.args.fill;
        let colours = Kind::of(&self.args.out) == Kind::Png
            || matches!(moving.meaning, Meaning::Colours | Meaning::Indexed);
        let (sample, of) = match self.args.interpolation {
            Interpolation::Labels => (Sample::U32, "a label, an integer from 0"),
            Interpolation::Nearest => (moving.sample, "a number of the type of the moving image"),
            _ if colours => (moving.sample, "a colour or grey value of the moving image's type"),
            _ => (Sample::F32, "a number of single precision"),
        };
        if holds(sample, fill) {
            return Ok(());
        }
        let problem = format!("expected {of} ({sample:?}), found {fill}");
        Err(Failure::at("--fill", problem))
    }

    fn sampled<const D: usize>(
        &self,
        source: &Volume,
        onto: &Geometry,
        chain: &Chain<D>,
        value: Reading<D>,
    ) -> Done<Volume> {
        let moved = sampled(source, onto, chain, value, self.args.fill);
        moved.map_err(|problem| problem.at(self.fixed).into())
    }

    /// The list as a field for splines.
    fn map<const D: usize>(&self, chain: &Chain<D>, onto: &Geometry) -> Done<Displacement<f32, D>> {
        let grid: Grid<D> = onto.grid().map_err(|problem| thin(self.fixed, problem))?;
        Ok(chain.displacement(&grid)?)
    }

    fn cubic<const D: usize>(
        &self,
        moving: &Volume,
        chain: &Chain<D>,
        onto: &Geometry,
    ) -> Done<Volume> {
        let source = self.interpolable(moving)?;
        let map = self.map(chain, onto)?;
        #[expect(clippy::cast_possible_truncation, reason = "checked to be of single precision")]
        let fill = self.args.fill as f32;
        let mut values = Vec::new();
        for at in 0..source.components {
            let image = component(&source, at).image::<D>();
            let image = image.map_err(|problem| thin(self.moving, problem))?;
            values.append(&mut Volume::of_image(&read_or(&image, &map, fill)?).values);
        }
        Ok(Volume::new(onto.clone(), source.components, source.meaning, Sample::F32, values))
    }

    fn labels<const D: usize>(
        &self,
        moving: &Volume,
        chain: &Chain<D>,
        onto: &Geometry,
    ) -> Done<Volume> {
        let map = self.map(chain, onto)?;
        let source = without_palette(moving);
        if source.meaning != Meaning::Values {
            let problem = format!("expected labels, found {:?}: take -i nearest", source.meaning);
            return Err(Failure::at(self.moving.display(), problem));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
        let fill = self.args.fill as u32;
        let (mut values, mut sample) = (Vec::new(), Sample::U8);
        for at in 0..source.components {
            let labels = component(&source, at).labels::<D>();
            let labels = labels.map_err(|problem| thin(self.moving, problem))?;
            let mut moved = Volume::of_labels(&carried_or(&labels, &map, fill)?);
            if moved.sample.bytes() > sample.bytes() {
                sample = moved.sample;
            }
            values.append(&mut moved.values);
        }
        Ok(Volume::new(onto.clone(), source.components, Meaning::Values, sample, values))
    }

    /// A volume whose values can be mixed: finite numbers, and the colours of a palette.
    fn interpolable(&self, volume: &Volume) -> Done<Volume> {
        let voxels = volume.values.len() / volume.components.max(1);
        if let Some(at) = volume.values.iter().position(|x| !x.is_finite()) {
            let problem = format!(
                "expected finite numbers, found {} at number {} of the voxels: replace such voxels first, or take -i nearest",
                volume.values[at],
                at % voxels
            );
            return Err(Failure::at(self.moving.display(), problem));
        }
        let mut source = volume.clone();
        if (volume.meaning, volume.components) == (Meaning::Indexed, 4) {
            source.values.truncate(3 * voxels);
            (source.components, source.meaning) = (3, Meaning::Colours);
        }
        Ok(source)
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

/// The numbers as they are stored, the indices of a palette without it.
fn without_palette(volume: &Volume) -> Volume {
    match (volume.meaning, volume.components) {
        (Meaning::Indexed, 4) => component(volume, 3),
        _ => volume.clone(),
    }
}
