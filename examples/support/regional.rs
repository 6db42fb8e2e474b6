//! Where the regulariser and the deformation of a registration lie, against the objects of the images.

use std::error::Error;

use rdmm_core::evaluate::dice_whole;
use rdmm_core::field::{Displacement, Image};
use rdmm_core::labels::Labels;
use rdmm_core::ops::jacobian::jacobian_determinant;
use rdmm_core::registration::Registered;

type Fallible<T> = Result<T, Box<dyn Error>>;

/// What the registration of a pair with known regions shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Regional {
    /// Dice of the permissive part of the regulariser at t = 1 with the region of the fixed image.
    pub(crate) level_set: f64,
    /// Mean |log det| inside the region over that outside.
    pub(crate) inside: f64,
    /// Mean local σ at t = 0 within two voxels of the edges of objects, over that elsewhere.
    pub(crate) edges: f64,
    /// Mean local σ at t = 0, in largest extents.
    pub(crate) sigma: f64,
}

impl Regional {
    /// The figures of a result; `region` lies in the fixed image, `objects` in the moving image, on one grid.
    pub(crate) fn of<const D: usize, W>(
        result: &Registered<f32, D, W>,
        region: &Labels<D>,
        objects: &Labels<D>,
    ) -> Fallible<Self> {
        Ok(Self {
            level_set: dice_whole(&permissive(&result.sigma_end)?, region)?,
            inside: inside(&result.map, region)?,
            edges: edges(&result.sigma_start, objects),
            sigma: mean(&result.sigma_start) / objects.grid().largest_extent(),
        })
    }
}

/// Where σ is below its value on the boundary of two regions, where each has half of the weights.
fn permissive<const D: usize>(sigma: &Image<f32, D>) -> Fallible<Labels<D>> {
    let ends = (f32::INFINITY, f32::NEG_INFINITY);
    let (low, high) = sigma.data().iter().fold(ends, |(l, h), &x| (l.min(x), h.max(x)));
    let middle = 0.5 * low.hypot(high);
    let below = sigma.data().iter().map(|&x| u32::from(x < middle)).collect();
    Ok(Labels::from_vec(sigma.grid(), below)?)
}

fn inside<const D: usize>(map: &Displacement<f32, D>, region: &Labels<D>) -> Fallible<f64> {
    let det = jacobian_determinant(map)?;
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
