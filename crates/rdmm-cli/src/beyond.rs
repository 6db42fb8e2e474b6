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
    // A lattice of every so many voxels along each axis.
    let mut step = 1;
    while voxels_by(lattice.shape(), step) > SAMPLED {
        step += 1;
    }
    let sparse = lattice.shape().map(|n| n.div_ceil(step));
    let place = |mut flat: usize| {
        let mut index = [0.0; D];
        for a in (0..D).rev() {
            let i = (flat % sparse[a]) * step + step / 2;
            index[a] = i.min(lattice.shape()[a] - 1) as f64;
            flat /= sparse[a];
        }
        lattice.to_world(index)
    };
    let sampled: Vec<[f64; D]> = (0..voxels_by(lattice.shape(), step)).map(place).collect();
    for found in chain.beyond(&sampled)? {
        if found.jump_voxels > 1.0 {
            let share = 100.0 * found.points as f64 / sampled.len() as f64;
            log.warn(&sentence(&format!("about {share:.1} % of the voxels are"), &found, chain));
        }
    }
    Ok(())
}

/// Number of voxels of every so many along each axis.
fn voxels_by<const D: usize>(shape: [usize; D], step: usize) -> usize {
    shape.iter().map(|n| n.div_ceil(step)).product()
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
