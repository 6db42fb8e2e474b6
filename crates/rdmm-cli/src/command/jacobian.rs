//! `rdmm jacobian`: determinants and folds of a warp.

use rdmm_core::evaluate::Folds;
use rdmm_io::transform::read_warp;
use serde_json::json;

use crate::cli::JacobianArgs;
use crate::failure::{Done, Failure};
use crate::inputs;
use crate::log::Log;
use crate::print::print;

/// Writes the determinant and prints what is known of it.
pub(crate) fn run(args: &JacobianArgs, log: &Log) -> Done {
    match inputs::volume(&args.warp, log)?.dimension() {
        2 => write::<2>(args, log),
        3 => write::<3>(args, log),
        other => Err(Failure::at(
            args.warp.display(),
            format!("expected a warp of 2 or 3 axes, found {other}"),
        )),
    }
}

fn write<const D: usize>(args: &JacobianArgs, log: &Log) -> Done {
    let map = read_warp::<D>(&args.warp)?;
    let found = Folds::of(&map)?;
    let (folds, cells) = (found.total(), found.cells);
    let mut det = map.jacobian_determinant()?;
    let largest = det.data().iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if args.log {
        if folds.folded > 0 {
            return Err(Failure::Unfinished(format!(
                "{}: the map folds at {} voxels, where the determinant has no logarithm: leave out --log",
                args.warp.display(),
                folds.folded,
            )));
        }
        det.data_mut().iter_mut().for_each(|x| *x = x.ln());
    }
    rdmm_io::write_image(&args.out, &det)?;
    let found = json!({
        "voxels": folds.voxels,
        "folds": folds.folded,
        "min_det": folds.min,
        "max_det": largest,
        "cells": cells.cells,
        "folded_cells": cells.folded,
        "min_cell_det": cells.min,
        "max_cell_det": cells.max,
        "folded_volume": cells.volume,
    });
    print(&found.to_string())?;
    log.say(&format!("written: {}", args.out.display()));
    Ok(())
}
