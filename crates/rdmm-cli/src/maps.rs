//! Maps as the command line applies them: nothing is known beyond an image.

use nalgebra::SVector;
use rayon::prelude::*;
use rdmm_core::field::{Displacement, Image};
use rdmm_core::grid::Boundary;
use rdmm_core::labels::Labels;
use rdmm_core::maps::PointMap;

use crate::failure::Done;

/// Labels carried by a map. What the map brings from more than half a voxel beyond their grid is background: nothing is
/// known there.
pub(crate) fn carried<const D: usize>(
    labels: &Labels<D>,
    map: &Displacement<f32, D>,
) -> Done<Labels<D>> {
    carried_or(labels, map, 0)
}

/// The same with another label for what is not known.
pub(crate) fn carried_or<const D: usize>(
    labels: &Labels<D>,
    map: &Displacement<f32, D>,
    fill: u32,
) -> Done<Labels<D>> {
    let known = map.leads_onto(labels.grid());
    let moved = map.warp_labels(labels)?;
    let data = moved.data().par_iter().enumerate();
    let data = data.map(|(flat, &label)| if known(flat) { label } else { fill }).collect();
    Ok(Labels::from_vec(map.grid(), data)?)
}

/// `image` read at x + u(x) by cubic splines, and zero beyond it, as in ITK.
pub(crate) fn read<const D: usize>(
    image: &Image<f32, D>,
    map: &Displacement<f32, D>,
) -> Done<Image<f32, D>> {
    read_or(image, map, 0.0)
}

/// The same with another value beyond it.
pub(crate) fn read_or<const D: usize>(
    image: &Image<f32, D>,
    map: &Displacement<f32, D>,
    fill: f32,
) -> Done<Image<f32, D>> {
    Ok(map.warp_filled(image, f64::from(fill))?)
}

/// The map over a grid that is not periodic: with an affine part, maps of periodic images are not, and their differences
/// end at the border.
pub(crate) fn without_seam<const D: usize>(
    map: Displacement<f32, D>,
) -> Done<Displacement<f32, D>> {
    match map.grid().boundary() {
        Boundary::Periodic => {
            let grid = map.grid().clone().with_boundary(Boundary::Reflecting);
            Ok(map.on_grid(&grid)?)
        }
        _ => Ok(map),
    }
}

/// Whether a fractional voxel is on a lattice of this shape, the outer halves of its outermost voxels included, to rounding.
pub(crate) fn inside<const D: usize>(shape: [usize; D], index: [f64; D]) -> bool {
    let reach = 0.5 + 1e-3;
    let within = |(i, n): (&f64, usize)| *i >= -reach && *i <= n as f64 - 1.0 + reach;
    index.iter().zip(shape).all(within)
}

/// How far `inverse` brings points back to where `map` took them from, mm: the mean and the largest distance over the
/// voxels of `map` that land at least two voxels inside the grid of `inverse`. NaN where none does.
pub(crate) fn consistency<const D: usize>(
    map: &Displacement<f32, D>,
    inverse: &Displacement<f32, D>,
) -> Done<[f64; 2]> {
    let (grid, there) = (map.grid(), inverse.grid());
    let (forth, back) = (PointMap::new(map)?, PointMap::new(inverse)?);
    let distances: Vec<Option<f64>> = (0..grid.len())
        .into_par_iter()
        .map(|flat| {
            let x = grid.to_world(grid.unravel(flat).map(|i| i as f64));
            let y = forth.apply(x);
            let inside = |(i, n): (&f64, usize)| *i >= 2.0 && *i <= n as f64 - 3.0;
            there
                .to_index(y)
                .iter()
                .zip(there.shape())
                .all(inside)
                .then(|| distance(back.apply(y), x))
        })
        .collect();
    let inside: Vec<f64> = distances.into_iter().flatten().collect();
    let mean = inside.iter().sum::<f64>() / inside.len() as f64;
    let none = if inside.is_empty() { f64::NAN } else { 0.0 };
    Ok([mean, inside.iter().copied().fold(none, f64::max)])
}

/// The Euclidean distance of two points.
pub(crate) fn distance<const D: usize>(a: [f64; D], b: [f64; D]) -> f64 {
    (SVector::from(a) - SVector::from(b)).norm()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdmm_core::grid::Grid;

    #[test]
    fn beyond_an_image_there_is_nothing() {
        let grid = Grid::new([6, 5], [2.0, 1.0]).unwrap();
        let values = (0..30).map(|i| 10.0 + i as f32).collect();
        let image = Image::<f32, 2>::from_vec(&grid, values).unwrap();
        let labels = Labels::from_vec(&grid, vec![7; 30]).unwrap();
        // Two voxels along the first axis.
        let map = Displacement::from_fn(&grid, |_| [4.0, 0.0]).unwrap();
        let (moved, carried) = (read(&image, &map).unwrap(), carried(&labels, &map).unwrap());
        for flat in 0..30 {
            let (expected, label) = if flat < 20 { (20.0 + flat as f32, 7) } else { (0.0, 0) };
            // Rounding of the spline's coefficients, of values of about forty.
            assert!((moved.data()[flat] - expected).abs() < 1e-4, "{flat}");
            assert_eq!(carried.data()[flat], label);
        }
    }
}
