//! Where the regulariser and the deformation of a registration lie, against the objects of the images.

use std::error::Error;

use rdmm_core::evaluate::dice_whole;
use rdmm_core::field::{Displacement, Image};
use rdmm_core::labels::Labels;
use rdmm_core::registration::Registered;

type Fallible<T> = Result<T, Box<dyn Error>>;

/// What the registration of a pair with known regions shows.
#[derive(Clone, Copy, Debug)]
pub struct Regional {
    /// Dice of a level set of σ with the region, in the moving image at t = 0 and in the fixed image at t = 1: the
    /// level that has the region's area at t = 0. (G draws other levels into convex regions or out of them.)
    pub level_set: [f64; 2],
    /// Mean |log det| inside the region over that outside.
    pub inside: f64,
    /// Mean local σ at t = 0 within two voxels of the edges of objects, over that elsewhere.
    pub edges: f64,
    /// Mean local σ at t = 0, in largest extents.
    pub sigma: f64,
}

impl Regional {
    /// The figures of a result; regions are those of the fixed and of the moving image, `objects` lie in the
    /// moving image, all on one grid.
    pub fn of<const D: usize>(
        result: &Registered<f32, D>,
        [region, moving_region]: [&Labels<D>; 2],
        objects: &Labels<D>,
    ) -> Fallible<Self> {
        let none = "a model whose metric is a sum of Gaussians";
        let sigma_start = result.sigma_start.as_ref().ok_or(none)?;
        let sigma_end = result.sigma_end.as_ref().ok_or(none)?;
        let level = level(sigma_start, moving_region);
        Ok(Self {
            level_set: [
                dice_whole(&below(sigma_start, level)?, moving_region)?,
                dice_whole(&below(sigma_end, level)?, region)?,
            ],
            inside: inside(&result.map, region)?,
            edges: edges(sigma_start, objects),
            sigma: mean(sigma_start) / objects.grid().largest_extent(),
        })
    }
}

/// Where σ is below a level.
fn below<const D: usize>(sigma: &Image<f32, D>, level: f32) -> Fallible<Labels<D>> {
    let below = sigma.data().iter().map(|&x| u32::from(x < level)).collect();
    Ok(Labels::from_vec(sigma.grid(), below)?)
}

/// The level of σ that has as many voxels below it as the region.
fn level<const D: usize>(sigma: &Image<f32, D>, region: &Labels<D>) -> f32 {
    let mut sorted = sigma.data().to_vec();
    sorted.sort_by(f32::total_cmp);
    let count = region.data().iter().filter(|&&label| label != 0).count();
    sorted.get(count).copied().unwrap_or(f32::INFINITY)
}

fn inside<const D: usize>(map: &Displacement<f32, D>, region: &Labels<D>) -> Fallible<f64> {
    let det = map.jacobian_determinant()?;
    let mean = |within: bool| {
        let voxels = det.data().iter().zip(region.data()).filter(|(_, r)| (**r != 0) == within);
        let (sum, count) = voxels
            .fold((0.0, 0.0), |(s, c), (det, _)| (s + f64::from(det.abs().ln().abs()), c + 1.0));
        sum / count
    };
    Ok(mean(true) / mean(false))
}

fn mean<const D: usize>(image: &Image<f32, D>) -> f64 {
    image.data().iter().map(|&x| f64::from(x)).sum::<f64>() / image.data().len() as f64
}

fn edges<const D: usize>(sigma: &Image<f32, D>, objects: &Labels<D>) -> f64 {
    let grid = objects.grid();
    let (shape, labels) = (grid.shape(), objects.data());
    let mut near: Vec<bool> = (0..labels.len()).map(|_| false).collect();
    // Two rounds: the voxels on either side of an edge, then their neighbours.
    for round in 0..2 {
        let before = near.clone();
        for flat in 0..labels.len() {
            let index = grid.unravel(flat);
            for axis in 0..D {
                if index[axis] + 1 < shape[axis] {
                    let stride: usize = shape[axis + 1..].iter().product();
                    let other = flat + stride;
                    let edge = if round == 0 {
                        labels[flat] != labels[other]
                    } else {
                        before[flat] || before[other]
                    };
                    if edge {
                        (near[flat], near[other]) = (true, true);
                    }
                }
            }
        }
    }
    let mean = |wanted: bool| {
        let voxels = sigma.data().iter().zip(&near).filter(|(_, near)| **near == wanted);
        let (sum, count) = voxels.fold((0.0, 0.0), |(s, c), (&x, _)| (s + f64::from(x), c + 1.0));
        sum / count
    };
    mean(true) / mean(false)
}
