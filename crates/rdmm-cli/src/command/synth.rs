//! `rdmm synth`: pairs of images with known objects.

use std::path::Path;

use rdmm_core::grid::Grid;
use rdmm_core::synthetic::Shapes;

use crate::cli::SynthArgs;
use crate::failure::{Done, Failure};
use crate::files;
use crate::log::Log;

/// Writes the pair.
pub(crate) fn run(args: &SynthArgs, log: &Log) -> Done {
    let shapes =
        Shapes::default().with_seed(args.seed).with_outside(args.outside).with_change(args.change);
    match args.shape[..] {
        [a, b] => write(&args.out, &shapes, [a, b], &args.spacing)?,
        [a, b, c] => write(&args.out, &shapes, [a, b, c], &args.spacing)?,
        _ => {
            let found = args.shape.len();
            return Err(Failure::at(
                "--shape",
                format!("expected two or three numbers, found {found}"),
            ));
        }
    }
    log.say(&format!("pair: {}", args.out.display()));
    Ok(())
}

/// Writes both images, both label maps, and both regions that deform strongly.
pub(crate) fn write<const D: usize>(
    out: &Path,
    shapes: &Shapes,
    shape: [usize; D],
    spacing: &[f64],
) -> Done {
    let spacing: [f64; D] = if spacing.is_empty() {
        [1.0; D]
    } else {
        let found = spacing.len();
        spacing.try_into().map_err(|_| {
            Failure::at("--spacing", format!("expected a number an axis, {D}, found {found}"))
        })?
    };
    let pair = shapes.pair::<f32, D>(&Grid::new(shape, spacing)?)?;
    files::folder(out)?;
    let path = |name: &str| out.join(name);
    rdmm_io::write_image(path("fixed.nii.gz"), &pair.fixed)?;
    rdmm_io::write_image(path("moving.nii.gz"), &pair.moving)?;
    rdmm_io::write_labels(path("fixed_labels.nii.gz"), &pair.fixed_labels)?;
    rdmm_io::write_labels(path("moving_labels.nii.gz"), &pair.moving_labels)?;
    rdmm_io::write_labels(path("fixed_region.nii.gz"), &pair.fixed_foreground)?;
    rdmm_io::write_labels(path("moving_region.nii.gz"), &pair.foreground)?;
    Ok(())
}
