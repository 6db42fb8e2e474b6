//! Maps at single points and on any grid.

use nalgebra::SVector;
use rayon::prelude::*;
use rdmm_core::field::{Displacement, Image};
use rdmm_core::grid::Grid;
use rdmm_core::labels::Labels;
use rdmm_core::ops::spline::Prefilter;
use rdmm_core::ops::warp::{Warp, warp};

use crate::failure::Done;

/// The map x + u(x) of a displacement, by cubic splines; beyond the border the mirrored displacement counts.
pub(crate) struct Sampler<const D: usize> {
    grid: Grid<D>,
    warp: Warp<f32, D>,
    coefficients: Vec<f32>,
}

impl<const D: usize> Sampler<D> {
    /// The map of `displacement`.
    pub(crate) fn new(displacement: &Displacement<f32, D>) -> Self {
        let grid = displacement.grid().clone();
        let mut coefficients = vec![0.0; displacement.data().len()];
        Prefilter::new(&grid).interleaved::<D>(displacement.data(), &mut coefficients);
        Self { warp: Warp::new(&grid, &grid), grid, coefficients }
    }

    /// Where a point of the world goes.
    pub(crate) fn at(&self, point: [f64; D]) -> [f64; D] {
        let along = self.warp.at_index::<D>(&self.coefficients, self.grid.to_index(point));
        let moved = self.grid.direction() * SVector::from(along.map(f64::from));
        (SVector::from(point) + moved).into()
    }
}

/// Labels carried by a map. What the map brings from more than half a voxel beyond their grid is background: nothing is
/// known there.
pub(crate) fn carried<const D: usize>(
    labels: &Labels<D>,
    map: &Displacement<f32, D>,
) -> Done<Labels<D>> {
    let known = known(labels.grid(), map);
    let moved = labels.warped(map)?;
    let data = moved.data().par_iter().enumerate();
    let data = data.map(|(flat, &label)| if known(flat) { label } else { 0 }).collect();
    Ok(Labels::from_vec(map.grid(), data)?)
}

/// `image` read at x + u(x) by cubic splines, and zero beyond it, as in ITK.
pub(crate) fn read<const D: usize>(
    image: &Image<f32, D>,
    map: &Displacement<f32, D>,
) -> Done<Image<f32, D>> {
    let known = known(image.grid(), map);
    let mut moved = warp(image, map)?;
    moved.data_mut().par_iter_mut().enumerate().for_each(|(flat, value)| {
        if !known(flat) {
            *value = 0.0;
        }
    });
    Ok(moved)
}

/// Whether the map leads from a voxel of its grid onto the grid `from`.
fn known<'a, const D: usize>(
    from: &'a Grid<D>,
    map: &'a Displacement<f32, D>,
) -> impl Fn(usize) -> bool + Sync + 'a {
    let grid = map.grid();
    move |flat| {
        let along = SVector::<f64, D>::from_fn(|a, _| f64::from(map.component(a)[flat]));
        let x = SVector::from(grid.to_world(grid.unravel(flat).map(|i| i as f64)));
        inside(from, from.to_index((x + grid.direction() * along).into()))
    }
}

/// Whether a fractional voxel is on the grid, the outer halves of its outermost voxels included, to rounding.
pub(crate) fn inside<const D: usize>(grid: &Grid<D>, index: [f64; D]) -> bool {
    let reach = 0.5 + 1e-3;
    let within = |(i, n): (&f64, usize)| *i >= -reach && *i <= n as f64 - 1.0 + reach;
    index.iter().zip(grid.shape()).all(within)
}

/// The displacement, over `grid`, of a map of the world.
pub(crate) fn displacement<const D: usize>(
    grid: &Grid<D>,
    map: impl Fn([f64; D]) -> rdmm_core::Result<[f64; D]> + Sync,
) -> Done<Displacement<f32, D>> {
    let axes = grid.direction().transpose();
    let vector = |flat: usize| -> rdmm_core::Result<[f32; D]> {
        let x = grid.to_world(grid.unravel(flat).map(|i| i as f64));
        let along = axes * (SVector::from(map(x)?) - SVector::from(x));
        #[expect(clippy::cast_possible_truncation, reason = "maps are kept in single precision")]
        let single = |a: usize| along[a] as f32;
        Ok(std::array::from_fn(single))
    };
    let vectors: Vec<[f32; D]> =
        (0..grid.len()).into_par_iter().map(vector).collect::<rdmm_core::Result<_>>()?;
    let data = (0..D).flat_map(|a| vectors.iter().map(move |vector| vector[a])).collect();
    Ok(Displacement::from_vec(grid, data)?)
}

/// How far `inverse` brings points back to where `map` took them from, mm: the mean and the largest distance over the
/// voxels of `map` that land at least two voxels inside the grid of `inverse`. NaN where none does.
pub(crate) fn consistency<const D: usize>(
    map: &Displacement<f32, D>,
    inverse: &Displacement<f32, D>,
) -> [f64; 2] {
    let (grid, there) = (map.grid(), inverse.grid());
    let (forth, back) = (Sampler::new(map), Sampler::new(inverse));
    let distances: Vec<Option<f64>> = (0..grid.len())
        .into_par_iter()
        .map(|flat| {
            let x = grid.to_world(grid.unravel(flat).map(|i| i as f64));
            let y = forth.at(x);
            let inside = |(i, n): (&f64, usize)| *i >= 2.0 && *i <= n as f64 - 3.0;
            there.to_index(y).iter().zip(there.shape()).all(inside).then(|| distance(back.at(y), x))
        })
        .collect();
    let inside: Vec<f64> = distances.into_iter().flatten().collect();
    let mean = inside.iter().sum::<f64>() / inside.len() as f64;
    [mean, inside.iter().copied().fold(if inside.is_empty() { f64::NAN } else { 0.0 }, f64::max)]
}

/// The Euclidean distance of two points.
pub(crate) fn distance<const D: usize>(a: [f64; D], b: [f64; D]) -> f64 {
    (SVector::from(a) - SVector::from(b)).norm()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_an_image_there_is_nothing() {
        let grid = Grid::new([6, 5], [2.0, 1.0]).unwrap();
        let values = (0..30).map(|i| 10.0 + i as f32).collect();
        let image = Image::<f32, 2>::from_vec(&grid, values).unwrap();
        let labels = Labels::from_vec(&grid, vec![7; 30]).unwrap();
        // Two voxels along the first axis.
        let map = Displacement::from_fn(&grid, 2, |_, a| [4.0, 0.0][a]).unwrap();
        let (moved, carried) = (read(&image, &map).unwrap(), carried(&labels, &map).unwrap());
        for flat in 0..30 {
            let (expected, label) = if flat < 20 { (20.0 + flat as f32, 7) } else { (0.0, 0) };
            // Rounding of the spline's coefficients, of values of about forty.
            assert!((moved.data()[flat] - expected).abs() < 1e-4, "{flat}");
            assert_eq!(carried.data()[flat], label);
        }
    }
}
