//! `rdmm apply`: images, label maps and points through transforms.

use std::path::Path;

use rayon::prelude::*;
use rdmm_core::field::Image;
use rdmm_core::grid::Grid;
use rdmm_core::labels::Labels;
use rdmm_io::Volume;
use rdmm_io::points::Points;
use rdmm_io::transform::Chain;

use crate::cli::{ApplyArgs, Interpolation};
use crate::failure::{Done, Failure};
use crate::files::{Kind, write_image};
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
            let (a, b) = (rdmm_io::read(fixed)?, rdmm_io::read(moving)?);
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
    let grid: Grid<D> = fixed.geometry.grid().map_err(|problem| problem.at(fixed_path))?;
    let chain = inputs::chain::<D>("--transform", &args.transforms)?;
    let kind = Kind::of(&args.out);
    let as_labels = || -> Done<Labels<D>> {
        moving.labels::<D>().map_err(|problem| problem.at(moving_path).into())
    };
    match args.interpolation {
        Interpolation::Cubic => {
            let image: Image<f32, D> = inputs::image(moving_path, moving)?;
            let map = chain.displacement(&grid)?;
            write_image(&args.out, kind, &read(&image, &map)?, moving)
        }
        Interpolation::Linear => {
            let image: Image<f32, D> = inputs::image(moving_path, moving)?;
            write_image(&args.out, kind, &linear(&image, &grid, &chain)?, moving)
        }
        Interpolation::Labels => {
            let moved = carried(&as_labels()?, &chain.displacement(&grid)?)?;
            Ok(rdmm_io::write_labels(&args.out, &moved)?)
        }
        Interpolation::Nearest => {
            Ok(rdmm_io::write_labels(&args.out, &nearest(&as_labels()?, &grid, &chain)?)?)
        }
    }
}

/// Fractional voxels of `from` that the voxels of `grid` are read at; `None` more than half a voxel outside.
fn places<const D: usize>(
    from: &Grid<D>,
    grid: &Grid<D>,
    chain: &Chain<D>,
) -> rdmm_core::Result<Vec<Option<[f64; D]>>> {
    let place = |flat: usize| {
        let x = grid.to_world(grid.unravel(flat).map(|i| i as f64));
        let index = from.to_index(chain.apply(x)?);
        Ok(inside(from, index).then_some(index))
    };
    (0..grid.len()).into_par_iter().map(place).collect()
}

/// The nearest whole voxel along an axis of `n`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the axis")]
fn voxel(index: f64, n: usize) -> usize {
    index.round().clamp(0.0, n as f64 - 1.0) as usize
}

/// Zero outside, as ITK has it.
fn nearest<const D: usize>(
    labels: &Labels<D>,
    grid: &Grid<D>,
    chain: &Chain<D>,
) -> Done<Labels<D>> {
    let (shape, strides) = (labels.grid().shape(), labels.grid().strides());
    let value = |place: &Option<[f64; D]>| {
        place.map_or(0, |index| {
            let flat: usize = (0..D).map(|a| voxel(index[a], shape[a]) * strides[a]).sum();
            labels.data()[flat]
        })
    };
    let data = places(labels.grid(), grid, chain)?.iter().map(value).collect();
    Ok(Labels::from_vec(grid, data)?)
}

/// Linear between the voxels; zero outside, as ITK has it.
fn linear<const D: usize>(
    image: &Image<f32, D>,
    grid: &Grid<D>,
    chain: &Chain<D>,
) -> Done<Image<f32, D>> {
    let (shape, strides) = (image.grid().shape(), image.grid().strides());
    let value = |index: [f64; D]| {
        let corner = |bits: usize| {
            let (mut weight, mut flat) = (1.0, 0);
            for a in 0..D {
                let low = index[a].floor();
                let upper = bits >> a & 1 == 1;
                let share = index[a] - low;
                weight *= if upper { share } else { 1.0 - share };
                flat += voxel(low + f64::from(u8::from(upper)), shape[a]) * strides[a];
            }
            weight * f64::from(image.data()[flat])
        };
        (0..1 << D).map(corner).sum::<f64>()
    };
    let places = places(image.grid(), grid, chain)?;
    #[expect(clippy::cast_possible_truncation, reason = "images are kept in single precision")]
    let data = places.iter().map(|place| place.map_or(0.0, |index| value(index) as f32)).collect();
    Ok(Image::from_vec(grid, data)?)
}
