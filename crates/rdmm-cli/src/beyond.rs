//! What is said where points or voxels are beyond the grid of a warp, which moves nothing there.

use rdmm_core::world::Affine;
use rdmm_io::transform::Beyond;
use rdmm_io::{Chain, Lattice};

use crate::failure::Done;
use crate::log::Log;

/// Voxels that stand for all of an image, about as many.
const SAMPLED: usize = 4096;

/// Says how many of these points leave the grid of a warp of the list.
pub(crate) fn points<const D: usize>(chain: &Chain<D>, points: &[[f64; D]], log: &Log) -> Done {
    for found in chain.beyond(points)? {
        let many = format!("{} of {} points are", found.points, points.len());
        log.warn(&sentence(&many, &found, chain));
    }
    Ok(())
}

/// The same of the voxels of an image, where the border of the warp moves more than a voxel: the image is torn there.
pub(crate) fn voxels<const D: usize>(chain: &Chain<D>, lattice: &Lattice<D>, log: &Log) -> Done {
    let step = lattice.len().div_ceil(SAMPLED).max(1);
    let place = |flat: usize| lattice.to_world(lattice.unravel(flat).map(|i| i as f64));
    let sampled: Vec<[f64; D]> = (0..lattice.len()).step_by(step).map(place).collect();
    for found in chain.beyond(&sampled)? {
        if found.jump_voxels > 1.0 {
            let share = 100.0 * found.points as f64 / sampled.len() as f64;
            log.warn(&sentence(&format!("about {share:.1} % of the voxels are"), &found, chain));
        }
    }
    Ok(())
}

fn sentence<const D: usize>(many: &str, found: &Beyond, chain: &Chain<D>) -> String {
    let warp = found.file.as_ref().map_or_else(|| "a warp".to_owned(), |f| f.display().to_string());
    let moved = if chain.affine_part() == Some(Affine::identity()) {
        "they are not moved by it; to carry them as well, list the non-linear and the affine part one by one, as \
         -t nonlinear_warp.nii.gz -t affine.mat of rdmm register"
    } else {
        "only the other transforms of the list move them"
    };
    format!(
        "{many} beyond the grid of {warp}, whose border moves by up to {:.3} mm: {moved}",
        found.jump
    )
}
