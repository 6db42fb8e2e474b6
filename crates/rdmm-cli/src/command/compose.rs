//! `rdmm compose`: a list of transforms as one warp.

use std::path::Path;

use rdmm_io::Volume;

use crate::beyond;
use crate::cli::ComposeArgs;
use crate::failure::{Done, Failure};
use crate::inputs;
use crate::log::Log;

/// Writes the warp.
pub(crate) fn run(args: &ComposeArgs, log: &Log) -> Done {
    let fixed = inputs::volume(&args.fixed, log)?;
    match fixed.dimension() {
        2 => write::<2>(args, &args.fixed, &fixed, log)?,
        3 => write::<3>(args, &args.fixed, &fixed, log)?,
        other => {
            let problem = format!("expected an image of 2 or 3 axes, found {other}");
            return Err(Failure::at(args.fixed.display(), problem));
        }
    }
    log.say(&format!("written: {}", args.out.display()));
    Ok(())
}

fn write<const D: usize>(args: &ComposeArgs, path: &Path, fixed: &Volume, log: &Log) -> Done {
    let chain = inputs::chain::<D>("--transform", &args.transforms)?;
    let onto = inputs::lattice(&fixed.geometry, &args.spacing)?;
    let warp = chain.warp(&onto).map_err(|problem| problem.at(path))?;
    let lattice = onto.lattice::<D>().map_err(|problem| problem.at(path))?;
    beyond::voxels(&chain, &lattice, log)?;
    Ok(rdmm_io::write(&args.out, &warp.placed_as(fixed))?)
}
