//! `rdmm compose`: a list of transforms as one warp.

use std::path::Path;

use rdmm_core::grid::Grid;
use rdmm_io::Volume;
use rdmm_io::transform::write_warp;

use crate::cli::ComposeArgs;
use crate::failure::{Done, Failure};
use crate::inputs;
use crate::log::Log;

/// Writes the warp.
pub(crate) fn run(args: &ComposeArgs, log: &Log) -> Done {
    let fixed = rdmm_io::read(&args.fixed)?;
    match fixed.dimension() {
        2 => write::<2>(args, &args.fixed, &fixed)?,
        3 => write::<3>(args, &args.fixed, &fixed)?,
        other => {
            let problem = format!("expected an image of 2 or 3 axes, found {other}");
            return Err(Failure::at(args.fixed.display(), problem));
        }
    }
    log.say(&format!("written: {}", args.out.display()));
    Ok(())
}

fn write<const D: usize>(args: &ComposeArgs, path: &Path, fixed: &Volume) -> Done {
    let grid: Grid<D> = fixed.geometry.grid().map_err(|problem| problem.at(path))?;
    let chain = inputs::chain::<D>("--transform", &args.transforms)?;
    Ok(write_warp(&args.out, &chain.displacement(&grid)?)?)
}
