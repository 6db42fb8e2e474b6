//! `rdmm invert`: the inverse of a transform.

use rdmm_io::Listed;
use rdmm_io::transform::{Transform, itk, write_warp};

use crate::cli::InvertArgs;
use crate::failure::{Done, Failure};
use crate::inputs::of_dimension;
use crate::log::Log;

/// Writes the inverse.
pub(crate) fn run(args: &InvertArgs, log: &Log) -> Done {
    match args.dimension {
        2 => invert::<2>(args)?,
        _ => invert::<3>(args)?,
    }
    log.say(&format!("written: {}", args.out.display()));
    Ok(())
}

fn invert<const D: usize>(args: &InvertArgs) -> Done {
    let path = &args.transform;
    let listed = [Listed::new(path)];
    let transform = of_dimension(Transform::<D>::read(path), &listed, D)?;
    let inverse = transform.inverse().map_err(|error| Failure::at(path.display(), error))?;
    match inverse {
        Transform::Warp(map) => Ok(write_warp(&args.out, &map)?),
        Transform::Affine(map) if args.out.extension().is_some_and(|e| e == "mat") => {
            Ok(itk::write_mat(&args.out, &map)?)
        }
        Transform::Affine(map) => Ok(itk::write_text(&args.out, &map)?),
    }
}
